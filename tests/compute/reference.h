/*
 * reference.h - what a convolution is, written down as loops in double precision.
 */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <mqbench/compute.h>

size_t input_count(const struct mqb_conv_shape *s, int32_t n);
size_t output_count(const struct mqb_conv_shape *s, int32_t n);
size_t weight_count(const struct mqb_conv_shape *s);

/* Each writes the result and the sum of the magnitudes of its terms, the measure of a rounding error. */
void reference_forward(const struct mqb_conv_shape *s, int32_t n, const float *x, const float *weight, const float *bias,
                       double *y, double *magnitude);
void reference_backward_data(const struct mqb_conv_shape *s, int32_t n, const float *dy, const float *weight, double *dx,
                             double *magnitude);
void reference_backward_weights(const struct mqb_conv_shape *s, int32_t n, const float *x, const float *dy, double *dw,
                                double *magnitude);
void reference_integer(const struct mqb_conv_shape *s, int32_t n, const uint8_t *x, uint8_t pad_value, const int8_t *weight,
                       int32_t *acc);

#endif
