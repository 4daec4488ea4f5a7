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
#define BAND_BYTES (24 << 10) /* accumulators that are requantized while they are in the first-level cache */
#define BLOCK 256  /* channels whose real results are held at a time */

static size_t align_up(size_t size)
{
    return (size + ALIGN - 1) / ALIGN * ALIGN;
}

static bool has_rows(const struct mqb_compute *compute)
{
    return MQB_HAS_FIELD(compute, struct mqb_compute, iconv_rows) && compute->iconv_rows;
}

void mqb_iconv_choose_band(struct mqb_iconv *conv, int32_t group)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    const size_t row = (size_t)shape->q * (size_t)shape->k * sizeof(int32_t), image = row * (size_t)shape->p;
    const size_t images = BAND_BYTES / image, rows = BAND_BYTES / row;
    conv->band_images = images < 1 ? 1 : images > (size_t)group ? group : (int32_t)images;
    conv->band_rows = shape->p;
    if (images < 1 && has_rows(conv->compute)) { /* bands of equal height */
        const int32_t most = rows < 1 ? 1 : (int32_t)rows, bands = (shape->p + most - 1) / most;
        conv->band_rows = (shape->p + bands - 1) / bands;
    }
}

static size_t band_pixels(const struct mqb_iconv *conv)
{
    return (size_t)conv->band_images * (size_t)conv->band_rows * (size_t)conv->shape.q;
}

size_t mqb_iconv_accumulators_size(const struct mqb_iconv *conv)
{
    return align_up((conv->plan ? band_pixels(conv) : 1) * (size_t)conv->shape.k * sizeof(int32_t));
}

static size_t sums_size(const struct mqb_iconv *conv)
{
    return align_up(mqb_window_sums_size(&conv->shape, conv->band_rows) * sizeof(uint32_t));
}

size_t mqb_iconv_scratch_size(const struct mqb_iconv *conv)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    if (!conv->plan) /* a window */
        return align_up((size_t)shape->c * (size_t)shape->r * (size_t)shape->s * sizeof(int16_t));
    size_t windows = align_up(band_pixels(conv) * (size_t)shape->groups * sizeof(uint32_t));
    return align_up(conv->compute->iconv_scratch_size(conv->plan)) + (conv->window_weight ? sums_size(conv) + windows : 0);
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

/* Accumulators of whole pixels, of which `at` lie before, to codes or to reals. */
static void finish_pixels(const struct mqb_iconv *conv, const int32_t *accumulators, int64_t at, int64_t num_pixels,
                          const struct mqb_iconv_run *ends)
{
    int32_t k_count = conv->shape.k;
    if (conv->adds) {
        finish_sums(conv, accumulators, num_pixels, ends->side + at, ends->codes + at);
        return;
    }
    if (ends->codes) {
        const struct mqb_sums sums = {.accumulators = accumulators};
        mqb_rescale_run(&conv->rescale, &sums, num_pixels, ends->codes + at);
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

/* Output rows [first, first + count) of image x, of whose results `at` lie before. */
static void run_own(const struct mqb_iconv *conv, int32_t first, int32_t count, const uint8_t *x, int64_t at,
                    int32_t *accumulators, void *scratch, const struct mqb_iconv_run *ends)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    for (int32_t p = first; p < first + count; p++)
        for (int32_t q = 0; q < shape->q; q++, at += shape->k) {
            if (conv->pairs)
                mqb_pairs_pixel(conv, x, p, q, scratch, accumulators);
            else if (conv->depthwise)
                depthwise_pixel(conv, x, p, q, accumulators);
            else
                convolve_pixel(conv, x, p, q, scratch, accumulators);
            finish_pixels(conv, accumulators, at, 1, ends);
        }
}

/* ---- a provider's kernel ---- */

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

/* raw -> A, in place. windows: [pixels][groups], or NULL. */
static void correct_pixels(const struct mqb_iconv *conv, const uint32_t *windows, int64_t count, int32_t *acc)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    const int32_t group_k = shape->k / shape->groups;
    for (int64_t i = 0; i < count; i++, acc += shape->k) {
        if (!windows) {
            add_constant(shape->k, conv->constant, acc);
            continue;
        }
        for (int32_t g = 0; g < shape->groups; g++)
            add_window(group_k, conv->constant + g * group_k, conv->window_weight + g * group_k,
                       windows[i * shape->groups + g], acc + g * group_k);
    }
}

/* Raw sums of whole pixels, of which `at` lie before, to codes or to reals. */
static void finish_raw(const struct mqb_iconv *conv, int32_t *accumulators, const uint32_t *windows, int64_t at, int64_t count,
                       const struct mqb_iconv_run *ends)
{
    if (ends->codes && !conv->adds && (!windows || conv->shape.groups == 1)) {
        const struct mqb_sums sums = {accumulators, conv->constant, conv->window_weight, windows};
        mqb_rescale_run(&conv->rescale, &sums, count, ends->codes + at);
        return;
    }
    correct_pixels(conv, windows, count, accumulators);
    finish_pixels(conv, accumulators, at, count, ends);
}

/* Rows [first, first + count) of images [image, image + images); all rows, if there is more than one image. */
static void run_provider(const struct mqb_iconv_run *run, int32_t image, int32_t images, int32_t first, int32_t count,
                         int32_t *accumulators, char *scratch)
{
    const struct mqb_iconv *conv = run->conv;
    const struct mqb_conv_shape *shape = &conv->shape;
    const struct mqb_compute *compute = conv->compute;
    const uint8_t zero = (uint8_t)conv->zero_stored;
    const int64_t x_size = (int64_t)shape->h * shape->w * shape->c, pixels = (int64_t)shape->p * shape->q;
    const uint8_t *x = run->x + image * x_size;
    uint32_t *windows = NULL;
    if (count == shape->p)
        compute->iconv_forward(conv->plan, images, x, zero, conv->packed, accumulators, scratch);
    else
        compute->iconv_rows(conv->plan, first, count, x, zero, conv->packed, accumulators, scratch);
    if (conv->window_weight) {
        char *sums = scratch + align_up(compute->iconv_scratch_size(conv->plan));
        windows = (uint32_t *)(void *)(sums + sums_size(conv));
        for (int32_t i = 0; i < images; i++)
            mqb_window_rows(shape, x + i * x_size, conv->zero_stored, first, count, (uint32_t *)(void *)sums,
                            windows + i * pixels * shape->groups);
    }
    finish_raw(conv, accumulators, windows, (image * pixels + (int64_t)first * shape->q) * shape->k,
               (int64_t)images * count * shape->q, run);
}

/* ---- bands ---- */

/* How a run is cut: `images` whole images a band, or `rows` rows of one. */
struct cut {
    int32_t images, rows, bands_an_image;
};

static struct cut cut_run(const struct mqb_iconv_run *run, int32_t workers)
{
    const struct mqb_iconv *conv = run->conv;
    const int32_t p = conv->shape.p, wanted = 2 * workers; /* two each, so that they end at about the same time */
    const bool can_split = !conv->plan || has_rows(conv->compute);
    struct cut cut = {conv->plan ? conv->band_images : 1, conv->plan ? conv->band_rows : p, 1};
    if (workers > 1 && cut.images > 1)
        cut.images = run->n / wanted < 1 ? 1 : run->n / wanted < cut.images ? run->n / wanted : cut.images;
    if (workers > 1 && can_split && run->n < wanted) {
        const int32_t rows = (p * run->n + wanted - 1) / wanted;
        cut.images = 1;
        cut.rows = rows < cut.rows ? rows : cut.rows;
    }
    cut.bands_an_image = (p + cut.rows - 1) / cut.rows;
    return cut;
}

int32_t mqb_iconv_num_bands(const struct mqb_iconv_run *run, int32_t workers)
{
    const struct cut cut = cut_run(run, workers);
    return (run->n + cut.images - 1) / cut.images * cut.bands_an_image;
}

void mqb_iconv_run_band(const struct mqb_iconv_run *run, int32_t workers, int32_t index, int32_t *accumulators, void *scratch)
{
    const struct mqb_iconv *conv = run->conv;
    const struct mqb_conv_shape *shape = &conv->shape;
    const struct cut cut = cut_run(run, workers);
    const int32_t image = index / cut.bands_an_image * cut.images, first = index % cut.bands_an_image * cut.rows;
    const int32_t images = run->n - image < cut.images ? run->n - image : cut.images;
    const int32_t count = shape->p - first < cut.rows ? shape->p - first : cut.rows;
    if (conv->plan)
        run_provider(run, image, images, first, count, accumulators, scratch);
    else
        run_own(conv, first, count, run->x + (int64_t)image * shape->h * shape->w * shape->c,
                ((int64_t)image * shape->p + first) * shape->q * shape->k, accumulators, scratch, run);
}
