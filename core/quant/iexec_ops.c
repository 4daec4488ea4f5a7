/* iexec_ops.c - every operator of the integer program but the convolution, one image at a time. */
#include "quant/program.h"

#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

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
    if (!op->wide_b && mqb_wide_pair(&op->pair, op->table, y->info.size, a, b, out))
        return;
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

/* ---- largest codes ---- */

struct max_window {
    const uint8_t *x; /* its first pixel */
    int64_t rows, pixels, row_size;
    int32_t channels;
};

#if defined(__SSE2__)
#define LANES 16

/* Sixteen channels from `c` on. */
static void max_lanes(const struct max_window *w, int32_t c, uint8_t *out)
{
    __m128i best = _mm_loadu_si128((const __m128i *)(const void *)(w->x + c));
    for (int64_t h = 0; h < w->rows; h++) {
        const uint8_t *x = w->x + h * w->row_size + c;
        for (int64_t i = 0; i < w->pixels; i++, x += w->channels)
            best = _mm_max_epu8(best, _mm_loadu_si128((const __m128i *)(const void *)x));
    }
    _mm_storeu_si128((__m128i *)(void *)(out + c), best);
}
#endif

static void max_pixel(const struct max_window *w, uint8_t *out)
{
    int32_t c = 0;
#if defined(__SSE2__)
    for (; c + LANES <= w->channels; c += LANES)
        max_lanes(w, c, out);
    if (c > 0 && c < w->channels) { /* the last ones end with the pixel */
        max_lanes(w, w->channels - LANES, out);
        return;
    }
#endif
    for (; c < w->channels; c++) {
        uint8_t best = 0;
        for (int64_t h = 0; h < w->rows; h++)
            for (int64_t i = 0; i < w->pixels; i++) {
                const uint8_t v = w->x[h * w->row_size + i * w->channels + c];
                best = v > best ? v : best;
            }
        out[c] = best;
    }
}

static void run_max_pool(const struct mqb_iop *op, const struct mqb_itensor *x, const struct mqb_itensor *y, const uint8_t *in,
                         uint8_t *out)
{
    const struct mqb_window *window = &op->window;
    struct max_window w = {.row_size = (int64_t)x->w * x->c, .channels = x->c};
    for (int64_t p = 0; p < y->h; p++)
        for (int64_t q = 0; q < y->w; q++, out += y->c) {
            int64_t h0, h1, w0, w1;
            mqb_window_span(p, window->stride_h, window->pad_top, window->r, x->h, &h0, &h1);
            mqb_window_span(q, window->stride_w, window->pad_left, window->s, x->w, &w0, &w1);
            w.x = in + h0 * w.row_size + w0 * x->c;
            w.rows = h1 - h0;
            w.pixels = w1 - w0;
            max_pixel(&w, out);
        }
}

/* ---- means ---- */

struct span {
    int64_t h0, h1, w0, w1;
};

#define SUMS 64 /* channels whose sums are held at a time */

MQB_MULTIVERSION static void add_codes(int32_t size, int32_t zero, const uint8_t *x, int32_t *sums)
{
    for (int32_t c = 0; c < size; c++)
        sums[c] += (int32_t)x[c] - zero;
}

/* Sums of codes less the zero point, then one requantization by s_x / (s_y count). */
static void mean_integer(const struct mqb_imean *mean, const struct mqb_itensor *x, struct span span, const uint8_t *in,
                         int32_t size, int32_t *codes)
{
    int32_t sums[SUMS] = {0};
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
    float sums[SUMS] = {0.0f};
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
    int32_t codes[SUMS];
    for (int64_t i = 0; i < (int64_t)y->h * y->w; i++, out += y->c) {
        const struct mqb_imean *mean = &op->means[op->mean_of[i]];
        struct span span;
        mqb_window_span(i / y->w, window->stride_h, window->pad_top, window->r, x->h, &span.h0, &span.h1);
        mqb_window_span(i % y->w, window->stride_w, window->pad_left, window->s, x->w, &span.w0, &span.w1);
        for (int32_t c = 0; c < y->c; c += SUMS) {
            const int32_t size = y->c - c < SUMS ? y->c - c : SUMS;
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
