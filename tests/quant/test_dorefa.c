/*
 * test_dorefa.c - the DoReFa plugin: closed forms, edges, refusals. Its replay of reference vectors: tests/golden.
 */
#include "quant/golden_grid.h"

static struct grid_plugin plugin;

static int setup(void **state)
{
    (void)state;
    return grid_plugin_open(&plugin, MQB_PLUGIN_DIR "/dorefa.so") ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dlclose(plugin.library);
}

enum { N = 1000 };

static struct mqb_scheme weight_scheme(int variant, int bits)
{
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .role = MQB_ROLE_WEIGHT, .bits = bits, .num_channels = 1};
    scheme.symmetric = variant & 1;
    scheme.per_channel = (variant & 2) != 0;
    scheme.pot_scale = (variant & 4) != 0;
    scheme.num_channels = scheme.per_channel ? 4 : 1;
    scheme.qmin = scheme.symmetric ? -(1 << (bits - 1)) : 0;
    scheme.qmax = scheme.qmin + (1 << bits) - 1;
    return scheme;
}

static struct mqb_tensor_view fill(float *x, uint64_t stream, float factor)
{
    for (int i = 0; i < N; i++)
        x[i] = factor * (float)mqb_normal(3, stream, (uint64_t)i);
    struct mqb_tensor_view view = {.struct_size = sizeof(view), .rank = 2, .dims = {4, N / 4}, .num_elements = N, .data = x};
    return view;
}

static void test_dorefa_codes_and_outputs_agree_exactly(void **state)
{
    (void)state;
    static float x[N], y[N];
    static int32_t codes[N];
    const struct mqb_quantizer *dorefa = plugin.quantizer;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_tensor_view view = fill(x, 1, 0.3f);
    for (int variant = 0; variant < 8; variant++) {
        struct mqb_scheme scheme = weight_scheme(variant, 2 + variant % 7);
        struct mqb_qparams q = {.struct_size = sizeof(q)};
        void *self = grid_create(dorefa, &scheme, false);
        grid_calibrate(dorefa, self, &view);
        assert_int_equal(dorefa->prepare(self, &view, 1, &error), MQB_OK);
        grid_run(dorefa, self, &scheme, N, x, NULL, y);
        assert_int_equal(dorefa->freeze(self, &view, codes, &error), MQB_OK);
        assert_int_equal(dorefa->qparams(self, &q, &error), MQB_OK);
        for (int i = 0; i < N; i++) {
            int c = scheme.per_channel ? i / (N / 4) : 0;
            assert_in_range(codes[i] + 1000, scheme.qmin + 1000, scheme.qmax + 1000);
            assert_true(y[i] == (float)(codes[i] - q.zero_point[c]) * q.scale[c]);
        }
        dorefa->destroy(self);
    }
}

/* v = tanh w / (max |tanh w| + 1e-5), by the core's tanh in double: at 8 bits y is within half a step of it. */
static void test_dorefa_weights_follow_tanh(void **state)
{
    (void)state;
    static float x[N], y[N];
    const struct mqb_quantizer *dorefa = plugin.quantizer;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme scheme = weight_scheme(0, 8);
    struct mqb_tensor_view view = fill(x, 2, 1.0f);
    struct mqb_qparams q = {.struct_size = sizeof(q)};
    double max = 0.0;
    for (int i = 0; i < N; i++)
        max = fmax(max, fabs(mqb_tanh((double)x[i])));
    void *self = grid_create(dorefa, &scheme, false);
    grid_calibrate(dorefa, self, &view);
    assert_int_equal(dorefa->prepare(self, &view, 1, &error), MQB_OK);
    assert_int_equal(dorefa->qparams(self, &q, &error), MQB_OK);
    grid_run(dorefa, self, &scheme, N, x, NULL, y);
    for (int i = 0; i < N; i++)
        assert_true(fabs((double)y[i] - mqb_tanh((double)x[i]) / (max + 1e-5)) <= 1.0001 * (double)q.scale[0]);
    dorefa->destroy(self);
}

/* sum dy_i v_i of the normalized weights, in double. */
static double normalized_sum(const float *x, const float *dy, int place, double shift, bool rescaled)
{
    double max = 0.0, sum = 0.0;
    for (int i = 0; i < N; i++)
        max = fmax(max, fabs((double)x[i] + (i == place ? shift : 0.0)));
    for (int i = 0; i < N; i++)
        sum += (double)dy[i] * mqb_tanh((double)x[i] + (i == place ? shift : 0.0));
    return sum / (mqb_tanh(max) + 1e-5) * (rescaled ? max : 1.0);
}

/* With everything in range the gradient is that of the normalization: finite differences. */
static void test_dorefa_weight_gradient_is_that_of_normalization(void **state)
{
    (void)state;
    static float x[N], dy[N], dx[N];
    const struct mqb_quantizer *dorefa = plugin.quantizer;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme scheme = weight_scheme(0, 8); /* affine: the largest weights are levels */
    struct mqb_tensor_view view = fill(x, 4, 0.5f);
    int largest = 0;
    fill(dy, 5, 1.0f);
    for (int i = 0; i < N; i++)
        largest = fabsf(x[i]) > fabsf(x[largest]) ? i : largest;
    const int places[] = {largest, 0, 17, N - 1};
    for (int rescaled = 0; rescaled < 2; rescaled++) {
        struct mqb_options *options = grid_options(dorefa, (const char *const[]){"rescale", rescaled ? "on" : "off", NULL});
        void *self;
        assert_int_equal(dorefa->create(mqb_host_table(), &scheme, options, &self, &error), MQB_OK);
        mqb_options_destroy(options);
        grid_calibrate(dorefa, self, &view);
        assert_int_equal(dorefa->prepare(self, &view, 1, &error), MQB_OK);
        grid_run(dorefa, self, &scheme, N, x, dy, dx);
        for (int k = 0; k < 4; k++) {
            double slope = (normalized_sum(x, dy, places[k], 1e-6, rescaled != 0) -
                            normalized_sum(x, dy, places[k], -1e-6, rescaled != 0)) /
                           2e-6;
            assert_true(fabs((double)dx[places[k]] - slope) <= 1e-4 * fabs(slope) + 1e-5);
        }
        dorefa->destroy(self);
    }
}

static void test_dorefa_zero_and_bad_weights_are_handled(void **state)
{
    (void)state;
    static float x[N], dy[N], y[N];
    static int32_t codes[N];
    const struct mqb_quantizer *dorefa = plugin.quantizer;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme scheme = weight_scheme(1, 4);
    struct mqb_tensor_view view = fill(x, 1, 0.0f);
    fill(dy, 2, 1.0f);
    void *self = grid_create(dorefa, &scheme, false);
    grid_calibrate(dorefa, self, &view);
    assert_int_equal(dorefa->prepare(self, &view, 1, &error), MQB_OK);
    grid_run(dorefa, self, &scheme, N, x, NULL, y);
    for (int i = 0; i < N; i++)
        assert_true(y[i] == 0.0f);
    grid_run(dorefa, self, &scheme, N, x, dy, y);
    for (int i = 0; i < N; i++)
        assert_true(fabsf(y[i]) <= FLT_MAX);
    x[5] = NAN;
    assert_int_equal(dorefa->prepare(self, &view, 1, &error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(error.text, "element 5"));
    assert_int_equal(dorefa->freeze(self, &view, codes, &error), MQB_ERR_NUMERIC);
    dorefa->destroy(self);
    scheme.bits = 9;
    struct mqb_options *options = grid_options(dorefa, (const char *const[]){NULL});
    assert_int_equal(dorefa->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    scheme = weight_scheme(0, 4);
    scheme.role = MQB_ROLE_BIAS;
    assert_int_equal(dorefa->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    assert_null(self);
    mqb_options_destroy(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dorefa_codes_and_outputs_agree_exactly),
        cmocka_unit_test(test_dorefa_weights_follow_tanh),
        cmocka_unit_test(test_dorefa_weight_gradient_is_that_of_normalization),
        cmocka_unit_test(test_dorefa_zero_and_bad_weights_are_handled),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
