/*
 * mqbench/numeric.h - rounding that both sides of the plugin boundary must do alike. No C library call: a loop over these
 * vectorizes on every instruction set, and the result does not depend on the libm at hand.
 */
#ifndef MQBENCH_NUMERIC_H
#define MQBENCH_NUMERIC_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Before a loop whose iterations touch only their own index, so that arrays which are the same do not keep it scalar. */
#if defined(__clang__)
#define MQB_LOOP_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define MQB_LOOP_INDEPENDENT _Pragma("GCC ivdep")
#else
#define MQB_LOOP_INDEPENDENT
#endif

/* Half to even, for |v| <= 2^22: adding 1.5 * 2^23 leaves no fraction bits. Larger values must be clamped first. */
static inline float mqb_rne_small(float v)
{
    return (v + 12582912.0f) - 12582912.0f;
}

/* 2^rne(log2 s) for a normal s > 0, where the logarithm is first rounded to float32 as the reference does. That rounding only
 * matters within a few ulp of sqrt(2) * 2^k, where a series gives the logarithm; elsewhere a comparison decides. */
static inline float mqb_pot_round(float s)
{
    uint32_t bits;
    int32_t exponent;
    double mantissa, delta;
    memcpy(&bits, &s, sizeof(bits));
    exponent = (int32_t)(bits >> 23) - 127;
    bits = (bits & 0x7fffffu) | (127u << 23);
    float m;
    memcpy(&m, &bits, sizeof(m)); /* s = m * 2^exponent, 1 <= m < 2 */
    mantissa = m;
    delta = mantissa * 0.70710678118654752440 - 1.0;
    if (delta > 1e-4 || delta < -1e-4) {
        exponent += delta > 0.0;
    } else {
        float log2 = (float)(exponent + 0.5 + delta * (1.0 - delta * (0.5 - delta / 3.0)) * 1.4426950408889634074);
        exponent = (int32_t)mqb_rne_small(log2);
    }
    exponent = exponent > 127 ? 127 : exponent < -126 ? -126 : exponent;
    bits = (uint32_t)(exponent + 127) << 23;
    memcpy(&s, &bits, sizeof(s));
    return s;
}

#ifdef __cplusplus
}
#endif
#endif
