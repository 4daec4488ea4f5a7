/*
 * mqbench/quantizer.h - a quantization algorithm.
 *
 * One instance serves one quantization point: one weight or one activation tensor. Its life:
 *
 *   create -> observe (calibration, once a batch) -> init
 *          -> per training step: prepare, forward on slices, backward on slices, reduce
 *          -> qparams / freeze -> destroy
 *
 * Threads: create, prepare, reduce, freeze, save, load and destroy are called by one thread at a time. observe and init are
 * called by one thread at a time for an instance, but several instances may be in them at once.
 * forward and backward are called concurrently on disjoint slices and must treat `self` as read-only; sums go to the
 * accumulators in the slice. The host adds accumulators in one fixed order, so results do not depend on threads.
 */
#ifndef MQBENCH_QUANTIZER_H
#define MQBENCH_QUANTIZER_H

#include <mqbench/host.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mqb_quantizer_flags {
    MQB_QUANTIZER_WEIGHTS = 1u << 0,      /* can serve weights */
    MQB_QUANTIZER_ACTIVATIONS = 1u << 1,  /* can serve activations */
    MQB_QUANTIZER_AFFINE = 1u << 2,       /* forward always equals scale * (q - zero_point) of qparams() */
    MQB_QUANTIZER_WHOLE_INPUT = 1u << 3,  /* prepare() needs the whole activation tensor, not its shape alone: costs a barrier */
    MQB_QUANTIZER_POST_TRAINING = 1u << 4 /* calibration is all there is to it: no training unless epochs are asked for */
};

#define MQB_QUANTIZER_MAX_SUMS 32

struct mqb_quantizer {
    uint32_t struct_size;
    uint32_t flags; /* enum mqb_quantizer_flags */
    const char *description; /* one line, with the source: "learned step size (Esser et al., ICLR 2020)" */
    const struct mqb_option_spec *options;
    uint32_t num_options;
    uint32_t sums_per_channel; /* accumulators that backward() adds to, at most MQB_QUANTIZER_MAX_SUMS */

    /* Makes an instance, or refuses the scheme with MQB_ERR_UNSUPPORTED and the reason: that sentence is the
     * deployability verdict the user reads. `scheme` and `options` are only valid during the call. */
    mqb_status (*create)(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                         void **self, struct mqb_error *error);
    void (*destroy)(void *self);

    /* Calibration: one whole tensor at a time. For weights it is called once. */
    mqb_status (*observe)(void *self, const struct mqb_tensor_view *x, struct mqb_error *error);
    /* End of calibration: parameters get their initial values. */
    mqb_status (*init)(void *self, struct mqb_error *error);

    /* Once before the forward of each step. x->data is NULL for activations unless MQB_QUANTIZER_WHOLE_INPUT; the shape is
     * always that of the whole batch (LSQ's gradient factor needs the number of elements). Optional. */
    mqb_status (*prepare)(void *self, const struct mqb_tensor_view *x, int training, struct mqb_error *error);

    /* y = fake_quantize(x). Values land exactly on the grid that qparams() implies. */
    void (*forward)(const void *self, const struct mqb_slice *slice);
    /* dx from x and dy; adds to slice->sums[0 .. sums_per_channel). */
    void (*backward)(const void *self, const struct mqb_slice *slice);
    /* Turns the sums of a whole step, [num_channels][sums_per_channel], into the gradients of the parameters.
     * Optional if sums_per_channel is 0, or if complete() is there. */
    void (*reduce)(void *self, const double *sums);

    /* Learnable parameters; index 0 .. until MQB_ERR_NOT_FOUND. Optional (nothing to learn). */
    mqb_status (*param)(void *self, uint32_t index, struct mqb_param *param);

    /* The affine parameters as they stand. Arrays belong to the instance, valid until its next non-const call. */
    mqb_status (*qparams)(const void *self, struct mqb_qparams *qparams, struct mqb_error *error);

    /* Integer codes for deployment: weights only (activations deploy by their qparams).
     * codes: x->num_elements int32. Refuses with the reason if the codes are not what hardware can run.
     * Optional: without it the host quantizes x with qparams(). */
    mqb_status (*freeze)(const void *self, const struct mqb_tensor_view *x, int32_t *codes, struct mqb_error *error);

    /* Exact state: save(buffer = NULL) tells the size. load refuses a state of another version or size. */
    mqb_status (*save)(const void *self, void *buffer, size_t *size, struct mqb_error *error);
    mqb_status (*load)(void *self, const void *buffer, size_t size, struct mqb_error *error);

    /* Weights only, after reduce: adds to dx, the whole tensor's, what needs the sums of all slices (a gradient through the
     * largest element, through a mean). Optional. */
    void (*complete)(const void *self, const double *sums, float *dx);

    /* Why no hardware can run what this quantizer makes of a weight ([0]) and of an activation ([1]); NULL if hardware can.
     * A clause that follows "because": "its levels are sums of powers of two". Backends that deploy refuse it with that reason. */
    const char *undeployable[2];

    /* Activations of MQB_QUANTIZER_AFFINE quantizers: forward straight to codes, counted from the qmin of qparams(); slice->y is
     * not there. Returns 0, with any bytes in `codes`, unless scale * (code + qmin - zero_point) is every bit of what forward
     * gives, for all elements. Optional: without it the host makes codes of forward's result. */
    int32_t (*forward_codes)(const void *self, const struct mqb_slice *slice, uint8_t *codes);
};

#ifdef __cplusplus
}
#endif
#endif
