/*
 * winograd.h - 3x3 kernels over neighbouring pixels with fewer products: the minimal filtering of Winograd, F(2x2, 3x3)
 * (Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, 2016), 16 products for four outputs instead of 36.
 *
 * A pass: output tiles of 2x2 pixels, from pixel (0, 0) on. With d the 4x4 inputs of a tile, zeros outside, and g the kernel,
 *     y = A' [(G g G') * (B' d B)] A,
 * the products summed over channels. The 16 positions of a tile are 16 products of matrices, tiles by channels times channels
 * by channels, which the tile kernels of kernel_dense.h compute. The gradient at the weights is F(3x3, 2x2): the same B of x,
 * a 2x2 tile of dy in the place of the kernel, 16 products summed over tiles, and one way back at the end.
 *
 * Every element is the same sums in the same order whatever the band, the vector and the number of images: transforms add
 * elements one by one, each product's sum is one chain of fused multiply-adds over channels (gradients: over tiles), from +0.
 */

/* What a band of tiles becomes. */
struct winograd_planes {
    float *data;
    struct native_planes at;
};

/* Where a channel of the first tile lies, in its group. */
static const float *winograd_channel(const struct winograd_planes *planes, int32_t channel)
{
    return planes->data + (size_t)(channel / planes->at.channels) * planes->at.group + channel % planes->at.channels;
}

/* B' of four values. */
KERNEL_INLINE void winograd_input(vec *a, vec *b, vec *c, vec *d)
{
    const vec first = vec_sub(*a, *c), second = vec_add(*b, *c), third = vec_sub(*c, *b), fourth = vec_sub(*b, *d);

    *a = first;
    *b = second;
    *c = third;
    *d = fourth;
}

/* Which pixels tiles are made of. */
struct winograd_source {
    const float *data, *zeros;
    int32_t height, width, channels;
    int32_t top, left;               /* of the first tile, beside the image's first pixel */
    int32_t tiles_h, tiles_w;        /* of an image */
};

/* Where the 2x2 pixels from (y, x) on lie; outside the image: at zeros. */
static void winograd_pixels(const struct winograd_source *source, const float *image, int32_t y, int32_t x, const float *pixels[4])
{
    for (int32_t i = 0; i < 4; i++) {
        const int inside = y + i / 2 < source->height && x + i % 2 < source->width;

        pixels[i] = inside ? image + ((ptrdiff_t)(y + i / 2) * source->width + x + i % 2) * source->channels : source->zeros;
    }
}

KERNEL_INLINE vec winograd_load(const float *p, const int32_t whole, int32_t count)
{
    return whole ? vec_load(p) : vec_load_part(p, count);
}

/* A column of an input tile, four pixels down, through B'; a row outside the image is NULL. */
KERNEL_INLINE void winograd_column(const float *const rows[4], ptrdiff_t offset, const int32_t whole, int32_t count, vec column[4])
{
    KERNEL_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        column[i] = rows[i] != NULL ? winograd_load(rows[i] + offset, whole, count) : vec_zero();
    }
    winograd_input(&column[0], &column[1], &column[2], &column[3]);
}

/* A row of `tiles` tiles, one vector of channels, of which `count` are there; of four columns two are the next tile's as well. */
KERNEL_INLINE void winograd_input_row(const struct winograd_source *source, const float *const rows[4], int32_t x, int32_t tiles,
                                      const int32_t whole, int32_t count, float *target, const struct native_planes *at)
{
    vec columns[4][4]; /* [column][row] */

    for (int32_t t = 0; t < tiles; t++) {
        KERNEL_UNROLL
        for (int32_t j = 0; j < 4; j++) {
            if (j < 2 && t > 0) {
                continue;
            }
            if (x + j >= 0 && x + j < source->width) {
                winograd_column(rows, (ptrdiff_t)(x + j) * source->channels, whole, count, columns[j]);
            } else {
                columns[j][0] = columns[j][1] = columns[j][2] = columns[j][3] = vec_zero();
            }
        }
        KERNEL_UNROLL
        for (int32_t i = 0; i < 4; i++) {
            vec a = columns[0][i], b = columns[1][i], c = columns[2][i], d = columns[3][i];
            float *row = target + (size_t)(4 * i) * at->plane;

            winograd_input(&a, &b, &c, &d);
            vec_store(row, a);
            vec_store(row + at->plane, b);
            vec_store(row + 2 * at->plane, c);
            vec_store(row + 3 * at->plane, d);
            columns[0][i] = columns[2][i];
            columns[1][i] = columns[3][i];
        }
        x += 2;
        target += at->row;
    }
}

/* dy of a tile, as a kernel of 2x2: [g0, g0 + g1, g0 - g1, g1] in both directions; the halves come at the end. */
KERNEL_INLINE void winograd_gradient_vector(const float *const *pixels, int32_t k, const int32_t whole, int32_t count,
                                            float *target, size_t plane)
{
    vec g[4], rows[4][2];

    KERNEL_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        g[i] = winograd_load(pixels[i] + k, whole, count);
    }
    KERNEL_UNROLL
    for (int32_t j = 0; j < 2; j++) {
        rows[0][j] = g[j];
        rows[1][j] = vec_add(g[j], g[2 + j]);
        rows[2][j] = vec_sub(g[j], g[2 + j]);
        rows[3][j] = g[2 + j];
    }
    KERNEL_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        float *row = target + (size_t)(4 * i) * plane;

        vec_store(row, rows[i][0]);
        vec_store(row + plane, vec_add(rows[i][0], rows[i][1]));
        vec_store(row + 2 * plane, vec_sub(rows[i][0], rows[i][1]));
        vec_store(row + 3 * plane, rows[i][1]);
    }
}

/* Tiles [first, first + count) of all images, a row of tiles at a time. */
struct winograd_walk {
    const float *image;
    int32_t y, x; /* tile */
    int32_t done, count;
};

static struct winograd_walk winograd_begin(const struct winograd_source *source, int64_t first, int32_t count)
{
    const int32_t per_image = source->tiles_h * source->tiles_w, tile = (int32_t)(first % per_image);
    const size_t image_size = (size_t)source->height * (size_t)source->width * (size_t)source->channels;

    return (struct winograd_walk){ source->data + (size_t)(first / per_image) * image_size, tile / source->tiles_w,
                                   tile % source->tiles_w, 0, count };
}

/* Tiles left in this row. */
static int32_t winograd_ahead(const struct winograd_source *source, const struct winograd_walk *walk)
{
    return native_min(source->tiles_w - walk->x, walk->count - walk->done);
}

static void winograd_advance(const struct winograd_source *source, struct winograd_walk *walk, int32_t tiles)
{
    walk->done += tiles;
    walk->x += tiles;
    if (walk->x == source->tiles_w) {
        walk->x = 0;
        if (++walk->y == source->tiles_h) {
            walk->y = 0;
            walk->image += (size_t)source->height * (size_t)source->width * (size_t)source->channels;
        }
    }
}

/* An input's tiles, 4x4 pixels each, to planes. */
static void winograd_gather_input(const struct winograd_source *source, int64_t first, int32_t count,
                                  const struct winograd_planes *planes)
{
    for (struct winograd_walk walk = winograd_begin(source, first, count); walk.done < count;) {
        const int32_t y = source->top + 2 * walk.y, x = source->left + 2 * walk.x, tiles = winograd_ahead(source, &walk);

        for (int32_t c = 0; c < source->channels; c += VEC_LANES) {
            const int32_t group = c / planes->at.channels, used = native_min(source->channels - c, VEC_LANES);
            float *target = planes->data + (size_t)group * planes->at.group + (size_t)walk.done * planes->at.row + c -
                            (size_t)group * (size_t)planes->at.channels;
            const float *rows[4];

            for (int32_t i = 0; i < 4; i++) {
                const int inside = y + i >= 0 && y + i < source->height;

                rows[i] = inside ? walk.image + (ptrdiff_t)(y + i) * source->width * source->channels + c : NULL;
            }
            if (used == VEC_LANES) {
                winograd_input_row(source, rows, x, tiles, 1, used, target, &planes->at);
            } else {
                winograd_input_row(source, rows, x, tiles, 0, used, target, &planes->at);
            }
        }
        winograd_advance(source, &walk, tiles);
    }
}

/* Tiles of dy, 2x2 pixels each, to planes. */
static void winograd_gather_gradient(const struct winograd_source *source, int64_t first, int32_t count,
                                     const struct winograd_planes *planes)
{
    for (struct winograd_walk walk = winograd_begin(source, first, count); walk.done < count;) {
        const float *pixels[4];
        int32_t c = 0;

        winograd_pixels(source, walk.image, 2 * walk.y, 2 * walk.x, pixels);
        for (float *group = planes->data + (size_t)walk.done * planes->at.row; c < source->channels; group += planes->at.group) {
            const int32_t begin = c, end = native_min(c + planes->at.channels, source->channels);

            for (; c + VEC_LANES <= end; c += VEC_LANES) {
                winograd_gradient_vector(pixels, c, 1, VEC_LANES, group + (c - begin), planes->at.plane);
            }
            if (c < end) {
                winograd_gradient_vector(pixels, c, 0, end - c, group + (c - begin), planes->at.plane);
                c = end;
            }
        }
        winograd_advance(source, &walk, 1);
    }
}

/* ---- a pass ---- */

/* The 16 products of a band: V [tile][c] times the packed U [c][k] to M [tile][k]. */
static void winograd_products(const struct native_pass *pass, int32_t count, const void *packed, const struct winograd_planes *v,
                              const struct winograd_planes *m, const uint8_t *const *rows, uint8_t *const *outs)
{
    const int32_t tiles = (count + pass->tile - 1) / pass->tile;
    const size_t vector = (size_t)VEC_LANES * (size_t)pass->run * sizeof(float);
    struct native_tile tile = { .num_taps = 1, .run = pass->run };
    const uint8_t *weight = packed;

    for (size_t position = 0; position < WINOGRAD_POSITIONS; position++) {
        for (int32_t k = 0; k < pass->out_c;) {
            const int32_t vectors = block_vectors(pass->out_c - k);

            tile.width = native_min(pass->out_c - k, vectors * VEC_LANES);
            tile.row_offset = position * v->at.plane * sizeof(float);
            tile.out_offset = (position * m->at.plane + (size_t)k) * sizeof(float);
            tile.weight = weight;
            const int32_t halved = tile.width - (vectors - 1) * VEC_LANES <= VEC_HALF;
            for (int32_t i = 0; i < tiles; i++) {
                const int32_t begin = piece_begin(count, tiles, i), pixels = piece_begin(count, tiles, i + 1) - begin;

                tile.rows = rows + begin;
                tile.outs = outs + begin;
                dense_kernels[halved][vectors - 1][pixels - 1](&tile);
            }
            weight += (size_t)vectors * vector;
            k += vectors * VEC_LANES;
        }
    }
}

KERNEL_INLINE void winograd_output_vector(const float *source, size_t plane, const float *bias, int32_t accumulate,
                                          const int32_t whole, int32_t count, float *const *outs, int32_t k)
{
    vec m[WINOGRAD_POSITIONS], rows[2][4];

    KERNEL_UNROLL
    for (int32_t i = 0; i < WINOGRAD_POSITIONS; i++) {
        m[i] = vec_load(source + (size_t)i * plane);
    }
    KERNEL_UNROLL
    for (int32_t j = 0; j < 4; j++) {
        rows[0][j] = vec_add(vec_add(m[j], m[4 + j]), m[8 + j]);
        rows[1][j] = vec_sub(vec_sub(m[4 + j], m[8 + j]), m[12 + j]);
    }
    KERNEL_UNROLL
    for (int32_t i = 0; i < 2; i++) {
        vec y[2] = { vec_add(vec_add(rows[i][0], rows[i][1]), rows[i][2]), vec_sub(vec_sub(rows[i][1], rows[i][2]), rows[i][3]) };

        KERNEL_UNROLL
        for (int32_t j = 0; j < 2; j++) {
            float *out = outs[i * 2 + j];

            if (out == NULL) {
                continue;
            }
            if (bias != NULL) {
                y[j] = vec_add(y[j], winograd_load(bias + k, whole, count));
            }
            if (accumulate != 0) {
                y[j] = vec_add(winograd_load(out + k, whole, count), y[j]);
            }
            if (whole) {
                vec_store(out + k, y[j]);
            } else {
                vec_store_part(out + k, y[j], count);
            }
        }
    }
}

/* Rows of a pass, and the tiles that they lie in. */
struct winograd_part {
    int32_t first, count; /* output rows of an image; if there are several images, all */
    int32_t begin;        /* output row of the first tile */
    int32_t tiles_h, tiles_w;
};

/* M of tiles [first, first + count) to the pixels of the part that there are; `out`: where its first row lies. */
static void winograd_scatter(const struct native_pass *pass, const struct winograd_part *part, int64_t first, int32_t count,
                             const struct winograd_planes *m, const float *bias, int32_t accumulate, float *out)
{
    const int32_t per_image = part->tiles_w * part->tiles_h, channels = pass->out_c;
    const ptrdiff_t row = (ptrdiff_t)pass->out_w * channels;

    for (int32_t i = 0; i < count; i++) {
        const int64_t image = (first + i) / per_image;
        const int32_t tile = (int32_t)((first + i) % per_image), x = tile % part->tiles_w * 2;
        const int32_t y = part->begin + tile / part->tiles_w * 2 - part->first; /* in the part; -1: only the second row is */
        const float *source = m->data + (size_t)i * m->at.row;
        float *outs[4] = { NULL, NULL, NULL, NULL };
        int32_t k = 0;

        for (int32_t j = 0; j < 4; j++) {
            if (y + j / 2 >= 0 && y + j / 2 < part->count && x + j % 2 < pass->out_w) {
                outs[j] = out + (image * pass->out_h + y + j / 2) * row + (ptrdiff_t)(x + j % 2) * channels;
            }
        }
        for (; k + VEC_LANES <= channels; k += VEC_LANES) {
            winograd_output_vector(source + k, m->at.plane, bias, accumulate, 1, VEC_LANES, outs, k);
        }
        if (k < channels) {
            winograd_output_vector(source + k, m->at.plane, bias, accumulate, 0, channels - k, outs, k);
        }
    }
}

/* Output rows [first_row, first_row + num_rows) of `n` images; of one image only, if these are not all. */
static void winograd_run(const struct native_pass *pass, int32_t n, int32_t first_row, int32_t num_rows, const float *in,
                         const void *packed, const float *bias, float *out, int32_t accumulate, const float *zeros,
                         uint8_t *scratch)
{
    const int32_t begin = first_row - first_row % 2;
    const struct winograd_part part = { first_row, num_rows, begin, (first_row + num_rows - begin + 1) / 2, (pass->out_w + 1) / 2 };
    const struct winograd_source source = {
        in,          zeros,       pass->in_h, pass->in_w, pass->in_c, begin + pass->classes->min_h, pass->classes->min_w,
        part.tiles_h, part.tiles_w
    };
    const uint8_t **rows = (const uint8_t **)(void *)scratch;
    uint8_t **outs = (uint8_t **)(void *)(scratch + pass->rows_size);
    uint8_t *data = scratch + pass->rows_size + pass->outs_size;
    const struct winograd_planes v = { (float *)(void *)data, native_planes(pass->in_c, pass->in_c, pass->band) };
    const struct winograd_planes m = { (float *)(void *)(data + v.at.size), native_planes(pass->out_c, pass->out_c, pass->band) };
    const int64_t total = (int64_t)n * part.tiles_h * part.tiles_w;

    for (int32_t i = 0; i < pass->band; i++) {
        rows[i] = (const uint8_t *)(v.data + (size_t)i * v.at.row);
        outs[i] = (uint8_t *)(m.data + (size_t)i * m.at.row);
    }
    for (int64_t first = 0; first < total; first += pass->band) {
        const int32_t count = total - first < pass->band ? (int32_t)(total - first) : pass->band;

        winograd_gather_input(&source, first, count, &v);
        winograd_products(pass, count, packed, &v, &m, rows, outs);
        winograd_scatter(pass, &part, first, count, &m, bias, accumulate, out);
    }
}

/* ---- the gradient at the weights ---- */

/* Sums [16][channels][block] to the gradient's [9][channels][block], in their place. */
static void winograd_weight_sums(float *sums, int32_t channels, int32_t block)
{
    const size_t plane = (size_t)channels * (size_t)block;

    for (size_t i = 0; i < plane; i += VEC_LANES) {
        vec m[WINOGRAD_POSITIONS], rows[3][4];

        KERNEL_UNROLL
        for (int32_t j = 0; j < WINOGRAD_POSITIONS; j++) {
            m[j] = vec_load(sums + (size_t)j * plane + i);
        }
        KERNEL_UNROLL
        for (int32_t j = 0; j < 4; j++) {
            const vec sum = vec_scale(vec_add(m[4 + j], m[8 + j]), 0.5f);

            rows[0][j] = vec_add(m[j], sum);
            rows[1][j] = vec_scale(vec_sub(m[4 + j], m[8 + j]), 0.5f);
            rows[2][j] = vec_sub(sum, m[12 + j]);
        }
        KERNEL_UNROLL
        for (int32_t j = 0; j < 3; j++) {
            const vec sum = vec_scale(vec_add(rows[j][1], rows[j][2]), 0.5f);
            float *target = sums + (size_t)(3 * j) * plane + i;

            vec_store(target, vec_add(rows[j][0], sum));
            vec_store(target + plane, vec_scale(vec_sub(rows[j][1], rows[j][2]), 0.5f));
            vec_store(target + 2 * plane, vec_sub(sum, rows[j][3]));
        }
    }
}

/* A band of the gradient at the weights: x and dy of its tiles, first and last of the call. */
struct winograd_band {
    struct winograd_planes v, d;
    int32_t count;
    int32_t first, last;
};

/* The sums of `channels` input channels from `c` on and one block of output channels. */
static void winograd_tile(const struct mqb_conv_plan *plan, const struct winograd_band *band, int32_t c, int32_t channels,
                          int32_t k, int32_t vectors, float *sums, float *dw)
{
    const struct mqb_conv_shape *shape = &plan->shape;
    const int32_t block = vectors * VEC_LANES, width = native_min(shape->k - k, block);
    const int32_t halved = width - (vectors - 1) * VEC_LANES <= VEC_HALF;
    struct native_run run = { .count = band->count };
    struct sum_tile tile = { .runs = &run, .num_runs = 1, .x_step = band->v.at.row, .dy_step = band->d.at.row, .width = width,
                             .first = band->first };
    const float *v = winograd_channel(&band->v, c), *d = winograd_channel(&band->d, k);

    for (size_t position = 0; position < WINOGRAD_POSITIONS; position++) {
        run.x = v + position * band->v.at.plane;
        run.dy = d + position * band->d.at.plane;
        tile.sums = sums + position * (size_t)channels * (size_t)block;
        sum_kernels[halved][vectors - 1][channels - 1](&tile);
    }
    if (band->last) {
        winograd_weight_sums(sums, channels, block);
        sums_unpack(shape, sums, channels, block, width, dw + ((size_t)k * (size_t)shape->c + (size_t)c) * WINOGRAD_TAPS);
    }
}

/* The products of a band, added to the sums; with the last band they go to ONNX order. Input channels are taken a
 * group at a time, so that it stays in the cache for all blocks of output channels. */
static void winograd_sums(const struct mqb_conv_plan *plan, const struct winograd_band *band, int32_t resting, float *sums,
                          float *dw)
{
    const struct mqb_conv_shape *shape = &plan->shape;

    for (int32_t begin = 0; begin < shape->c; begin += NATIVE_WINOGRAD_GROUP) {
        const int32_t group = native_min(shape->c - begin, NATIVE_WINOGRAD_GROUP);

        for (int32_t k = 0; k < shape->k;) {
            const int32_t vectors = block_vectors(shape->k - k), most = vectors == 1 ? VEC_TILE1 : VEC_TILE2;
            const int32_t tiles = (group + most - 1) / most;

            for (int32_t i = 0; i < tiles; i++) {
                const int32_t c = piece_begin(group, tiles, i), channels = piece_begin(group, tiles, i + 1) - c;

                winograd_tile(plan, band, begin + c, channels, k, vectors, sums, dw);
                sums += resting ? WINOGRAD_POSITIONS * channels * vectors * VEC_LANES : 0;
            }
            k += vectors * VEC_LANES;
        }
    }
}

static void winograd_weights(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                             uint8_t *scratch)
{
    const struct mqb_conv_shape *shape = &plan->shape;
    const struct winograd_source inputs = {
        x, plan->zeros, shape->h, shape->w, shape->c, -shape->pad_top, -shape->pad_left, (shape->p + 1) / 2, (shape->q + 1) / 2
    };
    const struct winograd_source outputs = { dy, plan->zeros, shape->p, shape->q, shape->k, 0, 0, inputs.tiles_h, inputs.tiles_w };
    const int64_t total = (int64_t)n * inputs.tiles_h * inputs.tiles_w;
    const int32_t band = plan->wgrad_tiles, resting = total > band;
    float *sums = (float *)(void *)scratch;
    struct winograd_band part = { .v = { (float *)(void *)(scratch + plan->sum_size), native_planes(shape->c, NATIVE_WINOGRAD_GROUP, band) } };

    part.d.data = part.v.data + part.v.at.size / sizeof(float);
    part.d.at = native_planes(shape->k, 2 * VEC_LANES, band);
    for (int64_t first = 0; first < total; first += band) {
        part.count = total - first < band ? (int32_t)(total - first) : band;
        part.first = first == 0;
        part.last = first + part.count == total;
        winograd_gather_input(&inputs, first, part.count, &part.v);
        winograd_gather_gradient(&outputs, first, part.count, &part.d);
        winograd_sums(plan, &part, resting, sums, dw);
    }
}
