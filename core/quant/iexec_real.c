/*
 * iexec_real.c - reals in the integer program: rows of them to and from codes, and the operators of float islands.
 */
#include "quant/program.h"
#include "quant/rows.h"

#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

/* ---- reals to codes ---- */

/* The bounds are integers, so clamping first gives the same code and a number small enough to convert. NaN becomes `low`. */
struct quantize {
    float scale, before, low, high;
    int32_t after;
};

INLINE void quantize_block(const struct quantize q, const float *x, uint8_t *codes, const int32_t count, const int rounding,
                           const bool divide)
{
    int32_t whole[BLOCK];
    ROLLED
    for (int32_t j = 0; j < count; j++) {
        float v = divide ? x[j] / q.scale : x[j] * q.scale;
        v = v + q.before;
        v = v > q.low ? v : q.low;
        v = v < q.high ? v : q.high;
        whole[j] = (int32_t)round_f32(v, rounding) + q.after;
    }
    store(whole, codes, count);
}

#define QUANTIZE_FUNCTION(name, rounding, divide)                                                                              \
    MQB_MULTIVERSION static void name(int64_t size, const struct quantize *rule, const float *x, uint8_t *codes)               \
    {                                                                                                                          \
        const struct quantize q = *rule;                                                                                       \
        int64_t i = 0;                                                                                                         \
        for (; i + BLOCK <= size; i += BLOCK)                                                                                  \
            quantize_block(q, x + i, codes + i, BLOCK, rounding, divide);                                                      \
        quantize_block(q, x + i, codes + i, (int32_t)(size - i), rounding, divide);                                            \
    }

QUANTIZE_FUNCTION(divide_even, MQB_ROUND_RNE, true)
QUANTIZE_FUNCTION(divide_away, MQB_ROUND_RHA, true)
QUANTIZE_FUNCTION(divide_up, MQB_ROUND_RHU, true)
QUANTIZE_FUNCTION(multiply_even, MQB_ROUND_RNE, false)
QUANTIZE_FUNCTION(multiply_away, MQB_ROUND_RHA, false)
QUANTIZE_FUNCTION(multiply_up, MQB_ROUND_RHU, false)

void mqb_quantize_rows(const struct mqb_quantize_rows *q, int64_t size, const float *x, uint8_t *codes)
{
    typedef void (*function)(int64_t, const struct quantize *, const float *, uint8_t *);
    static const function functions[2][3] = {
        {[MQB_ROUND_RNE] = multiply_even, [MQB_ROUND_RHA] = multiply_away, [MQB_ROUND_RHU] = multiply_up},
        {[MQB_ROUND_RNE] = divide_even, [MQB_ROUND_RHA] = divide_away, [MQB_ROUND_RHU] = divide_up},
    };
    const struct mqb_contract *contract = q->contract;
    if (contract->input_rounding > MQB_ROUND_RHU) {
        for (int64_t i = 0; i < size; i++)
            codes[i] = (uint8_t)(mqb_quantize_value(contract, x[i], q->scale, q->zero_point, q->low, q->high) + q->offset);
        return;
    }
    bool zero_before = mqb_requant_zero_before(contract);
    int32_t after = zero_before ? 0 : q->zero_point;
    const struct quantize rule = {contract->input_divide ? q->scale : 1.0f / q->scale, zero_before ? (float)q->zero_point : 0.0f,
                                  (float)(q->low - after), (float)(q->high - after), after + q->offset};
    functions[contract->input_divide != 0][contract->input_rounding](size, &rule, x, codes);
}

/* ---- sums to reals ---- */

MQB_MULTIVERSION static void real_row(int32_t size, const int32_t *accumulators, const float *scale, const float *bias,
                                      float *y)
{
    MQB_ELEMENTWISE
    for (int32_t k = 0; k < size; k++)
        y[k] = (float)accumulators[k] * scale[k] + bias[k];
}

void mqb_real_row(int32_t size, const int32_t *accumulators, const float *scale, const float *bias, float *y)
{
    real_row(size, accumulators, scale, bias, y);
}

INLINE void add_block(const uint8_t *codes, int32_t zero, float scale, float *y, const int32_t count)
{
    int32_t whole[BLOCK];
    load(codes, whole, count);
    ROLLED
    for (int32_t j = 0; j < count; j++)
        y[j] = y[j] + scale * (float)(whole[j] - zero);
}

MQB_MULTIVERSION static void add_codes(int32_t size, const uint8_t *codes, int32_t zero, float scale, float *y)
{
    int32_t k = 0;
    for (; k + BLOCK <= size; k += BLOCK)
        add_block(codes + k, zero, scale, y + k, BLOCK);
    add_block(codes + k, zero, scale, y + k, size - k);
}

void mqb_real_add_codes(int32_t size, const uint8_t *codes, int32_t zero, float scale, float *y)
{
    add_codes(size, codes, zero, scale, y);
}

/* 11 bits of significand; below 2^-14 the step stays 2^-24, which adding 1.5 * 2^-1 rounds to. NaN becomes 0. */
MQB_MULTIVERSION static void halves(int64_t size, float *y)
{
    for (int64_t i = 0; i < size; i++) {
        float v = y[i] == y[i] ? y[i] : 0.0f;
        v = v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v;
        uint32_t bits;
        memcpy(&bits, &v, sizeof(bits));
        uint32_t sign = bits & 0x80000000u, even = (bits + 0xfffu + ((bits >> 13) & 1u)) & 0xffffe000u;
        float normal, small = (v + 0.75f) - 0.75f;
        memcpy(&normal, &even, sizeof(normal));
        memcpy(&bits, &small, sizeof(bits));
        bits = (bits & 0x7fffffffu) | sign; /* -0 stays -0 */
        memcpy(&small, &bits, sizeof(small));
        y[i] = fabsf(v) < 0x1p-14f ? small : normal;
    }
}

void mqb_real_halves(int64_t size, float *y)
{
    halves(size, y);
}

/* ---- operators of float islands ---- */

void mqb_ireal_run(const struct mqb_program *program, const struct mqb_iop *op, int64_t n, char *arena, void *scratch)
{
    const struct mqb_ireal *real = op->real;
    const struct mqb_node *node = real->node;
    const struct mqb_itensor *y = &program->tensors[op->out];
    struct mqb_op_grain grain = {.images = (int)n, .out = (float *)(void *)(arena + y->place), .scratch = scratch};
    struct mqb_op_block block = {.rows = n * y->h * y->w, .channels = y->c, .out = grain.out};
    int num_batched = 0;
    for (int32_t i = 0; i < node->num_inputs; i++) {
        grain.in[i] = real->fixed[i];
        if (real->operand[i] == MQB_NONE)
            continue;
        grain.in[i] = (const float *)(const void *)(arena + program->tensors[op->in[real->operand[i]]].place);
        if (num_batched < 2)
            block.in[num_batched++] = grain.in[i];
    }
    if (real->by_blocks)
        node->op->forward_block(&real->context, &block);
    else
        node->op->forward(&real->context, &grain);
    if (program->half && !real->moves && !(program->wide && mqb_wide_halves(n * y->info.size, grain.out)))
        mqb_real_halves(n * y->info.size, grain.out);
}
