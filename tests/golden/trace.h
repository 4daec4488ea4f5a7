/* trace.h - whole training steps of family 6: what trace.c and trace_net.c share. */
#ifndef GOLDEN_TRACE_H
#define GOLDEN_TRACE_H

#include "golden.h"

#include "train/train.h"

#define TRACE_MAX_POINTS 8

/* An element of a point's input next to a rounding tie, and a value just beyond the tie. */
struct trace_tie {
    int point;
    int64_t index;
    float value;
};

/* Stands in front of a point's quantizer. */
struct trace_front {
    const struct mqb_quantizer *real;
    void *self;
    const struct trace_tie *moved; /* or NULL */
};

struct trace {
    struct golden_case *c;
    struct mqb_graph *g;
    bool quantized;
    int64_t batch, side, channels, classes;
    const struct mqb_quantizer *lsq;
    struct mqb_quantizer vtable; /* of the fronts */
    struct trace_front front[TRACE_MAX_POINTS];
    struct trace_tie tie; /* the one that decided the step at hand */
    struct mqb_options *options;
    struct mqb_points points;
    struct mqb_point point[TRACE_MAX_POINTS];
    struct mqb_point *list[TRACE_MAX_POINTS];
    struct mqb_exec *exec;
    struct mqb_optimizer *optimizer;
};

/* A float32 .npy that the index points to. */
void trace_load(struct golden_case *c, const json_t *tensor, float *data, int64_t size);
struct golden_tensor trace_tensor(struct golden_case *c, const json_t *tensor, int64_t size);

void trace_build(struct trace *t);
void trace_load_state(struct trace *t, const json_t *state, bool initial);
const char *trace_name(bool quantized, const char *name, char *buffer, size_t size);
bool trace_is_network(const struct mqb_value *value);

/* trace_tie.c */
int trace_find_ties(const struct trace *t, struct trace_tie *ties, int capacity);
void trace_front_vtable(const struct mqb_quantizer *real, struct mqb_quantizer *vtable);

#endif
