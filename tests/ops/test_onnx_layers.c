/* test_onnx_layers.c - every form in which ONNX writes the layers and activations of a network. */
#include "onnx_case.h"

static const int64_t conv_dims[4] = {4, 2, 3, 3};

/* ---- convolution, pooling, normalization, activations ---- */

static void test_conv_attributes_are_kept(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(7, 4, 9, 8);
    struct wire a = {0};
    attr_ints(&a, "kernel_shape", 2, 3, 3);
    attr_ints(&a, "strides", 2, 2, 1);
    attr_ints(&a, "pads", 4, 0, 1, 2, 3);
    attr_ints(&a, "dilations", 2, 1, 2);
    attr_int(&a, "group", 2);
    onnx_reals(&f, "w", 4, conv_dims);
    onnx_vector(&f, "b", 4);
    onnx_node(&f, "Conv", "x,w,b", "y", &a);
    struct mqb_graph *graph = import_case(&f, "conv");
    check_graph(graph, "Conv", 4, 4, 5, 8);
    const struct mqb_node *node = node_at(graph, 0);
    assert_string_equal(node->name, "node_y");
    check_list(node, "strides", 2, 2, 1);
    check_list(node, "pads", 4, 0, 1, 2, 3);
    check_list(node, "dilations", 2, 1, 2);
    assert_int_equal(mqb_attr_i(node, "group", 0), 2);
    assert_int_equal(graph->values[node->inputs[1]].kind, MQB_VALUE_PARAM);
    assert_string_equal(graph->values[node->inputs[2]].name, "b");
    mqb_graph_destroy(graph);
}

static void test_conv_auto_pad_becomes_explicit(void **state)
{
    (void)state;
    static const struct {
        const char *mode;
        int pads[4];
    } cases[] = {{"SAME_UPPER", {0, 1, 1, 1}}, {"SAME_LOWER", {1, 1, 0, 1}}, {"VALID", {0, 0, 0, 0}}};
    for (int i = 0; i < 3; i++) {
        struct onnx_file f = onnx_begin(11, 2, 8, 7);
        struct wire a = {0};
        attr_text(&a, "auto_pad", cases[i].mode);
        attr_ints(&a, "strides", 2, 2, 3); /* h: 4 steps need 9 rows of 8; w: 3 steps need 9 columns of 7 */
        onnx_reals(&f, "w", 4, conv_dims);
        onnx_node(&f, "Conv", "x,w", "y", &a);
        struct mqb_graph *graph = import_case(&f, cases[i].mode);
        check_list(node_at(graph, 0), "pads", 4, cases[i].pads[0], cases[i].pads[1], cases[i].pads[2], cases[i].pads[3]);
        mqb_graph_destroy(graph);
    }
}

static void test_conv_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(13, 5, 8, 8);
    onnx_reals(&f, "w", 4, conv_dims);
    onnx_node(&f, "Conv", "x,w", "y", NULL);
    refuse_case(&f,
                "node 0 'node_y' (Conv): weight 'w' is [4][2][3][3], which does not fit an input of 5 channels in 1 groups");
    f = onnx_begin(13, 2, 2, 8);
    onnx_reals(&f, "w", 4, conv_dims);
    onnx_node(&f, "Conv", "x,w", "y", NULL);
    refuse_case(&f, "node 0 'node_y' (Conv)"); /* the window is larger than the image */
    f = onnx_begin(13, 2, 8, 8);
    onnx_reals(&f, "w", 3, conv_dims);
    onnx_node(&f, "Conv", "x,w", "y", NULL);
    refuse_case(&f, "only 2-D convolutions");
    f = onnx_begin(13, 2, 8, 8);
    onnx_reals(&f, "w", 4, conv_dims);
    onnx_vector(&f, "b", 3);
    onnx_node(&f, "Conv", "x,w,b", "y", NULL);
    refuse_case(&f, "bias 'b' has 3 elements for 4 output channels");
    struct wire a = {0};
    f = onnx_begin(13, 2, 8, 8);
    onnx_reals(&f, "w", 4, conv_dims);
    attr_ints(&a, "strides", 2, 0, 1);
    onnx_node(&f, "Conv", "x,w", "y", &a);
    refuse_case(&f, "attribute 'strides' contains 0");
    f = onnx_begin(13, 2, 8, 8);
    onnx_reals(&f, "w", 4, conv_dims);
    attr_text(&a, "group", "one");
    onnx_node(&f, "Conv", "x,w", "y", &a);
    refuse_case(&f, "attribute 'group' should be an integer");
}

static void batch_norm_params(struct onnx_file *f)
{
    onnx_vector(f, "gamma", 3);
    onnx_vector(f, "beta", 3);
    onnx_vector(f, "mean", 3);
    onnx_positive(f, "var", 3);
}

static void test_batch_norm_parameters_have_their_kinds(void **state)
{
    (void)state;
    const int opsets[3] = {7, 9, 15};
    for (int i = 0; i < 3; i++) {
        struct onnx_file f = onnx_begin(opsets[i], 3, 4, 4);
        struct wire a = {0};
        batch_norm_params(&f);
        attr_real(&a, "epsilon", 0.001f);
        onnx_node(&f, "BatchNormalization", "x,gamma,beta,mean,var", "y", &a);
        struct mqb_graph *graph = import_case(&f, "batch_norm");
        check_graph(graph, "BatchNormalization", 4, 3, 4, 4);
        const struct mqb_node *node = node_at(graph, 0);
        for (int k = 1; k < 5; k++) {
            assert_int_equal(graph->values[node->inputs[k]].kind, k < 3 ? MQB_VALUE_PARAM : MQB_VALUE_STATE);
        }
        assert_true((float)mqb_attr_f(node, "epsilon", 0.0) == 0.001f);
        assert_true((float)mqb_attr_f(node, "momentum", 0.0) == 0.9f);
        mqb_graph_destroy(graph);
    }
}

/* Exporters that join equal tensors give two layers one mean: each layer's statistics are still its own. */
static void test_batch_norm_shared_statistics_become_private(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(13, 3, 4, 4);
    batch_norm_params(&f);
    onnx_node(&f, "BatchNormalization", "x,gamma,beta,mean,var", "a", NULL);
    onnx_node(&f, "BatchNormalization", "a,gamma,beta,mean,var", "y", NULL);
    struct mqb_graph *graph = import_case(&f, "batch_norm_shared");
    const struct mqb_node *a = node_at(graph, 0), *b = node_at(graph, 1);
    assert_int_equal(a->inputs[1], b->inputs[1]);
    assert_int_not_equal(a->inputs[3], b->inputs[3]);
    assert_string_equal(graph->values[b->inputs[3]].name, "mean_1");
    mqb_graph_destroy(graph);
}

static void test_batch_norm_training_or_bad_variance_is_refused(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(14, 3, 4, 4);
    struct wire a = {0};
    batch_norm_params(&f);
    attr_int(&a, "training_mode", 1);
    onnx_node(&f, "BatchNormalization", "x,gamma,beta,mean,var", "y", &a);
    refuse_case(&f, "training mode; export the network in evaluation mode");
    const float negative[3] = {1.0f, -2.0f, 1.0f};
    const int64_t three = 3;
    f = onnx_begin(14, 3, 4, 4);
    batch_norm_params(&f);
    tensor_raw(&f.graph, 5, "bad", 1, 1, &three, negative, sizeof(negative));
    onnx_node(&f, "BatchNormalization", "x,gamma,beta,mean,bad", "y", NULL);
    refuse_case(&f, "variance 'bad' is -2 at channel 1");
    f = onnx_begin(14, 4, 4, 4);
    batch_norm_params(&f);
    onnx_node(&f, "BatchNormalization", "x,gamma,beta,mean,var", "y", NULL);
    refuse_case(&f, "scale 'gamma' has 3 elements for 4 channels");
}

static void test_pools_keep_their_windows(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(12, 2, 9, 9);
    struct wire a = {0};
    attr_ints(&a, "kernel_shape", 2, 3, 2);
    attr_ints(&a, "strides", 2, 2, 2);
    attr_ints(&a, "pads", 4, 1, 0, 1, 1);
    onnx_node(&f, "MaxPool", "x", "m", &a);
    attr_ints(&a, "kernel_shape", 2, 2, 2);
    attr_int(&a, "ceil_mode", 1);
    attr_ints(&a, "strides", 2, 2, 2);
    attr_int(&a, "count_include_pad", 1);
    attr_ints(&a, "pads", 4, 1, 1, 0, 0);
    onnx_node(&f, "AveragePool", "m", "y", &a);
    struct mqb_graph *graph = import_case(&f, "pools");
    check_graph(graph, "MaxPool AveragePool", 4, 2, 3, 3);
    check_list(node_at(graph, 0), "kernel_shape", 2, 3, 2);
    check_list(node_at(graph, 0), "pads", 4, 1, 0, 1, 1);
    assert_int_equal(mqb_attr_i(node_at(graph, 1), "ceil_mode", 0), 1);
    assert_int_equal(mqb_attr_i(node_at(graph, 1), "count_include_pad", 0), 1);
    mqb_graph_destroy(graph);
    f = onnx_begin(12, 2, 9, 9);
    attr_ints(&a, "kernel_shape", 2, 3, 3);
    attr_ints(&a, "dilations", 2, 2, 2);
    onnx_node(&f, "MaxPool", "x", "y", &a);
    refuse_case(&f, "dilated pooling");
}

static void test_clip_from_attributes_and_inputs(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(7, 2, 4, 4);
    struct wire a = {0};
    attr_real(&a, "min", 0.0f);
    attr_real(&a, "max", 6.0f);
    onnx_node(&f, "Clip", "x", "y", &a);
    struct mqb_graph *graph = import_case(&f, "clip_attributes");
    assert_true(mqb_attr_f(node_at(graph, 0), "max", 0.0) == 6.0);
    mqb_graph_destroy(graph);
    f = onnx_begin(13, 2, 4, 4);
    const float low = -1.5f;
    attr_tensor(&a, "value", 1, 0, NULL, &low, 4);
    onnx_node(&f, "Constant", "", "low", &a);
    onnx_node(&f, "Clip", "x,low", "z", NULL);
    onnx_scalar(&f, "high", 0.75f);
    onnx_node(&f, "Clip", "z,,high", "y", NULL);
    graph = import_case(&f, "clip_inputs");
    check_graph(graph, "Clip Clip", 4, 2, 4, 4);
    assert_true(mqb_attr_f(node_at(graph, 0), "min", 0.0) == -1.5);
    assert_true(mqb_attr_f(node_at(graph, 0), "max", 0.0) > 3e38);
    assert_true(mqb_attr_f(node_at(graph, 1), "max", 0.0) == 0.75);
    mqb_graph_destroy(graph);
    f = onnx_begin(13, 2, 4, 4);
    onnx_node(&f, "Relu", "x", "low", NULL);
    onnx_node(&f, "Clip", "x,low", "y", NULL);
    refuse_case(&f, "input 1 'low' is computed by the network; only a constant is supported there");
}

static void test_leaky_relu_slope_and_default(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(13, 2, 4, 4);
    struct wire a = {0};
    attr_real(&a, "alpha", 0.25f);
    onnx_node(&f, "LeakyRelu", "x", "first", &a);
    onnx_node(&f, "LeakyRelu", "first", "y", NULL);
    struct mqb_graph *graph = import_case(&f, "leaky_relu");
    check_graph(graph, "LeakyRelu LeakyRelu", 4, 2, 4, 4);
    assert_true(mqb_attr_f(node_at(graph, 0), "alpha", 0.0) == 0.25);
    assert_true((float)mqb_attr_f(node_at(graph, 1), "alpha", 0.0) == 0.01f);
    mqb_graph_destroy(graph);
}

static void test_hard_swish_is_recognized(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(14, 2, 4, 4);
    struct wire a = {0};
    attr_real(&a, "alpha", 1.0f / 6.0f);
    onnx_node(&f, "HardSigmoid", "x", "gate", &a);
    onnx_node(&f, "Mul", "gate,x", "swish", NULL);
    onnx_node(&f, "HardSwish", "swish", "more", NULL);
    onnx_node(&f, "Sigmoid", "more", "s", NULL);
    onnx_node(&f, "HardSigmoid", "s", "h", NULL); /* another slope: stays */
    onnx_node(&f, "Mul", "h,s", "y", NULL);
    struct mqb_graph *graph = import_case(&f, "hard_swish");
    check_graph(graph, "HardSwish HardSwish Sigmoid HardSigmoid Mul", 4, 2, 4, 4);
    assert_string_equal(node_at(graph, 0)->name, "node_swish");
    assert_true((float)mqb_attr_f(node_at(graph, 3), "alpha", 0.0) == 0.2f);
    mqb_graph_destroy(graph);
}

static void test_mul_broadcast_comes_second(void **state)
{
    (void)state;
    struct onnx_file f = onnx_begin(13, 2, 4, 4);
    onnx_node(&f, "GlobalAveragePool", "x", "p", NULL);
    onnx_node(&f, "Sigmoid", "p", "s", NULL);
    onnx_node(&f, "Mul", "s,x", "y", NULL);
    struct mqb_graph *graph = import_case(&f, "squeeze_excite");
    check_graph(graph, "GlobalAveragePool Sigmoid Mul", 4, 2, 4, 4);
    assert_int_equal(node_at(graph, 2)->inputs[0], graph->input);
    mqb_graph_destroy(graph);
}

/* ---- linear layers ---- */

static void test_gemm_is_normalized(void **state)
{
    (void)state;
    const int64_t dims[2] = {3, 4}, row[2] = {1, 4};
    struct onnx_file f = onnx_begin(13, 3, 0, 0);
    struct wire a = {0};
    attr_real(&a, "alpha", 2.0f);
    attr_real(&a, "beta", 0.5f);
    onnx_reals(&f, "w", 2, dims);
    onnx_reals(&f, "b", 2, row);
    onnx_node(&f, "Gemm", "x,w,b", "y", &a);
    struct mqb_graph *graph = import_case(&f, "gemm");
    check_graph(graph, "Gemm", 2, 4, 0, 0);
    const struct mqb_node *node = node_at(graph, 0);
    const struct mqb_value *w = &graph->values[node->inputs[1]], *b = &graph->values[node->inputs[2]];
    assert_int_equal(node->num_attrs, 0);
    assert_int_equal(w->dims[0], 4);
    assert_int_equal(w->dims[1], 3);
    assert_int_equal(b->rank, 1);
    /* the same file, plain: transposed by hand */
    f = onnx_begin(13, 3, 0, 0);
    onnx_reals(&f, "w", 2, dims);
    onnx_reals(&f, "b", 2, row);
    onnx_node(&f, "Gemm", "x,w,b", "y", NULL);
    struct mqb_graph *plain = import_case(&f, "gemm_plain");
    const struct mqb_node *other = node_at(plain, 0);
    for (int i = 0; i < 12; i++) {
        assert_true(w->data[i] == 2.0f * plain->values[other->inputs[1]].data[i]);
    }
    for (int i = 0; i < 4; i++) {
        assert_true(b->data[i] == 0.5f * plain->values[other->inputs[2]].data[i]);
    }
    mqb_graph_destroy(graph);
    mqb_graph_destroy(plain);
}

static void test_matmul_and_add_become_gemm(void **state)
{
    (void)state;
    const int64_t dims[2] = {3, 5};
    struct onnx_file f = onnx_begin(9, 3, 0, 0);
    onnx_reals(&f, "w", 2, dims);
    onnx_vector(&f, "b", 5);
    onnx_node(&f, "MatMul", "x,w", "m", NULL);
    onnx_node(&f, "Add", "b,m", "y", NULL);
    struct mqb_graph *graph = import_case(&f, "matmul_add");
    check_graph(graph, "Gemm", 2, 5, 0, 0);
    assert_int_equal(node_at(graph, 0)->num_inputs, 3);
    /* w [in][out] is stored [out][in] */
    const struct mqb_value *w = &graph->values[node_at(graph, 0)->inputs[1]];
    assert_int_equal(w->dims[0], 5);
    mqb_graph_destroy(graph);
    /* a transposed weight, as exporters write a linear layer */
    f = onnx_begin(9, 3, 0, 0);
    const int64_t stored[2] = {5, 3};
    struct wire a = {0};
    attr_ints(&a, "perm", 2, 1, 0);
    onnx_reals(&f, "w", 2, stored);
    onnx_node(&f, "Transpose", "w", "wt", &a);
    onnx_node(&f, "MatMul", "x,wt", "y", NULL);
    graph = import_case(&f, "matmul_transposed");
    check_graph(graph, "Gemm", 2, 5, 0, 0);
    mqb_graph_destroy(graph);
}

static void test_conv_and_add_get_one_bias(void **state)
{
    (void)state;
    const int64_t bias_dims[3] = {4, 1, 1};
    struct onnx_file f = onnx_begin(13, 2, 6, 6);
    onnx_reals(&f, "w", 4, conv_dims);
    onnx_reals(&f, "b", 3, bias_dims);
    onnx_node(&f, "Conv", "x,w", "c", NULL);
    onnx_node(&f, "Add", "c,b", "y", NULL);
    struct mqb_graph *graph = import_case(&f, "conv_add");
    check_graph(graph, "Conv", 4, 4, 4, 4);
    assert_int_equal(graph->values[node_at(graph, 0)->inputs[2]].rank, 1);
    mqb_graph_destroy(graph);
    /* read by somebody else too: the bias must not move */
    f = onnx_begin(13, 2, 6, 6);
    onnx_reals(&f, "w", 4, conv_dims);
    onnx_reals(&f, "b", 3, bias_dims);
    onnx_node(&f, "Conv", "x,w", "c", NULL);
    onnx_node(&f, "Add", "c,b", "d", NULL);
    onnx_node(&f, "Add", "c,d", "y", NULL);
    refuse_case(&f, "node 1 'node_d' (Add): adding the constant 'b' is supported only as the bias");
    /* along W, not along the channels */
    f = onnx_begin(13, 2, 6, 6);
    onnx_reals(&f, "w", 4, conv_dims);
    onnx_vector(&f, "b", 4);
    onnx_node(&f, "Conv", "x,w", "c", NULL);
    onnx_node(&f, "Add", "c,b", "y", NULL);
    refuse_case(&f, "only as the bias");
}

static void test_weights_of_other_types_become_float(void **state)
{
    (void)state;
    const int64_t dims[2] = {2, 2};
    const uint16_t halves[4] = {0x3c00, 0xc100, 0x0001, 0x7bff}; /* 1, -2.5, 2^-24, 65504 */
    const float expected[4] = {1.0f, -2.5f, 0x1p-24f, 65504.0f};
    const double doubles[4] = {1.0, -2.5, 0x1p-24, 65504.0};
    struct wire a = {0};
    for (int i = 0; i < 2; i++) {
        struct onnx_file f = onnx_begin(13, 2, 0, 0);
        if (i == 0) {
            tensor_raw(&f.graph, 5, "w", 10, 2, dims, halves, sizeof(halves));
        } else {
            tensor_raw(&f.graph, 5, "w", 11, 2, dims, doubles, sizeof(doubles));
        }
        attr_int(&a, "transB", 1);
        onnx_node(&f, "Gemm", "x,w", "y", &a);
        struct mqb_graph *graph = import_case(&f, "types");
        assert_memory_equal(graph->values[node_at(graph, 0)->inputs[1]].data, expected, sizeof(expected));
        mqb_graph_destroy(graph);
    }
    struct onnx_file f = onnx_begin(13, 2, 0, 0);
    tensor_raw(&f.graph, 5, "w", 3, 2, dims, halves, 4);
    onnx_node(&f, "Gemm", "x,w", "y", NULL);
    refuse_case(&f, "tensor 'w' has the element type int8 (3)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv_attributes_are_kept),
        cmocka_unit_test(test_conv_auto_pad_becomes_explicit),
        cmocka_unit_test(test_conv_that_does_not_fit_is_refused),
        cmocka_unit_test(test_batch_norm_parameters_have_their_kinds),
        cmocka_unit_test(test_batch_norm_shared_statistics_become_private),
        cmocka_unit_test(test_batch_norm_training_or_bad_variance_is_refused),
        cmocka_unit_test(test_pools_keep_their_windows),
        cmocka_unit_test(test_clip_from_attributes_and_inputs),
        cmocka_unit_test(test_leaky_relu_slope_and_default),
        cmocka_unit_test(test_hard_swish_is_recognized),
        cmocka_unit_test(test_mul_broadcast_comes_second),
        cmocka_unit_test(test_gemm_is_normalized),
        cmocka_unit_test(test_matmul_and_add_become_gemm),
        cmocka_unit_test(test_conv_and_add_get_one_bias),
        cmocka_unit_test(test_weights_of_other_types_become_float),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
