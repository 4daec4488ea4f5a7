/*
 * academic.c - the setting in which papers report: no hardware. Points in front of convolutions and linear layers alone (graph 1),
 * symmetric per-tensor codes that turn unsigned for tensors that are never negative, batch norm kept (MQBench, section 3.1 and
 * table 1, row "Academic"). What it finds cannot be deployed; that is the point of comparing it with the other backends.
 */
#include <mqbench/backend.h>
#include <mqbench/plugin.h>

static const char *const academic_passes[] = {"bn_fold", "place_graph1", NULL};

static mqb_status academic_rules(const struct mqb_host *host, const struct mqb_options *options, struct mqb_backend_rules *rules,
                                 struct mqb_error *error)
{
    (void)host, (void)options, (void)error;
    const struct mqb_backend_rules made = {
        .struct_size = sizeof(made),
        .deployable = 0,
        .reason = "the academic setting is no hardware: batch norm, additions and pooling stay in float",
        .weight = {.struct_size = sizeof(struct mqb_scheme), .role = MQB_ROLE_WEIGHT, .symmetric = 1},
        .activation = {.struct_size = sizeof(struct mqb_scheme), .role = MQB_ROLE_ACTIVATION, .symmetric = 1, .adaptive_sign = 1},
        .weight_signed = 1,
        .activation_signed = 1,
        .default_bn_fold = -1,
        .passes = academic_passes,
        .contract = {.struct_size = sizeof(struct mqb_contract), .profile = ""},
        .scope = MQB_SCOPE_CONV_AND_LINEAR,
    };
    *rules = made;
    return MQB_OK;
}

static const struct mqb_backend academic_backend = {
    .struct_size = sizeof(struct mqb_backend),
    .description = "the papers' setting: graph 1, batch norm kept; not deployable",
    .rules = academic_rules,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_BACKEND_INTERFACE, "academic", &academic_backend},
};

MQB_PLUGIN("academic", "0.1.0", components);
