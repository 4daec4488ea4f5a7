/*
 * tensorrt_sim.c - NVIDIA TensorRT on a GPU: symmetric signed codes, one scale a channel for weights, one a tensor for
 * activations.
 *
 * The library is closed; this is a model of what its guide says. Codes are rne(x / s), cut to [-128, 127]. A convolution's
 * epilogue works in float32: y = f(A) * (s_x s_w / s_y) + b / s_y, rounded once. An addition behind a convolution is part of
 * the epilogue (graph 2). How ties are rounded depends on the kernel that is chosen, so the rule is an option and a result is
 * marked bracketed.
 */
#include "ranges.h"

#include <mqbench/plugin.h>

#include <float.h>
#include <math.h>
#include <string.h>

static const struct mqb_option_spec tensorrt_options[] = {
    {"full_range", MQB_OPTION_BOOL, 0, "no", 0, 0, NULL, "weights use the lowest code (-128), too"},
    {"ties", MQB_OPTION_CHOICE, 0, "rne", 0, 0, "rne|rha|rhu", "rounding of ties: to even, away from zero, up"},
    {"cache_version", MQB_OPTION_INT, 0, "8401", 1000, 999999, NULL,
     "version in the first line of the calibration cache; another version makes TensorRT discard the file"},
};

static const char *const tensorrt_passes[] = {"bn_fold", "place_graph2", NULL};

static mqb_status tensorrt_rules(const struct mqb_host *host, const struct mqb_options *options,
                                 struct mqb_backend_rules *rules, struct mqb_error *error)
{
    static const char *const profiles[] = {"ties-rne", "ties-rha", "ties-rhu"};
    static const int roundings[] = {MQB_ROUND_RNE, MQB_ROUND_RHA, MQB_ROUND_RHU};
    const char *ties = host->option_text(options, "ties");
    int choice = strcmp(ties, "rha") == 0 ? 1 : strcmp(ties, "rhu") == 0 ? 2 : 0;
    (void)error;
    const struct mqb_backend_rules made = {
        .struct_size = sizeof(made),
        .deployable = 1,
        .reason = "",
        .weight = {.struct_size = sizeof(struct mqb_scheme), .role = MQB_ROLE_WEIGHT, .symmetric = 1, .per_channel = 1},
        .activation = {.struct_size = sizeof(struct mqb_scheme), .role = MQB_ROLE_ACTIVATION, .symmetric = 1},
        .weight_signed = 1,
        .weight_narrow = (uint8_t)(host->option_int(options, "full_range") == 0),
        .activation_signed = 1,
        .default_bn_fold = 4,
        .passes = tensorrt_passes,
        .contract =
            {
                .struct_size = sizeof(struct mqb_contract),
                .fold = MQB_FOLD_F32_MUL_DIV,
                .multiplier = MQB_MULTIPLIER_F32,
                .rounding = roundings[choice],
                .intermediate = MQB_INTERMEDIATE_NONE,
                .accumulator = MQB_ACCUMULATOR_I32_WRAP,
                .bias_form = MQB_BIAS_F32,
                .bias_rounding = MQB_ROUND_RNE,
                .input_rounding = roundings[choice],
                .input_divide = 1,
                .add_rule = MQB_ADD_F32,
                .pool_rule = MQB_POOL_F32,
                .certainty = MQB_CERTAINTY_BRACKETED,
                .profile = profiles[choice],
            },
        .scope = MQB_SCOPE_WHOLE_GRAPH,
    };
    *rules = made;
    return MQB_OK;
}

/* A scale travels as a float32, and as the largest magnitude 127 s. */
static mqb_status tensorrt_judge(const struct mqb_host *host, const struct mqb_options *options, const struct mqb_graph *graph,
                                 mqb_value_id value, const struct mqb_qparams *qparams, struct mqb_error *error)
{
    (void)options;
    const char *name = host->graph->value_name(graph, value);
    if (qparams->num_levels != 0)
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "tensor \"%s\": TensorRT runs evenly spaced codes, not a table of %d levels", name,
                          (int)qparams->num_levels);
    if (qparams->qmin < -128 || qparams->qmax > 127)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\": codes [%d, %d] do not fit a signed byte", name,
                          (int)qparams->qmin, (int)qparams->qmax);
    for (int32_t c = 0; c < qparams->num_channels; c++) {
        float scale = qparams->scale[c];
        if (!(scale >= FLT_MIN) || !isfinite(127.0f * scale))
            return host->fail(error, MQB_ERR_UNSUPPORTED,
                              "tensor \"%s\", channel %d: scale %g lies outside [%g, %g]; the tensor is dead or has diverged",
                              name, (int)c, (double)scale, (double)FLT_MIN, (double)FLT_MAX / 127.0);
        if (qparams->zero_point[c] != 0)
            return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\", channel %d: zero point %d, but TensorRT has none",
                              name, (int)c, (int)qparams->zero_point[c]);
    }
    return MQB_OK;
}

static mqb_status tensorrt_export_files(const struct mqb_host *host, const struct mqb_options *options,
                                        const struct mqb_export *request, struct mqb_error *error)
{
    return tensorrt_ranges_export(host, request, host->option_int(options, "cache_version"), error);
}

static const struct mqb_backend tensorrt_backend = {
    .struct_size = sizeof(struct mqb_backend),
    .num_options = sizeof(tensorrt_options) / sizeof(tensorrt_options[0]),
    .description = "NVIDIA TensorRT, GPU (a model: the library is closed)",
    .options = tensorrt_options,
    .rules = tensorrt_rules,
    .judge = tensorrt_judge,
    .export_files = tensorrt_export_files,
    .bracket = "ties",
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_BACKEND_INTERFACE, "tensorrt_sim", &tensorrt_backend},
};

MQB_PLUGIN("tensorrt_sim", "0.1.0", components);
