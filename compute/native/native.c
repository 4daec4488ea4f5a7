/*
 * native.c - the provider's table: which instruction set, and the way from a call to the kernels.
 */
#include "native.h"

#include <mqbench/plugin.h>

#include <stdlib.h>
#include <string.h>

enum { LIMIT_SCALAR, LIMIT_AVX2, LIMIT_NONE };

/* The best set that the CPU has, up to a limit. */
static const struct native_isa *isa_best(int limit)
{
    const struct native_isa *isa = &native_isa_generic;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (limit >= LIMIT_AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        isa = &native_isa_avx2;
        if (limit >= LIMIT_NONE && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni")) {
            isa = &native_isa_avx512;
        }
    }
#else
    (void)limit;
#endif
    return isa;
}

/* MQBENCH_ISA=avx512|avx2|scalar lowers it. Read at each plan, so that a test can compare. */
static const struct native_isa *isa_choose(void)
{
    const char *wish = getenv("MQBENCH_ISA");

    if (wish != NULL && strcmp(wish, "scalar") == 0) {
        return isa_best(LIMIT_SCALAR);
    }
    return isa_best(wish != NULL && strcmp(wish, "avx2") == 0 ? LIMIT_AVX2 : LIMIT_NONE);
}

/* What the CPU can do, whatever MQBENCH_ISA says: lowering the set must not hand the run to another provider's bits. */
static int32_t native_score(const struct mqb_host *host)
{
    (void)host;
    return isa_best(LIMIT_NONE)->score;
}

static const char *native_isa_name(const struct mqb_host *host)
{
    (void)host;
    return isa_choose()->name;
}

static mqb_status native_conv_create(const struct mqb_host *host, const struct mqb_conv_shape *shape, int32_t max_images,
                                     struct mqb_conv_plan **plan, struct mqb_error *error)
{
    return native_plan_create(host, isa_choose(), shape, max_images, plan, error);
}

static size_t native_packed_size(const struct mqb_conv_plan *plan)
{
    return native_round_up(plan->forward.packed_size, 64) + plan->backward.packed_size;
}

static size_t native_scratch_size(const struct mqb_conv_plan *plan)
{
    return plan->scratch_size;
}

static void native_conv_pack(const struct mqb_conv_plan *plan, const float *weight, int32_t gradients, void *packed)
{
    if (gradients != MQB_PACK_BACKWARD) {
        plan->isa->pack_float(&plan->forward, &plan->shape, weight, 0, packed);
    }
    if (gradients != MQB_PACK_FORWARD) {
        void *backward = (uint8_t *)packed + native_round_up(plan->forward.packed_size, 64);

        plan->isa->pack_float(&plan->backward, &plan->shape, weight, 1, backward);
    }
}

static void native_forward(const struct mqb_conv_plan *plan, int32_t n, const float *x, const void *packed, const float *bias,
                           float *y, void *scratch)
{
    const struct native_pass *pass = &plan->forward;
    const struct mqb_conv_shape *shape = &plan->shape;
    size_t x_size = (size_t)shape->c * shape->h * shape->w;
    size_t y_size = (size_t)shape->k * shape->p * shape->q;

    if (!pass->fused) {
        plan->isa->pass_run(pass, n, x, packed, bias, y, 0, pass->depthwise ? NULL : plan->zeros, scratch);
        return;
    }
    uint8_t *padded = (uint8_t *)scratch + pass->rows_size + pass->outs_size;
    for (int32_t i = 0; i < n; i++) {
        native_pad_image(plan, x + i * x_size, (int32_t)sizeof(float), 0, padded);
        plan->isa->pass_run(pass, 1, padded, packed, bias, y + i * y_size, 0, plan->zeros, scratch);
    }
}

static void native_rows(const struct mqb_conv_plan *plan, int32_t first, int32_t count, const float *x, const void *packed,
                        const float *bias, float *y, void *scratch)
{
    const struct native_pass *pass = &plan->forward;
    const struct mqb_conv_shape *shape = &plan->shape;
    const void *in = x;

    if (pass->copied) {
        const int32_t reach = (count - 1) * shape->stride_h + (shape->r - 1) * shape->dilation_h + 1;
        uint8_t *copy = (uint8_t *)scratch + pass->rows_size + pass->outs_size;

        native_pad_rows(plan, first * shape->stride_h, reach, x, (int32_t)sizeof(float), 0, copy);
        in = copy;
    }
    plan->isa->rows_run(pass, first, count, in, packed, bias, y, pass->depthwise ? NULL : plan->zeros, scratch);
}

static void native_backward_data(const struct mqb_conv_plan *plan, int32_t n, const float *dy, const void *packed, float *dx,
                                 int32_t accumulate, void *scratch)
{
    const void *backward = (const uint8_t *)packed + native_round_up(plan->forward.packed_size, 64);

    plan->isa->pass_run(&plan->backward, n, dy, backward, NULL, dx, accumulate,
                         plan->backward.depthwise ? NULL : plan->zeros, scratch);
}

static void native_backward_weights(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                                    void *scratch)
{
    plan->isa->weights_run(plan, n, x, dy, dw, scratch);
}

static size_t native_integer_packed_size(const struct mqb_conv_plan *plan)
{
    return plan->integer.packed_size;
}

static size_t native_integer_scratch_size(const struct mqb_conv_plan *plan)
{
    return plan->integer_scratch_size;
}

static void native_integer_pack(const struct mqb_conv_plan *plan, const int8_t *weight, void *packed)
{
    plan->isa->pack_integer(&plan->integer, &plan->shape, weight, packed);
}

/* Depthwise: `n` whole images, or some rows of one. A tap over the edge reads a pixel of padding, if that is not zero. */
static void depthwise_part(const struct mqb_conv_plan *plan, const struct mqb_iconv_part *part, const uint8_t *x,
                           uint8_t pad_value, const void *packed, int32_t *acc, void *scratch)
{
    const struct native_pass *pass = &plan->integer;
    uint8_t *row = NULL;

    if (pad_value != 0) {
        row = (uint8_t *)scratch + pass->rows_size + pass->outs_size;
        memset(row, pad_value, (size_t)plan->shape.c);
    }
    if (part->num_rows == plan->shape.p) {
        plan->isa->pass_run(pass, part->n, x, packed, NULL, acc, 0, row, scratch);
    } else {
        plan->isa->rows_run(pass, part->first_row, part->num_rows, x, packed, NULL, acc, row, scratch);
    }
}

static void native_integer_part(const struct mqb_conv_plan *plan, const struct mqb_iconv_part *part, const uint8_t *x,
                                uint8_t pad_value, const void *packed, int32_t *acc, void *scratch)
{
    const struct native_pass *pass = &plan->integer;
    const struct mqb_conv_shape *shape = &plan->shape;
    const size_t x_size = (size_t)shape->c * (size_t)shape->h * (size_t)shape->w;
    const int32_t first = part->first_row * shape->stride_h;
    const int64_t pixels = (int64_t)part->num_rows * shape->q;
    struct native_part whole = { part->n * pixels, part->first_channel, part->num_channels };

    if (pass->depthwise) {
        depthwise_part(plan, part, x, pad_value, packed, acc, scratch);
    } else if (!pass->copied) {
        const uint8_t *source = x + (size_t)first * (size_t)shape->w * (size_t)shape->c;

        plan->isa->integer_run(pass, &whole, source, packed, acc, scratch);
    } else {
        const struct native_part one = { pixels, part->first_channel, part->num_channels };
        const int32_t reach = (part->num_rows - 1) * shape->stride_h + (shape->r - 1) * shape->dilation_h + 1;
        uint8_t *copy = (uint8_t *)scratch + pass->rows_size + pass->outs_size;

        for (int32_t i = 0; i < part->n; i++) {
            native_pad_rows(plan, first, reach, x + (size_t)i * x_size, 1, pad_value, copy);
            plan->isa->integer_run(pass, &one, copy, packed, acc + i * pixels * part->num_channels, scratch);
        }
    }
}

static void native_integer_forward(const struct mqb_conv_plan *plan, int32_t n, const uint8_t *x, uint8_t pad_value,
                                   const void *packed, int32_t *acc, void *scratch)
{
    const struct mqb_iconv_part all = { sizeof(all), n, 0, plan->shape.p, 0, plan->shape.k };

    native_integer_part(plan, &all, x, pad_value, packed, acc, scratch);
}

static void native_integer_rows(const struct mqb_conv_plan *plan, int32_t first, int32_t count, const uint8_t *x,
                                uint8_t pad_value, const void *packed, int32_t *acc, void *scratch)
{
    const struct mqb_iconv_part rows = { sizeof(rows), 1, first, count, 0, plan->shape.k };

    native_integer_part(plan, &rows, x, pad_value, packed, acc, scratch);
}

static int32_t native_integer_pack_wide(const struct mqb_conv_plan *plan, const int16_t *weight, void *packed)
{
    if (!plan->integer.depthwise) {
        return 0;
    }
    plan->isa->pack_wide(&plan->integer, &plan->shape, weight, packed);
    return 1;
}

static const struct mqb_compute native_compute = {
    .struct_size = sizeof(struct mqb_compute),
    .flags = MQB_COMPUTE_SAME_BITS,
    .description = "own kernels: direct convolutions, the same bits on every instruction set",
    .score = native_score,
    .isa = native_isa_name,
    .conv_create = native_conv_create,
    .conv_destroy = native_plan_destroy,
    .conv_packed_size = native_packed_size,
    .conv_scratch_size = native_scratch_size,
    .conv_pack = native_conv_pack,
    .conv_forward = native_forward,
    .conv_backward_data = native_backward_data,
    .conv_backward_weights = native_backward_weights,
    .iconv_packed_size = native_integer_packed_size,
    .iconv_scratch_size = native_integer_scratch_size,
    .iconv_pack = native_integer_pack,
    .iconv_forward = native_integer_forward,
    .iconv_rows = native_integer_rows,
    .iconv_pack_wide = native_integer_pack_wide,
    .iconv_part = native_integer_part,
    .conv_rows = native_rows,
};

static const struct mqb_component components[] = {
    { sizeof(struct mqb_component), 0, MQB_COMPUTE_INTERFACE, "native", &native_compute },
};

MQB_PLUGIN("native", "0.1.0", components);
