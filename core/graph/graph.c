/* graph.c - the life of a graph: creation, growth, copies, clean-up. */
#include "graph/internal.h"

#include <float.h>
#include <math.h>
#include <string.h>

mqb_status mqb_graph_create(const struct mqb_op_table *table, struct mqb_graph **graph, struct mqb_error *error)
{
    *graph = NULL;
    struct mqb_graph *g = mqb_allocate(sizeof(*g));
    if (!g) {
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a graph");
    }
    g->table = table;
    g->input = MQB_NONE;
    g->output = MQB_NONE;
    *graph = g;
    return MQB_OK;
}

void mqb_graph_destroy(struct mqb_graph *graph)
{
    if (!graph) {
        return;
    }
    for (int32_t i = 0; i < graph->num_nodes; i++) {
        mqb_deallocate(graph->nodes[i].name);
        mqb_node_clear_attrs(&graph->nodes[i]);
    }
    for (int32_t i = 0; i < graph->num_values; i++) {
        mqb_deallocate(graph->values[i].name);
        mqb_deallocate(graph->values[i].data);
    }
    mqb_deallocate(graph->nodes);
    mqb_deallocate(graph->values);
    mqb_deallocate(graph->order);
    mqb_deallocate(graph->name);
    mqb_deallocate(graph->normalize);
    mqb_deallocate(graph);
}

/* ---- growth ---- */

/* Room for one more; capacities double. */
static mqb_status array_grow(void **array, int32_t num, int32_t *capacity, size_t size, struct mqb_error *error)
{
    if (num < *capacity) {
        return MQB_OK;
    }
    if (num >= INT32_MAX / 2) {
        return mqb_fail(error, MQB_ERR_MEMORY, "a graph of %d elements cannot grow further", (int)num);
    }
    int32_t wanted = num < 16 ? 32 : 2 * num;
    void *grown = mqb_allocate_array((size_t)wanted, size);
    if (!grown) {
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a graph of %d elements", (int)wanted);
    }
    if (num > 0) {
        memcpy(grown, *array, (size_t)num * size);
    }
    mqb_deallocate(*array);
    *array = grown;
    *capacity = wanted;
    return MQB_OK;
}

mqb_status mqb_graph_append_value(struct mqb_graph *graph, int kind, const char *name, int32_t rank, const int64_t *dims,
                                  float *data, mqb_value_id *value, struct mqb_error *error)
{
    char *copy = mqb_strdup(name);
    mqb_status status = copy ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for value '%s'", name);
    if (status == MQB_OK) {
        status = array_grow((void **)&graph->values, graph->num_values, &graph->values_capacity, sizeof(*graph->values), error);
    }
    if (status != MQB_OK) {
        mqb_deallocate(copy);
        mqb_deallocate(data);
        return status;
    }
    struct mqb_value *v = &graph->values[graph->num_values];
    memset(v, 0, sizeof(*v));
    v->name = copy;
    v->kind = kind;
    v->producer = MQB_NONE;
    v->rank = rank;
    for (int32_t i = 0; i < rank; i++) {
        v->dims[i] = dims[i];
    }
    v->batched = kind == MQB_VALUE_INPUT;
    v->data = data;
    *value = graph->num_values++;
    return MQB_OK;
}

mqb_status mqb_graph_append_node(struct mqb_graph *graph, const struct mqb_op *op, const char *name, const char *value_name,
                                 const mqb_value_id *inputs, int32_t num_inputs, mqb_node_id *node, struct mqb_error *error)
{
    mqb_value_id output;
    char *copy = mqb_strdup(name);
    mqb_status status = copy ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for node '%s'", name);
    if (status == MQB_OK) {
        status = array_grow((void **)&graph->nodes, graph->num_nodes, &graph->nodes_capacity, sizeof(*graph->nodes), error);
    }
    if (status == MQB_OK) {
        status = mqb_graph_append_value(graph, MQB_VALUE_RESULT, value_name, 0, NULL, NULL, &output, error);
    }
    if (status != MQB_OK) {
        mqb_deallocate(copy);
        return status;
    }
    struct mqb_node *n = &graph->nodes[graph->num_nodes];
    memset(n, 0, sizeof(*n));
    n->name = copy;
    n->op = op;
    n->num_inputs = num_inputs;
    for (int32_t i = 0; i < MQB_MAX_INPUTS; i++) {
        n->inputs[i] = i < num_inputs ? inputs[i] : MQB_NONE;
    }
    n->output = output;
    graph->values[output].producer = graph->num_nodes;
    *node = graph->num_nodes++;
    return MQB_OK;
}

mqb_status mqb_graph_rename_value(struct mqb_graph *graph, mqb_value_id value, const char *name, struct mqb_error *error)
{
    char *copy = mqb_strdup(name);
    if (!copy) {
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for value '%s'", name);
    }
    mqb_deallocate(graph->values[value].name);
    graph->values[value].name = copy;
    return MQB_OK;
}

/* ---- copies ---- */

static mqb_status text_copy(char **target, const char *source, struct mqb_error *error)
{
    *target = source ? mqb_strdup(source) : NULL;
    return source && !*target ? mqb_fail(error, MQB_ERR_MEMORY, "no memory for a copy of the graph") : MQB_OK;
}

static mqb_status value_copy(struct mqb_value *target, const struct mqb_value *source, struct mqb_error *error)
{
    *target = *source;
    target->data = NULL;
    mqb_status status = text_copy(&target->name, source->name, error);
    if (status == MQB_OK && source->data) {
        size_t size = (size_t)mqb_value_size(source) * sizeof(float);
        target->data = mqb_allocate(size);
        if (!target->data) {
            return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a copy of tensor '%s'", source->name);
        }
        memcpy(target->data, source->data, size);
    }
    return status;
}

static mqb_status node_copy(struct mqb_node *target, const struct mqb_node *source, struct mqb_error *error)
{
    *target = *source;
    target->attrs = NULL;
    target->num_attrs = 0;
    target->point = NULL;
    mqb_status status = text_copy(&target->name, source->name, error);
    return status == MQB_OK ? mqb_node_copy_attrs(target, source, error) : status;
}

mqb_status mqb_graph_clone(const struct mqb_graph *graph, struct mqb_graph **clone, struct mqb_error *error)
{
    struct mqb_graph *g;
    *clone = NULL;
    mqb_status status = mqb_graph_create(graph->table, &g, error);
    if (status != MQB_OK) {
        return status;
    }
    g->input = graph->input;
    g->output = graph->output;
    g->values = mqb_allocate_array((size_t)graph->num_values, sizeof(*g->values));
    g->nodes = mqb_allocate_array((size_t)graph->num_nodes, sizeof(*g->nodes));
    g->order = mqb_allocate_array((size_t)graph->num_ordered, sizeof(*g->order));
    if ((graph->num_values && !g->values) || (graph->num_nodes && !g->nodes) || (graph->num_ordered && !g->order)) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for a copy of a graph of %d nodes", (int)graph->num_nodes);
        goto out;
    }
    g->values_capacity = graph->num_values;
    g->nodes_capacity = graph->num_nodes;
    g->num_ordered = graph->num_ordered;
    if (graph->num_ordered) {
        memcpy(g->order, graph->order, (size_t)graph->num_ordered * sizeof(*g->order));
    }
    for (int32_t i = 0; i < graph->num_values && status == MQB_OK; i++) {
        status = value_copy(&g->values[i], &graph->values[i], error);
        g->num_values = i + 1;
    }
    for (int32_t i = 0; i < graph->num_nodes && status == MQB_OK; i++) {
        status = node_copy(&g->nodes[i], &graph->nodes[i], error);
        g->num_nodes = i + 1;
    }
    if (status == MQB_OK) {
        status = text_copy(&g->name, graph->name, error);
    }
    if (status == MQB_OK) {
        status = text_copy(&g->normalize, graph->normalize, error);
    }
out:
    if (status != MQB_OK) {
        mqb_graph_destroy(g);
        return status;
    }
    *clone = g;
    return MQB_OK;
}

/* ---- looking ---- */

bool mqb_graph_has_node(const struct mqb_graph *graph, mqb_node_id node)
{
    return node >= 0 && node < graph->num_nodes && !graph->nodes[node].dead;
}

bool mqb_graph_has_value(const struct mqb_graph *graph, mqb_value_id value)
{
    return value >= 0 && value < graph->num_values && !graph->values[value].dead;
}

mqb_value_id mqb_graph_find_value(const struct mqb_graph *graph, const char *name)
{
    for (int32_t i = 0; i < graph->num_values; i++) {
        if (!graph->values[i].dead && strcmp(graph->values[i].name, name) == 0) {
            return i;
        }
    }
    return MQB_NONE;
}

int64_t mqb_dims_count(int32_t rank, const int64_t *dims)
{
    int64_t count = 1;
    for (int32_t i = 0; i < rank; i++) {
        if (dims[i] < 1 || dims[i] > MQB_MAX_ELEMENTS / count) {
            return -1;
        }
        count *= dims[i];
    }
    return count;
}

int64_t mqb_value_size(const struct mqb_value *value)
{
    int64_t size = 1;
    for (int32_t i = value->batched && value->rank > 0 && value->dims[0] == MQB_BATCH ? 1 : 0; i < value->rank; i++) {
        size *= value->dims[i];
    }
    return size;
}

const struct mqb_op *mqb_op_find(const struct mqb_op_table *table, const char *name)
{
    for (int32_t i = 0; table && table->ops && table->ops[i]; i++) {
        if (strcmp(table->ops[i]->name, name) == 0) {
            return table->ops[i];
        }
    }
    return NULL;
}

/* ---- clean-up and checks ---- */

static void value_drop(struct mqb_value *value)
{
    value->dead = true;
    mqb_deallocate(value->data);
    value->data = NULL;
}

void mqb_graph_sweep(struct mqb_graph *graph)
{
    bool *node_used = mqb_allocate_array((size_t)graph->num_nodes, sizeof(bool));
    bool *value_used = mqb_allocate_array((size_t)graph->num_values, sizeof(bool));
    /* Without an output nothing is known to be dead; without memory the clean-up may as well be skipped. */
    if (graph->output == MQB_NONE || (graph->num_nodes && !node_used) || (graph->num_values && !value_used) ||
        mqb_graph_mark_sources(graph, graph->output, node_used, NULL) != MQB_OK) {
        goto out;
    }
    value_used[graph->output] = true;
    if (graph->input != MQB_NONE) {
        value_used[graph->input] = true;
    }
    int32_t kept = 0;
    for (int32_t k = 0; k < graph->num_ordered; k++) {
        int32_t id = graph->order[k];
        struct mqb_node *node = &graph->nodes[id];
        if (!node_used[id]) {
            node->dead = true;
            continue;
        }
        graph->order[kept++] = id;
        value_used[node->output] = true;
        for (int32_t i = 0; i < node->num_inputs; i++) {
            if (node->inputs[i] != MQB_NONE) {
                value_used[node->inputs[i]] = true;
            }
        }
    }
    graph->num_ordered = kept;
    for (int32_t i = 0; i < graph->num_values; i++) {
        if (!value_used[i] && !graph->values[i].dead) {
            value_drop(&graph->values[i]);
        }
    }
out:
    mqb_deallocate(node_used);
    mqb_deallocate(value_used);
}

#define FINITE_BLOCK 256

/* The first of n numbers that is not finite, or n. Blocks without one are passed over in vectors. */
static int64_t first_not_finite(const float *x, int64_t n)
{
    int64_t k = 0;
    for (; k + FINITE_BLOCK <= n; k += FINITE_BLOCK) {
        int32_t bad = 0;
        for (int i = 0; i < FINITE_BLOCK; i++) {
            bad |= fabsf(x[k + i]) <= FLT_MAX ? 0 : 1;
        }
        if (bad) {
            break;
        }
    }
    while (k < n && isfinite(x[k])) {
        k++;
    }
    return k;
}

mqb_status mqb_graph_check_finite(const struct mqb_graph *graph, struct mqb_error *error)
{
    for (int32_t i = 0; i < graph->num_values; i++) {
        const struct mqb_value *value = &graph->values[i];
        if (value->dead || !value->data) {
            continue;
        }
        int64_t size = mqb_value_size(value), k = first_not_finite(value->data, size);
        if (k < size) {
            char where[32 * MQB_MAX_RANK] = "";
            int64_t rest = k;
            for (int32_t axis = value->rank - 1; axis >= 0; axis--) {
                char tail[sizeof(where)];
                memcpy(tail, where, sizeof(tail));
                snprintf(where, sizeof(where), "[%lld]%.150s", (long long)(rest % value->dims[axis]), tail);
                rest /= value->dims[axis];
            }
            return mqb_fail(
                error, MQB_ERR_NUMERIC,
                "tensor '%s' is %s at element %lld (%s%s); every weight must be a finite number: export the network again "
                "from a checkpoint that did not diverge",
                value->name, isnan(value->data[k]) ? "NaN" : "infinite", (long long)k, value->name, where);
        }
    }
    return MQB_OK;
}
