/*
 * memory.h - buffers that end at a page nobody may touch: reading or writing one byte too far is a crash, in every build.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stddef.h>
#include <stdint.h>

struct buffer {
    void *data; /* `size` bytes, aligned to 4 if size is */
    size_t size;
    void *map;
    size_t map_size;
};

struct buffer buffer_create(size_t size, int byte); /* filled with `byte` */
void buffer_destroy(struct buffer *buffer);

/* Deterministic values. */
void fill_floats(float *data, size_t count, uint64_t seed); /* in (-1, 1) */
void fill_bytes(void *data, size_t count, uint64_t seed);

#endif
