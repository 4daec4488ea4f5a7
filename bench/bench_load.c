/*
 * bench_load WORD... - the time to open a data set (a word such as cifar10:DIR) or to read a network (a path that ends in
 * .onnx, with the SHA-256 of the file, as every command does): the best and the median of several, by the clock and by the CPU.
 */
#include "report/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NUM_RUNS = 5 };

static double cpu_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static mqb_status load(const struct mqb_session *session, const char *word, struct mqb_error *error)
{
    size_t length = strlen(word);

    if (length > 5 && strcmp(word + length - 5, ".onnx") == 0) {
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

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_session session;
    mqb_status status = mqb_session_open(NULL, NULL, 1, &session, &error);

    for (int i = 1; i < argc && status == MQB_OK; i++) {
        double wall[NUM_RUNS], cpu[NUM_RUNS];
        for (int k = 0; k < NUM_RUNS && status == MQB_OK; k++) {
            double start = mqb_seconds(), cpu_start = cpu_seconds();
            status = load(&session, argv[i], &error);
            wall[k] = mqb_seconds() - start;
            cpu[k] = cpu_seconds() - cpu_start;
        }
        if (status == MQB_OK) {
            qsort(wall, NUM_RUNS, sizeof(wall[0]), ascending);
            qsort(cpu, NUM_RUNS, sizeof(cpu[0]), ascending);
            printf("%s: min %.1f ms, median %.1f ms (CPU: min %.1f ms, median %.1f ms)\n", argv[i], wall[0] * 1e3,
                   wall[NUM_RUNS / 2] * 1e3, cpu[0] * 1e3, cpu[NUM_RUNS / 2] * 1e3);
        }
    }
    if (status != MQB_OK) {
        fprintf(stderr, "bench_load: %s\n", error.text);
    }
    mqb_session_close(&session);
    return status == MQB_OK ? 0 : 1;
}
