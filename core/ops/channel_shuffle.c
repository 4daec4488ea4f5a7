/* channel_shuffle.c - ChannelShuffle: channels seen as [group][C / group] become [C / group][group]. */
#include "ops/ops.h"

#include <inttypes.h>

static mqb_status channel_shuffle_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                        struct mqb_error *error)
{
    const struct mqb_value *x;
    mqb_status status = mqb_infer_batched(graph, node, 0, true, &x, error);
    if (status)
        return status;
    int64_t group = mqb_attr_i(node, "group", 1);
    if (group < 1 || x->dims[1] % group)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "attribute group = %" PRId64 " does not divide the %" PRId64 " channels of '%s'", group, x->dims[1],
                        x->name);
    return mqb_infer_output(output, x->rank, x->dims, true, error);
}

/* to[a][b] = from[b][a] in every pixel; from has `rows` rows of `columns`. */
static void channel_shuffle_pixels(int64_t pixels, int64_t rows, int64_t columns, const float *from, float *to, bool add)
{
    for (int64_t i = 0; i < pixels; i++, from += rows * columns, to += rows * columns)
        for (int64_t b = 0; b < columns; b++)
            for (int64_t a = 0; a < rows; a++) {
                float v = from[a * columns + b];
                to[b * rows + a] = add ? to[b * rows + a] + v : v;
            }
}

static void channel_shuffle_forward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent x = mqb_input_extent(context, 0);
    int64_t group = mqb_attr_i(context->node, "group", 1);
    channel_shuffle_pixels(grain->images * x.pixels, group, x.c / group, grain->in[0], grain->out, false);
}

static void channel_shuffle_backward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    struct mqb_extent x = mqb_input_extent(context, 0);
    int64_t group = mqb_attr_i(context->node, "group", 1);
    if (grain->din[0])
        channel_shuffle_pixels(grain->images * x.pixels, x.c / group, group, grain->dout, grain->din[0], grain->accumulate[0]);
}

const struct mqb_op mqb_op_channel_shuffle = {
    .name = "ChannelShuffle",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = channel_shuffle_infer,
    .forward = channel_shuffle_forward,
    .backward = channel_shuffle_backward,
};
