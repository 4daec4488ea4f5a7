/* diagnose.c - where a network that lost what it knew went wrong: the first point that hands on nothing, or no numbers. */
#include "train/train.h"

#include <math.h>
#include <string.h>

#define DEAD_SHARE 0.999 /* of a tensor's elements on one level: what passes is no signal */

/* False if the tensor is healthy. */
static bool judge_tensor(const float *x, int64_t size, char *what, size_t what_size)
{
    for (int64_t i = 0; i < size; i++) {
        if (!isfinite(x[i])) {
            snprintf(what, what_size, "holds a number that is not finite");
            return true;
        }
    }
    /* The majority candidate (Boyer and Moore), then its count. */
    float level = 0.0f;
    int64_t lead = 0, count = 0;
    for (int64_t i = 0; i < size; i++) {
        if (lead == 0)
            level = x[i];
        lead += x[i] == level ? 1 : -1;
    }
    for (int64_t i = 0; i < size; i++)
        count += x[i] == level;
    if ((double)count < DEAD_SHARE * (double)size)
        return false;
    snprintf(what, what_size, "is %g in %.2f %% of its elements: it carries no signal", (double)level, 100.0 * (double)count / (double)size);
    return true;
}

mqb_status mqb_diagnose(struct mqb_graph *graph, const struct mqb_points *points, const struct mqb_compute *compute,
                        struct mqb_pool *pool, const float *x, int n, struct mqb_diagnosis *diagnosis, struct mqb_error *error)
{
    struct mqb_error why = MQB_ERROR_INIT;
    struct mqb_exec *exec = NULL;
    mqb_value_id *keep = mqb_allocate_array((size_t)points->num_points + 1, sizeof *keep);
    memset(diagnosis, 0, sizeof *diagnosis);
    if (keep == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory to look for the layer that diverged");
    int num_keep = 0;
    for (int i = 0; i < points->num_points; i++)
        if (points->points[i]->scheme.role == MQB_ROLE_ACTIVATION)
            keep[num_keep++] = graph->nodes[points->points[i]->node].output;
    struct mqb_exec_config config = {
        .graph = graph, .host = mqb_host_table(), .compute = compute, .pool = pool, .batch = n, .keep = keep, .num_keep = num_keep,
    };
    mqb_status status = mqb_exec_create(&config, &exec, error);
    if (status != MQB_OK)
        goto out;
    if (mqb_exec_forward(exec, x, n, &why) != MQB_OK) { /* the sentence names the layer */
        snprintf(diagnosis->what, sizeof diagnosis->what, "%.250s", why.text);
        goto out;
    }
    for (int i = 0; i < points->num_points && diagnosis->what[0] == '\0'; i++) {
        const struct mqb_value *value = &graph->values[graph->nodes[points->points[i]->node].output];
        const float *data = mqb_exec_value(exec, graph->nodes[points->points[i]->node].output);
        int64_t size = mqb_value_size(value) * (value->batched ? n : 1);
        if (data != NULL && judge_tensor(data, size, diagnosis->what, sizeof diagnosis->what))
            snprintf(diagnosis->tensor, sizeof diagnosis->tensor, "%s", points->points[i]->name);
    }
out:
    mqb_exec_destroy(exec);
    mqb_deallocate(keep);
    return status;
}
