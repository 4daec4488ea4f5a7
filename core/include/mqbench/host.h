/*
 * mqbench/host.h - what the engine offers to a plugin.
 *
 * The table is handed to every entry that may need it, is constant, and outlives every component.
 * All calls may come from any thread unless a comment says otherwise. No plugin prints, exits, starts threads,
 * reads a clock or the environment.
 */
#ifndef MQBENCH_HOST_H
#define MQBENCH_HOST_H

#include <mqbench/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MQB_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define MQB_PRINTF(fmt, args)
#endif

enum mqb_log_level { MQB_LOG_DEBUG = 0, MQB_LOG_NOTE = 1, MQB_LOG_WARNING = 2 };

struct mqb_observer; /* opaque: running statistics of one tensor */
struct mqb_graph_api; /* graph.h */

struct mqb_host {
    uint32_t struct_size;
    uint16_t abi_major, abi_minor;

    /* Writes the sentence into `error` (NULL allowed) and returns `status`: `return host->fail(error, MQB_ERR_..., ...)`. */
    mqb_status (*fail)(struct mqb_error *error, mqb_status status, const char *format, ...) MQB_PRINTF(3, 4);
    void (*log)(int level, const char *format, ...) MQB_PRINTF(2, 3);

    /* 64-byte aligned, zeroed; NULL when there is no memory or size is 0. Freed by deallocate only; NULL allowed there. */
    void *(*allocate)(size_t size);
    void (*deallocate)(void *memory);

    /* Options were checked against the component's specs: a name in the specs always has a value.
     * Asking for a name that is not in the specs is a bug; it returns 0, 0.0 or "". Text lives as long as `options`. */
    int64_t (*option_int)(const struct mqb_options *options, const char *name); /* BOOL: 0 or 1 */
    double (*option_real)(const struct mqb_options *options, const char *name);
    const char *(*option_text)(const struct mqb_options *options, const char *name);

    /* Counter-based random numbers (Philox 4x32-10): the same (seed, stream, counter) gives the same number anywhere.
     * Uniform in [0, 1), 24 bits. */
    float (*uniform)(uint64_t seed, uint64_t stream, uint64_t counter);

    /* Observers: statistics for a scale and zero point, chosen by name ("minmax", "ema_minmax", "lsq", "lsqplus", "mse",
     * "kl", "percentile"; `mqbench list` shows all). Serial calls. `scheme` is copied.
     * observe: adds one batch (or one weight). For a per-channel scheme the channel is dims[0].
     * qparams: from all batches so far; writes scheme.num_channels scales (>= FLT_EPSILON) and integral zero points in [qmin, qmax].
     *          Finite for constant, all-zero and single-element tensors; MQB_ERR_NUMERIC if a value was not finite. */
    mqb_status (*observer_create)(const char *name, const struct mqb_scheme *scheme, struct mqb_observer **observer,
                                  struct mqb_error *error);
    mqb_status (*observer_observe)(struct mqb_observer *observer, const struct mqb_tensor_view *x, struct mqb_error *error);
    mqb_status (*observer_qparams)(const struct mqb_observer *observer, float *scale, int32_t *zero_point,
                                   struct mqb_error *error);
    /* Smallest and largest value seen so far, per tensor. */
    void (*observer_range)(const struct mqb_observer *observer, float *min, float *max);
    void (*observer_destroy)(struct mqb_observer *observer); /* NULL allowed */

    const struct mqb_graph_api *graph;
};

#ifdef __cplusplus
}
#endif
#endif
