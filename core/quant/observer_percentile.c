/*
 * observer_percentile.c - the range between the quantiles 1 - q and q. Weights by sorting the tensor, with linear
 * interpolation; activations on a histogram of all batches.
 */
#include "quant/observer.h"

#include <stdlib.h>
#include <string.h>

struct percentile_state {
    float min, max; /* weights: widest of the batches */
    struct mqb_histogram histogram;
};

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The quantile of n sorted numbers: position q (n - 1), linear between neighbours. */
static float sorted_quantile(const float *sorted, int64_t n, double q)
{
    double position = q * (double)(n - 1);
    int64_t below = (int64_t)position;
    if (below >= n - 1)
        return sorted[n - 1];
    double part = position - (double)below;
    return (float)((double)sorted[below] + part * ((double)sorted[below + 1] - (double)sorted[below]));
}

mqb_status mqb_observer_quantiles(const float *x, int64_t n, double q, float *low, float *high, struct mqb_error *error)
{
    float *sorted = mqb_allocate_array((size_t)n, sizeof(float));
    if (!sorted)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory to sort a weight of %lld numbers", (long long)n);
    memcpy(sorted, x, (size_t)n * sizeof(float));
    qsort(sorted, (size_t)n, sizeof(float), compare_floats);
    *low = sorted_quantile(sorted, n, 1.0 - q);
    *high = sorted_quantile(sorted, n, q);
    mqb_deallocate(sorted);
    return MQB_OK;
}

static mqb_status percentile_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                                     const float *x, int64_t n, struct mqb_error *error)
{
    struct percentile_state *percentile = state;
    if (observer->scheme.role != MQB_ROLE_WEIGHT) {
        float max_abs = -base->batch_min > base->batch_max ? -base->batch_min : base->batch_max;
        return mqb_histogram_add(&percentile->histogram, max_abs, x, n, error);
    }
    float min, max;
    mqb_status status = mqb_observer_quantiles(x, n, observer->kind->parameter, &min, &max, error);
    if (status != MQB_OK)
        return status;
    if (base->num_batches == 1 || min < percentile->min)
        percentile->min = min;
    if (base->num_batches == 1 || max > percentile->max)
        percentile->max = max;
    return MQB_OK;
}

static void percentile_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base, const void *state,
                               float *scale, int32_t *zero_point)
{
    const struct percentile_state *percentile = state;
    double min = (double)percentile->min, max = (double)percentile->max;
    if (observer->scheme.role != MQB_ROLE_WEIGHT) {
        /* A bin is wider than a few distinct values may lie apart: never beyond what was seen. */
        min = mqb_histogram_quantile(&percentile->histogram, 1.0 - observer->kind->parameter);
        max = mqb_histogram_quantile(&percentile->histogram, observer->kind->parameter);
        min = min < (double)base->min ? (double)base->min : min;
        max = max > (double)base->max ? (double)base->max : max;
    }
    mqb_observer_from_range(&observer->scheme, (float)min, (float)max, scale, zero_point);
}

static void percentile_release(void *state)
{
    mqb_histogram_release(&((struct percentile_state *)state)->histogram);
}

const struct mqb_observer_kind mqb_observer_percentile = {
    .name = "percentile",
    .channel_size = sizeof(struct percentile_state),
    .parameter = 0.9999,
    .observe = percentile_observe,
    .qparams = percentile_qparams,
    .release = percentile_release,
};

const struct mqb_observer_kind mqb_observer_percentile_999 = {
    .name = "percentile_999",
    .channel_size = sizeof(struct percentile_state),
    .parameter = 0.999,
    .observe = percentile_observe,
    .qparams = percentile_qparams,
    .release = percentile_release,
};
