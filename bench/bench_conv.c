/*
 * bench_conv PROVIDER.so [NAME] - how fast a compute provider convolves, on one thread: GFLOP/s (a multiply-add is two) for
 * the layers of real networks, the median and the best of several runs. NAME: only rows whose name contains it.
 *
 * Rates count every kernel position, also those in the padding, as is usual.
 */
#include <mqbench/compute.h>
#include <mqbench/plugin.h>

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NUM_RUNS = 5 };

struct row {
    const char *name;
    int32_t n, c, size, k, kernel, stride, pad, groups;
};

static const struct row rows[] = {
    { "resnet20 stem 3-16", 8, 3, 32, 16, 3, 1, 1, 1 },
    { "resnet20 16-16", 8, 16, 32, 16, 3, 1, 1, 1 },
    { "resnet20 16-32 /2", 8, 16, 32, 32, 3, 2, 1, 1 },
    { "resnet20 32-32", 8, 32, 16, 32, 3, 1, 1, 1 },
    { "resnet20 32-64 /2", 8, 32, 16, 64, 3, 2, 1, 1 },
    { "resnet20 64-64", 8, 64, 8, 64, 3, 1, 1, 1 },
    { "resnet20 down 16-32 /2", 8, 16, 32, 32, 1, 2, 0, 1 },
    { "resnet20 fc 64-10", 8, 64, 1, 10, 1, 1, 0, 1 },
    { "resnet18 stem 7x7 /2", 4, 3, 224, 64, 7, 2, 3, 1 },
    { "resnet18 64-64", 4, 64, 56, 64, 3, 1, 1, 1 },
    { "resnet18 64-128 /2", 4, 64, 56, 128, 3, 2, 1, 1 },
    { "resnet18 128-128", 4, 128, 28, 128, 3, 1, 1, 1 },
    { "resnet18 256-256", 4, 256, 14, 256, 3, 1, 1, 1 },
    { "resnet18 512-512", 4, 512, 7, 512, 3, 1, 1, 1 },
    { "resnet18 down 64-128 /2", 4, 64, 56, 128, 1, 2, 0, 1 },
    { "resnet50 64-256 1x1", 1, 64, 56, 256, 1, 1, 0, 1 },
    { "resnet50 512-128 1x1", 1, 512, 28, 128, 1, 1, 0, 1 },
    { "resnet50 1024-256 1x1", 1, 1024, 14, 256, 1, 1, 0, 1 },
    { "resnet50 2048-512 1x1", 1, 2048, 7, 512, 1, 1, 0, 1 },
    { "mobilenetv2 stem /2", 1, 3, 224, 32, 3, 2, 1, 1 },
    { "mobilenetv2 16-96 1x1", 1, 16, 112, 96, 1, 1, 0, 1 },
    { "mobilenetv2 96-24 1x1", 1, 96, 56, 24, 1, 1, 0, 1 },
    { "mobilenetv2 24-144 1x1", 1, 24, 56, 144, 1, 1, 0, 1 },
    { "mobilenetv2 384-64 1x1", 1, 384, 14, 64, 1, 1, 0, 1 },
    { "mobilenetv2 160-960 1x1", 1, 160, 7, 960, 1, 1, 0, 1 },
    { "mobilenetv2 dw 32", 1, 32, 112, 32, 3, 1, 1, 32 },
    { "mobilenetv2 dw 96 /2", 1, 96, 112, 96, 3, 2, 1, 96 },
    { "mobilenetv2 dw 144", 1, 144, 56, 144, 3, 1, 1, 144 },
    { "mobilenetv2 dw 384", 1, 384, 14, 384, 3, 1, 1, 384 },
    { "mobilenetv2 dw 960", 1, 960, 7, 960, 3, 1, 1, 960 },
    { "mobilenetv1 dw 512", 1, 512, 14, 512, 3, 1, 1, 512 },
    { "mobilenetv1 dw 64", 8, 64, 14, 64, 3, 1, 1, 64 },
    { "mobilenetv2 fc 1280-1000", 8, 1280, 1, 1000, 1, 1, 0, 1 },
};

static mqb_status host_fail(struct mqb_error *error, mqb_status status, const char *format, ...)
{
    (void)error;
    (void)format;
    return status;
}

static void host_log(int level, const char *format, ...)
{
    (void)level;
    (void)format;
}

static void *host_allocate(size_t size)
{
    void *memory = NULL;

    return size == 0 || posix_memalign(&memory, 64, size) != 0 ? NULL : memset(memory, 0, size);
}

static const struct mqb_host host = {
    .struct_size = sizeof(struct mqb_host),
    .abi_major = MQB_ABI_MAJOR,
    .abi_minor = MQB_ABI_MINOR,
    .fail = host_fail,
    .log = host_log,
    .allocate = host_allocate,
    .deallocate = free,
};

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* other programs on the machine do not count */
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

struct work {
    const struct mqb_compute *compute;
    struct mqb_conv_plan *plan;
    int32_t n;
    float *x, *y, *weight;
    uint8_t *bytes;
    int8_t *codes;
    void *packed, *codes_packed, *scratch;
};

enum kind { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS, INTEGER, PACK, NUM_KINDS };

static void work_run(const struct work *w, enum kind kind)
{
    switch (kind) {
    case FORWARD:
        w->compute->conv_forward(w->plan, w->n, w->x, w->packed, NULL, w->y, w->scratch);
        break;
    case BACKWARD_DATA:
        w->compute->conv_backward_data(w->plan, w->n, w->y, w->packed, w->x, 0, w->scratch);
        break;
    case BACKWARD_WEIGHTS:
        w->compute->conv_backward_weights(w->plan, w->n, w->x, w->y, w->weight, w->scratch);
        break;
    case INTEGER:
        w->compute->iconv_forward(w->plan, w->n, w->bytes, 0, w->codes_packed, (int32_t *)(void *)w->y, w->scratch);
        break;
    default:
        w->compute->conv_pack(w->plan, w->weight, 1, w->packed);
        break;
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Seconds a call: the best and the median of NUM_RUNS measurements of a few milliseconds. */
static void measure(const struct work *w, enum kind kind, double *best, double *median)
{
    double times[NUM_RUNS];
    double start = seconds();
    int repeats = 1;

    work_run(w, kind);
    double once = seconds() - start;
    while (repeats * once < 4e-3 && repeats < 10000) {
        repeats *= 2;
    }
    for (int i = 0; i < NUM_RUNS; i++) {
        start = seconds();
        for (int j = 0; j < repeats; j++) {
            work_run(w, kind);
        }
        times[i] = (seconds() - start) / repeats;
    }
    qsort(times, NUM_RUNS, sizeof(times[0]), ascending);
    *best = times[0];
    *median = times[NUM_RUNS / 2];
}

static void bench(const struct mqb_compute *compute, const struct row *row)
{
    struct work w = { .compute = compute, .n = row->n };
    int32_t out = (row->size + 2 * row->pad - row->kernel) / row->stride + 1;
    struct mqb_conv_shape shape = { sizeof(shape), row->c,      row->size,   row->size, row->k,   row->kernel, row->kernel, out, out,
                                    row->stride,   row->stride, row->pad,    row->pad,  row->pad, row->pad,    1,           1,
                                    row->groups };
    size_t in_count = (size_t)row->n * (size_t)row->size * (size_t)row->size * (size_t)row->c;
    size_t out_count = (size_t)row->n * (size_t)out * (size_t)out * (size_t)row->k;
    size_t weights = (size_t)row->k * (size_t)(row->c / row->groups) * (size_t)(row->kernel * row->kernel);
    double work = 2.0 * (double)out_count * (double)(row->c / row->groups) * row->kernel * row->kernel;

    printf("%-26s", row->name);
    if (compute->conv_create(&host, &shape, row->n, &w.plan, NULL) != MQB_OK) {
        printf("  not supported\n");
        return;
    }
    size_t scratch = compute->conv_scratch_size(w.plan);
    size_t more = compute->iconv_forward == NULL ? 0 : compute->iconv_scratch_size(w.plan);
    w.x = host_allocate(in_count * sizeof(float));
    w.y = host_allocate(out_count * sizeof(float));
    w.weight = host_allocate(weights * sizeof(float));
    w.bytes = host_allocate(in_count);
    w.codes = host_allocate(weights);
    w.packed = host_allocate(compute->conv_packed_size(w.plan) + 1);
    w.scratch = host_allocate((scratch > more ? scratch : more) + 1);
    for (size_t i = 0; i < in_count; i++) {
        w.x[i] = (float)(i % 17) / 17.0f - 0.5f;
        w.bytes[i] = (uint8_t)(i % 251);
    }
    for (size_t i = 0; i < weights; i++) {
        w.weight[i] = (float)(i % 13) / 13.0f - 0.5f;
        w.codes[i] = (int8_t)(i % 255 - 127);
    }
    compute->conv_pack(w.plan, w.weight, 1, w.packed);
    if (compute->iconv_forward != NULL) {
        w.codes_packed = host_allocate(compute->iconv_packed_size(w.plan) + 1);
        compute->iconv_pack(w.plan, w.codes, w.codes_packed);
    }
    for (enum kind kind = 0; kind < NUM_KINDS; kind++) {
        double best, median;

        if (kind == INTEGER && compute->iconv_forward == NULL) {
            printf("      -      ");
            continue;
        }
        measure(&w, kind, &best, &median);
        if (kind == PACK) {
            printf(" %8.1f", median * 1e6);
        } else {
            printf(" %6.1f (%5.1f)", work / median * 1e-9, work / best * 1e-9);
        }
        if (kind == BACKWARD_DATA) { /* y was read, x written: the next kernels read x again */
            for (size_t i = 0; i < in_count; i++) {
                w.x[i] = (float)(i % 17) / 17.0f - 0.5f;
            }
        }
    }
    printf("\n");
    free(w.x);
    free(w.y);
    free(w.weight);
    free(w.bytes);
    free(w.codes);
    free(w.packed);
    free(w.codes_packed);
    free(w.scratch);
    compute->conv_destroy(w.plan);
}

int main(int argc, char **argv)
{
    void *library = argc >= 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    const struct mqb_plugin_entry *entry = library == NULL ? NULL : dlsym(library, MQB_PLUGIN_SYMBOL);

    if (entry == NULL) {
        fprintf(stderr, "usage: %s PROVIDER.so [NAME]\n%s\n", argv[0], argc >= 2 ? dlerror() : "");
        return 2;
    }
    for (uint32_t i = 0; i < entry->num_components; i++) {
        const struct mqb_compute *compute = entry->components[i].vtable;

        if (strcmp(entry->components[i].interface_id, MQB_COMPUTE_INTERFACE) != 0) {
            continue;
        }
        printf("%s on %s, one thread; GFLOP/s (GOP/s), median and (best); pack in microseconds\n", entry->components[i].id,
               compute->isa(&host));
        printf("%-26s %14s %14s %14s %14s %8s\n", "layer", "forward", "backward-data", "backward-wei.", "integer", "pack");
        for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++) {
            if (argc < 3 || strstr(rows[j].name, argv[2]) != NULL) {
                bench(compute, &rows[j]);
            }
        }
    }
    return 0;
}
