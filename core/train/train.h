/*
 * train.h - the one recipe: calibrate, train, evaluate, save, resume.
 *
 * Source: MQBench (NeurIPS 2021), section 3.2 "aligned training pipeline": SGD with Nesterov momentum, linear warm-up and cosine
 * annealing, label smoothing, the same pretrained start for every algorithm.
 */
#ifndef MQB_TRAIN_H
#define MQB_TRAIN_H

#include "data/data.h"
#include "exec/exec.h"
#include "quant/quant.h"

/* ---- recipe.c ---- */

/* Every number of a run that is not the backend's or the algorithm's. Read from an INI file:
 *     [recipe]            ; defaults of the file
 *     [model resnet20*]   ; for models whose file name matches; later sections win
 *     [bits 4]            ; for runs whose narrower bit width is this one; wins over [model]
 * and overridden on the command line. */
struct mqb_recipe {
    int32_t epochs;
    int32_t batch;
    double lr;             /* peak */
    double warmup_lr;      /* at the first step */
    double warmup_epochs;
    double min_lr;
    double momentum;
    bool nesterov;
    double weight_decay;
    bool decay_norm;       /* weight decay on batch norm's gamma and beta, and on biases */
    double quantizer_lr;   /* multiplier of the learning rate for quantizer parameters */
    double label_smoothing;
    int32_t calibration_batches;
    int32_t calibration_batch; /* images a calibration batch */
    int32_t bn_batches;        /* batches over which batch norm statistics are estimated anew before evaluation; 0: kept */
    bool flip;
    int32_t crop_padding;
    bool resized_crop;
};

/* One line a key: name, type and range, for `mqbench --help recipe`, INI files and --set recipe.KEY=VALUE alike. */
const struct mqb_option_spec *mqb_recipe_specs(size_t *num_specs);
void mqb_recipe_defaults(struct mqb_recipe *recipe);
/* Reads the sections that apply to `model` (a file name or model name) and `bits` (the narrower of weights and activations;
 * 32 for FP32 training). Errors: file, line, key, what is allowed. */
mqb_status mqb_recipe_read(struct mqb_recipe *recipe, const char *path, const char *model, int bits, struct mqb_error *error);
mqb_status mqb_recipe_set(struct mqb_recipe *recipe, const char *key, const char *value, const char *where, struct mqb_error *error);

/* Learning rate of step t (0-based) of T, with `warmup` steps of linear warm-up: cosine from lr to min_lr. */
double mqb_schedule_lr(const struct mqb_recipe *recipe, int64_t t, int64_t warmup, int64_t total);

/* ---- progress ---- */

struct mqb_progress {
    const char *phase;    /* "calibrate", "train", "evaluate fp32", ... */
    int64_t done, total;  /* steps or images */
    double loss, accuracy; /* NaN if not known */
    double seconds;       /* since the phase began */
};
/* Called from the calling thread, a few times a second at most; NULL allowed. */
struct mqb_progress_sink {
    void (*report)(void *context, const struct mqb_progress *progress);
    void *context;
};

/* ---- evaluate.c ---- */

struct mqb_accuracy {
    int64_t n, top1, top5; /* counts */
};
/* Adds one batch of logits [n][classes]; ties go to the lower class. A NaN logit counts as wrong. */
void mqb_accuracy_add(struct mqb_accuracy *accuracy, const float *logits, const int32_t *labels, int n, int64_t classes);
/* Runs a split through the graph in eval mode. logits: NULL, or [num][classes] to receive them in data-set order. */
mqb_status mqb_evaluate(struct mqb_graph *graph, const struct mqb_compute *compute, struct mqb_pool *pool,
                        struct mqb_loader *loader, int batch, struct mqb_accuracy *accuracy, float *logits,
                        const struct mqb_progress_sink *progress, const char *phase, struct mqb_error *error);

/* ---- calibrate.c ---- */

/* Weights once, activations over the given number of batches, FP32 forward in eval mode; then init() of every point.
 * Leaves the points on. */
mqb_status mqb_calibrate(struct mqb_graph *graph, struct mqb_points *points, const struct mqb_compute *compute,
                         struct mqb_pool *pool, struct mqb_loader *loader, int batch, int num_batches,
                         const struct mqb_progress_sink *progress, struct mqb_error *error);
/* The same on n images at hand. x: [n][h][w][c]. */
mqb_status mqb_calibrate_images(struct mqb_graph *graph, struct mqb_points *points, const struct mqb_compute *compute,
                                struct mqb_pool *pool, const float *x, int n, struct mqb_error *error);

/* ---- reestimate.c ---- */

/* Replaces the running statistics of every batch norm by their means over full batches of training images, points as they stand.
 * seen: batches used; 0 if the graph keeps no statistics (folding 0 and 1 left none to move). */
mqb_status mqb_reestimate(struct mqb_graph *graph, const struct mqb_compute *compute, struct mqb_pool *pool, struct mqb_loader *loader,
                          int batch, int num_batches, int *seen, const struct mqb_progress_sink *progress, struct mqb_error *error);

/* ---- optimizer.c ---- */

struct mqb_optimizer;
/* Over every PARAM of the graph that has a gradient in `exec`, and every learnable parameter of the points (NULL: none). */
mqb_status mqb_optimizer_create(struct mqb_graph *graph, struct mqb_exec *exec, struct mqb_points *points, struct mqb_pool *pool,
                                const struct mqb_recipe *recipe, struct mqb_optimizer **optimizer, struct mqb_error *error);
void mqb_optimizer_destroy(struct mqb_optimizer *optimizer);
/* g += wd * w; v = momentum * v + g; w -= lr * (g + momentum * v) (Nesterov) or lr * v. */
void mqb_optimizer_step(struct mqb_optimizer *optimizer, double lr);
int mqb_optimizer_num_params(const struct mqb_optimizer *optimizer);
/* Name, value and velocity of parameter i, for checkpoints and tests. */
void mqb_optimizer_param(const struct mqb_optimizer *optimizer, int index, const char **name, float **value, float **velocity,
                         int64_t *size);

/* ---- trainer.c ---- */

struct mqb_train_config {
    struct mqb_graph *graph;
    struct mqb_points *points; /* NULL: FP32 training */
    const struct mqb_compute *compute;
    struct mqb_pool *pool;
    const struct mqb_dataset *dataset;
    struct mqb_normalize normalize;
    const struct mqb_recipe *recipe;
    uint64_t seed;
    const char *checkpoint; /* file written after every epoch (and at the end); NULL: none */
    bool resume;            /* go on from `checkpoint` if it exists */
    int64_t stop_after;     /* tests: leave after this many steps of this call, checkpoint written; 0: never */
    const struct mqb_progress_sink *progress;
};

struct mqb_train_result {
    int64_t steps;
    double first_loss, last_loss; /* means over the first and the last epoch (or part of one) */
    bool diverged;
    int64_t diverged_step;
    char diverged_where[256]; /* the tensor where it began, if one stands out; else "" */
    char diverged_why[256];   /* what was seen: a clause after "training diverged at step N:" */
    double seconds;
    size_t step_memory;       /* bytes the plan holds */
    char checkpoint_error[512]; /* why the checkpoint could not be written, or "": the training went on without it */
};

/* Training ends, with diverged set, at the first loss or layer that is not finite, and when the loss has grown to
 * MQB_BLOWUP times what it was at the start (or would be by guessing, if that is more). Neither is an error of the call. */
#define MQB_BLOWUP 4.0
mqb_status mqb_train(const struct mqb_train_config *config, struct mqb_train_result *result, struct mqb_error *error);

/* ---- diagnose.c ---- */

struct mqb_diagnosis {
    char tensor[128]; /* of the first point, in execution order, that is at fault; "" if none is */
    char what[256];   /* a clause about it: "holds ...", "is 0 in ..."; or a sentence of the layer that refused to run */
};
/* Runs n images through the graph in eval mode, points as they stand. x: [n][h][w][c]. */
mqb_status mqb_diagnose(struct mqb_graph *graph, const struct mqb_points *points, const struct mqb_compute *compute,
                        struct mqb_pool *pool, const float *x, int n, struct mqb_diagnosis *diagnosis, struct mqb_error *error);

/* ---- checkpoint.c ---- */

struct mqb_checkpoint_place {
    uint64_t epoch;
    uint64_t batch; /* batches of that epoch already trained on */
    int64_t steps;
    uint64_t seed;
    double epoch_loss; /* sum over those batches */
    double first_loss;
};
/* Graph (PARAM, STATE), velocities, quantizer states, place; a SHA-256 at the end. Written atomically. */
mqb_status mqb_checkpoint_save(const char *path, const struct mqb_graph *graph, const struct mqb_points *points,
                               const struct mqb_optimizer *optimizer, const struct mqb_checkpoint_place *place,
                               struct mqb_error *error);
/* Refuses another network, another algorithm, a damaged or cut file. */
mqb_status mqb_checkpoint_load(const char *path, struct mqb_graph *graph, struct mqb_points *points,
                               struct mqb_optimizer *optimizer, struct mqb_checkpoint_place *place, struct mqb_error *error);

#endif
