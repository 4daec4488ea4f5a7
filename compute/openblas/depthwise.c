/*
 * depthwise.c - a channel a group: no matrices to multiply, so loops over the channels side by side.
 * packed: [R][S][C].
 */
#include "openblas.h"

#include <mqbench/plugin.h>

#include <string.h>

MQB_MULTIVERSION
static void multiply_add(float *restrict sum, const float *restrict a, const float *restrict b, int32_t count)
{
    for (int32_t c = 0; c < count; c++) {
        sum[c] += a[c] * b[c];
    }
}

static size_t weight_count(const struct mqb_conv_plan *plan)
{
    return (size_t)plan->shape.r * (size_t)plan->shape.s * (size_t)plan->shape.c;
}

static void depthwise_sizes(struct mqb_conv_plan *plan)
{
    plan->packed_count = weight_count(plan);
    plan->scratch_count = weight_count(plan);
}

static void depthwise_pack(const struct mqb_conv_plan *plan, const float *weight, float *packed)
{
    size_t taps = (size_t)plan->shape.r * (size_t)plan->shape.s, channels = (size_t)plan->shape.c;

    for (size_t c = 0; c < channels; c++) {
        for (size_t t = 0; t < taps; t++) {
            packed[t * channels + c] = weight[c * taps + t];
        }
    }
}

/* What a kernel does at one pair of an input and an output pixel that it joins. */
enum action { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS };

/* Every pair of one image, in the order of the output pixels: x and y are read or added to, so is the weight. */
static void each_pair(const struct mqb_conv_plan *plan, enum action action, float *x, float *weight, float *y)
{
    const struct mqb_conv_shape *s = &plan->shape;
    int64_t channels = s->c;

    for (int32_t p = 0; p < s->p; p++) {
        for (int32_t q = 0; q < s->q; q++, y += channels) {
            for (int32_t r = 0; r < s->r; r++) {
                int32_t h = p * s->stride_h - s->pad_top + r * s->dilation_h;

                for (int32_t t = 0; t < s->s && h >= 0 && h < s->h; t++) {
                    int32_t w = q * s->stride_w - s->pad_left + t * s->dilation_w;

                    if (w < 0 || w >= s->w) {
                        continue;
                    }
                    float *in = x + ((int64_t)h * s->w + w) * channels, *tap = weight + ((int64_t)r * s->s + t) * channels;
                    switch (action) {
                    case FORWARD:
                        multiply_add(y, in, tap, s->c);
                        break;
                    case BACKWARD_DATA:
                        multiply_add(in, y, tap, s->c);
                        break;
                    default:
                        multiply_add(tap, in, y, s->c);
                        break;
                    }
                }
            }
        }
    }
}

static size_t input_count(const struct mqb_conv_plan *plan)
{
    return (size_t)plan->shape.h * (size_t)plan->shape.w * (size_t)plan->shape.c;
}

static size_t output_count(const struct mqb_conv_plan *plan)
{
    return (size_t)plan->shape.p * (size_t)plan->shape.q * (size_t)plan->shape.k;
}

/* each_pair writes to one of the three only. */
static float *readable(const float *data)
{
    return (float *)(uintptr_t)data;
}

static void depthwise_forward(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *packed,
                              const float *bias, float *y, float *scratch)
{
    (void)scratch;
    openblas_fill(y, (size_t)n * (size_t)plan->shape.p * (size_t)plan->shape.q, plan->shape.k, bias);
    for (int32_t i = 0; i < n; i++) {
        each_pair(plan, FORWARD, readable(x) + (size_t)i * input_count(plan), readable(packed),
                  y + (size_t)i * output_count(plan));
    }
}

static void depthwise_backward_data(const struct mqb_conv_plan *plan, int32_t n, const float *dy, const float *packed,
                                    float *dx, int32_t accumulate, float *scratch)
{
    (void)scratch;
    if (!accumulate) {
        memset(dx, 0, (size_t)n * input_count(plan) * sizeof(float));
    }
    for (int32_t i = 0; i < n; i++) {
        each_pair(plan, BACKWARD_DATA, dx + (size_t)i * input_count(plan), readable(packed),
                  readable(dy) + (size_t)i * output_count(plan));
    }
}

static void depthwise_backward_weights(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                                       float *scratch)
{
    size_t taps = (size_t)plan->shape.r * (size_t)plan->shape.s, channels = (size_t)plan->shape.c;

    memset(scratch, 0, weight_count(plan) * sizeof(float));
    for (int32_t i = 0; i < n; i++) {
        each_pair(plan, BACKWARD_WEIGHTS, readable(x) + (size_t)i * input_count(plan), scratch,
                  readable(dy) + (size_t)i * output_count(plan));
    }
    for (size_t c = 0; c < channels; c++) {
        for (size_t t = 0; t < taps; t++) {
            dw[c * taps + t] = scratch[t * channels + c];
        }
    }
}

const struct openblas_way openblas_depthwise = {
    depthwise_sizes, depthwise_pack, depthwise_forward, depthwise_backward_data, depthwise_backward_weights,
};
