/*
 * onnx_codes.h - what the two forms of a quantized ONNX file share: scales and codes as initializers, the nodes between reals
 * and codes, and which activations the range of the codes does by itself. Room-internal.
 */
#ifndef MQB_ONNX_CODES_H
#define MQB_ONNX_CODES_H

#include "graph/onnx_message.h"

/* Names in the file, by value; NULL where there is no such tensor (yet). */
struct mqb_codes_names {
    const char *codes, *scale, *zero_point, *reals;
};

struct mqb_codes_writer {
    struct mqb_message m;
    const struct mqb_onnx_codes **of; /* by value; NULL: it has no codes */
    struct mqb_codes_names *names;
    int32_t *readers;    /* by value: how many nodes read it */
    mqb_node_id *reader; /* by value: one of them */
    uint32_t flags;      /* enum mqb_quantized_onnx */
};

bool mqb_codes_is_activation(const struct mqb_node *node); /* Relu or Clip */
/* True if `value` is an activation's tensor that has codes. */
bool mqb_codes_stored(const struct mqb_codes_writer *w, mqb_value_id value);
/* The tensor with codes in which `value`, perhaps through activations that nothing else reads, ends; MQB_NONE: in none.
 * *redundant: every activation on the way keeps all reals that the byte can say. */
mqb_value_id mqb_codes_target(const struct mqb_codes_writer *w, mqb_value_id value, bool *redundant);
/* The node changes no code: its output has its input's parameters. */
bool mqb_codes_carries(const struct mqb_codes_writer *w, const struct mqb_node *node);

/* Name of the tensor where the codes of `value` have to be written: through mqb_codes_clamp if `clamped`. */
const char *mqb_codes_unclamped_name(struct mqb_codes_writer *w, mqb_value_id value, bool clamped);
/* The codes cannot take every value of the byte. */
bool mqb_codes_narrow(const struct mqb_codes_writer *w, mqb_value_id value);
/* Clip of codes, from `from` to the codes of `value`. */
void mqb_codes_clamp(struct mqb_codes_writer *w, mqb_value_id value, const char *from);
/* QuantizeLinear of `reals` into the codes of `value`, and the clamp where they are narrow and `clamped`. */
void mqb_codes_quantize(struct mqb_codes_writer *w, mqb_value_id value, const char *reals, bool clamped);
/* DequantizeLinear of `codes` (NULL: those of `value`) into `reals`. */
void mqb_codes_dequantize(struct mqb_codes_writer *w, mqb_value_id value, const char *codes, const char *reals);
/* The code of 0, or another scalar, as an initializer of the type of `value`. */
const char *mqb_codes_scalar(struct mqb_codes_writer *w, mqb_value_id value, const char *tail, int32_t code);

mqb_status mqb_codes_write_qdq(struct mqb_codes_writer *w);     /* onnx_qdq.c */
mqb_status mqb_codes_write_qlinear(struct mqb_codes_writer *w); /* onnx_qlinear.c */

#endif
