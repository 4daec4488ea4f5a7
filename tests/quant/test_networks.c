/*
 * test_networks.c - the built-in networks against published counts, PyTorch's logits and the reference's quantization points.
 */
#include "network_weights.h"
#include "network_logits.h"

#include <mqbench/plugin.h>

static const struct mqb_graph_api *const api = &mqb_graph_calls;

/* ---- sizes ---- */

static int64_t parameters(const struct mqb_graph *graph)
{
    int64_t count = 0;
    for (int32_t i = 0; i < graph->num_values; i++)
        count += graph->values[i].kind == MQB_VALUE_PARAM ? mqb_value_size(&graph->values[i]) : 0;
    return count;
}

/* Of convolutions and linear layers, for one image. */
static int64_t multiply_additions(const struct mqb_graph *graph)
{
    int64_t count = 0;
    for (int32_t k = 0; k < graph->num_ordered; k++) {
        const struct mqb_node *node = &graph->nodes[graph->order[k]];
        if (strcmp(node->op->name, "Conv") != 0 && strcmp(node->op->name, "Gemm") != 0)
            continue;
        const struct mqb_value *weight = &graph->values[node->inputs[1]];
        count += mqb_value_size(&graph->values[node->output]) * (mqb_value_size(weight) / weight->dims[0]);
    }
    return count;
}

/* He et al. 2016: 0.27, 0.46, 0.66, 0.85 and 1.7 million; 1.8, 3.8 (4.1 with the stride in the 3x3 convolution) 10^9
 * multiply-additions. torchvision and timm print the exact numbers of parameters of the others. */
static void test_networks_have_published_parameters_and_multiply_additions(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int side, classes;
        int64_t parameters, multiply_additions;
    } published[] = {
        {"resnet20", 32, 10, 269722, 40551040},
        {"resnet32", 32, 10, 464154, 68862592},
        {"resnet44", 32, 10, 658586, 97174144},
        {"resnet56", 32, 10, 853018, 125485696},
        {"resnet110", 32, 10, 1727962, 252887680},
        {"resnet18", 224, 1000, 11689512, 1814073344},
        {"resnet50", 224, 1000, 25557032, 4089184256},
        {"mobilenet_v2", 224, 1000, 3504872, 300774272},
        {"efficientnet_lite0", 224, 1000, 4652008, 385187552},
        {"regnetx_600mf", 224, 1000, 6196040, 600890112},
    };
    size_t count = 0;
    for (const char *const *name = mqb_model_names(); *name; name++, count++) {
        assert_string_equal(*name, published[count].name); /* every network of the table is here */
        struct mqb_graph *graph = built(*name, 3, published[count].side, published[count].side, published[count].classes);
        assert_int_equal(parameters(graph), published[count].parameters);
        assert_int_equal(multiply_additions(graph), published[count].multiply_additions);
        assert_non_null(mqb_model_about(*name));
        mqb_graph_destroy(graph);
    }
    assert_int_equal(count, sizeof published / sizeof published[0]);
    assert_null(mqb_model_about("resnet21"));
}

static void test_networks_run_at_any_size_and_class_count(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {{3, 1, 1, 2}, {1, 9, 30, 5}, {4, 33, 16, 101}}; /* channels, height, width, classes */
    static const char *const names[] = {"resnet32",     "resnet18",           "resnet50",
                                        "mobilenet_v2", "efficientnet_lite0", "regnetx_600mf"};
    float images[4 * 33 * 30], logits[101];
    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++)
        images[i] = (float)name_uniform("images", (uint32_t)i);
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            struct mqb_graph *graph = built(names[n], sizes[s][0], sizes[s][1], sizes[s][2], sizes[s][3]);
            assert_int_equal(mqb_value_size(&graph->values[graph->output]), sizes[s][3]);
            forward(graph, images, 1, logits);
            for (int64_t c = 0; c < sizes[s][3]; c++)
                assert_true(isfinite(logits[c]));
            mqb_graph_destroy(graph);
        }
}

/* ---- logits ---- */

static void check_logits(const struct torch_logits *torch)
{
    static float images[IMAGES * SIDE * SIDE * 3];
    float logits[MAX_LOGITS];
    struct mqb_graph *graph = built(torch->name, 3, SIDE, SIDE, CLASSES);
    fill_by_name(graph);
    for (uint32_t i = 0; i < sizeof images / sizeof images[0]; i++)
        images[i] = (float)name_uniform("images", i);
    forward(graph, images, IMAGES, logits);
    logits_equal(torch->name, logits, torch->logits);
    mqb_graph_destroy(graph);
}

static void test_networks_logits_equal_torch(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof torch_logits / sizeof torch_logits[0]; i++)
        check_logits(&torch_logits[i]);
}

/* ---- initialization ---- */

/* Mean square of a tensor over what He et al. 2015 ask for: 2 / (numbers that one input feeds). */
static double he_ratio(const struct mqb_graph *graph, const char *name, double fan_out)
{
    const struct mqb_value *weight = &graph->values[mqb_graph_find_value(graph, name)];
    double squares = 0;
    for (int64_t i = 0; i < mqb_value_size(weight); i++)
        squares += (double)weight->data[i] * (double)weight->data[i];
    return squares / (double)mqb_value_size(weight) * fan_out / 2;
}

static void test_networks_initialization_counts_the_outputs_of_a_group(void **state)
{
    (void)state;
    struct mqb_graph *graph = built("mobilenet_v2", 3, 32, 32, 10); /* tensors of n numbers: within 5 sqrt(2 / n) */
    assert_true(fabs(he_ratio(graph, "features.17.conv.1.0.weight", 9) - 1) < 5 * sqrt(2.0 / (9 * 960)));
    assert_true(fabs(he_ratio(graph, "features.18.0.weight", 1280) - 1) < 5 * sqrt(2.0 / (320 * 1280)));
    mqb_graph_destroy(graph);
    graph = built("regnetx_600mf", 3, 32, 32, 10);
    assert_true(fabs(he_ratio(graph, "s4.b2.conv2.conv.weight", 9 * 24) - 1) < 5 * sqrt(2.0 / (528 * 24 * 9)));
    mqb_graph_destroy(graph);
}

/* ---- quantization points ---- */

static void apply(struct mqb_graph *graph, const char *id)
{
    char library[64];
    int32_t num_edits;
    struct mqb_options *options;
    snprintf(library, sizeof library, "pass_%s", id);
    const struct mqb_pass *pass = component(library, MQB_PASS_INTERFACE);
    OK(mqb_options_create(pass->options, pass->num_options, &options, &err));
    OK(pass->run(mqb_host_table(), graph, options, &num_edits, &err));
    mqb_options_destroy(options);
    OK(mqb_graph_infer(graph, &err));
    mqb_graph_sweep(graph);
}

static int points(const struct mqb_graph *graph, int role)
{
    int count = 0;
    for (int32_t i = 0; i < api->num_nodes(graph); i++) {
        mqb_node_id id = api->node_at(graph, i);
        count += strcmp(api->node_op(graph, id), "FakeQuantize") == 0 && api->attr_int(graph, id, "role", -1) == role;
    }
    return count;
}

/*
 * Graph 1: one point in front of each convolution and linear layer. Graph 3: one for each tensor that is stored with
 * a scale of its own: the input, convolutions with their activations, sums; pooling keeps its input's, the logits have none.
 * Graph 2: as graph 3 without the main branches that end in a sum. Counted by hand; the first row is the reference's.
 */
static void test_networks_points_are_those_of_the_graph_rules(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int weights, graph1, graph2, graph3;
    } expected[] = {
        {"resnet18", 21, 21, 21, 29},
        {"resnet50", 54, 54, 1 + 53, 1 + 53 + 16},
        {"mobilenet_v2", 53, 53, 1 + 52, 1 + 52 + 10},
        {"efficientnet_lite0", 50, 50, 1 + 49, 1 + 49 + 9},
        {"regnetx_600mf", 54, 54, 1 + 53, 1 + 53 + 16},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        struct mqb_graph *graph = built(expected[i].name, 3, 32, 32, 10), *copy;
        static const char *const passes[3] = {"place_graph1", "place_graph2", "place_graph3"};
        const int activations[3] = {expected[i].graph1, expected[i].graph2, expected[i].graph3};
        apply(graph, "bn_fold");
        for (int p = 0; p < 3; p++) {
            OK(mqb_graph_clone(graph, &copy, &err));
            apply(copy, passes[p]);
            print_message("%s %s: %d activation points, %d weight points\n", expected[i].name, passes[p],
                          points(copy, MQB_ROLE_ACTIVATION), points(copy, MQB_ROLE_WEIGHT));
            assert_int_equal(points(copy, MQB_ROLE_ACTIVATION), activations[p]);
            assert_int_equal(points(copy, MQB_ROLE_WEIGHT), expected[i].weights);
            mqb_graph_destroy(copy);
        }
        mqb_graph_destroy(graph);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks_have_published_parameters_and_multiply_additions),
        cmocka_unit_test(test_networks_run_at_any_size_and_class_count),
        cmocka_unit_test(test_networks_logits_equal_torch),
        cmocka_unit_test(test_networks_initialization_counts_the_outputs_of_a_group),
        cmocka_unit_test(test_networks_points_are_those_of_the_graph_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
