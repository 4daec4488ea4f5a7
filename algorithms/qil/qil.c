/*
 * qil.c - quantization intervals (QIL; Jung et al., CVPR 2019), in the form that MQBench published: one learned interval
 * [C - D, C + D] of magnitudes a tensor, center C and distance D, below 8 bits.
 *
 *   v = |x| / (2D) + 1/2 - C / (2D)        t = sign(x) clip(v, 0, 1)^gamma        delta = 2^(bits-1) - 1
 *       an activation that calibration never saw negative: v of x itself, no sign, delta = 2^bits - 1
 *   y = r rne(t delta) / delta             r = C + D, or 1 without rescaling
 *   C = D start at h / 2, h the part of max|x| with the least squared error (published: max|x|), and are kept positive and not
 * above it: of a weight in every step, of an activation what calibration saw. gamma is 1, or learned (weights only).
 *
 * The rounding is passed straight through, with m = [0 <= v <= 1], u = clip(v, 0, 1):
 *   dx = r m dy gamma u^(gamma-1) / (2D), 0 at x = 0
 *   dC = g ( -r/(2D) P + Q )     dD = g ( -r/D A + r C/(2D^2) P + Q )     dgamma = g r sum dy sign(x) u^gamma ln u
 *   P = sum m dy sign(x) gamma u^(gamma-1)     A = the same sum, times |x|/(2D)     Q = sum dy y/r with rescaling, else 0
 *   g = 1 / sqrt(numel (2^(bits-1) - 1))
 *
 * At 8 bits, the first and last layers, a uniform grid over the range that calibration saw (../common/whole_tensor.h).
 *
 * Without r the published form leaves tensors in [-1, 1]: only a batch norm behind the layer undoes that, and only once its
 * running statistics have followed. With r a calibrated network computes what it did before.
 *
 * The published start, h = max|x|, rounds nearly all of a 2-bit weight to 0, and a pretrained network with it is lost.
 *
 * `compat = paper`: no r; h = max|x|; v of an activation that is never negative is not clipped; C and D of an activation are
 * kept not above half the largest magnitude of each batch, where the host shows it; C and D decay with the weights; see also
 * whole_tensor.h.
 */
#include "../common/lanes.h"
#include "../common/power.h"
#include "../common/whole_tensor.h"

#define QIL_STATE_MAGIC 0x314c4951u /* "QIL1" */
#define QIL_UNCLIPPED 16384.0f      /* far beyond [0, 1], and its codes are still rounded exactly */
#define QIL_NARROWEST 65536.0f      /* D is at least this part of its upper bound */
#define QIL_FIT_PARTS 20            /* candidates for h */
#define QIL_GAMMA_MAX 16.0f         /* beyond it, and below its inverse, all of the interval lies at one end */

enum { CENTER = 0, DISTANCE = 1 };
enum { SUM_SIGN = 0, SUM_MAGNITUDE = 1, SUM_CODE = 2, SUM_GAMMA = 3, NUM_SUMS = 4 };

/* What the loops need, by value. v = a |x| + c; y = code / divide * multiply. */
struct qil_interval {
    float a, c, low, high, delta, divide, multiply, slope; /* slope = r a */
    double gamma;
};

struct qil {
    struct whole_tensor whole;
    int learn_gamma;
    float gamma, gamma_grad;
    int64_t numel; /* elements of the tensor last seen */
    struct qil_interval interval;
    int fit;                            /* find h */
    float fit_unit;                     /* the largest magnitude of the tensor that h is found on, the first one; 0: none yet */
    double fit_error[2][QIL_FIT_PARTS]; /* of h = fit_unit (k + 1) / QIL_FIT_PARTS: [0] one sign, [1] with signs */
};

/* Behind the grid's in the saved state. */
struct qil_tail {
    int64_t numel;
    int32_t nonnegative;
    float gamma;
};

static void qil_destroy(void *self)
{
    struct qil *q = self;
    if (!q)
        return;
    const struct mqb_host *host = q->whole.point->host;
    grid_point_destroy(q->whole.point);
    host->deallocate(q);
}

static int qil_is_signed(const struct qil *q)
{
    return !q->whole.nonnegative;
}

static double qil_gradient_factor(const struct qil *q)
{
    double top = (double)((1 << (q->whole.point->scheme.bits - 1)) - 1);
    return q->numel > 0 ? 1.0 / sqrt((double)q->numel * top) : 1.0;
}

/* The interval that forward uses, from the parameters as they stand. The reference scales gradients by (v - v g) + v g, which
 * moves some values by one ulp. */
static void qil_refresh(struct qil *q)
{
    struct grid_point *point = q->whole.point;
    struct qil_interval *t = &q->interval;
    if (point->scheme.bits == 8)
        return;
    float g = (float)qil_gradient_factor(q), center = fabsf(point->learned[CENTER]), distance = fabsf(point->learned[DISTANCE]);
    distance = distance < 1e-30f ? 1e-30f : distance; /* only before the first prepare(), which keeps it larger */
    float part = center * g;
    center = (center - part) + part;
    part = distance * g;
    distance = (distance - part) + part;
    t->a = 0.5f / distance;
    t->c = -0.5f * (center / distance) + 0.5f;
    int unclipped = point->paper && !qil_is_signed(q);
    t->low = unclipped ? -QIL_UNCLIPPED : 0.0f;
    t->high = unclipped ? QIL_UNCLIPPED : 1.0f;
    t->delta = (float)((1 << (qil_is_signed(q) ? point->scheme.bits - 1 : point->scheme.bits)) - 1);
    float r = point->rescale ? center + distance : 1.0f;
    t->divide = point->rescale ? 1.0f : t->delta;
    t->multiply = point->rescale ? r / t->delta : 1.0f;
    t->slope = r * t->a;
    t->gamma = (double)q->gamma;
    whole_tensor_set_scale(point, r / t->delta);
}

static mqb_status qil_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                             void **self, struct mqb_error *error)
{
    *self = NULL;
    struct whole_tensor whole = {0};
    mqb_status status = whole_tensor_create(&whole, host, "qil", QIL_STATE_MAGIC, scheme, options, error);
    if (status != MQB_OK)
        return status;
    struct qil *q = host->allocate(sizeof(*q));
    if (!q) {
        grid_point_destroy(whole.point);
        return host->fail(error, MQB_ERR_MEMORY, "qil: no memory for an instance");
    }
    q->whole = whole;
    q->gamma = 1.0f;
    q->fit = whole.point->rescale && strcmp(host->option_text(options, "init"), "mse") == 0;
    q->learn_gamma = scheme->role == MQB_ROLE_WEIGHT && strcmp(host->option_text(options, "gamma"), "learn") == 0;
    whole.point->learned[CENTER] = whole.point->learned[DISTANCE] = 0.5f;
    qil_refresh(q);
    *self = q;
    return MQB_OK;
}

/* The most that C and D may be. A tensor that is all but zero has an interval nevertheless. */
static float qil_limit(const struct grid_point *point)
{
    float half = 0.5f * whole_tensor_largest(point);
    return half < FLT_EPSILON ? FLT_EPSILON : half;
}

static mqb_status qil_prepare(void *self, const struct mqb_tensor_view *x, int training, struct mqb_error *error)
{
    struct qil *q = self;
    struct grid_point *point = q->whole.point;
    (void)training;
    if (point->scheme.bits == 8)
        return MQB_OK;
    float center = fabsf(point->learned[CENTER]), distance = fabsf(point->learned[DISTANCE]), gamma = q->gamma;
    if (!grid_finite(center) || !grid_finite(distance) || !grid_finite(gamma))
        return point->host->fail(error, MQB_ERR_NUMERIC, "the learned %s is not finite; a lower learning rate avoids it",
                                 !grid_finite(center)     ? "center of the interval"
                                 : !grid_finite(distance) ? "width of the interval"
                                                          : "gamma");
    mqb_status status;
    if (point->scheme.role == MQB_ROLE_WEIGHT)
        status = whole_tensor_measure(point, x, error);
    else
        status = grid_point_batch_range(point, x, error);
    if (status != MQB_OK)
        return status;
    float limit = qil_limit(point), least = limit / QIL_NARROWEST;
    distance = distance > limit ? limit : distance;
    point->learned[CENTER] = center > limit ? limit : center;
    point->learned[DISTANCE] = distance < least ? least : distance;
    gamma = gamma > QIL_GAMMA_MAX ? QIL_GAMMA_MAX : gamma;
    q->gamma = gamma < 1.0f / QIL_GAMMA_MAX ? 1.0f / QIL_GAMMA_MAX : gamma;
    q->numel = x->num_elements;
    qil_refresh(q);
    return MQB_OK;
}

static inline float qil_clip(struct qil_interval t, float v)
{
    v = v > t.high ? t.high : v;
    return v < t.low ? t.low : v;
}

static inline float sign_of(float x)
{
    float sign = x > 0.0f ? 1.0f : 0.0f;
    return x < 0.0f ? -1.0f : sign;
}

/* u^gamma and, if wanted, ln u, for u in [0, 1]. */
static inline double power_of(float u, double gamma, double *ln)
{
    double base = u > 1e-30f ? (double)u : 1e-30;
    *ln = series_ln(base);
    double power = series_exp(gamma * *ln < -700.0 ? -700.0 : gamma * *ln);
    return u > 1e-30f ? power : u == u ? 0.0 : (double)u;
}

/* The code, with its sign. */
static inline __attribute__((always_inline)) float qil_code(struct qil_interval t, const int is_signed, const int powered,
                                                            float x)
{
    float u = qil_clip(t, (is_signed ? fabsf(x) : x) * t.a + t.c);
    double ln;
    if (powered)
        u = (float)power_of(u, t.gamma, &ln);
    float code = mqb_rne_small(u * t.delta);
    if (!is_signed)
        return code;
    code = x < 0.0f ? -code : code;
    return x == 0.0f ? 0.0f : code;
}

/* ---- calibration ---- */

/* The interval [0, h] with rescaling. */
static struct qil_interval fit_interval(const struct grid_point *point, float h, int is_signed)
{
    struct qil_interval t = {.a = 1.0f / h, .high = 1.0f, .divide = 1.0f};
    t.delta = (float)((1 << (is_signed ? point->scheme.bits - 1 : point->scheme.bits)) - 1);
    t.multiply = h / t.delta;
    return t;
}

MQB_MULTIVERSION
static double fit_errors(struct qil_interval t, const int is_signed, int64_t size, const float *x)
{
    double lanes[LANES_COUNT] = {0};
    for (int64_t k = 0; k < size; k += LANES_COUNT) {
        int count = size - k < LANES_COUNT ? (int)(size - k) : LANES_COUNT;
        for (int i = 0; i < count; i++) {
            double d = (double)(qil_code(t, is_signed, 0, x[k + i]) * t.multiply) - (double)x[k + i];
            lanes[i] += d * d;
        }
    }
    return lanes_join(lanes);
}

static void fit_measure(struct qil *q, const struct mqb_tensor_view *x)
{
    float largest = 0.0f;
    for (int64_t i = 0; i < x->num_elements; i++)
        largest = fabsf(x->data[i]) > largest ? fabsf(x->data[i]) : largest;
    q->fit_unit = largest;
    for (int k = 0; k < QIL_FIT_PARTS && largest >= FLT_EPSILON; k++)
        for (int is_signed = 0; is_signed < 2; is_signed++)
            q->fit_error[is_signed][k] =
                fit_errors(fit_interval(q->whole.point, largest * (float)(k + 1) / QIL_FIT_PARTS, is_signed), is_signed,
                           x->num_elements, x->data);
}

/* h, or 0 if nothing was measured. Of equals the largest. */
static float fit_best(const struct qil *q)
{
    int best = QIL_FIT_PARTS - 1, is_signed = qil_is_signed(q);
    if (!q->fit)
        return 0.0f;
    for (int k = QIL_FIT_PARTS - 2; k >= 0; k--)
        if (q->fit_error[is_signed][k] < q->fit_error[is_signed][best])
            best = k;
    return q->fit_unit * (float)(best + 1) / QIL_FIT_PARTS;
}

static mqb_status qil_observe(void *self, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    struct qil *q = self;
    q->numel = x->num_elements;
    mqb_status status = whole_tensor_observe(&q->whole, x, error);
    if (status == MQB_OK && q->fit && q->fit_unit == 0.0f)
        fit_measure(q, x);
    return status;
}

static mqb_status qil_init(void *self, struct mqb_error *error)
{
    struct qil *q = self;
    struct grid_point *point = q->whole.point;
    mqb_status status = whole_tensor_init(&q->whole, error);
    if (status != MQB_OK)
        return status;
    float half = 0.5f * fit_best(q), limit = qil_limit(point);
    point->learned[CENTER] = point->learned[DISTANCE] = half > 0.0f && half < limit ? half : limit;
    qil_refresh(q);
    return MQB_OK;
}

static inline __attribute__((always_inline)) void forward_slice(struct qil_interval t, const int is_signed, const int powered,
                                                                int64_t size, const float *x, float *y)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++)
        y[i] = qil_code(t, is_signed, powered, x[i]) / t.divide * t.multiply;
}

MQB_MULTIVERSION
static void forward_signed(struct qil_interval t, int64_t size, const float *x, float *y)
{
    forward_slice(t, 1, 0, size, x, y);
}

MQB_MULTIVERSION
static void forward_unsigned(struct qil_interval t, int64_t size, const float *x, float *y)
{
    forward_slice(t, 0, 0, size, x, y);
}

MQB_MULTIVERSION
static void forward_powered(struct qil_interval t, int64_t size, const float *x, float *y)
{
    forward_slice(t, 1, 1, size, x, y);
}

static void qil_forward(const void *self, const struct mqb_slice *slice)
{
    const struct qil *q = self;
    const struct grid_point *point = q->whole.point;
    if (point->scheme.bits == 8)
        grid_forward(grid_at(point, 0), slice->size, slice->x, slice->y);
    else if (q->learn_gamma)
        forward_powered(q->interval, slice->size, slice->x, slice->y);
    else if (qil_is_signed(q))
        forward_signed(q->interval, slice->size, slice->x, slice->y);
    else
        forward_unsigned(q->interval, slice->size, slice->x, slice->y);
}

/* What the elements of a block add to the sums. */
struct qil_terms {
    float of[NUM_SUMS][LANES_BLOCK];
};

static inline __attribute__((always_inline)) void backward_block(struct qil_interval t, const int is_signed, const int powered,
                                                                 int count, const float *x, const float *dy, float *dx,
                                                                 struct qil_terms *terms)
{
    MQB_LOOP_INDEPENDENT
    for (int i = 0; i < count; i++) {
        float v = x[i], g = dy[i], sign = is_signed ? sign_of(v) : 1.0f;
        float scaled = (is_signed ? fabsf(v) : v) * t.a, raw = scaled + t.c, u = qil_clip(t, raw);
        float pass = raw > t.high ? 0.0f : g * sign;
        pass = raw < t.low ? 0.0f : pass;
        if (powered) {
            double ln, power = power_of(u, t.gamma, &ln);
            float floored = u > 1e-6f ? u : 1e-6f; /* with gamma < 1 the slope has no bound at 0 */
            terms->of[SUM_GAMMA][i] = g * sign * (float)(power * ln);
            pass *= (float)(t.gamma * power) / floored;
            u = (float)power;
        }
        scaled = raw > t.high ? 0.0f : scaled; /* may be infinite there */
        scaled = raw < t.low ? 0.0f : scaled;
        terms->of[SUM_SIGN][i] = pass;
        terms->of[SUM_MAGNITUDE][i] = pass * scaled;
        terms->of[SUM_CODE][i] = g * (mqb_rne_small(u * t.delta) * sign);
        dx[i] = pass * sign * t.slope;
    }
}

static inline __attribute__((always_inline)) void backward_slice(struct qil_interval t, const int is_signed, const int powered,
                                                                 const struct mqb_slice *slice)
{
    const int num_sums = powered ? NUM_SUMS : SUM_GAMMA;
    struct qil_terms terms;
    double lanes[NUM_SUMS][LANES_COUNT] = {{0}};
    int64_t k = 0, size = slice->size;
    for (; k + LANES_BLOCK <= size; k += LANES_BLOCK) {
        backward_block(t, is_signed, powered, LANES_BLOCK, slice->x + k, slice->dy + k, slice->dx + k, &terms);
        for (int j = 0; j < num_sums; j++)
            lanes_add(terms.of[j], lanes[j]);
    }
    if (k < size) {
        memset(&terms, 0, sizeof(terms));
        backward_block(t, is_signed, powered, (int)(size - k), slice->x + k, slice->dy + k, slice->dx + k, &terms);
        for (int j = 0; j < num_sums; j++)
            lanes_add(terms.of[j], lanes[j]);
    }
    for (int j = 0; j < num_sums; j++)
        slice->sums[j] += lanes_join(lanes[j]);
}

MQB_MULTIVERSION
static void backward_signed(struct qil_interval t, const struct mqb_slice *slice)
{
    backward_slice(t, 1, 0, slice);
}

MQB_MULTIVERSION
static void backward_unsigned(struct qil_interval t, const struct mqb_slice *slice)
{
    backward_slice(t, 0, 0, slice);
}

MQB_MULTIVERSION
static void backward_powered(struct qil_interval t, const struct mqb_slice *slice)
{
    backward_slice(t, 1, 1, slice);
}

static void qil_backward(const void *self, const struct mqb_slice *slice)
{
    const struct qil *q = self;
    const struct grid_point *point = q->whole.point;
    if (point->scheme.bits == 8)
        grid_backward(grid_at(point, 0), slice->size, slice->x, slice->dy, slice->dx);
    else if (q->learn_gamma)
        backward_powered(q->interval, slice);
    else if (qil_is_signed(q))
        backward_signed(q->interval, slice);
    else
        backward_unsigned(q->interval, slice);
}

static void qil_reduce(void *self, const double *sums)
{
    struct qil *q = self;
    struct grid_point *point = q->whole.point;
    double total[NUM_SUMS] = {0}, g = qil_gradient_factor(q);
    if (point->scheme.bits == 8)
        return;
    for (int32_t c = 0; c < point->scheme.num_channels; c++) {
        for (int j = 0; j < NUM_SUMS; j++)
            total[j] += sums[c * NUM_SUMS + j];
    }
    double center = (double)point->learned[CENTER], distance = (double)point->learned[DISTANCE];
    double r = point->rescale ? center + distance : 1.0;
    double through_r = point->rescale ? total[SUM_CODE] / (double)q->interval.delta : 0.0;
    double sign = total[SUM_SIGN] / distance;
    point->learned_grad[CENTER] = (float)(g * (through_r - 0.5 * r * sign));
    point->learned_grad[DISTANCE] =
        (float)(g * (through_r + r * (0.5 * center / distance * sign - total[SUM_MAGNITUDE] / distance)));
    q->gamma_grad = (float)(g * r * total[SUM_GAMMA]);
}

static mqb_status qil_param(void *self, uint32_t index, struct mqb_param *param)
{
    static const char *const names[] = {"center", "distance", "gamma"};
    struct qil *q = self;
    struct grid_point *point = q->whole.point;
    uint32_t num_params = point->scheme.bits == 8 ? 0 : q->learn_gamma ? 3 : 2;
    if (index >= num_params)
        return MQB_ERR_NOT_FOUND;
    param->struct_size = sizeof(*param);
    param->num_elements = 1;
    param->name = names[index];
    param->value = index < 2 ? &point->learned[index] : &q->gamma;
    param->grad = index < 2 ? &point->learned_grad[index] : &q->gamma_grad;
    param->lr_multiplier = 1.0f;
    param->weight_decay_multiplier = point->paper ? 1.0f : 0.0f;
    return MQB_OK;
}

static mqb_status qil_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    const struct qil *q = self;
    mqb_status status = grid_point_qparams(q->whole.point, qparams, error);
    if (q->whole.point->scheme.bits != 8 && q->whole.nonnegative) {
        qparams->qmin = 0;
        qparams->qmax = (int32_t)q->interval.delta;
    }
    return status;
}

static mqb_status qil_freeze(const void *self, const struct mqb_tensor_view *x, int32_t *codes, struct mqb_error *error)
{
    const struct qil *q = self;
    const struct grid_point *point = q->whole.point;
    mqb_status status = whole_tensor_check_freeze(point, x, error);
    if (status != MQB_OK)
        return status;
    for (int64_t i = 0; i < x->num_elements; i++)
        codes[i] = point->scheme.bits == 8 ? grid_clipped_code(grid_at(point, 0), x->data[i])
                                           : (int32_t)qil_code(q->interval, 1, q->learn_gamma, x->data[i]);
    return MQB_OK;
}

static mqb_status qil_save(const void *self, void *buffer, size_t *size, struct mqb_error *error)
{
    const struct qil *q = self;
    struct qil_tail tail = {q->numel, q->whole.nonnegative, q->gamma};
    return whole_tensor_save(q->whole.point, &tail, sizeof(tail), buffer, size, error);
}

static mqb_status qil_load(void *self, const void *buffer, size_t size, struct mqb_error *error)
{
    struct qil *q = self;
    struct grid_point *point = q->whole.point;
    struct qil_tail tail;
    mqb_status status = whole_tensor_load_tail(point, buffer, size, &tail, sizeof(tail), error);
    if (status != MQB_OK)
        return status;
    if (tail.numel < 0 || (tail.nonnegative != 0 && tail.nonnegative != 1) || !grid_finite(tail.gamma))
        return whole_tensor_damaged(point, error);
    status = grid_point_load(point, buffer, size - sizeof(tail), error);
    if (status != MQB_OK)
        return status;
    q->numel = tail.numel;
    q->whole.nonnegative = tail.nonnegative;
    q->gamma = tail.gamma;
    qil_refresh(q);
    return MQB_OK;
}

static const struct mqb_option_spec qil_options[] = {
    {"gamma", MQB_OPTION_CHOICE, 0, "off", 0, 0, "off|learn", "learn: the exponent of weights within their interval, from 1"},
    {"rescale", MQB_OPTION_BOOL, 0, "on", 0, 0, NULL, "tensors keep their magnitude; off (and compat = paper): in [-1, 1]"},
    {"init", MQB_OPTION_CHOICE, 0, "mse", 0, 0, "mse|max",
     "first interval: up to the magnitude with the least squared error, or (also with rescale = off) up to the largest"},
    {"compat", MQB_OPTION_CHOICE, 0, "off", 0, 0, "off|paper", "paper: the published code's clipping, ranges and decay"},
};

static const struct mqb_quantizer qil_quantizer = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS,
    .description = "learned quantization intervals (QIL; Jung et al., 2019)",
    .options = qil_options,
    .num_options = sizeof(qil_options) / sizeof(qil_options[0]),
    .sums_per_channel = NUM_SUMS,
    .create = qil_create,
    .destroy = qil_destroy,
    .observe = qil_observe,
    .init = qil_init,
    .prepare = qil_prepare,
    .forward = qil_forward,
    .backward = qil_backward,
    .reduce = qil_reduce,
    .param = qil_param,
    .qparams = qil_qparams,
    .freeze = qil_freeze,
    .save = qil_save,
    .load = qil_load,
    .undeployable =
        {"it learns one interval for a whole tensor, while hardware libraries want weights with a scale a channel, with an "
         "offset or with a power-of-two scale",
         "an activation goes through its learned interval, a multiplication and an addition of its own, before it "
         "is rounded"},
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "qil", &qil_quantizer},
};

MQB_PLUGIN("qil", "0.1.0", components);
