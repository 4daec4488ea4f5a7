/*
 * qem.c - see qem.h. The codes need not be kept: counts and sums of the numbers on each level hold all of B'B and B'x.
 */
#include "qem.h"

#include "../common/lanes.h"

#include <mqbench/plugin.h>

#include <float.h>
#include <math.h>

#define RIDGE 1e-4
#define CHUNK 1024 /* floats that stay in the first-level cache while all thresholds pass over them */

void qem_start(int bits, int nonnegative, double rms, double *v)
{
    /* J. Max, 1960, table II: the outermost of 2^b evenly spaced levels; a rectified variable has half of 2^(b+1). */
    static const double reach[] = {0.0, 0.798, 1.494, 2.051, 2.514, 2.916};
    for (int j = 0; j < bits; j++)
        v[j] = rms * reach[nonnegative ? bits + 1 : bits] * (1 << j) / ((1 << bits) - 1);
}

/* What code c takes of v[j]. */
static double factor(const struct qem_table *table, unsigned code, int j)
{
    return code >> j & 1 ? 1.0 : table->nonnegative ? 0.0 : -1.0;
}

static double level_of(const struct qem_table *table, const double *v, unsigned code)
{
    double level = 0.0;
    for (int j = 0; j < table->bits; j++)
        level += factor(table, code, j) * v[j];
    return level;
}

void qem_table_make(int bits, int nonnegative, const double *v, struct qem_table *table)
{
    table->bits = bits;
    table->levels = 1 << bits;
    table->nonnegative = nonnegative;
    for (int i = 0; i < table->levels; i++) { /* insertion: equal levels stay in the order of their codes */
        float level = (float)level_of(table, v, (unsigned)i);
        int at = i;
        for (; at > 0 && table->level[at - 1] > level; at--) {
            table->level[at] = table->level[at - 1];
            table->code[at] = table->code[at - 1];
        }
        table->level[at] = level;
        table->code[at] = (uint8_t)i;
    }
    table->threshold[0] = -INFINITY;
    for (int i = 1; i < table->levels; i++)
        table->threshold[i] = 0.5f * table->level[i - 1] + 0.5f * table->level[i];
}

static inline __attribute__((always_inline)) void gather_above(const float *x, int n, float threshold, double *count,
                                                               double *sum)
{
    float ones[LANES_BLOCK], values[LANES_BLOCK];
    double counts[LANES_COUNT] = {0}, sums[LANES_COUNT] = {0};
    for (int k = 0; k < n; k += LANES_BLOCK) {
        for (int i = 0; i < LANES_BLOCK; i++) {
            float v = x[k + i];
            ones[i] = v > threshold ? 1.0f : 0.0f;
            values[i] = v > threshold ? v : 0.0f;
        }
        lanes_add(ones, counts);
        lanes_add(values, sums);
    }
    *count += lanes_join(counts);
    *sum += lanes_join(sums);
}

MQB_MULTIVERSION
static void gather_chunks(const float *threshold, int levels, const float *x, int64_t n, double *sums)
{
    for (int64_t k = 0; k < n; k += CHUNK) {
        int size = n - k < CHUNK ? (int)(n - k) : CHUNK;
        for (int i = 0; i < levels; i++)
            gather_above(x + k, size, threshold[i], &sums[i], &sums[QEM_MAX_LEVELS + i]);
    }
}

void qem_gather(const struct qem_table *table, const float *x, int64_t n, double *sums)
{
    int64_t whole = n / LANES_BLOCK * LANES_BLOCK;
    gather_chunks(table->threshold, table->levels, x, whole, sums);
    if (whole < n) {
        float rest[LANES_BLOCK];
        for (int i = 0; i < LANES_BLOCK; i++)
            rest[i] = whole + i < n ? x[whole + i] : -INFINITY; /* above no threshold */
        gather_chunks(table->threshold, table->levels, rest, LANES_BLOCK, sums);
    }
}

/* Solves a d = r for a symmetric positive definite a, by elimination. 0 if it is not. */
static int solve(int n, double a[QEM_MAX_BITS][QEM_MAX_BITS], double *r)
{
    for (int i = 0; i < n; i++) {
        if (!(a[i][i] > 0.0))
            return 0;
        for (int k = i + 1; k < n; k++) {
            double part = a[k][i] / a[i][i];
            for (int j = i; j < n; j++)
                a[k][j] -= part * a[i][j];
            r[k] -= part * r[i];
        }
    }
    for (int i = n - 1; i >= 0; i--) {
        for (int j = i + 1; j < n; j++)
            r[i] -= a[i][j] * r[j];
        r[i] /= a[i][i];
    }
    return 1;
}

void qem_update(const struct qem_table *table, const double *sums, double keep, double *v)
{
    int bits = table->bits, levels = table->levels;
    double a[QEM_MAX_BITS][QEM_MAX_BITS] = {{0}}, d[QEM_MAX_BITS] = {0}, moved[QEM_MAX_BITS], reach = 0.0;
    for (int j = 0; j < bits; j++)
        a[j][j] = RIDGE;
    /* For d = v' - v: the ridge then pulls d to 0, and what is summed are residuals, not numbers. */
    for (int i = 0; i < levels; i++) {
        double next_count = i + 1 < levels ? sums[i + 1] : 0.0, next_sum = i + 1 < levels ? sums[QEM_MAX_LEVELS + i + 1] : 0.0;
        double count = sums[i] - next_count, residual = sums[QEM_MAX_LEVELS + i] - next_sum;
        residual -= count * level_of(table, v, table->code[i]);
        for (int j = 0; j < bits; j++) {
            double b = factor(table, table->code[i], j);
            d[j] += b * residual;
            for (int k = 0; k < bits; k++)
                a[j][k] += count * b * factor(table, table->code[i], k);
        }
    }
    if (!solve(bits, a, d))
        return;
    for (int j = 0; j < bits; j++) {
        moved[j] = v[j] + (1.0 - keep) * d[j];
        reach += fabs(moved[j]);
    }
    if (!(reach <= (double)FLT_MAX)) /* also if it is not a number */
        return;
    for (int j = 0; j < bits; j++)
        v[j] = moved[j];
}
