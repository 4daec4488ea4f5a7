/* moments.c - mean and variance of a batch's channels, and the running statistics that follow them: what batch normalization
 * and the statistics of a folded one share. */
#include "ops/ops.h"

#include <math.h>
#include <string.h>

mqb_status mqb_moments_check(const struct mqb_op_context *context, int32_t running_mean, struct mqb_error *error)
{
    for (int32_t i = running_mean; i <= running_mean + 1; i++) {
        const struct mqb_value *value = mqb_node_input(context->graph, context->node, i);
        if (value->kind != MQB_VALUE_STATE || !value->data)
            return mqb_fail(error, MQB_ERR_ARGUMENT,
                            "its running statistic '%s' is not a state of the network, so training cannot update it",
                            value->name);
    }
    return MQB_OK;
}

mqb_status mqb_moments_infer(const struct mqb_node *node, int64_t channels, struct mqb_error *error)
{
    double momentum = mqb_attr_f(node, "momentum", 0.9);
    if (!(momentum >= 0 && momentum <= 1))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute momentum = %g, expected a number from 0 to 1", momentum);
    if (mqb_attr_i(node, "channel_correction", 0) != 0 && channels < 2)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "attribute channel_correction divides by the number of channels less 1, and there is "
                        "one channel");
    return MQB_OK;
}

void mqb_moments_reduce(const struct mqb_op_context *context, const struct mqb_op_grain *grain, double *sums)
{
    struct mqb_extent x = mqb_input_extent(context, 0);
    memset(sums, 0, 2 * (size_t)x.c * sizeof(*sums));
    mqb_sum_rows_square(grain->images * x.pixels, x.c, grain->in[0], sums, sums + x.c);
}

double mqb_moments_count(const struct mqb_op_context *context)
{
    return (double)(context->batch * mqb_input_extent(context, 0).pixels);
}

mqb_status mqb_moments(const struct mqb_op_context *context, const double *sums, double *mean, double *var,
                       struct mqb_error *error)
{
    int64_t channels = mqb_input_extent(context, 0).c;
    double count = mqb_moments_count(context);
    if (count < 2)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "it sees one element a channel, so the batch has no variance; train with a larger batch");
    for (int64_t c = 0; c < channels; c++) /* checked first: a failed step leaves the running statistics alone */
        if (!isfinite(sums[c]) || !isfinite(sums[channels + c]))
            return mqb_fail(
                error, MQB_ERR_NUMERIC,
                "channel %d of its input '%s' is not finite in this batch: the training diverged; lower the learning rate",
                (int)c, context->graph->values[context->node->inputs[0]].name);
    for (int64_t c = 0; c < channels; c++) {
        mean[c] = sums[c] / count;
        var[c] = sums[channels + c] / count - mean[c] * mean[c];
        if (!(var[c] > 0))
            var[c] = 0;
    }
    return MQB_OK;
}

void mqb_moments_follow(const struct mqb_op_context *context, int32_t running_mean, int64_t channel, double mean, double var)
{
    double count = mqb_moments_count(context), momentum = mqb_attr_f(context->node, "momentum", 0.9);
    if (mqb_attr_i(context->node, "channel_correction", 0) != 0)
        count = (double)mqb_input_extent(context, 0).c;
    float *means = context->graph->values[context->node->inputs[running_mean]].data;
    float *vars = context->graph->values[context->node->inputs[running_mean + 1]].data;
    means[channel] = (float)(momentum * (double)means[channel] + (1 - momentum) * mean);
    vars[channel] = (float)(momentum * (double)vars[channel] + (1 - momentum) * var * (count / (count - 1)));
}
