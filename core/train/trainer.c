/* trainer.c - epochs of steps: batch, forward, loss, backward, update. */
#include "train/train.h"

#include <math.h>
#include <string.h>

struct training {
    const struct mqb_train_config *config;
    struct mqb_exec *exec;
    struct mqb_loader *loader;
    struct mqb_optimizer *optimizer;
    struct mqb_checkpoint_place place;
    int64_t steps_per_epoch, warmup, total;
};

static mqb_status start(struct training *training, struct mqb_error *error)
{
    const struct mqb_train_config *config = training->config;
    const struct mqb_recipe *recipe = config->recipe;
    const struct mqb_value *input = &config->graph->values[config->graph->input];
    if ((size_t)recipe->batch > config->dataset->num[MQB_SPLIT_TRAIN])
        return mqb_fail(error, MQB_ERR_ARGUMENT, "%s has %zu training images, fewer than one batch of %d; give more images or a smaller --batch",
                        config->dataset->name, config->dataset->num[MQB_SPLIT_TRAIN], recipe->batch);
    struct mqb_loader_config loader = {
        .split = MQB_SPLIT_TRAIN, .batch = recipe->batch, .size = (int32_t)input->dims[2], .normalize = config->normalize,
        .augment = {recipe->flip, recipe->crop_padding, recipe->resized_crop}, .shuffle = true, .drop_last = true, .seed = config->seed,
    };
    struct mqb_exec_config exec = {
        .graph = config->graph, .host = mqb_host_table(), .compute = config->compute, .pool = config->pool, .batch = recipe->batch, .training = true,
        .gradients = true,
    };
    mqb_status status = mqb_loader_create(config->dataset, &loader, &training->loader, error);
    if (status == MQB_OK)
        status = mqb_exec_create(&exec, &training->exec, error);
    if (status == MQB_OK)
        status = mqb_optimizer_create(config->graph, training->exec, config->points, config->pool, recipe, &training->optimizer, error);
    if (status != MQB_OK)
        return status;
    training->steps_per_epoch = (int64_t)mqb_loader_num_batches(training->loader);
    training->total = training->steps_per_epoch * recipe->epochs;
    training->warmup = (int64_t)(recipe->warmup_epochs * (double)training->steps_per_epoch);
    if (training->warmup > training->total)
        training->warmup = training->total;
    training->place = (struct mqb_checkpoint_place){.seed = config->seed};
    if (config->resume && config->checkpoint != NULL && mqb_file_exists(config->checkpoint)) {
        status = mqb_checkpoint_load(config->checkpoint, config->graph, config->points, training->optimizer, &training->place, error);
        if (status == MQB_OK && training->place.seed != config->seed)
            status = mqb_fail(error, MQB_ERR_ARGUMENT, "%s: was made with --seed %llu, this run has --seed %llu; use the same seed",
                              config->checkpoint, (unsigned long long)training->place.seed, (unsigned long long)config->seed);
    }
    return status;
}

/* A checkpoint that cannot be written (a full disk) is no reason to lose the training. */
static void save(const struct training *training, struct mqb_train_result *result)
{
    const struct mqb_train_config *config = training->config;
    struct mqb_error error = MQB_ERROR_INIT;
    if (config->checkpoint == NULL)
        return;
    if (mqb_checkpoint_save(config->checkpoint, config->graph, config->points, training->optimizer, &training->place, &error) == MQB_OK)
        return;
    if (result->checkpoint_error[0] == '\0')
        mqb_log(MQB_LOG_WARNING, "%s; the training goes on without a checkpoint", error.text);
    snprintf(result->checkpoint_error, sizeof result->checkpoint_error, "%.511s", error.text);
}

static void diverged(const struct training *training, struct mqb_train_result *result, const char *why)
{
    result->diverged = true;
    result->diverged_step = training->place.steps;
    snprintf(result->diverged_why, sizeof result->diverged_why, "%.250s", why);
    /* The first parameter that is not finite, by name. */
    for (int i = 0; i < mqb_optimizer_num_params(training->optimizer); i++) {
        const char *name;
        float *value, *velocity;
        int64_t size;
        mqb_optimizer_param(training->optimizer, i, &name, &value, &velocity, &size);
        for (int64_t k = 0; k < size; k++)
            if (!isfinite(value[k])) {
                snprintf(result->diverged_where, sizeof result->diverged_where, "%s", name);
                return;
            }
    }
}

/* Windows of steps whose mean loss is compared with the first one's. */
#define WINDOW 20

struct watch {
    double sum, reference;
    int count;
};

/* True if the loss has blown up; `why` says by how much. */
static bool watch_loss(struct watch *watch, double loss, double chance, char *why, size_t why_size)
{
    watch->sum += loss;
    if (++watch->count < WINDOW)
        return false;
    double mean = watch->sum / WINDOW;
    watch->sum = 0.0;
    watch->count = 0;
    if (watch->reference == 0.0) {
        watch->reference = mean > chance ? mean : chance;
        return false;
    }
    if (mean <= MQB_BLOWUP * watch->reference)
        return false;
    snprintf(why, why_size, "the loss has grown to %.4g, from %.4g", mean, watch->reference);
    return true;
}

static mqb_status train_batch(struct training *training, const struct mqb_batch *batch, double *loss, int *hits, struct mqb_error *error)
{
    const struct mqb_recipe *recipe = training->config->recipe;
    mqb_status status = mqb_exec_forward(training->exec, batch->x, batch->num_images, error);
    if (status == MQB_OK)
        status = mqb_exec_loss(training->exec, batch->labels, recipe->label_smoothing, loss, hits, error);
    if (status != MQB_OK || !isfinite(*loss))
        return status;
    if ((status = mqb_exec_backward(training->exec, error)) == MQB_OK)
        mqb_optimizer_step(training->optimizer,
                           mqb_schedule_lr(recipe, training->place.steps, training->warmup, training->total));
    return status;
}

mqb_status mqb_train(const struct mqb_train_config *config, struct mqb_train_result *result, struct mqb_error *error)
{
    struct training training = {.config = config};
    struct mqb_checkpoint_place *place = &training.place;
    double start_time = mqb_seconds(), loss = NAN;
    int64_t done = 0;
    memset(result, 0, sizeof *result);
    result->first_loss = result->last_loss = NAN;
    mqb_status status = start(&training, error);
    bool stopped = false;
    struct watch watch = {0};
    const double chance = mqb_ln((double)mqb_value_size(&config->graph->values[config->graph->output]));
    while (status == MQB_OK && !stopped && place->epoch < (uint64_t)config->recipe->epochs) {
        double hits_sum = 0.0, images = 0.0;
        status = mqb_loader_start(training.loader, place->epoch, place->batch, error);
        while (status == MQB_OK && !stopped) {
            struct mqb_batch batch;
            int hits = 0;
            status = mqb_loader_next(training.loader, &batch, error);
            if (status != MQB_OK || batch.num_images == 0)
                break;
            struct mqb_error failure = MQB_ERROR_INIT;
            char why[128] = "the loss is not finite";
            status = train_batch(&training, &batch, &loss, &hits, &failure);
            if (status == MQB_ERR_NUMERIC || (status == MQB_OK && !isfinite(loss)) ||
                (status == MQB_OK && watch_loss(&watch, loss, chance, why, sizeof why))) {
                diverged(&training, result, status == MQB_OK ? why : failure.text);
                status = MQB_OK;
                goto out;
            }
            if (status != MQB_OK) {
                mqb_fail(error, status, "%s", failure.text);
                break;
            }
            place->steps++;
            place->batch++;
            place->epoch_loss += loss;
            hits_sum += hits;
            images += batch.num_images;
            stopped = config->stop_after > 0 && ++done >= config->stop_after;
            if (config->progress != NULL && config->progress->report != NULL) {
                struct mqb_progress p = {"train", place->steps, training.total, loss, hits_sum / images, mqb_seconds() - start_time};
                config->progress->report(config->progress->context, &p);
            }
        }
        if (status != MQB_OK)
            break;
        if (place->batch > 0)
            result->last_loss = place->epoch_loss / (double)place->batch;
        if (place->epoch == 0)
            place->first_loss = result->last_loss;
        if (!stopped || place->batch == (uint64_t)training.steps_per_epoch) {
            place->epoch++;
            place->batch = 0;
            place->epoch_loss = 0.0;
        }
        save(&training, result);
    }
out:
    result->steps = place->steps;
    result->first_loss = place->first_loss;
    result->seconds = mqb_seconds() - start_time;
    result->step_memory = training.exec != NULL ? mqb_exec_memory(training.exec) : 0;
    mqb_optimizer_destroy(training.optimizer);
    mqb_exec_destroy(training.exec);
    mqb_loader_destroy(training.loader);
    return status;
}
