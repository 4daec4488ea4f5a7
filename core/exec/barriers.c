/*
 * barriers.c - what runs on whole tensors between two stages: forwards the late nodes behind a batch statistic, backwards the
 * sums over the grains of the gradients that the stage completes, and the fixed nodes; without statistics these run behind the last.
 */
#include "exec/times.h"

#include <string.h>

/* A statistic that does not look at the batch leaves what computes its input without a reader. */
void mqb_plan_idle(struct mqb_exec *exec)
{
    const struct mqb_graph *graph = exec->config.graph;
    if (exec->config.training)
        return;
    for (int i = 0; i < graph->num_ordered; i++) {
        mqb_node_id id = graph->order[i];
        mqb_value_id out = graph->nodes[id].output;
        exec->nodes[id].idle = graph->values[out].batched && !plan_is_kept(exec, out);
    }
    for (int i = graph->num_ordered - 1; i >= 0; i--) {
        const struct mqb_node *node = &graph->nodes[graph->order[i]];
        for (int k = node->op->statistic ? 1 : 0; k < node->num_inputs && !exec->nodes[graph->order[i]].idle; k++) {
            mqb_node_id producer = node->inputs[k] == MQB_NONE ? MQB_NONE : graph->values[node->inputs[k]].producer;
            if (producer != MQB_NONE)
                exec->nodes[producer].idle = false;
        }
    }
}

/* ---- planning ---- */

/* A node is as late as its latest unbatched input; of a statistic create_stages said when. */
static bool find_late(struct mqb_exec *exec)
{
    const struct mqb_graph *graph = exec->config.graph;
    bool any = false;
    for (int i = 0; i < graph->num_ordered; i++) {
        struct node_state *state = &exec->nodes[graph->order[i]];
        const struct mqb_node *node = plan_node(exec, graph->order[i]);
        for (int k = 0; k < node->num_inputs; k++)
            if (node->inputs[k] != MQB_NONE && exec->values[node->inputs[k]].late > state->late)
                state->late = exec->values[node->inputs[k]].late;
        if (!plan_value(exec, node->output)->batched)
            exec->values[node->output].late = state->late;
        any |= state->late != 0;
    }
    return any;
}

static void plan_forward(struct mqb_exec *exec, int index)
{
    const struct mqb_graph *graph = exec->config.graph;
    struct stage *stage = &exec->stages[index];
    stage->first_fixed = exec->num_fixed_nodes;
    for (int i = 0; i < graph->num_ordered; i++)
        if (exec->nodes[graph->order[i]].late == index + 1)
            exec->fixed_nodes[exec->num_fixed_nodes++] = graph->order[i];
    stage->num_fixed = exec->num_fixed_nodes - stage->first_fixed;
}

/* The sums of what the last grains to contribute have contributed in this stage. */
static void plan_sums(struct mqb_exec *exec, int index)
{
    struct stage *stage = &exec->stages[index];
    stage->first_sum = exec->num_sum_tasks;
    for (int i = 0; i < exec->config.graph->num_values; i++)
        if (exec->values[i].summed == index)
            for (int64_t first = 0; first < exec->values[i].size; first += SUM_CHUNK)
                exec->sum_tasks[exec->num_sum_tasks++] = (struct sum_task){i, first};
    stage->num_sums = exec->num_sum_tasks - stage->first_sum;
}

/* Adds what is as late as `late` to the barrier behind a backward stage: by then all that reads it has been walked back. */
static void plan_backward(struct mqb_exec *exec, struct stage *stage, int late)
{
    const struct mqb_graph *graph = exec->config.graph;
    for (int i = graph->num_ordered - 1; i >= 0; i--) {
        const struct mqb_node *node = plan_node(exec, graph->order[i]);
        if (exec->nodes[graph->order[i]].late == late && exec->values[node->output].gradient != NULL &&
            exec->values[node->output].gradient_place == PLACE_FIXED && !node->op->statistic)
            exec->fixed_nodes[exec->num_fixed_nodes++] = graph->order[i];
    }
    stage->num_fixed = exec->num_fixed_nodes - stage->first_fixed;
}

mqb_status mqb_plan_barriers(struct mqb_exec *exec, struct mqb_error *error)
{
    const struct mqb_graph *graph = exec->config.graph;
    size_t num_sums = 0;
    for (int i = 0; i < graph->num_values; i++)
        if (!graph->values[i].dead && exec->values[i].summed > 0)
            num_sums += (size_t)((exec->values[i].size + SUM_CHUNK - 1) / SUM_CHUNK);
    exec->sum_tasks = mqb_allocate_array(num_sums + 1, sizeof *exec->sum_tasks);
    exec->fixed_nodes = mqb_allocate_array(2 * (size_t)graph->num_ordered + 2, sizeof *exec->fixed_nodes);
    if (exec->sum_tasks == NULL || exec->fixed_nodes == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
    bool any = find_late(exec);
    for (int s = 0; any && s < exec->num_forward_stages; s++)
        plan_forward(exec, s);
    for (int b = exec->num_forward_stages; b < exec->num_stages; b++) {
        plan_sums(exec, b);
        exec->stages[b].first_fixed = exec->num_fixed_nodes;
        for (int s = exec->num_forward_stages - 1; any && s >= 0; s--)
            if (exec->stages[s].mirror == b)
                plan_backward(exec, &exec->stages[b], s + 1);
        if (b == exec->num_stages - 1)
            plan_backward(exec, &exec->stages[b], 0);
    }
    return MQB_OK;
}

/* ---- forward ---- */

mqb_status mqb_run_forward_barrier(struct mqb_exec *exec, const struct stage *stage, struct mqb_error *error)
{
    for (int i = 0; i < stage->num_fixed; i++) {
        struct node_state *state = &exec->nodes[exec->fixed_nodes[stage->first_fixed + i]];
        const struct mqb_node *node = state->context.node;
        double start = times_start(exec);
        mqb_status status = node->op->prepare != NULL ? node->op->prepare(&state->context, error) : MQB_OK;
        if (status == MQB_OK && !plan_value(exec, node->output)->batched)
            status = node->op->forward_fixed(&state->context, exec->values[node->output].whole, error);
        times_stop_alone(exec, exec->fixed_nodes[stage->first_fixed + i], start);
        if (status != MQB_OK)
            return mqb_fail_prefix(error, status, "layer \"%s\" (%s)", node->name, node->op->name);
    }
    return MQB_OK;
}

/* ---- backward ---- */

struct sum_run {
    struct mqb_exec *exec;
    const struct sum_task *tasks;
};

static void sum_partials(void *context, int index, int worker)
{
    const struct sum_run *run = context;
    const struct mqb_exec *exec = run->exec;
    double start = times_start(exec);
    const struct mqb_graph *graph = exec->config.graph;
    const struct sum_task *task = &run->tasks[index];
    struct value_state *v = &exec->values[task->value];
    int64_t left = v->size - task->first, count = left < SUM_CHUNK ? left : SUM_CHUNK;
    for (int i = 0; i < graph->num_ordered; i++) {
        const struct node_state *state = &exec->nodes[graph->order[i]];
        for (int k = 0; k < state->context.node->num_inputs; k++) {
            if (state->context.node->inputs[k] != task->value || state->partial[k] == NULL)
                continue;
            float *parts = state->partial[k] + task->first;
            mqb_tree_sum_f32(parts, parts, exec->num_grains, (size_t)v->size, (size_t)count);
            add_floats(v->gradient + task->first, parts, count);
        }
    }
    times_stop(exec, times_sum_row(exec), worker, start);
}

/* Where the gradients of a node's unbatched inputs are gathered. */
static void fixed_gradients(const struct mqb_exec *exec, const struct mqb_node *node, float *gradients[MQB_MAX_INPUTS])
{
    for (int i = 0; i < MQB_MAX_INPUTS; i++) {
        mqb_value_id in = i < node->num_inputs ? node->inputs[i] : MQB_NONE;
        gradients[i] = in != MQB_NONE && exec->values[in].gradient_place == PLACE_FIXED ? exec->values[in].gradient : NULL;
    }
}

void mqb_run_backward_barrier(struct mqb_exec *exec, const struct stage *stage)
{
    float *gradients[MQB_MAX_INPUTS];
    for (int i = 0; i < stage->num_finish; i++) {
        struct node_state *state = &exec->nodes[stage->finish[i]];
        double start = times_start(exec);
        mqb_tree_sum_f64(state->backward_sums, state->backward_sums, exec->num_grains, state->backward_sums_size,
                         state->backward_sums_size);
        fixed_gradients(exec, state->context.node, gradients);
        state->context.node->op->backward_finish(&state->context, state->backward_sums, gradients);
        times_stop_alone(exec, stage->finish[i], start);
    }
    struct sum_run run = {exec, exec->sum_tasks + stage->first_sum};
    if (stage->num_sums > 0)
        mqb_pool_run(exec->config.pool, stage->num_sums, sum_partials, &run);
    for (int i = 0; i < stage->num_fixed; i++) {
        struct node_state *state = &exec->nodes[exec->fixed_nodes[stage->first_fixed + i]];
        const struct mqb_node *node = state->context.node;
        double start = times_start(exec);
        fixed_gradients(exec, node, gradients);
        node->op->backward_fixed(&state->context, exec->values[node->output].gradient, gradients);
        times_stop_alone(exec, exec->fixed_nodes[stage->first_fixed + i], start);
    }
}
