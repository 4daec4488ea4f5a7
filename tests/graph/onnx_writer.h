/*
 * onnx_writer.h - writes small ONNX files byte by byte, independently of the schema library that the importer uses.
 * Field numbers are those of onnx.proto.
 */
#ifndef ONNX_WRITER_H
#define ONNX_WRITER_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct wire {
    uint8_t *data;
    size_t size, capacity;
};

static inline void wire_raw(struct wire *w, const void *data, size_t size)
{
    if (w->size + size > w->capacity) {
        w->capacity = 2 * (w->size + size) + 64;
        w->data = realloc(w->data, w->capacity);
    }
    if (size > 0) {
        memcpy(w->data + w->size, data, size);
    }
    w->size += size;
}

static inline void wire_varint(struct wire *w, uint64_t value)
{
    do {
        uint8_t byte = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        wire_raw(w, &byte, 1);
        value >>= 7;
    } while (value);
}

static inline void wire_int(struct wire *w, int field, int64_t value)
{
    wire_varint(w, (uint64_t)field << 3);
    wire_varint(w, (uint64_t)value);
}

static inline void wire_float(struct wire *w, int field, float value)
{
    wire_varint(w, (uint64_t)field << 3 | 5);
    wire_raw(w, &value, 4);
}

static inline void wire_bytes(struct wire *w, int field, const void *data, size_t size)
{
    wire_varint(w, (uint64_t)field << 3 | 2);
    wire_varint(w, size);
    wire_raw(w, data, size);
}

static inline void wire_text(struct wire *w, int field, const char *text)
{
    wire_bytes(w, field, text, strlen(text));
}

/* Appends `part` as a message, and empties it. */
static inline void wire_message(struct wire *w, int field, struct wire *part)
{
    wire_bytes(w, field, part->data, part->size);
    free(part->data);
    memset(part, 0, sizeof(*part));
}

/* ---- attributes of one node: collected in a wire of NodeProto.attribute fields ---- */

static inline void attr_close(struct wire *attrs, struct wire *attr, const char *name, int type)
{
    wire_text(attr, 1, name);
    wire_int(attr, 20, type);
    wire_message(attrs, 5, attr);
}

static inline void attr_int(struct wire *attrs, const char *name, int64_t value)
{
    struct wire a = {0};
    wire_int(&a, 3, value);
    attr_close(attrs, &a, name, 2);
}

static inline void attr_real(struct wire *attrs, const char *name, float value)
{
    struct wire a = {0};
    wire_float(&a, 2, value);
    attr_close(attrs, &a, name, 1);
}

static inline void attr_text(struct wire *attrs, const char *name, const char *value)
{
    struct wire a = {0};
    wire_text(&a, 4, value);
    attr_close(attrs, &a, name, 3);
}

static inline void attr_ints(struct wire *attrs, const char *name, int count, ...)
{
    struct wire a = {0};
    va_list list;
    va_start(list, count);
    for (int i = 0; i < count; i++) {
        wire_int(&a, 8, va_arg(list, int));
    }
    va_end(list);
    attr_close(attrs, &a, name, 7);
}

/* ---- tensors ---- */

static inline void tensor_raw(struct wire *w, int field, const char *name, int type, int rank, const int64_t *dims,
                              const void *data, size_t size)
{
    struct wire t = {0};
    for (int i = 0; i < rank; i++) {
        wire_int(&t, 1, dims[i]);
    }
    wire_int(&t, 2, type);
    if (name) {
        wire_text(&t, 8, name);
    }
    wire_bytes(&t, 9, data, size);
    wire_message(w, field, &t);
}

static inline void attr_tensor(struct wire *attrs, const char *name, int type, int rank, const int64_t *dims, const void *data,
                               size_t size)
{
    struct wire a = {0};
    tensor_raw(&a, 5, NULL, type, rank, dims, data, size);
    attr_close(attrs, &a, name, 4);
}

/* ---- a file ---- */

struct onnx_file {
    struct wire graph;
    int64_t opset;
};

/* Names of `inputs` are separated by commas; an empty one is an absent input. Takes `attrs` (NULL: none). */
static inline void onnx_node(struct onnx_file *f, const char *op, const char *inputs, const char *output, struct wire *attrs)
{
    struct wire n = {0};
    for (const char *p = inputs; *inputs && p;) {
        const char *comma = strchr(p, ',');
        wire_bytes(&n, 1, p, comma ? (size_t)(comma - p) : strlen(p));
        p = comma ? comma + 1 : NULL;
    }
    wire_text(&n, 2, output);
    char name[128];
    snprintf(name, sizeof(name), "node_%s", output);
    wire_text(&n, 3, name);
    wire_text(&n, 4, op);
    if (attrs) {
        wire_raw(&n, attrs->data, attrs->size);
        free(attrs->data);
        memset(attrs, 0, sizeof(*attrs));
    }
    wire_message(&f->graph, 1, &n);
}

/* Deterministic small numbers that no symmetry hides. */
static inline void onnx_reals(struct onnx_file *f, const char *name, int rank, const int64_t *dims)
{
    size_t count = 1;
    uint32_t state = 12345;
    for (int i = 0; i < rank; i++) {
        count *= (size_t)dims[i];
    }
    for (const char *c = name; *c; c++) {
        state = state * 31 + (uint8_t)*c;
    }
    float *data = malloc(count * sizeof(float));
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        data[i] = (float)(state >> 8) / 16777216.0f - 0.45f;
    }
    tensor_raw(&f->graph, 5, name, 1, rank, dims, data, count * sizeof(float));
    free(data);
}

static inline void onnx_vector(struct onnx_file *f, const char *name, int64_t count)
{
    onnx_reals(f, name, 1, &count);
}

static inline void onnx_positive(struct onnx_file *f, const char *name, int64_t count)
{
    float *data = malloc((size_t)count * sizeof(float));
    for (int64_t i = 0; i < count; i++) {
        data[i] = 0.5f + 0.25f * (float)i;
    }
    tensor_raw(&f->graph, 5, name, 1, 1, &count, data, (size_t)count * sizeof(float));
    free(data);
}

static inline void onnx_scalar(struct onnx_file *f, const char *name, float value)
{
    tensor_raw(&f->graph, 5, name, 1, 0, NULL, &value, 4);
}

static inline void onnx_ints(struct onnx_file *f, const char *name, int count, ...)
{
    int64_t data[16], dim = count;
    va_list list;
    va_start(list, count);
    for (int i = 0; i < count; i++) {
        data[i] = va_arg(list, int);
    }
    va_end(list);
    tensor_raw(&f->graph, 5, name, 7, 1, &dim, data, (size_t)count * 8);
}

/* dims[0] = 0: dynamic, named "N"; rank -1: no shape. */
static inline void onnx_info(struct onnx_file *f, int field, const char *name, int type, int rank, const int64_t *dims)
{
    struct wire shape = {0}, tensor = {0}, t = {0}, info = {0};
    for (int i = 0; i < rank; i++) {
        struct wire dim = {0};
        if (dims[i] > 0) {
            wire_int(&dim, 1, dims[i]);
        } else {
            wire_text(&dim, 2, "N");
        }
        wire_message(&shape, 1, &dim);
    }
    wire_int(&tensor, 1, type);
    if (rank >= 0) {
        wire_message(&tensor, 2, &shape);
    }
    wire_message(&t, 1, &tensor);
    wire_text(&info, 1, name);
    wire_message(&info, 2, &t);
    wire_message(&f->graph, field, &info);
}

/* A file with input "x" of [N, c, h, w], or [N, c] if h is 0. */
static inline struct onnx_file onnx_begin(int64_t opset, int64_t c, int64_t h, int64_t w)
{
    struct onnx_file f = {.opset = opset};
    int64_t dims[4] = {0, c, h, w};
    wire_text(&f.graph, 2, "test");
    onnx_info(&f, 11, "x", 1, h ? 4 : 2, dims);
    return f;
}

/* Wraps the graph into a model; the caller frees `data`. */
static inline struct wire onnx_model(struct onnx_file *f)
{
    struct wire model = {0}, opset = {0};
    wire_int(&model, 1, 7);
    wire_text(&model, 2, "test");
    wire_message(&model, 7, &f->graph);
    wire_text(&opset, 1, "");
    wire_int(&opset, 2, f->opset);
    wire_message(&model, 8, &opset);
    return model;
}

static inline void file_put(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (file) {
        fwrite(data, 1, size, file);
        fclose(file);
    }
}

/* Declares output `name` and writes the file. */
static inline void onnx_end(struct onnx_file *f, const char *name, const char *path)
{
    onnx_info(f, 12, name, 1, -1, NULL);
    struct wire model = onnx_model(f);
    file_put(path, model.data, model.size);
    free(model.data);
}

#endif
