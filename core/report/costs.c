/*
 * costs.c - multiply-accumulates of an image, layer by layer. Padding counts as if it were there, as is the custom; additions
 * of biases, pooling and element-wise operators do not count. What no point quantizes is read as 32 bits.
 */
#include "report/costs.h"
#include "quant/placed.h"

#include <string.h>

#define REAL_BITS 32

static int32_t bits_of(const struct mqb_points *points, mqb_node_id node)
{
    const struct mqb_point *point = node == MQB_NONE ? NULL : mqb_points_find(points, node);
    return point != NULL ? point->scheme.bits : REAL_BITS;
}

int64_t mqb_costs_macs(const struct mqb_graph *graph, const struct mqb_node *node)
{
    static const char *const layers[] = {"Conv", "FloatConv", "Gemm", "FloatGemm"};
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++)
        if (strcmp(node->op->name, layers[i]) == 0) {
            const struct mqb_value *weight = &graph->values[node->inputs[1]];
            return mqb_value_size(&graph->values[node->output]) * (mqb_value_size(weight) / weight->dims[0]);
        }
    return 0;
}

mqb_status mqb_costs_count(const struct mqb_graph *placed, const struct mqb_points *points, struct mqb_result *result,
                           struct mqb_error *error)
{
    int num_layers = 0;
    for (int32_t i = 0; i < placed->num_ordered; i++)
        num_layers += mqb_placed_is_layer(&placed->nodes[placed->order[i]]);
    result->costs = mqb_allocate_array((size_t)num_layers + 1, sizeof *result->costs);
    if (result->costs == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the costs of %d layers", num_layers);
    for (int32_t i = 0; i < placed->num_ordered; i++) {
        const struct mqb_node *node = &placed->nodes[placed->order[i]];
        if (!mqb_placed_is_layer(node))
            continue;
        const struct mqb_value *weight = &placed->values[node->inputs[1]];
        mqb_node_id point =
            weight->producer != MQB_NONE && mqb_placed_is_point(&placed->nodes[weight->producer]) ? weight->producer : MQB_NONE;
        struct mqb_layer_cost *cost = &result->costs[result->num_costs++];
        *cost = (struct mqb_layer_cost){
            .name = mqb_strdup(node->name),
            .op = mqb_strdup(node->op->name),
            .weights = mqb_value_size(weight),
            .macs = mqb_costs_macs(placed, node),
            .weight_bits = bits_of(points, point),
            .activation_bits = bits_of(points, mqb_placed_source(placed, node->inputs[0])),
        };
        if (cost->name == NULL || cost->op == NULL)
            return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the costs of layer '%s'", node->name);
    }
    return MQB_OK;
}

void mqb_costs_total(const struct mqb_result *result, int64_t *macs, int64_t *bit_operations)
{
    *macs = *bit_operations = 0;
    for (int i = 0; i < result->num_costs; i++) {
        const struct mqb_layer_cost *cost = &result->costs[i];
        *macs += cost->macs;
        *bit_operations += cost->macs * cost->weight_bits * cost->activation_bits;
    }
}
