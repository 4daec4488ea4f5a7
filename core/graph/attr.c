/* attr.c - attributes of nodes: a name and an integer, a real, a text or a list of integers. */
#include "graph/internal.h"

#include <string.h>

static void attr_release(struct mqb_attr *attr)
{
    mqb_deallocate(attr->name);
    mqb_deallocate(attr->s);
    mqb_deallocate(attr->list);
    memset(attr, 0, sizeof(*attr));
}

void mqb_node_clear_attrs(struct mqb_node *node)
{
    for (int32_t i = 0; i < node->num_attrs; i++) {
        attr_release(&node->attrs[i]);
    }
    mqb_deallocate(node->attrs);
    node->attrs = NULL;
    node->num_attrs = 0;
}

/* Fills `copy` with an own copy of `source`; leaves it empty on failure. */
static mqb_status attr_copy(struct mqb_attr *copy, const struct mqb_attr *source, struct mqb_error *error)
{
    memset(copy, 0, sizeof(*copy));
    copy->type = source->type;
    copy->i = source->i;
    copy->f = source->f;
    copy->list_size = source->list_size;
    copy->name = mqb_strdup(source->name);
    bool complete = copy->name != NULL;
    if (source->s) {
        copy->s = mqb_strdup(source->s);
        complete = complete && copy->s;
    }
    if (source->list_size > 0) {
        copy->list = mqb_allocate_array((size_t)source->list_size, sizeof(*copy->list));
        complete = complete && copy->list;
        if (copy->list) {
            memcpy(copy->list, source->list, (size_t)source->list_size * sizeof(*copy->list));
        }
    }
    if (!complete) {
        attr_release(copy);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for attribute '%s'", source->name);
    }
    return MQB_OK;
}

mqb_status mqb_node_copy_attrs(struct mqb_node *target, const struct mqb_node *source, struct mqb_error *error)
{
    target->attrs = NULL;
    target->num_attrs = 0;
    if (source->num_attrs == 0) {
        return MQB_OK;
    }
    target->attrs = mqb_allocate_array((size_t)source->num_attrs, sizeof(*target->attrs));
    if (!target->attrs) {
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the attributes of node '%s'", source->name);
    }
    for (int32_t i = 0; i < source->num_attrs; i++) {
        mqb_status status = attr_copy(&target->attrs[i], &source->attrs[i], error);
        if (status != MQB_OK) {
            return status;
        }
        target->num_attrs = i + 1;
    }
    return MQB_OK;
}

const struct mqb_attr *mqb_node_attr(const struct mqb_node *node, const char *name)
{
    for (int32_t i = 0; i < node->num_attrs; i++) {
        if (strcmp(node->attrs[i].name, name) == 0) {
            return &node->attrs[i];
        }
    }
    return NULL;
}

/* Replaces the attribute of that name, or adds it; attributes stay sorted by name, so equal graphs have equal lists. */
static mqb_status attr_put(struct mqb_graph *graph, mqb_node_id id, const struct mqb_attr *attr, struct mqb_error *error)
{
    if (!mqb_graph_has_node(graph, id)) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute '%s' is set on node %d, which does not exist", attr->name, (int)id);
    }
    struct mqb_node *node = &graph->nodes[id];
    struct mqb_attr copy;
    mqb_status status = attr_copy(&copy, attr, error);
    if (status != MQB_OK) {
        return status;
    }
    int32_t at = 0;
    while (at < node->num_attrs && strcmp(node->attrs[at].name, attr->name) < 0) {
        at++;
    }
    if (at < node->num_attrs && strcmp(node->attrs[at].name, attr->name) == 0) {
        attr_release(&node->attrs[at]);
        node->attrs[at] = copy;
        return MQB_OK;
    }
    struct mqb_attr *attrs = mqb_allocate_array((size_t)node->num_attrs + 1, sizeof(*attrs));
    if (!attrs) {
        attr_release(&copy);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for attribute '%s' of node '%s'", attr->name, node->name);
    }
    if (node->num_attrs > 0) {
        memcpy(attrs, node->attrs, (size_t)at * sizeof(*attrs));
        memcpy(attrs + at + 1, node->attrs + at, (size_t)(node->num_attrs - at) * sizeof(*attrs));
    }
    attrs[at] = copy;
    mqb_deallocate(node->attrs);
    node->attrs = attrs;
    node->num_attrs++;
    return MQB_OK;
}

mqb_status mqb_node_set_int(struct mqb_graph *graph, mqb_node_id node, const char *name, int64_t value, struct mqb_error *error)
{
    struct mqb_attr attr = {.name = (char *)name, .type = 'i', .i = value};
    return attr_put(graph, node, &attr, error);
}

mqb_status mqb_node_set_real(struct mqb_graph *graph, mqb_node_id node, const char *name, double value, struct mqb_error *error)
{
    struct mqb_attr attr = {.name = (char *)name, .type = 'f', .f = value};
    return attr_put(graph, node, &attr, error);
}

mqb_status mqb_node_set_text(struct mqb_graph *graph, mqb_node_id node, const char *name, const char *value,
                             struct mqb_error *error)
{
    struct mqb_attr attr = {.name = (char *)name, .type = 's', .s = (char *)(value ? value : "")};
    return attr_put(graph, node, &attr, error);
}

mqb_status mqb_node_set_list(struct mqb_graph *graph, mqb_node_id node, const char *name, const int64_t *list, int32_t size,
                             struct mqb_error *error)
{
    if (size < 0) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute '%s' cannot have %d elements", name, (int)size);
    }
    struct mqb_attr attr = {.name = (char *)name, .type = 'l', .list = (int64_t *)list, .list_size = size};
    return attr_put(graph, node, &attr, error);
}

int64_t mqb_attr_i(const struct mqb_node *node, const char *name, int64_t otherwise)
{
    const struct mqb_attr *attr = mqb_node_attr(node, name);
    return attr && attr->type == 'i' ? attr->i : otherwise;
}

double mqb_attr_f(const struct mqb_node *node, const char *name, double otherwise)
{
    const struct mqb_attr *attr = mqb_node_attr(node, name);
    if (!attr) {
        return otherwise;
    }
    return attr->type == 'f' ? attr->f : attr->type == 'i' ? (double)attr->i : otherwise;
}

const char *mqb_attr_s(const struct mqb_node *node, const char *name, const char *otherwise)
{
    const struct mqb_attr *attr = mqb_node_attr(node, name);
    return attr && attr->type == 's' ? attr->s : otherwise;
}

int64_t mqb_attr_li(const struct mqb_node *node, const char *name, int32_t index, int64_t otherwise)
{
    const struct mqb_attr *attr = mqb_node_attr(node, name);
    return attr && attr->type == 'l' && index >= 0 && index < attr->list_size ? attr->list[index] : otherwise;
}
