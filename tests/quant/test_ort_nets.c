/*
 * Whole networks of integer operators against what ONNX Runtime computed for them: read from the file, rebuilt as a deployment,
 * lowered under the contract that follows its arithmetic, and compared tensor by tensor, bit for bit.
 */
#include "golden_json.h"
#include "hand_net.h"
#include "onnx_reader.h"
#include "ops/ops.h"
#include "quant/program.h"

#include <dirent.h>

#define MAX_TENSORS 64

struct rebuilt {
    struct hand_net net;
    struct onnx_file file;
    struct onnx_text names[MAX_TENSORS]; /* tensors of the file, */
    mqb_value_id values[MAX_TENSORS];    /*   and what became of them */
    int num_names;
    int32_t *biases[MAX_TENSORS]; /* by layer */
    int num_layers;
};

static mqb_value_id value_of(const struct rebuilt *r, struct onnx_text name)
{
    for (int i = 0; i < r->num_names; i++)
        if (onnx_same(r->names[i], name))
            return r->values[i];
    fail_msg("no tensor %.*s", (int)name.size, (const char *)name.data);
    return MQB_NONE;
}

static void keep(struct rebuilt *r, struct onnx_text name, mqb_value_id value)
{
    assert_true(r->num_names < MAX_TENSORS);
    r->names[r->num_names] = name;
    r->values[r->num_names++] = value;
}

static const struct onnx_tensor *tensor_of(const struct rebuilt *r, const struct onnx_node *node, int input)
{
    const struct onnx_tensor *tensor = input < node->num_inputs ? onnx_tensor_named(&r->file, node->inputs[input]) : NULL;
    if (!tensor)
        fail_msg("%.*s has no constant input %d", (int)node->op.size, (const char *)node->op.data, input);
    return tensor;
}

/* Scale and zero point are inputs `first` and `first + 1`. */
static void point(struct rebuilt *r, const struct onnx_node *node, int first, mqb_value_id value)
{
    const struct onnx_tensor *scale = tensor_of(r, node, first), *zero = tensor_of(r, node, first + 1);
    hand_point(&r->net, value, (float)onnx_element(scale, 0), (int32_t)onnx_element(zero, 0), zero->type == 2 ? 0 : -128,
               zero->type == 2 ? 255 : 127);
}

static void copy_list(struct rebuilt *r, const struct onnx_node *node, mqb_node_id to, const char *name)
{
    int64_t values[8];
    int count = onnx_attribute(node, name, values);
    if (count > 0)
        hand_list(&r->net, to, name, count, values);
}

/* Inputs 0 to 5 are x and w with their parameters; bias and result's parameters follow in the operator's order. */
static mqb_value_id layer(struct rebuilt *r, const struct onnx_node *node, const char *op, int bias_at, int result_at)
{
    struct hand_net *net = &r->net;
    const struct onnx_tensor *w = tensor_of(r, node, 3), *scale = tensor_of(r, node, 4), *zero = tensor_of(r, node, 5);
    char name[64];
    int32_t channels = (int32_t)(scale->count > zero->count ? scale->count : zero->count);
    int64_t group = 1, values[8];
    snprintf(name, sizeof(name), "w%d", r->num_layers);
    mqb_value_id inputs[3] = {value_of(r, node->inputs[0]), hand_param(net, name, w->num_dims, w->dims, NULL), MQB_NONE};
    struct mqb_frozen *f =
        hand_freeze(net, inputs[1], MQB_ROLE_WEIGHT, channels, w->type == 2 ? 0 : -128, w->type == 2 ? 255 : 127);
    f->num_codes = w->count;
    f->codes = mqb_allocate_array((size_t)w->count, sizeof(int32_t));
    for (int64_t i = 0; i < w->count; i++)
        f->codes[i] = (int32_t)onnx_element(w, i);
    for (int32_t i = 0; i < channels; i++) {
        f->scale[i] = (float)onnx_element(scale, scale->count > 1 ? i : 0);
        f->zero_point[i] = (int32_t)onnx_element(zero, zero->count > 1 ? i : 0);
    }
    const struct onnx_tensor *bias =
        bias_at < node->num_inputs && node->inputs[bias_at].size > 0 ? tensor_of(r, node, bias_at) : NULL;
    int32_t *numbers = r->biases[r->num_layers] = mqb_allocate_array((size_t)w->dims[0], sizeof(int32_t));
    for (int64_t i = 0; bias && i < w->dims[0]; i++)
        numbers[i] = (int32_t)onnx_element(bias, i);
    snprintf(name, sizeof(name), "layer%d", r->num_layers++);
    mqb_node_id made = hand_node(net, op, name, 2, inputs);
    if (w->num_dims == 4) {
        copy_list(r, node, made, "strides");
        copy_list(r, node, made, "pads");
        copy_list(r, node, made, "dilations");
        group = onnx_attribute(node, "group", values) ? values[0] : 1;
        hand_attr_int(net, made, "group", group);
    }
    hand_infer(net);
    point(r, node, result_at, hand_out(net, made));
    return hand_out(net, made);
}

static mqb_value_id pool(struct rebuilt *r, const struct onnx_node *node, const char *op)
{
    struct hand_net *net = &r->net;
    char name[64];
    int64_t values[8];
    mqb_value_id x = value_of(r, node->inputs[0]);
    snprintf(name, sizeof(name), "pool%d", r->num_names);
    mqb_node_id made = hand_node(net, op, name, 1, &x);
    copy_list(r, node, made, "kernel_shape");
    copy_list(r, node, made, "strides");
    copy_list(r, node, made, "pads");
    if (onnx_attribute(node, "count_include_pad", values))
        hand_attr_int(net, made, "count_include_pad", values[0]);
    hand_infer(net);
    if (node->num_inputs > 3)
        point(r, node, 3, hand_out(net, made));
    return hand_out(net, made);
}

static mqb_value_id join(struct rebuilt *r, const struct onnx_node *node, const char *op, const int *operands, int num,
                         int result_at)
{
    struct hand_net *net = &r->net;
    mqb_value_id inputs[8];
    char name[64];
    for (int i = 0; i < num; i++)
        inputs[i] = value_of(r, node->inputs[operands[i]]);
    snprintf(name, sizeof(name), "join%d", r->num_names);
    mqb_node_id made = hand_node(net, op, name, num, inputs);
    if (op[0] == 'C')
        hand_attr_int(net, made, "axis", 1);
    hand_infer(net);
    point(r, node, result_at, hand_out(net, made));
    return hand_out(net, made);
}

static void rebuild_node(struct rebuilt *r, const struct onnx_node *node)
{
    static const int pair[] = {0, 3}, row[] = {2, 5, 8, 11};
    mqb_value_id made = MQB_NONE;
    if (onnx_is(node->op, "QuantizeLinear")) {
        made = r->net.graph->input;
        point(r, node, 1, made);
    } else if (onnx_is(node->op, "QLinearConv")) {
        made = layer(r, node, "Conv", 8, 6);
    } else if (onnx_is(node->op, "QGemm")) {
        made = layer(r, node, "Gemm", 6, 7);
    } else if (onnx_is(node->op, "QLinearAdd")) {
        made = join(r, node, "Add", pair, 2, 6);
    } else if (onnx_is(node->op, "QLinearConcat")) {
        made = join(r, node, "Concat", row, (node->num_inputs - 2) / 3, 0);
    } else if (onnx_is(node->op, "QLinearGlobalAveragePool")) {
        made = pool(r, node, "GlobalAveragePool");
    } else if (onnx_is(node->op, "QLinearAveragePool")) {
        made = pool(r, node, "AveragePool");
    } else if (onnx_is(node->op, "MaxPool")) {
        made = pool(r, node, "MaxPool");
    } else if (onnx_is(node->op, "Flatten")) {
        made = hand_unary(&r->net, "Flatten", "flatten", value_of(r, node->inputs[0]));
        hand_infer(&r->net);
    } else if (!onnx_is(node->op, "DequantizeLinear")) {
        fail_msg("operator %.*s", (int)node->op.size, (const char *)node->op.data);
    }
    if (made != MQB_NONE)
        keep(r, node->output, made);
}

/* ---- the comparison ---- */

static int64_t compare_tensor(const struct rebuilt *r, const struct mqb_program_tensor *t, const uint8_t *codes,
                              const json_t *want, const char *net_name)
{
    char name[64] = "";
    for (int i = 0; i < r->num_names; i++)
        if (r->values[i] == t->value)
            snprintf(name, sizeof(name), "%.*s", (int)r->names[i].size, (const char *)r->names[i].data);
    const struct mqb_value *v = &r->net.graph->values[t->value];
    int64_t channels = v->dims[1], pixels = t->size / channels;
    if ((int64_t)golden_size(want, name) != t->size)
        fail_msg("%s: tensor '%s' has %d codes, expected %d", net_name, name, (int)t->size, (int)golden_size(want, name));
    for (int64_t k = 0; k < channels; k++)
        for (int64_t p = 0; p < pixels; p++) {
            int32_t got = codes[p * channels + k] - (t->is_signed ? 128 : 0),
                    one = (int32_t)golden_at(want, name, (size_t)(k * pixels + p));
            if (got != one)
                fail_msg("%s: %s, channel %d, pixel %d: %d, expected %d", net_name, name, (int)k, (int)p, (int)got, (int)one);
        }
    return t->size;
}

static struct mqb_backend_rules runtime_rules(void)
{
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    rules.contract.fold = MQB_FOLD_F32_MUL_DIV;
    rules.contract.input_divide = 1;
    rules.contract.add_rule = MQB_ADD_FMA;
    rules.contract.pool_rule = MQB_POOL_ORT;
    return rules;
}

static float *read_input(const char *path, const int64_t *dims)
{
    int64_t channels = dims[1], pixels = dims[2] * dims[3];
    float *nchw = malloc((size_t)(channels * pixels) * sizeof(float)),
          *nhwc = malloc((size_t)(channels * pixels) * sizeof(float));
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(nchw, sizeof(float), (size_t)(channels * pixels), file), channels * pixels);
    fclose(file);
    for (int64_t k = 0; k < channels; k++)
        for (int64_t p = 0; p < pixels; p++)
            nhwc[p * channels + k] = nchw[k * pixels + p];
    free(nchw);
    return nhwc;
}

static void compare_net(const char *folder, const char *name)
{
    struct rebuilt made = {.num_names = 0}, *r = &made;
    struct hand_net *net = &r->net;
    struct mqb_backend_rules rules = runtime_rules();
    struct mqb_program *program;
    char path[512];
    int64_t dims[4], num_codes = 0;
    snprintf(path, sizeof(path), "ort/nets/%s/outputs.json", name);
    json_t *root = golden_open(path);
    const json_t *shape = json_object_get(json_object_get(root, "input"), "shape");
    for (size_t i = 0; i < 4; i++)
        dims[i] = json_integer_value(json_array_get(shape, i));
    hand_create(net, 1);
    hand_input(net, dims[1], dims[2], dims[3]);
    snprintf(path, sizeof(path), "%s/%s/qlinear_int_outputs.onnx", folder, name);
    onnx_read(path, &r->file);
    for (int i = 0; i < r->file.num_nodes; i++)
        rebuild_node(r, &r->file.nodes[i]);
    HAND_OK(mqb_program_create(&net->deploy, &rules, NULL, &program, &net->error));
    for (int32_t i = 0, at = 0; i < program->num_ops; i++)
        if (program->ops[i].conv) {
            memcpy(program->ops[i].conv->bias, r->biases[at], (size_t)program->ops[i].conv->shape.k * sizeof(int32_t));
            mqb_deallocate(r->biases[at++]);
        }
    snprintf(path, sizeof(path), "%s/%s/input.f32", folder, name);
    float *x = read_input(path, dims), logits[64];
    uint8_t *taps[MAX_TENSORS] = {NULL};
    int num = mqb_program_num_tensors(program);
    assert_int_equal(num, r->num_names);
    for (int i = 0; i < num; i++)
        taps[i] = malloc((size_t)mqb_program_tensor(program, i)->size);
    HAND_OK(mqb_program_run(program, NULL, x, 1, logits, taps, &net->error));
    static const char *const runs[] = {"qlinear_disabled", "qdqint_all_int8allowed", "qdqint_all"};
    const json_t *outputs = json_object_get(root, "outputs");
    for (int k = 0; k < 3; k++) {
        const json_t *want = json_object_get(outputs, runs[k]);
        if (!want || (k == 2 && json_object_get(outputs, runs[1]))) /* signed codes are fused with that option alone */
            continue;
        for (int i = 0; i < num; i++)
            num_codes += compare_tensor(r, mqb_program_tensor(program, i), taps[i], want, name);
        const json_t *reals = json_object_get(json_object_get(want, "output"), "data");
        assert_true(json_array_size(reals) > 0);
        for (size_t i = 0; i < json_array_size(reals); i++)
            assert_true(logits[i] == (float)json_number_value(json_array_get(reals, i)));
    }
    print_message("%s: %d codes in %d tensors\n", name, (int)num_codes, num);
    for (int i = 0; i < num; i++)
        free(taps[i]);
    free(x);
    mqb_program_destroy(program);
    onnx_free(&r->file);
    hand_destroy(net);
    json_decref(root);
}

static void test_program_networks_equal_onnx_runtime(void **state)
{
    (void)state;
    DIR *dir = opendir(MQB_SHARED "/golden/ort/nets");
    int num_nets = 0;
    if (!dir) {
        print_message("no reference networks in %s: skipped\n", MQB_SHARED "/golden/ort/nets");
        skip();
    }
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        if (entry->d_name[0] != '.') {
            compare_net(MQB_SHARED "/golden/ort/nets", entry->d_name);
            num_nets++;
        }
    closedir(dir);
    assert_true(num_nets >= 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_program_networks_equal_onnx_runtime)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
