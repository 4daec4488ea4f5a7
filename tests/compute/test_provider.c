/*
 * test_provider PROVIDER.so - a compute provider against the definition of a convolution.
 *
 * A provider may refuse a shape and may lack the integer kernels. One that states MQB_COMPUTE_SAME_BITS is held to a tighter
 * bound and to equal bits for every MQBENCH_ISA. All give equal bits for every number of images, thread and address.
 */
#include "memory.h"
#include "reference.h"
#include "shapes.h"

#include <mqbench/plugin.h>

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NUM_SHAPES (sizeof(shape_rows) / sizeof(shape_rows[0]))

/* ---- the host as far as a provider sees it ---- */

static mqb_status host_fail(struct mqb_error *error, mqb_status status, const char *format, ...)
{
    if (error != NULL) {
        va_list args;

        va_start(args, format);
        vsnprintf(error->text, sizeof(error->text), format, args);
        va_end(args);
    }
    return status;
}

static void host_log(int level, const char *format, ...)
{
    (void)level;
    (void)format;
}

static void *host_allocate(size_t size)
{
    void *memory = NULL;

    if (size == 0 || posix_memalign(&memory, 64, size) != 0) {
        return NULL;
    }
    return memset(memory, 0, size);
}

static void host_deallocate(void *memory)
{
    free(memory);
}

static const struct mqb_host host = {
    .struct_size = sizeof(struct mqb_host),
    .abi_major = MQB_ABI_MAJOR,
    .abi_minor = MQB_ABI_MINOR,
    .fail = host_fail,
    .log = host_log,
    .allocate = host_allocate,
    .deallocate = host_deallocate,
};

static struct mqb_conv_shape shape_of(const struct shape_row *row)
{
    struct mqb_conv_shape s = {
        .struct_size = sizeof(s),
        .c = row->c,
        .h = row->h,
        .w = row->w,
        .k = row->k,
        .r = row->r,
        .s = row->s,
        .stride_h = row->stride[0],
        .stride_w = row->stride[1],
        .pad_top = row->pads[0],
        .pad_left = row->pads[1],
        .pad_bottom = row->pads[2],
        .pad_right = row->pads[3],
        .dilation_h = row->dilation[0],
        .dilation_w = row->dilation[1],
        .groups = row->groups,
    };

    s.p = (s.h + s.pad_top + s.pad_bottom - s.dilation_h * (s.r - 1) - 1) / s.stride_h + 1;
    s.q = (s.w + s.pad_left + s.pad_right - s.dilation_w * (s.s - 1) - 1) / s.stride_w + 1;
    return s;
}

/* ---- one shape: operands, plan, results ---- */

struct trial {
    const struct mqb_compute *compute;
    size_t index;
    int32_t n;
    struct mqb_conv_shape shape;
    struct mqb_conv_plan *plan;
    struct buffer x, weight, bias, dy;
    void *packed, *scratch;
};

static float *floats(const struct buffer *buffer)
{
    return buffer->data;
}

/* False if the provider does not do the shape. */
static bool trial_create(struct trial *trial, const struct mqb_compute *compute, size_t index)
{
    struct mqb_error error = { sizeof(error), 0, "" };

    memset(trial, 0, sizeof(*trial));
    trial->compute = compute;
    trial->index = index;
    trial->n = shape_rows[index].n;
    trial->shape = shape_of(&shape_rows[index]);
    mqb_status status = compute->conv_create(&host, &trial->shape, trial->n, &trial->plan, &error);
    if (status == MQB_ERR_UNSUPPORTED) {
        return false;
    }
    if (status != MQB_OK) {
        fail_msg("shape %zu: conv_create: %s", index, error.text);
    }
    trial->x = buffer_create(input_count(&trial->shape, trial->n) * sizeof(float), 0);
    trial->weight = buffer_create(weight_count(&trial->shape) * sizeof(float), 0);
    trial->bias = buffer_create((size_t)trial->shape.k * sizeof(float), 0);
    trial->dy = buffer_create(output_count(&trial->shape, trial->n) * sizeof(float), 0);
    fill_floats(trial->x.data, trial->x.size / sizeof(float), 4 * index);
    fill_floats(trial->weight.data, trial->weight.size / sizeof(float), 4 * index + 1);
    fill_floats(trial->bias.data, trial->bias.size / sizeof(float), 4 * index + 2);
    fill_floats(trial->dy.data, trial->dy.size / sizeof(float), 4 * index + 3);

    size_t packed_size = compute->conv_packed_size(trial->plan), scratch_size = compute->conv_scratch_size(trial->plan);
    trial->packed = host_allocate(packed_size + 1);
    trial->scratch = host_allocate(scratch_size + 1);
    memset(trial->packed, 0xff, packed_size); /* every float a NaN: what is not written must not be read */
    memset(trial->scratch, 0xff, scratch_size);
    compute->conv_pack(trial->plan, trial->weight.data, 1, trial->packed);
    return true;
}

static void trial_destroy(struct trial *trial)
{
    trial->compute->conv_destroy(trial->plan);
    if (trial->packed != NULL) {
        buffer_destroy(&trial->x);
        buffer_destroy(&trial->weight);
        buffer_destroy(&trial->bias);
        buffer_destroy(&trial->dy);
    }
    free(trial->packed);
    free(trial->scratch);
}

static struct buffer run_forward(const struct trial *trial, const float *bias)
{
    struct buffer y = buffer_create(trial->dy.size, 0xff);

    trial->compute->conv_forward(trial->plan, trial->n, trial->x.data, trial->packed, bias, y.data, trial->scratch);
    return y;
}

static struct buffer run_backward_data(const struct trial *trial, const float *start)
{
    struct buffer dx = buffer_create(trial->x.size, 0xff);

    if (start != NULL) {
        memcpy(dx.data, start, dx.size);
    }
    trial->compute->conv_backward_data(trial->plan, trial->n, trial->dy.data, trial->packed, dx.data, start != NULL,
                                       trial->scratch);
    return dx;
}

static struct buffer run_backward_weights(const struct trial *trial)
{
    struct buffer dw = buffer_create(trial->weight.size, 0xff);

    trial->compute->conv_backward_weights(trial->plan, trial->n, trial->x.data, trial->dy.data, dw.data, trial->scratch);
    return dw;
}

static double tolerance(const struct mqb_compute *compute)
{
    return compute->flags & MQB_COMPUTE_SAME_BITS ? 1e-6 : 1e-5;
}

static void assert_near(const struct trial *trial, const char *what, const struct buffer *got, const double *want,
                        const double *magnitude)
{
    for (size_t i = 0; i < got->size / sizeof(float); i++) {
        double error = fabs((double)floats(got)[i] - want[i]);

        if (!(error <= tolerance(trial->compute) * magnitude[i] + 1e-30)) {
            fail_msg("shape %zu: %s[%zu] is %.9g, should be %.9g (terms of %.3g)", trial->index, what, i,
                     (double)floats(got)[i], want[i], magnitude[i]);
        }
    }
}

static double *doubles(size_t count)
{
    double *data = malloc((count + 1) * sizeof(double));

    assert_non_null(data);
    return data;
}

/* ---- tests ---- */

static void test_entry_of_provider_is_valid(void **state)
{
    const struct mqb_compute *compute = *state;

    assert_true(MQB_HAS_FIELD(compute, struct mqb_compute, iconv_forward));
    assert_non_null(compute->description);
    assert_non_null(compute->isa(&host));
    assert_true(compute->score(&host) >= 0);
    print_message("provider runs on %s, score %d\n", compute->isa(&host), compute->score(&host));
    compute->conv_destroy(NULL);
}

static void test_forward_all_shapes_equals_reference(void **state)
{
    const struct mqb_compute *compute = *state;
    size_t done = 0;

    for (size_t i = 0; i < NUM_SHAPES; i++) {
        struct trial trial;

        if (!trial_create(&trial, compute, i)) {
            continue;
        }
        double *want = doubles(trial.dy.size / sizeof(float)), *magnitude = doubles(trial.dy.size / sizeof(float));
        for (int with_bias = 0; with_bias < 2; with_bias++) {
            const float *bias = with_bias ? trial.bias.data : NULL;
            struct buffer y = run_forward(&trial, bias);

            reference_forward(&trial.shape, trial.n, trial.x.data, trial.weight.data, bias, want, magnitude);
            assert_near(&trial, "y", &y, want, magnitude);
            buffer_destroy(&y);
        }
        free(want);
        free(magnitude);
        trial_destroy(&trial);
        done++;
    }
    print_message("%zu of %zu shapes\n", done, NUM_SHAPES);
    assert_true(done > 0);
}

/* Bands of 1, 2, ... rows of each image have the bits of the whole call. */
static void rows_trial(const struct trial *trial, const float *bias)
{
    const struct mqb_conv_shape *shape = &trial->shape;
    const size_t image_size = trial->x.size / (size_t)trial->n, row = (size_t)shape->q * (size_t)shape->k;
    struct buffer y = run_forward(trial, bias);

    for (int32_t i = 0; i < trial->n; i++) {
        struct buffer image = buffer_create(image_size, 0);
        memcpy(image.data, (const uint8_t *)trial->x.data + (size_t)i * image_size, image_size);
        for (int32_t first = 0, count = 1; first < shape->p; first += count, count++) {
            const int32_t rows = count < shape->p - first ? count : shape->p - first;
            struct buffer band = buffer_create((size_t)rows * row * sizeof(float), 0xff);

            trial->compute->conv_rows(trial->plan, first, rows, image.data, trial->packed, bias, band.data, trial->scratch);
            if (memcmp(band.data, floats(&y) + ((size_t)i * (size_t)shape->p + (size_t)first) * row, band.size) != 0) {
                fail_msg("shape %zu: rows %d to %d of image %d differ from the whole image's", trial->index, first,
                         first + rows - 1, i);
            }
            buffer_destroy(&band);
        }
        buffer_destroy(&image);
    }
    buffer_destroy(&y);
}

static void test_rows_all_shapes_give_the_same(void **state)
{
    const struct mqb_compute *compute = *state;

    if (!MQB_HAS_FIELD(compute, struct mqb_compute, conv_rows) || compute->conv_rows == NULL) {
        print_message("the provider gives no rows alone\n");
        return;
    }
    for (size_t i = 0; i < NUM_SHAPES; i++) {
        struct trial trial;

        if (!trial_create(&trial, compute, i)) {
            continue;
        }
        rows_trial(&trial, NULL);
        rows_trial(&trial, trial.bias.data);
        trial_destroy(&trial);
    }
}

static void test_backward_data_all_shapes_equals_reference(void **state)
{
    const struct mqb_compute *compute = *state;

    for (size_t i = 0; i < NUM_SHAPES; i++) {
        struct trial trial;

        if (!trial_create(&trial, compute, i)) {
            continue;
        }
        size_t count = trial.x.size / sizeof(float);
        double *want = doubles(count), *magnitude = doubles(count);
        reference_backward_data(&trial.shape, trial.n, trial.dy.data, trial.weight.data, want, magnitude);
        struct buffer dx = run_backward_data(&trial, NULL);
        assert_near(&trial, "dx", &dx, want, magnitude);
        buffer_destroy(&dx);

        dx = run_backward_data(&trial, trial.x.data);
        for (size_t j = 0; j < count; j++) {
            want[j] += (double)floats(&trial.x)[j];
            magnitude[j] += fabs((double)floats(&trial.x)[j]);
        }
        assert_near(&trial, "accumulated dx", &dx, want, magnitude);
        buffer_destroy(&dx);
        free(want);
        free(magnitude);
        trial_destroy(&trial);
    }
}

static void test_backward_weights_all_shapes_equals_reference(void **state)
{
    const struct mqb_compute *compute = *state;

    for (size_t i = 0; i < NUM_SHAPES; i++) {
        struct trial trial;

        if (!trial_create(&trial, compute, i)) {
            continue;
        }
        size_t count = trial.weight.size / sizeof(float);
        double *want = doubles(count), *magnitude = doubles(count);
        reference_backward_weights(&trial.shape, trial.n, trial.x.data, trial.dy.data, want, magnitude);
        struct buffer dw = run_backward_weights(&trial);
        assert_near(&trial, "dw", &dw, want, magnitude);
        buffer_destroy(&dw);
        free(want);
        free(magnitude);
        trial_destroy(&trial);
    }
}

static double inner(const struct buffer *a, const struct buffer *b, double *magnitude)
{
    double sum = 0.0;

    *magnitude = 0.0;
    for (size_t i = 0; i < a->size / sizeof(float); i++) {
        double product = (double)floats(a)[i] * (double)floats(b)[i];

        sum += product;
        *magnitude += fabs(product);
    }
    return sum;
}

static void test_gradients_all_shapes_are_adjoint(void **state)
{
    const struct mqb_compute *compute = *state;

    for (size_t i = 0; i < NUM_SHAPES; i++) {
        struct trial trial;
        double my, mx, mw;

        if (!trial_create(&trial, compute, i)) {
            continue;
        }
        struct buffer y = run_forward(&trial, NULL), dx = run_backward_data(&trial, NULL), dw = run_backward_weights(&trial);
        double by_y = inner(&y, &trial.dy, &my), by_x = inner(&dx, &trial.x, &mx), by_w = inner(&dw, &trial.weight, &mw);
        double bound = tolerance(compute) * (my + mx + mw) + 1e-30;
        if (!(fabs(by_y - by_x) <= bound && fabs(by_y - by_w) <= bound)) {
            fail_msg("shape %zu: <y,dy> = %.9g, <x,dx> = %.9g, <w,dw> = %.9g", i, by_y, by_x, by_w);
        }
        buffer_destroy(&y);
        buffer_destroy(&dx);
        buffer_destroy(&dw);
        trial_destroy(&trial);
    }
}

/* An image's results do not depend on the images beside it: image by image, and in a plan made for more. */
static void test_images_one_by_one_give_the_same(void **state)
{
    const struct mqb_compute *compute = *state;

    for (size_t i = 0; i < NUM_SHAPES; i++) {
        struct trial trial;

        if (shape_rows[i].n == 1 || !trial_create(&trial, compute, i)) {
            continue;
        }
        size_t in = input_count(&trial.shape, 1), out = output_count(&trial.shape, 1);
        struct buffer y = run_forward(&trial, trial.bias.data), dx = run_backward_data(&trial, NULL);
        struct buffer one_y = buffer_create(out * sizeof(float), 0xff), one_dx = buffer_create(in * sizeof(float), 0xff);
        for (int32_t image = 0; image < trial.n; image++) {
            float *all_y = floats(&y) + (size_t)image * out, *all_dx = floats(&dx) + (size_t)image * in;

            compute->conv_forward(trial.plan, 1, floats(&trial.x) + (size_t)image * in, trial.packed, trial.bias.data,
                                  one_y.data, trial.scratch);
            compute->conv_backward_data(trial.plan, 1, floats(&trial.dy) + (size_t)image * out, trial.packed, one_dx.data, 0,
                                        trial.scratch);
            if (memcmp(all_y, one_y.data, one_y.size) != 0 || memcmp(all_dx, one_dx.data, one_dx.size) != 0) {
                fail_msg("shape %zu: image %d alone and among %d others gives other bits", i, image, trial.n - 1);
            }
        }
        buffer_destroy(&y);
        buffer_destroy(&dx);
        buffer_destroy(&one_y);
        buffer_destroy(&one_dx);
        trial_destroy(&trial);
    }
}

enum { NUM_THREADS = 3 };

/* A thread's own copies of the operands, each at another address modulo 64, and what it made of them. */
struct worker {
    pthread_t thread;
    const struct trial *trial;
    float *x, *dy, *y, *dx, *dw;
    void *scratch;
};

static float *copy_at(const struct buffer *buffer, int32_t offset)
{
    float *copy = (float *)host_allocate(buffer->size + 256) + offset;

    memcpy(copy, buffer->data, buffer->size);
    return copy;
}

static void *worker_run(void *context)
{
    struct worker *w = context;
    const struct trial *t = w->trial;

    for (int repeat = 0; repeat < 3; repeat++) {
        t->compute->conv_forward(t->plan, t->n, w->x, t->packed, t->bias.data, w->y, w->scratch);
        t->compute->conv_backward_data(t->plan, t->n, w->dy, t->packed, w->dx, 0, w->scratch);
        t->compute->conv_backward_weights(t->plan, t->n, w->x, w->dy, w->dw, w->scratch);
    }
    return NULL;
}

/* One plan and its packed weights, used by several threads at once. */
static void test_threads_at_once_give_the_same(void **state)
{
    const struct mqb_compute *compute = *state;

    for (size_t i = 0; i < NUM_SHAPES; i++) {
        struct worker workers[NUM_THREADS];
        struct trial trial;

        if (!trial_create(&trial, compute, i)) {
            continue;
        }
        size_t scratch_size = compute->conv_scratch_size(trial.plan);
        struct buffer y = run_forward(&trial, trial.bias.data), dx = run_backward_data(&trial, NULL);
        struct buffer dw = run_backward_weights(&trial);
        for (int32_t t = 0; t < NUM_THREADS; t++) {
            struct worker *w = &workers[t];

            *w = (struct worker){ .trial = &trial };
            w->x = copy_at(&trial.x, t);
            w->dy = copy_at(&trial.dy, 2 * t + 1);
            w->y = copy_at(&y, 3 * t + 2);
            w->dx = copy_at(&dx, 5 * t);
            w->dw = copy_at(&dw, 7 * t);
            memset(w->y, 0xff, y.size);
            memset(w->dx, 0xff, dx.size);
            memset(w->dw, 0xff, dw.size);
            w->scratch = host_allocate(scratch_size + 1);
            memset(w->scratch, 0xff, scratch_size);
        }
        for (int32_t t = 0; t < NUM_THREADS; t++) {
            assert_int_equal(pthread_create(&workers[t].thread, NULL, worker_run, &workers[t]), 0);
        }
        for (int32_t t = 0; t < NUM_THREADS; t++) {
            assert_int_equal(pthread_join(workers[t].thread, NULL), 0);
        }
        for (int32_t t = 0; t < NUM_THREADS; t++) {
            struct worker *w = &workers[t];

            if (memcmp(w->y, y.data, y.size) != 0 || memcmp(w->dx, dx.data, dx.size) != 0 ||
                memcmp(w->dw, dw.data, dw.size) != 0) {
                fail_msg("shape %zu: thread %d has other bits in%s%s%s", i, t, memcmp(w->y, y.data, y.size) != 0 ? " y" : "",
                         memcmp(w->dx, dx.data, dx.size) != 0 ? " dx" : "", memcmp(w->dw, dw.data, dw.size) != 0 ? " dw" : "");
            }
            free(w->x - t);
            free(w->dy - (2 * t + 1));
            free(w->y - (3 * t + 2));
            free(w->dx - 5 * t);
            free(w->dw - 7 * t);
            free(w->scratch);
        }
        buffer_destroy(&y);
        buffer_destroy(&dx);
        buffer_destroy(&dw);
        trial_destroy(&trial);
    }
}

/* Bands of 1, 2, ... rows of each image give what the whole call gave. */
static void integer_rows_trial(const struct mqb_compute *compute, const struct mqb_conv_plan *plan,
                               const struct mqb_conv_shape *shape, int32_t n, const uint8_t *x, uint8_t pad_value,
                               const void *packed, const int32_t *want, void *scratch)
{
    const size_t x_size = (size_t)shape->h * (size_t)shape->w * (size_t)shape->c, row = (size_t)shape->q * (size_t)shape->k;

    if (!MQB_HAS_FIELD(compute, struct mqb_compute, iconv_rows) || compute->iconv_rows == NULL) {
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        struct buffer image = buffer_create(x_size, 0);
        memcpy(image.data, x + (size_t)i * x_size, x_size);
        for (int32_t first = 0, count = 1; first < shape->p; first += count, count++) {
            const int32_t rows = count < shape->p - first ? count : shape->p - first;
            struct buffer acc = buffer_create((size_t)rows * row * sizeof(int32_t), 0xff);

            compute->iconv_rows(plan, first, rows, image.data, pad_value, packed, acc.data, scratch);
            if (memcmp(acc.data, want + ((size_t)i * (size_t)shape->p + (size_t)first) * row, acc.size) != 0) {
                fail_msg("rows %d to %d of image %d differ from the whole image's (pad value %d)", first, first + rows - 1, i,
                         pad_value);
            }
            buffer_destroy(&acc);
        }
        buffer_destroy(&image);
    }
}

/* 32 channels at a time, of all images and of some rows of the first, give what the whole call gave. */
static void integer_part_trial(const struct mqb_compute *compute, const struct mqb_conv_plan *plan,
                               const struct mqb_conv_shape *shape, int32_t n, const uint8_t *x, uint8_t pad_value,
                               const void *packed, const int32_t *want, void *scratch)
{
    if (!MQB_HAS_FIELD(compute, struct mqb_compute, iconv_part) || compute->iconv_part == NULL) {
        return;
    }
    for (int32_t first = 0; first < (shape->groups == 1 ? shape->k : 1); first += 32) {
        const int32_t left = shape->groups == 1 ? shape->k - first : shape->k;
        const int32_t channels = shape->groups == 1 && left > 32 ? 32 : left;

        for (int32_t some = 0; some < 2; some++) {
            const int32_t row = some ? shape->p / 3 : 0, rows = some ? (shape->p - row + 1) / 2 : shape->p;
            const struct mqb_iconv_part part = { sizeof(part), some ? 1 : n, row, rows, first, channels };
            const size_t pixels = (size_t)part.n * (size_t)rows * (size_t)shape->q;
            struct buffer acc = buffer_create(pixels * (size_t)channels * sizeof(int32_t), 0xff);

            compute->iconv_part(plan, &part, x, pad_value, packed, acc.data, scratch);
            for (size_t i = 0; i < pixels; i++) {
                const size_t at = ((size_t)row * (size_t)shape->q + i) * (size_t)shape->k + (size_t)first;

                if (memcmp((const int32_t *)acc.data + i * (size_t)channels, want + at, (size_t)channels * sizeof(int32_t)) != 0) {
                    fail_msg("channels %d to %d of pixel %zu, rows from %d on, differ from the whole call's (pad value %d)", first,
                             first + channels - 1, i, row, pad_value);
                }
            }
            buffer_destroy(&acc);
        }
    }
}

/* Weights of 9 bits: w8 + w8' gives the sums of both. */
static void integer_wide_trial(const struct mqb_compute *compute, const struct mqb_conv_plan *plan,
                               const struct mqb_conv_shape *shape, int32_t n, const uint8_t *x, uint8_t pad_value,
                               const int8_t *weight, void *packed, const int32_t *narrow, void *scratch)
{
    const size_t count = weight_count(shape), size = output_count(shape, n);

    if (!MQB_HAS_FIELD(compute, struct mqb_compute, iconv_pack_wide) || compute->iconv_pack_wide == NULL) {
        return;
    }
    int16_t *wide = malloc(count * sizeof(*wide));
    int8_t *rest = malloc(count);
    int32_t *want = malloc(size * sizeof(*want));
    struct buffer acc = buffer_create(size * sizeof(int32_t), 0xff);
    assert_non_null(wide);
    assert_non_null(rest);
    assert_non_null(want);
    for (size_t i = 0; i < count; i++) {
        rest[i] = weight[i] < 0 ? -127 : 127;
        wide[i] = (int16_t)(weight[i] + rest[i]);
    }
    if (compute->iconv_pack_wide(plan, wide, packed) != 0) {
        reference_integer(shape, n, x, pad_value, rest, want);
        compute->iconv_forward(plan, n, x, pad_value, packed, acc.data, scratch);
        for (size_t i = 0; i < size; i++) {
            if (((const int32_t *)acc.data)[i] != narrow[i] + want[i]) {
                fail_msg("wide weights: acc[%zu] is %d, should be %d", i, ((const int32_t *)acc.data)[i], narrow[i] + want[i]);
            }
        }
        for (size_t i = 0; i < size; i++) {
            want[i] += narrow[i];
        }
        integer_rows_trial(compute, plan, shape, n, x, pad_value, packed, want, scratch);
    }
    free(wide);
    free(rest);
    free(want);
    buffer_destroy(&acc);
}

static void integer_trial(const struct mqb_compute *compute, size_t index, int extreme, uint8_t pad_value)
{
    struct mqb_conv_shape shape = shape_of(&shape_rows[index]);
    struct mqb_conv_plan *plan = NULL;
    int32_t n = shape_rows[index].n;

    if (compute->conv_create(&host, &shape, n, &plan, NULL) == MQB_ERR_UNSUPPORTED) {
        return;
    }
    struct buffer x = buffer_create(input_count(&shape, n), 255), weight = buffer_create(weight_count(&shape), -128);
    struct buffer acc = buffer_create(output_count(&shape, n) * sizeof(int32_t), 0xff);
    size_t packed_size = compute->iconv_packed_size(plan), scratch_size = compute->iconv_scratch_size(plan);
    void *packed = host_allocate(packed_size + 1), *scratch = host_allocate(scratch_size + 1);
    int32_t *want = malloc(acc.size);
    assert_non_null(want);
    if (!extreme) {
        fill_bytes(x.data, x.size, 2 * index);
        fill_bytes(weight.data, weight.size, 2 * index + 1);
    }
    memset(packed, 0xa5, packed_size);
    memset(scratch, 0xa5, scratch_size);
    compute->iconv_pack(plan, weight.data, packed);
    compute->iconv_forward(plan, n, x.data, pad_value, packed, acc.data, scratch);
    reference_integer(&shape, n, x.data, pad_value, weight.data, want);
    for (size_t i = 0; i < acc.size / sizeof(int32_t); i++) {
        if (((const int32_t *)acc.data)[i] != want[i]) {
            fail_msg("shape %zu: acc[%zu] is %d, should be %d (pad value %d)", index, i, ((const int32_t *)acc.data)[i], want[i],
                     pad_value);
        }
    }
    integer_rows_trial(compute, plan, &shape, n, x.data, pad_value, packed, want, scratch);
    integer_part_trial(compute, plan, &shape, n, x.data, pad_value, packed, want, scratch);
    integer_wide_trial(compute, plan, &shape, n, x.data, pad_value, weight.data, packed, want, scratch);
    free(want);
    free(packed);
    free(scratch);
    buffer_destroy(&x);
    buffer_destroy(&weight);
    buffer_destroy(&acc);
    compute->conv_destroy(plan);
}

static void test_integer_all_shapes_is_exact(void **state)
{
    const struct mqb_compute *compute = *state;
    const char *const isas[] = { "avx512", "avx2", "scalar" };

    if (compute->iconv_forward == NULL) {
        print_message("no integer kernels in this provider\n");
        skip();
    }
    for (size_t isa = 0; isa < 3; isa++) {
        setenv("MQBENCH_ISA", isas[isa], 1);
        for (size_t i = 0; i < NUM_SHAPES; i++) {
            integer_trial(compute, i, 0, 0);
            integer_trial(compute, i, 0, 131);
            integer_trial(compute, i, 1, 255);
        }
    }
    unsetenv("MQBENCH_ISA");
}

/* Bits of all float results of a shape on the instruction set that MQBENCH_ISA names. */
static uint64_t result_hash(const struct mqb_compute *compute, size_t index)
{
    struct trial trial;
    uint64_t hash = 14695981039346656037u;

    if (!trial_create(&trial, compute, index)) {
        return 0;
    }
    struct buffer results[4] = { run_forward(&trial, NULL), run_forward(&trial, trial.bias.data), run_backward_data(&trial, NULL),
                                 run_backward_weights(&trial) };
    for (size_t r = 0; r < 4; r++) {
        const uint8_t *bytes = results[r].data;

        for (size_t i = 0; i < results[r].size; i++) {
            hash = (hash ^ bytes[i]) * 1099511628211u;
        }
        buffer_destroy(&results[r]);
    }
    trial_destroy(&trial);
    return hash;
}

static void test_isas_all_shapes_give_same_bits(void **state)
{
    const struct mqb_compute *compute = *state;
    const char *const isas[] = { "avx512", "avx2", "scalar" };

    if (!(compute->flags & MQB_COMPUTE_SAME_BITS)) {
        print_message("this provider does not state MQB_COMPUTE_SAME_BITS\n");
        skip();
    }
    for (size_t i = 0; i < NUM_SHAPES; i++) {
        uint64_t hashes[3];

        for (size_t isa = 0; isa < 3; isa++) {
            setenv("MQBENCH_ISA", isas[isa], 1);
            hashes[isa] = result_hash(compute, i);
        }
        unsetenv("MQBENCH_ISA");
        if (hashes[0] != hashes[1] || hashes[0] != hashes[2]) {
            fail_msg("shape %zu: other bits on avx512 (%llx), avx2 (%llx), scalar (%llx)", i, (unsigned long long)hashes[0],
                     (unsigned long long)hashes[1], (unsigned long long)hashes[2]);
        }
    }
    setenv("MQBENCH_ISA", "scalar", 1);
    print_message("lowest instruction set: %s\n", compute->isa(&host));
    unsetenv("MQBENCH_ISA");
}

static void test_create_inconsistent_shape_is_refused(void **state)
{
    const struct mqb_compute *compute = *state;
    const struct mqb_conv_shape good = shape_of(&shape_rows[0]);
    struct mqb_conv_shape bad[6] = { good, good, good, good, good, good };

    bad[0].p++;
    bad[1].groups = 3;
    bad[2].stride_w = 0;
    bad[3].c = 0;
    bad[4].pad_left = -1;
    bad[5].r = 100;
    for (size_t i = 0; i < 6; i++) {
        struct mqb_error error = { sizeof(error), 0, "" };
        struct mqb_conv_plan *plan = NULL;
        mqb_status status = compute->conv_create(&host, &bad[i], 1, &plan, &error);

        assert_true(status == MQB_ERR_ARGUMENT || status == MQB_ERR_UNSUPPORTED);
        assert_null(plan);
        assert_true(strlen(error.text) > 20);
    }
}

static void test_create_without_memory_is_refused(void **state)
{
    const struct mqb_compute *compute = *state;
    struct mqb_conv_shape shape = shape_of(&shape_rows[0]);
    struct mqb_error error = { sizeof(error), 0, "" };
    struct mqb_conv_plan *plan = NULL;

    shape.h = shape.w = shape.p = shape.q = 1 << 24;
    shape.c = shape.k = 1 << 14;
    mqb_status status = compute->conv_create(&host, &shape, 1 << 20, &plan, &error);
    assert_true(status == MQB_ERR_MEMORY || status == MQB_ERR_ARGUMENT || status == MQB_ERR_UNSUPPORTED);
    assert_null(plan);
    assert_true(strlen(error.text) > 20);
}

static const struct mqb_compute *provider_open(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct mqb_plugin_entry *entry = library == NULL ? NULL : dlsym(library, MQB_PLUGIN_SYMBOL);

    if (entry == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return NULL;
    }
    for (uint32_t i = 0; i < entry->num_components; i++) {
        if (strcmp(entry->components[i].interface_id, MQB_COMPUTE_INTERFACE) == 0) {
            return entry->components[i].vtable;
        }
    }
    fprintf(stderr, "%s has no component of %s\n", path, MQB_COMPUTE_INTERFACE);
    return NULL;
}

int main(int argc, char **argv)
{
    const struct mqb_compute *compute = argc == 2 ? provider_open(argv[1]) : NULL;

    if (compute == NULL) {
        fprintf(stderr, "usage: %s PROVIDER.so\n", argv[0]);
        return 2;
    }
    unsetenv("MQBENCH_ISA");
    void *state = (void *)(uintptr_t)compute;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_entry_of_provider_is_valid, state),
        cmocka_unit_test_prestate(test_forward_all_shapes_equals_reference, state),
        cmocka_unit_test_prestate(test_rows_all_shapes_give_the_same, state),
        cmocka_unit_test_prestate(test_backward_data_all_shapes_equals_reference, state),
        cmocka_unit_test_prestate(test_backward_weights_all_shapes_equals_reference, state),
        cmocka_unit_test_prestate(test_gradients_all_shapes_are_adjoint, state),
        cmocka_unit_test_prestate(test_images_one_by_one_give_the_same, state),
        cmocka_unit_test_prestate(test_threads_at_once_give_the_same, state),
        cmocka_unit_test_prestate(test_integer_all_shapes_is_exact, state),
        cmocka_unit_test_prestate(test_isas_all_shapes_give_same_bits, state),
        cmocka_unit_test_prestate(test_create_inconsistent_shape_is_refused, state),
        cmocka_unit_test_prestate(test_create_without_memory_is_refused, state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
