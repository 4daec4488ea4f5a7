/*
 * naive_islands.h - for tests: a hand-made deployment whose convolutions and linear layers alone are integer, one image, one
 * element at a time, in NCHW. Only the code of one real, and the nearest half, are the product's (they have tests of their
 * own).
 */
#ifndef NAIVE_ISLANDS_H
#define NAIVE_ISLANDS_H

#include "hand_net.h"
#include "ops/ops.h"
#include "quant/requant.h"

#include <stdlib.h>

struct naive_islands {
    struct hand_net *net;
    const struct mqb_contract *contract;
    float **real; /* by value: [c][h][w], or NULL */
    bool half;
    const struct mqb_node *node;
};

static inline bool island_is(const struct mqb_node *node, const char *op)
{
    return strcmp(node->op->name, op) == 0;
}

static inline float island_round(const struct naive_islands *run, float v)
{
    return run->half ? mqb_requant_half(v) : v;
}

static inline struct mqb_extent island_extent(const struct naive_islands *run, mqb_value_id value)
{
    return mqb_value_extent(&run->net->graph->values[value]);
}

/* Element (c, h, w) of input i; one pixel serves all. */
static inline float island_at(const struct naive_islands *run, int i, int64_t c, int64_t h, int64_t w)
{
    struct mqb_extent x = island_extent(run, run->node->inputs[i]);
    return x.pixels == 1 ? run->real[run->node->inputs[i]][c] : run->real[run->node->inputs[i]][(c * x.h + h) * x.w + w];
}

static inline float island_param(const struct naive_islands *run, int i, int64_t at)
{
    return run->net->graph->values[run->node->inputs[i]].data[at];
}

/* The code in which the layer reads a real. */
static inline int32_t island_code(const struct naive_islands *run, const struct mqb_frozen *f, float v)
{
    return mqb_quantize_value(run->contract, v, f->scale[0], f->zero_point[0], f->qmin, f->qmax);
}

static inline float island_layer(const struct naive_islands *run, int64_t k, int64_t p, int64_t q)
{
    const struct mqb_graph *graph = run->net->graph;
    const struct mqb_node *node = run->node;
    const struct mqb_value *wv = &graph->values[node->inputs[1]];
    const struct mqb_frozen *w = mqb_deploy_find(&run->net->deploy, node->inputs[1]);
    const struct mqb_frozen *x = mqb_deploy_find_input(&run->net->deploy, node->inputs[0], (mqb_node_id)(node - graph->nodes));
    struct mqb_extent in = island_extent(run, node->inputs[0]);
    int64_t K = wv->dims[0], Cg = wv->dims[1], R = wv->rank == 4 ? wv->dims[2] : 1, S = wv->rank == 4 ? wv->dims[3] : 1;
    int64_t ch = w->num_channels > 1 ? k : 0, group = mqb_attr_i(node, "group", 1), sum = 0;
    for (int64_t c = 0; c < Cg; c++)
        for (int64_t i = 0; i < R; i++)
            for (int64_t j = 0; j < S; j++) {
                int64_t h = p * mqb_attr_li(node, "strides", 0, 1) - mqb_attr_li(node, "pads", 0, 0) + i;
                int64_t v = q * mqb_attr_li(node, "strides", 1, 1) - mqb_attr_li(node, "pads", 1, 0) + j;
                if (h < 0 || v < 0 || h >= in.h || v >= in.w)
                    continue;
                int64_t code = island_code(run, x, island_at(run, 0, k / (K / group) * Cg + c, h, v));
                sum += (code - x->zero_point[0]) * (w->codes[((k * Cg + c) * R + i) * S + j] - w->zero_point[ch]);
            }
    float step = x->scale[0] * w->scale[ch], bias = node->num_inputs > 2 ? island_param(run, 2, k) : 0.0f;
    if (run->contract->bias_form == MQB_BIAS_F32)
        return (float)sum * step + bias;
    return (float)(sum + (int64_t)mqb_requant_round((double)(bias / step), run->contract->bias_rounding)) * step;
}

static inline float island_pool(const struct naive_islands *run, int64_t c, int64_t p, int64_t q)
{
    const struct mqb_node *node = run->node;
    struct mqb_extent in = island_extent(run, node->inputs[0]);
    if (island_is(node, "GlobalAveragePool")) {
        double mean = 0;
        for (int64_t i = 0; i < in.pixels; i++)
            mean += (double)run->real[node->inputs[0]][c * in.pixels + i];
        return (float)(mean / (double)in.pixels);
    }
    float sum = 0, most = -INFINITY, count = 0;
    for (int64_t i = 0; i < mqb_attr_li(node, "kernel_shape", 0, 1); i++)
        for (int64_t j = 0; j < mqb_attr_li(node, "kernel_shape", 1, 1); j++) {
            int64_t h = p * mqb_attr_li(node, "strides", 0, 1) - mqb_attr_li(node, "pads", 0, 0) + i;
            int64_t w = q * mqb_attr_li(node, "strides", 1, 1) - mqb_attr_li(node, "pads", 1, 0) + j;
            if (h < 0 || w < 0 || h >= in.h || w >= in.w)
                continue;
            sum += island_at(run, 0, c, h, w);
            most = fmaxf(most, island_at(run, 0, c, h, w));
            count++;
        }
    return island_is(node, "MaxPool") ? most : sum / count;
}

static inline float island_element(const struct naive_islands *run, int64_t c, int64_t h, int64_t w)
{
    const struct mqb_node *node = run->node;
    if (island_is(node, "Conv") || island_is(node, "Gemm"))
        return island_layer(run, c, h, w);
    if (strstr(node->op->name, "Pool"))
        return island_pool(run, c, h, w);
    if (island_is(node, "Flatten"))
        return run->real[node->inputs[0]][c];
    if (island_is(node, "Concat")) {
        int i = 0;
        for (; c >= island_extent(run, node->inputs[i]).c; i++)
            c -= island_extent(run, node->inputs[i]).c;
        return island_at(run, i, c, h, w);
    }
    float x = island_at(run, 0, c, h, w);
    if (island_is(node, "Relu"))
        return fmaxf(x, 0.0f);
    if (island_is(node, "Clip"))
        return fminf(fmaxf(x, (float)mqb_attr_f(node, "min", -INFINITY)), (float)mqb_attr_f(node, "max", INFINITY));
    if (island_is(node, "Add"))
        return x + island_at(run, 1, c, h, w);
    if (island_is(node, "Mul"))
        return x * island_at(run, 1, c, h, w);
    if (island_is(node, "HardSwish"))
        return x * fminf(fmaxf(x + 3.0f, 0.0f), 6.0f) / 6.0f;
    assert_string_equal(node->op->name, "BatchNormalization");
    double factor =
        (double)island_param(run, 1, c) * (1 / sqrt((double)island_param(run, 4, c) + mqb_attr_f(node, "epsilon", 1e-5)));
    return x * (float)factor + (float)((double)island_param(run, 2, c) - (double)island_param(run, 3, c) * factor);
}

/* One image x (NHWC). */
static inline void islands_execute(struct naive_islands *run, struct hand_net *net, const struct mqb_contract *contract,
                                   const float *x)
{
    const struct mqb_graph *graph = net->graph;
    *run = (struct naive_islands){.net = net, .contract = contract, .half = contract->intermediate == MQB_INTERMEDIATE_F16};
    run->real = calloc((size_t)graph->num_values, sizeof(*run->real));
    struct mqb_extent in = island_extent(run, graph->input);
    float *input = run->real[graph->input] = malloc((size_t)in.size * sizeof(float));
    for (int64_t c = 0; c < in.c; c++)
        for (int64_t i = 0; i < in.pixels; i++)
            input[c * in.pixels + i] = island_round(run, x[i * in.c + c]);
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        run->node = &graph->nodes[graph->order[i]];
        struct mqb_extent out = island_extent(run, run->node->output);
        float *y = run->real[run->node->output] = malloc((size_t)out.size * sizeof(float));
        for (int64_t c = 0; c < out.c; c++)
            for (int64_t h = 0; h < out.h; h++)
                for (int64_t w = 0; w < out.w; w++)
                    y[(c * out.h + h) * out.w + w] = island_round(run, island_element(run, c, h, w));
    }
}

static inline void islands_free(struct naive_islands *run)
{
    for (int32_t i = 0; i < run->net->graph->num_values; i++)
        free(run->real[i]);
    free(run->real);
}

#endif
