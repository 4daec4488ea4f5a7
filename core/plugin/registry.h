/*
 * registry.h - manifests, the loader, and the components found.
 *
 * A manifest is an INI file. A section is a component:
 *
 *     [quantizer lsq]                     ; kind and id; kinds: quantizer, pass, backend, compute
 *     library = ../lib/mqbench/lsq.so     ; relative to the manifest
 *     doc = Learned step size quantization
 *     plugin = lsq                        ; optional: the id in the plugin's entry (rule MQB-P07)
 *     abi = 0.1                           ; optional: refused without opening if the host cannot serve it
 *     cpu = avx512f avx512_vnni           ; optional: needed CPU features (MQB-P14)
 *     sha256 = ...                        ; optional pin (MQB-P12)
 *     allow_writable = no                 ; MQB-P13
 *     gradient_scale = on                 ; any other key: an option of the component, checked against its specs when used
 *
 * Manifests stack: <home>/mqbench.ini, /etc/mqbench/mqbench.ini, $XDG_CONFIG_HOME (or ~/.config)/mqbench/mqbench.ini,
 * MQBENCH_MANIFEST, --manifest. A later manifest's section of the same kind and id replaces keys of the earlier one;
 * within one manifest a section or a key given twice is an error. A manifest with an error changes nothing.
 * Libraries are opened when first asked for, never unloaded before mqb_registry_destroy.
 */
#ifndef MQB_REGISTRY_H
#define MQB_REGISTRY_H

#include "base/base.h"
#include <mqbench/mqbench.h>

enum mqb_kind { MQB_KIND_QUANTIZER = 0, MQB_KIND_PASS = 1, MQB_KIND_BACKEND = 2, MQB_KIND_COMPUTE = 3, MQB_NUM_KINDS = 4 };
const char *mqb_kind_name(enum mqb_kind kind); /* "quantizer", ... */

struct mqb_registry;

mqb_status mqb_registry_create(const struct mqb_host *host, struct mqb_registry **registry, struct mqb_error *error);
void mqb_registry_destroy(struct mqb_registry *registry);

/* Reads one manifest; errors carry file and line. A later call overrides. */
mqb_status mqb_registry_add_manifest(struct mqb_registry *registry, const char *path, struct mqb_error *error);
/* The stack above; `extra` (NULL allowed) comes last. A missing optional manifest is no error, a missing `extra` is. */
mqb_status mqb_registry_add_default_manifests(struct mqb_registry *registry, const char *extra, struct mqb_error *error);

/* A section of the manifests, opened or not. Strings live as long as the registry. */
struct mqb_entry {
    enum mqb_kind kind;
    const char *id;
    const char *library; /* absolute */
    const char *doc;
    const char *where;   /* "file:line" of the section */
    /* After opening: */
    const void *vtable;          /* NULL if refused or not opened yet */
    const char *refusal;         /* one sentence, or NULL */
    const char *plugin_version;
    char sha256[65];             /* of the library; "" until opened */
};

/* Opens the component if need be. Unknown id: MQB_ERR_NOT_FOUND, with the nearest id and the list. Refused: the sentence. */
mqb_status mqb_registry_find(struct mqb_registry *registry, enum mqb_kind kind, const char *id, const struct mqb_entry **entry,
                             struct mqb_error *error);
/* All sections of a kind in manifest order, opening each (refusals are kept in the entry). */
size_t mqb_registry_count(const struct mqb_registry *registry, enum mqb_kind kind);
const struct mqb_entry *mqb_registry_at(struct mqb_registry *registry, enum mqb_kind kind, size_t index, bool open);

/* Options of a component: defaults of its specs, then the manifest's keys, then what --set gave (key without prefix).
 * An unknown key or a value out of range: file and line (or "--set"), the key, what is allowed, the nearest name. */
mqb_status mqb_registry_options(const struct mqb_registry *registry, const struct mqb_entry *entry,
                                const struct mqb_option_spec *specs, size_t num_specs, const char *const *set_keys,
                                const char *const *set_values, size_t num_set, struct mqb_options **options,
                                struct mqb_error *error);

/* options.c - usable without a registry. */
mqb_status mqb_options_create(const struct mqb_option_spec *specs, size_t num_specs, struct mqb_options **options,
                              struct mqb_error *error);
mqb_status mqb_options_set(struct mqb_options *options, const char *name, const char *value, const char *where,
                           struct mqb_error *error);
void mqb_options_destroy(struct mqb_options *options);
int64_t mqb_option_int(const struct mqb_options *options, const char *name);
double mqb_option_real(const struct mqb_options *options, const char *name);
const char *mqb_option_text(const struct mqb_options *options, const char *name);

#endif
