/* add.c - Add: y = a + b, two batched values of one shape. */
#include "ops/ops.h"

#include <mqbench/plugin.h>

MQB_MULTIVERSION static void add_forward(int64_t size, const float *a, const float *b, float *y)
{
    MQB_ELEMENTWISE
    for (int64_t i = 0; i < size; i++)
        y[i] = a[i] + b[i];
}

static mqb_status add_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                            struct mqb_error *error)
{
    const struct mqb_value *a, *b;
    char text_a[MQB_SHAPE_TEXT], text_b[MQB_SHAPE_TEXT];
    mqb_status status = mqb_infer_batched(graph, node, 0, false, &a, error);
    if (!status)
        status = mqb_infer_batched(graph, node, 1, false, &b, error);
    if (status)
        return status;
    if (!mqb_value_same_shape(a, b))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "inputs '%s' %s and '%s' %s differ in shape; only equal shapes can be added",
                        a->name, mqb_shape_text(a, text_a), b->name, mqb_shape_text(b, text_b));
    return mqb_infer_output(output, a->rank, a->dims, true, error);
}

static void add_forward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    (void)context;
    add_forward(block->rows * block->channels, block->in[0], block->in[1], block->out);
}

static void add_backward_block(const struct mqb_op_context *context, const struct mqb_op_block *block)
{
    (void)context;
    int64_t size = block->rows * block->channels;
    if (block->din[1])
        mqb_copy_or_add(block->din[1], block->dout, size, block->accumulate_side);
    if (block->din[0])
        mqb_copy_or_add(block->din[0], block->dout, size, false);
}

const struct mqb_op mqb_op_add = {
    .name = "Add",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = add_infer,
    .forward_block = add_forward_block,
    .backward_block = add_backward_block,
};
