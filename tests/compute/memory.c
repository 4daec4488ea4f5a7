#include "memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct buffer buffer_create(size_t size, int byte)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t body = (size + page - 1) / page * page;
    uint8_t *map = mmap(NULL, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED || mprotect(map + body, page, PROT_NONE) != 0) {
        abort();
    }
    struct buffer buffer = { map + body - size, size, map, body + page };
    memset(buffer.data, byte, size);
    return buffer;
}

void buffer_destroy(struct buffer *buffer)
{
    munmap(buffer->map, buffer->map_size);
}

static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void fill_floats(float *data, size_t count, uint64_t seed)
{
    for (size_t i = 0; i < count; i++) {
        data[i] = (float)((double)(mix(seed * 0x100000000u + i) >> 40) / 8388608.0 - 1.0);
    }
}

void fill_bytes(void *data, size_t count, uint64_t seed)
{
    for (size_t i = 0; i < count; i++) {
        ((uint8_t *)data)[i] = (uint8_t)(mix(seed * 0x100000000u + i) >> 56);
    }
}
