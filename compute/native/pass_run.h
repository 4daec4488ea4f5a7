/*
 * pass_run.h - one direction of a convolution: bands of output pixels, the pointers to what each tap reads, the kernels.
 *
 * Within a band the blocks of output channels are the outer loop: a block of weights stays in the cache for the whole band.
 */

/* Walks over the pixels of a class, image after image. */
struct pixel_walk {
    const struct native_pass *pass;
    const struct native_class *class;
    const uint8_t *in, *pad_row;
    uint8_t *out;
    int32_t image, y, x;
};

/* Loops over pixels run in whole chunks, which the compiler turns into vectors; what is too much is written over later. */
enum { POINTER_CHUNK = NATIVE_POINTER_CHUNK };

/* Pointers of one tile: rows[tap][pixel] and outs[pixel]. */
static void tile_pointers(struct pixel_walk *walk, int32_t pixels, const uint8_t **rows, uint8_t **outs)
{
    const struct native_pass *pass = walk->pass;
    const struct native_class *class = walk->class;
    const int64_t pixel_size = (int64_t)pass->in_c * pass->in_size, row_size = pixel_size * pass->in_w;
    const int64_t out_pixel = (int64_t)pass->out_c * 4;
    int64_t base[NATIVE_MAX_TILE + POINTER_CHUNK]; /* of the pixel's own position, from `in` */
    int64_t in_y[NATIVE_MAX_TILE + POINTER_CHUNK], in_x[NATIVE_MAX_TILE + POINTER_CHUNK];
    int32_t inside = 1;

    for (int32_t i = 0; i < pixels;) { /* a piece of a row */
        const int32_t count = native_min(pixels - i, class->width - walk->x);
        const int64_t y = (int64_t)walk->y * pass->in_step_h, x = (int64_t)walk->x * pass->in_step_w;
        const int64_t out_y = class->origin_h + (int64_t)walk->y * pass->out_step_h;
        const int64_t out_x = class->origin_w + (int64_t)walk->x * pass->out_step_w;
        const int64_t begin = ((int64_t)walk->image * pass->in_h + y) * row_size + x * pixel_size;
        uint8_t *out = walk->out + (((int64_t)walk->image * pass->out_h + out_y) * pass->out_w + out_x) * out_pixel;

        inside &= y + class->min_h >= 0 && y + class->max_h < pass->in_h && x + class->min_w >= 0 &&
                  x + (int64_t)(count - 1) * pass->in_step_w + class->max_w < pass->in_w;
        for (int32_t j = 0; j < count; j += POINTER_CHUNK) {
            for (int32_t l = 0; l < POINTER_CHUNK; l++) {
                int64_t step = j + l;

                in_y[i + j + l] = y;
                in_x[i + j + l] = x + step * pass->in_step_w;
                base[i + j + l] = begin + step * (pass->in_step_w * pixel_size);
                outs[i + j + l] = (uint8_t *)((uintptr_t)out + (uintptr_t)(step * (pass->out_step_w * out_pixel)));
            }
        }
        i += count;
        walk->x += count;
        if (walk->x == class->width) {
            walk->x = 0;
            if (++walk->y == class->height) {
                walk->y = 0;
                walk->image++;
            }
        }
    }
    for (int32_t t = 0; t < class->num_taps; t++) {
        const int64_t h = class->tap_h[t], w = class->tap_w[t];
        const uintptr_t in = (uintptr_t)walk->in + (uintptr_t)(h * row_size + w * pixel_size);
        const uintptr_t pad = (uintptr_t)walk->pad_row;

        for (int32_t i = 0; i < pixels; i += POINTER_CHUNK) {
            for (int32_t l = 0; l < POINTER_CHUNK; l++) {
                int64_t seen_y = in_y[i + l] + h, seen_x = in_x[i + l] + w;
                int seen = inside | (((uint64_t)seen_y < (uint64_t)pass->in_h) & ((uint64_t)seen_x < (uint64_t)pass->in_w));

                rows[i + l] = (const uint8_t *)(seen ? in + (uintptr_t)base[i + l] : pad);
            }
        }
        rows += pixels;
    }
}

/* The tiles of a band, for all groups and blocks. */
static void band_run(const struct native_pass *pass, const struct native_class *class, int32_t count, int32_t tiles,
                     const void *packed, const float *bias, int32_t accumulate, const uint8_t *const *rows,
                     uint8_t *const *outs)
{
    struct native_tile tile = { .num_taps = class->num_taps, .run = pass->run, .accumulate = accumulate };
    const uint8_t *weight = (const uint8_t *)packed + class->weight_offset;

    const size_t block_size = (size_t)VEC_LANES * (size_t)class->num_taps * (size_t)pass->run * (size_t)pass->unit_size;
    for (int32_t g = 0; g < pass->groups; g++) {
        for (int32_t k = 0; k < pass->group_out;) {
            int32_t left = pass->group_out - k;
            int32_t vectors = left <= VEC_LANES ? 1 : 2;
            int32_t channel = g * pass->group_out + k;
            int32_t halved;

            tile.row_offset = (size_t)g * (size_t)pass->group_in * (size_t)pass->in_size;
            tile.out_offset = (size_t)channel * 4;
            tile.weight = weight;
            tile.bias = bias == NULL ? NULL : bias + channel;
            tile.width = native_min(left, vectors * VEC_LANES);
            halved = tile.width - (vectors - 1) * VEC_LANES <= VEC_HALF;
            for (int32_t i = 0; i < tiles; i++) {
                int32_t begin = piece_begin(count, tiles, i), pixels = piece_begin(count, tiles, i + 1) - begin;

                tile.rows = rows + (size_t)begin * (size_t)class->num_taps;
                tile.outs = outs + begin;
                dense_kernels[halved][vectors - 1][pixels - 1](&tile);
            }
            weight += (size_t)vectors * block_size;
            k += vectors * VEC_LANES;
        }
    }
}

/* Pixels that no tap reaches. */
static void class_clear(const struct native_pass *pass, const struct native_class *class, int32_t n, float *out)
{
    for (int32_t i = 0; i < n * class->height; i++) {
        const ptrdiff_t y = (ptrdiff_t)(i / class->height) * pass->out_h + class->origin_h +
                            (ptrdiff_t)(i % class->height) * pass->out_step_h;
        float *pixel = out + (y * pass->out_w + class->origin_w) * pass->out_c;

        for (int32_t x = 0; x < class->width; x++) {
            int32_t c = 0;

            for (; c + VEC_LANES <= pass->out_c; c += VEC_LANES) {
                vec_store(pixel + c, vec_zero());
            }
            for (; c < pass->out_c; c++) {
                pixel[c] = 0.0f;
            }
            pixel += (ptrdiff_t)pass->out_step_w * pass->out_c;
        }
    }
}

/* `total` pixels from where the walk stands. */
static void class_run(const struct native_pass *pass, struct pixel_walk *walk, int64_t total, const void *packed,
                      const float *bias, int32_t accumulate, void *scratch)
{
    const struct native_class *class = walk->class;
    const uint8_t **rows = scratch;
    uint8_t **outs = (uint8_t **)(void *)((uint8_t *)scratch + pass->rows_size);

    for (int64_t start = 0; start < total; start += pass->band) {
        int32_t count = total - start < pass->band ? (int32_t)(total - start) : pass->band;
        int32_t tiles = (count + pass->tile - 1) / pass->tile;

        for (int32_t i = 0; i < tiles; i++) {
            int32_t begin = piece_begin(count, tiles, i), pixels = piece_begin(count, tiles, i + 1) - begin;

            tile_pointers(walk, pixels, rows + (size_t)begin * (size_t)class->num_taps, outs + begin);
        }
        band_run(pass, class, count, tiles, packed, bias, accumulate, rows, outs);
    }
}

static void pass_run(const struct native_pass *pass, int32_t n, const void *in, const void *packed, const float *bias,
                     void *out, int32_t accumulate, const void *pad_row, void *scratch)
{
    if (pass->depthwise) {
        depthwise_run(pass, n, in, packed, bias, out, accumulate, pad_row, scratch);
        return;
    }
    if (pass->narrow) {
        narrow_run(pass, n, in, packed, out, accumulate, scratch);
        return;
    }
    if (pass->winograd) {
        winograd_run(pass, n, 0, pass->out_h, in, packed, bias, out, accumulate, pad_row, scratch);
        return;
    }
    for (int32_t c = 0; c < pass->num_classes; c++) {
        const struct native_class *class = &pass->classes[c];
        struct pixel_walk walk = { pass, class, in, pad_row, out, 0, 0, 0 };

        if (class->num_taps == 0) {
            if (accumulate == 0) {
                class_clear(pass, class, n, out);
            }
            continue;
        }
        class_run(pass, &walk, (int64_t)n * class->height * class->width, packed, bias, accumulate, scratch);
    }
}

/* Output rows [first, first + count) of one image, forward. `in` of a copied pass: the rows of the copy that they read. */
static void rows_run(const struct native_pass *pass, int32_t first, int32_t count, const void *in, const void *packed,
                     const float *bias, void *out, const void *pad_row, void *scratch)
{
    const struct native_class *class = pass->classes;

    if (pass->depthwise) {
        depthwise_rows(pass, first, count, in, packed, bias, out, pad_row, scratch);
        return;
    }
    if (pass->winograd) {
        winograd_run(pass, 1, first, count, in, packed, bias, out, 0, pad_row, scratch);
        return;
    }
    const size_t skipped = (size_t)first * (size_t)pass->out_w * (size_t)pass->out_c * 4; /* the walk counts whole images */
    struct pixel_walk walk = { pass, class, in, pad_row, out, 0, 0, 0 };
    if (!pass->copied) {
        walk.y = first;
        walk.out = (uint8_t *)((uintptr_t)out - skipped);
    }
    class_run(pass, &walk, (int64_t)count * class->width, packed, bias, 0, scratch);
}
