/* onnx_fold.c - operators on constants, computed at import: what exporters write around shapes and weights. */
#include "graph/onnx_import.h"

#include <string.h>

typedef mqb_status (*fold_function)(struct mqb_importer *im, struct mqb_onnx_tensor *result);

static mqb_status fold_fail(struct mqb_importer *im, const char *what)
{
    return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                    "its inputs are constants, but %s; export the network with constants folded", what);
}

/* The decoded constant at `index`, or NULL. */
static const struct mqb_onnx_tensor *in(const struct mqb_importer *im, int32_t index)
{
    return index < im->num_in && im->in[index] ? &im->in[index]->tensor : NULL;
}

static void copy_elements(struct mqb_onnx_tensor *to, int64_t at, const struct mqb_onnx_tensor *from, int64_t first,
                          int64_t count)
{
    if (count > 0 && to->is_int) {
        memcpy(to->ints + at, from->ints + first, (size_t)count * sizeof(int64_t));
    } else if (count > 0) {
        memcpy(to->reals + at, from->reals + first, (size_t)count * sizeof(float));
    }
}

static mqb_status new_tensor(struct mqb_importer *im, struct mqb_onnx_tensor *result, bool is_int, int32_t rank,
                             const int64_t *dims)
{
    int64_t count = 1;
    for (int32_t i = 0; i < rank; i++) {
        if (dims[i] < 0 || (dims[i] > 0 && count > MQB_MAX_ELEMENTS / dims[i])) {
            return fold_fail(im, "the result has an impossible shape");
        }
        count *= dims[i];
    }
    mqb_status status = mqb_onnx_charge(im, count, is_int ? sizeof(int64_t) : sizeof(float));
    return status == MQB_OK ? mqb_onnx_tensor_init(result, is_int, rank, dims, im->error) : status;
}

static mqb_status fold_constant(struct mqb_importer *im, struct mqb_onnx_tensor *result)
{
    const Onnx__AttributeProto *attr = mqb_onnx_attr(im, "value");
    if (attr && attr->t) {
        mqb_status status = mqb_onnx_tensor_decode(attr->t, result, im->error);
        return status == MQB_OK ? mqb_onnx_charge(im, result->count, result->is_int ? sizeof(int64_t) : sizeof(float)) : status;
    }
    const Onnx__AttributeProto *real = mqb_onnx_attr(im, "value_float"), *reals = mqb_onnx_attr(im, "value_floats");
    const Onnx__AttributeProto *integer = mqb_onnx_attr(im, "value_int"), *integers = mqb_onnx_attr(im, "value_ints");
    bool is_list = reals || integers;
    int64_t count = reals ? (int64_t)reals->n_floats : integers ? (int64_t)integers->n_ints : 1;
    if (!real && !reals && !integer && !integers) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                        "a constant without a tensor, a number or a list of numbers is not supported");
    }
    mqb_status status = new_tensor(im, result, integer || integers, is_list ? 1 : 0, &count);
    for (int64_t i = 0; status == MQB_OK && i < count; i++) {
        if (result->is_int) {
            int64_t number = integer ? integer->i : integers->ints[i];
            result->ints[i] = number == MQB_ONNX_BATCH ? number + 1 : number;
        } else {
            result->reals[i] = real ? real->f : reals->floats[i];
        }
    }
    return status;
}

static mqb_status fold_cast(struct mqb_importer *im, struct mqb_onnx_tensor *result)
{
    const struct mqb_onnx_tensor *x = in(im, 0);
    int64_t to;
    mqb_status status = mqb_onnx_attr_int(im, "to", 0, &to);
    if (status != MQB_OK) {
        return status;
    }
    bool to_int = to == ONNX__TENSOR_PROTO__DATA_TYPE__INT64 || to == ONNX__TENSOR_PROTO__DATA_TYPE__INT32;
    bool to_real = to == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT || to == ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE ||
                   to == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16;
    if (!to_int && !to_real) {
        return fold_fail(im, "a cast to that element type is not computed at import");
    }
    status = new_tensor(im, result, to_int, x->rank, x->dims);
    for (int64_t i = 0; status == MQB_OK && i < x->count; i++) {
        if (to_int && x->is_int) {
            result->ints[i] = x->ints[i];
        } else if (to_int && x->reals[i] > -9e18f && x->reals[i] < 9e18f) {
            result->ints[i] = (int64_t)x->reals[i];
        } else if (to_real && !x->is_int) {
            result->reals[i] = x->reals[i];
        } else if (to_real && x->ints[i] != MQB_ONNX_BATCH) {
            result->reals[i] = (float)x->ints[i];
        } else {
            return fold_fail(im, "one of them does not fit the type that they are cast to");
        }
    }
    return status;
}

static mqb_status fold_shape(struct mqb_importer *im, struct mqb_onnx_tensor *result)
{
    const struct mqb_onnx_tensor *x = in(im, 0);
    int64_t count = x->rank;
    mqb_status status = new_tensor(im, result, true, 1, &count);
    for (int32_t i = 0; status == MQB_OK && i < x->rank; i++) {
        result->ints[i] = x->dims[i];
    }
    return status;
}

static mqb_status fold_gather(struct mqb_importer *im, struct mqb_onnx_tensor *result)
{
    const struct mqb_onnx_tensor *x = in(im, 0), *index = in(im, 1);
    int64_t axis;
    mqb_status status = mqb_onnx_attr_int(im, "axis", 0, &axis);
    if (status != MQB_OK) {
        return status;
    }
    if (!index || x->rank != 1 || (axis != 0 && axis != -1) || index->rank > 1 || (!index->is_int && index->count > 0)) {
        return fold_fail(im, "only elements of a list are gathered at import");
    }
    status = new_tensor(im, result, x->is_int, index->rank, index->dims);
    for (int64_t i = 0; status == MQB_OK && i < index->count; i++) {
        int64_t k = index->ints[i];
        if (k < -x->count || k >= x->count) {
            return fold_fail(im, "an index lies outside of the list");
        }
        copy_elements(result, i, x, k < 0 ? k + x->count : k, 1);
    }
    return status;
}

/* A copy of x under another shape. */
static mqb_status reshaped(struct mqb_importer *im, struct mqb_onnx_tensor *result, int32_t rank, const int64_t *dims)
{
    const struct mqb_onnx_tensor *x = in(im, 0);
    mqb_status status = new_tensor(im, result, x->is_int, rank, dims);
    if (status == MQB_OK && result->count != x->count) {
        return fold_fail(im, "the new shape has another number of elements");
    }
    if (status == MQB_OK) {
        copy_elements(result, 0, x, 0, x->count);
    }
    return status;
}

/* Marks the named axes, counted in a tensor of `rank` dimensions. */
static mqb_status mark_axes(struct mqb_importer *im, int32_t rank, bool *marked, int64_t *num_marked)
{
    const int64_t *axes;
    mqb_status status = mqb_onnx_in_ints(im, 1, "axes", &axes, num_marked);
    for (int64_t i = 0; status == MQB_OK && i < *num_marked; i++) {
        int64_t axis = axes[i] < 0 && axes[i] >= -rank ? axes[i] + rank : axes[i];
        if (axis < 0 || axis >= rank || marked[axis]) {
            return fold_fail(im, "an axis is out of range or named twice");
        }
        marked[axis] = true;
    }
    return status;
}

static mqb_status fold_unsqueeze(struct mqb_importer *im, struct mqb_onnx_tensor *result)
{
    const struct mqb_onnx_tensor *x = in(im, 0);
    const int64_t *axes;
    int64_t count, dims[MQB_MAX_RANK];
    bool added[MQB_MAX_RANK] = {false};
    mqb_status status = mqb_onnx_in_ints(im, 1, "axes", &axes, &count);
    if (status != MQB_OK) {
        return status;
    }
    if (count > MQB_MAX_RANK - x->rank) {
        return fold_fail(im, "the result has too many dimensions");
    }
    int32_t rank = x->rank + (int32_t)count;
    status = mark_axes(im, rank, added, &count);
    for (int32_t i = 0, k = 0; status == MQB_OK && i < rank; i++) {
        dims[i] = added[i] ? 1 : x->dims[k++];
    }
    return status == MQB_OK ? reshaped(im, result, rank, dims) : status;
}

static mqb_status fold_squeeze(struct mqb_importer *im, struct mqb_onnx_tensor *result)
{
    const struct mqb_onnx_tensor *x = in(im, 0);
    int64_t count, dims[MQB_MAX_RANK];
    bool removed[MQB_MAX_RANK] = {false};
    mqb_status status = mark_axes(im, x->rank, removed, &count);
    if (status != MQB_OK) {
        return status;
    }
    int32_t rank = 0;
    for (int32_t i = 0; i < x->rank; i++) {
        bool drop = count > 0 ? removed[i] : x->dims[i] == 1;
        if (!drop) {
            dims[rank++] = x->dims[i];
        } else if (x->dims[i] != 1) {
            return fold_fail(im, "a dimension that is not 1 is to be squeezed");
        }
    }
    return reshaped(im, result, rank, dims);
}

static mqb_status fold_reshape(struct mqb_importer *im, struct mqb_onnx_tensor *result)
{
    const struct mqb_onnx_tensor *x = in(im, 0);
    const int64_t *target;
    int64_t count, known = 1, dims[MQB_MAX_RANK];
    int32_t open = -1;
    mqb_status status = mqb_onnx_in_ints(im, 1, "shape", &target, &count);
    if (status != MQB_OK) {
        return status;
    }
    if (count > MQB_MAX_RANK) {
        return fold_fail(im, "the result has too many dimensions");
    }
    for (int32_t i = 0; i < count; i++) {
        dims[i] = target[i] == 0 && i < x->rank ? x->dims[i] : target[i];
        if (dims[i] == -1 && open < 0) {
            open = i;
            dims[i] = 1;
        }
        if (dims[i] < 1 || dims[i] > MQB_MAX_ELEMENTS / known) {
            return fold_fail(im, "the new shape has an impossible dimension");
        }
        known *= dims[i];
    }
    if (open >= 0) {
        dims[open] = x->count / known;
    }
    return reshaped(im, result, (int32_t)count, dims);
}

static mqb_status fold_concat(struct mqb_importer *im, struct mqb_onnx_tensor *result)
{
    int64_t axis, total = 0;
    mqb_status status = mqb_onnx_attr_int(im, "axis", 0, &axis);
    if (status != MQB_OK) {
        return status;
    }
    for (int32_t i = 0; i < im->num_in; i++) {
        const struct mqb_onnx_tensor *part = in(im, i);
        if (!part || part->rank != 1 || part->is_int != in(im, 0)->is_int || (axis != 0 && axis != -1)) {
            return fold_fail(im, "only lists are joined at import");
        }
        total += part->count;
    }
    status = new_tensor(im, result, in(im, 0)->is_int, 1, &total);
    for (int32_t i = 0; status == MQB_OK && i < im->num_in; i++) {
        copy_elements(result, result->count - total, in(im, i), 0, in(im, i)->count);
        total -= in(im, i)->count;
    }
    return status;
}

static mqb_status fold_slice(struct mqb_importer *im, struct mqb_onnx_tensor *result)
{
    const struct mqb_onnx_tensor *x = in(im, 0);
    const int64_t *starts, *ends, *steps;
    int64_t num_starts, num_ends, num_steps;
    mqb_status status = mqb_onnx_in_ints(im, 1, "starts", &starts, &num_starts);
    if (status == MQB_OK) {
        status = mqb_onnx_in_ints(im, 2, "ends", &ends, &num_ends);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_in_ints(im, 4, NULL, &steps, &num_steps);
    }
    if (status != MQB_OK) {
        return status;
    }
    if (x->rank != 1 || num_starts != 1 || num_ends != 1 || (steps && (num_steps != 1 || steps[0] != 1))) {
        return fold_fail(im, "only a run of elements of a list is sliced at import");
    }
    int64_t start = starts[0] < -x->count  ? 0
                    : starts[0] < 0        ? starts[0] + x->count
                    : starts[0] > x->count ? x->count
                                           : starts[0];
    int64_t end = ends[0] < -x->count ? 0 : ends[0] < 0 ? ends[0] + x->count : ends[0] > x->count ? x->count : ends[0];
    int64_t count = end > start ? end - start : 0;
    status = new_tensor(im, result, x->is_int, 1, &count);
    if (status == MQB_OK) {
        copy_elements(result, 0, x, start, count);
    }
    return status;
}

static mqb_status fold_transpose(struct mqb_importer *im, struct mqb_onnx_tensor *result)
{
    const struct mqb_onnx_tensor *x = in(im, 0);
    const int64_t *perm;
    int64_t count, dims[MQB_MAX_RANK] = {0}, stride[MQB_MAX_RANK] = {0}, from[MQB_MAX_RANK] = {0};
    bool seen[MQB_MAX_RANK] = {false};
    mqb_status status = mqb_onnx_attr_ints(im, "perm", &perm, &count);
    if (status != MQB_OK) {
        return status;
    }
    for (int32_t i = 0; i < x->rank; i++) {
        from[i] = count ? (i < count ? perm[i] : -1) : x->rank - 1 - i;
        if (count > x->rank || from[i] < 0 || from[i] >= x->rank || seen[from[i]]) {
            return fold_fail(im, "'perm' is not a permutation of their dimensions");
        }
        seen[from[i]] = true;
        dims[i] = x->dims[from[i]];
    }
    int64_t step = 1;
    for (int32_t i = x->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= x->dims[i];
    }
    status = new_tensor(im, result, x->is_int, x->rank, dims);
    for (int64_t k = 0; status == MQB_OK && k < x->count; k++) {
        int64_t rest = k, source = 0;
        for (int32_t i = x->rank - 1; i >= 0; i--) {
            source += rest % dims[i] * stride[from[i]];
            rest /= dims[i];
        }
        copy_elements(result, k, x, source, 1);
    }
    return status;
}

static bool int_operation(char op, int64_t a, int64_t b, int64_t *result)
{
    if (a == MQB_ONNX_BATCH || b == MQB_ONNX_BATCH) { /* the batch size is not known: only x * 1 and x / 1 are */
        *result = a;
        return (op == '*' || op == '/') && b == 1;
    }
    switch (op) {
    case '+':
        return !__builtin_add_overflow(a, b, result) && *result != MQB_ONNX_BATCH;
    case '-':
        return !__builtin_sub_overflow(a, b, result) && *result != MQB_ONNX_BATCH;
    case '*':
        return !__builtin_mul_overflow(a, b, result) && *result != MQB_ONNX_BATCH;
    default:
        *result = b != 0 ? a / b : 0; /* a is never the least int64 here, so a / -1 fits */
        return b != 0;
    }
}

static mqb_status fold_arithmetic(struct mqb_importer *im, struct mqb_onnx_tensor *result)
{
    const struct mqb_onnx_tensor *a = in(im, 0), *b = in(im, 1);
    char op = im->op_type[0] == 'A' ? '+' : im->op_type[0] == 'S' ? '-' : im->op_type[0] == 'M' ? '*' : '/';
    if (!b || a->is_int != b->is_int) {
        return fold_fail(im, "they are not of one type");
    }
    bool same = a->rank == b->rank;
    for (int32_t i = 0; same && i < a->rank; i++) {
        same = a->dims[i] == b->dims[i];
    }
    if (!same && b->count != 1 && a->count != 1) {
        return fold_fail(im, "their shapes differ");
    }
    const struct mqb_onnx_tensor *shape = a->count > b->count || (a->count == b->count && a->rank >= b->rank) ? a : b;
    mqb_status status = new_tensor(im, result, a->is_int, shape->rank, shape->dims);
    for (int64_t i = 0; status == MQB_OK && i < result->count; i++) {
        int64_t ia = a->count == 1 ? 0 : i, ib = b->count == 1 ? 0 : i;
        if (a->is_int) {
            if (!int_operation(op, a->ints[ia], b->ints[ib], &result->ints[i])) {
                return fold_fail(im, "the result depends on the batch size or does not fit");
            }
        } else {
            float x = a->reals[ia], y = b->reals[ib];
            result->reals[i] = op == '+' ? x + y : op == '-' ? x - y : op == '*' ? x * y : x / y;
        }
    }
    return status;
}

static const struct {
    const char *op_type;
    fold_function fold;
} folds[] = {
    {"Constant", fold_constant},   {"Cast", fold_cast},           {"Shape", fold_shape},     {"Gather", fold_gather},
    {"Unsqueeze", fold_unsqueeze}, {"Squeeze", fold_squeeze},     {"Reshape", fold_reshape}, {"Concat", fold_concat},
    {"Slice", fold_slice},         {"Transpose", fold_transpose}, {"Add", fold_arithmetic},  {"Sub", fold_arithmetic},
    {"Mul", fold_arithmetic},      {"Div", fold_arithmetic},
};

static fold_function find_fold(const char *op_type)
{
    for (size_t i = 0; i < sizeof(folds) / sizeof(folds[0]); i++) {
        if (strcmp(folds[i].op_type, op_type) == 0) {
            return folds[i].fold;
        }
    }
    return NULL;
}

bool mqb_onnx_can_fold(const char *op_type)
{
    return find_fold(op_type) != NULL;
}

mqb_status mqb_onnx_fold(struct mqb_importer *im, struct mqb_onnx_tensor *result)
{
    memset(result, 0, sizeof(*result));
    for (int32_t i = 0; i < im->num_in; i++) {
        mqb_status status = im->in[i] ? mqb_onnx_symbol_decode(im, im->in[i]) : MQB_OK;
        if (status != MQB_OK) {
            return status;
        }
    }
    if (strcmp(im->op_type, "Constant") != 0 && !in(im, 0)) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "input 0 is missing");
    }
    mqb_status status = find_fold(im->op_type)(im, result);
    if (status != MQB_OK) {
        mqb_onnx_tensor_deinit(result);
    }
    return status;
}
