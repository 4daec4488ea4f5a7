/*
 * search.h - the power of two, as the scale of one channel, with the least squared error over all batches of calibration.
 *
 * Candidates are absolute, so errors add up over batches. Those that can win lie about the smallest scale whose threshold holds
 * all that was ever seen: the octave above it, where the largest code holds it too, and a few below. A later batch may move
 * that range up, so each batch also counts at the larger scales: one by one while some number in it still has a code other than
 * 0; beyond, its error is its sum of squares.
 */
#ifndef TQT_SEARCH_H
#define TQT_SEARCH_H

#include "../common/step_slice.h"

#include <math.h>

#define SEARCH_LEAST (-23) /* FLT_EPSILON, below which no scale of any quantizer falls */
#define SEARCH_MOST 126
#define SEARCH_OCTAVES 6

struct search {
    int top; /* exponent of the smallest scale whose threshold, 2^shift times as large, holds all numbers */
    double error[SEARCH_MOST - SEARCH_LEAST + 1];
};

/* `shift`: log2 of the codes of one sign; 2^shift times the scale must be a float. */
static inline int search_clip(int exponent, int shift)
{
    int most = SEARCH_MOST + 1 - shift;
    return exponent < SEARCH_LEAST ? SEARCH_LEAST : exponent > most ? most : exponent;
}

/* Squared error at one scale, or with scale 0 the sum of squares. */
MQB_MULTIVERSION
static double search_error(struct step_range r, int64_t size, const float *x)
{
    float block[LANES_BLOCK];
    double lanes[LANES_COUNT] = {0};
    for (int64_t k = 0; k < size; k += LANES_BLOCK) {
        int count = size - k < LANES_BLOCK ? (int)(size - k) : LANES_BLOCK;
        memset(block, 0, sizeof(block));
        MQB_LOOP_INDEPENDENT
        for (int i = 0; i < count; i++) {
            float code = step_round(x[k + i] * r.inv);
            code = code > r.p ? r.p : code;
            code = code < r.n ? r.n : code;
            block[i] = code * r.s - x[k + i];
        }
        for (int i = 0; i < LANES_BLOCK; i += LANES_COUNT) {
            for (int j = 0; j < LANES_COUNT; j++)
                lanes[j] += (double)block[i + j] * (double)block[i + j];
        }
    }
    return lanes_join(lanes);
}

/* One channel of a batch; finite numbers. */
static inline void search_observe(struct search *search, const struct mqb_scheme *scheme, int shift, int64_t size,
                                  const float *x)
{
    float largest = 0.0f;
    for (int64_t i = 0; i < size; i++)
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    int exponent = SEARCH_LEAST;
    if (largest > 0.0f)
        exponent = (frexpf(largest, &exponent) == 0.5f ? exponent - 1 : exponent) - shift;
    int top = search_clip(exponent, shift), e = search_clip(top - SEARCH_OCTAVES + 1, shift);
    for (; e <= search_clip(top + shift, shift); e++)
        search->error[e - SEARCH_LEAST] += search_error(step_range_of(scheme, ldexpf(1.0f, e), 0.0f), size, x);
    struct step_range none = {.n = (float)scheme->qmin, .p = (float)scheme->qmax};
    double squares = search_error(none, size, x);
    for (; e <= SEARCH_MOST; e++)
        search->error[e - SEARCH_LEAST] += squares;
    search->top = top > search->top ? top : search->top;
}

static inline int search_best(const struct search *search, int shift)
{
    int best = search_clip(search->top + 1, shift), last = search_clip(search->top - SEARCH_OCTAVES + 1, shift);
    for (int e = best - 1; e >= last; e--)
        best = search->error[e - SEARCH_LEAST] < search->error[best - SEARCH_LEAST] ? e : best;
    return best;
}

#endif
