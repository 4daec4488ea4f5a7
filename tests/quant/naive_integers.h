/* naive_integers.h - for tests: a compute provider with nothing but plain integer convolutions, raw sums modulo 2^32. */
#ifndef NAIVE_INTEGERS_H
#define NAIVE_INTEGERS_H

#include "base/base.h"

#include <mqbench/compute.h>

#include <stdlib.h>
#include <string.h>

struct mqb_conv_plan {
    struct mqb_conv_shape shape;
    int32_t max_images;
};

static mqb_status naive_plan_create(const struct mqb_host *host, const struct mqb_conv_shape *shape, int32_t max_images,
                                    struct mqb_conv_plan **plan, struct mqb_error *error)
{
    (void)host;
    if (shape->r == 7) /* the engine must fall back */
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "no kernel of 7 rows");
    *plan = malloc(sizeof(**plan));
    **plan = (struct mqb_conv_plan){*shape, max_images};
    return MQB_OK;
}

static void naive_plan_destroy(struct mqb_conv_plan *plan)
{
    free(plan);
}

static size_t naive_packed_size(const struct mqb_conv_plan *plan)
{
    const struct mqb_conv_shape *s = &plan->shape;
    return (size_t)s->k * (size_t)(s->c / s->groups) * (size_t)s->r * (size_t)s->s;
}

static size_t naive_scratch_size(const struct mqb_conv_plan *plan)
{
    (void)plan;
    return 100; /* no multiple of 64 */
}

static void naive_pack(const struct mqb_conv_plan *plan, const int8_t *weight, void *packed)
{
    memcpy(packed, weight, naive_packed_size(plan));
}

static void naive_forward(const struct mqb_conv_plan *plan, int32_t n, const uint8_t *x, uint8_t pad_value, const void *packed,
                          int32_t *acc, void *scratch)
{
    const struct mqb_conv_shape *s = &plan->shape;
    const int8_t *weight = packed;
    int32_t cg = s->c / s->groups, kg = s->k / s->groups;
    memset(scratch, 0xa5, 100);
    if (n > plan->max_images)
        abort();
    for (int32_t i = 0; i < n; i++)
        for (int32_t p = 0; p < s->p; p++)
            for (int32_t q = 0; q < s->q; q++)
                for (int32_t k = 0; k < s->k; k++) {
                    uint32_t sum = 0;
                    for (int32_t r = 0; r < s->r; r++)
                        for (int32_t t = 0; t < s->s; t++)
                            for (int32_t c = 0; c < cg; c++) {
                                int32_t h = p * s->stride_h - s->pad_top + r * s->dilation_h;
                                int32_t w = q * s->stride_w - s->pad_left + t * s->dilation_w;
                                int inside = h >= 0 && w >= 0 && h < s->h && w < s->w;
                                int32_t v = inside ? x[((i * s->h + h) * s->w + w) * s->c + k / kg * cg + c] : pad_value;
                                sum += (uint32_t)(v * weight[((k * cg + c) * s->r + r) * s->s + t]);
                            }
                    acc[((i * s->p + p) * s->q + q) * s->k + k] = (int32_t)sum;
                }
}

static const struct mqb_compute naive_integers = {
    .struct_size = sizeof(struct mqb_compute),
    .description = "plain loops",
    .conv_create = naive_plan_create,
    .conv_destroy = naive_plan_destroy,
    .iconv_packed_size = naive_packed_size,
    .iconv_scratch_size = naive_scratch_size,
    .iconv_pack = naive_pack,
    .iconv_forward = naive_forward,
};

#endif
