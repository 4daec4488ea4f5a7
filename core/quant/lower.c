/*
 * lower.c - from the deployment graph to an integer program: the walk over the nodes, tensors, and where they lie in memory.
 */
#include "quant/program.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define ARENA_ALIGN 64
#define GROUP_BYTES (1 << 20) /* what a group of images may take in tensors: about a second-level cache */
#define GROUP_MAX 8

mqb_status mqb_lower_refuse(const struct mqb_node *node, struct mqb_error *error, const char *format, ...)
{
    char text[768];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return mqb_fail(error, MQB_ERR_UNSUPPORTED, "layer '%s' (%s) cannot run in integers: %s", node->name ? node->name : "",
                    node->op->name, text);
}

/* ---- tensors and operators ---- */

static mqb_status grow(void **array, int32_t num, int32_t *capacity, size_t size, struct mqb_error *error)
{
    if (num < *capacity)
        return MQB_OK;
    int32_t wanted = num < 16 ? 32 : num * 2;
    void *larger = mqb_allocate_array((size_t)wanted, size);
    if (!larger)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for an integer program of %d parts", (int)wanted);
    if (num > 0)
        memcpy(larger, *array, (size_t)num * size);
    mqb_deallocate(*array);
    *array = larger;
    *capacity = wanted;
    return MQB_OK;
}

static mqb_status check_params(const struct mqb_node *node, const struct mqb_frozen *frozen, struct mqb_error *error)
{
    const char *layer = node ? node->name : "network input";
    float scale = frozen->scale[0];
    int32_t z = frozen->zero_point[0];
    if (frozen->num_channels != 1)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "tensor '%s' (%s) has %d scales, but an activation can have one only",
                        frozen->name, layer, (int)frozen->num_channels);
    if (!isfinite(scale) || !(scale > 0.0f) || !isfinite(1.0f / scale))
        return mqb_fail(error, MQB_ERR_NUMERIC,
                        "tensor '%s' (%s) has scale %g; expected a finite number above 0 whose reciprocal is "
                        "finite; calibrate again or train with a smaller learning rate",
                        frozen->name, layer, (double)scale);
    if (frozen->qmin >= frozen->qmax || frozen->qmin < -128 || frozen->qmax > (frozen->qmin < 0 ? 127 : 255))
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "tensor '%s' (%s) has codes from %d to %d, which do not fit into a byte",
                        frozen->name, layer, (int)frozen->qmin, (int)frozen->qmax);
    if (z < frozen->qmin || z > frozen->qmax)
        return mqb_fail(error, MQB_ERR_NUMERIC,
                        "tensor '%s' (%s) has zero point %d outside its codes %d to %d, so zero (and padding) has "
                        "no code",
                        frozen->name, layer, (int)z, (int)frozen->qmin, (int)frozen->qmax);
    return MQB_OK;
}

/* A tensor of the value's shape, with nothing known about its numbers. */
static mqb_status add_tensor(struct mqb_lowering *lowering, const struct mqb_node *node, mqb_value_id value, int32_t *tensor,
                             struct mqb_error *error)
{
    struct mqb_program *program = lowering->program;
    mqb_status status =
        grow((void **)&program->tensors, program->num_tensors, &program->tensors_capacity, sizeof(*program->tensors), error);
    if (status != MQB_OK)
        return status;
    const struct mqb_value *v = &lowering->graph->values[value];
    struct mqb_extent extent = mqb_value_extent(v);
    struct mqb_itensor *t = &program->tensors[program->num_tensors];
    char *name = mqb_strdup(v->name), *layer = mqb_strdup(node ? node->name : "input");
    *t = (struct mqb_itensor){
        .info = {.value = value, .point = MQB_NONE, .name = name, .layer = layer, .size = extent.size},
        .h = (int32_t)extent.h,
        .w = (int32_t)extent.w,
        .c = (int32_t)extent.c,
        .index = MQB_NONE,
        .first = program->num_ops,
        .last = program->num_ops,
    };
    *tensor = program->num_tensors++;
    lowering->tensor_of[value] = *tensor;
    return name && layer ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for tensor '%s'", v->name);
}

mqb_status mqb_lower_real_tensor(struct mqb_lowering *lowering, const struct mqb_node *node, mqb_value_id value,
                                 int32_t *tensor, struct mqb_error *error)
{
    mqb_status status = add_tensor(lowering, node, value, tensor, error);
    if (status == MQB_OK)
        lowering->program->tensors[*tensor].real = true;
    return status;
}

mqb_status mqb_lower_tensor(struct mqb_lowering *lowering, const struct mqb_node *node, mqb_value_id value,
                            const struct mqb_frozen *frozen, int32_t like, int32_t *tensor, struct mqb_error *error)
{
    struct mqb_program *program = lowering->program;
    mqb_status status = frozen ? check_params(node, frozen, error) : MQB_OK;
    if (status == MQB_OK)
        status = add_tensor(lowering, node, value, tensor, error);
    if (status != MQB_OK)
        return status;
    struct mqb_itensor *t = &program->tensors[*tensor];
    if (frozen) {
        t->info.point = frozen->point;
        t->info.scale = frozen->scale[0];
        t->info.zero_point = frozen->zero_point[0];
        t->info.qmin = frozen->qmin;
        t->info.qmax = frozen->qmax;
    } else {
        const struct mqb_program_tensor *source = &program->tensors[like].info;
        t->info.scale = source->scale;
        t->info.zero_point = source->zero_point;
        t->info.qmin = source->qmin;
        t->info.qmax = source->qmax;
    }
    t->info.is_signed = t->info.qmin < 0;
    t->offset = t->info.is_signed ? 128 : 0;
    t->zero_stored = t->info.zero_point + t->offset;
    return MQB_OK;
}

mqb_status mqb_lower_op(struct mqb_lowering *lowering, const struct mqb_node *node, int kind, struct mqb_iop **op,
                        struct mqb_error *error)
{
    struct mqb_program *program = lowering->program;
    mqb_status status = grow((void **)&program->ops, program->num_ops, &program->ops_capacity, sizeof(*program->ops), error);
    if (status != MQB_OK)
        return status;
    *op = &program->ops[program->num_ops];
    (*op)->kind = kind;
    (*op)->out = MQB_NONE;
    (*op)->name = mqb_strdup(node->name);
    program->num_ops++;
    return (*op)->name ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for layer '%s'", node->name);
}

mqb_status mqb_lower_input(const struct mqb_lowering *lowering, const struct mqb_node *node, int32_t index, int32_t *tensor,
                           struct mqb_error *error)
{
    const struct mqb_value *value = mqb_node_input(lowering->graph, node, index);
    if (!value)
        return mqb_lower_refuse(node, error, "it has no input %d", (int)index);
    *tensor = lowering->tensor_of[node->inputs[index]];
    if (*tensor == MQB_NONE)
        return mqb_lower_refuse(node, error, "its input '%s' has no integer form%s", value->name,
                                value->batched ? "" : "; constant operands of this operator are not supported");
    return MQB_OK;
}

/* ---- fused activations ---- */

/* Bounds of an activation that a clamp of codes can do. */
static bool activation_bounds(const struct mqb_node *node, float *least, float *most)
{
    if (strcmp(node->op->name, "Relu") == 0) {
        *least = 0.0f;
        *most = INFINITY;
        return true;
    }
    if (strcmp(node->op->name, "Clip") == 0) {
        *least = (float)mqb_attr_f(node, "min", -INFINITY);
        *most = (float)mqb_attr_f(node, "max", INFINITY);
        return true;
    }
    return false;
}

struct mqb_target mqb_lower_target(struct mqb_lowering *lowering, const struct mqb_node *node)
{
    const struct mqb_graph *graph = lowering->graph;
    struct mqb_target target = {node->output, NULL, -INFINITY, INFINITY};
    activation_bounds(node, &target.least, &target.most);
    for (;;) {
        float least, most;
        target.frozen = mqb_deploy_find(lowering->deploy, target.value);
        if (target.frozen || target.value == graph->output || lowering->consumers[target.value] != 1)
            return target;
        mqb_node_id next = lowering->reader[target.value];
        if (!activation_bounds(&graph->nodes[next], &least, &most))
            return target;
        target.least = fminf(fmaxf(target.least, least), most);
        target.most = fminf(fmaxf(target.most, least), most);
        target.value = graph->nodes[next].output;
        lowering->fused[next] = true;
    }
}

void mqb_lower_bounds(const struct mqb_program *program, const struct mqb_itensor *tensor, const struct mqb_target *target,
                      int32_t *low, int32_t *high)
{
    const struct mqb_program_tensor *info = &tensor->info;
    const struct mqb_contract *rule = mqb_program_rule(program, MQB_FACTOR_REQUANTIZE);
    *low = info->qmin;
    *high = info->qmax;
    if (target->least > -INFINITY)
        *low = mqb_quantize_value(rule, target->least, info->scale, info->zero_point, info->qmin, info->qmax);
    if (target->most < INFINITY)
        *high = mqb_quantize_value(rule, target->most, info->scale, info->zero_point, info->qmin, info->qmax);
}

/* ---- the walk ---- */

typedef mqb_status (*lower_function)(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error);

static const struct {
    const char *op;
    lower_function lower;
} lower_table[] = {
    {"Conv", mqb_lower_conv},           {"Gemm", mqb_lower_conv},
    {"Add", mqb_lower_binary},          {"Mul", mqb_lower_binary},
    {"Relu", mqb_lower_table},          {"Clip", mqb_lower_table},
    {"HardSwish", mqb_lower_table},     {"HardSigmoid", mqb_lower_table},
    {"LeakyRelu", mqb_lower_table},     {"Sigmoid", mqb_lower_table},
    {"MaxPool", mqb_lower_pool},        {"AveragePool", mqb_lower_pool},
    {"GlobalAveragePool", mqb_lower_pool}, {"Slice", mqb_lower_move},
    {"Pad", mqb_lower_move},            {"Concat", mqb_lower_move},
    {"Flatten", mqb_lower_move},        {"ChannelShuffle", mqb_lower_move},
    {"BatchNormalization", mqb_lower_batch_norm},
};

static mqb_status lower_node(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error)
{
    for (size_t i = 0; i < sizeof(lower_table) / sizeof(lower_table[0]); i++)
        if (strcmp(lower_table[i].op, node->op->name) == 0)
            return lower_table[i].lower(lowering, node, error);
    return mqb_lower_refuse(node, error, "operator %s has no integer form", node->op->name);
}

/* After a linear layer wrote the logits only what keeps their order may follow. */
static mqb_status lower_tail(const struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error)
{
    const struct mqb_value *x = mqb_node_input(lowering->graph, node, 0);
    if (strcmp(node->op->name, "Flatten") == 0 && x && mqb_value_extent(x).pixels == 1)
        return MQB_OK;
    return mqb_lower_refuse(node, error, "its input '%s' has no quantization point, so its scale is not known",
                            x ? x->name : "");
}

/* A stored tensor has the same codes for everybody. */
static mqb_status check_shared(const struct mqb_lowering *lowering, struct mqb_error *error)
{
    for (int i = 0; i < lowering->deploy->num_frozen; i++) {
        const struct mqb_frozen *frozen = &lowering->deploy->frozen[i];
        if (frozen->is_private)
            return mqb_fail(
                error, MQB_ERR_UNSUPPORTED,
                "tensor '%s' is quantized for '%s' alone, and otherwise or not at all for its other readers, but a program "
                "in integers stores it once; use a backend that places one point on a tensor",
                frozen->name, frozen->reader == MQB_NONE ? "the output" : lowering->graph->nodes[frozen->reader].name);
    }
    return MQB_OK;
}

static mqb_status lower_graph(struct mqb_lowering *lowering, struct mqb_error *error)
{
    const struct mqb_graph *graph = lowering->graph;
    struct mqb_program *program = lowering->program;
    const struct mqb_value *input = &graph->values[graph->input];
    const struct mqb_frozen *frozen = mqb_deploy_find(lowering->deploy, graph->input);
    if (!frozen)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                        "the network's input '%s' has no quantization point, so no integer program can "
                        "start from it; use a backend whose passes quantize the input",
                        input->name);
    mqb_status status = check_shared(lowering, error);
    if (status == MQB_OK)
        status = mqb_lower_tensor(lowering, NULL, graph->input, frozen, MQB_NONE, &program->input, error);
    bool logits = false;
    for (int32_t i = 0; status == MQB_OK && i < graph->num_ordered; i++) {
        mqb_node_id id = graph->order[i];
        const struct mqb_node *node = &graph->nodes[id];
        if (lowering->fused[id])
            continue;
        if (!graph->values[node->output].batched)
            status =
                mqb_lower_refuse(node, error, "it computes the parameter '%s', which deployment should have made a constant",
                                 graph->values[node->output].name);
        else
            status = logits ? lower_tail(lowering, node, error) : lower_node(lowering, node, error);
        if (status == MQB_OK && program->num_ops > 0 && program->ops[program->num_ops - 1].out == MQB_NONE)
            logits = true;
    }
    if (status != MQB_OK)
        return status;
    program->output = logits ? MQB_NONE : lowering->tensor_of[graph->output];
    if (lowering->mean_of[graph->output] != MQB_NONE)
        program->output = lowering->mean_of[graph->output];
    program->num_classes = mqb_value_size(&graph->values[graph->output]);
    if (!logits && program->output == MQB_NONE)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "the network's output '%s' has no integer form",
                        graph->values[graph->output].name);
    return MQB_OK;
}

/* What the outside sees: the tensors that hold codes. */
static mqb_status list_coded(struct mqb_program *program, struct mqb_error *error)
{
    program->coded = mqb_allocate_array((size_t)program->num_tensors + 1, sizeof(*program->coded));
    if (!program->coded)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for an integer program of %d tensors", (int)program->num_tensors);
    for (int32_t i = 0; i < program->num_tensors; i++) {
        if (program->tensors[i].real)
            continue;
        program->tensors[i].index = program->num_coded;
        program->coded[program->num_coded++] = i;
    }
    return MQB_OK;
}

/* ---- memory ---- */

static size_t aligned(size_t size)
{
    return (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

static size_t tensor_bytes(const struct mqb_itensor *t)
{
    return (size_t)t->info.size * (t->real ? sizeof(float) : 1);
}

static void tensor_lives(struct mqb_program *program)
{
    for (int32_t i = 0; i < program->num_ops; i++) {
        const struct mqb_iop *op = &program->ops[i];
        for (int32_t j = 0; j < op->num_in; j++)
            program->tensors[op->in[j]].last = i;
        if (op->out != MQB_NONE)
            program->tensors[op->out].first = program->tensors[op->out].last = i;
    }
    program->tensors[program->input].first = -1;
    if (program->output != MQB_NONE)
        program->tensors[program->output].last = program->num_ops;
}

/* Puts tensor i at the lowest place where no tensor placed before it lives at the same time. Returns its end. */
static size_t place_tensor(struct mqb_program *program, int32_t index)
{
    struct mqb_itensor *t = &program->tensors[index];
    size_t size = aligned(tensor_bytes(t) * (size_t)program->group);
    t->place = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int32_t i = 0; i < index; i++) {
            const struct mqb_itensor *other = &program->tensors[i];
            size_t end = other->place + aligned(tensor_bytes(other) * (size_t)program->group);
            bool together = other->first <= t->last && t->first <= other->last;
            if (together && t->place < end && other->place < t->place + size) {
                t->place = end;
                moved = true;
            }
        }
    }
    return t->place + size;
}

static size_t largest_op(const struct mqb_program *program)
{
    size_t most = 1;
    for (int32_t i = 0; i < program->num_ops; i++) {
        const struct mqb_iop *op = &program->ops[i];
        size_t size = op->conv ? mqb_iconv_accumulators_size(op->conv) : 0;
        for (int32_t j = 0; j < op->num_in; j++)
            size += tensor_bytes(&program->tensors[op->in[j]]);
        if (op->out != MQB_NONE)
            size += tensor_bytes(&program->tensors[op->out]);
        most = size > most ? size : most;
    }
    return most;
}

/* Depends on the network alone. */
static int32_t choose_group(const struct mqb_program *program)
{
    size_t group = GROUP_BYTES / largest_op(program);
    return group < 1 ? 1 : group > GROUP_MAX ? GROUP_MAX : (int32_t)group;
}

static void plan_memory(struct mqb_program *program, size_t scratch)
{
    size_t tensors = 0, accumulators = 0;
    for (int32_t i = 0; i < program->num_tensors; i++) {
        size_t end = place_tensor(program, i);
        tensors = end > tensors ? end : tensors;
    }
    for (int32_t i = 0; i < program->num_ops; i++) {
        const struct mqb_iconv *conv = program->ops[i].conv;
        if (!conv)
            continue;
        size_t a = mqb_iconv_accumulators_size(conv), s = mqb_iconv_scratch_size(conv);
        accumulators = a > accumulators ? a : accumulators;
        scratch = s > scratch ? s : scratch;
    }
    program->accumulators = aligned(tensors);
    program->scratch = program->accumulators + aligned(accumulators);
    program->arena_size = program->scratch + aligned(scratch) + ARENA_ALIGN;
}

/* Kernels of the provider; a shape that it refuses stays with the own kernels. */
static mqb_status choose_kernels(struct mqb_program *program, const struct mqb_compute *compute, struct mqb_error *error)
{
    mqb_status status = MQB_OK;
    for (int32_t i = 0; status == MQB_OK && i < program->num_ops; i++)
        if (program->ops[i].conv && !program->ops[i].conv->pairs)
            status = mqb_lower_provider(program->ops[i].conv, compute, program->group, error);
    return status;
}

/* ---- create ---- */

static mqb_status check_rules(const struct mqb_backend_rules *rules, struct mqb_error *error)
{
    const struct mqb_contract *contract = &rules->contract;
    const char *profile = contract->profile ? contract->profile : "";
    bool islands = rules->scope == MQB_SCOPE_CONV_AND_LINEAR;
    if (!rules->deployable)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "this backend has no integer form: %s",
                        rules->reason ? rules->reason : "it gives no reason");
    if ((rules->scope != MQB_SCOPE_WHOLE_GRAPH && !islands) || contract->accumulator < MQB_ACCUMULATOR_I32_WRAP ||
        contract->accumulator > MQB_ACCUMULATOR_I16_PAIRS_ORT || contract->input_rounding < MQB_ROUND_RNE ||
        contract->input_rounding > MQB_ROUND_TRUNC)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "the requantization contract \"%s\" holds a number that is no known form",
                        profile);
    if (islands && contract->intermediate != MQB_INTERMEDIATE_F16 && contract->intermediate != MQB_INTERMEDIATE_F32)
        return mqb_fail(
            error, MQB_ERR_ARGUMENT,
            "contract \"%s\" keeps some operators in float, but says nothing about the reals between the layers; expected "
            "the intermediate f16 or f32",
            profile);
    return MQB_OK;
}

static void count_consumers(struct mqb_lowering *lowering)
{
    const struct mqb_graph *graph = lowering->graph;
    for (int32_t i = 0; i < graph->num_values; i++) {
        lowering->tensor_of[i] = MQB_NONE;
        lowering->reader[i] = MQB_NONE;
        lowering->mean_of[i] = MQB_NONE;
    }
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        const struct mqb_node *node = &graph->nodes[graph->order[i]];
        for (int32_t j = 0; j < node->num_inputs; j++) {
            if (node->inputs[j] == MQB_NONE)
                continue;
            lowering->consumers[node->inputs[j]]++;
            lowering->reader[node->inputs[j]] = graph->order[i];
        }
    }
}

mqb_status mqb_program_create(const struct mqb_deploy *deploy, const struct mqb_backend_rules *rules,
                              const struct mqb_compute *compute, struct mqb_program **program, struct mqb_error *error)
{
    return mqb_program_create_ideal(deploy, rules, 0, compute, program, error);
}

mqb_status mqb_program_create_ideal(const struct mqb_deploy *deploy, const struct mqb_backend_rules *rules, uint32_t ideal,
                                    const struct mqb_compute *compute, struct mqb_program **program, struct mqb_error *error)
{
    const struct mqb_graph *graph = deploy->graph;
    struct mqb_lowering lowering = {.deploy = deploy, .graph = graph};
    *program = NULL;
    mqb_status status = check_rules(rules, error);
    if (status != MQB_OK)
        return status;
    struct mqb_program *p = mqb_allocate(sizeof(*p));
    size_t num_values = (size_t)graph->num_values + 1, num_nodes = (size_t)graph->num_nodes + 1, scratch = 0;
    lowering.program = p;
    lowering.tensor_of = mqb_allocate_array(num_values, sizeof(*lowering.tensor_of));
    lowering.consumers = mqb_allocate_array(num_values, sizeof(*lowering.consumers));
    lowering.reader = mqb_allocate_array(num_values, sizeof(*lowering.reader));
    lowering.fused = mqb_allocate_array(num_nodes, sizeof(*lowering.fused));
    lowering.deferred = mqb_allocate_array(num_nodes, sizeof(*lowering.deferred));
    lowering.quantized = mqb_allocate_array((size_t)deploy->num_frozen + 1, sizeof(*lowering.quantized));
    lowering.mean_of = mqb_allocate_array(num_values, sizeof(*lowering.mean_of));
    if (!p || !lowering.tensor_of || !lowering.consumers || !lowering.reader || !lowering.fused || !lowering.deferred ||
        !lowering.quantized || !lowering.mean_of) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for an integer program");
        goto out;
    }
    p->spare = mqb_spare_create();
    if (!p->spare) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for an integer program");
        goto out;
    }
    p->contract = rules->contract;
    p->profile = mqb_strdup(rules->contract.profile ? rules->contract.profile : "");
    p->contract.profile = p->profile;
    mqb_lower_ideal_contract(p, &rules->activation, ideal);
    count_consumers(&lowering);
    status = rules->scope == MQB_SCOPE_CONV_AND_LINEAR ? mqb_lower_islands(&lowering, error) : lower_graph(&lowering, error);
    if (status == MQB_OK)
        status = list_coded(p, error);
    if (status != MQB_OK)
        goto out;
    tensor_lives(p);
    p->group = choose_group(p);
    status = choose_kernels(p, compute, error);
    if (status == MQB_OK)
        status = mqb_lower_open_reals(p, graph, compute, &scratch, error);
    if (status == MQB_OK)
        plan_memory(p, scratch);

out:
    mqb_deallocate(lowering.tensor_of);
    mqb_deallocate(lowering.consumers);
    mqb_deallocate(lowering.reader);
    mqb_deallocate(lowering.fused);
    mqb_deallocate(lowering.deferred);
    mqb_deallocate(lowering.quantized);
    mqb_deallocate(lowering.mean_of);
    if (status != MQB_OK)
        mqb_program_destroy(p);
    else
        *program = p;
    return status;
}

void mqb_program_destroy(struct mqb_program *program)
{
    if (!program)
        return;
    for (int32_t i = 0; i < program->num_ops; i++) {
        struct mqb_iop *op = &program->ops[i];
        mqb_lower_conv_destroy(op->conv);
        mqb_lower_real_destroy(op->real);
        mqb_deallocate(op->name);
        mqb_deallocate(op->table);
        mqb_deallocate(op->means);
        mqb_deallocate(op->mean_of);
        mqb_deallocate(op->runs);
        mqb_deallocate(op->permutation);
    }
    for (int32_t i = 0; i < program->num_tensors; i++) {
        mqb_deallocate((char *)(uintptr_t)program->tensors[i].info.name);
        mqb_deallocate((char *)(uintptr_t)program->tensors[i].info.layer);
    }
    mqb_spare_destroy(program->spare);
    mqb_deallocate(program->ops);
    mqb_deallocate(program->tensors);
    mqb_deallocate(program->coded);
    mqb_deallocate(program->profile);
    mqb_deallocate(program);
}

bool mqb_program_bias(const struct mqb_program *program, int index, struct mqb_program_bias *bias)
{
    for (int32_t i = 0; i < program->num_ops; i++) {
        const struct mqb_iconv *conv = program->ops[i].conv;
        if (!conv || !conv->bias_scale || index-- > 0)
            continue;
        *bias = (struct mqb_program_bias){conv->bias_value, conv->shape.k, conv->bias_scale, conv->bias};
        return true;
    }
    return false;
}

int mqb_program_num_tensors(const struct mqb_program *program)
{
    return program->num_coded;
}

int64_t mqb_program_num_classes(const struct mqb_program *program)
{
    return program->num_classes;
}

const struct mqb_program_tensor *mqb_program_tensor(const struct mqb_program *program, int index)
{
    return index >= 0 && index < program->num_coded ? &program->tensors[program->coded[index]].info : NULL;
}
