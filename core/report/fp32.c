/* fp32.c - training a network in FP32, and evaluating one. */
#include "report/report.h"
#include "graph/op.h"

#include <string.h>
#include <unistd.h>

#define EVALUATION_BATCH 64
#define PICTURE_SIZE 224 /* input of a network built for pictures that differ in size */

struct fp32_run {
    struct mqb_session session;
    struct mqb_dataset *dataset;
    struct mqb_graph *graph;
    struct mqb_normalize normalize;
};

static void fp32_run_deinit(struct fp32_run *run)
{
    mqb_graph_destroy(run->graph);
    mqb_dataset_close(run->dataset);
    mqb_session_close(&run->session);
}

/* The seed of the run is not handed to the data set: what one run trains on, another evaluates. */
static mqb_status open_data(struct fp32_run *run, const struct mqb_fp32_config *config, struct mqb_error *error)
{
    return mqb_dataset_open(config->dataset != NULL ? config->dataset : "synth", config->train_limit, config->test_limit, 0,
                            &run->dataset, error);
}

static bool is_builder_name(const char *word)
{
    const char *const *names = mqb_model_names();
    for (size_t i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], word) == 0)
            return true;
    return false;
}

/* A word without a slash and without ".onnx" that names no file is meant as the name of a network. */
static bool is_file_word(const char *word)
{
    size_t length = strlen(word);
    return strchr(word, '/') != NULL || (length > 5 && strcmp(word + length - 5, ".onnx") == 0) || mqb_file_exists(word);
}

/* A network that is built here has no normalization yet: it gets the common one unless another is named. */
static mqb_status make_network(struct fp32_run *run, const struct mqb_fp32_config *config, const char **normalize,
                               struct mqb_error *error)
{
    const char *word = config->model != NULL ? config->model : mqb_model_names()[0];
    const struct mqb_dataset *dataset = run->dataset;
    char sha256[65];
    if (!is_builder_name(word) && is_file_word(word))
        return mqb_session_model(&run->session, word, &run->graph, sha256, error);
    if (*normalize == NULL)
        *normalize = "imagenet";
    bool sized = dataset->height > 0;
    mqb_status status = mqb_model_build(word, &mqb_ops, dataset->channels, sized ? dataset->height : PICTURE_SIZE,
                                        sized ? dataset->width : PICTURE_SIZE, dataset->num_classes, config->seed, &run->graph, error);
    return status == MQB_OK ? status : mqb_fail_prefix(error, status, "--model");
}

static int64_t count_parameters(const struct mqb_graph *graph)
{
    int64_t count = 0;
    for (int32_t i = 0; i < graph->num_values; i++)
        if (!graph->values[i].dead && graph->values[i].kind == MQB_VALUE_PARAM)
            count += mqb_value_size(&graph->values[i]);
    return count;
}

static mqb_status evaluate(const struct fp32_run *run, const struct mqb_fp32_config *config, struct mqb_accuracy *accuracy,
                           struct mqb_error *error)
{
    struct mqb_loader *loader = NULL;
    mqb_status status = mqb_session_loader(run->graph, run->dataset, MQB_SPLIT_TEST, EVALUATION_BATCH, &run->normalize, &loader, error);
    if (status == MQB_OK)
        status = mqb_evaluate(run->graph, run->session.compute, run->session.pool, loader, EVALUATION_BATCH, accuracy, NULL,
                              config->progress, "evaluate", error);
    mqb_loader_destroy(loader);
    return status;
}

/* Keys for components make no sense without one. */
static mqb_status check_set_keys(const struct mqb_fp32_config *config, struct mqb_error *error)
{
    for (size_t i = 0; i < config->num_set; i++)
        if (strncmp(config->set_keys[i], "recipe.", 7) != 0)
            return mqb_fail(error, MQB_ERR_ARGUMENT, "--set %s: FP32 training has no such component; only recipe.KEY can be set here",
                            config->set_keys[i]);
    return MQB_OK;
}

static mqb_status train(struct fp32_run *run, const struct mqb_fp32_config *config, const char *checkpoint,
                        struct mqb_fp32_result *result, struct mqb_error *error)
{
    struct mqb_recipe recipe;
    const char *word = config->model != NULL ? config->model : mqb_model_names()[0];
    mqb_status status = mqb_session_recipe(&run->session, config->recipe, word, 32, config->set_keys, config->set_values,
                                           config->num_set, &recipe, error);
    if (status != MQB_OK)
        return status;
    struct mqb_train_config training = {
        .graph = run->graph,
        .compute = run->session.compute,
        .pool = run->session.pool,
        .dataset = run->dataset,
        .normalize = run->normalize,
        .recipe = &recipe,
        .seed = config->seed,
        .checkpoint = checkpoint,
        .resume = config->resume,
        .progress = config->progress,
    };
    status = mqb_train(&training, &result->training, error);
    if (status == MQB_OK && result->training.diverged)
        status = mqb_fail(error, MQB_ERR_NUMERIC, "training diverged at step %lld: %s; try a smaller --lr than %g",
                          (long long)result->training.diverged_step, result->training.diverged_why, recipe.lr);
    return status;
}

mqb_status mqb_fp32_train(const struct mqb_fp32_config *config, struct mqb_fp32_result *result, struct mqb_error *error)
{
    struct fp32_run run = {.graph = NULL};
    double start = mqb_seconds();
    memset(result, 0, sizeof *result);
    if (config->out == NULL)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "the file for the trained network is not named; give --out FILE.onnx");
    const char *normalize = config->normalize;
    char *checkpoint = config->checkpoint != NULL ? mqb_strdup(config->checkpoint) : mqb_format("%s.checkpoint", config->out);
    mqb_status status = checkpoint != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the name of the checkpoint");
    if (status == MQB_OK)
        status = check_set_keys(config, error);
    if (status == MQB_OK)
        status = mqb_probe_file(config->out, error);
    if (status == MQB_OK)
        status = mqb_session_open(config->manifest, config->compute, config->threads, &run.session, error);
    if (status == MQB_OK)
        status = open_data(&run, config, error);
    if (status == MQB_OK)
        status = make_network(&run, config, &normalize, error);
    if (status == MQB_OK)
        status = mqb_session_check_fit(run.graph, run.dataset, error);
    if (status == MQB_OK)
        status = mqb_session_normalize(normalize, run.graph, &run.normalize, &result->normalize_assumed, error);
    if (status != MQB_OK)
        goto out;
    snprintf(result->normalize, sizeof result->normalize, "%s", run.normalize.text);
    result->num_parameters = count_parameters(run.graph);
    if ((status = train(&run, config, checkpoint, result, error)) != MQB_OK)
        goto out;

    /* The file is written before it is evaluated: what was trained is kept whatever comes. */
    mqb_deallocate(run.graph->normalize);
    run.graph->normalize = mqb_strdup(run.normalize.text);
    if (run.graph->normalize == NULL)
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the metadata of the network");
    if (status == MQB_OK)
        status = mqb_onnx_export(run.graph, config->out, error);
    if (status == MQB_OK)
        status = mqb_sha256_file(config->out, result->model_sha256, error);
    if (status == MQB_OK && config->checkpoint == NULL)
        unlink(checkpoint);
    if (status == MQB_OK && run.dataset->num[MQB_SPLIT_TEST] > 0)
        status = evaluate(&run, config, &result->accuracy, error);
out:
    result->seconds = mqb_seconds() - start;
    fp32_run_deinit(&run);
    mqb_deallocate(checkpoint);
    return status;
}

mqb_status mqb_fp32_eval(const struct mqb_fp32_config *config, struct mqb_fp32_result *result, struct mqb_error *error)
{
    struct fp32_run run = {.graph = NULL};
    double start = mqb_seconds();
    memset(result, 0, sizeof *result);
    mqb_status status = mqb_session_open(config->manifest, config->compute, config->threads, &run.session, error);
    if (status == MQB_OK)
        status = mqb_session_model(&run.session, config->model, &run.graph, result->model_sha256, error);
    if (status == MQB_OK)
        status = open_data(&run, config, error);
    if (status == MQB_OK)
        status = mqb_session_check_fit(run.graph, run.dataset, error);
    if (status == MQB_OK)
        status = mqb_session_normalize(config->normalize, run.graph, &run.normalize, &result->normalize_assumed, error);
    if (status == MQB_OK) {
        snprintf(result->normalize, sizeof result->normalize, "%s", run.normalize.text);
        result->num_parameters = count_parameters(run.graph);
        status = evaluate(&run, config, &result->accuracy, error);
    }
    result->seconds = mqb_seconds() - start;
    fp32_run_deinit(&run);
    return status;
}
