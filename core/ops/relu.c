/* relu.c - Relu: y = max(x, 0). Not-a-number passes, so that a diverged network shows. */
#include "ops/ops.h"

#include <mqbench/plugin.h>

MQB_MULTIVERSION static void relu_forward(int64_t size, const float *x, float *y)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++)
        y[i] = x[i] <= 0.0f ? 0.0f : x[i];
}

MQB_MULTIVERSION static void relu_backward(int64_t size, const float *x, const float *dy, float *dx)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++)
        dx[i] = x[i] <= 0.0f ? 0.0f : dy[i];
}

static void relu_forward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    (void)context;
    relu_forward(block->rows * block->channels, block->in[0], block->out);
}

static void relu_backward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    (void)context;
    if (block->din[0])
        relu_backward(block->rows * block->channels, block->in[0], block->dout, block->din[0]);
}

const struct mqb_op mqb_op_relu = {
    .name = "Relu",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = mqb_infer_same,
    .forward_block = relu_forward_block,
    .backward_block = relu_backward_block,
};
