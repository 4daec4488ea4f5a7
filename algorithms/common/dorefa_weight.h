/*
 * dorefa_weight.h - weights as DoReFa-Net quantizes them (Zhou et al., 2016), in the form that MQBench published.
 *
 *   t = tanh w      m = max |t| over the whole tensor + 1e-5      r = max |w|, or 1 without rescaling      v = r t / m
 *   y = grid(v), of the range min v .. max v, per tensor or per channel, in every step
 *   d = dy where the code of v is in range before clipping, else 0
 *   dw_i = (1 - t_i^2) d_i r/m  +  [|w_i| is the largest] sign(w_i) / count * (1/m - (1 - t_i^2) r/m^2) * sum_j d_j t_j
 *
 * (without rescaling the term 1/m is absent). Without r the published form leaves weights in [-1, 1], and only a batch norm
 * behind the layer undoes that. Folded batch norm does so in training alone: the scale of its running statistics follows the
 * weights' and never meets it, so that evaluation is off by max |w gamma / sigma| in each layer. With r it agrees.
 *
 * The last term of dw is the gradient through m and r; equally large elements share it. Its sum is complete only after all
 * slices, so complete() adds it.
 */
#ifndef ALGORITHMS_DOREFA_WEIGHT_H
#define ALGORITHMS_DOREFA_WEIGHT_H

#include "grid_point.h"
#include "lanes.h"
#include "tanh.h"

static inline mqb_status dorefa_weight_remember_largest(struct grid_point *point, const struct mqb_tensor_view *x,
                                                        float largest, struct mqb_error *error)
{
    int64_t count = 0;
    for (int64_t i = 0; i < x->num_elements; i++)
        count += fabsf(x->data[i]) == largest;
    point->num_largest = 0;
    if (largest == 0.0f)
        return MQB_OK; /* |t| has slope 0 there, as the reference takes it */
    if (count > point->capacity) {
        point->host->deallocate(point->largest);
        point->capacity = 0;
        point->largest = point->host->allocate((size_t)count * sizeof(*point->largest));
        if (!point->largest)
            return point->host->fail(error, MQB_ERR_MEMORY, "no memory for the places of %lld largest weights",
                                     (long long)count);
        point->capacity = count;
    }
    for (int64_t i = 0; i < x->num_elements; i++) {
        if (fabsf(x->data[i]) == largest)
            point->largest[point->num_largest++] = (struct grid_largest){i, (float)series_tanh((double)x->data[i])};
    }
    return MQB_OK;
}

/* m of the weights as they stand, and unless it is kept their grid. tanh grows with w, so the range of v follows from that of
 * w. */
static inline mqb_status dorefa_weight_measure(struct grid_point *point, const struct mqb_tensor_view *x, int keep_grid,
                                               struct mqb_error *error)
{
    int32_t channels = point->scheme.num_channels;
    float largest = 0.0f;
    if (!x->data || x->num_elements < channels || x->num_elements % channels != 0)
        return point->host->fail(error, MQB_ERR_ARGUMENT, "%s: %lld weights do not divide into %d channels", point->algorithm,
                                 (long long)(x->data ? x->num_elements : 0), (int)channels);
    for (int64_t i = 0; i < x->num_elements; i++) {
        float magnitude = fabsf(x->data[i]);
        if (!(magnitude <= FLT_MAX))
            return point->host->fail(error, MQB_ERR_NUMERIC, "element %lld of the weight is not finite", (long long)i);
        largest = magnitude > largest ? magnitude : largest;
    }
    point->factor = !point->rescale || largest == 0.0f ? 1.0f : largest < FLT_EPSILON ? FLT_EPSILON : largest;
    point->divisor = ((float)series_tanh((double)largest) + 1e-5f) / point->factor;
    int64_t size = x->num_elements / channels;
    for (int32_t c = 0; c < channels && !keep_grid; c++) {
        const float *w = x->data + c * size;
        float low = w[0], high = w[0];
        for (int64_t i = 1; i < size; i++) {
            low = w[i] < low ? w[i] : low;
            high = w[i] > high ? w[i] : high;
        }
        grid_set_range(point, c, (float)series_tanh((double)low) / point->divisor,
                       (float)series_tanh((double)high) / point->divisor);
    }
    return dorefa_weight_remember_largest(point, x, largest, error);
}

MQB_MULTIVERSION
static void dorefa_weight_forward(struct grid g, float m, int64_t size, const float *x, float *y)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++) {
        float v = (float)series_tanh((double)x[i]) / m;
        y[i] = (grid_clip(g, grid_code(g, v)) - g.z) * g.s;
    }
}

static inline __attribute__((always_inline)) void
dorefa_weight_backward_block(struct grid g, float m, int count, const float *x, const float *dy, float *dx, float *terms)
{
    MQB_LOOP_INDEPENDENT
    for (int i = 0; i < count; i++) {
        float t = (float)series_tanh((double)x[i]);
        float code = grid_code(g, t / m);
        float d = code > g.p ? 0.0f : dy[i];
        d = code < g.n ? 0.0f : d;
        terms[i] = d * t;
        dx[i] = d / m * (1.0f - t * t);
    }
}

MQB_MULTIVERSION
static void dorefa_weight_backward_slice(struct grid g, float m, int64_t size, const float *x, const float *dy, float *dx,
                                         double *sum)
{
    float terms[LANES_BLOCK];
    double lanes[LANES_COUNT] = {0};
    int64_t k = 0;
    for (; k + LANES_BLOCK <= size; k += LANES_BLOCK) {
        dorefa_weight_backward_block(g, m, LANES_BLOCK, x + k, dy + k, dx + k, terms);
        lanes_add(terms, lanes);
    }
    if (k < size) {
        memset(terms, 0, sizeof(terms));
        dorefa_weight_backward_block(g, m, (int)(size - k), x + k, dy + k, dx + k, terms);
        lanes_add(terms, lanes);
    }
    *sum += lanes_join(lanes);
}

/* Adds sum d t to slice->sums[0]. */
static inline void dorefa_weight_backward(const struct grid_point *point, const struct mqb_slice *slice)
{
    dorefa_weight_backward_slice(grid_at(point, slice->channel), point->divisor, slice->size, slice->x, slice->dy, slice->dx,
                                 slice->sums);
}

/* The gradient through m and r, to the largest elements. */
static inline void dorefa_weight_complete(const struct grid_point *point, const double *sums, int sums_per_channel, float *dx)
{
    double sum = 0.0, r = (double)point->factor, m = (double)point->divisor * r;
    for (int32_t c = 0; c < point->scheme.num_channels; c++)
        sum += sums[(int64_t)c * sums_per_channel];
    for (int64_t i = 0; i < point->num_largest; i++) {
        const struct grid_largest *largest = &point->largest[i];
        double t = (double)largest->t, slope = (point->rescale ? 1.0 / m : 0.0) - (1.0 - t * t) * r / (m * m);
        slope = slope * sum / (double)point->num_largest;
        dx[largest->index] += (float)(t < 0.0 ? -slope : slope);
    }
}

static inline mqb_status dorefa_weight_freeze(const void *self, const struct mqb_tensor_view *x, int32_t *codes,
                                              struct mqb_error *error)
{
    const struct grid_point *point = self;
    int32_t channels = point->scheme.num_channels;
    if (point->scheme.role != MQB_ROLE_WEIGHT || !x->data || x->num_elements % channels != 0)
        return point->host->fail(error, MQB_ERR_ARGUMENT, "%s cannot freeze %lld numbers with %d scales", point->algorithm,
                                 (long long)x->num_elements, (int)channels);
    int64_t size = x->num_elements / channels;
    for (int64_t i = 0; i < x->num_elements; i++) {
        if (!grid_finite(x->data[i]))
            return point->host->fail(error, MQB_ERR_NUMERIC, "element %lld of the weight is not finite", (long long)i);
        struct grid g = grid_at(point, (int32_t)(i / size));
        codes[i] = grid_clipped_code(g, (float)series_tanh((double)x->data[i]) / point->divisor);
    }
    return MQB_OK;
}

#endif
