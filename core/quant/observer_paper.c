/*
 * observer_paper.c - what observers of the released programs do, so that their published runs can be repeated. None of these is
 * a default anywhere; docs/deviations.md says where they part from the observers they are named after, and why. Statistics are
 * those of the last batch unless a comment says otherwise.
 */
#include "quant/observer.h"

#include <float.h>
#include <math.h>

struct released {
    float min, max; /* ranges */
    double norm;    /* mean |x| */
    double mean, deviation;
};

static float to_float(double v)
{
    return v > (double)FLT_MAX ? FLT_MAX : v < -(double)FLT_MAX ? -FLT_MAX : (float)v;
}

static void range_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base, const void *state,
                          float *scale, int32_t *zero_point)
{
    const struct released *r = state;
    (void)base;
    mqb_observer_from_range(&observer->scheme, r->min, r->max, scale, zero_point);
}

static mqb_status minmax_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                                 const float *x, int64_t n, struct mqb_error *error)
{
    struct released *r = state;
    (void)observer, (void)x, (void)n, (void)error;
    r->min = base->batch_min;
    r->max = base->batch_max;
    return MQB_OK;
}

/* A running mean whose count is one too high: the second batch weighs a third. */
static mqb_status average_minmax_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base,
                                         void *state, const float *x, int64_t n, struct mqb_error *error)
{
    struct released *r = state;
    float k = (float)base->num_batches;
    (void)observer, (void)x, (void)n, (void)error;
    r->min = base->num_batches == 1 ? base->batch_min : (r->min * k + base->batch_min) / (k + 1.0f);
    r->max = base->num_batches == 1 ? base->batch_max : (r->max * k + base->batch_max) / (k + 1.0f);
    return MQB_OK;
}

/* The means over images of the smallest and the largest value, in a moving average. */
static mqb_status batch_mean_max_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base,
                                         void *state, const float *x, int64_t n, struct mqb_error *error)
{
    struct released *r = state;
    int64_t images = observer->batch_images > 0 && n % observer->batch_images == 0 ? observer->batch_images : 1,
            size = n / images;
    double low = 0.0, high = 0.0;
    (void)error;
    for (int64_t k = 0; k < images; k++) {
        float min = x[k * size], max = min;
        for (int64_t i = 1; i < size; i++) {
            min = x[k * size + i] < min ? x[k * size + i] : min;
            max = x[k * size + i] > max ? x[k * size + i] : max;
        }
        low += (double)min;
        high += (double)max;
    }
    float min = to_float(low / (double)images), max = to_float(high / (double)images);
    r->min = base->num_batches == 1 ? min : r->min * 0.9f + min * 0.1f;
    r->max = base->num_batches == 1 ? max : r->max * 0.9f + max * 0.1f;
    return MQB_OK;
}

/* The first batch for good. */
static mqb_status percentile_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                                     const float *x, int64_t n, struct mqb_error *error)
{
    struct released *r = state;
    if (base->num_batches > 1)
        return MQB_OK;
    return mqb_observer_quantiles(x, n, observer->kind->parameter, &r->min, &r->max, error);
}

/* ---- mean and deviation ---- */

static void measure(struct released *r, const float *x, int64_t n)
{
    double sum = 0.0, squares = 0.0, norm = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)x[i];
        norm += (double)fabsf(x[i]);
    }
    r->mean = sum / (double)n;
    r->norm = norm / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)x[i] - r->mean;
        squares += d * d;
    }
    r->deviation = n > 1 ? sqrt(squares / (double)(n - 1)) : 0.0;
}

static mqb_status moments_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                                  const float *x, int64_t n, struct mqb_error *error)
{
    (void)observer, (void)base, (void)error;
    measure(state, x, n);
    return MQB_OK;
}

static mqb_status clip_std_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                                   const float *x, int64_t n, struct mqb_error *error)
{
    struct released *r = state;
    (void)base, (void)error;
    measure(r, x, n);
    double mean = (double)to_float(r->mean), spread = (double)((float)observer->kind->parameter * to_float(r->deviation));
    r->min = to_float(mean - spread);
    r->max = to_float(mean + spread);
    return MQB_OK;
}

/* Meant to cut the range, it widens it. */
static mqb_status wide_clip_std_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base,
                                        void *state, const float *x, int64_t n, struct mqb_error *error)
{
    struct released *r = state;
    mqb_status status = clip_std_observe(observer, base, state, x, n, error);
    r->min = base->batch_min < r->min ? base->batch_min : r->min;
    r->max = base->batch_max > r->max ? base->batch_max : r->max;
    return status;
}

/* A running mean of mean |x|, of whole tensors alone. */
static mqb_status average_lsq_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                                      const float *x, int64_t n, struct mqb_error *error)
{
    struct released *r = state;
    double before = r->norm, k = (double)base->num_batches;
    (void)error;
    measure(r, x, n);
    if (!observer->scheme.per_channel)
        r->norm = (before * (k - 1.0) + r->norm) / k;
    return MQB_OK;
}

/* The zero point is 0 unless no value of the whole tensor is negative. */
static void paper_zero_point(const struct mqb_observer *observer, double raw_scale, float *scale, int32_t *zero_point)
{
    float min = observer->channels[0].batch_min;
    for (int32_t c = 1; c < observer->scheme.num_channels; c++)
        min = observer->channels[c].batch_min < min ? observer->channels[c].batch_min : min;
    mqb_observer_from_scale(&observer->scheme, to_float(raw_scale), min, scale, zero_point);
    if (min < 0.0f)
        *zero_point = 0;
}

static double lsq_scale(const struct mqb_observer *observer, const struct released *r)
{
    return 2.0 * r->norm / sqrt((double)observer->scheme.qmax);
}

static double lsqplus_reach(const struct released *r)
{
    return fmax(fabs(r->mean - 3.0 * r->deviation), fabs(r->mean + 3.0 * r->deviation));
}

static void paper_lsq_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base, const void *state,
                              float *scale, int32_t *zero_point)
{
    (void)base;
    paper_zero_point(observer, lsq_scale(observer, state), scale, zero_point);
}

/* Half the range in whole numbers: 7 at 4 bits. */
static void paper_lsqplus_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base,
                                  const void *state, float *scale, int32_t *zero_point)
{
    (void)base;
    paper_zero_point(observer, lsqplus_reach(state) / ((observer->scheme.qmax - observer->scheme.qmin) / 2), scale, zero_point);
}

static void toolkit_lsq_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base, const void *state,
                                float *scale, int32_t *zero_point)
{
    mqb_observer_from_scale(&observer->scheme, to_float(lsq_scale(observer, state)), base->batch_min, scale, zero_point);
}

/* All codes instead of half of them. */
static void toolkit_lsqplus_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base,
                                    const void *state, float *scale, int32_t *zero_point)
{
    double codes = (double)observer->scheme.qmax - (double)observer->scheme.qmin + 1.0;
    (void)base;
    paper_zero_point(observer, lsqplus_reach(state) / codes, scale, zero_point);
}

/* ---- searches of the upper end alone ---- */

#define GOLDEN_SECTION 0.3819660112501051 /* (3 - sqrt 5) / 2 */

struct target {
    const struct mqb_scheme *scheme;
    const float *x;
    int64_t n;
    float min;
};

static double error_at(const struct target *target, double max)
{
    float scale;
    int32_t zero_point;
    mqb_observer_from_range(target->scheme, target->min, (float)max, &scale, &zero_point);
    return mqb_observer_error(target->scheme, scale, zero_point, target->x, target->n);
}

/* Brent's minimization in an interval, with the constants of SciPy's fminbound (tolerance 1e-5, 500 steps). */
static double minimize(const struct target *target, double a, double b)
{
    const double tolerance = 1e-5, root_epsilon = sqrt(2.2e-16);
    double best = a + GOLDEN_SECTION * (b - a), second = best, third = best, step = 0.0, before = 0.0;
    double f_best = error_at(target, best), f_second = f_best, f_third = f_best;
    double middle = 0.5 * (a + b), tol1 = root_epsilon * fabs(best) + tolerance / 3.0, tol2 = 2.0 * tol1;
    for (int calls = 1; calls < 500 && fabs(best - middle) > tol2 - 0.5 * (b - a); calls++) {
        bool golden = true;
        if (fabs(before) > tol1) {
            double r = (best - second) * (f_best - f_third), q = (best - third) * (f_best - f_second);
            double p = (best - third) * q - (best - second) * r, last = before;
            q = 2.0 * (q - r);
            p = q > 0.0 ? -p : p;
            q = fabs(q);
            before = step;
            if (fabs(p) < fabs(0.5 * q * last) && p > q * (a - best) && p < q * (b - best)) {
                double point = best + p / q;
                step = p / q;
                golden = false;
                if (point - a < tol2 || b - point < tol2)
                    step = middle >= best ? tol1 : -tol1;
            }
        }
        if (golden) {
            before = best >= middle ? a - best : b - best;
            step = GOLDEN_SECTION * before;
        }
        double point = best + (step < 0.0 ? -1.0 : 1.0) * fmax(fabs(step), tol1), f = error_at(target, point);
        if (f <= f_best) {
            *(point >= best ? &a : &b) = best;
            third = second, f_third = f_second;
            second = best, f_second = f_best;
            best = point, f_best = f;
        } else {
            *(point < best ? &a : &b) = point;
            if (f <= f_second || second == best) {
                third = second, f_third = f_second;
                second = point, f_second = f;
            } else if (f <= f_third || third == best || third == second) {
                third = point, f_third = f;
            }
        }
        middle = 0.5 * (a + b);
        tol1 = root_epsilon * fabs(best) + tolerance / 3.0;
        tol2 = 2.0 * tol1;
    }
    return best;
}

static mqb_status mse_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                              const float *x, int64_t n, struct mqb_error *error)
{
    struct released *r = state;
    struct target target = {&observer->scheme, x, n, base->batch_min};
    double max = (double)base->batch_max;
    (void)error;
    r->min = base->batch_min;
    r->max = max > 0.0 ? (float)minimize(&target, 0.3 * max, max) : base->batch_max;
    return MQB_OK;
}

/* Its objective is not a number, so the search ends where it begins, whatever the data. */
static mqb_status kl_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                             const float *x, int64_t n, struct mqb_error *error)
{
    struct released *r = state;
    double max = (double)base->batch_max;
    (void)observer, (void)x, (void)n, (void)error;
    r->min = base->batch_min;
    r->max = (float)(0.3 * max + GOLDEN_SECTION * (max - 0.3 * max));
    return MQB_OK;
}

#define RELEASED(kind, text, number, observer, result)                                                                         \
    const struct mqb_observer_kind mqb_observer_##kind = {                                                                     \
        .name = text, .channel_size = sizeof(struct released), .parameter = number, .observe = observer, .qparams = result}

RELEASED(paper_minmax, "paper_minmax", 0.0, minmax_observe, range_qparams);
RELEASED(paper_average_minmax, "paper_average_minmax", 0.0, average_minmax_observe, range_qparams);
RELEASED(paper_clip_std, "paper_clip_std", 2.6, clip_std_observe, range_qparams);
RELEASED(paper_batch_mean_max, "paper_batch_mean_max", 0.0, batch_mean_max_observe, range_qparams);
RELEASED(paper_percentile_999, "paper_percentile_999", 0.999, percentile_observe, range_qparams);
RELEASED(paper_lsq, "paper_lsq", 0.0, moments_observe, paper_lsq_qparams);
RELEASED(paper_average_lsq, "paper_average_lsq", 0.0, average_lsq_observe, paper_lsq_qparams);
RELEASED(paper_lsqplus, "paper_lsqplus", 0.0, moments_observe, paper_lsqplus_qparams);
RELEASED(paper_mse, "paper_mse", 0.0, mse_observe, range_qparams);
RELEASED(paper_kl, "paper_kl", 0.0, kl_observe, range_qparams);
RELEASED(toolkit_clip_std, "toolkit_clip_std", 2.6, wide_clip_std_observe, range_qparams);
RELEASED(toolkit_lsq, "toolkit_lsq", 0.0, moments_observe, toolkit_lsq_qparams);
RELEASED(toolkit_lsqplus, "toolkit_lsqplus", 0.0, moments_observe, toolkit_lsqplus_qparams);
