/* clip.c - Clip: y = min(max(x, low), high), ReLU6 among them. The gradient passes strictly inside, as in the reference's
 * ReLU6. */
#include "ops/ops.h"

#include <mqbench/plugin.h>

#include <math.h>

MQB_MULTIVERSION static void clip_forward(int64_t size, float low, float high, const float *x, float *y)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++) {
        float v = x[i] <= low ? low : x[i];
        y[i] = v >= high ? high : v;
    }
}

MQB_MULTIVERSION static void clip_backward(int64_t size, float low, float high, const float *x, const float *dy, float *dx)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++) {
        float v = x[i] <= low ? 0.0f : dy[i];
        dx[i] = x[i] >= high ? 0.0f : v;
    }
}

static float clip_low(const struct mqb_node *node)
{
    return (float)mqb_attr_f(node, "min", -INFINITY);
}

static float clip_high(const struct mqb_node *node)
{
    return (float)mqb_attr_f(node, "max", INFINITY);
}

static mqb_status clip_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                             struct mqb_error *error)
{
    float low = clip_low(node), high = clip_high(node);
    if (!(low <= high))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attributes min = %g and max = %g are not a range, expected min <= max",
                        (double)low, (double)high);
    return mqb_infer_same(graph, node, output, error);
}

static void clip_forward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    clip_forward(block->rows * block->channels, clip_low(context->node), clip_high(context->node), block->in[0], block->out);
}

static void clip_backward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    if (block->din[0])
        clip_backward(block->rows * block->channels, clip_low(context->node), clip_high(context->node), block->in[0],
                      block->dout, block->din[0]);
}

const struct mqb_op mqb_op_clip = {
    .name = "Clip",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = clip_infer,
    .forward_block = clip_forward_block,
    .backward_block = clip_backward_block,
};
