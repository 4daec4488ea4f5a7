/* graph_edit.c - the editing calls of mqbench/graph.h. Each checks everything first, then changes the graph. */
#include "graph/graph_edit.h"

#include <string.h>

/* ---- names ---- */

static bool name_taken(const struct mqb_graph *graph, const char *name)
{
    for (int32_t i = 0; i < graph->num_nodes; i++) {
        if (!graph->nodes[i].dead && strcmp(graph->nodes[i].name, name) == 0) {
            return true;
        }
    }
    return mqb_graph_find_value(graph, name) != MQB_NONE;
}

/* `name`, or the first of name_1, name_2, ... that neither a node nor a value bears. NULL: no memory. */
static char *name_unique(const struct mqb_graph *graph, const char *name)
{
    char *unique = mqb_strdup(name);
    for (int32_t suffix = 1; unique && name_taken(graph, unique); suffix++) {
        mqb_deallocate(unique);
        unique = mqb_format("%s_%d", name, (int)suffix);
    }
    return unique;
}

/* ---- checks ---- */

static mqb_status check_node(const struct mqb_graph *graph, mqb_node_id node, struct mqb_error *error)
{
    return mqb_graph_has_node(graph, node)
               ? MQB_OK
               : mqb_fail(error, MQB_ERR_ARGUMENT, "node %d does not exist or was removed", (int)node);
}

static mqb_status check_input(const struct mqb_graph *graph, const struct mqb_op *op, int32_t index, mqb_value_id value,
                              struct mqb_error *error)
{
    if (value == MQB_NONE && index >= op->min_inputs) {
        return MQB_OK;
    }
    if (!mqb_graph_has_value(graph, value)) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "input %d of a %s is value %d, which does not exist or was removed",
                        (int)index, op->name, (int)value);
    }
    return MQB_OK;
}

/* ---- calls ---- */

mqb_status mqb_graph_add_node(struct mqb_graph *graph, const char *op_name, const char *name, const mqb_value_id *inputs,
                              int32_t num_inputs, mqb_node_id *node, struct mqb_error *error)
{
    const struct mqb_op *op = mqb_op_find(graph->table, op_name);
    if (!op) {
        return mqb_fail(error, MQB_ERR_NOT_FOUND, "node '%s': there is no operator '%s'", name, op_name);
    }
    if (num_inputs < 0 || num_inputs > op->max_inputs || num_inputs > MQB_MAX_INPUTS) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "node '%s': %s takes %d to %d inputs, not %d", name, op_name,
                        (int)op->min_inputs, (int)op->max_inputs, (int)num_inputs);
    }
    mqb_status status = MQB_OK;
    for (int32_t i = 0; i < num_inputs && status == MQB_OK; i++) {
        status = check_input(graph, op, i, inputs[i], error);
    }
    if (status != MQB_OK) {
        return mqb_fail_prefix(error, status, "node '%s'", name);
    }
    char *unique = name_unique(graph, name);
    if (!unique) {
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for node '%s'", name);
    }
    mqb_node_id id;
    status = mqb_graph_append_node(graph, op, unique, unique, inputs, num_inputs, &id, error);
    mqb_deallocate(unique);
    if (status != MQB_OK) {
        return status;
    }
    status = mqb_graph_sort(graph, error);
    if (status != MQB_OK) {
        graph->nodes[id].dead = true;
        graph->values[graph->nodes[id].output].dead = true;
        return status;
    }
    /* The shape is told early where that is possible; where an attribute is still missing, the next infer tells it. */
    if (num_inputs >= op->min_inputs) {
        mqb_graph_infer_node(graph, id, NULL);
    }
    *node = id;
    return MQB_OK;
}

mqb_status mqb_graph_add_value(struct mqb_graph *graph, int kind, const char *name, int32_t rank, const int64_t *dims,
                               const float *data, mqb_value_id *value, struct mqb_error *error)
{
    if (kind != MQB_VALUE_PARAM && kind != MQB_VALUE_STATE && kind != MQB_VALUE_CONST) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "value '%s': only PARAM, STATE and CONST values can be added, not kind %d",
                        name, kind);
    }
    int64_t count = rank < 0 || rank > MQB_MAX_RANK ? -1 : mqb_dims_count(rank, dims);
    if (count < 0) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "value '%s': it needs 0 to %d dimensions, all positive", name, MQB_MAX_RANK);
    }
    float *copy = mqb_allocate_array((size_t)count, sizeof(float));
    char *unique = name_unique(graph, name);
    if (!copy || !unique) {
        mqb_deallocate(copy);
        mqb_deallocate(unique);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for value '%s' of %lld elements", name, (long long)count);
    }
    if (data) {
        memcpy(copy, data, (size_t)count * sizeof(float));
    }
    mqb_status status = mqb_graph_append_value(graph, kind, unique, rank, dims, copy, value, error);
    mqb_deallocate(unique);
    return status;
}

mqb_status mqb_graph_set_input(struct mqb_graph *graph, mqb_node_id id, int32_t index, mqb_value_id value,
                               struct mqb_error *error)
{
    mqb_status status = check_node(graph, id, error);
    if (status != MQB_OK) {
        return status;
    }
    struct mqb_node *node = &graph->nodes[id];
    if (index < 0 || index > node->num_inputs || index >= node->op->max_inputs || index >= MQB_MAX_INPUTS) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "node '%s' (%s) has %d inputs of at most %d: input %d cannot be set",
                        node->name, node->op->name, (int)node->num_inputs, (int)node->op->max_inputs, (int)index);
    }
    status = check_input(graph, node->op, index, value, error);
    if (status != MQB_OK) {
        return mqb_fail_prefix(error, status, "node '%s'", node->name);
    }
    mqb_value_id old = node->inputs[index];
    int32_t old_num = node->num_inputs;
    node->inputs[index] = value;
    node->num_inputs = index == old_num ? old_num + 1 : old_num;
    status = mqb_graph_infer(graph, error); /* refuses a cycle before it touches anything */
    if (status != MQB_OK) {
        node->inputs[index] = old;
        node->num_inputs = old_num;
        mqb_graph_infer(graph, NULL);
    }
    return status;
}

static bool node_reads(const struct mqb_node *node, mqb_value_id value)
{
    for (int32_t i = 0; i < node->num_inputs; i++) {
        if (node->inputs[i] == value) {
            return true;
        }
    }
    return false;
}

static mqb_status check_same_shape(const struct mqb_value *from, const struct mqb_value *to, struct mqb_error *error)
{
    bool known = (from->kind != MQB_VALUE_RESULT || from->rank > 0) && (to->kind != MQB_VALUE_RESULT || to->rank > 0);
    bool same = from->rank == to->rank && from->batched == to->batched;
    for (int32_t i = 0; same && i < from->rank; i++) {
        same = from->dims[i] == to->dims[i];
    }
    return !known || same ? MQB_OK
                          : mqb_fail(error, MQB_ERR_ARGUMENT, "'%s' cannot take the place of '%s': their shapes differ",
                                     to->name, from->name);
}

mqb_status mqb_graph_replace_uses(struct mqb_graph *graph, mqb_value_id from, mqb_value_id to, mqb_node_id but,
                                  struct mqb_error *error)
{
    if (!mqb_graph_has_value(graph, from) || !mqb_graph_has_value(graph, to)) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "value %d or value %d does not exist or was removed", (int)from, (int)to);
    }
    if (but != MQB_NONE) {
        mqb_status status = check_node(graph, but, error);
        if (status != MQB_OK) {
            return status;
        }
    }
    const struct mqb_value *a = &graph->values[from], *b = &graph->values[to];
    if (from == graph->output && b->kind != MQB_VALUE_RESULT) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "the graph's output '%s' cannot be replaced by '%s', which no node computes",
                        a->name, b->name);
    }
    mqb_status status = check_same_shape(a, b, error);
    if (status != MQB_OK || from == to) {
        return status;
    }
    bool *sources = mqb_allocate_array((size_t)graph->num_nodes, sizeof(bool));
    if (graph->num_nodes && !sources) {
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory to walk a graph of %d nodes", (int)graph->num_nodes);
    }
    status = mqb_graph_mark_sources(graph, to, sources, error);
    for (int32_t k = 0; status == MQB_OK && k < graph->num_ordered; k++) {
        int32_t id = graph->order[k];
        if (id != but && sources[id] && node_reads(&graph->nodes[id], from)) {
            status = mqb_fail(error, MQB_ERR_ARGUMENT,
                              "replacing '%s' by '%s' would close a cycle: '%s' is computed from node '%s', which reads '%s'",
                              a->name, b->name, b->name, graph->nodes[id].name, a->name);
        }
    }
    mqb_deallocate(sources);
    if (status != MQB_OK) {
        return status;
    }
    for (int32_t k = 0; k < graph->num_ordered; k++) {
        struct mqb_node *node = &graph->nodes[graph->order[k]];
        for (int32_t i = 0; graph->order[k] != but && i < node->num_inputs; i++) {
            if (node->inputs[i] == from) {
                node->inputs[i] = to;
            }
        }
    }
    if (graph->output == from) {
        graph->output = to;
    }
    return mqb_graph_sort(graph, error);
}

mqb_status mqb_graph_copy_node(struct mqb_graph *graph, mqb_node_id id, const char *op_name, const char *name, mqb_node_id *copy,
                               struct mqb_error *error)
{
    mqb_status status = check_node(graph, id, error);
    if (status != MQB_OK) {
        return status;
    }
    mqb_value_id inputs[MQB_MAX_INPUTS];
    memcpy(inputs, graph->nodes[id].inputs, sizeof(inputs));
    mqb_node_id added;
    status = mqb_graph_add_node(graph, op_name, name, inputs, graph->nodes[id].num_inputs, &added, error);
    if (status != MQB_OK) {
        return status;
    }
    status = mqb_node_copy_attrs(&graph->nodes[added], &graph->nodes[id], error);
    if (status == MQB_OK) {
        status = mqb_graph_infer_node(graph, added, error);
    }
    if (status != MQB_OK) {
        mqb_node_clear_attrs(&graph->nodes[added]);
        mqb_graph_remove_node(graph, added, NULL);
        return status;
    }
    *copy = added;
    return MQB_OK;
}

mqb_status mqb_graph_remove_node(struct mqb_graph *graph, mqb_node_id id, struct mqb_error *error)
{
    mqb_status status = check_node(graph, id, error);
    if (status != MQB_OK) {
        return status;
    }
    struct mqb_node *node = &graph->nodes[id];
    if (graph->output == node->output) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "node '%s' (%s) computes the graph's output and cannot be removed", node->name,
                        node->op->name);
    }
    for (int32_t k = 0; k < graph->num_ordered; k++) {
        const struct mqb_node *reader = &graph->nodes[graph->order[k]];
        if (node_reads(reader, node->output)) {
            return mqb_fail(error, MQB_ERR_ARGUMENT,
                            "node '%s' (%s) cannot be removed: node '%s' reads its result; replace its uses first", node->name,
                            node->op->name, reader->name);
        }
    }
    int32_t kept = 0;
    for (int32_t k = 0; k < graph->num_ordered; k++) {
        if (graph->order[k] != id) {
            graph->order[kept++] = graph->order[k];
        }
    }
    graph->num_ordered = kept;
    node->dead = true;
    graph->values[node->output].dead = true;
    return MQB_OK;
}
