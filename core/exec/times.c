/* times.c - where the time of a step goes, for plans that were made to keep it. */
#include "exec/times.h"

#include <string.h>

#define LINE 8 /* doubles of a cache line */

mqb_status mqb_times_create(struct mqb_exec *exec, struct mqb_error *error)
{
    struct mqb_times *times = mqb_allocate(sizeof *times);
    if (times == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the times of a plan");
    exec->times = times;
    times->num_rows = times_sum_row(exec) + 1;
    times->stride = ((size_t)times->num_rows + LINE - 1) / LINE * LINE;
    times->seconds =
        mqb_allocate_array((size_t)mqb_pool_num_threads(exec->config.pool) * times->stride, sizeof *times->seconds);
    return times->seconds != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the times of a plan");
}

void mqb_times_destroy(struct mqb_times *times)
{
    if (times != NULL)
        mqb_deallocate(times->seconds);
    mqb_deallocate(times);
}

void mqb_times_grain(struct mqb_exec *exec, const struct stage *stage, int grain, int worker, bool backward)
{
    double *seconds = exec->times->seconds + (size_t)worker * exec->times->stride;
    double before = mqb_seconds();
    for (int i = 0; i < stage->num_actions; i++) {
        const struct action *action = &exec->actions[stage->first_action + i];
        if (backward)
            mqb_run_backward_action(exec, action, grain, worker);
        else
            mqb_run_forward_action(exec, action, grain, worker);
        double now = mqb_seconds();
        seconds[times_step_row(action->step, backward)] += now - before;
        before = now;
    }
}

int mqb_exec_num_times(const struct mqb_exec *exec)
{
    return exec->times != NULL ? exec->times->num_rows : 0;
}

void mqb_exec_clear_times(struct mqb_exec *exec)
{
    if (exec->times != NULL)
        memset(exec->times->seconds, 0,
               (size_t)mqb_pool_num_threads(exec->config.pool) * exec->times->stride * sizeof *exec->times->seconds);
}

/* Codes are a quarter of a float. */
static double batched_floats(const struct mqb_exec *exec, mqb_value_id value)
{
    double size = (double)exec->values[value].size * exec->config.batch;
    return !plan_value(exec, value)->batched ? 0.0 : exec->values[value].point != NULL ? size / 4 : size;
}

/* Numbers that a step reads and writes if its inner values stay in cache and each of its passes goes over memory once. */
static double step_floats(const struct mqb_exec *exec, int index, bool backward)
{
    const struct step *step = &exec->steps[index];
    const struct mqb_node *head = plan_node(exec, step->nodes[0]);
    double in = 0.0, out = batched_floats(exec, step->out), din = 0.0;
    if (step->chain) {
        in = batched_floats(exec, step->in);
        din = step->writes_in != 0 ? in : 0.0;
        for (int k = 0; k < step->num_nodes; k++) {
            const struct mqb_node *node = plan_node(exec, step->nodes[k]);
            mqb_value_id side = node->num_inputs > 1 ? node->inputs[1 - step->running[k]] : MQB_NONE;
            if (side == MQB_NONE)
                continue;
            in += batched_floats(exec, side);
            din += step->writes_side[k] != 0 ? batched_floats(exec, side) : 0.0;
        }
    } else {
        for (int k = 0; k < head->num_inputs; k++) {
            if (head->inputs[k] == MQB_NONE)
                continue;
            in += batched_floats(exec, head->inputs[k]);
            din += step->writes_input[k] != 0 ? batched_floats(exec, head->inputs[k]) : 0.0;
        }
    }
    double floats = backward ? in + out + din : in + out;
    for (int i = 0; i < exec->num_actions; i++) { /* the reduction in front of a pass is one more */
        if (exec->actions[i].step != index)
            continue;
        if (!backward && exec->actions[i].kind == ACTION_REDUCE)
            floats += batched_floats(exec, step->in);
        if (backward &&
            exec->actions[i].kind == ACTION_BACKWARD_REDUCE) /* reads x and dy once more, keeps dy between the two */
            floats += batched_floats(exec, step->in) + out;
    }
    return floats;
}

void mqb_exec_time(const struct mqb_exec *exec, int row, struct mqb_exec_time *time)
{
    *time = (struct mqb_exec_time){.pass = MQB_EXEC_FIXED};
    for (int worker = 0; worker < mqb_pool_num_threads(exec->config.pool); worker++)
        time->seconds += exec->times->seconds[(size_t)worker * exec->times->stride + (size_t)row];
    if (row < 2 * exec->num_steps) {
        const struct step *step = &exec->steps[row / 2];
        bool backward = row % 2 != 0;
        time->pass = backward ? MQB_EXEC_BACKWARD : MQB_EXEC_FORWARD;
        time->num_nodes = step->num_nodes;
        time->nodes = step->nodes;
        time->floats = step_floats(exec, row / 2, backward);
        time->input_gradient = backward && (step->chain ? step->writes_in != 0 : step->writes_input[0] != 0);
    } else if (row < times_sum_row(exec)) {
        mqb_node_id id = row - 2 * exec->num_steps;
        time->num_nodes = 1;
        time->nodes = &exec->nodes[id].context.id;
    }
}
