/* explain_words.c - contracts and absences in words. */
#include "report/explain.h"

#include "graph/op.h"
#include "quant/placed.h"

#include <string.h>

static const char *rounding_word(int32_t rounding)
{
    static const char *const words[] = {"half to even", "half away from zero", "half up", "down", "toward zero"};
    return rounding >= 0 && rounding <= MQB_ROUND_TRUNC ? words[rounding] : "by an unknown rule";
}

/* ---- how codes come about ---- */

static char *input_words(const struct mqb_contract *c)
{
    return mqb_format("x %s s, rounded %s", c->input_divide ? "/" : "* 1 /", rounding_word(c->input_rounding));
}

static const char *accumulator_words(const struct mqb_contract *c)
{
    switch (c->accumulator) {
    case MQB_ACCUMULATOR_I32_SATURATE:
        return "A summed in 32 bits that saturate";
    case MQB_ACCUMULATOR_I16_PAIRS:
        return "A summed in 32 bits from pairs of products that saturate at 16";
    case MQB_ACCUMULATOR_I16_PAIRS_ORT:
        return "A summed in 32 bits from pairs of products that saturate at 16, exactly by depthwise filters of one zero point";
    default:
        return "A summed in 32 bits, proved not to overflow";
    }
}

/* From the accumulator to a code. */
static char *requantize_words(const struct mqb_backend_rules *rules)
{
    const struct mqb_contract *c = &rules->contract;
    const char *fold = c->fold == MQB_FOLD_F64 ? "double" : "float32";
    const char *zero = rules->activation.symmetric ? ""
                       : c->zp_before              ? ", zero point inside the rounding"
                                                   : ", zero point behind it";
    switch (c->multiplier) {
    case MQB_MULTIPLIER_F32:
        return mqb_format("A * M in float32, M = s_x s_w / s_y folded in %s%s, rounded %s%s", fold,
                          c->bias_form == MQB_BIAS_F32 ? ", plus b / s_y" : "", rounding_word(c->rounding), zero);
    case MQB_MULTIPLIER_F64:
        return mqb_format("A * M in double, M = s_x s_w / s_y folded in %s, rounded %s%s", fold, rounding_word(c->rounding),
                          zero);
    case MQB_MULTIPLIER_Q31:
        return mqb_format("A * q in 64 bits and one rounding shift (half up), M = s_x s_w / s_y folded in %s to a 31-bit q%s",
                          fold, zero);
    case MQB_MULTIPLIER_Q31_DOUBLE:
        return mqb_format(
            "high half of 2 A q, then a rounding shift (two roundings), M = s_x s_w / s_y folded in %s to a 31-bit q%s", fold,
            zero);
    case MQB_MULTIPLIER_POT:
        return mqb_format("A shifted right by k, M = s_x s_w / s_y = 2^-k, rounded %s%s", rounding_word(c->rounding), zero);
    default:
        return mqb_strdup("by an unknown multiplier");
    }
}

static char *layer_words(const struct mqb_backend_rules *rules)
{
    char *last = requantize_words(rules);
    char *words = last == NULL ? NULL : mqb_format("%s; code: %s", accumulator_words(&rules->contract), last);
    mqb_deallocate(last);
    return words;
}

static char *weight_words(const struct mqb_contract *c)
{
    if (c->bias_form == MQB_BIAS_F32)
        return mqb_strdup("fixed when deployed; the layer's bias stays float32");
    return mqb_format("fixed when deployed; the layer's bias is int32 at s_x s_w, rounded %s", rounding_word(c->bias_rounding));
}

static char *add_words(const struct mqb_contract *c, bool fused)
{
    if (fused)
        return mqb_format(
            "in the convolution's epilogue: its sums and the shortcut's codes as float32, added, rounded once (%s)",
            rounding_word(c->rounding));
    switch (c->add_rule) {
    case MQB_ADD_RESCALE_EACH:
        return mqb_strdup("each operand brought to the output's scale with one rounding, then added");
    case MQB_ADD_RESCALE_SUM:
        return mqb_format("both operands scaled exactly, added, rounded once (%s)", rounding_word(c->rounding));
    case MQB_ADD_F32:
        return mqb_format("both operands as float32, added, rounded once (%s)", rounding_word(c->rounding));
    default:
        return mqb_strdup("fused multiply-adds in float32, the zero point inside the one rounding");
    }
}

char *mqb_explain_arithmetic(const struct mqb_backend_rules *rules, const char *kind, bool fused)
{
    const struct mqb_contract *c = &rules->contract;
    if (!rules->deployable)
        return mqb_strdup("");
    if (strcmp(kind, "weight") == 0)
        return weight_words(c);
    if (rules->scope == MQB_SCOPE_CONV_AND_LINEAR) {
        char *input = input_words(c);
        char *words = input == NULL ? NULL
                                    : mqb_format("%s, where the layer reads it; its sums leave as A * s_x s_w in %s", input,
                                                 c->intermediate == MQB_INTERMEDIATE_F16 ? "float16" : "float32");
        mqb_deallocate(input);
        return words;
    }
    if (strcmp(kind, "input") == 0)
        return input_words(c);
    if (strcmp(kind, "Conv") == 0 || strcmp(kind, "Gemm") == 0)
        return layer_words(rules);
    if (strcmp(kind, "Add") == 0)
        return add_words(c, fused);
    if (strcmp(kind, "Mul") == 0)
        return mqb_strdup(c->add_rule == MQB_ADD_FMA ? "product of the codes, the zero point inside the one rounding"
                                                     : "product of the codes, requantized as a layer's sum");
    if (strcmp(kind, "Concat") == 0)
        return mqb_strdup("codes of operands with another scale go through a table to the output's");
    return mqb_format("a table of all codes: the function of the real value, rounded %s", rounding_word(c->input_rounding));
}

/* ---- why there is no point ---- */

static const struct mqb_node *node_at(const struct mqb_graph *graph, mqb_node_id id)
{
    return id == MQB_NONE ? NULL : &graph->nodes[id];
}

static bool is_op(const struct mqb_node *node, const char *op)
{
    return node != NULL && strcmp(node->op->name, op) == 0;
}

static bool has_point(const struct mqb_graph *graph, mqb_value_id value)
{
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        const struct mqb_node *node = &graph->nodes[graph->order[i]];
        if (mqb_placed_is_point(node) && node->inputs[0] == value)
            return true;
    }
    return false;
}

/* Where a layer's result, or an operator's, ends after what is computed along with it. */
static mqb_value_id fused_end(const struct mqb_graph *graph, mqb_value_id value)
{
    static const char *const along[] = {"BatchNormalization", "ScaleChannels", "Relu", "Clip"};
    for (;;) {
        const struct mqb_node *reader = node_at(graph, mqb_placed_only_reader(graph, value));
        bool fuses = false;
        for (size_t i = 0; i < sizeof along / sizeof along[0]; i++)
            fuses |= is_op(reader, along[i]) && reader->inputs[0] == value;
        if (!fuses || has_point(graph, value))
            return value;
        value = reader->output;
    }
}

/* The network's output, or what a mere change of shape makes it. */
static bool ends_network(const struct mqb_graph *graph, mqb_value_id value)
{
    while (value != graph->output) {
        const struct mqb_node *reader = node_at(graph, mqb_placed_only_reader(graph, value));
        if (!is_op(reader, "Flatten"))
            return false;
        value = reader->output;
    }
    return true;
}

static const char *pool_words(const struct mqb_contract *c)
{
    switch (c->pool_rule) {
    case MQB_POOL_INTEGER:
        return "; the sum of codes is divided in integers";
    case MQB_POOL_F32:
        return "; the mean is taken in float32";
    default:
        return "; the mean as in ONNX Runtime";
    }
}

static char *carried_words(const struct mqb_backend_rules *rules, const struct mqb_graph *graph, const struct mqb_node *node)
{
    const struct mqb_node *point = node_at(graph, mqb_placed_source(graph, node->inputs[0]));
    bool averages = is_op(node, "AveragePool") || is_op(node, "GlobalAveragePool");
    return mqb_format("handed on: %s keeps scale and zero point of '%s'%s", node->op->name,
                      graph->values[point->inputs[0]].name, averages ? pool_words(&rules->contract) : "");
}

char *mqb_explain_absence(const struct mqb_backend_rules *rules, const struct mqb_graph *placed, mqb_value_id value)
{
    const struct mqb_node *producer = node_at(placed, placed->values[value].producer);
    const struct mqb_node *reader = node_at(placed, mqb_placed_only_reader(placed, value));
    mqb_value_id end = fused_end(placed, value);
    const struct mqb_node *beyond = node_at(placed, mqb_placed_only_reader(placed, end));
    if (is_op(producer, "FloatConv") || is_op(producer, "FloatGemm") || is_op(reader, "BatchStatistics"))
        return mqb_strdup("statistics of a batch, in training alone");
    if (ends_network(placed, value))
        return mqb_strdup("the network's output: it stays a real number");
    if (!rules->deployable || rules->scope == MQB_SCOPE_CONV_AND_LINEAR)
        return mqb_strdup("float: only inputs of convolutions and linear layers are quantized");
    if (end != value && has_point(placed, end))
        return mqb_format("fused: computed together with '%s', which has the point", placed->values[end].name);
    if (end != value && ends_network(placed, end))
        return mqb_format("fused: computed together with '%s', the network's output", placed->values[end].name);
    if (producer != NULL && mqb_placed_carries(producer) && mqb_placed_source(placed, value) != MQB_NONE)
        return carried_words(rules, placed, producer);
    if (is_op(beyond, "Add"))
        return mqb_format("fused: the addition '%s' is done in the convolution's epilogue, so this is never stored",
                          beyond->name);
    return mqb_strdup("no rule of the passes asks for one");
}
