/* ort_layers.c - family 7: convolutions, matrix products and QDQ graphs of ONNX Runtime. */
#include "ort.h"

#include <string.h>

static mqb_value_id add_weight(struct golden_case *c, struct hand_net *net, const struct ort_tensor *w, int32_t rank,
                               const int64_t *dims)
{
    mqb_value_id id = hand_param(net, "w", rank, dims, NULL);
    int32_t scales = w->num_scales > 1 ? w->num_scales : 1;
    struct mqb_frozen *f = hand_freeze(net, id, MQB_ROLE_WEIGHT, scales, w->u8 ? 0 : -128, w->u8 ? 255 : 127);
    f->num_codes = w->size;
    f->codes = mqb_allocate_array((size_t)w->size, sizeof(int32_t));
    for (int32_t i = 0; i < scales; i++) {
        f->scale[i] = w->scale[i];
        f->zero_point[i] = w->zero[i];
    }
    if (!f->codes)
        golden_problem(c, "no memory");
    else
        memcpy(f->codes, w->data, (size_t)w->size * sizeof(int32_t));
    return id;
}

/* A convolution on x with a bias to be set; its result. */
static mqb_value_id add_conv(struct golden_case *c, struct hand_net *net, const struct ort_tensor *x,
                             const struct ort_tensor *w)
{
    mqb_value_id inputs[3] = {hand_input(net, x->dims[1], x->dims[2], x->dims[3]), MQB_NONE, MQB_NONE};
    ort_point(net, inputs[0], x);
    inputs[1] = add_weight(c, net, w, 4, w->dims);
    inputs[2] = hand_param(net, "b", 1, w->dims, NULL);
    mqb_node_id node = hand_node(net, "Conv", "conv", 3, inputs);
    ort_attr_ints(c, net, node, "strides");
    ort_attr_ints(c, net, node, "pads");
    ort_attr_ints(c, net, node, "dilations");
    const json_t *group = json_object_get(json_object_get(c->item, "attrs"), "group");
    hand_attr_int(net, node, "group", group ? json_integer_value(group) : 1);
    hand_infer(net);
    return hand_out(net, node);
}

void ort_conv_case(struct golden_case *c)
{
    struct mqb_backend_rules rules = ort_rules();
    struct ort_tensor x = ort_input(c, "x", "x_scale", "x_zero_point"), w = ort_input(c, "w", "w_scale", "w_zero_point");
    struct ort_tensor y = ort_input(c, "none", "y_scale", "y_zero_point"), bias = ort_input(c, "B", "", "");
    struct ort_tensor want = ort_expected(c, "y");
    struct hand_net make, *net = &make;
    hand_create(net, 1);
    mqb_value_id out = add_conv(c, net, &x, &w);
    if (y.present)
        ort_point(net, out, &y);
    ort_run(c, net, &rules, &x, bias.present ? bias.data : NULL, &want, false);
    hand_destroy(net);
}

/* ---- matrix products: a linear layer, row by row, because C may differ by row ---- */

static void transpose(struct golden_case *c, struct ort_tensor *t)
{
    int64_t rows = t->dims[0], columns = t->dims[1];
    int32_t *turned = golden_alloc(c, t->size, sizeof(int32_t));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            turned[j * rows + i] = t->data[i * columns + j];
    t->data = turned;
    t->dims[0] = columns;
    t->dims[1] = rows;
}

static void matrix_row(struct golden_case *c, const struct ort_tensor *a, const struct ort_tensor *b,
                       const struct ort_tensor *y, const struct ort_tensor *add, const struct ort_tensor *want, int64_t row)
{
    struct mqb_backend_rules rules = ort_rules();
    struct hand_net make, *net = &make;
    int64_t n = b->dims[0];
    struct ort_tensor x = *a, part = *want;
    x.data += row * x.dims[1];
    x.dims[0] = 1;
    x.size = x.dims[1];
    part.data += row * n;
    part.size = n;
    int32_t *bias = golden_alloc(c, n, sizeof(int32_t));
    int64_t rows = add->rank > 1 ? add->dims[0] : 1, columns = add->present ? add->size / rows : 1;
    for (int64_t j = 0; add->present && j < n; j++)
        bias[j] = add->data[(rows > 1 ? row : 0) * columns + (columns > 1 ? j : 0)];
    hand_create(net, 1);
    mqb_value_id inputs[3] = {hand_input(net, x.dims[1], 0, 0), MQB_NONE, MQB_NONE};
    ort_point(net, inputs[0], &x);
    inputs[1] = add_weight(c, net, b, 2, b->dims);
    inputs[2] = hand_param(net, "c", 1, b->dims, NULL);
    mqb_node_id node = hand_node(net, "Gemm", "product", 3, inputs);
    hand_infer(net);
    if (y->present)
        ort_point(net, hand_out(net, node), y);
    ort_run(c, net, &rules, &x, bias, &part, false);
    hand_destroy(net);
}

void ort_matrix_case(struct golden_case *c)
{
    const json_t *attrs = json_object_get(c->item, "attrs");
    bool gemm = strcmp(golden_text(c->item, "op"), "QGemm") == 0,
         product = strcmp(golden_text(c->item, "op"), "QLinearMatMul") == 0;
    const char *first = product ? "a" : "A", *second = product ? "b" : "B";
    struct ort_tensor a = ort_input(c, first, "a_scale", "a_zero_point"), b = ort_input(c, second, "b_scale", "b_zero_point");
    struct ort_tensor y = ort_input(c, "none", "y_scale", "y_zero_point"), add = ort_input(c, "C", "", "");
    struct ort_tensor want = ort_expected(c, "y");
    if (golden_int(attrs, "transA"))
        transpose(c, &a);
    if (!golden_int(attrs, "transB"))
        transpose(c, &b);
    if (gemm)
        a.scale[0] = (float)golden_number(c, attrs, "alpha") * a.scale[0];
    for (int64_t row = 0; row < a.dims[0] && !c->problem[0]; row++)
        matrix_row(c, &a, &b, &y, &add, &want, row);
}

/* ---- QDQ graphs, as the runtime runs them at its highest level ---- */

static mqb_value_id add_activation(struct hand_net *net, const char *pattern, mqb_value_id value)
{
    bool relu = strstr(pattern, "Relu") != NULL;
    if (!relu && !strstr(pattern, "Clip06"))
        return value;
    mqb_node_id node = hand_node(net, relu ? "Relu" : "Clip", "clamp", 1, &value);
    if (!relu) {
        hand_attr_real(net, node, "min", 0.0);
        hand_attr_real(net, node, "max", 6.0);
    }
    hand_infer(net);
    return hand_out(net, node);
}

/* Two operands as the codes of one image: [n][a][b] side by side, cut apart again. */
static void pair_case(struct golden_case *c, const char *pattern, const struct mqb_backend_rules *rules)
{
    struct ort_tensor a = ort_input(c, "a", "a_scale", "a_zero_point"), b = ort_input(c, "b", "b_scale", "b_zero_point");
    struct ort_tensor y = ort_input(c, "none", "y_scale", "y_zero_point"), want = ort_expected(c, "y_all");
    const char *op = pattern[0] == 'A' ? "Add" : pattern[0] == 'M' ? "Mul" : "Concat";
    struct hand_net make, *net = &make;
    struct mqb_program *program;
    hand_create(net, 1);
    mqb_value_id inputs[2] = {hand_input(net, 1, 1, 1), MQB_NONE};
    ort_point(net, inputs[0], &a);
    inputs[1] = hand_unary(net, "Relu", "second", inputs[0]);
    hand_infer(net);
    ort_point(net, inputs[1], &b);
    mqb_node_id node = hand_node(net, op, "it", 2, inputs);
    hand_infer(net);
    mqb_value_id out = add_activation(net, pattern, hand_out(net, node));
    ort_point(net, out, &y);
    if (golden_ok(c, mqb_program_create(&net->deploy, rules, NULL, &program, &c->error))) {
        const uint8_t *table = program->ops[program->num_ops - 1].table;
        int32_t offset = a.u8 ? 0 : 128;
        bool concat = op[0] == 'C';
        int64_t half = a.size / a.dims[0];
        for (int64_t i = 0; i < want.size && !c->problem[0]; i++) {
            int64_t image = i / (2 * half), at = i % (2 * half), side = at / half;
            if (!concat)
                ort_equal(c, i, table[(a.data[i] + offset) * 256 + b.data[i] + offset] - offset, want.data[i]);
            else
                ort_equal(c, i, table[side * 256 + (side ? b.data : a.data)[image * half + at % half] + offset] - offset,
                          want.data[i]);
        }
        mqb_program_destroy(program);
    }
    hand_destroy(net);
}

static void single_case(struct golden_case *c, const char *pattern, const struct mqb_backend_rules *rules)
{
    static const char *const pools[] = {"GlobalAveragePool", "AveragePool", "MaxPool"};
    struct ort_tensor x = ort_input(c, "x", "x_scale", "x_zero_point"), w = ort_input(c, "w", "w_scale", "w_zero_point");
    struct ort_tensor y = ort_input(c, "none", "y_scale", "y_zero_point"), bias = ort_input(c, "b", "", "");
    struct ort_tensor want = ort_expected(c, "y_all");
    struct hand_net make, *net = &make;
    mqb_value_id out;
    hand_create(net, 1);
    if (strncmp(pattern, "Conv", 4) == 0) {
        out = add_conv(c, net, &x, &w);
    } else {
        mqb_value_id inputs[3] = {hand_input(net, x.dims[1], x.rank > 2 ? x.dims[2] : 0, x.rank > 2 ? x.dims[3] : 0)};
        ort_point(net, inputs[0], &x);
        out = inputs[0];
        for (size_t i = 0; i < sizeof(pools) / sizeof(pools[0]); i++)
            if (strcmp(pattern, pools[i]) == 0) {
                mqb_node_id node = hand_node(net, pools[i], "pool", 1, inputs);
                ort_attr_ints(c, net, node, "kernel_shape");
                ort_attr_ints(c, net, node, "strides");
                hand_infer(net);
                out = hand_out(net, node);
            }
        if (strncmp(pattern, "Gemm", 4) == 0) {
            inputs[1] = add_weight(c, net, &w, 2, w.dims);
            inputs[2] = hand_param(net, "b", 1, w.dims, NULL);
            out = hand_out(net, hand_node(net, "Gemm", "product", 3, inputs));
            hand_infer(net);
        }
    }
    out = add_activation(net, pattern, out);
    ort_point(net, out, &y);
    ort_run(c, net, rules, &x, bias.present ? bias.data : NULL, &want, false);
    hand_destroy(net);
}

/* What is not fused runs in float: an addition then dequantizes, adds and quantizes again. */
void ort_pattern_case(struct golden_case *c)
{
    struct mqb_backend_rules rules = ort_rules();
    const json_t *attrs = json_object_get(c->item, "attrs");
    const char *pattern = golden_text(attrs, "pattern");
    bool fused = golden_int(attrs, "fused") != 0;
    if (strncmp(pattern, "Add", 3) == 0 || strcmp(pattern, "Mul") == 0 || strcmp(pattern, "Concat") == 0) {
        if (!fused)
            rules.contract.add_rule = MQB_ADD_F32;
        pair_case(c, pattern, &rules);
    } else {
        single_case(c, pattern, &rules);
    }
}
