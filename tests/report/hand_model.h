/* hand_model.h - for tests: small networks by hand, written as ONNX. */
#ifndef HAND_MODEL_H
#define HAND_MODEL_H

#include "common/support.h"
#include "report/report.h"

struct hand_model {
    struct mqb_graph *graph;
    mqb_value_id last;
};

static inline void hand_begin(struct hand_model *m, int64_t channels, int64_t size)
{
    int64_t dims[4] = {MQB_BATCH, channels, size, size};
    OK(mqb_graph_create(&mqb_ops, &m->graph, &err));
    OK(mqb_graph_add_input(m->graph, "input", 4, dims, &m->last, &err));
    m->graph->normalize = mqb_strdup("unit");
}

/* A parameter whose numbers lie between -bound and bound. */
static inline mqb_value_id hand_weight(struct hand_model *m, const char *name, int32_t rank, const int64_t *dims, float bound)
{
    size_t size = 1;
    mqb_value_id id;
    for (int32_t i = 0; i < rank; i++)
        size *= (size_t)dims[i];
    float *data = mqb_allocate_array(size, sizeof *data);
    assert_non_null(data);
    for (size_t i = 0; i < size; i++)
        data[i] = bound * (2.0f * mqb_uniform(11, (uint64_t)m->graph->num_values, i) - 1.0f);
    OK(mqb_graph_calls.add_value(m->graph, MQB_VALUE_PARAM, name, rank, dims, data, &id, &err));
    mqb_deallocate(data);
    return id;
}

/* A node; its output is `<name>_output_0`, the network's until another is added. */
static inline mqb_node_id hand_node(struct hand_model *m, const char *op, const char *name, int num_inputs,
                                    const mqb_value_id *inputs)
{
    mqb_node_id id;
    OK(mqb_graph_calls.add_node(m->graph, op, name, inputs, num_inputs, &id, &err));
    m->last = m->graph->nodes[id].output;
    mqb_deallocate(m->graph->values[m->last].name);
    m->graph->values[m->last].name = mqb_format("%s_output_0", name);
    return id;
}

static inline mqb_value_id hand_unary(struct hand_model *m, const char *op, const char *name, mqb_value_id x)
{
    hand_node(m, op, name, 1, &x);
    return m->last;
}

/* Bias-free, without padding. */
static inline mqb_value_id hand_conv(struct hand_model *m, const char *name, mqb_value_id x, int64_t out, int64_t in,
                                     int64_t kernel, int64_t groups)
{
    char weight[64];
    int64_t dims[4] = {out, in / groups, kernel, kernel}, list[2] = {kernel, kernel};
    snprintf(weight, sizeof weight, "%s.weight", name);
    mqb_value_id inputs[2] = {x, hand_weight(m, weight, 4, dims, 0.5f)};
    mqb_node_id id = hand_node(m, "Conv", name, 2, inputs);
    OK(mqb_node_set_list(m->graph, id, "kernel_shape", list, 2, &err));
    OK(mqb_graph_calls.set_attr_int(m->graph, id, "group", groups, &err));
    return m->last;
}

static inline mqb_value_id hand_gemm(struct hand_model *m, const char *name, mqb_value_id x, int64_t out, int64_t in,
                                     float bound)
{
    char weight[64];
    int64_t dims[2] = {out, in};
    snprintf(weight, sizeof weight, "%s.weight", name);
    mqb_value_id inputs[2] = {x, hand_weight(m, weight, 2, dims, bound)};
    mqb_node_id id = hand_node(m, "Gemm", name, 2, inputs);
    OK(mqb_graph_calls.set_attr_int(m->graph, id, "transB", 1, &err));
    return m->last;
}

static inline void hand_write(struct hand_model *m, const char *path)
{
    OK(mqb_graph_set_output(m->graph, m->last, &err));
    OK(mqb_graph_infer(m->graph, &err));
    if (path != NULL) {
        OK(mqb_onnx_export(m->graph, path, &err));
        mqb_graph_destroy(m->graph);
        m->graph = NULL;
    }
}

#endif
