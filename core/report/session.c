/* session.c - what every subcommand needs: components, threads, a compute provider, a model, data that fits it, a recipe. */
#include "report/report.h"
#include "graph/op.h"

#include <string.h>

static mqb_status choose_compute(struct mqb_session *session, const char *name, struct mqb_error *error)
{
    const struct mqb_host *host = mqb_host_table();
    if (name != NULL) {
        mqb_status status = mqb_registry_find(session->registry, MQB_KIND_COMPUTE, name, &session->compute_entry, error);
        if (status != MQB_OK)
            return status;
        session->compute = session->compute_entry->vtable;
        if (session->compute->score(host) <= 0)
            return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                            "compute provider %s says that it cannot work on this machine; leave --compute out to use the best one",
                            name);
        return MQB_OK;
    }
    size_t count = mqb_registry_count(session->registry, MQB_KIND_COMPUTE);
    const char *refusal = NULL;
    int32_t best = 0;
    for (size_t i = 0; i < count; i++) {
        const struct mqb_entry *entry = mqb_registry_at(session->registry, MQB_KIND_COMPUTE, i, true);
        if (entry->vtable == NULL) {
            if (refusal == NULL)
                refusal = entry->refusal;
            continue;
        }
        const struct mqb_compute *compute = entry->vtable;
        int32_t score = compute->score(host);
        if (score > best) {
            best = score;
            session->compute = compute;
            session->compute_entry = entry;
        }
    }
    if (session->compute != NULL)
        return MQB_OK;
    if (refusal != NULL)
        return mqb_fail(error, MQB_ERR_NOT_FOUND, "no compute provider can be used; the first one was refused: %s", refusal);
    if (count == 0)
        return mqb_fail(error, MQB_ERR_NOT_FOUND,
                        "no compute provider was found: no manifest has a section [compute ...]; name a manifest with --manifest, "
                        "or set MQBENCH_HOME to the folder that has mqbench.ini");
    return mqb_fail(error, MQB_ERR_NOT_FOUND, "none of the %zu compute providers can work on this machine", count);
}

mqb_status mqb_session_open(const char *manifest, const char *compute, int threads, struct mqb_session *session,
                            struct mqb_error *error)
{
    memset(session, 0, sizeof *session);
    mqb_status status = MQB_OK;
    session->home = mqb_home();
    if (session->home == NULL)
        status = mqb_fail(error, MQB_ERR_NOT_FOUND,
                          "the folder of this program cannot be found; set MQBENCH_HOME to the folder that has mqbench.ini");
    if (status == MQB_OK)
        status = mqb_registry_create(mqb_host_table(), &session->registry, error);
    if (status == MQB_OK)
        status = mqb_registry_add_default_manifests(session->registry, manifest, error);
    if (status == MQB_OK)
        status = choose_compute(session, compute, error);
    if (status == MQB_OK)
        status = mqb_pool_create(threads, &session->pool, error);
    if (status != MQB_OK)
        mqb_session_close(session);
    return status;
}

void mqb_session_close(struct mqb_session *session)
{
    mqb_pool_destroy(session->pool);
    mqb_registry_destroy(session->registry);
    mqb_deallocate(session->home);
    memset(session, 0, sizeof *session);
}

/* A model that is not there: the words depend on what the user may have meant. */
static mqb_status fail_no_model(const char *path, const char *given, struct mqb_error *error)
{
    if (given == NULL)
        return mqb_fail(error, MQB_ERR_NOT_FOUND,
                        "%s: the default network is not there; name one with --model FILE.onnx, or make it: mqbench train --out %s",
                        path, path);
    const char *const *names = mqb_model_names();
    for (size_t i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], given) == 0)
            return mqb_fail(error, MQB_ERR_NOT_FOUND,
                            "%s: there is no such file; it is a network that can be trained: mqbench train --model %s --dataset "
                            "KIND:PATH --out FILE.onnx, then name that file here",
                            given, given);
    return mqb_fail(error, MQB_ERR_NOT_FOUND, "%s: there is no such model file; give the path of an ONNX file", given);
}

/* A model's file, read and hashed at the same time. */
enum load_task { LOAD_IMPORT, LOAD_HASH, NUM_LOAD_TASKS };
struct load {
    const char *file;
    struct mqb_graph *graph;
    char *sha256;
    mqb_status status[NUM_LOAD_TASKS];
    struct mqb_error error[NUM_LOAD_TASKS];
};

static void load_task(void *context, int index, int worker)
{
    struct load *load = context;
    struct mqb_error *error = &load->error[index];
    (void)worker;
    load->status[index] = index == LOAD_IMPORT ? mqb_onnx_import(load->file, &mqb_ops, &load->graph, error)
                                               : mqb_sha256_file(load->file, load->sha256, error);
}

mqb_status mqb_session_model(const struct mqb_session *session, const char *path, struct mqb_graph **graph, char sha256[65],
                             struct mqb_error *error)
{
    char *file = path != NULL ? mqb_strdup(path) : mqb_format("%s/models/%s", session->home, MQB_DEFAULT_MODEL);
    if (file == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the name of the model");
    struct load load = {.file = file, .sha256 = sha256, .error = {MQB_ERROR_INIT, MQB_ERROR_INIT}};
    mqb_status status = mqb_file_exists(file) ? MQB_OK : fail_no_model(file, path, error);
    if (status == MQB_OK) {
        mqb_pool_run(session->pool, NUM_LOAD_TASKS, load_task, &load);
        for (int i = 0; i < NUM_LOAD_TASKS && status == MQB_OK; i++)
            if (load.status[i] != MQB_OK)
                status = mqb_fail(error, load.status[i], "%s", load.error[i].text);
    }
    if (status == MQB_OK) {
        *graph = load.graph;
        load.graph = NULL;
    }
    mqb_graph_destroy(load.graph);
    mqb_deallocate(file);
    return status;
}

mqb_status mqb_session_normalize(const char *word, const struct mqb_graph *graph, struct mqb_normalize *normalize, bool *assumed,
                                 struct mqb_error *error)
{
    *assumed = word == NULL && graph->normalize == NULL;
    if (word != NULL) {
        mqb_status status = mqb_normalize_parse(word, normalize, error);
        return status == MQB_OK ? status : mqb_fail_prefix(error, status, "--normalize");
    }
    if (graph->normalize != NULL) {
        mqb_status status = mqb_normalize_parse(graph->normalize, normalize, error);
        return status == MQB_OK ? status : mqb_fail_prefix(error, status, "metadata mqbench.normalize of the model");
    }
    mqb_log(MQB_LOG_NOTE, "neither --normalize nor the model says how images are normalized: imagenet is assumed; "
                          "name another with --normalize if the network was trained on one");
    return mqb_normalize_parse("imagenet", normalize, error);
}

mqb_status mqb_session_check_fit(const struct mqb_graph *graph, const struct mqb_dataset *dataset, struct mqb_error *error)
{
    const struct mqb_value *input = &graph->values[graph->input], *output = &graph->values[graph->output];
    if (input->rank != 4 || input->dims[2] != input->dims[3] || input->dims[2] < 1 || input->dims[2] > 4096)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                        "the network's input %s is not a square image; expected [batch, channels, size, size] with a size of 1 to 4096",
                        input->name);
    if (input->dims[1] != dataset->channels)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "the network takes images of %lld channel(s), data set %s has %d; use a network and a data set that fit",
                        (long long)input->dims[1], dataset->name, dataset->channels);
    if (mqb_value_size(output) < dataset->num_classes)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "the network tells %lld classes apart, data set %s has %d; use a network and a data set that fit",
                        (long long)mqb_value_size(output), dataset->name, dataset->num_classes);
    return MQB_OK;
}

mqb_status mqb_session_loader(const struct mqb_graph *graph, const struct mqb_dataset *dataset, enum mqb_split split, int batch,
                              const struct mqb_normalize *normalize, struct mqb_loader **loader, struct mqb_error *error)
{
    mqb_status status = mqb_session_check_fit(graph, dataset, error);
    if (status != MQB_OK)
        return status;
    if (dataset->num[split] == 0)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "data set %s has no %s images; expected %s", dataset->name,
                        split == MQB_SPLIT_TRAIN ? "training" : "test", dataset->kind->usage);
    struct mqb_loader_config config = {
        .split = split,
        .batch = batch,
        .size = (int32_t)graph->values[graph->input].dims[2],
        .normalize = *normalize,
    };
    return mqb_loader_create(dataset, &config, loader, error);
}

mqb_status mqb_session_recipe(const struct mqb_session *session, const char *path, const char *model, int bits,
                              const char *const *set_keys, const char *const *set_values, size_t num_set,
                              struct mqb_recipe *recipe, struct mqb_error *error)
{
    mqb_recipe_defaults(recipe);
    char *file = path != NULL ? mqb_strdup(path) : mqb_format("%s/recipes/default.ini", session->home);
    if (file == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the name of the recipe");
    /* Patterns of [model ...] are of names without a folder. */
    const char *slash = model == NULL ? NULL : strrchr(model, '/');
    mqb_status status = mqb_recipe_read(recipe, file, slash != NULL ? slash + 1 : model, bits, error);
    if (status == MQB_ERR_NOT_FOUND && path == NULL)
        mqb_fail_prefix(error, status, "the default recipe is missing (name one with --recipe, or set MQBENCH_HOME)");
    for (size_t i = 0; status == MQB_OK && i < num_set; i++)
        if (strncmp(set_keys[i], "recipe.", 7) == 0)
            status = mqb_recipe_set(recipe, set_keys[i] + 7, set_values[i], "command line", error);
    mqb_deallocate(file);
    return status;
}
