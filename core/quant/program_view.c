/*
 * program_view.c - the integer program described for plugins. It says what the lowering decided; it decides nothing.
 */
#include "quant/program_view.h"

#include "quant/program.h"

#include <string.h>

/* What a view owns beside its three arrays: the runs of its moves, in one piece. */
struct view {
    struct mqb_steps steps; /* first: the view is handed out as this */
    struct mqb_step_tensor *tensors;
    struct mqb_step *list;
    struct mqb_step_run *runs;
};

static void describe_tensor(const struct mqb_itensor *t, struct mqb_step_tensor *out)
{
    *out = (struct mqb_step_tensor){.struct_size = sizeof(*out),
                                    .h = t->h,
                                    .w = t->w,
                                    .c = t->c,
                                    .name = t->info.name,
                                    .scale = t->info.scale,
                                    .zero_point = t->info.zero_point,
                                    .qmin = t->info.qmin,
                                    .qmax = t->info.qmax};
}

static bool reads(const struct mqb_node *node, mqb_value_id value)
{
    for (int32_t i = 0; i < node->num_inputs; i++)
        if (node->inputs[i] == value)
            return true;
    return false;
}

/* The operator's node: back from its result, over fused clamps, to the first that reads one of the operator's inputs. */
static mqb_node_id find_node(const struct mqb_program *program, const struct mqb_graph *graph, const struct mqb_iop *op)
{
    mqb_value_id value = op->out == MQB_NONE ? graph->output : program->tensors[op->out].info.value;
    mqb_value_id from = op->num_in > 0 ? program->tensors[op->in[0]].info.value : MQB_NONE;
    for (int32_t i = 0; i < graph->num_nodes && value != MQB_NONE; i++) {
        mqb_node_id id = graph->values[value].producer;
        if (id == MQB_NONE || reads(&graph->nodes[id], from))
            return id;
        value = graph->nodes[id].inputs[0];
    }
    return MQB_NONE;
}

static struct mqb_conv_shape pool_shape(const struct mqb_program *program, const struct mqb_iop *op)
{
    const struct mqb_itensor *x = &program->tensors[op->in[0]], *y = &program->tensors[op->out];
    const struct mqb_window *window = &op->window;
    return (struct mqb_conv_shape){
        .struct_size = sizeof(struct mqb_conv_shape),
        .c = x->c,
        .h = x->h,
        .w = x->w,
        .k = y->c,
        .p = y->h,
        .q = y->w,
        .r = (int32_t)window->r,
        .s = (int32_t)window->s,
        .stride_h = (int32_t)window->stride_h,
        .stride_w = (int32_t)window->stride_w,
        .pad_top = (int32_t)window->pad_top,
        .pad_left = (int32_t)window->pad_left,
        .pad_bottom = (int32_t)window->pad_bottom,
        .pad_right = (int32_t)window->pad_right,
        .dilation_h = (int32_t)window->dilation_h,
        .dilation_w = (int32_t)window->dilation_w,
        .groups = x->c,
    };
}

/* Float islands, and layers that take more over than a clamp, are described as OTHER. */
static bool touches_reals(const struct mqb_program *program, const struct mqb_iop *op)
{
    bool reals = op->out != MQB_NONE && program->tensors[op->out].real;
    for (int32_t i = 0; i < op->num_in; i++)
        reals = reals || program->tensors[op->in[i]].real;
    return reals || (op->conv && op->conv->adds);
}

/* The codes that a table can give, over the codes that its operands can have. */
static void table_range(const struct mqb_program *program, const struct mqb_iop *op, struct mqb_step *step)
{
    const struct mqb_itensor *a = &program->tensors[op->in[0]], *b = &program->tensors[op->in[op->num_in - 1]],
                             *y = &program->tensors[op->out];
    bool binary = op->kind == MQB_IOP_BINARY;
    int32_t first = binary ? b->info.qmin + b->offset : 0, last = binary ? b->info.qmax + b->offset : 0;
    step->low = y->info.qmax;
    step->high = y->info.qmin;
    for (int32_t i = a->info.qmin + a->offset; i <= a->info.qmax + a->offset; i++)
        for (int32_t j = first; j <= last; j++) {
            int32_t code = (int32_t)op->table[binary ? i * 256 + j : i] - y->offset;
            step->low = code < step->low ? code : step->low;
            step->high = code > step->high ? code : step->high;
        }
}

static void describe_move(const struct mqb_program *program, const struct mqb_iop *op, struct mqb_step *step,
                          struct mqb_step_run *runs)
{
    for (int32_t i = 0; i < op->num_runs; i++)
        runs[i] = (struct mqb_step_run){op->runs[i].input, op->runs[i].from, op->runs[i].to, op->runs[i].size};
    step->runs = runs;
    step->num_runs = op->num_runs;
    step->pad = (int32_t)op->pad - program->tensors[op->out].offset;
}

static void describe_op(const struct mqb_program *program, const struct mqb_graph *graph, const struct mqb_iop *op,
                        struct mqb_step *step, struct mqb_step_run *runs)
{
    const struct mqb_node *node;
    *step = (struct mqb_step){.struct_size = sizeof(*step),
                              .kind = MQB_STEP_OTHER,
                              .node = find_node(program, graph, op),
                              .num_inputs = op->num_in,
                              .inputs = op->in,
                              .output = op->out,
                              .low = INT32_MIN,
                              .high = INT32_MAX};
    if (step->node == MQB_NONE || op->num_in < 1)
        return;
    if (touches_reals(program, op))
        return;
    node = &graph->nodes[step->node];
    if (op->out != MQB_NONE) {
        step->low = program->tensors[op->out].info.qmin;
        step->high = program->tensors[op->out].info.qmax;
    }
    switch (op->kind) {
    case MQB_IOP_CONV:
        step->kind = op->conv->adds || op->conv->pairs ? MQB_STEP_OTHER : MQB_STEP_CONV;
        step->shape = op->conv->shape;
        if (op->out != MQB_NONE) {
            step->low = op->conv->rescale.low;
            step->high = op->conv->rescale.high;
        }
        return;
    case MQB_IOP_TABLE:
    case MQB_IOP_BINARY:
        step->kind = op->kind == MQB_IOP_TABLE            ? MQB_STEP_MAP
                     : strcmp(node->op->name, "Mul") == 0 ? MQB_STEP_MUL
                                                          : MQB_STEP_ADD;
        step->table = op->table;
        table_range(program, op, step);
        return;
    case MQB_IOP_MAX_POOL:
        step->kind = MQB_STEP_MAX_POOL;
        step->shape = pool_shape(program, op);
        return;
    case MQB_IOP_AVERAGE_POOL:
        step->kind = MQB_STEP_AVERAGE_POOL;
        step->shape = pool_shape(program, op);
        step->count_pads = mqb_attr_i(node, "count_include_pad", 0) != 0;
        return;
    case MQB_IOP_MOVE:
        step->kind = MQB_STEP_MOVE;
        describe_move(program, op, step, runs);
        return;
    case MQB_IOP_SHUFFLE:
        step->kind = MQB_STEP_SHUFFLE;
        step->permutation = op->permutation;
        return;
    default:
        return;
    }
}

mqb_status mqb_program_view_create(const struct mqb_program *program, const struct mqb_deploy *deploy,
                                   struct mqb_steps **result, struct mqb_error *error)
{
    struct view *view = mqb_allocate(sizeof(*view));
    size_t num_runs = 1;
    *result = NULL;
    for (int32_t i = 0; i < program->num_ops; i++)
        num_runs += (size_t)program->ops[i].num_runs;
    if (view) {
        view->tensors = mqb_allocate_array((size_t)program->num_tensors + 1, sizeof(*view->tensors));
        view->list = mqb_allocate_array((size_t)program->num_ops + 1, sizeof(*view->list));
        view->runs = mqb_allocate_array(num_runs, sizeof(*view->runs));
    }
    if (!view || !view->tensors || !view->list || !view->runs) {
        mqb_program_view_destroy(view ? &view->steps : NULL);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the description of an integer program");
    }
    for (int32_t i = 0; i < program->num_tensors; i++)
        describe_tensor(&program->tensors[i], &view->tensors[i]);
    struct mqb_step_run *runs = view->runs;
    for (int32_t i = 0; i < program->num_ops; i++) {
        describe_op(program, deploy->graph, &program->ops[i], &view->list[i], runs);
        runs += program->ops[i].num_runs;
    }
    view->steps = (struct mqb_steps){.struct_size = sizeof(view->steps),
                                     .num_tensors = (uint32_t)program->num_tensors,
                                     .num_steps = (uint32_t)program->num_ops,
                                     .input = program->input,
                                     .output = program->output,
                                     .tensors = view->tensors,
                                     .steps = view->list};
    *result = &view->steps;
    return MQB_OK;
}

void mqb_program_view_destroy(struct mqb_steps *steps)
{
    struct view *view = (struct view *)(void *)steps;
    if (!view)
        return;
    mqb_deallocate(view->tensors);
    mqb_deallocate(view->list);
    mqb_deallocate(view->runs);
    mqb_deallocate(view);
}
