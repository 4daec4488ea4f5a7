/* onnx_message.c - the parts of an ONNX file and their memory. */
#include "graph/onnx_message.h"

#include <stdlib.h>
#include <string.h>

#define OPSET 13
#define MICROSOFT_OPSET 1
#define IR_VERSION 7
#define MAX_ATTRS 8
#define MAX_INPUTS (3 * MQB_MAX_INPUTS + 2) /* QLinearConcat: three for each input, two for the output */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw data of ONNX files is little-endian; this writer copies it");

struct mqb_message_block {
    struct mqb_message_block *next;
    max_align_t data[];
};

/* ---- memory ---- */

void *mqb_message_take(struct mqb_message *m, size_t size)
{
    struct mqb_message_block *block = mqb_allocate(sizeof(*block) + size);
    if (!block) {
        m->failed = true;
        return NULL;
    }
    block->next = m->blocks;
    m->blocks = block;
    return block->data;
}

char *mqb_message_take_text(struct mqb_message *m, const char *first, const char *second)
{
    size_t size = strlen(first) + strlen(second) + 1;
    char *text = mqb_message_take(m, size);
    if (text) {
        snprintf(text, size, "%s%s", first, second);
    }
    return text;
}

static bool grow(struct mqb_message *m, void ***list, size_t num, size_t *capacity)
{
    if (num < *capacity) {
        return true;
    }
    size_t wanted = 2 * num + 64;
    void **grown = mqb_message_take(m, wanted * sizeof(*grown));
    if (grown && num > 0) {
        memcpy(grown, *list, num * sizeof(*grown));
    }
    *list = grown ? grown : *list;
    *capacity = grown ? wanted : *capacity;
    return grown != NULL;
}

/* ---- parts of a message ---- */

Onnx__NodeProto *mqb_message_add_node(struct mqb_message *m, const char *op_type, const char *name, const char *output)
{
    Onnx__NodeProto *node = mqb_message_take(m, sizeof(*node));
    char **outputs = mqb_message_take(m, sizeof(*outputs));
    if (!node || !outputs || !grow(m, (void ***)&m->nodes, m->num_nodes, &m->nodes_capacity)) {
        m->failed = true;
        return NULL;
    }
    onnx__node_proto__init(node);
    outputs[0] = (char *)output;
    node->op_type = (char *)op_type;
    node->name = (char *)name;
    node->output = outputs;
    node->n_output = 1;
    node->input = mqb_message_take(m, MAX_INPUTS * sizeof(*node->input));
    node->attribute = mqb_message_take(m, MAX_ATTRS * sizeof(*node->attribute));
    if (!node->input || !node->attribute) {
        return NULL;
    }
    m->nodes[m->num_nodes++] = node;
    return node;
}

void mqb_message_add_input(Onnx__NodeProto *node, const char *name)
{
    if (node) {
        node->input[node->n_input++] = (char *)name;
    }
}

static Onnx__AttributeProto *add_attr(struct mqb_message *m, Onnx__NodeProto *node, const char *name,
                                      Onnx__AttributeProto__AttributeType type)
{
    Onnx__AttributeProto *attr = node ? mqb_message_take(m, sizeof(*attr)) : NULL;
    if (attr) {
        onnx__attribute_proto__init(attr);
        attr->name = (char *)name;
        attr->has_type = 1;
        attr->type = type;
        node->attribute[node->n_attribute++] = attr;
    }
    return attr;
}

void mqb_message_add_int(struct mqb_message *m, Onnx__NodeProto *node, const char *name, int64_t value)
{
    Onnx__AttributeProto *attr = add_attr(m, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (attr) {
        attr->has_i = 1;
        attr->i = value;
    }
}

void mqb_message_add_real(struct mqb_message *m, Onnx__NodeProto *node, const char *name, double value)
{
    Onnx__AttributeProto *attr = add_attr(m, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    if (attr) {
        attr->has_f = 1;
        attr->f = (float)value;
    }
}

void mqb_message_add_text(struct mqb_message *m, Onnx__NodeProto *node, const char *name, const char *text)
{
    Onnx__AttributeProto *attr = add_attr(m, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
    if (attr) {
        attr->has_s = 1;
        attr->s.data = (uint8_t *)(uintptr_t)text;
        attr->s.len = strlen(text);
    }
}

void mqb_message_add_ints(struct mqb_message *m, Onnx__NodeProto *node, const char *name, const int64_t *values, size_t count)
{
    Onnx__AttributeProto *attr = add_attr(m, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    int64_t *copy = attr ? mqb_message_take(m, count * sizeof(*copy)) : NULL;
    if (copy) {
        memcpy(copy, values, count * sizeof(*copy));
        attr->ints = copy;
        attr->n_ints = count;
    }
}

void mqb_message_copy_ints(struct mqb_message *m, Onnx__NodeProto *target, const struct mqb_node *node, const char *name,
                           int32_t count, int64_t otherwise)
{
    int64_t values[4];
    for (int32_t i = 0; i < count; i++) {
        values[i] = mqb_attr_li(node, name, i, otherwise);
    }
    mqb_message_add_ints(m, target, name, values, (size_t)count);
}

const char *mqb_message_add_tensor(struct mqb_message *m, const char *name, int32_t type, size_t rank, const int64_t *dims,
                                   const void *data, size_t size)
{
    Onnx__TensorProto *tensor = mqb_message_take(m, sizeof(*tensor));
    int64_t *copy = rank ? mqb_message_take(m, rank * sizeof(*copy)) : NULL;
    if (!tensor || (rank && !copy) || !grow(m, (void ***)&m->tensors, m->num_tensors, &m->tensors_capacity)) {
        m->failed = true;
        return name;
    }
    onnx__tensor_proto__init(tensor);
    for (size_t i = 0; i < rank; i++) {
        copy[i] = dims[i];
    }
    tensor->name = (char *)name;
    tensor->dims = copy;
    tensor->n_dims = rank;
    tensor->has_data_type = 1;
    tensor->data_type = type;
    tensor->has_raw_data = 1;
    tensor->raw_data.data = (uint8_t *)(uintptr_t)data;
    tensor->raw_data.len = size;
    m->tensors[m->num_tensors++] = tensor;
    return name;
}

const char *mqb_message_helper_name(struct mqb_message *m, const char *base, const char *tail)
{
    char *name = mqb_message_take_text(m, base, tail);
    while (name && mqb_graph_find_value(m->graph, name) != MQB_NONE) {
        name = mqb_message_take_text(m, name, "_");
    }
    return name ? name : "";
}

const char *mqb_message_helper_ints(struct mqb_message *m, const char *base, const char *tail, const int64_t *values,
                                    size_t count)
{
    int64_t *copy = mqb_message_take(m, count * sizeof(*copy)), dim = (int64_t)count;
    if (copy) {
        memcpy(copy, values, count * sizeof(*copy));
    }
    return mqb_message_add_tensor(m, mqb_message_helper_name(m, base, tail), ONNX__TENSOR_PROTO__DATA_TYPE__INT64, 1, &dim,
                                  copy, count * sizeof(*copy));
}

const char *mqb_message_helper_scalar(struct mqb_message *m, const char *base, const char *tail, double value)
{
    float *copy = mqb_message_take(m, sizeof(*copy));
    if (copy) {
        *copy = (float)value;
    }
    return mqb_message_add_tensor(m, mqb_message_helper_name(m, base, tail), ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, 0, NULL,
                                  copy, sizeof(*copy));
}

/* ---- names ---- */

const char *mqb_message_read_name(const struct mqb_message *m, mqb_value_id value)
{
    return m->read_as && m->read_as[value] ? m->read_as[value] : m->graph->values[value].name;
}

const char *mqb_message_write_name(const struct mqb_message *m, mqb_value_id value)
{
    return m->write_as && m->write_as[value] ? m->write_as[value] : m->graph->values[value].name;
}

/* ---- the frame ---- */

static Onnx__ValueInfoProto *make_info(struct mqb_message *m, const struct mqb_value *value)
{
    Onnx__ValueInfoProto *info = mqb_message_take(m, sizeof(*info));
    Onnx__TypeProto *type = mqb_message_take(m, sizeof(*type));
    Onnx__TypeProto__Tensor *tensor = mqb_message_take(m, sizeof(*tensor));
    Onnx__TensorShapeProto *shape = mqb_message_take(m, sizeof(*shape));
    if (!info || !type || !tensor || !shape) {
        return NULL;
    }
    onnx__value_info_proto__init(info);
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(tensor);
    onnx__tensor_shape_proto__init(shape);
    info->name = value->name;
    info->type = type;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    tensor->has_elem_type = 1;
    tensor->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor->shape = shape;
    shape->dim = mqb_message_take(m, MQB_MAX_RANK * sizeof(*shape->dim));
    for (int32_t i = 0; shape->dim && i < value->rank; i++) {
        Onnx__TensorShapeProto__Dimension *dim = mqb_message_take(m, sizeof(*dim));
        if (!dim) {
            return NULL;
        }
        onnx__tensor_shape_proto__dimension__init(dim);
        if (value->dims[i] == MQB_BATCH) {
            dim->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            dim->dim_param = (char *)(uintptr_t) "N";
        } else {
            dim->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            dim->dim_value = value->dims[i];
        }
        shape->dim[shape->n_dim++] = dim;
    }
    return info;
}

static int compare_tensors(const void *a, const void *b)
{
    return strcmp((*(Onnx__TensorProto *const *)a)->name, (*(Onnx__TensorProto *const *)b)->name);
}

static void add_values(struct mqb_message *m)
{
    bool *used = mqb_allocate_array((size_t)m->graph->num_values, sizeof(*used));
    if (!used) {
        m->failed = true;
        return;
    }
    for (int32_t k = 0; k < m->graph->num_ordered; k++) {
        const struct mqb_node *node = &m->graph->nodes[m->graph->order[k]];
        for (int32_t i = 0; i < node->num_inputs; i++) {
            if (node->inputs[i] != MQB_NONE) {
                used[node->inputs[i]] = true;
            }
        }
    }
    for (int32_t i = 0; i < m->graph->num_values; i++) {
        const struct mqb_value *value = &m->graph->values[i];
        bool renamed = m->read_as && m->read_as[i];
        if (used[i] && !renamed && !value->dead && value->data) {
            mqb_message_add_tensor(m, value->name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, (size_t)value->rank, value->dims,
                                   value->data, (size_t)mqb_value_size(value) * sizeof(float));
        }
    }
    mqb_deallocate(used);
}

static mqb_status pack(struct mqb_message *m, Onnx__GraphProto *graph, const char *path)
{
    Onnx__ModelProto model;
    Onnx__OperatorSetIdProto opset, microsoft, *opsets[2] = {&opset, &microsoft};
    Onnx__StringStringEntryProto entry, *entries[1] = {&entry};
    onnx__model_proto__init(&model);
    onnx__operator_set_id_proto__init(&opset);
    onnx__operator_set_id_proto__init(&microsoft);
    onnx__string_string_entry_proto__init(&entry);
    model.has_ir_version = 1;
    model.ir_version = IR_VERSION;
    model.producer_name = (char *)(uintptr_t) "mqbench";
    model.graph = graph;
    opset.domain = (char *)(uintptr_t) "";
    opset.has_version = 1;
    opset.version = OPSET;
    microsoft.domain = (char *)(uintptr_t) "com.microsoft";
    microsoft.has_version = 1;
    microsoft.version = MICROSOFT_OPSET;
    model.opset_import = opsets;
    model.n_opset_import = m->microsoft ? 2 : 1;
    if (m->graph->normalize) {
        entry.key = (char *)(uintptr_t) "mqbench.normalize";
        entry.value = m->graph->normalize;
        model.metadata_props = entries;
        model.n_metadata_props = 1;
    }
    size_t size = onnx__model_proto__get_packed_size(&model);
    if (size > INT32_MAX) {
        return mqb_fail(m->error, MQB_ERR_UNSUPPORTED,
                        "%.200s: the network would be %zu bytes; a protobuf file holds at most 2 GiB", path, size);
    }
    uint8_t *data = mqb_allocate(size);
    if (!data) {
        return mqb_fail(m->error, MQB_ERR_MEMORY, "%.200s: no memory for a file of %zu bytes", path, size);
    }
    onnx__model_proto__pack(&model, data);
    mqb_status status = mqb_file_write(path, data, size, m->error);
    mqb_deallocate(data);
    return status;
}

mqb_status mqb_message_finish(struct mqb_message *m, const char *path)
{
    const struct mqb_graph *graph = m->graph;
    Onnx__GraphProto file;
    add_values(m);
    Onnx__ValueInfoProto *input = make_info(m, &graph->values[graph->input]);
    Onnx__ValueInfoProto *output = make_info(m, &graph->values[graph->output]);
    if (m->failed || !input || !output) {
        return mqb_fail(m->error, MQB_ERR_MEMORY, "%.200s: no memory to export a graph of %d nodes", path,
                        (int)graph->num_ordered);
    }
    if (m->num_tensors > 0) {
        qsort(m->tensors, m->num_tensors, sizeof(*m->tensors), compare_tensors);
    }
    onnx__graph_proto__init(&file);
    file.name = graph->name && graph->name[0] ? graph->name : (char *)(uintptr_t) "mqbench"; /* ONNX wants a name */
    file.node = m->nodes;
    file.n_node = m->num_nodes;
    file.initializer = m->tensors;
    file.n_initializer = m->num_tensors;
    file.input = &input;
    file.n_input = 1;
    file.output = &output;
    file.n_output = 1;
    return pack(m, &file, path);
}

void mqb_message_destroy(struct mqb_message *m)
{
    while (m->blocks) {
        struct mqb_message_block *next = m->blocks->next;
        mqb_deallocate(m->blocks);
        m->blocks = next;
    }
}
