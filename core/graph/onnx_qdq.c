/*
 * onnx_qdq.c - the QDQ form: float operators, with QuantizeLinear and DequantizeLinear after each tensor that the integer
 * program stores, and DequantizeLinear after integer weights and biases.
 *
 * An engine fuses DequantizeLinear -> operator -> QuantizeLinear into an integer operator only if nothing else stands between.
 * An activation there is taken away where the clamp of codes behind QuantizeLinear does its work, and is left where it changes
 * no real that a byte can say, because then the engine takes it away itself.
 */
#include "graph/onnx_codes.h"

#include <mqbench/backend.h>

/* Codes of a parameter that the node reads, as reals; once. */
static void dequantize_parameters(struct mqb_codes_writer *w, const struct mqb_node *node)
{
    for (int32_t i = 0; i < node->num_inputs; i++) {
        mqb_value_id value = node->inputs[i];
        if (value == MQB_NONE || !w->of[value] || !w->of[value]->codes || w->names[value].reals)
            continue;
        w->names[value].reals = mqb_message_helper_name(&w->m, w->m.graph->values[value].name, "_dequantized");
        mqb_codes_dequantize(w, value, NULL, w->names[value].reals);
        w->m.read_as[value] = w->names[value].reals;
    }
}

/* `reals` into codes, and back. The network's output keeps its name on the reals that come out of the codes. */
static void store(struct mqb_codes_writer *w, mqb_value_id value, const char *reals, bool clamped)
{
    const char *name = w->m.graph->values[value].name;
    const char *back = value == w->m.graph->output ? name : mqb_message_helper_name(&w->m, name, "_dequantized");
    mqb_codes_quantize(w, value, reals, clamped);
    mqb_codes_dequantize(w, value, NULL, back);
    w->names[value].reals = back;
    w->m.read_as[value] = back;
}

/* A clamp that belongs to the operator before it and that the codes do better. */
static bool left_out(const struct mqb_codes_writer *w, const struct mqb_node *node)
{
    bool redundant;
    mqb_value_id target = mqb_codes_target(w, node->output, &redundant);
    if (!mqb_codes_is_activation(node) || mqb_codes_stored(w, node->inputs[0]) || target == MQB_NONE ||
        (w->flags & MQB_ONNX_REAL_CLAMPS))
        return false;
    /* All activations of a chain stay or go together: look from the operator that they belong to. */
    mqb_value_id source = node->inputs[0];
    for (mqb_node_id producer = w->m.graph->values[source].producer; producer != MQB_NONE;
         producer = w->m.graph->values[source].producer) {
        const struct mqb_node *before = &w->m.graph->nodes[producer];
        if (!mqb_codes_is_activation(before) || mqb_codes_stored(w, before->inputs[0]))
            break;
        source = before->inputs[0];
    }
    mqb_codes_target(w, source, &redundant);
    return !redundant;
}

mqb_status mqb_codes_write_qdq(struct mqb_codes_writer *w)
{
    const struct mqb_graph *graph = w->m.graph;
    if (mqb_codes_stored(w, graph->output))
        w->m.write_as[graph->output] = mqb_message_helper_name(&w->m, graph->values[graph->output].name, "_real");
    if (mqb_codes_stored(w, graph->input))
        store(w, graph->input, graph->values[graph->input].name, true);
    for (int32_t k = 0; k < graph->num_ordered; k++) {
        const struct mqb_node *node = &graph->nodes[graph->order[k]];
        const char *result;
        if (left_out(w, node)) {
            result = mqb_message_read_name(&w->m, node->inputs[0]);
            w->m.read_as[node->output] = result;
        } else {
            dequantize_parameters(w, node);
            mqb_status status = mqb_onnx_write_node(&w->m, node);
            if (status != MQB_OK)
                return status;
            result = mqb_message_write_name(&w->m, node->output);
        }
        if (mqb_codes_stored(w, node->output))
            store(w, node->output, result, !mqb_codes_carries(w, node));
    }
    return w->m.failed ? mqb_fail(w->m.error, MQB_ERR_MEMORY, "no memory for %d nodes", (int)graph->num_ordered) : MQB_OK;
}
