/* test_ops_batch_normalization.c - batch statistics, running statistics, gradients, and the divisor of folded convolutions. */
#include "drive.h"

static int64_t pixels_of(const struct one_node *t)
{
    const struct mqb_value *x = &t->values[0];
    return x->rank == 4 ? x->dims[2] * x->dims[3] : 1;
}

static double divisor_of(const struct one_node *t, const double *const *in, int64_t c)
{
    return t->node.num_inputs > 5 ? in[5][c] : 1;
}

/* Mean and biased variance of x / divisor. */
static void statistics(const struct one_node *t, const double *const *in, int64_t c, double *mean, double *var)
{
    int64_t channels = t->values[0].dims[1], rows = BATCH * pixels_of(t);
    *mean = *var = 0;
    for (int64_t i = 0; i < rows; i++)
        *mean += in[0][i * channels + c] / divisor_of(t, in, c) / (double)rows;
    for (int64_t i = 0; i < rows; i++) {
        double d = in[0][i * channels + c] / divisor_of(t, in, c) - *mean;
        *var += d * d / (double)rows;
    }
}

static void normalize(const struct one_node *t, const double *const *in, double *out, bool training)
{
    int64_t channels = t->values[0].dims[1], rows = BATCH * pixels_of(t);
    double epsilon = mqb_attr_f(&t->node, "epsilon", 1e-5);
    for (int64_t c = 0; c < channels; c++) {
        double mean = in[3][c], var = in[4][c];
        if (training)
            statistics(t, in, c, &mean, &var);
        for (int64_t i = 0; i < rows; i++)
            out[i * channels + c] =
                in[1][c] * (in[0][i * channels + c] / divisor_of(t, in, c) - mean) / sqrt(var + epsilon) + in[2][c];
    }
}

static void reference_training(const struct one_node *t, const double *const *in, double *out)
{
    normalize(t, in, out, true);
}

static void reference_running(const struct one_node *t, const double *const *in, double *out)
{
    normalize(t, in, out, false);
}

static void norm(struct one_node *t, size_t rank, const int64_t *dims, bool divisor)
{
    one_node_init(t, "BatchNormalization");
    one_node_input(t, MQB_VALUE_INPUT, rank, dims);
    for (int i = 0; i < 4; i++)
        one_node_input(t, i < 2 ? MQB_VALUE_PARAM : MQB_VALUE_STATE, 1, &dims[1]);
    if (divisor)
        one_node_input(t, MQB_VALUE_RESULT, 1, &dims[1]);
}

static void test_batch_normalization_values_and_gradients(void **state)
{
    static const int64_t shapes[][4] = {{N, 7, 3, 2}, {N, 16, 2, 2}, {N, 5, 1, 1}, {N, 260, 1, 1}};
    (void)state;
    for (int variant = 0; variant < 8; variant++)
        for (size_t i = 0; i < 3 + (variant == 7); i++) {
            struct one_node t;
            struct drive d;
            bool training = variant & 1, divisor = variant & 2;
            norm(&t, i == 2 ? 2 : 4, shapes[i], divisor);
            if (variant & 4) /* large: the divisor's gradient in training is proportional to it */
                one_node_real(&t, "epsilon", 0.3);
            drive_create(&d, &t, training);
            for (int64_t k = 0; divisor && k < d.size[5]; k++)
                d.in[5][k] = d.in[5][k] < 0 ? d.in[5][k] - 0.3f : d.in[5][k] + 0.3f;
            drive_check(&d, training ? reference_training : reference_running, 1e-5);
            drive_destroy(&d);
        }
}

/* 1, 2, 3, 4, 5: mean 3, variance 2, unbiased 2.5. */
static void test_batch_normalization_one_to_five_closed_form(void **state)
{
    struct one_node t;
    struct drive d;
    (void)state;
    norm(&t, DIMS(N, 1), true);
    one_node_real(&t, "momentum", 0.75);
    drive_create(&d, &t, true);
    for (int i = 0; i < 5; i++)
        d.in[0][i] = (float)(2 * (i + 1));
    d.in[1][0] = 3;  /* gamma */
    d.in[2][0] = -1; /* beta */
    d.in[3][0] = 8;  /* running mean */
    d.in[4][0] = 4;  /* running variance */
    d.in[5][0] = 2;  /* divisor */
    assert_int_equal(drive_forward(&d), MQB_OK);
    for (int i = 0; i < 5; i++)
        assert_true(fabs((double)d.out[i] - (3 * (i - 2) / sqrt(2 + 1e-5) - 1)) < 1e-6);
    assert_true(fabs((double)d.in[3][0] - (0.75 * 8 + 0.25 * 3)) < 1e-6);
    assert_true(fabs((double)d.in[4][0] - (0.75 * 4 + 0.25 * 2.5)) < 1e-6);
    drive_backward(&d, false);
    assert_true(d.in[3][0] == 6.75f); /* once a step */
    drive_destroy(&d);
}

static void test_batch_normalization_eval_running_statistics_untouched(void **state)
{
    struct one_node t;
    struct drive d;
    (void)state;
    norm(&t, DIMS(N, 3, 2, 2), false);
    drive_create(&d, &t, false);
    float mean = d.in[3][1], var = d.in[4][1];
    assert_int_equal(d.t->node.op->reduce_size(&d.context), 0);
    assert_int_equal(drive_forward(&d), MQB_OK);
    assert_true(d.in[3][1] == mean && d.in[4][1] == var);
    d.in[4][1] = -1;
    assert_int_equal(drive_forward(&d), MQB_ERR_NUMERIC);
    assert_non_null(strstr(t.error.text, "channel 1"));
    drive_destroy(&d);
}

static void test_batch_normalization_large_mean_still_exact(void **state)
{
    struct one_node t;
    struct drive d;
    (void)state;
    norm(&t, DIMS(N, 4, 4, 4), false);
    drive_create(&d, &t, true);
    double mean, var, *x = malloc((size_t)d.size[0] * sizeof(double));
    for (int64_t i = 0; i < d.size[0]; i++) {
        d.in[0][i] = 1000 + d.in[0][i];
        x[i] = (double)d.in[0][i];
    }
    float running = d.in[4][2];
    const double *in[1] = {x};
    statistics(&t, in, 2, &mean, &var);
    assert_int_equal(drive_forward(&d), MQB_OK);
    assert_true(fabs((double)d.in[4][2] - (0.9 * (double)running + 0.1 * var * 80 / 79)) < 1e-6);
    free(x);
    drive_destroy(&d);
}

/* gamma = 0 in a folded convolution: x and divisor are 0. Nothing becomes infinite. */
static void test_batch_normalization_zero_divisor_channel_constant(void **state)
{
    struct one_node t;
    struct drive d;
    (void)state;
    for (int training = 0; training < 2; training++) {
        norm(&t, DIMS(N, 3, 2, 2), true);
        drive_create(&d, &t, training);
        for (int64_t i = 1; i < d.size[0]; i += 3)
            d.in[0][i] = 0;
        d.in[5][1] = d.in[1][1] = 0;
        float mean = d.in[3][1], var = d.in[4][1];
        assert_int_equal(drive_forward(&d), MQB_OK);
        drive_backward(&d, false);
        double dbeta = 0;
        for (int64_t i = 1; i < d.size[0]; i += 3) {
            assert_true(d.out[i] == d.in[2][1]);
            assert_true(d.din[0][i] == 0);
            dbeta += (double)d.dout[i];
        }
        assert_true(d.in[3][1] == mean && d.in[4][1] == var);
        assert_true(d.din[1][1] == 0 && d.din[5][1] == 0 && fabs((double)d.din[2][1] - dbeta) < 1e-6);
        for (int64_t i = 0; i < d.size[0]; i++)
            assert_true(isfinite(d.out[i]) && isfinite(d.din[0][i]));
        drive_destroy(&d);
    }
}

static void test_batch_normalization_diverged_batch_refused_state_kept(void **state)
{
    struct one_node t;
    struct drive d;
    (void)state;
    norm(&t, DIMS(N, 3, 2, 2), false);
    drive_create(&d, &t, true);
    float mean = d.in[3][0];
    d.in[0][5] = NAN; /* channel 2 */
    assert_int_equal(drive_forward(&d), MQB_ERR_NUMERIC);
    assert_non_null(strstr(t.error.text, "channel 2"));
    assert_true(d.in[3][0] == mean);
    drive_destroy(&d);
}

static void test_batch_normalization_one_element_refused(void **state)
{
    struct one_node t;
    struct drive d;
    double sums[6] = {0};
    (void)state;
    norm(&t, DIMS(N, 3), false);
    drive_create(&d, &t, true);
    d.context.batch = 1;
    assert_int_equal(t.node.op->finish(&d.context, sums, &t.error), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(t.error.text, "larger batch"));
    drive_destroy(&d);
}

static void test_batch_normalization_training_without_state_refused(void **state)
{
    struct one_node t;
    (void)state;
    norm(&t, DIMS(N, 3), false);
    t.values[4].kind = MQB_VALUE_RESULT;
    assert_int_equal(one_node_infer(&t), MQB_OK);
    struct mqb_op_context context = {.graph = &t.graph, .node = &t.node, .training = true};
    float data[3];
    size_t scratch_size;
    t.values[3].data = data;
    assert_int_equal(t.node.op->create(&context, &scratch_size, &t.error), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(t.error.text, "in4"));
    t.node.op->destroy(&context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_normalization_values_and_gradients),
        cmocka_unit_test(test_batch_normalization_one_to_five_closed_form),
        cmocka_unit_test(test_batch_normalization_eval_running_statistics_untouched),
        cmocka_unit_test(test_batch_normalization_large_mean_still_exact),
        cmocka_unit_test(test_batch_normalization_zero_divisor_channel_constant),
        cmocka_unit_test(test_batch_normalization_diverged_batch_refused_state_kept),
        cmocka_unit_test(test_batch_normalization_one_element_refused),
        cmocka_unit_test(test_batch_normalization_training_without_state_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
