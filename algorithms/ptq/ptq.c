/*
 * ptq.c - post-training quantization: scale and zero point come from calibration and stay as they are. One component for each
 * way to choose the range: ptq_minmax all of it, ptq_percentile without its outermost values, ptq_mse the one with the least
 * squared error, ptq_kl the one that loses the least information. Nothing is learned; the network's weights still can be, the
 * rounding passed straight through.
 *
 * Codes, values and gradients are those of ../common/grid.h.
 *
 * `range = ema`: the range of a batch moves a tenth of the way, instead of covering all batches.
 * `compat = toolkit`: as in the published toolkit, an affine zero point goes with the power-of-two scale as it was before
 * rounding, and ptq_mse searches every batch of activations by itself.
 */
#include "../common/grid_slice.h"
#include "../common/range_state.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define PTQ_STATE_MAGIC 0x31515450u /* "PTQ1" */

struct ptq {
    const struct mqb_host *host;
    struct mqb_scheme scheme;         /* qmin and qmax as they stand: adaptive sign may have moved them */
    struct mqb_observer *observer;    /* with the scheme's codes */
    struct mqb_observer *nonnegative; /* with the codes after a switch of sign, or NULL */
    int round_last;                   /* the observers do not know that the scale is a power of two */
    float *scale;                     /* num_channels each */
    int32_t *zero_point;
};

static void ptq_destroy(void *self)
{
    struct ptq *q = self;
    if (!q)
        return;
    q->host->observer_destroy(q->observer);
    q->host->observer_destroy(q->nonnegative);
    q->host->deallocate(q->scale);
    q->host->deallocate(q->zero_point);
    q->host->deallocate(q);
}

static mqb_status ptq_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                             const char *observer, void **self, struct mqb_error *error)
{
    int toolkit = strcmp(host->option_text(options, "compat"), "toolkit") == 0;
    *self = NULL;
    if (scheme->role != MQB_ROLE_WEIGHT && scheme->role != MQB_ROLE_ACTIVATION)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "ptq quantizes weights and activations, not role %d", (int)scheme->role);
    if (scheme->bits < 2 || scheme->bits > 8 || scheme->qmin >= scheme->qmax || scheme->qmin < -128 || scheme->qmax > 255)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "ptq needs 2 to 8 bits and codes that fit them; got %d bits, [%d, %d]",
                          (int)scheme->bits, (int)scheme->qmin, (int)scheme->qmax);
    if (scheme->num_channels < 1 || (!scheme->per_channel && scheme->num_channels != 1))
        return host->fail(error, MQB_ERR_ARGUMENT, "ptq was given %d scales for a %s scheme", (int)scheme->num_channels,
                          scheme->per_channel ? "per-channel" : "per-tensor");

    struct ptq *q = host->allocate(sizeof(*q));
    size_t n = (size_t)scheme->num_channels;
    if (!q)
        return host->fail(error, MQB_ERR_MEMORY, "ptq: no memory for an instance");
    mqb_status status = MQB_OK;
    q->host = host;
    q->scheme = *scheme;
    q->scheme.struct_size = sizeof(q->scheme);
    q->scale = host->allocate(n * sizeof(float));
    q->zero_point = host->allocate(n * sizeof(int32_t));
    if (!q->scale || !q->zero_point) {
        status = host->fail(error, MQB_ERR_MEMORY, "ptq: no memory for %zu scales", n);
        goto out;
    }
    for (size_t c = 0; c < n; c++)
        q->scale[c] = 1.0f;
    struct mqb_scheme seen = q->scheme;
    q->round_last = toolkit && scheme->pot_scale;
    if (toolkit) {
        seen.pot_scale = 0;
        seen.role = MQB_ROLE_WEIGHT; /* each batch whole, not a histogram of all */
    }
    status = host->observer_create(observer, &seen, &q->observer, error);
    if (status == MQB_OK && scheme->adaptive_sign && scheme->symmetric && scheme->qmin < 0) {
        struct mqb_scheme positive = seen;
        positive.qmin = 0;
        positive.qmax = (1 << scheme->bits) - 1;
        status = host->observer_create(observer, &positive, &q->nonnegative, error);
    }
out:
    if (status != MQB_OK) {
        ptq_destroy(q);
        return status;
    }
    *self = q;
    return MQB_OK;
}

static int moving(const struct mqb_host *host, const struct mqb_options *options)
{
    return strcmp(host->option_text(options, "range"), "ema") == 0;
}

static mqb_status minmax_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                                void **self, struct mqb_error *error)
{
    return ptq_create(host, scheme, options, moving(host, options) ? "ema_minmax" : "minmax", self, error);
}

static mqb_status percentile_create(const struct mqb_host *host, const struct mqb_scheme *scheme,
                                    const struct mqb_options *options, void **self, struct mqb_error *error)
{
    int wide = strcmp(host->option_text(options, "percentile"), "99.99") == 0;
    const char *observer = moving(host, options) ? "ema_quantile" : wide ? "percentile" : "percentile_999";
    return ptq_create(host, scheme, options, observer, self, error);
}

static mqb_status mse_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                             void **self, struct mqb_error *error)
{
    return ptq_create(host, scheme, options, moving(host, options) ? "ema_mse" : "mse", self, error);
}

static mqb_status kl_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                            void **self, struct mqb_error *error)
{
    return ptq_create(host, scheme, options, "kl", self, error);
}

static mqb_status ptq_observe(void *self, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    struct ptq *q = self;
    mqb_status status = q->host->observer_observe(q->observer, x, error);
    if (status == MQB_OK && q->nonnegative)
        status = q->host->observer_observe(q->nonnegative, x, error);
    return status;
}

static mqb_status ptq_init(void *self, struct mqb_error *error)
{
    struct ptq *q = self;
    float min, max;
    const struct mqb_observer *observer = q->observer;
    q->host->observer_range(q->observer, &min, &max);
    if (q->nonnegative && min >= 0.0f) {
        q->scheme.qmin = 0;
        q->scheme.qmax = (1 << q->scheme.bits) - 1;
        observer = q->nonnegative;
    }
    mqb_status status = q->host->observer_qparams(observer, q->scale, q->zero_point, error);
    for (int32_t c = 0; c < q->scheme.num_channels && status == MQB_OK && q->round_last; c++)
        q->scale[c] = mqb_pot_round(q->scale[c]);
    return status;
}

static struct grid ptq_grid_at(const struct ptq *q, int32_t channel)
{
    return grid_of(&q->scheme, q->scale[channel], q->zero_point[channel]);
}

static void ptq_forward(const void *self, const struct mqb_slice *slice)
{
    grid_forward(ptq_grid_at(self, slice->channel), slice->size, slice->x, slice->y);
}

static void ptq_backward(const void *self, const struct mqb_slice *slice)
{
    grid_backward(ptq_grid_at(self, slice->channel), slice->size, slice->x, slice->dy, slice->dx);
}

static mqb_status ptq_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    const struct ptq *q = self;
    (void)error;
    return range_qparams(&q->scheme, q->scale, q->zero_point, qparams);
}

static mqb_status ptq_freeze(const void *self, const struct mqb_tensor_view *x, int32_t *codes, struct mqb_error *error)
{
    const struct ptq *q = self;
    int32_t channels = q->scheme.num_channels;
    if (!x->data || x->num_elements % channels != 0)
        return q->host->fail(error, MQB_ERR_ARGUMENT, "ptq cannot freeze %lld numbers with %d scales",
                             (long long)x->num_elements, (int)channels);
    int64_t size = x->num_elements / channels;
    for (int64_t i = 0; i < x->num_elements; i++) {
        if (!(fabsf(x->data[i]) <= FLT_MAX))
            return q->host->fail(error, MQB_ERR_NUMERIC, "element %lld of the weight is not finite", (long long)i);
        codes[i] = grid_clipped_code(ptq_grid_at(q, (int32_t)(i / size)), x->data[i]);
    }
    return MQB_OK;
}

static struct range_state ptq_state(struct ptq *q)
{
    return (struct range_state){q->host, "ptq", PTQ_STATE_MAGIC, &q->scheme, q->nonnegative != NULL, q->scale, q->zero_point};
}

static mqb_status ptq_save(const void *self, void *buffer, size_t *size, struct mqb_error *error)
{
    return range_state_save(ptq_state((struct ptq *)(uintptr_t)self), buffer, size, error); /* saving changes nothing */
}

static mqb_status ptq_load(void *self, const void *buffer, size_t size, struct mqb_error *error)
{
    return range_state_load(ptq_state(self), buffer, size, error);
}

#define PTQ_COMPAT                                                                                                             \
    {"compat", MQB_OPTION_CHOICE, 0, "off", 0, 0, "off|toolkit", "toolkit: the published toolkit's zero points and searches"}
#define PTQ_RANGE(text) {"range", MQB_OPTION_CHOICE, 0, "all", 0, 0, "all|ema", text}

static const struct mqb_option_spec kl_options[] = {PTQ_COMPAT};
static const struct mqb_option_spec range_options[] = {
    PTQ_COMPAT,
    PTQ_RANGE("of all calibration batches, or their moving average (0.9 old, 0.1 new)"),
};
static const struct mqb_option_spec percentile_options[] = {
    PTQ_COMPAT,
    PTQ_RANGE("of all calibration batches, or their moving average (0.9 old, 0.1 new), cut at 99.999 % of |x|"),
    {"percentile", MQB_OPTION_CHOICE, 0, "99.99", 0, 0, "99.9|99.99",
     "the range ends at this percentile, and begins at 100 minus it"},
};

#define PTQ_QUANTIZER(text, specs, count, maker)                                                                               \
    {                                                                                                                          \
        .struct_size = sizeof(struct mqb_quantizer),                                                                           \
        .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS | MQB_QUANTIZER_AFFINE | MQB_QUANTIZER_POST_TRAINING,       \
        .description = text,                                                                                                   \
        .options = specs, .num_options = count, .create = maker, .destroy = ptq_destroy, .observe = ptq_observe,               \
        .init = ptq_init, .forward = ptq_forward, .backward = ptq_backward, .qparams = ptq_qparams, .freeze = ptq_freeze,      \
        .save = ptq_save, .load = ptq_load,                                                                                    \
    }

static const struct mqb_quantizer minmax_quantizer =
    PTQ_QUANTIZER("post-training: the whole range seen in calibration", range_options, 2, minmax_create);
static const struct mqb_quantizer percentile_quantizer =
    PTQ_QUANTIZER("post-training: the range without its outermost values", percentile_options, 3, percentile_create);
static const struct mqb_quantizer mse_quantizer =
    PTQ_QUANTIZER("post-training: the range with the least squared error", range_options, 2, mse_create);
static const struct mqb_quantizer kl_quantizer =
    PTQ_QUANTIZER("post-training: the range with the least Kullback-Leibler divergence", kl_options, 1, kl_create);

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "ptq_minmax", &minmax_quantizer},
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "ptq_percentile", &percentile_quantizer},
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "ptq_mse", &mse_quantizer},
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "ptq_kl", &kl_quantizer},
};

MQB_PLUGIN("ptq", "0.1.0", components);
