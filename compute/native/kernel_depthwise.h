/*
 * kernel_depthwise.h - one filter a channel: vectors over channels, a few pixels of a row at a time.
 *
 * Each output element is one chain over its taps in the order (r, s); a tap over the edge is left out, or reads the pad value.
 */

/* Neighbouring pixels of a row that all meet the same taps. */
struct depthwise_tile {
    const uint8_t *const *rows; /* [num_taps]: what the first pixel reads */
    const ptrdiff_t *steps;     /* [num_taps]: bytes to what the next pixel reads */
    const void *const *weights; /* [num_taps] */
    const float *bias;          /* NULL: none */
    uint8_t *out;
    ptrdiff_t out_step;
    int32_t num_taps, pixels, width, accumulate;
};

/* A row of pixels for `taps` taps, whose weights stay in registers; every tap has the same step. taps = 0: any number, one
 * pixel after the other. */
KERNEL_INLINE void depthwise_float_part(const struct depthwise_tile *tile, const int32_t taps, const int32_t c,
                                        const int32_t part)
{
    const uint8_t *rows[NATIVE_PIXEL_TAPS];
    uint8_t *out = tile->out + (ptrdiff_t)c * 4;
    vec w[NATIVE_PIXEL_TAPS], bias = vec_zero();
    const ptrdiff_t step = tile->steps[0];
    ptrdiff_t offset = (ptrdiff_t)c * (ptrdiff_t)sizeof(float);

    KERNEL_UNROLL
    for (int32_t t = 0; t < taps; t++) {
        rows[t] = tile->rows[t];
        w[t] = vec_load((const float *)tile->weights[t] + c);
    }
    if (tile->bias != NULL) {
        bias = part == VEC_LANES ? vec_load(tile->bias + c) : vec_load_part(tile->bias + c, part);
    }
    for (int32_t i = 0; i < tile->pixels; i++) {
        float *target = (float *)(void *)out;
        vec sum = vec_zero();

        KERNEL_UNROLL
        for (int32_t t = 0; t < taps; t++) {
            const float *x = (const float *)(const void *)(rows[t] + offset);

            sum = vec_fma(part == VEC_LANES ? vec_load(x) : vec_load_part(x, part), w[t], sum);
        }
        for (int32_t t = 0; taps == 0 && t < tile->num_taps; t++) {
            const float *x = (const float *)(const void *)(tile->rows[t] + i * tile->steps[t]) + c;
            const vec weight = vec_load((const float *)tile->weights[t] + c);

            sum = vec_fma(part == VEC_LANES ? vec_load(x) : vec_load_part(x, part), weight, sum);
        }
        if (tile->bias != NULL) {
            sum = vec_add(sum, bias);
        }
        if (tile->accumulate != 0) {
            sum = vec_add(part == VEC_LANES ? vec_load(target) : vec_load_part(target, part), sum);
        }
        if (part == VEC_LANES) {
            vec_store(target, sum);
        } else {
            vec_store_part(target, sum, part);
        }
        offset += step;
        out += tile->out_step;
    }
}

KERNEL_INLINE void depthwise_float(const struct depthwise_tile *tile, const int32_t taps)
{
    int32_t c = 0;

    for (; c + VEC_LANES <= tile->width; c += VEC_LANES) {
        depthwise_float_part(tile, taps, c, VEC_LANES);
    }
    if (c < tile->width) {
        depthwise_float_part(tile, taps, c, tile->width - c);
    }
}

/* A lane of 32 bits holds a byte, and the packed weights likewise. */
KERNEL_INLINE void depthwise_integer_part(const struct depthwise_tile *tile, const int32_t taps, const int32_t c,
                                          const int32_t part)
{
    const uint8_t *rows[NATIVE_PIXEL_TAPS];
    uint8_t *out = tile->out + (ptrdiff_t)c * 4;
    ivec w[NATIVE_PIXEL_TAPS];
    const ptrdiff_t step = tile->steps[0];
    ptrdiff_t offset = c;

    KERNEL_UNROLL
    for (int32_t t = 0; t < taps; t++) {
        rows[t] = tile->rows[t];
        w[t] = ivec_load((const int32_t *)tile->weights[t] + c);
    }
    for (int32_t i = 0; i < tile->pixels; i++) {
        ivec sum = ivec_zero();

        KERNEL_UNROLL
        for (int32_t t = 0; t < taps; t++) {
            sum = ivec_multiply_add(sum, ivec_load_bytes(rows[t] + offset, part), w[t]);
        }
        for (int32_t t = 0; taps == 0 && t < tile->num_taps; t++) {
            const ivec weight = ivec_load((const int32_t *)tile->weights[t] + c);

            sum = ivec_multiply_add(sum, ivec_load_bytes(tile->rows[t] + i * tile->steps[t] + c, part), weight);
        }
        if (part == VEC_LANES) {
            ivec_store((int32_t *)(void *)out, sum);
        } else {
            ivec_store_part((int32_t *)(void *)out, sum, part);
        }
        offset += step;
        out += tile->out_step;
    }
}

KERNEL_INLINE void depthwise_integer(const struct depthwise_tile *tile, const int32_t taps)
{
    int32_t c = 0;

    for (; c + VEC_LANES <= tile->width; c += VEC_LANES) {
        depthwise_integer_part(tile, taps, c, VEC_LANES);
    }
    if (c < tile->width) {
        depthwise_integer_part(tile, taps, c, tile->width - c);
    }
}

#define DEPTHWISE(taps)                                                                                                        \
    static void depthwise_float_##taps(const struct depthwise_tile *tile)                                                      \
    {                                                                                                                          \
        depthwise_float(tile, taps);                                                                                           \
    }                                                                                                                          \
    static void depthwise_integer_##taps(const struct depthwise_tile *tile)                                                    \
    {                                                                                                                          \
        depthwise_integer(tile, taps);                                                                                         \
    }
DEPTHWISE(0)
DEPTHWISE(1)
DEPTHWISE(2)
DEPTHWISE(3)
DEPTHWISE(4)
DEPTHWISE(5)
DEPTHWISE(6)
DEPTHWISE(7)
DEPTHWISE(8)
DEPTHWISE(9)
#undef DEPTHWISE

#define DEPTHWISE_ROW(name)                                                                                                    \
    {                                                                                                                          \
        name##0, name##1, name##2, name##3, name##4, name##5, name##6, name##7, name##8, name##9                               \
    }
static void (*const depthwise_kernels[2][NATIVE_PIXEL_TAPS + 1])(const struct depthwise_tile *tile) = {
    DEPTHWISE_ROW(depthwise_float_),
    DEPTHWISE_ROW(depthwise_integer_),
};
#undef DEPTHWISE_ROW
