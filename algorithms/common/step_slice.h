/*
 * step_slice.h - the loops of a uniform quantizer whose step is learned: a slice forward, and backward with the sums that the
 * gradients of scale and zero point need.
 *
 * Letters: s scale, z zero point (integral), n = qmin, p = qmax, x input, dy gradient at y.
 *
 *   STEP_TENSOR    q = rne(x * (1/s)) + z          STEP_CHANNEL  q = rne(x / s + z)          STEP_TORCH  q = rne(x * (1/s) + z)
 *   y = (clip(q, n, p) - z) * s
 *   dx = dy inside the range, 0 outside
 *   sums[STEP_SUM_SCALE] += sum dy * { (y - x) / s inside; n - z below; p - z above }
 *   sums[STEP_SUM_ZERO]  += sum dy * { 0 inside; -s outside }
 *
 * STEP_TORCH is how torch's kernels find the codes in the backward pass alone.
 */
#ifndef ALGORITHMS_STEP_SLICE_H
#define ALGORITHMS_STEP_SLICE_H

#include "lanes.h"

#include <mqbench/numeric.h>
#include <mqbench/plugin.h>
#include <mqbench/quantizer.h>

#include <string.h>

enum { STEP_SUM_SCALE = 0, STEP_SUM_ZERO = 1, STEP_NUM_SUMS = 2 };

/* Where the zero point is added, and whether x is divided. */
enum step_order { STEP_TENSOR, STEP_CHANNEL, STEP_TORCH };

/* What the loops need, by value. */
struct step_range {
    float s, inv, z, n, p;
    float limit; /* of what is rounded, see step_round; a constant would make compilers split the loops at it */
};

static inline struct step_range step_range_of(const struct mqb_scheme *scheme, float scale, float zero_point)
{
    struct step_range r;
    r.s = scale;
    r.inv = 1.0f / r.s;
    r.z = zero_point;
    r.n = (float)scheme->qmin;
    r.p = (float)scheme->qmax;
    r.limit = 2048.0f;
    return r;
}

/* Beyond +-2048 every code is out of range whatever the zero point, and within it mqb_rne_small is exact. */
static inline float step_round_within(float v, float limit)
{
    v = v > limit ? limit : v;
    v = v < -limit ? -limit : v;
    return mqb_rne_small(v);
}

static inline float step_round(float v)
{
    return step_round_within(v, 2048.0f);
}

/* The code before it is clipped. */
static inline __attribute__((always_inline)) float step_code(const struct step_range r, const enum step_order order, float x)
{
    if (order == STEP_TENSOR)
        return step_round_within(x * r.inv, r.limit) + r.z;
    if (order == STEP_TORCH)
        return step_round_within(x * r.inv + r.z, r.limit);
    return step_round_within(x / r.s + r.z, r.limit);
}

/* The code less z, before it is clipped. These are small whole numbers, so that sums of them are exact in any order. */
static inline __attribute__((always_inline)) float step_multiple(const struct step_range r, const enum step_order order, float x)
{
    return order == STEP_TENSOR ? step_round_within(x * r.inv, r.limit) : step_code(r, order, x) - r.z;
}

static inline __attribute__((always_inline)) void step_forward_loop(const struct step_range r, const enum step_order order,
                                                                    int64_t size, const float *x, float *y)
{
    const float low = r.n - r.z, high = r.p - r.z;
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++) {
        float multiple = step_multiple(r, order, x[i]);
        multiple = multiple > high ? high : multiple;
        multiple = multiple < low ? low : multiple;
        y[i] = multiple * r.s;
    }
}

MQB_MULTIVERSION
static void step_forward_tensor(struct step_range r, int64_t size, const float *x, float *y)
{
    step_forward_loop(r, STEP_TENSOR, size, x, y);
}

MQB_MULTIVERSION
static void step_forward_channel(struct step_range r, int64_t size, const float *x, float *y)
{
    step_forward_loop(r, STEP_CHANNEL, size, x, y);
}

/* STEP_TENSOR or STEP_CHANNEL. */
static inline void step_forward(struct step_range r, enum step_order order, const struct mqb_slice *slice)
{
    if (order == STEP_CHANNEL)
        step_forward_channel(r, slice->size, slice->x, slice->y);
    else
        step_forward_tensor(r, slice->size, slice->x, slice->y);
}

/* One block: dx, and what each element adds to the sums, into `ds` and `dz`. */
static inline __attribute__((always_inline)) void step_backward_block(const struct step_range r, const enum step_order order,
                                                                      int count, const float *x, const float *dy, float *dx,
                                                                      float *ds, float *dz)
{
    const float low = r.n - r.z, high = r.p - r.z;
    MQB_LOOP_INDEPENDENT
    for (int i = 0; i < count; i++) {
        float v = x[i], g = dy[i], inside;
        float multiple = step_multiple(r, order, v);
        if (order == STEP_CHANNEL)
            inside = multiple - v / r.s;
        else
            inside = (multiple * r.s - v) * r.inv;
        float clipped = multiple > high ? high : multiple;
        clipped = clipped < low ? low : clipped;
        int outside = (multiple > high) | (multiple < low); /* what is not a number is inside */
        float factor = outside ? clipped : inside;
        float pass = outside ? 0.0f : g;
        ds[i] = g * factor;
        dz[i] = g - pass;
        dx[i] = pass;
    }
}

/* Sums run in lanes over the index and are joined in one order, so that no vector width changes them. `zeros`: a zero point that
 * learns wants its sum. */
static inline __attribute__((always_inline)) void step_backward_loop(const struct step_range r, const enum step_order order,
                                                                     const int zeros, int64_t size, const float *x,
                                                                     const float *dy, float *dx, double *sums)
{
    float ds[LANES_BLOCK], dz[LANES_BLOCK];
    double scale[LANES_COUNT] = {0}, zero[LANES_COUNT] = {0};
    int64_t k = 0;
    for (; k + LANES_BLOCK <= size; k += LANES_BLOCK) {
        step_backward_block(r, order, LANES_BLOCK, x + k, dy + k, dx + k, ds, dz);
        lanes_add(ds, scale);
        if (zeros)
            lanes_add(dz, zero);
    }
    if (k < size) {
        memset(ds, 0, sizeof(ds));
        memset(dz, 0, sizeof(dz));
        step_backward_block(r, order, (int)(size - k), x + k, dy + k, dx + k, ds, dz);
        lanes_add(ds, scale);
        if (zeros)
            lanes_add(dz, zero);
    }
    sums[STEP_SUM_SCALE] += lanes_join(scale);
    if (zeros)
        sums[STEP_SUM_ZERO] -= lanes_join(zero) * (double)r.s;
}

MQB_MULTIVERSION
static void step_backward_tensor(struct step_range r, int64_t size, const float *x, const float *dy, float *dx, double *sums)
{
    step_backward_loop(r, STEP_TENSOR, 1, size, x, dy, dx, sums);
}

MQB_MULTIVERSION
static void step_backward_scale(struct step_range r, int64_t size, const float *x, const float *dy, float *dx, double *sums)
{
    step_backward_loop(r, STEP_TENSOR, 0, size, x, dy, dx, sums);
}

MQB_MULTIVERSION
static void step_backward_channel(struct step_range r, int64_t size, const float *x, const float *dy, float *dx, double *sums)
{
    step_backward_loop(r, STEP_CHANNEL, 1, size, x, dy, dx, sums);
}

MQB_MULTIVERSION
static void step_backward_torch(struct step_range r, int64_t size, const float *x, const float *dy, float *dx, double *sums)
{
    step_backward_loop(r, STEP_TORCH, 1, size, x, dy, dx, sums);
}

/* `zeros` 0: sums[STEP_SUM_ZERO] may stay as it is. */
static inline void step_backward(struct step_range r, enum step_order order, int zeros, const struct mqb_slice *slice)
{
    if (order == STEP_CHANNEL)
        step_backward_channel(r, slice->size, slice->x, slice->dy, slice->dx, slice->sums);
    else if (order == STEP_TORCH)
        step_backward_torch(r, slice->size, slice->x, slice->dy, slice->dx, slice->sums);
    else if (!zeros)
        step_backward_scale(r, slice->size, slice->x, slice->dy, slice->dx, slice->sums);
    else
        step_backward_tensor(r, slice->size, slice->x, slice->dy, slice->dx, slice->sums);
}

/* The code of a weight that is deployed. */
static inline int32_t step_frozen_code(struct step_range r, enum step_order order, float x)
{
    float code = step_code(r, order, x);
    return (int32_t)(code < r.n ? r.n : code > r.p ? r.p : code);
}

#endif
