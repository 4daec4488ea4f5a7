/*
 * iexec_rescale.c - rows of raw sums to codes, equal to mqb_requantize bit for bit.
 *
 * One pass while the sums are in the first-level cache: corrections, multiplication, rounding, bounds, bytes. The float forms
 * clamp before they round: the bounds are integers, so the order does not matter, and afterwards every number is small
 * enough for a conversion to int32. A power-of-two contract is exact in double, so it shares that form.
 */
#include "quant/program.h"
#include "quant/rows.h"

#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

static bool vector_rounding(int32_t rounding)
{
    return rounding >= MQB_ROUND_RNE && rounding <= MQB_ROUND_TRUNC;
}

/* `biased`: a bias is added as a real number. */
static int32_t choose_form(const struct mqb_requantizer *r, bool biased)
{
    const bool real = r->intermediate == MQB_INTERMEDIATE_F16 || r->intermediate == MQB_INTERMEDIATE_F32;
    /* Two additions, of the bias and then of the zero point, are two roundings. */
    const bool twice = biased && r->zp_before && r->zero_point != 0;
    switch (r->multiplier) {
    case MQB_MULTIPLIER_F32:
        if (!vector_rounding(r->rounding) || (!real && twice))
            return MQB_RESCALE_SCALAR;
        if (!real && !biased && r->rounding == MQB_ROUND_RNE && (!r->zp_before || r->zero_point == 0))
            return MQB_RESCALE_PLAIN;
        if (!real)
            return MQB_RESCALE_F32;
        return r->intermediate == MQB_INTERMEDIATE_F16 ? MQB_RESCALE_HALF : MQB_RESCALE_REAL;
    case MQB_MULTIPLIER_F64:
        return real || twice || !vector_rounding(r->rounding) ? MQB_RESCALE_SCALAR : MQB_RESCALE_F64;
    case MQB_MULTIPLIER_POT: /* the zero point plus a tiny number is exact in double for rounding to nearest, not for floor */
        if (r->divisor != 1 || !vector_rounding(r->rounding) ||
            (r->zp_before && (r->rounding == MQB_ROUND_FLOOR || r->rounding == MQB_ROUND_TRUNC)))
            return MQB_RESCALE_SCALAR;
        return MQB_RESCALE_F64;
    case MQB_MULTIPLIER_Q31:
        return MQB_RESCALE_Q31;
    default:
        return MQB_RESCALE_Q31_DOUBLE;
    }
}

static mqb_status allocate(struct mqb_rescale *rescale, struct mqb_error *error)
{
    const size_t channels = (size_t)rescale->num_channels;
    rescale->scalar = mqb_allocate_array(channels, sizeof(*rescale->scalar));
    rescale->m32 = mqb_allocate_array(channels, sizeof(float));
    rescale->bias32 = mqb_allocate_array(channels, sizeof(float));
    rescale->second32 = mqb_allocate_array(channels, sizeof(float));
    rescale->m64 = mqb_allocate_array(channels, sizeof(double));
    rescale->bias64 = mqb_allocate_array(channels, sizeof(double));
    rescale->q31 = mqb_allocate_array(channels, sizeof(int64_t));
    rescale->left = mqb_allocate_array(channels, sizeof(int64_t));
    rescale->right = mqb_allocate_array(channels, sizeof(int64_t));
    rescale->none = mqb_allocate_array(channels, sizeof(uint32_t));
    rescale->approximate = mqb_allocate_array(channels, sizeof(float));
    if (!rescale->scalar || !rescale->m32 || !rescale->bias32 || !rescale->second32 || !rescale->m64 || !rescale->bias64 ||
        !rescale->q31 || !rescale->left || !rescale->right || !rescale->none || !rescale->approximate)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the multipliers of %d channels", (int)rescale->num_channels);
    return MQB_OK;
}

/* The numbers of channel k as the vector forms want them. `before`: the zero point, if it is added before rounding. */
static void fill_channel(struct mqb_rescale *rescale, int32_t k, float before)
{
    const struct mqb_requantizer *r = &rescale->scalar[k];
    const bool real = rescale->form == MQB_RESCALE_REAL || rescale->form == MQB_RESCALE_HALF;
    rescale->m32[k] = real ? r->s_xw : r->m32;
    rescale->m64[k] = r->m;
    /* One of the two is 0, or the zero point comes with the second factor. */
    rescale->bias32[k] = real ? r->bias : r->bias / r->s_y + before;
    rescale->bias64[k] = (double)r->bias / r->s_y + before;
    rescale->second32[k] = r->divide ? r->s_y : r->inverse;
    rescale->q31[k] = r->q31;
    rescale->left[k] = (int64_t)1 << (r->shift > 0 ? r->shift : 0);
    rescale->right[k] = r->multiplier == MQB_MULTIPLIER_Q31 ? 31 - r->shift : r->shift < 0 ? -r->shift : 0;
}

mqb_status mqb_rescale_create(struct mqb_rescale *rescale, const struct mqb_contract *contract, float s_x, const float *s_w,
                              int32_t num_scales, const struct mqb_itensor *out, const float *bias, int32_t num_channels,
                              int32_t low, int32_t high, struct mqb_error *error)
{
    *rescale = (struct mqb_rescale){.num_channels = num_channels, .low = low, .high = high, .offset = out->offset};
    mqb_status status = allocate(rescale, error);
    if (status != MQB_OK)
        return status;
    bool biased = false;
    for (int32_t k = 0; k < num_channels; k++) {
        struct mqb_requantizer *r = &rescale->scalar[k];
        status = mqb_requantizer_init(r, contract, s_x, s_w[num_scales > 1 ? k : 0], out->info.scale, out->info.zero_point, low,
                                      high, error);
        if (status != MQB_OK)
            return mqb_fail_prefix(error, status, "channel %d", (int)k);
        r->bias = bias ? bias[k] : 0.0f;
        biased = biased || r->bias != 0.0f;
        if (!isfinite(r->bias / r->s_y))
            return mqb_fail(error, MQB_ERR_NUMERIC, "channel %d: bias %g divided by the output scale %g is not a finite number",
                            (int)k, (double)r->bias, (double)r->s_y);
    }
    const struct mqb_requantizer *r = &rescale->scalar[0];
    const bool before = r->zp_before && r->multiplier != MQB_MULTIPLIER_Q31 && r->multiplier != MQB_MULTIPLIER_Q31_DOUBLE;
    rescale->form = choose_form(r, biased);
    rescale->rounding = r->rounding;
    rescale->divide = r->divide != 0;
    rescale->zero_before = before ? out->info.zero_point : 0;
    rescale->zero_after = before ? 0 : out->info.zero_point;
    for (int32_t k = 0; k < num_channels; k++)
        fill_channel(rescale, k, (float)rescale->zero_before);
    mqb_wide_choose(rescale, biased);
    return MQB_OK;
}

void mqb_rescale_destroy(struct mqb_rescale *rescale)
{
    mqb_deallocate(rescale->scalar);
    mqb_deallocate(rescale->m32);
    mqb_deallocate(rescale->bias32);
    mqb_deallocate(rescale->second32);
    mqb_deallocate(rescale->m64);
    mqb_deallocate(rescale->bias64);
    mqb_deallocate(rescale->q31);
    mqb_deallocate(rescale->left);
    mqb_deallocate(rescale->right);
    mqb_deallocate(rescale->none);
    mqb_deallocate(rescale->approximate);
}

/* As mqb_requant_half: 11 bits of significand; below 2^-14 the step stays 2^-24, which adding 1.5 * 2^-1 rounds to. */
INLINE float nearest_half(float v)
{
    v = v == v ? v : 0.0f;
    v = v > 65504.0f ? 65504.0f : v;
    v = v < -65504.0f ? -65504.0f : v;
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    const uint32_t even = (bits + 0xfffu + ((bits >> 13) & 1u)) & 0xffffe000u;
    const float small = (v + 0.75f) - 0.75f;
    float normal;
    memcpy(&normal, &even, sizeof(normal));
    return fabsf(v) < 0x1p-14f ? small : normal;
}

/* ---- blocks of up to 16 channels of a pixel ---- */

/* Loops over small arrays, each of which the compiler turns into vectors. */
struct block {
    const int32_t *sums;
    const uint32_t *constant, *weight;
    uint32_t window;
    int32_t channel; /* the first */
    uint8_t *codes;
};

INLINE int32_t exact(const struct block *b, int32_t j, const bool windowed)
{
    const uint32_t sum = (uint32_t)b->sums[j] + b->constant[j];
    return (int32_t)(windowed ? sum + b->weight[j] * b->window : sum);
}

INLINE void block_f32(const struct mqb_rescale *s, const struct block *b, const int32_t count, const int rounding,
                      const bool windowed)
{
    const float low = (float)(s->low - s->zero_after), high = (float)(s->high - s->zero_after);
    const float *m = s->m32 + b->channel, *bias = s->bias32 + b->channel;
    const int32_t after = s->zero_after + s->offset;
    int32_t whole[BLOCK];
    for (int32_t j = 0; j < count; j++) {
        float v = (float)exact(b, j, windowed) * m[j] + bias[j];
        v = v > low ? v : low; /* NaN becomes low */
        v = v < high ? v : high;
        whole[j] = (int32_t)round_f32(v, rounding) + after;
    }
    store(whole, b->codes, count);
}

INLINE void block_f64(const struct mqb_rescale *s, const struct block *b, const int32_t count, const int rounding,
                      const bool windowed)
{
    const double low = (double)(s->low - s->zero_after), high = (double)(s->high - s->zero_after);
    const double *m = s->m64 + b->channel, *bias = s->bias64 + b->channel;
    const int32_t after = s->zero_after + s->offset;
    int32_t whole[BLOCK];
    for (int32_t j = 0; j < count; j++) {
        double v = (double)exact(b, j, windowed) * m[j] + bias[j];
        v = v > low ? v : low; /* NaN becomes low */
        v = v < high ? v : high;
        whole[j] = (int32_t)round_f64(v, rounding) + after;
    }
    store(whole, b->codes, count);
}

/* A real number between: f(f(A) * s_xw) + b, perhaps as a half, then the output's scale. */
INLINE void block_real(const struct mqb_rescale *s, const struct block *b, const int32_t count, const int rounding,
                       const bool windowed, const bool halves)
{
    const float low = (float)(s->low - s->zero_after), high = (float)(s->high - s->zero_after);
    const float *m = s->m32 + b->channel, *bias = s->bias32 + b->channel, *second = s->second32 + b->channel;
    const float before = (float)s->zero_before;
    const int32_t after = s->zero_after + s->offset;
    float real[BLOCK];
    int32_t whole[BLOCK];
    for (int32_t j = 0; j < count; j++) {
        const float h = (float)exact(b, j, windowed) * m[j] + bias[j];
        real[j] = halves ? nearest_half(h) : h;
    }
    if (s->divide)
        for (int32_t j = 0; j < count; j++)
            real[j] = real[j] / second[j];
    else
        for (int32_t j = 0; j < count; j++)
            real[j] = real[j] * second[j];
    for (int32_t j = 0; j < count; j++) {
        float v = real[j] + before;
        v = v > low ? v : low; /* NaN becomes low */
        v = v < high ? v : high;
        whole[j] = (int32_t)round_f32(v, rounding) + after;
    }
    store(whole, b->codes, count);
}

INLINE int32_t bound(int64_t v, int64_t low, int64_t high)
{
    v = v < low ? low : v;
    v = v > high ? high : v;
    return (int32_t)v;
}

INLINE void block_q31(const struct mqb_rescale *s, const struct block *b, const int32_t count, const bool windowed)
{
    const int64_t *q = s->q31 + b->channel, *right = s->right + b->channel;
    const int64_t low = s->low - s->zero_after, high = s->high - s->zero_after;
    const int32_t after = s->zero_after + s->offset;
    int32_t whole[BLOCK];
    for (int32_t j = 0; j < count; j++) {
        const int64_t half = (int64_t)1 << (right[j] - 1);
        whole[j] = bound(((int64_t)exact(b, j, windowed) * q[j] + half) >> right[j], low, high) + after;
    }
    store(whole, b->codes, count);
}

/* gemmlowp's two roundings. The first, ties away from zero by its own words, is floor(x + 1/2): its nudge is one less below
 * zero, and the division that follows rounds towards zero. INT32_MIN squared cannot occur: q is positive. */
INLINE void block_q31_double(const struct mqb_rescale *s, const struct block *b, const int32_t count, const bool windowed)
{
    const int64_t *q = s->q31 + b->channel, *left = s->left + b->channel, *right = s->right + b->channel;
    const int64_t low = s->low - s->zero_after, high = s->high - s->zero_after;
    const int32_t after = s->zero_after + s->offset;
    int32_t whole[BLOCK];
    for (int32_t j = 0; j < count; j++) {
        const int64_t wide = bound((int64_t)exact(b, j, windowed) * left[j], INT32_MIN, INT32_MAX);
        const int64_t x = (wide * q[j] + ((int64_t)1 << 30)) >> 31, mask = ((int64_t)1 << right[j]) - 1;
        const int64_t up = (x & mask) > (mask >> 1) + (x < 0 ? 1 : 0) ? 1 : 0;
        whole[j] = bound((x >> right[j]) + up, low, high) + after;
    }
    store(whole, b->codes, count);
}

/* ---- rows ---- */

/* The last block of a pixel begins where it ends with the pixel: what it shares with the one before, both write alike. */
#define RESCALE_ROWS(name, CALL)                                                                                               \
    INLINE void name##_all(const struct mqb_rescale *s, const struct mqb_sums *sums, int64_t num_pixels, uint8_t *codes,       \
                           const bool windowed)                                                                                \
    {                                                                                                                          \
        const struct mqb_rescale local = *s, *const r = &local;                                                                \
        const uint32_t *const constant = sums->constant ? sums->constant : s->none;                                            \
        const int32_t channels = sums->num_channels, last = channels - BLOCK;                                                  \
        for (int64_t i = 0; i < num_pixels; i++) {                                                                             \
            struct block block = {.window = windowed ? sums->windows[i] : 0}, *const b = &block;                               \
            for (int32_t k = 0; k < channels; k += BLOCK) {                                                                    \
                const int32_t at = last < 0 ? 0 : k < last ? k : last;                                                         \
                block.sums = sums->accumulators + i * channels + at;                                                           \
                block.channel = sums->channel + at;                                                                            \
                block.constant = constant + block.channel;                                                                     \
                block.weight = windowed ? sums->weight + block.channel : NULL;                                                 \
                block.codes = codes + i * s->num_channels + block.channel;                                                     \
                if (last >= 0) {                                                                                               \
                    const int32_t count = BLOCK;                                                                               \
                    CALL;                                                                                                      \
                } else {                                                                                                       \
                    const int32_t count = channels;                                                                            \
                    CALL;                                                                                                      \
                }                                                                                                              \
            }                                                                                                                  \
        }                                                                                                                      \
    }                                                                                                                          \
    MQB_MULTIVERSION static void name(const struct mqb_rescale *s, const struct mqb_sums *sums, int64_t n, uint8_t *codes)     \
    {                                                                                                                          \
        name##_all(s, sums, n, codes, false);                                                                                  \
    }                                                                                                                          \
    MQB_MULTIVERSION static void name##_windows(const struct mqb_rescale *s, const struct mqb_sums *sums, int64_t n,           \
                                                uint8_t *codes)                                                                \
    {                                                                                                                          \
        name##_all(s, sums, n, codes, true);                                                                                   \
    }

RESCALE_ROWS(f32_rne, block_f32(r, b, count, MQB_ROUND_RNE, windowed))
RESCALE_ROWS(f32_rha, block_f32(r, b, count, MQB_ROUND_RHA, windowed))
RESCALE_ROWS(f32_rhu, block_f32(r, b, count, MQB_ROUND_RHU, windowed))
RESCALE_ROWS(f32_floor, block_f32(r, b, count, MQB_ROUND_FLOOR, windowed))
RESCALE_ROWS(f32_trunc, block_f32(r, b, count, MQB_ROUND_TRUNC, windowed))
RESCALE_ROWS(f64_rne, block_f64(r, b, count, MQB_ROUND_RNE, windowed))
RESCALE_ROWS(f64_rha, block_f64(r, b, count, MQB_ROUND_RHA, windowed))
RESCALE_ROWS(f64_rhu, block_f64(r, b, count, MQB_ROUND_RHU, windowed))
RESCALE_ROWS(f64_floor, block_f64(r, b, count, MQB_ROUND_FLOOR, windowed))
RESCALE_ROWS(f64_trunc, block_f64(r, b, count, MQB_ROUND_TRUNC, windowed))
RESCALE_ROWS(real_rne, block_real(r, b, count, MQB_ROUND_RNE, windowed, false))
RESCALE_ROWS(real_rha, block_real(r, b, count, MQB_ROUND_RHA, windowed, false))
RESCALE_ROWS(real_rhu, block_real(r, b, count, MQB_ROUND_RHU, windowed, false))
RESCALE_ROWS(real_floor, block_real(r, b, count, MQB_ROUND_FLOOR, windowed, false))
RESCALE_ROWS(real_trunc, block_real(r, b, count, MQB_ROUND_TRUNC, windowed, false))
RESCALE_ROWS(half_rne, block_real(r, b, count, MQB_ROUND_RNE, windowed, true))
RESCALE_ROWS(half_rha, block_real(r, b, count, MQB_ROUND_RHA, windowed, true))
RESCALE_ROWS(half_rhu, block_real(r, b, count, MQB_ROUND_RHU, windowed, true))
RESCALE_ROWS(half_floor, block_real(r, b, count, MQB_ROUND_FLOOR, windowed, true))
RESCALE_ROWS(half_trunc, block_real(r, b, count, MQB_ROUND_TRUNC, windowed, true))
RESCALE_ROWS(q31, block_q31(r, b, count, windowed))
RESCALE_ROWS(q31_double, block_q31_double(r, b, count, windowed))

/* The form of FBGEMM and TensorRT, half to even without a bias in float, word by word: the low byte of v + 1.5 * 2^23 is the
 * rounded number's. */
struct plain {
    const float *m;
    const uint32_t *constant, *weight;
    float low, high;
    int32_t after;
};

INLINE void plain_block(const struct plain p, const int32_t *sums, uint32_t window, int32_t k, uint8_t *codes,
                        const int32_t count, const bool windowed)
{
    int32_t whole[BLOCK];
    ROLLED
    for (int32_t j = 0; j < count; j++) {
        uint32_t sum = (uint32_t)sums[j] + p.constant[k + j];
        sum = windowed ? sum + p.weight[k + j] * window : sum;
        float v = (float)(int32_t)sum * p.m[k + j];
        v = v > p.low ? v : p.low;
        v = v < p.high ? v : p.high;
        v = v + 12582912.0f;
        int32_t bits;
        memcpy(&bits, &v, sizeof(bits));
        whole[j] = bits + p.after;
    }
    store(whole, codes, count);
}

INLINE void plain_rows(const struct mqb_rescale *s, const struct mqb_sums *sums, int64_t num_pixels, uint8_t *codes,
                       const bool windowed)
{
    const struct plain p = {s->m32 + sums->channel,
                            (sums->constant ? sums->constant : s->none) + sums->channel,
                            windowed ? sums->weight + sums->channel : NULL,
                            (float)(s->low - s->zero_after),
                            (float)(s->high - s->zero_after),
                            s->zero_after + s->offset};
    const int32_t channels = sums->num_channels, last = channels - BLOCK;
    const int32_t *raw = sums->accumulators;
    codes += sums->channel;
    for (int64_t i = 0; i < num_pixels; i++, raw += channels, codes += s->num_channels) {
        const uint32_t window = windowed ? sums->windows[i] : 0;
        int32_t k = 0;
        for (; k <= last; k += BLOCK)
            plain_block(p, raw + k, window, k, codes + k, BLOCK, windowed);
        if (k < channels && last >= 0)
            plain_block(p, raw + last, window, last, codes + last, BLOCK, windowed);
        else if (k < channels)
            plain_block(p, raw, window, 0, codes, channels, windowed);
    }
}

MQB_MULTIVERSION static void plain(const struct mqb_rescale *s, const struct mqb_sums *sums, int64_t n, uint8_t *codes)
{
    plain_rows(s, sums, n, codes, false);
}

MQB_MULTIVERSION static void plain_windows(const struct mqb_rescale *s, const struct mqb_sums *sums, int64_t n, uint8_t *codes)
{
    plain_rows(s, sums, n, codes, true);
}

static void rescale_scalar(const struct mqb_rescale *s, const struct mqb_sums *sums, int64_t num_pixels, uint8_t *codes)
{
    const uint32_t *constant = sums->constant ? sums->constant : s->none;
    for (int64_t i = 0; i < num_pixels; i++)
        for (int32_t j = 0; j < sums->num_channels; j++) {
            const int32_t k = sums->channel + j;
            uint32_t a = (uint32_t)sums->accumulators[i * sums->num_channels + j] + constant[k];
            if (sums->windows)
                a += sums->weight[k] * sums->windows[i];
            codes[i * s->num_channels + k] = (uint8_t)(mqb_requantize(&s->scalar[k], (int32_t)a) + s->offset);
        }
}

typedef void (*rescale_function)(const struct mqb_rescale *, const struct mqb_sums *, int64_t, uint8_t *);

#define ROUNDINGS(form)                                                                                                        \
    {                                                                                                                          \
        {[MQB_ROUND_RNE] = form##_rne,                                                                                         \
         [MQB_ROUND_RHA] = form##_rha,                                                                                         \
         [MQB_ROUND_RHU] = form##_rhu,                                                                                         \
         [MQB_ROUND_FLOOR] = form##_floor,                                                                                     \
         [MQB_ROUND_TRUNC] = form##_trunc},                                                                                    \
        {                                                                                                                      \
            [MQB_ROUND_RNE] = form##_rne_windows, [MQB_ROUND_RHA] = form##_rha_windows, [MQB_ROUND_RHU] = form##_rhu_windows,  \
            [MQB_ROUND_FLOOR] = form##_floor_windows, [MQB_ROUND_TRUNC] = form##_trunc_windows                                 \
        }                                                                                                                      \
    }

void mqb_rescale_run(const struct mqb_rescale *rescale, const struct mqb_sums *sums, int64_t num_pixels, uint8_t *codes)
{
    static const rescale_function floats[][2][5] = {[MQB_RESCALE_F32] = ROUNDINGS(f32),
                                                    [MQB_RESCALE_F64] = ROUNDINGS(f64),
                                                    [MQB_RESCALE_REAL] = ROUNDINGS(real),
                                                    [MQB_RESCALE_HALF] = ROUNDINGS(half)};
    static const rescale_function integers[][2] = {[MQB_RESCALE_Q31] = {q31, q31_windows},
                                                   [MQB_RESCALE_Q31_DOUBLE] = {q31_double, q31_double_windows},
                                                   [MQB_RESCALE_PLAIN] = {plain, plain_windows}};
    const bool windowed = sums->windows != NULL;
    if (mqb_wide_rescale(rescale, sums, num_pixels, codes))
        return;
    if (rescale->form == MQB_RESCALE_SCALAR)
        rescale_scalar(rescale, sums, num_pixels, codes);
    else if (rescale->form <= MQB_RESCALE_HALF)
        floats[rescale->form][windowed][rescale->rounding](rescale, sums, num_pixels, codes);
    else
        integers[rescale->form][windowed](rescale, sums, num_pixels, codes);
}
