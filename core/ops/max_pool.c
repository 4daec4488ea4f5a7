/* max_pool.c - MaxPool. Backward finds the first largest element of each window again rather than keep its index.
 * H x W input, P x Q output, R x S window, C channels. */
#include "ops/ops.h"

#include <mqbench/plugin.h>

#include <string.h>

#define TILE 64 /* channels whose best elements are on the stack */

/* Not-a-number wins and stays. */
MQB_MULTIVERSION static void max_pool_image(const struct mqb_window *window, struct mqb_extent x, struct mqb_extent y,
                                            const float *in, float *out)
{
    for (int64_t p = 0; p < y.h; p++)
        for (int64_t q = 0; q < y.w; q++, out += y.c) {
            int64_t h0, h1, w0, w1;
            mqb_window_span(p, window->stride_h, window->pad_top, window->r, x.h, &h0, &h1);
            mqb_window_span(q, window->stride_w, window->pad_left, window->s, x.w, &w0, &w1);
            memcpy(out, in + (h0 * x.w + w0) * x.c, (size_t)x.c * sizeof(float));
            for (int64_t h = h0; h < h1; h++)
                for (int64_t w = w0; w < w1; w++) {
                    const float *v = in + (h * x.w + w) * x.c;
                    MQB_ELEMENTWISE
                    for (int64_t c = 0; c < x.c; c++)
                        out[c] = ((v[c] > out[c]) | (v[c] != v[c])) ? v[c] : out[c];
                }
        }
}

/* dx += the share of channels [c0, c0 + width). */
MQB_MULTIVERSION static void max_pool_image_backward(const struct mqb_window *window, struct mqb_extent x, struct mqb_extent y,
                                                     int64_t c0, int64_t width, const float *in, const float *dy, float *dx)
{
    float best[TILE];
    int32_t first[TILE];
    for (int64_t p = 0; p < y.h; p++)
        for (int64_t q = 0; q < y.w; q++) {
            const float *d = dy + (p * y.w + q) * y.c + c0;
            int64_t h0, h1, w0, w1;
            mqb_window_span(p, window->stride_h, window->pad_top, window->r, x.h, &h0, &h1);
            mqb_window_span(q, window->stride_w, window->pad_left, window->s, x.w, &w0, &w1);
            for (int64_t j = 0; j < width; j++) {
                best[j] = in[(h0 * x.w + w0) * x.c + c0 + j];
                first[j] = (int32_t)(h0 * x.w + w0);
            }
            for (int64_t h = h0; h < h1; h++)
                for (int64_t w = w0; w < w1; w++) {
                    int32_t at = (int32_t)(h * x.w + w);
                    const float *v = in + at * x.c + c0;
                    for (int64_t j = 0; j < width; j++) {
                        int32_t larger = v[j] > best[j];
                        first[j] = larger ? at : first[j];
                        best[j] = larger ? v[j] : best[j];
                    }
                }
            for (int64_t h = h0; h < h1; h++)
                for (int64_t w = w0; w < w1; w++) {
                    int32_t at = (int32_t)(h * x.w + w);
                    float *t = dx + at * x.c + c0;
                    MQB_ELEMENTWISE
                    for (int64_t j = 0; j < width; j++)
                        t[j] += first[j] == at ? d[j] : 0.0f;
                }
        }
}

static void max_pool_forward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent x = mqb_input_extent(context, 0), y = mqb_output_extent(context);
    for (int64_t n = 0; n < grain->images; n++)
        max_pool_image(context->state, x, y, grain->in[0] + n * x.size, grain->out + n * y.size);
}

static void max_pool_backward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent x = mqb_input_extent(context, 0), y = mqb_output_extent(context);
    if (!grain->din[0])
        return;
    if (!grain->accumulate[0])
        memset(grain->din[0], 0, (size_t)(grain->images * x.size) * sizeof(float));
    for (int64_t n = 0; n < grain->images; n++)
        for (int64_t c = 0; c < x.c; c += TILE)
            max_pool_image_backward(context->state, x, y, c, x.c - c < TILE ? x.c - c : TILE, grain->in[0] + n * x.size,
                                    grain->dout + n * y.size, grain->din[0] + n * x.size);
}

const struct mqb_op mqb_op_max_pool = {
    .name = "MaxPool",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = mqb_pooling_infer,
    .create = mqb_pooling_create,
    .destroy = mqb_pooling_destroy,
    .forward = max_pool_forward,
    .backward = max_pool_backward,
};
