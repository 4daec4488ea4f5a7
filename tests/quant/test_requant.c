/* Requantization against FBGEMM, XNNPACK, gemmlowp, TFLite, CMSIS-NN and ONNX Runtime, and against the table of ties. */
#include "golden_json.h"

#include "quant/requant.h"

#include <math.h>
#include <string.h>

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

static void test_requantize_float_equals_fbgemm_and_xnnpack(void **state)
{
    (void)state;
    json_t *root = golden_open("fam5_requant_float.json");
    json_t *cases = json_object_get(root, "cases");
    size_t num_checked = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *one = json_array_get(cases, i), *hyper = json_object_get(one, "hyper");
        json_t *input = json_object_get(one, "input"), *expected = json_object_get(one, "expected");
        struct mqb_contract contract = contract_of(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
        struct mqb_requantizer r, wide;
        int32_t z = (int32_t)golden_number(hyper, "zero_point");
        int32_t low = (int32_t)golden_number(one, "quant_min"), high = (int32_t)golden_number(one, "quant_max");
        float m = (float)golden_number(hyper, "multiplier");
        assert_int_equal(mqb_requantizer_init(&r, &contract, m, 1.0f, 1.0f, z, low, high, NULL), MQB_OK);
        /* XNNPACK's rndnu: one rounding, ties up; its multiplier keeps all 24 bits of the float. */
        contract.multiplier = MQB_MULTIPLIER_Q31;
        assert_int_equal(mqb_requantizer_init(&wide, &contract, m, 1.0f, 1.0f, z, low, high, NULL), MQB_OK);
        for (size_t j = 0; j < golden_size(input, "acc"); j++) {
            int32_t a = (int32_t)golden_at(input, "acc", j);
            assert_int_equal(mqb_requantize(&r, a), (int32_t)golden_at(expected, "output", j));
            assert_int_equal(mqb_requantize(&r, a), (int32_t)golden_at(expected, "output_xnnpack_fp32", j));
            assert_int_equal(mqb_requantize(&wide, a), (int32_t)golden_at(expected, "output_xnnpack_rndnu", j));
            num_checked++;
        }
    }
    assert_true(num_checked > 9000);
    json_decref(root);
}

static void test_requantize_fixed_point_equals_gemmlowp_and_tflite(void **state)
{
    (void)state;
    json_t *root = golden_open("fam5_requant_fixed.json");
    json_t *cases = json_object_get(root, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *one = json_array_get(cases, i), *hyper = json_object_get(one, "hyper");
        json_t *input = json_object_get(one, "input"), *expected = json_object_get(one, "expected");
        const char *algo = json_string_value(json_object_get(one, "algo"));
        if (strcmp(algo, "saturating_rounding_doubling_high_mul") == 0) {
            for (size_t j = 0; j < golden_size(input, "a"); j++)
                assert_int_equal(mqb_requant_srdhm((int32_t)golden_at(input, "a", j), (int32_t)golden_at(input, "b", j)),
                                 (int32_t)golden_at(expected, "output", j));
        } else if (strcmp(algo, "rounding_divide_by_pot") == 0) {
            for (size_t j = 0; j < golden_size(input, "x"); j++)
                assert_int_equal(mqb_requant_rdpot((int32_t)golden_at(input, "x", j), (int32_t)golden_at(input, "exponent", j)),
                                 (int32_t)golden_at(expected, "output", j));
        } else if (strcmp(algo, "quantize_multiplier") == 0) {
            for (size_t j = 0; j < golden_size(input, "double_multiplier"); j++) {
                int32_t q31, shift;
                mqb_requant_q31(golden_at(input, "double_multiplier", j), &q31, &shift);
                assert_int_equal(q31, (int32_t)golden_at(expected, "quantized_multiplier", j));
                assert_int_equal(shift, (int32_t)golden_at(expected, "shift", j));
            }
        } else {
            assert_string_equal(algo, "requant_fixedpoint");
            struct mqb_requantizer r = {.zero_point = (int32_t)golden_number(hyper, "zero_point"), .divisor = 1};
            mqb_requant_q31(golden_number(hyper, "real_multiplier"), &r.q31, &r.shift);
            assert_int_equal(r.q31, (int32_t)golden_number(hyper, "quantized_multiplier"));
            for (size_t j = 0; j < golden_size(input, "acc"); j++) {
                int32_t a = (int32_t)golden_at(input, "acc", j);
                r.low = -128;
                r.high = 127;
                r.multiplier = MQB_MULTIPLIER_Q31_DOUBLE;
                assert_int_equal(mqb_requantize(&r, a), (int32_t)golden_at(expected, "double_rounding_s8", j));
                r.multiplier = MQB_MULTIPLIER_Q31;
                assert_int_equal(mqb_requantize(&r, a), (int32_t)golden_at(expected, "single_rounding_s8", j));
                struct mqb_requantizer plain = r;
                plain.zero_point = 0;
                plain.low = INT32_MIN;
                plain.high = INT32_MAX;
                assert_int_equal(mqb_requantize(&plain, a), (int32_t)golden_at(expected, "single_rounding_i32", j));
                plain.multiplier = MQB_MULTIPLIER_Q31_DOUBLE;
                assert_int_equal(mqb_requantize(&plain, a), (int32_t)golden_at(expected, "double_rounding_i32", j));
            }
        }
    }
    json_decref(root);
}

static void test_requantize_shift_equals_integer_definition(void **state)
{
    (void)state;
    static const struct {
        const char *wide, *s8, *u8;
        int rounding;
    } modes[] = {
        {"half_up_i32", "half_up_s8", "half_up_u8", MQB_ROUND_RHU},
        {"half_away_i32", "half_away_s8", "half_away_u8", MQB_ROUND_RHA},
        {"half_even_i32", NULL, NULL, MQB_ROUND_RNE},
    };
    json_t *root = golden_open("fam5_requant_pot.json");
    json_t *cases = json_object_get(root, "cases");
    assert_true(json_array_size(cases) > 0);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *one = json_array_get(cases, i), *hyper = json_object_get(one, "hyper");
        json_t *input = json_object_get(one, "input"), *expected = json_object_get(one, "expected");
        float m = ldexpf(1.0f, -(int)golden_number(hyper, "shift"));
        for (size_t k = 0; k < 3; k++) {
            struct mqb_contract contract = contract_of(MQB_MULTIPLIER_POT, modes[k].rounding);
            struct mqb_requantizer wide, s8, u8;
            int32_t zs = (int32_t)golden_number(hyper, "zero_point_s8"), zu = (int32_t)golden_number(hyper, "zero_point_u8");
            assert_int_equal(mqb_requantizer_init(&wide, &contract, m, 1, 1, 0, INT32_MIN, INT32_MAX, NULL), MQB_OK);
            assert_int_equal(mqb_requantizer_init(&s8, &contract, m, 1, 1, zs, -128, 127, NULL), MQB_OK);
            assert_int_equal(mqb_requantizer_init(&u8, &contract, m, 1, 1, zu, 0, 255, NULL), MQB_OK);
            for (size_t j = 0; j < golden_size(input, "acc"); j++) {
                int32_t a = (int32_t)golden_at(input, "acc", j);
                assert_int_equal(mqb_requantize(&wide, a), (int32_t)golden_at(expected, modes[k].wide, j));
                if (modes[k].s8) {
                    assert_int_equal(mqb_requantize(&s8, a), (int32_t)golden_at(expected, modes[k].s8, j));
                    assert_int_equal(mqb_requantize(&u8, a), (int32_t)golden_at(expected, modes[k].u8, j));
                }
            }
        }
    }
    json_decref(root);
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
        cmocka_unit_test(test_requantize_float_equals_fbgemm_and_xnnpack),
        cmocka_unit_test(test_requantize_fixed_point_equals_gemmlowp_and_tflite),
        cmocka_unit_test(test_requantize_shift_equals_integer_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
