/* convolve.c - what Conv and Gemm share: a plan of the compute provider, weights packed once a step, the bias's gradient. */
#include "ops/ops.h"

#include <mqbench/compute.h>

#include <pthread.h>
#include <string.h>

struct convolve {
    struct mqb_conv_plan *plan;
    void *packed;
    struct mqb_convolve_integer *integer; /* or NULL */
    pthread_mutex_t mutex;
    bool forward_packed; /* the weights of this step, for a forward pass in float; under the mutex */
    size_t scratch_size; /* the provider's part; the bias's sums follow */
    size_t floats_at;    /* where in scratch a grain's floats stand that are made of codes */
};

mqb_status mqb_convolve_create(struct mqb_op_context *context, const struct mqb_conv_shape *shape, size_t *scratch_size,
                               struct mqb_error *error)
{
    const struct mqb_compute *compute = context->compute;
    if (!compute || !context->host)
        return mqb_fail(error, MQB_ERR_INTERNAL, "a plan was made without a compute provider and its host");
    struct convolve *conv = mqb_allocate(sizeof(*conv));
    if (!conv)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for its plan");
    if (pthread_mutex_init(&conv->mutex, NULL) != 0) {
        mqb_deallocate(conv);
        return mqb_fail(error, MQB_ERR_MEMORY, "no mutex for its plan");
    }
    context->state = conv;
    mqb_status status = compute->conv_create(context->host, shape, context->max_images, &conv->plan, error);
    if (status)
        return status;
    size_t packed_size = compute->conv_packed_size(conv->plan);
    conv->packed = mqb_allocate_raw(packed_size); /* what no pass needs stays untouched */
    if (packed_size && !conv->packed)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for %zu bytes of packed weights", packed_size);
    conv->scratch_size = (compute->conv_scratch_size(conv->plan) + 63) / 64 * 64;
    size_t integer_size = 0;
    conv->floats_at = (conv->scratch_size + (size_t)shape->k * sizeof(double) + 63) / 64 * 64;
    *scratch_size = conv->floats_at;
    if (mqb_codes_point(context->graph, context->node->inputs[0]))
        *scratch_size += (size_t)context->max_images * (size_t)mqb_input_extent(context, 0).size * sizeof(float);
    status = mqb_convolve_integer_create(context, shape, conv->plan, &conv->integer, &integer_size, error);
    *scratch_size = integer_size > *scratch_size ? integer_size : *scratch_size;
    return status;
}

void mqb_convolve_destroy(struct mqb_op_context *context)
{
    struct convolve *conv = context->state;
    if (!conv)
        return;
    context->compute->conv_destroy(conv->plan);
    mqb_convolve_integer_destroy(conv->integer);
    mqb_deallocate(conv->packed);
    pthread_mutex_destroy(&conv->mutex);
    mqb_deallocate(conv);
    context->state = NULL;
}

mqb_status mqb_convolve_prepare(struct mqb_op_context *context, struct mqb_error *error)
{
    struct convolve *conv = context->state;
    (void)error;
    conv->forward_packed = !conv->integer || !mqb_convolve_integer_prepare(context, conv->integer);
    if (conv->forward_packed)
        context->compute->conv_pack(conv->plan, context->fixed[1], context->gradients, conv->packed);
    else if (context->gradients)
        context->compute->conv_pack(conv->plan, context->fixed[1], MQB_PACK_BACKWARD, conv->packed);
    return MQB_OK;
}

/* Only a grain whose input has no codes comes here in a step that runs in integers. */
static void pack_forward(const struct mqb_op_context *context)
{
    struct convolve *conv = context->state;
    pthread_mutex_lock(&conv->mutex);
    if (!conv->forward_packed)
        context->compute->conv_pack(conv->plan, context->fixed[1], MQB_PACK_FORWARD, conv->packed);
    conv->forward_packed = true;
    pthread_mutex_unlock(&conv->mutex);
}

/* Input 0 as floats; of codes they are made in scratch. */
static const float *convolve_floats(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    const struct convolve *conv = context->state;
    if (!grain->codes.data)
        return grain->in[0];
    float *floats = (float *)(void *)((char *)grain->scratch + conv->floats_at);
    mqb_floats_from_codes(&grain->codes, 0, grain->images * mqb_input_extent(context, 0).size, floats);
    return floats;
}

void mqb_convolve_forward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    const struct convolve *conv = context->state;
    if (conv->integer && mqb_convolve_integer_forward(context, conv->integer, grain))
        return;
    pack_forward(context);
    context->compute->conv_forward(conv->plan, grain->images, convolve_floats(context, grain), conv->packed, context->fixed[2],
                                   grain->out, grain->scratch);
}

/* Whether a grain runs in integers is decided for the whole of it. */
bool mqb_convolve_has_rows(const struct mqb_op_context *context)
{
    const struct convolve *conv = context->state;
    return !conv->integer && MQB_HAS_FIELD(context->compute, struct mqb_compute, conv_rows) && context->compute->conv_rows;
}

void mqb_convolve_rows(const struct mqb_op_context *context, const struct mqb_op_rows *rows)
{
    const struct convolve *conv = context->state;
    context->compute->conv_rows(conv->plan, rows->first, rows->count, rows->in, conv->packed, context->fixed[2], rows->out,
                                rows->scratch);
}

void mqb_convolve_backward(const struct mqb_op_context *context, const struct mqb_op_grain *grain)
{
    const struct convolve *conv = context->state;
    const struct mqb_compute *compute = context->compute;
    if (grain->din[0])
        compute->conv_backward_data(conv->plan, grain->images, grain->dout, conv->packed, grain->din[0], grain->accumulate[0],
                                    grain->scratch);
    if (grain->din[1])
        compute->conv_backward_weights(conv->plan, grain->images, convolve_floats(context, grain), grain->dout, grain->din[1],
                                       grain->scratch);
    if (grain->din[2]) {
        struct mqb_extent y = mqb_output_extent(context);
        double *sum = (double *)(void *)((char *)grain->scratch + conv->scratch_size);
        memset(sum, 0, (size_t)y.c * sizeof(double));
        mqb_sum_rows(grain->images * y.pixels, y.c, grain->dout, sum);
        for (int64_t k = 0; k < y.c; k++)
            grain->din[2][k] = (float)sum[k];
    }
}
