/* graph_edit.h - the editing calls, for the table in graph_calls.c; their contract stands in mqbench/graph.h. */
#ifndef MQB_GRAPH_EDIT_H
#define MQB_GRAPH_EDIT_H

#include "graph/internal.h"

mqb_status mqb_graph_add_node(struct mqb_graph *graph, const char *op_name, const char *name, const mqb_value_id *inputs,
                              int32_t num_inputs, mqb_node_id *node, struct mqb_error *error);
mqb_status mqb_graph_add_value(struct mqb_graph *graph, int kind, const char *name, int32_t rank, const int64_t *dims,
                               const float *data, mqb_value_id *value, struct mqb_error *error);
mqb_status mqb_graph_set_input(struct mqb_graph *graph, mqb_node_id id, int32_t index, mqb_value_id value,
                               struct mqb_error *error);
mqb_status mqb_graph_replace_uses(struct mqb_graph *graph, mqb_value_id from, mqb_value_id to, mqb_node_id but,
                                  struct mqb_error *error);
mqb_status mqb_graph_copy_node(struct mqb_graph *graph, mqb_node_id id, const char *op_name, const char *name, mqb_node_id *copy,
                               struct mqb_error *error);
mqb_status mqb_graph_remove_node(struct mqb_graph *graph, mqb_node_id id, struct mqb_error *error);

#endif
