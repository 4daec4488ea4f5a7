/*
 * packing.h - weights as hardware stores them: codes of 4 bits or fewer two a byte, others one a byte.
 *
 * weights.bin, little-endian: for each weight in the order of deploy->frozen its scales (float32) and then its zero points
 * (int32); behind all of these, in the same order, the codes of each weight in ONNX order. Each weight's codes begin at a byte.
 * Two codes share a byte, the earlier one in its low half; an odd count leaves the last high half 0. Signed codes are in two's
 * complement.
 */
#ifndef MQB_PACKING_H
#define MQB_PACKING_H

#include "quant/quant.h"

/* "int4", "uint4", "int8" or "uint8": the narrowest that holds the range of the codes; NULL: none does. */
const char *mqb_packing_name(const struct mqb_frozen *frozen);
/* Bytes of the codes of one weight, and of its scales and zero points. */
int64_t mqb_packing_code_bytes(const struct mqb_frozen *frozen);
int64_t mqb_packing_parameter_bytes(const struct mqb_frozen *frozen);

/* Where one weight lies. */
struct mqb_packed_place {
    int64_t scale, zero_point, codes; /* offsets in bytes */
};
/* All weights of a deployment (data freed by mqb_deallocate; NULL if there are none). places[num_frozen], the caller's: those
 * of activations are left as they are. */
mqb_status mqb_packing_write(const struct mqb_deploy *deploy, uint8_t **data, int64_t *size, struct mqb_packed_place *places,
                             struct mqb_error *error);

#endif
