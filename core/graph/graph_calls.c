/* graph_calls.c - the reading calls of mqbench/graph.h, and the table. A wrong id gets an empty answer, never a crash. */
#include "graph/graph_edit.h"

static const struct mqb_node *node_of(const struct mqb_graph *graph, mqb_node_id node)
{
    return mqb_graph_has_node(graph, node) ? &graph->nodes[node] : NULL;
}

static const struct mqb_value *value_of(const struct mqb_graph *graph, mqb_value_id value)
{
    return mqb_graph_has_value(graph, value) ? &graph->values[value] : NULL;
}

static int32_t num_nodes(const struct mqb_graph *graph)
{
    return graph->num_ordered;
}

static mqb_node_id node_at(const struct mqb_graph *graph, int32_t position)
{
    return position >= 0 && position < graph->num_ordered ? graph->order[position] : MQB_NONE;
}

static const char *node_op(const struct mqb_graph *graph, mqb_node_id node)
{
    const struct mqb_node *n = node_of(graph, node);
    return n ? n->op->name : "";
}

static const char *node_name(const struct mqb_graph *graph, mqb_node_id node)
{
    const struct mqb_node *n = node_of(graph, node);
    return n ? n->name : "";
}

static int32_t num_inputs(const struct mqb_graph *graph, mqb_node_id node)
{
    const struct mqb_node *n = node_of(graph, node);
    return n ? n->num_inputs : 0;
}

static mqb_value_id input(const struct mqb_graph *graph, mqb_node_id node, int32_t index)
{
    const struct mqb_node *n = node_of(graph, node);
    return n && index >= 0 && index < n->num_inputs ? n->inputs[index] : MQB_NONE;
}

static mqb_value_id output(const struct mqb_graph *graph, mqb_node_id node)
{
    const struct mqb_node *n = node_of(graph, node);
    return n ? n->output : MQB_NONE;
}

static const char *value_name(const struct mqb_graph *graph, mqb_value_id value)
{
    const struct mqb_value *v = value_of(graph, value);
    return v ? v->name : "";
}

static int value_kind(const struct mqb_graph *graph, mqb_value_id value)
{
    const struct mqb_value *v = value_of(graph, value);
    return v ? v->kind : MQB_NONE;
}

static int32_t value_shape(const struct mqb_graph *graph, mqb_value_id value, int64_t dims[MQB_MAX_RANK])
{
    const struct mqb_value *v = value_of(graph, value);
    for (int32_t i = 0; v && i < v->rank; i++) {
        dims[i] = v->dims[i];
    }
    return v ? v->rank : 0;
}

static mqb_node_id producer(const struct mqb_graph *graph, mqb_value_id value)
{
    const struct mqb_value *v = value_of(graph, value);
    return v ? v->producer : MQB_NONE;
}

/* The consumer at `index` in topological order, or MQB_NONE; their number goes to `count`. */
static mqb_node_id find_consumer(const struct mqb_graph *graph, mqb_value_id value, int32_t index, int32_t *count)
{
    mqb_node_id found = MQB_NONE;
    *count = 0;
    for (int32_t k = 0; value != MQB_NONE && k < graph->num_ordered; k++) {
        const struct mqb_node *node = &graph->nodes[graph->order[k]];
        for (int32_t i = 0; i < node->num_inputs; i++) {
            if (node->inputs[i] == value) {
                found = *count == index ? graph->order[k] : found;
                (*count)++;
                break;
            }
        }
    }
    return found;
}

static int32_t num_consumers(const struct mqb_graph *graph, mqb_value_id value)
{
    int32_t count;
    find_consumer(graph, value, -1, &count);
    return count;
}

static mqb_node_id consumer(const struct mqb_graph *graph, mqb_value_id value, int32_t index)
{
    int32_t count;
    return find_consumer(graph, value, index, &count);
}

static mqb_value_id graph_input(const struct mqb_graph *graph)
{
    return graph->input;
}

static mqb_value_id graph_output(const struct mqb_graph *graph)
{
    return graph->output;
}

static float *value_data(struct mqb_graph *graph, mqb_value_id value)
{
    return mqb_graph_has_value(graph, value) ? graph->values[value].data : NULL;
}

static int64_t attr_int(const struct mqb_graph *graph, mqb_node_id node, const char *name, int64_t otherwise)
{
    const struct mqb_node *n = node_of(graph, node);
    return n ? mqb_attr_i(n, name, otherwise) : otherwise;
}

static double attr_real(const struct mqb_graph *graph, mqb_node_id node, const char *name, double otherwise)
{
    const struct mqb_node *n = node_of(graph, node);
    return n ? mqb_attr_f(n, name, otherwise) : otherwise;
}

static const char *attr_text(const struct mqb_graph *graph, mqb_node_id node, const char *name, const char *otherwise)
{
    const struct mqb_node *n = node_of(graph, node);
    return n ? mqb_attr_s(n, name, otherwise) : otherwise;
}

const struct mqb_graph_api mqb_graph_calls = {
    .struct_size = sizeof(struct mqb_graph_api),
    .num_nodes = num_nodes,
    .node_at = node_at,
    .node_op = node_op,
    .node_name = node_name,
    .num_inputs = num_inputs,
    .input = input,
    .output = output,
    .value_name = value_name,
    .value_kind = value_kind,
    .value_shape = value_shape,
    .producer = producer,
    .num_consumers = num_consumers,
    .consumer = consumer,
    .graph_input = graph_input,
    .graph_output = graph_output,
    .value_data = value_data,
    .attr_int = attr_int,
    .attr_real = attr_real,
    .attr_text = attr_text,
    .set_attr_int = mqb_node_set_int,
    .set_attr_real = mqb_node_set_real,
    .set_attr_text = mqb_node_set_text,
    .add_node = mqb_graph_add_node,
    .add_value = mqb_graph_add_value,
    .set_input = mqb_graph_set_input,
    .replace_uses = mqb_graph_replace_uses,
    .remove_node = mqb_graph_remove_node,
    .copy_node = mqb_graph_copy_node,
};
