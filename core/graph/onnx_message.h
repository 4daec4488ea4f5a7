/*
 * onnx_message.h - an ONNX file in the making: nodes, initializers, and the memory they live in. Room-internal.
 *
 * Calls that find no memory set `failed` and return NULL or an empty name; NULL is taken wherever a node is, so a writer asks
 * once, at its end.
 */
#ifndef MQB_ONNX_MESSAGE_H
#define MQB_ONNX_MESSAGE_H

#include "graph/internal.h"

#include "onnx.pb-c.h"

struct mqb_message_block;

struct mqb_message {
    const struct mqb_graph *graph;
    struct mqb_error *error;
    struct mqb_message_block *blocks; /* everything that the message points to and the graph does not own */
    bool failed;                      /* some allocation failed, or `error` holds a sentence */
    bool microsoft;                   /* operators of com.microsoft occur */
    Onnx__NodeProto **nodes;
    size_t num_nodes, nodes_capacity;
    Onnx__TensorProto **tensors;
    size_t num_tensors, tensors_capacity;
    /* By value: the name under which nodes read and write it, where that is not its own. NULL: nowhere. A parameter that is
     * read under another name is not written as floats. */
    const char **read_as, **write_as;
};

void *mqb_message_take(struct mqb_message *m, size_t size); /* zeroed */
char *mqb_message_take_text(struct mqb_message *m, const char *first, const char *second);

Onnx__NodeProto *mqb_message_add_node(struct mqb_message *m, const char *op_type, const char *name, const char *output);
void mqb_message_add_input(Onnx__NodeProto *node, const char *name);
void mqb_message_add_int(struct mqb_message *m, Onnx__NodeProto *node, const char *name, int64_t value);
void mqb_message_add_real(struct mqb_message *m, Onnx__NodeProto *node, const char *name, double value);
void mqb_message_add_ints(struct mqb_message *m, Onnx__NodeProto *node, const char *name, const int64_t *values, size_t count);
void mqb_message_add_text(struct mqb_message *m, Onnx__NodeProto *node, const char *name, const char *text);
/* The list attribute of the node as it stands, or `count` times `otherwise`. */
void mqb_message_copy_ints(struct mqb_message *m, Onnx__NodeProto *target, const struct mqb_node *node, const char *name,
                           int32_t count, int64_t otherwise);

/* An initializer around `data`, which must outlive the message. Returns its name. */
const char *mqb_message_add_tensor(struct mqb_message *m, const char *name, int32_t type, size_t rank, const int64_t *dims,
                                   const void *data, size_t size);
/* base + tail, made unique among all names of the graph by underscores. */
const char *mqb_message_helper_name(struct mqb_message *m, const char *base, const char *tail);
const char *mqb_message_helper_ints(struct mqb_message *m, const char *base, const char *tail, const int64_t *values,
                                    size_t count);
const char *mqb_message_helper_scalar(struct mqb_message *m, const char *base, const char *tail, double value);

const char *mqb_message_read_name(const struct mqb_message *m, mqb_value_id value);
const char *mqb_message_write_name(const struct mqb_message *m, mqb_value_id value);

/* Parameters that nodes read, the graph's ends, and the file. */
mqb_status mqb_message_finish(struct mqb_message *m, const char *path);
void mqb_message_destroy(struct mqb_message *m);

/* onnx_export.c: the node as float operators. */
mqb_status mqb_onnx_write_node(struct mqb_message *m, const struct mqb_node *node);
/* onnx_export.c: a window's attributes as the node has them. */
void mqb_onnx_write_conv_attrs(struct mqb_message *m, Onnx__NodeProto *target, const struct mqb_node *node);
void mqb_onnx_write_pool_attrs(struct mqb_message *m, Onnx__NodeProto *target, const struct mqb_node *node);

#endif
