/*
 * bench_step NET BATCH THREADS fp32|ALGORITHM [BACKEND [COMPUTE]] - the time of one training step: forward, loss, backward,
 * update; its minimum, its median, the median of each part and of the processor time of all threads together, which other
 * programs on the machine change less, and the memory of the plan. NET is a name that `mqbench train` knows. With an algorithm
 * the network is prepared for BACKEND (default: snpe_sim) and calibrated as a run would, weights and activations at 4 bits, the
 * first and the last layer at 8. COMPUTE is a provider (default: the best). The batch is the same in every step.
 */
#include "report/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NUM_WARM_UP = 3, NUM_STEPS = 12, CLASSES = 10, SIZE = 32, CHANNELS = 3 };
enum part { FORWARD, LOSS, BACKWARD, UPDATE, STEP, CPU, NUM_PARTS };

struct bench {
    const char *network, *algorithm, *backend_id; /* algorithm NULL: FP32 */
    int batch;
    struct mqb_session session;
    struct mqb_graph *graph;
    struct mqb_points *points;
    struct mqb_options *backend_options, *weight_options, *activation_options;
    struct mqb_dataset *dataset;
    struct mqb_loader *loader;
    struct mqb_exec *exec;
    struct mqb_optimizer *optimizer;
    struct mqb_recipe recipe;
    double times[NUM_PARTS][NUM_STEPS];
    double loss;
};

static mqb_status options_of(const struct bench *b, const struct mqb_entry *entry, const struct mqb_option_spec *specs,
                             size_t num_specs, struct mqb_options **options, struct mqb_error *error)
{
    return mqb_registry_options(b->session.registry, entry, specs, num_specs, NULL, NULL, 0, options, error);
}

static mqb_status run_pass(struct bench *b, const char *id, int bn_fold, struct mqb_error *error)
{
    const struct mqb_entry *entry;
    struct mqb_options *options = NULL;
    mqb_status status = mqb_registry_find(b->session.registry, MQB_KIND_PASS, id, &entry, error);

    if (status != MQB_OK) {
        return status;
    }
    const struct mqb_pass *pass = entry->vtable;
    status = options_of(b, entry, pass->options, pass->num_options, &options, error);
    for (uint32_t i = 0; i < pass->num_options && status == MQB_OK; i++) {
        if (strcmp(pass->options[i].name, "strategy") == 0) {
            char value[16];

            snprintf(value, sizeof(value), "%d", bn_fold);
            status = mqb_options_set(options, "strategy", value, "bench_step", error);
        }
    }
    int32_t edits = 0;
    if (status == MQB_OK) {
        status = pass->run(mqb_host_table(), b->graph, options, &edits, error);
    }
    if (status == MQB_OK) {
        status = mqb_graph_infer(b->graph, error);
    }
    mqb_graph_sweep(b->graph);
    mqb_options_destroy(options);
    return status;
}

/* The backend's passes, then an instance of the algorithm at every quantization point. */
static mqb_status quantize(struct bench *b, struct mqb_error *error)
{
    const struct mqb_entry *backend_entry, *entry;
    struct mqb_backend_rules rules = {.struct_size = sizeof(rules)};
    mqb_status status = mqb_registry_find(b->session.registry, MQB_KIND_BACKEND, b->backend_id, &backend_entry, error);

    if (status != MQB_OK ||
        (status = mqb_registry_find(b->session.registry, MQB_KIND_QUANTIZER, b->algorithm, &entry, error)) != MQB_OK) {
        return status;
    }
    const struct mqb_backend *backend = backend_entry->vtable;
    const struct mqb_quantizer *quantizer = entry->vtable;
    if ((status = options_of(b, backend_entry, backend->options, backend->num_options, &b->backend_options, error)) != MQB_OK ||
        (status = backend->rules(mqb_host_table(), b->backend_options, &rules, error)) != MQB_OK ||
        (status = options_of(b, entry, quantizer->options, quantizer->num_options, &b->weight_options, error)) != MQB_OK ||
        (status = options_of(b, entry, quantizer->options, quantizer->num_options, &b->activation_options, error)) != MQB_OK) {
        return status;
    }
    for (int i = 0; status == MQB_OK && rules.passes[i] != NULL; i++) {
        status = run_pass(b, rules.passes[i], rules.default_bn_fold, error);
    }
    struct mqb_points_config points = {
        .host = mqb_host_table(),
        .rules = &rules,
        .weight = {b->algorithm, quantizer, b->weight_options},
        .activation = {b->algorithm, quantizer, b->activation_options},
        .weight_bits = 4,
        .activation_bits = 4,
        .io_bits = 8,
    };
    return status == MQB_OK ? mqb_points_create(b->graph, &points, &b->points, error) : status;
}

static mqb_status prepare(struct bench *b, const char *compute, int threads, struct mqb_error *error)
{
    struct mqb_loader_config loader = {.split = MQB_SPLIT_TRAIN, .batch = b->batch, .size = SIZE};
    mqb_status status = mqb_session_open(NULL, compute, threads, &b->session, error);

    mqb_recipe_defaults(&b->recipe);
    if (status != MQB_OK ||
        (status = mqb_model_build(b->network, &mqb_ops, CHANNELS, SIZE, SIZE, CLASSES, 1, &b->graph, error)) != MQB_OK ||
        (b->algorithm != NULL && (status = quantize(b, error)) != MQB_OK) ||
        (status = mqb_dataset_open("synth", (size_t)b->batch, 1, 0, &b->dataset, error)) != MQB_OK ||
        (status = mqb_normalize_parse("imagenet", &loader.normalize, error)) != MQB_OK ||
        (status = mqb_loader_create(b->dataset, &loader, &b->loader, error)) != MQB_OK) {
        return status;
    }
    if (b->algorithm != NULL && (status = mqb_calibrate(b->graph, b->points, b->session.compute, b->session.pool, b->loader,
                                                        b->batch, 1, NULL, error)) != MQB_OK) {
        return status;
    }
    struct mqb_exec_config exec = {
        .graph = b->graph,
        .host = mqb_host_table(),
        .compute = b->session.compute,
        .pool = b->session.pool,
        .batch = b->batch,
        .training = true,
        .gradients = true,
    };
    status = mqb_exec_create(&exec, &b->exec, error);
    return status != MQB_OK
               ? status
               : mqb_optimizer_create(b->graph, b->exec, b->points, b->session.pool, &b->recipe, &b->optimizer, error);
}

static double cpu_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static mqb_status measure(struct bench *b, struct mqb_error *error)
{
    struct mqb_batch batch;
    mqb_status status = mqb_loader_start(b->loader, 0, 0, error);

    if (status == MQB_OK) {
        status = mqb_loader_next(b->loader, &batch, error);
    }
    for (int step = -NUM_WARM_UP; step < NUM_STEPS && status == MQB_OK; step++) {
        double at[NUM_PARTS];

        double cpu = cpu_seconds();

        at[FORWARD] = mqb_seconds();
        if ((status = mqb_exec_forward(b->exec, batch.x, batch.num_images, error)) != MQB_OK) {
            break;
        }
        at[LOSS] = mqb_seconds();
        if ((status = mqb_exec_loss(b->exec, batch.labels, 0.1, &b->loss, NULL, error)) != MQB_OK) {
            break;
        }
        at[BACKWARD] = mqb_seconds();
        if ((status = mqb_exec_backward(b->exec, error)) != MQB_OK) {
            break;
        }
        at[UPDATE] = mqb_seconds();
        mqb_optimizer_step(b->optimizer, 1e-3);
        at[STEP] = mqb_seconds();
        for (int part = 0; part < STEP && step >= 0; part++) {
            b->times[part][step] = at[part + 1] - at[part];
        }
        if (step >= 0) {
            b->times[STEP][step] = at[STEP] - at[FORWARD];
            b->times[CPU][step] = cpu_seconds() - cpu;
        }
    }
    return status;
}

static void release(struct bench *b)
{
    mqb_optimizer_destroy(b->optimizer);
    mqb_exec_destroy(b->exec);
    mqb_loader_destroy(b->loader);
    mqb_dataset_close(b->dataset);
    mqb_points_destroy(b->points);
    mqb_graph_destroy(b->graph);
    mqb_options_destroy(b->backend_options);
    mqb_options_destroy(b->weight_options);
    mqb_options_destroy(b->activation_options);
    mqb_session_close(&b->session);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median_ms(double *times)
{
    qsort(times, NUM_STEPS, sizeof(times[0]), ascending);
    return (times[NUM_STEPS / 2 - 1] + times[NUM_STEPS / 2]) / 2 * 1e3;
}

int main(int argc, char **argv)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct bench b = {.network = argc > 1 ? argv[1] : ""};
    char *end = NULL;
    long batch = argc > 2 ? strtol(argv[2], &end, 10) : 0, threads = argc > 3 ? strtol(argv[3], &end, 10) : 0;

    if (argc < 5 || batch < 1 || batch > 4096 || threads < 1 || threads > 1024) {
        fprintf(stderr, "usage: %s NET BATCH THREADS fp32|ALGORITHM [BACKEND [COMPUTE]]\n", argv[0]);
        return 2;
    }
    b.batch = (int)batch;
    b.algorithm = strcmp(argv[4], "fp32") == 0 ? NULL : argv[4];
    b.backend_id = argc > 5 ? argv[5] : "snpe_sim";
    mqb_status status = prepare(&b, argc > 6 ? argv[6] : NULL, (int)threads, &error);
    if (status == MQB_OK) {
        status = measure(&b, &error);
    }
    if (status != MQB_OK) {
        fprintf(stderr, "bench_step: %s\n", error.text);
        release(&b);
        return 1;
    }
    double median = median_ms(b.times[STEP]);
    printf("%s b%ld t%ld %s %s: min %.1f ms, median %.1f ms, %.1f img/s (forward %.1f, loss %.2f, backward %.1f, update %.2f; "
           "processor %.1f; plan %.1f MB; loss %.4f)\n",
           b.network, batch, threads, argv[4], b.session.compute_entry->id, b.times[STEP][0] * 1e3, median,
           (double)batch / median * 1e3, median_ms(b.times[FORWARD]), median_ms(b.times[LOSS]), median_ms(b.times[BACKWARD]),
           median_ms(b.times[UPDATE]),
           median_ms(b.times[CPU]), (double)mqb_exec_memory(b.exec) * 1e-6, b.loss);
    release(&b);
    return 0;
}
