/* graph_equal.h - are two graphs the same network: nodes in order, names, attributes, parameters to the bit? */
#ifndef GRAPH_EQUAL_H
#define GRAPH_EQUAL_H

#include "graph/graph.h"
#include "graph/op.h"

#include <string.h>

static inline const char *values_differ(const struct mqb_value *a, const struct mqb_value *b)
{
    if (strcmp(a->name, b->name) != 0 || a->kind != b->kind || a->rank != b->rank || a->batched != b->batched) {
        return a->name;
    }
    if (memcmp(a->dims, b->dims, (size_t)a->rank * sizeof(a->dims[0])) != 0 || !a->data != !b->data) {
        return a->name;
    }
    return a->data && memcmp(a->data, b->data, (size_t)mqb_value_size(a) * sizeof(float)) != 0 ? a->name : NULL;
}

static inline bool attrs_equal(const struct mqb_attr *a, const struct mqb_attr *b)
{
    return strcmp(a->name, b->name) == 0 && a->type == b->type && a->i == b->i && a->f == b->f && !a->s == !b->s &&
           (!a->s || strcmp(a->s, b->s) == 0) && a->list_size == b->list_size &&
           (a->list_size == 0 || memcmp(a->list, b->list, (size_t)a->list_size * sizeof(a->list[0])) == 0);
}

/* NULL if equal, else the name of what differs first. */
static inline const char *graphs_differ(const struct mqb_graph *a, const struct mqb_graph *b)
{
    if (a->num_ordered != b->num_ordered) {
        return "number of nodes";
    }
    for (int32_t k = 0; k < a->num_ordered; k++) {
        const struct mqb_node *x = &a->nodes[a->order[k]], *y = &b->nodes[b->order[k]];
        if (strcmp(x->name, y->name) != 0 || x->op != y->op || x->num_inputs != y->num_inputs || x->num_attrs != y->num_attrs) {
            return x->name;
        }
        for (int32_t i = 0; i < x->num_attrs; i++) {
            if (!attrs_equal(&x->attrs[i], &y->attrs[i])) {
                return x->attrs[i].name;
            }
        }
        for (int32_t i = -1; i < x->num_inputs; i++) {
            mqb_value_id u = i < 0 ? x->output : x->inputs[i], v = i < 0 ? y->output : y->inputs[i];
            if ((u == MQB_NONE) != (v == MQB_NONE)) {
                return x->name;
            }
            const char *differ = u == MQB_NONE ? NULL : values_differ(&a->values[u], &b->values[v]);
            if (differ) {
                return differ;
            }
        }
    }
    if (strcmp(a->values[a->input].name, b->values[b->input].name) != 0 ||
        strcmp(a->values[a->output].name, b->values[b->output].name) != 0) {
        return "input or output";
    }
    return !a->normalize != !b->normalize || (a->normalize && strcmp(a->normalize, b->normalize) != 0) ? "normalize" : NULL;
}

#endif
