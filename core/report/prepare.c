/* prepare.c - options of components, a backend's rules, and passes run over a graph. */
#include "report/prepare.h"

#include <string.h>

/* The pairs whose key begins with "prefix.", without it. */
struct settings {
    const char **keys, **values;
    size_t num;
};

static mqb_status select_settings(const struct mqb_prepare *prepare, const char *prefix, struct settings *settings,
                                  struct mqb_error *error)
{
    size_t length = strlen(prefix);
    *settings = (struct settings){mqb_allocate_array(prepare->num_set + 1, sizeof(char *)),
                                  mqb_allocate_array(prepare->num_set + 1, sizeof(char *)), 0};
    if (settings->keys == NULL || settings->values == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for options");
    for (size_t i = 0; i < prepare->num_set; i++)
        if (strncmp(prepare->set_keys[i], prefix, length) == 0 && prepare->set_keys[i][length] == '.') {
            settings->keys[settings->num] = prepare->set_keys[i] + length + 1;
            settings->values[settings->num++] = prepare->set_values[i];
        }
    return MQB_OK;
}

mqb_status mqb_prepare_options(const struct mqb_prepare *prepare, const struct mqb_entry *entry,
                               const struct mqb_option_spec *specs, size_t num_specs, struct mqb_options **options,
                               struct mqb_error *error)
{
    struct settings settings;
    mqb_status status = select_settings(prepare, entry->id, &settings, error);
    if (status == MQB_OK)
        status = mqb_registry_options(prepare->registry, entry, specs, num_specs, settings.keys, settings.values, settings.num,
                                      options, error);
    mqb_deallocate(settings.keys);
    mqb_deallocate(settings.values);
    return status;
}

mqb_status mqb_prepare_backend(const struct mqb_prepare *prepare, const char *id, const struct mqb_entry **entry,
                               struct mqb_options **options, struct mqb_backend_rules *rules, struct mqb_error *error)
{
    mqb_status status = mqb_registry_find(prepare->registry, MQB_KIND_BACKEND, id, entry, error);
    if (status != MQB_OK)
        return status;
    const struct mqb_backend *backend = (*entry)->vtable;
    if ((status = mqb_prepare_options(prepare, *entry, backend->options, backend->num_options, options, error)) != MQB_OK)
        return status;
    rules->struct_size = sizeof *rules;
    status = backend->rules(mqb_host_table(), *options, rules, error);
    return status == MQB_OK ? status : mqb_fail_prefix(error, status, "backend \"%s\"", id);
}

mqb_status mqb_prepare_pass(const struct mqb_prepare *prepare, const struct mqb_entry *entry, int bn_fold,
                            struct mqb_graph **graph, struct mqb_error *error)
{
    struct mqb_options *options = NULL;
    struct mqb_graph *edited = NULL;
    const struct mqb_pass *pass = entry->vtable;
    int32_t edits = 0;
    mqb_status status = mqb_prepare_options(prepare, entry, pass->options, pass->num_options, &options, error);
    if (status != MQB_OK)
        goto out;
    for (size_t i = 0; i < prepare->num_set; i++) {
        const char *key = prepare->set_keys[i];
        if (strncmp(key, entry->id, strlen(entry->id)) == 0 && strcmp(key + strlen(entry->id), ".strategy") == 0)
            status = mqb_fail(error, MQB_ERR_ARGUMENT, "--set %s: the strategy is given by --bn-fold", key);
    }
    for (uint32_t i = 0; i < pass->num_options && status == MQB_OK; i++)
        if (strcmp(pass->options[i].name, "strategy") == 0) {
            char value[16];
            snprintf(value, sizeof value, "%d", bn_fold);
            status = mqb_options_set(options, "strategy", value, "--bn-fold", error);
        }
    if (status == MQB_OK)
        status = mqb_graph_clone(*graph, &edited, error);
    if (status == MQB_OK)
        status = pass->run(mqb_host_table(), edited, options, &edits, error);
    if (status == MQB_OK)
        status = mqb_graph_infer(edited, error);
    if (status != MQB_OK) {
        mqb_fail_prefix(error, status, "pass \"%s\"", entry->id);
        goto out;
    }
    mqb_graph_sweep(edited);
    mqb_graph_destroy(*graph);
    *graph = edited;
    edited = NULL;
out:
    mqb_graph_destroy(edited);
    mqb_options_destroy(options);
    return status;
}
