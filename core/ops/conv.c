/* conv.c - Conv: 2-D convolution, W [K][C / group][R][S], bias [K]. */
#include "ops/ops.h"

#include <mqbench/compute.h>

#include <inttypes.h>
#include <string.h>

static mqb_status conv_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                             struct mqb_error *error)
{
    const struct mqb_value *x, *weight;
    char text[MQB_SHAPE_TEXT], text_x[MQB_SHAPE_TEXT];
    struct mqb_window window;
    mqb_status status = mqb_infer_batched(graph, node, 0, true, &x, error);
    if (!status)
        status = mqb_infer_fixed(graph, node, 1, "weight", &weight, error);
    if (status)
        return status;
    int64_t group = mqb_attr_i(node, "group", 1), channels = x->dims[1];
    if (weight->rank != 4)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "weight '%s' has shape %s, expected [K, C / group, R, S]", weight->name,
                        mqb_shape_text(weight, text));
    if (group < 1 || channels % group || weight->dims[0] % group)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "attribute group = %" PRId64 " does not divide %" PRId64 " input and %" PRId64 " output channels",
                        group, channels, weight->dims[0]);
    if (weight->dims[1] != channels / group)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "weight '%s' has shape %s, but input '%s' has shape %s: with group = %" PRId64
                        " the weight's second dimension must be %" PRId64,
                        weight->name, mqb_shape_text(weight, text), x->name, mqb_shape_text(x, text_x), group,
                        channels / group);
    for (int32_t i = 0; i < 2; i++)
        if (mqb_attr_li(node, "kernel_shape", i, weight->dims[2 + i]) != weight->dims[2 + i])
            return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute kernel_shape does not agree with weight '%s' of shape %s",
                            weight->name, mqb_shape_text(weight, text));
    status = mqb_infer_vector(graph, node, 2, "bias", weight->dims[0], true, error);
    if (!status)
        status = mqb_window_read(node, weight->dims[2], weight->dims[3], &window, error);
    if (status)
        return status;
    int64_t dims[4] = {MQB_BATCH, weight->dims[0], 0, 0};
    mqb_window_output(&window, x->dims[2], x->dims[3], false, &dims[2], &dims[3]);
    if (dims[2] < 1 || dims[3] < 1)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "the kernel of weight '%s' %s is larger than the padded input '%s' %s",
                        weight->name, mqb_shape_text(weight, text), x->name, mqb_shape_text(x, text_x));
    return mqb_infer_output(output, 4, dims, true, error);
}

static mqb_status conv_create(struct mqb_op_context *context, size_t *scratch_size, struct mqb_error *error)
{
    const struct mqb_value *weight = mqb_node_input(context->graph, context->node, 1);
    struct mqb_extent x = mqb_input_extent(context, 0), y = mqb_output_extent(context);
    struct mqb_window window;
    mqb_status status = mqb_window_read(context->node, weight->dims[2], weight->dims[3], &window, error);
    if (status)
        return status;
    struct mqb_conv_shape shape;
    memset(&shape, 0, sizeof(shape));
    shape.struct_size = sizeof(shape);
    shape.c = (int32_t)x.c;
    shape.h = (int32_t)x.h;
    shape.w = (int32_t)x.w;
    shape.k = (int32_t)y.c;
    shape.r = (int32_t)window.r;
    shape.s = (int32_t)window.s;
    shape.p = (int32_t)y.h;
    shape.q = (int32_t)y.w;
    shape.stride_h = (int32_t)window.stride_h;
    shape.stride_w = (int32_t)window.stride_w;
    shape.pad_top = (int32_t)window.pad_top;
    shape.pad_left = (int32_t)window.pad_left;
    shape.pad_bottom = (int32_t)window.pad_bottom;
    shape.pad_right = (int32_t)window.pad_right;
    shape.dilation_h = (int32_t)window.dilation_h;
    shape.dilation_w = (int32_t)window.dilation_w;
    shape.groups = (int32_t)mqb_attr_i(context->node, "group", 1);
    return mqb_convolve_create(context, &shape, scratch_size, error);
}

const struct mqb_op mqb_op_conv = {
    .name = "Conv",
    .min_inputs = 2,
    .max_inputs = 3,
    .infer = conv_infer,
    .create = conv_create,
    .destroy = mqb_convolve_destroy,
    .prepare = mqb_convolve_prepare,
    .forward = mqb_convolve_forward,
    .has_rows = mqb_convolve_has_rows,
    .forward_rows = mqb_convolve_rows,
    .backward = mqb_convolve_backward,
    .takes_codes = true,
};

/* For statistics of the float layer beside a folded one: no pass quantizes it. */
const struct mqb_op mqb_op_float_conv = {
    .name = "FloatConv",
    .min_inputs = 2,
    .max_inputs = 3,
    .infer = conv_infer,
    .create = conv_create,
    .destroy = mqb_convolve_destroy,
    .prepare = mqb_convolve_prepare,
    .forward = mqb_convolve_forward,
    .backward = mqb_convolve_backward,
    .takes_codes = true,
};
