/*
 * pool.c - threads that take tasks one by one.
 *
 * A job is open from mqb_pool_run until its last task is taken. A worker joins an open job, takes tasks until none is left,
 * and leaves; the caller works too, closes the job and waits for those who joined. A worker that the system has put aside
 * never joined, so nobody waits for it.
 */
#include "base/base.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define SPIN_COUNT 4000 /* some ten microseconds: longer than the gap between two stages, shorter than a time slice */

struct pool_worker {
    struct mqb_pool *pool;
    pthread_t thread;
    int index;
};

struct mqb_pool {
    int num_threads;
    struct pool_worker *workers; /* num_threads - 1; the caller is worker 0 */
    int num_started;
    pthread_mutex_t mutex;
    pthread_cond_t start, done;
    atomic_uint generation;
    bool stop;
    bool open;
    int num_joined;
    atomic_int num_joined_seen; /* num_joined, readable without the mutex */
    int num_tasks;
    atomic_int next_task;
    void (*task)(void *context, int index, int worker);
    void *context;
};

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void run_tasks(struct mqb_pool *pool, int worker)
{
    int index;
    while ((index = atomic_fetch_add_explicit(&pool->next_task, 1, memory_order_relaxed)) < pool->num_tasks)
        pool->task(pool->context, index, worker);
}

static void *worker_main(void *argument)
{
    struct pool_worker *worker = argument;
    struct mqb_pool *pool = worker->pool;
    unsigned seen = 0;
    for (;;) {
        for (int spin = 0; spin < SPIN_COUNT && atomic_load_explicit(&pool->generation, memory_order_acquire) == seen; spin++)
            relax();
        pthread_mutex_lock(&pool->mutex);
        while (atomic_load(&pool->generation) == seen && !pool->stop)
            pthread_cond_wait(&pool->start, &pool->mutex);
        seen = atomic_load(&pool->generation);
        if (pool->stop) {
            pthread_mutex_unlock(&pool->mutex);
            return NULL;
        }
        if (!pool->open) {
            pthread_mutex_unlock(&pool->mutex);
            continue;
        }
        atomic_store(&pool->num_joined_seen, ++pool->num_joined);
        pthread_mutex_unlock(&pool->mutex);

        run_tasks(pool, worker->index);

        pthread_mutex_lock(&pool->mutex);
        atomic_store(&pool->num_joined_seen, --pool->num_joined);
        if (pool->num_joined == 0)
            pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->mutex);
    }
}

void mqb_pool_run(struct mqb_pool *pool, int num_tasks, void (*task)(void *context, int index, int worker), void *context)
{
    if (pool->num_threads == 1 || num_tasks <= 1) {
        for (int i = 0; i < num_tasks; i++)
            task(context, i, 0);
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    pool->task = task;
    pool->context = context;
    pool->num_tasks = num_tasks;
    atomic_store(&pool->next_task, 0);
    pool->open = true;
    atomic_fetch_add_explicit(&pool->generation, 1, memory_order_release);
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->mutex);

    run_tasks(pool, 0);

    pthread_mutex_lock(&pool->mutex);
    pool->open = false;
    pthread_mutex_unlock(&pool->mutex);
    for (int spin = 0; spin < SPIN_COUNT && atomic_load_explicit(&pool->num_joined_seen, memory_order_acquire) > 0; spin++)
        relax();
    pthread_mutex_lock(&pool->mutex);
    while (pool->num_joined > 0)
        pthread_cond_wait(&pool->done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

mqb_status mqb_pool_create(int num_threads, struct mqb_pool **result, struct mqb_error *error)
{
    if (num_threads == 0)
        num_threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (num_threads < 1 || num_threads > 1024)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "%d threads were asked for; expected 1 to 1024, or 0 for one a processor",
                        num_threads);
    struct mqb_pool *pool = mqb_allocate(sizeof *pool);
    if (pool == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a thread pool");
    pool->num_threads = num_threads;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->start, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->workers = num_threads > 1 ? mqb_allocate_array((size_t)num_threads - 1, sizeof *pool->workers) : NULL;
    if (num_threads > 1 && pool->workers == NULL) {
        mqb_pool_destroy(pool);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a thread pool");
    }
    for (int i = 0; i < num_threads - 1; i++) {
        pool->workers[i] = (struct pool_worker){.pool = pool, .index = i + 1};
        int code = pthread_create(&pool->workers[i].thread, NULL, worker_main, &pool->workers[i]);
        if (code != 0) {
            mqb_pool_destroy(pool);
            return mqb_fail(error, MQB_ERR_MEMORY, "thread %d of %d cannot be started (%s); ask for fewer with --threads", i + 2,
                            num_threads, strerror(code));
        }
        pool->num_started++;
    }
    *result = pool;
    return MQB_OK;
}

void mqb_pool_destroy(struct mqb_pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->stop = true;
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < pool->num_started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_mutex_destroy(&pool->mutex);
    pthread_cond_destroy(&pool->start);
    pthread_cond_destroy(&pool->done);
    mqb_deallocate(pool->workers);
    mqb_deallocate(pool);
}

int mqb_pool_num_threads(const struct mqb_pool *pool)
{
    return pool->num_threads;
}
