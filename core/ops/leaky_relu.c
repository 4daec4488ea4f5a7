/* leaky_relu.c - LeakyRelu: y = x where x >= 0, alpha x below. */
#include "ops/ops.h"

#include <mqbench/plugin.h>

#include <math.h>

MQB_MULTIVERSION static void leaky_relu_forward(int64_t size, float alpha, const float *x, float *y)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++) {
        float v = alpha * x[i];
        y[i] = x[i] >= 0.0f ? x[i] : v;
    }
}

MQB_MULTIVERSION static void leaky_relu_backward(int64_t size, float alpha, const float *x, const float *dy, float *dx)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++) {
        float d = alpha * dy[i];
        dx[i] = x[i] > 0.0f ? dy[i] : d; /* at 0 that from below, as for Relu */
    }
}

static float leaky_relu_alpha(const struct mqb_node *node)
{
    return (float)mqb_attr_f(node, "alpha", 0.01);
}

static mqb_status leaky_relu_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                   struct mqb_error *error)
{
    float alpha = leaky_relu_alpha(node);
    if (!isfinite(alpha))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute alpha = %g must be finite", (double)alpha);
    return mqb_infer_same(graph, node, output, error);
}

static void leaky_relu_forward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    leaky_relu_forward(block->rows * block->channels, leaky_relu_alpha(context->node), block->in[0], block->out);
}

static void leaky_relu_backward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    if (block->din[0])
        leaky_relu_backward(block->rows * block->channels, leaky_relu_alpha(context->node), block->in[0], block->dout,
                            block->din[0]);
}

const struct mqb_op mqb_op_leaky_relu = {
    .name = "LeakyRelu",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = leaky_relu_infer,
    .forward_block = leaky_relu_forward_block,
    .backward_block = leaky_relu_backward_block,
};
