/* placed.h - reading a graph that passes have put quantization points into. */
#ifndef MQB_PLACED_H
#define MQB_PLACED_H

#include "graph/graph.h"

bool mqb_placed_is_point(const struct mqb_node *node);
/* A convolution or linear layer that hardware runs. */
bool mqb_placed_is_layer(const struct mqb_node *node);
/* An operator that hands the codes of its input on, with their scale and zero point: pooling, slices, a clamp alone. */
bool mqb_placed_carries(const struct mqb_node *node);
/* The node of the point whose codes reach `value`, through operators that hand them on; MQB_NONE: real numbers do. */
mqb_node_id mqb_placed_source(const struct mqb_graph *graph, mqb_value_id value);
/* The only reader of a value that is not the network's output; MQB_NONE: it is, or has none or several. */
mqb_node_id mqb_placed_only_reader(const struct mqb_graph *graph, mqb_value_id value);

#endif
