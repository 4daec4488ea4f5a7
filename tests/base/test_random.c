/* test_random.c - Philox 4x32-10 against the known answers of Random123 (kat_vectors), and what is built on it. */
#include "base/base.h"

#include <math.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#define PAIR(low, high) ((uint64_t)(high) << 32 | (low))

/* Random123 lists counter words x0..x3 and key words k0, k1: counter = x1:x0, stream = x3:x2, seed = k1:k0. */
static const struct {
    uint32_t x[4], k[2], out[4];
} known[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static void test_philox_random123_vectors_exact(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint32_t out[4];
        mqb_philox(PAIR(known[i].k[0], known[i].k[1]), PAIR(known[i].x[2], known[i].x[3]), PAIR(known[i].x[0], known[i].x[1]), out);
        for (int w = 0; w < 4; w++)
            assert_int_equal(out[w], known[i].out[w]);
    }
}

static void test_uniform_many_in_range_with_right_moments(void **state)
{
    (void)state;
    enum { N = 200000 };
    double sum = 0.0, squares = 0.0;
    for (uint64_t i = 0; i < N; i++) {
        float u = mqb_uniform(7, 3, i);
        assert_true(u >= 0.0f && u < 1.0f);
        assert_true(ldexpf(u, 24) == floorf(ldexpf(u, 24))); /* 24 bits */
        sum += u;
        squares += (double)u * u;
    }
    /* Standard error of the mean: sqrt(1/12/N) = 6.5e-4. */
    assert_true(fabs(sum / N - 0.5) < 4e-3);
    assert_true(fabs(squares / N - 1.0 / 3.0) < 4e-3);
}

static void test_normal_many_with_right_moments(void **state)
{
    (void)state;
    enum { N = 200000 };
    double sum = 0.0, squares = 0.0, fourth = 0.0, within = 0.0;
    for (uint64_t i = 0; i < N; i++) {
        double x = mqb_normal(1, 2, i);
        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
        within += fabs(x) < 1.0;
    }
    assert_true(fabs(sum / N) < 0.015);
    assert_true(fabs(squares / N - 1.0) < 0.02);
    assert_true(fabs(fourth / N - 3.0) < 0.15);
    assert_true(fabs(within / N - 0.6826894921) < 0.006);
}

static void test_streams_differ_and_repeat(void **state)
{
    (void)state;
    assert_true(mqb_uniform(1, 2, 3) == mqb_uniform(1, 2, 3));
    assert_true(mqb_uniform(1, 2, 3) != mqb_uniform(2, 2, 3));
    assert_true(mqb_uniform(1, 2, 3) != mqb_uniform(1, 3, 3));
    assert_true(mqb_uniform(1, 2, 3) != mqb_uniform(1, 2, 4));
}

static void test_shuffle_is_permutation_by_seed_and_stream(void **state)
{
    (void)state;
    enum { N = 1000 };
    uint32_t a[N], b[N];
    char seen[N] = {0};
    mqb_shuffle(5, 9, a, N);
    mqb_shuffle(5, 9, b, N);
    assert_memory_equal(a, b, sizeof a);
    for (int i = 0; i < N; i++) {
        assert_true(a[i] < N && !seen[a[i]]);
        seen[a[i]] = 1;
    }
    mqb_shuffle(5, 10, b, N);
    assert_memory_not_equal(a, b, sizeof a);
    mqb_shuffle(6, 9, b, N);
    assert_memory_not_equal(a, b, sizeof a);
}

/* All 24 orders of four, about equally often: 24000 draws, 1000 each, standard deviation 31. */
static void test_shuffle_of_four_uniform(void **state)
{
    (void)state;
    int count[256] = {0}, orders = 0;
    for (uint64_t stream = 0; stream < 24000; stream++) {
        uint32_t index[4];
        mqb_shuffle(11, stream, index, 4);
        count[index[0] | index[1] << 2 | index[2] << 4 | index[3] << 6]++;
    }
    for (int i = 0; i < 256; i++) {
        if (count[i] == 0)
            continue;
        orders++;
        assert_true(count[i] > 840 && count[i] < 1160);
    }
    assert_int_equal(orders, 24);
}

static void test_shuffle_none_or_one_harmless(void **state)
{
    (void)state;
    uint32_t index[1] = {77};
    mqb_shuffle(1, 1, index, 0);
    assert_int_equal(index[0], 77);
    mqb_shuffle(1, 1, index, 1);
    assert_int_equal(index[0], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_random123_vectors_exact),
        cmocka_unit_test(test_uniform_many_in_range_with_right_moments),
        cmocka_unit_test(test_normal_many_with_right_moments),
        cmocka_unit_test(test_streams_differ_and_repeat),
        cmocka_unit_test(test_shuffle_is_permutation_by_seed_and_stream),
        cmocka_unit_test(test_shuffle_of_four_uniform),
        cmocka_unit_test(test_shuffle_none_or_one_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
