/*
 * observer_histogram.c - a distribution of any number of batches in bounded memory.
 */
#include "quant/observer.h"

#include <mqbench/numeric.h>

#include <math.h>
#include <string.h>

#define HALF (MQB_HISTOGRAM_BINS / 2)

/* Bin i of the range [-L, L) becomes bin (i + BINS/2) / 2 of [-2L, 2L). */
static void merge_pairs(double *bins)
{
    double merged[MQB_HISTOGRAM_BINS] = {0};
    for (int i = 0; i < MQB_HISTOGRAM_BINS; i++)
        merged[(i + HALF) / 2] += bins[i];
    memcpy(bins, merged, sizeof(merged));
}

mqb_status mqb_histogram_add(struct mqb_histogram *histogram, float max_abs, const float *x, int64_t n, struct mqb_error *error)
{
    if (!histogram->count) {
        histogram->count = mqb_allocate(3 * MQB_HISTOGRAM_BINS * sizeof(double));
        if (!histogram->count)
            return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a histogram");
        histogram->sum = histogram->count + MQB_HISTOGRAM_BINS;
        histogram->square = histogram->sum + MQB_HISTOGRAM_BINS;
    }
    if (histogram->limit == 0.0 && max_abs > 0.0f) {
        int exponent;
        frexp((double)max_abs, &exponent); /* max_abs < 2^exponent */
        /* Zeros seen so far stand in the middle, whatever the range. */
        histogram->limit = ldexp(1.0, exponent);
    }
    while (histogram->limit <= (double)max_abs && max_abs > 0.0f) {
        merge_pairs(histogram->count);
        merge_pairs(histogram->sum);
        merge_pairs(histogram->square);
        histogram->limit *= 2.0;
    }
    double per_unit = histogram->limit > 0.0 ? HALF / histogram->limit : 0.0;
    for (int64_t i = 0; i < n; i++) {
        double v = (double)x[i];
        int bin = (int)((v + histogram->limit) * per_unit);
        if (histogram->limit == 0.0)
            bin = HALF;
        bin = bin < MQB_HISTOGRAM_BINS ? bin : MQB_HISTOGRAM_BINS - 1;
        histogram->count[bin] += 1.0;
        histogram->sum[bin] += v;
        histogram->square[bin] += v * v;
    }
    histogram->total += (double)n;
    return MQB_OK;
}

void mqb_histogram_release(struct mqb_histogram *histogram)
{
    mqb_deallocate(histogram->count);
    histogram->count = NULL;
}

double mqb_histogram_error(const struct mqb_histogram *histogram, const struct mqb_scheme *scheme, float scale,
                           int32_t zero_point)
{
    const float inv = 1.0f / scale;
    double error = 0.0;
    for (int i = 0; i < MQB_HISTOGRAM_BINS; i++) {
        double count = histogram->count[i];
        if (count == 0.0)
            continue;
        float v = (float)(histogram->sum[i] / count) * inv;
        v = v > 2048.0f ? 2048.0f : v < -2048.0f ? -2048.0f : v;
        int32_t code = (int32_t)mqb_rne_small(v) + zero_point;
        code = code < scheme->qmin ? scheme->qmin : code > scheme->qmax ? scheme->qmax : code;
        double level = (double)((float)(code - zero_point) * scale);
        double e = histogram->square[i] - 2.0 * level * histogram->sum[i] + level * level * count;
        error += e > 0.0 ? e : 0.0;
    }
    return error;
}

double mqb_histogram_quantile(const struct mqb_histogram *histogram, double q)
{
    double wanted = q * histogram->total, seen = 0.0, width = histogram->limit / HALF;
    for (int i = 0; i < MQB_HISTOGRAM_BINS; i++) {
        double count = histogram->count[i];
        if (count > 0.0 && seen + count >= wanted)
            return -histogram->limit + ((double)i + (wanted - seen) / count) * width;
        seen += count;
    }
    return histogram->limit;
}
