/* test_data_normalize.c - normalizations by name and by numbers. */
#include "data_test.h"

#include <math.h>

static void check(const char *text, int channel, double mean, double std)
{
    struct mqb_normalize normalize;
    assert_int_equal(mqb_normalize_parse(text, &normalize, NULL), MQB_OK);
    assert_string_equal(normalize.text, text);
    for (int u = 0; u < 256; u++) {
        double expected = (u / 255.0 - mean) / std;
        float got = (float)u * normalize.a[channel] + normalize.b[channel];
        assert_true(fabs((double)got - expected) < 4e-7 * (1 + fabs(expected)));
    }
}

static void test_normalize_names_give_their_formula(void **state)
{
    (void)state;
    static const double mean[] = {0.485, 0.456, 0.406}, std[] = {0.229, 0.224, 0.225};
    for (int c = 0; c < 3; c++) {
        check("imagenet", c, mean[c], std[c]);
        check("tf", c, 0.5, 0.5);
        check("unit", c, 0, 1);
        check("raw", c, 0, 1 / 255.0);
    }
    struct mqb_normalize normalize;
    assert_int_equal(mqb_normalize_parse("raw", &normalize, NULL), MQB_OK);
    assert_true(normalize.a[0] == 1.0f && normalize.b[0] == 0.0f && !signbit(normalize.b[0]));
    assert_int_equal(mqb_normalize_parse("tf", &normalize, NULL), MQB_OK);
    assert_true(0 * normalize.a[0] + normalize.b[0] == -1.0f);
}

static void test_normalize_numbers_give_their_formula(void **state)
{
    (void)state;
    check("mean:0.4914,0.4822,0.4465/std:0.247,0.2435,0.2616", 0, 0.4914, 0.247);
    check("mean:0.4914,0.4822,0.4465/std:0.247,0.2435,0.2616", 1, 0.4822, 0.2435);
    check("mean:0.4914,0.4822,0.4465/std:0.247,0.2435,0.2616", 2, 0.4465, 0.2616);
    check("mean:0.1307/std:0.3081", 0, 0.1307, 0.3081);
    check("mean:0.1307/std:0.3081", 2, 0.1307, 0.3081);
}

static void refuse(const char *text, const char *words)
{
    struct mqb_normalize normalize;
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(mqb_normalize_parse(text, &normalize, &error), MQB_ERR_ARGUMENT);
    expect_words(error.text, words);
}

static void test_normalize_bad_text_is_refused(void **state)
{
    (void)state;
    refuse("imagenett", "unknown normalization 'imagenett'|did you mean 'imagenet'|mean:R,G,B/std:R,G,B");
    refuse("", "unknown normalization ''");
    refuse("mean:0.5,0.5/std:0.5,0.5,0.5", "cannot be read");
    refuse("mean:0.5,0.5,0.5", "cannot be read");
    refuse("mean:0.5,0.5,0.5/std:0.5,0.5,0.5,0.5", "cannot be read");
    refuse("mean:a,b,c/std:1,1,1", "cannot be read");
    refuse("mean:nan,0,0/std:1,1,1", "cannot be read");
    refuse("mean:0.5,0.5,0.5/std:0.5,0,0.5", "std 0 is not a positive number");
    refuse("mean:123.675,116.28,103.53/std:58.395,57.12,57.375", "mean 123.675 is beyond|divide them by 255");
    refuse("mean:0.4850000000000000000000000000000000,0.456,0.406/std:0.2290000000000000000000000000000000,0.224,0.225",
           "longer than 95");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normalize_names_give_their_formula),
        cmocka_unit_test(test_normalize_numbers_give_their_formula),
        cmocka_unit_test(test_normalize_bad_text_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
