/* Deployment: folded and quantized weights, merged batch normalization, frozen points, and the way down to integers. */
#include "naive_integers.h"
#include "naive_program.h"

#include "graph/op.h"

#include <stdlib.h>

#define MAX_POINTS 16

/* ---- a quantizer with fixed parameters ---- */

struct fixed_quantizer {
    float scale[32];
    int32_t zero_point[32];
    int32_t channels, qmin, qmax, num_levels;
    const char *refusal; /* of freeze */
};

static mqb_status fixed_qparams(const void *self, struct mqb_qparams *q, struct mqb_error *error)
{
    const struct fixed_quantizer *f = self;
    (void)error;
    q->num_channels = f->channels;
    q->scale = f->scale;
    q->zero_point = f->zero_point;
    q->qmin = f->qmin;
    q->qmax = f->qmax;
    q->num_levels = f->num_levels;
    return MQB_OK;
}

/* Codes by true division: differs from what the host would do, so the test sees who was asked. */
static mqb_status fixed_freeze(const void *self, const struct mqb_tensor_view *x, int32_t *codes, struct mqb_error *error)
{
    const struct fixed_quantizer *f = self;
    if (f->refusal)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "%s", f->refusal);
    assert_int_equal(x->num_elements, x->dims[0] * x->dims[1] * x->dims[2] * x->dims[3]);
    for (int64_t i = 0; i < x->num_elements; i++)
        codes[i] = f->qmax;
    return MQB_OK;
}

static const struct mqb_quantizer affine = {
    .struct_size = sizeof(struct mqb_quantizer), .flags = MQB_QUANTIZER_AFFINE, .qparams = fixed_qparams};
static const struct mqb_quantizer freezing = {
    .struct_size = sizeof(struct mqb_quantizer), .qparams = fixed_qparams, .freeze = fixed_freeze};
static const struct mqb_quantizer opaque = {.struct_size = sizeof(struct mqb_quantizer), .qparams = fixed_qparams};

/* ---- trained graphs ---- */

struct trained {
    struct hand_net net;
    struct mqb_point points[MAX_POINTS], *list[MAX_POINTS];
    struct fixed_quantizer quantizers[MAX_POINTS];
    struct mqb_points set;
};

static void trained_create(struct trained *t, uint64_t seed)
{
    memset(t, 0, sizeof(*t));
    hand_create(&t->net, seed);
    t->set.points = t->list;
}

static void trained_destroy(struct trained *t)
{
    hand_destroy(&t->net);
}

/* A FakeQuantize node with a point; returns its output. */
static mqb_value_id trained_point(struct trained *t, mqb_value_id x, int role, int32_t channels, float scale, int32_t z,
                                  int32_t qmin, int32_t qmax)
{
    struct hand_net *net = &t->net;
    char name[80];
    snprintf(name, sizeof(name), "%s.q", net->graph->values[x].name);
    mqb_node_id node = hand_node(net, "FakeQuantize", name, 1, &x);
    hand_attr_int(net, node, "role", role);
    hand_infer(net);
    struct fixed_quantizer *q = &t->quantizers[t->set.num_points];
    struct mqb_point *p = &t->points[t->set.num_points];
    assert_true(t->set.num_points < MAX_POINTS && channels <= 32);
    *q = (struct fixed_quantizer){.channels = channels, .qmin = qmin, .qmax = qmax};
    for (int32_t c = 0; c < channels; c++) {
        q->scale[c] = channels > 1 ? scale * (0.5f + hand_uniform(net)) : scale;
        q->zero_point[c] = z;
    }
    *p = (struct mqb_point){.name = net->graph->values[x].name,
                            .node = node,
                            .quantizer = &affine,
                            .algorithm = "fixed",
                            .self = q,
                            .mode = MQB_POINT_ON};
    p->scheme = (struct mqb_scheme){.struct_size = sizeof(p->scheme),
                                    .role = role,
                                    .bits = 8,
                                    .qmin = qmin,
                                    .qmax = qmax,
                                    .symmetric = z == 0,
                                    .per_channel = channels > 1,
                                    .num_channels = channels};
    t->list[t->set.num_points++] = p;
    net->graph->nodes[node].point = p;
    return hand_out(net, node);
}

static mqb_value_id random_param(struct hand_net *net, const char *name, int32_t rank, const int64_t *dims, float low,
                                 float high, int kind)
{
    mqb_value_id id;
    HAND_OK(mqb_graph_calls.add_value(net->graph, kind, name, rank, dims, NULL, &id, &net->error));
    for (int64_t i = 0; i < mqb_dims_count(rank, dims); i++)
        net->graph->values[id].data[i] = low + (high - low) * hand_uniform(net);
    return id;
}

enum fold { KEPT, FOLDED }; /* strategies -1 and 4 */

struct layer_ids {
    mqb_value_id weight, gamma, beta, mean, var, bias, scale, scaled, quantized, y;
    mqb_node_id conv, norm;
};

/* conv + batch normalization (+ quantized weight) in one of the two forms. */
static struct layer_ids trained_layer(struct trained *t, const char *name, mqb_value_id x, int64_t k, int64_t r, enum fold fold,
                                      int32_t weight_channels, bool bias)
{
    struct hand_net *net = &t->net;
    struct layer_ids ids = {.bias = MQB_NONE, .scale = MQB_NONE};
    char text[64];
    int64_t dims[4] = {k, net->graph->values[x].dims[1], r, r};
#define NAMED(suffix) (snprintf(text, sizeof(text), "%s.%s", name, suffix), text)
    ids.weight = random_param(net, NAMED("weight"), 4, dims, -0.3f, 0.3f, MQB_VALUE_PARAM);
    ids.gamma = random_param(net, NAMED("gamma"), 1, &k, 0.5f, 1.5f, MQB_VALUE_PARAM);
    ids.beta = random_param(net, NAMED("beta"), 1, &k, -0.5f, 0.5f, MQB_VALUE_PARAM);
    ids.mean = random_param(net, NAMED("mean"), 1, &k, -0.5f, 0.5f, MQB_VALUE_STATE);
    ids.var = random_param(net, NAMED("var"), 1, &k, 0.2f, 2.0f, MQB_VALUE_STATE);
    mqb_value_id weight = ids.weight;
    if (fold == FOLDED) {
        mqb_value_id inputs[2] = {ids.gamma, ids.var};
        mqb_node_id node = hand_node(net, "BatchScale", NAMED("scale"), 2, inputs);
        hand_attr_real(net, node, "epsilon", 1e-3);
        ids.scale = hand_out(net, node);
        mqb_value_id scaled[2] = {ids.weight, ids.scale};
        weight = ids.scaled = hand_out(net, hand_node(net, "ScaleChannels", NAMED("scaled"), 2, scaled));
        hand_infer(net);
    }
    weight = ids.quantized = trained_point(t, weight, MQB_ROLE_WEIGHT, weight_channels, 0.003f, weight_channels > 1 ? 0 : 121,
                                           weight_channels > 1 ? -127 : 0, weight_channels > 1 ? 127 : 255);
    mqb_value_id inputs[6] = {x, weight, MQB_NONE};
    if (bias)
        inputs[2] = ids.bias = random_param(net, NAMED("bias"), 1, &k, -0.5f, 0.5f, MQB_VALUE_PARAM);
    ids.conv = hand_node(net, "Conv", name, bias ? 3 : 2, inputs);
    hand_list(net, ids.conv, "pads", 4, (int64_t[]){r / 2, r / 2, r / 2, r / 2});
    hand_infer(net);
    mqb_value_id norm[6] = {hand_out(net, ids.conv), ids.gamma, ids.beta, ids.mean, ids.var, ids.scale};
    ids.norm = hand_node(net, "BatchNormalization", NAMED("bn"), fold == FOLDED ? 6 : 5, norm);
    hand_attr_real(net, ids.norm, "epsilon", 1e-3);
    hand_infer(net);
    ids.y = hand_out(net, ids.norm);
    return ids;
}

static const float *numbers(const struct mqb_graph *graph, mqb_value_id id)
{
    return graph->values[id].data;
}

static const struct mqb_node *node_named(const struct mqb_graph *graph, const char *name)
{
    for (int32_t i = 0; i < graph->num_ordered; i++)
        if (strcmp(graph->nodes[graph->order[i]].name, name) == 0)
            return &graph->nodes[graph->order[i]];
    return NULL;
}

static void deploy_refused(struct trained *t, mqb_status status, const char *const *words)
{
    struct mqb_deploy *deploy;
    t->net.error.text[0] = 0;
    assert_int_equal(mqb_deploy_create(t->net.graph, &t->set, &deploy, &t->net.error), status);
    assert_null(deploy);
    for (; *words; words++)
        if (!strstr(t->net.error.text, *words))
            fail_msg("'%s' does not say '%s'", t->net.error.text, *words);
}
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ---- folded form ---- */

/* Output of an operator without batched inputs, by the operator itself. */
static void run_fixed(struct hand_net *net, mqb_value_id value, const float *a, const float *b, float *out)
{
    const float *fixed[2] = {a, b};
    mqb_node_id id = net->graph->values[value].producer;
    struct mqb_op_context context = {.graph = net->graph, .node = &net->graph->nodes[id], .id = id, .fixed = fixed};
    const struct mqb_op *op = context.node->op;
    size_t scratch_size = 0;
    if (op->create)
        HAND_OK(op->create(&context, &scratch_size, &net->error));
    if (op->prepare)
        HAND_OK(op->prepare(&context, &net->error));
    HAND_OK(op->forward_fixed(&context, out, &net->error));
    if (op->destroy)
        op->destroy(&context);
}

static void test_deploy_folded_layer_becomes_grid_and_bias(void **state)
{
    (void)state;
    struct trained t;
    trained_create(&t, 1);
    struct hand_net *net = &t.net;
    mqb_value_id x = hand_input(net, 3, 6, 6);
    mqb_value_id xq = trained_point(&t, x, MQB_ROLE_ACTIVATION, 1, 0.02f, 128, 0, 255);
    struct layer_ids ids = trained_layer(&t, "conv1", xq, 5, 3, FOLDED, 1, true);
    mqb_value_id a = hand_unary(net, "Relu", "relu1", ids.y);
    hand_infer(net);
    trained_point(&t, a, MQB_ROLE_ACTIVATION, 1, 0.05f, 3, 0, 255);
    int32_t num_nodes = net->graph->num_ordered;

    struct mqb_deploy *deploy;
    HAND_OK(mqb_deploy_create(net->graph, &t.set, &deploy, &net->error));
    assert_int_equal(net->graph->num_ordered, num_nodes); /* the trained graph is as it was */
    assert_int_equal(deploy->graph->num_ordered, 2);      /* Conv, Relu */
    assert_string_equal(deploy->graph->nodes[deploy->graph->order[0]].op->name, "Conv");
    assert_string_equal(deploy->graph->nodes[deploy->graph->order[1]].op->name, "Relu");
    assert_int_equal(deploy->num_frozen, 3);

    /* Weights: the operators' own numbers, quantized by the rule for one scale a tensor. */
    float sf[5], scaled[5 * 27];
    run_fixed(net, ids.scale, numbers(net->graph, ids.gamma), numbers(net->graph, ids.var), sf);
    run_fixed(net, ids.scaled, numbers(net->graph, ids.weight), sf, scaled);
    const struct mqb_node *conv = node_named(deploy->graph, "conv1");
    const struct mqb_frozen *w = mqb_deploy_find(deploy, conv->inputs[1]);
    assert_non_null(w);
    assert_string_equal(w->name, "conv1.weight");
    assert_int_equal(w->role, MQB_ROLE_WEIGHT);
    assert_int_equal(w->num_codes, 5 * 27);
    for (int i = 0; i < 5 * 27; i++) {
        float q = rintf(scaled[i] * (1.0f / 0.003f)) + 121;
        q = q < 0 ? 0 : q > 255 ? 255 : q;
        assert_int_equal(w->codes[i], (int32_t)q);
        assert_true(numbers(deploy->graph, conv->inputs[1])[i] == 0.003f * (q - 121));
    }
    /* Bias: y = gamma (u / sf - mean) / sigma + beta for any u, where the conv's own bias is part of u. */
    const float *bias = numbers(deploy->graph, conv->inputs[2]);
    for (int k = 0; k < 5; k++)
        for (int i = -3; i <= 3; i++) {
            double u = 0.7 * i, sigma = sqrt((double)numbers(net->graph, ids.var)[k] + 1e-3), divisor = sf[k];
            double own = numbers(net->graph, ids.bias)[k];
            double y = numbers(net->graph, ids.gamma)[k] * ((u + own) / divisor - numbers(net->graph, ids.mean)[k]) / sigma +
                       numbers(net->graph, ids.beta)[k];
            assert_true(fabs(u + bias[k] - y) < 2e-6);
        }
    /* Points. */
    const struct mqb_frozen *f = mqb_deploy_find(deploy, deploy->graph->input);
    assert_non_null(f);
    assert_float_equal(f->scale[0], 0.02f, 0);
    assert_int_equal(f->zero_point[0], 128);
    f = mqb_deploy_find(deploy, deploy->graph->output);
    assert_non_null(f);
    assert_string_equal(f->name, "relu1");
    assert_int_equal(f->zero_point[0], 3);
    assert_null(mqb_deploy_find(deploy, conv->output));
    mqb_deploy_destroy(deploy);
    trained_destroy(&t);
}

static void test_deploy_zero_gamma_gives_beta(void **state)
{
    (void)state;
    struct trained t;
    trained_create(&t, 2);
    struct hand_net *net = &t.net;
    struct layer_ids ids = trained_layer(&t, "conv1", hand_input(net, 3, 6, 6), 5, 3, FOLDED, 1, false);
    net->graph->values[ids.gamma].data[2] = 0.0f;
    struct mqb_deploy *deploy;
    HAND_OK(mqb_deploy_create(net->graph, &t.set, &deploy, &net->error));
    const struct mqb_node *conv = node_named(deploy->graph, "conv1");
    assert_true(numbers(deploy->graph, conv->inputs[2])[2] == numbers(net->graph, ids.beta)[2]);
    for (int i = 0; i < 27; i++)
        assert_true(numbers(deploy->graph, conv->inputs[1])[2 * 27 + i] == 0.0f);
    mqb_deploy_destroy(deploy);
    trained_destroy(&t);
}

/* ---- separate form ---- */

static void test_deploy_kept_normalization_scales_channels(void **state)
{
    (void)state;
    struct trained t;
    trained_create(&t, 3);
    struct hand_net *net = &t.net;
    struct layer_ids ids = trained_layer(&t, "conv1", hand_input(net, 3, 6, 6), 6, 3, KEPT, 6, true);
    net->graph->values[ids.gamma].data[1] = -0.8f; /* codes turn round */
    net->graph->values[ids.gamma].data[4] = 0.0f;  /* switched off */
    struct mqb_deploy *deploy;
    HAND_OK(mqb_deploy_create(net->graph, &t.set, &deploy, &net->error));
    assert_int_equal(deploy->graph->num_ordered, 1);
    const struct mqb_node *conv = node_named(deploy->graph, "conv1");
    const struct mqb_frozen *f = mqb_deploy_find(deploy, conv->inputs[1]);
    const float *weight = numbers(deploy->graph, conv->inputs[1]), *bias = numbers(deploy->graph, conv->inputs[2]);
    for (int k = 0; k < 6; k++) {
        float s = t.quantizers[0].scale[k];
        double gamma = numbers(net->graph, ids.gamma)[k], sigma = sqrt((double)numbers(net->graph, ids.var)[k] + 1e-3);
        assert_true(f->scale[k] > 0);
        for (int i = 27 * k; i < 27 * (k + 1); i++) {
            float q = rintf(numbers(net->graph, ids.weight)[i] / s);
            q = q < -127 ? -127 : q > 127 ? 127 : q;
            double folded = (double)s * (double)q * gamma / sigma;
            assert_true(fabs(weight[i] - folded) < 1e-6);
            assert_true(weight[i] == f->scale[k] * (float)(f->codes[i] - f->zero_point[k]));
            assert_true(f->codes[i] >= f->qmin && f->codes[i] <= f->qmax);
        }
        double own = numbers(net->graph, ids.bias)[k];
        double want = numbers(net->graph, ids.beta)[k] + (own - numbers(net->graph, ids.mean)[k]) * gamma / sigma;
        assert_true(fabs(bias[k] - want) < 1e-6);
    }
    mqb_deploy_destroy(deploy);
    trained_destroy(&t);
}

static void test_deploy_kept_normalization_refuses_one_scale(void **state)
{
    (void)state;
    struct trained t;
    trained_create(&t, 4);
    struct layer_ids ids = trained_layer(&t, "conv1", hand_input(&t.net, 3, 6, 6), 6, 3, KEPT, 1, false);
    (void)ids;
    deploy_refused(&t, MQB_ERR_UNSUPPORTED, WORDS("conv1.bn", "conv1.weight", "one scale"));
    trained_destroy(&t);
}

static void test_deploy_negative_gamma_with_lowest_code_refused(void **state)
{
    (void)state;
    struct trained t;
    trained_create(&t, 5);
    struct layer_ids ids = trained_layer(&t, "conv1", hand_input(&t.net, 3, 6, 6), 6, 3, KEPT, 6, false);
    t.quantizers[0].qmin = -128;
    t.net.graph->values[ids.gamma].data[1] = -1.0f;
    t.net.graph->values[ids.weight].data[30] = -10.0f;
    deploy_refused(&t, MQB_ERR_UNSUPPORTED, WORDS("channel 1", "-128", "negative"));
    trained_destroy(&t);
}

static void test_deploy_normalization_elsewhere_stays_in_float(void **state)
{
    (void)state;
    struct trained t;
    trained_create(&t, 6);
    struct hand_net *net = &t.net;
    mqb_value_id x = hand_input(net, 3, 4, 4);
    int64_t c = 3;
    mqb_value_id inputs[5] = {x};
    for (int i = 1; i < 5; i++)
        inputs[i] = random_param(net, "p", 1, &c, 0.5f, 1.0f, i > 2 ? MQB_VALUE_STATE : MQB_VALUE_PARAM);
    hand_node(net, "BatchNormalization", "first", 5, inputs);
    hand_infer(net);
    struct mqb_deploy *deploy;
    HAND_OK(mqb_deploy_create(net->graph, &t.set, &deploy, &net->error));
    assert_int_equal(deploy->graph->num_ordered, 1);
    mqb_deploy_destroy(deploy);
    trained_destroy(&t);
}

/* ---- refusals and special points ---- */

static void test_deploy_quantizer_that_cannot_is_named(void **state)
{
    (void)state;
    struct trained t;
    trained_create(&t, 7);
    struct hand_net *net = &t.net;
    mqb_value_id x = hand_input(net, 3, 6, 6);
    mqb_value_id xq = trained_point(&t, x, MQB_ROLE_ACTIVATION, 1, 0.02f, 128, 0, 255);
    trained_layer(&t, "conv1", xq, 5, 3, FOLDED, 1, false);

    t.quantizers[1].num_levels = 7;
    deploy_refused(&t, MQB_ERR_UNSUPPORTED, WORDS("conv1.scaled", "fixed", "7 levels"));
    t.quantizers[1].num_levels = 0;
    t.points[1].quantizer = &opaque;
    deploy_refused(&t, MQB_ERR_UNSUPPORTED, WORDS("conv1.scaled", "integer codes"));
    t.points[1].quantizer = &freezing;
    t.quantizers[1].refusal = "because of the weather";
    deploy_refused(&t, MQB_ERR_UNSUPPORTED, WORDS("conv1.scaled", "because of the weather"));
    t.quantizers[1].refusal = NULL;
    t.quantizers[1].scale[0] = NAN;
    deploy_refused(&t, MQB_ERR_NUMERIC, WORDS("conv1.scaled", "nan"));
    t.quantizers[1].scale[0] = 0.01f;
    t.points[0].quantizer = &opaque;
    deploy_refused(&t, MQB_ERR_UNSUPPORTED, WORDS("'input'", "at run time"));
    t.points[0].quantizer = &affine;
    t.quantizers[0].channels = 2;
    deploy_refused(&t, MQB_ERR_INTERNAL, WORDS("'input'", "2 scales"));
    t.quantizers[0].channels = 1;

    struct mqb_deploy *deploy;
    HAND_OK(mqb_deploy_create(net->graph, &t.set, &deploy, &net->error));
    const struct mqb_frozen *f = mqb_deploy_find(deploy, node_named(deploy->graph, "conv1")->inputs[1]);
    for (int64_t i = 0; i < f->num_codes; i++)
        assert_int_equal(f->codes[i], 255); /* the quantizer's own codes */
    mqb_deploy_destroy(deploy);

    t.set.num_points = 1;
    deploy_refused(&t, MQB_ERR_ARGUMENT, WORDS("conv1.scaled.q", "no quantization point"));
    trained_destroy(&t);
}

static void test_deploy_foreign_divisor_refused(void **state)
{
    (void)state;
    struct trained t;
    trained_create(&t, 8);
    struct hand_net *net = &t.net;
    struct layer_ids ids = trained_layer(&t, "conv1", hand_input(net, 3, 6, 6), 5, 3, FOLDED, 1, false);
    hand_attr_real(net, ids.norm, "epsilon", 1e-2);
    deploy_refused(&t, MQB_ERR_UNSUPPORTED, WORDS("conv1.bn", "divides by"));
    trained_destroy(&t);
}

static void test_deploy_two_points_on_a_tensor_must_agree(void **state)
{
    (void)state;
    for (int differ = 0; differ < 2; differ++) {
        struct trained t;
        trained_create(&t, 9);
        struct hand_net *net = &t.net;
        mqb_value_id x = hand_input(net, 3, 6, 6), both[2];
        both[0] = trained_point(&t, x, MQB_ROLE_ACTIVATION, 1, 0.02f, 128, 0, 255);
        both[1] = trained_point(&t, x, MQB_ROLE_ACTIVATION, 1, differ ? 0.03f : 0.02f, 128, 0, 255);
        hand_node(net, "Add", "sum", 2, both);
        hand_infer(net);
        if (differ) {
            deploy_refused(&t, MQB_ERR_UNSUPPORTED, WORDS("input", "two quantization points"));
        } else {
            struct mqb_deploy *deploy;
            HAND_OK(mqb_deploy_create(net->graph, &t.set, &deploy, &net->error));
            assert_int_equal(deploy->num_frozen, 1);
            mqb_deploy_destroy(deploy);
        }
        trained_destroy(&t);
    }
}

/* Graph 1: layers have codes of their own for what they read. They become those of the tensor if all of them agree and nothing
 * else reads it. */
static void test_deploy_points_of_single_readers_stay_private(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        bool differ = variant & 1, read_in_float = variant & 2;
        struct trained t;
        trained_create(&t, 12);
        struct hand_net *net = &t.net;
        mqb_value_id x = hand_input(net, 2, 6, 6), parts[2];
        int64_t dims[4] = {2, 2, 1, 1};
        for (int i = 0; i < 2; i++) {
            mqb_value_id w = random_param(net, i ? "w2" : "w1", 4, dims, -0.3f, 0.3f, MQB_VALUE_PARAM);
            mqb_value_id inputs[2] = {trained_point(&t, x, MQB_ROLE_ACTIVATION, 1, differ && i ? 0.03f : 0.02f, 3, -128, 127),
                                      trained_point(&t, w, MQB_ROLE_WEIGHT, 1, 0.01f, 0, -128, 127)};
            parts[i] = hand_out(net, hand_node(net, "Conv", i ? "two" : "one", 2, inputs));
            hand_infer(net);
        }
        parts[0] = hand_out(net, hand_node(net, "Add", "sum", 2, parts));
        hand_infer(net);
        parts[1] = x;
        if (read_in_float)
            hand_node(net, "Add", "shortcut", 2, parts);
        hand_infer(net);
        struct mqb_deploy *deploy;
        HAND_OK(mqb_deploy_create(net->graph, &t.set, &deploy, &net->error));
        bool is_private = differ || read_in_float;
        assert_int_equal(deploy->num_frozen, is_private ? 4 : 3);
        const struct mqb_frozen *shared = mqb_deploy_find(deploy, deploy->graph->input);
        assert_int_equal(shared == NULL, is_private);
        for (int i = 0; i < 2; i++) {
            mqb_node_id reader = (mqb_node_id)(node_named(deploy->graph, i ? "two" : "one") - deploy->graph->nodes);
            const struct mqb_frozen *f = mqb_deploy_find_input(deploy, deploy->graph->input, reader);
            assert_non_null(f);
            assert_true(f->scale[0] == (differ && i ? 0.03f : 0.02f));
            assert_int_equal(f->is_private, is_private);
            assert_int_equal(f->reader, is_private ? reader : MQB_NONE);
            assert_int_equal(f->point, is_private ? t.points[2 * i].node : t.points[0].node);
        }
        assert_int_equal(node_named(deploy->graph, "one")->inputs[0], deploy->graph->input);
        mqb_deploy_destroy(deploy);
        trained_destroy(&t);
    }
}

/* A channel of zeros takes the largest scale of the others: its bias must be countable in steps of it. */
static void test_deploy_dead_channel_takes_a_usable_scale(void **state)
{
    (void)state;
    struct trained t;
    trained_create(&t, 13);
    struct hand_net *net = &t.net;
    mqb_value_id x = trained_point(&t, hand_input(net, 2, 4, 4), MQB_ROLE_ACTIVATION, 1, 0.0078f, 3, -128, 127);
    int64_t dims[4] = {3, 2, 1, 1}, size = 3;
    mqb_value_id w = random_param(net, "w", 4, dims, 0.2f, 0.3f, MQB_VALUE_PARAM);
    mqb_value_id b = random_param(net, "b", 1, &size, -4.5f, -4.0f, MQB_VALUE_PARAM);
    net->graph->values[w].data[2] = net->graph->values[w].data[3] = 1e-12f; /* channel 1 */
    mqb_value_id inputs[3] = {x, trained_point(&t, w, MQB_ROLE_WEIGHT, 3, 0.01f, 0, -127, 127), b};
    struct fixed_quantizer *q = &t.quantizers[1];
    q->scale[0] = 0.002f;
    q->scale[1] = 0x1p-23f;
    q->scale[2] = 0.003f;
    hand_node(net, "Conv", "conv", 3, inputs);
    hand_infer(net);
    struct mqb_deploy *deploy;
    HAND_OK(mqb_deploy_create(net->graph, &t.set, &deploy, &net->error));
    const struct mqb_frozen *f = mqb_deploy_find(deploy, node_named(deploy->graph, "conv")->inputs[1]);
    assert_true(f->scale[0] == 0.002f && f->scale[1] == 0.003f && f->scale[2] == 0.003f);
    assert_true(f->codes[2] == 0 && f->codes[3] == 0 && f->codes[0] > 90);
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    struct mqb_program *program; /* with the quantizer's scale the bias would be -4.6e9 steps */
    HAND_OK(mqb_program_create(deploy, &rules, NULL, &program, &net->error));
    mqb_program_destroy(program);
    mqb_deploy_destroy(deploy);
    trained_destroy(&t);
}

static void test_deploy_shared_weight_keeps_the_original(void **state)
{
    (void)state;
    struct trained t;
    trained_create(&t, 10);
    struct hand_net *net = &t.net;
    mqb_value_id x = hand_input(net, 4, 6, 6);
    int64_t dims[4] = {4, 4, 1, 1};
    mqb_value_id w = random_param(net, "shared", 4, dims, -0.3f, 0.3f, MQB_VALUE_PARAM);
    mqb_value_id q = trained_point(&t, w, MQB_ROLE_WEIGHT, 1, 0.01f, 0, -128, 127);
    mqb_value_id first[2] = {x, q};
    mqb_value_id y = hand_out(net, hand_node(net, "Conv", "one", 2, first));
    hand_infer(net);
    mqb_value_id second[2] = {y, w}; /* in float */
    hand_node(net, "Conv", "two", 2, second);
    hand_infer(net);
    struct mqb_deploy *deploy;
    HAND_OK(mqb_deploy_create(net->graph, &t.set, &deploy, &net->error));
    const struct mqb_node *one = node_named(deploy->graph, "one"), *two = node_named(deploy->graph, "two");
    assert_int_not_equal(one->inputs[1], two->inputs[1]);
    assert_non_null(mqb_deploy_find(deploy, one->inputs[1]));
    assert_null(mqb_deploy_find(deploy, two->inputs[1]));
    assert_memory_equal(numbers(deploy->graph, two->inputs[1]), numbers(net->graph, w), 16 * sizeof(float));
    mqb_deploy_destroy(deploy);
    trained_destroy(&t);
}

/* ---- all the way down ---- */

static void test_deploy_and_lower_run_a_trained_block(void **state)
{
    (void)state;
    struct trained t;
    trained_create(&t, 11);
    struct hand_net *net = &t.net;
    mqb_value_id x = hand_input(net, 3, 6, 7);
    mqb_value_id v = trained_point(&t, x, MQB_ROLE_ACTIVATION, 1, 0.02f, 128, 0, 255);
    v = hand_unary(net, "Relu", "relu1", trained_layer(&t, "conv1", v, 8, 3, FOLDED, 1, false).y);
    hand_infer(net);
    v = trained_point(&t, v, MQB_ROLE_ACTIVATION, 1, 0.03f, 5, 0, 255);
    mqb_value_id u = trained_layer(&t, "conv2", v, 8, 3, KEPT, 8, false).y;
    u = trained_point(&t, u, MQB_ROLE_ACTIVATION, 1, 0.06f, 122, 0, 255);
    mqb_value_id pair[2] = {u, v};
    v = hand_out(net, hand_node(net, "Add", "add", 2, pair));
    hand_infer(net);
    v = hand_unary(net, "Relu", "relu2", v);
    hand_infer(net);
    v = trained_point(&t, v, MQB_ROLE_ACTIVATION, 1, 0.06f, 8, 0, 255);
    v = hand_unary(net, "GlobalAveragePool", "pool", v);
    hand_infer(net);
    v = hand_unary(net, "Flatten", "flatten", v);
    hand_infer(net);
    int64_t dims[2] = {10, 8}, size = 10;
    mqb_value_id w = random_param(net, "fc.weight", 2, dims, -0.5f, 0.5f, MQB_VALUE_PARAM);
    mqb_value_id inputs[3] = {v, trained_point(&t, w, MQB_ROLE_WEIGHT, 1, 0.004f, 127, 0, 255),
                              random_param(net, "fc.bias", 1, &size, -0.5f, 0.5f, MQB_VALUE_PARAM)};
    hand_node(net, "Gemm", "fc", 3, inputs);
    hand_infer(net);

    struct mqb_deploy *deploy;
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F64, MQB_ROUND_RHA);
    rules.contract.add_rule = MQB_ADD_RESCALE_SUM;
    HAND_OK(mqb_deploy_create(net->graph, &t.set, &deploy, &net->error));
    struct hand_net view = {.graph = deploy->graph, .deploy = *deploy};
    float images[4 * 126], logits[4 * 10];
    for (int i = 0; i < 4 * 126; i++)
        images[i] = hand_uniform(net) * 4 - 2;
    for (int p = 0; p < 2; p++) {
        struct mqb_program *program;
        HAND_OK(mqb_program_create(deploy, &rules, p ? &naive_integers : NULL, &program, &net->error));
        assert_int_equal(mqb_program_num_tensors(program), 6); /* input, conv1, conv2, add, pool, flatten */
        HAND_OK(mqb_program_run(program, NULL, images, 4, logits, NULL, &net->error));
        for (int i = 0; i < 4; i++) {
            struct naive_run run;
            naive_execute(&run, &view, &rules.contract, images + i * 126);
            assert_memory_equal(logits + i * 10, run.logits, 10 * sizeof(float));
            naive_free(&run);
        }
        mqb_program_destroy(program);
    }
    mqb_deploy_destroy(deploy);
    trained_destroy(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deploy_folded_layer_becomes_grid_and_bias),
        cmocka_unit_test(test_deploy_zero_gamma_gives_beta),
        cmocka_unit_test(test_deploy_kept_normalization_scales_channels),
        cmocka_unit_test(test_deploy_kept_normalization_refuses_one_scale),
        cmocka_unit_test(test_deploy_negative_gamma_with_lowest_code_refused),
        cmocka_unit_test(test_deploy_normalization_elsewhere_stays_in_float),
        cmocka_unit_test(test_deploy_quantizer_that_cannot_is_named),
        cmocka_unit_test(test_deploy_foreign_divisor_refused),
        cmocka_unit_test(test_deploy_two_points_on_a_tensor_must_agree),
        cmocka_unit_test(test_deploy_points_of_single_readers_stay_private),
        cmocka_unit_test(test_deploy_dead_channel_takes_a_usable_scale),
        cmocka_unit_test(test_deploy_shared_weight_keeps_the_original),
        cmocka_unit_test(test_deploy_and_lower_run_a_trained_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
