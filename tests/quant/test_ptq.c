/*
 * test_ptq.c - post-training quantization: closed forms, edges, refusals. Its replay of reference vectors: tests/golden.
 */
#include "quant/golden_quantizer.h"

static const struct mqb_quantizer *minmax, *percentile, *mse;
static void *libraries[3];

static int setup(void **state)
{
    (void)state;
    minmax = quantizer_open(&libraries[0], "ptq.so", "ptq_minmax");
    percentile = quantizer_open(&libraries[1], "ptq.so", "ptq_percentile");
    mse = quantizer_open(&libraries[2], "ptq.so", "ptq_mse");
    return minmax && percentile && mse ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dlclose(libraries[0]) | dlclose(libraries[1]) | dlclose(libraries[2]);
}

/* ---- closed forms and edges ---- */

enum { N = 20000 };

static struct mqb_scheme scheme_of(int symmetric, int bits)
{
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .role = MQB_ROLE_ACTIVATION, .bits = bits, .num_channels = 1};
    scheme.symmetric = (uint8_t)symmetric;
    scheme.qmin = symmetric ? -(1 << (bits - 1)) : 0;
    scheme.qmax = scheme.qmin + (1 << bits) - 1;
    return scheme;
}

static struct mqb_tensor_view view_of(const float *x, int64_t n)
{
    return (struct mqb_tensor_view){
        .struct_size = sizeof(struct mqb_tensor_view), .rank = 2, .dims = {1, n}, .num_elements = n, .data = x};
}

static void test_ptq_percentile_cuts_the_range(void **state)
{
    (void)state;
    static float x[N];
    const char *const settings[] = {"percentile=99.9", "", "percentile=99.99"};
    const double reach[] = {99.9, 99.99, 99.99};
    for (int i = 0; i < N; i++)
        x[i] = 2.0f * (float)i / (float)(N - 1) - 1.0f; /* uniform over [-1, 1] */
    struct mqb_scheme scheme = scheme_of(0, 8);
    struct mqb_tensor_view view = view_of(x, N);
    for (int i = 0; i < 3; i++) {
        void *self = quantizer_create(percentile, &scheme, settings[i]);
        quantizer_observe(percentile, self, &view);
        quantizer_init(percentile, self);
        double want = 2.0 * (2.0 * reach[i] / 100.0 - 1.0) / 255.0;
        assert_true(fabs((double)quantizer_qparams(percentile, self).scale[0] - want) <= 2e-4 / 255.0);
        percentile->destroy(self);
    }
}

static void test_ptq_mse_errs_less_than_minmax_with_an_outlier(void **state)
{
    (void)state;
    static float x[N], y[N];
    const struct mqb_quantizer *const kinds[] = {minmax, mse};
    double errors[2] = {0};
    for (int i = 0; i < N; i++)
        x[i] = (float)mqb_normal(3, 1, (uint64_t)i);
    x[0] = 12.0f;
    struct mqb_scheme scheme = scheme_of(1, 4);
    struct mqb_tensor_view view = view_of(x, N);
    for (int k = 0; k < 2; k++) {
        void *self = quantizer_create(kinds[k], &scheme, "");
        quantizer_observe(kinds[k], self, &view);
        quantizer_init(kinds[k], self);
        quantizer_run(kinds[k], self, &scheme, N, x, NULL, y);
        for (int i = 0; i < N; i++)
            errors[k] += (double)(y[i] - x[i]) * (double)(y[i] - x[i]);
        kinds[k]->destroy(self);
    }
    assert_true(errors[1] < 0.3 * errors[0]);
}

static void test_ptq_adaptive_sign_switches_if_never_negative(void **state)
{
    (void)state;
    for (int negative = 0; negative < 2; negative++) {
        float x[] = {0.0f, 0.5f, 1.5f, negative ? -0.25f : 3.0f, 3.0f};
        struct mqb_scheme scheme = scheme_of(1, 4);
        scheme.adaptive_sign = 1;
        struct mqb_tensor_view view = view_of(x, 5);
        void *self = quantizer_create(minmax, &scheme, "");
        quantizer_observe(minmax, self, &view);
        quantizer_init(minmax, self);
        struct mqb_qparams q = quantizer_qparams(minmax, self);
        assert_int_equal(q.qmin, negative ? -8 : 0);
        assert_int_equal(q.qmax, negative ? 7 : 15);
        assert_true(q.scale[0] == 3.0f / (negative ? 7.5f : 15.0f));
        minmax->destroy(self);
    }
}

static void test_ptq_nan_stays_and_infinities_clip(void **state)
{
    (void)state;
    float x[] = {-1.0f, 2.0f, 0.5f}, y[3];
    int32_t codes[3];
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme scheme = scheme_of(0, 8);
    struct mqb_tensor_view view = view_of(x, 3);
    void *self = quantizer_create(minmax, &scheme, "");
    quantizer_observe(minmax, self, &view);
    quantizer_init(minmax, self);
    x[0] = NAN, x[1] = INFINITY, x[2] = -FLT_MAX;
    quantizer_run(minmax, self, &scheme, 3, x, NULL, y);
    struct mqb_qparams q = quantizer_qparams(minmax, self);
    assert_true(isnan(y[0]) && y[1] == (float)(255 - q.zero_point[0]) * q.scale[0] &&
                y[2] == (float)-q.zero_point[0] * q.scale[0]);
    assert_int_equal(minmax->freeze(self, &view, codes, &error), MQB_ERR_NUMERIC);
    assert_int_equal(minmax->observe(self, &view, &error), MQB_ERR_NUMERIC);
    minmax->destroy(self);
}

static void test_ptq_state_round_trip_and_damage(void **state)
{
    (void)state;
    float x[] = {-1.0f, 2.0f, 0.5f, 0.3f}, y[4], z[4];
    unsigned char buffer[64];
    size_t size = 0, small = 3;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme scheme = scheme_of(0, 3);
    struct mqb_tensor_view view = view_of(x, 4);
    void *first = quantizer_create(mse, &scheme, ""), *second = quantizer_create(mse, &scheme, "");
    quantizer_observe(mse, first, &view);
    quantizer_init(mse, first);
    assert_int_equal(mse->save(first, NULL, &size, &error), MQB_OK);
    assert_int_equal(mse->save(first, buffer, &small, &error), MQB_ERR_ARGUMENT);
    assert_int_equal(mse->save(first, buffer, &size, &error), MQB_OK);
    assert_int_equal(mse->load(second, buffer, size, &error), MQB_OK);
    quantizer_run(mse, first, &scheme, 4, x, NULL, y);
    quantizer_run(mse, second, &scheme, 4, x, NULL, z);
    assert_memory_equal(y, z, sizeof(y));
    assert_int_equal(mse->load(second, buffer, size - 1, &error), MQB_ERR_FORMAT);
    static const size_t damaged[] = {0, 4, 8, 19, 21}; /* magic, channels, qmin, sign of the scale, zero point */
    for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
        buffer[damaged[i]] ^= 0x80;
        assert_int_equal(mse->load(second, buffer, size, &error), MQB_ERR_FORMAT);
        buffer[damaged[i]] ^= 0x80;
    }
    mse->destroy(first);
    mse->destroy(second);
    mse->destroy(NULL);
}

static void test_ptq_impossible_schemes_are_refused(void **state)
{
    (void)state;
    struct mqb_options *options;
    struct mqb_error error = MQB_ERROR_INIT;
    void *self;
    assert_int_equal(mqb_options_create(mse->options, mse->num_options, &options, &error), MQB_OK);
    struct mqb_scheme scheme = scheme_of(0, 8);
    scheme.role = MQB_ROLE_BIAS;
    assert_int_equal(mse->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    scheme = scheme_of(0, 8);
    scheme.bits = 9;
    assert_int_equal(mse->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    scheme = scheme_of(0, 8);
    scheme.num_channels = 3;
    assert_int_equal(mse->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_ARGUMENT);
    assert_null(self);
    mqb_options_destroy(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ptq_percentile_cuts_the_range),
        cmocka_unit_test(test_ptq_mse_errs_less_than_minmax_with_an_outlier),
        cmocka_unit_test(test_ptq_adaptive_sign_switches_if_never_negative),
        cmocka_unit_test(test_ptq_nan_stays_and_infinities_clip),
        cmocka_unit_test(test_ptq_state_round_trip_and_damage),
        cmocka_unit_test(test_ptq_impossible_schemes_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
