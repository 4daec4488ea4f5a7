/*
 * deploy.h - what the files of the deployment share. Room-internal.
 */
#ifndef MQB_DEPLOY_H
#define MQB_DEPLOY_H

#include "quant/quant.h"

#include "ops/ops.h"

struct mqb_deployment {
    struct mqb_deploy *deploy;
    int32_t frozen_capacity;
    const struct mqb_points *points;
    struct mqb_graph *graph; /* deploy->graph */
    float **fixed;           /* by value: numbers of unbatched results, or NULL */
    struct mqb_pool *pool;   /* one thread, for operators that want a pool */
    int32_t num_fixed;       /* values when `fixed` was made; later ones have data of their own */
};

/* Numbers of a parameter, or of an unbatched result once it is computed; NULL otherwise. */
const float *mqb_deploy_numbers(const struct mqb_deployment *deployment, mqb_value_id value);
/* The frozen entry of `value` that all its readers share, to be changed; NULL: none. */
struct mqb_frozen *mqb_deploy_frozen(struct mqb_deployment *deployment, mqb_value_id value);
/* Frees what the entry owns. */
void mqb_deploy_release(struct mqb_frozen *frozen);
/* How many inputs read the value. */
int32_t mqb_deploy_readers(const struct mqb_graph *graph, mqb_value_id value);

/* deploy_statistics.c: running statistics where training used the batch's. */
mqb_status mqb_deploy_settle(struct mqb_deployment *deployment, struct mqb_error *error);

/* deploy_freeze.c: a new frozen entry for `value` from a point; weights: `x` is quantized, `grid` (may be x) gets s (q - z). */
mqb_status mqb_deploy_freeze(struct mqb_deployment *deployment, const struct mqb_node *node, mqb_value_id value, const float *x,
                             float *grid, struct mqb_error *error);

/* deploy_activations.c: activation points become frozen entries of the tensors they stand on, and their nodes go. */
mqb_status mqb_deploy_activations(struct mqb_deployment *deployment, struct mqb_error *error);

/* deploy_merge.c: every batch normalization that follows a convolution or a linear layer goes into its weights and bias. */
mqb_status mqb_deploy_merge(struct mqb_deployment *deployment, struct mqb_error *error);

/* deploy_bias.c: wider scales for channels whose bias would not fit into 32 bits. */
void mqb_deploy_fit_biases(struct mqb_deployment *deployment);

#endif
