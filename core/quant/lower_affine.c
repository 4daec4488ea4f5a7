/*
 * lower_affine.c - batch norm that no layer took up: one table of codes a channel. Dequantized, y = x scale + shift in float32
 * with the numbers that evaluation uses, and the activation behind it as bounds of codes.
 */
#include "quant/program.h"

#include <math.h>

static mqb_status read_norm(const struct mqb_graph *graph, const struct mqb_node *node, int32_t channel, float *scale,
                            float *shift, struct mqb_error *error)
{
    double p[4];
    for (int32_t i = 0; i < 4; i++) {
        const struct mqb_value *value = mqb_node_input(graph, node, i + 1);
        if (!value || !value->data)
            return mqb_lower_refuse(node, error, "its parameter %d is not a constant", (int)i + 1);
        p[i] = (double)value->data[channel];
    }
    double factor = p[0] * (1 / sqrt(p[3] + mqb_attr_f(node, "epsilon", 1e-5)));
    *scale = (float)factor;
    *shift = (float)(p[1] - p[2] * factor);
    if (!isfinite(*scale) || !isfinite(*shift))
        return mqb_fail(error, MQB_ERR_NUMERIC,
                        "layer '%s' (BatchNormalization): channel %d multiplies by %g and adds %g; expected finite numbers",
                        node->name, (int)channel, (double)*scale, (double)*shift);
    return MQB_OK;
}

mqb_status mqb_lower_batch_norm(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error)
{
    struct mqb_program *program = lowering->program;
    int32_t in, out, low, high;
    struct mqb_iop *op;
    mqb_status status = mqb_lower_input(lowering, node, 0, &in, error);
    if (status != MQB_OK)
        return status;
    if (node->num_inputs > 5 && node->inputs[5] != MQB_NONE)
        return mqb_lower_refuse(node, error, "it has a divisor, which belongs to a convolution in front of it");
    struct mqb_target target = mqb_lower_target(lowering, node);
    if (!target.frozen)
        return mqb_lower_refuse(node, error, "its output '%s' has no quantization point, so its scale is not known",
                                lowering->graph->values[target.value].name);
    status = mqb_lower_tensor(lowering, node, target.value, target.frozen, MQB_NONE, &out, error);
    if (status == MQB_OK)
        status = mqb_lower_op(lowering, node, MQB_IOP_CHANNELS, &op, error);
    if (status != MQB_OK)
        return status;
    const struct mqb_itensor *x = &program->tensors[in], *y = &program->tensors[out];
    op->num_in = 1;
    op->in[0] = in;
    op->out = out;
    op->table = mqb_allocate_array((size_t)y->c, 256);
    if (!op->table)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for layer '%s'", node->name);
    const struct mqb_contract *rule = mqb_program_rule(program, MQB_FACTOR_REQUANTIZE);
    mqb_lower_bounds(program, y, &target, &low, &high);
    for (int32_t c = 0; c < y->c; c++) {
        float scale = 0.0f, shift = 0.0f;
        status = read_norm(lowering->graph, node, c, &scale, &shift, error);
        for (int32_t stored = 0; stored < 256 && status == MQB_OK; stored++) {
            float real = x->info.scale * (float)(stored - x->offset - x->info.zero_point), norm = real * scale + shift;
            int32_t code = mqb_quantize_value(rule, norm, y->info.scale, y->info.zero_point, low, high);
            op->table[c * 256 + stored] = (uint8_t)(code + y->offset);
        }
        if (status != MQB_OK)
            return status;
    }
    return MQB_OK;
}
