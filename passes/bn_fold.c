/*
 * bn_fold.c - folds a BatchNormalization into the convolution or linear layer before it (MQBench, section 4).
 *
 *   -1  nothing: the normalization stays behind the layer
 *    0  merge: W gamma/sigma and beta - gamma mu/sigma are computed once, the normalization is gone
 *    1  freeze: conv(x, Q(W sf)) + beta - sf mu with sf = gamma/sigma of the running statistics, which stay as they are; gamma
 *       and beta learn
 *    2  as 1, but in training with the statistics of o = conv(x, W), the batch's own: a second convolution in float
 *    3  sf = gamma/sigma_running; u = conv(x, Q(W sf)); y = u sigma_running/sigma + beta - gamma mu/sigma, sigma and mu as in 2,
 *       and the running statistics have moved before
 *    4  sf = gamma/sigma_running; u = conv(x, Q(W sf)); y = BN(u / sf) with batch statistics of u / sf in training
 *
 * In 4 the layer's own bias b would be added to u / sf. The batch mean takes it out again, so it is dropped, and the running
 * mean loses it: BN(v + b; mu) = BN(v; mu - b), in training and in evaluation. In 2 and 3 o has it, so mu does, and the bias of
 * the folded layer, b sf, cancels that.
 *
 * In evaluation 1, 2, 3 and 4 are the same function, and o is not computed.
 */
#include <mqbench/graph.h>
#include <mqbench/plugin.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BN_X = 0, BN_GAMMA = 1, BN_BETA = 2, BN_MEAN = 3, BN_VAR = 4, BN_DIVISOR = 5, BN_FOLDED_VAR = 6 };
enum { LAYER_WEIGHT = 1, LAYER_BIAS = 2 };
enum { ROW_MEAN, ROW_VAR, ROW_RUNNING_VAR, NUM_ROWS };

struct fold {
    const struct mqb_host *host;
    const struct mqb_graph_api *api;
    struct mqb_graph *graph;
    mqb_node_id bn, layer;
    mqb_value_id weight, bias; /* bias: MQB_NONE if absent */
    int64_t channels;
    double epsilon;
    int paper; /* as in the published code: running variances by n/(n-1) with n channels, the bias forgotten in strategy 4 */
};

static int is_layer(const char *op)
{
    return strcmp(op, "Conv") == 0 || strcmp(op, "Gemm") == 0;
}

/* Is node a normalization that still stands behind a layer of its own? */
static int find_fold(struct fold *fold, mqb_node_id node)
{
    const struct mqb_graph_api *api = fold->api;
    struct mqb_graph *graph = fold->graph;
    if (strcmp(api->node_op(graph, node), "BatchNormalization") != 0 || api->input(graph, node, BN_DIVISOR) != MQB_NONE)
        return 0;
    mqb_value_id x = api->input(graph, node, BN_X);
    mqb_node_id layer = api->producer(graph, x);
    if (layer == MQB_NONE || !is_layer(api->node_op(graph, layer)) || api->num_consumers(graph, x) != 1 ||
        x == api->graph_output(graph))
        return 0;
    fold->bn = node;
    fold->layer = layer;
    fold->weight = api->input(graph, layer, LAYER_WEIGHT);
    fold->bias = api->input(graph, layer, LAYER_BIAS);
    fold->epsilon = api->attr_real(graph, node, "epsilon", 1e-5);
    int64_t dims[MQB_MAX_RANK];
    if (!api->value_data(graph, fold->weight) || api->value_shape(graph, fold->weight, dims) < 1)
        return 0;
    fold->channels = dims[0];
    return 1;
}

/* Numbers of a vector of the layer's or the normalization's, one a channel. */
static mqb_status vector_data(const struct fold *fold, mqb_value_id value, const char *what, float **data,
                              struct mqb_error *error)
{
    int64_t dims[MQB_MAX_RANK];
    *data = value == MQB_NONE ? NULL : fold->api->value_data(fold->graph, value);
    if (*data && fold->api->value_shape(fold->graph, value, dims) == 1 && dims[0] == fold->channels)
        return MQB_OK;
    return fold->host->fail(error, MQB_ERR_UNSUPPORTED,
                            "\"%s\" cannot be folded into \"%s\": its %s is not %lld stored numbers",
                            fold->api->node_name(fold->graph, fold->bn), fold->api->node_name(fold->graph, fold->layer), what,
                            (long long)fold->channels);
}

/* The value itself if `node` alone reads it, else a copy that node reads from now on. */
static mqb_status own_value(const struct fold *fold, mqb_node_id node, int32_t index, mqb_value_id *value,
                            struct mqb_error *error)
{
    const struct mqb_graph_api *api = fold->api;
    *value = api->input(fold->graph, node, index);
    if (api->num_consumers(fold->graph, *value) == 1)
        return MQB_OK;
    int64_t dims[MQB_MAX_RANK];
    int32_t rank = api->value_shape(fold->graph, *value, dims);
    mqb_value_id copy;
    mqb_status status = api->add_value(fold->graph, api->value_kind(fold->graph, *value), api->value_name(fold->graph, *value),
                                       rank, dims, api->value_data(fold->graph, *value), &copy, error);
    if (status == MQB_OK)
        status = api->set_input(fold->graph, node, index, copy, error);
    *value = copy;
    return status;
}

static mqb_status drop_bias(const struct fold *fold, struct mqb_error *error)
{
    const struct mqb_graph_api *api = fold->api;
    mqb_value_id mean_value;
    float *bias, *mean;
    if (fold->bias == MQB_NONE)
        return MQB_OK;
    mqb_status status = own_value(fold, fold->bn, BN_MEAN, &mean_value, error);
    if (status == MQB_OK)
        status = vector_data(fold, fold->bias, "bias", &bias, error);
    if (status == MQB_OK)
        status = vector_data(fold, mean_value, "running mean", &mean, error);
    if (status != MQB_OK)
        return status;
    for (int64_t c = 0; c < fold->channels && !fold->paper; c++)
        mean[c] -= bias[c];
    return api->set_input(fold->graph, fold->layer, LAYER_BIAS, MQB_NONE, error);
}

/* The layer reads W sf, sf = gamma / sigma of `var`; *scale is the node that computes sf. */
static mqb_status scale_weight(const struct fold *fold, mqb_value_id var, mqb_node_id *scale, struct mqb_error *error)
{
    const struct mqb_graph_api *api = fold->api;
    struct mqb_graph *graph = fold->graph;
    char name[256];
    mqb_node_id scaled;
    const mqb_value_id scale_inputs[] = {api->input(graph, fold->bn, BN_GAMMA), var};
    snprintf(name, sizeof(name), "%s_scale", api->node_name(graph, fold->bn));
    mqb_status status = api->add_node(graph, "BatchScale", name, scale_inputs, 2, scale, error);
    if (status == MQB_OK)
        status = api->set_attr_real(graph, *scale, "epsilon", fold->epsilon, error);
    if (status != MQB_OK)
        return status;

    const mqb_value_id scaled_inputs[] = {fold->weight, api->output(graph, *scale)};
    snprintf(name, sizeof(name), "%s_folded", api->value_name(graph, fold->weight));
    status = api->add_node(graph, "ScaleChannels", name, scaled_inputs, 2, &scaled, error);
    if (status == MQB_OK)
        status = api->set_input(graph, fold->layer, LAYER_WEIGHT, api->output(graph, scaled), error);
    return status;
}

/* Strategy 4, by elementary nodes. */
static mqb_status fold_by_statistics(const struct fold *fold, struct mqb_error *error)
{
    mqb_node_id scale;
    mqb_status status = drop_bias(fold, error);
    if (status == MQB_OK)
        status = scale_weight(fold, fold->api->input(fold->graph, fold->bn, BN_VAR), &scale, error);
    if (status == MQB_OK)
        status = fold->api->set_input(fold->graph, fold->bn, BN_DIVISOR, fold->api->output(fold->graph, scale), error);
    if (status == MQB_OK && fold->paper)
        status = fold->api->set_attr_int(fold->graph, fold->bn, "channel_correction", 1, error);
    return status;
}

/* The normalization becomes a scale of the weights and a bias, both learning through gamma and beta. */
static mqb_status fold_into_bias(const struct fold *fold, mqb_value_id mean, mqb_value_id var, struct mqb_error *error)
{
    const struct mqb_graph_api *api = fold->api;
    struct mqb_graph *graph = fold->graph;
    char name[256];
    mqb_node_id scale, bias;
    mqb_status status = scale_weight(fold, var, &scale, error);
    if (status != MQB_OK)
        return status;
    const mqb_value_id inputs[] = {api->input(graph, fold->bn, BN_BETA), mean, api->output(graph, scale), fold->bias};
    snprintf(name, sizeof(name), "%s_bias", api->node_name(graph, fold->layer));
    status = api->add_node(graph, "FoldedBias", name, inputs, fold->bias == MQB_NONE ? 3 : 4, &bias, error);
    if (status == MQB_OK)
        status = api->set_input(graph, fold->layer, LAYER_BIAS, api->output(graph, bias), error);
    if (status == MQB_OK)
        status = api->replace_uses(graph, api->output(graph, fold->bn), api->output(graph, fold->layer), MQB_NONE, error);
    return status == MQB_OK ? api->remove_node(graph, fold->bn, error) : status;
}

/* Strategy 1. */
static mqb_status fold_frozen(const struct fold *fold, struct mqb_error *error)
{
    const struct mqb_graph_api *api = fold->api;
    return fold_into_bias(fold, api->input(fold->graph, fold->bn, BN_MEAN), api->input(fold->graph, fold->bn, BN_VAR), error);
}

/* A layer in float beside the one that is folded, and the statistics of its output. */
static mqb_status add_statistics(const struct fold *fold, mqb_value_id rows[NUM_ROWS], struct mqb_error *error)
{
    static const char *const suffixes[NUM_ROWS] = {"mean", "var", "running_var"};
    const struct mqb_graph_api *api = fold->api;
    struct mqb_graph *graph = fold->graph;
    char name[256], op[32];
    mqb_node_id layer, statistics, row;
    snprintf(name, sizeof(name), "%s_float", api->node_name(graph, fold->layer));
    snprintf(op, sizeof(op), "Float%s", api->node_op(graph, fold->layer));
    mqb_status status = api->copy_node(graph, fold->layer, op, name, &layer, error);
    if (status != MQB_OK)
        return status;
    const mqb_value_id inputs[] = {api->output(graph, layer), api->input(graph, fold->bn, BN_MEAN),
                                   api->input(graph, fold->bn, BN_VAR)};
    snprintf(name, sizeof(name), "%s_statistics", api->node_name(graph, fold->bn));
    status = api->add_node(graph, "BatchStatistics", name, inputs, 3, &statistics, error);
    if (status == MQB_OK)
        status = api->set_attr_real(graph, statistics, "momentum", api->attr_real(graph, fold->bn, "momentum", 0.9), error);
    if (status == MQB_OK && fold->paper)
        status = api->set_attr_int(graph, statistics, "channel_correction", 1, error);
    for (int i = 0; i < NUM_ROWS && status == MQB_OK; i++) {
        const mqb_value_id input = api->output(graph, statistics);
        snprintf(name, sizeof(name), "%s_%s", api->node_name(graph, fold->bn), suffixes[i]);
        status = api->add_node(graph, "StatisticRow", name, &input, 1, &row, error);
        if (status == MQB_OK)
            status = api->set_attr_int(graph, row, "row", i, error);
        rows[i] = status == MQB_OK ? api->output(graph, row) : MQB_NONE;
    }
    return status;
}

/* Strategy 2: strategy 1 with the batch's statistics. */
static mqb_status fold_by_batch(const struct fold *fold, struct mqb_error *error)
{
    mqb_value_id rows[NUM_ROWS];
    mqb_status status = add_statistics(fold, rows, error);
    return status == MQB_OK ? fold_into_bias(fold, rows[ROW_MEAN], rows[ROW_VAR], error) : status;
}

/* Strategy 3: weights by the running statistics as this batch has moved them, the rest of the normalization by the batch's. */
static mqb_status fold_by_moved_statistics(const struct fold *fold, struct mqb_error *error)
{
    const struct mqb_graph_api *api = fold->api;
    struct mqb_graph *graph = fold->graph;
    char name[256];
    mqb_value_id rows[NUM_ROWS];
    mqb_node_id scale, bias;
    mqb_status status = add_statistics(fold, rows, error);
    if (status == MQB_OK)
        status = scale_weight(fold, rows[ROW_RUNNING_VAR], &scale, error);
    if (status == MQB_OK && fold->bias != MQB_NONE) {
        const mqb_value_id inputs[] = {fold->bias, api->output(graph, scale)};
        snprintf(name, sizeof(name), "%s_bias", api->node_name(graph, fold->layer));
        status = api->add_node(graph, "ScaleChannels", name, inputs, 2, &bias, error);
        if (status == MQB_OK)
            status = api->set_input(graph, fold->layer, LAYER_BIAS, api->output(graph, bias), error);
    }
    const int32_t targets[] = {BN_MEAN, BN_VAR, BN_DIVISOR, BN_FOLDED_VAR};
    for (int i = 0; i < 4 && status == MQB_OK; i++) {
        const mqb_value_id values[] = {rows[ROW_MEAN], rows[ROW_VAR], api->output(graph, scale), rows[ROW_RUNNING_VAR]};
        status = api->set_input(graph, fold->bn, targets[i], values[i], error);
    }
    return status;
}

/* Strategy 0: numbers now, no normalization later. */
static mqb_status fold_by_merging(const struct fold *fold, struct mqb_error *error)
{
    const struct mqb_graph_api *api = fold->api;
    struct mqb_graph *graph = fold->graph;
    float *gamma, *beta, *mean, *var, *bias = NULL;
    mqb_status status = vector_data(fold, api->input(graph, fold->bn, BN_GAMMA), "gamma", &gamma, error);
    if (status == MQB_OK)
        status = vector_data(fold, api->input(graph, fold->bn, BN_BETA), "beta", &beta, error);
    if (status == MQB_OK)
        status = vector_data(fold, api->input(graph, fold->bn, BN_MEAN), "running mean", &mean, error);
    if (status == MQB_OK)
        status = vector_data(fold, api->input(graph, fold->bn, BN_VAR), "running variance", &var, error);
    if (status == MQB_OK && fold->bias != MQB_NONE)
        status = vector_data(fold, fold->bias, "bias", &bias, error);
    if (status != MQB_OK)
        return status;

    mqb_value_id weight_value, merged_value;
    char name[256];
    float *merged = fold->host->allocate((size_t)fold->channels * sizeof(float));
    if (!merged)
        return fold->host->fail(error, MQB_ERR_MEMORY, "no memory for %lld biases", (long long)fold->channels);
    status = own_value(fold, fold->layer, LAYER_WEIGHT, &weight_value, error);
    if (status != MQB_OK)
        goto out;
    int64_t dims[MQB_MAX_RANK], size = 1;
    int32_t rank = api->value_shape(graph, weight_value, dims);
    for (int32_t i = 1; i < rank; i++)
        size *= dims[i];
    float *weight = api->value_data(graph, weight_value);
    for (int64_t c = 0; c < fold->channels; c++) {
        double sf = (double)gamma[c] / sqrt((double)var[c] + fold->epsilon);
        merged[c] = (float)((double)beta[c] + ((bias ? (double)bias[c] : 0.0) - (double)mean[c]) * sf);
        if (!(fabsf(merged[c]) < INFINITY)) {
            status =
                fold->host->fail(error, MQB_ERR_NUMERIC, "\"%s\": channel %lld cannot be merged, running variance %g, gamma %g",
                                 api->node_name(graph, fold->bn), (long long)c, (double)var[c], (double)gamma[c]);
            goto out;
        }
        for (int64_t i = c * size; i < (c + 1) * size; i++)
            weight[i] = (float)((double)weight[i] * sf);
    }
    snprintf(name, sizeof(name), "%s_bias", api->node_name(graph, fold->layer));
    status = api->add_value(graph, MQB_VALUE_PARAM, name, 1, &fold->channels, merged, &merged_value, error);
    if (status == MQB_OK)
        status = api->set_input(graph, fold->layer, LAYER_BIAS, merged_value, error);
    if (status == MQB_OK)
        status = api->replace_uses(graph, api->output(graph, fold->bn), api->output(graph, fold->layer), MQB_NONE, error);
    if (status == MQB_OK)
        status = api->remove_node(graph, fold->bn, error);
out:
    fold->host->deallocate(merged);
    return status;
}

/* Strategy -1: the normalization stays as it is. */
static mqb_status keep(const struct fold *fold, int32_t *num_edits, struct mqb_error *error)
{
    if (!fold->paper || fold->api->attr_int(fold->graph, fold->bn, "channel_correction", 0) != 0)
        return MQB_OK;
    (*num_edits)++;
    return fold->api->set_attr_int(fold->graph, fold->bn, "channel_correction", 1, error);
}

static mqb_status fold_one(const struct fold *fold, int64_t strategy, struct mqb_error *error)
{
    switch (strategy) {
    case 0:
        return fold_by_merging(fold, error);
    case 1:
        return fold_frozen(fold, error);
    case 2:
        return fold_by_batch(fold, error);
    case 3:
        return fold_by_moved_statistics(fold, error);
    default:
        return fold_by_statistics(fold, error);
    }
}

static mqb_status bn_fold_run(const struct mqb_host *host, struct mqb_graph *graph, const struct mqb_options *options,
                              int32_t *num_edits, struct mqb_error *error)
{
    const struct mqb_graph_api *api = host->graph;
    int64_t strategy = host->option_int(options, "strategy");
    const char *compat = host->option_text(options, "compat");
    *num_edits = 0;
    if (strcmp(compat, "frozen") == 0 && (strategy == 2 || strategy == 3))
        strategy = 1;
    /* A fold moves the order about, not the ids. */
    int32_t num_nodes = api->num_nodes(graph);
    mqb_node_id *nodes = host->allocate(((size_t)num_nodes + 1) * sizeof(nodes[0]));
    if (!nodes)
        return host->fail(error, MQB_ERR_MEMORY, "no memory to list %d nodes", (int)num_nodes);
    for (int32_t i = 0; i < num_nodes; i++)
        nodes[i] = api->node_at(graph, i);
    struct fold fold = {.host = host, .api = api, .graph = graph};
    fold.paper = strcmp(compat, "paper") == 0;
    mqb_status status = MQB_OK;
    for (int32_t i = 0; i < num_nodes && status == MQB_OK; i++) {
        if (!find_fold(&fold, nodes[i]))
            continue;
        if (strategy == -1) {
            status = keep(&fold, num_edits, error);
            continue;
        }
        status = fold_one(&fold, strategy, error);
        *num_edits += status == MQB_OK;
    }
    host->deallocate(nodes);
    return status;
}

static const struct mqb_option_spec bn_fold_options[] = {
    {"strategy", MQB_OPTION_INT, 0, "4", -1, 4, NULL,
     "-1 keep, 0 merge once, 1 frozen statistics, 2 the batch's, 3 running ones and the batch's behind, 4 running ones and BN "
     "behind"},
    {"compat", MQB_OPTION_CHOICE, 0, "off", 0, 0, "off|frozen|paper",
     "as in the published code, frozen: 2 and 3 are 1; paper: running variance by n/(n-1) with n channels, 4 forgets the "
     "layer's bias"},
};

static const struct mqb_pass bn_fold_pass = {
    .struct_size = sizeof(struct mqb_pass),
    .description = "folds batch normalization into the layer before it",
    .options = bn_fold_options,
    .num_options = sizeof(bn_fold_options) / sizeof(bn_fold_options[0]),
    .run = bn_fold_run,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_PASS_INTERFACE, "bn_fold", &bn_fold_pass},
};

MQB_PLUGIN("pass_bn_fold", "0.1.0", components);
