/*
 * kernel_dense.h - a tile of output pixels times a block of output channels, the sums held in registers.
 *
 * out[pixel][k] = sum over taps and run of row[tap][pixel][j] * weight[tap][j][k]: one chain of fused multiply-adds in this
 * order for each (pixel, k), so that no choice of tile or vector shows in the bits.
 */

/* There are more pixels than registers for their pointers: what the compiler cannot see through, it loads again where it is
 * used, instead of keeping it in the wrong kind of register. */
#define KERNEL_RELOAD(pointer) __asm__("" : "+r"(pointer))

/* Sums of a pixel: `vectors` of them, the last perhaps in half a vector only. */
struct dense_sums {
    vec whole[NATIVE_MAX_TILE][2];
#if VEC_HALF
    half part[NATIVE_MAX_TILE];
#endif
};

/* `unroll` values of the run for every pixel; `halved`: only the lower half of the last vector has output channels. */
KERNEL_INLINE void dense_float_step(struct dense_sums *sums, const uint8_t *const *rows, size_t offset, const float *weight,
                                    const int32_t pixels, const int32_t vectors, const int32_t halved, const int32_t unroll)
{
    const int32_t whole = vectors - halved;
    vec w[4][2];
#if VEC_HALF
    half w_part[4];
#endif

    KERNEL_UNROLL
    for (int32_t u = 0; u < unroll; u++) {
        KERNEL_UNROLL
        for (int32_t v = 0; v < whole; v++) {
            w[u][v] = vec_load(weight + (u * vectors + v) * VEC_LANES);
        }
#if VEC_HALF
        if (halved) {
            w_part[u] = half_load(weight + (u * vectors + whole) * VEC_LANES);
        }
#endif
    }
    KERNEL_UNROLL
    for (int32_t i = 0; i < pixels; i++) {
        const float *x = (const float *)(const void *)(rows[i] + offset);

        KERNEL_UNROLL
        for (int32_t u = 0; u < unroll; u++) {
            if (whole > 0) {
                vec a = vec_broadcast(x + u);

                KERNEL_UNROLL
                for (int32_t v = 0; v < whole; v++) {
                    sums->whole[i][v] = vec_fma(a, w[u][v], sums->whole[i][v]);
                }
#if VEC_HALF
                if (halved) {
                    sums->part[i] = half_fma(half_of(a), w_part[u], sums->part[i]);
                }
            } else {
                sums->part[i] = half_fma(half_broadcast(x + u), w_part[u], sums->part[i]);
#endif
            }
        }
    }
}

KERNEL_INLINE void dense_float(const struct native_tile *tile, const int32_t pixels, const int32_t vectors, const int32_t halved)
{
    struct dense_sums sums;
    const float *weight = tile->weight;
    const uint8_t *const *rows = tile->rows;
    const int32_t unroll = vectors == 1 ? VEC_UNROLL1 : VEC_UNROLL2;

    KERNEL_UNROLL
    for (int32_t i = 0; i < pixels; i++) {
        KERNEL_UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            sums.whole[i][v] = vec_zero();
        }
#if VEC_HALF
        sums.part[i] = half_zero();
#endif
    }
    for (int32_t t = 0; t < tile->num_taps; t++) {
        size_t offset = tile->row_offset;
        int32_t left = tile->run;

        for (; left >= unroll; left -= unroll) {
            KERNEL_RELOAD(rows);
            dense_float_step(&sums, rows, offset, weight, pixels, vectors, halved, unroll);
            weight += unroll * vectors * VEC_LANES;
            offset += (size_t)unroll * sizeof(float);
        }
        for (; left > 0; left--) {
            KERNEL_RELOAD(rows);
            dense_float_step(&sums, rows, offset, weight, pixels, vectors, halved, 1);
            weight += vectors * VEC_LANES;
            offset += sizeof(float);
        }
        rows += pixels;
    }
#if VEC_HALF
    KERNEL_UNROLL
    for (int32_t i = 0; halved && i < pixels; i++) {
        sums.whole[i][vectors - 1] = half_widen(sums.part[i]);
    }
#endif
    const int32_t last = tile->width - (vectors - 1) * VEC_LANES; /* channels in the last vector */
    const int32_t part = last < VEC_LANES, accumulate = tile->accumulate; /* read once: what is stored below might be these */
    const float *const bias = tile->bias;
    uint8_t *const *const outs = tile->outs;
    const size_t out_offset = tile->out_offset;
    vec offset[2];

    KERNEL_UNROLL
    for (int32_t v = 0; v < vectors; v++) {
        offset[v] = vec_zero();
        if (bias != NULL) {
            offset[v] = v + 1 < vectors ? vec_load(bias + v * VEC_LANES) : vec_load_part(bias + v * VEC_LANES, last);
        }
    }
    KERNEL_UNROLL
    for (int32_t i = 0; i < pixels; i++) {
        float *out = (float *)(void *)(outs[i] + out_offset);

        KERNEL_UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            float *target = out + v * VEC_LANES;
            vec result = sums.whole[i][v];

            if (bias != NULL) {
                result = vec_add(result, offset[v]);
            }
            if (accumulate != 0) {
                result = vec_add(part && v + 1 == vectors ? vec_load_part(target, last) : vec_load(target), result);
            }
            if (part && v + 1 == vectors) {
                vec_store_part(target, result, last);
            } else {
                vec_store(target, result);
            }
        }
    }
}

/* Functions for each number of pixels: a band is cut into tiles of almost equal size, whatever its length. */
#define DENSE(pixels)                                                                                                          \
    static void dense_float_1x##pixels(const struct native_tile *tile)                                                         \
    {                                                                                                                          \
        dense_float(tile, pixels <= VEC_TILE1 ? pixels : 1, 1, 0);                                                             \
    }                                                                                                                          \
    static void dense_float_2x##pixels(const struct native_tile *tile)                                                         \
    {                                                                                                                          \
        dense_float(tile, pixels <= VEC_TILE2 ? pixels : 1, 2, 0);                                                             \
    }                                                                                                                          \
    static void dense_halved_1x##pixels(const struct native_tile *tile)                                                        \
    {                                                                                                                          \
        dense_float(tile, pixels <= VEC_TILE1 ? pixels : 1, 1, VEC_HALF > 0);                                                  \
    }                                                                                                                          \
    static void dense_halved_2x##pixels(const struct native_tile *tile)                                                        \
    {                                                                                                                          \
        dense_float(tile, pixels <= VEC_TILE2 ? pixels : 1, 2, VEC_HALF > 0);                                                  \
    }
DENSE(1)
DENSE(2)
DENSE(3)
DENSE(4)
DENSE(5)
DENSE(6)
DENSE(7)
DENSE(8)
DENSE(9)
DENSE(10)
DENSE(11)
DENSE(12)
DENSE(13)
DENSE(14)
DENSE(15)
DENSE(16)
#undef DENSE

typedef void (*tile_kernel)(const struct native_tile *tile);

#define DENSE_ROW(name)                                                                                                        \
    {                                                                                                                          \
        name##1, name##2, name##3, name##4, name##5, name##6, name##7, name##8, name##9, name##10, name##11, name##12,         \
            name##13, name##14, name##15, name##16                                                                             \
    }
static const tile_kernel dense_kernels[2][2][16] = { /* [the last vector is half a one][vectors - 1][pixels - 1] */
    { DENSE_ROW(dense_float_1x), DENSE_ROW(dense_float_2x) },
    { DENSE_ROW(dense_halved_1x), DENSE_ROW(dense_halved_2x) },
};
#undef DENSE_ROW
