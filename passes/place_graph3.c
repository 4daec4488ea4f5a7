/*
 * place_graph3.c - quantization points where an integer program stores a tensor: the network's input, and the output of each
 * convolution (with its batch norm and clamp), linear layer, addition, multiplication, concatenation and smooth activation.
 *
 * Pooling, flatten, slices, zero padding, channel shuffles and a clamp that stands alone hand their input's codes on and get no
 * point; nor does the network's output. A tensor has one point, whoever reads it. Weights have one each.
 * The first and the last layer, and the tensors they read, are marked `io`.
 */
#include <mqbench/graph.h>
#include <mqbench/plugin.h>

#include <stdio.h>
#include <string.h>

struct placement {
    const struct mqb_host *host;
    const struct mqb_graph_api *api;
    struct mqb_graph *graph;
    mqb_node_id *nodes; /* as they stood at first: new points move the order, not the ids */
    int32_t num_nodes;
    int32_t num_edits;
};

static int named(const char *op, const char *const *list)
{
    for (; *list; list++) {
        if (strcmp(op, *list) == 0)
            return 1;
    }
    return 0;
}

static int is_layer(const char *op)
{
    return strcmp(op, "Conv") == 0 || strcmp(op, "Gemm") == 0;
}

static int is_clamp(const char *op)
{
    return strcmp(op, "Relu") == 0 || strcmp(op, "Clip") == 0;
}

static int carries_codes(const char *op)
{
    static const char *const ops[] = {
        "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Slice", "Pad", "ChannelShuffle", "Relu", "Clip", NULL};
    return named(op, ops);
}

static int joins_tensors(const char *op)
{
    static const char *const ops[] = {"Add", "Mul", "Concat", NULL};
    return named(op, ops);
}

static int is_point(const struct placement *p, mqb_node_id node)
{
    return node != MQB_NONE && strcmp(p->api->node_op(p->graph, node), "FakeQuantize") == 0;
}

/* The only reader of a value that is not the network's output. */
static mqb_node_id only_reader(const struct placement *p, mqb_value_id value)
{
    if (value == p->api->graph_output(p->graph) || p->api->num_consumers(p->graph, value) != 1)
        return MQB_NONE;
    return p->api->consumer(p->graph, value, 0);
}

/* A batch norm behind a layer of its own belongs to that layer. */
static int belongs_to_layer(const struct placement *p, mqb_node_id bn)
{
    mqb_value_id x = p->api->input(p->graph, bn, 0);
    mqb_node_id layer = p->api->producer(p->graph, x);
    return layer != MQB_NONE && is_layer(p->api->node_op(p->graph, layer)) && only_reader(p, x) == bn;
}

static int stores_tensor(const struct placement *p, mqb_node_id node)
{
    static const char *const smooth[] = {"HardSwish", "HardSigmoid", "Sigmoid", NULL};
    const char *op = p->api->node_op(p->graph, node);
    if (strcmp(op, "BatchNormalization") == 0)
        return !belongs_to_layer(p, node);
    return is_layer(op) || joins_tensors(op) || named(op, smooth);
}

/* Where the operators fused with `node` end; `rule` says which they are. */
static mqb_value_id fused_end(const struct placement *p, mqb_node_id node, char *rule, size_t size)
{
    const char *op = p->api->node_op(p->graph, node);
    mqb_value_id value = p->api->output(p->graph, node);
    int length = snprintf(rule, size, "graph 3: output of %s", op);
    mqb_node_id next = only_reader(p, value);
    if (is_layer(op) && next != MQB_NONE && strcmp(p->api->node_op(p->graph, next), "BatchNormalization") == 0 &&
        p->api->input(p->graph, next, 0) == value) {
        length += snprintf(rule + length, size - (size_t)length, " + BatchNormalization");
        value = p->api->output(p->graph, next);
        next = only_reader(p, value);
    }
    if (next != MQB_NONE && is_clamp(p->api->node_op(p->graph, next))) {
        snprintf(rule + length, size - (size_t)length, " + %s", p->api->node_op(p->graph, next));
        value = p->api->output(p->graph, next);
    }
    return value;
}

/* The network's output, or what a mere change of shape makes it. */
static int ends_network(const struct placement *p, mqb_value_id value)
{
    for (;;) {
        mqb_node_id reader = only_reader(p, value);
        if (value == p->api->graph_output(p->graph))
            return 1;
        if (reader == MQB_NONE || strcmp(p->api->node_op(p->graph, reader), "Flatten") != 0)
            return 0;
        value = p->api->output(p->graph, reader);
    }
}

static int has_point(const struct placement *p, mqb_value_id value)
{
    for (int32_t i = 0; i < p->api->num_consumers(p->graph, value); i++) {
        if (is_point(p, p->api->consumer(p->graph, value, i)))
            return 1;
    }
    return 0;
}

static mqb_status add_point(struct placement *p, mqb_value_id value, int role, const char *rule, struct mqb_error *error)
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
        status = api->replace_uses(p->graph, value, api->output(p->graph, node), node, error);
    p->num_edits += status == MQB_OK;
    return status;
}

static mqb_status place_activations(struct placement *p, struct mqb_error *error)
{
    const struct mqb_graph_api *api = p->api;
    mqb_value_id input = api->graph_input(p->graph);
    mqb_status status = MQB_OK;
    if (!has_point(p, input))
        status = add_point(p, input, MQB_ROLE_ACTIVATION, "graph 3: the network's input", error);
    for (int32_t i = 0; i < p->num_nodes && status == MQB_OK; i++) {
        mqb_node_id node = p->nodes[i];
        char rule[128];
        if (!stores_tensor(p, node))
            continue;
        mqb_value_id value = fused_end(p, node, rule, sizeof(rule));
        if (!has_point(p, value) && !ends_network(p, value))
            status = add_point(p, value, MQB_ROLE_ACTIVATION, rule, error);
    }
    return status;
}

static mqb_status place_weights(struct placement *p, struct mqb_error *error)
{
    const struct mqb_graph_api *api = p->api;
    mqb_status status = MQB_OK;
    for (int32_t i = 0; i < p->num_nodes && status == MQB_OK; i++) {
        mqb_node_id node = p->nodes[i];
        mqb_value_id weight = api->input(p->graph, node, 1);
        char rule[128];
        if (!is_layer(api->node_op(p->graph, node)) || is_point(p, api->producer(p->graph, weight)))
            continue;
        snprintf(rule, sizeof(rule), "graph 3: weight of %s", api->node_op(p->graph, node));
        status = add_point(p, weight, MQB_ROLE_WEIGHT, rule, error);
    }
    return status;
}

static mqb_status mark_io(struct placement *p, mqb_node_id node, struct mqb_error *error)
{
    if (!is_point(p, node) || p->api->attr_int(p->graph, node, "io", 0) == 1)
        return MQB_OK;
    p->num_edits++;
    return p->api->set_attr_int(p->graph, node, "io", 1, error);
}

/* The point whose codes reach `value` unchanged, or MQB_NONE. */
static mqb_node_id point_behind(const struct placement *p, mqb_value_id value)
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
static mqb_node_id last_layer(const struct placement *p)
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

static mqb_status mark_ends(struct placement *p, struct mqb_error *error)
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
        if (!is_layer(api->node_op(p->graph, node)))
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

static mqb_status place_graph3_run(const struct mqb_host *host, struct mqb_graph *graph, const struct mqb_options *options,
                                   int32_t *num_edits, struct mqb_error *error)
{
    struct placement p = {.host = host, .api = host->graph, .graph = graph};
    (void)options;
    *num_edits = 0;
    p.num_nodes = host->graph->num_nodes(graph);
    p.nodes = host->allocate(((size_t)p.num_nodes + 1) * sizeof(p.nodes[0]));
    if (!p.nodes)
        return host->fail(error, MQB_ERR_MEMORY, "no memory to list %d nodes", (int)p.num_nodes);
    for (int32_t i = 0; i < p.num_nodes; i++)
        p.nodes[i] = host->graph->node_at(graph, i);
    mqb_status status = place_activations(&p, error);
    if (status == MQB_OK)
        status = place_weights(&p, error);
    if (status == MQB_OK)
        status = mark_ends(&p, error);
    host->deallocate(p.nodes);
    *num_edits = p.num_edits;
    return status;
}

static const struct mqb_pass place_graph3_pass = {
    .struct_size = sizeof(struct mqb_pass),
    .description = "quantization points on every tensor that an integer program stores (graph 3)",
    .run = place_graph3_run,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_PASS_INTERFACE, "place_graph3", &place_graph3_pass},
};

MQB_PLUGIN("pass_place_graph3", "0.1.0", components);
