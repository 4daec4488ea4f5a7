/* average_pool.c - AveragePool. count_include_pad: the divisor counts padding, but not what ceil_mode adds beyond it. */
#include "ops/ops.h"

#include <mqbench/plugin.h>

#include <string.h>

struct average_span {
    int64_t h0, h1, w0, w1;
    float count; /* what the sum is divided by */
};

static struct average_span average_pool_span(const struct mqb_window *window, struct mqb_extent x, bool count_pad, int64_t p,
                                             int64_t q)
{
    struct average_span span;
    mqb_window_span(p, window->stride_h, window->pad_top, window->r, x.h, &span.h0, &span.h1);
    mqb_window_span(q, window->stride_w, window->pad_left, window->s, x.w, &span.w0, &span.w1);
    int64_t count = (span.h1 - span.h0) * (span.w1 - span.w0);
    if (count_pad) {
        int64_t h0, h1, w0, w1;
        mqb_window_span(p, window->stride_h, 0, window->r, x.h + window->pad_top + window->pad_bottom, &h0, &h1);
        mqb_window_span(q, window->stride_w, 0, window->s, x.w + window->pad_left + window->pad_right, &w0, &w1);
        count = (h1 - h0) * (w1 - w0);
    }
    span.count = (float)count;
    return span;
}

MQB_MULTIVERSION static void average_pool_pixel(struct average_span span, struct mqb_extent x, const float *in, float *out)
{
    memset(out, 0, (size_t)x.c * sizeof(float));
    for (int64_t h = span.h0; h < span.h1; h++)
        for (int64_t w = span.w0; w < span.w1; w++) {
            const float *v = in + (h * x.w + w) * x.c;
            MQB_ELEMENTWISE
            for (int64_t c = 0; c < x.c; c++)
                out[c] += v[c];
        }
    for (int64_t c = 0; c < x.c; c++)
        out[c] /= span.count;
}

MQB_MULTIVERSION static void average_pool_pixel_backward(struct average_span span, struct mqb_extent x, const float *dy,
                                                         float *dx)
{
    for (int64_t h = span.h0; h < span.h1; h++)
        for (int64_t w = span.w0; w < span.w1; w++) {
            float *d = dx + (h * x.w + w) * x.c;
            MQB_ELEMENTWISE
            for (int64_t c = 0; c < x.c; c++)
                d[c] += dy[c] / span.count;
        }
}

static void average_pool_forward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent x = mqb_input_extent(context, 0), y = mqb_output_extent(context);
    bool count_pad = mqb_attr_i(context->node, "count_include_pad", 0) != 0;
    for (int64_t n = 0; n < grain->images; n++)
        for (int64_t i = 0; i < y.pixels; i++)
            average_pool_pixel(average_pool_span(context->state, x, count_pad, i / y.w, i % y.w), x, grain->in[0] + n * x.size,
                               grain->out + n * y.size + i * y.c);
}

static void average_pool_backward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent x = mqb_input_extent(context, 0), y = mqb_output_extent(context);
    bool count_pad = mqb_attr_i(context->node, "count_include_pad", 0) != 0;
    if (!grain->din[0])
        return;
    if (!grain->accumulate[0])
        memset(grain->din[0], 0, (size_t)(grain->images * x.size) * sizeof(float));
    for (int64_t n = 0; n < grain->images; n++)
        for (int64_t i = 0; i < y.pixels; i++)
            average_pool_pixel_backward(average_pool_span(context->state, x, count_pad, i / y.w, i % y.w), x,
                                        grain->dout + n * y.size + i * y.c, grain->din[0] + n * x.size);
}

const struct mqb_op mqb_op_average_pool = {
    .name = "AveragePool",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = mqb_pooling_infer,
    .create = mqb_pooling_create,
    .destroy = mqb_pooling_destroy,
    .forward = average_pool_forward,
    .backward = average_pool_backward,
};
