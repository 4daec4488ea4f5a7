/* test_rehearse.c - what cannot run in integers whatever is learned is found out before calibration; what can is let through.
 */
#include "common/support.h"
#include "graph/op.h"
#include "quant/quant.h"

static const struct mqb_backend_rules rules = {
    .struct_size = sizeof rules,
    .deployable = 1,
    .weight = {.role = MQB_ROLE_WEIGHT, .symmetric = 1},
    .activation = {.role = MQB_ROLE_ACTIVATION},
    .weight_signed = 1,
    .contract = {.struct_size = sizeof(struct mqb_contract), .multiplier = MQB_MULTIPLIER_F64, .profile = "test"},
};

/* A ResNet-20 after the named passes, each with its defaults. */
static struct mqb_graph *placed(const char *const *passes)
{
    struct mqb_graph *graph;
    OK(mqb_model_build("resnet20", &mqb_ops, 3, 32, 32, 10, 1, &graph, &err));
    for (; *passes != NULL; passes++) {
        const struct mqb_pass *pass = component(*passes, MQB_PASS_INTERFACE);
        struct mqb_options *options;
        int32_t edits;
        OK(mqb_options_create(pass->options, pass->num_options, &options, &err));
        OK(pass->run(mqb_host_table(), graph, options, &edits, &err));
        OK(mqb_graph_infer(graph, &err));
        mqb_options_destroy(options);
    }
    return graph;
}

static mqb_status rehearse(const struct mqb_backend_rules *r, const char *const *passes)
{
    const struct mqb_points_config config = {
        .host = mqb_host_table(), .rules = r, .weight_bits = 8, .activation_bits = 8, .io_bits = 8};
    struct mqb_graph *graph = placed(passes);
    int32_t num_values = graph->num_values, num_nodes = graph->num_ordered;
    mqb_status status = mqb_program_rehearse(graph, &config, &err);
    assert_int_equal(graph->num_values, num_values); /* it works on a copy */
    assert_int_equal(graph->num_ordered, num_nodes);
    for (int32_t i = 0; i < graph->num_ordered; i++)
        assert_null(graph->nodes[graph->order[i]].point);
    mqb_graph_destroy(graph);
    return status;
}

static void test_rehearse_complete_points_let_through(void **state)
{
    (void)state;
    static const char *const passes[] = {"pass_bn_fold", "pass_place_graph3", NULL};
    static const char *const fused[] = {"pass_bn_fold", "pass_place_graph2", NULL};
    static const char *const layers[] = {"pass_bn_fold", "pass_place_graph1", NULL};
    struct mqb_backend_rules other = rules;
    OK(rehearse(&rules, passes));
    OK(rehearse(&rules, fused));
    other.weight.per_channel = other.weight.pot_scale = other.activation.symmetric = other.activation.pot_scale = 1;
    other.activation_signed = 1;
    other.contract.multiplier = MQB_MULTIPLIER_POT;
    OK(rehearse(&other, passes));
    other = rules;
    other.scope = MQB_SCOPE_CONV_AND_LINEAR;
    other.contract.intermediate = MQB_INTERMEDIATE_F16;
    OK(rehearse(&other, layers));
}

static void assert_refused(const char *const *passes, const char *part)
{
    assert_int_equal(rehearse(&rules, passes), MQB_ERR_UNSUPPORTED);
    if (strstr(err.text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void test_rehearse_missing_points_named(void **state)
{
    (void)state;
    static const char *const none[] = {"pass_bn_fold", NULL}, *const layers[] = {"pass_bn_fold", "pass_place_graph1", NULL};
    assert_refused(none, "the network's input 'input' has no quantization point");
    assert_refused(layers, "quantized for '/layer1/layer1.0/conv1/Conv' alone");
}

/* The linear layer has lost its weight's point. */
static void test_rehearse_layer_without_weight_point_named(void **state)
{
    (void)state;
    static const char *const passes[] = {"pass_bn_fold", "pass_place_graph3", NULL};
    const struct mqb_points_config config = {.host = mqb_host_table(), .rules = &rules, .weight_bits = 8, .activation_bits = 8};
    struct mqb_graph *graph = placed(passes);
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        mqb_node_id id = graph->order[i];
        const struct mqb_node *node = &graph->nodes[id];
        if (strcmp(graph->values[node->inputs[0]].name, "linear.weight") != 0)
            continue;
        OK(mqb_graph_calls.replace_uses(graph, node->output, node->inputs[0], MQB_NONE, &err));
        OK(mqb_graph_calls.remove_node(graph, id, &err));
        break;
    }
    OK(mqb_graph_infer(graph, &err));
    assert_int_equal(mqb_program_rehearse(graph, &config, &err), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "its weight 'linear.weight' has no quantization point"));
    assert_non_null(strstr(err.text, "(Gemm)"));
    mqb_graph_destroy(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rehearse_complete_points_let_through),
        cmocka_unit_test(test_rehearse_missing_points_named),
        cmocka_unit_test(test_rehearse_layer_without_weight_point_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
