/*
 * kernel_dense.h - a tile of output pixels times a block of output channels, the sums held in registers.
 *
 * out[pixel][k] = sum over taps and run of row[tap][pixel][j] * weight[tap][j][k]: one chain of fused multiply-adds in this
 * order for each (pixel, k), so that no choice of tile or vector shows in the bits.
 */

KERNEL_INLINE void dense_float(const struct native_tile *tile, const int32_t pixels, const int32_t vectors)
{
    vec sum[NATIVE_MAX_TILE][2];
    const float *weight = tile->weight;
    const uint8_t *const *rows = tile->rows;
    const int32_t run = tile->run;

    KERNEL_UNROLL
    for (int32_t i = 0; i < pixels; i++) {
        KERNEL_UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            sum[i][v] = vec_zero();
        }
    }
    for (int32_t t = 0; t < tile->num_taps; t++) {
        const float *x[NATIVE_MAX_TILE];

        KERNEL_UNROLL
        for (int32_t i = 0; i < pixels; i++) {
            x[i] = (const float *)(const void *)(rows[i] + tile->row_offset);
        }
        rows += pixels;
        for (int32_t j = 0; j < run; j++) {
            vec w[2];

            KERNEL_UNROLL
            for (int32_t v = 0; v < vectors; v++) {
                w[v] = vec_load(weight + v * VEC_LANES);
            }
            weight += vectors * VEC_LANES;
            KERNEL_UNROLL
            for (int32_t i = 0; i < pixels; i++) {
                vec a = vec_broadcast(x[i] + j);

                KERNEL_UNROLL
                for (int32_t v = 0; v < vectors; v++) {
                    sum[i][v] = vec_fma(a, w[v], sum[i][v]);
                }
            }
        }
    }
    const int32_t last = tile->width - (vectors - 1) * VEC_LANES; /* channels in the last vector */
    vec bias[2];
    KERNEL_UNROLL
    for (int32_t v = 0; v < vectors; v++) {
        bias[v] = vec_zero();
        if (tile->bias != NULL) {
            bias[v] = v + 1 < vectors ? vec_load(tile->bias + v * VEC_LANES) : vec_load_part(tile->bias + v * VEC_LANES, last);
        }
    }
    KERNEL_UNROLL
    for (int32_t i = 0; i < pixels; i++) {
        float *out = (float *)(void *)(tile->outs[i] + tile->out_offset);

        KERNEL_UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            float *target = out + v * VEC_LANES;
            int32_t part = v + 1 == vectors && last < VEC_LANES;
            vec result = sum[i][v];

            if (tile->bias != NULL) {
                result = vec_add(result, bias[v]);
            }
            if (tile->accumulate != 0) {
                result = vec_add(part ? vec_load_part(target, last) : vec_load(target), result);
            }
            if (part) {
                vec_store_part(target, result, last);
            } else {
                vec_store(target, result);
            }
        }
    }
}

KERNEL_INLINE void dense_integer(const struct native_tile *tile, const int32_t pixels, const int32_t vectors)
{
    ivec sum[NATIVE_MAX_TILE][2];
    const uint8_t *weight = tile->weight;
    const uint8_t *const *rows = tile->rows;
    const size_t run = (size_t)tile->run * 4;

    KERNEL_UNROLL
    for (int32_t i = 0; i < pixels; i++) {
        KERNEL_UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            sum[i][v] = ivec_zero();
        }
    }
    for (int32_t t = 0; t < tile->num_taps; t++) {
        const uint8_t *x[NATIVE_MAX_TILE];

        KERNEL_UNROLL
        for (int32_t i = 0; i < pixels; i++) {
            x[i] = rows[i] + tile->row_offset;
        }
        rows += pixels;
        for (size_t j = 0; j < run; j += 4) {
            iweight w[2];

            KERNEL_UNROLL
            for (int32_t v = 0; v < vectors; v++) {
                w[v] = iweight_load(weight + v * VEC_LANES * IVEC_QUAD_SIZE);
            }
            weight += vectors * VEC_LANES * IVEC_QUAD_SIZE;
            KERNEL_UNROLL
            for (int32_t i = 0; i < pixels; i++) {
                iquad a = iquad_broadcast(x[i] + j);

                KERNEL_UNROLL
                for (int32_t v = 0; v < vectors; v++) {
                    sum[i][v] = ivec_dot(sum[i][v], a, w[v]);
                }
            }
        }
    }
    const int32_t last = tile->width - (vectors - 1) * VEC_LANES;
    KERNEL_UNROLL
    for (int32_t i = 0; i < pixels; i++) {
        int32_t *out = (int32_t *)(void *)(tile->outs[i] + tile->out_offset);

        KERNEL_UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            if (v + 1 == vectors && last < VEC_LANES) {
                ivec_store_part(out + v * VEC_LANES, sum[i][v], last);
            } else {
                ivec_store(out + v * VEC_LANES, sum[i][v]);
            }
        }
    }
}

/* Functions for each number of pixels: a band is cut into tiles of almost equal size, whatever its length. */
#define DENSE(pixels)                                                                                                          \
    static void dense_float_1x##pixels(const struct native_tile *tile)                                                         \
    {                                                                                                                          \
        dense_float(tile, pixels <= VEC_TILE1 ? pixels : 1, 1);                                                                \
    }                                                                                                                          \
    static void dense_float_2x##pixels(const struct native_tile *tile)                                                         \
    {                                                                                                                          \
        dense_float(tile, pixels <= VEC_TILE2 ? pixels : 1, 2);                                                                \
    }                                                                                                                          \
    static void dense_integer_1x##pixels(const struct native_tile *tile)                                                       \
    {                                                                                                                          \
        dense_integer(tile, pixels <= IVEC_TILE1 ? pixels : 1, 1);                                                             \
    }                                                                                                                          \
    static void dense_integer_2x##pixels(const struct native_tile *tile)                                                       \
    {                                                                                                                          \
        dense_integer(tile, pixels <= IVEC_TILE2 ? pixels : 1, 2);                                                             \
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
static const tile_kernel dense_kernels[2][2][16] = { /* [integer][vectors - 1][pixels - 1] */
    { DENSE_ROW(dense_float_1x), DENSE_ROW(dense_float_2x) },
    { DENSE_ROW(dense_integer_1x), DENSE_ROW(dense_integer_2x) },
};
#undef DENSE_ROW
