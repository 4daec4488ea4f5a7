/*
 * iexec_rescale.c - rows of accumulators to codes, equal to mqb_requantize bit for bit.
 *
 * The vector forms clamp before they round: the bounds are integers, so the order does not matter, and afterwards every
 * number is small enough for a conversion to int32. A power-of-two contract is exact in double, so it shares that form.
 */
#include "quant/program.h"

#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

#define BLOCK 16 /* channels whose loop the compiler unrolls */

static bool vector_form(const struct mqb_requantizer *r, int32_t *form)
{
    /* Saturation to 16 bits lies outside any range of codes; a half or float in between needs the scalar path. */
    if (r->intermediate != MQB_INTERMEDIATE_NONE && r->intermediate != MQB_INTERMEDIATE_I16_SATURATING)
        return false;
    if (r->rounding != MQB_ROUND_RNE && r->rounding != MQB_ROUND_RHA && r->rounding != MQB_ROUND_RHU)
        return false;
    if (r->multiplier == MQB_MULTIPLIER_F32)
        *form = MQB_RESCALE_F32;
    else if (r->multiplier == MQB_MULTIPLIER_F64 || (r->multiplier == MQB_MULTIPLIER_POT && r->divisor == 1))
        *form = MQB_RESCALE_F64;
    else
        return false;
    return true;
}

mqb_status mqb_rescale_create(struct mqb_rescale *rescale, const struct mqb_contract *contract, float s_x, const float *s_w,
                              int32_t num_scales, const struct mqb_itensor *out, const float *bias, int32_t num_channels,
                              int32_t low, int32_t high, struct mqb_error *error)
{
    *rescale = (struct mqb_rescale){.num_channels = num_channels, .low = low, .high = high, .offset = out->offset};
    size_t padded = ((size_t)num_channels + BLOCK - 1) / BLOCK * BLOCK;
    rescale->scalar = mqb_allocate_array(padded, sizeof(*rescale->scalar));
    rescale->m32 = mqb_allocate_array(padded, sizeof(float));
    rescale->bias32 = mqb_allocate_array(padded, sizeof(float));
    rescale->m64 = mqb_allocate_array(padded, sizeof(double));
    rescale->bias64 = mqb_allocate_array(padded, sizeof(double));
    if (!rescale->scalar || !rescale->m32 || !rescale->bias32 || !rescale->m64 || !rescale->bias64)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the multipliers of %d channels", (int)num_channels);
    for (int32_t k = 0; k < num_channels; k++) {
        struct mqb_requantizer *r = &rescale->scalar[k];
        mqb_status status = mqb_requantizer_init(r, contract, s_x, s_w[num_scales > 1 ? k : 0], out->info.scale,
                                                 out->info.zero_point, low, high, error);
        if (status != MQB_OK)
            return mqb_fail_prefix(error, status, "channel %d", (int)k);
        r->bias = bias ? bias[k] : 0.0f;
        rescale->m32[k] = r->m32;
        rescale->m64[k] = r->m;
        rescale->bias32[k] = r->bias / r->s_y;
        rescale->bias64[k] = (double)r->bias / r->s_y;
        if (!isfinite(rescale->bias32[k]))
            return mqb_fail(error, MQB_ERR_NUMERIC, "channel %d: bias %g divided by the output scale %g is not a finite number",
                            (int)k, (double)r->bias, (double)r->s_y);
    }
    const struct mqb_requantizer *r = &rescale->scalar[0];
    rescale->form = MQB_RESCALE_SCALAR;
    vector_form(r, &rescale->form);
    rescale->rounding = r->rounding;
    rescale->zero_before = r->zp_before ? out->info.zero_point : 0;
    rescale->zero_after = r->zp_before ? 0 : out->info.zero_point;
    return MQB_OK;
}

void mqb_rescale_destroy(struct mqb_rescale *rescale)
{
    mqb_deallocate(rescale->scalar);
    mqb_deallocate(rescale->m32);
    mqb_deallocate(rescale->bias32);
    mqb_deallocate(rescale->m64);
    mqb_deallocate(rescale->bias64);
}

/* |v| <= 1024 here. Adding and taking away 1.5 * 2^23 (1.5 * 2^52) rounds half to even; what was rounded off is exact, and
 * tells a tie. */
#define EVEN_float(v) (((v) + 12582912.0f) - 12582912.0f)
#define EVEN_double(v) (((v) + 6755399441055744.0) - 6755399441055744.0)

#define ROUND_EVEN(type, v) EVEN_##type(v)
#define ROUND_AWAY(type, v) round_away_##type(v)
#define ROUND_UP(type, v) round_up_##type(v)

#define ROUND_FUNCTIONS(type)                                                                                                  \
    static inline type round_away_##type(type v)                                                                               \
    {                                                                                                                          \
        type even = EVEN_##type(v), rest = v - even;                                                                           \
        even += ((rest == (type)0.5) & (v > 0)) ? (type)1 : (type)0;                                                           \
        return even - (((rest == (type)-0.5) & (v < 0)) ? (type)1 : (type)0);                                                  \
    }                                                                                                                          \
    static inline type round_up_##type(type v)                                                                                 \
    {                                                                                                                          \
        type even = EVEN_##type(v);                                                                                            \
        return even + (v - even == (type)0.5 ? (type)1 : (type)0);                                                             \
    }

ROUND_FUNCTIONS(float)
ROUND_FUNCTIONS(double)

/* A block of up to BLOCK channels of a pixel, in two loops over a small array, so that each is vectorized. `count` is BLOCK or
 * the rest; the compiler sees both cases. */
#define RESCALE_BLOCK(type, ROUND, count)                                                                                      \
    for (int32_t j = 0; j < (count); j++) {                                                                                    \
        type v = (type)a[j] * m[j];                                                                                            \
        v = v + b[j];                                                                                                          \
        v = v + before;                                                                                                        \
        v = v < low ? low : v;                                                                                                 \
        v = v > high ? high : v;                                                                                               \
        whole[j] = (int32_t)ROUND(type, v) + after;                                                                            \
    }                                                                                                                          \
    for (int32_t j = 0; j < (count); j++)                                                                                      \
        out[j] = (uint8_t)whole[j];

#define RESCALE_FUNCTION(name, type, multiplier, bias, ROUND)                                                                  \
    MQB_MULTIVERSION static void name(const struct mqb_rescale *s, const int32_t *acc, int64_t num_pixels, uint8_t *codes)     \
    {                                                                                                                          \
        const type before = (type)s->zero_before;                                                                              \
        const type low = (type)(s->low - s->zero_after), high = (type)(s->high - s->zero_after);                               \
        const int32_t after = s->zero_after + s->offset, channels = s->num_channels;                                           \
        int32_t whole[BLOCK];                                                                                                  \
        for (int64_t i = 0; i < num_pixels; i++) {                                                                             \
            for (int32_t k = 0; k < channels; k += BLOCK) {                                                                    \
                const int32_t *a = acc + i * channels + k;                                                                     \
                uint8_t *out = codes + i * channels + k;                                                                       \
                const type *m = s->multiplier + k, *b = s->bias + k;                                                           \
                if (channels - k >= BLOCK) {                                                                                   \
                    RESCALE_BLOCK(type, ROUND, BLOCK)                                                                          \
                } else {                                                                                                       \
                    RESCALE_BLOCK(type, ROUND, channels - k)                                                                   \
                }                                                                                                              \
            }                                                                                                                  \
        }                                                                                                                      \
    }

RESCALE_FUNCTION(rescale_f32_even, float, m32, bias32, ROUND_EVEN)
RESCALE_FUNCTION(rescale_f32_away, float, m32, bias32, ROUND_AWAY)
RESCALE_FUNCTION(rescale_f32_up, float, m32, bias32, ROUND_UP)
RESCALE_FUNCTION(rescale_f64_even, double, m64, bias64, ROUND_EVEN)
RESCALE_FUNCTION(rescale_f64_away, double, m64, bias64, ROUND_AWAY)
RESCALE_FUNCTION(rescale_f64_up, double, m64, bias64, ROUND_UP)

static void rescale_scalar(const struct mqb_rescale *s, const int32_t *acc, int64_t num_pixels, uint8_t *codes)
{
    for (int64_t i = 0; i < num_pixels; i++)
        for (int32_t k = 0; k < s->num_channels; k++) {
            int64_t at = i * s->num_channels + k;
            codes[at] = (uint8_t)(mqb_requantize(&s->scalar[k], acc[at]) + s->offset);
        }
}

void mqb_rescale_run(const struct mqb_rescale *rescale, const int32_t *accumulators, int64_t num_pixels, uint8_t *codes)
{
    typedef void (*rescale_function)(const struct mqb_rescale *, const int32_t *, int64_t, uint8_t *);
    static const rescale_function functions[2][3] = {
        {[MQB_ROUND_RNE] = rescale_f32_even, [MQB_ROUND_RHA] = rescale_f32_away, [MQB_ROUND_RHU] = rescale_f32_up},
        {[MQB_ROUND_RNE] = rescale_f64_even, [MQB_ROUND_RHA] = rescale_f64_away, [MQB_ROUND_RHU] = rescale_f64_up},
    };
    if (rescale->form == MQB_RESCALE_SCALAR)
        rescale_scalar(rescale, accumulators, num_pixels, codes);
    else
        functions[rescale->form == MQB_RESCALE_F64][rescale->rounding](rescale, accumulators, num_pixels, codes);
}
