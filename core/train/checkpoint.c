/*
 * checkpoint.c - everything that a run needs to go on with the same bits.
 *
 * Layout, little-endian: magic, version, place, number of records; a record is its name's length, name, kind, size, bytes;
 * at the end the SHA-256 of all before it, in hexadecimal. Records come in the order of graph and points, so loading checks
 * names and sizes one by one.
 */
#include "train/train.h"

#include <string.h>

#define MAGIC 0x4b434251u /* "QBCK" */
#define VERSION 1u
#define HASH_SIZE 64

struct writer {
    uint8_t *data;
    size_t size, capacity;
    bool failed;
};

static void put(struct writer *writer, const void *data, size_t size)
{
    if (writer->failed)
        return;
    if (writer->size + size > writer->capacity) {
        size_t capacity = (writer->size + size) * 2;
        uint8_t *grown = mqb_allocate(capacity);
        if (grown == NULL) {
            writer->failed = true;
            return;
        }
        if (writer->size > 0)
            memcpy(grown, writer->data, writer->size);
        mqb_deallocate(writer->data);
        writer->data = grown;
        writer->capacity = capacity;
    }
    memcpy(writer->data + writer->size, data, size);
    writer->size += size;
}

struct reader {
    const uint8_t *data;
    size_t size, used;
    const char *path;
};

static mqb_status get(struct reader *reader, void *data, size_t size, struct mqb_error *error)
{
    if (size > reader->size - reader->used)
        return mqb_fail(error, MQB_ERR_FORMAT, "%s: ends early; the checkpoint is damaged: remove it and start again", reader->path);
    memcpy(data, reader->data + reader->used, size);
    reader->used += size;
    return MQB_OK;
}

static void put_record(struct writer *writer, const char *name, const void *data, uint64_t size)
{
    uint32_t length = (uint32_t)strlen(name);
    put(writer, &length, sizeof length);
    put(writer, name, length);
    put(writer, &size, sizeof size);
    put(writer, data, size);
}

/* Reads the header of the next record and holds it against what the network expects. */
static mqb_status get_record(struct reader *reader, const char *name, uint64_t size, struct mqb_error *error)
{
    uint32_t length = 0;
    uint64_t found_size = 0;
    char found[256] = "";
    mqb_status status = get(reader, &length, sizeof length, error);
    if (status == MQB_OK && length >= sizeof found)
        return mqb_fail(error, MQB_ERR_FORMAT, "%s: has a record with a name of %u bytes; the checkpoint is damaged", reader->path, length);
    if (status != MQB_OK || (status = get(reader, found, length, error)) != MQB_OK ||
        (status = get(reader, &found_size, sizeof found_size, error)) != MQB_OK)
        return status;
    if (strncmp(found, name, sizeof found - 1) != 0 || found_size != size)
        return mqb_fail(error, MQB_ERR_FORMAT,
                        "%s: holds \"%s\" (%llu bytes) where this run has \"%s\" (%llu bytes); it belongs to another network, "
                        "algorithm or bit width: use the same command line, or another --out", reader->path, found,
                        (unsigned long long)found_size, name, (unsigned long long)size);
    return MQB_OK;
}

static bool is_saved(const struct mqb_value *value)
{
    return !value->dead && (value->kind == MQB_VALUE_PARAM || value->kind == MQB_VALUE_STATE);
}

mqb_status mqb_checkpoint_save(const char *path, const struct mqb_graph *graph, const struct mqb_points *points,
                               const struct mqb_optimizer *optimizer, const struct mqb_checkpoint_place *place, struct mqb_error *error)
{
    struct writer writer = {0};
    uint32_t header[2] = {MAGIC, VERSION};
    mqb_status status = MQB_OK;
    put(&writer, header, sizeof header);
    put(&writer, place, sizeof *place);
    for (int i = 0; i < graph->num_values; i++)
        if (is_saved(&graph->values[i]))
            put_record(&writer, graph->values[i].name, graph->values[i].data,
                       (uint64_t)mqb_value_size(&graph->values[i]) * sizeof(float));
    for (int i = 0; i < mqb_optimizer_num_params(optimizer); i++) {
        const char *name;
        float *value, *velocity;
        int64_t size;
        mqb_optimizer_param(optimizer, i, &name, &value, &velocity, &size);
        put_record(&writer, name, velocity, (uint64_t)size * sizeof(float));
    }
    for (int i = 0; points != NULL && i < points->num_points && status == MQB_OK; i++) {
        const struct mqb_point *point = points->points[i];
        size_t size = 0;
        if (point->quantizer->save == NULL)
            continue;
        status = point->quantizer->save(point->self, NULL, &size, error);
        void *state = status == MQB_OK ? mqb_allocate(size + 1) : NULL;
        if (status == MQB_OK && state == NULL)
            status = mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory for the checkpoint", path);
        if (status == MQB_OK)
            status = point->quantizer->save(point->self, state, &size, error);
        if (status == MQB_OK)
            put_record(&writer, point->name, state, size);
        mqb_deallocate(state);
    }
    if (status == MQB_OK && !writer.failed) {
        struct mqb_sha256 hash;
        char hex[HASH_SIZE + 1];
        mqb_sha256_init(&hash);
        mqb_sha256_update(&hash, writer.data, writer.size);
        mqb_sha256_hex(&hash, hex);
        put(&writer, hex, HASH_SIZE);
    }
    if (status == MQB_OK && writer.failed)
        status = mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory for the checkpoint", path);
    if (status == MQB_OK)
        status = mqb_file_write(path, writer.data, writer.size, error);
    mqb_deallocate(writer.data);
    return status;
}

static mqb_status read_all(struct reader *reader, struct mqb_graph *graph, struct mqb_points *points,
                           struct mqb_optimizer *optimizer, struct mqb_checkpoint_place *place, struct mqb_error *error)
{
    uint32_t header[2];
    mqb_status status = get(reader, header, sizeof header, error);
    if (status == MQB_OK && (header[0] != MAGIC || header[1] != VERSION))
        return mqb_fail(error, MQB_ERR_FORMAT, "%s: is not a checkpoint of this version (%u)", reader->path, VERSION);
    if (status == MQB_OK)
        status = get(reader, place, sizeof *place, error);
    for (int i = 0; i < graph->num_values && status == MQB_OK; i++) {
        struct mqb_value *value = &graph->values[i];
        if (!is_saved(value))
            continue;
        size_t size = (size_t)mqb_value_size(value) * sizeof(float);
        if ((status = get_record(reader, value->name, size, error)) == MQB_OK)
            status = get(reader, value->data, size, error);
    }
    for (int i = 0; i < mqb_optimizer_num_params(optimizer) && status == MQB_OK; i++) {
        const char *name;
        float *value, *velocity;
        int64_t size;
        mqb_optimizer_param(optimizer, i, &name, &value, &velocity, &size);
        if ((status = get_record(reader, name, (size_t)size * sizeof(float), error)) == MQB_OK)
            status = get(reader, velocity, (size_t)size * sizeof(float), error);
    }
    for (int i = 0; points != NULL && i < points->num_points && status == MQB_OK; i++) {
        struct mqb_point *point = points->points[i];
        size_t size = 0;
        if (point->quantizer->load == NULL || point->quantizer->save == NULL)
            continue;
        if ((status = point->quantizer->save(point->self, NULL, &size, error)) != MQB_OK ||
            (status = get_record(reader, point->name, size, error)) != MQB_OK)
            break;
        status = point->quantizer->load(point->self, reader->data + reader->used, size, error);
        reader->used += size;
    }
    return status;
}

mqb_status mqb_checkpoint_load(const char *path, struct mqb_graph *graph, struct mqb_points *points, struct mqb_optimizer *optimizer,
                               struct mqb_checkpoint_place *place, struct mqb_error *error)
{
    void *data;
    size_t size;
    mqb_status status = mqb_file_read(path, (size_t)1 << 34, &data, &size, error);
    if (status != MQB_OK)
        return status;
    struct mqb_sha256 hash;
    char hex[HASH_SIZE + 1] = "";
    if (size > HASH_SIZE) {
        mqb_sha256_init(&hash);
        mqb_sha256_update(&hash, data, size - HASH_SIZE);
        mqb_sha256_hex(&hash, hex);
    }
    if (size <= HASH_SIZE || memcmp(hex, (uint8_t *)data + size - HASH_SIZE, HASH_SIZE) != 0) {
        status = mqb_fail(error, MQB_ERR_FORMAT, "%s: its checksum does not match; the checkpoint is damaged: remove it and start again", path);
    } else {
        struct reader reader = {data, size - HASH_SIZE, 0, path};
        status = read_all(&reader, graph, points, optimizer, place, error);
    }
    mqb_deallocate(data);
    return status;
}
