/*
 * lower_ideal.c - programs in which parts of the contract are exchanged for what the fake-quantized network computes, to find
 * out by substitution what a difference between the two comes from.
 *
 * A factor that is exchanged follows the contract `exact`: multipliers in double, rounding half to even (or where the scheme
 * sends a tie), sums of two tensors in float, the input by the formula of fake quantization. Integer sums stay what they are; a
 * real bias, which none can hold, is added to them when they are requantized. A mean without a point of its own is not rounded at
 * all in the fake-quantized network. It is kept as reals beside its codes then, and the linear layer or convolution behind it runs
 * in float.
 */
#include "quant/program.h"

#include <string.h>

void mqb_lower_ideal_contract(struct mqb_program *program, const struct mqb_scheme *activation, uint32_t ideal)
{
    bool ties = activation->pot_scale && (activation->rounding == MQB_ROUND_RHA || activation->rounding == MQB_ROUND_RHU);
    int32_t rounding = ties ? activation->rounding : MQB_ROUND_RNE;
    struct mqb_contract *contract = &program->contract;
    program->ideal = ideal;
    program->exact = *contract;
    program->exact.fold = MQB_FOLD_F64;
    program->exact.multiplier = MQB_MULTIPLIER_F64;
    program->exact.rounding = rounding;
    program->exact.zp_before = 0;
    program->exact.intermediate = MQB_INTERMEDIATE_NONE;
    program->exact.input_rounding = rounding;
    program->exact.input_divide = 0;
    program->exact.add_rule = MQB_ADD_F32;
    program->exact.pool_rule = MQB_POOL_INTEGER;
    if (ideal & MQB_FACTOR_FOLD)
        contract->fold = MQB_FOLD_F64;
    if ((ideal & MQB_FACTOR_HALF) && contract->intermediate == MQB_INTERMEDIATE_F16)
        contract->intermediate = MQB_INTERMEDIATE_F32;
    if (ideal & MQB_FACTOR_SATURATION) {
        contract->accumulator = MQB_ACCUMULATOR_I32_WRAP;
        if (contract->intermediate == MQB_INTERMEDIATE_I16_SATURATING)
            contract->intermediate = MQB_INTERMEDIATE_NONE;
    }
}

uint32_t mqb_program_factors(const struct mqb_program *program)
{
    const struct mqb_contract *c = &program->contract;
    uint32_t factors = MQB_FACTOR_REQUANTIZE;
    for (int32_t i = 0; i < program->num_ops; i++) {
        const struct mqb_iop *op = &program->ops[i];
        factors |= op->conv && op->conv->bias_scale ? MQB_FACTOR_BIAS : 0;
        factors |= op->conv && op->conv->pairs ? MQB_FACTOR_SATURATION : 0;
        factors |= op->kind == MQB_IOP_BINARY ? MQB_FACTOR_ADD : 0;
        factors |= op->kind == MQB_IOP_AVERAGE_POOL ? MQB_FACTOR_POOL : 0;
    }
    factors |= c->fold != MQB_FOLD_F64 ? MQB_FACTOR_FOLD : 0;
    factors |= c->intermediate == MQB_INTERMEDIATE_I16_SATURATING ? MQB_FACTOR_SATURATION : 0;
    factors |= c->intermediate == MQB_INTERMEDIATE_F16 ? MQB_FACTOR_HALF : 0;
    bool input = c->input_rounding != program->exact.input_rounding || c->input_divide || mqb_requant_zero_before(c);
    factors |= input ? MQB_FACTOR_INPUT : 0;
    return factors;
}

/* ---- means that are not rounded ---- */

/* The node in float, reading `from` instead of the codes of its input 0; *to: its result. tensor_of stays what it was. */
static mqb_status run_beside(struct mqb_lowering *lowering, const struct mqb_node *node, int32_t from, int32_t *to,
                             struct mqb_error *error)
{
    struct mqb_program *program = lowering->program;
    mqb_value_id x = node->inputs[0], y = node->output;
    int32_t codes_x = lowering->tensor_of[x], codes_y = lowering->tensor_of[y];
    lowering->tensor_of[x] = from;
    mqb_status status = mqb_lower_real(lowering, node, error);
    *to = lowering->tensor_of[y];
    lowering->tensor_of[x] = codes_x;
    lowering->tensor_of[y] = codes_y;
    if (status == MQB_OK)
        program->tensors[*to].info.scale = program->tensors[from].info.scale;
    return status;
}

mqb_status mqb_lower_mean(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error)
{
    struct mqb_program *program = lowering->program;
    mqb_value_id x = node->inputs[0];
    int32_t codes = lowering->tensor_of[x], real;
    struct mqb_iop *op;
    if (!(program->ideal & MQB_FACTOR_POOL) || mqb_deploy_find(lowering->deploy, node->output))
        return MQB_OK;
    mqb_status status = mqb_lower_real_tensor(lowering, node, x, &real, error);
    lowering->tensor_of[x] = codes;
    if (status == MQB_OK)
        status = mqb_lower_op(lowering, node, MQB_IOP_DEQUANTIZE, &op, error);
    if (status != MQB_OK)
        return status;
    op->num_in = 1;
    op->in[0] = codes;
    op->out = real;
    program->tensors[real].info.scale = program->tensors[codes].info.scale;
    return run_beside(lowering, node, real, &lowering->mean_of[node->output], error);
}

/* The layer in float keeps the bias that its integers would have, unless that is exchanged, too. */
static mqb_status round_bias(const struct mqb_lowering *lowering, const struct mqb_node *node, int32_t from,
                             struct mqb_ireal *real, struct mqb_error *error)
{
    const struct mqb_program *program = lowering->program;
    const struct mqb_frozen *weight = mqb_deploy_find(lowering->deploy, node->inputs[1]);
    float s_x = program->tensors[from].info.scale;
    if (!real->fixed[2] || !weight || (program->ideal & MQB_FACTOR_BIAS) || program->contract.bias_form != MQB_BIAS_I32)
        return MQB_OK;
    int64_t channels = mqb_value_size(mqb_node_input(lowering->graph, node, 2));
    real->bias = mqb_allocate_array((size_t)channels, sizeof(*real->bias));
    if (!real->bias)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the bias of layer '%s'", node->name);
    for (int64_t k = 0; k < channels; k++) {
        float s_w = weight->scale[weight->num_channels > 1 ? k : 0];
        real->bias[k] = (float)(mqb_lower_bias(&program->contract, s_x, s_w, real->fixed[2][k]) * ((double)s_x * s_w));
    }
    real->fixed[2] = real->bias;
    return MQB_OK;
}

/* A layer from a real mean: codes again if it has a point, else the network's output. */
static mqb_status lower_layer(struct mqb_lowering *lowering, const struct mqb_node *node, int32_t from, struct mqb_error *error)
{
    struct mqb_program *program = lowering->program;
    int32_t real, out;
    struct mqb_iop *op;
    mqb_status status = run_beside(lowering, node, from, &real, error);
    if (status == MQB_OK)
        status = round_bias(lowering, node, from, program->ops[program->num_ops - 1].real, error);
    if (status != MQB_OK)
        return status;
    struct mqb_target target = mqb_lower_target(lowering, node);
    if (!target.frozen) {
        lowering->mean_of[node->output] = real;
        return MQB_OK;
    }
    status = mqb_lower_tensor(lowering, node, target.value, target.frozen, MQB_NONE, &out, error);
    if (status == MQB_OK)
        status = mqb_lower_op(lowering, node, MQB_IOP_QUANTIZE, &op, error);
    if (status != MQB_OK)
        return status;
    const struct mqb_itensor *y = &program->tensors[out];
    op->num_in = 1;
    op->in[0] = real;
    op->out = out;
    op->quantize = (struct mqb_quantize_rows){mqb_program_rule(program, MQB_FACTOR_REQUANTIZE), y->info.scale,
                                              y->info.zero_point, 0, 0, y->offset};
    mqb_lower_bounds(program, y, &target, &op->quantize.low, &op->quantize.high);
    return MQB_OK;
}

mqb_status mqb_lower_behind_mean(struct mqb_lowering *lowering, const struct mqb_node *node, bool *done,
                                 struct mqb_error *error)
{
    int32_t from = node->num_inputs > 0 && node->inputs[0] != MQB_NONE ? lowering->mean_of[node->inputs[0]] : MQB_NONE;
    bool layer = strcmp(node->op->name, "Conv") == 0 || strcmp(node->op->name, "Gemm") == 0;
    bool flat = strcmp(node->op->name, "Flatten") == 0 && !mqb_deploy_find(lowering->deploy, node->output);
    *done = false;
    if (from == MQB_NONE || (!layer && !flat)) /* anything else reads the codes */
        return MQB_OK;
    if (flat) { /* its codes are made as well, unless there are none */
        *done = lowering->tensor_of[node->inputs[0]] == MQB_NONE;
        return run_beside(lowering, node, from, &lowering->mean_of[node->output], error);
    }
    *done = true;
    return lower_layer(lowering, node, from, error);
}
