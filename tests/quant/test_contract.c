/*
 * test_contract.c - the requantization contract, every field with every other, against a second model of it: written from the
 * definitions in docs/numerics.md with exact fractions where the product shifts, and floors where it rounds.
 */
#include "quant/requant.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct model {
    const struct mqb_contract *contract;
    float s_x, s_w, s_y, bias;
    int32_t count, z, low, high;
};

/* v to a whole number; what is above the floor decides. */
static long double model_round(long double v, int rounding)
{
    long double down = floorl(v), rest = v - down;
    bool up;
    switch (rounding) {
    case MQB_ROUND_RNE:
        up = rest > 0.5L || (rest == 0.5L && fmodl(down, 2.0L) != 0.0L);
        break;
    case MQB_ROUND_RHA:
        up = rest > 0.5L || (rest == 0.5L && v > 0.0L);
        break;
    case MQB_ROUND_RHU:
        up = rest >= 0.5L;
        break;
    case MQB_ROUND_FLOOR:
        up = false;
        break;
    default:
        up = v < 0.0L && rest > 0.0L;
        break;
    }
    return down + (up ? 1.0L : 0.0L);
}

/* The same of the fraction a / d, d > 0: nothing is lost to a division. */
static long double model_round_fraction(int64_t a, int64_t d, int rounding)
{
    int64_t down = a / d - (a % d < 0 ? 1 : 0), twice = 2 * (a - down * d);
    long double half = twice > d ? 0.75L : twice == d ? 0.5L : twice == 0 ? 0.0L : 0.25L;
    return model_round((long double)down + half, rounding);
}

/* Nearest half by searching the two neighbours on the grid of its binade. */
static float model_half(float v)
{
    float magnitude = fabsf(v), step = 0x1p-24f;
    if (magnitude >= 65504.0f)
        return v < 0 ? -65504.0f : 65504.0f;
    while (step * 2048.0f <= magnitude)
        step *= 2.0f;
    return (float)model_round((long double)v / step, MQB_ROUND_RNE) * step;
}

static double model_multiplier(const struct model *m)
{
    const struct mqb_contract *c = m->contract;
    int32_t count = c->multiplier == MQB_MULTIPLIER_POT ? 1 : m->count;
    if (c->fold == MQB_FOLD_F64)
        return (double)m->s_x * (double)m->s_w / ((double)m->s_y * count);
    float xw = m->s_x * m->s_w, y = count == 1 ? m->s_y : m->s_y * (float)count;
    return (double)(xw / y);
}

/* The value before rounding, of the two forms with a float product. */
static long double model_float(const struct model *m, int32_t a)
{
    const struct mqb_contract *c = m->contract;
    bool single = c->multiplier == MQB_MULTIPLIER_F32;
    float xw = m->s_x * m->s_w, y = m->count == 1 ? m->s_y : m->s_y * (float)m->count, inverse = 1.0f / y, bias = m->bias;
    if (c->intermediate == MQB_INTERMEDIATE_F16 || c->intermediate == MQB_INTERMEDIATE_F32) {
        float h = single ? (float)a * xw : 0.0f;
        h = single ? h + bias : (float)((double)a * (double)xw + (double)bias);
        h = c->intermediate == MQB_INTERMEDIATE_F16 ? model_half(h) : h;
        if (single) {
            float v = c->input_divide ? h / y : h * inverse;
            v += c->zp_before ? (float)m->z : 0.0f;
            return (long double)v;
        }
        double v = c->input_divide ? (double)h / (double)y : (double)h * (double)inverse;
        return (long double)(v + (c->zp_before ? m->z : 0));
    }
    if (single) {
        float v = (float)a * (float)model_multiplier(m);
        v += bias / y;
        v += c->zp_before ? (float)m->z : 0.0f;
        return (long double)v;
    }
    double v = (double)a * model_multiplier(m);
    v += (double)bias / (double)y;
    return (long double)(v + (c->zp_before ? m->z : 0));
}

/* M = q 2^(e - 31), q in [2^30, 2^31). */
static int64_t model_fixed(double multiplier, int *e)
{
    int64_t q = (int64_t)model_round((long double)frexp(multiplier, e) * 2147483648.0L, MQB_ROUND_RHA);
    if (q == (int64_t)1 << 31) {
        q = (int64_t)1 << 30;
        (*e)++;
    }
    return q;
}

static long double model_clamp(long double v, long double low, long double high)
{
    return v < low ? low : v > high ? high : v;
}

static int32_t model_requantize(const struct model *m, int32_t a)
{
    const struct mqb_contract *c = m->contract;
    long double v;
    int e;
    int64_t q = model_fixed(model_multiplier(m), &e);
    bool before = c->zp_before;
    switch (c->multiplier) {
    case MQB_MULTIPLIER_F32:
    case MQB_MULTIPLIER_F64:
        v = model_round(model_float(m, a), c->rounding);
        break;
    case MQB_MULTIPLIER_Q31:
        v = model_round(ldexpl((long double)(a * q), e - 31), MQB_ROUND_RHU); /* the product has at most 62 bits */
        before = false;
        break;
    case MQB_MULTIPLIER_Q31_DOUBLE:
        v = model_clamp(ldexpl((long double)a, e > 0 ? e : 0), INT32_MIN, INT32_MAX);
        v = model_round(ldexpl(v * (long double)q, -31), MQB_ROUND_RHU);
        v = model_round(ldexpl(v, e < 0 ? e : 0), MQB_ROUND_RHA);
        before = false;
        break;
    default: { /* M = 2^(e - 1) */
        int64_t d = (int64_t)m->count * (e < 1 ? (int64_t)1 << (1 - e) : 1),
                n = (int64_t)a * (e > 1 ? (int64_t)1 << (e - 1) : 1);
        v = model_round_fraction(n + (before ? (int64_t)m->z * d : 0), d, c->rounding);
        break;
    }
    }
    if (c->intermediate == MQB_INTERMEDIATE_I16_SATURATING)
        v = model_clamp(v, -32768.0L, 32767.0L);
    return (int32_t)model_clamp(v + (before ? 0 : m->z), m->low, m->high);
}

static uint64_t counter;

static int32_t draw(int32_t low, int32_t high)
{
    return (int32_t)(low + (int64_t)((double)mqb_uniform(77, 1, counter++) * ((double)high - low + 1)));
}

static float draw_scale(bool pot)
{
    float s = ldexpf(1.0f, draw(-9, -3));
    return pot ? s : s * (1.0f + mqb_uniform(77, 1, counter++));
}

/* Around ties above all: sums whose product lies near n + 1/2. */
static int32_t draw_sum(const struct model *m)
{
    double multiplier = model_multiplier(m);
    int kind = draw(0, 9);
    if (kind < 6) {
        double a = (draw(-300, 300) + 0.5 * draw(0, 1)) / multiplier;
        return a > -2e9 && a < 2e9 ? (int32_t)a + draw(-1, 1) : 0;
    }
    return kind < 9 ? draw(-100000, 100000) : draw(INT32_MIN + 1, INT32_MAX);
}

static void check_contract(const struct mqb_contract *contract)
{
    bool pot = contract->multiplier == MQB_MULTIPLIER_POT;
    bool floating = contract->multiplier <= MQB_MULTIPLIER_F64;
    for (int round = 0; round < 6; round++) {
        bool is_signed = draw(0, 1), layer = draw(0, 2) > 0; /* else a mean */
        struct model m = {.contract = contract,
                          .s_x = draw_scale(pot),
                          .s_w = draw_scale(pot),
                          .s_y = draw_scale(pot),
                          .count = layer ? 1 : draw(2, 49),
                          .low = is_signed ? -128 : 0,
                          .high = is_signed ? 127 : 255};
        m.z = draw(m.low, m.high);
        m.low += draw(0, 20);
        m.bias = floating && layer && contract->bias_form == MQB_BIAS_F32 ? mqb_uniform(77, 1, counter++) - 0.5f : 0.0f;
        struct mqb_requantizer r;
        struct mqb_error error = MQB_ERROR_INIT;
        if (mqb_requantizer_init_count(&r, contract, m.s_x, m.s_w, m.s_y, m.count, m.z, m.low, m.high, &error))
            fail_msg("%s", error.text);
        r.bias = m.bias;
        for (int i = 0; i < 150; i++) {
            int32_t a = draw_sum(&m), got = mqb_requantize(&r, a), want = model_requantize(&m, a);
            if (got != want)
                fail_msg("multiplier %d fold %d rounding %d before %d intermediate %d divide %d: %d times %.9g * %.9g / (%.9g "
                         "* %d), bias "
                         "%.9g, z %d: %d, expected %d",
                         contract->multiplier, contract->fold, contract->rounding, contract->zp_before, contract->intermediate,
                         contract->input_divide, a, (double)m.s_x, (double)m.s_w, (double)m.s_y, m.count, (double)m.bias, m.z,
                         got, want);
        }
    }
}

static void test_contract_every_field_equals_the_second_model(void **state)
{
    (void)state;
    int num_contracts = 0;
    for (int multiplier = MQB_MULTIPLIER_F32; multiplier <= MQB_MULTIPLIER_POT; multiplier++)
        for (int intermediate = MQB_INTERMEDIATE_NONE; intermediate <= MQB_INTERMEDIATE_I16_SATURATING; intermediate++)
            for (int rounding = MQB_ROUND_RNE; rounding <= MQB_ROUND_TRUNC; rounding++)
                for (int bits = 0; bits < 16; bits++) {
                    struct mqb_contract contract = {.struct_size = sizeof(contract),
                                                    .multiplier = multiplier,
                                                    .intermediate = intermediate,
                                                    .rounding = rounding,
                                                    .fold = bits & 1,
                                                    .zp_before = bits >> 1 & 1,
                                                    .bias_form = bits >> 2 & 1,
                                                    .input_divide = bits >> 3 & 1,
                                                    .profile = "test"};
                    bool real = intermediate == MQB_INTERMEDIATE_F16 || intermediate == MQB_INTERMEDIATE_F32;
                    if (multiplier > MQB_MULTIPLIER_F64 && (real || contract.bias_form == MQB_BIAS_F32))
                        continue; /* refused: an integer multiplier hands over no reals */
                    check_contract(&contract);
                    num_contracts++;
                }
    assert_int_equal(num_contracts, 2 * 4 * 5 * 16 + 3 * 2 * 5 * 8);
}

/* q = clip(round(x / s or x (1/s)) + z) and its form with the zero point inside. */
static void test_quantize_value_equals_the_second_model(void **state)
{
    (void)state;
    for (int rounding = MQB_ROUND_RNE; rounding <= MQB_ROUND_TRUNC; rounding++)
        for (int bits = 0; bits < 16; bits++) {
            int intermediate = bits >> 2;
            struct mqb_contract contract = {
                .input_rounding = rounding, .input_divide = bits & 1, .zp_before = bits >> 1 & 1, .intermediate = intermediate};
            bool inside = contract.zp_before && (intermediate == MQB_INTERMEDIATE_F16 || intermediate == MQB_INTERMEDIATE_F32);
            for (int i = 0; i < 500; i++) {
                float s = draw_scale(i % 3 == 0), x = s * 0.5f * (float)draw(-600, 600), inverse = 1.0f / s;
                int32_t z = draw(-128, 127);
                float v = contract.input_divide ? x / s : x * inverse;
                v += inside ? (float)z : 0.0f;
                long double want = model_clamp(model_round((long double)v, rounding) + (inside ? 0 : z), -100, 127);
                assert_int_equal(mqb_quantize_value(&contract, x, s, z, -100, 127), (int32_t)want);
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contract_every_field_equals_the_second_model),
        cmocka_unit_test(test_quantize_value_equals_the_second_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
