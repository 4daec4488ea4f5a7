/* loss.c - cross entropy with label smoothing: targets 1 - e + e/K on the true class, e/K elsewhere; mean over the batch. */
#include "exec/plan.h"

#include <string.h>

struct loss_run {
    struct mqb_exec *exec;
    const int32_t *labels;
    double smoothing;
    int64_t classes;
    const float *logits;
    float *gradient; /* NULL: not wanted */
};

int64_t mqb_predicted_class(const float *logits, int64_t classes)
{
    int64_t best = 0;
    for (int64_t k = 1; k < classes; k++)
        if (logits[k] > logits[best])
            best = k;
    return best;
}

static void loss_of_image(void *context, int index, int worker)
{
    (void)worker;
    const struct loss_run *run = context;
    const float *logits = run->logits + index * run->classes;
    int64_t best = mqb_predicted_class(logits, run->classes);
    double sum = 0.0, linear = 0.0, share = run->smoothing / (double)run->classes;
    for (int64_t k = 0; k < run->classes; k++) {
        double shifted = (double)logits[k] - logits[best];
        sum += mqb_exp(shifted);
        linear += share * shifted;
    }
    linear += (1.0 - run->smoothing) * ((double)logits[run->labels[index]] - logits[best]);
    run->exec->losses[2 * index] = mqb_ln(sum) - linear;
    run->exec->losses[2 * index + 1] = best == run->labels[index];
    if (run->gradient == NULL)
        return;
    for (int64_t k = 0; k < run->classes; k++) {
        double target = share + (k == run->labels[index] ? 1.0 - run->smoothing : 0.0);
        double p = mqb_exp((double)logits[k] - logits[best]) / sum;
        run->gradient[index * run->classes + k] = (float)((p - target) / run->exec->n);
    }
}

mqb_status mqb_exec_loss(struct mqb_exec *exec, const int32_t *labels, double smoothing, double *loss, int *correct,
                         struct mqb_error *error)
{
    const struct value_state *output = &exec->values[exec->config.graph->output];
    struct loss_run run = {
        .exec = exec, .labels = labels, .smoothing = smoothing, .classes = output->size, .logits = output->whole,
        .gradient = output->gradient_place == PLACE_WHOLE ? output->gradient : NULL,
    };
    for (int i = 0; i < exec->n; i++)
        if (labels[i] < 0 || labels[i] >= run.classes)
            return mqb_fail(error, MQB_ERR_ARGUMENT, "label %d is outside the network's %lld classes; use a model and a data set that "
                            "belong together", labels[i], (long long)run.classes);
    mqb_pool_run(exec->config.pool, exec->n, loss_of_image, &run);
    double sum = 0.0;
    int hits = 0;
    for (int i = 0; i < exec->n; i++) {
        sum += exec->losses[2 * i];
        hits += exec->losses[2 * i + 1] != 0.0;
    }
    *loss = sum / exec->n;
    if (correct != NULL)
        *correct = hits;
    return MQB_OK;
}

void mqb_exec_set_output_gradient(struct mqb_exec *exec, const float *gradient)
{
    struct value_state *output = &exec->values[exec->config.graph->output];
    memcpy(output->gradient, gradient, (size_t)exec->n * (size_t)output->size * sizeof(float));
}
