/*
 * integer.c - family 5: requantization as FBGEMM, XNNPACK, gemmlowp, TFLite and CMSIS-NN define it, and shifts; exact. Whole
 * layers: qconv.c.
 */
#include "integer.h"

#include "quant/requant.h"

#include <math.h>
#include <string.h>

static struct mqb_contract contract_of(int multiplier, int rounding)
{
    return (struct mqb_contract){
        .struct_size = sizeof(struct mqb_contract), .multiplier = multiplier, .rounding = rounding, .profile = "golden"};
}

static void equal(struct golden_case *c, const char *what, size_t index, int64_t got, int64_t want)
{
    if (got != want)
        golden_problem(c, "%s[%zu] = %lld, expected %lld", what, index, (long long)got, (long long)want);
}

static struct mqb_requantizer requantizer(struct golden_case *c, int multiplier, int rounding, float m, int32_t z, int32_t low,
                                          int32_t high)
{
    struct mqb_contract contract = contract_of(multiplier, rounding);
    struct mqb_requantizer r = {0};
    golden_ok(c, mqb_requantizer_init(&r, &contract, m, 1.0f, 1.0f, z, low, high, &c->error));
    return r;
}

/* Compares a requantizer over all accumulators of a case. */
static void compare(struct golden_case *c, const struct mqb_requantizer *r, const char *key)
{
    const json_t *input = json_object_get(c->item, "input"), *expected = json_object_get(c->item, "expected");
    if (golden_size(expected, key) != golden_size(input, "acc"))
        golden_problem(c, "the file has %zu numbers of %s", golden_size(expected, key), key);
    for (size_t i = 0; i < golden_size(input, "acc") && !c->problem[0]; i++)
        equal(c, key, i, mqb_requantize(r, (int32_t)golden_at(c, input, "acc", i)), golden_at(c, expected, key, i));
}

static void requant_float(struct golden_case *c)
{
    const json_t *hyper = json_object_get(c->item, "hyper");
    int32_t z = (int32_t)golden_int(hyper, "zero_point");
    int32_t low = (int32_t)golden_int(c->item, "quant_min"), high = (int32_t)golden_int(c->item, "quant_max");
    float m = (float)golden_number(c, hyper, "multiplier");
    struct mqb_requantizer r = requantizer(c, MQB_MULTIPLIER_F32, MQB_ROUND_RNE, m, z, low, high);
    /* XNNPACK's rndnu: one rounding, ties up; its multiplier keeps all 24 bits of the float. */
    struct mqb_requantizer wide = requantizer(c, MQB_MULTIPLIER_Q31, MQB_ROUND_RNE, m, z, low, high);
    compare(c, &r, "output");
    compare(c, &r, "output_xnnpack_fp32");
    compare(c, &wide, "output_xnnpack_rndnu");
}

static void requant_fixed(struct golden_case *c)
{
    const json_t *hyper = json_object_get(c->item, "hyper");
    struct mqb_requantizer narrow = {
        .zero_point = (int32_t)golden_int(hyper, "zero_point"), .divisor = 1, .low = -128, .high = 127};
    mqb_requant_q31(golden_number(c, hyper, "real_multiplier"), &narrow.q31, &narrow.shift);
    equal(c, "quantized_multiplier", 0, narrow.q31, golden_int(hyper, "quantized_multiplier"));
    equal(c, "shift", 0, narrow.shift, golden_int(hyper, "shift"));
    struct mqb_requantizer wide = narrow;
    wide.zero_point = 0;
    wide.low = INT32_MIN;
    wide.high = INT32_MAX;
    narrow.multiplier = wide.multiplier = MQB_MULTIPLIER_Q31_DOUBLE;
    compare(c, &narrow, "double_rounding_s8");
    compare(c, &wide, "double_rounding_i32");
    narrow.multiplier = wide.multiplier = MQB_MULTIPLIER_Q31;
    compare(c, &narrow, "single_rounding_s8");
    compare(c, &wide, "single_rounding_i32");
}

static void high_mul(struct golden_case *c)
{
    const json_t *input = json_object_get(c->item, "input"), *expected = json_object_get(c->item, "expected");
    for (size_t i = 0; i < golden_size(input, "a"); i++)
        equal(c, "output", i, mqb_requant_srdhm((int32_t)golden_at(c, input, "a", i), (int32_t)golden_at(c, input, "b", i)),
              golden_at(c, expected, "output", i));
}

static void divide_by_pot(struct golden_case *c)
{
    const json_t *input = json_object_get(c->item, "input"), *expected = json_object_get(c->item, "expected");
    for (size_t i = 0; i < golden_size(input, "x"); i++)
        equal(c, "output", i,
              mqb_requant_rdpot((int32_t)golden_at(c, input, "x", i), (int32_t)golden_at(c, input, "exponent", i)),
              golden_at(c, expected, "output", i));
}

static void quantize_multiplier(struct golden_case *c)
{
    const json_t *input = json_object_get(c->item, "input"), *expected = json_object_get(c->item, "expected");
    const json_t *list = json_object_get(input, "double_multiplier");
    const json_t *numbers = json_is_object(list) ? json_object_get(list, "data") : list;
    for (size_t i = 0; i < json_array_size(numbers); i++) {
        int32_t q31, shift;
        mqb_requant_q31(json_number_value(json_array_get(numbers, i)), &q31, &shift);
        equal(c, "quantized_multiplier", i, q31, golden_at(c, expected, "quantized_multiplier", i));
        equal(c, "shift", i, shift, golden_at(c, expected, "shift", i));
    }
}

static void requant_pot(struct golden_case *c)
{
    static const struct {
        const char *wide, *s8, *u8;
        int rounding;
    } modes[] = {
        {"half_up_i32", "half_up_s8", "half_up_u8", MQB_ROUND_RHU},
        {"half_away_i32", "half_away_s8", "half_away_u8", MQB_ROUND_RHA},
        {"half_even_i32", NULL, NULL, MQB_ROUND_RNE},
    };
    const json_t *hyper = json_object_get(c->item, "hyper");
    float m = ldexpf(1.0f, -(int)golden_int(hyper, "shift"));
    for (size_t k = 0; k < sizeof(modes) / sizeof(modes[0]); k++) {
        int32_t zs = (int32_t)golden_int(hyper, "zero_point_s8"), zu = (int32_t)golden_int(hyper, "zero_point_u8");
        struct mqb_requantizer wide = requantizer(c, MQB_MULTIPLIER_POT, modes[k].rounding, m, 0, INT32_MIN, INT32_MAX);
        struct mqb_requantizer s8 = requantizer(c, MQB_MULTIPLIER_POT, modes[k].rounding, m, zs, -128, 127);
        struct mqb_requantizer u8 = requantizer(c, MQB_MULTIPLIER_POT, modes[k].rounding, m, zu, 0, 255);
        compare(c, &wide, modes[k].wide);
        if (modes[k].s8) {
            compare(c, &s8, modes[k].s8);
            compare(c, &u8, modes[k].u8);
        }
    }
}

void golden_integer_case(struct golden_case *c)
{
    static const struct {
        const char *algo;
        golden_driver *drive;
    } drivers[] = {
        {"requant_float", requant_float},
        {"requant_fixedpoint", requant_fixed},
        {"saturating_rounding_doubling_high_mul", high_mul},
        {"rounding_divide_by_pot", divide_by_pot},
        {"quantize_multiplier", quantize_multiplier},
        {"requant_pot", requant_pot},
        {"quantized_conv2d", golden_qconv_case},
        {"quantized_linear", golden_qconv_case},
    };
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
        if (strcmp(drivers[i].algo, golden_text(c->item, "algo")) == 0) {
            drivers[i].drive(c);
            return;
        }
    }
    golden_problem(c, "no driver for \"%s\"", golden_text(c->item, "algo"));
}
