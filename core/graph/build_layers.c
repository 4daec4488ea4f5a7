/* build_layers.c - the layers that networks are built of. */
#include "graph/build.h"

#include <math.h>
#include <string.h>

enum fill { FILL_ZERO, FILL_ONE, FILL_NORMAL, FILL_UNIFORM };

/* ---- names ---- */

/* "scope.name", or "name" in the network itself. The caller's buffer has MQB_MODULE_NAME bytes. */
static void join(struct mqb_builder *b, char *module, const char *scope, const char *name)
{
    int size = snprintf(module, MQB_MODULE_NAME, "%s%s%s", scope, scope[0] && name[0] ? "." : "", name);
    if (b->status == MQB_OK && (size < 0 || size >= MQB_MODULE_NAME)) {
        b->status = mqb_fail(b->error, MQB_ERR_ARGUMENT, "the module name '%s.%s' has more than %d bytes", scope, name,
                             MQB_MODULE_NAME - 1);
    }
}

/* The path of a module and a leaf: "features.1.conv.0" and "Conv" give "/features/features.1/conv/conv.0/Conv". Children that
 * are only numbered carry their parent's label. NULL: no memory. */
static char *path_of(const char *module, const char *leaf)
{
    char *path = mqb_strdup(""), *label = mqb_strdup("");
    while (path && label && module[0]) {
        int length = (int)strcspn(module, ".");
        bool numbered = module[0] >= '0' && module[0] <= '9';
        char *next = numbered ? mqb_format("%s.%.*s", label, length, module) : mqb_format("%.*s", length, module);
        char *longer = next ? mqb_format("%s/%s", path, next) : NULL;
        mqb_deallocate(path);
        mqb_deallocate(label);
        path = longer;
        label = next;
        module += length + (module[length] == '.');
    }
    char *full = path && label ? mqb_format("%s/%s", path, leaf) : NULL;
    mqb_deallocate(path);
    mqb_deallocate(label);
    return full;
}

/* ---- parameters ---- */

static mqb_value_id param(struct mqb_builder *b, int kind, const char *module, const char *name, int32_t rank,
                          const int64_t *dims, enum fill fill, double scale)
{
    mqb_value_id value = MQB_NONE;
    if (b->status != MQB_OK) {
        return value;
    }
    int64_t count = mqb_dims_count(rank, dims);
    float *data = count > 0 ? mqb_allocate_array((size_t)count, sizeof(float)) : NULL;
    char *full = mqb_format("%s.%s", module, name);
    if (!data || !full) {
        mqb_deallocate(data);
        b->status = mqb_fail(b->error, MQB_ERR_MEMORY, "no memory for parameter '%s.%s'", module, name);
        goto out;
    }
    for (int64_t i = 0; i < count; i++) {
        switch (fill) {
        case FILL_ZERO:
            break;
        case FILL_ONE:
            data[i] = 1.0f;
            break;
        case FILL_NORMAL:
            data[i] = (float)(scale * mqb_normal(b->seed, b->stream, (uint64_t)i));
            break;
        case FILL_UNIFORM:
            data[i] = (float)(scale * (2.0 * (double)mqb_uniform(b->seed, b->stream, (uint64_t)i) - 1.0));
            break;
        }
    }
    b->stream++;
    b->status = mqb_graph_append_value(b->graph, kind, full, rank, dims, data, &value, b->error);
out:
    mqb_deallocate(full);
    return value;
}

/* ---- nodes ---- */

int64_t mqb_build_channels(const struct mqb_builder *b, mqb_value_id x)
{
    return b->status == MQB_OK ? b->graph->values[x].dims[1] : 0;
}

mqb_node_id mqb_build_node(struct mqb_builder *b, const char *op, const char *name, const char *output,
                           const mqb_value_id *inputs, int32_t num_inputs)
{
    mqb_node_id id = MQB_NONE;
    if (b->status != MQB_OK) {
        return id;
    }
    const struct mqb_op *found = mqb_op_find(b->graph->table, op);
    char *full_output = output ? mqb_strdup(output) : mqb_format("%s_output_0", name);
    if (!found) {
        b->status = mqb_fail(b->error, MQB_ERR_UNSUPPORTED, "this build has no operator '%s'", op);
    } else if (!full_output) {
        b->status = mqb_fail(b->error, MQB_ERR_MEMORY, "no memory for node '%s'", name);
    } else {
        b->status = mqb_graph_append_node(b->graph, found, name, full_output, inputs, num_inputs, &id, b->error);
    }
    mqb_deallocate(full_output);
    return id;
}

mqb_value_id mqb_build_settle(struct mqb_builder *b, mqb_node_id node)
{
    if (b->status == MQB_OK) {
        b->status = mqb_graph_infer_node(b->graph, node, b->error);
    }
    return b->status == MQB_OK ? b->graph->nodes[node].output : MQB_NONE;
}

void mqb_build_set_list(struct mqb_builder *b, mqb_node_id node, const char *name, const int64_t *list, int32_t size)
{
    b->status = b->status == MQB_OK ? mqb_node_set_list(b->graph, node, name, list, size, b->error) : b->status;
}

void mqb_build_set_int(struct mqb_builder *b, mqb_node_id node, const char *name, int64_t value)
{
    b->status = b->status == MQB_OK ? mqb_node_set_int(b->graph, node, name, value, b->error) : b->status;
}

void mqb_build_set_real(struct mqb_builder *b, mqb_node_id node, const char *name, float value)
{
    b->status = b->status == MQB_OK ? mqb_node_set_real(b->graph, node, name, (double)value, b->error) : b->status;
}

/* A node by its module and leaf. */
static mqb_node_id node_at(struct mqb_builder *b, const char *op, const char *module, const char *leaf, const char *output,
                           const mqb_value_id *inputs, int32_t num_inputs)
{
    if (b->status != MQB_OK) {
        return MQB_NONE;
    }
    char *name = path_of(module, leaf);
    if (!name) {
        b->status = mqb_fail(b->error, MQB_ERR_MEMORY, "no memory for node '%s' of '%s'", leaf, module);
        return MQB_NONE;
    }
    mqb_node_id id = mqb_build_node(b, op, name, output, inputs, num_inputs);
    mqb_deallocate(name);
    return id;
}

/* ---- layers ---- */

static mqb_value_id conv(struct mqb_builder *b, mqb_value_id x, const char *module, const struct mqb_conv_shape *shape)
{
    if (b->status != MQB_OK) {
        return MQB_NONE;
    }
    int64_t kernel = shape->kernel, half = kernel / 2;
    int64_t dims[4] = {shape->out_channels, mqb_build_channels(b, x) / shape->groups, kernel, kernel};
    int64_t strides[2] = {shape->stride, shape->stride}, pads[4] = {half, half, half, half};
    static const int64_t dilations[2] = {1, 1};
    double fan_out = (double)(kernel * kernel * shape->out_channels / shape->groups);
    mqb_value_id inputs[2] = {x, param(b, MQB_VALUE_PARAM, module, "weight", 4, dims, FILL_NORMAL, sqrt(2.0 / fan_out))};
    mqb_node_id id = node_at(b, "Conv", module, "Conv", NULL, inputs, 2);
    mqb_build_set_list(b, id, "strides", strides, 2);
    mqb_build_set_list(b, id, "pads", pads, 4);
    mqb_build_set_list(b, id, "dilations", dilations, 2);
    mqb_build_set_int(b, id, "group", shape->groups);
    return mqb_build_settle(b, id);
}

static mqb_value_id norm(struct mqb_builder *b, mqb_value_id x, const char *module)
{
    int64_t channels = mqb_build_channels(b, x);
    mqb_value_id inputs[5] = {x};
    inputs[1] = param(b, MQB_VALUE_PARAM, module, "weight", 1, &channels, FILL_ONE, 0.0);
    inputs[2] = param(b, MQB_VALUE_PARAM, module, "bias", 1, &channels, FILL_ZERO, 0.0);
    inputs[3] = param(b, MQB_VALUE_STATE, module, "running_mean", 1, &channels, FILL_ZERO, 0.0);
    inputs[4] = param(b, MQB_VALUE_STATE, module, "running_var", 1, &channels, FILL_ONE, 0.0);
    mqb_node_id id = node_at(b, "BatchNormalization", module, "BatchNormalization", NULL, inputs, 5);
    mqb_build_set_real(b, id, "epsilon", 1e-5f);
    mqb_build_set_real(b, id, "momentum", 0.9f);
    return mqb_build_settle(b, id);
}

mqb_value_id mqb_build_conv_norm(struct mqb_builder *b, mqb_value_id x, const char *scope, const char *conv_name,
                                 const char *norm_name, const struct mqb_conv_shape *shape)
{
    char module[MQB_MODULE_NAME];
    join(b, module, scope, conv_name);
    x = conv(b, x, module, shape);
    join(b, module, scope, norm_name);
    return norm(b, x, module);
}

mqb_value_id mqb_build_relu(struct mqb_builder *b, mqb_value_id x, const char *scope, const char *leaf)
{
    return mqb_build_settle(b, node_at(b, "Relu", scope, leaf, NULL, &x, 1));
}

mqb_value_id mqb_build_relu6(struct mqb_builder *b, mqb_value_id x, const char *scope, const char *leaf)
{
    mqb_node_id id = node_at(b, "Clip", scope, leaf, NULL, &x, 1);
    mqb_build_set_real(b, id, "min", 0.0f);
    mqb_build_set_real(b, id, "max", 6.0f);
    return mqb_build_settle(b, id);
}

mqb_value_id mqb_build_add(struct mqb_builder *b, mqb_value_id x, mqb_value_id y, const char *scope, const char *leaf)
{
    mqb_value_id terms[2] = {x, y};
    return mqb_build_settle(b, node_at(b, "Add", scope, leaf, NULL, terms, 2));
}

mqb_value_id mqb_build_max_pool(struct mqb_builder *b, mqb_value_id x, const char *leaf, int64_t kernel, int64_t stride)
{
    int64_t half = kernel / 2, kernels[2] = {kernel, kernel}, strides[2] = {stride, stride}, pads[4] = {half, half, half, half};
    mqb_node_id id = node_at(b, "MaxPool", "", leaf, NULL, &x, 1);
    mqb_build_set_list(b, id, "kernel_shape", kernels, 2);
    mqb_build_set_list(b, id, "strides", strides, 2);
    mqb_build_set_list(b, id, "pads", pads, 4);
    mqb_build_set_int(b, id, "ceil_mode", 0);
    mqb_build_set_int(b, id, "count_include_pad", 0);
    return mqb_build_settle(b, id);
}

void mqb_build_classifier(struct mqb_builder *b, mqb_value_id x, const char *module, int64_t classes)
{
    int64_t dims[2] = {classes, mqb_build_channels(b, x)};
    x = mqb_build_settle(b, node_at(b, "GlobalAveragePool", "", "GlobalAveragePool", NULL, &x, 1));
    mqb_value_id inputs[3] = {mqb_build_settle(b, node_at(b, "Flatten", "", "Flatten", NULL, &x, 1))};
    inputs[1] = param(b, MQB_VALUE_PARAM, module, "weight", 2, dims, FILL_UNIFORM, 1.0 / sqrt((double)dims[1]));
    inputs[2] = param(b, MQB_VALUE_PARAM, module, "bias", 1, dims, FILL_ZERO, 0.0);
    mqb_value_id logits = mqb_build_settle(b, node_at(b, "Gemm", module, "Gemm", "logits", inputs, 3));
    if (b->status == MQB_OK) {
        b->graph->output = logits;
    }
}
