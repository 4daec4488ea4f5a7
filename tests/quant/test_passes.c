/*
 * test_passes.c - batch norm folding and the placement of graph 3, on networks put together by hand.
 */
#include "quant/quant.h"

#include "exec/exec.h"
#include "graph/op.h"

#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/naive_compute.h"

static const struct mqb_pass *bn_fold, *place_graph3;
static void *libraries[2];

static const struct mqb_pass *load(const char *path, void **library)
{
    *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct mqb_plugin_entry *entry = *library ? dlsym(*library, MQB_PLUGIN_SYMBOL) : NULL;
    return entry ? entry->components[0].vtable : NULL;
}

static int setup(void **state)
{
    (void)state;
    bn_fold = load(MQB_PLUGIN_DIR "/pass_bn_fold.so", &libraries[0]);
    place_graph3 = load(MQB_PLUGIN_DIR "/pass_place_graph3.so", &libraries[1]);
    return bn_fold && place_graph3 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return dlclose(libraries[0]) | dlclose(libraries[1]);
}

/* ---- a network by hand ---- */

struct net {
    struct mqb_graph *graph;
    uint64_t stream;
};

static const struct mqb_graph_api *const api = &mqb_graph_calls;

static struct net net_create(int64_t channels, int64_t size, mqb_value_id *input)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct net net = {NULL, 0};
    const int64_t dims[] = {MQB_BATCH, channels, size, size};
    assert_int_equal(mqb_graph_create(&mqb_ops, &net.graph, &error), MQB_OK);
    assert_int_equal(mqb_graph_add_input(net.graph, "x", 4, dims, input, &error), MQB_OK);
    return net;
}

static void net_finish(struct net *net, mqb_value_id output)
{
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(mqb_graph_set_output(net->graph, output, &error), MQB_OK);
    if (mqb_graph_infer(net->graph, &error) != MQB_OK)
        fail_msg("%s", error.text);
}

/* Numbers of mean `mean` and deviation `deviation`. */
static mqb_value_id numbers(struct net *net, int kind, const char *name, int32_t rank, const int64_t *dims, double mean,
                            double deviation)
{
    struct mqb_error error = MQB_ERROR_INIT;
    mqb_value_id value;
    int64_t size = 1;
    for (int32_t i = 0; i < rank; i++)
        size *= dims[i];
    float *data = malloc((size_t)size * sizeof(float));
    for (int64_t i = 0; i < size; i++)
        data[i] = (float)(mean + deviation * mqb_normal(11, net->stream, (uint64_t)i));
    net->stream++;
    assert_int_equal(api->add_value(net->graph, kind, name, rank, dims, data, &value, &error), MQB_OK);
    free(data);
    return value;
}

static mqb_value_id node(struct net *net, const char *op, const mqb_value_id *inputs, int32_t num_inputs, mqb_node_id *id)
{
    struct mqb_error error = MQB_ERROR_INIT;
    mqb_node_id made;
    if (api->add_node(net->graph, op, op, inputs, num_inputs, &made, &error) != MQB_OK)
        fail_msg("%s", error.text);
    if (id)
        *id = made;
    return api->output(net->graph, made);
}

static mqb_value_id unary(struct net *net, const char *op, mqb_value_id x)
{
    return node(net, op, &x, 1, NULL);
}

static mqb_value_id binary(struct net *net, const char *op, mqb_value_id a, mqb_value_id b)
{
    const mqb_value_id inputs[] = {a, b};
    return node(net, op, inputs, 2, NULL);
}

static mqb_value_id conv(struct net *net, mqb_value_id x, int64_t in, int64_t out, int64_t kernel, int64_t stride, bool bias)
{
    struct mqb_error error = MQB_ERROR_INIT;
    const int64_t dims[] = {out, in, kernel, kernel}, strides[] = {stride, stride};
    const int64_t pads[] = {kernel / 2, kernel / 2, kernel / 2, kernel / 2};
    mqb_value_id inputs[3] = {x, numbers(net, MQB_VALUE_PARAM, "weight", 4, dims, 0, 0.4), MQB_NONE};
    mqb_node_id id;
    if (bias)
        inputs[2] = numbers(net, MQB_VALUE_PARAM, "bias", 1, dims, 0.3, 0.5);
    mqb_value_id y = node(net, "Conv", inputs, bias ? 3 : 2, &id);
    assert_int_equal(mqb_node_set_list(net->graph, id, "strides", strides, 2, &error), MQB_OK);
    assert_int_equal(mqb_node_set_list(net->graph, id, "pads", pads, 4, &error), MQB_OK);
    return y;
}

static mqb_value_id batch_norm(struct net *net, mqb_value_id x, int64_t channels)
{
    struct mqb_error error = MQB_ERROR_INIT;
    const mqb_value_id inputs[] = {
        x,
        numbers(net, MQB_VALUE_PARAM, "gamma", 1, &channels, 1.0, 0.2),
        numbers(net, MQB_VALUE_PARAM, "beta", 1, &channels, 0.0, 0.3),
        numbers(net, MQB_VALUE_STATE, "mean", 1, &channels, 0.1, 0.3),
        numbers(net, MQB_VALUE_STATE, "var", 1, &channels, 2.0, 0.2),
    };
    mqb_node_id id;
    mqb_value_id y = node(net, "BatchNormalization", inputs, 5, &id);
    assert_int_equal(api->set_attr_real(net->graph, id, "epsilon", 1e-3, &error), MQB_OK);
    return y;
}

static mqb_value_id conv_bn(struct net *net, mqb_value_id x, int64_t in, int64_t out, int64_t kernel, int64_t stride)
{
    return batch_norm(net, conv(net, x, in, out, kernel, stride, false), out);
}

static mqb_value_id linear(struct net *net, mqb_value_id x, int64_t in, int64_t out)
{
    const int64_t dims[] = {out, in};
    const mqb_value_id inputs[] = {x, numbers(net, MQB_VALUE_PARAM, "fc.weight", 2, dims, 0, 0.4),
                                   numbers(net, MQB_VALUE_PARAM, "fc.bias", 1, dims, 0, 0.4)};
    return node(net, "Gemm", inputs, 3, NULL);
}

static mqb_value_id max_pool(struct net *net, mqb_value_id x)
{
    struct mqb_error error = MQB_ERROR_INIT;
    mqb_node_id id;
    mqb_value_id y = node(net, "MaxPool", &x, 1, &id);
    const int64_t kernel[] = {3, 3}, strides[] = {2, 2}, pads[] = {1, 1, 1, 1};
    assert_int_equal(mqb_node_set_list(net->graph, id, "kernel_shape", kernel, 2, &error), MQB_OK);
    assert_int_equal(mqb_node_set_list(net->graph, id, "strides", strides, 2, &error), MQB_OK);
    assert_int_equal(mqb_node_set_list(net->graph, id, "pads", pads, 4, &error), MQB_OK);
    return y;
}

static mqb_value_id clip6(struct net *net, mqb_value_id x)
{
    struct mqb_error error = MQB_ERROR_INIT;
    mqb_node_id id;
    mqb_value_id y = node(net, "Clip", &x, 1, &id);
    assert_int_equal(api->set_attr_real(net->graph, id, "min", 0, &error), MQB_OK);
    assert_int_equal(api->set_attr_real(net->graph, id, "max", 6, &error), MQB_OK);
    return y;
}

/* The shape of torchvision's ResNet-18, eight times narrower. */
static struct net resnet18(void)
{
    mqb_value_id x;
    struct net net = net_create(3, 32, &x);
    x = max_pool(&net, unary(&net, "Relu", conv_bn(&net, x, 3, 8, 7, 2)));
    int64_t in = 8;
    for (int stage = 0; stage < 4; stage++) {
        int64_t out = 8 << stage;
        for (int block = 0; block < 2; block++) {
            int64_t stride = stage > 0 && block == 0 ? 2 : 1;
            mqb_value_id y = unary(&net, "Relu", conv_bn(&net, x, in, out, 3, stride));
            y = conv_bn(&net, y, out, out, 3, 1);
            mqb_value_id shortcut = in != out ? conv_bn(&net, x, in, out, 1, stride) : x;
            x = unary(&net, "Relu", binary(&net, "Add", y, shortcut));
            in = out;
        }
    }
    x = linear(&net, unary(&net, "Flatten", unary(&net, "GlobalAveragePool", x)), in, 10);
    net_finish(&net, x);
    return net;
}

/* ---- running a pass ---- */

static mqb_status run_pass(const struct mqb_pass *pass, struct mqb_graph *graph, const char *strategy, int32_t *num_edits,
                           struct mqb_error *error)
{
    struct mqb_options *options;
    assert_int_equal(mqb_options_create(pass->options, pass->num_options, &options, error), MQB_OK);
    if (strategy)
        assert_int_equal(mqb_options_set(options, "strategy", strategy, "test", error), MQB_OK);
    mqb_status status = pass->run(mqb_host_table(), graph, options, num_edits, error);
    mqb_options_destroy(options);
    if (status == MQB_OK) {
        status = mqb_graph_infer(graph, error);
        mqb_graph_sweep(graph);
    }
    return status;
}

static int32_t apply(const struct mqb_pass *pass, struct mqb_graph *graph, const char *strategy)
{
    struct mqb_error error = MQB_ERROR_INIT;
    int32_t num_edits = -1;
    if (run_pass(pass, graph, strategy, &num_edits, &error) != MQB_OK)
        fail_msg("%s", error.text);
    return num_edits;
}

static int count_ops(const struct mqb_graph *graph, const char *op)
{
    int count = 0;
    for (int32_t i = 0; i < api->num_nodes(graph); i++)
        count += strcmp(api->node_op(graph, api->node_at(graph, i)), op) == 0;
    return count;
}

/* Points of a role; of those marked io alone if io. */
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

/* Logits (and the gradient of the first PARAM called `name`) for a fixed batch. */
enum { BATCH = 6 };

static void evaluate(struct mqb_graph *graph, bool training, const char *name, float *logits, int num_classes, float *gradient)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_pool *pool;
    struct mqb_exec *exec;
    struct mqb_value *input = &graph->values[graph->input];
    int64_t size = mqb_value_size(input) * BATCH;
    float *x = malloc((size_t)size * sizeof(float)), *dy = malloc(sizeof(float) * BATCH * (size_t)num_classes);
    for (int64_t i = 0; i < size; i++)
        x[i] = (float)mqb_normal(5, 1, (uint64_t)i);
    for (int i = 0; i < BATCH * num_classes; i++)
        dy[i] = (float)mqb_normal(5, 2, (uint64_t)i);
    assert_int_equal(mqb_pool_create(1, &pool, &error), MQB_OK);
    struct mqb_exec_config config = {.graph = graph,
                                     .compute = &naive_compute,
                                     .host = mqb_host_table(),
                                     .pool = pool,
                                     .batch = BATCH,
                                     .training = training,
                                     .gradients = gradient != NULL};
    if (mqb_exec_create(&config, &exec, &error) != MQB_OK || mqb_exec_forward(exec, x, BATCH, &error) != MQB_OK)
        fail_msg("%s", error.text);
    memcpy(logits, mqb_exec_value(exec, graph->output), sizeof(float) * BATCH * (size_t)num_classes);
    if (gradient) {
        mqb_exec_set_output_gradient(exec, dy);
        if (mqb_exec_backward(exec, &error) != MQB_OK)
            fail_msg("%s", error.text);
        mqb_value_id value = mqb_graph_find_value(graph, name);
        memcpy(gradient, mqb_exec_gradient(exec, value), (size_t)mqb_value_size(&graph->values[value]) * sizeof(float));
    }
    mqb_exec_destroy(exec);
    mqb_pool_destroy(pool);
    free(x);
    free(dy);
}

static void assert_near(const float *a, const float *b, int n, double tolerance)
{
    double max = 0;
    for (int i = 0; i < n; i++)
        max = fmax(max, fabs((double)b[i]));
    for (int i = 0; i < n; i++) {
        if (!(fabs((double)a[i] - (double)b[i]) <= tolerance * max))
            fail_msg("[%d]: %.9g against %.9g", i, (double)a[i], (double)b[i]);
    }
}

/* Convolutions with and without a bias, a convolution read twice, a linear layer. */
static struct net small_net(void)
{
    mqb_value_id x;
    struct net net = net_create(2, 5, &x);
    x = unary(&net, "Relu", batch_norm(&net, conv(&net, x, 2, 4, 3, 1, true), 4));
    mqb_value_id y = conv(&net, x, 4, 4, 3, 1, true);
    mqb_value_id kept = batch_norm(&net, y, 4);
    x = unary(&net, "Relu", binary(&net, "Add", kept, y));
    x = batch_norm(&net, conv(&net, x, 4, 3, 1, 2, false), 3);
    net_finish(&net, unary(&net, "Flatten", unary(&net, "GlobalAveragePool", x)));
    return net;
}

/* ---- bn_fold ---- */

static void test_bn_fold_strategies_leave_function_unchanged(void **state)
{
    (void)state;
    static const char *const strategies[] = {"-1", "0", "4", "2", "3"};
    static const int norms[] = {3, 1, 3, 1, 3}, scales[] = {0, 0, 2, 2, 3}; /* 3 scales the one bias, too */
    float expected[BATCH * 3], expected_gradient[16], got[BATCH * 3], gradient[16];
    for (int training = 0; training < 2; training++) {
        struct net net = small_net();
        float before[3];
        evaluate(net.graph, training, "gamma", expected, 3, training ? expected_gradient : NULL);
        mqb_value_id last_mean = mqb_graph_find_value(net.graph, "mean_2");
        memcpy(before, net.graph->values[last_mean].data, sizeof(before));
        mqb_graph_destroy(net.graph);
        for (size_t i = 0; i < 5; i++) {
            if (training && i == 1)
                continue; /* merged statistics do not train */
            net = small_net();
            int32_t num_edits = apply(bn_fold, net.graph, strategies[i]);
            assert_int_equal(num_edits, i == 0 ? 0 : 2);
            assert_int_equal(count_ops(net.graph, "BatchNormalization"), norms[i]);
            assert_int_equal(count_ops(net.graph, "ScaleChannels"), scales[i]);
            evaluate(net.graph, training, "gamma", got, 3, training ? gradient : NULL);
            assert_near(got, expected, BATCH * 3, 2e-6);
            if (training) {
                assert_near(gradient, expected_gradient, 4, 2e-5);
                float *after = net.graph->values[mqb_graph_find_value(net.graph, "mean_2")].data;
                assert_near(after, before, 3, 2e-6); /* running statistics moved alike */
            }
            mqb_graph_destroy(net.graph);
        }
    }
}

/* With fixed statistics the folded layer is the same function of gamma and beta too: the gradients through both are equal. */
static void test_bn_fold_frozen_has_the_gradients_of_fixed_statistics(void **state)
{
    (void)state;
    static const char *const names[] = {"gamma", "beta", "weight"};
    float expected[BATCH * 3], got[BATCH * 3], expected_gradient[256], gradient[256];
    for (size_t i = 0; i < 3; i++) {
        struct net net = small_net();
        mqb_value_id value = mqb_graph_find_value(net.graph, names[i]);
        int size = (int)mqb_value_size(&net.graph->values[value]);
        assert_true(size <= 256);
        evaluate(net.graph, false, names[i], expected, 3, expected_gradient);
        assert_int_equal(apply(bn_fold, net.graph, "1"), 2);
        assert_int_equal(apply(bn_fold, net.graph, "1"), 0);
        assert_int_equal(count_ops(net.graph, "FoldedBias"), 2);
        for (int training = 0; training < 2; training++) { /* nothing of it depends on the batch */
            if (training && count_ops(net.graph, "BatchNormalization") > 0)
                break; /* the one that stands behind no layer does */
            evaluate(net.graph, training, names[i], got, 3, gradient);
            assert_near(got, expected, BATCH * 3, 2e-6);
            assert_near(gradient, expected_gradient, size, 2e-5);
        }
        mqb_graph_destroy(net.graph);
    }
}

static void test_bn_fold_merge_is_the_closed_form(void **state)
{
    (void)state;
    mqb_value_id x;
    struct net net = net_create(2, 3, &x);
    net_finish(&net, batch_norm(&net, conv(&net, x, 2, 3, 1, 1, true), 3));
    struct mqb_graph *graph = net.graph, *original;
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(mqb_graph_clone(graph, &original, &error), MQB_OK);
    assert_int_equal(apply(bn_fold, graph, "0"), 1);
    assert_int_equal(api->num_nodes(graph), 1);
    mqb_node_id layer = api->node_at(graph, 0);
    assert_int_equal(graph->output, api->output(graph, layer));
    const float *w = api->value_data(graph, api->input(graph, layer, 1)),
                *b = api->value_data(graph, api->input(graph, layer, 2));
    assert_int_equal(api->value_kind(graph, api->input(graph, layer, 2)), MQB_VALUE_PARAM);
    const char *const names[] = {"weight", "bias", "gamma", "beta", "mean", "var"};
    const float *p[6];
    for (int i = 0; i < 6; i++)
        p[i] = original->values[mqb_graph_find_value(original, names[i])].data;
    for (int c = 0; c < 3; c++) {
        double sf = (double)p[2][c] / sqrt((double)p[5][c] + 1e-3);
        assert_true(fabs((double)b[c] - ((double)p[3][c] + ((double)p[1][c] - (double)p[4][c]) * sf)) < 1e-6);
        for (int i = 2 * c; i < 2 * c + 2; i++)
            assert_true(fabs((double)w[i] - (double)p[0][i] * sf) < 1e-6);
    }
    mqb_graph_destroy(graph);
    mqb_graph_destroy(original);
}

static void test_bn_fold_second_run_makes_no_edits(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct net net = resnet18();
        assert_int_equal(apply(bn_fold, net.graph, i ? "4" : "0"), 20);
        assert_int_equal(apply(bn_fold, net.graph, i ? "4" : "0"), 0);
        assert_int_equal(count_ops(net.graph, "BatchNormalization"), i ? 20 : 0);
        mqb_graph_destroy(net.graph);
    }
}

static void test_bn_fold_shared_weight_is_copied_before_merging(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    mqb_value_id x;
    struct net net = net_create(2, 3, &x);
    mqb_value_id first = batch_norm(&net, conv(&net, x, 2, 2, 1, 1, false), 2), second = conv(&net, first, 2, 2, 1, 1, false);
    mqb_node_id user = api->producer(net.graph, second);
    mqb_value_id weight = mqb_graph_find_value(net.graph, "weight");
    assert_int_equal(api->set_input(net.graph, user, 1, weight, &error), MQB_OK);
    net_finish(&net, second);
    float before[4];
    memcpy(before, api->value_data(net.graph, weight), sizeof(before));
    assert_int_equal(apply(bn_fold, net.graph, "0"), 1);
    assert_memory_equal(api->value_data(net.graph, api->input(net.graph, user, 1)), before, sizeof(before));
    mqb_graph_destroy(net.graph);
}

static void test_bn_fold_bad_statistics_are_refused(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    struct net net = small_net();
    int32_t num_edits;
    net.graph->values[mqb_graph_find_value(net.graph, "var")].data[1] = -1.0f;
    assert_int_equal(run_pass(bn_fold, net.graph, "0", &num_edits, &error), MQB_ERR_NUMERIC);
    assert_non_null(strstr(error.text, "channel 1"));
    mqb_graph_destroy(net.graph);
}

/* ---- place_graph3 ---- */

static void test_place_resnet18_has_29_and_21_points(void **state)
{
    (void)state;
    static const char *const strategies[] = {"-1", "0", "4", "2", "3"};
    for (size_t i = 0; i < 5; i++) {
        struct net net = resnet18();
        apply(bn_fold, net.graph, strategies[i]);
        apply(place_graph3, net.graph, NULL);
        assert_int_equal(count_points(net.graph, MQB_ROLE_ACTIVATION, false), 29);
        assert_int_equal(count_points(net.graph, MQB_ROLE_WEIGHT, false), 21);
        assert_int_equal(count_points(net.graph, MQB_ROLE_ACTIVATION, true), 2); /* input, and the last block's output */
        assert_int_equal(count_points(net.graph, MQB_ROLE_WEIGHT, true), 2);     /* stem and linear layer */
        assert_string_equal(api->node_op(net.graph, api->producer(net.graph, net.graph->output)), "Gemm");
        assert_int_equal(apply(place_graph3, net.graph, NULL), 0);
        mqb_graph_destroy(net.graph);
    }
}

static void test_place_resnet20_option_a_carries_codes_through_shortcut(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph;
    assert_int_equal(mqb_model_build("resnet20", &mqb_ops, 3, 32, 32, 10, 1, &graph, &error), MQB_OK);
    apply(bn_fold, graph, "4");
    apply(place_graph3, graph, NULL);
    assert_int_equal(count_points(graph, MQB_ROLE_ACTIVATION, false), 1 + 1 + 9 * 3);
    assert_int_equal(count_points(graph, MQB_ROLE_WEIGHT, false), 20);
    for (int32_t i = 0; i < api->num_nodes(graph); i++) {
        mqb_node_id id = api->node_at(graph, i);
        if (strcmp(api->node_op(graph, id), "FakeQuantize") != 0)
            continue;
        assert_true(strlen(api->attr_text(graph, id, "rule", "")) > 0);
        mqb_node_id source = api->producer(graph, api->input(graph, id, 0));
        if (source != MQB_NONE) {
            assert_string_not_equal(api->node_op(graph, source), "Slice");
            assert_string_not_equal(api->node_op(graph, source), "Pad");
            assert_string_not_equal(api->node_op(graph, source), "GlobalAveragePool");
        }
    }
    mqb_graph_destroy(graph);
}

/* The operator before the one point that reads a tensor, by the tensor's producer; -1 if no point reads it. */
static bool has_point_after(const struct mqb_graph *graph, mqb_value_id value)
{
    for (int32_t i = 0; i < api->num_consumers(graph, value); i++) {
        if (strcmp(api->node_op(graph, api->consumer(graph, value, i)), "FakeQuantize") == 0)
            return true;
    }
    return false;
}

static void test_place_fuses_clamps_and_knows_each_operator(void **state)
{
    (void)state;
    mqb_value_id x;
    struct net net = net_create(3, 8, &x);
    mqb_value_id c1 = conv_bn(&net, x, 3, 4, 3, 1), r1 = clip6(&net, c1);                  /* fused */
    mqb_value_id c2 = conv(&net, r1, 4, 4, 3, 1, true), h2 = unary(&net, "HardSwish", c2); /* two points */
    mqb_value_id gate = unary(&net, "Sigmoid", h2), m = binary(&net, "Mul", h2, gate);
    mqb_value_id cat = binary(&net, "Concat", m, r1);
    mqb_node_id cat_node = api->producer(net.graph, cat);
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(api->set_attr_int(net.graph, cat_node, "axis", 1, &error), MQB_OK);
    mqb_value_id lone = batch_norm(&net, cat, 8), lone_relu = unary(&net, "Relu", lone);
    mqb_value_id pool = max_pool(&net, lone_relu), pool_relu = unary(&net, "Relu", pool);
    mqb_value_id c3 = conv(&net, pool_relu, 8, 8, 1, 1, true), r3 = unary(&net, "Relu", c3);
    mqb_value_id sum = binary(&net, "Add", r3, c3); /* c3 is read twice: no fusing */
    mqb_value_id mean = unary(&net, "GlobalAveragePool", sum), flat = unary(&net, "Flatten", mean);
    mqb_value_id fc = linear(&net, flat, 8, 5);
    net_finish(&net, fc);
    apply(place_graph3, net.graph, NULL);
    const mqb_value_id with[] = {x, r1, c2, h2, gate, m, cat, lone_relu, c3, sum};
    const mqb_value_id without[] = {c1, lone, pool, pool_relu, r3, mean, flat, fc};
    for (size_t i = 0; i < sizeof(with) / sizeof(with[0]); i++)
        assert_true(has_point_after(net.graph, with[i]));
    for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++)
        assert_false(has_point_after(net.graph, without[i]));
    assert_int_equal(count_points(net.graph, MQB_ROLE_ACTIVATION, false), 10);
    assert_int_equal(count_points(net.graph, MQB_ROLE_WEIGHT, false), 4);
    /* One point a tensor: every other reader of it reads the point. */
    for (size_t i = 0; i < sizeof(with) / sizeof(with[0]); i++)
        assert_int_equal(api->num_consumers(net.graph, with[i]), 1);
    mqb_graph_destroy(net.graph);
}

static void test_place_output_through_flatten_gets_no_point(void **state)
{
    (void)state;
    mqb_value_id x;
    struct net net = net_create(3, 1, &x);
    net_finish(&net, unary(&net, "Flatten", conv(&net, x, 3, 4, 1, 1, true)));
    assert_int_equal(apply(place_graph3, net.graph, NULL), 4); /* input, weight, and both marked io */
    assert_int_equal(count_points(net.graph, MQB_ROLE_ACTIVATION, false), 1);
    assert_int_equal(count_points(net.graph, MQB_ROLE_ACTIVATION, true), 1);
    assert_int_equal(count_points(net.graph, MQB_ROLE_WEIGHT, true), 1);
    mqb_graph_destroy(net.graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bn_fold_strategies_leave_function_unchanged),
        cmocka_unit_test(test_bn_fold_frozen_has_the_gradients_of_fixed_statistics),
        cmocka_unit_test(test_bn_fold_merge_is_the_closed_form),
        cmocka_unit_test(test_bn_fold_second_run_makes_no_edits),
        cmocka_unit_test(test_bn_fold_shared_weight_is_copied_before_merging),
        cmocka_unit_test(test_bn_fold_bad_statistics_are_refused),
        cmocka_unit_test(test_place_resnet18_has_29_and_21_points),
        cmocka_unit_test(test_place_resnet20_option_a_carries_codes_through_shortcut),
        cmocka_unit_test(test_place_fuses_clamps_and_knows_each_operator),
        cmocka_unit_test(test_place_output_through_flatten_gets_no_point),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
