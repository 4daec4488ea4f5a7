/*
 * iexec_conv.c - integer convolution: the own kernels, and a provider's raw sums made exact.
 *
 * Own kernels gather the window of an output pixel as 16-bit differences x - z (padding is 0 then) and multiply by w_q - z_w.
 * The lowering has proved that no sum of absolute values reaches 2^31, so plain int32 additions are safe in any order.
 * A provider's path runs modulo 2^32, where intermediate sums may wrap, and ends at the same integer.
 * K x (C / groups) x R x S weights, H x W input, P x Q output.
 */
#include "quant/program.h"

#include <mqbench/plugin.h>

#include <string.h>

#define ALIGN 64
#define CHUNK 2048 /* accumulators that are corrected and requantized while they are in the first-level cache */
#define BLOCK 256  /* channels whose real results are held at a time */

static size_t align_up(size_t size)
{
    return (size + ALIGN - 1) / ALIGN * ALIGN;
}

static size_t output_pixels(const struct mqb_conv_shape *shape)
{
    return (size_t)shape->p * (size_t)shape->q;
}

size_t mqb_iconv_accumulators_size(const struct mqb_iconv *conv, int32_t group)
{
    size_t pixels = conv->plan ? output_pixels(&conv->shape) * (size_t)group : 1;
    return align_up(pixels * (size_t)conv->shape.k * sizeof(int32_t));
}

/* Of the padded image, one number a group. */
static size_t sums_size(const struct mqb_conv_shape *shape)
{
    size_t h = (size_t)(shape->h + shape->pad_top + shape->pad_bottom),
           w = (size_t)(shape->w + shape->pad_left + shape->pad_right);
    return align_up(h * w * (size_t)shape->groups * sizeof(uint32_t));
}

size_t mqb_iconv_scratch_size(const struct mqb_iconv *conv, int32_t group)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    (void)group;
    if (!conv->plan) /* a window */
        return align_up((size_t)shape->c * (size_t)shape->r * (size_t)shape->s * sizeof(int16_t));
    return align_up(conv->compute->iconv_scratch_size(conv->plan)) + (conv->window_weight ? sums_size(shape) : 0);
}

/* Real results, the other operand's codes on top, to codes: one rounding for the layer and the addition. */
static void finish_sums(const struct mqb_iconv *conv, const int32_t *accumulators, int64_t num_pixels, const uint8_t *side,
                        uint8_t *codes)
{
    int32_t k_count = conv->shape.k;
    float block[BLOCK];
    for (int64_t i = 0; i < num_pixels; i++)
        for (int32_t k = 0; k < k_count; k += BLOCK) {
            int32_t size = k_count - k < BLOCK ? k_count - k : BLOCK;
            int64_t at = i * k_count + k;
            mqb_real_row(size, accumulators + at, conv->logit_scale + k, conv->logit_bias + k, block);
            if (conv->half)
                mqb_real_halves(size, block);
            mqb_real_add_codes(size, side + at, conv->side_zero, conv->side_scale, block);
            mqb_quantize_rows(&conv->quantize, size, block, codes + at);
        }
}

/* Where the results of some pixels go, and what is added to them; NULL where there is no such thing. */
struct ends {
    const uint8_t *side;
    uint8_t *codes;
    float *logits;
};

/* Accumulators of whole pixels, of which `at` lie before, to codes or to reals. */
static void finish_pixels(const struct mqb_iconv *conv, const int32_t *accumulators, int64_t at, int64_t num_pixels,
                          const struct ends *ends)
{
    int32_t k_count = conv->shape.k;
    if (conv->adds) {
        finish_sums(conv, accumulators, num_pixels, ends->side + at, ends->codes + at);
        return;
    }
    if (ends->codes) {
        mqb_rescale_run(&conv->rescale, accumulators, num_pixels, ends->codes + at);
        return;
    }
    for (int64_t i = 0; i < num_pixels; i++)
        mqb_real_row(k_count, accumulators + i * k_count, conv->logit_scale, conv->logit_bias, ends->logits + at + i * k_count);
    if (conv->half)
        mqb_real_halves(num_pixels * k_count, ends->logits + at);
}

/* ---- own kernels ---- */

/* patch[g][r][s][c]: the window of output pixel (p, q), less the zero point. */
static void gather(const struct mqb_conv_shape *shape, int32_t zero, const uint8_t *x, int32_t p, int32_t q, int16_t *patch)
{
    int32_t group_c = shape->c / shape->groups, taps = shape->r * shape->s;
    for (int32_t r = 0; r < shape->r; r++)
        for (int32_t s = 0; s < shape->s; s++) {
            int32_t h = p * shape->stride_h - shape->pad_top + r * shape->dilation_h;
            int32_t w = q * shape->stride_w - shape->pad_left + s * shape->dilation_w;
            bool inside = h >= 0 && h < shape->h && w >= 0 && w < shape->w;
            const uint8_t *pixel = inside ? x + ((int64_t)h * shape->w + w) * shape->c : NULL;
            for (int32_t g = 0; g < shape->groups; g++) {
                int16_t *to = patch + ((int64_t)g * taps + r * shape->s + s) * group_c;
                for (int32_t c = 0; c < group_c; c++)
                    to[c] = pixel ? (int16_t)(pixel[g * group_c + c] - zero) : (int16_t)0;
            }
        }
}

MQB_MULTIVERSION static int32_t dot(int64_t size, const int16_t *restrict a, const int16_t *restrict b)
{
    int32_t sum = 0;
    int64_t i = 0;
    for (; i + 32 <= size; i += 32) {
        int32_t part = 0;
        for (int j = 0; j < 32; j++)
            part += (int32_t)a[i + j] * b[i + j];
        sum += part;
    }
    for (; i < size; i++)
        sum += (int32_t)a[i] * b[i];
    return sum;
}

static void convolve_pixel(const struct mqb_iconv *conv, const uint8_t *x, int32_t p, int32_t q, int16_t *patch, int32_t *acc)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    int64_t window = (int64_t)shape->c / shape->groups * shape->r * shape->s;
    int32_t group_k = shape->k / shape->groups;
    gather(shape, conv->zero_stored, x, p, q, patch);
    for (int32_t k = 0; k < shape->k; k++)
        acc[k] = conv->bias[k] + dot(window, patch + k / group_k * window, conv->weight + k * window);
}

MQB_MULTIVERSION static void depthwise_tap(int32_t size, int32_t zero, const uint8_t *restrict x,
                                           const int16_t *restrict weight, int32_t *restrict acc)
{
    int32_t k = 0;
    for (; k + 16 <= size; k += 16)
        for (int j = 0; j < 16; j++)
            acc[k + j] += ((int32_t)x[k + j] - zero) * weight[k + j];
    for (; k < size; k++)
        acc[k] += ((int32_t)x[k] - zero) * weight[k];
}

static void depthwise_pixel(const struct mqb_iconv *conv, const uint8_t *x, int32_t p, int32_t q, int32_t *acc)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    int32_t multiple = shape->k / shape->c;
    memcpy(acc, conv->bias, (size_t)shape->k * sizeof(*acc));
    for (int32_t r = 0; r < shape->r; r++)
        for (int32_t s = 0; s < shape->s; s++) {
            int32_t h = p * shape->stride_h - shape->pad_top + r * shape->dilation_h;
            int32_t w = q * shape->stride_w - shape->pad_left + s * shape->dilation_w;
            if (h < 0 || h >= shape->h || w < 0 || w >= shape->w)
                continue;
            const uint8_t *pixel = x + ((int64_t)h * shape->w + w) * shape->c;
            const int16_t *weight = conv->weight + ((int64_t)r * shape->s + s) * shape->k;
            if (multiple == 1) {
                depthwise_tap(shape->k, conv->zero_stored, pixel, weight, acc);
                continue;
            }
            for (int32_t k = 0; k < shape->k; k++)
                acc[k] += ((int32_t)pixel[k / multiple] - conv->zero_stored) * weight[k];
        }
}

static void run_own(const struct mqb_iconv *conv, int32_t n, const uint8_t *x, int32_t *accumulators, void *scratch,
                    const struct ends *ends)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    int64_t x_size = (int64_t)shape->h * shape->w * shape->c, at = 0;
    for (int32_t i = 0; i < n; i++)
        for (int32_t p = 0; p < shape->p; p++)
            for (int32_t q = 0; q < shape->q; q++, at += shape->k) {
                if (conv->pairs)
                    mqb_pairs_pixel(conv, x + i * x_size, p, q, scratch, accumulators);
                else if (conv->depthwise)
                    depthwise_pixel(conv, x + i * x_size, p, q, accumulators);
                else
                    convolve_pixel(conv, x + i * x_size, p, q, scratch, accumulators);
                finish_pixels(conv, accumulators, at, 1, ends);
            }
}

/* ---- a provider's kernel ---- */

MQB_MULTIVERSION static uint32_t sum_bytes(int32_t size, const uint8_t *x)
{
    uint32_t sum = 0;
    for (int32_t i = 0; i < size; i++)
        sum += x[i];
    return sum;
}

/* sums[h][w][g] over the channels of a group, in the padded image. */
static void sum_channels(const struct mqb_conv_shape *shape, const uint8_t *x, uint32_t zero, uint32_t *sums)
{
    int32_t group_c = shape->c / shape->groups;
    for (int32_t h = -shape->pad_top; h < shape->h + shape->pad_bottom; h++)
        for (int32_t w = -shape->pad_left; w < shape->w + shape->pad_right; w++, sums += shape->groups) {
            bool inside = h >= 0 && h < shape->h && w >= 0 && w < shape->w;
            const uint8_t *pixel = inside ? x + ((int64_t)h * shape->w + w) * shape->c : NULL;
            for (int32_t g = 0; g < shape->groups; g++)
                sums[g] = inside ? sum_bytes(group_c, pixel + g * group_c) : zero * (uint32_t)group_c;
        }
}

static uint32_t sum_window(const struct mqb_conv_shape *shape, const uint32_t *sums, int32_t g, int32_t p, int32_t q)
{
    int64_t width = shape->w + shape->pad_left + shape->pad_right;
    uint32_t sum = 0;
    for (int32_t r = 0; r < shape->r; r++) {
        const uint32_t *row =
            sums + ((p * shape->stride_h + r * shape->dilation_h) * width + q * shape->stride_w) * shape->groups + g;
        for (int32_t s = 0; s < shape->s; s++)
            sum += row[(int64_t)s * shape->dilation_w * shape->groups];
    }
    return sum;
}

MQB_MULTIVERSION static void add_constant(int32_t size, const uint32_t *constant, int32_t *acc)
{
    MQB_ELEMENTWISE
    for (int32_t k = 0; k < size; k++)
        acc[k] = (int32_t)((uint32_t)acc[k] + constant[k]);
}

MQB_MULTIVERSION static void add_window(int32_t size, const uint32_t *constant, const uint32_t *weight, uint32_t window,
                                        int32_t *acc)
{
    MQB_ELEMENTWISE
    for (int32_t k = 0; k < size; k++)
        acc[k] = (int32_t)((uint32_t)acc[k] + constant[k] + weight[k] * window);
}

/* raw -> A for output pixels [first, first + count) of an image. */
static void correct_pixels(const struct mqb_iconv *conv, const uint32_t *sums, int64_t first, int64_t count, int32_t *acc)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    int32_t group_k = shape->k / shape->groups;
    for (int64_t i = 0; i < count; i++, acc += shape->k) {
        if (!conv->window_weight) {
            add_constant(shape->k, conv->constant, acc);
            continue;
        }
        int32_t p = (int32_t)((first + i) / shape->q), q = (int32_t)((first + i) % shape->q);
        for (int32_t g = 0; g < shape->groups; g++)
            add_window(group_k, conv->constant + g * group_k, conv->window_weight + g * group_k,
                       sum_window(shape, sums, g, p, q), acc + g * group_k);
    }
}

static void run_provider(const struct mqb_iconv *conv, int32_t n, const uint8_t *x, int32_t *accumulators, void *scratch,
                         const struct ends *ends)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    uint32_t *sums = (uint32_t *)((char *)scratch + align_up(conv->compute->iconv_scratch_size(conv->plan)));
    int64_t pixels = (int64_t)output_pixels(shape), x_size = (int64_t)shape->h * shape->w * shape->c;
    int64_t chunk = CHUNK / shape->k > 0 ? CHUNK / shape->k : 1;
    conv->compute->iconv_forward(conv->plan, n, x, (uint8_t)conv->zero_stored, conv->packed, accumulators, scratch);
    for (int32_t i = 0; i < n; i++) {
        if (conv->window_weight)
            sum_channels(shape, x + i * x_size, (uint32_t)conv->zero_stored, sums);
        for (int64_t first = 0; first < pixels; first += chunk) {
            int64_t count = pixels - first < chunk ? pixels - first : chunk, at = (i * pixels + first) * shape->k;
            correct_pixels(conv, sums, first, count, accumulators + at);
            finish_pixels(conv, accumulators + at, at, count, ends);
        }
    }
}

void mqb_iconv_run(const struct mqb_iconv *conv, int32_t n, const uint8_t *x, const uint8_t *side, int32_t *accumulators,
                   void *scratch, uint8_t *codes, float *logits)
{
    const struct ends ends = {side, codes, logits};
    if (conv->plan)
        run_provider(conv, n, x, accumulators, scratch, &ends);
    else
        run_own(conv, n, x, accumulators, scratch, &ends);
}
