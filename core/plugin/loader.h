/*
 * loader.h - opens one plugin file and holds it to the rules MQB-P01 to MQB-P15 of <mqbench/plugin.h>.
 *
 * A refusal is MQB_ERR_ABI with one sentence of four parts: who (file, section; id and version once known): what was
 * found; what was wanted; what to do [rule].
 */
#ifndef MQB_PLUGIN_LOADER_H
#define MQB_PLUGIN_LOADER_H

#include "plugin/registry.h"

#include <sys/types.h>

/* What a manifest section says of its library. Strings are the caller's; NULL where the section says nothing. */
struct mqb_claim {
    enum mqb_kind kind;
    const char *id;
    const char *where;   /* "file:line" of the section */
    const char *library; /* absolute */
    const char *plugin;
    const char *cpu;
    const char *sha256; /* lower case */
    bool has_abi;
    uint16_t abi_major, abi_minor;
    bool allow_writable;
};

/* An open library that broke no rule; it serves any number of sections. */
struct mqb_library {
    dev_t device;
    ino_t inode;
    void *handle;
    const struct mqb_plugin_entry *entry;
    char sha256[65];
};

/* The file as it lies on the disk: P01 (without opening it), P02 to P06, P12 to P14. No code of the plugin runs.
 * library->device, inode and sha256 are filled. */
mqb_status mqb_library_inspect(const struct mqb_claim *claim, uint16_t host_major, uint16_t host_minor,
                               struct mqb_library *library, struct mqb_error *error);
/* Opens what was inspected: P01 to P11. On an error nothing stays open. */
mqb_status mqb_library_open(const struct mqb_claim *claim, uint16_t host_major, uint16_t host_minor,
                            struct mqb_library *library, struct mqb_error *error);
/* The vtable that the section asks for: P07, P15. */
mqb_status mqb_library_component(const struct mqb_claim *claim, const struct mqb_library *library, const void **vtable,
                                 struct mqb_error *error);
void mqb_library_close(struct mqb_library *library);

#endif
