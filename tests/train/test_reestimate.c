/* test_reestimate.c - batch norm statistics over a number of batches are the means of the batches' own, whatever stood there. */
#include "common/support.h"
#include "train/train.h"

#include <math.h>

#define BATCH 16
#define PIXELS (32 * 32)
#define CHANNELS 16 /* of the first layer */

struct net {
    struct mqb_graph *graph;
    struct mqb_pool *pool;
    struct mqb_dataset *dataset;
    const struct mqb_compute *compute;
    struct mqb_normalize normalize;
    const struct mqb_node *norm; /* the first batch norm */
};

static int setup(void **state)
{
    struct net *net = calloc(1, sizeof *net);
    OK(mqb_model_build("resnet20", &mqb_ops, 3, 32, 32, 10, 1, &net->graph, &err));
    OK(mqb_pool_create(2, &net->pool, &err));
    OK(mqb_dataset_open("synth", 3 * BATCH + 5, 8, 0, &net->dataset, &err));
    OK(mqb_normalize_parse("unit", &net->normalize, &err));
    net->compute = component("native", MQB_COMPUTE_INTERFACE);
    for (int i = 0; net->norm == NULL && i < net->graph->num_ordered; i++)
        if (strcmp(net->graph->nodes[net->graph->order[i]].op->name, "BatchNormalization") == 0)
            net->norm = &net->graph->nodes[net->graph->order[i]];
    *state = net;
    return 0;
}

static int teardown(void **state)
{
    struct net *net = *state;
    mqb_graph_destroy(net->graph);
    mqb_pool_destroy(net->pool);
    mqb_dataset_close(net->dataset);
    free(net);
    return 0;
}

static struct mqb_loader *loader_of(const struct net *net)
{
    struct mqb_loader_config config = {
        .split = MQB_SPLIT_TRAIN, .batch = BATCH, .size = 32, .normalize = net->normalize, .shuffle = true, .drop_last = true, .seed = 3};
    struct mqb_loader *loader;
    OK(mqb_loader_create(net->dataset, &config, &loader, &err));
    return loader;
}

/* Mean and unbiased variance of the norm's input over each of the first batches, averaged; in double, the plain way. */
static void expected(const struct net *net, int num_batches, double *mean, double *var)
{
    mqb_value_id x = net->norm->inputs[0];
    struct mqb_exec_config config = {.graph = net->graph, .host = mqb_host_table(), .compute = net->compute, .pool = net->pool,
                                     .batch = BATCH, .keep = &x, .num_keep = 1};
    struct mqb_exec *exec;
    struct mqb_loader *loader = loader_of(net);
    struct mqb_batch batch;
    OK(mqb_exec_create(&config, &exec, &err));
    OK(mqb_loader_start(loader, 0, 0, &err));
    memset(mean, 0, CHANNELS * sizeof *mean);
    memset(var, 0, CHANNELS * sizeof *var);
    for (int b = 0; b < num_batches; b++) {
        OK(mqb_loader_next(loader, &batch, &err));
        OK(mqb_exec_forward(exec, batch.x, BATCH, &err));
        const float *data = mqb_exec_value(exec, x);
        for (int c = 0; c < CHANNELS; c++) {
            double sum = 0.0, squares = 0.0, count = BATCH * PIXELS;
            for (int i = 0; i < BATCH * PIXELS; i++)
                sum += (double)data[i * CHANNELS + c];
            for (int i = 0; i < BATCH * PIXELS; i++) {
                double d = (double)data[i * CHANNELS + c] - sum / count;
                squares += d * d;
            }
            mean[c] += sum / count / num_batches;
            var[c] += squares / (count - 1) / num_batches;
        }
    }
    mqb_loader_destroy(loader);
    mqb_exec_destroy(exec);
}

static void check_batches(struct net *net, int num_batches)
{
    double mean[CHANNELS], var[CHANNELS];
    float *running_mean = net->graph->values[net->norm->inputs[3]].data, *running_var = net->graph->values[net->norm->inputs[4]].data;
    expected(net, num_batches, mean, var);
    for (int c = 0; c < CHANNELS; c++) { /* what stood there must not matter */
        running_mean[c] = 100.0f + (float)c;
        running_var[c] = 7.0f;
    }
    struct mqb_loader *loader = loader_of(net);
    int seen;
    double before = mqb_attr_f(net->norm, "momentum", 0.9);
    OK(mqb_reestimate(net->graph, net->compute, net->pool, loader, BATCH, num_batches, &seen, NULL, &err));
    mqb_loader_destroy(loader);
    assert_int_equal(seen, num_batches);
    assert_true(mqb_attr_f(net->norm, "momentum", 0.9) == before);
    for (int c = 0; c < CHANNELS; c++) {
        assert_true(fabs((double)running_mean[c] - mean[c]) <= 1e-6 * (1.0 + fabs(mean[c])));
        assert_true(fabs((double)running_var[c] - var[c]) <= 1e-5 * var[c]);
    }
}

static void test_reestimate_one_batch_is_its_statistics(void **state)
{
    check_batches(*state, 1);
}

static void test_reestimate_three_batches_are_their_mean(void **state)
{
    check_batches(*state, 3);
}

static void test_reestimate_stops_at_the_last_full_batch(void **state)
{
    struct net *net = *state;
    struct mqb_loader *loader = loader_of(net);
    int seen;
    OK(mqb_reestimate(net->graph, net->compute, net->pool, loader, BATCH, 100, &seen, NULL, &err));
    mqb_loader_destroy(loader);
    assert_int_equal(seen, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reestimate_one_batch_is_its_statistics),
        cmocka_unit_test(test_reestimate_three_batches_are_their_mean),
        cmocka_unit_test(test_reestimate_stops_at_the_last_full_batch),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
