/*
 * onnx_reader.h - for tests: as much of an ONNX file as it takes to find scales and codes, read from protobuf's wire format by
 * hand (protobuf.dev/programming-guides/encoding, onnx.proto), so that no line of the writer checks the writer.
 */
#ifndef ONNX_READER_H
#define ONNX_READER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Also where assert() is compiled out. */
#define ONNX_CHECK(condition)                                                                                                  \
    do {                                                                                                                       \
        if (!(condition)) {                                                                                                    \
            fprintf(stderr, "onnx_reader.h:%d: %s\n", __LINE__, #condition);                                                   \
            abort();                                                                                                           \
        }                                                                                                                      \
    } while (0)

struct onnx_text {
    const uint8_t *data;
    size_t size;
};

struct onnx_node {
    struct onnx_text op, name, inputs[16], output;
    int num_inputs;
    struct onnx_text body; /* all of it: attributes are looked up there */
};

struct onnx_tensor {
    struct onnx_text name;
    int64_t dims[8], count;
    int num_dims, type; /* 1 float, 2 uint8, 3 int8, 6 int32, 7 int64 */
    struct onnx_text raw, packed;
};

struct onnx_file {
    uint8_t *data;
    struct onnx_node *nodes;
    struct onnx_tensor *tensors;
    int num_nodes, num_tensors;
};

static inline bool onnx_is(struct onnx_text text, const char *string)
{
    return text.size == strlen(string) && memcmp(text.data, string, text.size) == 0;
}

static inline bool onnx_same(struct onnx_text a, struct onnx_text b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

/* One field: its number, and a number or bytes. False at the end. */
static inline uint64_t onnx_varint(struct onnx_text *in)
{
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        ONNX_CHECK(in->size > 0 && shift < 64);
        uint8_t byte = *in->data++;
        in->size--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
}

static inline bool onnx_field(struct onnx_text *in, int *number, uint64_t *value, struct onnx_text *bytes)
{
    if (in->size == 0)
        return false;
    uint64_t key = onnx_varint(in);
    *number = (int)(key >> 3);
    *value = 0;
    *bytes = (struct onnx_text){in->data, 0};
    switch (key & 7) {
    case 0:
        *value = onnx_varint(in);
        return true;
    case 1:
        bytes->size = 8;
        break;
    case 5:
        bytes->size = 4;
        break;
    default:
        ONNX_CHECK((key & 7) == 2);
        bytes->size = (size_t)onnx_varint(in);
        bytes->data = in->data;
        break;
    }
    ONNX_CHECK(bytes->size <= in->size);
    in->data += bytes->size;
    in->size -= bytes->size;
    return true;
}

static inline void onnx_read_node(struct onnx_text in, struct onnx_node *node)
{
    int number;
    uint64_t value;
    struct onnx_text bytes;
    memset(node, 0, sizeof(*node));
    node->body = in;
    while (onnx_field(&in, &number, &value, &bytes)) {
        if (number == 1 && node->num_inputs < 16)
            node->inputs[node->num_inputs++] = bytes;
        if (number == 2)
            node->output = bytes;
        if (number == 3)
            node->name = bytes;
        if (number == 4)
            node->op = bytes;
    }
}

static inline void onnx_read_tensor(struct onnx_text in, struct onnx_tensor *tensor)
{
    int number;
    uint64_t value;
    struct onnx_text bytes;
    memset(tensor, 0, sizeof(*tensor));
    while (onnx_field(&in, &number, &value, &bytes)) {
        if (number == 1 && bytes.size == 0)
            tensor->dims[tensor->num_dims++] = (int64_t)value;
        while (number == 1 && bytes.size > 0)
            tensor->dims[tensor->num_dims++] = (int64_t)onnx_varint(&bytes);
        if (number == 2)
            tensor->type = (int)value;
        if (number == 8)
            tensor->name = bytes;
        if (number == 9)
            tensor->raw = bytes;
        if (number == 4 || number == 5)
            tensor->packed = bytes;
    }
    tensor->count = 1;
    for (int i = 0; i < tensor->num_dims; i++)
        tensor->count *= tensor->dims[i];
}

static inline void onnx_read(const char *path, struct onnx_file *file)
{
    FILE *stream = fopen(path, "rb");
    ONNX_CHECK(stream);
    fseek(stream, 0, SEEK_END);
    size_t size = (size_t)ftell(stream);
    rewind(stream);
    memset(file, 0, sizeof(*file));
    file->data = malloc(size + 1);
    ONNX_CHECK(fread(file->data, 1, size, stream) == size);
    fclose(stream);
    struct onnx_text in = {file->data, size}, graph = {0}, bytes;
    int number;
    uint64_t value;
    while (onnx_field(&in, &number, &value, &bytes))
        if (number == 7)
            graph = bytes;
    file->nodes = calloc(4096, sizeof(*file->nodes));
    file->tensors = calloc(4096, sizeof(*file->tensors));
    while (onnx_field(&graph, &number, &value, &bytes)) {
        ONNX_CHECK(file->num_nodes < 4096 && file->num_tensors < 4096);
        if (number == 1)
            onnx_read_node(bytes, &file->nodes[file->num_nodes++]);
        if (number == 5)
            onnx_read_tensor(bytes, &file->tensors[file->num_tensors++]);
    }
}

static inline void onnx_free(struct onnx_file *file)
{
    free(file->nodes);
    free(file->tensors);
    free(file->data);
}

static inline const struct onnx_tensor *onnx_tensor_named(const struct onnx_file *file, struct onnx_text name)
{
    for (int i = 0; i < file->num_tensors; i++)
        if (onnx_same(file->tensors[i].name, name))
            return &file->tensors[i];
    return NULL;
}

static inline const struct onnx_node *onnx_producer(const struct onnx_file *file, struct onnx_text name)
{
    for (int i = 0; i < file->num_nodes; i++)
        if (onnx_same(file->nodes[i].output, name))
            return &file->nodes[i];
    return NULL;
}

/* Numbers of an integer attribute, or of a list of them, into values[8]; returns how many. */
static inline int onnx_attribute(const struct onnx_node *node, const char *name, int64_t values[8])
{
    struct onnx_text body = node->body, attribute, bytes;
    int number, count = 0;
    uint64_t value;
    while (onnx_field(&body, &number, &value, &attribute)) {
        struct onnx_text named = {0}, in = attribute;
        count = 0;
        while (number == 5 && onnx_field(&in, &(int){0}, &value, &bytes))
            named = named.size == 0 && bytes.size > 0 ? bytes : named;
        if (number != 5 || !onnx_is(named, name))
            continue;
        while (onnx_field(&attribute, &number, &value, &bytes)) {
            if ((number == 3 || (number == 8 && bytes.size == 0)) && count < 8)
                values[count++] = (int64_t)value;
            while (number == 8 && bytes.size > 0 && count < 8)
                values[count++] = (int64_t)onnx_varint(&bytes);
        }
        return count;
    }
    return 0;
}

/* Element i of a tensor. */
static inline double onnx_element(const struct onnx_tensor *tensor, int64_t i)
{
    struct onnx_text packed = tensor->packed;
    ONNX_CHECK(i < tensor->count);
    if (tensor->type == 1) {
        float v;
        memcpy(&v, (tensor->raw.size ? tensor->raw.data : packed.data) + 4 * i, sizeof(v));
        return (double)v;
    }
    if (tensor->raw.size > 0) {
        int32_t v = 0;
        if (tensor->type == 6)
            memcpy(&v, tensor->raw.data + 4 * i, sizeof(v));
        else
            v = tensor->type == 3 ? (int8_t)tensor->raw.data[i] : tensor->raw.data[i];
        return v;
    }
    int64_t v = 0;
    for (int64_t k = 0; k <= i; k++)
        v = (int64_t)onnx_varint(&packed);
    return (double)(int32_t)v;
}

#endif
