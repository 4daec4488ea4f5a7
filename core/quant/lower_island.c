/*
 * lower_island.c - programs whose convolutions and linear layers alone run in integers. Each quantizes its input, sums in
 * integers and hands over reals; whatever lies between is done by the operators that training uses, in float32, and under a
 * contract of halves every real tensor is rounded to IEEE half.
 */
#include "quant/program.h"

#include <string.h>

mqb_status mqb_lower_quantized(struct mqb_lowering *lowering, const struct mqb_node *node, int32_t *tensor,
                               struct mqb_error *error)
{
    struct mqb_program *program = lowering->program;
    const struct mqb_deploy *deploy = lowering->deploy;
    mqb_value_id value = node->inputs[0];
    const struct mqb_frozen *frozen = mqb_deploy_find_input(deploy, value, (mqb_node_id)(node - lowering->graph->nodes));
    int32_t real = lowering->tensor_of[value];
    struct mqb_iop *op;
    if (!frozen || real == MQB_NONE)
        return mqb_lower_refuse(node, error, "its input '%s' has no quantization point", lowering->graph->values[value].name);
    int32_t *made = &lowering->quantized[frozen - deploy->frozen];
    if (*made != MQB_NONE) {
        *tensor = *made;
        return MQB_OK;
    }
    mqb_status status = mqb_lower_tensor(lowering, node, value, frozen, MQB_NONE, tensor, error);
    lowering->tensor_of[value] = real; /* for its other readers */
    if (status == MQB_OK)
        status = mqb_lower_op(lowering, node, MQB_IOP_QUANTIZE, &op, error);
    if (status != MQB_OK)
        return status;
    const struct mqb_itensor *y = &program->tensors[*tensor];
    op->num_in = 1;
    op->in[0] = real;
    op->out = *tensor;
    const struct mqb_contract *rule =
        mqb_program_rule(program, real == program->input ? MQB_FACTOR_INPUT : MQB_FACTOR_REQUANTIZE);
    op->quantize = (struct mqb_quantize_rows){rule,         y->info.scale, y->info.zero_point,
                                              y->info.qmin, y->info.qmax,  y->offset};
    *made = *tensor;
    return MQB_OK;
}

/* As the executor chooses: by blocks, unless an operand differs in shape and there is another way. */
static bool runs_by_blocks(const struct mqb_graph *graph, const struct mqb_node *node)
{
    const struct mqb_value *out = &graph->values[node->output];
    if (!node->op->forward_block)
        return false;
    for (int32_t i = 0; i < node->num_inputs; i++) {
        const struct mqb_value *in = mqb_node_input(graph, node, i);
        if (in && in->batched && mqb_value_size(in) != mqb_value_size(out))
            return !node->op->forward;
    }
    return true;
}

/* Halves in, halves out: nothing to round. */
static bool moves_numbers(const struct mqb_node *node)
{
    static const char *const names[] = {"Relu", "MaxPool", "Flatten", "Slice", "Concat"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(node->op->name, names[i]) == 0)
            return true;
    return false;
}

mqb_status mqb_lower_real(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error)
{
    const struct mqb_graph *graph = lowering->graph;
    struct mqb_iop *op;
    int32_t out;
    if ((!node->op->forward && !node->op->forward_block) || strcmp(node->op->name, "FakeQuantize") == 0)
        return mqb_lower_refuse(node, error, "operator %s has no form that runs image by image", node->op->name);
    mqb_status status = mqb_lower_real_tensor(lowering, node, node->output, &out, error);
    if (status == MQB_OK)
        status = mqb_lower_op(lowering, node, MQB_IOP_REAL, &op, error);
    if (status != MQB_OK)
        return status;
    struct mqb_ireal *real = op->real = mqb_allocate(sizeof(*real));
    if (!real)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for layer '%s'", node->name);
    op->out = out;
    real->node = node;
    real->by_blocks = runs_by_blocks(graph, node);
    real->moves = lowering->program->ideal == 0 && moves_numbers(node); /* an ideal mean is no half */
    for (int32_t i = 0; i < node->num_inputs; i++) {
        const struct mqb_value *value = mqb_node_input(graph, node, i);
        real->operand[i] = MQB_NONE;
        if (!value)
            continue;
        if (!value->batched) {
            real->fixed[i] = value->data;
            if (!value->data)
                return mqb_lower_refuse(node, error, "its operand '%s' is not a constant", value->name);
            continue;
        }
        real->operand[i] = op->num_in;
        op->in[op->num_in++] = lowering->tensor_of[node->inputs[i]];
    }
    return MQB_OK;
}

mqb_status mqb_lower_islands(struct mqb_lowering *lowering, struct mqb_error *error)
{
    const struct mqb_graph *graph = lowering->graph;
    struct mqb_program *program = lowering->program;
    for (int i = 0; i < lowering->deploy->num_frozen; i++)
        lowering->quantized[i] = MQB_NONE;
    program->half = program->contract.intermediate == MQB_INTERMEDIATE_F16;
    program->wide = mqb_isa_wide();
    mqb_status status = mqb_lower_real_tensor(lowering, NULL, graph->input, &program->input, error);
    for (int32_t i = 0; status == MQB_OK && i < graph->num_ordered; i++) {
        const struct mqb_node *node = &graph->nodes[graph->order[i]];
        bool layer = strcmp(node->op->name, "Conv") == 0 || strcmp(node->op->name, "Gemm") == 0;
        if (!graph->values[node->output].batched)
            return mqb_lower_refuse(node, error, "it computes the parameter '%s', which deployment should have made a constant",
                                    graph->values[node->output].name);
        status = layer ? mqb_lower_conv_island(lowering, node, error) : mqb_lower_real(lowering, node, error);
    }
    if (status != MQB_OK)
        return status;
    program->output = lowering->tensor_of[graph->output];
    program->num_classes = mqb_value_size(&graph->values[graph->output]);
    return MQB_OK;
}

/* ---- states of the float operators ---- */

mqb_status mqb_lower_open_reals(struct mqb_program *program, const struct mqb_graph *graph, const struct mqb_compute *compute,
                                size_t *scratch, struct mqb_error *error)
{
    *scratch = 0;
    for (int32_t i = 0; i < program->num_ops; i++) {
        struct mqb_ireal *real = program->ops[i].real;
        if (!real)
            continue;
        const struct mqb_op *op = real->node->op;
        real->context = (struct mqb_op_context){
            .graph = graph,
            .node = real->node,
            .id = (mqb_node_id)(real->node - graph->nodes),
            .max_images = program->group,
            .batch = program->group,
            .compute = compute,
            .fixed = real->fixed,
            .host = mqb_host_table(),
        };
        mqb_status status = op->create ? op->create(&real->context, &real->scratch, error) : MQB_OK;
        real->created = status == MQB_OK;
        if (status == MQB_OK && op->prepare)
            status = op->prepare(&real->context, error);
        if (status != MQB_OK)
            return mqb_fail_prefix(error, status, "layer '%s' (%s)", real->node->name, op->name);
        *scratch = real->scratch > *scratch ? real->scratch : *scratch;
    }
    return MQB_OK;
}

void mqb_lower_real_destroy(struct mqb_ireal *real)
{
    if (real && real->created && real->node->op->destroy)
        real->node->op->destroy(&real->context);
    if (real)
        mqb_deallocate(real->bias);
    mqb_deallocate(real);
}
