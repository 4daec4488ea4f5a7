/*
 * test_pact.c - the PACT plugin: closed forms, edges, refusals. Its replay of reference vectors: tests/golden.
 */
#include "quant/golden_grid.h"

static struct grid_plugin plugin;

static int setup(void **state)
{
    (void)state;
    return grid_plugin_open(&plugin, MQB_PLUGIN_DIR "/pact.so") ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dlclose(plugin.library);
}

static void test_pact_weights_are_dorefa(void **state)
{
    (void)state;
    enum { N = 600 };
    static float x[N], dy[N], y[2][N], dx[2][N];
    struct grid_plugin dorefa = {0};
    assert_true(grid_plugin_open(&dorefa, MQB_PLUGIN_DIR "/dorefa.so"));
    const struct mqb_quantizer *const quantizers[2] = {plugin.quantizer, dorefa.quantizer};
    for (int i = 0; i < N; i++) {
        x[i] = (float)mqb_normal(3, 1, (uint64_t)i);
        dy[i] = (float)mqb_normal(3, 2, (uint64_t)i);
    }
    for (int variant = 0; variant < 8; variant++) {
        struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .role = MQB_ROLE_WEIGHT, .bits = 4, .num_channels = 1};
        scheme.symmetric = variant & 1;
        scheme.per_channel = (variant & 2) != 0;
        scheme.num_channels = scheme.per_channel ? 3 : 1;
        scheme.qmin = scheme.symmetric ? -8 : 0;
        scheme.qmax = scheme.qmin + 15;
        struct mqb_tensor_view view = {
            .struct_size = sizeof(view), .rank = 2, .dims = {3, N / 3}, .num_elements = N, .data = x};
        for (int k = 0; k < 2; k++) {
            struct mqb_error error = MQB_ERROR_INIT;
            void *self = grid_create(quantizers[k], &scheme, (variant & 4) != 0);
            grid_calibrate(quantizers[k], self, &view);
            assert_int_equal(quantizers[k]->prepare(self, &view, 1, &error), MQB_OK);
            grid_run(quantizers[k], self, &scheme, N, x, NULL, y[k]);
            grid_run(quantizers[k], self, &scheme, N, x, dy, dx[k]);
            quantizers[k]->destroy(self);
        }
        assert_memory_equal(y[0], y[1], sizeof(y[0]));
        assert_memory_equal(dx[0], dx[1], sizeof(dx[0]));
    }
    dlclose(dorefa.library);
}

/* An activation point of 4 bits, calibrated with -1 and 2. */
static void *activation(struct mqb_scheme *scheme, int bits, bool symmetric)
{
    static const float data[2] = {-1.0f, 2.0f};
    *scheme = (struct mqb_scheme){.struct_size = sizeof(*scheme), .role = MQB_ROLE_ACTIVATION, .bits = bits, .num_channels = 1};
    scheme->symmetric = symmetric;
    scheme->qmin = symmetric ? -(1 << (bits - 1)) : 0;
    scheme->qmax = scheme->qmin + (1 << bits) - 1;
    struct mqb_tensor_view view = {.struct_size = sizeof(view), .rank = 2, .dims = {1, 2}, .num_elements = 2, .data = data};
    void *self = grid_create(plugin.quantizer, scheme, false);
    grid_calibrate(plugin.quantizer, self, &view);
    return self;
}

static void test_pact_bounds_clip_and_learn(void **state)
{
    (void)state;
    const struct mqb_quantizer *pact = plugin.quantizer;
    const float x[6] = {7.0f, -7.0f, 3.0f, -3.0f, 100.0f, -8.0f}, dy[6] = {1.0f, 2.0f, 4.0f, 8.0f, 16.0f, 32.0f};
    float y[6], dx[6];
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_tensor_view shape = {.struct_size = sizeof(shape), .rank = 2, .dims = {1, 6}, .num_elements = 6};
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        struct mqb_scheme scheme;
        struct mqb_param alpha = {.struct_size = sizeof(alpha)}, low = alpha;
        void *self = activation(&scheme, 4, symmetric != 0);
        assert_int_equal(pact->param(self, 0, &alpha), MQB_OK);
        assert_true(alpha.value[0] == 6.0f && alpha.weight_decay_multiplier == 0.0f);
        alpha.value[0] = -5.0f; /* a sign that an update changed */
        if (!symmetric) {
            assert_int_equal(pact->param(self, 1, &low), MQB_OK);
            low.value[0] = -7.5f;
        } else {
            assert_int_equal(pact->param(self, 1, &low), MQB_ERR_NOT_FOUND);
        }
        assert_int_equal(pact->prepare(self, &shape, 1, &error), MQB_OK);
        assert_true(alpha.value[0] == 5.0f);
        grid_run(pact, self, &scheme, 6, x, NULL, y);
        grid_run(pact, self, &scheme, 6, x, dy, dx);
        assert_true(y[0] == y[4] && y[0] <= 5.0f + 1e-6f && dx[0] == 0.0f && dx[4] == 0.0f && dx[2] == 4.0f && dx[3] == 8.0f);
        if (symmetric) {
            assert_true(y[1] == y[5] && alpha.grad[0] == 17.0f - 34.0f);
        } else {
            assert_true(dx[1] == 2.0f && dx[5] == 0.0f && alpha.grad[0] == 17.0f && low.grad[0] == 32.0f);
        }
        alpha.value[0] = NAN;
        assert_int_equal(pact->prepare(self, &shape, 1, &error), MQB_ERR_NUMERIC);
        assert_non_null(strstr(error.text, "alpha"));
        pact->destroy(self);
    }
}

static void test_pact_ends_are_static_at_8_bits(void **state)
{
    (void)state;
    const struct mqb_quantizer *pact = plugin.quantizer;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme scheme;
    struct mqb_param param = {.struct_size = sizeof(param)};
    struct mqb_qparams q = {.struct_size = sizeof(q)};
    const float other[3] = {-9.0f, 0.0f, 9.0f};
    struct mqb_tensor_view view = {.struct_size = sizeof(view), .rank = 2, .dims = {1, 3}, .num_elements = 3, .data = other};
    void *self = activation(&scheme, 8, false);
    assert_int_equal(pact->param(self, 0, &param), MQB_ERR_NOT_FOUND);
    assert_int_equal(pact->prepare(self, &view, 0, &error), MQB_OK);
    assert_int_equal(pact->qparams(self, &q, &error), MQB_OK);
    assert_true(q.scale[0] == 3.0f / 255.0f);
    assert_int_equal(q.zero_point[0], 85);
    pact->destroy(self);
}

static void test_pact_state_round_trip_and_damage(void **state)
{
    (void)state;
    const struct mqb_quantizer *pact = plugin.quantizer;
    const float x[4] = {-3.0f, 0.4f, 2.0f, 9.0f};
    float y[4], z[4];
    unsigned char buffer[256];
    size_t size = 0;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme scheme;
    struct mqb_param alpha = {.struct_size = sizeof(alpha)};
    struct mqb_tensor_view shape = {.struct_size = sizeof(shape), .rank = 2, .dims = {1, 4}, .num_elements = 4};
    void *first = activation(&scheme, 4, false), *second = activation(&scheme, 4, false);
    assert_int_equal(pact->param(first, 0, &alpha), MQB_OK);
    alpha.value[0] = 2.5f;
    assert_int_equal(pact->save(first, NULL, &size, &error), MQB_OK);
    assert_true(size > 0 && size <= sizeof(buffer));
    size_t small = size - 1;
    assert_int_equal(pact->save(first, buffer, &small, &error), MQB_ERR_ARGUMENT);
    assert_int_equal(pact->save(first, buffer, &size, &error), MQB_OK);
    assert_int_equal(pact->load(second, buffer, size, &error), MQB_OK);
    assert_int_equal(pact->prepare(first, &shape, 0, &error), MQB_OK);
    assert_int_equal(pact->prepare(second, &shape, 0, &error), MQB_OK);
    grid_run(pact, first, &scheme, 4, x, NULL, y);
    grid_run(pact, second, &scheme, 4, x, NULL, z);
    assert_memory_equal(y, z, sizeof(y));
    assert_int_equal(pact->load(second, buffer, size - 4, &error), MQB_ERR_FORMAT);
    buffer[0] ^= 1;
    assert_int_equal(pact->load(second, buffer, size, &error), MQB_ERR_FORMAT);
    buffer[0] ^= 1;
    memset(buffer + size - 8, 0xff, 4); /* the scale is a NaN */
    assert_int_equal(pact->load(second, buffer, size, &error), MQB_ERR_FORMAT);
    pact->destroy(first);
    pact->destroy(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pact_weights_are_dorefa),
        cmocka_unit_test(test_pact_bounds_clip_and_learn),
        cmocka_unit_test(test_pact_ends_are_static_at_8_bits),
        cmocka_unit_test(test_pact_state_round_trip_and_damage),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
