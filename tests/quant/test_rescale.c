/*
 * test_rescale.c - rows of sums to codes and rows of two codes to one, in their vector forms, against the scalar definitions:
 * every form of contract, numbers of channels that fill vectors and that do not, accumulators at random and close to ties.
 */
#include "quant/program.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { PIXELS = 13, MAX_CHANNELS = 192, SPLIT = 64 };

static uint64_t next(uint64_t *state)
{
    uint64_t x = (*state += 0x9e3779b97f4a7c15u);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

struct trial {
    struct mqb_contract contract;
    float s_x, s_y, s_w[MAX_CHANNELS], bias[MAX_CHANNELS];
    int32_t channels, zero, low, high, offset;
    bool biased, windowed, exact;
};

/* An accumulator that lands near (k + 1/2) / M, far out, or anywhere. */
static int32_t accumulator(uint64_t *state, double m)
{
    const uint64_t r = next(state);
    const int32_t small = (int32_t)(next(state) % 5) - 2;
    if (r % 16 == 0)
        return r & 16 ? INT32_MAX - 2 + small : INT32_MIN + 2 + small;
    if (r % 16 == 1)
        return (int32_t)(uint32_t)next(state);
    if (r % 16 == 2)
        return small;
    const double k = (double)(int32_t)(next(state) % 600) - 300.0, near = (k + 0.5) / m;
    return fabs(near) < 2e9 ? (int32_t)near + small : small;
}

static void run(const struct trial *t, uint64_t seed)
{
    const struct mqb_itensor out = {.info = {.scale = t->s_y, .zero_point = t->zero}, .offset = t->offset};
    struct mqb_rescale rescale = {0};
    struct mqb_error error = MQB_ERROR_INIT;
    static int32_t acc[PIXELS * MAX_CHANNELS], raw[PIXELS * MAX_CHANNELS];
    static uint8_t codes[PIXELS * MAX_CHANNELS + 64];
    uint32_t constant[MAX_CHANNELS], weight[MAX_CHANNELS], windows[PIXELS];
    uint64_t state = seed;
    if (mqb_rescale_create(&rescale, &t->contract, t->s_x, t->s_w, t->channels, &out, t->biased ? t->bias : NULL, t->channels,
                           t->low, t->high, &error) != MQB_OK)
        fail_msg("%s", error.text);
    for (int32_t k = 0; k < t->channels; k++) {
        constant[k] = t->exact ? 0 : (uint32_t)next(&state);
        weight[k] = (uint32_t)(next(&state) % 256);
    }
    for (int32_t i = 0; i < PIXELS; i++) {
        windows[i] = (uint32_t)(next(&state) % 100000);
        for (int32_t k = 0; k < t->channels; k++) {
            const int32_t at = i * t->channels + k;
            acc[at] = accumulator(&state, (double)t->s_x * t->s_w[k] / t->s_y);
            raw[at] = (int32_t)((uint32_t)acc[at] - constant[k] - (t->windowed ? weight[k] * windows[i] : 0));
        }
    }
    memset(codes, 0xa5, sizeof(codes));
    for (int32_t k = 0; k < t->channels; k += SPLIT) { /* as layers of many channels come: some channels of all pixels */
        static int32_t some[PIXELS * MAX_CHANNELS];
        const int32_t count = t->channels - k < SPLIT ? t->channels - k : t->channels < 2 * SPLIT ? t->channels - k : SPLIT;
        for (int32_t i = 0; i < PIXELS; i++)
            memcpy(some + i * count, raw + i * t->channels + k, (size_t)count * sizeof(*some));
        const struct mqb_sums sums = {some, t->exact ? NULL : constant, weight, t->windowed ? windows : NULL, k, count};
        mqb_rescale_run(&rescale, &sums, PIXELS, codes);
        if (count > SPLIT)
            break;
    }
    for (int32_t i = 0; i < PIXELS * t->channels; i++) {
        const int32_t want = mqb_requantize(&rescale.scalar[i % t->channels], acc[i]) + t->offset;
        if (codes[i] != (uint8_t)want)
            fail_msg(
                "multiplier %d, rounding %d, intermediate %d, zp_before %d, divide %d, %d channels: accumulator %d of channel "
                "%d becomes %d, expected %d",
                t->contract.multiplier, t->contract.rounding, t->contract.intermediate, t->contract.zp_before,
                t->contract.input_divide, t->channels, acc[i], i % t->channels, codes[i], want);
    }
    for (int32_t i = PIXELS * t->channels; i < (int32_t)sizeof(codes); i++)
        assert_int_equal(codes[i], 0xa5);
    mqb_rescale_destroy(&rescale);
}

static const int32_t channel_counts[] = {1, 7, 16, 24, 67, 192};

/* Both signs of codes, zero points at an end and in between, with and without corrections. */
static void run_all_sizes(const struct mqb_contract *contract, bool biased, bool powers)
{
    for (size_t c = 0; c < sizeof(channel_counts) / sizeof(channel_counts[0]); c++)
        for (int variant = 0; variant < 4; variant++) {
            struct trial t = {.contract = *contract,
                              .channels = channel_counts[c],
                              .s_x = powers ? 0x1p-7f : 0.0123f,
                              .s_y = powers ? 0x1p-4f : 0.0517f,
                              .biased = biased,
                              .windowed = variant % 2 == 1,
                              .exact = variant == 2,
                              .zero = variant < 2 ? 3 : -128,
                              .low = variant < 2 ? 0 : -128,
                              .high = variant < 2 ? 255 : 127,
                              .offset = variant < 2 ? 0 : 128};
            uint64_t state = 77 + c * 4 + (uint64_t)variant;
            for (int32_t k = 0; k < t.channels; k++) {
                t.s_w[k] =
                    powers ? ldexpf(1.0f, -(int)(next(&state) % 12) - 1) : 0.0001f + (float)(next(&state) % 4096) * 1e-5f;
                if (powers && k % 5 == 4)
                    t.s_w[k] = ldexpf(1.0f, -40);
                t.bias[k] = k % 3 == 0 ? 0.0f : ((float)(next(&state) % 2048) - 1024.0f) * 0.003f;
            }
            run(&t, state);
        }
}

static void test_rescale_every_contract_equals_the_scalar_definition(void **state)
{
    (void)state;
    for (int multiplier = MQB_MULTIPLIER_F32; multiplier <= MQB_MULTIPLIER_POT; multiplier++)
        for (int rounding = MQB_ROUND_RNE; rounding <= MQB_ROUND_TRUNC; rounding++)
            for (int intermediate = MQB_INTERMEDIATE_NONE; intermediate <= MQB_INTERMEDIATE_I16_SATURATING; intermediate++)
                for (int flags = 0; flags < 8; flags++) {
                    struct mqb_contract contract = {.struct_size = sizeof(contract),
                                                    .multiplier = multiplier,
                                                    .rounding = rounding,
                                                    .intermediate = intermediate,
                                                    .zp_before = flags & 1,
                                                    .input_divide = flags >> 1 & 1,
                                                    .profile = "test"};
                    const bool floating = multiplier == MQB_MULTIPLIER_F32 || multiplier == MQB_MULTIPLIER_F64;
                    const bool real = intermediate == MQB_INTERMEDIATE_F16 || intermediate == MQB_INTERMEDIATE_F32;
                    const bool biased = (flags & 4) != 0;
                    if (!floating && (real || biased))
                        continue; /* refused, see test_requant.c */
                    contract.bias_form = biased ? MQB_BIAS_F32 : MQB_BIAS_I32;
                    if (multiplier != MQB_MULTIPLIER_POT)
                        run_all_sizes(&contract, biased, false);
                    run_all_sizes(&contract, biased, true);
                }
}

/* Powers of two make every other sum a tie. */
static void test_pair_formula_is_taken_only_if_it_equals_the_table(void **state)
{
    (void)state;
    static uint8_t table[65536], a[65536], b[65536], out[65536];
    const struct mqb_pair formulas[] = {
        {.form = MQB_PAIR_F32_MULTIPLY,
         .rounding = MQB_ROUND_RNE,
         .zero_a = 3,
         .zero_b = 128,
         .after = 7,
         .low = -7,
         .high = 248,
         .fa = 0.25f,
         .fb = 0.5f,
         .last = 0.5f},
        {.form = MQB_PAIR_F32_DIVIDE,
         .rounding = MQB_ROUND_RHA,
         .zero_a = 3,
         .zero_b = 128,
         .after = 7,
         .low = -7,
         .high = 248,
         .fa = 0.25f,
         .fb = 0.5f,
         .last = 2.0f},
        {.form = MQB_PAIR_F64,
         .rounding = MQB_ROUND_RHU,
         .zero_a = 3,
         .zero_b = 128,
         .after = 7,
         .low = -7,
         .high = 248,
         .da = 0.125,
         .db = 0.25},
        {.form = MQB_PAIR_FMA,
         .rounding = MQB_ROUND_RNE,
         .before = 7,
         .high = 255,
         .fa = 0.125f,
         .fb = 0.25f,
         .last = 7.0f - 3.0f / 8 - 128.0f / 4},
    };
    for (size_t f = 0; f < sizeof(formulas) / sizeof(formulas[0]); f++) {
        const bool before = formulas[f].form == MQB_PAIR_FMA;
        for (int32_t i = 0; i < 256; i++)
            for (int32_t j = 0; j < 256; j++) {
                const double v = (i - 3) * 0.125 + (j - 128) * 0.25 + (before ? 7 : 0);
                const double code = mqb_requant_round(v, formulas[f].rounding) + (before ? 0 : 7);
                a[i * 256 + j] = (uint8_t)i;
                b[i * 256 + j] = (uint8_t)j;
                table[i * 256 + j] = (uint8_t)(code < 0 ? 0 : code > 255 ? 255 : code);
            }
        struct mqb_pair rule;
        mqb_pair_choose(&rule, &formulas[f], table);
        assert_int_equal(rule.form, formulas[f].form);
        for (int32_t size = 65519; size < 65536; size += 16) { /* with a rest and without */
            memset(out, 0, sizeof(out));
            mqb_pair_run(&rule, size, a, b, out);
            assert_memory_equal(out, table, (size_t)size);
            assert_int_equal(out[size], 0);
        }
        table[200 * 256 + 255] ^= 1;
        mqb_pair_choose(&rule, &formulas[f], table);
        assert_int_equal(rule.form, MQB_PAIR_TABLE);
    }
}

/* Scales without a common factor, and powers of two, whose ties the vectors must leave to the table. */
static void test_wide_addition_equals_the_table(void **state)
{
    (void)state;
    static uint8_t table[65536], a[65536], b[65536], out[65537];
    static const struct {
        double fa, fb;
        int rounding;
        bool each;
    } rows[] = {{0.8137, 0.4411, MQB_ROUND_RHA, false}, {0.125, 0.25, MQB_ROUND_RHU, false}, {1.375, 0.9021, MQB_ROUND_RNE, true},
                {0.5, 0.75, MQB_ROUND_RHA, true}};
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        for (int32_t i = 0; i < 256; i++)
            for (int32_t j = 0; j < 256; j++) {
                const double va = (i - 3) * rows[r].fa, vb = (j - 128) * rows[r].fb;
                const double sum = rows[r].each ? mqb_requant_round(va, rows[r].rounding) + mqb_requant_round(vb, rows[r].rounding)
                                                : mqb_requant_round(va + vb, rows[r].rounding);
                a[i * 256 + j] = (uint8_t)i;
                b[i * 256 + j] = (uint8_t)j;
                table[i * 256 + j] = (uint8_t)(sum + 7 < 2 ? 2 : sum + 7 > 250 ? 250 : sum + 7);
            }
        const struct mqb_wide_addition addition = {(float)rows[r].fa, (float)rows[r].fb, 3, 128, 7, 2, 250, rows[r].each};
        struct mqb_pair rule = {.form = MQB_PAIR_TABLE};
        mqb_wide_choose_pair(&rule, &addition, table);
        assert_int_equal(rule.wide != MQB_WIDE_NONE, mqb_isa_wide());
        if (rule.wide == MQB_WIDE_NONE)
            continue;
        for (int32_t size = 65519; size <= 65536; size += 17) { /* with a rest and without */
            memset(out, 0, sizeof(out));
            assert_true(mqb_wide_pair(&rule, table, size, a, b, out));
            assert_memory_equal(out, table, (size_t)size);
            assert_int_equal(out[size], 0);
        }
        memcpy(out, a, sizeof(a)); /* in place */
        assert_true(mqb_wide_pair(&rule, table, 65536, out, b, out));
        assert_memory_equal(out, table, sizeof(table));
        table[100 * 256 + 131] ^= 1;
        mqb_wide_choose_pair(&rule, &addition, table);
        if (rule.wide != MQB_WIDE_NONE) { /* a tie, which the table itself answers */
            assert_true(mqb_wide_pair(&rule, table, 65536, a, b, out));
            assert_memory_equal(out, table, sizeof(table));
        }
    }
}

/* Sums to reals and, with an operand added, to codes, against the functions that do it number by number. */
static void check_reals(int32_t all, int32_t channel, int32_t channels, bool half, bool windowed)
{
    enum { MOST = 200 };
    static int32_t raw[PIXELS * MOST];
    static float scale[MOST], bias[MOST], want[PIXELS * MOST], got[PIXELS * MOST];
    static uint8_t side[PIXELS * MOST], codes[PIXELS * MOST], want_codes[PIXELS * MOST];
    static uint32_t constant[MOST], weight[MOST];
    uint32_t windows[PIXELS];
    const struct mqb_contract contract = {.struct_size = sizeof(contract), .input_rounding = MQB_ROUND_RNE, .input_divide = 1};
    struct mqb_iconv conv = {.shape = {.k = all, .groups = 1}, .logit_scale = scale, .logit_bias = bias, .half = half,
                             .wide = mqb_isa_wide(), .side_scale = 0.0371f, .side_zero = 17,
                             .quantize = {&contract, 0.0531f, -5, -128, 127, 128}};
    uint64_t state = 99 + (uint64_t)all + (uint64_t)channel;
    for (int32_t k = 0; k < all; k++) {
        scale[k] = 0.0001f + (float)(next(&state) % 4096) * (half ? 1e-4f : 1e-6f);
        bias[k] = (float)(int32_t)(next(&state) % 2001 - 1000) * 1e-3f;
        constant[k] = (uint32_t)(next(&state) % 1000);
        weight[k] = (uint32_t)(next(&state) % 256);
    }
    memset(want, 0, sizeof(want));
    memset(got, 0, sizeof(got));
    memset(codes, 0xa5, sizeof(codes));
    memset(want_codes, 0xa5, sizeof(want_codes));
    for (int32_t i = 0; i < PIXELS; i++) {
        windows[i] = (uint32_t)(next(&state) % 1000);
        for (int32_t j = 0; j < channels; j++) {
            const int32_t k = channel + j, at = i * all + k;
            raw[i * channels + j] = (int32_t)(next(&state) % 2000000) - 1000000;
            const int32_t a = (int32_t)((uint32_t)raw[i * channels + j] + constant[k] + (windowed ? weight[k] * windows[i] : 0));
            side[at] = (uint8_t)next(&state);
            mqb_real_row(1, &a, scale + k, bias + k, &want[at]);
            if (half)
                mqb_real_halves(1, &want[at]);
            float sum = want[at];
            mqb_real_add_codes(1, &side[at], conv.side_zero, conv.side_scale, &sum);
            mqb_quantize_rows(&conv.quantize, 1, &sum, &want_codes[at]);
        }
    }
    const struct mqb_sums sums = {raw, constant, weight, windowed ? windows : NULL, channel, channels};
    if (!mqb_wide_reals(&conv, &sums, PIXELS, got, NULL, NULL)) {
        assert_false(mqb_isa_wide());
        return;
    }
    assert_memory_equal(got, want, sizeof(want));
    assert_true(mqb_wide_reals(&conv, &sums, PIXELS, NULL, side, codes));
    assert_memory_equal(codes, want_codes, sizeof(codes));
}

static void test_wide_reals_equal_the_rows(void **state)
{
    (void)state;
    for (int half = 0; half < 2; half++) {
        check_reals(8, 0, 8, half, false);
        check_reals(32, 0, 32, half, false);
        check_reals(32, 0, 32, half, true);
        check_reals(40, 0, 40, half, false);
        check_reals(200, 64, 64, half, true);
        check_reals(200, 128, 72, half, false);
    }
}

static void test_wide_halves_equal_the_rows(void **state)
{
    (void)state;
    float x[67], y[67];
    uint64_t seed = 5;
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < 67; i++) {
            const uint32_t bits = (uint32_t)next(&seed);
            memcpy(&x[i], &bits, sizeof(bits));
            if (round % 2 == 0)
                x[i] = ldexpf((float)(bits & 0xffff) + 0.5f, (int)(bits >> 27) - 40); /* near ties of halves */
        }
        memcpy(y, x, sizeof(x));
        mqb_real_halves(67, x);
        if (!mqb_isa_wide() || !mqb_wide_halves(67, y))
            return;
        assert_memory_equal(x, y, sizeof(x));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wide_addition_equals_the_table),
        cmocka_unit_test(test_wide_reals_equal_the_rows),
        cmocka_unit_test(test_wide_halves_equal_the_rows),
        cmocka_unit_test(test_rescale_every_contract_equals_the_scalar_definition),
        cmocka_unit_test(test_pair_formula_is_taken_only_if_it_equals_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
