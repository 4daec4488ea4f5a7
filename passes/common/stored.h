/*
 * stored.h - which tensors an integer program stores: the network's input, and the output of each convolution (with its batch
 * norm and clamp), linear layer, addition, multiplication, concatenation and smooth activation. What graph 2 and graph 3 share.
 */
#ifndef PASSES_STORED_H
#define PASSES_STORED_H

#include "placement.h"

static inline int stores_tensor(const struct placement *p, mqb_node_id node)
{
    static const char *const smooth[] = {"HardSwish", "HardSigmoid", "LeakyRelu", "Sigmoid", NULL};
    const char *op = p->api->node_op(p->graph, node);
    if (strcmp(op, "BatchNormalization") == 0)
        return !belongs_to_layer(p, node);
    return is_quantized_layer(p, node) || joins_tensors(op) || named(op, smooth);
}

/* Where the operators fused with `node` end; `rule` says which they are. */
static inline mqb_value_id fused_end(const struct placement *p, mqb_node_id node, char *rule, size_t size)
{
    const char *op = p->api->node_op(p->graph, node);
    mqb_value_id value = p->api->output(p->graph, node);
    int length = snprintf(rule, size, "%s: output of %s", p->title, op);
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
static inline int ends_network(const struct placement *p, mqb_value_id value)
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

/* A point on each of them. skip[i] (NULL: none): the result of p->nodes[i] goes on into another operator and is not stored. */
static inline mqb_status place_stored(struct placement *p, const unsigned char *skip, struct mqb_error *error)
{
    mqb_value_id input = p->api->graph_input(p->graph);
    mqb_status status = MQB_OK;
    char rule[128];
    if (!has_point(p, input)) {
        snprintf(rule, sizeof(rule), "%s: the network's input", p->title);
        status = add_point(p, input, MQB_NONE, 0, MQB_ROLE_ACTIVATION, rule, error);
    }
    for (int32_t i = 0; i < p->num_nodes && status == MQB_OK; i++) {
        if ((skip && skip[i]) || !stores_tensor(p, p->nodes[i]))
            continue;
        mqb_value_id value = fused_end(p, p->nodes[i], rule, sizeof(rule));
        if (!has_point(p, value) && !ends_network(p, value))
            status = add_point(p, value, MQB_NONE, 0, MQB_ROLE_ACTIVATION, rule, error);
    }
    return status;
}

#endif
