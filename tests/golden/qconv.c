/*
 * qconv.c - family 5: quantized convolutions and linear layers as PyTorch's engines compute them, through the integer program:
 * once for the accumulators and integer biases, seen through the logits, once for the bytes that leave the layer.
 */
#include "integer.h"

#include "quant/hand_net.h"
#include "quant/program.h"

struct layer {
    struct golden_case *c;
    const json_t *hyper, *input;
    bool linear, bias;
    float s_x, s_y;
    int32_t z_x, z_y;
    int64_t n, c_in, h, w, k;
    struct hand_net net;
    mqb_node_id node;
    const struct mqb_frozen *weight;
};

static int64_t dim(const json_t *tensor, size_t index)
{
    return json_integer_value(json_array_get(json_object_get(tensor, "shape"), index));
}

static void build(struct layer *l)
{
    struct golden_case *c = l->c;
    struct hand_net *net = &l->net;
    const json_t *w = json_object_get(l->input, "w_s8");
    int32_t rank = (int32_t)json_array_size(json_object_get(w, "shape"));
    int64_t dims[4] = {0}, size = 1;
    for (int32_t i = 0; i < rank && i < 4; i++)
        size *= dims[i] = dim(w, (size_t)i);
    hand_create(net, 1);
    mqb_value_id inputs[3] = {hand_input(net, l->c_in, l->h, l->w), MQB_NONE, MQB_NONE};
    hand_point(net, inputs[0], l->s_x, l->z_x, 0, 255);
    inputs[1] = hand_param(net, "w", rank, dims, NULL);
    struct mqb_frozen *f = hand_freeze(net, inputs[1], MQB_ROLE_WEIGHT, (int32_t)golden_size(l->hyper, "w_scale"), -128, 127);
    f->num_codes = size;
    f->codes = mqb_allocate_array((size_t)size, sizeof(int32_t));
    for (int64_t i = 0; i < size && f->codes; i++)
        f->codes[i] = (int32_t)golden_at(c, l->input, "w_s8", (size_t)i);
    const json_t *scales = json_object_get(l->hyper, "w_scale");
    const json_t *list = json_is_object(scales) ? json_object_get(scales, "data") : scales;
    for (int32_t i = 0; i < f->num_channels; i++)
        f->scale[i] = (float)json_number_value(json_array_get(list, (size_t)i));
    l->weight = f;
    if (l->bias) {
        struct golden_tensor b = golden_need(c, l->input, "bias");
        inputs[2] = hand_param(net, "b", 1, &l->k, NULL);
        for (int64_t i = 0; i < l->k && i < b.size; i++)
            net->graph->values[inputs[2]].data[i] = b.data[i];
    }
    l->node = hand_node(net, l->linear ? "Gemm" : "Conv", "layer", l->bias ? 3 : 2, inputs);
    if (!l->linear) {
        int64_t stride = golden_int(l->hyper, "stride"), pad = golden_int(l->hyper, "padding");
        hand_list(net, l->node, "strides", 2, (int64_t[]){stride, stride});
        hand_list(net, l->node, "pads", 4, (int64_t[]){pad, pad, pad, pad});
        hand_attr_int(net, l->node, "group", golden_int(l->hyper, "groups"));
    }
    hand_infer(net);
}

/* The reals, NHWC, that quantize to exactly the case's codes. */
static float *reals_of(struct layer *l)
{
    int64_t pixels = l->linear ? 1 : l->h * l->w;
    float *x = golden_alloc(l->c, l->n * l->c_in * pixels, sizeof(float));
    for (int64_t i = 0; i < l->n; i++)
        for (int64_t j = 0; j < l->c_in; j++)
            for (int64_t p = 0; p < pixels; p++)
                x[(i * pixels + p) * l->c_in + j] =
                    l->s_x *
                    (float)((int32_t)golden_at(l->c, l->input, "x_u8", (size_t)((i * l->c_in + j) * pixels + p)) - l->z_x);
    return x;
}

static void compare_accumulators(struct layer *l)
{
    struct golden_case *c = l->c;
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    struct mqb_program *program;
    if (!golden_ok(c, mqb_program_create(&l->net.deploy, &rules, NULL, &program, &c->error)))
        return;
    for (int64_t j = 0; l->bias && j < l->k; j++)
        if (program->ops[0].conv->bias[j] != golden_at(c, l->input, "bias_i32", (size_t)j))
            golden_problem(c, "bias[%lld] = %d", (long long)j, (int)program->ops[0].conv->bias[j]);
    int64_t size = mqb_value_size(&l->net.graph->values[l->net.graph->output]), out = size / l->k;
    float *logits = golden_alloc(c, l->n * size, sizeof(float));
    if (golden_ok(c, mqb_program_run(program, NULL, reals_of(l), (int)l->n, logits, NULL, &c->error))) {
        for (int64_t i = 0; i < l->n * size && !c->problem[0]; i++) {
            int64_t a = i / size, j = i % size / out, p = i % out;
            float acc = (float)golden_at(c, l->input, "acc_i32", (size_t)i); /* below 2^24 the float is the integer */
            float want = acc * (l->s_x * l->weight->scale[l->weight->num_channels > 1 ? j : 0]);
            float got = logits[a * size + p * l->k + j];
            if (got != want)
                golden_problem(c, "accumulator[%lld] as a real = %.9g, expected %.9g", (long long)i, (double)got, (double)want);
        }
    }
    mqb_program_destroy(program);
}

static void compare_outputs(struct layer *l)
{
    struct golden_case *c = l->c;
    struct hand_net *net = &l->net;
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    const json_t *expected = json_object_get(c->item, "expected");
    struct mqb_program *program;
    mqb_value_id y = hand_out(net, l->node);
    if (golden_int(l->hyper, "relu")) {
        y = hand_unary(net, "Relu", "relu", y);
        hand_infer(net);
    }
    hand_point(net, y, l->s_y, l->z_y, 0, 255);
    if (!golden_ok(c, mqb_program_create(&net->deploy, &rules, NULL, &program, &c->error)))
        return;
    int last = mqb_program_num_tensors(program) - 1;
    const struct mqb_program_tensor *t = mqb_program_tensor(program, last);
    int64_t channels = net->graph->values[t->value].dims[1], pixels = t->size / channels;
    uint8_t **taps = golden_alloc(c, last + 1, sizeof(uint8_t *));
    taps[last] = golden_alloc(c, l->n * t->size, 1);
    float *logits = golden_alloc(c, l->n * mqb_value_size(&net->graph->values[net->graph->output]), sizeof(float));
    if ((int64_t)golden_size(expected, "output_u8") != l->n * t->size)
        golden_problem(c, "the file has %zu outputs, the program %lld", golden_size(expected, "output_u8"),
                       (long long)(l->n * t->size));
    else if (golden_ok(c, mqb_program_run(program, NULL, reals_of(l), (int)l->n, logits, taps, &c->error))) {
        for (int64_t i = 0; i < l->n * t->size && !c->problem[0]; i++) {
            int64_t a = i / t->size, j = i % t->size / pixels, p = i % pixels;
            int got = taps[last][a * t->size + p * channels + j] - (t->is_signed ? 128 : 0);
            int64_t want = golden_at(c, expected, "output_u8", (size_t)i);
            if (got != want)
                golden_problem(c, "output[%lld] = %d, expected %lld", (long long)i, got, (long long)want);
        }
    }
    mqb_program_destroy(program);
}

void golden_qconv_case(struct golden_case *c)
{
    struct layer l = {.c = c, .hyper = json_object_get(c->item, "hyper"), .input = json_object_get(c->item, "input")};
    const json_t *x = json_object_get(l.input, "x_u8");
    l.linear = json_array_size(json_object_get(x, "shape")) == 2;
    l.bias = json_is_object(json_object_get(l.input, "bias"));
    l.s_x = (float)golden_number(c, l.hyper, "in_scale");
    l.s_y = (float)golden_number(c, l.hyper, "out_scale");
    l.z_x = (int32_t)golden_int(l.hyper, "in_zero_point");
    l.z_y = (int32_t)golden_int(l.hyper, "out_zero_point");
    l.n = dim(x, 0);
    l.c_in = dim(x, 1);
    l.h = l.linear ? 0 : dim(x, 2);
    l.w = l.linear ? 0 : dim(x, 3);
    l.k = dim(json_object_get(l.input, "w_s8"), 0);
    if (c->problem[0] || l.n < 1 || l.k < 1) {
        golden_problem(c, "the layer is not there");
        return;
    }
    build(&l);
    compare_accumulators(&l);
    hand_destroy(&l.net);
    build(&l);
    compare_outputs(&l);
    hand_destroy(&l.net);
}
