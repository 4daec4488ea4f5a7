/*
 * convolve_integer.c - the forward convolution of fake-quantized operands on their codes. With x = s (q - z) and w = t[k] m
 *     y[k] = s t[k] (sum q m - z sum m) + bias[k]
 * where both sums are exact in 32 bits, so y is rounded three times at most whatever the length of the sums. Codes are bytes:
 * q is counted from the lowest code, and m = code - zero point must lie in -128..127. Positions outside the image hold z.
 */
#include "ops/ops.h"
#include "ops/point.h"

#include <mqbench/compute.h>
#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

#define MAX_TERMS 65536     /* of a sum: 255 * 128 * MAX_TERMS < 2^31 */
#define CHUNK_OUTPUTS 16384 /* results that stay in cache between their sums and their scaling */

struct mqb_convolve_integer {
    const struct mqb_conv_plan *plan;
    const struct mqb_point *x_point, *weight_point;
    int32_t channels;       /* K */
    int64_t terms;          /* a sum's: C / groups * R * S */
    int64_t x_size, y_size; /* of an image */
    bool padded;
    int8_t *weight;
    void *packed;
    float *scale;    /* s t[k] */
    int32_t *offset; /* z sum m */
    size_t codes_at; /* where in scratch the codes of a chunk stand */
    int32_t chunk_images;
    /* of the step at hand */
    bool ready;
    struct mqb_codes x; /* the grid alone */
};

mqb_status mqb_convolve_integer_create(const struct mqb_op_context *context, const struct mqb_conv_shape *shape,
                                       const struct mqb_conv_plan *plan, struct mqb_convolve_integer **result,
                                       size_t *scratch_size, struct mqb_error *error)
{
    const struct mqb_compute *compute = context->compute;
    const struct mqb_point *x_point = mqb_codes_point(context->graph, context->node->inputs[0]);
    const struct mqb_point *weight_point = mqb_codes_point(context->graph, context->node->inputs[1]);
    int64_t terms = (int64_t)(shape->c / shape->groups) * shape->r * shape->s;
    *result = NULL;
    *scratch_size = 0;
    if (!x_point || !weight_point || terms > MAX_TERMS || !MQB_HAS_FIELD(compute, struct mqb_compute, iconv_forward) ||
        !compute->iconv_forward)
        return MQB_OK;
    struct mqb_convolve_integer *integer = mqb_allocate(sizeof(*integer));
    if (!integer)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for its plan");
    integer->plan = plan;
    integer->x_point = x_point;
    integer->weight_point = weight_point;
    integer->channels = shape->k;
    integer->terms = terms;
    integer->x_size = (int64_t)shape->h * shape->w * shape->c;
    integer->y_size = (int64_t)shape->p * shape->q * shape->k;
    integer->padded = shape->pad_top > 0 || shape->pad_left > 0 || shape->pad_bottom > 0 || shape->pad_right > 0;
    int64_t images = CHUNK_OUTPUTS / integer->y_size;
    integer->chunk_images = (int32_t)(images < 1 ? 1 : images > context->max_images ? context->max_images : images);
    integer->codes_at = (compute->iconv_scratch_size(plan) + 63) / 64 * 64;
    *scratch_size = integer->codes_at + (size_t)integer->chunk_images * (size_t)integer->x_size;
    integer->weight = mqb_allocate_array((size_t)shape->k, (size_t)terms);
    integer->packed = mqb_allocate(compute->iconv_packed_size(plan));
    integer->scale = mqb_allocate_array((size_t)shape->k, sizeof(float));
    integer->offset = mqb_allocate_array((size_t)shape->k, sizeof(int32_t));
    if (!integer->weight || !integer->packed || !integer->scale || !integer->offset) {
        mqb_convolve_integer_destroy(integer);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for its weights as integers");
    }
    *result = integer;
    return MQB_OK;
}

void mqb_convolve_integer_destroy(struct mqb_convolve_integer *integer)
{
    if (!integer)
        return;
    mqb_deallocate(integer->weight);
    mqb_deallocate(integer->packed);
    mqb_deallocate(integer->scale);
    mqb_deallocate(integer->offset);
    mqb_deallocate(integer);
}

static bool integer_weights(struct mqb_convolve_integer *integer, const float *weight)
{
    const struct mqb_code_grid *grid = &integer->weight_point->grid;
    bool per_channel = integer->weight_point->scheme.per_channel;
    for (int32_t k = 0; k < integer->channels; k++) {
        float scale = grid->scale[per_channel ? k : 0];
        int8_t *row = integer->weight + k * integer->terms;
        float product = (float)((double)integer->x.scale * (double)scale);
        if (!mqb_codes_scale_usable(scale) || !mqb_codes_scale_usable(product) ||
            !mqb_multiples_from_floats(integer->terms, scale, weight + k * integer->terms, row))
            return false;
        int32_t sum = 0;
        for (int64_t i = 0; i < integer->terms; i++)
            sum += row[i];
        integer->scale[k] = product;
        integer->offset[k] = integer->x.zero * sum;
    }
    return true;
}

bool mqb_convolve_integer_prepare(const struct mqb_op_context *context, struct mqb_convolve_integer *integer)
{
    const struct mqb_code_grid *weight = &integer->weight_point->grid;
    int32_t weight_channels = integer->weight_point->scheme.per_channel ? integer->channels : 1;
    integer->ready = false;
    if (weight->num_channels != weight_channels || !mqb_codes_grid(integer->x_point, &integer->x) ||
        !integer_weights(integer, context->fixed[1]))
        return false;
    context->compute->iconv_pack(integer->plan, integer->weight, integer->packed);
    integer->ready = true;
    return true;
}

/* y, sums of 32 bits, to floats in place. */
MQB_MULTIVERSION static void scale_sums(int64_t rows, int32_t channels, const int32_t *offset, const float *scale,
                                        const float *bias, float *y)
{
    for (int64_t r = 0; r < rows; r++, y += channels) {
        MQB_ELEMENTWISE
        for (int32_t k = 0; k < channels; k++) {
            int32_t sum;
            memcpy(&sum, &y[k], sizeof(sum));
            y[k] = (float)(sum - offset[k]) * scale[k];
        }
        if (bias) {
            MQB_ELEMENTWISE
            for (int32_t k = 0; k < channels; k++)
                y[k] += bias[k];
        }
    }
}

bool mqb_convolve_integer_forward(const struct mqb_op_context *context, const struct mqb_convolve_integer *integer,
                                  const struct mqb_op_grain *grain)
{
    uint8_t *made = (uint8_t *)grain->scratch + integer->codes_at;
    if (!integer->ready)
        return false;
    for (int32_t i = 0; i < grain->images; i += integer->chunk_images) {
        int32_t images = grain->images - i < integer->chunk_images ? grain->images - i : integer->chunk_images;
        float *y = grain->out + i * integer->y_size;
        const uint8_t *codes = grain->codes.data ? grain->codes.data + i * integer->x_size : made;
        if (!grain->codes.data &&
            !mqb_codes_from_floats(images * integer->x_size, &integer->x, grain->in[0] + i * integer->x_size, made))
            return false;
        context->compute->iconv_forward(integer->plan, images, codes, (uint8_t)integer->x.zero, integer->packed,
                                        (int32_t *)(void *)y, grain->scratch);
        scale_sums(images * integer->y_size / integer->channels, integer->channels, integer->offset, integer->scale,
                   context->fixed[2], y);
    }
    return true;
}
