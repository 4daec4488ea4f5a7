/*
 * hand_layers.h - for tests: whole layers on top of hand_net.h.
 */
#ifndef HAND_LAYERS_H
#define HAND_LAYERS_H

#include "hand_net.h"

/* The scale, or the next power of two above it. */
static inline float step(bool pot, float scale)
{
    int exponent;
    float fraction = frexpf(scale, &exponent);
    (void)fraction;
    return pot ? ldexpf(1.0f, exponent) : scale;
}

static inline mqb_value_id add_conv(struct hand_net *net, const char *name, mqb_value_id x, int64_t k, int64_t r,
                                    int64_t stride, int64_t group, const int64_t pads[4], bool pot)
{
    char text[64];
    struct hand_weight weight = {
        .per_channel = hand_int(net, 0, 1), .asymmetric = true, .pot = pot, .qmin = 0, .qmax = 255, .scale = step(pot, 0.004f)};
    int64_t dims[4] = {k, net->graph->values[x].dims[1] / group, r, r};
    snprintf(text, sizeof(text), "%s.w", name);
    mqb_value_id inputs[3] = {x, hand_weight(net, text, 4, dims, &weight), MQB_NONE};
    snprintf(text, sizeof(text), "%s.b", name);
    inputs[2] = hand_param(net, text, 1, &k, NULL);
    for (int64_t i = 0; i < k; i++)
        net->graph->values[inputs[2]].data[i] = hand_uniform(net) - 0.5f;
    mqb_node_id node = hand_node(net, "Conv", name, 3, inputs);
    int64_t strides[2] = {stride, stride};
    hand_list(net, node, "strides", 2, strides);
    hand_list(net, node, "pads", 4, pads);
    hand_attr_int(net, node, "group", group);
    hand_infer(net);
    return hand_out(net, node);
}

static inline mqb_value_id add_pool(struct hand_net *net, const char *op, const char *name, mqb_value_id x, int64_t r,
                                    int64_t stride, const int64_t pads[4], int include)
{
    mqb_node_id node = hand_node(net, op, name, 1, &x);
    int64_t kernel[2] = {r, r}, strides[2] = {stride, stride};
    hand_list(net, node, "kernel_shape", 2, kernel);
    hand_list(net, node, "strides", 2, strides);
    hand_list(net, node, "pads", 4, pads);
    hand_attr_int(net, node, "ceil_mode", 1);
    hand_attr_int(net, node, "count_include_pad", include);
    hand_infer(net);
    return hand_out(net, node);
}

static inline mqb_value_id add_binary(struct hand_net *net, const char *op, const char *name, mqb_value_id a, mqb_value_id b)
{
    mqb_value_id inputs[2] = {a, b};
    mqb_node_id node = hand_node(net, op, name, 2, inputs);
    hand_infer(net);
    return hand_out(net, node);
}

static inline void quantize(struct hand_net *net, mqb_value_id value, float scale, int32_t z, bool is_signed, bool pot)
{
    hand_point(net, value, step(pot, scale * (0.8f + 0.4f * hand_uniform(net))), is_signed ? z - 128 : z, is_signed ? -128 : 0,
               is_signed ? 127 : 255);
}

#endif
