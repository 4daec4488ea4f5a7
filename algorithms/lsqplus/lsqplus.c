/*
 * lsqplus.c - LSQ+ (Bhalgat et al., CVPR workshops 2020): activations of asymmetric schemes learn their offset beside their
 * step, and both start where the squared error is least. The arithmetic is that of ../common/step_point.h, where the offset is
 * a zero point, so that it can be deployed.
 *
 * Weights are symmetric: in a symmetric scheme without a zero point, in an asymmetric one with a zero point that stays at the
 * middle code. Their first step is max(|mean - 3 std|, |mean + 3 std|) / ((p - n) / 2).
 *
 * Under compat, weights of asymmetric schemes learn a zero point as activations do, and start as the published observers say.
 */
#include "../common/step_point.h"

#define LSQPLUS_STATE_MAGIC 0x2b51534cu /* "LSQ+" */

static mqb_status lsqplus_create(const struct mqb_host *host, const struct mqb_scheme *scheme,
                                 const struct mqb_options *options, void **self, struct mqb_error *error)
{
    int weight = scheme->role == MQB_ROLE_WEIGHT, centred = weight && step_compat_of(host, options) == STEP_COMPAT_OFF;
    const char *observer = host->option_text(options, weight ? "weight_init" : "act_init");
    struct step_point_config config = {
        .algorithm = "lsqplus",
        .magic = LSQPLUS_STATE_MAGIC,
        .centred = centred,
        .learn_zero_point = !centred,
        .lsqplus_start = strcmp(observer, "lsqplus") == 0,
    };
    struct step_point *point;
    mqb_status status = step_point_create(host, &config, observer, scheme, options, &point, error);
    *self = point;
    return status;
}

#define INIT_CHOICES "minmax|ema_minmax|lsq|lsqplus|mse|percentile|percentile_999|ema_quantile|clip_std"

static const struct mqb_option_spec lsqplus_options[] = {
    {"weight_init", MQB_OPTION_CHOICE, 0, "lsqplus", 0, 0, INIT_CHOICES,
     "first scale of weights; lsqplus: three standard deviations about the mean"},
    {"act_init", MQB_OPTION_CHOICE, 0, "mse", 0, 0, INIT_CHOICES, "first scale and zero point of activations"},
    {"gradient_scale", MQB_OPTION_BOOL, 0, "on", 0, 0, NULL, "scale parameter gradients by 1 / sqrt(elements * qmax)"},
    {"lr_multiplier", MQB_OPTION_REAL, 0, "1", 0, 1000, NULL, "learning rate of scale and zero point, times the network's"},
    {"compat", MQB_OPTION_CHOICE, 0, "off", 0, 0, STEP_COMPAT_CHOICES,
     "paper, toolkit: the published codes' starts, zero points, gradients and decay"},
};

static const struct mqb_quantizer lsqplus_quantizer = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS | MQB_QUANTIZER_AFFINE,
    .description = "learned step size and offset (LSQ+; Bhalgat et al., CVPR workshops 2020)",
    .options = lsqplus_options,
    .num_options = sizeof(lsqplus_options) / sizeof(lsqplus_options[0]),
    .create = lsqplus_create,
    STEP_POINT_CALLS,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "lsqplus", &lsqplus_quantizer},
};

MQB_PLUGIN("lsqplus", "0.1.0", components);
