/* placed.c - reading a graph that passes have put quantization points into. */
#include "quant/placed.h"

#include "graph/op.h"

#include <string.h>

bool mqb_placed_is_point(const struct mqb_node *node)
{
    return strcmp(node->op->name, "FakeQuantize") == 0;
}

bool mqb_placed_is_layer(const struct mqb_node *node)
{
    return strcmp(node->op->name, "Conv") == 0 || strcmp(node->op->name, "Gemm") == 0;
}

bool mqb_placed_carries(const struct mqb_node *node)
{
    static const char *const ops[] = {
        "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Slice", "Pad", "ChannelShuffle", "Relu", "Clip"};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (strcmp(node->op->name, ops[i]) == 0)
            return true;
    return false;
}

mqb_node_id mqb_placed_source(const struct mqb_graph *graph, mqb_value_id value)
{
    for (;;) {
        mqb_node_id id = graph->values[value].producer;
        if (id == MQB_NONE || mqb_placed_is_point(&graph->nodes[id]))
            return id;
        if (!mqb_placed_carries(&graph->nodes[id]))
            return MQB_NONE;
        value = graph->nodes[id].inputs[0];
    }
}

mqb_node_id mqb_placed_only_reader(const struct mqb_graph *graph, mqb_value_id value)
{
    mqb_node_id found = MQB_NONE;
    if (value == graph->output)
        return MQB_NONE;
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        const struct mqb_node *node = &graph->nodes[graph->order[i]];
        for (int32_t j = 0; j < node->num_inputs; j++) {
            if (node->inputs[j] != value)
                continue;
            if (found != MQB_NONE)
                return MQB_NONE;
            found = graph->order[i];
        }
    }
    return found;
}
