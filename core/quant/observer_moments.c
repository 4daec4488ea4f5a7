/*
 * observer_moments.c - observers that need sums: mean |x| (LSQ), mean and standard deviation (LSQ+, clip_std). Batches are
 * pooled, so their order and sizes do not matter beyond rounding.
 */
#include "quant/observer.h"

#include <float.h>
#include <math.h>

struct moments {
    double count, abs_sum;
    double mean, m2; /* m2: sum of squared deviations */
};

static mqb_status moments_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                                  const float *x, int64_t n, struct mqb_error *error)
{
    struct moments *moments = state;
    double sum = 0.0, abs_sum = 0.0, m2 = 0.0, count = (double)n;
    (void)observer, (void)base, (void)error;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)x[i];
        abs_sum += (double)fabsf(x[i]);
    }
    double mean = sum / count;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)x[i] - mean;
        m2 += d * d;
    }
    double delta = mean - moments->mean, total = moments->count + count;
    moments->m2 += m2 + delta * delta * (moments->count * count / total);
    moments->mean += delta * (count / total);
    moments->count = total;
    moments->abs_sum += abs_sum;
    return MQB_OK;
}

static double deviation(const struct moments *moments)
{
    return moments->count > 1.0 ? sqrt(moments->m2 / (moments->count - 1.0)) : 0.0;
}

static float to_float(double v)
{
    return v > (double)FLT_MAX ? FLT_MAX : v < -(double)FLT_MAX ? -FLT_MAX : (float)v;
}

/* s = 2 mean|x| / sqrt(qmax) (Esser et al.); the zero point puts the smallest number at qmin. */
static void lsq_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base, const void *state,
                        float *scale, int32_t *zero_point)
{
    const struct moments *moments = state;
    double s = 2.0 * (moments->abs_sum / moments->count) / sqrt((double)observer->scheme.qmax);
    mqb_observer_from_scale(&observer->scheme, to_float(s), base->min, scale, zero_point);
}

const struct mqb_observer_kind mqb_observer_lsq = {
    .name = "lsq",
    .channel_size = sizeof(struct moments),
    .observe = moments_observe,
    .qparams = lsq_qparams,
};

/* s = max(|mean - 3 std|, |mean + 3 std|) / ((qmax - qmin) / 2) (LSQ+, Bhalgat et al.). */
static void lsqplus_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base, const void *state,
                            float *scale, int32_t *zero_point)
{
    const struct moments *moments = state;
    double spread = observer->kind->parameter * deviation(moments);
    double reach = fmax(fabs(moments->mean - spread), fabs(moments->mean + spread));
    double s = reach / ((double)(observer->scheme.qmax - observer->scheme.qmin) / 2.0);
    mqb_observer_from_scale(&observer->scheme, to_float(s), base->min, scale, zero_point);
}

const struct mqb_observer_kind mqb_observer_lsqplus = {
    .name = "lsqplus",
    .channel_size = sizeof(struct moments),
    .parameter = 3.0,
    .observe = moments_observe,
    .qparams = lsqplus_qparams,
};

/* The range mean +- 2.6 std. */
static void clip_std_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base, const void *state,
                             float *scale, int32_t *zero_point)
{
    const struct moments *moments = state;
    float mean = to_float(moments->mean), spread = (float)observer->kind->parameter * to_float(deviation(moments));
    (void)base;
    mqb_observer_from_range(&observer->scheme, to_float((double)mean - (double)spread), to_float((double)mean + (double)spread),
                            scale, zero_point);
}

const struct mqb_observer_kind mqb_observer_clip_std = {
    .name = "clip_std",
    .channel_size = sizeof(struct moments),
    .parameter = 2.6,
    .observe = moments_observe,
    .qparams = clip_std_qparams,
};
