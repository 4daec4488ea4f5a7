/* onnx_map.c - a hash map with open addressing, so that a file with many names takes linear time. */
#include "graph/onnx_import.h"

#include <string.h>

static uint32_t hash_of(const char *key)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *key; key++) {
        hash = (hash ^ (uint8_t)*key) * 16777619u;
    }
    return hash;
}

/* The entry of `key`, or the free one where it belongs. */
static struct mqb_onnx_map_entry *slot_of(struct mqb_onnx_map_entry *entries, uint32_t capacity, const char *key)
{
    uint32_t i = hash_of(key) & (capacity - 1);
    while (entries[i].key && strcmp(entries[i].key, key) != 0) {
        i = (i + 1) & (capacity - 1);
    }
    return &entries[i];
}

void mqb_onnx_map_deinit(struct mqb_onnx_map *map)
{
    for (uint32_t i = 0; i < map->capacity; i++) {
        mqb_deallocate(map->entries[i].key);
    }
    mqb_deallocate(map->entries);
    memset(map, 0, sizeof(*map));
}

int32_t *mqb_onnx_map_find(const struct mqb_onnx_map *map, const char *key)
{
    if (map->capacity == 0) {
        return NULL;
    }
    struct mqb_onnx_map_entry *entry = slot_of(map->entries, map->capacity, key);
    return entry->key ? &entry->value : NULL;
}

static mqb_status map_grow(struct mqb_onnx_map *map, struct mqb_error *error)
{
    uint32_t capacity = map->capacity ? 2 * map->capacity : 64;
    struct mqb_onnx_map_entry *entries = mqb_allocate_array(capacity, sizeof(*entries));
    if (!entries || capacity > (UINT32_MAX >> 2)) {
        mqb_deallocate(entries);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a map of %u names", map->num_entries);
    }
    for (uint32_t i = 0; i < map->capacity; i++) {
        if (map->entries[i].key) {
            *slot_of(entries, capacity, map->entries[i].key) = map->entries[i];
        }
    }
    mqb_deallocate(map->entries);
    map->entries = entries;
    map->capacity = capacity;
    return MQB_OK;
}

mqb_status mqb_onnx_map_put(struct mqb_onnx_map *map, const char *key, int32_t value, struct mqb_error *error)
{
    if (2 * (map->num_entries + 1) > map->capacity) {
        mqb_status status = map_grow(map, error);
        if (status != MQB_OK) {
            return status;
        }
    }
    struct mqb_onnx_map_entry *entry = slot_of(map->entries, map->capacity, key);
    if (!entry->key) {
        entry->key = mqb_strdup(key);
        if (!entry->key) {
            return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the name '%s'", key);
        }
        map->num_entries++;
    }
    entry->value = value;
    return MQB_OK;
}
