/*
 * lower_conv.c - convolutions and linear layers: integer weights and bias, the proof that no accumulator overflows, and the
 * constants that turn a provider's raw sums into A = sum (x_q - z_x)(w_q - z_w) + bias.
 *
 * With stored bytes x = x_q + o_x, zero z = z_x + o_x, and weights w8 = w_q - o_w (o_w = 128 for unsigned codes):
 *   A = sum x w8 + (o_w - z_w) sum x - z sum (w_q - z_w) + bias
 * where padding reads z in both sums over the window. K x (C / groups) x R x S weights, as in compute.h.
 */
#include "quant/program.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

struct layer {
    const struct mqb_node *node;
    const struct mqb_itensor *x;
    const struct mqb_frozen *weight;
    const float *bias; /* NULL: none */
    int32_t k;
    int64_t window; /* weights of one output channel */
};

static float layer_scale(const struct layer *layer, int32_t k)
{
    return layer->weight->scale[layer->weight->num_channels > 1 ? k : 0];
}

static int32_t layer_zero(const struct layer *layer, int32_t k)
{
    return layer->weight->zero_point[layer->weight->num_channels > 1 ? k : 0];
}

static mqb_status read_shape(const struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_conv_shape *shape,
                             struct mqb_error *error)
{
    const struct mqb_value *x = mqb_node_input(lowering->graph, node, 0), *weight = mqb_node_input(lowering->graph, node, 1);
    struct mqb_extent in = mqb_value_extent(x), out = mqb_value_extent(&lowering->graph->values[node->output]);
    struct mqb_window window = {1, 1, 1, 1, 0, 0, 0, 0, 1, 1};
    if (weight->rank == 4) {
        mqb_status status = mqb_window_read(node, weight->dims[2], weight->dims[3], &window, error);
        if (status != MQB_OK)
            return status;
    }
    *shape = (struct mqb_conv_shape){
        .struct_size = sizeof(*shape),
        .c = (int32_t)in.c,
        .h = (int32_t)in.h,
        .w = (int32_t)in.w,
        .k = (int32_t)out.c,
        .p = (int32_t)out.h,
        .q = (int32_t)out.w,
        .r = (int32_t)window.r,
        .s = (int32_t)window.s,
        .stride_h = (int32_t)window.stride_h,
        .stride_w = (int32_t)window.stride_w,
        .pad_top = (int32_t)window.pad_top,
        .pad_left = (int32_t)window.pad_left,
        .pad_bottom = (int32_t)window.pad_bottom,
        .pad_right = (int32_t)window.pad_right,
        .dilation_h = (int32_t)window.dilation_h,
        .dilation_w = (int32_t)window.dilation_w,
        .groups = weight->rank == 4 ? (int32_t)mqb_attr_i(node, "group", 1) : 1,
    };
    return MQB_OK;
}

static mqb_status check_weight(const struct layer *layer, struct mqb_error *error)
{
    const struct mqb_frozen *w = layer->weight;
    if (w->num_codes != layer->k * layer->window || (w->num_channels != 1 && w->num_channels != layer->k))
        return mqb_lower_refuse(layer->node, error,
                                "its weight '%s' has %" PRId64 " codes and %d scales for %d channels of %" PRId64 " weights",
                                w->name, w->num_codes, (int)w->num_channels, (int)layer->k, layer->window);
    if (w->qmin < -128 || w->qmax > (w->qmin < 0 ? 127 : 255) || w->qmin > w->qmax)
        return mqb_lower_refuse(layer->node, error, "the codes of its weight '%s' go from %d to %d and do not fit into a byte",
                                w->name, (int)w->qmin, (int)w->qmax);
    for (int32_t c = 0; c < w->num_channels; c++) {
        if (!isfinite(w->scale[c]) || !(w->scale[c] > 0.0f))
            return mqb_fail(error, MQB_ERR_NUMERIC,
                            "layer '%s': weight '%s' has scale %g in channel %d; expected a finite number above 0",
                            layer->node->name, w->name, (double)w->scale[c], (int)c);
        if (w->zero_point[c] < -1024 || w->zero_point[c] > 1024)
            return mqb_lower_refuse(layer->node, error,
                                    "the zero point %d of its weight '%s', channel %d, is far outside the codes",
                                    (int)w->zero_point[c], w->name, (int)c);
    }
    for (int64_t i = 0; i < w->num_codes; i++)
        if (w->codes[i] < w->qmin || w->codes[i] > w->qmax)
            return mqb_lower_refuse(layer->node, error,
                                    "code %d of its weight '%s' (element %" PRId64 ") lies outside %d to %d", (int)w->codes[i],
                                    w->name, i, (int)w->qmin, (int)w->qmax);
    return MQB_OK;
}

/* round(b / (s_x s_w)) in the precision in which the contract folds. */
double mqb_lower_bias(const struct mqb_contract *contract, float s_x, float s_w, float b)
{
    double v = contract->fold == MQB_FOLD_F64 ? (double)b / ((double)s_x * s_w) : (double)(b / (s_x * s_w));
    return mqb_requant_round(v, contract->bias_rounding);
}

static mqb_status quantize_bias(const struct layer *layer, const struct mqb_contract *contract, int32_t *bias,
                                struct mqb_error *error)
{
    for (int32_t k = 0; k < layer->k; k++) {
        float s_x = layer->x->info.scale, s_w = layer_scale(layer, k), b = layer->bias[k];
        double rounded = mqb_lower_bias(contract, s_x, s_w, b);
        if (!(fabs(rounded) < 2147483648.0))
            return mqb_lower_refuse(layer->node, error,
                                    "bias %g of channel %d is %g steps of s_x * s_w = %g * %g and does not fit into "
                                    "32 bits",
                                    (double)b, (int)k, rounded, (double)s_x, (double)s_w);
        bias[k] = (int32_t)rounded;
    }
    return MQB_OK;
}

static mqb_status check_accumulator(const struct layer *layer, const int32_t *bias, struct mqb_error *error)
{
    const struct mqb_program_tensor *x = &layer->x->info;
    int64_t above = x->qmax - x->zero_point, below = x->zero_point - x->qmin, x_most = above > below ? above : below;
    for (int32_t k = 0; k < layer->k; k++) {
        int64_t w_most = 0, z = layer_zero(layer, k);
        for (int64_t i = 0; i < layer->window; i++) {
            int64_t w = layer->weight->codes[k * layer->window + i] - z;
            w = w < 0 ? -w : w;
            w_most = w > w_most ? w : w_most;
        }
        int64_t b = bias[k] < 0 ? -(int64_t)bias[k] : bias[k];
        if (layer->window > (INT32_MAX - b) / (x_most * (w_most > 0 ? w_most : 1)))
            return mqb_lower_refuse(layer->node, error,
                                    "its 32 bit accumulator can overflow in channel %d: %" PRId64 " products of at most "
                                    "%" PRId64 " * %" PRId64 " and a bias of %" PRId64
                                    " reach beyond 2147483647; use fewer bits for its "
                                    "weights or its input",
                                    (int)k, layer->window, x_most, w_most, b);
    }
    return MQB_OK;
}

/* w_q - z_w in the order of the own kernels. */
static void fill_weight(const struct layer *layer, struct mqb_iconv *conv)
{
    int32_t group_c = conv->shape.c / conv->shape.groups, taps = conv->shape.r * conv->shape.s;
    for (int32_t k = 0; k < layer->k; k++)
        for (int32_t c = 0; c < group_c; c++)
            for (int32_t t = 0; t < taps; t++) {
                int64_t from = ((int64_t)k * group_c + c) * taps + t;
                int64_t to = conv->depthwise ? (int64_t)t * layer->k + k : ((int64_t)k * taps + t) * group_c + c;
                conv->weight[to] = (int16_t)(layer->weight->codes[from] - layer_zero(layer, k));
            }
}

/* The results as reals: f(f(A) * f(s_x s_w)) + b. */
static mqb_status fill_reals(const struct layer *layer, const float *float_bias, struct mqb_iconv *conv,
                             struct mqb_error *error)
{
    conv->logit_scale = mqb_allocate_array((size_t)layer->k, sizeof(float));
    conv->logit_bias = mqb_allocate_array((size_t)layer->k, sizeof(float));
    if (!conv->logit_scale || !conv->logit_bias)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for layer '%s'", layer->node->name);
    for (int32_t k = 0; k < layer->k; k++) {
        conv->logit_scale[k] = layer->x->info.scale * layer_scale(layer, k);
        conv->logit_bias[k] = float_bias ? float_bias[k] : 0.0f;
        if (!isfinite(conv->logit_bias[k]) || !(conv->logit_scale[k] > 0.0f) || !isfinite(conv->logit_scale[k]))
            return mqb_fail(
                error, MQB_ERR_NUMERIC,
                "layer '%s': channel %d has s_x * s_w = %g and the bias %g; expected finite numbers, the first above 0",
                layer->node->name, (int)k, (double)conv->logit_scale[k], (double)conv->logit_bias[k]);
    }
    return MQB_OK;
}

/* Where a layer's result goes. */
struct layer_end {
    int32_t out;                     /* tensor of codes, or reals; MQB_NONE: logits */
    const struct mqb_target *target; /* of codes */
    int32_t side;                    /* an addition in the epilogue: its other operand; else MQB_NONE */
};

/* The bias as it is: no accumulator can hold it. */
static void keep_bias(const struct layer *layer, struct mqb_rescale *rescale)
{
    rescale->form = MQB_RESCALE_SCALAR;
    rescale->wide = MQB_WIDE_NONE;
    for (int32_t k = 0; k < layer->k; k++)
        rescale->scalar[k].extra = (double)layer->bias[k] / ((double)layer->x->info.scale * layer_scale(layer, k));
}

static mqb_status fill_epilogue(const struct layer *layer, const struct mqb_program *program, const struct layer_end *end,
                                struct mqb_iconv *conv, struct mqb_error *error)
{
    const struct mqb_contract *contract = mqb_program_rule(program, MQB_FACTOR_REQUANTIZE);
    bool integers = contract->bias_form == MQB_BIAS_I32;
    const float *float_bias = !integers || (program->ideal & MQB_FACTOR_BIAS) ? layer->bias : NULL;
    const struct mqb_itensor *out = end->out == MQB_NONE ? NULL : &program->tensors[end->out];
    int32_t low, high;
    conv->wide = mqb_isa_wide();
    conv->half = program->half || (end->side != MQB_NONE && program->contract.intermediate == MQB_INTERMEDIATE_F16);
    if (!out || out->real)
        return fill_reals(layer, float_bias, conv, error);
    mqb_lower_bounds(program, out, end->target, &low, &high);
    if (end->side == MQB_NONE) {
        mqb_status status = mqb_rescale_create(&conv->rescale, contract, layer->x->info.scale, layer->weight->scale,
                                               layer->weight->num_channels, out, integers ? NULL : float_bias, layer->k, low,
                                               high, error);
        if (status == MQB_OK && integers && float_bias)
            keep_bias(layer, &conv->rescale);
        return status == MQB_OK ? MQB_OK : mqb_fail_prefix(error, status, "layer '%s'", layer->node->name);
    }
    conv->adds = true;
    conv->side_scale = program->tensors[end->side].info.scale;
    conv->side_zero = program->tensors[end->side].zero_stored;
    conv->quantize = (struct mqb_quantize_rows){contract, out->info.scale, out->info.zero_point, low, high, out->offset};
    return fill_reals(layer, float_bias, conv, error);
}

/* A layer whose result has no point may only be the last. */
static mqb_status check_last(const struct mqb_lowering *lowering, const struct mqb_node *node, const struct mqb_target *target,
                             struct mqb_error *error)
{
    mqb_value_id value = node->output;
    if (target->value == node->output)
        while (value != lowering->graph->output && lowering->consumers[value] == 1) {
            const struct mqb_node *next = &lowering->graph->nodes[lowering->reader[value]];
            if (strcmp(next->op->name, "Flatten") != 0)
                break;
            value = next->output;
        }
    if (value == lowering->graph->output)
        return MQB_OK;
    return mqb_lower_refuse(node, error,
                            "its output '%s' has no quantization point, so its scale is not known; place a point there or "
                            "choose a backend whose passes do",
                            lowering->graph->values[target->value].name);
}

/* What the layer is, and its weights checked; everything that may be refused before a tensor is made for its result. */
static mqb_status read_layer(const struct mqb_lowering *lowering, const struct mqb_node *node, struct layer *layer,
                             struct mqb_conv_shape *shape, struct mqb_error *error)
{
    mqb_status status = read_shape(lowering, node, shape, error);
    if (status != MQB_OK)
        return status;
    *layer = (struct layer){.node = node, .weight = mqb_deploy_find(lowering->deploy, node->inputs[1]), .k = shape->k};
    layer->window = (int64_t)shape->c / shape->groups * shape->r * shape->s;
    if (!layer->weight || !layer->weight->codes)
        return mqb_lower_refuse(node, error, "its weight '%s' has no quantization point",
                                lowering->graph->values[node->inputs[1]].name);
    const struct mqb_value *bias = mqb_node_input(lowering->graph, node, 2);
    layer->bias = bias ? bias->data : NULL;
    if (bias && !bias->data)
        return mqb_lower_refuse(node, error, "its bias '%s' is not a constant", bias->name);
    for (int32_t k = 0; bias && k < layer->k; k++)
        if (!isfinite(bias->data[k]))
            return mqb_fail(error, MQB_ERR_NUMERIC, "layer '%s': bias '%s' is %g in channel %d; expected a finite number",
                            node->name, bias->name, (double)bias->data[k], (int)k);
    return check_weight(layer, error);
}

/* ONNX Runtime has exact kernels for one filter on each channel, if all filters have one zero point. */
static bool sums_in_pairs(const struct mqb_contract *contract, const struct mqb_iconv *conv)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    bool exact = shape->groups > 1 && shape->groups == shape->c && shape->groups == shape->k;
    for (int32_t k = 1; k < shape->k && exact; k++)
        exact = conv->weight_zero[k] == conv->weight_zero[0];
    return contract->accumulator == MQB_ACCUMULATOR_I16_PAIRS ||
           (contract->accumulator == MQB_ACCUMULATOR_I16_PAIRS_ORT && !exact);
}

static mqb_status make_conv(const struct mqb_lowering *lowering, struct layer *layer, const struct mqb_conv_shape *shape,
                            struct mqb_iconv *conv, struct mqb_error *error)
{
    const struct mqb_contract *contract = &lowering->program->contract;
    mqb_status status = MQB_OK;
    conv->shape = *shape;
    conv->zero_stored = layer->x->zero_stored;
    conv->depthwise = shape->c == shape->groups;
    conv->weight_offset = layer->weight->qmin < 0 ? 0 : 128;
    conv->bias = mqb_allocate_array((size_t)shape->k, sizeof(*conv->bias));
    conv->weight_zero = mqb_allocate_array((size_t)shape->k, sizeof(*conv->weight_zero));
    conv->weight = mqb_allocate_array((size_t)layer->weight->num_codes, sizeof(*conv->weight));
    if (!conv->bias || !conv->weight || !conv->weight_zero)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the weights of layer '%s'", layer->node->name);
    for (int32_t k = 0; k < shape->k; k++)
        conv->weight_zero[k] = layer_zero(layer, k);
    if (layer->bias && contract->bias_form == MQB_BIAS_I32 && !(lowering->program->ideal & MQB_FACTOR_BIAS)) {
        conv->bias_value = layer->node->inputs[2];
        conv->bias_scale = mqb_allocate_array((size_t)shape->k, sizeof(*conv->bias_scale));
        if (!conv->bias_scale)
            return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the bias of layer '%s'", layer->node->name);
        for (int32_t k = 0; k < shape->k; k++)
            conv->bias_scale[k] = layer->x->info.scale * layer_scale(layer, k);
        status = quantize_bias(layer, contract, conv->bias, error);
    }
    if (status == MQB_OK)
        status = check_accumulator(layer, conv->bias, error);
    if (status != MQB_OK)
        return status;
    fill_weight(layer, conv);
    return sums_in_pairs(contract, conv) ? mqb_lower_pairs(layer->node, layer->x, conv, error) : MQB_OK;
}

/* The operator: from tensor `in`, by `layer`, to `end`. */
static mqb_status add_layer(struct mqb_lowering *lowering, struct layer *layer, const struct mqb_conv_shape *shape, int32_t in,
                            const struct layer_end *end, struct mqb_error *error)
{
    struct mqb_program *program = lowering->program;
    struct mqb_iop *op;
    mqb_status status = mqb_lower_op(lowering, layer->node, MQB_IOP_CONV, &op, error);
    if (status != MQB_OK)
        return status;
    layer->x = &program->tensors[in];
    op->num_in = end->side == MQB_NONE ? 1 : 2;
    op->in[0] = in;
    op->in[1] = end->side;
    op->out = end->out;
    op->conv = mqb_allocate(sizeof(*op->conv));
    if (!op->conv)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for layer '%s'", layer->node->name);
    status = make_conv(lowering, layer, shape, op->conv, error);
    return status == MQB_OK ? fill_epilogue(layer, program, end, op->conv, error) : status;
}

/* The addition that a convolution without a point of its own feeds and nothing else reads, or MQB_NONE. */
static mqb_node_id addition_behind(const struct mqb_lowering *lowering, const struct mqb_node *node)
{
    mqb_value_id value = node->output;
    if (value == lowering->graph->output || lowering->consumers[value] != 1 || mqb_deploy_find(lowering->deploy, value))
        return MQB_NONE;
    mqb_node_id reader = lowering->reader[value];
    return strcmp(lowering->graph->nodes[reader].op->name, "Add") == 0 ? reader : MQB_NONE;
}

mqb_status mqb_lower_conv(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error)
{
    struct layer layer;
    struct mqb_conv_shape shape;
    struct layer_end end = {.out = MQB_NONE, .side = MQB_NONE};
    int32_t in;
    bool done;
    if (addition_behind(lowering, node) != MQB_NONE) { /* the other operand may not be there yet */
        lowering->deferred[node - lowering->graph->nodes] = true;
        return MQB_OK;
    }
    mqb_status status = mqb_lower_behind_mean(lowering, node, &done, error);
    if (status != MQB_OK || done)
        return status;
    status = mqb_lower_input(lowering, node, 0, &in, error);
    if (status == MQB_OK)
        status = read_layer(lowering, node, &layer, &shape, error);
    if (status != MQB_OK)
        return status;
    struct mqb_target target = mqb_lower_target(lowering, node);
    end.target = &target;
    status = target.frozen ? mqb_lower_tensor(lowering, node, target.value, target.frozen, MQB_NONE, &end.out, error)
                           : check_last(lowering, node, &target, error);
    return status == MQB_OK ? add_layer(lowering, &layer, &shape, in, &end, error) : status;
}

mqb_status mqb_lower_conv_add(struct mqb_lowering *lowering, const struct mqb_node *node, const struct mqb_node *add,
                              int32_t side, struct mqb_error *error)
{
    struct layer layer;
    struct mqb_conv_shape shape;
    struct layer_end end = {.out = MQB_NONE, .side = side};
    int32_t in;
    mqb_status status = mqb_lower_input(lowering, node, 0, &in, error);
    if (status == MQB_OK)
        status = read_layer(lowering, node, &layer, &shape, error);
    if (status != MQB_OK)
        return status;
    struct mqb_target target = mqb_lower_target(lowering, add);
    end.target = &target;
    if (!target.frozen)
        return mqb_lower_refuse(add, error, "its output '%s' has no quantization point, so its scale is not known",
                                lowering->graph->values[target.value].name);
    if (lowering->program->tensors[side].info.size != mqb_value_size(&lowering->graph->values[node->output]))
        return mqb_lower_refuse(add, error, "its operands differ in shape");
    status = mqb_lower_tensor(lowering, add, target.value, target.frozen, MQB_NONE, &end.out, error);
    return status == MQB_OK ? add_layer(lowering, &layer, &shape, in, &end, error) : status;
}

mqb_status mqb_lower_conv_island(struct mqb_lowering *lowering, const struct mqb_node *node, struct mqb_error *error)
{
    struct layer layer;
    struct mqb_conv_shape shape;
    struct layer_end end = {.side = MQB_NONE};
    int32_t in;
    mqb_status status = mqb_lower_quantized(lowering, node, &in, error);
    if (status == MQB_OK)
        status = read_layer(lowering, node, &layer, &shape, error);
    if (status == MQB_OK)
        status = mqb_lower_real_tensor(lowering, node, node->output, &end.out, error);
    return status == MQB_OK ? add_layer(lowering, &layer, &shape, in, &end, error) : status;
}

/* ---- the provider's kernels ---- */

static bool provider_has_integers(const struct mqb_compute *compute)
{
    return compute && MQB_HAS_FIELD(compute, struct mqb_compute, iconv_forward) && compute->conv_create &&
           compute->conv_destroy && compute->iconv_packed_size && compute->iconv_scratch_size && compute->iconv_pack &&
           compute->iconv_forward;
}

bool mqb_lower_raw(const struct mqb_iconv *conv, int8_t *w8, uint32_t *constant, uint32_t *window_weight)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    int32_t group_c = shape->c / shape->groups, taps = shape->r * shape->s;
    bool any_window = false;
    for (int32_t k = 0; k < shape->k; k++) {
        uint32_t sum = 0;
        for (int32_t t = 0; t < taps; t++)
            for (int32_t c = 0; c < group_c; c++) {
                int64_t from = conv->depthwise ? (int64_t)t * shape->k + k : ((int64_t)k * taps + t) * group_c + c;
                int32_t w = conv->weight[from];
                sum += (uint32_t)w;
                w8[((int64_t)k * group_c + c) * taps + t] = (int8_t)(w + conv->weight_zero[k] - conv->weight_offset);
            }
        constant[k] = (uint32_t)conv->bias[k] - (uint32_t)conv->zero_stored * sum;
        window_weight[k] = (uint32_t)(conv->weight_offset - conv->weight_zero[k]);
        any_window = any_window || window_weight[k] != 0;
    }
    return any_window;
}

/* Weights less their zero points in a kernel for them; then no sums over windows are needed. *window stays true if the
 * provider has none for this plan. */
static mqb_status pack_wide(const struct mqb_iconv *conv, const struct mqb_compute *compute, const struct mqb_conv_plan *plan,
                            void *packed, bool *window, struct mqb_error *error)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    const int32_t taps = shape->r * shape->s;
    int16_t *weight = mqb_allocate_array((size_t)shape->k * (size_t)taps, sizeof(*weight));
    if (!weight)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for packed integer weights");
    for (int32_t k = 0; k < shape->k; k++)
        for (int32_t t = 0; t < taps; t++)
            weight[(int64_t)k * taps + t] = conv->weight[(int64_t)t * shape->k + k];
    *window = compute->iconv_pack_wide(plan, weight, packed) == 0;
    mqb_deallocate(weight);
    return MQB_OK;
}

mqb_status mqb_lower_provider(struct mqb_iconv *conv, const struct mqb_compute *compute, int32_t max_images,
                              struct mqb_error *error)
{
    const struct mqb_conv_shape *shape = &conv->shape;
    mqb_status status = MQB_OK;
    if (!provider_has_integers(compute))
        return MQB_OK;
    size_t num_weights = (size_t)shape->k * (size_t)(shape->c / shape->groups) * (size_t)shape->r * (size_t)shape->s;
    int8_t *w8 = mqb_allocate(num_weights);
    uint32_t *constant = mqb_allocate_array((size_t)shape->k, sizeof(*constant));
    uint32_t *window_weight = mqb_allocate_array((size_t)shape->k, sizeof(*window_weight));
    void *packed = NULL;
    struct mqb_conv_plan *plan = NULL;
    if (!w8 || !constant || !window_weight) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for packed integer weights");
        goto out;
    }
    bool window = mqb_lower_raw(conv, w8, constant, window_weight);
    const bool wide = window && conv->depthwise;
    if (wide && !(MQB_HAS_FIELD(compute, struct mqb_compute, iconv_pack_wide) && compute->iconv_pack_wide))
        goto out; /* the sums over windows would cost as much as the layer: the own kernel is the better one */
    status = compute->conv_create(mqb_host_table(), shape, max_images, &plan, error);
    if (status != MQB_OK) {
        plan = NULL;
        status = status == MQB_ERR_UNSUPPORTED ? MQB_OK : status;
        goto out;
    }
    size_t packed_size = compute->iconv_packed_size(plan);
    packed = mqb_allocate(packed_size);
    if (packed_size > 0 && !packed) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for packed integer weights");
        goto out;
    }
    if (wide) {
        status = pack_wide(conv, compute, plan, packed, &window, error);
        if (status != MQB_OK || window)
            goto out;
    } else {
        compute->iconv_pack(plan, w8, packed);
    }
    conv->compute = compute;
    conv->plan = plan;
    conv->packed = packed;
    conv->constant = constant;
    conv->window_weight = window ? window_weight : NULL;
    mqb_iconv_choose_band(conv, max_images);
    mqb_deallocate(conv->weight);
    conv->weight = NULL;
    plan = NULL;
    packed = NULL;
    constant = NULL;
    window_weight = window ? NULL : window_weight;

out:
    if (plan)
        compute->conv_destroy(plan);
    mqb_deallocate(packed);
    mqb_deallocate(w8);
    mqb_deallocate(constant);
    mqb_deallocate(window_weight);
    return status;
}

void mqb_lower_conv_destroy(struct mqb_iconv *conv)
{
    if (!conv)
        return;
    if (conv->plan)
        conv->compute->conv_destroy(conv->plan);
    mqb_rescale_destroy(&conv->rescale);
    mqb_deallocate(conv->packed);
    mqb_deallocate(conv->constant);
    mqb_deallocate(conv->window_weight);
    mqb_deallocate(conv->bias);
    mqb_deallocate(conv->bias_scale);
    mqb_deallocate(conv->weight);
    mqb_deallocate(conv->weight_zero);
    mqb_deallocate(conv->logit_scale);
    mqb_deallocate(conv->logit_bias);
    mqb_deallocate(conv->pairs);
    mqb_deallocate(conv);
}
