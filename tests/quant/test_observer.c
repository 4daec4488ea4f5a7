/*
 * test_observer.c - observers: closed forms, edges, refusals. Their replay of reference vectors: tests/golden.
 */
#include "quant/quant.h"

#include <mqbench/numeric.h>

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct mqb_scheme scheme_of(int role, int bits, bool is_signed, bool symmetric, int channels)
{
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .role = role, .bits = bits, .symmetric = symmetric};
    scheme.qmin = is_signed ? -(1 << (bits - 1)) : 0;
    scheme.qmax = scheme.qmin + (1 << bits) - 1;
    scheme.per_channel = channels > 1;
    scheme.num_channels = channels;
    return scheme;
}

static struct mqb_tensor_view view_of(const float *x, int64_t channels, int64_t n)
{
    struct mqb_tensor_view view = {
        .struct_size = sizeof(view), .rank = 2, .dims = {channels, n / channels}, .num_elements = n, .data = x};
    return view;
}

static void observe_once(const char *name, const struct mqb_scheme *scheme, const float *x, int64_t n, float *scale,
                         int32_t *zero)
{
    const struct mqb_host *host = mqb_host_table();
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_observer *observer;
    struct mqb_tensor_view view = view_of(x, scheme->num_channels, n);
    assert_int_equal(host->observer_create(name, scheme, &observer, &error), MQB_OK);
    if (host->observer_observe(observer, &view, &error) != MQB_OK)
        fail_msg("%s", error.text);
    assert_int_equal(host->observer_qparams(observer, scale, zero, &error), MQB_OK);
    host->observer_destroy(observer);
}

/* ---- closed forms ---- */

static void test_pot_round_powers_and_thresholds_exact(void **state)
{
    (void)state;
    for (int e = -20; e < 20; e++) {
        float p = ldexpf(1.0f, e);
        assert_true(mqb_pot_round(p) == p);
        assert_true(mqb_pot_round(p * 1.414f) == p);
        assert_true(mqb_pot_round(p * 1.4145f) == 2.0f * p);
        assert_true(mqb_pot_round(p * 1.9999f) == 2.0f * p);
    }
    assert_true(mqb_pot_round(FLT_MAX) == 0x1p127f);
    assert_true(mqb_pot_round(FLT_MIN) == FLT_MIN);
}

static void test_minmax_affine_closed_form(void **state)
{
    (void)state;
    const float x[] = {-1.0f, 0.25f, 3.0f, 2.0f};
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 8, false, false, 1);
    float scale;
    int32_t zero;
    observe_once("minmax", &scheme, x, 4, &scale, &zero);
    assert_true(scale == 4.0f / 255.0f);
    assert_int_equal(zero, 64); /* 255 / 4 = 63.75 */
    scheme = scheme_of(MQB_ROLE_ACTIVATION, 8, true, false, 1);
    observe_once("minmax", &scheme, x, 4, &scale, &zero);
    assert_int_equal(zero, -64);
    scheme = scheme_of(MQB_ROLE_ACTIVATION, 4, true, true, 1);
    observe_once("minmax", &scheme, x, 4, &scale, &zero);
    assert_true(scale == 3.0f / 7.5f);
    assert_int_equal(zero, 0);
    scheme.qmin = 0;
    scheme.qmax = 15;
    observe_once("minmax", &scheme, x, 4, &scale, &zero);
    assert_true(scale == 3.0f / 15.0f);
}

static void test_minmax_range_away_from_zero_is_widened(void **state)
{
    (void)state;
    const float high[] = {2.0f, 5.1f}, low[] = {-5.1f, -2.0f};
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 8, false, false, 1);
    float scale;
    int32_t zero;
    observe_once("minmax", &scheme, high, 2, &scale, &zero);
    assert_true(scale == 5.1f / 255.0f);
    assert_int_equal(zero, 0);
    observe_once("minmax", &scheme, low, 2, &scale, &zero);
    assert_int_equal(zero, 255);
}

static void test_minmax_pot_recomputes_zero_point(void **state)
{
    (void)state;
    const float x[] = {-1.0f, 4.0f};
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 4, false, false, 1);
    scheme.pot_scale = 1;
    float scale;
    int32_t zero;
    observe_once("minmax", &scheme, x, 2, &scale, &zero);
    assert_true(scale == 0.25f); /* 5 / 15 = 0.333 */
    assert_int_equal(zero, 4);   /* 1 / 0.25; from the raw scale it would be 3 */
}

static void test_observers_degenerate_tensors_stay_finite(void **state)
{
    (void)state;
    static const float zeros[6] = {0}, constant[6] = {2.5f, 2.5f, 2.5f, 2.5f, 2.5f, 2.5f},
                       huge[6] = {FLT_MAX, -FLT_MAX, FLT_MAX, -FLT_MAX, 0.0f, 1.0f},
                       tiny[6] = {1e-45f, 1e-42f, 0.0f, 1e-40f, 1e-39f, 1e-45f}, single[1] = {-3.0f};
    static const struct {
        const float *x;
        int64_t n;
    } inputs[] = {{zeros, 6}, {constant, 6}, {huge, 6}, {tiny, 6}, {single, 1}};
    for (const char *const *name = mqb_observer_names(); *name; name++) {
        for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
            for (int variant = 0; variant < 16; variant++) {
                struct mqb_scheme scheme = scheme_of(variant & 1 ? MQB_ROLE_WEIGHT : MQB_ROLE_ACTIVATION, variant & 2 ? 8 : 2,
                                                     variant & 4, variant & 8, 1);
                for (int pot = 0; pot < 2; pot++) {
                    float scale = 0.0f;
                    int32_t zero = -1000;
                    scheme.pot_scale = (uint8_t)pot;
                    observe_once(*name, &scheme, inputs[i].x, inputs[i].n, &scale, &zero);
                    assert_true(scale >= FLT_EPSILON && scale <= FLT_MAX);
                    assert_true(zero >= scheme.qmin && zero <= scheme.qmax);
                }
            }
        }
    }
}

static void test_observer_per_channel_sees_each_channel(void **state)
{
    (void)state;
    const float x[] = {1.0f, -0.5f, 0.25f, 8.0f, 2.0f, 0.0f};
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, 8, true, true, 3);
    for (const char *const *name = mqb_observer_names(); *name; name++) {
        float scale[3], alone;
        int32_t zero[3], alone_zero;
        observe_once(*name, &scheme, x, 6, scale, zero);
        for (int c = 0; c < 3; c++) {
            struct mqb_scheme one = scheme;
            one.num_channels = 1;
            observe_once(*name, &one, x + 2 * c, 2, &alone, &alone_zero);
            assert_true(scale[c] == alone && zero[c] == alone_zero);
        }
    }
}

/* A long-tailed sample: mqb_normal, each tenth number times four. */
static float *long_tail(int64_t n, uint64_t stream)
{
    float *x = malloc((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)mqb_normal(7, stream, (uint64_t)i) * (i % 10 == 0 ? 4.0f : 1.0f);
    return x;
}

/* The error that a range causes, by definition, in double. */
static double squared_error(const struct mqb_scheme *scheme, float scale, int32_t zero, const float *x, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double q = fmin(fmax((double)rintf(x[i] / scale) + zero, scheme->qmin), scheme->qmax);
        double e = (q - zero) * (double)scale - (double)x[i];
        sum += e * e;
    }
    return sum;
}

static void test_mse_histogram_is_as_good_as_exact(void **state)
{
    (void)state;
    enum { N = 20000 };
    float *x = long_tail(N, 1);
    for (int bits = 2; bits <= 8; bits += 2) {
        struct mqb_scheme weight = scheme_of(MQB_ROLE_WEIGHT, bits, false, false, 1), activation = weight;
        float exact, streamed, widest;
        int32_t exact_zero, streamed_zero, widest_zero;
        activation.role = MQB_ROLE_ACTIVATION;
        observe_once("mse", &weight, x, N, &exact, &exact_zero);
        observe_once("mse", &activation, x, N, &streamed, &streamed_zero);
        observe_once("minmax", &weight, x, N, &widest, &widest_zero);
        double best = squared_error(&weight, exact, exact_zero, x, N);
        double got = squared_error(&weight, streamed, streamed_zero, x, N);
        assert_true(got <= 1.01 * best);
        assert_true(best <= squared_error(&weight, widest, widest_zero, x, N));
    }
    free(x);
}

static void test_histogram_growing_range_equals_one_batch(void **state)
{
    (void)state;
    enum { N = 4096 };
    const struct mqb_host *host = mqb_host_table();
    float *x = long_tail(N, 2);
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 4, false, false, 1);
    struct mqb_error error = MQB_ERROR_INIT;
    /* Sorted by size, so that the range grows from batch to batch; a batch of zeros comes first. */
    for (int i = 0; i < N; i++)
        x[i] = i < 1024 ? 0.0f : ldexpf(x[i], i / 1024 - 3);
    static const char *const names[] = {"mse", "percentile_999"};
    for (size_t k = 0; k < 2; k++) {
        struct mqb_observer *observer;
        float scale, whole;
        int32_t zero, whole_zero;
        assert_int_equal(host->observer_create(names[k], &scheme, &observer, &error), MQB_OK);
        for (int i = 0; i < N; i += 1024) {
            struct mqb_tensor_view view = view_of(x + i, 1, 1024);
            assert_int_equal(host->observer_observe(observer, &view, &error), MQB_OK);
        }
        assert_int_equal(host->observer_qparams(observer, &scale, &zero, &error), MQB_OK);
        host->observer_destroy(observer);
        observe_once(names[k], &scheme, x, N, &whole, &whole_zero);
        assert_true(fabsf(scale - whole) <= 1e-6f * whole);
        assert_int_equal(zero, whole_zero);
    }
    free(x);
}

static void test_percentile_histogram_is_near_sorted(void **state)
{
    (void)state;
    enum { N = 50000 };
    float *x = long_tail(N, 3), scale, exact;
    int32_t zero, exact_zero;
    struct mqb_scheme weight = scheme_of(MQB_ROLE_WEIGHT, 8, false, false, 1), activation = weight;
    activation.role = MQB_ROLE_ACTIVATION;
    observe_once("percentile", &weight, x, N, &exact, &exact_zero);
    observe_once("percentile", &activation, x, N, &scale, &zero);
    assert_true(fabsf(scale - exact) <= 0.01f * exact);
    free(x);
}

static void test_ema_quantile_cuts_outlier(void **state)
{
    (void)state;
    enum { N = 200000 };
    float *x = malloc(N * sizeof(float)), scale;
    int32_t zero;
    for (int i = 0; i < N; i++)
        x[i] = (float)(i % 1000) / 1000.0f;
    x[17] = 100.0f;
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 8, false, false, 1);
    observe_once("ema_quantile", &scheme, x, N, &scale, &zero);
    /* All but one number lie below 1, in the bins of width 100/2048 up to bin 20, whose middle is 20.5 * 100 / 2048. */
    assert_true(fabsf(scale - (float)(20.5 * 100.0 / 2048.0 / 255.0)) < 1e-7f);
    free(x);
}

/* ---- refusals ---- */

static void test_observer_unknown_name_suggests(void **state)
{
    (void)state;
    const struct mqb_host *host = mqb_host_table();
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, 8, true, true, 1);
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_observer *observer = NULL;
    assert_int_equal(host->observer_create("minmx", &scheme, &observer, &error), MQB_ERR_NOT_FOUND);
    assert_null(observer);
    assert_non_null(strstr(error.text, "minmx"));
    assert_non_null(strstr(error.text, "minmax"));
}

static void test_observer_non_finite_names_element(void **state)
{
    (void)state;
    const struct mqb_host *host = mqb_host_table();
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, 8, true, true, 2);
    float x[8] = {0, 1, 2, 3, 4, 5, NAN, 7};
    for (int infinite = 0; infinite < 2; infinite++) {
        for (const char *const *name = mqb_observer_names(); *name; name++) {
            struct mqb_error error = MQB_ERROR_INIT;
            struct mqb_observer *observer;
            struct mqb_tensor_view view = view_of(x, 2, 8);
            x[6] = infinite ? -INFINITY : NAN;
            assert_int_equal(host->observer_create(*name, &scheme, &observer, &error), MQB_OK);
            assert_int_equal(host->observer_observe(observer, &view, &error), MQB_ERR_NUMERIC);
            assert_non_null(strstr(error.text, "element 6 of 8"));
            assert_non_null(strstr(error.text, infinite ? "infinite" : "NaN"));
            host->observer_destroy(observer);
        }
    }
}

static void test_observer_without_data_refuses(void **state)
{
    (void)state;
    const struct mqb_host *host = mqb_host_table();
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, 8, true, true, 2);
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_observer *observer;
    float x[3] = {1, 2, 3}, scale[2];
    int32_t zero[2];
    struct mqb_tensor_view odd = {.struct_size = sizeof(odd), .rank = 1, .dims = {3}, .num_elements = 3, .data = x};
    assert_int_equal(host->observer_create("mse", &scheme, &observer, &error), MQB_OK);
    assert_int_equal(host->observer_qparams(observer, scale, zero, &error), MQB_ERR_ARGUMENT);
    assert_int_equal(host->observer_observe(observer, &odd, &error), MQB_ERR_ARGUMENT);
    odd.data = NULL;
    assert_int_equal(host->observer_observe(observer, &odd, &error), MQB_ERR_ARGUMENT);
    host->observer_destroy(observer);
    host->observer_destroy(NULL);
    scheme.qmax = scheme.qmin;
    assert_int_equal(host->observer_create("mse", &scheme, &observer, &error), MQB_ERR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pot_round_powers_and_thresholds_exact),
        cmocka_unit_test(test_minmax_affine_closed_form),
        cmocka_unit_test(test_minmax_range_away_from_zero_is_widened),
        cmocka_unit_test(test_minmax_pot_recomputes_zero_point),
        cmocka_unit_test(test_observers_degenerate_tensors_stay_finite),
        cmocka_unit_test(test_observer_per_channel_sees_each_channel),
        cmocka_unit_test(test_mse_histogram_is_as_good_as_exact),
        cmocka_unit_test(test_histogram_growing_range_equals_one_batch),
        cmocka_unit_test(test_percentile_histogram_is_near_sorted),
        cmocka_unit_test(test_ema_quantile_cuts_outlier),
        cmocka_unit_test(test_observer_unknown_name_suggests),
        cmocka_unit_test(test_observer_non_finite_names_element),
        cmocka_unit_test(test_observer_without_data_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
