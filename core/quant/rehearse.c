/*
 * rehearse.c - lowering before calibration: what a backend cannot run whatever the parameters turn out to be is found out
 * before hours of training, by lowering a copy of the placed graph whose every point has the scale 1.
 */
#include "quant/placed.h"
#include "quant/quant.h"

#include "graph/op.h"

#include <inttypes.h>
#include <string.h>

/* ---- a quantizer that knows nothing: scale 1, zero point 0 ---- */

struct stand_in {
    float *scale;
    int32_t *zero_point;
    int32_t num_channels, qmin, qmax;
};

static void stand_in_destroy(void *self)
{
    struct stand_in *s = self;
    mqb_deallocate(s->scale);
    mqb_deallocate(s->zero_point);
    mqb_deallocate(s);
}

static mqb_status stand_in_create(const struct mqb_host *host, const struct mqb_scheme *scheme,
                                  const struct mqb_options *options, void **self, struct mqb_error *error)
{
    (void)host;
    (void)options;
    struct stand_in *s = mqb_allocate(sizeof *s);
    if (s == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a quantization point");
    *s = (struct stand_in){mqb_allocate_array((size_t)scheme->num_channels, sizeof(float)),
                           mqb_allocate_array((size_t)scheme->num_channels, sizeof(int32_t)), scheme->num_channels,
                           scheme->qmin, scheme->qmax};
    if (s->scale == NULL || s->zero_point == NULL) {
        stand_in_destroy(s);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a quantization point");
    }
    for (int32_t c = 0; c < s->num_channels; c++)
        s->scale[c] = 1.0f;
    *self = s;
    return MQB_OK;
}

static mqb_status stand_in_qparams(const void *self, struct mqb_qparams *q, struct mqb_error *error)
{
    const struct stand_in *s = self;
    (void)error;
    q->num_channels = s->num_channels;
    q->scale = s->scale;
    q->zero_point = s->zero_point;
    q->qmin = s->qmin;
    q->qmax = s->qmax;
    return MQB_OK;
}

static const struct mqb_quantizer stand_in = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS | MQB_QUANTIZER_AFFINE,
    .description = "scale 1",
    .create = stand_in_create,
    .destroy = stand_in_destroy,
    .qparams = stand_in_qparams,
};

/* ---- accumulators that overflow for certain ---- */

/* The distance to the zero point that codes which use their range reach, wherever the zero point is. */
static int64_t least_reach(const struct mqb_scheme *scheme)
{
    int64_t range = (int64_t)scheme->qmax - scheme->qmin;
    return scheme->symmetric ? scheme->qmax : (range + 1) / 2;
}

static mqb_status check_accumulators(const struct mqb_graph *graph, const struct mqb_points *points, struct mqb_error *error)
{
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        const struct mqb_node *node = &graph->nodes[graph->order[i]];
        if (!mqb_placed_is_layer(node))
            continue;
        mqb_node_id x_node = mqb_placed_source(graph, node->inputs[0]), w_node = graph->values[node->inputs[1]].producer;
        const struct mqb_point *x = x_node == MQB_NONE ? NULL : mqb_points_find(points, x_node);
        const struct mqb_point *w = w_node == MQB_NONE ? NULL : mqb_points_find(points, w_node);
        const struct mqb_value *weight = &graph->values[node->inputs[1]];
        if (x == NULL || w == NULL || weight->dims[0] < 1)
            continue;
        int64_t window = mqb_value_size(weight) / weight->dims[0], x_reach = least_reach(&x->scheme),
                w_reach = least_reach(&w->scheme);
        if (x_reach > 0 && w_reach > 0 && window > INT32_MAX / (x_reach * w_reach))
            return mqb_fail(
                error, MQB_ERR_UNSUPPORTED,
                "layer '%s' (%s) cannot run in integers: its 32 bit accumulator can overflow wherever the zero points are: "
                "%" PRId64 " products of up to %" PRId64 " * %" PRId64
                " reach beyond 2147483647; use fewer bits for its weights or its input",
                node->name, node->op->name, window, x_reach, w_reach);
    }
    return MQB_OK;
}

mqb_status mqb_program_rehearse(const struct mqb_graph *placed, const struct mqb_points_config *config, struct mqb_error *error)
{
    struct mqb_points_config plain = *config;
    struct mqb_graph *graph = NULL;
    struct mqb_points *points = NULL;
    struct mqb_deploy *deploy = NULL;
    struct mqb_program *program = NULL;
    plain.weight = plain.activation = (struct mqb_quantizer_choice){"stand-in", &stand_in, NULL};
    plain.relax = false;
    mqb_status status = mqb_graph_clone(placed, &graph, error);
    if (status == MQB_OK)
        status = mqb_points_create(graph, &plain, &points, error);
    if (status == MQB_OK)
        status = check_accumulators(graph, points, error);
    if (status == MQB_OK) {
        status = mqb_deploy_create(graph, points, &deploy, error);
        if (status == MQB_OK)
            status = mqb_program_create(deploy, config->rules, NULL, &program, error);
        if (status == MQB_ERR_NUMERIC) /* of made-up scales: nothing follows from it */
            status = MQB_OK;
    }
    mqb_program_destroy(program);
    mqb_deploy_destroy(deploy);
    mqb_points_destroy(points);
    mqb_graph_destroy(graph);
    return status;
}
