/*
 * requant.c - one accumulator through a requantization contract: the scalar definition.
 *
 * Letters: A accumulator, M = s_x s_w / s_y, z output zero point, f() one rounding to float32.
 *   F32         v = f(f(A) * M32) [+ f(b / s_y)]           then round, zero point, clamp
 *   F64         v = A * M in double [+ b / s_y]            the same
 *   F32 or F64 with a float intermediate: h = half or float of f(f(A) * s_xw) + b; v = h / s_y or h * f(1 / s_y)
 *   Q31         (A * q + 2^(t-1)) >> t, t = 31 - shift     TFLite single rounding, TVM upward
 *   Q31_DOUBLE  SRDHM(A * 2^L, q), then rounding shift R   gemmlowp
 *   POT         A / (2^k * divisor), rounded by the contract's mode
 * Clamping comes last and in a type wide enough, so that no conversion overflows.
 */
#include "quant/requant.h"

#include <math.h>

static const char *const multiplier_names[] = {"f32", "f64", "q31", "q31-double", "pot"};

int32_t mqb_requant_srdhm(int32_t a, int32_t b)
{
    if (a == INT32_MIN && b == INT32_MIN)
        return INT32_MAX;
    int64_t ab = (int64_t)a * b;
    int64_t nudge = ab >= 0 ? (int64_t)1 << 30 : 1 - ((int64_t)1 << 30);
    return (int32_t)((ab + nudge) / ((int64_t)1 << 31));
}

int32_t mqb_requant_rdpot(int32_t x, int32_t exponent)
{
    int64_t mask = ((int64_t)1 << exponent) - 1;
    int64_t remainder = x & mask;
    int64_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
    return (int32_t)(((int64_t)x >> exponent) + (remainder > threshold ? 1 : 0));
}

void mqb_requant_q31(double multiplier, int32_t *q31, int32_t *shift)
{
    int exponent = 0;
    double fraction = frexp(multiplier, &exponent);
    int64_t q = (int64_t)mqb_requant_round(fraction * 2147483648.0, MQB_ROUND_RHA);
    if (q == (int64_t)1 << 31) {
        q /= 2;
        exponent++;
    }
    if (exponent < -31) {
        q = 0;
        exponent = 0;
    }
    *q31 = (int32_t)q;
    *shift = exponent;
}

double mqb_requant_round(double v, int rounding)
{
    double whole;
    switch (rounding) {
    case MQB_ROUND_RHA:
        whole = trunc(v);
        return fabs(v - whole) >= 0.5 ? whole + copysign(1.0, v) : whole;
    case MQB_ROUND_RHU:
        whole = floor(v);
        return v - whole >= 0.5 ? whole + 1.0 : whole;
    case MQB_ROUND_FLOOR:
        return floor(v);
    case MQB_ROUND_TRUNC:
        return trunc(v);
    default:
        return rint(v);
    }
}

int64_t mqb_requant_divide(int64_t a, int64_t d, int rounding)
{
    int64_t floored = a / d;
    int64_t rest = a % d;
    if (rest < 0) {
        rest += d;
        floored--;
    }
    /* a = floored * d + rest, 0 <= rest < d; `rest > d - rest` compares with one half without overflow. */
    int side = rest > d - rest ? 1 : rest < d - rest ? -1 : 0;
    switch (rounding) {
    case MQB_ROUND_RHA:
        return floored + (side > 0 || (side == 0 && a >= 0) ? 1 : 0);
    case MQB_ROUND_RHU:
        return floored + (side >= 0 ? 1 : 0);
    case MQB_ROUND_FLOOR:
        return floored;
    case MQB_ROUND_TRUNC:
        return floored + (a < 0 && rest != 0 ? 1 : 0);
    default:
        return floored + (side > 0 || (side == 0 && (floored & 1)) ? 1 : 0);
    }
}

float mqb_requant_half(float v)
{
    if (isnan(v))
        return 0.0f;
    if (fabsf(v) >= 65504.0f)
        return copysignf(65504.0f, v);
    int exponent = 0;
    (void)frexpf(v, &exponent);
    /* 11 bits of significand; below 2^-14 the step stays 2^-24. */
    int step = exponent - 11 < -24 ? -24 : exponent - 11;
    float rounded = ldexpf(rintf(ldexpf(v, -step)), step);
    return rounded;
}

static mqb_status check_scale(const char *what, float scale, struct mqb_error *error)
{
    if (isfinite(scale) && scale > 0.0f)
        return MQB_OK;
    return mqb_fail(error, MQB_ERR_NUMERIC, "the %s scale is %g, but a scale must be finite and above 0", what, (double)scale);
}

static mqb_status fill_multiplier(struct mqb_requantizer *r, const struct mqb_contract *contract, double m,
                                  struct mqb_error *error)
{
    const char *form = multiplier_names[r->multiplier];
    if (!(m > 0.0) || !isfinite(m) || !(r->m32 > 0.0f) || !isfinite(r->m32))
        return mqb_fail(error, MQB_ERR_NUMERIC, "the requantization multiplier s_x * s_w / s_y = %g does not fit into a float",
                        m);
    mqb_requant_q31(m, &r->q31, &r->shift);
    if (r->multiplier == MQB_MULTIPLIER_POT) {
        int exponent = 0;
        if (frexp(m, &exponent) != 0.5)
            return mqb_fail(error, MQB_ERR_NUMERIC,
                            "the requantization multiplier s_x * s_w / s_y = %.9g is not a power of two, which the contract "
                            "\"%s\" needs; quantize with power-of-two scales",
                            m, contract->profile ? contract->profile : "");
        r->q31 = 1 << 30;
        r->shift = exponent;
    }
    if (r->multiplier >= MQB_MULTIPLIER_Q31 && r->shift > 30)
        return mqb_fail(error, MQB_ERR_NUMERIC,
                        "the requantization multiplier s_x * s_w / s_y = %g is too large for the form %s "
                        "(below 2^30)",
                        m, form);
    return MQB_OK;
}

mqb_status mqb_requantizer_init_count(struct mqb_requantizer *r, const struct mqb_contract *contract, float s_x, float s_w,
                                      float s_y, int32_t count, int32_t zero_point, int32_t low, int32_t high,
                                      struct mqb_error *error)
{
    mqb_status status = check_scale("input", s_x, error);
    if (status == MQB_OK)
        status = check_scale("weight", s_w, error);
    if (status == MQB_OK)
        status = check_scale("output", s_y, error);
    if (status != MQB_OK)
        return status;
    if (contract->multiplier < MQB_MULTIPLIER_F32 || contract->multiplier > MQB_MULTIPLIER_POT ||
        contract->rounding < MQB_ROUND_RNE || contract->rounding > MQB_ROUND_TRUNC ||
        contract->intermediate < MQB_INTERMEDIATE_NONE || contract->intermediate > MQB_INTERMEDIATE_I16_SATURATING ||
        contract->fold < MQB_FOLD_F32_MUL_DIV || contract->fold > MQB_FOLD_F64)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "the requantization contract \"%s\" holds a number that is no known form",
                        contract->profile ? contract->profile : "");
    bool floating = contract->multiplier == MQB_MULTIPLIER_F32 || contract->multiplier == MQB_MULTIPLIER_F64;
    bool float_intermediate = contract->intermediate == MQB_INTERMEDIATE_F16 || contract->intermediate == MQB_INTERMEDIATE_F32;
    if (!floating && (float_intermediate || contract->bias_form == MQB_BIAS_F32))
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "the requantization contract \"%s\" joins the integer multiplier form %s with a "
                        "float %s; use the form f32 or f64",
                        contract->profile ? contract->profile : "", multiplier_names[contract->multiplier],
                        float_intermediate ? "intermediate" : "bias");

    *r = (struct mqb_requantizer){
        .multiplier = contract->multiplier,
        .rounding = contract->rounding,
        .zp_before = contract->zp_before,
        .intermediate = contract->intermediate,
        .zero_point = zero_point,
        .low = low,
        .high = high,
        .s_xw = s_x * s_w,
        .s_y = s_y,
        .inverse = 1.0f / s_y,
        .divide = contract->input_divide,
        .divisor = 1,
    };
    if (contract->multiplier == MQB_MULTIPLIER_POT)
        r->divisor = count;
    else
        r->s_y = count == 1 ? s_y : s_y * (float)count;
    if (contract->fold == MQB_FOLD_F64) {
        r->m = (double)s_x * s_w / ((double)s_y * (r->divisor == 1 ? count : 1));
        r->m32 = (float)r->m;
    } else {
        r->m32 = r->s_xw / r->s_y;
        r->m = r->m32;
    }
    if (float_intermediate && !isfinite(1.0f / r->s_y))
        return mqb_fail(error, MQB_ERR_NUMERIC, "the output scale %g is too small: its reciprocal is infinite", (double)s_y);
    r->inverse = 1.0f / r->s_y;
    return fill_multiplier(r, contract, r->m, error);
}

mqb_status mqb_requantizer_init(struct mqb_requantizer *r, const struct mqb_contract *contract, float s_x, float s_w, float s_y,
                                int32_t zero_point, int32_t low, int32_t high, struct mqb_error *error)
{
    return mqb_requantizer_init_count(r, contract, s_x, s_w, s_y, 1, zero_point, low, high, error);
}

static int32_t clamp_int(int64_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : (int32_t)v;
}

/* Rounds v, adds the zero point before or after, clamps. */
static int32_t finish_float(const struct mqb_requantizer *r, double v)
{
    double rounded = mqb_requant_round(v, r->rounding);
    if (r->intermediate == MQB_INTERMEDIATE_I16_SATURATING)
        rounded = rounded < -32768.0 ? -32768.0 : rounded > 32767.0 ? 32767.0 : rounded;
    if (!r->zp_before)
        rounded += r->zero_point;
    if (!(rounded > r->low))
        return r->low;
    return rounded > r->high ? r->high : (int32_t)rounded;
}

static int32_t requantize_f32(const struct mqb_requantizer *r, float accumulator)
{
    float v;
    if (r->intermediate == MQB_INTERMEDIATE_F16 || r->intermediate == MQB_INTERMEDIATE_F32) {
        float h = accumulator * r->s_xw;
        h += r->bias;
        if (r->intermediate == MQB_INTERMEDIATE_F16)
            h = mqb_requant_half(h);
        v = r->divide ? h / r->s_y : h * r->inverse;
    } else {
        v = accumulator * r->m32;
        if (r->bias != 0.0f)
            v += r->bias / r->s_y;
    }
    if (r->zp_before)
        v += (float)r->zero_point;
    return finish_float(r, v);
}

static int32_t requantize_f64(const struct mqb_requantizer *r, double accumulator)
{
    double v;
    if (r->intermediate == MQB_INTERMEDIATE_F16 || r->intermediate == MQB_INTERMEDIATE_F32) {
        float h = (float)(accumulator * r->s_xw + r->bias);
        if (r->intermediate == MQB_INTERMEDIATE_F16)
            h = mqb_requant_half(h);
        v = r->divide ? (double)h / r->s_y : (double)h * r->inverse;
    } else {
        v = accumulator * r->m;
        if (r->bias != 0.0f)
            v += (double)r->bias / r->s_y;
    }
    if (r->zp_before)
        v += r->zero_point;
    return finish_float(r, v);
}

static int64_t saturate_i16(const struct mqb_requantizer *r, int64_t v)
{
    return r->intermediate == MQB_INTERMEDIATE_I16_SATURATING ? clamp_int(v, -32768, 32767) : v;
}

static int32_t requantize_pot(const struct mqb_requantizer *r, int32_t accumulator)
{
    int k = 1 - r->shift; /* M = 2^-k */
    int64_t a = accumulator;
    int64_t d = r->divisor;
    if (k < 0)
        a *= (int64_t)1 << -k;
    else
        d *= (int64_t)1 << (k > 33 ? 33 : k); /* beyond 33 the result no longer depends on k: |A| < d / 2 */
    if (r->zp_before)
        a += r->zero_point * d;
    int64_t v = saturate_i16(r, mqb_requant_divide(a, d, r->rounding));
    return clamp_int(r->zp_before ? v : v + r->zero_point, r->low, r->high);
}

/* The same forms for an accumulator that is no integer, because its bias is none. */
static int32_t requantize_extra(const struct mqb_requantizer *r, double accumulator)
{
    int32_t zero_before = r->zp_before ? r->zero_point : 0;
    double v;
    switch (r->multiplier) {
    case MQB_MULTIPLIER_F32:
        return requantize_f32(r, (float)accumulator);
    case MQB_MULTIPLIER_F64:
        return requantize_f64(r, accumulator);
    case MQB_MULTIPLIER_POT:
        v = ldexp(accumulator, r->shift - 1) / r->divisor + zero_before;
        v = mqb_requant_round(v, r->rounding) - zero_before;
        break;
    case MQB_MULTIPLIER_Q31:
        v = floor(ldexp(accumulator * r->q31, r->shift - 31) + 0.5);
        break;
    default: {
        int left = r->shift > 0 ? r->shift : 0, right = r->shift < 0 ? -r->shift : 0;
        double wide = fmin(fmax(ldexp(accumulator, left), INT32_MIN), INT32_MAX);
        double high = mqb_requant_round(ldexp(wide * r->q31, -31), MQB_ROUND_RHA);
        v = mqb_requant_rdpot((int32_t)fmin(high, INT32_MAX), right);
        break;
    }
    }
    if (r->intermediate == MQB_INTERMEDIATE_I16_SATURATING)
        v = fmin(fmax(v, -32768.0), 32767.0);
    v += r->zero_point;
    return !(v > r->low) ? r->low : v > r->high ? r->high : (int32_t)v;
}

int32_t mqb_requantize(const struct mqb_requantizer *r, int32_t accumulator)
{
    int64_t v;
    if (r->extra != 0.0)
        return requantize_extra(r, accumulator + r->extra);
    switch (r->multiplier) {
    case MQB_MULTIPLIER_F32:
        return requantize_f32(r, (float)accumulator);
    case MQB_MULTIPLIER_F64:
        return requantize_f64(r, accumulator);
    case MQB_MULTIPLIER_POT:
        return requantize_pot(r, accumulator);
    case MQB_MULTIPLIER_Q31: {
        int t = 31 - r->shift; /* 1 .. 62 */
        v = ((int64_t)accumulator * r->q31 + ((int64_t)1 << (t - 1))) >> t;
        break;
    }
    default: {
        int left = r->shift > 0 ? r->shift : 0;
        int right = r->shift < 0 ? -r->shift : 0;
        int32_t wide = clamp_int((int64_t)accumulator * ((int64_t)1 << left), INT32_MIN, INT32_MAX);
        v = mqb_requant_rdpot(mqb_requant_srdhm(wide, r->q31), right);
        break;
    }
    }
    return clamp_int(saturate_i16(r, v) + r->zero_point, r->low, r->high);
}

bool mqb_requant_zero_before(const struct mqb_contract *contract)
{
    return contract->zp_before &&
           (contract->intermediate == MQB_INTERMEDIATE_F16 || contract->intermediate == MQB_INTERMEDIATE_F32);
}

int32_t mqb_quantize_value(const struct mqb_contract *contract, float x, float scale, int32_t zero_point, int32_t low,
                           int32_t high)
{
    float v = contract->input_divide ? x / scale : x * (1.0f / scale);
    bool before = mqb_requant_zero_before(contract);
    if (before)
        v += (float)zero_point;
    double rounded = mqb_requant_round(v, contract->input_rounding);
    if (!before)
        rounded += zero_point;
    if (!(rounded > low))
        return low;
    return rounded > high ? high : (int32_t)rounded;
}
