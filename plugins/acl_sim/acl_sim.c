/*
 * acl_sim.c - Huawei's ACL on Ascend 310: convolutions and linear layers in integers, everything else in float (graph 1).
 *
 * A layer quantizes its input, q = sat(rint(x * (1 / s_d) + offset_d)), sums with an int32 bias, and hands over f(A) * (s_d
 * s_w): in IEEE half on older chips, in float32 on newer ones. The library is closed; the two bracket it. The hardware has no
 * offset of weights, so they are symmetric; the code of the paper (MQBench, NeurIPS 2021) had asymmetric ones, which is an
 * option.
 */
#include "record.h"

#include <mqbench/plugin.h>

#include <float.h>
#include <string.h>

static const struct mqb_option_spec acl_options[] = {
    {"intermediate", MQB_OPTION_CHOICE, 0, "fp16", 0, 0, "fp16|fp32",
     "what the layers hand over: halves (older chips) or floats"},
    {"weights", MQB_OPTION_CHOICE, 0, "symmetric", 0, 0, "symmetric|asymmetric",
     "asymmetric: the paper's code, which no chip runs"},
};

static const char *const acl_passes[] = {"bn_fold", "place_graph1", NULL};

static int is_option(const struct mqb_host *host, const struct mqb_options *options, const char *name, const char *value)
{
    return strcmp(host->option_text(options, name), value) == 0;
}

static mqb_status acl_rules(const struct mqb_host *host, const struct mqb_options *options, struct mqb_backend_rules *rules,
                            struct mqb_error *error)
{
    int halves = is_option(host, options, "intermediate", "fp16"), symmetric = is_option(host, options, "weights", "symmetric");
    (void)error;
    const struct mqb_backend_rules made = {
        .struct_size = sizeof(made),
        .deployable = 1,
        .reason = "",
        .weight = {.struct_size = sizeof(struct mqb_scheme),
                   .role = MQB_ROLE_WEIGHT,
                   .symmetric = (uint8_t)symmetric,
                   .per_channel = 1},
        .activation = {.struct_size = sizeof(struct mqb_scheme), .role = MQB_ROLE_ACTIVATION},
        .weight_signed = 1,
        .activation_signed = 1,
        .default_bn_fold = 4,
        .passes = acl_passes,
        .contract =
            {
                .struct_size = sizeof(struct mqb_contract),
                .fold = MQB_FOLD_F32_MUL_DIV,
                .multiplier = MQB_MULTIPLIER_F32,
                .rounding = MQB_ROUND_RNE,
                .zp_before = 1,
                .intermediate = halves ? MQB_INTERMEDIATE_F16 : MQB_INTERMEDIATE_F32,
                .accumulator = MQB_ACCUMULATOR_I32_WRAP,
                .bias_form = MQB_BIAS_I32,
                .bias_rounding = MQB_ROUND_RNE,
                .input_rounding = MQB_ROUND_RNE,
                .input_divide = 0,
                .add_rule = MQB_ADD_F32,
                .pool_rule = MQB_POOL_F32,
                .certainty = MQB_CERTAINTY_BRACKETED,
                .profile = halves ? "fp16" : "fp32",
            },
        .scope = MQB_SCOPE_CONV_AND_LINEAR,
        .linear_per_tensor = 1,
    };
    *rules = made;
    return MQB_OK;
}

/* What the record file can say. */
static mqb_status acl_judge(const struct mqb_host *host, const struct mqb_options *options, const struct mqb_graph *graph,
                            mqb_value_id value, const struct mqb_qparams *qparams, struct mqb_error *error)
{
    (void)options;
    const char *name = host->graph->value_name(graph, value);
    if (qparams->num_levels != 0)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\": ACL runs evenly spaced codes, not a table of %d levels",
                          name, (int)qparams->num_levels);
    if (qparams->qmin < -128 || qparams->qmax > 127)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\": codes [%d, %d] do not fit a signed byte", name,
                          (int)qparams->qmin, (int)qparams->qmax);
    for (int32_t c = 0; c < qparams->num_channels; c++) {
        float scale = qparams->scale[c];
        if (!(scale >= FLT_EPSILON && scale <= 1.0f / FLT_EPSILON))
            return host->fail(
                error, MQB_ERR_UNSUPPORTED,
                "tensor \"%s\", channel %d: scale %g lies outside [%g, %g], which a record can hold; the tensor is dead or "
                "has diverged",
                name, (int)c, (double)scale, (double)FLT_EPSILON, 1.0 / (double)FLT_EPSILON);
        if (qparams->zero_point[c] < -128 || qparams->zero_point[c] > 127)
            return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\", channel %d: offset %d does not fit a signed byte",
                              name, (int)c, (int)qparams->zero_point[c]);
    }
    return MQB_OK;
}

static mqb_status acl_export_files(const struct mqb_host *host, const struct mqb_options *options,
                                   const struct mqb_export *request, struct mqb_error *error)
{
    (void)options;
    return acl_record_export(host, request, error);
}

static const struct mqb_backend acl_backend = {
    .struct_size = sizeof(struct mqb_backend),
    .num_options = sizeof(acl_options) / sizeof(acl_options[0]),
    .description = "Huawei ACL, Ascend 310 (a model: the library is closed)",
    .options = acl_options,
    .rules = acl_rules,
    .judge = acl_judge,
    .export_files = acl_export_files,
    .bracket = "intermediate",
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_BACKEND_INTERFACE, "acl_sim", &acl_backend},
};

MQB_PLUGIN("acl_sim", "0.1.0", components);
