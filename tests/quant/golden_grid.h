/*
 * golden_grid.h - replays the reference vectors of DoReFa and PACT, whose grids follow from ranges, through a plugin.
 */
#ifndef GOLDEN_GRID_H
#define GOLDEN_GRID_H

#include "quant/golden_tensor.h"
#include "quant/quant.h"

#include <mqbench/numeric.h>

#include <dlfcn.h>
#include <float.h>
#include <math.h>

struct grid_plugin {
    void *library;
    const struct mqb_quantizer *quantizer;
};

static inline bool grid_plugin_open(struct grid_plugin *plugin, const char *path)
{
    plugin->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!plugin->library) {
        printf("%s\n", dlerror());
        return false;
    }
    const struct mqb_plugin_entry *entry = dlsym(plugin->library, MQB_PLUGIN_SYMBOL);
    plugin->quantizer = entry ? entry->components[0].vtable : NULL;
    return plugin->quantizer != NULL;
}

/* Options: pairs of name and value, ended by NULL. */
static inline struct mqb_options *grid_options(const struct mqb_quantizer *quantizer, const char *const *settings)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_options *options;
    assert_int_equal(mqb_options_create(quantizer->options, quantizer->num_options, &options, &error), MQB_OK);
    for (; *settings; settings += 2) {
        if (mqb_options_set(options, settings[0], settings[1], "test", &error) != MQB_OK)
            fail_msg("%s", error.text);
    }
    return options;
}

static inline void *grid_create(const struct mqb_quantizer *quantizer, const struct mqb_scheme *scheme, bool paper)
{
    const char *const settings[] = {"compat", paper ? "paper" : "off", "rescale", "off", NULL};
    struct mqb_options *options = grid_options(quantizer, settings);
    struct mqb_error error = MQB_ERROR_INIT;
    void *self = NULL;
    if (quantizer->create(mqb_host_table(), scheme, options, &self, &error) != MQB_OK)
        fail_msg("%s", error.text);
    mqb_options_destroy(options);
    return self;
}

static inline void grid_calibrate(const struct mqb_quantizer *quantizer, void *self, const struct mqb_tensor_view *x)
{
    struct mqb_error error = MQB_ERROR_INIT;
    if (quantizer->observe(self, x, &error) != MQB_OK || quantizer->init(self, &error) != MQB_OK)
        fail_msg("%s", error.text);
}

/* Slices of a step: one a channel, or two uneven ones a tensor, so that sums are joined; with dy the backward pass. */
static inline void grid_run(const struct mqb_quantizer *quantizer, void *self, const struct mqb_scheme *scheme, int64_t n,
                            const float *x, const float *dy, float *out)
{
    int64_t num = scheme->per_channel ? scheme->num_channels : 2, size = n / num;
    double *sums = calloc((uint32_t)scheme->num_channels, MQB_QUANTIZER_MAX_SUMS * sizeof(double));
    for (int64_t i = 0; i < num; i++) {
        int64_t begin = scheme->per_channel ? i * size : i * (n / 3), end = scheme->per_channel ? begin + size : i ? n : n / 3;
        int32_t channel = scheme->per_channel ? (int32_t)i : 0;
        struct mqb_slice slice = {
            .struct_size = sizeof(slice), .channel = channel, .size = end - begin, .offset = (uint64_t)begin, .x = x + begin};
        if (dy) {
            slice.dy = dy + begin;
            slice.dx = out + begin;
            slice.sums = sums + (uint32_t)channel * quantizer->sums_per_channel;
            quantizer->backward(self, &slice);
        } else {
            slice.y = out + begin;
            quantizer->forward(self, &slice);
        }
    }
    if (dy && quantizer->reduce)
        quantizer->reduce(self, sums);
    if (dy && scheme->role == MQB_ROLE_WEIGHT && quantizer->complete)
        quantizer->complete(self, sums, out);
    free(sums);
}

struct grid_counts {
    int compared, touched;                 /* touched: by an oddity of the reference that the default does not follow */
    int exact_outputs, gradients, skipped; /* skipped: gradients next to a tie, where the reference's mask is luck */
    int bounds, bounds_touched;            /* gradients of clipping bounds, and those that the reference masks */
};

static inline struct mqb_scheme grid_case_scheme(const json_t *item)
{
    const json_t *json = json_object_get(item, "scheme");
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme)};
    scheme.role = strcmp(golden_text(item, "role"), "weight") == 0 ? MQB_ROLE_WEIGHT : MQB_ROLE_ACTIVATION;
    scheme.bits = golden_int(item, "bits");
    scheme.qmin = -(1 << (scheme.bits - 1));
    scheme.qmax = (1 << (scheme.bits - 1)) - 1;
    scheme.symmetric = (uint8_t)golden_int(json, "symmetric");
    scheme.per_channel = (uint8_t)golden_int(json, "per_channel");
    scheme.pot_scale = (uint8_t)golden_int(json, "pot_scale");
    scheme.adaptive_sign = (uint8_t)golden_int(json, "ada_sign");
    scheme.num_channels = 1;
    if (scheme.per_channel) {
        const json_t *shape = json_object_get(json_object_get(item, "input"), "shape");
        scheme.num_channels = (int32_t)json_integer_value(json_array_get(shape, 0));
    }
    return scheme;
}

static inline bool grid_near_tie(const json_t *item, int64_t index)
{
    const json_t *list = json_object_get(item, "near_tie");
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_integer_value(json_array_get(list, i)) == index)
            return true;
    }
    return false;
}

static inline float grid_max_abs(const struct golden_tensor *tensor)
{
    float max = 0.0f;
    for (int64_t i = 0; i < tensor->size; i++)
        max = fmaxf(max, fabsf(tensor->data[i]));
    return max;
}

/* The last range that the reference measured; false before the first. */
static inline bool grid_range_of(const json_t *state, float *min, float *max)
{
    const json_t *observer = json_object_get(state, "observer");
    struct golden_tensor low, high;
    if (!golden_tensor_get(json_object_get(observer, "min_val"), &low))
        return false;
    assert_true(golden_tensor_get(json_object_get(observer, "max_val"), &high));
    *min = low.data[0];
    *max = high.data[0];
    golden_free(&low);
    golden_free(&high);
    return true;
}

/* Brings the instance to the recorded state. */
static inline void grid_restore(const struct mqb_quantizer *quantizer, void *self, const json_t *item,
                                const struct mqb_scheme *scheme, const struct mqb_tensor_view *input)
{
    const json_t *before = json_object_get(item, "state_before");
    float range[2] = {0.0f, 0.0f};
    if (scheme->role == MQB_ROLE_WEIGHT || !grid_range_of(before, &range[0], &range[1])) {
        grid_calibrate(quantizer, self, input);
    } else {
        if (golden_int(before, "quant_min") == 0) /* the sign has switched, whatever came later */
            range[0] = fmaxf(range[0], 0.0f);
        struct mqb_tensor_view view = {
            .struct_size = sizeof(view), .rank = 2, .dims = {1, 2}, .num_elements = 2, .data = range};
        grid_calibrate(quantizer, self, &view);
    }
    static const char *const names[] = {"alpha", "n_alpha"};
    for (uint32_t i = 0; i < 2; i++) {
        struct mqb_param param = {.struct_size = sizeof(param)};
        struct golden_tensor value;
        if (!quantizer->param || quantizer->param(self, i, &param) != MQB_OK)
            break;
        assert_string_equal(param.name, names[i]);
        assert_true(golden_tensor_get(json_object_get(before, names[i]), &value));
        param.value[0] = value.data[0];
        golden_free(&value);
    }
}

/* Does the reference measure something in this very batch that calibration did not see, or take another zero point? */
static inline bool grid_touched(const json_t *item, const struct mqb_scheme *scheme, const struct golden_tensor *x)
{
    const json_t *before = json_object_get(item, "state_before"), *expected = json_object_get(item, "expected");
    const json_t *after = json_object_get(expected, "state_after"), *qparams = json_object_get(expected, "qparams");
    float min = INFINITY, max = -INFINITY, min_before, max_before;
    for (int64_t i = 0; i < x->size; i++) {
        min = fminf(min, x->data[i]);
        max = fmaxf(max, x->data[i]);
    }
    if (scheme->role == MQB_ROLE_ACTIVATION && grid_range_of(before, &min_before, &max_before)) {
        if (golden_int(before, "quant_min") != golden_int(after, "quant_min") || (min < 0.0f) != (min_before < 0.0f) ||
            (golden_int(before, "quant_min") == 0 && min_before < 0.0f))
            return true;
        if (scheme->bits == 8 && (fminf(min, 0) != fminf(min_before, 0) || fmaxf(max, 0) != fmaxf(max_before, 0)))
            return true;
    }
    if (scheme->symmetric || !scheme->pot_scale)
        return false;
    struct golden_tensor scale, low;
    const json_t *observer = json_object_get(after, "observer");
    assert_true(golden_tensor_get(json_object_get(qparams, "scale"), &scale));
    assert_true(golden_tensor_get(json_object_get(observer, "min_val"), &low));
    bool differs = false;
    for (int64_t c = 0; c < scale.size; c++) {
        float m = fminf(low.data[c], 0.0f), n = (float)golden_int(after, "quant_min"),
              p = (float)golden_int(after, "quant_max");
        float raw = n - rintf(m / scale.data[c]), rounded = n - rintf(m / mqb_pot_round(scale.data[c]));
        differs |= fminf(fmaxf(raw, n), p) != fminf(fmaxf(rounded, n), p);
    }
    golden_free(&scale);
    golden_free(&low);
    return differs;
}

static inline void grid_compare_qparams(const json_t *item, const struct mqb_scheme *scheme, const struct mqb_qparams *got)
{
    const json_t *expected = json_object_get(item, "expected"), *qparams = json_object_get(expected, "qparams");
    const json_t *after = json_object_get(expected, "state_after");
    struct golden_tensor scale, zero;
    assert_int_equal(got->qmin, golden_int(after, "quant_min"));
    assert_int_equal(got->qmax, golden_int(after, "quant_max"));
    assert_true(golden_tensor_get(json_object_get(qparams, scheme->pot_scale ? "scale_pot" : "scale"), &scale));
    assert_true(golden_tensor_get(json_object_get(qparams, "zero_point"), &zero));
    assert_int_equal(scale.size, got->num_channels);
    for (int32_t c = 0; c < got->num_channels; c++) {
        float slack = golden_int(item, "tie_exact") ? 0.0f : 5e-7f * scale.data[c]; /* tanh precedes */
        if (!(fabsf(got->scale[c] - scale.data[c]) <= slack) || (float)got->zero_point[c] != zero.data[c])
            fail_msg("%s: scale[%d] = %.9g, zero point %d, expected %.9g and %g", golden_text(item, "name"), (int)c,
                     (double)got->scale[c], (int)got->zero_point[c], (double)scale.data[c], (double)zero.data[c]);
    }
    golden_free(&scale);
    golden_free(&zero);
}

static inline void grid_compare(const json_t *item, const char *what, const struct golden_tensor *want, const float *got,
                                float tolerance, float tie_tolerance)
{
    for (int64_t i = 0; i < want->size; i++) {
        float slack = grid_near_tie(item, i) ? tie_tolerance : tolerance;
        if (!(fabsf(got[i] - want->data[i]) <= slack))
            fail_msg("%s: %s[%d] = %.9g, expected %.9g", golden_text(item, "name"), what, (int)i, (double)got[i],
                     (double)want->data[i]);
    }
}

/* Clipping bounds: by default against their definition, under compat = paper against the file. */
static inline void grid_compare_bounds(const struct mqb_quantizer *quantizer, void *self, const json_t *item, bool paper,
                                       const struct golden_tensor *x, const struct golden_tensor *dy,
                                       struct grid_counts *counts)
{
    const json_t *grads = json_object_get(json_object_get(item, "expected"), "param_grads");
    const bool symmetric = golden_int(json_object_get(item, "scheme"), "symmetric");
    struct mqb_param params[2] = {{.struct_size = sizeof(params[0])}, {.struct_size = sizeof(params[0])}};
    if (!quantizer->param || quantizer->param(self, 0, &params[0]) != MQB_OK) {
        assert_true(json_object_size(grads) == 0 || json_is_null(json_object_get(grads, "alpha")));
        return;
    }
    if (!symmetric)
        assert_int_equal(quantizer->param(self, 1, &params[1]), MQB_OK);
    float alpha = params[0].value[0], low = symmetric ? -alpha : params[1].value[0], min = INFINITY;
    double above = 0.0, below = 0.0, floor = 1e-6 * (double)grid_max_abs(dy) * sqrt((double)x->size);
    for (int64_t i = 0; i < x->size; i++)
        min = fminf(min, x->data[i]);
    for (int64_t i = 0; i < x->size; i++) {
        above += x->data[i] > alpha ? (double)dy->data[i] : 0.0;
        below += min < 0.0f && x->data[i] < low ? (double)dy->data[i] : 0.0;
    }
    double defined[2] = {symmetric ? above - below : above, below};
    for (int i = 0; i < (symmetric ? 1 : 2); i++) {
        struct golden_tensor want;
        double file = 0.0, got = (double)params[i].grad[0];
        if (golden_tensor_get(json_object_get(grads, params[i].name), &want)) {
            file = (double)want.data[0];
            golden_free(&want);
        }
        double target = paper ? file : defined[i];
        if (!(fabs(got - target) <= 1e-4 * fabs(target) + floor))
            fail_msg("%s: gradient of %s = %.9g, expected %.9g", golden_text(item, "name"), params[i].name, got, target);
        counts->bounds++;
        counts->bounds_touched += !(fabs(got - file) <= 1e-4 * fabs(file) + floor);
    }
}

static inline void grid_replay_case(const struct mqb_quantizer *quantizer, const json_t *item, bool paper,
                                    struct grid_counts *counts)
{
    const json_t *expected = json_object_get(item, "expected");
    struct mqb_scheme scheme = grid_case_scheme(item);
    struct mqb_error error = MQB_ERROR_INIT;
    struct golden_tensor x, y, dy, dx;
    const bool weight = scheme.role == MQB_ROLE_WEIGHT, exact = golden_int(item, "tie_exact");
    assert_true(golden_tensor_get(json_object_get(item, "input"), &x));
    struct mqb_tensor_view view = golden_view(&x);
    if (!paper && grid_touched(item, &scheme, &x)) {
        counts->touched++;
        golden_free(&x);
        return;
    }
    void *self = grid_create(quantizer, &scheme, paper);
    grid_restore(quantizer, self, item, &scheme, &view);
    if (!weight && !paper)
        view.data = NULL; /* as the engine does */
    if (quantizer->prepare(self, &view, strcmp(golden_text(item, "phase"), "eval") != 0, &error) != MQB_OK)
        fail_msg("%s: %s", golden_text(item, "name"), error.text);
    struct mqb_qparams qparams = {.struct_size = sizeof(qparams)};
    assert_int_equal(quantizer->qparams(self, &qparams, &error), MQB_OK);
    grid_compare_qparams(item, &scheme, &qparams);

    float *out = malloc((size_t)x.size * sizeof(float)), step = 0.0f;
    for (int32_t c = 0; c < qparams.num_channels; c++)
        step = fmaxf(step, qparams.scale[c]);
    assert_true(golden_tensor_get(json_object_get(expected, "output"), &y));
    grid_run(quantizer, self, &scheme, x.size, x.data, NULL, out);
    float tolerance = exact ? 0.0f : 1e-6f * grid_max_abs(&y);
    grid_compare(item, "output", &y, out, tolerance, exact ? 0.0f : 1.0001f * step);
    counts->exact_outputs += exact;
    golden_free(&y);

    if (strcmp(golden_text(item, "phase"), "train") == 0) {
        assert_true(golden_tensor_get(json_object_get(item, "grad_output"), &dy));
        assert_true(golden_tensor_get(json_object_get(expected, "grad_input"), &dx));
        grid_run(quantizer, self, &scheme, x.size, x.data, dy.data, out);
        if (!exact && json_array_size(json_object_get(item, "near_tie")) > 0) {
            counts->skipped++;
        } else {
            tolerance = (weight ? 1e-5f : 1e-6f) * grid_max_abs(&dx);
            grid_compare(item, "grad_input", &dx, out, tolerance, tolerance);
            counts->gradients++;
        }
        grid_compare_bounds(quantizer, self, item, paper, &x, &dy, counts);
        golden_free(&dy);
        golden_free(&dx);
    }
    counts->compared++;
    free(out);
    quantizer->destroy(self);
    golden_free(&x);
}

static inline void grid_replay(const struct mqb_quantizer *quantizer, const char *file, bool paper)
{
    json_t *root = golden_open(file);
    const json_t *cases = json_object_get(root, "cases");
    struct grid_counts counts = {0};
    int num_cases = (int)json_array_size(cases);
    for (int i = 0; i < num_cases; i++)
        grid_replay_case(quantizer, json_array_get(cases, (size_t)i), paper, &counts);
    printf(
        "%s, compat %s: %d cases, %d pass in full, %d touched by an oddity; %d outputs bit for bit, %d gradients (%d next to "
        "a tie skipped), %d gradients of bounds (%d masked in the file)\n",
        file, paper ? "paper" : "off", num_cases, counts.compared, counts.touched, counts.exact_outputs, counts.gradients,
        counts.skipped, counts.bounds, counts.bounds_touched);
    assert_int_equal(counts.compared + counts.touched, num_cases);
    if (paper) {
        assert_int_equal(counts.touched, 0);
        assert_int_equal(counts.bounds_touched, 0);
    }
    json_decref(root);
}

#endif
