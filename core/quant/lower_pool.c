/*
 * lower_pool.c - pooling. Both kinds keep their input's parameters unless the output has a point of its own: a mean is rounded
 * onto its input's grid then.
 */
#include "quant/program.h"

#include <string.h>

static mqb_status read_window(const struct mqb_node *node, const struct mqb_itensor *x, struct mqb_window *window,
                              struct mqb_error *error)
{
    if (strcmp(node->op->name, "GlobalAveragePool") == 0) {
        *window = (struct mqb_window){x->h, x->w, 1, 1, 0, 0, 0, 0, 1, 1};
        return MQB_OK;
    }
    mqb_status status =
        mqb_window_read(node, mqb_attr_li(node, "kernel_shape", 0, 0), mqb_attr_li(node, "kernel_shape", 1, 0), window, error);
    if (status == MQB_OK && (window->dilation_h != 1 || window->dilation_w != 1))
        return mqb_lower_refuse(node, error, "pooling runs without dilation only");
    return status;
}

/* Elements that the mean of an output pixel is divided by; with count_include_pad those in the padding count, too. */
static int64_t window_count(const struct mqb_window *window, const struct mqb_itensor *x, bool count_pads, int64_t p, int64_t q)
{
    int64_t h0, h1, w0, w1;
    if (count_pads) {
        mqb_window_span(p, window->stride_h, 0, window->r, x->h + window->pad_top + window->pad_bottom, &h0, &h1);
        mqb_window_span(q, window->stride_w, 0, window->s, x->w + window->pad_left + window->pad_right, &w0, &w1);
    } else {
        mqb_window_span(p, window->stride_h, window->pad_top, window->r, x->h, &h0, &h1);
        mqb_window_span(q, window->stride_w, window->pad_left, window->s, x->w, &w0, &w1);
    }
    return (h1 - h0) * (w1 - w0);
}

static int32_t find_mean(const struct mqb_iop *op, int64_t count)
{
    int32_t index = 0;
    while (index < op->num_means && op->means[index].count != count)
        index++;
    return index;
}

static mqb_status lower_means(const struct mqb_program *program, const struct mqb_node *node, struct mqb_iop *op,
                              struct mqb_error *error)
{
    const struct mqb_itensor *x = &program->tensors[op->in[0]], *y = &program->tensors[op->out];
    struct mqb_contract contract = *mqb_program_rule(program, MQB_FACTOR_POOL);
    bool count_pads = mqb_attr_i(node, "count_include_pad", 0) != 0;
    size_t pixels = (size_t)y->h * (size_t)y->w;
    if ((program->ideal & MQB_FACTOR_POOL) && y->info.point == MQB_NONE) /* no point: a comparison rounds it, to even */
        contract.rounding = MQB_ROUND_RNE;
    op->mean_of = mqb_allocate_array(pixels, sizeof(*op->mean_of));
    op->means = mqb_allocate_array(pixels, sizeof(*op->means));
    if (!op->mean_of || !op->means)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for layer '%s'", node->name);
    for (size_t i = 0; i < pixels; i++) {
        int64_t count = window_count(&op->window, x, count_pads, (int64_t)i / y->w, (int64_t)i % y->w);
        if (count > INT32_MAX / 256)
            return mqb_lower_refuse(node, error, "its window of %lld elements can overflow a 32 bit sum", (long long)count);
        op->mean_of[i] = find_mean(op, count);
        if (op->mean_of[i] < op->num_means)
            continue;
        struct mqb_imean *mean = &op->means[op->num_means++];
        mean->count = (int32_t)count;
        mean->rule = contract.pool_rule;
        if (mean->rule == MQB_POOL_ORT && strcmp(node->op->name, "GlobalAveragePool") == 0)
            mean->rule = MQB_POOL_INTEGER;
        mqb_status status = mqb_requantizer_init_count(&mean->requantizer, &contract, x->info.scale, 1.0f, y->info.scale,
                                                       mean->count, y->info.zero_point, y->info.qmin, y->info.qmax, error);
        if (status != MQB_OK)
            return mqb_fail_prefix(error, status, "layer '%s'", node->name);
    }
    return MQB_OK;
}

mqb_status mqb_lower_pool(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error)
{
    struct mqb_program *program = lowering->program;
    bool largest = strcmp(node->op->name, "MaxPool") == 0;
    int32_t in, out;
    struct mqb_iop *op;
    struct mqb_window window;
    mqb_status status = mqb_lower_input(lowering, node, 0, &in, error);
    if (status == MQB_OK)
        status = read_window(node, &program->tensors[in], &window, error);
    if (status == MQB_OK)
        status =
            mqb_lower_tensor(lowering, node, node->output, mqb_deploy_find(lowering->deploy, node->output), in, &out, error);
    if (status == MQB_OK)
        status = mqb_lower_op(lowering, node, largest ? MQB_IOP_MAX_POOL : MQB_IOP_AVERAGE_POOL, &op, error);
    if (status != MQB_OK)
        return status;
    op->num_in = 1;
    op->in[0] = in;
    op->out = out;
    op->window = window;
    if (largest)
        return mqb_lower_own_params(program, node, op, error);
    status = lower_means(program, node, op, error);
    return status == MQB_OK ? mqb_lower_mean(lowering, node, error) : status;
}
