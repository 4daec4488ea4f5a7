/* onnx_linear.c - conversion of linear layers, and of the additions and products around them. */
#include "graph/onnx_import.h"

#include <math.h>
#include <string.h>

/* ---- Gemm, MatMul ---- */

/* Weight [out][in] from constant input 1: as it stands, or transposed and scaled. */
static mqb_status linear_weight(struct mqb_importer *im, bool transposed, float alpha, mqb_value_id *value)
{
    const struct mqb_onnx_tensor *tensor;
    mqb_status status = mqb_onnx_in_reals(im, 1, &tensor);
    if (status != MQB_OK) {
        return status;
    }
    struct mqb_symbol *symbol = im->in[1];
    if (tensor->rank != 2) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "weight '%s' has %d dimensions where 2 are supported", symbol->name,
                        (int)tensor->rank);
    }
    if (transposed && alpha == 1.0f) {
        return mqb_onnx_in_param(im, 1, MQB_VALUE_PARAM, value);
    }
    if (alpha == 1.0f && symbol->as_transposed != MQB_NONE) {
        *value = symbol->as_transposed;
        return MQB_OK;
    }
    status = mqb_onnx_charge(im, tensor->count, sizeof(float));
    if (status != MQB_OK) {
        return status;
    }
    int64_t outs = tensor->dims[transposed ? 0 : 1], ins = tensor->dims[transposed ? 1 : 0];
    float *data = mqb_allocate_array((size_t)tensor->count, sizeof(float));
    if (!data) {
        return mqb_fail(im->error, MQB_ERR_MEMORY, "no memory for weight '%s'", symbol->name);
    }
    for (int64_t o = 0; o < outs; o++) {
        for (int64_t i = 0; i < ins; i++) {
            data[o * ins + i] = alpha * tensor->reals[transposed ? o * ins + i : i * outs + o];
        }
    }
    int64_t dims[2] = {outs, ins};
    status = mqb_onnx_new_param(im, MQB_VALUE_PARAM, symbol->name, 2, dims, data, value);
    if (status == MQB_OK && alpha == 1.0f) {
        symbol->as_transposed = *value;
    }
    return status;
}

/* A constant that is added to every image's `channels` outputs: one number, or a vector along the channel dimension of a result
 * of `rank` dimensions. Anything else is not a bias. */
static bool is_bias(const struct mqb_onnx_tensor *tensor, int32_t rank, int64_t channels)
{
    if (tensor->is_int || tensor->rank > rank) {
        return false;
    }
    if (tensor->count == 1) {
        return true;
    }
    int32_t channel_axis = tensor->rank - (rank - 1); /* aligned at the right */
    return tensor->count == channels && channel_axis >= 0 && channel_axis < tensor->rank &&
           tensor->dims[channel_axis] == channels;
}

/* Bias [channels] from constant input `index`. */
static mqb_status linear_bias(struct mqb_importer *im, int32_t index, int64_t channels, float beta, mqb_value_id *value)
{
    const struct mqb_onnx_tensor *tensor;
    mqb_status status = mqb_onnx_in_reals(im, index, &tensor);
    if (status != MQB_OK) {
        return status;
    }
    if (tensor->rank == 1 && tensor->count == channels && beta == 1.0f) {
        return mqb_onnx_in_param(im, index, MQB_VALUE_PARAM, value);
    }
    status = mqb_onnx_charge(im, channels, sizeof(float));
    if (status != MQB_OK) {
        return status;
    }
    float *data = mqb_allocate_array((size_t)channels, sizeof(float));
    if (!data) {
        return mqb_fail(im->error, MQB_ERR_MEMORY, "no memory for bias '%s'", im->in[index]->name);
    }
    for (int64_t c = 0; c < channels; c++) {
        data[c] = beta * tensor->reals[tensor->count == 1 ? 0 : c];
    }
    return mqb_onnx_new_param(im, MQB_VALUE_PARAM, im->in[index]->name, 1, &channels, data, value);
}

mqb_status mqb_onnx_gemm(struct mqb_importer *im)
{
    mqb_value_id inputs[3];
    double alpha, beta;
    int64_t trans_a, trans_b;
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value_rank(im, 0, 2, &inputs[0]);
    if (status == MQB_OK) {
        status = mqb_onnx_attr_real(im, "alpha", 1.0, &alpha);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_attr_real(im, "beta", 1.0, &beta);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_attr_int(im, "transA", 0, &trans_a);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_attr_int(im, "transB", 0, &trans_b);
    }
    if (status != MQB_OK) {
        return status;
    }
    if (trans_a != 0) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "attribute 'transA' = %lld is not supported: the batch comes first",
                        (long long)trans_a);
    }
    status = linear_weight(im, trans_b != 0, (float)alpha, &inputs[1]);
    if (status != MQB_OK) {
        return status;
    }
    bool has_bias = im->num_in > 2 && im->in[2];
    if (has_bias) {
        const struct mqb_onnx_tensor *bias;
        int64_t channels = im->graph->values[inputs[1]].dims[0];
        status = mqb_onnx_in_reals(im, 2, &bias);
        if (status == MQB_OK && !is_bias(bias, 2, channels)) {
            return mqb_fail(im->error, MQB_ERR_FORMAT, "bias '%s' has %lld elements for %lld outputs", im->in[2]->name,
                            (long long)bias->count, (long long)channels);
        }
        if (status == MQB_OK) {
            status = linear_bias(im, 2, channels, (float)beta, &inputs[2]);
        }
    }
    if (status == MQB_OK) {
        status = mqb_onnx_emit(im, "Gemm", NULL, NULL, inputs, has_bias ? 3 : 2, &node);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}

mqb_status mqb_onnx_matmul(struct mqb_importer *im)
{
    mqb_value_id inputs[2];
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value_rank(im, 0, 2, &inputs[0]);
    if (status == MQB_OK) {
        status = linear_weight(im, false, 1.0f, &inputs[1]);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_emit(im, "Gemm", NULL, NULL, inputs, 2, &node);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}

/* ---- Add, Mul ---- */

/* x + constant, where x comes from a linear layer without bias that nobody else reads: the layer gets the bias. */
static mqb_status add_bias(struct mqb_importer *im, int32_t value_index, int32_t tensor_index)
{
    mqb_value_id x, bias;
    const struct mqb_onnx_tensor *tensor;
    mqb_status status = mqb_onnx_in_value(im, value_index, &x);
    if (status == MQB_OK) {
        status = mqb_onnx_in_reals(im, tensor_index, &tensor);
    }
    if (status != MQB_OK) {
        return status;
    }
    const struct mqb_value *value = &im->graph->values[x];
    struct mqb_node *layer = value->producer == MQB_NONE ? NULL : &im->graph->nodes[value->producer];
    bool linear =
        layer && (strcmp(layer->op->name, "Conv") == 0 || strcmp(layer->op->name, "Gemm") == 0) && layer->num_inputs == 2;
    if (!linear || im->in[value_index]->uses != 1 || value->rank < 2 || !is_bias(tensor, value->rank, value->dims[1])) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                        "adding the constant '%s' is supported only as the bias of a Conv, MatMul or Gemm that has none",
                        im->in[tensor_index]->name);
    }
    status = linear_bias(im, tensor_index, value->dims[1], 1.0f, &bias);
    if (status != MQB_OK) {
        return status;
    }
    layer->inputs[2] = bias;
    layer->num_inputs = 3;
    status = mqb_onnx_take_over(im, x);
    return status == MQB_OK ? mqb_onnx_settle(im, im->graph->values[x].producer) : status;
}

mqb_status mqb_onnx_add(struct mqb_importer *im)
{
    if (mqb_onnx_in_is_tensor(im, 1)) {
        return add_bias(im, 0, 1);
    }
    if (mqb_onnx_in_is_tensor(im, 0)) {
        return add_bias(im, 1, 0);
    }
    mqb_value_id inputs[2];
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value(im, 0, &inputs[0]);
    if (status == MQB_OK) {
        status = mqb_onnx_in_value(im, 1, &inputs[1]);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_emit(im, "Add", NULL, NULL, inputs, 2, &node);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}

/* `gate` is HardSigmoid(x) with HardSwish's slope and offset, read by this product alone. */
static bool is_hard_swish(const struct mqb_importer *im, const struct mqb_symbol *gate, mqb_value_id x)
{
    mqb_node_id producer = im->graph->values[gate->value].producer;
    if (producer == MQB_NONE || gate->uses != 1 || !mqb_op_find(im->graph->table, "HardSwish")) {
        return false;
    }
    const struct mqb_node *node = &im->graph->nodes[producer];
    return strcmp(node->op->name, "HardSigmoid") == 0 && node->inputs[0] == x &&
           fabs(mqb_attr_f(node, "alpha", 0.0) - 1.0 / 6.0) < 1e-6 && mqb_attr_f(node, "beta", 0.0) == 0.5;
}

static mqb_status make_hard_swish(struct mqb_importer *im, mqb_value_id gate)
{
    struct mqb_node *node = &im->graph->nodes[im->graph->values[gate].producer];
    mqb_node_clear_attrs(node);
    node->op = mqb_op_find(im->graph->table, "HardSwish");
    char *name = mqb_strdup(im->node_name);
    if (!name) {
        return mqb_fail(im->error, MQB_ERR_MEMORY, "no memory for the name '%s'", im->node_name);
    }
    mqb_status status = MQB_OK;
    if (mqb_onnx_map_find(&im->node_names, name)) { /* names stay unique: it keeps its old one */
        mqb_deallocate(name);
    } else {
        status = mqb_onnx_map_put(&im->node_names, name, 0, im->error);
        mqb_deallocate(node->name);
        node->name = name;
    }
    if (status == MQB_OK) {
        status = mqb_onnx_take_over(im, gate);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, im->graph->values[gate].producer) : status;
}

mqb_status mqb_onnx_mul(struct mqb_importer *im)
{
    mqb_value_id inputs[2];
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value(im, 0, &inputs[0]);
    if (status == MQB_OK) {
        status = mqb_onnx_in_value(im, 1, &inputs[1]);
    }
    if (status != MQB_OK) {
        return status;
    }
    for (int i = 0; i < 2; i++) {
        if (is_hard_swish(im, im->in[i], inputs[1 - i])) {
            return make_hard_swish(im, inputs[i]);
        }
    }
    /* The one that is broadcast over the pixels comes second. */
    const struct mqb_value *a = &im->graph->values[inputs[0]], *b = &im->graph->values[inputs[1]];
    if (a->rank == 4 && b->rank == 4 && a->dims[2] == 1 && a->dims[3] == 1 && (b->dims[2] != 1 || b->dims[3] != 1)) {
        mqb_value_id first = inputs[0];
        inputs[0] = inputs[1];
        inputs[1] = first;
    }
    status = mqb_onnx_emit(im, "Mul", NULL, NULL, inputs, 2, &node);
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}
