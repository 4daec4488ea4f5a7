/* onnx_shapes.c - conversion of operators that move or cut data: Reshape, Transpose, Slice, Pad, Concat, and the means over H
 * and W. */
#include "graph/onnx_import.h"

#include <string.h>

static const struct mqb_value *value_of(const struct mqb_importer *im, mqb_value_id id)
{
    return &im->graph->values[id];
}

/* ---- Flatten, Reshape, Transpose ---- */

static mqb_status emit_flatten(struct mqb_importer *im, const char *name, mqb_value_id x)
{
    mqb_node_id node;
    mqb_status status = mqb_onnx_emit(im, "Flatten", name, NULL, &x, 1, &node);
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}

mqb_status mqb_onnx_flatten(struct mqb_importer *im)
{
    mqb_value_id x;
    int64_t axis;
    mqb_status status = mqb_onnx_in_value(im, 0, &x);
    if (status == MQB_OK) {
        status = mqb_onnx_attr_int(im, "axis", 1, &axis);
    }
    if (status != MQB_OK) {
        return status;
    }
    int32_t rank = value_of(im, x)->rank;
    if (axis != 1 && axis != 1 - rank) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "attribute 'axis' = %lld is not supported, only 1: the batch stays",
                        (long long)axis);
    }
    return rank == 2 ? mqb_onnx_pass(im) : emit_flatten(im, NULL, x);
}

/* Resolves the target of a Reshape of `elements` elements an image to [batch, dims[1], ...]; false if it is no such shape. */
static bool resolve_target(const struct mqb_importer *im, const int64_t *target, int64_t count, const struct mqb_value *x,
                           int64_t *dims)
{
    int64_t elements = mqb_value_size(x), known = 1;
    int32_t open = -1;
    if (count < 2 || count > MQB_MAX_RANK) {
        return false;
    }
    for (int32_t i = 1; i < count; i++) {
        dims[i] = target[i] == 0 && i < x->rank ? x->dims[i] : target[i];
        if (dims[i] == -1 && open < 0) {
            open = i;
            continue;
        }
        if (dims[i] < 1 || dims[i] > elements / known) {
            return false;
        }
        known *= dims[i];
    }
    dims[0] = MQB_BATCH;
    bool batch_first =
        target[0] == MQB_ONNX_BATCH || target[0] == 0 || (im->declared_batch > 0 && target[0] == im->declared_batch);
    if (open >= 0) {
        dims[open] = elements / known;
        return batch_first && elements % known == 0;
    }
    return (batch_first || target[0] == -1) && known == elements;
}

static bool same_dims(const struct mqb_value *x, const int64_t *dims, int64_t count)
{
    bool same = x->rank == count;
    for (int32_t i = 1; same && i < count; i++) {
        same = x->dims[i] == dims[i];
    }
    return same;
}

static mqb_status reshape_fail(struct mqb_importer *im, const int64_t *target, int64_t count)
{
    char text[128] = "";
    size_t used = 0;
    for (int64_t i = 0; i < count && used < sizeof(text) - 32; i++) {
        used += (size_t)(target[i] == MQB_ONNX_BATCH
                             ? snprintf(text + used, sizeof(text) - used, "%sN", i ? ", " : "")
                             : snprintf(text + used, sizeof(text) - used, "%s%lld", i ? ", " : "", (long long)target[i]));
    }
    return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                    "reshaping '%s' to [%s] is not supported; flattening to [N, -1] and channel shuffles are", im->in[0]->name,
                    text);
}

mqb_status mqb_onnx_reshape(struct mqb_importer *im)
{
    const int64_t *target;
    int64_t count, allow_zero, dims[MQB_MAX_RANK];
    struct mqb_symbol *in = im->num_in > 0 ? im->in[0] : NULL;
    mqb_value_id x;
    bool shuffled = in && in->kind == MQB_SYMBOL_SHUFFLED;
    mqb_status status = MQB_OK;
    if (shuffled) {
        x = in->value;
    } else {
        status = mqb_onnx_in_value(im, 0, &x);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_attr_int(im, "allowzero", 0, &allow_zero);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_in_ints(im, 1, "shape", &target, &count);
    }
    if (status != MQB_OK) {
        return status;
    }
    const struct mqb_value *source = value_of(im, x);
    bool empty = false; /* with allowzero, 0 is not "as before" but an empty dimension */
    for (int64_t i = 0; i < count; i++) {
        empty = empty || (allow_zero != 0 && target[i] == 0);
    }
    if (empty || !resolve_target(im, target, count, source, dims)) {
        return reshape_fail(im, target, count);
    }
    if (shuffled) {
        mqb_node_id node;
        if (!same_dims(source, dims, count)) {
            return reshape_fail(im, target, count);
        }
        status = mqb_onnx_emit(im, "ChannelShuffle", NULL, NULL, &x, 1, &node);
        if (status == MQB_OK) {
            status = mqb_node_set_int(im->graph, node, "group", in->group, im->error);
        }
        return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
    }
    if (same_dims(source, dims, count)) {
        return mqb_onnx_pass(im);
    }
    if (count == 2) {
        return emit_flatten(im, NULL, x);
    }
    /* [N][g][C/g][H][W], or [N][g][C/g][H*W]. */
    bool split = source->rank == 4 && dims[1] * dims[2] == source->dims[1] &&
                 ((count == 5 && dims[3] == source->dims[2] && dims[4] == source->dims[3]) ||
                  (count == 4 && dims[3] == source->dims[2] * source->dims[3]));
    if (!split) {
        return reshape_fail(im, target, count);
    }
    im->out->kind = MQB_SYMBOL_SPLIT;
    im->out->value = x;
    im->out->rank = (int32_t)count;
    im->out->group = dims[1];
    return MQB_OK;
}

mqb_status mqb_onnx_transpose(struct mqb_importer *im)
{
    const int64_t *perm;
    int64_t count;
    struct mqb_symbol *in = im->num_in > 0 ? im->in[0] : NULL;
    mqb_status status = mqb_onnx_attr_ints(im, "perm", &perm, &count);
    if (status != MQB_OK) {
        return status;
    }
    bool identity = count > 0, swap = count > 2;
    for (int64_t i = 0; i < count; i++) {
        identity = identity && perm[i] == i;
        swap = swap && perm[i] == (i == 1 ? 2 : i == 2 ? 1 : i);
    }
    if (in && in->kind == MQB_SYMBOL_SPLIT && swap && count == in->rank) {
        im->out->kind = MQB_SYMBOL_SHUFFLED;
        im->out->value = in->value;
        im->out->rank = in->rank;
        im->out->group = in->group;
        return MQB_OK;
    }
    mqb_value_id x;
    status = mqb_onnx_in_value(im, 0, &x);
    if (status == MQB_OK && !(identity && count == value_of(im, x)->rank)) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                        "transposing '%s' is supported only inside a channel shuffle (Reshape, Transpose 0,2,1,..., "
                        "Reshape); export the network in NCHW layout",
                        in->name);
    }
    return status == MQB_OK ? mqb_onnx_pass(im) : status;
}

/* `axes` are H and W of an image, in any order, counted from the front or the back. */
static bool are_pixels(const int64_t *axes, int64_t count)
{
    bool h = false, w = false;
    for (int64_t i = 0; i < count; i++) {
        h = h || axes[i] == 2 || axes[i] == -2;
        w = w || axes[i] == 3 || axes[i] == -1;
    }
    return count == 2 && h && w;
}

mqb_status mqb_onnx_squeeze(struct mqb_importer *im)
{
    const int64_t *axes;
    int64_t count;
    mqb_value_id x;
    mqb_status status = mqb_onnx_in_value_rank(im, 0, 4, &x);
    if (status == MQB_OK) {
        status = mqb_onnx_in_ints(im, 1, "axes", &axes, &count);
    }
    if (status != MQB_OK) {
        return status;
    }
    const struct mqb_value *value = value_of(im, x);
    if (!are_pixels(axes, count) || value->dims[2] != 1 || value->dims[3] != 1) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "squeezing '%s' is supported only over axes 2 and 3 of [N, C, 1, 1]",
                        im->in[0]->name);
    }
    return emit_flatten(im, NULL, x);
}

mqb_status mqb_onnx_reduce_mean(struct mqb_importer *im)
{
    const int64_t *axes;
    int64_t count, keep;
    mqb_value_id x;
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value_rank(im, 0, 4, &x);
    if (status == MQB_OK) {
        status = mqb_onnx_in_ints(im, 1, "axes", &axes, &count);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_attr_int(im, "keepdims", 1, &keep);
    }
    if (status != MQB_OK) {
        return status;
    }
    if (!are_pixels(axes, count)) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                        "a mean over axes other than 2 and 3 (height and width) is not supported");
    }
    if (keep != 0) {
        status = mqb_onnx_emit(im, "GlobalAveragePool", NULL, NULL, &x, 1, &node);
        return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
    }
    char *name = mqb_format("%s.pool", im->node_name), *value_name = mqb_format("%s.pool", im->out->name);
    status = name && value_name ? mqb_onnx_emit(im, "GlobalAveragePool", name, value_name, &x, 1, &node)
                                : mqb_fail(im->error, MQB_ERR_MEMORY, "no memory for a name");
    mqb_deallocate(name);
    mqb_deallocate(value_name);
    if (status == MQB_OK) {
        status = mqb_onnx_settle(im, node);
    }
    return status == MQB_OK ? emit_flatten(im, NULL, im->graph->nodes[node].output) : status;
}

/* ---- Slice, Pad, Concat ---- */

static mqb_status axis_fail(struct mqb_importer *im, int64_t axis, int32_t rank)
{
    return mqb_fail(im->error, MQB_ERR_FORMAT, "it names axis %lld of '%s', which has %d dimensions", (long long)axis,
                    im->in[0]->name, (int)rank);
}

/* One axis of a Slice, with negative numbers resolved and everything cut to [0, size]. */
static mqb_status slice_axis(struct mqb_importer *im, int64_t axis, int64_t size, int64_t start, int64_t end, int64_t step,
                             int64_t *starts, int64_t *ends, int64_t *steps)
{
    if (axis == 0) {
        bool whole = start == 0 && step == 1 &&
                     (end == MQB_ONNX_BATCH || end >= INT32_MAX || (im->declared_batch > 0 && end >= im->declared_batch));
        return whole ? MQB_OK
                     : mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "it slices the batch dimension, which must stay whole");
    }
    if (step < 1 || start == MQB_ONNX_BATCH || end == MQB_ONNX_BATCH) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "it slices axis %lld with step %lld; steps from 1 are supported",
                        (long long)axis, (long long)step);
    }
    start = start < -size ? 0 : start < 0 ? start + size : start > size ? size : start;
    end = end < -size ? 0 : end < 0 ? end + size : end > size ? size : end;
    if (end <= start) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "it keeps nothing of axis %lld of '%s', which has %lld elements",
                        (long long)axis, im->in[0]->name, (long long)size);
    }
    starts[axis] = start;
    ends[axis] = end;
    steps[axis] = step > size ? size : step;
    return MQB_OK;
}

mqb_status mqb_onnx_slice(struct mqb_importer *im)
{
    const int64_t *given_starts, *given_ends, *axes = NULL, *given_steps = NULL;
    int64_t num_starts, num_ends, num_axes = 0, num_steps = 0;
    int64_t starts[MQB_MAX_RANK] = {0}, ends[MQB_MAX_RANK], steps[MQB_MAX_RANK];
    bool form_attr = im->opset < 10;
    mqb_value_id x;
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value(im, 0, &x);
    if (status == MQB_OK) {
        status = mqb_onnx_in_ints(im, 1, form_attr ? "starts" : NULL, &given_starts, &num_starts);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_in_ints(im, 2, form_attr ? "ends" : NULL, &given_ends, &num_ends);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_in_ints(im, 3, form_attr ? "axes" : NULL, &axes, &num_axes);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_in_ints(im, 4, NULL, &given_steps, &num_steps);
    }
    if (status != MQB_OK) {
        return status;
    }
    int32_t rank = value_of(im, x)->rank;
    if (num_starts == 0 || num_starts > rank || num_ends != num_starts || (axes && num_axes != num_starts) ||
        (given_steps && num_steps != num_starts)) {
        return mqb_fail(im->error, MQB_ERR_FORMAT,
                        "it has %lld starts, %lld ends, %lld axes and %lld steps, which do not go together",
                        (long long)num_starts, (long long)num_ends, (long long)num_axes, (long long)num_steps);
    }
    for (int32_t i = 0; i < rank; i++) {
        ends[i] = value_of(im, x)->dims[i];
        steps[i] = 1;
    }
    for (int64_t k = 0; k < num_starts; k++) {
        int64_t axis = axes ? axes[k] : k;
        if (axis < -rank || axis >= rank) {
            return axis_fail(im, axis, rank);
        }
        axis = axis < 0 ? axis + rank : axis;
        status = slice_axis(im, axis, value_of(im, x)->dims[axis], given_starts[k], given_ends[k],
                            given_steps ? given_steps[k] : 1, starts, ends, steps);
        if (status != MQB_OK) {
            return status;
        }
    }
    bool whole = true;
    for (int32_t i = 1; i < rank; i++) {
        whole = whole && starts[i] == 0 && ends[i] == value_of(im, x)->dims[i] && steps[i] == 1;
    }
    if (whole) {
        return mqb_onnx_pass(im);
    }
    status = mqb_onnx_emit(im, "Slice", NULL, NULL, &x, 1, &node);
    if (status == MQB_OK) {
        status = mqb_node_set_list(im->graph, node, "starts", starts, rank, im->error);
    }
    if (status == MQB_OK) {
        status = mqb_node_set_list(im->graph, node, "ends", ends, rank, im->error);
    }
    if (status == MQB_OK) {
        status = mqb_node_set_list(im->graph, node, "steps", steps, rank, im->error);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}

/* Spreads ONNX's pads (all begins, then all ends, for the given axes) over all dimensions. */
static mqb_status read_pads(struct mqb_importer *im, int32_t rank, int64_t *begin, int64_t *end)
{
    const int64_t *pads, *axes;
    int64_t num_pads, num_axes;
    mqb_status status = mqb_onnx_in_ints(im, 1, im->opset < 11 ? "pads" : NULL, &pads, &num_pads);
    if (status == MQB_OK) {
        status = mqb_onnx_in_ints(im, 3, NULL, &axes, &num_axes);
    }
    if (status != MQB_OK) {
        return status;
    }
    int64_t count = axes ? num_axes : rank;
    if (count > rank || num_pads != 2 * count) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "it has %lld pads for %lld axes of '%s'; two an axis are expected",
                        (long long)num_pads, (long long)count, im->in[0]->name);
    }
    for (int64_t k = 0; k < count; k++) {
        int64_t axis = axes ? axes[k] : k;
        if (axis < -rank || axis >= rank) {
            return axis_fail(im, axis, rank);
        }
        axis = axis < 0 ? axis + rank : axis;
        begin[axis] = pads[k];
        end[axis] = pads[count + k];
        if (begin[axis] < 0 || end[axis] < 0 || begin[axis] > INT32_MAX || end[axis] > INT32_MAX ||
            (axis == 0 && (begin[0] || end[0]))) {
            return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                            "it pads axis %lld by %lld and %lld; pads must not be negative, and the batch stays as it is",
                            (long long)axis, (long long)begin[axis], (long long)end[axis]);
        }
    }
    return MQB_OK;
}

mqb_status mqb_onnx_pad(struct mqb_importer *im)
{
    char mode[16];
    double value;
    int64_t begin[MQB_MAX_RANK] = {0}, end[MQB_MAX_RANK] = {0};
    mqb_value_id x;
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value(im, 0, &x);
    if (status == MQB_OK) {
        status = mqb_onnx_attr_text(im, "mode", "constant", mode, sizeof(mode));
    }
    if (status == MQB_OK && strcmp(mode, "constant") != 0) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "attribute 'mode' is '%s'; only 'constant' is supported", mode);
    }
    if (status == MQB_OK) {
        status = im->opset < 11 ? mqb_onnx_attr_real(im, "value", 0.0, &value) : mqb_onnx_in_scalar(im, 2, 0.0, &value);
    }
    if (status != MQB_OK) {
        return status;
    }
    int32_t rank = value_of(im, x)->rank;
    status = read_pads(im, rank, begin, end);
    if (status != MQB_OK) {
        return status;
    }
    bool nothing = true;
    for (int32_t i = 0; i < rank; i++) {
        nothing = nothing && begin[i] == 0 && end[i] == 0;
    }
    if (nothing) {
        return mqb_onnx_pass(im);
    }
    status = mqb_onnx_emit(im, "Pad", NULL, NULL, &x, 1, &node);
    if (status == MQB_OK) {
        status = mqb_node_set_list(im->graph, node, "pads_begin", begin, rank, im->error);
    }
    if (status == MQB_OK) {
        status = mqb_node_set_list(im->graph, node, "pads_end", end, rank, im->error);
    }
    if (status == MQB_OK) {
        status = mqb_node_set_real(im->graph, node, "value", value, im->error);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}

mqb_status mqb_onnx_concat(struct mqb_importer *im)
{
    mqb_value_id inputs[MQB_MAX_INPUTS];
    int64_t axis;
    mqb_node_id node;
    mqb_status status = mqb_onnx_attr_int(im, "axis", 1, &axis);
    for (int32_t i = 0; i < im->num_in && status == MQB_OK; i++) {
        status = mqb_onnx_in_value(im, i, &inputs[i]);
    }
    if (status != MQB_OK) {
        return status;
    }
    if (im->num_in < 1) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "it has no inputs");
    }
    int32_t rank = value_of(im, inputs[0])->rank;
    if (axis != 1 && axis != 1 - rank) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "attribute 'axis' = %lld is not supported, only 1: channels",
                        (long long)axis);
    }
    if (im->num_in == 1) {
        return mqb_onnx_pass(im);
    }
    status = mqb_onnx_emit(im, "Concat", NULL, NULL, inputs, im->num_in, &node);
    if (status == MQB_OK) {
        status = mqb_node_set_int(im->graph, node, "axis", 1, im->error);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}

/* ---- Shape, Cast ---- */

/* The shape of a value is a constant, but for the batch size. */
mqb_status mqb_onnx_shape(struct mqb_importer *im)
{
    mqb_value_id x;
    int64_t start, end;
    mqb_status status = mqb_onnx_in_value(im, 0, &x);
    if (status == MQB_OK) {
        status = mqb_onnx_attr_int(im, "start", 0, &start);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_attr_int(im, "end", INT64_MAX, &end);
    }
    if (status != MQB_OK) {
        return status;
    }
    const struct mqb_value *value = value_of(im, x);
    int64_t rank = value->rank;
    start = start < -rank ? 0 : start < 0 ? start + rank : start > rank ? rank : start;
    end = end < -rank ? 0 : end < 0 ? end + rank : end > rank ? rank : end;
    int64_t count = end > start ? end - start : 0;
    status = mqb_onnx_tensor_init(&im->out->tensor, true, 1, &count, im->error);
    if (status != MQB_OK) {
        return status;
    }
    for (int64_t i = 0; i < count; i++) {
        im->out->tensor.ints[i] = value->dims[start + i] == MQB_BATCH ? MQB_ONNX_BATCH : value->dims[start + i];
    }
    im->out->kind = MQB_SYMBOL_TENSOR;
    return MQB_OK;
}

/* A result of the network stays what it is: float. */
mqb_status mqb_onnx_cast(struct mqb_importer *im)
{
    int64_t to;
    mqb_value_id x;
    mqb_status status = mqb_onnx_in_value(im, 0, &x);
    if (status == MQB_OK) {
        status = mqb_onnx_attr_int(im, "to", 0, &to);
    }
    if (status == MQB_OK && to != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                        "a cast of a result to element type %lld is not supported, only to float (1)", (long long)to);
    }
    return status == MQB_OK ? mqb_onnx_pass(im) : status;
}
