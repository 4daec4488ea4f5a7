/*
 * test_lsq.c - the LSQ plugin: closed forms, edges, refusals. Its replay of reference vectors: tests/golden.
 */
#include "quant/quant.h"

#include <mqbench/numeric.h>

#include <dlfcn.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct mqb_quantizer *lsq;
static void *library;

static void count_lines(void *context, int level, const char *line)
{
    (void)level, (void)line;
    ++*(int *)context;
}

static int num_lines; /* of log */

static int setup(void **state)
{
    (void)state;
    mqb_log_set_sink(count_lines, &num_lines);
    library = dlopen(MQB_PLUGIN_DIR "/lsq.so", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        printf("%s\n", dlerror());
        return -1;
    }
    const struct mqb_plugin_entry *entry = dlsym(library, MQB_PLUGIN_SYMBOL);
    lsq = entry ? entry->components[0].vtable : NULL;
    return lsq ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dlclose(library);
}

/* ---- a point with its quantizer ---- */

/* "name=value ..." over the defaults. */
static struct mqb_options *options_of(const char *settings)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_options *options;
    char copy[256], *rest = copy;
    assert_int_equal(mqb_options_create(lsq->options, lsq->num_options, &options, &error), MQB_OK);
    snprintf(copy, sizeof(copy), "%s", settings);
    for (char *word = strtok_r(rest, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(word, '=');
        *equals = '\0';
        if (mqb_options_set(options, word, equals + 1, "test", &error) != MQB_OK)
            fail_msg("%s", error.text);
    }
    return options;
}

static void *create(const struct mqb_scheme *scheme, const char *settings)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_options *options = options_of(settings);
    void *self = NULL;
    if (lsq->create(mqb_host_table(), scheme, options, &self, &error) != MQB_OK)
        fail_msg("%s", error.text);
    mqb_options_destroy(options);
    return self;
}

static void observe_and_init(void *self, const struct mqb_tensor_view *x)
{
    struct mqb_error error = MQB_ERROR_INIT;
    if (lsq->observe(self, x, &error) != MQB_OK || lsq->init(self, &error) != MQB_OK)
        fail_msg("%s", error.text);
}

static struct mqb_param param_of(void *self, uint32_t index)
{
    struct mqb_param param = {.struct_size = sizeof(param)};
    assert_int_equal(lsq->param(self, index, &param), MQB_OK);
    return param;
}

/* Slices of a step: one a channel, or two uneven ones a tensor, so that the sums are joined. */
static void run(const void *self, const struct mqb_scheme *scheme, int64_t n, const float *x, const float *dy, float *out,
                double *sums)
{
    int64_t num = scheme->per_channel ? scheme->num_channels : 2, size = n / num;
    for (int64_t i = 0; i < num; i++) {
        int64_t begin = scheme->per_channel ? i * size : i * (n / 3), end = scheme->per_channel ? begin + size : i ? n : n / 3;
        int32_t channel = scheme->per_channel ? (int32_t)i : 0;
        struct mqb_slice slice = {
            .struct_size = sizeof(slice), .channel = channel, .size = end - begin, .offset = (uint64_t)begin, .x = x + begin};
        if (dy) {
            slice.dy = dy + begin;
            slice.dx = out + begin;
            slice.sums = sums + 2 * channel;
            lsq->backward(self, &slice);
        } else {
            slice.y = out + begin;
            lsq->forward(self, &slice);
        }
    }
}

/* ---- closed forms and edges ---- */

enum { N = 1000 };

static void fill(float *x, uint64_t stream, float factor)
{
    for (int i = 0; i < N; i++)
        x[i] = factor * (float)mqb_normal(3, stream, (uint64_t)i);
}

static struct mqb_scheme scheme_of(int variant, int bits)
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

static struct mqb_tensor_view view_of(const float *x)
{
    struct mqb_tensor_view view = {.struct_size = sizeof(view), .rank = 2, .dims = {4, N / 4}, .num_elements = N, .data = x};
    return view;
}

static void test_lsq_codes_and_outputs_agree_exactly(void **state)
{
    (void)state;
    static float x[N], y[N];
    static int32_t codes[N];
    struct mqb_error error = MQB_ERROR_INIT;
    fill(x, 1, 0.3f);
    for (int variant = 0; variant < 8; variant++) {
        for (int bits = 2; bits <= 8; bits += 3) {
            struct mqb_scheme scheme = scheme_of(variant, bits);
            struct mqb_tensor_view view = view_of(x);
            struct mqb_qparams q = {.struct_size = sizeof(q)};
            void *self = create(&scheme, "");
            observe_and_init(self, &view);
            param_of(self, 0).value[0] *= 1.037f;
            assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_OK);
            run(self, &scheme, N, x, NULL, y, NULL);
            assert_int_equal(lsq->freeze(self, &view, codes, &error), MQB_OK);
            assert_int_equal(lsq->qparams(self, &q, &error), MQB_OK);
            assert_int_equal(q.num_channels, scheme.num_channels);
            for (int i = 0; i < N; i++) {
                int c = scheme.per_channel ? i / (N / 4) : 0, exponent;
                assert_in_range(codes[i] + 1000, scheme.qmin + 1000, scheme.qmax + 1000);
                assert_true(y[i] == (float)(codes[i] - q.zero_point[c]) * q.scale[c]);
                if (scheme.pot_scale)
                    assert_true(frexpf(q.scale[c], &exponent) == 0.5f);
            }
            lsq->destroy(self);
        }
    }
}

static void test_lsq_forward_codes_give_every_bit_of_forward(void **state)
{
    (void)state;
    static float x[N], y[N], back[N];
    static uint8_t codes[N];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int variant = 0; variant < 8; variant++) {
        for (int bits = 2; bits <= 8; bits += 3) {
            struct mqb_scheme scheme = scheme_of(variant, bits);
            struct mqb_tensor_view view = view_of(x);
            struct mqb_qparams q = {.struct_size = sizeof(q)};
            fill(x, 1, 0.3f);
            void *self = create(&scheme, "");
            observe_and_init(self, &view);
            x[3] = INFINITY;
            x[4] = -INFINITY;
            x[5] = -0.0f;
            param_of(self, 0).value[0] *= 1.037f;
            assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_OK);
            assert_int_equal(lsq->qparams(self, &q, &error), MQB_OK);
            struct mqb_slice slice = {.struct_size = sizeof(slice), .size = N, .x = x};
            int32_t given = lsq->forward_codes(self, &slice, codes);
            assert_int_equal(given, !scheme.per_channel); /* activations have one scale */
            if (given) {
                run(self, &scheme, N, x, NULL, y, NULL);
                for (int i = 0; i < N; i++)
                    back[i] = q.scale[0] * (float)(codes[i] + q.qmin - q.zero_point[0]);
                assert_memory_equal(back, y, sizeof(y));
                x[N - 1] = NAN;
                assert_int_equal(lsq->forward_codes(self, &slice, codes), 0);
            }
            lsq->destroy(self);
        }
    }
}

static void test_lsq_in_place_equals_out_of_place(void **state)
{
    (void)state;
    static float x[N], dy[N], y[N], dx[N];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int variant = 0; variant < 4; variant++) {
        struct mqb_scheme scheme = scheme_of(variant, 4);
        double sums[8] = {0}, again[8] = {0};
        fill(x, 1, 1.0f);
        fill(dy, 2, 1.0f);
        struct mqb_tensor_view view = view_of(x);
        void *self = create(&scheme, "");
        observe_and_init(self, &view);
        assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_OK);
        run(self, &scheme, N, x, NULL, y, NULL);
        run(self, &scheme, N, x, dy, dx, sums);
        run(self, &scheme, N, x, dy, dy, again);
        assert_memory_equal(dy, dx, sizeof(dx));
        assert_memory_equal(sums, again, sizeof(sums));
        run(self, &scheme, N, x, NULL, x, NULL);
        assert_memory_equal(x, y, sizeof(y));
        /* On the grid already: quantizing again changes nothing, unless a level's own rounding error moves it. */
        run(self, &scheme, N, x, NULL, x, NULL);
        assert_memory_equal(x, y, sizeof(y));
        lsq->destroy(self);
    }
}

/* ds by its definition in double, per tensor: sum dy * d/ds of (clip(x/s + z) - z) * s with rounding passed straight through.
 */
static void test_lsq_scale_gradient_is_that_of_the_definition(void **state)
{
    (void)state;
    static float x[N], dy[N], dx[N];
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme scheme = scheme_of(0, 4);
    fill(x, 1, 1.0f);
    fill(dy, 2, 1.0f);
    struct mqb_tensor_view view = view_of(x);
    for (int scaled = 0; scaled < 2; scaled++) {
        void *self = create(&scheme, scaled ? "" : "gradient_scale=off");
        double sums[2] = {0}, ds = 0, dz = 0;
        observe_and_init(self, &view);
        float s = param_of(self, 0).value[0] = 0.21f, z = param_of(self, 1).value[0] = 6.3f;
        assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_OK);
        run(self, &scheme, N, x, dy, dx, sums);
        lsq->reduce(self, sums);
        z = rintf(z);
        for (int i = 0; i < N; i++) {
            double v = (double)x[i] / (double)s + (double)z, code = rint(v);
            bool below = code<0, above = code> 15;
            ds += (double)dy[i] * (below ? -(double)z : above ? 15 - (double)z : code - v);
            dz += below || above ? -(double)dy[i] * (double)s : 0;
            assert_true(dx[i] == (below || above ? 0.0f : dy[i]));
        }
        double g = scaled ? 1 / sqrt(15.0 * N) : 1.0;
        assert_true(fabs((double)param_of(self, 0).grad[0] - g * ds) <= 1e-5 * g * N);
        assert_true(fabs((double)param_of(self, 1).grad[0] - g * dz) <= 1e-6 * g * N);
        lsq->destroy(self);
    }
}

static void test_lsq_auto_start_searches_at_few_bits(void **state)
{
    (void)state;
    static float x[N], y[N];
    struct mqb_error error = MQB_ERROR_INIT;
    double error_of[2];
    fill(x, 5, 1.0f);
    for (int i = 0; i < 2; i++) {
        struct mqb_scheme scheme = scheme_of(1, 3);
        struct mqb_tensor_view view = view_of(x);
        void *self = create(&scheme, i ? "weight_init=minmax" : "");
        observe_and_init(self, &view);
        assert_int_equal(lsq->prepare(self, &view, 0, &error), MQB_OK);
        run(self, &scheme, N, x, NULL, y, NULL);
        error_of[i] = 0;
        for (int k = 0; k < N; k++)
            error_of[i] += (double)(y[k] - x[k]) * (double)(y[k] - x[k]);
        lsq->destroy(self);
    }
    assert_true(error_of[0] < 0.8 * error_of[1]);
}

static void test_lsq_pot_zero_point_goes_with_rounded_scale(void **state)
{
    (void)state;
    static float x[N];
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme scheme = scheme_of(4, 4); /* power of two, affine */
    for (int i = 0; i < N; i++)
        x[i] = -1.0f + 5.0f * (float)i / (float)(N - 1);
    struct mqb_tensor_view view = view_of(x);
    struct mqb_qparams q = {.struct_size = sizeof(q)};
    void *self = create(&scheme, "weight_init=minmax");
    observe_and_init(self, &view);
    assert_int_equal(lsq->prepare(self, &view, 0, &error), MQB_OK);
    assert_int_equal(lsq->qparams(self, &q, &error), MQB_OK);
    assert_true(param_of(self, 0).value[0] == 5.0f / 15.0f);
    assert_true(q.scale[0] == 0.25f);
    assert_int_equal(q.zero_point[0], 4); /* 1 / 0.25; 1 / (5 / 15) would be 3 */
    lsq->destroy(self);
}

static void test_lsq_nan_input_stays_nan_and_infinities_clip(void **state)
{
    (void)state;
    static float x[N], y[N];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int variant = 0; variant < 4; variant++) {
        struct mqb_scheme scheme = scheme_of(variant, 8);
        fill(x, 1, 1.0f);
        struct mqb_tensor_view view = view_of(x);
        struct mqb_qparams q = {.struct_size = sizeof(q)};
        void *self = create(&scheme, "");
        observe_and_init(self, &view);
        assert_int_equal(lsq->prepare(self, &view, 0, &error), MQB_OK);
        assert_int_equal(lsq->qparams(self, &q, &error), MQB_OK);
        x[0] = NAN;
        x[1] = INFINITY;
        x[2] = -FLT_MAX;
        run(self, &scheme, N, x, NULL, y, NULL);
        assert_true(isnan(y[0]));
        assert_true(y[1] == (float)(q.qmax - q.zero_point[0]) * q.scale[0]);
        assert_true(y[2] == (float)(q.qmin - q.zero_point[0]) * q.scale[0]);
        int32_t codes[N];
        assert_int_equal(lsq->freeze(self, &view, codes, &error), MQB_ERR_NUMERIC);
        assert_non_null(strstr(error.text, "element 0"));
        lsq->destroy(self);
    }
}

static void test_lsq_scale_flip_and_divergence_are_handled(void **state)
{
    (void)state;
    static float x[N];
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme scheme = scheme_of(0, 8);
    fill(x, 1, 1.0f);
    struct mqb_tensor_view view = view_of(x);
    void *self = create(&scheme, "");
    struct mqb_param scale = param_of(self, 0), zero = param_of(self, 1);
    observe_and_init(self, &view);
    num_lines = 0;
    scale.value[0] = -0.5f;
    assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_OK);
    assert_true(scale.value[0] == 0.5f);
    scale.value[0] = -1e-30f;
    zero.value[0] = 1000.0f;
    assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_OK);
    assert_int_equal(num_lines, 1); /* told once */
    assert_true(scale.value[0] == FLT_EPSILON && zero.value[0] == 255.0f);
    scale.value[0] = NAN;
    assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(error.text, "scale of channel 0"));
    scale.value[0] = 1.0f;
    zero.value[0] = INFINITY;
    assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(error.text, "zero point"));
    lsq->destroy(self);
}

static void test_lsq_params_follow_options(void **state)
{
    (void)state;
    struct mqb_scheme affine = scheme_of(0, 4), symmetric = scheme_of(1, 4);
    struct mqb_param param = {.struct_size = sizeof(param)};
    void *self = create(&affine, "lr_multiplier=0.1");
    assert_string_equal(param_of(self, 1).name, "zero_point");
    assert_true(param_of(self, 0).lr_multiplier == 0.1f && param_of(self, 0).weight_decay_multiplier == 0.0f);
    assert_int_equal(lsq->param(self, 2, &param), MQB_ERR_NOT_FOUND);
    lsq->destroy(self);
    self = create(&affine, "learn_zero_point=off compat=paper");
    assert_true(param_of(self, 0).weight_decay_multiplier == 1.0f);
    assert_int_equal(lsq->param(self, 1, &param), MQB_ERR_NOT_FOUND);
    lsq->destroy(self);
    self = create(&symmetric, "");
    assert_int_equal(lsq->param(self, 1, &param), MQB_ERR_NOT_FOUND);
    lsq->destroy(self);
}

static void test_lsq_state_round_trip_and_damage(void **state)
{
    (void)state;
    static float x[N], y[N], z[N];
    static unsigned char buffer[1024];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int variant = 0; variant < 4; variant++) {
        struct mqb_scheme scheme = scheme_of(variant, 4);
        size_t size = 0;
        fill(x, 1, 1.0f);
        struct mqb_tensor_view view = view_of(x);
        void *first = create(&scheme, ""), *second = create(&scheme, "");
        observe_and_init(first, &view);
        assert_int_equal(lsq->save(first, NULL, &size, &error), MQB_OK);
        assert_true(size > 0 && size <= sizeof(buffer));
        size_t small = size - 1;
        assert_int_equal(lsq->save(first, buffer, &small, &error), MQB_ERR_ARGUMENT);
        assert_int_equal(lsq->save(first, buffer, &size, &error), MQB_OK);
        assert_int_equal(lsq->load(second, buffer, size, &error), MQB_OK);
        assert_int_equal(lsq->prepare(first, &view, 0, &error), MQB_OK);
        assert_int_equal(lsq->prepare(second, &view, 0, &error), MQB_OK);
        run(first, &scheme, N, x, NULL, y, NULL);
        run(second, &scheme, N, x, NULL, z, NULL);
        assert_memory_equal(y, z, sizeof(y));
        assert_int_equal(lsq->load(second, buffer, size - 4, &error), MQB_ERR_FORMAT);
        buffer[0] ^= 1;
        assert_int_equal(lsq->load(second, buffer, size, &error), MQB_ERR_FORMAT);
        buffer[0] ^= 1;
        buffer[8] ^= 0x40; /* qmin */
        assert_int_equal(lsq->load(second, buffer, size, &error), MQB_ERR_FORMAT);
        buffer[8] ^= 0x40;
        memset(buffer + size - 4, 0xff, 4); /* a NaN */
        assert_int_equal(lsq->load(second, buffer, size, &error), MQB_ERR_FORMAT);
        lsq->destroy(first);
        lsq->destroy(second);
    }
}

static void test_lsq_impossible_schemes_are_refused(void **state)
{
    (void)state;
    struct mqb_options *options = options_of("");
    struct mqb_error error = MQB_ERROR_INIT;
    void *self;
    struct mqb_scheme scheme = scheme_of(0, 8);
    scheme.role = MQB_ROLE_BIAS;
    assert_int_equal(lsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    scheme = scheme_of(0, 8);
    scheme.bits = 9;
    assert_int_equal(lsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    scheme = scheme_of(0, 8);
    scheme.num_channels = 3;
    assert_int_equal(lsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_ARGUMENT);
    assert_null(self);
    lsq->destroy(NULL);
    mqb_options_destroy(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lsq_codes_and_outputs_agree_exactly),
        cmocka_unit_test(test_lsq_forward_codes_give_every_bit_of_forward),
        cmocka_unit_test(test_lsq_in_place_equals_out_of_place),
        cmocka_unit_test(test_lsq_scale_gradient_is_that_of_the_definition),
        cmocka_unit_test(test_lsq_auto_start_searches_at_few_bits),
        cmocka_unit_test(test_lsq_pot_zero_point_goes_with_rounded_scale),
        cmocka_unit_test(test_lsq_nan_input_stays_nan_and_infinities_clip),
        cmocka_unit_test(test_lsq_scale_flip_and_divergence_are_handled),
        cmocka_unit_test(test_lsq_params_follow_options),
        cmocka_unit_test(test_lsq_state_round_trip_and_damage),
        cmocka_unit_test(test_lsq_impossible_schemes_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
