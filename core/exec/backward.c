/* backward.c - one batch backwards: the stages in reverse, and what runs at the barriers between and behind them. */
#include "exec/times.h"

#include <string.h>

/* The gradient at the output of a chain's first node, between the reduction and its application. */
static float *head_gradient(const struct mqb_exec *exec, const struct step *step, int grain)
{
    if (step->writes_in == 1)
        return grain_gradient(exec, step->in, grain);
    return (float *)(void *)(exec->arena + (size_t)grain * exec->arena_size + step->head_gradient);
}

struct chain_pass {
    const struct step *step;
    struct source in, sides[MQB_MAX_CHAIN];
    const float *dout;
    float *dsides[MQB_MAX_CHAIN];
    double *sums[MQB_MAX_CHAIN];
    float *inputs[MQB_MAX_CHAIN]; /* blocks: recomputed inputs of nodes 1.., for codes that of node 0 */
    float *side_blocks[MQB_MAX_CHAIN]; /* for codes; NULL: no side */
    float *dblock;
};

static void start_chain(const struct mqb_exec *exec, const struct step *step, int grain, int worker, struct chain_pass *pass)
{
    *pass = (struct chain_pass){.step = step};
    pass->in = mqb_grain_source(exec, step->in, grain, worker);
    pass->dout = grain_gradient(exec, step->out, grain);
    size_t block_size = chain_block_floats(step);
    float *scratch = (float *)(void *)(exec->scratch + (size_t)worker * exec->scratch_size);
    pass->dblock = scratch + (size_t)step->num_nodes * block_size;
    float *next = pass->dblock;
    for (int k = 0; k < step->num_nodes; k++) {
        const struct node_state *state = &exec->nodes[step->nodes[k]];
        const struct mqb_node *node = state->context.node;
        mqb_value_id side = node->num_inputs > 1 ? node->inputs[1 - step->running[k]] : MQB_NONE;
        if (side != MQB_NONE && exec->values[side].place != PLACE_FIXED) {
            pass->sides[k] = mqb_grain_source(exec, side, grain, worker);
            pass->side_blocks[k] = next += block_size;
            if (step->writes_side[k] != 0)
                pass->dsides[k] = grain_gradient(exec, side, grain);
        }
        if (state->backward_sums_size > 0) {
            pass->sums[k] = state->backward_sums + (size_t)grain * state->backward_sums_size;
            memset(pass->sums[k], 0, state->backward_sums_size * sizeof(double));
        }
        pass->inputs[k] = scratch + (size_t)k * block_size;
    }
}

/* Backwards through the nodes last..first of a chain for one block; the gradient at the input of `first` goes to `target`. */
static void chain_block(const struct mqb_exec *exec, const struct chain_pass *pass, const struct mqb_op_block *origin, int64_t offset,
                        int first, float *target)
{
    const struct step *step = pass->step;
    struct mqb_op_block block = *origin;
    int64_t size = block.rows * block.channels;
    const float *in = mqb_source_floats(&pass->in, offset, size, pass->inputs[0]), *sides[MQB_MAX_CHAIN];
    for (int k = 0; k < step->num_nodes; k++)
        sides[k] = pass->side_blocks[k] != NULL ? mqb_source_floats(&pass->sides[k], offset, size, pass->side_blocks[k]) : NULL;
    block.in[0] = in;
    for (int k = 0; k + 1 < step->num_nodes; k++) { /* recompute, in cache, what forward did not keep */
        const struct mqb_op_context *context = &exec->nodes[step->nodes[k]].context;
        block.in[1] = sides[k];
        block.out = pass->inputs[k + 1];
        context->node->op->forward_block(context, &block);
        block.in[0] = block.out;
    }
    block.out = NULL;
    block.dout = pass->dout + offset;
    for (int k = step->num_nodes - 1; k >= first; k--) {
        const struct mqb_op_context *context = &exec->nodes[step->nodes[k]].context;
        block.in[0] = k == 0 ? in : pass->inputs[k];
        block.in[1] = sides[k];
        block.din[0] = k == first ? target : pass->dblock;
        block.din[1] = pass->dsides[k] != NULL ? pass->dsides[k] + offset : NULL;
        block.accumulate_side = step->writes_side[k] == 2;
        block.sums = pass->sums[k];
        context->node->op->backward_block(context, &block);
        block.dout = block.din[0];
    }
}

static void chain_backward(struct mqb_exec *exec, const struct action *action, int grain, int worker)
{
    const struct step *step = &exec->steps[action->step];
    const struct mqb_op_context *head = &exec->nodes[step->nodes[0]].context;
    int64_t rows = mqb_grain_images(exec, grain) * step->rows_per_image;
    int64_t first_row = (int64_t)grain * exec->grain_images * step->rows_per_image;
    float *din = step->writes_in != 0 ? grain_gradient(exec, step->in, grain) : NULL;
    float *dhead = action->kind != ACTION_BACKWARD ? head_gradient(exec, step, grain) : NULL;
    struct chain_pass pass;
    if (action->kind != ACTION_BACKWARD_APPLY)
        start_chain(exec, step, grain, worker, &pass);
    const float *in = grain_value(exec, step->in, grain, worker);
    float *spare = (float *)(void *)(exec->scratch + (size_t)worker * exec->scratch_size);
    for (int64_t row = 0; row < rows; row += step->block_rows) {
        int64_t offset = row * step->channels;
        struct mqb_op_block block = {
            .rows = rows - row < step->block_rows ? rows - row : step->block_rows,
            .channels = step->channels,
            .first_row = first_row + row,
        };
        int64_t size = block.rows * step->channels;
        if (action->kind == ACTION_BACKWARD) {
            bool add = step->writes_in == 2;
            float *target = add || din == NULL ? pass.dblock : din + offset;
            chain_block(exec, &pass, &block, offset, 0, target);
            if (add)
                add_floats(din + offset, target, size);
        } else if (action->kind == ACTION_BACKWARD_REDUCE) {
            const float *dout = pass.dout + offset;
            if (step->num_nodes > 1) {
                chain_block(exec, &pass, &block, offset, 1, dhead + offset);
                dout = dhead + offset;
            } else if (dhead != pass.dout) {
                memcpy(dhead + offset, dout, (size_t)size * sizeof *dout);
            }
            block.in[0] = in + offset;
            block.dout = dout;
            block.sums = pass.sums[0];
            head->node->op->backward_reduce_block(head, &block);
        } else {
            bool add = step->writes_in == 2;
            block.in[0] = in + offset;
            block.dout = dhead + offset;
            block.din[0] = add || din == NULL ? spare : din + offset;
            head->node->op->backward_block(head, &block);
            if (add)
                add_floats(din + offset, spare, size);
        }
    }
}

void mqb_run_backward_action(struct mqb_exec *exec, const struct action *action, int grain, int worker)
{
    const struct step *step = &exec->steps[action->step];
    if (step->chain) {
        chain_backward(exec, action, grain, worker);
        return;
    }
    mqb_run_grain(exec, step, grain, worker, true);
}

struct stage_run {
    struct mqb_exec *exec;
    const struct stage *stage;
};

static void run_grain(void *context, int grain, int worker)
{
    const struct stage_run *run = context;
    if (run->exec->times != NULL) {
        mqb_times_grain(run->exec, run->stage, grain, worker, true);
        return;
    }
    for (int i = 0; i < run->stage->num_actions; i++)
        mqb_run_backward_action(run->exec, &run->exec->actions[run->stage->first_action + i], grain, worker);
}

mqb_status mqb_exec_backward(struct mqb_exec *exec, struct mqb_error *error)
{
    const struct mqb_graph *graph = exec->config.graph;
    if (!exec->config.gradients || exec->n != exec->config.batch)
        return mqb_fail(error, MQB_ERR_INTERNAL, "backward was asked of a plan that has no gradients or no whole batch");
    for (int i = 0; i < graph->num_values; i++)
        if (exec->values[i].gradient_place == PLACE_FIXED)
            memset(exec->values[i].gradient, 0, (size_t)exec->values[i].size * sizeof(float));
    for (int s = exec->num_forward_stages; s < exec->num_stages; s++) {
        const struct stage *stage = &exec->stages[s];
        struct stage_run run = {exec, stage};
        mqb_pool_run(exec->config.pool, exec->num_grains, run_grain, &run);
        mqb_run_backward_barrier(exec, stage);
    }
    return MQB_OK;
}

float *mqb_exec_gradient(struct mqb_exec *exec, mqb_value_id value)
{
    if (value < 0 || value >= exec->config.graph->num_values)
        return NULL;
    return exec->values[value].gradient_place == PLACE_FIXED ? exec->values[value].gradient : NULL;
}
