/* infer.c - checks of inputs and outputs. The graph puts the node's name before the sentences. */
#include "ops/ops.h"

#include <inttypes.h>

const struct mqb_value *mqb_node_input(const struct mqb_graph *graph, const struct mqb_node *node, int32_t index)
{
    if (index >= node->num_inputs || node->inputs[index] == MQB_NONE)
        return NULL;
    return &graph->values[node->inputs[index]];
}

const char *mqb_shape_text(const struct mqb_value *value, char text[MQB_SHAPE_TEXT])
{
    size_t used = 0;
    used += (size_t)snprintf(text, MQB_SHAPE_TEXT, "[");
    for (int32_t i = 0; i < value->rank && i < MQB_MAX_RANK; i++) {
        const char *comma = i ? ", " : "";
        if (i == 0 && value->batched)
            used += (size_t)snprintf(text + used, MQB_SHAPE_TEXT - used, "N");
        else
            used += (size_t)snprintf(text + used, MQB_SHAPE_TEXT - used, "%s%" PRId64, comma, value->dims[i]);
    }
    snprintf(text + used, MQB_SHAPE_TEXT - used, "]");
    return text;
}

static mqb_status infer_present(const struct mqb_graph *graph, const struct mqb_node *node, int32_t index, const char *what,
                                const struct mqb_value **value, struct mqb_error *error)
{
    *value = mqb_node_input(graph, node, index);
    if (!*value)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "input %" PRId32 " (%s) is missing; the operator takes %" PRId32 " to %" PRId32 " inputs", index, what,
                        node->op->min_inputs, node->op->max_inputs);
    return MQB_OK;
}

mqb_status mqb_infer_batched(const struct mqb_graph *graph, const struct mqb_node *node, int32_t index, bool images,
                             const struct mqb_value **value, struct mqb_error *error)
{
    char text[MQB_SHAPE_TEXT];
    mqb_status status = infer_present(graph, node, index, "a batch of data", value, error);
    if (status)
        return status;
    if (!(*value)->batched)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "input %" PRId32 " ('%s') is a parameter of shape %s, but the operator runs on the batch: expected a "
                        "value that depends on the network's input",
                        index, (*value)->name, mqb_shape_text(*value, text));
    if ((*value)->rank != 4 && (images || (*value)->rank != 2))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "input %" PRId32 " ('%s') has shape %s, expected %s", index, (*value)->name,
                        mqb_shape_text(*value, text), images ? "[N, C, H, W]" : "[N, C, H, W] or [N, F]");
    return MQB_OK;
}

mqb_status mqb_infer_fixed(const struct mqb_graph *graph, const struct mqb_node *node, int32_t index, const char *what,
                           const struct mqb_value **value, struct mqb_error *error)
{
    mqb_status status = infer_present(graph, node, index, what, value, error);
    if (status)
        return status;
    if ((*value)->batched)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "input %" PRId32 " (%s, '%s') depends on the network's input, expected a parameter; operators with two "
                        "data inputs of this kind are not supported",
                        index, what, (*value)->name);
    return MQB_OK;
}

mqb_status mqb_infer_vector(const struct mqb_graph *graph, const struct mqb_node *node, int32_t index, const char *what,
                            int64_t length, bool optional, struct mqb_error *error)
{
    char text[MQB_SHAPE_TEXT];
    const struct mqb_value *value;
    if (optional && !mqb_node_input(graph, node, index))
        return MQB_OK;
    mqb_status status = mqb_infer_fixed(graph, node, index, what, &value, error);
    if (status)
        return status;
    if (value->rank != 1 || value->dims[0] != length)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "input %" PRId32 " (%s, '%s') has shape %s, expected [%" PRId64 "], one number a channel", index, what,
                        value->name, mqb_shape_text(value, text), length);
    return MQB_OK;
}

bool mqb_value_same_shape(const struct mqb_value *a, const struct mqb_value *b)
{
    if (a->rank != b->rank || a->batched != b->batched)
        return false;
    for (int32_t i = a->batched ? 1 : 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i])
            return false;
    return true;
}

mqb_status mqb_infer_output(struct mqb_value *output, int32_t rank, const int64_t *dims, bool batched, struct mqb_error *error)
{
    int64_t size = 1;
    for (int32_t i = batched ? 1 : 0; i < rank; i++) {
        if (dims[i] < 1)
            return mqb_fail(error, MQB_ERR_ARGUMENT,
                            "dimension %" PRId32 " of its output would be %" PRId64 ", expected at least 1", i, dims[i]);
        if (dims[i] > INT32_MAX || size * dims[i] > INT32_MAX)
            return mqb_fail(error, MQB_ERR_ARGUMENT, "its output would have more than %d elements%s, which is not supported",
                            INT32_MAX, batched ? " an image" : "");
        size *= dims[i];
    }
    output->rank = rank;
    output->batched = batched;
    for (int32_t i = 0; i < rank; i++)
        output->dims[i] = dims[i];
    if (batched)
        output->dims[0] = MQB_BATCH;
    return MQB_OK;
}

mqb_status mqb_infer_same(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                          struct mqb_error *error)
{
    const struct mqb_value *x;
    mqb_status status = mqb_infer_batched(graph, node, 0, false, &x, error);
    if (status)
        return status;
    return mqb_infer_output(output, x->rank, x->dims, true, error);
}
