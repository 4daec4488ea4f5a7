/* scale_channels.c - ScaleChannels(w, sf): every weight of output channel k times sf[k]. */
#include "ops/ops.h"

#include <mqbench/plugin.h>

MQB_MULTIVERSION static void scale_channel(int64_t size, const float *w, float sf, float *out)
{
    for (int64_t i = 0; i < size; i++)
        out[i] = w[i] * sf;
}

MQB_MULTIVERSION static void scale_channel_add(int64_t size, const float *dout, float sf, float *dw)
{
    for (int64_t i = 0; i < size; i++)
        dw[i] += dout[i] * sf;
}

static mqb_status scale_channels_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                                       struct mqb_error *error)
{
    const struct mqb_value *weight;
    mqb_status status = mqb_infer_fixed(graph, node, 0, "weight", &weight, error);
    if (status)
        return status;
    char text[MQB_SHAPE_TEXT];
    if (weight->rank < 1)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "input 0 (weight, '%s') has shape %s, expected output channels first",
                        weight->name, mqb_shape_text(weight, text));
    status = mqb_infer_vector(graph, node, 1, "scale", weight->dims[0], false, error);
    if (status)
        return status;
    return mqb_infer_output(output, weight->rank, weight->dims, false, error);
}

/* Pieces of whole channels. */
struct scale_channels_task {
    const float *w, *sf, *dout;
    float *out, *dw, *dsf;
    int64_t channels, size; /* size: of one channel */
    int64_t per_piece;
};

static int64_t scale_channels_task_init(const struct mqb_op_context *context, struct scale_channels_task *task)
{
    const struct mqb_value *output = &context->graph->values[context->node->output];
    task->w = context->fixed[0];
    task->sf = context->fixed[1];
    task->channels = output->dims[0];
    task->size = mqb_value_size(output) / task->channels;
    return mqb_fixed_pieces(task->channels, task->size, &task->per_piece);
}

static void scale_channels_forward_piece(void *argument, int index, int worker)
{
    const struct scale_channels_task *task = argument;
    (void)worker;
    int64_t end = (index + 1) * task->per_piece;
    for (int64_t k = index * task->per_piece; k < end && k < task->channels; k++) {
        scale_channel(task->size, task->w + k * task->size, task->sf[k], task->out + k * task->size);
    }
}

static void scale_channels_backward_piece(void *argument, int index, int worker)
{
    const struct scale_channels_task *task = argument;
    (void)worker;
    int64_t end = (index + 1) * task->per_piece;
    for (int64_t k = index * task->per_piece; k < end && k < task->channels; k++) {
        const float *w = task->w + k * task->size, *dout = task->dout + k * task->size;
        if (task->dw)
            scale_channel_add(task->size, dout, task->sf[k], task->dw + k * task->size);
        if (task->dsf) {
            double sum = 0;
            for (int64_t i = 0; i < task->size; i++)
                sum += (double)dout[i] * (double)w[i];
            task->dsf[k] += (float)sum;
        }
    }
}

static mqb_status scale_channels_forward(struct mqb_op_context *context, float *out, struct mqb_error *error)
{
    struct scale_channels_task task = {.out = out};
    (void)error;
    int64_t num_pieces = scale_channels_task_init(context, &task);
    mqb_fixed_run(context->pool, num_pieces, scale_channels_forward_piece, &task);
    return MQB_OK;
}

static void scale_channels_backward(struct mqb_op_context *context, const float *dout, float *const *din)
{
    struct scale_channels_task task = {.dout = dout, .dw = din[0], .dsf = din[1]};
    int64_t num_pieces = scale_channels_task_init(context, &task);
    mqb_fixed_run(context->pool, num_pieces, scale_channels_backward_piece, &task);
}

const struct mqb_op mqb_op_scale_channels = {
    .name = "ScaleChannels",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = scale_channels_infer,
    .forward_fixed = scale_channels_forward,
    .backward_fixed = scale_channels_backward,
};
