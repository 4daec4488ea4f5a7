/* gemm.c - Gemm: a linear layer, W [out][in], bias [out]; a 1x1 convolution over images of one pixel. */
#include "ops/ops.h"

#include <mqbench/compute.h>

#include <string.h>

static mqb_status gemm_infer(const struct mqb_graph *graph, const struct mqb_node *node, struct mqb_value *output,
                             struct mqb_error *error)
{
    const struct mqb_value *x, *weight;
    char text[MQB_SHAPE_TEXT], text_x[MQB_SHAPE_TEXT];
    mqb_status status = mqb_infer_batched(graph, node, 0, false, &x, error);
    if (!status)
        status = mqb_infer_fixed(graph, node, 1, "weight", &weight, error);
    if (status)
        return status;
    double alpha = mqb_attr_f(node, "alpha", 1), beta = mqb_attr_f(node, "beta", 1);
    if (alpha != 1 || beta != 1 || mqb_attr_i(node, "transA", 0) != 0)
        return mqb_fail(error, MQB_ERR_ARGUMENT,
                        "attributes alpha = %g, beta = %g, transA = %d; only alpha = beta = 1 without transA run", alpha, beta,
                        (int)mqb_attr_i(node, "transA", 0));
    if (x->rank != 2)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "input '%s' has shape %s, expected [N, F]; put a Flatten before it", x->name,
                        mqb_shape_text(x, text_x));
    if (weight->rank != 2 || weight->dims[1] != x->dims[1])
        return mqb_fail(error, MQB_ERR_ARGUMENT, "weight '%s' has shape %s, expected [outputs, %d] for input '%s' %s",
                        weight->name, mqb_shape_text(weight, text), (int)x->dims[1], x->name, mqb_shape_text(x, text_x));
    status = mqb_infer_vector(graph, node, 2, "bias", weight->dims[0], true, error);
    if (status)
        return status;
    int64_t dims[2] = {MQB_BATCH, weight->dims[0]};
    return mqb_infer_output(output, 2, dims, true, error);
}

static mqb_status gemm_create(struct mqb_op_context *context, size_t *scratch_size, struct mqb_error *error)
{
    struct mqb_conv_shape shape;
    memset(&shape, 0, sizeof(shape));
    shape.struct_size = sizeof(shape);
    shape.c = (int32_t)mqb_input_extent(context, 0).c;
    shape.k = (int32_t)mqb_output_extent(context).c;
    shape.h = shape.w = shape.p = shape.q = shape.r = shape.s = 1;
    shape.stride_h = shape.stride_w = shape.dilation_h = shape.dilation_w = shape.groups = 1;
    return mqb_convolve_create(context, &shape, scratch_size, error);
}

const struct mqb_op mqb_op_gemm = {
    .name = "Gemm",
    .min_inputs = 2,
    .max_inputs = 3,
    .infer = gemm_infer,
    .create = gemm_create,
    .destroy = mqb_convolve_destroy,
    .prepare = mqb_convolve_prepare,
    .forward = mqb_convolve_forward,
    .backward = mqb_convolve_backward,
    .takes_codes = true,
};

/* For statistics of the float layer beside a folded one: no pass quantizes it. */
const struct mqb_op mqb_op_float_gemm = {
    .name = "FloatGemm",
    .min_inputs = 2,
    .max_inputs = 3,
    .infer = gemm_infer,
    .create = gemm_create,
    .destroy = mqb_convolve_destroy,
    .prepare = mqb_convolve_prepare,
    .forward = mqb_convolve_forward,
    .backward = mqb_convolve_backward,
    .takes_codes = true,
};
