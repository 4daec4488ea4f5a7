/*
 * vec_avx512.h - vectors of 16 for the kernels: AVX-512 with VNNI.
 */
#ifndef NATIVE_VEC_H
#define NATIVE_VEC_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VEC_NAME "avx512-vnni"
#define VEC_ISA native_isa_avx512
#define VEC_SCORE 100
#define VEC_LANES 16
#define VEC_TILE1 16 /* pixels, blocks of one vector */
#define VEC_TILE2 12 /* blocks of two */
#define VEC_UNROLL 2
#define IVEC_TILE1 16
#define IVEC_TILE2 12
#define VEC_DEPTHWISE_TILE 8
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
static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
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
static inline void quad_pack(const int8_t (*weight)[4], void *packed)
{
    memcpy(packed, weight, 64);
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
