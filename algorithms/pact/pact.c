/*
 * pact.c - parameterized clipping of activations (PACT; Choi et al., arXiv 1805.06085, 2018), in the form that MQBench
 * published: weights are DoReFa's (../common/dorefa_weight.h), activations are clipped at learned bounds.
 *
 *   h = alpha       l = -alpha (symmetric) or the learned n_alpha (affine) for a tensor that calibration saw negative, else 0
 *   c = clip(x, l, h), at 0 only by the grid        y = grid(c) of the range [l, h] (../common/grid_point.h)
 *   dx       = dy where l <= x <= h and the code is in range before clipping, else 0
 *   dalpha   = sum of dy over x > h, less, if symmetric, that over x < l
 *   dn_alpha = sum of dy over x < l
 *
 * alpha > 0 > n_alpha: a sign that changes in an update is dropped. At 8 bits, the first and last layers, there are no
 * parameters: the range is what calibration saw.
 *
 * `compat = paper`: a clipped element adds to dalpha only if its code is in range, which in symmetric schemes is luck, because
 * alpha lies half a step above the highest level; sign and 8-bit range are those of each batch, in evaluation too, where the
 * host shows it; an affine zero point goes with the power-of-two scale as it was before rounding; the bounds decay with the
 * weights, which are not rescaled. `compat = toolkit`: the same, and bounds at 8 bits too; the grid of weights is that of
 * calibration. `freeze = on`: after calibration the bounds neither clip nor learn, and the grid stays.
 */
#include "../common/dorefa_weight.h"

#define PACT_STATE_MAGIC 0x31434150u /* "PAC1" */

enum { ALPHA = 0, N_ALPHA = 1 };
enum { SUM_ABOVE = 0, SUM_BELOW = 1, NUM_SUMS = 2 };

/* The clip, by value: no element is below `low` if it is -FLT_MAX. */
struct pact_clip {
    float low, high;
};

static mqb_status pact_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                              void **self, struct mqb_error *error)
{
    struct grid_point *point;
    mqb_status status = grid_point_create(host, "pact", PACT_STATE_MAGIC, scheme, options, &point, error);
    if (status == MQB_OK) {
        point->learned[ALPHA] = (float)host->option_real(options, "alpha");
        point->learned[N_ALPHA] = -point->learned[ALPHA];
        point->freeze = host->option_int(options, "freeze") != 0;
        point->each_batch = (point->paper || point->toolkit) && !point->freeze;
    }
    *self = point;
    return status;
}

static int pact_learns(const struct grid_point *point)
{
    return point->scheme.role == MQB_ROLE_ACTIVATION && (point->scheme.bits != 8 || point->toolkit);
}

static struct pact_clip pact_bounds_of(const struct grid_point *point)
{
    struct pact_clip clip = {-FLT_MAX, FLT_MAX};
    if (pact_learns(point)) {
        clip.high = point->learned[ALPHA];
        if (point->min < 0.0f)
            clip.low = point->scheme.symmetric ? -point->learned[ALPHA] : point->learned[N_ALPHA];
    }
    return clip;
}

/* What a step clips at. */
static struct pact_clip pact_clip_of(const struct grid_point *point)
{
    return point->freeze ? (struct pact_clip){-FLT_MAX, FLT_MAX} : pact_bounds_of(point);
}

static void pact_set_activation_grid(struct grid_point *point)
{
    struct pact_clip clip = pact_bounds_of(point);
    if (!pact_learns(point))
        grid_set_range(point, 0, point->min, point->max);
    else
        grid_set_range(point, 0, point->min < 0.0f ? clip.low : 0.0f, clip.high);
}

static mqb_status pact_observe(void *self, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    struct grid_point *point = self;
    if (point->scheme.role == MQB_ROLE_WEIGHT)
        return dorefa_weight_measure(point, x, 0, error);
    return point->host->observer_observe(point->observer, x, error);
}

static mqb_status pact_init(void *self, struct mqb_error *error)
{
    struct grid_point *point = self;
    (void)error;
    if (point->scheme.role == MQB_ROLE_ACTIVATION) {
        grid_point_init_range(point);
        pact_set_activation_grid(point);
    }
    return MQB_OK;
}

static mqb_status pact_prepare(void *self, const struct mqb_tensor_view *x, int training, struct mqb_error *error)
{
    struct grid_point *point = self;
    (void)training;
    if (point->scheme.role == MQB_ROLE_WEIGHT)
        return dorefa_weight_measure(point, x, point->toolkit, error);
    float alpha = fabsf(point->learned[ALPHA]), n_alpha = fabsf(point->learned[N_ALPHA]);
    if (!grid_finite(alpha) || !grid_finite(n_alpha))
        return point->host->fail(error, MQB_ERR_NUMERIC,
                                 "the learned clipping bound %s is not finite; a lower learning rate avoids it",
                                 grid_finite(alpha) ? "n_alpha" : "alpha");
    point->learned[ALPHA] = alpha < FLT_EPSILON ? FLT_EPSILON : alpha;
    point->learned[N_ALPHA] = n_alpha < FLT_EPSILON ? -FLT_EPSILON : -n_alpha;
    mqb_status status = grid_point_batch_range(point, x, error);
    if (status == MQB_OK && !point->freeze)
        pact_set_activation_grid(point);
    return status;
}

MQB_MULTIVERSION
static void activation_forward(struct grid g, struct pact_clip clip, int64_t size, const float *x, float *y)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++) {
        float c = x[i] > clip.high ? clip.high : x[i];
        c = c < clip.low ? clip.low : c;
        y[i] = (grid_clip(g, grid_code(g, c)) - g.z) * g.s;
    }
}

static inline __attribute__((always_inline)) void backward_block(struct grid g, struct pact_clip clip, const int masked,
                                                                 int count, const float *x, const float *dy, float *dx,
                                                                 float *above, float *below)
{
    MQB_LOOP_INDEPENDENT
    for (int i = 0; i < count; i++) {
        float v = x[i], gradient = dy[i];
        float c = v > clip.high ? clip.high : v;
        c = c < clip.low ? clip.low : c;
        float code = grid_code(g, c);
        float pass = code > g.p ? 0.0f : gradient;
        pass = code < g.n ? 0.0f : pass;
        float outside = masked ? pass : gradient;
        above[i] = v > clip.high ? outside : 0.0f;
        below[i] = v < clip.low ? outside : 0.0f;
        pass = v > clip.high ? 0.0f : pass;
        dx[i] = v < clip.low ? 0.0f : pass;
    }
}

MQB_MULTIVERSION
static void activation_backward(struct grid g, struct pact_clip clip, int masked, int64_t size, const float *x, const float *dy,
                                float *dx, double *sums)
{
    float above[LANES_BLOCK], below[LANES_BLOCK];
    double lanes_above[LANES_COUNT] = {0}, lanes_below[LANES_COUNT] = {0};
    int64_t k = 0;
    for (; k + LANES_BLOCK <= size; k += LANES_BLOCK) {
        backward_block(g, clip, masked, LANES_BLOCK, x + k, dy + k, dx + k, above, below);
        lanes_add(above, lanes_above);
        lanes_add(below, lanes_below);
    }
    if (k < size) {
        memset(above, 0, sizeof(above));
        memset(below, 0, sizeof(below));
        backward_block(g, clip, masked, (int)(size - k), x + k, dy + k, dx + k, above, below);
        lanes_add(above, lanes_above);
        lanes_add(below, lanes_below);
    }
    sums[SUM_ABOVE] += lanes_join(lanes_above);
    sums[SUM_BELOW] += lanes_join(lanes_below);
}

static void pact_forward(const void *self, const struct mqb_slice *slice)
{
    const struct grid_point *point = self;
    struct grid g = grid_at(point, slice->channel);
    if (point->scheme.role == MQB_ROLE_WEIGHT)
        dorefa_weight_forward(g, point->divisor, slice->size, slice->x, slice->y);
    else
        activation_forward(g, pact_clip_of(point), slice->size, slice->x, slice->y);
}

static void pact_backward(const void *self, const struct mqb_slice *slice)
{
    const struct grid_point *point = self;
    if (point->scheme.role == MQB_ROLE_WEIGHT)
        dorefa_weight_backward(point, slice);
    else
        activation_backward(grid_at(point, slice->channel), pact_clip_of(point), point->paper || point->toolkit, slice->size,
                            slice->x, slice->dy, slice->dx, slice->sums);
}

static void pact_reduce(void *self, const double *sums)
{
    struct grid_point *point = self;
    if (point->scheme.role == MQB_ROLE_WEIGHT)
        return;
    point->learned_grad[ALPHA] = (float)(point->scheme.symmetric ? sums[SUM_ABOVE] - sums[SUM_BELOW] : sums[SUM_ABOVE]);
    point->learned_grad[N_ALPHA] = (float)sums[SUM_BELOW];
}

static mqb_status pact_param(void *self, uint32_t index, struct mqb_param *param)
{
    struct grid_point *point = self;
    uint32_t num_params = !pact_learns(point) ? 0 : point->scheme.symmetric ? 1 : 2;
    if (index >= num_params)
        return MQB_ERR_NOT_FOUND;
    param->struct_size = sizeof(*param);
    param->num_elements = 1;
    param->name = index == ALPHA ? "alpha" : "n_alpha";
    param->value = &point->learned[index];
    param->grad = &point->learned_grad[index];
    param->lr_multiplier = 1.0f;
    param->weight_decay_multiplier = point->paper || point->toolkit ? 1.0f : 0.0f;
    return MQB_OK;
}

static void pact_complete(const void *self, const double *sums, float *dx)
{
    dorefa_weight_complete(self, sums, NUM_SUMS, dx);
}

static const struct mqb_option_spec pact_options[] = {
    {"alpha", MQB_OPTION_REAL, 0, "6", 1e-6, 1e6, NULL, "first clipping bound of activations; n_alpha starts at -alpha"},
    {"rescale", MQB_OPTION_BOOL, 0, "on", 0, 0, NULL, "weights keep their magnitude; off (and compat = paper): in [-1, 1]"},
    {"compat", MQB_OPTION_CHOICE, 0, "off", 0, 0, "off|paper|toolkit",
     "the published code's, or the toolkit's, gradients and ranges"},
    {"freeze", MQB_OPTION_BOOL, 0, "off", 0, 0, NULL,
     "the bounds are calibration's for good: they neither clip nor learn after it"},
};

static const struct mqb_quantizer pact_quantizer = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS | MQB_QUANTIZER_AFFINE,
    .description = "learned clipping of activations (PACT; Choi et al., 2018), weights as DoReFa",
    .options = pact_options,
    .num_options = sizeof(pact_options) / sizeof(pact_options[0]),
    .sums_per_channel = NUM_SUMS,
    .create = pact_create,
    .destroy = grid_point_destroy,
    .observe = pact_observe,
    .init = pact_init,
    .prepare = pact_prepare,
    .forward = pact_forward,
    .backward = pact_backward,
    .reduce = pact_reduce,
    .complete = pact_complete,
    .param = pact_param,
    .qparams = grid_point_qparams,
    .freeze = dorefa_weight_freeze,
    .save = grid_point_save,
    .load = grid_point_load,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "pact", &pact_quantizer},
};

MQB_PLUGIN("pact", "0.1.0", components);
