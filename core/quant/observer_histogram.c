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

/* Adds up to BLOCK numbers in their order. A zero only counts, and rectified tensors are half zeros: they are counted apart. */
static int add_block(struct mqb_histogram *histogram, const float *x, int n, double per_unit)
{
    float rest[BLOCK];
    int32_t bins[BLOCK], used[BLOCK];
    int num_used = 0;
    if (n < BLOCK) {
        memset(rest, 0, sizeof rest);
        x = memcpy(rest, x, (size_t)n * sizeof *x);
    }
    block_bins(x, histogram->limit, per_unit, bins);
    for (int i = 0; i < n; i++) {
        used[num_used] = i;
        num_used += x[i] != 0.0f;
    }
    for (int k = 0; k < num_used; k++) {
        double v = (double)x[used[k]];
        int32_t bin = bins[used[k]];
        histogram->bins[bin].count += 1.0;
        histogram->bins[bin].sum += v;
        histogram->bins[bin].square += v * v;
    }
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
    return MQB_OK;
}

void mqb_histogram_release(struct mqb_histogram *histogram)
{
    mqb_deallocate(histogram->bins);
    histogram->bins = NULL;
}

double mqb_histogram_error(const struct mqb_histogram *histogram, const struct mqb_scheme *scheme, float scale,
                           int32_t zero_point)
{
    const float inv = 1.0f / scale;
    double error = 0.0;
    for (int i = 0; i < MQB_HISTOGRAM_BINS; i++) {
        const struct mqb_histogram_bin *bin = &histogram->bins[i];
        if (bin->count == 0.0)
            continue;
        float v = (float)(bin->sum / bin->count) * inv;
        v = v > 2048.0f ? 2048.0f : v < -2048.0f ? -2048.0f : v;
        int32_t code = (int32_t)mqb_rne_small(v) + zero_point;
        code = code < scheme->qmin ? scheme->qmin : code > scheme->qmax ? scheme->qmax : code;
        double level = (double)((float)(code - zero_point) * scale);
        double e = bin->square - 2.0 * level * bin->sum + level * level * bin->count;
        error += e > 0.0 ? e : 0.0;
    }
    return error;
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
