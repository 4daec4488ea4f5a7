/*
 * golden_tensor.h - whole tensors and other fields of the reference vectors' cases, on top of golden_json.h.
 */
#ifndef GOLDEN_TENSOR_H
#define GOLDEN_TENSOR_H

#include "quant/golden_json.h"

#include <mqbench/types.h>

#include <stdlib.h>
#include <string.h>

struct golden_tensor {
    float *data; /* freed by golden_free */
    int64_t size;
    int rank;
    int64_t dims[6];
};

static inline int golden_tensor_get(const json_t *object, struct golden_tensor *tensor)
{
    memset(tensor, 0, sizeof(*tensor));
    const json_t *data = json_object_get(object, "data"), *shape = json_object_get(object, "shape");
    if (!json_is_array(data))
        return 0;
    tensor->rank = (int)json_array_size(shape);
    for (int i = 0; i < tensor->rank; i++)
        tensor->dims[i] = json_integer_value(json_array_get(shape, (size_t)i));
    tensor->size = (int64_t)json_array_size(data);
    tensor->data = malloc(((size_t)tensor->size + 1) * sizeof(float));
    for (int64_t i = 0; i < tensor->size; i++)
        tensor->data[i] = (float)json_number_value(json_array_get(data, (size_t)i));
    return 1;
}

static inline void golden_free(struct golden_tensor *tensor)
{
    free(tensor->data);
    tensor->data = NULL;
}

static inline struct mqb_tensor_view golden_view(const struct golden_tensor *tensor)
{
    struct mqb_tensor_view view = {
        .struct_size = sizeof(view), .rank = tensor->rank, .num_elements = tensor->size, .data = tensor->data};
    for (int i = 0; i < tensor->rank; i++)
        view.dims[i] = tensor->dims[i];
    return view;
}

static inline const char *golden_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static inline int golden_int(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_true(value) ? 1 : (int)json_integer_value(value);
}

#endif
