/* test_step_memory.c - a step allocates nothing: a run of more steps asks for memory exactly as often as a run of few. */
#include "report/profile.h"

#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <cmocka.h>

/* The C library's own, under the names that it keeps for whoever replaces them. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static atomic_long num_calls;

void *malloc(size_t size)
{
    atomic_fetch_add(&num_calls, 1);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    atomic_fetch_add(&num_calls, 1);
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    atomic_fetch_add(&num_calls, 1);
    return __libc_realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    atomic_fetch_add(&num_calls, 1);
    return __libc_memalign(alignment, size);
}

static int setup(void **state)
{
    (void)state;
    return setenv("MQBENCH_HOME", MQB_BINARY_DIR "/share/mqbench", 1);
}

static long calls_of(int steps, bool fp32, bool infer)
{
    static const char *const keys[] = {"recipe.batch"}, *const values[] = {"4"};
    const struct mqb_profile_config config = {
        .job = {.backend = "snpe_sim", .algo = "lsq", .weight_bits = 4, .activation_bits = 4, .io_bits = 8, .seed = 7, .threads = 2,
                .set_keys = keys, .set_values = values, .num_set = 1},
        .fp32 = fp32, .infer = infer, .steps = steps,
    };
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_profile *profile = NULL;
    long before = atomic_load(&num_calls);
    if (mqb_profile_run(&config, &profile, &error) != MQB_OK)
        fail_msg("%s", error.text);
    long calls = atomic_load(&num_calls) - before;
    mqb_profile_destroy(profile);
    return calls;
}

static void check(bool fp32, bool infer)
{
    calls_of(2, fp32, infer); /* what is allocated once for the process */
    long few = calls_of(2, fp32, infer);
    assert_true(few > 100); /* they are counted */
    assert_int_equal(calls_of(9, fp32, infer), few);
}

static void test_qat_step_allocates_nothing(void **state)
{
    (void)state;
    check(false, false);
}

static void test_fp32_step_allocates_nothing(void **state)
{
    (void)state;
    check(true, false);
}

static void test_integer_inference_allocates_nothing(void **state)
{
    (void)state;
    check(false, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qat_step_allocates_nothing),
        cmocka_unit_test(test_fp32_step_allocates_nothing),
        cmocka_unit_test(test_integer_inference_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
