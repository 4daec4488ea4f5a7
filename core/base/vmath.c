/* vmath.c - elementary functions from additions, multiplications and divisions alone, so that every C library gives the
 * same bits. Series after range reduction; relative error below 1e-14. */
#include "base/base.h"

#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

#define LN2_HIGH 6.93147180369123816490e-01
#define LN2_LOW 1.90821492927058770002e-10
#define LN2 0.69314718055994530942

double mqb_exp(double x)
{
    if (x != x)
        return x;
    if (x > 709.0)
        return HUGE_VAL;
    if (x < -745.0)
        return 0.0;
    double k = nearbyint(x / LN2);
    double r = (x - k * LN2_HIGH) - k * LN2_LOW;
    double sum = 1.0;
    for (int i = 14; i >= 1; i--) /* Horner: |r| <= 0.35, r^15/15! < 1e-19 */
        sum = 1.0 + r / i * sum;
    return ldexp(sum, (int)k);
}

/* exp(x) - 1 for |x| <= 1 without cancellation. */
static double expm1_small(double x)
{
    double sum = 1.0;
    for (int i = 20; i >= 2; i--)
        sum = 1.0 + x / i * sum;
    return x * sum;
}

/* x = m * 2^e with m in [sqrt(1/2), sqrt(2)); returns ln m. */
static double split_ln(double x, int *e)
{
    double m = frexp(x, e);
    if (m < 0.70710678118654752440) {
        m *= 2.0;
        *e -= 1;
    }
    double s = (m - 1.0) / (m + 1.0), s2 = s * s, sum = 0.0;
    for (int i = 23; i >= 1; i -= 2)
        sum = sum * s2 + 1.0 / i;
    return 2.0 * s * sum;
}

double mqb_ln(double x)
{
    if (!(x > 0.0))
        return x == 0.0 ? -HUGE_VAL : x - x;
    if (x == HUGE_VAL)
        return x;
    int e;
    double ln_m = split_ln(x, &e);
    return e * LN2_HIGH + (ln_m + e * LN2_LOW);
}

#define BLOCK 16

/* mqb_ln without its special cases; frexp by the bits. */
MQB_MULTIVERSION
static void ln_block(const double *x, double *y)
{
    for (int i = 0; i < BLOCK; i++) {
        uint64_t bits;
        double m, e, sum = 0.0;
        memcpy(&bits, &x[i], sizeof bits);
        e = (double)(int32_t)(bits >> 52) - 1022.0;
        bits = (bits & 0xfffffffffffffull) | 1022ull << 52;
        memcpy(&m, &bits, sizeof m);
        bool low = m < 0.70710678118654752440;
        m = low ? m * 2.0 : m;
        e = low ? e - 1.0 : e;
        double s = (m - 1.0) / (m + 1.0), s2 = s * s;
        for (int k = 23; k >= 1; k -= 2)
            sum = sum * s2 + 1.0 / k;
        y[i] = e * LN2_HIGH + (2.0 * s * sum + e * LN2_LOW);
    }
}

void mqb_ln_each(const double *x, double *y, int n)
{
    int i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        ln_block(x + i, y + i);
    if (i < n) {
        double rest[BLOCK];
        for (int k = 0; k < BLOCK; k++)
            rest[k] = i + k < n ? x[i + k] : 1.0;
        ln_block(rest, rest);
        memcpy(y + i, rest, (size_t)(n - i) * sizeof *y);
    }
}

double mqb_log2(double x)
{
    if (!(x > 0.0) || x == HUGE_VAL)
        return mqb_ln(x);
    int e;
    double ln_m = split_ln(x, &e);
    return e + ln_m / LN2; /* exact at powers of two: ln_m is 0 there */
}

double mqb_tanh(double x)
{
    double a = fabs(x), t;
    if (a > 20.0)
        t = 1.0;
    else if (a < 0.4) {
        double em = expm1_small(2.0 * a);
        t = em / (em + 2.0);
    } else {
        double e = mqb_exp(-2.0 * a);
        t = (1.0 - e) / (1.0 + e);
    }
    return x < 0.0 ? -t : t;
}

/* sin and cos by quadrant, for |x| up to about 1e5. */
static void sin_cos(double x, double *s, double *c)
{
    double k = nearbyint(x * 0.63661977236758134308);
    double r = ((x - k * 1.57079632673412561417e+00) - k * 6.07710050630396597660e-11) - k * 2.02226624879595063154e-21;
    double r2 = r * r, sn = 1.0, cs = 1.0;
    for (int i = 20; i >= 2; i -= 2)
        sn = 1.0 - r2 / (i * (i + 1)) * sn;
    for (int i = 19; i >= 1; i -= 2)
        cs = 1.0 - r2 / (i * (i + 1)) * cs;
    sn *= r;
    switch ((long long)k & 3) {
    case 0: *s = sn, *c = cs; break;
    case 1: *s = cs, *c = -sn; break;
    case 2: *s = -sn, *c = -cs; break;
    default: *s = -cs, *c = sn; break;
    }
}

double mqb_sin(double x)
{
    double s, c;
    sin_cos(x, &s, &c);
    return s;
}

double mqb_cos(double x)
{
    double s, c;
    sin_cos(x, &s, &c);
    return c;
}
