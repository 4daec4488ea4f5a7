/*
 * ONNX Runtime runs what the quantized writers write, on random networks: every integer tensor, every logit and every label
 * equals the integer program's under the contract that follows its arithmetic. Skips with a word where the engine is not
 * installed.
 */
#include "../quant/hand_net.h"
#include "report/engine.h"
#include "report/prove.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define NUM_NETS 14
#define IMAGES 3

static const char script[] = MQB_BINARY_DIR "/share/mqbench/engines/onnxruntime.mjs";
static char folder[] = "/tmp/mqbench-test-prove-XXXXXX";

static bool engine_is_missing(void)
{
    struct mqb_error error = MQB_ERROR_INIT;
    enum mqb_engine_state state;
    char *said;
    if (mqb_engine_check(script, folder, &state, &said, &error) != MQB_OK)
        fail_msg("%s", error.text);
    print_message("%s\n", said);
    mqb_deallocate(said);
    return state == MQB_ENGINE_MISSING;
}

static struct mqb_backend_rules runtime_rules(void)
{
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    rules.contract.fold = MQB_FOLD_F32_MUL_DIV;
    rules.contract.input_divide = 1;
    rules.contract.add_rule = MQB_ADD_FMA;
    rules.contract.pool_rule = MQB_POOL_ORT;
    return rules;
}

/* ---- random networks ---- */

struct maker {
    struct hand_net net;
    bool pot; /* scales are powers of two: ties everywhere */
    mqb_value_id x;
    float scale; /* of x's codes */
    int num;
};

static const int64_t *shape_of(const struct maker *m, mqb_value_id value)
{
    return m->net.graph->values[value].dims;
}

static const char *name_of(struct maker *m, const char *op)
{
    static char text[64];
    snprintf(text, sizeof text, "%s%d", op, m->num++);
    return text;
}

static float random_scale(struct maker *m, float typical)
{
    int exponent;
    float scale = typical * (0.4f + 1.6f * hand_uniform(&m->net));
    (void)frexpf(scale, &exponent);
    return m->pot ? ldexpf(1.0f, exponent) : scale;
}

/* Codes of the whole byte, or of fewer bits; the zero point anywhere, or at the end where a ReLU is redundant. */
static float add_point(struct maker *m, mqb_value_id value, float typical)
{
    struct hand_net *net = &m->net;
    int32_t most = hand_int(net, 0, 4) > 0 ? 255 : hand_int(net, 0, 1) ? 127 : 15;
    float scale = random_scale(m, typical * 255.0f / (float)most);
    hand_point(net, value, scale, hand_int(net, 0, 2) == 0 ? 0 : hand_int(net, 0, most), 0, most);
    return scale;
}

static mqb_value_id add_clamp(struct maker *m, mqb_value_id value)
{
    int32_t kind = hand_int(&m->net, 0, 3);
    if (kind < 2)
        return value;
    mqb_node_id node = hand_node(&m->net, kind == 2 ? "Relu" : "Clip", name_of(m, "clamp"), 1, &value);
    if (kind == 3) {
        hand_attr_real(&m->net, node, "min", 0.0);
        hand_attr_real(&m->net, node, "max", 6.0);
    }
    hand_infer(&m->net);
    return hand_out(&m->net, node);
}

/* A convolution or a linear layer on x; *typical: of its accumulators as reals. */
static mqb_value_id add_layer(struct maker *m, mqb_value_id x, float s_x, const int64_t *dims, int32_t rank, mqb_node_id *node,
                              float *typical)
{
    struct hand_net *net = &m->net;
    bool is_signed = hand_int(net, 0, 3) > 0;
    struct hand_weight weight = {.per_channel = hand_int(net, 0, 1),
                                 .asymmetric = hand_int(net, 0, 1),
                                 .pot = m->pot,
                                 .qmin = is_signed ? -128 : 0,
                                 .qmax = is_signed ? 127 : 255,
                                 .scale = m->pot ? 0.0078125f : 0.006f};
    char name[64];
    float window = (float)(dims[1] * (rank == 4 ? dims[2] * dims[3] : 1));
    snprintf(name, sizeof name, "%s", name_of(m, "layer"));
    char part[80];
    snprintf(part, sizeof part, "%s.w", name);
    mqb_value_id inputs[3] = {x, hand_weight(net, part, rank, dims, &weight), MQB_NONE};
    *typical = s_x * weight.scale * sqrtf(window) * 80.0f;
    int num = 2;
    if (hand_int(net, 0, 3) > 0) {
        snprintf(part, sizeof part, "%s.b", name);
        inputs[num++] = hand_param(net, part, 1, dims, NULL);
        for (int64_t i = 0; i < dims[0]; i++)
            net->graph->values[inputs[2]].data[i] = (hand_uniform(net) - 0.5f) * *typical * 60.0f;
    }
    *node = hand_node(net, rank == 4 ? "Conv" : "Gemm", name, num, inputs);
    return hand_out(net, *node);
}

static mqb_value_id add_conv(struct maker *m, mqb_value_id x, float s_x, int64_t k, bool keep_size, bool clamp, float *scale)
{
    struct hand_net *net = &m->net;
    const int64_t *in = shape_of(m, x);
    int64_t c = in[1], size = keep_size || in[2] < 4 ? 1 : 1 + hand_int(net, 0, 2);
    bool depthwise = hand_int(net, 0, 3) == 0 && !keep_size, halves = hand_int(net, 0, 3) == 0 && c % 2 == 0 && k % 2 == 0;
    int64_t group = depthwise ? c : halves ? 2 : 1;
    if (depthwise)
        k = c * hand_int(net, 1, 2);
    int64_t dilation = size > 1 && in[2] > 6 && hand_int(net, 0, 3) == 0 ? 2 : 1;
    mqb_node_id node;
    float typical;
    mqb_value_id y = add_layer(m, x, s_x, (int64_t[]){k, c / group, size, size}, 4, &node, &typical);
    int64_t stride = keep_size ? 1 : hand_int(net, 1, 2), pads[4] = {0, 0, 0, 0};
    for (int i = 0; i < 4 && size > 1; i++)
        pads[i] = hand_int(net, 0, (int32_t)size - 1);
    hand_list(net, node, "strides", 2, (int64_t[]){stride, stride});
    hand_list(net, node, "pads", 4, pads);
    hand_list(net, node, "dilations", 2, (int64_t[]){dilation, dilation});
    hand_attr_int(net, node, "group", group);
    hand_infer(net);
    if (clamp)
        y = add_clamp(m, y);
    *scale = add_point(m, y, typical);
    return y;
}

static mqb_value_id add_pool(struct maker *m, const char *op)
{
    struct hand_net *net = &m->net;
    int64_t size = shape_of(m, m->x)[2] > 3 ? hand_int(net, 2, 3) : 1, pads[4] = {0, 0, 0, 0};
    for (int i = 0; i < 4 && size > 1; i++)
        pads[i] = hand_int(net, 0, 1);
    mqb_node_id node = hand_node(net, op, name_of(m, "pool"), 1, &m->x);
    hand_list(net, node, "kernel_shape", 2, (int64_t[]){size, size});
    hand_list(net, node, "strides", 2, (int64_t[]){hand_int(net, 1, 2), 1});
    hand_list(net, node, "pads", 4, pads);
    if (strcmp(op, "AveragePool") == 0)
        hand_attr_int(net, node, "count_include_pad", hand_int(net, 0, 1));
    hand_infer(net);
    return hand_out(net, node);
}

static void add_join(struct maker *m, const char *op)
{
    struct hand_net *net = &m->net;
    float other_scale;
    bool joins = strcmp(op, "Concat") == 0;
    int64_t k = joins ? hand_int(net, 1, 6) : shape_of(m, m->x)[1];
    mqb_value_id other = add_conv(m, m->x, m->scale, k, true, true, &other_scale);
    mqb_value_id inputs[2] = {hand_int(net, 0, 1) ? other : m->x, m->x};
    inputs[1] = inputs[0] == other ? m->x : other;
    mqb_node_id node = hand_node(net, op, name_of(m, op), 2, inputs);
    if (joins)
        hand_attr_int(net, node, "axis", 1);
    hand_infer(net);
    mqb_value_id y = joins ? hand_out(net, node) : add_clamp(m, hand_out(net, node));
    float larger = m->scale > other_scale ? m->scale : other_scale;
    m->scale = add_point(m, y, strcmp(op, "Mul") == 0 ? m->scale * other_scale * 60.0f : larger * 1.2f);
    m->x = y;
}

/* x times one number a channel, as squeeze-excite does. */
static void add_gate(struct maker *m)
{
    struct hand_net *net = &m->net;
    float s;
    mqb_value_id mean = hand_unary(net, "GlobalAveragePool", name_of(m, "gate"), m->x);
    hand_infer(net);
    if (hand_int(net, 0, 1))
        s = add_point(m, mean, m->scale);
    else
        s = m->scale;
    mqb_value_id gate = add_conv(m, mean, s, shape_of(m, m->x)[1], true, true, &s);
    mqb_value_id inputs[2] = {m->x, gate};
    mqb_node_id node = hand_node(net, "Mul", name_of(m, "gated"), 2, inputs);
    hand_infer(net);
    m->x = hand_out(net, node);
    m->scale = add_point(m, m->x, m->scale * s * 60.0f);
}

static void add_move(struct maker *m)
{
    struct hand_net *net = &m->net;
    const int64_t *in = shape_of(m, m->x);
    int32_t kind = hand_int(net, 0, 3);
    mqb_node_id node;
    if (kind == 0 && in[1] % 2 == 0) {
        node = hand_node(net, "ChannelShuffle", name_of(m, "shuffle"), 1, &m->x);
        hand_attr_int(net, node, "group", 2);
    } else if (kind == 1 && in[2] > 4) {
        node = hand_node(net, "Slice", name_of(m, "slice"), 1, &m->x);
        hand_list(net, node, "starts", 4, (int64_t[]){0, 0, 0, 1});
        hand_list(net, node, "ends", 4, (int64_t[]){INT32_MAX, in[1], in[2], in[3]});
        hand_list(net, node, "steps", 4, (int64_t[]){1, 1, 2, 1});
    } else if (kind == 2) {
        node = hand_node(net, "Pad", name_of(m, "pad"), 1, &m->x);
        hand_list(net, node, "pads_begin", 4, (int64_t[]){0, 1, 0, 1});
        hand_list(net, node, "pads_end", 4, (int64_t[]){0, 0, 1, 0});
    } else {
        node = hand_node(net, "Relu", name_of(m, "alone"), 1, &m->x);
    }
    hand_infer(net);
    m->x = hand_out(net, node);
}

static void add_random(struct maker *m)
{
    struct hand_net *net = &m->net;
    switch (hand_int(net, 0, 9)) {
    case 0:
        add_join(m, "Add");
        return;
    case 1:
        add_join(m, "Concat");
        return;
    case 2:
        add_join(m, "Mul");
        return;
    case 3:
        add_gate(m);
        return;
    case 4:
    case 5:
        m->x = add_pool(m, hand_int(net, 0, 1) ? "MaxPool" : "AveragePool");
        if (hand_int(net, 0, 1))
            m->scale = add_point(m, m->x, m->scale);
        return;
    case 6:
        add_move(m);
        return;
    default:
        m->x = add_conv(m, m->x, m->scale, hand_int(net, 2, 12), false, true, &m->scale);
    }
}

/* Ends in a linear layer, or in a convolution; in accumulators, or in codes. */
static void add_end(struct maker *m)
{
    struct hand_net *net = &m->net;
    mqb_node_id node;
    float typical;
    bool linear = hand_int(net, 0, 3) > 0, codes = hand_int(net, 0, 3) == 0;
    m->x = hand_unary(net, "GlobalAveragePool", "mean", m->x);
    hand_infer(net);
    if (linear) {
        m->x = hand_unary(net, "Flatten", "flat", m->x);
        hand_infer(net);
    }
    int64_t c = shape_of(m, m->x)[1];
    mqb_value_id y = add_layer(m, m->x, m->scale, (int64_t[]){10, c, 1, 1}, linear ? 2 : 4, &node, &typical);
    hand_infer(net);
    if (codes)
        add_point(m, y, typical);
    if (!linear) {
        hand_unary(net, "Flatten", "flat", y);
        hand_infer(net);
    }
}

static void make_net(struct maker *m, uint64_t seed)
{
    *m = (struct maker){.pot = seed % 3 == 0};
    hand_create(&m->net, seed);
    m->x = hand_input(&m->net, 3, 11, 9);
    m->scale = random_scale(m, 0.02f);
    hand_point(&m->net, m->x, m->scale, hand_int(&m->net, 0, 255), 0, 255);
    m->x = add_conv(m, m->x, m->scale, hand_int(&m->net, 4, 12), false, true, &m->scale);
    for (int i = 0; i < 5; i++)
        add_random(m);
    add_end(m);
}

/* ---- the comparison ---- */

static void check(struct maker *m, uint64_t seed, uint32_t form, const char *level, const float *x)
{
    struct hand_net *net = &m->net;
    struct mqb_backend_rules rules = runtime_rules();
    struct mqb_program *program;
    struct mqb_proof_result result = {.failure = mqb_strdup("")};
    char path[128];
    snprintf(path, sizeof path, "%s/net.onnx", folder);
    HAND_OK(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error));
    HAND_OK(mqb_program_export_onnx(program, &net->deploy, form, path, &net->error));
    const struct mqb_proof_run run = {&net->deploy, program, NULL, script, path, level, folder, x, IMAGES};
    HAND_OK(mqb_proof_compare(&run, &result, &net->error));
    assert_int_equal(result.num_tensors, mqb_program_num_tensors(program));
    for (int i = 0; i < result.num_tensors; i++)
        if (result.tensors[i].differ > 0)
            fail_msg("net %d, form %u at level %s: %s (%s): %d of %d codes differ, at most by %d", (int)seed, (unsigned)form,
                     level, result.tensors[i].tensor, result.tensors[i].op, (int)result.tensors[i].differ,
                     (int)result.tensors[i].elements, (int)result.tensors[i].max_steps);
    for (int i = 0; i < result.num_tensors; i++)
        assert_int_equal(result.tensors[i].own, 0);
    assert_true(mqb_proof_holds(&result));
    if (form == MQB_ONNX_QLINEAR)
        assert_int_equal(result.logits_differ, 0);
    assert_int_equal(result.images, IMAGES);
    mqb_proof_result_deinit(&result);
    mqb_program_destroy(program);
    unlink(path);
}

static void test_prove_random_networks_equal_onnx_runtime(void **state)
{
    (void)state;
    if (engine_is_missing())
        skip();
    for (uint64_t seed = 0; seed < NUM_NETS; seed++) {
        struct maker m;
        make_net(&m, seed);
        float x[IMAGES * 3 * 11 * 9];
        for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
            x[i] = (hand_uniform(&m.net) - 0.5f) * 5.0f;
        check(&m, seed, MQB_ONNX_QLINEAR, "disabled", x);
        check(&m, seed, MQB_ONNX_QLINEAR, "all", x);
        check(&m, seed, MQB_ONNX_QDQ, "all", x);
        hand_destroy(&m.net);
    }
}

/* The comparison must be able to fail: another contract for additions and means is seen. */
static void test_prove_another_contract_is_seen(void **state)
{
    (void)state;
    if (engine_is_missing())
        skip();
    struct maker m = {.pot = true};
    struct hand_net *net = &m.net;
    hand_create(net, 5);
    m.x = hand_input(net, 3, 11, 9);
    m.scale = 0.03125f;
    hand_point(net, m.x, m.scale, 101, 0, 255);
    add_join(&m, "Add");
    add_end(&m);
    float x[IMAGES * 3 * 11 * 9];
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
        x[i] = (hand_uniform(net) - 0.5f) * 5.0f;
    struct mqb_backend_rules rules = runtime_rules();
    rules.contract.rounding = MQB_ROUND_FLOOR;
    struct mqb_program *program;
    struct mqb_proof_result result = {.failure = mqb_strdup("")};
    char path[128];
    snprintf(path, sizeof path, "%s/net.onnx", folder);
    HAND_OK(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error));
    HAND_OK(mqb_program_export_onnx(program, &net->deploy, MQB_ONNX_QLINEAR, path, &net->error));
    const struct mqb_proof_run run = {&net->deploy, program, NULL, script, path, "disabled", folder, x, IMAGES};
    HAND_OK(mqb_proof_compare(&run, &result, &net->error));
    assert_true(result.differ > 0);
    assert_false(mqb_proof_holds(&result));
    /* Floored sums differ by their own doing; the network's input, rounded as before, does not differ at all. */
    assert_string_equal(result.tensors[0].tensor, "input");
    assert_int_equal(result.tensors[0].differ, 0);
    int64_t own = 0;
    for (int i = 0; i < result.num_tensors; i++) {
        assert_true(result.tensors[i].own >= 0 && result.tensors[i].own <= result.tensors[i].elements);
        own += result.tensors[i].own;
    }
    assert_true(own > 0);
    mqb_proof_result_deinit(&result);
    mqb_program_destroy(program);
    unlink(path);
    hand_destroy(net);
}

/* ---- error paths, which need no engine ---- */

static char *write_script(const char *text)
{
    char *path = mqb_format("%s/engine.sh", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    chmod(path, 0700);
    return path;
}

static void test_engine_that_is_missing_says_why(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    enum mqb_engine_state present;
    char *said, *path = write_script("#!/bin/sh\necho not today\nexit 77\n");
    assert_int_equal(mqb_engine_check(path, folder, &present, &said, &error), MQB_OK);
    assert_int_equal(present, MQB_ENGINE_MISSING);
    assert_string_equal(said, "not today");
    mqb_deallocate(said);
    mqb_deallocate(path);
    path = write_script("#!/usr/bin/env no-such-interpreter-here\n");
    assert_int_equal(mqb_engine_check(path, folder, &present, &said, &error), MQB_OK);
    assert_int_equal(present, MQB_ENGINE_MISSING);
    mqb_deallocate(said);
    assert_int_equal(mqb_engine_check("/no/such/script", folder, &present, &said, &error), MQB_ERR_IO);
    unlink(path);
    mqb_deallocate(path);
}

static void test_engine_that_fails_is_an_error_with_its_words(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    char *path = write_script("#!/bin/sh\necho first\necho the artefact is odd\nexit 3\n");
    assert_int_equal(mqb_engine_run(path, "a.onnx", "all", folder, &error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "exit code 3"));
    assert_non_null(strstr(error.text, "the artefact is odd"));
    unlink(path);
    mqb_deallocate(path);
}

static void test_proof_an_engine_that_writes_too_little_is_an_error(void **state)
{
    (void)state;
    struct maker m;
    struct hand_net *net = &m.net;
    make_net(&m, 1);
    struct mqb_backend_rules rules = runtime_rules();
    struct mqb_program *program;
    float *x = calloc(3 * 11 * 9, sizeof *x);
    HAND_OK(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error));
    static const char *const scripts[] = {"#!/bin/sh\nexit 0\n", "#!/bin/sh\n: > \"$4/logits.f32\"\n",
                                          "#!/bin/sh\n: > \"$4/0.nchw\"\n: > \"$4/logits.f32\"\n"};
    static const char *const words[] = {"wrote no logits", "fewer logits", "fewer codes of tensor 'input'"};
    for (int i = 0; i < 3; i++) {
        char *path = write_script(scripts[i]);
        struct mqb_proof_result result = {.failure = mqb_strdup("")};
        const struct mqb_proof_run run = {&net->deploy, program, NULL, path, "x", "", folder, x, 1};
        assert_int_equal(mqb_proof_compare(&run, &result, &net->error), MQB_ERR_UNSUPPORTED);
        assert_non_null(strstr(net->error.text, words[i]));
        assert_false(mqb_proof_holds(&result));
        mqb_proof_result_deinit(&result);
        unlink(path);
        mqb_deallocate(path);
    }
    mqb_program_destroy(program);
    hand_destroy(net);
    free(x);
}

static void test_export_holes_are_refused_by_name(void **state)
{
    (void)state;
    struct maker m = {.pot = false};
    struct hand_net *net = &m.net;
    hand_create(net, 9);
    m.x = hand_input(net, 3, 11, 9);
    hand_point(net, m.x, 0.02f, 10, 0, 255);
    m.scale = 0.02f;
    float typical;
    mqb_node_id node;
    mqb_value_id y = add_layer(&m, m.x, m.scale, (int64_t[]){4, 3, 1, 1}, 4, &node, &typical);
    hand_infer(net);
    hand_point(net, y, typical, 3, 0, 255);
    y = hand_unary(net, "Relu", "behind", y);
    hand_infer(net);
    struct mqb_onnx_codes codes[3] = {{.value = net->graph->input,
                                       .high = 255,
                                       .num_channels = 1,
                                       .scale = net->frozen[0].scale,
                                       .zero_point = net->frozen[0].zero_point}};
    char path[128];
    snprintf(path, sizeof path, "%s/hole.onnx", folder);
    /* No codes of the weight, then none of the result, then a zero point that no byte holds. */
    assert_int_equal(mqb_onnx_export_quantized(net->graph, codes, 1, MQB_ONNX_QLINEAR, path, &net->error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(net->error.text, ".w' has no codes"));
    assert_int_equal(mqb_onnx_export_quantized(net->graph, codes, 0, MQB_ONNX_QLINEAR, path, &net->error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(net->error.text, "input 'input' has no codes"));
    int32_t far = 300;
    codes[0].zero_point = &far;
    assert_int_equal(mqb_onnx_export_quantized(net->graph, codes, 1, MQB_ONNX_QDQ, path, &net->error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(net->error.text, "'input' has zero point 300"));
    assert_false(mqb_file_exists(path));
    hand_destroy(net);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prove_random_networks_equal_onnx_runtime),
        cmocka_unit_test(test_prove_another_contract_is_seen),
        cmocka_unit_test(test_engine_that_is_missing_says_why),
        cmocka_unit_test(test_engine_that_fails_is_an_error_with_its_words),
        cmocka_unit_test(test_proof_an_engine_that_writes_too_little_is_an_error),
        cmocka_unit_test(test_export_holes_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
