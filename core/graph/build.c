/*
 * build.c - networks that need no file: the residual networks for small images of He et al. 2016 (section 4.2, option A: the
 * shortcut between stages takes every second pixel and pads the channels with zeros). Initialization after He et al. 2015.
 */
#include "graph/internal.h"

#include <math.h>
#include <string.h>

#define MAX_EXTENT 16384
#define MAX_CLASSES 1000000
/* Streams of random numbers from here on, one a parameter, so that no other use of the seed meets them. */
#define FIRST_STREAM ((uint64_t)0x6d6f64656c << 24)

static const struct {
    const char *name;
    int blocks; /* a stage: depth = 6 blocks + 2 */
} resnets[] = {{"resnet20", 3}, {"resnet32", 5}, {"resnet44", 7}, {"resnet56", 9}, {"resnet110", 18}};
#define NUM_MODELS (sizeof(resnets) / sizeof(resnets[0]))

static const char *const model_names[NUM_MODELS + 1] = {"resnet20", "resnet32", "resnet44", "resnet56", "resnet110", NULL};

struct builder {
    struct mqb_graph *graph;
    struct mqb_error *error;
    mqb_status status; /* the first failure; every later call does nothing */
    uint64_t seed;
    uint64_t stream;
};

enum fill { FILL_ZERO, FILL_ONE, FILL_NORMAL, FILL_UNIFORM };

/* scope + name, e.g. "layer1.0.conv1" + ".weight" */
static mqb_value_id param(struct builder *b, int kind, const char *scope, const char *name, int32_t rank, const int64_t *dims,
                          enum fill fill, double scale)
{
    mqb_value_id value = MQB_NONE;
    if (b->status != MQB_OK) {
        return value;
    }
    int64_t count = mqb_dims_count(rank, dims);
    float *data = count > 0 ? mqb_allocate_array((size_t)count, sizeof(float)) : NULL;
    char *full = mqb_format("%s%s", scope, name);
    if (!data || !full) {
        mqb_deallocate(data);
        b->status = mqb_fail(b->error, MQB_ERR_MEMORY, "no memory for parameter '%s%s'", scope, name);
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

static mqb_node_id node(struct builder *b, const char *op_name, const char *scope, const char *name, const char *output,
                        const mqb_value_id *inputs, int32_t num_inputs)
{
    mqb_node_id id = MQB_NONE;
    if (b->status != MQB_OK) {
        return id;
    }
    const struct mqb_op *op = mqb_op_find(b->graph->table, op_name);
    char *full = mqb_format("%s%s", scope, name);
    char *full_output = output ? mqb_strdup(output) : mqb_format("%s%s_output_0", scope, name);
    if (!op) {
        b->status = mqb_fail(b->error, MQB_ERR_UNSUPPORTED, "this build has no operator '%s'", op_name);
    } else if (!full || !full_output) {
        b->status = mqb_fail(b->error, MQB_ERR_MEMORY, "no memory for node '%s%s'", scope, name);
    } else {
        b->status = mqb_graph_append_node(b->graph, op, full, full_output, inputs, num_inputs, &id, b->error);
    }
    mqb_deallocate(full);
    mqb_deallocate(full_output);
    return id;
}

static void set_list(struct builder *b, mqb_node_id id, const char *name, const int64_t *list, int32_t size)
{
    b->status = b->status == MQB_OK ? mqb_node_set_list(b->graph, id, name, list, size, b->error) : b->status;
}

static void set_int(struct builder *b, mqb_node_id id, const char *name, int64_t value)
{
    b->status = b->status == MQB_OK ? mqb_node_set_int(b->graph, id, name, value, b->error) : b->status;
}

static void set_real(struct builder *b, mqb_node_id id, const char *name, float value)
{
    b->status = b->status == MQB_OK ? mqb_node_set_real(b->graph, id, name, (double)value, b->error) : b->status;
}

/* Infers the node's shape; returns its output. */
static mqb_value_id settle(struct builder *b, mqb_node_id id)
{
    if (b->status == MQB_OK) {
        b->status = mqb_graph_infer_node(b->graph, id, b->error);
    }
    return b->status == MQB_OK ? b->graph->nodes[id].output : MQB_NONE;
}

/* 3x3 convolution without bias, then BatchNormalization. `path` "/layer1/layer1.0/", `scope` "layer1.0.", `index` 1 or 2. */
static mqb_value_id conv_bn(struct builder *b, mqb_value_id x, const char *path, const char *scope, int index,
                            int64_t in_channels, int64_t out_channels, int64_t stride)
{
    char name[64];
    int64_t dims[4] = {out_channels, in_channels, 3, 3}, strides[2] = {stride, stride};
    static const int64_t pads[4] = {1, 1, 1, 1}, dilations[2] = {1, 1};
    mqb_value_id inputs[5] = {x};
    snprintf(name, sizeof(name), "conv%d.weight", index);
    inputs[1] = param(b, MQB_VALUE_PARAM, scope, name, 4, dims, FILL_NORMAL, sqrt(2.0 / (double)(9 * out_channels)));
    snprintf(name, sizeof(name), "conv%d/Conv", index);
    mqb_node_id id = node(b, "Conv", path, name, NULL, inputs, 2);
    set_list(b, id, "strides", strides, 2);
    set_list(b, id, "pads", pads, 4);
    set_list(b, id, "dilations", dilations, 2);
    set_int(b, id, "group", 1);
    inputs[0] = settle(b, id);

    snprintf(name, sizeof(name), "bn%d.weight", index);
    inputs[1] = param(b, MQB_VALUE_PARAM, scope, name, 1, dims, FILL_ONE, 0.0);
    snprintf(name, sizeof(name), "bn%d.bias", index);
    inputs[2] = param(b, MQB_VALUE_PARAM, scope, name, 1, dims, FILL_ZERO, 0.0);
    snprintf(name, sizeof(name), "bn%d.running_mean", index);
    inputs[3] = param(b, MQB_VALUE_STATE, scope, name, 1, dims, FILL_ZERO, 0.0);
    snprintf(name, sizeof(name), "bn%d.running_var", index);
    inputs[4] = param(b, MQB_VALUE_STATE, scope, name, 1, dims, FILL_ONE, 0.0);
    snprintf(name, sizeof(name), "bn%d/BatchNormalization", index);
    id = node(b, "BatchNormalization", path, name, NULL, inputs, 5);
    set_real(b, id, "epsilon", 1e-5f);
    set_real(b, id, "momentum", 0.9f);
    return settle(b, id);
}

/* Option A: every second pixel, zeros as new channels on both sides. */
static mqb_value_id shortcut(struct builder *b, mqb_value_id x, const char *scope, int64_t in_channels, int64_t out_channels)
{
    if (b->status != MQB_OK) {
        return MQB_NONE;
    }
    const struct mqb_value *value = &b->graph->values[x];
    int64_t before = (out_channels - in_channels) / 2, after = out_channels - in_channels - before;
    const int64_t starts[4] = {0, 0, 0, 0}, ends[4] = {MQB_BATCH, in_channels, value->dims[2], value->dims[3]};
    const int64_t steps[4] = {1, 1, value->dims[2] < 2 ? 1 : 2, value->dims[3] < 2 ? 1 : 2};
    const int64_t begin[4] = {0, before, 0, 0}, end[4] = {0, after, 0, 0};
    mqb_node_id id = node(b, "Slice", scope, "shortcut.0/Slice", NULL, &x, 1);
    set_list(b, id, "starts", starts, 4);
    set_list(b, id, "ends", ends, 4);
    set_list(b, id, "steps", steps, 4);
    x = settle(b, id);
    id = node(b, "Pad", scope, "shortcut.0/Pad", NULL, &x, 1);
    set_list(b, id, "pads_begin", begin, 4);
    set_list(b, id, "pads_end", end, 4);
    set_real(b, id, "value", 0.0f);
    return settle(b, id);
}

static mqb_value_id block(struct builder *b, mqb_value_id x, int stage, int index, int64_t in_channels, int64_t out_channels)
{
    char path[64], scope[64];
    int64_t stride = in_channels == out_channels ? 1 : 2;
    snprintf(path, sizeof(path), "/layer%d/layer%d.%d/", stage, stage, index);
    snprintf(scope, sizeof(scope), "layer%d.%d.", stage, index);
    mqb_value_id y = conv_bn(b, x, path, scope, 1, in_channels, out_channels, stride);
    y = settle(b, node(b, "Relu", path, "Relu", NULL, &y, 1));
    y = conv_bn(b, y, path, scope, 2, out_channels, out_channels, 1);
    mqb_value_id terms[2] = {y, stride == 1 ? x : shortcut(b, x, scope, in_channels, out_channels)};
    y = settle(b, node(b, "Add", path, "Add", NULL, terms, 2));
    return settle(b, node(b, "Relu", path, "Relu_1", NULL, &y, 1));
}

static void build_resnet(struct builder *b, int blocks, const int64_t *input_dims, int64_t classes)
{
    mqb_value_id x = MQB_NONE, inputs[3];
    b->status = mqb_graph_append_value(b->graph, MQB_VALUE_INPUT, "input", 4, input_dims, NULL, &x, b->error);
    b->graph->input = x;
    x = conv_bn(b, x, "/", "", 1, input_dims[1], 16, 1);
    x = settle(b, node(b, "Relu", "/", "Relu", NULL, &x, 1));
    int64_t channels = 16;
    for (int stage = 1; stage <= 3; stage++) {
        for (int i = 0; i < blocks; i++) {
            int64_t out_channels = (int64_t)8 << stage;
            x = block(b, x, stage, i, channels, out_channels);
            channels = out_channels;
        }
    }
    x = settle(b, node(b, "GlobalAveragePool", "/", "GlobalAveragePool", NULL, &x, 1));
    inputs[0] = settle(b, node(b, "Flatten", "/", "Flatten", NULL, &x, 1));
    const int64_t dims[2] = {classes, channels};
    inputs[1] = param(b, MQB_VALUE_PARAM, "linear", ".weight", 2, dims, FILL_UNIFORM, 1.0 / sqrt((double)channels));
    inputs[2] = param(b, MQB_VALUE_PARAM, "linear", ".bias", 1, dims, FILL_ZERO, 0.0);
    b->graph->output = settle(b, node(b, "Gemm", "/linear", "/Gemm", "logits", inputs, 3));
}

const char *const *mqb_model_names(void)
{
    return model_names;
}

mqb_status mqb_model_build(const char *name, const struct mqb_op_table *table, int64_t channels, int64_t height, int64_t width,
                           int64_t classes, uint64_t seed, struct mqb_graph **graph, struct mqb_error *error)
{
    *graph = NULL;
    size_t i = 0;
    while (i < NUM_MODELS && strcmp(resnets[i].name, name) != 0) {
        i++;
    }
    if (i == NUM_MODELS) {
        char list[256] = "";
        size_t used = 0;
        for (size_t k = 0; k < NUM_MODELS && used < sizeof(list); k++) {
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", k ? ", " : "", model_names[k]);
        }
        const char *nearest = mqb_nearest(name, model_names, NUM_MODELS);
        return mqb_fail(error, MQB_ERR_NOT_FOUND,
                        "there is no built-in network '%s'%s%s%s; known are %s, or the path of an ONNX file", name,
                        nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "", list);
    }
    if (channels < 1 || channels > MAX_EXTENT || height < 1 || height > MAX_EXTENT || width < 1 || width > MAX_EXTENT ||
        classes < 2 || classes > MAX_CLASSES) {
        return mqb_fail(
            error, MQB_ERR_ARGUMENT,
            "%s for images of %lld x %lld x %lld and %lld classes: sizes from 1 to %d and 2 to %d classes are supported", name,
            (long long)channels, (long long)height, (long long)width, (long long)classes, MAX_EXTENT, MAX_CLASSES);
    }
    struct builder b = {.error = error, .seed = seed, .stream = FIRST_STREAM};
    b.status = mqb_graph_create(table, &b.graph, error);
    if (b.status != MQB_OK) {
        return b.status;
    }
    const int64_t dims[4] = {MQB_BATCH, channels, height, width};
    b.graph->name = mqb_strdup(name);
    build_resnet(&b, resnets[i].blocks, dims, classes);
    if (b.status == MQB_OK) {
        b.status = mqb_graph_infer(b.graph, error);
    }
    if (b.status != MQB_OK) {
        mqb_graph_destroy(b.graph);
        return mqb_fail_prefix(error, b.status, "%s", name);
    }
    *graph = b.graph;
    return MQB_OK;
}
