/* registry.c - the stack of manifests merged into sections, and the components opened from them. */
#include "plugin/registry.h"
#include "plugin/kind.h"
#include "plugin/loader.h"
#include "plugin/manifest.h"
#include "plugin/options.h"

#include <stdlib.h>
#include <string.h>

struct section {
    struct mqb_entry entry; /* first: handed out as const struct mqb_entry * */
    struct mqb_claim claim;
    const struct mqb_manifest_key **keys; /* point into the manifests; the latest of each name */
    size_t num_keys;
    bool opened;
    struct section *next;
};

struct open_library {
    struct mqb_library library;
    struct open_library *next;
};

struct text {
    struct text *next;
    char text[];
};

/* Manifests are kept whole, so that strings handed out stay valid when a later manifest replaces them. */
struct loaded_manifest {
    struct mqb_manifest *manifest;
    struct loaded_manifest *next;
};

struct mqb_registry {
    uint16_t abi_major, abi_minor;
    struct section *sections, **sections_end;
    struct loaded_manifest *manifests;
    struct open_library *libraries;
    struct text *texts;
};

mqb_status mqb_registry_create(const struct mqb_host *host, struct mqb_registry **registry, struct mqb_error *error)
{
    struct mqb_registry *made = mqb_allocate(sizeof(*made));
    if (!made) {
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plugin registry; free some and try again");
    }
    made->abi_major = host ? host->abi_major : MQB_ABI_MAJOR;
    made->abi_minor = host ? host->abi_minor : MQB_ABI_MINOR;
    made->sections_end = &made->sections;
    *registry = made;
    return MQB_OK;
}

void mqb_registry_destroy(struct mqb_registry *registry)
{
    if (!registry) {
        return;
    }
    while (registry->libraries) {
        struct open_library *next = registry->libraries->next;
        mqb_library_close(&registry->libraries->library);
        mqb_deallocate(registry->libraries);
        registry->libraries = next;
    }
    while (registry->sections) {
        struct section *next = registry->sections->next;
        mqb_deallocate(registry->sections->keys);
        mqb_deallocate(registry->sections);
        registry->sections = next;
    }
    while (registry->manifests) {
        struct loaded_manifest *next = registry->manifests->next;
        mqb_manifest_destroy(registry->manifests->manifest);
        mqb_deallocate(registry->manifests);
        registry->manifests = next;
    }
    while (registry->texts) {
        struct text *next = registry->texts->next;
        mqb_deallocate(registry->texts);
        registry->texts = next;
    }
    mqb_deallocate(registry);
}

static struct section *find_section(const struct mqb_registry *registry, enum mqb_kind kind, const char *id)
{
    for (struct section *section = registry->sections; section; section = section->next) {
        if (section->entry.kind == kind && strcmp(section->entry.id, id) == 0) {
            return section;
        }
    }
    return NULL;
}

static const struct mqb_manifest_key *manifest_key(const struct mqb_manifest_section *section, const char *name)
{
    for (size_t i = 0; i < section->num_keys; i++) {
        if (strcmp(section->keys[i].name, name) == 0) {
            return &section->keys[i];
        }
    }
    return NULL;
}

/* A section needs a library, its own or an earlier manifest's. */
static mqb_status check_library(const struct mqb_registry *registry, const struct mqb_manifest_section *added,
                                struct mqb_error *error)
{
    static const char *const wanted[] = {"library"};
    if (manifest_key(added, "library") || find_section(registry, added->kind, added->id)) {
        return MQB_OK;
    }
    for (size_t i = 0; i < added->num_keys; i++) {
        if (!mqb_manifest_is_reserved(added->keys[i].name) && mqb_nearest(added->keys[i].name, wanted, 1)) {
            return mqb_fail(error, MQB_ERR_FORMAT, "%s: section [%s %s] has no \"library\"; did you mean that by \"%s\" at %s?",
                            added->where, mqb_kind_name(added->kind), added->id, added->keys[i].name, added->keys[i].where);
        }
    }
    return mqb_fail(
        error, MQB_ERR_FORMAT,
        "%s: section [%s %s] has no \"library\", and no earlier manifest gives one; add \"library = NAME.so\", relative to "
        "the manifest",
        added->where, mqb_kind_name(added->kind), added->id);
}

/* Makes room for the keys of `added`, and the section itself if it is new: all that can fail, before anything changes. */
static mqb_status reserve_section(const struct mqb_registry *registry, const struct mqb_manifest_section *added,
                                  struct section **made, struct mqb_error *error)
{
    struct section *section = find_section(registry, added->kind, added->id);
    struct section *created = section ? NULL : mqb_allocate(sizeof(*created));
    struct section *target = section ? section : created;
    const struct mqb_manifest_key **keys = NULL;
    size_t capacity = (target ? target->num_keys : 0) + added->num_keys + 1;
    if (target) {
        keys = mqb_allocate_array(capacity, sizeof(*keys));
    }
    if (!keys) {
        mqb_deallocate(created);
        return mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory for the section; free some and try again", added->where);
    }
    if (target->num_keys > 0) {
        memcpy(keys, target->keys, target->num_keys * sizeof(*keys));
    }
    mqb_deallocate(target->keys);
    target->keys = keys;
    *made = created;
    return MQB_OK;
}

static void apply_key(struct section *section, const struct mqb_manifest_key *key)
{
    for (size_t i = 0; i < section->num_keys; i++) {
        if (strcmp(section->keys[i]->name, key->name) == 0) {
            section->keys[i] = key;
            return;
        }
    }
    section->keys[section->num_keys++] = key;
}

/* Reads the reserved keys again into the claim and the entry, and forgets what was opened under the old ones. */
static void refresh_section(struct section *section)
{
    struct mqb_claim claim = {.kind = section->entry.kind, .id = section->entry.id, .where = section->entry.where};
    section->entry.doc = "";
    for (size_t i = 0; i < section->num_keys; i++) {
        const char *name = section->keys[i]->name, *value = section->keys[i]->value;
        if (strcmp(name, "library") == 0) {
            claim.library = value;
        } else if (strcmp(name, "doc") == 0) {
            section->entry.doc = value;
        } else if (strcmp(name, "plugin") == 0) {
            claim.plugin = value;
        } else if (strcmp(name, "cpu") == 0) {
            claim.cpu = value;
        } else if (strcmp(name, "sha256") == 0) {
            claim.sha256 = value;
        } else if (strcmp(name, "abi") == 0) {
            claim.has_abi = mqb_manifest_parse_abi(value, &claim.abi_major, &claim.abi_minor);
        } else if (strcmp(name, "allow_writable") == 0) {
            mqb_manifest_parse_bool(value, &claim.allow_writable);
        }
    }
    section->claim = claim;
    section->entry.library = claim.library;
    section->entry.vtable = NULL;
    section->entry.refusal = NULL;
    section->entry.plugin_version = NULL;
    section->entry.sha256[0] = '\0';
    section->opened = false;
}

static void merge_section(struct mqb_registry *registry, const struct mqb_manifest_section *added, struct section *created)
{
    struct section *section = created ? created : find_section(registry, added->kind, added->id);
    if (created) {
        section->entry.kind = added->kind;
        section->entry.id = added->id;
        *registry->sections_end = section;
        registry->sections_end = &section->next;
    }
    if (created || manifest_key(added, "library")) {
        section->entry.where = added->where;
    }
    for (size_t i = 0; i < added->num_keys; i++) {
        apply_key(section, &added->keys[i]);
    }
    refresh_section(section);
}

static mqb_status merge_manifest(struct mqb_registry *registry, const struct mqb_manifest *manifest, struct mqb_error *error)
{
    mqb_status status = MQB_OK;
    struct section **created = mqb_allocate_array(manifest->num_sections + 1, sizeof(struct section *));
    if (!created) {
        return mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory to read it; free some and try again", manifest->path);
    }
    for (size_t i = 0; i < manifest->num_sections && !status; i++) {
        status = check_library(registry, &manifest->sections[i], error);
    }
    for (size_t i = 0; i < manifest->num_sections && !status; i++) {
        status = reserve_section(registry, &manifest->sections[i], &created[i], error);
    }
    for (size_t i = 0; i < manifest->num_sections; i++) {
        if (!status) {
            merge_section(registry, &manifest->sections[i], created[i]);
        } else if (created[i]) {
            mqb_deallocate(created[i]->keys);
            mqb_deallocate(created[i]);
        }
    }
    mqb_deallocate(created);
    return status;
}

mqb_status mqb_registry_add_manifest(struct mqb_registry *registry, const char *path, struct mqb_error *error)
{
    struct loaded_manifest *loaded = mqb_allocate(sizeof(*loaded));
    if (!loaded) {
        return mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory to read it; free some and try again", path);
    }
    mqb_status status = mqb_manifest_read(path, &loaded->manifest, error);
    if (!status) {
        status = merge_manifest(registry, loaded->manifest, error);
    }
    if (status) {
        mqb_manifest_destroy(loaded->manifest);
        mqb_deallocate(loaded);
        return status;
    }
    loaded->next = registry->manifests;
    registry->manifests = loaded;
    return MQB_OK;
}

/* Takes `dir`; reads dir/name if both exist. */
static mqb_status add_optional(struct mqb_registry *registry, char *dir, const char *name, struct mqb_error *error)
{
    mqb_status status = MQB_OK;
    char *path = dir ? mqb_path_join(dir, name) : NULL;
    if (path && mqb_file_exists(path)) {
        status = mqb_registry_add_manifest(registry, path, error);
    }
    mqb_deallocate(path);
    mqb_deallocate(dir);
    return status;
}

/* A variable that is set to nothing counts as not set. */
static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

static char *config_dir(void)
{
    const char *config = environment("XDG_CONFIG_HOME"), *home = environment("HOME");
    if (config) {
        return mqb_strdup(config);
    }
    return home ? mqb_path_join(home, ".config") : NULL;
}

mqb_status mqb_registry_add_default_manifests(struct mqb_registry *registry, const char *extra, struct mqb_error *error)
{
    const char *named = environment("MQBENCH_MANIFEST");
    mqb_status status = add_optional(registry, mqb_home(), "mqbench.ini", error);
    if (!status) {
        status = add_optional(registry, mqb_strdup("/etc/mqbench"), "mqbench.ini", error);
    }
    if (!status) {
        status = add_optional(registry, config_dir(), "mqbench/mqbench.ini", error);
    }
    if (!status && named) {
        status = mqb_registry_add_manifest(registry, named, error);
        if (status == MQB_ERR_NOT_FOUND) {
            mqb_fail_prefix(error, status, "MQBENCH_MANIFEST");
        }
    }
    if (!status && extra) {
        status = mqb_registry_add_manifest(registry, extra, error);
    }
    return status;
}

static const char *keep_text(struct mqb_registry *registry, const char *text)
{
    size_t size = strlen(text) + 1;
    struct text *kept = mqb_allocate(sizeof(*kept) + size);
    if (!kept) {
        return "no memory to say why";
    }
    memcpy(kept->text, text, size);
    kept->next = registry->texts;
    registry->texts = kept;
    return kept->text;
}

/* The library that was inspected as `found`, opened now or earlier. */
static mqb_status use_library(struct mqb_registry *registry, const struct mqb_claim *claim, const struct mqb_library *found,
                              const struct mqb_library **library, struct mqb_error *error)
{
    for (struct open_library *open = registry->libraries; open; open = open->next) {
        if (open->library.device == found->device && open->library.inode == found->inode) {
            *library = &open->library;
            return MQB_OK;
        }
    }
    struct open_library *opened = mqb_allocate(sizeof(*opened));
    if (!opened) {
        return mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory to open it; free some and try again", claim->library);
    }
    opened->library = *found;
    mqb_status status = mqb_library_open(claim, registry->abi_major, registry->abi_minor, &opened->library, error);
    if (status) {
        mqb_deallocate(opened);
        return status;
    }
    opened->next = registry->libraries;
    registry->libraries = opened;
    *library = &opened->library;
    return MQB_OK;
}

static void open_section(struct mqb_registry *registry, struct section *section)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_library found = {.handle = NULL};
    const struct mqb_library *library = NULL;
    if (section->opened) {
        return;
    }
    mqb_status status = mqb_library_inspect(&section->claim, registry->abi_major, registry->abi_minor, &found, &error);
    memcpy(section->entry.sha256, found.sha256, sizeof(found.sha256));
    if (!status) {
        status = use_library(registry, &section->claim, &found, &library, &error);
    }
    if (!status) {
        section->entry.plugin_version = library->entry->version;
        status = mqb_library_component(&section->claim, library, &section->entry.vtable, &error);
    }
    if (status) {
        section->entry.refusal = keep_text(registry, error.text);
    }
    section->opened = true;
}

static mqb_status fail_not_found(const struct mqb_registry *registry, enum mqb_kind kind, const char *id,
                                 struct mqb_error *error)
{
    const char *kind_name = mqb_kind_name(kind), *near = NULL;
    size_t count = mqb_registry_count(registry, kind), num_names = 0, used = 0;
    char list[512] = "";
    const char **names = mqb_allocate_array(count + 1, sizeof(*names));
    for (const struct section *section = registry->sections; section && names; section = section->next) {
        if (section->entry.kind != kind) {
            continue;
        }
        if (used < sizeof(list)) {
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", num_names ? ", " : "", section->entry.id);
        }
        names[num_names++] = section->entry.id;
    }
    near = names ? mqb_nearest(id, names, num_names) : NULL;
    mqb_deallocate(names);
    if (count == 0) {
        return mqb_fail(
            error, MQB_ERR_NOT_FOUND,
            "there is no %s \"%.64s\", nor any other; no manifest with a section [%s ...] was found: name one with --manifest, "
            "or set MQBENCH_HOME to the folder that has mqbench.ini",
            kind_name, id, kind_name);
    }
    return mqb_fail(error, MQB_ERR_NOT_FOUND,
                    "there is no %s \"%.64s\"%s%s%s; those of the manifests are %s; name one of them, or add a section [%s "
                    "%.64s] to a manifest",
                    kind_name, id, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "", list, kind_name, id);
}

mqb_status mqb_registry_find(struct mqb_registry *registry, enum mqb_kind kind, const char *id, const struct mqb_entry **entry,
                             struct mqb_error *error)
{
    struct section *section = find_section(registry, kind, id);
    if (!section) {
        return fail_not_found(registry, kind, id, error);
    }
    open_section(registry, section);
    if (section->entry.refusal) {
        return mqb_fail(error, MQB_ERR_ABI, "%s", section->entry.refusal);
    }
    *entry = &section->entry;
    return MQB_OK;
}

size_t mqb_registry_count(const struct mqb_registry *registry, enum mqb_kind kind)
{
    size_t count = 0;
    for (const struct section *section = registry->sections; section; section = section->next) {
        count += section->entry.kind == kind;
    }
    return count;
}

const struct mqb_entry *mqb_registry_at(struct mqb_registry *registry, enum mqb_kind kind, size_t index, bool open)
{
    for (struct section *section = registry->sections; section; section = section->next) {
        if (section->entry.kind != kind || index-- > 0) {
            continue;
        }
        if (open) {
            open_section(registry, section);
        }
        return &section->entry;
    }
    return NULL;
}

static mqb_status set_option(struct mqb_options *options, const struct mqb_entry *entry, const char *name, const char *value,
                             const char *source, bool in_manifest, struct mqb_error *error)
{
    char *where = mqb_format("%s: [%s %s]", source, mqb_kind_name(entry->kind), entry->id);
    if (!where) {
        return mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory for option \"%s\"; free some and try again", source, name);
    }
    mqb_status status;
    if (mqb_options_has(options, name)) {
        status = mqb_options_set(options, name, value, where, error);
    } else {
        /* In a manifest, a reserved key may have been meant: "libary". */
        status = mqb_options_fail_unknown(options, name, where, mqb_manifest_reserved,
                                          in_manifest ? mqb_manifest_num_reserved : 0, error);
    }
    mqb_deallocate(where);
    return status;
}

mqb_status mqb_registry_options(const struct mqb_registry *registry, const struct mqb_entry *entry,
                                const struct mqb_option_spec *specs, size_t num_specs, const char *const *set_keys,
                                const char *const *set_values, size_t num_set, struct mqb_options **options,
                                struct mqb_error *error)
{
    (void)registry;
    const struct section *section = (const struct section *)(const void *)entry;
    struct mqb_options *made = NULL;
    mqb_status status = mqb_options_create(specs, num_specs, &made, error);
    if (status) {
        return mqb_fail_prefix(error, status, "%s \"%s\"", mqb_kind_name(entry->kind), entry->id);
    }
    for (size_t i = 0; i < section->num_keys && !status; i++) {
        const struct mqb_manifest_key *key = section->keys[i];
        if (!mqb_manifest_is_reserved(key->name)) {
            status = set_option(made, entry, key->name, key->value, key->where, true, error);
        }
    }
    for (size_t i = 0; i < num_set && !status; i++) {
        status = set_option(made, entry, set_keys[i], set_values[i], "--set", false, error);
    }
    if (status) {
        mqb_options_destroy(made);
        return status;
    }
    *options = made;
    return MQB_OK;
}
