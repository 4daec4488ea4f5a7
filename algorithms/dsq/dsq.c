/*
 * dsq.c - differentiable soft quantization (Gong et al., ICCV 2019), with ranges from statistics and a fixed alpha.
 *
 * Letters: s scale, z zero point, n = qmin, p = qmax, x input, dy gradient at y.
 *
 *   v = clip(x / s + z, n, p)     d = v - floor(v) - 1/2     S = 1 / (1 - alpha)     k = ln((2 - alpha) / alpha)
 *   q = rne(floor(v) + (S tanh(k d) + 1) / 2) = rne(v)       the function is odd around every middle and increasing
 *   y = (q - z) * s
 *   dx = dy * S k / 2 * sech^2(k d) where n <= x / s + z <= p, else 0
 *
 * `soft = no`: q = clip(rne(x * (1/s)) + z, n, p), dx = dy where that code was not clipped.
 *
 * Ranges: a weight's is mean +- 2.6 standard deviations, taken anew in every training step; an activation's is the mean of its
 * images' minima and maxima, in a moving average (0.9 old, 0.1 new) over the calibration batches, and stays.
 *
 * `compat = paper`: an affine zero point goes with the power-of-two scale as it was before rounding, and codes turn unsigned
 * for good at the first batch that is never negative. `compat = toolkit`: the zero point likewise; weights and activations have
 * the toolkit's range, mean +- 2.6 standard deviations or all of it, whichever is wider.
 */
#include "../common/range_state.h"

#include <mqbench/numeric.h>
#include <mqbench/plugin.h>
#include <mqbench/quantizer.h>

#include <float.h>
#include <math.h>
#include <string.h>

#define DSQ_STATE_MAGIC 0x31515344u /* "DSQ1" */

enum dsq_compat { DSQ_COMPAT_OFF, DSQ_COMPAT_PAPER, DSQ_COMPAT_TOOLKIT };

struct dsq {
    const struct mqb_host *host;
    struct mqb_scheme scheme; /* qmin and qmax as they stand: adaptive sign may have moved them */
    int soft, may_switch;     /* may_switch: the scheme allows unsigned codes for a tensor that is never negative */
    enum dsq_compat compat;
    const char *spread; /* the observer of ranges that come from mean and deviation */
    float half_sk, k;   /* S k / 2 and k */
    float *scale;       /* num_channels each */
    int32_t *zero_point;
    /* Calibration. By mean and deviation: one observer with the scheme's codes, one with those after a switch of sign or NULL.
     */
    struct mqb_observer *spread_range[2];
    /* By moving average: is there a batch yet, was one never negative, the smallest value so far, the average. */
    int seen, seen_nonnegative;
    float least, min, max;
};

/* What the loops need, by value. */
struct dsq_range {
    float s, inv, z, n, p, half_sk, k;
};

/* ln v for v >= 1: v = m 2^e, ln m = 2 atanh((m - 1) / (m + 1)). No C library, whose last digit differs between machines. */
static double dsq_ln(double v)
{
    int exponent = 0;
    while (v > 1.5) {
        v *= 0.5;
        exponent++;
    }
    double t = (v - 1.0) / (v + 1.0), square = t * t, power = t, sum = 0.0;
    for (int i = 1; i < 40; i += 2) {
        sum += power / i;
        power *= square;
    }
    return 2.0 * sum + exponent * 0.69314718055994530942;
}

/* sech^2(u) = 4 w / (1 + w)^2 with w = e^(-2 |u|); a few ulp for |u| <= 40. */
static inline float dsq_sech2(float u)
{
    float a = -2.0f * fabsf(u);
    float n = mqb_rne_small(a * 1.44269504f);
    float r = (a - n * 0.693145752f) - n * 1.42860677e-6f; /* a = n ln 2 + r */
    float w = 8.33333333e-3f + r * 1.38888889e-3f;
    w = 1.66666667e-1f + r * (4.16666667e-2f + r * w);
    w = 1.0f + r * (1.0f + r * (0.5f + r * w));
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof(power));
    w *= power;
    float sum = 1.0f + w;
    return 4.0f * w / (sum * sum);
}

static void dsq_destroy(void *self)
{
    struct dsq *q = self;
    if (!q)
        return;
    q->host->observer_destroy(q->spread_range[0]);
    q->host->observer_destroy(q->spread_range[1]);
    q->host->deallocate(q->scale);
    q->host->deallocate(q->zero_point);
    q->host->deallocate(q);
}

static struct mqb_scheme dsq_switched(const struct mqb_scheme *scheme)
{
    struct mqb_scheme positive = *scheme;
    positive.qmin = 0;
    positive.qmax = (1 << scheme->bits) - 1;
    return positive;
}

/* Does the range come from mean and deviation? */
static int dsq_by_spread(const struct dsq *q)
{
    return q->scheme.role == MQB_ROLE_WEIGHT || q->compat == DSQ_COMPAT_TOOLKIT;
}

/* The scheme that observers are given: the published programs round the scale after the zero point is made. */
static struct mqb_scheme dsq_observed(const struct dsq *q)
{
    struct mqb_scheme scheme = q->scheme;
    if (q->compat != DSQ_COMPAT_OFF)
        scheme.pot_scale = 0;
    return scheme;
}

static mqb_status dsq_qparams_of(struct dsq *q, const struct mqb_observer *observer, struct mqb_error *error)
{
    mqb_status status = q->host->observer_qparams(observer, q->scale, q->zero_point, error);
    for (int32_t c = 0; c < q->scheme.num_channels && status == MQB_OK && q->scheme.pot_scale; c++)
        q->scale[c] = mqb_pot_round(q->scale[c]);
    return status;
}

static mqb_status dsq_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                             void **self, struct mqb_error *error)
{
    *self = NULL;
    if (scheme->role != MQB_ROLE_WEIGHT && scheme->role != MQB_ROLE_ACTIVATION)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "dsq quantizes weights and activations, not role %d", (int)scheme->role);
    if (scheme->bits < 2 || scheme->bits > 8 || scheme->qmin >= scheme->qmax || scheme->qmin < -128 || scheme->qmax > 255)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "dsq needs 2 to 8 bits and codes that fit them; got %d bits, [%d, %d]",
                          (int)scheme->bits, (int)scheme->qmin, (int)scheme->qmax);
    if (scheme->role == MQB_ROLE_ACTIVATION && scheme->per_channel)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "dsq has one scale an activation; this scheme asks for one a channel");
    if (scheme->num_channels < 1 || (!scheme->per_channel && scheme->num_channels != 1))
        return host->fail(error, MQB_ERR_ARGUMENT, "dsq was given %d scales for a %s scheme", (int)scheme->num_channels,
                          scheme->per_channel ? "per-channel" : "per-tensor");

    struct dsq *q = host->allocate(sizeof(*q));
    size_t n = (size_t)scheme->num_channels;
    if (!q)
        return host->fail(error, MQB_ERR_MEMORY, "dsq: no memory for an instance");
    mqb_status status = MQB_OK;
    q->host = host;
    q->scheme = *scheme;
    q->scheme.struct_size = sizeof(q->scheme);
    q->may_switch = scheme->adaptive_sign && scheme->symmetric && scheme->qmin < 0;
    q->soft = host->option_int(options, "soft") != 0;
    const char *compat = host->option_text(options, "compat");
    q->compat = strcmp(compat, "paper") == 0     ? DSQ_COMPAT_PAPER
                : strcmp(compat, "toolkit") == 0 ? DSQ_COMPAT_TOOLKIT
                                                 : DSQ_COMPAT_OFF;
    q->spread = q->compat == DSQ_COMPAT_TOOLKIT ? "toolkit_clip_std" : "clip_std";
    double alpha = host->option_real(options, "alpha"), k = dsq_ln((2.0 - alpha) / alpha);
    q->k = (float)k;
    q->half_sk = (float)(0.5 * k / (1.0 - alpha));
    q->scale = host->allocate(n * sizeof(float));
    q->zero_point = host->allocate(n * sizeof(int32_t));
    if (!q->scale || !q->zero_point) {
        status = host->fail(error, MQB_ERR_MEMORY, "dsq: no memory for %zu scales", n);
        goto out;
    }
    for (size_t c = 0; c < n; c++)
        q->scale[c] = 1.0f;
    if (dsq_by_spread(q)) {
        struct mqb_scheme plain = dsq_observed(q), positive = dsq_switched(&plain);
        status = host->observer_create(q->spread, &plain, &q->spread_range[0], error);
        if (status == MQB_OK && q->may_switch)
            status = host->observer_create(q->spread, &positive, &q->spread_range[1], error);
    }
out:
    if (status != MQB_OK) {
        dsq_destroy(q);
        return status;
    }
    *self = q;
    return MQB_OK;
}

/* The mean over images of the smallest and of the largest value; false if a value is not finite. */
static int mean_range(const struct mqb_tensor_view *x, float *least, float *mean_min, float *mean_max)
{
    int64_t images = x->rank > 0 ? x->dims[0] : 1, size = x->num_elements / images;
    double min_sum = 0.0, max_sum = 0.0;
    for (int64_t k = 0; k < images; k++) {
        const float *image = x->data + k * size;
        float min = image[0], max = image[0];
        for (int64_t i = 0; i < size; i++) {
            if (!(fabsf(image[i]) <= FLT_MAX))
                return 0;
            min = image[i] < min ? image[i] : min;
            max = image[i] > max ? image[i] : max;
        }
        min_sum += (double)min;
        max_sum += (double)max;
        *least = min < *least ? min : *least;
    }
    *mean_min = (float)(min_sum / (double)images);
    *mean_max = (float)(max_sum / (double)images);
    return 1;
}

static mqb_status dsq_observe(void *self, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    struct dsq *q = self;
    if (x->num_elements < 1 || !x->data)
        return q->host->fail(error, MQB_ERR_ARGUMENT, "dsq was given an empty tensor to observe");
    if (dsq_by_spread(q)) {
        mqb_status status = q->host->observer_observe(q->spread_range[0], x, error);
        if (status == MQB_OK && q->spread_range[1])
            status = q->host->observer_observe(q->spread_range[1], x, error);
        return status;
    }
    float least = FLT_MAX, min, max;
    if (!mean_range(x, &least, &min, &max))
        return q->host->fail(error, MQB_ERR_NUMERIC, "dsq: a value of \"%s\" is not finite",
                             q->scheme.tensor ? q->scheme.tensor : "?");
    q->seen_nonnegative |= least >= 0.0f;
    q->least = q->seen && q->least < least ? q->least : least;
    q->min = q->seen ? q->min * 0.9f + min * 0.1f : min;
    q->max = q->seen ? q->max * 0.9f + max * 0.1f : max;
    q->seen = 1;
    return MQB_OK;
}

/* Scale and zero point of what `observer` makes of `x`. */
static mqb_status qparams_from(struct dsq *q, const char *name, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    struct mqb_observer *observer = NULL;
    struct mqb_scheme scheme = dsq_observed(q);
    mqb_status status = q->host->observer_create(name, &scheme, &observer, error);
    if (status == MQB_OK)
        status = q->host->observer_observe(observer, x, error);
    if (status == MQB_OK)
        status = dsq_qparams_of(q, observer, error);
    q->host->observer_destroy(observer);
    return status;
}

static mqb_status dsq_init(void *self, struct mqb_error *error)
{
    struct dsq *q = self;
    int spread = dsq_by_spread(q);
    float least = q->least, max;
    if (spread)
        q->host->observer_range(q->spread_range[0], &least, &max);
    else if (!q->seen)
        return q->host->fail(error, MQB_ERR_ARGUMENT, "dsq has seen no batch of \"%s\" to take its range from",
                             q->scheme.tensor ? q->scheme.tensor : "?");
    int switches = q->may_switch && (least >= 0.0f || (q->compat == DSQ_COMPAT_PAPER && q->seen_nonnegative));
    if (switches)
        q->scheme = dsq_switched(&q->scheme);
    if (spread)
        return dsq_qparams_of(q, q->spread_range[switches], error);
    /* A tensor of these two numbers has this range: the engine's own rule makes scale and zero point of it. */
    float ends[2] = {q->min, q->max};
    struct mqb_tensor_view view = {.struct_size = sizeof(view), .rank = 1, .dims = {2}, .num_elements = 2, .data = ends};
    return qparams_from(q, "minmax", &view, error);
}

static mqb_status dsq_prepare(void *self, const struct mqb_tensor_view *x, int training, struct mqb_error *error)
{
    struct dsq *q = self;
    if (!training || q->scheme.role != MQB_ROLE_WEIGHT)
        return MQB_OK;
    return qparams_from(q, q->spread, x, error);
}

static struct dsq_range dsq_range_at(const struct dsq *q, int32_t channel)
{
    struct dsq_range r;
    r.s = q->scale[channel];
    r.inv = 1.0f / r.s;
    r.z = (float)q->zero_point[channel];
    r.n = (float)q->scheme.qmin;
    r.p = (float)q->scheme.qmax;
    r.half_sk = q->half_sk;
    r.k = q->k;
    return r;
}

/* Beyond +-2048 every code is out of range whatever the zero point, and within it mqb_rne_small is exact. */
static inline float dsq_round(float v)
{
    v = v > 2048.0f ? 2048.0f : v;
    v = v < -2048.0f ? -2048.0f : v;
    return mqb_rne_small(v);
}

/* The code before it is clipped. */
static inline __attribute__((always_inline)) float dsq_code(struct dsq_range r, const int soft, float x)
{
    return soft ? dsq_round(x / r.s + r.z) : dsq_round(x * r.inv) + r.z;
}

static inline __attribute__((always_inline)) void forward_slice(struct dsq_range r, const int soft, int64_t size,
                                                                const float *x, float *y)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++) {
        float code = dsq_code(r, soft, x[i]);
        code = code > r.p ? r.p : code;
        code = code < r.n ? r.n : code;
        y[i] = (code - r.z) * r.s;
    }
}

MQB_MULTIVERSION
static void forward_soft(struct dsq_range r, int64_t size, const float *x, float *y)
{
    forward_slice(r, 1, size, x, y);
}

MQB_MULTIVERSION
static void forward_plain(struct dsq_range r, int64_t size, const float *x, float *y)
{
    forward_slice(r, 0, size, x, y);
}

static void dsq_forward(const void *self, const struct mqb_slice *slice)
{
    const struct dsq *q = self;
    (q->soft ? forward_soft : forward_plain)(dsq_range_at(q, slice->channel), slice->size, slice->x, slice->y);
}

MQB_MULTIVERSION
static void backward_soft(struct dsq_range r, int64_t size, const float *x, const float *dy, float *dx)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++) {
        float raw = x[i] / r.s + r.z, g = dy[i];
        float v = raw > r.p ? r.p : raw;
        v = v < r.n ? r.n : v;
        float whole = mqb_rne_small(v);
        whole = whole > v ? whole - 1.0f : whole;
        float d = v - whole - 0.5f;
        d = d >= -0.5f ? d : -0.5f; /* a NaN has no integer part */
        float slope = r.half_sk * dsq_sech2(r.k * d);
        g = raw > r.p ? 0.0f : g * slope;
        dx[i] = raw < r.n ? 0.0f : g;
    }
}

MQB_MULTIVERSION
static void backward_plain(struct dsq_range r, int64_t size, const float *x, const float *dy, float *dx)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++) {
        float code = dsq_code(r, 0, x[i]), g = dy[i];
        g = code > r.p ? 0.0f : g;
        dx[i] = code < r.n ? 0.0f : g;
    }
}

static void dsq_backward(const void *self, const struct mqb_slice *slice)
{
    const struct dsq *q = self;
    (q->soft ? backward_soft : backward_plain)(dsq_range_at(q, slice->channel), slice->size, slice->x, slice->dy, slice->dx);
}

static mqb_status dsq_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    const struct dsq *q = self;
    (void)error;
    return range_qparams(&q->scheme, q->scale, q->zero_point, qparams);
}

static mqb_status dsq_freeze(const void *self, const struct mqb_tensor_view *x, int32_t *codes, struct mqb_error *error)
{
    const struct dsq *q = self;
    int32_t channels = q->scheme.num_channels;
    if (!x->data || x->num_elements % channels != 0)
        return q->host->fail(error, MQB_ERR_ARGUMENT, "dsq cannot freeze %lld numbers with %d scales",
                             (long long)x->num_elements, (int)channels);
    int64_t size = x->num_elements / channels;
    for (int64_t i = 0; i < x->num_elements; i++) {
        if (!(fabsf(x->data[i]) <= FLT_MAX))
            return q->host->fail(error, MQB_ERR_NUMERIC, "element %lld of the weight is not finite", (long long)i);
        int32_t code = (int32_t)dsq_code(dsq_range_at(q, (int32_t)(i / size)), q->soft, x->data[i]);
        codes[i] = code < q->scheme.qmin ? q->scheme.qmin : code > q->scheme.qmax ? q->scheme.qmax : code;
    }
    return MQB_OK;
}

static struct range_state dsq_state(struct dsq *q)
{
    return (struct range_state){q->host, "dsq", DSQ_STATE_MAGIC, &q->scheme, q->may_switch, q->scale, q->zero_point};
}

static mqb_status dsq_save(const void *self, void *buffer, size_t *size, struct mqb_error *error)
{
    return range_state_save(dsq_state((struct dsq *)(uintptr_t)self), buffer, size, error); /* saving changes nothing */
}

static mqb_status dsq_load(void *self, const void *buffer, size_t size, struct mqb_error *error)
{
    return range_state_load(dsq_state(self), buffer, size, error);
}

static const struct mqb_option_spec dsq_options[] = {
    {"soft", MQB_OPTION_BOOL, 0, "yes", 0, 0, NULL, "no: the rounding passed straight through, as the published code does"},
    {"alpha", MQB_OPTION_REAL, 0, "0.4", 0.001, 0.999, NULL,
     "how far the soft steps are from rounding: towards 0 they are stairs"},
    {"compat", MQB_OPTION_CHOICE, 0, "off", 0, 0, "off|paper|toolkit",
     "the published code's, or the toolkit's, ranges and zero points"},
};

static const struct mqb_quantizer dsq_quantizer = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS | MQB_QUANTIZER_AFFINE,
    .description = "differentiable soft quantization (Gong et al., ICCV 2019)",
    .options = dsq_options,
    .num_options = sizeof(dsq_options) / sizeof(dsq_options[0]),
    .create = dsq_create,
    .destroy = dsq_destroy,
    .observe = dsq_observe,
    .init = dsq_init,
    .prepare = dsq_prepare,
    .forward = dsq_forward,
    .backward = dsq_backward,
    .qparams = dsq_qparams,
    .freeze = dsq_freeze,
    .save = dsq_save,
    .load = dsq_load,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "dsq", &dsq_quantizer},
};

MQB_PLUGIN("dsq", "0.1.0", components);
