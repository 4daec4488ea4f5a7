/*
 * bench_conv PROVIDER.so... [NAME] - how fast compute providers convolve, on one thread, layer by layer and in turn: GFLOP/s
 * (a multiply-add is two) of the layers of real networks. NAME: only layers whose name contains it.
 *
 * Rates count every kernel position, also those in the padding, as is usual. `bits` is a hash of all float results: equal for
 * kernels that give the same bits. The sums at the end are the milliseconds that all layers of a network take for an image.
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

/* A kind of layer, as often as the network has it; the padding is half the kernel. */
struct row {
    const char *network, *name;
    int32_t times, n, c, size, k, kernel, stride, groups;
};

static const struct row rows[] = {
    { "resnet20", "3x3 3-16 @32", 1, 8, 3, 32, 16, 3, 1, 1 },
    { "resnet20", "3x3 16-16 @32", 6, 8, 16, 32, 16, 3, 1, 1 },
    { "resnet20", "3x3 16-32 @32 /2", 1, 8, 16, 32, 32, 3, 2, 1 },
    { "resnet20", "3x3 32-32 @16", 5, 8, 32, 16, 32, 3, 1, 1 },
    { "resnet20", "3x3 32-64 @16 /2", 1, 8, 32, 16, 64, 3, 2, 1 },
    { "resnet20", "3x3 64-64 @8", 5, 8, 64, 8, 64, 3, 1, 1 },
    { "resnet20", "1x1 16-32 @32 /2", 1, 8, 16, 32, 32, 1, 2, 1 },
    { "resnet20", "1x1 32-64 @16 /2", 1, 8, 32, 16, 64, 1, 2, 1 },
    { "resnet20", "fc 64-10", 1, 8, 64, 1, 10, 1, 1, 1 },
    { "resnet18", "7x7 3-64 @224 /2", 1, 4, 3, 224, 64, 7, 2, 1 },
    { "resnet18", "3x3 64-64 @56", 4, 4, 64, 56, 64, 3, 1, 1 },
    { "resnet18", "3x3 64-128 @56 /2", 1, 4, 64, 56, 128, 3, 2, 1 },
    { "resnet18", "3x3 128-128 @28", 3, 4, 128, 28, 128, 3, 1, 1 },
    { "resnet18", "3x3 128-256 @28 /2", 1, 4, 128, 28, 256, 3, 2, 1 },
    { "resnet18", "3x3 256-256 @14", 3, 4, 256, 14, 256, 3, 1, 1 },
    { "resnet18", "3x3 256-512 @14 /2", 1, 4, 256, 14, 512, 3, 2, 1 },
    { "resnet18", "3x3 512-512 @7", 3, 4, 512, 7, 512, 3, 1, 1 },
    { "resnet18", "1x1 64-128 @56 /2", 1, 4, 64, 56, 128, 1, 2, 1 },
    { "resnet18", "1x1 128-256 @28 /2", 1, 4, 128, 28, 256, 1, 2, 1 },
    { "resnet18", "1x1 256-512 @14 /2", 1, 4, 256, 14, 512, 1, 2, 1 },
    { "resnet18", "fc 512-1000", 1, 4, 512, 1, 1000, 1, 1, 1 },
    { "resnet50", "7x7 3-64 @224 /2", 1, 2, 3, 224, 64, 7, 2, 1 },
    { "resnet50", "1x1 64-64 @56", 1, 2, 64, 56, 64, 1, 1, 1 },
    { "resnet50", "3x3 64-64 @56", 3, 2, 64, 56, 64, 3, 1, 1 },
    { "resnet50", "1x1 64-256 @56", 4, 2, 64, 56, 256, 1, 1, 1 },
    { "resnet50", "1x1 256-64 @56", 2, 2, 256, 56, 64, 1, 1, 1 },
    { "resnet50", "1x1 256-128 @56", 1, 2, 256, 56, 128, 1, 1, 1 },
    { "resnet50", "3x3 128-128 @56 /2", 1, 2, 128, 56, 128, 3, 2, 1 },
    { "resnet50", "1x1 128-512 @28", 4, 2, 128, 28, 512, 1, 1, 1 },
    { "resnet50", "1x1 256-512 @56 /2", 1, 2, 256, 56, 512, 1, 2, 1 },
    { "resnet50", "1x1 512-128 @28", 3, 2, 512, 28, 128, 1, 1, 1 },
    { "resnet50", "3x3 128-128 @28", 3, 2, 128, 28, 128, 3, 1, 1 },
    { "resnet50", "1x1 512-256 @28", 1, 2, 512, 28, 256, 1, 1, 1 },
    { "resnet50", "3x3 256-256 @28 /2", 1, 2, 256, 28, 256, 3, 2, 1 },
    { "resnet50", "1x1 256-1024 @14", 6, 2, 256, 14, 1024, 1, 1, 1 },
    { "resnet50", "1x1 512-1024 @28 /2", 1, 2, 512, 28, 1024, 1, 2, 1 },
    { "resnet50", "1x1 1024-256 @14", 5, 2, 1024, 14, 256, 1, 1, 1 },
    { "resnet50", "3x3 256-256 @14", 5, 2, 256, 14, 256, 3, 1, 1 },
    { "resnet50", "1x1 1024-512 @14", 1, 2, 1024, 14, 512, 1, 1, 1 },
    { "resnet50", "3x3 512-512 @14 /2", 1, 2, 512, 14, 512, 3, 2, 1 },
    { "resnet50", "1x1 512-2048 @7", 3, 2, 512, 7, 2048, 1, 1, 1 },
    { "resnet50", "1x1 1024-2048 @14 /2", 1, 2, 1024, 14, 2048, 1, 2, 1 },
    { "resnet50", "1x1 2048-512 @7", 2, 2, 2048, 7, 512, 1, 1, 1 },
    { "resnet50", "3x3 512-512 @7", 2, 2, 512, 7, 512, 3, 1, 1 },
    { "resnet50", "fc 2048-1000", 1, 2, 2048, 1, 1000, 1, 1, 1 },
    { "mobilenetv2", "3x3 3-32 @224 /2", 1, 2, 3, 224, 32, 3, 2, 1 },
    { "mobilenetv2", "dw3 32 @112", 1, 2, 32, 112, 32, 3, 1, 32 },
    { "mobilenetv2", "1x1 32-16 @112", 1, 2, 32, 112, 16, 1, 1, 1 },
    { "mobilenetv2", "1x1 16-96 @112", 1, 2, 16, 112, 96, 1, 1, 1 },
    { "mobilenetv2", "dw3 96 @112 /2", 1, 2, 96, 112, 96, 3, 2, 96 },
    { "mobilenetv2", "1x1 96-24 @56", 1, 2, 96, 56, 24, 1, 1, 1 },
    { "mobilenetv2", "1x1 24-144 @56", 2, 2, 24, 56, 144, 1, 1, 1 },
    { "mobilenetv2", "dw3 144 @56", 1, 2, 144, 56, 144, 3, 1, 144 },
    { "mobilenetv2", "1x1 144-24 @56", 1, 2, 144, 56, 24, 1, 1, 1 },
    { "mobilenetv2", "dw3 144 @56 /2", 1, 2, 144, 56, 144, 3, 2, 144 },
    { "mobilenetv2", "1x1 144-32 @28", 1, 2, 144, 28, 32, 1, 1, 1 },
    { "mobilenetv2", "1x1 32-192 @28", 3, 2, 32, 28, 192, 1, 1, 1 },
    { "mobilenetv2", "dw3 192 @28", 2, 2, 192, 28, 192, 3, 1, 192 },
    { "mobilenetv2", "1x1 192-32 @28", 2, 2, 192, 28, 32, 1, 1, 1 },
    { "mobilenetv2", "dw3 192 @28 /2", 1, 2, 192, 28, 192, 3, 2, 192 },
    { "mobilenetv2", "1x1 192-64 @14", 1, 2, 192, 14, 64, 1, 1, 1 },
    { "mobilenetv2", "1x1 64-384 @14", 4, 2, 64, 14, 384, 1, 1, 1 },
    { "mobilenetv2", "dw3 384 @14", 4, 2, 384, 14, 384, 3, 1, 384 },
    { "mobilenetv2", "1x1 384-64 @14", 3, 2, 384, 14, 64, 1, 1, 1 },
    { "mobilenetv2", "1x1 384-96 @14", 1, 2, 384, 14, 96, 1, 1, 1 },
    { "mobilenetv2", "1x1 96-576 @14", 3, 2, 96, 14, 576, 1, 1, 1 },
    { "mobilenetv2", "dw3 576 @14", 2, 2, 576, 14, 576, 3, 1, 576 },
    { "mobilenetv2", "1x1 576-96 @14", 2, 2, 576, 14, 96, 1, 1, 1 },
    { "mobilenetv2", "dw3 576 @14 /2", 1, 2, 576, 14, 576, 3, 2, 576 },
    { "mobilenetv2", "1x1 576-160 @7", 1, 2, 576, 7, 160, 1, 1, 1 },
    { "mobilenetv2", "1x1 160-960 @7", 3, 2, 160, 7, 960, 1, 1, 1 },
    { "mobilenetv2", "dw3 960 @7", 3, 2, 960, 7, 960, 3, 1, 960 },
    { "mobilenetv2", "1x1 960-160 @7", 2, 2, 960, 7, 160, 1, 1, 1 },
    { "mobilenetv2", "1x1 960-320 @7", 1, 2, 960, 7, 320, 1, 1, 1 },
    { "mobilenetv2", "1x1 320-1280 @7", 1, 2, 320, 7, 1280, 1, 1, 1 },
    { "mobilenetv2", "fc 1280-1000", 1, 2, 1280, 1, 1000, 1, 1, 1 },
    { "efficientnet", "3x3 3-32 @224 /2", 1, 2, 3, 224, 32, 3, 2, 1 },
    { "efficientnet", "dw3 32 @112", 1, 2, 32, 112, 32, 3, 1, 32 },
    { "efficientnet", "1x1 32-16 @112", 1, 2, 32, 112, 16, 1, 1, 1 },
    { "efficientnet", "1x1 16-96 @112", 1, 2, 16, 112, 96, 1, 1, 1 },
    { "efficientnet", "dw3 96 @112 /2", 1, 2, 96, 112, 96, 3, 2, 96 },
    { "efficientnet", "1x1 96-24 @56", 1, 2, 96, 56, 24, 1, 1, 1 },
    { "efficientnet", "1x1 24-144 @56", 2, 2, 24, 56, 144, 1, 1, 1 },
    { "efficientnet", "dw3 144 @56", 1, 2, 144, 56, 144, 3, 1, 144 },
    { "efficientnet", "1x1 144-24 @56", 1, 2, 144, 56, 24, 1, 1, 1 },
    { "efficientnet", "dw5 144 @56 /2", 1, 2, 144, 56, 144, 5, 2, 144 },
    { "efficientnet", "1x1 144-40 @28", 1, 2, 144, 28, 40, 1, 1, 1 },
    { "efficientnet", "1x1 40-240 @28", 2, 2, 40, 28, 240, 1, 1, 1 },
    { "efficientnet", "dw5 240 @28", 1, 2, 240, 28, 240, 5, 1, 240 },
    { "efficientnet", "1x1 240-40 @28", 1, 2, 240, 28, 40, 1, 1, 1 },
    { "efficientnet", "dw3 240 @28 /2", 1, 2, 240, 28, 240, 3, 2, 240 },
    { "efficientnet", "1x1 240-80 @14", 1, 2, 240, 14, 80, 1, 1, 1 },
    { "efficientnet", "1x1 80-480 @14", 3, 2, 80, 14, 480, 1, 1, 1 },
    { "efficientnet", "dw3 480 @14", 2, 2, 480, 14, 480, 3, 1, 480 },
    { "efficientnet", "1x1 480-80 @14", 2, 2, 480, 14, 80, 1, 1, 1 },
    { "efficientnet", "dw5 480 @14", 1, 2, 480, 14, 480, 5, 1, 480 },
    { "efficientnet", "1x1 480-112 @14", 1, 2, 480, 14, 112, 1, 1, 1 },
    { "efficientnet", "1x1 112-672 @14", 3, 2, 112, 14, 672, 1, 1, 1 },
    { "efficientnet", "dw5 672 @14", 2, 2, 672, 14, 672, 5, 1, 672 },
    { "efficientnet", "1x1 672-112 @14", 2, 2, 672, 14, 112, 1, 1, 1 },
    { "efficientnet", "dw5 672 @14 /2", 1, 2, 672, 14, 672, 5, 2, 672 },
    { "efficientnet", "1x1 672-192 @7", 1, 2, 672, 7, 192, 1, 1, 1 },
    { "efficientnet", "1x1 192-1152 @7", 4, 2, 192, 7, 1152, 1, 1, 1 },
    { "efficientnet", "dw5 1152 @7", 3, 2, 1152, 7, 1152, 5, 1, 1152 },
    { "efficientnet", "1x1 1152-192 @7", 3, 2, 1152, 7, 192, 1, 1, 1 },
    { "efficientnet", "dw3 1152 @7", 1, 2, 1152, 7, 1152, 3, 1, 1152 },
    { "efficientnet", "1x1 1152-320 @7", 1, 2, 1152, 7, 320, 1, 1, 1 },
    { "efficientnet", "1x1 320-1280 @7", 1, 2, 320, 7, 1280, 1, 1, 1 },
    { "efficientnet", "fc 1280-1000", 1, 2, 1280, 1, 1000, 1, 1, 1 },
    { "regnetx", "3x3 3-32 @224 /2", 1, 2, 3, 224, 32, 3, 2, 1 },
    { "regnetx", "1x1 32-48 @112", 1, 2, 32, 112, 48, 1, 1, 1 },
    { "regnetx", "3x3 48-48 g2 @112 /2", 1, 2, 48, 112, 48, 3, 2, 2 },
    { "regnetx", "1x1 48-48 @56", 1, 2, 48, 56, 48, 1, 1, 1 },
    { "regnetx", "1x1 32-48 @112 /2", 1, 2, 32, 112, 48, 1, 2, 1 },
    { "regnetx", "1x1 48-96 @56", 1, 2, 48, 56, 96, 1, 1, 1 },
    { "regnetx", "3x3 96-96 g4 @56 /2", 1, 2, 96, 56, 96, 3, 2, 4 },
    { "regnetx", "1x1 96-96 @28", 5, 2, 96, 28, 96, 1, 1, 1 },
    { "regnetx", "1x1 48-96 @56 /2", 1, 2, 48, 56, 96, 1, 2, 1 },
    { "regnetx", "3x3 96-96 g4 @28", 2, 2, 96, 28, 96, 3, 1, 4 },
    { "regnetx", "1x1 96-240 @28", 1, 2, 96, 28, 240, 1, 1, 1 },
    { "regnetx", "3x3 240-240 g10 @28 /2", 1, 2, 240, 28, 240, 3, 2, 10 },
    { "regnetx", "1x1 240-240 @14", 9, 2, 240, 14, 240, 1, 1, 1 },
    { "regnetx", "1x1 96-240 @28 /2", 1, 2, 96, 28, 240, 1, 2, 1 },
    { "regnetx", "3x3 240-240 g10 @14", 4, 2, 240, 14, 240, 3, 1, 10 },
    { "regnetx", "1x1 240-528 @14", 1, 2, 240, 14, 528, 1, 1, 1 },
    { "regnetx", "3x3 528-528 g22 @14 /2", 1, 2, 528, 14, 528, 3, 2, 22 },
    { "regnetx", "1x1 528-528 @7", 13, 2, 528, 7, 528, 1, 1, 1 },
    { "regnetx", "1x1 240-528 @14 /2", 1, 2, 240, 14, 528, 1, 2, 1 },
    { "regnetx", "3x3 528-528 g22 @7", 6, 2, 528, 7, 528, 3, 1, 22 },
    { "regnetx", "fc 528-1000", 1, 2, 528, 1, 1000, 1, 1, 1 },
};

enum { NUM_ROWS = sizeof(rows) / sizeof(rows[0]) };

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

static void fill(float *data, size_t count, uint32_t seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = (float)(seed >> 8) * 0x1p-24f - 0.5f;
    }
}

static uint32_t hash(uint32_t start, const void *data, size_t size)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < size; i++) {
        start = (start ^ bytes[i]) * 16777619u;
    }
    return start;
}

/* A provider and what it took for an image of each network. */
struct candidate {
    const char *id;
    const struct mqb_compute *compute;
    double ms[NUM_ROWS][NUM_KINDS]; /* 0: not supported */
};

static void bench(struct candidate *candidate, size_t index)
{
    const struct mqb_compute *compute = candidate->compute;
    const struct row *row = &rows[index];
    struct work w = { .compute = compute, .n = row->n };
    const int32_t pad = row->kernel / 2, out = (row->size + 2 * pad - row->kernel) / row->stride + 1;
    struct mqb_conv_shape shape = {
        sizeof(shape), row->c,      row->size, row->size, row->k, row->kernel, row->kernel, out, out,
        row->stride,   row->stride, pad,       pad,       pad,    pad,         1,           1,   row->groups,
    };
    size_t in_count = (size_t)row->n * (size_t)row->size * (size_t)row->size * (size_t)row->c;
    size_t out_count = (size_t)row->n * (size_t)out * (size_t)out * (size_t)row->k;
    size_t weights = (size_t)row->k * (size_t)(row->c / row->groups) * (size_t)(row->kernel * row->kernel);
    double work = 2.0 * (double)out_count * (double)(row->c / row->groups) * row->kernel * row->kernel;
    uint32_t bits = 2166136261u;

    printf("%-13s%-20s%-10s", row->network, row->name, candidate->id);
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
        w.bytes[i] = (uint8_t)(i % 251);
    }
    for (size_t i = 0; i < weights; i++) {
        w.codes[i] = (int8_t)(i % 255 - 127);
    }
    fill(w.weight, weights, 1);
    compute->conv_pack(w.plan, w.weight, 1, w.packed);
    if (compute->iconv_forward != NULL) {
        w.codes_packed = host_allocate(compute->iconv_packed_size(w.plan) + 1);
        compute->iconv_pack(w.plan, w.codes, w.codes_packed);
    }
    for (enum kind kind = 0; kind < NUM_KINDS; kind++) {
        double best, median;

        if (kind == INTEGER && compute->iconv_forward == NULL) {
            printf("       -       ");
            continue;
        }
        fill(w.x, in_count, 2);
        if (kind == BACKWARD_DATA || kind == BACKWARD_WEIGHTS) {
            fill(w.y, out_count, 3);
        }
        measure(&w, kind, &best, &median);
        candidate->ms[index][kind] = median * 1e3 * row->times / row->n;
        if (kind == PACK) {
            printf(" %8.1f", median * 1e6);
        } else {
            printf(" %6.1f (%5.1f)", work / median * 1e-9, work / best * 1e-9);
        }
        if (kind == FORWARD) {
            bits = hash(bits, w.y, out_count * sizeof(float));
        } else if (kind == BACKWARD_DATA) {
            bits = hash(bits, w.x, in_count * sizeof(float));
            compute->conv_backward_data(w.plan, w.n, w.y, w.packed, w.x, 1, w.scratch);
            bits = hash(bits, w.x, in_count * sizeof(float));
        } else if (kind == BACKWARD_WEIGHTS) {
            bits = hash(bits, w.weight, weights * sizeof(float));
        }
    }
    printf(" %08x\n", bits);
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

/* Milliseconds of an image through the layers measured, network by network. */
static void print_sums(const struct candidate *candidates, size_t count, const char *only)
{
    printf("\n%-13s%-20s%-10s%14s %14s %14s %14s\n", "network", "", "provider", "forward, ms", "backward-data", "backward-wei.",
           "integer");
    for (size_t i = 0; i < NUM_ROWS; i++) {
        if (i > 0 && strcmp(rows[i].network, rows[i - 1].network) == 0) {
            continue;
        }
        for (size_t j = 0; j < count; j++) {
            double sums[NUM_KINDS] = { 0.0 };

            for (size_t l = i; l < NUM_ROWS && strcmp(rows[l].network, rows[i].network) == 0; l++) {
                for (enum kind kind = 0; kind < NUM_KINDS; kind++) {
                    sums[kind] += candidates[j].ms[l][kind];
                }
            }
            if (sums[FORWARD] > 0.0) {
                printf("%-13s%-20s%-10s%14.3f %14.3f %14.3f %14.3f\n", rows[i].network, only == NULL ? "" : only,
                       candidates[j].id, sums[FORWARD], sums[BACKWARD_DATA], sums[BACKWARD_WEIGHTS], sums[INTEGER]);
            }
        }
    }
}

static int provider_open(struct candidate *candidate, const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct mqb_plugin_entry *entry = library == NULL ? NULL : dlsym(library, MQB_PLUGIN_SYMBOL);

    for (uint32_t i = 0; entry != NULL && i < entry->num_components; i++) {
        if (strcmp(entry->components[i].interface_id, MQB_COMPUTE_INTERFACE) == 0) {
            candidate->id = entry->components[i].id;
            candidate->compute = entry->components[i].vtable;
            return 1;
        }
    }
    fprintf(stderr, "%s: %s\n", path, library == NULL ? dlerror() : "no compute provider in it");
    return 0;
}

int main(int argc, char **argv)
{
    struct candidate *candidates = calloc((size_t)argc, sizeof(*candidates));
    const char *only = NULL;
    size_t count = 0;

    for (int i = 1; i < argc; i++) {
        const char *dot = strrchr(argv[i], '.');

        if (dot == NULL || strcmp(dot, ".so") != 0) {
            only = argv[i];
        } else if (candidates == NULL || !provider_open(&candidates[count++], argv[i])) {
            return 2;
        }
    }
    if (count == 0) {
        fprintf(stderr, "usage: %s PROVIDER.so... [NAME]\n", argv[0]);
        return 2;
    }
    for (size_t j = 0; j < count; j++) {
        printf("%s on %s, one thread; ", candidates[j].id, candidates[j].compute->isa(&host));
    }
    printf("GFLOP/s (GOP/s), median and (best); pack in microseconds\n");
    printf("%-33s%-10s%14s %14s %14s %14s %8s %8s\n", "layer", "provider", "forward", "backward-data", "backward-wei.",
           "integer", "pack", "bits");
    for (size_t i = 0; i < NUM_ROWS; i++) {
        char name[64];

        snprintf(name, sizeof(name), "%s %s", rows[i].network, rows[i].name);
        for (size_t j = 0; j < count && (only == NULL || strstr(name, only) != NULL); j++) {
            bench(&candidates[j], i);
        }
    }
    print_sums(candidates, count, only);
    free(candidates);
    return 0;
}
