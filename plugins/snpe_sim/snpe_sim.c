/*
 * snpe_sim.c - Qualcomm SNPE on a Hexagon DSP: asymmetric 8-bit codes from 0, one scale a tensor, for weights and activations.
 *
 * The library is closed. What is published is how it quantizes (round half away from zero, as in the AIMET toolkit); how its
 * 32-bit sums are rescaled is not. Two profiles bracket it: aimet  y = clamp(rha(A * M) + z_y), M in double: the arithmetic
 * that the toolkit simulates fx     a 31-bit fixed-point multiplier and one rounding shift (half up), as integer DSP kernels
 * commonly do
 */
#include "encodings.h"

#include <mqbench/plugin.h>

#include <float.h>
#include <string.h>

static const struct mqb_option_spec snpe_options[] = {
    {"profile", MQB_OPTION_CHOICE, 0, "aimet", 0, 0, "aimet|fx",
     "how sums are rescaled: double half away, or fixed point half up"},
};

static const char *const snpe_passes[] = {"bn_fold", "place_graph3", NULL};

static mqb_status snpe_rules(const struct mqb_host *host, const struct mqb_options *options, struct mqb_backend_rules *rules,
                             struct mqb_error *error)
{
    (void)error;
    int fx = strcmp(host->option_text(options, "profile"), "fx") == 0;
    const struct mqb_backend_rules made = {
        .struct_size = sizeof(made),
        .deployable = 1,
        .reason = "",
        .weight = {.struct_size = sizeof(struct mqb_scheme), .role = MQB_ROLE_WEIGHT},
        .activation = {.struct_size = sizeof(struct mqb_scheme), .role = MQB_ROLE_ACTIVATION},
        .default_bn_fold = 4,
        .passes = snpe_passes,
        .contract =
            {
                .struct_size = sizeof(struct mqb_contract),
                .fold = MQB_FOLD_F64,
                .multiplier = fx ? MQB_MULTIPLIER_Q31 : MQB_MULTIPLIER_F64,
                .rounding = fx ? MQB_ROUND_RHU : MQB_ROUND_RHA,
                .zp_before = 0,
                .intermediate = MQB_INTERMEDIATE_NONE,
                .accumulator = MQB_ACCUMULATOR_I32_WRAP,
                .bias_form = MQB_BIAS_I32,
                .bias_rounding = MQB_ROUND_RHA,
                .input_rounding = MQB_ROUND_RHA,
                .input_divide = 1,
                /* The toolkit adds real numbers and quantizes the sum once; a fixed-point kernel brings each operand to the
                 * output's scale first, because their scales differ and the sum must be an integer. */
                .add_rule = fx ? MQB_ADD_RESCALE_EACH : MQB_ADD_RESCALE_SUM,
                .pool_rule = MQB_POOL_INTEGER,
                .certainty = MQB_CERTAINTY_BRACKETED,
                .profile = fx ? "fx" : "aimet",
            },
        .scope = MQB_SCOPE_WHOLE_GRAPH,
    };
    *rules = made;
    return MQB_OK;
}

static mqb_status snpe_judge(const struct mqb_host *host, const struct mqb_options *options, const struct mqb_graph *graph,
                             mqb_value_id value, const struct mqb_qparams *qparams, struct mqb_error *error)
{
    (void)options;
    const char *name = host->graph->value_name(graph, value);
    if (qparams->num_levels != 0)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\": SNPE runs evenly spaced codes, not a table of %d levels",
                          name, (int)qparams->num_levels);
    if (qparams->num_channels != 1)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\": SNPE has one scale a tensor, not %d", name,
                          (int)qparams->num_channels);
    float scale = qparams->scale[0];
    if (!(scale >= FLT_EPSILON && scale <= 1.0f / FLT_EPSILON))
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "tensor \"%s\": scale %g lies outside [%g, %g]; the tensor is dead or has diverged", name,
                          (double)scale, (double)FLT_EPSILON, 1.0 / (double)FLT_EPSILON);
    if (qparams->qmin < 0 || qparams->qmax > 255)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\": codes [%d, %d] do not fit an unsigned byte", name,
                          (int)qparams->qmin, (int)qparams->qmax);
    if (qparams->zero_point[0] < qparams->qmin || qparams->zero_point[0] > qparams->qmax)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\": zero point %d lies outside the codes [%d, %d]", name,
                          (int)qparams->zero_point[0], (int)qparams->qmin, (int)qparams->qmax);
    return MQB_OK;
}

static mqb_status snpe_export_files(const struct mqb_host *host, const struct mqb_options *options,
                                    const struct mqb_export *request, struct mqb_error *error)
{
    (void)options;
    return snpe_encodings_export(host, request, error);
}

static const struct mqb_backend snpe_backend = {
    .struct_size = sizeof(struct mqb_backend),
    .num_options = sizeof(snpe_options) / sizeof(snpe_options[0]),
    .description = "Qualcomm SNPE, Hexagon DSP (a model: the library is closed)",
    .options = snpe_options,
    .rules = snpe_rules,
    .judge = snpe_judge,
    .export_files = snpe_export_files,
    .bracket = "profile",
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_BACKEND_INTERFACE, "snpe_sim", &snpe_backend},
};

MQB_PLUGIN("snpe_sim", "0.1.0", components);
