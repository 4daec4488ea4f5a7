/*
 * kernel_sums.h - products of some input channels and a block of output channels summed over pixels, the sums held in registers;
 * and the way of finished sums to ONNX order.
 */

/* Some input channels times a block of output channels, for one kernel position. */
struct sum_tile {
    const struct native_run *runs;
    int32_t num_runs;
    int32_t x_offset, dy_offset; /* first channels */
    size_t x_step, dy_step;      /* floats from pixel to pixel */
    float *sums;                 /* [channels][block] */
    int32_t width;               /* output channels */
    int32_t first;               /* start from zero */
};

/* `halved`: only the lower half of the last vector has output channels; the upper half of its sums stays as it is. */
KERNEL_INLINE void sum_dense(const struct sum_tile *tile, const int32_t channels, const int32_t vectors, const int32_t halved)
{
    const int32_t last = tile->width - (vectors - 1) * VEC_LANES, whole = vectors - halved;
    vec sum[NATIVE_MAX_TILE][2];
#if VEC_HALF
    half sum_part[NATIVE_MAX_TILE];
#endif

    KERNEL_UNROLL
    for (int32_t i = 0; i < channels; i++) {
        KERNEL_UNROLL
        for (int32_t v = 0; v < whole; v++) {
            sum[i][v] = tile->first ? vec_zero() : vec_load(tile->sums + (i * vectors + v) * VEC_LANES);
        }
#if VEC_HALF
        sum_part[i] = half_zero();
        if (halved && !tile->first) {
            sum_part[i] = half_load(tile->sums + (i * vectors + whole) * VEC_LANES);
        }
#endif
    }
    for (int32_t r = 0; r < tile->num_runs; r++) {
        const float *x = tile->runs[r].x + tile->x_offset;
        const float *dy = tile->runs[r].dy + tile->dy_offset;

        for (int32_t q = 0; q < tile->runs[r].count; q++) {
            vec d[2];
#if VEC_HALF
            half d_part = half_zero();
#endif

            if (vectors == 2) {
                d[0] = vec_load(dy);
            }
            if (!halved) {
                d[vectors - 1] = vec_load_part(dy + (vectors - 1) * VEC_LANES, last);
            }
#if VEC_HALF
            if (halved) {
                d_part = half_load_part(dy + whole * VEC_LANES, last);
            }
#endif
            KERNEL_UNROLL
            for (int32_t i = 0; i < channels; i++) {
                if (whole > 0) {
                    vec a = vec_broadcast(x + i);

                    KERNEL_UNROLL
                    for (int32_t v = 0; v < whole; v++) {
                        sum[i][v] = vec_fma(a, d[v], sum[i][v]);
                    }
#if VEC_HALF
                    if (halved) {
                        sum_part[i] = half_fma(half_of(a), d_part, sum_part[i]);
                    }
                } else {
                    sum_part[i] = half_fma(half_broadcast(x + i), d_part, sum_part[i]);
#endif
                }
            }
            x += tile->x_step;
            dy += tile->dy_step;
        }
    }
    KERNEL_UNROLL
    for (int32_t i = 0; i < channels; i++) {
        KERNEL_UNROLL
        for (int32_t v = 0; v < whole; v++) {
            vec_store(tile->sums + (i * vectors + v) * VEC_LANES, sum[i][v]);
        }
#if VEC_HALF
        if (halved) {
            half_store(tile->sums + (i * vectors + whole) * VEC_LANES, sum_part[i]);
        }
#endif
    }
}

#define SUM(channels)                                                                                                          \
    static void sum_dense_1x##channels(const struct sum_tile *tile)                                                            \
    {                                                                                                                          \
        sum_dense(tile, channels <= VEC_TILE1 ? channels : 1, 1, 0);                                                           \
    }                                                                                                                          \
    static void sum_dense_2x##channels(const struct sum_tile *tile)                                                            \
    {                                                                                                                          \
        sum_dense(tile, channels <= VEC_TILE2 ? channels : 1, 2, 0);                                                           \
    }                                                                                                                          \
    static void sum_halved_1x##channels(const struct sum_tile *tile)                                                           \
    {                                                                                                                          \
        sum_dense(tile, channels <= VEC_TILE1 ? channels : 1, 1, VEC_HALF > 0);                                                \
    }                                                                                                                          \
    static void sum_halved_2x##channels(const struct sum_tile *tile)                                                           \
    {                                                                                                                          \
        sum_dense(tile, channels <= VEC_TILE2 ? channels : 1, 2, VEC_HALF > 0);                                                \
    }
SUM(1)
SUM(2)
SUM(3)
SUM(4)
SUM(5)
SUM(6)
SUM(7)
SUM(8)
SUM(9)
SUM(10)
SUM(11)
SUM(12)
SUM(13)
SUM(14)
SUM(15)
SUM(16)
#undef SUM

#define SUM_ROW(name)                                                                                                          \
    {                                                                                                                          \
        name##1, name##2, name##3, name##4, name##5, name##6, name##7, name##8, name##9, name##10, name##11, name##12,         \
            name##13, name##14, name##15, name##16                                                                             \
    }
static void (*const sum_kernels[2][2][16])(const struct sum_tile *tile) = { /* [halved][vectors - 1][channels - 1] */
    { SUM_ROW(sum_dense_1x), SUM_ROW(sum_dense_2x) },
    { SUM_ROW(sum_halved_1x), SUM_ROW(sum_halved_2x) },
};
#undef SUM_ROW

/* A finished tile [taps][channels][block] of sums, from channel `c` on, to ONNX order: [width][channels][taps] in dw. */
static void sums_unpack(const struct mqb_conv_shape *shape, const float *sums, int32_t channels, int32_t block, int32_t width,
                        float *dw)
{
    const int32_t taps = shape->r * shape->s, columns = channels * taps;
    const size_t step = (size_t)(shape->c / shape->groups) * (size_t)taps; /* from output channel to output channel */

    for (int32_t k = 0; k < width; k += VEC_LANES) {
        const int32_t used = native_min(width - k, VEC_LANES);
        int32_t c = 0, t = 0;

        for (int32_t column = 0; column < columns; column += VEC_LANES) {
            const int32_t part = native_min(columns - column, VEC_LANES);
            vec rows[VEC_LANES];

            for (int32_t i = 0; i < VEC_LANES; i++) {
                rows[i] = vec_zero();
                if (i < part) {
                    rows[i] = vec_load(sums + ((size_t)t * (size_t)channels + (size_t)c) * (size_t)block + k);
                    if (++t == taps) {
                        t = 0;
                        c++;
                    }
                }
            }
            vec_transpose(rows);
            for (int32_t i = 0; i < used; i++) {
                vec_store_part(dw + (size_t)(k + i) * step + column, rows[i], part);
            }
        }
    }
}
