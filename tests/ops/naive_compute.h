/* naive_compute.h - for tests: a compute provider of plain loops in double precision. Its "packed" weights are a copy. */
#ifndef NAIVE_COMPUTE_H
#define NAIVE_COMPUTE_H

#include <mqbench/compute.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mqb_conv_plan {
    struct mqb_conv_shape shape;
    int32_t max_images;
};

static mqb_status naive_create(const struct mqb_host *host, const struct mqb_conv_shape *shape, int32_t max_images,
                               struct mqb_conv_plan **plan, struct mqb_error *error)
{
    (void)host;
    if (shape->r == 7) {
        snprintf(error->text, sizeof(error->text), "no kernel for 7 rows");
        return MQB_ERR_UNSUPPORTED;
    }
    *plan = malloc(sizeof(**plan));
    (*plan)->shape = *shape;
    (*plan)->max_images = max_images;
    return MQB_OK;
}

static void naive_destroy(struct mqb_conv_plan *plan)
{
    free(plan);
}

static size_t naive_packed_size(const struct mqb_conv_plan *plan)
{
    const struct mqb_conv_shape *s = &plan->shape;
    return (size_t)s->k * (size_t)(s->c / s->groups) * (size_t)s->r * (size_t)s->s * sizeof(float);
}

static size_t naive_scratch_size(const struct mqb_conv_plan *plan)
{
    (void)plan;
    return 20; /* not a multiple of 64 on purpose */
}

static void naive_pack(const struct mqb_conv_plan *plan, const float *weight, int32_t gradients, void *packed)
{
    (void)gradients;
    memcpy(packed, weight, naive_packed_size(plan));
}

/* Calls visit(argument, x, w, y) with the indices of every product: y[..] += x[..] * w[..]. */
static void naive_walk(const struct mqb_conv_plan *plan, int32_t images,
                       void (*visit)(void *argument, int64_t x, int64_t w, int64_t y), void *argument)
{
    const struct mqb_conv_shape *s = &plan->shape;
    int64_t cg = s->c / s->groups, kg = s->k / s->groups;
    for (int64_t n = 0; n < images; n++)
        for (int64_t p = 0; p < s->p; p++)
            for (int64_t q = 0; q < s->q; q++)
                for (int64_t k = 0; k < s->k; k++)
                    for (int64_t c = 0; c < cg; c++)
                        for (int64_t r = 0; r < s->r; r++)
                            for (int64_t t = 0; t < s->s; t++) {
                                int64_t h = p * s->stride_h - s->pad_top + r * s->dilation_h;
                                int64_t w = q * s->stride_w - s->pad_left + t * s->dilation_w;
                                if (h < 0 || h >= s->h || w < 0 || w >= s->w)
                                    continue;
                                visit(argument, ((n * s->h + h) * s->w + w) * s->c + k / kg * cg + c,
                                      ((k * cg + c) * s->r + r) * s->s + t, ((n * s->p + p) * s->q + q) * s->k + k);
                            }
}

struct naive_arrays {
    const float *a, *b;
    double *sum;
};

static void naive_visit_y(void *argument, int64_t x, int64_t w, int64_t y)
{
    struct naive_arrays *arrays = argument;
    arrays->sum[y] += (double)arrays->a[x] * (double)arrays->b[w];
}

static void naive_visit_x(void *argument, int64_t x, int64_t w, int64_t y)
{
    struct naive_arrays *arrays = argument;
    arrays->sum[x] += (double)arrays->a[y] * (double)arrays->b[w];
}

static void naive_visit_w(void *argument, int64_t x, int64_t w, int64_t y)
{
    struct naive_arrays *arrays = argument;
    arrays->sum[w] += (double)arrays->a[x] * (double)arrays->b[y];
}

static void naive_run(const struct mqb_conv_plan *plan, int32_t n, const float *a, const float *b, size_t size,
                      void (*visit)(void *argument, int64_t x, int64_t w, int64_t y), float *result, int add)
{
    struct naive_arrays arrays = {a, b, calloc(size, sizeof(double))};
    naive_walk(plan, n, visit, &arrays);
    for (size_t i = 0; i < size; i++)
        result[i] = (float)arrays.sum[i] + (add ? result[i] : 0.0f);
    free(arrays.sum);
}

static void naive_forward(const struct mqb_conv_plan *plan, int32_t n, const float *x, const void *packed, const float *bias,
                          float *y, void *scratch)
{
    const struct mqb_conv_shape *s = &plan->shape;
    size_t size = (size_t)n * (size_t)s->p * (size_t)s->q * (size_t)s->k;
    memset(scratch, 0x5a, naive_scratch_size(plan));
    naive_run(plan, n, x, packed, size, naive_visit_y, y, 0);
    for (size_t i = 0; bias && i < size; i++)
        y[i] += bias[i % (size_t)s->k];
}

static void naive_backward_data(const struct mqb_conv_plan *plan, int32_t n, const float *dy, const void *packed, float *dx,
                                int32_t accumulate, void *scratch)
{
    const struct mqb_conv_shape *s = &plan->shape;
    memset(scratch, 0x5a, naive_scratch_size(plan));
    naive_run(plan, n, dy, packed, (size_t)n * (size_t)s->h * (size_t)s->w * (size_t)s->c, naive_visit_x, dx, accumulate);
}

static void naive_backward_weights(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                                   void *scratch)
{
    memset(scratch, 0x5a, naive_scratch_size(plan));
    naive_run(plan, n, x, dy, naive_packed_size(plan) / sizeof(float), naive_visit_w, dw, 0);
}

static const struct mqb_compute naive_compute = {
    .struct_size = sizeof(struct mqb_compute),
    .flags = MQB_COMPUTE_SAME_BITS,
    .description = "plain loops",
    .conv_create = naive_create,
    .conv_destroy = naive_destroy,
    .conv_packed_size = naive_packed_size,
    .conv_scratch_size = naive_scratch_size,
    .conv_pack = naive_pack,
    .conv_forward = naive_forward,
    .conv_backward_data = naive_backward_data,
    .conv_backward_weights = naive_backward_weights,
};

#endif
