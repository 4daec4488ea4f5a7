/*
 * roundtrip.c - a complete quantization algorithm as a plugin: symmetric min-max.
 *
 *     scale[c] = clip * max |x| / steps        (one scale a tensor, or one an output channel, as the scheme says)
 *     y        = scale[c] * clamp(round(x / scale[c]), lowest, highest)
 *
 * The gradient is straight-through: it passes where x was not clamped. There is nothing to learn.
 */
#include <mqbench/mqbench.h>
#include <mqbench/numeric.h>

#include <float.h>
#include <math.h>
#include <string.h>

struct roundtrip {
    const struct mqb_host *host;
    struct mqb_scheme scheme;
    float lowest, highest; /* codes less the zero point: what is left after clamping */
    float clip;
    float *scale; /* [num_channels]; until init, the largest magnitude seen */
    int32_t *zero_point;
};

static const struct mqb_option_spec options[] = {
    {"clip", MQB_OPTION_REAL, 0, "1", 0.1, 1.0, NULL, "part of the largest magnitude that is kept; what is beyond saturates"},
};

static void roundtrip_destroy(void *self)
{
    struct roundtrip *q = self;
    if (q) {
        const struct mqb_host *host = q->host;
        host->deallocate(q->scale);
        host->deallocate(q->zero_point);
        host->deallocate(q);
    }
}

static mqb_status roundtrip_create(const struct mqb_host *host, const struct mqb_scheme *scheme,
                                   const struct mqb_options *given, void **self, struct mqb_error *error)
{
    /* A scheme that the algorithm cannot serve is refused here; the sentence is what the user reads. */
    if (scheme->pot_scale) {
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "roundtrip: scales that are powers of two are not supported; choose another algorithm or backend");
    }
    struct roundtrip *q = host->allocate(sizeof(*q)); /* zeroed */
    if (!q) {
        return host->fail(error, MQB_ERR_MEMORY, "roundtrip: no memory for an instance; free some and try again");
    }
    q->host = host;
    q->scheme = *scheme;
    q->clip = (float)host->option_real(given, "clip");
    q->scale = host->allocate((size_t)scheme->num_channels * sizeof(float));
    q->zero_point = host->allocate((size_t)scheme->num_channels * sizeof(int32_t));
    if (!q->scale || !q->zero_point) {
        roundtrip_destroy(q);
        return host->fail(error, MQB_ERR_MEMORY, "roundtrip: no memory for %d scales; free some and try again",
                          scheme->num_channels);
    }
    /* A backend without symmetric codes gets them all the same: its zero point stays in the middle. */
    int32_t middle = scheme->symmetric ? 0 : (scheme->qmin + scheme->qmax + 1) / 2;
    for (int32_t c = 0; c < scheme->num_channels; c++) {
        q->zero_point[c] = middle;
    }
    q->lowest = (float)(scheme->qmin - middle);
    q->highest = (float)(scheme->qmax - middle);
    *self = q;
    return MQB_OK;
}

static mqb_status roundtrip_observe(void *self, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    struct roundtrip *q = self;
    int64_t size = x->num_elements / q->scheme.num_channels; /* a channel's elements are consecutive: it is dims[0] */
    for (int64_t i = 0; i < size * q->scheme.num_channels; i++) {
        float magnitude = fabsf(x->data[i]);
        if (!(magnitude <= FLT_MAX)) {
            return q->host->fail(error, MQB_ERR_NUMERIC, "roundtrip: element %lld is not finite; check the model and the data",
                                 (long long)i);
        }
        float *largest = &q->scale[i / size];
        *largest = magnitude > *largest ? magnitude : *largest;
    }
    return MQB_OK;
}

static mqb_status roundtrip_init(void *self, struct mqb_error *error)
{
    struct roundtrip *q = self;
    float steps = q->lowest < 0.0f && -q->lowest < q->highest ? -q->lowest : q->highest;
    (void)error;
    for (int32_t c = 0; c < q->scheme.num_channels; c++) {
        float scale = q->clip * q->scale[c] / steps;
        q->scale[c] = scale > FLT_EPSILON ? scale : FLT_EPSILON; /* also for a tensor of zeros */
    }
    return MQB_OK;
}

/* Called from several threads at once, each with its own slice: `self` is only read. A slice has one scale. */
static void roundtrip_forward(const void *self, const struct mqb_slice *slice)
{
    const struct roundtrip *q = self;
    const float scale = q->scale[slice->channel], inverse = 1.0f / scale, lowest = q->lowest, highest = q->highest;
    for (int64_t i = 0; i < slice->size; i++) {
        /* Multiplied per tensor, divided per channel, as the host does when it makes the codes. */
        float v = q->scheme.per_channel ? slice->x[i] / scale : slice->x[i] * inverse;
        v = v < lowest ? lowest : v > highest ? highest : v;
        slice->y[i] = scale * mqb_rne_small(v);
    }
}

static void roundtrip_backward(const void *self, const struct mqb_slice *slice)
{
    const struct roundtrip *q = self;
    const float low = q->lowest * q->scale[slice->channel], high = q->highest * q->scale[slice->channel];
    for (int64_t i = 0; i < slice->size; i++) {
        slice->dx[i] = slice->x[i] >= low && slice->x[i] <= high ? slice->dy[i] : 0.0f;
    }
}

static mqb_status roundtrip_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    const struct roundtrip *q = self;
    (void)error;
    *qparams = (struct mqb_qparams){.struct_size = sizeof(*qparams),
                                    .num_channels = q->scheme.num_channels,
                                    .scale = q->scale,
                                    .zero_point = q->zero_point,
                                    .qmin = q->scheme.qmin,
                                    .qmax = q->scheme.qmax};
    return MQB_OK;
}

/* The state is the scales: all else follows from the scheme and the options. */
static mqb_status roundtrip_save(const void *self, void *buffer, size_t *size, struct mqb_error *error)
{
    const struct roundtrip *q = self;
    (void)error;
    *size = (size_t)q->scheme.num_channels * sizeof(float);
    if (buffer) {
        memcpy(buffer, q->scale, *size);
    }
    return MQB_OK;
}

static mqb_status roundtrip_load(void *self, const void *buffer, size_t size, struct mqb_error *error)
{
    struct roundtrip *q = self;
    if (size != (size_t)q->scheme.num_channels * sizeof(float)) {
        return q->host->fail(error, MQB_ERR_FORMAT, "roundtrip: a state of %zu bytes, expected %d scales; calibrate again",
                             size, q->scheme.num_channels);
    }
    memcpy(q->scale, buffer, size);
    return MQB_OK;
}

static const struct mqb_quantizer roundtrip = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS | MQB_QUANTIZER_AFFINE,
    .description = "symmetric min-max, nothing learned: an example of a plugin",
    .options = options,
    .num_options = sizeof(options) / sizeof(options[0]),
    .create = roundtrip_create,
    .destroy = roundtrip_destroy,
    .observe = roundtrip_observe,
    .init = roundtrip_init,
    .forward = roundtrip_forward,
    .backward = roundtrip_backward,
    .qparams = roundtrip_qparams,
    .save = roundtrip_save,
    .load = roundtrip_load,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "roundtrip", &roundtrip},
};
MQB_PLUGIN("roundtrip-example", "1.0.0", components);
