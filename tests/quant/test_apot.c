/*
 * test_apot.c - the APoT plugin: levels and ties by exhaustive search, gradients against finite differences, edges. The
 * reference vectors are the conformance runner's (tests/golden).
 */
#include "quant/whole_tensor_test.h"

static const struct mqb_quantizer *apot;
static void *library;

static int setup(void **state)
{
    (void)state;
    apot = quantizer_open(&library, "apot.so", "apot");
    return apot ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dlclose(library);
}

/* The table of an activation with alpha = 1: the levels themselves. Kept by *self. */
static struct mqb_qparams level_table(void **self, int bits, int nonnegative, const char *settings)
{
    const float x[2] = {nonnegative ? 0.0f : -1.0f, 1.0f};
    struct mqb_scheme scheme = whole_scheme(MQB_ROLE_ACTIVATION, bits);
    *self = whole_calibrated(apot, &scheme, settings, x, 2);
    *whole_param(apot, *self, "alpha").value = 1.0f;
    whole_prepare(apot, *self, &scheme, x, 2);
    return quantizer_qparams(apot, *self);
}

static void test_apot_levels_are_sums_of_powers_of_two(void **state)
{
    (void)state;
    const double two[] = {0, 0.25, 0.5, 1}, three[] = {0, .1, .2, .3, .4, .6, .8, 1};
    const double four[] = {0,      1 / 48., 1 / 24., 1 / 16., 1 / 12., 1 / 8.,   1 / 6., 3 / 16.,
                           1 / 4., 1 / 3.,  3 / 8.,  1 / 2.,  2 / 3.,  11 / 16., 3 / 4., 1};
    const double *const published[] = {two, three, four};
    for (int bits = 2; bits < 8; bits++) {
        void *self;
        struct mqb_qparams q = level_table(&self, bits, 1, "");
        assert_int_equal(q.num_levels, 1 << bits);
        assert_true(q.qmin == 0 && q.qmax == (1 << bits) - 1 && q.scale[0] == 1.0f);
        assert_true(q.levels[0] == 0.0f && q.levels[q.qmax] == 1.0f);
        for (int i = 0; i < q.num_levels; i++) {
            if (bits <= 4)
                assert_true(fabs((double)q.levels[i] - published[bits - 2][i]) <= 6e-8);
            if (i > 0)
                assert_true(q.levels[i] > q.levels[i - 1]);
        }
        if (bits == 5)
            assert_true(fabs((double)q.levels[1] - 0.01) <= 1e-8 && fabs((double)q.levels[30] - 0.96) <= 6e-8);
        apot->destroy(self);
        /* One bit is the sign's. */
        q = level_table(&self, bits, 0, "");
        assert_int_equal(q.num_levels, (1 << bits) - 1);
        assert_true(q.qmin == 1 - (1 << (bits - 1)) && q.levels[0] == -1.0f && q.levels[q.qmax] == 0.0f);
        apot->destroy(self);
    }
    void *self;
    struct mqb_qparams q = level_table(&self, 2, 0, "");
    assert_true(q.num_levels == 3 && q.levels[0] == -1.0f && q.levels[1] == 0.0f && q.levels[2] == 1.0f);
    apot->destroy(self);
}

static void test_apot_nearest_level_and_ties_to_the_lower(void **state)
{
    (void)state;
    enum { N = 4001 };
    static float x[N], y[N];
    for (int bits = 2; bits < 8; bits++) {
        void *self;
        struct mqb_qparams q = level_table(&self, bits, 1, "");
        struct mqb_scheme scheme = whole_scheme(MQB_ROLE_ACTIVATION, bits);
        int n = 0;
        for (int i = 0; i + 1 < q.num_levels; i++) { /* the middle, and its neighbours */
            float middle = (float)(((double)q.levels[i] + (double)q.levels[i + 1]) / 2.0);
            x[n++] = middle;
            x[n++] = nextafterf(middle, 0.0f);
            x[n++] = nextafterf(middle, 1.0f);
        }
        for (; n < N; n++)
            x[n] = (float)n / (0.9f * N);
        grid_run(apot, self, &scheme, N, x, NULL, y);
        for (int i = 0; i < N; i++) {
            int best = 0;
            for (int k = 1; k < q.num_levels; k++) {
                if (fabs((double)x[i] - (double)q.levels[k]) < fabs((double)x[i] - (double)q.levels[best]))
                    best = k;
            }
            if (y[i] != q.levels[best])
                fail_msg("%d bits: %.9g goes to %.9g, expected %.9g", bits, (double)x[i], (double)y[i], (double)q.levels[best]);
        }
        apot->destroy(self);
    }
}

static void test_apot_ties_under_compat_are_the_published_codes(void **state)
{
    (void)state;
    const float x[4] = {0.125f, 0.375f, 0.75f, -5.0f};
    float y[4];
    for (int paper = 0; paper < 2; paper++) {
        void *self;
        struct mqb_scheme scheme = whole_scheme(MQB_ROLE_ACTIVATION, 2);
        level_table(&self, 2, 1, paper ? "compat=paper" : "");
        grid_run(apot, self, &scheme, 4, x, NULL, y);
        assert_true(y[0] == 0.0f && y[1] == (paper ? 0.5f : 0.25f) && y[2] == (paper ? 1.0f : 0.5f) && y[3] == 0.0f);
        apot->destroy(self);
    }
}

static void test_apot_codes_index_the_table(void **state)
{
    (void)state;
    enum { N = 90 };
    float x[N], y[N];
    int32_t codes[N];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int i = 0; i < N; i++)
        x[i] = 0.3f + 0.2f * (float)mqb_normal(8, 8, (uint64_t)i);
    for (int bits = 2; bits <= 8; bits++) {
        for (int rescale = 0; rescale < 2; rescale++) {
            struct mqb_scheme scheme = whole_scheme(MQB_ROLE_WEIGHT, bits);
            struct mqb_tensor_view view = whole_view(x, N);
            void *self = whole_calibrated(apot, &scheme, rescale ? "" : "rescale=off", x, N);
            whole_prepare(apot, self, &scheme, x, N);
            grid_run(apot, self, &scheme, N, x, NULL, y);
            assert_int_equal(apot->freeze(self, &view, codes, &error), MQB_OK);
            struct mqb_qparams q = quantizer_qparams(apot, self);
            for (int i = 0; i < N; i++) {
                assert_true(codes[i] >= q.qmin && codes[i] <= q.qmax);
                assert_true(y[i] == (bits == 8 ? (float)codes[i] * q.scale[0] : q.scale[0] * q.levels[codes[i] - q.qmin]));
                if (rescale && bits >= 6) /* the widest gap of 6 bits is 0.14 of 3 deviations */
                    assert_true(fabsf(y[i] - x[i]) <= 0.05f);
            }
            apot->destroy(self);
        }
    }
}

static void test_apot_alpha_starts_and_stays_positive(void **state)
{
    (void)state;
    const float x[3] = {-4.0f, 1.0f, 2.0f};
    for (int role = MQB_ROLE_WEIGHT; role <= MQB_ROLE_ACTIVATION; role++) {
        struct mqb_scheme scheme = whole_scheme(role, 4);
        void *self = whole_calibrated(apot, &scheme, "act_alpha=5", x, 3);
        struct mqb_param alpha = whole_param(apot, self, "alpha");
        assert_true(alpha.value[0] == (role == MQB_ROLE_WEIGHT ? 3.0f : 5.0f) && alpha.weight_decay_multiplier == 0.0f);
        alpha.value[0] = -2.0f;
        whole_prepare(apot, self, &scheme, x, 3);
        assert_true(alpha.value[0] == 2.0f);
        alpha.value[0] = 0.0f;
        whole_prepare(apot, self, &scheme, x, 3);
        assert_true(alpha.value[0] == 1e-5f);
        apot->destroy(self);
    }
}

/* The function of a whole weight with its rounding errors frozen, in double. */
static double weight_loss(int n, const double *w, double alpha, int rescale, const double *residue, const float *dy)
{
    double mean = 0.0, square = 0.0, loss = 0.0;
    for (int i = 0; i < n; i++)
        mean += w[i] / n;
    for (int i = 0; i < n; i++)
        square += (w[i] - mean) * (w[i] - mean);
    double deviation = sqrt(square / (n - 1)) + 1e-5;
    for (int i = 0; i < n; i++) {
        double d = (w[i] - mean) / deviation / alpha;
        d = d > 1.0 ? 1.0 : d < -1.0 ? -1.0 : d;
        loss += (double)dy[i] * ((d + residue[i]) * alpha * (rescale ? deviation : 1.0) + (rescale ? mean : 0.0));
    }
    return loss;
}

static void test_apot_weight_gradients_are_finite_differences(void **state)
{
    (void)state;
    enum { N = 83 };
    float x[N], y[N], dy[N], dx[N];
    for (int rescale = 0; rescale < 2; rescale++) {
        double w[N], residue[N], mean = 0.0, square = 0.0;
        for (int i = 0; i < N; i++) {
            x[i] = 0.05f + 0.4f * (float)mqb_normal(6, 1, (uint64_t)i);
            dy[i] = (float)mqb_normal(6, 2, (uint64_t)i);
            w[i] = (double)x[i];
            mean += w[i] / N;
        }
        for (int i = 0; i < N; i++)
            square += (w[i] - mean) * (w[i] - mean);
        double deviation = sqrt(square / (N - 1)) + 1e-5, alpha = (double)1.3f;
        struct mqb_scheme scheme = whole_scheme(MQB_ROLE_WEIGHT, 4);
        void *self = whole_calibrated(apot, &scheme, rescale ? "" : "rescale=off", x, N);
        *whole_param(apot, self, "alpha").value = 1.3f;
        whole_prepare(apot, self, &scheme, x, N);
        grid_run(apot, self, &scheme, N, x, NULL, y);
        grid_run(apot, self, &scheme, N, x, dy, dx);
        int clipped = 0;
        for (int i = 0; i < N; i++) {
            double d = (w[i] - mean) / deviation / alpha, level = (double)y[i];
            clipped += fabs(d) > 1.0;
            d = d > 1.0 ? 1.0 : d < -1.0 ? -1.0 : d;
            level = rescale ? (level - mean) / (alpha * deviation) : level / alpha;
            residue[i] = level - d;
        }
        assert_true(clipped > 5 && clipped < N / 2);
        for (int i = 0; i <= N; i++) {
            double h = 1e-6, *at = i < N ? &w[i] : &alpha, kept = *at;
            *at = kept + h;
            double up = weight_loss(N, w, alpha, rescale, residue, dy);
            *at = kept - h;
            double want = (up - weight_loss(N, w, alpha, rescale, residue, dy)) / (2.0 * h);
            *at = kept;
            double got = (double)(i < N ? dx[i] : *whole_param(apot, self, "alpha").grad);
            if (!(fabs(got - want) <= 2e-5 * (1.0 + fabs(want))))
                fail_msg("rescale %d: gradient %d of %d = %.9g, finite difference %.9g", rescale, i, N, got, want);
        }
        apot->destroy(self);
    }
}

static void test_apot_activation_gradients_are_those_of_the_clip(void **state)
{
    (void)state;
    const float x[6] = {5.0f, -5.0f, 0.5f, -0.5f, 2.0f, 0.0f}, dy[6] = {1.0f, 2.0f, 4.0f, 8.0f, 16.0f, 32.0f};
    float y[6], dx[6];
    for (int nonnegative = 0; nonnegative < 2; nonnegative++) {
        struct mqb_scheme scheme = whole_scheme(MQB_ROLE_ACTIVATION, 3);
        const float seen[2] = {nonnegative ? 0.0f : -1.0f, 1.0f};
        void *self = whole_calibrated(apot, &scheme, "act_alpha=2", seen, 2);
        whole_prepare(apot, self, &scheme, x, 6);
        grid_run(apot, self, &scheme, 6, x, NULL, y);
        grid_run(apot, self, &scheme, 6, x, dy, dx);
        assert_true(y[0] == 2.0f && y[1] == (nonnegative ? 0.0f : -2.0f) && y[4] == 2.0f && y[5] == 0.0f);
        assert_true(dx[0] == 0.0f && dx[1] == 0.0f && dx[2] == 4.0f && dx[4] == 16.0f && dx[5] == 32.0f);
        assert_true(dx[3] == (nonnegative ? 0.0f : 8.0f));
        /* d = 0.25: a level of {0, 1/4, 1/2, 1}; of the eight unsigned ones 0.2 and 0.3 are next, 0.3 the nearer in float. */
        double want = nonnegative ? 1.0 + 4.0 * ((double)y[2] / 2.0 - 0.25) : 1.0 - 2.0;
        assert_true(fabs((double)*whole_param(apot, self, "alpha").grad - want) <= 1e-6);
        apot->destroy(self);
    }
}

static void test_apot_edges_are_finite(void **state)
{
    (void)state;
    whole_check_edges(apot, "");
    whole_check_edges(apot, "rescale=off");
}

static void test_apot_impossible_schemes_are_refused(void **state)
{
    (void)state;
    whole_check_refusals(apot);
    assert_non_null(apot->undeployable[0]);
    assert_non_null(apot->undeployable[1]);
}

static void test_apot_ends_are_static_at_8_bits(void **state)
{
    (void)state;
    whole_check_ends(apot);
}

static void test_apot_state_round_trip_and_damage(void **state)
{
    (void)state;
    whole_check_state(apot, "", 24);
    whole_check_state(apot, "rescale=off", 24);
}

static void test_apot_not_finite_is_refused_or_stays(void **state)
{
    (void)state;
    whole_check_not_finite(apot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apot_levels_are_sums_of_powers_of_two),
        cmocka_unit_test(test_apot_nearest_level_and_ties_to_the_lower),
        cmocka_unit_test(test_apot_ties_under_compat_are_the_published_codes),
        cmocka_unit_test(test_apot_codes_index_the_table),
        cmocka_unit_test(test_apot_alpha_starts_and_stays_positive),
        cmocka_unit_test(test_apot_weight_gradients_are_finite_differences),
        cmocka_unit_test(test_apot_activation_gradients_are_those_of_the_clip),
        cmocka_unit_test(test_apot_edges_are_finite),
        cmocka_unit_test(test_apot_impossible_schemes_are_refused),
        cmocka_unit_test(test_apot_ends_are_static_at_8_bits),
        cmocka_unit_test(test_apot_state_round_trip_and_damage),
        cmocka_unit_test(test_apot_not_finite_is_refused_or_stays),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
