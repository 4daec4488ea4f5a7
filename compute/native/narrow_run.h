/*
 * narrow_run.h - the gradient at an input of one to three channels: vectors over the pixels of a row.
 *
 * dx[h][w][c] is the chain over (r, s, k) that kernel_dense.h computes; only the lanes mean something else. Rows of dy lie
 * transposed in a ring that goes down the image, [row][copy][k][pixel]: copy i is shifted by narrow_left + i pixels, so that a
 * tap reads from the start of a cache line. Padding is zeros there.
 */

struct narrow_tile {
    const float *const *rows; /* [num_taps]: what the first pixel of the tile reads, k = 0 */
    const float *weight;      /* [num_taps][k][channels] */
    float *out;
    int32_t num_taps, run, width; /* width: values from k to k */
    int32_t pixels, out_step;     /* pixels to write; floats from one to the next */
    int32_t accumulate;
};

/* Values [channels][VEC_NARROW * VEC_LANES] to their pixels. */
static void narrow_write(const struct narrow_tile *tile, const float *values, int32_t channels)
{
    float *out = tile->out;

    for (int32_t i = 0; i < tile->pixels; i++) {
        for (int32_t c = 0; c < channels; c++) {
            const float value = values[c * VEC_NARROW * VEC_LANES + i];

            out[c] = tile->accumulate ? out[c] + value : value;
        }
        out += tile->out_step;
    }
}

KERNEL_INLINE void narrow_dense(const struct narrow_tile *tile, const int32_t channels, const int32_t vectors)
{
    vec sum[NATIVE_NARROW_CHANNELS][VEC_NARROW];
    float values[NATIVE_NARROW_CHANNELS * VEC_NARROW * VEC_LANES];
    const float *weight = tile->weight;

    KERNEL_UNROLL
    for (int32_t c = 0; c < channels; c++) {
        KERNEL_UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            sum[c][v] = vec_zero();
        }
    }
    for (int32_t t = 0; t < tile->num_taps; t++) {
        const float *x = tile->rows[t];

        for (int32_t k = 0; k < tile->run; k++) {
            vec w[NATIVE_NARROW_CHANNELS];

            KERNEL_UNROLL
            for (int32_t c = 0; c < channels; c++) {
                w[c] = vec_broadcast(weight + c);
            }
            KERNEL_UNROLL
            for (int32_t v = 0; v < vectors; v++) {
                const vec a = vec_load(x + v * VEC_LANES);

                KERNEL_UNROLL
                for (int32_t c = 0; c < channels; c++) {
                    sum[c][v] = vec_fma(a, w[c], sum[c][v]);
                }
            }
            weight += channels;
            x += tile->width;
        }
    }
    KERNEL_UNROLL
    for (int32_t c = 0; c < channels; c++) {
        KERNEL_UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            vec_store(values + (c * VEC_NARROW + v) * VEC_LANES, sum[c][v]);
        }
    }
    narrow_write(tile, values, channels);
}

#define NARROW(vectors)                                                                                                        \
    static void narrow_1x##vectors(const struct narrow_tile *tile)                                                             \
    {                                                                                                                          \
        narrow_dense(tile, 1, vectors <= VEC_NARROW ? vectors : 1);                                                            \
    }                                                                                                                          \
    static void narrow_2x##vectors(const struct narrow_tile *tile)                                                             \
    {                                                                                                                          \
        narrow_dense(tile, 2, vectors <= VEC_NARROW ? vectors : 1);                                                            \
    }                                                                                                                          \
    static void narrow_3x##vectors(const struct narrow_tile *tile)                                                             \
    {                                                                                                                          \
        narrow_dense(tile, 3, vectors <= VEC_NARROW ? vectors : 1);                                                            \
    }
NARROW(1)
NARROW(2)
NARROW(3)
NARROW(4)
NARROW(5)
NARROW(6)
NARROW(7)
#undef NARROW

#define NARROW_ROW(name)                                                                                                       \
    {                                                                                                                          \
        name##1, name##2, name##3, name##4, name##5, name##6, name##7                                                          \
    }
static void (*const narrow_kernels[NATIVE_NARROW_CHANNELS][7])(const struct narrow_tile *tile) = {
    NARROW_ROW(narrow_1x),
    NARROW_ROW(narrow_2x),
    NARROW_ROW(narrow_3x),
};
#undef NARROW_ROW

/* Row `y` of an image to its place in the ring; rows outside are zeros. The padding beside it is zero already. */
static void narrow_transpose(const struct native_pass *pass, const float *image, int32_t y, float *target)
{
    const size_t width = (size_t)pass->narrow_width, channels = (size_t)pass->in_c;

    if (y < 0 || y >= pass->in_h) {
        memset(target, 0, (size_t)pass->narrow_copies * channels * width * sizeof(float));
        return;
    }
    const float *source = image + (size_t)y * (size_t)pass->in_w * channels;
    target += pass->narrow_margin - pass->narrow_left;
    for (int32_t x = 0; x < pass->in_w; x += VEC_LANES) {
        const int32_t num_rows = native_min(pass->in_w - x, VEC_LANES);

        for (int32_t k = 0; k < pass->in_c; k += VEC_LANES) {
            const int32_t part = native_min(pass->in_c - k, VEC_LANES);
            vec rows[VEC_LANES];

            KERNEL_UNROLL
            for (int32_t i = 0; i < VEC_LANES; i++) {
                rows[i] = i < num_rows ? vec_load_part(source + ((size_t)x + (size_t)i) * channels + k, part) : vec_zero();
            }
            vec_transpose(rows);
            for (int32_t copy = 0; copy < pass->narrow_copies; copy++) {
                float *place = target + ((size_t)copy * channels + (size_t)k) * width + (x - copy);

                for (int32_t i = 0; i < part; i++) {
                    vec_store(place + (size_t)i * width, rows[i]);
                }
            }
        }
    }
}

/* Output row `y` of a class. `ring`: row r of the image is at (r - narrow_top) % narrow_rows. */
static void narrow_row(const struct native_pass *pass, const struct native_class *class, int32_t y, const float *ring,
                       const void *packed, float *image, int32_t accumulate)
{
    const int32_t vectors = (class->width + VEC_LANES - 1) / VEC_LANES, tiles = (vectors + VEC_NARROW - 1) / VEC_NARROW;
    const size_t copy_size = (size_t)pass->narrow_width * (size_t)pass->in_c;
    const size_t out_y = (size_t)class->origin_h + (size_t)y * (size_t)pass->out_step_h;
    const float *rows[NATIVE_NARROW_TAPS];
    struct narrow_tile tile = { .rows = rows,
                                .weight = (const float *)packed + class->weight_offset / sizeof(float),
                                .num_taps = class->num_taps,
                                .run = pass->run,
                                .width = pass->narrow_width,
                                .out_step = pass->out_step_w * pass->out_c,
                                .accumulate = accumulate };

    for (int32_t i = 0; i < tiles; i++) {
        const int32_t begin = piece_begin(vectors, tiles, i), end = piece_begin(vectors, tiles, i + 1);
        const int32_t x = begin * VEC_LANES;

        for (int32_t t = 0; t < class->num_taps; t++) {
            const int32_t slot = (y + class->tap_h[t] - pass->narrow_top) % pass->narrow_rows;
            const int32_t copy = slot * pass->narrow_copies + class->tap_w[t] - pass->narrow_left;

            rows[t] = ring + (size_t)copy * copy_size + (x + pass->narrow_margin);
        }
        tile.pixels = native_min(class->width - x, (end - begin) * VEC_LANES);
        tile.out = image + (out_y * (size_t)pass->out_w + (size_t)class->origin_w + (size_t)x * (size_t)pass->out_step_w) *
                               (size_t)pass->out_c;
        narrow_kernels[pass->out_c - 1][end - begin - 1](&tile);
    }
}

static void narrow_run(const struct native_pass *pass, int32_t n, const float *in, const void *packed, float *out,
                       int32_t accumulate, float *ring)
{
    const size_t row_size = (size_t)pass->narrow_copies * (size_t)pass->narrow_width * (size_t)pass->in_c;
    const size_t in_size = (size_t)pass->in_h * (size_t)pass->in_w * (size_t)pass->in_c;
    const size_t out_size = (size_t)pass->out_h * (size_t)pass->out_w * (size_t)pass->out_c;

    memset(ring, 0, (size_t)pass->narrow_rows * row_size * sizeof(float));
    for (int32_t image = 0; image < n; image++) {
        int32_t next = 0; /* row of the ring's numbering to transpose */

        for (int32_t y = 0; y < pass->classes[0].height; y++) {
            for (; next < y + pass->narrow_rows; next++) {
                narrow_transpose(pass, in, next + pass->narrow_top, ring + (size_t)(next % pass->narrow_rows) * row_size);
            }
            for (int32_t i = 0; i < pass->num_classes; i++) {
                const struct native_class *class = &pass->classes[i];

                if (y < class->height && (class->num_taps > 0 || accumulate == 0)) {
                    narrow_row(pass, class, y, ring, packed, out, accumulate);
                }
            }
        }
        in += in_size;
        out += out_size;
    }
}
