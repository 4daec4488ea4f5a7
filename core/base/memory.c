/* memory.c - aligned blocks, zeroed or raw. */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define HUGE_PAGE ((size_t)2 << 20)

void *mqb_allocate_raw(size_t size)
{
    if (size == 0 || size > SIZE_MAX - HUGE_PAGE)
        return NULL;
    bool large = size >= 2 * HUGE_PAGE;
    size_t alignment = large ? HUGE_PAGE : 64;
    void *memory = aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (memory == NULL)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (large)
        madvise(memory, (size + alignment - 1) / alignment * alignment, MADV_HUGEPAGE);
#endif
    return memory;
}

void *mqb_allocate(size_t size)
{
    void *memory = mqb_allocate_raw(size);
    if (memory != NULL)
        memset(memory, 0, size);
    return memory;
}

void *mqb_allocate_array(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return mqb_allocate(total);
}

void *mqb_reserve_array(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total) || total == 0 || total > SIZE_MAX - HUGE_PAGE)
        return NULL;
    return aligned_alloc(64, (total + 63) / 64 * 64);
}

void mqb_deallocate(void *memory)
{
    free(memory);
}

char *mqb_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = mqb_allocate(size);
    if (copy != NULL)
        memcpy(copy, text, size);
    return copy;
}

char *mqb_format(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : mqb_allocate((size_t)length + 1);
    if (text != NULL)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

size_t mqb_peak_rss(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
    return (size_t)usage.ru_maxrss * 1024;
}
