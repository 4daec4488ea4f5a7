/*
 * encodings.c - real = scale * (q + offset), q in [0, 2^bits - 1], offset = -zero_point for our unsigned codes.
 *
 * An operator that hands its input's values on (pooling, flatten, ...) stores a tensor too, and the target wants an encoding
 * for it: that of its input. A convolution whose ReLU is fused stores nothing before the ReLU.
 */
#include "encodings.h"

#include "../common/text.h"

#include <stdlib.h>

/* One line of the file. */
struct encoding {
    const char *name;
    int32_t bits, is_param, symmetric;
    double scale, offset;
};

struct table {
    struct encoding *entries;
    size_t num_entries, capacity;
};

static int compare_encodings(const void *a, const void *b)
{
    const struct encoding *x = a, *y = b;
    return x->is_param != y->is_param ? x->is_param - y->is_param : strcmp(x->name, y->name);
}

static mqb_status add_tensor(const struct mqb_host *host, struct table *table, const struct mqb_export_tensor *tensor,
                             struct mqb_error *error)
{
    const struct mqb_qparams *q = &tensor->qparams;
    int bias = tensor->role == MQB_ROLE_BIAS;
    if (q->num_channels != 1 || q->num_levels != 0)
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "tensor \"%s\" has %s, the encodings of this target are affine and per tensor", tensor->name,
                          q->num_levels ? "a table of levels" : "a scale per channel");
    if (!bias && q->qmin != 0)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\" has codes from %d, encodings count from 0", tensor->name,
                          (int)q->qmin);
    if (tensor->role == MQB_ROLE_ACTIVATION && tensor->bits < 4)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\" has %d bits; encodings can say 4 to 32 for an activation",
                          tensor->name, (int)tensor->bits);
    struct encoding *e = &table->entries[table->num_entries++];
    e->name = tensor->name;
    e->is_param = tensor->role != MQB_ROLE_ACTIVATION;
    e->symmetric = bias;
    /* The few codes of a 2- or 3-bit weight lie on the same grid in the smallest container that the format knows. */
    e->bits = bias ? 32 : tensor->bits < 4 ? 4 : tensor->bits;
    e->scale = (double)q->scale[0];
    e->offset = bias ? -2147483648.0 : 0.0 - (double)q->zero_point[0];
    return MQB_OK;
}

static const struct encoding *find(const struct table *table, const char *name, int32_t is_param)
{
    for (size_t i = 0; i < table->num_entries; i++) {
        if (table->entries[i].is_param == is_param && strcmp(table->entries[i].name, name) == 0)
            return &table->entries[i];
    }
    return NULL;
}

static int named(const char *op, const char *const *list)
{
    for (; *list; list++) {
        if (strcmp(op, *list) == 0)
            return 1;
    }
    return 0;
}

static int carries_values(const char *op)
{
    static const char *const ops[] = {
        "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "Flatten", "Reshape",  "Transpose",
        "Slice",   "Pad",         "ChannelShuffle",    "Relu",       "Clip",    "Identity", "Dropout",
        NULL};
    return named(op, ops);
}

/* The single consumer of a value is a clamp, which the target fuses: the value itself is never stored. */
static int fused_away(const struct mqb_graph_api *api, const struct mqb_graph *graph, mqb_value_id value)
{
    if (api->num_consumers(graph, value) != 1)
        return 0;
    const char *op = api->node_op(graph, api->consumer(graph, value, 0));
    return strcmp(op, "Relu") == 0 || strcmp(op, "Clip") == 0;
}

/* Weights and biases of one layer must be there. */
static mqb_status check_params(const struct mqb_host *host, const struct mqb_export *request, const struct table *table,
                               mqb_node_id node, struct mqb_error *error)
{
    const struct mqb_graph_api *api = host->graph;
    for (int32_t i = 1; i < api->num_inputs(request->graph, node); i++) {
        mqb_value_id value = api->input(request->graph, node, i);
        if (value == MQB_NONE || find(table, api->value_name(request->graph, value), 1))
            continue;
        return host->fail(error, MQB_ERR_UNSUPPORTED, "no encoding for \"%s\", %s of layer \"%s\": the files would have a hole",
                          api->value_name(request->graph, value), i == 1 ? "the weight" : "the bias",
                          api->node_name(request->graph, node));
    }
    return MQB_OK;
}

/* Hands encodings on through value-preserving operators, and names the first tensor that has none. */
static mqb_status complete(const struct mqb_host *host, const struct mqb_export *request, struct table *table,
                           struct mqb_error *error)
{
    const struct mqb_graph_api *api = host->graph;
    const struct mqb_graph *graph = request->graph;
    mqb_value_id input = api->graph_input(graph);
    if (!find(table, api->value_name(graph, input), 0))
        return host->fail(error, MQB_ERR_UNSUPPORTED, "no encoding for the input \"%s\": the files would have a hole",
                          api->value_name(graph, input));
    for (int32_t i = 0; i < api->num_nodes(graph); i++) {
        mqb_node_id node = api->node_at(graph, i);
        mqb_value_id out = api->output(graph, node);
        const char *op = api->node_op(graph, node), *name = api->value_name(graph, out);
        if (strcmp(op, "Conv") == 0 || strcmp(op, "Gemm") == 0) {
            mqb_status status = check_params(host, request, table, node, error);
            if (status != MQB_OK)
                return status;
        }
        if (find(table, name, 0) || out == api->graph_output(graph))
            continue;
        mqb_value_id source = api->num_inputs(graph, node) > 0 ? api->input(graph, node, 0) : MQB_NONE;
        const struct encoding *from =
            carries_values(op) && source != MQB_NONE ? find(table, api->value_name(graph, source), 0) : NULL;
        if (from) {
            struct encoding *e = &table->entries[table->num_entries++];
            *e = *from;
            e->name = name;
        } else if (!fused_away(api, graph, out)) {
            return host->fail(error, MQB_ERR_UNSUPPORTED,
                              "no encoding for tensor \"%s\" (output of %s \"%s\"): the files would have a hole", name, op,
                              api->node_name(graph, node));
        }
    }
    return MQB_OK;
}

static double highest_code(const struct encoding *e)
{
    double codes = 1.0;
    for (int32_t i = 0; i < e->bits; i++)
        codes *= 2.0;
    return codes - 1.0;
}

static void write_061(struct text *text, const struct table *table, int32_t is_param)
{
    const char *comma = "";
    for (size_t i = 0; i < table->num_entries; i++) {
        const struct encoding *e = &table->entries[i];
        if (e->is_param != is_param)
            continue;
        text_add(text, "%s\n        ", comma);
        text_add_string(text, e->name);
        text_add(text, ": [\n            {\n                \"bitwidth\": %d,\n                \"dtype\": \"int\",\n",
                 (int)e->bits);
        text_add(
            text,
            "                \"is_symmetric\": \"%s\",\n                \"max\": %.17g,\n                \"min\": %.17g,\n",
            e->symmetric ? "True" : "False", e->scale * (highest_code(e) + e->offset), e->scale * e->offset);
        text_add(text, "                \"offset\": %.0f,\n                \"scale\": %.17g\n            }\n        ]",
                 e->offset, e->scale);
        comma = ",";
    }
    text_add(text, "\n    }");
}

static void write_100(struct text *text, const struct table *table, int32_t is_param)
{
    const char *comma = "";
    for (size_t i = 0; i < table->num_entries; i++) {
        const struct encoding *e = &table->entries[i];
        if (e->is_param != is_param)
            continue;
        text_add(text, "%s\n        {\n            \"bw\": %d,\n            \"dtype\": \"INT\",\n", comma, (int)e->bits);
        text_add(text, "            \"enc_type\": \"PER_TENSOR\",\n            \"is_sym\": %s,\n            \"name\": ",
                 e->symmetric ? "true" : "false");
        text_add_string(text, e->name);
        text_add(text,
                 ",\n            \"offset\": [\n                %.0f\n            ],\n            \"scale\": [\n"
                 "                %.17g\n            ]\n        }",
                 e->offset, e->scale);
        comma = ",";
    }
    text_add(text, "\n    ]");
}

/* What the network as a whole was quantized to: the width that most tensors of the kind have; the ends may differ. */
static int32_t usual_bits(const struct table *table, int32_t is_param)
{
    int32_t votes[33] = {0}, best = 8;
    for (size_t i = 0; i < table->num_entries; i++) {
        const struct encoding *e = &table->entries[i];
        if (e->is_param == is_param && !(is_param && e->symmetric))
            votes[e->bits]++;
    }
    for (int32_t bits = 0; bits <= 32; bits++)
        best = votes[bits] > votes[best] ? bits : best;
    return best;
}

static void write_args(struct text *text, const struct table *table)
{
    text_add(text,
             "    \"quantizer_args\": {\n        \"activation_bitwidth\": %d,\n        \"dtype\": \"int\",\n"
             "        \"is_symmetric\": \"False\",\n        \"param_bitwidth\": %d,\n"
             "        \"per_channel_quantization\": \"False\",\n        \"quant_scheme\": \"post_training_tf\"\n    },\n",
             (int)usual_bits(table, 0), (int)usual_bits(table, 1));
}

mqb_status snpe_encodings_export(const struct mqb_host *host, const struct mqb_export *request, struct mqb_error *error)
{
    struct table table = {0};
    struct text text = {.host = host}, name = {.host = host};
    mqb_status status = MQB_OK;
    /* Each value of the graph adds at most one entry beyond those given. */
    table.capacity = (size_t)request->num_tensors + (size_t)host->graph->num_nodes(request->graph);
    table.entries = host->allocate((table.capacity + 1) * sizeof(table.entries[0]));
    if (!table.entries)
        return host->fail(error, MQB_ERR_MEMORY, "no memory for %zu encodings", table.capacity);
    for (uint32_t i = 0; i < request->num_tensors && status == MQB_OK; i++)
        status = add_tensor(host, &table, &request->tensors[i], error);
    if (status == MQB_OK)
        status = complete(host, request, &table, error);
    if (status != MQB_OK)
        goto out;
    qsort(table.entries, table.num_entries, sizeof(table.entries[0]), compare_encodings);

    text_add(&name, "%s.snpe.onnx", request->model_name);
    if (!name.failed)
        status = request->write_onnx(request, name.data, error);
    for (int version = 0; version < 2 && status == MQB_OK; version++) {
        text.length = name.length = 0;
        text_add(&text, "{\n    \"activation_encodings\": %s", version == 0 ? "{" : "[");
        version == 0 ? write_061(&text, &table, 0) : write_100(&text, &table, 0);
        text_add(&text, version == 0 ? ",\n    \"param_encodings\": {"
                                     : ",\n    \"excluded_layers\": [],\n    \"param_encodings\": [");
        version == 0 ? write_061(&text, &table, 1) : write_100(&text, &table, 1);
        text_add(&text, ",\n");
        write_args(&text, &table);
        text_add(&text, "    \"version\": \"%s\"\n}\n", version == 0 ? "0.6.1" : "1.0.0");
        text_add(&name, "%s.snpe.%s.encodings", request->model_name, version == 0 ? "0.6.1" : "1.0.0");
        if (text.failed || name.failed)
            break;
        status = request->write_text(request, name.data, text.data, text.length, error);
    }
    if (status == MQB_OK && (text.failed || name.failed))
        status = host->fail(error, MQB_ERR_MEMORY, "no memory for the text of %zu encodings", table.num_entries);
out:
    host->deallocate(text.data);
    host->deallocate(name.data);
    host->deallocate(table.entries);
    return status;
}
