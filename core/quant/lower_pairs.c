/*
 * lower_pairs.c - which layers feel that pairs of products saturate to 16 bits, and their weights in the order of
 * iexec_pairs.c.
 *
 * Where no pair can leave 16 bits (weights of 7 bits or less, or activations below 128) the sums are exact, and the layer keeps
 * the ordinary kernels.
 */
#include "quant/program.h"

#include <inttypes.h>
#include <stdlib.h>

static int64_t window_size(const struct mqb_iconv *conv)
{
    return (int64_t)conv->shape.c / conv->shape.groups * conv->shape.r * conv->shape.s;
}

/* [k][c][r][s] to [k][r][s][c] */
static void reorder(const struct mqb_iconv *conv, const int8_t *w8, int8_t *pairs)
{
    int32_t group_c = conv->shape.c / conv->shape.groups, taps = conv->shape.r * conv->shape.s;
    for (int64_t k = 0; k < conv->shape.k; k++)
        for (int32_t c = 0; c < group_c; c++)
            for (int32_t t = 0; t < taps; t++)
                pairs[(k * taps + t) * group_c + c] = w8[(k * group_c + c) * taps + t];
}

static int32_t extreme(int32_t low, int32_t high, int32_t w, bool most)
{
    int32_t a = low * w, b = high * w;
    return (a > b) == most ? a : b;
}

static bool can_saturate(const struct mqb_iconv *conv, const struct mqb_itensor *x, const int8_t *pairs)
{
    int64_t window = window_size(conv);
    int32_t low = x->info.qmin + x->offset, high = x->info.qmax + x->offset;
    for (int64_t k = 0; k < conv->shape.k; k++)
        for (int64_t i = 0; i + 2 <= window; i += 2) {
            int32_t a = pairs[k * window + i], b = pairs[k * window + i + 1];
            if (extreme(low, high, a, true) + extreme(low, high, b, true) > INT16_MAX ||
                extreme(low, high, a, false) + extreme(low, high, b, false) < INT16_MIN)
                return true;
        }
    return false;
}

/* What saturates is no longer the exact sum, so the proof for exact sums does not cover it. */
static mqb_status check_sums(const struct mqb_node *node, const struct mqb_iconv *conv, struct mqb_error *error)
{
    int64_t window = window_size(conv);
    for (int32_t k = 0; k < conv->shape.k; k++) {
        int64_t constant = (int32_t)conv->constant[k], weight = conv->window_weight ? (int32_t)conv->window_weight[k] : 0;
        int64_t most = (window + 1) / 2 * 32768 + llabs(constant) + llabs(weight) * 255 * window;
        if (most > INT32_MAX)
            return mqb_lower_refuse(node, error,
                                    "its 32 bit sum of pairs can overflow in channel %d: %" PRId64
                                    " products, in pairs of 16 bits, and "
                                    "their corrections reach %" PRId64 "; use fewer bits for its weights or its input",
                                    (int)k, window, most);
    }
    return MQB_OK;
}

mqb_status mqb_lower_pairs(const struct mqb_node *node, const struct mqb_itensor *x, struct mqb_iconv *conv,
                           struct mqb_error *error)
{
    size_t channels = (size_t)conv->shape.k, size = channels * (size_t)window_size(conv);
    int8_t *w8 = mqb_allocate(size), *pairs = mqb_allocate(size);
    uint32_t *constant = mqb_allocate_array(channels, sizeof(*constant));
    uint32_t *window_weight = mqb_allocate_array(channels, sizeof(*window_weight));
    mqb_status status = MQB_OK;
    if (!w8 || !pairs || !constant || !window_weight) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the weights of layer '%s'", node->name);
        goto out;
    }
    bool window = mqb_lower_raw(conv, w8, constant, window_weight);
    reorder(conv, w8, pairs);
    if (!can_saturate(conv, x, pairs))
        goto out;
    conv->constant = constant;
    conv->window_weight = window ? window_weight : NULL;
    status = check_sums(node, conv, error);
    conv->pairs = pairs;
    pairs = NULL;
    constant = NULL;
    window_weight = window ? NULL : window_weight;
out:
    mqb_deallocate(w8);
    mqb_deallocate(pairs);
    mqb_deallocate(constant);
    mqb_deallocate(window_weight);
    return status;
}
