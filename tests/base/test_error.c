/* test_error.c - sentences, log lines, the nearest name. */
#include "base/base.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_fail_sentence_and_status(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(mqb_fail(&error, MQB_ERR_FORMAT, "%s:%d: wrong", "a.ini", 7), MQB_ERR_FORMAT);
    assert_string_equal(error.text, "a.ini:7: wrong");
    assert_int_equal(mqb_fail_prefix(&error, MQB_ERR_IO, "model %s", "m"), MQB_ERR_IO);
    assert_string_equal(error.text, "model m: a.ini:7: wrong");
    assert_int_equal(mqb_fail(NULL, MQB_ERR_MEMORY, "nobody listens"), MQB_ERR_MEMORY);
    assert_int_equal(mqb_fail_prefix(NULL, MQB_ERR_MEMORY, "nobody listens"), MQB_ERR_MEMORY);
}

/* A plugin of an older host may have a shorter buffer. */
static void test_fail_small_buffer_cut_within(void **state)
{
    (void)state;
    struct mqb_error *error = calloc(1, sizeof *error);
    assert_non_null(error);
    memset(error->text, '#', sizeof error->text);
    error->struct_size = (uint32_t)(offsetof(struct mqb_error, text) + 8);
    mqb_fail(error, MQB_ERR_IO, "0123456789");
    assert_string_equal(error->text, "0123456");
    assert_int_equal(error->text[8], '#');
    mqb_fail_prefix(error, MQB_ERR_IO, "ab");
    assert_string_equal(error->text, "ab: 012");
    assert_int_equal(error->text[8], '#');
    error->struct_size = 4;
    error->text[0] = '#';
    mqb_fail(error, MQB_ERR_IO, "x");
    assert_int_equal(error->text[0], '#');
    free(error);
}

static void test_fail_endless_sentence_cut(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    char text[3000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    mqb_fail(&error, MQB_ERR_IO, "%s", text);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
    mqb_fail_prefix(&error, MQB_ERR_IO, "%s", text);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
}

static void keep_line(void *context, int level, const char *line)
{
    snprintf(context, 64, "%d %s", level, line);
}

static void test_log_goes_to_sink(void **state)
{
    (void)state;
    char kept[64] = "";
    mqb_log_set_sink(keep_line, kept);
    mqb_log(MQB_LOG_WARNING, "%d of %d", 3, 4);
    mqb_log_set_sink(NULL, NULL);
    assert_string_equal(kept, "2 3 of 4");
}

static const char *const names[] = {"snpe_sim", "tensorrt_sim", "acl_sim", "lsq", "lsqplus", "pact", "recipe"};
#define NUM_NAMES (sizeof names / sizeof names[0])

static void test_nearest_misspelt_found(void **state)
{
    (void)state;
    assert_string_equal(mqb_nearest("snpe", names, NUM_NAMES), "snpe_sim");       /* a prefix */
    assert_string_equal(mqb_nearest("snep_sim", names, NUM_NAMES), "snpe_sim");   /* two letters swapped */
    assert_string_equal(mqb_nearest("tensort_sim", names, NUM_NAMES), "tensorrt_sim");
    assert_string_equal(mqb_nearest("lsw", names, NUM_NAMES), "lsq");
    assert_string_equal(mqb_nearest("lsq+", names, NUM_NAMES), "lsq");
    assert_string_equal(mqb_nearest("receipe", names, NUM_NAMES), "recipe");
    assert_string_equal(mqb_nearest("pact", names, NUM_NAMES), "pact");
}

static void test_nearest_unlike_or_empty_null(void **state)
{
    (void)state;
    assert_null(mqb_nearest("zzz", names, NUM_NAMES));
    assert_null(mqb_nearest("convolution", names, NUM_NAMES));
    assert_null(mqb_nearest("lsq", names, 0));
    assert_null(mqb_nearest("", names, NUM_NAMES));
}

static void test_nearest_very_long_harmless(void **state)
{
    (void)state;
    char text[5000];
    memset(text, 'q', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_null(mqb_nearest(text, names, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail_sentence_and_status),
        cmocka_unit_test(test_fail_small_buffer_cut_within),
        cmocka_unit_test(test_fail_endless_sentence_cut),
        cmocka_unit_test(test_log_goes_to_sink),
        cmocka_unit_test(test_nearest_misspelt_found),
        cmocka_unit_test(test_nearest_unlike_or_empty_null),
        cmocka_unit_test(test_nearest_very_long_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
