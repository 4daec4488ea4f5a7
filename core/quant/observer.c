/*
 * observer.c - statistics for a first scale and zero point: the table of kinds, and what all of them share.
 */
#include "quant/observer.h"

#include <mqbench/numeric.h>
#include <mqbench/plugin.h>

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static const struct mqb_observer_kind *const kinds[] = {
    &mqb_observer_minmax,         &mqb_observer_ema_minmax,   &mqb_observer_lsq,
    &mqb_observer_lsqplus,        &mqb_observer_mse,          &mqb_observer_percentile,
    &mqb_observer_percentile_999, &mqb_observer_ema_quantile, &mqb_observer_clip_std,
    &mqb_observer_kl,             &mqb_observer_ema_mse,      &mqb_observer_ema_quantile_99,
    &mqb_observer_paper_minmax,   &mqb_observer_paper_average_minmax,
    &mqb_observer_paper_clip_std, &mqb_observer_paper_batch_mean_max,
    &mqb_observer_paper_percentile_999,
    &mqb_observer_paper_lsq,      &mqb_observer_paper_average_lsq, &mqb_observer_paper_lsqplus,
    &mqb_observer_paper_mse,      &mqb_observer_paper_kl,     &mqb_observer_toolkit_clip_std,
    &mqb_observer_toolkit_lsq,    &mqb_observer_toolkit_lsqplus,
};
#define NUM_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const char *const names[] = {"minmax",     "ema_minmax",     "lsq",          "lsqplus",  "mse",
                                    "percentile", "percentile_999", "ema_quantile", "clip_std", "kl",
                                    "ema_mse", "ema_quantile_99",
                                    /* the released programs', for compat */
                                    "paper_minmax", "paper_average_minmax", "paper_clip_std", "paper_batch_mean_max",
                                    "paper_percentile_999", "paper_lsq", "paper_average_lsq", "paper_lsqplus", "paper_mse",
                                    "paper_kl", "toolkit_clip_std", "toolkit_lsq", "toolkit_lsqplus", NULL};

const char *const *mqb_observer_names(void)
{
    return names;
}

static float float_clip(float v, float low, float high)
{
    return v < low ? low : v > high ? high : v;
}

static int32_t zero_point_at(const struct mqb_scheme *scheme, float min, float scale)
{
    /* min / s may be huge for a scale that a statistic chose; clipping first keeps the conversion defined. */
    float q = (float)scheme->qmin - mqb_rne_small(float_clip(min / scale, -65536.0f, 65536.0f));
    return (int32_t)float_clip(q, (float)scheme->qmin, (float)scheme->qmax);
}

void mqb_observer_from_scale(const struct mqb_scheme *scheme, float raw_scale, float min, float *scale, int32_t *zero_point)
{
    /* Every level, up to 256 steps from zero, stays finite. */
    float s = raw_scale < FLT_EPSILON ? FLT_EPSILON : raw_scale > FLT_MAX / 256 ? FLT_MAX / 256 : raw_scale;
    if (scheme->pot_scale)
        s = mqb_pot_round(s);
    *scale = s;
    *zero_point = scheme->symmetric ? 0 : zero_point_at(scheme, min, s);
}

void mqb_observer_from_range(const struct mqb_scheme *scheme, float min, float max, float *scale, int32_t *zero_point)
{
    float m = min < 0.0f ? min : 0.0f;
    float M = max > 0.0f ? max : 0.0f;
    float levels = (float)(scheme->qmax - scheme->qmin);
    float s;
    if (scheme->symmetric)
        s = (-m > M ? -m : M) / (scheme->qmin >= 0 ? levels : levels / 2.0f);
    else
        s = M - m > FLT_MAX ? M / levels - m / levels : (M - m) / levels;
    mqb_observer_from_scale(scheme, s, m, scale, zero_point);
}

#define BLOCK 64

/* Squared errors of one block. Loops of constant length, so that they vectorize. */
MQB_MULTIVERSION
static void block_errors(const struct mqb_scheme *scheme, float scale, int32_t zero_point, const float *x, double *lanes)
{
    const float inv = 1.0f / scale, z = (float)zero_point, low = (float)scheme->qmin - z, high = (float)scheme->qmax - z;
    float squares[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        float v = x[i] * inv;
        v = v > 2048.0f ? 2048.0f : v;
        v = v < -2048.0f ? -2048.0f : v;
        v = mqb_rne_small(v);
        v = v > high ? high : v;
        v = v < low ? low : v;
        float e = v * scale - x[i];
        squares[i] = e * e;
    }
    for (int i = 0; i < BLOCK; i++)
        lanes[i] += (double)squares[i];
}

double mqb_observer_error(const struct mqb_scheme *scheme, float scale, int32_t zero_point, const float *x, int64_t n)
{
    double lanes[BLOCK] = {0}, sum = 0.0;
    int64_t k = 0;
    for (; k + BLOCK <= n; k += BLOCK)
        block_errors(scheme, scale, zero_point, x + k, lanes);
    if (k < n) {
        float rest[BLOCK] = {0}; /* zeros are codes of their own: no error */
        memcpy(rest, x + k, (size_t)(n - k) * sizeof(float));
        block_errors(scheme, scale, zero_point, rest, lanes);
    }
    for (int i = 0; i < BLOCK; i++)
        sum += lanes[i];
    return sum;
}

struct range_lanes {
    float low[BLOCK], high[BLOCK];
    int32_t bad[BLOCK]; /* not finite */
};

MQB_MULTIVERSION
static void blocks_range(const float *x, int64_t num_blocks, struct range_lanes *lanes)
{
    struct range_lanes r = *lanes;
    for (int64_t block = 0; block < num_blocks; block++, x += BLOCK)
        for (int i = 0; i < BLOCK; i++) {
            r.low[i] = x[i] < r.low[i] ? x[i] : r.low[i];
            r.high[i] = x[i] > r.high[i] ? x[i] : r.high[i];
            r.bad[i] |= fabsf(x[i]) <= FLT_MAX ? 0 : 1;
        }
    *lanes = r;
}

/* Of zeros of both signs the first one counts, whatever the order in which they were looked at. */
static float first_zero(const float *x, float extreme)
{
    if (extreme != 0.0f)
        return extreme;
    while (*x != 0.0f)
        x++;
    return *x;
}

/* Smallest and largest of n numbers; false if one is not finite. */
static bool finite_range(const float *x, int64_t n, float *min, float *max)
{
    struct range_lanes lanes;
    float low = x[0], high = x[0];
    int32_t bad = 0;
    for (int i = 0; i < BLOCK; i++) {
        lanes.low[i] = lanes.high[i] = x[0];
        lanes.bad[i] = 0;
    }
    blocks_range(x, n / BLOCK, &lanes);
    for (int64_t i = n / BLOCK * BLOCK; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        bad |= fabsf(x[i]) <= FLT_MAX ? 0 : 1;
    }
    for (int i = 0; i < BLOCK; i++) {
        low = lanes.low[i] < low ? lanes.low[i] : low;
        high = lanes.high[i] > high ? lanes.high[i] : high;
        bad |= lanes.bad[i];
    }
    if (bad)
        return false;
    *min = first_zero(x, low);
    *max = first_zero(x, high);
    return true;
}

static void *state_at(const struct mqb_observer *observer, int32_t channel)
{
    return observer->states + (size_t)channel * observer->kind->channel_size;
}

mqb_status mqb_observer_create(const char *name, const struct mqb_scheme *scheme, struct mqb_observer **observer,
                               struct mqb_error *error)
{
    const struct mqb_observer_kind *kind = NULL;
    *observer = NULL;
    for (size_t i = 0; i < NUM_KINDS; i++) {
        if (strcmp(kinds[i]->name, name) == 0)
            kind = kinds[i];
    }
    if (!kind) {
        const char *near = mqb_nearest(name, names, NUM_KINDS);
        return mqb_fail(error, MQB_ERR_NOT_FOUND, "no observer is called \"%s\"%s%s%s", name, near ? "; did you mean \"" : "",
                        near ? near : "", near ? "\"?" : "");
    }
    int32_t channels = scheme->per_channel ? scheme->num_channels : 1;
    if (channels < 1 || scheme->qmax <= scheme->qmin || scheme->qmin > 0 || scheme->qmax < 1)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "observer %s: no range of codes: [%" PRId32 ", %" PRId32 "], %" PRId32 " scales", name, scheme->qmin,
                        scheme->qmax, channels);

    struct mqb_observer *made = mqb_allocate(sizeof(*made));
    if (made) {
        made->kind = kind;
        made->scheme = *scheme;
        made->scheme.num_channels = channels;
        made->channels = mqb_allocate_array((size_t)channels, sizeof(made->channels[0]));
        made->states = mqb_allocate_array((size_t)channels, kind->channel_size ? kind->channel_size : 1);
    }
    if (!made || !made->channels || !made->states) {
        mqb_observer_destroy(made);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for an observer of %" PRId32 " channels", channels);
    }
    *observer = made;
    return MQB_OK;
}

mqb_status mqb_observer_observe(struct mqb_observer *observer, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    int32_t channels = observer->scheme.num_channels;
    if (!x->data || x->num_elements < channels || x->num_elements % channels != 0)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "observer %s: a tensor of %" PRId64 " numbers does not divide into %" PRId32 " channels",
                        observer->kind->name, x->data ? x->num_elements : 0, channels);
    int64_t size = x->num_elements / channels;
    observer->batch_images = x->rank > 0 && !observer->scheme.per_channel ? x->dims[0] : 1;
    /* All channels are checked before any statistic moves: a refused batch leaves no trace. */
    for (int32_t c = 0; c < channels; c++) {
        struct mqb_observer_channel *base = &observer->channels[c];
        const float *data = x->data + c * size;
        if (finite_range(data, size, &base->batch_min, &base->batch_max))
            continue;
        int64_t bad = 0;
        while (fabsf(data[bad]) <= FLT_MAX)
            bad++;
        return mqb_fail(error, MQB_ERR_NUMERIC, "element %" PRId64 " of %" PRId64 " is %s; calibration needs finite numbers",
                        c * size + bad, x->num_elements, data[bad] == data[bad] ? "infinite" : "NaN");
    }
    for (int32_t c = 0; c < channels; c++) {
        struct mqb_observer_channel *base = &observer->channels[c];
        if (base->num_batches == 0 || base->batch_min < base->min)
            base->min = base->batch_min;
        if (base->num_batches == 0 || base->batch_max > base->max)
            base->max = base->batch_max;
        base->num_batches++;
        if (observer->kind->observe) {
            mqb_status status = observer->kind->observe(observer, base, state_at(observer, c), x->data + c * size, size, error);
            if (status != MQB_OK)
                return status;
        }
    }
    return MQB_OK;
}

mqb_status mqb_observer_qparams(const struct mqb_observer *observer, float *scale, int32_t *zero_point, struct mqb_error *error)
{
    for (int32_t c = 0; c < observer->scheme.num_channels; c++) {
        const struct mqb_observer_channel *base = &observer->channels[c];
        if (base->num_batches == 0)
            return mqb_fail(error, MQB_ERR_ARGUMENT, "observer %s has seen no data; calibrate with at least one batch",
                            observer->kind->name);
        observer->kind->qparams(observer, base, state_at(observer, c), &scale[c], &zero_point[c]);
    }
    return MQB_OK;
}

void mqb_observer_range(const struct mqb_observer *observer, float *min, float *max)
{
    *min = observer->channels[0].min;
    *max = observer->channels[0].max;
    for (int32_t c = 1; c < observer->scheme.num_channels; c++) {
        *min = observer->channels[c].min < *min ? observer->channels[c].min : *min;
        *max = observer->channels[c].max > *max ? observer->channels[c].max : *max;
    }
}

void mqb_observer_destroy(struct mqb_observer *observer)
{
    if (!observer)
        return;
    if (observer->kind->release && observer->states) {
        for (int32_t c = 0; c < observer->scheme.num_channels; c++)
            observer->kind->release(state_at(observer, c));
    }
    mqb_deallocate(observer->channels);
    mqb_deallocate(observer->states);
    mqb_deallocate(observer);
}
