/*
 * test_fold_golden.c - BN folding against the reference modules (golden family 3): a convolution, its batch norm and its quantized
 * weight, three training steps and an evaluation, for every strategy that the pass offers. Outputs, gradients, running statistics.
 */
#include "common/support.h"
#include "train/train.h"

#include <jansson.h>
#include <math.h>

struct folded {
    struct mqb_graph *g;
    mqb_node_id conv;
    mqb_value_id weight, bias, gamma, beta, mean, var;
    struct mqb_point point;
    struct mqb_options *options;
    int64_t n, c, h, k;
};

static int64_t count_of(const json_t *tensor)
{
    return (int64_t)json_array_size(json_object_get(tensor, "data"));
}

static void read_tensor(const json_t *tensor, float *data, int64_t size)
{
    assert_int_equal(count_of(tensor), size);
    for (int64_t i = 0; i < size; i++)
        data[i] = (float)json_number_value(json_array_get(json_object_get(tensor, "data"), (size_t)i));
}

static int64_t dim(const json_t *tensor, size_t index)
{
    return json_integer_value(json_array_get(json_object_get(tensor, "shape"), index));
}

static int64_t hyper(const json_t *test, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(test, "hyper"), name));
}

static mqb_value_id add_tensor(struct mqb_graph *g, int kind, const char *name, const json_t *tensor)
{
    int64_t dims[4], size = count_of(tensor);
    int32_t rank = (int32_t)json_array_size(json_object_get(tensor, "shape"));
    for (int i = 0; i < rank; i++)
        dims[i] = dim(tensor, (size_t)i);
    float *data = malloc((size_t)size * sizeof *data);
    mqb_value_id id;
    read_tensor(tensor, data, size);
    OK(mqb_graph_calls.add_value(g, kind, name, rank, dims, data, &id, &err));
    free(data);
    return id;
}

static mqb_value_id add_node(struct mqb_graph *g, const char *op, const char *name, const mqb_value_id *inputs, int n, mqb_node_id *id)
{
    OK(mqb_graph_calls.add_node(g, op, name, inputs, n, id, &err));
    return mqb_graph_calls.output(g, *id);
}

/* The float module, the pass, and a point on what the convolution then reads as its weight. */
static void build(struct folded *f, const json_t *test, const struct mqb_pass *pass, const struct mqb_quantizer *lsq)
{
    const json_t *module = json_object_get(test, "module_before_wrap");
    const json_t *x = json_object_get(json_array_get(json_object_get(test, "steps"), 0), "input");
    int64_t stride = hyper(test, "stride"), padding = hyper(test, "padding");
    const int64_t dims[4] = {MQB_BATCH, dim(x, 1), dim(x, 2), dim(x, 3)}, pads[4] = {padding, padding, padding, padding};
    const int64_t strides[2] = {stride, stride}, ones[2] = {1, 1};
    char strategy[8];
    mqb_node_id node;
    mqb_value_id input;
    memset(f, 0, sizeof *f);
    f->n = dim(x, 0);
    OK(mqb_graph_create(&mqb_ops, &f->g, &err));
    OK(mqb_graph_add_input(f->g, "x", 4, dims, &input, &err));
    f->weight = add_tensor(f->g, MQB_VALUE_PARAM, "weight", json_object_get(module, "weight"));
    f->bias = json_is_null(json_object_get(module, "bias")) ? MQB_NONE : add_tensor(f->g, MQB_VALUE_PARAM, "bias", json_object_get(module, "bias"));
    f->gamma = add_tensor(f->g, MQB_VALUE_PARAM, "gamma", json_object_get(module, "gamma"));
    f->beta = add_tensor(f->g, MQB_VALUE_PARAM, "beta", json_object_get(module, "beta"));
    f->mean = add_tensor(f->g, MQB_VALUE_STATE, "mean", json_object_get(module, "running_mean"));
    f->var = add_tensor(f->g, MQB_VALUE_STATE, "var", json_object_get(module, "running_var"));
    const mqb_value_id conv_in[3] = {input, f->weight, f->bias};
    mqb_value_id y = add_node(f->g, "Conv", "conv", conv_in, f->bias == MQB_NONE ? 2 : 3, &f->conv);
    OK(mqb_node_set_list(f->g, f->conv, "pads", pads, 4, &err));
    OK(mqb_node_set_list(f->g, f->conv, "strides", strides, 2, &err));
    OK(mqb_node_set_list(f->g, f->conv, "dilations", ones, 2, &err));
    OK(mqb_graph_calls.set_attr_int(f->g, f->conv, "group", hyper(test, "groups"), &err));
    const mqb_value_id bn_in[5] = {y, f->gamma, f->beta, f->mean, f->var};
    y = add_node(f->g, "BatchNormalization", "bn", bn_in, 5, &node);
    if (json_is_true(json_object_get(test, "relu")))
        y = add_node(f->g, "Relu", "relu", &y, 1, &node);
    OK(mqb_graph_set_output(f->g, y, &err));
    OK(mqb_graph_infer(f->g, &err));

    struct mqb_options *options;
    int32_t edits;
    int number = (int)json_integer_value(json_object_get(test, "strategy"));
    snprintf(strategy, sizeof strategy, "%d", number);
    OK(mqb_options_create(pass->options, pass->num_options, &options, &err));
    OK(mqb_options_set(options, "strategy", strategy, "test", &err));
    OK(pass->run(mqb_host_table(), f->g, options, &edits, &err));
    mqb_options_destroy(options);
    OK(mqb_graph_infer(f->g, &err));
    if (number == 0) {
        f->weight = f->g->nodes[f->conv].inputs[1];
        f->bias = f->g->nodes[f->conv].inputs[2];
    }
    if (number != -1) { /* the reference leaves -1 to a convolution that is quantized itself */
        mqb_value_id read = f->g->nodes[f->conv].inputs[1], w = add_node(f->g, "FakeQuantize", "point", &read, 1, &node);
        OK(mqb_graph_calls.set_input(f->g, f->conv, 1, w, &err));
        const json_t *scheme = json_object_get(test, "scheme");
        bool per_channel = json_is_true(json_object_get(scheme, "per_channel"));
        f->point = (struct mqb_point){.name = (char *)(uintptr_t)"weight", .node = node, .quantizer = lsq, .mode = MQB_POINT_ON};
        f->point.scheme = (struct mqb_scheme){
            .struct_size = sizeof f->point.scheme, .role = MQB_ROLE_WEIGHT, .bits = (int32_t)json_integer_value(json_object_get(test, "bits")),
            .qmin = (int32_t)json_integer_value(json_object_get(test, "quant_min")),
            .qmax = (int32_t)json_integer_value(json_object_get(test, "quant_max")),
            .symmetric = json_is_true(json_object_get(scheme, "symmetric")), .per_channel = per_channel,
            .num_channels = per_channel ? (int32_t)hyper(test, "out_channels") : 1};
        OK(mqb_options_create(lsq->options, lsq->num_options, &f->options, &err));
        OK(mqb_options_set(f->options, "compat", "paper", "test", &err));
        OK(lsq->create(mqb_host_table(), &f->point.scheme, f->options, &f->point.self, &err));
        f->g->nodes[node].point = &f->point;
    }
    OK(mqb_graph_infer(f->g, &err));
    mqb_graph_sweep(f->g);
    const struct mqb_value *out = &f->g->values[f->g->output];
    f->k = out->dims[1];
    f->h = out->dims[2] * out->dims[3];
    f->c = dim(x, 1);
}

static void load_value(struct folded *f, mqb_value_id id, const json_t *tensor)
{
    if (id != MQB_NONE && json_is_object(tensor) && f->g->values[id].data != NULL)
        read_tensor(tensor, f->g->values[id].data, mqb_value_size(&f->g->values[id]));
}

static void load_state(struct folded *f, const json_t *state, const struct mqb_quantizer *lsq)
{
    load_value(f, f->weight, json_object_get(state, "weight"));
    load_value(f, f->bias, json_object_get(state, "bias"));
    load_value(f, f->gamma, json_object_get(state, "gamma"));
    load_value(f, f->beta, json_object_get(state, "beta"));
    load_value(f, f->mean, json_object_get(state, "running_mean"));
    load_value(f, f->var, json_object_get(state, "running_var"));
    struct mqb_param param = {.struct_size = sizeof param};
    for (uint32_t i = 0; f->point.self != NULL && lsq->param(f->point.self, i, &param) == MQB_OK; i++)
        read_tensor(json_object_get(json_object_get(state, "weight_fake_quant"), param.name), param.value, param.num_elements);
}

static float *to_nhwc(const json_t *tensor)
{
    int64_t n = dim(tensor, 0), c = dim(tensor, 1), p = dim(tensor, 2) * dim(tensor, 3);
    float *from = malloc((size_t)(n * c * p) * sizeof *from), *to = malloc((size_t)(n * c * p) * sizeof *to);
    read_tensor(tensor, from, n * c * p);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t j = 0; j < p; j++)
                to[(i * p + j) * c + k] = from[(i * c + k) * p + j];
    free(from);
    return to;
}

static void near_to(const char *test, const char *what, const float *got, const float *want, int64_t size, double relative, double absolute)
{
    double largest = 0, worst = 0;
    for (int64_t i = 0; i < size; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
    }
    if (!(worst <= relative * largest + absolute))
        fail_msg("%s, %s: differs by %g of %g", test, what, worst, largest);
}

static void check_gradient(const struct folded *f, struct mqb_exec *exec, const char *test, mqb_value_id id, const json_t *grads, const char *key)
{
    const json_t *want = json_object_get(grads, key);
    const float *got = id == MQB_NONE ? NULL : mqb_exec_gradient(exec, id);
    if (!json_is_object(want) || got == NULL)
        return;
    int64_t size = mqb_value_size(&f->g->values[id]);
    float *data = malloc((size_t)size * sizeof *data);
    read_tensor(want, data, size);
    near_to(test, key, got, data, size, 5e-5, 1e-5); /* the bias in front of a batch norm has none but noise */
    free(data);
}

/* The reference corrects the variance by C/(C-1); M/(M-1) is right. Both follow from the batch's own variance. */
static void check_statistics(const struct folded *f, const char *test, const float *old, const json_t *after)
{
    float want[64];
    double m = (double)(f->n * f->h), k = (double)f->k;
    read_tensor(json_object_get(after, "running_mean"), want, f->k);
    near_to(test, "running_mean", f->g->values[f->mean].data, want, f->k, 5e-6, 1e-7);
    read_tensor(json_object_get(after, "running_var"), want, f->k);
    for (int64_t i = 0; i < f->k; i++) {
        double batch = ((double)want[i] - 0.9 * (double)old[i]) / 0.1 * (k - 1) / k;
        want[i] = (float)(0.9 * (double)old[i] + 0.1 * batch * m / (m - 1));
    }
    near_to(test, "running_var", f->g->values[f->var].data, want, f->k, 2e-5, 0);
}

static void run_phase(struct folded *f, const json_t *test, const json_t *phase, bool training, const struct mqb_quantizer *lsq,
                      const struct mqb_compute *compute, struct mqb_pool *pool)
{
    const char *name = json_string_value(json_object_get(test, "name"));
    const json_t *expected = json_object_get(phase, "expected");
    int number = (int)json_integer_value(json_object_get(test, "strategy"));
    load_state(f, json_object_get(phase, "state_before"), lsq);
    float old[64] = {0};
    memcpy(old, f->g->values[f->var].data != NULL ? f->g->values[f->var].data : old, (size_t)f->k * sizeof *old);
    struct mqb_exec_config config = {.graph = f->g, .host = mqb_host_table(), .compute = compute, .pool = pool, .batch = (int)f->n,
                                     .training = training, .gradients = training};
    struct mqb_exec *exec;
    OK(mqb_exec_create(&config, &exec, &err));
    float *x = to_nhwc(json_object_get(phase, "input")), *want = to_nhwc(json_object_get(expected, "output"));
    OK(mqb_exec_forward(exec, x, (int)f->n, &err));
    near_to(name, "output", mqb_exec_value(exec, f->g->output), want, f->n * f->h * f->k, 5e-6, 1e-7);
    if (training) {
        float *dy = to_nhwc(json_object_get(phase, "grad_output"));
        const json_t *grads = json_object_get(expected, "param_grads");
        mqb_exec_set_output_gradient(exec, dy);
        OK(mqb_exec_backward(exec, &err));
        free(dy);
        check_gradient(f, exec, name, f->weight, grads, "weight");
        check_gradient(f, exec, name, f->bias, grads, "bias");
        if (number != 0) {
            check_gradient(f, exec, name, f->gamma, grads, "gamma");
            check_gradient(f, exec, name, f->beta, grads, "beta");
        }
        struct mqb_param param = {.struct_size = sizeof param};
        for (uint32_t i = 0; f->point.self != NULL && lsq->param(f->point.self, i, &param) == MQB_OK; i++) {
            float data[64];
            if (!json_is_object(json_object_get(grads, param.name)))
                continue;
            read_tensor(json_object_get(grads, param.name), data, param.num_elements);
            near_to(name, param.name, param.grad, data, param.num_elements, 1e-4, 2e-6);
        }
        if (number == -1 || number == 4)
            check_statistics(f, name, old, json_object_get(expected, "state_after"));
    }
    free(x);
    free(want);
    mqb_exec_destroy(exec);
}

static void test_fold_strategies_equal_reference(void **state)
{
    (void)state;
    json_t *file = json_load_file(MQB_SHARED "/golden/fam3_bn_fold.json", 0, NULL), *test;
    if (file == NULL) {
        print_message("no reference vectors here: skipped\n");
        skip();
    }
    const struct mqb_pass *pass = component("pass_bn_fold", MQB_PASS_INTERFACE);
    const struct mqb_quantizer *lsq = component("lsq", MQB_QUANTIZER_INTERFACE);
    const struct mqb_compute *compute = component("native", MQB_COMPUTE_INTERFACE);
    struct mqb_pool *pool;
    OK(mqb_pool_create(2, &pool, &err));
    size_t i;
    int done = 0, by_design = 0, not_offered = 0;
    json_array_foreach(json_object_get(file, "cases"), i, test) {
        int number = (int)json_integer_value(json_object_get(test, "strategy"));
        bool bias = !json_is_null(json_object_get(json_object_get(test, "module_before_wrap"), "bias"));
        if (number == 2 || number == 3 || number == 5) {
            not_offered++;
            continue;
        }
        if (number == 4 && bias) { /* the reference forgets the convolution's bias there */
            by_design++;
            continue;
        }
        struct folded f;
        build(&f, test, pass, lsq);
        size_t s;
        json_t *step;
        json_array_foreach(json_object_get(test, "steps"), s, step)
            run_phase(&f, test, step, true, lsq, compute, pool);
        run_phase(&f, test, json_object_get(test, "eval"), false, lsq, compute, pool);
        if (f.point.self != NULL)
            lsq->destroy(f.point.self);
        mqb_options_destroy(f.options);
        mqb_graph_destroy(f.g);
        done++;
    }
    print_message("%d cases equal, %d deviate by design, %d of strategies that are not offered\n", done, by_design, not_offered);
    assert_true(done > 0);
    mqb_pool_destroy(pool);
    json_decref(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fold_strategies_equal_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
