/* ops.c - the table of operators. */
#include "ops/ops.h"

static const struct mqb_op *const ops[] = {
    &mqb_op_add,
    &mqb_op_average_pool,
    &mqb_op_batch_normalization,
    &mqb_op_batch_scale,
    &mqb_op_batch_statistics,
    &mqb_op_channel_shuffle,
    &mqb_op_clip,
    &mqb_op_concat,
    &mqb_op_conv,
    &mqb_op_fake_quantize,
    &mqb_op_flatten,
    &mqb_op_float_conv,
    &mqb_op_float_gemm,
    &mqb_op_folded_bias,
    &mqb_op_gemm,
    &mqb_op_global_average_pool,
    &mqb_op_hard_sigmoid,
    &mqb_op_hard_swish,
    &mqb_op_leaky_relu,
    &mqb_op_max_pool,
    &mqb_op_mul,
    &mqb_op_pad,
    &mqb_op_relu,
    &mqb_op_scale_channels,
    &mqb_op_sigmoid,
    &mqb_op_slice,
    &mqb_op_statistic_row,
    NULL,
};

const struct mqb_op_table mqb_ops = {ops};
