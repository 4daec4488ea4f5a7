/* compare.h - fake quantization against the integer program, layer by layer. */
#ifndef MQB_COMPARE_H
#define MQB_COMPARE_H

#include "report/report.h"

struct mqb_compare_config {
    struct mqb_graph *trained;
    const struct mqb_deploy *deploy;
    const struct mqb_program *program;
    const struct mqb_contract *contract;
    const struct mqb_compute *compute;
    struct mqb_pool *pool;
    const struct mqb_dataset *dataset;
    const struct mqb_normalize *normalize;
};

/* Runs the first test images (as many as memory allows, at most 64) through both and fills layers, max_steps, compare_images
 * and first_difference of the result. */
mqb_status mqb_compare_layers(const struct mqb_compare_config *config, struct mqb_result *result, struct mqb_error *error);

#endif
