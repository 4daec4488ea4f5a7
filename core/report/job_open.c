/* job_open.c - from the words of a command line to components, a network, its images, and a graph with quantization points. */
#include "report/job.h"

#include "report/costs.h"
#include "report/prepare.h"

#include <string.h>

#define FIRST_IMAGES 64

mqb_status mqb_job_copy_text(char **field, const char *text, struct mqb_error *error)
{
    *field = mqb_strdup(text);
    return *field != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the result");
}

/* ---- words to components ---- */

static struct mqb_prepare words_of(const struct mqb_job *job)
{
    return (struct mqb_prepare){job->session.registry, job->config->set_keys, job->config->set_values, job->config->num_set};
}

static mqb_status use_plugin(struct mqb_job *job, const struct mqb_entry *entry, struct mqb_error *error)
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
    mqb_status status = mqb_job_copy_text(&use->id, entry->id, error);
    if (status == MQB_OK)
        status = mqb_job_copy_text(&use->kind, mqb_kind_name(entry->kind), error);
    if (status == MQB_OK)
        status = mqb_job_copy_text(&use->version, entry->plugin_version != NULL ? entry->plugin_version : "", error);
    return status;
}

static mqb_status find_quantizer(struct mqb_job *job, const char *id, uint32_t role_flag, struct mqb_quantizer_use *use, struct mqb_error *error)
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
static mqb_status check_deployable(struct mqb_job *job, const struct mqb_quantizer_use *use, int role, struct mqb_error *error)
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
static mqb_status check_settings(const struct mqb_job *job, struct mqb_error *error)
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

static mqb_status open_components(struct mqb_job *job, struct mqb_error *error)
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
    if ((status = mqb_job_copy_text(&result->backend, config->backend, error)) != MQB_OK ||
        (status = mqb_job_copy_text(&result->algo, config->algo != NULL ? config->algo : weight_algo, error)) != MQB_OK ||
        (status = mqb_job_copy_text(&result->algo_weights, weight_algo, error)) != MQB_OK ||
        (status = mqb_job_copy_text(&result->algo_activations, act_algo, error)) != MQB_OK ||
        (status = mqb_job_copy_text(&result->profile, job->rules.contract.profile != NULL ? job->rules.contract.profile : "", error)) != MQB_OK ||
        (status = mqb_job_copy_text(&result->compute, job->session.compute_entry->id, error)) != MQB_OK)
        return status;
    const struct mqb_compute *compute = job->session.compute;
    const char *isa = MQB_HAS_FIELD(compute, struct mqb_compute, isa) && compute->isa != NULL ? compute->isa(mqb_host_table()) : "";
    return mqb_job_copy_text(&result->isa, isa, error);
}

/* ---- model and data ---- */

/* Where both algorithms end with calibration there is nothing to train, unless epochs are asked for by name. */
static void drop_training(struct mqb_job *job)
{
    if (!(job->weight.vtable->flags & job->activation.vtable->flags & MQB_QUANTIZER_POST_TRAINING))
        return;
    for (size_t i = 0; i < job->config->num_set; i++)
        if (strcmp(job->config->set_keys[i], "recipe.epochs") == 0)
            return;
    job->result->recipe.epochs = 0;
}

static mqb_status open_model(struct mqb_job *job, struct mqb_error *error)
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
    if ((status = mqb_job_copy_text(&result->model_name, name, error)) != MQB_OK || (status = mqb_job_copy_text(&result->model_sha256, hex, error)) != MQB_OK)
        return status;
    job->classes = mqb_value_size(&job->fp32->values[job->fp32->output]);
    int bits = config->weight_bits < config->activation_bits ? config->weight_bits : config->activation_bits;
    status = mqb_session_recipe(&job->session, config->recipe, name, bits, config->set_keys, config->set_values, config->num_set,
                                &result->recipe, error);
    if (status == MQB_OK)
        drop_training(job);
    return status;
}

static mqb_status open_data(struct mqb_job *job, struct mqb_error *error)
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
    if ((status = mqb_job_copy_text(&result->dataset_name, job->dataset->name, error)) != MQB_OK ||
        (status = mqb_job_copy_text(&result->dataset_sha256, job->dataset->sha256, error)) != MQB_OK ||
        (status = mqb_job_copy_text(&result->normalize, job->normalize.text, error)) != MQB_OK)
        return status;
    if (result->n_test == 0)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "%s has no test images; accuracy cannot be measured: give test=...", job->dataset->name);
    job->fake_logits = mqb_allocate_array(result->n_test * (size_t)job->classes, sizeof *job->fake_logits);
    return job->fake_logits != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the logits of %zu images", result->n_test);
}

/* ---- the quantized graph ---- */

static mqb_status run_passes(struct mqb_job *job, struct mqb_error *error)
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
static mqb_status rehearse(struct mqb_job *job, const struct mqb_points_config *points, struct mqb_error *error)
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

static mqb_status place_points(struct mqb_job *job, struct mqb_error *error)
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

mqb_status mqb_job_open(struct mqb_job *job, bool data, struct mqb_error *error)
{
    mqb_status status = open_components(job, error);
    if (status == MQB_OK)
        status = open_model(job, error);
    if (status == MQB_OK && (data || job->config->dataset != NULL))
        status = open_data(job, error);
    return status == MQB_OK ? place_points(job, error) : status;
}

mqb_status mqb_job_first_images(struct mqb_job *job, struct mqb_loader **loader, struct mqb_batch *batch, struct mqb_error *error)
{
    mqb_status status = mqb_session_loader(job->quantized, job->dataset, MQB_SPLIT_TEST, FIRST_IMAGES, &job->normalize, loader, error);
    if (status == MQB_OK)
        status = mqb_loader_start(*loader, 0, 0, error);
    return status == MQB_OK ? mqb_loader_next(*loader, batch, error) : status;
}

void mqb_job_close(struct mqb_job *job)
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
