/*
 * mqbench/steps.h - the lowered integer program as an exporter sees it, for targets whose artefact is code.
 *
 * Steps run in order, on tensors of one image. Numbers that the contract and the scales determine (multipliers, shifts) are
 * not repeated here: the backend stated the contract itself.
 */
#ifndef MQBENCH_STEPS_H
#define MQBENCH_STEPS_H

#include <mqbench/compute.h>
#include <mqbench/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A tensor: codes in the order [h][w][c] (h = w = 1 where the network has no image), real = scale * (code - zero_point).
 * scale 0: floats, in a part of the program that stays in float. */
struct mqb_step_tensor {
    uint32_t struct_size;
    int32_t h, w, c;
    const char *name; /* of the value in the float graph */
    float scale;
    int32_t zero_point;
    int32_t qmin, qmax;
};

enum mqb_step_kind {
    MQB_STEP_OTHER = 0, /* an operator that is not described here: a generator refuses it and names the node */
    MQB_STEP_CONV = 1,  /* convolution or linear layer; weight and bias are inputs 1 and 2 of `node` */
    MQB_STEP_MAP = 2,   /* a function of one code: out = table[in] */
    MQB_STEP_ADD = 3,   /* of two codes; the second tensor may be one pixel, which serves all of the first's */
    MQB_STEP_MUL = 4,
    MQB_STEP_MAX_POOL = 5,
    MQB_STEP_AVERAGE_POOL = 6,
    MQB_STEP_MOVE = 7,   /* runs of codes: slice, pad, concatenation, flatten */
    MQB_STEP_SHUFFLE = 8 /* a permutation of the channels of each pixel */
};

/* `size` consecutive codes from an input (-1: `pad` instead) to the output. */
struct mqb_step_run {
    int32_t input;
    int32_t from, to, size;
};

/* Kinds 5, 7 and 8 requantize by s_x / s_y where the output has parameters of its own. */
struct mqb_step {
    uint32_t struct_size;
    int32_t kind;     /* enum mqb_step_kind */
    mqb_node_id node; /* of the float graph; clamps fused behind it are in low and high */
    int32_t num_inputs;
    const int32_t *inputs;       /* step tensors */
    int32_t output;              /* step tensor; MQB_NONE: the network's result is the sums themselves, at s_x * s_w */
    int32_t low, high;           /* least and largest code of the output */
    int32_t count_pads;          /* AVERAGE_POOL: 1: padding counts in the divisor */
    struct mqb_conv_shape shape; /* CONV and pools */
    /* MAP: [256], ADD and MUL: [a][b], 256 each. Stored codes: code + 128 where the tensor's qmin is negative. */
    const uint8_t *table;
    const struct mqb_step_run *runs; /* MOVE: in ascending order of the output */
    int32_t num_runs;
    int32_t pad;                /* MOVE: a code of the output */
    const int32_t *permutation; /* SHUFFLE: output channel j reads input channel permutation[j] */
};

struct mqb_steps {
    uint32_t struct_size;
    uint32_t num_tensors, num_steps;
    int32_t input;  /* step tensor */
    int32_t output; /* step tensor, or MQB_NONE: see struct mqb_step */
    uint32_t reserved;
    const struct mqb_step_tensor *tensors;
    const struct mqb_step *steps;
};

#ifdef __cplusplus
}
#endif
#endif
