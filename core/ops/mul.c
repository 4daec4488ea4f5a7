/* mul.c - Mul: y = a * b. Of one shape: a pointwise operator. b [N, C, 1, 1] over a's pixels (squeeze and excitation): by
 * grains. */
#include "ops/ops.h"

#include <mqbench/plugin.h>

#define TILE 32 /* channels whose sums are on the stack */

static mqb_status mul_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                            struct mqb_error *error)
{
    const struct mqb_value *a, *b;
    char text_a[MQB_SHAPE_TEXT], text_b[MQB_SHAPE_TEXT];
    mqb_status status = mqb_infer_batched(graph, node, 0, false, &a, error);
    if (!status)
        status = mqb_infer_batched(graph, node, 1, false, &b, error);
    if (status)
        return status;
    bool broadcast = a->rank == 4 && b->rank == 4 && a->dims[1] == b->dims[1] && b->dims[2] == 1 && b->dims[3] == 1;
    if (!mqb_value_same_shape(a, b) && !broadcast)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "inputs '%s' %s and '%s' %s do not go together; expected equal shapes, or [N, C, 1, 1] as the second",
                        a->name, mqb_shape_text(a, text_a), b->name, mqb_shape_text(b, text_b));
    return mqb_infer_output(output, a->rank, a->dims, true, error);
}

MQB_MULTIVERSION static void mul_forward_same(int64_t size, const float *a, const float *b, float *y)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++)
        y[i] = a[i] * b[i];
}

MQB_MULTIVERSION static void mul_add(int64_t size, const float *a, const float *b, float *y)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++)
        y[i] += a[i] * b[i];
}

static void mul_product(int64_t size, const float *a, const float *b, float *y, bool add)
{
    if (add)
        mul_add(size, a, b, y);
    else
        mul_forward_same(size, a, b, y);
}

static void mul_forward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    (void)context;
    mul_forward_same(block->rows * block->channels, block->in[0], block->in[1], block->out);
}

static void mul_backward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    (void)context;
    int64_t size = block->rows * block->channels;
    if (block->din[1]) /* first: din[0] may be dout */
        mul_product(size, block->dout, block->in[0], block->din[1], block->accumulate_side);
    if (block->din[0])
        mul_forward_same(size, block->dout, block->in[1], block->din[0]);
}

/* ---- b [N, C, 1, 1], or the same shape when the executor does not run it in a chain ---- */

static void mul_forward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent a = mqb_input_extent(context, 0), b = mqb_input_extent(context, 1);
    if (b.pixels == a.pixels) {
        mul_forward_same(grain->images * a.size, grain->in[0], grain->in[1], grain->out);
        return;
    }
    for (int64_t n = 0; n < grain->images; n++)
        for (int64_t i = 0; i < a.pixels; i++) {
            int64_t at = n * a.size + i * a.c;
            mul_forward_same(a.c, grain->in[0] + at, grain->in[1] + n * b.size, grain->out + at);
        }
}

MQB_MULTIVERSION static void mul_sum_pixels(int64_t pixels, int64_t channels, const float *a, const float *dy, float *db,
                                            bool add)
{
    for (int64_t c = 0; c < channels; c += TILE) {
        int64_t width = channels - c < TILE ? channels - c : TILE;
        double sum[TILE] = {0};
        for (int64_t i = 0; i < pixels; i++) {
            const float *ai = a + i * channels + c, *dyi = dy + i * channels + c;
            for (int64_t j = 0; j < width; j++)
                sum[j] += (double)ai[j] * (double)dyi[j];
        }
        for (int64_t j = 0; j < width; j++)
            db[c + j] = (float)sum[j] + (add ? db[c + j] : 0.0f);
    }
}

static void mul_backward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent a = mqb_input_extent(context, 0), b = mqb_input_extent(context, 1);
    if (b.pixels == a.pixels) {
        if (grain->din[0])
            mul_product(grain->images * a.size, grain->dout, grain->in[1], grain->din[0], grain->accumulate[0]);
        if (grain->din[1])
            mul_product(grain->images * a.size, grain->dout, grain->in[0], grain->din[1], grain->accumulate[1]);
        return;
    }
    for (int64_t n = 0; n < grain->images; n++) {
        if (grain->din[0])
            for (int64_t i = 0; i < a.pixels; i++) {
                int64_t at = n * a.size + i * a.c;
                mul_product(a.c, grain->dout + at, grain->in[1] + n * b.size, grain->din[0] + at, grain->accumulate[0]);
            }
        if (grain->din[1])
            mul_sum_pixels(a.pixels, a.c, grain->in[0] + n * a.size, grain->dout + n * a.size, grain->din[1] + n * b.size,
                           grain->accumulate[1]);
    }
}

const struct mqb_op mqb_op_mul = {
    .name = "Mul",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = mul_infer,
    .forward = mul_forward,
    .backward = mul_backward,
    .forward_block = mul_forward_block,
    .backward_block = mul_backward_block,
};
