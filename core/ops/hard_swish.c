/* hard_swish.c - HardSwish: y = x min(max(x + 3, 0), 6) / 6. */
#include "ops/ops.h"

#include <mqbench/plugin.h>

MQB_MULTIVERSION static void hard_swish_forward(int64_t size, const float *x, float *y)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++) {
        float v = x[i] + 3.0f;
        v = v <= 0.0f ? 0.0f : v;
        v = v >= 6.0f ? 6.0f : v;
        y[i] = x[i] * v / 6.0f;
    }
}

MQB_MULTIVERSION static void hard_swish_backward(int64_t size, const float *x, const float *dy, float *dx)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++) {
        float d = dy[i] * (x[i] / 3.0f + 0.5f);
        d = x[i] <= -3.0f ? 0.0f : d;
        dx[i] = x[i] >= 3.0f ? dy[i] : d;
    }
}

static void hard_swish_forward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    (void)context;
    hard_swish_forward(block->rows * block->channels, block->in[0], block->out);
}

static void hard_swish_backward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    (void)context;
    if (block->din[0])
        hard_swish_backward(block->rows * block->channels, block->in[0], block->dout, block->din[0]);
}

const struct mqb_op mqb_op_hard_swish = {
    .name = "HardSwish",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = mqb_infer_same,
    .forward_block = hard_swish_forward_block,
    .backward_block = hard_swish_backward_block,
};
