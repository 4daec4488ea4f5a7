/*
 * test_acl_sim.c - the ACL backend: rules, verdicts, and its record read back, with the ONNX file beside it, into a network
 * that gives the same logits.
 */
#include "export_check.h"

#include "ops/ops.h"

#include <float.h>

/* Codes in which a layer alone reads its input. */
static void private_point(struct hand_net *net, const char *layer, float scale, int32_t z, int32_t qmin, int32_t qmax)
{
    const struct mqb_node *node = rebuilt_node(net, layer);
    hand_point(net, node->inputs[0], scale, z, qmin, qmax);
    net->frozen[net->deploy.num_frozen - 1].is_private = true;
    net->frozen[net->deploy.num_frozen - 1].reader = (mqb_node_id)(node - net->graph->nodes);
}

/* A residual block whose two layers read one tensor in codes of their own; the additions stay in float. */
static void build(struct hand_net *net, int32_t qmin, int32_t qmax, bool per_channel)
{
    hand_create(net, 41);
    mqb_value_id x = hand_input(net, 3, 9, 8);
    mqb_value_id a = unary(net, "Relu", "relu1", signed_conv(net, "conv1", x, 6, 3, 1, -128));
    mqb_value_id left = signed_conv(net, "left", a, 6, 3, 1, -128), right = signed_conv(net, "right", a, 6, 1, 1, -128);
    mqb_value_id sum = add_binary(net, "Add", "sum", add_binary(net, "Add", "inner", left, right), a);
    mqb_value_id mean = unary(net, "GlobalAveragePool", "mean", unary(net, "Relu", "relu2", sum));
    signed_linear(net, "fc", unary(net, "Flatten", "flatten", mean), 5, per_channel);
    hand_point(net, x, 0.0201f, 7, -128, 127);
    private_point(net, "left", 0.0123456789f, -128, qmin, qmax);
    private_point(net, "right", 0.0234567891f, -100, -128, 127);
    hand_point(net, rebuilt_node(net, "fc")->inputs[0], 0.0345678912f, -120, -128, 127);
}

static void test_acl_rules_state_scheme_and_contract(void **state)
{
    (void)state;
    struct mqb_scheme scheme;
    for (int variant = 0; variant < 3; variant++) {
        struct exported e;
        exported_rules(&e, "acl_sim",
                       variant == 1   ? "intermediate"
                       : variant == 2 ? "weights"
                                      : NULL,
                       variant == 1 ? "fp32" : "asymmetric");
        assert_int_equal(e.rules.deployable, 1);
        assert_int_equal(e.rules.scope, MQB_SCOPE_CONV_AND_LINEAR);
        assert_string_equal(e.rules.passes[1], "place_graph1");
        assert_int_equal(e.rules.contract.intermediate, variant == 1 ? MQB_INTERMEDIATE_F32 : MQB_INTERMEDIATE_F16);
        assert_int_equal(e.rules.contract.zp_before, 1);
        assert_int_equal(e.rules.contract.input_divide, 0);
        mqb_scheme_make(&e.rules, MQB_ROLE_WEIGHT, 8, 64, &scheme);
        assert_true(scheme.qmin == -128 && scheme.qmax == 127 && scheme.num_channels == 64);
        assert_int_equal(scheme.symmetric, variant != 2);
        mqb_scheme_make(&e.rules, MQB_ROLE_ACTIVATION, 8, 64, &scheme);
        assert_true(scheme.qmin == -128 && scheme.qmax == 127 && scheme.num_channels == 1 && !scheme.symmetric);
        exported_free(&e);
    }
}

static void test_acl_judge_refuses_what_a_record_cannot_hold(void **state)
{
    (void)state;
    static const struct {
        float scale;
        int32_t z, qmin, qmax;
        const char *word;
    } cases[] = {
        {0.1f, 127, -128, 127, NULL},
        {FLT_EPSILON, 0, -128, 127, NULL},
        {FLT_EPSILON / 2, 0, -128, 127, "dead"},
        {2 / FLT_EPSILON, 0, -128, 127, "diverged"},
        {0.1f, 128, -128, 127, "offset 128"},
        {0.1f, 0, 0, 255, "signed byte"},
    };
    struct hand_net make, *net = &make;
    struct exported e;
    build(net, -128, 127, false);
    exported_rules(&e, "acl_sim", NULL, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mqb_qparams q = {.struct_size = sizeof(q),
                                .num_channels = 1,
                                .scale = &cases[i].scale,
                                .zero_point = &cases[i].z,
                                .qmin = cases[i].qmin,
                                .qmax = cases[i].qmax};
        mqb_status status = e.backend->judge(mqb_host_table(), e.options, net->graph, net->graph->input, &q, &net->error);
        assert_int_equal(status, cases[i].word ? MQB_ERR_UNSUPPORTED : MQB_OK);
        if (cases[i].word && (!strstr(net->error.text, cases[i].word) || !strstr(net->error.text, "input")))
            fail_msg("'%s' does not say '%s'", net->error.text, cases[i].word);
    }
    exported_free(&e);
    hand_destroy(net);
}

/* ---- the record, read by its grammar ---- */

struct record {
    char key[64];
    double scale_d, scale_w[16];
    long offset_d, offset_w[16], size[3];
    int num_scales, num_offsets;
};

static int read_records(const struct exported *e, struct record *records)
{
    char word[128], value[128];
    int num = 0;
    FILE *file = fopen(exported_path(e, "net.acl.record.txt"), "r");
    assert_non_null(file);
    struct record *r = NULL;
    while (fscanf(file, "%127s", word) == 1) {
        if (strcmp(word, "record") == 0) {
            r = &records[num++];
            memset(r, 0, sizeof(*r));
        }
        if (strcmp(word, "record") == 0 || strcmp(word, "value") == 0) {
            assert_int_equal(fscanf(file, "%127s", value), 1);
            assert_string_equal(value, "{");
            continue;
        }
        if (strcmp(word, "}") == 0)
            continue;
        assert_int_equal(fscanf(file, "%127s", value), 1);
        if (strcmp(word, "key:") == 0) {
            assert_true(value[0] == '"' && value[strlen(value) - 1] == '"');
            snprintf(r->key, sizeof(r->key), "%.*s", (int)strlen(value) - 2, value + 1);
        } else if (strcmp(word, "scale_d:") == 0) {
            r->scale_d = strtod(value, NULL);
        } else if (strcmp(word, "offset_d:") == 0) {
            r->offset_d = strtol(value, NULL, 10);
        } else if (strcmp(word, "scale_w:") == 0) {
            r->scale_w[r->num_scales++] = strtod(value, NULL);
        } else if (strcmp(word, "offset_w:") == 0) {
            r->offset_w[r->num_offsets++] = strtol(value, NULL, 10);
        } else {
            int which = strcmp(word, "channels:") == 0 ? 0 : strcmp(word, "height:") == 0 ? 1 : 2;
            assert_true(which < 2 || strcmp(word, "width:") == 0);
            r->size[which] = strtol(value, NULL, 10);
        }
    }
    fclose(file);
    return num;
}

static void test_acl_record_rebuilds_the_network(void **state)
{
    (void)state;
    static const char *const intermediates[] = {"fp16", "fp32"};
    for (int i = 0; i < 2; i++) {
        struct hand_net make, *net = &make, again, *read = &again;
        struct record records[8];
        struct exported e;
        build(net, -128, 127, false);
        exported_rules(&e, "acl_sim", "intermediate", intermediates[i]);
        HAND_OK(exported_write(&e, net));
        assert_int_equal(e.num_files, 2);
        assert_int_equal(read_records(&e, records), 4);
        rebuilt_open(read, &e, "net.acl.onnx");
        for (int k = 0; k < 4; k++) {
            const struct record *r = &records[k];
            const struct mqb_node *node = rebuilt_node(read, r->key);
            struct mqb_extent x = mqb_value_extent(&read->graph->values[node->inputs[0]]);
            float scale[16];
            assert_true(r->size[0] == x.c && r->size[1] == x.h && r->size[2] == x.w);
            assert_int_equal(r->num_scales, strcmp(r->key, "fc") == 0 ? 1 : 6);
            assert_int_equal(r->num_offsets, r->num_scales);
            for (int c = 0; c < r->num_scales; c++) {
                scale[c] = (float)r->scale_w[c];
                assert_int_equal(r->offset_w[c], 0);
            }
            rebuilt_weight(read, node->inputs[1], r->num_scales, scale, -128);
            private_point(read, r->key, (float)r->scale_d, (int32_t)r->offset_d, -128, 127);
        }
        rebuilt_equals(read, &e);
        hand_destroy(read);
        exported_free(&e);
        hand_destroy(net);
    }
}

static void test_acl_record_is_not_written_where_it_would_lie(void **state)
{
    (void)state;
    for (int offset = 0; offset < 2; offset++) {
        struct hand_net make, *net = &make;
        struct exported e;
        build(net, offset ? -128 : -8, offset ? 127 : 7, false);
        if (!offset)
            net->frozen[net->deploy.num_frozen - 3].zero_point[0] = -8;
        for (int i = 0; i < net->deploy.num_frozen && offset; i++)
            if (strcmp(net->frozen[i].name, "right.w") == 0)
                net->frozen[i].zero_point[2] = 5;
        exported_rules(&e, "acl_sim", "weights", "asymmetric");
        HAND_OK(exported_write(&e, net));
        assert_int_equal(e.num_files, 1);
        assert_int_equal(access(exported_path(&e, "net.acl.onnx"), F_OK), 0);
        assert_int_not_equal(access(exported_path(&e, "net.acl.record.txt"), F_OK), 0);
        exported_free(&e);
        hand_destroy(net);
    }
}

static void test_acl_export_names_what_has_no_scale(void **state)
{
    (void)state;
    struct hand_net make, *net = &make;
    struct exported e;
    build(net, -128, 127, false);
    exported_rules(&e, "acl_sim", NULL, NULL);
    HAND_OK(exported_write(&e, net));
    for (int i = 0; i < net->deploy.num_frozen; i++) {
        char *name = net->frozen[i].name;
        net->frozen[i].name = mqb_strdup("elsewhere");
        assert_int_equal(exported_write(&e, net), MQB_ERR_UNSUPPORTED);
        assert_int_equal(e.num_files, 0);
        if (!strstr(net->error.text, name) || !strstr(net->error.text, "hole"))
            fail_msg("'%s' does not name %s", net->error.text, name);
        mqb_deallocate(net->frozen[i].name);
        net->frozen[i].name = name;
    }
    exported_free(&e);
    hand_destroy(net);
    build(net, -128, 127, true); /* a linear layer has one scale */
    exported_rules(&e, "acl_sim", NULL, NULL);
    assert_int_equal(exported_write(&e, net), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(net->error.text, "fc.w"));
    assert_non_null(strstr(net->error.text, "5 scales"));
    exported_free(&e);
    hand_destroy(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_acl_rules_state_scheme_and_contract),
        cmocka_unit_test(test_acl_judge_refuses_what_a_record_cannot_hold),
        cmocka_unit_test(test_acl_record_rebuilds_the_network),
        cmocka_unit_test(test_acl_record_is_not_written_where_it_would_lie),
        cmocka_unit_test(test_acl_export_names_what_has_no_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
