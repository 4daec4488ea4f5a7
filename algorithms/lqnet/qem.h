/*
 * qem.h - levels that are sums of a learned basis, and the step that fits the basis to numbers: quantization-error
 * minimisation (Zhang et al., ECCV 2018, section 3.2).
 *
 * A basis v of b numbers spans 2^b levels, one a code: the sum of +-v[j] (signed), or of 0 or v[j] (never negative; bit j of
 * the code says which). One step puts each number on its nearest level and then takes the basis with the least squared error
 * for these codes B, (B'B + e I) v' = B'x + e v with e = 1e-4: the released code's form, which leaves alone what the numbers do
 * not determine. Neither half of a step can raise sum (x - Bv)^2.
 */
#ifndef LQNET_QEM_H
#define LQNET_QEM_H

#include <stdint.h>

#define QEM_MAX_BITS 4
#define QEM_MAX_LEVELS 16
#define QEM_SUMS (2 * QEM_MAX_LEVELS)

struct qem_table {
    int bits, levels, nonnegative;
    float level[QEM_MAX_LEVELS];     /* increasing */
    float threshold[QEM_MAX_LEVELS]; /* above threshold[i]: level i or a higher one; the first is -infinity */
    uint8_t code[QEM_MAX_LEVELS];
};

/* The basis of the evenly spaced levels that are best for a normal variable, rectified if `nonnegative`. The released code
 * starts from a top level of 1.35 standard deviations at any width, which is far from the end at 4 bits. */
void qem_start(int bits, int nonnegative, double rms, double *v);
void qem_table_make(int bits, int nonnegative, const double *v, struct qem_table *table);
/* Adds to sums[i] how many of n numbers lie above threshold i, to sums[QEM_MAX_LEVELS + i] their sum. */
void qem_gather(const struct qem_table *table, const float *x, int64_t n, double *sums);
/* One step on gathered sums: v = keep * v + (1 - keep) * v'. v stays as it is if the result would not be finite. */
void qem_update(const struct qem_table *table, const double *sums, double keep, double *v);

#endif
