/*
 * test_islands.c - programs whose convolutions and linear layers alone run in integers, against one-element-at-a-time
 * arithmetic; the rows between reals and codes against their scalar definitions; what is refused.
 */
#include "hand_layers.h"
#include "naive_integers.h"
#include "naive_islands.h"

#include "quant/program.h"

static const struct mqb_compute *const providers[] = {NULL, &naive_integers};

static struct mqb_backend_rules island_rules(int variant)
{
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    struct mqb_contract *c = &rules.contract;
    rules.scope = MQB_SCOPE_CONV_AND_LINEAR;
    c->intermediate = variant % 2 ? MQB_INTERMEDIATE_F32 : MQB_INTERMEDIATE_F16;
    c->zp_before = variant < 4;
    c->input_divide = variant / 2 % 2;
    c->bias_form = variant == 3 || variant == 4 ? MQB_BIAS_F32 : MQB_BIAS_I32;
    c->input_rounding = variant == 5   ? MQB_ROUND_RHA
                        : variant == 6 ? MQB_ROUND_RHU
                        : variant == 7 ? MQB_ROUND_FLOOR
                                       : MQB_ROUND_RNE;
    return rules;
}
#define NUM_VARIANTS 8

/* Codes in which `node` alone reads its input. */
static void private_point(struct hand_net *net, const char *layer, float scale, int32_t z, int32_t qmin, int32_t qmax)
{
    for (int32_t i = 0; i < net->graph->num_ordered; i++) {
        const struct mqb_node *node = &net->graph->nodes[net->graph->order[i]];
        if (strcmp(node->name, layer) != 0)
            continue;
        hand_point(net, node->inputs[0], scale, z, qmin, qmax);
        net->frozen[net->deploy.num_frozen - 1].is_private = true;
        net->frozen[net->deploy.num_frozen - 1].reader = net->graph->order[i];
        net->frozen[net->deploy.num_frozen - 1].point = net->deploy.num_frozen;
        return;
    }
    fail_msg("no layer %s", layer);
}

/* Two layers read one tensor in codes of their own, a third reads it in float; joins, pools, norms between. */
static void build(struct hand_net *net)
{
    static const int64_t uneven[4] = {1, 0, 2, 1}, even[4] = {1, 1, 1, 1}, none[4] = {0, 0, 0, 0};
    mqb_value_id x = hand_input(net, 3, 9, 8);
    mqb_value_id stem = hand_unary(net, "Relu", "relu1", add_conv(net, "stem", x, 6, 3, 1, 1, uneven, false));
    hand_infer(net);
    mqb_value_id a = add_conv(net, "left", stem, 6, 3, 1, 2, even, false),
                 b = add_conv(net, "right", stem, 6, 1, 1, 1, none, false);
    mqb_value_id sum = add_binary(net, "Add", "sum", add_binary(net, "Add", "inner", a, b), stem);
    mqb_node_id clip = hand_node(net, "Clip", "relu6", 1, &sum);
    hand_attr_real(net, clip, "min", 0);
    hand_attr_real(net, clip, "max", 6);
    hand_infer(net);
    mqb_value_id y = hand_out(net, clip);
    mqb_value_id parts[2] = {add_pool(net, "MaxPool", "max", y, 3, 2, even, 0),
                             add_pool(net, "AveragePool", "mean", y, 3, 2, even, 0)};
    mqb_node_id join = hand_node(net, "Concat", "join", 2, parts);
    hand_attr_int(net, join, "axis", 1);
    hand_infer(net);
    int64_t size = 12;
    mqb_value_id norm[5] = {hand_out(net, join)};
    static const char *const names[4] = {"gamma", "beta", "mean_of", "var"};
    for (int i = 0; i < 4; i++) {
        norm[i + 1] = hand_param(net, names[i], 1, &size, NULL);
        for (int64_t c = 0; c < size; c++)
            net->graph->values[norm[i + 1]].data[c] = hand_uniform(net) + (i == 3 ? 0.1f : -0.3f);
    }
    y = hand_out(net, hand_node(net, "BatchNormalization", "norm", 5, norm));
    hand_infer(net);
    y = hand_unary(net, "HardSwish", "swish", y);
    hand_infer(net);
    y = add_conv(net, "depthwise", y, 12, 3, 1, 12, even, false);
    mqb_value_id gate = hand_unary(net, "GlobalAveragePool", "squeeze", y);
    hand_infer(net);
    gate = add_conv(net, "gate", gate, 12, 1, 1, 1, none, false);
    y = add_binary(net, "Mul", "excite", y, gate);
    y = hand_unary(net, "GlobalAveragePool", "pool", y);
    hand_infer(net);
    y = hand_unary(net, "Flatten", "flatten", y);
    hand_infer(net);
    struct hand_weight weight = {.qmin = -128, .qmax = 127, .scale = 0.004f};
    int64_t dims[2] = {5, 12}, classes = 5;
    mqb_value_id inputs[3] = {y, hand_weight(net, "fc.w", 2, dims, &weight), hand_param(net, "fc.b", 1, &classes, NULL)};
    for (int64_t i = 0; i < classes; i++)
        net->graph->values[inputs[2]].data[i] = hand_uniform(net);
    hand_node(net, "Gemm", "fc", 3, inputs);
    hand_infer(net);
    hand_point(net, x, 0.021f, 3, -128, 127); /* for all its readers */
    private_point(net, "left", 0.013f, -100, -128, 127);
    private_point(net, "right", 0.02f, 7, 0, 255);
    private_point(net, "depthwise", 0.03f, -20, -128, 127);
    private_point(net, "gate", 0.04f, -8, -8, 7);
    private_point(net, "fc", 0.05f, 12, -128, 127);
}

static void test_islands_equal_naive_in_halves_and_floats(void **state)
{
    (void)state;
    for (int variant = 0; variant < NUM_VARIANTS; variant++)
        for (int p = 0; p < 2; p++) {
            enum { N = 11, CLASSES = 5 };
            struct mqb_backend_rules rules = island_rules(variant);
            struct hand_net make, *net = &make;
            struct mqb_program *program;
            hand_create(net, 70 + (uint64_t)variant);
            build(net);
            int64_t size = mqb_value_size(&net->graph->values[net->graph->input]);
            float *x = malloc((size_t)(N * size) * sizeof(float)), logits[N * CLASSES], threaded[N * CLASSES];
            for (int64_t i = 0; i < N * size; i++)
                x[i] = hand_uniform(net) * 5 - 2.5f;
            HAND_OK(mqb_program_create(&net->deploy, &rules, providers[p], &program, &net->error));
            int num = mqb_program_num_tensors(program);
            assert_int_equal(num, 6); /* one for each layer: what it reads */
            uint8_t *taps[6];
            for (int t = 0; t < num; t++)
                taps[t] = malloc((size_t)(N * mqb_program_tensor(program, t)->size));
            HAND_OK(mqb_program_run(program, NULL, x, N, logits, taps, &net->error));
            for (int image = 0; image < N; image++) {
                struct naive_islands run;
                islands_execute(&run, net, &rules.contract, x + image * size);
                for (int t = 0; t < num; t++) {
                    const struct mqb_program_tensor *info = mqb_program_tensor(program, t);
                    const struct mqb_frozen *f = &net->frozen[0];
                    while (f->role != MQB_ROLE_ACTIVATION || f->point != info->point)
                        f++;
                    assert_int_equal(info->value, f->value);
                    struct mqb_extent extent = mqb_value_extent(&net->graph->values[info->value]);
                    for (int64_t i = 0; i < info->size; i++) {
                        int32_t want = island_code(&run, f, run.real[info->value][i % extent.c * extent.pixels + i / extent.c]);
                        int32_t got = (int32_t)taps[t][image * info->size + i] - (info->is_signed ? 128 : 0);
                        if (got != want)
                            fail_msg("variant %d, input of %s, element %d: %d, expected %d", variant, info->layer, (int)i,
                                     (int)got, (int)want);
                    }
                }
                for (int k = 0; k < CLASSES; k++)
                    assert_true(logits[image * CLASSES + k] == run.real[net->graph->output][k]);
                islands_free(&run);
            }
            struct mqb_pool *pool;
            HAND_OK(mqb_pool_create(3, &pool, &net->error));
            HAND_OK(mqb_program_run(program, pool, x, N, threaded, NULL, &net->error));
            assert_memory_equal(threaded, logits, sizeof(logits));
            mqb_pool_destroy(pool);
            for (int t = 0; t < num; t++)
                free(taps[t]);
            free(x);
            mqb_program_destroy(program);
            hand_destroy(net);
        }
}

static void test_islands_refuse_what_is_not_quantized(void **state)
{
    (void)state;
    struct mqb_backend_rules rules = island_rules(0);
    struct mqb_program *program = NULL;
    struct hand_net make, *net = &make;
    hand_create(net, 3);
    build(net);
    for (int i = 0; i < net->deploy.num_frozen; i++)
        if (net->frozen[i].is_private && strcmp(net->graph->nodes[net->frozen[i].reader].name, "right") == 0)
            net->frozen[i].reader = MQB_NONE;
    assert_int_equal(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error), MQB_ERR_UNSUPPORTED);
    assert_null(program);
    assert_non_null(strstr(net->error.text, "right"));
    assert_non_null(strstr(net->error.text, "no quantization point"));
    rules.scope = MQB_SCOPE_WHOLE_GRAPH; /* a stored tensor cannot have private codes */
    assert_int_equal(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(net->error.text, "left"));
    assert_non_null(strstr(net->error.text, "one point on a tensor"));
    hand_destroy(net);

    hand_create(net, 4); /* negative variance: found before anything runs */
    build(net);
    net->graph->values[mqb_graph_find_value(net->graph, "var")].data[2] = -1.0f;
    rules.scope = MQB_SCOPE_CONV_AND_LINEAR;
    assert_int_equal(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(net->error.text, "norm"));
    assert_non_null(strstr(net->error.text, "channel 2"));
    net->graph->values[mqb_graph_find_value(net->graph, "var")].data[2] = 1.0f;
    net->graph->values[mqb_graph_find_value(net->graph, "stem.b")].data[1] = NAN;
    assert_int_equal(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(net->error.text, "stem"));
    hand_destroy(net);
}

/* ---- rows ---- */

static void test_quantize_rows_equal_the_scalar_definition(void **state)
{
    (void)state;
    enum { N = 4001 };
    static float x[N];
    static uint8_t codes[N];
    for (int i = 0; i < N - 8; i++) /* quarters of a step, so that every second one is a tie or a code */
        x[i] = (float)(i - N / 2) * 0.25f * 0.125f;
    static const float odd[8] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-40f, -0.0f, 0.0f};
    memcpy(x + N - 8, odd, sizeof(odd));
    static const float scales[] = {0.125f, 0.1f, 0.0123f};
    for (int rounding = MQB_ROUND_RNE; rounding <= MQB_ROUND_TRUNC; rounding++)
        for (int form = 0; form < 8; form++)
            for (int s = 0; s < 3; s++) {
                struct mqb_contract contract = {.input_rounding = rounding,
                                                .input_divide = form & 1,
                                                .zp_before = form >> 1 & 1,
                                                .intermediate = form & 4 ? MQB_INTERMEDIATE_F16 : MQB_INTERMEDIATE_NONE};
                bool is_signed = s != 1;
                struct mqb_quantize_rows rows = {
                    &contract,          scales[s], is_signed ? -3 : 100, is_signed ? -100 : 4, is_signed ? 127 : 250,
                    is_signed ? 128 : 0};
                mqb_quantize_rows(&rows, N, x, codes);
                for (int i = 0; i < N; i++)
                    assert_int_equal(codes[i],
                                     mqb_quantize_value(&contract, x[i], rows.scale, rows.zero_point, rows.low, rows.high) +
                                         rows.offset);
            }
}

/* Every half and what lies around it, then numbers of all magnitudes. */
static void test_real_halves_equal_the_scalar_definition(void **state)
{
    (void)state;
    static float x[1 << 16], y[1 << 16];
    uint32_t bits = 12345;
    for (int round = 0; round < 8; round++) {
        for (uint32_t i = 0; i < 1 << 16; i++) {
            bits = bits * 1664525u + 1013904223u;
            uint32_t exponent = 97 + bits % 50; /* 2^-30 .. 2^19 */
            uint32_t word = (i & 0x8000u) << 16 | exponent << 23 | (i & 0x3ffu) << 13;
            word += round < 3 ? (round == 0 ? 0 : round == 1 ? 0x1000u : 0xfffu) : round < 5 ? 0x1001u : (bits >> 9 & 0x1fffu);
            memcpy(&x[i], &word, sizeof(word));
        }
        static const float odd[6] = {NAN, INFINITY, -INFINITY, 65519.9f, 0x1p-25f, -0.0f};
        memcpy(x, odd, sizeof(odd));
        memcpy(y, x, sizeof(y));
        mqb_real_halves(1 << 16, y);
        for (int i = 0; i < 1 << 16; i++) {
            float want = mqb_requant_half(x[i]);
            if (memcmp(&want, &y[i], sizeof(want)) != 0)
                fail_msg("%a: %a, expected %a", (double)x[i], (double)y[i], (double)want);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_islands_equal_naive_in_halves_and_floats),
        cmocka_unit_test(test_islands_refuse_what_is_not_quantized),
        cmocka_unit_test(test_quantize_rows_equal_the_scalar_definition),
        cmocka_unit_test(test_real_halves_equal_the_scalar_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
