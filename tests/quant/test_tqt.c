/*
 * test_tqt.c - trained quantization thresholds: the definition in double, the normed gradient, where thresholds start, the
 * edges.
 */
#include "quant/learned.h"

static const struct mqb_quantizer *tqt;

static int setup(void **state)
{
    (void)state;
    tqt = component("tqt", MQB_QUANTIZER_INTERFACE);
    return 0;
}

enum { N = 1008 };

static struct mqb_scheme signed_scheme(int role, int bits, int channels)
{
    return learned_scheme(role, bits, 1, channels);
}

static void destroy(struct learned *point)
{
    point->quantizer->destroy(point->self);
}

/* ---- scale, forward, gradients ---- */

static void test_tqt_scale_is_the_power_of_two_that_holds_the_threshold(void **state)
{
    (void)state;
    static const struct {
        float log2_t;
        int ceil, nearest;
    } cases[] = {{0.0f, 0, 0}, {1e-6f, 1, 0},   {-1e-6f, 0, 0},   {1.4f, 2, 1},
                 {1.6f, 2, 2}, {-2.5f, -2, -2}, {-3.25f, -3, -3}, {5.0f, 5, 5}};
    float x[16] = {1.0f};
    for (int nearest = 0; nearest < 2; nearest++) {
        for (int bits = 2; bits <= 8; bits++) {
            struct learned point =
                learned_create(tqt, signed_scheme(MQB_ROLE_WEIGHT, bits, 8), nearest ? "round=nearest" : "round=ceil");
            learned_calibrate(&point, x, 16);
            for (int c = 0; c < 8; c++)
                learned_param(&point, 0).value[c] = cases[c].log2_t;
            OK(learned_prepare(&point, x, 16));
            struct mqb_qparams q = learned_qparams(&point);
            for (int c = 0; c < 8; c++) {
                int exponent = nearest ? cases[c].nearest : cases[c].ceil;
                assert_true(q.scale[c] == ldexpf(1.0f, exponent - (bits - 1)));
                assert_int_equal(q.zero_point[c], 0);
            }
            destroy(&point);
        }
    }
}

static void test_tqt_forward_is_the_definition_and_codes_give_it_exactly(void **state)
{
    (void)state;
    static float x[N], y[N];
    learned_fill(x, N, 1, 0.7f);
    x[3] = 0.25f * 2.5f; /* ties */
    x[4] = -0.25f * 2.5f;
    for (int bits = 2; bits <= 8; bits++) {
        for (int channels = 1; channels <= 4; channels += 3) {
            struct learned point = learned_create(tqt, signed_scheme(MQB_ROLE_WEIGHT, bits, channels), "");
            learned_calibrate(&point, x, N);
            for (int c = 0; c < channels; c++)
                learned_param(&point, 0).value[c] = -1.3f + 0.9f * (float)c;
            learned_forward(&point, N, x, y);
            for (int i = 0; i < N; i++) {
                double s = ldexp(1.0, (int)ceil(-1.3 + 0.9 * (i / (N / channels))) - (bits - 1));
                double code = rint((double)x[i] / s), n = -ldexp(1.0, bits - 1), p = -n - 1;
                assert_true((double)y[i] == s * fmin(fmax(code, n), p));
            }
            destroy(&point);
        }
    }
}

/* The paper's gradient: s ln 2 sum dy { rne(x/s) - x/s; n; p }. */
static double definition(const float *x, const float *dy, int n, double s, int bits)
{
    double sum = 0, low = -ldexp(1.0, bits - 1), high = -low - 1;
    for (int i = 0; i < n; i++) {
        double v = (double)x[i] / s, code = rint(v);
        sum += (double)dy[i] * (code < low ? low : code > high ? high : code - v);
    }
    return sum * s * log(2.0);
}

static void test_tqt_gradients_are_those_of_the_paper(void **state)
{
    (void)state;
    static float x[N], dy[N], dx[N];
    learned_fill(x, N, 1, 1.0f);
    learned_fill(dy, N, 2, 1.0f);
    for (int bits = 2; bits <= 8; bits += 2) {
        for (int channels = 1; channels <= 4; channels += 3) {
            struct learned point = learned_create(tqt, signed_scheme(MQB_ROLE_WEIGHT, bits, channels), "gradient_norm=off");
            struct learned plain = learned_create(tqt, point.scheme, "gradient_norm=off gradient_scale=off");
            learned_calibrate(&point, x, N);
            learned_calibrate(&plain, x, N);
            double p = point.scheme.qmax, n = point.scheme.qmin;
            for (int c = 0; c < channels; c++)
                learned_param(&point, 0).value[c] = learned_param(&plain, 0).value[c] = 0.4f - 0.6f * (float)c;
            OK(learned_prepare(&point, x, N));
            OK(learned_prepare(&plain, x, N));
            learned_run(&point, N, x, dy, dx);
            for (int i = 0; i < N; i++) {
                double code = rint((double)x[i] / (double)learned_qparams(&point).scale[i / (N / channels)]);
                assert_true(dx[i] == (code < n || code > p ? 0.0f : dy[i]));
            }
            learned_run(&plain, N, x, dy, dx);
            for (int c = 0; c < channels; c++) {
                int size = N / channels;
                double s = (double)learned_qparams(&point).scale[c];
                double want = definition(x + c * size, dy + c * size, size, s, bits);
                assert_true(fabs((double)learned_param(&plain, 0).grad[c] - want) <= 1e-5 * s * p * sqrt(size));
                assert_true(fabs((double)learned_param(&point, 0).grad[c] - want / sqrt(p)) <= 1e-5 * s * sqrt(p * size));
            }
            destroy(&point);
            destroy(&plain);
        }
    }
}

/* Where all is clipped, y = p s or n s is smooth in log2 t but for the ceiling, whose gradient is passed straight through: the
 * derivative at 2^k is that of the curve through the values one octave up and down, p s ln 2. */
static void test_tqt_gradient_of_clipped_numbers_is_the_derivative(void **state)
{
    (void)state;
    static const double h = 1e-6;
    float x[8] = {90, -90, 100, 200, -77, 300, -1000, 64}, dy[8] = {1, -2, 0.5f, 0.25f, -1, 3, 0.125f, -1}, y[2][8], dx[8];
    for (int bits = 2; bits <= 8; bits += 3) {
        struct learned point =
            learned_create(tqt, signed_scheme(MQB_ROLE_WEIGHT, bits, 1), "gradient_norm=off gradient_scale=off");
        learned_calibrate(&point, x, 8);
        double loss[2] = {0};
        for (int side = 0; side < 2; side++) {
            learned_param(&point, 0).value[0] = (float)(side + 1);
            learned_forward(&point, 8, x, y[side]);
        }
        for (int i = 0; i < 8; i++) { /* y between the octaves is y[0] 2^u */
            loss[0] += (double)dy[i] * (double)y[0][i] * exp2(1.0 - h);
            loss[1] += (double)dy[i] * (double)y[0][i] * exp2(1.0 + h);
            assert_true(y[1][i] == 2.0f * y[0][i]);
        }
        learned_run(&point, 8, x, dy, dx);
        double want = (loss[1] - loss[0]) / (2 * h), got = (double)learned_param(&point, 0).grad[0];
        assert_true(fabs(got - want) <= 1e-6 * fabs(want));
        destroy(&point);
    }
}

static void test_tqt_normed_gradient_follows_its_recurrence(void **state)
{
    (void)state;
    static float x[N], dy[N], dx[N];
    learned_fill(x, N, 1, 1.0f);
    for (int variant = 0; variant < 3; variant++) {
        int bits = variant == 1 ? 8 : 4;
        struct learned point = learned_create(tqt, signed_scheme(MQB_ROLE_WEIGHT, bits, 2), variant == 2 ? "beta=0.9" : "");
        learned_calibrate(&point, x, N);
        double p = point.scheme.qmax, beta = variant == 2 ? 0.9 : 1.0 - 0.1 / p, m[2] = {0}, power = 1;
        OK(learned_prepare(&point, x, N));
        for (int step = 0; step < 20; step++) {
            learned_fill(dy, N, 100 + (uint64_t)step, step % 3 ? 1e-3f : 5.0f);
            learned_run(&point, N, x, dy, dx);
            power *= beta;
            for (int c = 0; c < 2; c++) {
                double s = (double)learned_qparams(&point).scale[c];
                double g = definition(x + c * N / 2, dy + c * N / 2, N / 2, s, bits);
                m[c] = beta * m[c] + (1 - beta) * g * g;
                double want = tanh(g / sqrt(m[c] / (1 - power))) / sqrt(p), got = (double)learned_param(&point, 0).grad[c];
                assert_true(fabs(got - want) <= 1e-4);
                assert_true(fabs(got) <= 1 / sqrt(p));
                if (step == 0)
                    assert_true(fabs(fabs(got) - tanh(1.0) / sqrt(p)) <= 1e-6);
            }
        }
        memset(dy, 0, sizeof(dy));
        learned_run(&point, N, x, dy, dx);
        assert_true(learned_param(&point, 0).grad[0] == 0.0f);
        destroy(&point);
    }
}

/* Squared error of the whole tensor at one power of two. */
static double error_at(const float *x, int n, int exponent, int qmin, int qmax)
{
    double s = ldexp(1.0, exponent), sum = 0;
    for (int i = 0; i < n; i++) {
        double e = s * fmin(fmax(rint((double)x[i] / s), qmin), qmax) - (double)x[i];
        sum += e * e;
    }
    return sum;
}

static int best_exponent(const float *x, int n, int qmin, int qmax)
{
    int best = -30;
    for (int e = -29; e <= 30; e++)
        best = error_at(x, n, e, qmin, qmax) < error_at(x, n, best, qmin, qmax) ? e : best;
    return best;
}

/* SGD with momentum as the engine's, on the squared error: from far off on either side, whatever the loss is multiplied by. */
static void test_tqt_training_finds_the_best_power_of_two_at_any_size_of_loss(void **state)
{
    (void)state;
    static float x[N], y[N], dy[N], dx[N];
    learned_fill(x, N, 7, 1.0f);
    for (int bits = 4; bits <= 8; bits += 4) {
        struct mqb_scheme scheme = signed_scheme(MQB_ROLE_WEIGHT, bits, 1);
        int best = best_exponent(x, N, scheme.qmin, scheme.qmax), num_steps = bits == 4 ? 400 : 1000;
        for (int from = -3; from <= 3; from += 6) {
            for (int size = -3; size <= 3; size += 3) {
                struct learned point = learned_create(tqt, scheme, "");
                struct mqb_param param = learned_param(&point, 0);
                float velocity = 0;
                learned_calibrate(&point, x, N);
                param.value[0] = (float)(best + bits - 1 + from) - 0.5f;
                int farthest = 0;
                for (int step = 0; step < num_steps; step++) {
                    learned_forward(&point, N, x, y);
                    for (int i = 0; i < N; i++)
                        dy[i] = (float)pow(10, size) * 2 * (y[i] - x[i]) / N;
                    learned_run(&point, N, x, dy, dx);
                    velocity = 0.9f * velocity + param.grad[0];
                    param.value[0] -= 0.01f * (param.grad[0] + 0.9f * velocity);
                    int exponent;
                    frexpf(learned_qparams(&point).scale[0], &exponent);
                    if (step >= num_steps - 100 && abs(exponent - 1 - best) > farthest)
                        farthest = abs(exponent - 1 - best);
                }
                if (farthest > 1)
                    fail_msg("%d bits, from %d octaves, loss times 1e%d: %d octaves off at the end", bits, from, size,
                             farthest);
                destroy(&point);
            }
        }
    }
}

/* ---- where thresholds start ---- */

static void test_tqt_starts_are_the_statistics_they_are_named_after(void **state)
{
    (void)state;
    static float x[N];
    for (int variant = 0; variant < 4; variant++) {
        bool positive = variant & 1;
        struct mqb_scheme scheme = signed_scheme(MQB_ROLE_ACTIVATION, variant & 2 ? 8 : 4, 1);
        scheme.adaptive_sign = 1;
        learned_fill(x, N, 5, 1.0f);
        double mean = 0, square = 0, largest = 0;
        for (int i = 0; i < N; i++) {
            x[i] = positive ? fabsf(x[i]) : x[i] - 0.25f;
            mean += (double)x[i] / N;
            largest = fmax(largest, fabs((double)x[i]));
        }
        for (int i = 0; i < N; i++)
            square += ((double)x[i] - mean) * ((double)x[i] - mean) / (N - 1);
        double spread = 3 * sqrt(square), three = fmax(fabs(mean - spread), fabs(mean + spread));

        struct learned point = learned_create(tqt, scheme, "act_init=max");
        learned_calibrate(&point, x, N);
        assert_true(fabs((double)learned_param(&point, 0).value[0] - log2(largest)) <= 1e-5);
        struct mqb_qparams q = learned_qparams(&point);
        assert_int_equal(q.qmin, positive ? 0 : scheme.qmin);
        assert_int_equal(q.qmax, positive ? (1 << scheme.bits) - 1 : scheme.qmax);
        assert_true((double)q.scale[0] == ldexp(1.0, (int)ceil(log2(largest)) - scheme.bits + (positive ? 0 : 1)));
        destroy(&point);

        point = learned_create(tqt, scheme, "act_init=3sd");
        learned_calibrate(&point, x, N);
        assert_true(fabs((double)learned_param(&point, 0).value[0] - log2(three)) <= 1e-5);
        destroy(&point);

        static const char *const others[] = {"act_init=kl", "act_init=percentile", "act_init=percentile_999",
                                             "act_init=ema_max"};
        for (int i = 0; i < 4; i++) {
            point = learned_create(tqt, scheme, others[i]);
            learned_calibrate(&point, x, N);
            assert_true((double)learned_param(&point, 0).value[0] <= log2(largest) + 1e-4);
            assert_true((double)learned_param(&point, 0).value[0] >= log2(largest) - 3);
            destroy(&point);
        }
    }
}

static void test_tqt_mse_start_is_the_best_power_of_two_in_the_middle_of_its_octave(void **state)
{
    (void)state;
    static float x[N];
    for (int bits = 2; bits <= 8; bits++) {
        for (int nearest = 0; nearest < 2; nearest++) {
            learned_fill(x, N, 20 + (uint64_t)bits, 0.3f * (float)bits);
            struct learned point = learned_create(tqt, signed_scheme(MQB_ROLE_WEIGHT, bits, 1), nearest ? "round=nearest" : "");
            learned_calibrate(&point, x, N);
            int best = best_exponent(x, N, point.scheme.qmin, point.scheme.qmax);
            assert_true(learned_param(&point, 0).value[0] == (float)(best + bits - 1) - (nearest ? 0.0f : 0.5f));
            assert_true(learned_qparams(&point).scale[0] == ldexpf(1.0f, best));
            destroy(&point);
        }
    }
}

/* Errors add up over batches, also at scales that the first of them had no need of; a negative number ends the unsigned search.
 */
static void test_tqt_mse_start_is_that_of_all_batches_together(void **state)
{
    (void)state;
    static float x[3 * N];
    for (int variant = 0; variant < 12; variant++) {
        int bits = 2 + variant % 3 * 3;
        bool grows = variant & 1, positive = variant & 2;
        for (int batch = 0; batch < 3; batch++)
            learned_fill(x + batch * N, N, 40 + (uint64_t)batch, grows ? powf(30.0f, (float)batch) : 1.0f);
        if (variant >= 6)
            x[2 * N + 7] = 5e5f;
        for (int i = 0; i < 3 * N && positive; i++)
            x[i] = fabsf(x[i]);
        struct mqb_scheme scheme = signed_scheme(MQB_ROLE_ACTIVATION, bits, 1);
        scheme.adaptive_sign = 1;
        struct learned point = learned_create(tqt, scheme, "");
        for (int batch = 0; batch < 3; batch++) {
            struct mqb_tensor_view view = learned_view(&point, x + batch * N, N);
            OK(tqt->observe(point.self, &view, &err));
        }
        OK(tqt->init(point.self, &err));
        struct mqb_qparams q = learned_qparams(&point);
        assert_int_equal(q.qmin, positive ? 0 : scheme.qmin);
        int exponent, best = best_exponent(x, 3 * N, q.qmin, q.qmax);
        assert_true(frexpf(q.scale[0], &exponent) == 0.5f);
        double least = error_at(x, 3 * N, best, q.qmin, q.qmax), got = error_at(x, 3 * N, exponent - 1, q.qmin, q.qmax);
        assert_true(got <= least * (1 + 1e-6)); /* two scales may do equally well */
        destroy(&point);
    }
}

static void test_tqt_threshold_on_a_power_of_two_stays_on_it(void **state)
{
    (void)state;
    for (int bits = 2; bits <= 8; bits++) {
        for (int k = -6; k <= 6; k++) {
            float x[4] = {ldexpf(1.0f, k), -ldexpf(0.5f, k), 0, ldexpf(0.3f, k)};
            struct learned point = learned_create(tqt, signed_scheme(MQB_ROLE_WEIGHT, bits, 1), "weight_init=max");
            learned_calibrate(&point, x, 4);
            assert_true(learned_param(&point, 0).value[0] == (float)k);
            destroy(&point);
        }
    }
}

/* ---- edges ---- */

static void test_tqt_edge_tensors_give_finite_numbers(void **state)
{
    (void)state;
    static float x[N], y[N], dy[N], dx[N];
    static const char *const starts[] = {"mse", "max", "3sd", "kl", "percentile"};
    learned_fill(dy, N, 2, 1.0f);
    for (int edge = 0; edge < 7; edge++) {
        for (int start = 0; start < 5; start++) {
            for (int variant = 0; variant < 8; variant++) {
                int channels = variant & 1 ? 4 : 1, n = edge == 2 ? channels : N;
                char settings[64];
                learned_fill(x, N, 1, edge == 5 ? 1e-30f : edge == 6 ? 1e37f : 1.0f);
                for (int i = 0; i < N && edge < 2; i++)
                    x[i] = edge == 0 ? 0.0f : -3.0f; /* all zero, constant */
                if (edge == 3)
                    x[5] = 3e38f;
                if (edge == 4)
                    x[5] = -1e6f;
                struct mqb_scheme scheme =
                    signed_scheme(channels > 1 ? MQB_ROLE_WEIGHT : MQB_ROLE_ACTIVATION, variant & 2 ? 8 : 2, channels);
                scheme.adaptive_sign = (variant & 4) != 0;
                snprintf(settings, sizeof(settings), "weight_init=%s act_init=%s", starts[start], starts[start]);
                struct learned point = learned_create(tqt, scheme, settings);
                learned_calibrate(&point, x, n);
                learned_forward(&point, n, x, y);
                learned_run(&point, n, x, dy, dx);
                for (int c = 0; c < channels; c++) {
                    assert_true(learned_qparams(&point).scale[c] >= FLT_EPSILON);
                    assert_true(isfinite(learned_param(&point, 0).value[c]) && isfinite(learned_param(&point, 0).grad[c]));
                }
                for (int i = 0; i < n; i++)
                    assert_true(isfinite(y[i]) && isfinite(dx[i]));
                destroy(&point);
            }
        }
    }
}

static void test_tqt_parameter_out_of_range_is_brought_back_or_refused(void **state)
{
    (void)state;
    float x[8] = {1, -1, 0.5f, 0.25f, 2, 3, -2, 0};
    struct learned point = learned_create(tqt, signed_scheme(MQB_ROLE_WEIGHT, 4, 2), "");
    struct mqb_param param = learned_param(&point, 0);
    struct mqb_qparams q = {.struct_size = sizeof(q)};
    learned_calibrate(&point, x, 8);
    param.value[0] = -1e30f;
    param.value[1] = 1e30f;
    OK(learned_prepare(&point, x, 8));
    assert_true(param.value[0] == -20.0f && param.value[1] == 127.0f);
    assert_true(learned_qparams(&point).scale[0] == FLT_EPSILON && learned_qparams(&point).scale[1] == 0x1p124f);
    param.value[1] = NAN;
    assert_int_equal(learned_prepare(&point, x, 8), MQB_ERR_NUMERIC);
    assert_non_null(strstr(err.text, "log2 threshold of channel 1 is not finite"));
    assert_int_equal(tqt->qparams(point.self, &q, &err), MQB_ERR_NUMERIC);
    destroy(&point);
}

static void test_tqt_nan_stays_nan_and_infinities_clip(void **state)
{
    (void)state;
    float x[4] = {1, -1, 0.5f, 0.25f}, y[4];
    int32_t codes[4];
    for (int vitis = 0; vitis < 2; vitis++) {
        struct learned point =
            learned_create(tqt, signed_scheme(MQB_ROLE_ACTIVATION, 4, 1), vitis ? "compat=vitis" : "act_init=max");
        learned_calibrate(&point, x, 4);
        float special[4] = {NAN, INFINITY, -FLT_MAX, -INFINITY};
        struct mqb_tensor_view view = learned_view(&point, special, 4);
        OK(learned_prepare(&point, special, 4));
        learned_run(&point, 4, special, NULL, y);
        float s = learned_qparams(&point).scale[0];
        assert_true(isnan(y[0]) && y[1] == 7 * s && y[2] == -8 * s && y[3] == -8 * s);
        assert_int_equal(tqt->freeze(point.self, &view, codes, &err), MQB_ERR_NUMERIC);
        assert_non_null(strstr(err.text, "element 0"));
        assert_int_equal(tqt->observe(point.self, &view, &err), MQB_ERR_NUMERIC);
        destroy(&point);
    }
}

static void test_tqt_state_resumes_to_the_same_bits(void **state)
{
    (void)state;
    static float x[N], dy[N], dx[N];
    for (int channels = 1; channels <= 4; channels += 3) {
        struct mqb_scheme scheme = signed_scheme(channels > 1 ? MQB_ROLE_WEIGHT : MQB_ROLE_ACTIVATION, 4, channels);
        scheme.adaptive_sign = channels == 1;
        learned_fill(x, N, 1, 1.0f);
        for (int i = 0; i < N && channels == 1; i++)
            x[i] = fabsf(x[i]);
        struct learned first = learned_create(tqt, scheme, ""), second = learned_create(tqt, scheme, "");
        learned_calibrate(&first, x, N);
        for (int step = 0; step < 6; step++) {
            if (step == 3)
                learned_state_round_trip(&first, &second);
            learned_fill(dy, N, 50 + (uint64_t)step, 1.0f);
            for (int k = 0; k < (step < 3 ? 1 : 2); k++) {
                struct learned *point = k ? &second : &first;
                OK(learned_prepare(point, x, N));
                learned_run(point, N, x, dy, dx);
                for (int c = 0; c < channels; c++)
                    learned_param(point, 0).value[c] -= 0.5f * learned_param(point, 0).grad[c];
            }
        }
        assert_memory_equal(learned_param(&first, 0).value, learned_param(&second, 0).value, (size_t)channels * sizeof(float));
        assert_memory_equal(learned_param(&first, 0).grad, learned_param(&second, 0).grad, (size_t)channels * sizeof(float));
        assert_int_equal(learned_qparams(&second).qmin, channels == 1 ? 0 : -8);
        destroy(&first);
        destroy(&second);
    }
}

static void test_tqt_impossible_schemes_are_refused_with_the_reason(void **state)
{
    (void)state;
    struct learned point = {tqt, learned_scheme(MQB_ROLE_WEIGHT, 8, 0, 1), NULL};
    assert_int_equal(learned_try(&point, ""), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "symmetric about 0"));
    assert_non_null(strstr(err.text, "choose"));
    point.scheme = signed_scheme(MQB_ROLE_WEIGHT, 8, 4);
    assert_int_equal(learned_try(&point, "compat=vitis"), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "one scale a tensor"));
    point.scheme = signed_scheme(MQB_ROLE_BIAS, 8, 1);
    assert_int_equal(learned_try(&point, ""), MQB_ERR_UNSUPPORTED);
    point.scheme = signed_scheme(MQB_ROLE_WEIGHT, 9, 1);
    assert_int_equal(learned_try(&point, ""), MQB_ERR_UNSUPPORTED);
    point.scheme = signed_scheme(MQB_ROLE_WEIGHT, 8, 1);
    point.scheme.num_channels = 3;
    assert_int_equal(learned_try(&point, ""), MQB_ERR_ARGUMENT);
    assert_null(point.self);
    tqt->destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tqt_scale_is_the_power_of_two_that_holds_the_threshold),
        cmocka_unit_test(test_tqt_forward_is_the_definition_and_codes_give_it_exactly),
        cmocka_unit_test(test_tqt_gradients_are_those_of_the_paper),
        cmocka_unit_test(test_tqt_gradient_of_clipped_numbers_is_the_derivative),
        cmocka_unit_test(test_tqt_normed_gradient_follows_its_recurrence),
        cmocka_unit_test(test_tqt_training_finds_the_best_power_of_two_at_any_size_of_loss),
        cmocka_unit_test(test_tqt_starts_are_the_statistics_they_are_named_after),
        cmocka_unit_test(test_tqt_mse_start_is_the_best_power_of_two_in_the_middle_of_its_octave),
        cmocka_unit_test(test_tqt_mse_start_is_that_of_all_batches_together),
        cmocka_unit_test(test_tqt_threshold_on_a_power_of_two_stays_on_it),
        cmocka_unit_test(test_tqt_edge_tensors_give_finite_numbers),
        cmocka_unit_test(test_tqt_parameter_out_of_range_is_brought_back_or_refused),
        cmocka_unit_test(test_tqt_nan_stays_nan_and_infinities_clip),
        cmocka_unit_test(test_tqt_state_resumes_to_the_same_bits),
        cmocka_unit_test(test_tqt_impossible_schemes_are_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
