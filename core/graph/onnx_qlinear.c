/*
 * onnx_qlinear.c - the form of integer operators: QLinearConv and its kind, those of com.microsoft, and plain operators on
 * codes where they only move them. Activations are clamps of codes. An operator without an integer form stands between
 * DequantizeLinear and QuantizeLinear.
 */
#include "graph/onnx_codes.h"

#include <math.h>
#include <string.h>

static mqb_status refuse(struct mqb_codes_writer *w, const struct mqb_node *node, const char *what, mqb_value_id value)
{
    return mqb_fail(w->m.error, MQB_ERR_UNSUPPORTED, "node '%s' (%s) has no form in integer operators: %s '%s' has no codes",
                    node->name, node->op->name, what, value == MQB_NONE ? "" : w->m.graph->values[value].name);
}

static void add_operand(struct mqb_codes_writer *w, Onnx__NodeProto *target, mqb_value_id value, bool with_codes)
{
    if (with_codes)
        mqb_message_add_input(target, w->names[value].codes);
    mqb_message_add_input(target, w->names[value].scale);
    mqb_message_add_input(target, w->names[value].zero_point);
}

/* An operator of com.microsoft or not, which writes the codes of y; *clamped: a clamp has to follow. */
static Onnx__NodeProto *begin(struct mqb_codes_writer *w, const struct mqb_node *node, const char *op, bool microsoft,
                              mqb_value_id y, const char **written)
{
    *written = mqb_codes_unclamped_name(w, y, mqb_codes_narrow(w, y));
    Onnx__NodeProto *target = mqb_message_add_node(&w->m, op, node->name, *written);
    if (target && microsoft) {
        target->domain = (char *)(uintptr_t) "com.microsoft";
        w->m.microsoft = true;
    }
    return target;
}

static void end(struct mqb_codes_writer *w, mqb_value_id y, const char *written)
{
    if (mqb_codes_narrow(w, y))
        mqb_codes_clamp(w, y, written);
}

/* The float bias of a layer would be a hole: integer operators take it as int32 only. */
static mqb_status check_layer(struct mqb_codes_writer *w, const struct mqb_node *node)
{
    if (!w->of[node->inputs[1]] || !w->of[node->inputs[1]]->codes)
        return refuse(w, node, "its weight", node->inputs[1]);
    mqb_value_id bias = node->num_inputs > 2 ? node->inputs[2] : MQB_NONE;
    return bias != MQB_NONE && !w->of[bias] ? refuse(w, node, "its bias", bias) : MQB_OK;
}

static const char *bias_name(const struct mqb_codes_writer *w, const struct mqb_node *node)
{
    bool there = node->num_inputs > 2 && node->inputs[2] != MQB_NONE;
    return there ? w->names[node->inputs[2]].codes : "";
}

/* ---- layers whose accumulators are the network's output: real = float(accumulator) * (s_x * s_w) ---- */

/* s_x * s_w, one number or one a channel that lines up with [N, K, H, W]. */
static const char *product_scale(struct mqb_codes_writer *w, const struct mqb_node *node)
{
    const struct mqb_onnx_codes *x = w->of[node->inputs[0]], *weight = w->of[node->inputs[1]];
    int64_t dims[3] = {weight->num_channels, 1, 1};
    float *scale = mqb_message_take(&w->m, (size_t)weight->num_channels * sizeof(*scale));
    for (int32_t c = 0; scale && c < weight->num_channels; c++)
        scale[c] = x->scale[0] * weight->scale[c];
    return mqb_message_add_tensor(&w->m, mqb_message_helper_name(&w->m, node->name, "_step"),
                                  ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, weight->num_channels > 1 ? 3 : 0, dims, scale,
                                  (size_t)weight->num_channels * sizeof(*scale));
}

/* int32 numbers that line up with [N, K, H, W] */
static const char *channel_numbers(struct mqb_codes_writer *w, const struct mqb_node *node, const char *tail,
                                   const int32_t *numbers)
{
    int64_t dims[3] = {w->m.graph->values[node->inputs[1]].dims[0], 1, 1};
    return mqb_message_add_tensor(&w->m, mqb_message_helper_name(&w->m, node->name, tail), ONNX__TENSOR_PROTO__DATA_TYPE__INT32,
                                  3, dims, numbers, (size_t)dims[0] * sizeof(*numbers));
}

static const char *add_binary(struct mqb_codes_writer *w, const struct mqb_node *node, const char *op, const char *tail,
                              const char *a, const char *b)
{
    const char *result = mqb_message_helper_name(&w->m, node->name, tail);
    Onnx__NodeProto *target = mqb_message_add_node(&w->m, op, mqb_message_take_text(&w->m, result, ".node"), result);
    mqb_message_add_input(target, a);
    mqb_message_add_input(target, b);
    return result;
}

/* sum (x - z_x) w over the window, for weights under the name `weight`. */
static const char *add_sum(struct mqb_codes_writer *w, const struct mqb_node *node, const char *tail, const char *weight)
{
    const char *sum = mqb_message_helper_name(&w->m, node->name, tail);
    Onnx__NodeProto *target = mqb_message_add_node(&w->m, "ConvInteger", mqb_message_take_text(&w->m, sum, ".node"), sum);
    mqb_message_add_input(target, w->names[node->inputs[0]].codes);
    mqb_message_add_input(target, weight);
    mqb_message_add_input(target, w->names[node->inputs[0]].zero_point);
    mqb_onnx_write_conv_attrs(&w->m, target, node);
    return sum;
}

/* z_w * sum (x - z_x): ConvInteger takes no zero points by channel, so they are taken off behind it. */
static mqb_status add_zero_points(struct mqb_codes_writer *w, const struct mqb_node *node, const char **sum)
{
    struct mqb_message *m = &w->m;
    const struct mqb_onnx_codes *weight = w->of[node->inputs[1]];
    const struct mqb_value *value = &m->graph->values[node->inputs[1]];
    int64_t dims[4] = {1, value->dims[1], value->dims[2], value->dims[3]}, count = dims[1] * dims[2] * dims[3];
    bool any = false;
    for (int32_t c = 0; c < weight->num_channels; c++)
        any = any || weight->zero_point[c] != 0;
    if (!any)
        return MQB_OK;
    if (mqb_attr_i(node, "group", 1) != 1)
        return mqb_fail(m->error, MQB_ERR_UNSUPPORTED,
                        "node '%s': the last convolution has groups and weights with zero points, which no integer operator "
                        "takes; quantize its weights symmetrically",
                        node->name);
    uint8_t *ones = mqb_message_take(m, (size_t)count);
    int32_t *zeros = mqb_message_take(m, (size_t)value->dims[0] * sizeof(*zeros));
    for (int64_t i = 0; ones && i < count; i++)
        ones[i] = 1;
    for (int64_t k = 0; zeros && k < value->dims[0]; k++)
        zeros[k] = weight->zero_point[weight->num_channels > 1 ? k : 0];
    const char *name =
        mqb_message_add_tensor(m, mqb_message_helper_name(m, node->name, "_ones"),
                               weight->is_signed ? ONNX__TENSOR_PROTO__DATA_TYPE__INT8 : ONNX__TENSOR_PROTO__DATA_TYPE__UINT8,
                               4, dims, ones, (size_t)count);
    const char *window = add_sum(w, node, "_window", name);
    const char *part = add_binary(w, node, "Mul", "_part", window, channel_numbers(w, node, "_zeros", zeros));
    *sum = add_binary(w, node, "Sub", "_centred", *sum, part);
    return MQB_OK;
}

static mqb_status write_last_conv(struct mqb_codes_writer *w, const struct mqb_node *node)
{
    struct mqb_message *m = &w->m;
    const char *real = mqb_message_helper_name(m, node->name, "_real");
    const char *sum = add_sum(w, node, "_sum", w->names[node->inputs[1]].codes);
    mqb_status status = add_zero_points(w, node, &sum);
    if (status != MQB_OK)
        return status;
    if (bias_name(w, node)[0] != '\0')
        sum = add_binary(w, node, "Add", "_biased", sum, channel_numbers(w, node, "_bias", w->of[node->inputs[2]]->codes));
    Onnx__NodeProto *target = mqb_message_add_node(m, "Cast", mqb_message_take_text(m, node->name, ".cast"), real);
    mqb_message_add_input(target, sum);
    mqb_message_add_int(m, target, "to", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT);
    target = mqb_message_add_node(m, "Mul", node->name, mqb_message_write_name(m, node->output));
    mqb_message_add_input(target, real);
    mqb_message_add_input(target, product_scale(w, node));
    return MQB_OK;
}

/* ---- operators ---- */

static mqb_status write_conv(struct mqb_codes_writer *w, const struct mqb_node *node, mqb_value_id y)
{
    const char *written;
    mqb_status status = check_layer(w, node);
    if (status != MQB_OK || y == MQB_NONE)
        return status != MQB_OK ? status : write_last_conv(w, node);
    Onnx__NodeProto *target = begin(w, node, "QLinearConv", false, y, &written);
    add_operand(w, target, node->inputs[0], true);
    add_operand(w, target, node->inputs[1], true);
    add_operand(w, target, y, false);
    if (bias_name(w, node)[0] != '\0')
        mqb_message_add_input(target, bias_name(w, node));
    mqb_onnx_write_conv_attrs(&w->m, target, node);
    end(w, y, written);
    return MQB_OK;
}

static mqb_status write_gemm(struct mqb_codes_writer *w, const struct mqb_node *node, mqb_value_id y)
{
    const char *written = mqb_message_write_name(&w->m, node->output);
    mqb_status status = check_layer(w, node);
    if (status != MQB_OK)
        return status;
    Onnx__NodeProto *target;
    if (y != MQB_NONE)
        target = begin(w, node, "QGemm", true, y, &written);
    else if ((target = mqb_message_add_node(&w->m, "QGemm", node->name, written)) != NULL) {
        target->domain = (char *)(uintptr_t) "com.microsoft";
        w->m.microsoft = true;
    }
    add_operand(w, target, node->inputs[0], true);
    add_operand(w, target, node->inputs[1], true);
    mqb_message_add_input(target, bias_name(w, node));
    if (y != MQB_NONE)
        add_operand(w, target, y, false);
    mqb_message_add_int(&w->m, target, "transB", 1);
    if (y != MQB_NONE)
        end(w, y, written);
    return MQB_OK;
}

static mqb_status write_binary(struct mqb_codes_writer *w, const struct mqb_node *node, mqb_value_id y)
{
    const char *written;
    if (y == MQB_NONE)
        return refuse(w, node, "its result", node->output);
    Onnx__NodeProto *target =
        begin(w, node, strcmp(node->op->name, "Add") == 0 ? "QLinearAdd" : "QLinearMul", true, y, &written);
    add_operand(w, target, node->inputs[0], true);
    add_operand(w, target, node->inputs[1], true);
    add_operand(w, target, y, false);
    end(w, y, written);
    return MQB_OK;
}

static mqb_status write_concat(struct mqb_codes_writer *w, const struct mqb_node *node, mqb_value_id y)
{
    const char *written;
    if (y == MQB_NONE)
        return refuse(w, node, "its result", node->output);
    Onnx__NodeProto *target = begin(w, node, "QLinearConcat", true, y, &written);
    add_operand(w, target, y, false);
    for (int32_t i = 0; i < node->num_inputs; i++)
        add_operand(w, target, node->inputs[i], true);
    mqb_message_add_int(&w->m, target, "axis", 1);
    end(w, y, written);
    return MQB_OK;
}

static mqb_status write_mean(struct mqb_codes_writer *w, const struct mqb_node *node, mqb_value_id y)
{
    const char *written;
    bool global = strcmp(node->op->name, "GlobalAveragePool") == 0;
    if (y == MQB_NONE)
        return refuse(w, node, "its result", node->output);
    Onnx__NodeProto *target = begin(w, node, global ? "QLinearGlobalAveragePool" : "QLinearAveragePool", true, y, &written);
    add_operand(w, target, node->inputs[0], true);
    add_operand(w, target, y, false);
    mqb_message_add_int(&w->m, target, "channels_last", 0);
    if (!global)
        mqb_onnx_write_pool_attrs(&w->m, target, node);
    end(w, y, written);
    return MQB_OK;
}

/* Reals of the input, the float operator, codes of the result. */
static mqb_status write_in_float(struct mqb_codes_writer *w, const struct mqb_node *node, mqb_value_id y)
{
    struct mqb_message *m = &w->m;
    mqb_value_id x = node->inputs[0];
    if (y == MQB_NONE)
        return refuse(w, node, "its result", node->output);
    const char *name = m->graph->values[node->output].name;
    const char *in = mqb_message_helper_name(m, name, "_operand"), *out = mqb_message_helper_name(m, name, "_real");
    const char *codes = m->read_as[x];
    mqb_codes_dequantize(w, x, NULL, in);
    m->read_as[x] = in;
    m->write_as[node->output] = out;
    mqb_status status = mqb_onnx_write_node(m, node);
    m->read_as[x] = codes;
    m->write_as[node->output] = NULL;
    mqb_codes_quantize(w, y, out, true);
    return status;
}

static bool same_parameters(const struct mqb_codes_writer *w, mqb_value_id a, mqb_value_id b)
{
    const struct mqb_onnx_codes *x = w->of[a], *y = w->of[b];
    return x->is_signed == y->is_signed && x->scale[0] == y->scale[0] && x->zero_point[0] == y->zero_point[0];
}

/* A clamp that stands alone. */
static mqb_status write_activation(struct mqb_codes_writer *w, const struct mqb_node *node, mqb_value_id y)
{
    if (y == MQB_NONE || !same_parameters(w, node->inputs[0], y))
        return write_in_float(w, node, y);
    mqb_codes_clamp(w, y, w->names[node->inputs[0]].codes);
    return MQB_OK;
}

static void write_pad(struct mqb_codes_writer *w, const struct mqb_node *node, const char *written)
{
    int64_t pads[2 * MQB_MAX_RANK];
    const struct mqb_onnx_codes *x = w->of[node->inputs[0]];
    int32_t rank = w->m.graph->values[node->inputs[0]].rank;
    for (int32_t i = 0; i < rank; i++) {
        pads[i] = mqb_attr_li(node, "pads_begin", i, 0);
        pads[rank + i] = mqb_attr_li(node, "pads_end", i, 0);
    }
    float code = rintf((float)mqb_attr_f(node, "value", 0.0) / x->scale[0]) + (float)x->zero_point[0];
    code = code < (float)x->low ? (float)x->low : code > (float)x->high ? (float)x->high : code;
    Onnx__NodeProto *target = mqb_message_add_node(&w->m, "Pad", node->name, written);
    mqb_message_add_input(target, w->names[node->inputs[0]].codes);
    mqb_message_add_input(target, mqb_message_helper_ints(&w->m, node->name, ".pads", pads, 2 * (size_t)rank));
    mqb_message_add_input(target, mqb_codes_scalar(w, node->inputs[0], "_pad", (int32_t)code));
    mqb_message_add_text(&w->m, target, "mode", "constant");
}

/* Codes that move and do not change; parameters of the result's own come after. */
static mqb_status write_move(struct mqb_codes_writer *w, const struct mqb_node *node, mqb_value_id y)
{
    struct mqb_message *m = &w->m;
    mqb_value_id x = node->inputs[0];
    mqb_status status = MQB_OK;
    if (y == MQB_NONE)
        return refuse(w, node, "its result", node->output);
    bool same = same_parameters(w, x, y);
    const char *name = m->graph->values[node->output].name;
    const char *moved = same ? w->names[y].codes : mqb_message_helper_name(m, name, "_moved");
    m->write_as[node->output] = moved;
    if (strcmp(node->op->name, "Pad") == 0)
        write_pad(w, node, moved);
    else
        status = mqb_onnx_write_node(m, node);
    m->write_as[node->output] = NULL;
    if (same)
        return status;
    const char *reals = mqb_message_helper_name(m, name, "_moved_real");
    mqb_codes_dequantize(w, x, moved, reals);
    mqb_codes_quantize(w, y, reals, true);
    return status;
}

static const struct {
    const char *op;
    mqb_status (*write)(struct mqb_codes_writer *w, const struct mqb_node *node, mqb_value_id y);
} writers[] = {
    {"Add", write_binary},           {"AveragePool", write_mean},   {"ChannelShuffle", write_move},
    {"Clip", write_activation},      {"Concat", write_concat},      {"Conv", write_conv},
    {"Flatten", write_move},         {"Gemm", write_gemm},          {"GlobalAveragePool", write_mean},
    {"HardSigmoid", write_in_float}, {"HardSwish", write_in_float}, {"LeakyRelu", write_in_float},
    {"MaxPool", write_move},         {"Mul", write_binary},         {"Pad", write_move},
    {"Relu", write_activation},      {"Sigmoid", write_in_float},   {"Slice", write_move},
};

static mqb_status write_node(struct mqb_codes_writer *w, const struct mqb_node *node)
{
    bool redundant, codes = true;
    for (int32_t i = 0; i < node->num_inputs; i++)
        if (node->inputs[i] != MQB_NONE && w->m.graph->values[node->inputs[i]].batched && !mqb_codes_stored(w, node->inputs[i]))
            codes = false;
    mqb_value_id y = mqb_codes_target(w, node->output, &redundant);
    if (!codes) {
        if (mqb_codes_is_activation(node) && y != MQB_NONE)
            return MQB_OK; /* the clamp behind the operator before it */
        if (y == MQB_NONE && strcmp(node->op->name, "Flatten") == 0)
            return mqb_onnx_write_node(&w->m, node); /* of the logits */
        return refuse(w, node, "its input", node->inputs[0]);
    }
    for (size_t i = 0; i < sizeof(writers) / sizeof(writers[0]); i++)
        if (strcmp(writers[i].op, node->op->name) == 0)
            return writers[i].write(w, node, y);
    return mqb_fail(w->m.error, MQB_ERR_UNSUPPORTED, "node '%s': operator %s has no form in integer operators", node->name,
                    node->op->name);
}

mqb_status mqb_codes_write_qlinear(struct mqb_codes_writer *w)
{
    const struct mqb_graph *graph = w->m.graph;
    mqb_status status = MQB_OK;
    if (!mqb_codes_stored(w, graph->input))
        return mqb_fail(w->m.error, MQB_ERR_UNSUPPORTED, "the network's input '%s' has no codes",
                        graph->values[graph->input].name);
    mqb_codes_quantize(w, graph->input, graph->values[graph->input].name, true);
    for (int32_t i = 0; i < graph->num_values; i++)
        if (mqb_codes_stored(w, i))
            w->m.read_as[i] = w->names[i].codes;
    for (int32_t k = 0; k < graph->num_ordered && status == MQB_OK; k++)
        status = write_node(w, &graph->nodes[graph->order[k]]);
    if (status == MQB_OK && mqb_codes_stored(w, graph->output))
        mqb_codes_dequantize(w, graph->output, NULL, graph->values[graph->output].name);
    if (status == MQB_OK && w->m.failed)
        status = mqb_fail(w->m.error, MQB_ERR_MEMORY, "no memory for %d nodes", (int)graph->num_ordered);
    return status;
}
