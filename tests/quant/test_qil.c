/*
 * test_qil.c - the QIL plugin: closed forms, gradients against finite differences, edges. The reference vectors are the
 * conformance runner's (tests/golden).
 */
#include "quant/whole_tensor_test.h"

static const struct mqb_quantizer *qil;
static void *library;

static int setup(void **state)
{
    (void)state;
    qil = quantizer_open(&library, "qil.so", "qil");
    return qil ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dlclose(library);
}

static void set_interval(void *self, float center, float distance)
{
    *whole_param(qil, self, "center").value = center;
    *whole_param(qil, self, "distance").value = distance;
}

static void test_qil_interval_prunes_and_clips(void **state)
{
    (void)state;
    /* center 3, distance 1: below 2 nothing, above 4 everything, 7 steps between. */
    const float x[8] = {8.0f, -8.0f, 4.0f, 3.0f, -3.0f, 2.0f, 1.0f, 0.0f};
    const double want[8] = {1.0, -1.0, 1.0, 4.0 / 7.0, -4.0 / 7.0, 0.0, 0.0, 0.0}; /* 3.5 rounds to 4 */
    for (int rescale = 0; rescale < 2; rescale++) {
        float y[8];
        int32_t codes[8];
        struct mqb_scheme scheme = whole_scheme(MQB_ROLE_WEIGHT, 4);
        struct mqb_error error = MQB_ERROR_INIT;
        struct mqb_tensor_view view = whole_view(x, 8);
        void *self = whole_calibrated(qil, &scheme, rescale ? "" : "rescale=off", x, 8);
        set_interval(self, 3.0f, 1.0f);
        whole_prepare(qil, self, &scheme, x, 8);
        grid_run(qil, self, &scheme, 8, x, NULL, y);
        struct mqb_qparams q = quantizer_qparams(qil, self);
        assert_int_equal(qil->freeze(self, &view, codes, &error), MQB_OK);
        for (int i = 0; i < 8; i++) {
            assert_true(fabs((double)y[i] - want[i] * (rescale ? 4.0 : 1.0)) <= 1e-6);
            assert_int_equal(codes[i], (int)lrint(want[i] * 7.0));
            assert_true(fabsf((float)codes[i] * q.scale[0] - y[i]) <= (rescale ? 0.0f : 1e-7f));
        }
        qil->destroy(self);
    }
}

static void test_qil_calibrated_keeps_magnitudes(void **state)
{
    (void)state;
    enum { N = 300 };
    float x[N], y[N];
    for (int bits = 2; bits < 8; bits++) {
        for (int nonnegative = 0; nonnegative < 2; nonnegative++) {
            float largest = 0.0f;
            for (int i = 0; i < N; i++) {
                x[i] = (float)mqb_normal(9, 2, (uint64_t)i);
                x[i] = nonnegative ? fabsf(x[i]) : x[i];
                largest = fmaxf(largest, fabsf(x[i]));
            }
            struct mqb_scheme scheme = whole_scheme(MQB_ROLE_ACTIVATION, bits);
            void *self = whole_calibrated(qil, &scheme, "init=max", x, N);
            whole_prepare(qil, self, &scheme, x, N);
            grid_run(qil, self, &scheme, N, x, NULL, y);
            double step = (double)largest / ((1 << (nonnegative ? bits : bits - 1)) - 1);
            for (int i = 0; i < N; i++)
                assert_true(fabs((double)y[i] - (double)x[i]) <= step * 0.500001);
            struct mqb_qparams q = quantizer_qparams(qil, self);
            assert_int_equal(q.qmin, nonnegative ? 0 : -(1 << (bits - 1)));
            assert_int_equal(q.qmax, nonnegative ? (1 << bits) - 1 : (1 << (bits - 1)) - 1);
            assert_true(fabs((double)q.scale[0] - step) <= 1e-6 * step);
            qil->destroy(self);
        }
    }
}

/* Normal data, levels -h, 0, h with thresholds at h / 2: the least squared error is at h = 1.224 (Max, 1960, table 1: three levels
 * at +-1.224). Candidates are twentieths of the largest magnitude. */
static void test_qil_first_interval_has_the_least_squared_error(void **state)
{
    (void)state;
    enum { N = 20000 };
    float *x = malloc(N * sizeof(float)), largest = 0.0f;
    for (int i = 0; i < N; i++) {
        x[i] = (float)mqb_normal(9, 4, (uint64_t)i);
        largest = fmaxf(largest, fabsf(x[i]));
    }
    struct mqb_scheme scheme = whole_scheme(MQB_ROLE_WEIGHT, 2);
    void *self = whole_calibrated(qil, &scheme, "", x, N);
    float h = 2.0f * *whole_param(qil, self, "center").value;
    assert_true(*whole_param(qil, self, "distance").value == 0.5f * h);
    assert_true(fabsf(h - 1.224f) <= 0.5f * largest / 20.0f + 0.02f);
    qil->destroy(self);
    self = whole_calibrated(qil, &scheme, "init=max", x, N);
    assert_true(2.0f * *whole_param(qil, self, "center").value == largest);
    qil->destroy(self);
    free(x);
}

static void test_qil_unsigned_clips_by_default_and_not_under_compat(void **state)
{
    (void)state;
    const float x[4] = {0.0f, 1.0f, 2.0f, 4.0f}, dy[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    float y[4], dx[4];
    for (int paper = 0; paper < 2; paper++) {
        struct mqb_scheme scheme = whole_scheme(MQB_ROLE_ACTIVATION, 4);
        void *self = whole_calibrated(qil, &scheme, paper ? "compat=paper" : "rescale=off", x, 4);
        set_interval(self, 1.0f, 1.0f);
        whole_prepare(qil, self, &scheme, x, 4);
        grid_run(qil, self, &scheme, 4, x, NULL, y);
        grid_run(qil, self, &scheme, 4, x, dy, dx);
        assert_true(y[0] == 0.0f && fabsf(y[1] - 8.0f / 15.0f) <= 1e-7f && y[2] == 1.0f && y[3] == (paper ? 2.0f : 1.0f));
        assert_true(dx[1] == 0.5f && dx[3] == (paper ? 0.5f : 0.0f));
        assert_true(whole_param(qil, self, "center").weight_decay_multiplier == (paper ? 1.0f : 0.0f));
        qil->destroy(self);
    }
}

static void test_qil_sign_adapts_only_where_the_scheme_allows(void **state)
{
    (void)state;
    const float x[2] = {0.0f, 1.0f};
    struct mqb_scheme scheme = whole_scheme(MQB_ROLE_ACTIVATION, 4);
    scheme.adaptive_sign = 0;
    void *self = whole_calibrated(qil, &scheme, "", x, 2);
    assert_int_equal(quantizer_qparams(qil, self).qmax, 7);
    qil->destroy(self);
    scheme.qmin = 0;
    scheme.qmax = 15;
    self = whole_calibrated(qil, &scheme, "", x, 2);
    assert_int_equal(quantizer_qparams(qil, self).qmax, 15);
    assert_true(quantizer_qparams(qil, self).scale[0] == 1.0f / 15.0f);
    qil->destroy(self);
}

static void test_qil_interval_stays_within_the_tensor(void **state)
{
    (void)state;
    const float x[3] = {-4.0f, 1.0f, 2.0f}, smaller[3] = {0.5f, -1.0f, 0.0f}, batch[2] = {1.0f, -0.5f};
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme weight = whole_scheme(MQB_ROLE_WEIGHT, 4), activation = whole_scheme(MQB_ROLE_ACTIVATION, 4);
    void *self = whole_calibrated(qil, &weight, "init=max", x, 3);
    assert_true(*whole_param(qil, self, "center").value == 2.0f && *whole_param(qil, self, "distance").value == 2.0f);
    set_interval(self, -1.5f, -0.7f); /* signs that an update changed */
    whole_prepare(qil, self, &weight, x, 3);
    assert_true(*whole_param(qil, self, "center").value == 1.5f && *whole_param(qil, self, "distance").value == 0.7f);
    whole_prepare(qil, self, &weight, smaller, 3);
    assert_true(*whole_param(qil, self, "center").value == 0.5f && *whole_param(qil, self, "distance").value == 0.5f);
    qil->destroy(self);
    for (int paper = 0; paper < 2; paper++) {
        struct mqb_tensor_view shown = whole_view(batch, 2);
        self = whole_calibrated(qil, &activation, paper ? "compat=paper" : "", x, 3);
        set_interval(self, 3.0f, 1.25f);
        assert_int_equal(qil->prepare(self, &shown, 1, &error), MQB_OK);
        assert_true(*whole_param(qil, self, "center").value == (paper ? 0.5f : 2.0f));
        assert_true(*whole_param(qil, self, "distance").value == (paper ? 0.5f : 1.25f));
        qil->destroy(self);
    }
}

/* The function with its rounding error frozen, in double. */
static double surrogate(double x, double center, double distance, double gamma, int is_signed, int rescale, double residue)
{
    double v = (is_signed ? fabs(x) : x) / (2.0 * distance) + 0.5 - 0.5 * center / distance;
    v = v > 1.0 ? 1.0 : v < 0.0 ? 0.0 : v;
    double t = (v > 0.0 ? pow(v, gamma) : 0.0) * (is_signed ? (x > 0.0) - (x < 0.0) : 1.0);
    return (rescale ? center + distance : 1.0) * (t + residue);
}

static void test_qil_gradients_are_finite_differences(void **state)
{
    (void)state;
    enum { N = 150 };
    static const char *const settings[] = {"", "rescale=off", "gamma=learn", "gamma=learn rescale=off"};
    float x[N], dy[N], dx[N];
    for (int kind = 0; kind < 6; kind++) { /* four settings of a weight, two of an unsigned activation */
        int weight = kind < 4, rescale = !(kind & 1), powered = weight && kind >= 2;
        double gamma = powered ? 1.7 : 1.0;
        for (int i = 0; i < N; i++) {
            x[i] = (float)mqb_normal(4, 1, (uint64_t)i);
            x[i] = weight ? x[i] : fabsf(x[i]);
            dy[i] = (float)mqb_normal(4, 2, (uint64_t)i);
        }
        struct mqb_scheme scheme = whole_scheme(weight ? MQB_ROLE_WEIGHT : MQB_ROLE_ACTIVATION, 3);
        void *self = whole_calibrated(qil, &scheme, settings[weight ? kind : kind & 1], x, N);
        set_interval(self, 0.83f, 0.61f);
        if (powered)
            *whole_param(qil, self, "gamma").value = (float)gamma;
        whole_prepare(qil, self, &scheme, x, N);
        grid_run(qil, self, &scheme, N, x, dy, dx);
        double p[3] = {(double)0.83f, (double)0.61f, (double)(float)gamma}, slope[3] = {0}, delta = weight ? 3.0 : 7.0;
        for (int i = 0; i < N; i++) {
            double at = (double)x[i], h = 1e-6, t = surrogate(at, p[0], p[1], p[2], weight, 0, 0.0),
                   residue = rint(t * delta) / delta - t;
            for (int k = 0; k < 3; k++) {
                double up[3] = {p[0], p[1], p[2]}, down[3] = {p[0], p[1], p[2]};
                up[k] += h;
                down[k] -= h;
                slope[k] += (double)dy[i] *
                            (surrogate(at, up[0], up[1], up[2], weight, rescale, residue) -
                             surrogate(at, down[0], down[1], down[2], weight, rescale, residue)) /
                            (2.0 * h);
            }
            double change = (surrogate(at + h, p[0], p[1], p[2], weight, rescale, residue) -
                             surrogate(at - h, p[0], p[1], p[2], weight, rescale, residue)) /
                            (2.0 * h);
            if (!(fabs((double)dx[i] - (double)dy[i] * change) <= 2e-5 * (1.0 + fabs((double)dy[i] * change))))
                fail_msg("kind %d: dx[%d] = %g, finite difference %g", kind, i, (double)dx[i], (double)dy[i] * change);
        }
        static const char *const names[] = {"center", "distance", "gamma"};
        for (int k = 0; k < (powered ? 3 : 2); k++) {
            double got = (double)*whole_param(qil, self, names[k]).grad, want = slope[k] / sqrt((double)N * 3.0);
            if (!(fabs(got - want) <= 2e-5 * (1.0 + fabs(want))))
                fail_msg("kind %d: gradient of %s = %.9g, finite difference %.9g", kind, names[k], got, want);
        }
        qil->destroy(self);
    }
}

static void test_qil_gamma_is_off_unless_asked_for(void **state)
{
    (void)state;
    const float x[3] = {-1.0f, 0.5f, 0.6f};
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_tensor_view view = whole_view(x, 3);
    struct mqb_param param = {.struct_size = sizeof(param)};
    struct mqb_scheme weight = whole_scheme(MQB_ROLE_WEIGHT, 4), activation = whole_scheme(MQB_ROLE_ACTIVATION, 4);
    void *self = whole_calibrated(qil, &weight, "", x, 3);
    assert_int_equal(qil->param(self, 2, &param), MQB_ERR_NOT_FOUND);
    qil->destroy(self);
    self = whole_calibrated(qil, &activation, "gamma=learn", x, 3);
    assert_int_equal(qil->param(self, 2, &param), MQB_ERR_NOT_FOUND);
    qil->destroy(self);
    self = whole_calibrated(qil, &weight, "gamma=learn", x, 3);
    assert_int_equal(qil->param(self, 2, &param), MQB_OK);
    assert_true(param.value[0] == 1.0f);
    param.value[0] = -3.0f; /* kept positive, as the power needs */
    whole_prepare(qil, self, &weight, x, 3);
    assert_true(param.value[0] == 0.0625f);
    param.value[0] = INFINITY;
    assert_int_equal(qil->prepare(self, &view, 1, &error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(error.text, "gamma"));
    qil->destroy(self);
}

static void test_qil_edges_are_finite(void **state)
{
    (void)state;
    whole_check_edges(qil, "");
    whole_check_edges(qil, "gamma=learn");
}

static void test_qil_impossible_schemes_are_refused(void **state)
{
    (void)state;
    whole_check_refusals(qil);
    assert_non_null(qil->undeployable[0]);
    assert_non_null(qil->undeployable[1]);
}

static void test_qil_ends_are_static_at_8_bits(void **state)
{
    (void)state;
    whole_check_ends(qil);
}

static void test_qil_state_round_trip_and_damage(void **state)
{
    (void)state;
    whole_check_state(qil, "", 16);
    whole_check_state(qil, "gamma=learn rescale=off", 16);
}

static void test_qil_not_finite_is_refused_or_stays(void **state)
{
    (void)state;
    whole_check_not_finite(qil);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qil_interval_prunes_and_clips),
        cmocka_unit_test(test_qil_calibrated_keeps_magnitudes),
        cmocka_unit_test(test_qil_first_interval_has_the_least_squared_error),
        cmocka_unit_test(test_qil_unsigned_clips_by_default_and_not_under_compat),
        cmocka_unit_test(test_qil_sign_adapts_only_where_the_scheme_allows),
        cmocka_unit_test(test_qil_interval_stays_within_the_tensor),
        cmocka_unit_test(test_qil_gradients_are_finite_differences),
        cmocka_unit_test(test_qil_gamma_is_off_unless_asked_for),
        cmocka_unit_test(test_qil_edges_are_finite),
        cmocka_unit_test(test_qil_impossible_schemes_are_refused),
        cmocka_unit_test(test_qil_ends_are_static_at_8_bits),
        cmocka_unit_test(test_qil_state_round_trip_and_damage),
        cmocka_unit_test(test_qil_not_finite_is_refused_or_stays),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
