/* extent.c - images in memory. */
#include "ops/ops.h"

#include <mqbench/plugin.h>

#include <string.h>

struct mqb_extent mqb_value_extent(const struct mqb_value *value)
{
    struct mqb_extent extent = {1, 1, value->dims[1], 1, 0};
    if (value->rank == 4) {
        extent.h = value->dims[2];
        extent.w = value->dims[3];
    }
    extent.pixels = extent.h * extent.w;
    extent.size = extent.pixels * extent.c;
    return extent;
}

struct mqb_extent mqb_input_extent(const struct mqb_op_context *context, int32_t index)
{
    return mqb_value_extent(&context->graph->values[context->node->inputs[index]]);
}

struct mqb_extent mqb_output_extent(const struct mqb_op_context *context)
{
    return mqb_value_extent(&context->graph->values[context->node->output]);
}

MQB_MULTIVERSION static void add_floats(float *dst, const float *src, int64_t size)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++)
        dst[i] += src[i];
}

void mqb_copy_or_add(float *dst, const float *src, int64_t size, bool add)
{
    if (add)
        add_floats(dst, src, size);
    else if (dst != src)
        memcpy(dst, src, (size_t)size * sizeof(float));
}
