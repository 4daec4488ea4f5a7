/* program_times.c - what the operators of an integer program have to do, for reports of where the time goes. */
#include "quant/program.h"

int mqb_program_num_ops(const struct mqb_program *program)
{
    return program->num_ops;
}

static double tensor_bytes(const struct mqb_program *program, int32_t tensor)
{
    if (tensor == MQB_NONE)
        return (double)program->num_classes * sizeof(float);
    const struct mqb_itensor *t = &program->tensors[tensor];
    return (double)t->info.size * (t->real ? sizeof(float) : 1);
}

void mqb_program_op(const struct mqb_program *program, int index, struct mqb_program_op *op)
{
    static const char *const kinds[] = {"Conv", "Table",   "Binary",   "MaxPool", "AveragePool",
                                        "Move", "Shuffle", "Channels", "Quantize"};
    const struct mqb_iop *iop = &program->ops[index];
    *op = (struct mqb_program_op){.name = iop->name, .kind = "Float", .bytes = tensor_bytes(program, iop->out)};
    if (iop->kind >= 0 && (size_t)iop->kind < sizeof kinds / sizeof kinds[0])
        op->kind = kinds[iop->kind];
    if (iop->kind == MQB_IOP_REAL && iop->real)
        op->kind = iop->real->node->op->name;
    for (int32_t i = 0; i < iop->num_in; i++)
        op->bytes += tensor_bytes(program, iop->in[i]);
    if (iop->kind == MQB_IOP_CONV) {
        const struct mqb_conv_shape *s = &iop->conv->shape;
        op->operations = 2.0 * s->p * s->q * s->k * (s->c / s->groups) * s->r * s->s;
    }
}
