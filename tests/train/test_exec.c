/* test_exec.c - what the executor promises whatever the plan: the same image gives the same logits in any batch, with any values
 * kept, on any number of threads; the loss and its gradient are the closed form. */
#include "common/support.h"
#include "exec/exec.h"
#include "quant/quant.h"

#include <math.h>

#define CLASSES 10
#define PIXELS (16 * 16 * 3)

struct net {
    struct mqb_graph *graph;
    struct mqb_pool *pool;
    float x[21 * PIXELS];
};

static struct mqb_exec *plan(struct net *net, int batch, const mqb_value_id *keep, int num_keep)
{
    struct mqb_exec_config config = {.graph = net->graph, .host = mqb_host_table(), .pool = net->pool, .batch = batch, .keep = keep,
                                     .compute = component("native", MQB_COMPUTE_INTERFACE), .num_keep = num_keep};
    struct mqb_exec *exec;
    OK(mqb_exec_create(&config, &exec, &err));
    return exec;
}

static int setup(void **state)
{
    struct net *net = calloc(1, sizeof *net);
    OK(mqb_model_build("resnet20", &mqb_ops, 3, 16, 16, CLASSES, 1, &net->graph, &err));
    OK(mqb_pool_create(3, &net->pool, &err));
    for (size_t i = 0; i < sizeof net->x / sizeof net->x[0]; i++)
        net->x[i] = (float)mqb_normal(5, 0, i);
    *state = net;
    return 0;
}

static int teardown(void **state)
{
    struct net *net = *state;
    mqb_graph_destroy(net->graph);
    mqb_pool_destroy(net->pool);
    free(net);
    return 0;
}

static void test_exec_logits_do_not_depend_on_batch(void **state)
{
    struct net *net = *state;
    float one[21 * CLASSES];
    struct mqb_exec *exec = plan(net, 1, NULL, 0);
    for (int i = 0; i < 21; i++) {
        OK(mqb_exec_forward(exec, net->x + i * PIXELS, 1, &err));
        memcpy(one + i * CLASSES, mqb_exec_value(exec, net->graph->output), CLASSES * sizeof *one);
    }
    mqb_exec_destroy(exec);
    static const int batches[][2] = {{21, 21}, {64, 21}, {21, 7}, {5, 5}}; /* plan for, run with */
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        exec = plan(net, batches[i][0], NULL, 0);
        OK(mqb_exec_forward(exec, net->x, batches[i][1], &err));
        assert_memory_equal(mqb_exec_value(exec, net->graph->output), one, (size_t)batches[i][1] * CLASSES * sizeof *one);
        mqb_exec_destroy(exec);
    }
}

static void test_exec_logits_do_not_depend_on_kept_values(void **state)
{
    struct net *net = *state;
    mqb_value_id keep[256];
    int num_keep = 0;
    for (int i = 0; i < net->graph->num_values && num_keep < 256; i++)
        if (!net->graph->values[i].dead && net->graph->values[i].batched)
            keep[num_keep++] = i;
    struct mqb_exec *plain = plan(net, 8, NULL, 0), *kept = plan(net, 8, keep, num_keep);
    OK(mqb_exec_forward(plain, net->x, 8, &err));
    OK(mqb_exec_forward(kept, net->x, 8, &err));
    assert_memory_equal(mqb_exec_value(plain, net->graph->output), mqb_exec_value(kept, net->graph->output), 8 * CLASSES * sizeof(float));
    assert_true(mqb_exec_memory(kept) > mqb_exec_memory(plain)); /* buffers are shared unless kept */
    for (int i = 0; i < num_keep; i++)
        assert_non_null(mqb_exec_value(kept, keep[i]));
    mqb_exec_destroy(plain);
    mqb_exec_destroy(kept);
}

/* Evaluation goes through a layer and what follows it in rows, on one thread or shared out; a plan with gradients does not. */
static void check_rows(const char *name, int size, int images)
{
    struct mqb_graph *graph;
    OK(mqb_model_build(name, &mqb_ops, 3, size, size, CLASSES, 1, &graph, &err));
    const size_t pixels = (size_t)(3 * size * size), bytes = (size_t)images * CLASSES * sizeof(float);
    float *x = malloc((size_t)images * pixels * sizeof *x), *want = malloc(bytes);
    for (size_t i = 0; i < (size_t)images * pixels; i++)
        x[i] = (float)mqb_normal(6, 0, i);
    for (int threads = 0; threads < 4; threads++) { /* first the whole grains */
        struct mqb_exec *exec;
        struct mqb_pool *pool;
        OK(mqb_pool_create(threads == 0 ? 1 : threads, &pool, &err));
        struct mqb_exec_config config = {.graph = graph, .host = mqb_host_table(), .pool = pool, .batch = images,
                                         .compute = component("native", MQB_COMPUTE_INTERFACE), .gradients = threads == 0,
                                         .frozen = threads == 2};
        OK(mqb_exec_create(&config, &exec, &err));
        for (int run = 0; run < 2; run++) {
            OK(mqb_exec_forward(exec, x, images, &err));
            if (threads == 0)
                memcpy(want, mqb_exec_value(exec, graph->output), bytes);
            assert_memory_equal(mqb_exec_value(exec, graph->output), want, bytes);
        }
        mqb_exec_destroy(exec);
        mqb_pool_destroy(pool);
    }
    free(x);
    free(want);
    mqb_graph_destroy(graph);
}

static void test_exec_rows_have_the_bits_of_grains(void **state)
{
    (void)state;
    check_rows("resnet18", 40, 1);
    check_rows("resnet18", 40, 3);
    check_rows("mobilenet_v2", 50, 1);
    check_rows("regnetx_600mf", 33, 2);
    check_rows("efficientnet_lite0", 33, 1);
}

/* Weights of a frozen plan are packed in its first forward; without the word each forward looks at them again. */
static void test_exec_frozen_keeps_its_weights(void **state)
{
    struct net *net = *state;
    float before[CLASSES];
    for (int frozen = 0; frozen < 2; frozen++) {
        struct mqb_exec_config config = {.graph = net->graph, .host = mqb_host_table(), .pool = net->pool, .batch = 1,
                                         .compute = component("native", MQB_COMPUTE_INTERFACE), .frozen = frozen};
        struct mqb_exec *exec;
        OK(mqb_exec_create(&config, &exec, &err));
        OK(mqb_exec_forward(exec, net->x, 1, &err));
        memcpy(before, mqb_exec_value(exec, net->graph->output), sizeof before);
        for (int i = 0; i < net->graph->num_values; i++)
            if (net->graph->values[i].kind == MQB_VALUE_PARAM && net->graph->values[i].rank == 4)
                net->graph->values[i].data[0] += 1.0f;
        OK(mqb_exec_forward(exec, net->x, 1, &err));
        assert_int_equal(memcmp(mqb_exec_value(exec, net->graph->output), before, sizeof before) == 0, frozen);
        mqb_exec_destroy(exec);
    }
}

static void test_exec_loss_is_closed_form(void **state)
{
    struct net *net = *state;
    int32_t labels[4] = {0, 9, 3, 3};
    struct mqb_exec *exec = plan(net, 4, NULL, 0);
    OK(mqb_exec_forward(exec, net->x, 4, &err));
    const float *logits = mqb_exec_value(exec, net->graph->output);
    double loss, want = 0;
    int hits, want_hits = 0;
    OK(mqb_exec_loss(exec, labels, 0.1, &loss, &hits, &err));
    for (int i = 0; i < 4; i++) {
        double sum = 0;
        int best = 0;
        for (int k = 0; k < CLASSES; k++) {
            sum += exp(logits[i * CLASSES + k]);
            best = logits[i * CLASSES + k] > logits[i * CLASSES + best] ? k : best;
        }
        for (int k = 0; k < CLASSES; k++)
            want -= (k == labels[i] ? 0.91 : 0.01) * (logits[i * CLASSES + k] - log(sum)) / 4;
        want_hits += best == labels[i];
    }
    assert_true(fabs(loss - want) < 1e-9 * fabs(want) + 1e-12);
    assert_int_equal(hits, want_hits);
    labels[2] = 10;
    assert_int_equal(mqb_exec_loss(exec, labels, 0.1, &loss, &hits, &err), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(err.text, "10"));
    mqb_exec_destroy(exec);
}

static void test_exec_wrong_batch_refused(void **state)
{
    struct net *net = *state;
    struct mqb_exec *exec = plan(net, 2, NULL, 0);
    assert_int_equal(mqb_exec_forward(exec, net->x, 3, &err), MQB_ERR_ARGUMENT);
    assert_int_equal(mqb_exec_backward(exec, &err), MQB_ERR_INTERNAL);
    mqb_exec_destroy(exec);
    struct mqb_exec_config config = {.graph = net->graph, .host = mqb_host_table(), .pool = net->pool, .batch = 0};
    assert_int_equal(mqb_exec_create(&config, &exec, &err), MQB_ERR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec_logits_do_not_depend_on_batch),
        cmocka_unit_test(test_exec_logits_do_not_depend_on_kept_values),
        cmocka_unit_test(test_exec_rows_have_the_bits_of_grains),
        cmocka_unit_test(test_exec_loss_is_closed_form),
        cmocka_unit_test(test_exec_wrong_batch_refused),
        cmocka_unit_test(test_exec_frozen_keeps_its_weights),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
