/*
 * onednn.h - the inside of the provider: primitives made once, and their execution.
 *
 * Letters: N images, C input channels, H x W input, K output channels, R x S kernel, P x Q output.
 *
 * Numbers: oneDNN chooses its blocking by the number of images too. So forward and backward data run on primitives of one
 * image, and the results of an image do not depend on the images beside it. The weights' gradient sums over images: a full
 * grain runs on one primitive, any other number of images is added up one by one in order.
 *
 * Threads: the library is built on OpenMP, and a primitive made for two threads and run inside another parallel region
 * hangs. OpenMP's thread count belongs to each thread: it is one while primitives are made and run, and put back after.
 * A primitive may run on several threads at once, because scratch memory and memory objects belong to the call.
 */
#ifndef ONEDNN_H
#define ONEDNN_H

#include <dnnl.h>
#include <mqbench/compute.h>

/* A primitive and how its operands lie in memory. */
struct onednn_pass {
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t x, weights, bias, y; /* or their gradients */
    dnnl_memory_desc_t scratchpad;
    size_t scratchpad_size;
};

/* The same weights in another order. */
struct onednn_reorder {
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t scratchpad;
    size_t scratchpad_size;
};

struct mqb_conv_plan {
    const struct mqb_host *host;
    struct mqb_conv_shape shape;
    int32_t max_images;
    dnnl_engine_t engine;
    dnnl_memory_desc_t onnx_weights;
    struct onednn_pass forward, backward_data;                 /* of one image */
    struct onednn_pass backward_weights, backward_weights_one; /* of max_images, of one */
    struct onednn_reorder to_forward, to_backward_data, from_gradient, from_gradient_one;
    size_t forward_packed_size, backward_packed_size, pack_scratch_size; /* bytes, multiples of 64 */
    size_t gradient_size, scratchpad_size;                               /* likewise */
    size_t x_size, y_size;                                               /* bytes of an image */
    float *zeros;                                                        /* K: the bias where there is none */
};

mqb_status onednn_plan_create(const struct mqb_host *host, const struct mqb_conv_shape *shape, int32_t max_images,
                              struct mqb_conv_plan **plan, struct mqb_error *error);
void onednn_plan_destroy(struct mqb_conv_plan *plan);

/* An operand of a primitive; `step` bytes further on in each repetition. */
struct onednn_operand {
    int argument; /* DNNL_ARG_... */
    const dnnl_memory_desc_t *desc;
    const void *data;
    size_t step;
};

/* Runs a primitive `repeats` times on this thread. Nonzero: the library failed, which it does for lack of memory. */
int onednn_run(const struct mqb_conv_plan *plan, dnnl_primitive_t primitive, int32_t repeats,
               const struct onednn_operand *operands, size_t num_operands);

/* OpenMP's thread count of this thread becomes 1; returns what it was. */
int onednn_threads_one(void);
void onednn_threads_restore(int threads);

static inline size_t onednn_round_up(size_t size)
{
    return (size + 63) / 64 * 64;
}

#endif
