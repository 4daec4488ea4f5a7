/*
 * placement.h - what the passes share that put quantization points into a graph.
 */
#ifndef PASSES_PLACEMENT_H
#define PASSES_PLACEMENT_H

#include <mqbench/graph.h>

#include <stdio.h>
#include <string.h>

struct placement {
    const struct mqb_host *host;
    const struct mqb_graph_api *api;
    struct mqb_graph *graph;
    mqb_node_id *nodes; /* as they stood at first: new points move the order, not the ids */
    int32_t num_nodes;
    int32_t num_edits;
    const char *title; /* begins every rule: "graph 3" */
};

static inline mqb_status placement_begin(struct placement *p, const struct mqb_host *host, struct mqb_graph *graph,
                                         const char *title, struct mqb_error *error)
{
    *p = (struct placement){.host = host, .api = host->graph, .graph = graph, .title = title};
    p->num_nodes = host->graph->num_nodes(graph);
    p->nodes = host->allocate(((size_t)p->num_nodes + 1) * sizeof(p->nodes[0]));
    if (!p->nodes)
        return host->fail(error, MQB_ERR_MEMORY, "no memory to list %d nodes", (int)p->num_nodes);
    for (int32_t i = 0; i < p->num_nodes; i++)
        p->nodes[i] = host->graph->node_at(graph, i);
    return MQB_OK;
}

static inline int named(const char *op, const char *const *list)
{
    for (; *list; list++) {
        if (strcmp(op, *list) == 0)
            return 1;
    }
    return 0;
}

static inline int is_layer(const char *op)
{
    return strcmp(op, "Conv") == 0 || strcmp(op, "Gemm") == 0;
}

/* FloatConv and FloatGemm, which compute statistics alone, are no part of what hardware runs. */
static inline int is_quantized_layer(const struct placement *p, mqb_node_id node)
{
    return is_layer(p->api->node_op(p->graph, node));
}

/* The float layer beside a folded one reads what that one reads: after a private point, too. */
static inline mqb_status lead_float_layer(struct placement *p, mqb_node_id layer, mqb_value_id value, mqb_value_id quantized,
                                          struct mqb_error *error)
{
    const struct mqb_graph_api *api = p->api;
    mqb_value_id weight = api->input(p->graph, layer, 1);
    while (api->producer(p->graph, weight) != MQB_NONE)
        weight = api->input(p->graph, api->producer(p->graph, weight), 0);
    for (int32_t i = 0; i < api->num_consumers(p->graph, value); i++) {
        mqb_node_id reader = api->consumer(p->graph, value, i);
        if (strncmp(api->node_op(p->graph, reader), "Float", 5) == 0 && api->input(p->graph, reader, 1) == weight)
            return api->set_input(p->graph, reader, 0, quantized, error);
    }
    return MQB_OK;
}

static inline int is_clamp(const char *op)
{
    return strcmp(op, "Relu") == 0 || strcmp(op, "Clip") == 0;
}

static inline int carries_codes(const char *op)
{
    static const char *const ops[] = {
        "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Slice", "Pad", "ChannelShuffle", "Relu", "Clip", NULL};
    return named(op, ops);
}

static inline int joins_tensors(const char *op)
{
    static const char *const ops[] = {"Add", "Mul", "Concat", NULL};
    return named(op, ops);
}

static inline int is_point(const struct placement *p, mqb_node_id node)
{
    return node != MQB_NONE && strcmp(p->api->node_op(p->graph, node), "FakeQuantize") == 0;
}

/* The only reader of a value that is not the network's output. */
static inline mqb_node_id only_reader(const struct placement *p, mqb_value_id value)
{
    if (value == p->api->graph_output(p->graph) || p->api->num_consumers(p->graph, value) != 1)
        return MQB_NONE;
    return p->api->consumer(p->graph, value, 0);
}

/* A batch norm behind a layer of its own belongs to that layer. */
static inline int belongs_to_layer(const struct placement *p, mqb_node_id bn)
{
    mqb_value_id x = p->api->input(p->graph, bn, 0);
    mqb_node_id layer = p->api->producer(p->graph, x);
    return layer != MQB_NONE && is_layer(p->api->node_op(p->graph, layer)) && only_reader(p, x) == bn;
}

static inline int has_point(const struct placement *p, mqb_value_id value)
{
    for (int32_t i = 0; i < p->api->num_consumers(p->graph, value); i++) {
        if (is_point(p, p->api->consumer(p->graph, value, i)))
            return 1;
    }
    return 0;
}

/* A point on `value`, for all that read it, or (reader not MQB_NONE) for input `index` of that node alone. */
static inline mqb_status add_point(struct placement *p, mqb_value_id value, mqb_node_id reader, int32_t index, int role,
                                   const char *rule, struct mqb_error *error)
{
    const struct mqb_graph_api *api = p->api;
    mqb_node_id node;
    char name[256];
    snprintf(name, sizeof(name), "%s_q", api->value_name(p->graph, value));
    mqb_status status = api->add_node(p->graph, "FakeQuantize", name, &value, 1, &node, error);
    if (status == MQB_OK)
        status = api->set_attr_int(p->graph, node, "role", role, error);
    if (status == MQB_OK)
        status = api->set_attr_int(p->graph, node, "io", 0, error);
    if (status == MQB_OK)
        status = api->set_attr_text(p->graph, node, "rule", rule, error);
    if (status == MQB_OK)
        status = reader != MQB_NONE ? api->set_input(p->graph, reader, index, api->output(p->graph, node), error)
                                    : api->replace_uses(p->graph, value, api->output(p->graph, node), node, error);
    if (status == MQB_OK && reader != MQB_NONE && role == MQB_ROLE_ACTIVATION && is_quantized_layer(p, reader))
        status = lead_float_layer(p, reader, value, api->output(p->graph, node), error);
    p->num_edits += status == MQB_OK;
    return status;
}

static inline mqb_status place_weights(struct placement *p, struct mqb_error *error)
{
    const struct mqb_graph_api *api = p->api;
    mqb_status status = MQB_OK;
    for (int32_t i = 0; i < p->num_nodes && status == MQB_OK; i++) {
        mqb_node_id node = p->nodes[i];
        mqb_value_id weight = api->input(p->graph, node, 1);
        char rule[128];
        if (!is_quantized_layer(p, node) || is_point(p, api->producer(p->graph, weight)))
            continue;
        snprintf(rule, sizeof(rule), "%s: weight of %s", p->title, api->node_op(p->graph, node));
        status = add_point(p, weight, MQB_NONE, 0, MQB_ROLE_WEIGHT, rule, error);
    }
    return status;
}

static inline mqb_status mark_io(struct placement *p, mqb_node_id node, struct mqb_error *error)
{
    if (!is_point(p, node) || p->api->attr_int(p->graph, node, "io", 0) == 1)
        return MQB_OK;
    p->num_edits++;
    return p->api->set_attr_int(p->graph, node, "io", 1, error);
}

/* The point whose codes reach `value` unchanged, or MQB_NONE. */
static inline mqb_node_id point_behind(const struct placement *p, mqb_value_id value)
{
    for (;;) {
        mqb_node_id node = p->api->producer(p->graph, value);
        if (node == MQB_NONE || is_point(p, node))
            return node;
        if (!carries_codes(p->api->node_op(p->graph, node)))
            return MQB_NONE;
        value = p->api->input(p->graph, node, 0);
    }
}

/* The layer whose result the network's output is, up to operators with one input. */
static inline mqb_node_id last_layer(const struct placement *p)
{
    mqb_value_id value = p->api->graph_output(p->graph);
    for (;;) {
        mqb_node_id node = p->api->producer(p->graph, value);
        if (node == MQB_NONE || is_layer(p->api->node_op(p->graph, node)))
            return node;
        if (joins_tensors(p->api->node_op(p->graph, node)))
            return MQB_NONE;
        value = p->api->input(p->graph, node, 0);
    }
}

static inline mqb_status mark_ends(struct placement *p, struct mqb_error *error)
{
    const struct mqb_graph_api *api = p->api;
    mqb_status status = MQB_OK;
    for (int32_t i = 0; i < api->num_nodes(p->graph) && status == MQB_OK; i++) {
        mqb_node_id node = api->node_at(p->graph, i);
        if (is_point(p, node)) {
            if (api->input(p->graph, node, 0) == api->graph_input(p->graph))
                status = mark_io(p, node, error);
            continue;
        }
        if (!is_quantized_layer(p, node))
            continue;
        mqb_node_id source = point_behind(p, api->input(p->graph, node, 0));
        if (source != MQB_NONE && api->input(p->graph, source, 0) == api->graph_input(p->graph))
            status = mark_io(p, api->producer(p->graph, api->input(p->graph, node, 1)), error);
    }
    mqb_node_id last = last_layer(p);
    if (status == MQB_OK && last != MQB_NONE) {
        status = mark_io(p, api->producer(p->graph, api->input(p->graph, last, 1)), error);
        if (status == MQB_OK)
            status = mark_io(p, point_behind(p, api->input(p->graph, last, 0)), error);
    }
    return status;
}

/* After the activations: weights and ends, whatever the graph; `status` is how placing activations went. */
static inline mqb_status placement_finish(struct placement *p, mqb_status status, int32_t *num_edits, struct mqb_error *error)
{
    if (status == MQB_OK)
        status = place_weights(p, error);
    if (status == MQB_OK)
        status = mark_ends(p, error);
    p->host->deallocate(p->nodes);
    *num_edits = p->num_edits;
    return status;
}

#endif
