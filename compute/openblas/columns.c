/*
 * columns.c - im2col and back: the pixels that a kernel sees from each output pixel, (r, s, c) side by side.
 */
#include "openblas.h"

#include <string.h>

/* First and last + 1 kernel position whose input coordinate lies in [0, size). */
static void inside(int32_t origin, int32_t dilation, int32_t kernel, int32_t size, int32_t *first, int32_t *end)
{
    int32_t low = origin >= 0 ? 0 : (-origin + dilation - 1) / dilation;
    int32_t high = origin >= size ? 0 : (size - 1 - origin) / dilation + 1;

    *end = high < kernel ? high : kernel;
    *first = low < *end ? low : *end;
}

void openblas_gather(const struct mqb_conv_plan *plan, const float *x, int32_t group, int32_t row, int32_t rows, float *columns)
{
    const struct mqb_conv_shape *s = &plan->shape;
    size_t channels = (size_t)plan->group_in, pixel = (size_t)s->c, line = (size_t)s->s * channels;
    const int whole = s->groups == 1 && s->dilation_w == 1; /* neighbours in the image are neighbours in the column */

    x += (size_t)group * channels;
    for (int32_t p = row; p < row + rows; p++) {
        int32_t h0 = p * s->stride_h - s->pad_top;

        for (int32_t q = 0; q < s->q; q++) {
            int32_t w0 = q * s->stride_w - s->pad_left, first, end;

            inside(w0, s->dilation_w, s->s, s->w, &first, &end);
            for (int32_t r = 0; r < s->r; r++, columns += line) {
                int32_t h = h0 + r * s->dilation_h;

                if (h < 0 || h >= s->h || first >= end) {
                    memset(columns, 0, line * sizeof(float));
                    continue;
                }
                const float *from = x + ((int64_t)h * s->w + w0) * (int64_t)pixel;
                memset(columns, 0, (size_t)first * channels * sizeof(float));
                if (whole) {
                    memcpy(columns + (size_t)first * channels, from + (size_t)first * channels,
                           (size_t)(end - first) * channels * sizeof(float));
                } else {
                    for (int32_t t = first; t < end; t++) {
                        memcpy(columns + (size_t)t * channels, from + (int64_t)t * s->dilation_w * (int64_t)pixel,
                               channels * sizeof(float));
                    }
                }
                memset(columns + (size_t)end * channels, 0, (size_t)(s->s - end) * channels * sizeof(float));
            }
        }
    }
}

void openblas_scatter_add(const struct mqb_conv_plan *plan, const float *columns, int32_t group, int32_t row, int32_t rows,
                          float *dx)
{
    const struct mqb_conv_shape *s = &plan->shape;
    size_t channels = (size_t)plan->group_in, pixel = (size_t)s->c, line = (size_t)s->s * channels;

    dx += (size_t)group * channels;
    for (int32_t p = row; p < row + rows; p++) {
        int32_t h0 = p * s->stride_h - s->pad_top;

        for (int32_t q = 0; q < s->q; q++) {
            int32_t w0 = q * s->stride_w - s->pad_left, first, end;

            inside(w0, s->dilation_w, s->s, s->w, &first, &end);
            for (int32_t r = 0; r < s->r; r++, columns += line) {
                int32_t h = h0 + r * s->dilation_h;

                if (h < 0 || h >= s->h) {
                    continue;
                }
                for (int32_t t = first; t < end; t++) {
                    const float *from = columns + (size_t)t * channels;
                    float *to = dx + ((int64_t)h * s->w + w0 + (int64_t)t * s->dilation_w) * (int64_t)pixel;

                    for (size_t c = 0; c < channels; c++) {
                        to[c] += from[c];
                    }
                }
            }
        }
    }
}
