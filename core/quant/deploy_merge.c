/*
 * deploy_merge.c - batch normalization into the convolution or linear layer before it.
 *
 * With a divisor sf = gamma / sigma the weights already carry sf, so y = u + beta - gamma mean / sigma: the bias alone changes.
 * Without one, y = sf u + beta - sf mean: weights, and the scales of their codes, are multiplied channel by channel.
 */
#include "quant/deploy.h"

#include <math.h>
#include <string.h>

struct merge {
    struct mqb_deployment *deployment;
    mqb_node_id norm, layer;
    const float *gamma, *beta, *mean, *var;
    const float *divisor; /* NULL: none */
    float epsilon;
    int64_t channels;
};

static bool is_layer(const struct mqb_node *node)
{
    return strcmp(node->op->name, "Conv") == 0 || strcmp(node->op->name, "Gemm") == 0;
}

/* The divisor must be the scale that the weights were multiplied by: the same gamma, variance and epsilon. */
static mqb_status check_divisor(const struct mqb_graph *graph, const struct mqb_node *norm, struct mqb_error *error)
{
    mqb_value_id divisor = norm->inputs[5];
    mqb_node_id producer = graph->values[divisor].producer;
    const struct mqb_node *scale = producer == MQB_NONE ? NULL : &graph->nodes[producer];
    if (scale && strcmp(scale->op->name, "BatchScale") == 0 && scale->inputs[0] == norm->inputs[1] &&
        scale->inputs[1] == norm->inputs[4] && mqb_attr_f(scale, "epsilon", 1e-5) == mqb_attr_f(norm, "epsilon", 1e-5))
        return MQB_OK;
    return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                    "node '%s' (BatchNormalization) divides by '%s', which is not gamma / sqrt(variance + epsilon) "
                    "of the same normalization, so it cannot be merged for deployment",
                    norm->name, graph->values[divisor].name);
}

static mqb_status check_scale_of_weight(const struct merge *m, const struct mqb_frozen *frozen, struct mqb_error *error)
{
    const struct mqb_graph *graph = m->deployment->graph;
    const struct mqb_node *layer = &graph->nodes[m->layer];
    mqb_value_id weight = layer->inputs[1];
    if (frozen && !frozen->scheme.per_channel && m->channels > 1)
        return mqb_fail(
            error, MQB_ERR_UNSUPPORTED,
            "batch normalization '%s' was kept separate from layer '%s' in training, and it scales every "
            "channel differently, so it cannot be folded into weight '%s', which has one scale for the whole tensor; train "
            "with --bn-fold 4, or use a backend with a scale per channel",
            graph->nodes[m->norm].name, layer->name, frozen->name);
    if (mqb_deploy_readers(graph, weight) != 1)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                        "weight '%s' of layer '%s' is shared by several layers, so batch normalization '%s' cannot be "
                        "folded into it",
                        graph->values[weight].name, layer->name, graph->nodes[m->norm].name);
    return MQB_OK;
}

/* Codes of a channel whose scale changes sign: q - z turns into z - q. */
static mqb_status negate_channel(struct mqb_frozen *frozen, int64_t channel, int64_t inner, struct mqb_error *error)
{
    int32_t *codes = frozen->codes + channel * inner, z = frozen->zero_point[channel];
    /* Symmetric codes keep their zero point; others are mirrored within their range. */
    int32_t mirror = frozen->scheme.symmetric ? 2 * z : frozen->qmin + frozen->qmax;
    for (int64_t i = 0; i < inner; i++) {
        int32_t code = mirror - codes[i];
        if (code < frozen->qmin || code > frozen->qmax)
            return mqb_fail(
                error, MQB_ERR_UNSUPPORTED,
                "channel %d of weight '%s' uses code %d, and its batch normalization has a negative scale: "
                "the mirrored code %d is outside %d to %d; use symmetric codes without the lowest one, or --bn-fold 4",
                (int)channel, frozen->name, (int)codes[i], (int)code, (int)frozen->qmin, (int)frozen->qmax);
        codes[i] = code;
    }
    frozen->zero_point[channel] = mirror - z;
    return MQB_OK;
}

static mqb_status scale_weight(const struct merge *m, struct mqb_error *error)
{
    struct mqb_graph *graph = m->deployment->graph;
    mqb_value_id id = graph->nodes[m->layer].inputs[1];
    struct mqb_frozen *frozen = mqb_deploy_frozen(m->deployment, id);
    mqb_status status = check_scale_of_weight(m, frozen, error);
    if (status != MQB_OK)
        return status;
    float *w = graph->values[id].data;
    int64_t inner = mqb_value_size(&graph->values[id]) / m->channels;
    for (int64_t k = 0; k < m->channels; k++) {
        float sf = m->gamma[k] / sqrtf(m->var[k] + m->epsilon);
        if (!isfinite(sf))
            return mqb_fail(error, MQB_ERR_NUMERIC,
                            "node '%s' (BatchNormalization): gamma / sqrt(variance + epsilon) is %g in channel %d",
                            graph->nodes[m->norm].name, (double)sf, (int)k);
        if (!frozen) {
            for (int64_t i = k * inner; i < (k + 1) * inner; i++)
                w[i] *= sf;
            continue;
        }
        float scale = frozen->scale[k] * fabsf(sf);
        if (sf < 0.0f)
            status = negate_channel(frozen, k, inner, error);
        if (status != MQB_OK)
            return status;
        if (scale > 0.0f)
            frozen->scale[k] = scale;
        else /* the channel is switched off: any scale will do for zeros */
            for (int64_t i = k * inner; i < (k + 1) * inner; i++)
                frozen->codes[i] = frozen->zero_point[k];
        for (int64_t i = k * inner; i < (k + 1) * inner; i++)
            w[i] = (float)(frozen->codes[i] - frozen->zero_point[k]) * frozen->scale[k];
    }
    return MQB_OK;
}

/* The bias after merging, in double. */
static double merged_bias(const struct merge *m, int64_t k, double bias)
{
    double factor = (double)m->gamma[k] / sqrt((double)m->var[k] + (double)m->epsilon);
    if (m->divisor)
        return m->divisor[k] == 0.0f ? bias + (double)m->beta[k] : bias + (double)m->beta[k] - (double)m->mean[k] * factor;
    return (double)m->beta[k] + (bias - (double)m->mean[k]) * factor;
}

static mqb_status set_bias(const struct merge *m, struct mqb_error *error)
{
    struct mqb_graph *graph = m->deployment->graph;
    const struct mqb_node *layer = &graph->nodes[m->layer];
    const float *old = layer->num_inputs > 2 ? mqb_deploy_numbers(m->deployment, layer->inputs[2]) : NULL;
    float *bias = mqb_allocate_array((size_t)m->channels, sizeof(float));
    char *name = mqb_format("%s.bias", layer->name);
    mqb_value_id value;
    mqb_status status = MQB_OK;
    if (!bias || !name)
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the bias of layer '%s'", layer->name);
    for (int64_t k = 0; status == MQB_OK && k < m->channels; k++) {
        bias[k] = (float)merged_bias(m, k, old ? (double)old[k] : 0.0);
        if (!isfinite(bias[k]))
            status =
                mqb_fail(error, MQB_ERR_NUMERIC, "merging batch normalization '%s' gives layer '%s' the bias %g in channel %d",
                         graph->nodes[m->norm].name, layer->name, (double)bias[k], (int)k);
    }
    if (status == MQB_OK)
        status = mqb_graph_calls.add_value(graph, MQB_VALUE_PARAM, name, 1, &m->channels, bias, &value, error);
    if (status == MQB_OK)
        status = mqb_graph_calls.set_input(graph, m->layer, 2, value, error);
    mqb_deallocate(bias);
    mqb_deallocate(name);
    return status;
}

static mqb_status merge_one(struct mqb_deployment *deployment, mqb_node_id id, bool *merged, struct mqb_error *error)
{
    struct mqb_graph *graph = deployment->graph;
    const struct mqb_node *norm = &graph->nodes[id];
    mqb_value_id x = norm->inputs[0], y = norm->output;
    mqb_node_id producer = graph->values[x].producer;
    bool has_divisor = norm->num_inputs > 5 && norm->inputs[5] != MQB_NONE;
    bool alone =
        producer != MQB_NONE && is_layer(&graph->nodes[producer]) && mqb_deploy_readers(graph, x) == 1 && x != graph->output;
    *merged = false;
    if (!alone && has_divisor)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                        "node '%s' (BatchNormalization) has a divisor, but does not follow a convolution of its own",
                        norm->name);
    if (!alone)
        return MQB_OK; /* a normalization that no layer can take up stays in float */
    struct merge m = {
        .deployment = deployment,
        .norm = id,
        .layer = producer,
        .gamma = mqb_deploy_numbers(deployment, norm->inputs[1]),
        .beta = mqb_deploy_numbers(deployment, norm->inputs[2]),
        .mean = mqb_deploy_numbers(deployment, norm->inputs[3]),
        .var = mqb_deploy_numbers(deployment, norm->inputs[4]),
        .divisor = has_divisor ? mqb_deploy_numbers(deployment, norm->inputs[5]) : NULL,
        .epsilon = (float)mqb_attr_f(norm, "epsilon", 1e-5),
        .channels = graph->values[norm->inputs[1]].dims[0],
    };
    if (!m.gamma || !m.beta || !m.mean || !m.var || (has_divisor && !m.divisor))
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "node '%s' (BatchNormalization) has a parameter that is not a constant",
                        norm->name);
    mqb_status status = has_divisor ? check_divisor(graph, norm, error) : scale_weight(&m, error);
    if (status == MQB_OK)
        status = set_bias(&m, error);
    if (status == MQB_OK)
        status = mqb_graph_calls.replace_uses(graph, y, x, MQB_NONE, error);
    if (status == MQB_OK)
        status = mqb_graph_calls.remove_node(graph, id, error);
    *merged = status == MQB_OK;
    return status;
}

mqb_status mqb_deploy_merge(struct mqb_deployment *deployment, struct mqb_error *error)
{
    struct mqb_graph *graph = deployment->graph;
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        mqb_node_id id = graph->order[i];
        bool merged;
        if (strcmp(graph->nodes[id].op->name, "BatchNormalization") != 0)
            continue;
        mqb_status status = merge_one(deployment, id, &merged, error);
        if (status != MQB_OK)
            return status;
        if (merged)
            i = -1; /* the order is a new one */
    }
    return MQB_OK;
}
