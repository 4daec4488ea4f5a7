/* hard_sigmoid.c - HardSigmoid: y = min(max(alpha x + beta, 0), 1). */
#include "ops/ops.h"

#include <mqbench/plugin.h>

#include <math.h>

MQB_MULTIVERSION static void hard_sigmoid_forward(int64_t size, float alpha, float beta, const float *x, float *y)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++) {
        float v = alpha * x[i] + beta;
        v = v <= 0.0f ? 0.0f : v;
        y[i] = v >= 1.0f ? 1.0f : v;
    }
}

MQB_MULTIVERSION static void hard_sigmoid_backward(int64_t size, float alpha, float beta, const float *x, const float *dy,
                                                   float *dx)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++) {
        float v = alpha * x[i] + beta;
        float d = v <= 0.0f ? 0.0f : alpha * dy[i];
        dx[i] = v >= 1.0f ? 0.0f : d;
    }
}

static float hard_sigmoid_alpha(const struct mqb_node *node)
{
    return (float)mqb_attr_f(node, "alpha", 0.2);
}

static float hard_sigmoid_beta(const struct mqb_node *node)
{
    return (float)mqb_attr_f(node, "beta", 0.5);
}

static mqb_status hard_sigmoid_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                     struct mqb_error *error)
{
    float alpha = hard_sigmoid_alpha(node), beta = hard_sigmoid_beta(node);
    if (!isfinite(alpha) || !isfinite(beta))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attributes alpha = %g and beta = %g must be finite", (double)alpha,
                        (double)beta);
    return mqb_infer_same(graph, node, output, error);
}

static void hard_sigmoid_forward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    hard_sigmoid_forward(block->rows * block->channels, hard_sigmoid_alpha(context->node), hard_sigmoid_beta(context->node),
                         block->in[0], block->out);
}

static void hard_sigmoid_backward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    if (block->din[0])
        hard_sigmoid_backward(block->rows * block->channels, hard_sigmoid_alpha(context->node),
                              hard_sigmoid_beta(context->node), block->in[0], block->dout, block->din[0]);
}

const struct mqb_op mqb_op_hard_sigmoid = {
    .name = "HardSigmoid",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = hard_sigmoid_infer,
    .forward_block = hard_sigmoid_forward_block,
    .backward_block = hard_sigmoid_backward_block,
};
