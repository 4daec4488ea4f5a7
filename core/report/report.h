/*
 * report.h - one run from the command line's words to the result record.
 *
 *   job: model + data set -> FP32 accuracy -> passes, points -> calibrate -> train -> fake accuracy
 *        -> deploy, lower -> integer accuracy -> layer-by-layer comparison -> record, artefacts
 *
 * What was computed is never lost: when a later stage fails, the result holds everything up to there and says where it ended.
 */
#ifndef MQB_REPORT_H
#define MQB_REPORT_H

#include "train/train.h"

#define MQB_RESULT_SCHEMA "mqbench.result/1"
/* The pretrained network that is used when none is named, in <home>/models/. */
#define MQB_DEFAULT_MODEL "resnet20_synth.onnx"

/* Words of the command line, as given; NULL or 0 where not given. Strings are the caller's and outlive the job. */
struct mqb_job_config {
    const char *backend, *algo, *weight_algo, *act_algo;
    const char *model;      /* path of an ONNX file; NULL: the embedded default */
    const char *dataset;    /* NULL: "synth" */
    const char *normalize;  /* NULL: the model's metadata, else imagenet */
    int weight_bits, activation_bits; /* default 8 */
    int io_bits;            /* first and last layer; default 8 */
    bool bn_fold_given;
    int bn_fold;            /* -1..4 */
    const char *recipe;     /* INI file; NULL: <home>/recipes/default.ini */
    /* Recipe keys given as flags of their own (--epochs, --lr, --batch) come in `set` as "recipe.epochs", ... */
    const char *const *set_keys; /* "recipe.KEY", "ALGO.KEY", "BACKEND.KEY" */
    const char *const *set_values;
    size_t num_set;
    uint64_t seed;          /* default 1000 */
    int threads;            /* 0: one a processor */
    const char *compute;    /* NULL: the provider with the best score */
    const char *manifest;   /* extra manifest */
    size_t train_limit, test_limit;
    const char *out;        /* folder for artefacts, or NULL */
    bool resume;
    bool bracket;           /* integers under every profile of a bracketed backend */
    bool waterfall;         /* find out by substitution what integers and fake quantization differ by */
    bool force;             /* fake quantization alone for an algorithm that the backend's hardware cannot run */
    const char *const *command_line; /* argv, for the record; NULL-terminated, or NULL */
    const struct mqb_progress_sink *progress;
    struct mqb_prove_request *prove; /* NULL, or proofs to run on the artefacts in `out` (prove.h) */
};

struct mqb_layer_report {
    char *name;          /* of the layer */
    char *tensor;
    char *op;
    int64_t elements;    /* compared */
    int64_t differ;      /* fake and integer codes differ */
    int64_t max_steps;   /* largest difference, in quantization steps */
    int64_t isolated_differ, isolated_max_steps; /* the same with every layer fed with the codes of fake quantization */
    double scale;
    int32_t zero_point;
    int32_t bits;
    bool first;          /* the first layer, in execution order, that differs */
};

/* What one convolution or linear layer costs an image. */
struct mqb_layer_cost {
    char *name, *op;
    int64_t macs;        /* multiply-accumulates */
    int64_t weights;     /* how many numbers its weight has */
    int32_t weight_bits, activation_bits; /* 32: not quantized */
};

/* What differs from fake quantization with one factor of the contract exchanged for what that computes. */
struct mqb_waterfall_row {
    const char *factor;             /* "none": as deployed; "all": every factor */
    int64_t elements, images;       /* codes of all stored tensors, of so many images */
    int64_t differ, isolated;       /* codes that differ: along the network; every layer fed with the codes of fake quantization */
    int64_t labels_differ;          /* of integer.n images */
    struct mqb_accuracy integer;
};

/* The integer result under one model of a closed library. */
struct mqb_bracket_profile {
    char *name;
    struct mqb_accuracy integer;
    int64_t labels_agree; /* with fake quantization */
};

struct mqb_plugin_use {
    char *id, *kind, *version;
    char sha256[65];
};

struct mqb_result {
    char *model_name, *model_sha256;
    char *dataset_name, *dataset_sha256;
    size_t n_train, n_test;
    size_t train_limit, test_limit; /* 0: none */
    char *normalize;
    bool normalize_assumed; /* neither the command line nor the model said it */
    char *backend, *algo, *profile;
    char *algo_weights, *algo_activations;
    int weight_bits, activation_bits, io_bits, bn_fold;
    uint64_t seed;
    int threads;
    char *compute, *isa;
    struct mqb_recipe recipe;
    bool has_fp32, has_calibrated, has_fake, has_integer;
    struct mqb_accuracy fp32, calibrated, fake, integer; /* calibrated: fake quantization before training, if there was training */
    struct mqb_train_result training;
    bool deployable;
    bool forced;            /* an algorithm that hardware cannot run, on a backend that deploys: fake quantization alone */
    char *deploy_reason;    /* why not, or "" */
    bool bracketed;         /* the contract is a model of a closed library */
    struct mqb_bracket_profile *bracket; /* under each of its models, the run's own first; none: not asked for */
    int num_bracket;
    struct mqb_waterfall_row *waterfall; /* none: not asked for */
    int num_waterfall;
    bool has_fold;          /* the folded graph was compared with the trained one, quantization off */
    double fold_difference; /* of the logits, relative to the largest */
    int64_t labels_agree, labels_compared;
    int64_t max_steps;      /* over the layers */
    struct mqb_layer_report *layers;
    int num_layers;
    int64_t compare_images;
    char *first_difference; /* a sentence: where and why; "" if none */
    int num_weight_points, num_activation_points;
    int64_t weight_bytes_fp32, weight_bytes_packed;
    struct mqb_layer_cost *costs; /* of the convolutions and linear layers, in execution order */
    int num_costs;
    double seconds_fp32, seconds_calibrate, seconds_train, seconds_fake, seconds_integer, seconds_total;
    size_t peak_rss;
    struct mqb_plugin_use *plugins;
    int num_plugins;
    char **files;           /* written */
    int num_files;
    char *ended;            /* "" or the sentence with which the run ended early */
    char **command;         /* the words of the command line, copied from config->command_line */
    int num_command;
    char **settings;        /* "KEY=VALUE" of each pair of config->set_keys and set_values, in order */
    int num_settings;
};

/* ---- job.c ---- */

/* Runs the whole job. *result is made as soon as the words make sense, and returned with any status: on failure it holds what
 * was computed and `ended`. NULL only if nothing was. */
mqb_status mqb_job_run(const struct mqb_job_config *config, struct mqb_result **result, struct mqb_error *error);

/* The inside of a job, for `mqbench profile`. Everything is the job's. */
struct mqb_job;
struct mqb_job_view {
    struct mqb_job *job;
    const struct mqb_session *session;
    const char *model;                  /* name of its file */
    const struct mqb_recipe *recipe;
    const struct mqb_dataset *dataset;  /* NULL: none was named, and none was opened */
    const struct mqb_normalize *normalize;
    struct mqb_graph *graph;            /* with points, nothing calibrated */
    struct mqb_points *points;
    const struct mqb_program *program;  /* after mqb_job_view_lower */
};
typedef mqb_status (*mqb_job_visitor)(void *context, struct mqb_job_view *view, struct mqb_error *error);
/* Opens what the words name, places the points, lets `visit` work with it and closes everything. */
mqb_status mqb_job_visit(const struct mqb_job_config *config, mqb_job_visitor visit, void *context, struct mqb_error *error);
/* Integers of the calibrated (or trained) graph; refused with the reason if the backend cannot run it. */
mqb_status mqb_job_view_lower(struct mqb_job_view *view, struct mqb_error *error);

void mqb_result_destroy(struct mqb_result *result);

/* ---- result.c ---- */

/* Copies the words (NULL-terminated) for the record; the first call counts. */
mqb_status mqb_result_set_command(struct mqb_result *result, const char *const *words, struct mqb_error *error);
mqb_status mqb_result_set_settings(struct mqb_result *result, const char *const *keys, const char *const *values, size_t num,
                                   struct mqb_error *error);
/* The record as JSON text (NUL-terminated, freed by mqb_deallocate); keys in a fixed order. */
mqb_status mqb_result_json(const struct mqb_result *result, char **text, struct mqb_error *error);
/* screen.c: one screen of plain text for a terminal (freed by mqb_deallocate). `color`: ANSI colours. */
mqb_status mqb_result_screen(const struct mqb_result *result, bool color, char **text, struct mqb_error *error);
/* Wilson interval of a proportion at 95 %, in percent; 0..100 if n is 0. */
void mqb_wilson(int64_t hits, int64_t n, double *low, double *high);

/* ---- session.c: what every subcommand needs ---- */

struct mqb_session {
    struct mqb_registry *registry;
    struct mqb_pool *pool;
    const struct mqb_entry *compute_entry;
    const struct mqb_compute *compute;
    char *home;
};
/* Manifests, threads, compute provider (the named one, else the best score). */
mqb_status mqb_session_open(const char *manifest, const char *compute, int threads, struct mqb_session *session,
                            struct mqb_error *error);
void mqb_session_close(struct mqb_session *session);
/* Imports an ONNX file (NULL: the embedded default), checks it is finite. sha256 of the file. */
mqb_status mqb_session_model(const struct mqb_session *session, const char *path, struct mqb_graph **graph, char sha256[65],
                             struct mqb_error *error);
/* Normalisation: the word given, else the model's, else imagenet (*assumed). */
mqb_status mqb_session_normalize(const char *word, const struct mqb_graph *graph, struct mqb_normalize *normalize, bool *assumed,
                                 struct mqb_error *error);
/* Data set and network fit: channels, classes, a square input. */
mqb_status mqb_session_check_fit(const struct mqb_graph *graph, const struct mqb_dataset *dataset, struct mqb_error *error);
/* Checks that they fit and makes a loader of a split in file order. */
mqb_status mqb_session_loader(const struct mqb_graph *graph, const struct mqb_dataset *dataset, enum mqb_split split, int batch,
                              const struct mqb_normalize *normalize, struct mqb_loader **loader, struct mqb_error *error);
/* Recipe: defaults, the file (or <home>/recipes/default.ini), then keys "recipe.KEY" of the command line. */
mqb_status mqb_session_recipe(const struct mqb_session *session, const char *path, const char *model, int bits,
                              const char *const *set_keys, const char *const *set_values, size_t num_set,
                              struct mqb_recipe *recipe, struct mqb_error *error);

/* ---- probe.c: what cannot be written is found out before anything is computed ---- */

/* The file can be written ("-": standard output always can). Leaves nothing behind. */
mqb_status mqb_probe_file(const char *path, struct mqb_error *error);
/* The folder exists or was made, and takes files. */
mqb_status mqb_probe_dir(const char *path, struct mqb_error *error);

/* ---- fp32.c: `mqbench train` and `mqbench eval` ---- */

struct mqb_fp32_config {
    const char *model;      /* train: a name of mqb_model_names() or an ONNX file to start from; eval: an ONNX file */
    const char *dataset, *normalize, *recipe, *compute, *manifest;
    const char *const *set_keys, *const *set_values;
    size_t num_set;
    uint64_t seed;
    int threads;
    size_t train_limit, test_limit;
    const char *out;        /* train: the ONNX file to write */
    const char *checkpoint; /* train: NULL: <out>.checkpoint, removed at the end */
    bool resume;
    const struct mqb_progress_sink *progress;
};
struct mqb_fp32_result {
    char model_sha256[65];
    char normalize[96];
    bool normalize_assumed;
    struct mqb_accuracy accuracy; /* on the test split */
    struct mqb_train_result training;
    double seconds;
    int64_t num_parameters;
};
mqb_status mqb_fp32_train(const struct mqb_fp32_config *config, struct mqb_fp32_result *result, struct mqb_error *error);
mqb_status mqb_fp32_eval(const struct mqb_fp32_config *config, struct mqb_fp32_result *result, struct mqb_error *error);
#define MQB_FP32_SCHEMA "mqbench.fp32/1"
/* result.c: the record of one of the two as JSON text (freed by mqb_deallocate). */
mqb_status mqb_fp32_json(const char *command, const struct mqb_fp32_config *config, const struct mqb_fp32_result *result,
                         char **text, struct mqb_error *error);

#endif
