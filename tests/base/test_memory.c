/* test_memory.c - aligned, zeroed blocks, and sizes that do not fit. */
#include "base/base.h"

#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

static void test_allocate_sizes_aligned_and_zeroed(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 63, 64, 65, 4096, 100000, 5000000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *block = mqb_allocate(sizes[i]);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 64, 0);
        for (size_t k = 0; k < sizes[i]; k += 61)
            assert_int_equal(block[k], 0);
        assert_int_equal(block[sizes[i] - 1], 0);
        memset(block, 255, sizes[i]);
        mqb_deallocate(block);
    }
}

static void test_allocate_nothing_or_too_much_null(void **state)
{
    (void)state;
    assert_null(mqb_allocate(0));
    assert_null(mqb_allocate(SIZE_MAX));
    assert_null(mqb_allocate_array(0, 8));
    assert_null(mqb_allocate_array(SIZE_MAX / 4, 8));
    mqb_deallocate(NULL);
}

static void test_format_and_strdup_copy(void **state)
{
    (void)state;
    char *text = mqb_format("%s-%03d", "a", 7), *copy = mqb_strdup(text), *empty = mqb_strdup("");
    assert_string_equal(text, "a-007");
    assert_string_equal(copy, "a-007");
    assert_string_equal(empty, "");
    mqb_deallocate(text);
    mqb_deallocate(copy);
    mqb_deallocate(empty);
}

static void test_peak_rss_grows_with_use(void **state)
{
    (void)state;
    size_t size = (size_t)64 << 20, before = mqb_peak_rss();
    char *block = mqb_allocate(size);
    assert_non_null(block);
    memset(block, 1, size);
    assert_true(before > 0 && mqb_peak_rss() >= size);
    mqb_deallocate(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allocate_sizes_aligned_and_zeroed),
        cmocka_unit_test(test_allocate_nothing_or_too_much_null),
        cmocka_unit_test(test_format_and_strdup_copy),
        cmocka_unit_test(test_peak_rss_grows_with_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
