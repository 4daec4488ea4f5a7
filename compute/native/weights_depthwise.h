/*
 * weights_depthwise.h - the gradient at depthwise weights: vectors over channels, the positions of a kernel row side by side.
 *
 * dw[c][r][s] is one chain over the pixels (n, p, q) that position (r, s) sees. Between bands of rows the sums rest in
 * scratch, [r][s][channels].
 */

struct depthwise_band {
    const float *x, *dy;
    int32_t begin, end; /* rows of (n, p) */
    int32_t r, s;       /* kernel row, first position in it */
    int32_t c, width;   /* first channel, channels */
    int32_t first;
    float *sums; /* of position (r, s), channel c */
    size_t sum_step;
};

/* `count` positions from s on, `vectors` of channels. */
KERNEL_INLINE void depthwise_sum(const struct mqb_conv_plan *plan, const struct depthwise_band *band, const int32_t count,
                                 const int32_t vectors)
{
    const struct mqb_conv_shape *shape = &plan->shape;
    const int32_t last = band->width - (vectors - 1) * VEC_LANES;
    const int32_t left = band->s * shape->dilation_w - shape->pad_left, reach = left + (count - 1) * shape->dilation_w;
    /* [q_begin, q_end): every position is inside the image */
    int32_t q_begin = native_min(left >= 0 ? 0 : (-left + shape->stride_w - 1) / shape->stride_w, shape->q);
    int32_t q_end = native_min(native_floor_div(shape->w - 1 - reach, shape->stride_w) + 1, shape->q);
    const ptrdiff_t x_step = (ptrdiff_t)shape->stride_w * shape->c, tap_step = (ptrdiff_t)shape->dilation_w * shape->c;
    vec sum[5][2];

    q_end = q_end < q_begin ? q_begin : q_end;
    KERNEL_UNROLL
    for (int32_t j = 0; j < count; j++) {
        KERNEL_UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            sum[j][v] = band->first ? vec_zero() : vec_load(band->sums + (size_t)j * band->sum_step + v * VEC_LANES);
        }
    }
    for (int32_t row = band->begin; row < band->end; row++) {
        const int32_t y = row % shape->p * shape->stride_h + band->r * shape->dilation_h - shape->pad_top;

        if (y < 0 || y >= shape->h) {
            continue;
        }
        const float *x = band->x + ((ptrdiff_t)(row / shape->p) * shape->h + y) * shape->w * shape->c + band->c;
        const float *dy = band->dy + (ptrdiff_t)row * shape->q * shape->c + band->c;
        for (int32_t q = 0; q < shape->q; q++) {
            vec d[2];

            if (vectors == 2) {
                d[0] = vec_load(dy);
            }
            d[vectors - 1] = vec_load_part(dy + (vectors - 1) * VEC_LANES, last);
            if (q >= q_begin && q < q_end) {
                const float *place = x + q * x_step + (ptrdiff_t)left * shape->c;

                KERNEL_UNROLL
                for (int32_t j = 0; j < count; j++) {
                    if (vectors == 2) {
                        sum[j][0] = vec_fma(vec_load(place), d[0], sum[j][0]);
                    }
                    sum[j][vectors - 1] = vec_fma(vec_load_part(place + (vectors - 1) * VEC_LANES, last), d[vectors - 1],
                                                  sum[j][vectors - 1]);
                    place += tap_step;
                }
            } else {
                KERNEL_UNROLL
                for (int32_t j = 0; j < count; j++) {
                    const int32_t w = q * shape->stride_w + left + j * shape->dilation_w;

                    if (w >= 0 && w < shape->w) {
                        const float *place = x + (ptrdiff_t)w * shape->c;

                        if (vectors == 2) {
                            sum[j][0] = vec_fma(vec_load(place), d[0], sum[j][0]);
                        }
                        sum[j][vectors - 1] = vec_fma(vec_load_part(place + (vectors - 1) * VEC_LANES, last), d[vectors - 1],
                                                      sum[j][vectors - 1]);
                    }
                }
            }
            dy += shape->c;
        }
    }
    KERNEL_UNROLL
    for (int32_t j = 0; j < count; j++) {
        KERNEL_UNROLL
        for (int32_t v = 0; v < vectors; v++) {
            vec_store(band->sums + (size_t)j * band->sum_step + v * VEC_LANES, sum[j][v]);
        }
    }
}

#define DEPTHWISE_SUM(count)                                                                                                   \
    static void depthwise_sum_1x##count(const struct mqb_conv_plan *plan, const struct depthwise_band *band)                   \
    {                                                                                                                          \
        depthwise_sum(plan, band, count, 1);                                                                                   \
    }                                                                                                                          \
    static void depthwise_sum_2x##count(const struct mqb_conv_plan *plan, const struct depthwise_band *band)                   \
    {                                                                                                                          \
        depthwise_sum(plan, band, count, 2);                                                                                   \
    }
DEPTHWISE_SUM(1)
DEPTHWISE_SUM(2)
DEPTHWISE_SUM(3)
DEPTHWISE_SUM(4)
DEPTHWISE_SUM(5)
#undef DEPTHWISE_SUM

static void (*const depthwise_sums[2][5])(const struct mqb_conv_plan *plan, const struct depthwise_band *band) = {
    { depthwise_sum_1x1, depthwise_sum_1x2, depthwise_sum_1x3, depthwise_sum_1x4, depthwise_sum_1x5 },
    { depthwise_sum_2x1, depthwise_sum_2x2, depthwise_sum_2x3, depthwise_sum_2x4, depthwise_sum_2x5 },
};

static void weights_depthwise(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                              float *sums)
{
    const struct mqb_conv_shape *shape = &plan->shape;
    const size_t width = native_round_up((size_t)shape->c, VEC_LANES);
    const int32_t rows = n * shape->p, band_rows = shape->q < 64 ? 64 / shape->q : 1;
    struct depthwise_band band = { .x = x, .dy = dy, .sum_step = width };

    for (band.begin = 0; band.begin < rows; band.begin = band.end) {
        band.end = native_min(band.begin + band_rows, rows);
        band.first = band.begin == 0;
        for (band.c = 0; band.c < shape->c;) {
            const int32_t vectors = block_vectors(shape->c - band.c);

            band.width = native_min(shape->c - band.c, vectors * VEC_LANES);
            for (band.r = 0; band.r < shape->r; band.r++) {
                for (band.s = 0; band.s < shape->s;) {
                    const int32_t left = shape->s - band.s, count = left <= 5 ? left : 4;

                    band.sums = sums + (size_t)(band.r * shape->s + band.s) * width + band.c;
                    depthwise_sums[vectors - 1][count - 1](plan, &band);
                    band.s += count;
                }
            }
            band.c += vectors * VEC_LANES;
        }
    }
    for (int32_t c = 0; c < shape->c; c++) {
        for (int32_t t = 0; t < shape->r * shape->s; t++) {
            *dw++ = sums[(size_t)t * width + (size_t)c];
        }
    }
}
