/*
 * program.h - the lowered integer program. Room-internal.
 *
 * Tensors are NHWC (or [N][F], kept as 1 x 1 x F), one byte a code, in the stored form: code + offset, offset = 128 for signed
 * codes and 0 for unsigned ones. Where a zero point is named `stored`, it is z + offset of its tensor. Tensors of float
 * islands hold floats instead, in the same order.
 * Everything here is made by the lowering and read-only afterwards; a run only needs one arena a worker.
 */
#ifndef MQB_PROGRAM_H
#define MQB_PROGRAM_H

#include "quant/requant.h"

#include "ops/ops.h"

struct mqb_itensor {
    struct mqb_program_tensor info;
    int32_t h, w, c;
    int32_t offset; /* 128 if signed */
    int32_t zero_stored;
    bool real;           /* floats, no codes: the tensor of a float island */
    int32_t index;       /* in program->coded; MQB_NONE: real */
    size_t place;        /* in the arena */
    int32_t first, last; /* operators that write it and read it last */
};

enum mqb_iop_kind {
    MQB_IOP_CONV = 0,   /* convolution or linear layer */
    MQB_IOP_TABLE = 1,  /* out = table[in] */
    MQB_IOP_BINARY = 2, /* out = table[a * 256 + b]: add, mul */
    MQB_IOP_MAX_POOL = 3,
    MQB_IOP_AVERAGE_POOL = 4,
    MQB_IOP_MOVE = 5,     /* runs of codes: slice, pad, concat, flatten */
    MQB_IOP_SHUFFLE = 6,  /* a permutation of the channels of each pixel */
    MQB_IOP_CHANNELS = 7, /* out = table[channel * 256 + in]: batch norm that stands alone */
    MQB_IOP_QUANTIZE = 8, /* reals to codes */
    MQB_IOP_REAL = 9,     /* an operator that stays in float */
    MQB_IOP_DEQUANTIZE = 10 /* codes to reals, in front of an ideal mean */
};

/* Rows of reals to codes, equal to mqb_quantize_value bit for bit. */
struct mqb_quantize_rows {
    const struct mqb_contract *contract;
    float scale;
    int32_t zero_point, low, high, offset;
};

/* Rows of sums to codes: the vector form of a contract, or mqb_requantize for each. Arrays have one entry a channel. */
enum mqb_rescale_form {
    MQB_RESCALE_SCALAR = 0,
    MQB_RESCALE_F32 = 1,
    MQB_RESCALE_F64 = 2,
    MQB_RESCALE_REAL = 3, /* a float between */
    MQB_RESCALE_HALF = 4, /* a half between */
    MQB_RESCALE_Q31 = 5,
    MQB_RESCALE_Q31_DOUBLE = 6,
    MQB_RESCALE_PLAIN = 7 /* F32, half to even, nothing added before rounding */
};
enum mqb_wide { MQB_WIDE_NONE = 0, MQB_WIDE_PLAIN = 1, MQB_WIDE_CHECKED = 2, MQB_WIDE_EACH = 3 };
struct mqb_rescale {
    int32_t form; /* enum mqb_rescale_form */
    int32_t wide; /* enum mqb_wide: what runs instead (iexec_wide.c) */
    float margin; /* CHECKED: how near a tie is too near */
    float *approximate; /* the multiplier as a float */
    int32_t rounding;
    int32_t num_channels;
    int32_t low, high, offset;
    int32_t zero_before, zero_after; /* the zero point stands in one of them, 0 in the other */
    bool divide;                     /* REAL, HALF: by second32; else times it */
    struct mqb_requantizer *scalar;
    float *m32, *bias32, *second32;
    double *m64, *bias64;
    int64_t *q31, *left, *right; /* left: a power of two */
    uint32_t *none;              /* zeros */
};

/* Raw sums [pixels][num_channels] of the channels from `channel` on, and what makes them exact:
 * A = raw + constant[k] + weight[k] * windows[pixel], mod 2^32. */
struct mqb_sums {
    const int32_t *accumulators;
    const uint32_t *constant; /* by channel of the layer; NULL: zeros */
    const uint32_t *weight, *windows; /* windows NULL: zeros */
    int32_t channel, num_channels;
};

struct mqb_iconv {
    struct mqb_conv_shape shape;
    int32_t zero_stored; /* of x; also what padding reads */
    bool depthwise;      /* one input channel a group */
    int32_t *bias;       /* [k] */
    float *bias_scale;   /* [k]: s_x * s_w, if there is a bias in integers; else NULL */
    mqb_value_id bias_value;
    /* Own kernels (plan == NULL): w_q - z_w as [k][r][s][c / groups], depthwise as [r][s][k]. */
    int16_t *weight;
    int32_t *weight_zero;  /* z_w, [k] */
    int32_t weight_offset; /* 128 for unsigned weight codes, which a provider gets as w_q - 128 */
    /* A provider's kernel gives raw = sum x * w8. A = raw + constant[k] + window_weight[k] * (sum of x in the window), mod
     * 2^32. */
    const struct mqb_compute *compute;
    struct mqb_conv_plan *plan;
    void *packed;
    uint32_t *constant, *window_weight; /* window_weight NULL: all zero */
    /* What is convolved before it is requantized: rows of one image or whole images, so many channels. */
    int32_t band_images, band_rows, part_channels;
    int32_t group; /* images a run has at most */
    struct mqb_rescale rescale;
    /* A real result, f(f(A) * logit_scale[k]) + logit_bias[k]: of the last layer without a point, of a layer before a float
     * island, and of one that takes an addition over. */
    float *logit_scale, *logit_bias;
    bool half; /* real results are rounded to IEEE half */
    bool wide; /* vectors of 512 bits may make the real results */
    /* Conv + Add: codes of side_scale * (side - side_zero) + the real result. */
    bool adds;
    float side_scale;
    int32_t side_zero; /* stored */
    struct mqb_quantize_rows quantize;
    /* 16-bit pairs (own kernel): w8 as [k][r][s][c / groups], with constant and window_weight as above. NULL: exact sums. */
    int8_t *pairs;
};

/* An addition of two codes as a formula. Zero points are stored ones; the result's stands in `before` or `after` the rounding,
 * the other is 0 (but for the offset of its codes). */
enum mqb_pair_form {
    MQB_PAIR_TABLE = 0,
    MQB_PAIR_F32_DIVIDE = 1,
    MQB_PAIR_F32_MULTIPLY = 2,
    MQB_PAIR_F64 = 3,
    MQB_PAIR_FMA = 4
};
struct mqb_pair {
    int32_t form, rounding;
    int32_t zero_a, zero_b, before, after;
    int32_t low, high; /* before `after` is added */
    /* Instead: codes of a wide_a + wide_ca and b wide_b + wide_cb, rounded (EACH: one by one) and bounded as stored codes. */
    int32_t wide, wide_after, wide_low, wide_high;
    float wide_a, wide_b, wide_ca, wide_cb;
    float fa, fb, last; /* F32: the result's scale or its reciprocal; FMA: the constant */
    double da, db;
};

/* An operator of the network that runs in float, by the code that runs it in training. */
struct mqb_ireal {
    const struct mqb_node *node;
    struct mqb_op_context context; /* made last, when the size of a group is known */
    const float *fixed[MQB_MAX_INPUTS];
    int32_t operand[MQB_MAX_INPUTS]; /* by input of the node: index into op->in, or MQB_NONE: fixed or absent */
    size_t scratch;
    bool created, by_blocks;
    bool moves; /* every number of the result is one of the input's, or 0 */
    float *bias; /* owned: an integer bias as reals, behind an ideal mean; else NULL */
};

struct mqb_imean {
    int32_t count; /* what the sum is divided by */
    int32_t rule;  /* enum mqb_pool_rule; a mean over the whole image under MQB_POOL_ORT is INTEGER */
    struct mqb_requantizer requantizer;
};

struct mqb_irun {
    int32_t input; /* index into op->in; -1: fill with the pad code */
    int32_t from, to, size;
};

struct mqb_iop {
    int32_t kind; /* enum mqb_iop_kind */
    char *name;   /* of the graph's node */
    int32_t num_in;
    int32_t in[MQB_MAX_INPUTS];
    int32_t out;                       /* MQB_NONE: the logits */
    struct mqb_iconv *conv;            /* owned */
    struct mqb_ireal *real;            /* REAL; owned */
    struct mqb_quantize_rows quantize; /* QUANTIZE */
    /* TABLE: [256]; CHANNELS: [c][256]; BINARY: [65536]; MAX_POOL, SHUFFLE: NULL or [256] applied to the result; MOVE:
     * [num_in][256] or NULL. */
    uint8_t *table;
    struct mqb_window window;
    struct mqb_imean *means; /* AVERAGE_POOL: one for each size of window that occurs, */
    int32_t num_means;
    int32_t *mean_of; /*   and which of them serves an output pixel */
    struct mqb_irun *runs;
    int32_t num_runs;
    uint8_t pad;
    int32_t *permutation; /* SHUFFLE: output channel j reads input channel permutation[j] */
    bool wide_b;          /* BINARY: b has one pixel, for all of a's */
    struct mqb_pair pair; /* BINARY: what runs instead of the table */
};

struct mqb_program {
    struct mqb_contract contract;
    struct mqb_contract exact; /* what the factors in `ideal` follow instead */
    uint32_t ideal;            /* of enum mqb_factor; 0 for a program of a target */
    char *profile;
    struct mqb_itensor *tensors;
    int32_t num_tensors, tensors_capacity;
    int32_t *coded; /* the tensors that hold codes, which is what the outside sees */
    int32_t num_coded;
    struct mqb_iop *ops;
    int32_t num_ops, ops_capacity;
    int32_t input;  /* tensor */
    int32_t output; /* tensor, or MQB_NONE: the last operator writes logits */
    bool half;      /* float islands compute in IEEE half */
    bool wide;      /* and vectors of 512 bits may round to it */
    int64_t num_classes;
    int32_t group;     /* images a task takes together */
    size_t arena_size; /* bytes a worker needs: tensors, then accumulators, then scratch of the kernels */
    size_t accumulators, scratch;
    struct mqb_spare *spare; /* the arenas of the last run, for the next one */
};

/* lower.c: one node at a time. */
struct mqb_lowering {
    const struct mqb_deploy *deploy;
    const struct mqb_graph *graph;
    struct mqb_program *program;
    int32_t *tensor_of;  /* by value; MQB_NONE: none */
    int32_t *consumers;  /* by value: how many nodes read it */
    mqb_node_id *reader; /* by value: one of them */
    bool *fused;         /* by node: done by its producer */
    bool *deferred;      /* by node: a convolution that runs with the addition behind it */
    int32_t *quantized;  /* float islands: by frozen entry, the tensor of its codes; MQB_NONE: none yet */
    int32_t *mean_of;    /* by value: the real tensor of an ideal mean, beside its codes; MQB_NONE: none */
};

/* Where a node's result ends after the activations that its operator takes over. */
struct mqb_target {
    mqb_value_id value;
    const struct mqb_frozen *frozen; /* NULL: it has no point */
    float least, most;               /* the real bounds that the activations leave, or infinities */
};

mqb_status mqb_lower_refuse(const struct mqb_node *node, struct mqb_error *error, const char *format, ...) MQB_PRINTF(3, 4);
struct mqb_target mqb_lower_target(struct mqb_lowering *lowering, const struct mqb_node *node);
/* The tensor that input `index` of the node is stored in. */
mqb_status mqb_lower_input(const struct mqb_lowering *lowering, const struct mqb_node *node, int32_t index, int32_t *tensor,
                           struct mqb_error *error);
/* A tensor for `value` with parameters of `frozen`, or else those of tensor `like`. */
mqb_status mqb_lower_tensor(struct mqb_lowering *lowering, const struct mqb_node *node, mqb_value_id value,
                            const struct mqb_frozen *frozen, int32_t like, int32_t *tensor, struct mqb_error *error);
mqb_status mqb_lower_op(struct mqb_lowering *lowering, const struct mqb_node *node, int kind, struct mqb_iop **op,
                        struct mqb_error *error);
/* Codes of the real bounds under the parameters of a tensor. */
void mqb_lower_bounds(const struct mqb_program *program, const struct mqb_itensor *tensor, const struct mqb_target *target,
                      int32_t *low, int32_t *high);

/* lower_ideal.c. The contract that a factor follows. */
static inline const struct mqb_contract *mqb_program_rule(const struct mqb_program *program, uint32_t factor)
{
    return program->ideal & factor ? &program->exact : &program->contract;
}
/* Sets the contracts of a program in which the factors in `ideal` are exchanged. */
void mqb_lower_ideal_contract(struct mqb_program *program, const struct mqb_scheme *activation, uint32_t ideal);
/* A mean without a point of its own, under MQB_FACTOR_POOL: a second tensor with the mean as it is. */
mqb_status mqb_lower_mean(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error);
/* What reads such a mean; *done false: there is none, or the node's codes are to be made as well. */
mqb_status mqb_lower_behind_mean(struct mqb_lowering *lowering, const struct mqb_node *node, bool *done,
                                 struct mqb_error *error);
/* b in steps of s_x s_w, rounded as the contract says. */
double mqb_lower_bias(const struct mqb_contract *contract, float s_x, float s_w, float b);

/* lower_conv.c. provider: hands a layer to the compute provider's integer kernels if it has one for the shape. */
mqb_status mqb_lower_conv(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error);
/* A deferred convolution with the addition `add` in its epilogue; `side`: the tensor of the other operand. */
mqb_status mqb_lower_conv_add(struct mqb_lowering *lowering, const struct mqb_node *node, const struct mqb_node *add,
                              int32_t side, struct mqb_error *error);
/* From a real input under float islands: the result is real, too. */
mqb_status mqb_lower_conv_island(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error);
/* lower_pairs.c: 16-bit pairs where a pair of this layer can saturate; else nothing changes. */
mqb_status mqb_lower_pairs(const struct mqb_node *node, const struct mqb_itensor *x, struct mqb_iconv *conv,
                           struct mqb_error *error);
/* Weights back in ONNX order as signed bytes, and the constants of the head of lower_conv.c. True: the sums over windows are
 * needed. */
bool mqb_lower_raw(const struct mqb_iconv *conv, int8_t *w8, uint32_t *constant, uint32_t *window_weight);
/* lower_affine.c */
mqb_status mqb_lower_batch_norm(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error);
/* lower_island.c: input 0 of a layer as codes, quantized in front of it. */
mqb_status mqb_lower_quantized(struct mqb_lowering *lowering, const struct mqb_node *node, int32_t *tensor,
                               struct mqb_error *error);
/* A whole graph whose convolutions and linear layers alone run in integers. */
mqb_status mqb_lower_islands(struct mqb_lowering *lowering, struct mqb_error *error);
mqb_status mqb_lower_real_tensor(struct mqb_lowering *lowering, const struct mqb_node *node, mqb_value_id value,
                                 int32_t *tensor, struct mqb_error *error);
/* The operator of a node in float, from the real tensors of its inputs. */
mqb_status mqb_lower_real(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error);
/* The states of the float operators; scratch: the most that one of them needs. */
mqb_status mqb_lower_open_reals(struct mqb_program *program, const struct mqb_graph *graph, const struct mqb_compute *compute,
                                size_t *scratch, struct mqb_error *error);
void mqb_lower_real_destroy(struct mqb_ireal *real);
mqb_status mqb_lower_provider(struct mqb_iconv *conv, const struct mqb_compute *compute, int32_t max_images,
                              struct mqb_error *error);
void mqb_lower_conv_destroy(struct mqb_iconv *conv);
mqb_status mqb_lower_table(struct mqb_lowering *lowering, const struct mqb_node *node,
                           struct mqb_error *error); /* lower_table.c */
mqb_status mqb_lower_binary(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error);
/* table[256]: codes of `from` to codes of `to` within [low, high]; *identity: it changes no code that
 * can occur. */
mqb_status mqb_lower_rescale_table(const struct mqb_program *program, const struct mqb_node *node,
                                   const struct mqb_itensor *from, const struct mqb_itensor *to, int32_t low, int32_t high,
                                   uint8_t table[256], bool *identity, struct mqb_error *error);
mqb_status mqb_lower_pool(struct mqb_lowering *lowering, const struct mqb_node *node,
                          struct mqb_error *error); /* lower_pool.c */
/* op->table from each input's parameters to the output's, or NULL where they are the same. */
mqb_status mqb_lower_own_params(const struct mqb_program *program, const struct mqb_node *node, struct mqb_iop *op,
                                struct mqb_error *error);
mqb_status mqb_lower_move(struct mqb_lowering *lowering, const struct mqb_node *node,
                          struct mqb_error *error); /* lower_move.c */

/* iexec.c */
struct mqb_spare *mqb_spare_create(void);
void mqb_spare_destroy(struct mqb_spare *spare);

/* iexec_rescale.c */
mqb_status mqb_rescale_create(struct mqb_rescale *rescale, const struct mqb_contract *contract, float s_x, const float *s_w,
                              int32_t num_scales, const struct mqb_itensor *out, const float *bias, int32_t num_channels,
                              int32_t low, int32_t high, struct mqb_error *error);
void mqb_rescale_destroy(struct mqb_rescale *rescale);
/* codes: of whole pixels, with all channels. */
void mqb_rescale_run(const struct mqb_rescale *rescale, const struct mqb_sums *sums, int64_t num_pixels, uint8_t *codes);

/* iexec_wide.c: whether vectors of 512 bits can take the place of the form; the same codes by them, or false. */
void mqb_wide_choose(struct mqb_rescale *rescale, bool biased);
bool mqb_wide_rescale(const struct mqb_rescale *rescale, const struct mqb_sums *sums, int64_t num_pixels, uint8_t *codes);
/* Sums to reals, or with `side` added to codes; out, side and codes: of whole pixels, with all channels. */
bool mqb_wide_reals(const struct mqb_iconv *conv, const struct mqb_sums *sums, int64_t num_pixels, float *out,
                    const uint8_t *side, uint8_t *codes);
/* As mqb_real_halves, where mqb_isa_wide() said so. */
bool mqb_wide_halves(int64_t size, float *y);
/* An addition of stored codes; taken only if it gives the table's result at every entry. */
struct mqb_wide_addition {
    float factor_a, factor_b;
    int32_t zero_a, zero_b, after, low, high; /* stored; after: added to the rounded sum */
    bool each;
};
void mqb_wide_choose_pair(struct mqb_pair *pair, const struct mqb_wide_addition *addition, const uint8_t *table);
bool mqb_wide_pair(const struct mqb_pair *pair, const uint8_t *table, int64_t size, const uint8_t *a, const uint8_t *b,
                   uint8_t *codes);

/* iexec_real.c */
void mqb_quantize_rows(const struct mqb_quantize_rows *q, int64_t size, const float *x, uint8_t *codes);
/* A row of `size` accumulators to reals. */
void mqb_real_row(int32_t size, const int32_t *accumulators, const float *scale, const float *bias, float *y);
/* y += scale * (code - zero) */
void mqb_real_add_codes(int32_t size, const uint8_t *codes, int32_t zero, float scale, float *y);
/* Nearest IEEE halves, saturated, in place: mqb_requant_half for rows. */
void mqb_real_halves(int64_t size, float *y);
/* n images of a float operator. */
void mqb_ireal_run(const struct mqb_program *program, const struct mqb_iop *op, int64_t n, char *arena, void *scratch);

/* iexec_pairs.c: accumulators [p][q][k] of one image, pairs of products saturated to 16 bits. */
void mqb_pairs_pixel(const struct mqb_iconv *conv, const uint8_t *x, int32_t p, int32_t q, uint8_t *patch,
                     int32_t *accumulators);

/* iexec_pair.c. choose: the formula if it equals the table everywhere, else the table. */
void mqb_pair_choose(struct mqb_pair *rule, const struct mqb_pair *formula, const uint8_t *table);
void mqb_pair_run(const struct mqb_pair *rule, int64_t size, const uint8_t *a, const uint8_t *b, uint8_t *codes);

/* iexec_window.c: sums of x over the window of each output pixel, by group, for weights with a zero point. */
size_t mqb_window_sums_size(const struct mqb_conv_shape *shape, int32_t count); /* elements of `sums` for so many rows */
/* windows[count][q][groups] of an image's output rows from `first` on; outside the image x reads `zero`. */
void mqb_window_rows(const struct mqb_conv_shape *shape, const uint8_t *x, int32_t zero, int32_t first, int32_t count,
                     uint32_t *sums, uint32_t *windows);

/* iexec_conv.c: what is convolved at a time, for groups of at most `group` images */
void mqb_iconv_choose_band(struct mqb_iconv *conv, int32_t group);
size_t mqb_iconv_accumulators_size(const struct mqb_iconv *conv);
size_t mqb_iconv_scratch_size(const struct mqb_iconv *conv);
/* A layer over n images. codes or logits: NULL. side: the codes that a fused addition adds, else NULL. */
struct mqb_iconv_run {
    const struct mqb_iconv *conv;
    int32_t n;
    const uint8_t *x, *side;
    uint8_t *codes;
    float *logits;
};
/* In how many bands it falls, so that each of `workers` has some, and band `index` of them: no band depends on another.
 * accumulators, scratch: the worker's own. */
int32_t mqb_iconv_num_bands(const struct mqb_iconv_run *run, int32_t workers);
void mqb_iconv_run_band(const struct mqb_iconv_run *run, int32_t workers, int32_t index, int32_t *accumulators, void *scratch);

/* iexec_ops.c: every other operator, one image. */
void mqb_iop_run(const struct mqb_program *program, const struct mqb_iop *op, const uint8_t *const *in, uint8_t *out);

#endif
