/*
 * ranges.c - a tensor's dynamic range is +-amax and its scale amax / 127.
 *
 * The cache holds scales: the bits of a float32, most significant digit first, without leading zeros. The ranges hold amax,
 * exactly 127 s, so that dividing gives the scale back. A range says nothing about codes of fewer than 8 bits, nor does the
 * target know them: such a network has the quantized ONNX file alone, where clips say it.
 */
#include "ranges.h"

#include "../common/text.h"

#include <stdlib.h>

struct range {
    const char *name;
    float scale;
};

struct table {
    struct range *ranges;
    size_t num_ranges;
};

static const struct mqb_export_tensor *find_tensor(const struct mqb_export *request, const char *name, int role)
{
    for (uint32_t i = 0; i < request->num_tensors; i++)
        if (request->tensors[i].role == role && strcmp(request->tensors[i].name, name) == 0)
            return &request->tensors[i];
    return NULL;
}

static const struct range *find_range(const struct table *table, const char *name)
{
    for (size_t i = 0; i < table->num_ranges; i++)
        if (strcmp(table->ranges[i].name, name) == 0)
            return &table->ranges[i];
    return NULL;
}

static int is_op(const struct mqb_host *host, const struct mqb_graph *graph, mqb_node_id node, const char *op)
{
    return strcmp(host->graph->node_op(graph, node), op) == 0;
}

static int carries_values(const struct mqb_host *host, const struct mqb_graph *graph, mqb_node_id node)
{
    static const char *const ops[] = {
        "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Slice", "Pad", "ChannelShuffle", "Relu", "Clip", NULL};
    for (const char *const *op = ops; *op; op++)
        if (is_op(host, graph, node, *op))
            return 1;
    return 0;
}

/* The value goes into its only reader without being stored: into a clamp, or from a convolution into an addition. */
static int fused_away(const struct mqb_host *host, const struct mqb_graph *graph, mqb_node_id node)
{
    mqb_value_id value = host->graph->output(graph, node);
    if (host->graph->num_consumers(graph, value) != 1)
        return 0;
    mqb_node_id reader = host->graph->consumer(graph, value, 0);
    return is_op(host, graph, reader, "Relu") || is_op(host, graph, reader, "Clip") ||
           (is_op(host, graph, node, "Conv") && is_op(host, graph, reader, "Add"));
}

/* A scale for every tensor that is stored: its own, or its input's, handed on. The first without one is named. */
static mqb_status complete(const struct mqb_host *host, const struct mqb_export *request, struct table *table,
                           struct mqb_error *error)
{
    const struct mqb_graph_api *api = host->graph;
    const struct mqb_graph *graph = request->graph;
    for (int32_t i = -1; i < api->num_nodes(graph); i++) {
        mqb_node_id node = i < 0 ? MQB_NONE : api->node_at(graph, i);
        mqb_value_id value = i < 0 ? api->graph_input(graph) : api->output(graph, node);
        const char *name = api->value_name(graph, value);
        if (strchr(name, '\n'))
            return host->fail(error, MQB_ERR_UNSUPPORTED,
                              "tensor \"%s\" has a line break in its name, which a cache of lines cannot hold", name);
        const struct mqb_export_tensor *tensor = find_tensor(request, name, MQB_ROLE_ACTIVATION);
        if (tensor) {
            table->ranges[table->num_ranges++] = (struct range){name, tensor->qparams.scale[0]};
            continue;
        }
        mqb_value_id source = node != MQB_NONE && api->num_inputs(graph, node) > 0 ? api->input(graph, node, 0) : MQB_NONE;
        const struct range *from =
            source != MQB_NONE && carries_values(host, graph, node) ? find_range(table, api->value_name(graph, source)) : NULL;
        if (from && value != api->graph_output(graph)) {
            float scale = from->scale;
            table->ranges[table->num_ranges++] = (struct range){name, scale};
        } else if (value != api->graph_output(graph) && (node == MQB_NONE || !fused_away(host, graph, node))) {
            return host->fail(error, MQB_ERR_UNSUPPORTED, "no range for tensor \"%s\"%s%s%s: the files would have a hole", name,
                              node == MQB_NONE ? " (the input)" : " (output of \"",
                              node == MQB_NONE ? "" : api->node_name(graph, node), node == MQB_NONE ? "" : "\")");
        }
    }
    return MQB_OK;
}

static mqb_status check_weights(const struct mqb_host *host, const struct mqb_export *request, struct mqb_error *error)
{
    const struct mqb_graph_api *api = host->graph;
    for (int32_t i = 0; i < api->num_nodes(request->graph); i++) {
        mqb_node_id node = api->node_at(request->graph, i);
        if (!is_op(host, request->graph, node, "Conv") && !is_op(host, request->graph, node, "Gemm"))
            continue;
        const char *name = api->value_name(request->graph, api->input(request->graph, node, 1));
        if (!find_tensor(request, name, MQB_ROLE_WEIGHT))
            return host->fail(error, MQB_ERR_UNSUPPORTED,
                              "no scales for \"%s\", the weight of layer \"%s\": the files would have a hole", name,
                              api->node_name(request->graph, node));
    }
    return MQB_OK;
}

/* The first activation that a range cannot describe, or NULL. */
static const struct mqb_export_tensor *find_narrow(const struct mqb_export *request)
{
    for (uint32_t i = 0; i < request->num_tensors; i++) {
        const struct mqb_export_tensor *t = &request->tensors[i];
        if (t->role == MQB_ROLE_ACTIVATION && (t->qparams.qmax != 127 || t->qparams.qmin < -128 || t->qparams.qmin > -127))
            return t;
    }
    return NULL;
}

static void write_cache(struct text *text, const struct table *table, int64_t version)
{
    text_add(text, "TRT-%lld-EntropyCalibration2\n", (long long)version);
    for (size_t i = 0; i < table->num_ranges; i++) {
        uint32_t bits;
        memcpy(&bits, &table->ranges[i].scale, sizeof(bits));
        text_add(text, "%s: %x\n", table->ranges[i].name, (unsigned)bits);
    }
}

static void write_ranges(struct text *text, const struct table *table, const struct mqb_export *request)
{
    const char *comma = "";
    text_add(text, "{\n    \"tensorrt\": {\n        \"blob_range\": {");
    for (size_t i = 0; i < table->num_ranges; i++, comma = ",") {
        text_add(text, "%s\n            ", comma);
        text_add_string(text, table->ranges[i].name);
        text_add(text, ": %.17g", 127.0 * (double)table->ranges[i].scale);
    }
    text_add(text, "\n        },\n        \"weight_range\": {");
    comma = "";
    for (uint32_t i = 0; i < request->num_tensors; i++) {
        const struct mqb_export_tensor *t = &request->tensors[i];
        if (t->role != MQB_ROLE_WEIGHT)
            continue;
        text_add(text, "%s\n            ", comma);
        text_add_string(text, t->name);
        text_add(text, ": [");
        for (int32_t c = 0; c < t->qparams.num_channels; c++)
            text_add(text, "%s%.17g", c ? ", " : "", 127.0 * (double)t->qparams.scale[c]);
        text_add(text, "]");
        comma = ",";
    }
    text_add(text, "\n        }\n    }\n}\n");
}

static mqb_status write_file(const struct mqb_host *host, const struct mqb_export *request, const char *suffix,
                             struct text *text, struct mqb_error *error)
{
    struct text name = {.host = host};
    text_add(&name, "%s.%s", request->model_name, suffix);
    mqb_status status =
        name.failed || (text && text->failed) ? host->fail(error, MQB_ERR_MEMORY, "no memory for the text of %s", suffix)
        : text                                ? request->write_text(request, name.data, text->data, text->length, error)
        : strcmp(suffix, "trt.onnx") == 0     ? request->write_onnx(request, name.data, error)
                                              : request->write_quantized_onnx(request, name.data, MQB_ONNX_REAL_CLAMPS, error);
    host->deallocate(name.data);
    if (text)
        text->length = 0;
    return status;
}

static mqb_status write_ranges_files(const struct mqb_host *host, const struct mqb_export *request, const struct table *table,
                                     int64_t version, struct mqb_error *error)
{
    struct text text = {.host = host};
    mqb_status status = write_file(host, request, "trt.onnx", NULL, error);
    if (status == MQB_OK) {
        write_cache(&text, table, version);
        status = write_file(host, request, "trt.cache", &text, error);
    }
    if (status == MQB_OK) {
        write_ranges(&text, table, request);
        status = write_file(host, request, "trt.ranges.json", &text, error);
    }
    host->deallocate(text.data);
    return status;
}

mqb_status tensorrt_ranges_export(const struct mqb_host *host, const struct mqb_export *request, int64_t cache_version,
                                  struct mqb_error *error)
{
    struct table table = {.ranges =
                              host->allocate(((size_t)host->graph->num_nodes(request->graph) + 1) * sizeof(struct range))};
    if (!table.ranges)
        return host->fail(error, MQB_ERR_MEMORY, "no memory for the ranges of %d tensors",
                          (int)host->graph->num_nodes(request->graph));
    mqb_status status = complete(host, request, &table, error);
    if (status == MQB_OK)
        status = check_weights(host, request, error);
    if (status == MQB_OK)
        status = write_file(host, request, "trt.qdq.onnx", NULL, error);
    const struct mqb_export_tensor *narrow = find_narrow(request);
    if (status == MQB_OK && narrow)
        host->log(MQB_LOG_NOTE,
                  "tensorrt_sim: no calibration cache and no ranges are written, because they cannot say that \"%s\" has the "
                  "codes %d "
                  "to %d; %s.trt.qdq.onnx says it",
                  narrow->name, (int)narrow->qparams.qmin, (int)narrow->qparams.qmax, request->model_name);
    else if (status == MQB_OK)
        status = write_ranges_files(host, request, &table, cache_version, error);
    host->deallocate(table.ranges);
    return status;
}
