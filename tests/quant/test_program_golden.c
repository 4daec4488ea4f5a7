/* Operators of the integer program against ONNX Runtime's own integer operators, bit for bit. PyTorch's: tests/golden. */
#include "golden_json.h"
#include "hand_net.h"
#include "ops/ops.h"
#include "quant/program.h"

#include <stdlib.h>

/* ---- helpers ---- */

static int32_t scalar_int(const json_t *object, const char *key, size_t index)
{
    return (int32_t)golden_at(object, key, golden_size(object, key) > 1 ? index : 0);
}

static float scalar_real(const json_t *object, const char *key, size_t index)
{
    return (float)golden_at(object, key, golden_size(object, key) > 1 ? index : 0);
}

static int64_t dim(const json_t *tensor, size_t index)
{
    return json_integer_value(json_array_get(json_object_get(tensor, "shape"), index));
}

static size_t rank_of(const json_t *tensor)
{
    return json_array_size(json_object_get(tensor, "shape"));
}

static bool is_unsigned(const json_t *tensor)
{
    return json_string_value(json_object_get(tensor, "dtype"))[0] == 'u';
}

static void point_of(struct hand_net *net, mqb_value_id value, float scale, int32_t z, bool u8)
{
    hand_point(net, value, scale, z, u8 ? 0 : -128, u8 ? 255 : 127);
}

/* Codes [n][c][h][w] of a case to the reals, NHWC, that quantize to exactly these codes. */
static float *reals_of(const json_t *inputs, const char *key, float scale, int32_t z, int64_t n, int64_t c, int64_t pixels)
{
    float *x = malloc((size_t)(n * c * pixels) * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < c; j++)
            for (int64_t p = 0; p < pixels; p++)
                x[(i * pixels + p) * c + j] =
                    scale * (float)((int32_t)golden_at(inputs, key, (size_t)((i * c + j) * pixels + p)) - z);
    return x;
}

/* Runs n images and compares the program's last tensor with `expected` in NCHW. */
static void run_and_compare(struct hand_net *net, const struct mqb_backend_rules *rules, const float *x, int64_t n,
                            const json_t *expected, const char *key, const char *name)
{
    struct mqb_program *program;
    HAND_OK(mqb_program_create(&net->deploy, rules, NULL, &program, &net->error));
    int num = mqb_program_num_tensors(program);
    const struct mqb_program_tensor *t = mqb_program_tensor(program, num - 1);
    uint8_t *taps[16] = {NULL};
    float *logits = malloc((size_t)(n * mqb_value_size(&net->graph->values[net->graph->output])) * sizeof(float));
    taps[num - 1] = malloc((size_t)(n * t->size));
    HAND_OK(mqb_program_run(program, NULL, x, (int)n, logits, taps, &net->error));
    const struct mqb_value *v = &net->graph->values[t->value];
    int64_t c = v->dims[1], pixels = t->size / c;
    assert_int_equal(golden_size(expected, key), n * t->size);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < c; j++)
            for (int64_t p = 0; p < pixels; p++) {
                int32_t got = taps[num - 1][i * t->size + p * c + j] - (t->is_signed ? 128 : 0);
                int32_t want = (int32_t)golden_at(expected, key, (size_t)((i * c + j) * pixels + p));
                if (got != want)
                    fail_msg("%s: image %d channel %d pixel %d: %d, expected %d", name, (int)i, (int)j, (int)p, (int)got,
                             (int)want);
            }
    free(taps[num - 1]);
    free(logits);
    mqb_program_destroy(program);
}

/* ONNX Runtime's arithmetic. */
static struct mqb_backend_rules runtime_rules(void)
{
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    rules.contract.input_divide = 1;
    rules.contract.add_rule = MQB_ADD_FMA;
    return rules;
}

static mqb_value_id weight_of(struct hand_net *net, const json_t *w, int32_t rank, const int64_t *dims, int32_t num_scales)
{
    bool u8 = is_unsigned(w);
    mqb_value_id id = hand_param(net, "w", rank, dims, NULL);
    struct mqb_frozen *f = hand_freeze(net, id, MQB_ROLE_WEIGHT, num_scales, u8 ? 0 : -128, u8 ? 255 : 127);
    f->num_codes = (int64_t)json_array_size(json_object_get(w, "data"));
    f->codes = mqb_allocate_array((size_t)f->num_codes, sizeof(int32_t));
    for (int64_t i = 0; i < f->num_codes; i++)
        f->codes[i] = (int32_t)json_integer_value(json_array_get(json_object_get(w, "data"), (size_t)i));
    return id;
}

static void attr_ints(struct hand_net *net, mqb_node_id node, const char *name, const json_t *attrs)
{
    const json_t *list = json_object_get(attrs, name);
    int64_t values[8];
    for (size_t i = 0; i < json_array_size(list); i++)
        values[i] = json_integer_value(json_array_get(list, i));
    if (json_array_size(list) > 0)
        hand_list(net, node, name, (int32_t)json_array_size(list), values);
}

/* ---- ONNX Runtime ---- */

static void test_program_conv_equals_onnx_runtime(void **state)
{
    (void)state;
    json_t *root = golden_open("ort/qlinearconv.json"), *cases = json_object_get(root, "cases");
    struct mqb_backend_rules rules = runtime_rules();
    int num_run = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *one = json_array_get(cases, i), *in = json_object_get(one, "inputs"), *attrs = json_object_get(one, "attrs");
        json_t *x = json_object_get(in, "x"), *w = json_object_get(in, "w");
        bool bias = json_is_object(json_object_get(in, "B"));
        int64_t n = dim(x, 0), c = dim(x, 1), h = dim(x, 2), width = dim(x, 3), k = dim(w, 0);
        float s_x = scalar_real(in, "x_scale", 0);
        int32_t z_x = scalar_int(in, "x_zero_point", 0);
        struct hand_net make, *net = &make;
        hand_create(net, i);
        int64_t dims[4] = {k, dim(w, 1), dim(w, 2), dim(w, 3)};
        size_t scales = golden_size(in, "w_scale"), zeros = golden_size(in, "w_zero_point");
        mqb_value_id inputs[3] = {hand_input(net, c, h, width), MQB_NONE, MQB_NONE};
        point_of(net, inputs[0], s_x, z_x, is_unsigned(x));
        inputs[1] = weight_of(net, w, 4, dims, (int32_t)(scales > zeros ? scales : zeros));
        struct mqb_frozen *f = &net->frozen[1];
        bool exact_bias = true;
        for (int32_t j = 0; j < f->num_channels; j++) {
            f->scale[j] = scalar_real(in, "w_scale", (size_t)j);
            f->zero_point[j] = scalar_int(in, "w_zero_point", (size_t)j);
        }
        if (bias) {
            inputs[2] = hand_param(net, "b", 1, &k, NULL);
            for (int64_t j = 0; j < k; j++) {
                float b = (float)golden_at(in, "B", (size_t)j), step = s_x * f->scale[f->num_channels > 1 ? j : 0];
                net->graph->values[inputs[2]].data[j] = b * step;
                exact_bias = exact_bias && fabsf(b) < 4194304.0f && rintf(b * step / step) == b;
            }
        }
        mqb_node_id node = hand_node(net, "Conv", "conv", bias ? 3 : 2, inputs);
        attr_ints(net, node, "strides", attrs);
        attr_ints(net, node, "pads", attrs);
        attr_ints(net, node, "dilations", attrs);
        hand_attr_int(net, node, "group", json_integer_value(json_object_get(attrs, "group")));
        hand_infer(net);
        point_of(net, hand_out(net, node), scalar_real(in, "y_scale", 0), scalar_int(in, "y_zero_point", 0), is_unsigned(x));
        if (exact_bias) {
            float *reals = reals_of(in, "x", s_x, z_x, n, c, h * width);
            run_and_compare(net, &rules, reals, n, json_object_get(one, "expected"), "y",
                            json_string_value(json_object_get(one, "name")));
            free(reals);
            num_run++;
        }
        hand_destroy(net);
    }
    print_message("%d of %d cases\n", num_run, (int)json_array_size(cases));
    assert_true(num_run > 60);
    json_decref(root);
}

/* Add and Mul work on one code of each operand, so their whole table is compared through the pairs of a case. */
static void compare_binary(const char *file, const char *op, int zp_before)
{
    json_t *root = golden_open(file), *cases = json_object_get(root, "cases");
    struct mqb_backend_rules rules = runtime_rules();
    rules.contract.zp_before = zp_before;
    size_t num_pairs = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *one = json_array_get(cases, i), *in = json_object_get(one, "inputs");
        json_t *a = json_object_get(in, "a");
        bool u8 = is_unsigned(a);
        if (golden_size(in, "a") != golden_size(in, "b"))
            continue; /* broadcasts, where the runtime swaps operands */
        struct hand_net make, *net = &make;
        hand_create(net, i);
        /* Two operands from one input: its points are read from the table, not from the input. */
        mqb_value_id x = hand_input(net, 1, 1, 1);
        point_of(net, x, scalar_real(in, "a_scale", 0), scalar_int(in, "a_zero_point", 0), u8);
        mqb_value_id second = hand_unary(net, "Relu", "second", x);
        hand_infer(net);
        point_of(net, second, scalar_real(in, "b_scale", 0), scalar_int(in, "b_zero_point", 0), u8);
        mqb_value_id inputs[2] = {x, second};
        mqb_node_id node = hand_node(net, op, "it", 2, inputs);
        hand_infer(net);
        point_of(net, hand_out(net, node), scalar_real(in, "c_scale", 0), scalar_int(in, "c_zero_point", 0), u8);
        struct mqb_program *program;
        HAND_OK(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error));
        const struct mqb_iop *binary = &program->ops[program->num_ops - 1];
        assert_int_equal(binary->kind, MQB_IOP_BINARY);
        for (size_t j = 0; j < golden_size(in, "a"); j++) {
            int32_t offset = u8 ? 0 : 128, qa = (int32_t)golden_at(in, "a", j) + offset,
                    qb = (int32_t)golden_at(in, "b", j) + offset;
            assert_int_equal(binary->table[qa * 256 + qb],
                             (int32_t)golden_at(json_object_get(one, "expected"), "y", j) + offset);
            num_pairs++;
        }
        mqb_program_destroy(program);
        hand_destroy(net);
    }
    assert_true(num_pairs > 500);
    json_decref(root);
}

static void test_program_add_equals_onnx_runtime(void **state)
{
    (void)state;
    compare_binary("ort/qlinearadd.json", "Add", 0);
}

static void test_program_mul_equals_onnx_runtime(void **state)
{
    (void)state;
    compare_binary("ort/qlinearmul.json", "Mul", 1);
}

static void compare_pool(const char *file, const char *op, int pool_rule)
{
    json_t *root = golden_open(file), *cases = json_object_get(root, "cases");
    struct mqb_backend_rules rules = runtime_rules();
    rules.contract.pool_rule = pool_rule;
    int num_run = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *one = json_array_get(cases, i), *in = json_object_get(one, "inputs"), *attrs = json_object_get(one, "attrs");
        json_t *x = json_object_get(in, "x");
        bool scales = json_is_object(json_object_get(in, "x_scale"));
        if (json_integer_value(json_object_get(attrs, "channels_last")) || rank_of(x) != 4)
            continue;
        float s_x = scales ? scalar_real(in, "x_scale", 0) : 1.0f;
        int32_t z_x = scales ? scalar_int(in, "x_zero_point", 0) : 0;
        struct hand_net make, *net = &make;
        hand_create(net, i);
        mqb_value_id v = hand_input(net, dim(x, 1), dim(x, 2), dim(x, 3));
        point_of(net, v, s_x, z_x, is_unsigned(x));
        mqb_node_id node = hand_node(net, op, "pool", 1, &v);
        attr_ints(net, node, "kernel_shape", attrs);
        attr_ints(net, node, "strides", attrs);
        attr_ints(net, node, "pads", attrs);
        hand_attr_int(net, node, "count_include_pad", json_integer_value(json_object_get(attrs, "count_include_pad")));
        hand_infer(net);
        if (scales)
            point_of(net, hand_out(net, node), scalar_real(in, "y_scale", 0), scalar_int(in, "y_zero_point", 0),
                     is_unsigned(x));
        float *reals = reals_of(in, "x", s_x, z_x, dim(x, 0), dim(x, 1), dim(x, 2) * dim(x, 3));
        run_and_compare(net, &rules, reals, dim(x, 0), json_object_get(one, "expected"), "y",
                        json_string_value(json_object_get(one, "name")));
        free(reals);
        num_run++;
        hand_destroy(net);
    }
    assert_true(num_run > 10);
    json_decref(root);
}

static void test_program_global_average_pool_equals_onnx_runtime(void **state)
{
    (void)state;
    compare_pool("ort/qlinearglobalaveragepool.json", "GlobalAveragePool", MQB_POOL_INTEGER);
}

static void test_program_max_pool_equals_onnx_runtime(void **state)
{
    (void)state;
    compare_pool("ort/maxpool_int8.json", "MaxPool", MQB_POOL_INTEGER);
}

/* Concat rescales each input by a table of its own; the tables are compared code by code. */
static void test_program_concat_equals_onnx_runtime(void **state)
{
    (void)state;
    json_t *root = golden_open("ort/qlinearconcat.json"), *cases = json_object_get(root, "cases");
    struct mqb_backend_rules rules = runtime_rules();
    size_t num_codes = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *one = json_array_get(cases, i), *in = json_object_get(one, "inputs"), *attrs = json_object_get(one, "attrs");
        if (json_integer_value(json_object_get(attrs, "axis")) != 1)
            continue;
        json_t *x0 = json_object_get(in, "x0");
        bool u8 = is_unsigned(x0);
        int64_t outer = dim(x0, 0), at = 0, total = 0;
        char key[32];
        for (int j = 0; snprintf(key, sizeof(key), "x%d", j) && json_is_object(json_object_get(in, key)); j++)
            total += (int64_t)golden_size(in, key) / outer;
        for (int j = 0; snprintf(key, sizeof(key), "x%d", j) && json_is_object(json_object_get(in, key)); j++) {
            char scale_key[32], zero_key[32];
            snprintf(scale_key, sizeof(scale_key), "x_scale%d", j);
            snprintf(zero_key, sizeof(zero_key), "x_zero_point%d", j);
            struct mqb_program program = {.contract = rules.contract};
            struct mqb_itensor from = {
                .info = {.scale = scalar_real(in, scale_key, 0), .zero_point = scalar_int(in, zero_key, 0)}};
            struct mqb_itensor to = {
                .info = {.scale = scalar_real(in, "y_scale", 0), .zero_point = scalar_int(in, "y_zero_point", 0)}};
            from.info.qmin = to.info.qmin = u8 ? 0 : -128;
            from.info.qmax = to.info.qmax = u8 ? 255 : 127;
            from.offset = to.offset = u8 ? 0 : 128;
            uint8_t table[256];
            bool identity;
            struct mqb_node node = {.name = (char *)(uintptr_t) "concat"};
            assert_int_equal(
                mqb_lower_rescale_table(&program, &node, &from, &to, to.info.qmin, to.info.qmax, table, &identity, NULL),
                MQB_OK);
            int64_t size = (int64_t)golden_size(in, key) / outer;
            for (int64_t n = 0; n < outer; n++)
                for (int64_t k = 0; k < size; k++) {
                    int32_t code = (int32_t)golden_at(in, key, (size_t)(n * size + k)) + from.offset;
                    int32_t want = (int32_t)golden_at(json_object_get(one, "expected"), "y", (size_t)(n * total + at + k));
                    assert_int_equal(table[code] - to.offset, want);
                    num_codes++;
                }
            at += size;
        }
    }
    assert_true(num_codes > 500);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_program_conv_equals_onnx_runtime),
        cmocka_unit_test(test_program_add_equals_onnx_runtime),
        cmocka_unit_test(test_program_mul_equals_onnx_runtime),
        cmocka_unit_test(test_program_global_average_pool_equals_onnx_runtime),
        cmocka_unit_test(test_program_max_pool_equals_onnx_runtime),
        cmocka_unit_test(test_program_concat_equals_onnx_runtime),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
