/*
 * native.h - the inside of the provider: a pass (one direction of a convolution, ready to run), the plan that holds the
 * passes, and the table of kernels of an instruction set.
 *
 * Letters: N images, C input channels, H x W input, K output channels, R x S kernel, P x Q output.
 *
 * Numbers: an element of y is one chain of fused multiply-adds over (r, s, c) from +0, with zeros where the kernel hangs
 * over the edge (depthwise: those are left out), then the bias is added. An element of dx is one chain over (r, s, k),
 * restricted to the taps that its stride class can meet. An element of dw is one chain over (n, p, q); a pixel that the
 * kernel position cannot see is left out (or is a zero, for the few-channel layers that run on a padded copy). 3x3 kernels over
 * neighbouring pixels, from 16 channels on both sides, go by fewer products: winograd.h says which sums. None of it depends on
 * the vector width, the tile, or the number of images.
 */
#ifndef NATIVE_H
#define NATIVE_H

#include <mqbench/compute.h>

enum {
    NATIVE_MAX_TILE = 24,
    NATIVE_POINTER_CHUNK = 8,
    NATIVE_NARROW_CHANNELS = 3,
    NATIVE_NARROW_TAPS = 128,
    NATIVE_GRID_COLS = 5,
    NATIVE_WINOGRAD_GROUP = 48, /* input channels of the weight gradient whose tiles lie together */
    NATIVE_PIXEL_TAPS = 9, /* depthwise: up to here a pixel at a time, the weights in registers */
};

/* Output pixels that all meet the same taps: for forward there is one class, for backward-data one a stride remainder. */
struct native_class {
    int32_t height, width;      /* pixels of an image */
    int32_t origin_h, origin_w; /* of the first, in the output */
    int32_t num_taps;
    int32_t *tap_h, *tap_w;  /* input pixel of a tap, relative to (y * in_step_h, x * in_step_w) */
    int32_t *tap_index;      /* r * S + s; in a fused pass: r * S */
    int32_t min_h, max_h, min_w, max_w; /* over the taps */
    size_t weight_offset; /* bytes, into the packed weights */
    int32_t grid_cols, grid_down; /* taps in a row, if they lie side by side; from right to left */
};

/* One direction: out[pixel][k] = sum over taps and channels of in[pixel of the tap][c] * weight. */
struct native_pass {
    int32_t in_h, in_w, in_c;
    int32_t out_h, out_w, out_c;
    int32_t groups, group_in, group_out; /* channels a group reads and writes */
    int32_t in_step_h, in_step_w, out_step_h, out_step_w;
    int32_t run;       /* values a tap reads, in units of the kernel: floats, or quads of bytes */
    int32_t in_size;   /* bytes of an input value */
    int32_t unit_size; /* bytes of packed weight a unit and lane */
    int32_t depthwise;
    int32_t grid;      /* depthwise in float with many taps, all classes grids */
    int32_t copied;    /* the input is a copy with its padding around it */
    int32_t fused;     /* a tap is a whole kernel row: run = S * C (floats: of a copy) */
    int32_t narrow;    /* few output channels: lanes are pixels, and rows of the input are transposed */
    int32_t narrow_rows, narrow_copies, narrow_width; /* such rows kept, copies of each, values in each of their channels */
    int32_t narrow_margin;                            /* of those, before the image's first in a copy that is not shifted */
    int32_t narrow_top, narrow_left;                  /* the lowest tap_h and tap_w */
    int32_t winograd;   /* output tiles of 2x2 pixels by fewer products; a band is of such tiles */
    int32_t tile, band; /* pixels */
    int32_t num_classes;
    struct native_class *classes;
    int32_t *taps;
    int64_t *offsets; /* integers, not depthwise: bytes from where a pixel begins to read to each tap */
    size_t packed_size;
    size_t rows_size, outs_size; /* bytes of scratch for the pointers of a band */
    size_t planes_size;          /* winograd: and for a band's tiles, in and out */
};

struct native_isa;

struct mqb_conv_plan {
    const struct mqb_host *host;
    const struct native_isa *isa;
    struct mqb_conv_shape shape;
    int32_t max_images;
    int32_t depthwise; /* c == k == groups */
    struct native_pass forward, backward, integer;
    void *zeros; /* a pixel of zeros, as long as either side's */
    size_t pad_size, pad_integer_size; /* bytes of the padded copy of one image, 0 if not fused */
    int32_t pad_h, pad_w;              /* its pixels */
    int32_t wgrad_rows;                /* output rows that the weight gradient works on at a time */
    int32_t wgrad_winograd;            /* the weight gradient is of tiles of 2x2 outputs, by fewer products */
    int32_t wgrad_tiles;               /* such tiles that it works on at a time */
    size_t sum_size, counts_size, runs_size; /* bytes of its sums, and of the runs of pixels for every kernel position */
    size_t scratch_size, integer_scratch_size;
};

/* What a micro-kernel works on: a tile of output pixels, one block of output channels. */
struct native_tile {
    const uint8_t *const *rows; /* [num_taps][pixels] */
    uint8_t *const *outs;       /* [pixels] */
    size_t row_offset, out_offset; /* bytes added to each: the place of the group and block */
    const void *weight;            /* [num_taps][run][block] */
    const float *bias;             /* of the block; NULL: none */
    int32_t num_taps, run;
    int32_t width; /* channels to write */
    int32_t accumulate;
};

/* What of an integer convolution is asked for: pixels row after row and image after image, some output channels. */
struct native_part {
    int64_t pixels;
    int32_t first_channel, num_channels;
};

/* Pixels side by side in both tensors, for the weight gradient. */
struct native_run {
    const float *x, *dy;
    int32_t count;
};

struct native_isa {
    const char *name;
    int32_t score;
    int32_t lanes;
    int32_t tile[2], itile[2]; /* pixels of a tile, for blocks of one and of two vectors */
    int32_t quad_size; /* bytes of packed weight a lane and quad of channels */
    /* `transposed`: the pass runs from K to C */
    void (*pack_float)(const struct native_pass *pass, const struct mqb_conv_shape *shape, const float *weight,
                       int32_t transposed, void *packed);
    void (*pack_integer)(const struct native_pass *pass, const struct mqb_conv_shape *shape, const int8_t *weight,
                         void *packed);
    /* depthwise passes: weights of more than 8 bits */
    void (*pack_wide)(const struct native_pass *pass, const struct mqb_conv_shape *shape, const int16_t *weight, void *packed);
    /* floats, and depthwise integers. `pad_row`: a pixel that taps over the edge read (depthwise: NULL, if they are left out) */
    void (*pass_run)(const struct native_pass *pass, int32_t n, const void *in, const void *packed, const float *bias,
                     void *out, int32_t accumulate, const void *pad_row, void *scratch);
    /* the same passes, forward: output rows [first, first + count) of one image, which go to the beginning of `out` */
    void (*rows_run)(const struct native_pass *pass, int32_t first, int32_t count, const void *in, const void *packed,
                     const float *bias, void *out, const void *pad_row, void *scratch);
    /* other integers; source: where the first pixel begins to read */
    void (*integer_run)(const struct native_pass *pass, const struct native_part *part, const uint8_t *source,
                        const void *packed, int32_t *acc, void *scratch);
    void (*weights_run)(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                        uint8_t *scratch);
};

extern const struct native_isa native_isa_generic;
extern const struct native_isa native_isa_avx2;
extern const struct native_isa native_isa_avx512;

mqb_status native_plan_create(const struct mqb_host *host, const struct native_isa *isa, const struct mqb_conv_shape *shape,
                              int32_t max_images, struct mqb_conv_plan **plan, struct mqb_error *error);
void native_plan_destroy(struct mqb_conv_plan *plan);

/* An image with its padding around it, cut or extended to pad_h x pad_w. */
void native_pad_image(const struct mqb_conv_plan *plan, const void *image, int32_t value_size, uint8_t pad_value, void *padded);
/* Rows [first, first + count) of that. */
void native_pad_rows(const struct mqb_conv_plan *plan, int32_t first, int32_t count, const void *image, int32_t value_size,
                     uint8_t pad_value, void *padded);

static inline size_t native_round_up(size_t size, size_t unit)
{
    return (size + unit - 1) / unit * unit;
}

static inline int32_t native_min(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static inline int32_t native_max(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* Where Winograd's kernels keep the channels of a band of tiles: in groups, in a group one plane a position, in a plane a row a
 * tile. No step is a multiple of the bytes after which addresses share a set of the cache. */
struct native_planes {
    size_t group, plane, row; /* floats from one to the next */
    size_t size;              /* bytes */
    int32_t channels;         /* of a group, a multiple of a vector's */
};

static inline struct native_planes native_planes(int32_t channels, int32_t most, int32_t band)
{
    const size_t width = native_round_up((size_t)native_min(channels, most), 16), row = width % 256 == 0 ? width + 16 : width;
    const size_t plane = row * (size_t)band + 16, group = 16 * plane, groups = ((size_t)channels + width - 1) / width;

    return (struct native_planes){ group, plane, row, groups * group * sizeof(float), (int32_t)width };
}

/* floor(a / b), b > 0 */
static inline int32_t native_floor_div(int32_t a, int32_t b)
{
    return a >= 0 ? a / b : -((b - 1 - a) / b);
}

#endif
