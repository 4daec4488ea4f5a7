/*
 * test_fold_strategies.c - what the folding strategies promise of each other, on a whole network: one function while nothing is
 * quantized, one function in evaluation, statistics that move or stay; the same bits on any number of threads; a deployment
 * that is the evaluation; and what the operators behind strategies 2 and 3 refuse.
 */
#include "train/fold_unit.h"

#include "exec/plan.h"

#define BATCH 8
#define SIDE 16
#define PIXELS (SIDE * SIDE * 3)
#define CLASSES 10
#define LAYERS 19 /* with a batch norm behind */
#define MAX_VALUES 512

struct net {
    struct mqb_graph *graph;
    struct mqb_points *points;
    struct mqb_pool *pool;
    struct mqb_options *options;
    mqb_value_id states[MAX_VALUES]; /* running means and variances */
    int num_states;
    float x[BATCH * PIXELS], logits[BATCH * CLASSES];
};

static const char *const shared_strategies[] = {"2", "3", "4"};

static struct net *net_create(const char *strategy, const char *compat)
{
    struct net *net = calloc(1, sizeof *net);
    int32_t edits;
    OK(mqb_model_build("resnet20", &mqb_ops, 3, SIDE, SIDE, CLASSES, 1, &net->graph, &err));
    OK(mqb_pool_create(2, &net->pool, &err));
    for (int i = 0; i < BATCH * PIXELS; i++)
        net->x[i] = (float)mqb_normal(5, 0, (uint64_t)i);
    const struct mqb_graph *graph = net->graph;
    for (int i = 0; i < graph->num_ordered; i++) {
        const struct mqb_node *node = &graph->nodes[graph->order[i]];
        if (strcmp(node->op->name, "BatchNormalization") != 0)
            continue;
        fold_fill(graph, node->inputs[1], 100 + (uint64_t)i, 1, 0.2);
        fold_fill(graph, node->inputs[2], 200 + (uint64_t)i, 0, 0.2);
        fold_fill(graph, node->inputs[3], 300 + (uint64_t)i, 0, 0.2);
        fold_fill(graph, node->inputs[4], 400 + (uint64_t)i, 2, 0.2);
        net->states[net->num_states++] = node->inputs[3];
        net->states[net->num_states++] = node->inputs[4];
    }
    OK(fold_pass(net->graph, strategy, compat, &edits));
    assert_int_equal(edits, strcmp(strategy, "-1") == 0 ? 0 : LAYERS);
    OK(fold_pass(net->graph, strategy, compat, &edits));
    assert_int_equal(edits, 0);
    mqb_graph_sweep(net->graph);
    return net;
}

static void net_destroy(struct net *net)
{
    mqb_points_destroy(net->points);
    mqb_graph_destroy(net->graph);
    mqb_pool_destroy(net->pool);
    mqb_options_destroy(net->options);
    free(net);
}

/* A step without the update; gradients stay in the plan. */
static struct mqb_exec *step(struct net *net, bool training)
{
    struct mqb_exec *exec = fold_plan(net->graph, BATCH, training, net->pool);
    OK(mqb_exec_forward(exec, net->x, BATCH, &err));
    memcpy(net->logits, mqb_exec_value(exec, net->graph->output), sizeof net->logits);
    if (training) {
        float g[BATCH * CLASSES];
        for (int i = 0; i < BATCH * CLASSES; i++)
            g[i] = (float)mqb_normal(6, 0, (uint64_t)i);
        mqb_exec_set_output_gradient(exec, g);
        OK(mqb_exec_backward(exec, &err));
    }
    return exec;
}

static void evaluate(struct net *net)
{
    mqb_exec_destroy(step(net, false));
}

static void update(struct net *net, struct mqb_exec *exec, float lr)
{
    for (int i = 0; i < net->graph->num_values; i++) {
        const struct mqb_value *value = &net->graph->values[i];
        const float *gradient = value->dead || value->kind != MQB_VALUE_PARAM ? NULL : mqb_exec_gradient(exec, i);
        for (int64_t k = 0; gradient != NULL && k < mqb_value_size(value); k++)
            value->data[k] -= lr * gradient[k];
    }
}

/* Of every parameter, found by its name; how many there are. */
static int compare_gradients(const struct net *a, struct mqb_exec *exec_a, const struct net *b, struct mqb_exec *exec_b,
                             const char *test, double tolerance)
{
    int count = 0;
    for (int i = 0; i < a->graph->num_values; i++) {
        const struct mqb_value *value = &a->graph->values[i];
        if (value->dead || value->kind != MQB_VALUE_PARAM)
            continue;
        const float *want = mqb_exec_gradient(exec_a, i),
                    *got = mqb_exec_gradient(exec_b, mqb_graph_find_value(b->graph, value->name));
        assert_true(want != NULL && got != NULL);
        fold_near(test, value->name, got, want, mqb_value_size(value), tolerance, 0);
        count++;
    }
    return count;
}

/* ---- the properties of section 4.3 ---- */

static void test_fold_unquantized_training_is_batch_norm(void **state)
{
    (void)state;
    struct net *norm = net_create("-1", "off");
    struct mqb_exec *exec = step(norm, true);
    for (size_t i = 0; i < 3; i++) {
        struct net *net = net_create(shared_strategies[i], "off");
        struct mqb_exec *own = step(net, true);
        fold_near(shared_strategies[i], "logits", net->logits, norm->logits, BATCH * CLASSES, 2e-5, 0);
        /* 19 convolutions, each with the error of float sums of up to 576 products */
        assert_int_equal(compare_gradients(norm, exec, net, own, shared_strategies[i], 2e-4), LAYERS * 3 + 2);
        for (int s = 0; s < norm->num_states; s++) {
            const struct mqb_value *want = &norm->graph->values[norm->states[s]];
            fold_near(shared_strategies[i], want->name, net->graph->values[net->states[s]].data, want->data,
                      mqb_value_size(want), 2e-5, 0);
        }
        mqb_exec_destroy(own);
        net_destroy(net);
    }
    mqb_exec_destroy(exec);
    net_destroy(norm);
}

static void test_fold_evaluation_is_one_function(void **state)
{
    (void)state;
    struct net *frozen = net_create("1", "off");
    evaluate(frozen);
    for (size_t i = 0; i < 3; i++) {
        struct net *net = net_create(shared_strategies[i], "off");
        evaluate(net);
        fold_near(shared_strategies[i], "logits", net->logits, frozen->logits, BATCH * CLASSES, 2e-6, 0);
        if (i == 0) /* the same operators on the same numbers */
            assert_memory_equal(net->logits, frozen->logits, sizeof net->logits);
        net_destroy(net);
    }
    net_destroy(frozen);
}

static void test_fold_merged_and_frozen_part_after_a_step(void **state)
{
    (void)state;
    struct net *merged = net_create("0", "off"), *frozen = net_create("1", "off");
    struct mqb_exec *a = step(merged, true), *b = step(frozen, true);
    fold_near("0 and 1", "logits", frozen->logits, merged->logits, BATCH * CLASSES, 2e-6, 0);
    update(merged, a, 1e-4f);
    update(frozen, b, 1e-4f);
    evaluate(merged);
    evaluate(frozen);
    double largest = 0, apart = 0;
    for (int i = 0; i < BATCH * CLASSES; i++) {
        largest = fmax(largest, fabs((double)merged->logits[i]));
        apart = fmax(apart, fabs((double)merged->logits[i] - (double)frozen->logits[i]));
    }
    assert_true(isfinite(largest) && apart > 1e-3 * largest);
    mqb_exec_destroy(a);
    mqb_exec_destroy(b);
    net_destroy(merged);
    net_destroy(frozen);
}

static bool states_equal(const struct net *a, const struct net *b)
{
    for (int s = 0; s < a->num_states; s++) {
        const struct mqb_value *value = &a->graph->values[a->states[s]];
        if (memcmp(value->data, b->graph->values[b->states[s]].data, (size_t)mqb_value_size(value) * sizeof(float)) != 0)
            return false;
    }
    return true;
}

/* Strategy 1 leaves the running statistics alone, and so do 2 and 3 as they were published, which are strategy 1 to the bit. */
static void test_fold_frozen_statistics_stay_and_others_move(void **state)
{
    (void)state;
    static const char *const runs[][2] = {{"1", "off"}, {"2", "frozen"}, {"3", "frozen"},
                                          {"2", "off"}, {"3", "off"},    {"4", "off"}};
    struct net *before = net_create("-1", "off"), *first = NULL;
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        struct net *net = net_create(runs[i][0], runs[i][1]);
        for (int k = 0; k < 2; k++) {
            struct mqb_exec *exec = step(net, true);
            update(net, exec, 1e-4f);
            mqb_exec_destroy(exec);
        }
        assert_int_equal(states_equal(net, before), i < 3);
        if (first != NULL)
            assert_int_equal(memcmp(net->logits, first->logits, sizeof net->logits) == 0, i < 3);
        if (first == NULL)
            first = net;
        else
            net_destroy(net);
    }
    net_destroy(first);
    net_destroy(before);
}

/* ---- plans ---- */

static void test_fold_batch_statistics_cost_one_convolution_and_no_barrier(void **state)
{
    (void)state;
    static const char *const strategies[] = {"1", "4", "2", "3"};
    int steps[4][2], stages[4];
    for (int i = 0; i < 4; i++) {
        struct net *net = net_create(strategies[i], "off");
        for (int training = 0; training < 2; training++) {
            struct mqb_exec *exec = fold_plan(net->graph, BATCH, training, net->pool);
            steps[i][training] = exec->num_steps;
            stages[i] = exec->num_stages;
            mqb_exec_destroy(exec);
        }
        net_destroy(net);
    }
    for (int i = 2; i < 4; i++) { /* 2 against 1, 3 against 4 */
        assert_int_equal(steps[i][0], steps[i - 2][0]);
        assert_int_equal(steps[i][1], steps[i - 2][1] + 2 * LAYERS); /* the convolution in float, and its statistics */
        assert_int_equal(stages[i], stages[1]);
    }
}

/* ---- quantized ---- */

static void place_points(struct net *net, const char *library)
{
    const struct mqb_pass *place = component(library, MQB_PASS_INTERFACE);
    struct mqb_options *options;
    int32_t edits;
    OK(mqb_options_create(place->options, place->num_options, &options, &err));
    OK(place->run(mqb_host_table(), net->graph, options, &edits, &err));
    OK(mqb_graph_infer(net->graph, &err));
    mqb_options_destroy(options);
}

/* Wherever a pass puts points, the float layers have none of their own, and see the same images as the folded ones. */
static void test_fold_float_layer_reads_what_the_folded_one_reads(void **state)
{
    (void)state;
    static const char *const passes[] = {"pass_place_graph1", "pass_place_graph2", "pass_place_graph3"};
    for (size_t i = 0; i < 3; i++) {
        struct net *net = net_create("2", "off");
        place_points(net, passes[i]);
        const struct mqb_graph *graph = net->graph;
        int layers = 0, weights = 0;
        for (int a = 0; a < graph->num_ordered; a++) {
            const struct mqb_node *node = &graph->nodes[graph->order[a]];
            weights +=
                strcmp(node->op->name, "FakeQuantize") == 0 && mqb_attr_i(node, "role", MQB_ROLE_ACTIVATION) == MQB_ROLE_WEIGHT;
            if (strcmp(node->op->name, "FloatConv") != 0)
                continue;
            assert_int_equal(graph->values[node->inputs[1]].kind, MQB_VALUE_PARAM);
            assert_string_equal(graph->nodes[graph->values[node->inputs[0]].producer].op->name, "FakeQuantize");
            for (int b = 0; b < graph->num_ordered; b++) {
                const struct mqb_node *folded = &graph->nodes[graph->order[b]];
                layers += strcmp(folded->op->name, "Conv") == 0 && folded->inputs[0] == node->inputs[0];
            }
        }
        assert_int_equal(layers, LAYERS);
        assert_int_equal(weights, LAYERS + 1);
        net_destroy(net);
    }
}

static void add_points(struct net *net)
{
    const struct mqb_backend *backend = component("snpe_sim", MQB_BACKEND_INTERFACE);
    const struct mqb_quantizer *lsq = component("lsq", MQB_QUANTIZER_INTERFACE);
    struct mqb_backend_rules rules = {.struct_size = sizeof rules};
    struct mqb_options *options;
    place_points(net, "pass_place_graph3");
    OK(mqb_options_create(backend->options, backend->num_options, &options, &err));
    OK(backend->rules(mqb_host_table(), options, &rules, &err));
    OK(mqb_options_create(lsq->options, lsq->num_options, &net->options, &err));
    struct mqb_quantizer_choice choice = {"lsq", lsq, net->options};
    struct mqb_points_config config = {.host = mqb_host_table(),
                                       .rules = &rules,
                                       .weight = choice,
                                       .activation = choice,
                                       .weight_bits = 4,
                                       .activation_bits = 4,
                                       .io_bits = 8};
    OK(mqb_points_create(net->graph, &config, &net->points, &err));
    mqb_options_destroy(options);
    struct mqb_dataset *dataset;
    struct mqb_loader *loader;
    struct mqb_loader_config loading = {.split = MQB_SPLIT_TRAIN, .batch = BATCH, .size = SIDE};
    OK(mqb_dataset_open("synth", 2 * BATCH, BATCH, 0, &dataset, &err));
    OK(mqb_normalize_parse("unit", &loading.normalize, &err));
    OK(mqb_loader_create(dataset, &loading, &loader, &err));
    OK(mqb_calibrate(net->graph, net->points, component("native", MQB_COMPUTE_INTERFACE), net->pool, loader, BATCH, 1, NULL,
                     &err));
    mqb_loader_destroy(loader);
    mqb_dataset_close(dataset);
}

/* Two steps, and all numbers that they leave behind. */
static float *train_quantized(const char *strategy, int threads, int64_t *size)
{
    struct net *net = net_create(strategy, "off");
    float *all = NULL;
    mqb_pool_destroy(net->pool);
    OK(mqb_pool_create(threads, &net->pool, &err));
    add_points(net);
    *size = 0;
    for (int k = 0; k < 2; k++) {
        struct mqb_exec *exec = step(net, true);
        update(net, exec, 1e-3f);
        for (int i = 0; i < net->graph->num_values; i++) {
            const struct mqb_value *value = &net->graph->values[i];
            const float *parts[2] = {value->dead ? NULL : value->data, value->dead ? NULL : mqb_exec_gradient(exec, i)};
            for (int p = 0; p < 2; p++) {
                if (parts[p] == NULL)
                    continue;
                all = realloc(all, (size_t)(*size + mqb_value_size(value)) * sizeof *all);
                memcpy(all + *size, parts[p], (size_t)mqb_value_size(value) * sizeof *all);
                *size += mqb_value_size(value);
            }
        }
        mqb_exec_destroy(exec);
    }
    net_destroy(net);
    return all;
}

static void test_fold_batch_same_bits_on_any_number_of_threads(void **state)
{
    (void)state;
    static const int threads[] = {2, 3, 5};
    for (int i = 0; i < 2; i++) {
        int64_t size, own_size;
        float *one = train_quantized(shared_strategies[i], 1, &size);
        for (size_t t = 0; t < 3; t++) {
            float *own = train_quantized(shared_strategies[i], threads[t], &own_size);
            assert_int_equal(own_size, size);
            assert_memory_equal(own, one, (size_t)size * sizeof *one);
            free(own);
        }
        free(one);
    }
}

/* Trained, with weights quantized and activations not: the deployment in float. And its program has no operator of the fold. */
static void test_fold_batch_deployment_is_the_evaluation(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct net *net = net_create(shared_strategies[i], "off");
        add_points(net);
        for (int k = 0; k < 2; k++) {
            struct mqb_exec *exec = step(net, true);
            update(net, exec, 1e-3f);
            mqb_exec_destroy(exec);
        }
        for (int p = 0; p < net->points->num_points; p++)
            if (net->points->points[p]->scheme.role == MQB_ROLE_ACTIVATION)
                net->points->points[p]->mode = MQB_POINT_OFF;
        evaluate(net);
        struct mqb_deploy *deploy;
        OK(mqb_deploy_create(net->graph, net->points, &deploy, &err));
        int layers = 0;
        for (int k = 0; k < deploy->graph->num_ordered; k++) {
            const char *op = deploy->graph->nodes[deploy->graph->order[k]].op->name;
            assert_true(strcmp(op, "Conv") == 0 || strcmp(op, "Gemm") == 0 || strcmp(op, "Relu") == 0 ||
                        strcmp(op, "Add") == 0 || strcmp(op, "GlobalAveragePool") == 0 || strcmp(op, "Flatten") == 0 ||
                        strcmp(op, "Slice") == 0 || strcmp(op, "Pad") == 0);
            layers += strcmp(op, "Conv") == 0;
        }
        assert_int_equal(layers, LAYERS);
        struct mqb_exec *exec = fold_plan(deploy->graph, BATCH, false, net->pool);
        OK(mqb_exec_forward(exec, net->x, BATCH, &err));
        fold_near(shared_strategies[i], "deployed logits", mqb_exec_value(exec, deploy->graph->output), net->logits,
                  BATCH * CLASSES, 5e-6, 0);
        mqb_exec_destroy(exec);
        mqb_deploy_destroy(deploy);
        net_destroy(net);
    }
}

/* ---- refusals ---- */

static void test_fold_batch_of_one_element_is_refused(void **state)
{
    (void)state;
    static const struct fold_shape shape = {.n = 1, .c = 2, .h = 1, .k = 2, .r = 1, .groups = 1, .stride = 1};
    struct fold_unit u;
    struct mqb_pool *pool;
    float x[2] = {1, 2};
    OK(mqb_pool_create(1, &pool, &err));
    fold_unit_create(&u, &shape, "2", "off", NULL);
    struct mqb_exec *exec = fold_plan(u.graph, 1, true, pool);
    assert_int_equal(mqb_exec_forward(exec, x, 1, &err), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(err.text, "one element a channel"));
    mqb_exec_destroy(exec);
    fold_unit_destroy(&u);
    mqb_pool_destroy(pool);
}

static void test_fold_batch_divergence_leaves_running_statistics(void **state)
{
    (void)state;
    static const struct fold_shape shape = {.n = 2, .c = 2, .h = 2, .k = 2, .r = 1, .groups = 1, .stride = 1};
    for (int i = 0; i < 2; i++) {
        struct fold_unit u;
        struct mqb_pool *pool;
        float x[16] = {1, 2, 3, 4, 5, NAN};
        OK(mqb_pool_create(1, &pool, &err));
        fold_unit_create(&u, &shape, shared_strategies[i], "off", NULL);
        struct mqb_exec *exec = fold_plan(u.graph, 2, true, pool);
        assert_int_equal(mqb_exec_forward(exec, x, 2, &err), MQB_ERR_NUMERIC);
        assert_non_null(strstr(err.text, "training diverged"));
        for (int k = 0; k < 2; k++) {
            assert_true(fold_data(&u, u.mean)[k] == 0.0f);
            assert_true(fold_data(&u, u.var)[k] == 1.0f);
        }
        mqb_exec_destroy(exec);
        fold_unit_destroy(&u);
        mqb_pool_destroy(pool);
    }
}

static mqb_node_id find_node(const struct mqb_graph *graph, const char *op)
{
    for (int i = 0; i < graph->num_ordered; i++)
        if (strcmp(graph->nodes[graph->order[i]].op->name, op) == 0)
            return graph->order[i];
    fail_msg("no %s", op);
    return MQB_NONE;
}

static void test_fold_statistics_refuse_what_they_cannot_be(void **state)
{
    (void)state;
    static const struct fold_shape shape = {.n = 2, .c = 2, .h = 2, .k = 1, .r = 1, .groups = 1, .stride = 1};
    const struct mqb_graph_api *api = &mqb_graph_calls;
    struct fold_unit u;
    fold_unit_create(&u, &shape, "3", "off", NULL);
    mqb_node_id row = find_node(u.graph, "StatisticRow"), statistics = find_node(u.graph, "BatchStatistics");
    int64_t was = api->attr_int(u.graph, row, "row", 0);
    OK(api->set_attr_int(u.graph, row, "row", 3, &err));
    assert_int_equal(mqb_graph_infer(u.graph, &err), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(err.text, "row = 3"));
    OK(api->set_attr_int(u.graph, row, "row", was, &err));
    OK(api->set_attr_int(u.graph, statistics, "channel_correction", 1, &err));
    assert_int_equal(mqb_graph_infer(u.graph, &err), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(err.text, "there is one channel"));
    OK(api->set_attr_int(u.graph, statistics, "channel_correction", 0, &err));
    OK(api->set_attr_real(u.graph, statistics, "momentum", 1.5, &err));
    assert_int_equal(mqb_graph_infer(u.graph, &err), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(err.text, "momentum = 1.5"));
    OK(api->set_attr_real(u.graph, statistics, "momentum", 0.9, &err));
    OK(mqb_graph_infer(u.graph, &err));

    /* Running statistics that training cannot move; a folded variance beside the norm's own statistics. */
    struct mqb_exec_config config = {.graph = u.graph,
                                     .host = mqb_host_table(),
                                     .compute = component("native", MQB_COMPUTE_INTERFACE),
                                     .batch = 2,
                                     .training = true,
                                     .gradients = true};
    struct mqb_exec *exec;
    OK(mqb_pool_create(1, &config.pool, &err));
    u.graph->values[u.mean].kind = MQB_VALUE_CONST;
    assert_int_equal(mqb_exec_create(&config, &exec, &err), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(err.text, "'mean' is not a state"));
    u.graph->values[u.mean].kind = MQB_VALUE_STATE;
    mqb_node_id norm = find_node(u.graph, "BatchNormalization");
    OK(api->set_input(u.graph, norm, 3, u.mean, &err));
    OK(api->set_input(u.graph, norm, 4, u.var, &err));
    assert_int_equal(mqb_exec_create(&config, &exec, &err), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(err.text, "goes with given statistics"));
    mqb_pool_destroy(config.pool);
    fold_unit_destroy(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fold_unquantized_training_is_batch_norm),
        cmocka_unit_test(test_fold_evaluation_is_one_function),
        cmocka_unit_test(test_fold_merged_and_frozen_part_after_a_step),
        cmocka_unit_test(test_fold_frozen_statistics_stay_and_others_move),
        cmocka_unit_test(test_fold_batch_statistics_cost_one_convolution_and_no_barrier),
        cmocka_unit_test(test_fold_float_layer_reads_what_the_folded_one_reads),
        cmocka_unit_test(test_fold_batch_same_bits_on_any_number_of_threads),
        cmocka_unit_test(test_fold_batch_deployment_is_the_evaluation),
        cmocka_unit_test(test_fold_batch_of_one_element_is_refused),
        cmocka_unit_test(test_fold_batch_divergence_leaves_running_statistics),
        cmocka_unit_test(test_fold_statistics_refuse_what_they_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
