/*
 * test_tvm_arm.c - the TVM backend: its rules, its arithmetic in closed form,
 * what it refuses, and what its files say. That the source code computes what
 * the integer executor computes is shown in tests/report/test_tvm_arm_source.c.
 */
#include "common/support.h"
#include "hand_net.h"
#include "quant/program_view.h"

#include <jansson.h>

static const struct mqb_backend *tvm;

static int setup(void **state)
{
    (void)state;
    mqb_log_set_sink(NULL, NULL);
    tvm = component("tvm_arm", MQB_BACKEND_INTERFACE);
    return 0;
}

static struct mqb_options *options_of(const char *rounding, const char *add)
{
    struct mqb_options *options;
    OK(mqb_options_create(tvm->options, tvm->num_options, &options, &err));
    OK(mqb_options_set(options, "rounding", rounding, "test", &err));
    OK(mqb_options_set(options, "add", add, "test", &err));
    return options;
}

static struct mqb_backend_rules rules_of(const char *rounding, const char *add)
{
    struct mqb_options *options = options_of(rounding, add);
    struct mqb_backend_rules rules = {.struct_size = sizeof rules};
    OK(tvm->rules(mqb_host_table(), options, &rules, &err));
    mqb_options_destroy(options);
    return rules;
}

static void test_tvm_rules_state_scheme_and_contract(void **state)
{
    (void)state;
    struct mqb_backend_rules rules = rules_of("upward", "each");
    struct mqb_scheme scheme;
    assert_int_equal(rules.deployable, 1);
    assert_int_equal(rules.default_bn_fold, 4);
    assert_int_equal(rules.scope, MQB_SCOPE_WHOLE_GRAPH);
    assert_string_equal(rules.passes[0], "bn_fold");
    assert_string_equal(rules.passes[1], "place_graph3");
    assert_null(rules.passes[2]);
    for (int role = MQB_ROLE_WEIGHT; role <= MQB_ROLE_ACTIVATION; role++)
        for (int bits = 2; bits <= 8; bits++) {
            mqb_scheme_make(&rules, role, bits, 64, &scheme);
            assert_int_equal(scheme.qmin, -(1 << (bits - 1)));
            assert_int_equal(scheme.qmax, (1 << (bits - 1)) - 1);
            assert_int_equal(scheme.num_channels, 1);
            assert_true(scheme.symmetric && scheme.pot_scale);
            assert_false(scheme.per_channel || scheme.adaptive_sign);
        }
    assert_int_equal(rules.contract.multiplier, MQB_MULTIPLIER_POT);
    assert_int_equal(rules.contract.certainty, MQB_CERTAINTY_EXACT);
    assert_int_equal(rules.contract.add_rule, MQB_ADD_RESCALE_EACH);
    assert_string_equal(rules.contract.profile, "upward, each");
    rules = rules_of("floor", "sum");
    assert_int_equal(rules.contract.add_rule, MQB_ADD_RESCALE_SUM);
    assert_int_equal(rules.contract.rounding, MQB_ROUND_FLOOR);
    assert_string_equal(rules.contract.profile, "floor");
}

/* A times 2^-k, codes from low to high. */
static int32_t requantize(const char *rounding, int32_t a, int k, int32_t low, int32_t high)
{
    struct mqb_backend_rules rules = rules_of(rounding, "each");
    struct mqb_requantizer r;
    OK(mqb_requantizer_init(&r, &rules.contract, ldexpf(1.0f, -k), 1.0f, 1.0f, 0, low, high, &err));
    return mqb_requantize(&r, a);
}

static void test_tvm_contract_ties_closed_form(void **state)
{
    (void)state;
    static const struct {
        int32_t a, k, upward, tonearest, floor;
    } cases[] = {
        {1, 1, 1, 1, 0},
        {-1, 1, 0, -1, -1},
        {3, 1, 2, 2, 1},
        {-3, 1, -1, -2, -2},
        {1, 2, 0, 0, 0},
        {2, 2, 1, 1, 0},
        {-2, 2, 0, -1, -1},
        {-3, 2, -1, -1, -1},
        {10, 2, 3, 3, 2},
        {-6, 2, -1, -2, -2},
        {3, 3, 0, 0, 0},
        {-4, 3, 0, -1, -1},
        {4, 3, 1, 1, 0},
        {0, 7, 0, 0, 0},
        {16777217, 1, 8388609, 8388609, 8388608},
        {INT32_MAX, 31, 1, 1, 0},
        {-INT32_MAX, 31, -1, -1, -1},
        {INT32_MAX, 32, 0, 0, 0},
        {-INT32_MAX, 32, 0, 0, -1},
        {INT32_MAX, 45, 0, 0, 0},
        {-1, 45, 0, 0, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(requantize("upward", cases[i].a, cases[i].k, INT32_MIN, INT32_MAX), cases[i].upward);
        assert_int_equal(requantize("tonearest", cases[i].a, cases[i].k, INT32_MIN, INT32_MAX), cases[i].tonearest);
        assert_int_equal(requantize("floor", cases[i].a, cases[i].k, INT32_MIN, INT32_MAX), cases[i].floor);
    }
}

static void test_tvm_contract_multiplying_shifts_saturate(void **state)
{
    (void)state;
    static const struct {
        int32_t a, k, code;
    } cases[] = {
        {5, 0, 5},       {127, 0, 127},   {128, 0, 127},         {-128, 0, -128},         {-129, 0, -128},        {15, -3, 120},
        {16, -3, 127},   {-16, -3, -128}, {-17, -3, -128},       {INT32_MAX, -3, 127},    {-INT32_MAX, -3, -128}, {1, -29, 127},
        {-1, -29, -128}, {0, -29, 0},     {INT32_MAX, -29, 127}, {-INT32_MAX, -29, -128},
    };
    static const char *const roundings[] = {"upward", "tonearest", "floor"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int j = 0; j < 3; j++)
            assert_int_equal(requantize(roundings[j], cases[i].a, cases[i].k, -128, 127), cases[i].code);
}

static void test_tvm_contract_product_of_other_scales_refused(void **state)
{
    (void)state;
    struct mqb_backend_rules rules = rules_of("upward", "each");
    struct mqb_requantizer r;
    assert_int_equal(mqb_requantizer_init(&r, &rules.contract, 0.3f, 0.5f, 1.0f, 0, -128, 127, &err), MQB_ERR_NUMERIC);
    assert_non_null(strstr(err.text, "power of two"));
}

/* ---- a small network: x -> Conv -> Clip(0, 6) -> Slice -> Flatten -> Gemm
 * ---- */

struct small {
    struct hand_net net;
    struct mqb_backend_rules rules;
    struct mqb_program *program;
    struct mqb_steps *view;
    struct mqb_export_tensor tensors[8];
    uint32_t num_tensors;
    int32_t zero;
};

static void small_create(struct small *s)
{
    static const int64_t dims[4] = {4, 3, 3, 3}, fc[2] = {2, 24}, pads[4] = {1, 1, 1, 1}, starts[4] = {0, 0, 0, 1},
                         ends[4] = {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX}, steps[4] = {1, 1, 2, 1};
    const struct hand_weight weight = {.pot = true, .qmin = -128, .qmax = 127, .scale = 0x1p-7f};
    struct hand_net *net = &s->net;
    struct mqb_program_bias bias;
    memset(s, 0, sizeof *s);
    s->rules = rules_of("upward", "each");
    hand_create(net, 9);
    mqb_value_id x = hand_input(net, 3, 4, 4);
    hand_point(net, x, 0x1p-5f, 0, -128, 127);
    mqb_value_id inputs[3] = {x, hand_weight(net, "w1", 4, dims, &weight), hand_param(net, "b1", 1, dims, NULL)};
    mqb_node_id id = hand_node(net, "Conv", "conv", 3, inputs);
    hand_list(net, id, "pads", 4, pads);
    x = hand_out(net, id);
    id = hand_node(net, "Clip", "relu6", 1, &x);
    hand_attr_real(net, id, "min", 0);
    hand_attr_real(net, id, "max", 6);
    hand_infer(net);
    x = hand_out(net, id);
    hand_point(net, x, 0x1p-4f, 0, -128, 127);
    id = hand_node(net, "Slice", "slice", 1, &x);
    hand_list(net, id, "starts", 4, starts);
    hand_list(net, id, "ends", 4, ends);
    hand_list(net, id, "steps", 4, steps);
    hand_infer(net);
    x = hand_unary(net, "Flatten", "flat", hand_out(net, id));
    hand_infer(net);
    inputs[0] = x;
    inputs[1] = hand_weight(net, "w2", 2, fc, &weight);
    hand_node(net, "Gemm", "fc", 2, inputs);
    hand_infer(net);
    if (mqb_program_create(&net->deploy, &s->rules, NULL, &s->program, &err) != MQB_OK)
        fail_msg("%s", err.text);
    OK(mqb_program_view_create(s->program, &net->deploy, &s->view, &err));
    for (int i = 0; i < net->deploy.num_frozen; i++) {
        const struct mqb_frozen *f = &net->frozen[i];
        s->tensors[s->num_tensors++] = (struct mqb_export_tensor){.struct_size = sizeof s->tensors[0],
                                                                  .role = f->role,
                                                                  .name = f->name,
                                                                  .bits = 8,
                                                                  .codes = f->codes,
                                                                  .num_codes = f->num_codes,
                                                                  .qparams = {.struct_size = sizeof(struct mqb_qparams),
                                                                              .num_channels = 1,
                                                                              .scale = f->scale,
                                                                              .zero_point = f->zero_point,
                                                                              .qmin = f->qmin,
                                                                              .qmax = f->qmax}};
    }
    for (int i = 0; mqb_program_bias(s->program, i, &bias); i++)
        s->tensors[s->num_tensors++] = (struct mqb_export_tensor){
            .struct_size = sizeof s->tensors[0],
            .role = MQB_ROLE_BIAS,
            .name = "b1",
            .bits = 32,
            .codes = bias.codes,
            .num_codes = bias.num_channels,
            .qparams = {
                .struct_size = sizeof(struct mqb_qparams), .num_channels = 1, .scale = bias.scale, .zero_point = &s->zero}};
}

static void small_destroy(struct small *s)
{
    mqb_program_view_destroy(s->view);
    mqb_program_destroy(s->program);
    hand_destroy(&s->net);
}

static void test_program_view_describes_every_step(void **state)
{
    (void)state;
    struct small s;
    small_create(&s);
    const struct mqb_steps *view = s.view;
    assert_int_equal(view->num_tensors, 4);
    assert_int_equal(view->num_steps, 4);
    assert_int_equal(view->input, 0);
    assert_int_equal(view->output, MQB_NONE);
    const struct mqb_step *conv = &view->steps[0], *slice = &view->steps[1], *flat = &view->steps[2], *fc = &view->steps[3];
    assert_int_equal(conv->kind, MQB_STEP_CONV);
    assert_string_equal(mqb_graph_calls.node_name(s.net.graph, conv->node), "conv");
    assert_int_equal(conv->low, 0);
    assert_int_equal(conv->high, 96); /* 6 / 2^-4 */
    assert_int_equal(conv->shape.pad_top, 1);
    assert_int_equal(conv->shape.k, 4);
    assert_string_equal(view->tensors[conv->output].name, s.net.graph->values[s.net.frozen[2].value].name);
    /* every second row, from the second column on: 2 rows of 3 pixels of 4
     * channels */
    assert_int_equal(slice->kind, MQB_STEP_MOVE);
    assert_int_equal(slice->num_runs, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(slice->runs[i].input, 0);
        assert_int_equal(slice->runs[i].from, i * 32 + 4);
        assert_int_equal(slice->runs[i].to, i * 12);
        assert_int_equal(slice->runs[i].size, 12);
    }
    assert_string_equal(mqb_graph_calls.node_name(s.net.graph, flat->node), "flat");
    assert_int_equal(flat->num_runs, 24);
    assert_string_equal(mqb_graph_calls.node_name(s.net.graph, fc->node), "fc");
    assert_int_equal(fc->output, MQB_NONE);
    assert_int_equal(fc->shape.c, 24);
    small_destroy(&s);
}

/* ---- files ---- */

struct written {
    char *texts[3]; /* .c, .h, .relay.json */
};

static mqb_status write_text(const struct mqb_export *request, const char *name, const char *text, size_t length,
                             struct mqb_error *error)
{
    static const char *const names[3] = {"my-net.1.c", "my-net.1.h", "my-net.1.relay.json"};
    struct written *written = request->engine;
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            assert_int_equal(strlen(text), length);
            written->texts[i] = mqb_strdup(text);
            return MQB_OK;
        }
    return mqb_fail(error, MQB_ERR_IO, "a file called %s", name);
}

static mqb_status export(const struct small *s, struct written *written)
{
    struct mqb_options *options = options_of("upward", "each");
    struct mqb_export request = {.struct_size = sizeof request,
                                 .num_tensors = s->num_tensors,
                                 .tensors = s->tensors,
                                 .dir = "/nowhere",
                                 .model_name = "my-net.1",
                                 .graph = s->net.graph,
                                 .write_text = write_text,
                                 .engine = written,
                                 .steps = s->view};
    memset(written, 0, sizeof *written);
    mqb_status status = tvm->export_files(mqb_host_table(), options, &request, &err);
    mqb_options_destroy(options);
    return status;
}

static void test_tvm_export_sizes_and_shifts(void **state)
{
    (void)state;
    struct small s;
    struct written written;
    json_error_t json_error;
    small_create(&s);
    OK(export(&s, &written));
    /* weights 4 x 27 and 2 x 24 bytes, 4 biases of 4 bytes; scratch: 64 codes of
     * the convolution and 24 of the slice, 24 of the flatten, which may lie on
     * the first */
    assert_non_null(strstr(written.texts[1], "#define MY_NET_1_FLASH_BYTES 172\n"));
    assert_non_null(strstr(written.texts[1], "#define MY_NET_1_SCRATCH_BYTES 88\n"));
    assert_non_null(strstr(written.texts[1], "#define MY_NET_1_INPUT_SIZE 48\n"));
    assert_non_null(strstr(written.texts[1], "#define MY_NET_1_INPUT_EXPONENT (-5)"));
    assert_non_null(strstr(written.texts[1], "void my_net_1_run(const int8_t *input, int32_t "
                                             "*output, void *scratch);"));
    assert_non_null(strstr(written.texts[0], "#include \"my-net.1.h\""));
    json_t *root = json_loads(written.texts[2], JSON_REJECT_DUPLICATES, &json_error);
    if (!root)
        fail_msg("line %d: %s", json_error.line, json_error.text);
    const json_t *nodes = json_object_get(root, "nodes"), *attrs = json_object_get(json_array_get(nodes, 0), "attrs");
    assert_int_equal(json_array_size(nodes), 4);
    assert_int_equal(json_array_size(json_object_get(root, "tensors")), 4);
    int exponent;
    (void)frexpf(s.net.frozen[1].scale[0], &exponent);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(attrs, "shift"), 0)), -4 - (-5 + exponent - 1));
    assert_int_equal(json_integer_value(json_array_get(json_object_get(attrs, "clip"), 1)), 96);
    assert_int_equal(json_integer_value(json_object_get(root, "multiply_accumulates")), 4 * 27 * 16 + 48);
    json_decref(root);
    for (int i = 0; i < 3; i++)
        mqb_deallocate(written.texts[i]);
    small_destroy(&s);
}

/* Codes of 4 bits lie two a byte, and the scratch has room for one filter of 27 weights behind its 88 bytes. */
static void test_tvm_export_packs_four_bits(void **state)
{
    (void)state;
    struct small s;
    struct written written;
    small_create(&s);
    int32_t *codes = (int32_t *)(uintptr_t)s.tensors[1].codes;
    for (int64_t i = 0; i < s.tensors[1].num_codes; i++)
        codes[i] = (int32_t)(i % 16) - 8;
    s.tensors[1].qparams.qmin = -8;
    s.tensors[1].qparams.qmax = 7;
    OK(export(&s, &written));
    assert_non_null(strstr(written.texts[1], "#define MY_NET_1_FLASH_BYTES 118\n"));
    assert_non_null(strstr(written.texts[1], "weights 102, biases 16"));
    assert_non_null(strstr(written.texts[1], "#define MY_NET_1_SCRATCH_BYTES 123\n"));
    /* [k][r][s][c]: codes 0, 9, 18 of [k][c][r][s] come first: -8, 1, -6 and then 1, -7 and so on: nibbles 8, 1, a, 9 */
    assert_non_null(strstr(written.texts[0], "static const uint8_t weight_0[54] = {\n    24, 154,"));
    for (int i = 0; i < 3; i++)
        mqb_deallocate(written.texts[i]);
    small_destroy(&s);
}

/* Nothing is written, and the sentence has both words. */
static void refused(const struct small *s, const char *a, const char *b)
{
    struct written written;
    assert_int_equal(export(s, &written), MQB_ERR_UNSUPPORTED);
    if (!strstr(err.text, a) || !strstr(err.text, b))
        fail_msg("expected \"%s\" and \"%s\" in: %s", a, b, err.text);
    for (int i = 0; i < 3; i++)
        assert_null(written.texts[i]);
}

static void test_tvm_export_holes_are_named(void **state)
{
    (void)state;
    struct small s;
    small_create(&s);
    const struct mqb_export_tensor whole[8] = {s.tensors[0], s.tensors[1], s.tensors[2], s.tensors[3], s.tensors[4]};
    s.tensors[1].name = "other";
    refused(&s, "\"w1\"", "\"conv\"");
    s.tensors[1] = whole[1];
    s.tensors[1].num_codes--;
    refused(&s, "\"conv\"", "number of codes");
    s.tensors[1] = whole[1];
    s.tensors[4].codes = NULL;
    refused(&s, "\"b1\"", "hole");
    s.tensors[4] = whole[4];
    const float third = 0.3f;
    s.tensors[3].qparams.scale = &third;
    refused(&s, "\"fc\"", "power of two");
    s.tensors[3] = whole[3];
    struct mqb_steps *view = s.view;
    struct mqb_step *step = (struct mqb_step *)(uintptr_t)&view->steps[1];
    step->kind = MQB_STEP_OTHER;
    refused(&s, "\"slice\"", "no form in C");
    step->kind = MQB_STEP_MOVE;
    struct mqb_step_tensor *tensor = (struct mqb_step_tensor *)(uintptr_t)&view->tensors[0];
    tensor->scale = 0.3f;
    refused(&s, "\"input\"", "power of two");
    tensor->scale = 0x1p-5f;
    tensor->zero_point = 3;
    refused(&s, "\"input\"", "zero point 3");
    tensor->zero_point = 0;
    tensor->scale = 0x1p60f;
    refused(&s, "\"conv\"", "too far apart");
    tensor->scale = 0x1p-5f;
    s.view = NULL;
    refused(&s, "integer program", "newer");
    s.view = view;
    small_destroy(&s);
}

static void test_tvm_judge_refuses_impossible_points(void **state)
{
    (void)state;
    static const float bad[] = {0.0f, 0x1p-30f, 0x1p30f, NAN, INFINITY, 0.3f, 0.1f, 0.75f};
    struct small s;
    struct mqb_options *options = options_of("upward", "each");
    float scale = 0.125f;
    int32_t zero = 0;
    const struct mqb_qparams good = {
        .struct_size = sizeof good, .num_channels = 1, .scale = &scale, .zero_point = &zero, .qmin = -128, .qmax = 127};
    struct mqb_qparams q = good;
    small_create(&s);
#define REFUSED(word)                                                                                                          \
    do {                                                                                                                       \
        assert_int_equal(tvm->judge(mqb_host_table(), options, s.net.graph, s.net.graph->input, &q, &err),                     \
                         MQB_ERR_UNSUPPORTED);                                                                                 \
        assert_non_null(strstr(err.text, "\"input\""));                                                                        \
        assert_non_null(strstr(err.text, word));                                                                               \
    } while (0)
    OK(tvm->judge(mqb_host_table(), options, s.net.graph, s.net.graph->input, &q, &err));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        scale = bad[i];
        REFUSED(i < 5 ? "outside" : "power of two");
    }
    scale = 0.125f;
    zero = 1;
    REFUSED("zero point 1");
    zero = 0;
    q.qmax = 255;
    REFUSED("signed byte");
    q = good;
    q.num_channels = 2;
    REFUSED("one scale");
    q = good;
    q.num_levels = 4;
    REFUSED("levels");
    small_destroy(&s);
    mqb_options_destroy(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tvm_rules_state_scheme_and_contract),
        cmocka_unit_test(test_tvm_contract_ties_closed_form),
        cmocka_unit_test(test_tvm_contract_multiplying_shifts_saturate),
        cmocka_unit_test(test_tvm_contract_product_of_other_scales_refused),
        cmocka_unit_test(test_program_view_describes_every_step),
        cmocka_unit_test(test_tvm_export_sizes_and_shifts),
        cmocka_unit_test(test_tvm_export_packs_four_bits),
        cmocka_unit_test(test_tvm_export_holes_are_named),
        cmocka_unit_test(test_tvm_judge_refuses_impossible_points),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
