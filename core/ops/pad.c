/* pad.c - Pad: a constant around channels, rows and columns. */
#include "ops/ops.h"

#include <inttypes.h>
#include <string.h>

static mqb_status pad_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                            struct mqb_error *error)
{
    const struct mqb_value *x;
    mqb_status status = mqb_infer_batched(graph, node, 0, false, &x, error);
    if (status)
        return status;
    const char *mode = mqb_attr_s(node, "mode", "constant");
    if (strcmp(mode, "constant") != 0)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute mode = '%s', expected 'constant'", mode);
    int64_t dims[4] = {MQB_BATCH, 1, 1, 1};
    for (int32_t i = 0; i < x->rank; i++) {
        int64_t begin = mqb_attr_li(node, "pads_begin", i, 0), end = mqb_attr_li(node, "pads_end", i, 0);
        if (i == 0 && (begin != 0 || end != 0))
            return mqb_fail(error, MQB_ERR_ARGUMENT,
                            "it pads the batch by %" PRId64 " and %" PRId64 " images, which is not possible", begin, end);
        if (begin < 0 || end < 0 || begin > INT32_MAX || end > INT32_MAX)
            return mqb_fail(error, MQB_ERR_ARGUMENT,
                            "dimension %" PRId32 " of input '%s' is padded by %" PRId64 " and %" PRId64
                            ", expected numbers from 0 to %d (a cut is a Slice)",
                            i, x->name, begin, end, INT32_MAX);
        if (i > 0)
            dims[i] = x->dims[i] + begin + end;
    }
    return mqb_infer_output(output, x->rank, dims, true, error);
}

/* Index of input pixel i's first channel within the output image. */
static int64_t pad_position(const struct mqb_op_context *context, struct mqb_extent x, struct mqb_extent y, int64_t i)
{
    const struct mqb_node *node = context->node;
    int64_t top = mqb_attr_li(node, "pads_begin", 2, 0), left = mqb_attr_li(node, "pads_begin", 3, 0);
    return ((top + i / x.w) * y.w + left + i % x.w) * y.c + mqb_attr_li(node, "pads_begin", 1, 0);
}

static void pad_forward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent x = mqb_input_extent(context, 0), y = mqb_output_extent(context);
    float value = (float)mqb_attr_f(context->node, "value", 0);
    for (int64_t i = 0; i < grain->images * y.size; i++)
        grain->out[i] = value;
    for (int64_t i = 0; i < x.pixels; i++) {
        int64_t position = pad_position(context, x, y, i);
        for (int64_t n = 0; n < grain->images; n++)
            mqb_copy_or_add(grain->out + n * y.size + position, grain->in[0] + n * x.size + i * x.c, x.c, false);
    }
}

static void pad_backward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent x = mqb_input_extent(context, 0), y = mqb_output_extent(context);
    if (!grain->din[0])
        return;
    for (int64_t i = 0; i < x.pixels; i++) {
        int64_t position = pad_position(context, x, y, i);
        for (int64_t n = 0; n < grain->images; n++)
            mqb_copy_or_add(grain->din[0] + n * x.size + i * x.c, grain->dout + n * y.size + position, x.c,
                            grain->accumulate[0]);
    }
}

const struct mqb_op mqb_op_pad = {
    .name = "Pad",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = pad_infer,
    .forward = pad_forward,
    .backward = pad_backward,
};
