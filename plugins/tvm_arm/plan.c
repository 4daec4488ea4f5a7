/*
 * plan.c - checks that the program can be said in source code, and lays its tensors out in memory.
 */
#include "plan.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define ALIGNMENT 16 /* of a tensor in the scratch memory: vector loads do not cross lines */

int tvm_exponent(float scale, int32_t *exponent)
{
    int e;
    if (!isfinite(scale) || !(scale >= FLT_MIN) || frexpf(scale, &e) != 0.5f)
        return 0;
    *exponent = (int32_t)e - 1;
    return 1;
}

int64_t tvm_rescale(enum tvm_rounding rounding, int64_t a, int32_t shift)
{
    const int64_t most = (int64_t)1 << 30;
    if (shift <= 0) {
        int64_t v = a * ((int64_t)1 << (shift < -40 ? 40 : -shift));
        return v > most ? most : v < -most ? -most : v;
    }
    if (shift > 40)
        shift = 40;
    int64_t half = rounding == TVM_FLOOR ? 0 : (int64_t)1 << (shift - 1), d = (int64_t)1 << shift;
    if (rounding == TVM_TONEAREST)
        return a >= 0 ? (a + half) / d : -((-a + half) / d);
    a += half;
    return a >= 0 ? a / d : -((-a + d - 1) / d);
}

static int64_t clamp(int64_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : v;
}

static mqb_status refuse(const struct tvm_plan *plan, const struct tvm_layer *layer, struct mqb_error *error, const char *why)
{
    return plan->host->fail(error, MQB_ERR_UNSUPPORTED, "layer \"%s\" (%s) cannot be written as source code: %s", layer->name,
                            layer->op, why);
}

static const struct mqb_export_tensor *find_tensor(const struct tvm_plan *plan, int32_t role, const char *name)
{
    for (uint32_t i = 0; i < plan->request->num_tensors; i++) {
        const struct mqb_export_tensor *t = &plan->request->tensors[i];
        if (t->role == role && strcmp(t->name, name) == 0)
            return t;
    }
    return NULL;
}

static mqb_status plan_tensor(const struct tvm_plan *plan, int32_t index, struct mqb_error *error)
{
    const struct mqb_step_tensor *t = &plan->steps->tensors[index];
    struct tvm_tensor *out = &plan->tensors[index];
    out->tensor = t;
    out->root = index;
    out->size = (int64_t)t->h * t->w * t->c;
    if (!tvm_exponent(t->scale, &out->exponent))
        return plan->host->fail(error, MQB_ERR_UNSUPPORTED,
                                "tensor \"%s\" has scale %.9g, which is no power of two; its codes "
                                "cannot be shifted",
                                t->name, (double)t->scale);
    if (t->zero_point != 0 || t->qmin < -128 || t->qmax > 127)
        return plan->host->fail(error, MQB_ERR_UNSUPPORTED,
                                "tensor \"%s\" has codes %d to %d around zero point %d; expected "
                                "signed bytes around 0",
                                t->name, (int)t->qmin, (int)t->qmax, (int)t->zero_point);
    if (out->size < 1 || out->size > INT32_MAX / 4)
        return plan->host->fail(error, MQB_ERR_UNSUPPORTED, "tensor \"%s\" has %lld codes; 1 to %d can be indexed in 32 bits",
                                t->name, (long long)out->size, (int)(INT32_MAX / 4));
    return MQB_OK;
}

/* ---- layers ---- */

static mqb_status plan_conv(struct tvm_plan *plan, struct tvm_layer *layer, struct mqb_error *error)
{
    const struct mqb_graph_api *api = plan->host->graph;
    const struct mqb_graph *graph = plan->request->graph;
    const struct mqb_step *step = layer->step;
    mqb_value_id weight = api->input(graph, step->node, 1);
    mqb_value_id bias = api->num_inputs(graph, step->node) > 2 ? api->input(graph, step->node, 2) : MQB_NONE;
    const struct mqb_export_tensor *w =
        weight == MQB_NONE ? NULL : find_tensor(plan, MQB_ROLE_WEIGHT, api->value_name(graph, weight));
    const struct mqb_export_tensor *b =
        bias == MQB_NONE ? NULL : find_tensor(plan, MQB_ROLE_BIAS, api->value_name(graph, bias));
    int32_t exponent;
    if (!w || !w->codes)
        return plan->host->fail(error, MQB_ERR_UNSUPPORTED,
                                "no codes for \"%s\", the weight of layer \"%s\": the source would have "
                                "a hole",
                                weight == MQB_NONE ? "" : api->value_name(graph, weight), layer->name);
    if (bias != MQB_NONE && (!b || !b->codes || b->num_codes != step->shape.k))
        return plan->host->fail(error, MQB_ERR_UNSUPPORTED,
                                "no codes for \"%s\", the bias of layer \"%s\": the source would have "
                                "a hole",
                                api->value_name(graph, bias), layer->name);
    if (w->num_codes != (int64_t)step->shape.k * (step->shape.c / step->shape.groups) * step->shape.r * step->shape.s)
        return refuse(plan, layer, error, "its weight has another number of codes than its shape");
    if (w->qparams.num_channels != 1 || w->qparams.zero_point[0] != 0 || w->qparams.qmin < -128 || w->qparams.qmax > 127)
        return refuse(plan, layer, error, "its weight is not signed bytes around 0 with one scale");
    if (!tvm_exponent(w->qparams.scale[0], &exponent))
        return refuse(plan, layer, error, "the scale of its weight is no power of two");
    layer->weight = w->codes;
    layer->num_weights = w->num_codes;
    layer->bias = b ? b->codes : NULL;
    layer->num_bias = b ? b->num_codes : 0;
    exponent += plan->tensors[step->inputs[0]].exponent;
    if (step->output == MQB_NONE) {
        plan->output_exponent = exponent;
        plan->output_size = (int64_t)step->shape.k * step->shape.p * step->shape.q;
    } else {
        layer->shift[0] = plan->tensors[step->output].exponent - exponent;
    }
    layer->packed = w->qparams.qmin >= -8 && w->qparams.qmax <= 7;
    plan->weight_bytes += layer->packed ? (layer->num_weights + 1) / 2 : layer->num_weights;
    if (layer->packed) { /* a filter at a time, or all of a depthwise layer */
        int64_t room =
            tvm_kernels_of(plan, layer) == TVM_USES_DEPTHWISE ? layer->num_weights : layer->num_weights / step->shape.k;
        plan->room_bytes = room > plan->room_bytes ? room : plan->room_bytes;
    }
    plan->multiplications += layer->num_weights * step->shape.p * step->shape.q;
    plan->bias_bytes += layer->num_bias * 4;
    return MQB_OK;
}

int32_t tvm_input_shift(const struct tvm_plan *plan, const struct tvm_layer *layer, int32_t input)
{
    return plan->tensors[layer->step->output].exponent - plan->tensors[layer->step->inputs[input]].exponent;
}

int tvm_needs_rescale(const struct tvm_plan *plan, const struct tvm_layer *layer, int32_t input)
{
    const struct mqb_step_tensor *x = plan->tensors[layer->step->inputs[input]].tensor,
                                 *y = plan->tensors[layer->step->output].tensor;
    return tvm_input_shift(plan, layer, input) != 0 || y->qmin > x->qmin || y->qmax < x->qmax;
}

static int is_one_pixel(const struct mqb_conv_shape *s)
{
    return s->h == 1 && s->w == 1 && s->p == 1 && s->q == 1 && s->r == 1 && s->s == 1;
}

uint32_t tvm_kernels_of(const struct tvm_plan *plan, const struct tvm_layer *layer)
{
    const struct mqb_conv_shape *s = &layer->step->shape;
    uint32_t uses = 0;
    switch (layer->step->kind) {
    case MQB_STEP_CONV:
        if (s->groups > 1 && s->groups == s->c && s->groups == s->k)
            return TVM_USES_DEPTHWISE;
        return s->groups == 1 && is_one_pixel(s) ? TVM_USES_LINEAR : TVM_USES_CONV;
    case MQB_STEP_MAP:
        return layer->formula ? TVM_USES_RESCALE_ALL : TVM_USES_MAP;
    case MQB_STEP_ADD:
        return plan->adds_once ? TVM_USES_ADD_ONCE : TVM_USES_ADD;
    case MQB_STEP_MUL:
        return TVM_USES_MULTIPLY;
    case MQB_STEP_MAX_POOL:
        return TVM_USES_MAX_POOL | (tvm_needs_rescale(plan, layer, 0) ? TVM_USES_RESCALE_ALL : 0u);
    case MQB_STEP_AVERAGE_POOL:
        return TVM_USES_AVERAGE_POOL;
    case MQB_STEP_SHUFFLE:
        return TVM_USES_SHUFFLE | (tvm_needs_rescale(plan, layer, 0) ? TVM_USES_RESCALE_ALL : 0u);
    default:
        for (int32_t i = 0; i < layer->num_blocks && !layer->alias; i++) {
            int32_t input = layer->blocks[i].input;
            uses |= input < 0 ? TVM_USES_FILL : tvm_needs_rescale(plan, layer, input) ? TVM_USES_MOVE_RESCALED : TVM_USES_MOVE;
        }
        return uses;
    }
}

/* A stored code's place in a table of bytes, and back. */
static int32_t stored(const struct mqb_step_tensor *t, int32_t code)
{
    return code + (t->qmin < 0 ? 128 : 0);
}

/* Shift and clamp, or else the table itself. */
static void plan_map(struct tvm_plan *plan, struct tvm_layer *layer)
{
    const struct mqb_step *step = layer->step;
    const struct mqb_step_tensor *x = plan->tensors[step->inputs[0]].tensor, *y = plan->tensors[step->output].tensor;
    layer->formula = 1;
    for (int32_t q = x->qmin; q <= x->qmax; q++) {
        int64_t code = clamp(tvm_rescale(plan->rounding, q, layer->shift[0]), step->low, step->high);
        layer->formula &= step->table[stored(x, q)] == stored(y, (int32_t)code);
    }
    plan->table_bytes += layer->formula ? 0 : 256;
}

/* What the source computes of two codes. */
static int64_t join(const struct tvm_plan *plan, const struct tvm_layer *layer, int32_t a, int32_t b)
{
    if (layer->step->kind == MQB_STEP_MUL)
        return tvm_rescale(plan->rounding, (int64_t)a * b, layer->shift[0]);
    int64_t sum = tvm_rescale(plan->rounding, a, layer->shift[0]) + tvm_rescale(plan->rounding, b, layer->shift[1]);
    return plan->adds_once ? tvm_rescale(plan->rounding, sum, layer->sum_shift) : sum;
}

/* The shifts give what the program's table gives, for every pair of codes. */
static mqb_status plan_binary(const struct tvm_plan *plan, struct tvm_layer *layer, struct mqb_error *error)
{
    const struct mqb_step *step = layer->step;
    const struct tvm_tensor *a = &plan->tensors[step->inputs[0]], *b = &plan->tensors[step->inputs[1]],
                            *y = &plan->tensors[step->output];
    if (step->kind == MQB_STEP_MUL)
        layer->shift[0] = y->exponent - a->exponent - b->exponent;
    if (step->kind == MQB_STEP_ADD && plan->adds_once) {
        int32_t most = layer->shift[0] > layer->shift[1] ? layer->shift[0] : layer->shift[1];
        layer->sum_shift = most;
        layer->shift[0] -= most;
        layer->shift[1] -= most;
        if (layer->shift[0] < -20 || layer->shift[1] < -20 || most < -20)
            return refuse(plan, layer, error, "the scales of its operands and its output are too far apart");
    }
    for (int32_t i = a->tensor->qmin; i <= a->tensor->qmax; i++)
        for (int32_t j = b->tensor->qmin; j <= b->tensor->qmax; j++) {
            int64_t v = join(plan, layer, i, j);
            int32_t code = (int32_t)clamp(v, step->low, step->high);
            if (step->table[stored(a->tensor, i) * 256 + stored(b->tensor, j)] != stored(y->tensor, code))
                return refuse(plan, layer, error, "the integer program does not compute it by shifts");
        }
    return MQB_OK;
}

static mqb_status plan_layer(struct tvm_plan *plan, int32_t index, struct mqb_error *error)
{
    const struct mqb_step *step = &plan->steps->steps[index];
    struct tvm_layer *layer = &plan->layers[index];
    layer->step = step;
    layer->name = step->node == MQB_NONE ? "" : plan->host->graph->node_name(plan->request->graph, step->node);
    layer->op = step->node == MQB_NONE ? "" : plan->host->graph->node_op(plan->request->graph, step->node);
    if (step->kind == MQB_STEP_OTHER || step->node == MQB_NONE)
        return refuse(plan, layer, error, "this operator has no form in C here");
    if (step->kind != MQB_STEP_CONV && step->output == MQB_NONE)
        return refuse(plan, layer, error, "it has no output");
    for (int32_t i = 0; i < step->num_inputs && i < 2 && step->output != MQB_NONE; i++)
        layer->shift[i] = tvm_input_shift(plan, layer, i);
    switch (step->kind) {
    case MQB_STEP_CONV:
        return plan_conv(plan, layer, error);
    case MQB_STEP_MAP:
        plan_map(plan, layer);
        return MQB_OK;
    case MQB_STEP_ADD:
    case MQB_STEP_MUL:
        return plan_binary(plan, layer, error);
    case MQB_STEP_MOVE:
        return tvm_plan_move(plan, layer, error);
    case MQB_STEP_SHUFFLE:
        plan->table_bytes += 2 * (int64_t)plan->tensors[step->output].tensor->c;
        return plan->tensors[step->output].tensor->c <= UINT16_MAX ? MQB_OK
                                                                   : refuse(plan, layer, error, "it has too many channels");
    default:
        return MQB_OK;
    }
}

/* A product with more than 2^29 would leave the 32 bits of the source's function. */
static mqb_status check_shifts(const struct tvm_plan *plan, const struct tvm_layer *layer, struct mqb_error *error)
{
    int32_t least = layer->shift[0] < layer->shift[1] ? layer->shift[0] : layer->shift[1];
    for (int32_t i = 0; layer->step->kind == MQB_STEP_MOVE && i < layer->step->num_inputs; i++)
        if (tvm_input_shift(plan, layer, i) < least)
            least = tvm_input_shift(plan, layer, i);
    return least >= -29 ? MQB_OK : refuse(plan, layer, error, "the scales of its operands and its output are too far apart");
}

/* ---- memory ---- */

static void plan_lives(struct tvm_plan *plan)
{
    int32_t num_steps = (int32_t)plan->steps->num_steps;
    for (int32_t i = 0; i < num_steps; i++) {
        const struct tvm_layer *layer = &plan->layers[i];
        int32_t out = layer->step->output;
        if (out == MQB_NONE)
            continue;
        plan->tensors[out].first = plan->tensors[out].last = i;
        if (layer->alias)
            plan->tensors[out].root = plan->tensors[layer->step->inputs[0]].root;
    }
    for (int32_t i = 0; i < num_steps; i++)
        for (int32_t j = 0; j < plan->layers[i].step->num_inputs; j++)
            plan->tensors[plan->tensors[plan->layers[i].step->inputs[j]].root].last = i;
    if (plan->steps->output != MQB_NONE)
        plan->tensors[plan->tensors[plan->steps->output].root].last = num_steps;
}

static int in_scratch(const struct tvm_plan *plan, int32_t index)
{
    return plan->tensors[index].root == index && index != plan->steps->input;
}

/* At the lowest place that is free during the tensor's life. */
static void place(struct tvm_plan *plan, int32_t index, const uint8_t *placed)
{
    struct tvm_tensor *t = &plan->tensors[index];
    int moved = 1;
    t->place = 0;
    while (moved) {
        moved = 0;
        for (int32_t i = 0; i < (int32_t)plan->steps->num_tensors; i++) {
            const struct tvm_tensor *other = &plan->tensors[i];
            if (!placed[i] || other->first > t->last || t->first > other->last)
                continue;
            if (t->place < other->place + other->size && other->place < t->place + t->size) {
                t->place = (other->place + other->size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
                moved = 1;
            }
        }
    }
    if (t->place + t->size > plan->scratch_bytes)
        plan->scratch_bytes = t->place + t->size;
}

/* Largest first: small ones fit into the gaps. */
static mqb_status plan_memory(struct tvm_plan *plan, struct mqb_error *error)
{
    int32_t num = (int32_t)plan->steps->num_tensors;
    uint8_t *placed = plan->host->allocate((size_t)num + 1);
    if (!placed)
        return plan->host->fail(error, MQB_ERR_MEMORY, "no memory to lay out %d tensors", (int)num);
    for (;;) {
        int32_t next = MQB_NONE;
        for (int32_t i = 0; i < num; i++)
            if (!placed[i] && in_scratch(plan, i) && (next == MQB_NONE || plan->tensors[i].size > plan->tensors[next].size))
                next = i;
        if (next == MQB_NONE)
            break;
        place(plan, next, placed);
        placed[next] = 1;
    }
    plan->host->deallocate(placed);
    return MQB_OK;
}

mqb_status tvm_plan_create(const struct mqb_host *host, const struct mqb_export *request, enum tvm_rounding rounding,
                           int adds_once, struct tvm_plan *plan, struct mqb_error *error)
{
    *plan = (struct tvm_plan){.host = host, .request = request, .rounding = rounding, .adds_once = adds_once};
    if (!MQB_HAS_FIELD(request, struct mqb_export, steps) || !request->steps)
        return host->fail(error, MQB_ERR_UNSUPPORTED,
                          "this host does not describe the integer program, from which the source code "
                          "is made; use a newer one");
    const struct mqb_steps *steps = plan->steps = request->steps;
    plan->layers = host->allocate(((size_t)steps->num_steps + 1) * sizeof(plan->layers[0]));
    plan->tensors = host->allocate(((size_t)steps->num_tensors + 1) * sizeof(plan->tensors[0]));
    mqb_status status = MQB_OK;
    if (!plan->layers || !plan->tensors)
        status = host->fail(error, MQB_ERR_MEMORY, "no memory for a plan of %u steps", (unsigned)steps->num_steps);
    for (int32_t i = 0; i < (int32_t)steps->num_tensors && status == MQB_OK; i++)
        status = plan_tensor(plan, i, error);
    for (int32_t i = 0; i < (int32_t)steps->num_steps && status == MQB_OK; i++)
        if ((status = plan_layer(plan, i, error)) == MQB_OK)
            status = check_shifts(plan, &plan->layers[i], error);
    if (status == MQB_OK && steps->output != MQB_NONE) {
        plan->output_exponent = plan->tensors[steps->output].exponent;
        plan->output_size = plan->tensors[steps->output].size;
    }
    if (status == MQB_OK) {
        plan->tensors[steps->input].first = -1;
        plan_lives(plan);
        status = plan_memory(plan, error);
        plan->room_place = (plan->scratch_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        if (plan->room_bytes > 0)
            plan->scratch_bytes = plan->room_place + plan->room_bytes;
    }
    if (status != MQB_OK)
        tvm_plan_destroy(plan);
    return status;
}

void tvm_plan_destroy(struct tvm_plan *plan)
{
    for (uint32_t i = 0; plan->layers && i < plan->steps->num_steps; i++)
        plan->host->deallocate(plan->layers[i].blocks);
    plan->host->deallocate(plan->layers);
    plan->host->deallocate(plan->tensors);
    plan->layers = NULL;
    plan->tensors = NULL;
}
