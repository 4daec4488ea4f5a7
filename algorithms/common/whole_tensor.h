/*
 * whole_tensor.h - what QIL and APoT share: one range for a whole tensor, symmetric about 0, and at 8 bits, the first and last
 * layers, a plain uniform grid (grid_point.h) over the range that calibration saw, static from then on.
 *
 * `compat = paper`: granularity, zero points and power-of-two scales that a scheme asks for are ignored, as the published code
 * does; an 8-bit activation that is never negative has the scale max/255 with codes up to 127.
 */
#ifndef ALGORITHMS_WHOLE_TENSOR_H
#define ALGORITHMS_WHOLE_TENSOR_H

#include "grid_point.h"
#include "grid_slice.h"

struct whole_tensor {
    struct grid_point *point;
    int seen;        /* is there a batch yet? */
    int nonnegative; /* an activation whose codes are those of [0, 1] */
};

static inline mqb_status whole_tensor_check(const struct mqb_host *host, const char *algorithm, const struct mqb_scheme *scheme,
                                            int paper, struct mqb_error *error)
{
    int bits = scheme->bits, wanted = (1 << (bits > 0 && bits < 30 ? bits - 1 : 0)) - 1;
    if (scheme->per_channel && (bits == 8 || !paper))
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "%s has one range for a whole tensor, but this scheme asks for one a channel; --backend academic "
                          "asks for one a tensor",
                          algorithm);
    if (scheme->role == MQB_ROLE_WEIGHT && scheme->qmin >= 0 && scheme->symmetric)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "%s needs signed codes for weights; got [%d, %d]", algorithm,
                          (int)scheme->qmin, (int)scheme->qmax);
    if (bits < 2 || bits >= 8 || paper)
        return MQB_OK; /* grid_point_create() refuses what is left */
    if (!scheme->symmetric)
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "%s is symmetric about 0 below 8 bits, but this scheme asks for a zero point; --backend academic "
                          "asks for none",
                          algorithm);
    if (scheme->pot_scale)
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "%s has no scale below 8 bits that could be rounded to a power of two, as this scheme asks",
                          algorithm);
    if (scheme->qmin >= 0 ? scheme->qmax < 2 * wanted + 1 : scheme->qmin > -wanted || scheme->qmax < wanted)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "%s has %d codes at %d bits, more than [%d, %d] holds", algorithm,
                          scheme->qmin >= 0 ? 2 * wanted + 2 : 2 * wanted + 1, bits, (int)scheme->qmin, (int)scheme->qmax);
    return MQB_OK;
}

static inline mqb_status whole_tensor_create(struct whole_tensor *whole, const struct mqb_host *host, const char *algorithm,
                                             uint32_t magic, const struct mqb_scheme *scheme, const struct mqb_options *options,
                                             struct mqb_error *error)
{
    int paper = strcmp(host->option_text(options, "compat"), "paper") == 0;
    mqb_status status = whole_tensor_check(host, algorithm, scheme, paper, error);
    if (status == MQB_OK)
        status = grid_point_create(host, algorithm, magic, scheme, options, &whole->point, error);
    if (status != MQB_OK)
        return status;
    whole->nonnegative = scheme->role == MQB_ROLE_ACTIVATION && scheme->symmetric && scheme->qmin >= 0;
    if (paper)
        whole->point->scheme.pot_scale = 0;
    return MQB_OK;
}

/* The smallest and largest weight. */
static inline mqb_status whole_tensor_measure(struct grid_point *point, const struct mqb_tensor_view *x,
                                              struct mqb_error *error)
{
    if (!x->data || x->num_elements < 1)
        return point->host->fail(error, MQB_ERR_ARGUMENT, "%s was given no weights", point->algorithm);
    float low = x->data[0], high = x->data[0];
    for (int64_t i = 0; i < x->num_elements; i++) {
        float v = x->data[i];
        if (!grid_finite(v))
            return point->host->fail(error, MQB_ERR_NUMERIC, "element %lld of the weight is not finite", (long long)i);
        low = v < low ? v : low;
        high = v > high ? v : high;
    }
    point->min = low;
    point->max = high;
    return MQB_OK;
}

static inline float whole_tensor_largest(const struct grid_point *point)
{
    float low = fabsf(point->min), high = fabsf(point->max);
    return low > high ? low : high;
}

static inline mqb_status whole_tensor_observe(struct whole_tensor *whole, const struct mqb_tensor_view *x,
                                              struct mqb_error *error)
{
    struct grid_point *point = whole->point;
    mqb_status status = point->scheme.role == MQB_ROLE_WEIGHT ? whole_tensor_measure(point, x, error)
                                                              : point->host->observer_observe(point->observer, x, error);
    whole->seen |= status == MQB_OK;
    return status;
}

static inline void whole_tensor_set_scale(struct grid_point *point, float scale)
{
    for (int32_t c = 0; c < point->scheme.num_channels; c++)
        point->scale[c] = scale;
}

/* End of calibration: range, sign, and the grid of 8 bits. */
static inline mqb_status whole_tensor_init(struct whole_tensor *whole, struct mqb_error *error)
{
    struct grid_point *point = whole->point;
    struct mqb_scheme *scheme = &point->scheme;
    if (!whole->seen)
        return point->host->fail(error, MQB_ERR_ARGUMENT, "%s has seen nothing of \"%s\" to take its range from",
                                 point->algorithm, scheme->tensor ? scheme->tensor : "?");
    if (scheme->role == MQB_ROLE_ACTIVATION) {
        point->host->observer_range(point->observer, &point->min, &point->max);
        if (scheme->adaptive_sign && scheme->symmetric && point->min >= 0.0f)
            whole->nonnegative = 1;
        if (!point->paper)
            grid_point_adapt_sign(point);
    }
    if (scheme->bits != 8)
        return MQB_OK;
    grid_set_range(point, 0, point->min, point->max);
    if (point->paper && whole->nonnegative && scheme->qmin < 0) {
        float s = whole_tensor_largest(point) / (float)(scheme->qmax - scheme->qmin);
        point->scale[0] = s < FLT_EPSILON ? FLT_EPSILON : s;
    }
    return MQB_OK;
}

/* What may be frozen: `x` has weights, finite ones. */
static inline mqb_status whole_tensor_check_freeze(const struct grid_point *point, const struct mqb_tensor_view *x,
                                                   struct mqb_error *error)
{
    if (point->scheme.role != MQB_ROLE_WEIGHT || !x->data)
        return point->host->fail(error, MQB_ERR_ARGUMENT, "%s freezes weights; it was given none", point->algorithm);
    for (int64_t i = 0; i < x->num_elements; i++) {
        if (!grid_finite(x->data[i]))
            return point->host->fail(error, MQB_ERR_NUMERIC, "element %lld of the weight is not finite", (long long)i);
    }
    return MQB_OK;
}

/* ---- saved state: that of the grid, then `tail`, the algorithm's own ---- */

static inline mqb_status whole_tensor_save(const struct grid_point *point, const void *tail, size_t tail_size, void *buffer,
                                           size_t *size, struct mqb_error *error)
{
    size_t grid_size = 0;
    mqb_status status = grid_point_save(point, NULL, &grid_size, error);
    if (status != MQB_OK)
        return status;
    if (buffer) {
        if (*size < grid_size + tail_size)
            return point->host->fail(error, MQB_ERR_ARGUMENT, "%s: a state takes %zu bytes, the buffer has %zu",
                                     point->algorithm, grid_size + tail_size, *size);
        status = grid_point_save(point, buffer, &grid_size, error);
        memcpy((char *)buffer + grid_size, tail, tail_size);
    }
    *size = grid_size + tail_size;
    return status;
}

/* Reads the tail, which the caller judges before whole_tensor_load_grid(). */
static inline mqb_status whole_tensor_load_tail(const struct grid_point *point, const void *buffer, size_t size, void *tail,
                                                size_t tail_size, struct mqb_error *error)
{
    size_t grid_size = 0;
    mqb_status status = grid_point_save(point, NULL, &grid_size, error);
    if (status != MQB_OK)
        return status;
    if (size != grid_size + tail_size)
        return point->host->fail(error, MQB_ERR_FORMAT, "%s: a state of %zu bytes, expected %zu", point->algorithm, size,
                                 grid_size + tail_size);
    memcpy(tail, (const char *)buffer + grid_size, tail_size);
    return MQB_OK;
}

static inline mqb_status whole_tensor_damaged(const struct grid_point *point, struct mqb_error *error)
{
    return point->host->fail(error, MQB_ERR_FORMAT, "%s: the state holds a number that cannot be", point->algorithm);
}

#endif
