/*
 * test_fbgemm_x86.c - the FBGEMM backend: its rules under each option, what it refuses, what its two files hold when another
 * reader reads them; and the deployment's widening of channels whose bias 32 bits cannot hold.
 */
#include "export_check.h"
#include "quant/deploy.h"

#include <float.h>

static struct mqb_backend_rules rules_with(const char *key, const char *value)
{
    struct exported e;
    exported_rules(&e, "fbgemm_x86", key, value);
    struct mqb_backend_rules rules = e.rules;
    exported_free(&e);
    return rules;
}

static void test_fbgemm_rules_state_schemes(void **state)
{
    (void)state;
    struct mqb_scheme scheme;
    struct mqb_backend_rules rules = rules_with(NULL, NULL);
    mqb_scheme_make(&rules, MQB_ROLE_WEIGHT, 8, 64, &scheme);
    assert_true(scheme.per_channel && !scheme.symmetric && !scheme.pot_scale && !scheme.adaptive_sign);
    assert_int_equal(scheme.num_channels, 64);
    assert_int_equal(scheme.qmin, -128);
    assert_int_equal(scheme.qmax, 127);
    mqb_scheme_make(&rules, MQB_ROLE_ACTIVATION, 8, 64, &scheme);
    assert_true(!scheme.per_channel && !scheme.symmetric && !scheme.pot_scale && !scheme.adaptive_sign);
    assert_int_equal(scheme.num_channels, 1);
    assert_int_equal(scheme.qmin, 0);
    assert_int_equal(scheme.qmax, 255);
    assert_string_equal(rules.passes[0], "bn_fold");
    assert_string_equal(rules.passes[1], "place_graph3");
    assert_int_equal(rules.default_bn_fold, 4);
    assert_int_equal(rules.contract.accumulator, MQB_ACCUMULATOR_I32_WRAP);
    assert_int_equal(rules.contract.certainty, MQB_CERTAINTY_EXACT);

    rules = rules_with("weights", "symmetric");
    mqb_scheme_make(&rules, MQB_ROLE_WEIGHT, 4, 3, &scheme);
    assert_true(scheme.symmetric && scheme.per_channel);
    assert_int_equal(scheme.qmin, -8);
    assert_int_equal(scheme.qmax, 7);

    rules = rules_with("reduce_range", "yes");
    mqb_scheme_make(&rules, MQB_ROLE_ACTIVATION, 8, 1, &scheme);
    assert_int_equal(scheme.bits, 7);
    assert_int_equal(scheme.qmax, 127); /* PyTorch's reduce_range */
    mqb_scheme_make(&rules, MQB_ROLE_ACTIVATION, 4, 1, &scheme);
    assert_int_equal(scheme.qmax, 15);
    mqb_scheme_make(&rules, MQB_ROLE_WEIGHT, 8, 1, &scheme);
    assert_int_equal(scheme.qmax, 127);

    rules = rules_with("vnni", "no");
    assert_int_equal(rules.contract.accumulator, MQB_ACCUMULATOR_I16_PAIRS);
}

static void test_fbgemm_profiles_differ_where_the_libraries_do(void **state)
{
    (void)state;
    struct mqb_backend_rules fbgemm = rules_with("profile", "fbgemm"), ort = rules_with("profile", "ort");
    /* One number on which a product with the reciprocal and a division fall to different sides: 127.49999 and 127.5. */
    float x = 0.273939937f, scale = 0.00214854861f;
    int32_t multiplied = (int32_t)rintf(x * (1.0f / scale)), divided = (int32_t)rintf(x / scale);
    assert_int_not_equal(multiplied, divided);
    assert_int_equal(fbgemm.contract.input_divide, 0);
    assert_int_equal(ort.contract.input_divide, 1);
    assert_int_equal(fbgemm.contract.add_rule, MQB_ADD_F32);
    assert_int_equal(ort.contract.add_rule, MQB_ADD_FMA);
    assert_int_equal(fbgemm.contract.pool_rule, MQB_POOL_INTEGER);
    assert_int_equal(ort.contract.pool_rule, MQB_POOL_ORT);
    assert_int_equal(fbgemm.contract.multiplier, ort.contract.multiplier);
    assert_int_equal(fbgemm.contract.fold, MQB_FOLD_F32_MUL_DIV);
}

/* ---- what it refuses ---- */

static void expect_refusal(const struct mqb_graph *graph, mqb_value_id value, const struct mqb_qparams *q, const char *words)
{
    struct mqb_error error = MQB_ERROR_INIT;
    const struct mqb_backend *backend = backend_of("fbgemm_x86");
    mqb_status status = backend->judge(mqb_host_table(), NULL, graph, value, q, &error);
    assert_int_equal(status, words ? MQB_ERR_UNSUPPORTED : MQB_OK);
    if (words && !strstr(error.text, words))
        fail_msg("\"%s\" has no \"%s\"", error.text, words);
}

static void test_fbgemm_judge_refuses_what_no_byte_holds(void **state)
{
    (void)state;
    struct hand_net make, *net = &make;
    hand_create(net, 1);
    mqb_value_id x = hand_input(net, 3, 4, 4), w = hand_param(net, "w", 4, (int64_t[]){2, 3, 1, 1}, NULL);
    float scale[2] = {0.5f, 0.25f};
    int32_t zero[2] = {-128, 127};
    struct mqb_qparams weight = {
        .struct_size = sizeof weight, .num_channels = 2, .scale = scale, .zero_point = zero, .qmin = -128, .qmax = 127};
    expect_refusal(net->graph, w, &weight, NULL);
    zero[1] = 128;
    expect_refusal(net->graph, w, &weight, "\"w\", channel 1: zero point 128");
    zero[1] = 0;
    scale[1] = FLT_MIN / 2;
    expect_refusal(net->graph, w, &weight, "channel 1: scale");
    scale[1] = NAN;
    expect_refusal(net->graph, w, &weight, "channel 1: scale");
    scale[1] = 1.0f;
    weight.num_levels = 5;
    expect_refusal(net->graph, w, &weight, "table of 5 levels");
    struct mqb_qparams input = {
        .struct_size = sizeof input, .num_channels = 1, .scale = scale, .zero_point = zero + 1, .qmin = 0, .qmax = 255};
    expect_refusal(net->graph, x, &input, NULL);
    input.qmin = -128;
    expect_refusal(net->graph, x, &input, "codes [-128, 255]");
    input.qmin = 0;
    input.num_channels = 2;
    expect_refusal(net->graph, x, &input, "one scale an activation");
    hand_destroy(net);
}

/* ---- its files ---- */

static void check_weights(const struct hand_net *net, const struct onnx_file *file)
{
    int seen = 0;
    for (int i = 0; i < net->deploy.num_frozen; i++) {
        const struct mqb_frozen *f = &net->frozen[i];
        char name[128];
        if (f->role != MQB_ROLE_WEIGHT)
            continue;
        snprintf(name, sizeof name, "%s_quantized", f->name);
        const struct onnx_tensor *codes = onnx_tensor_named(file, (struct onnx_text){(const uint8_t *)name, strlen(name)});
        snprintf(name, sizeof name, "%s_scale", f->name);
        const struct onnx_tensor *scale = onnx_tensor_named(file, (struct onnx_text){(const uint8_t *)name, strlen(name)});
        snprintf(name, sizeof name, "%s_zero_point", f->name);
        const struct onnx_tensor *zero = onnx_tensor_named(file, (struct onnx_text){(const uint8_t *)name, strlen(name)});
        assert_true(codes && scale && zero);
        assert_int_equal(codes->type, f->qmin < 0 ? 3 : 2);
        assert_int_equal(codes->count, f->num_codes);
        assert_int_equal(scale->count, f->num_channels);
        for (int64_t k = 0; k < codes->count; k++)
            assert_int_equal((int32_t)onnx_element(codes, k), f->codes[k]);
        for (int64_t k = 0; k < scale->count; k++) {
            assert_true((float)onnx_element(scale, k) == f->scale[k]);
            assert_int_equal((int32_t)onnx_element(zero, k), f->zero_point[k]);
        }
        seen++;
    }
    assert_true(seen >= 2);
}

static int count_nodes(const struct onnx_file *file, const char *op)
{
    int count = 0;
    for (int i = 0; i < file->num_nodes; i++)
        count += onnx_is(file->nodes[i].op, op);
    return count;
}

/* x -> Conv -> Relu (cuts codes off) -> AveragePool -> Flatten -> Gemm */
static void test_fbgemm_files_hold_the_program(void **state)
{
    (void)state;
    struct hand_net make, *net = &make;
    hand_create(net, 3);
    mqb_value_id x = hand_input(net, 3, 4, 4);
    hand_point(net, x, 0.02f, 120, 0, 255);
    x = hand_unary(net, "Relu", "relu", add_conv(net, "conv", x, 6, 3, 1, 1, (int64_t[]){1, 1, 1, 1}, false));
    hand_infer(net);
    hand_point(net, x, 0.05f, 17, 0, 255);
    x = hand_unary(net, "GlobalAveragePool", "mean", x);
    hand_infer(net);
    x = hand_unary(net, "Flatten", "flat", x);
    hand_infer(net);
    struct hand_weight weight = {.per_channel = true, .qmin = -128, .qmax = 127, .scale = 0.01f};
    mqb_value_id inputs[3] = {x, hand_weight(net, "fc.w", 2, (int64_t[]){5, 6}, &weight),
                              hand_param(net, "fc.b", 1, (int64_t[]){5}, NULL)};
    hand_node(net, "Gemm", "fc", 3, inputs);
    hand_infer(net);
    struct mqb_backend_rules rules = rules_with("profile", "ort");
    struct mqb_program *program;
    HAND_OK(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error));
    for (uint32_t form = MQB_ONNX_QDQ; form <= MQB_ONNX_QLINEAR; form++) {
        char path[512];
        struct onnx_file file;
        snprintf(path, sizeof path, "%s/test_fbgemm_x86.%u.onnx", MQB_BINARY_DIR, (unsigned)form);
        HAND_OK(mqb_program_export_onnx(program, &net->deploy, form, path, &net->error));
        onnx_read(path, &file);
        check_weights(net, &file);
        assert_int_equal(count_nodes(&file, "Clip"), 1);
        assert_int_equal(count_nodes(&file, "Relu"), 0);
        const bool qdq = form == MQB_ONNX_QDQ;
        assert_int_equal(count_nodes(&file, "QuantizeLinear"), qdq ? 4 : 1);
        assert_int_equal(count_nodes(&file, "DequantizeLinear"), qdq ? 4 + 2 + 2 : 0); /* activations, weights, biases */
        assert_int_equal(count_nodes(&file, "QLinearConv"), qdq ? 0 : 1);
        assert_int_equal(count_nodes(&file, "QGemm"), qdq ? 0 : 1);
        assert_int_equal(count_nodes(&file, "QLinearGlobalAveragePool"), qdq ? 0 : 1);
        onnx_free(&file);
        unlink(path);
    }
    mqb_program_destroy(program);
    hand_destroy(net);
}

/* ---- channels that batch norm switched off ---- */

static void test_deploy_a_bias_beyond_32_bits_widens_its_channel(void **state)
{
    (void)state;
    struct hand_net make, *net = &make;
    hand_create(net, 5);
    mqb_value_id x = hand_input(net, 2, 3, 3);
    hand_point(net, x, 0.5f, 10, 0, 255);
    struct hand_weight weight = {.per_channel = true, .asymmetric = true, .qmin = -128, .qmax = 127, .scale = 0.01f};
    mqb_value_id inputs[3] = {x, hand_weight(net, "w", 4, (int64_t[]){3, 2, 1, 1}, &weight),
                              hand_param(net, "b", 1, (int64_t[]){3}, NULL)};
    mqb_node_id node = hand_node(net, "Conv", "conv", 3, inputs);
    hand_infer(net);
    hand_point(net, hand_out(net, node), 0.1f, 0, 0, 255);
    struct mqb_frozen *f = &net->frozen[1], before = *f;
    float scales[3], *b = net->graph->values[inputs[2]].data;
    int32_t codes[6];
    f->scale[1] = 0x1p-34f; /* bias: 2^2 / (2^-1 2^-34) = 2^37 steps */
    f->zero_point[1] = 3;
    f->codes[2] = 103;
    f->codes[3] = -61;
    b[0] = 1.0f;
    b[1] = -4.0f;
    b[2] = 0.0f;
    memcpy(scales, f->scale, sizeof scales);
    memcpy(codes, f->codes, sizeof codes);
    struct mqb_backend_rules rules = rules_with(NULL, NULL);
    struct mqb_program *program;
    assert_int_equal(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(net->error.text, "does not fit into 32 bits"));
    struct mqb_deployment deployment = {.deploy = &net->deploy, .graph = net->graph};
    mqb_deploy_fit_biases(&deployment);
    /* 2^30 steps: s_w = 2^2 / (2^-1 2^30) = 2^-27, or the float above; codes 100 and -64 over 2^7 round to 1 and 0 (-0.5). */
    assert_true(f->scale[1] == nextafterf(0x1p-27f, 1.0f));
    assert_int_equal(f->codes[2], 3 + 1);
    assert_int_equal(f->codes[3], 3);
    assert_true(net->graph->values[inputs[1]].data[2] == f->scale[1]);
    assert_int_equal(f->zero_point[1], 3);
    for (int c = 0; c < 3; c += 2) {
        assert_true(f->scale[c] == scales[c]);
        assert_int_equal(f->codes[2 * c], codes[2 * c]);
    }
    assert_ptr_equal(f->codes, before.codes);
    HAND_OK(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error));
    struct mqb_program_bias bias;
    assert_true(mqb_program_bias(program, 0, &bias));
    assert_true(bias.codes[1] < -(1 << 29) && bias.codes[1] >= -(1 << 30));
    mqb_program_destroy(program);
    hand_destroy(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fbgemm_rules_state_schemes),
        cmocka_unit_test(test_fbgemm_profiles_differ_where_the_libraries_do),
        cmocka_unit_test(test_fbgemm_judge_refuses_what_no_byte_holds),
        cmocka_unit_test(test_fbgemm_files_hold_the_program),
        cmocka_unit_test(test_deploy_a_bias_beyond_32_bits_widens_its_channel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
