/*
 * test_lqnet.c - learned levels against Lloyd's and Max's quantizer, least squares by hand, and what must hold for any numbers.
 */
#include "quant/golden_quantizer.h"

static const struct mqb_quantizer *lqnet;
static void *library;

static int setup(void **state)
{
    (void)state;
    lqnet = quantizer_open(&library, "lqnet.so", "lqnet");
    return lqnet ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dlclose(library);
}

static struct mqb_scheme scheme_of(int role, int bits, int channels)
{
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .role = role, .bits = bits, .symmetric = 1, .tensor = "t"};
    scheme.qmin = -(1 << (bits - 1));
    scheme.qmax = (1 << (bits - 1)) - 1;
    scheme.per_channel = channels > 1;
    scheme.num_channels = channels;
    return scheme;
}

static struct mqb_tensor_view view_of(const float *x, int channels, int64_t n)
{
    return (struct mqb_tensor_view){.struct_size = sizeof(struct mqb_tensor_view),
                                    .rank = 2,
                                    .dims = {channels, n / channels},
                                    .num_elements = n,
                                    .data = x};
}

static void *calibrated(const struct mqb_scheme *scheme, const char *settings, const float *x, int64_t n)
{
    void *self = quantizer_create(lqnet, scheme, settings);
    struct mqb_tensor_view view = view_of(x, scheme->num_channels, n);
    quantizer_observe(lqnet, self, &view);
    quantizer_init(lqnet, self);
    return self;
}

static float *normal(int64_t n, uint64_t stream)
{
    float *x = malloc((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)mqb_normal(5, stream, (uint64_t)i);
    return x;
}

static double error_of(const void *self, const struct mqb_scheme *scheme, const float *x, int64_t n)
{
    float *y = malloc((size_t)n * sizeof(float));
    double sum = 0.0;
    quantizer_run(lqnet, self, scheme, n, x, NULL, y);
    for (int64_t i = 0; i < n; i++)
        sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    free(y);
    return sum;
}

static void train_weight(void *self, const struct mqb_scheme *scheme, const float *x, int64_t n)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_tensor_view view = view_of(x, scheme->num_channels, n);
    if (lqnet->prepare(self, &view, 1, &error) != MQB_OK)
        fail_msg("%s", error.text);
}

/* One training step of an activation in `slices` pieces, backwards if asked, the sums joined in the order of the pieces. */
static void train_activation(void *self, const float *x, int64_t n, int slices, bool reversed, float *dx)
{
    enum { MOST = 16 };
    double sums[MOST][MQB_QUANTIZER_MAX_SUMS] = {{0}};
    float *dy = malloc((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        dy[i] = 1.0f;
    for (int k = 0; k < slices; k++) {
        int piece = reversed ? slices - 1 - k : k;
        int64_t begin = n * piece / slices, end = n * (piece + 1) / slices;
        struct mqb_slice slice = {.struct_size = sizeof(slice), .size = end - begin, .offset = (uint64_t)begin, .x = x + begin};
        slice.dy = dy + begin;
        slice.dx = dx + begin;
        slice.sums = sums[piece];
        lqnet->backward(self, &slice);
    }
    for (int k = 1; k < slices; k++)
        for (int i = 0; i < MQB_QUANTIZER_MAX_SUMS; i++)
            sums[0][i] += sums[k][i];
    lqnet->reduce(self, sums[0]);
    free(dy);
}

/* Puts a basis in place of what was learned. The state: { magic, channels, bits, nonnegative }, then doubles. */
static void put_basis(void *self, int nonnegative, int count, const double *v)
{
    struct mqb_error error = MQB_ERROR_INIT;
    unsigned char state[512];
    size_t size = sizeof(state);
    assert_int_equal(lqnet->save(self, state, &size, &error), MQB_OK);
    assert_int_equal(size, 16 + (size_t)count * sizeof(double));
    memcpy(state + 12, &(int32_t){nonnegative}, 4);
    memcpy(state + 16, v, (size_t)count * sizeof(double));
    if (lqnet->load(self, state, size, &error) != MQB_OK)
        fail_msg("%s", error.text);
}

static void get_basis(const void *self, int count, double *v)
{
    struct mqb_error error = MQB_ERROR_INIT;
    unsigned char state[512];
    size_t size = sizeof(state);
    assert_int_equal(lqnet->save(self, state, &size, &error), MQB_OK);
    memcpy(v, state + 16, (size_t)count * sizeof(double));
}

/* ---- numbers from outside ---- */

/* J. Max, Quantizing for minimum distortion, 1960, table I: the best 4 levels for a unit normal variable. */
static void test_lqnet_two_bits_of_a_normal_weight_are_max_levels(void **state)
{
    (void)state;
    enum { N = 200000 };
    float *x = normal(N, 1);
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, 2, 1);
    void *self = calibrated(&scheme, "average=0 iterations=20", x, N);
    for (int i = 0; i < 5; i++)
        train_weight(self, &scheme, x, N);
    struct mqb_qparams q = quantizer_qparams(lqnet, self);
    const float want[] = {-1.5104f, -0.4528f, 0.4528f, 1.5104f};
    assert_int_equal(q.num_levels, 4);
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(q.levels[i] - want[i]) < 0.01f);
    assert_true(fabs(error_of(self, &scheme, x, N) / N - 0.1175) < 0.001);
    lqnet->destroy(self);
    free(x);
}

/* Signed: B'B = [[4, 0], [0, 4]] for these four, B'x by hand. */
static void test_lqnet_one_step_of_a_weight_is_least_squares(void **state)
{
    (void)state;
    const float x[] = {-2.9f, -1.3f, 0.8f, 3.4f}; /* on levels -3, -1, 1, 3 of v = (1, 2) */
    const double v[] = {1.0, 2.0};
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, 2, 1);
    void *self = calibrated(&scheme, "average=0", x, 4);
    put_basis(self, 0, 2, v);
    train_weight(self, &scheme, x, 4);
    /* codes (-,-) (+,-) (-,+) (+,+) of v = (1, 2):  v'1 = (2.9 - 1.3 - 0.8 + 3.4) / 4, v'2 = (2.9 + 1.3 + 0.8 + 3.4) / 4 */
    double got[2];
    get_basis(self, 2, got);
    assert_true(fabs(got[0] - 1.05) < 1e-4 && fabs(got[1] - 2.1) < 1e-4);
    lqnet->destroy(self);
    self = calibrated(&scheme, "", x, 4);
    put_basis(self, 0, 2, v);
    train_weight(self, &scheme, x, 4);
    get_basis(self, 2, got);
    assert_true(fabs(got[0] - (0.9 * 1.0 + 0.1 * 1.05)) < 1e-5 && fabs(got[1] - (0.9 * 2.0 + 0.1 * 2.1)) < 1e-5);
    lqnet->destroy(self);
}

/* Never negative: x on 0, v1, v2, v1 + v2; B'B = [[3, 2], [2, 3]]. */
static void test_lqnet_one_step_of_an_activation_is_least_squares(void **state)
{
    (void)state;
    const float x[] = {0.2f, 1.2f, 1.9f, 3.3f, 2.9f};
    const double v[] = {1.0, 2.0};
    float dx[5];
    double got[2];
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 2, 1);
    scheme.adaptive_sign = 1;
    void *self = calibrated(&scheme, "", x, 5);
    put_basis(self, 1, 2, v);
    train_activation(self, x, 5, 2, false, dx);
    /* B'x = (1.2 + 3.3 + 2.9, 1.9 + 3.3 + 2.9) = (7.4, 8.1):  v' = ([3, -2], [-2, 3]) B'x / 5 = (1.2, 1.9) */
    get_basis(self, 2, got);
    assert_true(fabs(got[0] - (0.9 * 1.0 + 0.1 * 1.2)) < 1e-5 && fabs(got[1] - (0.9 * 2.0 + 0.1 * 1.9)) < 1e-5);
    assert_true(dx[0] == 1.0f && dx[3] == 0.0f && dx[4] == 1.0f); /* 3.3 lies above the top level, 3 */
    struct mqb_qparams q = quantizer_qparams(lqnet, self);
    assert_true(q.levels[0] == 0.0f && q.levels[1] == (float)got[0] && q.levels[3] == (float)(got[0] + got[1]));
    lqnet->destroy(self);
}

static void test_lqnet_recovers_the_basis_that_made_the_numbers(void **state)
{
    (void)state;
    enum { N = 4096 };
    static const double bases[3][4] = {{0.5, 1.3}, {0.4, 0.9, 2.0}, {0.25, 0.55, 1.15, 2.2}};
    float *x = malloc(N * sizeof(float)), *y = malloc(N * sizeof(float));
    for (int bits = 2; bits <= 4; bits++) {
        for (int nonnegative = 0; nonnegative < 2; nonnegative++) {
            const double *v = bases[bits - 2];
            for (int i = 0; i < N; i++) {
                double level = 0.0;
                for (int j = 0; j < bits; j++)
                    level += mqb_uniform(9, (uint64_t)j, (uint64_t)i) < 0.5f ? v[j] : nonnegative ? 0.0 : -v[j];
                x[i] = (float)level;
            }
            struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, bits, 1);
            scheme.adaptive_sign = 1;
            void *self = calibrated(&scheme, "average=0 iterations=20", x, N);
            double got[4], near[4]; /* it descends: from anywhere it need not find the very basis */
            for (int j = 0; j < bits; j++)
                near[j] = v[j] * (j % 2 ? 1.03 : 0.96);
            put_basis(self, nonnegative, bits, near);
            train_weight(self, &scheme, x, N);
            get_basis(self, bits, got);
            for (int j = 0; j < bits; j++)
                if (fabs(got[j] - v[j]) > 1e-4)
                    fail_msg("%d bits, %s: v[%d] = %g, expected %g", bits, nonnegative ? "never negative" : "signed", j, got[j],
                             v[j]);
            quantizer_run(lqnet, self, &scheme, N, x, NULL, y);
            for (int i = 0; i < N; i++)
                assert_true(fabsf(y[i] - x[i]) < 1e-4f);
            lqnet->destroy(self);
        }
    }
    free(x);
    free(y);
}

/* ---- what must hold for any numbers ---- */

static void test_lqnet_step_never_raises_the_error(void **state)
{
    (void)state;
    enum { N = 3 * 3000 };
    static const char *const settings[] = {"average=0", "average=0.9", "average=0.5 iterations=3"};
    float *x = normal(N, 2);
    for (int i = 0; i < N; i++)
        x[i] *= i < 3000 ? 0.01f : i < 6000 ? fabsf(x[i]) : 1.0f + (float)(i % 50 == 0) * 10.0f;
    for (int bits = 2; bits <= 4; bits++) {
        for (int channels = 1; channels <= 3; channels += 2) {
            for (size_t k = 0; k < 3; k++) {
                struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, bits, channels);
                void *self = calibrated(&scheme, settings[k], x, N);
                const double far[] = {0.1, 0.5, 0.5, 7.0, 0.1, 0.5, 0.5, 7.0, 0.1, 0.5, 0.5, 7.0};
                put_basis(self, 0, bits * channels, far);
                double first = error_of(self, &scheme, x, N), before = first;
                for (int step = 0; step < 40; step++) {
                    train_weight(self, &scheme, x, N);
                    double after = error_of(self, &scheme, x, N);
                    if (!(after <= before * (1.0 + 1e-6)))
                        fail_msg("%d bits, %d channels, %s: step %d raised %.9g to %.9g", bits, channels, settings[k], step,
                                 before, after);
                    before = after;
                }
                assert_true(before < first);
                lqnet->destroy(self);
            }
        }
    }
    free(x);
}

static void test_lqnet_values_are_the_nearest_levels_of_the_table(void **state)
{
    (void)state;
    enum { N = 2 * 515 };
    float *x = normal(N, 3), y[N];
    for (int bits = 2; bits <= 4; bits++) {
        struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, bits, 2);
        void *self = calibrated(&scheme, "", x, N);
        struct mqb_qparams q = quantizer_qparams(lqnet, self);
        int levels = 1 << bits;
        assert_int_equal(q.num_levels, 2 * levels);
        assert_int_equal(q.qmax - q.qmin + 1, q.num_levels);
        quantizer_run(lqnet, self, &scheme, N, x, NULL, y);
        for (int i = 0; i < N; i++) {
            const float *level = q.levels + (i < N / 2 ? 0 : levels);
            bool found = false;
            for (int k = 0; k < levels; k++) {
                found = found || y[i] == q.scale[i < N / 2 ? 0 : 1] * level[k];
                assert_true(fabsf(x[i] - y[i]) <= fabsf(x[i] - level[k]) * 1.000001f);
                assert_true(k == 0 || level[k] > level[k - 1]);
                assert_true(fabsf(level[k] + level[levels - 1 - k]) < 1e-6f); /* symmetric around 0 */
            }
            assert_true(found);
        }
        lqnet->destroy(self);
    }
    free(x);
}

static void test_lqnet_sums_do_not_depend_on_the_order_of_slices(void **state)
{
    (void)state;
    enum { N = 5003 };
    float *x = normal(N, 4), dx[N], dx_reversed[N];
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 4, 1);
    void *one = calibrated(&scheme, "", x, N), *two = calibrated(&scheme, "", x, N);
    double v[4], w[4];
    for (int step = 0; step < 5; step++) {
        train_activation(one, x, N, 16, false, dx);
        train_activation(two, x, N, 16, true, dx_reversed);
        get_basis(one, 4, v);
        get_basis(two, 4, w);
        assert_memory_equal(v, w, sizeof(v));
        assert_memory_equal(dx, dx_reversed, sizeof(dx));
    }
    lqnet->destroy(one);
    lqnet->destroy(two);
    free(x);
}

static void test_lqnet_activation_learns_towards_a_weights_levels(void **state)
{
    (void)state;
    enum { N = 20000 };
    float *x = normal(N, 5), *dx = malloc(N * sizeof(float));
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 3, 1), weight = scheme_of(MQB_ROLE_WEIGHT, 3, 1);
    void *self = calibrated(&scheme, "", x, N), *other = calibrated(&weight, "", x, N);
    for (int step = 0; step < 30; step++) {
        train_activation(self, x, N, 1, false, dx);
        train_weight(other, &weight, x, N);
    }
    double v[3], w[3];
    get_basis(self, 3, v);
    get_basis(other, 3, w);
    for (int j = 0; j < 3; j++)
        assert_true(fabs(v[j] - w[j]) < 1e-9);
    lqnet->destroy(self);
    lqnet->destroy(other);
    free(x);
    free(dx);
}

static void test_lqnet_sign_adapts_for_good_if_never_negative(void **state)
{
    (void)state;
    float *x = normal(1000, 6);
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 3, 1);
    scheme.adaptive_sign = 1;
    void *self = calibrated(&scheme, "", x, 1000);
    assert_true(quantizer_qparams(lqnet, self).levels[0] < 0.0f);
    lqnet->destroy(self);
    for (int i = 0; i < 1000; i++)
        x[i] = fmaxf(x[i], 0.0f);
    self = calibrated(&scheme, "", x, 1000);
    struct mqb_qparams q = quantizer_qparams(lqnet, self);
    assert_true(q.levels[0] == 0.0f && q.levels[7] > 1.0f);
    lqnet->destroy(self);
    scheme.adaptive_sign = 0;
    self = calibrated(&scheme, "", x, 1000);
    assert_true(quantizer_qparams(lqnet, self).levels[0] < 0.0f);
    lqnet->destroy(self);
    /* The second batch decides otherwise. */
    scheme.adaptive_sign = 1;
    self = quantizer_create(lqnet, &scheme, "");
    float below[] = {-1.0f, 2.0f};
    struct mqb_tensor_view first = view_of(x, 1, 1000), second = view_of(below, 1, 2);
    quantizer_observe(lqnet, self, &first);
    quantizer_observe(lqnet, self, &second);
    quantizer_init(lqnet, self);
    assert_true(quantizer_qparams(lqnet, self).levels[0] < 0.0f);
    lqnet->destroy(self);
    free(x);
}

static void test_lqnet_weight_gradient_passes_or_stops_outside(void **state)
{
    (void)state;
    const float x[] = {-5.0f, -1.0f, 0.5f, 1.0f, 5.0f}, dy[] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f};
    const double v[] = {1.0, 2.0};
    float dx[5];
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, 2, 1);
    for (int inside = 0; inside < 2; inside++) {
        void *self = calibrated(&scheme, inside ? "weight_gradient=inside" : "", x, 5);
        put_basis(self, 0, 2, v);
        quantizer_run(lqnet, self, &scheme, 5, x, dy, dx);
        for (int i = 0; i < 5; i++)
            assert_true(dx[i] == (inside && fabsf(x[i]) > 3.0f ? 0.0f : dy[i]));
        lqnet->destroy(self);
    }
}

static void test_lqnet_eight_bits_are_minmax(void **state)
{
    (void)state;
    enum { N = 1000 };
    float *x = normal(N, 7), y[N], largest = 0.0f;
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 8, 1);
    scheme.adaptive_sign = 1;
    for (int positive = 0; positive < 2; positive++) {
        for (int i = 0; i < N; i++) {
            x[i] = positive ? fabsf(x[i]) : x[i];
            largest = fmaxf(largest, fabsf(x[i]));
        }
        void *self = calibrated(&scheme, "", x, N);
        float scale = positive ? largest / 255.0f : largest / 127.5f;
        struct mqb_qparams q = quantizer_qparams(lqnet, self);
        assert_int_equal(q.num_levels, 0);
        assert_true(q.scale[0] == scale && q.zero_point[0] == 0);
        assert_int_equal(q.qmin, positive ? 0 : -128);
        assert_int_equal(q.qmax, positive ? 255 : 127);
        quantizer_run(lqnet, self, &scheme, N, x, NULL, y);
        for (int i = 0; i < N; i++)
            assert_true(y[i] == fminf(fmaxf(rintf(x[i] * (1.0f / scale)), (float)q.qmin), (float)q.qmax) * scale);
        lqnet->destroy(self);
    }
    /* A weight's range is that of each training step. */
    struct mqb_scheme weight = scheme_of(MQB_ROLE_WEIGHT, 8, 2);
    void *self = calibrated(&weight, "", x, N);
    x[3] = 100.0f;
    train_weight(self, &weight, x, N);
    assert_true(quantizer_qparams(lqnet, self).scale[0] == 100.0f / 127.5f);
    assert_true(quantizer_qparams(lqnet, self).scale[1] < 1.0f);
    lqnet->destroy(self);
    free(x);
}

/* ---- edges ---- */

static void test_lqnet_degenerate_tensors_stay_finite(void **state)
{
    (void)state;
    static const float zeros[4] = {0}, constant[4] = {2.5f, 2.5f, 2.5f, 2.5f}, outlier[4] = {0.1f, -0.1f, 0.2f, 1e30f},
                       huge[4] = {3e38f, -3e38f, 3e38f, 1.0f}, tiny[4] = {1e-45f, 1e-42f, 0.0f, 1e-40f}, single[1] = {-3};
    static const struct {
        const float *x;
        int64_t n;
    } inputs[] = {{zeros, 4}, {constant, 4}, {outlier, 4}, {huge, 4}, {tiny, 4}, {single, 1}};
    static const int bits[] = {2, 3, 4, 8};
    for (size_t k = 0; k < sizeof(inputs) / sizeof(inputs[0]); k++) {
        for (int variant = 0; variant < 16; variant++) {
            struct mqb_scheme scheme = scheme_of(variant & 1 ? MQB_ROLE_WEIGHT : MQB_ROLE_ACTIVATION, bits[variant >> 2], 1);
            scheme.adaptive_sign = (uint8_t)(variant >> 1 & 1);
            void *self = calibrated(&scheme, "", inputs[k].x, inputs[k].n);
            float y[4], dx[4];
            for (int step = 0; step < 30; step++) {
                if (variant & 1)
                    train_weight(self, &scheme, inputs[k].x, inputs[k].n);
                else
                    train_activation(self, inputs[k].x, inputs[k].n, 1, false, dx);
            }
            quantizer_run(lqnet, self, &scheme, inputs[k].n, inputs[k].x, NULL, y);
            for (int64_t i = 0; i < inputs[k].n; i++)
                assert_true(isfinite(y[i]));
            if (inputs[k].x == zeros)
                assert_true(y[0] == 0.0f);
            if (inputs[k].x == constant || inputs[k].x == single)
                assert_true(fabsf(y[0] - inputs[k].x[0]) < 0.02f * fabsf(inputs[k].x[0]));
            struct mqb_qparams q = quantizer_qparams(lqnet, self);
            for (int i = 0; i < q.num_levels; i++)
                assert_true(isfinite(q.levels[i]));
            lqnet->destroy(self);
        }
    }
}

static void test_lqnet_nan_stays_and_is_refused_in_calibration(void **state)
{
    (void)state;
    float x[] = {-1.0f, 1.0f, 0.5f, -0.25f}, bad[] = {NAN, INFINITY, -INFINITY, 0.1f}, y[4], dx[4];
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 3, 1);
    struct mqb_error error = MQB_ERROR_INIT;
    void *self = calibrated(&scheme, "", x, 4);
    quantizer_run(lqnet, self, &scheme, 4, bad, NULL, y);
    struct mqb_qparams q = quantizer_qparams(lqnet, self);
    assert_true(isnan(y[0]) && y[1] == q.levels[7] && y[2] == q.levels[0]);
    double before[3], after[3];
    get_basis(self, 3, before);
    train_activation(self, bad, 4, 1, false, dx);
    get_basis(self, 3, after);
    assert_memory_equal(before, after, sizeof(before)); /* an infinite sum teaches nothing */
    struct mqb_tensor_view view = view_of(bad, 1, 4);
    assert_int_equal(lqnet->observe(self, &view, &error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(error.text, "element 0 of 4 is NaN"));
    lqnet->destroy(self);
}

static void test_lqnet_resumes_exactly_and_refuses_damage(void **state)
{
    (void)state;
    enum { N = 3000 };
    float *x = normal(N, 8), *dx = malloc(N * sizeof(float));
    unsigned char saved[64], one[64], two[64];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int role = 0; role < 2; role++) {
        struct mqb_scheme scheme = scheme_of(role, 3, 1);
        void *first = calibrated(&scheme, "", x, N), *second = quantizer_create(lqnet, &scheme, "");
        size_t size = 0, small = 3;
        for (int step = 0; step < 6; step++) {
            if (step == 3) {
                assert_int_equal(lqnet->save(first, NULL, &size, &error), MQB_OK);
                assert_int_equal(size, 16 + 3 * sizeof(double));
                assert_int_equal(lqnet->save(first, saved, &small, &error), MQB_ERR_ARGUMENT);
                assert_int_equal(lqnet->save(first, saved, &size, &error), MQB_OK);
                assert_int_equal(lqnet->load(second, saved, size, &error), MQB_OK);
            }
            for (int k = 0; k < (step < 3 ? 1 : 2); k++) {
                if (role == MQB_ROLE_WEIGHT)
                    train_weight(k ? second : first, &scheme, x + 100 * step, 1000);
                else
                    train_activation(k ? second : first, x + 100 * step, 1000, 3, false, dx);
            }
        }
        assert_int_equal(lqnet->save(first, one, &size, &error), MQB_OK);
        assert_int_equal(lqnet->save(second, two, &size, &error), MQB_OK);
        assert_memory_equal(one, two, size);
        assert_memory_not_equal(one, saved, size);
        assert_int_equal(lqnet->load(second, saved, size - 1, &error), MQB_ERR_FORMAT);
        static const size_t damaged[] = {0, 4, 8, 12}; /* magic, channels, bits, sign */
        for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
            saved[damaged[i]] ^= 1;
            assert_int_equal(lqnet->load(second, saved, size, &error), MQB_ERR_FORMAT);
            saved[damaged[i]] ^= 1;
        }
        memset(saved + 16, 0xff, 8); /* a NaN */
        assert_int_equal(lqnet->load(second, saved, size, &error), MQB_ERR_FORMAT);
        lqnet->destroy(first);
        lqnet->destroy(second);
    }
    lqnet->destroy(NULL);
    free(x);
    free(dx);
}

static void test_lqnet_impossible_schemes_are_refused_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        int role, bits, qmin, symmetric, pot, per_channel, channels;
        mqb_status status;
        const char *reason;
    } cases[] = {
        {MQB_ROLE_BIAS, 4, -8, 1, 0, 0, 1, MQB_ERR_UNSUPPORTED, "weights and activations, not role 2"},
        {MQB_ROLE_WEIGHT, 5, -16, 1, 0, 0, 1, MQB_ERR_UNSUPPORTED, "5 bits are neither"},
        {MQB_ROLE_WEIGHT, 7, -64, 1, 0, 0, 1, MQB_ERR_UNSUPPORTED, "7 bits are neither"},
        {MQB_ROLE_WEIGHT, 1, -1, 1, 0, 0, 1, MQB_ERR_UNSUPPORTED, "1 bits are neither"},
        {MQB_ROLE_ACTIVATION, 4, 3, 1, 0, 0, 1, MQB_ERR_UNSUPPORTED, "hold 0 and 1"},
        {MQB_ROLE_ACTIVATION, 4, -8, 0, 0, 0, 1, MQB_ERR_UNSUPPORTED, "asymmetric scheme's zero point has no place"},
        {MQB_ROLE_WEIGHT, 4, -8, 1, 1, 0, 1, MQB_ERR_UNSUPPORTED, "power of two"},
        {MQB_ROLE_ACTIVATION, 4, -8, 1, 0, 1, 3, MQB_ERR_UNSUPPORTED, "one a channel"},
        {MQB_ROLE_WEIGHT, 4, -8, 1, 0, 0, 3, MQB_ERR_ARGUMENT, "3 scales for a per-tensor scheme"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mqb_options *options;
        struct mqb_error error = MQB_ERROR_INIT;
        struct mqb_scheme scheme = scheme_of(cases[i].role, cases[i].bits, 1);
        void *self = &scheme;
        scheme.qmin = cases[i].qmin;
        scheme.symmetric = (uint8_t)cases[i].symmetric;
        scheme.pot_scale = (uint8_t)cases[i].pot;
        scheme.per_channel = (uint8_t)cases[i].per_channel;
        scheme.num_channels = cases[i].channels;
        assert_int_equal(mqb_options_create(lqnet->options, lqnet->num_options, &options, &error), MQB_OK);
        assert_int_equal(lqnet->create(mqb_host_table(), &scheme, options, &self, &error), cases[i].status);
        assert_null(self);
        if (!strstr(error.text, cases[i].reason))
            fail_msg("expected \"%s\" in: %s", cases[i].reason, error.text);
        mqb_options_destroy(options);
    }
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 4, 1);
    struct mqb_error error = MQB_ERROR_INIT;
    void *self = quantizer_create(lqnet, &scheme, "");
    assert_int_equal(lqnet->init(self, &error), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(error.text, "seen no numbers of \"t\""));
    lqnet->destroy(self);
    scheme = scheme_of(MQB_ROLE_WEIGHT, 4, 3);
    self = quantizer_create(lqnet, &scheme, "");
    float x[4] = {0};
    struct mqb_tensor_view odd = view_of(x, 1, 4);
    assert_int_equal(lqnet->prepare(self, &odd, 1, &error), MQB_ERR_ARGUMENT);
    lqnet->destroy(self);
    assert_non_null(lqnet->undeployable[0]);
    assert_non_null(lqnet->undeployable[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lqnet_two_bits_of_a_normal_weight_are_max_levels),
        cmocka_unit_test(test_lqnet_one_step_of_a_weight_is_least_squares),
        cmocka_unit_test(test_lqnet_one_step_of_an_activation_is_least_squares),
        cmocka_unit_test(test_lqnet_recovers_the_basis_that_made_the_numbers),
        cmocka_unit_test(test_lqnet_step_never_raises_the_error),
        cmocka_unit_test(test_lqnet_values_are_the_nearest_levels_of_the_table),
        cmocka_unit_test(test_lqnet_sums_do_not_depend_on_the_order_of_slices),
        cmocka_unit_test(test_lqnet_activation_learns_towards_a_weights_levels),
        cmocka_unit_test(test_lqnet_sign_adapts_for_good_if_never_negative),
        cmocka_unit_test(test_lqnet_weight_gradient_passes_or_stops_outside),
        cmocka_unit_test(test_lqnet_eight_bits_are_minmax),
        cmocka_unit_test(test_lqnet_degenerate_tensors_stay_finite),
        cmocka_unit_test(test_lqnet_nan_stays_and_is_refused_in_calibration),
        cmocka_unit_test(test_lqnet_resumes_exactly_and_refuses_damage),
        cmocka_unit_test(test_lqnet_impossible_schemes_are_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
