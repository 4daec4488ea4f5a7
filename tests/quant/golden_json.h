/* golden_json.h - reads one reference file of MQB_SHARED/golden; skips the test with a word when it is not there. */
#ifndef GOLDEN_JSON_H
#define GOLDEN_JSON_H

#include "base/base.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static inline json_t *golden_open(const char *name)
{
    char path[1024];
    snprintf(path, sizeof(path), "%s/golden/%s", MQB_SHARED, name);
    if (!mqb_file_exists(path)) {
        print_message("no %s: reference vectors skipped\n", path);
        skip();
    }
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    if (!root)
        fail_msg("%s: %s", path, error.text);
    return root;
}

/* Element `index` of the array `data` of tensor `key`, or of the plain array `key`. */
static inline double golden_at(const json_t *object, const char *key, size_t index)
{
    json_t *value = json_object_get(object, key);
    json_t *data = json_is_object(value) ? json_object_get(value, "data") : value;
    json_t *element = json_array_get(data, index);
    if (!json_is_number(element))
        fail_msg("no number %zu in %s", index, key);
    return json_number_value(element);
}

static inline size_t golden_size(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    json_t *data = json_is_object(value) ? json_object_get(value, "data") : value;
    return json_array_size(data);
}

static inline double golden_number(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("no number %s", key);
    return json_number_value(value);
}

#endif
