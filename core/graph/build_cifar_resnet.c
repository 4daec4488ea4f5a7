/*
 * build_cifar_resnet.c - the residual networks for small images of He et al. 2016 (section 4.2, option A: the shortcut between
 * stages takes every second pixel and pads the channels with zeros).
 */
#include "graph/build.h"

/* Option A: every second pixel, zeros as new channels on both sides. */
static mqb_value_id shortcut(struct mqb_builder *b, mqb_value_id x, const char *scope, int64_t out_channels)
{
    char name[MQB_MODULE_NAME + 32];
    if (b->status != MQB_OK) {
        return MQB_NONE;
    }
    const struct mqb_value *value = &b->graph->values[x];
    int64_t in_channels = value->dims[1], before = (out_channels - in_channels) / 2,
            after = out_channels - in_channels - before;
    const int64_t starts[4] = {0, 0, 0, 0}, ends[4] = {MQB_BATCH, in_channels, value->dims[2], value->dims[3]};
    const int64_t steps[4] = {1, 1, value->dims[2] < 2 ? 1 : 2, value->dims[3] < 2 ? 1 : 2};
    const int64_t begin[4] = {0, before, 0, 0}, end[4] = {0, after, 0, 0};
    snprintf(name, sizeof(name), "%s.shortcut.0/Slice", scope);
    mqb_node_id id = mqb_build_node(b, "Slice", name, NULL, &x, 1);
    mqb_build_set_list(b, id, "starts", starts, 4);
    mqb_build_set_list(b, id, "ends", ends, 4);
    mqb_build_set_list(b, id, "steps", steps, 4);
    x = mqb_build_settle(b, id);
    snprintf(name, sizeof(name), "%s.shortcut.0/Pad", scope);
    id = mqb_build_node(b, "Pad", name, NULL, &x, 1);
    mqb_build_set_list(b, id, "pads_begin", begin, 4);
    mqb_build_set_list(b, id, "pads_end", end, 4);
    mqb_build_set_real(b, id, "value", 0.0f);
    return mqb_build_settle(b, id);
}

static mqb_value_id block(struct mqb_builder *b, mqb_value_id x, const char *scope, int64_t channels)
{
    bool wider = channels != mqb_build_channels(b, x);
    struct mqb_conv_shape shape = {channels, 3, wider ? 2 : 1, 1};
    mqb_value_id y = mqb_build_conv_norm(b, x, scope, "conv1", "bn1", &shape);
    y = mqb_build_relu(b, y, scope, "Relu");
    shape.stride = 1;
    y = mqb_build_conv_norm(b, y, scope, "conv2", "bn2", &shape);
    y = mqb_build_add(b, y, wider ? shortcut(b, x, scope, channels) : x, scope, "Add");
    return mqb_build_relu(b, y, scope, "Relu_1");
}

mqb_value_id mqb_build_cifar_resnet(struct mqb_builder *b, mqb_value_id x, int member)
{
    char scope[MQB_MODULE_NAME];
    int64_t channels = 16;
    x = mqb_build_conv_norm(b, x, "", "conv1", "bn1", &(struct mqb_conv_shape){channels, 3, 1, 1});
    x = mqb_build_relu(b, x, "", "Relu");
    for (int stage = 1; stage <= 3; stage++, channels *= 2) {
        for (int i = 0; i < (member - 2) / 6; i++) {
            snprintf(scope, sizeof(scope), "layer%d.%d", stage, i);
            x = block(b, x, scope, channels);
        }
    }
    return x;
}
