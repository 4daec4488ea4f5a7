/*
 * depthwise_run.h - one direction of a depthwise convolution, row by row: no table of pointers, the taps of a row are enough.
 */

/* What a pixel's taps read, in scratch. */
struct depthwise_taps {
    const uint8_t **rows;
    ptrdiff_t *steps;
    const void **weights;
};

static struct depthwise_taps depthwise_taps(const struct native_pass *pass, void *scratch)
{
    const size_t room = pass->rows_size / 3 / sizeof(void *);

    return (struct depthwise_taps){ scratch, (ptrdiff_t *)scratch + room, (const void **)scratch + 2 * room };
}

static struct depthwise_tile depthwise_tile(const struct native_pass *pass, const struct depthwise_taps *taps, const float *bias,
                                            int32_t accumulate)
{
    return (struct depthwise_tile){ .rows = taps->rows,
                                    .steps = taps->steps,
                                    .weights = taps->weights,
                                    .bias = bias,
                                    .width = pass->out_c,
                                    .out_step = (ptrdiff_t)pass->out_c * 4 * pass->out_step_w,
                                    .accumulate = accumulate };
}

/* The taps that pixel `x` of row `y` meets; of those over the edge only the ones that must read the pad value.
 * True if all have the same step. */
static int depthwise_meet(const struct native_pass *pass, const struct native_class *class, const uint8_t *image,
                          const uint8_t *packed, const uint8_t *pad_row, int32_t y, int32_t x, struct depthwise_tile *tile,
                          const struct depthwise_taps *taps)
{
    const ptrdiff_t pixel_size = (ptrdiff_t)pass->in_c * pass->in_size;
    const size_t weight_size = native_round_up((size_t)pass->out_c, VEC_LANES) * (size_t)pass->unit_size;
    int same_steps = 1;

    tile->num_taps = 0;
    taps->steps[0] = 0;
    for (int32_t t = 0; t < class->num_taps; t++) {
        const int32_t in_y = y * pass->in_step_h + class->tap_h[t], in_x = x * pass->in_step_w + class->tap_w[t];
        const int inside = in_y >= 0 && in_y < pass->in_h && in_x >= 0 && in_x < pass->in_w;

        if (!inside && pad_row == NULL) {
            continue;
        }
        taps->rows[tile->num_taps] = inside ? image + ((ptrdiff_t)in_y * pass->in_w + in_x) * pixel_size : pad_row;
        taps->steps[tile->num_taps] = inside ? pass->in_step_w * pixel_size : 0;
        taps->weights[tile->num_taps] = packed + (size_t)t * weight_size;
        same_steps &= inside;
        tile->num_taps++;
    }
    return same_steps;
}

/* Rows [first, first + count) of an image of a class; `out`: where row `first` of the class would be in a whole image of which
 * it is the first. */
static void depthwise_image(const struct native_pass *pass, const struct native_class *class, int32_t first, int32_t count,
                            const uint8_t *in, const uint8_t *packed, uint8_t *out, const uint8_t *pad_row,
                            struct depthwise_tile *tile, const struct depthwise_taps *taps)
{
    const int32_t integer = pass->in_size == 1, step = pass->in_step_w;
    const ptrdiff_t out_pixel = (ptrdiff_t)pass->out_c * 4;
    /* pixels [begin, end) of a row meet the same taps */
    int32_t begin = class->min_w >= 0 ? 0 : native_min((step - 1 - class->min_w) / step, class->width);
    int32_t end = native_min(native_floor_div(pass->in_w - 1 - class->max_w, step) + 1, class->width);

    if (class->num_taps == 0) {
        begin = 0;
        end = class->width;
    }
    for (int32_t y = first; y < first + count; y++) {
        const ptrdiff_t out_y = class->origin_h + (ptrdiff_t)(y - first) * pass->out_step_h;
        uint8_t *row = out + (out_y * pass->out_w + class->origin_w) * out_pixel;

        for (int32_t x = 0; x < class->width;) {
            const int same_steps = depthwise_meet(pass, class, in, packed, pad_row, y, x, tile, taps);

            tile->pixels = x >= begin && x < end ? end - x : 1;
            tile->out = row + x * tile->out_step;
            depthwise_kernels[integer][same_steps && tile->num_taps <= NATIVE_PIXEL_TAPS ? tile->num_taps : 0](tile);
            x += tile->pixels;
        }
    }
}

/* `pad_row`: for integers with a pad value, else NULL. */
static void depthwise_run(const struct native_pass *pass, int32_t n, const void *in, const void *packed, const float *bias,
                          void *out, int32_t accumulate, const uint8_t *pad_row, void *scratch)
{
    const size_t in_size = (size_t)pass->in_h * (size_t)pass->in_w * (size_t)pass->in_c * (size_t)pass->in_size;
    const size_t out_size = (size_t)pass->out_h * (size_t)pass->out_w * (size_t)pass->out_c * 4;
    const struct depthwise_taps taps = depthwise_taps(pass, scratch);
    struct depthwise_tile tile = depthwise_tile(pass, &taps, bias, accumulate);

    if (pass->grid) {
        grid_run(pass, n, in, packed, bias, out, accumulate, scratch);
        return;
    }
    for (int32_t i = 0; i < n * pass->num_classes; i++) {
        const struct native_class *class = &pass->classes[i % pass->num_classes];
        const uint8_t *image_in = (const uint8_t *)in + (size_t)(i / pass->num_classes) * in_size;
        uint8_t *image_out = (uint8_t *)out + (size_t)(i / pass->num_classes) * out_size;

        if (class->num_taps > 0 || accumulate == 0) {
            depthwise_image(pass, class, 0, class->height, image_in, (const uint8_t *)packed + class->weight_offset, image_out,
                            pad_row, &tile, &taps);
        }
    }
}

/* Output rows [first, first + count) of one image, forward. */
static void depthwise_rows(const struct native_pass *pass, int32_t first, int32_t count, const void *in, const void *packed,
                           const float *bias, void *out, const void *pad_row, void *scratch)
{
    const struct depthwise_taps taps = depthwise_taps(pass, scratch);
    struct depthwise_tile tile = depthwise_tile(pass, &taps, bias, 0);

    depthwise_image(pass, pass->classes, first, count, in, packed, out, pad_row, &tile, &taps);
}
