/*
 * linear.c - images of one pixel. A product of all n images would round an image differently for every n, and one of a
 * single image spends its time on packing weights: so forward and backward data are loops, an output one chain of
 * multiplications and additions over the inputs in order. The weights' gradient is a product over the images.
 * packed: [C][K], then [K][C].
 */
#include "openblas.h"

#include <mqbench/plugin.h>

#include <string.h>

/* out[i][j] += sum over d of in[i][d] * weight[d][j]; four images share a pass over the weights. */
MQB_MULTIVERSION
static void rows_add(int32_t n, int32_t depth, int32_t width, const float *in, const float *weight, float *out)
{
    int32_t i = 0;

    for (; i + 4 <= n; i += 4, in += (size_t)4 * depth, out += (size_t)4 * width) {
        float *restrict out0 = out, *restrict out1 = out + width, *restrict out2 = out1 + width, *restrict out3 = out2 + width;

        for (int32_t d = 0; d < depth; d++) {
            const float *restrict row = weight + (size_t)d * width;
            float in0 = in[d], in1 = in[depth + d], in2 = in[(size_t)2 * depth + d], in3 = in[(size_t)3 * depth + d];

            for (int32_t j = 0; j < width; j++) {
                out0[j] += in0 * row[j];
                out1[j] += in1 * row[j];
                out2[j] += in2 * row[j];
                out3[j] += in3 * row[j];
            }
        }
    }
    for (; i < n; i++, in += depth, out += width) {
        float *restrict out0 = out;

        for (int32_t d = 0; d < depth; d++) {
            const float *restrict row = weight + (size_t)d * width;
            float in0 = in[d];

            for (int32_t j = 0; j < width; j++) {
                out0[j] += in0 * row[j];
            }
        }
    }
}

static void linear_sizes(struct mqb_conv_plan *plan)
{
    plan->packed_count = (size_t)2 * (size_t)plan->shape.c * (size_t)plan->shape.k;
    plan->scratch_count = 0;
}

static void linear_pack(const struct mqb_conv_plan *plan, const float *weight, float *packed)
{
    size_t in = (size_t)plan->shape.c, out = (size_t)plan->shape.k;

    for (size_t k = 0; k < out; k++) {
        for (size_t c = 0; c < in; c++) {
            packed[c * out + k] = weight[k * in + c];
        }
    }
    memcpy(packed + in * out, weight, in * out * sizeof(float));
}

static void linear_forward(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *packed, const float *bias,
                           float *y, float *scratch)
{
    (void)scratch;
    openblas_fill(y, (size_t)n, plan->shape.k, bias);
    rows_add(n, plan->shape.c, plan->shape.k, x, packed, y);
}

static void linear_backward_data(const struct mqb_conv_plan *plan, int32_t n, const float *dy, const float *packed, float *dx,
                                 int32_t accumulate, float *scratch)
{
    size_t in = (size_t)plan->shape.c, out = (size_t)plan->shape.k;

    (void)scratch;
    if (!accumulate) {
        memset(dx, 0, (size_t)n * in * sizeof(float));
    }
    rows_add(n, plan->shape.k, plan->shape.c, dy, packed + in * out, dx);
}

static void linear_backward_weights(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                                    float *scratch)
{
    (void)scratch;
    plan->library.sgemm(BLAS_ROW_MAJOR, BLAS_TRANSPOSED, BLAS_AS_IT_IS, plan->shape.k, plan->shape.c, n, 1.0f, dy,
                        plan->shape.k, x, plan->shape.c, 0.0f, dw, plan->shape.c);
}

const struct openblas_way openblas_linear = {
    linear_sizes, linear_pack, linear_forward, linear_backward_data, linear_backward_weights,
};
