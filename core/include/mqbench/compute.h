/*
 * mqbench/compute.h - a provider of the heavy kernels: convolutions and their gradients, integer convolutions.
 *
 * Layout: activations are NHWC (contiguous), weights come as ONNX stores them, [K][C / groups][R][S] float32; a provider
 * repacks them once a step. A linear layer is a 1x1 convolution over an image of 1x1.
 *
 * Threads: the engine cuts a batch into grains (a few images) and calls the kernels for different grains from different
 * threads; a kernel runs on the thread that calls it and starts none. A plan and its packed weights are read-only in the
 * kernels; scratch is the caller's, 64-byte aligned, one a thread, uninitialised.
 *
 * Numbers: each result depends on its operands alone, never on the thread, the address or the call before. A provider
 * that states MQB_COMPUTE_SAME_BITS gives the same bits on every instruction set.
 */
#ifndef MQBENCH_COMPUTE_H
#define MQBENCH_COMPUTE_H

#include <mqbench/host.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What conv_pack is to make ready. */
enum mqb_pack_for { MQB_PACK_FORWARD = 0, MQB_PACK_BOTH = 1, MQB_PACK_BACKWARD = 2 };

enum mqb_compute_flags { MQB_COMPUTE_SAME_BITS = 1u << 0 };

/* Letters: N images, C input channels, H x W input, K output channels, R x S kernel, P x Q output. */
struct mqb_conv_shape {
    uint32_t struct_size;
    int32_t c, h, w;
    int32_t k, r, s;
    int32_t p, q; /* output size, consistent with the rest */
    int32_t stride_h, stride_w;
    int32_t pad_top, pad_left, pad_bottom, pad_right;
    int32_t dilation_h, dilation_w;
    int32_t groups; /* c and k are multiples of it */
};

/* A part of an integer convolution. */
struct mqb_iconv_part {
    uint32_t struct_size;
    int32_t n;                           /* images; if more than one, with all their rows */
    int32_t first_row, num_rows;         /* of the output */
    int32_t first_channel, num_channels; /* of the output: from a multiple of 32, to one or to the last; all, if there are groups */
};

struct mqb_conv_plan; /* opaque, the provider's */

struct mqb_compute {
    uint32_t struct_size;
    uint32_t flags; /* enum mqb_compute_flags */
    const char *description;

    /* How good a choice this provider is on this machine: 0 unusable, the largest wins when the user names none. */
    int32_t (*score)(const struct mqb_host *host);
    /* Which instruction set the kernels run on ("avx512-vnni", "avx2", "scalar"); `MQBENCH_ISA` lowers it. */
    const char *(*isa)(const struct mqb_host *host);

    /* A plan for one convolution; max_images is the largest n that will be asked for. MQB_ERR_UNSUPPORTED: the run
     * ends with the sentence, which should name a provider that can. */
    mqb_status (*conv_create)(const struct mqb_host *host, const struct mqb_conv_shape *shape, int32_t max_images,
                              struct mqb_conv_plan **plan, struct mqb_error *error);
    void (*conv_destroy)(struct mqb_conv_plan *plan); /* NULL allowed */

    /* Sizes in bytes. packed: one buffer holds what forward and backward_data need. scratch covers every kernel below. */
    size_t (*conv_packed_size)(const struct mqb_conv_plan *plan);
    size_t (*conv_scratch_size)(const struct mqb_conv_plan *plan);
    /* Repacks the weights; gradients: enum mqb_pack_for. What is not asked for stays as it was, or becomes that of these weights. */
    void (*conv_pack)(const struct mqb_conv_plan *plan, const float *weight, int32_t gradients, void *packed);

    /* y[n][p][q][k] = conv(x[n][h][w][c], weight) + bias[k]; bias NULL: none. */
    void (*conv_forward)(const struct mqb_conv_plan *plan, int32_t n, const float *x, const void *packed, const float *bias,
                         float *y, void *scratch);
    /* dx = gradient at x; accumulate: dx += instead. */
    void (*conv_backward_data)(const struct mqb_conv_plan *plan, int32_t n, const float *dy, const void *packed, float *dx,
                               int32_t accumulate, void *scratch);
    /* dw = gradient at the weights, ONNX order, over these n images; written, not added. */
    void (*conv_backward_weights)(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                                  void *scratch);

    /* Integer convolution, exact modulo 2^32: acc[n][p][q][k] = sum x[..] * w[..], x unsigned bytes, w signed bytes.
     * Positions outside the image read `pad_value`. The packed size and the scratch are separate from the float ones.
     * Optional as a group (all NULL: the engine uses its own scalar reference). */
    size_t (*iconv_packed_size)(const struct mqb_conv_plan *plan);
    size_t (*iconv_scratch_size)(const struct mqb_conv_plan *plan);
    void (*iconv_pack)(const struct mqb_conv_plan *plan, const int8_t *weight, void *packed);
    void (*iconv_forward)(const struct mqb_conv_plan *plan, int32_t n, const uint8_t *x, uint8_t pad_value, const void *packed,
                          int32_t *acc, void *scratch);

    /* Optional, each alone. Output rows [first, first + count) of one image, acc[count][q][k], so that the caller can go on
     * with them while they are in cache. */
    void (*iconv_rows)(const struct mqb_conv_plan *plan, int32_t first, int32_t count, const uint8_t *x, uint8_t pad_value,
                       const void *packed, int32_t *acc, void *scratch);
    /* Weights less their zero point, -255..255, instead of iconv_pack; the same kernels run on them. 0: not for this plan, and
     * `packed` is untouched. */
    int32_t (*iconv_pack_wide)(const struct mqb_conv_plan *plan, const int16_t *weight, void *packed);
    /* acc[n][num_rows][q][num_channels]: for layers whose weights do not fit into a cache next to the rest. */
    void (*iconv_part)(const struct mqb_conv_plan *plan, const struct mqb_iconv_part *part, const uint8_t *x, uint8_t pad_value,
                       const void *packed, int32_t *acc, void *scratch);
    /* Rows [first, first + count) of the output of one image, y[count][q][k]: the bits that conv_forward gives. */
    void (*conv_rows)(const struct mqb_conv_plan *plan, int32_t first, int32_t count, const float *x, const void *packed,
                      const float *bias, float *y, void *scratch);
};

#ifdef __cplusplus
}
#endif
#endif
