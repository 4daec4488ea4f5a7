/* test_exec_coded.c - values kept as codes between forward and backward give the bits that floats give, whoever reads them, and
 * grain by grain where some numbers have no code; and they take a quarter of the room. */
#include "common/support.h"
#include "exec/exec.h"
#include "ops/point.h"
#include "quant/quant.h"

#include <mqbench/backend.h>

#include <math.h>

enum { BATCH = 18, CHANNELS = 16, SIZE = 14, CLASSES = 5, NUM_POINTS = 3 };
static const int64_t image = CHANNELS * SIZE * SIZE;

/* Rounds to scale (q - 3), 0 <= q <= 15. From element `off_from` of the batch to `off_to` what it returns is off that grid. */
struct toy {
    float scale;
    int32_t zero;
    uint64_t off_from, off_to;
    float off;
};

static void toy_forward(const void *self, const struct mqb_slice *slice)
{
    const struct toy *toy = self;
    for (int64_t i = 0; i < slice->size; i++) {
        uint64_t at = slice->offset + (uint64_t)i;
        float code = fminf(fmaxf(rintf(slice->x[i] / toy->scale) + 3.0f, 0.0f), 15.0f);
        slice->y[i] = toy->scale * (code - 3.0f);
        if (at >= toy->off_from && at < toy->off_to)
            slice->y[i] = toy->off == 0.0f ? copysignf(slice->y[i], -1.0f) : slice->y[i] + toy->off;
    }
}

static void toy_backward(const void *self, const struct mqb_slice *slice)
{
    const struct toy *toy = self;
    for (int64_t i = 0; i < slice->size; i++) {
        slice->dx[i] = slice->x[i] < 12.0f * toy->scale ? slice->dy[i] : 0.0f;
        slice->sums[0] += (double)slice->dy[i];
    }
}

static mqb_status toy_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    const struct toy *toy = self;
    (void)error;
    *qparams = (struct mqb_qparams){.struct_size = sizeof *qparams,
                                    .num_channels = 1,
                                    .scale = &toy->scale,
                                    .zero_point = &toy->zero,
                                    .qmin = 0,
                                    .qmax = 15};
    return MQB_OK;
}

/* The same numbers; the second does not say that they are codes. */
static const struct mqb_quantizer toy_affine = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_ACTIVATIONS | MQB_QUANTIZER_AFFINE,
    .sums_per_channel = 1,
    .forward = toy_forward,
    .backward = toy_backward,
    .qparams = toy_qparams,
};
static const struct mqb_quantizer toy_other = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_ACTIVATIONS,
    .sums_per_channel = 1,
    .forward = toy_forward,
    .backward = toy_backward,
    .qparams = toy_qparams,
};

/* Straight to codes, ties to even: what forward does with x, not with x as the operator may have moved it. */
static int32_t toy_forward_codes(const void *self, const struct mqb_slice *slice, uint8_t *codes)
{
    const struct toy *toy = self;
    for (int64_t i = 0; i < slice->size; i++)
        codes[i] = (uint8_t)fminf(fmaxf(rintf(slice->x[i] / toy->scale) + 3.0f, 0.0f), 15.0f);
    return 1;
}

static const struct mqb_quantizer toy_direct = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_ACTIVATIONS | MQB_QUANTIZER_AFFINE,
    .sums_per_channel = 1,
    .forward = toy_forward,
    .backward = toy_backward,
    .qparams = toy_qparams,
    .forward_codes = toy_forward_codes,
};

struct net {
    struct mqb_graph *graph;
    struct mqb_pool *pool;
    struct toy toys[NUM_POINTS];
    struct mqb_point points[NUM_POINTS];
    int num_points;
    mqb_value_id params[16];
    int num_params;
    float *x, *dy;
};

static mqb_value_id param(struct net *n, enum mqb_value_kind kind, const char *name, int rank, const int64_t *dims, float base,
                          float spread)
{
    mqb_value_id id;
    OK(mqb_graph_calls.add_value(n->graph, kind, name, rank, dims, NULL, &id, &err));
    struct mqb_value *value = &n->graph->values[id];
    for (int64_t i = 0; i < mqb_value_size(value); i++)
        value->data[i] = base + spread * (float)mqb_normal(7, (uint64_t)id, (uint64_t)i);
    if (kind == MQB_VALUE_PARAM)
        n->params[n->num_params++] = id;
    return id;
}

static mqb_value_id add(struct net *n, const char *op, const mqb_value_id *in, int num_in, mqb_node_id *id)
{
    mqb_node_id node;
    OK(mqb_graph_calls.add_node(n->graph, op, op, in, num_in, &node, &err));
    if (id != NULL)
        *id = node;
    return n->graph->nodes[node].output;
}

static mqb_value_id quantize(struct net *n, mqb_value_id x, const struct mqb_quantizer *quantizer)
{
    int i = n->num_points++;
    mqb_node_id node;
    mqb_value_id y = add(n, "FakeQuantize", &x, 1, &node);
    n->toys[i] = (struct toy){.scale = 0.21f + 0.07f * (float)i, .zero = 3};
    n->points[i] = (struct mqb_point){.name = (char *)(uintptr_t) "tensor",
                                      .quantizer = quantizer,
                                      .self = &n->toys[i],
                                      .mode = MQB_POINT_ON,
                                      .scheme = {.struct_size = sizeof(struct mqb_scheme), .num_channels = 1, .bits = 4}};
    n->graph->nodes[node].point = &n->points[i];
    return y;
}

static mqb_value_id conv_norm(struct net *n, mqb_value_id x)
{
    const int64_t w[4] = {CHANNELS, CHANNELS, 3, 3}, c = CHANNELS, pads[4] = {1, 1, 1, 1};
    mqb_node_id node;
    const mqb_value_id conv[2] = {x, param(n, MQB_VALUE_PARAM, "weight", 4, w, 0.0f, 0.1f)};
    mqb_value_id y = add(n, "Conv", conv, 2, &node);
    OK(mqb_node_set_list(n->graph, node, "pads", pads, 4, &err));
    const mqb_value_id norm[5] = {y, param(n, MQB_VALUE_PARAM, "gamma", 1, &c, 1.0f, 0.2f),
                                  param(n, MQB_VALUE_PARAM, "beta", 1, &c, 0.0f, 0.2f),
                                  param(n, MQB_VALUE_STATE, "mean", 1, &c, 0.0f, 0.0f),
                                  param(n, MQB_VALUE_STATE, "var", 1, &c, 1.0f, 0.0f)};
    return add(n, "BatchNormalization", norm, 5, NULL);
}

/* Codes are read by a convolution (of x), by a convolution and an addition, by a pooling; the last layer is linear. */
static void create(struct net *n, const struct mqb_quantizer *quantizer, int threads)
{
    memset(n, 0, sizeof *n);
    const int64_t in[4] = {MQB_BATCH, CHANNELS, SIZE, SIZE}, w[2] = {CLASSES, CHANNELS}, two[2] = {2, 2};
    mqb_value_id x, y, z;
    mqb_node_id pool;
    OK(mqb_pool_create(threads, &n->pool, &err));
    OK(mqb_graph_create(&mqb_ops, &n->graph, &err));
    OK(mqb_graph_add_input(n->graph, "x", 4, in, &x, &err));
    y = conv_norm(n, quantize(n, x, quantizer));
    y = quantize(n, add(n, "Relu", &y, 1, NULL), quantizer);
    const mqb_value_id sum[2] = {conv_norm(n, y), y};
    z = add(n, "Add", sum, 2, NULL);
    z = quantize(n, add(n, "Relu", &z, 1, NULL), quantizer);
    z = add(n, "MaxPool", &z, 1, &pool);
    OK(mqb_node_set_list(n->graph, pool, "kernel_shape", two, 2, &err));
    OK(mqb_node_set_list(n->graph, pool, "strides", two, 2, &err));
    z = add(n, "GlobalAveragePool", &z, 1, NULL);
    z = add(n, "Flatten", &z, 1, NULL);
    const mqb_value_id linear[2] = {z, param(n, MQB_VALUE_PARAM, "linear", 2, w, 0.0f, 0.5f)};
    OK(mqb_graph_set_output(n->graph, add(n, "Gemm", linear, 2, NULL), &err));
    OK(mqb_graph_infer(n->graph, &err));
    n->x = calloc((size_t)(BATCH * image), sizeof *n->x);
    n->dy = calloc(BATCH * CLASSES, sizeof *n->dy);
    for (int64_t i = 0; i < BATCH * image; i++)
        n->x[i] = (float)mqb_normal(8, 0, (uint64_t)i);
    for (int i = 0; i < BATCH * CLASSES; i++)
        n->dy[i] = (float)mqb_normal(8, 1, (uint64_t)i);
}

static void destroy(struct net *n)
{
    mqb_graph_destroy(n->graph);
    mqb_pool_destroy(n->pool);
    free(n->x);
    free(n->dy);
}

static struct mqb_exec *plan(const struct net *n, bool training)
{
    struct mqb_exec *exec;
    struct mqb_exec_config config = {.graph = n->graph,
                                     .host = mqb_host_table(),
                                     .pool = n->pool,
                                     .batch = BATCH,
                                     .training = training,
                                     .gradients = training,
                                     .compute = component("native", MQB_COMPUTE_INTERFACE)};
    OK(mqb_exec_create(&config, &exec, &err));
    return exec;
}

static void step(struct net *n, struct mqb_exec *exec)
{
    OK(mqb_exec_forward(exec, n->x, BATCH, &err));
    mqb_exec_set_output_gradient(exec, n->dy);
    OK(mqb_exec_backward(exec, &err));
}

/* Both in training mode after a step on the same batch. */
static void expect_same(const struct net *a, const struct mqb_exec *run_a, const struct net *b, const struct mqb_exec *run_b)
{
    assert_memory_equal(mqb_exec_value(run_a, a->graph->output), mqb_exec_value(run_b, b->graph->output),
                        BATCH * CLASSES * sizeof(float));
    for (int i = 0; i < a->num_params; i++) {
        const float *x = mqb_exec_gradient((struct mqb_exec *)(uintptr_t)run_a, a->params[i]);
        const float *y = mqb_exec_gradient((struct mqb_exec *)(uintptr_t)run_b, b->params[i]);
        size_t size = (size_t)mqb_value_size(&a->graph->values[a->params[i]]);
        assert_memory_equal(x, y, size * sizeof *x);
    }
}

/* A step of the network on codes and on floats, after `change`. */
static void compare(void (*change)(struct net *n), int threads)
{
    struct net codes, floats;
    create(&codes, &toy_affine, threads);
    create(&floats, &toy_other, 1);
    struct mqb_exec *run_codes = plan(&codes, true), *run_floats = plan(&floats, true);
    for (int repeat = 0; repeat < 2; repeat++) { /* first all codes, then what `change` does, in the same plans */
        step(&codes, run_codes);
        step(&floats, run_floats);
        expect_same(&codes, run_codes, &floats, run_floats);
        for (int i = 0; i < codes.num_params; i++) /* numbers, not zeros, are compared */
            assert_true(repeat > 0 || mqb_exec_gradient(run_codes, codes.params[i])[0] != 0.0f);
        if (change != NULL) {
            change(&codes);
            change(&floats);
        }
    }
    step(&codes, run_codes);
    step(&floats, run_floats);
    expect_same(&codes, run_codes, &floats, run_floats);
    mqb_exec_destroy(run_codes);
    mqb_exec_destroy(run_floats);
    struct mqb_exec *eval_codes = plan(&codes, false), *eval_floats = plan(&floats, false);
    OK(mqb_exec_forward(eval_codes, codes.x, BATCH, &err));
    OK(mqb_exec_forward(eval_floats, floats.x, BATCH, &err));
    assert_memory_equal(mqb_exec_value(eval_codes, codes.graph->output), mqb_exec_value(eval_floats, floats.graph->output),
                        BATCH * CLASSES * sizeof(float));
    mqb_exec_destroy(eval_codes);
    mqb_exec_destroy(eval_floats);
    destroy(&codes);
    destroy(&floats);
}

static void test_exec_coded_gives_the_bits_of_floats(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++)
        compare(NULL, threads);
}

/* Off the grid in the middle of one grain (of two images) at every point, then to the end of the batch. */
static void off_in_a_grain(struct net *n)
{
    for (int i = 0; i < NUM_POINTS; i++) {
        n->toys[i].off_from = (uint64_t)(5 * image + 2500 + 37 * i);
        n->toys[i].off_to = n->toys[i].off_to == 0 ? n->toys[i].off_from + 1 : (uint64_t)(BATCH * image);
        n->toys[i].off = 0.011f;
    }
}

static void negative_zeros(struct net *n)
{
    off_in_a_grain(n);
    n->toys[1].off = 0.0f;
}

static void one_point_off(struct net *n)
{
    n->points[1].mode = n->points[1].mode == MQB_POINT_ON ? MQB_POINT_OFF : MQB_POINT_ON;
}

static void all_points_off(struct net *n)
{
    for (int i = 0; i < NUM_POINTS; i++)
        n->points[i].mode = MQB_POINT_OFF;
}

static void scale_subnormal(struct net *n)
{
    n->toys[2].scale = 1e-40f;
}

static void test_exec_what_is_no_code_stays_a_float(void **state)
{
    (void)state;
    compare(off_in_a_grain, 2);
    compare(negative_zeros, 2);
    compare(one_point_off, 2);
    compare(all_points_off, 2);
    compare(scale_subnormal, 2);
}

/* Half of the image's numbers lie between two codes. */
static void create_tied(struct net *n, const struct mqb_quantizer *quantizer, uint32_t rounding)
{
    create(n, quantizer, 1);
    for (int i = 0; i < NUM_POINTS; i++) {
        n->toys[i].scale = 0.25f;
        n->points[i].scheme.pot_scale = 1;
        n->points[i].scheme.rounding = rounding;
    }
    for (int64_t i = 0; i < BATCH * image; i++)
        n->x[i] = rintf(n->x[i] * 8.0f) / 8.0f;
}

static void test_exec_moved_ties_are_moved_in_codes_too(void **state)
{
    (void)state;
    struct net floats, codes, even;
    create_tied(&floats, &toy_other, MQB_ROUND_RHU);
    create_tied(&codes, &toy_direct, MQB_ROUND_RHU);
    create_tied(&even, &toy_direct, MQB_ROUND_RNE);
    /* Points that are not affine have no grid to find ties on: the floats' are moved by hand. */
    for (int64_t i = 0; i < BATCH * image; i++)
        floats.x[i] = fabsf(floats.x[i] * 4.0f - rintf(floats.x[i] * 4.0f)) == 0.5f ? nextafterf(floats.x[i], INFINITY) : floats.x[i];
    struct mqb_exec *run_floats = plan(&floats, true), *run_codes = plan(&codes, true), *run_even = plan(&even, true);
    step(&floats, run_floats);
    step(&codes, run_codes);
    step(&even, run_even);
    expect_same(&floats, run_floats, &codes, run_codes);
    assert_memory_not_equal(mqb_exec_value(run_codes, codes.graph->output), mqb_exec_value(run_even, even.graph->output),
                            BATCH * CLASSES * sizeof(float));
    mqb_exec_destroy(run_floats);
    mqb_exec_destroy(run_codes);
    mqb_exec_destroy(run_even);
    destroy(&floats);
    destroy(&codes);
    destroy(&even);
}

static void test_exec_codes_take_a_quarter(void **state)
{
    (void)state;
    struct net codes, floats;
    create(&codes, &toy_affine, 1);
    create(&floats, &toy_other, 1);
    struct mqb_exec *run_codes = plan(&codes, true), *run_floats = plan(&floats, true);
    size_t saved = (size_t)(2 * BATCH * image) * 3; /* two tensors (the third is gone at the peak), three bytes of four */
    size_t decoded = (size_t)(2 + 1) * (size_t)image * sizeof(float); /* a grain for convolutions, an image for the pooling */
    assert_true(mqb_exec_memory(run_codes) + saved - decoded <= mqb_exec_memory(run_floats));
    mqb_exec_destroy(run_codes);
    mqb_exec_destroy(run_floats);
    destroy(&codes);
    destroy(&floats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec_coded_gives_the_bits_of_floats),
        cmocka_unit_test(test_exec_what_is_no_code_stays_a_float),
        cmocka_unit_test(test_exec_moved_ties_are_moved_in_codes_too),
        cmocka_unit_test(test_exec_codes_take_a_quarter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
