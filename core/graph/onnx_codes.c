/*
 * onnx_codes.c - the integer program as ONNX: what both forms share.
 *
 * A tensor `t` with codes appears as t_quantized, with its parameters in t_scale and t_zero_point; t_dequantized are the reals
 * that the codes stand for.
 */
#include "graph/onnx_codes.h"

#include <mqbench/backend.h>

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const char *value_name(const struct mqb_codes_writer *w, mqb_value_id value)
{
    return w->m.graph->values[value].name;
}

static int32_t type_low(const struct mqb_onnx_codes *codes)
{
    return codes->is_signed ? -128 : 0;
}

static int32_t type_high(const struct mqb_onnx_codes *codes)
{
    return codes->is_signed ? 127 : 255;
}

static int32_t type_of(const struct mqb_onnx_codes *codes)
{
    if (codes->is_bias)
        return ONNX__TENSOR_PROTO__DATA_TYPE__INT32;
    return codes->is_signed ? ONNX__TENSOR_PROTO__DATA_TYPE__INT8 : ONNX__TENSOR_PROTO__DATA_TYPE__UINT8;
}

/* ---- what the graph says ---- */

bool mqb_codes_is_activation(const struct mqb_node *node)
{
    return strcmp(node->op->name, "Relu") == 0 || strcmp(node->op->name, "Clip") == 0;
}

bool mqb_codes_stored(const struct mqb_codes_writer *w, mqb_value_id value)
{
    return w->of[value] && !w->of[value]->codes;
}

/* The bytes of `codes` say no real that the activation would change. */
static bool keeps_all(const struct mqb_node *node, const struct mqb_onnx_codes *codes)
{
    int32_t z = codes->zero_point[0];
    if (strcmp(node->op->name, "Relu") == 0)
        return z == type_low(codes);
    float least = codes->scale[0] * (float)(type_low(codes) - z), most = codes->scale[0] * (float)(type_high(codes) - z);
    return (float)mqb_attr_f(node, "min", -INFINITY) <= least && (float)mqb_attr_f(node, "max", INFINITY) >= most;
}

mqb_value_id mqb_codes_target(const struct mqb_codes_writer *w, mqb_value_id value, bool *redundant)
{
    const struct mqb_graph *graph = w->m.graph;
    mqb_value_id end = value;
    while (!mqb_codes_stored(w, end)) {
        if (end == graph->output || w->readers[end] != 1 || !mqb_codes_is_activation(&graph->nodes[w->reader[end]]))
            return MQB_NONE;
        end = graph->nodes[w->reader[end]].output;
    }
    *redundant = true;
    while (value != end) {
        const struct mqb_node *node = &graph->nodes[w->reader[value]];
        *redundant = *redundant && keeps_all(node, w->of[end]);
        value = node->output;
    }
    return end;
}

bool mqb_codes_carries(const struct mqb_codes_writer *w, const struct mqb_node *node)
{
    static const char *const ops[] = {"MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Slice", "ChannelShuffle",
                                      "Pad",     NULL};
    const struct mqb_onnx_codes *x = w->of[node->inputs[0]], *y = w->of[node->output];
    int i = 0;
    while (ops[i] && strcmp(ops[i], node->op->name) != 0)
        i++;
    if (!ops[i] || !x || !y || (strcmp(ops[i], "Pad") == 0 && mqb_attr_f(node, "value", 0.0) != 0.0))
        return false;
    return x->is_signed == y->is_signed && x->scale[0] == y->scale[0] && x->zero_point[0] == y->zero_point[0];
}

/* ---- nodes ---- */

bool mqb_codes_narrow(const struct mqb_codes_writer *w, mqb_value_id value)
{
    return w->of[value]->low > type_low(w->of[value]) || w->of[value]->high < type_high(w->of[value]);
}

const char *mqb_codes_scalar(struct mqb_codes_writer *w, mqb_value_id value, const char *tail, int32_t code)
{
    uint8_t *byte = mqb_message_take(&w->m, 1);
    if (byte)
        *byte = (uint8_t)(code & 255);
    return mqb_message_add_tensor(&w->m, mqb_message_helper_name(&w->m, value_name(w, value), tail), type_of(w->of[value]), 0,
                                  NULL, byte, 1);
}

const char *mqb_codes_unclamped_name(struct mqb_codes_writer *w, mqb_value_id value, bool clamped)
{
    return clamped ? mqb_message_helper_name(&w->m, value_name(w, value), "_unclamped") : w->names[value].codes;
}

void mqb_codes_clamp(struct mqb_codes_writer *w, mqb_value_id value, const char *from)
{
    const struct mqb_onnx_codes *codes = w->of[value];
    Onnx__NodeProto *node = mqb_message_add_node(&w->m, "Clip", mqb_message_take_text(&w->m, value_name(w, value), ".clamp"),
                                                 w->names[value].codes);
    mqb_message_add_input(node, from);
    mqb_message_add_input(node, mqb_codes_scalar(w, value, "_least", codes->low));
    mqb_message_add_input(node, mqb_codes_scalar(w, value, "_most", codes->high));
}

/* The bounds as reals, before they are rounded to codes. */
static const char *clamp_reals(struct mqb_codes_writer *w, mqb_value_id value, const char *reals)
{
    const struct mqb_onnx_codes *codes = w->of[value];
    const char *name = value_name(w, value), *clamped = mqb_message_helper_name(&w->m, name, "_clamped");
    Onnx__NodeProto *node = mqb_message_add_node(&w->m, "Clip", mqb_message_take_text(&w->m, name, ".clamp"), clamped);
    float least = codes->scale[0] * (float)(codes->low - codes->zero_point[0]);
    float most = codes->scale[0] * (float)(codes->high - codes->zero_point[0]);
    mqb_message_add_input(node, reals);
    mqb_message_add_input(node, mqb_message_helper_scalar(&w->m, name, "_least", (double)least));
    mqb_message_add_input(node, mqb_message_helper_scalar(&w->m, name, "_most", (double)most));
    return clamped;
}

void mqb_codes_quantize(struct mqb_codes_writer *w, mqb_value_id value, const char *reals, bool clamped)
{
    clamped = clamped && mqb_codes_narrow(w, value);
    if (clamped && (w->flags & MQB_ONNX_REAL_CLAMPS)) {
        reals = clamp_reals(w, value, reals);
        clamped = false;
    }
    const char *to = mqb_codes_unclamped_name(w, value, clamped);
    Onnx__NodeProto *node =
        mqb_message_add_node(&w->m, "QuantizeLinear", mqb_message_take_text(&w->m, value_name(w, value), ".quantize"), to);
    mqb_message_add_input(node, reals);
    mqb_message_add_input(node, w->names[value].scale);
    mqb_message_add_input(node, w->names[value].zero_point);
    if (clamped)
        mqb_codes_clamp(w, value, to);
}

void mqb_codes_dequantize(struct mqb_codes_writer *w, mqb_value_id value, const char *codes, const char *reals)
{
    const struct mqb_onnx_codes *of = w->of[value];
    Onnx__NodeProto *node = mqb_message_add_node(&w->m, "DequantizeLinear",
                                                 mqb_message_take_text(&w->m, value_name(w, value), ".dequantize"), reals);
    mqb_message_add_input(node, codes ? codes : w->names[value].codes);
    mqb_message_add_input(node, w->names[value].scale);
    mqb_message_add_input(node, w->names[value].zero_point);
    if (of->num_channels > 1)
        mqb_message_add_int(&w->m, node, "axis", 0);
}

/* ---- initializers ---- */

/* Numbers as int32, or as bytes; NULL: no memory. */
static const void *pack_codes(struct mqb_codes_writer *w, const struct mqb_onnx_codes *of, const int32_t *numbers,
                              int64_t count, size_t *size)
{
    *size = (size_t)count * (of->is_bias ? sizeof(int32_t) : 1);
    uint8_t *bytes = mqb_message_take(&w->m, *size);
    if (bytes && of->is_bias)
        memcpy(bytes, numbers, *size);
    for (int64_t i = 0; bytes && !of->is_bias && i < count; i++)
        bytes[i] = (uint8_t)(numbers[i] & 255);
    return bytes;
}

static mqb_status check_codes(const struct mqb_codes_writer *w, const struct mqb_onnx_codes *of, struct mqb_error *error)
{
    const struct mqb_value *value = &w->m.graph->values[of->value];
    int64_t size = mqb_value_size(value);
    if (of->num_channels != 1 && (!of->codes || of->num_channels != value->dims[0]))
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "tensor '%s' has %d scales, but ONNX has one scale a tensor%s", value->name,
                        (int)of->num_channels, of->codes ? " or one for each output channel" : "");
    for (int32_t c = 0; c < of->num_channels; c++) {
        if (!isfinite(of->scale[c]) || !(of->scale[c] > 0.0f))
            return mqb_fail(error, MQB_ERR_NUMERIC, "tensor '%s' has scale %g in channel %d; expected a finite number above 0",
                            value->name, (double)of->scale[c], (int)c);
        if (of->is_bias ? of->zero_point[c] != 0 : of->zero_point[c] < type_low(of) || of->zero_point[c] > type_high(of))
            return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                            "tensor '%s' has zero point %d in channel %d, which ONNX would hold as %s; expected %d to %d",
                            value->name, (int)of->zero_point[c], (int)c,
                            of->is_bias     ? "int32"
                            : of->is_signed ? "int8"
                                            : "uint8",
                            of->is_bias ? 0 : (int)type_low(of), of->is_bias ? 0 : (int)type_high(of));
    }
    for (int64_t i = 0; of->codes && !of->is_bias && i < size; i++)
        if (of->codes[i] < type_low(of) || of->codes[i] > type_high(of))
            return mqb_fail(error, MQB_ERR_UNSUPPORTED, "tensor '%s' has code %d (element %" PRId64 "); %s holds %d to %d",
                            value->name, (int)of->codes[i], i, of->is_signed ? "int8" : "uint8", (int)type_low(of),
                            (int)type_high(of));
    return MQB_OK;
}

static void add_parameters(struct mqb_codes_writer *w, const struct mqb_onnx_codes *of)
{
    const struct mqb_value *value = &w->m.graph->values[of->value];
    struct mqb_codes_names *names = &w->names[of->value];
    int64_t channels = of->num_channels;
    size_t rank = channels > 1, size;
    names->codes = mqb_message_helper_name(&w->m, value->name, "_quantized");
    names->scale = mqb_message_helper_name(&w->m, value->name, "_scale");
    names->zero_point = mqb_message_helper_name(&w->m, value->name, "_zero_point");
    mqb_message_add_tensor(&w->m, names->scale, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, rank, &channels, of->scale,
                           (size_t)channels * sizeof(float));
    const void *zeros = pack_codes(w, of, of->zero_point, channels, &size);
    mqb_message_add_tensor(&w->m, names->zero_point, type_of(of), rank, &channels, zeros, size);
    if (of->codes) {
        const void *codes = pack_codes(w, of, of->codes, mqb_value_size(value), &size);
        mqb_message_add_tensor(&w->m, names->codes, type_of(of), (size_t)value->rank, value->dims, codes, size);
        w->m.read_as[of->value] = names->codes;
    }
}

/* ---- the whole file ---- */

static mqb_status prepare(struct mqb_codes_writer *w, const struct mqb_onnx_codes *tensors, int32_t num_tensors)
{
    const struct mqb_graph *graph = w->m.graph;
    size_t num_values = (size_t)graph->num_values + 1;
    w->of = mqb_message_take(&w->m, num_values * sizeof(*w->of));
    w->names = mqb_message_take(&w->m, num_values * sizeof(*w->names));
    w->readers = mqb_message_take(&w->m, num_values * sizeof(*w->readers));
    w->reader = mqb_message_take(&w->m, num_values * sizeof(*w->reader));
    w->m.read_as = mqb_message_take(&w->m, num_values * sizeof(*w->m.read_as));
    w->m.write_as = mqb_message_take(&w->m, num_values * sizeof(*w->m.write_as));
    if (w->m.failed)
        return mqb_fail(w->m.error, MQB_ERR_MEMORY, "no memory to export a graph of %d nodes", (int)graph->num_ordered);
    for (int32_t k = 0; k < graph->num_ordered; k++) {
        const struct mqb_node *node = &graph->nodes[graph->order[k]];
        for (int32_t i = 0; i < node->num_inputs; i++) {
            if (node->inputs[i] == MQB_NONE)
                continue;
            w->readers[node->inputs[i]]++;
            w->reader[node->inputs[i]] = graph->order[k];
        }
    }
    for (int32_t i = 0; i < num_tensors; i++) {
        mqb_status status = check_codes(w, &tensors[i], w->m.error);
        if (status != MQB_OK)
            return status;
        w->of[tensors[i].value] = &tensors[i];
        add_parameters(w, &tensors[i]);
    }
    return MQB_OK;
}

mqb_status mqb_onnx_export_quantized(const struct mqb_graph *graph, const struct mqb_onnx_codes *tensors, int32_t num_tensors,
                                     uint32_t flags, const char *path, struct mqb_error *error)
{
    struct mqb_error own = MQB_ERROR_INIT; /* writers tell a sentence from a lack of memory by it */
    struct mqb_codes_writer w = {.m = {.graph = graph, .error = &own}, .flags = flags};
    if (graph->input == MQB_NONE || graph->output == MQB_NONE)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "%.200s: a graph without input or output cannot be exported", path);
    mqb_status status = prepare(&w, tensors, num_tensors);
    if (status == MQB_OK)
        status = flags & MQB_ONNX_QLINEAR ? mqb_codes_write_qlinear(&w) : mqb_codes_write_qdq(&w);
    if (status == MQB_OK)
        status = mqb_message_finish(&w.m, path);
    else
        mqb_fail_prefix(&own, status, "%.200s", path);
    mqb_message_destroy(&w.m);
    return status == MQB_OK ? MQB_OK : mqb_fail(error, status, "%s", own.text);
}

char *mqb_onnx_codes_name(const struct mqb_graph *graph, mqb_value_id value)
{
    struct mqb_message m = {.graph = graph};
    const char *name = mqb_message_helper_name(&m, graph->values[value].name, "_quantized");
    char *copy = m.failed ? NULL : mqb_strdup(name);
    mqb_message_destroy(&m);
    return copy;
}
