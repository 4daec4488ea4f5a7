/* job.c - the main job, stage by stage. Each stage reads what the earlier ones left in struct mqb_job and adds to the result. */
#include "report/job.h"

#include "report/artefacts.h"

#include <math.h>
#include <string.h>

#define EVALUATION_BATCH 128
#define CALIBRATION_BYTES ((size_t)512 << 20) /* activations that calibration may keep at once */

static mqb_status evaluate(struct mqb_job *job, struct mqb_graph *graph, const char *phase, struct mqb_accuracy *accuracy, float *logits,
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

static mqb_status calibrate(struct mqb_job *job, struct mqb_error *error)
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
static mqb_status reestimate(struct mqb_job *job, struct mqb_error *error)
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
static bool at_chance(const struct mqb_job *job, const struct mqb_accuracy *accuracy)
{
    double n = (double)accuracy->n, p = 1.0 / (double)job->classes;
    return accuracy->n > 0 && (double)accuracy->top1 <= n * p + 4.0 * sqrt(n * p * (1.0 - p));
}

/* Which layer is at fault. */
static mqb_status diagnose(struct mqb_job *job, struct mqb_error *error)
{
    struct mqb_train_result *training = &job->result->training;
    struct mqb_loader *loader = NULL;
    struct mqb_diagnosis diagnosis = {"", ""};
    struct mqb_batch batch;
    mqb_status status = mqb_job_first_images(job, &loader, &batch, error);
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
static mqb_status judge_training(struct mqb_job *job, struct mqb_error *error)
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

static mqb_status train(struct mqb_job *job, struct mqb_error *error)
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

/* ---- all of it ---- */

static mqb_status run_stages(struct mqb_job *job, struct mqb_error *error)
{
    struct mqb_result *result = job->result;
    mqb_status status = mqb_job_open(job, true, error);
    if (status != MQB_OK)
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
    status = mqb_job_integers(job, error);
    if (status == MQB_OK && result->training.checkpoint_error[0] != '\0')
        status = mqb_fail(error, MQB_ERR_IO, "%s", result->training.checkpoint_error);
    return status;
}

mqb_status mqb_job_run(const struct mqb_job_config *config, struct mqb_result **result, struct mqb_error *error)
{
    struct mqb_error own = MQB_ERROR_INIT;
    struct mqb_job job = {.config = config, .result = mqb_allocate(sizeof *job.result)};
    if (job.result == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the result");
    double start = mqb_seconds();
    job.result->weight_bits = config->weight_bits;
    job.result->activation_bits = config->activation_bits;
    job.result->io_bits = config->io_bits;
    job.result->seed = config->seed;
    job.result->train_limit = config->train_limit;
    job.result->test_limit = config->test_limit;
    mqb_status status = config->command_line != NULL ? mqb_result_set_command(job.result, config->command_line, &own) : MQB_OK;
    if (status == MQB_OK)
        status = mqb_result_set_settings(job.result, config->set_keys, config->set_values, config->num_set, &own);
    if (status == MQB_OK && (config->backend == NULL || (config->algo == NULL && (config->weight_algo == NULL || config->act_algo == NULL))))
        status = mqb_fail(&own, MQB_ERR_ARGUMENT, "a job needs a backend and an algorithm (or one for weights and one for activations)");
    if (status == MQB_OK)
        status = run_stages(&job, &own);
    job.result->seconds_total = mqb_seconds() - start;
    job.result->peak_rss = mqb_peak_rss();
    job.result->ended = mqb_strdup(status == MQB_OK ? "" : own.text);
    if (status != MQB_OK)
        mqb_fail(error, status, "%s", own.text);
    mqb_job_close(&job);
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
    struct mqb_job job = {.config = config, .result = mqb_allocate(sizeof *job.result)};
    if (job.result == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a job");
    struct mqb_job_view view = {.job = &job, .session = &job.session, .recipe = &job.result->recipe, .normalize = &job.normalize};
    mqb_status status = mqb_job_open(&job, false, error);
    if (status == MQB_OK) {
        view.dataset = job.dataset;
        view.graph = job.quantized;
        view.points = job.points;
        view.model = job.result->model_name;
        status = visit(context, &view, error);
    }
    mqb_job_close(&job);
    mqb_result_destroy(job.result);
    return status;
}

mqb_status mqb_job_view_lower(struct mqb_job_view *view, struct mqb_error *error)
{
    struct mqb_job *job = view->job;
    mqb_status status = mqb_job_lower(job, error);
    if (status != MQB_OK)
        return status;
    if (job->program == NULL)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "no integers to run: %s",
                        job->result->deploy_reason != NULL ? job->result->deploy_reason : "the backend does not deploy");
    view->program = job->program;
    return MQB_OK;
}
