/*
 * apot.c - additive powers of two (APoT; Li et al., ICLR 2020), in the form that MQBench published: levels that are sums of
 * powers of two (levels.h), a learned clipping bound alpha, weights normalized by their own mean and deviation.
 *
 *   u = (w - mean) / (std + 1e-5) of a weight, x of an activation       d = u / alpha
 *   L = sign(d) nearest(clip(|d|, 0, 1))     or, of an activation that calibration never saw negative, nearest(clip(d, 0, 1))
 *   y = scale L + offset    scale = alpha (std + 1e-5), offset = mean of a weight; alpha and 0 of an activation, or without
 *                           rescaling
 * A tie goes to the lower level. Signed levels spend one bit on the sign: {-1, 0, 1} at 2 bits.
 *
 * The rounding is passed straight through; m = [d was not clipped], D = std + 1e-5, n elements:
 *   dalpha = sum dy (L - m d), times D with rescaling
 *   dx = m dy                                                                                 activations
 *   dw = m dy + sum((1 - m) dy) / n + alpha sum(dy (L - m d)) u D / ((n - 1) std)             weights
 *   dw = (m dy - sum(m dy) / n) / D - sum(m dy u) u / ((n - 1) std)                           weights without rescaling
 * The terms with sums are complete only after all slices, so complete() adds them; where std = 0 the last is dropped.
 *
 * At 8 bits, the first and last layers, a uniform grid over the range that calibration saw (../common/whole_tensor.h).
 *
 * Without rescaling weights lose mean and magnitude. A batch norm behind the layer undoes only the latter, and only once its
 * running statistics have followed; with it a calibrated network computes what it did before.
 *
 * `compat = paper`: no rescaling; ties go where the published code's go; alpha decays with the weights; see also
 * whole_tensor.h.
 */
#include "../common/lanes.h"
#include "../common/whole_tensor.h"
#include "levels.h"

#define APOT_STATE_MAGIC 0x31505041u /* "APP1" */
#define APOT_LEAST_ALPHA 1e-5f
#define APOT_DEVIATION 1e-5f          /* added to the standard deviation */
#define APOT_LARGEST (FLT_MAX / 4.0f) /* no scale is larger, so that no output is infinite */

enum { ALPHA = 0 };
enum { SUM_ALPHA = 0, SUM_PASSED = 1, SUM_ALL = 2, SUM_NORMAL = 3, NUM_SUMS = 4 };

/* What the loops need, by value. */
struct apot_grid {
    float mean, deviation;            /* u = (x - mean) / deviation; deviation = std + 1e-5 */
    float alpha, scale, offset, pass; /* pass: dx = pass dy inside */
    const struct levels *levels;
};

struct apot {
    struct whole_tensor whole;
    struct levels levels;
    struct apot_grid grid;
    float std; /* of the weights */
    int64_t numel;
    float *normal; /* u of the whole weight, for complete() */
    int64_t capacity;
    int32_t num_codes; /* what qparams() hands out: codes from -(levels - 1) or from 0 */
    float table[2 * LEVELS_MAX];
    float *ones; /* a scale a channel */
};

/* Behind the grid's in the saved state. */
struct apot_tail {
    int64_t numel;
    float mean, std;
    int32_t nonnegative;
    uint32_t reserved;
};

static void apot_destroy(void *self)
{
    struct apot *q = self;
    if (!q)
        return;
    const struct mqb_host *host = q->whole.point->host;
    host->deallocate(q->normal);
    host->deallocate(q->ones);
    grid_point_destroy(q->whole.point);
    host->deallocate(q);
}

static int apot_is_weight(const struct apot *q)
{
    return q->whole.point->scheme.role == MQB_ROLE_WEIGHT;
}

/* Levels of the sign at hand. */
static void apot_make_levels(struct apot *q)
{
    const struct grid_point *point = q->whole.point;
    if (point->scheme.bits != 8)
        levels_make(&q->levels, q->whole.nonnegative ? point->scheme.bits : point->scheme.bits - 1, point->paper);
    q->grid.levels = &q->levels;
}

/* Scale, offset and the table of outputs, from alpha and the weights' statistics as they stand. */
static void apot_refresh(struct apot *q)
{
    struct grid_point *point = q->whole.point;
    struct apot_grid *g = &q->grid;
    if (point->scheme.bits == 8)
        return;
    int rescale = apot_is_weight(q) && point->rescale;
    float alpha = fabsf(point->learned[ALPHA]);
    g->alpha = alpha < APOT_LEAST_ALPHA ? APOT_LEAST_ALPHA : alpha;
    g->deviation = apot_is_weight(q) ? q->std + APOT_DEVIATION : 1.0f;
    g->scale = rescale ? g->alpha * g->deviation : g->alpha;
    g->scale = g->scale < APOT_LARGEST ? g->scale : APOT_LARGEST;
    g->offset = rescale ? g->mean : 0.0f;
    g->pass = apot_is_weight(q) && !rescale ? 1.0f / g->deviation : 1.0f;
    int32_t top = q->levels.count - 1, lowest = q->whole.nonnegative ? 0 : -top;
    q->num_codes = top - lowest + 1;
    for (int32_t code = lowest; code <= top; code++) {
        float level = code < 0 ? -q->levels.value[-code] : q->levels.value[code];
        q->table[code - lowest] = level * g->scale + g->offset;
    }
}

static mqb_status apot_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                              void **self, struct mqb_error *error)
{
    *self = NULL;
    struct whole_tensor whole = {0};
    mqb_status status = whole_tensor_create(&whole, host, "apot", APOT_STATE_MAGIC, scheme, options, error);
    if (status != MQB_OK)
        return status;
    struct apot *q = host->allocate(sizeof(*q));
    if (!q) {
        grid_point_destroy(whole.point);
        return host->fail(error, MQB_ERR_MEMORY, "apot: no memory for an instance");
    }
    q->whole = whole;
    whole.point->learned[ALPHA] = (float)host->option_real(options, apot_is_weight(q) ? "weight_alpha" : "act_alpha");
    q->ones = host->allocate((size_t)scheme->num_channels * sizeof(float));
    if (!q->ones) {
        apot_destroy(q);
        return host->fail(error, MQB_ERR_MEMORY, "apot: no memory for %d scales", (int)scheme->num_channels);
    }
    apot_make_levels(q);
    for (int32_t c = 0; c < scheme->num_channels; c++)
        q->ones[c] = 1.0f;
    apot_refresh(q);
    *self = q;
    return MQB_OK;
}

static mqb_status apot_observe(void *self, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    struct apot *q = self;
    return whole_tensor_observe(&q->whole, x, error);
}

static mqb_status apot_init(void *self, struct mqb_error *error)
{
    struct apot *q = self;
    mqb_status status = whole_tensor_init(&q->whole, error);
    if (status != MQB_OK)
        return status;
    apot_make_levels(q);
    apot_refresh(q);
    return MQB_OK;
}

/* sum (x - mean)^power in double, in lanes over the index, joined in one order. */
static double moment(const float *x, int64_t size, double mean, int power)
{
    double lanes[LANES_COUNT] = {0};
    int64_t k = 0;
    for (; k + LANES_COUNT <= size; k += LANES_COUNT) {
        for (int i = 0; i < LANES_COUNT; i++) {
            double v = (double)x[k + i] - mean;
            lanes[i] += power == 2 ? v * v : v;
        }
    }
    for (int i = 0; k + i < size; i++) {
        double v = (double)x[k + i] - mean;
        lanes[i] += power == 2 ? v * v : v;
    }
    return lanes_join(lanes);
}

static inline float normalize(struct apot_grid g, float x)
{
    return (x - g.mean) / g.deviation;
}

/* u of all weights, for complete(). */
static mqb_status apot_keep_normal(struct apot *q, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    const struct mqb_host *host = q->whole.point->host;
    if (x->num_elements > q->capacity) {
        host->deallocate(q->normal);
        q->capacity = 0;
        q->normal = host->allocate((size_t)x->num_elements * sizeof(float));
        if (!q->normal)
            return host->fail(error, MQB_ERR_MEMORY, "apot: no memory for %lld normalized weights", (long long)x->num_elements);
        q->capacity = x->num_elements;
    }
    for (int64_t i = 0; i < x->num_elements; i++) {
        float u = normalize(q->grid, x->data[i]);
        u = u > FLT_MAX ? FLT_MAX : u; /* a difference of two huge numbers */
        q->normal[i] = u < -FLT_MAX ? -FLT_MAX : u;
    }
    return MQB_OK;
}

static mqb_status apot_prepare(void *self, const struct mqb_tensor_view *x, int training, struct mqb_error *error)
{
    struct apot *q = self;
    struct grid_point *point = q->whole.point;
    if (point->scheme.bits == 8)
        return MQB_OK;
    float alpha = fabsf(point->learned[ALPHA]);
    if (!grid_finite(alpha))
        return point->host->fail(error, MQB_ERR_NUMERIC,
                                 "the learned clipping bound alpha is not finite; a lower learning rate avoids it");
    point->learned[ALPHA] = alpha < APOT_LEAST_ALPHA ? APOT_LEAST_ALPHA : alpha;
    q->numel = x->num_elements;
    if (!apot_is_weight(q)) {
        apot_refresh(q);
        return MQB_OK;
    }
    mqb_status status = whole_tensor_measure(point, x, error);
    if (status != MQB_OK)
        return status;
    double mean = moment(x->data, x->num_elements, 0.0, 1) / (double)x->num_elements;
    double square = point->min == point->max ? 0.0 : moment(x->data, x->num_elements, mean, 2);
    q->grid.mean = point->min == point->max ? point->min : (float)mean;
    q->std = square > 0.0 ? (float)sqrt(square / (double)(x->num_elements - 1)) : 0.0f;
    apot_refresh(q);
    return training ? apot_keep_normal(q, x, error) : MQB_OK;
}

/* d before it is clipped. */
static inline __attribute__((always_inline)) float apot_ratio(struct apot_grid g, const int is_weight, float x)
{
    return (is_weight ? normalize(g, x) : x) / g.alpha;
}

/* L of d; NaN stays. */
static inline __attribute__((always_inline)) float apot_level(struct apot_grid g, const int is_signed, float d)
{
    float m = is_signed ? fabsf(d) : d;
    float level = levels_nearest(g.levels, m < 0.0f ? 0.0f : m);
    if (is_signed)
        level = d < 0.0f ? -level : level;
    return d == d ? level : d;
}

static inline __attribute__((always_inline)) void forward_slice(struct apot_grid g, const int is_weight, const int is_signed,
                                                                int64_t size, const float *x, float *y)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++)
        y[i] = apot_level(g, is_signed, apot_ratio(g, is_weight, x[i])) * g.scale + g.offset;
}

MQB_MULTIVERSION
static void forward_weight(struct apot_grid g, int64_t size, const float *x, float *y)
{
    forward_slice(g, 1, 1, size, x, y);
}

MQB_MULTIVERSION
static void forward_signed(struct apot_grid g, int64_t size, const float *x, float *y)
{
    forward_slice(g, 0, 1, size, x, y);
}

MQB_MULTIVERSION
static void forward_unsigned(struct apot_grid g, int64_t size, const float *x, float *y)
{
    forward_slice(g, 0, 0, size, x, y);
}

static void apot_forward(const void *self, const struct mqb_slice *slice)
{
    const struct apot *q = self;
    if (q->whole.point->scheme.bits == 8)
        grid_forward(grid_at(q->whole.point, 0), slice->size, slice->x, slice->y);
    else
        (apot_is_weight(q)      ? forward_weight
         : q->whole.nonnegative ? forward_unsigned
                                : forward_signed)(q->grid, slice->size, slice->x, slice->y);
}

/* What the elements of a block add to the sums. */
struct apot_terms {
    float of[NUM_SUMS][LANES_BLOCK];
};

static inline __attribute__((always_inline)) void backward_block(struct apot_grid g, const int is_weight, const int is_signed,
                                                                 int count, const float *x, const float *dy, float *dx,
                                                                 struct apot_terms *terms)
{
    const float low = is_signed ? -1.0f : 0.0f;
    MQB_LOOP_INDEPENDENT
    for (int i = 0; i < count; i++) {
        float v = dy[i], d = apot_ratio(g, is_weight, x[i]);
        float pass = d > 1.0f ? 0.0f : v, inside = d > 1.0f ? 0.0f : d;
        pass = d < low ? 0.0f : pass;
        inside = d < low ? 0.0f : inside;
        terms->of[SUM_ALPHA][i] = v * (apot_level(g, is_signed, d) - inside);
        if (is_weight) {
            terms->of[SUM_PASSED][i] = pass;
            terms->of[SUM_ALL][i] = v;
            terms->of[SUM_NORMAL][i] = pass * inside;
        }
        dx[i] = pass * g.pass;
    }
}

static inline __attribute__((always_inline)) void backward_slice(struct apot_grid g, const int is_weight, const int is_signed,
                                                                 const struct mqb_slice *slice)
{
    const int num_sums = is_weight ? NUM_SUMS : 1;
    struct apot_terms terms;
    double lanes[NUM_SUMS][LANES_COUNT] = {{0}};
    int64_t k = 0, size = slice->size;
    for (; k + LANES_BLOCK <= size; k += LANES_BLOCK) {
        backward_block(g, is_weight, is_signed, LANES_BLOCK, slice->x + k, slice->dy + k, slice->dx + k, &terms);
        for (int j = 0; j < num_sums; j++)
            lanes_add(terms.of[j], lanes[j]);
    }
    if (k < size) {
        memset(&terms, 0, sizeof(terms));
        backward_block(g, is_weight, is_signed, (int)(size - k), slice->x + k, slice->dy + k, slice->dx + k, &terms);
        for (int j = 0; j < num_sums; j++)
            lanes_add(terms.of[j], lanes[j]);
    }
    for (int j = 0; j < num_sums; j++)
        slice->sums[j] += lanes_join(lanes[j]);
}

MQB_MULTIVERSION
static void backward_weight(struct apot_grid g, const struct mqb_slice *slice)
{
    backward_slice(g, 1, 1, slice);
}

MQB_MULTIVERSION
static void backward_signed(struct apot_grid g, const struct mqb_slice *slice)
{
    backward_slice(g, 0, 1, slice);
}

MQB_MULTIVERSION
static void backward_unsigned(struct apot_grid g, const struct mqb_slice *slice)
{
    backward_slice(g, 0, 0, slice);
}

static void apot_backward(const void *self, const struct mqb_slice *slice)
{
    const struct apot *q = self;
    if (q->whole.point->scheme.bits == 8)
        grid_backward(grid_at(q->whole.point, 0), slice->size, slice->x, slice->dy, slice->dx);
    else
        (apot_is_weight(q) ? backward_weight : q->whole.nonnegative ? backward_unsigned : backward_signed)(q->grid, slice);
}

static double total_of(const struct apot *q, const double *sums, int which)
{
    double total = 0.0;
    for (int32_t c = 0; c < q->whole.point->scheme.num_channels; c++)
        total += sums[c * NUM_SUMS + which];
    return total;
}

static void apot_reduce(void *self, const double *sums)
{
    struct apot *q = self;
    struct grid_point *point = q->whole.point;
    if (point->scheme.bits == 8)
        return;
    double factor = apot_is_weight(q) && point->rescale ? (double)q->grid.deviation : 1.0;
    point->learned_grad[ALPHA] = (float)(factor * total_of(q, sums, SUM_ALPHA));
}

/* The gradient through mean and deviation. */
static void apot_complete(const void *self, const double *sums, float *dx)
{
    const struct apot *q = self;
    const struct grid_point *point = q->whole.point;
    if (point->scheme.bits == 8 || !q->normal)
        return;
    double n = (double)q->numel, alpha = (double)q->grid.alpha, deviation = (double)q->grid.deviation;
    double passed = total_of(q, sums, SUM_PASSED), through_mean, through_std = 0.0;
    if (point->rescale)
        through_mean = (total_of(q, sums, SUM_ALL) - passed) / n;
    else
        through_mean = -passed / (n * deviation);
    if (q->std > 0.0f) {
        double degrees = (n - 1.0) * (double)q->std;
        through_std = point->rescale ? alpha * total_of(q, sums, SUM_ALPHA) * deviation / degrees
                                     : -alpha * total_of(q, sums, SUM_NORMAL) / degrees;
    }
    for (int64_t i = 0; i < q->numel; i++)
        dx[i] += (float)(through_mean + through_std * (double)q->normal[i]);
}

static mqb_status apot_param(void *self, uint32_t index, struct mqb_param *param)
{
    struct apot *q = self;
    struct grid_point *point = q->whole.point;
    if (index > 0 || point->scheme.bits == 8)
        return MQB_ERR_NOT_FOUND;
    param->struct_size = sizeof(*param);
    param->num_elements = 1;
    param->name = "alpha";
    param->value = &point->learned[ALPHA];
    param->grad = &point->learned_grad[ALPHA];
    param->lr_multiplier = 1.0f;
    param->weight_decay_multiplier = point->paper ? 1.0f : 0.0f;
    return MQB_OK;
}

/* Below 8 bits a table of outputs, at scale 1. */
static mqb_status apot_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    const struct apot *q = self;
    mqb_status status = grid_point_qparams(q->whole.point, qparams, error);
    if (q->whole.point->scheme.bits == 8)
        return status;
    qparams->scale = q->ones;
    qparams->qmax = q->levels.count - 1;
    qparams->qmin = qparams->qmax - q->num_codes + 1;
    qparams->num_levels = q->num_codes;
    qparams->levels = q->table;
    return status;
}

static mqb_status apot_freeze(const void *self, const struct mqb_tensor_view *x, int32_t *codes, struct mqb_error *error)
{
    const struct apot *q = self;
    const struct grid_point *point = q->whole.point;
    mqb_status status = whole_tensor_check_freeze(point, x, error);
    if (status != MQB_OK)
        return status;
    for (int64_t i = 0; i < x->num_elements; i++) {
        if (point->scheme.bits == 8) {
            codes[i] = grid_clipped_code(grid_at(point, 0), x->data[i]);
            continue;
        }
        float d = apot_ratio(q->grid, 1, x->data[i]);
        int32_t index = levels_index(&q->levels, fabsf(apot_level(q->grid, 1, d)));
        codes[i] = d < 0.0f ? -index : index;
    }
    return MQB_OK;
}

static mqb_status apot_save(const void *self, void *buffer, size_t *size, struct mqb_error *error)
{
    const struct apot *q = self;
    struct apot_tail tail = {q->numel, q->grid.mean, q->std, q->whole.nonnegative, 0};
    return whole_tensor_save(q->whole.point, &tail, sizeof(tail), buffer, size, error);
}

static mqb_status apot_load(void *self, const void *buffer, size_t size, struct mqb_error *error)
{
    struct apot *q = self;
    struct grid_point *point = q->whole.point;
    struct apot_tail tail;
    mqb_status status = whole_tensor_load_tail(point, buffer, size, &tail, sizeof(tail), error);
    if (status != MQB_OK)
        return status;
    if (tail.numel < 0 || (tail.nonnegative != 0 && tail.nonnegative != 1) || !grid_finite(tail.mean) ||
        !grid_finite(tail.std) || tail.std < 0.0f)
        return whole_tensor_damaged(point, error);
    status = grid_point_load(point, buffer, size - sizeof(tail), error);
    if (status != MQB_OK)
        return status;
    q->numel = tail.numel;
    q->grid.mean = tail.mean;
    q->std = tail.std;
    q->whole.nonnegative = tail.nonnegative;
    apot_make_levels(q);
    apot_refresh(q);
    return MQB_OK;
}

static const struct mqb_option_spec apot_options[] = {
    {"weight_alpha", MQB_OPTION_REAL, 0, "3", 1e-5, 1e6, NULL, "first clipping bound of weights, in standard deviations"},
    {"act_alpha", MQB_OPTION_REAL, 0, "6", 1e-5, 1e6, NULL, "first clipping bound of activations"},
    {"rescale", MQB_OPTION_BOOL, 0, "on", 0, 0, NULL, "weights keep mean and magnitude; off (and compat = paper): normalized"},
    {"compat", MQB_OPTION_CHOICE, 0, "off", 0, 0, "off|paper", "paper: the published code's ties, 8-bit ranges and decay"},
};

static const struct mqb_quantizer apot_quantizer = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS,
    .description = "additive powers of two with a learned clipping bound (APoT; Li et al., 2020)",
    .options = apot_options,
    .num_options = sizeof(apot_options) / sizeof(apot_options[0]),
    .sums_per_channel = NUM_SUMS,
    .create = apot_create,
    .destroy = apot_destroy,
    .observe = apot_observe,
    .init = apot_init,
    .prepare = apot_prepare,
    .forward = apot_forward,
    .backward = apot_backward,
    .reduce = apot_reduce,
    .complete = apot_complete,
    .param = apot_param,
    .qparams = apot_qparams,
    .freeze = apot_freeze,
    .save = apot_save,
    .load = apot_load,
    .undeployable =
        {"its levels are sums of powers of two, not evenly spaced, and its weights are normalized by their own mean and "
         "deviation, which folding batch norm cannot carry",
         "its levels are sums of powers of two, not evenly spaced"},
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "apot", &apot_quantizer},
};

MQB_PLUGIN("apot", "0.1.0", components);
