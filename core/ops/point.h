/*
 * point.h - a quantization point: one tensor, its scheme and the quantizer instance that serves it.
 * Attached to a FakeQuantize node (node->point); owned by the set that made it (quant/quant.h).
 */
#ifndef MQB_POINT_H
#define MQB_POINT_H

#include "base/base.h"
#include <mqbench/graph.h>
#include <mqbench/quantizer.h>

enum mqb_point_mode {
    MQB_POINT_OFF = 0,    /* identity */
    MQB_POINT_ON = 1      /* fake quantization; learns in training */
};

/* The codes that an affine quantizer rounds to in the step at hand: x = scale[c] * (q - zero_point[c]), lowest <= q <= highest.
 * Written by FakeQuantize's prepare, valid until the quantizer's next one. */
struct mqb_code_grid {
    int32_t num_channels; /* 0: not affine, or off */
    const float *scale;
    const int32_t *zero_point;
    int32_t lowest, highest;
};

struct mqb_point {
    char *name;           /* of the tensor that is quantized */
    mqb_node_id node;
    struct mqb_scheme scheme;
    const struct mqb_quantizer *quantizer;
    const char *algorithm; /* id, for reports */
    void *self;
    enum mqb_point_mode mode;
    struct mqb_code_grid grid;
};

#endif
