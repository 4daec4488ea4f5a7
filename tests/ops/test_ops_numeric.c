/* test_ops_numeric.c - forward and gradients of the operators against naive references in double precision.
 * The references index by ONNX's dimensions: n, channel, row, column. */
#include "drive.h"

static int64_t dim(const struct mqb_value *value, int i)
{
    return i < value->rank ? value->dims[i] : 1;
}

/* Where an element of a batched value lies in memory. */
static int64_t at(const struct mqb_value *value, int64_t n, int64_t c, int64_t h, int64_t w)
{
    return ((n * dim(value, 2) + h) * dim(value, 3) + w) * dim(value, 1) + c;
}

static const struct mqb_value *input(const struct one_node *t, int i)
{
    return &t->values[i];
}

static const struct mqb_value *output(const struct one_node *t)
{
    return &t->values[t->node.output];
}

#define FOR_EACH(value)                                                                                                        \
    for (int64_t n = 0; n < BATCH; n++)                                                                                        \
        for (int64_t c = 0; c < dim(value, 1); c++)                                                                            \
            for (int64_t h = 0; h < dim(value, 2); h++)                                                                        \
                for (int64_t w = 0; w < dim(value, 3); w++)

/* ---- elementwise ---- */

static void reference_elementwise(const struct one_node *t, const double *const *in, double *out)
{
    const char *op = t->node.op->name;
    int64_t size = drive_value_size(output(t));
    for (int64_t i = 0; i < size; i++) {
        double x = in[0][i];
        if (strcmp(op, "Relu") == 0)
            out[i] = x > 0 ? x : 0;
        else if (strcmp(op, "Clip") == 0)
            out[i] = fmin(fmax(x, -0.25), 0.5);
        else if (strcmp(op, "Sigmoid") == 0)
            out[i] = 1 / (1 + exp(-x));
        else if (strcmp(op, "HardSigmoid") == 0)
            out[i] = fmin(fmax(x * 0.7 + 0.4, 0), 1);
        else if (strcmp(op, "LeakyRelu") == 0)
            out[i] = x > 0 ? x : 0.3 * x;
        else if (strcmp(op, "HardSwish") == 0)
            out[i] = x * fmin(fmax(x + 3, 0), 6) / 6;
        else if (strcmp(op, "Add") == 0)
            out[i] = x + in[1][i];
        else
            out[i] = x * in[1][i];
    }
}

static void test_elementwise_values_and_gradients(void **state)
{
    static const char *const ops[] = {"Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "Add", "Mul"};
    (void)state;
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
        for (int rank = 2; rank <= 4; rank += 2) {
            struct one_node t;
            struct drive d;
            one_node_init(&t, ops[i]);
            for (int32_t k = 0; k < t.node.op->min_inputs; k++)
                one_node_input(&t, MQB_VALUE_INPUT, (size_t)rank, (int64_t[]){N, 7, 3, 2});
            if (strcmp(ops[i], "Clip") == 0) {
                one_node_real(&t, "min", -0.25);
                one_node_real(&t, "max", 0.5);
            }
            if (strcmp(ops[i], "HardSigmoid") == 0) {
                one_node_real(&t, "alpha", 0.7);
                one_node_real(&t, "beta", 0.4);
            }
            if (strcmp(ops[i], "LeakyRelu") == 0)
                one_node_real(&t, "alpha", 0.3);
            drive_create(&d, &t, true);
            if (strcmp(ops[i], "HardSwish") == 0 || strcmp(ops[i], "Sigmoid") == 0)
                for (int64_t k = 0; k < d.size[0]; k++)
                    d.in[0][k] *= 5;
            drive_check(&d, reference_elementwise, 2e-6);
            drive_destroy(&d);
        }
}

static void block_of(struct mqb_op_block *block, const float *x, float *y, int64_t size)
{
    memset(block, 0, sizeof(*block));
    block->rows = size;
    block->channels = 1;
    block->in[0] = x;
    block->out = y;
}

static void test_elementwise_ends_exact(void **state)
{
    static const struct {
        const char *op;
        float x, y, dx; /* dx for dy = 1 */
    } cases[] = {
        {"Relu", 0, 0, 0},           {"Relu", -0.0f, 0, 0},  {"Relu", INFINITY, INFINITY, 1}, {"Clip", 0, 0, 0},
        {"Clip", 6, 6, 0},           {"Clip", 3, 3, 1},      {"Clip", -INFINITY, 0, 0},       {"Sigmoid", 0, 0.5f, 0.25f},
        {"Sigmoid", INFINITY, 1, 0}, {"Sigmoid", 100, 1, 0}, {"HardSigmoid", -2.5f, 0, 0},    {"HardSigmoid", 2.5f, 1, 0},
        {"HardSwish", -3, 0, 0},     {"HardSwish", 3, 3, 1}, {"HardSwish", 9, 9, 1},
        {"LeakyRelu", 0, 0, 0.01f},  {"LeakyRelu", -8, -0.08f, 0.01f}, {"LeakyRelu", 7, 7, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct one_node t;
        one_node_init(&t, cases[i].op);
        if (strcmp(cases[i].op, "Clip") == 0) {
            one_node_real(&t, "min", 0);
            one_node_real(&t, "max", 6);
        }
        struct mqb_op_context context = {.node = &t.node};
        struct mqb_op_block block;
        float y, dx, dy = 1;
        block_of(&block, &cases[i].x, &y, 1);
        t.node.op->forward_block(&context, &block);
        assert_true(y == cases[i].y);
        assert_false(strcmp(cases[i].op, "Relu") == 0 && signbit(y));
        block.dout = &dy;
        block.din[0] = &dx;
        t.node.op->backward_block(&context, &block);
        assert_true(dx == cases[i].dx);
    }
    static const char *const ops[] = {"Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu"};
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) { /* a diverged network must show */
        struct one_node t;
        one_node_init(&t, ops[i]);
        struct mqb_op_context context = {.node = &t.node};
        struct mqb_op_block block;
        float x = NAN, y = 0;
        block_of(&block, &x, &y, 1);
        t.node.op->forward_block(&context, &block);
        assert_true(isnan(y));
    }
}

static void test_sigmoid_close_to_exp_everywhere(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Sigmoid");
    struct mqb_op_context context = {.node = &t.node};
    for (float x = -86; x < 86; x += 0.0371f) {
        struct mqb_op_block block;
        float y;
        block_of(&block, &x, &y, 1);
        t.node.op->forward_block(&context, &block);
        double expected = 1 / (1 + exp(-(double)x));
        assert_true(fabs((double)y - expected) <= 4e-7 * expected);
    }
}

/* ---- convolutions ---- */

static void reference_conv(const struct one_node *t, const double *const *in, double *out)
{
    const struct mqb_value *x = input(t, 0), *weight = input(t, 1), *y = output(t);
    int64_t group = mqb_attr_i(&t->node, "group", 1), kg = y->dims[1] / group;
    int64_t stride_h = mqb_attr_li(&t->node, "strides", 0, 1), stride_w = mqb_attr_li(&t->node, "strides", 1, 1);
    int64_t top = mqb_attr_li(&t->node, "pads", 0, 0), left = mqb_attr_li(&t->node, "pads", 1, 0);
    int64_t dilation_h = mqb_attr_li(&t->node, "dilations", 0, 1), dilation_w = mqb_attr_li(&t->node, "dilations", 1, 1);
    FOR_EACH(y)
    {
        double sum = t->node.num_inputs > 2 && t->node.inputs[2] != MQB_NONE ? in[2][c] : 0;
        for (int64_t i = 0; i < weight->dims[1]; i++)
            for (int64_t r = 0; r < dim(weight, 2); r++)
                for (int64_t s = 0; s < dim(weight, 3); s++) {
                    int64_t ih = h * stride_h - top + r * dilation_h, iw = w * stride_w - left + s * dilation_w;
                    if (ih >= 0 && ih < dim(x, 2) && iw >= 0 && iw < dim(x, 3))
                        sum += in[0][at(x, n, c / kg * weight->dims[1] + i, ih, iw)] *
                               in[1][((c * weight->dims[1] + i) * dim(weight, 2) + r) * dim(weight, 3) + s];
                }
        out[at(y, n, c, h, w)] = sum;
    }
}

static void conv(struct one_node *t)
{
    one_node_init(t, "Conv");
    one_node_input(t, MQB_VALUE_INPUT, DIMS(N, 4, 6, 5));
    one_node_input(t, MQB_VALUE_PARAM, DIMS(6, 2, 3, 2));
    one_node_int(t, "group", 2);
    one_node_list(t, "strides", DIMS(2, 1));
    one_node_list(t, "pads", DIMS(1, 0, 2, 1));
    one_node_list(t, "dilations", DIMS(1, 2));
}

static void test_conv_values_and_gradients(void **state)
{
    struct one_node t;
    (void)state;
    conv(&t);
    drive_run(&t, true, reference_conv, 2e-6);
    conv(&t);
    one_node_absent(&t);
    drive_run(&t, true, reference_conv, 2e-6);
    conv(&t);
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(6));
    drive_run(&t, true, reference_conv, 2e-6);
}

static void test_gemm_values_and_gradients(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Gemm");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 9));
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(5, 9));
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(5));
    drive_run(&t, true, reference_conv, 2e-6);
    t.node.num_inputs = 2;
    drive_run(&t, true, reference_conv, 2e-6);
}

static void test_conv_unsupported_shape_says_why(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Conv");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 3, 9, 9));
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(4, 3, 7, 7));
    assert_int_equal(one_node_infer(&t), MQB_OK);
    struct mqb_host host = {.struct_size = sizeof(host)};
    struct mqb_op_context context = {
        .graph = &t.graph, .node = &t.node, .compute = &naive_compute, .max_images = 1, .host = &host};
    size_t scratch_size;
    assert_int_equal(t.node.op->create(&context, &scratch_size, &t.error), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(t.error.text, "no kernel for 7 rows"));
    t.node.op->destroy(&context);
    context.host = NULL;
    assert_int_equal(t.node.op->create(&context, &scratch_size, &t.error), MQB_ERR_INTERNAL);
}

/* ---- pooling ---- */

static void reference_pool(const struct one_node *t, const double *const *in, double *out)
{
    const struct mqb_value *x = input(t, 0), *y = output(t);
    const struct mqb_node *node = &t->node;
    bool largest = strcmp(node->op->name, "MaxPool") == 0, count_pad = mqb_attr_i(node, "count_include_pad", 0) != 0;
    int64_t top = mqb_attr_li(node, "pads", 0, 0), left = mqb_attr_li(node, "pads", 1, 0);
    int64_t bottom = mqb_attr_li(node, "pads", 2, 0), right = mqb_attr_li(node, "pads", 3, 0);
    int64_t rows = mqb_attr_li(node, "kernel_shape", 0, 0), columns = mqb_attr_li(node, "kernel_shape", 1, 0);
    int64_t stride_h = mqb_attr_li(node, "strides", 0, 1), stride_w = mqb_attr_li(node, "strides", 1, 1);
    FOR_EACH(y)
    {
        double best = -INFINITY, sum = 0, count = 0;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t s = 0; s < columns; s++) {
                int64_t ih = h * stride_h - top + r, iw = w * stride_w - left + s;
                bool inside = ih >= 0 && ih < x->dims[2] && iw >= 0 && iw < x->dims[3];
                bool padded = ih < x->dims[2] + bottom && iw < x->dims[3] + right;
                count += inside || (count_pad && padded);
                if (inside) {
                    best = fmax(best, in[0][at(x, n, c, ih, iw)]);
                    sum += in[0][at(x, n, c, ih, iw)];
                }
            }
        out[at(y, n, c, h, w)] = largest ? best : sum / count;
    }
}

static void test_pools_values_and_gradients(void **state)
{
    static const char *const ops[] = {"MaxPool", "AveragePool"};
    (void)state;
    for (size_t i = 0; i < 2; i++)
        for (int variant = 0; variant < 4; variant++) {
            struct one_node t;
            one_node_init(&t, ops[i]);
            if (variant == 3) /* more channels than are handled at a time */
                one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 67, 2, 2));
            else
                one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 3, 6, 5));
            one_node_list(&t, "kernel_shape", DIMS(3, 2));
            one_node_list(&t, "strides", DIMS(2, 1));
            one_node_list(&t, "pads", DIMS(1, 0, 2, 1));
            one_node_int(&t, "ceil_mode", variant & 1);
            one_node_int(&t, "count_include_pad", variant >> 1);
            drive_run(&t, true, reference_pool, 2e-6);
        }
}

static void test_max_pool_equal_elements_first_takes_gradient(void **state)
{
    struct one_node t;
    struct drive d;
    (void)state;
    one_node_init(&t, "MaxPool");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 1, 2, 2));
    one_node_list(&t, "kernel_shape", DIMS(2, 2));
    drive_create(&d, &t, true);
    for (int64_t i = 0; i < d.size[0]; i++)
        d.in[0][i] = i % 4 == 0 ? -1.0f : 2.0f;
    assert_int_equal(drive_forward(&d), MQB_OK);
    drive_backward(&d, false);
    for (int64_t i = 0; i < d.size[0]; i++)
        assert_true(d.din[0][i] == (i % 4 == 1 ? d.dout[i / 4] : 0.0f));
    d.in[0][3] = NAN;
    assert_int_equal(drive_forward(&d), MQB_OK);
    assert_true(isnan(d.out[0]));
    drive_destroy(&d);
}

static void reference_mean(const struct one_node *t, const double *const *in, double *out)
{
    const struct mqb_value *x = input(t, 0), *y = output(t);
    FOR_EACH(y)
    out[at(y, n, c, 0, 0)] = 0;
    FOR_EACH(x)
    out[at(y, n, c, 0, 0)] += in[0][at(x, n, c, h, w)] / (double)(x->dims[2] * x->dims[3]);
}

static void test_global_average_pool_values_and_gradients(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "GlobalAveragePool");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 35, 2, 3));
    drive_run(&t, true, reference_mean, 2e-6);
}

/* ---- rearrangements: exact ---- */

static void reference_gate(const struct one_node *t, const double *const *in, double *out)
{
    const struct mqb_value *x = input(t, 0), *gate = input(t, 1);
    FOR_EACH(x)
    out[at(x, n, c, h, w)] = in[0][at(x, n, c, h, w)] * in[1][at(gate, n, c, 0, 0)];
}

static void test_mul_gate_values_and_gradients(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Mul");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 35, 2, 3));
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 35, 1, 1));
    drive_run(&t, true, reference_gate, 2e-6);
}

static void reference_concat(const struct one_node *t, const double *const *in, double *out)
{
    int64_t first = 0;
    for (int i = 0; i < t->node.num_inputs; i++) {
        const struct mqb_value *x = input(t, i);
        FOR_EACH(x)
        out[at(output(t), n, first + c, h, w)] = in[i][at(x, n, c, h, w)];
        first += x->dims[1];
    }
}

static void test_concat_values_and_gradients(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Concat");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 3, 2, 3));
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 1, 2, 3));
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 4, 2, 3));
    drive_run(&t, true, reference_concat, 1e-6);
}

static void reference_slice(const struct one_node *t, const double *const *in, double *out)
{
    const struct mqb_value *x = input(t, 0), *y = output(t);
    FOR_EACH(y)
    out[at(y, n, c, h, w)] = in[0][at(x, n, 1 + c * 2, 1 + h * 3, w)];
}

static void test_slice_values_and_gradients(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Slice");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 6, 5, 4));
    one_node_list(&t, "starts", DIMS(0, 1, 1, 0));
    one_node_list(&t, "ends", DIMS(0, 6, 5, 99));
    one_node_list(&t, "steps", DIMS(1, 2, 3, 1));
    drive_run(&t, true, reference_slice, 1e-6);
}

static void reference_pad(const struct one_node *t, const double *const *in, double *out)
{
    const struct mqb_value *x = input(t, 0), *y = output(t);
    FOR_EACH(y)
    out[at(y, n, c, h, w)] = -0.5;
    FOR_EACH(x)
    out[at(y, n, c + 1, h + 2, w)] = in[0][at(x, n, c, h, w)];
}

static void test_pad_values_and_gradients(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Pad");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 3, 2, 4));
    one_node_list(&t, "pads_begin", DIMS(0, 1, 2, 0));
    one_node_list(&t, "pads_end", DIMS(0, 2, 0, 1));
    one_node_real(&t, "value", -0.5);
    drive_run(&t, true, reference_pad, 1e-6);
}

static void reference_flatten(const struct one_node *t, const double *const *in, double *out)
{
    const struct mqb_value *x = input(t, 0);
    FOR_EACH(x)
    out[((n * x->dims[1] + c) * x->dims[2] + h) * x->dims[3] + w] = in[0][at(x, n, c, h, w)];
}

static void test_flatten_values_and_gradients(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "Flatten");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 3, 2, 4));
    drive_run(&t, true, reference_flatten, 1e-6);
    one_node_init(&t, "Flatten");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 8, 1, 1));
    drive_run(&t, true, reference_flatten, 1e-6);
}

static void reference_shuffle(const struct one_node *t, const double *const *in, double *out)
{
    const struct mqb_value *x = input(t, 0);
    int64_t group = mqb_attr_i(&t->node, "group", 1), rest = x->dims[1] / group;
    FOR_EACH(x)
    out[at(x, n, c % rest * group + c / rest, h, w)] = in[0][at(x, n, c, h, w)];
}

static void test_channel_shuffle_values_and_gradients(void **state)
{
    struct one_node t;
    (void)state;
    one_node_init(&t, "ChannelShuffle");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 6, 2, 3));
    one_node_int(&t, "group", 3);
    drive_run(&t, true, reference_shuffle, 1e-6);
}

/* ---- parameters ---- */

static void reference_batch_scale(const struct one_node *t, const double *const *in, double *out)
{
    for (int64_t c = 0; c < output(t)->dims[0]; c++)
        out[c] = in[0][c] / sqrt(in[1][c] + 1e-3);
}

static void test_batch_scale_values_and_gradients(void **state)
{
    struct one_node t;
    struct drive d;
    (void)state;
    one_node_init(&t, "BatchScale");
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(6));
    one_node_input(&t, MQB_VALUE_STATE, DIMS(6));
    one_node_real(&t, "epsilon", 1e-3);
    drive_create(&d, &t, true);
    drive_check(&d, reference_batch_scale, 2e-6);
    d.in[1][4] = -2;
    assert_int_equal(drive_forward(&d), MQB_ERR_NUMERIC);
    assert_non_null(strstr(t.error.text, "channel 4"));
    drive_destroy(&d);
}

static void reference_folded_bias(const struct one_node *t, const double *const *in, double *out)
{
    int64_t size = drive_value_size(output(t));
    for (int64_t c = 0; c < size; c++)
        out[c] = in[0][c] + ((t->node.num_inputs > 3 ? in[3][c] : 0.0) - in[1][c]) * in[2][c];
}

static void test_folded_bias_values_and_gradients(void **state)
{
    (void)state;
    for (int with_bias = 0; with_bias < 2; with_bias++) {
        struct one_node t;
        struct drive d;
        one_node_init(&t, "FoldedBias");
        for (int i = 0; i < 3 + with_bias; i++)
            one_node_input(&t, i == 1 ? MQB_VALUE_STATE : MQB_VALUE_PARAM, DIMS(6));
        drive_create(&d, &t, true);
        drive_check(&d, reference_folded_bias, 2e-6);
        drive_destroy(&d);
    }
}

static void reference_scale_channels(const struct one_node *t, const double *const *in, double *out)
{
    int64_t size = drive_value_size(output(t)), per_channel = size / output(t)->dims[0];
    for (int64_t i = 0; i < size; i++)
        out[i] = in[0][i] * in[1][i / per_channel];
}

static void test_scale_channels_values_and_gradients(void **state)
{
    struct one_node t;
    struct drive d;
    struct mqb_pool *pool;
    (void)state;
    one_node_init(&t, "ScaleChannels");
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(6, 2, 3, 1));
    one_node_input(&t, MQB_VALUE_RESULT, DIMS(6));
    drive_run(&t, true, reference_scale_channels, 2e-6);
    /* Many pieces, on threads: the same numbers as in one go. */
    one_node_init(&t, "ScaleChannels");
    one_node_input(&t, MQB_VALUE_PARAM, DIMS(300, 40, 5, 1));
    one_node_input(&t, MQB_VALUE_RESULT, DIMS(300));
    drive_create(&d, &t, true);
    assert_int_equal(drive_forward(&d), MQB_OK);
    drive_backward(&d, false);
    float *dsf = malloc(300 * sizeof(float));
    memcpy(dsf, d.din[1], 300 * sizeof(float));
    memset(d.din[1], 0, 300 * sizeof(float));
    assert_int_equal(mqb_pool_create(3, &pool, NULL), MQB_OK);
    d.context.pool = pool;
    drive_backward(&d, false);
    assert_memory_equal(dsf, d.din[1], 300 * sizeof(float));
    mqb_pool_destroy(pool);
    free(dsf);
    drive_destroy(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementwise_values_and_gradients),
        cmocka_unit_test(test_elementwise_ends_exact),
        cmocka_unit_test(test_sigmoid_close_to_exp_everywhere),
        cmocka_unit_test(test_conv_values_and_gradients),
        cmocka_unit_test(test_gemm_values_and_gradients),
        cmocka_unit_test(test_conv_unsupported_shape_says_why),
        cmocka_unit_test(test_pools_values_and_gradients),
        cmocka_unit_test(test_max_pool_equal_elements_first_takes_gradient),
        cmocka_unit_test(test_global_average_pool_values_and_gradients),
        cmocka_unit_test(test_mul_gate_values_and_gradients),
        cmocka_unit_test(test_concat_values_and_gradients),
        cmocka_unit_test(test_slice_values_and_gradients),
        cmocka_unit_test(test_pad_values_and_gradients),
        cmocka_unit_test(test_flatten_values_and_gradients),
        cmocka_unit_test(test_channel_shuffle_values_and_gradients),
        cmocka_unit_test(test_batch_scale_values_and_gradients),
        cmocka_unit_test(test_folded_bias_values_and_gradients),
        cmocka_unit_test(test_scale_channels_values_and_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
