/*
 * pack.c - weights from ONNX order to the order in which the kernels read them.
 *
 * Packed: [class][group][block of one or two vectors of output channels][tap][run][block]. A block that is not full is
 * filled up with zeros. Depthwise: [class][tap][channels, rounded up to a vector].
 */
#include "native.h"

#include <string.h>

/* The weight that joins output channel `out` and input channel `in` of a group at tap `tap`. */
static inline size_t weight_index(const struct native_pass *pass, const struct mqb_conv_shape *s, int32_t group, int32_t out,
                                  int32_t in, int32_t tap, int32_t transposed)
{
    size_t taps = (size_t)s->r * (size_t)s->s;
    size_t k = (size_t)(transposed ? in : out) + (size_t)group * (size_t)(transposed ? pass->group_in : pass->group_out);
    size_t c = (size_t)(transposed ? out : in);

    return (k * (size_t)(s->c / s->groups) + c) * taps + (size_t)tap;
}

void native_pack(const struct native_isa *isa, const struct native_pass *pass, const struct mqb_conv_shape *shape,
                 const float *weight, int32_t transposed, void *packed)
{
    size_t taps = (size_t)shape->r * (size_t)shape->s;
    int32_t channels = shape->c / shape->groups;

    for (int32_t i = 0; i < pass->num_classes; i++) {
        const struct native_class *class = &pass->classes[i];
        float *target = (float *)packed + class->weight_offset / sizeof(float);

        if (pass->depthwise) {
            size_t width = native_round_up((size_t)pass->out_c, (size_t)isa->lanes);

            for (int32_t t = 0; t < class->num_taps; t++) {
                for (size_t c = 0; c < width; c++) {
                    *target++ = c < (size_t)pass->out_c ? weight[c * taps + (size_t)class->tap_index[t]] : 0.0f;
                }
            }
            continue;
        }
        for (int32_t g = 0; g < pass->groups; g++) {
            for (int32_t k0 = 0; k0 < pass->group_out;) {
                int32_t left = pass->group_out - k0;
                int32_t block = left <= isa->lanes ? isa->lanes : 2 * isa->lanes;
                int32_t used = native_min(left, block);

                for (int32_t t = 0; t < class->num_taps; t++) {
                    for (int32_t j = 0; j < pass->run; j++) {
                        int32_t in = pass->fused ? j % channels : j;
                        int32_t tap = class->tap_index[t] + (pass->fused ? j / channels : 0);
                        const float *source = weight + weight_index(pass, shape, g, k0, in, tap, transposed);
                        size_t step = transposed ? taps : taps * (size_t)channels;

                        for (int32_t lane = 0; lane < used; lane++) {
                            target[lane] = source[(size_t)lane * step];
                        }
                        for (int32_t lane = used; lane < block; lane++) {
                            target[lane] = 0.0f;
                        }
                        target += block;
                    }
                }
                k0 += block;
            }
        }
    }
}

void native_pack_integer(const struct native_isa *isa, const struct native_pass *pass, const struct mqb_conv_shape *shape,
                         const int8_t *weight, void *packed)
{
    const struct native_class *class = pass->classes;
    size_t taps = (size_t)shape->r * (size_t)shape->s;
    int32_t channels = shape->c / shape->groups;

    if (pass->depthwise) { /* one 16-bit weight a lane of 32 bits */
        size_t width = native_round_up((size_t)pass->out_c, (size_t)isa->lanes);
        int32_t *target = packed;

        for (int32_t t = 0; t < class->num_taps; t++) {
            for (size_t c = 0; c < width; c++) {
                *target++ = c < (size_t)pass->out_c ? weight[c * taps + (size_t)t] : 0;
            }
        }
        return;
    }
    int32_t values = pass->fused ? shape->s * channels : channels;
    uint8_t *target = packed;
    for (int32_t g = 0; g < pass->groups; g++) {
        for (int32_t k0 = 0; k0 < pass->group_out;) {
            int32_t left = pass->group_out - k0;
            int32_t vectors = left <= isa->lanes ? 1 : 2;

            for (int32_t t = 0; t < class->num_taps; t++) {
                for (int32_t u = 0; u < pass->run; u++) {
                    for (int32_t v = 0; v < vectors; v++) {
                        int8_t quads[16][4];

                        memset(quads, 0, sizeof(quads));
                        for (int32_t lane = 0; lane < isa->lanes && v * isa->lanes + lane < left; lane++) {
                            for (int32_t j = 0; j < 4 && u * 4 + j < values; j++) {
                                int32_t in = pass->fused ? (u * 4 + j) % channels : u * 4 + j;
                                int32_t tap = class->tap_index[t] + (pass->fused ? (u * 4 + j) / channels : 0);

                                quads[lane][j] = weight[weight_index(pass, shape, g, k0 + v * isa->lanes + lane, in, tap, 0)];
                            }
                        }
                        isa->quad_pack((const int8_t(*)[4])quads, target);
                        target += (size_t)isa->lanes * (size_t)isa->quad_size;
                    }
                }
            }
            k0 += vectors * isa->lanes;
        }
    }
}
