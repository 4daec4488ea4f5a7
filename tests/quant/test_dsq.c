/*
 * test_dsq.c - the DSQ plugin: closed forms, edges, refusals. Its replay of reference vectors: tests/golden.
 */
#include "quant/golden_quantizer.h"

static const struct mqb_quantizer *dsq;
static void *library;

static int setup(void **state)
{
    (void)state;
    dsq = quantizer_open(&library, "dsq.so", "dsq");
    return dsq ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dlclose(library);
}

/* ---- closed forms and edges ---- */

enum { N = 4096 };

static struct mqb_scheme scheme_of(int role, int per_channel, int bits)
{
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .role = role, .bits = bits, .num_channels = 1};
    scheme.per_channel = (uint8_t)per_channel;
    scheme.num_channels = per_channel ? 4 : 1;
    scheme.qmax = (1 << bits) - 1;
    return scheme;
}

static struct mqb_tensor_view view_of(const float *x)
{
    struct mqb_tensor_view view = {.struct_size = sizeof(view), .rank = 2, .dims = {4, N / 4}, .num_elements = N, .data = x};
    return view;
}

/* Against tanh of the C library in double, over a whole range of values and for steep and flat steps. */
static void test_dsq_soft_gradient_is_that_of_the_definition(void **state)
{
    (void)state;
    static float x[N], dy[N], dx[N], y[N];
    const double alphas[] = {0.001, 0.05, 0.4, 0.9, 0.999};
    const float scale = 0.125f, zero = 3.0f;
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 0, 4);
    for (int i = 0; i < N; i++) {
        x[i] = 2.6f * (float)i / (float)N - 0.8f; /* codes -3.4 to 17.4 */
        dy[i] = (float)mqb_normal(5, 1, (uint64_t)i);
    }
    for (size_t a = 0; a < sizeof(alphas) / sizeof(alphas[0]); a++) {
        char settings[64];
        snprintf(settings, sizeof(settings), "alpha=%g", alphas[a]);
        double S = 1.0 / (1.0 - alphas[a]), k = log((S + 1.0) / (S - 1.0));
        void *self = quantizer_create(dsq, &scheme, settings);
        quantizer_put(dsq, self, 1, &scale, &zero);
        quantizer_run(dsq, self, &scheme, N, x, dy, dx);
        quantizer_run(dsq, self, &scheme, N, x, NULL, y);
        for (int i = 0; i < N; i++) {
            float raw = x[i] / scale + zero;
            double v = fmin(fmax((double)raw, 0.0), 15.0), f = floor(v), t = tanh(k * (v - f - 0.5));
            double want = raw < 0.0f || raw > 15.0f ? 0.0 : (double)dy[i] * 0.5 * S * k * (1.0 - t * t);
            if (!(fabs((double)dx[i] - want) <= 2e-6 * fabs(want) + 1e-6))
                fail_msg("alpha %g: dx[%d] = %.9g, expected %.9g", alphas[a], i, (double)dx[i], want);
            double soft = f + 0.5 * (S * t + 1.0);
            if (fabs(soft - f - 0.5) > 1e-4)
                assert_true(y[i] == (float)(rint(soft) - (double)zero) * scale);
        }
        dsq->destroy(self);
    }
}

static void test_dsq_codes_and_outputs_agree_exactly(void **state)
{
    (void)state;
    static float x[N], y[N];
    static int32_t codes[N];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int i = 0; i < N; i++)
        x[i] = (float)mqb_normal(5, 2, (uint64_t)i);
    for (int variant = 0; variant < 4; variant++) {
        struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, variant & 1, 4);
        struct mqb_tensor_view view = view_of(x);
        void *self = quantizer_create(dsq, &scheme, variant & 2 ? "soft=no" : "");
        quantizer_observe(dsq, self, &view);
        quantizer_init(dsq, self);
        struct mqb_qparams q = quantizer_qparams(dsq, self);
        quantizer_run(dsq, self, &scheme, N, x, NULL, y);
        assert_int_equal(dsq->freeze(self, &view, codes, &error), MQB_OK);
        for (int i = 0; i < N; i++) {
            int c = scheme.per_channel ? i / (N / 4) : 0;
            assert_true(y[i] == (float)(codes[i] - q.zero_point[c]) * q.scale[c]);
        }
        dsq->destroy(self);
    }
}

static void test_dsq_weight_range_follows_training_steps_only(void **state)
{
    (void)state;
    static float x[N];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int i = 0; i < N; i++)
        x[i] = i & 1 ? 1.0f : -1.0f; /* mean 0, variance N / (N - 1) */
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, 0, 4);
    struct mqb_tensor_view view = view_of(x);
    void *self = quantizer_create(dsq, &scheme, "");
    quantizer_observe(dsq, self, &view);
    quantizer_init(dsq, self);
    double want = 5.2 * sqrt((double)N / (N - 1)) / 15.0;
    assert_true(fabs((double)quantizer_qparams(dsq, self).scale[0] - want) <= 1e-6);
    for (int i = 0; i < N; i++)
        x[i] *= 2.0f;
    assert_int_equal(dsq->prepare(self, &view, 0, &error), MQB_OK);
    assert_true(fabs((double)quantizer_qparams(dsq, self).scale[0] - want) <= 1e-6);
    assert_int_equal(dsq->prepare(self, &view, 1, &error), MQB_OK);
    assert_true(fabs((double)quantizer_qparams(dsq, self).scale[0] - 2.0 * want) <= 2e-6);
    x[7] = NAN;
    assert_int_equal(dsq->prepare(self, &view, 1, &error), MQB_ERR_NUMERIC);
    dsq->destroy(self);
}

static void test_dsq_activation_range_is_the_moving_average(void **state)
{
    (void)state;
    /* Two batches of two images: means of minima -2 and -1, of maxima 3 and 5. */
    const float first[] = {-1.0f, 2.0f, -3.0f, 4.0f}, second[] = {0.0f, 5.0f, -2.0f, 5.0f};
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 0, 4);
    struct mqb_tensor_view view = {.struct_size = sizeof(view), .rank = 2, .dims = {2, 2}, .num_elements = 4, .data = first};
    struct mqb_error error = MQB_ERROR_INIT;
    void *self = quantizer_create(dsq, &scheme, "");
    assert_int_equal(dsq->init(self, &error), MQB_ERR_ARGUMENT);
    quantizer_observe(dsq, self, &view);
    view.data = second;
    quantizer_observe(dsq, self, &view);
    quantizer_init(dsq, self);
    struct mqb_qparams q = quantizer_qparams(dsq, self);
    assert_true(fabs((double)q.scale[0] - (3.2 + 1.9) / 15.0) <= 1e-7);
    assert_int_equal(q.zero_point[0], 6); /* 1.9 / 0.34 = 5.6 */
    const float bad[] = {0.0f, INFINITY, 0.0f, 0.0f};
    view.data = bad;
    assert_int_equal(dsq->observe(self, &view, &error), MQB_ERR_NUMERIC);
    view.num_elements = 0;
    assert_int_equal(dsq->observe(self, &view, &error), MQB_ERR_ARGUMENT);
    dsq->destroy(self);
}

static void test_dsq_nan_stays_and_infinities_clip(void **state)
{
    (void)state;
    const float x[] = {NAN, INFINITY, -FLT_MAX, 0.3f}, dy[] = {1.0f, 1.0f, 1.0f, 1.0f}, scale = 0.1f, zero = 3.0f;
    float y[4], dx[4];
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 0, 4);
    for (int soft = 0; soft < 2; soft++) {
        void *self = quantizer_create(dsq, &scheme, soft ? "soft=yes" : "soft=no");
        quantizer_put(dsq, self, 1, &scale, &zero);
        quantizer_run(dsq, self, &scheme, 4, x, NULL, y);
        quantizer_run(dsq, self, &scheme, 4, x, dy, dx);
        assert_true(isnan(y[0]) && y[1] == 12.0f * scale && y[2] == -3.0f * scale);
        assert_true(dx[1] == 0.0f && dx[2] == 0.0f && dx[3] > 0.0f);
        dsq->destroy(self);
    }
}

static void test_dsq_state_round_trip_and_damage(void **state)
{
    (void)state;
    static float x[N], y[N], z[N];
    unsigned char buffer[64];
    size_t size = 0, small = 3;
    struct mqb_error error = MQB_ERROR_INIT;
    for (int i = 0; i < N; i++)
        x[i] = (float)mqb_normal(5, 3, (uint64_t)i);
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, 1, 4);
    struct mqb_tensor_view view = view_of(x);
    void *first = quantizer_create(dsq, &scheme, ""), *second = quantizer_create(dsq, &scheme, "");
    quantizer_observe(dsq, first, &view);
    quantizer_init(dsq, first);
    assert_int_equal(dsq->save(first, NULL, &size, &error), MQB_OK);
    assert_int_equal(dsq->save(first, buffer, &small, &error), MQB_ERR_ARGUMENT);
    assert_int_equal(dsq->save(first, buffer, &size, &error), MQB_OK);
    assert_int_equal(dsq->load(second, buffer, size, &error), MQB_OK);
    quantizer_run(dsq, first, &scheme, N, x, NULL, y);
    quantizer_run(dsq, second, &scheme, N, x, NULL, z);
    assert_memory_equal(y, z, sizeof(y));
    assert_int_equal(dsq->load(second, buffer, size - 1, &error), MQB_ERR_FORMAT);
    static const size_t damaged[] = {0, 4, 8, 19, 33}; /* magic, channels, qmin, sign of a scale, a zero point */
    for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
        buffer[damaged[i]] ^= 0x80;
        assert_int_equal(dsq->load(second, buffer, size, &error), MQB_ERR_FORMAT);
        buffer[damaged[i]] ^= 0x80;
    }
    dsq->destroy(first);
    dsq->destroy(second);
    dsq->destroy(NULL);
}

static void test_dsq_impossible_schemes_are_refused(void **state)
{
    (void)state;
    struct mqb_options *options;
    struct mqb_error error = MQB_ERROR_INIT;
    void *self;
    assert_int_equal(mqb_options_create(dsq->options, dsq->num_options, &options, &error), MQB_OK);
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_BIAS, 0, 8);
    assert_int_equal(dsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    scheme = scheme_of(MQB_ROLE_WEIGHT, 0, 9);
    assert_int_equal(dsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    scheme = scheme_of(MQB_ROLE_ACTIVATION, 1, 8);
    assert_int_equal(dsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    scheme = scheme_of(MQB_ROLE_WEIGHT, 0, 8);
    scheme.num_channels = 3;
    assert_int_equal(dsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_ARGUMENT);
    assert_null(self);
    mqb_options_destroy(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dsq_soft_gradient_is_that_of_the_definition),
        cmocka_unit_test(test_dsq_codes_and_outputs_agree_exactly),
        cmocka_unit_test(test_dsq_weight_range_follows_training_steps_only),
        cmocka_unit_test(test_dsq_activation_range_is_the_moving_average),
        cmocka_unit_test(test_dsq_nan_stays_and_infinities_clip),
        cmocka_unit_test(test_dsq_state_round_trip_and_damage),
        cmocka_unit_test(test_dsq_impossible_schemes_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
