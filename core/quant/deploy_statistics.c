/* deploy_statistics.c - the batch statistics of a fold are the running ones from here on; the float layers beside the folded
 * ones, which fed them, have no reader left. */
#include "quant/deploy.h"

#include <string.h>

enum { RUNNING_MEAN = 1, RUNNING_VAR = 2 }; /* inputs of BatchStatistics */

mqb_status mqb_deploy_settle(struct mqb_deployment *deployment, struct mqb_error *error)
{
    struct mqb_graph *graph = deployment->graph;
    bool any = false;
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        mqb_node_id id = graph->order[i];
        const struct mqb_node *row = &graph->nodes[id];
        if (strcmp(row->op->name, "StatisticRow") != 0)
            continue;
        mqb_node_id producer = graph->values[row->inputs[0]].producer;
        const struct mqb_node *statistics = producer == MQB_NONE ? NULL : &graph->nodes[producer];
        if (statistics == NULL || !statistics->op->statistic)
            return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                            "node '%s' (StatisticRow) does not read the statistics of a batch, so there is "
                            "nothing that could stand in its place after training",
                            row->name);
        mqb_value_id running = statistics->inputs[mqb_attr_i(row, "row", 0) == 0 ? RUNNING_MEAN : RUNNING_VAR];
        mqb_status status = mqb_graph_calls.replace_uses(graph, row->output, running, MQB_NONE, error);
        if (status == MQB_OK)
            status = mqb_graph_calls.remove_node(graph, id, error);
        if (status != MQB_OK)
            return status;
        any = true;
        i = -1; /* the order is a new one */
    }
    if (any)
        mqb_graph_sweep(graph);
    return MQB_OK;
}
