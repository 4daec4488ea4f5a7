/*
 * mqbench/backend.h - a hardware target: what it can represent, what it fuses, and how it rounds.
 *
 * A backend is mostly a constant table. The integer executor lives in the engine and runs any contract; its result for
 * every operator is defined by struct mqb_contract and nothing else.
 *
 * Notation: accumulator A = sum (x_q - x_zp)(w_q - w_zp) + bias_q, exact; M = s_x * s_w[c] / s_y.
 * rne: half to even; rha: half away from zero; rhu: half up, floor(v + 1/2).
 */
#ifndef MQBENCH_BACKEND_H
#define MQBENCH_BACKEND_H

#include <mqbench/graph.h>
#include <mqbench/steps.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mqb_rounding { MQB_ROUND_RNE = 0, MQB_ROUND_RHA = 1, MQB_ROUND_RHU = 2, MQB_ROUND_FLOOR = 3, MQB_ROUND_TRUNC = 4 };

/* How M is formed and applied. */
enum mqb_multiplier {
    MQB_MULTIPLIER_F32 = 0,        /* f32(A) * f32(M), one rounding */
    MQB_MULTIPLIER_F64 = 1,        /* exact in double: (double)A * M */
    MQB_MULTIPLIER_Q31 = 2,        /* one rounding: (A * q + 2^(t-1)) >> t, 64 bit (TFLite single, TVM upward) */
    MQB_MULTIPLIER_Q31_DOUBLE = 3, /* gemmlowp: saturating doubling high multiply, then rounding shift (ties away) */
    MQB_MULTIPLIER_POT = 4         /* M = 2^-k: rounding shift in int32 */
};
enum mqb_fold { MQB_FOLD_F32_MUL_DIV = 0 /* f32(f32(s_x s_w) / s_y) */, MQB_FOLD_F64 = 1 /* in double from the float scales */ };
enum mqb_intermediate { MQB_INTERMEDIATE_NONE = 0, MQB_INTERMEDIATE_F16 = 1, MQB_INTERMEDIATE_F32 = 2, MQB_INTERMEDIATE_I16_SATURATING = 3 };
enum mqb_accumulator {
    MQB_ACCUMULATOR_I32_WRAP = 0,
    MQB_ACCUMULATOR_I32_SATURATE = 1,
    MQB_ACCUMULATOR_I16_PAIRS = 2,
    MQB_ACCUMULATOR_I16_PAIRS_ORT = 3 /* the same, but depthwise filters of one zero point are summed exactly: ONNX Runtime */
};
enum mqb_bias_form { MQB_BIAS_I32 = 0 /* at s_x * s_w[c] */, MQB_BIAS_F32 = 1 /* added in the float epilogue */ };
enum mqb_add_rule {
    MQB_ADD_RESCALE_EACH = 0, /* each operand is requantized to the output scale (one rounding each), then added */
    MQB_ADD_RESCALE_SUM = 1,  /* both scaled exactly (double), added, one rounding */
    MQB_ADD_F32 = 2,          /* dequantize in float32, add, quantize */
    MQB_ADD_FMA = 3           /* ONNX Runtime's fused form; products, too, have the zero point inside the rounding */
};
enum mqb_pool_rule {
    MQB_POOL_INTEGER = 0, /* sum, then requantize with s_x / (s_y * count) */
    MQB_POOL_F32 = 1,
    MQB_POOL_ORT = 2 /* ONNX Runtime: INTEGER over a whole image; over a window F32 with the zero point inside the rounding */
};
enum mqb_certainty { MQB_CERTAINTY_EXACT = 0, MQB_CERTAINTY_BRACKETED = 1 /* a model of a closed library */ };

/* The requantization contract: data, not code. */
struct mqb_contract {
    uint32_t struct_size;
    int32_t fold;           /* enum mqb_fold */
    int32_t multiplier;     /* enum mqb_multiplier */
    int32_t rounding;       /* enum mqb_rounding, for F32, F64 and POT */
    int32_t zp_before;      /* 1: zero point is added before rounding, 0: after */
    int32_t intermediate;   /* enum mqb_intermediate */
    int32_t accumulator;    /* enum mqb_accumulator */
    int32_t bias_form;      /* enum mqb_bias_form */
    int32_t bias_rounding;  /* enum mqb_rounding */
    int32_t input_rounding; /* enum mqb_rounding: float input to codes */
    int32_t input_divide;   /* 1: x / s, 0: x * (1 / s) */
    int32_t add_rule;       /* enum mqb_add_rule */
    int32_t pool_rule;      /* enum mqb_pool_rule */
    int32_t certainty;      /* enum mqb_certainty */
    uint32_t reserved;
    const char *profile; /* name of this variant of the contract */
};

/* Which operators stay in float: the integer program has float islands there. */
enum mqb_integer_scope { MQB_SCOPE_WHOLE_GRAPH = 0, MQB_SCOPE_CONV_AND_LINEAR = 1 };

/* What a backend imposes on one run. Pointers live as long as the plugin. */
struct mqb_backend_rules {
    uint32_t struct_size;
    int32_t deployable;          /* 0: fake quantization only; `reason` says why */
    const char *reason;
    struct mqb_scheme weight;     /* bits (0, or the most that it takes), qmin, qmax, num_channels are filled by the engine: */
    struct mqb_scheme activation; /*   signed_codes tells which range, narrow_range drops the lowest code */
    uint8_t weight_signed, weight_narrow, activation_signed, activation_narrow;
    int32_t default_bn_fold;   /* strategy -1..4 in training */
    const char *const *passes; /* ids, in order, NULL-terminated; a pass with an option "strategy" is handed --bn-fold */
    struct mqb_contract contract;
    int32_t scope;             /* enum mqb_integer_scope */
    uint32_t linear_per_tensor; /* 1: weights of linear layers have one scale, also where those of convolutions have many */
};

/* One tensor of the lowered program, for exporters. Arrays live during the call. */
struct mqb_export_tensor {
    uint32_t struct_size;
    int32_t role; /* enum mqb_role */
    const char *name; /* of the value in the exported float graph */
    struct mqb_qparams qparams;
    int32_t bits;
    uint32_t reserved;
    const int32_t *codes; /* weights and biases: integer codes in ONNX order; NULL for activations */
    int64_t num_codes;
    const char *reader;   /* activation that one node alone reads in these codes: that node; NULL: all that read the tensor do */
};

struct mqb_export {
    uint32_t struct_size;
    uint32_t num_tensors;
    const struct mqb_export_tensor *tensors;
    const char *dir;       /* existing folder, without a trailing slash */
    const char *model_name;
    const struct mqb_graph *graph; /* float deployment graph (BN merged) */
    /* Writes a text file into dir, atomically; name without a folder. */
    mqb_status (*write_text)(const struct mqb_export *request, const char *name, const char *text, size_t length,
                             struct mqb_error *error);
    /* Writes the float deployment graph as ONNX. */
    mqb_status (*write_onnx)(const struct mqb_export *request, const char *name, struct mqb_error *error);
    void *engine; /* the host's */
    /* Writes the integer program as ONNX: each tensor that it stores as codes, each weight, each integer bias.
     * flags: enum mqb_quantized_onnx. A tensor whose parameters no file can hold is refused by name. */
    mqb_status (*write_quantized_onnx)(const struct mqb_export *request, const char *name, uint32_t flags,
                                       struct mqb_error *error);
    const struct mqb_steps *steps; /* the lowered program, step by step: for targets whose artefact is code */
};

enum mqb_quantized_onnx {
    /* The default form: QuantizeLinear and DequantizeLinear around float operators, weights and biases as integers. Where an
     * activation does more than the range of the codes does by itself, a Clip of codes stands for it. */
    MQB_ONNX_QDQ = 0,
    /* Integer operators (QLinearConv, com.microsoft.QLinearAdd, ...) between one QuantizeLinear and the logits. */
    MQB_ONNX_QLINEAR = 1u << 0,
    /* QDQ for targets without a Clip of codes: activations stay float operators, and a range of codes narrower than the
     * byte is a Clip of reals before QuantizeLinear. */
    MQB_ONNX_REAL_CLAMPS = 1u << 1
};

/* A claim that another engine can check: run by it, the artefact gives the codes of the integer program. */
struct mqb_proof {
    uint32_t struct_size;
    uint32_t reserved;
    const char *name;     /* one word */
    const char *engine;   /* a script <home>/engines/ENGINE, which says whether the engine is there and runs artefacts on it */
    const char *argument; /* handed to the script; "" for none */
    const char *suffix;   /* of the artefact's name, after the model's: ".qdq.onnx" */
    const char *settings; /* options of the backend under which it holds: "profile=ort bits=7"; "" for any */
    const char *claim;    /* one line: what is equal */
};

struct mqb_backend {
    uint32_t struct_size;
    uint32_t num_options;
    const char *description; /* library and hardware, one line */
    const struct mqb_option_spec *options;

    /* Fills `rules` for these options. Rules may differ by option (profile, symmetry of weights). */
    mqb_status (*rules)(const struct mqb_host *host, const struct mqb_options *options, struct mqb_backend_rules *rules,
                        struct mqb_error *error);
    /* May refuse a frozen point that the target cannot carry, with a sentence that names the tensor and the reason.
     * Optional (everything is carried). */
    mqb_status (*judge)(const struct mqb_host *host, const struct mqb_options *options, const struct mqb_graph *graph,
                        mqb_value_id value, const struct mqb_qparams *qparams, struct mqb_error *error);
    /* Writes the artefacts of the target; refuses to leave a hole and names the missing tensor. Optional. */
    mqb_status (*export_files)(const struct mqb_host *host, const struct mqb_options *options, const struct mqb_export *request,
                               struct mqb_error *error);
    /* What `mqbench prove` runs. Optional. */
    const struct mqb_proof *proofs;
    uint32_t num_proofs;
    uint32_t reserved;
    /* The option whose choices are the models that bracket a closed library, for --bracket; they differ in their contracts
     * alone. Optional. */
    const char *bracket;
};

#ifdef __cplusplus
}
#endif
#endif
