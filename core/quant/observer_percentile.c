/*
 * observer_percentile.c - the range between the quantiles 1 - q and q. Weights by sorting the tensor, with linear
 * interpolation; activations on a histogram of all batches.
 */
#include "quant/observer.h"

#include <string.h>

struct percentile_state {
    float min, max; /* weights: widest of the batches */
    struct mqb_histogram histogram;
};

#define DIGIT_BITS 11 /* three digits a float */
#define DIGITS (1u << DIGIT_BITS)

/* Integers in the order of the floats; both zeros are one. */
static uint32_t sort_key(float x)
{
    uint32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float key_float(uint32_t key)
{
    uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Digit by digit from the last: the time is linear, and a network has millions of weights. spare: n keys, too. */
static void sort_keys(uint32_t *keys, uint32_t *spare, int64_t n)
{
    for (int shift = 0; shift < 32; shift += DIGIT_BITS) {
        int64_t place[DIGITS] = {0}, before = 0;
        for (int64_t i = 0; i < n; i++)
            place[keys[i] >> shift & (DIGITS - 1)]++;
        for (uint32_t digit = 0; digit < DIGITS; digit++) {
            int64_t count = place[digit];
            place[digit] = before;
            before += count;
        }
        for (int64_t i = 0; i < n; i++)
            spare[place[keys[i] >> shift & (DIGITS - 1)]++] = keys[i];
        uint32_t *sorted = spare;
        spare = keys;
        keys = sorted;
    }
}

/* The quantile of n sorted numbers: position q (n - 1), linear between neighbours. */
static float sorted_quantile(const uint32_t *sorted, int64_t n, double q)
{
    double position = q * (double)(n - 1);
    int64_t below = (int64_t)position;
    if (below >= n - 1)
        return key_float(sorted[n - 1]);
    double part = position - (double)below, low = (double)key_float(sorted[below]);
    return (float)(low + part * ((double)key_float(sorted[below + 1]) - low));
}

mqb_status mqb_observer_quantiles(const float *x, int64_t n, double q, float *low, float *high, struct mqb_error *error)
{
    uint32_t *keys = mqb_allocate_array((size_t)n, 2 * sizeof(*keys));
    if (!keys)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory to sort a weight of %lld numbers", (long long)n);
    for (int64_t i = 0; i < n; i++)
        keys[i] = sort_key(x[i]);
    sort_keys(keys, keys + n, n); /* three passes: the sorted ones are in the second half */
    *low = sorted_quantile(keys + n, n, 1.0 - q);
    *high = sorted_quantile(keys + n, n, q);
    mqb_deallocate(keys);
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
