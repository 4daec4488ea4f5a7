/*
 * observer_range.c - observers that keep a range: running minimum and maximum, their moving average, and the moving average of
 * a range cut at a quantile of |x|.
 */
#include "quant/observer.h"

static void minmax_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base, const void *state,
                           float *scale, int32_t *zero_point)
{
    (void)state;
    mqb_observer_from_range(&observer->scheme, base->min, base->max, scale, zero_point);
}

const struct mqb_observer_kind mqb_observer_minmax = {.name = "minmax", .qparams = minmax_qparams};

/* A range that follows each batch by a tenth; the first batch sets it. */
struct moving_range {
    float min, max;
};

static void moving_update(const struct mqb_observer_channel *base, struct moving_range *range, float min, float max)
{
    if (base->num_batches == 1) {
        range->min = min;
        range->max = max;
    } else {
        range->min = range->min * 0.9f + min * 0.1f;
        range->max = range->max * 0.9f + max * 0.1f;
    }
}

static void moving_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base, const void *state,
                           float *scale, int32_t *zero_point)
{
    const struct moving_range *range = state;
    (void)base;
    mqb_observer_from_range(&observer->scheme, range->min, range->max, scale, zero_point);
}

static mqb_status ema_minmax_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                                     const float *x, int64_t n, struct mqb_error *error)
{
    (void)observer, (void)x, (void)n, (void)error;
    moving_update(base, state, base->batch_min, base->batch_max);
    return MQB_OK;
}

const struct mqb_observer_kind mqb_observer_ema_minmax = {
    .name = "ema_minmax",
    .channel_size = sizeof(struct moving_range),
    .observe = ema_minmax_observe,
    .qparams = moving_qparams,
};

#define QUANTILE_BINS 2048

/* A histogram of |x| over [0, R], R the largest of the batch; the range is cut at the middle of the first bin at which the
 * share `parameter` of the batch is reached. */
static mqb_status ema_quantile_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base,
                                       void *state, const float *x, int64_t n, struct mqb_error *error)
{
    int64_t count[QUANTILE_BINS] = {0};
    float range = -base->batch_min > base->batch_max ? -base->batch_min : base->batch_max;
    (void)error;
    if (range > 0.0f) {
        for (int64_t i = 0; i < n; i++) {
            float magnitude = x[i] < 0.0f ? -x[i] : x[i];
            int bin = (int)((double)magnitude / (double)range * QUANTILE_BINS);
            count[bin < QUANTILE_BINS ? bin : QUANTILE_BINS - 1]++;
        }
    }
    float clip = range;
    int64_t seen = 0;
    for (int bin = 0; bin < QUANTILE_BINS; bin++) {
        seen += count[bin];
        if ((double)seen >= observer->kind->parameter * (double)n) {
            clip = (float)(((double)bin + 0.5) * ((double)range / QUANTILE_BINS));
            break;
        }
    }
    moving_update(base, state, base->batch_min > -clip ? base->batch_min : -clip,
                  base->batch_max < clip ? base->batch_max : clip);
    return MQB_OK;
}

const struct mqb_observer_kind mqb_observer_ema_quantile = {
    .name = "ema_quantile",
    .channel_size = sizeof(struct moving_range),
    .parameter = 0.99999,
    .observe = ema_quantile_observe,
    .qparams = moving_qparams,
};

const struct mqb_observer_kind mqb_observer_ema_quantile_99 = {
    .name = "ema_quantile_99",
    .channel_size = sizeof(struct moving_range),
    .parameter = 0.99,
    .observe = ema_quantile_observe,
    .qparams = moving_qparams,
};
