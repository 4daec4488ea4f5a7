/* test_sum.c - sums over parts: the tree is fixed, whatever the numbers. */
#include "base/base.h"

#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

/* Numbers whose float sum depends on the order: 2^24 + 1 rounds to 2^24. */
static void test_tree_sum_five_parts_in_tree_order(void **state)
{
    (void)state;
    const float p[5] = {16777216.0f, 1.0f, 1.0f, 1.0f, -16777216.0f};
    float parts[5], target = 0.0f;
    memcpy(parts, p, sizeof p);
    mqb_tree_sum_f32(&target, parts, 5, 1, 1);
    /* ((p0 + p1) + (p2 + p3)) + p4 = ((2^24) + 2) - 2^24 = 2, where a running sum gives 0 */
    assert_true(target == 2.0f);
}

static void test_tree_sum_counts_and_strides_exact(void **state)
{
    (void)state;
    enum { STRIDE = 7, COUNT = 5 };
    for (int num_parts = 1; num_parts <= 33; num_parts++) {
        double parts[33 * STRIDE], target[COUNT];
        for (int g = 0; g < num_parts; g++)
            for (int i = 0; i < STRIDE; i++)
                parts[g * STRIDE + i] = i < COUNT ? (g + 1) * (i + 1) : 1e30; /* what lies between is not read */
        mqb_tree_sum_f64(target, parts, num_parts, STRIDE, COUNT);
        for (int i = 0; i < COUNT; i++)
            assert_true(target[i] == (double)num_parts * (num_parts + 1) / 2 * (i + 1));
    }
}

static void test_tree_sum_in_place_exact(void **state)
{
    (void)state;
    float parts[6] = {1, 2, 3, 4, 5, 6};
    mqb_tree_sum_f32(parts, parts, 3, 2, 2);
    assert_true(parts[0] == 9.0f && parts[1] == 12.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_sum_five_parts_in_tree_order),
        cmocka_unit_test(test_tree_sum_counts_and_strides_exact),
        cmocka_unit_test(test_tree_sum_in_place_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
