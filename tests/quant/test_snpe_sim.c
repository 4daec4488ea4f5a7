/*
 * test_snpe_sim.c - the SNPE backend: its rules, what it refuses, and the encodings files read back by another JSON library.
 */
#include "quant/quant.h"

#include "graph/op.h"

#include <dlfcn.h>
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct mqb_backend *snpe;
static const struct mqb_graph_api *const api = &mqb_graph_calls;
static void *library;

static int setup(void **state)
{
    (void)state;
    library = dlopen(MQB_PLUGIN_DIR "/snpe_sim.so", RTLD_NOW | RTLD_LOCAL);
    const struct mqb_plugin_entry *entry = library ? dlsym(library, MQB_PLUGIN_SYMBOL) : NULL;
    snpe = entry ? entry->components[0].vtable : NULL;
    return snpe ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dlclose(library);
}

static struct mqb_options *options_of(const char *profile)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_options *options;
    assert_int_equal(mqb_options_create(snpe->options, snpe->num_options, &options, &error), MQB_OK);
    if (profile)
        assert_int_equal(mqb_options_set(options, "profile", profile, "test", &error), MQB_OK);
    return options;
}

static void test_snpe_rules_state_scheme_and_contract(void **state)
{
    (void)state;
    for (int fx = 0; fx < 2; fx++) {
        struct mqb_options *options = options_of(fx ? "fx" : NULL);
        struct mqb_backend_rules rules = {.struct_size = sizeof(rules)};
        struct mqb_error error = MQB_ERROR_INIT;
        struct mqb_scheme scheme;
        assert_int_equal(snpe->rules(mqb_host_table(), options, &rules, &error), MQB_OK);
        assert_int_equal(rules.deployable, 1);
        assert_int_equal(rules.default_bn_fold, 4);
        assert_int_equal(rules.scope, MQB_SCOPE_WHOLE_GRAPH);
        assert_string_equal(rules.passes[0], "bn_fold");
        assert_string_equal(rules.passes[1], "place_graph3");
        assert_null(rules.passes[2]);
        for (int role = MQB_ROLE_WEIGHT; role <= MQB_ROLE_ACTIVATION; role++) {
            mqb_scheme_make(&rules, role, 8, 64, &scheme);
            assert_int_equal(scheme.qmin, 0);
            assert_int_equal(scheme.qmax, 255);
            assert_int_equal(scheme.num_channels, 1);
            assert_false(scheme.symmetric || scheme.per_channel || scheme.pot_scale || scheme.adaptive_sign);
        }
        assert_string_equal(rules.contract.profile, fx ? "fx" : "aimet");
        assert_int_equal(rules.contract.multiplier, fx ? MQB_MULTIPLIER_Q31 : MQB_MULTIPLIER_F64);
        assert_int_equal(rules.contract.certainty, MQB_CERTAINTY_BRACKETED);
        assert_int_equal(rules.contract.bias_form, MQB_BIAS_I32);
        mqb_options_destroy(options);
    }
}

/* x -> Conv -> Relu -> GlobalAveragePool -> Flatten -> Gemm */
static struct mqb_graph *small_graph(void)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph;
    const int64_t dims[] = {MQB_BATCH, 3, 4, 4}, conv_dims[] = {2, 3, 1, 1}, fc_dims[] = {5, 2};
    mqb_value_id x, inputs[3];
    mqb_node_id id;
    assert_int_equal(mqb_graph_create(&mqb_ops, &graph, &error), MQB_OK);
    assert_int_equal(mqb_graph_add_input(graph, "x", 4, dims, &x, &error), MQB_OK);
    inputs[0] = x;
    assert_int_equal(api->add_value(graph, MQB_VALUE_PARAM, "w \"1\"", 4, conv_dims, NULL, &inputs[1], &error), MQB_OK);
    assert_int_equal(api->add_value(graph, MQB_VALUE_PARAM, "b1", 1, conv_dims, NULL, &inputs[2], &error), MQB_OK);
    assert_int_equal(api->add_node(graph, "Conv", "conv", inputs, 3, &id, &error), MQB_OK);
    static const char *const chain[][2] = {{"Relu", "act"}, {"GlobalAveragePool", "pool"}, {"Flatten", "flat"}};
    for (int i = 0; i < 3; i++) {
        inputs[0] = api->output(graph, id);
        assert_int_equal(api->add_node(graph, chain[i][0], chain[i][1], inputs, 1, &id, &error), MQB_OK);
    }
    inputs[0] = api->output(graph, id);
    assert_int_equal(api->add_value(graph, MQB_VALUE_PARAM, "w2", 2, fc_dims, NULL, &inputs[1], &error), MQB_OK);
    assert_int_equal(api->add_node(graph, "Gemm", "fc", inputs, 2, &id, &error), MQB_OK);
    assert_int_equal(mqb_graph_set_output(graph, api->output(graph, id), &error), MQB_OK);
    if (mqb_graph_infer(graph, &error) != MQB_OK)
        fail_msg("%s", error.text);
    return graph;
}

enum { X, W1, B1, ACT, W2, NUM_TENSORS };
static const float scales[NUM_TENSORS] = {0.0123456789f, 0.1f, 0.00123456789f, 0.3f, 1e-4f};
static const int32_t zero_points[NUM_TENSORS] = {117, 3, 0, 0, 128};

static void fill_tensors(struct mqb_export_tensor *tensors)
{
    static const char *const names[NUM_TENSORS] = {"x", "w \"1\"", "b1", "act", "w2"};
    static const int32_t bits[NUM_TENSORS] = {8, 3, 32, 4, 8};
    for (int i = 0; i < NUM_TENSORS; i++) {
        tensors[i] = (struct mqb_export_tensor){.struct_size = sizeof(tensors[i]), .name = names[i], .bits = bits[i]};
        tensors[i].role = i == X || i == ACT ? MQB_ROLE_ACTIVATION : i == B1 ? MQB_ROLE_BIAS : MQB_ROLE_WEIGHT;
        tensors[i].qparams.struct_size = sizeof(tensors[i].qparams);
        tensors[i].qparams.num_channels = 1;
        tensors[i].qparams.scale = &scales[i];
        tensors[i].qparams.zero_point = &zero_points[i];
        tensors[i].qparams.qmin = i == B1 ? INT32_MIN : 0;
        tensors[i].qparams.qmax = i == B1 ? INT32_MAX : (1 << bits[i]) - 1;
    }
}

struct written {
    json_t *old_form, *new_form;
    int num_onnx;
};

static mqb_status write_text(const struct mqb_export *request, const char *name, const char *text, size_t length,
                             struct mqb_error *error)
{
    struct written *written = request->engine;
    json_error_t json_error;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &json_error);
    if (!root)
        return mqb_fail(error, MQB_ERR_FORMAT, "line %d: %s", json_error.line, json_error.text);
    if (strcmp(name, "net.snpe.0.6.1.encodings") == 0)
        written->old_form = root;
    else if (strcmp(name, "net.snpe.1.0.0.encodings") == 0)
        written->new_form = root;
    else
        return mqb_fail(error, MQB_ERR_IO, "a file called %s", name);
    return MQB_OK;
}

static mqb_status write_onnx(const struct mqb_export *request, const char *name, struct mqb_error *error)
{
    struct written *written = request->engine;
    written->num_onnx += strcmp(name, "net.snpe.onnx") == 0;
    (void)error;
    return MQB_OK;
}

static mqb_status export(struct mqb_graph *graph, struct mqb_export_tensor *tensors, uint32_t num_tensors,
                         struct written *written, struct mqb_error *error)
{
    struct mqb_options *options = options_of(NULL);
    struct mqb_export request = {.struct_size = sizeof(request),
                                 .num_tensors = num_tensors,
                                 .tensors = tensors,
                                 .dir = "/nowhere",
                                 .model_name = "net",
                                 .graph = graph,
                                 .write_text = write_text,
                                 .write_onnx = write_onnx,
                                 .engine = written};
    memset(written, 0, sizeof(*written));
    mqb_status status = snpe->export_files(mqb_host_table(), options, &request, error);
    mqb_options_destroy(options);
    return status;
}

static void check_old(const json_t *root, const char *table, const char *name, int tensor, int bits, double offset)
{
    const json_t *list = json_object_get(json_object_get(root, table), name);
    assert_int_equal(json_array_size(list), 1);
    const json_t *e = json_array_get(list, 0);
    assert_int_equal(json_integer_value(json_object_get(e, "bitwidth")), bits);
    assert_true(json_real_value(json_object_get(e, "scale")) == (double)scales[tensor]);
    assert_true((double)json_integer_value(json_object_get(e, "offset")) == offset);
    double min = json_number_value(json_object_get(e, "min")), max = json_number_value(json_object_get(e, "max"));
    assert_true(min == (double)scales[tensor] * offset);
    assert_true(fabs((max - min) / (double)scales[tensor] - (ldexp(1, bits) - 1)) < 1e-6);
    assert_string_equal(json_string_value(json_object_get(e, "dtype")), "int");
}

static void check_new(const json_t *root, const char *table, const char *name, int tensor, int bits, double offset)
{
    const json_t *list = json_object_get(root, table);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *e = json_array_get(list, i);
        if (strcmp(json_string_value(json_object_get(e, "name")), name) != 0)
            continue;
        assert_int_equal(json_integer_value(json_object_get(e, "bw")), bits);
        assert_true(json_real_value(json_array_get(json_object_get(e, "scale"), 0)) == (double)scales[tensor]);
        assert_true((double)json_integer_value(json_array_get(json_object_get(e, "offset"), 0)) == offset);
        assert_string_equal(json_string_value(json_object_get(e, "enc_type")), "PER_TENSOR");
        assert_string_equal(json_string_value(json_object_get(e, "dtype")), "INT");
        return;
    }
    fail_msg("no entry %s in %s", name, table);
}

static void test_snpe_export_is_complete_and_reads_back(void **state)
{
    (void)state;
    struct mqb_graph *graph = small_graph();
    struct mqb_export_tensor tensors[NUM_TENSORS];
    struct mqb_error error = MQB_ERROR_INIT;
    struct written written;
    fill_tensors(tensors);
    if (export(graph, tensors, NUM_TENSORS, &written, &error) != MQB_OK)
        fail_msg("%s", error.text);
    assert_int_equal(written.num_onnx, 1);
    for (int i = 0; i < 2; i++) {
        const json_t *root = i ? written.new_form : written.old_form;
        void (*check)(const json_t *, const char *, const char *, int, int, double) = i ? check_new : check_old;
        assert_string_equal(json_string_value(json_object_get(root, "version")), i ? "1.0.0" : "0.6.1");
        check(root, "activation_encodings", "x", X, 8, -117);
        check(root, "activation_encodings", "act", ACT, 4, 0);
        check(root, "activation_encodings", "pool", ACT, 4, 0); /* hands its input's codes on */
        check(root, "activation_encodings", "flat", ACT, 4, 0);
        check(root, "param_encodings", "w \"1\"", W1, 4, -3); /* three bits in the smallest container there is */
        check(root, "param_encodings", "w2", W2, 8, -128);
        check(root, "param_encodings", "b1", B1, 32, -2147483648.0);
        const json_t *activations = json_object_get(root, "activation_encodings"),
                     *params = json_object_get(root, "param_encodings");
        assert_int_equal(i ? json_array_size(activations) : json_object_size(activations), 4);
        assert_int_equal(i ? json_array_size(params) : json_object_size(params), 3);
    }
    json_decref(written.old_form);
    json_decref(written.new_form);
    mqb_graph_destroy(graph);
}

static void test_snpe_export_hole_names_tensor(void **state)
{
    (void)state;
    static const char *const names[] = {"\"x\"", "w \"1\"", "\"b1\"", "\"act\"", "\"w2\""};
    struct mqb_graph *graph = small_graph();
    for (int missing = 0; missing < NUM_TENSORS; missing++) {
        struct mqb_export_tensor tensors[NUM_TENSORS];
        struct mqb_error error = MQB_ERROR_INIT;
        struct written written;
        fill_tensors(tensors);
        memmove(&tensors[missing], &tensors[missing + 1], (size_t)(NUM_TENSORS - 1 - missing) * sizeof(tensors[0]));
        assert_int_equal(export(graph, tensors, NUM_TENSORS - 1, &written, &error), MQB_ERR_UNSUPPORTED);
        assert_non_null(strstr(error.text, names[missing]));
        assert_non_null(strstr(error.text, "hole"));
        assert_true(!written.old_form && !written.new_form && !written.num_onnx);
    }
    mqb_graph_destroy(graph);
}

static void test_snpe_export_what_format_cannot_say_is_refused(void **state)
{
    (void)state;
    struct mqb_graph *graph = small_graph();
    struct mqb_export_tensor tensors[NUM_TENSORS];
    struct mqb_error error = MQB_ERROR_INIT;
    struct written written;
    fill_tensors(tensors);
    tensors[ACT].bits = 3;
    assert_int_equal(export(graph, tensors, NUM_TENSORS, &written, &error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "3 bits"));
    fill_tensors(tensors);
    tensors[W2].qparams.num_channels = 5;
    assert_int_equal(export(graph, tensors, NUM_TENSORS, &written, &error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "w2"));
    fill_tensors(tensors);
    tensors[X].qparams.qmin = -128;
    assert_int_equal(export(graph, tensors, NUM_TENSORS, &written, &error), MQB_ERR_UNSUPPORTED);
    mqb_graph_destroy(graph);
}

static void test_snpe_judge_refuses_impossible_points(void **state)
{
    (void)state;
    static const float bad[] = {0.0f, 1e-9f, 1e9f, NAN, INFINITY};
    struct mqb_graph *graph = small_graph();
    struct mqb_options *options = options_of(NULL);
    struct mqb_error error = MQB_ERROR_INIT;
    float scale = 0.1f;
    int32_t zero = 7;
    const struct mqb_qparams good = {
        .struct_size = sizeof(good), .num_channels = 1, .scale = &scale, .zero_point = &zero, .qmax = 255};
    struct mqb_qparams q = good;
    assert_int_equal(snpe->judge(mqb_host_table(), options, graph, graph->input, &q, &error), MQB_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        scale = bad[i];
        assert_int_equal(snpe->judge(mqb_host_table(), options, graph, graph->input, &q, &error), MQB_ERR_UNSUPPORTED);
        assert_non_null(strstr(error.text, "\"x\""));
    }
    scale = 0.1f;
    zero = 256;
    assert_int_equal(snpe->judge(mqb_host_table(), options, graph, graph->input, &q, &error), MQB_ERR_UNSUPPORTED);
    zero = 7;
    q.num_channels = 2;
    assert_int_equal(snpe->judge(mqb_host_table(), options, graph, graph->input, &q, &error), MQB_ERR_UNSUPPORTED);
    q = good;
    q.num_levels = 4;
    assert_int_equal(snpe->judge(mqb_host_table(), options, graph, graph->input, &q, &error), MQB_ERR_UNSUPPORTED);
    q = good;
    q.qmin = -128;
    assert_int_equal(snpe->judge(mqb_host_table(), options, graph, graph->input, &q, &error), MQB_ERR_UNSUPPORTED);
    mqb_options_destroy(options);
    mqb_graph_destroy(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snpe_rules_state_scheme_and_contract),
        cmocka_unit_test(test_snpe_export_is_complete_and_reads_back),
        cmocka_unit_test(test_snpe_export_hole_names_tensor),
        cmocka_unit_test(test_snpe_export_what_format_cannot_say_is_refused),
        cmocka_unit_test(test_snpe_judge_refuses_impossible_points),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
