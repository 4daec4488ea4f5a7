/* fake_ops.h - a small table of operators, so that the graph is tested without the operators' room. */
#ifndef FAKE_OPS_H
#define FAKE_OPS_H

#include "graph/graph.h"
#include "graph/op.h"

#include <string.h>

static inline mqb_status same_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                    struct mqb_error *error)
{
    (void)error;
    const struct mqb_value *x = &graph->values[node->inputs[0]];
    output->rank = x->rank;
    output->batched = x->batched;
    memcpy(output->dims, x->dims, sizeof(output->dims));
    return MQB_OK;
}

static inline mqb_status add_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                   struct mqb_error *error)
{
    const struct mqb_value *a = &graph->values[node->inputs[0]], *b = &graph->values[node->inputs[1]];
    if (a->rank != b->rank || memcmp(a->dims, b->dims, (size_t)a->rank * sizeof(a->dims[0])) != 0) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "shapes of '%s' and '%s' differ", a->name, b->name);
    }
    return same_infer(graph, node, output, error);
}

/* y = x W^T: [N][in], [out][in], with an attribute it cannot do without. */
static inline mqb_status gemm_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                    struct mqb_error *error)
{
    const struct mqb_value *x = &graph->values[node->inputs[0]], *w = &graph->values[node->inputs[1]];
    if (x->rank != 2 || w->rank != 2 || x->dims[1] != w->dims[1]) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "weight '%s' does not fit '%s'", w->name, x->name);
    }
    output->rank = 2;
    output->batched = x->batched;
    output->dims[0] = x->dims[0];
    output->dims[1] = w->dims[0];
    return MQB_OK;
}

static inline mqb_status tuned_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                     struct mqb_error *error)
{
    if (mqb_attr_i(node, "knob", 0) != 7) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute 'knob' must be 7");
    }
    return same_infer(graph, node, output, error);
}

static const struct mqb_op fake_relu = {.name = "Relu", .min_inputs = 1, .max_inputs = 1, .infer = same_infer};
static const struct mqb_op fake_point = {.name = "FakeQuantize", .min_inputs = 1, .max_inputs = 1, .infer = same_infer};
static const struct mqb_op fake_add = {.name = "Add", .min_inputs = 2, .max_inputs = 2, .infer = add_infer};
static const struct mqb_op fake_gemm = {.name = "Gemm", .min_inputs = 2, .max_inputs = 3, .infer = gemm_infer};
static const struct mqb_op fake_tuned = {.name = "Tuned", .min_inputs = 1, .max_inputs = 1, .infer = tuned_infer};
static const struct mqb_op *const fake_list[] = {&fake_relu, &fake_point, &fake_add, &fake_gemm, &fake_tuned, NULL};
static const struct mqb_op_table fake_ops = {fake_list};

#endif
