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
#define BAND_BYTES (24 << 10)  /* accumulators that are requantized while they are in the first-level cache */
#define WEIGHT_BYTES (256 << 10) /* packed weights that stay in the second-level cache from band to band */
#define PART_CHANNELS 64       /* of layers with more weights than that, convolved at a time */
#define BLOCK 256              /* channels whose real results are held at a time */

static size_t align_up(size_t size)
{
    return (size + ALIGN - 1) / ALIGN * ALIGN;
}

static bool has_rows(const struct mqb_compute *compute)
{
    return MQB_HAS_FIELD(compute, struct mqb_compute, iconv_rows) && compute->iconv_rows;
}

static bool has_parts(const struct mqb_iconv *conv)
{
    return conv->shape.groups == 1 && MQB_HAS_FIELD(conv->compute, struct mqb_compute, iconv_part) && conv->compute->iconv_part;
}

void mqb_iconv_choose_band(struct mqb_iconv *conv, int32_t group)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    conv->group = group;
    const bool parts = has_parts(conv) && conv->compute->iconv_packed_size(conv->plan) > WEIGHT_BYTES;
    conv->part_channels = parts && shape->k > PART_CHANNELS ? PART_CHANNELS : shape->k;
    const size_t row = (size_t)shape->q * (size_t)conv->part_channels * sizeof(int32_t), image = row * (size_t)shape->p;
    const size_t images = BAND_BYTES / image, rows = BAND_BYTES / row;
    conv->band_images = images < 1 ? 1 : images > (size_t)group ? group : (int32_t)images;
    conv->band_rows = shape->p;
    if (images < 1 && has_rows(conv->compute)) { /* bands of equal height */
        const int32_t most = rows < 1 ? 1 : (int32_t)rows, bands = (shape->p + most - 1) / most;
        conv->band_rows = (shape->p + bands - 1) / bands;
    }
}

static bool in_parts(const struct mqb_iconv *conv)
{
    return conv->plan && conv->part_channels < conv->shape.k;
}

size_t mqb_iconv_accumulators_size(const struct mqb_iconv *conv)
{
    const size_t pixels = (size_t)conv->band_images * (size_t)conv->band_rows * (size_t)conv->shape.q;
    return conv->plan ? align_up(pixels * (size_t)conv->part_channels * sizeof(int32_t))
                      : align_up((size_t)conv->shape.k * sizeof(int32_t));
}

/* Images and rows whose windows are summed at a time: those of a band, or all that a part's weights are for. */
static int32_t window_images(const struct mqb_iconv *conv)
{
    return in_parts(conv) ? conv->group : conv->band_images;
}

static int32_t window_rows(const struct mqb_iconv *conv)
{
    return in_parts(conv) ? conv->shape.p : conv->band_rows;
}

static size_t sums_size(const struct mqb_iconv *conv)
{
    return align_up(mqb_window_sums_size(&conv->shape, window_rows(conv)) * sizeof(uint32_t));
}

size_t mqb_iconv_scratch_size(const struct mqb_iconv *conv)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    if (!conv->plan) /* a window */
        return align_up((size_t)shape->c * (size_t)shape->r * (size_t)shape->s * sizeof(int16_t));
    const size_t pixels = (size_t)window_images(conv) * (size_t)window_rows(conv) * (size_t)shape->q;
    const size_t windows = align_up(pixels * (size_t)shape->groups * sizeof(uint32_t));
    return align_up(conv->compute->iconv_scratch_size(conv->plan)) + (conv->window_weight ? sums_size(conv) + windows : 0);
}

/* Accumulators of some channels of whole pixels, [num_pixels][num_channels]. */
struct piece {
    int32_t *accumulators;
    int64_t pixel, num_pixels; /* the first one's index in the layer's result */
    int32_t channel, num_channels;
};

/* Real results, the other operand's codes on top, to codes: one rounding for the layer and the addition. */
static void finish_sums(const struct mqb_iconv *conv, const struct piece *piece, const uint8_t *side, uint8_t *codes)
{
    float block[BLOCK];
    for (int64_t i = 0; i < piece->num_pixels; i++)
        for (int32_t j = 0; j < piece->num_channels; j += BLOCK) {
            const int32_t size = piece->num_channels - j < BLOCK ? piece->num_channels - j : BLOCK, k = piece->channel + j;
            const int64_t at = (piece->pixel + i) * conv->shape.k + k;
            mqb_real_row(size, piece->accumulators + i * piece->num_channels + j, conv->logit_scale + k, conv->logit_bias + k,
                         block);
            if (conv->half)
                mqb_real_halves(size, block);
            mqb_real_add_codes(size, side + at, conv->side_zero, conv->side_scale, block);
            mqb_quantize_rows(&conv->quantize, size, block, codes + at);
        }
}

static void finish_reals(const struct mqb_iconv *conv, const struct piece *piece, float *reals)
{
    const int32_t k = piece->channel, size = piece->num_channels;
    for (int64_t i = 0; i < piece->num_pixels; i++) {
        float *row = reals + (piece->pixel + i) * conv->shape.k + k;
        mqb_real_row(size, piece->accumulators + i * size, conv->logit_scale + k, conv->logit_bias + k, row);
        if (conv->half)
            mqb_real_halves(size, row);
    }
}

/* To codes or to reals. */
static void finish_piece(const struct mqb_iconv *conv, const struct piece *piece, const struct mqb_iconv_run *ends)
{
    if (conv->adds) {
        finish_sums(conv, piece, ends->side, ends->codes);
    } else if (ends->codes) {
        const struct mqb_sums sums = {.accumulators = piece->accumulators, .channel = piece->channel,
                                      .num_channels = piece->num_channels};
        mqb_rescale_run(&conv->rescale, &sums, piece->num_pixels, ends->codes + piece->pixel * conv->shape.k);
    } else {
        finish_reals(conv, piece, ends->logits);
    }
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

/* Output rows [first, first + count) of image x, the layer's pixels from `pixel` on. */
static void run_own(const struct mqb_iconv *conv, int32_t first, int32_t count, const uint8_t *x, int64_t pixel,
                    int32_t *accumulators, void *scratch, const struct mqb_iconv_run *ends)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    for (int32_t p = first; p < first + count; p++)
        for (int32_t q = 0; q < shape->q; q++, pixel++) {
            const struct piece piece = {accumulators, pixel, 1, 0, shape->k};
            if (conv->pairs)
                mqb_pairs_pixel(conv, x, p, q, scratch, accumulators);
            else if (conv->depthwise)
                depthwise_pixel(conv, x, p, q, accumulators);
            else
                convolve_pixel(conv, x, p, q, scratch, accumulators);
            finish_piece(conv, &piece, ends);
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
static void correct_piece(const struct mqb_iconv *conv, const uint32_t *windows, const struct piece *piece)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    const int32_t k = piece->channel, size = piece->num_channels / shape->groups;
    int32_t *acc = piece->accumulators;
    for (int64_t i = 0; i < piece->num_pixels; i++, acc += piece->num_channels) {
        if (!windows) {
            add_constant(piece->num_channels, conv->constant + k, acc);
            continue;
        }
        for (int32_t g = 0; g < shape->groups; g++)
            add_window(size, conv->constant + k + g * size, conv->window_weight + k + g * size,
                       windows[i * shape->groups + g], acc + g * size);
    }
}

/* Raw sums to codes or to reals. */
static void finish_raw(const struct mqb_iconv *conv, const struct piece *piece, const uint32_t *windows,
                       const struct mqb_iconv_run *ends)
{
    if (ends->codes && !conv->adds && (!windows || conv->shape.groups == 1)) {
        const struct mqb_sums sums = {piece->accumulators, conv->constant,  conv->window_weight,
                                      windows,             piece->channel, piece->num_channels};
        mqb_rescale_run(&conv->rescale, &sums, piece->num_pixels, ends->codes + piece->pixel * conv->shape.k);
        return;
    }
    const int64_t at = piece->pixel * conv->shape.k;
    const struct mqb_sums raw = {piece->accumulators, conv->constant,  conv->window_weight,
                                 windows,             piece->channel, piece->num_channels};
    if ((!windows || conv->shape.groups == 1) && (conv->adds || !ends->codes) &&
        mqb_wide_reals(conv, &raw, piece->num_pixels, conv->adds ? NULL : ends->logits + at, conv->adds ? ends->side + at : NULL,
                       conv->adds ? ends->codes + at : NULL))
        return;
    correct_piece(conv, windows, piece);
    finish_piece(conv, piece, ends);
}

/* A part of a layer: rows of an image, or all rows of some; some channels. */
struct band {
    int32_t image, num_images, row, num_rows, channel, num_channels;
};

static int64_t first_pixel(const struct mqb_conv_shape *shape, const struct band *band)
{
    return ((int64_t)band->image * shape->p + band->row) * shape->q;
}

/* As much as the accumulators hold. windows: from the band's first pixel on, or NULL. */
static void run_piece(const struct mqb_iconv_run *run, const struct band *band, const uint32_t *windows, int32_t *accumulators,
                      void *scratch)
{
    const struct mqb_iconv *conv = run->conv;
    const struct mqb_conv_shape *shape = &conv->shape;
    const struct mqb_compute *compute = conv->compute;
    const uint8_t zero = (uint8_t)conv->zero_stored;
    const uint8_t *x = run->x + (int64_t)band->image * shape->h * shape->w * shape->c;
    const struct piece piece = {accumulators, first_pixel(shape, band), (int64_t)band->num_images * band->num_rows * shape->q,
                                band->channel, band->num_channels};
    if (band->num_channels < shape->k) {
        const struct mqb_iconv_part part = {
            sizeof(part), band->num_images, band->row, band->num_rows, band->channel, band->num_channels,
        };
        compute->iconv_part(conv->plan, &part, x, zero, conv->packed, accumulators, scratch);
    } else if (band->num_rows == shape->p) {
        compute->iconv_forward(conv->plan, band->num_images, x, zero, conv->packed, accumulators, scratch);
    } else {
        compute->iconv_rows(conv->plan, band->row, band->num_rows, x, zero, conv->packed, accumulators, scratch);
    }
    finish_raw(conv, &piece, windows, run);
}

static int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* A band in parts: the weights of a part stay in the cache for all images and rows. */
static void run_parts(const struct mqb_iconv_run *run, const struct band *band, const uint32_t *windows, int32_t *accumulators,
                      void *scratch)
{
    const struct mqb_iconv *conv = run->conv;
    const struct mqb_conv_shape *shape = &conv->shape;
    const int64_t first = first_pixel(shape, band);
    for (int32_t k = 0; k < band->num_channels; k += conv->part_channels)
        for (int32_t i = 0; i < band->num_images; i += conv->band_images)
            for (int32_t p = 0; p < band->num_rows; p += conv->band_rows) {
                const struct band piece = {band->image + i, least(conv->band_images, band->num_images - i),
                                           band->row + p,   least(conv->band_rows, band->num_rows - p),
                                           band->channel + k, least(conv->part_channels, band->num_channels - k)};
                run_piece(run, &piece, windows ? windows + (first_pixel(shape, &piece) - first) : NULL, accumulators, scratch);
            }
}

static void run_provider(const struct mqb_iconv_run *run, const struct band *band, int32_t *accumulators, char *scratch)
{
    const struct mqb_iconv *conv = run->conv;
    const struct mqb_conv_shape *shape = &conv->shape;
    const int64_t x_size = (int64_t)shape->h * shape->w * shape->c, pixels = (int64_t)shape->p * shape->q;
    uint32_t *windows = NULL;
    if (conv->window_weight) {
        char *sums = scratch + align_up(conv->compute->iconv_scratch_size(conv->plan));
        windows = (uint32_t *)(void *)(sums + sums_size(conv));
        for (int32_t i = 0; i < band->num_images; i++)
            mqb_window_rows(shape, run->x + (band->image + i) * x_size, conv->zero_stored, band->row, band->num_rows,
                            (uint32_t *)(void *)sums, windows + i * pixels * shape->groups);
    }
    if (in_parts(conv))
        run_parts(run, band, windows, accumulators, scratch);
    else
        run_piece(run, band, windows, accumulators, scratch);
}

/* ---- bands ---- */

/* How a run is cut: whole images or rows of one, all channels or some. */
struct cut {
    int32_t images, rows, channels;
    int32_t across, down; /* bands by channels; bands by rows of an image */
};

static struct cut cut_run(const struct mqb_iconv_run *run, int32_t workers)
{
    const struct mqb_iconv *conv = run->conv;
    const int32_t p = conv->shape.p, k = conv->shape.k;
    const int32_t wanted = 2 * workers; /* two each, so that they end at about the same time */
    const bool can_split = !conv->plan || has_rows(conv->compute);
    struct cut cut = {conv->plan ? conv->band_images : 1, conv->plan ? conv->band_rows : p, k, 1, 1};
    if (in_parts(conv)) { /* a weight goes to one worker alone */
        const int32_t parts = (k + conv->part_channels - 1) / conv->part_channels, each = (parts + wanted - 1) / wanted;
        cut.images = run->n;
        cut.rows = p;
        cut.channels = workers > 1 ? each * conv->part_channels : k;
    } else if (workers > 1) {
        if (cut.images > 1)
            cut.images = run->n / wanted < 1 ? 1 : least(run->n / wanted, cut.images);
        if (can_split && run->n < wanted) {
            cut.images = 1;
            cut.rows = least((p * run->n + wanted - 1) / wanted, cut.rows);
        }
    }
    cut.across = (k + cut.channels - 1) / cut.channels;
    cut.down = (p + cut.rows - 1) / cut.rows;
    return cut;
}

int32_t mqb_iconv_num_bands(const struct mqb_iconv_run *run, int32_t workers)
{
    const struct cut cut = cut_run(run, workers);
    return (run->n + cut.images - 1) / cut.images * cut.down * cut.across;
}

void mqb_iconv_run_band(const struct mqb_iconv_run *run, int32_t workers, int32_t index, int32_t *accumulators, void *scratch)
{
    const struct mqb_iconv *conv = run->conv;
    const struct mqb_conv_shape *shape = &conv->shape;
    const struct cut cut = cut_run(run, workers);
    const int32_t across = index % cut.across, down = index / cut.across % cut.down;
    struct band band = {.image = index / cut.across / cut.down * cut.images, .row = down * cut.rows,
                        .channel = across * cut.channels};
    band.num_images = least(run->n - band.image, cut.images);
    band.num_rows = least(shape->p - band.row, cut.rows);
    band.num_channels = least(shape->k - band.channel, cut.channels);
    if (conv->plan)
        run_provider(run, &band, accumulators, scratch);
    else
        run_own(conv, band.row, band.num_rows, run->x + (int64_t)band.image * shape->h * shape->w * shape->c,
                ((int64_t)band.image * shape->p + band.row) * shape->q, accumulators, scratch, run);
}
