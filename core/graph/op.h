/*
 * op.h - what an operator is: one descriptor, in one file of core/ops/.
 *
 * Two kinds of work:
 *  - a *pointwise* operator maps each pixel's channel vector to a channel vector of the same size. The executor runs a chain
 *    of them block by block, a block being `rows` consecutive pixels x `channels`, so that a chain is one pass over memory.
 *  - any other operator runs a *grain* (a few images) at a time.
 * Operators whose statistics run over the whole batch (batch normalization) have reduce/finish phases: reduce for every
 * grain, one barrier, sums added in a fixed tree, finish once.
 * An operator without batched inputs (a folded weight, a quantized weight) runs once a step, on whole tensors.
 * A *statistic* stands between: its first input is batched, its result is not.
 *
 * Layout: batched values of rank 4 are NHWC in memory, of rank 2 [N][F]; unbatched ones as ONNX stores them.
 */
#ifndef MQB_OP_H
#define MQB_OP_H

#include "graph/graph.h"

struct mqb_exec;

/* What an operator sees at run time. One per node and plan; `state` is the operator's own. */
struct mqb_op_context {
    const struct mqb_graph *graph;
    const struct mqb_node *node;
    mqb_node_id id;
    const struct mqb_compute *compute;
    void *state;          /* made by create() */
    struct mqb_pool *pool; /* for unbatched forward/backward only */
    int max_images;       /* of a grain */
    int64_t batch;        /* images in the batch that is running */
    bool training;        /* batch statistics, learning quantizers */
    bool gradients;       /* a backward pass may follow */
    const float *const *fixed; /* data of unbatched inputs by input index (NULL for batched ones) */
    const struct mqb_host *host; /* handed to the compute provider */
};

/* Bytes in place of floats: x = scale * (code - zero), 0 <= code <= top. */
struct mqb_codes {
    const uint8_t *data; /* NULL: there are floats */
    float scale;
    int32_t zero, top;
};

/* One grain. Pointers are those of the grain; unbatched inputs point to the whole tensor. */
struct mqb_op_grain {
    int images;
    int index;                 /* of the grain in the batch */
    int64_t first_image;
    const float *in[MQB_MAX_INPUTS];
    struct mqb_codes codes; /* of input 0, if the operator takes codes; then in[0] is NULL */
    float *out;
    const float *dout;
    float *din[MQB_MAX_INPUTS];      /* NULL: not wanted. Unbatched inputs: this grain's own partial, zeroed before */
    bool accumulate[MQB_MAX_INPUTS]; /* batched inputs: add to din instead of writing */
    void *scratch;
};

/* Rows [first, first + count) of one image's output. */
struct mqb_op_rows {
    int32_t first, count;
    const float *in; /* input 0, the whole image */
    float *out;      /* where the first row goes */
    void *scratch;
};

/* One block of a pointwise chain. in[0] is the chain's running value; in[1] a side input (Add, Mul). */
struct mqb_op_block {
    int64_t rows;
    int32_t channels;
    int64_t first_row;         /* in the whole batch */
    const float *in[2];
    float *out;                /* may equal in[0] */
    const float *dout;
    float *din[2];             /* din[0] may equal dout; NULL: not wanted */
    bool accumulate_side;
    double *sums;              /* this grain's share of what backward_finish adds up; NULL in forward */
};

struct mqb_op {
    const char *name;
    int32_t min_inputs, max_inputs;
    /* Output rank, dims and batched flag from the inputs; checks attributes and shapes. */
    mqb_status (*infer)(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                        struct mqb_error *error);

    /* Optional: the operator's state for one plan. scratch_size: bytes a worker needs. */
    mqb_status (*create)(struct mqb_op_context *context, size_t *scratch_size, struct mqb_error *error);
    void (*destroy)(struct mqb_op_context *context);
    /* Optional: once before each forward, serial (packs weights, prepares quantizers). */
    mqb_status (*prepare)(struct mqb_op_context *context, struct mqb_error *error);

    /* Grain operators. */
    void (*forward)(const struct mqb_op_context *context, const struct mqb_op_grain *grain);
    void (*backward)(const struct mqb_op_context *context, const struct mqb_op_grain *grain);
    bool takes_codes; /* for input 0; other operators are given floats, which the executor makes of the codes */

    /* Optional, of grain operators whose other inputs are fixed: whether rows of the output can be had alone, with the bits of
     * forward. Then evaluation takes some rows through the pointwise operators behind while they are in cache. */
    bool (*has_rows)(const struct mqb_op_context *context);
    void (*forward_rows)(const struct mqb_op_context *context, const struct mqb_op_rows *rows);

    /* Pointwise operators. The input that the chain runs through is index 0, or either one for Add. */
    /* An operator with both forms (Mul) runs by blocks where its batched inputs have the output's shape, else by grains. For
     * symmetric ones (Add, Mul) in[0] is the chain's value whichever input it is. */
    void (*forward_block)(const struct mqb_op_context *context, const struct mqb_op_block *block);
    void (*backward_block)(const struct mqb_op_context *context, const struct mqb_op_block *block);

    /* Optional, of an operator that makes values which codes can replace (mqb_codes_grid): forward_block to codes. False if they
     * would not give every bit of it back; then `codes` are undefined. */
    bool (*forward_codes)(const struct mqb_op_context *context, const struct mqb_op_block *block, uint8_t *codes);

    /* Batch-wide statistics before forward. reduce_size: doubles a grain contributes, 0 = none in this mode. */
    /* reduce writes all of sums from the whole grain in in[0]; finish is called once a forward if reduce_size is not 0. */
    size_t (*reduce_size)(const struct mqb_op_context *context);
    void (*reduce)(const struct mqb_op_context *context, const struct mqb_op_grain *grain, double *sums);
    mqb_status (*finish)(struct mqb_op_context *context, const double *sums, struct mqb_error *error);
    /* Batch-wide sums in backward. For pointwise operators: backward_reduce_block is called with in[0] and dout of each block
     * and adds to block->sums; after backward_finish, backward_block may be called. The gradients of unbatched inputs are
     * written by backward_finish into dfixed (by input index; NULL: not wanted; to be added to). */
    size_t (*backward_reduce_size)(const struct mqb_op_context *context);
    void (*backward_reduce_block)(const struct mqb_op_context *context, const struct mqb_op_block *block);
    bool backward_needs_finish; /* backward_block needs backward_finish's result: a barrier between the two. In training only:
                                 * otherwise backward_block adds to sums itself and backward_finish comes last, as for operators
                                 * without this flag. */
    void (*backward_finish)(struct mqb_op_context *context, const double *sums, float *const *dfixed);

    /* Operators without batched inputs: whole tensors, once. din is added to. */
    mqb_status (*forward_fixed)(struct mqb_op_context *context, float *out, struct mqb_error *error);
    void (*backward_fixed)(struct mqb_op_context *context, const float *dout, float *const *din);

    /* A statistic: input 0 is batched, the result is not. In training reduce and finish see the batch, then forward_fixed writes
     * the result, and what is computed from it waits for that; backward gets the whole result's gradient as dout and din[0] of
     * the grain. Otherwise forward_fixed alone, which does without input 0, and no gradient. */
    bool statistic;
};

/* Attributes, with ONNX's defaults given by the caller. */
int64_t mqb_attr_i(const struct mqb_node *node, const char *name, int64_t otherwise);
double mqb_attr_f(const struct mqb_node *node, const char *name, double otherwise);
const char *mqb_attr_s(const struct mqb_node *node, const char *name, const char *otherwise);
/* Element `index` of a list attribute, or `otherwise` if the list is absent or shorter. */
int64_t mqb_attr_li(const struct mqb_node *node, const char *name, int32_t index, int64_t otherwise);

const struct mqb_op *mqb_op_find(const struct mqb_op_table *table, const char *name); /* NULL: unknown */
extern const struct mqb_op_table mqb_ops; /* core/ops/ops.c */

#endif
