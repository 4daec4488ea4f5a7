/* batch_scale.c - BatchScale(gamma, var) = gamma / sqrt(var + epsilon): what a folded convolution's weights are multiplied by.
 * var is a running statistic: no gradient goes there. */
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
    return mqb_infer_output(node, output, 1, gamma->dims, false, error);
}

static float batch_scale_sigma(const struct mqb_op_context *context, int64_t c)
{
    return sqrtf(context->fixed[1][c] + (float)mqb_attr_f(context->node, "epsilon", 1e-5));
}

static int64_t batch_scale_size(const struct mqb_op_context *context)
{
    return context->graph->values[context->node->output].dims[0];
}

static mqb_status batch_scale_forward(struct mqb_op_context *context, float *out, struct mqb_error *error)
{
    int64_t size = batch_scale_size(context);
    for (int64_t c = 0; c < size; c++) {
        out[c] = context->fixed[0][c] / batch_scale_sigma(context, c);
        if (!isfinite(out[c]))
            return mqb_fail(error, MQB_ERR_NUMERIC,
                            "gamma / sqrt(variance + epsilon) is %g in channel %d (gamma %g, variance %g); the "
                            "training diverged, or the model's running variance is negative",
                            (double)out[c], (int)c, (double)context->fixed[0][c],
                            (double)context->fixed[1][c]);
    }
    return MQB_OK;
}

static void batch_scale_backward(struct mqb_op_context *context, const float *dout, float *const *din)
{
    int64_t size = batch_scale_size(context);
    if (din[0])
        for (int64_t c = 0; c < size; c++)
            din[0][c] += dout[c] / batch_scale_sigma(context, c);
}

const struct mqb_op mqb_op_batch_scale = {
    .name = "BatchScale",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = batch_scale_infer,
    .forward_fixed = batch_scale_forward,
    .backward_fixed = batch_scale_backward,
};
