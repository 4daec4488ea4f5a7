/*
 * iexec_pair.c - functions of two codes. The lowering makes a table of all 65536 results by the contract's scalar definition.
 * For additions there is also a formula that vectorizes; it is used only where it gives the table's result at every entry.
 */
#include "quant/program.h"
#include "quant/rows.h"

#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

/* Dequantized, added, quantized in float. */
INLINE void block_f32(const struct mqb_pair *s, const uint8_t *a, const uint8_t *b, uint8_t *out, const int32_t count,
                      const int rounding, const bool divide)
{
    const float sa = s->fa, sb = s->fb, last = s->last, before = (float)s->before;
    const float low = (float)s->low, high = (float)s->high;
    int32_t whole[BLOCK], xa[BLOCK], xb[BLOCK];
    load(a, xa, count);
    load(b, xb, count);
    for (int32_t j = 0; j < count; j++) {
        float v = sa * (float)(xa[j] - s->zero_a) + sb * (float)(xb[j] - s->zero_b);
        v = divide ? v / last : v * last;
        v = v + before;
        v = v > low ? v : low;
        v = v < high ? v : high;
        whole[j] = (int32_t)round_f32(v, rounding) + s->after;
    }
    store(whole, out, count);
}

/* Both scaled in double, added, one rounding. */
INLINE void block_f64(const struct mqb_pair *s, const uint8_t *a, const uint8_t *b, uint8_t *out, const int32_t count,
                      const int rounding)
{
    const double low = s->low, high = s->high, before = s->before;
    int32_t whole[BLOCK], xa[BLOCK], xb[BLOCK];
    load(a, xa, count);
    load(b, xb, count);
    for (int32_t j = 0; j < count; j++) {
        double v = (double)(xa[j] - s->zero_a) * s->da + (double)(xb[j] - s->zero_b) * s->db;
        v = v + before;
        v = v > low ? v : low;
        v = v < high ? v : high;
        whole[j] = (int32_t)round_f64(v, rounding) + s->after;
    }
    store(whole, out, count);
}

/* Two fused multiply-adds, each as an exact product and two roundings: nearly always the same, which the table decides. */
INLINE void block_fma(const struct mqb_pair *s, const uint8_t *a, const uint8_t *b, uint8_t *out, const int32_t count)
{
    const float low = (float)s->low, high = (float)s->high;
    int32_t whole[BLOCK], xa[BLOCK], xb[BLOCK];
    load(a, xa, count);
    load(b, xb, count);
    for (int32_t j = 0; j < count; j++) {
        const float inner = (float)((double)(xb[j] - s->zero_b) * (double)s->fb + (double)s->last);
        float v = (float)((double)(xa[j] - s->zero_a) * (double)s->fa + (double)inner);
        v = v > low ? v : low;
        v = v < high ? v : high;
        whole[j] = (int32_t)round_f32(v, MQB_ROUND_RNE) + s->after;
    }
    store(whole, out, count);
}

#define PAIR_ROWS(name, CALL)                                                                                                  \
    MQB_MULTIVERSION static void name(const struct mqb_pair *rule, int64_t size, const uint8_t *x, const uint8_t *y,           \
                                      uint8_t *codes)                                                                          \
    {                                                                                                                          \
        const struct mqb_pair local = *rule, *const s = &local;                                                                \
        int64_t i = 0;                                                                                                         \
        for (; i + BLOCK <= size; i += BLOCK) {                                                                                \
            const uint8_t *a = x + i, *b = y + i;                                                                              \
            uint8_t *out = codes + i;                                                                                          \
            const int32_t count = BLOCK;                                                                                       \
            CALL;                                                                                                              \
        }                                                                                                                      \
        const uint8_t *a = x + i, *b = y + i;                                                                                  \
        uint8_t *out = codes + i;                                                                                              \
        const int32_t count = (int32_t)(size - i);                                                                             \
        CALL;                                                                                                                  \
    }

PAIR_ROWS(divide_rne, block_f32(s, a, b, out, count, MQB_ROUND_RNE, true))
PAIR_ROWS(divide_rha, block_f32(s, a, b, out, count, MQB_ROUND_RHA, true))
PAIR_ROWS(divide_rhu, block_f32(s, a, b, out, count, MQB_ROUND_RHU, true))
PAIR_ROWS(multiply_rne, block_f32(s, a, b, out, count, MQB_ROUND_RNE, false))
PAIR_ROWS(multiply_rha, block_f32(s, a, b, out, count, MQB_ROUND_RHA, false))
PAIR_ROWS(multiply_rhu, block_f32(s, a, b, out, count, MQB_ROUND_RHU, false))
PAIR_ROWS(double_rne, block_f64(s, a, b, out, count, MQB_ROUND_RNE))
PAIR_ROWS(double_rha, block_f64(s, a, b, out, count, MQB_ROUND_RHA))
PAIR_ROWS(double_rhu, block_f64(s, a, b, out, count, MQB_ROUND_RHU))
PAIR_ROWS(fused_rne, block_fma(s, a, b, out, count))

void mqb_pair_run(const struct mqb_pair *rule, int64_t size, const uint8_t *a, const uint8_t *b, uint8_t *codes)
{
    typedef void (*function)(const struct mqb_pair *, int64_t, const uint8_t *, const uint8_t *, uint8_t *);
    static const function functions[][3] = {
        [MQB_PAIR_F32_DIVIDE] = {[MQB_ROUND_RNE] = divide_rne, [MQB_ROUND_RHA] = divide_rha, [MQB_ROUND_RHU] = divide_rhu},
        [MQB_PAIR_F32_MULTIPLY] =
            {[MQB_ROUND_RNE] = multiply_rne, [MQB_ROUND_RHA] = multiply_rha, [MQB_ROUND_RHU] = multiply_rhu},
        [MQB_PAIR_F64] = {[MQB_ROUND_RNE] = double_rne, [MQB_ROUND_RHA] = double_rha, [MQB_ROUND_RHU] = double_rhu},
        [MQB_PAIR_FMA] = {[MQB_ROUND_RNE] = fused_rne},
    };
    functions[rule->form][rule->rounding](rule, size, a, b, codes);
}

/* Every pair of codes by the formula. */
static bool equals_table(const struct mqb_pair *rule, const uint8_t *table)
{
    uint8_t a[256], b[256], out[256];
    for (int32_t j = 0; j < 256; j++)
        b[j] = (uint8_t)j;
    for (int32_t i = 0; i < 256; i++) {
        memset(a, i, sizeof(a));
        mqb_pair_run(rule, 256, a, b, out);
        if (memcmp(out, table + i * 256, sizeof(out)) != 0)
            return false;
    }
    return true;
}

void mqb_pair_choose(struct mqb_pair *rule, const struct mqb_pair *formula, const uint8_t *table)
{
    *rule = *formula;
    if (rule->form != MQB_PAIR_TABLE && (rule->rounding > MQB_ROUND_RHU || !equals_table(rule, table)))
        rule->form = MQB_PAIR_TABLE;
}
