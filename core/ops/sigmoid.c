/* sigmoid.c - Sigmoid: y = 1 / (1 + exp(-x)), with an exponential of our own, so that no C library decides results. */
#include "ops/ops.h"

#include <mqbench/plugin.h>

#include <string.h>

/* exp(x) for |x| <= 87, to 2 units in the last place: x = n ln2 + r, |r| <= ln2 / 2, Taylor to r^7. */
static inline float sigmoid_exp(float x)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float n = (x * 1.44269504f + round) - round;
    float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = (p * r) * r + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) * (1 << 23);
    float power;
    memcpy(&power, &bits, sizeof(power));
    return p * power;
}

static inline float sigmoid(float x)
{
    float v = x < -87.0f ? -87.0f : x;
    v = v > 87.0f ? 87.0f : v;
    v = v == v ? v : 0.0f; /* the conversion to an integer must see a number; the sum below brings not-a-number back */
    return 1.0f / (1.0f + sigmoid_exp(-v)) + (x == x ? 0.0f : x);
}

MQB_MULTIVERSION static void sigmoid_forward(int64_t size, const float *x, float *y)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++)
        y[i] = sigmoid(x[i]);
}

MQB_MULTIVERSION static void sigmoid_backward(int64_t size, const float *x, const float *dy, float *dx)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++) {
        float s = sigmoid(x[i]);
        dx[i] = dy[i] * ((1.0f - s) * s);
    }
}

static void sigmoid_forward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    (void)context;
    sigmoid_forward(block->rows * block->channels, block->in[0], block->out);
}

static void sigmoid_backward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    (void)context;
    if (block->din[0])
        sigmoid_backward(block->rows * block->channels, block->in[0], block->dout, block->din[0]);
}

const struct mqb_op mqb_op_sigmoid = {
    .name = "Sigmoid",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = mqb_infer_same,
    .forward_block = sigmoid_forward_block,
    .backward_block = sigmoid_backward_block,
};
