/*
 * fold.c - family 3: a convolution, its batch norm and its quantized weight, folded by one strategy of the pass; three training
 * steps and an evaluation, each from its recorded state. Outputs, gradients, running statistics.
 */
#include "golden.h"

#include "exec/exec.h"
#include "ops/ops.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct folded {
    struct golden_case *c;
    struct mqb_graph *g;
    const struct mqb_quantizer *lsq;
    mqb_node_id conv;
    mqb_value_id weight, bias, gamma, beta, mean, var;
    struct mqb_point point;
    struct mqb_options *options;
    int64_t strategy, n;
    int64_t statistics; /* elements a channel, from the output's shape */
};

static mqb_value_id add_tensor(struct folded *f, int kind, const char *name, const char *key)
{
    struct golden_case *c = f->c;
    struct golden_tensor t = golden_tensor_of(c, golden_get(json_object_get(c->item, "module_before_wrap"), key));
    mqb_value_id id = MQB_NONE;
    if (t.data)
        golden_ok(c, mqb_graph_calls.add_value(f->g, kind, name, t.rank, t.dims, t.data, &id, &c->error));
    return id;
}

static mqb_value_id add_node(struct folded *f, const char *op, const char *name, const mqb_value_id *inputs, int n,
                             mqb_node_id *id)
{
    struct golden_case *c = f->c;
    if (!golden_ok(c, mqb_graph_calls.add_node(f->g, op, name, inputs, n, id, &c->error)))
        return MQB_NONE;
    return mqb_graph_calls.output(f->g, *id);
}

/* The float module. */
static void build_module(struct folded *f)
{
    struct golden_case *c = f->c;
    const json_t *hyper = json_object_get(c->item, "hyper"), *step = json_array_get(json_object_get(c->item, "steps"), 0);
    struct golden_tensor x = golden_need(c, step, "input");
    int64_t stride = golden_int(hyper, "stride"), padding = golden_int(hyper, "padding");
    const int64_t dims[4] = {MQB_BATCH, x.dims[1], x.dims[2], x.dims[3]}, pads[4] = {padding, padding, padding, padding};
    const int64_t strides[2] = {stride, stride}, ones[2] = {1, 1};
    mqb_value_id input;
    mqb_node_id node;
    f->n = x.dims[0];
    if (!golden_ok(c, mqb_graph_create(&mqb_ops, &f->g, &c->error)) ||
        !golden_ok(c, mqb_graph_add_input(f->g, "x", 4, dims, &input, &c->error)))
        return;
    f->weight = add_tensor(f, MQB_VALUE_PARAM, "weight", "weight");
    f->bias = add_tensor(f, MQB_VALUE_PARAM, "bias", "bias");
    f->gamma = add_tensor(f, MQB_VALUE_PARAM, "gamma", "gamma");
    f->beta = add_tensor(f, MQB_VALUE_PARAM, "beta", "beta");
    f->mean = add_tensor(f, MQB_VALUE_STATE, "mean", "running_mean");
    f->var = add_tensor(f, MQB_VALUE_STATE, "var", "running_var");
    const mqb_value_id conv_in[3] = {input, f->weight, f->bias};
    mqb_value_id y = add_node(f, "Conv", "conv", conv_in, f->bias == MQB_NONE ? 2 : 3, &f->conv);
    if (c->problem[0])
        return;
    golden_ok(c, mqb_node_set_list(f->g, f->conv, "pads", pads, 4, &c->error));
    golden_ok(c, mqb_node_set_list(f->g, f->conv, "strides", strides, 2, &c->error));
    golden_ok(c, mqb_node_set_list(f->g, f->conv, "dilations", ones, 2, &c->error));
    golden_ok(c, mqb_graph_calls.set_attr_int(f->g, f->conv, "group", golden_int(hyper, "groups"), &c->error));
    const mqb_value_id bn_in[5] = {y, f->gamma, f->beta, f->mean, f->var};
    y = add_node(f, "BatchNormalization", "bn", bn_in, 5, &node);
    if (golden_int(c->item, "relu"))
        y = add_node(f, "Relu", "relu", &y, 1, &node);
    if (!c->problem[0])
        golden_ok(c, mqb_graph_set_output(f->g, y, &c->error));
    if (!c->problem[0])
        golden_ok(c, mqb_graph_infer(f->g, &c->error));
}

static void run_pass(struct folded *f)
{
    struct golden_case *c = f->c;
    const struct mqb_pass *pass = golden_component(c, MQB_KIND_PASS, "bn_fold");
    bool frozen =
        (f->strategy == 2 || f->strategy == 3) && !golden_int(json_object_get(c->item, "hyper"), "bn_unfrozen_by_hand");
    char settings[64];
    int32_t edits;
    if (!pass)
        return;
    /* The released 2 and 3 never use batch statistics; some cases were recorded with that undone. */
    const char *compat = !c->compat                             ? ""
                         : f->strategy == 2 || f->strategy == 3 ? frozen ? " compat=frozen" : " compat=paper"
                                                                : " compat=paper";
    snprintf(settings, sizeof(settings), "strategy=%d%s", (int)f->strategy, compat);
    struct mqb_options *options = golden_options(c, pass->options, pass->num_options, settings);
    if (!options)
        return;
    if (golden_ok(c, pass->run(mqb_host_table(), f->g, options, &edits, &c->error)))
        golden_ok(c, mqb_graph_infer(f->g, &c->error));
    mqb_options_destroy(options);
}

/* Every layer whose weight comes from the module's gets one point: a strategy may run the convolution twice. */
static void quantize_weight(struct folded *f)
{
    struct golden_case *c = f->c;
    const json_t *scheme = json_object_get(c->item, "scheme");
    bool per_channel = golden_int(scheme, "per_channel");
    mqb_value_id read = f->g->nodes[f->conv].inputs[1];
    mqb_node_id node;
    mqb_value_id w = add_node(f, "FakeQuantize", "point", &read, 1, &node);
    f->lsq = golden_component(c, MQB_KIND_QUANTIZER, "lsq");
    if (w == MQB_NONE || !f->lsq || !golden_ok(c, mqb_graph_calls.set_input(f->g, f->conv, 1, w, &c->error)))
        return;
    f->point =
        (struct mqb_point){.name = (char *)(uintptr_t) "weight", .node = node, .quantizer = f->lsq, .mode = MQB_POINT_ON};
    f->point.scheme = (struct mqb_scheme){
        .struct_size = sizeof f->point.scheme,
        .role = MQB_ROLE_WEIGHT,
        .bits = (int32_t)golden_int(c->item, "bits"),
        .qmin = (int32_t)golden_int(c->item, "quant_min"),
        .qmax = (int32_t)golden_int(c->item, "quant_max"),
        .symmetric = (uint8_t)golden_int(scheme, "symmetric"),
        .per_channel = per_channel,
        .num_channels = per_channel ? (int32_t)golden_int(json_object_get(c->item, "hyper"), "out_channels") : 1};
    f->options =
        golden_options(c, f->lsq->options, f->lsq->num_options, c->compat ? "weight_init=lsq compat=paper" : "weight_init=lsq");
    if (f->options && golden_ok(c, f->lsq->create(mqb_host_table(), &f->point.scheme, f->options, &f->point.self, &c->error)))
        f->g->nodes[node].point = &f->point;
}

static void build(struct folded *f)
{
    struct golden_case *c = f->c;
    build_module(f);
    if (!c->problem[0])
        run_pass(f);
    if (c->problem[0])
        return;
    if (f->strategy == 0) {
        f->weight = f->g->nodes[f->conv].inputs[1];
        f->bias = f->g->nodes[f->conv].inputs[2];
    }
    if (f->strategy != -1) /* the reference leaves -1 to a convolution that is quantized itself */
        quantize_weight(f);
    if (c->problem[0] || !golden_ok(c, mqb_graph_infer(f->g, &c->error)))
        return;
    mqb_graph_sweep(f->g);
    const struct mqb_value *out = &f->g->values[f->g->output];
    f->statistics = f->n * out->dims[2] * out->dims[3];
}

/* ---- what the file knows of ---- */

static const char *const keys[] = {"weight", "bias", "gamma", "beta", "running_mean", "running_var"};

static mqb_value_id value_of(const struct folded *f, size_t key)
{
    const mqb_value_id ids[] = {f->weight, f->bias, f->gamma, f->beta, f->mean, f->var};
    mqb_value_id id = ids[key];
    return id == MQB_NONE || f->g->values[id].dead || !f->g->values[id].data ? MQB_NONE : id;
}

static void load_state(struct folded *f, const json_t *state)
{
    struct mqb_param param = {.struct_size = sizeof param};
    for (size_t k = 0; k < 6; k++) {
        mqb_value_id id = value_of(f, k);
        struct golden_tensor t = golden_tensor_of(f->c, json_object_get(state, keys[k]));
        if (id != MQB_NONE && t.data && t.size == mqb_value_size(&f->g->values[id]))
            memcpy(f->g->values[id].data, t.data, (size_t)t.size * sizeof(float));
    }
    for (uint32_t i = 0; f->point.self && f->lsq->param(f->point.self, i, &param) == MQB_OK; i++) {
        struct golden_tensor t = golden_need(f->c, json_object_get(state, "weight_fake_quant"), param.name);
        if (t.data && t.size == param.num_elements)
            memcpy(param.value, t.data, (size_t)t.size * sizeof(float));
    }
}

/* Outputs and input gradients relative 5e-6, parameters' gradients 5e-5, a scale's 1e-4; those of a bias in front of a batch
 * norm are noise: absolute 1e-5. */
static void compare_gradients(struct folded *f, struct mqb_exec *exec, const json_t *grads)
{
    struct golden_case *c = f->c;
    struct mqb_param param = {.struct_size = sizeof param};
    for (size_t k = 0; k < 4; k++) {
        mqb_value_id id = value_of(f, k);
        struct golden_tensor want = golden_tensor_of(c, json_object_get(grads, keys[k]));
        if (!want.data || (f->strategy == 0 && k > 1))
            continue;
        const float *got = id == MQB_NONE ? NULL : mqb_exec_gradient(exec, id);
        if (!got)
            golden_problem(c, "there is no gradient of %s", keys[k]);
        else
            golden_compare(c, keys[k], &want, got, (struct golden_tolerance){5e-5, k == 1 ? 1e-5 : 1e-6});
    }
    for (uint32_t i = 0; f->point.self && f->lsq->param(f->point.self, i, &param) == MQB_OK; i++) {
        struct golden_tensor want = golden_tensor_of(c, json_object_get(grads, param.name));
        if (want.data)
            golden_compare(c, param.name, &want, param.grad, (struct golden_tolerance){1e-4, 2e-6});
    }
}

static void compare_statistics(struct folded *f, const json_t *after)
{
    for (size_t k = 4; k < 6; k++) {
        mqb_value_id id = value_of(f, k);
        struct golden_tensor want = golden_tensor_of(f->c, json_object_get(after, keys[k]));
        if (id != MQB_NONE && want.data)
            golden_compare(f->c, keys[k], &want, f->g->values[id].data, (struct golden_tolerance){5e-6, 1e-7});
    }
}

static void run_phase(struct folded *f, const json_t *phase, bool training)
{
    struct golden_case *c = f->c;
    struct golden_tensor input = golden_need(c, phase, "input"), output = golden_need(c, phase, "expected.output");
    struct golden_tensor x = golden_nhwc(c, &input), y = golden_nhwc(c, &output);
    struct mqb_exec *exec;
    load_state(f, json_object_get(phase, "state_before"));
    struct mqb_exec_config config = {.graph = f->g,
                                     .host = mqb_host_table(),
                                     .compute = c->run->compute,
                                     .pool = c->run->pool,
                                     .batch = (int)f->n,
                                     .training = training,
                                     .gradients = training};
    if (c->problem[0] || !golden_ok(c, mqb_exec_create(&config, &exec, &c->error)))
        return;
    if (!golden_ok(c, mqb_exec_forward(exec, x.data, (int)f->n, &c->error)))
        goto out;
    golden_compare(c, "output", &y, mqb_exec_value(exec, f->g->output), (struct golden_tolerance){5e-6, 1e-7});
    if (training) {
        struct golden_tensor gradient = golden_need(c, phase, "grad_output"), dy = golden_nhwc(c, &gradient);
        mqb_exec_set_output_gradient(exec, dy.data);
        if (c->problem[0] || !golden_ok(c, mqb_exec_backward(exec, &c->error)))
            goto out;
        compare_gradients(f, exec, golden_get(phase, "expected.param_grads"));
        compare_statistics(f, golden_get(phase, "expected.state_after"));
    }
out:
    mqb_exec_destroy(exec);
}

/* The first forward pass, which gives the weight's quantizer its start. */
static void run_init(struct folded *f)
{
    struct golden_case *c = f->c;
    const json_t *init = json_object_get(c->item, "init"), *first = json_array_get(json_object_get(c->item, "steps"), 0);
    const json_t *after = json_object_get(first, "state_before"); /* the file's own words */
    struct golden_tensor input = golden_need(c, init, "input"), output = golden_need(c, init, "expected.output");
    struct golden_tensor x = golden_nhwc(c, &input), y = golden_nhwc(c, &output);
    struct mqb_param param = {.struct_size = sizeof param};
    struct mqb_exec *exec;
    struct mqb_exec_config config = {.graph = f->g,
                                     .host = mqb_host_table(),
                                     .compute = c->run->compute,
                                     .pool = c->run->pool,
                                     .batch = (int)f->n,
                                     .training = true};
    if (c->problem[0] || !golden_ok(c, mqb_exec_create(&config, &exec, &c->error)))
        return;
    if (f->point.self) {
        mqb_value_id id = f->g->nodes[f->point.node].inputs[0];
        const struct mqb_value *value = &f->g->values[id];
        struct mqb_tensor_view view = {.struct_size = sizeof view, .rank = value->rank, .num_elements = mqb_value_size(value)};
        memcpy(view.dims, value->dims, (size_t)value->rank * sizeof(view.dims[0]));
        f->point.mode = MQB_POINT_OFF; /* once without, for a weight that is folded with the batch's statistics */
        bool computed = golden_ok(c, mqb_exec_forward(exec, x.data, (int)f->n, &c->error));
        f->point.mode = MQB_POINT_ON;
        load_state(f, json_object_get(c->item, "state_after_wrap"));
        view.data = value->data ? value->data : mqb_exec_value(exec, id);
        if (!computed || !view.data || !golden_ok(c, f->lsq->observe(f->point.self, &view, &c->error)) ||
            !golden_ok(c, f->lsq->init(f->point.self, &c->error)))
            goto out;
    }
    if (!golden_ok(c, mqb_exec_forward(exec, x.data, (int)f->n, &c->error)))
        goto out;
    for (uint32_t i = 0; f->point.self && f->lsq->param(f->point.self, i, &param) == MQB_OK; i++) {
        struct golden_tensor want = golden_need(c, json_object_get(after, "weight_fake_quant"), param.name);
        golden_compare(c, param.name, &want, param.value, (struct golden_tolerance){5e-7, 0.0});
    }
    golden_compare(c, "first output", &y, mqb_exec_value(exec, f->g->output), (struct golden_tolerance){5e-6, 1e-7});
    compare_statistics(f, after);
out:
    mqb_exec_destroy(exec);
}

void golden_fold_case(struct golden_case *c)
{
    struct folded f = {.c = c, .strategy = golden_int(c->item, "strategy")};
    const json_t *steps = json_object_get(c->item, "steps");
    if (strcmp(golden_text(c->item, "algo"), "bn_fold") != 0 || f.strategy < -1 || f.strategy > 5) {
        golden_problem(c, "no driver for \"%s\", strategy %d", golden_text(c->item, "algo"), (int)f.strategy);
        return;
    }
    if (f.strategy == 5) {
        c->not_shipped = "look-ahead folding";
        return;
    }
    build(&f);
    /* The pass makes of the module what the program makes of it. */
    for (size_t k = 0; k < 6 && !c->problem[0]; k++) {
        mqb_value_id id = value_of(&f, k);
        struct golden_tensor want = golden_tensor_of(c, golden_get(json_object_get(c->item, "state_after_wrap"), keys[k]));
        if (id != MQB_NONE && want.data)
            golden_compare(c, keys[k], &want, f.g->values[id].data, (struct golden_tolerance){1e-6, 1e-7});
    }
    if (!c->problem[0])
        run_init(&f);
    for (size_t s = 0; s < json_array_size(steps) && !c->problem[0]; s++)
        run_phase(&f, json_array_get(steps, s), true);
    if (!c->problem[0])
        run_phase(&f, json_object_get(c->item, "eval"), false);
    if (f.point.self)
        f.lsq->destroy(f.point.self);
    mqb_options_destroy(f.options);
    mqb_graph_destroy(f.g);
}
