/*
 * batch_statistics.c - BatchStatistics(o, running_mean, running_var) = [3][C]: mean, variance (biased) and running variance of
 * each channel of o; and StatisticRow(statistics) = [C], one of them. A fold whose weights depend on the batch itself reads
 * them.
 *
 * Training: mean and variance are the batch's; the running ones move first (ONNX's momentum, unbiased variance), and the third
 * row is the moved one. Otherwise the rows are the running mean and, twice, the running variance, and o is not looked at.
 * Backward, with M elements a channel:  do = dmean / M + dvar 2 (o - mean) / M. The running variance carries no gradient.
 */
#include "ops/ops.h"

#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

enum { INPUT_O, INPUT_MEAN, INPUT_VAR };
enum { ROW_MEAN, ROW_VAR, ROW_RUNNING_VAR, NUM_ROWS };

struct batch_statistics {
    double *mean, *var; /* of the batch */
};

static mqb_status batch_statistics_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                         struct mqb_error *error)
{
    const struct mqb_value *o;
    mqb_status status = mqb_infer_batched(graph, node, INPUT_O, false, &o, error);
    if (!status)
        status = mqb_infer_vector(graph, node, INPUT_MEAN, "running mean", o->dims[1], false, error);
    if (!status)
        status = mqb_infer_vector(graph, node, INPUT_VAR, "running variance", o->dims[1], false, error);
    if (!status)
        status = mqb_moments_infer(node, o->dims[1], error);
    if (status)
        return status;
    const int64_t dims[2] = {NUM_ROWS, o->dims[1]};
    return mqb_infer_output(output, 2, dims, false, error);
}

static void batch_statistics_destroy(struct mqb_op_context *context)
{
    struct batch_statistics *state = context->state;
    if (!state)
        return;
    mqb_deallocate(state->mean);
    mqb_deallocate(state);
    context->state = NULL;
}

static mqb_status batch_statistics_create(struct mqb_op_context *context, size_t *scratch_size, struct mqb_error *error)
{
    if (!context->training)
        return MQB_OK;
    mqb_status status = mqb_moments_check(context, INPUT_MEAN, error);
    if (status)
        return status;
    size_t channels = (size_t)mqb_input_extent(context, INPUT_O).c;
    struct batch_statistics *state = mqb_allocate(sizeof(*state));
    if (!state)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for its state");
    context->state = state;
    state->mean = mqb_allocate_array(channels, 2 * sizeof(double));
    if (!state->mean)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the statistics of %d channels", (int)channels);
    state->var = state->mean + channels;
    *scratch_size = 3 * channels * sizeof(float);
    return MQB_OK;
}

static size_t batch_statistics_reduce_size(const struct mqb_op_context *context)
{
    return context->training ? 2 * (size_t)mqb_input_extent(context, INPUT_O).c : 0;
}

static mqb_status batch_statistics_finish(struct mqb_op_context *context, const double *sums, struct mqb_error *error)
{
    struct batch_statistics *state = context->state;
    int64_t channels = mqb_input_extent(context, INPUT_O).c;
    mqb_status status = mqb_moments(context, sums, state->mean, state->var, error);
    for (int64_t c = 0; !status && c < channels; c++)
        mqb_moments_follow(context, INPUT_MEAN, c, state->mean[c], state->var[c]);
    return status;
}

static mqb_status batch_statistics_forward(struct mqb_op_context *context, float *out, struct mqb_error *error)
{
    const struct batch_statistics *state = context->state;
    int64_t channels = context->graph->values[context->node->output].dims[1];
    (void)error;
    for (int64_t c = 0; c < channels; c++) {
        out[ROW_MEAN * channels + c] = context->training ? (float)state->mean[c] : context->fixed[INPUT_MEAN][c];
        out[ROW_VAR * channels + c] = context->training ? (float)state->var[c] : context->fixed[INPUT_VAR][c];
        out[ROW_RUNNING_VAR * channels + c] = context->fixed[INPUT_VAR][c];
    }
    return MQB_OK;
}

/* dx = rest + (x - center) slope */
MQB_MULTIVERSION static void spread_gradient(int64_t rows, int64_t channels, const float *x, const float *center,
                                             const float *slope, const float *rest, float *dx, bool add)
{
    for (int64_t r = 0; r < rows; r++, x += channels, dx += channels) {
        if (add) {
            MQB_ELEMENTWISE
            for (int64_t c = 0; c < channels; c++)
                dx[c] += rest[c] + (x[c] - center[c]) * slope[c];
        } else {
            MQB_ELEMENTWISE
            for (int64_t c = 0; c < channels; c++)
                dx[c] = rest[c] + (x[c] - center[c]) * slope[c];
        }
    }
}

static void batch_statistics_backward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    const struct batch_statistics *state = context->state;
    struct mqb_extent o = mqb_input_extent(context, INPUT_O);
    double count = mqb_moments_count(context);
    float *center = grain->scratch, *slope = center + o.c, *rest = slope + o.c;
    const float *dmean = grain->dout + ROW_MEAN * o.c, *dvar = grain->dout + ROW_VAR * o.c;
    if (!grain->din[INPUT_O])
        return;
    for (int64_t c = 0; c < o.c; c++) { /* a variance that was cut off at 0 hands on no gradient, for o - mean is 0 there */
        double factor = 2 * (double)dvar[c] / count;
        center[c] = (float)state->mean[c];
        slope[c] = (float)factor;
        rest[c] = (float)((double)dmean[c] / count + ((double)center[c] - state->mean[c]) * factor);
    }
    spread_gradient(grain->images * o.pixels, o.c, grain->in[INPUT_O], center, slope, rest, grain->din[INPUT_O],
                    grain->accumulate[INPUT_O]);
}

/* ---- StatisticRow ---- */

static int64_t statistic_row(const struct mqb_node *node)
{
    return mqb_attr_i(node, "row", ROW_MEAN);
}

static mqb_status statistic_row_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                      struct mqb_error *error)
{
    const struct mqb_value *statistics;
    char text[MQB_SHAPE_TEXT];
    mqb_status status = mqb_infer_fixed(graph, node, 0, "statistics", &statistics, error);
    if (status)
        return status;
    if (statistics->rank != 2 || statistics->dims[0] != NUM_ROWS)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "input 0 (statistics, '%s') has shape %s, expected [%d, channels]",
                        statistics->name, mqb_shape_text(statistics, text), NUM_ROWS);
    if (statistic_row(node) < 0 || statistic_row(node) >= NUM_ROWS)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "attribute row = %lld, expected 0 (mean), 1 (variance) or 2 (running variance)",
                        (long long)statistic_row(node));
    return mqb_infer_output(output, 1, &statistics->dims[1], false, error);
}

static mqb_status statistic_row_forward(struct mqb_op_context *context, float *out, struct mqb_error *error)
{
    int64_t channels = context->graph->values[context->node->output].dims[0];
    (void)error;
    memcpy(out, context->fixed[0] + statistic_row(context->node) * channels, (size_t)channels * sizeof(*out));
    return MQB_OK;
}

static void statistic_row_backward(struct mqb_op_context *context, const float *dout, float *const *din)
{
    int64_t channels = context->graph->values[context->node->output].dims[0], row = statistic_row(context->node);
    if (din[0] && row != ROW_RUNNING_VAR)
        mqb_copy_or_add(din[0] + row * channels, dout, channels, true);
}

const struct mqb_op mqb_op_batch_statistics = {
    .name = "BatchStatistics",
    .min_inputs = 3,
    .max_inputs = 3,
    .infer = batch_statistics_infer,
    .create = batch_statistics_create,
    .destroy = batch_statistics_destroy,
    .reduce_size = batch_statistics_reduce_size,
    .reduce = mqb_moments_reduce,
    .finish = batch_statistics_finish,
    .forward_fixed = batch_statistics_forward,
    .backward = batch_statistics_backward,
    .statistic = true,
};

const struct mqb_op mqb_op_statistic_row = {
    .name = "StatisticRow",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = statistic_row_infer,
    .forward_fixed = statistic_row_forward,
    .backward_fixed = statistic_row_backward,
};
