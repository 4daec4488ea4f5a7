/* test_onnx_shapes.c - every form in which ONNX moves or cuts data, and what vanishes at import. */
#include "onnx_case.h"

/* ---- shapes ---- */

static void test_flatten_forms(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(13, 3, 2, 2);
    onnx_ints(&f, "target", 2, 0, -1);
    onnx_node(&f, "Reshape", "x,target", "r", NULL);
    onnx_node(&f, "Flatten", "r", "y", NULL); /* flat already */
    struct mqb_graph *graph = import_case(&f, "reshape_zero");
    check_graph(graph, "Flatten", 2, 12, 0, 0);
    mqb_graph_destroy(graph);
    f = onnx_begin(13, 3, 2, 2);
    onnx_ints(&f, "target", 2, -1, 12);
    onnx_node(&f, "Reshape", "x,target", "y", NULL);
    graph = import_case(&f, "reshape_minus");
    check_graph(graph, "Flatten", 2, 12, 0, 0);
    mqb_graph_destroy(graph);
    f = onnx_begin(13, 3, 2, 2);
    onnx_ints(&f, "target", 2, -1, 6);
    onnx_node(&f, "Reshape", "x,target", "y", NULL);
    refuse_case(&f, "reshaping 'x' to [-1, 6] is not supported");
}

/* Shape -> Gather -> Unsqueeze -> Concat -> Reshape: what exporters write for x.view(x.size(0), -1). */
static void test_flatten_from_a_shape_computation(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(11, 3, 2, 2);
    struct wire a = {0};
    const int64_t zero = 0, minus[1] = {-1}, one = 1;
    onnx_node(&f, "Shape", "x", "s", NULL);
    attr_tensor(&a, "value", 7, 0, NULL, &zero, 8);
    onnx_node(&f, "Constant", "", "i", &a);
    attr_int(&a, "axis", 0);
    onnx_node(&f, "Gather", "s,i", "n", &a);
    attr_ints(&a, "axes", 1, 0);
    onnx_node(&f, "Unsqueeze", "n", "u", &a);
    attr_tensor(&a, "value", 7, 1, &one, minus, 8);
    onnx_node(&f, "Constant", "", "m", &a);
    attr_int(&a, "axis", 0);
    onnx_node(&f, "Concat", "u,m", "t", &a);
    onnx_node(&f, "Reshape", "x,t", "y", NULL);
    struct mqb_graph *graph = import_case(&f, "flatten_chain");
    check_graph(graph, "Flatten", 2, 12, 0, 0);
    mqb_graph_destroy(graph);
}

static void test_mean_over_pixels_becomes_pool(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(13, 3, 4, 5);
    struct wire a = {0};
    attr_ints(&a, "axes", 2, -1, -2);
    attr_int(&a, "keepdims", 0);
    onnx_node(&f, "ReduceMean", "x", "y", &a);
    struct mqb_graph *graph = import_case(&f, "mean_attribute");
    check_graph(graph, "GlobalAveragePool Flatten", 2, 3, 0, 0);
    mqb_graph_destroy(graph);
    f = onnx_begin(18, 3, 4, 5);
    onnx_ints(&f, "axes", 2, 2, 3);
    onnx_node(&f, "ReduceMean", "x,axes", "m", NULL);
    onnx_node(&f, "Squeeze", "m,axes", "y", NULL);
    graph = import_case(&f, "mean_input");
    check_graph(graph, "GlobalAveragePool Flatten", 2, 3, 0, 0);
    mqb_graph_destroy(graph);
    f = onnx_begin(13, 3, 4, 5);
    attr_ints(&a, "axes", 1, 1);
    onnx_node(&f, "ReduceMean", "x", "y", &a);
    refuse_case(&f, "axes other than 2 and 3");
}

static void test_slice_forms_are_resolved(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(9, 4, 6, 5);
    struct wire a = {0};
    attr_ints(&a, "starts", 2, -3, 1);
    attr_ints(&a, "ends", 2, 100, -1);
    attr_ints(&a, "axes", 2, 1, -2);
    onnx_node(&f, "Slice", "x", "y", &a);
    struct mqb_graph *graph = import_case(&f, "slice_attributes");
    check_graph(graph, "Slice", 4, 3, 4, 5);
    check_list(node_at(graph, 0), "starts", 4, 0, 1, 1, 0);
    check_list(node_at(graph, 0), "ends", 4, MQB_BATCH, 4, 5, 5);
    check_list(node_at(graph, 0), "steps", 4, 1, 1, 1, 1);
    mqb_graph_destroy(graph);
    f = onnx_begin(13, 4, 6, 5);
    onnx_ints(&f, "s", 2, 0, 1);
    onnx_ints(&f, "e", 2, 2147483647, 2147483647);
    onnx_ints(&f, "a", 2, 2, 3);
    onnx_ints(&f, "t", 2, 2, 3);
    onnx_node(&f, "Slice", "x,s,e,a,t", "y", NULL);
    graph = import_case(&f, "slice_inputs");
    check_graph(graph, "Slice", 4, 4, 3, 2);
    check_list(node_at(graph, 0), "steps", 4, 1, 1, 2, 3);
    mqb_graph_destroy(graph);
    f = onnx_begin(13, 4, 6, 5);
    onnx_ints(&f, "s", 1, 0);
    onnx_ints(&f, "e", 1, 1);
    onnx_node(&f, "Slice", "x,s,e", "y", NULL);
    refuse_case(&f, "it slices the batch dimension");
    f = onnx_begin(13, 4, 6, 5);
    onnx_ints(&f, "s", 1, 3);
    onnx_ints(&f, "e", 1, 3);
    onnx_ints(&f, "a", 1, 1);
    onnx_node(&f, "Slice", "x,s,e,a", "y", NULL);
    refuse_case(&f, "keeps nothing of axis 1");
}

static void test_pad_forms_are_resolved(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(10, 2, 3, 3);
    struct wire a = {0};
    attr_ints(&a, "pads", 8, 0, 0, 1, 2, 0, 0, 0, 1);
    attr_real(&a, "value", -1.0f);
    onnx_node(&f, "Pad", "x", "y", &a);
    struct mqb_graph *graph = import_case(&f, "pad_attributes");
    check_graph(graph, "Pad", 4, 2, 4, 6);
    check_list(node_at(graph, 0), "pads_begin", 4, 0, 0, 1, 2);
    check_list(node_at(graph, 0), "pads_end", 4, 0, 0, 0, 1);
    assert_true(mqb_attr_f(node_at(graph, 0), "value", 0.0) == -1.0);
    mqb_graph_destroy(graph);
    f = onnx_begin(18, 2, 3, 3);
    onnx_ints(&f, "p", 2, 1, 2);
    onnx_ints(&f, "axes", 1, 1);
    onnx_node(&f, "Pad", "x,p,,axes", "y", NULL);
    graph = import_case(&f, "pad_channels");
    check_graph(graph, "Pad", 4, 5, 3, 3);
    mqb_graph_destroy(graph);
    f = onnx_begin(10, 2, 3, 3);
    attr_ints(&a, "pads", 8, 0, 0, 1, 1, 0, 0, 1, 1);
    attr_text(&a, "mode", "reflect");
    onnx_node(&f, "Pad", "x", "y", &a);
    refuse_case(&f, "attribute 'mode' is 'reflect'");
}

static void test_concat_and_vanishing_nodes(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(12, 2, 3, 3);
    struct wire a = {0};
    onnx_node(&f, "Relu", "x", "r", NULL);
    onnx_node(&f, "Identity", "r", "i", NULL);
    onnx_node(&f, "Dropout", "i", "d", NULL);
    attr_int(&a, "axis", -3);
    onnx_node(&f, "Concat", "d,x,r", "c", &a);
    onnx_node(&f, "Identity", "c", "y", NULL);
    struct mqb_graph *graph = import_case(&f, "concat");
    check_graph(graph, "Relu Concat", 4, 6, 3, 3);
    assert_int_equal(node_at(graph, 1)->num_inputs, 3);
    mqb_graph_destroy(graph);
    f = onnx_begin(12, 2, 3, 3);
    attr_int(&a, "axis", 2);
    onnx_node(&f, "Concat", "x,x", "y", &a);
    refuse_case(&f, "attribute 'axis' = 2 is not supported");
}

static void test_channel_shuffle_is_recognized(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(13, 6, 4, 5);
    struct wire a = {0};
    onnx_ints(&f, "split", 5, -1, 3, 2, 4, 5);
    onnx_ints(&f, "whole", 4, 0, -1, 4, 5);
    onnx_node(&f, "Reshape", "x,split", "s", NULL);
    attr_ints(&a, "perm", 5, 0, 2, 1, 3, 4);
    onnx_node(&f, "Transpose", "s", "t", &a);
    onnx_node(&f, "Reshape", "t,whole", "y", NULL);
    struct mqb_graph *graph = import_case(&f, "shuffle");
    check_graph(graph, "ChannelShuffle", 4, 6, 4, 5);
    assert_int_equal(mqb_attr_i(node_at(graph, 0), "group", 0), 3);
    mqb_graph_destroy(graph);
    f = onnx_begin(13, 6, 4, 5);
    onnx_ints(&f, "split", 5, -1, 3, 2, 4, 5);
    onnx_node(&f, "Reshape", "x,split", "s", NULL);
    onnx_node(&f, "Relu", "s", "y", NULL);
    refuse_case(&f, "node 1 'node_y' (Relu): input 's' was reshaped to 5 dimensions");
}

/* A fixed batch size in the file is no limit for us. */
static void test_fixed_batch_is_treated_as_dynamic(void **state)
{
    (void)state;
    const int64_t dims[4] = {1, 3, 2, 2};
    struct onnx_file f = {.opset = 13};
    onnx_info(&f, 11, "x", 1, 4, dims);
    onnx_ints(&f, "target", 2, 1, -1);
    onnx_node(&f, "Reshape", "x,target", "y", NULL);
    struct mqb_graph *graph = import_case(&f, "fixed_batch");
    check_graph(graph, "Flatten", 2, 12, 0, 0);
    mqb_graph_destroy(graph);
}

static void test_shared_weight_is_one_parameter(void **state)
{
    (void)state;
    const int64_t dims[2] = {3, 3};
    struct onnx_file f = onnx_begin(13, 3, 0, 0);
    struct wire a = {0};
    onnx_reals(&f, "w", 2, dims);
    attr_int(&a, "transB", 1);
    onnx_node(&f, "Gemm", "x,w", "g", &a);
    onnx_node(&f, "MatMul", "g,w", "m", NULL); /* transposed: another parameter */
    attr_int(&a, "transB", 1);
    onnx_node(&f, "Gemm", "m,w", "y", &a);
    struct mqb_graph *graph = import_case(&f, "shared");
    assert_int_equal(node_at(graph, 0)->inputs[1], node_at(graph, 2)->inputs[1]);
    assert_int_not_equal(node_at(graph, 0)->inputs[1], node_at(graph, 1)->inputs[1]);
    mqb_graph_destroy(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flatten_forms),
        cmocka_unit_test(test_flatten_from_a_shape_computation),
        cmocka_unit_test(test_mean_over_pixels_becomes_pool),
        cmocka_unit_test(test_slice_forms_are_resolved),
        cmocka_unit_test(test_pad_forms_are_resolved),
        cmocka_unit_test(test_concat_and_vanishing_nodes),
        cmocka_unit_test(test_channel_shuffle_is_recognized),
        cmocka_unit_test(test_fixed_batch_is_treated_as_dynamic),
        cmocka_unit_test(test_shared_weight_is_one_parameter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
