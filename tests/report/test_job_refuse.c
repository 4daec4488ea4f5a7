/* test_job_refuse.c - what a job refuses, and when: before anything is computed where it can be known then, else as a verdict.
 */
#include "report/hand_model.h"

#include <sys/stat.h>

static char folder[] = "/tmp/mqbench-refuse-XXXXXX";
static char wide[64], loud[64];

static const char *const quick_keys[] = {"recipe.epochs", "recipe.calibration_batches", "recipe.calibration_batch"};
static const char *const quick_values[] = {"0", "1", "8"};

static int setup(void **state)
{
    (void)state;
    struct hand_model m;
    mqb_log_set_sink(NULL, NULL);
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(wide, sizeof wide, "%s/wide.onnx", folder);
    hand_begin(&m, 3, 260); /* one sum of 202,800 products */
    hand_gemm(&m, "fc", hand_unary(&m, "Flatten", "flat", m.last), 10, 3 * 260 * 260, 0.01f);
    hand_write(&m, wide);
    snprintf(loud, sizeof loud, "%s/loud.onnx", folder);
    hand_begin(&m, 3, 8); /* weights far beyond what encodings hold a scale for */
    mqb_value_id x = hand_unary(&m, "GlobalAveragePool", "gap", hand_conv(&m, "conv", m.last, 4, 3, 3, 1));
    hand_gemm(&m, "fc", hand_unary(&m, "Flatten", "flat", x), 10, 4, 1e12f);
    hand_write(&m, loud);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static struct mqb_job_config quick(const char *backend, const char *algo, const char *model)
{
    return (struct mqb_job_config){.backend = backend,
                                   .algo = algo,
                                   .model = model,
                                   .dataset = "synth",
                                   .weight_bits = 8,
                                   .activation_bits = 8,
                                   .io_bits = 8,
                                   .set_keys = quick_keys,
                                   .set_values = quick_values,
                                   .num_set = 3,
                                   .seed = 3,
                                   .threads = 1,
                                   .train_limit = 8,
                                   .test_limit = 8};
}

static void assert_says(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", text, part);
}

static void assert_refused(const struct mqb_job_config *config, const char *const *parts)
{
    struct mqb_result *result;
    assert_int_equal(mqb_job_run(config, &result, &err), MQB_ERR_UNSUPPORTED);
    assert_null(result); /* nothing was computed */
    for (; *parts != NULL; parts++)
        assert_says(err.text, *parts);
}

/* Ends with fake accuracies and no integers; nothing is exported. */
static void assert_forced(struct mqb_job_config config, const char *part)
{
    struct mqb_result *result;
    char out[96], path[128];
    struct stat info;
    snprintf(out, sizeof out, "%s/%s", folder, config.algo);
    config.force = true;
    config.out = out;
    OK(mqb_job_run(&config, &result, &err));
    assert_true(result->forced && result->has_fp32 && result->has_fake);
    assert_int_equal(result->fake.n, 8);
    assert_false(result->deployable || result->has_integer);
    assert_says(result->deploy_reason, "forced to fake quantization alone");
    assert_says(result->deploy_reason, part);
    assert_string_equal(result->ended, "");
    snprintf(path, sizeof path, "%s/weights.bin", out);
    assert_int_not_equal(stat(path, &info), 0);
    char *text;
    OK(mqb_result_json(result, &text, &err));
    assert_says(text, "\"forced\": true");
    mqb_deallocate(text);
    mqb_result_destroy(result);
}

/* 8 bits: whatever the zero points, 202,800 x 128 x 128 is more than 2^31; 4 bits: 202,800 x 15 x 15 is not. */
static void test_job_certain_overflow_refused_first(void **state)
{
    (void)state;
    static const char *const parts[] = {"snpe_sim cannot run this network",   "layer 'fc' (Gemm)", "32 bit accumulator",
                                        "202800 products of up to 128 * 128", "--force",           NULL};
    struct mqb_job_config config = quick("snpe_sim", "lsq", wide);
    assert_refused(&config, parts);
    assert_forced(config, "layer 'fc' (Gemm)");

    struct mqb_result *result;
    config.weight_bits = config.activation_bits = config.io_bits = 4;
    OK(mqb_job_run(&config, &result, &err));
    assert_true(result->deployable && result->has_integer);
    mqb_result_destroy(result);
    config = quick("academic", "lsq", wide); /* which runs nothing in integers */
    OK(mqb_job_run(&config, &result, &err));
    assert_true(result->has_fake && !result->forced);
    mqb_result_destroy(result);
}

static void test_job_algorithm_no_hardware_runs_refused_first(void **state)
{
    (void)state;
    static const char *const parts[] = {"snpe_sim cannot run the algorithm \"apot\" on weights, because", "--backend academic",
                                        "--force", NULL};
    struct mqb_job_config config = quick("snpe_sim", "apot", loud);
    assert_refused(&config, parts);
    assert_forced(config, "hardware cannot run \"apot\"");
}

/* A scale is known when calibration is over: a verdict with the tensor's name and the bounds, beside the fake accuracy. */
static void test_job_scale_no_format_holds_is_a_verdict(void **state)
{
    (void)state;
    struct mqb_job_config config = quick("snpe_sim", "ptq_minmax", loud);
    struct mqb_result *result;
    OK(mqb_job_run(&config, &result, &err));
    assert_true(result->has_fake && !result->has_integer && !result->deployable && !result->forced);
    assert_says(result->deploy_reason, "tensor \"fc.weight\": scale");
    assert_says(result->deploy_reason, "lies outside");
    mqb_result_destroy(result);
}

/* Batch norm kept apart cannot be merged into weights with one scale a tensor; it is measured all the same. */
static void test_job_norm_kept_apart_is_a_verdict(void **state)
{
    (void)state;
    struct mqb_job_config config = quick("snpe_sim", "ptq_minmax", MQB_SOURCE_DIR "/models/resnet20_synth.onnx");
    struct mqb_result *result;
    config.bn_fold_given = true;
    config.bn_fold = -1;
    OK(mqb_job_run(&config, &result, &err));
    assert_true(result->has_fake && !result->has_integer && !result->deployable && !result->forced);
    assert_says(result->deploy_reason, "batch normalization '/bn1/BatchNormalization'");
    mqb_result_destroy(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_job_certain_overflow_refused_first),
        cmocka_unit_test(test_job_algorithm_no_hardware_runs_refused_first),
        cmocka_unit_test(test_job_scale_no_format_holds_is_a_verdict),
        cmocka_unit_test(test_job_norm_kept_apart_is_a_verdict),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
