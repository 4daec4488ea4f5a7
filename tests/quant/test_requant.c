/* Requantization: the table of ties, extremes, refusals. The libraries' own numbers: tests/golden. */
#include "quant/requant.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct mqb_contract contract_of(int multiplier, int rounding)
{
    return (struct mqb_contract){
        .struct_size = sizeof(struct mqb_contract), .multiplier = multiplier, .rounding = rounding, .profile = "test"};
}

static int32_t requantize(int multiplier, int rounding, float m, int32_t accumulator)
{
    struct mqb_contract contract = contract_of(multiplier, rounding);
    struct mqb_requantizer r;
    struct mqb_error error = MQB_ERROR_INIT;
    if (mqb_requantizer_init(&r, &contract, m, 1.0f, 1.0f, 0, -100000000, 100000000, &error))
        fail_msg("%s", error.text);
    return mqb_requantize(&r, accumulator);
}

/* Where the libraries part: computed with independent scripts from the libraries' own formulas. */
static void test_requantize_ties_follow_each_library(void **state)
{
    (void)state;
    static const struct {
        int32_t accumulator;
        float m;
        int32_t rne, away, single_rounding, double_rounding;
    } rows[] = {
        {1, 0.5f, 0, 1, 1, 1},     {-1, 0.5f, 0, -1, 0, 0},     {-3, 0.5f, -2, -2, -1, -1}, {1, 0.25f, 0, 0, 0, 1},
        {-2, 0.25f, 0, -1, 0, -1}, {-3, 0.25f, -1, -1, -1, -1}, {10, 0.25f, 2, 3, 3, 3},    {-6, 0.25f, -2, -2, -1, -2},
        {3, 0.125f, 0, 0, 0, 1},   {10, 3.0f / 64, 0, 0, 0, 1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int32_t a = rows[i].accumulator;
        float m = rows[i].m;
        assert_int_equal(requantize(MQB_MULTIPLIER_F32, MQB_ROUND_RNE, m, a), rows[i].rne);
        assert_int_equal(requantize(MQB_MULTIPLIER_F64, MQB_ROUND_RNE, m, a), rows[i].rne);
        assert_int_equal(requantize(MQB_MULTIPLIER_F32, MQB_ROUND_RHA, m, a), rows[i].away);
        assert_int_equal(requantize(MQB_MULTIPLIER_F64, MQB_ROUND_RHA, m, a), rows[i].away);
        assert_int_equal(requantize(MQB_MULTIPLIER_Q31, 0, m, a), rows[i].single_rounding);
        assert_int_equal(requantize(MQB_MULTIPLIER_Q31_DOUBLE, 0, m, a), rows[i].double_rounding);
        assert_int_equal(requantize(MQB_MULTIPLIER_F32, MQB_ROUND_RHU, m, a), rows[i].single_rounding);
        if (m != 3.0f / 64) {
            assert_int_equal(requantize(MQB_MULTIPLIER_POT, MQB_ROUND_RNE, m, a), rows[i].rne);
            assert_int_equal(requantize(MQB_MULTIPLIER_POT, MQB_ROUND_RHA, m, a), rows[i].away);
            assert_int_equal(requantize(MQB_MULTIPLIER_POT, MQB_ROUND_RHU, m, a), rows[i].single_rounding);
        }
    }
}

static void test_requantize_beyond_24_bits_rounds_in_f32_only(void **state)
{
    (void)state;
    assert_int_equal(requantize(MQB_MULTIPLIER_F32, MQB_ROUND_RNE, 0.5f, 16777217), 8388608);
    assert_int_equal(requantize(MQB_MULTIPLIER_Q31, 0, 0.5f, 16777217), 8388609);
    assert_int_equal(requantize(MQB_MULTIPLIER_Q31_DOUBLE, 0, 0.5f, 16777217), 8388609);
    assert_int_equal(requantize(MQB_MULTIPLIER_POT, MQB_ROUND_RHU, 0.5f, 16777217), 8388609);
    assert_int_equal(requantize(MQB_MULTIPLIER_F64, MQB_ROUND_RHA, 0.5f, 16777217), 8388609);
}

/* A published report: the float fold lands on the tie 6.5, the double fold above it. */
static void test_requantizer_fold_precision_decides(void **state)
{
    (void)state;
    struct mqb_requantizer r;
    struct mqb_contract contract = contract_of(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    contract.fold = MQB_FOLD_F32_MUL_DIV;
    assert_int_equal(mqb_requantizer_init(&r, &contract, 0.0529612452f, 0.0240937788f, 0.1148432791f, -126, -128, 127, NULL),
                     MQB_OK);
    assert_int_equal(mqb_requantize(&r, 585), -120);
    for (int form = MQB_MULTIPLIER_Q31; form <= MQB_MULTIPLIER_Q31_DOUBLE; form++) {
        contract = contract_of(form, 0);
        contract.fold = MQB_FOLD_F64;
        assert_int_equal(
            mqb_requantizer_init(&r, &contract, 0.0529612452f, 0.0240937788f, 0.1148432791f, -126, -128, 127, NULL), MQB_OK);
        assert_int_equal(mqb_requantize(&r, 585), -119);
    }
}

static void test_requantize_floor_and_trunc_of_negative(void **state)
{
    (void)state;
    for (int form = MQB_MULTIPLIER_F32; form <= MQB_MULTIPLIER_POT; form++) {
        if (form == MQB_MULTIPLIER_Q31 || form == MQB_MULTIPLIER_Q31_DOUBLE)
            continue;
        assert_int_equal(requantize(form, MQB_ROUND_FLOOR, 0.25f, -5), -2);
        assert_int_equal(requantize(form, MQB_ROUND_TRUNC, 0.25f, -5), -1);
        assert_int_equal(requantize(form, MQB_ROUND_FLOOR, 0.25f, 7), 1);
        assert_int_equal(requantize(form, MQB_ROUND_TRUNC, 0.25f, 7), 1);
    }
}

static void test_requantize_zero_point_before_rounding_moves_ties(void **state)
{
    (void)state;
    for (int form = MQB_MULTIPLIER_F32; form <= MQB_MULTIPLIER_POT; form++) {
        if (form == MQB_MULTIPLIER_Q31 || form == MQB_MULTIPLIER_Q31_DOUBLE)
            continue;
        for (int before = 0; before < 2; before++) {
            struct mqb_contract contract = contract_of(form, MQB_ROUND_RNE);
            contract.zp_before = before;
            struct mqb_requantizer r;
            assert_int_equal(mqb_requantizer_init(&r, &contract, 0.5f, 1.0f, 1.0f, 3, 0, 255, NULL), MQB_OK);
            assert_int_equal(mqb_requantize(&r, 1), before ? 4 : 3); /* rne(3.5) against rne(0.5) + 3 */
        }
    }
}

static void test_requantize_extremes_clamp(void **state)
{
    (void)state;
    for (int form = MQB_MULTIPLIER_F32; form <= MQB_MULTIPLIER_POT; form++) {
        for (int exponent = -40; exponent <= 29; exponent++) {
            struct mqb_contract contract = contract_of(form, MQB_ROUND_RHA);
            struct mqb_requantizer r;
            assert_int_equal(mqb_requantizer_init(&r, &contract, ldexpf(1.0f, exponent), 1.0f, 1.0f, 7, -128, 127, NULL),
                             MQB_OK);
            int32_t most = mqb_requantize(&r, INT32_MAX), least = mqb_requantize(&r, INT32_MIN);
            double ideal = 2147483648.0 * ldexp(1.0, exponent);
            if (ideal >= 256.0) {
                assert_int_equal(most, 127);
                assert_int_equal(least, -128);
            } else if (ideal < 0.5) {
                assert_int_equal(most, 7);
                assert_int_equal(least, 7);
            }
        }
    }
}

static void test_requantize_half_intermediate_rounds_twice(void **state)
{
    (void)state;
    /* Halves near 2049: the step is 2, ties to even. */
    assert_float_equal(mqb_requant_half(2049.0f), 2048.0f, 0.0f);
    assert_float_equal(mqb_requant_half(2051.0f), 2052.0f, 0.0f);
    assert_float_equal(mqb_requant_half(1.0f + 1.0f / 2048), 1.0f, 0.0f);
    assert_float_equal(mqb_requant_half(1.0f + 3.0f / 2048), 1.0f + 2.0f / 1024, 0.0f);
    assert_float_equal(mqb_requant_half(70000.0f), 65504.0f, 0.0f);
    assert_float_equal(mqb_requant_half(-65519.0f), -65504.0f, 0.0f);
    assert_float_equal(mqb_requant_half(ldexpf(1.0f, -24)), ldexpf(1.0f, -24), 0.0f);
    assert_float_equal(mqb_requant_half(ldexpf(1.0f, -25)), 0.0f, 0.0f);
    assert_float_equal(mqb_requant_half(ldexpf(3.0f, -26)), ldexpf(1.0f, -24), 0.0f);
    assert_float_equal(mqb_requant_half(0.0f), 0.0f, 0.0f);

    struct mqb_contract contract = contract_of(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    struct mqb_requantizer r;
    contract.intermediate = MQB_INTERMEDIATE_F16;
    contract.zp_before = 1;
    assert_int_equal(mqb_requantizer_init(&r, &contract, 1.0f, 1.0f, 64.0f, 1, -128, 127, NULL), MQB_OK);
    /* The step of halves is 2 here: 2081 becomes 2080, 2079 as well. */
    assert_int_equal(mqb_requantize(&r, 2081), 34);
    contract.intermediate = MQB_INTERMEDIATE_F32;
    assert_int_equal(mqb_requantizer_init(&r, &contract, 1.0f, 1.0f, 64.0f, 1, -128, 127, NULL), MQB_OK);
    assert_int_equal(mqb_requantize(&r, 2081), 34);
    assert_int_equal(mqb_requantize(&r, 2079), 33); /* 32.484 + 1 */
    contract.intermediate = MQB_INTERMEDIATE_F16;
    assert_int_equal(mqb_requantizer_init(&r, &contract, 1.0f, 1.0f, 64.0f, 1, -128, 127, NULL), MQB_OK);
    assert_int_equal(mqb_requantize(&r, 2079), 34); /* half(2079) = 2080: 33.5 to even */
    assert_int_equal(mqb_requantize(&r, 1000000), 127);
    contract.zp_before = 0;
    assert_int_equal(mqb_requantizer_init(&r, &contract, 1.0f, 1.0f, 1024.0f, -5, -128, 127, NULL), MQB_OK);
    assert_int_equal(mqb_requantize(&r, INT32_MAX), 59); /* 65504 / 1024 = 63.97 */
}

static void test_requantize_int16_saturation_precedes_zero_point(void **state)
{
    (void)state;
    struct mqb_contract contract = contract_of(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    contract.intermediate = MQB_INTERMEDIATE_I16_SATURATING;
    struct mqb_requantizer r;
    assert_int_equal(mqb_requantizer_init(&r, &contract, 1.0f, 1.0f, 1.0f, 5, -1000000, 1000000, NULL), MQB_OK);
    assert_int_equal(mqb_requantize(&r, 40000), 32772);
    assert_int_equal(mqb_requantize(&r, -40000), -32763);
    assert_int_equal(mqb_requantize(&r, 12), 17);
}

static void test_requantize_float_bias_joins_the_epilogue(void **state)
{
    (void)state;
    struct mqb_contract contract = contract_of(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    contract.bias_form = MQB_BIAS_F32;
    struct mqb_requantizer r;
    assert_int_equal(mqb_requantizer_init(&r, &contract, 0.5f, 0.25f, 0.5f, 10, 0, 255, NULL), MQB_OK);
    r.bias = 0.6f;
    assert_int_equal(mqb_requantize(&r, 8), 13); /* 8 / 4 + 1.2 = 3.2 */
    contract.multiplier = MQB_MULTIPLIER_Q31;
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(mqb_requantizer_init(&r, &contract, 0.5f, 0.25f, 0.5f, 10, 0, 255, &error), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(error.text, "float bias"));
}

static void test_requantizer_bad_scales_refused(void **state)
{
    (void)state;
    struct mqb_contract contract = contract_of(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    struct mqb_requantizer r;
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(mqb_requantizer_init(&r, &contract, 0.0f, 1.0f, 1.0f, 0, 0, 255, &error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(error.text, "input scale is 0"));
    assert_int_equal(mqb_requantizer_init(&r, &contract, 1.0f, NAN, 1.0f, 0, 0, 255, &error), MQB_ERR_NUMERIC);
    assert_int_equal(mqb_requantizer_init(&r, &contract, 1.0f, 1.0f, INFINITY, 0, 0, 255, &error), MQB_ERR_NUMERIC);
    assert_int_equal(mqb_requantizer_init(&r, &contract, 1e-30f, 1e-30f, 1.0f, 0, 0, 255, &error), MQB_ERR_NUMERIC);
    contract.multiplier = MQB_MULTIPLIER_POT;
    assert_int_equal(mqb_requantizer_init(&r, &contract, 0.3f, 1.0f, 1.0f, 0, 0, 255, &error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(error.text, "power of two"));
    contract.multiplier = MQB_MULTIPLIER_Q31;
    assert_int_equal(mqb_requantizer_init(&r, &contract, 1e20f, 1.0f, 1.0f, 0, 0, 255, &error), MQB_ERR_NUMERIC);
    contract.multiplier = 99;
    assert_int_equal(mqb_requantizer_init(&r, &contract, 1.0f, 1.0f, 1.0f, 0, 0, 255, &error), MQB_ERR_ARGUMENT);
}

static void test_requantizer_count_divides_exactly_under_pot(void **state)
{
    (void)state;
    struct mqb_contract contract = contract_of(MQB_MULTIPLIER_POT, MQB_ROUND_RHU);
    struct mqb_requantizer r;
    assert_int_equal(mqb_requantizer_init_count(&r, &contract, 0.5f, 1.0f, 0.5f, 49, 0, -128, 127, NULL), MQB_OK);
    for (int32_t a = -2000; a <= 2000; a++)
        assert_int_equal(mqb_requantize(&r, a), (int32_t)floor(a / 49.0 + 0.5));
    assert_int_equal(mqb_requantizer_init_count(&r, &contract, 0.5f, 1.0f, 0.5f, 6, 0, -128, 127, NULL), MQB_OK);
    assert_int_equal(mqb_requantize(&r, 9), 2);   /* 1.5 */
    assert_int_equal(mqb_requantize(&r, -9), -1); /* -1.5 */
}

static void test_quantize_value_reciprocal_and_division_differ(void **state)
{
    (void)state;
    struct mqb_contract contract = contract_of(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    assert_int_equal(mqb_quantize_value(&contract, 0.273939937f, 0.00214854861f, 0, 0, 255), 128);
    contract.input_divide = 1;
    assert_int_equal(mqb_quantize_value(&contract, 0.273939937f, 0.00214854861f, 0, 0, 255), 127);
    assert_int_equal(mqb_quantize_value(&contract, NAN, 0.5f, 9, 0, 255), 0);
    assert_int_equal(mqb_quantize_value(&contract, INFINITY, 0.5f, 9, 0, 255), 255);
    assert_int_equal(mqb_quantize_value(&contract, -INFINITY, 0.5f, 9, 0, 255), 0);
    assert_int_equal(mqb_quantize_value(&contract, 0.75f, 0.5f, 9, 0, 255), 11);
    contract.input_rounding = MQB_ROUND_TRUNC;
    assert_int_equal(mqb_quantize_value(&contract, 0.75f, 0.5f, 9, 0, 255), 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requantize_ties_follow_each_library),
        cmocka_unit_test(test_requantize_beyond_24_bits_rounds_in_f32_only),
        cmocka_unit_test(test_requantizer_fold_precision_decides),
        cmocka_unit_test(test_requantize_floor_and_trunc_of_negative),
        cmocka_unit_test(test_requantize_zero_point_before_rounding_moves_ties),
        cmocka_unit_test(test_requantize_extremes_clamp),
        cmocka_unit_test(test_requantize_half_intermediate_rounds_twice),
        cmocka_unit_test(test_requantize_int16_saturation_precedes_zero_point),
        cmocka_unit_test(test_requantize_float_bias_joins_the_epilogue),
        cmocka_unit_test(test_requantizer_bad_scales_refused),
        cmocka_unit_test(test_requantizer_count_divides_exactly_under_pot),
        cmocka_unit_test(test_quantize_value_reciprocal_and_division_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
