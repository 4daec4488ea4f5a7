/*
 * place_graph2.c - the points of graph 3, less one for each addition that a convolution takes over: TensorRT adds the shortcut
 * in the epilogue of the convolution, so that the convolution's own result is never stored and has no point.
 *
 * Fused is the branch that ends in a convolution (with its batch norm) which nothing but the addition reads, never the
 * shortcut: that one is read as stored codes. Where both branches are such convolutions, the one with more layers behind it is
 * the main branch and is fused; of equals, the later one.
 */
#include "common/stored.h"

#include <mqbench/plugin.h>

struct fusion {
    struct placement *p;
    int32_t *depth;      /* by node id: layers on the longest way from the input, this one included */
    int32_t *position;   /* by node id: in p->nodes */
    unsigned char *fuse; /* by position */
};

static void measure_depth(const struct fusion *f)
{
    const struct placement *p = f->p;
    for (int32_t i = 0; i < p->num_nodes; i++) {
        mqb_node_id node = p->nodes[i];
        f->position[node] = i;
        for (int32_t j = 0; j < p->api->num_inputs(p->graph, node); j++) {
            mqb_value_id value = p->api->input(p->graph, node, j);
            mqb_node_id from = value == MQB_NONE ? MQB_NONE : p->api->producer(p->graph, value);
            if (from != MQB_NONE && f->depth[from] > f->depth[node])
                f->depth[node] = f->depth[from];
        }
        f->depth[node] += is_layer(p->api->node_op(p->graph, node));
    }
}

/* The convolution whose result, normalized or not, is `value`, if `reader` alone reads it; else MQB_NONE. */
static mqb_node_id ending_conv(const struct placement *p, mqb_value_id value, mqb_node_id reader)
{
    mqb_node_id node = p->api->producer(p->graph, value);
    if (node == MQB_NONE || only_reader(p, value) != reader)
        return MQB_NONE;
    if (strcmp(p->api->node_op(p->graph, node), "BatchNormalization") == 0 && belongs_to_layer(p, node))
        node = p->api->producer(p->graph, p->api->input(p->graph, node, 0));
    return strcmp(p->api->node_op(p->graph, node), "Conv") == 0 && is_quantized_layer(p, node) ? node : MQB_NONE;
}

static void choose_fused(const struct fusion *f)
{
    const struct placement *p = f->p;
    char rule[128];
    for (int32_t i = 0; i < p->num_nodes; i++) {
        mqb_node_id add = p->nodes[i], best = MQB_NONE;
        if (strcmp(p->api->node_op(p->graph, add), "Add") != 0 || ends_network(p, fused_end(p, add, rule, sizeof(rule))))
            continue;
        for (int32_t j = 0; j < 2; j++) {
            mqb_node_id conv = ending_conv(p, p->api->input(p->graph, add, j), add);
            if (conv == MQB_NONE)
                continue;
            if (best == MQB_NONE || f->depth[conv] > f->depth[best] ||
                (f->depth[conv] == f->depth[best] && f->position[conv] > f->position[best]))
                best = conv;
        }
        if (best != MQB_NONE)
            f->fuse[f->position[best]] = 1;
    }
}

static mqb_status place_activations(struct placement *p, struct mqb_error *error)
{
    size_t num_ids = 1;
    for (int32_t i = 0; i < p->num_nodes; i++)
        num_ids = (size_t)p->nodes[i] >= num_ids ? (size_t)p->nodes[i] + 1 : num_ids;
    struct fusion f = {.p = p};
    f.depth = p->host->allocate(num_ids * sizeof(f.depth[0]));
    f.position = p->host->allocate(num_ids * sizeof(f.position[0]));
    f.fuse = p->host->allocate(num_ids);
    mqb_status status = MQB_OK;
    if (!f.depth || !f.position || !f.fuse)
        status = p->host->fail(error, MQB_ERR_MEMORY, "no memory to list %d nodes", (int)p->num_nodes);
    if (status == MQB_OK) {
        measure_depth(&f);
        choose_fused(&f);
        status = place_stored(p, f.fuse, error);
    }
    p->host->deallocate(f.depth);
    p->host->deallocate(f.position);
    p->host->deallocate(f.fuse);
    return status;
}

static mqb_status place_graph2_run(const struct mqb_host *host, struct mqb_graph *graph, const struct mqb_options *options,
                                   int32_t *num_edits, struct mqb_error *error)
{
    struct placement p;
    (void)options;
    *num_edits = 0;
    mqb_status status = placement_begin(&p, host, graph, "graph 2", error);
    if (status == MQB_OK)
        status = place_activations(&p, error);
    return placement_finish(&p, status, num_edits, error);
}

static const struct mqb_pass place_graph2_pass = {
    .struct_size = sizeof(struct mqb_pass),
    .description = "quantization points on every stored tensor, additions fused into convolutions (graph 2)",
    .run = place_graph2_run,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_PASS_INTERFACE, "place_graph2", &place_graph2_pass},
};

MQB_PLUGIN("pass_place_graph2", "0.1.0", components);
