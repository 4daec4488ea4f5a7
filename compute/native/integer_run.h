/*
 * integer_run.h - integer convolutions that are not depthwise: bands of output pixels, where each begins to read, the kernels.
 *
 * The source has no edges: it is the input itself, or a copy with the padding around it. Within a band the blocks of output
 * channels are the outer loop: a block of weights stays in the cache for the whole band.
 */

/* Walks over output pixels, row after row and image after image. */
struct source_walk {
    const struct native_pass *pass;
    const uint8_t *image, *row, *pixel;
    int32_t x, y;
};

static void source_rows(struct source_walk *walk, int32_t count, const uint8_t **rows)
{
    const struct native_pass *pass = walk->pass;
    const int64_t row_size = (int64_t)pass->in_w * pass->in_c;
    const int64_t step = (int64_t)pass->in_step_w * pass->in_c, down = pass->in_step_h * row_size;

    for (int32_t i = 0; i < count;) { /* a piece of a row */
        const int32_t piece = native_min(count - i, pass->out_w - walk->x);
        const uint8_t *pixel = walk->pixel;

        for (int32_t j = 0; j < piece; j++) {
            rows[i + j] = pixel + j * step;
        }
        i += piece;
        walk->x += piece;
        walk->pixel = (const uint8_t *)((uintptr_t)pixel + (uintptr_t)(piece * step)); /* not read at the end of the last row */
        if (walk->x == pass->out_w) {
            walk->x = 0;
            walk->row = (const uint8_t *)((uintptr_t)walk->row + (uintptr_t)down);
            if (++walk->y == pass->out_h) {
                walk->y = 0;
                walk->image = (const uint8_t *)((uintptr_t)walk->image + (uintptr_t)(pass->in_h * row_size));
                walk->row = walk->image;
            }
            walk->pixel = walk->row;
        }
    }
}

/* The tiles of a band, for the groups and blocks of the part. */
static void integer_band(const struct native_pass *pass, const struct native_part *part, int32_t count, const void *packed,
                         const uint8_t *const *rows, int32_t *acc)
{
    const int32_t tiles = (count + pass->tile - 1) / pass->tile, taps = pass->classes[0].num_taps;
    const size_t block_size = (size_t)VEC_LANES * (size_t)taps * (size_t)pass->run * (size_t)pass->unit_size;
    const int32_t end = pass->groups == 1 ? part->first_channel + part->num_channels : pass->group_out;
    struct integer_tile tile = { .taps = pass->offsets, .num_taps = taps, .run = pass->run, .out_step = part->num_channels };

    tile.weight = (const uint8_t *)packed + (size_t)(part->first_channel / VEC_LANES) * block_size;
    for (int32_t g = 0; g < pass->groups; g++) {
        tile.group = (int64_t)g * pass->group_in;
        for (int32_t k = part->first_channel; k < end;) {
            const int32_t vectors = pass->group_out - k <= VEC_LANES ? 1 : 2;

            tile.width = native_min(pass->group_out - k, vectors * VEC_LANES);
            for (int32_t i = 0; i < tiles; i++) {
                const int32_t begin = piece_begin(count, tiles, i), pixels = piece_begin(count, tiles, i + 1) - begin;

                tile.rows = rows + begin;
                tile.out = acc + (int64_t)begin * part->num_channels + g * pass->group_out + (k - part->first_channel);
                integer_kernels[vectors - 1][pixels - 1](&tile);
            }
            tile.weight += (size_t)vectors * block_size;
            k += vectors * VEC_LANES;
        }
    }
}

static void integer_run(const struct native_pass *pass, const struct native_part *part, const uint8_t *source,
                        const void *packed, int32_t *acc, void *scratch)
{
    struct source_walk walk = { pass, source, source, source, 0, 0 };
    const uint8_t **rows = scratch;

    for (int64_t start = 0; start < part->pixels; start += pass->band) {
        const int32_t count = part->pixels - start < pass->band ? (int32_t)(part->pixels - start) : pass->band;

        source_rows(&walk, count, rows);
        integer_band(pass, part, count, packed, rows, acc + start * part->num_channels);
    }
}
