/*
 * onednn.c - the provider's table.
 */
#include "onednn.h"

#include <mqbench/plugin.h>

#include <math.h>
#include <string.h>

static int32_t onednn_score(const struct mqb_host *host)
{
    (void)host;
    return dnnl_engine_get_count(dnnl_cpu) > 0 ? 50 : 0;
}

static const char *onednn_isa(const struct mqb_host *host)
{
    (void)host;
    switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41:
        return "sse4.1";
    case dnnl_cpu_isa_avx:
        return "avx";
    case dnnl_cpu_isa_avx2:
        return "avx2";
    case dnnl_cpu_isa_avx2_vnni:
        return "avx2-vnni";
    case dnnl_cpu_isa_avx512_core:
        return "avx512";
    case dnnl_cpu_isa_avx512_core_vnni:
        return "avx512-vnni";
    case dnnl_cpu_isa_avx512_core_bf16:
        return "avx512-bf16";
    case dnnl_cpu_isa_avx512_core_amx:
        return "avx512-amx";
    default:
        return "generic";
    }
}

static size_t onednn_packed_size(const struct mqb_conv_plan *plan)
{
    return plan->forward_packed_size + plan->backward_packed_size + plan->pack_scratch_size;
}

static size_t onednn_scratch_size(const struct mqb_conv_plan *plan)
{
    size_t gradients = 2 * plan->gradient_size, image = onednn_round_up(plan->x_size);

    return plan->scratchpad_size + (gradients > image ? gradients : image);
}

/* There is no way to report a failure from a kernel: NaN is what the engine looks for. */
static void spoil(void *data, size_t size)
{
    float *values = data;

    for (size_t i = 0; i < size / sizeof(float); i++) {
        values[i] = NAN;
    }
}

static int reorder(const struct mqb_conv_plan *plan, const struct onednn_reorder *how, const dnnl_memory_desc_t *from_desc,
                   const void *from, const dnnl_memory_desc_t *to_desc, void *to, void *scratchpad)
{
    const struct onednn_operand operands[] = {
        {DNNL_ARG_FROM, from_desc, from, 0},
        {DNNL_ARG_TO, to_desc, to, 0},
        {DNNL_ARG_SCRATCHPAD, &how->scratchpad, scratchpad, 0},
    };

    return onednn_run(plan, how->primitive, 1, operands, how->scratchpad_size > 0 ? 3 : 2);
}

static void onednn_conv_pack(const struct mqb_conv_plan *plan, const float *weight, int32_t gradients, void *packed)
{
    uint8_t *backward = (uint8_t *)packed + plan->forward_packed_size, *scratchpad = backward + plan->backward_packed_size;

    if (reorder(plan, &plan->to_forward, &plan->onnx_weights, weight, &plan->forward.weights, packed, scratchpad)) {
        spoil(packed, plan->forward_packed_size);
    }
    if (gradients != 0 && reorder(plan, &plan->to_backward_data, &plan->onnx_weights, weight, &plan->backward_data.weights,
                                  backward, scratchpad)) {
        spoil(backward, plan->backward_packed_size);
    }
}

static void onednn_forward(const struct mqb_conv_plan *plan, int32_t n, const float *x, const void *packed, const float *bias,
                           float *y, void *scratch)
{
    const struct onednn_pass *pass = &plan->forward;
    const struct onednn_operand operands[] = {
        {DNNL_ARG_SRC, &pass->x, x, plan->x_size},
        {DNNL_ARG_WEIGHTS, &pass->weights, packed, 0},
        {DNNL_ARG_BIAS, &pass->bias, bias != NULL ? bias : plan->zeros, 0},
        {DNNL_ARG_DST, &pass->y, y, plan->y_size},
        {DNNL_ARG_SCRATCHPAD, &pass->scratchpad, scratch, 0},
    };

    if (onednn_run(plan, pass->primitive, n, operands, pass->scratchpad_size > 0 ? 5 : 4)) {
        spoil(y, (size_t)n * plan->y_size);
    }
}

static int backward_data(const struct mqb_conv_plan *plan, int32_t n, const float *dy, const void *packed, float *dx,
                         void *scratchpad)
{
    const struct onednn_pass *pass = &plan->backward_data;
    const struct onednn_operand operands[] = {
        {DNNL_ARG_DIFF_DST, &pass->y, dy, plan->y_size},
        {DNNL_ARG_WEIGHTS, &pass->weights, (const uint8_t *)packed + plan->forward_packed_size, 0},
        {DNNL_ARG_DIFF_SRC, &pass->x, dx, plan->x_size},
        {DNNL_ARG_SCRATCHPAD, &pass->scratchpad, scratchpad, 0},
    };

    return onednn_run(plan, pass->primitive, n, operands, pass->scratchpad_size > 0 ? 4 : 3);
}

MQB_MULTIVERSION
static void add(float *restrict sum, const float *restrict terms, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sum[i] += terms[i];
    }
}

static void onednn_backward_data(const struct mqb_conv_plan *plan, int32_t n, const float *dy, const void *packed, float *dx,
                                 int32_t accumulate, void *scratch)
{
    size_t x_count = plan->x_size / sizeof(float), y_count = plan->y_size / sizeof(float);
    int failed = 0;

    if (!accumulate) {
        failed = backward_data(plan, n, dy, packed, dx, scratch);
    }
    for (int32_t i = 0; i < n && accumulate && !failed; i++) {
        float *image = (float *)(void *)((uint8_t *)scratch + plan->scratchpad_size);

        failed = backward_data(plan, 1, dy + (size_t)i * y_count, packed, image, scratch);
        add(dx + (size_t)i * x_count, image, x_count);
    }
    if (failed) {
        spoil(dx, (size_t)n * plan->x_size);
    }
}

static int backward_weights(const struct mqb_conv_plan *plan, const struct onednn_pass *pass, const float *x, const float *dy,
                            float *gradient, void *scratchpad)
{
    const struct onednn_operand operands[] = {
        {DNNL_ARG_SRC, &pass->x, x, 0},
        {DNNL_ARG_DIFF_DST, &pass->y, dy, 0},
        {DNNL_ARG_DIFF_WEIGHTS, &pass->weights, gradient, 0},
        {DNNL_ARG_SCRATCHPAD, &pass->scratchpad, scratchpad, 0},
    };

    return onednn_run(plan, pass->primitive, 1, operands, pass->scratchpad_size > 0 ? 4 : 3);
}

static void onednn_backward_weights(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                                    void *scratch)
{
    const struct mqb_conv_shape *s = &plan->shape;
    const int whole = n == plan->max_images;
    const struct onednn_pass *pass = whole ? &plan->backward_weights : &plan->backward_weights_one;
    const struct onednn_reorder *back = whole ? &plan->from_gradient : &plan->from_gradient_one;
    float *sum = (float *)(void *)((uint8_t *)scratch + plan->scratchpad_size);
    float *one = (float *)(void *)((uint8_t *)sum + plan->gradient_size);
    size_t x_count = plan->x_size / sizeof(float), y_count = plan->y_size / sizeof(float);
    int failed = backward_weights(plan, pass, x, dy, sum, scratch);

    for (int32_t i = 1; i < n && !whole && !failed; i++) {
        failed = backward_weights(plan, pass, x + (size_t)i * x_count, dy + (size_t)i * y_count, one, scratch);
        add(sum, one, dnnl_memory_desc_get_size(&pass->weights) / sizeof(float));
    }
    if (failed || reorder(plan, back, &pass->weights, sum, &plan->onnx_weights, dw, scratch)) {
        spoil(dw, (size_t)s->k * (size_t)(s->c / s->groups) * (size_t)s->r * (size_t)s->s * sizeof(float));
    }
}

/* No integer kernels: without VNNI the library's saturate between two products, and the table is the same on every CPU. */
static const struct mqb_compute onednn_compute = {
    .struct_size = sizeof(struct mqb_compute),
    .description = "convolution through oneDNN's direct kernels",
    .score = onednn_score,
    .isa = onednn_isa,
    .conv_create = onednn_plan_create,
    .conv_destroy = onednn_plan_destroy,
    .conv_packed_size = onednn_packed_size,
    .conv_scratch_size = onednn_scratch_size,
    .conv_pack = onednn_conv_pack,
    .conv_forward = onednn_forward,
    .conv_backward_data = onednn_backward_data,
    .conv_backward_weights = onednn_backward_weights,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_COMPUTE_INTERFACE, "onednn", &onednn_compute},
};

MQB_PLUGIN("onednn", "0.1.0", components);
