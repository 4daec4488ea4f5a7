/*
 * iexec_window.c - sums of the input over the window of each output pixel. Weights with a zero point need them:
 * sum x (w - z) = sum x w - z sum x, and the last sum is the same for every output channel of a group.
 *
 * Channels are added once a pixel of the padded image; then rows, then columns, in whole rows at a time.
 */
#include "quant/program.h"

#include <mqbench/plugin.h>

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

static size_t padded_width(const struct mqb_conv_shape *shape)
{
    return (size_t)(shape->w + shape->pad_left + shape->pad_right);
}

/* Rows of the padded image that `count` output rows read. */
static size_t rows_read(const struct mqb_conv_shape *shape, int32_t count)
{
    return (size_t)(count - 1) * (size_t)shape->stride_h + (size_t)(shape->r - 1) * (size_t)shape->dilation_h + 1;
}

size_t mqb_window_sums_size(const struct mqb_conv_shape *shape, int32_t count)
{
    return (rows_read(shape, count) + 1) * padded_width(shape) * (size_t)shape->groups;
}

static uint32_t sum_bytes(int32_t size, const uint8_t *x)
{
    uint32_t sum = 0;
    int32_t i = 0;
#if defined(__SSE2__)
    __m128i wide = _mm_setzero_si128();
    for (; i + 16 <= size; i += 16)
        wide = _mm_add_epi64(wide, _mm_sad_epu8(_mm_loadu_si128((const __m128i *)(const void *)(x + i)), _mm_setzero_si128()));
    if (i + 8 <= size) {
        wide = _mm_add_epi64(wide, _mm_sad_epu8(_mm_loadl_epi64((const __m128i *)(const void *)(x + i)), _mm_setzero_si128()));
        i += 8;
    }
    sum = (uint32_t)_mm_cvtsi128_si32(wide) + (uint32_t)_mm_cvtsi128_si32(_mm_unpackhi_epi64(wide, wide));
#endif
    for (; i < size; i++)
        sum += x[i];
    return sum;
}

#if defined(__SSE2__)
/* Four pixels of a multiple of 16 channels. */
static void sum_four(int32_t channels, const uint8_t *x, uint32_t *sums)
{
    __m128i part[4];
    for (int i = 0; i < 4; i++, x += channels) {
        part[i] = _mm_setzero_si128();
        for (int32_t c = 0; c < channels; c += 16) {
            const __m128i codes = _mm_loadu_si128((const __m128i *)(const void *)(x + c));
            part[i] = _mm_add_epi32(part[i], _mm_sad_epu8(codes, _mm_setzero_si128()));
        }
    }
    const __m128i a = _mm_add_epi32(_mm_unpacklo_epi64(part[0], part[1]), _mm_unpackhi_epi64(part[0], part[1]));
    const __m128i b = _mm_add_epi32(_mm_unpacklo_epi64(part[2], part[3]), _mm_unpackhi_epi64(part[2], part[3]));
    const __m128 even = _mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), _MM_SHUFFLE(2, 0, 2, 0));
    _mm_storeu_si128((__m128i *)(void *)sums, _mm_castps_si128(even));
}
#endif

/* Sums over channels of the padded image's rows from `first` on. */
static void sum_channels(const struct mqb_conv_shape *shape, const uint8_t *x, int32_t zero, int32_t first, int32_t count,
                         uint32_t *sums)
{
    const int32_t group_c = shape->c / shape->groups, groups = shape->groups;
    const uint32_t padding = (uint32_t)zero * (uint32_t)group_c;
    for (int32_t h = first - shape->pad_top; h < first - shape->pad_top + count; h++) {
        const bool inside = h >= 0 && h < shape->h;
        for (int32_t j = 0; j < (inside ? shape->pad_left : (int32_t)padded_width(shape)) * groups; j++)
            *sums++ = padding;
        if (!inside)
            continue;
        const uint8_t *pixel = x + (int64_t)h * shape->w * shape->c;
        int64_t i = 0;
#if defined(__SSE2__)
        for (; group_c % 16 == 0 && i + 4 <= (int64_t)shape->w * groups; i += 4, pixel += 4 * group_c, sums += 4)
            sum_four(group_c, pixel, sums);
#endif
        for (; i < (int64_t)shape->w * groups; i++, pixel += group_c)
            *sums++ = sum_bytes(group_c, pixel);
        for (i = 0; i < (int64_t)shape->pad_right * groups; i++)
            *sums++ = padding;
    }
}

MQB_MULTIVERSION static void add_row(int64_t size, const uint32_t *x, uint32_t *y)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++)
        y[i] += x[i];
}

void mqb_window_rows(const struct mqb_conv_shape *shape, const uint8_t *x, int32_t zero, int32_t first, int32_t count,
                     uint32_t *sums, uint32_t *windows)
{
    const int32_t num_rows = (int32_t)rows_read(shape, count);
    const int64_t groups = shape->groups, width = (int64_t)padded_width(shape) * groups;
    uint32_t *row = sums + num_rows * width;
    sum_channels(shape, x, zero, first * shape->stride_h, num_rows, sums);
    for (int32_t p = 0; p < count; p++, windows += shape->q * groups) {
        const uint32_t *above = sums + (int64_t)p * shape->stride_h * width;
        memcpy(row, above, (size_t)width * sizeof(*row));
        for (int32_t r = 1; r < shape->r; r++)
            add_row(width, above + (int64_t)r * shape->dilation_h * width, row);
        if (shape->stride_w == 1) {
            memcpy(windows, row, (size_t)(shape->q * groups) * sizeof(*windows));
            for (int32_t s = 1; s < shape->s; s++)
                add_row(shape->q * groups, row + (int64_t)s * shape->dilation_w * groups, windows);
            continue;
        }
        for (int64_t q = 0; q < shape->q; q++)
            for (int64_t g = 0; g < groups; g++) {
                uint32_t sum = 0;
                for (int64_t s = 0; s < shape->s; s++)
                    sum += row[(q * shape->stride_w + s * shape->dilation_w) * groups + g];
                windows[q * groups + g] = sum;
            }
    }
}
