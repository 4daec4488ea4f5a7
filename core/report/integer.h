/*
 * integer.h - an integer program on the test images: how many it has right, and on how many its label is fake quantization's.
 */
#ifndef MQB_INTEGER_H
#define MQB_INTEGER_H

#include "report/report.h"

struct mqb_integer_test {
    struct mqb_graph *trained;
    const struct mqb_dataset *dataset;
    const struct mqb_normalize *normalize;
    struct mqb_pool *pool;
    const float *fake_logits;                  /* of the trained graph, in the order of the data set: [images][classes] */
    const struct mqb_progress_sink *progress;  /* NULL: quiet */
};

/* The first `limit` test images; 0: all. labels_agree: how many have the same label. */
mqb_status mqb_integer_test(const struct mqb_integer_test *test, const struct mqb_program *program, int64_t limit,
                            struct mqb_accuracy *accuracy, int64_t *labels_agree, struct mqb_error *error);

/* Of n images, those whose label (first of the largest logits) is the same in both. a, b: [n][classes]. */
int64_t mqb_labels_agree(const float *a, const float *b, int64_t n, int64_t classes);

#endif
