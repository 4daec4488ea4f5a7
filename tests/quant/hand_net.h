/*
 * hand_net.h - for tests: a deployment put together by hand: nodes, frozen tensors, random weights.
 */
#ifndef HAND_NET_H
#define HAND_NET_H

#include "graph/internal.h"
#include "quant/quant.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#define HAND_MAX_FROZEN 64

struct hand_net {
    struct mqb_graph *graph;
    struct mqb_deploy deploy;
    struct mqb_frozen frozen[HAND_MAX_FROZEN];
    uint64_t seed, counter;
    struct mqb_error error;
};

#define HAND_OK(call)                                                                                                          \
    do {                                                                                                                       \
        if ((call) != MQB_OK)                                                                                                  \
            fail_msg("%s: %s", #call, net->error.text);                                                                        \
    } while (0)

static inline float hand_uniform(struct hand_net *net)
{
    return mqb_uniform(net->seed, 7, net->counter++);
}

/* low .. high, both inclusive. */
static inline int32_t hand_int(struct hand_net *net, int32_t low, int32_t high)
{
    return low + (int32_t)(hand_uniform(net) * (float)(high - low + 1));
}

static inline void hand_create(struct hand_net *net, uint64_t seed)
{
    memset(net, 0, sizeof(*net));
    net->seed = seed;
    net->error.struct_size = sizeof(net->error);
    HAND_OK(mqb_graph_create(&mqb_ops, &net->graph, &net->error));
    net->deploy.graph = net->graph;
    net->deploy.frozen = net->frozen;
}

static inline void hand_destroy(struct hand_net *net)
{
    for (int i = 0; i < net->deploy.num_frozen; i++) {
        mqb_deallocate(net->frozen[i].name);
        mqb_deallocate(net->frozen[i].scale);
        mqb_deallocate(net->frozen[i].zero_point);
        mqb_deallocate(net->frozen[i].codes);
    }
    mqb_graph_destroy(net->graph);
}

/* h == 0: rank 2. */
static inline mqb_value_id hand_input(struct hand_net *net, int64_t c, int64_t h, int64_t w)
{
    int64_t dims[4] = {MQB_BATCH, c, h, w};
    mqb_value_id id;
    HAND_OK(mqb_graph_append_value(net->graph, MQB_VALUE_INPUT, "input", h ? 4 : 2, dims, NULL, &id, &net->error));
    net->graph->input = id;
    return id;
}

static inline mqb_value_id hand_param(struct hand_net *net, const char *name, int32_t rank, const int64_t *dims,
                                      const float *data)
{
    mqb_value_id id;
    HAND_OK(mqb_graph_calls.add_value(net->graph, MQB_VALUE_PARAM, name, rank, dims, data, &id, &net->error));
    return id;
}

/* Returns the node's id; its output is the graph's output until another node is added. */
static inline mqb_node_id hand_node(struct hand_net *net, const char *op, const char *name, int num_inputs,
                                    const mqb_value_id *inputs)
{
    mqb_node_id id;
    HAND_OK(mqb_graph_calls.add_node(net->graph, op, name, inputs, num_inputs, &id, &net->error));
    net->graph->output = net->graph->nodes[id].output;
    return id;
}

static inline mqb_value_id hand_out(struct hand_net *net, mqb_node_id node)
{
    return net->graph->nodes[node].output;
}

static inline mqb_value_id hand_unary(struct hand_net *net, const char *op, const char *name, mqb_value_id x)
{
    return hand_out(net, hand_node(net, op, name, 1, &x));
}

static inline void hand_list(struct hand_net *net, mqb_node_id node, const char *name, int32_t size, const int64_t *list)
{
    HAND_OK(mqb_node_set_list(net->graph, node, name, list, size, &net->error));
}

static inline void hand_attr_int(struct hand_net *net, mqb_node_id node, const char *name, int64_t v)
{
    HAND_OK(mqb_graph_calls.set_attr_int(net->graph, node, name, v, &net->error));
}

static inline void hand_attr_real(struct hand_net *net, mqb_node_id node, const char *name, double v)
{
    HAND_OK(mqb_graph_calls.set_attr_real(net->graph, node, name, v, &net->error));
}

static inline void hand_infer(struct hand_net *net)
{
    HAND_OK(mqb_graph_infer(net->graph, &net->error));
}

static inline struct mqb_frozen *hand_freeze(struct hand_net *net, mqb_value_id value, int role, int32_t channels, int32_t qmin,
                                             int32_t qmax)
{
    struct mqb_frozen *f = &net->frozen[net->deploy.num_frozen++];
    assert_true(net->deploy.num_frozen <= HAND_MAX_FROZEN);
    f->value = value;
    f->role = role;
    f->name = mqb_strdup(net->graph->values[value].name);
    f->num_channels = channels;
    f->scale = mqb_allocate_array((size_t)channels, sizeof(float));
    f->zero_point = mqb_allocate_array((size_t)channels, sizeof(int32_t));
    f->qmin = qmin;
    f->qmax = qmax;
    f->scheme.struct_size = sizeof(f->scheme);
    f->scheme.role = role;
    f->scheme.per_channel = channels > 1;
    f->scheme.num_channels = channels;
    return f;
}

static inline void hand_point(struct hand_net *net, mqb_value_id value, float scale, int32_t zero_point, int32_t qmin,
                              int32_t qmax)
{
    struct mqb_frozen *f = hand_freeze(net, value, MQB_ROLE_ACTIVATION, 1, qmin, qmax);
    f->scale[0] = scale;
    f->zero_point[0] = zero_point;
}

/* What a weight's random codes look like. */
struct hand_weight {
    bool per_channel, asymmetric, pot;
    int32_t qmin, qmax;
    float scale; /* typical */
};

static inline mqb_value_id hand_weight(struct hand_net *net, const char *name, int32_t rank, const int64_t *dims,
                                       const struct hand_weight *w)
{
    mqb_value_id id = hand_param(net, name, rank, dims, NULL);
    struct mqb_frozen *f = hand_freeze(net, id, MQB_ROLE_WEIGHT, w->per_channel ? (int32_t)dims[0] : 1, w->qmin, w->qmax);
    f->num_codes = mqb_dims_count(rank, dims);
    f->codes = mqb_allocate_array((size_t)f->num_codes, sizeof(int32_t));
    for (int32_t c = 0; c < f->num_channels; c++) {
        f->scale[c] = w->pot ? ldexpf(w->scale, hand_int(net, -1, 1)) : w->scale * (0.5f + hand_uniform(net));
        int32_t middle = w->qmin < 0 ? 0 : (w->qmin + w->qmax + 1) / 2;
        f->zero_point[c] = w->asymmetric ? hand_int(net, w->qmin, w->qmax) : middle;
    }
    for (int64_t i = 0; i < f->num_codes; i++) {
        int64_t c = i / (f->num_codes / f->num_channels);
        f->codes[i] = hand_int(net, w->qmin, w->qmax);
        net->graph->values[id].data[i] = f->scale[c] * (float)(f->codes[i] - f->zero_point[c]);
    }
    return id;
}

/* A contract's rules for whole-graph integer execution. */
static inline struct mqb_backend_rules hand_rules(int multiplier, int rounding)
{
    struct mqb_backend_rules rules = {.struct_size = sizeof(rules), .deployable = 1, .scope = MQB_SCOPE_WHOLE_GRAPH};
    rules.contract = (struct mqb_contract){
        .struct_size = sizeof(struct mqb_contract), .multiplier = multiplier, .rounding = rounding, .profile = "test"};
    return rules;
}

#endif
