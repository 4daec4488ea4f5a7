/*
 * plan.h - inside the executor: what plan.c works out once and forward.c and backward.c run.
 *
 * A *step* is one grain operator or a chain of pointwise ones. An *action* is a step (or the reduction before or after it)
 * applied to one grain. A *stage* is a run of actions between two barriers: workers take grains, and take each grain through
 * all actions of the stage, so that a step finds its operands in cache. Actions are numbered through forward and backward;
 * buffers live from their first to their last action and share each grain's arena.
 *
 * A fixed node that depends on a batch statistic is *late*: it runs at the barrier behind the stage that completes the
 * statistic, and backwards at the barrier before the statistic's own backward action. So a fixed node has one of these
 * barriers, or runs before the first stage and backwards behind the last.
 */
#ifndef MQB_PLAN_H
#define MQB_PLAN_H

#include "exec/exec.h"

#define MQB_MAX_CHAIN 12

struct step {
    bool chain;
    bool statistic;                /* a batch statistic: reduced in forward, never run */
    int num_nodes;
    mqb_node_id nodes[MQB_MAX_CHAIN + 1];
    int8_t running[MQB_MAX_CHAIN + 1]; /* chains: index of the input that the chain runs through */
    mqb_value_id in;               /* input 0 of the first node */
    mqb_value_id out;
    int64_t rows_per_image;        /* chains: pixels, and the size of a pixel */
    int32_t channels;
    int32_t block_rows;
    int8_t writes_side[MQB_MAX_CHAIN];       /* backward: 0 no gradient wanted, 1 write, 2 add */
    int8_t writes_in;                        /* the same for `in` */
    int8_t writes_input[MQB_MAX_INPUTS];     /* grain operators: by input */
    /* bands.c, in evaluation: the first node is a convolution that gives rows of its output, a chain may follow. */
    bool banded, heavy; /* heavy: more weights than a cache holds next to the rest */
    int32_t rows, width, band_rows; /* of the convolution's output; rows done at a time */
    size_t head_gradient; /* arena offset of the gradient at the first node's output, unless the input's gradient serves */
};

enum action_kind { ACTION_REDUCE, ACTION_RUN, ACTION_BACKWARD, ACTION_BACKWARD_REDUCE, ACTION_BACKWARD_APPLY };

struct action {
    enum action_kind kind;
    int step;
};

struct stage {
    int first_action, num_actions;
    int num_finish;
    mqb_node_id *finish; /* nodes whose sums are complete after this stage */
    /* The barrier behind the stage: late nodes run, or are prepared if their result is batched; backwards, sums over grains and
     * then fixed nodes in reverse order. */
    int first_fixed, num_fixed; /* in exec->fixed_nodes */
    int first_sum, num_sums;    /* in exec->sum_tasks */
    int mirror; /* of one that completes a statistic: the backward stage behind which its late nodes run; 0: none */
};

enum place { PLACE_NONE, PLACE_INPUT, PLACE_ARENA, PLACE_WHOLE, PLACE_FIXED, PLACE_SPARE };

struct value_state {
    enum place place, gradient_place;
    size_t offset, gradient_offset; /* bytes in a grain's arena (SPARE: in its spare) */
    float *whole, *gradient;        /* WHOLE: [batch][size]; FIXED: the tensor */
    bool owned;
    int64_t size; /* floats: of one image if batched */
    bool wants_gradient;
    int summed;        /* the backward stage behind which the grains' gradients of this unbatched value are added; 0: they have none */
    /* A value that a quantizer makes and codes can replace: grain by grain codes in the arena, or, where a code would not give
     * its float back, floats in the spare, which is untouched memory else. */
    const struct mqb_point *point; /* NULL: always floats */
    size_t codes_offset;
    struct mqb_codes grid; /* of the step at hand */
    bool grid_usable;
    bool *coded; /* [num_grains] */
    int late;          /* unbatched: 1 + the stage after which it can be computed, 0: before the first */
};

struct node_state {
    struct mqb_op_context context;
    const float *fixed[MQB_MAX_INPUTS];
    bool has_partial[MQB_MAX_INPUTS];
    float *partial[MQB_MAX_INPUTS]; /* [num_grains][size]: gradients of unbatched inputs */
    double *sums, *backward_sums;   /* [num_grains][size] */
    size_t sums_size, backward_sums_size;
    bool pointwise, created;
    bool idle; /* nobody reads the result in this plan: never run */
    int late;  /* the latest of its unbatched inputs, and of a statistic its own */
};

#define SUM_CHUNK 16384 /* floats a task adds over the grains */

struct sum_task {
    mqb_value_id value;
    int64_t first;
};

struct mqb_exec {
    struct mqb_exec_config config;
    int grain_images, num_grains;
    struct node_state *nodes;  /* by node id */
    struct value_state *values; /* by value id */
    struct step *steps;
    int num_steps;
    struct action *actions;
    int num_actions, actions_capacity;
    struct stage *stages;
    int num_stages, num_forward_stages, stages_capacity;
    mqb_node_id *finish_pool;
    int finish_used;
    uint8_t *arena;
    size_t arena_size; /* of one grain (or worker) */
    int num_arenas;
    uint8_t *spare; /* as many as arenas */
    size_t spare_size;
    bool arena_by_worker;
    uint8_t *scratch;
    size_t scratch_size; /* of one worker: an operator's, then floats made of codes for operators that do not take them */
    size_t decoded_at;
    uint8_t *partials; /* where the nodes' partial gradients lie */
    struct sum_task *sum_tasks;
    int num_sum_tasks;
    mqb_node_id *fixed_nodes; /* what runs at barriers, see struct stage */
    int num_fixed_nodes;
    struct mqb_error *errors; /* by position in the graph's order: what prepare said */
    double *losses;           /* [batch][2]: loss, hit */
    size_t memory;
    struct mqb_times *times; /* times.h; NULL: not asked for */
    /* The batch that is running. */
    const float *x;
    int n;
    int prepared; /* frozen: the images that nodes were prepared for; 0: not yet */
};

int mqb_grain_images(const struct mqb_exec *exec, int grain);

/* ---- small things that plan.c and buffers.c share ---- */

#define PLAN_ALIGN 64

static inline size_t plan_align(size_t size)
{
    return (size + PLAN_ALIGN - 1) / PLAN_ALIGN * PLAN_ALIGN;
}

static inline void add_floats(float *target, const float *source, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        target[i] += source[i];
}

static inline struct mqb_value *plan_value(const struct mqb_exec *exec, mqb_value_id id)
{
    return &exec->config.graph->values[id];
}

static inline struct mqb_node *plan_node(const struct mqb_exec *exec, mqb_node_id id)
{
    return &exec->config.graph->nodes[id];
}

static inline bool plan_is_kept(const struct mqb_exec *exec, mqb_value_id id)
{
    if (id == exec->config.graph->output)
        return true;
    for (int i = 0; i < exec->config.num_keep; i++)
        if (exec->config.keep[i] == id)
            return true;
    return false;
}

static inline int plan_batched_inputs(const struct mqb_exec *exec, const struct mqb_node *node)
{
    int count = 0;
    for (int i = 0; i < node->num_inputs; i++)
        count += node->inputs[i] != MQB_NONE && plan_value(exec, node->inputs[i])->batched;
    return count;
}

/* Floats of one of a chain's blocks in scratch. */
static inline size_t chain_block_floats(const struct step *step)
{
    return plan_align((size_t)step->block_rows * (size_t)step->channels * sizeof(float)) / sizeof(float);
}

/* Pointers of one value for one grain. Of one that codes may replace: its floats in the spare. */
static inline float *grain_value(const struct mqb_exec *exec, mqb_value_id id, int grain, int worker)
{
    const struct value_state *v = &exec->values[id];
    size_t first = (size_t)grain * (size_t)exec->grain_images * (size_t)v->size;
    switch (v->place) {
    case PLACE_INPUT:
        return (float *)(uintptr_t)(exec->x + first);
    case PLACE_ARENA:
        return (float *)(void *)(exec->arena + (size_t)(exec->arena_by_worker ? worker : grain) * exec->arena_size + v->offset);
    case PLACE_SPARE:
        return (float *)(void *)(exec->spare + (size_t)(exec->arena_by_worker ? worker : grain) * exec->spare_size + v->offset);
    case PLACE_WHOLE:
        return v->whole + first;
    case PLACE_FIXED:
        return v->whole;
    default:
        return NULL;
    }
}

static inline float *grain_gradient(const struct mqb_exec *exec, mqb_value_id id, int grain)
{
    const struct value_state *v = &exec->values[id];
    switch (v->gradient_place) {
    case PLACE_ARENA:
        return (float *)(void *)(exec->arena + (size_t)grain * exec->arena_size + v->gradient_offset);
    case PLACE_WHOLE:
        return v->gradient + (size_t)grain * (size_t)exec->grain_images * (size_t)v->size;
    case PLACE_FIXED: /* of a statistic */
        return v->gradient;
    default:
        return NULL;
    }
}

/* What a step reads of a value in one grain. */
struct source {
    const float *floats;
    struct mqb_codes codes; /* data NULL: there are floats */
};

/* Runs a step's grain operator, image by image where it wants floats of codes. */
void mqb_run_grain(const struct mqb_exec *exec, const struct step *step, int grain, int worker, bool backward);

/* coded.c: values kept as codes */
mqb_status mqb_plan_coded(struct mqb_exec *exec, struct mqb_error *error);
void mqb_start_coded(struct mqb_exec *exec); /* of a step, behind the prepare of the points */
struct source mqb_grain_source(const struct mqb_exec *exec, mqb_value_id id, int grain, int worker);
/* Floats [first, first + size) of a source, in place or made in `buffer`. */
const float *mqb_source_floats(const struct source *source, int64_t first, int64_t size, float *buffer);
/* A grain of a value is about to be made. True: mqb_add_coded takes it, block by block. */
bool mqb_begin_coded(struct mqb_exec *exec, mqb_value_id id, int grain);
/* Runs the node that makes the value on a block whose first element is `first`; floats, if it makes any, go to block->out. False:
 * they are no codes, and the grain is floats from now on, these among them. */
bool mqb_add_coded(struct mqb_exec *exec, mqb_value_id id, int grain, int worker, int64_t first, const struct mqb_op_block *block);

/* buffers.c */
mqb_status mqb_plan_gradients(struct mqb_exec *exec, struct mqb_error *error);
mqb_status mqb_plan_partials(struct mqb_exec *exec, struct mqb_error *error);
mqb_status mqb_plan_buffers(struct mqb_exec *exec, struct mqb_error *error);
/* barriers.c: which fixed nodes run when; at the end of planning what runs at each barrier. */
void mqb_plan_idle(struct mqb_exec *exec);
mqb_status mqb_plan_barriers(struct mqb_exec *exec, struct mqb_error *error);
mqb_status mqb_run_forward_barrier(struct mqb_exec *exec, const struct stage *stage, struct mqb_error *error);
void mqb_run_backward_barrier(struct mqb_exec *exec, const struct stage *stage);
/* forward.c */
void mqb_run_forward_action(struct mqb_exec *exec, const struct action *action, int grain, int worker);
void mqb_chain_forward(struct mqb_exec *exec, const struct step *step, int grain, int worker);
/* bands.c */
void mqb_plan_bands(struct mqb_exec *exec);
void mqb_run_bands(struct mqb_exec *exec, const struct step *step, int grain, int worker);
/* Whether the threads work on one grain together, and that. */
bool mqb_bands_share(const struct mqb_exec *exec, int grains);
void mqb_run_shared(struct mqb_exec *exec, const struct stage *stage, int grains);
/* backward.c */
void mqb_run_backward_action(struct mqb_exec *exec, const struct action *action, int grain, int worker);

#endif
