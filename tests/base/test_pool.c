/* test_pool.c - every task runs exactly once, on any number of threads, run after run. */
#include "base/base.h"

#include <setjmp.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define MAX_TASKS 97

struct counts {
    atomic_int runs[MAX_TASKS];
    atomic_int wrong_worker;
    atomic_int busy[8]; /* a worker index serves one task at a time */
    int num_threads;
};

static void count_task(void *context, int index, int worker)
{
    struct counts *counts = context;
    if (worker < 0 || worker >= counts->num_threads || atomic_fetch_add(&counts->busy[worker], 1) != 0)
        atomic_fetch_add(&counts->wrong_worker, 1);
    atomic_fetch_add(&counts->runs[index], 1);
    if (worker >= 0 && worker < 8)
        atomic_fetch_sub(&counts->busy[worker], 1);
}

static void check_pool(int num_threads, int num_runs)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_pool *pool = NULL;
    struct counts counts;
    assert_int_equal(mqb_pool_create(num_threads, &pool, &error), MQB_OK);
    assert_int_equal(mqb_pool_num_threads(pool), num_threads);
    for (int run = 0; run < num_runs; run++) {
        int num_tasks = run % (MAX_TASKS + 1);
        memset(&counts, 0, sizeof counts);
        counts.num_threads = num_threads;
        mqb_pool_run(pool, num_tasks, count_task, &counts);
        assert_int_equal(counts.wrong_worker, 0);
        for (int i = 0; i < MAX_TASKS; i++)
            assert_int_equal(counts.runs[i], i < num_tasks);
    }
    mqb_pool_destroy(pool);
}

static void test_pool_one_thread_each_task_once(void **state)
{
    (void)state;
    check_pool(1, 500);
}

static void test_pool_two_threads_each_task_once(void **state)
{
    (void)state;
    check_pool(2, 4000);
}

static void test_pool_five_threads_each_task_once(void **state)
{
    (void)state;
    check_pool(5, 4000);
}

/* Workers that have fallen asleep wake up again. */
static void test_pool_after_pauses_each_task_once(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_pool *pool = NULL;
    assert_int_equal(mqb_pool_create(3, &pool, &error), MQB_OK);
    for (int run = 0; run < 20; run++) {
        struct counts counts;
        struct timespec pause = {0, 5000000};
        memset(&counts, 0, sizeof counts);
        counts.num_threads = 3;
        nanosleep(&pause, NULL);
        mqb_pool_run(pool, MAX_TASKS, count_task, &counts);
        for (int i = 0; i < MAX_TASKS; i++)
            assert_int_equal(counts.runs[i], 1);
    }
    mqb_pool_destroy(pool);
}

static void test_pool_unused_is_destroyed(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    for (int i = 0; i < 50; i++) {
        struct mqb_pool *pool = NULL;
        assert_int_equal(mqb_pool_create(4, &pool, &error), MQB_OK);
        mqb_pool_destroy(pool);
    }
    mqb_pool_destroy(NULL);
}

static void test_pool_zero_takes_processors(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_pool *pool = NULL;
    assert_int_equal(mqb_pool_create(0, &pool, &error), MQB_OK);
    assert_true(mqb_pool_num_threads(pool) >= 1);
    mqb_pool_destroy(pool);
}

static void test_pool_absurd_count_refused(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_pool *pool = NULL;
    assert_int_equal(mqb_pool_create(-1, &pool, &error), MQB_ERR_ARGUMENT);
    assert_int_equal(mqb_pool_create(100000, &pool, &error), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(error.text, "100000"));
    assert_null(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_one_thread_each_task_once),
        cmocka_unit_test(test_pool_two_threads_each_task_once),
        cmocka_unit_test(test_pool_five_threads_each_task_once),
        cmocka_unit_test(test_pool_after_pauses_each_task_once),
        cmocka_unit_test(test_pool_unused_is_destroyed),
        cmocka_unit_test(test_pool_zero_takes_processors),
        cmocka_unit_test(test_pool_absurd_count_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
