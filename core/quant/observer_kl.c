/*
 * observer_kl.c - entropy calibration: the range whose codes tell the distribution with the least loss of information, the
 * Kullback-Leibler divergence D(P || Q) (TensorRT's and ONNX Runtime's method).
 *
 * P and Q live on the same bins, those of the histogram of all batches. For a candidate range, with the scale and zero point
 * that it gets:
 *   P  the histogram; what lies more than half a step outside the outermost levels is moved into the nearest bin inside
 *   Q  the histogram inside, its bins that fall on one code averaged: each of those where P is not 0 gets the same share
 *   D  = sum of P ln(P / Q) over the bins where P is not 0; where Q is 0 there, Q counts as SMALLEST_Q
 *
 * Exact zeros are left out: every candidate has a code for 0, so they lose nothing, and a rectified tensor is mostly zeros.
 * A candidate keeps [-t, t] of the range seen, so that a distant outlier at one end does not cost the other end. Candidates
 * begin with the whole range, end where a step is as narrow as a bin, and of equals the widest wins. Counts are exact, so the
 * order of batches matters only where a number within one rounding of a bin's edge was put before the histogram grew.
 *
 * A candidate costs its number of codes, not of bins: the sums over bins are differences of running sums.
 */
#include "quant/observer.h"

#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

#define BINS MQB_HISTOGRAM_BINS
#define MAX_CANDIDATES 512
#define MAX_CODES 256 /* looked at together */
#define SMALLEST_Q 1e-9

/* Over the bins before bin i, exact zeros left out. */
struct kl_sums {
    double count[BINS + 1], log[BINS + 1] /* of count ln count */, used[BINS + 1]; /* bins that are not empty */
};

struct kl_state {
    float min, max; /* weights: widest of the batches */
    struct mqb_histogram histogram;
    struct kl_sums *sums; /* activations: made when the range is asked for */
};

struct kl_search {
    const struct mqb_scheme *scheme;
    const struct kl_sums *sums;
    double limit; /* of the histogram */
};

static double count_log_count(double count)
{
    return count > 0.0 ? count * mqb_ln(count) : 0.0;
}

static void sum_bins(const struct mqb_histogram *histogram, struct kl_sums *sums)
{
    sums->count[0] = sums->log[0] = sums->used[0] = 0.0;
    for (int i = 0; i < BINS; i++) {
        double count = histogram->bins[i].count - (i == BINS / 2 ? histogram->zeros : 0.0);
        sums->count[i + 1] = sums->count[i] + count;
        sums->log[i + 1] = sums->log[i] + count_log_count(count);
        sums->used[i + 1] = sums->used[i] + (count > 0.0);
    }
}

/* The first bin whose middle is not below `value`. */
static inline int bin_from(double value, double limit)
{
    double bin = ceil((value / limit + 1.0) * (BINS / 2) - 0.5);
    return bin < 0.0 ? 0 : bin > BINS ? BINS : (int)bin;
}

/* bins[i]: the first bin of code low + i + 1. */
MQB_MULTIVERSION
static void upper_ends(int32_t low, int num_codes, double scale, double limit, int32_t *bins)
{
    for (int i = 0; i < num_codes; i++)
        bins[i] = bin_from(((double)(low + i) + 0.5) * scale, limit);
}

/* Where the share of a code's bins counts: the outermost ones also hold what was clipped. */
struct kl_clipped {
    int first, last;     /* bins of P */
    double below, above; /* counts moved there */
};

static double bin_count(const struct kl_sums *sums, int bin)
{
    return sums->count[bin + 1] - sums->count[bin];
}

/* The codes whose bins are not all empty: what they hold, what of it was not moved there, and their bins in use. Counts, not
 * shares. */
struct kl_codes {
    double p[MAX_CODES], inside[MAX_CODES], used[MAX_CODES], log_q[MAX_CODES];
    int num;
};

static void add_code(const struct kl_sums *sums, const struct kl_clipped *clipped, int begin, int end, struct kl_codes *codes)
{
    double inside = sums->count[end] - sums->count[begin], used = sums->used[end] - sums->used[begin], p = inside;
    if (clipped->first >= begin && clipped->first < end && clipped->below > 0.0) {
        p += clipped->below;
        used += bin_count(sums, clipped->first) == 0.0;
    }
    if (clipped->last >= begin && clipped->last < end && clipped->above > 0.0) {
        p += clipped->above;
        used += bin_count(sums, clipped->last) == 0.0 && !(clipped->last == clipped->first && clipped->below > 0.0);
    }
    codes->p[codes->num] = p;
    codes->inside[codes->num] = inside;
    codes->used[codes->num] = used;
    codes->num += p != 0.0;
}

/* What each bin of a code gets in Q. */
MQB_MULTIVERSION
static void code_shares(const struct kl_codes *codes, double kept, double *q)
{
    for (int i = 0; i < codes->num; i++) {
        double share = codes->inside[i] / (codes->used[i] * kept);
        q[i] = share > SMALLEST_Q ? share : SMALLEST_Q;
    }
}

/* The sum of P ln Q over bins [first, end), a number of codes at a time. */
static double cross_entropy(const struct kl_search *search, const struct kl_clipped *clipped, double kept, int32_t low,
                            int32_t high, double scale)
{
    struct kl_codes codes;
    int32_t next[MAX_CODES];
    int begin = clipped->first;
    double sum = 0.0;
    for (int32_t from = low; from <= high; from += MAX_CODES) {
        int num_codes = high - from < MAX_CODES ? high - from + 1 : MAX_CODES;
        upper_ends(from, num_codes, scale, search->limit, next);
        if (from + num_codes > high)
            next[num_codes - 1] = clipped->last + 1;
        codes.num = 0;
        for (int i = 0; i < num_codes; i++)
            if (next[i] > begin) {
                add_code(search->sums, clipped, begin, next[i], &codes);
                begin = next[i];
            }
        code_shares(&codes, kept, codes.log_q);
        mqb_ln_each(codes.log_q, codes.log_q, codes.num);
        for (int i = 0; i < codes.num; i++)
            sum += codes.p[i] * codes.log_q[i];
    }
    return sum;
}

/* D(P || Q), or -1 if nothing lies inside. */
static double divergence(const struct kl_search *search, float scale, int32_t zero_point)
{
    const struct kl_sums *sums = search->sums;
    int32_t low = search->scheme->qmin - zero_point, high = search->scheme->qmax - zero_point;
    double s = (double)scale, total = sums->count[BINS];
    int first = bin_from((low - 0.5) * s, search->limit), end = bin_from((high + 0.5) * s, search->limit);
    if (end <= first || sums->count[end] == sums->count[first])
        return -1.0;
    struct kl_clipped clipped = {first, end - 1, sums->count[first], total - sums->count[end]};
    double kept = sums->count[end] - sums->count[first];

    double entropy = sums->log[end] - sums->log[first];
    if (clipped.first == clipped.last) {
        entropy = count_log_count(total);
    } else {
        double lower = bin_count(sums, clipped.first), upper = bin_count(sums, clipped.last);
        entropy += count_log_count(lower + clipped.below) - count_log_count(lower);
        entropy += count_log_count(upper + clipped.above) - count_log_count(upper);
    }
    double cross = cross_entropy(search, &clipped, kept, low, high, s);
    double d = (entropy - cross) / total - mqb_ln(total);
    return d > 0.0 ? d : 0.0;
}

/* The best of all candidates, as a range. `min` and `max` are of all numbers. */
static void search_range(const struct kl_search *search, float min, float max, float *best_min, float *best_max)
{
    float reach = -min > max ? -min : max, scale;
    int32_t zero_point;
    *best_min = min;
    *best_max = max;
    if (search->sums->count[BINS] == 0.0)
        return; /* zeros alone */
    double width = search->limit / (BINS / 2), bins = ceil((double)reach / width), best = -1.0;
    double stride = ceil(bins / MAX_CANDIDATES);
    for (double keep = bins; keep >= 1.0; keep -= stride) {
        double t = keep * width;
        float low = -(double)min > t ? -(float)t : min, high = (double)max > t ? (float)t : max;
        mqb_observer_from_range(search->scheme, low, high, &scale, &zero_point);
        if (keep < bins && (double)scale < width)
            return;
        double d = divergence(search, scale, zero_point);
        /* A difference below the rounding of the sums is none. */
        if (d >= 0.0 && (best < 0.0 || d < best - 1e-12)) {
            best = d;
            *best_min = low;
            *best_max = high;
        }
    }
}

static mqb_status kl_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                             const float *x, int64_t n, struct mqb_error *error)
{
    struct kl_state *kl = state;
    float max_abs = -base->batch_min > base->batch_max ? -base->batch_min : base->batch_max;
    if (observer->scheme.role != MQB_ROLE_WEIGHT) {
        if (!kl->sums && !(kl->sums = mqb_allocate(sizeof(*kl->sums))))
            return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the running sums of a histogram");
        return mqb_histogram_add(&kl->histogram, max_abs, x, n, error);
    }
    /* A weight is seen whole: what stays of a channel is its range, not its histogram. */
    struct mqb_histogram histogram = {0};
    struct kl_sums *sums = mqb_allocate(sizeof(*sums));
    mqb_status status = MQB_OK;
    if (!sums)
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the running sums of a histogram");
    else
        status = mqb_histogram_add(&histogram, max_abs, x, n, error);
    if (status == MQB_OK) {
        struct kl_search tensor = {&observer->scheme, sums, histogram.limit};
        float min, max;
        sum_bins(&histogram, sums);
        search_range(&tensor, base->batch_min, base->batch_max, &min, &max);
        kl->min = base->num_batches == 1 || min < kl->min ? min : kl->min;
        kl->max = base->num_batches == 1 || max > kl->max ? max : kl->max;
    }
    mqb_histogram_release(&histogram);
    mqb_deallocate(sums);
    return status;
}

static void kl_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base, const void *state,
                       float *scale, int32_t *zero_point)
{
    const struct kl_state *kl = state;
    float min = kl->min, max = kl->max;
    if (observer->scheme.role != MQB_ROLE_WEIGHT) {
        struct kl_search batches = {&observer->scheme, kl->sums, kl->histogram.limit};
        sum_bins(&kl->histogram, kl->sums);
        search_range(&batches, base->min, base->max, &min, &max);
    }
    mqb_observer_from_range(&observer->scheme, min, max, scale, zero_point);
}

static void kl_release(void *state)
{
    struct kl_state *kl = state;
    mqb_histogram_release(&kl->histogram);
    mqb_deallocate(kl->sums);
    kl->sums = NULL;
}

const struct mqb_observer_kind mqb_observer_kl = {
    .name = "kl",
    .channel_size = sizeof(struct kl_state),
    .observe = kl_observe,
    .qparams = kl_qparams,
    .release = kl_release,
};
