/* test_explain.c - what `mqbench explain` says: the published counts of points, every kind of absence, contracts in words, an
 * edge under all backends, and what is wrong. */
#include "report/explain.h"
#include "report/hand_model.h"

#include <jansson.h>

static char folder[] = "/tmp/mqbench-explain-XXXXXX";
static const char model20[] = MQB_SOURCE_DIR "/models/resnet20_synth.onnx";
static char model18[64], small[64], wide[64];

/* input -> conv a -> HardSwish -> {MaxPool, AveragePool} -> Concat -> conv b -> Relu -> GlobalAveragePool -> Flatten -> fc */
static void write_small(void)
{
    struct hand_model m;
    int64_t two[2] = {2, 2};
    hand_begin(&m, 3, 8);
    mqb_value_id h = hand_unary(&m, "HardSwish", "swish", hand_conv(&m, "a", m.last, 4, 3, 3, 1));
    mqb_value_id pooled[2];
    for (int i = 0; i < 2; i++) {
        mqb_node_id id = hand_node(&m, i ? "AveragePool" : "MaxPool", i ? "mean" : "max", 1, &h);
        OK(mqb_node_set_list(m.graph, id, "kernel_shape", two, 2, &err));
        OK(mqb_node_set_list(m.graph, id, "strides", two, 2, &err));
        pooled[i] = m.last;
    }
    mqb_node_id concat = hand_node(&m, "Concat", "join", 2, pooled);
    OK(mqb_graph_calls.set_attr_int(m.graph, concat, "axis", 1, &err));
    mqb_value_id r = hand_unary(&m, "Relu", "relu", hand_conv(&m, "b", m.last, 6, 8, 3, 1));
    hand_gemm(&m, "fc", hand_unary(&m, "Flatten", "flat", hand_unary(&m, "GlobalAveragePool", "gap", r)), 10, 6, 0.5f);
    hand_write(&m, small);
}

/* 202,800 products of 8-bit codes in one sum. */
static void write_wide(void)
{
    struct hand_model m;
    hand_begin(&m, 3, 260);
    hand_gemm(&m, "fc", hand_unary(&m, "Flatten", "flat", m.last), 10, 3 * 260 * 260, 0.5f);
    hand_write(&m, wide);
}

static int setup(void **state)
{
    (void)state;
    struct mqb_graph *graph;
    mqb_log_set_sink(NULL, NULL);
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(model18, sizeof model18, "%s/resnet18.onnx", folder);
    snprintf(small, sizeof small, "%s/small.onnx", folder);
    snprintf(wide, sizeof wide, "%s/wide.onnx", folder);
    OK(mqb_model_build("resnet18", &mqb_ops, 3, 64, 64, 10, 1, &graph, &err));
    OK(mqb_onnx_export(graph, model18, &err));
    mqb_graph_destroy(graph);
    write_small();
    write_wide();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static struct mqb_explain_config words(const char *backend, const char *model, const char *edge)
{
    return (struct mqb_explain_config){
        .backend = backend, .model = model, .edge = edge, .weight_bits = 4, .activation_bits = 4, .io_bits = 8};
}

static struct mqb_explanation *explain(const char *backend, const char *model, const char *edge)
{
    struct mqb_explain_config config = words(backend, model, edge);
    struct mqb_explanation *explanation;
    OK(mqb_explain(&config, &explanation, &err));
    return explanation;
}

static const struct mqb_explained_point *find_point(const struct mqb_explained_network *n, const char *tensor)
{
    for (int i = 0; i < n->num_points; i++)
        if (strcmp(n->points[i].tensor, tensor) == 0)
            return &n->points[i];
    fail_msg("%s: no point on %s", n->backend, tensor);
    return NULL;
}

static const char *why(const struct mqb_explained_network *n, const char *tensor)
{
    for (int i = 0; i < n->num_tensors; i++)
        if (strcmp(n->tensors[i].tensor, tensor) == 0)
            return n->tensors[i].why;
    fail_msg("%s: %s is not among the tensors without a point", n->backend, tensor);
    return NULL;
}

static void assert_says(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", text, part);
}

/* MQBench (NeurIPS 2021), ResNet-18: 21 activation points before the layers, 21 with additions fused, 29 on all stored tensors.
 */
static void test_explain_resnet18_published_counts(void **state)
{
    (void)state;
    static const struct {
        const char *backend;
        int activations;
    } known[] = {{"academic", 21},   {"acl_sim", 21},  {"tensorrt_sim", 21},
                 {"fbgemm_x86", 29}, {"snpe_sim", 29}, {"tvm_arm", 29}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct mqb_explanation *explanation = explain(known[i].backend, model18, NULL);
        const struct mqb_explained_network *n = &explanation->networks[0];
        int weights = 0, ends = 0;
        for (int k = 0; k < n->num_points; k++) {
            const struct mqb_explained_point *p = &n->points[k];
            weights += p->scheme.role == MQB_ROLE_WEIGHT;
            ends += p->io;
            assert_int_equal(p->scheme.bits, p->io ? 8 : 4);
            assert_true(p->rule[0] != '\0');
            assert_int_equal(p->arithmetic[0] == '\0', strcmp(known[i].backend, "academic") == 0);
        }
        assert_int_equal(n->refusal[0] == '\0', strcmp(known[i].backend, "academic") != 0);
        assert_int_equal(weights, 21);
        assert_int_equal(n->num_points - weights, known[i].activations);
        assert_int_equal(ends, 4); /* both weights, and what the two layers read */
        assert_int_equal(explanation->num_networks, 1);
        mqb_explanation_destroy(explanation);
    }
}

/* The signs, ranges and granularities of the backends' documents. */
static void test_explain_schemes_as_documented(void **state)
{
    (void)state;
    static const struct {
        const char *backend;
        int weight[2], activation[2]; /* ranges at 4 bits */
        bool per_channel, pot, symmetric_weight, symmetric_activation;
    } known[] = {
        {"tensorrt_sim", {-7, 7}, {-8, 7}, true, false, true, true}, {"acl_sim", {-8, 7}, {-8, 7}, true, false, true, false},
        {"snpe_sim", {0, 15}, {0, 15}, false, false, false, false},  {"tvm_arm", {-8, 7}, {-8, 7}, false, true, true, true},
        {"fbgemm_x86", {-8, 7}, {0, 15}, true, false, false, false},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct mqb_explanation *explanation = explain(known[i].backend, small, NULL);
        const struct mqb_explained_network *n = &explanation->networks[0];
        for (int k = 0; k < n->num_points; k++) {
            const struct mqb_explained_point *p = &n->points[k];
            bool weight = p->scheme.role == MQB_ROLE_WEIGHT;
            if (p->io)
                continue;
            assert_int_equal(p->scheme.qmin, weight ? known[i].weight[0] : known[i].activation[0]);
            assert_int_equal(p->scheme.qmax, weight ? known[i].weight[1] : known[i].activation[1]);
            assert_int_equal(p->scheme.per_channel, weight && known[i].per_channel);
            assert_int_equal(p->scheme.pot_scale, known[i].pot);
            assert_int_equal(p->scheme.symmetric, weight ? known[i].symmetric_weight : known[i].symmetric_activation);
        }
        mqb_explanation_destroy(explanation);
    }
}

static void test_explain_small_network_every_absence(void **state)
{
    (void)state;
    struct mqb_explanation *explanation = explain("snpe_sim", small, NULL);
    const struct mqb_explained_network *n = &explanation->networks[0];
    assert_string_equal(n->refusal, "");
    assert_says(find_point(n, "input")->rule, "the network's input");
    assert_string_equal(find_point(n, "input")->arithmetic, "x / s, rounded half away from zero");
    assert_says(find_point(n, "a_output_0")->arithmetic, "A * M in double, M = s_x s_w / s_y folded in double");
    assert_string_equal(find_point(n, "swish_output_0")->kind, "HardSwish");
    assert_says(find_point(n, "swish_output_0")->arithmetic, "a table of all codes");
    assert_says(find_point(n, "join_output_0")->rule, "output of Concat");
    assert_says(find_point(n, "join_output_0")->arithmetic, "codes of operands with another scale");
    assert_string_equal(find_point(n, "relu_output_0")->kind, "Conv");
    assert_says(find_point(n, "b.weight")->arithmetic, "int32 at s_x s_w");
    assert_says(why(n, "b_output_0"), "fused: computed together with 'relu_output_0'");
    assert_says(why(n, "max_output_0"), "handed on: MaxPool keeps scale and zero point of 'swish_output_0'");
    assert_says(why(n, "mean_output_0"), "the sum of codes is divided in integers");
    assert_says(why(n, "flat_output_0"), "handed on: Flatten keeps scale and zero point of 'relu_output_0'");
    assert_says(why(n, "fc_output_0"), "the network's output");
    assert_int_equal(n->num_points, 5 + 3);
    assert_int_equal(n->num_tensors, 6);
    mqb_explanation_destroy(explanation);

    explanation = explain("acl_sim", small, NULL);
    n = &explanation->networks[0];
    assert_says(why(n, "max_output_0"), "float: only inputs of convolutions and linear layers");
    assert_says(find_point(n, "join_output_0")->arithmetic, "its sums leave as A * s_x s_w in float16");
    mqb_explanation_destroy(explanation);
}

static void test_explain_contract_options_change_words(void **state)
{
    (void)state;
    const char *key[] = {"snpe_sim.profile"}, *value[] = {"fx"};
    struct mqb_explain_config config = words("snpe_sim", small, NULL);
    struct mqb_explanation *explanation;
    config.set_keys = key;
    config.set_values = value;
    config.num_set = 1;
    OK(mqb_explain(&config, &explanation, &err));
    assert_string_equal(explanation->networks[0].profile, "fx");
    assert_says(find_point(&explanation->networks[0], "a_output_0")->arithmetic, "31-bit q");
    mqb_explanation_destroy(explanation);
    explanation = explain("tvm_arm", small, NULL);
    assert_says(find_point(&explanation->networks[0], "a_output_0")->arithmetic, "2^-k");
    mqb_explanation_destroy(explanation);
    explanation = explain("tensorrt_sim", small, NULL);
    assert_says(find_point(&explanation->networks[0], "a.weight")->arithmetic, "bias stays float32");
    mqb_explanation_destroy(explanation);
}

/* The addition of a ResNet's first block, whose main branch TensorRT never stores. */
static void test_explain_edge_under_every_backend(void **state)
{
    (void)state;
    static const char edge[] = "/layer1/layer1.0/bn2/BatchNormalization_output_0";
    struct mqb_explanation *explanation = explain("tensorrt_sim", model20, edge);
    assert_int_equal(explanation->num_networks, 6);
    for (int i = 0; i < explanation->num_networks; i++) {
        const struct mqb_explained_network *n = &explanation->networks[i];
        if (i == 0) {
            assert_string_equal(n->backend, "tensorrt_sim");
            assert_says(why(n, edge), "the addition '/layer1/layer1.0/Add' is done in the convolution's epilogue");
        } else if (strcmp(n->backend, "acl_sim") == 0 || strcmp(n->backend, "academic") == 0) {
            assert_says(why(n, edge), "float");
        } else {
            assert_string_equal(find_point(n, edge)->rule, "graph 3: output of Conv + BatchNormalization");
        }
    }
    char *text;
    OK(mqb_explanation_screen(explanation, &text, &err));
    assert_says(text, "snpe_sim     point: graph 3: output of Conv + BatchNormalization; 4 bits, codes 0..15");
    assert_says(text, "tensorrt_sim no point: fused");
    mqb_deallocate(text);
    mqb_explanation_destroy(explanation);
}

/* A weight is found by the model's name, whatever folding made of it. */
static void test_explain_edge_weight_by_its_parameter(void **state)
{
    (void)state;
    struct mqb_explanation *explanation = explain("snpe_sim", model20, "layer1.0.conv1.weight");
    char *text;
    OK(mqb_explanation_json(explanation, &text, &err));
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *network;
    size_t i;
    assert_string_equal(json_string_value(json_object_get(root, "schema")), "mqbench.explain/1");
    assert_string_equal(json_string_value(json_object_get(root, "edge")), "layer1.0.conv1.weight");
    json_array_foreach(json_object_get(root, "backends"), i, network)
    {
        const json_t *points = json_object_get(network, "points");
        assert_int_equal(json_array_size(points), 1);
        assert_string_equal(json_string_value(json_object_get(json_array_get(points, 0), "role")), "weight");
        assert_string_equal(json_string_value(json_object_get(json_array_get(points, 0), "parameter")),
                            "layer1.0.conv1.weight");
    }
    assert_int_equal(i, 6);
    json_decref(root);
    mqb_deallocate(text);
    mqb_explanation_destroy(explanation);
}

static void test_explain_table_lists_all(void **state)
{
    (void)state;
    struct mqb_explanation *explanation = explain("fbgemm_x86", small, NULL);
    char *text;
    OK(mqb_explanation_screen(explanation, &text, &err));
    assert_says(text, "8 points: 5 on activations, 3 on weights (*: first and last layer)");
    assert_says(text, "passes       bn_fold, place_graph3 (batch norm folding 4)");
    assert_says(text, "how codes come about");
    assert_says(text, "nothing is known against it");
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1)
        assert_true(strcspn(line, "\n") <= 120);
    mqb_deallocate(text);
    mqb_explanation_destroy(explanation);
}

static void test_explain_overflow_told_before_anything_runs(void **state)
{
    (void)state;
    struct mqb_explain_config config = words("snpe_sim", wide, NULL);
    struct mqb_explanation *explanation;
    config.weight_bits = config.activation_bits = 8;
    OK(mqb_explain(&config, &explanation, &err));
    assert_says(explanation->networks[0].refusal, "layer 'fc' (Gemm)");
    assert_says(explanation->networks[0].refusal, "202800 products of up to 128 * 128");
    mqb_explanation_destroy(explanation);
    config.weight_bits = config.activation_bits = config.io_bits = 4; /* 202800 * 15 * 15 is far below 2^31 */
    OK(mqb_explain(&config, &explanation, &err));
    assert_string_equal(explanation->networks[0].refusal, "");
    mqb_explanation_destroy(explanation);
    explanation = explain("academic", small, NULL);
    assert_true(explanation->networks[0].refusal[0] != '\0');
    mqb_explanation_destroy(explanation);
}

static void assert_refused(struct mqb_explain_config config, mqb_status status, const char *part)
{
    struct mqb_explanation *explanation;
    assert_int_equal(mqb_explain(&config, &explanation, &err), status);
    assert_null(explanation);
    assert_says(err.text, part);
}

static void test_explain_wrong_words_refused(void **state)
{
    (void)state;
    const char *key[] = {"snpe_sin.profile"}, *value[] = {"fx"};
    struct mqb_explain_config config = words("snpe_sim", small, "relu_outptu_0");
    assert_refused(config, MQB_ERR_ARGUMENT, "did you mean \"relu_output_0\"");
    config = words("snpe_sim", small, "fc.wieght");
    assert_refused(config, MQB_ERR_ARGUMENT, "did you mean \"fc.weight\"");
    config = words("snpe_sin", small, NULL);
    assert_refused(config, MQB_ERR_NOT_FOUND, "snpe_sim");
    config = words("snpe_sim", "/nowhere/net.onnx", NULL);
    assert_refused(config, MQB_ERR_NOT_FOUND, "/nowhere/net.onnx");
    config = words("snpe_sim", small, NULL);
    config.set_keys = key;
    config.set_values = value;
    config.num_set = 1;
    assert_refused(config, MQB_ERR_ARGUMENT, "did you mean \"snpe_sim");
    key[0] = "snpe_sim.profil";
    assert_refused(config, MQB_ERR_ARGUMENT, "profile");
    key[0] = "bn_fold.strategy";
    value[0] = "3";
    assert_refused(config, MQB_ERR_ARGUMENT, "--bn-fold");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_explain_resnet18_published_counts),
        cmocka_unit_test(test_explain_schemes_as_documented),
        cmocka_unit_test(test_explain_small_network_every_absence),
        cmocka_unit_test(test_explain_contract_options_change_words),
        cmocka_unit_test(test_explain_edge_under_every_backend),
        cmocka_unit_test(test_explain_edge_weight_by_its_parameter),
        cmocka_unit_test(test_explain_table_lists_all),
        cmocka_unit_test(test_explain_overflow_told_before_anything_runs),
        cmocka_unit_test(test_explain_wrong_words_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
