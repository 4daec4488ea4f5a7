/*
 * bench_calibrate MODEL.onnx IMAGES BATCH THREADS [ALGORITHM...] - what post-training calibration costs beside the FP32 forward
 * pass over the same images, in turn. Algorithms: ptq_minmax, ptq_percentile, ptq_mse, ptq_kl unless some are named. Rules of
 * snpe_sim, 8 bits. A line each: the median time of the forward pass, of the calibration (weights and first scales included),
 * and their ratio, by the clock and by the CPU; the CPU's is the one to read on a busy machine.
 */
#include "report/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUM_ROUNDS = 3 };

struct bench {
    int images, batch;
    double wall[2][NUM_ROUNDS], cpu[2][NUM_ROUNDS]; /* forward, calibration */
};

static mqb_status forward(const struct bench *b, struct mqb_job_view *view, struct mqb_loader *loader, struct mqb_error *error)
{
    struct mqb_exec *exec = NULL;
    struct mqb_exec_config config = {
        .graph = view->graph,
        .host = mqb_host_table(),
        .compute = view->session->compute,
        .pool = view->session->pool,
        .batch = b->batch,
    };
    mqb_status status;

    mqb_points_set_mode(view->points, MQB_POINT_OFF);
    status = mqb_exec_create(&config, &exec, error);
    if (status == MQB_OK) {
        status = mqb_loader_start(loader, 0, 0, error);
    }
    for (int done = 0; done < b->images && status == MQB_OK; done += b->batch) {
        struct mqb_batch batch;

        if ((status = mqb_loader_next(loader, &batch, error)) == MQB_OK) {
            status = mqb_exec_forward(exec, batch.x, batch.num_images, error);
        }
    }
    mqb_exec_destroy(exec);
    return status;
}

static mqb_status visit(void *context, struct mqb_job_view *view, struct mqb_error *error)
{
    struct bench *b = context;
    struct mqb_loader_config config = {
        .split = MQB_SPLIT_TRAIN,
        .batch = b->batch,
        .size = (int32_t)view->graph->values[view->graph->input].dims[2],
        .normalize = *view->normalize,
        .drop_last = true,
    };
    struct mqb_loader *loader = NULL;
    mqb_status status = mqb_loader_create(view->dataset, &config, &loader, error);

    for (int i = 0; i < 2 * NUM_ROUNDS && status == MQB_OK; i++) {
        double start = mqb_seconds(), cpu = mqb_cpu_seconds();

        status = i % 2 == 0 ? forward(b, view, loader, error)
                            : mqb_calibrate(view->graph, view->points, view->session->compute, view->session->pool, loader,
                                            b->batch, b->images / b->batch, NULL, error);
        b->wall[i % 2][i / 2] = mqb_seconds() - start;
        b->cpu[i % 2][i / 2] = mqb_cpu_seconds() - cpu;
    }
    mqb_loader_destroy(loader);
    return status;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *times)
{
    qsort(times, NUM_ROUNDS, sizeof(times[0]), ascending);
    return times[NUM_ROUNDS / 2];
}

int main(int argc, char **argv)
{
    static const char *const algorithms[] = {"ptq_minmax", "ptq_percentile", "ptq_mse", "ptq_kl"};
    struct mqb_error error = MQB_ERROR_INIT;
    struct bench b = {.images = argc > 2 ? atoi(argv[2]) : 0, .batch = argc > 3 ? atoi(argv[3]) : 0};
    int count = argc > 5 ? argc - 5 : 4;
    char dataset[64];

    if (argc < 5 || b.batch < 1 || b.images < b.batch || b.images % b.batch != 0) {
        fprintf(stderr, "usage: %s MODEL.onnx IMAGES BATCH THREADS [ALGORITHM...]; BATCH divides IMAGES\n", argv[0]);
        return 2;
    }
    snprintf(dataset, sizeof(dataset), "synth:train=%d,test=1", b.images);
    for (int i = 0; i < count; i++) {
        struct mqb_job_config job = {
            .model = argv[1],
            .backend = "snpe_sim",
            .algo = argc > 5 ? argv[5 + i] : algorithms[i],
            .weight_bits = 8,
            .activation_bits = 8,
            .io_bits = 8,
            .seed = 1000,
            .threads = atoi(argv[4]),
            .dataset = dataset,
            .normalize = "imagenet",
        };
        mqb_status status = mqb_job_visit(&job, visit, &b, &error);

        if (status != MQB_OK) {
            fprintf(stderr, "bench_calibrate: %s\n", error.text);
            return 1;
        }
        double wall[2] = {median(b.wall[0]), median(b.wall[1])}, cpu[2] = {median(b.cpu[0]), median(b.cpu[1])};
        printf("%s: forward %.1f ms, calibration %.1f ms, ratio %.2f (CPU: %.1f ms, %.1f ms, ratio %.2f)\n", job.algo,
               wall[0] * 1e3, wall[1] * 1e3, wall[1] / wall[0], cpu[0] * 1e3, cpu[1] * 1e3, cpu[1] / cpu[0]);
        fflush(stdout);
    }
    return 0;
}
