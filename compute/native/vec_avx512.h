/*
 * vec_avx512.h - vectors of 16 for the kernels: AVX-512 with VNNI.
 */
#ifndef NATIVE_VEC_H
#define NATIVE_VEC_H

#include "unroll.h"

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VEC_NAME "avx512-vnni"
#define VEC_ISA native_isa_avx512
#define VEC_SCORE 100
#define VEC_LANES 16
#define VEC_TILE1 16 /* pixels, blocks of one vector */
#define VEC_TILE2 12 /* blocks of two */
#define VEC_NARROW 7 /* vectors of pixels, few channels */
#define VEC_GRID 8 /* pixels of a row, one filter a channel */
#define VEC_UNROLL1 4 /* values of a run at a time */
#define VEC_UNROLL2 2
#define VEC_HALF 8 /* lanes of half a vector, which costs half */
#define IVEC_TILE1 16
#define IVEC_TILE2 12
#define IVEC_UNROLL1 4
#define IVEC_UNROLL2 2
#define IVEC_QUAD_SIZE 4

typedef __m512 vec;

static inline vec vec_zero(void)
{
    return _mm512_setzero_ps();
}
static inline vec vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline vec vec_load_part(const float *p, int32_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p);
}
static inline void vec_store(float *p, vec a)
{
    _mm512_storeu_ps(p, a);
}
static inline void vec_store_part(float *p, vec a, int32_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), a);
}
static inline vec vec_broadcast(const float *p)
{
    return _mm512_set1_ps(*p);
}
static inline vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}
static inline vec vec_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}
static inline vec vec_scale(vec a, float factor)
{
    return _mm512_mul_ps(a, _mm512_set1_ps(factor));
}
static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* Half a vector. */
typedef __m256 half;

static inline half half_zero(void)
{
    return _mm256_setzero_ps();
}
static inline half half_of(vec a)
{
    return _mm512_castps512_ps256(a);
}
static inline vec half_widen(half a)
{
    return _mm512_zextps256_ps512(a);
}
static inline half half_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
static inline half half_load_part(const float *p, int32_t n)
{
    return _mm256_maskz_loadu_ps((__mmask8)((1u << n) - 1u), p);
}
static inline void half_store(float *p, half a)
{
    _mm256_storeu_ps(p, a);
}
static inline half half_broadcast(const float *p)
{
    return _mm256_broadcast_ss(p);
}
static inline half half_fma(half a, half b, half c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* Column j of the rows becomes row j. */
static inline void vec_transpose(vec rows[VEC_LANES])
{
    vec t[VEC_LANES];

    KERNEL_UNROLL
    for (int32_t i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    KERNEL_UNROLL
    for (int32_t i = 0; i < 16; i++) {
        const __m512d low = _mm512_castps_pd(t[i / 4 * 4 + i % 4 / 2]), high = _mm512_castps_pd(t[i / 4 * 4 + i % 4 / 2 + 2]);

        rows[i] = _mm512_castpd_ps(i % 2 == 0 ? _mm512_unpacklo_pd(low, high) : _mm512_unpackhi_pd(low, high));
    }
    /* rows[4 * g + j] now holds columns j, 4 + j, 8 + j, 12 + j of rows 4 * g .. 4 * g + 3 */
    KERNEL_UNROLL
    for (int32_t j = 0; j < 4; j++) {
        vec even_low = _mm512_shuffle_f32x4(rows[j], rows[4 + j], 0x88);
        vec odd_low = _mm512_shuffle_f32x4(rows[j], rows[4 + j], 0xdd);
        vec even_high = _mm512_shuffle_f32x4(rows[8 + j], rows[12 + j], 0x88);
        vec odd_high = _mm512_shuffle_f32x4(rows[8 + j], rows[12 + j], 0xdd);

        t[j] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
        t[4 + j] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
        t[8 + j] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
        t[12 + j] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
    }
    KERNEL_UNROLL
    for (int32_t i = 0; i < 16; i++) {
        rows[i] = t[i];
    }
}

typedef __m512i ivec;
typedef __m512i iquad;   /* four bytes of x in every lane */
typedef __m512i iweight; /* four weights a lane */

static inline ivec ivec_zero(void)
{
    return _mm512_setzero_si512();
}
static inline void ivec_store(int32_t *p, ivec a)
{
    _mm512_storeu_si512(p, a);
}
static inline void ivec_store_part(int32_t *p, ivec a, int32_t n)
{
    _mm512_mask_storeu_epi32(p, (__mmask16)((1u << n) - 1u), a);
}
static inline iquad iquad_broadcast(const uint8_t *p)
{
    int32_t four;

    memcpy(&four, p, sizeof(four));
    return _mm512_set1_epi32(four);
}
static inline iweight iweight_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}
static inline ivec ivec_dot(ivec acc, iquad x, iweight w)
{
    return _mm512_dpbusd_epi32(acc, x, w);
}
/* Four weights of one lane, to their place in a vector of weights. */
static inline void iweight_pack(uint8_t *vector, int32_t lane, const int8_t four[4])
{
    memcpy(vector + lane * 4, four, 4);
}
/* Depthwise: a byte and a weight of 16 bits in every lane of 32. */
static inline ivec ivec_load_bytes(const uint8_t *p, int32_t n)
{
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8((__mmask16)((1u << n) - 1u), p));
}
static inline ivec ivec_load(const int32_t *p)
{
    return _mm512_loadu_si512(p);
}
static inline ivec ivec_multiply_add(ivec acc, ivec x, ivec w)
{
    return _mm512_dpwssd_epi32(acc, x, w);
}

#endif
