/*
 * fold_proof.h - evidence, for the network at hand, that merging batch norm for deployment changes nothing but rounding.
 */
#ifndef MQB_FOLD_PROOF_H
#define MQB_FOLD_PROOF_H

#include "report/report.h"

/* The largest difference of a logit, as a share of the largest logit, that counts as rounding. float32 keeps 6e-8; a deep
 * network gathers a few hundred of those. */
#define MQB_FOLD_BOUND 1e-4

struct mqb_fold_proof {
    struct mqb_graph *trained;
    struct mqb_points *points; /* switched off on the way, on again in the end */
    const struct mqb_compute *compute;
    struct mqb_pool *pool;
};

/* x: n images, [n][h][w][c]. difference: of the logits, relative to the largest. */
mqb_status mqb_fold_prove(const struct mqb_fold_proof *proof, const float *x, int n, double *difference, struct mqb_error *error);

#endif
