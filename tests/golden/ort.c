/*
 * ort.c - family 7: single operators as ONNX Runtime computes them, through the integer program under the contract that follows
 * its arithmetic; exact. Layers and QDQ graphs: ort_layers.c.
 */
#include "ort.h"

#include <math.h>
#include <string.h>

/* ---- what the drivers share ---- */

static const json_t *inputs_of(const struct golden_case *c)
{
    return json_object_get(c->item, "inputs");
}

static void read_tensor(struct golden_case *c, const json_t *object, const char *name, struct ort_tensor *t)
{
    const json_t *tensor = json_object_get(object, name), *shape = json_object_get(tensor, "shape");
    if (!tensor)
        return;
    t->present = true;
    t->u8 = golden_text(tensor, "dtype")[0] == 'u';
    t->rank = (int32_t)json_array_size(shape);
    for (int32_t i = 0; i < t->rank && i < 6; i++)
        t->dims[i] = json_integer_value(json_array_get(shape, (size_t)i));
    t->size = (int64_t)golden_size(object, name);
    t->data = golden_alloc(c, t->size, sizeof(int32_t));
    for (int64_t i = 0; i < t->size; i++)
        t->data[i] = (int32_t)golden_at(c, object, name, (size_t)i);
}

static float real_at(const json_t *object, const char *name, size_t index)
{
    const json_t *data = json_object_get(json_object_get(object, name), "data");
    return (float)json_number_value(json_array_get(data, json_array_size(data) > 1 ? index : 0));
}

struct ort_tensor ort_input(struct golden_case *c, const char *name, const char *scale, const char *zero_point)
{
    const json_t *in = inputs_of(c);
    struct ort_tensor t = {.num_scales = 1, .scale = {1.0f}};
    read_tensor(c, in, name, &t);
    size_t scales = golden_size(in, scale), zeros = golden_size(in, zero_point), most = scales > zeros ? scales : zeros;
    if (!t.present && scales > 0) { /* an output's parameters alone */
        t.present = true;
        t.u8 = golden_text(json_object_get(in, zero_point), "dtype")[0] == 'u';
    }
    if (most > 256) {
        golden_problem(c, "%zu scales of \"%s\", expected 256 at most", most, name);
        most = 256;
    }
    t.num_scales = most > 1 ? (int32_t)most : 1;
    for (size_t i = 0; i < most; i++) {
        t.scale[i] = scales > 0 ? real_at(in, scale, i) : 1.0f;
        t.zero[i] = zeros > 0 ? (int32_t)golden_at(c, in, zero_point, zeros > 1 ? i : 0) : 0;
    }
    return t;
}

struct ort_tensor ort_expected(struct golden_case *c, const char *name)
{
    struct ort_tensor t = {.num_scales = 0};
    read_tensor(c, json_object_get(c->item, "expected"), name, &t);
    if (!t.present)
        golden_problem(c, "the file has no expected \"%s\"", name);
    return t;
}

struct mqb_backend_rules ort_rules(void)
{
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    rules.contract.fold = MQB_FOLD_F32_MUL_DIV;
    rules.contract.input_divide = 1;
    rules.contract.add_rule = MQB_ADD_FMA;
    rules.contract.pool_rule = MQB_POOL_ORT;
    return rules;
}

void ort_equal(struct golden_case *c, int64_t index, int64_t got, int64_t want)
{
    if (got != want)
        golden_problem(c, "y[%lld] = %lld, expected %lld", (long long)index, (long long)got, (long long)want);
}

void ort_point(struct hand_net *net, mqb_value_id value, const struct ort_tensor *like)
{
    hand_point(net, value, like->scale[0], like->zero[0], like->u8 ? 0 : -128, like->u8 ? 255 : 127);
}

void ort_attr_ints(struct golden_case *c, struct hand_net *net, mqb_node_id node, const char *name)
{
    const json_t *list = json_object_get(json_object_get(c->item, "attrs"), name);
    int64_t values[8];
    for (size_t i = 0; i < json_array_size(list) && i < 8; i++)
        values[i] = json_integer_value(json_array_get(list, i));
    if (json_array_size(list) > 0)
        hand_list(net, node, name, (int32_t)json_array_size(list), values);
}

/* The reals, [h][w][c], that quantize to exactly these codes. */
static float *reals_of(struct golden_case *c, const struct ort_tensor *x, bool channels_last)
{
    int64_t channels = x->dims[channels_last ? x->rank - 1 : 1], pixels = x->size / x->dims[0] / channels;
    float *reals = golden_alloc(c, x->size, sizeof(float));
    for (int64_t i = 0; i < x->dims[0]; i++)
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t k = 0; k < channels; k++) {
                int64_t to = (i * pixels + p) * channels + k;
                int64_t from = channels_last ? to : (i * channels + k) * pixels + p;
                reals[to] = x->scale[0] * (float)(x->data[from] - x->zero[0]);
            }
    return reals;
}

/* The first layer's integer bias, in whatever form its kernel takes it. */
static bool set_bias(struct golden_case *c, struct mqb_iconv *conv, const int32_t *bias)
{
    for (int32_t k = 0; k < conv->shape.k; k++) {
        if (conv->plan)
            conv->constant[k] += (uint32_t)bias[k] - (uint32_t)conv->bias[k];
        else if (bias[k] > 1 << 30 || bias[k] < -(1 << 30))
            c->not_shipped = "sums that wrap around"; /* refused when a program is made */
        conv->bias[k] = bias[k];
    }
    return !c->not_shipped;
}

void ort_run(struct golden_case *c, struct hand_net *net, const struct mqb_backend_rules *rules, const struct ort_tensor *x,
             const int32_t *bias, const struct ort_tensor *expected, bool channels_last)
{
    struct mqb_program *program;
    const struct mqb_graph *graph = net->graph;
    int64_t n = x->dims[0], size = mqb_value_size(&graph->values[graph->output]);
    if (!golden_ok(c, mqb_program_create(&net->deploy, rules, c->run->compute, &program, &c->error)))
        return;
    int num = mqb_program_num_tensors(program);
    const struct mqb_program_tensor *t = mqb_program_tensor(program, num - 1);
    bool codes = t->value == graph->output;
    int64_t channels = graph->values[graph->output].dims[1], pixels = size / channels;
    uint8_t **taps = golden_alloc(c, num, sizeof(*taps));
    float *logits = golden_alloc(c, n * size, sizeof(float));
    if (codes)
        taps[num - 1] = golden_alloc(c, n * size, 1);
    if (expected->size != n * size) {
        golden_problem(c, "the file has %lld numbers, the program %lld", (long long)expected->size, (long long)(n * size));
    } else if ((!bias || set_bias(c, program->ops[0].conv, bias)) &&
               golden_ok(c, mqb_program_run(program, NULL, reals_of(c, x, channels_last), (int)n, logits, taps, &c->error))) {
        for (int64_t i = 0; i < n * size && !c->problem[0]; i++) {
            int64_t image = i / size, k = channels_last ? i % channels : i % size / pixels;
            int64_t p = channels_last ? i % size / channels : i % pixels, at = image * size + p * channels + k;
            if (codes)
                ort_equal(c, i, taps[num - 1][at] - (t->is_signed ? 128 : 0), expected->data[i]);
            else if (logits[at] != (float)expected->data[i])
                golden_problem(c, "y[%lld] = %.9g, expected %d", (long long)i, (double)logits[at], (int)expected->data[i]);
        }
    }
    mqb_program_destroy(program);
}

/* ---- reals to codes and back ---- */

/* The scale's index of an element. */
static int64_t channel_of(const struct golden_case *c, const json_t *tensor, int64_t index)
{
    const json_t *shape = json_object_get(tensor, "shape"),
                 *axis_json = json_object_get(json_object_get(c->item, "attrs"), "axis");
    int64_t rank = (int64_t)json_array_size(shape), axis = json_integer_value(axis_json), inner = 1;
    if (!axis_json)
        return 0;
    axis += axis < 0 ? rank : 0;
    for (int64_t i = axis + 1; i < rank; i++)
        inner *= json_integer_value(json_array_get(shape, (size_t)i));
    return index / inner % json_integer_value(json_array_get(shape, (size_t)axis));
}

static float special_real(const json_t *number)
{
    const char *text = json_string_value(number);
    if (!text)
        return (float)json_number_value(number);
    return strcmp(text, "nan") == 0 ? NAN : text[0] == '-' ? -INFINITY : INFINITY;
}

static void quantize_case(struct golden_case *c)
{
    const json_t *x = json_object_get(inputs_of(c), "x"), *data = json_object_get(x, "data");
    struct ort_tensor y = ort_input(c, "none", "y_scale", "y_zero_point"), want = ort_expected(c, "y");
    struct mqb_backend_rules rules = ort_rules();
    for (int64_t i = 0; i < want.size && !c->problem[0]; i++) {
        int64_t k = channel_of(c, x, i);
        ort_equal(c, i,
                  mqb_quantize_value(&rules.contract, special_real(json_array_get(data, (size_t)i)), y.scale[k], y.zero[k],
                                     want.u8 ? 0 : -128, want.u8 ? 255 : 127),
                  want.data[i]);
    }
}

/* Codes as reals leave a program at its output: through a clamp that changes none. 32-bit integers as sums do. */
static float dequantized(struct golden_case *c, const struct ort_tensor *x, int64_t k, int32_t code)
{
    struct mqb_backend_rules rules = ort_rules();
    struct hand_net make, *net = &make;
    struct mqb_program *program;
    bool sums = x->data && !x->u8 && (x->zero[k] == 0 && (code < -128 || code > 127));
    float logit = NAN, real = x->scale[k] * (float)(code - x->zero[k]);
    hand_create(net, 1);
    mqb_value_id inputs[2] = {hand_input(net, 1, 0, 0), MQB_NONE};
    if (sums) {
        float weight = 0.0f;
        hand_point(net, inputs[0], 1.0f, 0, 0, 255);
        inputs[1] = hand_param(net, "w", 2, (int64_t[]){1, 1}, &weight);
        struct mqb_frozen *f = hand_freeze(net, inputs[1], MQB_ROLE_WEIGHT, 1, -128, 127);
        f->scale[0] = x->scale[k];
        f->num_codes = 1;
        f->codes = mqb_allocate(sizeof(int32_t));
        hand_node(net, "Gemm", "sum", 2, inputs);
    } else {
        hand_point(net, inputs[0], x->scale[k], x->zero[k], x->u8 ? 0 : -128, x->u8 ? 255 : 127);
        mqb_node_id node = hand_node(net, "Clip", "all", 1, inputs);
        hand_attr_real(net, node, "min", -INFINITY);
        hand_attr_real(net, node, "max", INFINITY);
    }
    hand_infer(net);
    if (golden_ok(c, mqb_program_create(&net->deploy, &rules, NULL, &program, &c->error))) {
        if (sums)
            program->ops[0].conv->bias[0] = code;
        golden_ok(c, mqb_program_run(program, NULL, &real, 1, &logit, NULL, &c->error));
        mqb_program_destroy(program);
    }
    hand_destroy(net);
    return logit;
}

static void dequantize_case(struct golden_case *c)
{
    const json_t *x_json = json_object_get(inputs_of(c), "x");
    struct ort_tensor x = ort_input(c, "x", "x_scale", "x_zero_point");
    const json_t *expected = json_object_get(c->item, "expected");
    for (int64_t i = 0; i < x.size && !c->problem[0]; i++) {
        float got = dequantized(c, &x, channel_of(c, x_json, i), x.data[i]),
              want =
                  (float)json_number_value(json_array_get(json_object_get(json_object_get(expected, "y"), "data"), (size_t)i));
        if (got != want)
            golden_problem(c, "y[%lld] = %.9g, expected %.9g", (long long)i, (double)got, (double)want);
    }
}

/* ---- functions of one or two codes: their tables ---- */

/* table[a][b] of an operator on operands with these parameters. */
static uint8_t *binary_table(struct golden_case *c, const char *op, const struct ort_tensor *a, const struct ort_tensor *b,
                             const struct ort_tensor *y)
{
    struct mqb_backend_rules rules = ort_rules();
    struct hand_net make, *net = &make;
    struct mqb_program *program;
    uint8_t *table = golden_alloc(c, 65536, 1);
    hand_create(net, 1);
    mqb_value_id inputs[2] = {hand_input(net, 1, 1, 1), MQB_NONE};
    ort_point(net, inputs[0], a);
    inputs[1] = hand_unary(net, "Relu", "second", inputs[0]);
    hand_infer(net);
    ort_point(net, inputs[1], b);
    mqb_node_id node = hand_node(net, op, "it", 2, inputs);
    hand_infer(net);
    ort_point(net, hand_out(net, node), y);
    if (golden_ok(c, mqb_program_create(&net->deploy, &rules, NULL, &program, &c->error))) {
        memcpy(table, program->ops[program->num_ops - 1].table, 65536);
        mqb_program_destroy(program);
    }
    hand_destroy(net);
    return table;
}

/* Index into an operand that is broadcast to `shape`. */
static int64_t broadcast_index(const struct ort_tensor *t, const struct ort_tensor *shape, int64_t index)
{
    int64_t at = 0, stride = 1;
    for (int32_t i = shape->rank - 1; i >= 0; i--) {
        int32_t own = i - (shape->rank - t->rank);
        int64_t position = index % shape->dims[i];
        index /= shape->dims[i];
        if (own < 0)
            continue;
        at += t->dims[own] == 1 ? 0 : position * stride;
        stride *= t->dims[own];
    }
    return at;
}

/* The runtime swaps the operands of a span whose first is one number. */
static bool swapped(const struct ort_tensor *a, const struct ort_tensor *b, int32_t rank)
{
    for (int32_t i = rank - 1; i >= 0; i--) {
        int32_t at = i - (rank - a->rank), bt = i - (rank - b->rank);
        int64_t da = at < 0 ? 1 : a->dims[at], db = bt < 0 ? 1 : b->dims[bt];
        if (da != 1 || db != 1)
            return da == 1;
    }
    return false;
}

static void binary_case(struct golden_case *c, const char *op)
{
    struct ort_tensor a = ort_input(c, "a", "a_scale", "a_zero_point"), b = ort_input(c, "b", "b_scale", "b_zero_point");
    struct ort_tensor y = ort_input(c, "none", "c_scale", "c_zero_point"), want = ort_expected(c, "y");
    bool swap = swapped(&a, &b, want.rank);
    const uint8_t *table = swap ? binary_table(c, op, &b, &a, &y) : binary_table(c, op, &a, &b, &y);
    int32_t offset = a.u8 ? 0 : 128;
    for (int64_t i = 0; i < want.size && !c->problem[0]; i++) {
        int32_t qa = a.data[broadcast_index(&a, &want, i)] + offset, qb = b.data[broadcast_index(&b, &want, i)] + offset;
        ort_equal(c, i, table[swap ? qb * 256 + qa : qa * 256 + qb] - offset, want.data[i]);
    }
}

static void add_case(struct golden_case *c)
{
    binary_case(c, "Add");
}

static void mul_case(struct golden_case *c)
{
    binary_case(c, "Mul");
}

/* alpha: of LeakyRelu. */
static void function_case(struct golden_case *c, const char *op, double alpha)
{
    struct mqb_backend_rules rules = ort_rules();
    struct ort_tensor x = ort_input(c, "x", "x_scale", "x_zero_point"), y = ort_input(c, "none", "y_scale", "y_zero_point");
    struct ort_tensor want = ort_expected(c, "y");
    struct hand_net make, *net = &make;
    struct mqb_program *program;
    hand_create(net, 1);
    mqb_value_id input = hand_input(net, 1, 1, 1);
    ort_point(net, input, &x);
    mqb_node_id node = hand_node(net, op, "it", 1, &input);
    if (alpha != 0.0)
        golden_ok(c, mqb_node_set_real(net->graph, node, "alpha", alpha, &c->error));
    mqb_value_id out = hand_out(net, node);
    hand_infer(net);
    ort_point(net, out, &y);
    if (golden_ok(c, mqb_program_create(&net->deploy, &rules, NULL, &program, &c->error))) {
        int32_t offset = x.u8 ? 0 : 128;
        for (int64_t i = 0; i < want.size && !c->problem[0]; i++)
            ort_equal(c, i, program->ops[0].table[x.data[i] + offset] - offset, want.data[i]);
        mqb_program_destroy(program);
    }
    hand_destroy(net);
}

static void sigmoid_case(struct golden_case *c)
{
    function_case(c, "Sigmoid", 0.0);
}

static void leaky_relu_case(struct golden_case *c)
{
    function_case(c, "LeakyRelu", json_number_value(json_object_get(json_object_get(c->item, "attrs"), "alpha")));
}

/* Each input through a table of its own, then side by side along the axis. */
static void concat_case(struct golden_case *c)
{
    struct mqb_backend_rules rules = ort_rules();
    struct ort_tensor y = ort_input(c, "none", "y_scale", "y_zero_point"), want = ort_expected(c, "y");
    int64_t axis = golden_int(json_object_get(c->item, "attrs"), "axis"), inner = 1, first = 0;
    axis += axis < 0 ? want.rank : 0;
    for (int32_t i = (int32_t)axis + 1; i < want.rank; i++)
        inner *= want.dims[i];
    int64_t row = want.dims[axis] * inner;
    for (int j = 0; j < 8 && !c->problem[0]; j++) {
        char name[16], scale[24], zero[24];
        snprintf(name, sizeof(name), "x%d", j);
        snprintf(scale, sizeof(scale), "x_scale%d", j);
        snprintf(zero, sizeof(zero), "x_zero_point%d", j);
        struct ort_tensor x = ort_input(c, name, scale, zero);
        if (!x.present)
            break;
        struct mqb_program program = {.contract = rules.contract};
        struct mqb_node node = {.name = (char *)(uintptr_t) "concat"};
        struct mqb_itensor from = {.info = {.scale = x.scale[0], .zero_point = x.zero[0]}};
        struct mqb_itensor to = {.info = {.scale = y.scale[0], .zero_point = y.zero[0]}};
        from.info.qmin = to.info.qmin = y.u8 ? 0 : -128;
        from.info.qmax = to.info.qmax = y.u8 ? 255 : 127;
        from.offset = to.offset = y.u8 ? 0 : 128;
        uint8_t table[256];
        bool identity;
        golden_ok(
            c, mqb_lower_rescale_table(&program, &node, &from, &to, to.info.qmin, to.info.qmax, table, &identity, &c->error));
        int64_t part = x.dims[axis] * inner;
        for (int64_t i = 0; i < x.size && !c->problem[0]; i++) {
            int64_t at = i / part * row + first + i % part;
            ort_equal(c, at, table[x.data[i] + from.offset] - to.offset, want.data[at]);
        }
        first += part;
    }
    if (first != row && !c->problem[0])
        golden_problem(c, "the inputs make %lld of %lld numbers a row", (long long)first, (long long)row);
}

/* ---- pooling ---- */

static void pool_case(struct golden_case *c, const char *op)
{
    struct mqb_backend_rules rules = ort_rules();
    const json_t *attrs = json_object_get(c->item, "attrs");
    bool last = golden_int(attrs, "channels_last") != 0;
    struct ort_tensor x = ort_input(c, "x", "x_scale", "x_zero_point"), y = ort_input(c, "none", "y_scale", "y_zero_point");
    struct ort_tensor want = ort_expected(c, "y");
    struct hand_net make, *net = &make;
    hand_create(net, 1);
    mqb_value_id v = last ? hand_input(net, x.dims[3], x.dims[1], x.dims[2]) : hand_input(net, x.dims[1], x.dims[2], x.dims[3]);
    ort_point(net, v, &x);
    mqb_node_id node = hand_node(net, op, "pool", 1, &v);
    ort_attr_ints(c, net, node, "kernel_shape");
    ort_attr_ints(c, net, node, "strides");
    ort_attr_ints(c, net, node, "pads");
    hand_attr_int(net, node, "count_include_pad", golden_int(attrs, "count_include_pad"));
    hand_infer(net);
    if (y.present)
        ort_point(net, hand_out(net, node), &y);
    ort_run(c, net, &rules, &x, NULL, &want, last);
    hand_destroy(net);
}

static void max_pool_case(struct golden_case *c)
{
    pool_case(c, "MaxPool");
}

static void average_pool_case(struct golden_case *c)
{
    pool_case(c, "AveragePool");
}

static void global_pool_case(struct golden_case *c)
{
    pool_case(c, "GlobalAveragePool");
}

void golden_ort_case(struct golden_case *c)
{
    static const struct {
        const char *op;
        golden_driver *drive;
    } drivers[] = {
        {"QuantizeLinear", quantize_case},
        {"DequantizeLinear", dequantize_case},
        {"QLinearConv", ort_conv_case},
        {"ConvInteger", ort_conv_case},
        {"QGemm", ort_matrix_case},
        {"QLinearMatMul", ort_matrix_case},
        {"MatMulInteger", ort_matrix_case},
        {"QLinearAdd", add_case},
        {"QLinearMul", mul_case},
        {"QLinearSigmoid", sigmoid_case},
        {"QLinearLeakyRelu", leaky_relu_case},
        {"QLinearConcat", concat_case},
        {"MaxPool", max_pool_case},
        {"QLinearAveragePool", average_pool_case},
        {"QLinearGlobalAveragePool", global_pool_case},
        {"QDQ", ort_pattern_case},
    };
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
        if (strcmp(drivers[i].op, golden_text(c->item, "op")) == 0) {
            drivers[i].drive(c);
            return;
        }
    }
    golden_problem(c, "no driver for \"%s\"", golden_text(c->item, "op"));
}
