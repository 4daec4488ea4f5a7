/* flatten.c - Flatten: [N, C, H, W] -> [N, C H W] in ONNX's order, so NHWC pixels are transposed to channel planes. */
#include "ops/ops.h"

#include <inttypes.h>

static mqb_status flatten_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                struct mqb_error *error)
{
    const struct mqb_value *x;
    mqb_status status = mqb_infer_batched(graph, node, 0, false, &x, error);
    if (status)
        return status;
    int64_t axis = mqb_attr_i(node, "axis", 1);
    if (axis != 1 && axis != 1 - x->rank)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "attribute axis = %" PRId64 ", expected 1 (the batch stays, the rest is flattened)", axis);
    struct mqb_extent extent = mqb_value_extent(x);
    int64_t dims[2] = {MQB_BATCH, extent.size};
    return mqb_infer_output(output, 2, dims, true, error);
}

static void flatten_forward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent x = mqb_input_extent(context, 0);
    if (x.pixels == 1) {
        mqb_copy_or_add(grain->out, grain->in[0], grain->images * x.size, false);
        return;
    }
    for (int64_t n = 0; n < grain->images; n++) {
        const float *in = grain->in[0] + n * x.size;
        float *out = grain->out + n * x.size;
        for (int64_t c = 0; c < x.c; c++)
            for (int64_t i = 0; i < x.pixels; i++)
                out[c * x.pixels + i] = in[i * x.c + c];
    }
}

static void flatten_backward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent x = mqb_input_extent(context, 0);
    bool add = grain->accumulate[0];
    if (!grain->din[0])
        return;
    if (x.pixels == 1) {
        mqb_copy_or_add(grain->din[0], grain->dout, grain->images * x.size, add);
        return;
    }
    for (int64_t n = 0; n < grain->images; n++) {
        const float *dout = grain->dout + n * x.size;
        float *din = grain->din[0] + n * x.size;
        for (int64_t i = 0; i < x.pixels; i++)
            for (int64_t c = 0; c < x.c; c++) {
                float d = dout[c * x.pixels + i];
                din[i * x.c + c] = add ? din[i * x.c + c] + d : d;
            }
    }
}

const struct mqb_op mqb_op_flatten = {
    .name = "Flatten",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = flatten_infer,
    .forward = flatten_forward,
    .backward = flatten_backward,
};
