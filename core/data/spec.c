/* spec.c - the parts of a data set by name: "train=A.bin+B.bin,test=C.bin". */
#include "data/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool mqb_spec_is_list(const char *text)
{
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz-");
    return length > 0 && text[length] == '=';
}

void mqb_spec_deinit(struct mqb_spec *spec)
{
    mqb_deallocate(spec->text);
    *spec = (struct mqb_spec){0};
}

const char *mqb_spec_value(const struct mqb_spec *spec, const char *key)
{
    for (size_t i = 0; i < spec->num; i++)
        if (strcmp(spec->key[i], key) == 0)
            return spec->value[i];
    return NULL;
}

static mqb_status add_item(struct mqb_spec *spec, char *item, const char *const *keys, struct mqb_error *error)
{
    char *equals = strchr(item, '=');
    if (equals == NULL)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "data set %s: '%s' is not KEY=VALUE (commas separate such pairs, + joins files)", spec->kind, item);
    *equals = '\0';
    size_t num_keys = 0;
    bool known = false;
    for (; keys[num_keys] != NULL; num_keys++)
        known = known || strcmp(keys[num_keys], item) == 0;
    if (!known) {
        const char *nearest = mqb_nearest(item, keys, num_keys);
        char all[128] = "";
        for (size_t i = 0, used = 0; keys[i] != NULL && used < sizeof all; i++)
            used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i == 0 ? "" : ", ", keys[i]);
        if (nearest != NULL)
            return mqb_fail(error, MQB_ERR_ARGUMENT, "data set %s: unknown key '%s', did you mean '%s'? (keys: %s)", spec->kind,
                            item, nearest, all);
        return mqb_fail(error, MQB_ERR_ARGUMENT, "data set %s: unknown key '%s' (keys: %s)", spec->kind, item, all);
    }
    if (mqb_spec_value(spec, item) != NULL)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "data set %s: '%s' is given twice; join files with +, as %s=A+B", spec->kind,
                        item, item);
    if (equals[1] == '\0')
        return mqb_fail(error, MQB_ERR_ARGUMENT, "data set %s: '%s=' has no value", spec->kind, item);
    spec->key[spec->num] = item;
    spec->value[spec->num++] = equals + 1;
    return MQB_OK;
}

mqb_status mqb_spec_parse(const char *kind, const char *text, const char *const *keys, struct mqb_spec *spec,
                          struct mqb_error *error)
{
    *spec = (struct mqb_spec){.kind = kind, .text = mqb_strdup(text)};
    if (spec->text == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "data set %s: no memory", kind);
    mqb_status status = MQB_OK;
    /* Keys are distinct and known, so there are never more than MQB_SPEC_MAX of them. */
    for (char *item = spec->text; status == MQB_OK && item != NULL && item[0] != '\0';) {
        char *next = strchr(item, ',');
        if (next != NULL)
            *next++ = '\0';
        status = add_item(spec, item, keys, error);
        item = next;
    }
    if (status != MQB_OK)
        mqb_spec_deinit(spec);
    return status;
}

mqb_status mqb_spec_number(const struct mqb_spec *spec, const char *key, uint64_t min, uint64_t max, uint64_t *value,
                           struct mqb_error *error)
{
    const char *text = mqb_spec_value(spec, key);
    if (text == NULL)
        return MQB_OK;
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number < min || number > max)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "data set %s: %s=%s is not a whole number from %llu to %llu", spec->kind, key,
                        text, (unsigned long long)min, (unsigned long long)max);
    *value = number;
    return MQB_OK;
}
