/*
 * lsq.c - learned step size quantization (Esser et al., ICLR 2020), with a learnable zero point for asymmetric schemes. The
 * arithmetic is that of ../common/step_point.h; here is how it starts.
 */
#include "../common/step_point.h"

#define LSQ_STATE_MAGIC 0x3151534cu /* "LSQ1" */

static const char *lsq_observer_name(const struct mqb_host *host, const struct mqb_options *options,
                                     const struct mqb_scheme *scheme)
{
    const char *name = host->option_text(options, scheme->role == MQB_ROLE_WEIGHT ? "weight_init" : "act_init");
    if (strcmp(name, "auto") != 0)
        return name;
    /* At few bits most of the error is rounding, and a range cut to the least squared error starts closer to what is learnt. */
    return scheme->bits >= 7 ? "minmax" : "mse";
}

static mqb_status lsq_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                             void **self, struct mqb_error *error)
{
    struct step_point_config config = {
        .algorithm = "lsq",
        .magic = LSQ_STATE_MAGIC,
        .learn_zero_point = host->option_int(options, "learn_zero_point") != 0,
    };
    struct step_point *point;
    mqb_status status =
        step_point_create(host, &config, lsq_observer_name(host, options, scheme), scheme, options, &point, error);
    *self = point;
    return status;
}

#define INIT_CHOICES "auto|minmax|ema_minmax|lsq|lsqplus|mse|percentile|percentile_999|ema_quantile|clip_std"

static const struct mqb_option_spec lsq_options[] = {
    {"weight_init", MQB_OPTION_CHOICE, 0, "auto", 0, 0, INIT_CHOICES,
     "first scale of weights; auto: minmax from 7 bits, else mse"},
    {"act_init", MQB_OPTION_CHOICE, 0, "auto", 0, 0, INIT_CHOICES,
     "first scale of activations; auto: minmax from 7 bits, else mse"},
    {"gradient_scale", MQB_OPTION_BOOL, 0, "on", 0, 0, NULL, "scale parameter gradients by 1 / sqrt(elements * qmax)"},
    {"learn_zero_point", MQB_OPTION_BOOL, 0, "on", 0, 0, NULL, "learn the zero point of asymmetric schemes"},
    {"lr_multiplier", MQB_OPTION_REAL, 0, "1", 0, 1000, NULL, "learning rate of scale and zero point, times the network's"},
    {"compat", MQB_OPTION_CHOICE, 0, "off", 0, 0, STEP_COMPAT_CHOICES,
     "paper, toolkit: the published codes' zero points, gradients and decay"},
};

static const struct mqb_quantizer lsq_quantizer = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS | MQB_QUANTIZER_AFFINE,
    .description = "learned step size, with learnable zero point (Esser et al., ICLR 2020)",
    .options = lsq_options,
    .num_options = sizeof(lsq_options) / sizeof(lsq_options[0]),
    .create = lsq_create,
    STEP_POINT_CALLS,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "lsq", &lsq_quantizer},
};

MQB_PLUGIN("lsq", "0.1.0", components);
