/*
 * kernel_integer.h - a tile of output pixels times a block of output channels in integers, the sums held in registers.
 *
 * out[pixel][k] = sum over taps and run of rows[pixel][tap offset + j] * weight[tap][j][k], exact modulo 2^32 in any order. The
 * input has its padding around it, so a tap is the same step from every pixel.
 */

/* What a micro-kernel works on. */
struct integer_tile {
    const uint8_t *const *rows; /* [pixels] */
    const int64_t *taps;        /* [num_taps]: bytes from a pixel to what the tap reads */
    const uint8_t *weight;      /* [num_taps][run][block] */
    int32_t *out;
    int64_t out_step; /* from a pixel's sums to the next one's */
    int64_t group;    /* bytes added to each row: the place of the group */
    int32_t num_taps, run;
    int32_t width; /* channels to write */
};

KERNEL_INLINE void dense_integer_step(ivec (*sum)[2], const uint8_t *const *rows, int64_t offset, const uint8_t *weight,
                                      const int32_t pixels, const int32_t vectors, const int32_t unroll)
{
    iweight w[4][2];

    KERNEL_UNROLL
    for (int32_t u = 0; u < unroll; u++) {
        KERNEL_UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            w[u][v] = iweight_load(weight + (u * vectors + v) * VEC_LANES * IVEC_QUAD_SIZE);
        }
    }
    KERNEL_UNROLL
    for (int32_t i = 0; i < pixels; i++) {
        const uint8_t *x = rows[i] + offset;

        KERNEL_UNROLL
        for (int32_t u = 0; u < unroll; u++) {
            iquad a = iquad_broadcast(x + u * 4);

            KERNEL_UNROLL
            for (int32_t v = 0; v < vectors; v++) {
                sum[i][v] = ivec_dot(sum[i][v], a, w[u][v]);
            }
        }
    }
}

KERNEL_INLINE void dense_integer(const struct integer_tile *tile, const int32_t pixels, const int32_t vectors)
{
    ivec sum[NATIVE_MAX_TILE][2];
    const uint8_t *weight = tile->weight;
    const uint8_t *const *rows = tile->rows;
    const int32_t unroll = vectors == 1 ? IVEC_UNROLL1 : IVEC_UNROLL2;

    KERNEL_UNROLL
    for (int32_t i = 0; i < pixels; i++) {
        KERNEL_UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            sum[i][v] = ivec_zero();
        }
    }
    for (int32_t t = 0; t < tile->num_taps; t++) {
        int64_t offset = tile->group + tile->taps[t];
        int32_t left = tile->run;

        for (; left >= unroll; left -= unroll) {
            KERNEL_RELOAD(rows);
            dense_integer_step(sum, rows, offset, weight, pixels, vectors, unroll);
            weight += unroll * vectors * VEC_LANES * IVEC_QUAD_SIZE;
            offset += unroll * 4;
        }
        for (; left > 0; left--) {
            KERNEL_RELOAD(rows);
            dense_integer_step(sum, rows, offset, weight, pixels, vectors, 1);
            weight += vectors * VEC_LANES * IVEC_QUAD_SIZE;
            offset += 4;
        }
    }
    const int32_t last = tile->width - (vectors - 1) * VEC_LANES;
    int32_t *out = tile->out;
    KERNEL_UNROLL
    for (int32_t i = 0; i < pixels; i++) {
        KERNEL_UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            if (v + 1 == vectors && last < VEC_LANES) {
                ivec_store_part(out + v * VEC_LANES, sum[i][v], last);
            } else {
                ivec_store(out + v * VEC_LANES, sum[i][v]);
            }
        }
        out += tile->out_step;
    }
}

/* Functions for each number of pixels: a band is cut into tiles of almost equal size, whatever its length. */
#define INTEGER(pixels)                                                                                                        \
    static void dense_integer_1x##pixels(const struct integer_tile *tile)                                                      \
    {                                                                                                                          \
        dense_integer(tile, pixels <= IVEC_TILE1 ? pixels : 1, 1);                                                             \
    }                                                                                                                          \
    static void dense_integer_2x##pixels(const struct integer_tile *tile)                                                      \
    {                                                                                                                          \
        dense_integer(tile, pixels <= IVEC_TILE2 ? pixels : 1, 2);                                                             \
    }
INTEGER(1)
INTEGER(2)
INTEGER(3)
INTEGER(4)
INTEGER(5)
INTEGER(6)
INTEGER(7)
INTEGER(8)
INTEGER(9)
INTEGER(10)
INTEGER(11)
INTEGER(12)
INTEGER(13)
INTEGER(14)
INTEGER(15)
INTEGER(16)
#undef INTEGER

#define INTEGER_ROW(name)                                                                                                      \
    {                                                                                                                          \
        name##1, name##2, name##3, name##4, name##5, name##6, name##7, name##8, name##9, name##10, name##11, name##12,         \
            name##13, name##14, name##15, name##16                                                                             \
    }
static void (*const integer_kernels[2][16])(const struct integer_tile *tile) = { /* [vectors - 1][pixels - 1] */
    INTEGER_ROW(dense_integer_1x),
    INTEGER_ROW(dense_integer_2x),
};
#undef INTEGER_ROW
