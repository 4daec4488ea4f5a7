/*
 * plan.c - the geometry of a convolution, worked out once: passes, classes, sizes.
 */
#include "native.h"

#include <string.h>

enum {
    FUSED_CHANNELS = 8, /* floats: up to here a kernel row of a padded copy is one run */
    BAND_PIXELS = 384, /* output pixels for which a block of weights stays in the cache */
    BAND_POINTERS = 8192, /* of the table of pointers to what each tap of each pixel of a band reads */
    WGRAD_BAND_SIZE = 192 * 1024, /* bytes of x and dy that the weight gradient works on at a time */
    WGRAD_BAND_PIXELS = 256,      /* but at least so many: the sums may have to come from far away for each band */
    WGRAD_BAND_ROWS = 1024,
    WAY_SIZE = 4096, /* bytes of the first-level cache after which addresses share a set, and what a set holds */
    NUM_WAYS = 8,
    NARROW_SIZE = 4 * 1024 * 1024, /* bytes of transposed rows, at most */
    WINOGRAD_CHANNELS = 16,        /* from here on fewer products pay for the transforms */
    WINOGRAD_PASS = 70,            /* percent of the products that pay, */
    WINOGRAD_SUMS = 55,            /* and for the weight gradient, which sees no padding otherwise and has a way back */
    WINOGRAD_SIZE = 128 * 1024,    /* bytes of a band's tiles, in and out */
    WINOGRAD_TILES = 48,           /* but at least so many: weights and sums may have to come from far away for each band */
    WINOGRAD_WHOLE = 4096 * 1024,  /* bytes of all tiles up to which the sums of the weight gradient stay in place */
};

static size_t size_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Sizes stay far below the address space: every product of two dimensions fits, the whole tensors are checked. */
static int tensor_size(size_t *size, int32_t max_images, int32_t h, int32_t w, int32_t c)
{
    size_t limit = (size_t)1 << 46;

    return __builtin_mul_overflow((size_t)max_images, (size_t)h, size) || __builtin_mul_overflow(*size, (size_t)w, size) ||
           __builtin_mul_overflow(*size, (size_t)c, size) || *size > limit;
}

static mqb_status shape_check(const struct mqb_host *host, const struct mqb_conv_shape *s, int32_t max_images,
                              struct mqb_error *error)
{
    const int32_t limit = 1 << 24;
    const int32_t values[] = { s->c, s->h, s->w, s->k, s->r, s->s, s->p, s->q, s->stride_h, s->stride_w, s->dilation_h,
                               s->dilation_w, s->groups, max_images };
    const int32_t pads[] = { s->pad_top, s->pad_left, s->pad_bottom, s->pad_right };

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (values[i] < 1 || values[i] > limit) {
            return host->fail(error, MQB_ERR_ARGUMENT,
                              "native: a convolution has a size of %d; every size must lie in 1..%d: check the model's shapes",
                              values[i], limit);
        }
    }
    for (size_t i = 0; i < 4; i++) {
        if (pads[i] < 0 || pads[i] > limit) {
            return host->fail(error, MQB_ERR_ARGUMENT,
                              "native: a convolution has a padding of %d; it must lie in 0..%d: check the model's pads",
                              pads[i], limit);
        }
    }
    if (s->c % s->groups != 0 || s->k % s->groups != 0) {
        return host->fail(error, MQB_ERR_ARGUMENT, "native: %d input and %d output channels do not divide into %d groups", s->c,
                          s->k, s->groups);
    }
    int64_t reach_h = (int64_t)s->dilation_h * (s->r - 1) + 1;
    int64_t reach_w = (int64_t)s->dilation_w * (s->s - 1) + 1;
    int64_t room_h = (int64_t)s->h + s->pad_top + s->pad_bottom - reach_h;
    int64_t room_w = (int64_t)s->w + s->pad_left + s->pad_right - reach_w;
    if (reach_h > limit || reach_w > limit || room_h < 0 || room_w < 0 || room_h / s->stride_h + 1 != s->p ||
        room_w / s->stride_w + 1 != s->q) {
        return host->fail(error, MQB_ERR_ARGUMENT,
                          "native: a %dx%d convolution of a %dx%d image cannot give %dx%d outputs with its stride, padding and "
                          "dilation: check the model's shapes",
                          s->r, s->s, s->h, s->w, s->p, s->q);
    }
    size_t size = 0;
    if ((int64_t)max_images * s->h > INT32_MAX || (int64_t)max_images * s->p > INT32_MAX ||
        (int64_t)native_min(s->stride_h, s->h) * native_min(s->stride_w, s->w) * max_images > INT32_MAX ||
        tensor_size(&size, max_images, s->h, s->w, s->c) || tensor_size(&size, max_images, s->p, s->q, s->k) ||
        tensor_size(&size, s->k, s->r, s->s, s->c / s->groups) || tensor_size(&size, 64, s->r, s->s, 2 * s->c)) {
        return host->fail(error, MQB_ERR_MEMORY, "native: a convolution's tensors are too large: take a smaller batch");
    }
    return MQB_OK;
}

static void class_bounds(struct native_class *class)
{
    class->min_h = class->min_w = INT32_MAX;
    class->max_h = class->max_w = INT32_MIN;
    for (int32_t t = 0; t < class->num_taps; t++) {
        int32_t h = class->tap_h[t], w = class->tap_w[t];

        class->min_h = h < class->min_h ? h : class->min_h;
        class->max_h = h > class->max_h ? h : class->max_h;
        class->min_w = w < class->min_w ? w : class->min_w;
        class->max_w = w > class->max_w ? w : class->max_w;
    }
}

/* Room for the classes and, behind one another, their taps. */
static int classes_allocate(struct native_pass *pass, const struct mqb_host *host, size_t num_classes, size_t num_taps)
{
    pass->classes = host->allocate(num_classes * sizeof(struct native_class));
    pass->taps = host->allocate(num_taps * 3 * sizeof(int32_t));
    return pass->classes == NULL || pass->taps == NULL;
}

static void class_taps(struct native_class *class, int32_t *taps, int32_t room)
{
    class->tap_h = taps;
    class->tap_w = taps + room;
    class->tap_index = taps + 2 * (size_t)room;
}

/* Whether the taps of a class are rows of as many taps each, side by side in one direction. */
static int class_grid(struct native_class *class)
{
    int32_t cols = 0;

    while (cols < class->num_taps && class->tap_h[cols] == class->tap_h[0]) {
        cols++;
    }
    if (cols == 0 || cols > NATIVE_GRID_COLS || class->num_taps % cols != 0) {
        return 0;
    }
    class->grid_down = cols == 1 || class->tap_w[1] < class->tap_w[0];
    for (int32_t t = 0; t < class->num_taps; t++) {
        const int32_t column = t % cols;

        if (class->tap_h[t] != class->tap_h[t - column] ||
            class->tap_w[t] != class->tap_w[0] + (class->grid_down ? -column : column)) {
            return 0;
        }
    }
    class->grid_cols = cols;
    return 1;
}

static void pass_grid(struct native_pass *pass)
{
    int32_t num_taps = 0;

    pass->grid = pass->depthwise && pass->in_step_w <= 2;
    for (int32_t i = 0; i < pass->num_classes; i++) {
        num_taps = native_max(num_taps, pass->classes[i].num_taps);
        pass->grid &= class_grid(&pass->classes[i]) && (pass->in_step_w == 1 || !pass->classes[i].grid_down);
    }
    pass->grid &= num_taps > NATIVE_PIXEL_TAPS;
}

/* Few output channels leave most lanes of a vector of channels empty. Then lanes are pixels, and the rows of the input that a
 * row of outputs needs are kept transposed, with zeros for the padding around them: one copy for each tap's place in a row,
 * so that every vector is aligned. */
static void pass_narrow(struct native_pass *pass, int32_t lanes)
{
    int32_t min_h = 0, max_h = 0, min_w = 0, max_w = 0, width = pass->in_w, num_taps = 0;

    for (int32_t i = 0; i < pass->num_classes; i++) {
        const struct native_class *class = &pass->classes[i];

        if (class->num_taps > 0) {
            min_h = native_min(min_h, class->min_h);
            max_h = native_max(max_h, class->max_h);
            min_w = native_min(min_w, class->min_w);
            max_w = native_max(max_w, class->max_w);
        }
        width = native_max(width, class->width);
        num_taps = native_max(num_taps, class->num_taps);
    }
    if (pass->groups > 1 || num_taps > NATIVE_NARROW_TAPS || pass->out_c > NATIVE_NARROW_CHANNELS ||
        pass->classes[0].width < lanes / 2) {
        return;
    }
    const size_t margin = native_round_up((size_t)native_max(-min_w, max_w), (size_t)lanes);
    const size_t values = native_round_up((size_t)width, (size_t)lanes) + 2 * margin;
    const size_t rows = (size_t)max_h - (size_t)min_h + 1, copies = (size_t)max_w - (size_t)min_w + 1;
    if (values > NARROW_SIZE || rows * copies > NARROW_SIZE ||
        rows * copies * values * (size_t)pass->in_c > NARROW_SIZE / sizeof(float)) {
        return;
    }
    pass->narrow = 1;
    pass->narrow_rows = (int32_t)rows;
    pass->narrow_copies = (int32_t)copies;
    pass->narrow_width = (int32_t)values;
    pass->narrow_margin = (int32_t)margin;
    pass->narrow_top = min_h;
    pass->narrow_left = min_w;
}

/* 3x3 kernels over neighbouring pixels, and at most `percent` of the products, counting tiles that hang over the edge. */
static int winograd_pays(const struct mqb_conv_shape *s, int32_t height, int32_t width, int32_t percent)
{
    const int64_t tiles = (int64_t)((height + 1) / 2) * ((width + 1) / 2);

    return s->r == 3 && s->s == 3 && s->stride_h == 1 && s->stride_w == 1 && s->dilation_h == 1 && s->dilation_w == 1 &&
           s->groups == 1 && native_min(s->c, s->k) >= WINOGRAD_CHANNELS && tiles * 16 * 100 <= (int64_t)height * width * 9 * percent;
}

static int32_t winograd_band(const struct mqb_conv_shape *s, int32_t max_images, int32_t height, int32_t width, size_t whole)
{
    const size_t tile_size = native_planes(s->c, s->c, 1).size + native_planes(s->k, s->k, 1).size;
    const size_t total = (size_t)max_images * (size_t)((height + 1) / 2) * (size_t)((width + 1) / 2);
    size_t band = native_round_up(size_max(WINOGRAD_SIZE / tile_size, WINOGRAD_TILES), WINOGRAD_TILES);

    return (int32_t)(total * tile_size <= whole ? total : size_min(band, total));
}

/* A band of tiles in the place of one of pixels: a pointer a tile, and what the tiles become. */
static void pass_winograd(struct native_pass *pass, const struct mqb_conv_shape *s, int32_t max_images)
{
    pass->band = winograd_band(s, max_images, pass->out_h, pass->out_w, 0);
    pass->rows_size = pass->outs_size = native_round_up((size_t)pass->band * sizeof(void *), 64);
    pass->planes_size = native_planes(pass->in_c, pass->in_c, pass->band).size + native_planes(pass->out_c, pass->out_c, pass->band).size;
}

/* Tiles, bands, offsets of the packed weights, scratch for pointers: all that follows from the classes. */
static void pass_finish(struct native_pass *pass, const struct native_isa *isa, int32_t integer)
{
    const int32_t *tile = integer ? isa->itile : isa->tile;
    int32_t max_taps = 1;
    size_t width = native_round_up((size_t)pass->group_out, (size_t)isa->lanes);

    if (pass->depthwise) {
        width = native_round_up((size_t)pass->out_c, (size_t)isa->lanes);
    }
    if (pass->narrow) {
        width = (size_t)pass->out_c;
    }
    pass->packed_size = 0;
    for (int32_t i = 0; i < pass->num_classes; i++) {
        struct native_class *class = &pass->classes[i];
        size_t groups = pass->depthwise ? 1 : (size_t)pass->groups;

        class->weight_offset = pass->packed_size;
        pass->packed_size += groups * width * (size_t)class->num_taps * (size_t)pass->run * (size_t)pass->unit_size;
        max_taps = class->num_taps > max_taps ? class->num_taps : max_taps;
    }
    if (pass->winograd) {
        pass->packed_size = 16 * width * (size_t)pass->run * sizeof(float);
    }
    pass->packed_size = native_round_up(pass->packed_size, 64);
    pass->tile = pass->group_out <= isa->lanes ? tile[0] : tile[1];
    if (!integer && (size_t)pass->in_c * (size_t)pass->in_step_w * sizeof(float) % WAY_SIZE == 0) {
        pass->tile = native_min(pass->tile, NUM_WAYS); /* what a tile's pixels read shares one set of the cache */
    }
    pass->band = native_min(BAND_PIXELS, BAND_POINTERS / max_taps) / pass->tile * pass->tile;
    if (pass->band < pass->tile) {
        pass->band = pass->tile;
    }
    pass->rows_size = ((size_t)pass->band * (size_t)max_taps + NATIVE_POINTER_CHUNK) * sizeof(void *);
    pass->rows_size = native_round_up(pass->rows_size, 64);
    if (pass->depthwise) { /* rows, steps and weights of a pixel's taps */
        pass->rows_size = native_round_up(3 * (size_t)max_taps * sizeof(void *), 192);
    }
    if (pass->narrow) {
        pass->rows_size = (size_t)pass->narrow_rows * (size_t)pass->narrow_copies * (size_t)pass->narrow_width *
                          (size_t)pass->in_c * sizeof(float);
        pass->rows_size = native_round_up(pass->rows_size, 64);
    }
    pass->outs_size = native_round_up(((size_t)pass->band + NATIVE_POINTER_CHUNK) * sizeof(void *), 64);
}

/* A pixel needs one pointer: its taps are the same steps away everywhere. */
static int integer_offsets(const struct mqb_conv_plan *plan, struct native_pass *pass)
{
    const struct native_class *class = pass->classes;

    pass->offsets = plan->host->allocate((size_t)class->num_taps * sizeof(int64_t));
    if (pass->offsets == NULL) {
        return 1;
    }
    for (int32_t t = 0; t < class->num_taps; t++) {
        pass->offsets[t] = ((int64_t)class->tap_h[t] * pass->in_w + class->tap_w[t]) * pass->in_c;
    }
    pass->band = BAND_PIXELS / pass->tile * pass->tile;
    pass->rows_size = native_round_up((size_t)pass->band * sizeof(void *), 64);
    pass->outs_size = 0;
    return 0;
}

static int pass_forward(struct mqb_conv_plan *plan, struct native_pass *pass, int32_t integer)
{
    const struct mqb_conv_shape *s = &plan->shape;
    int32_t channels = s->c / s->groups;
    size_t num_taps = (size_t)s->r * (size_t)s->s;

    pass->depthwise = plan->depthwise;
    if (integer && !pass->depthwise) { /* bytes are cheap to copy; quads may reach past the last channel */
        pass->fused = s->groups == 1 && s->dilation_w == 1;
        pass->copied = s->pad_top + s->pad_left + s->pad_bottom + s->pad_right > 0 ||
                       (pass->fused ? s->s * channels : channels) % 4 != 0;
    } else {
        pass->fused = pass->copied = s->groups == 1 && s->s > 1 && s->dilation_w == 1 && channels <= FUSED_CHANNELS;
    }
    pass->in_h = pass->copied ? plan->pad_h : s->h;
    pass->in_w = pass->copied ? plan->pad_w : s->w;
    pass->in_c = s->c;
    pass->out_h = s->p;
    pass->out_w = s->q;
    pass->out_c = s->k;
    pass->groups = s->groups;
    pass->group_in = channels;
    pass->group_out = s->k / s->groups;
    pass->in_step_h = s->stride_h;
    pass->in_step_w = s->stride_w;
    pass->out_step_h = pass->out_step_w = 1;
    pass->run = pass->fused ? s->s * channels : channels;
    pass->in_size = integer ? 1 : (int32_t)sizeof(float);
    pass->unit_size = (int32_t)sizeof(float);
    if (integer && !pass->depthwise) {
        pass->run = (pass->run + 3) / 4;
        pass->unit_size = plan->isa->quad_size;
    }
    if (classes_allocate(pass, plan->host, 1, num_taps)) {
        return 1;
    }
    pass->num_classes = 1;
    struct native_class *class = pass->classes;
    class->height = s->p;
    class->width = s->q;
    class_taps(class, pass->taps, (int32_t)num_taps);
    for (int32_t r = 0; r < s->r; r++) {
        for (int32_t c = 0; c < (pass->fused ? 1 : s->s); c++) {
            int32_t t = class->num_taps++;

            class->tap_h[t] = r * s->dilation_h - (pass->copied ? 0 : s->pad_top);
            class->tap_w[t] = c * s->dilation_w - (pass->copied ? 0 : s->pad_left);
            class->tap_index[t] = r * s->s + c;
        }
    }
    class_bounds(class);
    if (!integer) {
        pass_grid(pass);
    }
    pass->winograd = !integer && winograd_pays(s, s->p, s->q, WINOGRAD_PASS);
    pass_finish(pass, plan->isa, integer);
    if (pass->winograd) {
        pass_winograd(pass, s, plan->max_images);
    }
    return integer && !pass->depthwise ? integer_offsets(plan, pass) : 0;
}

/* dx[h] takes dy[(h + pad - r * dilation) / stride] where that is whole: the remainder of h decides which r. */
static int pass_backward(struct mqb_conv_plan *plan, struct native_pass *pass)
{
    const struct mqb_conv_shape *s = &plan->shape;
    int32_t classes_h = native_min(s->stride_h, s->h), classes_w = native_min(s->stride_w, s->w);
    int32_t num_taps = s->r * s->s;

    pass->depthwise = plan->depthwise;
    pass->in_h = s->p;
    pass->in_w = s->q;
    pass->in_c = s->k;
    pass->out_h = s->h;
    pass->out_w = s->w;
    pass->out_c = s->c;
    pass->groups = s->groups;
    pass->group_in = s->k / s->groups;
    pass->group_out = s->c / s->groups;
    pass->in_step_h = pass->in_step_w = 1;
    pass->out_step_h = s->stride_h;
    pass->out_step_w = s->stride_w;
    pass->run = pass->group_in;
    pass->in_size = pass->unit_size = (int32_t)sizeof(float);
    if (classes_allocate(pass, plan->host, (size_t)classes_h * (size_t)classes_w, (size_t)num_taps)) {
        return 1;
    }
    int32_t *taps = pass->taps;
    for (int32_t a = 0; a < classes_h; a++) {
        for (int32_t b = 0; b < classes_w; b++) {
            struct native_class *class = &pass->classes[pass->num_classes++];
            int32_t room = 0;

            class->height = (s->h - a + s->stride_h - 1) / s->stride_h;
            class->width = (s->w - b + s->stride_w - 1) / s->stride_w;
            class->origin_h = a;
            class->origin_w = b;
            for (int32_t i = 0; i < num_taps; i++) {
                int32_t h = a + s->pad_top - i / s->s * s->dilation_h, w = b + s->pad_left - i % s->s * s->dilation_w;
                room += h % s->stride_h == 0 && w % s->stride_w == 0;
            }
            class_taps(class, taps, room);
            taps += 3 * (size_t)room;
            for (int32_t i = 0; i < num_taps; i++) {
                int32_t h = a + s->pad_top - i / s->s * s->dilation_h, w = b + s->pad_left - i % s->s * s->dilation_w;

                if (h % s->stride_h == 0 && w % s->stride_w == 0) {
                    int32_t t = class->num_taps++;

                    class->tap_h[t] = h / s->stride_h;
                    class->tap_w[t] = w / s->stride_w;
                    class->tap_index[t] = i;
                }
            }
            class_bounds(class);
        }
    }
    pass_grid(pass);
    pass_narrow(pass, plan->isa->lanes);
    pass->winograd = winograd_pays(s, s->h, s->w, WINOGRAD_PASS);
    pass_finish(pass, plan->isa, 0);
    if (pass->winograd) {
        pass_winograd(pass, s, plan->max_images);
    }
    return 0;
}

/* The scratch of the weight gradient by fewer products. If all tiles fit into a band, sums need no place to rest. */
static size_t weights_winograd(struct mqb_conv_plan *plan, size_t channels, size_t width)
{
    const struct mqb_conv_shape *s = &plan->shape;
    const int64_t total = (int64_t)plan->max_images * ((s->p + 1) / 2) * ((s->q + 1) / 2);

    plan->wgrad_winograd = 1;
    plan->wgrad_tiles = winograd_band(s, plan->max_images, s->p, s->q, WINOGRAD_WHOLE);
    if (plan->wgrad_tiles == total) {
        channels = size_min(channels, NATIVE_MAX_TILE);
        width = size_min(width, 2 * (size_t)plan->isa->lanes);
    }
    plan->sum_size = native_round_up(16 * channels * width * sizeof(float), 64);
    return plan->sum_size + native_planes(s->c, NATIVE_WINOGRAD_GROUP, plan->wgrad_tiles).size +
           native_planes(s->k, 2 * plan->isa->lanes, plan->wgrad_tiles).size;
}

static void plan_sizes(struct mqb_conv_plan *plan)
{
    const struct mqb_conv_shape *s = &plan->shape;
    int32_t lanes = plan->isa->lanes;
    size_t taps = (size_t)s->r * (size_t)s->s;
    size_t pixels = (size_t)plan->pad_h * (size_t)plan->pad_w;
    size_t row_size = ((size_t)s->q * (size_t)s->k + (size_t)s->stride_h * (size_t)s->w * (size_t)s->c) * sizeof(float);
    size_t all_rows = (size_t)plan->max_images * (size_t)s->p;
    size_t rows = size_max(WGRAD_BAND_SIZE / row_size, (size_t)((WGRAD_BAND_PIXELS + s->q - 1) / s->q));

    plan->pad_size = plan->forward.fused ? native_round_up(pixels * (size_t)s->c * sizeof(float), 64) : 0;
    plan->pad_integer_size = plan->integer.copied ? native_round_up(pixels * (size_t)s->c + 3, 64) : 0;
    size_t width = plan->depthwise ? 1 : native_round_up((size_t)s->k / (size_t)s->groups, (size_t)lanes);
    size_t channels = plan->depthwise ? native_round_up((size_t)s->c, (size_t)lanes) : (size_t)s->c;
    plan->sum_size = native_round_up(taps * channels * width * sizeof(float), 64);
    plan->wgrad_rows = (int32_t)size_min(size_min(rows, all_rows), WGRAD_BAND_ROWS);
    plan->counts_size = native_round_up(taps * sizeof(int32_t), 64);
    plan->runs_size = native_round_up(taps * (size_t)plan->wgrad_rows * sizeof(struct native_run), 64);

    size_t forward = plan->forward.rows_size + plan->forward.outs_size + plan->forward.planes_size + plan->pad_size;
    size_t backward = plan->backward.rows_size + plan->backward.outs_size + plan->backward.planes_size;
    size_t weights = plan->sum_size + plan->counts_size + plan->runs_size + plan->pad_size;
    if (winograd_pays(s, s->p, s->q, WINOGRAD_SUMS)) {
        weights = weights_winograd(plan, channels, width);
    }
    plan->scratch_size = size_max(size_max(forward, backward), weights);
    plan->integer_scratch_size = plan->integer.rows_size + plan->integer.outs_size +
                                 size_max(plan->pad_integer_size, native_round_up((size_t)s->c, 64));
}

mqb_status native_plan_create(const struct mqb_host *host, const struct native_isa *isa, const struct mqb_conv_shape *shape,
                              int32_t max_images, struct mqb_conv_plan **plan, struct mqb_error *error)
{
    mqb_status status = shape_check(host, shape, max_images, error);

    if (status != MQB_OK) {
        return status;
    }
    struct mqb_conv_plan *made = host->allocate(sizeof(*made));
    if (made == NULL) {
        return host->fail(error, MQB_ERR_MEMORY, "native: no memory for a convolution's plan: free some and try again");
    }
    made->host = host;
    made->isa = isa;
    made->shape = *shape;
    made->max_images = max_images;
    made->depthwise = shape->c == shape->k && shape->c == shape->groups && shape->c > 1;
    made->pad_h = (shape->p - 1) * shape->stride_h + (shape->r - 1) * shape->dilation_h + 1;
    made->pad_w = (shape->q - 1) * shape->stride_w + (shape->s - 1) * shape->dilation_w + 1;
    made->zeros = host->allocate((size_t)(shape->c > shape->k ? shape->c : shape->k) * sizeof(float));
    if (made->zeros == NULL || pass_forward(made, &made->forward, 0) || pass_backward(made, &made->backward) ||
        pass_forward(made, &made->integer, 1)) {
        native_plan_destroy(made);
        return host->fail(error, MQB_ERR_MEMORY, "native: no memory for a convolution's plan: free some and try again");
    }
    plan_sizes(made);
    *plan = made;
    return MQB_OK;
}

static void pass_deinit(struct native_pass *pass, const struct mqb_host *host)
{
    host->deallocate(pass->classes);
    host->deallocate(pass->taps);
    host->deallocate(pass->offsets);
}

void native_plan_destroy(struct mqb_conv_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    const struct mqb_host *host = plan->host;
    pass_deinit(&plan->forward, host);
    pass_deinit(&plan->backward, host);
    pass_deinit(&plan->integer, host);
    host->deallocate(plan->zeros);
    host->deallocate(plan);
}

void native_pad_image(const struct mqb_conv_plan *plan, const void *image, int32_t value_size, uint8_t pad_value, void *padded)
{
    native_pad_rows(plan, 0, plan->pad_h, image, value_size, pad_value, padded);
}

void native_pad_rows(const struct mqb_conv_plan *plan, int32_t first, int32_t count, const void *image, int32_t value_size,
                     uint8_t pad_value, void *padded)
{
    const struct mqb_conv_shape *s = &plan->shape;
    size_t pixel = (size_t)s->c * (size_t)value_size;
    size_t row = (size_t)plan->pad_w * pixel;
    int32_t inside = native_min(s->w, plan->pad_w - s->pad_left); /* pixels of a row that are wanted; the rest is padding */

    inside = inside < 0 ? 0 : inside;
    for (int32_t y = first; y < first + count; y++) {
        uint8_t *target = (uint8_t *)padded + (size_t)(y - first) * row;
        int32_t in_y = y - s->pad_top;

        if (in_y < 0 || in_y >= s->h) {
            memset(target, pad_value, row);
            continue;
        }
        size_t left = (size_t)native_min(s->pad_left, plan->pad_w) * pixel, middle = (size_t)inside * pixel;
        memset(target, pad_value, left);
        memcpy(target + left, (const uint8_t *)image + (size_t)in_y * (size_t)s->w * pixel, middle);
        memset(target + left + middle, pad_value, row - left - middle);
    }
}
