/* evaluate.c - accuracy of a graph over a split. */
#include "train/train.h"

#include <math.h>
#include <string.h>

void mqb_accuracy_add(struct mqb_accuracy *accuracy, const float *logits, const int32_t *labels, int n, int64_t classes)
{
    for (int i = 0; i < n; i++) {
        const float *row = logits + i * classes;
        float own = row[labels[i]];
        int64_t above = 0;
        bool finite = true;
        for (int64_t k = 0; k < classes; k++) {
            finite &= row[k] == row[k];
            above += row[k] > own || (row[k] == own && k < labels[i]);
        }
        accuracy->n++;
        accuracy->top1 += finite && above == 0;
        accuracy->top5 += finite && above < 5;
    }
}

mqb_status mqb_evaluate(struct mqb_graph *graph, const struct mqb_compute *compute, struct mqb_pool *pool, struct mqb_loader *loader,
                        int batch, struct mqb_accuracy *accuracy, float *logits, const struct mqb_progress_sink *progress,
                        const char *phase, struct mqb_error *error)
{
    struct mqb_exec *exec = NULL;
    struct mqb_exec_config config = {.graph = graph, .host = mqb_host_table(), .compute = compute, .pool = pool, .batch = batch,
                                     .frozen = true};
    mqb_status status = mqb_exec_create(&config, &exec, error);
    if (status != MQB_OK)
        return status;
    int64_t classes = mqb_value_size(&graph->values[graph->output]);
    memset(accuracy, 0, sizeof *accuracy);
    double start = mqb_seconds();
    int64_t total = (int64_t)mqb_loader_num_batches(loader);
    status = mqb_loader_start(loader, 0, 0, error);
    for (int64_t done = 0; status == MQB_OK;) {
        struct mqb_batch images;
        if ((status = mqb_loader_next(loader, &images, error)) != MQB_OK || images.num_images == 0)
            break;
        for (int i = 0; i < images.num_images && status == MQB_OK; i++)
            if (images.labels[i] < 0 || images.labels[i] >= classes)
                status = mqb_fail(error, MQB_ERR_ARGUMENT,
                                  "image %u has label %d, but the network has %lld classes; use a model and a data set that belong together",
                                  images.index[i], images.labels[i], (long long)classes);
        if (status != MQB_OK || (status = mqb_exec_forward(exec, images.x, images.num_images, error)) != MQB_OK)
            break;
        const float *out = mqb_exec_value(exec, graph->output);
        if (logits != NULL)
            memcpy(logits + accuracy->n * classes, out, (size_t)images.num_images * (size_t)classes * sizeof *out);
        mqb_accuracy_add(accuracy, out, images.labels, images.num_images, classes);
        done++;
        if (progress != NULL && progress->report != NULL) {
            struct mqb_progress p = {phase, done, total, NAN, (double)accuracy->top1 / (double)accuracy->n, mqb_seconds() - start};
            progress->report(progress->context, &p);
        }
    }
    mqb_exec_destroy(exec);
    return status;
}
