/*
 * test_tensorrt_sim.c - the TensorRT backend: rules, verdicts, and its files read back into a network that gives the same
 * logits.
 */
#include "export_check.h"

#include <float.h>
#include <jansson.h>

/* conv + ReLU, conv + Add + ReLU, max pooling, depthwise + ReLU6, mean, linear. */
static void build(struct hand_net *net, int32_t qmin, int32_t low, int32_t high)
{
    static const int64_t even[4] = {1, 1, 1, 1};
    hand_create(net, 31);
    mqb_value_id x = hand_input(net, 3, 9, 8);
    hand_point(net, x, 0.0201f, 0, -128, 127);
    mqb_value_id a = unary(net, "Relu", "relu1", signed_conv(net, "conv1", x, 6, 3, 1, qmin));
    hand_point(net, a, 0.0312f, 0, low, high);
    mqb_value_id sum = add_binary(net, "Add", "sum", signed_conv(net, "conv2", a, 6, 3, 1, qmin), a);
    sum = unary(net, "Relu", "relu2", sum);
    hand_point(net, sum, 0.0412f, 0, low, high);
    mqb_value_id pool = add_pool(net, "MaxPool", "max", sum, 3, 2, even, 0);
    mqb_value_id d = signed_conv(net, "depthwise", pool, 6, 3, 6, qmin);
    mqb_node_id clip = hand_node(net, "Clip", "relu6", 1, &d);
    hand_attr_real(net, clip, "min", 0);
    hand_attr_real(net, clip, "max", 6);
    hand_infer(net);
    hand_point(net, hand_out(net, clip), 0.0123f, 0, low, high);
    mqb_value_id mean = unary(net, "GlobalAveragePool", "mean", hand_out(net, clip));
    signed_linear(net, "fc", unary(net, "Flatten", "flatten", mean), 5, true);
}

static void test_tensorrt_rules_state_scheme_and_contract(void **state)
{
    (void)state;
    static const char *const ties[] = {"rne", "rha", "rhu"};
    static const int roundings[] = {MQB_ROUND_RNE, MQB_ROUND_RHA, MQB_ROUND_RHU};
    struct mqb_scheme scheme;
    struct exported e;
    for (int i = 0; i < 3; i++) {
        exported_rules(&e, "tensorrt_sim", "ties", ties[i]);
        assert_int_equal(e.rules.deployable, 1);
        assert_int_equal(e.rules.default_bn_fold, 4);
        assert_string_equal(e.rules.passes[1], "place_graph2");
        mqb_scheme_make(&e.rules, MQB_ROLE_WEIGHT, 8, 64, &scheme);
        assert_true(scheme.qmin == -127 && scheme.qmax == 127 && scheme.num_channels == 64 && scheme.symmetric);
        mqb_scheme_make(&e.rules, MQB_ROLE_WEIGHT, 4, 64, &scheme);
        assert_true(scheme.qmin == -7 && scheme.qmax == 7);
        mqb_scheme_make(&e.rules, MQB_ROLE_ACTIVATION, 8, 64, &scheme);
        assert_true(scheme.qmin == -128 && scheme.qmax == 127 && scheme.num_channels == 1 && scheme.symmetric);
        assert_int_equal(e.rules.contract.rounding, roundings[i]);
        assert_int_equal(e.rules.contract.bias_form, MQB_BIAS_F32);
        assert_int_equal(e.rules.contract.certainty, MQB_CERTAINTY_BRACKETED);
        exported_free(&e);
    }
    exported_rules(&e, "tensorrt_sim", "full_range", "yes");
    mqb_scheme_make(&e.rules, MQB_ROLE_WEIGHT, 8, 64, &scheme);
    assert_true(scheme.qmin == -128 && scheme.qmax == 127);
    exported_free(&e);
}

static void test_tensorrt_judge_names_tensor_and_reason(void **state)
{
    (void)state;
    static const struct {
        float scale;
        int32_t z, qmin, qmax, levels;
        const char *word;
    } cases[] = {
        {0.1f, 0, -128, 127, 0, NULL},      {0.1f, 1, -128, 127, 0, "zero point 1"}, {0.1f, 0, 0, 255, 0, "signed byte"},
        {0.0f, 0, -128, 127, 0, "scale 0"}, {1e38f, 0, -128, 127, 0, "diverged"},    {1e-40f, 0, -128, 127, 0, "dead"},
        {0.1f, 0, -8, 7, 16, "levels"},
    };
    struct hand_net make, *net = &make;
    struct exported e;
    build(net, -127, -128, 127);
    exported_rules(&e, "tensorrt_sim", NULL, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mqb_qparams q = {.struct_size = sizeof(q),
                                .num_channels = 1,
                                .scale = &cases[i].scale,
                                .zero_point = &cases[i].z,
                                .qmin = cases[i].qmin,
                                .qmax = cases[i].qmax,
                                .num_levels = cases[i].levels};
        mqb_status status = e.backend->judge(mqb_host_table(), e.options, net->graph, net->graph->input, &q, &net->error);
        assert_int_equal(status, cases[i].word ? MQB_ERR_UNSUPPORTED : MQB_OK);
        if (cases[i].word && (!strstr(net->error.text, cases[i].word) || !strstr(net->error.text, "input")))
            fail_msg("'%s' does not say '%s'", net->error.text, cases[i].word);
    }
    exported_free(&e);
    hand_destroy(net);
}

/* ---- files ---- */

/* Scales by name from the cache: what TensorRT does with it. */
static double cache_scale(const struct exported *e, const char *tensor)
{
    char line[512];
    double scale = -1;
    FILE *file = fopen(exported_path(e, "net.trt.cache"), "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof(line), file));
    assert_string_equal(line, "TRT-8401-EntropyCalibration2\n");
    while (fgets(line, sizeof(line), file)) {
        char *colon = strrchr(line, ':');
        assert_non_null(colon);
        *colon = 0;
        if (strcmp(line, tensor) != 0)
            continue;
        uint32_t bits = (uint32_t)strtoul(colon + 1, NULL, 16);
        float value;
        memcpy(&value, &bits, sizeof(value));
        scale = (double)value;
    }
    fclose(file);
    return scale;
}

static void rebuilt_layers(struct hand_net *net, const json_t *weights)
{
    static const char *const layers[] = {"conv1", "conv2", "depthwise", "fc"};
    for (int i = 0; i < 4; i++) {
        const struct mqb_node *node = rebuilt_node(net, layers[i]);
        const json_t *list = json_object_get(weights, net->graph->values[node->inputs[1]].name);
        float scale[16];
        assert_int_equal(json_array_size(list), net->graph->values[node->inputs[1]].dims[0]);
        for (size_t c = 0; c < json_array_size(list); c++)
            scale[c] = (float)(json_number_value(json_array_get(list, c)) / 127.0);
        rebuilt_weight(net, node->inputs[1], (int32_t)json_array_size(list), scale, -127);
    }
}

static void test_tensorrt_cache_and_ranges_rebuild_the_network(void **state)
{
    (void)state;
    static const char *const points[] = {"input", "relu1", "relu2", "relu6"}, *const carried[] = {"max", "mean", "flatten"};
    struct hand_net make, *net = &make, again, *read = &again;
    struct exported e;
    json_error_t error;
    build(net, -127, -128, 127);
    exported_rules(&e, "tensorrt_sim", NULL, NULL);
    HAND_OK(exported_write(&e, net));
    assert_int_equal(e.num_files, 4);
    json_t *root = json_load_file(exported_path(&e, "net.trt.ranges.json"), JSON_REJECT_DUPLICATES, &error);
    json_t *ranges = json_object_get(json_object_get(root, "tensorrt"), "blob_range");
    assert_int_equal(json_object_size(ranges), 7);
    rebuilt_open(read, &e, "net.trt.onnx");
    for (int i = 0; i < 4; i++) {
        mqb_value_id value = mqb_graph_find_value(read->graph, points[i]);
        const struct mqb_frozen *f = mqb_deploy_find(&net->deploy, mqb_graph_find_value(net->graph, points[i]));
        float scale = (float)cache_scale(&e, points[i]);
        assert_float_equal(scale, f->scale[0], 0);
        assert_float_equal((float)(json_number_value(json_object_get(ranges, points[i])) / 127.0), scale, 0);
        hand_point(read, value, scale, 0, -128, 127);
    }
    for (int i = 0; i < 3; i++) { /* with the scale of what they read */
        assert_true(cache_scale(&e, carried[i]) == cache_scale(&e, points[i == 0 ? 2 : 3]));
        assert_non_null(json_object_get(ranges, carried[i]));
    }
    assert_true(cache_scale(&e, "conv2") < 0 && cache_scale(&e, "sum") < 0); /* fused away */
    rebuilt_layers(read, json_object_get(json_object_get(root, "tensorrt"), "weight_range"));
    rebuilt_equals(read, &e);
    hand_destroy(read);
    json_decref(root);
    exported_free(&e);
    hand_destroy(net);
}

/* From the QDQ file alone: graph from the float file, every number from QuantizeLinear and DequantizeLinear. */
static void test_tensorrt_qdq_rebuilds_the_network(void **state)
{
    (void)state;
    for (int narrow = 0; narrow < 2; narrow++) {
        struct hand_net make, *net = &make, again, *read = &again;
        struct exported e;
        struct onnx_file file;
        int num_points = 0, num_layers = 0, num_clips = 0;
        build(net, -128, narrow ? -8 : -128, narrow ? 7 : 127);
        exported_rules(&e, "tensorrt_sim", "full_range", "yes");
        HAND_OK(exported_write(&e, net));
        assert_int_equal(e.num_files, narrow ? 1 : 4); /* ranges cannot say that a tensor has 4 bits */
        HAND_OK(mqb_onnx_export(net->graph, exported_path(&e, "float.onnx"), &net->error));
        rebuilt_open(read, &e, "float.onnx");
        onnx_read(exported_path(&e, "net.trt.qdq.onnx"), &file);
        for (int i = 0; i < file.num_nodes; i++) {
            const struct onnx_node *node = &file.nodes[i];
            num_clips += onnx_is(node->op, "Clip");
            if (onnx_is(node->op, "QuantizeLinear") || onnx_is(node->op, "DequantizeLinear")) {
                const struct onnx_tensor *zero = onnx_tensor_named(&file, node->inputs[2]);
                assert_int_equal(zero->type, 3); /* int8, and 0 */
                for (int64_t k = 0; k < zero->count; k++)
                    assert_true(onnx_element(zero, k) == 0);
            }
            if (onnx_is(node->op, "QuantizeLinear")) {
                char name[128];
                struct onnx_text x = node->inputs[0];
                const struct onnx_node *clip = onnx_producer(&file, x);
                bool narrowed = clip && onnx_is(clip->op, "Clip") && !onnx_is(clip->name, "relu6");
                if (narrowed) /* a clamp of reals in front says which codes there are */
                    x = clip->inputs[0];
                snprintf(name, sizeof(name), "%.*s", (int)x.size, (const char *)x.data);
                mqb_value_id value = mqb_graph_find_value(read->graph, name);
                assert_int_not_equal(value, MQB_NONE);
                bool low = narrow && value != read->graph->input;
                if (mqb_deploy_find(&net->deploy, mqb_graph_find_value(net->graph, name))) { /* others carry codes on */
                    assert_int_equal(narrowed, low);
                    hand_point(read, value, (float)onnx_element(onnx_tensor_named(&file, node->inputs[1]), 0), 0,
                               low ? -8 : -128, low ? 7 : 127);
                    num_points++;
                }
            }
            if (!onnx_is(node->op, "Conv") && !onnx_is(node->op, "Gemm"))
                continue;
            const struct onnx_node *dequantize = onnx_producer(&file, node->inputs[1]);
            assert_non_null(dequantize);
            const struct onnx_tensor *codes = onnx_tensor_named(&file, dequantize->inputs[0]),
                                     *scale = onnx_tensor_named(&file, dequantize->inputs[1]);
            char name[128];
            snprintf(name, sizeof(name), "%.*s", (int)node->name.size, (const char *)node->name.data);
            const struct mqb_node *layer = rebuilt_node(read, name);
            assert_int_equal(codes->type, 3);
            struct mqb_frozen *f = hand_freeze(read, layer->inputs[1], MQB_ROLE_WEIGHT, (int32_t)scale->count, -128, 127);
            f->num_codes = codes->count;
            f->codes = mqb_allocate_array((size_t)codes->count, sizeof(int32_t));
            for (int32_t c = 0; c < f->num_channels; c++)
                f->scale[c] = (float)onnx_element(scale, c);
            for (int64_t k = 0; k < codes->count; k++)
                f->codes[k] = (int32_t)onnx_element(codes, k);
            num_layers++;
        }
        assert_int_equal(num_points, 4);
        assert_int_equal(num_layers, 4);
        assert_true(narrow ? num_clips > 1 : num_clips == 1);
        rebuilt_equals(read, &e);
        onnx_free(&file);
        hand_destroy(read);
        exported_free(&e);
        hand_destroy(net);
    }
}

static void test_tensorrt_export_names_what_has_no_scale(void **state)
{
    (void)state;
    struct hand_net make, *net = &make;
    struct exported e;
    build(net, -127, -128, 127);
    exported_rules(&e, "tensorrt_sim", NULL, NULL);
    HAND_OK(exported_write(&e, net));
    for (int i = 0; i < net->deploy.num_frozen; i++) { /* each in turn missing */
        char *name = net->frozen[i].name;
        net->frozen[i].name = mqb_strdup("elsewhere");
        assert_int_equal(exported_write(&e, net), MQB_ERR_UNSUPPORTED);
        assert_int_equal(e.num_files, 0);
        if (!strstr(net->error.text, name) || !strstr(net->error.text, "hole"))
            fail_msg("'%s' does not name %s", net->error.text, name);
        mqb_deallocate(net->frozen[i].name);
        net->frozen[i].name = name;
    }
    exported_free(&e);
    hand_destroy(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensorrt_rules_state_scheme_and_contract),
        cmocka_unit_test(test_tensorrt_judge_names_tensor_and_reason),
        cmocka_unit_test(test_tensorrt_cache_and_ranges_rebuild_the_network),
        cmocka_unit_test(test_tensorrt_qdq_rebuilds_the_network),
        cmocka_unit_test(test_tensorrt_export_names_what_has_no_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
