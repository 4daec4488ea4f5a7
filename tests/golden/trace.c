/*
 * trace.c - family 6: recorded training steps of an FP32 network, and of the same under LSQ with batch norm folded by
 * strategy 4. Each step starts from the recorded state, so that one rounding flip does not hide the rest; velocities, which are
 * recorded at some steps only, are our own in between.
 */
#include "trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TIES 256

/* What a step may be off by. */
struct bounds {
    double logits, loss, weights, gradient, scale_gradient;
};

static const struct bounds fp32_bounds = {5e-6, 2e-6, 2e-6, 5e-5, 0.0};
static const struct bounds lsq_bounds = {1e-5, 2e-6, 2e-6, 5e-5, 1e-4};

static void compare(struct trace *t, int step, const char *what, const float *got, const json_t *tensor, int64_t size,
                    struct golden_tolerance tolerance)
{
    char name[96];
    struct golden_tensor want = trace_tensor(t->c, tensor, size);
    snprintf(name, sizeof name, "step %d, %s", step, what);
    if (got)
        golden_compare(t->c, name, &want, got, tolerance);
    else
        golden_problem(t->c, "%s: nothing to compare", name);
}

static double largest_difference(struct trace *t, const float *got, const json_t *tensor, int64_t size)
{
    struct golden_tensor want = trace_tensor(t->c, tensor, size);
    double worst = 0.0;
    for (int64_t i = 0; i < size; i++)
        worst = fmax(worst, fabs((double)got[i] - (double)want.data[i]));
    return worst;
}

static void load_momentum(struct trace *t, const json_t *momentum)
{
    char name[64];
    for (int i = 0; i < mqb_optimizer_num_params(t->optimizer); i++) {
        const char *own;
        float *value, *velocity;
        int64_t size;
        mqb_optimizer_param(t->optimizer, i, &own, &value, &velocity, &size);
        if (strchr(own, '/') == NULL)
            trace_load(t->c, json_object_get(momentum, trace_name(t->quantized, own, name, sizeof name)), velocity, size);
    }
}

static void compare_gradients(struct trace *t, int number, const json_t *grads, const struct bounds *bounds)
{
    char name[64];
    struct mqb_param param = {.struct_size = sizeof param};
    for (int i = 0; i < t->g->num_values; i++) {
        const struct mqb_value *v = &t->g->values[i];
        if (!v->dead && v->kind == MQB_VALUE_PARAM)
            compare(t, number, v->name, mqb_exec_gradient(t->exec, i),
                    json_object_get(grads, trace_name(t->quantized, v->name, name, sizeof name)), mqb_value_size(v),
                    (struct golden_tolerance){bounds->gradient, 1e-6});
    }
    for (int i = 0; i < t->points.num_points; i++) {
        for (uint32_t k = 0; t->vtable.param(t->list[i]->self, k, &param) == MQB_OK; k++) {
            snprintf(name, sizeof name, "%s.%s", t->list[i]->name, param.name);
            compare(t, number, name, param.grad, json_object_get(grads, name), param.num_elements,
                    (struct golden_tolerance){bounds->scale_gradient, 1e-6});
        }
    }
}

static void compare_state(struct trace *t, int number, const json_t *after, const struct bounds *bounds)
{
    char name[64];
    struct mqb_param param = {.struct_size = sizeof param};
    for (int i = 0; i < t->g->num_values; i++) {
        const struct mqb_value *v = &t->g->values[i];
        if (trace_is_network(v))
            compare(t, number, v->name, v->data, json_object_get(after, trace_name(t->quantized, v->name, name, sizeof name)),
                    mqb_value_size(v), (struct golden_tolerance){0.0, bounds->weights});
    }
    for (int i = 0; i < t->points.num_points; i++) {
        for (uint32_t k = 0; t->vtable.param(t->list[i]->self, k, &param) == MQB_OK; k++) {
            snprintf(name, sizeof name, "%s.%s", t->list[i]->name, param.name);
            compare(t, number, name, param.value, json_object_get(after, name), param.num_elements,
                    (struct golden_tolerance){0.0, bounds->weights});
        }
    }
}

static bool forward(struct trace *t, const json_t *step, const float *x, double *off)
{
    struct golden_case *c = t->c;
    if (!golden_ok(c, mqb_exec_forward(t->exec, x, (int)t->batch, &c->error)))
        return false;
    *off = largest_difference(t, mqb_exec_value(t->exec, t->g->output), json_object_get(step, "logits"), t->batch * t->classes);
    return true;
}

/* Forward; if the logits are off, once more with each element next to a tie rounded the other way, until they are not. Returns
 * whether a tie decided. */
static bool forward_among_ties(struct trace *t, const json_t *step, const json_t *before, const float *x, double bound)
{
    struct trace_tie ties[MAX_TIES];
    double off;
    if (!forward(t, step, x, &off) || off <= bound || !t->quantized)
        return false;
    int num_ties = trace_find_ties(t, ties, MAX_TIES);
    for (int i = 0; i < num_ties && off > bound; i++) {
        struct trace_front *front = &t->front[ties[i].point];
        trace_load_state(t, before, false); /* the forward pass moved the running statistics */
        front->moved = &ties[i];
        bool done = forward(t, step, x, &off);
        if (done && off <= bound) {
            t->tie = ties[i];
            front->moved = &t->tie; /* for the backward pass */
            return true;
        }
        front->moved = NULL;
        if (!done)
            return false;
    }
    return false;
}

/* Returns whether a tie decided. */
static bool run_step(struct trace *t, const json_t *step, const json_t *before, int number, const float *x,
                     const int32_t *labels)
{
    struct golden_case *c = t->c;
    const struct bounds *bounds = t->quantized ? &lsq_bounds : &fp32_bounds;
    double loss, smoothing = golden_number(c, json_object_get(c->item, "optim"), "label_smooth");
    bool tie = forward_among_ties(t, step, before, x, bounds->logits);
    if (c->problem[0] || !golden_ok(c, mqb_exec_loss(t->exec, labels, smoothing, &loss, NULL, &c->error)) ||
        !golden_ok(c, mqb_exec_backward(t->exec, &c->error)))
        return false;
    for (int i = 0; i < t->points.num_points; i++)
        t->front[i].moved = NULL;
    compare(t, number, "logits", mqb_exec_value(t->exec, t->g->output), json_object_get(step, "logits"), t->batch * t->classes,
            (struct golden_tolerance){0.0, bounds->logits});
    if (!(fabs(loss - golden_number(c, step, "loss")) <= bounds->loss))
        golden_problem(c, "step %d, loss %.9g, expected %.9g", number, loss, golden_number(c, step, "loss"));
    compare_gradients(t, number, json_object_get(step, "grads"), bounds);
    mqb_optimizer_step(t->optimizer, golden_number(c, step, "lr"));
    compare_state(t, number, json_object_get(step, "state_after"), bounds);
    return tie;
}

/* The logits in evaluation, from the recorded last state. */
static void run_evaluation(struct trace *t, const json_t *state, const float *x)
{
    struct golden_case *c = t->c;
    struct mqb_exec *exec;
    struct mqb_exec_config config = {
        .graph = t->g, .host = mqb_host_table(), .compute = c->run->compute, .pool = c->run->pool, .batch = (int)t->batch};
    trace_load_state(t, state, false);
    if (c->problem[0] || !golden_ok(c, mqb_exec_create(&config, &exec, &c->error)))
        return;
    if (golden_ok(c, mqb_exec_forward(exec, x, (int)t->batch, &c->error)))
        compare(t, 0, "evaluation", mqb_exec_value(exec, t->g->output), json_object_get(c->item, "eval_logits_after"),
                t->batch * t->classes, (struct golden_tolerance){0.0, t->quantized ? lsq_bounds.logits : fp32_bounds.logits});
    mqb_exec_destroy(exec);
}

static void run_steps(struct trace *t)
{
    struct golden_case *c = t->c;
    const json_t *batch = json_object_get(c->item, "batch"), *steps = json_object_get(c->item, "steps"), *before = NULL,
                 *momentum = NULL;
    struct golden_tensor nchw = trace_tensor(c, json_object_get(batch, "x"), t->batch * 3 * t->side * t->side);
    nchw.rank = 4;
    nchw.dims[0] = t->batch;
    nchw.dims[1] = 3;
    nchw.dims[2] = nchw.dims[3] = t->side;
    struct golden_tensor x = golden_nhwc(c, &nchw);
    int32_t *labels = golden_alloc(c, t->batch, sizeof(int32_t));
    for (int64_t i = 0; i < t->batch; i++)
        labels[i] = (int32_t)golden_at(c, batch, "labels", (size_t)i);
    trace_load_state(t, json_object_get(c->item, "initial"), true);
    if (t->quantized) {
        before = golden_get(c->item, "after_lsq_init.state");
        trace_load_state(t, before, false);
    }
    int num_ties = 0;
    for (size_t s = 0; s < json_array_size(steps) && !c->problem[0]; s++) {
        const json_t *step = json_array_get(steps, s);
        if (s > 0)
            trace_load_state(t, before, false);
        if (json_is_object(momentum))
            load_momentum(t, momentum);
        num_ties += run_step(t, step, before, (int)s + 1, x.data, labels);
        before = json_object_get(step, "state_after");
        momentum = json_object_get(step, "momentum_after");
    }
    if (num_ties > 1) /* the reference itself moves at one step of one trace when its convolution is another */
        golden_problem(c, "%d steps stand on a rounding tie", num_ties);
    if (!c->problem[0])
        run_evaluation(t, before, x.data);
}

void golden_trace_case(struct golden_case *c)
{
    struct trace t = {.c = c, .quantized = json_is_object(json_object_get(c->item, "quant"))};
    const json_t *arch = json_object_get(c->item, "arch"), *input = json_object_get(arch, "input");
    struct mqb_recipe recipe;
    mqb_value_id keep[TRACE_MAX_POINTS];
    t.channels = golden_int(arch, "C");
    t.classes = golden_int(arch, "classes");
    t.batch = json_integer_value(json_array_get(input, 0));
    t.side = json_integer_value(json_array_get(input, 2));
    if (t.channels < 1 || t.classes < 1 || t.batch < 1 || t.side < 1) {
        golden_problem(c, "the trace does not say its network");
        return;
    }
    if (t.quantized) {
        t.lsq = golden_component(c, MQB_KIND_QUANTIZER, "lsq");
        t.options = t.lsq ? golden_options(c, t.lsq->options, t.lsq->num_options, c->compat ? "compat=paper" : "") : NULL;
        if (!t.options)
            return;
        trace_front_vtable(t.lsq, &t.vtable);
    }
    trace_build(&t);
    if (c->problem[0])
        goto out;
    for (int i = 0; i < t.points.num_points; i++)
        keep[i] = t.g->nodes[t.list[i]->node].inputs[0];
    struct mqb_exec_config config = {.graph = t.g,
                                     .host = mqb_host_table(),
                                     .compute = c->run->compute,
                                     .pool = c->run->pool,
                                     .batch = (int)t.batch,
                                     .training = true,
                                     .gradients = true,
                                     .keep = keep,
                                     .num_keep = t.points.num_points};
    mqb_recipe_defaults(&recipe);
    recipe.weight_decay = golden_number(c, json_object_get(c->item, "optim"), "weight_decay");
    recipe.decay_norm = true;
    if (golden_ok(c, mqb_exec_create(&config, &t.exec, &c->error)) &&
        golden_ok(c, mqb_optimizer_create(t.g, t.exec, t.quantized ? &t.points : NULL, c->run->pool, &recipe, &t.optimizer,
                                          &c->error)))
        run_steps(&t);
out:
    mqb_optimizer_destroy(t.optimizer);
    mqb_exec_destroy(t.exec);
    for (int i = 0; i < t.points.num_points; i++)
        t.lsq->destroy(t.front[i].self);
    mqb_options_destroy(t.options);
    mqb_graph_destroy(t.g);
}
