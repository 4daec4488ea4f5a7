/*
 * openblas.h - the inside of the provider: the plan, and the three ways a convolution is done.
 *
 * Letters: N images, C input channels, H x W input, K output channels, R x S kernel, P x Q output.
 *
 * Numbers: OpenBLAS rounds differently for products of different sizes. So every product is of one image (or a band of its
 * rows), and its size follows from the shape alone: the results of an image do not depend on the images beside it.
 */
#ifndef OPENBLAS_H
#define OPENBLAS_H

#include "library.h"

#include <mqbench/compute.h>

struct mqb_conv_plan;

/* One way: the entries of the provider's table of the same name. Sizes are in floats. */
struct openblas_way {
    void (*sizes)(struct mqb_conv_plan *plan);
    void (*pack)(const struct mqb_conv_plan *plan, const float *weight, float *packed);
    void (*forward)(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *packed, const float *bias,
                    float *y, float *scratch);
    void (*backward_data)(const struct mqb_conv_plan *plan, int32_t n, const float *dy, const float *packed, float *dx,
                          int32_t accumulate, float *scratch);
    void (*backward_weights)(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                             float *scratch);
};

extern const struct openblas_way openblas_product;   /* the general one: gather columns, multiply matrices */
extern const struct openblas_way openblas_depthwise; /* one input, one output channel a group: loops */
extern const struct openblas_way openblas_linear;    /* images of one pixel: loops, but for the weights' gradient */

struct mqb_conv_plan {
    const struct mqb_host *host;
    const struct openblas_way *way;
    struct openblas_library library;
    struct mqb_conv_shape shape;
    int32_t group_in, group_out; /* channels of a group */
    int32_t depth;               /* R * S * group_in: the length of a column */
    int32_t direct;              /* the image itself is the matrix of columns: 1x1, stride 1, no padding */
    int32_t band_rows;           /* output rows whose columns are gathered at a time */
    size_t packed_count, scratch_count;
};

/* A band: output rows [row, row + rows) of an image, one group. columns: [rows * Q][depth]. */
void openblas_gather(const struct mqb_conv_plan *plan, const float *x, int32_t group, int32_t row, int32_t rows,
                     float *columns);
/* Adds columns to where openblas_gather took them from. */
void openblas_scatter_add(const struct mqb_conv_plan *plan, const float *columns, int32_t group, int32_t row, int32_t rows,
                          float *dx);

/* Rows of `width` floats, each the bias (NULL: zeros). */
void openblas_fill(float *y, size_t rows, int32_t width, const float *bias);

#endif
