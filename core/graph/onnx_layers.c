/* onnx_layers.c - conversion of convolutions, normalization, pooling and activations. */
#include "graph/onnx_import.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* No 2-D operator of a network comes near; beyond it, sums of sizes could overflow. */
#define MAX_EXTENT ((int64_t)1 << 20)

struct window {
    int64_t kernel[2], strides[2], pads[4], dilations[2];
};

/* Reads strides, dilations and pads; auto_pad becomes explicit pads for an input of h x w. */
static mqb_status read_window(struct mqb_importer *im, const struct mqb_value *x, struct window *window)
{
    char auto_pad[16];
    mqb_status status = mqb_onnx_attr_list(im, "strides", 2, 1, 1, MAX_EXTENT, window->strides);
    if (status == MQB_OK) {
        status = mqb_onnx_attr_list(im, "dilations", 2, 1, 1, MAX_EXTENT, window->dilations);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_attr_list(im, "pads", 4, 0, 0, MAX_EXTENT, window->pads);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_attr_text(im, "auto_pad", "NOTSET", auto_pad, sizeof(auto_pad));
    }
    if (status != MQB_OK || strcmp(auto_pad, "NOTSET") == 0 || auto_pad[0] == '\0') {
        return status;
    }
    bool upper = strcmp(auto_pad, "SAME_UPPER") == 0;
    if (!upper && strcmp(auto_pad, "SAME_LOWER") != 0 && strcmp(auto_pad, "VALID") != 0) {
        return mqb_fail(im->error, MQB_ERR_FORMAT,
                        "attribute 'auto_pad' is '%s'; NOTSET, VALID, SAME_UPPER and SAME_LOWER exist", auto_pad);
    }
    memset(window->pads, 0, sizeof(window->pads));
    for (int i = 0; i < 2 && strcmp(auto_pad, "VALID") != 0; i++) {
        int64_t size = x->dims[2 + i];
        int64_t steps = (size + window->strides[i] - 1) / window->strides[i];
        int64_t total = (steps - 1) * window->strides[i] + (window->kernel[i] - 1) * window->dilations[i] + 1 - size;
        total = total > 0 ? total : 0;
        window->pads[i] = upper ? total / 2 : total - total / 2;
        window->pads[2 + i] = total - window->pads[i];
    }
    return MQB_OK;
}

static mqb_status set_window(struct mqb_importer *im, mqb_node_id node, const struct window *window)
{
    mqb_status status = mqb_node_set_list(im->graph, node, "strides", window->strides, 2, im->error);
    return status == MQB_OK ? mqb_node_set_list(im->graph, node, "pads", window->pads, 4, im->error) : status;
}

mqb_status mqb_onnx_conv(struct mqb_importer *im)
{
    mqb_value_id inputs[3];
    const struct mqb_onnx_tensor *weight, *bias;
    struct window window;
    int64_t group, kernel_shape[2];
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value_rank(im, 0, 4, &inputs[0]);
    if (status == MQB_OK) {
        status = mqb_onnx_in_reals(im, 1, &weight);
    }
    if (status != MQB_OK) {
        return status;
    }
    const struct mqb_value *x = &im->graph->values[inputs[0]];
    if (weight->rank != 4) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                        "weight '%s' has %d dimensions; only 2-D convolutions, with 4, are supported", im->in[1]->name,
                        (int)weight->rank);
    }
    int64_t out_channels = weight->dims[0];
    window.kernel[0] = weight->dims[2];
    window.kernel[1] = weight->dims[3];
    status = mqb_onnx_attr_int(im, "group", 1, &group);
    if (status == MQB_OK) {
        status = mqb_onnx_attr_list(im, "kernel_shape", 2, 0, 0, MAX_EXTENT, kernel_shape);
    }
    if (status == MQB_OK) {
        status = read_window(im, x, &window);
    }
    if (status != MQB_OK) {
        return status;
    }
    if (group < 1 || group > x->dims[1] || x->dims[1] % group != 0 || weight->dims[1] != x->dims[1] / group ||
        out_channels % group != 0) {
        return mqb_fail(im->error, MQB_ERR_FORMAT,
                        "weight '%s' is [%lld][%lld][%lld][%lld], which does not fit an input of %lld channels in %lld groups",
                        im->in[1]->name, (long long)out_channels, (long long)weight->dims[1], (long long)weight->dims[2],
                        (long long)weight->dims[3], (long long)x->dims[1], (long long)group);
    }
    if (kernel_shape[0] != 0 && (kernel_shape[0] != window.kernel[0] || kernel_shape[1] != window.kernel[1])) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "attribute 'kernel_shape' says %lldx%lld, weight '%s' is %lldx%lld",
                        (long long)kernel_shape[0], (long long)kernel_shape[1], im->in[1]->name, (long long)window.kernel[0],
                        (long long)window.kernel[1]);
    }
    bool has_bias = im->num_in > 2 && im->in[2];
    if (has_bias) {
        status = mqb_onnx_in_reals(im, 2, &bias);
        if (status != MQB_OK) {
            return status;
        }
        if (bias->rank != 1 || bias->count != out_channels) {
            return mqb_fail(im->error, MQB_ERR_FORMAT, "bias '%s' has %lld elements for %lld output channels", im->in[2]->name,
                            (long long)bias->count, (long long)out_channels);
        }
    }
    status = mqb_onnx_in_param(im, 1, MQB_VALUE_PARAM, &inputs[1]);
    if (status == MQB_OK && has_bias) {
        status = mqb_onnx_in_param(im, 2, MQB_VALUE_PARAM, &inputs[2]);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_emit(im, "Conv", NULL, NULL, inputs, has_bias ? 3 : 2, &node);
    }
    if (status == MQB_OK) {
        status = set_window(im, node, &window);
    }
    if (status == MQB_OK) {
        status = mqb_node_set_list(im->graph, node, "dilations", window.dilations, 2, im->error);
    }
    if (status == MQB_OK) {
        status = mqb_node_set_int(im->graph, node, "group", group, im->error);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}

mqb_status mqb_onnx_batch_norm(struct mqb_importer *im)
{
    static const char *const roles[] = {"input", "scale", "bias", "mean", "variance"};
    mqb_value_id inputs[5];
    double epsilon, momentum;
    int64_t training, spatial;
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value(im, 0, &inputs[0]);
    if (status == MQB_OK) {
        status = mqb_onnx_attr_int(im, "training_mode", 0, &training);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_attr_int(im, "spatial", 1, &spatial);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_attr_real(im, "epsilon", (double)1e-5f, &epsilon);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_attr_real(im, "momentum", (double)0.9f, &momentum);
    }
    if (status != MQB_OK) {
        return status;
    }
    size_t num_outputs = 0;
    for (size_t i = 0; i < im->node->n_output; i++) {
        num_outputs += im->node->output[i][0] != '\0';
    }
    if (training != 0 || num_outputs > 1) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "it is in training mode; export the network in evaluation mode");
    }
    if (spatial != 1) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "attribute 'spatial' = %lld is not supported, only 1",
                        (long long)spatial);
    }
    if (!(epsilon >= 0.0 && epsilon < 1e30) || !(momentum >= 0.0 && momentum <= 1.0)) {
        return mqb_fail(im->error, MQB_ERR_FORMAT,
                        "epsilon = %g and momentum = %g; epsilon must not be negative, momentum lies in [0, 1]", epsilon,
                        momentum);
    }
    const struct mqb_value *x = &im->graph->values[inputs[0]];
    int64_t channels = x->rank >= 2 ? x->dims[1] : 0;
    for (int32_t i = 1; i < 5 && status == MQB_OK; i++) {
        const struct mqb_onnx_tensor *tensor;
        status = mqb_onnx_in_reals(im, i, &tensor);
        if (status == MQB_OK && (tensor->rank != 1 || tensor->count != channels)) {
            return mqb_fail(im->error, MQB_ERR_FORMAT, "%s '%s' has %lld elements for %lld channels", roles[i], im->in[i]->name,
                            (long long)tensor->count, (long long)channels);
        }
        for (int64_t c = 0; status == MQB_OK && i == 4 && c < channels; c++) {
            if ((double)tensor->reals[c] + epsilon <= 0.0) {
                return mqb_fail(im->error, MQB_ERR_NUMERIC,
                                "variance '%s' is %g at channel %lld; a variance plus epsilon must be positive",
                                im->in[i]->name, (double)tensor->reals[c], (long long)c);
            }
        }
    }
    for (int32_t i = 1; i < 5 && status == MQB_OK; i++) {
        status = mqb_onnx_in_param(im, i, i < 3 ? MQB_VALUE_PARAM : MQB_VALUE_STATE, &inputs[i]);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_emit(im, "BatchNormalization", NULL, NULL, inputs, 5, &node);
    }
    if (status == MQB_OK) {
        status = mqb_node_set_real(im->graph, node, "epsilon", epsilon, im->error);
    }
    if (status == MQB_OK) {
        status = mqb_node_set_real(im->graph, node, "momentum", momentum, im->error);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}

static mqb_status pool(struct mqb_importer *im, const char *op, bool average)
{
    mqb_value_id x;
    struct window window;
    int64_t ceil_mode, count_include_pad = 0;
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value_rank(im, 0, 4, &x);
    if (status == MQB_OK) {
        status = mqb_onnx_attr_list(im, "kernel_shape", 2, 0, 1, MAX_EXTENT, window.kernel);
    }
    if (status == MQB_OK) {
        status = read_window(im, &im->graph->values[x], &window);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_attr_int(im, "ceil_mode", 0, &ceil_mode);
    }
    if (status == MQB_OK && average) {
        status = mqb_onnx_attr_int(im, "count_include_pad", 0, &count_include_pad);
    }
    if (status != MQB_OK) {
        return status;
    }
    if (window.dilations[0] != 1 || window.dilations[1] != 1) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "a dilated pooling window (%lldx%lld) is not supported",
                        (long long)window.dilations[0], (long long)window.dilations[1]);
    }
    for (int i = 0; i < 4; i++) {
        if (window.pads[i] >= window.kernel[i & 1]) {
            return mqb_fail(im->error, MQB_ERR_FORMAT,
                            "its pads are as large as its window, which would pool nothing but padding");
        }
    }
    status = mqb_onnx_emit(im, op, NULL, NULL, &x, 1, &node);
    if (status == MQB_OK) {
        status = mqb_node_set_list(im->graph, node, "kernel_shape", window.kernel, 2, im->error);
    }
    if (status == MQB_OK) {
        status = set_window(im, node, &window);
    }
    if (status == MQB_OK) {
        status = mqb_node_set_int(im->graph, node, "ceil_mode", ceil_mode != 0, im->error);
    }
    if (status == MQB_OK) {
        status = mqb_node_set_int(im->graph, node, "count_include_pad", count_include_pad != 0, im->error);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}

mqb_status mqb_onnx_max_pool(struct mqb_importer *im)
{
    return pool(im, "MaxPool", false);
}

mqb_status mqb_onnx_average_pool(struct mqb_importer *im)
{
    return pool(im, "AveragePool", true);
}

/* Relu, Sigmoid, HardSwish, GlobalAveragePool: one input, no attributes. */
mqb_status mqb_onnx_plain(struct mqb_importer *im)
{
    mqb_value_id x;
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value(im, 0, &x);
    if (status == MQB_OK) {
        status = mqb_onnx_emit(im, im->op_type, NULL, NULL, &x, 1, &node);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}

mqb_status mqb_onnx_clip(struct mqb_importer *im)
{
    mqb_value_id x;
    double min, max;
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value(im, 0, &x);
    if (status == MQB_OK) {
        status = im->opset < 11 ? mqb_onnx_attr_real(im, "min", -(double)FLT_MAX, &min)
                                : mqb_onnx_in_scalar(im, 1, -(double)FLT_MAX, &min);
    }
    if (status == MQB_OK) {
        status = im->opset < 11 ? mqb_onnx_attr_real(im, "max", (double)FLT_MAX, &max)
                                : mqb_onnx_in_scalar(im, 2, (double)FLT_MAX, &max);
    }
    if (status != MQB_OK) {
        return status;
    }
    if (!(min <= max)) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "it clips to [%g, %g], which is empty", min, max);
    }
    min = fmax(min, -(double)FLT_MAX);
    max = fmin(max, (double)FLT_MAX);
    status = mqb_onnx_emit(im, "Clip", NULL, NULL, &x, 1, &node);
    if (status == MQB_OK) {
        status = mqb_node_set_real(im->graph, node, "min", min, im->error);
    }
    if (status == MQB_OK) {
        status = mqb_node_set_real(im->graph, node, "max", max, im->error);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}

mqb_status mqb_onnx_hard_sigmoid(struct mqb_importer *im)
{
    mqb_value_id x;
    double alpha, beta;
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value(im, 0, &x);
    if (status == MQB_OK) {
        status = mqb_onnx_attr_real(im, "alpha", (double)0.2f, &alpha);
    }
    if (status == MQB_OK) {
        status = mqb_onnx_attr_real(im, "beta", 0.5, &beta);
    }
    if (status != MQB_OK) {
        return status;
    }
    if (!isfinite(alpha) || !isfinite(beta)) {
        return mqb_fail(im->error, MQB_ERR_NUMERIC, "alpha = %g and beta = %g must be finite", alpha, beta);
    }
    status = mqb_onnx_emit(im, "HardSigmoid", NULL, NULL, &x, 1, &node);
    if (status == MQB_OK) {
        status = mqb_node_set_real(im->graph, node, "alpha", alpha, im->error);
    }
    if (status == MQB_OK) {
        status = mqb_node_set_real(im->graph, node, "beta", beta, im->error);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}

mqb_status mqb_onnx_leaky_relu(struct mqb_importer *im)
{
    mqb_value_id x;
    double alpha;
    mqb_node_id node;
    mqb_status status = mqb_onnx_in_value(im, 0, &x);
    if (status == MQB_OK) {
        status = mqb_onnx_attr_real(im, "alpha", (double)0.01f, &alpha);
    }
    if (status != MQB_OK) {
        return status;
    }
    if (!isfinite(alpha)) {
        return mqb_fail(im->error, MQB_ERR_NUMERIC, "alpha = %g must be finite", alpha);
    }
    status = mqb_onnx_emit(im, "LeakyRelu", NULL, NULL, &x, 1, &node);
    if (status == MQB_OK) {
        status = mqb_node_set_real(im->graph, node, "alpha", alpha, im->error);
    }
    return status == MQB_OK ? mqb_onnx_settle(im, node) : status;
}
