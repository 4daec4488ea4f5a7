/*
 * limits.c - the machine's limits by two small loops: multiply-adds that stay in registers, and a copy that does not fit any
 * cache. Each is the best of a few repetitions; a busy machine shows lower limits.
 */
#include "report/limits.h"

#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

#define CHAINS 12 /* independent multiply-adds: enough to hide the latency of two units */
#define LANES 16
#define ROUNDS 20000
#define REPEATS 6
#define COPY_BYTES ((size_t)32 << 20) /* a thread: beyond the caches */

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

typedef float (*multiply_loop)(float seed);

struct probe {
    multiply_loop multiply;
    float *sums; /* [thread]: so that the loop is not dropped */
    char *memory;
};

/* One body for every instruction set; the build lets the compiler contract in this file alone, where no
 * result hangs on it. */
#define MULTIPLY_BODY                                                                                                          \
    lanes x[CHAINS], factor, term;                                                                                             \
    for (int i = 0; i < LANES; i++) {                                                                                          \
        factor[i] = seed;                                                                                                      \
        term[i] = 1.0f - seed;                                                                                                 \
    }                                                                                                                          \
    for (int k = 0; k < CHAINS; k++)                                                                                           \
        x[k] = term * (float)k;                                                                                                \
    for (int round = 0; round < ROUNDS; round++)                                                                               \
        for (int k = 0; k < CHAINS; k++)                                                                                       \
            x[k] = x[k] * factor + term;                                                                                       \
    float sum = 0.0f;                                                                                                          \
    for (int k = 0; k < CHAINS; k++)                                                                                           \
        for (int i = 0; i < LANES; i++)                                                                                        \
            sum += x[k][i];                                                                                                    \
    return sum;

#if defined(__x86_64__)
__attribute__((target("avx512f,fma"), noinline)) static float multiply_avx512(float seed)
{
    MULTIPLY_BODY
}

__attribute__((target("avx2,fma"), noinline)) static float multiply_avx2(float seed)
{
    MULTIPLY_BODY
}
#endif

static float multiply_plain(float seed)
{
    MULTIPLY_BODY
}

static multiply_loop choose_loop(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return multiply_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return multiply_avx2;
#endif
    return multiply_plain;
}

static void multiply_task(void *context, int index, int worker)
{
    (void)worker;
    const struct probe *probe = context;
    probe->sums[index] += probe->multiply(0.999f);
}

static void copy_task(void *context, int index, int worker)
{
    (void)worker;
    const struct probe *probe = context;
    char *from = probe->memory + (size_t)index * COPY_BYTES;
    memcpy(from + COPY_BYTES / 2, from, COPY_BYTES / 2);
}

/* Seconds of the fastest repetition; the first one warms up. */
static double best_time(struct mqb_pool *pool, int tasks, void (*task)(void *context, int index, int worker),
                        struct probe *probe)
{
    double best = INFINITY;
    for (int i = 0; i <= REPEATS; i++) {
        double start = mqb_seconds();
        mqb_pool_run(pool, tasks, task, probe);
        double seconds = mqb_seconds() - start;
        if (i > 0 && seconds < best)
            best = seconds;
    }
    return best > 0.0 ? best : 1e-9;
}

mqb_status mqb_limits_measure(struct mqb_pool *pool, const char *isa, struct mqb_limits *limits, struct mqb_error *error)
{
    int threads = mqb_pool_num_threads(pool);
    struct probe probe = {choose_loop(), mqb_allocate_array((size_t)threads, sizeof(float)),
                          mqb_allocate_array((size_t)threads, COPY_BYTES)};
    mqb_status status = MQB_OK;
    if (probe.sums == NULL || probe.memory == NULL) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory to measure the machine: %zu bytes", (size_t)threads * COPY_BYTES);
    } else {
        double operations = 2.0 * CHAINS * LANES * ROUNDS * threads;
        double integer = isa != NULL && strstr(isa, "vnni") != NULL ? 4.0
                         : isa != NULL && strcmp(isa, "avx2") == 0  ? 4.0 / 3.0
                                                                    : 1.0;
        limits->threads = threads;
        limits->gflops = operations / best_time(pool, threads, multiply_task, &probe) * 1e-9;
        limits->integer_gops = integer * limits->gflops;
        limits->gbs = (double)threads * (double)COPY_BYTES / best_time(pool, threads, copy_task, &probe) * 1e-9;
    }
    mqb_deallocate(probe.sums);
    mqb_deallocate(probe.memory);
    return status;
}
