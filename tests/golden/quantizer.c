/*
 * quantizer.c - families 1 and 4: one quantizer, one phase. Through the plugin's vtable alone: a new algorithm needs a row in
 * `algorithms`, and parameters called as in the files.
 *
 *   init    calibration sees the input; then forward
 *   train   the recorded state, what the program observes in training, forward, backward
 *   eval    the recorded state, forward
 */
#include "golden.h"

#include <mqbench/quantizer.h>

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    RANGE_STATE = 1,  /* the saved state ends with scales and zero points, which the file's replace */
    ALWAYS_SEES = 2,  /* the program's ranges of activations move in every training step, so the input is a calibration batch */
    FROM_TANH = 4,    /* the range is that of normalized weights: to 4 ulp, and with wider gradients (golden/README.md) */
    OWN_GRID = 8,     /* below 8 bits the recorded scale and codes are an observer's that nothing reads */
    EXACT = 16,       /* outputs and gradients bit for bit, where a case does not say itself */
    FUNCTION = 32,    /* a function of x at a given grid: nothing is measured, the grid does not learn */
    HISTORY = 64,     /* no tensor of two values leaves the recorded range behind: it takes the batch that it came from */
    THRESHOLD = 128,  /* the saved state ends with log2 thresholds instead: scale = threshold / 2^(bits - 1) */
    OBSERVING = 256,  /* the row is for cases whose program still observes */
    FIRST_LAYER = 512 /* the row is for cases that stand on the network's input */
};

static const struct algorithm {
    const char *name;      /* in the files */
    const char *component; /* NULL: not shipped; then `options` says what it is */
    const char *options;   /* which form of the algorithm the file is about */
    const char *compat;    /* added with --compat: the program that the file was recorded from */
    unsigned flags;
} algorithms[] = {
    /* the paper's code */
    {"lsq", "lsq", "weight_init=lsq act_init=lsq", "compat=paper", 0},
    {"dorefa", "dorefa", "rescale=off", "compat=paper", FROM_TANH},
    {"pact", "pact", "", "compat=paper", 0},
    {"dsq", "dsq", "soft=no", "compat=paper", RANGE_STATE | ALWAYS_SEES},
    {"dsq_function", "dsq", "soft=yes alpha=@alpha", "", RANGE_STATE | FUNCTION},
    {"qil", "qil", "rescale=off", "compat=paper", OWN_GRID},
    {"apot", "apot", "rescale=off", "compat=paper", OWN_GRID},
    /* the toolkit */
    {"toolkit_lsq", "lsq", "weight_init=lsq act_init=lsq", "compat=toolkit", 0},
    {"toolkit_lsqplus", "lsqplus", "weight_init=lsqplus act_init=lsqplus", "compat=toolkit", 0},
    {"toolkit_dorefa", "dorefa", "rescale=off", "compat=toolkit", FROM_TANH | RANGE_STATE},
    {"toolkit_dsq", "dsq", "soft=yes alpha=@alpha", "compat=toolkit", RANGE_STATE},
    {"toolkit_pact", "pact", "alpha=@alpha", "compat=toolkit", OBSERVING},
    {"toolkit_pact", "pact", "alpha=@alpha", "compat=toolkit freeze=on", RANGE_STATE},
    {"toolkit_fixed_minmax", "ptq_minmax", "", "compat=toolkit", RANGE_STATE | EXACT},
    {"toolkit_fixed_ema", "ptq_minmax", "range=ema", "compat=toolkit", RANGE_STATE | EXACT},
    {"toolkit_fixed_emaquantile", "ptq_percentile", "range=ema", "compat=toolkit", RANGE_STATE | EXACT | HISTORY},
    {"toolkit_fixed_mse", "ptq_mse", "", "compat=toolkit", RANGE_STATE | EXACT | HISTORY},
    {"toolkit_fixed_emamse", "ptq_mse", "range=ema", "compat=toolkit", RANGE_STATE | EXACT | HISTORY},
    {"toolkit_tqt", "tqt", "", "compat=vitis candidates=1", THRESHOLD | EXACT | FIRST_LAYER},
    {"toolkit_tqt", "tqt", "", "compat=vitis", THRESHOLD | EXACT},
    {"toolkit_nnie", NULL, "NNIE's logarithmic codes", NULL, 0},
    {"toolkit_adaround", NULL, "AdaRound", NULL, 0},
    {"adaround_regularizer", NULL, "AdaRound", NULL, 0},
    {"toolkit_qdrop", NULL, "QDrop", NULL, 0},
};

/* A case at work. */
struct replay {
    struct golden_case *c;
    const struct algorithm *algorithm;
    const struct mqb_quantizer *quantizer;
    void *self;
    struct mqb_scheme scheme;
    struct golden_tensor x;
    const json_t *before, *after;
    bool init, training, observes, weight;
    bool exact;   /* nothing but exact operations before the rounding */
    double slack; /* of a scale, relative */
};

static struct mqb_scheme scheme_of(const json_t *item, const struct golden_tensor *x)
{
    const json_t *json = json_object_get(item, "scheme");
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .num_channels = 1};
    scheme.role = strcmp(golden_text(item, "role"), "weight") == 0 ? MQB_ROLE_WEIGHT : MQB_ROLE_ACTIVATION;
    scheme.bits = (int32_t)golden_int(item, "bits");
    scheme.qmin = (int32_t)golden_int(item, "quant_min");
    scheme.qmax = (int32_t)golden_int(item, "quant_max");
    scheme.symmetric = (uint8_t)golden_int(json, "symmetric");
    scheme.per_channel = (uint8_t)golden_int(json, "per_channel");
    scheme.pot_scale = (uint8_t)golden_int(json, "pot_scale");
    scheme.adaptive_sign = (uint8_t)golden_int(json, "ada_sign");
    if (scheme.per_channel)
        scheme.num_channels = (int32_t)x->dims[0];
    return scheme;
}

static bool near_tie(const json_t *item, int64_t index)
{
    const json_t *list = json_object_get(item, "near_tie");
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_integer_value(json_array_get(list, i)) == index)
            return true;
    }
    return false;
}

/* ---- the recorded state ---- */

/* A tensor with the ends of the recorded range stands for all batches that the recorded observer has seen. */
static bool observe_recorded_range(struct replay *r)
{
    struct golden_case *c = r->c;
    struct golden_tensor min = golden_tensor_of(c, golden_get(r->before, "observer.min_val"));
    struct golden_tensor max = golden_tensor_of(c, golden_get(r->before, "observer.max_val"));
    const json_t *sign = json_object_get(r->before, "sign");
    int64_t rows = r->weight ? r->scheme.num_channels : 1;
    if (!min.data || !max.data || min.size != max.size || min.size < 1)
        return false;
    bool switched = !r->weight && (r->scheme.qmin == 0 || json_is_false(sign)); /* for good, whatever came later */
    struct golden_tensor ends = {
        .data = golden_alloc(c, 2 * rows, sizeof(float)), .size = 2 * rows, .rank = 2, .dims = {rows, 2}};
    for (int64_t i = 0; i < rows; i++) {
        int64_t from = min.size == rows ? i : 0;
        ends.data[2 * i] = switched && r->scheme.symmetric ? fmaxf(min.data[from], 0.0f) : min.data[from];
        ends.data[2 * i + 1] = max.data[from];
    }
    struct mqb_tensor_view view = golden_view(&ends);
    golden_ok(c, r->quantizer->observe(r->self, &view, &c->error));
    return true;
}

/* The case after which the program stood where this one begins. */
static const json_t *case_before(const struct replay *r)
{
    const json_t *wanted = json_object_get(r->before, "observer"), *item;
    static const char *const same[] = {"algo", "role", "scheme", "bits"};
    size_t index;
    json_array_foreach((json_t *)(uintptr_t)r->c->cases, index, item)
    {
        bool fits = json_equal(golden_get(item, "expected.state_after.observer"), wanted);
        for (size_t i = 0; i < sizeof(same) / sizeof(same[0]) && fits; i++)
            fits = json_equal(json_object_get(item, same[i]), json_object_get(r->c->item, same[i]));
        if (fits && item != r->c->item)
            return item;
    }
    return NULL;
}

static bool observe_history(struct replay *r)
{
    const json_t *earlier = case_before(r);
    if (!earlier)
        return false;
    struct golden_tensor x = golden_need(r->c, earlier, "input");
    struct mqb_tensor_view view = golden_view(&x);
    golden_ok(r->c, r->quantizer->observe(r->self, &view, &r->c->error));
    return true;
}

static void set_params(struct replay *r)
{
    struct mqb_param param = {.struct_size = sizeof(param)};
    for (uint32_t i = 0; r->quantizer->param && r->quantizer->param(r->self, i, &param) == MQB_OK; i++) {
        if (r->algorithm->flags & THRESHOLD)
            continue;
        struct golden_tensor value = golden_need(r->c, r->before, param.name);
        if (value.data && value.size == param.num_elements)
            memcpy(param.value, value.data, (size_t)value.size * sizeof(float));
        else
            golden_problem(r->c, "%s has %d elements, the file's %lld", param.name, (int)param.num_elements,
                           (long long)value.size);
    }
}

/* A header, num_channels scales, as many zero points: algorithms/common/range_state.h, grid_point.h. */
static void set_range_state(struct replay *r)
{
    struct golden_case *c = r->c;
    bool own = json_object_get(r->before, "scale") != NULL;
    const char *derived = r->scheme.pot_scale ? "expected.qparams.scale_pot" : "expected.qparams.scale";
    struct golden_tensor scale = own ? golden_need(c, r->before, "scale") : golden_need(c, c->item, derived);
    struct golden_tensor zero =
        own ? golden_need(c, r->before, "zero_point") : golden_need(c, c->item, "expected.qparams.zero_point");
    int32_t channels = r->scheme.num_channels;
    size_t size = 0;
    if (!scale.data || !zero.data || scale.size != channels || zero.size != channels ||
        !golden_ok(c, r->quantizer->save(r->self, NULL, &size, &c->error)))
        return;
    size_t header = size - 8 * (size_t)channels;
    if (size < 8 * (size_t)channels) {
        golden_problem(c, "a state of %zu bytes does not hold %d scales and zero points", size, (int)channels);
        return;
    }
    char *state = golden_alloc(c, (int64_t)size, 1);
    golden_ok(c, r->quantizer->save(r->self, state, &size, &c->error));
    for (int32_t i = 0; i < channels; i++) {
        int32_t z = (int32_t)zero.data[i];
        memcpy(state + header + 4 * i, &scale.data[i], 4);
        memcpy(state + header + 4 * (channels + i), &z, 4);
    }
    golden_ok(c, r->quantizer->load(r->self, state, size, &c->error));
}

static void set_thresholds(struct replay *r)
{
    struct golden_case *c = r->c;
    struct golden_tensor scale = golden_need(c, r->before, "scale");
    size_t size = 0;
    if (scale.size != r->scheme.num_channels || !golden_ok(c, r->quantizer->save(r->self, NULL, &size, &c->error)))
        return;
    char *state = golden_alloc(c, (int64_t)size, 1);
    golden_ok(c, r->quantizer->save(r->self, state, &size, &c->error));
    for (int64_t i = 0; i < scale.size; i++) {
        float threshold = (float)(ilogbf(scale.data[i]) + r->scheme.bits - 1);
        memcpy(state + size - 4 * (size_t)(scale.size - i), &threshold, 4);
    }
    golden_ok(c, r->quantizer->load(r->self, state, size, &c->error));
}

static void restore(struct replay *r)
{
    struct golden_case *c = r->c;
    const struct mqb_quantizer *quantizer = r->quantizer;
    struct mqb_tensor_view view = golden_view(&r->x);
    bool recorded = false;
    if (r->algorithm->flags & HISTORY && r->observes)
        recorded = observe_history(r);
    else if (!(r->weight && r->algorithm->flags & FROM_TANH))
        recorded = observe_recorded_range(r);
    if (r->observes || !recorded)
        golden_ok(c, quantizer->observe(r->self, &view, &c->error));
    golden_ok(c, quantizer->init(r->self, &c->error));
    if (!r->init)
        set_params(r);
    if (r->algorithm->flags & RANGE_STATE && !r->observes && (r->weight || json_object_get(r->before, "scale")))
        set_range_state(r);
    if (r->algorithm->flags & THRESHOLD && !r->observes)
        set_thresholds(r);
}

/* ---- the step ---- */

/* One slice a channel, or two uneven ones a tensor, so that sums are joined; with dy the backward pass. */
static void run_slices(struct replay *r, const float *dy, float *out)
{
    const struct mqb_quantizer *quantizer = r->quantizer;
    int64_t n = r->x.size, num = r->scheme.per_channel ? r->scheme.num_channels : 2, size = n / num;
    double *sums = golden_alloc(r->c, (int64_t)r->scheme.num_channels * MQB_QUANTIZER_MAX_SUMS, sizeof(double));
    for (int64_t i = 0; i < num; i++) {
        int64_t begin = r->scheme.per_channel ? i * size : i * (n / 3);
        int64_t end = r->scheme.per_channel ? begin + size : i ? n : n / 3;
        struct mqb_slice slice = {
            .struct_size = sizeof(slice), .size = end - begin, .offset = (uint64_t)begin, .x = r->x.data + begin};
        slice.channel = r->scheme.per_channel ? (int32_t)i : 0;
        if (slice.size == 0)
            continue;
        if (dy) {
            slice.dy = dy + begin;
            slice.dx = out + begin;
            slice.sums = sums + (uint32_t)slice.channel * quantizer->sums_per_channel;
            quantizer->backward(r->self, &slice);
        } else {
            slice.y = out + begin;
            quantizer->forward(r->self, &slice);
        }
    }
    if (dy && quantizer->reduce)
        quantizer->reduce(r->self, sums);
    if (dy && r->weight && MQB_HAS_FIELD(quantizer, struct mqb_quantizer, complete) && quantizer->complete)
        quantizer->complete(r->self, sums, out);
}

static void compare_elements(struct replay *r, const char *what, const struct golden_tensor *want, const float *got,
                             double slack)
{
    for (int64_t i = 0; want->data && i < want->size; i++) {
        if (!(fabs((double)got[i] - (double)want->data[i]) <= slack * fabs((double)want->data[i]))) {
            golden_problem(r->c, "%s[%lld] = %.9g, expected %.9g", what, (long long)i, (double)got[i], (double)want->data[i]);
            return;
        }
    }
}

/* Scale, zero point and parameters as they stand after prepare. Returns the largest step. */
static float compare_state(struct replay *r)
{
    struct golden_case *c = r->c;
    struct mqb_qparams q = {.struct_size = sizeof(q)};
    struct mqb_param param = {.struct_size = sizeof(param)};
    float step = 0.0f;
    bool learns_scale = false;
    for (uint32_t i = 0; r->quantizer->param && r->quantizer->param(r->self, i, &param) == MQB_OK; i++) {
        if (r->algorithm->flags & THRESHOLD)
            break; /* the file has the scale, which follows */
        struct golden_tensor want = golden_tensor_of(c, json_object_get(r->after, param.name));
        /* Of an all-zero tensor the released first scale is 0; its next forward, and ours at once, makes it this. */
        for (int64_t k = 0; k < want.size && strcmp(param.name, "scale") == 0; k++)
            want.data[k] = fmaxf(want.data[k], FLT_EPSILON);
        if (want.data && want.size == param.num_elements)
            compare_elements(r, param.name, &want, param.value, r->init ? r->slack : 0.0);
        else if (r->after)
            golden_problem(c, "the file's state has no %s of %d elements", param.name, (int)param.num_elements);
        learns_scale |= strcmp(param.name, "scale") == 0;
    }
    if (!golden_ok(c, r->quantizer->qparams(r->self, &q, &c->error)))
        return 0.0f;
    for (int32_t i = 0; i < q.num_channels; i++)
        step = fmaxf(step, q.scale[i]);
    if (q.num_levels > 0) { /* a tie lies between two neighbouring levels */
        float widest = 0.0f;
        for (int32_t i = 1; i < q.num_levels; i++)
            widest = fmaxf(widest, fabsf(q.levels[i] - q.levels[i - 1]));
        step *= widest;
    }
    if (!r->after || (r->algorithm->flags & OWN_GRID && r->scheme.bits < 8))
        return step;
    if (!(r->algorithm->flags & OWN_GRID) &&
        (q.qmin != golden_int(r->after, "quant_min") || q.qmax != golden_int(r->after, "quant_max")))
        golden_problem(c, "codes [%d, %d], expected [%lld, %lld]", (int)q.qmin, (int)q.qmax,
                       (long long)golden_int(r->after, "quant_min"), (long long)golden_int(r->after, "quant_max"));
    const json_t *qparams = golden_get(c->item, "expected.qparams");
    bool own = json_object_get(r->after, "scale") != NULL;
    if (learns_scale || (!own && !qparams))
        return step;
    bool rounded = !own && r->scheme.pot_scale && !(r->algorithm->flags & OWN_GRID);
    struct golden_tensor scale = golden_need(c, own ? r->after : qparams, rounded ? "scale_pot" : "scale");
    struct golden_tensor zero = golden_need(c, own ? r->after : qparams, "zero_point");
    if (scale.size != q.num_channels || zero.size != q.num_channels) {
        golden_problem(c, "%d scales, expected %lld", (int)q.num_channels, (long long)scale.size);
        return step;
    }
    compare_elements(r, "scale", &scale, q.scale, r->slack);
    for (int32_t i = 0; i < q.num_channels; i++)
        if ((float)q.zero_point[i] != zero.data[i])
            golden_problem(c, "zero_point[%d] = %d, expected %g", (int)i, (int)q.zero_point[i], (double)zero.data[i]);
    return step;
}

static void compare_output(struct replay *r, const struct golden_tensor *want, const float *got, float step)
{
    double limit = r->exact ? 0.0 : 1e-6 * golden_largest(want);
    for (int64_t i = 0; want->data && i < want->size; i++) {
        double slack = !r->exact && near_tie(r->c->item, i) ? 1.0001 * (double)step : limit;
        if (!(fabs((double)got[i] - (double)want->data[i]) <= slack)) {
            golden_problem(r->c, "output[%lld] = %.9g, expected %.9g", (long long)i, (double)got[i], (double)want->data[i]);
            return;
        }
    }
}

static void compare_gradient(struct replay *r, const struct golden_tensor *want, const float *got)
{
    bool tanh_weight = r->weight && r->algorithm->flags & FROM_TANH;
    bool ties = !r->exact && json_array_size(json_object_get(r->c->item, "near_tie")) > 0;
    bool plain = r->algorithm->flags & EXACT;
    double limit = plain ? 0.0 : (tanh_weight ? 1e-5 : 1e-6) * golden_largest(want);
    if (tanh_weight && ties)
        return; /* a mask next to a tie moves the gradient of the largest element: the file's rule is to skip it */
    for (int64_t i = 0; want->data && i < want->size; i++) {
        bool either = ties && near_tie(r->c->item, i) && (got[i] == 0.0f || want->data[i] == 0.0f);
        if (!either && !(fabs((double)got[i] - (double)want->data[i]) <= limit)) {
            golden_problem(r->c, "grad_input[%lld] = %.9g, expected %.9g", (long long)i, (double)got[i], (double)want->data[i]);
            return;
        }
    }
}

/* Sums with cancellation: relative 1e-4, with a floor. */
static void compare_param_gradients(struct replay *r, const struct golden_tensor *dy)
{
    struct golden_case *c = r->c;
    const json_t *grads = golden_get(c->item, "expected.param_grads"), *grad;
    struct mqb_param param = {.struct_size = sizeof(param)};
    double floor = 1e-6 * golden_largest(dy) * sqrt((double)r->x.size);
    const char *name;
    json_object_foreach((json_t *)(uintptr_t)grads, name, grad)
    {
        struct golden_tensor want = golden_tensor_of(c, grad);
        bool found = false;
        for (uint32_t i = 0; r->quantizer->param && !found && r->quantizer->param(r->self, i, &param) == MQB_OK; i++)
            found = strcmp(param.name, name) == 0;
        bool constant = r->scheme.symmetric && strcmp(name, "zero_point") == 0; /* set to 0 in every forward */
        if (!found && want.data && !constant && !(r->algorithm->flags & FUNCTION))
            golden_problem(c, "there is no parameter %s", name);
        if (found && want.data && want.size != param.num_elements)
            golden_problem(c, "%s has %d elements, expected %lld", name, (int)param.num_elements, (long long)want.size);
        for (int64_t i = 0; found && i < param.num_elements && !c->problem[0]; i++) {
            double got = (double)param.grad[i], expected = want.data ? (double)want.data[i] : 0.0;
            if (!(fabs(got - expected) <= 1e-4 * fabs(expected) + floor))
                golden_problem(c, "gradient of %s[%lld] = %.9g, expected %.9g", name, (long long)i, got, expected);
        }
    }
}

static void run_phase(struct replay *r)
{
    struct golden_case *c = r->c;
    const struct mqb_quantizer *quantizer = r->quantizer;
    struct mqb_tensor_view view = golden_view(&r->x);
    struct golden_tensor y = golden_need(c, c->item, "expected.output");
    float *out = golden_alloc(c, r->x.size, sizeof(float));
    restore(r);
    if (c->problem[0] || y.size != r->x.size)
        return;
    /* The engine shows an activation to quantizers that ask for it; the released programs show it to all. */
    if (!r->weight && !c->compat && !(quantizer->flags & MQB_QUANTIZER_WHOLE_INPUT))
        view.data = NULL;
    if (quantizer->prepare &&
        !golden_ok(c, quantizer->prepare(r->self, &view, r->training && !(r->algorithm->flags & FUNCTION), &c->error)))
        return;
    float step = compare_state(r);
    run_slices(r, NULL, out);
    compare_output(r, &y, out, step);
    if (!json_is_object(json_object_get(c->item, "grad_output")))
        return;
    struct golden_tensor dy = golden_need(c, c->item, "grad_output"), dx = golden_need(c, c->item, "expected.grad_input");
    if (dy.size != r->x.size || dx.size != r->x.size)
        return;
    run_slices(r, dy.data, out);
    compare_gradient(r, &dx, out);
    compare_param_gradients(r, &dy);
}

void golden_quantizer_case(struct golden_case *c)
{
    const json_t *item = c->item, *exact = json_object_get(item, "tie_exact");
    const char *algo = golden_text(item, "algo"), *phase = golden_text(item, "phase"), *observer;
    struct replay r = {
        .c = c, .before = json_object_get(item, "state_before"), .after = golden_get(item, "expected.state_after")};
    bool observing = json_is_true(json_object_get(r.before, "observer_enabled"));
    bool first = strcmp(golden_text(json_object_get(item, "hyper"), "quant_type"), "input") == 0;
    char settings[256];
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++)
        if (!r.algorithm && strcmp(algorithms[i].name, algo) == 0 && (!(algorithms[i].flags & OBSERVING) || observing) &&
            (!(algorithms[i].flags & FIRST_LAYER) || first))
            r.algorithm = &algorithms[i];
    if (!r.algorithm) {
        golden_problem(c, "no row of quantizer.c replays the algorithm \"%s\"", algo);
        return;
    }
    if (!r.algorithm->component) {
        c->not_shipped = r.algorithm->options;
        return;
    }
    r.x = golden_need(c, item, "input");
    r.quantizer = golden_component(c, MQB_KIND_QUANTIZER, r.algorithm->component);
    if (!r.x.data || !r.quantizer)
        return;
    r.scheme = scheme_of(item, &r.x);
    r.weight = r.scheme.role == MQB_ROLE_WEIGHT;
    r.init = strcmp(phase, "init") == 0;
    r.training = strcmp(phase, "eval") != 0;
    r.observes = r.init || (r.training && (observing || (r.algorithm->flags & ALWAYS_SEES && !r.weight)));
    observer = golden_text(json_object_get(item, "hyper"), "observer");
    bool from_range =
        !(r.algorithm->flags & FROM_TANH) && (strcmp(observer, "MinMaxObserver") == 0 || strcmp(observer, "MSEObserver") == 0);
    r.exact = exact ? json_is_true(exact) : (r.algorithm->flags & EXACT) != 0;
    r.slack = exact ? (r.exact ? 0.0 : 5e-7) : from_range ? 0.0 : 5e-7;

    snprintf(settings, sizeof(settings), "%s %s", r.algorithm->options, c->compat ? r.algorithm->compat : "");
    struct mqb_options *options = golden_options(c, r.quantizer->options, r.quantizer->num_options, settings);
    if (!options)
        return;
    if (golden_ok(c, r.quantizer->create(mqb_host_table(), &r.scheme, options, &r.self, &c->error))) {
        run_phase(&r);
        r.quantizer->destroy(r.self);
    }
    mqb_options_destroy(options);
}
