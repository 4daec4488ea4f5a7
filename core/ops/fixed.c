/* fixed.c - loops over whole parameters, cut the same way whatever the number of threads. */
#include "ops/ops.h"

#define PIECE_SIZE 16384

void mqb_fixed_run(struct mqb_pool *pool, int64_t num_pieces, void (*task)(void *context, int index, int worker), void *context)
{
    if (pool && num_pieces > 1) {
        mqb_pool_run(pool, (int)num_pieces, task, context);
        return;
    }
    for (int64_t i = 0; i < num_pieces; i++)
        task(context, (int)i, 0);
}

int64_t mqb_fixed_pieces(int64_t count, int64_t item_size, int64_t *per_piece)
{
    *per_piece = item_size < PIECE_SIZE ? PIECE_SIZE / item_size : 1;
    return (count + *per_piece - 1) / *per_piece;
}
