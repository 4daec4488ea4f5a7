/* fold_proof.c - does folding batch norm leave the network what it was? The trained graph in evaluation and the folded one, both with
 * quantization off, on the same images. */
#include "report/fold_proof.h"

#include <math.h>
#include <string.h>

static mqb_status run(const struct mqb_fold_proof *proof, struct mqb_graph *graph, const float *x, int n, float *logits,
                      struct mqb_error *error)
{
    struct mqb_exec_config config = {
        .graph = graph, .host = mqb_host_table(), .compute = proof->compute, .pool = proof->pool, .batch = n,
    };
    struct mqb_exec *exec = NULL;
    mqb_status status = mqb_exec_create(&config, &exec, error);
    if (status == MQB_OK)
        status = mqb_exec_forward(exec, x, n, error);
    if (status == MQB_OK)
        memcpy(logits, mqb_exec_value(exec, graph->output), (size_t)(n * mqb_value_size(&graph->values[graph->output])) * sizeof(float));
    mqb_exec_destroy(exec);
    return status;
}

mqb_status mqb_fold_prove(const struct mqb_fold_proof *proof, const float *x, int n, double *difference, struct mqb_error *error)
{
    size_t size = (size_t)(n * mqb_value_size(&proof->trained->values[proof->trained->output]));
    float *logits = mqb_allocate_array(size, 2 * sizeof(float));
    struct mqb_deploy *folded = NULL;
    mqb_status status = MQB_OK;
    if (logits == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the logits of %d images", n);
    mqb_points_set_mode(proof->points, MQB_POINT_OFF);
    status = mqb_deploy_create(proof->trained, NULL, &folded, error);
    if (status == MQB_OK)
        status = run(proof, proof->trained, x, n, logits, error);
    if (status == MQB_OK)
        status = run(proof, folded->graph, x, n, logits + size, error);
    mqb_points_set_mode(proof->points, MQB_POINT_ON);
    double largest = 0.0, worst = 0.0;
    for (size_t i = 0; status == MQB_OK && i < size; i++) {
        double a = (double)logits[i], b = (double)logits[size + i];
        if (!isfinite(a) || !isfinite(b))
            status = mqb_fail(error, MQB_ERR_NUMERIC, "logit %zu is not finite with quantization off", i);
        largest = fabs(a) > largest ? fabs(a) : largest;
        worst = fabs(a - b) > worst ? fabs(a - b) : worst;
    }
    *difference = largest > 0.0 ? worst / largest : worst;
    mqb_deploy_destroy(folded);
    mqb_deallocate(logits);
    return status;
}
