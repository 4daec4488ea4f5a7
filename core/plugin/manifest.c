/* manifest.c - reads a manifest: sections [kind id] with reserved keys and options. */
#include "plugin/manifest.h"
#include "plugin/kind.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define MANIFEST_MAX_SIZE ((size_t)1 << 20)

const char *const mqb_manifest_reserved[] = {"library", "doc", "plugin", "abi", "cpu", "sha256", "allow_writable"};
const size_t mqb_manifest_num_reserved = sizeof(mqb_manifest_reserved) / sizeof(mqb_manifest_reserved[0]);

bool mqb_manifest_is_reserved(const char *key)
{
    for (size_t i = 0; i < mqb_manifest_num_reserved; i++) {
        if (strcmp(mqb_manifest_reserved[i], key) == 0) {
            return true;
        }
    }
    return false;
}

bool mqb_manifest_parse_abi(const char *text, uint16_t *major, uint16_t *minor)
{
    unsigned long part[2];
    for (int i = 0; i < 2; i++) {
        char *end;
        if (!isdigit((unsigned char)*text)) {
            return false;
        }
        part[i] = strtoul(text, &end, 10);
        if (part[i] > UINT16_MAX || *end != (i == 0 ? '.' : '\0')) {
            return false;
        }
        text = end + 1;
    }
    *major = (uint16_t)part[0];
    *minor = (uint16_t)part[1];
    return true;
}

bool mqb_manifest_parse_bool(const char *text, bool *value)
{
    static const char *const words[] = {"no", "yes", "off", "on", "false", "true", "0", "1"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(text, words[i]) == 0) {
            *value = i % 2 == 1;
            return true;
        }
    }
    return false;
}

struct reading {
    struct mqb_manifest *manifest;
    char *dir; /* the manifest's folder, absolute */
    int line; /* that is being read */
    bool in_section;
    mqb_status status;
    struct mqb_error *error;
};

static mqb_status grow(void **items, size_t count, size_t *capacity, size_t item_size)
{
    if (count < *capacity) {
        return MQB_OK;
    }
    size_t wanted = *capacity ? *capacity * 2 : 8;
    void *larger = mqb_allocate_array(wanted, item_size);
    if (!larger) {
        return MQB_ERR_MEMORY;
    }
    if (count > 0) {
        memcpy(larger, *items, count * item_size);
    }
    mqb_deallocate(*items);
    *items = larger;
    *capacity = wanted;
    return MQB_OK;
}

#define FAIL_AT(reading, at, code, format, ...)                                                                                \
    ((reading)->status = mqb_fail((reading)->error, code, "%s:%d: " format, (reading)->manifest->path, at, __VA_ARGS__))
#define FAIL(reading, format, ...) FAIL_AT(reading, (reading)->line, MQB_ERR_FORMAT, format, __VA_ARGS__)

static void fail_memory(struct reading *reading)
{
    FAIL_AT(reading, reading->line, MQB_ERR_MEMORY, "%s", "no memory to read on; free some and try again");
}

static bool legal_name(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (!isalnum((unsigned char)text[i]) && !strchr("_-.+", text[i])) {
            return false;
        }
    }
    return length > 0;
}

static const char *skip_blank(const char *text, const char *end)
{
    while (text < end && isspace((unsigned char)*text)) {
        text++;
    }
    return text;
}

static const char *skip_word(const char *text, const char *end)
{
    while (text < end && !isspace((unsigned char)*text)) {
        text++;
    }
    return text;
}

static struct mqb_manifest_section *find_section(struct mqb_manifest *manifest, enum mqb_kind kind, const char *id)
{
    for (size_t i = 0; i < manifest->num_sections; i++) {
        if (manifest->sections[i].kind == kind && strcmp(manifest->sections[i].id, id) == 0) {
            return &manifest->sections[i];
        }
    }
    return NULL;
}

static void add_section(struct reading *reading, enum mqb_kind kind, const char *id, size_t id_length)
{
    struct mqb_manifest *manifest = reading->manifest;
    if (grow((void **)&manifest->sections, manifest->num_sections, &manifest->sections_capacity, sizeof(*manifest->sections))) {
        fail_memory(reading);
        return;
    }
    char *id_copy = mqb_format("%.*s", (int)id_length, id);
    char *where = mqb_format("%s:%d", manifest->path, reading->line);
    if (!id_copy || !where) {
        mqb_deallocate(id_copy);
        mqb_deallocate(where);
        fail_memory(reading);
        return;
    }
    const struct mqb_manifest_section *twin = find_section(manifest, kind, id_copy);
    if (twin) {
        FAIL(reading, "section [%s %s] was begun at %s already; put its keys together there, or give this one another id",
             mqb_kind_name(kind), id_copy, twin->where);
        mqb_deallocate(id_copy);
        mqb_deallocate(where);
        return;
    }
    manifest->sections[manifest->num_sections++] = (struct mqb_manifest_section){.kind = kind, .id = id_copy, .where = where};
    reading->in_section = true;
}

/* "[kind id]", maybe with a comment behind. */
static void read_header(struct reading *reading, const char *line, const char *end)
{
    char buffer[64], word[32];
    const char *close = memchr(line, ']', (size_t)(end - line));
    if (!close) {
        FAIL(reading, "\"%s\" begins a section but has no \"]\"; write [kind id], as in [quantizer name]",
             mqb_ini_shown(buffer, line, (size_t)(end - line)));
        return;
    }
    const char *rest = skip_blank(close + 1, end);
    if (rest < end && *rest != ';' && *rest != '#') {
        FAIL(reading, "\"%s\" follows the section's name; put it on a line of its own",
             mqb_ini_shown(buffer, rest, (size_t)(end - rest)));
        return;
    }
    const char *kind_start = skip_blank(line + 1, close), *kind_end = skip_word(kind_start, close);
    const char *id_start = skip_blank(kind_end, close), *id_end = skip_word(id_start, close);
    if (id_start == id_end || skip_blank(id_end, close) != close) {
        FAIL(reading, "section %s is not a kind and an id; write [kind id], as in [quantizer name]",
             mqb_ini_shown(buffer, line, (size_t)(close + 1 - line)));
        return;
    }
    enum mqb_kind kind;
    size_t kind_length = (size_t)(kind_end - kind_start);
    snprintf(word, sizeof(word), "%.*s", (int)(kind_length < sizeof(word) ? kind_length : sizeof(word) - 1), kind_start);
    if (kind_length >= sizeof(word) || !mqb_kind_parse(word, &kind)) {
        const char *near = mqb_nearest(word, mqb_kind_names, MQB_NUM_KINDS);
        FAIL(reading, "there is no kind \"%s\"; kinds are quantizer, pass, backend and compute%s%s%s",
             mqb_ini_shown(buffer, kind_start, kind_length), near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
        return;
    }
    if (!legal_name(id_start, (size_t)(id_end - id_start))) {
        FAIL(reading, "id \"%s\" has a character that an id cannot have; use letters, digits and _ - . +",
             mqb_ini_shown(buffer, id_start, (size_t)(id_end - id_start)));
        return;
    }
    add_section(reading, kind, id_start, (size_t)(id_end - id_start));
}

static mqb_status take_header(void *user, const char *header, size_t length, int line, struct mqb_error *error)
{
    struct reading *reading = user;
    (void)error;
    reading->line = line;
    read_header(reading, header, header + length);
    return reading->status;
}

/* Joins a library's path to the manifest's folder; leading "../" are taken off, since the folder has no links in it. */
static char *absolute_library(const char *dir, const char *value)
{
    if (value[0] == '/') {
        return mqb_strdup(value);
    }
    size_t dir_length = strlen(dir);
    for (;;) {
        if (strncmp(value, "./", 2) == 0) {
            value += 2;
        } else if (strncmp(value, "../", 3) == 0) {
            value += 3;
            while (dir_length > 0 && dir[dir_length - 1] != '/') {
                dir_length--;
            }
            while (dir_length > 0 && dir[dir_length - 1] == '/') {
                dir_length--;
            }
        } else if (value[0] == '/') {
            value++;
        } else {
            break;
        }
    }
    if (dir_length > 0 && dir[dir_length - 1] == '/') {
        dir_length--;
    }
    return mqb_format("%.*s/%s", (int)dir_length, dir, value);
}

/* Checks a reserved key's value; the value to keep, or NULL with the reason told. */
static char *checked_value(struct reading *reading, const char *name, const char *value)
{
    char buffer[64];
    uint16_t major, minor;
    bool flag;
    const char *saw = mqb_ini_shown(buffer, value, strlen(value));
    bool needs_value = strcmp(name, "doc") != 0;
    if (mqb_manifest_is_reserved(name) && needs_value && value[0] == '\0') {
        FAIL(reading, "\"%s\" has no value; give one, or remove the line", name);
        return NULL;
    }
    if (strcmp(name, "abi") == 0 && !mqb_manifest_parse_abi(value, &major, &minor)) {
        FAIL(reading, "abi = \"%s\" is not a version; write major.minor, as in %d.%d", saw, MQB_ABI_MAJOR, MQB_ABI_MINOR);
        return NULL;
    }
    if (strcmp(name, "allow_writable") == 0 && !mqb_manifest_parse_bool(value, &flag)) {
        FAIL(reading, "allow_writable = \"%s\" is neither yes nor no; write one of them", saw);
        return NULL;
    }
    if (strcmp(name, "sha256") == 0 && (strlen(value) != 64 || strspn(value, "0123456789abcdefABCDEF") != 64)) {
        FAIL(reading, "sha256 = \"%s\" is not a SHA-256; give 64 hexadecimal digits, as `sha256sum` prints them", saw);
        return NULL;
    }
    char *kept = strcmp(name, "library") == 0 ? absolute_library(reading->dir, value) : mqb_strdup(value);
    if (!kept) {
        fail_memory(reading);
    } else if (strcmp(name, "sha256") == 0) {
        for (char *digit = kept; *digit; digit++) {
            *digit = (char)tolower((unsigned char)*digit);
        }
    }
    return kept;
}

static mqb_status take_key(void *user, const char *ini_section, const char *name, const char *value, int line,
                           struct mqb_error *error)
{
    struct reading *reading = user;
    char buffer[64];
    (void)ini_section;
    (void)error;
    reading->line = line;
    if (!reading->in_section) {
        FAIL(reading, "key \"%s\" stands before the first section; put a line like [quantizer name] above it",
             mqb_ini_shown(buffer, name, strlen(name)));
        return reading->status;
    }
    if (!legal_name(name, strlen(name))) {
        FAIL(reading, "\"%s\" is not a key's name; use letters, digits and _ - . +", mqb_ini_shown(buffer, name, strlen(name)));
        return reading->status;
    }
    struct mqb_manifest_section *section = &reading->manifest->sections[reading->manifest->num_sections - 1];
    for (size_t i = 0; i < section->num_keys; i++) {
        if (strcmp(section->keys[i].name, name) == 0) {
            FAIL(reading, "key \"%s\" was given at %s already, in the same section; keep one of the two", name,
                 section->keys[i].where);
            return reading->status;
        }
    }
    if (grow((void **)&section->keys, section->num_keys, &section->keys_capacity, sizeof(*section->keys))) {
        fail_memory(reading);
        return reading->status;
    }
    char *kept = checked_value(reading, name, value);
    if (!kept) {
        return reading->status;
    }
    struct mqb_manifest_key *key = &section->keys[section->num_keys++];
    key->value = kept;
    key->name = mqb_strdup(name);
    key->where = mqb_format("%s:%d", reading->manifest->path, reading->line);
    if (!key->name || !key->where) {
        fail_memory(reading);
    }
    return reading->status;
}

static char *absolute_dir(const char *path)
{
    char *dir = mqb_path_dir(path), *kept = NULL;
    char resolved[PATH_MAX];
    if (dir && realpath(dir, resolved)) {
        kept = mqb_strdup(resolved);
    }
    mqb_deallocate(dir);
    return kept;
}

mqb_status mqb_manifest_read(const char *path, struct mqb_manifest **manifest, struct mqb_error *error)
{
    void *text = NULL;
    size_t size = 0;
    struct reading reading = {.error = error};
    mqb_status status = mqb_file_read(path, MANIFEST_MAX_SIZE, &text, &size, error);
    if (status) {
        return status;
    }
    struct mqb_manifest *made = mqb_allocate(sizeof(*made));
    reading.manifest = made;
    if (made) {
        made->path = mqb_strdup(path);
        reading.dir = absolute_dir(path);
    }
    if (!made || !made->path || !reading.dir) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory to read it; free some and try again", path);
        goto out;
    }
    static const struct mqb_ini_handlers handlers = {take_header, take_key};
    status = mqb_ini_parse(text, size, path, &handlers, &reading, error);
    if (!status) {
        *manifest = made;
        made = NULL;
    }
out:
    mqb_manifest_destroy(made);
    mqb_deallocate(reading.dir);
    mqb_deallocate(text);
    return status;
}

void mqb_manifest_destroy(struct mqb_manifest *manifest)
{
    if (!manifest) {
        return;
    }
    for (size_t i = 0; i < manifest->num_sections; i++) {
        struct mqb_manifest_section *section = &manifest->sections[i];
        for (size_t k = 0; k < section->num_keys; k++) {
            mqb_deallocate(section->keys[k].name);
            mqb_deallocate(section->keys[k].value);
            mqb_deallocate(section->keys[k].where);
        }
        mqb_deallocate(section->keys);
        mqb_deallocate(section->id);
        mqb_deallocate(section->where);
    }
    mqb_deallocate(manifest->sections);
    mqb_deallocate(manifest->path);
    mqb_deallocate(manifest);
}
