/*
 * build_regnetx.c - RegNetX-600MF of Radosavovic et al. 2020 (table 4), with timm's names (regnetx_006): bottlenecks of ratio 1
 * whose 3x3 convolutions have groups of 24 channels. The widths are those of its line: start 48, slope 36.97, step 2.24.
 */
#include "graph/build.h"

#define GROUP_WIDTH 24

static const struct {
    int64_t width;
    int depth;
} stages[] = {{48, 1}, {96, 3}, {240, 5}, {528, 7}};
#define NUM_STAGES (sizeof(stages) / sizeof(stages[0]))

/* scope.child: convolution, batch norm, and ReLU where `act` is its place. */
static mqb_value_id layer(struct mqb_builder *b, mqb_value_id x, const char *scope, const char *child,
                          const struct mqb_conv_shape *shape, bool act)
{
    char module[MQB_MODULE_NAME - 8];
    snprintf(module, sizeof(module), "%s%s%s", scope, scope[0] ? "." : "", child);
    x = mqb_build_conv_norm(b, x, module, "conv", "bn", shape);
    return act ? mqb_build_relu(b, x, module, "act/Relu") : x;
}

static mqb_value_id block(struct mqb_builder *b, mqb_value_id x, const char *scope, int64_t width, int64_t stride)
{
    mqb_value_id y = layer(b, x, scope, "conv1", &(struct mqb_conv_shape){width, 1, 1, 1}, true);
    y = layer(b, y, scope, "conv2", &(struct mqb_conv_shape){width, 3, stride, width / GROUP_WIDTH}, true);
    y = layer(b, y, scope, "conv3", &(struct mqb_conv_shape){width, 1, 1, 1}, false);
    if (stride != 1 || width != mqb_build_channels(b, x)) {
        x = layer(b, x, scope, "downsample", &(struct mqb_conv_shape){width, 1, stride, 1}, false);
    }
    y = mqb_build_add(b, y, x, scope, "Add");
    return mqb_build_relu(b, y, scope, "act3/Relu");
}

mqb_value_id mqb_build_regnetx(struct mqb_builder *b, mqb_value_id x, int member)
{
    char scope[MQB_MODULE_NAME / 2];
    (void)member;
    x = layer(b, x, "", "stem", &(struct mqb_conv_shape){32, 3, 2, 1}, true);
    for (size_t s = 0; s < NUM_STAGES; s++) {
        for (int i = 0; i < stages[s].depth; i++) {
            snprintf(scope, sizeof(scope), "s%d.b%d", (int)s + 1, i + 1);
            x = block(b, x, scope, stages[s].width, i == 0 ? 2 : 1);
        }
    }
    return x;
}
