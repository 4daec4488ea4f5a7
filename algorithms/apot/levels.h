/*
 * levels.h - the levels of APoT in [0, 1] and the nearest of them.
 *
 * B bits give 2^B levels, all sums of one number of each set, divided by the largest sum. With n = B/2 and o = B mod 2:
 *   n sets { 0, 2^-(i+1), 2^-(n+i+1), 2^-(2n+o+i+1) }, i = 0 .. n-1, and for odd B { 0, 2^-(2n+1) }
 * B = 1: {0, 1}.
 *
 * [0, 1] is cut into equal buckets, so narrow that none holds two of the bounds at which the nearest level changes: a look into
 * the bucket and one comparison find the level.
 */
#ifndef ALGORITHMS_APOT_LEVELS_H
#define ALGORITHMS_APOT_LEVELS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LEVELS_MAX_BITS 7
#define LEVELS_MAX (1 << LEVELS_MAX_BITS)
#define LEVELS_MAX_BUCKETS 2048

struct levels {
    int32_t count;
    float value[LEVELS_MAX];
    float buckets; /* a power of two, so that finding the bucket does not round */
    float bound[LEVELS_MAX_BUCKETS + 1];
    float first[LEVELS_MAX_BUCKETS + 2]; /* the level where a bucket begins; above its bound, that where the next one begins */
};

/* Bit k: half way between levels k and k + 1 the published code takes the upper one. Its order of comparison is that in which
 * Python's hash table keeps the sums. */
static inline uint64_t levels_paper_ties(int bits)
{
    static const uint64_t ties[LEVELS_MAX_BITS + 1] = {0, 0, 0x6, 0x2a, 0x6da8, 0x2a8aa2cc, 0x6ad6da8d46a28880, 0};
    return ties[bits];
}

static inline void levels_fill(struct levels *levels, int bits)
{
    int pairs = bits / 2, odd = bits % 2, count = 1;
    levels->value[0] = 0.0f;
    for (int set = 0; set < pairs + odd; set++) {
        int exponents[3] = {set + 1, pairs + set + 1, 2 * pairs + odd + set + 1}, members = 3, sums = count;
        if (set == pairs) {
            exponents[0] = 2 * pairs + 1;
            members = 1;
        }
        for (int m = 0; m < members; m++) {
            for (int i = 0; i < sums; i++)
                levels->value[count++] = levels->value[i] + ldexpf(1.0f, -exponents[m]);
        }
    }
    for (int i = 1; i < count; i++) { /* insertion */
        float v = levels->value[i];
        int at = i;
        for (; at > 0 && levels->value[at - 1] > v; at--)
            levels->value[at] = levels->value[at - 1];
        levels->value[at] = v;
    }
    float inverse = 1.0f / levels->value[count - 1];
    for (int i = 0; i < count; i++)
        levels->value[i] *= inverse;
    levels->value[count - 1] = 1.0f;
    levels->count = count;
}

/* The next float towards infinity, or towards 0, of a positive number. */
static inline float levels_neighbour(float v, int up)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    bits = up ? bits + 1 : bits - 1;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

/* The largest number for which the lower of two neighbours is taken. */
static inline float levels_bound(float low, float high, int paper, int upper_at_tie)
{
    float bound = (float)(((double)low + (double)high) / 2.0);
    for (int down = 1; down >= 0; down--) {
        for (;;) {
            float v = down ? bound : levels_neighbour(bound, 1);
            /* Exactly; the published code rounds both distances to float. */
            double below = (double)v - (double)low, above = (double)high - (double)v;
            if (paper) {
                below = (double)(v - low);
                above = (double)(high - v);
            }
            int lower = below < above || (below == above && !upper_at_tie);
            if (lower == down)
                break;
            bound = down ? levels_neighbour(bound, 0) : v;
        }
    }
    return bound;
}

static inline void levels_make(struct levels *levels, int bits, int paper)
{
    float bounds[LEVELS_MAX], narrowest = 1.0f;
    uint64_t ties = paper ? levels_paper_ties(bits) : 0;
    levels_fill(levels, bits);
    for (int k = 0; k + 1 < levels->count; k++) {
        bounds[k] = levels_bound(levels->value[k], levels->value[k + 1], paper, (int)(ties >> (k & 63) & 1));
        if (k > 0 && bounds[k] - bounds[k - 1] < narrowest)
            narrowest = bounds[k] - bounds[k - 1];
    }
    int buckets = 1, k = 0;
    while (1.0f / (float)buckets >= narrowest && buckets < LEVELS_MAX_BUCKETS)
        buckets *= 2;
    levels->buckets = (float)buckets;
    for (int b = 0; b <= buckets; b++) {
        int changes = k + 1 < levels->count && bounds[k] < (float)(b + 1) / levels->buckets;
        levels->first[b] = levels->value[k];
        levels->bound[b] = changes ? bounds[k] : 2.0f;
        k += changes;
    }
    levels->first[buckets + 1] = 1.0f;
}

/* The level next to m in [0, 1]; 1 for what is above, and for NaN. */
static inline __attribute__((always_inline)) float levels_nearest(const struct levels *levels, float m)
{
    m = m <= 1.0f ? m : 1.0f;
    int32_t b = (int32_t)(m * levels->buckets);
    return levels->first[b + (m > levels->bound[b])];
}

/* The index of a level. */
static inline int32_t levels_index(const struct levels *levels, float level)
{
    int32_t k = 0;
    while (k + 1 < levels->count && levels->value[k] < level)
        k++;
    return k;
}

#endif
