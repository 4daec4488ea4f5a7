/* records.c - a split of fixed-size images held in memory as it stood in its files. */
#include "data/source.h"

#include <string.h>

void mqb_records_deinit(struct mqb_records *records)
{
    for (size_t i = 0; i < records->num_blocks; i++)
        mqb_deallocate(records->blocks[i]);
    mqb_deallocate(records->blocks);
    mqb_deallocate(records->pixels);
    mqb_deallocate(records->labels);
    *records = (struct mqb_records){0};
}

/* `array` with room for `count` elements; NULL (and the old array as it was) if there is no memory. */
static void *grown(const void *array, size_t used, size_t count, size_t size)
{
    void *larger = mqb_allocate_array(count, size);
    if (larger != NULL && used > 0)
        memcpy(larger, array, used * size);
    return larger;
}

mqb_status mqb_records_add_block(struct mqb_records *records, void *block, size_t more, struct mqb_error *error)
{
    size_t count = 0;
    void **blocks = grown(records->blocks, records->num_blocks, records->num_blocks + 1, sizeof *blocks);
    const uint8_t **pixels = NULL;
    int32_t *labels = NULL;
    if (!__builtin_add_overflow(records->num, more, &count)) {
        pixels = grown(records->pixels, records->num, count, sizeof *pixels);
        labels = grown(records->labels, records->num, count, sizeof *labels);
    }
    if (blocks == NULL || pixels == NULL || labels == NULL) {
        mqb_deallocate(block);
        mqb_deallocate(blocks);
        mqb_deallocate(pixels);
        mqb_deallocate(labels);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for %zu more images", more);
    }
    mqb_deallocate(records->blocks);
    mqb_deallocate(records->pixels);
    mqb_deallocate(records->labels);
    records->blocks = blocks;
    records->blocks[records->num_blocks++] = block;
    records->pixels = pixels;
    records->labels = labels;
    return MQB_OK;
}
