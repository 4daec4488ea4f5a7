/*
 * prove.c - an artefact run by another engine, held against the integer program: every code that the engine shows, the logits,
 * and the labels.
 */
#include "report/prove.h"
#include "report/engine.h"
#include "report/integer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH 8 /* images whose codes are held at once */

bool mqb_proof_holds(const struct mqb_proof_result *result)
{
    return !result->missing && result->failure[0] == '\0' && result->images > 0 && result->num_tensors > 0 &&
           result->differ == 0 && result->labels_differ == 0;
}

void mqb_proof_result_deinit(struct mqb_proof_result *result)
{
    for (int i = 0; i < result->num_tensors; i++) {
        mqb_deallocate(result->tensors[i].tensor);
        mqb_deallocate(result->tensors[i].layer);
        mqb_deallocate(result->tensors[i].op);
    }
    mqb_deallocate(result->tensors);
    mqb_deallocate(result->name);
    mqb_deallocate(result->claim);
    mqb_deallocate(result->engine);
    mqb_deallocate(result->failure);
}

void mqb_prove_request_deinit(struct mqb_prove_request *request)
{
    for (int i = 0; i < request->num_results; i++)
        mqb_proof_result_deinit(&request->results[i]);
    mqb_deallocate(request->results);
    request->results = NULL;
    request->num_results = 0;
}

/* ---- what the engine is given ---- */

struct proof {
    const struct mqb_proof_run *run;
    struct mqb_proof_result *result;
    const struct mqb_graph *graph;
    int num_tensors; /* of the program */
    int64_t classes;
    struct {
        int64_t channels, pixels;
    } * extent;   /* by tensor of the program */
    FILE **files; /* by tensor: what the engine wrote, or NULL */
    bool *nhwc;
    int *line;        /* by tensor: index into result->tensors */
    uint8_t **taps;   /* by tensor: BATCH images */
    uint8_t **forced; /* by tensor: the engine's codes as the program stores them */
    uint8_t *theirs;
    float *our_logits, *their_logits;
    FILE *logits;
};

static mqb_status no_memory(struct mqb_error *error)
{
    return mqb_fail(error, MQB_ERR_MEMORY, "no memory to compare with another engine");
}

static mqb_status write_failed(const char *path, struct mqb_error *error)
{
    return mqb_fail(error, MQB_ERR_IO, "%.300s could not be written", path);
}

static mqb_status write_request(const struct proof *p, struct mqb_error *error)
{
    const struct mqb_proof_run *run = p->run;
    const struct mqb_value *input = &p->graph->values[p->graph->input];
    char *path = mqb_path_join(run->dir, "request");
    FILE *file = path ? fopen(path, "w") : NULL;
    mqb_status status = path ? MQB_OK : no_memory(error);
    if (path && !file)
        status = write_failed(path, error);
    if (file) {
        fprintf(file, "input %d", run->n);
        for (int32_t i = 1; i < input->rank; i++)
            fprintf(file, " %lld", (long long)input->dims[i]);
        fprintf(file, "\n");
        for (int t = 0; t < p->num_tensors && status == MQB_OK; t++) {
            const struct mqb_program_tensor *tensor = mqb_program_tensor(run->program, t);
            char *name = mqb_onnx_codes_name(p->graph, tensor->value);
            if (name)
                fprintf(file, "tensor %d %s %s\n", t, tensor->is_signed ? "s8" : "u8", name);
            else
                status = no_memory(error);
            mqb_deallocate(name);
        }
        bool written = !ferror(file);
        if ((fclose(file) != 0 || !written) && status == MQB_OK)
            status = write_failed(path, error);
    }
    mqb_deallocate(path);
    return status;
}

static mqb_status write_input(const struct proof *p, struct mqb_error *error)
{
    const struct mqb_proof_run *run = p->run;
    const struct mqb_value *input = &p->graph->values[p->graph->input];
    int64_t size = mqb_value_size(input), channels = input->dims[1], pixels = size / channels;
    float *image = mqb_allocate_array((size_t)size, sizeof *image);
    char *path = mqb_path_join(run->dir, "input.f32");
    FILE *file = image && path ? fopen(path, "w") : NULL;
    mqb_status status = image && path ? MQB_OK : no_memory(error);
    if (status == MQB_OK && !file)
        status = write_failed(path, error);
    for (int i = 0; file && i < run->n; i++) {
        for (int64_t c = 0; c < channels; c++)
            for (int64_t q = 0; q < pixels; q++)
                image[c * pixels + q] = run->x[i * size + q * channels + c];
        fwrite(image, sizeof *image, (size_t)size, file);
    }
    if (file) {
        bool written = !ferror(file);
        if ((fclose(file) != 0 || !written) && status == MQB_OK)
            status = write_failed(path, error);
    }
    mqb_deallocate(image);
    mqb_deallocate(path);
    return status;
}

/* ---- what it gave back ---- */

static FILE *open_named(const char *dir, int index, const char *ending)
{
    char *path = mqb_format("%s/%d.%s", dir, index, ending);
    FILE *file = path ? fopen(path, "r") : NULL;
    mqb_deallocate(path);
    return file;
}

static mqb_status open_tensor(struct proof *p, int t, struct mqb_error *error)
{
    const struct mqb_program_tensor *tensor = mqb_program_tensor(p->run->program, t);
    const struct mqb_value *value = &p->graph->values[tensor->value];
    p->extent[t].channels = value->dims[1];
    p->extent[t].pixels = tensor->size / value->dims[1];
    p->files[t] = open_named(p->run->dir, t, "nchw");
    p->nhwc[t] = p->files[t] == NULL;
    if (p->nhwc[t])
        p->files[t] = open_named(p->run->dir, t, "nhwc");
    if (!p->files[t])
        return MQB_OK;
    mqb_node_id producer = value->producer;
    p->line[t] = p->result->num_tensors;
    struct mqb_proof_tensor *line = &p->result->tensors[p->result->num_tensors++];
    line->tensor = mqb_strdup(tensor->name);
    line->layer = mqb_strdup(tensor->layer ? tensor->layer : "input");
    line->op = mqb_strdup(producer == MQB_NONE ? "input" : p->graph->nodes[producer].op->name);
    return line->tensor && line->layer && line->op ? MQB_OK : no_memory(error);
}

static mqb_status open_proof(struct proof *p, struct mqb_error *error)
{
    size_t num = (size_t)p->num_tensors + 1;
    int64_t largest = 1;
    p->extent = mqb_allocate_array(num, sizeof *p->extent);
    p->files = mqb_allocate_array(num, sizeof *p->files);
    p->nhwc = mqb_allocate_array(num, sizeof *p->nhwc);
    p->line = mqb_allocate_array(num, sizeof *p->line);
    p->taps = mqb_allocate_array(num, sizeof *p->taps);
    p->forced = mqb_allocate_array(num, sizeof *p->forced);
    p->our_logits = mqb_allocate_array(BATCH * (size_t)p->classes, sizeof *p->our_logits);
    p->their_logits = mqb_allocate_array(BATCH * (size_t)p->classes, sizeof *p->their_logits);
    p->result->tensors = mqb_allocate_array(num, sizeof *p->result->tensors);
    if (!p->extent || !p->files || !p->nhwc || !p->line || !p->taps || !p->forced || !p->our_logits || !p->their_logits ||
        !p->result->tensors)
        return no_memory(error);
    for (int t = 0; t < p->num_tensors; t++) {
        mqb_status status = open_tensor(p, t, error);
        if (status != MQB_OK)
            return status;
        int64_t size = mqb_program_tensor(p->run->program, t)->size;
        largest = size > largest ? size : largest;
        if (!p->files[t])
            continue;
        p->taps[t] = mqb_allocate_array(BATCH, (size_t)size);
        p->forced[t] = mqb_allocate_array(BATCH, (size_t)size);
        if (!p->taps[t] || !p->forced[t])
            return no_memory(error);
    }
    p->theirs = mqb_allocate_array(BATCH, (size_t)largest);
    char *path = mqb_path_join(p->run->dir, "logits.f32");
    p->logits = path ? fopen(path, "r") : NULL;
    mqb_deallocate(path);
    if (!p->theirs)
        return no_memory(error);
    return p->logits ? MQB_OK
                     : mqb_fail(error, MQB_ERR_UNSUPPORTED, "%.300s wrote no logits into %.300s", p->run->script, p->run->dir);
}

static void close_proof(struct proof *p)
{
    for (int t = 0; t < p->num_tensors; t++) {
        if (p->files && p->files[t])
            fclose(p->files[t]);
        if (p->taps)
            mqb_deallocate(p->taps[t]);
        if (p->forced)
            mqb_deallocate(p->forced[t]);
    }
    if (p->logits)
        fclose(p->logits);
    mqb_deallocate(p->extent);
    mqb_deallocate(p->files);
    mqb_deallocate(p->nhwc);
    mqb_deallocate(p->line);
    mqb_deallocate(p->taps);
    mqb_deallocate(p->forced);
    mqb_deallocate(p->theirs);
    mqb_deallocate(p->our_logits);
    mqb_deallocate(p->their_logits);
}

/* ---- the comparison ---- */

static mqb_status compare_tensor(struct proof *p, int t, int n, struct mqb_error *error)
{
    const struct mqb_program_tensor *tensor = mqb_program_tensor(p->run->program, t);
    struct mqb_proof_tensor *line = &p->result->tensors[p->line[t]];
    int64_t channels = p->extent[t].channels, pixels = p->extent[t].pixels;
    if (fread(p->theirs, (size_t)tensor->size, (size_t)n, p->files[t]) != (size_t)n)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "%.300s wrote fewer codes of tensor '%s' than expected", p->run->script,
                        tensor->name);
    for (int64_t i = 0; i < n; i++)
        for (int64_t q = 0; q < pixels; q++)
            for (int64_t c = 0; c < channels; c++) {
                int64_t ours_at = i * tensor->size + q * channels + c;
                uint8_t byte = p->theirs[p->nhwc[t] ? ours_at : i * tensor->size + c * pixels + q];
                uint8_t theirs = tensor->is_signed ? (uint8_t)(byte ^ 128) : byte; /* as it is stored: code + 128 */
                int32_t steps = abs((int32_t)p->taps[t][ours_at] - (int32_t)theirs);
                p->forced[t][ours_at] = theirs;
                line->differ += steps != 0;
                line->max_steps = steps > line->max_steps ? steps : line->max_steps;
            }
    line->elements += n * tensor->size;
    return MQB_OK;
}

/* Each operator on the engine's codes: what differs then is its own doing. */
static mqb_status compare_operators(struct proof *p, int first, int n, struct mqb_error *error)
{
    int64_t size = mqb_value_size(&p->graph->values[p->graph->input]);
    for (int t = 0; t < p->num_tensors; t++)
        if (!p->files[t])
            return MQB_OK;
    mqb_status status = mqb_program_run_forced(p->run->program, p->run->pool, p->run->x + first * size, n, p->our_logits,
                                               p->taps, (const uint8_t *const *)p->forced, error);
    for (int t = 0; t < p->num_tensors && status == MQB_OK; t++)
        for (int64_t i = 0; i < n * mqb_program_tensor(p->run->program, t)->size; i++)
            p->result->tensors[p->line[t]].own += p->taps[t][i] != p->forced[t][i];
    return status;
}

static mqb_status compare_logits(struct proof *p, int n, struct mqb_error *error)
{
    if (fread(p->their_logits, sizeof(float) * (size_t)p->classes, (size_t)n, p->logits) != (size_t)n)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "%.300s wrote fewer logits than expected", p->run->script);
    for (int64_t i = 0; i < n; i++) {
        const float *ours = p->our_logits + i * p->classes, *theirs = p->their_logits + i * p->classes;
        for (int64_t k = 0; k < p->classes; k++)
            p->result->logits_differ += !(ours[k] == theirs[k]);
    }
    p->result->labels_differ += n - mqb_labels_agree(p->our_logits, p->their_logits, n, p->classes);
    p->result->logits += n * p->classes;
    p->result->images += n;
    return MQB_OK;
}

static mqb_status compare_all(struct proof *p, struct mqb_error *error)
{
    int64_t size = mqb_value_size(&p->graph->values[p->graph->input]);
    mqb_status status = MQB_OK;
    for (int first = 0; first < p->run->n && status == MQB_OK; first += BATCH) {
        int n = p->run->n - first < BATCH ? p->run->n - first : BATCH;
        status = mqb_program_run(p->run->program, p->run->pool, p->run->x + first * size, n, p->our_logits, p->taps, error);
        for (int t = 0; t < p->num_tensors && status == MQB_OK; t++)
            if (p->files[t])
                status = compare_tensor(p, t, n, error);
        if (status == MQB_OK)
            status = compare_logits(p, n, error);
        if (status == MQB_OK)
            status = compare_operators(p, first, n, error);
    }
    for (int i = 0; i < p->result->num_tensors; i++) {
        if (p->result->num_tensors < p->num_tensors)
            p->result->tensors[i].own = -1;
        p->result->elements += p->result->tensors[i].elements;
        p->result->differ += p->result->tensors[i].differ;
    }
    return status;
}

/* What an engine left there before. */
static void remove_files(const struct proof *p)
{
    static const char *const endings[] = {"nchw", "nhwc"};
    for (int t = 0; t < p->num_tensors; t++)
        for (int i = 0; i < 2; i++) {
            char *path = mqb_format("%s/%d.%s", p->run->dir, t, endings[i]);
            if (path)
                unlink(path);
            mqb_deallocate(path);
        }
    static const char *const names[] = {"request", "input.f32", "logits.f32"};
    for (int i = 0; i < 3; i++) {
        char *path = mqb_path_join(p->run->dir, names[i]);
        if (path)
            unlink(path);
        mqb_deallocate(path);
    }
}

mqb_status mqb_proof_compare(const struct mqb_proof_run *run, struct mqb_proof_result *result, struct mqb_error *error)
{
    struct proof p = {
        .run = run, .result = result, .graph = run->deploy->graph, .num_tensors = mqb_program_num_tensors(run->program)};
    p.classes = mqb_value_size(&p.graph->values[p.graph->output]);
    remove_files(&p);
    mqb_status status = write_request(&p, error);
    if (status == MQB_OK)
        status = write_input(&p, error);
    if (status == MQB_OK)
        status = mqb_engine_run(run->script, run->artefact, run->argument, run->dir, error);
    if (status == MQB_OK)
        status = open_proof(&p, error);
    if (status == MQB_OK)
        status = compare_all(&p, error);
    close_proof(&p);
    remove_files(&p);
    return status;
}

/* ---- the proofs of a backend ---- */

static mqb_status load_images(const struct mqb_prove_config *config, int images, float **x, int *n, struct mqb_error *error)
{
    const struct mqb_graph *graph = config->deploy->graph;
    int64_t size = mqb_value_size(&graph->values[graph->input]);
    struct mqb_loader *loader = NULL;
    *n = 0;
    *x = mqb_allocate_array((size_t)images * (size_t)size, sizeof **x);
    if (!*x)
        return no_memory(error);
    mqb_status status = mqb_session_loader(graph, config->dataset, MQB_SPLIT_TEST, BATCH, config->normalize, &loader, error);
    if (status == MQB_OK)
        status = mqb_loader_start(loader, 0, 0, error);
    while (status == MQB_OK && *n < images) {
        struct mqb_batch batch;
        if ((status = mqb_loader_next(loader, &batch, error)) != MQB_OK || batch.num_images == 0)
            break;
        int take = batch.num_images < images - *n ? batch.num_images : images - *n;
        memcpy(*x + *n * size, batch.x, (size_t)(take * size) * sizeof **x);
        *n += take;
    }
    mqb_loader_destroy(loader);
    return status;
}

static mqb_status prove_one(const struct mqb_prove_config *config, const struct mqb_proof *proof, const float *x, int n,
                            struct mqb_proof_result *result, struct mqb_error *error)
{
    struct mqb_error own = MQB_ERROR_INIT;
    char *script = mqb_format("%s/engines/%s", config->home, proof->engine);
    char *artefact = mqb_format("%s/%s%s", config->dir, config->model_name, proof->suffix);
    enum mqb_engine_state state = MQB_ENGINE_MISSING;
    result->name = mqb_strdup(proof->name);
    result->claim = mqb_strdup(proof->claim);
    mqb_status status = script && artefact && result->name && result->claim ? MQB_OK : no_memory(error);
    if (status != MQB_OK)
        goto out;
    mqb_status outcome = mqb_engine_check(script, config->dir, &state, &result->engine, &own);
    result->missing = outcome == MQB_OK && state == MQB_ENGINE_MISSING;
    if (outcome == MQB_OK && !result->missing) {
        struct mqb_proof_run run = {
            config->deploy, config->program, config->pool, script, artefact, proof->argument, config->dir, x, n};
        outcome = mqb_proof_compare(&run, result, &own);
    }
    result->failure = mqb_strdup(outcome == MQB_OK ? "" : own.text);
    if (!result->engine)
        result->engine = mqb_strdup(proof->engine);
    if (!result->failure || !result->engine || outcome == MQB_ERR_MEMORY)
        status = no_memory(error);
out:
    mqb_deallocate(script);
    mqb_deallocate(artefact);
    return status;
}

mqb_status mqb_prove(const struct mqb_prove_config *config, struct mqb_prove_request *request, struct mqb_error *error)
{
    const struct mqb_backend *backend = config->backend;
    uint32_t num_proofs = MQB_HAS_FIELD(backend, struct mqb_backend, num_proofs) ? backend->num_proofs : 0;
    float *x = NULL;
    int n = 0;
    request->results = mqb_allocate_array((size_t)num_proofs + 1, sizeof *request->results);
    if (!request->results)
        return no_memory(error);
    mqb_status status = load_images(config, request->images, &x, &n, error);
    for (uint32_t i = 0; i < num_proofs && status == MQB_OK; i++) {
        const struct mqb_proof *proof = &backend->proofs[i];
        if (strcmp(proof->settings, request->settings) != 0 || (request->name && strcmp(request->name, proof->name) != 0))
            continue;
        status = prove_one(config, proof, x, n, &request->results[request->num_results++], error);
    }
    mqb_deallocate(x);
    return status;
}
