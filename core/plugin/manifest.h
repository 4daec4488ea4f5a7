/*
 * manifest.h - one manifest file, read and checked, not yet merged with others.
 *
 * What is wrong with a manifest is said as "file:line: what, what was expected, what to do".
 */
#ifndef MQB_PLUGIN_MANIFEST_H
#define MQB_PLUGIN_MANIFEST_H

#include "plugin/registry.h"

struct mqb_manifest_key {
    char *name;
    char *value; /* `library` is absolute already, `sha256` in lower case; the rest as written */
    char *where; /* "file:line" */
};

struct mqb_manifest_section {
    enum mqb_kind kind;
    char *id;
    char *where; /* "file:line" */
    struct mqb_manifest_key *keys;
    size_t num_keys, keys_capacity;
};

struct mqb_manifest {
    char *path; /* as given */
    struct mqb_manifest_section *sections;
    size_t num_sections, sections_capacity;
};

/* Keys that mean something to the loader; all others are options of the component. */
extern const char *const mqb_manifest_reserved[];
extern const size_t mqb_manifest_num_reserved;
bool mqb_manifest_is_reserved(const char *key);

/* MQB_ERR_NOT_FOUND: no such file. */
mqb_status mqb_manifest_read(const char *path, struct mqb_manifest **manifest, struct mqb_error *error);
void mqb_manifest_destroy(struct mqb_manifest *manifest); /* NULL allowed */

/* "0.1"; false if it is not two numbers below 65536. */
bool mqb_manifest_parse_abi(const char *text, uint16_t *major, uint16_t *minor);
/* yes/no, on/off, true/false, 1/0. */
bool mqb_manifest_parse_bool(const char *text, bool *value);

#endif
