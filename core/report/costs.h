/* costs.h - what the layers of a network cost: multiply-accumulates and bit operations. */
#ifndef MQB_COSTS_H
#define MQB_COSTS_H

#include "report/report.h"

/* Multiply-accumulates of a node for one image, padding counted; 0 if it is no convolution and no linear layer. */
int64_t mqb_costs_macs(const struct mqb_graph *graph, const struct mqb_node *node);
/* One entry in result->costs for each convolution and linear layer of a graph with points in it, in execution order. */
mqb_status mqb_costs_count(const struct mqb_graph *placed, const struct mqb_points *points, struct mqb_result *result,
                           struct mqb_error *error);
/* Over all layers: multiply-accumulates, and bit operations (each product counts weight bits x activation bits). */
void mqb_costs_total(const struct mqb_result *result, int64_t *macs, int64_t *bit_operations);

#endif
