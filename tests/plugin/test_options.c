/* test_options.c - options: types, ranges, defaults, and what is said of a wrong one. */
#include "plugin/fixture.h"

#include <locale.h>

static const struct mqb_option_spec specs[] = {
    {"gradient_scale", MQB_OPTION_BOOL, 0, "on", 0, 0, NULL, "scale the step's gradient"},
    {"bits", MQB_OPTION_INT, 0, "8", 2, 8, NULL, "width of the codes"},
    {"alpha", MQB_OPTION_REAL, 0, "0.4", 0.01, 0.5, NULL, NULL},
    {"compat", MQB_OPTION_CHOICE, 0, "none", 0, 0, "none|paper|toolkit", "whose behaviour to imitate"},
    {"label", MQB_OPTION_TEXT, 0, "", 0, 0, NULL, "any text"},
};
#define NUM_SPECS (sizeof(specs) / sizeof(specs[0]))

static struct mqb_options *create(void)
{
    struct mqb_options *options = NULL;
    struct mqb_error error = MQB_ERROR_INIT;
    if (mqb_options_create(specs, NUM_SPECS, &options, &error)) {
        fail_msg("%s", error.text);
    }
    return options;
}

static void test_options_untouched_have_their_defaults(void **state)
{
    (void)state;
    struct mqb_options *options = create();
    assert_int_equal(mqb_option_int(options, "gradient_scale"), 1);
    assert_int_equal(mqb_option_int(options, "bits"), 8);
    assert_true(mqb_option_real(options, "alpha") == 0.4);
    assert_string_equal(mqb_option_text(options, "compat"), "none");
    assert_string_equal(mqb_option_text(options, "label"), "");
    mqb_options_destroy(options);
}

static void test_options_set_replaces_the_value(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value;
        int64_t integer;
        double real;
    } cases[] = {
        {"bits", "2", 2, 2.0},           {"bits", "8", 8, 8.0},          {"alpha", "0.01", 0, 0.01},
        {"alpha", "5e-1", 0, 0.5},       {"gradient_scale", "no", 0, 0}, {"gradient_scale", "true", 1, 0},
        {"gradient_scale", "off", 0, 0}, {"gradient_scale", "1", 1, 0},  {"compat", "toolkit", 2, 0},
        {"label", "some words", 0, 0},
    };
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_options *options = create();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(mqb_options_set(options, cases[i].name, cases[i].value, "here", &error), MQB_OK);
        assert_int_equal(mqb_option_int(options, cases[i].name), cases[i].integer);
        assert_true(mqb_option_real(options, cases[i].name) == cases[i].real);
        assert_string_equal(mqb_option_text(options, cases[i].name), cases[i].value);
    }
    mqb_options_destroy(options);
}

static void test_options_wrong_value_is_refused_with_place_and_range(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *says;
    } cases[] = {
        {"bits", "9", "bits = \"9\" is out of range; give a whole number from 2 to 8 (width of the codes)"},
        {"bits", "1", "out of range"},
        {"bits", "4.5", "is not a whole number; give a whole number from 2 to 8"},
        {"bits", "", "bits = \"\" is not a whole number"},
        {"bits", "8 bits", "is not a whole number"},
        {"bits", "99999999999999999999", "is not a whole number"},
        {"alpha", "0.6", "alpha = \"0.6\" is out of range; give a number from 0.01 to 0.5"},
        {"alpha", "nan", "is not a number"},
        {"alpha", "inf", "is not a number"},
        {"alpha", "0,4", "is not a number"},
        {"gradient_scale", "maybe", "is neither on nor off; give on or off"},
        {"compat", "papre", "is not a choice (did you mean \"paper\"?); give one of none, paper, toolkit"},
        {"compat", "xyzzy", "is not a choice; give one of none, paper, toolkit"},
        {"gradient_scal", "on", "there is no option \"gradient_scal\""},
        {"gradient_scal", "on", "did you mean \"gradient_scale\"?"},
        {"xyzzy", "on", "options here are gradient_scale, bits, alpha, compat, label"},
    };
    struct mqb_options *options = create();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mqb_error error = MQB_ERROR_INIT;
        assert_int_equal(mqb_options_set(options, cases[i].name, cases[i].value, "m.ini:7", &error), MQB_ERR_ARGUMENT);
        assert_memory_equal(error.text, "m.ini:7: ", 9);
        assert_contains(error.text, cases[i].says);
    }
    assert_int_equal(mqb_option_int(options, "bits"), 8);
    assert_string_equal(mqb_option_text(options, "compat"), "none");
    mqb_options_destroy(options);
}

static void test_options_unknown_name_reads_as_nothing(void **state)
{
    (void)state;
    struct mqb_options *options = create();
    assert_int_equal(mqb_option_int(options, "xyzzy"), 0);
    assert_true(mqb_option_real(options, "xyzzy") == 0.0);
    assert_string_equal(mqb_option_text(options, "xyzzy"), "");
    assert_string_equal(mqb_option_text(NULL, "xyzzy"), "");
    mqb_options_destroy(options);
}

static void test_options_none_declared_takes_none(void **state)
{
    (void)state;
    struct mqb_options *options = NULL;
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(mqb_options_create(NULL, 0, &options, &error), MQB_OK);
    assert_int_equal(mqb_options_set(options, "x", "1", "--set", &error), MQB_ERR_ARGUMENT);
    assert_contains(error.text, "--set: there is no option \"x\"; none are taken here");
    mqb_options_destroy(options);
}

static void test_options_real_ignores_the_locale(void **state)
{
    (void)state;
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8")) {
        print_message("no German locale here; its decimal comma is not tried\n");
        skip();
    }
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_options *options = create();
    mqb_status status = mqb_options_set(options, "alpha", "0.25", "here", &error);
    double value = mqb_option_real(options, "alpha");
    setlocale(LC_NUMERIC, "C");
    mqb_options_destroy(options);
    assert_int_equal(status, MQB_OK);
    assert_true(value == 0.25);
}

static void test_options_wrong_specs_are_the_components_fault(void **state)
{
    (void)state;
    static const struct {
        struct mqb_option_spec spec;
        const char *says;
    } cases[] = {
        {{NULL, MQB_OPTION_INT, 0, "1", 0, 9, NULL, NULL}, "option specification 0 has no name"},
        {{"a", 17, 0, "1", 0, 9, NULL, NULL}, "option \"a\" has an unknown type"},
        {{"a", MQB_OPTION_INT, 0, NULL, 0, 9, NULL, NULL}, "option \"a\" has no default value"},
        {{"a", MQB_OPTION_INT, 0, "10", 0, 9, NULL, NULL}, "the component's own default: a = \"10\" is out of range"},
        {{"a", MQB_OPTION_CHOICE, 0, "x", 0, 0, NULL, NULL}, "option \"a\" is a choice without choices"},
        {{"a", MQB_OPTION_CHOICE, 0, "x", 0, 0, "y|z", NULL}, "the component's own default: a = \"x\" is not a choice"},
        {{"library", MQB_OPTION_TEXT, 0, "x", 0, 0, NULL, NULL}, "option \"library\" has a name that manifests use"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mqb_options *options = NULL;
        struct mqb_error error = MQB_ERROR_INIT;
        assert_int_equal(mqb_options_create(&cases[i].spec, 1, &options, &error), MQB_ERR_INTERNAL);
        assert_null(options);
        assert_contains(error.text, cases[i].says);
    }
    const struct mqb_option_spec twins[] = {specs[1], specs[1]};
    struct mqb_options *options = NULL;
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(mqb_options_create(twins, 2, &options, &error), MQB_ERR_INTERNAL);
    assert_contains(error.text, "option \"bits\" is declared twice");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_untouched_have_their_defaults),
        cmocka_unit_test(test_options_set_replaces_the_value),
        cmocka_unit_test(test_options_wrong_value_is_refused_with_place_and_range),
        cmocka_unit_test(test_options_unknown_name_reads_as_nothing),
        cmocka_unit_test(test_options_none_declared_takes_none),
        cmocka_unit_test(test_options_real_ignores_the_locale),
        cmocka_unit_test(test_options_wrong_specs_are_the_components_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
