/* test_exec_integer.c - the forward convolution of operands on affine grids is the exact integer sum, scaled once; operands
 * that are not codes run on floats. */
#include "common/support.h"
#include "exec/exec.h"
#include "ops/point.h"
#include "quant/quant.h"

#include <math.h>

enum { BATCH = 3, MAX_CHANNELS = 40, SIZE = 7 };

struct layer {
    const char *name;
    int c, k, r, stride, pad, groups;
    bool bias, per_channel;
    int x_low, x_high, x_zero, w_low, w_high, w_zero;
    bool integer; /* expected */
};

/* Rounds to scale[c] (q - zero); `off` moves what it returns off the grid it claims. */
struct toy {
    float scale[MAX_CHANNELS];
    int32_t zero[MAX_CHANNELS];
    int low, high, num_channels;
    float off;
};

static int32_t toy_code(const struct toy *toy, int c, float x)
{
    float q = rintf(x / toy->scale[c]) + (float)toy->zero[c];
    return (int32_t)fminf(fmaxf(q, (float)toy->low), (float)toy->high);
}

static void toy_forward(const void *self, const struct mqb_slice *slice)
{
    const struct toy *toy = self;
    int c = slice->channel;
    for (int64_t i = 0; i < slice->size; i++)
        slice->y[i] = slice->x[i] != slice->x[i]
                          ? slice->x[i]
                          : toy->scale[c] * (float)(toy_code(toy, c, slice->x[i]) - toy->zero[c]) + toy->off;
}

static mqb_status toy_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    const struct toy *toy = self;
    (void)error;
    *qparams = (struct mqb_qparams){.struct_size = sizeof *qparams,
                                    .num_channels = toy->num_channels,
                                    .scale = toy->scale,
                                    .zero_point = toy->zero,
                                    .qmin = toy->low,
                                    .qmax = toy->high};
    return MQB_OK;
}

static const struct mqb_quantizer toy_affine = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS | MQB_QUANTIZER_AFFINE,
    .forward = toy_forward,
    .qparams = toy_qparams,
};
static const struct mqb_quantizer toy_other = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS,
    .forward = toy_forward,
};

struct net {
    struct mqb_graph *graph;
    struct mqb_pool *pool;
    mqb_value_id weight, bias;
    struct toy x_toy, w_toy;
    struct mqb_point x_point, w_point;
    int out; /* height and width of the result */
    float *x, *y;
    size_t num_y;
};

static mqb_value_id add(struct net *n, const char *op, const mqb_value_id *in, int num_in, mqb_node_id *node)
{
    OK(mqb_graph_calls.add_node(n->graph, op, op, in, num_in, node, &err));
    return n->graph->nodes[*node].output;
}

static void create(struct net *n, const struct layer *l, int threads)
{
    memset(n, 0, sizeof *n);
    const int64_t in[4] = {MQB_BATCH, l->c, SIZE, SIZE}, w[4] = {l->k, l->c / l->groups, l->r, l->r}, k = l->k;
    const int64_t pads[4] = {l->pad, l->pad, l->pad, l->pad}, strides[2] = {l->stride, l->stride};
    mqb_value_id x;
    mqb_node_id x_node, w_node, conv;
    OK(mqb_pool_create(threads, &n->pool, &err));
    OK(mqb_graph_create(&mqb_ops, &n->graph, &err));
    OK(mqb_graph_add_input(n->graph, "x", 4, in, &x, &err));
    OK(mqb_graph_calls.add_value(n->graph, MQB_VALUE_PARAM, "weight", 4, w, NULL, &n->weight, &err));
    OK(mqb_graph_calls.add_value(n->graph, MQB_VALUE_PARAM, "bias", 1, &k, NULL, &n->bias, &err));
    const mqb_value_id operands[3] = {add(n, "FakeQuantize", &x, 1, &x_node), add(n, "FakeQuantize", &n->weight, 1, &w_node),
                                      n->bias};
    OK(mqb_graph_set_output(n->graph, add(n, "Conv", operands, l->bias ? 3 : 2, &conv), &err));
    OK(mqb_node_set_list(n->graph, conv, "pads", pads, 4, &err));
    OK(mqb_node_set_list(n->graph, conv, "strides", strides, 2, &err));
    OK(mqb_graph_calls.set_attr_int(n->graph, conv, "group", l->groups, &err));
    OK(mqb_graph_infer(n->graph, &err));
    n->x_toy = (struct toy){.scale = {0.0371f}, .zero = {l->x_zero}, .low = l->x_low, .high = l->x_high, .num_channels = 1};
    n->w_toy = (struct toy){.low = l->w_low, .high = l->w_high, .num_channels = l->per_channel ? l->k : 1};
    for (int c = 0; c < l->k; c++) {
        n->w_toy.scale[c] = 0.0123f + 0.001f * (float)c;
        n->w_toy.zero[c] = l->w_zero;
    }
    struct mqb_point point = {.name = (char *)(uintptr_t) "tensor",
                              .quantizer = &toy_affine,
                              .mode = MQB_POINT_ON,
                              .scheme = {.struct_size = sizeof(struct mqb_scheme), .num_channels = 1}};
    n->x_point = n->w_point = point;
    n->x_point.self = &n->x_toy;
    n->w_point.self = &n->w_toy;
    n->w_point.scheme.per_channel = l->per_channel;
    n->w_point.scheme.num_channels = n->w_toy.num_channels;
    n->graph->nodes[x_node].point = &n->x_point;
    n->graph->nodes[w_node].point = &n->w_point;
    n->out = (SIZE + 2 * l->pad - l->r) / l->stride + 1;
    n->num_y = (size_t)(BATCH * n->out * n->out * l->k);
    n->x = calloc((size_t)(BATCH * SIZE * SIZE * l->c), sizeof *n->x);
    n->y = calloc(n->num_y, sizeof *n->y);
    for (int i = 0; i < BATCH * SIZE * SIZE * l->c; i++)
        n->x[i] = 0.0371f * (0.4f * (float)(l->x_high - l->x_low) * (float)mqb_normal(3, 0, (uint64_t)i) +
                             0.5f * (float)(l->x_high + l->x_low) - (float)l->x_zero);
    for (int64_t i = 0; i < l->k * w[1] * l->r * l->r; i++)
        n->graph->values[n->weight].data[i] =
            0.0123f * (0.4f * (float)(l->w_high - l->w_low) * (float)mqb_normal(3, 1, (uint64_t)i) +
                       0.5f * (float)(l->w_high + l->w_low) - (float)l->w_zero);
    for (int i = 0; i < l->k; i++)
        n->graph->values[n->bias].data[i] = (float)mqb_normal(3, 2, (uint64_t)i);
}

static void destroy(struct net *n)
{
    mqb_graph_destroy(n->graph);
    mqb_pool_destroy(n->pool);
    free(n->x);
    free(n->y);
}

static void forward(struct net *n)
{
    struct mqb_exec_config config = {.graph = n->graph,
                                     .host = mqb_host_table(),
                                     .pool = n->pool,
                                     .batch = BATCH,
                                     .compute = component("native", MQB_COMPUTE_INTERFACE)};
    struct mqb_exec *exec;
    OK(mqb_exec_create(&config, &exec, &err));
    OK(mqb_exec_forward(exec, n->x, BATCH, &err));
    memcpy(n->y, mqb_exec_value(exec, n->graph->output), n->num_y * sizeof *n->y);
    mqb_exec_destroy(exec);
}

/* y[n][p][q][k] by integer arithmetic in 64 bits. */
static float exact(const struct net *n, const struct layer *l, int image, int p, int q, int k)
{
    int group_in = l->c / l->groups, first = k / (l->k / l->groups) * group_in, scale = l->per_channel ? k : 0;
    const float *weight = n->graph->values[n->weight].data;
    int64_t sum = 0;
    for (int c = 0; c < group_in; c++)
        for (int r = 0; r < l->r; r++)
            for (int s = 0; s < l->r; s++) {
                int h = p * l->stride + r - l->pad, w = q * l->stride + s - l->pad;
                if (h < 0 || h >= SIZE || w < 0 || w >= SIZE)
                    continue;
                float x = n->x[((image * SIZE + h) * SIZE + w) * l->c + first + c];
                float v = weight[((k * group_in + c) * l->r + r) * l->r + s];
                sum += (int64_t)(toy_code(&n->x_toy, 0, x) - l->x_zero) * (toy_code(&n->w_toy, scale, v) - l->w_zero);
            }
    float y = (float)sum * (float)((double)n->x_toy.scale[0] * (double)n->w_toy.scale[scale]);
    return l->bias ? y + n->graph->values[n->bias].data[k] : y;
}

/* How many results are the exact ones; all must be near. */
static size_t count_exact(const struct net *n, const struct layer *l)
{
    size_t count = 0, at = 0;
    for (int image = 0; image < BATCH; image++)
        for (int p = 0; p < n->out; p++)
            for (int q = 0; q < n->out; q++)
                for (int k = 0; k < l->k; k++, at++) {
                    float want = exact(n, l, image, p, q, k);
                    count += n->y[at] == want;
                    if (!(fabsf(n->y[at] - want) < 1e-4f * (fabsf(want) + 1)))
                        fail_msg("%s: result %zu is %g, not %g", l->name, at, (double)n->y[at], (double)want);
                }
    return count;
}

static const struct layer layers[] = {
    {"3x3", 16, 32, 3, 1, 1, 1, false, false, 0, 15, 0, -8, 7, 0, true},
    {"3x3, zero point", 16, 17, 3, 2, 1, 1, true, true, 0, 255, 77, -128, 127, 0, true},
    {"signed codes", 5, 9, 3, 1, 1, 1, true, false, -128, 127, -3, -8, 7, 0, true},
    {"weights with a zero point", 8, 8, 1, 1, 0, 1, false, true, -8, 7, 2, 0, 15, 5, true},
    {"depthwise", 19, 19, 3, 1, 1, 19, false, true, 0, 255, 9, -128, 127, 0, true},
    {"groups", 12, 20, 3, 1, 1, 4, true, true, 0, 255, 200, -128, 127, 0, true},
    {"weights beyond a byte", 40, 40, 3, 1, 1, 1, false, false, 0, 255, 0, 0, 255, 40, false},
};

static void test_exec_integer_forward_is_the_exact_sum(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        struct net n;
        create(&n, &layers[i], 2);
        forward(&n);
        size_t hits = count_exact(&n, &layers[i]);
        if ((hits == n.num_y) != layers[i].integer)
            fail_msg("%s: %zu of %zu results are exact", layers[i].name, hits, n.num_y);
        destroy(&n);
    }
}

static void test_exec_integer_forward_same_on_every_instruction_set(void **state)
{
    static const char *const sets[] = {"scalar", "avx2"};
    (void)state;
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        struct net n, other;
        create(&n, &layers[i], 1);
        forward(&n);
        for (size_t s = 0; s < 2; s++) {
            create(&other, &layers[i], 3);
            setenv("MQBENCH_ISA", sets[s], 1);
            forward(&other);
            unsetenv("MQBENCH_ISA");
            assert_memory_equal(n.y, other.y, n.num_y * sizeof *n.y);
            destroy(&other);
        }
        destroy(&n);
    }
}

/* What `change` makes of the network runs as it does with a quantizer that claims nothing. */
static void expect_floats(void (*change)(struct net *n))
{
    struct net n, floats;
    create(&n, &layers[1], 2);
    create(&floats, &layers[1], 2);
    change(&n);
    change(&floats);
    floats.x_point.quantizer = floats.w_point.quantizer = &toy_other;
    forward(&n);
    forward(&floats);
    assert_memory_equal(n.y, floats.y, n.num_y * sizeof *n.y);
    destroy(&n);
    destroy(&floats);
}

static void points_off(struct net *n)
{
    n->x_point.mode = n->w_point.mode = MQB_POINT_OFF;
}

static void x_off_its_grid(struct net *n)
{
    n->x_toy.off = 1e-3f;
}

static void weight_off_its_grid(struct net *n)
{
    n->w_toy.off = 1e-3f;
}

static void x_not_a_number(struct net *n)
{
    for (int image = 0; image < BATCH; image++)
        n->x[image * SIZE * SIZE * 16 + 5] = NAN;
}

static void scale_subnormal(struct net *n)
{
    n->x_toy.scale[0] = 1e-40f;
}

static void test_exec_operands_that_are_not_codes_run_on_floats(void **state)
{
    (void)state;
    expect_floats(points_off);
    expect_floats(x_off_its_grid);
    expect_floats(weight_off_its_grid);
    expect_floats(x_not_a_number);
    expect_floats(scale_subnormal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec_integer_forward_is_the_exact_sum),
        cmocka_unit_test(test_exec_integer_forward_same_on_every_instruction_set),
        cmocka_unit_test(test_exec_operands_that_are_not_codes_run_on_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
