/* test_ini.c - INI text: what is read, and what is refused with its line. */
#include "base/base.h"

#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

static struct mqb_error error = MQB_ERROR_INIT;

/* Notes "section|key|value|line;" for each key; refuses the key "bad". */
static mqb_status note_key(void *user, const char *section, const char *key, const char *value, int line, struct mqb_error *e)
{
    char *notes = user;
    size_t used = strlen(notes);
    if (strcmp(key, "bad") == 0)
        return mqb_fail(e, MQB_ERR_ARGUMENT, "line %d is bad", line);
    snprintf(notes + used, 1000 - used, "%s|%s|%s|%d;", section, key, value, line);
    return MQB_OK;
}

static mqb_status parse(const char *text, char notes[1000])
{
    notes[0] = '\0';
    const struct mqb_ini_handlers handlers = {NULL, note_key};
    return mqb_ini_parse(text, strlen(text), "test.ini", &handlers, notes, &error);
}

static void test_ini_sections_comments_and_lines_read(void **state)
{
    (void)state;
    char notes[1000];
    assert_int_equal(parse("top = 1\n"
                           "; a comment\n"
                           "# another\n"
                           "[bits 4]\n"
                           "\n"
                           "   lr = 0.1   ; inline\n"
                           "path=a b/c=d\n"
                           "[next]\n"
                           "x =",
                           notes),
                     MQB_OK);
    assert_string_equal(notes, "|top|1|1;bits 4|lr|0.1|6;bits 4|path|a b/c=d|7;next|x||9;");
}

static void test_ini_windows_line_ends_read(void **state)
{
    (void)state;
    char notes[1000];
    assert_int_equal(parse("[a]\r\nx = 1\r\n", notes), MQB_OK);
    assert_string_equal(notes, "a|x|1|2;");
}

static void test_ini_empty_read(void **state)
{
    (void)state;
    char notes[1000];
    assert_int_equal(parse("", notes), MQB_OK);
    assert_string_equal(notes, "");
}

static void test_ini_nonsense_refused_with_line(void **state)
{
    (void)state;
    char notes[1000];
    assert_int_equal(parse("[a]\nx = 1\nwhat is this\ny = 2\n", notes), MQB_ERR_FORMAT);
    assert_non_null(strstr(error.text, "test.ini:3:"));
    assert_int_equal(parse("[a\nx = 1\n", notes), MQB_ERR_FORMAT);
    assert_non_null(strstr(error.text, "test.ini:1:"));
}

static void test_ini_endless_line_refused_with_line(void **state)
{
    (void)state;
    char notes[1000], text[1000] = "[a]\nx = ";
    memset(text + 8, 'y', sizeof text - 9);
    text[sizeof text - 1] = '\0';
    assert_int_equal(parse(text, notes), MQB_ERR_FORMAT);
    assert_non_null(strstr(error.text, "test.ini:2:"));
}

static void test_ini_handler_refusal_ends_reading(void **state)
{
    (void)state;
    char notes[1000];
    assert_int_equal(parse("[a]\nx = 1\nbad = 2\ny = 3\n", notes), MQB_ERR_ARGUMENT);
    assert_string_equal(error.text, "line 3 is bad");
    assert_string_equal(notes, "a|x|1|2;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ini_sections_comments_and_lines_read),
        cmocka_unit_test(test_ini_windows_line_ends_read),
        cmocka_unit_test(test_ini_empty_read),
        cmocka_unit_test(test_ini_nonsense_refused_with_line),
        cmocka_unit_test(test_ini_endless_line_refused_with_line),
        cmocka_unit_test(test_ini_handler_refusal_ends_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
