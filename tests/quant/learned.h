/*
 * learned.h - a quantizer with learned parameters, driven by hand: a point with its scheme, and one step forward and backward.
 */
#ifndef TEST_LEARNED_H
#define TEST_LEARNED_H

#include "common/support.h"
#include "quant/quant.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#define LEARNED_MAX_CHANNELS 16

struct learned {
    const struct mqb_quantizer *quantizer;
    struct mqb_scheme scheme;
    void *self;
};

static inline struct mqb_scheme learned_scheme(int role, int bits, int symmetric, int channels)
{
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .role = role, .bits = bits, .tensor = "tensor"};
    scheme.symmetric = symmetric != 0;
    scheme.per_channel = channels > 1;
    scheme.num_channels = channels;
    scheme.qmin = symmetric ? -(1 << (bits - 1)) : 0;
    scheme.qmax = scheme.qmin + (1 << bits) - 1;
    return scheme;
}

/* "name=value ..." over the defaults; the status of create(), its sentence in `err`. */
static inline mqb_status learned_try(struct learned *point, const char *settings)
{
    struct mqb_options *options;
    char copy[256], *rest = copy;
    OK(mqb_options_create(point->quantizer->options, point->quantizer->num_options, &options, &err));
    snprintf(copy, sizeof(copy), "%s", settings);
    for (char *word = strtok_r(rest, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(word, '=');
        *equals = '\0';
        OK(mqb_options_set(options, word, equals + 1, "test", &err));
    }
    mqb_status status = point->quantizer->create(mqb_host_table(), &point->scheme, options, &point->self, &err);
    mqb_options_destroy(options);
    return status;
}

static inline struct learned learned_create(const struct mqb_quantizer *quantizer, struct mqb_scheme scheme,
                                            const char *settings)
{
    struct learned point = {quantizer, scheme, NULL};
    OK(learned_try(&point, settings));
    return point;
}

static inline struct mqb_tensor_view learned_view(const struct learned *point, const float *x, int64_t n)
{
    int64_t channels = point->scheme.num_channels;
    return (struct mqb_tensor_view){.struct_size = sizeof(struct mqb_tensor_view),
                                    .rank = 2,
                                    .dims = {channels, n / channels},
                                    .num_elements = n,
                                    .data = x};
}

static inline void learned_calibrate(const struct learned *point, const float *x, int64_t n)
{
    struct mqb_tensor_view view = learned_view(point, x, n);
    OK(point->quantizer->observe(point->self, &view, &err));
    OK(point->quantizer->init(point->self, &err));
}

static inline mqb_status learned_prepare(const struct learned *point, const float *x, int64_t n)
{
    struct mqb_tensor_view view = learned_view(point, x, n);
    return point->quantizer->prepare(point->self, &view, 1, &err);
}

static inline struct mqb_param learned_param(const struct learned *point, uint32_t index)
{
    struct mqb_param param = {.struct_size = sizeof(param)};
    assert_int_equal(point->quantizer->param(point->self, index, &param), MQB_OK);
    return param;
}

static inline struct mqb_qparams learned_qparams(const struct learned *point)
{
    struct mqb_qparams qparams = {.struct_size = sizeof(qparams)};
    OK(point->quantizer->qparams(point->self, &qparams, &err));
    return qparams;
}

/* Slices: one a channel, or two uneven ones a tensor. dy NULL: forward; else backward, and reduce. */
static inline void learned_run(const struct learned *point, int64_t n, const float *x, const float *dy, float *out)
{
    const struct mqb_scheme *scheme = &point->scheme;
    double sums[LEARNED_MAX_CHANNELS * MQB_QUANTIZER_MAX_SUMS] = {0};
    int64_t num = scheme->per_channel ? scheme->num_channels : 2, size = n / num;
    for (int64_t i = 0; i < num; i++) {
        int64_t begin = scheme->per_channel ? i * size : i * (n / 3), end = scheme->per_channel ? begin + size : i ? n : n / 3;
        struct mqb_slice slice = {.struct_size = sizeof(slice), .size = end - begin, .offset = (uint64_t)begin, .x = x + begin};
        slice.channel = scheme->per_channel ? (int32_t)i : 0;
        if (dy) {
            slice.dy = dy + begin;
            slice.dx = out + begin;
            slice.sums = sums + (uint32_t)slice.channel * point->quantizer->sums_per_channel;
            point->quantizer->backward(point->self, &slice);
        } else {
            slice.y = out + begin;
            point->quantizer->forward(point->self, &slice);
        }
    }
    if (dy)
        point->quantizer->reduce(point->self, sums);
}

/* Prepares and runs forward; then every y must be scale * (code - zero point) of qparams and freeze, bit for bit. */
static inline void learned_forward(const struct learned *point, int64_t n, const float *x, float *y)
{
    struct mqb_tensor_view view = learned_view(point, x, n);
    int32_t *codes = malloc((size_t)n * sizeof(*codes));
    OK(learned_prepare(point, x, n));
    learned_run(point, n, x, NULL, y);
    struct mqb_qparams q = learned_qparams(point);
    OK(point->quantizer->freeze(point->self, &view, codes, &err));
    for (int64_t i = 0; i < n; i++) {
        int64_t c = i / (n / q.num_channels);
        float want = (float)(codes[i] - q.zero_point[c]) * q.scale[c];
        if (codes[i] < q.qmin || codes[i] > q.qmax || !(y[i] == want))
            fail_msg("element %d: code %d of [%d, %d], y %.9g, from the code %.9g", (int)i, (int)codes[i], (int)q.qmin,
                     (int)q.qmax, (double)y[i], (double)want);
    }
    free(codes);
}

/* Normal numbers. */
static inline void learned_fill(float *x, int64_t n, uint64_t stream, float factor)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = factor * (float)mqb_normal(11, stream, (uint64_t)i);
}

/* A state goes round, and damage to it is refused: its size, its first word, the codes' range, and the number in its last 4
 * bytes. */
static inline void learned_state_round_trip(const struct learned *from, const struct learned *to)
{
    unsigned char buffer[1024];
    size_t size = 0;
    OK(from->quantizer->save(from->self, NULL, &size, &err));
    assert_in_range(size, 20, sizeof(buffer));
    size_t small = size - 1;
    assert_int_equal(from->quantizer->save(from->self, buffer, &small, &err), MQB_ERR_ARGUMENT);
    OK(from->quantizer->save(from->self, buffer, &size, &err));
    assert_int_equal(to->quantizer->load(to->self, buffer, size - 4, &err), MQB_ERR_FORMAT);
    buffer[0] ^= 1;
    assert_int_equal(to->quantizer->load(to->self, buffer, size, &err), MQB_ERR_FORMAT);
    buffer[0] ^= 1;
    buffer[8] ^= 0x40;
    assert_int_equal(to->quantizer->load(to->self, buffer, size, &err), MQB_ERR_FORMAT);
    buffer[8] ^= 0x40;
    unsigned char last[4];
    memcpy(last, buffer + size - 4, 4);
    memset(buffer + size - 4, 0xff, 4); /* a NaN */
    assert_int_equal(to->quantizer->load(to->self, buffer, size, &err), MQB_ERR_FORMAT);
    memcpy(buffer + size - 4, last, 4);
    OK(to->quantizer->load(to->self, buffer, size, &err));
}

#endif
