/* test_ops_infer.c - shape inference of every operator: right shapes, and a sentence for each wrong one. */
#include "one_node.h"

#include <math.h>

static void expect_shape(struct one_node *t, size_t rank, const int64_t *dims)
{
    mqb_status status = one_node_infer(t);
    if (status)
        print_message("%s\n", t->error.text);
    assert_int_equal(status, MQB_OK);
    const struct mqb_value *output = &t->values[t->node.output];
    assert_int_equal(output->rank, (int)rank);
    for (size_t i = 0; i < rank; i++)
        assert_int_equal(output->dims[i], dims[i]);
    assert_int_equal(output->batched, dims[0] == MQB_BATCH);
}

/* The sentence contains `part`. */
static void expect_refusal(struct one_node *t, const char *part)
{
    assert_int_equal(one_node_infer(t), MQB_ERR_ARGUMENT);
    if (!strstr(t->error.text, part))
        print_message("'%s' is not in '%s'\n", part, t->error.text);
    assert_non_null(strstr(t->error.text, part));
}

static void test_ops_table_each_name_once_complete(void **state)
{
    (void)state;
    static const char *const names[] = {"Add",
                                        "AveragePool",
                                        "BatchNormalization",
                                        "BatchScale",
                                        "BatchStatistics",
                                        "ChannelShuffle",
                                        "Clip",
                                        "Concat",
                                        "Conv",
                                        "FakeQuantize",
                                        "Flatten",
                                        "FloatConv",
                                        "FloatGemm",
                                        "FoldedBias",
                                        "Gemm",
                                        "GlobalAveragePool",
                                        "HardSigmoid",
                                        "HardSwish",
                                        "LeakyRelu",
                                        "MaxPool",
                                        "Mul",
                                        "Pad",
                                        "Relu",
                                        "ScaleChannels",
                                        "Sigmoid",
                                        "Slice",
                                        "StatisticRow"};
    size_t count = 0;
    for (; mqb_ops.ops[count]; count++) {
        const struct mqb_op *op = mqb_ops.ops[count];
        assert_ptr_equal(mqb_op_find(&mqb_ops, op->name), op);
        assert_non_null(op->infer);
        assert_true(op->min_inputs >= 1 && op->min_inputs <= op->max_inputs && op->max_inputs <= MQB_MAX_INPUTS);
        assert_true(op->forward || op->forward_block || op->forward_fixed);
        assert_int_equal(!op->forward && !op->statistic, !op->backward); /* a statistic's result is written as a whole ... */
        assert_int_equal(!op->forward_block, !op->backward_block);
        assert_int_equal(!op->forward_fixed, !op->backward_fixed && !op->statistic); /* ... and spread over the images */
        assert_true(!op->statistic || (op->reduce_size && op->reduce && op->finish));
    }
    assert_int_equal(count, sizeof(names) / sizeof(names[0]));
    for (size_t i = 0; i < count; i++)
        assert_non_null(mqb_op_find(&mqb_ops, names[i]));
}

static void test_infer_elementwise_shapes_kept(void **state)
{
    static const char *const ops[] = {"Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "FakeQuantize"};
    struct one_node t;
    (void)state;
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        one_node_init(&t, ops[i]);
        one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 3, 8, 9));
        expect_shape(&t, DIMS(N, 3, 8, 9));
        one_node_init(&t, ops[i]);
        one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 10));
        expect_shape(&t, DIMS(N, 10));
        one_node_init(&t, ops[i]);
        one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 10, 2));
        expect_refusal(&t, "[N, 10, 2]");
        one_node_init(&t, ops[i]);
        expect_refusal(&t, "input 0");
        one_node_init(&t, ops[i]);
        one_node_input(&t, MQB_VALUE_PARAM, DIMS(4, 3, 2, 2));
        if (strcmp(ops[i], "FakeQuantize") == 0)
            expect_shape(&t, DIMS(4, 3, 2, 2));
        else
            expect_refusal(&t, "is a parameter");
    }
}

static void test_infer_ranges_wrong_attributes_refused(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Clip");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 3, 8, 9));
    one_node_real(&t, "min", 6);
    one_node_real(&t, "max", 0);
    expect_refusal(&t, "min = 6");
    one_node_init(&t, "HardSigmoid");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 3, 8, 9));
    one_node_real(&t, "alpha", (double)INFINITY);
    expect_refusal(&t, "finite");
}

static void test_infer_add_only_equal_shapes(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Add");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 3, 8, 9));
    one_node_input(&t, MQB_VALUE_RESULT, DIMS(N, 3, 8, 9));
    expect_shape(&t, DIMS(N, 3, 8, 9));
    t.values[1].dims[3] = 1;
    expect_refusal(&t, "[N, 3, 8, 1]");
    one_node_init(&t, "Add");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 3));
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(3));
    expect_refusal(&t, "is a parameter");
}

static void test_infer_mul_equal_or_channel_gate(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Mul");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 3, 8, 9));
    one_node_input(&t, MQB_VALUE_RESULT, DIMS(N, 3, 8, 9));
    expect_shape(&t, DIMS(N, 3, 8, 9));
    t.values[1].dims[2] = t.values[1].dims[3] = 1;
    expect_shape(&t, DIMS(N, 3, 8, 9));
    t.values[1].dims[1] = 1;
    expect_refusal(&t, "do not go together");
    t.values[1].dims[1] = 3;
    t.values[1].dims[2] = 8;
    expect_refusal(&t, "[N, 3, 8, 1]");
}

static void conv(struct one_node *t)
{
    one_node_init(t, "Conv");
    one_node_input(t, MQB_VALUE_INPUT, DIMS(N, 6, 11, 8));
    one_node_input(t, MQB_VALUE_PARAM, DIMS(4, 3, 3, 2));
    one_node_input(t, MQB_VALUE_PARAM, DIMS(4));
    one_node_int(t, "group", 2);
    one_node_list(t, "strides", DIMS(2, 1));
    one_node_list(t, "pads", DIMS(1, 0, 2, 3));
    one_node_list(t, "dilations", DIMS(2, 3));
}

static void test_infer_conv_shapes_and_refusals(void **state)
{
    struct one_node t;
    (void)state;
    conv(&t); /* (11 + 3 - 5) / 2 + 1 = 5, 8 + 3 - 4 + 1 = 8 */
    expect_shape(&t, DIMS(N, 4, 5, 8));
    t.node.num_inputs = 2;
    expect_shape(&t, DIMS(N, 4, 5, 8));
    conv(&t);
    t.node.inputs[2] = MQB_NONE;
    expect_shape(&t, DIMS(N, 4, 5, 8));
    conv(&t);
    t.values[1].dims[1] = 6;
    expect_refusal(&t, "second dimension must be 3");
    conv(&t);
    t.values[1].rank = 2;
    expect_refusal(&t, "[K, C / group, R, S]");
    conv(&t);
    t.attrs[0].i = 4;
    expect_refusal(&t, "group = 4");
    conv(&t);
    t.attrs[0].i = 0;
    expect_refusal(&t, "group = 0");
    conv(&t);
    t.values[2].dims[0] = 5;
    expect_refusal(&t, "bias");
    conv(&t);
    t.lists[1][0] = 0;
    expect_refusal(&t, "'strides' contains 0");
    conv(&t);
    t.lists[2][1] = -1;
    expect_refusal(&t, "'pads' contains -1");
    conv(&t);
    t.lists[3][1] = 11;
    expect_refusal(&t, "larger than the padded input");
    conv(&t);
    one_node_list(&t, "kernel_shape", DIMS(3, 3));
    expect_refusal(&t, "kernel_shape");
    conv(&t);
    t.values[0].rank = 2;
    expect_refusal(&t, "[N, C, H, W]");
    conv(&t);
    t.values[1].batched = true;
    expect_refusal(&t, "expected a parameter");
}

static void test_infer_gemm_shapes_and_refusals(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Gemm");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 6));
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(10, 6));
    expect_shape(&t, DIMS(N, 10));
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(10));
    expect_shape(&t, DIMS(N, 10));
    t.values[2].dims[0] = 6;
    expect_refusal(&t, "bias");
    t.values[2].dims[0] = 10;
    one_node_real(&t, "alpha", 0.5);
    expect_refusal(&t, "alpha = 0.5");
    t.attrs[0].f = 1;
    t.values[1].dims[1] = 7;
    expect_refusal(&t, "[outputs, 6]");
    t.values[0].rank = 4;
    t.values[0].dims[2] = t.values[0].dims[3] = 1;
    expect_refusal(&t, "Flatten");
}

static void pool(struct one_node *t, const char *op)
{
    one_node_init(t, op);
    one_node_input(t, MQB_VALUE_INPUT, DIMS(N, 6, 7, 8));
    one_node_list(t, "kernel_shape", DIMS(3, 2));
    one_node_list(t, "strides", DIMS(2, 2));
    one_node_list(t, "pads", DIMS(1, 0, 1, 1));
}

static void test_infer_pools_shapes_and_refusals(void **state)
{
    static const char *const ops[] = {"MaxPool", "AveragePool"};
    struct one_node t;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        pool(&t, ops[i]);
        expect_shape(&t, DIMS(N, 6, 4, 4));
        one_node_int(&t, "ceil_mode",
                     1); /* width: ceil(7 / 2) + 1 = 5, its last window starts within: 4 * 2 = 8 >= 8 + 0 does not */
        expect_shape(&t, DIMS(N, 6, 4, 4));
        t.values[0].dims[2] = 8; /* ceil(7 / 2) + 1 = 5, and 4 * 2 < 8 + 1 */
        expect_shape(&t, DIMS(N, 6, 5, 4));
        pool(&t, ops[i]);
        t.attrs[0].list_size = 0;
        expect_refusal(&t, "kernel_shape");
        pool(&t, ops[i]);
        t.lists[2][0] = 3;
        expect_refusal(&t, "not smaller than the window");
        pool(&t, ops[i]);
        one_node_list(&t, "dilations", DIMS(2, 2));
        expect_refusal(&t, "without dilation");
        pool(&t, ops[i]);
        t.values[0].dims[3] = t.values[0].dims[2] = 1;
        t.lists[2][2] = 0;
        expect_refusal(&t, "larger than the padded input");
        pool(&t, ops[i]);
        t.values[0].rank = 2;
        expect_refusal(&t, "[N, C, H, W]");
    }
    one_node_init(&t, "GlobalAveragePool");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 6, 7, 8));
    expect_shape(&t, DIMS(N, 6, 1, 1));
    t.values[0].rank = 2;
    expect_refusal(&t, "[N, C, H, W]");
}

static void test_infer_batch_normalization_shapes_and_refusals(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "BatchNormalization");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 6, 7, 8));
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(6));
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(6));
    one_node_input(&t, MQB_VALUE_STATE, DIMS(6));
    expect_refusal(&t, "variance");
    one_node_input(&t, MQB_VALUE_STATE, DIMS(6));
    expect_shape(&t, DIMS(N, 6, 7, 8));
    one_node_input(&t, MQB_VALUE_RESULT, DIMS(6));
    expect_shape(&t, DIMS(N, 6, 7, 8));
    t.values[5].dims[0] = 1;
    expect_refusal(&t, "divisor");
    t.values[5].dims[0] = 6;
    t.values[1].rank = 2;
    expect_refusal(&t, "gamma");
    t.values[1].rank = 1;
    one_node_real(&t, "epsilon", 0);
    expect_refusal(&t, "epsilon");
    t.attrs[0].f = 1e-5;
    one_node_real(&t, "momentum", 1.5);
    expect_refusal(&t, "momentum");
}

static void test_infer_concat_channels_added(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Concat");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 6, 7, 8));
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 1, 7, 8));
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 3, 7, 8));
    expect_shape(&t, DIMS(N, 10, 7, 8));
    one_node_int(&t, "axis", -3);
    expect_shape(&t, DIMS(N, 10, 7, 8));
    t.attrs[0].i = 2;
    expect_refusal(&t, "axis = 2");
    t.attrs[0].i = 1;
    t.values[2].dims[2] = 6;
    expect_refusal(&t, "[N, 3, 6, 8]");
    t.values[2].rank = 2;
    expect_refusal(&t, "differ");
}

static void test_infer_slice_bounds(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Slice");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 6, 7, 8));
    one_node_list(&t, "starts", DIMS(0, 1, 2, 0));
    one_node_list(&t, "ends", DIMS(INT64_MAX, 6, 7, INT64_MAX));
    one_node_list(&t, "steps", DIMS(1, 2, 3, 1));
    expect_shape(&t, DIMS(N, 3, 2, 8));
    t.lists[0][1] = 6;
    expect_refusal(&t, "dimension 1");
    t.lists[0][1] = 0;
    t.lists[2][3] = 0;
    expect_refusal(&t, "positive step");
    t.lists[2][3] = 1;
    t.lists[0][0] = 1;
    expect_refusal(&t, "batch");
}

static void test_infer_pad_bounds(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Pad");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 6, 7, 8));
    one_node_list(&t, "pads_begin", DIMS(0, 1, 2, 0));
    one_node_list(&t, "pads_end", DIMS(0, 3, 0, 1));
    expect_shape(&t, DIMS(N, 10, 9, 9));
    t.lists[0][2] = -1;
    expect_refusal(&t, "Slice");
    t.lists[0][2] = INT32_MAX;
    expect_refusal(&t, "elements");
    t.lists[0][2] = 0;
    t.lists[1][0] = 1;
    expect_refusal(&t, "batch");
    t.lists[1][0] = 0;
    one_node_text(&t, "mode", "reflect");
    expect_refusal(&t, "reflect");
}

static void test_infer_flatten_axis(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Flatten");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 6, 7, 8));
    expect_shape(&t, DIMS(N, 336));
    one_node_int(&t, "axis", 2);
    expect_refusal(&t, "axis = 2");
}

static void test_infer_channel_shuffle_group(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "ChannelShuffle");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 6, 7, 8));
    one_node_int(&t, "group", 3);
    expect_shape(&t, DIMS(N, 6, 7, 8));
    t.attrs[0].i = 4;
    expect_refusal(&t, "group = 4");
}

static void test_infer_fixed_operators(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "FoldedBias");
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(6));
    one_node_input(&t, MQB_VALUE_STATE, DIMS(6));
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(6));
    expect_shape(&t, DIMS(6));
    t.values[1].dims[0] = 5;
    expect_refusal(&t, "mean");
    one_node_init(&t, "BatchScale");
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(6));
    one_node_input(&t, MQB_VALUE_STATE, DIMS(6));
    expect_shape(&t, DIMS(6));
    t.values[1].dims[0] = 5;
    expect_refusal(&t, "variance");
    one_node_real(&t, "epsilon", -1);
    t.values[1].dims[0] = 6;
    expect_refusal(&t, "epsilon");
    one_node_init(&t, "ScaleChannels");
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(6, 2, 3, 3));
    one_node_input(&t, MQB_VALUE_RESULT, DIMS(6));
    expect_shape(&t, DIMS(6, 2, 3, 3));
    t.values[1].dims[0] = 2;
    expect_refusal(&t, "scale");
    t.values[0].batched = true;
    expect_refusal(&t, "expected a parameter");
}

/* Through the graph: the sentence begins with the node. */
static void test_infer_graph_refusal_names_node(void **state)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph;
    const struct mqb_graph_api *api = &mqb_graph_calls;
    mqb_value_id inputs[2];
    mqb_node_id node;
    float numbers[6] = {0};
    (void)state;
    assert_int_equal(mqb_graph_create(&mqb_ops, &graph, &error), MQB_OK);
    assert_int_equal(api->add_value(graph, MQB_VALUE_PARAM, "gamma", DIMS(6), numbers, &inputs[0], &error), MQB_OK);
    assert_int_equal(api->add_value(graph, MQB_VALUE_STATE, "var", DIMS(5), numbers, &inputs[1], &error), MQB_OK);
    assert_int_equal(api->add_node(graph, "BatchScale", "stem_fold", inputs, 2, &node, &error), MQB_OK);
    assert_int_equal(mqb_graph_infer(graph, &error), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(error.text, "stem_fold"));
    assert_non_null(strstr(error.text, "variance"));
    mqb_graph_destroy(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ops_table_each_name_once_complete),
        cmocka_unit_test(test_infer_elementwise_shapes_kept),
        cmocka_unit_test(test_infer_ranges_wrong_attributes_refused),
        cmocka_unit_test(test_infer_add_only_equal_shapes),
        cmocka_unit_test(test_infer_mul_equal_or_channel_gate),
        cmocka_unit_test(test_infer_conv_shapes_and_refusals),
        cmocka_unit_test(test_infer_gemm_shapes_and_refusals),
        cmocka_unit_test(test_infer_pools_shapes_and_refusals),
        cmocka_unit_test(test_infer_batch_normalization_shapes_and_refusals),
        cmocka_unit_test(test_infer_concat_channels_added),
        cmocka_unit_test(test_infer_slice_bounds),
        cmocka_unit_test(test_infer_pad_bounds),
        cmocka_unit_test(test_infer_flatten_axis),
        cmocka_unit_test(test_infer_channel_shuffle_group),
        cmocka_unit_test(test_infer_fixed_operators),
        cmocka_unit_test(test_infer_graph_refusal_names_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
