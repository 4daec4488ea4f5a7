/* program_onnx.c - an integer program as quantized ONNX: which tensors have codes, and which codes can occur. */
#include "quant/program.h"

#include <math.h>
#include <string.h>

struct listing {
    const struct mqb_deploy *deploy;
    const struct mqb_program *program;
    struct mqb_onnx_codes *codes;
    int32_t num;
    int32_t *zeros; /* as many as the widest bias has channels */
    bool *stored;   /* by value: the program has a tensor of its codes */
    uint32_t flags;
};

static bool activation_bounds(const struct mqb_node *node, float *least, float *most)
{
    bool relu = strcmp(node->op->name, "Relu") == 0;
    if (!relu && strcmp(node->op->name, "Clip") != 0)
        return false;
    *least = relu ? 0.0f : (float)mqb_attr_f(node, "min", -INFINITY);
    *most = relu ? INFINITY : (float)mqb_attr_f(node, "max", INFINITY);
    return true;
}

/* The codes that the activations which end in this tensor leave. */
static void code_bounds(const struct listing *l, const struct mqb_program_tensor *t, int32_t *low, int32_t *high)
{
    const struct mqb_graph *graph = l->deploy->graph;
    const struct mqb_contract *contract = &l->program->contract;
    float all_least = -INFINITY, all_most = INFINITY, least, most;
    mqb_value_id value = t->value;
    /* From the last activation to the first: one before narrows only what those behind it leave open. */
    for (mqb_node_id id = graph->values[value].producer; id != MQB_NONE; id = graph->values[value].producer) {
        if (!activation_bounds(&graph->nodes[id], &least, &most))
            break;
        least = fminf(fmaxf(least, all_least), all_most);
        most = fminf(fmaxf(most, all_least), all_most);
        all_least = least;
        all_most = most;
        value = graph->nodes[id].inputs[0];
        if (l->stored[value])
            break;
    }
    *low = t->qmin;
    *high = t->qmax;
    if (all_least > -INFINITY)
        *low = mqb_quantize_value(contract, all_least, t->scale, t->zero_point, t->qmin, t->qmax);
    if (all_most < INFINITY)
        *high = mqb_quantize_value(contract, all_most, t->scale, t->zero_point, t->qmin, t->qmax);
}

static void list_activations(struct listing *l)
{
    int num = mqb_program_num_tensors(l->program);
    for (int i = 0; i < num; i++)
        l->stored[mqb_program_tensor(l->program, i)->value] = true;
    for (int i = 0; i < num; i++) {
        const struct mqb_program_tensor *t = mqb_program_tensor(l->program, i);
        struct mqb_onnx_codes *c = &l->codes[l->num++];
        *c = (struct mqb_onnx_codes){.value = t->value,
                                     .is_signed = t->is_signed,
                                     .low = t->qmin,
                                     .high = t->qmax,
                                     .num_channels = 1,
                                     .scale = &t->scale,
                                     .zero_point = &t->zero_point};
        if (!(l->flags & MQB_ONNX_REAL_CLAMPS)) /* else the activations stay */
            code_bounds(l, t, &c->low, &c->high);
    }
}

static void list_weights(struct listing *l)
{
    for (int i = 0; i < l->deploy->num_frozen; i++) {
        const struct mqb_frozen *f = &l->deploy->frozen[i];
        if (f->role == MQB_ROLE_WEIGHT)
            l->codes[l->num++] = (struct mqb_onnx_codes){.value = f->value,
                                                         .is_signed = f->qmin < 0,
                                                         .low = f->qmin,
                                                         .high = f->qmax,
                                                         .num_channels = f->num_channels,
                                                         .scale = f->scale,
                                                         .zero_point = f->zero_point,
                                                         .codes = f->codes};
    }
}

/* A bias has as many scales as the weight beside it. */
static int32_t bias_channels(const struct mqb_deploy *deploy, const struct mqb_program_bias *bias)
{
    const struct mqb_graph *graph = deploy->graph;
    for (int32_t k = 0; k < graph->num_ordered; k++) {
        const struct mqb_node *node = &graph->nodes[graph->order[k]];
        if (node->num_inputs < 3 || node->inputs[2] != bias->value)
            continue;
        const struct mqb_frozen *weight = mqb_deploy_find(deploy, node->inputs[1]);
        return weight ? weight->num_channels : bias->num_channels;
    }
    return bias->num_channels;
}

static void list_biases(struct listing *l, int num_biases)
{
    struct mqb_program_bias bias;
    for (int i = 0; i < num_biases && mqb_program_bias(l->program, i, &bias); i++)
        l->codes[l->num++] = (struct mqb_onnx_codes){.value = bias.value,
                                                     .is_signed = true,
                                                     .is_bias = true,
                                                     .low = INT32_MIN,
                                                     .high = INT32_MAX,
                                                     .num_channels = bias_channels(l->deploy, &bias),
                                                     .scale = bias.scale,
                                                     .zero_point = l->zeros,
                                                     .codes = bias.codes};
}

mqb_status mqb_program_export_onnx(const struct mqb_program *program, const struct mqb_deploy *deploy, uint32_t flags,
                                   const char *path, struct mqb_error *error)
{
    struct mqb_program_bias bias;
    int num_biases = 0;
    int32_t widest = 1;
    for (; mqb_program_bias(program, num_biases, &bias); num_biases++)
        widest = bias.num_channels > widest ? bias.num_channels : widest;
    size_t num = (size_t)(mqb_program_num_tensors(program) + deploy->num_frozen + num_biases) + 1;
    struct listing l = {
        .deploy = deploy,
        .program = program,
        .codes = mqb_allocate_array(num, sizeof(*l.codes)),
        .zeros = mqb_allocate_array((size_t)widest, sizeof(*l.zeros)),
        .stored = mqb_allocate_array((size_t)deploy->graph->num_values + 1, sizeof(*l.stored)),
        .flags = flags,
    };
    mqb_status status = MQB_OK;
    if (!l.codes || !l.zeros || !l.stored)
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory to export an integer program");
    for (int i = 0; i < deploy->num_frozen && status == MQB_OK; i++)
        if (deploy->frozen[i].is_private)
            status = mqb_fail(error, MQB_ERR_UNSUPPORTED,
                              "tensor '%s' has codes for one of its readers alone, which quantized ONNX is not written for",
                              deploy->frozen[i].name);
    if (status == MQB_OK) {
        list_activations(&l);
        list_weights(&l);
        list_biases(&l, num_biases);
        status = mqb_onnx_export_quantized(deploy->graph, l.codes, l.num, flags, path, error);
    }
    mqb_deallocate(l.codes);
    mqb_deallocate(l.zeros);
    mqb_deallocate(l.stored);
    return status;
}
