/*
 * vec_generic.h - vectors of 4 in plain C, for machines without a table of their own. fmaf says the contraction aloud.
 */
#ifndef NATIVE_VEC_H
#define NATIVE_VEC_H

#include "unroll.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define VEC_NAME "scalar"
#define VEC_ISA native_isa_generic
#define VEC_SCORE 20
#define VEC_LANES 4
#define VEC_TILE1 4
#define VEC_TILE2 4
#define VEC_NARROW 4
#define VEC_GRID 4
#define VEC_UNROLL1 1 /* values of a run at a time */
#define VEC_UNROLL2 1
#define VEC_HALF 0 /* half a vector would cost as much as a whole one */
#define IVEC_TILE1 4
#define IVEC_TILE2 2
#define IVEC_UNROLL1 1
#define IVEC_UNROLL2 1
#define IVEC_QUAD_SIZE 4

typedef struct vec {
    float v[VEC_LANES];
} vec;

static inline vec vec_zero(void)
{
    return (vec){ { 0.0f, 0.0f, 0.0f, 0.0f } };
}
static inline vec vec_load(const float *p)
{
    return (vec){ { p[0], p[1], p[2], p[3] } };
}
static inline vec vec_load_part(const float *p, int32_t n)
{
    vec a = vec_zero();

    memcpy(a.v, p, (size_t)n * sizeof(float));
    return a;
}
static inline void vec_store(float *p, vec a)
{
    memcpy(p, a.v, sizeof(a.v));
}
static inline void vec_store_part(float *p, vec a, int32_t n)
{
    memcpy(p, a.v, (size_t)n * sizeof(float));
}
static inline vec vec_broadcast(const float *p)
{
    return (vec){ { *p, *p, *p, *p } };
}
static inline vec vec_add(vec a, vec b)
{
    return (vec){ { a.v[0] + b.v[0], a.v[1] + b.v[1], a.v[2] + b.v[2], a.v[3] + b.v[3] } };
}
static inline vec vec_sub(vec a, vec b)
{
    return (vec){ { a.v[0] - b.v[0], a.v[1] - b.v[1], a.v[2] - b.v[2], a.v[3] - b.v[3] } };
}
static inline vec vec_scale(vec a, float factor)
{
    return (vec){ { a.v[0] * factor, a.v[1] * factor, a.v[2] * factor, a.v[3] * factor } };
}
static inline vec vec_fma(vec a, vec b, vec c)
{
    return (vec){ { fmaf(a.v[0], b.v[0], c.v[0]), fmaf(a.v[1], b.v[1], c.v[1]), fmaf(a.v[2], b.v[2], c.v[2]),
                    fmaf(a.v[3], b.v[3], c.v[3]) } };
}

/* Column j of the rows becomes row j. */
static inline void vec_transpose(vec rows[VEC_LANES])
{
    vec t[VEC_LANES];

    for (int32_t i = 0; i < VEC_LANES; i++) {
        for (int32_t j = 0; j < VEC_LANES; j++) {
            t[j].v[i] = rows[i].v[j];
        }
    }
    memcpy(rows, t, sizeof(t));
}

/* Sums are exact modulo 2^32: unsigned, so that nothing overflows. */
typedef struct ivec {
    uint32_t v[VEC_LANES];
} ivec;
typedef struct iquad {
    uint8_t v[4];
} iquad;
typedef struct iweight {
    int8_t v[VEC_LANES][4];
} iweight;

static inline ivec ivec_zero(void)
{
    return (ivec){ { 0, 0, 0, 0 } };
}
static inline void ivec_store(int32_t *p, ivec a)
{
    memcpy(p, a.v, sizeof(a.v));
}
static inline void ivec_store_part(int32_t *p, ivec a, int32_t n)
{
    memcpy(p, a.v, (size_t)n * sizeof(int32_t));
}
static inline iquad iquad_broadcast(const uint8_t *p)
{
    return (iquad){ { p[0], p[1], p[2], p[3] } };
}
static inline iweight iweight_load(const uint8_t *p)
{
    iweight w;

    memcpy(w.v, p, sizeof(w.v));
    return w;
}
static inline ivec ivec_dot(ivec acc, iquad x, iweight w)
{
    for (int32_t lane = 0; lane < VEC_LANES; lane++) {
        for (int32_t j = 0; j < 4; j++) {
            acc.v[lane] += (uint32_t)(x.v[j] * w.v[lane][j]);
        }
    }
    return acc;
}
/* Four weights of one lane, to their place in a vector of weights. */
static inline void iweight_pack(uint8_t *vector, int32_t lane, const int8_t four[4])
{
    memcpy(vector + lane * 4, four, 4);
}
/* Depthwise: a byte and a weight in every lane of 32. */
static inline ivec ivec_load_bytes(const uint8_t *p, int32_t n)
{
    ivec a = ivec_zero();

    for (int32_t lane = 0; lane < n; lane++) {
        a.v[lane] = p[lane];
    }
    return a;
}
static inline ivec ivec_load(const int32_t *p)
{
    ivec a;

    memcpy(a.v, p, sizeof(a.v));
    return a;
}
static inline ivec ivec_multiply_add(ivec acc, ivec x, ivec w)
{
    for (int32_t lane = 0; lane < VEC_LANES; lane++) {
        acc.v[lane] += x.v[lane] * w.v[lane];
    }
    return acc;
}

#endif
