/*
 * mqbench/plugin.h - how a shared object becomes a plugin.
 *
 * A plugin exports one symbol, and it is data in read-only memory: `mqb_plugin_entry_v1`. The host compares
 * versions before any code of the plugin runs. One .so may carry several components.
 *
 *     static const struct mqb_component components[] = {
 *         { sizeof(struct mqb_component), 0, MQB_QUANTIZER_INTERFACE, "mine", &my_quantizer },
 *     };
 *     MQB_PLUGIN("mine", "0.1.0", components);
 *
 * Rules (a plugin that breaks one is refused with the rule's number):
 *   MQB-P01  the file exists, is a shared object and opens with RTLD_NOW | RTLD_LOCAL
 *   MQB-P02  it exports mqb_plugin_entry_v1
 *   MQB-P03  the entry's magic is MQB_PLUGIN_MAGIC
 *   MQB-P04  the entry is at least as large as that of ABI 0.1, and its strings are not NULL
 *   MQB-P05  abi_major equals the host's
 *   MQB-P06  abi_minor is not newer than the host's, and min_host_minor not newer either
 *   MQB-P07  the id in the entry is the one the manifest names, if it names one
 *   MQB-P08  opening it leaves the floating-point control word as it was
 *   MQB-P09  every component names an interface revision that this host serves
 *   MQB-P10  every component has an id, and a vtable that covers the mandatory entries
 *   MQB-P11  no two components of one kind have the same id
 *   MQB-P12  the file's SHA-256 is the one the manifest pins, if it pins one
 *   MQB-P13  the file is not writable by group or others (unless the manifest allows it)
 *   MQB-P14  the manifest section asks for CPU features that this machine has
 *   MQB-P15  it carries the component that the manifest section names
 */
#ifndef MQBENCH_PLUGIN_H
#define MQBENCH_PLUGIN_H

#include <mqbench/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MQB_PLUGIN_MAGIC 0x5042514du /* "MQBP" */
#define MQB_PLUGIN_SYMBOL "mqb_plugin_entry_v1"

/* Interfaces served by this host. A breaking change is a new revision, served beside the old one for a release. */
#define MQB_QUANTIZER_INTERFACE "mqb.quantizer/1"
#define MQB_PASS_INTERFACE "mqb.pass/1"
#define MQB_BACKEND_INTERFACE "mqb.backend/1"
#define MQB_COMPUTE_INTERFACE "mqb.compute/1"

struct mqb_component {
    uint32_t struct_size;
    uint32_t reserved;
    const char *interface_id; /* one of the MQB_*_INTERFACE strings */
    const char *id;           /* what the user types: --algo mine */
    const void *vtable;       /* struct mqb_quantizer, mqb_pass, mqb_backend or mqb_compute */
};

/* The first six members never move, in any major version. */
struct mqb_plugin_entry {
    uint32_t struct_size;
    uint32_t magic;
    uint16_t abi_major;
    uint16_t abi_minor;
    uint16_t min_host_minor; /* the oldest host minor that this plugin works with */
    uint16_t reserved;
    const char *id;
    const char *version; /* of the plugin, free text */
    const struct mqb_component *components;
    uint32_t num_components;
    uint32_t component_size; /* sizeof(struct mqb_component) as the plugin was built: the array's stride */
};

#ifdef __cplusplus
#define MQB_EXTERN_C extern "C"
#else
#define MQB_EXTERN_C extern
#endif

#if defined(__GNUC__)
#define MQB_EXPORT MQB_EXTERN_C __attribute__((visibility("default")))
#else
#define MQB_EXPORT MQB_EXTERN_C
#endif

#define MQB_PLUGIN(plugin_id, plugin_version, component_array)                                                       \
    MQB_EXPORT const struct mqb_plugin_entry mqb_plugin_entry_v1;                                                     \
    const struct mqb_plugin_entry mqb_plugin_entry_v1 = {                                                             \
        sizeof(struct mqb_plugin_entry),                                                                              \
        MQB_PLUGIN_MAGIC,                                                                                             \
        MQB_ABI_MAJOR,                                                                                                \
        MQB_ABI_MINOR,                                                                                                \
        0,                                                                                                            \
        0,                                                                                                            \
        plugin_id,                                                                                                    \
        plugin_version,                                                                                               \
        component_array,                                                                                              \
        sizeof(component_array) / sizeof((component_array)[0]),                                                       \
        sizeof((component_array)[0]),                                                                                 \
    }

/* A plain loop that the compiler vectorizes for several instruction sets, chosen at load time, with equal results
 * (the SDK's build flags forbid contraction and reassociation). Put it before a static function's definition. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define MQB_MULTIVERSION __attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#else
#define MQB_MULTIVERSION
#endif

#ifdef __cplusplus
}
#endif
#endif
