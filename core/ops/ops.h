/*
 * ops.h - the operators' descriptors, and what their files share: checks of shapes, sizes of images, loops over parameters.
 */
#ifndef MQB_OPS_H
#define MQB_OPS_H

#include "graph/op.h"

#include <stddef.h>

extern const struct mqb_op mqb_op_add, mqb_op_average_pool, mqb_op_batch_normalization, mqb_op_batch_scale, mqb_op_batch_statistics,
    mqb_op_channel_shuffle, mqb_op_clip, mqb_op_concat, mqb_op_conv, mqb_op_fake_quantize, mqb_op_flatten, mqb_op_float_conv,
    mqb_op_float_gemm, mqb_op_folded_bias, mqb_op_gemm,
    mqb_op_global_average_pool, mqb_op_hard_sigmoid, mqb_op_hard_swish, mqb_op_leaky_relu, mqb_op_max_pool, mqb_op_mul, mqb_op_pad, mqb_op_relu,
    mqb_op_scale_channels, mqb_op_sigmoid, mqb_op_slice, mqb_op_statistic_row;

/* Before a loop over elements whose source and target are the same array or disjoint, never shifted: it may be vectorized
 * without a test for overlap. */
#if defined(__clang__)
#define MQB_ELEMENTWISE _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define MQB_ELEMENTWISE _Pragma("GCC ivdep")
#else
#define MQB_ELEMENTWISE
#endif

/* ---- infer.c: checks; the caller of an operator puts the node's name before its sentences ---- */

/* NULL if the node has no such input. */
const struct mqb_value *mqb_node_input(const struct mqb_graph *graph, const struct mqb_node *node, int32_t index);
/* Input `index` is a batched value of rank 2 or 4 (of rank 4 if `images`). */
mqb_status mqb_infer_batched(const struct mqb_graph *graph, const struct mqb_node *node, int32_t index, bool images,
                             const struct mqb_value **value, struct mqb_error *error);
/* Input `index` is there and computed from parameters alone. */
mqb_status mqb_infer_fixed(const struct mqb_graph *graph, const struct mqb_node *node, int32_t index, const char *what,
                           const struct mqb_value **value, struct mqb_error *error);
/* Input `index`, if present or not optional, is an unbatched vector of `length` numbers. */
mqb_status mqb_infer_vector(const struct mqb_graph *graph, const struct mqb_node *node, int32_t index, const char *what,
                            int64_t length, bool optional, struct mqb_error *error);
bool mqb_value_same_shape(const struct mqb_value *a, const struct mqb_value *b);
/* Sets the output and checks that its size is sane: every dim >= 1, at most 2^31 - 1 elements (of an image if batched). */
mqb_status mqb_infer_output(struct mqb_value *output, int32_t rank, const int64_t *dims, bool batched, struct mqb_error *error);
/* The whole infer function of an operator that keeps the shape of its only batched input, 0. */
mqb_status mqb_infer_same(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                          struct mqb_error *error);
/* "[N, 16, 8, 8]" into text. */
#define MQB_SHAPE_TEXT 160
const char *mqb_shape_text(const struct mqb_value *value, char text[MQB_SHAPE_TEXT]);

/* ---- extent.c ---- */

/* One image in memory: h x w pixels of c channels. Rank 2: 1 x 1 x features. */
struct mqb_extent {
    int64_t h, w, c;
    int64_t pixels; /* h * w */
    int64_t size;   /* h * w * c */
};
struct mqb_extent mqb_value_extent(const struct mqb_value *value);
struct mqb_extent mqb_input_extent(const struct mqb_op_context *context, int32_t index);
struct mqb_extent mqb_output_extent(const struct mqb_op_context *context);
/* dst = src or dst += src */
void mqb_copy_or_add(float *dst, const float *src, int64_t size, bool add);

/* ---- row_sums.c: sum[c] += x[r][c], product[c] += x[r][c] y[r][c], rows in order ---- */

void mqb_sum_rows_product(int64_t rows, int64_t channels, const float *x, const float *y, double *sum, double *product);
void mqb_sum_rows_square(int64_t rows, int64_t channels, const float *x, double *sum, double *square); /* y = x */
void mqb_sum_rows(int64_t rows, int64_t channels, const float *x, double *sum);

/* ---- moments.c: mean and variance of the channels of input 0 over the batch ---- */

/* Checks the attributes: momentum, channel_correction. */
mqb_status mqb_moments_infer(const struct mqb_node *node, int64_t channels, struct mqb_error *error);
/* In training: inputs running_mean and the one after it, the running variance, are states, which can be updated. */
mqb_status mqb_moments_check(const struct mqb_op_context *context, int32_t running_mean, struct mqb_error *error);
/* sums: [2][channels], of x and of x x. */
void mqb_moments_reduce(const struct mqb_op_context *context, const struct mqb_op_grain *grain, double *sums);
double mqb_moments_count(const struct mqb_op_context *context); /* elements a channel */
/* From the sums of the batch; refuses a single element and sums that are not finite. var: biased, at least 0. */
mqb_status mqb_moments(const struct mqb_op_context *context, const double *sums, double *mean, double *var,
                       struct mqb_error *error);
/* Moves the running statistics of a channel by the node's momentum, with the unbiased variance: M / (M - 1) for M elements a
 * channel, or with channel_correction M = channels, as the published code of MQBench has it. */
void mqb_moments_follow(const struct mqb_op_context *context, int32_t running_mean, int64_t channel, double mean, double var);

/* ---- window.c: the geometry that convolutions and poolings share ---- */

struct mqb_window {
    int64_t r, s; /* kernel */
    int64_t stride_h, stride_w;
    int64_t pad_top, pad_left, pad_bottom, pad_right;
    int64_t dilation_h, dilation_w;
};
/* Reads strides, pads and dilations (r and s are set by the caller) and checks them. */
mqb_status mqb_window_read(const struct mqb_node *node, int64_t r, int64_t s, struct mqb_window *window,
                           struct mqb_error *error);
/* Output size; 0 if the kernel does not fit. ceil: the last window may reach beyond the padding but starts before it. */
void mqb_window_output(const struct mqb_window *window, int64_t h, int64_t w, bool ceil, int64_t *p, int64_t *q);

/* The part [*begin, *end) of [0, size) that window `index` along one axis covers; not empty. */
static inline void mqb_window_span(int64_t index, int64_t stride, int64_t pad, int64_t kernel, int64_t size, int64_t *begin,
                                   int64_t *end)
{
    int64_t first = index * stride - pad, last = first + kernel;
    *begin = first < 0 ? 0 : first;
    *end = last > size ? size : last;
}

/* ---- pooling.c: what MaxPool and AveragePool share; their state is a struct mqb_window ---- */

mqb_status mqb_pooling_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                             struct mqb_error *error);
mqb_status mqb_pooling_create(struct mqb_op_context *context, size_t *scratch_size, struct mqb_error *error);
void mqb_pooling_destroy(struct mqb_op_context *context);

/* ---- convolve.c: Conv and Gemm, both a plan of the compute provider ---- */

struct mqb_conv_shape;
mqb_status mqb_convolve_create(struct mqb_op_context *context, const struct mqb_conv_shape *shape, size_t *scratch_size,
                               struct mqb_error *error);
void mqb_convolve_destroy(struct mqb_op_context *context);
mqb_status mqb_convolve_prepare(struct mqb_op_context *context, struct mqb_error *error);
void mqb_convolve_forward(const struct mqb_op_context *context, const struct mqb_op_grain *grain);
bool mqb_convolve_has_rows(const struct mqb_op_context *context);
void mqb_convolve_rows(const struct mqb_op_context *context, const struct mqb_op_rows *rows);
void mqb_convolve_backward(const struct mqb_op_context *context, const struct mqb_op_grain *grain);

/* ---- codes.c: floats on an affine grid, and their codes as bytes ---- */

struct mqb_point;
/* The point that makes a value, if its quantizer makes codes; else NULL. */
const struct mqb_point *mqb_codes_point(const struct mqb_graph *graph, mqb_value_id value);
/* The grid on which an activation's point rounds in the step at hand, its codes counted from 0; data stays NULL. False: it is
 * off, or makes no codes that fit a byte. */
bool mqb_codes_grid(const struct mqb_point *point, struct mqb_codes *grid);
/* code = x / scale + zero. False if a code does not give its x back: no codes of this grid. A zero counts whatever its sign. */
bool mqb_codes_from_floats(int64_t size, const struct mqb_codes *grid, const float *x, uint8_t *codes);
/* The same where the floats are to be made of the codes again: every bit counts. */
bool mqb_codes_replace_floats(int64_t size, const struct mqb_codes *grid, const float *x, uint8_t *codes);
/* Elements [first, first + size). */
void mqb_floats_from_codes(const struct mqb_codes *codes, int64_t first, int64_t size, float *x);
/* The inverse exists, and multiples of it are normal numbers or 0. */
bool mqb_codes_scale_usable(float scale);
/* A weight's multiples of its scale. */
bool mqb_multiples_from_floats(int64_t size, float scale, const float *x, int8_t *multiples);

/* ---- convolve_integer.c: a forward convolution whose operands are both on affine grids, as exact integer sums ---- */

struct mqb_convolve_integer;
struct mqb_conv_plan;
/* NULL without an error if the operands' points or the provider do not offer it. */
mqb_status mqb_convolve_integer_create(const struct mqb_op_context *context, const struct mqb_conv_shape *shape,
                                       const struct mqb_conv_plan *plan, struct mqb_convolve_integer **integer,
                                       size_t *scratch_size, struct mqb_error *error);
void mqb_convolve_integer_destroy(struct mqb_convolve_integer *integer);
/* Before each forward, behind the prepare of the operands' points. False: this step's operands are no integers. */
bool mqb_convolve_integer_prepare(const struct mqb_op_context *context, struct mqb_convolve_integer *integer);
/* False: the operands are not codes in this step or grain, and the result is still to be computed. */
bool mqb_convolve_integer_forward(const struct mqb_op_context *context, const struct mqb_convolve_integer *integer,
                                  const struct mqb_op_grain *grain);

/* ---- fixed.c: loops over whole parameters ---- */

/* Runs the pieces on the pool, or in order on this thread if pool is NULL. */
void mqb_fixed_run(struct mqb_pool *pool, int64_t num_pieces, void (*task)(void *context, int index, int worker),
                   void *context);
/* How many pieces of about 16384 elements `count` items of `item_size` elements make; *per_piece items each, the last fewer.
 * Does not depend on the number of threads. */
int64_t mqb_fixed_pieces(int64_t count, int64_t item_size, int64_t *per_piece);

#endif
