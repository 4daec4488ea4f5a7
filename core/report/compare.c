/* compare.c - which codes differ, by how much, where first, and how near a rounding tie they were. */
#include "report/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_IMAGES 64
#define ELEMENT_LIMIT ((int64_t)48 << 20) /* elements of all tensors together that one batch may keep */

struct comparison {
    const struct mqb_compare_config *config;
    struct mqb_result *result;
    int num_tensors;
    mqb_value_id *fake;  /* value in the trained graph that a program tensor is held against */
    uint8_t **taps, **given; /* given: the fake codes, which every operator reads when it is looked at alone */
    float *logits;
    int batch, num_images;
    int first;           /* tensor that differs first, or -1 */
    double tie_distance; /* of the differing elements of `first`: largest distance from a tie, in steps */
};

static int64_t fake_code(const struct mqb_program_tensor *tensor, float value)
{
    double code = nearbyint((double)value / tensor->scale) + tensor->zero_point;
    return !(code > -1e9) ? -1000000000 : code > 1e9 ? 1000000000 : (int64_t)code;
}

void mqb_compare_codes(const struct mqb_program_tensor *tensor, int64_t size, const float *values, uint8_t *codes)
{
    int64_t offset = tensor->is_signed ? 128 : 0;
    for (int64_t i = 0; i < size; i++) {
        int64_t code = fake_code(tensor, values[i]);
        code = code < tensor->qmin ? tensor->qmin : code > tensor->qmax ? tensor->qmax : code;
        codes[i] = (uint8_t)(code + offset);
    }
}

/* The output of its point; a tensor that carries its input's parameters on is held against itself. */
mqb_value_id mqb_compare_twin(const struct mqb_graph *trained, const struct mqb_program_tensor *tensor)
{
    return tensor->point != MQB_NONE ? trained->nodes[tensor->point].output : tensor->value;
}

void mqb_compare_extent(const struct mqb_program *program, const struct mqb_dataset *dataset, int *batch, int *num_images)
{
    int64_t elements = 1;
    for (int t = 0; t < mqb_program_num_tensors(program); t++)
        elements += mqb_program_tensor(program, t)->size;
    int64_t fit = ELEMENT_LIMIT / elements, available = (int64_t)dataset->num[MQB_SPLIT_TEST];
    *batch = (int)(fit < 1 ? 1 : fit > 32 ? 32 : fit);
    *num_images = *batch < 8 ? 8 : MAX_IMAGES;
    if (*num_images > available)
        *num_images = (int)available;
    if (*batch > *num_images)
        *batch = *num_images;
}

static mqb_status open_comparison(struct comparison *c, struct mqb_error *error)
{
    const struct mqb_compare_config *config = c->config;
    struct mqb_result *result = c->result;
    c->num_tensors = mqb_program_num_tensors(config->program);
    c->first = -1;
    mqb_compare_extent(config->program, config->dataset, &c->batch, &c->num_images);
    int64_t classes = mqb_value_size(&config->trained->values[config->trained->output]);
    c->fake = mqb_allocate_array((size_t)c->num_tensors + 1, sizeof *c->fake);
    c->taps = mqb_allocate_array((size_t)c->num_tensors + 1, sizeof *c->taps);
    c->given = mqb_allocate_array((size_t)c->num_tensors + 1, sizeof *c->given);
    c->logits = mqb_allocate_array((size_t)c->batch * (size_t)classes + 1, sizeof *c->logits);
    result->layers = mqb_allocate_array((size_t)c->num_tensors + 1, sizeof *result->layers);
    if (c->fake == NULL || c->taps == NULL || c->given == NULL || c->logits == NULL || result->layers == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the layer comparison");
    result->num_layers = c->num_tensors;
    for (int t = 0; t < c->num_tensors; t++) {
        const struct mqb_program_tensor *tensor = mqb_program_tensor(config->program, t);
        struct mqb_layer_report *layer = &result->layers[t];
        int bits = 1;
        while (bits < 8 && tensor->qmax - tensor->qmin >= 1 << bits)
            bits++;
        mqb_node_id producer = config->trained->values[tensor->value].producer;
        c->fake[t] = mqb_compare_twin(config->trained, tensor);
        layer->name = mqb_strdup(tensor->layer != NULL ? tensor->layer : "input");
        layer->tensor = mqb_strdup(tensor->name);
        layer->op = mqb_strdup(producer == MQB_NONE ? "input" : config->trained->nodes[producer].op->name);
        layer->scale = tensor->scale;
        layer->zero_point = tensor->zero_point;
        layer->bits = bits;
        c->taps[t] = mqb_allocate_array((size_t)c->batch, (size_t)tensor->size);
        c->given[t] = mqb_allocate_array((size_t)c->batch, (size_t)tensor->size);
        if (layer->name == NULL || layer->tensor == NULL || layer->op == NULL || c->taps[t] == NULL || c->given[t] == NULL)
            return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the layer comparison");
    }
    return MQB_OK;
}

static void close_comparison(struct comparison *c)
{
    for (int t = 0; c->taps != NULL && t < c->num_tensors; t++)
        mqb_deallocate(c->taps[t]);
    for (int t = 0; c->given != NULL && t < c->num_tensors; t++)
        mqb_deallocate(c->given[t]);
    mqb_deallocate(c->taps);
    mqb_deallocate(c->given);
    mqb_deallocate(c->fake);
    mqb_deallocate(c->logits);
}

static int64_t stored_code(const struct comparison *c, int t, int64_t index)
{
    return (int64_t)c->taps[t][index] - (mqb_program_tensor(c->config->program, t)->is_signed ? 128 : 0);
}

static void count_differences(struct comparison *c, int t, const float *fake, int n)
{
    const struct mqb_program_tensor *tensor = mqb_program_tensor(c->config->program, t);
    struct mqb_layer_report *layer = &c->result->layers[t];
    for (int64_t i = 0; i < n * tensor->size; i++) {
        int64_t steps = llabs((long long)(fake_code(tensor, fake[i]) - stored_code(c, t, i)));
        layer->elements++;
        layer->differ += steps != 0;
        if (steps > layer->max_steps)
            layer->max_steps = steps;
    }
}

/* Every operator on the fake codes: what differs now is its own doing. */
static mqb_status count_isolated(struct comparison *c, const float *x, const struct mqb_exec *exec, int n, struct mqb_error *error)
{
    const struct mqb_compare_config *config = c->config;
    for (int t = 0; t < c->num_tensors; t++) {
        const struct mqb_program_tensor *tensor = mqb_program_tensor(config->program, t);
        mqb_compare_codes(tensor, n * tensor->size, mqb_exec_value(exec, c->fake[t]), c->given[t]);
    }
    mqb_status status = mqb_program_run_forced(config->program, config->pool, x, n, c->logits, c->taps,
                                               (const uint8_t *const *)c->given, error);
    for (int t = 0; t < c->num_tensors && status == MQB_OK; t++) {
        struct mqb_layer_report *layer = &c->result->layers[t];
        for (int64_t i = 0; i < n * mqb_program_tensor(config->program, t)->size; i++) {
            int64_t steps = c->taps[t][i] > c->given[t][i] ? c->taps[t][i] - c->given[t][i] : c->given[t][i] - c->taps[t][i];
            layer->isolated_differ += steps != 0;
            if (steps > layer->isolated_max_steps)
                layer->isolated_max_steps = steps;
        }
    }
    return status;
}

/* How far from a tie the differing elements of the first differing tensor were before rounding. */
static void measure_ties(struct comparison *c, const float *before, int n)
{
    const struct mqb_program_tensor *tensor = mqb_program_tensor(c->config->program, c->first);
    for (int64_t i = 0; i < n * tensor->size; i++) {
        double steps = (double)before[i] / tensor->scale;
        int64_t code = fake_code(tensor, before[i]);
        int64_t clamped = code < tensor->qmin ? tensor->qmin : code > tensor->qmax ? tensor->qmax : code;
        if (clamped == stored_code(c, c->first, i))
            continue;
        double distance = fabs(fabs(steps - nearbyint(steps)) - 0.5);
        if (distance > c->tie_distance)
            c->tie_distance = distance;
    }
}

/* keep: one value a tensor (all), or the single value before the first differing point (only). */
static mqb_status run_images(struct comparison *c, const mqb_value_id *keep, int num_keep, bool ties, struct mqb_error *error)
{
    const struct mqb_compare_config *config = c->config;
    struct mqb_exec *exec = NULL;
    struct mqb_loader *loader = NULL;
    struct mqb_exec_config exec_config = {
        .graph = config->trained, .host = mqb_host_table(), .compute = config->compute, .pool = config->pool, .batch = c->batch, .keep = keep, .num_keep = num_keep,
    };
    mqb_status status = mqb_exec_create(&exec_config, &exec, error);
    if (status == MQB_OK)
        status = mqb_session_loader(config->trained, config->dataset, MQB_SPLIT_TEST, c->batch, config->normalize, &loader, error);
    if (status == MQB_OK)
        status = mqb_loader_start(loader, 0, 0, error);
    for (int done = 0; done < c->num_images && status == MQB_OK;) {
        struct mqb_batch batch;
        if ((status = mqb_loader_next(loader, &batch, error)) != MQB_OK || batch.num_images == 0)
            break;
        int n = batch.num_images < c->num_images - done ? batch.num_images : c->num_images - done;
        if ((status = mqb_exec_forward(exec, batch.x, n, error)) != MQB_OK ||
            (status = mqb_program_run(config->program, config->pool, batch.x, n, c->logits, c->taps, error)) != MQB_OK)
            break;
        if (ties)
            measure_ties(c, mqb_exec_value(exec, keep[0]), n);
        else {
            for (int t = 0; t < c->num_tensors; t++)
                count_differences(c, t, mqb_exec_value(exec, c->fake[t]), n);
            if ((status = count_isolated(c, batch.x, exec, n, error)) != MQB_OK)
                break;
        }
        done += n;
    }
    mqb_loader_destroy(loader);
    mqb_exec_destroy(exec);
    return status;
}

static mqb_status explain_first(struct comparison *c, struct mqb_error *error)
{
    struct mqb_result *result = c->result;
    const struct mqb_layer_report *layer = &result->layers[c->first];
    mqb_value_id before = mqb_program_tensor(c->config->program, c->first)->value;
    mqb_node_id point = mqb_program_tensor(c->config->program, c->first)->point;
    if (point != MQB_NONE)
        before = c->config->trained->nodes[point].inputs[0];
    mqb_status status = run_images(c, &before, 1, true, error);
    if (status != MQB_OK)
        return status;
    bool input = before == c->config->trained->input;
    const char *profile = c->config->contract->profile != NULL ? c->config->contract->profile : "the backend";
    if (layer->max_steps <= 1 && c->tie_distance < 0.25)
        result->first_difference = mqb_format(
            "%s (%s): %lld of %lld codes differ, by one step. %sefore rounding these elements lie within %.2g steps of a tie, where the "
            "%srounding of %s decides otherwise.",
            layer->name, layer->op, (long long)layer->differ, (long long)layer->elements, input ? "B" : "All its inputs agree; b",
            c->tie_distance, input ? "" : "integer bias or the ", profile);
    else
        result->first_difference = mqb_format(
            "%s (%s): %lld of %lld codes differ, by up to %lld steps, although all its inputs agree; they lie up to %.2g steps from a tie, "
            "more than rounding explains: the integer form of this operator under %s is another function.",
            layer->name, layer->op, (long long)layer->differ, (long long)layer->elements, (long long)layer->max_steps, c->tie_distance,
            profile);
    return result->first_difference != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the layer comparison");
}

mqb_status mqb_compare_layers(const struct mqb_compare_config *config, struct mqb_result *result, struct mqb_error *error)
{
    struct comparison c = {.config = config, .result = result};
    mqb_status status = open_comparison(&c, error);
    if (status == MQB_OK)
        status = run_images(&c, c.fake, c.num_tensors, false, error);
    if (status != MQB_OK)
        goto out;
    result->compare_images = c.num_images;
    result->max_steps = 0;
    for (int t = 0; t < c.num_tensors; t++) {
        if (result->layers[t].max_steps > result->max_steps)
            result->max_steps = result->layers[t].max_steps;
        if (result->layers[t].differ > 0 && c.first < 0) {
            c.first = t;
            result->layers[t].first = true;
        }
    }
    if (c.first >= 0)
        status = explain_first(&c, error);
out:
    close_comparison(&c);
    return status;
}
