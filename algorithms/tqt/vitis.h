/*
 * vitis.h - compat = vitis: the published toolkit's quantizer of the same name, for Xilinx's Vitis. Its power-of-two scale
 * comes from calibration and is not learned.
 *
 *   v = x / s     activations: clip(v, n, p), then half to even, but negative halves up; weights: half to even, then clip
 *   dx = dy where n <= r(v) <= p, r the rounding with negative halves up, else 0; for weights too
 *
 * First scale 2^-e: s0 = max(min/n, max/p), e0 = floor(log2(1/s0)) (0 if s0 < 2^-15); of e0, e0 + 1, ... the one with the least
 * squared error, at most 12; over several batches the one found most often.
 */
#ifndef TQT_VITIS_H
#define TQT_VITIS_H

#include "../common/log2.h"
#include "../common/step_slice.h"

#include <float.h>
#include <math.h>

#define VITIS_LARGEST 12
#define VITIS_SMALLEST (-128)

/* How often each exponent was found. */
struct vitis_vote {
    int32_t count[VITIS_LARGEST - VITIS_SMALLEST + 1];
};

static inline float vitis_half_up(float v)
{
    v = v > 2048.0f ? 2048.0f : v;
    v = v < -2048.0f ? -2048.0f : v;
    float r = mqb_rne_small(v);
    return v < 0.0f && r - v == -0.5f ? r + 1.0f : r;
}

static inline float vitis_value(struct step_range r, int weight, float x)
{
    float v = x * r.inv;
    v = weight ? step_round(v) : v;
    v = v > r.p ? r.p : v;
    v = v < r.n ? r.n : v;
    return (weight ? v : vitis_half_up(v)) * r.s;
}

MQB_MULTIVERSION
static void vitis_forward_activation(struct step_range r, int64_t size, const float *x, float *y)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++)
        y[i] = vitis_value(r, 0, x[i]);
}

MQB_MULTIVERSION
static void vitis_backward(struct step_range r, int64_t size, const float *x, const float *dy, float *dx)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++) {
        float code = vitis_half_up(x[i] * r.inv), g = dy[i];
        g = code > r.p ? 0.0f : g;
        dx[i] = code < r.n ? 0.0f : g;
    }
}

/* One finite tensor of a signed scheme. */
static inline void vitis_observe(struct vitis_vote *vote, const struct mqb_scheme *scheme, int candidates,
                                 const struct mqb_tensor_view *x)
{
    float min = 0.0f, max = 0.0f;
    for (int64_t i = 0; i < x->num_elements; i++) {
        min = x->data[i] < min ? x->data[i] : min;
        max = x->data[i] > max ? x->data[i] : max;
    }
    float below = min / (float)scheme->qmin, above = max / (float)scheme->qmax, s0 = below > above ? below : above;
    int first = s0 < 0x1p-15f ? 0 : (int)floorf((float)series_log2((double)(1.0f / s0)));
    int best = first;
    double least = -1.0;
    for (int e = first; e < first + candidates; e++) {
        struct step_range r = step_range_of(scheme, ldexpf(1.0f, -e), 0.0f);
        double error = 0.0;
        for (int64_t i = 0; i < x->num_elements; i++) {
            double d = (double)vitis_value(r, scheme->role == MQB_ROLE_WEIGHT, x->data[i]) - (double)x->data[i];
            error += d * d;
        }
        if (least < 0.0 || error < least) {
            least = error;
            best = e;
        }
    }
    best = best > VITIS_LARGEST ? VITIS_LARGEST : best < VITIS_SMALLEST ? VITIS_SMALLEST : best;
    vote->count[best - VITIS_SMALLEST]++;
}

/* The exponent found most often; of several the smallest. */
static inline int vitis_elect(const struct vitis_vote *vote)
{
    int best = 0;
    for (int i = 1; i <= VITIS_LARGEST - VITIS_SMALLEST; i++)
        best = vote->count[i] > vote->count[best] ? i : best;
    return best + VITIS_SMALLEST;
}

#endif
