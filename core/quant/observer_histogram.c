/*
 * observer_histogram.c - a distribution of any number of batches in bounded memory.
 */
#include "quant/observer.h"

#include <mqbench/numeric.h>
#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

#define HALF (MQB_HISTOGRAM_BINS / 2)

/* Bin i of the range [-L, L) becomes bin (i + BINS/2) / 2 of [-2L, 2L). */
static void merge_pairs(struct mqb_histogram_bin *bins)
{
    struct mqb_histogram_bin merged[HALF];
    for (int i = 0; i < HALF; i++) {
        const struct mqb_histogram_bin *a = &bins[2 * i], *b = &bins[2 * i + 1];
        merged[i] = (struct mqb_histogram_bin){a->count + b->count, a->sum + b->sum, a->square + b->square, 0.0};
    }
    memset(bins, 0, MQB_HISTOGRAM_BINS * sizeof(*bins));
    memcpy(bins + HALF / 2, merged, sizeof(merged));
}

#define BLOCK 256

/* Bins of a block of numbers; the limit is not 0. */
MQB_MULTIVERSION
static void block_bins(const float *x, double limit, double per_unit, int32_t *bins)
{
    for (int i = 0; i < BLOCK; i++) {
        int32_t bin = (int32_t)(((double)x[i] + limit) * per_unit);
        bins[i] = bin < MQB_HISTOGRAM_BINS ? bin : MQB_HISTOGRAM_BINS - 1;
    }
}

/* A bin as one vector; the compiler makes two of it where vectors are shorter. */
typedef double bin_lanes __attribute__((vector_size(4 * sizeof(double)), aligned(sizeof(double)), may_alias));

/* Adds numbers to their bins in their order: a bin's sums depend on it. */
MQB_MULTIVERSION
static void add_to_bins(struct mqb_histogram_bin *bins, const float *x, const int32_t *bin, int n)
{
    for (int k = 0; k < n; k++) {
        double v = (double)x[k];
        *(bin_lanes *)(void *)&bins[bin[k]] += (bin_lanes){1.0, v, v * v, 0.0};
    }
}

/* Adds up to BLOCK numbers. A zero only counts, and rectified tensors are half zeros: they are counted apart. */
static int add_block(struct mqb_histogram *histogram, const float *x, int n, double per_unit)
{
    float rest[BLOCK], used[BLOCK];
    int32_t bins[BLOCK];
    int num_used = 0;
    if (n < BLOCK) {
        memset(rest, 0, sizeof rest);
        x = memcpy(rest, x, (size_t)n * sizeof *x);
    }
    block_bins(x, histogram->limit, per_unit, bins);
    for (int i = 0; i < n; i++) {
        used[num_used] = x[i];
        bins[num_used] = bins[i];
        num_used += x[i] != 0.0f;
    }
    add_to_bins(histogram->bins, used, bins, num_used);
    return n - num_used;
}

mqb_status mqb_histogram_add(struct mqb_histogram *histogram, float max_abs, const float *x, int64_t n, struct mqb_error *error)
{
    if (!histogram->bins && !(histogram->bins = mqb_allocate_array(MQB_HISTOGRAM_BINS, sizeof(*histogram->bins))))
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a histogram");
    if (histogram->limit == 0.0 && max_abs > 0.0f) {
        int exponent;
        frexp((double)max_abs, &exponent); /* max_abs < 2^exponent */
        /* Zeros seen so far stand in the middle, whatever the range. */
        histogram->limit = ldexp(1.0, exponent);
    }
    while (histogram->limit <= (double)max_abs && max_abs > 0.0f) {
        merge_pairs(histogram->bins);
        histogram->limit *= 2.0;
    }
    double per_unit = histogram->limit > 0.0 ? HALF / histogram->limit : 0.0;
    int64_t zeros = histogram->limit > 0.0 ? 0 : n;
    for (int64_t i = 0; i < n && histogram->limit > 0.0; i += BLOCK)
        zeros += add_block(histogram, x + i, n - i < BLOCK ? (int)(n - i) : BLOCK, per_unit);
    histogram->bins[HALF].count += (double)zeros;
    histogram->total += (double)n;
    histogram->zeros += (double)zeros;
    return MQB_OK;
}

void mqb_histogram_release(struct mqb_histogram *histogram)
{
    mqb_deallocate(histogram->bins);
    histogram->bins = NULL;
}

/* The parameters that are compared, side by side. */
struct ranges {
    float inverse[MQB_HISTOGRAM_MAX_RANGES], scale[MQB_HISTOGRAM_MAX_RANGES];
    float low[MQB_HISTOGRAM_MAX_RANGES], high[MQB_HISTOGRAM_MAX_RANGES]; /* ends, as codes from zero */
    double error[MQB_HISTOGRAM_MAX_RANGES];
};

/* Adds the error of one bin, all of whose numbers get the code of their mean, under all parameters at once. */
MQB_MULTIVERSION
static void add_bin_error(const struct mqb_histogram_bin *bin, struct ranges *ranges)
{
    const float mean = (float)(bin->sum / bin->count);
    const double count = bin->count, sum = bin->sum, square = bin->square;
    for (int i = 0; i < MQB_HISTOGRAM_MAX_RANGES; i++) {
        float v = mean * ranges->inverse[i];
        v = v > 2048.0f ? 2048.0f : v;
        v = v < -2048.0f ? -2048.0f : v;
        v = mqb_rne_small(v);
        v = v < ranges->low[i] ? ranges->low[i] : v;
        v = v > ranges->high[i] ? ranges->high[i] : v;
        double level = (double)(v * ranges->scale[i]);
        double e = square - 2.0 * level * sum + level * level * count;
        ranges->error[i] += e > 0.0 ? e : 0.0;
    }
}

void mqb_histogram_errors(const struct mqb_histogram *histogram, const struct mqb_scheme *scheme, const float *scales,
                          const int32_t *zero_points, int n, double *errors)
{
    struct ranges ranges = {.error = {0.0}};
    for (int i = 0; i < n; i++) {
        ranges.inverse[i] = 1.0f / scales[i];
        ranges.scale[i] = scales[i];
        ranges.low[i] = (float)(scheme->qmin - zero_points[i]);
        ranges.high[i] = (float)(scheme->qmax - zero_points[i]);
    }
    for (int i = 0; i < MQB_HISTOGRAM_BINS; i++)
        if (histogram->bins[i].count != 0.0)
            add_bin_error(&histogram->bins[i], &ranges);
    memcpy(errors, ranges.error, (size_t)n * sizeof *errors);
}

double mqb_histogram_quantile(const struct mqb_histogram *histogram, double q)
{
    double wanted = q * histogram->total, seen = 0.0, width = histogram->limit / HALF;
    for (int i = 0; i < MQB_HISTOGRAM_BINS; i++) {
        double count = histogram->bins[i].count;
        if (count > 0.0 && seen + count >= wanted)
            return -histogram->limit + ((double)i + (wanted - seen) / count) * width;
        seen += count;
    }
    return histogram->limit;
}
