/* global_average_pool.c - GlobalAveragePool: the mean over an image's pixels, [N, C, 1, 1]. */
#include "ops/ops.h"

#include <mqbench/plugin.h>

#define TILE 32 /* channels whose sums are on the stack */

static mqb_status global_average_pool_infer(const struct mqb_graph *graph, const struct mqb_node *node,
                                            struct mqb_value *output, struct mqb_error *error)
{
    const struct mqb_value *x;
    mqb_status status = mqb_infer_batched(graph, node, 0, true, &x, error);
    if (status)
        return status;
    int64_t dims[4] = {MQB_BATCH, x->dims[1], 1, 1};
    return mqb_infer_output(output, 4, dims, true, error);
}

MQB_MULTIVERSION static void global_average_pool_image(struct mqb_extent x, const float *in, float *out)
{
    for (int64_t c = 0; c < x.c; c += TILE) {
        int64_t width = x.c - c < TILE ? x.c - c : TILE;
        double sum[TILE] = {0};
        for (int64_t i = 0; i < x.pixels; i++)
            for (int64_t j = 0; j < width; j++)
                sum[j] += (double)in[i * x.c + c + j];
        for (int64_t j = 0; j < width; j++)
            out[c + j] = (float)(sum[j] / (double)x.pixels);
    }
}

static void global_average_pool_forward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent x = mqb_input_extent(context, 0);
    for (int64_t n = 0; n < grain->images; n++)
        global_average_pool_image(x, grain->in[0] + n * x.size, grain->out + n * x.c);
}

static void global_average_pool_backward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent x = mqb_input_extent(context, 0);
    float pixels = (float)x.pixels;
    if (!grain->din[0])
        return;
    for (int64_t n = 0; n < grain->images; n++)
        for (int64_t i = 0; i < x.pixels; i++) {
            const float *dy = grain->dout + n * x.c;
            float *dx = grain->din[0] + n * x.size + i * x.c;
            for (int64_t c = 0; c < x.c; c++)
                dx[c] = grain->accumulate[0] ? dx[c] + dy[c] / pixels : dy[c] / pixels;
        }
}

const struct mqb_op mqb_op_global_average_pool = {
    .name = "GlobalAveragePool",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = global_average_pool_infer,
    .forward = global_average_pool_forward,
    .backward = global_average_pool_backward,
};
