/*
 * iexec_pairs.c - sums of a CPU without dot-product instructions: vpmaddubsw multiplies unsigned activations by signed weights
 * and adds each two neighbours into 16 bits, saturating, before anything is widened (Intel SDM, PMADDUBSW).
 *
 * Neighbours are consecutive in the window of a group, channels fastest, then columns, then rows; the last of an odd number
 * stands alone. Bytes are the stored ones; padding reads the zero point's.
 */
#include "quant/program.h"

static int32_t saturate(int32_t v)
{
    return v < INT16_MIN ? INT16_MIN : v > INT16_MAX ? INT16_MAX : v;
}

/* patch[r][s][c] of group g; returns the sum of its bytes. */
static uint32_t gather_bytes(const struct mqb_iconv *conv, const uint8_t *x, int32_t p, int32_t q, int32_t g, uint8_t *patch)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    int32_t group_c = shape->c / shape->groups;
    uint32_t sum = 0;
    for (int32_t r = 0; r < shape->r; r++)
        for (int32_t s = 0; s < shape->s; s++) {
            int32_t h = p * shape->stride_h - shape->pad_top + r * shape->dilation_h;
            int32_t w = q * shape->stride_w - shape->pad_left + s * shape->dilation_w;
            bool inside = h >= 0 && h < shape->h && w >= 0 && w < shape->w;
            const uint8_t *pixel = inside ? x + ((int64_t)h * shape->w + w) * shape->c + (int64_t)g * group_c : NULL;
            for (int32_t c = 0; c < group_c; c++, patch++) {
                *patch = pixel ? pixel[c] : (uint8_t)conv->zero_stored;
                sum += *patch;
            }
        }
    return sum;
}

static int32_t dot_pairs(int64_t size, const uint8_t *x, const int8_t *w)
{
    int32_t sum = 0;
    int64_t i = 0;
    for (; i + 2 <= size; i += 2)
        sum += saturate((int32_t)x[i] * w[i] + (int32_t)x[i + 1] * w[i + 1]);
    return i < size ? sum + (int32_t)x[i] * w[i] : sum;
}

void mqb_pairs_pixel(const struct mqb_iconv *conv, const uint8_t *x, int32_t p, int32_t q, uint8_t *patch,
                     int32_t *accumulators)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    int32_t group_k = shape->k / shape->groups;
    int64_t window = (int64_t)shape->c / shape->groups * shape->r * shape->s;
    for (int32_t g = 0; g < shape->groups; g++) {
        uint32_t bytes = gather_bytes(conv, x, p, q, g, patch);
        for (int32_t k = g * group_k; k < (g + 1) * group_k; k++) {
            uint32_t raw = (uint32_t)dot_pairs(window, patch, conv->pairs + k * window);
            uint32_t zero = conv->window_weight ? conv->window_weight[k] * bytes : 0;
            accumulators[k] = (int32_t)(raw + conv->constant[k] + zero);
        }
    }
}
