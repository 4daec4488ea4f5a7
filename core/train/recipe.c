/* recipe.c - the numbers of a run: one table of keys serves INI files, the command line and the help. */
#include "train/train.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static const struct mqb_option_spec specs[] = {
    {"epochs", MQB_OPTION_INT, 0, "5", 0, 100000, NULL, "passes over the training images; 0: calibration only"},
    {"batch", MQB_OPTION_INT, 0, "128", 1, 65536, NULL, "images a training step"},
    {"lr", MQB_OPTION_REAL, 0, "0.01", 0, 1000, NULL, "peak learning rate"},
    {"warmup_lr", MQB_OPTION_REAL, 0, "0.0001", 0, 1000, NULL, "learning rate of the first step"},
    {"warmup_epochs", MQB_OPTION_REAL, 0, "0.2", 0, 100000, NULL, "linear warm-up from warmup_lr to lr"},
    {"min_lr", MQB_OPTION_REAL, 0, "0", 0, 1000, NULL, "learning rate at the end of the cosine"},
    {"momentum", MQB_OPTION_REAL, 0, "0.9", 0, 0.9999, NULL, "of SGD"},
    {"nesterov", MQB_OPTION_BOOL, 0, "yes", 0, 1, NULL, "Nesterov momentum"},
    {"weight_decay", MQB_OPTION_REAL, 0, "0.0001", 0, 10, NULL, "L2 on weights (not on quantizer parameters)"},
    {"decay_norm", MQB_OPTION_BOOL, 0, "yes", 0, 1, NULL, "weight decay on batch norm parameters and biases too"},
    {"quantizer_lr", MQB_OPTION_REAL, 0, "1", 0, 1000, NULL, "learning rate of quantizer parameters, as a multiple"},
    {"label_smoothing", MQB_OPTION_REAL, 0, "0.1", 0, 0.99, NULL, "share of the target spread over all classes"},
    {"calibration_batches", MQB_OPTION_INT, 0, "8", 1, 100000, NULL, "batches that set the first scales"},
    {"calibration_batch", MQB_OPTION_INT, 0, "128", 1, 65536, NULL, "images a calibration batch"},
    {"bn_batches", MQB_OPTION_INT, 0, "0", 0, 100000, NULL,
     "batches over which batch norm statistics are estimated anew, under quantization; 0: kept"},
    {"flip", MQB_OPTION_BOOL, 0, "yes", 0, 1, NULL, "augmentation: mirror each image with probability one half"},
    {"crop_padding", MQB_OPTION_INT, 0, "4", 0, 64, NULL, "augmentation: pad, then crop at random"},
    {"resized_crop", MQB_OPTION_BOOL, 0, "no", 0, 1, NULL, "augmentation: random resized crop (folders of images)"},
};

const struct mqb_option_spec *mqb_recipe_specs(size_t *num_specs)
{
    *num_specs = sizeof specs / sizeof specs[0];
    return specs;
}

static void assign(struct mqb_recipe *recipe, const char *key, double value)
{
    const struct {
        const char *key;
        int32_t *integer;
        double *real;
        bool *flag;
    } fields[] = {
        {"epochs", &recipe->epochs, NULL, NULL},
        {"batch", &recipe->batch, NULL, NULL},
        {"lr", NULL, &recipe->lr, NULL},
        {"warmup_lr", NULL, &recipe->warmup_lr, NULL},
        {"warmup_epochs", NULL, &recipe->warmup_epochs, NULL},
        {"min_lr", NULL, &recipe->min_lr, NULL},
        {"momentum", NULL, &recipe->momentum, NULL},
        {"nesterov", NULL, NULL, &recipe->nesterov},
        {"weight_decay", NULL, &recipe->weight_decay, NULL},
        {"decay_norm", NULL, NULL, &recipe->decay_norm},
        {"quantizer_lr", NULL, &recipe->quantizer_lr, NULL},
        {"label_smoothing", NULL, &recipe->label_smoothing, NULL},
        {"calibration_batches", &recipe->calibration_batches, NULL, NULL},
        {"calibration_batch", &recipe->calibration_batch, NULL, NULL},
        {"bn_batches", &recipe->bn_batches, NULL, NULL},
        {"flip", NULL, NULL, &recipe->flip},
        {"crop_padding", &recipe->crop_padding, NULL, NULL},
        {"resized_crop", NULL, NULL, &recipe->resized_crop},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (strcmp(fields[i].key, key) != 0)
            continue;
        if (fields[i].integer != NULL)
            *fields[i].integer = (int32_t)value;
        else if (fields[i].real != NULL)
            *fields[i].real = value;
        else
            *fields[i].flag = value != 0.0;
    }
}

/* The option machinery checks type, range and spelling; then the number goes to its field. */
mqb_status mqb_recipe_set(struct mqb_recipe *recipe, const char *key, const char *value, const char *where, struct mqb_error *error)
{
    struct mqb_options *options = NULL;
    mqb_status status = mqb_options_create(specs, sizeof specs / sizeof specs[0], &options, error);
    if (status != MQB_OK)
        return status;
    status = mqb_options_set(options, key, value, where, error);
    for (size_t i = 0; status == MQB_OK && i < sizeof specs / sizeof specs[0]; i++)
        if (strcmp(specs[i].name, key) == 0)
            assign(recipe, key, specs[i].type == MQB_OPTION_REAL ? mqb_option_real(options, key) : (double)mqb_option_int(options, key));
    mqb_options_destroy(options);
    return status;
}

void mqb_recipe_defaults(struct mqb_recipe *recipe)
{
    memset(recipe, 0, sizeof *recipe);
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++)
        mqb_recipe_set(recipe, specs[i].name, specs[i].default_value, "default", NULL);
}

struct reading {
    struct mqb_recipe *recipe;
    const char *path, *model;
    int bits;
    int pass; /* 0: [recipe], 1: [model ...], 2: [bits ...] */
};

/* Which pass a section belongs to, or -1: unknown. `applies`: it is meant for this run. */
static int section_pass(const struct reading *reading, const char *section, bool *applies)
{
    *applies = true;
    if (strcmp(section, "recipe") == 0)
        return 0;
    if (strncmp(section, "model ", 6) == 0) {
        *applies = reading->model != NULL && fnmatch(section + 6, reading->model, 0) == 0;
        return 1;
    }
    char *end;
    long bits = strncmp(section, "bits ", 5) == 0 ? strtol(section + 5, &end, 10) : 0;
    if (bits < 2 || bits > 32 || *end != '\0')
        return -1;
    *applies = bits == reading->bits;
    return 2;
}

static mqb_status on_key(void *user, const char *section, const char *key, const char *value, int line, struct mqb_error *error)
{
    struct reading *reading = user;
    bool applies;
    int pass = section_pass(reading, section, &applies);
    if (pass < 0)
        return mqb_fail(error, MQB_ERR_FORMAT, "%s:%d: unknown section [%s]; a recipe has [recipe], [model PATTERN] and [bits N]",
                        reading->path, line, section);
    char *where = mqb_format("%s:%d", reading->path, line);
    /* Sections that do not apply are checked all the same: a wrong key never waits for its run. */
    struct mqb_recipe ignored = *reading->recipe;
    mqb_status status =
        mqb_recipe_set(applies && pass == reading->pass ? reading->recipe : &ignored, key, value, where != NULL ? where : "", error);
    mqb_deallocate(where);
    return status;
}

mqb_status mqb_recipe_read(struct mqb_recipe *recipe, const char *path, const char *model, int bits, struct mqb_error *error)
{
    void *text;
    size_t size;
    mqb_status status = mqb_file_read(path, (size_t)1 << 20, &text, &size, error);
    if (status != MQB_OK)
        return status;
    const struct mqb_ini_handlers handlers = {NULL, on_key};
    struct reading reading = {recipe, path, model, bits, 0};
    for (reading.pass = 0; reading.pass < 3 && status == MQB_OK; reading.pass++)
        status = mqb_ini_parse(text, size, path, &handlers, &reading, error);
    mqb_deallocate(text);
    return status;
}

double mqb_schedule_lr(const struct mqb_recipe *recipe, int64_t t, int64_t warmup, int64_t total)
{
    if (t < warmup)
        return recipe->warmup_lr + (recipe->lr - recipe->warmup_lr) * (double)t / (double)warmup;
    double span = (double)(total - warmup);
    double phase = span > 0 ? (double)(t - warmup) / span : 1.0;
    return recipe->min_lr + (recipe->lr - recipe->min_lr) * 0.5 * (1.0 + mqb_cos(3.14159265358979323846 * phase));
}
