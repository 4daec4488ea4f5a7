/*
 * range_state.h - the saved state of a quantizer that is its scales and zero points: a header, num_channels scales (float), as many
 * zero points (int32). Loading refuses another version, other codes, and numbers that cannot be.
 */
#ifndef ALGORITHMS_RANGE_STATE_H
#define ALGORITHMS_RANGE_STATE_H

#include <mqbench/quantizer.h>

#include <float.h>
#include <string.h>

/* What is saved, where it lies in the quantizer. */
struct range_state {
    const struct mqb_host *host;
    const char *algorithm; /* for messages */
    uint32_t magic;
    struct mqb_scheme *scheme; /* loading may move qmin and qmax if may_switch */
    int may_switch;            /* adaptive sign: [0, 2^bits - 1] is legal too */
    float *scale;
    int32_t *zero_point;
};

struct range_state_header {
    uint32_t magic;
    int32_t num_channels, qmin, qmax;
};

/* What an affine quantizer hands out. */
static inline mqb_status range_qparams(const struct mqb_scheme *scheme, const float *scale, const int32_t *zero_point,
                                       struct mqb_qparams *qparams)
{
    *qparams = (struct mqb_qparams){.struct_size = sizeof(*qparams), .num_channels = scheme->num_channels, .scale = scale,
                                    .zero_point = zero_point, .qmin = scheme->qmin, .qmax = scheme->qmax};
    return MQB_OK;
}

static inline mqb_status range_state_save(struct range_state s, void *buffer, size_t *size, struct mqb_error *error)
{
    struct range_state_header header = {s.magic, s.scheme->num_channels, s.scheme->qmin, s.scheme->qmax};
    size_t values = (size_t)header.num_channels * sizeof(float), needed = sizeof(header) + 2 * values;
    if (buffer) {
        if (*size < needed)
            return s.host->fail(error, MQB_ERR_ARGUMENT, "%s: a state takes %zu bytes, the buffer has %zu", s.algorithm, needed, *size);
        memcpy(buffer, &header, sizeof(header));
        memcpy((char *)buffer + sizeof(header), s.scale, values);
        memcpy((char *)buffer + sizeof(header) + values, s.zero_point, values);
    }
    *size = needed;
    return MQB_OK;
}

static inline mqb_status range_state_load(struct range_state s, const void *buffer, size_t size, struct mqb_error *error)
{
    struct range_state_header header;
    size_t values = (size_t)s.scheme->num_channels * sizeof(float);
    if (size != sizeof(header) + 2 * values)
        return s.host->fail(error, MQB_ERR_FORMAT, "%s: a state of %zu bytes, expected %zu for %d scales", s.algorithm, size,
                            sizeof(header) + 2 * values, (int)s.scheme->num_channels);
    memcpy(&header, buffer, sizeof(header));
    if (header.magic != s.magic || header.num_channels != s.scheme->num_channels)
        return s.host->fail(error, MQB_ERR_FORMAT, "%s: the state is damaged or was written by another version", s.algorithm);
    int same = header.qmin == s.scheme->qmin && header.qmax == s.scheme->qmax;
    int switched = s.may_switch && header.qmin == 0 && header.qmax == (1 << s.scheme->bits) - 1;
    if (!same && !switched)
        return s.host->fail(error, MQB_ERR_FORMAT, "%s: the state is for codes [%d, %d], this point has [%d, %d]", s.algorithm,
                            (int)header.qmin, (int)header.qmax, (int)s.scheme->qmin, (int)s.scheme->qmax);
    const char *scales = (const char *)buffer + sizeof(header), *zero_points = scales + values;
    for (size_t c = 0; c < (size_t)s.scheme->num_channels; c++) {
        float scale;
        int32_t zero;
        memcpy(&scale, scales + c * sizeof(scale), sizeof(scale));
        memcpy(&zero, zero_points + c * sizeof(zero), sizeof(zero));
        if (!(scale >= FLT_EPSILON && scale <= FLT_MAX) || (s.scheme->symmetric ? zero != 0 : zero < header.qmin || zero > header.qmax))
            return s.host->fail(error, MQB_ERR_FORMAT, "%s: the state's scale %g, zero point %d of channel %zu cannot be", s.algorithm,
                                (double)scale, (int)zero, c);
    }
    memcpy(s.scale, scales, values);
    memcpy(s.zero_point, zero_points, values);
    s.scheme->qmin = header.qmin;
    s.scheme->qmax = header.qmax;
    return MQB_OK;
}

#endif
