/*
 * iexec_wide.c - sums to codes and to reals in vectors of 512 bits, 64 channels at a time where there are so many.
 *
 * Bytes are made by the saturating packs of 32 to 16 to 8 bits, which also clamp. Contracts whose arithmetic is wider than a
 * float (doubles, 64-bit integers), or that divide, are computed in float first: with c = f(A) f(M) both factors and the
 * product are off by 2^-24 each, so that |c - v| < 2^-12 for every v that is not clamped. Where c stays farther than that from
 * a tie, every rounding to nearest gives the code of c; the few other lanes are done again by the scalar definition.
 */
#include "quant/program.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN 0x1p-12f /* of c; 384 * 3 * 2^-24 is a third of it */

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define WIDE __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define WIDE_INLINE static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512vl,avx512dq")))

enum { LANES = 16, BYTES = 64 };

struct rule {
    const struct mqb_rescale *s;
    const struct mqb_sums *sums;
    const float *m; /* by channel of the piece, as the next two */
    const uint32_t *constant, *weight;
    int32_t period; /* channels: a lane's place modulo it is the channel */
    __m512i after;  /* in 16 bits */
    __m512i low, high; /* in bytes */
    __m512 limit;   /* farther than that from an integer: near a tie */
};

/* By the scalar definition: lanes in `doubt`, the first of which is number k of the piece. */
static __attribute__((noinline)) void again(const struct rule *r, uint64_t doubt, const int32_t *sums, int32_t k, uint32_t window,
                                            uint8_t *codes)
{
    for (; doubt; doubt &= doubt - 1) {
        const int32_t j = __builtin_ctzll(doubt), c = (k + j) % r->period;
        const uint32_t a = (uint32_t)sums[j] + r->constant[k + j] + (r->weight ? r->weight[k + j] * window : 0);
        codes[j] = (uint8_t)(mqb_requantize(&r->s->scalar[r->sums->channel + c], (int32_t)a) + r->s->offset);
    }
}

WIDE_INLINE __m512i whole(const struct rule *r, const int32_t *sums, int32_t k, uint32_t window, const bool windowed,
                          const bool checked, uint64_t *doubt, const int32_t shift)
{
    __m512i a = _mm512_add_epi32(_mm512_loadu_si512(sums), _mm512_loadu_si512(r->constant + k));
    if (windowed)
        a = _mm512_add_epi32(a, _mm512_mullo_epi32(_mm512_loadu_si512(r->weight + k), _mm512_set1_epi32((int32_t)window)));
    const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(a), _mm512_loadu_ps(r->m + k));
    if (checked) {
        const __m512 rest = _mm512_reduce_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        *doubt |= (uint64_t)_mm512_cmp_ps_mask(_mm512_abs_ps(rest), r->limit, _CMP_GT_OQ) << shift;
    }
    return _mm512_cvtps_epi32(v);
}

WIDE_INLINE __m512i bounded(const struct rule *r, __m512i bytes)
{
    return _mm512_min_epu8(_mm512_max_epu8(bytes, r->low), r->high);
}

/* The packs work within 128 bits: the dwords of the four vectors alternate afterwards. */
WIDE_INLINE __m512i pack(const struct rule *r, const __m512i i[4])
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i a = _mm512_adds_epi16(_mm512_packs_epi32(i[0], i[1]), r->after);
    const __m512i b = _mm512_adds_epi16(_mm512_packs_epi32(i[2], i[3]), r->after);
    return _mm512_permutexvar_epi32(order, bounded(r, _mm512_packus_epi16(a, b)));
}

WIDE_INLINE void block64(const struct rule *r, const int32_t *sums, int32_t k, uint32_t window, uint8_t *codes,
                         const bool windowed, const bool checked)
{
    uint64_t doubt = 0;
    __m512i i[4];
    for (int j = 0; j < 4; j++)
        i[j] = whole(r, sums + j * LANES, k + j * LANES, window, windowed, checked, &doubt, j * LANES);
    _mm512_storeu_si512(codes, pack(r, i));
    if (checked && doubt)
        again(r, doubt, sums, k, window, codes);
}

WIDE_INLINE void block16(const struct rule *r, const int32_t *sums, int32_t k, uint32_t window, uint8_t *codes,
                         const bool windowed, const bool checked)
{
    uint64_t doubt = 0;
    const __m512i i = whole(r, sums, k, window, windowed, checked, &doubt, 0);
    const __m512i a = _mm512_adds_epi16(_mm512_packs_epi32(i, i), r->after);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    const __m512i b = _mm512_permutexvar_epi32(order, bounded(r, _mm512_packus_epi16(a, a)));
    _mm_storeu_si128((__m128i *)(void *)codes, _mm512_castsi512_si128(b));
    if (checked && doubt)
        again(r, doubt, sums, k, window, codes);
}

/* Pixel by pixel; the last block of a pixel ends with it. */
WIDE_INLINE void pixels(const struct rule *r, int64_t num_pixels, uint8_t *codes, const bool windowed, const bool checked)
{
    const int32_t channels = r->sums->num_channels;
    const int32_t *sums = r->sums->accumulators;
    for (int64_t i = 0; i < num_pixels; i++, sums += channels, codes += r->s->num_channels) {
        const uint32_t window = windowed ? r->sums->windows[i] : 0;
        int32_t k = 0;
        for (; k + BYTES <= channels; k += BYTES)
            block64(r, sums + k, k, window, codes + k, windowed, checked);
        for (; k < channels; k += LANES) {
            const int32_t at = k + LANES <= channels ? k : channels - LANES;
            block16(r, sums + at, at, window, codes + at, windowed, checked);
        }
    }
}

/* Whole pixels of few channels: 64 codes are some of them. */
WIDE_INLINE void together(struct rule *r, int64_t num_pixels, uint8_t *codes, const bool checked)
{
    const int64_t size = num_pixels * r->period;
    const int32_t *sums = r->sums->accumulators;
    float m[BYTES];
    uint32_t constant[BYTES];
    for (int32_t j = 0; j < BYTES; j++) {
        m[j] = r->m[j % r->period];
        constant[j] = r->constant[j % r->period];
    }
    r->m = m;
    r->constant = constant;
    int64_t i = 0;
    for (; i + BYTES <= size; i += BYTES)
        block64(r, sums + i, 0, 0, codes + i, false, checked);
    if (i < size)
        again(r, ((uint64_t)1 << (size - i)) - 1, sums + i, 0, 0, codes + i);
}

WIDE_INLINE struct rule make_rule(const struct mqb_rescale *s, const struct mqb_sums *sums)
{
    const uint32_t *constant = sums->constant ? sums->constant : s->none;
    return (struct rule){s,
                         sums,
                         s->approximate + sums->channel,
                         constant + sums->channel,
                         sums->windows ? sums->weight + sums->channel : NULL,
                         sums->num_channels,
                         _mm512_set1_epi16((int16_t)(s->zero_before + s->zero_after + s->offset)),
                         _mm512_set1_epi8((char)(s->low + s->offset)),
                         _mm512_set1_epi8((char)(s->high + s->offset)),
                         _mm512_set1_ps(0.5f - s->margin)};
}

static bool fills_together(const struct mqb_rescale *s, const struct mqb_sums *sums)
{
    return !sums->windows && sums->num_channels == s->num_channels && BYTES % sums->num_channels == 0;
}

#define WIDE_FUNCTION(name, checked)                                                                                           \
    WIDE static void name(const struct mqb_rescale *s, const struct mqb_sums *sums, int64_t num_pixels, uint8_t *codes)        \
    {                                                                                                                          \
        struct rule r = make_rule(s, sums);                                                                                    \
        if (fills_together(s, sums))                                                                                           \
            together(&r, num_pixels, codes, checked);                                                                          \
        else if (sums->windows)                                                                                                \
            pixels(&r, num_pixels, codes + sums->channel, true, checked);                                                      \
        else                                                                                                                   \
            pixels(&r, num_pixels, codes + sums->channel, false, checked);                                                     \
    }
WIDE_FUNCTION(wide_plain, false)
WIDE_FUNCTION(wide_checked, true)

bool mqb_wide_rescale(const struct mqb_rescale *s, const struct mqb_sums *sums, int64_t num_pixels, uint8_t *codes)
{
    if (s->wide == MQB_WIDE_NONE || (sums->num_channels < LANES && !fills_together(s, sums)))
        return false;
    if (s->wide == MQB_WIDE_PLAIN)
        wide_plain(s, sums, num_pixels, codes);
    else
        wide_checked(s, sums, num_pixels, codes);
    return true;
}

/* ---- sums to reals ---- */

/* Some lanes of a piece: `at` in the sums, `k` in the arrays by channel, `to` in the result. */
struct place {
    int64_t at, to;
    int32_t k;
};

/* A = raw + constant + weight * window, as a real: f(f(A) * scale) + bias, perhaps as a half. */
struct real_rule {
    const struct mqb_sums *sums;
    const uint32_t *constant, *weight;
    const float *scale, *bias;
    bool half;
};

WIDE_INLINE __m512 real16(const struct real_rule *r, struct place p, uint32_t window)
{
    __m512i a = _mm512_add_epi32(_mm512_loadu_si512(r->sums->accumulators + p.at), _mm512_loadu_si512(r->constant + p.k));
    if (r->weight)
        a = _mm512_add_epi32(a, _mm512_mullo_epi32(_mm512_loadu_si512(r->weight + p.k), _mm512_set1_epi32((int32_t)window)));
    __m512 v = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(a), _mm512_loadu_ps(r->scale + p.k)), _mm512_loadu_ps(r->bias + p.k));
    if (r->half) {
        v = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(-65504.0f)), _mm512_set1_ps(65504.0f));
        v = _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    return v;
}

/* Where the real sums of a layer go: to reals, or with another operand's codes on top to codes. */
struct real_end {
    float *reals;
    const uint8_t *side;
    uint8_t *codes;
    const struct mqb_iconv *conv;
    float inverse;
};

/* By the functions that define it. */
static __attribute__((noinline)) void add_again(const struct real_rule *r, const struct real_end *end, uint64_t doubt,
                                                struct place p, uint32_t window)
{
    for (; doubt; doubt &= doubt - 1) {
        const int32_t j = __builtin_ctzll(doubt), k = p.k + j;
        const uint32_t a = (uint32_t)r->sums->accumulators[p.at + j] + r->constant[k] + (r->weight ? r->weight[k] * window : 0);
        const int32_t exact = (int32_t)a;
        float real;
        mqb_real_row(1, &exact, r->scale + k, r->bias + k, &real);
        if (r->half)
            mqb_real_halves(1, &real);
        mqb_real_add_codes(1, end->side + p.to + j, end->conv->side_zero, end->conv->side_scale, &real);
        mqb_quantize_rows(&end->conv->quantize, 1, &real, end->codes + p.to + j);
    }
}

WIDE_INLINE void end16(const struct real_rule *r, const struct real_end *end, struct place p, uint32_t window)
{
    const __m512 v = real16(r, p, window);
    if (end->reals) {
        _mm512_storeu_ps(end->reals + p.to, v);
        return;
    }
    const struct mqb_iconv *conv = end->conv;
    const struct mqb_quantize_rows *q = &conv->quantize;
    const __m512i code = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(end->side + p.to)));
    const __m512 other = _mm512_cvtepi32_ps(_mm512_sub_epi32(code, _mm512_set1_epi32(conv->side_zero)));
    const __m512 sum = _mm512_add_ps(v, _mm512_mul_ps(_mm512_set1_ps(conv->side_scale), other));
    __m512 c = _mm512_mul_ps(sum, _mm512_set1_ps(end->inverse));
    c = _mm512_min_ps(_mm512_max_ps(c, _mm512_set1_ps((float)(q->low - q->zero_point))),
                      _mm512_set1_ps((float)(q->high - q->zero_point)));
    const __m512 rest = _mm512_reduce_ps(c, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __mmask16 doubt = _mm512_cmp_ps_mask(_mm512_abs_ps(rest), _mm512_set1_ps(0.5f - MARGIN), _CMP_GT_OQ);
    const __m512i whole16 = _mm512_add_epi32(_mm512_cvtps_epi32(c), _mm512_set1_epi32(q->zero_point + q->offset));
    _mm_storeu_si128((__m128i *)(void *)(end->codes + p.to), _mm512_cvtepi32_epi8(whole16));
    if (doubt)
        add_again(r, end, doubt, p, window);
}

/* Sixteen lanes at a time; the last ones of a pixel end with it. Pixels of few channels follow one another. */
WIDE static void reals(const struct real_rule *rule, int64_t num_pixels, int32_t all_channels, const struct real_end *end)
{
    struct real_rule r = *rule;
    const struct mqb_sums *sums = r.sums;
    float scale[BYTES], bias[BYTES];
    uint32_t constant[BYTES];
    int32_t period = 0;
    int64_t channels = sums->num_channels;
    if (!sums->windows && channels == all_channels && BYTES % channels == 0) {
        for (int32_t j = 0; j < BYTES; j++) {
            scale[j] = r.scale[j % channels];
            bias[j] = r.bias[j % channels];
            constant[j] = r.constant[j % channels];
        }
        r.scale = scale;
        r.bias = bias;
        r.constant = constant;
        period = (int32_t)channels;
        channels *= num_pixels;
        num_pixels = 1;
    }
    for (int64_t i = 0; i < num_pixels; i++)
        for (int64_t k = 0; k < channels; k += LANES) {
            const int64_t j = k + LANES <= channels ? k : channels - LANES;
            const struct place p = {i * channels + j, i * all_channels + j, (int32_t)(period ? j % period : j)};
            end16(&r, end, p, sums->windows ? sums->windows[i] : 0);
        }
}

bool mqb_wide_reals(const struct mqb_iconv *conv, const struct mqb_sums *sums, int64_t num_pixels, float *out,
                    const uint8_t *side, uint8_t *codes)
{
    const int32_t k = sums->channel, all = conv->shape.k, rounding = out ? MQB_ROUND_RNE : conv->quantize.contract->input_rounding;
    const bool few = !sums->windows && sums->num_channels == all && BYTES % all == 0 && num_pixels * all >= LANES;
    if (!conv->wide || rounding > MQB_ROUND_RHU || (sums->num_channels < LANES && !few))
        return false;
    const struct real_rule rule = {sums,
                                   sums->constant + k,
                                   sums->windows ? sums->weight + k : NULL,
                                   conv->logit_scale + k,
                                   conv->logit_bias + k,
                                   conv->half};
    const struct real_end end = {out ? out + k : NULL, side ? side + k : NULL, codes ? codes + k : NULL, conv,
                                 out ? 0.0f : 1.0f / conv->quantize.scale};
    reals(&rule, num_pixels, all, &end);
    return true;
}

WIDE static void halves(int64_t size, float *y)
{
    for (int64_t i = 0; i < size; i += LANES) {
        const __mmask16 lanes = (__mmask16)(size - i < LANES ? (1u << (size - i)) - 1u : 0xffffu);
        __m512 v = _mm512_maskz_loadu_ps(lanes, y + i);
        v = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, v, _CMP_ORD_Q), v); /* NaN becomes 0 */
        v = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(-65504.0f)), _mm512_set1_ps(65504.0f));
        v = _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
        _mm512_mask_storeu_ps(y + i, lanes, v);
    }
}

bool mqb_wide_halves(int64_t size, float *y)
{
    halves(size, y);
    return true;
}

/* ---- codes added to codes ---- */

WIDE_INLINE __m512 affine(const uint8_t *codes, float factor, float constant)
{
    const __m512i whole16 = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)codes));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole16), _mm512_set1_ps(factor), _mm512_set1_ps(constant));
}

WIDE_INLINE __mmask16 near_tie(__m512 v)
{
    const __m512 rest = _mm512_reduce_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_cmp_ps_mask(_mm512_abs_ps(rest), _mm512_set1_ps(0.5f - MARGIN), _CMP_GT_OQ);
}

/* 64 codes. each: both operands are rounded, then added; else one rounding. */
WIDE_INLINE void pair64(const struct mqb_pair *s, const uint8_t *table, const uint8_t *a, const uint8_t *b, uint8_t *codes,
                        const bool each)
{
    uint64_t doubt = 0;
    __m512i i[4];
    for (int j = 0; j < 4; j++) {
        const __m512 va = affine(a + j * LANES, s->wide_a, s->wide_ca), vb = affine(b + j * LANES, s->wide_b, s->wide_cb);
        if (each) {
            i[j] = _mm512_add_epi32(_mm512_cvtps_epi32(va), _mm512_cvtps_epi32(vb));
            doubt |= (uint64_t)(near_tie(va) | near_tie(vb)) << (j * LANES);
        } else {
            const __m512 v = _mm512_add_ps(va, vb);
            i[j] = _mm512_cvtps_epi32(v);
            doubt |= (uint64_t)near_tie(v) << (j * LANES);
        }
    }
    const struct rule bounds = {.after = _mm512_set1_epi16((int16_t)s->wide_after),
                                .low = _mm512_set1_epi8((char)s->wide_low),
                                .high = _mm512_set1_epi8((char)s->wide_high)};
    const __m512i packed = pack(&bounds, i);
    uint8_t again64[BYTES];
    if (doubt) { /* a and b may be where the codes go */
        for (uint64_t left = doubt; left; left &= left - 1) {
            const int32_t j = __builtin_ctzll(left);
            again64[j] = table[a[j] * 256 + b[j]];
        }
        _mm512_storeu_si512(codes, _mm512_mask_loadu_epi8(packed, doubt, again64));
        return;
    }
    _mm512_storeu_si512(codes, packed);
}

WIDE static void pair_wide(const struct mqb_pair *s, const uint8_t *table, int64_t size, const uint8_t *a, const uint8_t *b,
                           uint8_t *codes)
{
    int64_t i = 0;
    if (s->wide == MQB_WIDE_EACH)
        for (; i + BYTES <= size; i += BYTES)
            pair64(s, table, a + i, b + i, codes + i, true);
    else
        for (; i + BYTES <= size; i += BYTES)
            pair64(s, table, a + i, b + i, codes + i, false);
    for (; i < size; i++)
        codes[i] = table[a[i] * 256 + b[i]];
}

bool mqb_wide_pair(const struct mqb_pair *s, const uint8_t *table, int64_t size, const uint8_t *a, const uint8_t *b,
                   uint8_t *codes)
{
    if (s->wide == MQB_WIDE_NONE)
        return false;
    pair_wide(s, table, size, a, b, codes);
    return true;
}

#else

bool mqb_wide_rescale(const struct mqb_rescale *s, const struct mqb_sums *sums, int64_t num_pixels, uint8_t *codes)
{
    (void)s;
    (void)sums;
    (void)num_pixels;
    (void)codes;
    return false;
}

bool mqb_wide_reals(const struct mqb_iconv *conv, const struct mqb_sums *sums, int64_t num_pixels, float *out,
                    const uint8_t *side, uint8_t *codes)
{
    (void)conv;
    (void)sums;
    (void)num_pixels;
    (void)out;
    (void)side;
    (void)codes;
    return false;
}

bool mqb_wide_halves(int64_t size, float *y)
{
    (void)size;
    (void)y;
    return false;
}

bool mqb_wide_pair(const struct mqb_pair *s, const uint8_t *table, int64_t size, const uint8_t *a, const uint8_t *b,
                   uint8_t *codes)
{
    (void)s;
    (void)table;
    (void)size;
    (void)a;
    (void)b;
    (void)codes;
    return false;
}

#endif

/* Every pair of codes, as mqb_pair_choose does it. */
static bool pairs_equal(const struct mqb_pair *s, const uint8_t *table)
{
    uint8_t a[256], b[256], out[256];
    for (int32_t j = 0; j < 256; j++)
        b[j] = (uint8_t)j;
    for (int32_t i = 0; i < 256; i++) {
        memset(a, i, sizeof(a));
        if (!mqb_wide_pair(s, table, 256, a, b, out) || memcmp(out, table + i * 256, sizeof(out)) != 0)
            return false;
    }
    return true;
}

void mqb_wide_choose_pair(struct mqb_pair *s, const struct mqb_wide_addition *addition, const uint8_t *table)
{
    s->wide_a = addition->factor_a;
    s->wide_b = addition->factor_b;
    s->wide_ca = -addition->factor_a * (float)addition->zero_a;
    s->wide_cb = -addition->factor_b * (float)addition->zero_b;
    s->wide_after = addition->after;
    s->wide_low = addition->low;
    s->wide_high = addition->high;
    s->wide = addition->each ? MQB_WIDE_EACH : MQB_WIDE_CHECKED;
    const float most = 256.0f * (fabsf(s->wide_a) + fabsf(s->wide_b)); /* what is added must stay far inside 16 bits */
    if (!mqb_isa_wide() || !(most < 16384.0f) || abs(addition->after) > 4096 || !pairs_equal(s, table))
        s->wide = MQB_WIDE_NONE;
}

void mqb_wide_choose(struct mqb_rescale *s, bool biased)
{
    float margin = MARGIN;
    s->wide = MQB_WIDE_NONE;
    if (!mqb_isa_wide() || biased || s->rounding > MQB_ROUND_RHU || s->form == MQB_RESCALE_SCALAR ||
        s->form == MQB_RESCALE_REAL || s->form == MQB_RESCALE_HALF || s->low + s->offset < 0 || s->high + s->offset > 255)
        return;
    for (int32_t k = 0; k < s->num_channels; k++) {
        s->approximate[k] = s->scalar[k].m32;
        if (!(s->approximate[k] <= 0.5f)) /* above, sums times it may not fit into 32 bits */
            return;
        if (s->form == MQB_RESCALE_Q31_DOUBLE) /* the first of its two roundings is off by half a step of the second */
            margin = fmaxf(margin, MARGIN + ldexpf(0.5f, -(int)s->right[k]));
    }
    if (margin > 0x1p-4f) /* too many lanes twice */
        return;
    s->margin = margin;
    s->wide = s->form == MQB_RESCALE_PLAIN ? MQB_WIDE_PLAIN : MQB_WIDE_CHECKED;
}
