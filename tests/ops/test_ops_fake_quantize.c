/* test_ops_fake_quantize.c - how a quantization point hands slices, shapes and sums to its quantizer. */
#include "drive.h"
#include "ops/point.h"

#include <mqbench/backend.h>

/* y = s[c] clamp(rint(x / s[c]), -4, 3); sums: of dy, and of dy times the element's index. */
struct toy {
    float scale[300];
    int num_prepare, num_reduce, training;
    struct mqb_tensor_view view;
    double sums[600];
    int num_sums;
};

static float toy_round(const struct toy *toy, int32_t channel, float x)
{
    return fminf(fmaxf(rintf(x / toy->scale[channel]), -4), 3);
}

static mqb_status toy_prepare(void *self, const struct mqb_tensor_view *x, int training, struct mqb_error *error)
{
    struct toy *toy = self;
    (void)error;
    toy->num_prepare++;
    toy->training = training;
    toy->view = *x;
    return MQB_OK;
}

static void toy_forward(const void *self, const struct mqb_slice *slice)
{
    const struct toy *toy = self;
    for (int64_t i = 0; i < slice->size; i++)
        slice->y[i] = toy->scale[slice->channel] * toy_round(toy, slice->channel, slice->x[i]);
}

static bool toy_passes(const struct toy *toy, int32_t channel, float x)
{
    float q = x / toy->scale[channel];
    return q > -4 && q < 3;
}

static void toy_backward(const void *self, const struct mqb_slice *slice)
{
    const struct toy *toy = self;
    for (int64_t i = 0; i < slice->size; i++) {
        slice->sums[0] += (double)slice->dy[i];
        slice->sums[1] += (double)slice->dy[i] * (double)(slice->offset + (uint64_t)i);
        slice->dx[i] = toy_passes(toy, slice->channel, slice->x[i]) ? slice->dy[i] : 0.0f;
    }
}

static void toy_reduce(void *self, const double *sums)
{
    struct toy *toy = self;
    toy->num_reduce++;
    memcpy(toy->sums, sums, (size_t)toy->num_sums * sizeof(double));
}

static const struct mqb_quantizer toy_quantizer = {
    .struct_size = sizeof(struct mqb_quantizer),
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS,
    .sums_per_channel = 2,
    .prepare = toy_prepare,
    .forward = toy_forward,
    .backward = toy_backward,
    .reduce = toy_reduce,
};

struct bench {
    struct one_node t;
    struct drive d;
    struct toy toy;
    struct mqb_point point;
};

/* A node with a point, its tensor of the given shape. */
static struct bench *bench_create(size_t rank, const int64_t *dims, bool per_channel)
{
    struct bench *b = calloc(1, sizeof(*b));
    int channels = per_channel ? (int)dims[0] : 1;
    one_node_init(&b->t, "FakeQuantize");
    one_node_input(&b->t, dims[0] == N ? MQB_VALUE_INPUT : MQB_VALUE_PARAM, rank, dims);
    for (int c = 0; c < channels; c++)
        b->toy.scale[c] = 0.125f + 0.01f * (float)c;
    b->toy.num_sums = 2 * channels;
    b->point = (struct mqb_point){
        .name = (char *)(uintptr_t) "tensor",
        .quantizer = &toy_quantizer,
        .algorithm = "toy",
        .self = &b->toy,
        .mode = MQB_POINT_ON,
        .scheme = {.struct_size = sizeof(struct mqb_scheme),
                   .bits = 3,
                   .qmin = -4,
                   .qmax = 3,
                   .per_channel = per_channel,
                   .num_channels = channels},
    };
    b->t.node.point = &b->point;
    drive_create(&b->d, &b->t, true);
    return b;
}

static void bench_destroy(struct bench *b)
{
    drive_destroy(&b->d);
    free(b);
}

static void test_fake_quantize_activation_blocks_make_the_tensor(void **state)
{
    struct bench *b = bench_create(DIMS(N, 7, 3, 2), false);
    struct drive *d = &b->d;
    double sum = 0, moment = 0;
    (void)state;
    assert_int_equal(drive_forward(d), MQB_OK);
    assert_int_equal(b->toy.num_prepare, 1);
    assert_int_equal(b->toy.training, 1);
    assert_int_equal(b->toy.view.rank, 4);
    const int64_t nhwc[4] = {BATCH, 3, 2, 7};
    assert_memory_equal(b->toy.view.dims, nhwc, sizeof(nhwc));
    assert_int_equal(b->toy.view.num_elements, BATCH * 42);
    assert_null(b->toy.view.data);
    drive_backward(d, false);
    for (int64_t i = 0; i < d->out_size; i++) {
        assert_true(d->out[i] == 0.125f * toy_round(&b->toy, 0, d->in[0][i]));
        assert_true(d->din[0][i] == (toy_passes(&b->toy, 0, d->in[0][i]) ? d->dout[i] : 0.0f));
        sum += (double)d->dout[i];
        moment += (double)d->dout[i] * (double)i;
    }
    assert_int_equal(b->toy.num_reduce, 1);
    assert_true(fabs(b->toy.sums[0] - sum) < 1e-9 && fabs(b->toy.sums[1] - moment) < 1e-9);
    drive_backward(d, true); /* in place */
    for (int64_t i = 0; i < d->out_size; i++)
        assert_true(d->din[0][i] == (toy_passes(&b->toy, 0, d->in[0][i]) ? d->dout[i] : 0.0f));
    bench_destroy(b);
}

static void test_fake_quantize_activation_rank_2_shape(void **state)
{
    struct bench *b = bench_create(DIMS(N, 9), false);
    (void)state;
    assert_int_equal(drive_forward(&b->d), MQB_OK);
    assert_int_equal(b->toy.view.rank, 2);
    assert_int_equal(b->toy.view.dims[0], BATCH);
    assert_int_equal(b->toy.view.dims[1], 9);
    bench_destroy(b);
}

static void test_fake_quantize_gradient_unwanted_still_learns(void **state)
{
    struct bench *b = bench_create(DIMS(N, 700, 2, 1), false);
    struct drive *d = &b->d;
    double sums[2] = {0}, sum = 0, moment = 0;
    (void)state;
    struct mqb_op_block block = {
        .rows = 5,
        .channels = 700,
        .first_row = 2,
        .in = {d->in[0] + 1400},
        .dout = d->dout + 1400,
        .sums = sums,
    };
    b->t.node.op->backward_block(&d->context, &block);
    for (int64_t i = 1400; i < 1400 + 3500; i++) {
        sum += (double)d->dout[i];
        moment += (double)d->dout[i] * (double)i;
    }
    assert_true(fabs(sums[0] - sum) < 1e-6 && fabs(sums[1] - moment) < 1e-3);
    bench_destroy(b);
}

static void expect_identity(struct bench *b)
{
    struct drive *d = &b->d;
    bool batched = d->context.graph->values[0].batched;
    assert_int_equal(drive_forward(d), MQB_OK);
    memset(d->din[0], 0, (size_t)d->size[0] * sizeof(float));
    drive_backward(d, false);
    assert_memory_equal(d->out, d->in[0], (size_t)d->out_size * sizeof(float));
    assert_memory_equal(d->din[0], d->dout, (size_t)d->out_size * sizeof(float));
    drive_backward(d, true);
    for (int64_t i = 0; i < d->out_size; i++)
        assert_true(d->din[0][i] == (batched ? 1 : 2) * d->dout[i]);
    assert_int_equal(b->toy.num_prepare, 0);
    assert_int_equal(b->toy.num_reduce, 0);
}

static void test_fake_quantize_off_or_without_point_identity(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        struct bench *b = variant & 1 ? bench_create(DIMS(N, 7, 3, 2), false) : bench_create(DIMS(6, 5), false);
        b->point.mode = MQB_POINT_OFF;
        if (variant & 2)
            b->t.node.point = NULL;
        expect_identity(b);
        bench_destroy(b);
    }
}

/* Per tensor or per channel, on this thread or on three: the same bits, and every element once. */
static void test_fake_quantize_weight_slices_make_the_tensor(void **state)
{
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        bool per_channel = variant & 1;
        int64_t channels = variant < 2 ? 300 : 2, per = variant < 2 ? 150 : 20000;
        struct bench *b = bench_create(DIMS(channels, per, 1, 1), per_channel);
        struct drive *d = &b->d;
        assert_int_equal(drive_forward(d), MQB_OK);
        assert_int_equal(b->toy.view.num_elements, channels * per);
        assert_ptr_equal(b->toy.view.data, d->in[0]);
        for (int64_t i = 0; i < d->out_size; i++) {
            int32_t c = per_channel ? (int32_t)(i / per) : 0;
            assert_true(d->out[i] == b->toy.scale[c] * toy_round(&b->toy, c, d->in[0][i]));
        }
        drive_backward(d, false);
        int num_sums = per_channel ? (int)channels : 1;
        for (int c = 0; c < num_sums; c++) {
            double sum = 0, moment = 0;
            for (int64_t i = per_channel ? c * per : 0; i < (per_channel ? (c + 1) * per : d->out_size); i++) {
                sum += (double)d->dout[i];
                moment += (double)d->dout[i] * (double)i;
            }
            assert_true(fabs(b->toy.sums[2 * c] - sum) < 1e-6 && fabs(b->toy.sums[2 * c + 1] - moment) < 1e-3);
        }
        for (int64_t i = 0; i < d->out_size; i++)
            assert_true(d->din[0][i] ==
                        (toy_passes(&b->toy, per_channel ? (int32_t)(i / per) : 0, d->in[0][i]) ? d->dout[i] : 0.0f));
        double sums[600];
        memcpy(sums, b->toy.sums, sizeof(sums));
        struct mqb_pool *pool;
        assert_int_equal(mqb_pool_create(3, &pool, NULL), MQB_OK);
        d->context.pool = pool;
        float *nowhere[MQB_MAX_INPUTS] = {NULL};
        b->t.node.op->backward_fixed(&d->context, d->dout, nowhere); /* a weight that is not trained: its quantizer still is */
        assert_memory_equal(sums, b->toy.sums, sizeof(sums));
        mqb_pool_destroy(pool);
        bench_destroy(b);
    }
}

/* ---- ties: a quantizer that rounds to even, codes -4 to 2, a gradient where its code is one of them ---- */

static mqb_status tie_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    static const int32_t zero;
    const struct toy *toy = self;
    (void)error;
    *qparams = (struct mqb_qparams){.struct_size = sizeof(*qparams),
                                    .num_channels = 1,
                                    .scale = toy->scale,
                                    .zero_point = &zero,
                                    .qmin = -4,
                                    .qmax = 2};
    return MQB_OK;
}

static void tie_forward(const void *self, const struct mqb_slice *slice)
{
    const struct toy *toy = self;
    for (int64_t i = 0; i < slice->size; i++)
        slice->y[i] = toy->scale[0] * fminf(fmaxf(rintf(slice->x[i] / toy->scale[0]), -4), 2);
}

static void tie_backward(const void *self, const struct mqb_slice *slice)
{
    const struct toy *toy = self;
    for (int64_t i = 0; i < slice->size; i++) {
        float code = rintf(slice->x[i] / toy->scale[0]);
        slice->dx[i] = code >= -4 && code <= 2 ? slice->dy[i] : 0.0f;
        slice->sums[0] += (double)slice->dx[i];
        slice->sums[1] += (double)slice->dy[i] * (double)(slice->offset + (uint64_t)i);
    }
}

static double tie_expected(int rounding, double v)
{
    return rounding == MQB_ROUND_RHU ? floor(v + 0.5) : rounding == MQB_ROUND_RHA ? round(v) : rint(v);
}

static void test_fake_quantize_ties_go_where_the_scheme_says(void **state)
{
    static const int32_t roundings[] = {MQB_ROUND_RNE, MQB_ROUND_RHU, MQB_ROUND_RHA, MQB_ROUND_FLOOR};
    struct mqb_quantizer quantizer = toy_quantizer;
    (void)state;
    quantizer.flags |= MQB_QUANTIZER_AFFINE;
    quantizer.qparams = tie_qparams;
    quantizer.forward = tie_forward;
    quantizer.backward = tie_backward;
    for (size_t r = 0; r < 4; r++)
        for (int pot = 0; pot < 2; pot++) {
            struct bench *b = bench_create(DIMS(N, 700, 3, 2), false); /* blocks of 2100 floats */
            struct drive *d = &b->d;
            int32_t effective = pot ? roundings[r] : MQB_ROUND_RNE;
            double sum = 0, moment = 0;
            b->point.quantizer = &quantizer;
            b->point.scheme.pot_scale = (uint8_t)pot;
            b->point.scheme.rounding = roundings[r];
            for (int64_t i = 0; i < d->out_size; i++) {
                float x = 0.0625f * (float)(i % 25 - 12); /* half steps from -6 to 6 */
                d->in[0][i] = i % 3 == 1 ? nextafterf(x, -9) : i % 3 == 2 ? nextafterf(x, 9) : x;
            }
            assert_int_equal(drive_forward(d), MQB_OK);
            drive_backward(d, false);
            for (int64_t i = 0; i < d->out_size; i++) {
                double code = tie_expected(effective, (double)d->in[0][i] / 0.125);
                assert_true((double)d->out[i] == 0.125 * fmin(fmax(code, -4), 2));
                float dx = code >= -4 && code <= 2 ? d->dout[i] : 0.0f;
                assert_true(d->din[0][i] == dx);
                sum += (double)dx;
                moment += (double)d->dout[i] * (double)i;
            }
            assert_true(fabs(b->toy.sums[0] - sum) < 1e-9 && fabs(b->toy.sums[1] - moment) < 1e-6);
            drive_backward(d, true); /* in place */
            for (int64_t i = 0; i < d->out_size; i++) {
                double code = tie_expected(effective, (double)d->in[0][i] / 0.125);
                assert_true(d->din[0][i] == (code >= -4 && code <= 2 ? d->dout[i] : 0.0f));
            }
            bench_destroy(b);
        }
}

static mqb_status create_with(struct one_node *t, struct mqb_point *point)
{
    struct mqb_op_context context = {.graph = &t->graph, .node = &t->node};
    size_t scratch_size;
    t->node.point = point;
    assert_int_equal(one_node_infer(t), MQB_OK);
    mqb_status status = t->node.op->create(&context, &scratch_size, &t->error);
    t->node.op->destroy(&context);
    return status;
}

static void test_fake_quantize_impossible_schemes_refused(void **state)
{
    struct mqb_quantizer whole = toy_quantizer;
    struct mqb_point point = {.name = (char *)(uintptr_t) "relu1", .quantizer = &whole, .algorithm = "toy"};
    struct one_node t;
    (void)state;
    one_node_init(&t, "FakeQuantize");
    one_node_input(&t, MQB_VALUE_INPUT, DIMS(N, 3, 4, 4));
    assert_int_equal(create_with(&t, &point), MQB_OK);
    whole.flags |= MQB_QUANTIZER_WHOLE_INPUT;
    assert_int_equal(create_with(&t, &point), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(t.error.text, "relu1"));
    assert_non_null(strstr(t.error.text, "'toy'"));
    whole.flags = toy_quantizer.flags;
    point.scheme.per_channel = 1;
    assert_int_equal(create_with(&t, &point), MQB_ERR_UNSUPPORTED);
    assert_non_null(strstr(t.error.text, "per channel"));

    struct bench *b = bench_create(DIMS(6, 5), true);
    b->point.scheme.num_channels = 5;
    assert_int_equal(drive_forward(&b->d), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(b->t.error.text, "6 output channels"));
    bench_destroy(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fake_quantize_activation_blocks_make_the_tensor),
        cmocka_unit_test(test_fake_quantize_activation_rank_2_shape),
        cmocka_unit_test(test_fake_quantize_gradient_unwanted_still_learns),
        cmocka_unit_test(test_fake_quantize_off_or_without_point_identity),
        cmocka_unit_test(test_fake_quantize_weight_slices_make_the_tensor),
        cmocka_unit_test(test_fake_quantize_ties_go_where_the_scheme_says),
        cmocka_unit_test(test_fake_quantize_impossible_schemes_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
