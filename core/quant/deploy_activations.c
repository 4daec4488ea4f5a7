/*
 * deploy_activations.c - activation points become parameters of the tensors they stand on.
 *
 * A tensor that is stored has one point, and everything reads it. Where layers have points of their own (graph 1), or where
 * something reads the tensor beside its point, each reader of a point keeps its own codes: such an entry is private.
 */
#include "quant/deploy.h"

#include <string.h>

static bool is_point(const struct mqb_node *node)
{
    return strcmp(node->op->name, "FakeQuantize") == 0;
}

static bool same_codes(const struct mqb_frozen *a, const struct mqb_frozen *b)
{
    return a->scale[0] == b->scale[0] && a->zero_point[0] == b->zero_point[0] && a->qmin == b->qmin && a->qmax == b->qmax;
}

/* One private entry for every node that reads the point. */
static mqb_status freeze_point(struct mqb_deployment *deployment, mqb_node_id id, struct mqb_error *error)
{
    const struct mqb_graph *graph = deployment->graph;
    mqb_value_id x = graph->nodes[id].inputs[0], y = graph->nodes[id].output;
    struct mqb_deploy *deploy = deployment->deploy;
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        const struct mqb_node *reader = &graph->nodes[graph->order[i]];
        bool reads = false;
        for (int32_t j = 0; j < reader->num_inputs; j++)
            reads = reads || reader->inputs[j] == y;
        if (!reads && !(y == graph->output && i == graph->num_ordered - 1))
            continue;
        mqb_status status = mqb_deploy_freeze(deployment, &graph->nodes[id], x, NULL, NULL, error);
        if (status != MQB_OK)
            return status;
        struct mqb_frozen *frozen = &deploy->frozen[deploy->num_frozen - 1];
        frozen->is_private = true;
        frozen->reader = reads ? graph->order[i] : MQB_NONE;
        for (int k = 0; k < deploy->num_frozen - 1; k++) {
            const struct mqb_frozen *other = &deploy->frozen[k];
            if (other->is_private && other->value == x && other->reader == frozen->reader && !same_codes(other, frozen))
                return mqb_fail(
                    error, MQB_ERR_UNSUPPORTED,
                    "tensor '%s' has two quantization points with different parameters (scale %.9g and %.9g) in front of "
                    "node '%s'; use a backend that places one point on a tensor",
                    frozen->name, (double)other->scale[0], (double)frozen->scale[0], reads ? reader->name : "(output)");
        }
    }
    return MQB_OK;
}

/* Everything reads the tensor through points. */
static bool only_points_read(const struct mqb_graph *graph, mqb_value_id value)
{
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        const struct mqb_node *node = &graph->nodes[graph->order[i]];
        for (int32_t j = 0; j < node->num_inputs; j++)
            if (node->inputs[j] == value && !is_point(node))
                return false;
    }
    return value != graph->output;
}

/* Entries of one tensor that all agree become the one of the tensor. */
static void join_entries(struct mqb_deployment *deployment)
{
    struct mqb_deploy *deploy = deployment->deploy;
    for (int i = 0; i < deploy->num_frozen; i++) {
        struct mqb_frozen *first = &deploy->frozen[i];
        bool join = first->is_private && only_points_read(deployment->graph, first->value);
        for (int k = 0; k < deploy->num_frozen && join; k++)
            join = deploy->frozen[k].value != first->value || same_codes(first, &deploy->frozen[k]);
        if (!join)
            continue;
        first->is_private = false;
        first->reader = MQB_NONE;
        int kept = i + 1;
        for (int k = i + 1; k < deploy->num_frozen; k++) {
            if (deploy->frozen[k].value == first->value)
                mqb_deploy_release(&deploy->frozen[k]);
            else
                deploy->frozen[kept++] = deploy->frozen[k];
        }
        deploy->num_frozen = kept;
    }
}

static mqb_status remove_points(struct mqb_graph *graph, struct mqb_error *error)
{
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        mqb_node_id id = graph->order[i];
        const struct mqb_node *node = &graph->nodes[id];
        if (!is_point(node))
            continue;
        mqb_status status = mqb_graph_calls.replace_uses(graph, node->output, node->inputs[0], MQB_NONE, error);
        if (status == MQB_OK)
            status = mqb_graph_calls.remove_node(graph, id, error);
        if (status != MQB_OK)
            return status;
        i = -1; /* the order is a new one */
    }
    return MQB_OK;
}

mqb_status mqb_deploy_activations(struct mqb_deployment *deployment, struct mqb_error *error)
{
    const struct mqb_graph *graph = deployment->graph;
    mqb_status status = MQB_OK;
    for (int32_t i = 0; deployment->points && i < graph->num_ordered && status == MQB_OK;
         i++) /* without: they go, that is all */
        if (is_point(&graph->nodes[graph->order[i]]) && graph->values[graph->nodes[graph->order[i]].output].batched)
            status = freeze_point(deployment, graph->order[i], error);
    if (status != MQB_OK)
        return status;
    join_entries(deployment);
    return remove_points(deployment->graph, error);
}
