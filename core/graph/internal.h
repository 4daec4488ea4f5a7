/*
 * internal.h - what the files of this room share. Other rooms use graph.h and the calls of mqbench/graph.h.
 */
#ifndef MQB_GRAPH_INTERNAL_H
#define MQB_GRAPH_INTERNAL_H

#include "graph/graph.h"
#include "graph/op.h"

/* More elements than this in one value (one image's, if batched) is taken for a damaged file. */
#define MQB_MAX_ELEMENTS ((int64_t)1 << 31)

bool mqb_graph_has_node(const struct mqb_graph *graph, mqb_node_id node); /* in range and alive */
bool mqb_graph_has_value(const struct mqb_graph *graph, mqb_value_id value);

/* Number of elements, or -1 if a dimension is not positive or the product exceeds MQB_MAX_ELEMENTS.
 * `dims` are those of a whole tensor, or of one image (without the batch dimension). */
int64_t mqb_dims_count(int32_t rank, const int64_t *dims);

/* Appends without asking whether the name is taken. `data` (mqb_allocate) belongs to the graph also on failure. */
mqb_status mqb_graph_append_value(struct mqb_graph *graph, int kind, const char *name, int32_t rank, const int64_t *dims,
                                  float *data, mqb_value_id *value, struct mqb_error *error);
/* Appends without sorting. */
mqb_status mqb_graph_append_node(struct mqb_graph *graph, const struct mqb_op *op, const char *name, const char *value_name,
                                 const mqb_value_id *inputs, int32_t num_inputs, mqb_node_id *node, struct mqb_error *error);
mqb_status mqb_graph_rename_value(struct mqb_graph *graph, mqb_value_id value, const char *name, struct mqb_error *error);

/* Rebuilds `order`: each node directly before the first that needs it, else by id. Refuses a cycle and changes nothing. */
mqb_status mqb_graph_sort(struct mqb_graph *graph, struct mqb_error *error);
/* Shape of one node's output from its inputs' shapes; the sentence does not name the node. */
mqb_status mqb_graph_infer_node(struct mqb_graph *graph, mqb_node_id node, struct mqb_error *error);
/* uses[node] = true for each node that `value` depends on; `uses` has num_nodes entries, all false before. */
mqb_status mqb_graph_mark_sources(const struct mqb_graph *graph, mqb_value_id value, bool *uses, struct mqb_error *error);

mqb_status mqb_node_set_int(struct mqb_graph *graph, mqb_node_id node, const char *name, int64_t value,
                            struct mqb_error *error);
mqb_status mqb_node_set_real(struct mqb_graph *graph, mqb_node_id node, const char *name, double value,
                             struct mqb_error *error);
mqb_status mqb_node_set_text(struct mqb_graph *graph, mqb_node_id node, const char *name, const char *value,
                             struct mqb_error *error);
void mqb_node_clear_attrs(struct mqb_node *node);
mqb_status mqb_node_copy_attrs(struct mqb_node *target, const struct mqb_node *source, struct mqb_error *error);

#endif
