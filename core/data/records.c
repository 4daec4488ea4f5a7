/* records.c - a split of fixed-size images held in memory as it stood in its files. */
#include "data/source.h"

#include <string.h>

void mqb_records_deinit(struct mqb_records *records)
{
    for (size_t i = 0; i < records->num_blocks; i++)
        mqb_deallocate(records->blocks[i]);
    mqb_deallocate(records->blocks);
    mqb_deallocate(records->block_sizes);
    mqb_deallocate(records->pixels);
    mqb_deallocate(records->labels);
    *records = (struct mqb_records){0};
}

/* A copy of `array` with room for `count` elements; NULL if there is no memory. */
static void *grown(const void *array, size_t used, size_t count, size_t size)
{
    void *larger = mqb_allocate_array(count, size);
    if (larger != NULL && used > 0)
        memcpy(larger, array, used * size);
    return larger;
}

mqb_status mqb_records_add_block(struct mqb_records *records, void *block, size_t size, size_t more, struct mqb_error *error)
{
    size_t count = 0;
    void **blocks = grown(records->blocks, records->num_blocks, records->num_blocks + 1, sizeof *blocks);
    size_t *block_sizes = grown(records->block_sizes, records->num_blocks, records->num_blocks + 1, sizeof *block_sizes);
    const uint8_t **pixels = NULL;
    int32_t *labels = NULL;
    if (!__builtin_add_overflow(records->num, more, &count)) {
        pixels = grown(records->pixels, records->num, count, sizeof *pixels);
        labels = grown(records->labels, records->num, count, sizeof *labels);
    }
    if (blocks == NULL || block_sizes == NULL || pixels == NULL || labels == NULL) {
        mqb_deallocate(block);
        mqb_deallocate(blocks);
        mqb_deallocate(block_sizes);
        mqb_deallocate(pixels);
        mqb_deallocate(labels);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for %zu more images", more);
    }
    mqb_deallocate(records->blocks);
    mqb_deallocate(records->block_sizes);
    mqb_deallocate(records->pixels);
    mqb_deallocate(records->labels);
    records->blocks = blocks;
    records->block_sizes = block_sizes;
    records->block_sizes[records->num_blocks] = size;
    records->blocks[records->num_blocks++] = block;
    records->pixels = pixels;
    records->labels = labels;
    return MQB_OK;
}

struct block_hashes {
    const struct mqb_records *split;
    char (*hex)[65]; /* by block, train before test */
};

static void hash_block(void *context, int index, int worker)
{
    (void)worker;
    const struct block_hashes *hashes = context;
    const struct mqb_records *records = &hashes->split[0];
    size_t block = (size_t)index;
    if (block >= records->num_blocks) {
        block -= records->num_blocks;
        records = &hashes->split[1];
    }
    struct mqb_sha256 hash;
    mqb_sha256_init(&hash);
    mqb_sha256_update(&hash, records->blocks[block], records->block_sizes[block]);
    mqb_sha256_hex(&hash, hashes->hex[index]);
}

mqb_status mqb_records_sha256(const struct mqb_records split[2], char hex[65], struct mqb_error *error)
{
    size_t num_blocks = split[0].num_blocks + split[1].num_blocks;
    struct mqb_pool *pool = NULL;
    struct block_hashes hashes = {split, mqb_allocate_array(num_blocks + 1, sizeof *hashes.hex)};
    if (hashes.hex == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for %zu checksums", num_blocks);
    mqb_status status = mqb_pool_create(num_blocks > 1 ? 0 : 1, &pool, error);
    if (status == MQB_OK) {
        mqb_pool_run(pool, (int)num_blocks, hash_block, &hashes);
        mqb_pool_destroy(pool);
        struct mqb_sha256 hash;
        mqb_sha256_init(&hash);
        for (int s = 0; s < 2; s++) {
            mqb_sha256_update(&hash, mqb_split_name((enum mqb_split)s), strlen(mqb_split_name((enum mqb_split)s)) + 1);
            for (size_t i = 0; i < split[s].num; i++)
                mqb_sha256_update(&hash, &(uint8_t){(uint8_t)split[s].labels[i]}, 1);
        }
        mqb_sha256_update(&hash, hashes.hex, num_blocks * sizeof *hashes.hex);
        mqb_sha256_hex(&hash, hex);
    }
    mqb_deallocate(hashes.hex);
    return status;
}
