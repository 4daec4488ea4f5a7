/* iexec_ops.c - every operator of the integer program but the convolution, one image at a time. */
#include "quant/program.h"

#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

static void run_table(const uint8_t *table, int64_t size, const uint8_t *x, uint8_t *y)
{
    for (int64_t i = 0; i < size; i++)
        y[i] = table[x[i]];
}

static void run_channels(const struct mqb_iop *op, const struct mqb_itensor *y, const uint8_t *x, uint8_t *out)
{
    for (int64_t i = 0; i < y->info.size; i += y->c)
        for (int32_t c = 0; c < y->c; c++)
            out[i + c] = op->table[c * 256 + x[i + c]];
}

static void run_binary(const struct mqb_iop *op, const struct mqb_itensor *y, const uint8_t *a, const uint8_t *b, uint8_t *out)
{
    if (!op->wide_b && op->pair.form != MQB_PAIR_TABLE) {
        mqb_pair_run(&op->pair, y->info.size, a, b, out);
        return;
    }
    if (!op->wide_b) {
        for (int64_t i = 0; i < y->info.size; i++)
            out[i] = op->table[a[i] * 256 + b[i]];
        return;
    }
    for (int64_t i = 0; i < y->info.size; i += y->c)
        for (int32_t c = 0; c < y->c; c++)
            out[i + c] = op->table[a[i + c] * 256 + b[c]];
}

static void run_max_pool(const struct mqb_iop *op, const struct mqb_itensor *x, const struct mqb_itensor *y, const uint8_t *in,
                         uint8_t *out)
{
    const struct mqb_window *window = &op->window;
    for (int64_t p = 0; p < y->h; p++)
        for (int64_t q = 0; q < y->w; q++, out += y->c) {
            int64_t h0, h1, w0, w1;
            mqb_window_span(p, window->stride_h, window->pad_top, window->r, x->h, &h0, &h1);
            mqb_window_span(q, window->stride_w, window->pad_left, window->s, x->w, &w0, &w1);
            memcpy(out, in + (h0 * x->w + w0) * x->c, (size_t)x->c);
            for (int64_t h = h0; h < h1; h++)
                for (int64_t w = w0; w < w1; w++) {
                    const uint8_t *v = in + (h * x->w + w) * x->c;
                    for (int32_t c = 0; c < x->c; c++)
                        out[c] = v[c] > out[c] ? v[c] : out[c];
                }
        }
}

/* ---- means ---- */

struct span {
    int64_t h0, h1, w0, w1;
};

#define LANES 64 /* channels whose sums are held at a time */

MQB_MULTIVERSION static void add_codes(int32_t size, int32_t zero, const uint8_t *x, int32_t *sums)
{
    for (int32_t c = 0; c < size; c++)
        sums[c] += (int32_t)x[c] - zero;
}

/* Sums of codes less the zero point, then one requantization by s_x / (s_y count). */
static void mean_integer(const struct mqb_imean *mean, const struct mqb_itensor *x, struct span span, const uint8_t *in,
                         int32_t size, int32_t *codes)
{
    int32_t sums[LANES] = {0};
    for (int64_t h = span.h0; h < span.h1; h++)
        for (int64_t w = span.w0; w < span.w1; w++)
            add_codes(size, x->zero_stored, in + (h * x->w + w) * x->c, sums);
    for (int32_t c = 0; c < size; c++)
        codes[c] = mqb_requantize(&mean->requantizer, sums[c]);
}

MQB_MULTIVERSION static void add_reals(int32_t size, int32_t zero, float scale, const uint8_t *x, float *sums)
{
    for (int32_t c = 0; c < size; c++)
        sums[c] += scale * (float)((int32_t)x[c] - zero);
}

/* Dequantized, added row by row in float32, divided, quantized. */
static void mean_float(const struct mqb_contract *contract, const struct mqb_imean *mean, const struct mqb_itensor *x,
                       const struct mqb_itensor *y, struct span span, const uint8_t *in, int32_t size, int32_t *codes)
{
    float sums[LANES] = {0.0f};
    for (int64_t h = span.h0; h < span.h1; h++)
        for (int64_t w = span.w0; w < span.w1; w++)
            add_reals(size, x->zero_stored, x->info.scale, in + (h * x->w + w) * x->c, sums);
    for (int32_t c = 0; c < size; c++) {
        float value = sums[c] / (float)mean->count;
        if (mean->rule != MQB_POOL_ORT) {
            codes[c] = mqb_quantize_value(contract, value, y->info.scale, y->info.zero_point, y->info.qmin, y->info.qmax);
            continue;
        }
        float code = rintf(value / y->info.scale + (float)y->info.zero_point);
        codes[c] = code < (float)y->info.qmin ? y->info.qmin : code > (float)y->info.qmax ? y->info.qmax : (int32_t)code;
    }
}

static void run_average_pool(const struct mqb_program *program, const struct mqb_iop *op, const uint8_t *in, uint8_t *out)
{
    const struct mqb_itensor *x = &program->tensors[op->in[0]], *y = &program->tensors[op->out];
    const struct mqb_window *window = &op->window;
    int32_t codes[LANES];
    for (int64_t i = 0; i < (int64_t)y->h * y->w; i++, out += y->c) {
        const struct mqb_imean *mean = &op->means[op->mean_of[i]];
        struct span span;
        mqb_window_span(i / y->w, window->stride_h, window->pad_top, window->r, x->h, &span.h0, &span.h1);
        mqb_window_span(i % y->w, window->stride_w, window->pad_left, window->s, x->w, &span.w0, &span.w1);
        for (int32_t c = 0; c < y->c; c += LANES) {
            const int32_t size = y->c - c < LANES ? y->c - c : LANES;
            if (mean->rule != MQB_POOL_INTEGER)
                mean_float(mqb_program_rule(program, MQB_FACTOR_POOL), mean, x, y, span, in + c, size, codes);
            else
                mean_integer(mean, x, span, in + c, size, codes);
            for (int32_t j = 0; j < size; j++)
                out[c + j] = (uint8_t)(codes[j] + y->offset);
        }
    }
}

/* ---- moves ---- */

static void run_moves(const struct mqb_iop *op, const uint8_t *const *in, uint8_t *out)
{
    for (int32_t i = 0; i < op->num_runs; i++) {
        const struct mqb_irun *run = &op->runs[i];
        if (run->input < 0)
            memset(out + run->to, op->pad, (size_t)run->size);
        else if (op->table)
            run_table(op->table + 256 * run->input, run->size, in[run->input] + run->from, out + run->to);
        else
            memcpy(out + run->to, in[run->input] + run->from, (size_t)run->size);
    }
}

static void run_shuffle(const struct mqb_iop *op, const struct mqb_itensor *y, const uint8_t *in, uint8_t *out)
{
    for (int64_t i = 0; i < y->info.size; i += y->c)
        for (int32_t c = 0; c < y->c; c++)
            out[i + c] = in[i + op->permutation[c]];
}

void mqb_iop_run(const struct mqb_program *program, const struct mqb_iop *op, const uint8_t *const *in, uint8_t *out)
{
    const struct mqb_itensor *x = &program->tensors[op->in[0]], *y = &program->tensors[op->out];
    switch (op->kind) {
    case MQB_IOP_TABLE:
        run_table(op->table, y->info.size, in[0], out);
        return;
    case MQB_IOP_CHANNELS:
        run_channels(op, y, in[0], out);
        return;
    case MQB_IOP_BINARY:
        run_binary(op, y, in[0], in[1], out);
        return;
    case MQB_IOP_AVERAGE_POOL:
        run_average_pool(program, op, in[0], out);
        return;
    case MQB_IOP_MOVE:
        run_moves(op, in, out);
        return;
    case MQB_IOP_MAX_POOL:
        run_max_pool(op, x, y, in[0], out);
        break;
    default:
        run_shuffle(op, y, in[0], out);
        break;
    }
    if (op->table)
        run_table(op->table, y->info.size, out, out);
}
