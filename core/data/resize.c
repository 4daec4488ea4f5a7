/* resize.c - bilinear scaling with antialiasing, to the bit as Pillow's Image.resize(BILINEAR) (libImaging/Resample.c). */
#include "data/source.h"

#include <string.h>

#define PRECISION 22 /* bits of a weight; 8 bits of pixel and a sign fit beside them */

/* For each output position of one axis: where its window of input pixels begins, how many, and their weights. */
struct axis {
    int32_t num_taps; /* room for each position */
    int32_t *first, *count, *weight;
};

static void axis_deinit(struct axis *axis)
{
    mqb_deallocate(axis->first);
    mqb_deallocate(axis->count);
    mqb_deallocate(axis->weight);
}

/* Positions [start, start + num) of an axis scaled from `from` to `to` pixels. */
static mqb_status axis_init(struct axis *axis, int32_t from, int32_t to, int32_t start, int32_t num, struct mqb_error *error)
{
    double scale = (double)from / to, filter_scale = scale < 1 ? 1 : scale, support = filter_scale;
    int32_t whole = (int32_t)support;
    axis->num_taps = (whole < support ? whole + 1 : whole) * 2 + 1;
    axis->first = mqb_allocate_array((size_t)num, sizeof *axis->first);
    axis->count = mqb_allocate_array((size_t)num, sizeof *axis->count);
    size_t num_weights;
    bool fits = !__builtin_mul_overflow((size_t)num, (size_t)axis->num_taps, &num_weights);
    axis->weight = fits ? mqb_allocate_array(num_weights, sizeof *axis->weight) : NULL;
    double *taps = mqb_allocate_array((size_t)axis->num_taps, sizeof *taps);
    if (axis->first == NULL || axis->count == NULL || axis->weight == NULL || taps == NULL) {
        mqb_deallocate(taps);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory to scale a picture side from %d to %d pixels", from, to);
    }
    for (int32_t i = 0; i < num; i++) {
        double center = (start + i + 0.5) * scale, sum = 0;
        int32_t low = (int32_t)(center - support + 0.5), high = (int32_t)(center + support + 0.5);
        low = low < 0 ? 0 : low;
        high = high > from ? from : high;
        for (int32_t k = 0; k < high - low; k++) {
            double distance = (k + low - center + 0.5) * (1 / filter_scale);
            distance = distance < 0 ? -distance : distance;
            taps[k] = distance < 1 ? 1 - distance : 0;
            sum += taps[k];
        }
        for (int32_t k = 0; k < high - low; k++)
            axis->weight[(size_t)i * (size_t)axis->num_taps + (size_t)k] =
                (int32_t)(0.5 + (sum != 0 ? taps[k] / sum : taps[k]) * (1 << PRECISION));
        axis->first[i] = low;
        axis->count[i] = high - low;
    }
    mqb_deallocate(taps);
    return MQB_OK;
}

static uint8_t rounded(int32_t sum)
{
    int32_t value = sum >> PRECISION;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* One row of the picture to out[cols][channels]. */
static void scale_row(const struct axis *axis, const uint8_t *in, int32_t cols, int32_t channels, uint8_t *out)
{
    for (int32_t x = 0; x < cols; x++) {
        const int32_t *weight = axis->weight + (size_t)x * (size_t)axis->num_taps;
        const uint8_t *from = in + (size_t)axis->first[x] * (size_t)channels;
        int32_t sum[4] = {1 << (PRECISION - 1), 1 << (PRECISION - 1), 1 << (PRECISION - 1), 1 << (PRECISION - 1)};
        for (int32_t k = 0; k < axis->count[x]; k++, from += channels)
            for (int32_t c = 0; c < channels; c++)
                sum[c] += from[c] * weight[k];
        for (int32_t c = 0; c < channels; c++)
            *out++ = rounded(sum[c]);
    }
}

/* `count` rows of `width` bytes, each the last one's successor, to one row. */
static void mix_rows(const uint8_t *in, const int32_t *weight, int32_t count, size_t width, int32_t *sums, uint8_t *out)
{
    for (size_t i = 0; i < width; i++)
        sums[i] = 1 << (PRECISION - 1);
    for (int32_t k = 0; k < count; k++, in += width)
        for (size_t i = 0; i < width; i++)
            sums[i] += in[i] * weight[k];
    for (size_t i = 0; i < width; i++)
        out[i] = rounded(sums[i]);
}

mqb_status mqb_resize(const struct mqb_resize *resize, const uint8_t *in, uint8_t *out, struct mqb_error *error)
{
    struct axis across = {0}, down = {0};
    uint8_t *rows = NULL;
    int32_t *sums = NULL;
    size_t width = (size_t)resize->cols * (size_t)resize->channels;
    mqb_status status = axis_init(&across, resize->width, resize->to_width, resize->left, resize->cols, error);
    if (status == MQB_OK)
        status = axis_init(&down, resize->height, resize->to_height, resize->top, resize->rows, error);
    if (status != MQB_OK)
        goto out;
    /* Only the input rows that some output row looks at. */
    int32_t last = resize->rows - 1, begin = down.first[0], end = down.first[last] + down.count[last];
    rows = mqb_allocate_array((size_t)(end - begin), width);
    sums = mqb_allocate_array(width, sizeof *sums);
    if (rows == NULL || sums == NULL) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory to scale a picture of %dx%d", resize->width, resize->height);
        goto out;
    }
    for (int32_t y = begin; y < end; y++)
        scale_row(&across, in + (size_t)y * resize->stride, resize->cols, resize->channels, rows + (size_t)(y - begin) * width);
    for (int32_t y = 0; y < resize->rows; y++)
        mix_rows(rows + (size_t)(down.first[y] - begin) * width, down.weight + (size_t)y * (size_t)down.num_taps, down.count[y],
                 width, sums, out + (size_t)y * width);
out:
    axis_deinit(&across);
    axis_deinit(&down);
    mqb_deallocate(rows);
    mqb_deallocate(sums);
    return status;
}
