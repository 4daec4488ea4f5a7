/*
 * tanh.h - tanh from additions, multiplications and one division, so that every C library gives the same bits. No branch, so
 * that loops over it vectorize. Relative error below 1e-14.
 *
 *   tanh |x| = -em / (2 + em),  em = exp(-2|x|) - 1 = 2^k (exp(r) - 1) + (2^k - 1),  k = rne(-2|x| / ln 2),  |r| <= ln 2 / 2
 */
#ifndef ALGORITHMS_TANH_H
#define ALGORITHMS_TANH_H

#include <stdint.h>
#include <string.h>

static inline double series_tanh(double x)
{
    const double magic = 6755399441055744.0; /* 1.5 * 2^52: adding it leaves no fraction, and k in the lowest bits */
    double y = 2.0 * (x < 0.0 ? x : -x);
    y = y < -40.0 ? -40.0 : y; /* there tanh is 1 in double; NaN passes */
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
    double em = power * (r * sum) + (power - 1.0);
    double t = -em / (2.0 + em);
    return x < 0.0 ? -t : t;
}

#endif
