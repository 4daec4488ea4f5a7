/*
 * waterfall.h - what the difference between fake quantization and the integer program comes from, by substitution: one factor
 * of the contract at a time is exchanged for what fake quantization computes (enum mqb_factor), and the rest is counted again.
 */
#ifndef MQB_WATERFALL_H
#define MQB_WATERFALL_H

#include "report/integer.h"

struct mqb_waterfall_config {
    const struct mqb_deploy *deploy;
    const struct mqb_backend_rules *rules;
    const struct mqb_program *program; /* of the run */
    const struct mqb_compute *compute;
    struct mqb_integer_test test; /* of all test images; quiet */
    const struct mqb_progress_sink *progress;
};

/* Fills result->waterfall: the program as it is, each of its factors exchanged alone, all of them exchanged. Codes are counted
 * on the images of the layer comparison, labels on the first 500 test images. */
mqb_status mqb_waterfall_run(const struct mqb_waterfall_config *config, struct mqb_result *result, struct mqb_error *error);

/* Images and what fake quantization makes of them: by tensor of the program, [n][h][w][c] as stored. */
struct mqb_waterfall_images {
    const float *x;
    int n;
    uint8_t *const *codes;
};
/* Elements, and those that differ: along the network, and with every operator reading the codes of fake quantization. */
mqb_status mqb_waterfall_count(const struct mqb_program *program, struct mqb_pool *pool, const struct mqb_waterfall_images *images,
                               struct mqb_waterfall_row *row, struct mqb_error *error);

#endif
