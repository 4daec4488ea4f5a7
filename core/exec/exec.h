/*
 * exec.h - runs a graph: forward, backward, on any number of threads with the same bits.
 *
 * A plan is made once for a graph, a batch size and a mode. It cuts the batch into grains whose number depends on the network
 * and the batch size alone, the nodes into stages between barriers, pointwise operators into chains that are one pass over
 * memory, and shares buffers by liveness. A step allocates nothing.
 *
 * Walk of one training batch: fixed nodes (folded and quantized weights) once -> for each stage, all grains in parallel:
 * chain, convolution, partial sums -> barrier, finish, fixed nodes that waited for these sums -> ... -> logits -> loss -> the
 * stages backwards -> partial gradients added over grains in one tree -> fixed nodes backwards -> gradients of parameters.
 */
#ifndef MQB_EXEC_H
#define MQB_EXEC_H

#include "graph/op.h"
#include <mqbench/compute.h>

struct mqb_exec;

struct mqb_exec_config {
    struct mqb_graph *graph;          /* not owned; parameters' data are read (and STATE written in training) at run time */
    const struct mqb_host *host;      /* handed on to the compute provider */
    const struct mqb_compute *compute;
    struct mqb_pool *pool;
    int batch;                        /* largest batch */
    bool training;                    /* batch statistics, running statistics updated */
    bool gradients;                   /* backward may be called */
    bool frozen;                      /* parameters and points stay as they are: weights are packed in the first forward alone */
    const mqb_value_id *keep;         /* values whose numbers are wanted after forward; NULL-able */
    int num_keep;
    bool times;                       /* keep the time of every operator: mqb_exec_time */
};

mqb_status mqb_exec_create(const struct mqb_exec_config *config, struct mqb_exec **exec, struct mqb_error *error);
void mqb_exec_destroy(struct mqb_exec *exec);
size_t mqb_exec_memory(const struct mqb_exec *exec); /* bytes held */

/* x: [n][h][w][c], n <= batch (n == batch in training). */
mqb_status mqb_exec_forward(struct mqb_exec *exec, const float *x, int n, struct mqb_error *error);
/* Computes fixed nodes alone, so that mqb_exec_value of an unbatched value is up to date; in training without those that depend
 * on a statistic of the batch. */
mqb_status mqb_exec_fixed(struct mqb_exec *exec, struct mqb_error *error);
/* The graph's output, a kept value (whole batch), or an unbatched value; NULL for others. */
const float *mqb_exec_value(const struct mqb_exec *exec, mqb_value_id value);

/* The first of the largest logits. */
int64_t mqb_predicted_class(const float *logits, int64_t classes);
/* Cross entropy with label smoothing over the n images of the last forward; fills the gradient at the output (mean over
 * the batch) if the plan has gradients. loss: mean. correct: number of argmax hits (first of equals), NULL-able. */
mqb_status mqb_exec_loss(struct mqb_exec *exec, const int32_t *labels, double smoothing, double *loss, int *correct,
                         struct mqb_error *error);
/* Gradient at the output set by hand instead (tests). [n][classes] */
void mqb_exec_set_output_gradient(struct mqb_exec *exec, const float *gradient);
mqb_status mqb_exec_backward(struct mqb_exec *exec, struct mqb_error *error);
/* Gradient of a PARAM or an unbatched value after backward; NULL if it has none. */
float *mqb_exec_gradient(struct mqb_exec *exec, mqb_value_id value);

/* ---- times.c: of a plan made with `times`; for reports, never for results ---- */

enum mqb_exec_pass { MQB_EXEC_FORWARD = 0, MQB_EXEC_BACKWARD = 1, MQB_EXEC_FIXED = 2 /* what runs once a step, both ways */ };
struct mqb_exec_time {
    enum mqb_exec_pass pass;
    int num_nodes;             /* of a chain several; 0: the sums of gradients over grains */
    const mqb_node_id *nodes;  /* the plan's */
    double seconds;            /* since the last clearing, added over threads */
    double floats;             /* forward, backward: numbers of a batch that it reads and writes, at least */
    bool input_gradient;       /* backward: the gradient at its input is wanted */
};
int mqb_exec_num_times(const struct mqb_exec *exec);
void mqb_exec_time(const struct mqb_exec *exec, int row, struct mqb_exec_time *time);
void mqb_exec_clear_times(struct mqb_exec *exec);

#endif
