/* build_mobilenet_v2.c - MobileNetV2 of Sandler et al. 2018 (table 2) at width 1.0, with torchvision's names. */
#include "graph/build.h"

static const struct {
    int64_t expansion, channels;
    int repeats;
    int64_t stride; /* of the first */
} stages[] = {{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
#define NUM_STAGES (sizeof(stages) / sizeof(stages[0]))

/* Convolution, batch norm and ReLU6: children 0, 1 and 2 of the scope. */
static mqb_value_id conv_relu6(struct mqb_builder *b, mqb_value_id x, const char *scope, int64_t channels, int64_t kernel,
                               int64_t stride, int64_t groups)
{
    char act[MQB_MODULE_NAME];
    snprintf(act, sizeof(act), "%s.2", scope);
    x = mqb_build_conv_norm(b, x, scope, "0", "1", &(struct mqb_conv_shape){channels, kernel, stride, groups});
    return mqb_build_relu6(b, x, act, "Clip");
}

/* Block `index` of the features. The shortcut is the first operand of the sum, as in torchvision. */
static mqb_value_id block(struct mqb_builder *b, mqb_value_id x, int index, int64_t expansion, int64_t channels, int64_t stride)
{
    char conv[MQB_MODULE_NAME / 2], scope[MQB_MODULE_NAME - 4], norm[4], plain[4];
    int64_t in_channels = mqb_build_channels(b, x), inner = expansion * in_channels;
    int child = 0;
    mqb_value_id y = x;
    snprintf(conv, sizeof(conv), "features.%d.conv", index);
    if (expansion != 1) {
        snprintf(scope, sizeof(scope), "%s.%d", conv, child++);
        y = conv_relu6(b, y, scope, inner, 1, 1, 1);
    }
    snprintf(scope, sizeof(scope), "%s.%d", conv, child++);
    y = conv_relu6(b, y, scope, inner, 3, stride, inner);
    snprintf(plain, sizeof(plain), "%d", child);
    snprintf(norm, sizeof(norm), "%d", child + 1);
    y = mqb_build_conv_norm(b, y, conv, plain, norm, &(struct mqb_conv_shape){channels, 1, 1, 1});
    snprintf(scope, sizeof(scope), "features.%d", index);
    return stride == 1 && channels == in_channels ? mqb_build_add(b, x, y, scope, "Add") : y;
}

mqb_value_id mqb_build_mobilenet_v2(struct mqb_builder *b, mqb_value_id x, int member)
{
    char scope[MQB_MODULE_NAME - 4];
    int index = 1;
    (void)member;
    x = conv_relu6(b, x, "features.0", 32, 3, 2, 1);
    for (size_t s = 0; s < NUM_STAGES; s++) {
        for (int i = 0; i < stages[s].repeats; i++) {
            x = block(b, x, index++, stages[s].expansion, stages[s].channels, i == 0 ? stages[s].stride : 1);
        }
    }
    snprintf(scope, sizeof(scope), "features.%d", index);
    return conv_relu6(b, x, scope, 1280, 1, 1, 1);
}
