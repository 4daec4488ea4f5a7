/* graph_order.c - topological order, and shape inference along it. */
#include "graph/internal.h"

#include <string.h>

/* One step of a depth-first walk that keeps its own stack: a node and the next of its inputs to follow. */
struct step {
    mqb_node_id node;
    int32_t next_input;
};

mqb_status mqb_graph_sort(struct mqb_graph *graph, struct mqb_error *error)
{
    enum { FRESH, OPEN, DONE };
    mqb_status status = MQB_OK;
    int32_t num_ordered = 0;
    size_t n = (size_t)graph->num_nodes;
    uint8_t *mark = mqb_allocate_array(n, sizeof(*mark));
    int32_t *order = mqb_allocate_array(n, sizeof(*order));
    struct step *stack = mqb_allocate_array(n, sizeof(*stack));
    if (n && (!mark || !order || !stack)) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory to sort a graph of %d nodes", (int)graph->num_nodes);
        goto out;
    }
    for (int32_t root = 0; root < graph->num_nodes; root++) {
        if (mark[root] != FRESH || graph->nodes[root].dead) {
            continue;
        }
        int32_t depth = 0;
        stack[depth++] = (struct step){root, 0};
        mark[root] = OPEN;
        while (depth > 0) {
            struct step *top = &stack[depth - 1];
            const struct mqb_node *node = &graph->nodes[top->node];
            if (top->next_input == node->num_inputs) {
                mark[top->node] = DONE;
                order[num_ordered++] = top->node;
                depth--;
                continue;
            }
            mqb_value_id input = node->inputs[top->next_input++];
            mqb_node_id producer = input == MQB_NONE ? MQB_NONE : graph->values[input].producer;
            if (producer == MQB_NONE || mark[producer] == DONE) {
                continue;
            }
            if (mark[producer] == OPEN) {
                status = mqb_fail(error, MQB_ERR_ARGUMENT,
                                  "node '%s' (%s) would read its own result through '%s': a graph has no cycles",
                                  graph->nodes[producer].name, graph->nodes[producer].op->name, node->name);
                goto out;
            }
            mark[producer] = OPEN;
            stack[depth++] = (struct step){producer, 0};
        }
    }
    mqb_deallocate(graph->order);
    graph->order = order;
    graph->num_ordered = num_ordered;
    order = NULL;
out:
    mqb_deallocate(mark);
    mqb_deallocate(order);
    mqb_deallocate(stack);
    return status;
}

mqb_status mqb_graph_mark_sources(const struct mqb_graph *graph, mqb_value_id value, bool *uses, struct mqb_error *error)
{
    mqb_node_id first = graph->values[value].producer;
    if (first == MQB_NONE) {
        return MQB_OK;
    }
    int32_t *stack = mqb_allocate_array((size_t)graph->num_nodes, sizeof(*stack));
    if (!stack) {
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory to walk a graph of %d nodes", (int)graph->num_nodes);
    }
    int32_t depth = 0;
    stack[depth++] = first;
    uses[first] = true;
    while (depth > 0) {
        const struct mqb_node *node = &graph->nodes[stack[--depth]];
        for (int32_t i = 0; i < node->num_inputs; i++) {
            mqb_node_id producer = node->inputs[i] == MQB_NONE ? MQB_NONE : graph->values[node->inputs[i]].producer;
            if (producer != MQB_NONE && !uses[producer]) {
                uses[producer] = true;
                stack[depth++] = producer;
            }
        }
    }
    mqb_deallocate(stack);
    return MQB_OK;
}

/* The inputs are there and as many as the operator takes. */
static mqb_status node_check_inputs(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_error *error)
{
    if (node->num_inputs < node->op->min_inputs || node->num_inputs > node->op->max_inputs) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "has %d inputs, but %s takes %d to %d", (int)node->num_inputs, node->op->name,
                        (int)node->op->min_inputs, (int)node->op->max_inputs);
    }
    for (int32_t i = 0; i < node->num_inputs; i++) {
        mqb_value_id input = node->inputs[i];
        if (input == MQB_NONE && i >= node->op->min_inputs) {
            continue;
        }
        if (!mqb_graph_has_value(graph, input)) {
            return mqb_fail(error, MQB_ERR_ARGUMENT, "input %d is missing", (int)i);
        }
        if (graph->values[input].kind == MQB_VALUE_RESULT && graph->values[input].rank == 0) {
            return mqb_fail(error, MQB_ERR_ARGUMENT, "the shape of its input '%s' is not known", graph->values[input].name);
        }
    }
    return MQB_OK;
}

mqb_status mqb_graph_infer_node(struct mqb_graph *graph, mqb_node_id id, struct mqb_error *error)
{
    const struct mqb_node *node = &graph->nodes[id];
    mqb_status status = node_check_inputs(graph, node, error);
    if (status != MQB_OK) {
        return status;
    }
    struct mqb_value shape = graph->values[node->output];
    shape.rank = 0;
    memset(shape.dims, 0, sizeof(shape.dims));
    shape.batched = false;
    status = node->op->infer(graph, node, &shape, error);
    if (status != MQB_OK) {
        return status;
    }
    if (shape.rank < 1 || shape.rank > MQB_MAX_RANK) {
        return mqb_fail(error, MQB_ERR_INTERNAL, "its shape has %d dimensions; 1 to %d are allowed", (int)shape.rank,
                        MQB_MAX_RANK);
    }
    int32_t skip = shape.batched && shape.dims[0] == MQB_BATCH ? 1 : 0;
    if (mqb_dims_count(shape.rank - skip, shape.dims + skip) < 0) {
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "its result would be empty or have more than %lld elements; check kernel sizes, pads and slices",
                        (long long)MQB_MAX_ELEMENTS);
    }
    struct mqb_value *output = &graph->values[node->output];
    output->rank = shape.rank;
    memcpy(output->dims, shape.dims, sizeof(output->dims));
    output->batched = shape.batched;
    return MQB_OK;
}

mqb_status mqb_graph_infer(struct mqb_graph *graph, struct mqb_error *error)
{
    mqb_status status = mqb_graph_sort(graph, error);
    for (int32_t k = 0; status == MQB_OK && k < graph->num_ordered; k++) {
        const struct mqb_node *node = &graph->nodes[graph->order[k]];
        status = mqb_graph_infer_node(graph, graph->order[k], error);
        if (status != MQB_OK) {
            mqb_fail_prefix(error, status, "node '%s' (%s)", node->name, node->op->name);
        }
    }
    return status;
}
