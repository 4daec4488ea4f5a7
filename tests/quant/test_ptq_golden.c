/*
 * test_ptq_golden.c - post-training quantization against the reference vectors (family 4, fixed quantizers) and closed forms.
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

/* ---- reference vectors ---- */

struct counts {
    int compared, pot_zero, other;
};

/* Both ends of each channel as a tensor: stands for the batches that the recorded observer has seen. */
static void observe_ends(const struct mqb_quantizer *quantizer, void *self, const json_t *observer, int32_t channels)
{
    struct golden_tensor min, max;
    assert_true(golden_tensor_get(json_object_get(observer, "min_val"), &min));
    assert_true(golden_tensor_get(json_object_get(observer, "max_val"), &max));
    assert_true(min.size == channels && max.size == channels);
    float *ends = malloc(2 * (size_t)channels * sizeof(float));
    for (int32_t c = 0; c < channels; c++) {
        ends[2 * c] = min.data[c];
        ends[2 * c + 1] = max.data[c];
    }
    struct mqb_tensor_view view = {
        .struct_size = sizeof(view), .rank = 2, .dims = {channels, 2}, .num_elements = 2 * channels, .data = ends};
    quantizer_observe(quantizer, self, &view);
    free(ends);
    golden_free(&min);
    golden_free(&max);
}

static void replay_case(const json_t *item, struct counts *counts)
{
    const json_t *before = json_object_get(item, "state_before"), *expected = json_object_get(item, "expected");
    const json_t *after = json_object_get(expected, "state_after");
    const char *name = golden_text(item, "name"), *algo = golden_text(item, "algo");
    bool train = strcmp(golden_text(item, "phase"), "train") == 0, weight = strcmp(golden_text(item, "role"), "weight") == 0;
    bool second = json_is_object(json_object_get(json_object_get(before, "observer"), "min_val"));
    bool uses_mse = strcmp(algo, "toolkit_fixed_mse") == 0;
    /* Which observer finds the scale is ours to say where it is the same: elsewhere only the step with a given scale counts. */
    bool same_observer = strcmp(algo, "toolkit_fixed_minmax") == 0 || (uses_mse && weight && !second);
    if (!train && !same_observer) {
        counts->other++;
        return;
    }
    const struct mqb_quantizer *quantizer = uses_mse ? mse : minmax;
    struct mqb_scheme scheme = golden_scheme(item);
    struct golden_tensor x, y, scale, zero;
    struct mqb_error error = MQB_ERROR_INIT;
    assert_true(golden_tensor_get(json_object_get(item, "input"), &x));
    assert_true(golden_tensor_get(json_object_get(expected, "output"), &y));
    assert_true(golden_tensor_get(json_object_get(after, "scale"), &scale));
    assert_true(golden_tensor_get(json_object_get(after, "zero_point"), &zero));
    struct mqb_tensor_view view = golden_view(&x);
    void *self = quantizer_create(quantizer, &scheme, "");
    bool zeros_agree = true;
    if (train) {
        quantizer_put(quantizer, self, scheme.num_channels, scale.data, zero.data);
    } else {
        if (second)
            observe_ends(quantizer, self, json_object_get(before, "observer"), scheme.num_channels);
        quantizer_observe(quantizer, self, &view);
        quantizer_init(quantizer, self);
    }
    struct mqb_qparams q = quantizer_qparams(quantizer, self);
    assert_int_equal(q.num_channels, scale.size);
    for (int32_t c = 0; c < q.num_channels; c++) {
        if (q.scale[c] != scale.data[c])
            fail_msg("%s: scale[%d] = %.9g, expected %.9g", name, (int)c, (double)q.scale[c], (double)scale.data[c]);
        zeros_agree &= (float)q.zero_point[c] == zero.data[c];
    }
    /* The reference takes the zero point of a power-of-two scale from the scale before it is rounded. */
    if (!zeros_agree && scheme.pot_scale && !scheme.symmetric) {
        counts->pot_zero++;
    } else {
        if (!zeros_agree)
            fail_msg("%s: other zero points", name);
        float *out = malloc((size_t)x.size * sizeof(float));
        int32_t *codes = malloc((size_t)x.size * sizeof(int32_t));
        quantizer_run(quantizer, self, &scheme, x.size, x.data, NULL, out);
        golden_compare(item, "output", &y, out, 0.0f, 0.0f);
        assert_int_equal(quantizer->freeze(self, &view, codes, &error), MQB_OK);
        for (int64_t i = 0; i < x.size; i++) {
            int64_t c = i / (x.size / q.num_channels);
            assert_true(out[i] == (float)(codes[i] - q.zero_point[c]) * q.scale[c]);
        }
        if (train) {
            struct golden_tensor dy, dx;
            assert_true(golden_tensor_get(json_object_get(item, "grad_output"), &dy));
            assert_true(golden_tensor_get(json_object_get(expected, "grad_input"), &dx));
            quantizer_run(quantizer, self, &scheme, x.size, x.data, dy.data, out);
            golden_compare(item, "grad_input", &dx, out, 0.0f, 0.0f);
            golden_free(&dy);
            golden_free(&dx);
        }
        free(codes);
        free(out);
        counts->compared++;
    }
    quantizer->destroy(self);
    golden_free(&x);
    golden_free(&y);
    golden_free(&scale);
    golden_free(&zero);
}

static void test_ptq_fixed_vectors_match(void **state)
{
    (void)state;
    json_t *root = golden_open("fam4_fixed.json");
    const json_t *cases = json_object_get(root, "cases");
    struct counts counts = {0};
    for (size_t i = 0; i < json_array_size(cases); i++)
        replay_case(json_array_get(cases, i), &counts);
    printf("fam4_fixed.json: %d cases bit for bit, %d with the zero point of a rounded scale, %d of other observers\n",
           counts.compared, counts.pot_zero, counts.other);
    assert_true(counts.compared >= 130);
    assert_true(counts.pot_zero <= 8);
    json_decref(root);
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
        cmocka_unit_test(test_ptq_fixed_vectors_match),
        cmocka_unit_test(test_ptq_percentile_cuts_the_range),
        cmocka_unit_test(test_ptq_mse_errs_less_than_minmax_with_an_outlier),
        cmocka_unit_test(test_ptq_adaptive_sign_switches_if_never_negative),
        cmocka_unit_test(test_ptq_nan_stays_and_infinities_clip),
        cmocka_unit_test(test_ptq_state_round_trip_and_damage),
        cmocka_unit_test(test_ptq_impossible_schemes_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
