/* batch_scale.c - BatchScale(gamma, var) = gamma / sqrt(var + epsilon): what a folded convolution's weights are multiplied by.
 * var is a running statistic, without gradient, or the batch's: d sf / d var = - sf / (2 (var + epsilon)). */
#include "ops/ops.h"

#include <math.h>

static mqb_status batch_scale_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                    struct mqb_error *error)
{
    const struct mqb_value *gamma;
    mqb_status status = mqb_infer_fixed(graph, node, 0, "gamma", &gamma, error);
    if (status)
        return status;
    status = mqb_infer_vector(graph, node, 0, "gamma", gamma->dims[0], false, error);
    if (!status)
        status = mqb_infer_vector(graph, node, 1, "variance", gamma->dims[0], false, error);
    if (status)
        return status;
    double epsilon = mqb_attr_f(node, "epsilon", 1e-5);
    if (!(epsilon > 0) || !isfinite(epsilon))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute epsilon = %g, expected a positive number", epsilon);
    return mqb_infer_output(output, 1, gamma->dims, false, error);
}

static int64_t batch_scale_size(const struct mqb_op_context *context)
{
    return context->graph->values[context->node->output].dims[0];
}

/* The state is sigma as forward saw it: batch normalization updates the running variance before backward comes. */
static mqb_status batch_scale_create(struct mqb_op_context *context, size_t *scratch_size, struct mqb_error *error)
{
    *scratch_size = 0;
    context->state = mqb_allocate_array((size_t)batch_scale_size(context), sizeof(float));
    return context->state ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the folded scale");
}

static void batch_scale_destroy(struct mqb_op_context *context)
{
    mqb_deallocate(context->state);
}

static mqb_status batch_scale_forward(struct mqb_op_context *context, float *out, struct mqb_error *error)
{
    int64_t size = batch_scale_size(context);
    float *sigma = context->state, epsilon = (float)mqb_attr_f(context->node, "epsilon", 1e-5);
    for (int64_t c = 0; c < size; c++) {
        sigma[c] = sqrtf(context->fixed[1][c] + epsilon);
        out[c] = context->fixed[0][c] / sigma[c];
        if (!isfinite(out[c]))
            return mqb_fail(error, MQB_ERR_NUMERIC,
                            "gamma / sqrt(variance + epsilon) is %g in channel %d (gamma %g, variance %g); the "
                            "training diverged, or the model's running variance is negative",
                            (double)out[c], (int)c, (double)context->fixed[0][c], (double)context->fixed[1][c]);
    }
    return MQB_OK;
}

static void batch_scale_backward(struct mqb_op_context *context, const float *dout, float *const *din)
{
    const float *sigma = context->state;
    int64_t size = batch_scale_size(context);
    for (int64_t c = 0; din[0] && c < size; c++)
        din[0][c] += dout[c] / sigma[c];
    for (int64_t c = 0; din[1] && c < size; c++) {
        double s = (double)sigma[c];
        din[1][c] += (float)(-0.5 * (double)dout[c] * (double)context->fixed[0][c] / (s * s * s));
    }
}

const struct mqb_op mqb_op_batch_scale = {
    .name = "BatchScale",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = batch_scale_infer,
    .create = batch_scale_create,
    .destroy = batch_scale_destroy,
    .forward_fixed = batch_scale_forward,
    .backward_fixed = batch_scale_backward,
};
