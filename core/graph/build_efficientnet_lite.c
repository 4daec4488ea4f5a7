/*
 * build_efficientnet_lite.c - EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019, table 1) without squeeze and excitation,
 * with ReLU6. Names and paddings are timm's (efficientnet_lite0).
 */
#include "graph/build.h"

static const struct {
    int64_t expansion, channels, kernel;
    int repeats;
    int64_t stride; /* of the first */
} stages[] = {{1, 16, 3, 1, 1},  {6, 24, 3, 2, 2},  {6, 40, 5, 2, 2}, {6, 80, 3, 3, 2},
              {6, 112, 5, 3, 1}, {6, 192, 5, 4, 2}, {6, 320, 3, 1, 1}};
#define NUM_STAGES (sizeof(stages) / sizeof(stages[0]))

/* Depthwise, then pointwise. */
static mqb_value_id separable(struct mqb_builder *b, mqb_value_id x, const char *scope, int64_t channels, int64_t kernel,
                              int64_t stride)
{
    int64_t inner = mqb_build_channels(b, x);
    x = mqb_build_conv_norm(b, x, scope, "conv_dw", "bn1", &(struct mqb_conv_shape){inner, kernel, stride, inner});
    x = mqb_build_relu6(b, x, scope, "act1/Clip");
    return mqb_build_conv_norm(b, x, scope, "conv_pw", "bn2", &(struct mqb_conv_shape){channels, 1, 1, 1});
}

/* Pointwise to the inner width, depthwise, pointwise back. */
static mqb_value_id inverted(struct mqb_builder *b, mqb_value_id x, const char *scope, int64_t inner, int64_t channels,
                             int64_t kernel, int64_t stride)
{
    x = mqb_build_conv_norm(b, x, scope, "conv_pw", "bn1", &(struct mqb_conv_shape){inner, 1, 1, 1});
    x = mqb_build_relu6(b, x, scope, "act1/Clip");
    x = mqb_build_conv_norm(b, x, scope, "conv_dw", "bn2", &(struct mqb_conv_shape){inner, kernel, stride, inner});
    x = mqb_build_relu6(b, x, scope, "act2/Clip");
    return mqb_build_conv_norm(b, x, scope, "conv_pwl", "bn3", &(struct mqb_conv_shape){channels, 1, 1, 1});
}

mqb_value_id mqb_build_efficientnet_lite(struct mqb_builder *b, mqb_value_id x, int member)
{
    char scope[MQB_MODULE_NAME];
    (void)member;
    x = mqb_build_conv_norm(b, x, "", "conv_stem", "bn1", &(struct mqb_conv_shape){32, 3, 2, 1});
    x = mqb_build_relu6(b, x, "", "act1/Clip");
    for (size_t s = 0; s < NUM_STAGES; s++) {
        for (int i = 0; i < stages[s].repeats; i++) {
            int64_t in = mqb_build_channels(b, x), out = stages[s].channels, stride = i == 0 ? stages[s].stride : 1;
            snprintf(scope, sizeof(scope), "blocks.%d.%d", (int)s, i);
            mqb_value_id y = stages[s].expansion == 1
                                 ? separable(b, x, scope, out, stages[s].kernel, stride)
                                 : inverted(b, x, scope, in * stages[s].expansion, out, stages[s].kernel, stride);
            x = stride == 1 && in == out ? mqb_build_add(b, y, x, scope, "Add") : y;
        }
    }
    x = mqb_build_conv_norm(b, x, "", "conv_head", "bn2", &(struct mqb_conv_shape){1280, 1, 1, 1});
    return mqb_build_relu6(b, x, "", "act2/Clip");
}
