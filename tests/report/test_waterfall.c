/*
 * test_waterfall.c - networks of one layer in which one factor alone can be the cause of a difference: the waterfall must give
 * it all differing elements, and with everything exchanged none may be left. Then the whole job.
 */
#include "common/support.h"
#include "quant/hand_net.h"
#include "report/waterfall.h"

#include <jansson.h>

#include <stdlib.h>

static const struct mqb_compute *compute;

static int setup(void **state)
{
    (void)state;
    mqb_log_set_sink(NULL, NULL);
    compute = component("native", MQB_COMPUTE_INTERFACE);
    return 0;
}

/* A factor's row in a program of a hand net, against codes that a test computed itself. */
static struct mqb_waterfall_row count(struct hand_net *net, const struct mqb_backend_rules *rules, uint32_t ideal,
                                      const struct mqb_waterfall_images *images)
{
    struct mqb_program *program;
    struct mqb_waterfall_row row = {0};
    OK(mqb_program_create_ideal(&net->deploy, rules, ideal, compute, &program, &err));
    OK(mqb_waterfall_count(program, NULL, images, &row, &err));
    mqb_program_destroy(program);
    return row;
}

/* The factor alone accounts for all `differ` elements, and no other one for any. */
static void check_only(struct hand_net *net, const struct mqb_backend_rules *rules, uint32_t factor, int64_t differ,
                       const struct mqb_waterfall_images *images)
{
    for (uint32_t other = 1; other < MQB_FACTOR_ALL; other <<= 1) {
        struct mqb_waterfall_row row = count(net, rules, other, images);
        assert_int_equal(row.differ, other == factor ? 0 : differ);
        assert_int_equal(row.isolated, other == factor ? 0 : differ);
    }
    struct mqb_waterfall_row none = count(net, rules, 0, images), all = count(net, rules, MQB_FACTOR_ALL, images);
    assert_int_equal(none.differ, differ);
    assert_int_equal(none.isolated, differ);
    assert_int_equal(all.differ, 0);
    assert_int_equal(all.isolated, 0);
    assert_true(none.elements > differ);
}

/* ---- one layer: input codes 0..63 at scale 1, one channel, 1 x 1 weight of code 1 ---- */

enum { SIDE = 8, PIXELS = SIDE * SIDE };

struct layer_net {
    struct hand_net net;
    float x[PIXELS];
    uint8_t input[PIXELS], output[PIXELS];
    uint8_t *codes[2];
    struct mqb_waterfall_images images;
};

static void open_layer(struct layer_net *l, float s_w, float s_y, float bias)
{
    struct hand_net *net = &l->net;
    int64_t dims[4] = {1, 1, 1, 1}, one = 1;
    hand_create(net, 1);
    mqb_value_id x = hand_input(net, 1, SIDE, SIDE);
    hand_point(net, x, 1.0f, 0, 0, 255);
    mqb_value_id inputs[3] = {x, hand_param(net, "w", 4, dims, NULL), hand_param(net, "b", 1, &one, &bias)};
    struct mqb_frozen *w = hand_freeze(net, inputs[1], MQB_ROLE_WEIGHT, 1, -128, 127);
    w->scale[0] = s_w;
    w->codes = mqb_allocate(sizeof *w->codes);
    w->num_codes = 1;
    w->codes[0] = 1;
    net->graph->values[inputs[1]].data[0] = s_w;
    mqb_node_id conv = hand_node(net, "Conv", "conv", 3, inputs);
    hand_infer(net);
    hand_point(net, hand_out(net, conv), s_y, 0, 0, 255);
    for (int i = 0; i < PIXELS; i++) {
        l->x[i] = (float)i;
        l->input[i] = (uint8_t)i;
        /* In exact arithmetic: every number here is a small multiple of a power of two. */
        l->output[i] = (uint8_t)nearbyint(((double)i * s_w + bias) / s_y);
    }
    l->codes[0] = l->input;
    l->codes[1] = l->output;
    l->images = (struct mqb_waterfall_images){l->x, 1, l->codes};
}

static struct mqb_backend_rules double_rules(int rounding)
{
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F64, rounding);
    rules.contract.fold = MQB_FOLD_F64;
    return rules;
}

static void test_waterfall_bias_off_the_grid_is_the_bias(void **state)
{
    (void)state;
    struct layer_net l;
    /* s_x s_w = 1, s_y = 4, b = 0.25: the integer bias is 0. i/4 + 1/16 rounds otherwise than i/4 at the ties of i = 2 mod 8,
     * which go up to odd instead of down to even: 8 of 64. */
    open_layer(&l, 1.0f, 4.0f, 0.25f);
    struct mqb_backend_rules rules = double_rules(MQB_ROUND_RNE);
    check_only(&l.net, &rules, MQB_FACTOR_BIAS, 8, &l.images);
    hand_destroy(&l.net);
}

static void test_waterfall_bias_of_every_multiplier_form_is_kept_exactly(void **state)
{
    (void)state;
    static const int forms[][2] = {{MQB_MULTIPLIER_F32, MQB_ROUND_RHU}, {MQB_MULTIPLIER_F64, MQB_ROUND_RHU},
                                   {MQB_MULTIPLIER_Q31, MQB_ROUND_RNE}, {MQB_MULTIPLIER_Q31_DOUBLE, MQB_ROUND_RNE},
                                   {MQB_MULTIPLIER_POT, MQB_ROUND_RHU}};
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        struct layer_net l;
        /* b = -0.25: i/4 - 1/16 falls below the ties of i = 2 mod 4, where the integers, with bias 0, go up: 16 of 64. */
        open_layer(&l, 1.0f, 4.0f, -0.25f);
        struct mqb_backend_rules rules = hand_rules(forms[f][0], forms[f][1]);
        struct mqb_waterfall_row none = count(&l.net, &rules, 0, &l.images);
        struct mqb_waterfall_row bias = count(&l.net, &rules, MQB_FACTOR_BIAS, &l.images);
        /* gemmlowp rounds i/2 first: what is a quarter ends at a tie, which goes up. That half is the requantization's. */
        bool twice = forms[f][0] == MQB_MULTIPLIER_Q31_DOUBLE;
        assert_int_equal(none.differ, twice ? 32 : 16);
        assert_int_equal(bias.differ, twice ? 16 : 0);
        assert_int_equal(count(&l.net, &rules, MQB_FACTOR_ALL, &l.images).differ, 0);
        hand_destroy(&l.net);
    }
}

static void test_waterfall_ties_away_are_the_requantization(void **state)
{
    (void)state;
    struct layer_net l;
    open_layer(&l, 1.0f, 2.0f, 0.0f); /* i / 2: ties at odd i, half of which go to the other neighbour: 16 of 64 */
    struct mqb_backend_rules rules = double_rules(MQB_ROUND_RHA);
    check_only(&l.net, &rules, MQB_FACTOR_REQUANTIZE, 16, &l.images);
    hand_destroy(&l.net);
}

static void test_waterfall_shift_half_up_is_the_requantization(void **state)
{
    (void)state;
    struct layer_net l;
    open_layer(&l, 1.0f, 8.0f, 0.0f); /* i / 8: ties at i = 4 mod 8, half of which go down to even: 4 of 64 */
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_POT, MQB_ROUND_RHU);
    rules.contract.fold = MQB_FOLD_F64;
    check_only(&l.net, &rules, MQB_FACTOR_REQUANTIZE, 4, &l.images);
    hand_destroy(&l.net);
}

static void test_waterfall_input_rounded_away_is_the_input(void **state)
{
    (void)state;
    struct layer_net l;
    open_layer(&l, 1.0f, 1.0f, 0.0f);
    for (int i = 0; i < PIXELS; i++) { /* halves: ties, which fake quantization sends to even */
        l.x[i] = (float)i + 0.5f;
        l.input[i] = l.output[i] = (uint8_t)nearbyint(i + 0.5);
    }
    struct mqb_backend_rules rules = double_rules(MQB_ROUND_RNE);
    rules.contract.input_rounding = MQB_ROUND_RHA;
    struct mqb_waterfall_row none = count(&l.net, &rules, 0, &l.images);
    assert_int_equal(none.elements, 2 * PIXELS);
    assert_int_equal(none.differ, PIXELS);       /* half of the input, and what is computed from it */
    assert_int_equal(none.isolated, PIXELS / 2); /* fed with fake codes, the layer is right */
    struct mqb_waterfall_row row = count(&l.net, &rules, MQB_FACTOR_INPUT, &l.images);
    assert_int_equal(row.differ, 0);
    assert_int_equal(row.isolated, 0);
    hand_destroy(&l.net);
}

/* ---- an addition of scales that do not divide each other: each operand rounded alone ---- */

static void test_waterfall_operands_rounded_alone_are_the_add(void **state)
{
    (void)state;
    struct layer_net l;
    struct hand_net *net = &l.net;
    uint8_t pooled[PIXELS];
    int64_t kernel[2] = {1, 1};
    hand_create(net, 1);
    mqb_value_id x = hand_input(net, 1, SIDE, SIDE);
    hand_point(net, x, 1.0f, 0, 0, 255);
    mqb_node_id copy = hand_node(net, "MaxPool", "copy", 1, &x); /* carries scale and codes on */
    hand_list(net, copy, "kernel_shape", 2, kernel);
    mqb_value_id operands[2] = {x, hand_out(net, copy)};
    mqb_node_id add = hand_node(net, "Add", "add", 2, operands);
    hand_infer(net);
    hand_point(net, hand_out(net, add), 4.0f, 0, 0, 255);
    int64_t differ = 0;
    for (int i = 0; i < PIXELS; i++) {
        l.x[i] = (float)i;
        l.input[i] = pooled[i] = (uint8_t)i;
        l.output[i] = (uint8_t)nearbyint(i / 2.0);            /* (i + i) / 4 */
        differ += 2 * (int)nearbyint(i / 4.0) != l.output[i]; /* each at scale 4, then added */
    }
    uint8_t *codes[3] = {l.input, pooled, l.output};
    l.images = (struct mqb_waterfall_images){l.x, 1, codes};
    struct mqb_backend_rules rules = double_rules(MQB_ROUND_RNE);
    assert_true(differ > 0);
    check_only(net, &rules, MQB_FACTOR_ADD, differ, &l.images);
    hand_destroy(net);
}

/* ---- a mean without a point: the network's logits come from the mean as it is ---- */

static void test_waterfall_mean_without_point_is_not_rounded(void **state)
{
    (void)state;
    struct hand_net net_, *net = &net_;
    int64_t dims[2] = {1, 1}, one = 1;
    float bias = 0.2f, x[PIXELS], logit;
    struct mqb_program *program;
    hand_create(net, 1);
    mqb_value_id input = hand_input(net, 1, SIDE, SIDE);
    hand_point(net, input, 1.0f, 0, 0, 255);
    mqb_value_id flat = hand_unary(net, "Flatten", "flat", hand_unary(net, "GlobalAveragePool", "mean", input));
    mqb_value_id inputs[3] = {flat, hand_param(net, "w", 2, dims, NULL), hand_param(net, "b", 1, &one, &bias)};
    struct mqb_frozen *w = hand_freeze(net, inputs[1], MQB_ROLE_WEIGHT, 1, -128, 127);
    w->scale[0] = 0.5f;
    w->codes = mqb_allocate(sizeof *w->codes);
    w->num_codes = 1;
    w->codes[0] = 3;
    net->graph->values[inputs[1]].data[0] = 1.5f;
    hand_node(net, "Gemm", "linear", 3, inputs);
    hand_infer(net);
    for (int i = 0; i < PIXELS; i++)
        x[i] = (float)(i < 16 ? 7 : 6); /* mean 6.25 */
    struct mqb_backend_rules rules = double_rules(MQB_ROUND_RNE);
    static const struct {
        uint32_t ideal;
        float logit;
    } cases[] = {
        {0, 9.0f},                                         /* 6 * 1.5, bias 0.2 / 0.5 = 0 steps */
        {MQB_FACTOR_POOL, 9.375f},                         /* 6.25 * 1.5 */
        {MQB_FACTOR_BIAS, 9.2f},                           /* 6 * 1.5 + 0.2 */
        {MQB_FACTOR_POOL | MQB_FACTOR_BIAS, 9.375f + 0.2f} /* what the float network computes */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        OK(mqb_program_create_ideal(&net->deploy, &rules, cases[i].ideal, compute, &program, &err));
        assert_int_equal(mqb_program_num_tensors(program), 3);
        OK(mqb_program_run(program, NULL, x, 1, &logit, NULL, &err));
        assert_float_equal(logit, cases[i].logit, 1e-6);
        mqb_program_destroy(program);
    }
    hand_destroy(net);
}

/* ---- the whole job ---- */

static struct mqb_result *run_job(const char *backend, int bits, int threads, bool waterfall)
{
    static const char *keys[] = {"recipe.epochs", "recipe.calibration_batches", "recipe.calibration_batch"};
    static const char *values[] = {"0", "2", "64"};
    struct mqb_job_config config = {
        .backend = backend,
        .algo = "lsq",
        .model = MQB_SOURCE_DIR "/models/resnet20_synth.onnx",
        .dataset = "synth",
        .weight_bits = bits,
        .activation_bits = bits,
        .io_bits = 8,
        .set_keys = keys,
        .set_values = values,
        .num_set = 3,
        .seed = 7,
        .threads = threads,
        .train_limit = 256,
        .test_limit = 160,
        .waterfall = waterfall,
    };
    struct mqb_result *result;
    OK(mqb_job_run(&config, &result, &err));
    assert_true(result->deployable && result->has_integer);
    return result;
}

static json_t *waterfall_of(const struct mqb_result *result)
{
    char *text;
    OK(mqb_result_json(result, &text, &err));
    json_t *root = json_loads(text, 0, NULL);
    mqb_deallocate(text);
    json_t *rows = json_incref(json_object_get(root, "waterfall"));
    json_decref(root);
    return rows;
}

/* Where each result is rounded once, a layer on given codes is never off by more than one step. */
static void test_layers_alone_under_single_rounding_are_one_step_off(void **state)
{
    static const char *const backends[] = {"snpe_sim", "fbgemm_x86", "tensorrt_sim"};
    (void)state;
    for (size_t b = 0; b < sizeof backends / sizeof backends[0]; b++) {
        struct mqb_result *result = run_job(backends[b], 8, 2, false);
        assert_true(result->num_layers > 15);
        for (int i = 0; i < result->num_layers; i++) {
            const struct mqb_layer_report *layer = &result->layers[i];
            if (layer->isolated_max_steps > 1)
                fail_msg("%s, %s: %d steps", backends[b], layer->name, (int)layer->isolated_max_steps);
            assert_true(layer->isolated_max_steps == (layer->isolated_differ > 0));
            assert_true(layer->isolated_differ <= layer->elements);
            if (layer->first) /* its inputs agree anyway */
                assert_int_equal(layer->isolated_differ, layer->differ);
        }
        json_t *rows = waterfall_of(result); /* not asked for */
        assert_true(json_is_null(rows));
        json_decref(rows);
        mqb_result_destroy(result);
    }
}

static void check_rows(const char *backend, int bits)
{
    struct mqb_result *result = run_job(backend, bits, 1, true), *again = run_job(backend, bits, 3, true);
    const struct mqb_waterfall_row *rows = result->waterfall, *all = &rows[result->num_waterfall - 1];
    int64_t elements = 0, differ = 0, isolated = 0;
    for (int i = 0; i < result->num_layers; i++) {
        elements += result->layers[i].elements;
        differ += result->layers[i].differ;
        isolated += result->layers[i].isolated_differ;
    }
    assert_true(result->num_waterfall >= 3);
    assert_string_equal(rows[0].factor, "none");
    assert_int_equal(rows[0].elements, elements);
    assert_int_equal(rows[0].differ, differ);
    assert_int_equal(rows[0].isolated, isolated);
    assert_int_equal(rows[0].images, result->compare_images);
    assert_memory_equal(&rows[0].integer, &result->integer, sizeof result->integer); /* all 160 images */
    assert_int_equal(rows[0].labels_differ, result->labels_compared - result->labels_agree);
    for (int i = 1; i < result->num_waterfall; i++) {
        assert_int_equal(rows[i].elements, elements);
        assert_true(rows[i].differ <= elements && rows[i].labels_differ <= 160);
    }
    /* What remains is the order of a float sum next to a tie. */
    assert_string_equal(all->factor, "all");
    assert_true(all->isolated * 100000 < elements);
    assert_true(all->integer.top1 - result->fake.top1 <= 1 && result->fake.top1 - all->integer.top1 <= 1);
    char *screen;
    OK(mqb_result_screen(result, false, &screen, &err));
    assert_non_null(strstr(screen, "\n  alone  "));
    assert_non_null(strstr(screen, "\n  waterfall  "));
    assert_non_null(strstr(screen, "\n  bias rounding  "));
    assert_non_null(strstr(screen, "\n  everything  "));
    mqb_deallocate(screen);
    json_t *one = waterfall_of(result), *three = waterfall_of(again);
    assert_int_equal(json_array_size(one), result->num_waterfall);
    assert_true(json_equal(one, three));
    json_decref(one);
    json_decref(three);
    mqb_result_destroy(result);
    mqb_result_destroy(again);
}

static void test_waterfall_of_a_job_adds_up_on_any_threads(void **state)
{
    (void)state;
    check_rows("tvm_arm", 4);
    check_rows("acl_sim", 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waterfall_bias_off_the_grid_is_the_bias),
        cmocka_unit_test(test_waterfall_bias_of_every_multiplier_form_is_kept_exactly),
        cmocka_unit_test(test_waterfall_ties_away_are_the_requantization),
        cmocka_unit_test(test_waterfall_shift_half_up_is_the_requantization),
        cmocka_unit_test(test_waterfall_input_rounded_away_is_the_input),
        cmocka_unit_test(test_waterfall_operands_rounded_alone_are_the_add),
        cmocka_unit_test(test_waterfall_mean_without_point_is_not_rounded),
        cmocka_unit_test(test_layers_alone_under_single_rounding_are_one_step_off),
        cmocka_unit_test(test_waterfall_of_a_job_adds_up_on_any_threads),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
