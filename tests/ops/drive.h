/* drive.h - for tests: runs one operator as the executor does (grains, blocks, reductions), and compares with a naive reference
 * in double precision and with that reference's central differences. */
#ifndef DRIVE_H
#define DRIVE_H

#include "naive_compute.h"
#include "one_node.h"

#include <math.h>

#define BATCH 5
#define GRAIN_IMAGES 2 /* grains of 2, 2 and 1 images */
#define NUM_GRAINS 3
#define BLOCK_ROWS 3

struct drive {
    struct one_node *t;
    struct mqb_op_context context;
    struct mqb_host host;
    const float *fixed[MQB_MAX_INPUTS];
    float *in[MQB_MAX_INPUTS], *din[MQB_MAX_INPUTS];
    int64_t size[MQB_MAX_INPUTS]; /* of the whole batch */
    float *out, *dout;
    int64_t out_size;
    void *scratch;
    bool pointwise;
    struct {
        bool accumulate;
        double *sums; /* [NUM_GRAINS][sums_size] */
        size_t sums_size;
    } pass; /* backwards */
};

typedef void (*reference)(const struct one_node *t, const double *const *in, double *out);

static float drive_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / 8388608.0f - 1.0f;
}

static int64_t drive_value_size(const struct mqb_value *value)
{
    int64_t size = value->batched ? BATCH : 1;
    for (int32_t i = value->batched ? 1 : 0; i < value->rank; i++)
        size *= value->dims[i];
    return size;
}

static const struct mqb_value *drive_output(const struct drive *d)
{
    return &d->t->values[d->t->node.output];
}

static void drive_create(struct drive *d, struct one_node *t, bool training)
{
    uint32_t seed = 7;
    memset(d, 0, sizeof(*d));
    d->t = t;
    d->host.struct_size = sizeof(d->host);
    mqb_status status = one_node_infer(t);
    if (status)
        print_message("%s\n", t->error.text);
    assert_int_equal(status, MQB_OK);
    const struct mqb_value *output = drive_output(d);
    d->pointwise = t->node.op->forward_block && output->batched;
    for (int32_t i = 0; i < t->node.num_inputs; i++) {
        if (t->node.inputs[i] == MQB_NONE)
            continue;
        struct mqb_value *value = &t->values[i];
        d->size[i] = drive_value_size(value);
        d->in[i] = calloc((size_t)d->size[i], sizeof(float));
        d->din[i] = calloc((size_t)d->size[i], sizeof(float));
        for (int64_t k = 0; k < d->size[i]; k++)
            d->in[i][k] = drive_random(&seed);
        if (!value->batched) {
            d->fixed[i] = value->data = d->in[i];
            for (int64_t k = 0; value->kind == MQB_VALUE_STATE && k < d->size[i]; k++)
                d->in[i][k] = 0.5f + 0.4f * d->in[i][k];
        } else if (value->rank != output->rank ||
                   memcmp(value->dims, output->dims, (size_t)value->rank * sizeof(int64_t)) != 0) {
            d->pointwise = false;
        }
    }
    d->out_size = drive_value_size(output);
    d->out = calloc((size_t)d->out_size, sizeof(float));
    d->dout = calloc((size_t)d->out_size, sizeof(float));
    for (int64_t k = 0; k < d->out_size; k++)
        d->dout[k] = drive_random(&seed);
    d->context = (struct mqb_op_context){
        .graph = &t->graph,
        .node = &t->node,
        .compute = &naive_compute,
        .max_images = GRAIN_IMAGES,
        .batch = BATCH,
        .training = training,
        .gradients = true,
        .fixed = d->fixed,
        .host = &d->host,
    };
    size_t scratch_size = 0;
    status = t->node.op->create ? t->node.op->create(&d->context, &scratch_size, &t->error) : MQB_OK;
    if (status)
        print_message("%s\n", t->error.text);
    assert_int_equal(status, MQB_OK);
    d->scratch = mqb_allocate(scratch_size + 64);
}

static void drive_destroy(struct drive *d)
{
    if (d->t->node.op->destroy)
        d->t->node.op->destroy(&d->context);
    for (int i = 0; i < MQB_MAX_INPUTS; i++) {
        free(d->in[i]);
        free(d->din[i]);
    }
    free(d->out);
    free(d->dout);
    mqb_deallocate(d->scratch);
}

static struct mqb_op_grain drive_grain(const struct drive *d, int index)
{
    int64_t first = (int64_t)index * GRAIN_IMAGES;
    struct mqb_op_grain grain = {.index = index, .first_image = first, .scratch = d->scratch};
    grain.images = first + GRAIN_IMAGES <= BATCH ? GRAIN_IMAGES : (int)(BATCH - first);
    for (int32_t i = 0; i < d->t->node.num_inputs; i++)
        if (d->in[i])
            grain.in[i] = d->in[i] + (d->t->values[i].batched ? d->size[i] / BATCH * first : 0);
    grain.out = d->out + d->out_size / BATCH * first;
    grain.dout = d->dout + d->out_size / BATCH * first;
    return grain;
}

/* Calls visit for every block of every grain. */
static void drive_blocks(struct drive *d, void (*visit)(struct drive *d, struct mqb_op_block *block, int64_t offset, int grain))
{
    int64_t channels = drive_output(d)->dims[1], rows_per_image = d->out_size / BATCH / channels;
    for (int g = 0; g < NUM_GRAINS; g++) {
        struct mqb_op_grain grain = drive_grain(d, g);
        int64_t first = grain.first_image * rows_per_image, rows = grain.images * rows_per_image;
        for (int64_t row = 0; row < rows; row += BLOCK_ROWS) {
            struct mqb_op_block block = {.channels = (int32_t)channels, .first_row = first + row};
            block.rows = rows - row < BLOCK_ROWS ? rows - row : BLOCK_ROWS;
            int64_t offset = block.first_row * channels;
            block.in[0] = d->in[0] + offset;
            block.in[1] = d->in[1] && d->t->values[1].batched ? d->in[1] + offset : NULL;
            visit(d, &block, offset, g);
        }
    }
}

static void drive_forward_block(struct drive *d, struct mqb_op_block *block, int64_t offset, int grain)
{
    (void)grain;
    block->out = d->out + offset;
    d->t->node.op->forward_block(&d->context, block);
    float *in_place = malloc((size_t)(block->rows * block->channels) * sizeof(float));
    memcpy(in_place, block->in[0], (size_t)(block->rows * block->channels) * sizeof(float));
    block->in[0] = block->out = in_place;
    d->t->node.op->forward_block(&d->context, block);
    assert_memory_equal(in_place, d->out + offset, (size_t)(block->rows * block->channels) * sizeof(float));
    free(in_place);
}

static mqb_status drive_forward(struct drive *d)
{
    const struct mqb_op *op = d->t->node.op;
    mqb_status status = op->prepare ? op->prepare(&d->context, &d->t->error) : MQB_OK;
    if (status)
        return status;
    if (!drive_output(d)->batched)
        return op->forward_fixed(&d->context, d->out, &d->t->error);
    size_t size = op->reduce_size ? op->reduce_size(&d->context) : 0;
    if (size) {
        double *sums = malloc(NUM_GRAINS * size * sizeof(double));
        memset(sums, 0x7f, NUM_GRAINS * size * sizeof(double)); /* reduce writes */
        for (int g = 0; g < NUM_GRAINS; g++) {
            struct mqb_op_grain grain = drive_grain(d, g);
            op->reduce(&d->context, &grain, sums + (size_t)g * size);
        }
        mqb_tree_sum_f64(sums, sums, NUM_GRAINS, size, size);
        status = op->finish(&d->context, sums, &d->t->error);
        free(sums);
        if (status)
            return status;
    }
    if (d->pointwise)
        drive_blocks(d, drive_forward_block);
    else
        for (int g = 0; g < NUM_GRAINS; g++) {
            struct mqb_op_grain grain = drive_grain(d, g);
            op->forward(&d->context, &grain);
        }
    return MQB_OK;
}

static void drive_reduce_block(struct drive *d, struct mqb_op_block *block, int64_t offset, int grain)
{
    block->dout = d->dout + offset;
    block->sums = d->pass.sums + (size_t)grain * d->pass.sums_size;
    d->t->node.op->backward_reduce_block(&d->context, block);
}

static void drive_backward_block(struct drive *d, struct mqb_op_block *block, int64_t offset, int grain)
{
    bool two_phases = d->context.training && d->t->node.op->backward_needs_finish;
    block->dout = d->dout + offset;
    block->sums = d->pass.sums && !two_phases ? d->pass.sums + (size_t)grain * d->pass.sums_size : NULL;
    block->din[0] = d->din[0] + offset;
    block->din[1] = block->in[1] ? d->din[1] + offset : NULL;
    block->accumulate_side = d->pass.accumulate;
    if (d->pass.accumulate) { /* the second pass also runs in place */
        memcpy(block->din[0], block->dout, (size_t)(block->rows * block->channels) * sizeof(float));
        block->dout = block->din[0];
    }
    d->t->node.op->backward_block(&d->context, block);
}

/* din is what the executor would hand on; batched inputs of grain operators and side inputs are added to if `accumulate`. */
static void drive_backward(struct drive *d, bool accumulate)
{
    const struct mqb_op *op = d->t->node.op;
    float *dfixed[MQB_MAX_INPUTS] = {NULL};
    for (int32_t i = 0; i < d->t->node.num_inputs; i++)
        if (d->in[i] && !d->t->values[i].batched && d->t->values[i].kind != MQB_VALUE_STATE)
            dfixed[i] = d->din[i];
    if (!drive_output(d)->batched) {
        op->backward_fixed(&d->context, d->dout, dfixed);
        return;
    }
    size_t size = op->backward_reduce_size ? op->backward_reduce_size(&d->context) : 0;
    d->pass.accumulate = accumulate;
    d->pass.sums = size ? calloc(NUM_GRAINS * size, sizeof(double)) : NULL;
    d->pass.sums_size = size;
    if (d->pointwise) {
        bool two_phases = size && d->context.training && op->backward_needs_finish;
        if (two_phases)
            drive_blocks(d, drive_reduce_block);
        else
            drive_blocks(d, drive_backward_block);
        if (size) {
            mqb_tree_sum_f64(d->pass.sums, d->pass.sums, NUM_GRAINS, size, size);
            op->backward_finish(&d->context, d->pass.sums, dfixed);
        }
        if (two_phases)
            drive_blocks(d, drive_backward_block);
    } else {
        for (int g = 0; g < NUM_GRAINS; g++) {
            struct mqb_op_grain grain = drive_grain(d, g);
            float *partial[MQB_MAX_INPUTS] = {NULL};
            for (int32_t i = 0; i < d->t->node.num_inputs; i++) {
                if (!d->in[i])
                    continue;
                grain.accumulate[i] = accumulate;
                if (d->t->values[i].batched)
                    grain.din[i] = d->din[i] + d->size[i] / BATCH * grain.first_image;
                else
                    grain.din[i] = partial[i] = calloc((size_t)d->size[i], sizeof(float));
            }
            op->backward(&d->context, &grain);
            for (int32_t i = 0; i < d->t->node.num_inputs; i++) {
                for (int64_t k = 0; partial[i] && k < d->size[i]; k++)
                    d->din[i][k] += partial[i][k];
                free(partial[i]);
            }
        }
    }
    free(d->pass.sums);
}

static void expect_near(const char *what, const float *values, const double *expected, int64_t size, double tolerance)
{
    double largest = 1e-30;
    for (int64_t i = 0; i < size; i++)
        largest = fabs(expected[i]) > largest ? fabs(expected[i]) : largest;
    if (largest < 1e-6)
        largest = 1;
    for (int64_t i = 0; i < size; i++)
        if (!(fabs((double)values[i] - expected[i]) <= tolerance * largest)) {
            print_message("%s[%d] is %.9g, expected %.9g\n", what, (int)i, (double)values[i], expected[i]);
            fail();
        }
}

/* Numbers in double precision, and the reference's results from them. */
struct drive_doubles {
    double *in[MQB_MAX_INPUTS];
    double *out;
};

static double drive_loss(const struct drive *d, struct drive_doubles *doubles, reference run)
{
    double loss = 0;
    run(d->t, (const double *const *)doubles->in, doubles->out);
    for (int64_t i = 0; i < d->out_size; i++)
        loss += doubles->out[i] * (double)d->dout[i];
    return loss;
}

static void drive_differences(const struct drive *d, struct drive_doubles *doubles, reference run, int32_t input,
                              double *gradient)
{
    const double h = 1e-5;
    for (int64_t k = 0; k < d->size[input]; k++) {
        double *x = &doubles->in[input][k], x0 = *x;
        *x = x0 + h;
        double up = drive_loss(d, doubles, run);
        *x = x0 - h;
        double down = drive_loss(d, doubles, run);
        *x = x0;
        gradient[k] = (up - down) / (2 * h);
    }
}

/* Forward and all gradients of a driven operator against the reference. */
static void drive_check(struct drive *d, reference run, double tolerance)
{
    struct one_node *t = d->t;
    struct drive_doubles doubles;
    memset(&doubles, 0, sizeof(doubles));
    for (int32_t i = 0; i < t->node.num_inputs; i++) {
        if (!d->in[i])
            continue;
        doubles.in[i] = malloc((size_t)d->size[i] * sizeof(double));
        for (int64_t k = 0; k < d->size[i]; k++)
            doubles.in[i][k] = (double)d->in[i][k];
    }
    doubles.out = calloc((size_t)d->out_size, sizeof(double));
    mqb_status status = drive_forward(d);
    if (status)
        print_message("%s\n", t->error.text);
    assert_int_equal(status, MQB_OK);
    run(t, (const double *const *)doubles.in, doubles.out);
    expect_near("out", d->out, doubles.out, d->out_size, tolerance);

    for (int32_t i = 0; i < t->node.num_inputs; i++) /* what is written must not need to be clean */
        for (int64_t k = 0; d->in[i] && k < d->size[i]; k++)
            d->din[i][k] = t->values[i].batched ? NAN : 0.0f;
    drive_backward(d, false);
    double *gradients[MQB_MAX_INPUTS] = {NULL};
    for (int32_t i = 0; i < t->node.num_inputs; i++) {
        if (!d->in[i] || t->values[i].kind == MQB_VALUE_STATE)
            continue;
        gradients[i] = malloc((size_t)d->size[i] * sizeof(double));
        drive_differences(d, &doubles, run, i, gradients[i]);
        expect_near(t->values[i].name, d->din[i], gradients[i], d->size[i], tolerance);
        for (int64_t k = 0; k < d->size[i]; k++)
            d->din[i][k] = 1;
    }
    drive_backward(d, true);
    for (int32_t i = 0; i < t->node.num_inputs; i++) {
        if (!gradients[i])
            continue;
        bool written = d->pointwise && i == 0; /* the chain's own gradient is always written */
        for (int64_t k = 0; k < d->size[i]; k++)
            gradients[i][k] += written ? 0 : 1;
        expect_near(t->values[i].name, d->din[i], gradients[i], d->size[i], tolerance);
        free(gradients[i]);
    }
    for (int32_t i = 0; i < t->node.num_inputs; i++)
        free(doubles.in[i]);
    free(doubles.out);
}

/* create, check, destroy */
static inline void drive_run(struct one_node *t, bool training, reference run, double tolerance)
{
    struct drive d;
    drive_create(&d, t, training);
    drive_check(&d, run, tolerance);
    drive_destroy(&d);
}

#endif
