/* What the lowering refuses, and that the sentence names the layer. */
#include "hand_layers.h"
#include "naive_integers.h"

#include <stdlib.h>

static const struct mqb_compute *const providers[] = {NULL, &naive_integers};

static void refused(struct hand_net *net, const struct mqb_backend_rules *rules, mqb_status status, const char *const *words)
{
    struct mqb_program *program = NULL;
    net->error.text[0] = 0;
    assert_int_equal(mqb_program_create(&net->deploy, rules, NULL, &program, &net->error), status);
    assert_null(program);
    for (; *words; words++)
        if (!strstr(net->error.text, *words))
            fail_msg("'%s' does not say '%s'", net->error.text, *words);
}
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void build_small(struct hand_net *net)
{
    static const int64_t none[4] = {0, 0, 0, 0};
    hand_create(net, 3);
    mqb_value_id x = hand_input(net, 3, 4, 4);
    hand_point(net, x, 0.02f, 128, 0, 255);
    mqb_value_id y = add_conv(net, "conv1", x, 4, 3, 1, 1, none, false);
    hand_point(net, y, 0.05f, 128, 0, 255);
    add_conv(net, "conv2", y, 4, 1, 1, 1, none, false);
}

static struct mqb_frozen *frozen_named(struct hand_net *net, const char *name)
{
    for (int i = 0; i < net->deploy.num_frozen; i++)
        if (strcmp(net->frozen[i].name, name) == 0)
            return &net->frozen[i];
    fail_msg("no %s", name);
    return NULL;
}

static void test_program_create_refuses_what_has_no_integers(void **state)
{
    (void)state;
    struct hand_net make, *net = &make;
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE), other;

    build_small(net);
    other = rules;
    other.deployable = 0;
    other.reason = "academic settings have no hardware";
    refused(net, &other, MQB_ERR_UNSUPPORTED, WORDS("academic settings have no hardware"));
    other = rules;
    other.scope = MQB_SCOPE_CONV_AND_LINEAR; /* and nothing said about the reals between the layers */
    refused(net, &other, MQB_ERR_ARGUMENT, WORDS("float", "f16 or f32"));
    other.scope = 7;
    refused(net, &other, MQB_ERR_ARGUMENT, WORDS("no known form"));
    other = rules;
    other.contract.accumulator = 99;
    refused(net, &other, MQB_ERR_ARGUMENT, WORDS("no known form"));
    other = rules;
    other.contract.input_rounding = -1;
    refused(net, &other, MQB_ERR_ARGUMENT, WORDS("no known form"));
    other = rules;
    other.contract.multiplier = MQB_MULTIPLIER_POT;
    refused(net, &other, MQB_ERR_NUMERIC, WORDS("conv1", "power of two"));

    struct mqb_frozen *f = &net->frozen[2]; /* conv1's output */
    mqb_value_id value = f->value;
    f->value = MQB_NONE;
    refused(net, &rules, MQB_ERR_UNSUPPORTED, WORDS("conv1", "Conv", "quantization point"));
    f->value = value;
    f->scale[0] = NAN;
    refused(net, &rules, MQB_ERR_NUMERIC, WORDS("conv1", "nan"));
    f->scale[0] = -1;
    refused(net, &rules, MQB_ERR_NUMERIC, WORDS("conv1", "-1"));
    f->scale[0] = 0.05f;
    f->zero_point[0] = 300;
    refused(net, &rules, MQB_ERR_NUMERIC, WORDS("conv1", "300"));
    f->zero_point[0] = 3;
    f->qmax = 1000;
    refused(net, &rules, MQB_ERR_UNSUPPORTED, WORDS("conv1", "1000"));
    f->qmax = 255;

    f = frozen_named(net, "conv1.w");
    value = f->value;
    f->value = MQB_NONE;
    refused(net, &rules, MQB_ERR_UNSUPPORTED, WORDS("conv1", "weight 'conv1.w'"));
    f->value = value;
    f->codes[3] = 256;
    refused(net, &rules, MQB_ERR_UNSUPPORTED, WORDS("conv1.w", "256"));
    f->codes[3] = 1;
    f->scale[0] = INFINITY;
    refused(net, &rules, MQB_ERR_NUMERIC, WORDS("conv1.w", "inf"));
    f->scale[0] = 0.01f;

    f = frozen_named(net, "input");
    value = f->value;
    f->value = MQB_NONE;
    refused(net, &rules, MQB_ERR_UNSUPPORTED, WORDS("input", "quantization point"));
    f->value = value;

    net->graph->values[mqb_graph_find_value(net->graph, "conv1.b")].data[1] = 1e12f;
    refused(net, &rules, MQB_ERR_UNSUPPORTED, WORDS("conv1", "bias", "32 bits"));
    net->graph->values[mqb_graph_find_value(net->graph, "conv1.b")].data[1] = 401500.0f; /* fits, but not with the sum on top */
    net->frozen[0].scale[0] = 0.0187f;
    frozen_named(net, "conv1.w")->scale[0] = 0.01f;
    if (frozen_named(net, "conv1.w")->num_channels > 1)
        frozen_named(net, "conv1.w")->scale[1] = 0.01f;
    refused(net, &rules, MQB_ERR_UNSUPPORTED, WORDS("conv1", "overflow", "27 products"));
    hand_destroy(net);
}

static void test_program_create_refuses_operator_by_name(void **state)
{
    (void)state;
    struct hand_net make, *net = &make;
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    hand_create(net, 4);
    mqb_value_id x = hand_input(net, 3, 4, 4);
    hand_point(net, x, 0.02f, 128, 0, 255);
    int64_t size = 3;
    static const float ones[3] = {1, 1, 1};
    mqb_value_id inputs[5] = {x, hand_param(net, "gamma", 1, &size, ones), hand_param(net, "beta", 1, &size, ones),
                              hand_param(net, "mean", 1, &size, ones), hand_param(net, "var", 1, &size, ones)};
    hand_node(net, "BatchNormalization", "bn7", 5, inputs);
    hand_infer(net);
    refused(net, &rules, MQB_ERR_UNSUPPORTED, WORDS("bn7", "BatchNormalization", "no quantization point"));
    hand_point(net, net->graph->output, 0.05f, 100, 0, 255);
    net->graph->values[inputs[1]].data[1] = INFINITY;
    refused(net, &rules, MQB_ERR_NUMERIC, WORDS("bn7", "BatchNormalization", "channel 1"));
    hand_destroy(net);

    hand_create(net, 4);
    x = hand_input(net, 3, 4, 4);
    hand_point(net, x, 0.02f, 128, 0, 255);
    hand_unary(net, "FakeQuantize", "point7", x);
    hand_infer(net);
    refused(net, &rules, MQB_ERR_UNSUPPORTED, WORDS("point7", "FakeQuantize", "no integer form"));
    hand_destroy(net);

    build_small(net); /* a sum without a point */
    mqb_value_id last = net->graph->output;
    hand_point(net, last, 0.05f, 100, 0, 255);
    add_binary(net, "Add", "sum", last, last);
    refused(net, &rules, MQB_ERR_UNSUPPORTED, WORDS("sum", "Add", "no quantization point"));
    hand_destroy(net);
}

/* 25088 inputs of a large linear layer fit at 8 bits, 40000 with extreme codes do not. */
static void test_program_create_proves_accumulators(void **state)
{
    (void)state;
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    for (int wide = 0; wide < 2; wide++) {
        struct hand_net make, *net = &make;
        hand_create(net, 4);
        int64_t features = wide ? 40000 : 25088;
        mqb_value_id x = hand_input(net, features, 0, 0);
        hand_point(net, x, 0.02f, 0, 0, 255);
        struct hand_weight weight = {.qmin = 0, .qmax = 255, .scale = 0.01f};
        int64_t dims[2] = {1, features};
        mqb_value_id inputs[2] = {x, hand_weight(net, "w", 2, dims, &weight)};
        struct mqb_frozen *f = frozen_named(net, "w");
        f->zero_point[0] = 0;
        for (int64_t i = 0; i < features; i++)
            f->codes[i] = 255;
        hand_node(net, "Gemm", "fc", 2, inputs);
        hand_infer(net);
        if (wide) {
            refused(net, &rules, MQB_ERR_UNSUPPORTED, WORDS("fc", "Gemm", "40000", "255 * 255", "overflow"));
        } else {
            for (int p = 0; p < 2; p++) {
                struct mqb_program *program;
                HAND_OK(mqb_program_create(&net->deploy, &rules, providers[p], &program, &net->error));
                float *image = malloc((size_t)features * sizeof(float)), logit;
                for (int64_t i = 0; i < features; i++)
                    image[i] = 100.0f;
                HAND_OK(mqb_program_run(program, NULL, image, 1, &logit, NULL, &net->error));
                assert_true(logit == (float)(25088 * 255 * 255) * (0.02f * f->scale[0]));
                free(image);
                mqb_program_destroy(program);
            }
        }
        hand_destroy(net);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_program_create_refuses_what_has_no_integers),
        cmocka_unit_test(test_program_create_refuses_operator_by_name),
        cmocka_unit_test(test_program_create_proves_accumulators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
