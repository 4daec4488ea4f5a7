/*
 * vec_avx2.h - vectors of 8 for the kernels: AVX2 with FMA.
 *
 * Integers go through 16-bit multiply-add (255 * 128 * 2 fits 32 bits); the 8-bit one saturates.
 */
#ifndef NATIVE_VEC_H
#define NATIVE_VEC_H

#include "unroll.h"

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VEC_NAME "avx2"
#define VEC_ISA native_isa_avx2
#define VEC_SCORE 90
#define VEC_LANES 8
#define VEC_TILE1 12
#define VEC_TILE2 6
#define VEC_NARROW 4
#define VEC_GRID 6
#define VEC_UNROLL1 2 /* values of a run at a time */
#define VEC_UNROLL2 1
#define VEC_HALF 0 /* half a vector would cost as much as a whole one */
#define IVEC_TILE1 8
#define IVEC_TILE2 4
#define IVEC_UNROLL1 1
#define IVEC_UNROLL2 1
#define IVEC_QUAD_SIZE 8

typedef __m256 vec;

static inline __m256i vec_mask(int32_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vec vec_zero(void)
{
    return _mm256_setzero_ps();
}
static inline vec vec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
static inline vec vec_load_part(const float *p, int32_t n)
{
    return _mm256_maskload_ps(p, vec_mask(n));
}
static inline void vec_store(float *p, vec a)
{
    _mm256_storeu_ps(p, a);
}
static inline void vec_store_part(float *p, vec a, int32_t n)
{
    _mm256_maskstore_ps(p, vec_mask(n), a);
}
static inline vec vec_broadcast(const float *p)
{
    return _mm256_broadcast_ss(p);
}
static inline vec vec_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}
static inline vec vec_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}
static inline vec vec_scale(vec a, float factor)
{
    return _mm256_mul_ps(a, _mm256_set1_ps(factor));
}
static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* Column j of the rows becomes row j. */
static inline void vec_transpose(vec rows[VEC_LANES])
{
    vec t[VEC_LANES];

    KERNEL_UNROLL
    for (int32_t i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    KERNEL_UNROLL
    for (int32_t i = 0; i < 8; i++) {
        const __m256d low = _mm256_castps_pd(t[i / 4 * 4 + i % 4 / 2]), high = _mm256_castps_pd(t[i / 4 * 4 + i % 4 / 2 + 2]);

        rows[i] = _mm256_castpd_ps(i % 2 == 0 ? _mm256_unpacklo_pd(low, high) : _mm256_unpackhi_pd(low, high));
    }
    KERNEL_UNROLL
    for (int32_t j = 0; j < 4; j++) {
        vec low = rows[j], high = rows[4 + j];

        rows[j] = _mm256_permute2f128_ps(low, high, 0x20);
        rows[4 + j] = _mm256_permute2f128_ps(low, high, 0x31);
    }
}

typedef __m256i ivec;
typedef struct iquad {
    __m256i even, odd; /* bytes 0 and 2, 1 and 3, as 16-bit pairs */
} iquad;
typedef struct iweight {
    __m256i even, odd;
} iweight;

static inline ivec ivec_zero(void)
{
    return _mm256_setzero_si256();
}
static inline void ivec_store(int32_t *p, ivec a)
{
    _mm256_storeu_si256((__m256i *)p, a);
}
static inline void ivec_store_part(int32_t *p, ivec a, int32_t n)
{
    _mm256_maskstore_epi32(p, vec_mask(n), a);
}
static inline iquad iquad_broadcast(const uint8_t *p)
{
    const __m256i low = _mm256_set1_epi32(0x00ff00ff);
    int32_t four;

    memcpy(&four, p, sizeof(four));
    __m256i all = _mm256_set1_epi32(four);
    return (iquad){ _mm256_and_si256(all, low), _mm256_and_si256(_mm256_srli_epi32(all, 8), low) };
}
static inline iweight iweight_load(const uint8_t *p)
{
    return (iweight){ _mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 32)) };
}
static inline ivec ivec_dot(ivec acc, iquad x, iweight w)
{
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x.even, w.even));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x.odd, w.odd));
}
/* Four weights of one lane, to their place in a vector of weights. */
static inline void iweight_pack(uint8_t *vector, int32_t lane, const int8_t four[4])
{
    const int16_t even[2] = { four[0], four[2] }, odd[2] = { four[1], four[3] };

    memcpy(vector + lane * 4, even, 4);
    memcpy(vector + 32 + lane * 4, odd, 4);
}
/* Depthwise: a byte and a weight of 16 bits in every lane of 32. */
static inline ivec ivec_load_bytes(const uint8_t *p, int32_t n)
{
    uint64_t eight = 0;

    if (n == 8) {
        memcpy(&eight, p, 8);
    } else {
        memcpy(&eight, p, (size_t)n);
    }
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)eight));
}
static inline ivec ivec_load(const int32_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
static inline ivec ivec_multiply_add(ivec acc, ivec x, ivec w)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x, w));
}

#endif
