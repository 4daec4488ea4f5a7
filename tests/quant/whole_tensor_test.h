/*
 * whole_tensor_test.h - drives a quantizer with one range a tensor (QIL, APoT): calibration, one step with its sums, and what
 * all of them must bear.
 */
#ifndef WHOLE_TENSOR_TEST_H
#define WHOLE_TENSOR_TEST_H

#include "quant/golden_grid.h"
#include "quant/golden_quantizer.h"

static inline struct mqb_scheme whole_scheme(int role, int bits)
{
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .role = role, .bits = bits, .symmetric = 1, .num_channels = 1};
    scheme.qmin = -(1 << (bits - 1));
    scheme.qmax = (1 << (bits - 1)) - 1;
    scheme.adaptive_sign = role == MQB_ROLE_ACTIVATION;
    scheme.tensor = "t";
    return scheme;
}

static inline struct mqb_tensor_view whole_view(const float *data, int64_t n)
{
    return (struct mqb_tensor_view){
        .struct_size = sizeof(struct mqb_tensor_view), .rank = 2, .dims = {1, n}, .num_elements = n, .data = data};
}

/* An instance that has seen x. */
static inline void *whole_calibrated(const struct mqb_quantizer *quantizer, const struct mqb_scheme *scheme,
                                     const char *settings, const float *x, int64_t n)
{
    struct mqb_tensor_view view = whole_view(x, n);
    void *self = quantizer_create(quantizer, scheme, settings);
    quantizer_observe(quantizer, self, &view);
    quantizer_init(quantizer, self);
    return self;
}

static inline void whole_prepare(const struct mqb_quantizer *quantizer, void *self, const struct mqb_scheme *scheme,
                                 const float *x, int64_t n)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_tensor_view view = whole_view(scheme->role == MQB_ROLE_WEIGHT ? x : NULL, n);
    if (quantizer->prepare(self, &view, 1, &error) != MQB_OK)
        fail_msg("%s", error.text);
}

static inline struct mqb_param whole_param(const struct mqb_quantizer *quantizer, void *self, const char *name)
{
    struct mqb_param param = {.struct_size = sizeof(param)};
    for (uint32_t i = 0; quantizer->param(self, i, &param) == MQB_OK; i++) {
        if (strcmp(param.name, name) == 0)
            return param;
    }
    fail_msg("no parameter %s", name);
    return param;
}

static inline mqb_status whole_refusal(const struct mqb_quantizer *quantizer, const struct mqb_scheme *scheme,
                                       struct mqb_error *error)
{
    const char *const none[] = {NULL};
    struct mqb_options *options = grid_options(quantizer, none);
    void *self = NULL;
    mqb_status status = quantizer->create(mqb_host_table(), scheme, options, &self, error);
    assert_true((status == MQB_OK) == (self != NULL));
    quantizer->destroy(self);
    mqb_options_destroy(options);
    return status;
}

/* Zeros, constants, single elements, outliers, subnormals: outputs, gradients, parameters finite; what comes out is on the grid
 * or in the table. Every number of bits, both roles. */
static inline void whole_check_edges(const struct mqb_quantizer *quantizer, const char *settings)
{
    enum { N = 70, CASES = 8 };
    static float x[CASES][N], dy[N], y[N], dx[N];
    for (int i = 0; i < N; i++) {
        dy[i] = (float)(i % 5) - 1.5f;
        x[0][i] = 0.0f;
        x[1][i] = 0.75f;
        x[2][i] = -2e-41f * (float)(i % 3);
        x[3][i] = i == 11 ? 1e30f : 0.01f * (float)(i % 7 - 3);
        x[4][i] = i == 11 ? -3e38f : i == 12 ? 3e38f : 0.5f;
        x[5][i] = (float)(i % 9) * 0.25f;
        x[6][i] = i == 69 ? -4.0f : (float)(i % 9) * 0.25f;
        x[7][i] = -1e-9f * (float)i;
    }
    for (int role = MQB_ROLE_WEIGHT; role <= MQB_ROLE_ACTIVATION; role++) {
        for (int bits = 2; bits <= 8; bits++) {
            for (int k = 0; k < 2 * CASES; k++) {
                const float *data = x[k / 2];
                int64_t n = k & 1 ? 1 : N;
                struct mqb_scheme scheme = whole_scheme(role, bits);
                void *self = whole_calibrated(quantizer, &scheme, settings, data, n);
                whole_prepare(quantizer, self, &scheme, data, n);
                grid_run(quantizer, self, &scheme, n, data, NULL, y);
                grid_run(quantizer, self, &scheme, n, data, dy, dx);
                struct mqb_qparams q = quantizer_qparams(quantizer, self);
                for (int64_t i = 0; i < n; i++) {
                    bool found = false;
                    for (int32_t code = q.qmin; code <= q.qmax && !found; code++)
                        found = y[i] == (q.num_levels > 0 ? q.scale[0] * q.levels[code - q.qmin]
                                                          : (float)(code - q.zero_point[0]) * q.scale[0]);
                    if (!isfinite(y[i]) || !isfinite(dx[i]) || !found)
                        fail_msg("%d bits, role %d, case %d: x = %g, y = %.9g, dx = %g", bits, role, k, (double)data[i],
                                 (double)y[i], (double)dx[i]);
                }
                struct mqb_param param = {.struct_size = sizeof(param)};
                for (uint32_t i = 0; quantizer->param(self, i, &param) == MQB_OK; i++) {
                    if (!isfinite(param.value[0]) || !isfinite(param.grad[0]))
                        fail_msg("%d bits, role %d, case %d: %s = %g, gradient %g", bits, role, k, param.name,
                                 (double)param.value[0], (double)param.grad[0]);
                    float next = param.value[0] - 100.0f * param.grad[0]; /* whatever step may follow */
                    param.value[0] = isfinite(next) ? next : param.value[0];
                }
                if (bits < 8) {
                    whole_prepare(quantizer, self, &scheme, data, n);
                    grid_run(quantizer, self, &scheme, n, data, NULL, y);
                    for (int64_t i = 0; i < n; i++)
                        assert_true(isfinite(y[i]));
                }
                quantizer->destroy(self);
            }
        }
    }
}

static inline void whole_check_refusals(const struct mqb_quantizer *quantizer)
{
    struct mqb_error error = MQB_ERROR_INIT;
    for (int role = MQB_ROLE_WEIGHT; role <= MQB_ROLE_ACTIVATION; role++) {
        for (int bits = 2; bits <= 8; bits++) {
            struct mqb_scheme scheme = whole_scheme(role, bits);
            assert_int_equal(whole_refusal(quantizer, &scheme, &error), MQB_OK);
            scheme.per_channel = 1;
            scheme.num_channels = 3;
            assert_int_equal(whole_refusal(quantizer, &scheme, &error), MQB_ERR_UNSUPPORTED);
            assert_non_null(strstr(error.text, "a channel"));
            scheme = whole_scheme(role, bits);
            scheme.symmetric = 0;
            assert_int_equal(whole_refusal(quantizer, &scheme, &error), bits == 8 ? MQB_OK : MQB_ERR_UNSUPPORTED);
            if (bits < 8)
                assert_non_null(strstr(error.text, "zero point"));
            scheme = whole_scheme(role, bits);
            scheme.pot_scale = 1;
            assert_int_equal(whole_refusal(quantizer, &scheme, &error), bits == 8 ? MQB_OK : MQB_ERR_UNSUPPORTED);
            if (bits < 8)
                assert_non_null(strstr(error.text, "power of two"));
        }
    }
    struct mqb_scheme scheme = whole_scheme(MQB_ROLE_WEIGHT, 4);
    scheme.qmin = 0;
    scheme.qmax = 15;
    assert_int_equal(whole_refusal(quantizer, &scheme, &error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "signed"));
    scheme = whole_scheme(MQB_ROLE_ACTIVATION, 4);
    scheme.qmax = 6;
    assert_int_equal(whole_refusal(quantizer, &scheme, &error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "15 codes"));
    scheme = whole_scheme(MQB_ROLE_BIAS, 8);
    assert_int_equal(whole_refusal(quantizer, &scheme, &error), MQB_ERR_UNSUPPORTED);
    const int bad_bits[] = {0, 1, 9, 40};
    for (int i = 0; i < 4; i++) {
        scheme = whole_scheme(MQB_ROLE_WEIGHT, 4);
        scheme.bits = bad_bits[i];
        assert_int_equal(whole_refusal(quantizer, &scheme, &error), MQB_ERR_UNSUPPORTED);
    }
}

/* At 8 bits: min-max of the calibration, whatever batches come later. */
static inline void whole_check_ends(const struct mqb_quantizer *quantizer)
{
    const float data[4] = {0.0f, 0.5f, 1.0f, 2.55f}, other[2] = {-9.0f, 9.0f};
    float y[4], dx[4];
    const float dy[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    struct mqb_param param = {.struct_size = sizeof(param)};
    for (int affine = 0; affine < 2; affine++) {
        struct mqb_scheme scheme = whole_scheme(MQB_ROLE_ACTIVATION, 8);
        scheme.symmetric = !affine;
        void *self = whole_calibrated(quantizer, &scheme, "", data, 4);
        whole_prepare(quantizer, self, &scheme, other, 2);
        assert_int_equal(quantizer->param(self, 0, &param), MQB_ERR_NOT_FOUND);
        struct mqb_qparams q = quantizer_qparams(quantizer, self);
        assert_true(q.num_levels == 0 && q.scale[0] == 2.55f / 255.0f);
        assert_int_equal(q.qmin, affine ? -128 : 0); /* adaptive sign */
        assert_int_equal(q.zero_point[0], affine ? -128 : 0);
        grid_run(quantizer, self, &scheme, 4, data, NULL, y);
        grid_run(quantizer, self, &scheme, 2, other, dy, dx);
        assert_true(y[0] == 0.0f && fabsf(y[1] - 0.5f) <= 1e-6f && fabsf(y[3] - 2.55f) <= 1e-6f && dx[0] == 0.0f &&
                    dx[1] == 0.0f);
        quantizer->destroy(self);
    }
    struct mqb_scheme scheme = whole_scheme(MQB_ROLE_WEIGHT, 8);
    scheme.pot_scale = 1;
    void *self = whole_calibrated(quantizer, &scheme, "", other, 2);
    assert_true(quantizer_qparams(quantizer, self).scale[0] == 0.0625f); /* 9 / 127.5 = 0.0706 */
    quantizer->destroy(self);
}

/* Saving and loading gives the same outputs; damage is refused. `tail` is the size of the algorithm's own part. */
static inline void whole_check_state(const struct mqb_quantizer *quantizer, const char *settings, size_t tail)
{
    enum { N = 40 };
    float x[N], y[N], z[N];
    unsigned char buffer[256];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int i = 0; i < N; i++)
        x[i] = (float)mqb_normal(3, 1, (uint64_t)i);
    for (int role = MQB_ROLE_WEIGHT; role <= MQB_ROLE_ACTIVATION; role++) {
        for (int nonnegative = 0; nonnegative <= role; nonnegative++) {
            size_t size = 0;
            const float zero = 0.0f;
            struct mqb_scheme scheme = whole_scheme(role, 4);
            for (int i = 0; i < N && nonnegative; i++)
                x[i] = fabsf(x[i]);
            void *first = whole_calibrated(quantizer, &scheme, settings, x, N);
            void *second = whole_calibrated(quantizer, &scheme, settings, &zero, 1),
                 *third = quantizer_create(quantizer, &scheme, settings);
            struct mqb_param param = {.struct_size = sizeof(param)};
            assert_int_equal(quantizer->param(first, 0, &param), MQB_OK);
            param.value[0] *= 0.8f;
            whole_prepare(quantizer, first, &scheme, x, N);
            assert_int_equal(quantizer->save(first, NULL, &size, &error), MQB_OK);
            assert_true(size > tail && size <= sizeof(buffer));
            size_t small = size - 1;
            assert_int_equal(quantizer->save(first, buffer, &small, &error), MQB_ERR_ARGUMENT);
            assert_int_equal(quantizer->save(first, buffer, &size, &error), MQB_OK);
            void *const loaded[] = {second, third};
            grid_run(quantizer, first, &scheme, N, x, NULL, y);
            for (int i = 0; i < 2; i++) {
                /* Calibrated with zeros it is non-negative; signs are the state's. */
                if (quantizer->load(loaded[i], buffer, size, &error) != MQB_OK) {
                    assert_true(role == MQB_ROLE_ACTIVATION && !nonnegative && i == 0);
                    continue;
                }
                grid_run(quantizer, loaded[i], &scheme, N, x, NULL, z);
                assert_memory_equal(y, z, sizeof(y));
            }
            assert_int_equal(quantizer->load(third, buffer, size - 4, &error), MQB_ERR_FORMAT);
            const size_t damaged[] = {0, 4, 8};
            for (int i = 0; i < 3; i++) {
                buffer[damaged[i]] ^= 0x41;
                assert_int_equal(quantizer->load(third, buffer, size, &error), MQB_ERR_FORMAT);
                buffer[damaged[i]] ^= 0x41;
            }
            memset(buffer + size - tail, 0xff, tail);
            assert_int_equal(quantizer->load(third, buffer, size, &error), MQB_ERR_FORMAT);
            grid_run(quantizer, third, &scheme, N, x, NULL, z);
            assert_memory_equal(y, z, sizeof(y)); /* a refused state changes nothing */
            quantizer->destroy(first);
            quantizer->destroy(second);
            quantizer->destroy(third);
        }
    }
    quantizer->destroy(NULL);
}

/* What is not finite is refused where it is seen, and passes through where it is not. */
static inline void whole_check_not_finite(const struct mqb_quantizer *quantizer)
{
    float x[4] = {1.0f, -2.0f, 3.0f, 0.5f}, y[4], dx[4];
    const float dy[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme weight = whole_scheme(MQB_ROLE_WEIGHT, 4), activation = whole_scheme(MQB_ROLE_ACTIVATION, 4);
    struct mqb_tensor_view view = whole_view(x, 4), empty = whole_view(x, 0);
    int32_t codes[4];
    void *self = whole_calibrated(quantizer, &weight, "", x, 4);
    assert_int_equal(quantizer->observe(self, &empty, &error), MQB_ERR_ARGUMENT);
    x[1] = INFINITY;
    assert_int_equal(quantizer->observe(self, &view, &error), MQB_ERR_NUMERIC);
    assert_int_equal(quantizer->prepare(self, &view, 1, &error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(error.text, "element 1"));
    assert_int_equal(quantizer->freeze(self, &view, codes, &error), MQB_ERR_NUMERIC);
    x[1] = -2.0f;
    struct mqb_param param = {.struct_size = sizeof(param)};
    assert_int_equal(quantizer->param(self, 0, &param), MQB_OK);
    param.value[0] = NAN;
    assert_int_equal(quantizer->prepare(self, &view, 1, &error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(error.text, "learning rate"));
    quantizer->destroy(self);

    self = quantizer_create(quantizer, &activation, "");
    assert_int_equal(quantizer->init(self, &error), MQB_ERR_ARGUMENT); /* no batch yet */
    assert_non_null(strstr(error.text, "\"t\""));
    quantizer->destroy(self);
    self = whole_calibrated(quantizer, &activation, "", x, 4);
    whole_prepare(quantizer, self, &activation, x, 4);
    const float odd[4] = {NAN, INFINITY, -INFINITY, FLT_MAX};
    grid_run(quantizer, self, &activation, 4, odd, NULL, y);
    assert_true(isnan(y[0]) && isfinite(y[1]) && y[2] == -y[1] && y[3] == y[1]);
    grid_run(quantizer, self, &activation, 4, odd, dy, dx);
    assert_true(dx[1] == 0.0f && dx[2] == 0.0f && dx[3] == 0.0f);
    quantizer->destroy(self);
}

#endif
