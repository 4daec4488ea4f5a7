/* prove_cases.c - the proofs of the backends, gathered by settings, and one job for each of these. */
#include "report/prove.h"

#include <string.h>

#define MAX_SETTINGS 16

static mqb_status no_memory(struct mqb_error *error)
{
    return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the list of proofs");
}

void mqb_prove_cases_destroy(struct mqb_prove_case *cases, int num_cases)
{
    for (int i = 0; i < num_cases; i++) {
        mqb_prove_request_deinit(&cases[i].request);
        mqb_result_destroy(cases[i].result);
        mqb_deallocate(cases[i].backend);
        mqb_deallocate(cases[i].settings);
    }
    mqb_deallocate(cases);
}

static mqb_status add_case(struct mqb_prove_case **cases, int *num, const char *backend, const char *settings,
                           struct mqb_error *error)
{
    for (int i = 0; i < *num; i++)
        if (strcmp((*cases)[i].backend, backend) == 0 && strcmp((*cases)[i].settings, settings) == 0)
            return MQB_OK;
    struct mqb_prove_case *larger = mqb_allocate_array((size_t)*num + 1, sizeof *larger);
    if (!larger)
        return no_memory(error);
    if (*num > 0)
        memcpy(larger, *cases, (size_t)*num * sizeof *larger);
    mqb_deallocate(*cases);
    *cases = larger;
    struct mqb_prove_case *one = &larger[(*num)++];
    one->backend = mqb_strdup(backend);
    one->settings = mqb_strdup(settings);
    return one->backend && one->settings ? MQB_OK : no_memory(error);
}

static mqb_status add_backend(struct mqb_prove_case **cases, int *num, const struct mqb_entry *entry, struct mqb_error *error)
{
    const struct mqb_backend *backend = entry->vtable;
    uint32_t num_proofs = backend && MQB_HAS_FIELD(backend, struct mqb_backend, num_proofs) ? backend->num_proofs : 0;
    mqb_status status = MQB_OK;
    for (uint32_t i = 0; i < num_proofs && status == MQB_OK; i++)
        status = add_case(cases, num, entry->id, backend->proofs[i].settings, error);
    return status;
}

mqb_status mqb_prove_cases(const char *manifest, const char *backend, struct mqb_prove_case **cases, int *num_cases,
                           struct mqb_error *error)
{
    struct mqb_registry *registry = NULL;
    const struct mqb_entry *entry = NULL;
    *cases = NULL;
    *num_cases = 0;
    mqb_status status = mqb_registry_create(mqb_host_table(), &registry, error);
    if (status == MQB_OK)
        status = mqb_registry_add_default_manifests(registry, manifest, error);
    if (status == MQB_OK && backend) {
        status = mqb_registry_find(registry, MQB_KIND_BACKEND, backend, &entry, error);
        if (status == MQB_OK)
            status = add_backend(cases, num_cases, entry, error);
        if (status == MQB_OK && *num_cases == 0)
            status = mqb_fail(error, MQB_ERR_UNSUPPORTED, "the backend \"%s\" has no proof by another engine", backend);
    }
    for (size_t i = 0; status == MQB_OK && !backend && i < mqb_registry_count(registry, MQB_KIND_BACKEND); i++)
        status = add_backend(cases, num_cases, mqb_registry_at(registry, MQB_KIND_BACKEND, i, true), error);
    if (status != MQB_OK) {
        mqb_prove_cases_destroy(*cases, *num_cases);
        *cases = NULL;
        *num_cases = 0;
    }
    mqb_registry_destroy(registry);
    return status;
}

/* ---- one case ---- */

/* What a job is told beside the words: keys and values, both owned, and both NULL-terminated. */
struct settings {
    char *keys[MAX_SETTINGS + 1], *values[MAX_SETTINGS + 1];
    size_t num;
};

static mqb_status add_setting(struct settings *s, const char *prefix, const char *key, size_t length, const char *value,
                              size_t value_length, struct mqb_error *error)
{
    if (s->num == MAX_SETTINGS)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "a proof of \"%s\" has more than %d settings", prefix, MAX_SETTINGS);
    s->keys[s->num] = mqb_format("%s.%.*s", prefix, (int)length, key);
    s->values[s->num] = mqb_format("%.*s", (int)value_length, value);
    s->num++;
    return s->keys[s->num - 1] && s->values[s->num - 1] ? MQB_OK : no_memory(error);
}

/* "key=value key=value" */
static mqb_status read_settings(struct settings *s, const struct mqb_prove_case *one, struct mqb_error *error)
{
    mqb_status status = add_setting(s, "recipe", "epochs", strlen("epochs"), "0", 1, error);
    for (const char *at = one->settings; *at != '\0' && status == MQB_OK;) {
        size_t length = strcspn(at, " "), key = strcspn(at, "= ");
        if (key >= length)
            return mqb_fail(error, MQB_ERR_ABI, "backend \"%s\": the settings \"%s\" of a proof are not KEY=VALUE words",
                            one->backend, one->settings);
        status = add_setting(s, one->backend, at, key, at + key + 1, length - key - 1, error);
        at += length + (at[length] == ' ');
    }
    return status;
}

mqb_status mqb_prove_case_run(struct mqb_prove_case *one, const struct mqb_job_config *words, const char *name, int images,
                              const char *dir, struct mqb_error *error)
{
    struct settings settings = {.num = 0};
    struct mqb_job_config config = *words;
    const char **keys = mqb_allocate_array(words->num_set + MAX_SETTINGS + 1, sizeof *keys);
    const char **values = mqb_allocate_array(words->num_set + MAX_SETTINGS + 1, sizeof *values);
    mqb_status status = keys && values ? read_settings(&settings, one, error) : no_memory(error);
    if (status == MQB_OK) {
        for (size_t i = 0; i < settings.num; i++) {
            keys[i] = settings.keys[i];
            values[i] = settings.values[i];
        }
        for (size_t i = 0; i < words->num_set; i++) {
            keys[settings.num + i] = words->set_keys[i];
            values[settings.num + i] = words->set_values[i];
        }
        one->request.settings = one->settings;
        one->request.name = name;
        one->request.images = images;
        config.backend = one->backend;
        config.set_keys = keys;
        config.set_values = values;
        config.num_set = settings.num + words->num_set;
        config.test_limit = (size_t)images;
        config.out = dir;
        config.prove = &one->request;
        status = mqb_job_run(&config, &one->result, error);
    }
    for (size_t i = 0; i < settings.num; i++) {
        mqb_deallocate(settings.keys[i]);
        mqb_deallocate(settings.values[i]);
    }
    mqb_deallocate(keys);
    mqb_deallocate(values);
    return status;
}
