/*
 * test_graph2.c - the points of graphs 1, 2 and 3 on networks of known counts, and convolutions that take an addition over,
 * against one-element-at-a-time arithmetic.
 */
#include "program_check.h"

#include "quant/program.h"

#include <mqbench/plugin.h>

#include <dlfcn.h>

static const struct mqb_graph_api *const api = &mqb_graph_calls;

/* ---- networks ---- */

static const int64_t no_pads[4] = {0, 0, 0, 0}, one_pad[4] = {1, 1, 1, 1};

/* Weights are plain numbers here; points come from the passes. */
static mqb_value_id plain_conv(struct hand_net *net, const char *name, mqb_value_id x, int64_t k)
{
    char text[64];
    int64_t dims[4] = {k, net->graph->values[x].dims[1], 1, 1};
    snprintf(text, sizeof(text), "%s.w", name);
    mqb_value_id inputs[2] = {x, hand_param(net, text, 4, dims, NULL)};
    mqb_node_id node = hand_node(net, "Conv", name, 2, inputs);
    hand_infer(net);
    return hand_out(net, node);
}

static mqb_value_id relu(struct hand_net *net, const char *name, mqb_value_id x)
{
    mqb_value_id y = hand_unary(net, "Relu", name, x);
    hand_infer(net);
    return y;
}

static void build_resnet18(struct hand_net *net)
{
    hand_create(net, 18);
    mqb_graph_destroy(net->graph);
    HAND_OK(mqb_model_build("resnet18", &mqb_ops, 3, 32, 32, 10, 18, &net->graph, &net->error));
}

/* ---- passes ---- */

static int32_t apply(struct hand_net *net, const char *id, const char *strategy)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/pass_%s.so", MQB_PLUGIN_DIR, id);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    const struct mqb_plugin_entry *entry = library ? dlsym(library, MQB_PLUGIN_SYMBOL) : NULL;
    if (!entry)
        fail_msg("%s: %s", path, dlerror());
    const struct mqb_pass *pass = entry->components[0].vtable;
    struct mqb_options *options;
    int32_t num_edits = -1;
    HAND_OK(mqb_options_create(pass->options, pass->num_options, &options, &net->error));
    if (strategy)
        HAND_OK(mqb_options_set(options, "strategy", strategy, "test", &net->error));
    HAND_OK(pass->run(mqb_host_table(), net->graph, options, &num_edits, &net->error));
    mqb_options_destroy(options);
    hand_infer(net);
    mqb_graph_sweep(net->graph);
    return num_edits;
}

static int count_points(const struct mqb_graph *graph, int role, bool io)
{
    int count = 0;
    for (int32_t i = 0; i < api->num_nodes(graph); i++) {
        mqb_node_id id = api->node_at(graph, i);
        count += strcmp(api->node_op(graph, id), "FakeQuantize") == 0 && api->attr_int(graph, id, "role", -1) == role &&
                 (!io || api->attr_int(graph, id, "io", 0) == 1);
    }
    return count;
}

static bool has_point(const struct mqb_graph *graph, const char *value)
{
    mqb_value_id id = mqb_graph_find_value(graph, value);
    assert_int_not_equal(id, MQB_NONE);
    for (int32_t i = 0; i < api->num_consumers(graph, id); i++)
        if (strcmp(api->node_op(graph, api->consumer(graph, id, i)), "FakeQuantize") == 0)
            return true;
    return false;
}

static void test_place_resnet18_counts_are_21_21_29(void **state)
{
    (void)state;
    static const struct {
        const char *pass;
        int activations;
    } graphs[] = {{"place_graph1", 21}, {"place_graph2", 21}, {"place_graph3", 29}};
    static const char *const strategies[] = {"-1", "0", "1", "2", "3", "4"};
    struct hand_net make, *net = &make;
    build_resnet18(net);
    struct mqb_graph *original = net->graph;
    for (size_t g = 0; g < 3; g++)
        for (size_t s = 0; s < 6; s++) {
            HAND_OK(mqb_graph_clone(original, &net->graph, &net->error));
            apply(net, "bn_fold", strategies[s]);
            assert_true(apply(net, graphs[g].pass, NULL) > 0);
            assert_int_equal(count_points(net->graph, MQB_ROLE_ACTIVATION, false), graphs[g].activations);
            assert_int_equal(count_points(net->graph, MQB_ROLE_WEIGHT, false), 21);
            assert_int_equal(count_points(net->graph, MQB_ROLE_ACTIVATION, true), 2);
            assert_int_equal(count_points(net->graph, MQB_ROLE_WEIGHT, true), 2);
            assert_int_equal(apply(net, graphs[g].pass, NULL), 0);
            mqb_graph_destroy(net->graph);
        }
    net->graph = original;
    hand_destroy(net);
}

/* Basic block: the second convolution feeds the sum without a point; projections, shortcuts and sums keep theirs. */
static void test_place_graph2_fuses_main_branch_never_shortcut(void **state)
{
    (void)state;
    struct hand_net make, *net = &make;
    build_resnet18(net);
    apply(net, "bn_fold", "0");
    apply(net, "place_graph2", NULL);
    static const char *const with[] = {"layer1.0/conv1", "layer2.0/downsample/downsample.0", "layer3.0/downsample/downsample.0",
                                       "layer4.0/downsample/downsample.0"};
    static const char *const without[] = {"layer1.0/conv2", "layer1.1/conv2", "layer2.0/conv2", "layer4.0/conv2",
                                          "layer4.1/conv2"};
    char name[128];
    for (size_t i = 0; i < sizeof(with) / sizeof(with[0]); i++) { /* a value is named after its node, or after its clamp's */
        snprintf(name, sizeof(name), "/layer%c/%s/Conv_output_0", with[i][5], with[i]);
        mqb_value_id id = mqb_graph_find_value(net->graph, name);
        assert_int_not_equal(id, MQB_NONE);
        mqb_node_id reader = api->consumer(net->graph, id, 0);
        bool clamped = strcmp(api->node_op(net->graph, reader), "Relu") == 0;
        snprintf(name, sizeof(name), "%s", api->value_name(net->graph, clamped ? api->output(net->graph, reader) : id));
        assert_true(has_point(net->graph, name));
    }
    for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++) {
        snprintf(name, sizeof(name), "/layer%c/%s/Conv_output_0", without[i][5], without[i]);
        assert_false(has_point(net->graph, name));
        mqb_node_id reader = api->consumer(net->graph, mqb_graph_find_value(net->graph, name), 0);
        assert_string_equal(api->node_op(net->graph, reader), "Add");
    }
    hand_destroy(net);
}

/* MobileNetV2 and RegNet write the shortcut first; it keeps its point all the same. */
static void test_place_graph2_shortcut_first_keeps_its_point(void **state)
{
    (void)state;
    struct hand_net make, *net = &make;
    hand_create(net, 1);
    mqb_value_id x = plain_conv(net, "stem", hand_input(net, 3, 6, 6), 4);
    mqb_value_id y = plain_conv(net, "project", plain_conv(net, "expand", x, 8), 4);
    mqb_value_id sum = add_binary(net, "Add", "sum", x, y);
    mqb_value_id clamped = relu(net, "clamped", plain_conv(net, "branch", sum, 4));
    mqb_value_id twice = plain_conv(net, "twice", sum, 4);
    mqb_value_id second =
        add_binary(net, "Add", "second", clamped, twice); /* relu between: not fused; `twice` read again: not fused */
    mqb_value_id third = add_binary(net, "Add", "third", second, twice);
    mqb_value_id last = plain_conv(net, "last", third, 4);
    add_binary(net, "Add", "output", last, third); /* not stored, so nothing to fuse into */
    apply(net, "place_graph2", NULL);
    static const char *const with[] = {"input", "stem", "expand", "sum", "clamped", "twice", "second", "third", "last"};
    static const char *const without[] = {"project", "branch", "output"};
    for (size_t i = 0; i < sizeof(with) / sizeof(with[0]); i++)
        assert_true(has_point(net->graph, with[i]));
    for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++)
        assert_false(has_point(net->graph, without[i]));
    assert_int_equal(count_points(net->graph, MQB_ROLE_ACTIVATION, false), 9);
    hand_destroy(net);
}

/* ---- the fused addition in integers ---- */

/* order: the shortcut is the first operand; it is made after the convolution that waits for it. */
static void build_fused(struct hand_net *net, bool pot, bool order, const char *activation)
{
    mqb_value_id x = hand_input(net, 5, 7, 6);
    quantize(net, x, 0.02f, 117, true, pot);
    mqb_value_id a = add_conv(net, "conv1", x, 6, 3, 1, 1, one_pad, pot);
    quantize(net, a, 0.03f, 120, false, pot);
    mqb_value_id main = add_conv(net, "main", a, 6, 3, 1, 2, one_pad, pot); /* no point */
    mqb_value_id side = add_conv(net, "side", x, 6, 1, 1, 1, no_pads, pot);
    quantize(net, side, 0.025f, 100, true, pot);
    mqb_value_id sum = add_binary(net, "Add", "sum", order ? side : main, order ? main : side);
    if (activation) {
        mqb_node_id node = hand_node(net, activation, "act", 1, &sum);
        if (strcmp(activation, "Clip") == 0) {
            hand_attr_real(net, node, "min", 0);
            hand_attr_real(net, node, "max", 1.5);
        }
        hand_infer(net);
        sum = hand_out(net, node);
    }
    quantize(net, sum, 0.04f, activation ? 30 : 128, false, pot);
    mqb_value_id depthwise = add_conv(net, "depthwise", sum, 6, 3, 1, 6, one_pad, pot); /* no point, on top of its own input */
    sum = add_binary(net, "Add", "again", depthwise, sum);
    quantize(net, sum, 0.05f, 90, false, pot);
    int64_t size = 6;
    static const float numbers[4][6] = {
        {1, -2, 0.5f, 0, 3, 1}, {0.1f, 0.2f, -0.3f, 0.4f, 0, 1}, {1, -1, 0.5f, 0, 0.2f, 0}, {1, 2, 0.5f, 1, 4, 0.1f}};
    mqb_value_id norm[5] = {sum};
    static const char *const names[4] = {"gamma", "beta", "mean", "var"};
    for (int i = 0; i < 4; i++)
        norm[i + 1] = hand_param(net, names[i], 1, &size, numbers[i]);
    mqb_value_id y = hand_out(net, hand_node(net, "BatchNormalization", "norm", 5, norm)); /* follows no layer of its own */
    hand_infer(net);
    y = relu(net, "norm_relu", y);
    quantize(net, y, 0.03f, 12, false, pot);
    add_conv(net, "last", y, 4, 1, 1, 1, no_pads, pot);
}

static void test_program_fused_add_equals_naive_under_every_contract(void **state)
{
    (void)state;
    static const char *const activations[] = {NULL, "Relu", "Clip"};
    for (int index = 0; index < NUM_CONTRACTS; index++)
        for (int variant = 0; variant < 6; variant++) {
            bool pot;
            struct mqb_backend_rules rules = contract_at(index, &pot);
            char profile[16];
            snprintf(profile, sizeof(profile), "%d.%d", index, variant);
            rules.contract.profile = profile;
            struct hand_net make, *net = &make;
            hand_create(net, 500 + 10 * (uint64_t)index + (uint64_t)variant);
            build_fused(net, pot, variant % 2, activations[variant / 2]);
            float *x = random_images(net, 3, mqb_value_size(&net->graph->values[net->graph->input]), 2.5f);
            for (int p = 0; p < 2; p++) {
                struct mqb_program *program;
                HAND_OK(mqb_program_create(&net->deploy, &rules, providers[p], &program, &net->error));
                compare(net, program, &rules.contract, NULL, 3, x);
                int convs = 0, adds = 0; /* the additions are no operators of their own */
                for (int32_t i = 0; i < program->num_ops; i++) {
                    convs += program->ops[i].kind == MQB_IOP_CONV;
                    adds += program->ops[i].kind == MQB_IOP_BINARY;
                }
                assert_int_equal(convs, 5);
                assert_int_equal(adds, 0);
                mqb_program_destroy(program);
            }
            free(x);
            hand_destroy(net);
        }
}

/* y = rne((A s_x s_w + b + s_r (r - z_r)) / s_y) in exact binary fractions: one rounding, not one for the layer and one for the
 * sum. */
static void test_program_fused_add_rounds_once(void **state)
{
    (void)state;
    struct hand_net make, *net = &make;
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    rules.contract.bias_form = MQB_BIAS_F32;
    hand_create(net, 2);
    mqb_value_id x = hand_input(net, 1, 0, 0), inputs[3] = {x};
    hand_point(net, x, 0.25f, 0, -128, 127);
    struct hand_weight weight = {.qmin = -127, .qmax = 127, .scale = 0.25f};
    int64_t dims[4] = {1, 1, 1, 1}, size = 1;
    static const float bias[1] = {0.375f};
    net->graph->values[x].rank = 4;
    net->graph->values[x].dims[2] = net->graph->values[x].dims[3] = 1;
    inputs[1] = hand_weight(net, "w", 4, dims, &weight);
    inputs[2] = hand_param(net, "b", 1, &size, bias);
    net->frozen[1].scale[0] = 0.25f;
    net->frozen[1].codes[0] = 3;
    mqb_value_id y = hand_out(net, hand_node(net, "Conv", "conv", 3, inputs));
    hand_infer(net);
    hand_point(net, add_binary(net, "Add", "sum", y, x), 1.0f, 0, -128, 127);
    struct mqb_program *program;
    HAND_OK(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error));
    for (int q = -128; q <= 127; q++) {
        float image = 0.25f * (float)q, got;
        HAND_OK(mqb_program_run(program, NULL, &image, 1, &got, NULL, &net->error));
        assert_float_equal(got, rintf(0.25f * (float)q * 0.75f + 0.375f + 0.25f * (float)q), 0);
    }
    mqb_program_destroy(program);
    hand_destroy(net);
}

static void test_program_fused_add_without_second_codes_refused(void **state)
{
    (void)state;
    struct hand_net make, *net = &make;
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    struct mqb_program *program = NULL;
    hand_create(net, 3);
    mqb_value_id x = hand_input(net, 3, 4, 4);
    quantize(net, x, 0.02f, 128, false, false);
    mqb_value_id sum = add_binary(net, "Add", "sum", add_conv(net, "one", x, 4, 1, 1, 1, no_pads, false),
                                  add_conv(net, "two", x, 4, 1, 1, 1, no_pads, false));
    quantize(net, sum, 0.05f, 128, false, false);
    assert_int_equal(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error), MQB_ERR_UNSUPPORTED);
    assert_null(program);
    assert_non_null(strstr(net->error.text, "sum"));
    assert_non_null(strstr(net->error.text, "two"));
    net->frozen[net->deploy.num_frozen - 1].value = MQB_NONE; /* nor does the sum have codes */
    net->graph->output = hand_unary(net, "Relu", "end", sum);
    hand_infer(net);
    hand_point(net, mqb_graph_find_value(net->graph, "two"), 0.02f, 3, 0, 255);
    assert_int_equal(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(net->error.text, "no quantization point"));
    hand_destroy(net);
}

/* ---- pairs of products in 16 bits ---- */

static void build_pairs(struct hand_net *net, int32_t x_high, int32_t code, bool odd)
{
    hand_create(net, 4);
    mqb_value_id x = hand_input(net, odd ? 3 : 4, 1, 1);
    hand_point(net, x, 1.0f, 0, 0, x_high);
    struct hand_weight weight = {.qmin = -128, .qmax = 127, .scale = 1.0f};
    int64_t dims[4] = {1, odd ? 3 : 4, 1, 1};
    mqb_value_id inputs[2] = {x, hand_weight(net, "w", 4, dims, &weight)};
    net->frozen[1].scale[0] = 1.0f;
    net->frozen[1].zero_point[0] = 0;
    for (int i = 0; i < 4 - odd; i++)
        net->frozen[1].codes[i] = code;
    hand_node(net, "Conv", "conv", 2, inputs);
    hand_infer(net);
}

static void test_program_pairs_saturate_to_sixteen_bits(void **state)
{
    (void)state;
    static const struct {
        int32_t x_high, code;
        bool odd;
        float expected;
    } cases[] = {
        {255, 127, false, 2 * 32767},        /* 2 * 64770 */
        {255, -128, false, 2 * -32768},      /* 2 * -65280 */
        {255, 127, true, 32767 + 255 * 127}, /* the last has no neighbour */
        {255, 64, false, 4 * 255 * 64},      /* 32640 fits */
        {255, 65, false, 2 * 32767},         /* 33150 does not */
        {127, 127, false, 4 * 127 * 127},    /* reduced range: always exact */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (int pairs = 0; pairs < 2; pairs++) {
            struct hand_net make, *net = &make;
            struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
            struct mqb_program *program;
            rules.contract.accumulator = pairs ? MQB_ACCUMULATOR_I16_PAIRS : MQB_ACCUMULATOR_I32_WRAP;
            build_pairs(net, cases[i].x_high, cases[i].code, cases[i].odd);
            for (int p = 0; p < 2; p++) {
                HAND_OK(mqb_program_create(&net->deploy, &rules, providers[p], &program, &net->error));
                float x[4] = {1000, 1000, 1000, 1000}, got;
                HAND_OK(mqb_program_run(program, NULL, x, 1, &got, NULL, &net->error));
                float exact = (float)((cases[i].odd ? 3 : 4) * cases[i].x_high * cases[i].code);
                assert_true(got == (pairs ? cases[i].expected : exact));
                mqb_program_destroy(program);
            }
            hand_destroy(net);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place_resnet18_counts_are_21_21_29),
        cmocka_unit_test(test_place_graph2_fuses_main_branch_never_shortcut),
        cmocka_unit_test(test_place_graph2_shortcut_first_keeps_its_point),
        cmocka_unit_test(test_program_fused_add_equals_naive_under_every_contract),
        cmocka_unit_test(test_program_fused_add_rounds_once),
        cmocka_unit_test(test_program_fused_add_without_second_codes_refused),
        cmocka_unit_test(test_program_pairs_saturate_to_sixteen_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
