/* test_profile.c - where the time of a step goes: every operator is there, the times add up, and looking changes no number. */
#include "report/profile.h"
#include "graph/op.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 4, STEPS = 3 };
/* ResNet-20 on 32 x 32: 40,551,040 multiply-adds (He et al., 2016: 0.04 GFLOPs), each two operations. */
#define RESNET20_OPERATIONS (2.0 * 40551040.0)
#define RESNET20_STEM (2.0 * 442368.0)

static struct mqb_error error = MQB_ERROR_INIT;
static const char *const set_keys[] = {"recipe.batch"}, *const set_values[] = {"4"};

static int setup(void **state)
{
    (void)state;
    return setenv("MQBENCH_HOME", MQB_BINARY_DIR "/share/mqbench", 1);
}

static struct mqb_profile_config config_of(bool fp32, bool infer)
{
    return (struct mqb_profile_config){
        .job = {.backend = "snpe_sim", .algo = "lsq", .weight_bits = 4, .activation_bits = 4, .io_bits = 8, .seed = 7, .threads = 2,
                .set_keys = set_keys, .set_values = set_values, .num_set = 1},
        .fp32 = fp32, .infer = infer, .steps = STEPS,
    };
}

static struct mqb_profile *run(const struct mqb_profile_config *config)
{
    struct mqb_profile *profile = NULL;
    if (mqb_profile_run(config, &profile, &error) != MQB_OK)
        fail_msg("%s", error.text);
    return profile;
}

static double operations(const struct mqb_profile *profile, enum mqb_profile_pass pass)
{
    double sum = 0.0;
    for (int i = 0; i < profile->num_operators; i++)
        sum += profile->operators[i].pass == pass ? profile->operators[i].operations : 0.0;
    return sum;
}

static int count(const struct mqb_profile *profile, enum mqb_profile_pass pass, const char *op)
{
    int num = 0;
    for (int i = 0; i < profile->num_operators; i++)
        num += profile->operators[i].pass == pass && strcmp(profile->operators[i].op, op) == 0;
    return num;
}

/* What every profile must hold. An operator's time lies within the step's, so they sum to the step less the waiting. */
static void check_times(const struct mqb_profile *profile)
{
    double sum = 0.0, longest = INFINITY;
    assert_int_equal(profile->batch, BATCH);
    assert_int_equal(profile->steps, STEPS);
    assert_int_equal(profile->threads, 2);
    assert_true(profile->min > 0.0 && profile->min <= profile->median);
    assert_true(profile->mean >= profile->min);
    assert_true(profile->cpu > 0.0 && strlen(profile->logits) == 64);
    for (int i = 0; i < profile->num_operators; i++) {
        const struct mqb_profile_operator *op = &profile->operators[i];
        assert_true(op->seconds >= 0.0 && op->seconds <= longest);
        longest = op->seconds;
        sum += op->seconds;
    }
    assert_true(sum > 0.0 && sum <= profile->mean * (1.0 + 1e-9));
    assert_true(profile->waiting >= -1e-9);
    assert_true(fabs(sum + profile->waiting - profile->mean) <= 1e-9 * STEPS + 1e-6 * profile->mean);
    assert_true(profile->limits.gflops > 0.0 && profile->limits.gbs > 0.0 && profile->limits.integer_gops >= profile->limits.gflops);
    assert_true(profile->peak_rss > (size_t)1 << 20);
}

static void test_profile_training_all_operators_and_their_work(void **state)
{
    (void)state;
    struct mqb_profile_config config = config_of(false, false);
    struct mqb_profile *profile = run(&config);
    check_times(profile);
    assert_string_equal(profile->what, "qat");
    assert_int_equal(count(profile, MQB_PROFILE_FORWARD, "Conv"), 19);
    assert_int_equal(count(profile, MQB_PROFILE_BACKWARD, "Conv"), 19);
    assert_int_equal(count(profile, MQB_PROFILE_OPTIMIZER, "SGD"), 1);
    assert_true(profile->passes[MQB_PROFILE_FIXED] > 0.0);
    assert_true(fabs(operations(profile, MQB_PROFILE_FORWARD) - (BATCH * RESNET20_OPERATIONS)) <= 1.0);
    mqb_profile_destroy(profile);
}

static void test_profile_fp32_backward_is_twice_forward_without_stem(void **state)
{
    (void)state;
    struct mqb_profile_config config = config_of(true, false);
    config.job.backend = config.job.algo = NULL;
    struct mqb_profile *profile = run(&config);
    check_times(profile);
    assert_string_equal(profile->what, "fp32");
    /* Nobody wants the gradient at the images. */
    assert_true(fabs(operations(profile, MQB_PROFILE_BACKWARD) - (BATCH * (2.0 * RESNET20_OPERATIONS - RESNET20_STEM))) <= 1.0);
    mqb_profile_destroy(profile);
}

static void test_profile_inference_forward_alone(void **state)
{
    (void)state;
    for (int fp32 = 0; fp32 < 2; fp32++) {
        struct mqb_profile_config config = config_of(fp32 != 0, true);
        struct mqb_profile *profile = run(&config);
        check_times(profile);
        assert_string_equal(profile->what, fp32 ? "fp32" : "integer");
        assert_true(fabs(operations(profile, MQB_PROFILE_FORWARD) - (BATCH * RESNET20_OPERATIONS)) <= 1.0);
        assert_true(profile->passes[MQB_PROFILE_BACKWARD] == 0.0 && profile->passes[MQB_PROFILE_OPTIMIZER] == 0.0);
        mqb_profile_destroy(profile);
    }
}

static void test_profile_json_fields_there_and_positive(void **state)
{
    (void)state;
    struct mqb_profile_config config = config_of(false, false);
    config.job.dataset = "synth:train=8,test=1";
    struct mqb_profile *profile = run(&config);
    char *text = NULL, *screen = NULL;
    assert_int_equal(mqb_profile_json(profile, &text, &error), MQB_OK);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "schema")), MQB_PROFILE_SCHEMA);
    double min = json_number_value(json_object_get(json_object_get(root, "step_ms"), "min"));
    double median = json_number_value(json_object_get(json_object_get(root, "step_ms"), "median"));
    double mean = json_number_value(json_object_get(json_object_get(root, "step_ms"), "mean"));
    assert_true(min > 0.0 && median >= min);
    assert_true(json_number_value(json_object_get(root, "cpu_ms")) > 0.0);
    assert_string_equal(json_string_value(json_object_get(root, "logits_sha256")), profile->logits);
    assert_true(json_integer_value(json_object_get(root, "peak_rss_bytes")) > 0);
    const json_t *operators = json_object_get(root, "operators"), *op;
    double sum = json_number_value(json_object_get(json_object_get(root, "passes_ms"), "waiting")), share = 0.0;
    size_t i;
    assert_int_equal(json_array_size(operators), profile->num_operators);
    json_array_foreach(operators, i, op) {
        assert_non_null(json_string_value(json_object_get(op, "name")));
        assert_non_null(json_string_value(json_object_get(op, "op")));
        assert_non_null(json_string_value(json_object_get(op, "pass")));
        sum += json_number_value(json_object_get(op, "ms"));
        share += json_number_value(json_object_get(op, "share"));
    }
    assert_true(fabs(sum - mean) <= 1e-3 * mean);
    assert_true(share > 0.0 && share <= 1.0 + 1e-6);
    assert_int_equal(mqb_profile_screen(profile, &screen, &error), MQB_OK);
    assert_non_null(strstr(screen, "Conv"));
    assert_non_null(strstr(screen, "waiting"));
    json_decref(root);
    mqb_deallocate(text);
    mqb_deallocate(screen);
    mqb_profile_destroy(profile);
}

static void test_profile_wrong_words_refused(void **state)
{
    (void)state;
    struct mqb_profile *profile = NULL;
    struct mqb_profile_config config = config_of(false, false);
    config.steps = 0;
    assert_int_equal(mqb_profile_run(&config, &profile, &error), MQB_ERR_ARGUMENT);
    config = config_of(false, true);
    config.job.backend = "academic"; /* deploys nothing */
    assert_int_equal(mqb_profile_run(&config, &profile, &error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.text, "no integers to run"));
    config = config_of(false, false);
    config.job.dataset = "synth:train=2,test=1";
    assert_int_equal(mqb_profile_run(&config, &profile, &error), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(error.text, "--batch"));
    config = config_of(false, false);
    config.job.algo = "lsk";
    assert_int_equal(mqb_profile_run(&config, &profile, &error), MQB_ERR_NOT_FOUND);
    assert_null(profile);
}

/* One training step of the default network; gradients of all parameters, one after the other. */
static float *gradients(struct mqb_session *session, bool times, size_t *size)
{
    struct mqb_graph *graph = NULL;
    struct mqb_exec *exec = NULL;
    int32_t labels[BATCH] = {1, 2, 3, 4};
    double loss;
    char sha256[65];
    assert_int_equal(mqb_session_model(session, NULL, &graph, sha256, &error), MQB_OK);
    struct mqb_exec_config config = {.graph = graph, .host = mqb_host_table(), .compute = session->compute, .pool = session->pool,
                                     .batch = BATCH, .training = true, .gradients = true, .times = times};
    size_t image = (size_t)mqb_value_size(&graph->values[graph->input]);
    float *x = mqb_allocate_array(BATCH * image, sizeof *x);
    for (size_t i = 0; i < BATCH * image; i++)
        x[i] = mqb_uniform(5, 1, i) - 0.5f;
    assert_int_equal(mqb_exec_create(&config, &exec, &error), MQB_OK);
    assert_int_equal(mqb_exec_forward(exec, x, BATCH, &error), MQB_OK);
    assert_int_equal(mqb_exec_loss(exec, labels, 0.1, &loss, NULL, &error), MQB_OK);
    assert_int_equal(mqb_exec_backward(exec, &error), MQB_OK);
    *size = 0;
    for (int i = 0; i < graph->num_values; i++)
        *size += mqb_exec_gradient(exec, i) != NULL ? (size_t)mqb_value_size(&graph->values[i]) : 0;
    float *all = mqb_allocate_array(*size, sizeof *all);
    size_t used = 0;
    for (int i = 0; i < graph->num_values; i++) {
        const float *gradient = mqb_exec_gradient(exec, i);
        size_t length = gradient != NULL ? (size_t)mqb_value_size(&graph->values[i]) : 0;
        if (length > 0)
            memcpy(all + used, gradient, length * sizeof *all);
        used += length;
    }
    assert_true((mqb_exec_num_times(exec) > 0) == times);
    mqb_exec_destroy(exec);
    mqb_graph_destroy(graph);
    mqb_deallocate(x);
    return all;
}

static void test_profile_looking_changes_no_bit(void **state)
{
    (void)state;
    struct mqb_session session;
    size_t size, other;
    assert_int_equal(mqb_session_open(NULL, NULL, 2, &session, &error), MQB_OK);
    float *plain = gradients(&session, false, &size), *timed = gradients(&session, true, &other);
    assert_int_equal(size, other);
    assert_true(size > 250000);
    assert_memory_equal(plain, timed, size * sizeof *plain);
    mqb_deallocate(plain);
    mqb_deallocate(timed);
    mqb_session_close(&session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_profile_training_all_operators_and_their_work),
        cmocka_unit_test(test_profile_fp32_backward_is_twice_forward_without_stem),
        cmocka_unit_test(test_profile_inference_forward_alone),
        cmocka_unit_test(test_profile_json_fields_there_and_positive),
        cmocka_unit_test(test_profile_wrong_words_refused),
        cmocka_unit_test(test_profile_looking_changes_no_bit),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
