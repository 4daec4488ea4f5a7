/*
 * observer_mse.c - the range with the least squared error: both ends shrink together in steps of 1 %, the first best wins.
 *
 * Weights are searched on the tensor itself. Activations come in batches, so their search runs on a histogram of all of them;
 * or on each batch by itself, for a moving average of the ranges.
 */
#include "quant/observer.h"

#define STEPS_TENSOR 95
#define STEPS_CHANNEL 80
_Static_assert(STEPS_TENSOR <= MQB_HISTOGRAM_MAX_RANGES, "all steps are compared at once");

struct mse_state {
    float min, max; /* weights: best range so far */
    struct mqb_histogram histogram;
};

struct mse_search {
    const struct mqb_scheme *scheme;
    const float *x; /* or NULL */
    int64_t n;
    const struct mqb_histogram *histogram;
};

static void search(const struct mse_search *search, float min, float max, float *best_min, float *best_max)
{
    int steps = search->scheme->per_channel ? STEPS_CHANNEL : STEPS_TENSOR;
    float keep[STEPS_TENSOR], scale[STEPS_TENSOR];
    int32_t zero_point[STEPS_TENSOR];
    double error[STEPS_TENSOR], best = -1.0;
    for (int i = 0; i < steps; i++) {
        keep[i] = (float)(1.0 - 0.01 * i);
        mqb_observer_from_range(search->scheme, min * keep[i], max * keep[i], &scale[i], &zero_point[i]);
        if (search->x)
            error[i] = mqb_observer_error(search->scheme, scale[i], zero_point[i], search->x, search->n);
    }
    if (!search->x)
        mqb_histogram_errors(search->histogram, search->scheme, scale, zero_point, steps, error);
    for (int i = 0; i < steps; i++)
        if (best < 0.0 || error[i] < best) {
            best = error[i];
            *best_min = min * keep[i];
            *best_max = max * keep[i];
        }
}

static mqb_status mse_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                              const float *x, int64_t n, struct mqb_error *error)
{
    struct mse_state *mse = state;
    if (observer->scheme.role != MQB_ROLE_WEIGHT) {
        float max_abs = -base->batch_min > base->batch_max ? -base->batch_min : base->batch_max;
        return mqb_histogram_add(&mse->histogram, max_abs, x, n, error);
    }
    struct mse_search tensor = {.scheme = &observer->scheme, .x = x, .n = n};
    float min = base->batch_min, max = base->batch_max;
    search(&tensor, base->batch_min, base->batch_max, &min, &max);
    if (base->num_batches == 1 || min < mse->min)
        mse->min = min;
    if (base->num_batches == 1 || max > mse->max)
        mse->max = max;
    return MQB_OK;
}

static void mse_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base, const void *state,
                        float *scale, int32_t *zero_point)
{
    const struct mse_state *mse = state;
    float min = mse->min, max = mse->max;
    if (observer->scheme.role != MQB_ROLE_WEIGHT) {
        struct mse_search batches = {.scheme = &observer->scheme, .histogram = &mse->histogram};
        search(&batches, base->min, base->max, &min, &max);
    }
    mqb_observer_from_range(&observer->scheme, min, max, scale, zero_point);
}

static void mse_release(void *state)
{
    mqb_histogram_release(&((struct mse_state *)state)->histogram);
}

static mqb_status ema_mse_observe(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                                  const float *x, int64_t n, struct mqb_error *error)
{
    struct mse_state *mse = state;
    struct mse_search tensor = {.scheme = &observer->scheme, .x = x, .n = n};
    float min = base->batch_min, max = base->batch_max;
    (void)error;
    search(&tensor, base->batch_min, base->batch_max, &min, &max);
    mse->min = base->num_batches == 1 ? min : mse->min * 0.9f + min * 0.1f;
    mse->max = base->num_batches == 1 ? max : mse->max * 0.9f + max * 0.1f;
    return MQB_OK;
}

static void ema_mse_qparams(const struct mqb_observer *observer, const struct mqb_observer_channel *base, const void *state,
                            float *scale, int32_t *zero_point)
{
    const struct mse_state *mse = state;
    (void)base;
    mqb_observer_from_range(&observer->scheme, mse->min, mse->max, scale, zero_point);
}

const struct mqb_observer_kind mqb_observer_ema_mse = {
    .name = "ema_mse",
    .channel_size = sizeof(struct mse_state),
    .observe = ema_mse_observe,
    .qparams = ema_mse_qparams,
};

const struct mqb_observer_kind mqb_observer_mse = {
    .name = "mse",
    .channel_size = sizeof(struct mse_state),
    .observe = mse_observe,
    .qparams = mse_qparams,
    .release = mse_release,
};
