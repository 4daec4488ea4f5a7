/*
 * lsq.c - learned step size quantization (Esser et al., ICLR 2020), with a learnable zero point for asymmetric schemes.
 *
 * Letters: s scale, z zero point, n = qmin, p = qmax, g = 1 / sqrt(numel * p) the gradient factor, x input, dy gradient at y.
 *
 *   per tensor   q = clip(rne(x * (1/s)) + z, n, p)        per channel   q = clip(rne(x / s + z), n, p)
 *   y = (q - z) * s
 *   dx = dy inside the range, 0 outside
 *   ds = g * sum dy * { (y - x) / s inside; n - z below; p - z above }
 *   dz = g * sum dy * { 0 inside; -s outside }
 *
 * A power-of-two scale is rounded in every forward, straight through: ds is multiplied by 2^k / s.
 * `compat = paper`: torch's kernel, whose backward pass takes trunc(z + 1/2) for z and rounds z + x/s; the published code's
 * first zero point, which stays 0 for a tensor with negative values; and weight decay on scale and zero point.
 */
#include <mqbench/numeric.h>
#include <mqbench/plugin.h>
#include <mqbench/quantizer.h>

#include <float.h>
#include <math.h>
#include <string.h>

#define LSQ_STATE_MAGIC 0x3151534cu /* "LSQ1" */
#define LSQ_BLOCK 64                /* elements between two trips to the accumulators */
#define LSQ_LANES (LSQ_BLOCK / 4)

struct lsq {
    const struct mqb_host *host;
    struct mqb_scheme scheme;         /* qmin and qmax as they stand: adaptive sign may have moved them */
    struct mqb_observer *observer;    /* the scheme's codes, scale not rounded: the first forward rounds it */
    struct mqb_observer *nonnegative; /* the codes after a switch of sign, or NULL */
    struct mqb_observer *rounded;     /* zero points that go with the power-of-two scale, or NULL */
    int gradient_scale, learn_zero_point, paper;
    float lr_multiplier;
    int flip_reported;
    int64_t numel; /* elements of the tensor last seen */

    /* num_channels each; parameters and their gradients, then what forward and backward read, then what qparams hands out. */
    float *scale, *scale_grad, *zero_point, *zero_point_grad;
    float *step_scale, *step_zero, *back_zero, *pot_factor;
    float *out_scale;
    int32_t *out_zero;
};

enum { SUM_SCALE = 0, SUM_ZERO = 1, NUM_SUMS = 2 };

/* What the loops need, by value. */
struct lsq_range {
    float s, inv, z, n, p;
};

static double lsq_gradient_factor(const struct lsq *q)
{
    if (!q->gradient_scale || q->numel <= 0)
        return 1.0;
    return 1.0 / sqrt((double)q->numel / q->scheme.num_channels * q->scheme.qmax);
}

/* The scale and the integral zero point that forward uses, from the parameters as they stand. */
static void lsq_effective(const struct lsq *q, int32_t c, float *scale, float *zero_point, float *pot_factor)
{
    float s = fabsf(q->scale[c]);
    s = s < FLT_EPSILON ? FLT_EPSILON : s;
    float raw = s;
    if (q->scheme.pot_scale)
        s = mqb_pot_round(s);
    if (pot_factor)
        *pot_factor = s / raw;
    if (q->scheme.per_channel && q->gradient_scale) {
        /* The reference scales the gradient by sg(s - s g) + s g, which moves some scales by one ulp (never a power of two). */
        float sg = s * (float)lsq_gradient_factor(q);
        s = (s - sg) + sg;
    }
    float z = 0.0f;
    if (!q->scheme.symmetric) {
        float lo = (float)q->scheme.qmin, hi = (float)q->scheme.qmax;
        z = q->zero_point[c];
        z = z < lo ? lo : z > hi ? hi : z;
        z = mqb_rne_small(z);
    }
    *scale = s;
    *zero_point = z;
}

static void lsq_destroy(void *self)
{
    struct lsq *q = self;
    if (!q)
        return;
    q->host->observer_destroy(q->observer);
    q->host->observer_destroy(q->nonnegative);
    q->host->observer_destroy(q->rounded);
    q->host->deallocate(q->scale);
    q->host->deallocate(q->out_zero);
    q->host->deallocate(q);
}

static const char *lsq_observer_name(const struct mqb_host *host, const struct mqb_options *options,
                                     const struct mqb_scheme *scheme)
{
    const char *name = host->option_text(options, scheme->role == MQB_ROLE_WEIGHT ? "weight_init" : "act_init");
    if (strcmp(name, "auto") != 0)
        return name;
    /* At few bits most of the error is rounding, and a range cut to the least squared error starts closer to what is learnt. */
    return scheme->bits >= 7 ? "minmax" : "mse";
}

static mqb_status lsq_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                             void **self, struct mqb_error *error)
{
    *self = NULL;
    if (scheme->role != MQB_ROLE_WEIGHT && scheme->role != MQB_ROLE_ACTIVATION)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "lsq quantizes weights and activations, not role %d", (int)scheme->role);
    if (scheme->bits < 2 || scheme->bits > 8 || scheme->qmin >= scheme->qmax || scheme->qmax < 1)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "lsq needs 2 to 8 bits and a range that holds 1; got %d bits, [%d, %d]",
                          (int)scheme->bits, (int)scheme->qmin, (int)scheme->qmax);
    if (scheme->num_channels < 1 || (!scheme->per_channel && scheme->num_channels != 1))
        return host->fail(error, MQB_ERR_ARGUMENT, "lsq was given %d scales for a %s scheme", (int)scheme->num_channels,
                          scheme->per_channel ? "per-channel" : "per-tensor");

    struct lsq *q = host->allocate(sizeof(*q));
    size_t n = (size_t)scheme->num_channels;
    mqb_status status = MQB_ERR_MEMORY;
    if (!q)
        return host->fail(error, status, "lsq: no memory for an instance");
    q->host = host;
    q->scheme = *scheme;
    q->scheme.struct_size = sizeof(q->scheme);
    q->scale = host->allocate(9 * n * sizeof(float));
    q->out_zero = host->allocate(n * sizeof(int32_t));
    if (!q->scale || !q->out_zero) {
        host->fail(error, status, "lsq: no memory for %zu scales", n);
        goto out;
    }
    q->scale_grad = q->scale + n;
    q->zero_point = q->scale + 2 * n;
    q->zero_point_grad = q->scale + 3 * n;
    q->step_scale = q->scale + 4 * n;
    q->step_zero = q->scale + 5 * n;
    q->back_zero = q->scale + 6 * n;
    q->pot_factor = q->scale + 7 * n;
    q->out_scale = q->scale + 8 * n;
    for (size_t c = 0; c < n; c++)
        q->scale[c] = 1.0f;
    q->gradient_scale = host->option_int(options, "gradient_scale") != 0;
    q->learn_zero_point = host->option_int(options, "learn_zero_point") != 0;
    q->paper = strcmp(host->option_text(options, "compat"), "paper") == 0;
    q->lr_multiplier = (float)host->option_real(options, "lr_multiplier");

    const char *name = lsq_observer_name(host, options, scheme);
    struct mqb_scheme plain = q->scheme;
    plain.pot_scale = 0;
    status = host->observer_create(name, &plain, &q->observer, error);
    if (status == MQB_OK && scheme->pot_scale && !scheme->symmetric)
        status = host->observer_create(name, &q->scheme, &q->rounded, error);
    if (status == MQB_OK && scheme->adaptive_sign && scheme->symmetric && scheme->qmin < 0) {
        struct mqb_scheme positive = plain;
        positive.qmin = 0;
        positive.qmax = (1 << scheme->bits) - 1;
        status = host->observer_create(name, &positive, &q->nonnegative, error);
    }
out:
    if (status != MQB_OK) {
        lsq_destroy(q);
        return status;
    }
    *self = q;
    return MQB_OK;
}

static mqb_status lsq_observe(void *self, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    struct lsq *q = self;
    q->numel = x->num_elements;
    mqb_status status = q->host->observer_observe(q->observer, x, error);
    if (status == MQB_OK && q->nonnegative)
        status = q->host->observer_observe(q->nonnegative, x, error);
    if (status == MQB_OK && q->rounded)
        status = q->host->observer_observe(q->rounded, x, error);
    return status;
}

static mqb_status lsq_init(void *self, struct mqb_error *error)
{
    struct lsq *q = self;
    float min, max;
    q->host->observer_range(q->observer, &min, &max);
    const struct mqb_observer *observer = q->observer;
    if (q->nonnegative && min >= 0.0f) {
        q->scheme.qmin = 0;
        q->scheme.qmax = (1 << q->scheme.bits) - 1;
        observer = q->nonnegative;
    }
    mqb_status status = q->host->observer_qparams(observer, q->scale, q->out_zero, error);
    if (status == MQB_OK && q->rounded)
        status = q->host->observer_qparams(q->rounded, q->out_scale, q->out_zero, error);
    if (status != MQB_OK)
        return status;
    for (int32_t c = 0; c < q->scheme.num_channels; c++) {
        float z = (float)q->out_zero[c];
        if (q->paper && !q->scheme.symmetric) {
            float v = min / q->scale[c];
            v = v < -4096.0f ? -4096.0f : v > 4096.0f ? 4096.0f : v;
            z = min >= 0.0f ? (float)q->scheme.qmin - mqb_rne_small(v) : 0.0f;
            z = z < (float)q->scheme.qmin ? (float)q->scheme.qmin : z;
        }
        q->zero_point[c] = q->scheme.symmetric ? 0.0f : z;
    }
    return MQB_OK;
}

static mqb_status lsq_prepare(void *self, const struct mqb_tensor_view *x, int training, struct mqb_error *error)
{
    struct lsq *q = self;
    float lo = (float)q->scheme.qmin, hi = (float)q->scheme.qmax;
    (void)training;
    q->numel = x->num_elements;
    for (int32_t c = 0; c < q->scheme.num_channels; c++) {
        float s = q->scale[c], z = q->zero_point[c];
        if (!(fabsf(s) <= FLT_MAX) || !(fabsf(z) <= FLT_MAX))
            return q->host->fail(error, MQB_ERR_NUMERIC,
                                 "the learned %s of channel %d is not finite; a lower learning rate avoids it",
                                 fabsf(s) <= FLT_MAX ? "zero point" : "scale", (int)c);
        if (s < 0.0f && !q->flip_reported) {
            q->host->log(MQB_LOG_WARNING, "lsq: the learned scale of \"%s\" (channel %d) went negative, %g, and was made positive",
                         q->scheme.tensor ? q->scheme.tensor : "?", (int)c, (double)s);
            q->flip_reported = 1;
        }
        s = fabsf(s);
        q->scale[c] = s < FLT_EPSILON ? FLT_EPSILON : s;
        q->zero_point[c] = q->scheme.symmetric ? 0.0f : z < lo ? lo : z > hi ? hi : z;
        lsq_effective(q, c, &q->step_scale[c], &q->step_zero[c], &q->pot_factor[c]);
        float back = q->zero_point[c] + 0.5f;
        back = back > hi ? hi : back;
        q->back_zero[c] = (float)(int32_t)back;
    }
    return MQB_OK;
}

static struct lsq_range lsq_range_at(const struct lsq *q, int32_t channel)
{
    struct lsq_range r;
    r.s = q->step_scale[channel];
    r.inv = 1.0f / r.s;
    r.z = q->step_zero[channel];
    r.n = (float)q->scheme.qmin;
    r.p = (float)q->scheme.qmax;
    return r;
}

/* Beyond +-2048 every code is out of range whatever the zero point, and within it mqb_rne_small is exact. */
static inline float lsq_round(float v)
{
    v = v > 2048.0f ? 2048.0f : v;
    v = v < -2048.0f ? -2048.0f : v;
    return mqb_rne_small(v);
}

MQB_MULTIVERSION
static void forward_tensor(struct lsq_range r, int64_t size, const float *x, float *y)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++) {
        float code = lsq_round(x[i] * r.inv) + r.z;
        code = code > r.p ? r.p : code;
        code = code < r.n ? r.n : code;
        y[i] = (code - r.z) * r.s;
    }
}

MQB_MULTIVERSION
static void forward_channel(struct lsq_range r, int64_t size, const float *x, float *y)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++) {
        float code = lsq_round(x[i] / r.s + r.z);
        code = code > r.p ? r.p : code;
        code = code < r.n ? r.n : code;
        y[i] = (code - r.z) * r.s;
    }
}

static void lsq_forward(const void *self, const struct mqb_slice *slice)
{
    const struct lsq *q = self;
    struct lsq_range r = lsq_range_at(q, slice->channel);
    if (q->scheme.per_channel)
        forward_channel(r, slice->size, slice->x, slice->y);
    else
        forward_tensor(r, slice->size, slice->x, slice->y);
}

/* How the codes of the backward pass come about. */
enum lsq_code { CODE_TENSOR, CODE_CHANNEL, CODE_PAPER };

/* One block: dx, and what each element adds to the sums, into `ds` and `dz`. */
static inline __attribute__((always_inline)) void backward_block(const struct lsq_range r, const enum lsq_code kind, int count,
                                                                 const float *x, const float *dy, float *dx, float *ds,
                                                                 float *dz)
{
    MQB_LOOP_INDEPENDENT
    for (int i = 0; i < count; i++) {
        float v = x[i], g = dy[i], code, inside;
        if (kind == CODE_TENSOR)
            code = lsq_round(v * r.inv) + r.z;
        else if (kind == CODE_PAPER)
            code = lsq_round(v * r.inv + r.z);
        else
            code = lsq_round(v / r.s + r.z);
        if (kind == CODE_CHANNEL)
            inside = code - r.z - v / r.s;
        else
            inside = ((code - r.z) * r.s - v) * r.inv;
        float factor = code > r.p ? r.p - r.z : inside;
        factor = code < r.n ? r.n - r.z : factor;
        float pass = code > r.p ? 0.0f : g;
        pass = code < r.n ? 0.0f : pass;
        ds[i] = g * factor;
        dz[i] = g - pass;
        dx[i] = pass;
    }
}

/* Adds a block to 16 lanes: four floats a lane first, then double. Loops without a reduction, so they vectorize anywhere. */
static inline __attribute__((always_inline)) void add_block(const float *block, double *lanes)
{
    float half[LSQ_BLOCK / 2], quarter[LSQ_BLOCK / 4];
    for (int i = 0; i < LSQ_BLOCK / 2; i++)
        half[i] = block[i] + block[i + LSQ_BLOCK / 2];
    for (int i = 0; i < LSQ_BLOCK / 4; i++)
        quarter[i] = half[i] + half[i + LSQ_BLOCK / 4];
    for (int i = 0; i < LSQ_LANES; i++)
        lanes[i] += (double)quarter[i];
}

static double join_lanes(const double *lanes)
{
    double sums[LSQ_LANES];
    memcpy(sums, lanes, sizeof(sums));
    for (int width = LSQ_LANES / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; i++)
            sums[i] += sums[i + width];
    }
    return sums[0];
}

/* Sums run in lanes over the index and are joined in one order, so that no vector width changes them. */
static inline __attribute__((always_inline)) void backward_slice(const struct lsq_range r, const enum lsq_code kind,
                                                                 int64_t size, const float *x, const float *dy, float *dx,
                                                                 double *sums)
{
    float ds[LSQ_BLOCK], dz[LSQ_BLOCK];
    double scale[LSQ_LANES] = {0}, zero[LSQ_LANES] = {0};
    int64_t k = 0;
    for (; k + LSQ_BLOCK <= size; k += LSQ_BLOCK) {
        backward_block(r, kind, LSQ_BLOCK, x + k, dy + k, dx + k, ds, dz);
        add_block(ds, scale);
        add_block(dz, zero);
    }
    if (k < size) {
        memset(ds, 0, sizeof(ds));
        memset(dz, 0, sizeof(dz));
        backward_block(r, kind, (int)(size - k), x + k, dy + k, dx + k, ds, dz);
        add_block(ds, scale);
        add_block(dz, zero);
    }
    sums[SUM_SCALE] += join_lanes(scale);
    sums[SUM_ZERO] -= join_lanes(zero) * (double)r.s;
}

MQB_MULTIVERSION
static void backward_tensor(struct lsq_range r, int64_t size, const float *x, const float *dy, float *dx, double *sums)
{
    backward_slice(r, CODE_TENSOR, size, x, dy, dx, sums);
}

MQB_MULTIVERSION
static void backward_channel(struct lsq_range r, int64_t size, const float *x, const float *dy, float *dx, double *sums)
{
    backward_slice(r, CODE_CHANNEL, size, x, dy, dx, sums);
}

MQB_MULTIVERSION
static void backward_paper(struct lsq_range r, int64_t size, const float *x, const float *dy, float *dx, double *sums)
{
    backward_slice(r, CODE_PAPER, size, x, dy, dx, sums);
}

static void lsq_backward(const void *self, const struct mqb_slice *slice)
{
    const struct lsq *q = self;
    struct lsq_range r = lsq_range_at(q, slice->channel);
    if (q->scheme.per_channel) {
        backward_channel(r, slice->size, slice->x, slice->dy, slice->dx, slice->sums);
    } else if (q->paper && !q->scheme.symmetric) {
        r.z = q->back_zero[slice->channel];
        backward_paper(r, slice->size, slice->x, slice->dy, slice->dx, slice->sums);
    } else {
        backward_tensor(r, slice->size, slice->x, slice->dy, slice->dx, slice->sums);
    }
}

static void lsq_reduce(void *self, const double *sums)
{
    struct lsq *q = self;
    double g = lsq_gradient_factor(q);
    for (int32_t c = 0; c < q->scheme.num_channels; c++) {
        q->scale_grad[c] = (float)(sums[c * NUM_SUMS + SUM_SCALE] * g * (double)q->pot_factor[c]);
        q->zero_point_grad[c] = (float)(sums[c * NUM_SUMS + SUM_ZERO] * g);
    }
}

static mqb_status lsq_param(void *self, uint32_t index, struct mqb_param *param)
{
    struct lsq *q = self;
    uint32_t num_params = !q->scheme.symmetric && q->learn_zero_point ? 2 : 1;
    if (index >= num_params)
        return MQB_ERR_NOT_FOUND;
    param->struct_size = sizeof(*param);
    param->num_elements = q->scheme.num_channels;
    param->name = index == 0 ? "scale" : "zero_point";
    param->value = index == 0 ? q->scale : q->zero_point;
    param->grad = index == 0 ? q->scale_grad : q->zero_point_grad;
    param->lr_multiplier = q->lr_multiplier;
    param->weight_decay_multiplier = q->paper ? 1.0f : 0.0f;
    return MQB_OK;
}

static mqb_status lsq_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    const struct lsq *q = self;
    for (int32_t c = 0; c < q->scheme.num_channels; c++) {
        float z;
        if (!(fabsf(q->scale[c]) <= FLT_MAX) || !(fabsf(q->zero_point[c]) <= FLT_MAX))
            return q->host->fail(error, MQB_ERR_NUMERIC, "the learned parameters of channel %d are not finite", (int)c);
        lsq_effective(q, c, &q->out_scale[c], &z, NULL);
        q->out_zero[c] = (int32_t)z;
    }
    qparams->struct_size = sizeof(*qparams);
    qparams->num_channels = q->scheme.num_channels;
    qparams->scale = q->out_scale;
    qparams->zero_point = q->out_zero;
    qparams->qmin = q->scheme.qmin;
    qparams->qmax = q->scheme.qmax;
    qparams->num_levels = 0;
    qparams->levels = NULL;
    return MQB_OK;
}

static mqb_status lsq_freeze(const void *self, const struct mqb_tensor_view *x, int32_t *codes, struct mqb_error *error)
{
    const struct lsq *q = self;
    int32_t channels = q->scheme.num_channels;
    if (!x->data || x->num_elements % channels != 0)
        return q->host->fail(error, MQB_ERR_ARGUMENT, "lsq cannot freeze %lld numbers with %d scales",
                             (long long)x->num_elements, (int)channels);
    int64_t size = x->num_elements / channels;
    for (int32_t c = 0; c < channels; c++) {
        float s, z;
        lsq_effective(q, c, &s, &z, NULL);
        float inv = 1.0f / s;
        for (int64_t i = c * size; i < (c + 1) * size; i++) {
            float v = x->data[i];
            if (!(fabsf(v) <= FLT_MAX))
                return q->host->fail(error, MQB_ERR_NUMERIC, "element %lld of the weight is not finite", (long long)i);
            int32_t code = (int32_t)(q->scheme.per_channel ? lsq_round(v / s + z) : lsq_round(v * inv) + z);
            codes[i] = code < q->scheme.qmin ? q->scheme.qmin : code > q->scheme.qmax ? q->scheme.qmax : code;
        }
    }
    return MQB_OK;
}

/* The state: this header, then num_channels scales, then as many zero points. */
struct lsq_state {
    uint32_t magic;
    int32_t num_channels, qmin, qmax;
    int64_t numel;
};

static mqb_status lsq_save(const void *self, void *buffer, size_t *size, struct mqb_error *error)
{
    const struct lsq *q = self;
    size_t values = (size_t)q->scheme.num_channels * sizeof(float);
    size_t needed = sizeof(struct lsq_state) + 2 * values;
    if (buffer) {
        if (*size < needed)
            return q->host->fail(error, MQB_ERR_ARGUMENT, "lsq: a state takes %zu bytes, the buffer has %zu", needed, *size);
        struct lsq_state state = {LSQ_STATE_MAGIC, q->scheme.num_channels, q->scheme.qmin, q->scheme.qmax, q->numel};
        memcpy(buffer, &state, sizeof(state));
        memcpy((char *)buffer + sizeof(state), q->scale, values);
        memcpy((char *)buffer + sizeof(state) + values, q->zero_point, values);
    }
    *size = needed;
    return MQB_OK;
}

static mqb_status lsq_load(void *self, const void *buffer, size_t size, struct mqb_error *error)
{
    struct lsq *q = self;
    struct lsq_state state;
    size_t values = (size_t)q->scheme.num_channels * sizeof(float);
    if (size != sizeof(state) + 2 * values)
        return q->host->fail(error, MQB_ERR_FORMAT, "lsq: a state of %zu bytes, expected %zu for %d scales", size,
                             sizeof(state) + 2 * values, (int)q->scheme.num_channels);
    memcpy(&state, buffer, sizeof(state));
    if (state.magic != LSQ_STATE_MAGIC || state.num_channels != q->scheme.num_channels || state.numel < 0)
        return q->host->fail(error, MQB_ERR_FORMAT, "lsq: the state is damaged or was written by another version");
    int same = state.qmin == q->scheme.qmin && state.qmax == q->scheme.qmax;
    int switched = q->nonnegative && state.qmin == 0 && state.qmax == (1 << q->scheme.bits) - 1;
    if (!same && !switched)
        return q->host->fail(error, MQB_ERR_FORMAT, "lsq: the state is for codes [%d, %d], this point has [%d, %d]",
                             (int)state.qmin, (int)state.qmax, (int)q->scheme.qmin, (int)q->scheme.qmax);
    const float *numbers = (const float *)(const void *)((const char *)buffer + sizeof(state));
    for (int32_t i = 0; i < 2 * q->scheme.num_channels; i++) {
        float v;
        memcpy(&v, &numbers[i], sizeof(v));
        if (!(fabsf(v) <= FLT_MAX))
            return q->host->fail(error, MQB_ERR_FORMAT, "lsq: the state holds a number that is not finite");
    }
    memcpy(q->scale, numbers, values);
    memcpy(q->zero_point, (const char *)buffer + sizeof(state) + values, values);
    q->scheme.qmin = state.qmin;
    q->scheme.qmax = state.qmax;
    q->numel = state.numel;
    return MQB_OK;
}

#define INIT_CHOICES "auto|minmax|ema_minmax|lsq|lsqplus|mse|percentile|percentile_999|ema_quantile|clip_std"

static const struct mqb_option_spec lsq_options[] = {
    {"weight_init", MQB_OPTION_CHOICE, 0, "auto", 0, 0, INIT_CHOICES,
     "first scale of weights; auto: minmax from 7 bits, else mse"},
    {"act_init", MQB_OPTION_CHOICE, 0, "auto", 0, 0, INIT_CHOICES,
     "first scale of activations; auto: minmax from 7 bits, else mse"},
    {"gradient_scale", MQB_OPTION_BOOL, 0, "on", 0, 0, NULL, "scale parameter gradients by 1 / sqrt(elements * qmax)"},
    {"learn_zero_point", MQB_OPTION_BOOL, 0, "on", 0, 0, NULL, "learn the zero point of asymmetric schemes"},
    {"lr_multiplier", MQB_OPTION_REAL, 0, "1", 0, 1000, NULL, "learning rate of scale and zero point, times the network's"},
    {"compat", MQB_OPTION_CHOICE, 0, "off", 0, 0, "off|paper", "paper: the published code's zero points, gradients and decay"},
};

static const struct mqb_quantizer lsq_quantizer = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS | MQB_QUANTIZER_AFFINE,
    .description = "learned step size, with learnable zero point (Esser et al., ICLR 2020)",
    .options = lsq_options,
    .num_options = sizeof(lsq_options) / sizeof(lsq_options[0]),
    .sums_per_channel = NUM_SUMS,
    .create = lsq_create,
    .destroy = lsq_destroy,
    .observe = lsq_observe,
    .init = lsq_init,
    .prepare = lsq_prepare,
    .forward = lsq_forward,
    .backward = lsq_backward,
    .reduce = lsq_reduce,
    .param = lsq_param,
    .qparams = lsq_qparams,
    .freeze = lsq_freeze,
    .save = lsq_save,
    .load = lsq_load,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "lsq", &lsq_quantizer},
};

MQB_PLUGIN("lsq", "0.1.0", components);
