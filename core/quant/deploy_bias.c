/*
 * deploy_bias.c - biases that 32 bits cannot hold. A bias is an integer in steps of s_x * s_w[c], and the weights of a channel
 * that batch norm has all but switched off have a scale so small that its bias is billions of steps. Such a channel gets the
 * scale at which its bias is 2^30 steps, and its weights are rounded anew: what they lose is far below one step of anything
 * they are added to, because all of them together are a millionth of the bias.
 */
#include "quant/deploy.h"

#include <math.h>
#include <string.h>

#define MOST_STEPS 1073741824.0 /* leaves as much for the sum of products */

static bool carries_codes(const struct mqb_node *node)
{
    static const char *const ops[] = {
        "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Slice", "Pad", "ChannelShuffle", "Relu", "Clip", NULL};
    int i = 0;
    while (ops[i] && strcmp(ops[i], node->op->name) != 0)
        i++;
    return ops[i] != NULL;
}

/* Scale of the codes that input 0 of the node is read in; 0: not known. */
static float input_scale(const struct mqb_deploy *deploy, mqb_node_id id)
{
    const struct mqb_graph *graph = deploy->graph;
    for (mqb_value_id value = graph->nodes[id].inputs[0];;) {
        const struct mqb_frozen *frozen = mqb_deploy_find_input(deploy, value, id);
        if (frozen)
            return frozen->scale[0];
        id = graph->values[value].producer;
        if (id == MQB_NONE || !carries_codes(&graph->nodes[id]))
            return 0.0f;
        value = graph->nodes[id].inputs[0];
    }
}

static void widen_channel(struct mqb_frozen *weight, float *grid, int32_t channel, float scale)
{
    int64_t size = weight->num_codes / weight->num_channels, first = channel * size;
    int32_t zero = weight->zero_point[channel];
    double ratio = (double)weight->scale[channel] / scale;
    for (int64_t i = first; i < first + size; i++) {
        double code = rint((weight->codes[i] - zero) * ratio) + zero;
        weight->codes[i] = code < weight->qmin ? weight->qmin : code > weight->qmax ? weight->qmax : (int32_t)code;
        if (grid)
            grid[i] = scale * (float)(weight->codes[i] - zero);
    }
    weight->scale[channel] = scale;
}

void mqb_deploy_fit_biases(struct mqb_deployment *deployment)
{
    struct mqb_graph *graph = deployment->graph;
    for (int32_t k = 0; k < graph->num_ordered; k++) {
        const struct mqb_node *node = &graph->nodes[graph->order[k]];
        bool layer = strcmp(node->op->name, "Conv") == 0 || strcmp(node->op->name, "Gemm") == 0;
        if (!layer || node->num_inputs < 3 || node->inputs[2] == MQB_NONE)
            continue;
        struct mqb_frozen *weight = mqb_deploy_frozen(deployment, node->inputs[1]);
        const struct mqb_value *bias = &graph->values[node->inputs[2]];
        float s_x = input_scale(deployment->deploy, graph->order[k]);
        if (!weight || !weight->codes || weight->num_channels < 2 || weight->scheme.pot_scale || !bias->data || !(s_x > 0.0f) ||
            mqb_value_size(bias) != weight->num_channels)
            continue;
        for (int32_t c = 0; c < weight->num_channels; c++) {
            double least = fabs((double)bias->data[c]) / (MOST_STEPS * (double)s_x);
            if (isfinite(least) && (double)weight->scale[c] < least)
                widen_channel(weight, graph->values[weight->value].data, c, nextafterf((float)least, INFINITY));
        }
    }
}
