/*
 * naive_program.h - for tests: runs a hand-made deployment on integer codes, one image, one element at a time, in NCHW, with
 * 64-bit sums. Only the requantization of one number is the product's (it has tests against other libraries).
 */
#ifndef NAIVE_PROGRAM_H
#define NAIVE_PROGRAM_H

#include "hand_net.h"
#include "ops/ops.h"
#include "quant/requant.h"

#include <stdlib.h>

struct naive_tensor {
    int32_t *codes; /* [c][h][w] */
    int64_t c, h, w;
    float scale;
    int32_t z, qmin, qmax;
    bool alive;
};

struct naive_run {
    struct hand_net *net;
    const struct mqb_contract *contract;
    struct naive_tensor *tensors; /* by value */
    float *logits;
    const struct mqb_node *node;
    float least, most;
};

static inline int64_t naive_clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

static inline bool naive_is(const struct mqb_node *node, const char *op)
{
    return strcmp(node->op->name, op) == 0;
}

/* Makes the tensor that the node's codes end in; bounds of fused activations into run->least, most. NULL: logits. */
static inline struct naive_tensor *naive_target(struct naive_run *run, const struct naive_tensor *like)
{
    const struct mqb_graph *graph = run->net->graph;
    mqb_value_id value = run->node->output;
    run->least = -INFINITY;
    run->most = INFINITY;
    const struct mqb_node *node = run->node;
    const struct mqb_frozen *f;
    for (;;) {
        if (naive_is(node, "Relu"))
            run->least = fmaxf(run->least, 0.0f);
        if (naive_is(node, "Clip")) {
            run->least = fmaxf(run->least, (float)mqb_attr_f(node, "min", -INFINITY));
            run->most = fminf(run->most, (float)mqb_attr_f(node, "max", INFINITY));
        }
        f = mqb_deploy_find(&run->net->deploy, value);
        if (f || like || value == graph->output)
            break;
        const struct mqb_node *next = NULL;
        for (int32_t i = 0; i < graph->num_ordered; i++)
            for (int32_t j = 0; j < graph->nodes[graph->order[i]].num_inputs; j++)
                if (graph->nodes[graph->order[i]].inputs[j] == value)
                    next = &graph->nodes[graph->order[i]];
        if (!next || (!naive_is(next, "Relu") && !naive_is(next, "Clip")))
            break;
        node = next;
        value = node->output;
    }
    if (!f && !like)
        return NULL;
    struct naive_tensor *t = &run->tensors[value];
    struct mqb_extent extent = mqb_value_extent(&graph->values[value]);
    t->c = extent.c;
    t->h = extent.h;
    t->w = extent.w;
    t->codes = calloc((size_t)extent.size, sizeof(int32_t));
    t->alive = true;
    t->scale = f ? f->scale[0] : like->scale;
    t->z = f ? f->zero_point[0] : like->z;
    t->qmin = f ? f->qmin : like->qmin;
    t->qmax = f ? f->qmax : like->qmax;
    return t;
}

static inline int32_t naive_low(const struct naive_run *run, const struct naive_tensor *t)
{
    return run->least > -INFINITY ? mqb_quantize_value(run->contract, run->least, t->scale, t->z, t->qmin, t->qmax) : t->qmin;
}

static inline int32_t naive_high(const struct naive_run *run, const struct naive_tensor *t)
{
    return run->most < INFINITY ? mqb_quantize_value(run->contract, run->most, t->scale, t->z, t->qmin, t->qmax) : t->qmax;
}

/* One code between two tensors' parameters. */
static inline int32_t naive_carry(const struct naive_run *run, const struct naive_tensor *x, const struct naive_tensor *y,
                                  int32_t code)
{
    if (x->scale == y->scale && x->z == y->z && x->qmin == y->qmin && x->qmax == y->qmax)
        return (int32_t)naive_clamp(code, naive_low(run, y), naive_high(run, y));
    if (run->contract->add_rule == MQB_ADD_F32 || run->contract->add_rule == MQB_ADD_FMA)
        return mqb_quantize_value(run->contract, x->scale * (float)(code - x->z), y->scale, y->z, naive_low(run, y),
                                  naive_high(run, y));
    struct mqb_requantizer r;
    assert_int_equal(
        mqb_requantizer_init(&r, run->contract, x->scale, 1, y->scale, y->z, naive_low(run, y), naive_high(run, y), NULL), 0);
    return mqb_requantize(&r, code - x->z);
}

static inline int32_t naive_at(const struct naive_tensor *t, int64_t c, int64_t h, int64_t w)
{
    return t->codes[(c * t->h + h) * t->w + w];
}

/* What a CPU without dot-product instructions loses: stored bytes times signed weights, in pairs cut to 16 bits. Elements come
 * in the order rows, columns, channels. */
struct naive_pairs {
    int32_t first, lost;
    bool half;
};

static inline void naive_pair(struct naive_pairs *pairs, int64_t byte, int64_t weight)
{
    int32_t product = (int32_t)(byte * weight);
    if (pairs->half) {
        int32_t pair = pairs->first + product;
        pairs->lost += (int32_t)naive_clamp(pair, -32768, 32767) - pair;
    }
    pairs->first = product;
    pairs->half = !pairs->half;
}

static inline float naive_half(const struct naive_run *run, float v)
{
    return run->contract->intermediate == MQB_INTERMEDIATE_F16 ? mqb_requant_half(v) : v;
}

/* add: NULL, or the addition that the layer takes over, with the codes of its other operand. */
static inline void naive_conv(struct naive_run *run, const struct mqb_node *node, const struct naive_tensor *x,
                              const struct mqb_node *add, const struct naive_tensor *side)
{
    const struct mqb_graph *graph = run->net->graph;
    const struct mqb_frozen *f = mqb_deploy_find(&run->net->deploy, node->inputs[1]);
    const struct mqb_value *wv = &graph->values[node->inputs[1]];
    const struct mqb_value *bv = node->num_inputs > 2 ? &graph->values[node->inputs[2]] : NULL;
    int64_t K = wv->dims[0], Cg = wv->dims[1], R = wv->rank == 4 ? wv->dims[2] : 1, S = wv->rank == 4 ? wv->dims[3] : 1;
    int64_t group = mqb_attr_i(node, "group", 1);
    struct mqb_extent out = mqb_value_extent(&graph->values[node->output]);
    bool one_zero = true;
    for (int32_t c = 1; c < f->num_channels; c++)
        one_zero = one_zero && f->zero_point[c] == f->zero_point[0];
    bool in_pairs = run->contract->accumulator == MQB_ACCUMULATOR_I16_PAIRS ||
                    (run->contract->accumulator == MQB_ACCUMULATOR_I16_PAIRS_ORT &&
                     !(Cg == 1 && group > 1 && K == group && one_zero));
    int64_t x_offset = x->qmin < 0 ? 128 : 0, w_offset = f->qmin < 0 ? 0 : 128;
    run->node = add ? add : node;
    struct naive_tensor *y = naive_target(run, NULL);
    for (int64_t k = 0; k < K; k++) {
        int64_t ch = f->num_channels > 1 ? k : 0;
        float sw = f->scale[ch];
        int64_t bias = 0;
        if (bv && run->contract->bias_form == MQB_BIAS_I32)
            bias = run->contract->fold == MQB_FOLD_F64
                       ? (int64_t)mqb_requant_round((double)bv->data[k] / ((double)x->scale * sw), run->contract->bias_rounding)
                       : (int64_t)mqb_requant_round((double)(bv->data[k] / (x->scale * sw)), run->contract->bias_rounding);
        struct mqb_requantizer r;
        if (y) {
            assert_int_equal(mqb_requantizer_init(&r, run->contract, x->scale, sw, y->scale, y->z, naive_low(run, y),
                                                  naive_high(run, y), NULL),
                             0);
            r.bias = bv && run->contract->bias_form == MQB_BIAS_F32 ? bv->data[k] : 0.0f;
        }
        for (int64_t p = 0; p < out.h; p++)
            for (int64_t q = 0; q < out.w; q++) {
                int64_t sum = bias;
                struct naive_pairs pairs = {0, 0, false};
                for (int64_t i = 0; i < R; i++)
                    for (int64_t j = 0; j < S; j++)
                        for (int64_t c = 0; c < Cg; c++) {
                            int64_t h = p * mqb_attr_li(node, "strides", 0, 1) - mqb_attr_li(node, "pads", 0, 0) +
                                        i * mqb_attr_li(node, "dilations", 0, 1);
                            int64_t w = q * mqb_attr_li(node, "strides", 1, 1) - mqb_attr_li(node, "pads", 1, 0) +
                                        j * mqb_attr_li(node, "dilations", 1, 1);
                            int64_t xq =
                                h < 0 || w < 0 || h >= x->h || w >= x->w ? x->z : naive_at(x, k / (K / group) * Cg + c, h, w);
                            int64_t wq = f->codes[((k * Cg + c) * R + i) * S + j];
                            sum += (xq - x->z) * (wq - f->zero_point[ch]);
                            naive_pair(&pairs, xq + x_offset, wq - w_offset);
                        }
                sum += in_pairs ? pairs.lost : 0;
                assert_true(sum >= INT32_MIN && sum <= INT32_MAX);
                float real = (float)sum * (x->scale * sw);
                real += bv && run->contract->bias_form == MQB_BIAS_F32 ? bv->data[k] : 0.0f;
                if (add)
                    y->codes[(k * out.h + p) * out.w + q] = mqb_quantize_value(
                        run->contract, naive_half(run, real) + side->scale * (float)(naive_at(side, k, p, q) - side->z),
                        y->scale, y->z, naive_low(run, y), naive_high(run, y));
                else if (y)
                    y->codes[(k * out.h + p) * out.w + q] = mqb_requantize(&r, (int32_t)sum);
                else /* last layer: memory order of the program's logits */
                    run->logits[(p * out.w + q) * K + k] = real;
            }
    }
}

static inline int32_t naive_binary(const struct naive_run *run, const struct naive_tensor *a, const struct naive_tensor *b,
                                   const struct naive_tensor *y, int32_t qa, int32_t qb)
{
    const struct mqb_contract *contract = run->contract;
    int32_t low = naive_low(run, y), high = naive_high(run, y);
    struct mqb_requantizer ra, rb;
    if (naive_is(run->node, "Mul")) {
        assert_int_equal(mqb_requantizer_init(&ra, contract, a->scale, b->scale, y->scale, y->z, low, high, NULL), 0);
        return mqb_requantize(&ra, (qa - a->z) * (qb - b->z));
    }
    if (contract->add_rule == MQB_ADD_F32)
        return mqb_quantize_value(contract, a->scale * (float)(qa - a->z) + b->scale * (float)(qb - b->z), y->scale, y->z, low,
                                  high);
    if (contract->add_rule == MQB_ADD_FMA) {
        float sa = a->scale / y->scale, sb = b->scale / y->scale;
        float k = (float)y->z - fmaf(sa, (float)a->z, sb * (float)b->z);
        return (int32_t)naive_clamp((int64_t)rintf(fmaf((float)qa, sa, fmaf((float)qb, sb, k))), low, high);
    }
    assert_int_equal(mqb_requantizer_init(&ra, contract, a->scale, 1, y->scale, 0, INT32_MIN, INT32_MAX, NULL), 0);
    assert_int_equal(mqb_requantizer_init(&rb, contract, b->scale, 1, y->scale, 0, INT32_MIN, INT32_MAX, NULL), 0);
    if (contract->add_rule == MQB_ADD_RESCALE_EACH)
        return (int32_t)naive_clamp((int64_t)mqb_requantize(&ra, qa - a->z) + mqb_requantize(&rb, qb - b->z) + y->z, low, high);
    double v = mqb_requant_round((qa - a->z) * ra.m + (qb - b->z) * rb.m, contract->rounding);
    return (int32_t)naive_clamp((int64_t)v + y->z, low, high);
}

static inline int32_t naive_pool(const struct naive_run *run, const struct naive_tensor *x, const struct naive_tensor *y,
                                 int64_t c, int64_t p, int64_t q)
{
    const struct mqb_node *node = run->node;
    bool global = naive_is(node, "GlobalAveragePool"), include = mqb_attr_i(node, "count_include_pad", 0) != 0;
    int64_t R = global ? x->h : mqb_attr_li(node, "kernel_shape", 0, 1),
            S = global ? x->w : mqb_attr_li(node, "kernel_shape", 1, 1);
    int64_t top = mqb_attr_li(node, "pads", 0, 0), left = mqb_attr_li(node, "pads", 1, 0);
    int64_t bottom = mqb_attr_li(node, "pads", 2, 0), right = mqb_attr_li(node, "pads", 3, 0);
    int64_t sum = 0, count = 0, most = INT64_MIN;
    float real = 0.0f;
    for (int64_t i = 0; i < R; i++)
        for (int64_t j = 0; j < S; j++) {
            int64_t h = p * mqb_attr_li(node, "strides", 0, 1) - top + i, w = q * mqb_attr_li(node, "strides", 1, 1) - left + j;
            bool inside = h >= 0 && w >= 0 && h < x->h && w < x->w;
            count += inside || (include && h < x->h + bottom && w < x->w + right);
            if (!inside)
                continue;
            int32_t code = naive_at(x, c, h, w);
            sum += code - x->z;
            real += x->scale * (float)(code - x->z);
            most = code > most ? code : most;
        }
    if (naive_is(node, "MaxPool"))
        return naive_carry(run, x, y, (int32_t)most);
    if (run->contract->pool_rule == MQB_POOL_F32)
        return mqb_quantize_value(run->contract, real / (float)count, y->scale, y->z, y->qmin, y->qmax);
    struct mqb_requantizer r;
    assert_int_equal(
        mqb_requantizer_init_count(&r, run->contract, x->scale, 1, y->scale, (int32_t)count, y->z, y->qmin, y->qmax, NULL), 0);
    return mqb_requantize(&r, (int32_t)sum);
}

static inline int32_t naive_move(const struct naive_run *run, const struct naive_tensor *const *x, const struct naive_tensor *y,
                                 int64_t c, int64_t h, int64_t w)
{
    const struct mqb_node *node = run->node;
    if (naive_is(node, "Concat")) {
        int i = 0;
        for (; c >= x[i]->c; i++)
            c -= x[i]->c;
        return naive_carry(run, x[i], y, naive_at(x[i], c, h, w));
    }
    if (naive_is(node, "Flatten"))
        return naive_carry(run, x[0], y, x[0]->codes[c]);
    if (naive_is(node, "ChannelShuffle")) {
        int64_t group = mqb_attr_i(node, "group", 1);
        return naive_carry(run, x[0], y, naive_at(x[0], c % group * (x[0]->c / group) + c / group, h, w));
    }
    if (naive_is(node, "Slice"))
        return naive_carry(run, x[0], y,
                           naive_at(x[0], mqb_attr_li(node, "starts", 1, 0) + c * mqb_attr_li(node, "steps", 1, 1),
                                    mqb_attr_li(node, "starts", 2, 0) + h * mqb_attr_li(node, "steps", 2, 1),
                                    mqb_attr_li(node, "starts", 3, 0) + w * mqb_attr_li(node, "steps", 3, 1)));
    c -= mqb_attr_li(node, "pads_begin", 1, 0); /* Pad */
    h -= mqb_attr_li(node, "pads_begin", 2, 0);
    w -= mqb_attr_li(node, "pads_begin", 3, 0);
    bool inside = c >= 0 && h >= 0 && w >= 0 && c < x[0]->c && h < x[0]->h && w < x[0]->w;
    return naive_carry(run, x[0], y, inside ? naive_at(x[0], c, h, w) : x[0]->z);
}

static inline float naive_function(const struct mqb_node *node, float x)
{
    if (naive_is(node, "HardSwish"))
        return x * fminf(fmaxf(x + 3.0f, 0.0f), 6.0f) / 6.0f;
    if (naive_is(node, "HardSigmoid"))
        return fminf(fmaxf((float)mqb_attr_f(node, "alpha", 0.2) * x + (float)mqb_attr_f(node, "beta", 0.5), 0.0f), 1.0f);
    if (naive_is(node, "LeakyRelu"))
        return x >= 0.0f ? x : (float)mqb_attr_f(node, "alpha", 0.01) * x;
    return (float)(1.0 / (1.0 + exp(-(double)x)));
}

static inline float naive_norm(const struct naive_run *run, int64_t c, float x)
{
    const struct mqb_value *values = run->net->graph->values;
    const mqb_value_id *in = run->node->inputs;
    double factor = values[in[1]].data[c] * (1 / sqrt(values[in[4]].data[c] + mqb_attr_f(run->node, "epsilon", 1e-5)));
    return x * (float)factor + (float)(values[in[2]].data[c] - values[in[3]].data[c] * factor);
}

/* A convolution whose result has no codes and goes into an addition: it waits. */
static inline bool naive_waits(const struct naive_run *run, const struct mqb_node *node)
{
    const struct mqb_graph *graph = run->net->graph;
    if (!naive_is(node, "Conv") || mqb_deploy_find(&run->net->deploy, node->output) || node->output == graph->output)
        return false;
    for (int32_t i = 0; i < graph->num_ordered; i++)
        for (int32_t j = 0; j < graph->nodes[graph->order[i]].num_inputs; j++)
            if (graph->nodes[graph->order[i]].inputs[j] == node->output)
                return naive_is(&graph->nodes[graph->order[i]], "Add");
    return false;
}

static inline void naive_node(struct naive_run *run)
{
    const struct mqb_node *node = run->node;
    const struct naive_tensor *x[MQB_MAX_INPUTS] = {NULL};
    for (int32_t i = 0; i < node->num_inputs; i++)
        x[i] = &run->tensors[node->inputs[i]];
    if (naive_is(node, "Conv") || naive_is(node, "Gemm")) {
        naive_conv(run, node, x[0], NULL, NULL);
        return;
    }
    for (int32_t i = 0; naive_is(node, "Add") && i < 2; i++)
        if (!x[i]->alive) { /* of a convolution that waits for the addition */
            const struct mqb_node *conv = &run->net->graph->nodes[run->net->graph->values[node->inputs[i]].producer];
            naive_conv(run, conv, &run->tensors[conv->inputs[0]], node, x[1 - i]);
            return;
        }
    bool binary = naive_is(node, "Add") || naive_is(node, "Mul");
    bool function = naive_is(node, "HardSwish") || naive_is(node, "HardSigmoid") || naive_is(node, "Sigmoid") ||
                    naive_is(node, "LeakyRelu");
    bool norm = naive_is(node, "BatchNormalization");
    bool pool = strstr(node->op->name, "Pool") != NULL, clamps = naive_is(node, "Relu") || naive_is(node, "Clip");
    struct naive_tensor *y = naive_target(run, binary || function || norm ? NULL : x[0]);
    assert_non_null(y);
    for (int64_t c = 0; c < y->c; c++)
        for (int64_t h = 0; h < y->h; h++)
            for (int64_t w = 0; w < y->w; w++) {
                int32_t *to = &y->codes[(c * y->h + h) * y->w + w];
                if (binary)
                    *to = naive_binary(run, x[0], x[1], y, naive_at(x[0], c, h, w),
                                       x[1]->h == y->h && x[1]->w == y->w ? naive_at(x[1], c, h, w) : naive_at(x[1], c, 0, 0));
                else if (function)
                    *to = mqb_quantize_value(run->contract,
                                             naive_function(node, x[0]->scale * (float)(naive_at(x[0], c, h, w) - x[0]->z)),
                                             y->scale, y->z, naive_low(run, y), naive_high(run, y));
                else if (norm)
                    *to = mqb_quantize_value(run->contract,
                                             naive_norm(run, c, x[0]->scale * (float)(naive_at(x[0], c, h, w) - x[0]->z)),
                                             y->scale, y->z, naive_low(run, y), naive_high(run, y));
                else if (pool)
                    *to = naive_pool(run, x[0], y, c, h, w);
                else if (clamps)
                    *to = naive_carry(run, x[0], y, naive_at(x[0], c, h, w));
                else
                    *to = naive_move(run, x, y, c, h, w);
            }
}

/* One image x (NHWC floats). */
static inline void naive_execute(struct naive_run *run, struct hand_net *net, const struct mqb_contract *contract,
                                 const float *x)
{
    const struct mqb_graph *graph = net->graph;
    memset(run, 0, sizeof(*run));
    run->net = net;
    run->contract = contract;
    run->tensors = calloc((size_t)graph->num_values, sizeof(*run->tensors));
    run->logits = calloc((size_t)mqb_value_size(&graph->values[graph->output]), sizeof(float));
    struct naive_tensor *in = &run->tensors[graph->input];
    const struct mqb_frozen *f = mqb_deploy_find(&net->deploy, graph->input);
    struct mqb_extent extent = mqb_value_extent(&graph->values[graph->input]);
    *in = (struct naive_tensor){calloc((size_t)extent.size, sizeof(int32_t)),
                                extent.c,
                                extent.h,
                                extent.w,
                                f->scale[0],
                                f->zero_point[0],
                                f->qmin,
                                f->qmax,
                                true};
    for (int64_t c = 0; c < extent.c; c++)
        for (int64_t i = 0; i < extent.pixels; i++)
            in->codes[c * extent.pixels + i] =
                mqb_quantize_value(contract, x[i * extent.c + c], in->scale, in->z, in->qmin, in->qmax);
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        run->node = &graph->nodes[graph->order[i]];
        if (run->tensors[run->node->output].alive)
            continue; /* a fused activation */
        if (naive_waits(run, run->node))
            continue;
        if (run->tensors[run->node->inputs[0]].alive || naive_is(run->node, "Add"))
            naive_node(run);
    }
}

static inline void naive_free(struct naive_run *run)
{
    for (int32_t i = 0; i < run->net->graph->num_values; i++)
        free(run->tensors[i].codes);
    free(run->tensors);
    free(run->logits);
}

#endif
