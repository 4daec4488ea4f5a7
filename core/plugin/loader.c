/* loader.c - the rules that a plugin must keep, in the order in which they can be checked. */
#include "plugin/loader.h"
#include "plugin/cpu.h"
#include "plugin/elf.h"
#include "plugin/float_mode.h"
#include "plugin/kind.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#define LIBRARY_MAX_SIZE ((size_t)1 << 30)
#define MAX_COMPONENTS 1024u

/* The members of struct mqb_plugin_entry that never move, as they stand in the file and in memory. */
struct entry_prefix {
    uint32_t struct_size;
    uint32_t magic;
    uint16_t abi_major;
    uint16_t abi_minor;
    uint16_t min_host_minor;
    uint16_t reserved;
};

/* Sizes at ABI 0.1: a plugin's structs may be larger, never smaller. */
#define ENTRY_SIZE (offsetof(struct mqb_plugin_entry, component_size) + sizeof(uint32_t))
#define COMPONENT_SIZE (offsetof(struct mqb_component, vtable) + sizeof(void *))

_Static_assert(offsetof(struct mqb_plugin_entry, struct_size) == offsetof(struct entry_prefix, struct_size), "moved");
_Static_assert(offsetof(struct mqb_plugin_entry, magic) == offsetof(struct entry_prefix, magic), "moved");
_Static_assert(offsetof(struct mqb_plugin_entry, abi_major) == offsetof(struct entry_prefix, abi_major), "moved");
_Static_assert(offsetof(struct mqb_plugin_entry, abi_minor) == offsetof(struct entry_prefix, abi_minor), "moved");
_Static_assert(offsetof(struct mqb_plugin_entry, min_host_minor) == offsetof(struct entry_prefix, min_host_minor), "moved");
_Static_assert(offsetof(struct mqb_plugin_entry, id) == sizeof(struct entry_prefix), "moved");

/* Who a refusal is about. The entry's id and version are known from the moment they may be read. */
struct subject {
    const struct mqb_claim *claim;
    const char *id, *version;
    uint16_t host_major, host_minor;
    struct mqb_error *error;
};

/* The end of a long path tells more than its beginning, and the rule's number must not fall off the sentence's end. */
static const char *clip(char buffer[256], const char *text)
{
    size_t length = strlen(text);
    if (length < 256) {
        return text;
    }
    snprintf(buffer, 256, "...%s", text + length - 240);
    return buffer;
}

static mqb_status refuse(const struct subject *subject, int rule, const char *wanted, const char *todo, const char *found, ...)
    MQB_PRINTF(5, 6);

static mqb_status refuse(const struct subject *subject, int rule, const char *wanted, const char *todo, const char *found, ...)
{
    char found_text[320], identity[160] = "", library[256], where[256];
    va_list args;
    va_start(args, found);
    vsnprintf(found_text, sizeof(found_text), found, args);
    va_end(args);
    if (subject->id) {
        snprintf(identity, sizeof(identity), "plugin \"%.64s\" version %.64s, ", subject->id, subject->version);
    }
    return mqb_fail(subject->error, MQB_ERR_ABI, "%s (%sfor [%s %.64s] of %s): %s; wanted %s; %s [MQB-P%02d]",
                    clip(library, subject->claim->library), identity, mqb_kind_name(subject->claim->kind), subject->claim->id,
                    clip(where, subject->claim->where), found_text, wanted, todo, rule);
}

static mqb_status check_version(const struct subject *subject, const char *whose, uint16_t major, uint16_t minor)
{
    char wanted[64];
    if (major != subject->host_major) {
        snprintf(wanted, sizeof(wanted), "ABI major %u, this host's", subject->host_major);
        return refuse(subject, 5, wanted, "build the plugin with this host's SDK, or use a host of the plugin's major version",
                      "%s ABI %u.%u", whose, major, minor);
    }
    if (minor > subject->host_minor) {
        snprintf(wanted, sizeof(wanted), "at most ABI %u.%u, this host's", subject->host_major, subject->host_minor);
        return refuse(subject, 6, wanted, "use a newer host, or build the plugin with this host's SDK", "%s ABI %u.%u", whose,
                      major, minor);
    }
    return MQB_OK;
}

static mqb_status check_cpu(const struct subject *subject)
{
    const char *text = subject->claim->cpu;
    for (;;) {
        text += strspn(text, " \t,");
        size_t length = strcspn(text, " \t,");
        if (length == 0) {
            return MQB_OK;
        }
        char name[48], wanted[96];
        snprintf(name, sizeof(name), "%.*s", (int)(length < sizeof(name) ? length : sizeof(name) - 1), text);
        enum mqb_cpu_answer answer = mqb_cpu_has(text, length);
        if (answer == MQB_CPU_LACKS) {
            snprintf(wanted, sizeof(wanted), "one with \"%s\", as the section's \"cpu\" says", name);
            return refuse(subject, 14, wanted, "use another component on this machine", "this machine's CPU lacks \"%s\"",
                          name);
        }
        if (answer == MQB_CPU_UNKNOWN_NAME) {
            const char *near = mqb_cpu_nearest(name);
            snprintf(wanted, sizeof(wanted), "%s%s%s", near ? "a name such as \"" : "names of this machine's CPU features",
                     near ? near : "", near ? "\"" : "");
            return refuse(subject, 14, wanted, "correct \"cpu\" in the section, or use another component on this machine",
                          "the section asks for CPU feature \"%s\", which this host does not know", name);
        }
        text += length;
    }
}

/* What the section says, before the file is looked at. */
static mqb_status check_claim(const struct subject *subject)
{
    const struct mqb_claim *claim = subject->claim;
    mqb_status status = MQB_OK;
    if (claim->has_abi) {
        status = check_version(subject, "the section says that it needs", claim->abi_major, claim->abi_minor);
    }
    if (!status && claim->cpu) {
        status = check_cpu(subject);
    }
    return status;
}

static mqb_status check_prefix(const struct subject *subject, const struct entry_prefix *prefix)
{
    if (prefix->magic != MQB_PLUGIN_MAGIC) {
        char wanted[32];
        snprintf(wanted, sizeof(wanted), "0x%08x", MQB_PLUGIN_MAGIC);
        return refuse(subject, 3, wanted, "declare the entry with the macro MQB_PLUGIN and build it for this machine",
                      "the entry's magic is 0x%08x", prefix->magic);
    }
    mqb_status status = check_version(subject, "it was built for", prefix->abi_major, prefix->abi_minor);
    if (status) {
        return status;
    }
    if (prefix->min_host_minor > subject->host_minor) {
        char wanted[64];
        snprintf(wanted, sizeof(wanted), "one that works with ABI %u.%u, this host's", subject->host_major,
                 subject->host_minor);
        return refuse(subject, 6, wanted, "use a newer host, or an older version of the plugin",
                      "it needs a host of ABI %u.%u or newer", prefix->abi_major, prefix->min_host_minor);
    }
    if (prefix->struct_size < ENTRY_SIZE) {
        char wanted[64];
        snprintf(wanted, sizeof(wanted), "at least %zu", ENTRY_SIZE);
        return refuse(subject, 4, wanted, "declare the entry with the macro MQB_PLUGIN", "the entry's struct_size is %u bytes",
                      prefix->struct_size);
    }
    return MQB_OK;
}

/* P02 to P06 from the bytes of the file, so that no constructor of a plugin of another ABI ever runs. */
static mqb_status check_file(const struct subject *subject, const void *data, size_t size)
{
    char found[256];
    struct entry_prefix prefix;
    if (!mqb_elf_check(data, size, found, sizeof(found))) {
        return refuse(subject, 1, "a complete shared object for this machine", "build or copy the plugin again", "%s", found);
    }
    enum mqb_elf_answer answer = mqb_elf_read_symbol(data, size, MQB_PLUGIN_SYMBOL, &prefix, sizeof(prefix));
    if (answer == MQB_ELF_ABSENT) {
        return refuse(subject, 2, "the symbol \"" MQB_PLUGIN_SYMBOL "\"",
                      "declare the entry with the macro MQB_PLUGIN, or correct \"library\" in the section",
                      "the shared object exports no plugin entry");
    }
    return answer == MQB_ELF_FOUND ? check_prefix(subject, &prefix) : MQB_OK;
}

mqb_status mqb_library_inspect(const struct mqb_claim *claim, uint16_t host_major, uint16_t host_minor,
                               struct mqb_library *library, struct mqb_error *error)
{
    const struct subject subject = {.claim = claim, .host_major = host_major, .host_minor = host_minor, .error = error};
    const char *path = claim->library;
    void *data = NULL;
    size_t size = 0;
    struct stat info;
    mqb_status status = check_claim(&subject);
    if (status) {
        return status;
    }
    if (stat(path, &info) != 0) {
        return refuse(&subject, 1, "a shared object there", "build the plugin, or correct \"library\" in the section",
                      "the file cannot be found (%s)", strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        return refuse(&subject, 1, "a shared object there", "correct \"library\" in the section", "it is not a regular file");
    }
    if ((info.st_mode & (S_IWGRP | S_IWOTH)) && !claim->allow_writable) {
        return refuse(&subject, 13, "that its owner alone may write to it",
                      "run `chmod go-w` on it, or put \"allow_writable = yes\" into the section",
                      "%s may write to the file (mode %04o)", (info.st_mode & S_IWOTH) ? "everybody" : "its group",
                      (unsigned)(info.st_mode & 07777));
    }
    struct mqb_error reading = MQB_ERROR_INIT;
    status = mqb_file_read(path, LIBRARY_MAX_SIZE, &data, &size, &reading);
    if (status == MQB_ERR_MEMORY) {
        return mqb_fail(error, status, "%s", reading.text);
    }
    if (status) {
        return refuse(&subject, 1, "a file that can be read", "allow reading it, or correct \"library\" in the section",
                      "%.200s", reading.text);
    }
    library->device = info.st_dev;
    library->inode = info.st_ino;
    struct mqb_sha256 hash;
    mqb_sha256_init(&hash);
    mqb_sha256_update(&hash, data, size);
    mqb_sha256_hex(&hash, library->sha256);
    if (claim->sha256 && strcmp(claim->sha256, library->sha256) != 0) {
        char wanted[96];
        snprintf(wanted, sizeof(wanted), "%s, which the section pins", claim->sha256);
        status = refuse(&subject, 12, wanted,
                        "put the expected file back, or correct \"sha256\" in the section if the new file is meant",
                        "its SHA-256 is %s", library->sha256);
    }
    if (!status) {
        status = check_file(&subject, data, size);
    }
    mqb_deallocate(data);
    return status;
}

static const struct mqb_component *component_at(const struct mqb_plugin_entry *entry, uint32_t index)
{
    return (const struct mqb_component *)(const void *)((const char *)entry->components +
                                                        (size_t)index * entry->component_size);
}

static mqb_status check_component(const struct subject *subject, const struct mqb_plugin_entry *entry, uint32_t index)
{
    const struct mqb_component *component = component_at(entry, index);
    enum mqb_kind kind, other;
    char found[256];
    if (component->struct_size < COMPONENT_SIZE) {
        char wanted[32];
        snprintf(wanted, sizeof(wanted), "at least %zu", COMPONENT_SIZE);
        return refuse(subject, 10, wanted, "fill struct_size with sizeof(struct mqb_component)",
                      "component %u has a struct_size of %u bytes", index, component->struct_size);
    }
    if (!component->interface_id || !mqb_kind_of_interface(component->interface_id, &kind)) {
        char wanted[128];
        snprintf(wanted, sizeof(wanted), "one of %s, %s, %s, %s", mqb_kind_interface(MQB_KIND_QUANTIZER),
                 mqb_kind_interface(MQB_KIND_PASS), mqb_kind_interface(MQB_KIND_BACKEND), mqb_kind_interface(MQB_KIND_COMPUTE));
        return refuse(subject, 9, wanted, "build the plugin with this host's SDK, or use a host that serves that interface",
                      "component %u (\"%.64s\") has the interface \"%.64s\"", index, component->id ? component->id : "",
                      component->interface_id ? component->interface_id : "NULL");
    }
    if (!component->id || component->id[0] == '\0') {
        return refuse(subject, 10, "an id", "name the component as users are to call it", "component %u, a %s, has no id",
                      index, mqb_kind_name(kind));
    }
    if (!component->vtable) {
        return refuse(subject, 10, "a vtable", "point it at the component's table", "the vtable of %s \"%.64s\" is NULL",
                      mqb_kind_name(kind), component->id);
    }
    if (!mqb_kind_check_vtable(kind, component->vtable, found, sizeof(found))) {
        return refuse(subject, 10, "a vtable with all mandatory entries of this kind",
                      "fill it as the header of this kind says", "%s \"%.64s\" cannot be used: %s", mqb_kind_name(kind),
                      component->id, found);
    }
    for (uint32_t i = 0; i < index; i++) {
        const struct mqb_component *earlier = component_at(entry, i);
        if (mqb_kind_of_interface(earlier->interface_id, &other) && other == kind && strcmp(earlier->id, component->id) == 0) {
            return refuse(subject, 11, "ids that differ within a kind", "rename one of them",
                          "components %u and %u are both %s \"%.64s\"", i, index, mqb_kind_name(kind), component->id);
        }
    }
    return MQB_OK;
}

/* From here on refusals tell the plugin's own name, if the entry can be read that far. */
static void identify(struct subject *subject, const struct mqb_plugin_entry *entry)
{
    if (entry && entry->magic == MQB_PLUGIN_MAGIC && entry->abi_major == subject->host_major &&
        entry->struct_size >= ENTRY_SIZE && entry->id && entry->version) {
        subject->id = entry->id;
        subject->version = entry->version;
    }
}

static mqb_status check_entry(const struct subject *subject, const struct mqb_plugin_entry *entry)
{
    static const char todo[] = "declare the entry with the macro MQB_PLUGIN";
    struct entry_prefix prefix;
    memcpy(&prefix, entry, sizeof(prefix));
    mqb_status status = check_prefix(subject, &prefix);
    if (status) {
        return status;
    }
    if (!entry->id || !entry->version || entry->id[0] == '\0') {
        return refuse(subject, 4, "both as texts", todo, "the entry's %s is %s",
                      entry->id ? (entry->version ? "id" : "version") : "id", entry->id && entry->version ? "empty" : "NULL");
    }
    if (!entry->components || entry->num_components == 0 || entry->num_components > MAX_COMPONENTS ||
        entry->component_size < COMPONENT_SIZE || entry->component_size % sizeof(void *) != 0) {
        char wanted[96];
        snprintf(wanted, sizeof(wanted), "1 to %u components of at least %zu bytes", MAX_COMPONENTS, COMPONENT_SIZE);
        return refuse(subject, 4, wanted, todo, "the entry lists %u components of %u bytes at %s", entry->num_components,
                      entry->component_size, entry->components ? "an address" : "NULL");
    }
    for (uint32_t i = 0; i < entry->num_components && !status; i++) {
        status = check_component(subject, entry, i);
    }
    return status;
}

mqb_status mqb_library_open(const struct mqb_claim *claim, uint16_t host_major, uint16_t host_minor,
                            struct mqb_library *library, struct mqb_error *error)
{
    struct subject subject = {.claim = claim, .host_major = host_major, .host_minor = host_minor, .error = error};
    char found[256];
    mqb_status status = MQB_OK;
    const struct mqb_float_mode before = mqb_float_mode_get();
    library->handle = dlopen(claim->library, RTLD_NOW | RTLD_LOCAL);
    const struct mqb_float_mode after = mqb_float_mode_get();
    mqb_float_mode_set(before);
    if (!library->handle) {
        const char *reason = dlerror();
        return refuse(&subject, 1, "a shared object that opens with RTLD_NOW",
                      "link the plugin with -Wl,-z,defs to see what it lacks, and install what it needs",
                      "it does not open: %.220s", reason ? reason : "no reason given");
    }
    const struct mqb_plugin_entry *entry = dlsym(library->handle, MQB_PLUGIN_SYMBOL);
    identify(&subject, entry);
    if (!mqb_float_mode_equal(before, after)) {
        mqb_float_mode_describe(before, after, found, sizeof(found));
        status = refuse(&subject, 8, "the floating-point mode as it was",
                        "build the plugin and what it links without -ffast-math and without changing the mode",
                        "when it was opened, %s", found);
    } else if (!entry) {
        status = refuse(&subject, 2, "the symbol \"" MQB_PLUGIN_SYMBOL "\"", "declare the entry with the macro MQB_PLUGIN",
                        "the shared object exports no plugin entry");
    } else {
        status = check_entry(&subject, entry);
    }
    if (status) {
        mqb_library_close(library);
        return status;
    }
    library->entry = entry;
    return MQB_OK;
}

mqb_status mqb_library_component(const struct mqb_claim *claim, const struct mqb_library *library, const void **vtable,
                                 struct mqb_error *error)
{
    const struct mqb_plugin_entry *entry = library->entry;
    const struct subject subject = {.claim = claim, .id = entry->id, .version = entry->version, .error = error};
    if (claim->plugin && strcmp(claim->plugin, entry->id) != 0) {
        char wanted[96];
        snprintf(wanted, sizeof(wanted), "\"%.64s\", which the section names", claim->plugin);
        return refuse(&subject, 7, wanted, "correct \"library\" or \"plugin\" in the section",
                      "the plugin calls itself \"%.64s\"", entry->id);
    }
    char list[200] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < entry->num_components; i++) {
        const struct mqb_component *component = component_at(entry, i);
        enum mqb_kind kind = MQB_NUM_KINDS;
        mqb_kind_of_interface(component->interface_id, &kind);
        if (kind == claim->kind && strcmp(component->id, claim->id) == 0) {
            *vtable = component->vtable;
            return MQB_OK;
        }
        if (used < sizeof(list)) {
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s \"%.64s\"", i ? ", " : "", mqb_kind_name(kind),
                                     component->id);
        }
    }
    char wanted[96];
    snprintf(wanted, sizeof(wanted), "%s \"%.64s\"", mqb_kind_name(claim->kind), claim->id);
    return refuse(&subject, 15, wanted, "name the section after a component that the plugin carries, or correct \"library\"",
                  "it carries %s", list);
}

void mqb_library_close(struct mqb_library *library)
{
    if (library->handle) {
        /* A destructor may change the mode too. */
        const struct mqb_float_mode before = mqb_float_mode_get();
        dlclose(library->handle);
        mqb_float_mode_set(before);
        library->handle = NULL;
        library->entry = NULL;
    }
}
