/*
 * quant.h - quantization points, observers, calibration, and the way down to integers.
 *
 *   graph with FakeQuantize nodes --points--> instances --calibrate--> initial parameters --train--> learned ones
 *     --deploy--> float graph with batch norm merged + integer codes --lower--> program --run--> integer logits
 */
#ifndef MQB_QUANT_H
#define MQB_QUANT_H

#include "graph/graph.h"
#include "ops/point.h"
#include "plugin/registry.h"
#include <mqbench/mqbench.h>

/* ---- host.c: the table handed to plugins ---- */
const struct mqb_host *mqb_host_table(void);

/* ---- observer.c: one struct mqb_observer_kind a name; NULL-terminated list of names ---- */
const char *const *mqb_observer_names(void);

/* ---- points.c ---- */

struct mqb_quantizer_choice {
    const char *id;
    const struct mqb_quantizer *vtable;
    const struct mqb_options *options;
};

struct mqb_points_config {
    const struct mqb_host *host;
    const struct mqb_backend_rules *rules;
    struct mqb_quantizer_choice weight, activation;
    int weight_bits, activation_bits; /* 2..8 */
    int io_bits;                      /* first and last layer: 8; 0 = as the rest */
    bool relax; /* where a quantizer refuses the backend's scheme, try symmetric codes, then one scale a tensor: for runs that
                 * will not be deployed */
};

struct mqb_points {
    struct mqb_point **points; /* topological order of their nodes */
    int num_points;
};

/* An instance for every FakeQuantize node of the graph, attached to it. A refused scheme: the tensor's name and the
 * quantizer's reason (MQB_ERR_UNSUPPORTED). */
mqb_status mqb_points_create(struct mqb_graph *graph, const struct mqb_points_config *config, struct mqb_points **points,
                             struct mqb_error *error);
/* The scheme of one FakeQuantize node; of `config` rules and bits count. */
mqb_status mqb_points_scheme(const struct mqb_graph *graph, const struct mqb_node *node, const struct mqb_points_config *config,
                             struct mqb_scheme *scheme, struct mqb_error *error);
/* The scheme of one point under these rules: range from bits, sign and narrowness. */
void mqb_scheme_make(const struct mqb_backend_rules *rules, int role, int bits, int num_channels, struct mqb_scheme *scheme);
void mqb_points_set_mode(struct mqb_points *points, enum mqb_point_mode mode);
struct mqb_point *mqb_points_find(const struct mqb_points *points, mqb_node_id node);
void mqb_points_destroy(struct mqb_points *points);

/* ---- deploy.c: batch norm merged, codes frozen ---- */

/* A frozen tensor. Arrays owned by the deployment. */
struct mqb_frozen {
    mqb_value_id value;      /* in deploy->graph: the tensor that carries these codes (activation), or the weight */
    mqb_node_id point;       /* in the trained graph: the FakeQuantize node that it comes from */
    int32_t role;
    bool is_private;         /* activation: node `reader` alone reads these codes; others have codes of their own or the real value */
    mqb_node_id reader;      /* in deploy->graph, if private */
    char *name;              /* of the value */
    struct mqb_scheme scheme;
    int32_t num_channels;
    float *scale;
    int32_t *zero_point;
    int32_t qmin, qmax;
    int32_t *codes;          /* weights: in ONNX order */
    int64_t num_codes;
};

struct mqb_deploy {
    struct mqb_graph *graph; /* no FakeQuantize, no BatchNormalization after a convolution; every conv/gemm has a float bias or none */
    struct mqb_frozen *frozen;
    int num_frozen;
};

/* From the trained graph and its points. Fails with the reason if a quantizer cannot be deployed. Without points (NULL): the
 * folded network in float, nothing quantized and nothing frozen. */
mqb_status mqb_deploy_create(const struct mqb_graph *trained, const struct mqb_points *points, struct mqb_deploy **deploy,
                             struct mqb_error *error);
void mqb_deploy_destroy(struct mqb_deploy *deploy);
/* The codes that every reader of the value sees; NULL: float, or private codes alone. */
const struct mqb_frozen *mqb_deploy_find(const struct mqb_deploy *deploy, mqb_value_id value);
/* The codes in which node `reader` reads the value: its private ones, else those of all; NULL: float. */
const struct mqb_frozen *mqb_deploy_find_input(const struct mqb_deploy *deploy, mqb_value_id value, mqb_node_id reader);

/* ---- lower.c, iexec.c: the integer program ---- */

struct mqb_program;

/* Lowers under a contract. Refuses what cannot run in integers (an operator without an integer form, an accumulator that can
 * overflow, a scale out of range) and names the layer. Under MQB_SCOPE_CONV_AND_LINEAR convolutions and linear layers run in
 * integers and everything else in float; such a program reads the deployment's graph, which must outlive it. */
mqb_status mqb_program_create(const struct mqb_deploy *deploy, const struct mqb_backend_rules *rules,
                              const struct mqb_compute *compute, struct mqb_program **program, struct mqb_error *error);
void mqb_program_destroy(struct mqb_program *program);

/* What an integer program computes otherwise than the fake-quantized network. Each can be exchanged for what that computes. */
enum mqb_factor {
    MQB_FACTOR_BIAS = 1u << 0,       /* biases as integers: the real bias instead */
    MQB_FACTOR_REQUANTIZE = 1u << 1, /* multiplier and rounding between layers: M in double, half to even */
    MQB_FACTOR_FOLD = 1u << 2,       /* scales multiplied and divided in float: in double */
    MQB_FACTOR_ADD = 1u << 3,        /* rule of additions and products of two tensors: in float, one rounding */
    MQB_FACTOR_POOL = 1u << 4,       /* rule of means: one rounding to even, and none where the mean has no point */
    MQB_FACTOR_INPUT = 1u << 5,      /* the input's rounding: that of fake quantization */
    MQB_FACTOR_SATURATION = 1u << 6, /* sums and results that saturate in 16 bits: exact ones */
    MQB_FACTOR_HALF = 1u << 7,       /* halves between layers: floats */
    MQB_FACTOR_ALL = (1u << 8) - 1
};
/* As mqb_program_create, with the factors in `ideal` exchanged. Such a program has the same tensors of codes in the same order;
 * it is for measuring, not for exporting, and reads the deployment's graph, which must outlive it. (lower_ideal.c) */
mqb_status mqb_program_create_ideal(const struct mqb_deploy *deploy, const struct mqb_backend_rules *rules, uint32_t ideal,
                                    const struct mqb_compute *compute, struct mqb_program **program, struct mqb_error *error);
/* The factors that this program's contract and operators have. */
uint32_t mqb_program_factors(const struct mqb_program *program);
/* Lowers a copy of a graph with points in it, every scale 1, before anything is calibrated: what the backend cannot run whatever
 * the parameters turn out to be is refused with MQB_ERR_UNSUPPORTED (an operator without an integer form, a tensor without a
 * point, an accumulator that overflows with any zero points). Of `config` rules and bits count. (rehearse.c) */
mqb_status mqb_program_rehearse(const struct mqb_graph *placed, const struct mqb_points_config *config, struct mqb_error *error);

/* One tensor of codes of the program. codes are [n][h][w][c] (or [n][f]), one byte each; `code - 128` if is_signed is the stored form:
 * real = scale * (code - zero_point), code = stored byte + (is_signed ? -128 : 0). */
struct mqb_program_tensor {
    mqb_value_id value;  /* of deploy->graph */
    mqb_node_id point;   /* in the trained graph: its FakeQuantize node; MQB_NONE: it carries its input's parameters on */
    const char *name;
    const char *layer;   /* node that produced it; under float islands the layer that reads it */
    float scale;
    int32_t zero_point;
    int32_t qmin, qmax;
    bool is_signed;
    int64_t size;        /* of one image */
};
int mqb_program_num_tensors(const struct mqb_program *program);
int64_t mqb_program_num_classes(const struct mqb_program *program);
const struct mqb_program_tensor *mqb_program_tensor(const struct mqb_program *program, int index);

/* The integer biases, for exporters: index 0 .. until false. Arrays are the program's. */
struct mqb_program_bias {
    mqb_value_id value;   /* of deploy->graph */
    int32_t num_channels;
    const float *scale;   /* s_x * s_w */
    const int32_t *codes;
};
bool mqb_program_bias(const struct mqb_program *program, int index, struct mqb_program_bias *bias);

/* The program as ONNX, in the form that `flags` says (enum mqb_quantized_onnx). (program_onnx.c) */
mqb_status mqb_program_export_onnx(const struct mqb_program *program, const struct mqb_deploy *deploy, uint32_t flags,
                                   const char *path, struct mqb_error *error);

/* Runs n images: x float NHWC as the FP32 network takes it (quantized on entry by the contract's input rule).
 * logits: [n][classes] float: the last accumulators times s_x s_w, or the dequantized output codes.
 * taps: NULL, or num_tensors pointers (NULL entries allowed), each n * size bytes to receive the stored codes. */
mqb_status mqb_program_run(const struct mqb_program *program, struct mqb_pool *pool, const float *x, int n, float *logits,
                           uint8_t *const *taps, struct mqb_error *error);
/* The same, but where forced[tensor] is not NULL, it ([n][h][w][c], stored codes) is what the operators behind read instead of
 * the tensor; its tap still has what its own operator made. So each operator can be looked at on given inputs. */
mqb_status mqb_program_run_forced(const struct mqb_program *program, struct mqb_pool *pool, const float *x, int n, float *logits,
                                  uint8_t *const *taps, const uint8_t *const *forced, struct mqb_error *error);

/* program_times.c: for reports. The same run; to times[worker][operator] the seconds of each are added. */
mqb_status mqb_program_run_timed(const struct mqb_program *program, struct mqb_pool *pool, const float *x, int n, float *logits,
                                 double *times, struct mqb_error *error);
struct mqb_program_op {
    const char *name; /* of the node */
    const char *kind; /* "Conv", "Table", ... */
    double operations; /* of one image: additions and multiplications of a convolution, else 0 */
    double bytes;      /* of one image: read and written */
};
int mqb_program_num_ops(const struct mqb_program *program);
void mqb_program_op(const struct mqb_program *program, int index, struct mqb_program_op *op);

/* requant.c: one accumulator through a contract, the scalar definition that every kernel must equal.
 * multiplier: s_x * s_w / s_y folded by the contract. */
struct mqb_requantizer {
    int32_t multiplier, rounding, zp_before, intermediate;
    double m;        /* folded */
    float m32;
    int32_t q31, shift; /* M = q31 * 2^(shift - 31) */
    int32_t zero_point, low, high;
    /* Below: the parts of contracts with a float epilogue, a float intermediate or a divisor. */
    float bias;            /* MQB_BIAS_F32: the real bias, set by the caller after init; else 0 */
    float s_xw, s_y, inverse; /* f32(s_x * s_w), s_y, f32(1 / s_y) */
    int32_t divide;        /* second step of a float intermediate: 1: h / s_y, 0: h * inverse */
    int32_t divisor;       /* MQB_MULTIPLIER_POT: M = 2^-k / divisor (average pooling), else 1 */
    double extra;          /* MQB_FACTOR_BIAS: a real bias in steps of the accumulator, which has none then; else 0 */
};
mqb_status mqb_requantizer_init(struct mqb_requantizer *r, const struct mqb_contract *contract, float s_x, float s_w, float s_y,
                                int32_t zero_point, int32_t low, int32_t high, struct mqb_error *error);
int32_t mqb_requantize(const struct mqb_requantizer *r, int32_t accumulator);

#endif
