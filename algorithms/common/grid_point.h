/*
 * grid_point.h - what DoReFa and PACT share: a uniform grid that follows from a range, the range of an activation, and the
 * saved state.
 *
 * Letters: s scale, z zero point, n = qmin, p = qmax.
 *   symmetric   s = max(-low, high) / ((p - n)/2), or / (p - n) if no code is negative;   z = 0
 *   affine      s = (high - low) / (p - n),   z = clip(n - rne(low / s), n, p)
 * and codes and values as grid.h has them.
 */
#ifndef ALGORITHMS_GRID_POINT_H
#define ALGORITHMS_GRID_POINT_H

#include "grid.h"
#include "range_state.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define GRID_MAX_LEARNED 2

/* An element of a weight that has the largest magnitude. */
struct grid_largest {
    int64_t index;
    float t; /* its tanh */
};

struct grid_point {
    const struct mqb_host *host;
    const char *algorithm;    /* for messages; a literal */
    uint32_t magic;           /* of the saved state */
    struct mqb_scheme scheme; /* qmin and qmax as they stand: adaptive sign may have moved them */
    int paper;                /* compat = paper */
    int toolkit;              /* compat = toolkit */
    int each_batch;           /* the range of an activation is that of the batch at hand */
    float *scale;             /* num_channels each */
    int32_t *zero_point;
    float learned[GRID_MAX_LEARNED], learned_grad[GRID_MAX_LEARNED];

    /* Activations: the range that calibration saw; under compat = paper that of the batch at hand. */
    struct mqb_observer *observer;
    float min, max;
    int missing_batch_reported;
    int freeze; /* learned bounds are calibration's for good */

    /* Weights: see dorefa_weight.h. */
    int rescale;
    float divisor, factor; /* v = tanh w / divisor, divisor = m / factor */
    int64_t num_largest, capacity;
    struct grid_largest *largest;
};

static inline struct grid grid_at(const struct grid_point *point, int32_t channel)
{
    return grid_of(&point->scheme, point->scale[channel], point->zero_point[channel]);
}

static inline void grid_set_range(struct grid_point *point, int32_t channel, float low, float high)
{
    const struct mqb_scheme *scheme = &point->scheme;
    float n = (float)scheme->qmin, p = (float)scheme->qmax, levels = p - n, s;
    low = low < 0.0f ? low : 0.0f;
    high = high > 0.0f ? high : 0.0f;
    if (scheme->symmetric)
        s = (-low > high ? -low : high) / (scheme->qmin >= 0 ? levels : levels / 2.0f);
    else
        s = high - low > FLT_MAX ? high / levels - low / levels : (high - low) / levels;
    s = s < FLT_EPSILON ? FLT_EPSILON : s;
    float rounded = scheme->pot_scale ? mqb_pot_round(s) : s;
    /* The published programs take the zero point of the scale before it is rounded. */
    float v = low / (point->paper || point->toolkit ? s : rounded);
    v = n - mqb_rne_small(v < -65536.0f ? -65536.0f : v);
    v = v < n ? n : v > p ? p : v;
    point->scale[channel] = rounded;
    point->zero_point[channel] = scheme->symmetric ? 0 : (int32_t)v;
}

static inline void grid_point_destroy(void *self)
{
    struct grid_point *point = self;
    if (!point)
        return;
    point->host->observer_destroy(point->observer);
    point->host->deallocate(point->scale);
    point->host->deallocate(point->zero_point);
    point->host->deallocate(point->largest);
    point->host->deallocate(point);
}

static inline mqb_status grid_point_create(const struct mqb_host *host, const char *algorithm, uint32_t magic,
                                           const struct mqb_scheme *scheme, const struct mqb_options *options,
                                           struct grid_point **result, struct mqb_error *error)
{
    *result = NULL;
    if (scheme->role != MQB_ROLE_WEIGHT && scheme->role != MQB_ROLE_ACTIVATION)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "%s quantizes weights and activations, not role %d", algorithm,
                          (int)scheme->role);
    if (scheme->bits < 2 || scheme->bits > 8 || scheme->qmin > 0 || scheme->qmax < 1)
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "%s needs 2 to 8 bits and a range that holds 0 and 1; got %d bits, [%d, %d]", algorithm,
                          (int)scheme->bits, (int)scheme->qmin, (int)scheme->qmax);
    if (scheme->role == MQB_ROLE_ACTIVATION && scheme->per_channel)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "%s quantizes activations with one scale a tensor, not one a channel",
                          algorithm);
    if (scheme->num_channels < 1 || (!scheme->per_channel && scheme->num_channels != 1))
        return host->fail(error, MQB_ERR_ARGUMENT, "%s was given %d scales for a %s scheme", algorithm,
                          (int)scheme->num_channels, scheme->per_channel ? "per-channel" : "per-tensor");
    struct grid_point *point = host->allocate(sizeof(*point));
    size_t n = (size_t)scheme->num_channels;
    if (!point)
        return host->fail(error, MQB_ERR_MEMORY, "%s: no memory for an instance", algorithm);
    point->host = host;
    point->algorithm = algorithm;
    point->magic = magic;
    point->scheme = *scheme;
    point->scheme.struct_size = sizeof(point->scheme);
    point->paper = strcmp(host->option_text(options, "compat"), "paper") == 0;
    point->each_batch = point->paper;
    point->toolkit = strcmp(host->option_text(options, "compat"), "toolkit") == 0;
    point->scale = host->allocate(n * sizeof(float));
    point->zero_point = host->allocate(n * sizeof(int32_t));
    mqb_status status = MQB_OK;
    if (!point->scale || !point->zero_point)
        status = host->fail(error, MQB_ERR_MEMORY, "%s: no memory for %zu scales", algorithm, n);
    else if (scheme->role == MQB_ROLE_ACTIVATION)
        status = host->observer_create("minmax", &point->scheme, &point->observer, error);
    if (status != MQB_OK) {
        grid_point_destroy(point);
        return status;
    }
    for (size_t c = 0; c < n; c++)
        point->scale[c] = 1.0f;
    point->divisor = point->factor = 1.0f;
    point->rescale = !point->paper && !point->toolkit && host->option_int(options, "rescale") != 0;
    *result = point;
    return MQB_OK;
}

/* ---- the range of an activation ---- */

static inline void grid_point_adapt_sign(struct grid_point *point)
{
    struct mqb_scheme *scheme = &point->scheme;
    if (!scheme->adaptive_sign || !scheme->symmetric || scheme->qmin == 0 || point->min < 0.0f)
        return;
    scheme->qmin = 0;
    scheme->qmax = (1 << scheme->bits) - 1;
}

/* End of calibration. */
static inline void grid_point_init_range(struct grid_point *point)
{
    point->host->observer_range(point->observer, &point->min, &point->max);
    grid_point_adapt_sign(point);
}

/* Under compat the range is that of each batch, in evaluation too, where the host shows it. */
static inline mqb_status grid_point_batch_range(struct grid_point *point, const struct mqb_tensor_view *x,
                                                struct mqb_error *error)
{
    if (!point->each_batch)
        return MQB_OK;
    if (!x->data) {
        if (!point->missing_batch_reported)
            point->host->log(MQB_LOG_NOTE,
                             "%s: \"%s\" keeps its calibrated range; the published code measures every batch anew, which "
                             "this host does not offer",
                             point->algorithm, point->scheme.tensor ? point->scheme.tensor : "?");
        point->missing_batch_reported = 1;
        return MQB_OK;
    }
    float min = INFINITY, max = -INFINITY;
    for (int64_t i = 0; i < x->num_elements; i++) {
        float v = x->data[i];
        if (!(fabsf(v) <= FLT_MAX))
            return point->host->fail(error, MQB_ERR_NUMERIC, "element %lld of the activation is not finite", (long long)i);
        min = v < min ? v : min;
        max = v > max ? v : max;
    }
    point->min = min;
    point->max = max;
    grid_point_adapt_sign(point);
    return MQB_OK;
}

/* ---- what is handed out ---- */

static inline mqb_status grid_point_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    const struct grid_point *point = self;
    (void)error;
    return range_qparams(&point->scheme, point->scale, point->zero_point, qparams);
}

/* The state: this header, then num_channels scales, then as many zero points. */
struct grid_state {
    uint32_t magic;
    int32_t num_channels, qmin, qmax;
    float min, max, divisor, learned[GRID_MAX_LEARNED];
    uint32_t reserved;
};

static inline mqb_status grid_point_save(const void *self, void *buffer, size_t *size, struct mqb_error *error)
{
    const struct grid_point *point = self;
    size_t values = (size_t)point->scheme.num_channels * sizeof(float), needed = sizeof(struct grid_state) + 2 * values;
    if (buffer) {
        if (*size < needed)
            return point->host->fail(error, MQB_ERR_ARGUMENT, "%s: a state takes %zu bytes, the buffer has %zu",
                                     point->algorithm, needed, *size);
        struct grid_state state = {.magic = point->magic,
                                   .num_channels = point->scheme.num_channels,
                                   .qmin = point->scheme.qmin,
                                   .qmax = point->scheme.qmax,
                                   .min = point->min,
                                   .max = point->max,
                                   .divisor = point->divisor};
        memcpy(state.learned, point->learned, sizeof(state.learned));
        memcpy(buffer, &state, sizeof(state));
        memcpy((char *)buffer + sizeof(state), point->scale, values);
        memcpy((char *)buffer + sizeof(state) + values, point->zero_point, values);
    }
    *size = needed;
    return MQB_OK;
}

static inline int grid_finite(float v)
{
    return fabsf(v) <= FLT_MAX;
}

static inline mqb_status grid_point_load(void *self, const void *buffer, size_t size, struct mqb_error *error)
{
    struct grid_point *point = self;
    const struct mqb_scheme *scheme = &point->scheme;
    struct grid_state state;
    size_t values = (size_t)scheme->num_channels * sizeof(float);
    if (size != sizeof(state) + 2 * values)
        return point->host->fail(error, MQB_ERR_FORMAT, "%s: a state of %zu bytes, expected %zu for %d scales",
                                 point->algorithm, size, sizeof(state) + 2 * values, (int)scheme->num_channels);
    memcpy(&state, buffer, sizeof(state));
    if (state.magic != point->magic || state.num_channels != scheme->num_channels)
        return point->host->fail(error, MQB_ERR_FORMAT, "%s: the state is damaged or was written by another version",
                                 point->algorithm);
    int same = state.qmin == scheme->qmin && state.qmax == scheme->qmax;
    int switched = scheme->adaptive_sign && scheme->symmetric && state.qmin == 0 && state.qmax == (1 << scheme->bits) - 1;
    if (!same && !switched)
        return point->host->fail(error, MQB_ERR_FORMAT, "%s: the state is for codes [%d, %d], this point has [%d, %d]",
                                 point->algorithm, (int)state.qmin, (int)state.qmax, (int)scheme->qmin, (int)scheme->qmax);
    const char *scales = (const char *)buffer + sizeof(state), *zeros = scales + values;
    int good = grid_finite(state.min) && grid_finite(state.max) && grid_finite(state.divisor) && state.divisor > 0.0f &&
               grid_finite(state.learned[0]) && grid_finite(state.learned[1]);
    for (int32_t c = 0; c < scheme->num_channels; c++) {
        float s;
        int32_t z;
        memcpy(&s, scales + (size_t)c * sizeof(s), sizeof(s));
        memcpy(&z, zeros + (size_t)c * sizeof(z), sizeof(z));
        good = good && grid_finite(s) && s > 0.0f && (scheme->symmetric ? z == 0 : z >= state.qmin && z <= state.qmax);
    }
    if (!good)
        return point->host->fail(error, MQB_ERR_FORMAT, "%s: the state holds a number that cannot be", point->algorithm);
    memcpy(point->scale, scales, values);
    memcpy(point->zero_point, zeros, values);
    memcpy(point->learned, state.learned, sizeof(state.learned));
    point->min = state.min;
    point->max = state.max;
    point->divisor = state.divisor;
    point->scheme.qmin = state.qmin;
    point->scheme.qmax = state.qmax;
    return MQB_OK;
}

#endif
