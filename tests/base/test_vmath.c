/* test_vmath.c - elementary functions against the C library's. */
#include "base/base.h"

#include <math.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#define TOLERANCE 1e-13

static void assert_near(double got, double expected, const char *name, double x)
{
    double allowed = TOLERANCE * fmax(fabs(expected), 1e-300);
    if (!(fabs(got - expected) <= allowed))
        fail_msg("%s(%.17g) = %.17g, expected %.17g", name, x, got, expected);
}

static void test_exp_range_matches_libm(void **state)
{
    (void)state;
    for (double x = -700.0; x <= 700.0; x += 0.0917)
        assert_near(mqb_exp(x), exp(x), "exp", x);
    for (double x = -1e-3; x <= 1e-3; x += 1.7e-6)
        assert_near(mqb_exp(x), exp(x), "exp", x);
}

static void test_exp_ends_as_defined(void **state)
{
    (void)state;
    assert_true(mqb_exp(0.0) == 1.0);
    assert_true(mqb_exp(1000.0) == HUGE_VAL && mqb_exp(HUGE_VAL) == HUGE_VAL);
    assert_true(mqb_exp(-1000.0) == 0.0 && mqb_exp(-HUGE_VAL) == 0.0);
    assert_true(isnan(mqb_exp(NAN)));
}

static void test_ln_range_matches_libm(void **state)
{
    (void)state;
    for (double x = 1e-300; x < 1e300; x *= 1.37)
        assert_near(mqb_ln(x), log(x), "ln", x);
    for (double x = 0.4; x < 2.5; x += 1.3e-4)
        assert_near(mqb_ln(x), log(x), "ln", x);
    assert_near(mqb_ln(5e-324), log(5e-324), "ln", 5e-324);
}

static void test_ln_ends_as_defined(void **state)
{
    (void)state;
    assert_true(mqb_ln(1.0) == 0.0);
    assert_true(mqb_ln(0.0) == -HUGE_VAL);
    assert_true(mqb_ln(HUGE_VAL) == HUGE_VAL);
    assert_true(isnan(mqb_ln(NAN)));
}

static void test_ln_each_equals_ln_bit_for_bit(void **state)
{
    (void)state;
    enum { MANY = 37 }; /* no multiple of a vector */
    double x[MANY], y[MANY], start = 2.3e-308;
    while (start < 1e300) {
        for (int i = 0; i < MANY; i++)
            x[i] = start = start * 1.37;
        x[MANY / 2] = 1.0;
        x[MANY / 3] = 0.70710678118654752440;
        mqb_ln_each(x, y, MANY);
        for (int i = 0; i < MANY; i++) {
            assert_near(y[i], log(x[i]), "ln", x[i]);
            assert_true(y[i] == mqb_ln(x[i]));
        }
    }
    memcpy(y, x, sizeof y);
    mqb_ln_each(y, y, 5); /* in place; the rest is left alone */
    for (int i = 0; i < MANY; i++)
        assert_true(y[i] == (i < 5 ? mqb_ln(x[i]) : x[i]));
}

static void test_log2_powers_exact_and_range_matches_libm(void **state)
{
    (void)state;
    for (int e = -1000; e <= 1000; e++)
        assert_true(mqb_log2(ldexp(1.0, e)) == (double)e);
    for (double x = 1e-300; x < 1e300; x *= 1.71)
        assert_near(mqb_log2(x), log2(x), "log2", x);
}

static void test_tanh_range_matches_libm(void **state)
{
    (void)state;
    for (double x = -25.0; x <= 25.0; x += 0.00371)
        assert_near(mqb_tanh(x), tanh(x), "tanh", x);
    for (double x = 1e-12; x < 1.0; x *= 1.3) {
        assert_near(mqb_tanh(x), tanh(x), "tanh", x);
        assert_true(mqb_tanh(-x) == -mqb_tanh(x));
    }
    assert_true(mqb_tanh(0.0) == 0.0 && mqb_tanh(1e9) == 1.0 && mqb_tanh(-HUGE_VAL) == -1.0);
}

/* Near a zero the error counts against 1, not against the value. */
static void test_sin_cos_range_matches_libm(void **state)
{
    (void)state;
    for (double x = -1000.0; x <= 1000.0; x += 0.0373) {
        if (fabs(mqb_sin(x) - sin(x)) > TOLERANCE)
            fail_msg("sin(%.17g) = %.17g, expected %.17g", x, mqb_sin(x), sin(x));
        if (fabs(mqb_cos(x) - cos(x)) > TOLERANCE)
            fail_msg("cos(%.17g) = %.17g, expected %.17g", x, mqb_cos(x), cos(x));
    }
    assert_true(mqb_sin(0.0) == 0.0 && mqb_cos(0.0) == 1.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp_range_matches_libm),
        cmocka_unit_test(test_exp_ends_as_defined),
        cmocka_unit_test(test_ln_range_matches_libm),
        cmocka_unit_test(test_ln_ends_as_defined),
        cmocka_unit_test(test_ln_each_equals_ln_bit_for_bit),
        cmocka_unit_test(test_log2_powers_exact_and_range_matches_libm),
        cmocka_unit_test(test_tanh_range_matches_libm),
        cmocka_unit_test(test_sin_cos_range_matches_libm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
