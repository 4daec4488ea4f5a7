/*
 * kernel_depthwise.h - one filter a channel: vectors over channels, a tile of pixels at a time.
 */

KERNEL_INLINE void depthwise_float(const struct native_tile *tile, const int32_t pixels)
{
    const float *weight = tile->weight;
    size_t width = native_round_up((size_t)tile->width, VEC_LANES);

    for (int32_t c = 0; c < tile->width; c += VEC_LANES) {
        const int32_t left = native_min(tile->width - c, VEC_LANES);
        const uint8_t *const *rows = tile->rows;
        vec sum[NATIVE_MAX_TILE];

        KERNEL_UNROLL
        for (int32_t i = 0; i < pixels; i++) {
            sum[i] = vec_zero();
        }
        for (int32_t t = 0; t < tile->num_taps; t++) {
            vec w = vec_load(weight + (size_t)t * width + c);

            if (left == VEC_LANES) {
                KERNEL_UNROLL
                for (int32_t i = 0; i < pixels; i++) {
                    sum[i] = vec_fma(vec_load((const float *)(const void *)rows[i] + c), w, sum[i]);
                }
            } else {
                KERNEL_UNROLL
                for (int32_t i = 0; i < pixels; i++) {
                    sum[i] = vec_fma(vec_load_part((const float *)(const void *)rows[i] + c, left), w, sum[i]);
                }
            }
            rows += pixels;
        }
        KERNEL_UNROLL
        for (int32_t i = 0; i < pixels; i++) {
            float *out = (float *)(void *)tile->outs[i] + c;
            vec result = sum[i];

            if (tile->bias != NULL) {
                result = vec_add(result, vec_load_part(tile->bias + c, left));
            }
            if (tile->accumulate != 0) {
                result = vec_add(vec_load_part(out, left), result);
            }
            vec_store_part(out, result, left);
        }
    }
}

KERNEL_INLINE void depthwise_integer(const struct native_tile *tile, const int32_t pixels)
{
    const int32_t *weight = tile->weight;
    size_t width = native_round_up((size_t)tile->width, VEC_LANES);

    for (int32_t c = 0; c < tile->width; c += VEC_LANES) {
        const int32_t left = native_min(tile->width - c, VEC_LANES);
        const uint8_t *const *rows = tile->rows;
        ivec sum[NATIVE_MAX_TILE];

        KERNEL_UNROLL
        for (int32_t i = 0; i < pixels; i++) {
            sum[i] = ivec_zero();
        }
        for (int32_t t = 0; t < tile->num_taps; t++) {
            ivec w = ivec_load(weight + (size_t)t * width + c);

            KERNEL_UNROLL
            for (int32_t i = 0; i < pixels; i++) {
                sum[i] = ivec_multiply_add(sum[i], ivec_load_bytes(rows[i] + c, left), w);
            }
            rows += pixels;
        }
        KERNEL_UNROLL
        for (int32_t i = 0; i < pixels; i++) {
            ivec_store_part((int32_t *)(void *)tile->outs[i] + c, sum[i], left);
        }
    }
}

#define DEPTHWISE(pixels)                                                                                                      \
    static void depthwise_float_##pixels(const struct native_tile *tile)                                                       \
    {                                                                                                                          \
        depthwise_float(tile, pixels <= VEC_DEPTHWISE_TILE ? pixels : 1);                                                      \
    }                                                                                                                          \
    static void depthwise_integer_##pixels(const struct native_tile *tile)                                                     \
    {                                                                                                                          \
        depthwise_integer(tile, pixels <= VEC_DEPTHWISE_TILE ? pixels : 1);                                                    \
    }
DEPTHWISE(1)
DEPTHWISE(2)
DEPTHWISE(3)
DEPTHWISE(4)
DEPTHWISE(5)
DEPTHWISE(6)
DEPTHWISE(7)
DEPTHWISE(8)
#undef DEPTHWISE

#define DEPTHWISE_ROW(name)                                                                                                    \
    {                                                                                                                          \
        name##1, name##2, name##3, name##4, name##5, name##6, name##7, name##8                                                 \
    }
static const tile_kernel depthwise_kernels[2][8] = { DEPTHWISE_ROW(depthwise_float_), DEPTHWISE_ROW(depthwise_integer_) };
#undef DEPTHWISE_ROW
