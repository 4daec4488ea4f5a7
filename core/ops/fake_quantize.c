/*
 * fake_quantize.c - FakeQuantize: a quantization point, served by the quantizer of node->point. Without a point, or with the
 * point off, the identity. Activations are a pointwise operator, each block a slice; weights run once a step, cut into slices
 * that do not depend on the number of threads.
 */
#include "ops/ops.h"
#include "ops/point.h"

#include <mqbench/backend.h>
#include <mqbench/numeric.h>

#include <math.h>
#include <string.h>

#define CHUNK 1024 /* floats on the stack */

/* For weights. */
struct fake_quantize {
    double *sums;    /* [pieces or channels][MQB_QUANTIZER_MAX_SUMS at most] */
    float *gradient; /* of the whole tensor: quantizers write, we add */
};

static const struct mqb_point *fake_quantize_point(const struct mqb_op_context *context)
{
    return context->node->point;
}

/* The quantizer's instance, or NULL if the node is the identity now. */
static const struct mqb_point *fake_quantize_active(const struct mqb_op_context *context)
{
    const struct mqb_point *point = context->node->point;
    return point && point->mode == MQB_POINT_ON ? point : NULL;
}

static mqb_status fake_quantize_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                      struct mqb_error *error)
{
    const struct mqb_value *x = mqb_node_input(graph, node, 0);
    if (x && !x->batched)
        return mqb_infer_output(output, x->rank, x->dims, false, error);
    return mqb_infer_same(graph, node, output, error);
}

static const struct mqb_value *fake_quantize_value(const struct mqb_op_context *context)
{
    return &context->graph->values[context->node->output];
}

/* Weights: all pieces, in elements and number. Per channel a piece is whole channels. */
struct fake_quantize_cut {
    int64_t item_size; /* elements of one slice, or 1 */
    int64_t items, items_per_piece, num_pieces;
};

static struct fake_quantize_cut fake_quantize_cut(const struct mqb_value *value, bool per_channel)
{
    struct fake_quantize_cut cut;
    int64_t size = mqb_value_size(value);
    cut.items = per_channel ? value->dims[0] : size;
    cut.item_size = size / cut.items;
    cut.num_pieces = mqb_fixed_pieces(cut.items, cut.item_size, &cut.items_per_piece);
    return cut;
}

static void fake_quantize_destroy(struct mqb_op_context *context)
{
    struct fake_quantize *state = context->state;
    if (!state)
        return;
    mqb_deallocate(state->sums);
    mqb_deallocate(state->gradient);
    mqb_deallocate(state);
    context->state = NULL;
}

static mqb_status fake_quantize_create(struct mqb_op_context *context, size_t *scratch_size, struct mqb_error *error)
{
    const struct mqb_value *value = fake_quantize_value(context);
    const struct mqb_point *point = fake_quantize_point(context);
    (void)scratch_size;
    if (value->batched) {
        if (point && (point->quantizer->flags & MQB_QUANTIZER_WHOLE_INPUT))
            return mqb_fail(
                error, MQB_ERR_UNSUPPORTED,
                "algorithm '%s' wants to see whole activations before it quantizes '%s', which this version does not "
                "offer; choose another algorithm for activations",
                point->algorithm ? point->algorithm : "", point->name ? point->name : value->name);
        if (point && point->scheme.per_channel)
            return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                            "activation '%s' has a scheme per channel; activations are quantized per tensor",
                            point->name ? point->name : value->name);
        return MQB_OK;
    }
    struct fake_quantize *state = mqb_allocate(sizeof(*state));
    if (!state)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for its state");
    context->state = state;
    if (!context->gradients)
        return MQB_OK;
    int64_t pieces = fake_quantize_cut(value, false).num_pieces;
    size_t slices = (size_t)(pieces > value->dims[0] ? pieces : value->dims[0]);
    state->sums = mqb_allocate_array(slices, MQB_QUANTIZER_MAX_SUMS * sizeof(double));
    state->gradient = mqb_allocate_array((size_t)mqb_value_size(value), sizeof(float));
    if (!state->sums || !state->gradient)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the gradient of '%s'", value->name);
    return MQB_OK;
}

/* An affine quantizer's codes, for convolutions on integers. Without them those run on floats. */
static void fake_quantize_grid(struct mqb_point *point)
{
    const struct mqb_quantizer *quantizer = point->quantizer;
    struct mqb_qparams qparams = {.struct_size = sizeof(qparams)};
    if (!(quantizer->flags & MQB_QUANTIZER_AFFINE) || !quantizer->qparams ||
        quantizer->qparams(point->self, &qparams, NULL) != MQB_OK || qparams.num_levels > 0 || qparams.num_channels < 1)
        return;
    point->grid = (struct mqb_code_grid){qparams.num_channels, qparams.scale, qparams.zero_point, qparams.qmin, qparams.qmax};
}

static mqb_status fake_quantize_prepare(struct mqb_op_context *context, struct mqb_error *error)
{
    struct mqb_point *point = context->node->point;
    const struct mqb_value *value = fake_quantize_value(context);
    if (!point)
        return MQB_OK;
    point->grid.num_channels = 0;
    if (point->mode != MQB_POINT_ON)
        return MQB_OK;
    if (point->scheme.per_channel && !value->batched && point->scheme.num_channels != value->dims[0])
        return mqb_fail(error, MQB_ERR_ARGUMENT, "weight '%s' has %d output channels, but its scheme has %d scales",
                        point->name ? point->name : value->name, (int)value->dims[0], (int)point->scheme.num_channels);
    if (!point->quantizer->prepare) {
        fake_quantize_grid(point);
        return MQB_OK;
    }
    struct mqb_tensor_view view;
    memset(&view, 0, sizeof(view));
    view.struct_size = sizeof(view);
    view.rank = value->rank;
    if (value->batched) {
        struct mqb_extent extent = mqb_value_extent(value);
        view.dims[0] = context->batch;
        view.dims[1] = value->rank == 4 ? extent.h : extent.c;
        view.dims[2] = value->rank == 4 ? extent.w : 0;
        view.dims[3] = value->rank == 4 ? extent.c : 0;
        view.num_elements = context->batch * extent.size;
    } else {
        memcpy(view.dims, value->dims, (size_t)value->rank * sizeof(view.dims[0]));
        view.num_elements = mqb_value_size(value);
        view.data = context->fixed[0];
    }
    mqb_status status = point->quantizer->prepare(point->self, &view, context->training, error);
    if (status == MQB_OK)
        fake_quantize_grid(point);
    return status;
}

/* ---- ties ---- */

/* Whether values halfway between two codes go elsewhere than to even. */
static bool fake_quantize_breaks_ties(const struct mqb_point *point)
{
    const struct mqb_scheme *scheme = &point->scheme;
    return scheme->pot_scale && (scheme->rounding == MQB_ROUND_RHU || scheme->rounding == MQB_ROUND_RHA) &&
           point->grid.num_channels == 1;
}

/* Values halfway between two codes, moved by one unit in the last place to the code where the target sends them: with a scale
 * that is a power of two x / s is exact, so they are found, and stay moved in the quantizer. */
static void fake_quantize_move_ties(const struct mqb_point *point, int64_t size, const float *x, float *moved)
{
    float inverse = 1.0f / point->grid.scale[0];
    uint32_t up = point->scheme.rounding == MQB_ROUND_RHU ? UINT32_MAX : 1; /* what is added below zero */
    for (int64_t i = 0; i < size; i++) {
        float v = x[i] * inverse;
        uint32_t bits, tie = fabsf(v - mqb_rne_small(v)) == 0.5f;
        memcpy(&bits, &x[i], sizeof(bits));
        bits += tie * (bits >> 31 ? up : 1);
        memcpy(&moved[i], &bits, sizeof(bits));
    }
}

static void fake_quantize_forward_moved(const struct mqb_point *point, struct mqb_slice slice)
{
    float moved[CHUNK];
    const float *x = slice.x;
    int64_t size = slice.size;
    slice.x = moved;
    for (int64_t at = 0; at < size; at += CHUNK) {
        slice.size = size - at < CHUNK ? size - at : CHUNK;
        fake_quantize_move_ties(point, slice.size, x + at, moved);
        point->quantizer->forward(point->self, &slice);
        slice.y += slice.size;
        slice.offset += (uint64_t)slice.size;
    }
}

/* ---- activations ---- */

static struct mqb_slice fake_quantize_slice(const struct mqb_op_block *block)
{
    struct mqb_slice slice;
    memset(&slice, 0, sizeof(slice));
    slice.struct_size = sizeof(slice);
    slice.size = block->rows * block->channels;
    slice.offset = (uint64_t)(block->first_row * block->channels);
    slice.x = block->in[0];
    return slice;
}

static void fake_quantize_forward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    const struct mqb_point *point = fake_quantize_active(context);
    if (!point) {
        mqb_copy_or_add(block->out, block->in[0], block->rows * block->channels, false);
        return;
    }
    struct mqb_slice slice = fake_quantize_slice(block);
    slice.y = block->out;
    if (fake_quantize_breaks_ties(point))
        fake_quantize_forward_moved(point, slice);
    else
        point->quantizer->forward(point->self, &slice);
}

static bool fake_quantize_forward_codes(const struct mqb_op_context *context, const struct mqb_op_block *block, uint8_t *codes)
{
    const struct mqb_point *point = fake_quantize_active(context);
    if (!point || fake_quantize_breaks_ties(point) ||
        !MQB_HAS_FIELD(point->quantizer, struct mqb_quantizer, forward_codes) || !point->quantizer->forward_codes)
        return false;
    struct mqb_slice slice = fake_quantize_slice(block);
    return point->quantizer->forward_codes(point->self, &slice, codes);
}

static void fake_quantize_backward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    const struct mqb_point *point = fake_quantize_active(context);
    if (!point) {
        if (block->din[0])
            mqb_copy_or_add(block->din[0], block->dout, block->rows * block->channels, false);
        return;
    }
    double unwanted_sums[MQB_QUANTIZER_MAX_SUMS] = {0};
    struct mqb_slice slice = fake_quantize_slice(block);
    slice.dy = block->dout;
    slice.dx = block->din[0];
    slice.sums = block->sums ? block->sums : unwanted_sums;
    bool breaks_ties = fake_quantize_breaks_ties(point);
    if (slice.dx && !breaks_ties) {
        point->quantizer->backward(point->self, &slice);
        return;
    }
    /* If nobody wants dx, the quantizer still learns. */
    float unwanted[CHUNK], moved[CHUNK], *dx = slice.dx;
    const float *x = slice.x;
    int64_t size = slice.size;
    for (int64_t at = 0; at < size; at += CHUNK) {
        slice.size = size - at < CHUNK ? size - at : CHUNK;
        slice.x = breaks_ties ? moved : x + at;
        slice.dx = dx ? dx + at : unwanted;
        if (breaks_ties)
            fake_quantize_move_ties(point, slice.size, x + at, moved);
        point->quantizer->backward(point->self, &slice);
        slice.dy += slice.size;
        slice.offset += (uint64_t)slice.size;
    }
}

/* Does not depend on the mode: points are switched on and off within the life of a plan. */
static size_t fake_quantize_backward_reduce_size(const struct mqb_op_context *context)
{
    const struct mqb_point *point = fake_quantize_point(context);
    return point ? point->quantizer->sums_per_channel : 0;
}

static void fake_quantize_backward_finish(struct mqb_op_context *context, const double *sums, float *const *dfixed)
{
    const struct mqb_point *point = fake_quantize_active(context);
    (void)dfixed;
    if (point && point->quantizer->reduce)
        point->quantizer->reduce(point->self, sums);
}

/* ---- weights ---- */

struct fake_quantize_task {
    const struct mqb_point *point;
    struct fake_quantize_cut cut;
    const float *x, *dy;
    float *y, *dx;
    double *sums;
};

static void fake_quantize_piece(void *argument, int index, int worker)
{
    const struct fake_quantize_task *task = argument;
    const struct mqb_quantizer *quantizer = task->point->quantizer;
    bool per_channel = task->point->scheme.per_channel;
    int64_t begin = index * task->cut.items_per_piece, end = begin + task->cut.items_per_piece;
    (void)worker;
    if (end > task->cut.items)
        end = task->cut.items;
    int64_t items = per_channel ? 1 : end - begin; /* of one slice */
    for (int64_t item = begin; item < end; item += items) {
        int64_t offset = item * task->cut.item_size, row = per_channel ? item : index;
        struct mqb_slice slice;
        memset(&slice, 0, sizeof(slice));
        slice.struct_size = sizeof(slice);
        slice.channel = per_channel ? (int32_t)item : 0;
        slice.size = items * task->cut.item_size;
        slice.offset = (uint64_t)offset;
        slice.x = task->x + offset;
        if (task->dy) {
            slice.dy = task->dy + offset;
            slice.dx = task->dx + offset;
            slice.sums = task->sums + row * quantizer->sums_per_channel;
            quantizer->backward(task->point->self, &slice);
        } else {
            slice.y = task->y + offset;
            quantizer->forward(task->point->self, &slice);
        }
    }
}

static mqb_status fake_quantize_forward_fixed(struct mqb_op_context *context, float *out, struct mqb_error *error)
{
    const struct mqb_value *value = fake_quantize_value(context);
    struct fake_quantize_task task = {.point = fake_quantize_active(context), .x = context->fixed[0], .y = out};
    (void)error;
    if (!task.point) {
        mqb_copy_or_add(out, context->fixed[0], mqb_value_size(value), false);
        return MQB_OK;
    }
    task.cut = fake_quantize_cut(value, task.point->scheme.per_channel);
    mqb_fixed_run(context->pool, task.cut.num_pieces, fake_quantize_piece, &task);
    return MQB_OK;
}

static void fake_quantize_backward_fixed(struct mqb_op_context *context, const float *dout, float *const *din)
{
    const struct mqb_value *value = fake_quantize_value(context);
    const struct fake_quantize *state = context->state;
    struct fake_quantize_task task = {.point = fake_quantize_active(context), .x = context->fixed[0], .dy = dout};
    if (!task.point) {
        if (din[0])
            mqb_copy_or_add(din[0], dout, mqb_value_size(value), true);
        return;
    }
    const struct mqb_quantizer *quantizer = task.point->quantizer;
    bool per_channel = task.point->scheme.per_channel;
    task.cut = fake_quantize_cut(value, per_channel);
    task.dx = state->gradient;
    task.sums = state->sums;
    int64_t slices = per_channel ? task.cut.items : task.cut.num_pieces;
    memset(task.sums, 0, (size_t)slices * quantizer->sums_per_channel * sizeof(double));
    mqb_fixed_run(context->pool, task.cut.num_pieces, fake_quantize_piece, &task);
    if (!per_channel)
        for (int64_t i = 1; i < slices; i++)
            for (uint32_t k = 0; k < quantizer->sums_per_channel; k++)
                task.sums[k] += task.sums[i * quantizer->sums_per_channel + k];
    if (quantizer->reduce)
        quantizer->reduce(task.point->self, task.sums);
    if (MQB_HAS_FIELD(quantizer, struct mqb_quantizer, complete) && quantizer->complete)
        quantizer->complete(task.point->self, task.sums, state->gradient);
    if (din[0])
        mqb_copy_or_add(din[0], state->gradient, mqb_value_size(value), true);
}

const struct mqb_op mqb_op_fake_quantize = {
    .name = "FakeQuantize",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = fake_quantize_infer,
    .create = fake_quantize_create,
    .destroy = fake_quantize_destroy,
    .prepare = fake_quantize_prepare,
    .forward_block = fake_quantize_forward_block,
    .forward_codes = fake_quantize_forward_codes,
    .backward_block = fake_quantize_backward_block,
    .backward_reduce_size = fake_quantize_backward_reduce_size,
    .backward_finish = fake_quantize_backward_finish,
    .forward_fixed = fake_quantize_forward_fixed,
    .backward_fixed = fake_quantize_backward_fixed,
};
