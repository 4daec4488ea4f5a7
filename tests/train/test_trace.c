/*
 * test_trace.c - whole training steps against recorded ones (golden family 6): an FP32 network, and the same under LSQ 4 bit with
 * batch norm folded by strategy 4, asymmetric per tensor and symmetric per channel. Each step starts from the recorded state,
 * so that one rounding flip does not hide the rest.
 */
#include "common/support.h"
#include "train/train.h"

#include <jansson.h>
#include <math.h>

#define C 12
#define N 8
#define HW 12
#define CLASSES 10

/* float32 .npy of known size; int64 ones are not asked for. */
static void load_npy(const json_t *tensor, float *data, int64_t size)
{
    char path[512];
    if (json_object_get(tensor, "file") == NULL)
        fail_msg("a tensor that the trace does not have was asked for");
    snprintf(path, sizeof path, "%s/golden/%s", MQB_SHARED, json_string_value(json_object_get(tensor, "file")));
    void *text;
    size_t length;
    OK(mqb_file_read(path, 1 << 24, &text, &length, &err));
    size_t header = 10 + *(uint16_t *)(void *)((char *)text + 8);
    assert_int_equal(length - header, (size_t)size * sizeof(float));
    memcpy(data, (char *)text + header, (size_t)size * sizeof(float));
    mqb_deallocate(text);
}

static float *load_new(const json_t *tensor, int64_t size)
{
    float *data = malloc((size_t)size * sizeof *data);
    load_npy(tensor, data, size);
    return data;
}

static mqb_value_id add(struct mqb_graph *g, int kind, const char *name, int rank, const int64_t *dims)
{
    mqb_value_id id;
    int64_t size = 1;
    for (int i = 0; i < rank; i++)
        size *= dims[i] < 0 ? 1 : dims[i];
    float *zero = calloc((size_t)size, sizeof *zero);
    OK(mqb_graph_calls.add_value(g, kind, name, rank, dims, zero, &id, &err));
    free(zero);
    return id;
}

static mqb_value_id node(struct mqb_graph *g, const char *op, const char *name, int n, const mqb_value_id *inputs)
{
    mqb_node_id id;
    OK(mqb_graph_calls.add_node(g, op, name, inputs, n, &id, &err));
    return mqb_graph_calls.output(g, id);
}
#define NODE(g, op, name, ...)                                                                                        \
    node(g, op, name, (int)(sizeof((mqb_value_id[]){__VA_ARGS__}) / sizeof(mqb_value_id)), (mqb_value_id[]){__VA_ARGS__})

struct trace {
    struct mqb_graph *g;
    bool quantized;
    struct mqb_points points;
    struct mqb_point point[8];
    struct mqb_point *list[8];
    struct mqb_pool *pool;
};

static mqb_value_id conv_bn(struct mqb_graph *g, bool quantized, mqb_value_id x, mqb_value_id w, const char *conv, const char *bn,
                            int64_t group)
{
    char names[4][32];
    mqb_value_id v[4];
    const char *parts[4] = {"weight", "bias", "running_mean", "running_var"};
    const int64_t dims[1] = {C};
    for (int i = 0; i < 4; i++) {
        snprintf(names[i], sizeof names[i], "%s.%s", bn, parts[i]);
        v[i] = add(g, i < 2 ? MQB_VALUE_PARAM : MQB_VALUE_STATE, names[i], 1, dims);
    }
    char q[48];
    mqb_value_id sf = MQB_NONE, weight = w;
    if (quantized) {
        snprintf(q, sizeof q, "%s.sf", conv);
        sf = NODE(g, "BatchScale", q, v[0], v[3]);
        snprintf(q, sizeof q, "%s.folded", conv);
        weight = NODE(g, "ScaleChannels", q, w, sf);
        snprintf(q, sizeof q, "%s.weight_fake_quant", conv);
        weight = NODE(g, "FakeQuantize", q, weight);
    }
    mqb_value_id u = NODE(g, "Conv", conv, x, weight);
    mqb_node_id id = mqb_graph_calls.producer(g, u);
    const int64_t pads[4] = {1, 1, 1, 1}, ones[2] = {1, 1};
    OK(mqb_node_set_list(g, id, "pads", pads, 4, &err));
    OK(mqb_node_set_list(g, id, "strides", ones, 2, &err));
    OK(mqb_node_set_list(g, id, "dilations", ones, 2, &err));
    OK(mqb_graph_calls.set_attr_int(g, id, "group", group, &err));
    mqb_value_id inputs[6] = {u, v[0], v[1], v[2], v[3], sf};
    return node(g, "BatchNormalization", bn, quantized ? 6 : 5, inputs);
}

static mqb_value_id quantize(struct mqb_graph *g, bool quantized, const char *name, mqb_value_id x)
{
    return quantized ? NODE(g, "FakeQuantize", name, x) : x;
}

static void attach_points(struct trace *t, const struct mqb_quantizer *lsq, bool symmetric, struct mqb_options *options)
{
    struct mqb_graph *g = t->g;
    for (int i = 0; i < g->num_ordered; i++) {
        mqb_node_id id = g->order[i];
        if (strcmp(g->nodes[id].op->name, "FakeQuantize") != 0)
            continue;
        const struct mqb_value *in = &g->values[g->nodes[id].inputs[0]];
        struct mqb_point *p = &t->point[t->points.num_points];
        const char *name = g->nodes[id].name;
        bool weight = !in->batched;
        bool four = strcmp(name, "q1") == 0 || strcmp(name, "q2") == 0 || strcmp(name, "dw.weight_fake_quant") == 0;
        *p = (struct mqb_point){.name = (char *)(uintptr_t)name, .node = id, .quantizer = lsq, .mode = MQB_POINT_ON};
        p->scheme = (struct mqb_scheme){.struct_size = sizeof p->scheme, .role = weight ? MQB_ROLE_WEIGHT : MQB_ROLE_ACTIVATION,
                                        .bits = four ? 4 : 8, .qmin = four ? -8 : -128, .qmax = four ? 7 : 127, .symmetric = symmetric,
                                        .per_channel = weight && symmetric, .num_channels = weight && symmetric ? (int32_t)in->dims[0] : 1};
        OK(lsq->create(mqb_host_table(), &p->scheme, options, &p->self, &err));
        g->nodes[id].point = p;
        t->list[t->points.num_points++] = p;
    }
    t->points.points = t->list;
}

static void build(struct trace *t, bool quantized)
{
    struct mqb_graph *g;
    OK(mqb_graph_create(&mqb_ops, &g, &err));
    t->g = g;
    t->quantized = quantized;
    const int64_t in[4] = {MQB_BATCH, 3, HW, HW}, w1[4] = {C, 3, 3, 3}, w2[4] = {C, 1, 3, 3}, wf[2] = {CLASSES, C}, bf[1] = {CLASSES};
    mqb_value_id x;
    OK(mqb_graph_add_input(g, "x", 4, in, &x, &err));
    mqb_value_id conv1 = add(g, MQB_VALUE_PARAM, "conv1.weight", 4, w1), dw = add(g, MQB_VALUE_PARAM, "dw.weight", 4, w2);
    mqb_value_id fc_w = add(g, MQB_VALUE_PARAM, "fc.weight", 2, wf), fc_b = add(g, MQB_VALUE_PARAM, "fc.bias", 1, bf);
    x = quantize(g, quantized, "q_in", x);
    mqb_value_id a = quantize(g, quantized, "q1", NODE(g, "Relu", "relu1", conv_bn(g, quantized, x, conv1, "conv1", "bn1", 1)));
    mqb_value_id clip = NODE(g, "Clip", "relu6", conv_bn(g, quantized, a, dw, "dw", "bn2", C));
    OK(mqb_graph_calls.set_attr_real(g, mqb_graph_calls.producer(g, clip), "min", 0.0, &err));
    OK(mqb_graph_calls.set_attr_real(g, mqb_graph_calls.producer(g, clip), "max", 6.0, &err));
    mqb_value_id b = quantize(g, quantized, "q2", clip);
    mqb_value_id y = quantize(g, quantized, "q3", NODE(g, "Add", "add", a, b));
    mqb_value_id p = NODE(g, "Flatten", "flat", NODE(g, "GlobalAveragePool", "pool", y));
    mqb_value_id fw = quantize(g, quantized, "wq_fc", fc_w);
    OK(mqb_graph_set_output(g, NODE(g, "Gemm", "fc", p, fw, fc_b), &err));
    OK(mqb_graph_infer(g, &err));
}

/* The trace's name of a network tensor: "conv1.weight" is "conv1.conv.weight" in the quantized ones. */
static const char *trace_name(bool quantized, const char *name, char *buffer, size_t size)
{
    const char *dot = strchr(name, '.');
    if (!quantized || strncmp(name, "fc.", 3) == 0)
        snprintf(buffer, size, "%s", name);
    else if (strncmp(name, "bn", 2) == 0)
        snprintf(buffer, size, "%s.bn%s", name[2] == '1' ? "conv1" : "dw", dot);
    else
        snprintf(buffer, size, "%.*s.conv%s", (int)(dot - name), name, dot);
    return buffer;
}

static bool is_network(const struct mqb_value *value)
{
    return !value->dead && (value->kind == MQB_VALUE_PARAM || value->kind == MQB_VALUE_STATE);
}

static void load_state(struct trace *t, const json_t *state, bool initial)
{
    char name[64];
    for (int i = 0; i < t->g->num_values; i++) {
        struct mqb_value *v = &t->g->values[i];
        const json_t *tensor = json_object_get(state, trace_name(t->quantized && !initial, v->name, name, sizeof name));
        if (is_network(v) && (tensor != NULL || initial)) /* what the calibration left alone is not recorded after it */
            load_npy(tensor, v->data, mqb_value_size(v));
    }
    for (int i = 0; !initial && i < t->points.num_points; i++) {
        struct mqb_point *p = t->list[i];
        struct mqb_param param = {.struct_size = sizeof param};
        for (uint32_t k = 0; p->quantizer->param(p->self, k, &param) == MQB_OK; k++) {
            snprintf(name, sizeof name, "%s.%s", p->name, param.name);
            load_npy(json_object_get(state, name), param.value, param.num_elements);
        }
    }
}

static double largest_difference(const float *got, const json_t *tensor, int64_t size)
{
    float *want = load_new(tensor, size);
    double worst = 0.0;
    for (int64_t i = 0; i < size; i++)
        worst = fmax(worst, fabs((double)got[i] - want[i]));
    free(want);
    return worst;
}

/* |difference| against the size of the tensor; prints the worst. */
static void close_to(const char *what, int step, const float *got, const json_t *tensor, int64_t size, double relative, double absolute)
{
    float *want = load_new(tensor, size);
    double largest = 0.0, worst = 0.0;
    for (int64_t i = 0; i < size; i++) {
        largest = fmax(largest, fabs(want[i]));
        worst = fmax(worst, fabs((double)got[i] - want[i]));
    }
    free(want);
    if (!(worst <= relative * largest + absolute))
        fail_msg("step %d, %s: differs by %g (largest element %g)", step, what, worst, largest);
}

/* Does an element lie so near a rounding tie that another summation order may round it the other way? Then the step's numbers
 * are not defined to more than one quantization step (the tie rule of golden/README.md, as its near_tie lists do for family 1). */
static bool has_tie(struct trace *t, const struct mqb_exec *exec)
{
    for (int i = 0; i < t->points.num_points; i++) {
        const struct mqb_point *p = t->list[i];
        mqb_value_id in = t->g->nodes[p->node].inputs[0];
        const struct mqb_value *value = &t->g->values[in];
        const float *x = mqb_exec_value(exec, in);
        struct mqb_qparams q = {.struct_size = sizeof q};
        OK(p->quantizer->qparams(p->self, &q, &err));
        int64_t size = mqb_value_size(value) * (value->batched ? N : 1), per_channel = q.num_channels > 1 ? size / q.num_channels : size;
        for (int64_t k = 0; k < size; k++) {
            double v = (double)x[k] / q.scale[k / per_channel], code = nearbyint(v) + q.zero_point[k / per_channel];
            if (code >= q.qmin && code <= q.qmax && fabs(fabs(v - nearbyint(v)) - 0.5) < 4e-6 * fmax(1.0, fabs(v))) {
                print_message("%s[%lld] lies on a rounding tie: this step is held to the tie rule\n", p->name, (long long)k);
                return true;
            }
        }
    }
    return false;
}

static void run_trace(const json_t *trace, const struct mqb_quantizer *lsq, const struct mqb_compute *compute, int threads)
{
    struct trace t = {0};
    bool quantized = lsq != NULL;
    bool symmetric = quantized && json_is_true(json_object_get(json_object_get(trace, "quant"), "sym"));
    build(&t, quantized);
    struct mqb_options *options = NULL;
    if (quantized) {
        OK(mqb_options_create(lsq->options, lsq->num_options, &options, &err));
        OK(mqb_options_set(options, "compat", "paper", "test", &err));
        attach_points(&t, lsq, symmetric, options);
    }
    OK(mqb_pool_create(threads, &t.pool, &err));
    struct mqb_exec_config config = {.graph = t.g, .host = mqb_host_table(), .compute = compute, .pool = t.pool, .batch = N, .training = true, .gradients = true};
    mqb_value_id keep[8];
    for (int i = 0; i < t.points.num_points; i++)
        keep[i] = t.g->nodes[t.list[i]->node].inputs[0];
    config.keep = keep;
    config.num_keep = t.points.num_points;
    struct mqb_exec *exec;
    OK(mqb_exec_create(&config, &exec, &err));
    struct mqb_recipe recipe;
    mqb_recipe_defaults(&recipe);
    recipe.weight_decay = 1e-4;
    recipe.decay_norm = true;
    struct mqb_optimizer *optimizer;
    OK(mqb_optimizer_create(t.g, exec, quantized ? &t.points : NULL, t.pool, &recipe, &optimizer, &err));

    const json_t *batch = json_object_get(trace, "batch");
    float *nchw = load_new(json_object_get(batch, "x"), N * 3 * HW * HW), *x = malloc(N * 3 * HW * HW * sizeof *x);
    for (int n = 0; n < N; n++)
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < HW * HW; i++)
                x[(n * HW * HW + i) * 3 + c] = nchw[(n * 3 + c) * HW * HW + i];
    int32_t labels[N];
    for (size_t i = 0; i < N; i++)
        labels[i] = (int32_t)json_integer_value(json_array_get(json_object_get(batch, "labels"), i));

    const json_t *steps = json_object_get(trace, "steps"), *before = NULL, *momentum = NULL;
    load_state(&t, json_object_get(trace, "initial"), true);
    if (quantized) {
        before = json_object_get(json_object_get(trace, "after_lsq_init"), "state");
        load_state(&t, before, false);
    }
    int num_ties = 0;
    for (size_t s = 0; s < json_array_size(steps); s++) {
        const json_t *step = json_array_get(steps, s);
        char name[64];
        if (s > 0)
            load_state(&t, before, false);
        /* Recorded after the first and the last step only; in between the velocities are our own. */
        for (int i = 0; i < mqb_optimizer_num_params(optimizer) && json_is_object(momentum); i++) {
            const char *own;
            float *value, *velocity;
            int64_t size;
            mqb_optimizer_param(optimizer, i, &own, &value, &velocity, &size);
            if (strchr(own, '/') == NULL)
                load_npy(json_object_get(momentum, trace_name(quantized, own, name, sizeof name)), velocity, size);
        }
        OK(mqb_exec_forward(exec, x, N, &err));
        double loss;
        OK(mqb_exec_loss(exec, labels, 0.1, &loss, NULL, &err));
        OK(mqb_exec_backward(exec, &err));
        int number = (int)s + 1;
        /* Only a step whose logits leave the strict bound may be excused, and only by a tie that it really has. */
        const json_t *logits = json_object_get(step, "logits");
        double strict = quantized ? 1e-5 : 5e-6;
        bool tie = quantized && largest_difference(mqb_exec_value(exec, t.g->output), logits, N * CLASSES) > strict && has_tie(&t, exec);
        num_ties += tie;
        close_to("logits", number, mqb_exec_value(exec, t.g->output), logits, N * CLASSES, 0, tie ? 2e-2 : strict);
        assert_true(fabs(loss - json_number_value(json_object_get(step, "loss"))) < (tie ? 5e-3 : 2e-6));
        const json_t *grads = json_object_get(step, "grads");
        for (int i = 0; i < t.g->num_values; i++) {
            const struct mqb_value *v = &t.g->values[i];
            if (v->dead || v->kind != MQB_VALUE_PARAM)
                continue;
            close_to(v->name, number, mqb_exec_gradient(exec, i), json_object_get(grads, trace_name(quantized, v->name, name, sizeof name)),
                     mqb_value_size(v), tie ? 0.1 : 5e-5, 1e-6);
        }
        for (int i = 0; i < t.points.num_points; i++) {
            struct mqb_param param = {.struct_size = sizeof param};
            for (uint32_t k = 0; lsq->param(t.list[i]->self, k, &param) == MQB_OK; k++) {
                snprintf(name, sizeof name, "%s.%s", t.list[i]->name, param.name);
                close_to(name, number, param.grad, json_object_get(grads, name), param.num_elements, tie ? 0.5 : 1e-4, 1e-6);
            }
        }
        mqb_optimizer_step(optimizer, json_number_value(json_object_get(step, "lr")));
        const json_t *after = json_object_get(step, "state_after");
        for (int i = 0; i < t.g->num_values; i++) {
            const struct mqb_value *v = &t.g->values[i];
            trace_name(quantized, v->name, name, sizeof name);
            /* The reference's folded batch norm corrects the variance by C/(C-1); ours by M/(M-1) as it should be. */
            if (is_network(v) && !(quantized && strstr(v->name, "running_var") != NULL))
                close_to(v->name, number, v->data, json_object_get(after, name), mqb_value_size(v), 0, tie ? 1e-3 : 2e-6);
            if (!is_network(v) || !quantized || strstr(v->name, "running_var") == NULL)
                continue;
            float *old = load_new(json_object_get(before, name), C), *want = load_new(json_object_get(after, name), C);
            double m = N * HW * HW;
            for (int c = 0; c < C; c++) {
                double batch_var = (want[c] - 0.9 * old[c]) / 0.1 * (C - 1.0) / C;
                double expected = 0.9 * old[c] + 0.1 * batch_var * m / (m - 1.0);
                assert_true(fabs(v->data[c] - expected) <= 2e-5 * fmax(1.0, fabs(expected)));
            }
            free(old);
            free(want);
        }
        before = after;
        momentum = json_object_get(step, "momentum_after");
    }
    assert_true(num_ties <= 1); /* the reference itself moves at one step of one trace when its convolution is another */
    mqb_optimizer_destroy(optimizer);
    mqb_exec_destroy(exec);
    for (int i = 0; i < t.points.num_points; i++)
        lsq->destroy(t.list[i]->self);
    mqb_options_destroy(options);
    mqb_pool_destroy(t.pool);
    mqb_graph_destroy(t.g);
    free(nchw);
    free(x);
}

static void run_named(const char *name, int threads)
{
    json_t *index = json_load_file(MQB_SHARED "/golden/fam6_e2e_index.json", 0, NULL);
    if (index == NULL) {
        print_message("no reference traces here: skipped\n");
        skip();
    }
    const struct mqb_compute *compute = component("native", MQB_COMPUTE_INTERFACE);
    const struct mqb_quantizer *lsq = strcmp(name, "fp32") == 0 ? NULL : component("lsq", MQB_QUANTIZER_INTERFACE);
    const json_t *trace = NULL;
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(index, "cases"), i, item)
        if (strcmp(json_string_value(json_object_get(item, "name")), name) == 0)
            trace = item;
    assert_non_null(trace);
    run_trace(trace, lsq, compute, threads);
    json_decref(index);
}

static void test_trace_fp32_equals_reference(void **state)
{
    (void)state;
    run_named("fp32", 2);
}

static void test_trace_lsq_asymmetric_equals_reference(void **state)
{
    (void)state;
    run_named("lsq4_snpe", 1);
}

static void test_trace_lsq_per_channel_equals_reference(void **state)
{
    (void)state;
    run_named("lsq4_tensorrt", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trace_fp32_equals_reference),
        cmocka_unit_test(test_trace_lsq_asymmetric_equals_reference),
        cmocka_unit_test(test_trace_lsq_per_channel_equals_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
