/* result.c - the result record: what it owns, and how it is written as JSON. */
#include "report/costs.h"
#include "report/fold_proof.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SIGNIFICANT_DIGITS 15

void mqb_result_destroy(struct mqb_result *result)
{
    if (result == NULL)
        return;
    char *const texts[] = {result->model_name, result->model_sha256,  result->dataset_name, result->dataset_sha256,
                           result->normalize,  result->backend,       result->algo,         result->profile,
                           result->algo_weights, result->algo_activations, result->compute, result->isa,
                           result->deploy_reason, result->first_difference, result->ended};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        mqb_deallocate(texts[i]);
    for (int i = 0; i < result->num_layers; i++) {
        mqb_deallocate(result->layers[i].name);
        mqb_deallocate(result->layers[i].tensor);
        mqb_deallocate(result->layers[i].op);
    }
    for (int i = 0; i < result->num_plugins; i++) {
        mqb_deallocate(result->plugins[i].id);
        mqb_deallocate(result->plugins[i].kind);
        mqb_deallocate(result->plugins[i].version);
    }
    for (int i = 0; i < result->num_files; i++)
        mqb_deallocate(result->files[i]);
    for (int i = 0; i < result->num_command; i++)
        mqb_deallocate(result->command[i]);
    for (int i = 0; i < result->num_settings; i++)
        mqb_deallocate(result->settings[i]);
    for (int i = 0; i < result->num_bracket; i++)
        mqb_deallocate(result->bracket[i].name);
    for (int i = 0; i < result->num_costs; i++) {
        mqb_deallocate(result->costs[i].name);
        mqb_deallocate(result->costs[i].op);
    }
    mqb_deallocate(result->costs);
    mqb_deallocate(result->bracket);
    mqb_deallocate(result->waterfall);
    mqb_deallocate(result->layers);
    mqb_deallocate(result->plugins);
    mqb_deallocate(result->files);
    mqb_deallocate(result->command);
    mqb_deallocate(result->settings);
    mqb_deallocate(result);
}

mqb_status mqb_result_set_command(struct mqb_result *result, const char *const *words, struct mqb_error *error)
{
    size_t num_words = 0;
    if (words == NULL || words[0] == NULL || result->command != NULL)
        return MQB_OK;
    while (words[num_words] != NULL)
        num_words++;
    result->command = mqb_allocate_array(num_words, sizeof *result->command);
    for (size_t i = 0; result->command != NULL && i < num_words; i++)
        if ((result->command[i] = mqb_strdup(words[i])) != NULL)
            result->num_command++;
        else
            break;
    return result->num_command == (int)num_words ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the command line");
}

mqb_status mqb_result_set_settings(struct mqb_result *result, const char *const *keys, const char *const *values, size_t num,
                                   struct mqb_error *error)
{
    result->settings = mqb_allocate_array(num + 1, sizeof *result->settings);
    for (size_t i = 0; result->settings != NULL && i < num; i++) {
        if ((result->settings[i] = mqb_format("%s=%s", keys[i], values[i])) == NULL)
            break;
        result->num_settings++;
    }
    return result->settings != NULL && result->num_settings == (int)num ? MQB_OK
                                                                        : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the settings");
}

void mqb_wilson(int64_t hits, int64_t n, double *low, double *high)
{
    const double z = 1.959963984540054; /* 97.5 % of the normal distribution lie below it */
    *low = 0.0;
    *high = 100.0;
    if (n <= 0)
        return;
    double count = (double)n, p = (double)hits / count, z2 = z * z / count;
    double center = (p + 0.5 * z2) / (1.0 + z2), half = z / (1.0 + z2) * sqrt(p * (1.0 - p) / count + 0.25 * z2 / count);
    if (hits > 0)
        *low = 100.0 * (center - half);
    if (hits < n)
        *high = 100.0 * (center + half);
}

/* ---- JSON: values that may be absent become null; a failed allocation is seen when the tree is written ---- */

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *rounded(double value, double unit)
{
    return number(rint(value / unit) * unit);
}

/* A file name may be any bytes; JSON takes UTF-8 alone. */
static json_t *string(const char *text)
{
    if (text == NULL)
        return json_null();
    json_t *value = json_string(text);
    if (value != NULL)
        return value;
    char *plain = mqb_strdup(text);
    for (char *c = plain; c != NULL && *c != '\0'; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    value = plain == NULL ? NULL : json_string(plain);
    mqb_deallocate(plain);
    return value;
}

static json_t *text_or_null(const char *text)
{
    return text != NULL && text[0] != '\0' ? string(text) : json_null();
}

static json_t *percent(int64_t part, int64_t whole)
{
    return whole > 0 ? rounded(100.0 * (double)part / (double)whole, 1e-6) : json_null();
}

static json_t *accuracy_json(bool has, const struct mqb_accuracy *accuracy)
{
    if (!has || accuracy->n <= 0)
        return json_null();
    double low, high;
    mqb_wilson(accuracy->top1, accuracy->n, &low, &high);
    return json_pack("{s:o, s:o, s:I, s:[o, o]}", "top1", percent(accuracy->top1, accuracy->n), "top5",
                     percent(accuracy->top5, accuracy->n), "n", (json_int_t)accuracy->n, "ci95", rounded(low, 1e-4),
                     rounded(high, 1e-4));
}

static json_t *bracket_json(const struct mqb_result *r)
{
    json_t *profiles = json_array();
    for (int i = 0; i < r->num_bracket; i++) {
        const struct mqb_bracket_profile *p = &r->bracket[i];
        json_array_append_new(profiles, json_pack("{s:s, s:o, s:o}", "profile", p->name, "integer", accuracy_json(true, &p->integer),
                                                  "labels", percent(p->labels_agree, p->integer.n)));
    }
    return profiles;
}

static json_t *recipe_json(const struct mqb_recipe *r)
{
    return json_pack("{s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:b, s:o, s:o, s:i, s:i, s:i, s:b, s:i, s:b}", "epochs", r->epochs, "batch",
                     r->batch, "lr", number(r->lr), "warmup_lr", number(r->warmup_lr), "warmup_epochs", number(r->warmup_epochs),
                     "min_lr", number(r->min_lr), "momentum", number(r->momentum), "nesterov", r->nesterov, "weight_decay",
                     number(r->weight_decay), "decay_norm", r->decay_norm, "quantizer_lr", number(r->quantizer_lr),
                     "label_smoothing", number(r->label_smoothing), "calibration_batches", r->calibration_batches,
                     "calibration_batch", r->calibration_batch, "bn_batches", r->bn_batches, "flip", r->flip, "crop_padding", r->crop_padding, "resized_crop",
                     r->resized_crop);
}

static json_t *training_json(const struct mqb_train_result *t)
{
    bool any = t->steps > 0;
    return json_pack("{s:I, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:I}", "steps", (json_int_t)t->steps, "first_loss",
                     any ? number(t->first_loss) : json_null(), "last_loss", any ? number(t->last_loss) : json_null(), "diverged",
                     t->diverged, "diverged_step", t->diverged ? json_integer((json_int_t)t->diverged_step) : json_null(),
                     "diverged_where", t->diverged ? text_or_null(t->diverged_where) : json_null(), "diverged_why",
                     t->diverged ? text_or_null(t->diverged_why) : json_null(), "seconds", rounded(t->seconds, 1e-3),
                     "step_memory_bytes", (json_int_t)t->step_memory);
}

static json_t *layers_json(const struct mqb_result *result)
{
    json_t *layers = json_array();
    for (int i = 0; i < result->num_layers; i++) {
        const struct mqb_layer_report *l = &result->layers[i];
        json_array_append_new(layers, json_pack("{s:o, s:o, s:o, s:i, s:o, s:i, s:I, s:I, s:I, s:b, s:{s:I, s:I}}", "name", string(l->name), "tensor",
                                                string(l->tensor), "op", string(l->op), "bits", l->bits, "scale", number(l->scale),
                                                "zero_point", l->zero_point, "elements", (json_int_t)l->elements, "differ",
                                                (json_int_t)l->differ, "max_steps", (json_int_t)l->max_steps, "first", l->first, "isolated",
                                                "differ", (json_int_t)l->isolated_differ, "max_steps",
                                                (json_int_t)l->isolated_max_steps));
    }
    return layers;
}

static json_t *waterfall_json(const struct mqb_result *r)
{
    json_t *rows = r->num_waterfall > 0 ? json_array() : json_null();
    for (int i = 0; i < r->num_waterfall; i++) {
        const struct mqb_waterfall_row *row = &r->waterfall[i], *deployed = &r->waterfall[0];
        json_array_append_new(
            rows, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:{s:I, s:I, s:I}}", "factor", row->factor, "layer_images",
                            (json_int_t)row->images, "elements", (json_int_t)row->elements, "differ", (json_int_t)row->differ,
                            "isolated", (json_int_t)row->isolated, "images", (json_int_t)row->integer.n, "labels_differ",
                            (json_int_t)row->labels_differ, "top1", percent(row->integer.top1, row->integer.n), "accounts_for",
                            "differ", (json_int_t)(deployed->differ - row->differ), "isolated",
                            (json_int_t)(deployed->isolated - row->isolated), "labels",
                            (json_int_t)(deployed->labels_differ - row->labels_differ)));
    }
    return rows;
}

static json_t *work_json(const struct mqb_result *result)
{
    int64_t macs, bit_operations;
    json_t *layers = json_array();
    mqb_costs_total(result, &macs, &bit_operations);
    for (int i = 0; i < result->num_costs; i++) {
        const struct mqb_layer_cost *c = &result->costs[i];
        json_array_append_new(layers, json_pack("{s:o, s:o, s:I, s:I, s:i, s:i, s:I}", "name", string(c->name), "op", string(c->op),
                                                "weights", (json_int_t)c->weights, "macs", (json_int_t)c->macs, "weight_bits",
                                                c->weight_bits, "activation_bits", c->activation_bits, "bit_operations",
                                                (json_int_t)(c->macs * c->weight_bits * c->activation_bits)));
    }
    return json_pack("{s:I, s:I, s:o}", "macs", (json_int_t)macs, "bit_operations", (json_int_t)bit_operations, "layers", layers);
}

static json_t *plugins_json(const struct mqb_result *result)
{
    json_t *plugins = json_array();
    for (int i = 0; i < result->num_plugins; i++) {
        const struct mqb_plugin_use *p = &result->plugins[i];
        json_array_append_new(plugins, json_pack("{s:o, s:o, s:o, s:o}", "kind", string(p->kind), "id", string(p->id), "version",
                                                 string(p->version), "sha256", string(p->sha256)));
    }
    return plugins;
}

static json_t *strings_json(char *const *texts, int num_texts)
{
    json_t *array = json_array();
    for (int i = 0; i < num_texts; i++)
        json_array_append_new(array, string(texts[i]));
    return array;
}

/* What ran. */
static void add_setup(json_t *root, const struct mqb_result *r)
{
    json_object_set_new(root, "schema", json_string(MQB_RESULT_SCHEMA));
    json_object_set_new(root, "command", strings_json(r->command, r->num_command));
    json_object_set_new(root, "model", json_pack("{s:o, s:o}", "name", string(r->model_name), "sha256", string(r->model_sha256)));
    json_object_set_new(root, "dataset",
                        json_pack("{s:o, s:o, s:s, s:I, s:I, s:I, s:I, s:o, s:b}", "name", string(r->dataset_name), "sha256",
                                  string(r->dataset_sha256), "split", "test", "n_train", (json_int_t)r->n_train, "n_test",
                                  (json_int_t)r->n_test, "train_limit", (json_int_t)r->train_limit, "test_limit",
                                  (json_int_t)r->test_limit, "normalize", string(r->normalize), "normalize_assumed",
                                  r->normalize_assumed));
    json_object_set_new(root, "backend", string(r->backend));
    json_object_set_new(root, "profile", text_or_null(r->profile));
    json_object_set_new(root, "algo", string(r->algo));
    json_object_set_new(root, "algo_weights", string(r->algo_weights));
    json_object_set_new(root, "algo_activations", string(r->algo_activations));
    json_object_set_new(root, "bits", json_pack("{s:i, s:i, s:i}", "weights", r->weight_bits, "activations", r->activation_bits, "io",
                                                r->io_bits));
    json_object_set_new(root, "bn_fold", json_integer(r->bn_fold));
    json_object_set_new(root, "seed", json_integer((json_int_t)r->seed));
    json_object_set_new(root, "threads", json_integer(r->threads));
    json_object_set_new(root, "compute", json_pack("{s:o, s:o}", "id", string(r->compute), "isa", string(r->isa)));
    json_object_set_new(root, "recipe", recipe_json(&r->recipe));
    json_object_set_new(root, "settings", strings_json(r->settings, r->num_settings));
}

/* What came out. */
static void add_outcome(json_t *root, const struct mqb_result *r)
{
    bool compared = r->compare_images > 0, agreed = r->labels_compared > 0;
    json_object_set_new(root, "accuracy", json_pack("{s:o, s:o, s:o, s:o}", "fp32", accuracy_json(r->has_fp32, &r->fp32), "calibrated",
                                                    accuracy_json(r->has_calibrated, &r->calibrated), "fake",
                                                    accuracy_json(r->has_fake, &r->fake), "integer",
                                                    accuracy_json(r->has_integer, &r->integer)));
    if (r->num_bracket > 0)
        json_object_set_new(root, "bracket", bracket_json(r));
    json_object_set_new(root, "agreement",
                        json_pack("{s:o, s:I, s:o, s:I}", "labels", percent(r->labels_agree, r->labels_compared), "images",
                                  (json_int_t)(agreed ? r->labels_compared : 0), "max_steps",
                                  compared ? json_integer((json_int_t)r->max_steps) : json_null(), "layer_images",
                                  (json_int_t)r->compare_images));
    json_object_set_new(root, "folding",
                        r->has_fold ? json_pack("{s:o, s:f}", "difference", number(r->fold_difference), "bound", MQB_FOLD_BOUND)
                                    : json_null());
    json_object_set_new(root, "layers", layers_json(r));
    json_object_set_new(root, "first_difference", text_or_null(r->first_difference));
    json_object_set_new(root, "waterfall", waterfall_json(r));
    json_object_set_new(root, "deployable", json_pack("{s:b, s:b, s:o, s:s}", "ok", r->deployable, "forced", r->forced, "reason",
                                                      text_or_null(r->deploy_reason), "certainty", r->bracketed ? "bracketed" : "exact"));
    json_object_set_new(root, "sizes", json_pack("{s:I, s:I, s:i, s:i}", "weights_fp32_bytes", (json_int_t)r->weight_bytes_fp32,
                                                 "weights_packed_bytes", (json_int_t)r->weight_bytes_packed, "weight_points",
                                                 r->num_weight_points, "activation_points", r->num_activation_points));
    json_object_set_new(root, "work", work_json(r));
    json_object_set_new(root, "training", training_json(&r->training));
    json_object_set_new(root, "time",
                        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "fp32", rounded(r->seconds_fp32, 1e-3), "calibrate",
                                  rounded(r->seconds_calibrate, 1e-3), "train", rounded(r->seconds_train, 1e-3), "fake",
                                  rounded(r->seconds_fake, 1e-3), "integer", rounded(r->seconds_integer, 1e-3), "total",
                                  rounded(r->seconds_total, 1e-3)));
    json_object_set_new(root, "memory", json_pack("{s:I}", "peak_rss_bytes", (json_int_t)r->peak_rss));
    json_object_set_new(root, "plugins", plugins_json(r));
    json_object_set_new(root, "files", strings_json(r->files, r->num_files));
    json_object_set_new(root, "ended", text_or_null(r->ended));
}

/* Writes the tree and drops it. num_keys: how many there must be; fewer means that memory ran out on the way. */
static mqb_status dump(json_t *root, size_t num_keys, char **text, struct mqb_error *error)
{
    char *dumped = json_object_size(root) == num_keys ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(SIGNIFICANT_DIGITS)) : NULL;
    size_t length = dumped == NULL ? 0 : strlen(dumped);
    char *copy = dumped == NULL ? NULL : mqb_allocate(length + 2);
    if (copy != NULL) {
        memcpy(copy, dumped, length);
        copy[length] = '\n';
    }
    free(dumped);
    json_decref(root);
    if (copy == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory to write the result record as JSON");
    *text = copy;
    return MQB_OK;
}

mqb_status mqb_result_json(const struct mqb_result *result, char **text, struct mqb_error *error)
{
    json_t *root = json_object();
    add_setup(root, result);
    add_outcome(root, result);
    return dump(root, result->num_bracket > 0 ? 32 : 31, text, error);
}

mqb_status mqb_fp32_json(const char *command, const struct mqb_fp32_config *config, const struct mqb_fp32_result *result,
                         char **text, struct mqb_error *error)
{
    json_t *root = json_object();
    json_object_set_new(root, "schema", json_string(MQB_FP32_SCHEMA));
    json_object_set_new(root, "command", string(command));
    json_object_set_new(root, "model", json_pack("{s:o, s:o, s:I}", "name", string(config->model), "sha256",
                                                 text_or_null(result->model_sha256), "parameters", (json_int_t)result->num_parameters));
    json_object_set_new(root, "dataset", json_pack("{s:o, s:s, s:I, s:o, s:b}", "name", string(config->dataset), "split", "test", "n_test",
                                                   (json_int_t)result->accuracy.n, "normalize", string(result->normalize),
                                                   "normalize_assumed", result->normalize_assumed));
    json_object_set_new(root, "seed", json_integer((json_int_t)config->seed));
    json_object_set_new(root, "accuracy", json_pack("{s:o}", "fp32", accuracy_json(true, &result->accuracy)));
    json_object_set_new(root, "training", training_json(&result->training));
    json_object_set_new(root, "time", json_pack("{s:o}", "total", rounded(result->seconds, 1e-3)));
    json_object_set_new(root, "memory", json_pack("{s:I}", "peak_rss_bytes", (json_int_t)mqb_peak_rss()));
    return dump(root, 9, text, error);
}
