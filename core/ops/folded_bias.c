/*
 * folded_bias.c - FoldedBias(beta, mean, sf [, bias]) = beta + (bias - mean) * sf: the bias of a convolution that has taken a batch
 * normalization into itself (strategies 1 and 2 of MQBench). mean is a running statistic, without gradient, or the batch's.
 */
#include "ops/ops.h"

enum { BETA = 0, MEAN = 1, SF = 2, BIAS = 3 };

static mqb_status folded_bias_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                    struct mqb_error *error)
{
    static const char *const names[] = {"beta", "mean", "sf", "bias"};
    const struct mqb_value *beta;
    mqb_status status = mqb_infer_fixed(graph, node, BETA, names[BETA], &beta, error);
    for (int i = 0; i < node->num_inputs && status == MQB_OK; i++)
        status = mqb_infer_vector(graph, node, i, names[i], beta->dims[0], i == BIAS, error);
    return status == MQB_OK ? mqb_infer_output(output, 1, beta->dims, false, error) : status;
}

static mqb_status folded_bias_forward(struct mqb_op_context *context, float *out, struct mqb_error *error)
{
    const float *const *in = context->fixed;
    int64_t size = context->graph->values[context->node->output].dims[0];
    (void)error;
    for (int64_t c = 0; c < size; c++)
        out[c] = in[BETA][c] + ((in[BIAS] ? in[BIAS][c] : 0.0f) - in[MEAN][c]) * in[SF][c];
    return MQB_OK;
}

static void folded_bias_backward(struct mqb_op_context *context, const float *dout, float *const *din)
{
    const float *const *in = context->fixed;
    int64_t size = context->graph->values[context->node->output].dims[0];
    for (int64_t c = 0; c < size; c++) {
        if (din[BETA])
            din[BETA][c] += dout[c];
        if (din[MEAN])
            din[MEAN][c] -= dout[c] * in[SF][c];
        if (din[SF])
            din[SF][c] += dout[c] * ((in[BIAS] ? in[BIAS][c] : 0.0f) - in[MEAN][c]);
        if (din[BIAS])
            din[BIAS][c] += dout[c] * in[SF][c];
    }
}

const struct mqb_op mqb_op_folded_bias = {
    .name = "FoldedBias",
    .min_inputs = 3,
    .max_inputs = 4,
    .infer = folded_bias_infer,
    .forward_fixed = folded_bias_forward,
    .backward_fixed = folded_bias_backward,
};
