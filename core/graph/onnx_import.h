/*
 * onnx_import.h - what the files of the importer share.
 *
 * The importer walks the file's nodes in their order. Every name of the file is a symbol: a constant tensor, a value of the
 * graph under construction, another symbol (Identity), or the middle of a channel shuffle. A node whose inputs are all
 * constants is folded; any other is converted, and its shape inferred at once, because later nodes need it.
 * A file is not trusted: each size is checked before it is used, and all memory is charged to a budget made from the file's
 * size.
 */
#ifndef MQB_ONNX_IMPORT_H
#define MQB_ONNX_IMPORT_H

#include "graph/internal.h"

#include "onnx.pb-c.h"

#define MQB_ONNX_MIN_OPSET 7
#define MQB_ONNX_MAX_OPSET 21
/* Stands for the batch size in a constant tensor of shape numbers. */
#define MQB_ONNX_BATCH INT64_MIN

/* ---- a map from text to number (onnx_map.c) ---- */

struct mqb_onnx_map_entry {
    char *key; /* owned; NULL: free */
    int32_t value;
};
struct mqb_onnx_map {
    struct mqb_onnx_map_entry *entries;
    uint32_t num_entries, capacity; /* a power of two */
};
void mqb_onnx_map_deinit(struct mqb_onnx_map *map);
/* The number under `key`, to be read or written until the next call; NULL: no such key. */
int32_t *mqb_onnx_map_find(const struct mqb_onnx_map *map, const char *key);
mqb_status mqb_onnx_map_put(struct mqb_onnx_map *map, const char *key, int32_t value, struct mqb_error *error);

/* ---- the file's bytes (onnx_scan.c) ---- */

/* Walks the wire format once before the parser does: refuses depth, length or number of fields that would hurt it. */
mqb_status mqb_onnx_scan(const uint8_t *data, size_t size, struct mqb_error *error);

/* ---- constant tensors (onnx_tensor.c, onnx_fold.c) ---- */

struct mqb_onnx_tensor {
    int32_t rank;
    int64_t dims[MQB_MAX_RANK];
    int64_t count;
    bool is_int;
    float *reals; /* owned; one of the two, or none if count is 0 */
    int64_t *ints;
};
void mqb_onnx_tensor_deinit(struct mqb_onnx_tensor *tensor);
/* Allocates data for dims; dims may hold zeros. */
mqb_status mqb_onnx_tensor_init(struct mqb_onnx_tensor *tensor, bool is_int, int32_t rank, const int64_t *dims,
                                struct mqb_error *error);
/* Decodes; float16 and double become float, int32 becomes int64. Floats in raw bytes are taken out of `proto`, not copied: they
 * are most of a file. */
mqb_status mqb_onnx_tensor_decode(Onnx__TensorProto *proto, struct mqb_onnx_tensor *tensor, struct mqb_error *error);

struct mqb_importer;
/* The operator can be computed at import if all its inputs are constants. */
bool mqb_onnx_can_fold(const char *op_type);
/* Computes im->node from im->in, all constants (NULL: absent). */
mqb_status mqb_onnx_fold(struct mqb_importer *im, struct mqb_onnx_tensor *result);

/* ---- the importer ---- */

enum mqb_symbol_kind {
    MQB_SYMBOL_UNDEFINED,
    MQB_SYMBOL_PROTO, /* initializer, not decoded yet */
    MQB_SYMBOL_TENSOR,
    MQB_SYMBOL_VALUE,
    MQB_SYMBOL_ALIAS,
    MQB_SYMBOL_SPLIT,   /* `value` reshaped to [N][group][C/group]...: first third of a channel shuffle */
    MQB_SYMBOL_SHUFFLED /* the same, transposed: second third */
};

struct mqb_symbol {
    const char *name; /* the file's */
    enum mqb_symbol_kind kind;
    uint32_t uses; /* by nodes and as output, in the file */
    Onnx__TensorProto *proto;
    struct mqb_onnx_tensor tensor;
    mqb_value_id value;
    mqb_value_id as_param, as_const, as_transposed; /* where this tensor stands in the graph already */
    int32_t alias;
    int32_t rank; /* SPLIT, SHUFFLED: of the reshaped tensor */
    int64_t group;
};

struct mqb_importer {
    const Onnx__GraphProto *file;
    struct mqb_graph *graph;
    struct mqb_error *error;
    int64_t opset;
    int64_t declared_batch; /* the fixed batch size in the file, or 0 */
    struct mqb_symbol *symbols;
    int32_t num_symbols;
    struct mqb_onnx_map symbol_map, value_names, node_names;
    size_t budget; /* bytes that may still be allocated for tensors */
    /* The node at hand. */
    const Onnx__NodeProto *node;
    const char *op_type, *node_name;
    struct mqb_symbol *in[MQB_MAX_INPUTS]; /* aliases followed; NULL: absent */
    int32_t num_in;
    struct mqb_symbol *out;
};

/* Attributes of im->node (onnx_node.c). A missing one gives `otherwise`, one of another type an error. */
const Onnx__AttributeProto *mqb_onnx_attr(const struct mqb_importer *im, const char *name);
mqb_status mqb_onnx_attr_int(struct mqb_importer *im, const char *name, int64_t otherwise, int64_t *value);
mqb_status mqb_onnx_attr_real(struct mqb_importer *im, const char *name, double otherwise, double *value);
mqb_status mqb_onnx_attr_text(struct mqb_importer *im, const char *name, const char *otherwise, char *text, size_t size);
/* A list of exactly `count` numbers in [min, max]. */
mqb_status mqb_onnx_attr_list(struct mqb_importer *im, const char *name, int32_t count, int64_t otherwise, int64_t min,
                              int64_t max, int64_t *values);
/* A list of any length, or NULL if absent. */
mqb_status mqb_onnx_attr_ints(struct mqb_importer *im, const char *name, const int64_t **values, int64_t *count);
/* The same, from constant input `index` if there is one, else from attribute `name` (NULL: none). */
mqb_status mqb_onnx_in_ints(struct mqb_importer *im, int32_t index, const char *name, const int64_t **values, int64_t *count);

/* Inputs of im->node. */
bool mqb_onnx_in_is_tensor(const struct mqb_importer *im, int32_t index);
mqb_status mqb_onnx_in_value(struct mqb_importer *im, int32_t index, mqb_value_id *value);
mqb_status mqb_onnx_in_value_rank(struct mqb_importer *im, int32_t index, int32_t rank, mqb_value_id *value);
mqb_status mqb_onnx_in_tensor(struct mqb_importer *im, int32_t index, const struct mqb_onnx_tensor **tensor);
mqb_status mqb_onnx_in_reals(struct mqb_importer *im, int32_t index, const struct mqb_onnx_tensor **tensor);
mqb_status mqb_onnx_in_scalar(struct mqb_importer *im, int32_t index, double otherwise, double *value);
mqb_status mqb_onnx_symbol_decode(struct mqb_importer *im, struct mqb_symbol *symbol);

/* Constant input `index` as a value of the graph. PARAM and CONST are shared between nodes as in the file; STATE never is. */
mqb_status mqb_onnx_in_param(struct mqb_importer *im, int32_t index, int kind, mqb_value_id *value);
/* A value made from `data` (given away), named after `name`. */
mqb_status mqb_onnx_new_param(struct mqb_importer *im, int kind, const char *name, int32_t rank, const int64_t *dims,
                              float *data, mqb_value_id *value);
mqb_status mqb_onnx_charge(struct mqb_importer *im, int64_t count, size_t size);

/* Appends a node; with NULL names it bears those of im->node and becomes its output symbol. */
mqb_status mqb_onnx_emit(struct mqb_importer *im, const char *op, const char *name, const char *value_name,
                         const mqb_value_id *inputs, int32_t num_inputs, mqb_node_id *node);
/* Infers the shape of the emitted node, once its attributes stand. */
mqb_status mqb_onnx_settle(struct mqb_importer *im, mqb_node_id node);
/* The output symbol is the same as input 0. */
mqb_status mqb_onnx_pass(struct mqb_importer *im);
/* Gives a value the name of im->node's output, and makes it that output. */
mqb_status mqb_onnx_take_over(struct mqb_importer *im, mqb_value_id value);
mqb_status mqb_onnx_name_value(struct mqb_importer *im, mqb_value_id value, const char *name);

/* Conversions, one an operator (onnx_layers.c, onnx_linear.c, onnx_shapes.c). */
typedef mqb_status (*mqb_onnx_convert)(struct mqb_importer *im);
mqb_status mqb_onnx_conv(struct mqb_importer *im);
mqb_status mqb_onnx_batch_norm(struct mqb_importer *im);
mqb_status mqb_onnx_max_pool(struct mqb_importer *im);
mqb_status mqb_onnx_average_pool(struct mqb_importer *im);
mqb_status mqb_onnx_plain(struct mqb_importer *im);
mqb_status mqb_onnx_clip(struct mqb_importer *im);
mqb_status mqb_onnx_hard_sigmoid(struct mqb_importer *im);
mqb_status mqb_onnx_leaky_relu(struct mqb_importer *im);
mqb_status mqb_onnx_add(struct mqb_importer *im);
mqb_status mqb_onnx_mul(struct mqb_importer *im);
mqb_status mqb_onnx_gemm(struct mqb_importer *im);
mqb_status mqb_onnx_matmul(struct mqb_importer *im);
mqb_status mqb_onnx_flatten(struct mqb_importer *im);
mqb_status mqb_onnx_reshape(struct mqb_importer *im);
mqb_status mqb_onnx_transpose(struct mqb_importer *im);
mqb_status mqb_onnx_squeeze(struct mqb_importer *im);
mqb_status mqb_onnx_reduce_mean(struct mqb_importer *im);
mqb_status mqb_onnx_slice(struct mqb_importer *im);
mqb_status mqb_onnx_pad(struct mqb_importer *im);
mqb_status mqb_onnx_concat(struct mqb_importer *im);
mqb_status mqb_onnx_shape(struct mqb_importer *im);
mqb_status mqb_onnx_cast(struct mqb_importer *im);

#endif
