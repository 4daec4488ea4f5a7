/*
 * points.c - a quantizer instance for every FakeQuantize node.
 */
#include "quant/quant.h"

#include "graph/op.h"

#include <inttypes.h>
#include <string.h>

void mqb_scheme_make(const struct mqb_backend_rules *rules, int role, int bits, int num_channels, struct mqb_scheme *scheme)
{
    bool weight = role == MQB_ROLE_WEIGHT;
    bool is_signed = weight ? rules->weight_signed : rules->activation_signed;
    bool narrow = weight ? rules->weight_narrow : rules->activation_narrow;
    *scheme = weight ? rules->weight : rules->activation;
    scheme->struct_size = sizeof(*scheme);
    scheme->role = role;
    if (scheme->bits > 0 && bits > scheme->bits) /* the most that the target takes */
        bits = scheme->bits;
    scheme->bits = bits;
    scheme->qmin = (is_signed ? -(1 << (bits - 1)) : 0) + (narrow ? 1 : 0);
    scheme->qmax = is_signed ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
    scheme->num_channels = scheme->per_channel ? num_channels : 1;
}

mqb_status mqb_points_scheme(const struct mqb_graph *graph, const struct mqb_node *node, const struct mqb_points_config *config,
                             struct mqb_scheme *scheme, struct mqb_error *error)
{
    const struct mqb_value *value = &graph->values[node->inputs[0]];
    int64_t role = mqb_attr_i(node, "role", MQB_ROLE_ACTIVATION), channels = 1;
    if (role != MQB_ROLE_WEIGHT && role != MQB_ROLE_ACTIVATION)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "node '%s': role %" PRId64 " is neither weight nor activation", node->name,
                        role);
    int bits = role == MQB_ROLE_WEIGHT ? config->weight_bits : config->activation_bits;
    if (config->io_bits && mqb_attr_i(node, "io", 0))
        bits = config->io_bits;
    if (bits < 2 || bits > 8)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "tensor '%s': %d bits; 2 to 8 are possible", value->name, bits);
    if (role == MQB_ROLE_WEIGHT) {
        if (value->rank < 1 || value->batched)
            return mqb_fail(error, MQB_ERR_ARGUMENT, "tensor '%s' has a weight's quantization point, but is not a weight",
                            value->name);
        channels = value->dims[0];
    }
    if (channels < 1 || channels > INT32_MAX)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "tensor '%s' has %" PRId64 " output channels", value->name, channels);
    mqb_scheme_make(config->rules, (int)role, bits, (int)channels, scheme);
    if (role == MQB_ROLE_WEIGHT && value->rank == 2 && config->rules->linear_per_tensor) {
        scheme->per_channel = 0;
        scheme->num_channels = 1;
    }
    return MQB_OK;
}

#define NUM_RELAXATIONS 2

static void relax_scheme(struct mqb_scheme *scheme, int step)
{
    if (step == 0) {
        scheme->symmetric = 1;
        scheme->adaptive_sign = scheme->role == MQB_ROLE_ACTIVATION;
        scheme->qmin = -(1 << (scheme->bits - 1));
        scheme->qmax = (1 << (scheme->bits - 1)) - 1;
    } else {
        scheme->per_channel = 0;
        scheme->num_channels = 1;
        scheme->pot_scale = 0;
    }
}

static mqb_status point_create(struct mqb_graph *graph, mqb_node_id id, const struct mqb_points_config *config,
                               struct mqb_point **result, struct mqb_error *error)
{
    const struct mqb_node *node = &graph->nodes[id];
    const char *tensor = graph->values[node->inputs[0]].name;
    struct mqb_scheme scheme;
    *result = NULL;
    mqb_status status = mqb_points_scheme(graph, node, config, &scheme, error);
    if (status != MQB_OK)
        return status;
    bool weight = scheme.role == MQB_ROLE_WEIGHT;
    const struct mqb_quantizer_choice *choice = weight ? &config->weight : &config->activation;
    if (!(choice->vtable->flags & (weight ? MQB_QUANTIZER_WEIGHTS : MQB_QUANTIZER_ACTIVATIONS)))
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "tensor '%s': quantizer '%s' does not serve %s; name another one for them",
                        tensor, choice->id, weight ? "weights" : "activations");

    struct mqb_point *point = mqb_allocate(sizeof(*point));
    if (!point || !(point->name = mqb_strdup(tensor))) {
        mqb_deallocate(point);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the quantization point of '%s'", tensor);
    }
    scheme.tensor = point->name;
    status = choice->vtable->create(config->host, &scheme, choice->options, &point->self, error);
    for (int step = 0; step < NUM_RELAXATIONS && config->relax && status == MQB_ERR_UNSUPPORTED; step++) {
        relax_scheme(&scheme, step);
        status = choice->vtable->create(config->host, &scheme, choice->options, &point->self, error);
    }
    if (status != MQB_OK) {
        status = mqb_fail_prefix(error, status, "tensor '%s': quantizer '%s' refuses", tensor, choice->id);
        mqb_deallocate(point->name);
        mqb_deallocate(point);
        return status;
    }
    point->node = id;
    point->scheme = scheme;
    point->quantizer = choice->vtable;
    point->algorithm = choice->id;
    point->mode = MQB_POINT_ON;
    *result = point;
    return MQB_OK;
}

static bool is_point(const struct mqb_node *node)
{
    return !node->dead && strcmp(node->op->name, "FakeQuantize") == 0;
}

mqb_status mqb_points_create(struct mqb_graph *graph, const struct mqb_points_config *config, struct mqb_points **points,
                             struct mqb_error *error)
{
    *points = NULL;
    int num_points = 0;
    for (int32_t i = 0; i < graph->num_ordered; i++)
        num_points += is_point(&graph->nodes[graph->order[i]]);

    struct mqb_points *made = mqb_allocate(sizeof(*made));
    mqb_status status = MQB_OK;
    if (made)
        made->points = mqb_allocate_array((size_t)num_points + 1, sizeof(made->points[0]));
    if (!made || !made->points) {
        mqb_deallocate(made);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for %d quantization points", num_points);
    }
    for (int32_t i = 0; i < graph->num_ordered && status == MQB_OK; i++) {
        if (!is_point(&graph->nodes[graph->order[i]]))
            continue;
        status = point_create(graph, graph->order[i], config, &made->points[made->num_points], error);
        made->num_points += status == MQB_OK;
    }
    if (status != MQB_OK) {
        mqb_points_destroy(made);
        return status;
    }
    /* Attached only when all are there: a refused set leaves the graph as it was. */
    for (int i = 0; i < made->num_points; i++)
        graph->nodes[made->points[i]->node].point = made->points[i];
    *points = made;
    return MQB_OK;
}

void mqb_points_set_mode(struct mqb_points *points, enum mqb_point_mode mode)
{
    for (int i = 0; i < points->num_points; i++)
        points->points[i]->mode = mode;
}

struct mqb_point *mqb_points_find(const struct mqb_points *points, mqb_node_id node)
{
    for (int i = 0; i < points->num_points; i++) {
        if (points->points[i]->node == node)
            return points->points[i];
    }
    return NULL;
}

void mqb_points_destroy(struct mqb_points *points)
{
    if (!points)
        return;
    for (int i = 0; i < points->num_points; i++) {
        struct mqb_point *point = points->points[i];
        point->quantizer->destroy(point->self);
        mqb_deallocate(point->name);
        mqb_deallocate(point);
    }
    mqb_deallocate(points->points);
    mqb_deallocate(points);
}
