/* kind.h - the four kinds of component: their names, the interface revision served, what a vtable must hold. */
#ifndef MQB_PLUGIN_KIND_H
#define MQB_PLUGIN_KIND_H

#include "plugin/registry.h"

extern const char *const mqb_kind_names[MQB_NUM_KINDS];

/* False if `name` is no kind. */
bool mqb_kind_parse(const char *name, enum mqb_kind *kind);
/* False if this host serves no such interface. */
bool mqb_kind_of_interface(const char *interface_id, enum mqb_kind *kind);
const char *mqb_kind_interface(enum mqb_kind kind);

/* True if the vtable holds what every component of the kind must have; else `found` says what is wrong with it. */
bool mqb_kind_check_vtable(enum mqb_kind kind, const void *vtable, char *found, size_t found_size);

#endif
