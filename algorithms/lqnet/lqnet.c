/*
 * lqnet.c - learned quantization levels (LQ-Net; Zhang et al., ECCV 2018): 2 to 4 bits.
 *
 * A weight (each output channel of it, if the scheme says so) and an activation have a basis v of b numbers. The levels are
 * all sums of +-v[j]; of a tensor that is never negative, all sums of a part of the v[j].
 *
 *   y  = the nearest level
 *   dx = dy where x lies between the outermost levels, else 0; a weight's passes everywhere, as the released code has it,
 *        unless `weight_gradient = inside`
 *   v  = 0.9 v + 0.1 v', v' from a step of quantization-error minimisation (qem.h)
 *
 * v is no parameter of the optimizer. A weight's follows it before each training step's forward pass. An activation is never
 * whole at hand: backward adds up counts and sums by level, and reduce makes the step of them.
 *
 * At 8 bits (first and last layers) the levels are evenly spaced over the range: 255 thresholds a number would be slow, and
 * learned levels that dense gain nothing. In between the algorithm refuses.
 */
#include "qem.h"

#include <mqbench/numeric.h>
#include <mqbench/plugin.h>
#include <mqbench/quantizer.h>

#include <float.h>
#include <math.h>
#include <string.h>

#define LQNET_STATE_MAGIC 0x3151514cu /* "LQQ1" */
#define FIRST_STEPS 10                /* on the first tensor of calibration, which v adapts to entirely */
#define UNIFORM_BITS 8

struct lqnet {
    const struct mqb_host *host;
    struct mqb_scheme scheme;   /* qmin and qmax as they stand: adaptive sign may have moved them */
    struct mqb_scheme declared; /* as it was given */
    int uniform, may_switch, clip_weight, iterations;
    int nonnegative; /* no level is negative */
    double keep;
    struct mqb_observer *range[2]; /* of calibration, with codes as they are and with unsigned ones; NULL if impossible */

    double *basis[2]; /* [num_channels][bits] under signed and under non-negative levels; NULL if impossible */
    int seen[2];
    struct qem_table *table; /* num_channels */
    float *levels;           /* [num_channels][2^bits], for qparams */

    float *scale; /* num_channels: of even spacing; 1 for learned levels */
    int32_t *zero_point;
};

static const char *lqnet_tensor(const struct lqnet *q)
{
    return q->scheme.tensor ? q->scheme.tensor : "?";
}

static void lqnet_destroy(void *self)
{
    struct lqnet *q = self;
    if (!q)
        return;
    for (int i = 0; i < 2; i++) {
        q->host->observer_destroy(q->range[i]);
        q->host->deallocate(q->basis[i]);
    }
    q->host->deallocate(q->table);
    q->host->deallocate(q->levels);
    q->host->deallocate(q->scale);
    q->host->deallocate(q->zero_point);
    q->host->deallocate(q);
}

static struct mqb_scheme lqnet_switched(const struct mqb_scheme *scheme)
{
    struct mqb_scheme positive = *scheme;
    positive.qmin = 0;
    positive.qmax = (1 << scheme->bits) - 1;
    return positive;
}

static void set_sign(struct lqnet *q, int nonnegative)
{
    q->nonnegative = nonnegative;
    if (q->may_switch)
        q->scheme = nonnegative ? lqnet_switched(&q->declared) : q->declared;
}

static mqb_status lqnet_check(const struct mqb_host *host, const struct mqb_scheme *scheme, struct mqb_error *error)
{
    if (scheme->role != MQB_ROLE_WEIGHT && scheme->role != MQB_ROLE_ACTIVATION)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "lqnet quantizes weights and activations, not role %d",
                          (int)scheme->role);
    if (scheme->bits < 2 || (scheme->bits > QEM_MAX_BITS && scheme->bits != UNIFORM_BITS))
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "lqnet learns levels of 2 to %d bits (each number is compared with all of them), and spaces them "
                          "evenly at %d bits; %d bits are neither: use lsq",
                          QEM_MAX_BITS, UNIFORM_BITS, (int)scheme->bits);
    if (scheme->qmin > 0 || scheme->qmax < 1 || scheme->qmin < -128 || scheme->qmax > 255)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "lqnet needs codes of %d bits that hold 0 and 1; got [%d, %d]",
                          (int)scheme->bits, (int)scheme->qmin, (int)scheme->qmax);
    if (!scheme->symmetric)
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "lqnet's levels lie symmetrically around 0 or begin at 0; an asymmetric scheme's zero point has no "
                          "place among them: use a backend with symmetric schemes, such as academic");
    if (scheme->pot_scale)
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "lqnet's levels have no common step that could be a power of two, which this scheme asks for");
    if (scheme->role == MQB_ROLE_ACTIVATION && scheme->per_channel)
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "lqnet has one set of levels an activation; this scheme asks for one a channel");
    if (scheme->num_channels < 1 || (!scheme->per_channel && scheme->num_channels != 1))
        return host->fail(error, MQB_ERR_ARGUMENT, "lqnet was given %d scales for a %s scheme", (int)scheme->num_channels,
                          scheme->per_channel ? "per-channel" : "per-tensor");
    return MQB_OK;
}

/* The range observers and bases that this scheme can come to need. */
static mqb_status lqnet_allocate(struct lqnet *q, struct mqb_error *error)
{
    const struct mqb_host *host = q->host;
    size_t n = (size_t)q->scheme.num_channels;
    int possible[2] = {q->scheme.qmin < 0, q->scheme.qmin == 0 || q->may_switch};
    q->scale = host->allocate(n * sizeof(float));
    q->zero_point = host->allocate(n * sizeof(int32_t));
    int missing = !q->scale || !q->zero_point;
    if (!q->uniform) {
        q->table = host->allocate(n * sizeof(*q->table));
        q->levels = host->allocate((n << q->scheme.bits) * sizeof(float));
        missing = missing || !q->table || !q->levels;
    }
    mqb_status status = MQB_OK;
    for (int i = 0; i < 2 && status == MQB_OK; i++) {
        if (!possible[i])
            continue;
        struct mqb_scheme codes = i ? lqnet_switched(&q->scheme) : q->scheme;
        status = host->observer_create("minmax", &codes, &q->range[i], error);
        if (!q->uniform) {
            q->basis[i] = host->allocate(n * (size_t)q->scheme.bits * sizeof(double));
            missing = missing || !q->basis[i];
        }
    }
    if (status == MQB_OK && missing)
        status = host->fail(error, MQB_ERR_MEMORY, "lqnet: no memory for the levels of %zu channels", n);
    return status;
}

/* Levels of the bases as they stand. */
static void lqnet_refresh(struct lqnet *q)
{
    int levels = 1 << q->scheme.bits;
    for (int32_t c = 0; c < q->scheme.num_channels && !q->uniform; c++) {
        qem_table_make(q->scheme.bits, q->nonnegative, q->basis[q->nonnegative] + (int64_t)c * q->scheme.bits, &q->table[c]);
        memcpy(q->levels + (int64_t)c * levels, q->table[c].level, (size_t)levels * sizeof(float));
    }
}

static mqb_status lqnet_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                               void **self, struct mqb_error *error)
{
    *self = NULL;
    mqb_status status = lqnet_check(host, scheme, error);
    if (status != MQB_OK)
        return status;
    struct lqnet *q = host->allocate(sizeof(*q));
    if (!q)
        return host->fail(error, MQB_ERR_MEMORY, "lqnet: no memory for an instance");
    q->host = host;
    q->scheme = *scheme;
    q->scheme.struct_size = sizeof(q->scheme);
    q->declared = q->scheme;
    q->uniform = scheme->bits == UNIFORM_BITS;
    q->may_switch = scheme->adaptive_sign && scheme->qmin < 0;
    q->nonnegative = scheme->qmin == 0;
    q->keep = host->option_real(options, "average");
    q->iterations = (int)host->option_int(options, "iterations");
    q->clip_weight = strcmp(host->option_text(options, "weight_gradient"), "inside") == 0;
    status = lqnet_allocate(q, error);
    if (status != MQB_OK) {
        lqnet_destroy(q);
        return status;
    }
    for (int32_t c = 0; c < scheme->num_channels; c++)
        q->scale[c] = 1.0f;
    lqnet_refresh(q);
    *self = q;
    return MQB_OK;
}

/* ---- calibration ---- */

/* Root mean square of the numbers that are not 0: of a rectified normal distribution that of the whole one. */
static double rms_of(const float *x, int64_t n)
{
    double squares = 0.0, count = 0.0;
    for (int64_t i = 0; i < n; i++) {
        squares += (double)x[i] * (double)x[i];
        count += x[i] != 0.0f;
    }
    double rms = count > 0.0 ? sqrt(squares / count) : 0.0;
    return rms < (double)FLT_MAX / 4 ? rms : (double)FLT_MAX / 4; /* the top level is below 3 rms */
}

/* `steps` times: levels of v, then v for them. */
static void fit(struct lqnet *q, const struct mqb_tensor_view *x, int nonnegative, int steps, double keep)
{
    int64_t size = x->num_elements / q->scheme.num_channels;
    for (int32_t c = 0; c < q->scheme.num_channels; c++) {
        double *v = q->basis[nonnegative] + (int64_t)c * q->scheme.bits;
        for (int i = 0; i < steps; i++) {
            struct qem_table table;
            double sums[QEM_SUMS] = {0};
            qem_table_make(q->scheme.bits, nonnegative, v, &table);
            qem_gather(&table, x->data + c * size, size, sums);
            qem_update(&table, sums, keep, v);
        }
    }
}

static void start(struct lqnet *q, const struct mqb_tensor_view *x, int nonnegative)
{
    int64_t size = x->num_elements / q->scheme.num_channels;
    for (int32_t c = 0; c < q->scheme.num_channels; c++)
        qem_start(q->scheme.bits, nonnegative, rms_of(x->data + c * size, size),
                  q->basis[nonnegative] + (int64_t)c * q->scheme.bits);
}

static mqb_status lqnet_observe(void *self, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    struct lqnet *q = self;
    float min = 0.0f, max;
    for (int i = 0; i < 2; i++) {
        mqb_status status = q->range[i] ? q->host->observer_observe(q->range[i], x, error) : MQB_OK;
        if (status != MQB_OK)
            return status;
    }
    if (q->uniform)
        return MQB_OK;
    if (q->may_switch)
        q->host->observer_range(q->range[1], &min, &max);
    /* Levels of the sign that the numbers so far ask for: a first negative one starts the signed levels. */
    int i = q->may_switch ? min >= 0.0f : q->nonnegative;
    if (!q->seen[i])
        start(q, x, i);
    fit(q, x, i, q->seen[i] ? 1 : FIRST_STEPS, q->seen[i] ? q->keep : 0.0);
    q->seen[i] = 1;
    return MQB_OK;
}

static mqb_status lqnet_init(void *self, struct mqb_error *error)
{
    struct lqnet *q = self;
    float min = 0.0f, max;
    if (q->may_switch) {
        q->host->observer_range(q->range[1], &min, &max);
        set_sign(q, min >= 0.0f);
    }
    if (q->uniform)
        return q->host->observer_qparams(q->range[q->nonnegative], q->scale, q->zero_point, error);
    if (!q->seen[q->nonnegative])
        return q->host->fail(error, MQB_ERR_ARGUMENT, "lqnet has seen no numbers of \"%s\" to learn levels from",
                             lqnet_tensor(q));
    lqnet_refresh(q);
    return MQB_OK;
}

/* Evenly spaced levels follow the weight's range. */
static mqb_status follow_range(struct lqnet *q, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    struct mqb_observer *observer = NULL;
    mqb_status status = q->host->observer_create("minmax", &q->scheme, &observer, error);
    if (status == MQB_OK)
        status = q->host->observer_observe(observer, x, error);
    if (status == MQB_OK)
        status = q->host->observer_qparams(observer, q->scale, q->zero_point, error);
    q->host->observer_destroy(observer);
    return status;
}

static mqb_status lqnet_prepare(void *self, const struct mqb_tensor_view *x, int training, struct mqb_error *error)
{
    struct lqnet *q = self;
    if (!training || q->scheme.role != MQB_ROLE_WEIGHT)
        return MQB_OK;
    if (!x->data || x->num_elements < 1 || x->num_elements % q->scheme.num_channels != 0)
        return q->host->fail(error, MQB_ERR_ARGUMENT, "lqnet: %lld weights do not divide into %d channels",
                             (long long)(x->data ? x->num_elements : 0), (int)q->scheme.num_channels);
    if (q->uniform)
        return follow_range(q, x, error);
    fit(q, x, q->nonnegative, q->iterations, q->keep);
    lqnet_refresh(q);
    return MQB_OK;
}

/* ---- a training step ---- */

/* A NaN stays one: what broke must not look quantized. */
static inline __attribute__((always_inline)) void nearest(const struct qem_table *t, const int levels, int64_t size,
                                                          const float *x, float *y)
{
    float level[QEM_MAX_LEVELS], threshold[QEM_MAX_LEVELS];
    for (int k = 0; k < levels; k++) {
        level[k] = t->level[k];
        threshold[k] = t->threshold[k];
    }
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++) {
        float v = x[i], r = level[0];
        for (int k = 1; k < levels; k++)
            r = v > threshold[k] ? level[k] : r;
        y[i] = v == v ? r : v;
    }
}

MQB_MULTIVERSION
static void nearest_of_4(const struct qem_table *t, int64_t size, const float *x, float *y)
{
    nearest(t, 4, size, x, y);
}

MQB_MULTIVERSION
static void nearest_of_8(const struct qem_table *t, int64_t size, const float *x, float *y)
{
    nearest(t, 8, size, x, y);
}

MQB_MULTIVERSION
static void nearest_of_16(const struct qem_table *t, int64_t size, const float *x, float *y)
{
    nearest(t, 16, size, x, y);
}

/* Evenly spaced: q = clip(rne(x * (1/s)), n, p), y = q * s. */
MQB_MULTIVERSION
static void uniform_forward(float s, float n, float p, int64_t size, const float *x, float *y)
{
    float inv = 1.0f / s;
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++) {
        float v = x[i] * inv;
        v = v > p ? p : v;
        v = v < n ? n : v;
        y[i] = mqb_rne_small(v) * s;
    }
}

static void lqnet_forward(const void *self, const struct mqb_slice *slice)
{
    const struct lqnet *q = self;
    if (q->uniform) {
        uniform_forward(q->scale[slice->channel], (float)q->scheme.qmin, (float)q->scheme.qmax, slice->size, slice->x,
                        slice->y);
        return;
    }
    const struct qem_table *table = &q->table[slice->channel];
    (table->bits == 2 ? nearest_of_4 : table->bits == 3 ? nearest_of_8 : nearest_of_16)(table, slice->size, slice->x, slice->y);
}

MQB_MULTIVERSION
static void pass_inside(float low, float high, int64_t size, const float *x, const float *dy, float *dx)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++) {
        float g = dy[i];
        g = x[i] > high ? 0.0f : g;
        dx[i] = x[i] < low ? 0.0f : g;
    }
}

static void lqnet_backward(const void *self, const struct mqb_slice *slice)
{
    const struct lqnet *q = self;
    int weight = q->scheme.role == MQB_ROLE_WEIGHT;
    float low = -INFINITY, high = INFINITY;
    if (q->uniform) { /* what rounds to a code is inside */
        low = ((float)q->scheme.qmin - 0.5f) * q->scale[slice->channel];
        high = ((float)q->scheme.qmax + 0.5f) * q->scale[slice->channel];
    } else if (!weight || q->clip_weight) {
        low = q->table[slice->channel].level[0];
        high = q->table[slice->channel].level[(1 << q->scheme.bits) - 1];
    }
    pass_inside(low, high, slice->size, slice->x, slice->dy, slice->dx);
    if (!q->uniform && !weight)
        qem_gather(&q->table[0], slice->x, slice->size, slice->sums);
}

static void lqnet_reduce(void *self, const double *sums)
{
    struct lqnet *q = self;
    if (q->uniform || q->scheme.role == MQB_ROLE_WEIGHT)
        return;
    qem_update(&q->table[0], sums, q->keep, q->basis[q->nonnegative]);
    lqnet_refresh(q);
}

/* Learned levels: one table of all channels. Code q belongs to channel q / 2^bits. */
static mqb_status lqnet_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    const struct lqnet *q = self;
    (void)error;
    *qparams = (struct mqb_qparams){.struct_size = sizeof(*qparams),
                                    .num_channels = q->scheme.num_channels,
                                    .scale = q->scale,
                                    .zero_point = q->zero_point,
                                    .qmin = q->scheme.qmin,
                                    .qmax = q->scheme.qmax};
    if (!q->uniform) {
        qparams->num_levels = q->scheme.num_channels << q->scheme.bits;
        qparams->qmin = 0;
        qparams->qmax = qparams->num_levels - 1;
        qparams->levels = q->levels;
    }
    return MQB_OK;
}

/* ---- the saved state: a header, then the bases (double), or the scales (float) of evenly spaced levels ---- */

struct lqnet_header {
    uint32_t magic;
    int32_t num_channels, bits, nonnegative;
};

static size_t lqnet_state_values(const struct lqnet *q)
{
    size_t n = (size_t)q->scheme.num_channels;
    return q->uniform ? n * sizeof(float) : n * (size_t)q->scheme.bits * sizeof(double);
}

static mqb_status lqnet_save(const void *self, void *buffer, size_t *size, struct mqb_error *error)
{
    const struct lqnet *q = self;
    struct lqnet_header header = {LQNET_STATE_MAGIC, q->scheme.num_channels, q->scheme.bits, q->nonnegative};
    size_t values = lqnet_state_values(q), needed = sizeof(header) + values;
    if (buffer) {
        if (*size < needed)
            return q->host->fail(error, MQB_ERR_ARGUMENT, "lqnet: a state takes %zu bytes, the buffer has %zu", needed, *size);
        memcpy(buffer, &header, sizeof(header));
        memcpy((char *)buffer + sizeof(header), q->uniform ? (const void *)q->scale : q->basis[q->nonnegative], values);
    }
    *size = needed;
    return MQB_OK;
}

/* Scales that quantize, or bases whose levels are finite. */
static int lqnet_state_possible(const struct lqnet *q, const char *values)
{
    for (int32_t c = 0; c < q->scheme.num_channels; c++) {
        if (q->uniform) {
            float scale;
            memcpy(&scale, values + (size_t)c * sizeof(scale), sizeof(scale));
            if (!(scale >= FLT_EPSILON && scale <= FLT_MAX))
                return 0;
            continue;
        }
        double v[QEM_MAX_BITS], reach = 0.0;
        size_t size = (size_t)q->scheme.bits * sizeof(double);
        memcpy(v, values + (size_t)c * size, size);
        for (int j = 0; j < q->scheme.bits; j++)
            reach += fabs(v[j]);
        if (!(reach <= (double)FLT_MAX))
            return 0;
    }
    return 1;
}

static mqb_status lqnet_load(void *self, const void *buffer, size_t size, struct mqb_error *error)
{
    struct lqnet *q = self;
    struct lqnet_header header;
    size_t values = lqnet_state_values(q);
    if (size != sizeof(header) + values)
        return q->host->fail(error, MQB_ERR_FORMAT, "lqnet: a state of %zu bytes, expected %zu for %d channels of %d bits",
                             size, sizeof(header) + values, (int)q->scheme.num_channels, (int)q->scheme.bits);
    memcpy(&header, buffer, sizeof(header));
    const char *from = (const char *)buffer + sizeof(header);
    if (header.magic != LQNET_STATE_MAGIC || header.num_channels != q->scheme.num_channels || header.bits != q->scheme.bits)
        return q->host->fail(error, MQB_ERR_FORMAT, "lqnet: the state is damaged or was written by another version");
    if (header.nonnegative != q->nonnegative && !(q->may_switch && (header.nonnegative == 0 || header.nonnegative == 1)))
        return q->host->fail(error, MQB_ERR_FORMAT, "lqnet: the state's levels are %s, those of \"%s\" %s",
                             header.nonnegative ? "never negative" : "signed", lqnet_tensor(q),
                             q->nonnegative ? "never negative" : "signed");
    if (!lqnet_state_possible(q, from))
        return q->host->fail(error, MQB_ERR_FORMAT,
                             "lqnet: the state holds levels that are not finite or a scale that cannot be");
    set_sign(q, header.nonnegative);
    memcpy(q->uniform ? (void *)q->scale : q->basis[q->nonnegative], from, values);
    lqnet_refresh(q);
    return MQB_OK;
}

static const struct mqb_option_spec lqnet_options[] = {
    {"average", MQB_OPTION_REAL, 0, "0.9", 0.0, 0.9999, NULL, "part of the basis that stays in a training step"},
    {"iterations", MQB_OPTION_INT, 0, "1", 1, 20, NULL,
     "steps of quantization-error minimisation on a weight in each training step; an activation has one"},
    {"weight_gradient", MQB_OPTION_CHOICE, 0, "all", 0, 0, "all|inside",
     "all: passed straight through to every weight, as the released code does; inside: only between the outermost levels"},
};

#define LQNET_UNDEPLOYABLE "its levels are sums of learned numbers, not multiples of one step"

static const struct mqb_quantizer lqnet_quantizer = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS,
    .description = "learned quantization levels (LQ-Net; Zhang et al., ECCV 2018), 2 to 4 bits; evenly spaced at 8",
    .options = lqnet_options,
    .num_options = sizeof(lqnet_options) / sizeof(lqnet_options[0]),
    .sums_per_channel = QEM_SUMS,
    .create = lqnet_create,
    .destroy = lqnet_destroy,
    .observe = lqnet_observe,
    .init = lqnet_init,
    .prepare = lqnet_prepare,
    .forward = lqnet_forward,
    .backward = lqnet_backward,
    .reduce = lqnet_reduce,
    .qparams = lqnet_qparams,
    .save = lqnet_save,
    .load = lqnet_load,
    .undeployable = {LQNET_UNDEPLOYABLE, LQNET_UNDEPLOYABLE},
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "lqnet", &lqnet_quantizer},
};

MQB_PLUGIN("lqnet", "0.1.0", components);
