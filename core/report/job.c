/* job.c - the main job, stage by stage. Each stage reads what the earlier ones left in struct job and adds to the result. */
#include "report/report.h"
#include "report/artefacts.h"
#include "report/bracket.h"
#include "report/compare.h"
#include "report/costs.h"
#include "report/packing.h"
#include "report/prepare.h"
#include "report/prove.h"
#include "report/fold_proof.h"
#include "report/waterfall.h"

#include <math.h>
#include <string.h>

#define EVALUATION_BATCH 128
#define FIRST_IMAGES 64
#define CALIBRATION_BYTES ((size_t)512 << 20) /* activations that calibration may keep at once */

struct quantizer_use {
    const struct mqb_entry *entry;
    const struct mqb_quantizer *vtable;
    struct mqb_options *options;
};

struct job {
    const struct mqb_job_config *config;
    struct mqb_result *result;
    struct mqb_session session;
    const struct mqb_entry *backend_entry;
    const struct mqb_backend *backend;
    struct mqb_options *backend_options;
    struct mqb_backend_rules rules;
    struct quantizer_use weight, activation;
    struct mqb_dataset *dataset;
    struct mqb_normalize normalize;
    struct mqb_graph *fp32, *quantized;
    struct mqb_points *points;
    struct mqb_deploy *deploy;
    struct mqb_program *program;
    int64_t classes;
    float *fake_logits; /* of the test split */
};

static mqb_status copy_text(char **field, const char *text, struct mqb_error *error)
{
    *field = mqb_strdup(text);
    return *field != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the result");
}

/* ---- words to components ---- */

static struct mqb_prepare words_of(const struct job *job)
{
    return (struct mqb_prepare){job->session.registry, job->config->set_keys, job->config->set_values, job->config->num_set};
}

static mqb_status use_plugin(struct job *job, const struct mqb_entry *entry, struct mqb_error *error)
{
    struct mqb_result *result = job->result;
    for (int i = 0; i < result->num_plugins; i++)
        if (strcmp(result->plugins[i].id, entry->id) == 0 && strcmp(result->plugins[i].kind, mqb_kind_name(entry->kind)) == 0)
            return MQB_OK;
    struct mqb_plugin_use *plugins = mqb_allocate_array((size_t)result->num_plugins + 1, sizeof *plugins);
    if (plugins == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the result");
    if (result->num_plugins > 0)
        memcpy(plugins, result->plugins, (size_t)result->num_plugins * sizeof *plugins);
    mqb_deallocate(result->plugins);
    result->plugins = plugins;
    struct mqb_plugin_use *use = &plugins[result->num_plugins++];
    memcpy(use->sha256, entry->sha256, sizeof use->sha256);
    mqb_status status = copy_text(&use->id, entry->id, error);
    if (status == MQB_OK)
        status = copy_text(&use->kind, mqb_kind_name(entry->kind), error);
    if (status == MQB_OK)
        status = copy_text(&use->version, entry->plugin_version != NULL ? entry->plugin_version : "", error);
    return status;
}

static mqb_status find_quantizer(struct job *job, const char *id, uint32_t role_flag, struct quantizer_use *use, struct mqb_error *error)
{
    mqb_status status = mqb_registry_find(job->session.registry, MQB_KIND_QUANTIZER, id, &use->entry, error);
    if (status != MQB_OK)
        return status;
    use->vtable = use->entry->vtable;
    if ((use->vtable->flags & role_flag) == 0)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "the algorithm \"%s\" does not quantize %s; choose another one with %s", id,
                        role_flag == MQB_QUANTIZER_WEIGHTS ? "weights" : "activations",
                        role_flag == MQB_QUANTIZER_WEIGHTS ? "--weight-algo" : "--act-algo");
    if ((status = use_plugin(job, use->entry, error)) != MQB_OK)
        return status;
    struct mqb_prepare words = words_of(job);
    return mqb_prepare_options(&words, use->entry, use->vtable->options, use->vtable->num_options, &use->options, error);
}

/* An algorithm that no hardware can run is refused before anything is computed; under --force the run ends at fake quantization. */
static mqb_status check_deployable(struct job *job, const struct quantizer_use *use, int role, struct mqb_error *error)
{
    struct mqb_result *result = job->result;
    const char *reason = MQB_HAS_FIELD(use->vtable, struct mqb_quantizer, undeployable) ? use->vtable->undeployable[role] : NULL;
    if (!job->rules.deployable || reason == NULL)
        return MQB_OK;
    const char *what = role == MQB_ROLE_WEIGHT ? "weights" : "activations";
    if (!job->config->force)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                        "%s cannot run the algorithm \"%s\" on %s, because %s; measure it with --backend academic, or with --force for "
                        "fake quantization alone",
                        job->config->backend, use->entry->id, what, reason);
    if (result->forced)
        return MQB_OK;
    result->forced = true;
    result->deploy_reason = mqb_format("forced to fake quantization alone: hardware cannot run \"%s\" on %s, because %s", use->entry->id,
                                       what, reason);
    return result->deploy_reason != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the result");
}

/* A --set key must begin with the id of a component of this run, or "recipe". */
static mqb_status check_settings(const struct job *job, struct mqb_error *error)
{
    const struct mqb_job_config *config = job->config;
    const char *known[64] = {"recipe", job->backend_entry->id, job->weight.entry->id, job->activation.entry->id};
    size_t num_known = 4;
    for (int i = 0; job->rules.passes[i] != NULL && num_known < 64; i++)
        known[num_known++] = job->rules.passes[i];
    for (size_t i = 0; i < config->num_set; i++) {
        const char *dot = strchr(config->set_keys[i], '.');
        size_t length = dot != NULL ? (size_t)(dot - config->set_keys[i]) : 0;
        bool found = false;
        for (size_t k = 0; k < num_known && length > 0; k++)
            found |= strlen(known[k]) == length && strncmp(known[k], config->set_keys[i], length) == 0;
        if (found)
            continue;
        char prefix[64];
        snprintf(prefix, sizeof prefix, "%.*s", (int)(length > 0 ? length : strlen(config->set_keys[i])), config->set_keys[i]);
        const char *nearest = mqb_nearest(prefix, known, num_known);
        return mqb_fail(error, MQB_ERR_ARGUMENT, "--set %s: expected COMPONENT.OPTION with a component of this run (recipe, %s, %s, ...)%s%s%s",
                        config->set_keys[i], known[1], known[2], nearest != NULL ? "; did you mean \"" : "",
                        nearest != NULL ? nearest : "", nearest != NULL ? ".…\"?" : "");
    }
    return MQB_OK;
}

static mqb_status open_components(struct job *job, struct mqb_error *error)
{
    const struct mqb_job_config *config = job->config;
    struct mqb_result *result = job->result;
    mqb_status status = mqb_session_open(config->manifest, config->compute, config->threads, &job->session, error);
    struct mqb_prepare words = words_of(job);
    if (status == MQB_OK)
        status = mqb_prepare_backend(&words, config->backend, &job->backend_entry, &job->backend_options, &job->rules, error);
    if (status == MQB_OK)
        status = use_plugin(job, job->backend_entry, error);
    if (status != MQB_OK)
        return status;
    job->backend = job->backend_entry->vtable;
    const char *weight_algo = config->weight_algo != NULL ? config->weight_algo : config->algo;
    const char *act_algo = config->act_algo != NULL ? config->act_algo : config->algo;
    if ((status = find_quantizer(job, weight_algo, MQB_QUANTIZER_WEIGHTS, &job->weight, error)) != MQB_OK ||
        (status = find_quantizer(job, act_algo, MQB_QUANTIZER_ACTIVATIONS, &job->activation, error)) != MQB_OK ||
        (status = check_deployable(job, &job->weight, MQB_ROLE_WEIGHT, error)) != MQB_OK ||
        (status = check_deployable(job, &job->activation, MQB_ROLE_ACTIVATION, error)) != MQB_OK ||
        (status = use_plugin(job, job->session.compute_entry, error)) != MQB_OK || (status = check_settings(job, error)) != MQB_OK)
        return status;
    result->bn_fold = config->bn_fold_given ? config->bn_fold : job->rules.default_bn_fold;
    result->bracketed = job->rules.contract.certainty == MQB_CERTAINTY_BRACKETED;
    result->threads = mqb_pool_num_threads(job->session.pool);
    if ((status = copy_text(&result->backend, config->backend, error)) != MQB_OK ||
        (status = copy_text(&result->algo, config->algo != NULL ? config->algo : weight_algo, error)) != MQB_OK ||
        (status = copy_text(&result->algo_weights, weight_algo, error)) != MQB_OK ||
        (status = copy_text(&result->algo_activations, act_algo, error)) != MQB_OK ||
        (status = copy_text(&result->profile, job->rules.contract.profile != NULL ? job->rules.contract.profile : "", error)) != MQB_OK ||
        (status = copy_text(&result->compute, job->session.compute_entry->id, error)) != MQB_OK)
        return status;
    const struct mqb_compute *compute = job->session.compute;
    const char *isa = MQB_HAS_FIELD(compute, struct mqb_compute, isa) && compute->isa != NULL ? compute->isa(mqb_host_table()) : "";
    return copy_text(&result->isa, isa, error);
}

/* ---- model and data ---- */

/* Where both algorithms end with calibration there is nothing to train, unless epochs are asked for by name. */
static void drop_training(struct job *job)
{
    if (!(job->weight.vtable->flags & job->activation.vtable->flags & MQB_QUANTIZER_POST_TRAINING))
        return;
    for (size_t i = 0; i < job->config->num_set; i++)
        if (strcmp(job->config->set_keys[i], "recipe.epochs") == 0)
            return;
    job->result->recipe.epochs = 0;
}

static mqb_status open_model(struct job *job, struct mqb_error *error)
{
    const struct mqb_job_config *config = job->config;
    struct mqb_result *result = job->result;
    char hex[65] = "";
    mqb_status status = mqb_session_model(&job->session, config->model, &job->fp32, hex, error);
    if (status != MQB_OK)
        return status;
    const char *path = config->model != NULL ? config->model : MQB_DEFAULT_MODEL;
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    if ((status = copy_text(&result->model_name, name, error)) != MQB_OK || (status = copy_text(&result->model_sha256, hex, error)) != MQB_OK)
        return status;
    job->classes = mqb_value_size(&job->fp32->values[job->fp32->output]);
    int bits = config->weight_bits < config->activation_bits ? config->weight_bits : config->activation_bits;
    status = mqb_session_recipe(&job->session, config->recipe, name, bits, config->set_keys, config->set_values, config->num_set,
                                &result->recipe, error);
    if (status == MQB_OK)
        drop_training(job);
    return status;
}

static mqb_status open_data(struct job *job, struct mqb_error *error)
{
    const struct mqb_job_config *config = job->config;
    struct mqb_result *result = job->result;
    const char *word = config->dataset != NULL ? config->dataset : "synth";
    mqb_status status;
    if ((status = mqb_dataset_open(word, config->train_limit, config->test_limit, 0, &job->dataset, error)) != MQB_OK ||
        (status = mqb_session_normalize(config->normalize, job->fp32, &job->normalize, &result->normalize_assumed, error)) != MQB_OK)
        return status;
    result->n_train = job->dataset->num[MQB_SPLIT_TRAIN];
    result->n_test = job->dataset->num[MQB_SPLIT_TEST];
    if ((status = copy_text(&result->dataset_name, job->dataset->name, error)) != MQB_OK ||
        (status = copy_text(&result->dataset_sha256, job->dataset->sha256, error)) != MQB_OK ||
        (status = copy_text(&result->normalize, job->normalize.text, error)) != MQB_OK)
        return status;
    if (result->n_test == 0)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "%s has no test images; accuracy cannot be measured: give test=...", job->dataset->name);
    job->fake_logits = mqb_allocate_array(result->n_test * (size_t)job->classes, sizeof *job->fake_logits);
    return job->fake_logits != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the logits of %zu images", result->n_test);
}

static mqb_status evaluate(struct job *job, struct mqb_graph *graph, const char *phase, struct mqb_accuracy *accuracy, float *logits,
                           double *seconds, struct mqb_error *error)
{
    struct mqb_loader *loader = NULL;
    double start = mqb_seconds();
    mqb_status status =
        mqb_session_loader(graph, job->dataset, MQB_SPLIT_TEST, EVALUATION_BATCH, &job->normalize, &loader, error);
    if (status == MQB_OK)
        status = mqb_evaluate(graph, job->session.compute, job->session.pool, loader, EVALUATION_BATCH, accuracy, logits,
                              job->config->progress, phase, error);
    mqb_loader_destroy(loader);
    *seconds += mqb_seconds() - start;
    return status;
}

/* ---- the quantized graph ---- */

static mqb_status run_passes(struct job *job, struct mqb_error *error)
{
    struct mqb_prepare words = words_of(job);
    mqb_status status = mqb_graph_clone(job->fp32, &job->quantized, error);
    for (int i = 0; status == MQB_OK && job->rules.passes[i] != NULL; i++) {
        const struct mqb_entry *entry;
        if ((status = mqb_registry_find(words.registry, MQB_KIND_PASS, job->rules.passes[i], &entry, error)) != MQB_OK ||
            (status = use_plugin(job, entry, error)) != MQB_OK)
            return status;
        status = mqb_prepare_pass(&words, entry, job->result->bn_fold, &job->quantized, error);
    }
    return status;
}

/* What the backend cannot run whatever is learned is refused now; under --force the run ends at fake quantization. Batch norm
 * that was asked to be kept apart (-1) is there to be measured: that it cannot be merged is a verdict beside the accuracy. */
static mqb_status rehearse(struct job *job, const struct mqb_points_config *points, struct mqb_error *error)
{
    struct mqb_result *result = job->result;
    struct mqb_error reason = MQB_ERROR_INIT;
    if (!job->rules.deployable || result->forced || result->bn_fold < 0)
        return MQB_OK;
    mqb_status status = mqb_program_rehearse(job->quantized, points, &reason);
    if (status == MQB_OK)
        return MQB_OK;
    if (status != MQB_ERR_UNSUPPORTED)
        return mqb_fail(error, status, "%s", reason.text);
    if (!job->config->force)
        return mqb_fail(error, status, "%s cannot run this network: %s; measure it with --force for fake quantization alone",
                        job->config->backend, reason.text);
    result->forced = true;
    result->deploy_reason = mqb_format("forced to fake quantization alone: %s", reason.text);
    return result->deploy_reason != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the result");
}

static mqb_status place_points(struct job *job, struct mqb_error *error)
{
    const struct mqb_job_config *config = job->config;
    struct mqb_result *result = job->result;
    mqb_status status = run_passes(job, error);
    struct mqb_points_config points = {
        .host = mqb_host_table(),
        .rules = &job->rules,
        .weight = {job->weight.entry->id, job->weight.vtable, job->weight.options},
        .activation = {job->activation.entry->id, job->activation.vtable, job->activation.options},
        .weight_bits = config->weight_bits,
        .activation_bits = config->activation_bits,
        .io_bits = config->io_bits,
        .relax = result->forced,
    };
    if (status == MQB_OK)
        status = mqb_points_create(job->quantized, &points, &job->points, error);
    if (status == MQB_OK)
        status = mqb_costs_count(job->quantized, job->points, result, error);
    for (int i = 0; status == MQB_OK && i < job->points->num_points; i++) {
        if (job->points->points[i]->scheme.role == MQB_ROLE_WEIGHT)
            result->num_weight_points++;
        else
            result->num_activation_points++;
    }
    return status == MQB_OK ? rehearse(job, &points, error) : status;
}

static mqb_status calibrate(struct job *job, struct mqb_error *error)
{
    const struct mqb_recipe *recipe = &job->result->recipe;
    const struct mqb_graph *graph = job->quantized;
    const struct mqb_value *input = &graph->values[graph->input];
    if (job->result->n_train == 0)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "%s has no training images, which calibration needs: give train=...", job->dataset->name);
    size_t image = 1; /* bytes that one image keeps */
    for (int i = 0; i < job->points->num_points; i++)
        if (job->points->points[i]->scheme.role == MQB_ROLE_ACTIVATION)
            image += (size_t)mqb_value_size(&graph->values[graph->nodes[job->points->points[i]->node].inputs[0]]) * sizeof(float);
    size_t fit = CALIBRATION_BYTES / image, wanted = (size_t)recipe->calibration_batch;
    int batch = (int)(fit < 1 ? 1 : fit < wanted ? fit : wanted);
    int num_batches = (int)(((int64_t)recipe->calibration_batches * recipe->calibration_batch + batch - 1) / batch);
    struct mqb_loader_config loader_config = {
        .split = MQB_SPLIT_TRAIN, .batch = batch, .size = (int32_t)input->dims[2], .normalize = job->normalize, .shuffle = true,
        .seed = job->config->seed,
    };
    struct mqb_loader *loader = NULL;
    double start = mqb_seconds();
    mqb_status status = mqb_loader_create(job->dataset, &loader_config, &loader, error);
    if (status == MQB_OK)
        status = mqb_calibrate(job->quantized, job->points, job->session.compute, job->session.pool, loader, batch, num_batches,
                               job->config->progress, error);
    mqb_loader_destroy(loader);
    job->result->seconds_calibrate = mqb_seconds() - start;
    return status;
}

/* Batch norm statistics of the quantized network, if the recipe asks for them. */
static mqb_status reestimate(struct job *job, struct mqb_error *error)
{
    const struct mqb_recipe *recipe = &job->result->recipe;
    const struct mqb_value *input = &job->quantized->values[job->quantized->input];
    size_t images = job->result->n_train;
    int batch = images < (size_t)recipe->batch ? (int)images : recipe->batch, seen = 0;
    struct mqb_loader_config config = {
        .split = MQB_SPLIT_TRAIN, .batch = batch, .size = (int32_t)input->dims[2], .normalize = job->normalize, .shuffle = true,
        .drop_last = true, .seed = job->config->seed,
    };
    struct mqb_loader *loader = NULL;
    if (recipe->bn_batches == 0)
        return MQB_OK;
    mqb_status status = mqb_loader_create(job->dataset, &config, &loader, error);
    if (status == MQB_OK)
        status = mqb_reestimate(job->quantized, job->session.compute, job->session.pool, loader, batch, recipe->bn_batches, &seen,
                                job->config->progress, error);
    mqb_loader_destroy(loader);
    if (status == MQB_OK && seen == 0)
        mqb_log(MQB_LOG_NOTE, "recipe.bn_batches: with --bn-fold %d no statistics are left to estimate", job->result->bn_fold);
    return status;
}

/* Was the network no better than guessing on these images? Four standard deviations above chance are still luck. */
static bool at_chance(const struct job *job, const struct mqb_accuracy *accuracy)
{
    double n = (double)accuracy->n, p = 1.0 / (double)job->classes;
    return accuracy->n > 0 && (double)accuracy->top1 <= n * p + 4.0 * sqrt(n * p * (1.0 - p));
}

/* The first test images, for a closer look. The batch lives as long as the loader, which is the caller's. */
static mqb_status first_images(struct job *job, struct mqb_loader **loader, struct mqb_batch *batch, struct mqb_error *error)
{
    mqb_status status = mqb_session_loader(job->quantized, job->dataset, MQB_SPLIT_TEST, FIRST_IMAGES, &job->normalize, loader, error);
    if (status == MQB_OK)
        status = mqb_loader_start(*loader, 0, 0, error);
    return status == MQB_OK ? mqb_loader_next(*loader, batch, error) : status;
}

/* Which layer is at fault. */
static mqb_status diagnose(struct job *job, struct mqb_error *error)
{
    struct mqb_train_result *training = &job->result->training;
    struct mqb_loader *loader = NULL;
    struct mqb_diagnosis diagnosis = {"", ""};
    struct mqb_batch batch;
    mqb_status status = first_images(job, &loader, &batch, error);
    if (status == MQB_OK)
        status = mqb_diagnose(job->quantized, job->points, job->session.compute, job->session.pool, batch.x, batch.num_images,
                              &diagnosis, error);
    mqb_loader_destroy(loader);
    if (diagnosis.tensor[0] != '\0')
        snprintf(training->diverged_where, sizeof training->diverged_where, "\"%.100s\", which %.140s", diagnosis.tensor, diagnosis.what);
    else if (diagnosis.what[0] != '\0' && training->diverged_where[0] == '\0')
        snprintf(training->diverged_where, sizeof training->diverged_where, "%.250s", diagnosis.what);
    return status;
}

/* After training: what diverged is measured if it can be, and the run ends there, with what it has. */
static mqb_status judge_training(struct job *job, struct mqb_error *error)
{
    struct mqb_result *result = job->result;
    struct mqb_train_result *training = &result->training;
    struct mqb_error own = MQB_ERROR_INIT;
    mqb_status status = training->diverged ? MQB_OK : reestimate(job, &own);
    if (status == MQB_OK)
        status = evaluate(job, job->quantized, "evaluate fake", &result->fake, job->fake_logits, &result->seconds_fake, &own);
    result->has_fake = status == MQB_OK;
    if (status != MQB_OK && !(status == MQB_ERR_NUMERIC && training->diverged))
        return mqb_fail(error, status, "%s", own.text);
    if (!training->diverged && result->has_fake && at_chance(job, &result->fake) && !at_chance(job, &result->fp32)) {
        training->diverged = true;
        training->diverged_step = training->steps;
        snprintf(training->diverged_why, sizeof training->diverged_why,
                 "the network learned nothing: %.1f %% of %lld test images right, guessing gives %.1f %%",
                 100.0 * (double)result->fake.top1 / (double)result->fake.n, (long long)result->fake.n, 100.0 / (double)job->classes);
    }
    if (!training->diverged)
        return MQB_OK;
    if ((status = diagnose(job, error)) != MQB_OK)
        return status;
    return mqb_fail(error, MQB_ERR_NUMERIC, "training diverged at step %lld: %s%s%s; try a smaller --lr than %g, or more bits",
                    (long long)training->diverged_step, training->diverged_why,
                    training->diverged_where[0] != '\0' ? "; it began at " : "", training->diverged_where, result->recipe.lr);
}

static mqb_status train(struct job *job, struct mqb_error *error)
{
    struct mqb_result *result = job->result;
    mqb_status status = MQB_OK;
    char *checkpoint = NULL;
    if (job->config->out != NULL) {
        checkpoint = mqb_path_join(job->config->out, "checkpoint.mqb");
        status = checkpoint != NULL ? mqb_dir_create(job->config->out, error) : mqb_fail(error, MQB_ERR_MEMORY, "no memory for a path");
    }
    struct mqb_train_config config = {
        .graph = job->quantized, .points = job->points, .compute = job->session.compute, .pool = job->session.pool,
        .dataset = job->dataset, .normalize = job->normalize, .recipe = &result->recipe, .seed = job->config->seed,
        .checkpoint = checkpoint, .resume = job->config->resume, .progress = job->config->progress,
    };
    if (status == MQB_OK)
        status = mqb_train(&config, &result->training, error);
    result->seconds_train = result->training.seconds;
    if (status == MQB_OK && checkpoint != NULL && result->training.checkpoint_error[0] == '\0')
        status = mqb_result_add_file(result, checkpoint, error);
    mqb_deallocate(checkpoint);
    return status;
}

/* ---- integers ---- */

static mqb_status not_deployable(struct job *job, const char *reason, struct mqb_error *error)
{
    job->result->deployable = false;
    mqb_deallocate(job->result->deploy_reason);
    return copy_text(&job->result->deploy_reason, reason, error);
}

static mqb_status judge_points(struct job *job, struct mqb_error *error)
{
    const struct mqb_backend *backend = job->backend;
    if (!MQB_HAS_FIELD(backend, struct mqb_backend, judge) || backend->judge == NULL)
        return MQB_OK;
    for (int i = 0; i < job->deploy->num_frozen; i++) {
        const struct mqb_frozen *f = &job->deploy->frozen[i];
        struct mqb_qparams qparams = {.struct_size = sizeof qparams, .num_channels = f->num_channels, .scale = f->scale,
                                      .zero_point = f->zero_point, .qmin = f->qmin, .qmax = f->qmax};
        mqb_status status = backend->judge(mqb_host_table(), job->backend_options, job->deploy->graph, f->value, &qparams, error);
        if (status != MQB_OK)
            return status;
    }
    return MQB_OK;
}

/* Lowers, or says why the backend cannot run this network: a verdict, not a failure of the run. */
static mqb_status lower(struct job *job, struct mqb_error *error)
{
    struct mqb_result *result = job->result;
    if (result->forced)
        return MQB_OK;
    if (!job->rules.deployable)
        return not_deployable(job, job->rules.reason != NULL ? job->rules.reason : "the backend says so", error);
    struct mqb_error reason = MQB_ERROR_INIT;
    mqb_status status = mqb_deploy_create(job->quantized, job->points, &job->deploy, &reason);
    if (status == MQB_OK)
        status = judge_points(job, &reason);
    if (status == MQB_OK)
        status = mqb_program_create(job->deploy, &job->rules, job->session.compute, &job->program, &reason);
    if (status == MQB_ERR_MEMORY || status == MQB_ERR_INTERNAL)
        return mqb_fail(error, status, "%s", reason.text);
    if (status != MQB_OK)
        return not_deployable(job, reason.text, error);
    result->deployable = true;
    for (int i = 0; i < job->deploy->num_frozen; i++) {
        const struct mqb_frozen *f = &job->deploy->frozen[i];
        if (f->role != MQB_ROLE_WEIGHT)
            continue;
        result->weight_bytes_fp32 += f->num_codes * 4;
        result->weight_bytes_packed += mqb_packing_code_bytes(f) + mqb_packing_parameter_bytes(f);
    }
    return copy_text(&result->deploy_reason, "", error);
}

/* Folding must not have changed the network: measured, and a reason not to deploy if it did. */
static mqb_status prove_fold(struct job *job, struct mqb_error *error)
{
    struct mqb_result *result = job->result;
    struct mqb_fold_proof proof = {job->quantized, job->points, job->session.compute, job->session.pool};
    struct mqb_loader *loader = NULL;
    struct mqb_batch batch;
    mqb_status status = first_images(job, &loader, &batch, error);
    if (status == MQB_OK)
        status = mqb_fold_prove(&proof, batch.x, batch.num_images, &result->fold_difference, error);
    mqb_loader_destroy(loader);
    result->has_fold = status == MQB_OK;
    if (status != MQB_OK || result->fold_difference <= MQB_FOLD_BOUND)
        return status;
    char reason[256];
    snprintf(reason, sizeof reason,
             "folding batch norm changes the logits by %.2g of the largest, more than the %.0e that rounding explains: a channel's "
             "variance or gamma is nearly 0",
             result->fold_difference, MQB_FOLD_BOUND);
    return not_deployable(job, reason, error);
}

static int64_t argmax(const float *logits, int64_t classes)
{
    int64_t best = 0;
    for (int64_t k = 1; k < classes; k++)
        if (logits[k] > logits[best])
            best = k;
    return best;
}

static mqb_status evaluate_integer(struct job *job, struct mqb_error *error)
{
    struct mqb_result *result = job->result;
    struct mqb_loader *loader = NULL;
    double start = mqb_seconds();
    int64_t done = 0, batches = 0;
    float *logits = mqb_allocate_array(EVALUATION_BATCH * (size_t)job->classes, sizeof *logits);
    mqb_status status = logits == NULL ? mqb_fail(error, MQB_ERR_MEMORY, "no memory for logits")
                                       : mqb_session_loader(job->quantized, job->dataset, MQB_SPLIT_TEST, EVALUATION_BATCH, &job->normalize,
                                                            &loader, error);
    if (status == MQB_OK)
        status = mqb_loader_start(loader, 0, 0, error);
    while (status == MQB_OK) {
        struct mqb_batch batch;
        if ((status = mqb_loader_next(loader, &batch, error)) != MQB_OK || batch.num_images == 0)
            break;
        if ((status = mqb_program_run(job->program, job->session.pool, batch.x, batch.num_images, logits, NULL, error)) != MQB_OK)
            break;
        mqb_accuracy_add(&result->integer, logits, batch.labels, batch.num_images, job->classes);
        for (int i = 0; i < batch.num_images; i++, done++)
            result->labels_agree += argmax(logits + i * job->classes, job->classes) ==
                                    argmax(job->fake_logits + done * job->classes, job->classes);
        result->labels_compared = done;
        batches++;
        if (job->config->progress != NULL && job->config->progress->report != NULL) {
            struct mqb_progress p = {"evaluate integer", batches, (int64_t)mqb_loader_num_batches(loader), NAN,
                                     (double)result->integer.top1 / (double)result->integer.n, mqb_seconds() - start};
            job->config->progress->report(job->config->progress->context, &p);
        }
    }
    mqb_loader_destroy(loader);
    mqb_deallocate(logits);
    result->has_integer = status == MQB_OK;
    result->seconds_integer = mqb_seconds() - start;
    return status;
}

/* A closed library is somewhere between its models. */
static mqb_status bracket(struct job *job, struct mqb_error *error)
{
    struct mqb_bracket_config config = {
        .backend = job->backend, .options = job->backend_options, .rules = &job->rules, .trained = job->quantized, .deploy = job->deploy,
        .compute = job->session.compute, .pool = job->session.pool, .dataset = job->dataset, .normalize = &job->normalize,
        .fake_logits = job->fake_logits,
    };
    return job->config->bracket ? mqb_bracket_run(&config, job->result, error) : MQB_OK;
}

/* Which part of the contract the integer result owes its difference to. */
static mqb_status explain(struct job *job, struct mqb_error *error)
{
    struct mqb_waterfall_config config = {
        .trained = job->quantized, .deploy = job->deploy, .rules = &job->rules, .program = job->program,
        .compute = job->session.compute, .pool = job->session.pool, .dataset = job->dataset, .normalize = &job->normalize,
        .fake_logits = job->fake_logits, .progress = job->config->progress,
    };
    return job->config->explain ? mqb_waterfall_run(&config, job->result, error) : MQB_OK;
}

static mqb_status compare(struct job *job, struct mqb_error *error)
{
    struct mqb_compare_config config = {
        .trained = job->quantized, .deploy = job->deploy, .program = job->program, .contract = &job->rules.contract,
        .compute = job->session.compute, .pool = job->session.pool, .dataset = job->dataset, .normalize = &job->normalize,
    };
    return mqb_compare_layers(&config, job->result, error);
}

static mqb_status prove(struct job *job, struct mqb_error *error)
{
    char *model = mqb_artefacts_model(job->result);
    struct mqb_prove_config config = {
        .home = job->session.home, .dir = job->config->out, .model_name = model, .backend = job->backend, .deploy = job->deploy,
        .program = job->program, .dataset = job->dataset, .normalize = &job->normalize, .pool = job->session.pool,
    };
    mqb_status status = model != NULL ? mqb_prove(&config, job->config->prove, error)
                                      : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the name of the model");
    mqb_deallocate(model);
    return status;
}

/* ---- all of it ---- */

static mqb_status run_stages(struct job *job, struct mqb_error *error)
{
    struct mqb_result *result = job->result;
    mqb_status status = open_components(job, error);
    if (status != MQB_OK || (status = open_model(job, error)) != MQB_OK || (status = open_data(job, error)) != MQB_OK)
        return status;
    /* Everything that can be refused is refused before the first long computation. */
    if ((status = place_points(job, error)) != MQB_OK)
        return status;
    if ((status = evaluate(job, job->fp32, "evaluate FP32", &result->fp32, NULL, &result->seconds_fp32, error)) != MQB_OK)
        return status;
    result->has_fp32 = true;
    if ((status = calibrate(job, error)) != MQB_OK || (result->recipe.epochs == 0 && (status = reestimate(job, error)) != MQB_OK) ||
        (status = evaluate(job, job->quantized, "evaluate calibrated", &result->calibrated, job->fake_logits, &result->seconds_fake,
                           error)) != MQB_OK)
        return status;
    result->has_calibrated = true;
    if (result->recipe.epochs > 0) {
        if ((status = train(job, error)) != MQB_OK || (status = judge_training(job, error)) != MQB_OK)
            return status;
    } else {
        result->fake = result->calibrated;
    }
    result->has_fake = true;
    if ((status = lower(job, error)) != MQB_OK || (result->deployable && (status = prove_fold(job, error)) != MQB_OK))
        return status;
    if (result->deployable) {
        if ((status = evaluate_integer(job, error)) != MQB_OK || (status = compare(job, error)) != MQB_OK ||
            (status = bracket(job, error)) != MQB_OK || (status = explain(job, error)) != MQB_OK)
            return status;
    }
    if (job->config->out != NULL && job->program != NULL)
        status = mqb_artefacts_write(job->config->out, job->deploy, job->program, job->backend, job->backend_options, result, error);
    if (status == MQB_OK && job->config->prove != NULL && job->config->out != NULL && job->program != NULL)
        status = prove(job, error);
    if (status == MQB_OK && result->training.checkpoint_error[0] != '\0')
        status = mqb_fail(error, MQB_ERR_IO, "%s", result->training.checkpoint_error);
    return status;
}

static void close_job(struct job *job)
{
    mqb_program_destroy(job->program);
    mqb_deploy_destroy(job->deploy);
    mqb_points_destroy(job->points);
    mqb_graph_destroy(job->quantized);
    mqb_graph_destroy(job->fp32);
    mqb_dataset_close(job->dataset);
    mqb_options_destroy(job->weight.options);
    mqb_options_destroy(job->activation.options);
    mqb_options_destroy(job->backend_options);
    mqb_deallocate(job->fake_logits);
    mqb_session_close(&job->session);
}

mqb_status mqb_job_run(const struct mqb_job_config *config, struct mqb_result **result, struct mqb_error *error)
{
    struct mqb_error own = MQB_ERROR_INIT;
    struct job job = {.config = config, .result = mqb_allocate(sizeof *job.result)};
    if (job.result == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the result");
    double start = mqb_seconds();
    job.result->weight_bits = config->weight_bits;
    job.result->activation_bits = config->activation_bits;
    job.result->io_bits = config->io_bits;
    job.result->seed = config->seed;
    mqb_status status = config->command_line != NULL ? mqb_result_set_command(job.result, config->command_line, &own) : MQB_OK;
    if (status == MQB_OK && (config->backend == NULL || (config->algo == NULL && (config->weight_algo == NULL || config->act_algo == NULL))))
        status = mqb_fail(&own, MQB_ERR_ARGUMENT, "a job needs a backend and an algorithm (or one for weights and one for activations)");
    if (status == MQB_OK)
        status = run_stages(&job, &own);
    job.result->seconds_total = mqb_seconds() - start;
    job.result->peak_rss = mqb_peak_rss();
    job.result->ended = mqb_strdup(status == MQB_OK ? "" : own.text);
    if (status != MQB_OK)
        mqb_fail(error, status, "%s", own.text);
    close_job(&job);
    if (!job.result->has_fp32) { /* nothing was computed: the sentence is all there is to say */
        mqb_result_destroy(job.result);
        job.result = NULL;
    }
    *result = job.result;
    return status;
}

/* ---- a look inside ---- */

mqb_status mqb_job_visit(const struct mqb_job_config *config, mqb_job_visitor visit, void *context, struct mqb_error *error)
{
    struct job job = {.config = config, .result = mqb_allocate(sizeof *job.result)};
    if (job.result == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a job");
    struct mqb_job_view view = {.job = &job, .session = &job.session, .recipe = &job.result->recipe, .normalize = &job.normalize};
    mqb_status status = open_components(&job, error);
    if (status == MQB_OK)
        status = open_model(&job, error);
    if (status == MQB_OK && config->dataset != NULL)
        status = open_data(&job, error);
    if (status == MQB_OK)
        status = place_points(&job, error);
    if (status == MQB_OK) {
        view.dataset = job.dataset;
        view.graph = job.quantized;
        view.points = job.points;
        view.model = job.result->model_name;
        status = visit(context, &view, error);
    }
    close_job(&job);
    mqb_result_destroy(job.result);
    return status;
}

mqb_status mqb_job_view_lower(struct mqb_job_view *view, struct mqb_error *error)
{
    struct job *job = view->job;
    mqb_status status = lower(job, error);
    if (status != MQB_OK)
        return status;
    if (job->program == NULL)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "no integers to run: %s",
                        job->result->deploy_reason != NULL ? job->result->deploy_reason : "the backend does not deploy");
    view->program = job->program;
    return MQB_OK;
}
