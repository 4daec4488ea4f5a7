/*
 * bands.c - evaluation takes a few rows of a convolution's output through the pointwise operators behind it while they are in
 * cache, and shares the rows of an image out where there are fewer images than threads. The bits are those of the whole grain.
 */
#include "exec/times.h"
#include "ops/ops.h"

#define BAND_BYTES ((size_t)32 << 10)    /* of a convolution's output */
#define WEIGHT_BYTES ((size_t)512 << 10) /* weights that stay in the second-level cache from band to band */

static struct mqb_op_context *banded_context(const struct mqb_exec *exec, const struct step *step)
{
    return &exec->nodes[step->nodes[0]].context;
}

/* The place of the banded step, not yet joined to another, whose result is `value`. */
static int banded_producer(const struct mqb_exec *exec, mqb_value_id value, int before)
{
    for (int i = before - 1; i >= 0; i--)
        if (exec->steps[i].banded && exec->steps[i].num_nodes == 1 && exec->steps[i].out == value)
            return i;
    return -1;
}

/* `chain` begins with the convolution of `head`. */
static void join(struct step *chain, const struct step *head)
{
    for (int k = chain->num_nodes; k > 0; k--) {
        chain->nodes[k] = chain->nodes[k - 1];
        chain->running[k] = chain->running[k - 1];
    }
    chain->nodes[0] = head->nodes[0];
    chain->running[0] = 0;
    chain->num_nodes++;
    chain->in = head->in;
    chain->banded = true;
}

static void choose_rows(const struct mqb_exec *exec, struct step *step)
{
    const struct mqb_node *node = banded_context(exec, step)->node;
    const struct mqb_value *out = plan_value(exec, node->output);
    const size_t weights = (size_t)mqb_value_size(plan_value(exec, node->inputs[1])) * sizeof(float);
    step->rows = (int32_t)out->dims[2];
    step->width = (int32_t)out->dims[3];
    step->heavy = weights > WEIGHT_BYTES;
    const size_t pair = 2 * (size_t)step->width * (size_t)out->dims[1] * sizeof(float), pairs = BAND_BYTES / pair;
    const size_t most = 2 * (pairs < 1 ? 1 : pairs); /* kernels that make rows in pairs waste none */
    step->band_rows = step->heavy || most >= (size_t)step->rows ? step->rows : (int32_t)most;
}

/* Quantized values may be kept as codes, and layers between them run on these: by whole grains. */
static bool is_quantized(const struct mqb_graph *graph)
{
    for (int i = 0; i < graph->num_ordered; i++)
        if (mqb_codes_point(graph, graph->nodes[graph->order[i]].output) != NULL)
            return true;
    return false;
}

void mqb_plan_bands(struct mqb_exec *exec)
{
    if (exec->config.training || exec->config.gradients || is_quantized(exec->config.graph))
        return;
    for (int s = 0; s < exec->num_steps; s++) {
        struct step *step = &exec->steps[s];
        const struct mqb_op_context *context = banded_context(exec, step);
        if (!step->chain && context->node->op->has_rows != NULL)
            step->banded = context->node->op->has_rows(context);
        if (!step->chain || plan_is_kept(exec, step->in) ||
            mqb_graph_calls.num_consumers(exec->config.graph, step->in) != 1)
            continue;
        const int head = banded_producer(exec, step->in, s);
        if (head >= 0) {
            join(step, &exec->steps[head]);
            exec->steps[head].num_nodes = 0;
        }
    }
    int kept = 0;
    for (int s = 0; s < exec->num_steps; s++)
        if (exec->steps[s].num_nodes > 0)
            exec->steps[kept++] = exec->steps[s];
    exec->num_steps = kept;
    for (int s = 0; s < exec->num_steps; s++)
        if (exec->steps[s].banded)
            choose_rows(exec, &exec->steps[s]);
}

/* The nodes behind the convolution, in place, block by block. */
static void run_chain(struct mqb_exec *exec, const struct step *step, int grain, int owner, int image, int32_t first,
                      int32_t count)
{
    const int64_t place = image * exec->values[step->out].size + (int64_t)first * step->width * step->channels;
    const int64_t first_row = ((int64_t)grain * exec->grain_images + image) * step->rows_per_image + (int64_t)first * step->width;
    const int64_t rows = (int64_t)count * step->width;
    float *out = grain_value(exec, step->out, grain, owner) + place;
    const float *sides[MQB_MAX_CHAIN + 1];
    for (int k = 1; k < step->num_nodes; k++) {
        const struct mqb_node *node = plan_node(exec, step->nodes[k]);
        const mqb_value_id side = node->num_inputs > 1 ? node->inputs[1 - step->running[k]] : MQB_NONE;
        const bool batched = side != MQB_NONE && exec->values[side].place != PLACE_FIXED;
        sides[k] = batched ? grain_value(exec, side, grain, owner) + place : NULL;
    }
    for (int64_t row = 0; row < rows; row += step->block_rows) {
        const int64_t offset = row * step->channels;
        struct mqb_op_block block = {
            .rows = rows - row < step->block_rows ? rows - row : step->block_rows,
            .channels = step->channels,
            .first_row = first_row + row,
            .in = {out + offset, NULL},
            .out = out + offset,
        };
        for (int k = 1; k < step->num_nodes; k++) {
            const struct mqb_op_context *context = &exec->nodes[step->nodes[k]].context;
            block.in[1] = sides[k] != NULL ? sides[k] + offset : NULL;
            context->node->op->forward_block(context, &block);
        }
    }
}

/* The convolution writes where the chain ends, and the chain works in place.
 * Rows [first, first + count) of image `image` of a grain whose numbers are in the arena of worker `owner`. */
static void run_rows(struct mqb_exec *exec, const struct step *step, int grain, int owner, int worker, int image, int32_t first,
                     int32_t count)
{
    const struct mqb_op_context *context = banded_context(exec, step);
    const int64_t out_size = exec->values[step->out].size, in_size = exec->values[step->in].size;
    const int64_t place = image * out_size + (int64_t)first * (out_size / step->rows);
    float *out = grain_value(exec, step->out, grain, owner) + place;
    const struct mqb_op_rows rows = {
        .first = first,
        .count = count,
        .in = grain_value(exec, step->in, grain, owner) + image * in_size,
        .out = out,
        .scratch = exec->scratch + (size_t)worker * exec->scratch_size,
    };
    context->node->op->forward_rows(context, &rows);
    if (step->num_nodes > 1)
        run_chain(exec, step, grain, owner, image, first, count);
}

void mqb_run_bands(struct mqb_exec *exec, const struct step *step, int grain, int worker)
{
    for (int image = 0; image < mqb_grain_images(exec, grain); image++)
        for (int32_t first = 0; first < step->rows; first += step->band_rows) {
            const int32_t left = step->rows - first;
            run_rows(exec, step, grain, worker, worker, image, first, left < step->band_rows ? left : step->band_rows);
        }
}

/* ---- one grain, all threads ---- */

struct shared_run {
    struct mqb_exec *exec;
    const struct step *step;
    int grain;
    int32_t rows, bands; /* of a band; of an image */
};

static void run_shared_band(void *context, int index, int worker)
{
    const struct shared_run *run = context;
    const int32_t first = index % run->bands * run->rows, left = run->step->rows - first;
    run_rows(run->exec, run->step, run->grain, 0, worker, index / run->bands, first, left < run->rows ? left : run->rows);
}

static void run_shared(struct mqb_exec *exec, const struct step *step, int grain)
{
    const int images = mqb_grain_images(exec, grain), threads = mqb_pool_num_threads(exec->config.pool);
    const int wanted = step->heavy ? threads : 4 * threads; /* heavy: every band goes through all weights */
    const int an_image = (wanted + images - 1) / images;
    struct shared_run run = {exec, step, grain, (step->rows + 2 * an_image - 1) / (2 * an_image) * 2, 0};
    if (run.rows > step->band_rows)
        run.rows = step->band_rows;
    run.bands = (step->rows + run.rows - 1) / run.rows;
    mqb_pool_run(exec->config.pool, images * run.bands, run_shared_band, &run);
}

bool mqb_bands_share(const struct mqb_exec *exec, int grains)
{
    return exec->arena_by_worker && !exec->config.training && !exec->config.gradients && exec->num_forward_stages == 1 &&
           grains < mqb_pool_num_threads(exec->config.pool);
}

void mqb_run_shared(struct mqb_exec *exec, const struct stage *stage, int grains)
{
    for (int grain = 0; grain < grains; grain++)
        for (int i = 0; i < stage->num_actions; i++) {
            const struct action *action = &exec->actions[stage->first_action + i];
            const struct step *step = &exec->steps[action->step];
            const double start = times_start(exec);
            if (step->banded)
                run_shared(exec, step, grain);
            else
                mqb_run_forward_action(exec, action, grain, 0);
            if (exec->times != NULL)
                exec->times->seconds[times_step_row(action->step, false)] +=
                    (mqb_seconds() - start) * mqb_pool_num_threads(exec->config.pool);
        }
}
