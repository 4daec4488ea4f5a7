/*
 * mqbench/types.h - the flat structs that cross the plugin boundary.
 *
 * Every struct starts with its own size. The side that fills it writes sizeof; the side that reads it
 * touches a field only if the other side's size covers it (MQB_HAS_FIELD). Structs grow at the end only.
 * Sources: the scheme and its ranges follow MQBench (NeurIPS 2021), section 3 and its appendix.
 */
#ifndef MQBENCH_TYPES_H
#define MQBENCH_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MQB_ABI_MAJOR 0
#define MQB_ABI_MINOR 1

/* True if `s`, a struct filled by the other side, is large enough to hold `field`. */
#define MQB_HAS_FIELD(s, type, field) ((s)->struct_size >= offsetof(type, field) + sizeof((s)->field))

/* What a call came to. Anything but MQB_OK comes with a sentence in the caller's struct mqb_error. */
typedef enum mqb_status {
    MQB_OK = 0,
    MQB_ERR_ARGUMENT = 1,    /* a value that the user or the caller gave is wrong */
    MQB_ERR_UNSUPPORTED = 2, /* well formed, but this component cannot do it */
    MQB_ERR_NOT_FOUND = 3,   /* a name, file or component that does not exist */
    MQB_ERR_FORMAT = 4,      /* a file or a saved state is damaged or of another version */
    MQB_ERR_IO = 5,          /* reading or writing failed: disk full, read-only, ... */
    MQB_ERR_MEMORY = 6,      /* allocation failed, or a size does not fit */
    MQB_ERR_NUMERIC = 7,     /* NaN, infinity, or a parameter out of its mathematical range */
    MQB_ERR_ABI = 8,         /* a plugin of another ABI, or one that breaks a rule of it */
    MQB_ERR_INTERNAL = 9     /* a bug of ours or of a plugin */
} mqb_status;

/* The caller's buffer for one sentence: what happened, where, what was expected, what to do.
 * Owned by the caller; NULL is allowed wherever a `struct mqb_error *` is taken. */
struct mqb_error {
    uint32_t struct_size;
    uint32_t reserved;
    char text[1016];
};

enum mqb_role { MQB_ROLE_WEIGHT = 0, MQB_ROLE_ACTIVATION = 1, MQB_ROLE_BIAS = 2 };

/* How one tensor is to be quantized. Filled by the engine from the backend's rules and the bits asked for. */
struct mqb_scheme {
    uint32_t struct_size;
    int32_t role;          /* enum mqb_role */
    int32_t bits;          /* 2..8 */
    int32_t qmin, qmax;    /* range of the integer codes, both inclusive */
    uint8_t symmetric;     /* 1: zero point fixed at 0 */
    uint8_t per_channel;   /* 1: one scale (and zero point) an output channel; weights only */
    uint8_t pot_scale;     /* 1: scale is a power of two, rounded as 2^rne(log2 s) */
    uint8_t adaptive_sign; /* 1: a tensor that is never negative may switch to [0, 2^bits - 1] for good */
    int32_t num_channels;  /* number of scales: output channels if per_channel, else 1 */
    /* enum mqb_rounding: where the target sends an activation halfway between two codes, if scales are powers of two (with
     * others that is an accident). MQB_ROUND_RHA, MQB_ROUND_RHU: the host hands quantizers, which round to even, such a value
     * one unit in the last place further on; they need not know. Anything else: as it is. */
    int32_t rounding;
    const char *tensor;    /* its name, for messages; lives as long as the instance made from it; may be NULL */
};

/* The affine code x = scale[c] * (q - zero_point[c]), q in [qmin, qmax]; or, if num_levels > 0, a table:
 * x = scale[c] * levels[q - qmin]. The arrays belong to whoever filled the struct and live as long as it says. */
struct mqb_qparams {
    uint32_t struct_size;
    int32_t num_channels; /* length of scale and zero_point */
    const float *scale;
    const int32_t *zero_point;
    int32_t qmin, qmax;
    int32_t num_levels; /* 0: affine */
    uint32_t reserved;
    const float *levels; /* num_levels floats, or NULL */
};

/* A whole tensor, for the serial calls. Weights: [O][I][R][S] (or [O][I]), channel = dims[0].
 * Activations: NHWC (or [N][F]), dims[0] = images in the batch. Contiguous, row-major, read-only. */
struct mqb_tensor_view {
    uint32_t struct_size;
    int32_t rank;
    int64_t dims[6];
    int64_t num_elements; /* product of dims, also when data is NULL */
    const float *data;    /* NULL where only the shape is told */
};

/* A piece of a tensor for the concurrent calls: `size` consecutive floats, all of one scale.
 * Pieces given to concurrent calls never overlap; `y` may equal `x`, `dx` may equal `dy`. */
struct mqb_slice {
    uint32_t struct_size;
    int32_t channel; /* index into scale[]; 0 unless per channel */
    int64_t size;
    uint64_t offset; /* index of the first element in the whole tensor: the counter for random numbers */
    const float *x;
    float *y;         /* forward: the result */
    const float *dy;  /* backward: gradient at y; else NULL */
    float *dx;        /* backward: gradient at x, written, not added; else NULL */
    double *sums;     /* backward: sums_per_channel accumulators of this call, to be added to; else NULL */
    uint8_t *mask;    /* reserved for saved masks; NULL in this version */
};

/* A learnable parameter of a quantizer. The arrays belong to the quantizer and live as long as it. */
struct mqb_param {
    uint32_t struct_size;
    int32_t num_elements;
    const char *name; /* "scale", "zero_point", "alpha", ... */
    float *value;
    float *grad;
    float lr_multiplier;           /* 1 = the network's learning rate */
    float weight_decay_multiplier; /* 0 = none (the default rule), 1 = the network's */
};

/* Options: typed and range-checked by the host against this list before a component sees them. */
enum mqb_option_type { MQB_OPTION_INT = 0, MQB_OPTION_REAL = 1, MQB_OPTION_BOOL = 2, MQB_OPTION_CHOICE = 3, MQB_OPTION_TEXT = 4 };

struct mqb_option_spec {
    const char *name;
    int32_t type;              /* enum mqb_option_type */
    uint32_t reserved;
    const char *default_value; /* as it would stand in a manifest */
    double min, max;           /* inclusive, for INT and REAL */
    const char *choices;       /* for CHOICE: "a|b|c" */
    const char *doc;           /* one line */
};

struct mqb_options; /* opaque; read through the host table */
struct mqb_graph;   /* opaque; read and edited through struct mqb_graph_api */
struct mqb_host;    /* host.h */

#ifdef __cplusplus
}
#endif
#endif
