/*
 * case.c - what all drivers use: numbers and tensors of a file, comparison, components.
 */
#include "golden.h"

#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct golden_memory {
    struct golden_memory *next;
    max_align_t data[];
};

void *golden_alloc(struct golden_case *c, int64_t count, size_t size)
{
    struct golden_memory *block = calloc(1, sizeof(*block) + (size_t)count * size + sizeof(max_align_t));
    if (!block) {
        fprintf(stderr, "golden: no memory\n");
        exit(3);
    }
    block->next = c->memory;
    c->memory = block;
    return block->data;
}

void golden_case_release(struct golden_case *c)
{
    while (c->memory) {
        struct golden_memory *next = c->memory->next;
        free(c->memory);
        c->memory = next;
    }
}

void golden_problem(struct golden_case *c, const char *format, ...)
{
    va_list args;
    if (c->problem[0])
        return;
    va_start(args, format);
    vsnprintf(c->problem, sizeof(c->problem), format, args);
    va_end(args);
}

bool golden_ok(struct golden_case *c, mqb_status status)
{
    if (status != MQB_OK)
        golden_problem(c, "%.500s", c->error.text);
    return status == MQB_OK;
}

/* ---- files ---- */

const char *golden_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

int64_t golden_int(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_true(value) ? 1 : json_integer_value(value);
}

double golden_number(struct golden_case *c, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        golden_problem(c, "the file has no number \"%s\"", key);
    return json_number_value(value);
}

const json_t *golden_get(const json_t *object, const char *path)
{
    while (object && path) {
        const char *dot = strchr(path, '.');
        object = dot ? json_object_getn(object, path, (size_t)(dot - path)) : json_object_get(object, path);
        path = dot ? dot + 1 : NULL;
    }
    return object;
}

struct golden_tensor golden_tensor_of(struct golden_case *c, const json_t *json)
{
    struct golden_tensor tensor = {0};
    const json_t *data = json_object_get(json, "data"), *shape = json_object_get(json, "shape");
    if (!json_is_array(data) || !json_is_array(shape) || json_array_size(shape) > 6)
        return tensor;
    int64_t product = 1;
    tensor.rank = (int)json_array_size(shape);
    tensor.size = (int64_t)json_array_size(data);
    for (int i = 0; i < tensor.rank; i++) {
        tensor.dims[i] = json_integer_value(json_array_get(shape, (size_t)i));
        product = tensor.dims[i] >= 0 && tensor.dims[i] <= tensor.size ? product * tensor.dims[i] : -1;
        if (product < 0 || product > tensor.size)
            break;
    }
    if (product != tensor.size) {
        golden_problem(c, "a tensor of %lld numbers has another shape", (long long)tensor.size);
        return (struct golden_tensor){0};
    }
    tensor.data = golden_alloc(c, tensor.size, sizeof(float));
    for (int64_t i = 0; i < tensor.size; i++)
        tensor.data[i] = (float)json_number_value(json_array_get(data, (size_t)i));
    return tensor;
}

struct golden_tensor golden_need(struct golden_case *c, const json_t *object, const char *path)
{
    struct golden_tensor tensor = golden_tensor_of(c, golden_get(object, path));
    if (!tensor.data)
        golden_problem(c, "the file has no tensor \"%s\"", path);
    return tensor;
}

struct mqb_tensor_view golden_view(const struct golden_tensor *tensor)
{
    struct mqb_tensor_view view = {
        .struct_size = sizeof(view), .rank = tensor->rank, .num_elements = tensor->size, .data = tensor->data};
    for (int i = 0; i < tensor->rank; i++)
        view.dims[i] = tensor->dims[i];
    return view;
}

struct golden_tensor golden_nhwc(struct golden_case *c, const struct golden_tensor *tensor)
{
    struct golden_tensor to = *tensor;
    int64_t n = tensor->dims[0], channels = tensor->dims[1], pixels = tensor->dims[2] * tensor->dims[3];
    if (!tensor->data || tensor->rank != 4)
        return to;
    to.data = golden_alloc(c, to.size, sizeof(float));
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < channels; k++)
            for (int64_t p = 0; p < pixels; p++)
                to.data[(i * pixels + p) * channels + k] = tensor->data[(i * channels + k) * pixels + p];
    return to;
}

static const json_t *list_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_object(value) ? json_object_get(value, "data") : value;
}

int64_t golden_at(struct golden_case *c, const json_t *object, const char *key, size_t index)
{
    const json_t *element = json_array_get(list_of(object, key), index);
    if (!json_is_number(element))
        golden_problem(c, "the file has no number %zu in \"%s\"", index, key);
    return json_is_integer(element) ? json_integer_value(element) : (int64_t)json_number_value(element);
}

size_t golden_size(const json_t *object, const char *key)
{
    return json_array_size(list_of(object, key));
}

/* ---- comparison ---- */

double golden_largest(const struct golden_tensor *tensor)
{
    double largest = 0.0;
    for (int64_t i = 0; i < tensor->size; i++)
        largest = fmax(largest, fabs((double)tensor->data[i]));
    return largest;
}

void golden_compare(struct golden_case *c, const char *what, const struct golden_tensor *want, const float *got,
                    struct golden_tolerance tolerance)
{
    double limit = tolerance.relative * golden_largest(want) + tolerance.absolute;
    for (int64_t i = 0; want->data && i < want->size; i++) {
        if (!(fabs((double)got[i] - (double)want->data[i]) <= limit)) {
            golden_problem(c, "%s[%lld] = %.9g, expected %.9g (may be off by %.3g)", what, (long long)i, (double)got[i],
                           (double)want->data[i], limit);
            return;
        }
    }
}

/* ---- components ---- */

const void *golden_component(struct golden_case *c, enum mqb_kind kind, const char *id)
{
    const struct mqb_entry *entry;
    return golden_ok(c, mqb_registry_find(c->run->registry, kind, id, &entry, &c->error)) ? entry->vtable : NULL;
}

struct mqb_options *golden_options(struct golden_case *c, const struct mqb_option_spec *specs, size_t num_specs,
                                   const char *settings)
{
    struct mqb_options *options;
    char copy[256], *rest = copy, number[32];
    if (!golden_ok(c, mqb_options_create(specs, num_specs, &options, &c->error)))
        return NULL;
    snprintf(copy, sizeof(copy), "%s", settings);
    for (char *word = strtok_r(rest, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(word, '=');
        *value++ = '\0';
        if (*value == '@') {
            snprintf(number, sizeof(number), "%.9g", golden_number(c, json_object_get(c->item, "hyper"), value + 1));
            value = number;
        }
        if (!golden_ok(c, mqb_options_set(options, word, value, "golden", &c->error))) {
            mqb_options_destroy(options);
            return NULL;
        }
    }
    return options;
}
