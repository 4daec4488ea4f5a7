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

/* ---- for waterfall.c ---- */

/* How many test images are compared, and how many of them at a time. */
void mqb_compare_extent(const struct mqb_program *program, const struct mqb_dataset *dataset, int *batch, int *num_images);
/* The value of the trained graph that a tensor of codes is held against. */
mqb_value_id mqb_compare_twin(const struct mqb_graph *trained, const struct mqb_program_tensor *tensor);
/* Its numbers as stored codes, in the range of the tensor's. */
void mqb_compare_codes(const struct mqb_program_tensor *tensor, int64_t size, const float *values, uint8_t *codes);

#endif
