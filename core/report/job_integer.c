/* job_integer.c - the trained graph in the backend's integers: lowered, measured, held against fake quantization, written. */
#include "report/job.h"

#include "report/artefacts.h"
#include "report/bracket.h"
#include "report/compare.h"
#include "report/fold_proof.h"
#include "report/packing.h"
#include "report/prove.h"
#include "report/waterfall.h"

static mqb_status not_deployable(struct mqb_job *job, const char *reason, struct mqb_error *error)
{
    job->result->deployable = false;
    mqb_deallocate(job->result->deploy_reason);
    return mqb_job_copy_text(&job->result->deploy_reason, reason, error);
}

static mqb_status judge_points(struct mqb_job *job, struct mqb_error *error)
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

mqb_status mqb_job_lower(struct mqb_job *job, struct mqb_error *error)
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
    return mqb_job_copy_text(&result->deploy_reason, "", error);
}

/* Folding must not have changed the network: measured, and a reason not to deploy if it did. */
static mqb_status prove_fold(struct mqb_job *job, struct mqb_error *error)
{
    struct mqb_result *result = job->result;
    struct mqb_fold_proof proof = {job->quantized, job->points, job->session.compute, job->session.pool};
    struct mqb_loader *loader = NULL;
    struct mqb_batch batch;
    mqb_status status = mqb_job_first_images(job, &loader, &batch, error);
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

static struct mqb_integer_test test_of(const struct mqb_job *job, const struct mqb_progress_sink *progress)
{
    return (struct mqb_integer_test){job->quantized, job->dataset, &job->normalize, job->session.pool, job->fake_logits, progress};
}

static mqb_status evaluate_integer(struct mqb_job *job, struct mqb_error *error)
{
    struct mqb_result *result = job->result;
    const struct mqb_integer_test test = test_of(job, job->config->progress);
    double start = mqb_seconds();
    mqb_status status = mqb_integer_test(&test, job->program, 0, &result->integer, &result->labels_agree, error);
    result->labels_compared = result->integer.n;
    result->has_integer = status == MQB_OK;
    result->seconds_integer = mqb_seconds() - start;
    return status;
}

/* A closed library is somewhere between its models. */
static mqb_status bracket(struct mqb_job *job, struct mqb_error *error)
{
    struct mqb_bracket_config config = {
        .backend = job->backend, .options = job->backend_options, .rules = &job->rules, .deploy = job->deploy,
        .compute = job->session.compute, .test = test_of(job, NULL),
    };
    return job->config->bracket ? mqb_bracket_run(&config, job->result, error) : MQB_OK;
}

/* Which part of the contract the integer result owes its difference to. */
static mqb_status waterfall(struct mqb_job *job, struct mqb_error *error)
{
    struct mqb_waterfall_config config = {
        .deploy = job->deploy, .rules = &job->rules, .program = job->program, .compute = job->session.compute,
        .test = test_of(job, NULL), .progress = job->config->progress,
    };
    return job->config->waterfall ? mqb_waterfall_run(&config, job->result, error) : MQB_OK;
}

static mqb_status compare(struct mqb_job *job, struct mqb_error *error)
{
    struct mqb_compare_config config = {
        .trained = job->quantized, .deploy = job->deploy, .program = job->program, .contract = &job->rules.contract,
        .compute = job->session.compute, .pool = job->session.pool, .dataset = job->dataset, .normalize = &job->normalize,
    };
    return mqb_compare_layers(&config, job->result, error);
}

static mqb_status prove(struct mqb_job *job, struct mqb_error *error)
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

mqb_status mqb_job_integers(struct mqb_job *job, struct mqb_error *error)
{
    struct mqb_result *result = job->result;
    mqb_status status = mqb_job_lower(job, error);
    if (status != MQB_OK || (result->deployable && (status = prove_fold(job, error)) != MQB_OK))
        return status;
    if (result->deployable &&
        ((status = evaluate_integer(job, error)) != MQB_OK || (status = compare(job, error)) != MQB_OK ||
         (status = bracket(job, error)) != MQB_OK || (status = waterfall(job, error)) != MQB_OK))
        return status;
    if (job->config->out == NULL || job->program == NULL)
        return MQB_OK;
    status = mqb_artefacts_write(job->config->out, job->deploy, job->program, job->backend, job->backend_options, result, error);
    return status == MQB_OK && job->config->prove != NULL ? prove(job, error) : status;
}
