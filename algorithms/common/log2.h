/*
 * log2.h - log2 from additions, multiplications and divisions, so that every C library gives the same bits. Exact at powers of
 * two; else the relative error of ln m is below 1e-14.
 *
 *   x = m * 2^e, sqrt(1/2) <= m < sqrt(2);  ln m = 2 (u + u^3/3 + u^5/5 + ...),  u = (m - 1)/(m + 1),  |u| < 0.172
 */
#ifndef ALGORITHMS_LOG2_H
#define ALGORITHMS_LOG2_H

#include <math.h>

/* For finite x > 0. */
static inline double series_log2(double x)
{
    int e;
    double m = frexp(x, &e);
    if (m < 0.70710678118654752440) {
        m *= 2.0;
        e--;
    }
    double u = (m - 1.0) / (m + 1.0), square = u * u, sum = 0.0;
    for (int i = 23; i >= 1; i -= 2)
        sum = sum * square + 1.0 / i;
    return e + 2.0 * u * sum / 0.69314718055994530942;
}

#endif
