/*
 * bench_infer NET BATCH THREADS BACKEND [KEY=VALUE ...] [OUT.onnx] - images a second of the integer program: its least and its
 * median time a batch, and the processor time that it took, which a busy machine disturbs less.
 *
 * NET is an ONNX file or a name that `mqbench train` knows (32x32 images). The network is quantized as a run would (ptq_minmax,
 * 8 bits, random images), not trained. KEY=VALUE: options of the backend, or compute=PROVIDER, seconds=S (measure so long,
 * default 2). OUT.onnx: the program in ONNX's QDQ form, for another engine. The last field of the line is a hash of the logits:
 * the same on every instruction set.
 */
#include "report/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MIN_RUNS = 7, MAX_RUNS = 400, CALIBRATION = 4, CLASSES = 10, SIZE = 32, CHANNELS = 3 };

struct bench {
    const char *network, *backend_id, *compute, *out;
    int batch;
    double seconds;
    struct mqb_session session;
    struct mqb_graph *graph;
    struct mqb_points *points;
    struct mqb_deploy *deploy;
    struct mqb_program *program;
    struct mqb_options *backend_options, *weight_options, *activation_options;
    struct mqb_dataset *dataset;
    struct mqb_loader *loader;
    float *x, *logits;
    int64_t x_size, classes;
    double wall[MAX_RUNS], cpu[MAX_RUNS];
    int runs;
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
            status = mqb_options_set(options, "strategy", value, "bench_infer", error);
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

/* The words KEY=VALUE that are not the bench's own. */
static mqb_status backend_words(struct bench *b, char **words, struct mqb_error *error)
{
    mqb_status status = MQB_OK;

    for (; *words != NULL && status == MQB_OK; words++) {
        char key[64];
        const char *equals = strchr(*words, '=');
        size_t length = equals != NULL ? (size_t)(equals - *words) : 0;

        if (equals == NULL || length >= sizeof(key) || strncmp(*words, "compute=", 8) == 0 ||
            strncmp(*words, "seconds=", 8) == 0) {
            continue;
        }
        memcpy(key, *words, length);
        key[length] = '\0';
        status = mqb_options_set(b->backend_options, key, equals + 1, "bench_infer", error);
    }
    return status;
}

/* From the float network to the integer program. */
static mqb_status quantize(struct bench *b, char **words, struct mqb_error *error)
{
    const struct mqb_entry *backend_entry, *entry;
    struct mqb_backend_rules rules = {.struct_size = sizeof(rules)};
    mqb_status status = mqb_registry_find(b->session.registry, MQB_KIND_BACKEND, b->backend_id, &backend_entry, error);

    if (status != MQB_OK ||
        (status = mqb_registry_find(b->session.registry, MQB_KIND_QUANTIZER, "ptq_minmax", &entry, error)) != MQB_OK) {
        return status;
    }
    const struct mqb_backend *backend = backend_entry->vtable;
    const struct mqb_quantizer *quantizer = entry->vtable;
    if ((status = options_of(b, backend_entry, backend->options, backend->num_options, &b->backend_options, error)) != MQB_OK ||
        (status = backend_words(b, words, error)) != MQB_OK ||
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
        .weight = {"ptq_minmax", quantizer, b->weight_options},
        .activation = {"ptq_minmax", quantizer, b->activation_options},
        .weight_bits = 8,
        .activation_bits = 8,
        .io_bits = 8,
    };
    if (status != MQB_OK || (status = mqb_points_create(b->graph, &points, &b->points, error)) != MQB_OK ||
        (status = mqb_calibrate(b->graph, b->points, b->session.compute, b->session.pool, b->loader, CALIBRATION, 1, NULL,
                                error)) != MQB_OK ||
        (status = mqb_deploy_create(b->graph, b->points, &b->deploy, error)) != MQB_OK) {
        return status;
    }
    return mqb_program_create(b->deploy, &rules, b->session.compute, &b->program, error);
}

static mqb_status images(struct bench *b, struct mqb_error *error)
{
    struct mqb_batch batch;
    const struct mqb_value *input = &b->graph->values[b->graph->input];
    mqb_status status = mqb_loader_start(b->loader, 0, 0, error);

    if (status == MQB_OK) {
        status = mqb_loader_next(b->loader, &batch, error);
    }
    b->x_size = mqb_value_size(input);
    b->classes = mqb_value_size(&b->graph->values[b->graph->output]);
    b->x = mqb_allocate_array((size_t)b->batch * (size_t)b->x_size, sizeof(float));
    b->logits = mqb_allocate_array((size_t)b->batch * (size_t)b->classes, sizeof(float));
    if (status == MQB_OK && (b->x == NULL || b->logits == NULL)) {
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a batch");
    }
    for (int i = 0; status == MQB_OK && i < b->batch; i++) {
        memcpy(b->x + i * b->x_size, batch.x + i % batch.num_images * b->x_size, (size_t)b->x_size * sizeof(float));
    }
    return status;
}

static mqb_status prepare(struct bench *b, int threads, char **words, struct mqb_error *error)
{
    struct mqb_loader_config loader = {.split = MQB_SPLIT_TRAIN, .batch = CALIBRATION, .size = SIZE};
    mqb_status status = mqb_session_open(NULL, b->compute, threads, &b->session, error);
    size_t length = strlen(b->network);

    if (status != MQB_OK) {
        return status;
    }
    status = length > 5 && strcmp(b->network + length - 5, ".onnx") == 0
                 ? mqb_onnx_import(b->network, &mqb_ops, &b->graph, error)
                 : mqb_model_build(b->network, &mqb_ops, CHANNELS, SIZE, SIZE, CLASSES, 1, &b->graph, error);
    if (status == MQB_OK) {
        loader.size = (int32_t)b->graph->values[b->graph->input].dims[2];
    }
    if (status != MQB_OK || (status = mqb_dataset_open("synth", CALIBRATION, 1, 0, &b->dataset, error)) != MQB_OK ||
        (status = mqb_normalize_parse("imagenet", &loader.normalize, error)) != MQB_OK ||
        (status = mqb_loader_create(b->dataset, &loader, &b->loader, error)) != MQB_OK ||
        (status = quantize(b, words, error)) != MQB_OK || (status = images(b, error)) != MQB_OK) {
        return status;
    }
    return b->out != NULL ? mqb_program_export_onnx(b->program, b->deploy, MQB_ONNX_QDQ, b->out, error) : MQB_OK;
}

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static mqb_status measure(struct bench *b, struct mqb_error *error)
{
    const double begin = mqb_seconds();
    mqb_status status = MQB_OK;

    for (int run = -2; run < MAX_RUNS && status == MQB_OK && (run < MIN_RUNS || mqb_seconds() - begin < b->seconds); run++) {
        const double wall = mqb_seconds(), cpu = cpu_seconds();

        status = mqb_program_run(b->program, b->session.pool, b->x, b->batch, b->logits, NULL, error);
        if (run >= 0) {
            b->wall[run] = mqb_seconds() - wall;
            b->cpu[run] = cpu_seconds() - cpu;
            b->runs = run + 1;
        }
    }
    return status;
}

static void release(struct bench *b)
{
    mqb_program_destroy(b->program);
    mqb_deploy_destroy(b->deploy);
    mqb_loader_destroy(b->loader);
    mqb_dataset_close(b->dataset);
    mqb_points_destroy(b->points);
    mqb_graph_destroy(b->graph);
    mqb_options_destroy(b->backend_options);
    mqb_options_destroy(b->weight_options);
    mqb_options_destroy(b->activation_options);
    mqb_deallocate(b->x);
    mqb_deallocate(b->logits);
    mqb_session_close(&b->session);
}

/* Multiplications of an image, in convolutions and linear layers. */
static double multiplications(const struct mqb_graph *graph)
{
    double sum = 0;

    for (int32_t i = 0; i < graph->num_ordered; i++) {
        const struct mqb_node *node = &graph->nodes[graph->order[i]];

        if (strcmp(node->op->name, "Conv") == 0 || strcmp(node->op->name, "Gemm") == 0) {
            const struct mqb_value *weight = &graph->values[node->inputs[1]], *y = &graph->values[node->output];
            const bool gemm = strcmp(node->op->name, "Gemm") == 0;
            const double pixels = (double)mqb_value_size(y) / (double)(gemm ? mqb_value_size(y) : y->dims[1]);

            sum += (double)mqb_value_size(weight) * pixels;
        }
    }
    return sum;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *times, int n)
{
    qsort(times, (size_t)n, sizeof(times[0]), ascending);
    return (times[(n - 1) / 2] + times[n / 2]) / 2;
}

int main(int argc, char **argv)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct bench b = {.network = argc > 1 ? argv[1] : "", .seconds = 2.0};
    char *end = NULL;
    long batch = argc > 2 ? strtol(argv[2], &end, 10) : 0, threads = argc > 3 ? strtol(argv[3], &end, 10) : 0;

    if (argc < 5 || batch < 1 || batch > 4096 || threads < 1 || threads > 1024) {
        fprintf(stderr, "usage: %s NET BATCH THREADS BACKEND [KEY=VALUE ...] [OUT.onnx]\n", argv[0]);
        return 2;
    }
    b.batch = (int)batch;
    b.backend_id = argv[4];
    for (int i = 5; i < argc; i++) {
        if (strncmp(argv[i], "compute=", 8) == 0) {
            b.compute = argv[i] + 8;
        } else if (strncmp(argv[i], "seconds=", 8) == 0) {
            b.seconds = strtod(argv[i] + 8, NULL);
        } else if (strchr(argv[i], '=') == NULL) {
            b.out = argv[i];
        }
    }
    mqb_status status = prepare(&b, (int)threads, argv + 5, &error);
    if (status == MQB_OK) {
        status = measure(&b, &error);
    }
    if (status != MQB_OK) {
        fprintf(stderr, "bench_infer: %s\n", error.text);
        release(&b);
        return 1;
    }
    const char *slash = strrchr(b.network, '/');
    const double wall = median(b.wall, b.runs), cpu = median(b.cpu, b.runs), giga = multiplications(b.deploy->graph) * 2e-9;
    struct mqb_sha256 hash;
    char digest[65];
    mqb_sha256_init(&hash);
    mqb_sha256_update(&hash, b.logits, (size_t)b.batch * (size_t)b.classes * sizeof(float));
    mqb_sha256_hex(&hash, digest);
    printf("%s b%ld t%ld %s %s: min %.3f ms, median %.3f ms, cpu min %.3f ms, median %.3f ms, %.1f img/s, %.1f GOP/s of cpu, "
           "%d runs, logits %.12s\n",
           slash != NULL ? slash + 1 : b.network, batch, threads, b.backend_id, b.session.compute->isa(mqb_host_table()),
           b.wall[0] * 1e3, wall * 1e3, b.cpu[0] * 1e3, cpu * 1e3, (double)batch / wall, giga * (double)batch / cpu, b.runs,
           digest);
    release(&b);
    return 0;
}
