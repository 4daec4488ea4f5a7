/*
 * build_resnet.c - the residual networks for large images of He et al. 2016 (section 4.1, option B: a projection where the
 * shape changes), with torchvision's names. A bottleneck has its stride in the 3x3 convolution, as there.
 */
#include "graph/build.h"

static const struct {
    int depth;
    bool bottleneck;
    int blocks[4]; /* a stage */
} members[] = {
    {18, false, {2, 2, 2, 2}},
    {50, true, {3, 4, 6, 3}},
};
#define NUM_MEMBERS (sizeof(members) / sizeof(members[0]))

/* Channels at the end of a bottleneck, by those inside it. */
#define EXPANSION 4

static mqb_value_id basic(struct mqb_builder *b, mqb_value_id x, const char *scope, int64_t width, int64_t stride)
{
    x = mqb_build_conv_norm(b, x, scope, "conv1", "bn1", &(struct mqb_conv_shape){width, 3, stride, 1});
    x = mqb_build_relu(b, x, scope, "relu/Relu");
    return mqb_build_conv_norm(b, x, scope, "conv2", "bn2", &(struct mqb_conv_shape){width, 3, 1, 1});
}

static mqb_value_id bottleneck(struct mqb_builder *b, mqb_value_id x, const char *scope, int64_t width, int64_t stride)
{
    x = mqb_build_conv_norm(b, x, scope, "conv1", "bn1", &(struct mqb_conv_shape){width, 1, 1, 1});
    x = mqb_build_relu(b, x, scope, "relu/Relu");
    x = mqb_build_conv_norm(b, x, scope, "conv2", "bn2", &(struct mqb_conv_shape){width, 3, stride, 1});
    x = mqb_build_relu(b, x, scope, "relu_1/Relu");
    return mqb_build_conv_norm(b, x, scope, "conv3", "bn3", &(struct mqb_conv_shape){EXPANSION * width, 1, 1, 1});
}

static mqb_value_id block(struct mqb_builder *b, mqb_value_id x, const char *scope, int64_t width, int64_t stride, bool narrow)
{
    mqb_value_id y = narrow ? bottleneck(b, x, scope, width, stride) : basic(b, x, scope, width, stride);
    int64_t channels = mqb_build_channels(b, y);
    if (stride != 1 || channels != mqb_build_channels(b, x)) {
        char projection[MQB_MODULE_NAME];
        snprintf(projection, sizeof(projection), "%s.downsample", scope);
        x = mqb_build_conv_norm(b, x, projection, "0", "1", &(struct mqb_conv_shape){channels, 1, stride, 1});
    }
    y = mqb_build_add(b, y, x, scope, "Add");
    return mqb_build_relu(b, y, scope, narrow ? "relu_2/Relu" : "relu_1/Relu");
}

mqb_value_id mqb_build_resnet(struct mqb_builder *b, mqb_value_id x, int member)
{
    char scope[MQB_MODULE_NAME - 16]; /* leaves room for ".downsample" */
    size_t m = 0;
    while (m < NUM_MEMBERS - 1 && members[m].depth != member) {
        m++;
    }
    x = mqb_build_conv_norm(b, x, "", "conv1", "bn1", &(struct mqb_conv_shape){64, 7, 2, 1});
    x = mqb_build_relu(b, x, "", "relu/Relu");
    x = mqb_build_max_pool(b, x, "maxpool/MaxPool", 3, 2);
    for (int stage = 0; stage < 4; stage++) {
        for (int i = 0; i < members[m].blocks[stage]; i++) {
            snprintf(scope, sizeof(scope), "layer%d.%d", stage + 1, i);
            x = block(b, x, scope, (int64_t)64 << stage, stage > 0 && i == 0 ? 2 : 1, members[m].bottleneck);
        }
    }
    return x;
}
