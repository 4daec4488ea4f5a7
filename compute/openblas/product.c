/*
 * product.c - the general way: columns, then products of matrices.
 *
 *   forward            y[band][group_out]       = columns[band][depth] * packed[depth][group_out]
 *   backward data      columns[band][depth]     = dy[band][group_out] * packed^T, added to dx
 *   backward weights   sum[depth][group_out]   += columns^T * dy, over bands and images in order
 */
#include "openblas.h"

#include <string.h>

enum {
    BAND_FLOATS = 64 * 1024, /* columns that fit the second cache beside what they are multiplied with */
    BAND_PIXELS = 128,       /* below this, packing the weights costs more than the product */
    PERMUTE_BLOCK = 16,
};

static int32_t min(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static size_t sum_count(const struct mqb_conv_plan *plan)
{
    return (size_t)plan->depth * (size_t)plan->shape.k; /* of all groups */
}

static void product_sizes(struct mqb_conv_plan *plan)
{
    const struct mqb_conv_shape *s = &plan->shape;
    size_t row = (size_t)s->q * (size_t)plan->depth, rows = BAND_FLOATS / row, least = ((size_t)BAND_PIXELS + s->q - 1) / s->q;

    plan->direct = s->r == 1 && s->s == 1 && s->stride_h == 1 && s->stride_w == 1 && s->h == s->p && s->w == s->q &&
                   s->pad_top == 0 && s->pad_left == 0;
    rows = rows < least ? least : rows;
    plan->band_rows = plan->direct || rows > (size_t)s->p ? s->p : (int32_t)rows;
    plan->packed_count = sum_count(plan);
    plan->scratch_count = sum_count(plan) + (plan->direct ? 0 : (size_t)plan->band_rows * row);
}

/* Between [K][C / groups][R][S] and [group][r][s][c][k of the group], a few k at a time: both sides stay in the cache. */
static void permute(const struct mqb_conv_plan *plan, const float *from, float *to, int to_packed)
{
    const struct mqb_conv_shape *s = &plan->shape;
    size_t taps = (size_t)s->r * (size_t)s->s, channels = (size_t)plan->group_in, width = (size_t)plan->group_out;
    size_t depth = taps * channels;

    for (size_t first = 0, count; first < (size_t)s->k; first += count) {
        size_t left = width - first % width; /* in the group */

        count = left < PERMUTE_BLOCK ? left : PERMUTE_BLOCK;
        size_t place = first / width * depth * width + first % width;

        for (size_t c = 0; c < channels; c++) {
            for (size_t t = 0; t < taps; t++) {
                for (size_t k = 0; k < count; k++) {
                    size_t onnx = ((first + k) * channels + c) * taps + t, packed = place + (t * channels + c) * width + k;

                    if (to_packed) {
                        to[packed] = from[onnx];
                    } else {
                        to[onnx] = from[packed];
                    }
                }
            }
        }
    }
}

static void product_pack(const struct mqb_conv_plan *plan, const float *weight, float *packed)
{
    permute(plan, weight, packed, 1);
}

static const float *group_weight(const struct mqb_conv_plan *plan, const float *packed, int32_t group)
{
    return packed + (size_t)group * (size_t)plan->depth * (size_t)plan->group_out;
}

/* A band's columns: gathered, or the image as it is. */
static const float *band_columns(const struct mqb_conv_plan *plan, const float *image, int32_t group, int32_t row, int32_t rows,
                                 float *scratch, int *stride)
{
    if (plan->direct) {
        *stride = plan->shape.c;
        return image + (size_t)group * (size_t)plan->group_in;
    }
    *stride = plan->depth;
    openblas_gather(plan, image, group, row, rows, scratch);
    return scratch;
}

static void product_forward(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *packed, const float *bias,
                            float *y, float *scratch)
{
    const struct mqb_conv_shape *s = &plan->shape;
    size_t x_count = (size_t)s->h * (size_t)s->w * (size_t)s->c, y_row = (size_t)s->q * (size_t)s->k;

    for (int32_t i = 0; i < n; i++, x += x_count) {
        for (int32_t row = 0; row < s->p; row += plan->band_rows) {
            int32_t rows = min(plan->band_rows, s->p - row), pixels = rows * s->q;

            if (bias != NULL) {
                openblas_fill(y, (size_t)pixels, s->k, bias);
            }
            for (int32_t g = 0; g < s->groups; g++) {
                int stride;
                const float *columns = band_columns(plan, x, g, row, rows, scratch, &stride);

                plan->library.sgemm(BLAS_ROW_MAJOR, BLAS_AS_IT_IS, BLAS_AS_IT_IS, pixels, plan->group_out, plan->depth, 1.0f,
                                    columns, stride, group_weight(plan, packed, g), plan->group_out, bias != NULL ? 1.0f : 0.0f,
                                    y + (size_t)g * (size_t)plan->group_out, s->k);
            }
            y += (size_t)rows * y_row;
        }
    }
}

static void product_backward_data(const struct mqb_conv_plan *plan, int32_t n, const float *dy, const float *packed, float *dx,
                                  int32_t accumulate, float *scratch)
{
    const struct mqb_conv_shape *s = &plan->shape;
    size_t x_count = (size_t)s->h * (size_t)s->w * (size_t)s->c, y_row = (size_t)s->q * (size_t)s->k;

    for (int32_t i = 0; i < n; i++, dx += x_count) {
        if (!plan->direct && !accumulate) {
            memset(dx, 0, x_count * sizeof(float));
        }
        for (int32_t row = 0; row < s->p; row += plan->band_rows) {
            int32_t rows = min(plan->band_rows, s->p - row), pixels = rows * s->q;

            for (int32_t g = 0; g < s->groups; g++) {
                float *columns = plan->direct ? dx + (size_t)g * (size_t)plan->group_in : scratch;

                plan->library.sgemm(BLAS_ROW_MAJOR, BLAS_AS_IT_IS, BLAS_TRANSPOSED, pixels, plan->depth, plan->group_out, 1.0f,
                                    dy + (size_t)g * (size_t)plan->group_out, s->k, group_weight(plan, packed, g),
                                    plan->group_out, plan->direct && accumulate ? 1.0f : 0.0f, columns,
                                    plan->direct ? s->c : plan->depth);
                if (!plan->direct) {
                    openblas_scatter_add(plan, columns, g, row, rows, dx);
                }
            }
            dy += (size_t)rows * y_row;
        }
    }
}

static void product_backward_weights(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                                     float *scratch)
{
    const struct mqb_conv_shape *s = &plan->shape;
    size_t x_count = (size_t)s->h * (size_t)s->w * (size_t)s->c, y_row = (size_t)s->q * (size_t)s->k;
    float *sum = scratch;

    memset(sum, 0, sum_count(plan) * sizeof(float));
    for (int32_t i = 0; i < n; i++, x += x_count) {
        for (int32_t row = 0; row < s->p; row += plan->band_rows) {
            int32_t rows = min(plan->band_rows, s->p - row), pixels = rows * s->q;

            for (int32_t g = 0; g < s->groups; g++) {
                int stride;
                const float *columns = band_columns(plan, x, g, row, rows, scratch + sum_count(plan), &stride);
                float *group_sum = sum + (size_t)g * (size_t)plan->depth * (size_t)plan->group_out;

                plan->library.sgemm(BLAS_ROW_MAJOR, BLAS_TRANSPOSED, BLAS_AS_IT_IS, plan->depth, plan->group_out, pixels, 1.0f,
                                    columns, stride, dy + (size_t)g * (size_t)plan->group_out, s->k, 1.0f, group_sum,
                                    plan->group_out);
            }
            dy += (size_t)rows * y_row;
        }
    }
    permute(plan, sum, dw, 0);
}

const struct openblas_way openblas_product = {
    product_sizes, product_pack, product_forward, product_backward_data, product_backward_weights,
};
