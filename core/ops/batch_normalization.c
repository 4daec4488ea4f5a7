/*
 * batch_normalization.c - BatchNormalization over N x H x W, one channel at a time, of v = x / divisor (divisor 1 if absent):
 *     y = gamma (v - mean) / sigma + beta,  sigma = sqrt(var + epsilon)
 * Training: mean and var are the batch's; the running ones move by ONNX's momentum, with the unbiased variance.
 * Otherwise: the running ones. Statistics of v come from sums over x, so v is never formed.
 *
 * A divisor of exactly 0 comes from gamma = 0 in a folded convolution: x is 0 too and v is unknown. There v is taken as
 * constant: y = beta, no gradient but beta's, running statistics stay.
 */
#include "ops/ops.h"

#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

enum { INPUT_X, INPUT_GAMMA, INPUT_BETA, INPUT_MEAN, INPUT_VAR, INPUT_DIVISOR };

#define PERIOD 256 /* floats of repeated coefficients: few channels still make long loops */

struct batch_norm {
    int64_t channels;
    int64_t period;               /* floats in a coefficient array: whole rows */
    double *mean_x, *mean;        /* of x, of v */
    double *rsigma, *rdivisor;    /* 1 / sigma, 1 / divisor (0 for a divisor of 0) */
    float *scale, *shift;         /* y = x scale + shift */
    float *center, *slope, *rest; /* training: dx = dy scale + (x - center) slope + rest */
};

static double batch_norm_epsilon(const struct mqb_node *node)
{
    return mqb_attr_f(node, "epsilon", 1e-5);
}

static mqb_status batch_norm_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                   struct mqb_error *error)
{
    static const char *const names[] = {"x", "gamma", "beta", "mean", "variance", "divisor"};
    const struct mqb_value *x;
    mqb_status status = mqb_infer_batched(graph, node, INPUT_X, false, &x, error);
    for (int32_t i = INPUT_GAMMA; i <= INPUT_DIVISOR && !status; i++)
        status = mqb_infer_vector(graph, node, i, names[i], x->dims[1], i == INPUT_DIVISOR, error);
    if (status)
        return status;
    double epsilon = batch_norm_epsilon(node), momentum = mqb_attr_f(node, "momentum", 0.9);
    if (!(epsilon > 0) || !isfinite(epsilon))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute epsilon = %g, expected a positive number", epsilon);
    if (!(momentum >= 0 && momentum <= 1))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute momentum = %g, expected a number from 0 to 1", momentum);
    return mqb_infer_output(output, x->rank, x->dims, true, error);
}

static void batch_norm_destroy(struct mqb_op_context *context)
{
    struct batch_norm *norm = context->state;
    if (!norm)
        return;
    mqb_deallocate(norm->mean_x);
    mqb_deallocate(norm->scale);
    mqb_deallocate(norm);
    context->state = NULL;
}

static mqb_status batch_norm_create(struct mqb_op_context *context, size_t *scratch_size, struct mqb_error *error)
{
    (void)scratch_size;
    for (int32_t i = INPUT_MEAN; context->training && i <= INPUT_VAR; i++) {
        const struct mqb_value *value = mqb_node_input(context->graph, context->node, i);
        if (value->kind != MQB_VALUE_STATE || !value->data)
            return mqb_fail(error, MQB_ERR_ARGUMENT,
                            "its running statistic '%s' is not a state of the network, so training cannot update it",
                            value->name);
    }
    struct batch_norm *norm = mqb_allocate(sizeof(*norm));
    if (!norm)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for its state");
    context->state = norm;
    int64_t channels = mqb_input_extent(context, INPUT_X).c;
    norm->channels = channels;
    norm->period = channels < PERIOD ? PERIOD / channels * channels : channels;
    norm->mean_x = mqb_allocate_array((size_t)channels * 4, sizeof(double));
    norm->scale = mqb_allocate_array((size_t)norm->period * 5, sizeof(float));
    if (!norm->mean_x || !norm->scale)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the statistics of %d channels", (int)channels);
    norm->mean = norm->mean_x + channels;
    norm->rsigma = norm->mean + channels;
    norm->rdivisor = norm->rsigma + channels;
    norm->shift = norm->scale + norm->period;
    norm->center = norm->shift + norm->period;
    norm->slope = norm->center + norm->period;
    norm->rest = norm->slope + norm->period;
    return MQB_OK;
}

/* Repeats the coefficients of the first row. */
static void batch_norm_repeat(const struct batch_norm *norm, float *coefficients)
{
    for (int64_t i = norm->channels; i < norm->period; i++)
        coefficients[i] = coefficients[i - norm->channels];
}

static double batch_norm_rdivisor(const struct mqb_op_context *context, int64_t c)
{
    if (!context->fixed[INPUT_DIVISOR])
        return 1;
    double divisor = (double)context->fixed[INPUT_DIVISOR][c];
    return divisor == 0 ? 0 : 1 / divisor;
}

/* scale and shift from mean, rsigma and rdivisor. */
static void batch_norm_fold(const struct mqb_op_context *context)
{
    const struct batch_norm *norm = context->state;
    const float *gamma = context->fixed[INPUT_GAMMA], *beta = context->fixed[INPUT_BETA];
    for (int64_t c = 0; c < norm->channels; c++) {
        double factor = (double)gamma[c] * norm->rsigma[c];
        bool constant = norm->rdivisor[c] == 0;
        norm->scale[c] = (float)(factor * norm->rdivisor[c]);
        norm->shift[c] = constant ? beta[c] : (float)((double)beta[c] - norm->mean[c] * factor);
    }
    batch_norm_repeat(norm, norm->scale);
    batch_norm_repeat(norm, norm->shift);
}

/* With running statistics all is known before the batch is seen. */
static mqb_status batch_norm_prepare(struct mqb_op_context *context, struct mqb_error *error)
{
    struct batch_norm *norm = context->state;
    if (context->training)
        return MQB_OK;
    for (int64_t c = 0; c < norm->channels; c++) {
        double mean = (double)context->fixed[INPUT_MEAN][c], var = (double)context->fixed[INPUT_VAR][c];
        double sigma = sqrt(var + batch_norm_epsilon(context->node));
        if (!isfinite(mean) || !(sigma > 0) || !isfinite(sigma))
            return mqb_fail(
                error, MQB_ERR_NUMERIC,
                "channel %d has the running mean %g and variance %g, expected finite numbers and a variance of at least 0",
                (int)c, mean, var);
        norm->mean[c] = mean;
        norm->rsigma[c] = 1 / sigma;
        norm->rdivisor[c] = batch_norm_rdivisor(context, c);
        norm->mean_x[c] = context->fixed[INPUT_DIVISOR] ? mean * (double)context->fixed[INPUT_DIVISOR][c] : mean;
    }
    batch_norm_fold(context);
    return MQB_OK;
}

/* ---- batch statistics ---- */

static size_t batch_norm_reduce_size(const struct mqb_op_context *context)
{
    const struct batch_norm *norm = context->state;
    return context->training ? 2 * (size_t)norm->channels : 0;
}

static void batch_norm_reduce(const struct mqb_op_context *context, const struct mqb_op_grain *grain, double *sums)
{
    struct mqb_extent x = mqb_input_extent(context, INPUT_X);
    memset(sums, 0, 2 * (size_t)x.c * sizeof(*sums));
    mqb_sum_rows_product(grain->images * x.pixels, x.c, grain->in[0], grain->in[0], sums, sums + x.c);
}

static mqb_status batch_norm_finish(struct mqb_op_context *context, const double *sums, struct mqb_error *error)
{
    struct batch_norm *norm = context->state;
    const struct mqb_node *node = context->node;
    double count = (double)(context->batch * mqb_input_extent(context, INPUT_X).pixels);
    double momentum = mqb_attr_f(node, "momentum", 0.9);
    float *running_mean = context->graph->values[node->inputs[INPUT_MEAN]].data;
    float *running_var = context->graph->values[node->inputs[INPUT_VAR]].data;
    if (count < 2)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "it sees one element a channel, so the batch has no variance; train with a larger batch");
    for (int64_t c = 0; c < norm->channels; c++) /* checked first: a failed step leaves the running statistics alone */
        if (!isfinite(sums[c]) || !isfinite(sums[norm->channels + c]))
            return mqb_fail(
                error, MQB_ERR_NUMERIC,
                "channel %d of its input '%s' is not finite in this batch: the training diverged; lower the learning rate",
                (int)c, context->graph->values[node->inputs[INPUT_X]].name);
    for (int64_t c = 0; c < norm->channels; c++) {
        double mean_x = sums[c] / count, var_x = sums[norm->channels + c] / count - mean_x * mean_x;
        double rdivisor = batch_norm_rdivisor(context, c), mean = mean_x * rdivisor;
        double var = (var_x > 0 ? var_x : 0) * rdivisor * rdivisor;
        norm->mean_x[c] = mean_x;
        norm->mean[c] = mean;
        norm->rsigma[c] = 1 / sqrt(var + batch_norm_epsilon(node));
        norm->rdivisor[c] = rdivisor;
        if (rdivisor == 0)
            continue;
        running_mean[c] = (float)(momentum * (double)running_mean[c] + (1 - momentum) * mean);
        running_var[c] = (float)(momentum * (double)running_var[c] + (1 - momentum) * var * (count / (count - 1)));
    }
    batch_norm_fold(context);
    return MQB_OK;
}

/* ---- forward ---- */

MQB_MULTIVERSION static void batch_norm_apply(int64_t size, int64_t period, const float *scale, const float *shift,
                                              const float *x, float *y)
{
    for (int64_t at = 0; at < size; at += period) {
        int64_t count = size - at < period ? size - at : period;
        MQB_ELEMENTWISE
        for (int64_t i = 0; i < count; i++)
            y[at + i] = x[at + i] * scale[i] + shift[i];
    }
}

static void batch_norm_forward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    const struct batch_norm *norm = context->state;
    batch_norm_apply(block->rows * block->channels, norm->period, norm->scale, norm->shift, block->in[0], block->out);
}

/* ---- backward: S1 = sum dy, S2 = sum dy xhat, xhat = (v - mean) / sigma, M elements a channel ---- */

static size_t batch_norm_backward_reduce_size(const struct mqb_op_context *context)
{
    const struct batch_norm *norm = context->state;
    return 2 * (size_t)norm->channels;
}

static void batch_norm_backward_reduce_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    (void)context;
    mqb_sum_rows_product(block->rows, block->channels, block->dout, block->in[0], block->sums, block->sums + block->channels);
}

static void add_to(float *const *dfixed, int input, int64_t c, double value)
{
    if (dfixed[input])
        dfixed[input][c] += (float)value;
}

/* Training: dv = gamma / sigma (dy - S1 / M - xhat S2 / M), dx = dv / divisor, and the gradient at the divisor is
 * - sum dv v / divisor, where sum dv v = gamma S2 epsilon / sigma^2. Otherwise: dv = gamma / sigma dy. */
static void batch_norm_backward_finish(struct mqb_op_context *context, const double *sums, float *const *dfixed)
{
    struct batch_norm *norm = context->state;
    double count = (double)(context->batch * mqb_input_extent(context, INPUT_X).pixels);
    double epsilon = batch_norm_epsilon(context->node);
    for (int64_t c = 0; c < norm->channels; c++) {
        double gamma = (double)context->fixed[INPUT_GAMMA][c], rsigma = norm->rsigma[c], rdivisor = norm->rdivisor[c];
        double s1 = sums[c], s2 = (sums[norm->channels + c] - norm->mean_x[c] * s1) * rdivisor * rsigma;
        double scale = gamma * rsigma * rdivisor;
        double slope = -scale * s2 / count * rsigma * rdivisor;
        double dv_v = context->training ? gamma * s2 * epsilon * rsigma * rsigma : gamma * (s2 + norm->mean[c] * rsigma * s1);
        norm->center[c] = (float)norm->mean_x[c];
        norm->slope[c] = (float)slope;
        norm->rest[c] = (float)(-scale * s1 / count + ((double)norm->center[c] - norm->mean_x[c]) * slope);
        add_to(dfixed, INPUT_GAMMA, c, s2);
        add_to(dfixed, INPUT_BETA, c, s1);
        if (context->node->num_inputs > INPUT_DIVISOR)
            add_to(dfixed, INPUT_DIVISOR, c, -dv_v * rdivisor);
    }
    batch_norm_repeat(norm, norm->center);
    batch_norm_repeat(norm, norm->slope);
    batch_norm_repeat(norm, norm->rest);
}

MQB_MULTIVERSION static void batch_norm_apply_backward(int64_t size, const struct batch_norm *norm, const float *x,
                                                       const float *dy, float *dx)
{
    const float *scale = norm->scale, *center = norm->center, *slope = norm->slope, *rest = norm->rest;
    for (int64_t at = 0; at < size; at += norm->period) {
        int64_t count = size - at < norm->period ? size - at : norm->period;
        MQB_ELEMENTWISE
        for (int64_t i = 0; i < count; i++)
            dx[at + i] = dy[at + i] * scale[i] + ((x[at + i] - center[i]) * slope[i] + rest[i]);
    }
}

MQB_MULTIVERSION static void batch_norm_scale(int64_t size, int64_t period, const float *scale, const float *dy, float *dx)
{
    for (int64_t at = 0; at < size; at += period) {
        int64_t count = size - at < period ? size - at : period;
        MQB_ELEMENTWISE
        for (int64_t i = 0; i < count; i++)
            dx[at + i] = dy[at + i] * scale[i];
    }
}

static void batch_norm_backward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    const struct batch_norm *norm = context->state;
    int64_t size = block->rows * block->channels;
    if (context->training) {
        if (block->din[0])
            batch_norm_apply_backward(size, norm, block->in[0], block->dout, block->din[0]);
        return;
    }
    if (block->sums) /* before din[0], which may be dout */
        batch_norm_backward_reduce_block(context, block);
    if (block->din[0])
        batch_norm_scale(size, norm->period, norm->scale, block->dout, block->din[0]);
}

const struct mqb_op mqb_op_batch_normalization = {
    .name = "BatchNormalization",
    .min_inputs = 5,
    .max_inputs = 6,
    .infer = batch_norm_infer,
    .create = batch_norm_create,
    .destroy = batch_norm_destroy,
    .prepare = batch_norm_prepare,
    .forward_block = batch_norm_forward_block,
    .backward_block = batch_norm_backward_block,
    .reduce_size = batch_norm_reduce_size,
    .reduce = batch_norm_reduce,
    .finish = batch_norm_finish,
    .backward_reduce_size = batch_norm_backward_reduce_size,
    .backward_reduce_block = batch_norm_backward_reduce_block,
    .backward_needs_finish = true,
    .backward_finish = batch_norm_backward_finish,
};
