/* window.c - the geometry of a sliding kernel. */
#include "ops/ops.h"

#include <inttypes.h>

/* Larger numbers than these in a file are a mistake, and products of two of them stay far from overflow. */
#define WINDOW_LIMIT (1 << 20)

static mqb_status window_check(const char *name, int64_t value, int64_t least, struct mqb_error *error)
{
    if (value < least || value > WINDOW_LIMIT)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "attribute '%s' contains %" PRId64 ", expected numbers from %" PRId64 " to %d",
                        name, value, least, WINDOW_LIMIT);
    return MQB_OK;
}

mqb_status mqb_window_read(const struct mqb_node *node, int64_t r, int64_t s, struct mqb_window *window,
                           struct mqb_error *error)
{
    window->r = r;
    window->s = s;
    window->stride_h = mqb_attr_li(node, "strides", 0, 1);
    window->stride_w = mqb_attr_li(node, "strides", 1, 1);
    window->pad_top = mqb_attr_li(node, "pads", 0, 0);
    window->pad_left = mqb_attr_li(node, "pads", 1, 0);
    window->pad_bottom = mqb_attr_li(node, "pads", 2, 0);
    window->pad_right = mqb_attr_li(node, "pads", 3, 0);
    window->dilation_h = mqb_attr_li(node, "dilations", 0, 1);
    window->dilation_w = mqb_attr_li(node, "dilations", 1, 1);

    const struct {
        const char *name;
        int64_t value, least;
    } checks[] = {
        {"kernel_shape", window->r, 1},       {"kernel_shape", window->s, 1}, {"strides", window->stride_h, 1},
        {"strides", window->stride_w, 1},     {"pads", window->pad_top, 0},   {"pads", window->pad_left, 0},
        {"pads", window->pad_bottom, 0},      {"pads", window->pad_right, 0}, {"dilations", window->dilation_h, 1},
        {"dilations", window->dilation_w, 1},
    };
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        mqb_status status = window_check(checks[i].name, checks[i].value, checks[i].least, error);
        if (status)
            return status;
    }
    return MQB_OK;
}

static int64_t window_output(int64_t size, int64_t kernel, int64_t stride, int64_t before, int64_t after, int64_t dilation,
                             bool ceil)
{
    int64_t room = size + before + after - (dilation * (kernel - 1) + 1);
    if (room < 0)
        return 0;
    int64_t count = (room + (ceil ? stride - 1 : 0)) / stride + 1;
    if (ceil && (count - 1) * stride >= size + before)
        count--;
    return count;
}

void mqb_window_output(const struct mqb_window *window, int64_t h, int64_t w, bool ceil, int64_t *p, int64_t *q)
{
    *p = window_output(h, window->r, window->stride_h, window->pad_top, window->pad_bottom, window->dilation_h, ceil);
    *q = window_output(w, window->s, window->stride_w, window->pad_left, window->pad_right, window->dilation_w, ceil);
}
