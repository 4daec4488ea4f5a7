/*
 * lower_move.c - operators that move codes and change none: slice, pad, concat, flatten, channel shuffle. All but the shuffle
 * become runs of consecutive codes. Where the output has parameters of its own, codes pass through a table on the way.
 */
#include "quant/program.h"

#include <string.h>

struct run_list {
    struct mqb_irun *runs;
    int32_t num, capacity;
};

/* Appends one code; codes that follow each other join. */
static mqb_status run_append(struct run_list *list, int32_t input, int64_t from, int64_t to, struct mqb_error *error)
{
    struct mqb_irun *last = list->num > 0 ? &list->runs[list->num - 1] : NULL;
    if (last && last->input == input && last->to + last->size == to && (input < 0 || last->from + last->size == from)) {
        last->size++;
        return MQB_OK;
    }
    if (list->num == list->capacity) {
        int32_t wanted = list->capacity ? list->capacity * 2 : 64;
        struct mqb_irun *larger = mqb_allocate_array((size_t)wanted, sizeof(*larger));
        if (!larger)
            return mqb_fail(error, MQB_ERR_MEMORY, "no memory for %d runs of codes", (int)wanted);
        if (list->num > 0)
            memcpy(larger, list->runs, (size_t)list->num * sizeof(*larger));
        mqb_deallocate(list->runs);
        list->runs = larger;
        list->capacity = wanted;
    }
    list->runs[list->num++] = (struct mqb_irun){input, (int32_t)from, (int32_t)to, 1};
    return MQB_OK;
}

/* Where output code (h, w, c) comes from; input -1: padding. */
struct source {
    int32_t input;
    int64_t from;
};

struct mover {
    const struct mqb_node *node;
    const struct mqb_program *program;
    const struct mqb_iop *op;
    const struct mqb_itensor *x; /* first input */
    int64_t begin[3], step[3];   /* h, w, c: slice starts or leading pads */
};

static int64_t position(const struct mqb_itensor *t, int64_t h, int64_t w, int64_t c)
{
    return (h * t->w + w) * t->c + c;
}

static struct source from_slice(const struct mover *m, int64_t h, int64_t w, int64_t c)
{
    return (struct source){
        0, position(m->x, m->begin[0] + h * m->step[0], m->begin[1] + w * m->step[1], m->begin[2] + c * m->step[2])};
}

static struct source from_pad(const struct mover *m, int64_t h, int64_t w, int64_t c)
{
    int64_t ih = h - m->begin[0], iw = w - m->begin[1], ic = c - m->begin[2];
    bool inside = ih >= 0 && ih < m->x->h && iw >= 0 && iw < m->x->w && ic >= 0 && ic < m->x->c;
    return inside ? (struct source){0, position(m->x, ih, iw, ic)} : (struct source){-1, 0};
}

static struct source from_concat(const struct mover *m, int64_t h, int64_t w, int64_t c)
{
    int32_t input = 0;
    const struct mqb_itensor *t = m->x;
    while (c >= t->c) {
        c -= t->c;
        input++;
        t = &m->program->tensors[m->op->in[input]];
    }
    return (struct source){input, position(t, h, w, c)};
}

/* Output code c of [C H W] from pixels of channels. */
static struct source from_flatten(const struct mover *m, int64_t h, int64_t w, int64_t c)
{
    int64_t pixels = (int64_t)m->x->h * m->x->w;
    (void)h;
    (void)w;
    return (struct source){0, c % pixels * m->x->c + c / pixels};
}

static mqb_status lower_runs(const struct mover *m, struct mqb_iop *op,
                             struct source (*source)(const struct mover *, int64_t, int64_t, int64_t), struct mqb_error *error)
{
    const struct mqb_itensor *y = &m->program->tensors[op->out];
    struct run_list list = {NULL, 0, 0};
    mqb_status status = MQB_OK;
    int64_t to = 0;
    for (int64_t h = 0; h < y->h; h++)
        for (int64_t w = 0; w < y->w; w++)
            for (int64_t c = 0; c < y->c && status == MQB_OK; c++, to++) {
                struct source s = source(m, h, w, c);
                status = run_append(&list, s.input, s.from, to, error);
            }
    op->runs = list.runs;
    op->num_runs = list.num;
    return status;
}

static mqb_status lower_shuffle(const struct mover *m, struct mqb_iop *op, struct mqb_error *error)
{
    int64_t group = mqb_attr_i(m->node, "group", 1), columns = m->x->c / group;
    op->kind = MQB_IOP_SHUFFLE;
    op->permutation = mqb_allocate_array((size_t)m->x->c, sizeof(*op->permutation));
    if (!op->permutation)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for layer '%s'", m->node->name);
    for (int64_t row = 0; row < group; row++)
        for (int64_t column = 0; column < columns; column++)
            op->permutation[column * group + row] = (int32_t)(row * columns + column);
    return MQB_OK;
}

/* ONNX's dimensions C, H, W to the order h, w, c in memory; rank 2 has C alone. */
static void read_list(const struct mqb_node *node, const char *name, int32_t rank, int64_t otherwise, int64_t by_memory[3])
{
    static const int32_t dimension[3] = {2, 3, 1};
    for (int i = 0; i < 3; i++)
        by_memory[i] = dimension[i] < rank ? mqb_attr_li(node, name, dimension[i], otherwise) : otherwise;
}

mqb_status mqb_lower_own_params(const struct mqb_program *program, const struct mqb_node *node, struct mqb_iop *op,
                                struct mqb_error *error)
{
    const struct mqb_itensor *y = &program->tensors[op->out];
    uint8_t *table = mqb_allocate((size_t)op->num_in * 256);
    bool all = true;
    if (!table)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for layer '%s'", node->name);
    for (int32_t i = 0; i < op->num_in; i++) {
        bool identity = true;
        mqb_status status = mqb_lower_rescale_table(program, node, &program->tensors[op->in[i]], y, y->info.qmin, y->info.qmax,
                                                    table + 256 * i, &identity, error);
        if (status != MQB_OK) {
            mqb_deallocate(table);
            return status;
        }
        all = all && identity;
    }
    if (all)
        mqb_deallocate(table);
    else
        op->table = table;
    return MQB_OK;
}

/* Inputs of a Concat without a point of its own must agree. */
static mqb_status check_concat(const struct mqb_program *program, const struct mqb_node *node, const struct mqb_iop *op,
                               struct mqb_error *error)
{
    const struct mqb_program_tensor *first = &program->tensors[op->in[0]].info;
    for (int32_t i = 1; i < op->num_in; i++) {
        const struct mqb_program_tensor *other = &program->tensors[op->in[i]].info;
        if (other->scale != first->scale || other->zero_point != first->zero_point || other->qmin != first->qmin ||
            other->qmax != first->qmax)
            return mqb_lower_refuse(node, error,
                                    "its output has no quantization point and its inputs '%s' and '%s' have different "
                                    "scales",
                                    first->name, other->name);
    }
    return MQB_OK;
}

mqb_status mqb_lower_move(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error)
{
    struct mqb_program *program = lowering->program;
    const char *name = node->op->name;
    const struct mqb_frozen *frozen = mqb_deploy_find(lowering->deploy, node->output);
    int32_t in[MQB_MAX_INPUTS], out;
    struct mqb_iop *op;
    bool done;
    mqb_status status = mqb_lower_behind_mean(lowering, node, &done, error);
    if (status != MQB_OK || done)
        return status;
    for (int32_t i = 0; i < node->num_inputs && status == MQB_OK; i++)
        status = mqb_lower_input(lowering, node, i, &in[i], error);
    if (status == MQB_OK)
        status = mqb_lower_tensor(lowering, node, node->output, frozen, in[0], &out, error);
    if (status == MQB_OK)
        status = mqb_lower_op(lowering, node, MQB_IOP_MOVE, &op, error);
    if (status != MQB_OK)
        return status;
    op->num_in = node->num_inputs;
    memcpy(op->in, in, (size_t)node->num_inputs * sizeof(*in));
    op->out = out;
    const struct mqb_itensor *x = &program->tensors[in[0]];
    int32_t rank = lowering->graph->values[node->inputs[0]].rank;
    struct mover m = {.node = node, .program = program, .op = op, .x = x, .step = {1, 1, 1}};
    status = frozen ? mqb_lower_own_params(program, node, op, error) : check_concat(program, node, op, error);
    if (status != MQB_OK)
        return status;
    if (strcmp(name, "ChannelShuffle") == 0)
        return lower_shuffle(&m, op, error);
    if (strcmp(name, "Flatten") == 0)
        return lower_runs(&m, op, from_flatten, error);
    if (strcmp(name, "Concat") == 0)
        return lower_runs(&m, op, from_concat, error);
    if (strcmp(name, "Slice") == 0) {
        read_list(node, "starts", rank, 0, m.begin);
        read_list(node, "steps", rank, 1, m.step);
        return lower_runs(&m, op, from_slice, error);
    }
    read_list(node, "pads_begin", rank, 0, m.begin);
    int32_t code = mqb_quantize_value(&program->contract, (float)mqb_attr_f(node, "value", 0), x->info.scale,
                                      x->info.zero_point, x->info.qmin, x->info.qmax);
    op->pad = (uint8_t)(code + x->offset);
    if (op->table)
        op->pad = op->table[op->pad];
    return lower_runs(&m, op, from_pad, error);
}
