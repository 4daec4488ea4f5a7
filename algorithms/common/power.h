/*
 * power.h - natural logarithm and exponential from additions, multiplications and one division, so that every C library gives
 * the same bits. No branch and no call (log2.h has one, to frexp), so that loops over them vectorize. Relative error below
 * 1e-13.
 */
#ifndef ALGORITHMS_POWER_H
#define ALGORITHMS_POWER_H

#include <stdint.h>
#include <string.h>

/* ln v of a normal v > 0: v = m 2^k with m in [sqrt 1/2, sqrt 2), ln m = 2 atanh((m - 1) / (m + 1)). */
static inline double series_ln(double v)
{
    const uint64_t root = 0x3fe6a09e667f3bcdu; /* sqrt 1/2 */
    uint64_t bits, exponent;
    memcpy(&bits, &v, sizeof(bits));
    exponent = ((bits - root) >> 52) & 0xfffu; /* k modulo 4096 */
    bits -= exponent << 52;
    double m, k = (double)(int32_t)(exponent ^ 0x800u) - 2048.0;
    memcpy(&m, &bits, sizeof(m));
    double t = (m - 1.0) / (m + 1.0), square = t * t;
    double sum = 1.0 / 17 + square * (1.0 / 19);
    sum = 1.0 / 15 + square * sum;
    sum = 1.0 / 13 + square * sum;
    sum = 1.0 / 11 + square * sum;
    sum = 1.0 / 9 + square * sum;
    sum = 1.0 / 7 + square * sum;
    sum = 1.0 / 5 + square * sum;
    sum = 1.0 / 3 + square * sum;
    return k * 0.69314718055994530942 + 2.0 * (t + t * square * sum);
}

/* 2^k, and in *rest e^r - 1, with e^y = 2^k e^r, k = rne(y / ln 2), for -700 <= y <= 700. */
static inline double series_exp_parts(double y, double *rest)
{
    const double magic = 6755399441055744.0; /* 1.5 * 2^52: adding it leaves no fraction, and k in the lowest bits */
    double shifted = y * 1.44269504088896338700 + magic;
    double k = shifted - magic;
    double r = (y - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof(bits));
    bits = (bits + 1023u) << 52;
    double power;
    memcpy(&power, &bits, sizeof(power));
    double sum = 1.0 + r * (1.0 / 13);
    sum = 1.0 + r * (1.0 / 12) * sum;
    sum = 1.0 + r * (1.0 / 11) * sum;
    sum = 1.0 + r * (1.0 / 10) * sum;
    sum = 1.0 + r * (1.0 / 9) * sum;
    sum = 1.0 + r * (1.0 / 8) * sum;
    sum = 1.0 + r * (1.0 / 7) * sum;
    sum = 1.0 + r * (1.0 / 6) * sum;
    sum = 1.0 + r * (1.0 / 5) * sum;
    sum = 1.0 + r * (1.0 / 4) * sum;
    sum = 1.0 + r * (1.0 / 3) * sum;
    sum = 1.0 + r * (1.0 / 2) * sum;
    *rest = r * sum;
    return power;
}

static inline double series_exp(double y)
{
    double rest, power = series_exp_parts(y, &rest);
    return power * (1.0 + rest);
}

#endif
