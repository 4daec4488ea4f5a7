/*
 * deploy.c - from the trained graph to the float deployment graph: folded and quantized weights become numbers, batch
 * normalization goes into the layer before it, quantization points become frozen parameters.
 *
 * Weights of the result are the grid values s (q - z), so that running it in float is the trained network without the
 * quantization of activations.
 */
#include "quant/deploy.h"

#include <math.h>
#include <string.h>

const float *mqb_deploy_numbers(const struct mqb_deployment *deployment, mqb_value_id value)
{
    if (value == MQB_NONE)
        return NULL;
    if (deployment->graph->values[value].data)
        return deployment->graph->values[value].data;
    return value < deployment->num_fixed ? deployment->fixed[value] : NULL;
}

struct mqb_frozen *mqb_deploy_frozen(struct mqb_deployment *deployment, mqb_value_id value)
{
    for (int i = 0; i < deployment->deploy->num_frozen; i++)
        if (deployment->deploy->frozen[i].value == value && !deployment->deploy->frozen[i].is_private)
            return &deployment->deploy->frozen[i];
    return NULL;
}

const struct mqb_frozen *mqb_deploy_find(const struct mqb_deploy *deploy, mqb_value_id value)
{
    for (int i = 0; i < deploy->num_frozen; i++)
        if (deploy->frozen[i].value == value && !deploy->frozen[i].is_private)
            return &deploy->frozen[i];
    return NULL;
}

const struct mqb_frozen *mqb_deploy_find_input(const struct mqb_deploy *deploy, mqb_value_id value, mqb_node_id reader)
{
    for (int i = 0; i < deploy->num_frozen; i++)
        if (deploy->frozen[i].value == value && deploy->frozen[i].is_private && deploy->frozen[i].reader == reader)
            return &deploy->frozen[i];
    return mqb_deploy_find(deploy, value);
}

int32_t mqb_deploy_readers(const struct mqb_graph *graph, mqb_value_id value)
{
    int32_t count = 0;
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        const struct mqb_node *node = &graph->nodes[graph->order[i]];
        for (int32_t j = 0; j < node->num_inputs; j++)
            count += node->inputs[j] == value;
    }
    return count;
}

static bool is_op(const struct mqb_node *node, const char *op)
{
    return strcmp(node->op->name, op) == 0;
}

/* ---- unbatched chains ---- */

/* The operator itself computes what depends on parameters alone, as it does in training. */
static mqb_status evaluate_fixed(struct mqb_deployment *deployment, mqb_node_id id, float *out, struct mqb_error *error)
{
    const struct mqb_node *node = &deployment->graph->nodes[id];
    const float *fixed[MQB_MAX_INPUTS] = {NULL};
    for (int32_t i = 0; i < node->num_inputs; i++)
        fixed[i] = node->inputs[i] == MQB_NONE ? NULL : mqb_deploy_numbers(deployment, node->inputs[i]);
    struct mqb_op_context context = {.graph = deployment->graph, .node = node, .id = id, .host = mqb_host_table(),
                                     .pool = deployment->pool, .max_images = 1, .fixed = fixed};
    size_t scratch = 0;
    mqb_status status = node->op->create ? node->op->create(&context, &scratch, error) : MQB_OK;
    if (status == MQB_OK && node->op->prepare)
        status = node->op->prepare(&context, error);
    if (status == MQB_OK)
        status = node->op->forward_fixed(&context, out, error);
    if (node->op->destroy)
        node->op->destroy(&context);
    return status == MQB_OK ? status : mqb_fail_prefix(error, status, "node '%s' (%s)", node->name, node->op->name);
}

static mqb_status evaluate_node(struct mqb_deployment *deployment, mqb_node_id id, struct mqb_error *error)
{
    const struct mqb_node *node = &deployment->graph->nodes[id];
    const struct mqb_value *output = &deployment->graph->values[node->output];
    float *out = mqb_allocate_array((size_t)mqb_value_size(output), sizeof(float));
    if (!out)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for '%s'", output->name);
    deployment->fixed[node->output] = out;
    if (!is_op(node, "FakeQuantize"))
        return evaluate_fixed(deployment, id, out, error);
    return mqb_deploy_freeze(deployment, node, node->output, mqb_deploy_numbers(deployment, node->inputs[0]), out, error);
}

static mqb_status evaluate_unbatched(struct mqb_deployment *deployment, struct mqb_error *error)
{
    const struct mqb_graph *graph = deployment->graph;
    mqb_status status = MQB_OK;
    for (int32_t i = 0; i < graph->num_ordered && status == MQB_OK; i++) {
        if (!graph->values[graph->nodes[graph->order[i]].output].batched)
            status = evaluate_node(deployment, graph->order[i], error);
    }
    return status;
}

/* The parameter that a chain of folding and quantization starts from, if nothing else reads along the chain; else MQB_NONE. */
static mqb_value_id chain_source(const struct mqb_graph *graph, mqb_value_id value)
{
    while (graph->values[value].kind == MQB_VALUE_RESULT) {
        const struct mqb_node *node = &graph->nodes[graph->values[value].producer];
        if (!is_op(node, "FakeQuantize") && !is_op(node, "ScaleChannels"))
            return MQB_NONE;
        value = node->inputs[0];
        if (mqb_deploy_readers(graph, value) != 1)
            return MQB_NONE;
    }
    return value;
}

/* Puts the numbers of an unbatched result where its source parameter was (the name stays), or into a new parameter. */
static mqb_status make_parameter(struct mqb_deployment *deployment, mqb_value_id value, struct mqb_error *error)
{
    struct mqb_graph *graph = deployment->graph;
    const float *numbers = deployment->fixed[value];
    size_t size = (size_t)mqb_value_size(&graph->values[value]) * sizeof(float);
    mqb_value_id target = chain_source(graph, value);
    mqb_status status = MQB_OK;
    if (target != MQB_NONE) {
        memcpy(graph->values[target].data, numbers, size);
        status = mqb_graph_calls.replace_uses(graph, value, target, MQB_NONE, error);
    } else {
        const struct mqb_value v = graph->values[value]; /* a copy: adding a value may move the others */
        status = mqb_graph_calls.add_value(graph, MQB_VALUE_PARAM, v.name, v.rank, v.dims, numbers, &target, error);
        if (status == MQB_OK)
            status = mqb_graph_calls.replace_uses(graph, value, target, MQB_NONE, error);
    }
    struct mqb_frozen *frozen = mqb_deploy_frozen(deployment, value);
    if (status == MQB_OK && frozen) {
        frozen->value = target;
        mqb_deallocate(frozen->name);
        frozen->name = mqb_strdup(graph->values[target].name);
        if (!frozen->name)
            status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the name of a weight");
    }
    return status;
}

/* The divisor of a batch normalization is an unbatched result as well; the merge makes it disappear. */
static bool is_divisor(const struct mqb_node *node, int32_t input)
{
    return is_op(node, "BatchNormalization") && input == 5;
}

static mqb_status make_parameters(struct mqb_deployment *deployment, struct mqb_error *error)
{
    struct mqb_graph *graph = deployment->graph;
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        mqb_node_id id = graph->order[i];
        if (!graph->values[graph->nodes[id].output].batched)
            continue;
        for (int32_t j = 0; j < graph->nodes[id].num_inputs; j++) {
            mqb_value_id value = graph->nodes[id].inputs[j];
            if (value == MQB_NONE || value >= deployment->num_fixed || !deployment->fixed[value] ||
                is_divisor(&graph->nodes[id], j))
                continue;
            int32_t before = graph->num_ordered;
            mqb_status status = make_parameter(deployment, value, error);
            if (status != MQB_OK)
                return status;
            if (graph->num_ordered != before || graph->order[i] != id)
                i = -1; /* the order changed: start over; what is done is not found again */
            if (i < 0)
                break;
        }
    }
    return MQB_OK;
}

/* ---- create ---- */

mqb_status mqb_deploy_create(const struct mqb_graph *trained, const struct mqb_points *points, struct mqb_deploy **deploy,
                             struct mqb_error *error)
{
    *deploy = NULL;
    struct mqb_deploy *d = mqb_allocate(sizeof(*d));
    if (!d)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a deployment");
    struct mqb_deployment deployment = {.deploy = d, .points = points, .num_fixed = trained->num_values};
    mqb_status status = mqb_graph_clone(trained, &d->graph, error);
    if (status != MQB_OK)
        goto out;
    deployment.graph = d->graph;
    deployment.fixed = mqb_allocate_array((size_t)trained->num_values, sizeof(*deployment.fixed));
    if (!deployment.fixed) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for a deployment");
        goto out;
    }
    status = mqb_pool_create(1, &deployment.pool, error);
    if (status == MQB_OK)
        status = mqb_deploy_settle(&deployment, error);
    if (status == MQB_OK)
        status = evaluate_unbatched(&deployment, error);
    if (status == MQB_OK)
        status = make_parameters(&deployment, error);
    if (status == MQB_OK) {
        mqb_graph_sweep(d->graph); /* the chains are gone and read the weights no more */
        status = mqb_deploy_merge(&deployment, error);
    }
    if (status == MQB_OK)
        status = mqb_deploy_activations(&deployment, error);
    if (status == MQB_OK) {
        mqb_deploy_fit_biases(&deployment);
        mqb_graph_sweep(d->graph);
        status = mqb_graph_infer(d->graph, error);
    }

out:
    for (int32_t i = 0; deployment.fixed && i < deployment.num_fixed; i++)
        mqb_deallocate(deployment.fixed[i]);
    mqb_deallocate(deployment.fixed);
    mqb_pool_destroy(deployment.pool);
    if (status != MQB_OK)
        mqb_deploy_destroy(d);
    else
        *deploy = d;
    return status;
}

void mqb_deploy_release(struct mqb_frozen *frozen)
{
    mqb_deallocate(frozen->name);
    mqb_deallocate(frozen->scale);
    mqb_deallocate(frozen->zero_point);
    mqb_deallocate(frozen->codes);
}

void mqb_deploy_destroy(struct mqb_deploy *deploy)
{
    if (!deploy)
        return;
    for (int i = 0; i < deploy->num_frozen; i++)
        mqb_deploy_release(&deploy->frozen[i]);
    mqb_deallocate(deploy->frozen);
    mqb_graph_destroy(deploy->graph);
    mqb_deallocate(deploy);
}
