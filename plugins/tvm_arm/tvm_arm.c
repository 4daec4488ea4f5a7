/*
 * tvm_arm.c - TVM on ARM CPUs: signed bytes around zero with one power-of-two scale a tensor, weights and activations alike, so
 * that requantization is a shift (MQBench, table 1).
 *
 * The arithmetic is that of TVM's qnn dialect with multipliers that are powers of two, and it is exact:
 *   upward     qnn.requantize, rounding UPWARD (its default): add half, shift right, halves up
 *   tonearest  the same, rounding TONEAREST: halves away from zero
 *   floor      relay.quantize with round_for_shift off: a plain arithmetic shift
 * and that of its two ways of adding:
 *   sum        relay.quantize, the part of TVM that has power-of-two scales and shifts: both operands are brought to the
 *              finer scale of the two, which is exact, added, and rounded once. An ONNX file with QLinearAdd is imported as a
 *              real sum that is rounded once, too.
 *   each       qnn.add, which the importers of TFLite and PyTorch make: each operand is brought to the scale of the result, one
 *              rounding each, then added
 * Where scales are powers of two every second sum may lie halfway between two codes, so fake quantization, which otherwise
 * rounds to even, sends such values where the shift does (option ties).
 * Float inputs are rounded half away from zero (qnn.quantize); so are biases, which TVM takes as integers.
 */
#include "plan.h"

#include <mqbench/plugin.h>

#include <ctype.h>
#include <float.h>
#include <stdio.h>
#include <string.h>

static const struct mqb_option_spec tvm_options[] = {
    {"rounding", MQB_OPTION_CHOICE, 0, "upward", 0, 0, "upward|tonearest|floor",
     "of the right shift: halves up, halves away from zero, or down"},
    {"add", MQB_OPTION_CHOICE, 0, "sum", 0, 0, "sum|each",
     "sum: operands are added exactly and rounded once (relay.quantize); each: brought to the result's scale, one rounding "
     "each, then added (qnn.add)"},
    {"ties", MQB_OPTION_CHOICE, 0, "target", 0, 0, "target|even",
     "target: fake quantization sends a value halfway between two codes where the shift does (but for floor); even: to even"},
};

static const char *const tvm_passes[] = {"bn_fold", "place_graph3", NULL};

static enum tvm_rounding rounding_of(const struct mqb_host *host, const struct mqb_options *options)
{
    const char *text = host->option_text(options, "rounding");
    return strcmp(text, "tonearest") == 0 ? TVM_TONEAREST : strcmp(text, "floor") == 0 ? TVM_FLOOR : TVM_UPWARD;
}

static int adds_once(const struct mqb_host *host, const struct mqb_options *options)
{
    return strcmp(host->option_text(options, "add"), "sum") == 0;
}

static mqb_status tvm_rules(const struct mqb_host *host, const struct mqb_options *options, struct mqb_backend_rules *rules,
                            struct mqb_error *error)
{
    static const char *const profiles[][2] = {
        {"upward, each", "upward"}, {"tonearest, each", "tonearest"}, {"floor, each", "floor"}};
    static const int32_t roundings[] = {MQB_ROUND_RHU, MQB_ROUND_RHA, MQB_ROUND_FLOOR};
    enum tvm_rounding rounding = rounding_of(host, options);
    int sum = adds_once(host, options);
    (void)error;
    int target = rounding != TVM_FLOOR && strcmp(host->option_text(options, "ties"), "target") == 0;
    const struct mqb_backend_rules made = {
        .struct_size = sizeof(made),
        .deployable = 1,
        .reason = "",
        .weight = {.struct_size = sizeof(struct mqb_scheme), .role = MQB_ROLE_WEIGHT, .symmetric = 1, .pot_scale = 1},
        .activation = {.struct_size = sizeof(struct mqb_scheme),
                       .role = MQB_ROLE_ACTIVATION,
                       .symmetric = 1,
                       .pot_scale = 1,
                       .rounding = target ? roundings[rounding] : MQB_ROUND_RNE},
        .weight_signed = 1,
        .activation_signed = 1,
        .default_bn_fold = 4,
        .passes = tvm_passes,
        .contract =
            {
                .struct_size = sizeof(struct mqb_contract),
                .fold = MQB_FOLD_F64,
                .multiplier = MQB_MULTIPLIER_POT,
                .rounding = roundings[rounding],
                .zp_before = 0,
                .intermediate = MQB_INTERMEDIATE_NONE,
                .accumulator = MQB_ACCUMULATOR_I32_WRAP,
                .bias_form = MQB_BIAS_I32,
                .bias_rounding = MQB_ROUND_RHA,
                .input_rounding = MQB_ROUND_RHA,
                .input_divide = 1,
                .add_rule = sum ? MQB_ADD_RESCALE_SUM : MQB_ADD_RESCALE_EACH,
                .pool_rule = MQB_POOL_INTEGER,
                .certainty = MQB_CERTAINTY_EXACT,
                .profile = profiles[rounding][sum],
            },
        .scope = MQB_SCOPE_WHOLE_GRAPH,
    };
    *rules = made;
    return MQB_OK;
}

static mqb_status tvm_judge(const struct mqb_host *host, const struct mqb_options *options, const struct mqb_graph *graph,
                            mqb_value_id value, const struct mqb_qparams *qparams, struct mqb_error *error)
{
    const char *name = host->graph->value_name(graph, value);
    int32_t exponent;
    (void)options;
    if (qparams->num_levels != 0)
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "tensor \"%s\": tvm_arm runs evenly spaced codes, not a table of %d levels", name,
                          (int)qparams->num_levels);
    if (qparams->num_channels != 1)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\": tvm_arm has one scale a tensor, not %d", name,
                          (int)qparams->num_channels);
    float scale = qparams->scale[0];
    if (!(scale >= FLT_EPSILON && scale <= 1.0f / FLT_EPSILON))
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "tensor \"%s\": scale %g lies outside [%g, %g]; the tensor is dead or has diverged", name,
                          (double)scale, (double)FLT_EPSILON, 1.0 / (double)FLT_EPSILON);
    if (!tvm_exponent(scale, &exponent))
        return host->fail(
            error, MQB_ERR_UNSUPPORTED,
            "tensor \"%s\": scale %.9g is no power of two, so its codes cannot be shifted; use an algorithm that keeps "
            "scales at powers of two",
            name, (double)scale);
    if (qparams->qmin < -128 || qparams->qmax > 127)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\": codes [%d, %d] do not fit a signed byte", name,
                          (int)qparams->qmin, (int)qparams->qmax);
    if (qparams->zero_point[0] != 0)
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "tensor \"%s\": zero point %d; tvm_arm has symmetric codes, whose zero point is 0", name,
                          (int)qparams->zero_point[0]);
    return MQB_OK;
}

/* The model's name as C can use it. */
static void identifier(char *out, size_t size, const char *name)
{
    size_t i = 0;
    if (!isalpha((unsigned char)name[0]))
        i = (size_t)snprintf(out, size, "net_");
    for (; *name && i + 1 < size; name++)
        out[i++] = *name < 0x7f && isalnum((unsigned char)*name) ? *name : '_';
    out[i] = '\0';
}

/* The model's name as a file can have it, and an #include can say it. */
static void file_stem(char *out, size_t size, const char *name)
{
    size_t i = 0;
    for (; name[i] && i + 1 < size; i++)
        out[i] = (unsigned char)name[i] < 0x20 || strchr("\"\\/", name[i]) ? '_' : name[i];
    out[i] = '\0';
}

static mqb_status tvm_export_files(const struct mqb_host *host, const struct mqb_options *options,
                                   const struct mqb_export *request, struct mqb_error *error)
{
    struct tvm_plan plan;
    char name[64], stem[192];
    identifier(name, sizeof(name), request->model_name);
    file_stem(stem, sizeof(stem), request->model_name);
    mqb_status status = tvm_plan_create(host, request, rounding_of(host, options), adds_once(host, options), &plan, error);
    if (status != MQB_OK)
        return status;
    status = tvm_write_source(&plan, name, stem, error);
    if (status == MQB_OK)
        status = tvm_write_header(&plan, name, stem, error);
    if (status == MQB_OK)
        status = tvm_write_relay(&plan, stem, error);
    if (status == MQB_OK)
        host->log(MQB_LOG_NOTE,
                  "%s.c: flash %lld bytes (weights %lld, biases %lld, tables %lld) beside the code, RAM %lld bytes", name,
                  (long long)(plan.weight_bytes + plan.bias_bytes + plan.table_bytes), (long long)plan.weight_bytes,
                  (long long)plan.bias_bytes, (long long)plan.table_bytes, (long long)plan.scratch_bytes);
    tvm_plan_destroy(&plan);
    return status;
}

/* With the default options, and with the others on one engine. */
#define PROOF(name, engine, settings)                                                                                          \
    {                                                                                                                          \
        sizeof(struct mqb_proof), 0, name, engine, "", ".c", settings, "every code of every tensor, and the logits"            \
    }

static const struct mqb_proof tvm_proofs[] = {
    PROOF("gcc", "c99_gcc.sh", ""),
    PROOF("clang", "c99_clang.sh", ""),
    PROOF("aarch64", "c99_aarch64.sh", ""),
    PROOF("aarch64-each", "c99_aarch64.sh", "add=each"),
    PROOF("aarch64-tonearest", "c99_aarch64.sh", "rounding=tonearest"),
    PROOF("aarch64-floor", "c99_aarch64.sh", "rounding=floor"),
};

static const struct mqb_backend tvm_backend = {
    .struct_size = sizeof(struct mqb_backend),
    .num_options = sizeof(tvm_options) / sizeof(tvm_options[0]),
    .description = "TVM, ARM CPU: power-of-two scales, requantization by shifts, exported as C99",
    .options = tvm_options,
    .rules = tvm_rules,
    .judge = tvm_judge,
    .export_files = tvm_export_files,
    .proofs = tvm_proofs,
    .num_proofs = sizeof(tvm_proofs) / sizeof(tvm_proofs[0]),
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_BACKEND_INTERFACE, "tvm_arm", &tvm_backend},
};

MQB_PLUGIN("tvm_arm", "0.1.0", components);
