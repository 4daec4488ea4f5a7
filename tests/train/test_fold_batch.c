/*
 * test_fold_batch.c - the folds that depend on the batch itself, strategies 2 and 3, against what comes from outside: central
 * differences of the whole fold in double precision, and the reference modules (golden family 3, the cases that were unfrozen
 * by hand, and those of the published code, which freezes them).
 */
#include "train/fold_unit.h"

#include <jansson.h>

#define EPSILON 1e-5 /* of batch norm */
#define MAX_K 8

/* ---- a smooth quantizer: Q(w) = w + w^3 / 4. The fold is a different function for each strategy, and has differences. ---- */

static double cubic(double w)
{
    return w + 0.25 * w * w * w;
}

static void cubic_forward(const void *self, const struct mqb_slice *slice)
{
    (void)self;
    for (int64_t i = 0; i < slice->size; i++)
        slice->y[i] = (float)cubic((double)slice->x[i]);
}

static void cubic_backward(const void *self, const struct mqb_slice *slice)
{
    (void)self;
    for (int64_t i = 0; i < slice->size; i++)
        slice->dx[i] = (float)((double)slice->dy[i] * (1 + 0.75 * (double)slice->x[i] * (double)slice->x[i]));
}

static const struct mqb_quantizer smooth = {
    .struct_size = sizeof(struct mqb_quantizer), .forward = cubic_forward, .backward = cubic_backward};

/* ---- the fold in double ---- */

enum { X, WEIGHT, BIAS, GAMMA, BETA, NUM_PARTS };

struct fold_reference {
    const struct fold_shape *shape;
    int strategy;
    double *part[NUM_PARTS];
    int size[NUM_PARTS];
    double running_var[MAX_K]; /* strategy 3: moved by the batch, then constant */
    double *o, *u, *y;
};

static void convolve(const struct fold_reference *f, const double *scale, double (*q)(double), double *out)
{
    const struct fold_shape *s = f->shape;
    int p = fold_out(s), cg = s->c / s->groups, kg = s->k / s->groups;
    for (int i = 0; i < s->n * p * p * s->k; i++) {
        int k = i % s->k, px = i / s->k % p, py = i / s->k / p % p, n = i / s->k / p / p;
        out[i] = 0;
        for (int c = 0; c < cg; c++)
            for (int r = 0; r < s->r * s->r; r++) {
                int h = py * s->stride - s->pad + r / s->r, w = px * s->stride - s->pad + r % s->r;
                double weight = f->part[WEIGHT][(k * cg + c) * s->r * s->r + r] * (scale != NULL ? scale[k] : 1);
                if (h >= 0 && h < s->h && w >= 0 && w < s->h)
                    out[i] +=
                        f->part[X][((n * s->h + h) * s->h + w) * s->c + k / kg * cg + c] * (q != NULL ? q(weight) : weight);
            }
    }
}

static void moments(const struct fold_reference *f, const double *o, int k, double *mean, double *var)
{
    int rows = fold_size_y(f->shape) / f->shape->k;
    *mean = *var = 0;
    for (int i = 0; i < rows; i++)
        *mean += o[i * f->shape->k + k] / rows;
    for (int i = 0; i < rows; i++)
        *var += (o[i * f->shape->k + k] - *mean) * (o[i * f->shape->k + k] - *mean) / rows;
}

/* y by the table of the specification; the loss is sum g y. */
static double reference_loss(struct fold_reference *f, const double *g)
{
    const struct fold_shape *s = f->shape;
    double mean[MAX_K], sigma[MAX_K], folded[MAX_K], scale[MAX_K], loss = 0;
    convolve(f, NULL, NULL, f->o);
    for (int k = 0; k < s->k; k++) {
        double var, bias = s->bias ? f->part[BIAS][k] : 0;
        moments(f, f->o, k, &mean[k], &var);
        mean[k] += bias; /* of conv(x, W) + b */
        sigma[k] = sqrt(var + EPSILON);
        folded[k] = f->strategy == 2 ? sigma[k] : sqrt(f->running_var[k] + EPSILON);
        scale[k] = f->part[GAMMA][k] / folded[k];
    }
    convolve(f, scale, cubic, f->u);
    for (int i = 0; i < fold_size_y(s); i++) {
        int k = i % s->k;
        double bias = s->bias ? f->part[BIAS][k] : 0;
        f->y[i] = f->u[i] * folded[k] / sigma[k] + f->part[BETA][k] + (bias - mean[k]) * f->part[GAMMA][k] / sigma[k];
        loss += g[i] * f->y[i];
    }
    return loss;
}

static void reference_create(struct fold_reference *f, const struct fold_unit *u, const float *x, int strategy)
{
    const mqb_value_id ids[NUM_PARTS] = {MQB_NONE, u->weight, u->bias, u->gamma, u->beta};
    size_t size_y = (size_t)fold_size_y(&u->shape);
    memset(f, 0, sizeof *f);
    f->shape = &u->shape;
    f->strategy = strategy;
    f->o = calloc(3 * size_y, sizeof *f->o);
    f->u = f->o + size_y;
    f->y = f->u + size_y;
    for (int part = X; part < NUM_PARTS; part++) {
        const float *from = part == X ? x : ids[part] == MQB_NONE ? NULL : fold_data(u, ids[part]);
        f->size[part] = part == X      ? fold_size_x(&u->shape)
                        : from == NULL ? 0
                                       : (int)mqb_value_size(&u->graph->values[ids[part]]);
        f->part[part] = calloc((size_t)f->size[part] + 1, sizeof(double));
        for (int i = 0; i < f->size[part]; i++)
            f->part[part][i] = (double)from[i];
    }
    double mean, var, rows = (double)size_y / u->shape.k;
    convolve(f, NULL, NULL, f->o);
    for (int k = 0; k < u->shape.k; k++) {
        moments(f, f->o, k, &mean, &var);
        f->running_var[k] = 0.9 * (double)fold_data(u, u->var)[k] + 0.1 * var * rows / (rows - 1);
    }
}

static void reference_destroy(struct fold_reference *f)
{
    free(f->o);
    for (int part = X; part < NUM_PARTS; part++)
        free(f->part[part]);
}

static void check_differences(const struct fold_shape *shape, const char *strategy, struct mqb_pool *pool)
{
    static const char *const names[NUM_PARTS] = {"x", "weight", "bias", "gamma", "beta"};
    struct fold_unit u;
    struct fold_reference f;
    fold_unit_create(&u, shape, strategy, "off", &smooth);
    fold_fill(u.graph, u.weight, 1, 0, 0.4);
    if (shape->bias)
        fold_fill(u.graph, u.bias, 2, 0, 0.5);
    fold_fill(u.graph, u.gamma, 3, 1, 0.3);
    fold_fill(u.graph, u.beta, 4, 0, 0.5);
    fold_fill(u.graph, u.mean, 5, 0, 0.5);
    fold_fill(u.graph, u.var, 6, 3, 0.3);
    fold_data(&u, u.gamma)[1] = 0.0f; /* a switched-off channel can come back: its gamma has a gradient */
    int size_x = fold_size_x(shape), size_y = fold_size_y(shape);
    float *x = calloc((size_t)size_x, sizeof *x), *g = calloc((size_t)size_y, sizeof *g),
          *want = calloc((size_t)(size_x + size_y), sizeof *want);
    double *gd = calloc((size_t)size_y, sizeof *gd);
    for (int i = 0; i < size_x; i++)
        x[i] = (float)(0.3 + mqb_normal(11, 7, (uint64_t)i));
    for (int i = 0; i < size_y; i++)
        gd[i] = (double)(g[i] = (float)mqb_normal(11, 8, (uint64_t)i));
    reference_create(&f, &u, x, atoi(strategy));
    reference_loss(&f, gd);
    for (int i = 0; i < size_y; i++)
        want[i] = (float)f.y[i];
    struct mqb_exec *exec = fold_plan(u.graph, shape->n, true, pool);
    OK(mqb_exec_forward(exec, x, shape->n, &err));
    fold_near(strategy, "output", mqb_exec_value(exec, u.graph->output), want, size_y, 1e-6, 0);
    for (int k = 0; k < shape->k; k++)
        assert_true(fabs((double)fold_data(&u, u.var)[k] - f.running_var[k]) < 1e-6 * f.running_var[k]);
    mqb_exec_set_output_gradient(exec, g);
    OK(mqb_exec_backward(exec, &err));
    const mqb_value_id ids[NUM_PARTS] = {MQB_NONE, u.weight, u.bias, u.gamma, u.beta};
    for (int part = X; part < NUM_PARTS; part++) {
        const float *got = part == X ? u.dx : ids[part] == MQB_NONE ? NULL : mqb_exec_gradient(exec, ids[part]);
        for (int i = 0; i < f.size[part]; i++) {
            double at = f.part[part][i], step = 1e-4;
            f.part[part][i] = at + step;
            double above = reference_loss(&f, gd);
            f.part[part][i] = at - step;
            want[i] = (float)((above - reference_loss(&f, gd)) / (2 * step));
            f.part[part][i] = at;
        }
        /* Differences: O(step^2). The bias has no gradient: its float terms cancel, as large as those at beta. */
        if (f.size[part] > 0)
            fold_near(strategy, names[part], got, want, f.size[part], 3e-6, part == BIAS ? 5e-5 : 0);
    }
    mqb_exec_destroy(exec);
    reference_destroy(&f);
    fold_unit_destroy(&u);
    free(x);
    free(g);
    free(gd);
    free(want);
}

static void test_fold_batch_gradients_are_differences_in_double(void **state)
{
    (void)state;
    static const struct fold_shape shapes[] = {
        {.n = 5, .c = 4, .h = 5, .k = 6, .r = 3, .groups = 2, .stride = 1, .pad = 1},
        {.n = 4, .c = 3, .h = 6, .k = 4, .r = 3, .groups = 1, .stride = 2, .pad = 1, .bias = true},
        {.n = 3, .c = 4, .h = 4, .k = 4, .r = 3, .groups = 4, .stride = 1, .pad = 1, .bias = true},
    };
    struct mqb_pool *pool;
    OK(mqb_pool_create(2, &pool, &err));
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        check_differences(&shapes[i], "2", pool);
        check_differences(&shapes[i], "3", pool);
    }
    mqb_pool_destroy(pool);
}

/* ---- the reference modules ---- */

struct replay {
    struct fold_unit unit;
    const struct mqb_quantizer *lsq;
    struct mqb_options *options;
    struct mqb_pool *pool;
    const char *name;
};

static int number(const json_t *object, const char *key)
{
    return (int)json_integer_value(json_object_get(object, key));
}

static int dim(const json_t *tensor, size_t index)
{
    return (int)json_integer_value(json_array_get(json_object_get(tensor, "shape"), index));
}

static float *read_tensor(const json_t *tensor, int64_t size)
{
    const json_t *data = json_object_get(tensor, "data");
    assert_int_equal(json_array_size(data), size);
    float *numbers = malloc((size_t)(size + 1) * sizeof *numbers);
    for (int64_t i = 0; i < size; i++)
        numbers[i] = (float)json_number_value(json_array_get(data, (size_t)i));
    return numbers;
}

static float *read_images(const json_t *tensor) /* to NHWC */
{
    int n = dim(tensor, 0), c = dim(tensor, 1), p = dim(tensor, 2) * dim(tensor, 3);
    float *from = read_tensor(tensor, n * c * p), *to = malloc((size_t)(n * c * p) * sizeof *to);
    for (int i = 0; i < n * c * p; i++)
        to[(i / p / c * p + i % p) * c + i / p % c] = from[i];
    free(from);
    return to;
}

static void load(struct replay *r, mqb_value_id id, const json_t *tensor)
{
    if (id == MQB_NONE)
        return;
    struct mqb_value *value = &r->unit.graph->values[id];
    float *numbers = read_tensor(tensor, mqb_value_size(value));
    memcpy(value->data, numbers, (size_t)mqb_value_size(value) * sizeof *numbers);
    free(numbers);
}

static void check(const struct replay *r, const char *what, const float *got, const json_t *tensor, int64_t size,
                  double relative, double absolute)
{
    float *want = read_tensor(tensor, size);
    fold_near(r->name, what, got, want, size, relative, absolute);
    free(want);
}

static void replay_open(struct replay *r, const json_t *test)
{
    const json_t *hyper = json_object_get(test, "hyper"), *scheme = json_object_get(test, "scheme");
    const json_t *x = json_object_get(json_array_get(json_object_get(test, "steps"), 0), "input");
    bool unfrozen = json_is_true(json_object_get(hyper, "bn_unfrozen_by_hand")),
         per_channel = json_is_true(json_object_get(scheme, "per_channel"));
    struct fold_shape shape = {.n = dim(x, 0),
                               .c = dim(x, 1),
                               .h = dim(x, 2),
                               .k = number(hyper, "out_channels"),
                               .r = number(hyper, "kernel"),
                               .groups = number(hyper, "groups"),
                               .stride = number(hyper, "stride"),
                               .pad = number(hyper, "padding"),
                               .bias = json_is_true(json_object_get(hyper, "conv_bias")),
                               .relu = json_is_true(json_object_get(test, "relu"))};
    fold_unit_create(&r->unit, &shape, number(test, "strategy") == 2 ? "2" : "3", unfrozen ? "paper" : "frozen", r->lsq);
    r->unit.weight_point.name = (char *)(uintptr_t) "weight";
    r->unit.weight_point.scheme = (struct mqb_scheme){.struct_size = sizeof(struct mqb_scheme),
                                                      .role = MQB_ROLE_WEIGHT,
                                                      .bits = number(test, "bits"),
                                                      .qmin = number(test, "quant_min"),
                                                      .qmax = number(test, "quant_max"),
                                                      .symmetric = json_is_true(json_object_get(scheme, "symmetric")),
                                                      .per_channel = per_channel,
                                                      .num_channels = per_channel ? shape.k : 1};
    OK(mqb_options_create(r->lsq->options, r->lsq->num_options, &r->options, &err));
    OK(mqb_options_set(r->options, "compat", "paper", "test", &err));
    OK(r->lsq->create(mqb_host_table(), &r->unit.weight_point.scheme, r->options, &r->unit.weight_point.self, &err));
}

static void replay_phase(struct replay *r, const json_t *phase, bool training)
{
    const json_t *before = json_object_get(phase, "state_before"), *expected = json_object_get(phase, "expected");
    const json_t *grads = json_object_get(expected, "param_grads"), *after = json_object_get(expected, "state_after");
    struct fold_unit *u = &r->unit;
    const mqb_value_id ids[6] = {u->weight, u->bias, u->gamma, u->beta, u->mean, u->var};
    static const char *const names[6] = {"weight", "bias", "gamma", "beta", "running_mean", "running_var"};
    for (int i = 0; i < 6; i++)
        load(r, ids[i], json_object_get(before, names[i]));
    struct mqb_param param = {.struct_size = sizeof param};
    for (uint32_t i = 0; r->lsq->param(u->weight_point.self, i, &param) == MQB_OK; i++) {
        float *numbers =
            read_tensor(json_object_get(json_object_get(before, "weight_fake_quant"), param.name), param.num_elements);
        memcpy(param.value, numbers, (size_t)param.num_elements * sizeof *numbers);
        free(numbers);
    }
    float *x = read_images(json_object_get(phase, "input")), *y = read_images(json_object_get(expected, "output"));
    struct mqb_exec *exec = fold_plan(u->graph, u->shape.n, training, r->pool);
    OK(mqb_exec_forward(exec, x, u->shape.n, &err));
    fold_near(r->name, "output", mqb_exec_value(exec, u->graph->output), y, fold_size_y(&u->shape), 5e-6, 0);
    if (training) {
        float *dy = read_images(json_object_get(phase, "grad_output")),
              *dx = read_images(json_object_get(expected, "grad_input"));
        mqb_exec_set_output_gradient(exec, dy);
        OK(mqb_exec_backward(exec, &err));
        fold_near(r->name, "grad_input", u->dx, dx, fold_size_x(&u->shape), 5e-6, 0);
        for (int i = 0; i < 4; i++)
            if (ids[i] != MQB_NONE)
                check(r, names[i], mqb_exec_gradient(exec, ids[i]), json_object_get(grads, names[i]),
                      mqb_value_size(&u->graph->values[ids[i]]), 5e-5, i == 1 ? 1e-5 : 0);
        for (uint32_t i = 0; r->lsq->param(u->weight_point.self, i, &param) == MQB_OK; i++)
            if (json_is_object(json_object_get(grads, param.name)))
                check(r, param.name, param.grad, json_object_get(grads, param.name), param.num_elements, 1e-4, 0);
        check(r, names[4], fold_data(u, u->mean), json_object_get(after, names[4]), u->shape.k, 5e-6, 1e-7);
        check(r, names[5], fold_data(u, u->var), json_object_get(after, names[5]), u->shape.k, 5e-6, 0);
        free(dy);
        free(dx);
    }
    mqb_exec_destroy(exec);
    free(x);
    free(y);
}

static void test_fold_batch_equals_reference_modules(void **state)
{
    (void)state;
    json_t *file = json_load_file(MQB_SHARED "/golden/fam3_bn_fold.json", 0, NULL), *test, *step;
    if (file == NULL) {
        print_message("no reference vectors here: skipped\n");
        skip();
    }
    struct replay r = {.lsq = component("lsq", MQB_QUANTIZER_INTERFACE)};
    int unfrozen = 0, published = 0;
    size_t i, s;
    OK(mqb_pool_create(2, &r.pool, &err));
    json_array_foreach(json_object_get(file, "cases"), i, test)
    {
        if (number(test, "strategy") != 2 && number(test, "strategy") != 3)
            continue;
        r.name = json_string_value(json_object_get(test, "name"));
        replay_open(&r, test);
        json_array_foreach(json_object_get(test, "steps"), s, step) replay_phase(&r, step, true);
        replay_phase(&r, json_object_get(test, "eval"), false);
        if (json_is_true(json_object_get(json_object_get(test, "hyper"), "bn_unfrozen_by_hand")))
            unfrozen++;
        else
            published++;
        r.lsq->destroy(r.unit.weight_point.self);
        mqb_options_destroy(r.options);
        fold_unit_destroy(&r.unit);
    }
    print_message("%d cases of strategies 2 and 3, and %d of the published ones\n", unfrozen, published);
    assert_true(unfrozen > 0 && published > 0);
    mqb_pool_destroy(r.pool);
    json_decref(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fold_batch_gradients_are_differences_in_double),
        cmocka_unit_test(test_fold_batch_equals_reference_modules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
