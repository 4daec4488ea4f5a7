/* test_costs.c - multiply-accumulates and bit operations against sums made by hand and published ones. */
#include "report/costs.h"
#include "report/hand_model.h"
#include "report/text.h"

#include <jansson.h>

/* Counts a graph whose points the passes of snpe_sim placed. */
static struct mqb_result *count(const struct mqb_graph *fp32, int weight_bits, int activation_bits, bool place)
{
    static const char *const passes[] = {"pass_bn_fold", "pass_place_graph3"};
    const struct mqb_quantizer *lsq = component("lsq", MQB_QUANTIZER_INTERFACE);
    const struct mqb_backend_rules rules = {.struct_size = sizeof rules,
                                            .weight = {.role = MQB_ROLE_WEIGHT, .symmetric = 1},
                                            .activation = {.role = MQB_ROLE_ACTIVATION, .symmetric = 1},
                                            .weight_signed = 1,
                                            .activation_signed = 1};
    struct mqb_result *result = mqb_allocate(sizeof *result);
    struct mqb_graph *graph;
    struct mqb_points *points;
    struct mqb_options *options;
    assert_non_null(result);
    OK(mqb_graph_clone(fp32, &graph, &err));
    for (size_t i = 0; i < 2 && place; i++) {
        const struct mqb_pass *pass = component(passes[i], MQB_PASS_INTERFACE);
        int32_t edits;
        OK(mqb_options_create(pass->options, pass->num_options, &options, &err));
        OK(pass->run(mqb_host_table(), graph, options, &edits, &err));
        OK(mqb_graph_infer(graph, &err));
        mqb_options_destroy(options);
    }
    OK(mqb_options_create(lsq->options, lsq->num_options, &options, &err));
    const struct mqb_quantizer_choice choice = {"lsq", lsq, options};
    const struct mqb_points_config config = {.host = mqb_host_table(),
                                             .rules = &rules,
                                             .weight = choice,
                                             .activation = choice,
                                             .weight_bits = weight_bits,
                                             .activation_bits = activation_bits,
                                             .io_bits = 8};
    OK(mqb_points_create(graph, &config, &points, &err));
    OK(mqb_costs_count(graph, points, result, &err));
    mqb_points_destroy(points);
    mqb_options_destroy(options);
    mqb_graph_destroy(graph);
    return result;
}

/*
 * He et al. (CVPR 2016), section 4.2: 16, 32, 64 channels on 32, 16, 8 pixels, six convolutions each; the second and third
 * stage begin by halving the picture; shortcuts have no weights.
 */
static void test_costs_resnet20_by_hand(void **state)
{
    (void)state;
    const int64_t first = 3 * 16 * 9 * 32 * 32, last = 64 * 10;
    const int64_t inner = 6 * (16 * 16 * 9 * 32 * 32) + (16 * 32 * 9 * 16 * 16) + 5 * (32 * 32 * 9 * 16 * 16) +
                          (32 * 64 * 9 * 8 * 8) + 5 * (64 * 64 * 9 * 8 * 8);
    struct mqb_graph *graph;
    int64_t macs, bit_operations;
    assert_int_equal(first + inner + last, 40551040); /* the published 40.6 M */
    OK(mqb_model_build("resnet20", &mqb_ops, 3, 32, 32, 10, 1, &graph, &err));
    struct mqb_result *result = count(graph, 4, 2, true);
    mqb_costs_total(result, &macs, &bit_operations);
    assert_int_equal(macs, 40551040);
    assert_int_equal(bit_operations, (first + last) * 8 * 8 + inner * 4 * 2);
    assert_int_equal(result->num_costs, 20);
    assert_int_equal(result->costs[0].macs, first);
    assert_int_equal(result->costs[0].weights, 432);
    assert_int_equal(result->costs[19].macs, last);
    assert_string_equal(result->costs[19].op, "Gemm");
    int64_t weights = 0; /* 269,722 parameters, less 2 x 688 of batch norms and 10 of the bias */
    for (int i = 0; i < result->num_costs; i++)
        weights += result->costs[i].weights;
    assert_int_equal(weights, 269722 - 2 * 688 - 10);
    mqb_result_destroy(result);

    result = count(graph, 4, 2, false); /* without points: 32 bits everywhere */
    mqb_costs_total(result, &macs, &bit_operations);
    assert_int_equal(bit_operations, (int64_t)40551040 * 32 * 32);
    mqb_result_destroy(result);
    mqb_graph_destroy(graph);
}

/* He et al., table 1: 1.8 G multiply-adds; torchvision documents 1.81 G, with the linear layer. */
static void test_costs_resnet18_published(void **state)
{
    (void)state;
    struct mqb_graph *graph;
    int64_t macs, bit_operations;
    OK(mqb_model_build("resnet18", &mqb_ops, 3, 224, 224, 1000, 1, &graph, &err));
    struct mqb_result *result = count(graph, 8, 8, false);
    mqb_costs_total(result, &macs, &bit_operations);
    assert_int_equal(macs, 1814073344);
    char text[MQB_SHORT];
    mqb_text_amount((double)macs, text);
    assert_string_equal(text, "1.81 G");
    mqb_result_destroy(result);
    mqb_graph_destroy(graph);
}

/* A group sees its own channels alone; a pooled tensor is read in the bits of what was pooled. */
static void test_costs_depthwise_and_pooled_by_hand(void **state)
{
    (void)state;
    struct hand_model m;
    hand_begin(&m, 4, 8);
    mqb_value_id a = hand_conv(&m, "wide", m.last, 8, 4, 3, 1), b = hand_conv(&m, "deep", a, 8, 8, 3, 8);
    hand_gemm(&m, "fc", hand_unary(&m, "Flatten", "flat", hand_unary(&m, "GlobalAveragePool", "gap", b)), 5, 8, 0.5f);
    hand_write(&m, NULL);
    struct mqb_result *result = count(m.graph, 3, 5, true);
    assert_int_equal(result->num_costs, 3);
    assert_int_equal(result->costs[0].macs, 8 * 4 * 9 * 6 * 6);
    assert_int_equal(result->costs[1].macs, 8 * 9 * 4 * 4);
    assert_int_equal(result->costs[1].weight_bits, 3);
    assert_int_equal(result->costs[1].activation_bits, 5);
    assert_int_equal(result->costs[2].macs, 40);
    assert_int_equal(result->costs[2].activation_bits, 8); /* what the last layer reads, behind the pooling */
    char *text;
    OK(mqb_result_json(result, &text, &err));
    json_t *root = json_loads(text, 0, NULL), *work = json_object_get(root, "work");
    assert_int_equal(json_integer_value(json_object_get(work, "macs")), 10368 + 1152 + 40);
    assert_int_equal(json_integer_value(json_object_get(work, "bit_operations")), 10368 * 64 + 1152 * 15 + 40 * 64);
    assert_int_equal(json_array_size(json_object_get(work, "layers")), 3);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(work, "layers"), 1), "bit_operations")),
                     1152 * 15);
    json_decref(root);
    mqb_deallocate(text);
    OK(mqb_result_screen(result, false, &text, &err));
    assert_non_null(strstr(text, "work         11.56 k multiply-accumulates an image, 683.39 k bit operations, 17.3 times fewer"));
    mqb_deallocate(text);
    mqb_result_destroy(result);
    mqb_graph_destroy(m.graph);
}

static void test_text_amounts_written_for_people(void **state)
{
    (void)state;
    char text[MQB_SHORT];
    static const struct {
        double amount;
        const char *text;
    } known[] = {{0, "0"},           {640, "640"},     {999.4, "999"},  {40551040, "40.55 M"},
                 {4.09e9, "4.09 G"}, {1000, "1.00 k"}, {2e15, "2.00 P"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        mqb_text_amount(known[i].amount, text);
        assert_string_equal(text, known[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_costs_resnet20_by_hand),
        cmocka_unit_test(test_costs_resnet18_published),
        cmocka_unit_test(test_costs_depthwise_and_pooled_by_hand),
        cmocka_unit_test(test_text_amounts_written_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
