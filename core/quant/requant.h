/*
 * requant.h - the pieces of requantization that the lowering and the executor share. Room-internal; the definition for one
 * accumulator is mqb_requantize in quant.h.
 */
#ifndef MQB_REQUANT_H
#define MQB_REQUANT_H

#include "quant/quant.h"

/* v to an integral value; exact for every finite v. rounding: enum mqb_rounding. */
double mqb_requant_round(double v, int rounding);
/* a / d rounded, d > 0. */
int64_t mqb_requant_divide(int64_t a, int64_t d, int rounding);
/* Nearest IEEE half (ties to even), saturated to +-65504. */
float mqb_requant_half(float v);

/* gemmlowp's primitives: saturating rounding doubling high multiply; rounding divide by 2^exponent (0..31), ties away. */
int32_t mqb_requant_srdhm(int32_t a, int32_t b);
int32_t mqb_requant_rdpot(int32_t x, int32_t exponent);
/* multiplier = q31 * 2^(shift - 31), q31 in [2^30, 2^31); both 0 below 2^-32. */
void mqb_requant_q31(double multiplier, int32_t *q31, int32_t *shift);

/* As mqb_requantizer_init for a mean over `count` elements: M = s_x s_w / (s_y count). In the F32 fold s_y * count is one
 * float product; under POT the count stays an exact divisor. */
mqb_status mqb_requantizer_init_count(struct mqb_requantizer *r, const struct mqb_contract *contract, float s_x, float s_w,
                                      float s_y, int32_t count, int32_t zero_point, int32_t low, int32_t high,
                                      struct mqb_error *error);

/* Whether a real number's code has its zero point added before rounding: a target whose layers hand over floats quantizes its
 * input as it quantizes between layers. */
bool mqb_requant_zero_before(const struct mqb_contract *contract);
/* A real number to its code by the contract's input rule; NaN becomes `low`. */
int32_t mqb_quantize_value(const struct mqb_contract *contract, float x, float scale, int32_t zero_point, int32_t low,
                           int32_t high);

#endif
