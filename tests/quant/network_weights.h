/*
 * network_weights.h - for tests: numbers for every parameter of a network by a formula of its name, the same as in
 * tests/peers/torch_networks.py, and one forward pass.
 */
#ifndef NETWORK_WEIGHTS_H
#define NETWORK_WEIGHTS_H

#include "common/support.h"
#include "exec/exec.h"
#include "quant/quant.h"

#include <math.h>

#define IMAGES 2
#define SIDE 64
#define CLASSES 10
#define MAX_LOGITS (IMAGES * CLASSES)

/* Numbers in [-1, 1): a 32-bit hash of the tensor's name and the place, 24 bits of it. */
static inline double name_uniform(const char *name, uint32_t place)
{
    uint32_t seed = 2166136261u;
    for (; *name; name++)
        seed = (seed ^ (uint8_t)*name) * 16777619u;
    uint32_t h = place * 2654435761u + seed;
    h = (h ^ (h >> 16)) * 0x7feb352du;
    h = (h ^ (h >> 15)) * 0x846ca68bu;
    h ^= h >> 16;
    return (double)(h >> 8) / 8388608.0 - 1.0;
}

static inline bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), size = strlen(end);
    return length >= size && strcmp(text + length - size, end) == 0;
}

static inline void fill_by_name(struct mqb_graph *graph)
{
    for (int32_t i = 0; i < graph->num_values; i++) {
        struct mqb_value *value = &graph->values[i];
        if (value->dead || (value->kind != MQB_VALUE_PARAM && value->kind != MQB_VALUE_STATE))
            continue;
        double fan_in = value->rank > 1 ? (double)(mqb_value_size(value) / value->dims[0]) : 0;
        bool around_one = ends_with(value->name, "running_var") || ends_with(value->name, "weight");
        for (int64_t k = 0; k < mqb_value_size(value); k++) {
            double u = name_uniform(value->name, (uint32_t)k);
            u = value->rank > 1 ? u * sqrt(6.0 / fan_in) : around_one ? 1 + u / 2 : u / 4;
            value->data[k] = (float)u;
        }
    }
}

static inline struct mqb_graph *built(const char *name, int64_t channels, int64_t height, int64_t width, int64_t classes)
{
    struct mqb_graph *graph;
    OK(mqb_model_build(name, &mqb_ops, channels, height, width, classes, 1, &graph, &err));
    return graph;
}

/* logits: n rows of the graph's classes. */
static inline void forward(struct mqb_graph *graph, const float *images, int n, float *logits)
{
    struct mqb_pool *pool;
    struct mqb_exec *exec;
    OK(mqb_pool_create(1, &pool, &err));
    struct mqb_exec_config config = {.graph = graph,
                                     .host = mqb_host_table(),
                                     .pool = pool,
                                     .batch = n,
                                     .compute = component("native", MQB_COMPUTE_INTERFACE)};
    OK(mqb_exec_create(&config, &exec, &err));
    OK(mqb_exec_forward(exec, images, n, &err));
    memcpy(logits, mqb_exec_value(exec, graph->output),
           (size_t)n * (size_t)mqb_value_size(&graph->values[graph->output]) * sizeof *logits);
    mqb_exec_destroy(exec);
    mqb_pool_destroy(pool);
}

/* Within 1e-4 of the largest logit. */
static inline void logits_equal(const char *what, const float *got, const float *want)
{
    double largest = 0, worst = 0;
    for (int i = 0; i < MAX_LOGITS; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
    }
    print_message("%s: largest logit %g, largest difference %.2g of it\n", what, largest, worst / largest);
    assert_true(worst <= 1e-4 * largest);
}

#endif
