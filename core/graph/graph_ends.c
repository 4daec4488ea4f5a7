/* graph_ends.c - the two ends of a graph that is built by hand. */
#include "graph/internal.h"

mqb_status mqb_graph_add_input(struct mqb_graph *graph, const char *name, int32_t rank, const int64_t *dims, mqb_value_id *value,
                               struct mqb_error *error)
{
    if (graph->input != MQB_NONE)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "input '%s': the graph has one already", name);
    if (rank < 2 || rank > MQB_MAX_RANK || dims[0] != MQB_BATCH || mqb_dims_count(rank - 1, dims + 1) < 0)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "input '%s': expected rank 2 to %d, the batch first, the rest positive", name, MQB_MAX_RANK);
    mqb_status status = mqb_graph_append_value(graph, MQB_VALUE_INPUT, name, rank, dims, NULL, value, error);
    if (status == MQB_OK)
        graph->input = *value;
    return status;
}

mqb_status mqb_graph_set_output(struct mqb_graph *graph, mqb_value_id value, struct mqb_error *error)
{
    if (!mqb_graph_has_value(graph, value))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "output: the graph has no value %d", value);
    graph->output = value;
    return MQB_OK;
}
