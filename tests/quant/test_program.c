/* The integer program against one-element-at-a-time arithmetic, for every operator, several contracts and both kernels. */
#include "program_check.h"

/* ---- one convolution ---- */

struct conv_case {
    int32_t c, h, w, k, r, s, stride, dilation, group;
    int64_t pads[4];
    const char *activation; /* NULL, "Relu", "Clip" */
    bool x_signed, w_signed, per_channel, w_asymmetric, bias;
    int32_t x_bits, w_bits;
};

static const struct conv_case conv_cases[] = {
    {3, 9, 7, 5, 3, 3, 1, 1, 1, {1, 1, 1, 1}, NULL, false, true, false, false, true, 8, 8},
    {3, 9, 7, 5, 3, 3, 2, 1, 1, {0, 1, 2, 0}, "Relu", false, true, true, true, true, 8, 8},
    {4, 8, 8, 17, 3, 2, 2, 1, 1, {2, 0, 1, 1}, "Clip", false, false, false, true, true, 8, 8},
    {6, 7, 5, 6, 3, 3, 1, 1, 6, {1, 2, 0, 1}, "Relu", false, false, false, true, true, 8, 8},
    {6, 7, 5, 6, 3, 3, 2, 1, 6, {1, 1, 1, 1}, "Clip", true, true, true, false, true, 8, 8},
    {4, 6, 6, 12, 3, 3, 1, 1, 4, {0, 0, 1, 1}, NULL, true, false, true, true, false, 8, 8},
    {8, 5, 6, 12, 3, 1, 1, 2, 4, {2, 0, 2, 0}, "Relu", true, true, true, true, true, 8, 8},
    {8, 5, 5, 4, 1, 1, 1, 1, 2, {0, 0, 0, 0}, NULL, false, false, true, true, true, 4, 4},
    {2, 13, 11, 3, 7, 5, 3, 1, 1, {3, 2, 3, 2}, "Relu", false, true, false, false, true, 2, 2},
    {19, 4, 4, 33, 1, 1, 1, 1, 1, {0, 0, 0, 0}, "Clip", true, false, false, true, true, 8, 8},
    {1, 1, 1, 1, 1, 1, 1, 1, 1, {0, 0, 0, 0}, NULL, false, true, false, false, true, 8, 8},
    {16, 6, 5, 16, 3, 3, 1, 1, 16, {1, 1, 1, 1}, "Relu", false, true, true, false, true, 4, 8},
};

static void build_conv(struct hand_net *net, const struct conv_case *c, bool pot, bool last)
{
    mqb_value_id x = hand_input(net, c->c, c->h, c->w);
    int32_t x_low = c->x_signed ? -(1 << (c->x_bits - 1)) : 0, x_high = x_low + (1 << c->x_bits) - 1;
    hand_point(net, x, step(pot, 0.023f), hand_int(net, x_low, x_high), x_low, x_high);
    int32_t w_low = c->w_signed ? -(1 << (c->w_bits - 1)) : 0, w_high = w_low + (1 << c->w_bits) - 1;
    struct hand_weight weight = {c->per_channel, c->w_asymmetric, pot, w_low, w_high, step(pot, 0.01f)};
    int64_t dims[4] = {c->k, c->c / c->group, c->r, c->s};
    mqb_value_id inputs[3] = {x, hand_weight(net, "w", 4, dims, &weight), MQB_NONE};
    if (c->bias) {
        int64_t size = c->k;
        inputs[2] = hand_param(net, "b", 1, &size, NULL);
        for (int64_t i = 0; i < size; i++)
            net->graph->values[inputs[2]].data[i] = hand_uniform(net) - 0.5f;
    }
    mqb_node_id node = hand_node(net, "Conv", "conv", c->bias ? 3 : 2, inputs);
    int64_t strides[2] = {c->stride, c->stride}, dilations[2] = {c->dilation, c->dilation};
    hand_list(net, node, "strides", 2, strides);
    hand_list(net, node, "dilations", 2, dilations);
    hand_list(net, node, "pads", 4, c->pads);
    hand_attr_int(net, node, "group", c->group);
    hand_infer(net);
    mqb_value_id y = hand_out(net, node);
    if (c->activation && !last) {
        mqb_node_id act = hand_node(net, c->activation, "act", 1, &y);
        if (strcmp(c->activation, "Clip") == 0) {
            hand_attr_real(net, act, "min", 0);
            hand_attr_real(net, act, "max", 1.0);
        }
        hand_infer(net);
        y = hand_out(net, act);
    }
    if (!last)
        hand_point(net, y, step(pot, 0.031f), c->activation ? hand_int(net, 0, 60) : hand_int(net, 90, 160), 0, 255);
}

static void test_program_conv_equals_naive_under_every_contract(void **state)
{
    (void)state;
    for (int index = 0; index < NUM_CONTRACTS; index++)
        for (size_t i = 0; i < sizeof(conv_cases) / sizeof(conv_cases[0]); i++)
            for (int last = 0; last < 2; last++) {
                bool pot;
                struct mqb_backend_rules rules = contract_at(index, &pot);
                struct hand_net make, *net = &make;
                hand_create(net, 100 * (uint64_t)index + i);
                build_conv(net, &conv_cases[i], pot, last);
                float *x = random_images(net, 3, mqb_value_size(&net->graph->values[net->graph->input]), 3.0f);
                for (int p = 0; p < 2; p++) {
                    struct mqb_program *program;
                    HAND_OK(mqb_program_create(&net->deploy, &rules, providers[p], &program, &net->error));
                    compare(net, program, &rules.contract, NULL, 3, x);
                    mqb_program_destroy(program);
                }
                free(x);
                hand_destroy(net);
            }
}

/* ---- a network with every operator ---- */

static void build_everything(struct hand_net *net, bool pot)
{
    static const int64_t uneven[4] = {1, 0, 2, 1}, even[4] = {1, 1, 1, 1}, none[4] = {0, 0, 0, 0};
    mqb_value_id x = hand_input(net, 5, 10, 9);
    quantize(net, x, 0.02f, 117, true, pot);
    mqb_value_id a = hand_unary(net, "Relu", "relu1", add_conv(net, "conv1", x, 8, 3, 1, 1, uneven, pot));
    hand_infer(net);
    quantize(net, a, 0.02f, 9, false, pot);

    /* A block with a shortcut that is cut and padded. */
    mqb_value_id b = add_conv(net, "dw", a, 8, 3, 2, 8, even, pot);
    mqb_node_id clip = hand_node(net, "Clip", "relu6", 1, &b);
    hand_attr_real(net, clip, "min", 0);
    hand_attr_real(net, clip, "max", 6);
    hand_infer(net);
    b = hand_out(net, clip);
    quantize(net, b, 0.03f, 3, false, pot);
    b = add_conv(net, "conv2", b, 12, 1, 1, 2, none, pot);
    quantize(net, b, 0.04f, 130, true, pot);
    mqb_node_id slice = hand_node(net, "Slice", "cut", 1, &a);
    int64_t starts[4] = {0, 0, 0, 0}, ends[4] = {INT32_MAX, 8, INT32_MAX, INT32_MAX}, steps[4] = {1, 1, 2, 2};
    hand_list(net, slice, "starts", 4, starts);
    hand_list(net, slice, "ends", 4, ends);
    hand_list(net, slice, "steps", 4, steps);
    hand_infer(net);
    mqb_value_id s = hand_out(net, slice);
    mqb_node_id pad = hand_node(net, "Pad", "widen", 1, &s);
    int64_t begin[4] = {0, 1, 0, 0}, end[4] = {0, 3, 0, 0};
    hand_list(net, pad, "pads_begin", 4, begin);
    hand_list(net, pad, "pads_end", 4, end);
    hand_infer(net);
    mqb_value_id sum = hand_unary(net, "Relu", "relu2", add_binary(net, "Add", "add", b, hand_out(net, pad)));
    hand_infer(net);
    quantize(net, sum, 0.05f, 20, true, pot);

    /* Branches of different scales, joined and mixed. */
    mqb_value_id p = add_pool(net, "MaxPool", "max", sum, 3, 2, even, 0);
    mqb_value_id q = add_pool(net, "AveragePool", "mean", sum, 3, 2, even, 1);
    mqb_value_id r = add_pool(net, "AveragePool", "mean_own", sum, 3, 2, even, 0);
    quantize(net, r, 0.06f, 40, true, pot);
    mqb_value_id parts[3] = {p, r, q};
    mqb_node_id join = hand_node(net, "Concat", "join", 3, parts);
    hand_attr_int(net, join, "axis", 1);
    hand_infer(net);
    mqb_value_id j = hand_out(net, join);
    quantize(net, j, 0.06f, 60, false, pot);
    mqb_node_id shuffle = hand_node(net, "ChannelShuffle", "shuffle", 1, &j);
    hand_attr_int(net, shuffle, "group", 3);
    hand_infer(net);
    j = hand_unary(net, "HardSwish", "swish", hand_out(net, shuffle));
    hand_infer(net);
    quantize(net, j, 0.05f, 15, false, pot);

    /* Squeeze and excitation. */
    mqb_value_id g = hand_unary(net, "GlobalAveragePool", "squeeze", j);
    hand_infer(net);
    g = add_conv(net, "se", g, 36, 1, 1, 1, none, pot);
    quantize(net, g, 0.05f, 120, false, pot);
    g = hand_unary(net, "HardSigmoid", "gate", g);
    hand_infer(net);
    quantize(net, g, 0.0039f, 0, false, pot);
    mqb_value_id m = add_binary(net, "Mul", "excite", j, g);
    quantize(net, m, 0.04f, 11, false, pot);
    m = hand_unary(net, "Sigmoid", "sigmoid", m);
    hand_infer(net);
    quantize(net, m, 0.0041f, 0, false, pot);
    m = hand_unary(net, "Relu", "relu3", m);
    hand_infer(net);

    mqb_value_id f = hand_unary(net, "Flatten", "flatten", m);
    hand_infer(net);
    struct hand_weight weight = {.per_channel = true, .pot = pot, .qmin = -127, .qmax = 127, .scale = step(pot, 0.004f)};
    int64_t dims[2] = {7, net->graph->values[f].dims[1]}, size = 7;
    mqb_value_id inputs[3] = {f, hand_weight(net, "fc.w", 2, dims, &weight), hand_param(net, "fc.b", 1, &size, NULL)};
    for (int64_t i = 0; i < size; i++)
        net->graph->values[inputs[2]].data[i] = hand_uniform(net);
    hand_node(net, "Gemm", "fc", 3, inputs);
    hand_infer(net);
}

static void test_program_whole_network_equals_naive_under_every_contract(void **state)
{
    (void)state;
    for (int index = 0; index < NUM_CONTRACTS; index++) {
        bool pot;
        struct mqb_backend_rules rules = contract_at(index, &pot);
        char profile[16];
        snprintf(profile, sizeof(profile), "%d", index);
        rules.contract.profile = profile;
        struct hand_net make, *net = &make;
        hand_create(net, 1000 + (uint64_t)index);
        build_everything(net, pot);
        float *x = random_images(net, 3, mqb_value_size(&net->graph->values[net->graph->input]), 2.0f);
        for (int p = 0; p < 2; p++) {
            struct mqb_program *program;
            HAND_OK(mqb_program_create(&net->deploy, &rules, providers[p], &program, &net->error));
            compare(net, program, &rules.contract, NULL, 3, x);
            mqb_program_destroy(program);
        }
        free(x);
        hand_destroy(net);
    }
}

static void test_program_threads_and_batch_do_not_matter(void **state)
{
    (void)state;
    enum { N = 21 };
    bool pot;
    struct mqb_backend_rules rules = contract_at(0, &pot);
    struct hand_net make, *net = &make;
    hand_create(net, 5);
    build_everything(net, pot);
    int64_t size = mqb_value_size(&net->graph->values[net->graph->input]);
    float *x = random_images(net, N, size, 2.0f), want[N * 7], got[N * 7];
    for (int p = 0; p < 2; p++) {
        struct mqb_program *program;
        HAND_OK(mqb_program_create(&net->deploy, &rules, providers[p], &program, &net->error));
        for (int i = 0; i < N; i++)
            HAND_OK(mqb_program_run(program, NULL, x + i * size, 1, want + i * 7, NULL, &net->error));
        for (int threads = 1; threads <= 5; threads += 2) {
            struct mqb_pool *pool;
            HAND_OK(mqb_pool_create(threads, &pool, &net->error));
            for (int n = 1; n <= N; n += 5) {
                memset(got, 0, sizeof(got));
                HAND_OK(mqb_program_run(program, pool, x, n, got, NULL, &net->error));
                assert_memory_equal(got, want, (size_t)n * 7 * sizeof(float));
            }
            compare(net, program, &rules.contract, pool, 9, x);
            mqb_pool_destroy(pool);
        }
        HAND_OK(mqb_program_run(program, NULL, x, 0, got, NULL, &net->error));
        assert_int_equal(mqb_program_run(program, NULL, x, -1, got, NULL, &net->error), MQB_ERR_ARGUMENT);
        mqb_program_destroy(program);
    }
    free(x);
    hand_destroy(net);
}

static void test_program_ends_in_codes_dequantizes_them(void **state)
{
    (void)state;
    bool pot;
    struct mqb_backend_rules rules = contract_at(0, &pot);
    struct hand_net make, *net = &make;
    hand_create(net, 8);
    static const int64_t none[4] = {0, 0, 0, 0};
    mqb_value_id x = hand_input(net, 4, 5, 5);
    quantize(net, x, 0.02f, 100, false, false);
    mqb_value_id y = add_conv(net, "conv", x, 6, 1, 1, 1, none, false);
    quantize(net, y, 0.05f, 128, false, false);
    y = hand_unary(net, "GlobalAveragePool", "mean", y);
    hand_infer(net);
    hand_unary(net, "Flatten", "flatten", y);
    hand_infer(net);
    float *images = random_images(net, 2, 100, 2.0f);
    struct mqb_program *program;
    HAND_OK(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error));
    compare(net, program, &rules.contract, NULL, 2, images);
    mqb_program_destroy(program);
    free(images);
    hand_destroy(net);
}

/* A classifier that is a 1x1 convolution, flattened: the order of the logits is that of the float network. */
static void test_program_flatten_after_last_conv_keeps_logits(void **state)
{
    (void)state;
    bool pot;
    struct mqb_backend_rules rules = contract_at(0, &pot);
    struct hand_net make, *net = &make;
    hand_create(net, 9);
    static const int64_t none[4] = {0, 0, 0, 0};
    mqb_value_id x = hand_input(net, 4, 1, 1);
    quantize(net, x, 0.02f, 100, false, false);
    mqb_value_id y = add_conv(net, "conv", x, 6, 1, 1, 1, none, false);
    hand_unary(net, "Flatten", "flatten", y);
    hand_infer(net);
    float *images = random_images(net, 2, 4, 2.0f);
    struct mqb_program *program;
    HAND_OK(mqb_program_create(&net->deploy, &rules, &naive_integers, &program, &net->error));
    assert_int_equal(mqb_program_num_tensors(program), 1);
    compare(net, program, &rules.contract, NULL, 2, images);
    mqb_program_destroy(program);
    free(images);
    hand_destroy(net);
}

/* ---- fake quantization and integers agree exactly where float arithmetic is exact ---- */

static double fake(double v, float s, int32_t z, int32_t *code)
{
    double q = rint((double)((float)v * (1.0f / s))) + z;
    *code = (int32_t)(q < 0 ? 0 : q > 255 ? 255 : q);
    return (double)s * (*code - z);
}

static void test_program_powers_of_two_equal_fake_quantization(void **state)
{
    (void)state;
    enum { C = 4, H = 6, W = 5, K = 8 };
    static const int64_t even[4] = {1, 1, 1, 1};
    for (int index = 0; index < 3; index++) {
        static const int forms[3] = {MQB_MULTIPLIER_F32, MQB_MULTIPLIER_F64, MQB_MULTIPLIER_POT};
        struct mqb_backend_rules rules = hand_rules(forms[index], MQB_ROUND_RNE);
        rules.contract.add_rule = MQB_ADD_RESCALE_SUM;
        struct hand_net make, *net = &make;
        hand_create(net, 77 + (uint64_t)index);
        mqb_value_id x = hand_input(net, C, H, W);
        hand_point(net, x, ldexpf(1, -5), 101, 0, 255);
        mqb_value_id u = add_conv(net, "conv1", x, K, 3, 1, 1, even, true);
        mqb_value_id a = hand_unary(net, "Relu", "relu1", u);
        hand_infer(net);
        hand_point(net, a, ldexpf(1, -4), 17, 0, 255);
        mqb_value_id b = add_conv(net, "conv2", a, K, 3, 1, 1, even, true);
        hand_point(net, b, ldexpf(1, -2), 128, 0, 255);
        mqb_value_id y = add_binary(net, "Add", "add", a, b);
        hand_point(net, y, ldexpf(1, -2), 90, 0, 255);
        for (int i = 0; i < net->deploy.num_frozen; i++) /* biases onto their grid */
            if (net->frozen[i].codes) {
                bool first = strcmp(net->frozen[i].name, "conv1.w") == 0;
                float *bias = net->graph->values[mqb_graph_find_value(net->graph, first ? "conv1.b" : "conv2.b")].data;
                for (int k = 0; k < K; k++) {
                    float grid = ldexpf(1, first ? -5 : -4) * net->frozen[i].scale[net->frozen[i].num_channels > 1 ? k : 0];
                    bias[k] = rintf(bias[k] / grid) * grid;
                }
            }
        struct mqb_program *program;
        HAND_OK(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error));
        assert_int_equal(mqb_program_num_tensors(program), 4);
        float *image = random_images(net, 1, C * H * W, 3.0f), logits[K * H * W];
        uint8_t codes[4][K * H * W], *taps[4] = {codes[0], codes[1], codes[2], codes[3]};
        HAND_OK(mqb_program_run(program, NULL, image, 1, logits, taps, &net->error));

        /* The fake-quantized network, NHWC, in double. */
        double in[H][W][C], mid[H][W][K];
        int32_t code;
        for (int i = 0; i < C * H * W; i++) {
            (&in[0][0][0])[i] = fake(image[i], ldexpf(1, -5), 101, &code);
            assert_int_equal(codes[0][i], code);
        }
        const float *w1 = net->graph->values[mqb_graph_find_value(net->graph, "conv1.w")].data;
        const float *b1 = net->graph->values[mqb_graph_find_value(net->graph, "conv1.b")].data;
        const float *w2 = net->graph->values[mqb_graph_find_value(net->graph, "conv2.w")].data;
        const float *b2 = net->graph->values[mqb_graph_find_value(net->graph, "conv2.b")].data;
        for (int layer = 0; layer < 2; layer++)
            for (int h = 0; h < H; h++)
                for (int w = 0; w < W; w++)
                    for (int k = 0; k < K; k++) {
                        double sum = layer ? b2[k] : b1[k];
                        int channels = layer ? K : C;
                        for (int c = 0; c < channels; c++)
                            for (int r = 0; r < 3; r++)
                                for (int s = 0; s < 3; s++) {
                                    int ih = h + r - 1, iw = w + s - 1;
                                    if (ih < 0 || iw < 0 || ih >= H || iw >= W)
                                        continue;
                                    double v = layer ? mid[ih][iw][c] : in[ih][iw][c];
                                    sum += v * (layer ? w2 : w1)[((k * channels + c) * 3 + r) * 3 + s];
                                }
                        int at = (h * W + w) * K + k;
                        if (!layer) {
                            mid[h][w][k] = fake(sum > 0 ? sum : 0, ldexpf(1, -4), 17, &code);
                            assert_int_equal(codes[1][at], code);
                        } else {
                            double second = fake(sum, ldexpf(1, -2), 128, &code);
                            assert_int_equal(codes[2][at], code);
                            double total = fake(mid[h][w][k] + second, ldexpf(1, -2), 90, &code);
                            assert_int_equal(codes[3][at], code);
                            assert_true(logits[at] == (float)total);
                        }
                    }
        mqb_program_destroy(program);
        free(image);
        hand_destroy(net);
    }
}

/* Padding is the code of zero, on every side as much as the node says: a window sums what lies inside the image. */
static void test_program_uneven_pads_read_the_zero_point(void **state)
{
    (void)state;
    enum { H = 4, W = 3, P = H + 3 - 2, Q = W + 1 - 2 };
    static const int64_t pads[4] = {1, 0, 2, 1}; /* top, left, bottom, right */
    for (int is_signed = 0; is_signed < 2; is_signed++)
        for (int p = 0; p < 2; p++) {
            struct hand_net make, *net = &make;
            struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
            struct mqb_program *program;
            hand_create(net, 6);
            mqb_value_id x = hand_input(net, 1, H, W);
            hand_point(net, x, 1.0f, is_signed ? -30 : 98, is_signed ? -128 : 0, is_signed ? 127 : 255);
            struct hand_weight weight = {.qmin = 0, .qmax = 255, .scale = 1.0f};
            int64_t dims[4] = {1, 1, 3, 3};
            mqb_value_id inputs[2] = {x, hand_weight(net, "w", 4, dims, &weight)};
            net->frozen[1].scale[0] = 1.0f;
            net->frozen[1].zero_point[0] = 40;
            for (int i = 0; i < 9; i++)
                net->frozen[1].codes[i] = 41 + i; /* weights 1 to 9 */
            mqb_node_id node = hand_node(net, "Conv", "conv", 2, inputs);
            hand_list(net, node, "pads", 4, pads);
            hand_infer(net);
            assert_int_equal(mqb_value_size(&net->graph->values[hand_out(net, node)]), P * Q);
            float image[H * W], got[P * Q];
            for (int i = 0; i < H * W; i++)
                image[i] = (float)(3 * i - 10);
            HAND_OK(mqb_program_create(&net->deploy, &rules, providers[p], &program, &net->error));
            HAND_OK(mqb_program_run(program, NULL, image, 1, got, NULL, &net->error));
            for (int i = 0; i < P * Q; i++) {
                float want = 0;
                for (int k = 0; k < 9; k++) {
                    int h = i / Q - 1 + k / 3, w = i % Q + k % 3;
                    want += h >= 0 && h < H && w < W ? image[h * W + w] * (float)(k + 1) : 0.0f;
                }
                assert_true(got[i] == want);
            }
            mqb_program_destroy(program);
            hand_destroy(net);
        }
}

/* Inputs of a join keep their meaning, not their codes: q_y = round((q - z) s / s_y) + z_y, here in powers of two. */
static void test_program_concat_brings_inputs_to_one_scale(void **state)
{
    (void)state;
    static const float scales[3] = {0.25f, 1.0f, 0.5f}, out = 0.5f;
    static const int32_t zeros[3] = {100, 30, 128};
    static const int64_t none[4] = {0, 0, 0, 0};
    struct hand_net make, *net = &make;
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RHA);
    struct mqb_program *program;
    hand_create(net, 7);
    mqb_value_id x = hand_input(net, 1, 1, 1), parts[3];
    hand_point(net, x, 0.25f, 128, 0, 255);
    for (int i = 0; i < 3; i++) {
        char name[16];
        struct hand_weight weight = {.qmin = -128, .qmax = 127, .scale = 1.0f};
        int64_t dims[4] = {1, 1, 1, 1};
        snprintf(name, sizeof(name), "w%d", i);
        mqb_value_id inputs[2] = {x, hand_weight(net, name, 4, dims, &weight)};
        struct mqb_frozen *f = &net->frozen[net->deploy.num_frozen - 1];
        f->scale[0] = 1.0f;
        f->codes[0] = i + 1;
        snprintf(name, sizeof(name), "conv%d", i);
        mqb_node_id node = hand_node(net, "Conv", name, 2, inputs);
        hand_list(net, node, "pads", 4, none);
        hand_infer(net);
        parts[i] = hand_out(net, node);
        hand_point(net, parts[i], scales[i], zeros[i], 0, 255);
    }
    mqb_node_id join = hand_node(net, "Concat", "join", 3, parts);
    hand_attr_int(net, join, "axis", 1);
    hand_infer(net);
    hand_point(net, hand_out(net, join), out, 64, 0, 255);
    HAND_OK(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error));
    for (int q = -128; q <= 127; q++) {
        float image = 0.25f * (float)q, got[3];
        HAND_OK(mqb_program_run(program, NULL, &image, 1, got, NULL, &net->error));
        for (int i = 0; i < 3; i++) {
            double part = round((double)(image * (float)(i + 1) / scales[i])) + zeros[i];
            part = part < 0 ? 0 : part > 255 ? 255 : part;
            double code = round((part - zeros[i]) * (double)(scales[i] / out)) + 64;
            code = code < 0 ? 0 : code > 255 ? 255 : code;
            assert_true(got[i] == (float)(code - 64) * out);
        }
    }
    mqb_program_destroy(program);
    hand_destroy(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_program_conv_equals_naive_under_every_contract),
        cmocka_unit_test(test_program_whole_network_equals_naive_under_every_contract),
        cmocka_unit_test(test_program_threads_and_batch_do_not_matter),
        cmocka_unit_test(test_program_ends_in_codes_dequantizes_them),
        cmocka_unit_test(test_program_flatten_after_last_conv_keeps_logits),
        cmocka_unit_test(test_program_powers_of_two_equal_fake_quantization),
        cmocka_unit_test(test_program_uneven_pads_read_the_zero_point),
        cmocka_unit_test(test_program_concat_brings_inputs_to_one_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
