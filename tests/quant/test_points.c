/*
 * test_points.c - schemes from a backend's rules, and the instances made for a graph's quantization points.
 */
#include "quant/quant.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "graph/op.h"

static const struct mqb_quantizer *lsq;
static void *library;

static int setup(void **state)
{
    (void)state;
    library = dlopen(MQB_PLUGIN_DIR "/lsq.so", RTLD_NOW | RTLD_LOCAL);
    const struct mqb_plugin_entry *entry = library ? dlsym(library, MQB_PLUGIN_SYMBOL) : NULL;
    lsq = entry ? entry->components[0].vtable : NULL;
    return lsq ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dlclose(library);
}

static struct mqb_backend_rules rules_of(bool symmetric, bool per_channel, bool is_signed, bool narrow)
{
    struct mqb_backend_rules rules = {.struct_size = sizeof(rules)};
    rules.weight.symmetric = rules.activation.symmetric = symmetric;
    rules.weight.per_channel = per_channel;
    rules.weight_signed = rules.activation_signed = is_signed;
    rules.weight_narrow = narrow;
    return rules;
}

static void test_scheme_make_ranges_follow_rules(void **state)
{
    (void)state;
    struct mqb_scheme scheme;
    struct mqb_backend_rules rules = rules_of(true, true, true, true);
    rules.activation.adaptive_sign = 1;
    rules.weight.pot_scale = 1;
    mqb_scheme_make(&rules, MQB_ROLE_WEIGHT, 8, 16, &scheme);
    assert_int_equal(scheme.qmin, -127);
    assert_int_equal(scheme.qmax, 127);
    assert_int_equal(scheme.num_channels, 16);
    assert_int_equal(scheme.bits, 8);
    assert_true(scheme.pot_scale && scheme.per_channel && scheme.symmetric && !scheme.adaptive_sign);
    mqb_scheme_make(&rules, MQB_ROLE_ACTIVATION, 4, 16, &scheme);
    assert_int_equal(scheme.qmin, -8);
    assert_int_equal(scheme.qmax, 7);
    assert_int_equal(scheme.num_channels, 1);
    assert_int_equal(scheme.role, MQB_ROLE_ACTIVATION);
    assert_true(scheme.adaptive_sign);
    rules = rules_of(false, false, false, false);
    mqb_scheme_make(&rules, MQB_ROLE_WEIGHT, 2, 16, &scheme);
    assert_int_equal(scheme.qmin, 0);
    assert_int_equal(scheme.qmax, 3);
    assert_int_equal(scheme.num_channels, 1);
    mqb_scheme_make(&rules, MQB_ROLE_ACTIVATION, 8, 1, &scheme);
    assert_int_equal(scheme.qmax, 255);
}

/* x -> FakeQuantize(io) -> Gemm(FakeQuantize(w)) */
static struct mqb_graph *small_graph(mqb_node_id *activation, mqb_node_id *weight)
{
    const struct mqb_graph_api *api = &mqb_graph_calls;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph;
    const int64_t dims[2] = {3, 4};
    float numbers[12] = {0};
    mqb_value_id x, w, inputs[2];
    mqb_node_id gemm;
    assert_int_equal(mqb_graph_create(&mqb_ops, &graph, &error), MQB_OK);
    assert_int_equal(mqb_graph_add_input(graph, "x", 2, (const int64_t[]){MQB_BATCH, 4}, &x, &error), MQB_OK);
    assert_int_equal(api->add_value(graph, MQB_VALUE_PARAM, "w", 2, dims, numbers, &w, &error), MQB_OK);
    assert_int_equal(api->add_node(graph, "FakeQuantize", "x_q", &x, 1, activation, &error), MQB_OK);
    assert_int_equal(api->set_attr_int(graph, *activation, "role", MQB_ROLE_ACTIVATION, &error), MQB_OK);
    assert_int_equal(api->set_attr_int(graph, *activation, "io", 1, &error), MQB_OK);
    assert_int_equal(api->add_node(graph, "FakeQuantize", "w_q", &w, 1, weight, &error), MQB_OK);
    assert_int_equal(api->set_attr_int(graph, *weight, "role", MQB_ROLE_WEIGHT, &error), MQB_OK);
    inputs[0] = api->output(graph, *activation);
    inputs[1] = api->output(graph, *weight);
    assert_int_equal(api->add_node(graph, "Gemm", "fc", inputs, 2, &gemm, &error), MQB_OK);
    assert_int_equal(mqb_graph_set_output(graph, api->output(graph, gemm), &error), MQB_OK);
    if (mqb_graph_infer(graph, &error) != MQB_OK)
        fail_msg("%s", error.text);
    return graph;
}

static struct mqb_points_config config_of(const struct mqb_backend_rules *rules, const struct mqb_options *options)
{
    struct mqb_points_config config = {
        .host = mqb_host_table(), .rules = rules, .weight_bits = 4, .activation_bits = 3, .io_bits = 8};
    config.weight = (struct mqb_quantizer_choice){"lsq", lsq, options};
    config.activation = config.weight;
    return config;
}

static struct mqb_options *lsq_options(void)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_options *options;
    assert_int_equal(mqb_options_create(lsq->options, lsq->num_options, &options, &error), MQB_OK);
    return options;
}

static void test_points_create_attaches_instances(void **state)
{
    (void)state;
    mqb_node_id activation, weight;
    struct mqb_graph *graph = small_graph(&activation, &weight);
    struct mqb_options *options = lsq_options();
    struct mqb_backend_rules rules = rules_of(true, true, true, false);
    struct mqb_points_config config = config_of(&rules, options);
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_points *points;
    if (mqb_points_create(graph, &config, &points, &error) != MQB_OK)
        fail_msg("%s", error.text);
    assert_int_equal(points->num_points, 2);
    const struct mqb_point *a = mqb_points_find(points, activation), *w = mqb_points_find(points, weight);
    assert_ptr_equal(graph->nodes[activation].point, a);
    assert_ptr_equal(graph->nodes[weight].point, w);
    assert_string_equal(a->name, "x");
    assert_string_equal(w->name, "w");
    assert_int_equal(a->scheme.bits, 8); /* the io end */
    assert_int_equal(a->scheme.num_channels, 1);
    assert_int_equal(w->scheme.bits, 4);
    assert_int_equal(w->scheme.num_channels, 3);
    assert_int_equal(w->mode, MQB_POINT_ON);
    mqb_points_set_mode(points, MQB_POINT_OFF);
    assert_int_equal(a->mode, MQB_POINT_OFF);
    assert_null(mqb_points_find(points, 999));
    mqb_points_destroy(points);

    config.io_bits = 0;
    assert_int_equal(mqb_points_create(graph, &config, &points, &error), MQB_OK);
    assert_int_equal(mqb_points_find(points, activation)->scheme.bits, 3);
    mqb_points_destroy(points);
    mqb_points_destroy(NULL);
    mqb_options_destroy(options);
    mqb_graph_destroy(graph);
}

static mqb_status refuse_two_bits(const struct mqb_host *host, const struct mqb_scheme *scheme,
                                  const struct mqb_options *options, void **self, struct mqb_error *error)
{
    if (scheme->bits == 2)
        return (host->fail)(error, MQB_ERR_UNSUPPORTED, "two bits leave no level for me");
    return lsq->create(host, scheme, options, self, error);
}

static void test_points_create_refusal_names_tensor_and_attaches_nothing(void **state)
{
    (void)state;
    mqb_node_id activation, weight;
    struct mqb_graph *graph = small_graph(&activation, &weight);
    struct mqb_options *options = lsq_options();
    struct mqb_backend_rules rules = rules_of(false, false, false, false);
    struct mqb_points_config config = config_of(&rules, options);
    struct mqb_quantizer picky = *lsq, weights_only = *lsq;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_points *points;
    picky.create = refuse_two_bits;
    config.weight.vtable = &picky;
    config.weight.id = "picky";
    config.weight_bits = 2;
    assert_int_equal(mqb_points_create(graph, &config, &points, &error), MQB_ERR_UNSUPPORTED);
    assert_null(points);
    assert_non_null(strstr(error.text, "'w'"));
    assert_non_null(strstr(error.text, "picky"));
    assert_non_null(strstr(error.text, "two bits leave no level"));
    assert_null(graph->nodes[activation].point);
    assert_null(graph->nodes[weight].point);

    weights_only.flags = MQB_QUANTIZER_WEIGHTS;
    config.activation.vtable = &weights_only;
    assert_int_equal(mqb_points_create(graph, &config, &points, &error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "activations"));

    config = config_of(&rules, options);
    config.weight_bits = 9;
    assert_int_equal(mqb_points_create(graph, &config, &points, &error), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(error.text, "9 bits"));
    config = config_of(&rules, options);
    assert_int_equal(mqb_graph_calls.set_attr_int(graph, weight, "role", 7, &error), MQB_OK);
    assert_int_equal(mqb_points_create(graph, &config, &points, &error), MQB_ERR_ARGUMENT);
    assert_int_equal(mqb_graph_calls.set_attr_int(graph, activation, "role", MQB_ROLE_WEIGHT, &error), MQB_OK);
    assert_int_equal(mqb_points_create(graph, &config, &points, &error), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(error.text, "not a weight"));
    mqb_options_destroy(options);
    mqb_graph_destroy(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scheme_make_ranges_follow_rules),
        cmocka_unit_test(test_points_create_attaches_instances),
        cmocka_unit_test(test_points_create_refusal_names_tensor_and_attaches_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
