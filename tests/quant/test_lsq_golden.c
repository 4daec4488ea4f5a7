/*
 * test_lsq_golden.c - the LSQ plugin against the reference vectors (family 1), and its behaviour at the edges.
 */
#include "quant/golden_tensor.h"
#include "quant/quant.h"

#include <mqbench/numeric.h>

#include <dlfcn.h>
#include <float.h>
#include <math.h>

static const struct mqb_quantizer *lsq;
static void *library;

static void count_lines(void *context, int level, const char *line)
{
    (void)level, (void)line;
    ++*(int *)context;
}

static int num_lines; /* of log */

static int setup(void **state)
{
    (void)state;
    mqb_log_set_sink(count_lines, &num_lines);
    library = dlopen(MQB_PLUGIN_DIR "/lsq.so", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        printf("%s\n", dlerror());
        return -1;
    }
    const struct mqb_plugin_entry *entry = dlsym(library, MQB_PLUGIN_SYMBOL);
    lsq = entry ? entry->components[0].vtable : NULL;
    return lsq ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dlclose(library);
}

/* ---- a point with its quantizer ---- */

/* "name=value ..." over the defaults. */
static struct mqb_options *options_of(const char *settings)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_options *options;
    char copy[256], *rest = copy;
    assert_int_equal(mqb_options_create(lsq->options, lsq->num_options, &options, &error), MQB_OK);
    snprintf(copy, sizeof(copy), "%s", settings);
    for (char *word = strtok_r(rest, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(word, '=');
        *equals = '\0';
        if (mqb_options_set(options, word, equals + 1, "test", &error) != MQB_OK)
            fail_msg("%s", error.text);
    }
    return options;
}

static void *create(const struct mqb_scheme *scheme, const char *settings)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_options *options = options_of(settings);
    void *self = NULL;
    if (lsq->create(mqb_host_table(), scheme, options, &self, &error) != MQB_OK)
        fail_msg("%s", error.text);
    mqb_options_destroy(options);
    return self;
}

static void observe_and_init(void *self, const struct mqb_tensor_view *x)
{
    struct mqb_error error = MQB_ERROR_INIT;
    if (lsq->observe(self, x, &error) != MQB_OK || lsq->init(self, &error) != MQB_OK)
        fail_msg("%s", error.text);
}

static struct mqb_param param_of(void *self, uint32_t index)
{
    struct mqb_param param = {.struct_size = sizeof(param)};
    assert_int_equal(lsq->param(self, index, &param), MQB_OK);
    return param;
}

/* Slices of a step: one a channel, or two uneven ones a tensor, so that the sums are joined. */
static void run(const void *self, const struct mqb_scheme *scheme, int64_t n, const float *x, const float *dy, float *out,
                double *sums)
{
    int64_t num = scheme->per_channel ? scheme->num_channels : 2, size = n / num;
    for (int64_t i = 0; i < num; i++) {
        int64_t begin = scheme->per_channel ? i * size : i * (n / 3), end = scheme->per_channel ? begin + size : i ? n : n / 3;
        int32_t channel = scheme->per_channel ? (int32_t)i : 0;
        struct mqb_slice slice = {
            .struct_size = sizeof(slice), .channel = channel, .size = end - begin, .offset = (uint64_t)begin, .x = x + begin};
        if (dy) {
            slice.dy = dy + begin;
            slice.dx = out + begin;
            slice.sums = sums + 2 * channel;
            lsq->backward(self, &slice);
        } else {
            slice.y = out + begin;
            lsq->forward(self, &slice);
        }
    }
}

/* ---- reference vectors ---- */

struct counts {
    int compared, touched; /* touched: by an oddity of the reference that the default does not follow */
    int exact_outputs, gradients;
};

static struct mqb_scheme case_scheme(const json_t *item)
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

static bool near_tie(const json_t *item, int64_t index)
{
    const json_t *list = json_object_get(item, "near_tie");
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (json_integer_value(json_array_get(list, i)) == index)
            return true;
    }
    return false;
}

static float max_abs(const struct golden_tensor *tensor)
{
    float max = 0.0f;
    for (int64_t i = 0; i < tensor->size; i++)
        max = fmaxf(max, fabsf(tensor->data[i]));
    return max;
}

static void compare_outputs(const json_t *item, const struct golden_tensor *want, const float *got, float step)
{
    bool exact = golden_int(item, "tie_exact");
    float tolerance = exact ? 0.0f : 1e-6f * max_abs(want);
    for (int64_t i = 0; i < want->size; i++) {
        float slack = !exact && near_tie(item, i) ? 1.0001f * step : tolerance;
        if (!(fabsf(got[i] - want->data[i]) <= slack))
            fail_msg("%s: output[%d] = %.9g, expected %.9g", golden_text(item, "name"), (int)i, (double)got[i],
                     (double)want->data[i]);
    }
}

static void compare_param_gradient(const json_t *item, const char *name, const struct mqb_param *param, float dy_max,
                                   int64_t numel)
{
    const json_t *grads = json_object_get(json_object_get(item, "expected"), "param_grads");
    struct golden_tensor want;
    if (!golden_tensor_get(json_object_get(grads, name), &want))
        fail_msg("%s: no gradient of %s in the file", golden_text(item, "name"), name);
    assert_int_equal(want.size, param->num_elements);
    for (int64_t c = 0; c < want.size; c++) {
        double floor = 1e-6 * (double)dy_max * sqrt((double)numel);
        if (!(fabs((double)param->grad[c] - (double)want.data[c]) <= 1e-4 * fabs((double)want.data[c]) + floor))
            fail_msg("%s: gradient of %s[%d] = %.9g, expected %.9g", golden_text(item, "name"), name, (int)c,
                     (double)param->grad[c], (double)want.data[c]);
    }
    golden_free(&want);
}

/* Does torch's backward pass (its own zero point, added before rounding) see other codes than the forward pass? */
static bool backward_differs(const struct mqb_scheme *scheme, int qmin, int qmax, float scale, float zero,
                             const struct golden_tensor *x)
{
    if (scheme->symmetric || scheme->per_channel)
        return false;
    float s = fmaxf(fabsf(scale), FLT_EPSILON);
    s = scheme->pot_scale ? mqb_pot_round(s) : s;
    float inv = 1.0f / s, clipped = fminf(fmaxf(zero, (float)qmin), (float)qmax);
    float zf = rintf(clipped), zb = truncf(fminf(clipped + 0.5f, (float)qmax));
    for (int64_t i = 0; i < x->size; i++) {
        float forward = rintf(x->data[i] * inv) + zf, backward = rintf(x->data[i] * inv + zb);
        int side_f = (forward > (float)qmax) - (forward < (float)qmin),
            side_b = (backward > (float)qmax) - (backward < (float)qmin);
        if (side_f != side_b || (side_f == 0 && forward - zf != backward - zb) || (side_f != 0 && zf != zb))
            return true;
    }
    return false;
}

static void replay_case(const json_t *item, bool paper, struct counts *counts)
{
    const json_t *before = json_object_get(item, "state_before"), *expected = json_object_get(item, "expected");
    const json_t *after = json_object_get(expected, "state_after");
    const char *name = golden_text(item, "name"), *phase = golden_text(item, "phase");
    struct mqb_scheme scheme = case_scheme(item);
    struct golden_tensor x, y, scale, zero;
    struct mqb_error error = MQB_ERROR_INIT;
    bool init = strcmp(phase, "init") == 0, train = strcmp(phase, "train") == 0;
    assert_true(golden_tensor_get(json_object_get(item, "input"), &x));
    assert_true(golden_tensor_get(json_object_get(expected, "output"), &y));
    struct mqb_tensor_view view = golden_view(&x);
    void *self = create(&scheme, paper ? "compat=paper weight_init=lsq act_init=lsq" : "weight_init=lsq act_init=lsq");
    float min = INFINITY;
    for (int64_t i = 0; i < x.size; i++)
        min = fminf(min, x.data[i]);
    bool touched = false;
    if (init) {
        observe_and_init(self, &view);
        touched = !paper && !scheme.symmetric && (min < 0.0f || scheme.per_channel);
    } else {
        /* The sign has switched or not; then the state as recorded. */
        bool switched = golden_int(before, "quant_min") == 0;
        struct golden_tensor dummy = {.data = malloc((size_t)x.size * sizeof(float)), .size = x.size, .rank = x.rank};
        memcpy(dummy.dims, x.dims, sizeof(dummy.dims));
        for (int64_t i = 0; i < x.size; i++)
            dummy.data[i] = switched ? 1.0f : -1.0f;
        struct mqb_tensor_view dummy_view = golden_view(&dummy);
        observe_and_init(self, &dummy_view);
        golden_free(&dummy);
        assert_true(golden_tensor_get(json_object_get(before, "scale"), &scale));
        assert_true(golden_tensor_get(json_object_get(before, "zero_point"), &zero));
        assert_int_equal(scale.size, scheme.num_channels);
        memcpy(param_of(self, 0).value, scale.data, (size_t)scale.size * sizeof(float));
        if (!scheme.symmetric)
            memcpy(param_of(self, 1).value, zero.data, (size_t)zero.size * sizeof(float));
        touched = !paper && train &&
                  backward_differs(&scheme, golden_int(before, "quant_min"), golden_int(before, "quant_max"), scale.data[0],
                                   zero.data[0], &x);
        golden_free(&scale);
        golden_free(&zero);
    }
    counts->touched += touched;
    if (touched && init)
        goto done;

    float *out = malloc((size_t)x.size * sizeof(float));
    if (lsq->prepare(self, &view, !init && train, &error) != MQB_OK)
        fail_msg("%s: %s", name, error.text);
    struct mqb_qparams qparams = {.struct_size = sizeof(qparams)};
    assert_int_equal(lsq->qparams(self, &qparams, &error), MQB_OK);
    assert_int_equal(qparams.qmin, golden_int(after, "quant_min"));
    assert_int_equal(qparams.qmax, golden_int(after, "quant_max"));
    run(self, &scheme, x.size, x.data, NULL, out, NULL);
    float step = 0.0f;
    for (int32_t c = 0; c < qparams.num_channels; c++)
        step = fmaxf(step, qparams.scale[c]);
    compare_outputs(item, &y, out, step);
    counts->exact_outputs += golden_int(item, "tie_exact");

    assert_true(golden_tensor_get(json_object_get(after, "scale"), &scale));
    assert_true(golden_tensor_get(json_object_get(after, "zero_point"), &zero));
    for (int64_t c = 0; c < scale.size; c++) {
        float got = param_of(self, 0).value[c], slack = init ? 5e-7f * scale.data[c] : 0.0f;
        float want = fmaxf(scale.data[c], FLT_EPSILON); /* of an all-zero tensor the reference's first scale is 0 */
        if (!(fabsf(got - want) <= slack))
            fail_msg("%s: scale[%d] = %.9g, expected %.9g", name, (int)c, (double)got, (double)want);
        if (!scheme.symmetric && param_of(self, 1).value[c] != zero.data[c])
            fail_msg("%s: zero_point[%d] = %.9g, expected %.9g", name, (int)c, (double)param_of(self, 1).value[c],
                     (double)zero.data[c]);
    }
    golden_free(&scale);
    golden_free(&zero);

    if (train && !touched) {
        struct golden_tensor dy, dx;
        double *sums = calloc((size_t)scheme.num_channels * 2, sizeof(double));
        assert_true(golden_tensor_get(json_object_get(item, "grad_output"), &dy));
        assert_true(golden_tensor_get(json_object_get(expected, "grad_input"), &dx));
        run(self, &scheme, x.size, x.data, dy.data, out, sums);
        lsq->reduce(self, sums);
        float tolerance = 1e-6f * max_abs(&dx);
        for (int64_t i = 0; i < dx.size; i++) {
            if (!(fabsf(out[i] - dx.data[i]) <= tolerance))
                fail_msg("%s: grad_input[%d] = %.9g, expected %.9g", name, (int)i, (double)out[i], (double)dx.data[i]);
        }
        struct mqb_param param = param_of(self, 0);
        compare_param_gradient(item, "scale", &param, max_abs(&dy), x.size);
        if (!scheme.symmetric) {
            param = param_of(self, 1);
            compare_param_gradient(item, "zero_point", &param, max_abs(&dy), x.size);
        }
        counts->gradients++;
        golden_free(&dy);
        golden_free(&dx);
        free(sums);
    }
    counts->compared += !touched;
    free(out);
done:
    lsq->destroy(self);
    golden_free(&x);
    golden_free(&y);
}

static void replay(const char *file, bool paper)
{
    json_t *root = golden_open(file);
    const json_t *cases = json_object_get(root, "cases");
    struct counts counts = {0};
    for (size_t i = 0; i < json_array_size(cases); i++)
        replay_case(json_array_get(cases, i), paper, &counts);
    int num_cases = (int)json_array_size(cases);
    printf("%s, compat %s: %d cases, %d pass in full, %d touched by an oddity; %d outputs bit for bit, %d gradients\n", file,
           paper ? "paper" : "off", num_cases, counts.compared, counts.touched, counts.exact_outputs, counts.gradients);
    assert_int_equal(counts.compared + counts.touched, num_cases);
    if (paper)
        assert_int_equal(counts.touched, 0);
    json_decref(root);
}

static void test_lsq_weight_vectors_paper_match(void **state)
{
    (void)state;
    replay("fam1_lsq_weight.json", true);
}

static void test_lsq_weight_vectors_default_match(void **state)
{
    (void)state;
    replay("fam1_lsq_weight.json", false);
}

static void test_lsq_activation_vectors_paper_match(void **state)
{
    (void)state;
    replay("fam1_lsq_activation.json", true);
}

static void test_lsq_activation_vectors_default_match(void **state)
{
    (void)state;
    replay("fam1_lsq_activation.json", false);
}

/* ---- closed forms and edges ---- */

enum { N = 1000 };

static void fill(float *x, uint64_t stream, float factor)
{
    for (int i = 0; i < N; i++)
        x[i] = factor * (float)mqb_normal(3, stream, (uint64_t)i);
}

static struct mqb_scheme scheme_of(int variant, int bits)
{
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .role = MQB_ROLE_WEIGHT, .bits = bits, .num_channels = 1};
    scheme.symmetric = variant & 1;
    scheme.per_channel = (variant & 2) != 0;
    scheme.pot_scale = (variant & 4) != 0;
    scheme.num_channels = scheme.per_channel ? 4 : 1;
    scheme.qmin = scheme.symmetric ? -(1 << (bits - 1)) : 0;
    scheme.qmax = scheme.qmin + (1 << bits) - 1;
    return scheme;
}

static struct mqb_tensor_view view_of(const float *x)
{
    struct mqb_tensor_view view = {.struct_size = sizeof(view), .rank = 2, .dims = {4, N / 4}, .num_elements = N, .data = x};
    return view;
}

static void test_lsq_codes_and_outputs_agree_exactly(void **state)
{
    (void)state;
    static float x[N], y[N];
    static int32_t codes[N];
    struct mqb_error error = MQB_ERROR_INIT;
    fill(x, 1, 0.3f);
    for (int variant = 0; variant < 8; variant++) {
        for (int bits = 2; bits <= 8; bits += 3) {
            struct mqb_scheme scheme = scheme_of(variant, bits);
            struct mqb_tensor_view view = view_of(x);
            struct mqb_qparams q = {.struct_size = sizeof(q)};
            void *self = create(&scheme, "");
            observe_and_init(self, &view);
            param_of(self, 0).value[0] *= 1.037f;
            assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_OK);
            run(self, &scheme, N, x, NULL, y, NULL);
            assert_int_equal(lsq->freeze(self, &view, codes, &error), MQB_OK);
            assert_int_equal(lsq->qparams(self, &q, &error), MQB_OK);
            assert_int_equal(q.num_channels, scheme.num_channels);
            for (int i = 0; i < N; i++) {
                int c = scheme.per_channel ? i / (N / 4) : 0, exponent;
                assert_in_range(codes[i] + 1000, scheme.qmin + 1000, scheme.qmax + 1000);
                assert_true(y[i] == (float)(codes[i] - q.zero_point[c]) * q.scale[c]);
                if (scheme.pot_scale)
                    assert_true(frexpf(q.scale[c], &exponent) == 0.5f);
            }
            lsq->destroy(self);
        }
    }
}

static void test_lsq_in_place_equals_out_of_place(void **state)
{
    (void)state;
    static float x[N], dy[N], y[N], dx[N];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int variant = 0; variant < 4; variant++) {
        struct mqb_scheme scheme = scheme_of(variant, 4);
        double sums[8] = {0}, again[8] = {0};
        fill(x, 1, 1.0f);
        fill(dy, 2, 1.0f);
        struct mqb_tensor_view view = view_of(x);
        void *self = create(&scheme, "");
        observe_and_init(self, &view);
        assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_OK);
        run(self, &scheme, N, x, NULL, y, NULL);
        run(self, &scheme, N, x, dy, dx, sums);
        run(self, &scheme, N, x, dy, dy, again);
        assert_memory_equal(dy, dx, sizeof(dx));
        assert_memory_equal(sums, again, sizeof(sums));
        run(self, &scheme, N, x, NULL, x, NULL);
        assert_memory_equal(x, y, sizeof(y));
        /* On the grid already: quantizing again changes nothing, unless a level's own rounding error moves it. */
        run(self, &scheme, N, x, NULL, x, NULL);
        assert_memory_equal(x, y, sizeof(y));
        lsq->destroy(self);
    }
}

/* ds by its definition in double, per tensor: sum dy * d/ds of (clip(x/s + z) - z) * s with rounding passed straight through.
 */
static void test_lsq_scale_gradient_is_that_of_the_definition(void **state)
{
    (void)state;
    static float x[N], dy[N], dx[N];
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme scheme = scheme_of(0, 4);
    fill(x, 1, 1.0f);
    fill(dy, 2, 1.0f);
    struct mqb_tensor_view view = view_of(x);
    for (int scaled = 0; scaled < 2; scaled++) {
        void *self = create(&scheme, scaled ? "" : "gradient_scale=off");
        double sums[2] = {0}, ds = 0, dz = 0;
        observe_and_init(self, &view);
        float s = param_of(self, 0).value[0] = 0.21f, z = param_of(self, 1).value[0] = 6.3f;
        assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_OK);
        run(self, &scheme, N, x, dy, dx, sums);
        lsq->reduce(self, sums);
        z = rintf(z);
        for (int i = 0; i < N; i++) {
            double v = (double)x[i] / (double)s + (double)z, code = rint(v);
            bool below = code<0, above = code> 15;
            ds += (double)dy[i] * (below ? -(double)z : above ? 15 - (double)z : code - v);
            dz += below || above ? -(double)dy[i] * (double)s : 0;
            assert_true(dx[i] == (below || above ? 0.0f : dy[i]));
        }
        double g = scaled ? 1 / sqrt(15.0 * N) : 1.0;
        assert_true(fabs((double)param_of(self, 0).grad[0] - g * ds) <= 1e-5 * g * N);
        assert_true(fabs((double)param_of(self, 1).grad[0] - g * dz) <= 1e-6 * g * N);
        lsq->destroy(self);
    }
}

static void test_lsq_auto_start_searches_at_few_bits(void **state)
{
    (void)state;
    static float x[N], y[N];
    struct mqb_error error = MQB_ERROR_INIT;
    double error_of[2];
    fill(x, 5, 1.0f);
    for (int i = 0; i < 2; i++) {
        struct mqb_scheme scheme = scheme_of(1, 3);
        struct mqb_tensor_view view = view_of(x);
        void *self = create(&scheme, i ? "weight_init=minmax" : "");
        observe_and_init(self, &view);
        assert_int_equal(lsq->prepare(self, &view, 0, &error), MQB_OK);
        run(self, &scheme, N, x, NULL, y, NULL);
        error_of[i] = 0;
        for (int k = 0; k < N; k++)
            error_of[i] += (double)(y[k] - x[k]) * (double)(y[k] - x[k]);
        lsq->destroy(self);
    }
    assert_true(error_of[0] < 0.8 * error_of[1]);
}

static void test_lsq_pot_zero_point_goes_with_rounded_scale(void **state)
{
    (void)state;
    static float x[N];
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme scheme = scheme_of(4, 4); /* power of two, affine */
    for (int i = 0; i < N; i++)
        x[i] = -1.0f + 5.0f * (float)i / (float)(N - 1);
    struct mqb_tensor_view view = view_of(x);
    struct mqb_qparams q = {.struct_size = sizeof(q)};
    void *self = create(&scheme, "weight_init=minmax");
    observe_and_init(self, &view);
    assert_int_equal(lsq->prepare(self, &view, 0, &error), MQB_OK);
    assert_int_equal(lsq->qparams(self, &q, &error), MQB_OK);
    assert_true(param_of(self, 0).value[0] == 5.0f / 15.0f);
    assert_true(q.scale[0] == 0.25f);
    assert_int_equal(q.zero_point[0], 4); /* 1 / 0.25; 1 / (5 / 15) would be 3 */
    lsq->destroy(self);
}

static void test_lsq_nan_input_stays_nan_and_infinities_clip(void **state)
{
    (void)state;
    static float x[N], y[N];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int variant = 0; variant < 4; variant++) {
        struct mqb_scheme scheme = scheme_of(variant, 8);
        fill(x, 1, 1.0f);
        struct mqb_tensor_view view = view_of(x);
        struct mqb_qparams q = {.struct_size = sizeof(q)};
        void *self = create(&scheme, "");
        observe_and_init(self, &view);
        assert_int_equal(lsq->prepare(self, &view, 0, &error), MQB_OK);
        assert_int_equal(lsq->qparams(self, &q, &error), MQB_OK);
        x[0] = NAN;
        x[1] = INFINITY;
        x[2] = -FLT_MAX;
        run(self, &scheme, N, x, NULL, y, NULL);
        assert_true(isnan(y[0]));
        assert_true(y[1] == (float)(q.qmax - q.zero_point[0]) * q.scale[0]);
        assert_true(y[2] == (float)(q.qmin - q.zero_point[0]) * q.scale[0]);
        int32_t codes[N];
        assert_int_equal(lsq->freeze(self, &view, codes, &error), MQB_ERR_NUMERIC);
        assert_non_null(strstr(error.text, "element 0"));
        lsq->destroy(self);
    }
}

static void test_lsq_scale_flip_and_divergence_are_handled(void **state)
{
    (void)state;
    static float x[N];
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_scheme scheme = scheme_of(0, 8);
    fill(x, 1, 1.0f);
    struct mqb_tensor_view view = view_of(x);
    void *self = create(&scheme, "");
    struct mqb_param scale = param_of(self, 0), zero = param_of(self, 1);
    observe_and_init(self, &view);
    num_lines = 0;
    scale.value[0] = -0.5f;
    assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_OK);
    assert_true(scale.value[0] == 0.5f);
    scale.value[0] = -1e-30f;
    zero.value[0] = 1000.0f;
    assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_OK);
    assert_int_equal(num_lines, 1); /* told once */
    assert_true(scale.value[0] == FLT_EPSILON && zero.value[0] == 255.0f);
    scale.value[0] = NAN;
    assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(error.text, "scale of channel 0"));
    scale.value[0] = 1.0f;
    zero.value[0] = INFINITY;
    assert_int_equal(lsq->prepare(self, &view, 1, &error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(error.text, "zero point"));
    lsq->destroy(self);
}

static void test_lsq_params_follow_options(void **state)
{
    (void)state;
    struct mqb_scheme affine = scheme_of(0, 4), symmetric = scheme_of(1, 4);
    struct mqb_param param = {.struct_size = sizeof(param)};
    void *self = create(&affine, "lr_multiplier=0.1");
    assert_string_equal(param_of(self, 1).name, "zero_point");
    assert_true(param_of(self, 0).lr_multiplier == 0.1f && param_of(self, 0).weight_decay_multiplier == 0.0f);
    assert_int_equal(lsq->param(self, 2, &param), MQB_ERR_NOT_FOUND);
    lsq->destroy(self);
    self = create(&affine, "learn_zero_point=off compat=paper");
    assert_true(param_of(self, 0).weight_decay_multiplier == 1.0f);
    assert_int_equal(lsq->param(self, 1, &param), MQB_ERR_NOT_FOUND);
    lsq->destroy(self);
    self = create(&symmetric, "");
    assert_int_equal(lsq->param(self, 1, &param), MQB_ERR_NOT_FOUND);
    lsq->destroy(self);
}

static void test_lsq_state_round_trip_and_damage(void **state)
{
    (void)state;
    static float x[N], y[N], z[N];
    static unsigned char buffer[1024];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int variant = 0; variant < 4; variant++) {
        struct mqb_scheme scheme = scheme_of(variant, 4);
        size_t size = 0;
        fill(x, 1, 1.0f);
        struct mqb_tensor_view view = view_of(x);
        void *first = create(&scheme, ""), *second = create(&scheme, "");
        observe_and_init(first, &view);
        assert_int_equal(lsq->save(first, NULL, &size, &error), MQB_OK);
        assert_true(size > 0 && size <= sizeof(buffer));
        size_t small = size - 1;
        assert_int_equal(lsq->save(first, buffer, &small, &error), MQB_ERR_ARGUMENT);
        assert_int_equal(lsq->save(first, buffer, &size, &error), MQB_OK);
        assert_int_equal(lsq->load(second, buffer, size, &error), MQB_OK);
        assert_int_equal(lsq->prepare(first, &view, 0, &error), MQB_OK);
        assert_int_equal(lsq->prepare(second, &view, 0, &error), MQB_OK);
        run(first, &scheme, N, x, NULL, y, NULL);
        run(second, &scheme, N, x, NULL, z, NULL);
        assert_memory_equal(y, z, sizeof(y));
        assert_int_equal(lsq->load(second, buffer, size - 4, &error), MQB_ERR_FORMAT);
        buffer[0] ^= 1;
        assert_int_equal(lsq->load(second, buffer, size, &error), MQB_ERR_FORMAT);
        buffer[0] ^= 1;
        buffer[8] ^= 0x40; /* qmin */
        assert_int_equal(lsq->load(second, buffer, size, &error), MQB_ERR_FORMAT);
        buffer[8] ^= 0x40;
        memset(buffer + size - 4, 0xff, 4); /* a NaN */
        assert_int_equal(lsq->load(second, buffer, size, &error), MQB_ERR_FORMAT);
        lsq->destroy(first);
        lsq->destroy(second);
    }
}

static void test_lsq_impossible_schemes_are_refused(void **state)
{
    (void)state;
    struct mqb_options *options = options_of("");
    struct mqb_error error = MQB_ERROR_INIT;
    void *self;
    struct mqb_scheme scheme = scheme_of(0, 8);
    scheme.role = MQB_ROLE_BIAS;
    assert_int_equal(lsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    scheme = scheme_of(0, 8);
    scheme.bits = 9;
    assert_int_equal(lsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    scheme = scheme_of(0, 8);
    scheme.num_channels = 3;
    assert_int_equal(lsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_ARGUMENT);
    assert_null(self);
    lsq->destroy(NULL);
    mqb_options_destroy(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lsq_weight_vectors_paper_match),
        cmocka_unit_test(test_lsq_weight_vectors_default_match),
        cmocka_unit_test(test_lsq_activation_vectors_paper_match),
        cmocka_unit_test(test_lsq_activation_vectors_default_match),
        cmocka_unit_test(test_lsq_codes_and_outputs_agree_exactly),
        cmocka_unit_test(test_lsq_in_place_equals_out_of_place),
        cmocka_unit_test(test_lsq_scale_gradient_is_that_of_the_definition),
        cmocka_unit_test(test_lsq_auto_start_searches_at_few_bits),
        cmocka_unit_test(test_lsq_pot_zero_point_goes_with_rounded_scale),
        cmocka_unit_test(test_lsq_nan_input_stays_nan_and_infinities_clip),
        cmocka_unit_test(test_lsq_scale_flip_and_divergence_are_handled),
        cmocka_unit_test(test_lsq_params_follow_options),
        cmocka_unit_test(test_lsq_state_round_trip_and_damage),
        cmocka_unit_test(test_lsq_impossible_schemes_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
