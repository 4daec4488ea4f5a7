/*
 * onnx_export.c - writes the FP32 graph as standard ONNX. What the graph has and ONNX has not (ChannelShuffle; HardSwish at
 * this operator set) is written as the operators that the importer recognizes, so that a round trip gives the same graph.
 */
#include "graph/internal.h"

#include "onnx.pb-c.h"

#include <stdlib.h>
#include <string.h>

#define OPSET 13
#define IR_VERSION 7
#define MAX_ATTRS 8

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw data of ONNX files is little-endian; this writer copies it");

struct block {
    struct block *next;
    max_align_t data[];
};

struct exporter {
    const struct mqb_graph *graph;
    struct mqb_error *error;
    struct block *blocks; /* everything that the message points to and the graph does not own */
    bool failed;          /* some allocation failed: checked once a node */
    Onnx__NodeProto **nodes;
    size_t num_nodes, nodes_capacity;
    Onnx__TensorProto **tensors;
    size_t num_tensors, tensors_capacity;
};

/* ---- memory ---- */

static void *take(struct exporter *ex, size_t size)
{
    struct block *block = mqb_allocate(sizeof(*block) + size);
    if (!block) {
        ex->failed = true;
        return NULL;
    }
    block->next = ex->blocks;
    ex->blocks = block;
    return block->data;
}

static char *take_text(struct exporter *ex, const char *first, const char *second)
{
    size_t size = strlen(first) + strlen(second) + 1;
    char *text = take(ex, size);
    if (text) {
        snprintf(text, size, "%s%s", first, second);
    }
    return text;
}

static bool grow(struct exporter *ex, void ***list, size_t num, size_t *capacity)
{
    if (num < *capacity) {
        return true;
    }
    size_t wanted = 2 * num + 64;
    void **grown = take(ex, wanted * sizeof(*grown));
    if (grown && num > 0) {
        memcpy(grown, *list, num * sizeof(*grown));
    }
    *list = grown ? grown : *list;
    *capacity = grown ? wanted : *capacity;
    return grown != NULL;
}

/* ---- parts of a message ---- */

static Onnx__NodeProto *add_node(struct exporter *ex, const char *op_type, const char *name, const char *output)
{
    Onnx__NodeProto *node = take(ex, sizeof(*node));
    char **outputs = take(ex, sizeof(*outputs));
    if (!node || !outputs || !grow(ex, (void ***)&ex->nodes, ex->num_nodes, &ex->nodes_capacity)) {
        ex->failed = true;
        return NULL;
    }
    onnx__node_proto__init(node);
    outputs[0] = (char *)output;
    node->op_type = (char *)op_type;
    node->name = (char *)name;
    node->output = outputs;
    node->n_output = 1;
    node->input = take(ex, MQB_MAX_INPUTS * sizeof(*node->input));
    node->attribute = take(ex, MAX_ATTRS * sizeof(*node->attribute));
    if (!node->input || !node->attribute) {
        return NULL;
    }
    ex->nodes[ex->num_nodes++] = node;
    return node;
}

static void add_input(Onnx__NodeProto *node, const char *name)
{
    if (node) {
        node->input[node->n_input++] = (char *)name;
    }
}

static Onnx__AttributeProto *add_attr(struct exporter *ex, Onnx__NodeProto *node, const char *name,
                                      Onnx__AttributeProto__AttributeType type)
{
    Onnx__AttributeProto *attr = node ? take(ex, sizeof(*attr)) : NULL;
    if (attr) {
        onnx__attribute_proto__init(attr);
        attr->name = (char *)name;
        attr->has_type = 1;
        attr->type = type;
        node->attribute[node->n_attribute++] = attr;
    }
    return attr;
}

static void add_int(struct exporter *ex, Onnx__NodeProto *node, const char *name, int64_t value)
{
    Onnx__AttributeProto *attr = add_attr(ex, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (attr) {
        attr->has_i = 1;
        attr->i = value;
    }
}

static void add_real(struct exporter *ex, Onnx__NodeProto *node, const char *name, double value)
{
    Onnx__AttributeProto *attr = add_attr(ex, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    if (attr) {
        attr->has_f = 1;
        attr->f = (float)value;
    }
}

static void add_ints(struct exporter *ex, Onnx__NodeProto *node, const char *name, const int64_t *values, size_t count)
{
    Onnx__AttributeProto *attr = add_attr(ex, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    int64_t *copy = attr ? take(ex, count * sizeof(*copy)) : NULL;
    if (copy) {
        memcpy(copy, values, count * sizeof(*copy));
        attr->ints = copy;
        attr->n_ints = count;
    }
}

/* The list attribute of the node as it stands, or `count` times `otherwise`. */
static void copy_ints(struct exporter *ex, Onnx__NodeProto *target, const struct mqb_node *node, const char *name,
                      int32_t count, int64_t otherwise)
{
    int64_t values[4];
    for (int32_t i = 0; i < count; i++) {
        values[i] = mqb_attr_li(node, name, i, otherwise);
    }
    add_ints(ex, target, name, values, (size_t)count);
}

/* An initializer around `data`, which must outlive the message. */
static const char *add_tensor(struct exporter *ex, const char *name, int32_t type, size_t rank, const int64_t *dims,
                              const void *data, size_t size)
{
    Onnx__TensorProto *tensor = take(ex, sizeof(*tensor));
    int64_t *copy = rank ? take(ex, rank * sizeof(*copy)) : NULL;
    if (!tensor || (rank && !copy) || !grow(ex, (void ***)&ex->tensors, ex->num_tensors, &ex->tensors_capacity)) {
        ex->failed = true;
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
    ex->tensors[ex->num_tensors++] = tensor;
    return name;
}

/* base + tail, made unique among all names of the graph by underscores. */
static const char *helper_name(struct exporter *ex, const char *base, const char *tail)
{
    char *name = take_text(ex, base, tail);
    while (name && mqb_graph_find_value(ex->graph, name) != MQB_NONE) {
        name = take_text(ex, name, "_");
    }
    return name ? name : "";
}

static const char *helper_ints(struct exporter *ex, const char *base, const char *tail, const int64_t *values, size_t count)
{
    int64_t *copy = take(ex, count * sizeof(*copy)), dim = (int64_t)count;
    if (copy) {
        memcpy(copy, values, count * sizeof(*copy));
    }
    return add_tensor(ex, helper_name(ex, base, tail), ONNX__TENSOR_PROTO__DATA_TYPE__INT64, 1, &dim, copy,
                      count * sizeof(*copy));
}

static const char *helper_scalar(struct exporter *ex, const char *base, const char *tail, double value)
{
    float *copy = take(ex, sizeof(*copy));
    if (copy) {
        *copy = (float)value;
    }
    return add_tensor(ex, helper_name(ex, base, tail), ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, 0, NULL, copy, sizeof(*copy));
}

/* ---- operators ---- */

static const struct mqb_value *value_of(const struct exporter *ex, mqb_value_id id)
{
    return &ex->graph->values[id];
}

static const char *output_name(const struct exporter *ex, const struct mqb_node *node)
{
    return value_of(ex, node->output)->name;
}

/* The node with its own name, inputs and output. */
static Onnx__NodeProto *add_same(struct exporter *ex, const struct mqb_node *node, int32_t num_inputs)
{
    Onnx__NodeProto *target = add_node(ex, node->op->name, node->name, output_name(ex, node));
    for (int32_t i = 0; i < num_inputs && i < node->num_inputs; i++) {
        add_input(target, node->inputs[i] == MQB_NONE ? "" : value_of(ex, node->inputs[i])->name);
    }
    return target;
}

static void write_plain(struct exporter *ex, const struct mqb_node *node)
{
    add_same(ex, node, node->num_inputs);
}

static void write_conv(struct exporter *ex, const struct mqb_node *node)
{
    Onnx__NodeProto *target = add_same(ex, node, 3);
    copy_ints(ex, target, node, "dilations", 2, 1);
    add_int(ex, target, "group", mqb_attr_i(node, "group", 1));
    add_ints(ex, target, "kernel_shape", value_of(ex, node->inputs[1])->dims + 2, 2);
    copy_ints(ex, target, node, "pads", 4, 0);
    copy_ints(ex, target, node, "strides", 2, 1);
}

static void write_batch_norm(struct exporter *ex, const struct mqb_node *node)
{
    if (node->num_inputs > 5 && node->inputs[5] != MQB_NONE) {
        mqb_fail(ex->error, MQB_ERR_UNSUPPORTED,
                 "a BatchNormalization that divides its input cannot be written as FP32 ONNX; fold it first");
        ex->failed = true;
        return;
    }
    Onnx__NodeProto *target = add_same(ex, node, 5);
    add_real(ex, target, "epsilon", mqb_attr_f(node, "epsilon", 1e-5));
    add_real(ex, target, "momentum", mqb_attr_f(node, "momentum", 0.9));
}

static void write_pool(struct exporter *ex, const struct mqb_node *node)
{
    Onnx__NodeProto *target = add_same(ex, node, 1);
    add_int(ex, target, "ceil_mode", mqb_attr_i(node, "ceil_mode", 0));
    if (strcmp(node->op->name, "AveragePool") == 0) {
        add_int(ex, target, "count_include_pad", mqb_attr_i(node, "count_include_pad", 0));
    }
    copy_ints(ex, target, node, "kernel_shape", 2, 1);
    copy_ints(ex, target, node, "pads", 4, 0);
    copy_ints(ex, target, node, "strides", 2, 1);
}

static void write_gemm(struct exporter *ex, const struct mqb_node *node)
{
    add_int(ex, add_same(ex, node, 3), "transB", 1);
}

static void write_clip(struct exporter *ex, const struct mqb_node *node)
{
    Onnx__NodeProto *target = add_same(ex, node, 1);
    add_input(target, helper_scalar(ex, node->name, ".min", mqb_attr_f(node, "min", -3.4028234663852886e38)));
    add_input(target, helper_scalar(ex, node->name, ".max", mqb_attr_f(node, "max", 3.4028234663852886e38)));
}

static void write_hard_sigmoid(struct exporter *ex, const struct mqb_node *node)
{
    Onnx__NodeProto *target = add_same(ex, node, 1);
    add_real(ex, target, "alpha", mqb_attr_f(node, "alpha", 0.2));
    add_real(ex, target, "beta", mqb_attr_f(node, "beta", 0.5));
}

/* HardSwish came with operator set 14. */
static void write_hard_swish(struct exporter *ex, const struct mqb_node *node)
{
    const char *x = value_of(ex, node->inputs[0])->name, *gate = helper_name(ex, output_name(ex, node), ".gate");
    Onnx__NodeProto *sigmoid = add_node(ex, "HardSigmoid", take_text(ex, node->name, ".gate"), gate);
    add_input(sigmoid, x);
    add_real(ex, sigmoid, "alpha", 1.0 / 6.0);
    add_real(ex, sigmoid, "beta", 0.5);
    Onnx__NodeProto *product = add_node(ex, "Mul", node->name, output_name(ex, node));
    add_input(product, x);
    add_input(product, gate);
}

static void write_flatten(struct exporter *ex, const struct mqb_node *node)
{
    add_int(ex, add_same(ex, node, 1), "axis", 1);
}

static void write_concat(struct exporter *ex, const struct mqb_node *node)
{
    add_int(ex, add_same(ex, node, node->num_inputs), "axis", 1);
}

static void write_slice(struct exporter *ex, const struct mqb_node *node)
{
    int64_t starts[MQB_MAX_RANK], ends[MQB_MAX_RANK], steps[MQB_MAX_RANK], axes[MQB_MAX_RANK];
    const struct mqb_value *x = value_of(ex, node->inputs[0]);
    int32_t count = x->rank - 1;
    for (int32_t i = 0; i < count; i++) {
        axes[i] = i + 1;
        starts[i] = mqb_attr_li(node, "starts", i + 1, 0);
        ends[i] = mqb_attr_li(node, "ends", i + 1, x->dims[i + 1]);
        steps[i] = mqb_attr_li(node, "steps", i + 1, 1);
    }
    Onnx__NodeProto *target = add_same(ex, node, 1);
    add_input(target, helper_ints(ex, node->name, ".starts", starts, (size_t)count));
    add_input(target, helper_ints(ex, node->name, ".ends", ends, (size_t)count));
    add_input(target, helper_ints(ex, node->name, ".axes", axes, (size_t)count));
    add_input(target, helper_ints(ex, node->name, ".steps", steps, (size_t)count));
}

static void write_pad(struct exporter *ex, const struct mqb_node *node)
{
    int64_t pads[2 * MQB_MAX_RANK];
    int32_t rank = value_of(ex, node->inputs[0])->rank;
    for (int32_t i = 0; i < rank; i++) {
        pads[i] = mqb_attr_li(node, "pads_begin", i, 0);
        pads[rank + i] = mqb_attr_li(node, "pads_end", i, 0);
    }
    Onnx__NodeProto *target = add_same(ex, node, 1);
    add_input(target, helper_ints(ex, node->name, ".pads", pads, 2 * (size_t)rank));
    add_input(target, helper_scalar(ex, node->name, ".value", mqb_attr_f(node, "value", 0.0)));
    Onnx__AttributeProto *mode = add_attr(ex, target, "mode", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
    if (mode) {
        mode->has_s = 1;
        mode->s.data = (uint8_t *)(uintptr_t) "constant";
        mode->s.len = strlen("constant");
    }
}

static void write_channel_shuffle(struct exporter *ex, const struct mqb_node *node)
{
    static const int64_t perm[5] = {0, 2, 1, 3, 4};
    const struct mqb_value *x = value_of(ex, node->inputs[0]);
    int64_t group = mqb_attr_i(node, "group", 1);
    int64_t split[5] = {0, group, x->dims[1] / group, x->dims[2], x->dims[3]};
    int64_t whole[4] = {0, x->dims[1], x->dims[2], x->dims[3]};
    const char *output = output_name(ex, node);
    const char *divided = helper_name(ex, output, ".split"), *swapped = helper_name(ex, output, ".swapped");
    Onnx__NodeProto *target = add_node(ex, "Reshape", take_text(ex, node->name, ".split"), divided);
    add_input(target, x->name);
    add_input(target, helper_ints(ex, node->name, ".split_shape", split, 5));
    target = add_node(ex, "Transpose", take_text(ex, node->name, ".swap"), swapped);
    add_input(target, divided);
    add_ints(ex, target, "perm", perm, 5);
    target = add_node(ex, "Reshape", node->name, output);
    add_input(target, swapped);
    add_input(target, helper_ints(ex, node->name, ".shape", whole, 4));
}

static const struct {
    const char *op;
    void (*write)(struct exporter *ex, const struct mqb_node *node);
} writers[] = {
    {"Add", write_plain},
    {"AveragePool", write_pool},
    {"BatchNormalization", write_batch_norm},
    {"ChannelShuffle", write_channel_shuffle},
    {"Clip", write_clip},
    {"Concat", write_concat},
    {"Conv", write_conv},
    {"Flatten", write_flatten},
    {"Gemm", write_gemm},
    {"GlobalAveragePool", write_plain},
    {"HardSigmoid", write_hard_sigmoid},
    {"HardSwish", write_hard_swish},
    {"MaxPool", write_pool},
    {"Mul", write_plain},
    {"Pad", write_pad},
    {"Relu", write_plain},
    {"Sigmoid", write_plain},
    {"Slice", write_slice},
};

static mqb_status write_node(struct exporter *ex, const struct mqb_node *node)
{
    size_t i = 0;
    while (i < sizeof(writers) / sizeof(writers[0]) && strcmp(writers[i].op, node->op->name) != 0) {
        i++;
    }
    if (i == sizeof(writers) / sizeof(writers[0])) {
        return mqb_fail(ex->error, MQB_ERR_UNSUPPORTED,
                        "node '%s': operator '%s' has no form in FP32 ONNX; export the graph as it was before "
                        "quantization",
                        node->name, node->op->name);
    }
    if (ex->error && ex->error->struct_size > offsetof(struct mqb_error, text)) {
        ex->error->text[0] = '\0';
    }
    writers[i].write(ex, node);
    if (!ex->failed) {
        return MQB_OK;
    }
    if (ex->error && ex->error->text[0] != '\0') {
        return mqb_fail_prefix(ex->error, MQB_ERR_UNSUPPORTED, "node '%s'", node->name);
    }
    return mqb_fail(ex->error, MQB_ERR_MEMORY, "no memory to export node '%s'", node->name);
}

/* ---- the frame ---- */

static Onnx__ValueInfoProto *make_info(struct exporter *ex, const struct mqb_value *value)
{
    Onnx__ValueInfoProto *info = take(ex, sizeof(*info));
    Onnx__TypeProto *type = take(ex, sizeof(*type));
    Onnx__TypeProto__Tensor *tensor = take(ex, sizeof(*tensor));
    Onnx__TensorShapeProto *shape = take(ex, sizeof(*shape));
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
    shape->dim = take(ex, MQB_MAX_RANK * sizeof(*shape->dim));
    for (int32_t i = 0; shape->dim && i < value->rank; i++) {
        Onnx__TensorShapeProto__Dimension *dim = take(ex, sizeof(*dim));
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

static void add_values(struct exporter *ex)
{
    bool *used = mqb_allocate_array((size_t)ex->graph->num_values, sizeof(*used));
    if (!used) {
        ex->failed = true;
        return;
    }
    for (int32_t k = 0; k < ex->graph->num_ordered; k++) {
        const struct mqb_node *node = &ex->graph->nodes[ex->graph->order[k]];
        for (int32_t i = 0; i < node->num_inputs; i++) {
            if (node->inputs[i] != MQB_NONE) {
                used[node->inputs[i]] = true;
            }
        }
    }
    for (int32_t i = 0; i < ex->graph->num_values; i++) {
        const struct mqb_value *value = &ex->graph->values[i];
        if (used[i] && !value->dead && value->data) {
            add_tensor(ex, value->name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, (size_t)value->rank, value->dims, value->data,
                       (size_t)mqb_value_size(value) * sizeof(float));
        }
    }
    mqb_deallocate(used);
}

static mqb_status pack(struct exporter *ex, Onnx__GraphProto *graph, const char *path)
{
    Onnx__ModelProto model;
    Onnx__OperatorSetIdProto opset, *opsets[1] = {&opset};
    Onnx__StringStringEntryProto entry, *entries[1] = {&entry};
    onnx__model_proto__init(&model);
    onnx__operator_set_id_proto__init(&opset);
    onnx__string_string_entry_proto__init(&entry);
    model.has_ir_version = 1;
    model.ir_version = IR_VERSION;
    model.producer_name = (char *)(uintptr_t) "mqbench";
    model.graph = graph;
    opset.domain = (char *)(uintptr_t) "";
    opset.has_version = 1;
    opset.version = OPSET;
    model.opset_import = opsets;
    model.n_opset_import = 1;
    if (ex->graph->normalize) {
        entry.key = (char *)(uintptr_t) "mqbench.normalize";
        entry.value = ex->graph->normalize;
        model.metadata_props = entries;
        model.n_metadata_props = 1;
    }
    size_t size = onnx__model_proto__get_packed_size(&model);
    if (size > INT32_MAX) {
        return mqb_fail(ex->error, MQB_ERR_UNSUPPORTED,
                        "%.200s: the network would be %zu bytes; a protobuf file holds at most 2 GiB", path, size);
    }
    uint8_t *data = mqb_allocate(size);
    if (!data) {
        return mqb_fail(ex->error, MQB_ERR_MEMORY, "%.200s: no memory for a file of %zu bytes", path, size);
    }
    onnx__model_proto__pack(&model, data);
    mqb_status status = mqb_file_write(path, data, size, ex->error);
    mqb_deallocate(data);
    return status;
}

mqb_status mqb_onnx_export(const struct mqb_graph *graph, const char *path, struct mqb_error *error)
{
    struct exporter ex = {.graph = graph, .error = error};
    Onnx__GraphProto file;
    mqb_status status = MQB_OK;
    if (graph->input == MQB_NONE || graph->output == MQB_NONE) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "%.200s: a graph without input or output cannot be exported", path);
    }
    for (int32_t k = 0; k < graph->num_ordered && status == MQB_OK; k++) {
        status = write_node(&ex, &graph->nodes[graph->order[k]]);
    }
    if (status != MQB_OK) {
        mqb_fail_prefix(error, status, "%.200s", path);
        goto out;
    }
    add_values(&ex);
    Onnx__ValueInfoProto *input = make_info(&ex, &graph->values[graph->input]);
    Onnx__ValueInfoProto *output = make_info(&ex, &graph->values[graph->output]);
    if (ex.failed || !input || !output) {
        status =
            mqb_fail(error, MQB_ERR_MEMORY, "%.200s: no memory to export a graph of %d nodes", path, (int)graph->num_ordered);
        goto out;
    }
    if (ex.num_tensors > 0) {
        qsort(ex.tensors, ex.num_tensors, sizeof(*ex.tensors), compare_tensors);
    }
    onnx__graph_proto__init(&file);
    file.name = graph->name && graph->name[0] ? graph->name : (char *)(uintptr_t) "mqbench"; /* ONNX wants a name */
    file.node = ex.nodes;
    file.n_node = ex.num_nodes;
    file.initializer = ex.tensors;
    file.n_initializer = ex.num_tensors;
    file.input = &input;
    file.n_input = 1;
    file.output = &output;
    file.n_output = 1;
    status = pack(&ex, &file, path);
out:
    while (ex.blocks) {
        struct block *next = ex.blocks->next;
        mqb_deallocate(ex.blocks);
        ex.blocks = next;
    }
    return status;
}
