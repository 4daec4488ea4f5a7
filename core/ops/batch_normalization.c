/*
 * batch_normalization.c - BatchNormalization over N x H x W, one channel at a time, of v = x / divisor (divisor 1 if absent):
 *     y = gamma (v - mean) / sigma + beta,  sigma = sqrt(var + epsilon)
 * Training: mean and var are the batch's; the running ones move by ONNX's momentum, with the unbiased variance.
 * Otherwise: the running ones. Statistics of v come from sums over x, so v is never formed.
 * Where mean and var are themselves computed (BatchStatistics), they are *given*: used as they are, in training too, where they
 * get a gradient.
 *
 * A divisor of exactly 0 comes from gamma = 0 in a folded convolution: x is 0 too and v is unknown. There v is taken as
 * constant: y = beta, no gradient but beta's, running statistics stay. With given statistics a seventh input tells the variance
 * that the divisor was made of, divisor = gamma / sigma_f: then y = x sigma_f / sigma + beta - gamma mean / sigma, which
 * gamma = 0 does not trouble, and the divisor itself is not needed.
 */
#include "ops/ops.h"

#include <mqbench/plugin.h>

#include <math.h>

enum { INPUT_X, INPUT_GAMMA, INPUT_BETA, INPUT_MEAN, INPUT_VAR, INPUT_DIVISOR, INPUT_FOLDED_VAR };

#define PERIOD 256 /* floats of repeated coefficients: few channels still make long loops */

struct batch_norm {
    int64_t channels;
    bool own;                     /* statistics of its own batch: training, and they are not given */
    bool folded;                  /* the divisor is gamma / sigma_f */
    int64_t period;               /* floats in a coefficient array: whole rows */
    double *mean_x, *mean;        /* of x, of v */
    double *rsigma, *rdivisor;    /* 1 / sigma, 1 / divisor (0 for a divisor of 0) */
    double *sigma_f;              /* folded: of the variance that the divisor was made of */
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
    static const char *const names[] = {"x", "gamma", "beta", "mean", "variance", "divisor", "folded variance"};
    const struct mqb_value *x;
    mqb_status status = mqb_infer_batched(graph, node, INPUT_X, false, &x, error);
    for (int32_t i = INPUT_GAMMA; i <= INPUT_FOLDED_VAR && !status; i++)
        status = mqb_infer_vector(graph, node, i, names[i], x->dims[1], i >= INPUT_DIVISOR, error);
    if (status)
        return status;
    double epsilon = batch_norm_epsilon(node);
    if (!(epsilon > 0) || !isfinite(epsilon))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute epsilon = %g, expected a positive number", epsilon);
    status = mqb_moments_infer(node, x->dims[1], error);
    return status ? status : mqb_infer_output(output, x->rank, x->dims, true, error);
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
    bool given = mqb_node_input(context->graph, context->node, INPUT_MEAN)->kind == MQB_VALUE_RESULT &&
                 mqb_node_input(context->graph, context->node, INPUT_VAR)->kind == MQB_VALUE_RESULT;
    bool folded = mqb_node_input(context->graph, context->node, INPUT_FOLDED_VAR) != NULL;
    mqb_status status = context->training && !given ? mqb_moments_check(context, INPUT_MEAN, error) : MQB_OK;
    if (!status && context->training && !given && folded)
        status = mqb_fail(error, MQB_ERR_ARGUMENT,
                          "it has a folded variance, which goes with given statistics; in training it would use those of its "
                          "own batch");
    if (status)
        return status;
    struct batch_norm *norm = mqb_allocate(sizeof(*norm));
    if (!norm)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for its state");
    context->state = norm;
    int64_t channels = mqb_input_extent(context, INPUT_X).c;
    norm->channels = channels;
    norm->own = context->training && !given;
    norm->folded = folded;
    norm->period = channels < PERIOD ? PERIOD / channels * channels : channels;
    norm->mean_x = mqb_allocate_array((size_t)channels * 5, sizeof(double));
    norm->scale = mqb_allocate_array((size_t)norm->period * 5, sizeof(float));
    if (!norm->mean_x || !norm->scale)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the statistics of %d channels", (int)channels);
    norm->mean = norm->mean_x + channels;
    norm->rsigma = norm->mean + channels;
    norm->rdivisor = norm->rsigma + channels;
    norm->sigma_f = norm->rdivisor + channels;
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

/* scale and shift from mean, rsigma and rdivisor or sigma_f. */
static void batch_norm_fold(const struct mqb_op_context *context)
{
    const struct batch_norm *norm = context->state;
    const float *gamma = context->fixed[INPUT_GAMMA], *beta = context->fixed[INPUT_BETA];
    for (int64_t c = 0; c < norm->channels; c++) {
        double factor = (double)gamma[c] * norm->rsigma[c];
        bool constant = !norm->folded && norm->rdivisor[c] == 0;
        norm->scale[c] = (float)(norm->folded ? norm->sigma_f[c] * norm->rsigma[c] : factor * norm->rdivisor[c]);
        norm->shift[c] = constant ? beta[c] : (float)((double)beta[c] - norm->mean[c] * factor);
    }
    batch_norm_repeat(norm, norm->scale);
    batch_norm_repeat(norm, norm->shift);
}

/* With running statistics all is known before the batch is seen; given ones are there when this is called. */
static mqb_status batch_norm_prepare(struct mqb_op_context *context, struct mqb_error *error)
{
    struct batch_norm *norm = context->state;
    if (norm->own)
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
        if (norm->folded)
            norm->sigma_f[c] = sqrt((double)context->fixed[INPUT_FOLDED_VAR][c] + batch_norm_epsilon(context->node));
    }
    batch_norm_fold(context);
    return MQB_OK;
}

/* ---- batch statistics ---- */

static size_t batch_norm_reduce_size(const struct mqb_op_context *context)
{
    const struct batch_norm *norm = context->state;
    return norm->own ? 2 * (size_t)norm->channels : 0;
}

static mqb_status batch_norm_finish(struct mqb_op_context *context, const double *sums, struct mqb_error *error)
{
    struct batch_norm *norm = context->state;
    double *var_x = norm->rsigma; /* until it is replaced */
    mqb_status status = mqb_moments(context, sums, norm->mean_x, var_x, error);
    if (status)
        return status;
    for (int64_t c = 0; c < norm->channels; c++) {
        double rdivisor = batch_norm_rdivisor(context, c), mean = norm->mean_x[c] * rdivisor;
        double var = var_x[c] * rdivisor * rdivisor;
        norm->mean[c] = mean;
        norm->rsigma[c] = 1 / sqrt(var + batch_norm_epsilon(context->node));
        norm->rdivisor[c] = rdivisor;
        if (rdivisor != 0)
            mqb_moments_follow(context, INPUT_MEAN, c, mean, var);
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

/* y = x sigma_f / sigma + beta - gamma mean / sigma, all but x, gamma and beta given; sums: dy and dy x. */
static void batch_norm_folded_finish(const struct mqb_op_context *context, const double *sums, float *const *dfixed)
{
    const struct batch_norm *norm = context->state;
    for (int64_t c = 0; c < norm->channels; c++) {
        double gamma = (double)context->fixed[INPUT_GAMMA][c], rsigma = norm->rsigma[c], s1 = sums[c];
        double drsigma = norm->sigma_f[c] * sums[norm->channels + c] - gamma * norm->mean[c] * s1;
        add_to(dfixed, INPUT_GAMMA, c, -s1 * norm->mean[c] * rsigma);
        add_to(dfixed, INPUT_BETA, c, s1);
        add_to(dfixed, INPUT_MEAN, c, -s1 * gamma * rsigma);
        add_to(dfixed, INPUT_VAR, c, -0.5 * drsigma * rsigma * rsigma * rsigma);
    }
}

/* Own statistics: dv = gamma / sigma (dy - S1 / M - xhat S2 / M), dx = dv / divisor, and the gradient at the divisor is
 * - sum dv v / divisor, where sum dv v = gamma S2 epsilon / sigma^2. Otherwise: dv = gamma / sigma dy, and given statistics get
 * dmean = - gamma S1 / sigma, dvar = - gamma S2 / (2 sigma^2). */
static void batch_norm_backward_finish(struct mqb_op_context *context, const double *sums, float *const *dfixed)
{
    struct batch_norm *norm = context->state;
    double count = (double)(context->batch * mqb_input_extent(context, INPUT_X).pixels);
    double epsilon = batch_norm_epsilon(context->node);
    if (norm->folded) {
        batch_norm_folded_finish(context, sums, dfixed);
        return;
    }
    for (int64_t c = 0; c < norm->channels; c++) {
        double gamma = (double)context->fixed[INPUT_GAMMA][c], rsigma = norm->rsigma[c], rdivisor = norm->rdivisor[c];
        double s1 = sums[c], s2 = (sums[norm->channels + c] - norm->mean_x[c] * s1) * rdivisor * rsigma;
        double scale = gamma * rsigma * rdivisor;
        double slope = -scale * s2 / count * rsigma * rdivisor;
        double dv_v = norm->own ? gamma * s2 * epsilon * rsigma * rsigma : gamma * (s2 + norm->mean[c] * rsigma * s1);
        norm->center[c] = (float)norm->mean_x[c];
        norm->slope[c] = (float)slope;
        norm->rest[c] = (float)(-scale * s1 / count + ((double)norm->center[c] - norm->mean_x[c]) * slope);
        add_to(dfixed, INPUT_GAMMA, c, s2);
        add_to(dfixed, INPUT_BETA, c, s1);
        if (context->node->num_inputs > INPUT_DIVISOR)
            add_to(dfixed, INPUT_DIVISOR, c, -dv_v * rdivisor);
        if (!norm->own && rdivisor != 0) {
            add_to(dfixed, INPUT_MEAN, c, -gamma * s1 * rsigma);
            add_to(dfixed, INPUT_VAR, c, -0.5 * gamma * s2 * rsigma * rsigma);
        }
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
    if (norm->own) {
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
    .max_inputs = 7,
    .infer = batch_norm_infer,
    .create = batch_norm_create,
    .destroy = batch_norm_destroy,
    .prepare = batch_norm_prepare,
    .forward_block = batch_norm_forward_block,
    .backward_block = batch_norm_backward_block,
    .reduce_size = batch_norm_reduce_size,
    .reduce = mqb_moments_reduce,
    .finish = batch_norm_finish,
    .backward_reduce_size = batch_norm_backward_reduce_size,
    .backward_reduce_block = batch_norm_backward_reduce_block,
    .backward_needs_finish = true,
    .backward_finish = batch_norm_backward_finish,
};
