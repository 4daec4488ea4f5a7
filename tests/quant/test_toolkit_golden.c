/*
 * test_toolkit_golden.c - lsq and lsqplus under compat = toolkit, and tqt under compat = vitis, against the published toolkit's
 * vectors (family 4).
 */
#include "quant/golden_tensor.h"
#include "quant/learned.h"

static float max_abs(const struct golden_tensor *tensor)
{
    float max = 0.0f;
    for (int64_t i = 0; i < tensor->size; i++)
        max = fmaxf(max, fabsf(tensor->data[i]));
    return max;
}

static struct mqb_scheme scheme_of(const json_t *item)
{
    const json_t *json = json_object_get(item, "scheme"), *shape = json_object_get(json_object_get(item, "input"), "shape");
    int role = strcmp(golden_text(item, "role"), "weight") == 0 ? MQB_ROLE_WEIGHT : MQB_ROLE_ACTIVATION;
    struct mqb_scheme scheme = learned_scheme(role, golden_int(item, "bits"), golden_int(json, "symmetric"), 1);
    assert_int_equal(scheme.qmin, golden_int(item, "quant_min"));
    assert_int_equal(scheme.qmax, golden_int(item, "quant_max"));
    scheme.pot_scale = (uint8_t)golden_int(json, "pot_scale");
    scheme.per_channel = (uint8_t)golden_int(json, "per_channel");
    if (scheme.per_channel)
        scheme.num_channels = (int32_t)json_integer_value(json_array_get(shape, 0));
    return scheme;
}

static void get(const json_t *object, const char *key, struct golden_tensor *tensor)
{
    if (!golden_tensor_get(json_object_get(object, key), tensor))
        fail_msg("no tensor %s", key);
}

/* The toolkit clips its zero point when it is used, so what it records at the end of the start is clipped too. */
static void compare(const json_t *item, const char *what, const float *got, const struct golden_tensor *want, double limit)
{
    for (int64_t i = 0; i < want->size; i++) {
        if (!(fabs((double)got[i] - (double)want->data[i]) <= limit))
            fail_msg("%s: %s[%d] = %.9g, expected %.9g", golden_text(item, "name"), what, (int)i, (double)got[i],
                     (double)want->data[i]);
    }
}

/* vitis: the scale is no parameter; log2 of its threshold is the state's last number. */
static void put_scale(const struct learned *point, float scale)
{
    unsigned char buffer[256];
    size_t size = sizeof(buffer);
    float log2_t = log2f(scale) + (float)(point->scheme.bits - 1);
    OK(point->quantizer->save(point->self, buffer, &size, &err));
    memcpy(buffer + size - sizeof(log2_t), &log2_t, sizeof(log2_t));
    OK(point->quantizer->load(point->self, buffer, size, &err));
}

static void compare_state(const json_t *item, const struct learned *point, bool vitis, bool init)
{
    const json_t *after = json_object_get(json_object_get(item, "expected"), "state_after");
    struct mqb_qparams q = learned_qparams(point);
    struct golden_tensor scale, zero;
    get(after, "scale", &scale);
    get(after, "zero_point", &zero);
    assert_int_equal(scale.size, q.num_channels);
    compare(item, "scale", vitis ? q.scale : learned_param(point, 0).value, &scale,
            init && !vitis ? 5e-7 * (double)scale.data[0] : 0);
    if (!point->scheme.symmetric)
        compare(item, "zero_point", learned_param(point, 1).value, &zero, 0);
    golden_free(&scale);
    golden_free(&zero);
}

static void compare_gradients(const json_t *item, const struct learned *point, const struct golden_tensor *x, bool vitis)
{
    const json_t *expected = json_object_get(item, "expected"), *grads = json_object_get(expected, "param_grads");
    static const char *const names[] = {"scale", "zero_point"};
    struct golden_tensor dy, dx, want;
    get(item, "grad_output", &dy);
    get(expected, "grad_input", &dx);
    float *got = malloc((size_t)x->size * sizeof(float));
    learned_run(point, x->size, x->data, dy.data, got);
    compare(item, "grad_input", got, &dx, vitis ? 0 : 1e-6 * (double)max_abs(&dx));
    for (uint32_t k = 0; k < 2 && !vitis; k++) {
        if (k == 1 && point->scheme.symmetric)
            continue;
        get(grads, names[k], &want);
        double limit = 1e-4 * (double)max_abs(&want) + 1e-6 * (double)max_abs(&dy) * sqrt((double)x->size);
        compare(item, names[k], learned_param(point, k).grad, &want, limit);
        golden_free(&want);
    }
    free(got);
    golden_free(&dy);
    golden_free(&dx);
}

static void replay_case(const json_t *item, const struct mqb_quantizer *quantizer, const char *settings, bool vitis)
{
    struct learned point = learned_create(quantizer, scheme_of(item), settings);
    bool init = strcmp(golden_text(item, "phase"), "init") == 0;
    struct golden_tensor x, y, scale, zero;
    get(item, "input", &x);
    get(json_object_get(item, "expected"), "output", &y);
    learned_calibrate(&point, x.data, x.size);
    if (!init) {
        const json_t *before = json_object_get(item, "state_before");
        get(before, "scale", &scale);
        get(before, "zero_point", &zero);
        if (vitis)
            put_scale(&point, scale.data[0]);
        else
            memcpy(learned_param(&point, 0).value, scale.data, (size_t)scale.size * sizeof(float));
        if (!point.scheme.symmetric)
            memcpy(learned_param(&point, 1).value, zero.data, (size_t)zero.size * sizeof(float));
        golden_free(&scale);
        golden_free(&zero);
    }
    float *got = malloc((size_t)x.size * sizeof(float));
    OK(learned_prepare(&point, x.data, x.size));
    learned_run(&point, x.size, x.data, NULL, got);
    compare(item, "output", got, &y, init && !vitis ? 1e-6 * (double)max_abs(&y) : 0);
    compare_state(item, &point, vitis, init);
    if (!init)
        compare_gradients(item, &point, &x, vitis);
    free(got);
    quantizer->destroy(point.self);
    golden_free(&x);
    golden_free(&y);
}

static void replay(const char *file, const char *library, const char *settings)
{
    const struct mqb_quantizer *quantizer = component(library, MQB_QUANTIZER_INTERFACE);
    json_t *root = golden_open(file);
    const json_t *cases = json_object_get(root, "cases");
    bool vitis = strcmp(library, "tqt") == 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *item = json_array_get(cases, i), *hyper = json_object_get(item, "hyper");
        char all[128];
        int candidates = vitis && strcmp(golden_text(hyper, "quant_type"), "input") == 0 ? 1 : 5;
        snprintf(all, sizeof(all), "%s", settings);
        if (vitis)
            snprintf(all, sizeof(all), "%s candidates=%d", settings, candidates);
        replay_case(item, quantizer, all, vitis);
    }
    printf("%s: %d cases equal\n", file, (int)json_array_size(cases));
    assert_true(json_array_size(cases) > 0);
    json_decref(root);
}

static void test_toolkit_lsq_vectors_match(void **state)
{
    (void)state;
    replay("fam4_lsq.json", "lsq", "compat=toolkit weight_init=lsq act_init=lsq");
}

static void test_toolkit_lsqplus_vectors_match(void **state)
{
    (void)state;
    replay("fam4_lsqplus.json", "lsqplus", "compat=toolkit weight_init=lsqplus act_init=lsqplus");
}

static void test_toolkit_tqt_vectors_match(void **state)
{
    (void)state;
    replay("fam4_tqt.json", "tqt", "compat=vitis");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_toolkit_lsq_vectors_match),
        cmocka_unit_test(test_toolkit_lsqplus_vectors_match),
        cmocka_unit_test(test_toolkit_tqt_vectors_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
