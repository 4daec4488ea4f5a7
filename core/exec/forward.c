/* forward.c - one batch forwards. */
#include "exec/times.h"

#include <string.h>

void mqb_chain_forward(struct mqb_exec *exec, const struct step *step, int grain, int worker)
{
    int64_t rows = mqb_grain_images(exec, grain) * step->rows_per_image;
    int64_t first_row = (int64_t)grain * exec->grain_images * step->rows_per_image;
    float *scratch = (float *)(void *)(exec->scratch + (size_t)worker * exec->scratch_size);
    size_t block_size = chain_block_floats(step);
    struct source in = mqb_grain_source(exec, step->in, grain, worker), sides[MQB_MAX_CHAIN];
    float *out = grain_value(exec, step->out, grain, worker);
    bool coded = mqb_begin_coded(exec, step->out, grain), side[MQB_MAX_CHAIN];
    for (int k = 0; k < step->num_nodes; k++) {
        const struct mqb_node *node = exec->nodes[step->nodes[k]].context.node;
        mqb_value_id id = node->num_inputs > 1 ? node->inputs[1 - step->running[k]] : MQB_NONE;
        side[k] = id != MQB_NONE && exec->values[id].place != PLACE_FIXED;
        if (side[k])
            sides[k] = mqb_grain_source(exec, id, grain, worker);
    }
    for (int64_t row = 0; row < rows; row += step->block_rows) {
        struct mqb_op_block block = {
            .rows = rows - row < step->block_rows ? rows - row : step->block_rows,
            .channels = step->channels,
            .first_row = first_row + row,
        };
        int64_t offset = row * step->channels, size = block.rows * step->channels;
        block.in[0] = mqb_source_floats(&in, offset, size, scratch);
        block.out = coded ? scratch : out + offset;
        for (int k = 0; k < step->num_nodes; k++) {
            const struct mqb_op_context *context = &exec->nodes[step->nodes[k]].context;
            block.in[1] = side[k] ? mqb_source_floats(&sides[k], offset, size, scratch + block_size) : NULL;
            if (coded && k == step->num_nodes - 1)
                coded = mqb_add_coded(exec, step->out, grain, worker, offset, &block);
            else
                context->node->op->forward_block(context, &block);
            block.in[0] = block.out;
        }
    }
}

/* ---- grain operators ---- */

/* A grain operator's view of its operands; din and dout too if `backward`. */
static void fill_grain(const struct mqb_exec *exec, const struct step *step, int grain, int worker, bool backward,
                       struct mqb_op_grain *view)
{
    const struct node_state *state = &exec->nodes[step->nodes[0]];
    const struct mqb_node *node = state->context.node;
    *view = (struct mqb_op_grain){
        .images = mqb_grain_images(exec, grain),
        .index = grain,
        .first_image = (int64_t)grain * exec->grain_images,
        .scratch = exec->scratch + (size_t)worker * exec->scratch_size,
    };
    if (backward)
        view->dout = grain_gradient(exec, step->out, grain);
    else
        view->out = grain_value(exec, step->out, grain, worker);
    for (int i = 0; i < node->num_inputs; i++) {
        mqb_value_id in = node->inputs[i];
        if (in == MQB_NONE)
            continue;
        struct source source = mqb_grain_source(exec, in, grain, worker);
        view->in[i] = source.floats;
        if (i == 0 && node->op->takes_codes)
            view->codes = source.codes;
        if (!backward)
            continue;
        if (state->partial[i] != NULL)
            view->din[i] = state->partial[i] + (size_t)grain * (size_t)exec->values[in].size;
        else if (step->writes_input[i] != 0)
            view->din[i] = grain_gradient(exec, in, grain);
        view->accumulate[i] = step->writes_input[i] == 2;
    }
}

/* The view of one image of a grain, with floats of what is codes. All inputs are batched. */
static void take_image(const struct mqb_exec *exec, const struct step *step, int grain, int worker, int image,
                       const struct mqb_op_grain *whole, struct mqb_op_grain *view)
{
    const struct mqb_node *node = exec->nodes[step->nodes[0]].context.node;
    float *decoded = (float *)(void *)((uint8_t *)whole->scratch + exec->decoded_at);
    int64_t out_offset = image * exec->values[step->out].size;
    *view = *whole;
    view->images = 1;
    view->first_image += image;
    view->out = whole->out != NULL ? whole->out + out_offset : NULL;
    view->dout = whole->dout != NULL ? whole->dout + out_offset : NULL;
    for (int i = 0; i < node->num_inputs; i++) {
        int64_t size = exec->values[node->inputs[i]].size;
        struct source source = mqb_grain_source(exec, node->inputs[i], grain, worker);
        view->in[i] = mqb_source_floats(&source, image * size, size, decoded);
        view->din[i] = whole->din[i] != NULL ? whole->din[i] + image * size : NULL;
        if (source.codes.data != NULL)
            decoded += size;
    }
}

void mqb_run_grain(const struct mqb_exec *exec, const struct step *step, int grain, int worker, bool backward)
{
    const struct mqb_op_context *context = &exec->nodes[step->nodes[0]].context;
    const struct mqb_node *node = context->node;
    void (*run)(const struct mqb_op_context *, const struct mqb_op_grain *) = backward ? node->op->backward : node->op->forward;
    struct mqb_op_grain whole, view;
    bool decode = false;
    fill_grain(exec, step, grain, worker, backward, &whole);
    for (int i = 0; i < node->num_inputs; i++)
        decode |= node->inputs[i] != MQB_NONE && whole.in[i] == NULL && !(i == 0 && node->op->takes_codes);
    if (!decode) {
        run(context, &whole);
        return;
    }
    for (int image = 0; image < whole.images; image++) {
        take_image(exec, step, grain, worker, image, &whole, &view);
        run(context, &view);
    }
}

void mqb_run_forward_action(struct mqb_exec *exec, const struct action *action, int grain, int worker)
{
    const struct step *step = &exec->steps[action->step];
    if (step->banded) {
        mqb_run_bands(exec, step, grain, worker);
        return;
    }
    if (action->kind == ACTION_RUN && step->chain) {
        mqb_chain_forward(exec, step, grain, worker);
        return;
    }
    if (action->kind == ACTION_RUN) {
        mqb_run_grain(exec, step, grain, worker, false);
        return;
    }
    struct node_state *state = &exec->nodes[step->nodes[0]];
    double *sums = state->sums + (size_t)grain * state->sums_size;
    struct mqb_op_grain view;
    fill_grain(exec, step, grain, worker, false, &view);
    memset(sums, 0, state->sums_size * sizeof *sums);
    state->context.node->op->reduce(&state->context, &view, sums);
}

struct stage_run {
    struct mqb_exec *exec;
    const struct stage *stage;
};

static void run_grain(void *context, int grain, int worker)
{
    const struct stage_run *run = context;
    if (run->exec->times != NULL) {
        mqb_times_grain(run->exec, run->stage, grain, worker, false);
        return;
    }
    for (int i = 0; i < run->stage->num_actions; i++)
        mqb_run_forward_action(run->exec, &run->exec->actions[run->stage->first_action + i], grain, worker);
}

mqb_status mqb_exec_fixed(struct mqb_exec *exec, struct mqb_error *error)
{
    const struct mqb_graph *graph = exec->config.graph;
    for (int i = 0; i < graph->num_ordered; i++) {
        struct node_state *state = &exec->nodes[graph->order[i]];
        const struct mqb_node *node = state->context.node;
        if (graph->values[node->output].batched || state->late != 0)
            continue;
        double start = times_start(exec);
        mqb_status status = node->op->prepare != NULL ? node->op->prepare(&state->context, error) : MQB_OK;
        if (status == MQB_OK)
            status = node->op->forward_fixed(&state->context, exec->values[node->output].whole, error);
        times_stop_alone(exec, graph->order[i], start);
        if (status != MQB_OK)
            return mqb_fail_prefix(error, status, "layer \"%s\" (%s)", node->name, node->op->name);
    }
    return MQB_OK;
}

struct prepare_run {
    struct mqb_exec *exec;
    bool pointwise;
};

static void prepare_node(void *context, int index, int worker)
{
    const struct prepare_run *run = context;
    struct mqb_exec *exec = run->exec;
    const struct mqb_graph *graph = exec->config.graph;
    struct node_state *state = &exec->nodes[graph->order[index]];
    if (state->pointwise != run->pointwise)
        return;
    exec->errors[index].reserved = MQB_OK;
    state->context.batch = exec->n;
    if (!graph->values[state->context.node->output].batched || state->context.node->op->prepare == NULL)
        return;
    if (state->late != 0 || state->idle) /* prepared at its barrier, or never run */
        return;
    exec->errors[index].struct_size = sizeof exec->errors[index];
    double start = times_start(exec);
    exec->errors[index].reserved = (uint32_t)state->context.node->op->prepare(&state->context, &exec->errors[index]);
    times_stop(exec, times_node_row(exec, graph->order[index]), worker, start);
}

static mqb_status prepare_nodes(struct mqb_exec *exec, struct mqb_error *error)
{
    const struct mqb_graph *graph = exec->config.graph;
    exec->prepared = 0;
    mqb_status status = mqb_exec_fixed(exec, error);
    if (status != MQB_OK)
        return status;
    for (int pass = 0; pass < 2; pass++) { /* quantizers first: convolutions look at what they round to */
        struct prepare_run prepare = {exec, pass == 0};
        mqb_pool_run(exec->config.pool, graph->num_ordered, prepare_node, &prepare);
    }
    for (int i = 0; i < graph->num_ordered; i++)
        if (exec->errors[i].reserved != MQB_OK)
            return mqb_fail(error, (mqb_status)exec->errors[i].reserved, "layer \"%s\": %s", graph->nodes[graph->order[i]].name,
                            exec->errors[i].text);
    exec->prepared = exec->n;
    return MQB_OK;
}

mqb_status mqb_exec_forward(struct mqb_exec *exec, const float *x, int n, struct mqb_error *error)
{
    if (n < 1 || n > exec->config.batch || (exec->config.training && n != exec->config.batch))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "a batch of %d images was given to a plan for %d", n, exec->config.batch);
    exec->x = x;
    exec->n = n;
    mqb_status status = exec->config.frozen && exec->prepared == n ? MQB_OK : prepare_nodes(exec, error);
    if (status != MQB_OK)
        return status;
    mqb_start_coded(exec);
    int grains = (n + exec->grain_images - 1) / exec->grain_images;
    for (int s = 0; s < exec->num_forward_stages; s++) {
        const struct stage *stage = &exec->stages[s];
        struct stage_run run = {exec, stage};
        if (mqb_bands_share(exec, grains))
            mqb_run_shared(exec, stage, grains);
        else
            mqb_pool_run(exec->config.pool, grains, run_grain, &run);
        for (int i = 0; i < stage->num_finish; i++) {
            struct node_state *state = &exec->nodes[stage->finish[i]];
            double start = times_start(exec);
            mqb_tree_sum_f64(state->sums, state->sums, grains, state->sums_size, state->sums_size);
            status = state->context.node->op->finish(&state->context, state->sums, error);
            times_stop_alone(exec, stage->finish[i], start);
            if (status != MQB_OK)
                return mqb_fail_prefix(error, status, "layer \"%s\"", state->context.node->name);
        }
        status = mqb_run_forward_barrier(exec, stage, error);
        if (status != MQB_OK)
            return status;
    }
    return MQB_OK;
}

const float *mqb_exec_value(const struct mqb_exec *exec, mqb_value_id value)
{
    if (value < 0 || value >= exec->config.graph->num_values)
        return NULL;
    const struct value_state *v = &exec->values[value];
    if (v->place == PLACE_INPUT)
        return exec->x;
    return v->place == PLACE_WHOLE || v->place == PLACE_FIXED ? v->whole : NULL;
}
