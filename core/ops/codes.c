/*
 * codes.c - floats that lie on an affine grid, x = scale (code - zero), and their codes as bytes. A code counts only if it
 * gives its float back exactly; so what is not finite, or not of this grid, has none.
 */
#include "ops/ops.h"

#include <mqbench/numeric.h>
#include <mqbench/plugin.h>

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

bool mqb_codes_from_floats(int64_t size, float scale, int32_t zero, int32_t top, const float *x, uint8_t *codes)
{
    return !codes_from_floats(size, scale, (float)zero, (float)top, x, codes);
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
