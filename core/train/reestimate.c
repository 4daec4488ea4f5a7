/* reestimate.c - running statistics of batch norm anew, under quantization: the plain mean over a number of batches. */
#include "train/train.h"

#include <math.h>

/* An operator that keeps running statistics: it sums over the batch and owns a STATE. */
static bool keeps_statistics(const struct mqb_graph *graph, const struct mqb_node *node)
{
    if (node->op->reduce == NULL)
        return false;
    for (int i = 0; i < node->num_inputs; i++)
        if (node->inputs[i] != MQB_NONE && graph->values[node->inputs[i]].kind == MQB_VALUE_STATE)
            return true;
    return false;
}

/* Momentum k / (k + 1) at batch k makes the moving average a plain one: the first batch replaces what was there. */
static mqb_status set_momenta(struct mqb_graph *graph, const double *own, int64_t batch, struct mqb_error *error)
{
    mqb_status status = MQB_OK;
    for (int i = 0; i < graph->num_ordered && status == MQB_OK; i++)
        if (keeps_statistics(graph, &graph->nodes[graph->order[i]]))
            status = mqb_graph_calls.set_attr_real(graph, graph->order[i], "momentum",
                                                   own != NULL ? own[i] : (double)batch / (double)(batch + 1), error);
    return status;
}

mqb_status mqb_reestimate(struct mqb_graph *graph, const struct mqb_compute *compute, struct mqb_pool *pool, struct mqb_loader *loader,
                          int batch, int num_batches, int *seen, const struct mqb_progress_sink *progress, struct mqb_error *error)
{
    struct mqb_exec_config config = {
        .graph = graph, .host = mqb_host_table(), .compute = compute, .pool = pool, .batch = batch, .training = true,
    };
    struct mqb_exec *exec = NULL;
    double *own = mqb_allocate_array((size_t)graph->num_ordered + 1, sizeof *own), start = mqb_seconds();
    int num_norms = 0;
    *seen = 0;
    if (own == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory to estimate batch norm statistics");
    for (int i = 0; i < graph->num_ordered; i++) {
        own[i] = mqb_attr_f(&graph->nodes[graph->order[i]], "momentum", 0.9);
        num_norms += keeps_statistics(graph, &graph->nodes[graph->order[i]]);
    }
    if (num_norms == 0) { /* folded for good: there is nothing to estimate */
        mqb_deallocate(own);
        return MQB_OK;
    }
    mqb_status status = mqb_exec_create(&config, &exec, error);
    if (status == MQB_OK)
        status = mqb_loader_start(loader, 0, 0, error);
    while (status == MQB_OK && *seen < num_batches) {
        struct mqb_batch images;
        if ((status = mqb_loader_next(loader, &images, error)) != MQB_OK || images.num_images < batch)
            break;
        if ((status = set_momenta(graph, NULL, *seen, error)) == MQB_OK)
            status = mqb_exec_forward(exec, images.x, images.num_images, error);
        *seen += status == MQB_OK;
        if (status == MQB_OK && progress != NULL && progress->report != NULL) {
            struct mqb_progress p = {"estimate batch norm", *seen, num_batches, NAN, NAN, mqb_seconds() - start};
            progress->report(progress->context, &p);
        }
    }
    mqb_status restored = set_momenta(graph, own, 0, status == MQB_OK ? error : NULL);
    mqb_exec_destroy(exec);
    mqb_deallocate(own);
    return status != MQB_OK ? status : restored;
}
