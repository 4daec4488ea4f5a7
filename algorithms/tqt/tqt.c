/*
 * tqt.c - trained quantization thresholds (Jain et al., MLSys 2020): a scale that is a power of two, from a threshold t whose
 * logarithm is learned. Codes are symmetric; a tensor that is never negative uses those from 0 if the scheme lets it.
 *
 *   s = 2^ceil(log2 t) / 2^(b-1), or / 2^b for codes from 0        q = clip(rne(x / s), n, p)        y = q * s
 *   dx = dy inside the range, 0 outside
 *   G  = dL/d(log2 t) = s ln 2 * sum dy * { rne(x/s) - x/s inside; n below; p above }
 *
 * x/s and y are exact, so codes times scale are the training's numbers, and a rescaling in integers is a shift.
 *
 * G grows with the tensor and with s; plain SGD on it is stable at no one learning rate (the paper, appendix B). What is handed
 * to the optimizer is the paper's normed gradient, bounded in size, over sqrt(p): with steps of 0.1/sqrt(p) at most a threshold
 * that has converged does not leave its power of two.
 *
 *   m <- beta m + (1 - beta) G^2,  v = m / (1 - beta^steps),  gradient = tanh(G / sqrt(v)) / sqrt(p),  beta = 1 - 0.1/p
 *
 * `compat = vitis`: see vitis.h.
 */
#include "../common/range_state.h"
#include "../common/scheme.h"
#include "../common/tanh.h"
#include "search.h"
#include "vitis.h"

#define TQT_STATE_MAGIC 0x31545154u /* "TQT1" */
#define TQT_LN2 0.69314718055994530942
#define TQT_LARGEST 127 /* of ceil(log2 t): 2^127 is the largest power of two in float */

struct tqt {
    const struct mqb_host *host;
    struct mqb_scheme scheme; /* qmin and qmax as they stand: adaptive sign may have moved them */
    int switches;             /* may go over to codes from 0 */
    /* Calibration. Which of them there are is the start's choice. */
    struct mqb_observer *observer;    /* with the scheme's codes */
    struct mqb_observer *nonnegative; /* with the codes after a switch of sign, or NULL */
    struct search *search;   /* num_channels with the scheme's codes, then, if it switches, as many with those from 0 */
    struct vitis_vote *vote; /* under compat */
    int three_deviations, negative_seen;
    int nearest, normed, gradient_scale, candidates;
    float lr_multiplier;
    double beta, beta_power; /* beta^steps */

    /* num_channels each. */
    float *log2_t, *gradient, *out_scale;
    double *mean_square; /* m */
    int32_t *out_zero;   /* all 0 */
};

/* Where thresholds start, and the host's observer behind it; "mse" searches among powers of two itself. */
static const struct {
    const char *name, *observer;
} start_names[] = {
    {"max", "minmax"}, {"ema_max", "ema_minmax"},    {"3sd", "lsqplus"},
    {"kl", "kl"},      {"percentile", "percentile"}, {"percentile_999", "percentile_999"},
};
#define NUM_STARTS (sizeof(start_names) / sizeof(start_names[0]))
#define START_CHOICES "mse|max|ema_max|3sd|kl|percentile|percentile_999"

/* log2 of the codes of one sign. */
static int tqt_shift(const struct mqb_scheme *scheme)
{
    return scheme->qmin < 0 ? scheme->bits - 1 : scheme->bits;
}

static float tqt_clip(const struct tqt *q, float log2_t)
{
    float least = (float)(SEARCH_LEAST + tqt_shift(&q->scheme));
    return log2_t < least ? least : log2_t > (float)TQT_LARGEST ? (float)TQT_LARGEST : log2_t;
}

/* From the parameter as it stands. */
static float tqt_scale(const struct tqt *q, int32_t channel)
{
    float u = tqt_clip(q, q->log2_t[channel]);
    return ldexpf(1.0f, (int)(q->nearest ? mqb_rne_small(u) : ceilf(u)) - tqt_shift(&q->scheme));
}

static struct step_range tqt_range_at(const struct tqt *q, int32_t channel)
{
    return step_range_of(&q->scheme, tqt_scale(q, channel), 0.0f);
}

static void tqt_destroy(void *self)
{
    struct tqt *q = self;
    if (!q)
        return;
    q->host->observer_destroy(q->observer);
    q->host->observer_destroy(q->nonnegative);
    q->host->deallocate(q->search);
    q->host->deallocate(q->vote);
    q->host->deallocate(q->log2_t);
    q->host->deallocate(q->mean_square);
    q->host->deallocate(q->out_zero);
    q->host->deallocate(q);
}

static mqb_status tqt_check(const struct mqb_host *host, const struct mqb_scheme *scheme, int vitis, struct mqb_error *error)
{
    mqb_status status = scheme_check(host, "tqt", scheme, error);
    if (status != MQB_OK)
        return status;
    if (!scheme->symmetric)
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "its threshold stands for codes symmetric about 0, and this backend asks for a zero point; choose a "
                          "backend with symmetric schemes, or an algorithm that has a zero point, such as lsqplus");
    if (vitis && (scheme->per_channel || scheme->qmin >= 0))
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "compat = vitis has one scale a tensor and signed codes; got %s scales and codes [%d, %d]",
                          scheme->per_channel ? "per-channel" : "per-tensor", (int)scheme->qmin, (int)scheme->qmax);
    return MQB_OK;
}

static mqb_status tqt_create_start(struct tqt *q, const char *start, struct mqb_error *error)
{
    struct mqb_scheme scheme = q->scheme, positive;
    const char *name = NULL;
    scheme.pot_scale = 0; /* the threshold is wanted; its rounding is done here */
    q->switches = scheme_nonnegative(&scheme, &positive);
    if (strcmp(start, "mse") == 0) {
        size_t count = (size_t)scheme.num_channels * (q->switches ? 2 : 1);
        q->search = q->host->allocate(count * sizeof(*q->search));
        for (size_t i = 0; q->search && i < count; i++)
            q->search[i].top = SEARCH_LEAST;
        return q->search ? MQB_OK : q->host->fail(error, MQB_ERR_MEMORY, "tqt: no memory for %zu searches", count);
    }
    for (size_t i = 0; i < NUM_STARTS; i++)
        name = strcmp(start_names[i].name, start) == 0 ? start_names[i].observer : name;
    if (!name)
        return q->host->fail(error, MQB_ERR_INTERNAL, "tqt has no way to start called \"%s\"", start);
    q->three_deviations = strcmp(start, "3sd") == 0;
    mqb_status status = q->host->observer_create(name, &scheme, &q->observer, error);
    if (status == MQB_OK && q->switches)
        status = q->host->observer_create(name, &positive, &q->nonnegative, error);
    return status;
}

static mqb_status tqt_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                             void **self, struct mqb_error *error)
{
    int vitis = strcmp(host->option_text(options, "compat"), "vitis") == 0;
    *self = NULL;
    mqb_status status = tqt_check(host, scheme, vitis, error);
    if (status != MQB_OK)
        return status;
    struct tqt *q = host->allocate(sizeof(*q));
    size_t n = (size_t)scheme->num_channels;
    if (!q)
        return host->fail(error, MQB_ERR_MEMORY, "tqt: no memory for an instance");
    q->host = host;
    q->scheme = *scheme;
    q->scheme.struct_size = sizeof(q->scheme);
    q->nearest = strcmp(host->option_text(options, "round"), "nearest") == 0;
    q->normed = host->option_int(options, "gradient_norm") != 0;
    q->gradient_scale = host->option_int(options, "gradient_scale") != 0;
    q->beta = host->option_real(options, "beta");
    q->candidates = (int)host->option_int(options, "candidates");
    q->lr_multiplier = (float)host->option_real(options, "lr_multiplier");
    q->beta_power = 1.0;
    q->log2_t = host->allocate(3 * n * sizeof(float));
    q->mean_square = host->allocate(n * sizeof(double));
    q->out_zero = host->allocate(n * sizeof(int32_t));
    q->vote = vitis ? host->allocate(sizeof(*q->vote)) : NULL;
    if (!q->log2_t || !q->mean_square || !q->out_zero || (vitis && !q->vote)) {
        status = host->fail(error, MQB_ERR_MEMORY, "tqt: no memory for %zu thresholds", n);
        goto out;
    }
    q->gradient = q->log2_t + n;
    q->out_scale = q->log2_t + 2 * n;
    if (!vitis)
        status = tqt_create_start(q, host->option_text(options, scheme->role == MQB_ROLE_WEIGHT ? "weight_init" : "act_init"),
                                  error);
out:
    if (status != MQB_OK) {
        tqt_destroy(q);
        return status;
    }
    *self = q;
    return MQB_OK;
}

static mqb_status tqt_check_numbers(struct tqt *q, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    if (!x->data || x->num_elements < q->scheme.num_channels || x->num_elements % q->scheme.num_channels != 0)
        return q->host->fail(error, MQB_ERR_ARGUMENT, "a tensor of %lld numbers does not divide into %d channels",
                             (long long)(x->data ? x->num_elements : 0), (int)q->scheme.num_channels);
    for (int64_t i = 0; i < x->num_elements; i++) {
        if (!(fabsf(x->data[i]) <= FLT_MAX))
            return q->host->fail(error, MQB_ERR_NUMERIC, "element %lld is not finite; calibration needs finite numbers",
                                 (long long)i);
        q->negative_seen |= x->data[i] < 0.0f;
    }
    return MQB_OK;
}

static mqb_status tqt_observe_search(struct tqt *q, const struct mqb_tensor_view *x)
{
    struct mqb_scheme positive;
    scheme_nonnegative(&q->scheme, &positive);
    int32_t channels = q->scheme.num_channels;
    int64_t size = x->num_elements / channels;
    for (int32_t c = 0; c < channels; c++) {
        search_observe(&q->search[c], &q->scheme, tqt_shift(&q->scheme), size, x->data + c * size);
        if (q->switches && !q->negative_seen)
            search_observe(&q->search[channels + c], &positive, tqt_shift(&positive), size, x->data + c * size);
    }
    return MQB_OK;
}

static mqb_status tqt_observe(void *self, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    struct tqt *q = self;
    if (q->observer) {
        mqb_status status = q->host->observer_observe(q->observer, x, error);
        if (status == MQB_OK && q->nonnegative)
            status = q->host->observer_observe(q->nonnegative, x, error);
        return status;
    }
    mqb_status status = tqt_check_numbers(q, x, error);
    if (status != MQB_OK)
        return status;
    if (q->search)
        return tqt_observe_search(q, x);
    vitis_observe(q->vote, &q->scheme, q->candidates, x);
    return MQB_OK;
}

/* The log2 threshold that an observer's scale stands for: the observers' rule backwards. */
static float tqt_threshold_of(const struct tqt *q, float scale)
{
    const struct mqb_scheme *scheme = &q->scheme;
    double codes = scheme->qmax - scheme->qmin; /* "3sd" takes half of them whatever their sign */
    double t = (double)scale * (scheme->qmin < 0 || q->three_deviations ? codes / 2.0 : codes);
    /* 16 binary places: a t that the scale's rounding has moved off a power of two is back on it. */
    return (float)(rint(series_log2(t) * 65536.0) / 65536.0);
}

/* A power of two, which any t of an octave gives: the middle one, so that no small step leaves it. */
static float tqt_threshold_at(const struct tqt *q, int exponent)
{
    return (float)(exponent + tqt_shift(&q->scheme)) - (q->nearest ? 0.0f : 0.5f);
}

static mqb_status tqt_init(void *self, struct mqb_error *error)
{
    struct tqt *q = self;
    float min = q->negative_seen ? -1.0f : 0.0f, max;
    const struct mqb_observer *observer = q->observer;
    const struct search *search = q->search;
    if (q->observer)
        q->host->observer_range(q->observer, &min, &max);
    if (q->switches && min >= 0.0f) {
        struct mqb_scheme signed_codes = q->scheme;
        scheme_nonnegative(&signed_codes, &q->scheme);
        observer = q->nonnegative;
        search = q->search ? q->search + q->scheme.num_channels : NULL;
    }
    mqb_status status = MQB_OK;
    if (observer)
        status = q->host->observer_qparams(observer, q->out_scale, q->out_zero, error);
    for (int32_t c = 0; status == MQB_OK && c < q->scheme.num_channels; c++) {
        if (observer)
            q->log2_t[c] = tqt_clip(q, tqt_threshold_of(q, q->out_scale[c]));
        else if (search)
            q->log2_t[c] = tqt_clip(q, tqt_threshold_at(q, search_best(&search[c], tqt_shift(&q->scheme))));
        else
            q->log2_t[c] = tqt_clip(q, (float)(tqt_shift(&q->scheme) - vitis_elect(q->vote)));
    }
    return status;
}

static mqb_status tqt_finite(const struct tqt *q, struct mqb_error *error)
{
    for (int32_t c = 0; c < q->scheme.num_channels; c++) {
        if (!(fabsf(q->log2_t[c]) <= FLT_MAX))
            return q->host->fail(error, MQB_ERR_NUMERIC,
                                 "the learned log2 threshold of channel %d is not finite; a lower learning rate avoids it",
                                 (int)c);
    }
    return MQB_OK;
}

static mqb_status tqt_prepare(void *self, const struct mqb_tensor_view *x, int training, struct mqb_error *error)
{
    struct tqt *q = self;
    (void)x, (void)training;
    mqb_status status = tqt_finite(q, error);
    for (int32_t c = 0; status == MQB_OK && c < q->scheme.num_channels; c++)
        q->log2_t[c] = tqt_clip(q, q->log2_t[c]);
    return status;
}

static void tqt_forward(const void *self, const struct mqb_slice *slice)
{
    const struct tqt *q = self;
    struct step_range r = tqt_range_at(q, slice->channel);
    if (q->vote && q->scheme.role == MQB_ROLE_ACTIVATION)
        vitis_forward_activation(r, slice->size, slice->x, slice->y);
    else
        step_forward(r, STEP_TENSOR, slice);
}

static void tqt_backward(const void *self, const struct mqb_slice *slice)
{
    const struct tqt *q = self;
    struct step_range r = tqt_range_at(q, slice->channel);
    if (q->vote)
        vitis_backward(r, slice->size, slice->x, slice->dy, slice->dx);
    else
        step_backward(r, STEP_TENSOR, 0, slice);
}

static void tqt_reduce(void *self, const double *sums)
{
    struct tqt *q = self;
    double p = q->scheme.qmax, beta = q->beta > 0.0 ? q->beta : 1.0 - 0.1 / p;
    q->beta_power *= beta;
    for (int32_t c = 0; c < q->scheme.num_channels; c++) {
        double g = sums[c * STEP_NUM_SUMS + STEP_SUM_SCALE] * (double)tqt_scale(q, c) * TQT_LN2;
        if (q->normed) {
            q->mean_square[c] = beta * q->mean_square[c] + (1.0 - beta) * g * g;
            double v = q->mean_square[c] / (1.0 - q->beta_power);
            g = v == 0.0 ? 0.0 : series_tanh(g / sqrt(v)); /* NaN passes */
        }
        q->gradient[c] = (float)(q->gradient_scale ? g / sqrt(p) : g);
    }
}

static mqb_status tqt_param(void *self, uint32_t index, struct mqb_param *param)
{
    struct tqt *q = self;
    if (index > 0 || q->vote)
        return MQB_ERR_NOT_FOUND;
    param->struct_size = sizeof(*param);
    param->num_elements = q->scheme.num_channels;
    param->name = "log2_threshold";
    param->value = q->log2_t;
    param->grad = q->gradient;
    param->lr_multiplier = q->lr_multiplier;
    param->weight_decay_multiplier = 0.0f;
    return MQB_OK;
}

static mqb_status tqt_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    const struct tqt *q = self;
    mqb_status status = tqt_finite(q, error);
    if (status != MQB_OK)
        return status;
    for (int32_t c = 0; c < q->scheme.num_channels; c++) {
        q->out_scale[c] = tqt_scale(q, c);
        q->out_zero[c] = 0;
    }
    return range_qparams(&q->scheme, q->out_scale, q->out_zero, qparams);
}

static mqb_status tqt_freeze(const void *self, const struct mqb_tensor_view *x, int32_t *codes, struct mqb_error *error)
{
    const struct tqt *q = self;
    int32_t channels = q->scheme.num_channels;
    if (!x->data || x->num_elements % channels != 0)
        return q->host->fail(error, MQB_ERR_ARGUMENT, "tqt cannot freeze %lld numbers with %d scales",
                             (long long)x->num_elements, (int)channels);
    mqb_status status = tqt_finite(q, error);
    int64_t size = x->num_elements / channels;
    for (int32_t c = 0; status == MQB_OK && c < channels; c++) {
        struct step_range r = tqt_range_at(q, c);
        for (int64_t i = c * size; i < (c + 1) * size; i++) {
            if (!(fabsf(x->data[i]) <= FLT_MAX))
                return q->host->fail(error, MQB_ERR_NUMERIC, "element %lld of the weight is not finite", (long long)i);
            codes[i] = step_frozen_code(r, STEP_TENSOR, x->data[i]);
        }
    }
    return status;
}

/* The state: this header, then num_channels means of squares (double), then as many log2 thresholds (float). */
struct tqt_state {
    uint32_t magic;
    int32_t num_channels, qmin, qmax;
    double beta_power;
};

static mqb_status tqt_save(const void *self, void *buffer, size_t *size, struct mqb_error *error)
{
    const struct tqt *q = self;
    size_t n = (size_t)q->scheme.num_channels, squares = n * sizeof(double), thresholds = n * sizeof(float);
    size_t needed = sizeof(struct tqt_state) + squares + thresholds;
    if (buffer) {
        if (*size < needed)
            return q->host->fail(error, MQB_ERR_ARGUMENT, "tqt: a state takes %zu bytes, the buffer has %zu", needed, *size);
        struct tqt_state state = {TQT_STATE_MAGIC, q->scheme.num_channels, q->scheme.qmin, q->scheme.qmax, q->beta_power};
        memcpy(buffer, &state, sizeof(state));
        memcpy((char *)buffer + sizeof(state), q->mean_square, squares);
        memcpy((char *)buffer + sizeof(state) + squares, q->log2_t, thresholds);
    }
    *size = needed;
    return MQB_OK;
}

static mqb_status tqt_load(void *self, const void *buffer, size_t size, struct mqb_error *error)
{
    struct tqt *q = self;
    struct tqt_state state;
    size_t n = (size_t)q->scheme.num_channels, squares = n * sizeof(double), thresholds = n * sizeof(float);
    if (size != sizeof(state) + squares + thresholds)
        return q->host->fail(error, MQB_ERR_FORMAT, "tqt: a state of %zu bytes, expected %zu for %zu thresholds", size,
                             sizeof(state) + squares + thresholds, n);
    memcpy(&state, buffer, sizeof(state));
    if (state.magic != TQT_STATE_MAGIC || state.num_channels != q->scheme.num_channels)
        return q->host->fail(error, MQB_ERR_FORMAT, "tqt: the state is damaged or was written by another version");
    int same = state.qmin == q->scheme.qmin && state.qmax == q->scheme.qmax;
    int switched = q->switches && state.qmin == 0 && state.qmax == (1 << q->scheme.bits) - 1;
    if (!same && !switched)
        return q->host->fail(error, MQB_ERR_FORMAT, "tqt: the state is for codes [%d, %d], this point has [%d, %d]",
                             (int)state.qmin, (int)state.qmax, (int)q->scheme.qmin, (int)q->scheme.qmax);
    const char *from_squares = (const char *)buffer + sizeof(state), *from_thresholds = from_squares + squares;
    int good = state.beta_power >= 0.0 && state.beta_power <= 1.0;
    for (size_t c = 0; c < n; c++) {
        double square;
        float log2_t;
        memcpy(&square, from_squares + c * sizeof(square), sizeof(square));
        memcpy(&log2_t, from_thresholds + c * sizeof(log2_t), sizeof(log2_t));
        good = good && square >= 0.0 && square <= DBL_MAX && fabsf(log2_t) <= FLT_MAX;
    }
    if (!good)
        return q->host->fail(error, MQB_ERR_FORMAT, "tqt: the state holds a number that cannot be");
    memcpy(q->mean_square, from_squares, squares);
    memcpy(q->log2_t, from_thresholds, thresholds);
    q->beta_power = state.beta_power;
    q->scheme.qmin = state.qmin;
    q->scheme.qmax = state.qmax;
    return MQB_OK;
}

static const struct mqb_option_spec tqt_options[] = {
    {"weight_init", MQB_OPTION_CHOICE, 0, "mse", 0, 0, START_CHOICES,
     "first threshold of weights; mse: the power of two with the least squared error; 3sd: three standard deviations"},
    {"act_init", MQB_OPTION_CHOICE, 0, "mse", 0, 0, START_CHOICES, "first threshold of activations"},
    {"round", MQB_OPTION_CHOICE, 0, "ceil", 0, 0, "ceil|nearest", "how log2 of the threshold becomes an exponent"},
    {"gradient_norm", MQB_OPTION_BOOL, 0, "on", 0, 0, NULL, "tanh of the threshold's gradient over its root mean square"},
    {"gradient_scale", MQB_OPTION_BOOL, 0, "on", 0, 0, NULL, "divide the threshold's gradient by sqrt(qmax)"},
    {"beta", MQB_OPTION_REAL, 0, "0", 0, 0.999999, NULL, "decay of the mean squared gradient; 0: 1 - 0.1 / qmax"},
    {"lr_multiplier", MQB_OPTION_REAL, 0, "1", 0, 1000, NULL, "learning rate of log2 thresholds, times the network's"},
    {"compat", MQB_OPTION_CHOICE, 0, "off", 0, 0, "off|vitis",
     "vitis: the published toolkit's quantizer, which does not learn"},
    {"candidates", MQB_OPTION_INT, 0, "5", 1, 16, NULL,
     "exponents tried under compat = vitis, whose toolkit tries 1 for the network's input"},
};

static const struct mqb_quantizer tqt_quantizer = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS | MQB_QUANTIZER_AFFINE,
    .description = "trained thresholds, power-of-two scales (TQT; Jain et al., MLSys 2020)",
    .options = tqt_options,
    .num_options = sizeof(tqt_options) / sizeof(tqt_options[0]),
    .sums_per_channel = STEP_NUM_SUMS,
    .create = tqt_create,
    .destroy = tqt_destroy,
    .observe = tqt_observe,
    .init = tqt_init,
    .prepare = tqt_prepare,
    .forward = tqt_forward,
    .backward = tqt_backward,
    .reduce = tqt_reduce,
    .param = tqt_param,
    .qparams = tqt_qparams,
    .freeze = tqt_freeze,
    .save = tqt_save,
    .load = tqt_load,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "tqt", &tqt_quantizer},
};

MQB_PLUGIN("tqt", "0.1.0", components);
