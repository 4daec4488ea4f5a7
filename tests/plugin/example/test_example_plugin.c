/* test_example_plugin.c - the third-party example, as built out of the tree, against numbers worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "plugin/registry.h"

#include <float.h>
#include <math.h>
#include <string.h>

static const struct mqb_host host = {
    .struct_size = sizeof(struct mqb_host),
    .abi_major = MQB_ABI_MAJOR,
    .abi_minor = MQB_ABI_MINOR,
    .fail = mqb_fail,
    .log = mqb_log,
    .allocate = mqb_allocate,
    .deallocate = mqb_deallocate,
    .option_int = mqb_option_int,
    .option_real = mqb_option_real,
    .option_text = mqb_option_text,
    .uniform = mqb_uniform,
};

struct fixture {
    struct mqb_registry *registry;
    const struct mqb_entry *entry;
    const struct mqb_quantizer *quantizer;
    struct mqb_options *options;
    void *self;
    struct mqb_error error;
};

static int setup(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.error = MQB_ERROR_INIT};
    *state = &fixture;
    if (mqb_registry_create(&host, &fixture.registry, &fixture.error) ||
        mqb_registry_add_manifest(fixture.registry, MQB_EXAMPLE_MANIFEST, &fixture.error) ||
        mqb_registry_find(fixture.registry, MQB_KIND_QUANTIZER, "roundtrip", &fixture.entry, &fixture.error)) {
        print_error("%s\n", fixture.error.text);
        return -1;
    }
    fixture.quantizer = fixture.entry->vtable;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->quantizer) {
        fixture->quantizer->destroy(fixture->self);
    }
    mqb_options_destroy(fixture->options);
    mqb_registry_destroy(fixture->registry);
    return 0;
}

static mqb_status set_options(struct fixture *fixture, const char *clip)
{
    const char *key = "clip";
    mqb_options_destroy(fixture->options);
    fixture->options = NULL;
    return mqb_registry_options(fixture->registry, fixture->entry, fixture->quantizer->options, fixture->quantizer->num_options,
                                &key, &clip, clip != NULL, &fixture->options, &fixture->error);
}

static struct mqb_scheme scheme_make(int32_t qmin, int32_t qmax, int symmetric, int32_t num_channels)
{
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .role = MQB_ROLE_WEIGHT, .bits = 4};
    scheme.qmin = qmin;
    scheme.qmax = qmax;
    scheme.symmetric = symmetric != 0;
    scheme.per_channel = num_channels > 1;
    scheme.num_channels = num_channels;
    return scheme;
}

static mqb_status observe(struct fixture *fixture, const float *data, int64_t channels, int64_t size)
{
    struct mqb_tensor_view view = {.struct_size = sizeof(view), .rank = 2, .num_elements = channels * size, .data = data};
    view.dims[0] = channels;
    view.dims[1] = size;
    return fixture->quantizer->observe(fixture->self, &view, &fixture->error);
}

static void calibrate(struct fixture *fixture, const struct mqb_scheme *scheme, const char *clip, const float *data,
                      int64_t size)
{
    assert_int_equal(set_options(fixture, clip), MQB_OK);
    assert_int_equal(fixture->quantizer->create(&host, scheme, fixture->options, &fixture->self, &fixture->error), MQB_OK);
    assert_int_equal(observe(fixture, data, scheme->num_channels, size), MQB_OK);
    assert_int_equal(fixture->quantizer->init(fixture->self, &fixture->error), MQB_OK);
}

static void forward(struct fixture *fixture, int32_t channel, const float *x, float *y, int64_t size)
{
    const struct mqb_slice slice = {.struct_size = sizeof(slice), .channel = channel, .size = size, .x = x, .y = y};
    fixture->quantizer->forward(fixture->self, &slice);
}

static void test_example_per_channel_rounds_to_each_channels_grid(void **state)
{
    static const float x[2][4] = {{7.0f, -3.5f, 0.4f, 2.5f}, {-14.0f, 3.0f, 5.0f, 0.9f}};
    static const float expected[2][4] = {{7.0f, -4.0f, 0.0f, 2.0f}, {-14.0f, 4.0f, 4.0f, 0.0f}};
    struct fixture *fixture = *state;
    struct mqb_scheme scheme = scheme_make(-8, 7, 1, 2);
    struct mqb_qparams qparams = {.struct_size = sizeof(qparams)};
    calibrate(fixture, &scheme, NULL, x[0], 4);
    for (int c = 0; c < 2; c++) {
        float y[4];
        forward(fixture, c, x[c], y, 4);
        for (int i = 0; i < 4; i++) {
            assert_true(y[i] == expected[c][i]);
        }
    }
    assert_int_equal(fixture->quantizer->qparams(fixture->self, &qparams, &fixture->error), MQB_OK);
    assert_int_equal(qparams.num_channels, 2);
    assert_true(qparams.scale[0] == 1.0f && qparams.scale[1] == 2.0f);
    assert_int_equal(qparams.zero_point[0], 0);
    assert_int_equal(qparams.qmin, -8);
    assert_int_equal(qparams.qmax, 7);
}

static void test_example_asymmetric_codes_keep_zero_in_the_middle(void **state)
{
    static const float x[] = {-127.0f, 63.5f, 0.2f, 300.0f, -300.0f};
    static const float expected[] = {-127.0f, 64.0f, 0.0f, 127.0f, -128.0f};
    struct fixture *fixture = *state;
    struct mqb_scheme scheme = scheme_make(0, 255, 0, 1);
    struct mqb_qparams qparams = {.struct_size = sizeof(qparams)};
    float y[5];
    calibrate(fixture, &scheme, NULL, x, 3);
    forward(fixture, 0, x, y, 5);
    for (int i = 0; i < 5; i++) {
        assert_true(y[i] == expected[i]);
    }
    assert_int_equal(fixture->quantizer->qparams(fixture->self, &qparams, &fixture->error), MQB_OK);
    assert_int_equal(qparams.zero_point[0], 128);
    assert_true(qparams.scale[0] == 1.0f);
}

static void test_example_gradient_passes_where_nothing_is_clamped(void **state)
{
    static const float x[] = {14.0f, 7.0f, 7.1f, -8.0f, -8.1f, 0.0f};
    static const float dy[] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f};
    static const float expected[] = {0.0f, 2.0f, 0.0f, 4.0f, 0.0f, 6.0f};
    struct fixture *fixture = *state;
    struct mqb_scheme scheme = scheme_make(-8, 7, 1, 1);
    float y[6], dx[6];
    calibrate(fixture, &scheme, "0.5", x, 6); /* half of 14 is kept: the scale is 1 */
    forward(fixture, 0, x, y, 6);
    assert_true(y[0] == 7.0f && y[2] == 7.0f && y[4] == -8.0f);
    struct mqb_slice slice = {.struct_size = sizeof(slice), .size = 6, .x = x, .dy = dy, .dx = dx};
    fixture->quantizer->backward(fixture->self, &slice);
    for (int i = 0; i < 6; i++) {
        assert_true(dx[i] == expected[i]);
    }
}

static void test_example_zeros_and_one_element_stay_finite(void **state)
{
    static const float zeros[8];
    struct fixture *fixture = *state;
    struct mqb_scheme scheme = scheme_make(-8, 7, 1, 1);
    struct mqb_qparams qparams = {.struct_size = sizeof(qparams)};
    float y[8];
    calibrate(fixture, &scheme, NULL, zeros, 8);
    forward(fixture, 0, zeros, y, 8);
    for (int i = 0; i < 8; i++) {
        assert_true(y[i] == 0.0f);
    }
    assert_int_equal(fixture->quantizer->qparams(fixture->self, &qparams, &fixture->error), MQB_OK);
    assert_true(qparams.scale[0] == FLT_EPSILON);
}

static void test_example_bad_input_is_refused_in_words(void **state)
{
    const float bad[2] = {1.0f, NAN};
    struct fixture *fixture = *state;
    struct mqb_scheme scheme = scheme_make(-8, 7, 1, 1);
    assert_int_equal(set_options(fixture, NULL), MQB_OK);
    assert_int_equal(fixture->quantizer->create(&host, &scheme, fixture->options, &fixture->self, &fixture->error), MQB_OK);
    assert_int_equal(observe(fixture, bad, 1, 2), MQB_ERR_NUMERIC);
    assert_non_null(strstr(fixture->error.text, "element 1 is not finite"));
    scheme.pot_scale = 1;
    void *other = NULL;
    assert_int_equal(fixture->quantizer->create(&host, &scheme, fixture->options, &other, &fixture->error),
                     MQB_ERR_UNSUPPORTED);
    assert_null(other);
    assert_non_null(strstr(fixture->error.text, "powers of two"));
    assert_int_equal(set_options(fixture, "2"), MQB_ERR_ARGUMENT);
    assert_non_null(
        strstr(fixture->error.text, "--set: [quantizer roundtrip]: clip = \"2\" is out of range; give a number from 0.1 to 1"));
}

static void test_example_state_survives_save_and_load(void **state)
{
    static const float x[4] = {3.0f, -0.7f, 0.1f, 21.0f};
    struct fixture *fixture = *state;
    struct mqb_scheme scheme = scheme_make(-8, 7, 1, 1);
    unsigned char buffer[64];
    size_t size = 0;
    void *copy = NULL;
    float y[4], z[4];
    calibrate(fixture, &scheme, NULL, x, 4);
    assert_int_equal(fixture->quantizer->save(fixture->self, NULL, &size, &fixture->error), MQB_OK);
    assert_true(size > 0 && size <= sizeof(buffer));
    assert_int_equal(fixture->quantizer->save(fixture->self, buffer, &size, &fixture->error), MQB_OK);
    assert_int_equal(fixture->quantizer->create(&host, &scheme, fixture->options, &copy, &fixture->error), MQB_OK);
    assert_int_equal(fixture->quantizer->load(copy, buffer, size - 1, &fixture->error), MQB_ERR_FORMAT);
    assert_int_equal(fixture->quantizer->load(copy, buffer, size, &fixture->error), MQB_OK);
    forward(fixture, 0, x, y, 4);
    const struct mqb_slice slice = {.struct_size = sizeof(slice), .size = 4, .x = x, .y = z};
    fixture->quantizer->forward(copy, &slice);
    fixture->quantizer->destroy(copy);
    assert_memory_equal(y, z, sizeof(y));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_example_per_channel_rounds_to_each_channels_grid),
        TEST(test_example_asymmetric_codes_keep_zero_in_the_middle),
        TEST(test_example_gradient_passes_where_nothing_is_clamped),
        TEST(test_example_zeros_and_one_element_stay_finite),
        TEST(test_example_bad_input_is_refused_in_words),
        TEST(test_example_state_survives_save_and_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
