/*
 * onnx_export.c - writes the FP32 graph as standard ONNX. What the graph has and ONNX has not (ChannelShuffle; HardSwish at
 * this operator set) is written as the operators that the importer recognizes, so that a round trip gives the same graph.
 */
#include "graph/onnx_message.h"

#include <string.h>

/* ---- operators ---- */

static const struct mqb_value *value_of(const struct mqb_message *m, mqb_value_id id)
{
    return &m->graph->values[id];
}

static const char *output_name(const struct mqb_message *m, const struct mqb_node *node)
{
    return mqb_message_write_name(m, node->output);
}

/* The node with its own name, inputs and output. */
static Onnx__NodeProto *add_same(struct mqb_message *m, const struct mqb_node *node, int32_t num_inputs)
{
    Onnx__NodeProto *target = mqb_message_add_node(m, node->op->name, node->name, output_name(m, node));
    for (int32_t i = 0; i < num_inputs && i < node->num_inputs; i++) {
        mqb_message_add_input(target, node->inputs[i] == MQB_NONE ? "" : mqb_message_read_name(m, node->inputs[i]));
    }
    return target;
}

static void write_plain(struct mqb_message *m, const struct mqb_node *node)
{
    add_same(m, node, node->num_inputs);
}

void mqb_onnx_write_conv_attrs(struct mqb_message *m, Onnx__NodeProto *target, const struct mqb_node *node)
{
    mqb_message_copy_ints(m, target, node, "dilations", 2, 1);
    mqb_message_add_int(m, target, "group", mqb_attr_i(node, "group", 1));
    mqb_message_add_ints(m, target, "kernel_shape", value_of(m, node->inputs[1])->dims + 2, 2);
    mqb_message_copy_ints(m, target, node, "pads", 4, 0);
    mqb_message_copy_ints(m, target, node, "strides", 2, 1);
}

static void write_conv(struct mqb_message *m, const struct mqb_node *node)
{
    mqb_onnx_write_conv_attrs(m, add_same(m, node, 3), node);
}

static void write_batch_norm(struct mqb_message *m, const struct mqb_node *node)
{
    if (node->num_inputs > 5 && node->inputs[5] != MQB_NONE) {
        mqb_fail(m->error, MQB_ERR_UNSUPPORTED,
                 "a BatchNormalization that divides its input cannot be written as FP32 ONNX; fold it first");
        m->failed = true;
        return;
    }
    Onnx__NodeProto *target = add_same(m, node, 5);
    mqb_message_add_real(m, target, "epsilon", mqb_attr_f(node, "epsilon", 1e-5));
    mqb_message_add_real(m, target, "momentum", mqb_attr_f(node, "momentum", 0.9));
}

void mqb_onnx_write_pool_attrs(struct mqb_message *m, Onnx__NodeProto *target, const struct mqb_node *node)
{
    mqb_message_add_int(m, target, "ceil_mode", mqb_attr_i(node, "ceil_mode", 0));
    if (strcmp(node->op->name, "AveragePool") == 0) {
        mqb_message_add_int(m, target, "count_include_pad", mqb_attr_i(node, "count_include_pad", 0));
    }
    mqb_message_copy_ints(m, target, node, "kernel_shape", 2, 1);
    mqb_message_copy_ints(m, target, node, "pads", 4, 0);
    mqb_message_copy_ints(m, target, node, "strides", 2, 1);
}

static void write_pool(struct mqb_message *m, const struct mqb_node *node)
{
    mqb_onnx_write_pool_attrs(m, add_same(m, node, 1), node);
}

static void write_gemm(struct mqb_message *m, const struct mqb_node *node)
{
    mqb_message_add_int(m, add_same(m, node, 3), "transB", 1);
}

static void write_clip(struct mqb_message *m, const struct mqb_node *node)
{
    Onnx__NodeProto *target = add_same(m, node, 1);
    mqb_message_add_input(target,
                          mqb_message_helper_scalar(m, node->name, ".min", mqb_attr_f(node, "min", -3.4028234663852886e38)));
    mqb_message_add_input(target,
                          mqb_message_helper_scalar(m, node->name, ".max", mqb_attr_f(node, "max", 3.4028234663852886e38)));
}

static void write_hard_sigmoid(struct mqb_message *m, const struct mqb_node *node)
{
    Onnx__NodeProto *target = add_same(m, node, 1);
    mqb_message_add_real(m, target, "alpha", mqb_attr_f(node, "alpha", 0.2));
    mqb_message_add_real(m, target, "beta", mqb_attr_f(node, "beta", 0.5));
}

static void write_leaky_relu(struct mqb_message *m, const struct mqb_node *node)
{
    mqb_message_add_real(m, add_same(m, node, 1), "alpha", mqb_attr_f(node, "alpha", 0.01));
}

/* HardSwish came with operator set 14. */
static void write_hard_swish(struct mqb_message *m, const struct mqb_node *node)
{
    const char *x = mqb_message_read_name(m, node->inputs[0]),
               *gate = mqb_message_helper_name(m, output_name(m, node), ".gate");
    Onnx__NodeProto *sigmoid = mqb_message_add_node(m, "HardSigmoid", mqb_message_take_text(m, node->name, ".gate"), gate);
    mqb_message_add_input(sigmoid, x);
    mqb_message_add_real(m, sigmoid, "alpha", 1.0 / 6.0);
    mqb_message_add_real(m, sigmoid, "beta", 0.5);
    Onnx__NodeProto *product = mqb_message_add_node(m, "Mul", node->name, output_name(m, node));
    mqb_message_add_input(product, x);
    mqb_message_add_input(product, gate);
}

static void write_flatten(struct mqb_message *m, const struct mqb_node *node)
{
    mqb_message_add_int(m, add_same(m, node, 1), "axis", 1);
}

static void write_concat(struct mqb_message *m, const struct mqb_node *node)
{
    mqb_message_add_int(m, add_same(m, node, node->num_inputs), "axis", 1);
}

static void write_slice(struct mqb_message *m, const struct mqb_node *node)
{
    int64_t starts[MQB_MAX_RANK], ends[MQB_MAX_RANK], steps[MQB_MAX_RANK], axes[MQB_MAX_RANK];
    const struct mqb_value *x = value_of(m, node->inputs[0]);
    int32_t count = x->rank - 1;
    for (int32_t i = 0; i < count; i++) {
        axes[i] = i + 1;
        starts[i] = mqb_attr_li(node, "starts", i + 1, 0);
        ends[i] = mqb_attr_li(node, "ends", i + 1, x->dims[i + 1]);
        steps[i] = mqb_attr_li(node, "steps", i + 1, 1);
    }
    Onnx__NodeProto *target = add_same(m, node, 1);
    mqb_message_add_input(target, mqb_message_helper_ints(m, node->name, ".starts", starts, (size_t)count));
    mqb_message_add_input(target, mqb_message_helper_ints(m, node->name, ".ends", ends, (size_t)count));
    mqb_message_add_input(target, mqb_message_helper_ints(m, node->name, ".axes", axes, (size_t)count));
    mqb_message_add_input(target, mqb_message_helper_ints(m, node->name, ".steps", steps, (size_t)count));
}

static void write_pad(struct mqb_message *m, const struct mqb_node *node)
{
    int64_t pads[2 * MQB_MAX_RANK];
    int32_t rank = value_of(m, node->inputs[0])->rank;
    for (int32_t i = 0; i < rank; i++) {
        pads[i] = mqb_attr_li(node, "pads_begin", i, 0);
        pads[rank + i] = mqb_attr_li(node, "pads_end", i, 0);
    }
    Onnx__NodeProto *target = add_same(m, node, 1);
    mqb_message_add_input(target, mqb_message_helper_ints(m, node->name, ".pads", pads, 2 * (size_t)rank));
    mqb_message_add_input(target, mqb_message_helper_scalar(m, node->name, ".value", mqb_attr_f(node, "value", 0.0)));
    mqb_message_add_text(m, target, "mode", "constant");
}

static void write_channel_shuffle(struct mqb_message *m, const struct mqb_node *node)
{
    static const int64_t perm[5] = {0, 2, 1, 3, 4};
    const struct mqb_value *x = value_of(m, node->inputs[0]);
    int64_t group = mqb_attr_i(node, "group", 1);
    int64_t split[5] = {0, group, x->dims[1] / group, x->dims[2], x->dims[3]};
    int64_t whole[4] = {0, x->dims[1], x->dims[2], x->dims[3]};
    const char *output = output_name(m, node);
    const char *divided = mqb_message_helper_name(m, output, ".split"),
               *swapped = mqb_message_helper_name(m, output, ".swapped");
    Onnx__NodeProto *target = mqb_message_add_node(m, "Reshape", mqb_message_take_text(m, node->name, ".split"), divided);
    mqb_message_add_input(target, mqb_message_read_name(m, node->inputs[0]));
    mqb_message_add_input(target, mqb_message_helper_ints(m, node->name, ".split_shape", split, 5));
    target = mqb_message_add_node(m, "Transpose", mqb_message_take_text(m, node->name, ".swap"), swapped);
    mqb_message_add_input(target, divided);
    mqb_message_add_ints(m, target, "perm", perm, 5);
    target = mqb_message_add_node(m, "Reshape", node->name, output);
    mqb_message_add_input(target, swapped);
    mqb_message_add_input(target, mqb_message_helper_ints(m, node->name, ".shape", whole, 4));
}

static const struct {
    const char *op;
    void (*write)(struct mqb_message *m, const struct mqb_node *node);
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
    {"LeakyRelu", write_leaky_relu},
    {"MaxPool", write_pool},
    {"Mul", write_plain},
    {"Pad", write_pad},
    {"Relu", write_plain},
    {"Sigmoid", write_plain},
    {"Slice", write_slice},
};

mqb_status mqb_onnx_write_node(struct mqb_message *m, const struct mqb_node *node)
{
    size_t i = 0;
    while (i < sizeof(writers) / sizeof(writers[0]) && strcmp(writers[i].op, node->op->name) != 0) {
        i++;
    }
    if (i == sizeof(writers) / sizeof(writers[0])) {
        return mqb_fail(m->error, MQB_ERR_UNSUPPORTED,
                        "node '%s': operator '%s' has no form in FP32 ONNX; export the graph as it was before "
                        "quantization",
                        node->name, node->op->name);
    }
    if (m->error && m->error->struct_size > offsetof(struct mqb_error, text)) {
        m->error->text[0] = '\0';
    }
    writers[i].write(m, node);
    if (!m->failed) {
        return MQB_OK;
    }
    if (m->error && m->error->text[0] != '\0') {
        return mqb_fail_prefix(m->error, MQB_ERR_UNSUPPORTED, "node '%s'", node->name);
    }
    return mqb_fail(m->error, MQB_ERR_MEMORY, "no memory to export node '%s'", node->name);
}

/* ---- the frame ---- */

mqb_status mqb_onnx_export(const struct mqb_graph *graph, const char *path, struct mqb_error *error)
{
    struct mqb_message m = {.graph = graph, .error = error};
    mqb_status status = MQB_OK;
    if (graph->input == MQB_NONE || graph->output == MQB_NONE) {
        return mqb_fail(error, MQB_ERR_ARGUMENT, "%.200s: a graph without input or output cannot be exported", path);
    }
    for (int32_t k = 0; k < graph->num_ordered && status == MQB_OK; k++) {
        status = mqb_onnx_write_node(&m, &graph->nodes[graph->order[k]]);
    }
    if (status == MQB_OK) {
        status = mqb_message_finish(&m, path);
    } else {
        mqb_fail_prefix(error, status, "%.200s", path);
    }
    mqb_message_destroy(&m);
    return status;
}
