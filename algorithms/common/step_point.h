/*
 * step_point.h - a quantization point that learns its step, and in asymmetric schemes its zero point: what LSQ and LSQ+ share.
 * The loops are in step_slice.h.
 *
 *   g = 1 / sqrt(numel * p), the gradient factor
 *   per tensor   q = clip(rne(x * (1/s)) + z, n, p)        per channel   q = clip(rne(x / s + z), n, p)
 *   ds, dz = g * the sums of step_slice.h
 *
 * A power-of-two scale is rounded in every forward, straight through: ds is multiplied by 2^k / s.
 * compat = paper: torch's kernel, whose backward pass takes trunc(z + 1/2) for z and rounds z + x/s; the published code's
 * first zero point, which stays 0 for a tensor with negative values; and weight decay on scale and zero point.
 * compat = toolkit: the kernels and the decay likewise, but per channel as per tensor; a power-of-two scale is rounded once, at
 * the start, and then drifts off.
 */
#ifndef ALGORITHMS_STEP_POINT_H
#define ALGORITHMS_STEP_POINT_H

#include "range_state.h"
#include "scheme.h"
#include "step_slice.h"

#include <float.h>
#include <math.h>

/* Whose behaviour: what is right, or what was published. */
enum step_compat { STEP_COMPAT_OFF, STEP_COMPAT_PAPER, STEP_COMPAT_TOOLKIT };
#define STEP_COMPAT_CHOICES "off|paper|toolkit"

static inline enum step_compat step_compat_of(const struct mqb_host *host, const struct mqb_options *options)
{
    const char *text = host->option_text(options, "compat");
    if (strcmp(text, "paper") == 0)
        return STEP_COMPAT_PAPER;
    return strcmp(text, "toolkit") == 0 ? STEP_COMPAT_TOOLKIT : STEP_COMPAT_OFF;
}

/* How an algorithm wants its point. */
struct step_point_config {
    const char *algorithm; /* for messages; a literal */
    uint32_t magic;        /* of the saved state */
    int centred;           /* an asymmetric scheme's zero point stands at its middle code */
    int learn_zero_point;
    int lsqplus_start; /* under compat, what the published LSQ+ observers do: another divisor, and the paper's zero point */
};

struct step_point {
    const struct mqb_host *host;
    struct step_point_config config;
    struct mqb_scheme scheme;         /* qmin and qmax as they stand: adaptive sign may have moved them */
    struct mqb_observer *observer;    /* the scheme's codes, scale not rounded: the first forward rounds it */
    struct mqb_observer *nonnegative; /* the codes after a switch of sign, or NULL */
    struct mqb_observer *rounded;     /* zero points that go with the power-of-two scale, or NULL */
    int gradient_scale;
    enum step_compat compat;
    float lr_multiplier;
    int flip_reported;
    int64_t numel; /* elements of the tensor last seen */

    /* num_channels each; parameters and their gradients, then what forward and backward read, then what qparams hands out. */
    float *scale, *scale_grad, *zero_point, *zero_point_grad;
    float *step_scale, *step_zero, *back_zero, *pot_factor;
    float *out_scale;
    int32_t *out_zero;
};

static inline double step_gradient_factor(const struct step_point *point)
{
    if (!point->gradient_scale || point->numel <= 0)
        return 1.0;
    return 1.0 / sqrt((double)point->numel / point->scheme.num_channels * point->scheme.qmax);
}

static inline enum step_order step_point_order(const struct step_point *point)
{
    return point->scheme.per_channel && point->compat != STEP_COMPAT_TOOLKIT ? STEP_CHANNEL : STEP_TENSOR;
}

/* The middle code, or 0 if there is no zero point. */
static inline int32_t step_centre(const struct mqb_scheme *scheme)
{
    return scheme->symmetric ? 0 : (scheme->qmin + scheme->qmax + 1) / 2;
}

static inline float step_clip_zero(const struct step_point *point, float z)
{
    float lo = (float)point->scheme.qmin, hi = (float)point->scheme.qmax;
    if (point->scheme.symmetric)
        return 0.0f;
    return z < lo ? lo : z > hi ? hi : z;
}

/* The scale and the integral zero point that forward uses, from the parameters as they stand. */
static inline void step_effective(const struct step_point *point, int32_t c, float *scale, float *zero_point, float *pot_factor)
{
    float s = fabsf(point->scale[c]);
    s = s < FLT_EPSILON ? FLT_EPSILON : s;
    float raw = s;
    if (point->scheme.pot_scale && point->compat != STEP_COMPAT_TOOLKIT)
        s = mqb_pot_round(s);
    if (pot_factor)
        *pot_factor = s / raw;
    if (step_point_order(point) == STEP_CHANNEL && point->gradient_scale) {
        /* The reference scales the gradient by sg(s - s g) + s g, which moves some scales by one ulp (never a power of two). */
        float sg = s * (float)step_gradient_factor(point);
        s = (s - sg) + sg;
    }
    *scale = s;
    *zero_point = mqb_rne_small(step_clip_zero(point, point->zero_point[c]));
}

static inline void step_point_destroy(void *self)
{
    struct step_point *point = self;
    if (!point)
        return;
    point->host->observer_destroy(point->observer);
    point->host->observer_destroy(point->nonnegative);
    point->host->observer_destroy(point->rounded);
    point->host->deallocate(point->scale);
    point->host->deallocate(point->out_zero);
    point->host->deallocate(point);
}

static inline mqb_status step_create_observers(struct step_point *point, const char *name, struct mqb_error *error)
{
    const struct mqb_host *host = point->host;
    struct mqb_scheme plain = point->scheme, positive;
    int switches = scheme_nonnegative(&plain, &positive);
    plain.pot_scale = positive.pot_scale = 0;
    if (point->config.centred) {
        int32_t centre = step_centre(&plain);
        plain.symmetric = 1;
        plain.qmin -= centre;
        plain.qmax -= centre;
    }
    mqb_status status = host->observer_create(name, &plain, &point->observer, error);
    if (status == MQB_OK && point->scheme.pot_scale && !plain.symmetric)
        status = host->observer_create(name, &point->scheme, &point->rounded, error);
    if (status == MQB_OK && switches)
        status = host->observer_create(name, &positive, &point->nonnegative, error);
    return status;
}

/* `observer` names the one that gives the first scale. */
static inline mqb_status step_point_create(const struct mqb_host *host, const struct step_point_config *config,
                                           const char *observer, const struct mqb_scheme *scheme,
                                           const struct mqb_options *options, struct step_point **result,
                                           struct mqb_error *error)
{
    *result = NULL;
    mqb_status status = scheme_check(host, config->algorithm, scheme, error);
    if (status != MQB_OK)
        return status;
    struct step_point *point = host->allocate(sizeof(*point));
    size_t n = (size_t)scheme->num_channels;
    if (!point)
        return host->fail(error, MQB_ERR_MEMORY, "%s: no memory for an instance", config->algorithm);
    point->host = host;
    point->config = *config;
    point->scheme = *scheme;
    point->scheme.struct_size = sizeof(point->scheme);
    point->scale = host->allocate(9 * n * sizeof(float));
    point->out_zero = host->allocate(n * sizeof(int32_t));
    if (!point->scale || !point->out_zero) {
        status = host->fail(error, MQB_ERR_MEMORY, "%s: no memory for %zu scales", config->algorithm, n);
        goto out;
    }
    point->scale_grad = point->scale + n;
    point->zero_point = point->scale + 2 * n;
    point->zero_point_grad = point->scale + 3 * n;
    point->step_scale = point->scale + 4 * n;
    point->step_zero = point->scale + 5 * n;
    point->back_zero = point->scale + 6 * n;
    point->pot_factor = point->scale + 7 * n;
    point->out_scale = point->scale + 8 * n;
    for (size_t c = 0; c < n; c++)
        point->scale[c] = 1.0f;
    point->gradient_scale = host->option_int(options, "gradient_scale") != 0;
    point->compat = step_compat_of(host, options);
    point->lr_multiplier = (float)host->option_real(options, "lr_multiplier");
    status = step_create_observers(point, observer, error);
out:
    if (status != MQB_OK) {
        step_point_destroy(point);
        return status;
    }
    *result = point;
    return MQB_OK;
}

static inline mqb_status step_point_observe(void *self, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    struct step_point *point = self;
    point->numel = x->num_elements;
    mqb_status status = point->host->observer_observe(point->observer, x, error);
    if (status == MQB_OK && point->nonnegative)
        status = point->host->observer_observe(point->nonnegative, x, error);
    if (status == MQB_OK && point->rounded)
        status = point->host->observer_observe(point->rounded, x, error);
    return status;
}

/* What the published LSQ+ observers divide by instead of (p - n) / 2: its whole part, or p - n + 1. */
static inline float step_published_factor(const struct step_point *point)
{
    int32_t width = point->scheme.qmax - point->scheme.qmin;
    if (!point->config.lsqplus_start || point->compat == STEP_COMPAT_OFF)
        return 1.0f;
    return (float)width / 2.0f / (float)(point->compat == STEP_COMPAT_PAPER ? width / 2 : width + 1);
}

/* The paper's first zero point. */
static inline float step_published_zero(const struct step_point *point, int32_t c, float min)
{
    float lowest = (float)point->scheme.qmin, v = min / point->scale[c];
    v = v < -4096.0f ? -4096.0f : v > 4096.0f ? 4096.0f : v;
    float z = min >= 0.0f ? lowest - mqb_rne_small(v) : 0.0f;
    return z < lowest ? lowest : z;
}

static inline mqb_status step_point_init(void *self, struct mqb_error *error)
{
    struct step_point *point = self;
    float min, max;
    point->host->observer_range(point->observer, &min, &max);
    const struct mqb_observer *observer = point->observer;
    if (point->nonnegative && min >= 0.0f) {
        point->scheme.qmin = 0;
        point->scheme.qmax = (1 << point->scheme.bits) - 1;
        observer = point->nonnegative;
    }
    mqb_status status = point->host->observer_qparams(observer, point->scale, point->out_zero, error);
    if (status == MQB_OK && point->rounded)
        status = point->host->observer_qparams(point->rounded, point->out_scale, point->out_zero, error);
    if (status != MQB_OK)
        return status;
    int paper_zero =
        point->compat == STEP_COMPAT_PAPER || (point->compat == STEP_COMPAT_TOOLKIT && point->config.lsqplus_start);
    float factor = step_published_factor(point);
    for (int32_t c = 0; c < point->scheme.num_channels; c++) {
        float s = point->scale[c] * factor, z = (float)point->out_zero[c];
        s = s < FLT_EPSILON ? FLT_EPSILON : s;
        point->scale[c] = point->scheme.pot_scale && point->compat == STEP_COMPAT_TOOLKIT ? mqb_pot_round(s) : s;
        if (point->config.centred)
            z = (float)step_centre(&point->scheme);
        else if (paper_zero)
            z = step_published_zero(point, c, min);
        point->zero_point[c] = point->scheme.symmetric ? 0.0f : z;
    }
    return MQB_OK;
}

static inline mqb_status step_point_prepare(void *self, const struct mqb_tensor_view *x, int training, struct mqb_error *error)
{
    struct step_point *point = self;
    float hi = (float)point->scheme.qmax;
    (void)training;
    point->numel = x->num_elements;
    for (int32_t c = 0; c < point->scheme.num_channels; c++) {
        float s = point->scale[c], z = point->zero_point[c];
        if (!(fabsf(s) <= FLT_MAX) || !(fabsf(z) <= FLT_MAX))
            return point->host->fail(error, MQB_ERR_NUMERIC,
                                     "the learned %s of channel %d is not finite; a lower learning rate avoids it",
                                     fabsf(s) <= FLT_MAX ? "zero point" : "scale", (int)c);
        if (s < 0.0f && !point->flip_reported) {
            point->host->log(MQB_LOG_WARNING,
                             "%s: the learned scale of \"%s\" (channel %d) went negative, %g, and was made positive",
                             point->config.algorithm, point->scheme.tensor ? point->scheme.tensor : "?", (int)c, (double)s);
            point->flip_reported = 1;
        }
        s = fabsf(s);
        point->scale[c] = s < FLT_EPSILON ? FLT_EPSILON : s;
        point->zero_point[c] = step_clip_zero(point, z);
        step_effective(point, c, &point->step_scale[c], &point->step_zero[c], &point->pot_factor[c]);
        float back = point->zero_point[c] + 0.5f;
        back = back > hi ? hi : back;
        point->back_zero[c] = (float)(int32_t)back;
    }
    return MQB_OK;
}

static inline void step_point_forward(const void *self, const struct mqb_slice *slice)
{
    const struct step_point *point = self;
    int32_t c = slice->channel;
    step_forward(step_range_of(&point->scheme, point->step_scale[c], point->step_zero[c]), step_point_order(point), slice);
}

/* The codes of what step_forward makes, counted from n; false if some x is not a number and has none. */
MQB_MULTIVERSION
static int32_t step_codes_bad(struct step_range r, int64_t size, const float *restrict x, uint8_t *restrict codes)
{
    const float low = r.n - r.z, high = r.p - r.z;
    int32_t bad = 0;
    for (int64_t i = 0; i < size; i++) {
        float multiple = step_multiple(r, STEP_TENSOR, x[i]);
        multiple = multiple > high ? high : multiple;
        multiple = multiple < low ? low : multiple;
        int32_t fits = multiple >= low;
        bad |= !fits;
        codes[i] = (uint8_t)(int32_t)(fits ? multiple - low : 0.0f);
    }
    return bad;
}

static inline int32_t step_point_forward_codes(const void *self, const struct mqb_slice *slice, uint8_t *codes)
{
    const struct step_point *point = self;
    int32_t c = slice->channel;
    struct step_range range = step_range_of(&point->scheme, point->step_scale[c], point->step_zero[c]);
    return step_point_order(point) == STEP_TENSOR && range.p - range.n <= 255.0f &&
           !step_codes_bad(range, slice->size, slice->x, codes);
}

static inline int step_point_learns_zero(const struct step_point *point)
{
    return !point->scheme.symmetric && point->config.learn_zero_point;
}

static inline void step_point_backward(const void *self, const struct mqb_slice *slice)
{
    const struct step_point *point = self;
    int32_t c = slice->channel;
    int torch = point->compat != STEP_COMPAT_OFF && !point->scheme.symmetric && step_point_order(point) == STEP_TENSOR;
    float z = torch && !point->scheme.per_channel ? point->back_zero[c] : point->step_zero[c];
    step_backward(step_range_of(&point->scheme, point->step_scale[c], z), torch ? STEP_TORCH : step_point_order(point),
                  step_point_learns_zero(point), slice);
}

static inline void step_point_reduce(void *self, const double *sums)
{
    struct step_point *point = self;
    double g = step_gradient_factor(point);
    for (int32_t c = 0; c < point->scheme.num_channels; c++) {
        point->scale_grad[c] = (float)(sums[c * STEP_NUM_SUMS + STEP_SUM_SCALE] * g * (double)point->pot_factor[c]);
        point->zero_point_grad[c] = (float)(sums[c * STEP_NUM_SUMS + STEP_SUM_ZERO] * g);
    }
}

static inline mqb_status step_point_param(void *self, uint32_t index, struct mqb_param *param)
{
    struct step_point *point = self;
    uint32_t num_params = step_point_learns_zero(point) ? 2 : 1;
    if (index >= num_params)
        return MQB_ERR_NOT_FOUND;
    param->struct_size = sizeof(*param);
    param->num_elements = point->scheme.num_channels;
    param->name = index == 0 ? "scale" : "zero_point";
    param->value = index == 0 ? point->scale : point->zero_point;
    param->grad = index == 0 ? point->scale_grad : point->zero_point_grad;
    param->lr_multiplier = point->lr_multiplier;
    param->weight_decay_multiplier = point->compat != STEP_COMPAT_OFF ? 1.0f : 0.0f;
    return MQB_OK;
}

static inline mqb_status step_point_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    const struct step_point *point = self;
    for (int32_t c = 0; c < point->scheme.num_channels; c++) {
        float z;
        if (!(fabsf(point->scale[c]) <= FLT_MAX) || !(fabsf(point->zero_point[c]) <= FLT_MAX))
            return point->host->fail(error, MQB_ERR_NUMERIC, "the learned parameters of channel %d are not finite", (int)c);
        step_effective(point, c, &point->out_scale[c], &z, NULL);
        point->out_zero[c] = (int32_t)z;
    }
    return range_qparams(&point->scheme, point->out_scale, point->out_zero, qparams);
}

static inline mqb_status step_point_freeze(const void *self, const struct mqb_tensor_view *x, int32_t *codes,
                                           struct mqb_error *error)
{
    const struct step_point *point = self;
    int32_t channels = point->scheme.num_channels;
    if (!x->data || x->num_elements % channels != 0)
        return point->host->fail(error, MQB_ERR_ARGUMENT, "%s cannot freeze %lld numbers with %d scales",
                                 point->config.algorithm, (long long)x->num_elements, (int)channels);
    int64_t size = x->num_elements / channels;
    for (int32_t c = 0; c < channels; c++) {
        float s, z;
        step_effective(point, c, &s, &z, NULL);
        struct step_range r = step_range_of(&point->scheme, s, z);
        for (int64_t i = c * size; i < (c + 1) * size; i++) {
            if (!(fabsf(x->data[i]) <= FLT_MAX))
                return point->host->fail(error, MQB_ERR_NUMERIC, "element %lld of the weight is not finite", (long long)i);
            codes[i] = step_frozen_code(r, step_point_order(point), x->data[i]);
        }
    }
    return MQB_OK;
}

/* The state: this header, then num_channels scales, then as many zero points. range_state.h has integral zero points; a learned
 * one moves by fractions, and a resumed run must go on from them. */
struct step_state {
    uint32_t magic;
    int32_t num_channels, qmin, qmax;
    int64_t numel;
};

static inline mqb_status step_point_save(const void *self, void *buffer, size_t *size, struct mqb_error *error)
{
    const struct step_point *point = self;
    size_t values = (size_t)point->scheme.num_channels * sizeof(float);
    size_t needed = sizeof(struct step_state) + 2 * values;
    if (buffer) {
        if (*size < needed)
            return point->host->fail(error, MQB_ERR_ARGUMENT, "%s: a state takes %zu bytes, the buffer has %zu",
                                     point->config.algorithm, needed, *size);
        struct step_state state = {point->config.magic, point->scheme.num_channels, point->scheme.qmin, point->scheme.qmax,
                                   point->numel};
        memcpy(buffer, &state, sizeof(state));
        memcpy((char *)buffer + sizeof(state), point->scale, values);
        memcpy((char *)buffer + sizeof(state) + values, point->zero_point, values);
    }
    *size = needed;
    return MQB_OK;
}

static inline mqb_status step_point_load(void *self, const void *buffer, size_t size, struct mqb_error *error)
{
    struct step_point *point = self;
    const char *algorithm = point->config.algorithm;
    struct step_state state;
    size_t values = (size_t)point->scheme.num_channels * sizeof(float);
    if (size != sizeof(state) + 2 * values)
        return point->host->fail(error, MQB_ERR_FORMAT, "%s: a state of %zu bytes, expected %zu for %d scales", algorithm, size,
                                 sizeof(state) + 2 * values, (int)point->scheme.num_channels);
    memcpy(&state, buffer, sizeof(state));
    if (state.magic != point->config.magic || state.num_channels != point->scheme.num_channels || state.numel < 0)
        return point->host->fail(error, MQB_ERR_FORMAT, "%s: the state is damaged or was written by another version",
                                 algorithm);
    int same = state.qmin == point->scheme.qmin && state.qmax == point->scheme.qmax;
    int switched = point->nonnegative && state.qmin == 0 && state.qmax == (1 << point->scheme.bits) - 1;
    if (!same && !switched)
        return point->host->fail(error, MQB_ERR_FORMAT, "%s: the state is for codes [%d, %d], this point has [%d, %d]",
                                 algorithm, (int)state.qmin, (int)state.qmax, (int)point->scheme.qmin, (int)point->scheme.qmax);
    const char *numbers = (const char *)buffer + sizeof(state);
    for (size_t i = 0; i < 2 * (size_t)point->scheme.num_channels; i++) {
        float v;
        memcpy(&v, numbers + i * sizeof(v), sizeof(v));
        if (!(fabsf(v) <= FLT_MAX))
            return point->host->fail(error, MQB_ERR_FORMAT, "%s: the state holds a number that is not finite", algorithm);
    }
    memcpy(point->scale, numbers, values);
    memcpy(point->zero_point, numbers + values, values);
    point->scheme.qmin = state.qmin;
    point->scheme.qmax = state.qmax;
    point->numel = state.numel;
    return MQB_OK;
}

/* What a quantizer on this point has in common with the others. */
#define STEP_POINT_CALLS                                                                                                       \
    .sums_per_channel = STEP_NUM_SUMS, .destroy = step_point_destroy, .observe = step_point_observe, .init = step_point_init,  \
    .prepare = step_point_prepare, .forward = step_point_forward, .backward = step_point_backward,                             \
    .reduce = step_point_reduce, .param = step_point_param, .qparams = step_point_qparams, .freeze = step_point_freeze,        \
    .save = step_point_save, .load = step_point_load, .forward_codes = step_point_forward_codes

#endif
