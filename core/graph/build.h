/*
 * build.h - how a network is built from nothing: one family a file (build_NAME.c), one line a network in build.c.
 *
 * A module's name is the reference implementation's ("layer1.0.conv1"); parameters are called after it
 * ("layer1.0.conv1.weight"), nodes after its path ("/layer1/layer1.0/conv1/Conv", as PyTorch's exporter does). Parameters get
 * their numbers in the order in which they are made. After a failure every call does nothing and returns MQB_NONE.
 */
#ifndef MQB_GRAPH_BUILD_H
#define MQB_GRAPH_BUILD_H

#include "graph/internal.h"

/* Longest name of a module, with its end. */
#define MQB_MODULE_NAME 64

struct mqb_builder {
    struct mqb_graph *graph;
    struct mqb_error *error;
    mqb_status status; /* the first failure */
    uint64_t seed;
    uint64_t stream; /* of random numbers; one a parameter */
};

struct mqb_model {
    const char *name;
    /* Builds from the input to the features before the classifier; returns their value, [N][C][H][W]. */
    mqb_value_id (*features)(struct mqb_builder *b, mqb_value_id x, int member);
    int member;             /* which of the family, by its depth; 0: the only one */
    const char *classifier; /* module name of the linear layer */
    const char *about;
};

/* Families. */
mqb_value_id mqb_build_cifar_resnet(struct mqb_builder *b, mqb_value_id x, int member);
mqb_value_id mqb_build_resnet(struct mqb_builder *b, mqb_value_id x, int member);
mqb_value_id mqb_build_mobilenet_v2(struct mqb_builder *b, mqb_value_id x, int member);
mqb_value_id mqb_build_efficientnet_lite(struct mqb_builder *b, mqb_value_id x, int member);
mqb_value_id mqb_build_regnetx(struct mqb_builder *b, mqb_value_id x, int member);

/* ---- layers (build_layers.c) ---- */

struct mqb_conv_shape {
    int64_t out_channels;
    int64_t kernel; /* odd; padded by half of it */
    int64_t stride;
    int64_t groups;
};

/* Channels of a value; 0 after a failure. */
int64_t mqb_build_channels(const struct mqb_builder *b, mqb_value_id x);
/* A node by its full name, without attributes; `output` NULL: the node's name and "_output_0". */
mqb_node_id mqb_build_node(struct mqb_builder *b, const char *op, const char *name, const char *output,
                           const mqb_value_id *inputs, int32_t num_inputs);
/* Infers the node's shape; returns its output. */
mqb_value_id mqb_build_settle(struct mqb_builder *b, mqb_node_id node);
void mqb_build_set_list(struct mqb_builder *b, mqb_node_id node, const char *name, const int64_t *list, int32_t size);
void mqb_build_set_int(struct mqb_builder *b, mqb_node_id node, const char *name, int64_t value);
void mqb_build_set_real(struct mqb_builder *b, mqb_node_id node, const char *name, float value);

/* Convolution without bias, He-normal for the numbers that one input feeds (He et al. 2015), then BatchNormalization. The
 * modules are scope.conv and scope.norm; an empty scope is the network itself. */
mqb_value_id mqb_build_conv_norm(struct mqb_builder *b, mqb_value_id x, const char *scope, const char *conv, const char *norm,
                                 const struct mqb_conv_shape *shape);
/* `leaf` is what the node is called under the scope's path: "Relu", "relu_1/Relu". */
mqb_value_id mqb_build_relu(struct mqb_builder *b, mqb_value_id x, const char *scope, const char *leaf);
mqb_value_id mqb_build_relu6(struct mqb_builder *b, mqb_value_id x, const char *scope, const char *leaf);
mqb_value_id mqb_build_add(struct mqb_builder *b, mqb_value_id x, mqb_value_id y, const char *scope, const char *leaf);
mqb_value_id mqb_build_max_pool(struct mqb_builder *b, mqb_value_id x, const char *leaf, int64_t kernel, int64_t stride);
/* Global average, then a linear layer: uniform weights within 1 / sqrt(features), zero bias. The graph's output. */
void mqb_build_classifier(struct mqb_builder *b, mqb_value_id x, const char *module, int64_t classes);

#endif
