/*
 * test_dsq_golden.c - the DSQ plugin against the reference vectors (family 1: the published quantizer, which passes the
 * rounding straight through, and the soft function by itself), closed forms and edges.
 */
#include "quant/golden_quantizer.h"

static const struct mqb_quantizer *dsq;
static void *library;

static int setup(void **state)
{
    (void)state;
    dsq = quantizer_open(&library, "dsq.so", "dsq");
    return dsq ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dlclose(library);
}

/* ---- reference vectors ---- */

struct counts {
    int compared, bit_for_bit, gradients;
    int pot_zero;  /* the reference takes the zero point of a power-of-two scale from the scale before it is rounded */
    int late_sign; /* the reference looks at one batch for a switch of sign, here all of calibration counts */
};

static struct mqb_tensor_view ends_view(const float *ends)
{
    return (struct mqb_tensor_view){
        .struct_size = sizeof(struct mqb_tensor_view), .rank = 2, .dims = {1, 2}, .num_elements = 2, .data = ends};
}

static void replay_quantizer_case(const json_t *item, struct counts *counts)
{
    const json_t *before = json_object_get(item, "state_before"), *expected = json_object_get(item, "expected");
    const json_t *after = json_object_get(expected, "state_after"), *observer = json_object_get(before, "observer");
    const char *name = golden_text(item, "name"), *phase = golden_text(item, "phase");
    bool train = strcmp(phase, "train") == 0, eval = strcmp(phase, "eval") == 0;
    struct mqb_scheme scheme = golden_scheme(item);
    bool weight = scheme.role == MQB_ROLE_WEIGHT;
    struct golden_tensor x, y, scale, zero, min, max;
    struct mqb_error error = MQB_ERROR_INIT;
    assert_true(golden_tensor_get(json_object_get(item, "input"), &x));
    assert_true(golden_tensor_get(json_object_get(expected, "output"), &y));
    const json_t *qparams = json_object_get(expected, "qparams");
    if (!golden_tensor_get(json_object_get(qparams, scheme.pot_scale ? "scale_pot" : "scale"), &scale))
        fail_msg("%s: no scale in the file", name);
    assert_true(golden_tensor_get(json_object_get(qparams, "zero_point"), &zero));
    struct mqb_tensor_view view = golden_view(&x);
    void *self = quantizer_create(dsq, &scheme, "soft=no");
    if (weight) {
        quantizer_observe(dsq, self, &view);
        quantizer_init(dsq, self);
        if (eval)
            quantizer_put(dsq, self, scheme.num_channels, scale.data, zero.data);
    } else {
        /* An image that is just both ends stands for the batches that the recorded moving average has seen. */
        if (golden_tensor_get(json_object_get(observer, "min_val"), &min)) {
            assert_true(golden_tensor_get(json_object_get(observer, "max_val"), &max));
            float ends[2] = {min.data[0], max.data[0]};
            struct mqb_tensor_view seen = ends_view(ends);
            quantizer_observe(dsq, self, &seen);
            golden_free(&min);
            golden_free(&max);
        }
        if (!eval)
            quantizer_observe(dsq, self, &view);
        quantizer_init(dsq, self);
    }
    if (!weight)
        view.data = NULL; /* activations are not shown to prepare */
    if (dsq->prepare(self, &view, !eval, &error) != MQB_OK)
        fail_msg("%s: %s", name, error.text);
    struct mqb_qparams q = quantizer_qparams(dsq, self);
    if (q.qmin != golden_int(after, "quant_min")) {
        counts->late_sign++;
        goto done;
    }
    assert_int_equal(q.qmax, golden_int(after, "quant_max"));
    bool zeros_agree = true;
    float step = 0.0f;
    for (int32_t c = 0; c < q.num_channels; c++) {
        float want = scale.data[c], slack = eval ? 0.0f : 5e-7f * want;
        if (!(fabsf(q.scale[c] - want) <= slack))
            fail_msg("%s: scale[%d] = %.9g, expected %.9g", name, (int)c, (double)q.scale[c], (double)want);
        zeros_agree &= (float)q.zero_point[c] == zero.data[c];
        step = fmaxf(step, q.scale[c]);
    }
    if (!zeros_agree && scheme.pot_scale && !scheme.symmetric) {
        counts->pot_zero++;
        goto done;
    }
    if (!zeros_agree)
        fail_msg("%s: other zero points", name);
    bool exact = golden_int(item, "tie_exact");
    float *out = malloc((size_t)x.size * sizeof(float));
    quantizer_run(dsq, self, &scheme, x.size, x.data, NULL, out);
    golden_compare(item, "output", &y, out, exact ? 0.0f : 1e-6f, exact ? 0.0f : 1.0001f * step);
    if (train) {
        struct golden_tensor dy, dx;
        assert_true(golden_tensor_get(json_object_get(item, "grad_output"), &dy));
        assert_true(golden_tensor_get(json_object_get(expected, "grad_input"), &dx));
        quantizer_run(dsq, self, &scheme, x.size, x.data, dy.data, out);
        golden_compare(item, "grad_input", &dx, out, 0.0f, exact ? 0.0f : golden_max_abs(&dy));
        golden_free(&dy);
        golden_free(&dx);
        counts->gradients++;
    }
    counts->bit_for_bit += exact;
    counts->compared++;
    free(out);
done:
    dsq->destroy(self);
    golden_free(&x);
    golden_free(&y);
    golden_free(&scale);
    golden_free(&zero);
}

static void replay(const char *file, int least, int most_pot_zero)
{
    json_t *root = golden_open(file);
    const json_t *cases = json_object_get(root, "cases");
    struct counts counts = {0};
    for (size_t i = 0; i < json_array_size(cases); i++)
        replay_quantizer_case(json_array_get(cases, i), &counts);
    printf("%s: %d cases pass, %d of them bit for bit, %d with gradients; %d zero points of a rounded scale, %d switches of "
           "sign\n",
           file, counts.compared, counts.bit_for_bit, counts.gradients, counts.pot_zero, counts.late_sign);
    assert_true(counts.compared >= least);
    assert_true(counts.pot_zero <= most_pot_zero);
    assert_true(counts.late_sign <= 2);
    json_decref(root);
}

static void test_dsq_weight_vectors_match(void **state)
{
    (void)state;
    replay("fam1_dsq_weight.json", 265, 23);
}

static void test_dsq_activation_vectors_match(void **state)
{
    (void)state;
    replay("fam1_dsq_activation.json", 275, 11);
}

/* The soft function at given scale and zero point. */
static void replay_function_case(const json_t *item)
{
    const json_t *before = json_object_get(item, "state_before"), *expected = json_object_get(item, "expected");
    struct mqb_scheme scheme = golden_scheme(item);
    struct golden_tensor x, y, scale, zero, dy, dx;
    char settings[64];
    assert_true(golden_tensor_get(json_object_get(item, "input"), &x));
    assert_true(golden_tensor_get(json_object_get(item, "grad_output"), &dy));
    assert_true(golden_tensor_get(json_object_get(expected, "output"), &y));
    assert_true(golden_tensor_get(json_object_get(expected, "grad_input"), &dx));
    assert_true(golden_tensor_get(json_object_get(before, "scale"), &scale));
    assert_true(golden_tensor_get(json_object_get(before, "zero_point"), &zero));
    snprintf(settings, sizeof(settings), "soft=yes alpha=%g", golden_number(json_object_get(item, "hyper"), "alpha"));
    void *self = quantizer_create(dsq, &scheme, settings);
    quantizer_put(dsq, self, scheme.num_channels, scale.data, zero.data);
    float *out = malloc((size_t)x.size * sizeof(float));
    quantizer_run(dsq, self, &scheme, x.size, x.data, NULL, out);
    golden_compare(item, "output", &y, out, 1e-6f, 0.0f);
    quantizer_run(dsq, self, &scheme, x.size, x.data, dy.data, out);
    golden_compare(item, "grad_input", &dx, out, 1e-6f, 0.0f);
    free(out);
    dsq->destroy(self);
    golden_free(&x);
    golden_free(&y);
    golden_free(&dy);
    golden_free(&dx);
    golden_free(&scale);
    golden_free(&zero);
}

static void test_dsq_function_vectors_match(void **state)
{
    (void)state;
    json_t *root = golden_open("fam1_dsq_function.json");
    const json_t *cases = json_object_get(root, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++)
        replay_function_case(json_array_get(cases, i));
    printf("fam1_dsq_function.json: %d cases pass\n", (int)json_array_size(cases));
    json_decref(root);
}

/* ---- closed forms and edges ---- */

enum { N = 4096 };

static struct mqb_scheme scheme_of(int role, int per_channel, int bits)
{
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .role = role, .bits = bits, .num_channels = 1};
    scheme.per_channel = (uint8_t)per_channel;
    scheme.num_channels = per_channel ? 4 : 1;
    scheme.qmax = (1 << bits) - 1;
    return scheme;
}

static struct mqb_tensor_view view_of(const float *x)
{
    struct mqb_tensor_view view = {.struct_size = sizeof(view), .rank = 2, .dims = {4, N / 4}, .num_elements = N, .data = x};
    return view;
}

/* Against tanh of the C library in double, over a whole range of values and for steep and flat steps. */
static void test_dsq_soft_gradient_is_that_of_the_definition(void **state)
{
    (void)state;
    static float x[N], dy[N], dx[N], y[N];
    const double alphas[] = {0.001, 0.05, 0.4, 0.9, 0.999};
    const float scale = 0.125f, zero = 3.0f;
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 0, 4);
    for (int i = 0; i < N; i++) {
        x[i] = 2.6f * (float)i / (float)N - 0.8f; /* codes -3.4 to 17.4 */
        dy[i] = (float)mqb_normal(5, 1, (uint64_t)i);
    }
    for (size_t a = 0; a < sizeof(alphas) / sizeof(alphas[0]); a++) {
        char settings[64];
        snprintf(settings, sizeof(settings), "alpha=%g", alphas[a]);
        double S = 1.0 / (1.0 - alphas[a]), k = log((S + 1.0) / (S - 1.0));
        void *self = quantizer_create(dsq, &scheme, settings);
        quantizer_put(dsq, self, 1, &scale, &zero);
        quantizer_run(dsq, self, &scheme, N, x, dy, dx);
        quantizer_run(dsq, self, &scheme, N, x, NULL, y);
        for (int i = 0; i < N; i++) {
            float raw = x[i] / scale + zero;
            double v = fmin(fmax((double)raw, 0.0), 15.0), f = floor(v), t = tanh(k * (v - f - 0.5));
            double want = raw < 0.0f || raw > 15.0f ? 0.0 : (double)dy[i] * 0.5 * S * k * (1.0 - t * t);
            if (!(fabs((double)dx[i] - want) <= 2e-6 * fabs(want) + 1e-6))
                fail_msg("alpha %g: dx[%d] = %.9g, expected %.9g", alphas[a], i, (double)dx[i], want);
            double soft = f + 0.5 * (S * t + 1.0);
            if (fabs(soft - f - 0.5) > 1e-4)
                assert_true(y[i] == (float)(rint(soft) - (double)zero) * scale);
        }
        dsq->destroy(self);
    }
}

static void test_dsq_codes_and_outputs_agree_exactly(void **state)
{
    (void)state;
    static float x[N], y[N];
    static int32_t codes[N];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int i = 0; i < N; i++)
        x[i] = (float)mqb_normal(5, 2, (uint64_t)i);
    for (int variant = 0; variant < 4; variant++) {
        struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, variant & 1, 4);
        struct mqb_tensor_view view = view_of(x);
        void *self = quantizer_create(dsq, &scheme, variant & 2 ? "soft=no" : "");
        quantizer_observe(dsq, self, &view);
        quantizer_init(dsq, self);
        struct mqb_qparams q = quantizer_qparams(dsq, self);
        quantizer_run(dsq, self, &scheme, N, x, NULL, y);
        assert_int_equal(dsq->freeze(self, &view, codes, &error), MQB_OK);
        for (int i = 0; i < N; i++) {
            int c = scheme.per_channel ? i / (N / 4) : 0;
            assert_true(y[i] == (float)(codes[i] - q.zero_point[c]) * q.scale[c]);
        }
        dsq->destroy(self);
    }
}

static void test_dsq_weight_range_follows_training_steps_only(void **state)
{
    (void)state;
    static float x[N];
    struct mqb_error error = MQB_ERROR_INIT;
    for (int i = 0; i < N; i++)
        x[i] = i & 1 ? 1.0f : -1.0f; /* mean 0, variance N / (N - 1) */
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, 0, 4);
    struct mqb_tensor_view view = view_of(x);
    void *self = quantizer_create(dsq, &scheme, "");
    quantizer_observe(dsq, self, &view);
    quantizer_init(dsq, self);
    double want = 5.2 * sqrt((double)N / (N - 1)) / 15.0;
    assert_true(fabs((double)quantizer_qparams(dsq, self).scale[0] - want) <= 1e-6);
    for (int i = 0; i < N; i++)
        x[i] *= 2.0f;
    assert_int_equal(dsq->prepare(self, &view, 0, &error), MQB_OK);
    assert_true(fabs((double)quantizer_qparams(dsq, self).scale[0] - want) <= 1e-6);
    assert_int_equal(dsq->prepare(self, &view, 1, &error), MQB_OK);
    assert_true(fabs((double)quantizer_qparams(dsq, self).scale[0] - 2.0 * want) <= 2e-6);
    x[7] = NAN;
    assert_int_equal(dsq->prepare(self, &view, 1, &error), MQB_ERR_NUMERIC);
    dsq->destroy(self);
}

static void test_dsq_activation_range_is_the_moving_average(void **state)
{
    (void)state;
    /* Two batches of two images: means of minima -2 and -1, of maxima 3 and 5. */
    const float first[] = {-1.0f, 2.0f, -3.0f, 4.0f}, second[] = {0.0f, 5.0f, -2.0f, 5.0f};
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 0, 4);
    struct mqb_tensor_view view = {.struct_size = sizeof(view), .rank = 2, .dims = {2, 2}, .num_elements = 4, .data = first};
    struct mqb_error error = MQB_ERROR_INIT;
    void *self = quantizer_create(dsq, &scheme, "");
    assert_int_equal(dsq->init(self, &error), MQB_ERR_ARGUMENT);
    quantizer_observe(dsq, self, &view);
    view.data = second;
    quantizer_observe(dsq, self, &view);
    quantizer_init(dsq, self);
    struct mqb_qparams q = quantizer_qparams(dsq, self);
    assert_true(fabs((double)q.scale[0] - (3.2 + 1.9) / 15.0) <= 1e-7);
    assert_int_equal(q.zero_point[0], 6); /* 1.9 / 0.34 = 5.6 */
    const float bad[] = {0.0f, INFINITY, 0.0f, 0.0f};
    view.data = bad;
    assert_int_equal(dsq->observe(self, &view, &error), MQB_ERR_NUMERIC);
    view.num_elements = 0;
    assert_int_equal(dsq->observe(self, &view, &error), MQB_ERR_ARGUMENT);
    dsq->destroy(self);
}

static void test_dsq_nan_stays_and_infinities_clip(void **state)
{
    (void)state;
    const float x[] = {NAN, INFINITY, -FLT_MAX, 0.3f}, dy[] = {1.0f, 1.0f, 1.0f, 1.0f}, scale = 0.1f, zero = 3.0f;
    float y[4], dx[4];
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 0, 4);
    for (int soft = 0; soft < 2; soft++) {
        void *self = quantizer_create(dsq, &scheme, soft ? "soft=yes" : "soft=no");
        quantizer_put(dsq, self, 1, &scale, &zero);
        quantizer_run(dsq, self, &scheme, 4, x, NULL, y);
        quantizer_run(dsq, self, &scheme, 4, x, dy, dx);
        assert_true(isnan(y[0]) && y[1] == 12.0f * scale && y[2] == -3.0f * scale);
        assert_true(dx[1] == 0.0f && dx[2] == 0.0f && dx[3] > 0.0f);
        dsq->destroy(self);
    }
}

static void test_dsq_state_round_trip_and_damage(void **state)
{
    (void)state;
    static float x[N], y[N], z[N];
    unsigned char buffer[64];
    size_t size = 0, small = 3;
    struct mqb_error error = MQB_ERROR_INIT;
    for (int i = 0; i < N; i++)
        x[i] = (float)mqb_normal(5, 3, (uint64_t)i);
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, 1, 4);
    struct mqb_tensor_view view = view_of(x);
    void *first = quantizer_create(dsq, &scheme, ""), *second = quantizer_create(dsq, &scheme, "");
    quantizer_observe(dsq, first, &view);
    quantizer_init(dsq, first);
    assert_int_equal(dsq->save(first, NULL, &size, &error), MQB_OK);
    assert_int_equal(dsq->save(first, buffer, &small, &error), MQB_ERR_ARGUMENT);
    assert_int_equal(dsq->save(first, buffer, &size, &error), MQB_OK);
    assert_int_equal(dsq->load(second, buffer, size, &error), MQB_OK);
    quantizer_run(dsq, first, &scheme, N, x, NULL, y);
    quantizer_run(dsq, second, &scheme, N, x, NULL, z);
    assert_memory_equal(y, z, sizeof(y));
    assert_int_equal(dsq->load(second, buffer, size - 1, &error), MQB_ERR_FORMAT);
    static const size_t damaged[] = {0, 4, 8, 19, 33}; /* magic, channels, qmin, sign of a scale, a zero point */
    for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
        buffer[damaged[i]] ^= 0x80;
        assert_int_equal(dsq->load(second, buffer, size, &error), MQB_ERR_FORMAT);
        buffer[damaged[i]] ^= 0x80;
    }
    dsq->destroy(first);
    dsq->destroy(second);
    dsq->destroy(NULL);
}

static void test_dsq_impossible_schemes_are_refused(void **state)
{
    (void)state;
    struct mqb_options *options;
    struct mqb_error error = MQB_ERROR_INIT;
    void *self;
    assert_int_equal(mqb_options_create(dsq->options, dsq->num_options, &options, &error), MQB_OK);
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_BIAS, 0, 8);
    assert_int_equal(dsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    scheme = scheme_of(MQB_ROLE_WEIGHT, 0, 9);
    assert_int_equal(dsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    scheme = scheme_of(MQB_ROLE_ACTIVATION, 1, 8);
    assert_int_equal(dsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_UNSUPPORTED);
    scheme = scheme_of(MQB_ROLE_WEIGHT, 0, 8);
    scheme.num_channels = 3;
    assert_int_equal(dsq->create(mqb_host_table(), &scheme, options, &self, &error), MQB_ERR_ARGUMENT);
    assert_null(self);
    mqb_options_destroy(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dsq_weight_vectors_match),
        cmocka_unit_test(test_dsq_activation_vectors_match),
        cmocka_unit_test(test_dsq_function_vectors_match),
        cmocka_unit_test(test_dsq_soft_gradient_is_that_of_the_definition),
        cmocka_unit_test(test_dsq_codes_and_outputs_agree_exactly),
        cmocka_unit_test(test_dsq_weight_range_follows_training_steps_only),
        cmocka_unit_test(test_dsq_activation_range_is_the_moving_average),
        cmocka_unit_test(test_dsq_nan_stays_and_infinities_clip),
        cmocka_unit_test(test_dsq_state_round_trip_and_damage),
        cmocka_unit_test(test_dsq_impossible_schemes_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
