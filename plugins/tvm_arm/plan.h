/*
 * plan.h - what the source code will do: every step with its shift, its weights, and where its codes lie in the scratch memory.
 */
#ifndef TVM_ARM_PLAN_H
#define TVM_ARM_PLAN_H

#include <mqbench/backend.h>

/* Of a right shift: halves up, halves away from zero, or down. */
enum tvm_rounding { TVM_UPWARD = 0, TVM_TONEAREST = 1, TVM_FLOOR = 2 };

/* A rectangle of runs: n2 times n1 pieces of `size` codes each, at from + i2 from2 + i1 from1, likewise `to`. */
struct tvm_block {
    int32_t input; /* of the step; -1: fill */
    int32_t size, n1, n2;
    int32_t from, from1, from2, to, to1, to2;
};

struct tvm_layer {
    const struct mqb_step *step;
    const char *name;             /* of the node */
    const char *op;               /* its operator */
    const int32_t *weight, *bias; /* CONV: codes in ONNX order; bias may be NULL */
    int64_t num_weights, num_bias;
    int32_t packed;           /* CONV: weights of up to 4 bits, two a byte; its function unpacks what it reads at a time */
    int32_t shift[2];         /* of the sums, or of each operand */
    int32_t sum_shift;        /* ADD that rounds once: operands are multiplied by 2^-shift[], the sum is shifted by this */
    int32_t formula;          /* MAP: a shift and a clamp say it without a table */
    struct tvm_block *blocks; /* MOVE */
    int32_t num_blocks;
    int32_t alias; /* MOVE: the output is its input, unchanged: no code */
};

struct tvm_tensor {
    const struct mqb_step_tensor *tensor;
    int32_t exponent; /* scale = 2^exponent */
    int32_t root;     /* the tensor whose memory it uses: itself unless an alias */
    int32_t first, last;
    int64_t size, place;
};

struct tvm_plan {
    const struct mqb_host *host;
    const struct mqb_export *request;
    const struct mqb_steps *steps;
    enum tvm_rounding rounding;
    int adds_once; /* additions round the sum, not each operand */
    struct tvm_layer *layers;
    struct tvm_tensor *tensors;
    int32_t output_exponent;
    int64_t output_size;
    int64_t multiplications;
    int64_t weight_bytes, bias_bytes, table_bytes, scratch_bytes;
    int64_t room_bytes, room_place; /* in the scratch: for weights that were packed */
};

mqb_status tvm_plan_create(const struct mqb_host *host, const struct mqb_export *request, enum tvm_rounding rounding,
                           int adds_once, struct tvm_plan *plan, struct mqb_error *error);
void tvm_plan_destroy(struct tvm_plan *plan);

/* 2^e = scale; 0 if the scale is no power of two. */
int tvm_exponent(float scale, int32_t *exponent);
/* a * 2^-shift, rounded: what the source's function of the same name computes. */
int64_t tvm_rescale(enum tvm_rounding rounding, int64_t a, int32_t shift);

/* plan_move.c: the runs of a MOVE as few rectangles. */
mqb_status tvm_plan_move(const struct tvm_plan *plan, struct tvm_layer *layer, struct mqb_error *error);

/* source.c, kernels.c, relay.c. name: what its functions begin with; stem: what its files are called. */
mqb_status tvm_write_source(const struct tvm_plan *plan, const char *name, const char *stem, struct mqb_error *error);
mqb_status tvm_write_header(const struct tvm_plan *plan, const char *name, const char *stem, struct mqb_error *error);
mqb_status tvm_write_relay(const struct tvm_plan *plan, const char *stem, struct mqb_error *error);

/* Static functions of the source. */
enum tvm_kernel {
    TVM_USES_CONV = 1 << 0,
    TVM_USES_DEPTHWISE = 1 << 1,
    TVM_USES_LINEAR = 1 << 2,
    TVM_USES_ADD = 1 << 3,
    TVM_USES_MULTIPLY = 1 << 4,
    TVM_USES_RESCALE_ALL = 1 << 5,
    TVM_USES_MAP = 1 << 6,
    TVM_USES_MAX_POOL = 1 << 7,
    TVM_USES_AVERAGE_POOL = 1 << 8,
    TVM_USES_MOVE = 1 << 9,
    TVM_USES_MOVE_RESCALED = 1 << 10,
    TVM_USES_FILL = 1 << 11,
    TVM_USES_SHUFFLE = 1 << 12,
    TVM_USES_ADD_ONCE = 1 << 13
};
/* Those that a layer calls, as a set. */
uint32_t tvm_kernels_of(const struct tvm_plan *plan, const struct tvm_layer *layer);
/* Codes of input `input` differ from those of the output in scale or range. */
int tvm_needs_rescale(const struct tvm_plan *plan, const struct tvm_layer *layer, int32_t input);
int32_t tvm_input_shift(const struct tvm_plan *plan, const struct tvm_layer *layer, int32_t input);

struct text;
/* The static functions that the plan's layers call, and no others. */
void tvm_add_kernels(struct text *text, const struct tvm_plan *plan);

#endif
