/*
 * mqbench/graph.h - graph passes, and the calls by which they read and edit a graph.
 *
 * Nodes and values are named by small integers that stay valid for the whole run of a pass (a removed node's id is not
 * used again); MQB_NONE means "no such node/value/input". Shapes are those of ONNX (NCHW; the batch dimension is
 * MQB_BATCH) whatever the layout in memory. Nodes are kept in topological order; new nodes are put where they must be.
 */
#ifndef MQBENCH_GRAPH_H
#define MQBENCH_GRAPH_H

#include <mqbench/host.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MQB_NONE (-1)
#define MQB_BATCH (-1)
#define MQB_MAX_RANK 6

typedef int32_t mqb_node_id;
typedef int32_t mqb_value_id;

enum mqb_value_kind {
    MQB_VALUE_INPUT = 0,  /* the network's input */
    MQB_VALUE_PARAM = 1,  /* trained: weights, biases, gamma, beta */
    MQB_VALUE_STATE = 2,  /* kept, not trained by gradient: running mean and variance */
    MQB_VALUE_CONST = 3,  /* fixed numbers */
    MQB_VALUE_RESULT = 4  /* computed by a node */
};

/* Operators that passes meet: ONNX's own names (Conv, Gemm, Relu, Clip, Add, BatchNormalization, MaxPool, ...), and
 *   FakeQuantize(x) -> y            a quantization point. attributes: role (enum mqb_role), io (1: first or last layer,
 *                                   8 bit unless asked otherwise), rule (text: why it stands here)
 *   A Conv or Gemm with attribute float = 1 serves training alone (batch statistics): passes put no points on it.
 *   BatchScale(gamma, var) -> sf    gamma / sqrt(var + epsilon); attribute epsilon
 *   ScaleChannels(w, sf) -> w'      multiplies output channel c of a weight by sf[c]
 *   FoldedBias(beta, mean, sf [, bias]) -> b'   beta + (bias - mean) * sf
 *   BatchStatistics(o, running mean, running variance) -> s   [3][C]: mean, biased variance and running variance of o, a batched
 *                                   value. In training the batch's, and the running ones move first (attribute momentum);
 *                                   otherwise the running ones, and o is not computed. What is computed from s runs between
 *                                   the images' passes.
 *   StatisticRow(s) -> v            row 0 to 2 of them (attribute row); row 2 carries no gradient
 *   FloatConv, FloatGemm            Conv and Gemm that no pass quantizes: they feed BatchStatistics alone
 *   BatchNormalization with a sixth input, `divisor`: normalizes x / divisor[c] instead of x. With mean and variance that are
 *                                   StatisticRows it uses these in training too, and a seventh input, the variance that the
 *                                   divisor gamma / sigma is made of, makes it right where gamma is 0
 */
struct mqb_graph_api {
    uint32_t struct_size;
    uint32_t reserved;

    /* Reading. Strings live as long as the node or value. */
    int32_t (*num_nodes)(const struct mqb_graph *graph);
    mqb_node_id (*node_at)(const struct mqb_graph *graph, int32_t position); /* topological order */
    const char *(*node_op)(const struct mqb_graph *graph, mqb_node_id node);
    const char *(*node_name)(const struct mqb_graph *graph, mqb_node_id node);
    int32_t (*num_inputs)(const struct mqb_graph *graph, mqb_node_id node);
    mqb_value_id (*input)(const struct mqb_graph *graph, mqb_node_id node, int32_t index); /* MQB_NONE if absent */
    mqb_value_id (*output)(const struct mqb_graph *graph, mqb_node_id node);               /* every node has one */
    const char *(*value_name)(const struct mqb_graph *graph, mqb_value_id value);
    int (*value_kind)(const struct mqb_graph *graph, mqb_value_id value);
    int32_t (*value_shape)(const struct mqb_graph *graph, mqb_value_id value, int64_t dims[MQB_MAX_RANK]); /* returns the rank */
    mqb_node_id (*producer)(const struct mqb_graph *graph, mqb_value_id value); /* MQB_NONE unless RESULT */
    int32_t (*num_consumers)(const struct mqb_graph *graph, mqb_value_id value);
    mqb_node_id (*consumer)(const struct mqb_graph *graph, mqb_value_id value, int32_t index); /* topological order */
    mqb_value_id (*graph_input)(const struct mqb_graph *graph);
    mqb_value_id (*graph_output)(const struct mqb_graph *graph);
    /* Numbers of a PARAM, STATE or CONST, row-major; NULL for others. Writable. */
    float *(*value_data)(struct mqb_graph *graph, mqb_value_id value);
    int64_t (*attr_int)(const struct mqb_graph *graph, mqb_node_id node, const char *name, int64_t otherwise);
    double (*attr_real)(const struct mqb_graph *graph, mqb_node_id node, const char *name, double otherwise);
    const char *(*attr_text)(const struct mqb_graph *graph, mqb_node_id node, const char *name, const char *otherwise);

    /* Editing. Each call leaves a legal graph or changes nothing. */
    mqb_status (*set_attr_int)(struct mqb_graph *graph, mqb_node_id node, const char *name, int64_t value, struct mqb_error *error);
    mqb_status (*set_attr_real)(struct mqb_graph *graph, mqb_node_id node, const char *name, double value, struct mqb_error *error);
    mqb_status (*set_attr_text)(struct mqb_graph *graph, mqb_node_id node, const char *name, const char *value,
                                struct mqb_error *error);
    /* Adds a node whose inputs exist (MQB_NONE for an absent optional one); its output value is named `name`, made unique
     * with a suffix if taken. Attributes are set afterwards, before shapes are asked for: infer() is called by the host
     * when the pass ends, and by set_input. */
    mqb_status (*add_node)(struct mqb_graph *graph, const char *op, const char *name, const mqb_value_id *inputs,
                           int32_t num_inputs, mqb_node_id *node, struct mqb_error *error);
    mqb_status (*add_value)(struct mqb_graph *graph, int kind, const char *name, int32_t rank, const int64_t *dims,
                            const float *data, mqb_value_id *value, struct mqb_error *error);
    /* Appends the input if index == num_inputs. Refuses what would make a cycle. */
    mqb_status (*set_input)(struct mqb_graph *graph, mqb_node_id node, int32_t index, mqb_value_id value, struct mqb_error *error);
    /* Every consumer of `from` except node `but` (MQB_NONE: no exception), and the graph's output, reads `to` instead. */
    mqb_status (*replace_uses)(struct mqb_graph *graph, mqb_value_id from, mqb_value_id to, mqb_node_id but,
                               struct mqb_error *error);
    /* Removes a node whose output nobody reads. */
    mqb_status (*remove_node)(struct mqb_graph *graph, mqb_node_id node, struct mqb_error *error);
    /* A node of operator `op` with the inputs and attributes of `node`; its output is named as by add_node. */
    mqb_status (*copy_node)(struct mqb_graph *graph, mqb_node_id node, const char *op, const char *name, mqb_node_id *copy,
                            struct mqb_error *error);
};

struct mqb_pass {
    uint32_t struct_size;
    uint32_t reserved;
    const char *description;
    const struct mqb_option_spec *options;
    uint32_t num_options;
    uint32_t reserved2;
    /* Rewrites the graph through host->graph. On error the host drops its copy, so a failed pass changes nothing.
     * Deterministic; a second run makes no edits. num_edits: how much was changed. */
    mqb_status (*run)(const struct mqb_host *host, struct mqb_graph *graph, const struct mqb_options *options,
                      int32_t *num_edits, struct mqb_error *error);
};

#ifdef __cplusplus
}
#endif
#endif
