/*
 * record.c - one record a layer: scale_d and offset_d of its input, scale_w and offset_w of its weight's channels, and the size
 * of what it reads. real = scale_d * (code - offset_d), code a signed byte.
 *
 * Weights in the ONNX file are the reals that their codes stand for, so dividing by scale_w gives the codes of fewer bits, too.
 */
#include "record.h"

#include "../common/text.h"

/* The codes in which `layer` reads the tensor. */
static const struct mqb_export_tensor *find_input(const struct mqb_export *request, const char *name, const char *layer)
{
    const struct mqb_export_tensor *shared = NULL;
    for (uint32_t i = 0; i < request->num_tensors; i++) {
        const struct mqb_export_tensor *t = &request->tensors[i];
        if (t->role != MQB_ROLE_ACTIVATION || strcmp(t->name, name) != 0)
            continue;
        if (t->reader && strcmp(t->reader, layer) == 0)
            return t;
        if (!t->reader)
            shared = t;
    }
    return shared;
}

static const struct mqb_export_tensor *find_weight(const struct mqb_export *request, const char *name)
{
    for (uint32_t i = 0; i < request->num_tensors; i++)
        if (request->tensors[i].role == MQB_ROLE_WEIGHT && strcmp(request->tensors[i].name, name) == 0)
            return &request->tensors[i];
    return NULL;
}

/* Why a record cannot say it, or NULL. */
static const char *beyond_record(const struct mqb_export_tensor *input, const struct mqb_export_tensor *weight)
{
    if (input->qparams.qmin != -128 || input->qparams.qmax != 127)
        return "its input has codes of fewer than 8 bits";
    for (int32_t c = 0; c < weight->qparams.num_channels; c++)
        if (weight->qparams.zero_point[c] != 0)
            return "its weight has an offset, which the hardware has not";
    return NULL;
}

static void write_record(struct text *text, const struct mqb_host *host, const struct mqb_graph *graph, mqb_node_id node,
                         const struct mqb_qparams *input, const struct mqb_qparams *weight)
{
    int64_t dims[MQB_MAX_RANK];
    int32_t rank = host->graph->value_shape(graph, host->graph->input(graph, node, 0), dims);
    text_add(text, "record {\n  key: ");
    text_add_string(text, host->graph->node_name(graph, node));
    text_add(text, "\n  value {\n    scale_d: %.9g\n    offset_d: %d\n", (double)input->scale[0], (int)input->zero_point[0]);
    for (int32_t c = 0; c < weight->num_channels; c++)
        text_add(text, "    scale_w: %.9g\n", (double)weight->scale[c]);
    for (int32_t c = 0; c < weight->num_channels; c++)
        text_add(text, "    offset_w: %d\n", (int)weight->zero_point[c]);
    text_add(text, "    channels: %lld\n    height: %lld\n    width: %lld\n  }\n}\n", (long long)(rank > 1 ? dims[1] : 1),
             (long long)(rank > 2 ? dims[2] : 1), (long long)(rank > 3 ? dims[3] : 1));
}

/* All records; *why: why there can be none, with the layer in *layer. */
static mqb_status write_records(const struct mqb_host *host, const struct mqb_export *request, struct text *text,
                                const char **why, const char **layer, struct mqb_error *error)
{
    const struct mqb_graph_api *api = host->graph;
    const struct mqb_graph *graph = request->graph;
    for (int32_t i = 0; i < api->num_nodes(graph); i++) {
        mqb_node_id node = api->node_at(graph, i);
        const char *op = api->node_op(graph, node), *name = api->node_name(graph, node);
        if (strcmp(op, "Conv") != 0 && strcmp(op, "Gemm") != 0)
            continue;
        const char *x = api->value_name(graph, api->input(graph, node, 0)),
                   *w = api->value_name(graph, api->input(graph, node, 1));
        const struct mqb_export_tensor *input = find_input(request, x, name), *weight = find_weight(request, w);
        if (!input || !weight)
            return host->fail(error, MQB_ERR_UNSUPPORTED,
                              "no scale for \"%s\", %s of layer \"%s\": the record would have a hole", input ? w : x,
                              input ? "the weight" : "the input", name);
        if (strcmp(op, "Gemm") == 0 && weight->qparams.num_channels != 1)
            return host->fail(error, MQB_ERR_UNSUPPORTED,
                              "weight \"%s\" of the linear layer \"%s\" has %d scales, but a record can hold one there", w,
                              name, (int)weight->qparams.num_channels);
        if (!*why && beyond_record(input, weight)) {
            *why = beyond_record(input, weight);
            *layer = name;
        }
        write_record(text, host, graph, node, &input->qparams, &weight->qparams);
    }
    return MQB_OK;
}

mqb_status acl_record_export(const struct mqb_host *host, const struct mqb_export *request, struct mqb_error *error)
{
    struct text text = {.host = host}, onnx = {.host = host}, record = {.host = host};
    const char *why = NULL, *layer = NULL;
    mqb_status status = write_records(host, request, &text, &why, &layer, error);
    text_add(&onnx, "%s.acl.onnx", request->model_name);
    text_add(&record, "%s.acl.record.txt", request->model_name);
    if (status == MQB_OK && (text.failed || onnx.failed || record.failed))
        status = host->fail(error, MQB_ERR_MEMORY, "no memory for the record of %d layers",
                            (int)host->graph->num_nodes(request->graph));
    if (status == MQB_OK)
        status = request->write_onnx(request, onnx.data, error);
    if (status == MQB_OK && why)
        host->log(MQB_LOG_NOTE, "acl_sim: no record is written, because it cannot say what layer \"%s\" does: %s", layer, why);
    else if (status == MQB_OK)
        status = request->write_text(request, record.data, text.data ? text.data : "", text.length, error);
    host->deallocate(text.data);
    host->deallocate(onnx.data);
    host->deallocate(record.data);
    return status;
}
