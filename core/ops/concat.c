/* concat.c - Concat along the channels. */
#include "ops/ops.h"

#include <inttypes.h>

static mqb_status concat_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                               struct mqb_error *error)
{
    const struct mqb_value *first, *x;
    char text[MQB_SHAPE_TEXT], text_x[MQB_SHAPE_TEXT];
    mqb_status status = mqb_infer_batched(graph, node, 0, false, &first, error);
    if (status)
        return status;
    int64_t axis = mqb_attr_i(node, "axis", 1);
    if (axis != 1 && axis != 1 - first->rank)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute axis = %" PRId64 ", expected 1: only channels can be joined", axis);
    int64_t dims[4] = {MQB_BATCH, first->dims[1], first->rank == 4 ? first->dims[2] : 1, first->rank == 4 ? first->dims[3] : 1};
    for (int32_t i = 1; i < node->num_inputs; i++) {
        status = mqb_infer_batched(graph, node, i, false, &x, error);
        if (status)
            return status;
        if (x->rank != first->rank || (x->rank == 4 && (x->dims[2] != dims[2] || x->dims[3] != dims[3])))
            return mqb_fail(error, MQB_ERR_ARGUMENT, "inputs '%s' %s and '%s' %s differ beside their channels", first->name,
                            mqb_shape_text(first, text), x->name, mqb_shape_text(x, text_x));
        dims[1] += x->dims[1];
    }
    return mqb_infer_output(output, first->rank, dims, true, error);
}

static void concat_forward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent y = mqb_output_extent(context);
    int64_t pixels = grain->images * y.pixels, at = 0;
    for (int32_t k = 0; k < context->node->num_inputs; k++) {
        int64_t channels = mqb_input_extent(context, k).c;
        for (int64_t i = 0; i < pixels; i++)
            mqb_copy_or_add(grain->out + i * y.c + at, grain->in[k] + i * channels, channels, false);
        at += channels;
    }
}

static void concat_backward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent y = mqb_output_extent(context);
    int64_t pixels = grain->images * y.pixels, at = 0;
    for (int32_t k = 0; k < context->node->num_inputs; k++) {
        int64_t channels = mqb_input_extent(context, k).c;
        for (int64_t i = 0; grain->din[k] && i < pixels; i++)
            mqb_copy_or_add(grain->din[k] + i * channels, grain->dout + i * y.c + at, channels, grain->accumulate[k]);
        at += channels;
    }
}

const struct mqb_op mqb_op_concat = {
    .name = "Concat",
    .min_inputs = 1,
    .max_inputs = MQB_MAX_INPUTS,
    .infer = concat_infer,
    .forward = concat_forward,
    .backward = concat_backward,
};
