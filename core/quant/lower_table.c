/*
 * lower_table.c - operators that are a function of one code or of two: activations, rescaling, addition, multiplication.
 * Each becomes a table computed by the contract's scalar definition, so that running it is a look-up and cannot round
 * otherwise.
 */
#include "quant/program.h"

#include <math.h>
#include <string.h>

static int32_t clamp(int64_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : (int32_t)v;
}

/* Libraries that add in float also carry single operands over through float. */
static bool carries_in_float(const struct mqb_contract *contract)
{
    return contract->add_rule == MQB_ADD_F32 || contract->add_rule == MQB_ADD_FMA;
}

mqb_status mqb_lower_rescale_table(const struct mqb_program *program, const struct mqb_node *node,
                                   const struct mqb_itensor *from, const struct mqb_itensor *to, int32_t low, int32_t high,
                                   uint8_t table[256], bool *identity, struct mqb_error *error)
{
    const struct mqb_contract *contract = mqb_program_rule(program, MQB_FACTOR_REQUANTIZE);
    const struct mqb_program_tensor *x = &from->info, *y = &to->info;
    bool same = x->scale == y->scale && x->zero_point == y->zero_point && x->qmin == y->qmin && x->qmax == y->qmax;
    struct mqb_requantizer r;
    mqb_status status = MQB_OK;
    if (!same && !carries_in_float(contract))
        status = mqb_requantizer_init(&r, contract, x->scale, 1.0f, y->scale, y->zero_point, low, high, error);
    if (status != MQB_OK)
        return mqb_fail_prefix(error, status, "layer '%s'", node->name);
    *identity = same && low <= y->qmin && high >= y->qmax;
    for (int32_t stored = 0; stored < 256; stored++) {
        int32_t q = stored - from->offset, code;
        if (same)
            code = clamp(q, low, high);
        else if (carries_in_float(contract))
            code = mqb_quantize_value(contract, x->scale * (float)(q - x->zero_point), y->scale, y->zero_point, low, high);
        else
            code = mqb_requantize(&r, q - x->zero_point);
        table[stored] = (uint8_t)(code + to->offset);
    }
    return MQB_OK;
}

/* ---- functions of one code ---- */

static double activation_value(const struct mqb_node *node, float x)
{
    const char *name = node->op->name;
    if (strcmp(name, "HardSwish") == 0) {
        float v = x + 3.0f;
        v = v <= 0.0f ? 0.0f : v >= 6.0f ? 6.0f : v;
        return x * v / 6.0f;
    }
    if (strcmp(name, "HardSigmoid") == 0) {
        float v = (float)mqb_attr_f(node, "alpha", 0.2) * x + (float)mqb_attr_f(node, "beta", 0.5);
        return v <= 0.0f ? 0.0f : v >= 1.0f ? 1.0f : v;
    }
    if (strcmp(name, "LeakyRelu") == 0)
        return x >= 0.0f ? x : (float)mqb_attr_f(node, "alpha", 0.01) * x;
    double bounded = x < -80.0f ? -80.0 : x > 80.0f ? 80.0 : x;
    return 1.0 / (1.0 + mqb_exp(-bounded)); /* Sigmoid */
}

mqb_status mqb_lower_table(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error)
{
    struct mqb_program *program = lowering->program;
    bool clamps = strcmp(node->op->name, "Relu") == 0 || strcmp(node->op->name, "Clip") == 0;
    int32_t in, out, low, high;
    struct mqb_iop *op;
    mqb_status status = mqb_lower_input(lowering, node, 0, &in, error);
    if (status != MQB_OK)
        return status;
    struct mqb_target target = mqb_lower_target(lowering, node);
    if (!target.frozen && !clamps)
        return mqb_lower_refuse(node, error, "its output '%s' has no quantization point, so its scale is not known",
                                lowering->graph->values[target.value].name);
    status = mqb_lower_tensor(lowering, node, target.value, target.frozen, in, &out, error);
    if (status == MQB_OK)
        status = mqb_lower_op(lowering, node, MQB_IOP_TABLE, &op, error);
    if (status != MQB_OK)
        return status;
    op->num_in = 1;
    op->in[0] = in;
    op->out = out;
    op->table = mqb_allocate(256);
    if (!op->table)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for layer '%s'", node->name);
    const struct mqb_itensor *x = &program->tensors[in], *y = &program->tensors[out];
    mqb_lower_bounds(program, y, &target, &low, &high);
    if (clamps) {
        bool identity;
        return mqb_lower_rescale_table(program, node, x, y, low, high, op->table, &identity, error);
    }
    for (int32_t stored = 0; stored < 256; stored++) {
        float real = x->info.scale * (float)(stored - x->offset - x->info.zero_point);
        int32_t code = mqb_quantize_value(mqb_program_rule(program, MQB_FACTOR_REQUANTIZE), (float)activation_value(node, real),
                                          y->info.scale, y->info.zero_point, low, high);
        op->table[stored] = (uint8_t)(code + y->offset);
    }
    return MQB_OK;
}

/* ---- functions of two codes ---- */

/* Everything that a binary operator's scalar definition needs. */
struct binary {
    const struct mqb_contract *contract;
    const struct mqb_program_tensor *a, *b, *y;
    int32_t low, high;
    struct mqb_requantizer ra, rb, product;
};

/* Each operand to the output's scale, one rounding each. */
static int32_t add_rescale_each(const struct binary *s, int32_t a, int32_t b)
{
    int64_t sum = (int64_t)mqb_requantize(&s->ra, a - s->a->zero_point) + mqb_requantize(&s->rb, b - s->b->zero_point);
    return clamp(sum - s->y->zero_point, s->low, s->high);
}

static int32_t add_rescale_sum(const struct binary *s, int32_t a, int32_t b)
{
    double v = (a - s->a->zero_point) * s->ra.m + (b - s->b->zero_point) * s->rb.m;
    if (s->contract->zp_before)
        v += s->y->zero_point;
    double rounded = mqb_requant_round(v, s->contract->rounding) + (s->contract->zp_before ? 0 : s->y->zero_point);
    return !(rounded > s->low) ? s->low : rounded > s->high ? s->high : (int32_t)rounded;
}

static int32_t add_f32(const struct binary *s, int32_t a, int32_t b)
{
    float sum = s->a->scale * (float)(a - s->a->zero_point) + s->b->scale * (float)(b - s->b->zero_point);
    return mqb_quantize_value(s->contract, sum, s->y->scale, s->y->zero_point, s->low, s->high);
}

/* ONNX Runtime: the zero points are folded into a constant, and the output's lies inside the rounding. */
static int32_t add_fma(const struct binary *s, int32_t a, int32_t b)
{
    float ra = s->a->scale / s->y->scale, rb = s->b->scale / s->y->scale;
    float rest = rb * (float)s->b->zero_point;
    float k = (float)s->y->zero_point - fmaf(ra, (float)s->a->zero_point, rest);
    float v = fmaf((float)a, ra, fmaf((float)b, rb, k));
    double rounded = mqb_requant_round(v, MQB_ROUND_RNE);
    return !(rounded > s->low) ? s->low : rounded > s->high ? s->high : (int32_t)rounded;
}

static int32_t multiply(const struct binary *s, int32_t a, int32_t b)
{
    return mqb_requantize(&s->product, (a - s->a->zero_point) * (b - s->b->zero_point));
}

static mqb_status binary_init(struct binary *s, bool product, struct mqb_error *error)
{
    const int32_t wide = 1 << 30;
    if (product) {
        mqb_status made = mqb_requantizer_init(&s->product, s->contract, s->a->scale, s->b->scale, s->y->scale,
                                               s->y->zero_point, s->low, s->high, error);
        if (s->contract->add_rule == MQB_ADD_FMA)
            s->product.zp_before = 1;
        return made;
    }
    if (s->contract->add_rule != MQB_ADD_RESCALE_EACH && s->contract->add_rule != MQB_ADD_RESCALE_SUM)
        return MQB_OK;
    mqb_status status =
        mqb_requantizer_init(&s->ra, s->contract, s->a->scale, 1.0f, s->y->scale, s->y->zero_point, -wide, wide, error);
    return status ? status
                  : mqb_requantizer_init(&s->rb, s->contract, s->b->scale, 1.0f, s->y->scale, s->y->zero_point, -wide, wide,
                                         error);
}

/* The addition as a formula. ta, tb, ty: the tensors of s. */
static struct mqb_pair add_formula(const struct binary *s, const struct mqb_itensor *ta, const struct mqb_itensor *tb,
                                   const struct mqb_itensor *ty)
{
    const struct mqb_contract *contract = s->contract;
    const int32_t rule = contract->add_rule, zero = s->y->zero_point;
    struct mqb_pair pair = {.zero_a = ta->zero_stored, .zero_b = tb->zero_stored, .rounding = contract->rounding};
    bool before = contract->zp_before != 0;
    if (rule == MQB_ADD_F32) {
        before = mqb_requant_zero_before(contract);
        pair.form = contract->input_divide ? MQB_PAIR_F32_DIVIDE : MQB_PAIR_F32_MULTIPLY;
        pair.rounding = contract->input_rounding;
        pair.fa = s->a->scale;
        pair.fb = s->b->scale;
        pair.last = contract->input_divide ? s->y->scale : 1.0f / s->y->scale;
    } else if (rule == MQB_ADD_RESCALE_SUM) {
        pair.form = MQB_PAIR_F64;
        pair.da = s->ra.m;
        pair.db = s->rb.m;
    } else if (rule == MQB_ADD_FMA) {
        float rest;
        before = true;
        pair.form = MQB_PAIR_FMA;
        pair.rounding = MQB_ROUND_RNE;
        pair.zero_a = ta->offset; /* the zero points themselves are in the constant */
        pair.zero_b = tb->offset;
        pair.fa = s->a->scale / s->y->scale;
        pair.fb = s->b->scale / s->y->scale;
        rest = pair.fb * (float)s->b->zero_point;
        pair.last = (float)zero - fmaf(pair.fa, (float)s->a->zero_point, rest);
    }
    pair.before = before ? zero : 0;
    pair.low = s->low - (before ? 0 : zero);
    pair.high = s->high - (before ? 0 : zero);
    pair.after = ty->offset + (before ? 0 : zero);
    return pair;
}

/* An addition whose one operand is a convolution that waits for it. */
static mqb_status lower_fused_add(struct mqb_lowering *lowering, const struct mqb_node *node, bool *fused, struct mqb_error *error)
{
    const struct mqb_graph *graph = lowering->graph;
    int32_t side;
    *fused = false;
    for (int32_t i = 0; i < 2; i++) {
        mqb_node_id producer = node->inputs[i] == MQB_NONE ? MQB_NONE : graph->values[node->inputs[i]].producer;
        if (producer == MQB_NONE || !lowering->deferred[producer])
            continue;
        mqb_status status = mqb_lower_input(lowering, node, 1 - i, &side, error);
        *fused = true;
        return status == MQB_OK ? mqb_lower_conv_add(lowering, &graph->nodes[producer], node, side, error) : status;
    }
    return MQB_OK;
}

/* ta, tb, ty: the tensors of s. */
static void choose_wide(struct mqb_pair *pair, const struct binary *s, const struct mqb_itensor *ta,
                        const struct mqb_itensor *tb, const struct mqb_itensor *ty, const uint8_t *table)
{
    const struct mqb_wide_addition addition = {
        .factor_a = (float)((double)s->a->scale / s->y->scale),
        .factor_b = (float)((double)s->b->scale / s->y->scale),
        .zero_a = ta->zero_stored,
        .zero_b = tb->zero_stored,
        .after = ty->zero_stored,
        .low = s->low + ty->offset,
        .high = s->high + ty->offset,
        .each = s->contract->add_rule == MQB_ADD_RESCALE_EACH,
    };
    mqb_wide_choose_pair(pair, &addition, table);
}

mqb_status mqb_lower_binary(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error)
{
    struct mqb_program *program = lowering->program;
    bool product = strcmp(node->op->name, "Mul") == 0;
    int32_t a, b = MQB_NONE, out;
    struct mqb_iop *op;
    bool fused;
    mqb_status status = lower_fused_add(lowering, node, &fused, error);
    if (status != MQB_OK || fused)
        return status;
    status = mqb_lower_input(lowering, node, 0, &a, error);
    if (status == MQB_OK)
        status = mqb_lower_input(lowering, node, 1, &b, error);
    if (status != MQB_OK)
        return status;
    struct mqb_target target = mqb_lower_target(lowering, node);
    if (!target.frozen)
        return mqb_lower_refuse(node, error, "its output '%s' has no quantization point, so its scale is not known",
                                lowering->graph->values[target.value].name);
    status = mqb_lower_tensor(lowering, node, target.value, target.frozen, MQB_NONE, &out, error);
    if (status == MQB_OK)
        status = mqb_lower_op(lowering, node, MQB_IOP_BINARY, &op, error);
    if (status != MQB_OK)
        return status;
    const struct mqb_itensor *ta = &program->tensors[a], *tb = &program->tensors[b], *ty = &program->tensors[out];
    op->num_in = 2;
    op->in[0] = a;
    op->in[1] = b;
    op->out = out;
    op->wide_b = tb->info.size != ta->info.size;
    op->table = mqb_allocate(65536);
    if (!op->table)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for layer '%s'", node->name);
    struct binary s = {.contract = mqb_program_rule(program, MQB_FACTOR_ADD), .a = &ta->info, .b = &tb->info, .y = &ty->info};
    mqb_lower_bounds(program, ty, &target, &s.low, &s.high);
    status = binary_init(&s, product, error);
    if (status != MQB_OK)
        return mqb_fail_prefix(error, status, "layer '%s'", node->name);
    static int32_t (*const add_rules[])(const struct binary *, int32_t, int32_t) = {
        [MQB_ADD_RESCALE_EACH] = add_rescale_each,
        [MQB_ADD_RESCALE_SUM] = add_rescale_sum,
        [MQB_ADD_F32] = add_f32,
        [MQB_ADD_FMA] = add_fma,
    };
    int32_t rule = s.contract->add_rule;
    if (!product && (rule < MQB_ADD_RESCALE_EACH || rule > MQB_ADD_FMA))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "contract \"%s\" has add rule %d, expected 0 to %d", program->contract.profile,
                        (int)rule, (int)MQB_ADD_FMA);
    for (int32_t i = 0; i < 256; i++)
        for (int32_t j = 0; j < 256; j++) {
            int32_t qa = i - ta->offset, qb = j - tb->offset;
            int32_t code = product ? multiply(&s, qa, qb) : add_rules[rule](&s, qa, qb);
            op->table[i * 256 + j] = (uint8_t)(code + ty->offset);
        }
    if (!product && !op->wide_b) {
        const struct mqb_pair formula = add_formula(&s, ta, tb, ty);
        mqb_pair_choose(&op->pair, &formula, op->table);
        choose_wide(&op->pair, &s, ta, tb, ty, op->table);
    }
    return MQB_OK;
}
