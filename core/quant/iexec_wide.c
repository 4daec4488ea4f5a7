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
#include <string.h>

#define MARGIN 0x1p-12f /* of c; 384 * 3 * 2^-24 is a third of it */

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define WIDE __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define WIDE_INLINE static inline __attribute__((always_inline, target("avx512f,avx512bw,avx512vl,avx512dq")))

enum { LANES = 16, BYTES = 64, TAKEN_AGAIN = 64 };

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

#else

bool mqb_wide_rescale(const struct mqb_rescale *s, const struct mqb_sums *sums, int64_t num_pixels, uint8_t *codes)
{
    (void)s;
    (void)sums;
    (void)num_pixels;
    (void)codes;
    return false;
}

#endif

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
