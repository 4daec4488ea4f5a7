/* slice.c - Slice: starts, ends (exclusive, cut at the size) and steps by dimension; the batch stays whole. */
#include "ops/ops.h"

#include <inttypes.h>
#include <string.h>

/* By memory order: h, w, c. */
struct slice {
    int64_t start[3], step[3], count[3];
};

static mqb_status slice_read(const struct mqb_node *node, const struct mqb_value *x, struct slice *slice,
                             struct mqb_error *error)
{
    static const int to_memory[4] = {-1, 2, 0, 1}; /* N, C, H, W */
    if (mqb_attr_li(node, "starts", 0, 0) != 0 || mqb_attr_li(node, "steps", 0, 1) != 1)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "it cuts the batch (starts[0] = %" PRId64 ", steps[0] = %" PRId64 "), which must stay whole",
                        mqb_attr_li(node, "starts", 0, 0), mqb_attr_li(node, "steps", 0, 1));
    for (int i = 0; i < 3; i++) {
        slice->start[i] = 0;
        slice->step[i] = slice->count[i] = 1;
    }
    for (int32_t i = 1; i < x->rank; i++) {
        int64_t start = mqb_attr_li(node, "starts", i, 0), end = mqb_attr_li(node, "ends", i, x->dims[i]);
        int64_t step = mqb_attr_li(node, "steps", i, 1);
        if (end > x->dims[i])
            end = x->dims[i];
        if (start < 0 || step < 1 || end <= start)
            return mqb_fail(error, MQB_ERR_ARGUMENT,
                            "dimension %" PRId32 " of input '%s' (size %" PRId64 ") is cut from %" PRId64 " to %" PRId64
                            " by %" PRId64 "; expected 0 <= start < end and a positive step",
                            i, x->name, x->dims[i], start, end, step);
        int k = to_memory[i];
        slice->start[k] = start;
        slice->step[k] = step;
        slice->count[k] = (end - start - 1) / step + 1;
    }
    return MQB_OK;
}

static mqb_status slice_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                              struct mqb_error *error)
{
    const struct mqb_value *x;
    struct slice slice;
    mqb_status status = mqb_infer_batched(graph, node, 0, false, &x, error);
    if (!status)
        status = slice_read(node, x, &slice, error);
    if (status)
        return status;
    int64_t dims[4] = {MQB_BATCH, slice.count[2], slice.count[0], slice.count[1]};
    return mqb_infer_output(output, x->rank, dims, true, error);
}

static mqb_status slice_create(struct mqb_op_context *context, size_t *scratch_size, struct mqb_error *error)
{
    struct slice *slice = mqb_allocate(sizeof(*slice));
    (void)scratch_size;
    if (!slice)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for its bounds");
    context->state = slice;
    return slice_read(context->node, mqb_node_input(context->graph, context->node, 0), slice, error);
}

static void slice_destroy(struct mqb_op_context *context)
{
    mqb_deallocate(context->state);
    context->state = NULL;
}

static int64_t slice_pixel(const struct slice *slice, struct mqb_extent x, int64_t p, int64_t q)
{
    return ((slice->start[0] + p * slice->step[0]) * x.w + slice->start[1] + q * slice->step[1]) * x.c + slice->start[2];
}

static void slice_forward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    const struct slice *slice = context->state;
    struct mqb_extent x = mqb_input_extent(context, 0), y = mqb_output_extent(context);
    float *out = grain->out;
    for (int64_t n = 0; n < grain->images; n++)
        for (int64_t i = 0; i < y.pixels; i++, out += y.c) {
            const float *in = grain->in[0] + n * x.size + slice_pixel(slice, x, i / y.w, i % y.w);
            for (int64_t c = 0; c < y.c; c++)
                out[c] = in[c * slice->step[2]];
        }
}

static void slice_backward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    const struct slice *slice = context->state;
    struct mqb_extent x = mqb_input_extent(context, 0), y = mqb_output_extent(context);
    const float *dout = grain->dout;
    if (!grain->din[0])
        return;
    if (!grain->accumulate[0])
        memset(grain->din[0], 0, (size_t)(grain->images * x.size) * sizeof(float));
    for (int64_t n = 0; n < grain->images; n++)
        for (int64_t i = 0; i < y.pixels; i++, dout += y.c) {
            float *din = grain->din[0] + n * x.size + slice_pixel(slice, x, i / y.w, i % y.w);
            for (int64_t c = 0; c < y.c; c++)
                din[c * slice->step[2]] += dout[c];
        }
}

const struct mqb_op mqb_op_slice = {
    .name = "Slice",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = slice_infer,
    .create = slice_create,
    .destroy = slice_destroy,
    .forward = slice_forward,
    .backward = slice_backward,
};
