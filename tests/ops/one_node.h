/* one_node.h - for tests: a graph of one node, put together by hand, to drive an operator through its descriptor. */
#ifndef ONE_NODE_H
#define ONE_NODE_H

#include "graph/op.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#define MAX_ATTRS 6
#define DIMS(...)                                                                                                              \
    (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[])                                                          \
    {                                                                                                                          \
        __VA_ARGS__                                                                                                            \
    }
#define N MQB_BATCH

struct one_node {
    struct mqb_graph graph;
    struct mqb_value values[MQB_MAX_INPUTS + 1]; /* the last one is the output */
    struct mqb_node node;
    struct mqb_attr attrs[MAX_ATTRS];
    int64_t lists[MAX_ATTRS][4];
    struct mqb_error error;
};

static void one_node_init(struct one_node *t, const char *op)
{
    memset(t, 0, sizeof(*t));
    t->error.struct_size = sizeof(t->error);
    t->graph.table = &mqb_ops;
    t->graph.values = t->values;
    t->graph.nodes = &t->node;
    t->graph.num_values = MQB_MAX_INPUTS + 1;
    t->graph.num_nodes = 1;
    t->node.name = (char *)(uintptr_t) "it";
    t->node.op = mqb_op_find(&mqb_ops, op);
    assert_non_null(t->node.op);
    t->node.attrs = t->attrs;
    t->node.output = MQB_MAX_INPUTS;
    t->values[MQB_MAX_INPUTS].name = (char *)(uintptr_t) "out";
    t->values[MQB_MAX_INPUTS].kind = MQB_VALUE_RESULT;
}

static void one_node_input(struct one_node *t, int kind, size_t rank, const int64_t *dims)
{
    static const char *const names[] = {"in0", "in1", "in2", "in3", "in4", "in5"};
    int32_t index = t->node.num_inputs++;
    struct mqb_value *value = &t->values[index];
    t->node.inputs[index] = index;
    value->name = (char *)(uintptr_t)names[index % 6];
    value->kind = kind;
    value->rank = (int32_t)rank;
    value->batched = rank > 0 && dims[0] == MQB_BATCH;
    for (size_t i = 0; i < rank; i++)
        value->dims[i] = dims[i];
    value->producer = MQB_NONE;
}

static inline void one_node_absent(struct one_node *t)
{
    t->node.inputs[t->node.num_inputs++] = MQB_NONE;
}

static struct mqb_attr *one_node_attr(struct one_node *t, const char *name, int type)
{
    assert_true(t->node.num_attrs < MAX_ATTRS);
    struct mqb_attr *attr = &t->attrs[t->node.num_attrs++];
    attr->name = (char *)(uintptr_t)name;
    attr->type = type;
    return attr;
}

static inline void one_node_int(struct one_node *t, const char *name, int64_t value)
{
    one_node_attr(t, name, 'i')->i = value;
}

static inline void one_node_real(struct one_node *t, const char *name, double value)
{
    one_node_attr(t, name, 'f')->f = value;
}

static inline void one_node_text(struct one_node *t, const char *name, const char *value)
{
    one_node_attr(t, name, 's')->s = (char *)(uintptr_t)value;
}

static inline void one_node_list(struct one_node *t, const char *name, size_t size, const int64_t *list)
{
    struct mqb_attr *attr = one_node_attr(t, name, 'l');
    attr->list = t->lists[t->node.num_attrs - 1];
    attr->list_size = (int32_t)size;
    memcpy(attr->list, list, size * sizeof(*list));
}

static mqb_status one_node_infer(struct one_node *t)
{
    t->error.text[0] = 0;
    return t->node.op->infer(&t->graph, &t->node, &t->values[t->node.output], &t->error);
}

#endif
