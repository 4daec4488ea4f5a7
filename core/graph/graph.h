/*
 * graph.h - the static graph: values, nodes, attributes; import from and export to ONNX.
 *
 * Shapes are ONNX's (NCHW). dims[0] of a batched value is MQB_BATCH. Every node has exactly one output.
 * `nodes` is kept in topological order; dead nodes and values are flagged, so ids stay valid.
 */
#ifndef MQB_GRAPH_H
#define MQB_GRAPH_H

#include "base/base.h"
#include <mqbench/graph.h>

#define MQB_MAX_INPUTS 16

struct mqb_attr {
    char *name;
    int type; /* 'i', 'f', 's' or 'l' (list of ints) */
    int64_t i;
    double f;
    char *s;
    int64_t *list;
    int32_t list_size;
};

struct mqb_value {
    char *name;
    int32_t kind; /* enum mqb_value_kind */
    mqb_node_id producer;
    int32_t rank;
    int64_t dims[MQB_MAX_RANK]; /* MQB_BATCH first if batched */
    bool batched;               /* depends on the input; else computable from parameters alone (or a whole batch) */
    bool dead;
    float *data;                /* PARAM, STATE, CONST; owned */
};

struct mqb_node {
    char *name;
    const struct mqb_op *op;
    int32_t num_inputs;
    mqb_value_id inputs[MQB_MAX_INPUTS];
    mqb_value_id output;
    struct mqb_attr *attrs;
    int32_t num_attrs;
    bool dead;
    void *point; /* FakeQuantize: the struct mqb_point that the quant room attached; not owned, not cloned */
};

/* The table of operators is handed to the graph, so that this room does not depend on the operators' room. */
struct mqb_op_table {
    const struct mqb_op *const *ops; /* NULL-terminated */
};

struct mqb_graph {
    const struct mqb_op_table *table;
    struct mqb_value *values;
    struct mqb_node *nodes;
    int32_t num_values, values_capacity;
    int32_t num_nodes, nodes_capacity;
    int32_t *order; /* ids of live nodes, topological */
    int32_t num_ordered;
    mqb_value_id input, output;
    char *name;
    char *normalize; /* input normalisation from the file's metadata (key "mqbench.normalize"), or NULL */
};

mqb_status mqb_graph_create(const struct mqb_op_table *table, struct mqb_graph **graph, struct mqb_error *error);
mqb_status mqb_graph_clone(const struct mqb_graph *graph, struct mqb_graph **clone, struct mqb_error *error);
void mqb_graph_destroy(struct mqb_graph *graph); /* NULL allowed */

/* The calls of mqbench/graph.h; also used directly by the engine. */
extern const struct mqb_graph_api mqb_graph_calls;

/* The ends of a graph built by hand: one input, NCHW (or [N, F]) with MQB_BATCH first; one output. */
mqb_status mqb_graph_add_input(struct mqb_graph *graph, const char *name, int32_t rank, const int64_t *dims, mqb_value_id *value,
                               struct mqb_error *error);
mqb_status mqb_graph_set_output(struct mqb_graph *graph, mqb_value_id value, struct mqb_error *error);

mqb_value_id mqb_graph_find_value(const struct mqb_graph *graph, const char *name);
int64_t mqb_value_size(const struct mqb_value *value); /* elements; of one image if batched */
/* List attribute, or NULL. */
const struct mqb_attr *mqb_node_attr(const struct mqb_node *node, const char *name);
mqb_status mqb_node_set_list(struct mqb_graph *graph, mqb_node_id node, const char *name, const int64_t *list, int32_t size,
                             struct mqb_error *error);
/* Sorts topologically, infers all shapes, checks every node; the sentence names node and operator. */
mqb_status mqb_graph_infer(struct mqb_graph *graph, struct mqb_error *error);
/* Removes nodes and values that the output does not depend on. */
void mqb_graph_sweep(struct mqb_graph *graph);
/* Every PARAM, STATE and CONST is finite; the sentence names the tensor and the first bad element. */
mqb_status mqb_graph_check_finite(const struct mqb_graph *graph, struct mqb_error *error);

/* ONNX, opset 7 to 21. `path` is named in errors. Parameters of BatchNormalization become PARAM (gamma, beta) and STATE.
 * Constants are folded into attributes; Identity and Dropout vanish; Reshape-Transpose-Reshape becomes ChannelShuffle;
 * MatMul + Add with constant operands becomes Gemm. */
mqb_status mqb_onnx_import(const char *path, const struct mqb_op_table *table, struct mqb_graph **graph, struct mqb_error *error);
/* FP32 graph, opset 13, dynamic batch dimension, tensors in name order of the graph; bytes depend on the graph alone.
 * FakeQuantize nodes are refused (exporters write them their own way). */
mqb_status mqb_onnx_export(const struct mqb_graph *graph, const char *path, struct mqb_error *error);

/* The codes of one tensor, for files that say how it is quantized: real = scale * (code - zero_point). Arrays are the
 * caller's. */
struct mqb_onnx_codes {
    mqb_value_id value;
    bool is_signed;        /* int8, else uint8; a bias is int32 */
    bool is_bias;
    int32_t low, high;     /* bounds of the codes; an activation gets a clamp where they are narrower than the byte */
    int32_t num_channels;  /* scales, one, or one for each element of dimension 0 */
    const float *scale;
    const int32_t *zero_point;
    const int32_t *codes;  /* parameters: all elements, in ONNX order; NULL: an activation */
};
/* The graph with codes where `tensors` has them, in the form that `flags` says (enum mqb_quantized_onnx). Refuses, by name, a
 * tensor that the form needs and the list has not, and parameters that the file cannot hold. (onnx_quantized.c) */
mqb_status mqb_onnx_export_quantized(const struct mqb_graph *graph, const struct mqb_onnx_codes *tensors, int32_t num_tensors,
                                     uint32_t flags, const char *path, struct mqb_error *error);
/* The name under which such a file holds the codes of an activation (freed by mqb_deallocate); NULL: no memory. */
char *mqb_onnx_codes_name(const struct mqb_graph *graph, mqb_value_id value);

/* Networks that need no file (build.c has the table): "resnet20", "resnet18", "mobilenet_v2", ...; He-normal initialisation from
 * `seed`. An unknown name lists the known ones. */
mqb_status mqb_model_build(const char *name, const struct mqb_op_table *table, int64_t channels, int64_t height, int64_t width,
                           int64_t classes, uint64_t seed, struct mqb_graph **graph, struct mqb_error *error);
const char *const *mqb_model_names(void); /* NULL-terminated */
const char *mqb_model_about(const char *name); /* one line; NULL: unknown */

#endif
