/*
 * depthwise_grid.h - depthwise passes in float with more taps than weights fit in registers, on a grid without gaps (5x5): a few
 * pixels of a row at a time, so that weights and inputs are loaded once for all the pixels that see them.
 *
 * Each output element is one chain over its taps in the order (r, s), as in kernel_depthwise.h; taps over the edge are left out.
 */

/* Neighbouring pixels of a row that all meet the same taps. */
struct grid_tile {
    const uint8_t *const *rows;    /* [num_rows]: the input row that each kernel row reads */
    const uint8_t *const *weights; /* [num_rows] */
    const float *bias;             /* NULL: none */
    uint8_t *out;
    ptrdiff_t in_offset, weight_offset; /* to the first tap in a row: the leftmost value it reads, its weight */
    ptrdiff_t in_step, weight_step, out_step; /* bytes from value to value, tap to tap, pixel to pixel */
    int32_t num_rows, width, accumulate;
};

/* `cols` taps in a row; `descending`: they read from right to left. `step`: values from pixel to pixel. */
KERNEL_INLINE void grid_part(const struct grid_tile *tile, const int32_t cols, const int32_t step, const int32_t descending,
                             const int32_t pixels, const int32_t c, const int32_t part)
{
    const int32_t columns = (pixels - 1) * step + cols;
    const ptrdiff_t place = (ptrdiff_t)c * (ptrdiff_t)sizeof(float);
    vec sum[VEC_GRID];

    KERNEL_UNROLL
    for (int32_t i = 0; i < pixels; i++) {
        sum[i] = vec_zero();
    }
    for (int32_t r = 0; r < tile->num_rows; r++) {
        const uint8_t *x = tile->rows[r] + tile->in_offset + place;
        const uint8_t *weight = tile->weights[r] + tile->weight_offset + place;
        vec w[NATIVE_GRID_COLS];

        KERNEL_UNROLL
        for (int32_t s = 0; s < cols; s++) {
            w[s] = vec_load((const float *)(const void *)(weight + s * tile->weight_step));
        }
        KERNEL_UNROLL
        for (int32_t j = 0; j < columns; j++) {
            const int32_t column = descending ? columns - 1 - j : j;
            const float *value = (const float *)(const void *)(x + column * tile->in_step);
            const vec a = part == VEC_LANES ? vec_load(value) : vec_load_part(value, part);

            KERNEL_UNROLL
            for (int32_t s = 0; s < cols; s++) {
                const int32_t first = column - (descending ? cols - 1 - s : s);

                if (first >= 0 && first % step == 0 && first / step < pixels) {
                    sum[first / step] = vec_fma(a, w[s], sum[first / step]);
                }
            }
        }
    }
    const float *const bias = tile->bias;
    const int32_t accumulate = tile->accumulate;
    const ptrdiff_t out_step = tile->out_step;
    vec offset = vec_zero();
    uint8_t *out = tile->out + place;

    if (bias != NULL) {
        offset = part == VEC_LANES ? vec_load(bias + c) : vec_load_part(bias + c, part);
    }
    KERNEL_UNROLL
    for (int32_t i = 0; i < pixels; i++) {
        float *target = (float *)(void *)(out + i * out_step);
        vec result = sum[i];

        if (bias != NULL) {
            result = vec_add(result, offset);
        }
        if (accumulate != 0) {
            result = vec_add(part == VEC_LANES ? vec_load(target) : vec_load_part(target, part), result);
        }
        if (part == VEC_LANES) {
            vec_store(target, result);
        } else {
            vec_store_part(target, result, part);
        }
    }
}

KERNEL_INLINE void grid_tile(const struct grid_tile *tile, const int32_t cols, const int32_t step, const int32_t descending,
                             const int32_t pixels)
{
    int32_t c = 0;

    for (; c + VEC_LANES <= tile->width; c += VEC_LANES) {
        grid_part(tile, cols, step, descending, pixels, c, VEC_LANES);
    }
    if (c < tile->width) {
        grid_part(tile, cols, step, descending, pixels, c, tile->width - c);
    }
}

enum grid_mode { GRID_UP, GRID_UP_2, GRID_DOWN, NUM_GRID_MODES }; /* taps left to right, the same at stride 2, right to left */

#define GRID(name, step, descending, cols, pixels)                                                                             \
    static void grid_##name##_##cols##x##pixels(const struct grid_tile *tile)                                                  \
    {                                                                                                                          \
        grid_tile(tile, cols, step, descending, pixels <= VEC_GRID ? pixels : 1);                                              \
    }
#define GRID_COLS(name, step, descending, cols)                                                                                \
    GRID(name, step, descending, cols, 1)                                                                                      \
    GRID(name, step, descending, cols, 2)                                                                                      \
    GRID(name, step, descending, cols, 3)                                                                                      \
    GRID(name, step, descending, cols, 4)                                                                                      \
    GRID(name, step, descending, cols, 5)                                                                                      \
    GRID(name, step, descending, cols, 6)                                                                                      \
    GRID(name, step, descending, cols, 7)                                                                                      \
    GRID(name, step, descending, cols, 8)
GRID(up, 1, 0, 1, 1)
GRID(up, 1, 0, 2, 1)
GRID(up, 1, 0, 3, 1)
GRID(up, 1, 0, 4, 1)
GRID_COLS(up, 1, 0, 5)
GRID_COLS(up2, 2, 0, 5)
GRID(down, 1, 1, 1, 1)
GRID(down, 1, 1, 2, 1)
GRID(down, 1, 1, 3, 1)
GRID(down, 1, 1, 4, 1)
GRID_COLS(down, 1, 1, 5)
#undef GRID
#undef GRID_COLS

#define GRID_ROW(name)                                                                                                         \
    {                                                                                                                          \
        name##1, name##2, name##3, name##4, name##5, name##6, name##7, name##8                                                 \
    }
#define GRID_ONE(name)                                                                                                         \
    {                                                                                                                          \
        name##1, NULL, NULL, NULL, NULL, NULL, NULL, NULL                                                                      \
    }
/* [mode][cols - 1][pixels - 1]; a single pixel has no stride */
static void (*const grid_kernels[NUM_GRID_MODES][NATIVE_GRID_COLS][8])(const struct grid_tile *tile) = {
    { GRID_ONE(grid_up_1x), GRID_ONE(grid_up_2x), GRID_ONE(grid_up_3x), GRID_ONE(grid_up_4x), GRID_ROW(grid_up_5x) },
    { GRID_ONE(grid_up_1x), GRID_ONE(grid_up_2x), GRID_ONE(grid_up_3x), GRID_ONE(grid_up_4x), GRID_ROW(grid_up2_5x) },
    { GRID_ONE(grid_down_1x), GRID_ONE(grid_down_2x), GRID_ONE(grid_down_3x), GRID_ONE(grid_down_4x), GRID_ROW(grid_down_5x) },
};
#undef GRID_ROW
#undef GRID_ONE

/* Row `y` of an image of a class. */
static void grid_row(const struct native_pass *pass, const struct native_class *class, int32_t y, const uint8_t *in,
                     const uint8_t *packed, uint8_t *out, struct grid_tile *tile, const uint8_t **rows, const uint8_t **weights)
{
    const int32_t cols = class->grid_cols, step = pass->in_step_w, down = class->grid_down;
    const enum grid_mode mode = down ? GRID_DOWN : step == 2 ? GRID_UP_2 : GRID_UP;
    /* pixels [begin, end) meet every tap of a row */
    const int32_t begin = class->min_w >= 0 ? 0 : native_min((step - 1 - class->min_w) / step, class->width);
    const int32_t end = native_min(native_floor_div(pass->in_w - 1 - class->max_w, step) + 1, class->width);
    const int32_t most = grid_kernels[mode][cols - 1][1] != NULL ? VEC_GRID : 1;

    tile->num_rows = 0;
    for (int32_t t = 0; t < class->num_taps; t += cols) {
        const int32_t in_y = y * pass->in_step_h + class->tap_h[t];

        if (in_y >= 0 && in_y < pass->in_h) {
            rows[tile->num_rows] = in + (ptrdiff_t)in_y * pass->in_w * tile->in_step;
            weights[tile->num_rows++] = packed + t * tile->weight_step;
        }
    }
    const ptrdiff_t out_y = class->origin_h + (ptrdiff_t)y * pass->out_step_h;
    uint8_t *row = out + (out_y * pass->out_w + class->origin_w) * (ptrdiff_t)pass->out_c * (ptrdiff_t)sizeof(float);
    for (int32_t x = 0; x < class->width;) {
        const int inside = x >= begin && x < end;
        const int32_t tiles = inside ? (end - x + most - 1) / most : 1, pixels = inside ? (end - x + tiles - 1) / tiles : 1;
        int32_t first = 0, last = cols - 1; /* taps inside the image */

        while (first <= last && (x * step + class->tap_w[first] < 0 || x * step + class->tap_w[first] >= pass->in_w)) {
            first++;
        }
        while (last >= first && (x * step + class->tap_w[last] < 0 || x * step + class->tap_w[last] >= pass->in_w)) {
            last--;
        }
        const int32_t num_rows = tile->num_rows;
        if (first > last) { /* none */
            first = last = 0;
            tile->num_rows = 0;
        }
        tile->in_offset = (x * step + class->tap_w[down ? last : first]) * tile->in_step;
        tile->weight_offset = first * tile->weight_step;
        tile->out = row + x * tile->out_step;
        grid_kernels[mode][last - first][pixels - 1](tile);
        tile->num_rows = num_rows;
        x += pixels;
    }
}

/* All classes are grids. Row by row: what the classes of a stride write lies near each other. */
static void grid_run(const struct native_pass *pass, int32_t n, const uint8_t *in, const uint8_t *packed, const float *bias,
                     uint8_t *out, int32_t accumulate, void *scratch)
{
    const size_t in_pixel = (size_t)pass->in_c * sizeof(float), out_pixel = (size_t)pass->out_c * sizeof(float);
    const uint8_t **rows = scratch, **weights = rows + pass->rows_size / 3 / sizeof(void *);
    struct grid_tile tile = {
        .rows = rows,
        .weights = weights,
        .bias = bias,
        .in_step = (ptrdiff_t)in_pixel,
        .weight_step = (ptrdiff_t)(native_round_up((size_t)pass->out_c, VEC_LANES) * sizeof(float)),
        .out_step = (ptrdiff_t)out_pixel * pass->out_step_w,
        .width = pass->out_c,
        .accumulate = accumulate,
    };

    for (int32_t image = 0; image < n; image++) {
        for (int32_t y = 0; y < pass->classes[0].height; y++) {
            for (int32_t i = 0; i < pass->num_classes; i++) {
                const struct native_class *class = &pass->classes[i];

                if (y < class->height) {
                    grid_row(pass, class, y, in, packed + class->weight_offset, out, &tile, rows, weights);
                }
            }
        }
        in += (size_t)pass->in_h * (size_t)pass->in_w * in_pixel;
        out += (size_t)pass->out_h * (size_t)pass->out_w * out_pixel;
    }
}
