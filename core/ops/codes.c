/*
 * codes.c - floats that lie on an affine grid, x = scale (code - zero), and their codes as bytes. A code counts only if it
 * gives its float back exactly; so what is not finite, or not of this grid, has none.
 */
#include "ops/ops.h"
#include "ops/point.h"

#include <mqbench/numeric.h>
#include <mqbench/plugin.h>

#include <float.h>
#include <string.h>

const struct mqb_point *mqb_codes_point(const struct mqb_graph *graph, mqb_value_id value)
{
    mqb_node_id producer = value == MQB_NONE ? MQB_NONE : graph->values[value].producer;
    if (producer == MQB_NONE || graph->nodes[producer].op != &mqb_op_fake_quantize)
        return NULL;
    const struct mqb_point *point = graph->nodes[producer].point;
    return point && (point->quantizer->flags & MQB_QUANTIZER_AFFINE) ? point : NULL;
}

bool mqb_codes_scale_usable(float scale)
{
    return scale >= FLT_MIN && scale <= 1.0f / FLT_MIN;
}

bool mqb_codes_grid(const struct mqb_point *point, struct mqb_codes *grid)
{
    if (point->grid.num_channels != 1)
        return false;
    int32_t zero = point->grid.zero_point[0] - point->grid.lowest, top = point->grid.highest - point->grid.lowest;
    *grid = (struct mqb_codes){.scale = point->grid.scale[0], .zero = zero, .top = top};
    return mqb_codes_scale_usable(grid->scale) && top >= 0 && top <= 255 && zero >= 0 && zero <= top;
}

MQB_MULTIVERSION static int32_t codes_from_floats(int64_t size, float scale, float zero, float top, const float *restrict x,
                                                  uint8_t *restrict codes)
{
    const float inverse = 1.0f / scale;
    int32_t bad = 0;
    for (int64_t i = 0; i < size; i++) {
        float multiple = mqb_rne_small(x[i] * inverse), code = multiple + zero;
        int32_t fits = (code >= 0.0f) & (code <= top);
        bad |= !fits | (multiple * scale != x[i]);
        codes[i] = (uint8_t)(int32_t)(fits ? code : 0.0f);
    }
    return bad;
}

bool mqb_codes_from_floats(int64_t size, const struct mqb_codes *grid, const float *x, uint8_t *codes)
{
    return !codes_from_floats(size, grid->scale, (float)grid->zero, (float)grid->top, x, codes);
}

MQB_MULTIVERSION static int32_t codes_replace_floats(int64_t size, float scale, float zero, float top, const float *restrict x,
                                                     uint8_t *restrict codes)
{
    const float inverse = 1.0f / scale;
    int32_t bad = 0;
    for (int64_t i = 0; i < size; i++) {
        float multiple = mqb_rne_small(x[i] * inverse), code = multiple + zero, back = multiple * scale;
        int32_t bits, back_bits, fits = (code >= 0.0f) & (code <= top);
        memcpy(&bits, &x[i], sizeof(bits));
        memcpy(&back_bits, &back, sizeof(back_bits));
        bad |= !fits | (bits != back_bits);
        codes[i] = (uint8_t)(int32_t)(fits ? code : 0.0f);
    }
    return bad;
}

bool mqb_codes_replace_floats(int64_t size, const struct mqb_codes *grid, const float *x, uint8_t *codes)
{
    return !codes_replace_floats(size, grid->scale, (float)grid->zero, (float)grid->top, x, codes);
}

MQB_MULTIVERSION static void floats_from_codes(int64_t size, float scale, int32_t zero, const uint8_t *restrict codes,
                                               float *restrict x)
{
    for (int64_t i = 0; i < size; i++)
        x[i] = (float)((int32_t)codes[i] - zero) * scale;
}

void mqb_floats_from_codes(const struct mqb_codes *codes, int64_t first, int64_t size, float *x)
{
    floats_from_codes(size, codes->scale, codes->zero, codes->data + first, x);
}

MQB_MULTIVERSION static int32_t multiples_from_floats(int64_t size, float scale, const float *restrict x,
                                                      int8_t *restrict multiples)
{
    const float inverse = 1.0f / scale;
    int32_t bad = 0;
    for (int64_t i = 0; i < size; i++) {
        float multiple = mqb_rne_small(x[i] * inverse);
        int32_t fits = (multiple >= -128.0f) & (multiple <= 127.0f);
        bad |= !fits | (multiple * scale != x[i]);
        multiples[i] = (int8_t)(int32_t)(fits ? multiple : 0.0f);
    }
    return bad;
}

bool mqb_multiples_from_floats(int64_t size, float scale, const float *x, int8_t *multiples)
{
    return !multiples_from_floats(size, scale, x, multiples);
}
