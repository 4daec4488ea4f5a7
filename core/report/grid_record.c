/* grid_record.c - records of the cells of a comparison. */
#include "report/grid_record.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

mqb_status mqb_cell_set_reason(struct mqb_cell *cell, const char *reason, struct mqb_error *error)
{
    mqb_deallocate(cell->reason);
    cell->reason = mqb_strdup(reason != NULL ? reason : "");
    return cell->reason != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for a comparison");
}

/* The name says all that tells cells apart; '/' of "dorefa/pact" is no part of a file name. */
char *mqb_cell_path(const struct mqb_grid_config *config, const struct mqb_cell *cell)
{
    char *name =
        mqb_format("%s_%s_w%da%d_s%llu.json", config->backends[cell->backend], config->algos[cell->algo],
                   config->bits[cell->bits][0], config->bits[cell->bits][1], (unsigned long long)config->seeds[cell->seed]);
    for (char *c = name; c != NULL && *c != '\0'; c++)
        *c = *c == '/' ? '+' : *c;
    char *path = name != NULL ? mqb_path_join(config->folder, name) : NULL;
    mqb_deallocate(name);
    return path;
}

static double real_at(const json_t *root, const char *first, const char *second, const char *third)
{
    const json_t *value = json_object_get(json_object_get(root, first), second);
    if (third != NULL)
        value = json_object_get(value, third);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static bool is_record(const json_t *root)
{
    const char *schema = json_string_value(json_object_get(root, "schema"));
    return schema != NULL && strcmp(schema, MQB_RESULT_SCHEMA) == 0;
}

static mqb_status fill(struct mqb_cell *cell, const json_t *root, struct mqb_error *error)
{
    const json_t *deployable = json_object_get(root, "deployable");
    const char *ended = json_string_value(json_object_get(root, "ended"));
    const char *reason = json_string_value(json_object_get(deployable, "reason"));
    double agree = real_at(root, "agreement", "labels", NULL), images = real_at(root, "agreement", "images", NULL);
    cell->state = ended != NULL ? MQB_CELL_ENDED : MQB_CELL_DONE;
    cell->deployable = json_is_true(json_object_get(deployable, "ok"));
    cell->fp32 = real_at(root, "accuracy", "fp32", "top1");
    cell->fake = real_at(root, "accuracy", "fake", "top1");
    cell->integer = real_at(root, "accuracy", "integer", "top1");
    cell->n_test = (int64_t)real_at(root, "dataset", "n_test", NULL);
    cell->labels_differ = isfinite(agree) && images > 0 ? (int64_t)rint(images * (100.0 - agree) / 100.0) : -1;
    cell->seconds = real_at(root, "time", "total", NULL);
    return mqb_cell_set_reason(cell, ended != NULL ? ended : reason, error);
}

/* Fills the cell from a record; false if the text is no such record. */
bool mqb_cell_read(struct mqb_cell *cell, const char *text, size_t size, struct mqb_error *error, mqb_status *status)
{
    json_t *root = json_loadb(text, size, 0, NULL);
    bool good = is_record(root);
    if (good)
        *status = fill(cell, root, error);
    json_decref(root);
    return good;
}

/* A setting of another cell's backend or algorithm is none of this cell's. */
bool mqb_cell_foreign(const struct mqb_grid_config *config, const struct mqb_cell *cell, const char *key)
{
    size_t length = strcspn(key, ".");
    bool named = false, own = false;
    for (int i = 0; i < config->num_backends; i++)
        if (strlen(config->backends[i]) == length && strncmp(config->backends[i], key, length) == 0) {
            named = true;
            own |= i == cell->backend;
        }
    for (int i = 0; i < config->num_algos; i++) {
        const char *algo = config->algos[i], *slash = strchr(algo, '/');
        size_t first = slash != NULL ? (size_t)(slash - algo) : strlen(algo);
        bool weights = first == length && strncmp(algo, key, length) == 0;
        bool activations = slash != NULL && strlen(slash + 1) == length && strncmp(slash + 1, key, length) == 0;
        named |= weights || activations;
        own |= (weights || activations) && i == cell->algo;
    }
    return named && !own;
}

/* ---- does a record answer what was asked? ---- */

static mqb_status refuse(const char *path, const char *what, const char *there, const char *asked, struct mqb_error *error)
{
    return mqb_fail(error, MQB_ERR_ARGUMENT, "%s is of %s %s, not %s: not of this comparison; name another folder with --out, or remove it",
                    path, what, there, asked);
}

static mqb_status check_text(const char *path, const char *what, const json_t *there, const char *asked, struct mqb_error *error)
{
    const char *text = json_string_value(there);
    return text != NULL && strcmp(text, asked) == 0 ? MQB_OK : refuse(path, what, text != NULL ? text : "?", asked, error);
}

static mqb_status check_number(const char *path, const char *what, const json_t *there, double asked, struct mqb_error *error)
{
    double number = json_is_true(there) ? 1.0 : json_is_false(there) ? 0.0 : json_number_value(there);
    char texts[2][32];
    if (number == asked && there != NULL)
        return MQB_OK;
    snprintf(texts[0], sizeof texts[0], there != NULL ? "%.17g" : "?", number);
    snprintf(texts[1], sizeof texts[1], "%.17g", asked);
    return refuse(path, what, texts[0], texts[1], error);
}

static mqb_status check_recipe(const char *path, const char *key, const char *value, const json_t *recipe, struct mqb_error *error)
{
    struct mqb_options *options = NULL;
    size_t num_specs;
    const struct mqb_option_spec *specs = mqb_recipe_specs(&num_specs);
    mqb_status status = mqb_options_create(specs, num_specs, &options, error);
    if (status == MQB_OK)
        status = mqb_options_set(options, key, value, "--set", error);
    for (size_t i = 0; i < num_specs && status == MQB_OK; i++)
        if (strcmp(specs[i].name, key) == 0)
            status = check_number(path, key, json_object_get(recipe, key),
                                  specs[i].type == MQB_OPTION_REAL ? mqb_option_real(options, key) : (double)mqb_option_int(options, key),
                                  error);
    mqb_options_destroy(options);
    return status;
}

static mqb_status check_setting(const char *path, const char *key, const char *value, const json_t *settings, struct mqb_error *error)
{
    char *pair = mqb_format("%s=%s", key, value);
    if (pair == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a comparison");
    bool found = false;
    for (size_t i = 0; i < json_array_size(settings); i++) {
        const char *setting = json_string_value(json_array_get(settings, i));
        found |= setting != NULL && strcmp(setting, pair) == 0;
    }
    mqb_status status = found ? MQB_OK : refuse(path, "a run without", pair, "with it", error);
    mqb_deallocate(pair);
    return status;
}

static mqb_status check_images(const char *path, const char *what, const json_t *dataset, const char *key, size_t asked,
                               struct mqb_error *error)
{
    return asked == 0 ? MQB_OK : check_number(path, what, json_object_get(dataset, key), (double)asked, error);
}

static mqb_status check_same(const struct mqb_grid_config *config, const char *model_sha256, const struct mqb_cell *cell,
                             const char *path, const json_t *root, struct mqb_error *error)
{
    const struct mqb_job_config *job = &config->job;
    const char *file = job->model != NULL ? job->model : MQB_DEFAULT_MODEL, *slash = strrchr(file, '/');
    const json_t *dataset = json_object_get(root, "dataset"), *model = json_object_get(root, "model");
    mqb_status status;
    if ((status = check_text(path, "model", json_object_get(model, "name"), slash != NULL ? slash + 1 : file, error)) != MQB_OK ||
        (model_sha256[0] != '\0' &&
         (status = check_text(path, "a model with SHA-256", json_object_get(model, "sha256"), model_sha256, error)) != MQB_OK) ||
        (status = check_text(path, "data", json_object_get(dataset, "name"), job->dataset != NULL ? job->dataset : "synth", error)) !=
            MQB_OK ||
        (job->normalize != NULL &&
         (status = check_text(path, "--normalize", json_object_get(dataset, "normalize"), job->normalize, error)) != MQB_OK) ||
        (status = check_images(path, "--train-limit", dataset, "train_limit", job->train_limit, error)) != MQB_OK ||
        (status = check_images(path, "--test-limit", dataset, "test_limit", job->test_limit, error)) != MQB_OK ||
        (status = check_number(path, "--io-bits", json_object_get(json_object_get(root, "bits"), "io"), job->io_bits, error)) != MQB_OK ||
        (job->bn_fold_given && (status = check_number(path, "--bn-fold", json_object_get(root, "bn_fold"), job->bn_fold, error)) != MQB_OK))
        return status;
    for (size_t i = 0; i < job->num_set && status == MQB_OK; i++) {
        const char *key = job->set_keys[i], *value = job->set_values[i];
        if (strncmp(key, "recipe.", 7) == 0)
            status = check_recipe(path, key + 7, value, json_object_get(root, "recipe"), error);
        else if (!mqb_cell_foreign(config, cell, key))
            status = check_setting(path, key, value, json_object_get(root, "settings"), error);
    }
    return status;
}

mqb_status mqb_cell_take(const struct mqb_grid_config *config, const char *model_sha256, struct mqb_cell *cell, const char *path,
                         struct mqb_error *error)
{
    void *text = NULL;
    size_t size;
    mqb_status status = MQB_OK;
    if (!mqb_file_exists(path))
        return MQB_OK;
    if ((status = mqb_file_read(path, (size_t)64 << 20, &text, &size, error)) != MQB_OK)
        return status;
    json_t *root = json_loadb(text, size, 0, NULL);
    if (!is_record(root))
        status = mqb_fail(error, MQB_ERR_FORMAT, "%s is no result record; remove it to run its cell anew", path);
    if (status == MQB_OK)
        status = check_same(config, model_sha256, cell, path, root, error);
    if (status == MQB_OK)
        status = fill(cell, root, error);
    json_decref(root);
    cell->taken = status == MQB_OK;
    mqb_deallocate(text);
    return status;
}
