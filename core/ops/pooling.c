/* pooling.c - what MaxPool and AveragePool share: their window. */
#include "ops/ops.h"

static mqb_status pooling_window(const struct mqb_node *node, struct mqb_window *window, struct mqb_error *error)
{
    mqb_status status =
        mqb_window_read(node, mqb_attr_li(node, "kernel_shape", 0, 0), mqb_attr_li(node, "kernel_shape", 1, 0), window, error);
    if (status)
        return status;
    if (window->dilation_h != 1 || window->dilation_w != 1)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute dilations = %d, %d; pooling runs without dilation only",
                        (int)window->dilation_h, (int)window->dilation_w);
    if (window->pad_top >= window->r || window->pad_bottom >= window->r || window->pad_left >= window->s ||
        window->pad_right >= window->s)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute pads = %d, %d, %d, %d is not smaller than the window of %d x %d",
                        (int)window->pad_top, (int)window->pad_left, (int)window->pad_bottom, (int)window->pad_right,
                        (int)window->r, (int)window->s);
    return MQB_OK;
}

mqb_status mqb_pooling_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                             struct mqb_error *error)
{
    const struct mqb_value *x;
    char text[MQB_SHAPE_TEXT];
    struct mqb_window window;
    mqb_status status = mqb_infer_batched(graph, node, 0, true, &x, error);
    if (!status)
        status = pooling_window(node, &window, error);
    if (status)
        return status;
    int64_t dims[4] = {MQB_BATCH, x->dims[1], 0, 0};
    mqb_window_output(&window, x->dims[2], x->dims[3], mqb_attr_i(node, "ceil_mode", 0) != 0, &dims[2], &dims[3]);
    if (dims[2] < 1 || dims[3] < 1)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "its window of %d x %d is larger than the padded input '%s' %s", (int)window.r,
                        (int)window.s, x->name, mqb_shape_text(x, text));
    return mqb_infer_output(output, 4, dims, true, error);
}

mqb_status mqb_pooling_create(struct mqb_op_context *context, size_t *scratch_size, struct mqb_error *error)
{
    struct mqb_window *window = mqb_allocate(sizeof(*window));
    (void)scratch_size;
    if (!window)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for its window");
    context->state = window;
    return pooling_window(context->node, window, error);
}

void mqb_pooling_destroy(struct mqb_op_context *context)
{
    mqb_deallocate(context->state);
    context->state = NULL;
}
