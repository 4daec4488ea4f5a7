/*
 * place_graph1.c - quantization points in front of convolutions and linear layers, and nowhere else (MQBench, graph 1): additions,
 * pooling and shortcuts stay in float. Weights have one each.
 *
 * `points = private`: each layer has a point of its own on its input, also where two layers read one tensor (the paper's code).
 * `points = shared`: a tensor that a layer reads has one point, whoever else reads it (the toolkit's academic setting).
 * The first and the last layer, and the points on their inputs, are marked `io`.
 */
#include "common/placement.h"

#include <mqbench/plugin.h>

static mqb_status place_inputs(struct placement *p, int shared, struct mqb_error *error)
{
    const struct mqb_graph_api *api = p->api;
    mqb_status status = MQB_OK;
    for (int32_t i = 0; i < p->num_nodes && status == MQB_OK; i++) {
        mqb_node_id node = p->nodes[i];
        char rule[128];
        if (!is_quantized_layer(p, node))
            continue;
        mqb_value_id input = api->input(p->graph, node, 0);
        if (is_point(p, api->producer(p->graph, input)))
            continue;
        snprintf(rule, sizeof(rule), "%s: %s input of %s", p->title, shared ? "shared" : "private", api->node_op(p->graph, node));
        status = add_point(p, input, shared ? MQB_NONE : node, 0, MQB_ROLE_ACTIVATION, rule, error);
    }
    return status;
}

static mqb_status place_graph1_run(const struct mqb_host *host, struct mqb_graph *graph, const struct mqb_options *options,
                                   int32_t *num_edits, struct mqb_error *error)
{
    struct placement p;
    *num_edits = 0;
    mqb_status status = placement_begin(&p, host, graph, "graph 1", error);
    if (status == MQB_OK)
        status = place_inputs(&p, strcmp(host->option_text(options, "points"), "shared") == 0, error);
    return placement_finish(&p, status, num_edits, error);
}

static const struct mqb_option_spec place_graph1_options[] = {
    {"points", MQB_OPTION_CHOICE, 0, "private", 0, 0, "private|shared", "a point for each layer, or one for each tensor that layers read"},
};

static const struct mqb_pass place_graph1_pass = {
    .struct_size = sizeof(struct mqb_pass),
    .description = "quantization points in front of convolutions and linear layers (graph 1)",
    .options = place_graph1_options,
    .num_options = sizeof(place_graph1_options) / sizeof(place_graph1_options[0]),
    .run = place_graph1_run,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_PASS_INTERFACE, "place_graph1", &place_graph1_pass},
};

MQB_PLUGIN("pass_place_graph1", "0.1.0", components);
