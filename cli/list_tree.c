/* list_tree.c - everything that can be chosen, as a tree. */
#include "list_tree.h"
#include "data/data.h"
#include "quant/quant.h"

#include <math.h>
#include <string.h>

static const char *const type_names[] = {"int", "real", "bool", "choice", "text"};

static void put_text(json_t *item, const char *key, const char *text)
{
    if (text != NULL && text[0] != '\0')
        json_object_set_new(item, key, json_string(text));
}

static json_t *options_tree(const struct mqb_option_spec *specs, size_t num_specs)
{
    json_t *options = json_array();
    for (size_t i = 0; i < num_specs; i++) {
        json_t *option = json_object();
        put_text(option, "name", specs[i].name);
        put_text(option, "type", specs[i].type >= 0 && specs[i].type <= MQB_OPTION_TEXT ? type_names[specs[i].type] : "unknown");
        if (specs[i].type <= MQB_OPTION_REAL && isfinite(specs[i].min) && isfinite(specs[i].max)) {
            json_object_set_new(option, "min", json_real(specs[i].min));
            json_object_set_new(option, "max", json_real(specs[i].max));
        }
        put_text(option, "choices", specs[i].choices);
        json_object_set_new(option, "default", json_string(specs[i].default_value != NULL ? specs[i].default_value : ""));
        put_text(option, "doc", specs[i].doc);
        json_array_append_new(options, option);
    }
    return options;
}

static void describe_quantizer(json_t *item, const struct mqb_quantizer *quantizer)
{
    put_text(item, "description", quantizer->description);
    json_object_set_new(item, "weights", json_boolean(quantizer->flags & MQB_QUANTIZER_WEIGHTS));
    json_object_set_new(item, "activations", json_boolean(quantizer->flags & MQB_QUANTIZER_ACTIVATIONS));
    json_object_set_new(item, "options", options_tree(quantizer->options, quantizer->num_options));
}

static void describe_pass(json_t *item, const struct mqb_pass *pass)
{
    put_text(item, "description", pass->description);
    json_object_set_new(item, "options", options_tree(pass->options, pass->num_options));
}

static void describe_backend(json_t *item, const struct mqb_backend *backend)
{
    put_text(item, "description", backend->description);
    json_object_set_new(item, "options", options_tree(backend->options, backend->num_options));
}

static void describe_compute(json_t *item, const struct mqb_compute *compute)
{
    put_text(item, "description", compute->description);
    json_object_set_new(item, "score", json_integer(compute->score(mqb_host_table())));
    put_text(item, "isa", compute->isa(mqb_host_table()));
    json_object_set_new(item, "same_bits", json_boolean(compute->flags & MQB_COMPUTE_SAME_BITS));
}

static json_t *component_tree(const struct mqb_entry *entry)
{
    json_t *item = json_object();
    put_text(item, "id", entry->id);
    put_text(item, "doc", entry->doc);
    put_text(item, "version", entry->plugin_version);
    put_text(item, "library", entry->library);
    put_text(item, "sha256", entry->sha256);
    put_text(item, "manifest", entry->where);
    put_text(item, "refusal", entry->refusal);
    if (entry->vtable == NULL)
        return item;
    switch (entry->kind) {
    case MQB_KIND_QUANTIZER: describe_quantizer(item, entry->vtable); break;
    case MQB_KIND_PASS: describe_pass(item, entry->vtable); break;
    case MQB_KIND_BACKEND: describe_backend(item, entry->vtable); break;
    default: describe_compute(item, entry->vtable); break;
    }
    return item;
}

static json_t *components_tree(struct mqb_registry *registry, enum mqb_kind kind)
{
    json_t *items = json_array();
    size_t count = mqb_registry_count(registry, kind);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(items, component_tree(mqb_registry_at(registry, kind, i, true)));
    return items;
}

static json_t *names_tree(const char *const *names)
{
    json_t *items = json_array();
    for (; *names != NULL; names++)
        json_array_append_new(items, json_pack("{s:s}", "id", *names));
    return items;
}

static json_t *models_tree(void)
{
    json_t *items = json_array();
    for (const char *const *name = mqb_model_names(); *name != NULL; name++)
        json_array_append_new(items, json_pack("{s:s, s:s}", "id", *name, "doc", mqb_model_about(*name)));
    return items;
}

static json_t *datasets_tree(void)
{
    json_t *items = json_array();
    for (const struct mqb_dataset_kind *const *kind = mqb_dataset_kinds(); *kind != NULL; kind++)
        json_array_append_new(items, json_pack("{s:s, s:s}", "id", (*kind)->name, "doc", (*kind)->usage));
    return items;
}

mqb_status list_tree_create(const char *manifest, json_t **tree, struct mqb_error *error)
{
    struct mqb_registry *registry = NULL;
    mqb_status status = mqb_registry_create(mqb_host_table(), &registry, error);
    if (status == MQB_OK)
        status = mqb_registry_add_default_manifests(registry, manifest, error);
    if (status == MQB_OK) {
        json_t *root = json_object();
        json_object_set_new(root, "backends", components_tree(registry, MQB_KIND_BACKEND));
        json_object_set_new(root, "algorithms", components_tree(registry, MQB_KIND_QUANTIZER));
        json_object_set_new(root, "passes", components_tree(registry, MQB_KIND_PASS));
        json_object_set_new(root, "compute", components_tree(registry, MQB_KIND_COMPUTE));
        json_object_set_new(root, "datasets", datasets_tree());
        json_object_set_new(root, "models", models_tree());
        json_object_set_new(root, "observers", names_tree(mqb_observer_names()));
        *tree = root;
    }
    mqb_registry_destroy(registry);
    return status;
}
