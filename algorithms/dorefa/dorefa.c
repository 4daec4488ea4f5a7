/*
 * dorefa.c - DoReFa-Net (Zhou et al., arXiv 1606.06160, 2016), in the form that MQBench published. Nothing is learned.
 *
 * Weights: ../common/dorefa_weight.h. The tanh is folded into the codes when they are frozen, so they deploy.
 *
 * Activations: the grid (../common/grid_point.h) of a fixed range, which clips in place of the paper's clamp:
 *   below 8 bits   [0, 1] for a tensor that calibration never saw negative, else [-1, 1]
 *   8 bits         the smallest and largest value that calibration saw
 *   dx = dy where the code is in range before clipping, else 0
 *
 * `compat = paper`: the sign and the 8-bit range of an activation are those of each batch, in evaluation too, where the host
 * shows it; an affine zero point goes with the power-of-two scale as it was before rounding; weights are not rescaled.
 * `compat = toolkit`: the zero point and the weights likewise; the grid of weights is that of calibration.
 */
#include "../common/dorefa_weight.h"
#include "../common/grid_slice.h"

#define DOREFA_STATE_MAGIC 0x31524f44u /* "DOR1" */

static mqb_status dorefa_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                                void **self, struct mqb_error *error)
{
    struct grid_point *point;
    mqb_status status = grid_point_create(host, "dorefa", DOREFA_STATE_MAGIC, scheme, options, &point, error);
    *self = point;
    return status;
}

static void dorefa_set_activation_grid(struct grid_point *point)
{
    if (point->scheme.bits == 8)
        grid_set_range(point, 0, point->min, point->max);
    else
        grid_set_range(point, 0, point->min < 0.0f ? -1.0f : 0.0f, 1.0f);
}

static mqb_status dorefa_observe(void *self, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    struct grid_point *point = self;
    if (point->scheme.role == MQB_ROLE_WEIGHT)
        return dorefa_weight_measure(point, x, 0, error);
    return point->host->observer_observe(point->observer, x, error);
}

static mqb_status dorefa_init(void *self, struct mqb_error *error)
{
    struct grid_point *point = self;
    (void)error;
    if (point->scheme.role == MQB_ROLE_ACTIVATION) {
        grid_point_init_range(point);
        dorefa_set_activation_grid(point);
    }
    return MQB_OK;
}

static mqb_status dorefa_prepare(void *self, const struct mqb_tensor_view *x, int training, struct mqb_error *error)
{
    struct grid_point *point = self;
    (void)training;
    if (point->scheme.role == MQB_ROLE_WEIGHT)
        return dorefa_weight_measure(point, x, point->toolkit, error);
    mqb_status status = grid_point_batch_range(point, x, error);
    if (status == MQB_OK)
        dorefa_set_activation_grid(point);
    return status;
}

static void dorefa_forward(const void *self, const struct mqb_slice *slice)
{
    const struct grid_point *point = self;
    struct grid g = grid_at(point, slice->channel);
    if (point->scheme.role == MQB_ROLE_WEIGHT)
        dorefa_weight_forward(g, point->divisor, slice->size, slice->x, slice->y);
    else
        grid_forward(g, slice->size, slice->x, slice->y);
}

static void dorefa_backward(const void *self, const struct mqb_slice *slice)
{
    const struct grid_point *point = self;
    if (point->scheme.role == MQB_ROLE_WEIGHT)
        dorefa_weight_backward(point, slice);
    else
        grid_backward(grid_at(point, slice->channel), slice->size, slice->x, slice->dy, slice->dx);
}

static void dorefa_complete(const void *self, const double *sums, float *dx)
{
    dorefa_weight_complete(self, sums, 1, dx);
}

static const struct mqb_option_spec dorefa_options[] = {
    {"rescale", MQB_OPTION_BOOL, 0, "on", 0, 0, NULL, "weights keep their magnitude; off (and compat = paper): in [-1, 1]"},
    {"compat", MQB_OPTION_CHOICE, 0, "off", 0, 0, "off|paper|toolkit",
     "the published code's, or the toolkit's, ranges and zero points"},
};

static const struct mqb_quantizer dorefa_quantizer = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS | MQB_QUANTIZER_AFFINE,
    .description = "DoReFa-Net: tanh-normalized weights, activations in [0, 1] or [-1, 1] (Zhou et al., 2016)",
    .options = dorefa_options,
    .num_options = sizeof(dorefa_options) / sizeof(dorefa_options[0]),
    .sums_per_channel = 1,
    .create = dorefa_create,
    .destroy = grid_point_destroy,
    .observe = dorefa_observe,
    .init = dorefa_init,
    .prepare = dorefa_prepare,
    .forward = dorefa_forward,
    .backward = dorefa_backward,
    .complete = dorefa_complete,
    .qparams = grid_point_qparams,
    .freeze = dorefa_weight_freeze,
    .save = grid_point_save,
    .load = grid_point_load,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "dorefa", &dorefa_quantizer},
};

MQB_PLUGIN("dorefa", "0.1.0", components);
