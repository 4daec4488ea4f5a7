/*
 * test_lsqplus.c - LSQ+: where scales and offsets start, their gradients, weights in asymmetric schemes, the edges.
 */
#include "quant/learned.h"

static const struct mqb_quantizer *lsqplus, *lsq;

static int setup(void **state)
{
    (void)state;
    lsqplus = component("lsqplus", MQB_QUANTIZER_INTERFACE);
    lsq = component("lsq", MQB_QUANTIZER_INTERFACE);
    return 0;
}

enum { N = 1008 };

static void destroy(struct learned *point)
{
    point->quantizer->destroy(point->self);
}

static bool has_param(const struct learned *point, uint32_t index)
{
    struct mqb_param param = {.struct_size = sizeof(param)};
    return point->quantizer->param(point->self, index, &param) == MQB_OK;
}

/* ---- where it starts ---- */

static void test_lsqplus_weights_start_at_three_standard_deviations(void **state)
{
    (void)state;
    static float x[N];
    learned_fill(x, N, 1, 0.2f);
    for (int variant = 0; variant < 4; variant++) {
        int channels = variant & 1 ? 4 : 1, bits = variant & 2 ? 8 : 3;
        for (int symmetric = 0; symmetric < 2; symmetric++) {
            struct learned point = learned_create(lsqplus, learned_scheme(MQB_ROLE_WEIGHT, bits, symmetric, channels), "");
            learned_calibrate(&point, x, N);
            struct mqb_qparams q = learned_qparams(&point);
            for (int c = 0; c < channels; c++) {
                double mean = 0, square = 0, size = N / channels;
                for (int i = c * N / channels; i < (c + 1) * N / channels; i++)
                    mean += (double)x[i] / size;
                for (int i = c * N / channels; i < (c + 1) * N / channels; i++)
                    square += ((double)x[i] - mean) * ((double)x[i] - mean) / (size - 1);
                double three = fmax(fabs(mean - 3 * sqrt(square)), fabs(mean + 3 * sqrt(square)));
                double want = three / (((1 << bits) - 1) / 2.0);
                assert_true(fabs((double)learned_param(&point, 0).value[c] - want) <= 1e-6 * want);
                assert_int_equal(q.zero_point[c], symmetric ? 0 : 1 << (bits - 1));
            }
            assert_false(has_param(&point, 1));
            destroy(&point);
        }
    }
}

static void test_lsqplus_asymmetric_weights_are_the_symmetric_ones_shifted(void **state)
{
    (void)state;
    static float x[N], dy[N], y[2][N], dx[2][N];
    learned_fill(x, N, 1, 0.2f);
    learned_fill(dy, N, 2, 1.0f);
    static const char *const starts[] = {"", "weight_init=mse", "weight_init=minmax", "weight_init=percentile"};
    for (int i = 0; i < 4; i++) {
        for (int bits = 2; bits <= 8; bits += 2) {
            for (int symmetric = 0; symmetric < 2; symmetric++) {
                /* Unscaled: the gradient factor is that of the largest code, which differs. */
                char settings[64];
                snprintf(settings, sizeof(settings), "%s gradient_scale=off", starts[i]);
                struct learned point = learned_create(lsqplus, learned_scheme(MQB_ROLE_WEIGHT, bits, symmetric, 1), settings);
                learned_calibrate(&point, x, N);
                learned_forward(&point, N, x, y[symmetric]);
                learned_run(&point, N, x, dy, dx[symmetric]);
                destroy(&point);
            }
            assert_memory_equal(y[0], y[1], sizeof(y[0]));
            assert_memory_equal(dx[0], dx[1], sizeof(dx[0]));
        }
    }
}

static double squared_error(const float *x, int n, double s, double z, int qmax)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double e = (fmin(fmax(rint((double)x[i] / s) + z, 0), qmax) - z) * s - (double)x[i];
        sum += e * e;
    }
    return sum;
}

/* No cut of the range by hundredths is better, and few bits gain over the whole range. */
static void test_lsqplus_activations_start_at_the_least_squared_error(void **state)
{
    (void)state;
    static float x[N];
    learned_fill(x, N, 3, 1.0f);
    for (int i = 0; i < N; i++)
        x[i] = x[i] < -0.25f ? -0.25f : x[i]; /* as after a leaky activation */
    float min = -0.25f, max = 0;
    for (int i = 0; i < N; i++)
        max = fmaxf(max, x[i]);
    for (int bits = 2; bits <= 8; bits++) {
        struct learned point = learned_create(lsqplus, learned_scheme(MQB_ROLE_ACTIVATION, bits, 0, 1), "");
        learned_calibrate(&point, x, N);
        struct mqb_qparams q = learned_qparams(&point);
        double got = squared_error(x, N, (double)q.scale[0], q.zero_point[0], q.qmax), best = HUGE_VAL, whole = 0;
        for (int cut = 0; cut < 95; cut++) {
            double keep = 1 - 0.01 * cut, s = ((double)max - (double)min) * keep / q.qmax;
            double error = squared_error(x, N, s, fmin(rint(-(double)min * keep / s), q.qmax), q.qmax);
            whole = cut == 0 ? error : whole;
            best = fmin(best, error);
        }
        assert_true(got <= 1.02 * best);
        assert_true(bits > 3 || got < 0.9 * whole);
        assert_true(has_param(&point, 1));
        destroy(&point);
    }
}

static void test_lsqplus_symmetric_is_lsq_from_another_start(void **state)
{
    (void)state;
    static float x[N], dy[N], out[2][N], dx[2][N];
    learned_fill(x, N, 4, 1.0f);
    learned_fill(dy, N, 5, 1.0f);
    for (int variant = 0; variant < 8; variant++) {
        int role = variant & 1 ? MQB_ROLE_WEIGHT : MQB_ROLE_ACTIVATION, channels = variant & 1 && variant & 2 ? 4 : 1;
        struct mqb_scheme scheme = learned_scheme(role, variant & 2 ? 8 : 4, 1, channels);
        scheme.pot_scale = (variant & 4) != 0;
        float grad[2][4] = {{0}};
        for (int k = 0; k < 2; k++) {
            struct learned point = learned_create(k ? lsq : lsqplus, scheme, k ? "weight_init=lsqplus act_init=mse" : "");
            learned_calibrate(&point, x, N);
            learned_forward(&point, N, x, out[k]);
            learned_run(&point, N, x, dy, dx[k]);
            assert_false(has_param(&point, 1));
            for (int c = 0; c < channels; c++) {
                grad[k][c] = learned_param(&point, 0).grad[c];
                assert_int_equal(learned_qparams(&point).zero_point[c], 0);
            }
            destroy(&point);
        }
        assert_memory_equal(out[0], out[1], sizeof(out[0]));
        assert_memory_equal(dx[0], dx[1], sizeof(dx[0]));
        assert_memory_equal(grad[0], grad[1], sizeof(grad[0]));
    }
}

/* ---- gradients ---- */

static void test_lsqplus_gradients_are_those_of_the_definition(void **state)
{
    (void)state;
    static float x[N], dy[N], dx[N];
    learned_fill(x, N, 1, 1.0f);
    learned_fill(dy, N, 2, 1.0f);
    for (int scaled = 0; scaled < 2; scaled++) {
        struct learned point = learned_create(lsqplus, learned_scheme(MQB_ROLE_ACTIVATION, 4, 0, 1),
                                              scaled ? "lr_multiplier=0.5" : "gradient_scale=off");
        learned_calibrate(&point, x, N);
        double s = (double)(learned_param(&point, 0).value[0] = 0.21f), z = 6, ds = 0, dz = 0;
        learned_param(&point, 1).value[0] = 6.3f;
        OK(learned_prepare(&point, x, N));
        learned_run(&point, N, x, dy, dx);
        for (int i = 0; i < N; i++) {
            double v = (double)x[i] / s + z, code = rint(v);
            bool outside = code < 0 || code > 15;
            ds += (double)dy[i] * (code < 0 ? -z : code > 15 ? 15 - z : code - v);
            dz += outside ? -(double)dy[i] * s : 0;
            assert_true(dx[i] == (outside ? 0.0f : dy[i]));
        }
        double g = scaled ? 1 / sqrt(15.0 * N) : 1.0;
        assert_true(fabs((double)learned_param(&point, 0).grad[0] - g * ds) <= 1e-5 * g * sqrt(N) * 15);
        assert_true(fabs((double)learned_param(&point, 1).grad[0] - g * dz) <= 1e-5 * g * sqrt(N));
        assert_true(learned_param(&point, 1).lr_multiplier == (scaled ? 0.5f : 1.0f));
        assert_true(learned_param(&point, 1).weight_decay_multiplier == 0.0f);
        destroy(&point);
    }
}

/* Where all is clipped, y = (n|p - z) s is linear in s and in an integral z: differences of what forward gives are the
 * gradients. */
static void test_lsqplus_gradients_of_clipped_numbers_are_differences_of_forward(void **state)
{
    (void)state;
    static const float dy[8] = {1, -2, 0.5f, 0.25f, -1, 3, 0.125f, -1};
    float x[8] = {90, -90, 100, 200, -77, 300, -1000, 64}, y[8], dx[8];
    struct learned point = learned_create(lsqplus, learned_scheme(MQB_ROLE_ACTIVATION, 4, 0, 1), "gradient_scale=off");
    learned_calibrate(&point, x, 8);
    static const float s[] = {0.25f, 0.5f, 0.375f, 0.375f, 0.375f}, z[] = {5, 5, 4, 6, 5};
    double loss[5] = {0};
    for (int k = 0; k < 5; k++) {
        learned_param(&point, 0).value[0] = s[k];
        learned_param(&point, 1).value[0] = z[k];
        learned_forward(&point, 8, x, y);
        for (int i = 0; i < 8; i++)
            loss[k] += (double)dy[i] * (double)y[i];
    }
    learned_run(&point, 8, x, dy, dx);
    assert_true((double)learned_param(&point, 0).grad[0] == (loss[1] - loss[0]) / 0.25);
    assert_true((double)learned_param(&point, 1).grad[0] == (loss[3] - loss[2]) / 2);
    destroy(&point);
}

/* A tensor whose values lie about an offset: learning both parameters gives less error than the scale alone. */
static void test_lsqplus_learned_offset_lowers_the_error(void **state)
{
    (void)state;
    static float x[N], y[N], dy[N], dx[N];
    double error[2] = {0};
    learned_fill(x, N, 6, 1.0f);
    for (int i = 0; i < N; i++)
        x[i] += 1.5f;
    for (int learned = 0; learned < 2; learned++) {
        struct learned point =
            learned_create(lsqplus, learned_scheme(MQB_ROLE_ACTIVATION, 3, 0, 1), "act_init=minmax gradient_scale=off");
        learned_calibrate(&point, x, N);
        learned_param(&point, 1).value[0] = 4.0f; /* far off */
        for (int step = 0; step < 300; step++) {
            learned_forward(&point, N, x, y);
            error[learned] = 0;
            for (int i = 0; i < N; i++) {
                dy[i] = 2 * (y[i] - x[i]) / N;
                error[learned] += (double)(y[i] - x[i]) * (double)(y[i] - x[i]) / N;
            }
            learned_run(&point, N, x, dy, dx);
            learned_param(&point, 0).value[0] -= 0.01f * learned_param(&point, 0).grad[0];
            if (learned)
                learned_param(&point, 1).value[0] -= 0.5f * learned_param(&point, 1).grad[0];
        }
        destroy(&point);
    }
    assert_true(error[1] < 0.7 * error[0]);
}

/* ---- edges ---- */

static void test_lsqplus_edge_tensors_give_finite_numbers(void **state)
{
    (void)state;
    static float x[N], y[N], dy[N], dx[N];
    static const char *const compats[] = {"", "compat=paper", "compat=toolkit"};
    learned_fill(dy, N, 2, 1.0f);
    for (int edge = 0; edge < 6; edge++) {
        for (int variant = 0; variant < 48; variant++) {
            int role = variant & 1 ? MQB_ROLE_WEIGHT : MQB_ROLE_ACTIVATION, channels = (variant & 3) == 3 ? 4 : 1;
            int n = edge == 2 ? channels : N;
            learned_fill(x, N, 1, edge == 5 ? 1e-30f : 1.0f);
            for (int i = 0; i < N && edge < 2; i++)
                x[i] = edge == 0 ? 0.0f : -3.0f; /* all zero, constant */
            if (edge == 3)
                x[5] = 3e38f;
            if (edge == 4)
                x[5] = -1e6f;
            struct mqb_scheme scheme = learned_scheme(role, variant & 2 ? 8 : 2, variant & 4, channels);
            scheme.pot_scale = (variant & 8) != 0;
            struct learned point = learned_create(lsqplus, scheme, compats[variant / 16]);
            learned_calibrate(&point, x, n);
            learned_forward(&point, n, x, y);
            learned_run(&point, n, x, dy, dx);
            for (uint32_t k = 0; has_param(&point, k); k++) {
                for (int c = 0; c < channels; c++)
                    assert_true(isfinite(learned_param(&point, k).value[c]) && isfinite(learned_param(&point, k).grad[c]));
            }
            for (int i = 0; i < n; i++)
                assert_true(isfinite(y[i]) && isfinite(dx[i]));
            destroy(&point);
        }
    }
}

static void test_lsqplus_negative_scale_is_made_positive_and_nan_refused(void **state)
{
    (void)state;
    float x[8] = {1, -1, 0.5f, 0.25f, 2, 3, -2, 0};
    struct learned point = learned_create(lsqplus, learned_scheme(MQB_ROLE_ACTIVATION, 4, 0, 1), "");
    struct mqb_param scale = learned_param(&point, 0), zero = learned_param(&point, 1);
    learned_calibrate(&point, x, 8);
    scale.value[0] = -0.5f;
    zero.value[0] = 99.0f;
    OK(learned_prepare(&point, x, 8));
    assert_true(scale.value[0] == 0.5f && zero.value[0] == 15.0f);
    zero.value[0] = NAN;
    assert_int_equal(learned_prepare(&point, x, 8), MQB_ERR_NUMERIC);
    assert_non_null(strstr(err.text, "zero point of channel 0"));
    zero.value[0] = 1.0f;
    scale.value[0] = INFINITY;
    assert_int_equal(learned_prepare(&point, x, 8), MQB_ERR_NUMERIC);
    assert_non_null(strstr(err.text, "scale of channel 0"));
    destroy(&point);
}

static void test_lsqplus_state_goes_round_and_is_not_that_of_lsq(void **state)
{
    (void)state;
    static float x[N], y[N], z[N];
    unsigned char buffer[256];
    learned_fill(x, N, 1, 1.0f);
    for (int role = MQB_ROLE_WEIGHT; role <= MQB_ROLE_ACTIVATION; role++) {
        struct mqb_scheme scheme = learned_scheme(role, 4, 0, 1);
        struct learned first = learned_create(lsqplus, scheme, ""), second = learned_create(lsqplus, scheme, "");
        struct learned other = learned_create(lsq, scheme, "");
        learned_calibrate(&first, x, N);
        learned_state_round_trip(&first, &second);
        learned_forward(&first, N, x, y);
        learned_forward(&second, N, x, z);
        assert_memory_equal(y, z, sizeof(y));
        size_t size = sizeof(buffer);
        OK(lsqplus->save(first.self, buffer, &size, &err));
        assert_int_equal(lsq->load(other.self, buffer, size, &err), MQB_ERR_FORMAT);
        assert_non_null(strstr(err.text, "lsq: the state is damaged"));
        destroy(&first);
        destroy(&second);
        destroy(&other);
    }
}

static void test_lsqplus_impossible_schemes_are_refused(void **state)
{
    (void)state;
    struct learned point = {lsqplus, learned_scheme(MQB_ROLE_BIAS, 8, 0, 1), NULL};
    assert_int_equal(learned_try(&point, ""), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "lsqplus quantizes weights and activations"));
    point.scheme = learned_scheme(MQB_ROLE_WEIGHT, 9, 0, 1);
    assert_int_equal(learned_try(&point, ""), MQB_ERR_UNSUPPORTED);
    point.scheme = learned_scheme(MQB_ROLE_WEIGHT, 8, 0, 1);
    point.scheme.num_channels = 3;
    assert_int_equal(learned_try(&point, ""), MQB_ERR_ARGUMENT);
    assert_null(point.self);
    lsqplus->destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lsqplus_weights_start_at_three_standard_deviations),
        cmocka_unit_test(test_lsqplus_asymmetric_weights_are_the_symmetric_ones_shifted),
        cmocka_unit_test(test_lsqplus_activations_start_at_the_least_squared_error),
        cmocka_unit_test(test_lsqplus_symmetric_is_lsq_from_another_start),
        cmocka_unit_test(test_lsqplus_gradients_are_those_of_the_definition),
        cmocka_unit_test(test_lsqplus_gradients_of_clipped_numbers_are_differences_of_forward),
        cmocka_unit_test(test_lsqplus_learned_offset_lowers_the_error),
        cmocka_unit_test(test_lsqplus_edge_tensors_give_finite_numbers),
        cmocka_unit_test(test_lsqplus_negative_scale_is_made_positive_and_nan_refused),
        cmocka_unit_test(test_lsqplus_state_goes_round_and_is_not_that_of_lsq),
        cmocka_unit_test(test_lsqplus_impossible_schemes_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
