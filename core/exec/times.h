/*
 * times.h - inside the executor: what it costs to keep times is one branch an action where nobody asked for them.
 *
 * A row is a step forwards, a step backwards, a node at a barrier (a fixed one, or the end of a batch norm's sums), or the sums
 * of the grains' gradients. Each worker adds to rows of its own.
 */
#ifndef MQB_TIMES_H
#define MQB_TIMES_H

#include "exec/plan.h"

struct mqb_times {
    int num_rows;
    size_t stride;   /* of a worker's row of doubles: no two workers write to one cache line */
    double *seconds; /* [worker][stride] */
};

/* Rows of a plan. */
static inline int times_step_row(int step, bool backward)
{
    return 2 * step + (backward ? 1 : 0);
}

static inline int times_node_row(const struct mqb_exec *exec, mqb_node_id node)
{
    return 2 * exec->num_steps + node;
}

static inline int times_sum_row(const struct mqb_exec *exec)
{
    return 2 * exec->num_steps + exec->config.graph->num_nodes;
}

static inline double times_start(const struct mqb_exec *exec)
{
    return exec->times != NULL ? mqb_seconds() : 0.0;
}

static inline void times_stop(const struct mqb_exec *exec, int row, int worker, double start)
{
    if (exec->times != NULL)
        exec->times->seconds[(size_t)worker * exec->times->stride + (size_t)row] += mqb_seconds() - start;
}

/* What runs between two stages, alone or on the whole pool: all threads are its. */
static inline void times_stop_alone(const struct mqb_exec *exec, mqb_node_id node, double start)
{
    if (exec->times != NULL)
        exec->times->seconds[times_node_row(exec, node)] += (mqb_seconds() - start) * mqb_pool_num_threads(exec->config.pool);
}

/* times.c */
mqb_status mqb_times_create(struct mqb_exec *exec, struct mqb_error *error);
void mqb_times_destroy(struct mqb_times *times);
/* All actions of a stage on one grain, timed. */
void mqb_times_grain(struct mqb_exec *exec, const struct stage *stage, int grain, int worker, bool backward);

#endif
