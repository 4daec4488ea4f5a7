/* waterfall.c - the integer program again and again, each time with another factor exchanged. */
#include "report/waterfall.h"

#include "report/compare.h"

#include <math.h>
#include <string.h>

#define LABEL_IMAGES 500

static const struct {
    const char *name;
    uint32_t factor;
} factors[] = {
    {"bias", MQB_FACTOR_BIAS},           {"requantize", MQB_FACTOR_REQUANTIZE}, {"fold", MQB_FACTOR_FOLD}, {"add", MQB_FACTOR_ADD},
    {"pool", MQB_FACTOR_POOL},           {"input", MQB_FACTOR_INPUT},
    {"saturation", MQB_FACTOR_SATURATION}, {"half", MQB_FACTOR_HALF},
};
#define NUM_FACTORS (sizeof factors / sizeof factors[0])

struct waterfall {
    const struct mqb_waterfall_config *config;
    struct mqb_waterfall_images images;
    float *x;
    uint8_t **codes;
    int num_tensors, total; /* total: of the rows */
    double start;
};

/* ---- codes ---- */

static int64_t count_differing(const struct mqb_program *program, const struct mqb_waterfall_images *images, uint8_t *const *taps)
{
    int64_t differ = 0;
    for (int t = 0; t < mqb_program_num_tensors(program); t++)
        for (int64_t i = 0; i < images->n * mqb_program_tensor(program, t)->size; i++)
            differ += taps[t][i] != images->codes[t][i];
    return differ;
}

mqb_status mqb_waterfall_count(const struct mqb_program *program, struct mqb_pool *pool, const struct mqb_waterfall_images *images,
                               struct mqb_waterfall_row *row, struct mqb_error *error)
{
    int num_tensors = mqb_program_num_tensors(program);
    uint8_t **taps = mqb_allocate_array((size_t)num_tensors + 1, sizeof *taps);
    float *logits = mqb_allocate_array((size_t)images->n * (size_t)mqb_program_num_classes(program) + 1, sizeof *logits);
    mqb_status status = taps != NULL && logits != NULL ? MQB_OK : MQB_ERR_MEMORY;
    row->elements = 0;
    for (int t = 0; t < num_tensors && status == MQB_OK; t++) {
        int64_t size = images->n * mqb_program_tensor(program, t)->size;
        row->elements += size;
        taps[t] = mqb_allocate((size_t)size);
        status = taps[t] != NULL ? MQB_OK : MQB_ERR_MEMORY;
    }
    if (status != MQB_OK) {
        mqb_fail(error, status, "no memory to count the codes that differ");
        goto out;
    }
    if ((status = mqb_program_run(program, pool, images->x, images->n, logits, taps, error)) != MQB_OK)
        goto out;
    row->differ = count_differing(program, images, taps);
    status = mqb_program_run_forced(program, pool, images->x, images->n, logits, taps, (const uint8_t *const *)images->codes, error);
    if (status == MQB_OK)
        row->isolated = count_differing(program, images, taps);
out:
    for (int t = 0; taps != NULL && t < num_tensors; t++)
        mqb_deallocate(taps[t]);
    mqb_deallocate(taps);
    mqb_deallocate(logits);
    return status;
}

/* ---- what fake quantization makes of the first images ---- */

static mqb_status gather(struct waterfall *w, struct mqb_error *error)
{
    const struct mqb_waterfall_config *config = w->config;
    const struct mqb_graph *trained = config->test.trained;
    int64_t pixels = mqb_value_size(&trained->values[trained->input]);
    struct mqb_exec *exec = NULL;
    struct mqb_loader *loader = NULL;
    int batch_size, num_images;
    mqb_status status = MQB_OK;
    w->num_tensors = mqb_program_num_tensors(config->program);
    mqb_compare_extent(config->program, config->test.dataset, &batch_size, &num_images);
    mqb_value_id *keep = mqb_allocate_array((size_t)w->num_tensors + 1, sizeof *keep);
    w->x = mqb_allocate_array((size_t)num_images, (size_t)pixels * sizeof *w->x);
    w->codes = mqb_allocate_array((size_t)w->num_tensors + 1, sizeof *w->codes);
    bool enough = keep != NULL && w->x != NULL && w->codes != NULL;
    for (int t = 0; t < w->num_tensors && enough; t++) {
        const struct mqb_program_tensor *tensor = mqb_program_tensor(config->program, t);
        keep[t] = mqb_compare_twin(trained, tensor);
        w->codes[t] = mqb_allocate_array((size_t)num_images, (size_t)tensor->size);
        enough = w->codes[t] != NULL;
    }
    struct mqb_exec_config exec_config = {
        .graph = config->test.trained, .host = mqb_host_table(), .compute = config->compute, .pool = config->test.pool, .batch = batch_size,
        .keep = keep, .num_keep = w->num_tensors,
    };
    status = enough ? mqb_exec_create(&exec_config, &exec, error) : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the codes of %d images", num_images);
    if (status == MQB_OK)
        status = mqb_session_loader(trained, config->test.dataset, MQB_SPLIT_TEST, batch_size, config->test.normalize, &loader, error);
    if (status == MQB_OK)
        status = mqb_loader_start(loader, 0, 0, error);
    for (int done = 0; done < num_images && status == MQB_OK;) {
        struct mqb_batch batch;
        if ((status = mqb_loader_next(loader, &batch, error)) != MQB_OK || batch.num_images == 0)
            break;
        int n = batch.num_images < num_images - done ? batch.num_images : num_images - done;
        if ((status = mqb_exec_forward(exec, batch.x, n, error)) != MQB_OK)
            break;
        memcpy(w->x + done * pixels, batch.x, (size_t)(n * pixels) * sizeof *w->x);
        for (int t = 0; t < w->num_tensors; t++) {
            const struct mqb_program_tensor *tensor = mqb_program_tensor(config->program, t);
            mqb_compare_codes(tensor, n * tensor->size, mqb_exec_value(exec, keep[t]), w->codes[t] + done * tensor->size);
        }
        done += n;
        w->images.n = done;
    }
    w->images.x = w->x;
    w->images.codes = w->codes;
    mqb_loader_destroy(loader);
    mqb_exec_destroy(exec);
    mqb_deallocate(keep);
    return status;
}

/* ---- rows ---- */

static mqb_status add_row(struct waterfall *w, const char *name, uint32_t ideal, struct mqb_result *result, struct mqb_error *error)
{
    const struct mqb_waterfall_config *config = w->config;
    struct mqb_waterfall_row *row = &result->waterfall[result->num_waterfall];
    struct mqb_program *changed = NULL;
    int64_t labels_agree;
    *row = (struct mqb_waterfall_row){.factor = name, .images = w->images.n};
    mqb_status status = ideal == 0 ? MQB_OK
                                   : mqb_program_create_ideal(config->deploy, config->rules, ideal, config->compute, &changed, error);
    const struct mqb_program *program = ideal == 0 ? config->program : changed;
    if (status == MQB_OK && mqb_program_num_tensors(program) != w->num_tensors)
        status = mqb_fail(error, MQB_ERR_INTERNAL, "the integer program has other tensors when the factor \"%s\" is exchanged", name);
    if (status == MQB_OK)
        status = mqb_waterfall_count(program, config->test.pool, &w->images, row, error);
    if (status == MQB_OK)
        status = mqb_integer_test(&config->test, program, LABEL_IMAGES, &row->integer, &labels_agree, error);
    mqb_program_destroy(changed);
    if (status != MQB_OK)
        return status;
    row->labels_differ = row->integer.n - labels_agree;
    result->num_waterfall++;
    if (config->progress != NULL && config->progress->report != NULL) {
        struct mqb_progress p = {"waterfall", result->num_waterfall, w->total, NAN,
                                 (double)row->integer.top1 / (double)row->integer.n, mqb_seconds() - w->start};
        config->progress->report(config->progress->context, &p);
    }
    return MQB_OK;
}

mqb_status mqb_waterfall_run(const struct mqb_waterfall_config *config, struct mqb_result *result, struct mqb_error *error)
{
    struct waterfall w = {.config = config, .total = 2, .start = mqb_seconds()};
    uint32_t there = mqb_program_factors(config->program);
    for (size_t i = 0; i < NUM_FACTORS; i++)
        w.total += (there & factors[i].factor) != 0;
    result->waterfall = mqb_allocate_array(NUM_FACTORS + 2, sizeof *result->waterfall);
    mqb_status status = result->waterfall != NULL ? gather(&w, error) : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the result");
    if (status == MQB_OK)
        status = add_row(&w, "none", 0, result, error);
    for (size_t i = 0; i < NUM_FACTORS && status == MQB_OK; i++)
        if (there & factors[i].factor)
            status = add_row(&w, factors[i].name, factors[i].factor, result, error);
    if (status == MQB_OK)
        status = add_row(&w, "all", MQB_FACTOR_ALL, result, error);
    for (int t = 0; w.codes != NULL && t < w.num_tensors; t++)
        mqb_deallocate(w.codes[t]);
    mqb_deallocate(w.codes);
    mqb_deallocate(w.x);
    return status;
}
