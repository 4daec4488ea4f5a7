/*
 * bench_load WORD... - the time to open a data set (a word such as cifar10:DIR) or to read a network (a path that ends in
 * .onnx, with the SHA-256 of the file, as every command does): the best and the median of several, by the clock and by the CPU.
 * Of a data set whose images are decoded when they are needed, also the time to make its training images for a network of
 * 224 x 224, with random crops.
 */
#include "report/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUM_RUNS = 5, SIZE = 224, BATCH = 16 };

static bool is_network(const char *word)
{
    size_t length = strlen(word);

    return length > 5 && strcmp(word + length - 5, ".onnx") == 0;
}

static mqb_status load(const struct mqb_session *session, const char *word, struct mqb_error *error)
{
    if (is_network(word)) {
        struct mqb_graph *graph = NULL;
        char sha256[65];
        mqb_status status = mqb_session_model(session, word, &graph, sha256, error);
        mqb_graph_destroy(graph);
        return status;
    }
    struct mqb_dataset *dataset = NULL;
    mqb_status status = mqb_dataset_open(word, 0, 0, 0, &dataset, error);
    mqb_dataset_close(dataset);
    return status;
}

/* Goes through the training images once; says nothing of those that need no decoding. */
static mqb_status decode(const char *word, struct mqb_error *error)
{
    struct mqb_dataset *dataset = NULL;
    struct mqb_loader *loader = NULL;
    struct mqb_loader_config config = {
        .split = MQB_SPLIT_TRAIN, .batch = BATCH, .size = SIZE, .augment = {.flip = true, .resized_crop = true}};
    struct mqb_batch batch = {.num_images = 1};
    mqb_status status = mqb_dataset_open(word, 0, 0, 0, &dataset, error);

    if (status == MQB_OK && (dataset->height != 0 || dataset->num[MQB_SPLIT_TRAIN] == 0)) {
        mqb_dataset_close(dataset);
        return MQB_OK;
    }
    double start = mqb_seconds(), cpu = mqb_cpu_seconds();
    int images = 0;
    if (status == MQB_OK && (status = mqb_normalize_parse("imagenet", &config.normalize, error)) == MQB_OK &&
        (status = mqb_loader_create(dataset, &config, &loader, error)) == MQB_OK) {
        status = mqb_loader_start(loader, 0, 0, error);
    }
    while (status == MQB_OK && batch.num_images > 0) {
        if ((status = mqb_loader_next(loader, &batch, error)) == MQB_OK) {
            images += batch.num_images;
        }
    }
    if (status == MQB_OK) {
        printf("decoded: %.3f ms an image by the CPU, %.0f images/s by the clock\n",
               (mqb_cpu_seconds() - cpu) * 1e3 / images, images / (mqb_seconds() - start));
    }
    mqb_loader_destroy(loader);
    mqb_dataset_close(dataset);
    return status;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_session session;
    mqb_status status = mqb_session_open(NULL, NULL, 0, &session, &error);

    for (int i = 1; i < argc && status == MQB_OK; i++) {
        double wall[NUM_RUNS], cpu[NUM_RUNS];
        for (int k = 0; k < NUM_RUNS && status == MQB_OK; k++) {
            double start = mqb_seconds(), cpu_start = mqb_cpu_seconds();
            status = load(&session, argv[i], &error);
            wall[k] = mqb_seconds() - start;
            cpu[k] = mqb_cpu_seconds() - cpu_start;
        }
        if (status == MQB_OK) {
            qsort(wall, NUM_RUNS, sizeof(wall[0]), ascending);
            qsort(cpu, NUM_RUNS, sizeof(cpu[0]), ascending);
            printf("%s: min %.1f ms, median %.1f ms (CPU: min %.1f ms, median %.1f ms)\n", argv[i], wall[0] * 1e3,
                   wall[NUM_RUNS / 2] * 1e3, cpu[0] * 1e3, cpu[NUM_RUNS / 2] * 1e3);
        }
        if (status == MQB_OK && !is_network(argv[i])) {
            status = decode(argv[i], &error);
        }
    }
    if (status != MQB_OK) {
        fprintf(stderr, "bench_load: %s\n", error.text);
    }
    mqb_session_close(&session);
    return status == MQB_OK ? 0 : 1;
}
