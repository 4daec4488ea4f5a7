/*
 * test_job.c - the whole job on a small network and few generated images: the same bits on any number of threads, exact resume,
 * everything that was computed kept when a later stage fails.
 */
#include "common/support.h"
#include "report/report.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/mqbench-job-XXXXXX";
static char model[64];

static const char *const quick_keys[] = {"recipe.epochs", "recipe.batch", "recipe.calibration_batches", "recipe.calibration_batch"};
static const char *const quick_values[] = {"2", "24", "2", "24"};

static struct mqb_job_config quick(int threads, const char *out)
{
    return (struct mqb_job_config){
        .backend = "snpe_sim", .algo = "lsq", .model = model, .dataset = "synth", .weight_bits = 4, .activation_bits = 4, .io_bits = 8,
        .set_keys = quick_keys, .set_values = quick_values, .num_set = 4, .seed = 7, .threads = threads, .train_limit = 72,
        .test_limit = 40, .out = out,
    };
}

static int setup(void **state)
{
    (void)state;
    mqb_log_set_sink(NULL, NULL);
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(model, sizeof model, "%s/net.onnx", folder);
    struct mqb_graph *graph;
    OK(mqb_model_build("resnet20", &mqb_ops, 3, 32, 32, 10, 1, &graph, &err));
    graph->normalize = mqb_strdup("unit");
    OK(mqb_onnx_export(graph, model, &err));
    mqb_graph_destroy(graph);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void checkpoint_hash(const char *out, char hex[65])
{
    char path[256];
    snprintf(path, sizeof path, "%s/checkpoint.mqb", out);
    OK(mqb_sha256_file(path, hex, &err));
}

static void test_job_any_threads_same_bits(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 5};
    char first[65] = "", hex[65], out[128];
    struct mqb_accuracy integer = {0};
    for (int i = 0; i < 4; i++) {
        snprintf(out, sizeof out, "%s/threads%d", folder, threads[i]);
        struct mqb_job_config config = quick(threads[i], out);
        struct mqb_result *result;
        OK(mqb_job_run(&config, &result, &err));
        assert_int_equal(result->training.steps, 6);
        assert_true(result->deployable);
        assert_true(result->has_fold && result->fold_difference < 1e-5);
        checkpoint_hash(out, hex);
        if (i == 0) {
            memcpy(first, hex, sizeof first);
            integer = result->integer;
        }
        assert_string_equal(hex, first);
        assert_memory_equal(&result->integer, &integer, sizeof integer);
        mqb_result_destroy(result);
    }
}

/* A quantized network as the job makes it, for training by hand. */
struct network {
    struct mqb_registry *registry;
    struct mqb_options *options[4];
    struct mqb_graph *graph;
    struct mqb_points *points;
    struct mqb_pool *pool;
    struct mqb_dataset *dataset;
    const struct mqb_compute *compute;
};

static void open_network(struct network *net)
{
    const struct mqb_entry *entry;
    struct mqb_backend_rules rules = {.struct_size = sizeof rules};
    int32_t edits;
    memset(net, 0, sizeof *net);
    OK(mqb_registry_create(mqb_host_table(), &net->registry, &err));
    OK(mqb_registry_add_default_manifests(net->registry, NULL, &err));
    OK(mqb_registry_find(net->registry, MQB_KIND_BACKEND, "snpe_sim", &entry, &err));
    const struct mqb_backend *backend = entry->vtable;
    OK(mqb_registry_options(net->registry, entry, backend->options, backend->num_options, NULL, NULL, 0, &net->options[0], &err));
    OK(backend->rules(mqb_host_table(), net->options[0], &rules, &err));
    OK(mqb_onnx_import(model, &mqb_ops, &net->graph, &err));
    for (int i = 0; rules.passes[i] != NULL; i++) {
        struct mqb_options *options;
        OK(mqb_registry_find(net->registry, MQB_KIND_PASS, rules.passes[i], &entry, &err));
        const struct mqb_pass *pass = entry->vtable;
        OK(mqb_registry_options(net->registry, entry, pass->options, pass->num_options, NULL, NULL, 0, &options, &err));
        OK(pass->run(mqb_host_table(), net->graph, options, &edits, &err));
        OK(mqb_graph_infer(net->graph, &err));
        mqb_options_destroy(options);
    }
    OK(mqb_registry_find(net->registry, MQB_KIND_QUANTIZER, "lsq", &entry, &err));
    const struct mqb_quantizer *lsq = entry->vtable;
    OK(mqb_registry_options(net->registry, entry, lsq->options, lsq->num_options, NULL, NULL, 0, &net->options[1], &err));
    struct mqb_quantizer_choice choice = {"lsq", lsq, net->options[1]};
    struct mqb_points_config config = {.host = mqb_host_table(), .rules = &rules, .weight = choice, .activation = choice,
                                       .weight_bits = 4, .activation_bits = 4, .io_bits = 8};
    OK(mqb_points_create(net->graph, &config, &net->points, &err));
    OK(mqb_registry_find(net->registry, MQB_KIND_COMPUTE, "native", &entry, &err));
    net->compute = entry->vtable;
    OK(mqb_pool_create(2, &net->pool, &err));
    OK(mqb_dataset_open("synth", 72, 24, 0, &net->dataset, &err));
    struct mqb_normalize unit;
    OK(mqb_normalize_parse("unit", &unit, &err));
    struct mqb_loader_config loader_config = {.split = MQB_SPLIT_TRAIN, .batch = 24, .size = 32, .normalize = unit};
    struct mqb_loader *loader;
    OK(mqb_loader_create(net->dataset, &loader_config, &loader, &err));
    OK(mqb_calibrate(net->graph, net->points, net->compute, net->pool, loader, 24, 1, NULL, &err));
    mqb_loader_destroy(loader);
}

static void close_network(struct network *net)
{
    mqb_points_destroy(net->points);
    mqb_graph_destroy(net->graph);
    mqb_dataset_close(net->dataset);
    mqb_pool_destroy(net->pool);
    mqb_options_destroy(net->options[0]);
    mqb_options_destroy(net->options[1]);
    mqb_registry_destroy(net->registry);
}

static void train(struct network *net, const char *checkpoint, int64_t stop_after, bool resume)
{
    struct mqb_recipe recipe;
    mqb_recipe_defaults(&recipe);
    recipe.epochs = 2;
    recipe.batch = 24;
    struct mqb_train_config config = {.graph = net->graph, .points = net->points, .compute = net->compute, .pool = net->pool,
                                      .dataset = net->dataset, .recipe = &recipe, .seed = 3, .checkpoint = checkpoint,
                                      .stop_after = stop_after, .resume = resume};
    OK(mqb_normalize_parse("unit", &config.normalize, &err));
    struct mqb_train_result result;
    OK(mqb_train(&config, &result, &err));
}

static void test_job_resumed_training_same_bits(void **state)
{
    (void)state;
    char straight[128], broken[128], a[65], b[65];
    struct network net;
    snprintf(straight, sizeof straight, "%s/straight.mqb", folder);
    snprintf(broken, sizeof broken, "%s/broken.mqb", folder);
    open_network(&net);
    train(&net, straight, 0, false);
    close_network(&net);
    for (int part = 0; part < 3; part++) { /* stopped after 2 steps, after 2 more (over the epoch's end), then to the end */
        open_network(&net);
        train(&net, broken, part < 2 ? 2 : 0, part > 0);
        close_network(&net);
    }
    OK(mqb_sha256_file(straight, a, &err));
    OK(mqb_sha256_file(broken, b, &err));
    assert_string_equal(a, b);
}

static void test_job_damaged_checkpoint_refused(void **state)
{
    (void)state;
    char path[128];
    void *data;
    size_t size;
    struct network net;
    snprintf(path, sizeof path, "%s/damaged.mqb", folder);
    open_network(&net);
    train(&net, path, 1, false);
    OK(mqb_file_read(path, 1 << 26, &data, &size, &err));
    ((uint8_t *)data)[size / 2] ^= 1;
    OK(mqb_file_write(path, data, size, &err));
    mqb_deallocate(data);
    struct mqb_recipe recipe;
    mqb_recipe_defaults(&recipe);
    recipe.batch = 24;
    struct mqb_train_config config = {.graph = net.graph, .points = net.points, .compute = net.compute, .pool = net.pool,
                                      .dataset = net.dataset, .recipe = &recipe, .seed = 3, .checkpoint = path, .resume = true};
    struct mqb_train_result result;
    assert_int_equal(mqb_train(&config, &result, &err), MQB_ERR_FORMAT);
    assert_non_null(strstr(err.text, "checksum"));
    close_network(&net);
}

static void test_job_blown_up_training_says_so_and_keeps_what_it_has(void **state)
{
    (void)state;
    const char *keys[] = {"recipe.epochs", "recipe.batch", "recipe.lr", "recipe.warmup_lr", "recipe.calibration_batches"};
    const char *values[] = {"2", "24", "1000", "1000", "1"};
    struct mqb_job_config config = quick(2, NULL);
    config.set_keys = keys;
    config.set_values = values;
    config.num_set = 5;
    config.model = MQB_SOURCE_DIR "/models/resnet20_synth.onnx"; /* one that knows its classes, and can lose them */
    struct mqb_result *result = NULL;
    assert_int_equal(mqb_job_run(&config, &result, &err), MQB_ERR_NUMERIC);
    assert_non_null(strstr(err.text, "training diverged at step"));
    assert_non_null(result);
    assert_true(result->has_fp32 && result->has_calibrated && !result->has_integer);
    assert_true(result->training.diverged);
    assert_true(result->training.diverged_why[0] != '\0');
    assert_non_null(strstr(result->training.diverged_where, "carries no signal"));
    assert_string_equal(result->ended, err.text);
    mqb_result_destroy(result);
}

static void test_job_not_a_number_names_its_parameter(void **state)
{
    (void)state;
    struct network net;
    open_network(&net);
    const struct mqb_value *bias = NULL; /* of the last layer: every logit of its class is NaN */
    for (int i = 0; i < net.graph->num_values; i++)
        if (!net.graph->values[i].dead && net.graph->values[i].kind == MQB_VALUE_PARAM && strstr(net.graph->values[i].name, "linear.bias"))
            bias = &net.graph->values[i];
    assert_non_null(bias);
    bias->data[3] = NAN;
    struct mqb_recipe recipe;
    mqb_recipe_defaults(&recipe);
    recipe.batch = 24;
    struct mqb_train_config config = {.graph = net.graph, .points = net.points, .compute = net.compute, .pool = net.pool,
                                      .dataset = net.dataset, .recipe = &recipe, .seed = 3};
    OK(mqb_normalize_parse("unit", &config.normalize, &err));
    struct mqb_train_result result;
    OK(mqb_train(&config, &result, &err));
    assert_true(result.diverged);
    assert_int_equal(result.diverged_step, 0);
    assert_string_equal(result.diverged_where, bias->name);
    close_network(&net);
}

static void expect_refusal(struct mqb_job_config *config, mqb_status status, const char *word)
{
    struct mqb_result *result = NULL;
    assert_int_equal(mqb_job_run(config, &result, &err), status);
    if (strstr(err.text, word) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, word);
    assert_null(result);
}

static void test_job_bad_words_refused(void **state)
{
    (void)state;
    struct mqb_job_config config = quick(1, NULL);
    config.backend = "snpe";
    expect_refusal(&config, MQB_ERR_NOT_FOUND, "snpe_sim");
    config = quick(1, NULL);
    config.algo = "lqs";
    expect_refusal(&config, MQB_ERR_NOT_FOUND, "lsq");
    config = quick(1, NULL);
    config.model = "/nowhere/net.onnx";
    expect_refusal(&config, MQB_ERR_NOT_FOUND, "/nowhere/net.onnx");
    config = quick(1, NULL);
    config.dataset = "sinth";
    expect_refusal(&config, MQB_ERR_NOT_FOUND, "synth");
    const char *keys[] = {"lsqq.gradient_scale"}, *values[] = {"off"};
    config = quick(1, NULL);
    config.set_keys = keys;
    config.set_values = values;
    config.num_set = 1;
    expect_refusal(&config, MQB_ERR_ARGUMENT, "lsq");
    const char *range[] = {"recipe.batch"}, *zero[] = {"0"};
    config.set_keys = range;
    config.set_values = zero;
    expect_refusal(&config, MQB_ERR_ARGUMENT, "batch");
}

static void test_job_unwritable_out_keeps_result(void **state)
{
    (void)state;
    char out[128];
    snprintf(out, sizeof out, "%s/net.onnx/inside", folder); /* a file stands where a folder is wanted */
    const char *keys[] = {"recipe.epochs", "recipe.calibration_batches"}, *values[] = {"0", "1"};
    struct mqb_job_config config = quick(2, out);
    config.set_keys = keys;
    config.set_values = values;
    config.num_set = 2;
    struct mqb_result *result = NULL;
    assert_int_equal(mqb_job_run(&config, &result, &err), MQB_ERR_IO);
    assert_non_null(result);
    assert_true(result->has_integer);
    assert_true(strlen(result->ended) > 0);
    mqb_result_destroy(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_job_any_threads_same_bits),
        cmocka_unit_test(test_job_resumed_training_same_bits),
        cmocka_unit_test(test_job_damaged_checkpoint_refused),
        cmocka_unit_test(test_job_blown_up_training_says_so_and_keeps_what_it_has),
        cmocka_unit_test(test_job_not_a_number_names_its_parameter),
        cmocka_unit_test(test_job_bad_words_refused),
        cmocka_unit_test(test_job_unwritable_out_keeps_result),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
