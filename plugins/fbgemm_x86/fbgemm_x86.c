/*
 * fbgemm_x86.c - FBGEMM on x86 CPUs (PyTorch's x86 backend): unsigned activations, one signed weight scale a channel, sums
 * requantized by one float32 product.
 *
 * Two contracts with the same layers:
 *   fbgemm  y = clamp(rne(f32(A) * f32(s_x s_w / s_y)) + z_y); the input is multiplied by 1 / s; additions dequantize, add and
 *           quantize again, as PyTorch's quantized::add does
 *   ort     what ONNX Runtime computes for the exported files, operator by operator: the input is divided by s, an addition is
 *           two fused multiply-adds, a mean over a window is a float one, and there the zero point lies inside the rounding
 */
#include <mqbench/plugin.h>

#include <mqbench/backend.h>

#include <float.h>
#include <string.h>

static const struct mqb_option_spec fbgemm_options[] = {
    {"profile", MQB_OPTION_CHOICE, 0, "fbgemm", 0, 0, "fbgemm|ort", "arithmetic of FBGEMM, or of ONNX Runtime"},
    {"weights", MQB_OPTION_CHOICE, 0, "asymmetric", 0, 0, "asymmetric|symmetric",
     "zero points of weights: learned, as in the paper, or 0, as PyTorch ships them"},
    {"reduce_range", MQB_OPTION_BOOL, 0, "no", 0, 0, NULL,
     "activations of 7 bits at most, so that no pair of products saturates without VNNI"},
    {"vnni", MQB_OPTION_BOOL, 0, "yes", 0, 0, NULL, "the CPU has VNNI; without it pairs of products saturate to 16 bits"},
};

static const char *const fbgemm_passes[] = {"bn_fold", "place_graph3", NULL};

static mqb_status fbgemm_rules(const struct mqb_host *host, const struct mqb_options *options, struct mqb_backend_rules *rules,
                               struct mqb_error *error)
{
    (void)error;
    int ort = strcmp(host->option_text(options, "profile"), "ort") == 0;
    const struct mqb_backend_rules made = {
        .struct_size = sizeof(made),
        .deployable = 1,
        .reason = "",
        .weight = {.struct_size = sizeof(struct mqb_scheme),
                   .role = MQB_ROLE_WEIGHT,
                   .per_channel = 1,
                   .symmetric = strcmp(host->option_text(options, "weights"), "symmetric") == 0},
        .activation = {.struct_size = sizeof(struct mqb_scheme),
                       .role = MQB_ROLE_ACTIVATION,
                       .bits = host->option_int(options, "reduce_range") ? 7 : 0},
        .weight_signed = 1,
        .default_bn_fold = 4,
        .passes = fbgemm_passes,
        .contract =
            {
                .struct_size = sizeof(struct mqb_contract),
                .fold = MQB_FOLD_F32_MUL_DIV,
                .multiplier = MQB_MULTIPLIER_F32,
                .rounding = MQB_ROUND_RNE,
                .zp_before = 0,
                .intermediate = MQB_INTERMEDIATE_NONE,
                .accumulator = host->option_int(options, "vnni") ? MQB_ACCUMULATOR_I32_WRAP
                               : ort                             ? MQB_ACCUMULATOR_I16_PAIRS_ORT
                                                                 : MQB_ACCUMULATOR_I16_PAIRS,
                .bias_form = MQB_BIAS_I32,
                .bias_rounding = MQB_ROUND_RNE,
                .input_rounding = MQB_ROUND_RNE,
                .input_divide = ort,
                .add_rule = ort ? MQB_ADD_FMA : MQB_ADD_F32,
                .pool_rule = ort ? MQB_POOL_ORT : MQB_POOL_INTEGER,
                .certainty = MQB_CERTAINTY_EXACT,
                .profile = ort ? "ort" : "fbgemm",
            },
        .scope = MQB_SCOPE_WHOLE_GRAPH,
    };
    *rules = made;
    return MQB_OK;
}

static mqb_status judge_codes(const struct mqb_host *host, const char *name, const struct mqb_qparams *q, int32_t least,
                              int32_t most, struct mqb_error *error)
{
    if (q->qmin < least || q->qmax > most)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\": codes [%d, %d] do not fit a byte of [%d, %d]", name,
                          (int)q->qmin, (int)q->qmax, (int)least, (int)most);
    for (int32_t c = 0; c < q->num_channels; c++) {
        float scale = q->scale[c];
        if (!(scale >= FLT_MIN && scale <= 1.0f / FLT_MIN))
            return host->fail(error, MQB_ERR_UNSUPPORTED,
                              "tensor \"%s\", channel %d: scale %g lies outside [%g, %g]; the tensor is dead or has diverged",
                              name, (int)c, (double)scale, (double)FLT_MIN, 1.0 / (double)FLT_MIN);
        if (q->zero_point[c] < least || q->zero_point[c] > most)
            return host->fail(error, MQB_ERR_UNSUPPORTED,
                              "tensor \"%s\", channel %d: zero point %d does not fit a byte of [%d, %d]; all its values have "
                              "one sign, far from zero",
                              name, (int)c, (int)q->zero_point[c], (int)least, (int)most);
    }
    return MQB_OK;
}

static mqb_status fbgemm_judge(const struct mqb_host *host, const struct mqb_options *options, const struct mqb_graph *graph,
                               mqb_value_id value, const struct mqb_qparams *qparams, struct mqb_error *error)
{
    (void)options;
    const char *name = host->graph->value_name(graph, value);
    int kind = host->graph->value_kind(graph, value);
    int weight = kind == MQB_VALUE_PARAM || kind == MQB_VALUE_CONST;
    if (qparams->num_levels != 0)
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "tensor \"%s\": FBGEMM runs evenly spaced codes, not a table of %d levels", name,
                          (int)qparams->num_levels);
    if (!weight && qparams->num_channels != 1)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\": FBGEMM has one scale an activation, not %d", name,
                          (int)qparams->num_channels);
    return judge_codes(host, name, qparams, weight ? -128 : 0, weight ? 127 : 255, error);
}

/* model + suffix */
static mqb_status write_form(const struct mqb_host *host, const struct mqb_export *request, const char *suffix, uint32_t form,
                             struct mqb_error *error)
{
    size_t length = strlen(request->model_name), tail = strlen(suffix) + 1;
    char *name = host->allocate(length + tail);
    if (!name)
        return host->fail(error, MQB_ERR_MEMORY, "no memory for the name of a file");
    memcpy(name, request->model_name, length);
    memcpy(name + length, suffix, tail);
    mqb_status status = request->write_quantized_onnx(request, name, form, error);
    host->deallocate(name);
    return status;
}

static mqb_status fbgemm_export_files(const struct mqb_host *host, const struct mqb_options *options,
                                      const struct mqb_export *request, struct mqb_error *error)
{
    (void)options;
    mqb_status status = write_form(host, request, ".qdq.onnx", MQB_ONNX_QDQ, error);
    return status == MQB_OK ? write_form(host, request, ".qlinear.onnx", MQB_ONNX_QLINEAR, error) : status;
}

/* ONNX Runtime fuses a QDQ file at its highest level only; integer operators mean the same at each. */
#define ENGINE_PROOF(script, proof_name, level, file, options)                                                                 \
    {                                                                                                                          \
        .struct_size = sizeof(struct mqb_proof), .name = proof_name, .engine = script, .argument = level, .suffix = file,      \
        .settings = options, .claim = "every integer tensor and every label",                                                  \
    }
#define ORT_PROOF(proof_name, level, file, options) ENGINE_PROOF("onnxruntime.mjs", proof_name, level, file, options)

static const struct mqb_proof fbgemm_proofs[] = {
    ORT_PROOF("qlinear", "disabled", ".qlinear.onnx", "profile=ort"),
    ORT_PROOF("qlinear-fused", "all", ".qlinear.onnx", "profile=ort"),
    ORT_PROOF("qdq", "all", ".qdq.onnx", "profile=ort"),
    ORT_PROOF("qlinear-symmetric", "disabled", ".qlinear.onnx", "profile=ort weights=symmetric"),
    ORT_PROOF("qdq-symmetric", "all", ".qdq.onnx", "profile=ort weights=symmetric"),
    ORT_PROOF("qlinear-reduced", "disabled", ".qlinear.onnx", "profile=ort reduce_range=yes"),
    ORT_PROOF("qdq-reduced", "all", ".qdq.onnx", "profile=ort reduce_range=yes"),
    ENGINE_PROOF("onnxruntime_haswell.sh", "qlinear-pairs", "disabled", ".qlinear.onnx", "profile=ort vnni=no"),
};

static const struct mqb_backend fbgemm_backend = {
    .struct_size = sizeof(struct mqb_backend),
    .num_options = sizeof(fbgemm_options) / sizeof(fbgemm_options[0]),
    .description = "FBGEMM, x86 CPU (and ONNX Runtime's arithmetic on it)",
    .options = fbgemm_options,
    .rules = fbgemm_rules,
    .judge = fbgemm_judge,
    .export_files = fbgemm_export_files,
    .proofs = fbgemm_proofs,
    .num_proofs = sizeof(fbgemm_proofs) / sizeof(fbgemm_proofs[0]),
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_BACKEND_INTERFACE, "fbgemm_x86", &fbgemm_backend},
};

MQB_PLUGIN("fbgemm_x86", "0.1.0", components);
