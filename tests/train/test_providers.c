/*
 * test_providers.c - three training steps of a small residual network on every compute provider: the losses and the first
 * gradients agree but for rounding, and each provider gives the same bits on one and on three threads.
 */
#include "common/support.h"
#include "train/train.h"

#include <math.h>

enum { BATCH = 12, SIZE = 8, CHANNELS = 3, CLASSES = 10, STEPS = 3 };

static const char *const providers[] = {"native", "openblas", "onednn"};
enum { NUM_PROVIDERS = sizeof(providers) / sizeof(providers[0]) };

struct outcome {
    double losses[STEPS];
    double *gradients; /* of the first step, all parameters one after another, each relative to its largest */
    size_t num_gradients;
    char weights_sha256[65];
};

static void collect_gradients(const struct mqb_graph *graph, struct mqb_exec *exec, struct outcome *outcome)
{
    size_t count = 0;

    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < graph->num_values; i++) {
            const struct mqb_value *value = &graph->values[i];
            const float *gradient = value->dead || value->kind != MQB_VALUE_PARAM ? NULL : mqb_exec_gradient(exec, i);
            int64_t size = gradient == NULL ? 0 : mqb_value_size(value);
            double largest = 1e-6;

            for (int64_t k = 0; k < size; k++) {
                largest = fmax(largest, fabs((double)gradient[k]));
            }
            for (int64_t k = 0; k < size && pass == 1; k++) {
                outcome->gradients[outcome->num_gradients++] = (double)gradient[k] / largest;
            }
            count += (size_t)size;
        }
        if (pass == 0) {
            outcome->gradients = malloc(count * sizeof(double));
            assert_non_null(outcome->gradients);
        }
    }
}

static void hash_weights(const struct mqb_graph *graph, char hex[65])
{
    struct mqb_sha256 sha;

    mqb_sha256_init(&sha);
    for (int i = 0; i < graph->num_values; i++) {
        const struct mqb_value *value = &graph->values[i];

        if (!value->dead && (value->kind == MQB_VALUE_PARAM || value->kind == MQB_VALUE_STATE)) {
            mqb_sha256_update(&sha, value->data, (size_t)mqb_value_size(value) * sizeof(float));
        }
    }
    mqb_sha256_hex(&sha, hex);
}

/* False if the provider was not built. */
static bool train(const char *provider, int threads, struct outcome *outcome)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s.so", MQB_PLUGIN_DIR, provider);
    if (!mqb_file_exists(path)) {
        return false;
    }
    struct mqb_graph *graph;
    struct mqb_pool *pool;
    struct mqb_exec *exec;
    struct mqb_optimizer *optimizer;
    struct mqb_recipe recipe;
    float x[BATCH * SIZE * SIZE * CHANNELS];
    int32_t labels[BATCH];

    memset(outcome, 0, sizeof(*outcome));
    for (size_t i = 0; i < sizeof(x) / sizeof(x[0]); i++) {
        x[i] = 2.0f * mqb_uniform(7, 0, i) - 1.0f;
    }
    for (int32_t i = 0; i < BATCH; i++) {
        labels[i] = i % CLASSES;
    }
    OK(mqb_model_build("resnet20", &mqb_ops, CHANNELS, SIZE, SIZE, CLASSES, 1, &graph, &err));
    OK(mqb_pool_create(threads, &pool, &err));
    struct mqb_exec_config config = {
        .graph = graph,
        .host = mqb_host_table(),
        .compute = component(provider, MQB_COMPUTE_INTERFACE),
        .pool = pool,
        .batch = BATCH,
        .training = true,
        .gradients = true,
    };
    OK(mqb_exec_create(&config, &exec, &err));
    mqb_recipe_defaults(&recipe);
    OK(mqb_optimizer_create(graph, exec, NULL, pool, &recipe, &optimizer, &err));
    for (int step = 0; step < STEPS; step++) {
        OK(mqb_exec_forward(exec, x, BATCH, &err));
        OK(mqb_exec_loss(exec, labels, 0.1, &outcome->losses[step], NULL, &err));
        OK(mqb_exec_backward(exec, &err));
        if (step == 0) {
            collect_gradients(graph, exec, outcome);
        }
        mqb_optimizer_step(optimizer, 0.01);
    }
    hash_weights(graph, outcome->weights_sha256);
    mqb_optimizer_destroy(optimizer);
    mqb_exec_destroy(exec);
    mqb_pool_destroy(pool);
    mqb_graph_destroy(graph);
    return true;
}

static void test_training_on_every_provider_gives_the_same_losses(void **state)
{
    struct outcome first;
    (void)state;

    assert_true(train(providers[0], 2, &first));
    assert_true(first.losses[STEPS - 1] < first.losses[0]);
    for (int i = 1; i < NUM_PROVIDERS; i++) {
        struct outcome other;
        double worst = 0.0;

        if (!train(providers[i], 2, &other)) {
            print_message("%s was not built: left out\n", providers[i]);
            continue;
        }
        assert_int_equal(first.num_gradients, other.num_gradients);
        for (size_t k = 0; k < first.num_gradients; k++) {
            worst = fmax(worst, fabs(first.gradients[k] - other.gradients[k]));
        }
        print_message("%s: gradients differ by %.2g of the largest\n", providers[i], worst);
        assert_true(worst < 1e-4);
        for (int step = 0; step < STEPS; step++) {
            double difference = fabs(first.losses[step] - other.losses[step]);

            if (!(difference < 1e-4)) {
                fail_msg("step %d: %s has loss %.7f, %s has %.7f", step, providers[0], first.losses[step], providers[i],
                         other.losses[step]);
            }
        }
        free(other.gradients);
    }
    free(first.gradients);
}

static void test_training_on_other_threads_gives_the_same_bits(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_PROVIDERS; i++) {
        struct outcome one, three;

        if (!train(providers[i], 1, &one)) {
            print_message("%s was not built: left out\n", providers[i]);
            continue;
        }
        assert_true(train(providers[i], 3, &three));
        assert_memory_equal(one.losses, three.losses, sizeof(one.losses));
        assert_memory_equal(one.weights_sha256, three.weights_sha256, sizeof(one.weights_sha256));
        free(one.gradients);
        free(three.gradients);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_on_every_provider_gives_the_same_losses),
        cmocka_unit_test(test_training_on_other_threads_gives_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
