/*
 * tanh.h - tanh from additions, multiplications and one division, so that every C library gives the same bits. No branch, so
 * that loops over it vectorize. Relative error below 1e-14.
 *
 *   tanh |x| = -em / (2 + em),  em = exp(-2|x|) - 1 = 2^k (exp(r) - 1) + (2^k - 1)
 */
#ifndef ALGORITHMS_TANH_H
#define ALGORITHMS_TANH_H

#include "power.h"

static inline double series_tanh(double x)
{
    double y = 2.0 * (x < 0.0 ? x : -x), rest;
    y = y < -40.0 ? -40.0 : y; /* there tanh is 1 in double; NaN passes */
    double power = series_exp_parts(y, &rest);
    double em = power * rest + (power - 1.0);
    double t = -em / (2.0 + em);
    return x < 0.0 ? -t : t;
}

#endif
