/*
 * weights_run.h - the gradient at the weights: for each kernel position a product over all pixels, in the order (n, p, q).
 *
 * The pixels are cut into bands that fit the cache; between bands the sums rest in scratch, so that each element stays one
 * chain of fused multiply-adds over all pixels of the call, whatever the band. With the last band a tile goes to ONNX order.
 */

/* What the gradient sees of x: the tensor, or padded copies of one image. */
struct sum_source {
    const float *x;
    int32_t h, w, c;
    int32_t pad_top, pad_left;
    int32_t taps_w;   /* kernel positions in a row that are told apart */
    int32_t channels; /* x channels of a position: C / groups, or S * C when a kernel row is one run */
};

/* The pixels of rows [begin, end) of (n, p) that kernel position (r, s) sees, as runs. */
static int32_t sum_runs(const struct mqb_conv_plan *plan, const struct sum_source *source, const float *dy, int32_t begin,
                        int32_t end, int32_t r, int32_t s, struct native_run *runs)
{
    const struct mqb_conv_shape *shape = &plan->shape;
    const int32_t offset = s * shape->dilation_w - source->pad_left;
    int32_t q_begin = offset >= 0 ? 0 : (-offset + shape->stride_w - 1) / shape->stride_w;
    int32_t q_end = native_min(native_floor_div(source->w - 1 - offset, shape->stride_w) + 1, shape->q);
    int32_t num_runs = 0;

    if (q_begin >= q_end) {
        return 0;
    }
    for (int32_t row = begin; row < end; row++) {
        int32_t image = row / shape->p, p = row % shape->p;
        int32_t y = p * shape->stride_h + r * shape->dilation_h - source->pad_top;

        if (y < 0 || y >= source->h) {
            continue;
        }
        size_t x_pixel = ((size_t)image * (size_t)source->h + (size_t)y) * (size_t)source->w +
                         (size_t)(q_begin * shape->stride_w + offset);
        size_t dy_pixel = (size_t)row * (size_t)shape->q + (size_t)q_begin;
        struct native_run run = { source->x + x_pixel * (size_t)source->c, dy + dy_pixel * (size_t)shape->k, q_end - q_begin };
        struct native_run *before = num_runs > 0 ? &runs[num_runs - 1] : NULL;

        if (before != NULL && before->x + (size_t)before->count * (size_t)shape->stride_w * (size_t)source->c == run.x &&
            before->dy + (size_t)before->count * (size_t)shape->k == run.dy) {
            before->count += run.count;
        } else {
            runs[num_runs++] = run;
        }
    }
    return num_runs;
}

/* The same where a kernel row is one run: the tile is [r][values of (s, c) from `begin`][block]; dw the whole tensor's. */
static void sums_unpack_fused(const struct mqb_conv_shape *shape, const float *sums, int32_t begin, int32_t values,
                              int32_t block, int32_t width, float *dw)
{
    for (int32_t r = 0; r < shape->r; r++) {
        for (int32_t i = 0; i < values; i++) {
            const int32_t s = (begin + i) / shape->c, c = (begin + i) % shape->c;

            for (int32_t k = 0; k < width; k++) {
                const size_t row = ((size_t)k * (size_t)shape->c + (size_t)c) * (size_t)shape->r + (size_t)r;

                dw[row * (size_t)shape->s + (size_t)s] = sums[k];
            }
            sums += block;
        }
    }
}

/* A band: rows [begin, end) of (n, p); first and last of the call. */
struct sum_band {
    const float *dy;
    int32_t begin, end;
    int32_t first, last;
};

static void band_sums(const struct mqb_conv_plan *plan, const struct sum_source *source, const struct sum_band *band,
                      float *sums, struct native_run *runs, int32_t *num_runs, float *dw)
{
    const struct mqb_conv_shape *shape = &plan->shape;
    const int32_t group_out = shape->k / shape->groups, taps = shape->r * source->taps_w;
    const size_t group_size = (size_t)group_out * (size_t)(shape->c / shape->groups) * (size_t)(shape->r * shape->s);
    const int32_t resting = !(band->first && band->last); /* the sums of a single band need no place of their own */
    struct sum_tile tile = { .x_step = (size_t)shape->stride_w * (size_t)source->c, .dy_step = (size_t)shape->k };

    tile.first = band->first;
    for (int32_t t = 0; t < taps; t++) {
        num_runs[t] = sum_runs(plan, source, band->dy, band->begin, band->end, t / source->taps_w, t % source->taps_w,
                               runs + (size_t)t * (size_t)plan->wgrad_rows);
    }
    for (int32_t g = 0; g < shape->groups; g++) {
        for (int32_t k = 0; k < group_out;) {
            const int32_t vectors = block_vectors(group_out - k), block = vectors * VEC_LANES;
            const int32_t most = vectors == 1 ? VEC_TILE1 : VEC_TILE2, tiles = (source->channels + most - 1) / most;

            tile.dy_offset = g * group_out + k;
            tile.width = native_min(group_out - k, block);
            const int32_t halved = tile.width - (vectors - 1) * VEC_LANES <= VEC_HALF;
            for (int32_t i = 0; i < tiles; i++) {
                const int32_t c = piece_begin(source->channels, tiles, i);
                const int32_t channels = piece_begin(source->channels, tiles, i + 1) - c;
                float *target = dw + (size_t)g * group_size + (size_t)k * (group_size / (size_t)group_out);

                tile.x_offset = (shape->groups > 1 ? g * source->channels : 0) + c;
                for (int32_t t = 0; t < taps; t++) {
                    tile.runs = runs + (size_t)t * (size_t)plan->wgrad_rows;
                    tile.num_runs = num_runs[t];
                    tile.sums = sums + (size_t)t * (size_t)channels * (size_t)block;
                    sum_kernels[halved][vectors - 1][channels - 1](&tile);
                }
                if (band->last && plan->forward.fused) {
                    sums_unpack_fused(shape, sums, c, channels, block, tile.width, target);
                } else if (band->last) {
                    sums_unpack(shape, sums, channels, block, tile.width, target + (size_t)c * (size_t)taps);
                }
                sums += resting ? (size_t)taps * (size_t)channels * (size_t)block : 0;
            }
            k += block;
        }
    }
}

static void weights_run(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                        uint8_t *scratch)
{
    const struct mqb_conv_shape *shape = &plan->shape;

    if (plan->depthwise) {
        weights_depthwise(plan, n, x, dy, dw, (float *)(void *)scratch);
        return;
    }
    if (plan->wgrad_winograd) {
        winograd_weights(plan, n, x, dy, dw, scratch);
        return;
    }
    const struct native_pass *forward = &plan->forward;
    float *sums = (float *)(void *)scratch;
    int32_t *num_runs = (int32_t *)(void *)(scratch + plan->sum_size);
    struct native_run *runs = (struct native_run *)(void *)(scratch + plan->sum_size + plan->counts_size);
    float *padded = (float *)(void *)(scratch + plan->sum_size + plan->counts_size + plan->runs_size);
    const struct sum_source whole = { x,
                                      shape->h,
                                      shape->w,
                                      shape->c,
                                      shape->pad_top,
                                      shape->pad_left,
                                      shape->s,
                                      shape->c / shape->groups };
    const struct sum_source copy = { padded, plan->pad_h, plan->pad_w, shape->c, 0, 0, 1, shape->s * shape->c };
    const int32_t images = forward->fused ? 1 : n, rows = images * shape->p;

    for (int32_t image = 0; image < n; image += images) {
        struct sum_band band = { .dy = dy + (size_t)image * (size_t)shape->p * (size_t)shape->q * (size_t)shape->k };

        if (forward->fused) {
            native_pad_image(plan, x + (size_t)image * (size_t)shape->h * (size_t)shape->w * (size_t)shape->c,
                             (int32_t)sizeof(float), 0, padded);
        }
        for (band.begin = 0; band.begin < rows; band.begin += plan->wgrad_rows) {
            band.end = native_min(band.begin + plan->wgrad_rows, rows);
            band.first = image == 0 && band.begin == 0;
            band.last = image + images == n && band.end == rows;
            band_sums(plan, forward->fused ? &copy : &whole, &band, sums, runs, num_runs, dw);
        }
    }
}
