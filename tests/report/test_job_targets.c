/*
 * test_job_targets.c - the whole job, calibration only, on targets that fuse additions or leave operators in float: integer and
 * fake give the same answers, under every model that brackets the library, and every file that the target wants is there.
 */
#include "common/support.h"
#include "report/report.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/mqbench-targets-XXXXXX";

static int setup(void **state)
{
    (void)state;
    mqb_log_set_sink(NULL, NULL);
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void check_file(const char *name)
{
    char path[256];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (stat(path, &info) != 0 || info.st_size == 0)
        fail_msg("%s is not there", path);
}

/* points: activations of ResNet-20 with zero-padded shortcuts under the target's graph. */
static void check_target(const char *backend, const char *key, const char *value, int points, int profiles)
{
    enum { IMAGES = 160 };
    const char *keys[] = {"recipe.epochs", "recipe.calibration_batches", "recipe.calibration_batch", key};
    const char *values[] = {"0", "2", "64", value};
    struct mqb_job_config config = {
        .backend = backend,
        .algo = "lsq",
        .model = MQB_SOURCE_DIR "/models/resnet20_synth.onnx",
        .dataset = "synth",
        .weight_bits = 8,
        .activation_bits = 8,
        .io_bits = 8,
        .set_keys = keys,
        .set_values = values,
        .num_set = key ? 4 : 3,
        .seed = 7,
        .threads = 2,
        .train_limit = 256,
        .test_limit = IMAGES,
        .out = folder,
        .bracket = true,
    };
    struct mqb_result *result;
    OK(mqb_job_run(&config, &result, &err));
    assert_int_equal(result->num_weight_points, 20);
    assert_int_equal(result->num_activation_points, points);
    assert_true(result->deployable && result->has_integer);
    assert_int_equal(result->labels_compared, IMAGES);
    assert_true(result->labels_agree >= IMAGES * 98 / 100);
    assert_true(llabs((long long)(result->integer.top1 - result->fake.top1)) <= IMAGES * 2 / 100);
    int first = 0; /* fed with identical codes, a layer is one step off at most */
    while (first < result->num_layers && !result->layers[first].first)
        first++;
    assert_true(first == result->num_layers || result->layers[first].max_steps <= 1);
    assert_int_equal(result->num_bracket, profiles); /* the run's own first, then every other one, once */
    assert_string_equal(result->bracket[0].name, result->profile);
    assert_memory_equal(&result->bracket[0].integer, &result->integer, sizeof result->integer);
    for (int i = 0; i < profiles; i++) {
        assert_int_equal(result->bracket[i].integer.n, IMAGES);
        assert_true(result->bracket[i].labels_agree >= IMAGES * 98 / 100);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(result->bracket[i].name, result->bracket[k].name);
    }
    char *text;
    OK(mqb_result_json(result, &text, &err));
    assert_non_null(strstr(text, "\"bracket\""));
    assert_non_null(strstr(text, result->bracket[profiles - 1].name));
    mqb_deallocate(text);
    mqb_result_destroy(result);
    check_file("qparams.json");
}

static void test_job_tensorrt_fuses_additions(void **state)
{
    (void)state;
    check_target("tensorrt_sim", NULL, NULL, 20, 3);
    check_file("resnet20_synth.trt.qdq.onnx");
    check_file("resnet20_synth.trt.onnx");
    check_file("resnet20_synth.trt.cache");
    check_file("resnet20_synth.trt.ranges.json");
    check_target("tensorrt_sim", "tensorrt_sim.ties", "rhu", 20, 3);
}

static void test_job_acl_keeps_floats_between_layers(void **state)
{
    (void)state;
    check_target("acl_sim", NULL, NULL, 20, 2);
    check_file("resnet20_synth.acl.onnx");
    check_file("resnet20_synth.acl.record.txt");
    check_target("acl_sim", "acl_sim.intermediate", "fp32", 20, 2);
    check_target("acl_sim", "acl_sim.weights", "asymmetric", 20, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_job_tensorrt_fuses_additions),
        cmocka_unit_test(test_job_acl_keeps_floats_between_layers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
