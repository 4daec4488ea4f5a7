/*
 * place_graph3.c - quantization points where an integer program stores a tensor: the network's input, and the output of each
 * convolution (with its batch norm and clamp), linear layer, addition, multiplication, concatenation and smooth activation.
 *
 * Pooling, flatten, slices, zero padding, channel shuffles and a clamp that stands alone hand their input's codes on and get no
 * point; nor does the network's output. A tensor has one point, whoever reads it. Weights have one each.
 * The first and the last layer, and the tensors they read, are marked `io`.
 */
#include "common/stored.h"

#include <mqbench/plugin.h>

static mqb_status place_graph3_run(const struct mqb_host *host, struct mqb_graph *graph, const struct mqb_options *options,
                                   int32_t *num_edits, struct mqb_error *error)
{
    struct placement p;
    (void)options;
    *num_edits = 0;
    mqb_status status = placement_begin(&p, host, graph, "graph 3", error);
    if (status == MQB_OK)
        status = place_stored(&p, NULL, error);
    return placement_finish(&p, status, num_edits, error);
}

static const struct mqb_pass place_graph3_pass = {
    .struct_size = sizeof(struct mqb_pass),
    .description = "quantization points on every tensor that an integer program stores (graph 3)",
    .run = place_graph3_run,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_PASS_INTERFACE, "place_graph3", &place_graph3_pass},
};

MQB_PLUGIN("pass_place_graph3", "0.1.0", components);
