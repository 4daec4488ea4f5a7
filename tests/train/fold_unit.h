/* fold_unit.h - for tests of batch norm folding: one convolution with its batch norm, folded by a strategy, behind a point that
 * records the gradient at the unit's input. */
#ifndef FOLD_UNIT_H
#define FOLD_UNIT_H

#include "common/support.h"
#include "train/train.h"

#include <math.h>

struct fold_shape {
    int n, c, h, k, r, groups, stride, pad; /* square images and kernels */
    bool bias, relu;
};

struct fold_unit {
    struct fold_shape shape;
    struct mqb_graph *graph;
    mqb_node_id layer;
    mqb_value_id weight, bias, gamma, beta, mean, var;
    struct mqb_point weight_point, input_point;
    float *dx; /* [n][h][h][c]: what the recording point saw */
};

static inline int fold_out(const struct fold_shape *s)
{
    return (s->h + 2 * s->pad - s->r) / s->stride + 1;
}

static inline int fold_size_x(const struct fold_shape *s)
{
    return s->n * s->h * s->h * s->c;
}

static inline int fold_size_y(const struct fold_shape *s)
{
    return s->n * fold_out(s) * fold_out(s) * s->k;
}

static inline void recorder_forward(const void *self, const struct mqb_slice *slice)
{
    (void)self;
    memcpy(slice->y, slice->x, (size_t)slice->size * sizeof(float));
}

static inline void recorder_backward(const void *self, const struct mqb_slice *slice)
{
    const struct fold_unit *unit = self;
    memcpy(unit->dx + slice->offset, slice->dy, (size_t)slice->size * sizeof(float));
    memmove(slice->dx, slice->dy, (size_t)slice->size * sizeof(float));
}

static const struct mqb_quantizer recorder = {
    .struct_size = sizeof(struct mqb_quantizer), .forward = recorder_forward, .backward = recorder_backward};

static inline mqb_value_id fold_node(struct mqb_graph *graph, const char *op, const mqb_value_id *inputs, int n,
                                     mqb_node_id *id)
{
    mqb_node_id node;
    OK(mqb_graph_calls.add_node(graph, op, op, inputs, n, id != NULL ? id : &node, &err));
    return mqb_graph_calls.output(graph, id != NULL ? *id : node);
}

static inline mqb_status fold_pass(struct mqb_graph *graph, const char *strategy, const char *compat, int32_t *edits)
{
    const struct mqb_pass *pass = component("pass_bn_fold", MQB_PASS_INTERFACE);
    struct mqb_options *options;
    OK(mqb_options_create(pass->options, pass->num_options, &options, &err));
    OK(mqb_options_set(options, "strategy", strategy, "test", &err));
    OK(mqb_options_set(options, "compat", compat, "test", &err));
    mqb_status status = pass->run(mqb_host_table(), graph, options, edits, &err);
    mqb_options_destroy(options);
    return status;
}

/* Parameters all zero, variances one; `quantizer` (NULL: none) gets a point on what the layer reads as its weight. */
static inline void fold_unit_create(struct fold_unit *u, const struct fold_shape *s, const char *strategy, const char *compat,
                                    const struct mqb_quantizer *quantizer)
{
    memset(u, 0, sizeof *u);
    u->shape = *s;
    u->dx = calloc((size_t)fold_size_x(s), sizeof(float));
    const int64_t in[4] = {MQB_BATCH, s->c, s->h, s->h}, w[4] = {s->k, s->c / s->groups, s->r, s->r}, k = s->k;
    const int64_t pads[4] = {s->pad, s->pad, s->pad, s->pad}, strides[2] = {s->stride, s->stride};
    mqb_value_id x;
    mqb_node_id node;
    OK(mqb_graph_create(&mqb_ops, &u->graph, &err));
    OK(mqb_graph_add_input(u->graph, "x", 4, in, &x, &err));
    OK(mqb_graph_calls.add_value(u->graph, MQB_VALUE_PARAM, "weight", 4, w, NULL, &u->weight, &err));
    u->bias = MQB_NONE;
    if (s->bias)
        OK(mqb_graph_calls.add_value(u->graph, MQB_VALUE_PARAM, "bias", 1, &k, NULL, &u->bias, &err));
    OK(mqb_graph_calls.add_value(u->graph, MQB_VALUE_PARAM, "gamma", 1, &k, NULL, &u->gamma, &err));
    OK(mqb_graph_calls.add_value(u->graph, MQB_VALUE_PARAM, "beta", 1, &k, NULL, &u->beta, &err));
    OK(mqb_graph_calls.add_value(u->graph, MQB_VALUE_STATE, "mean", 1, &k, NULL, &u->mean, &err));
    OK(mqb_graph_calls.add_value(u->graph, MQB_VALUE_STATE, "var", 1, &k, NULL, &u->var, &err));
    for (int i = 0; i < s->k; i++)
        u->graph->values[u->var].data[i] = 1.0f;
    x = fold_node(u->graph, "FakeQuantize", &x, 1, &node);
    u->input_point = (struct mqb_point){.node = node, .quantizer = &recorder, .self = u, .mode = MQB_POINT_ON};
    u->graph->nodes[node].point = &u->input_point;
    const mqb_value_id conv[3] = {x, u->weight, u->bias};
    mqb_value_id y = fold_node(u->graph, "Conv", conv, s->bias ? 3 : 2, &u->layer);
    OK(mqb_node_set_list(u->graph, u->layer, "pads", pads, 4, &err));
    OK(mqb_node_set_list(u->graph, u->layer, "strides", strides, 2, &err));
    OK(mqb_graph_calls.set_attr_int(u->graph, u->layer, "group", s->groups, &err));
    const mqb_value_id norm[5] = {y, u->gamma, u->beta, u->mean, u->var};
    y = fold_node(u->graph, "BatchNormalization", norm, 5, NULL);
    if (s->relu)
        y = fold_node(u->graph, "Relu", &y, 1, NULL);
    OK(mqb_graph_set_output(u->graph, y, &err));
    OK(mqb_graph_infer(u->graph, &err));
    int32_t edits;
    OK(fold_pass(u->graph, strategy, compat, &edits));
    OK(mqb_graph_infer(u->graph, &err));
    if (quantizer != NULL) {
        mqb_value_id read = u->graph->nodes[u->layer].inputs[1], q = fold_node(u->graph, "FakeQuantize", &read, 1, &node);
        OK(mqb_graph_calls.set_input(u->graph, u->layer, 1, q, &err));
        u->weight_point = (struct mqb_point){.node = node, .quantizer = quantizer, .mode = MQB_POINT_ON};
        u->graph->nodes[node].point = &u->weight_point;
    }
    mqb_graph_sweep(u->graph);
}

static inline void fold_unit_destroy(struct fold_unit *u)
{
    mqb_graph_destroy(u->graph);
    free(u->dx);
}

static inline float *fold_data(const struct fold_unit *u, mqb_value_id id)
{
    return u->graph->values[id].data;
}

static inline void fold_fill(const struct mqb_graph *graph, mqb_value_id id, uint64_t stream, double center, double spread)
{
    const struct mqb_value *value = &graph->values[id];
    for (int64_t i = 0; i < mqb_value_size(value); i++)
        value->data[i] = (float)(center + spread * mqb_normal(11, stream, (uint64_t)i));
}

static inline struct mqb_exec *fold_plan(struct mqb_graph *graph, int batch, bool training, struct mqb_pool *pool)
{
    struct mqb_exec_config config = {.graph = graph,
                                     .host = mqb_host_table(),
                                     .compute = component("native", MQB_COMPUTE_INTERFACE),
                                     .pool = pool,
                                     .batch = batch,
                                     .training = training,
                                     .gradients = training};
    struct mqb_exec *exec;
    OK(mqb_exec_create(&config, &exec, &err));
    return exec;
}

/* The largest difference is at most `relative` of the largest number, or `absolute`. */
static inline void fold_near(const char *test, const char *what, const float *got, const float *want, int64_t size,
                             double relative, double absolute)
{
    double largest = 0, worst = 0;
    for (int64_t i = 0; i < size; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
    }
    if (!(worst <= fmax(relative * largest, absolute)))
        fail_msg("%s, %s: differs by %g of %g", test, what, worst, largest);
}

#endif
