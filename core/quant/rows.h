/*
 * rows.h - what the loops over rows of codes share: blocks that the compiler turns into vectors, and rounding. Room-internal.
 */
#ifndef MQB_ROWS_H
#define MQB_ROWS_H

#include <mqbench/backend.h>

#include <stdint.h>
#include <string.h>

#define BLOCK 16 /* elements whose loop the compiler unrolls */
#define INLINE static inline __attribute__((always_inline))
/* Before a short loop that would be unrolled before the compiler looks for vectors, and then stay scalar. */
#if defined(__GNUC__) && !defined(__clang__)
#define ROLLED _Pragma("GCC unroll 1")
#else
#define ROLLED
#endif

/* Widening and narrowing are loops of their own: together with the arithmetic they are vectorized badly. */
INLINE void load(const uint8_t *codes, int32_t *whole, const int32_t count)
{
    for (int32_t j = 0; j < count; j++)
        whole[j] = codes[j];
}

INLINE void store(const int32_t *whole, uint8_t *codes, const int32_t count)
{
#if defined(__GNUC__) && defined(__SSE2__)
    if (count == BLOCK) { /* narrowed in a register and then stored: faster than both at once */
        typedef uint8_t bytes __attribute__((vector_size(BLOCK)));
        uint8_t narrow[BLOCK];
        for (int32_t j = 0; j < BLOCK; j++)
            narrow[j] = (uint8_t)whole[j];
        bytes vector;
        memcpy(&vector, narrow, sizeof(vector));
        __asm__("" : "+x"(vector));
        memcpy(codes, &vector, sizeof(vector));
        return;
    }
#endif
    for (int32_t j = 0; j < count; j++)
        codes[j] = (uint8_t)whole[j];
}

/* |v| <= 1024 here. Adding and taking away 1.5 * 2^23 (1.5 * 2^52) rounds half to even; what was rounded off is exact, and
 * tells the rest. */
#define ROUND_FUNCTION(name, type, big)                                                                                        \
    INLINE type name(type v, const int rounding)                                                                               \
    {                                                                                                                          \
        const type even = (v + (big)) - (big), rest = v - even;                                                                \
        const type one = (type)1, none = (type)0, half = (type)0.5;                                                            \
        if (rounding == MQB_ROUND_RNE)                                                                                         \
            return even;                                                                                                       \
        if (rounding == MQB_ROUND_RHU)                                                                                         \
            return even + (rest == half ? one : none);                                                                         \
        if (rounding == MQB_ROUND_RHA)                                                                                         \
            return even + (((rest == half) & (v > none)) ? one : none) - (((rest == -half) & (v < none)) ? one : none);        \
        if (rounding == MQB_ROUND_FLOOR)                                                                                       \
            return even - (rest < none ? one : none);                                                                          \
        return even - (((rest < none) & (v > none)) ? one : none) + (((rest > none) & (v < none)) ? one : none);               \
    }

ROUND_FUNCTION(round_f32, float, 12582912.0f)
ROUND_FUNCTION(round_f64, double, 6755399441055744.0)

#endif
