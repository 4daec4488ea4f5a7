/* test_onnx_refusals.c - files that are refused as a whole: frame, sizes, nesting; and what is not exported. */
#include "onnx_case.h"

/* ---- the file as a whole ---- */

static void test_unsupported_operator_names_node_operator_and_file(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(13, 3, 4, 4);
    onnx_node(&f, "Relu", "x", "r", NULL);
    onnx_node(&f, "Softmax", "r", "y", NULL);
    refuse_case(
        &f,
        "node 1 'node_y' (Softmax): operator 'Softmax' is not supported; supported are Add, AveragePool, BatchNormalization, ");
    f = onnx_begin(13, 3, 4, 4);
    onnx_node(&f, "Gather", "x,x", "y", NULL);
    refuse_case(&f, "Gather is supported only on constants");
}

static void test_wrong_frame_is_refused(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(6, 3, 4, 4);
    onnx_node(&f, "Relu", "x", "y", NULL);
    refuse_case(&f, "it uses ONNX operator set 6; 7 to 21 are supported");
    f = onnx_begin(22, 3, 4, 4);
    onnx_node(&f, "Relu", "x", "y", NULL);
    refuse_case(&f, "operator set 22");
    f = onnx_begin(13, 3, 4, 4);
    refuse_case(&f, "it holds no nodes");
    f = onnx_begin(13, 3, 4, 4);
    onnx_node(&f, "Relu", "nowhere", "y", NULL);
    refuse_case(&f, "it reads 'nowhere', which no earlier node");
    f = onnx_begin(13, 3, 4, 4);
    onnx_node(&f, "Relu", "x", "z", NULL);
    refuse_case(&f, "its output 'y' is not defined");
    f = onnx_begin(13, 3, 4, 4);
    onnx_node(&f, "Identity", "x", "y", NULL);
    refuse_case(&f, "'y' is not the result of a supported operator");
    f = onnx_begin(13, 3, 4, 4);
    onnx_node(&f, "Relu", "x", "y", NULL);
    onnx_node(&f, "Relu", "x", "y", NULL);
    refuse_case(&f, "the name 'y' is given to two tensors");
    const int64_t dims[4] = {0, 3, 4, 4};
    f = onnx_begin(13, 3, 4, 4);
    onnx_info(&f, 11, "x2", 1, 4, dims);
    onnx_node(&f, "Add", "x,x2", "y", NULL);
    refuse_case(&f, "it has 2 inputs; exactly one");
    f = onnx_begin(13, 3, 4, 4);
    onnx_info(&f, 12, "z", 1, -1, NULL);
    onnx_node(&f, "Relu", "x", "y", NULL);
    refuse_case(&f, "it has 2 outputs; exactly one");
    f = (struct onnx_file){.opset = 13};
    onnx_info(&f, 11, "x", 7, 4, dims);
    onnx_node(&f, "Relu", "x", "y", NULL);
    refuse_case(&f, "input 'x' is not a tensor of float");
    const int64_t open[4] = {0, 3, 0, 4};
    f = (struct onnx_file){.opset = 13};
    onnx_info(&f, 11, "x", 1, 4, open);
    onnx_node(&f, "Relu", "x", "y", NULL);
    refuse_case(&f, "dimension 2 of input 'x' is not fixed");
}

static void test_declared_size_larger_than_data_is_refused(void **state)
{
    (void)state;
    const int64_t dims[2] = {1 << 20, 1 << 20}, huge[2] = {INT64_MAX, INT64_MAX}, negative[2] = {-3, -4};
    const float few[12] = {0};
    const int64_t *const cases[3] = {dims, huge, negative};
    for (int i = 0; i < 3; i++) {
        struct onnx_file f = onnx_begin(13, 3, 0, 0);
        tensor_raw(&f.graph, 5, "w", 1, 2, cases[i], few, sizeof(few));
        onnx_node(&f, "MatMul", "x,w", "y", NULL);
        refuse_case(&f, "tensor 'w'");
    }
    const int64_t three[2] = {3, 4};
    struct onnx_file f = onnx_begin(13, 3, 0, 0);
    tensor_raw(&f.graph, 5, "w", 1, 2, three, few, 47);
    onnx_node(&f, "MatMul", "x,w", "y", NULL);
    refuse_case(&f, "tensor 'w' has not a whole number of elements");
}

/* The parser that we use recurses into nested parts: a file of a few kilobytes must not exhaust its stack. */
static void test_deeply_nested_file_is_refused(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph;
    struct wire part = {0};
    for (int i = 0; i < 10000; i++) { /* AttributeProto.g -> GraphProto.node -> NodeProto.attribute -> ... */
        struct wire outer = {0};
        wire_message(&outer, i % 3 == 0 ? 6 : i % 3 == 1 ? 5 : 1, &part);
        part = outer;
    }
    struct wire model = {0};
    struct wire node = {0}, whole = {0};
    wire_message(&node, 5, &part);
    wire_message(&whole, 1, &node);
    wire_message(&model, 7, &whole);
    assert_int_equal(mqb_dir_create(PLACE, &error), MQB_OK);
    file_put(PLACE "/nested.onnx", model.data, model.size);
    free(model.data);
    assert_int_equal(mqb_onnx_import(PLACE "/nested.onnx", &mqb_ops, &graph, &error), MQB_ERR_FORMAT);
    assert_non_null(strstr(error.text, "nested.onnx: not a readable ONNX file"));
    assert_int_equal(mqb_onnx_import(PLACE "/absent.onnx", &mqb_ops, &graph, &error), MQB_ERR_NOT_FOUND);
    assert_non_null(strstr(error.text, "absent.onnx"));
    file_put(PLACE "/empty.onnx", "", 0);
    assert_int_equal(mqb_onnx_import(PLACE "/empty.onnx", &mqb_ops, &graph, &error), MQB_ERR_FORMAT);
    assert_non_null(strstr(error.text, "the file is empty"));
}

static void test_export_quantized_graph_is_refused(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph;
    const int64_t dims[2] = {MQB_BATCH, 3};
    mqb_value_id x;
    mqb_node_id node;
    assert_int_equal(mqb_graph_create(&mqb_ops, &graph, &error), MQB_OK);
    assert_int_equal(mqb_graph_add_input(graph, "x", 2, dims, &x, &error), MQB_OK);
    assert_int_equal(mqb_graph_calls.add_node(graph, "FakeQuantize", "q", &x, 1, &node, &error), MQB_OK);
    graph->output = graph->nodes[node].output;
    assert_int_equal(mqb_onnx_export(graph, PLACE "/q.onnx", &error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "q.onnx: node 'q': operator 'FakeQuantize' has no form in FP32 ONNX"));
    mqb_graph_destroy(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unsupported_operator_names_node_operator_and_file),
        cmocka_unit_test(test_wrong_frame_is_refused),
        cmocka_unit_test(test_declared_size_larger_than_data_is_refused),
        cmocka_unit_test(test_deeply_nested_file_is_refused),
        cmocka_unit_test(test_export_quantized_graph_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
