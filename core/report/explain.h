/* explain.h - why each tensor of a network is quantized under a backend, or is not: `mqbench explain`. */
#ifndef MQB_EXPLAIN_H
#define MQB_EXPLAIN_H

#include "report/report.h"

#define MQB_EXPLAIN_SCHEMA "mqbench.explain/1"

/* Words of the command line; NULL or 0 where not given. */
struct mqb_explain_config {
    const char *backend;
    const char *model; /* path of an ONNX file; NULL: the embedded default */
    const char *edge;  /* a tensor to look at under every backend, or NULL */
    const char *manifest;
    int weight_bits, activation_bits, io_bits;
    bool bn_fold_given;
    int bn_fold;
    const char *const *set_keys, *const *set_values; /* "BACKEND.KEY", "PASS.KEY" */
    size_t num_set;
};

struct mqb_explained_point {
    char *tensor;
    char *parameter;  /* weights: the parameter of the model that the tensor is made from; else NULL */
    char *reader;     /* the one layer that reads these codes; NULL: all that read the tensor do */
    char *rule;       /* of the pass that placed it */
    char *kind;       /* what makes the codes: "input", "weight", or an operator */
    char *arithmetic; /* how, under the contract; "" where nothing is deployed */
    bool io;          /* at the first or the last layer */
    struct mqb_scheme scheme;
};

struct mqb_explained_tensor {
    char *tensor, *why; /* it carries no point because */
};

/* A network under one backend. */
struct mqb_explained_network {
    char *backend, *description, *profile;
    char *refusal; /* why the backend cannot run it in integers; "": nothing is known against it, or an edge was asked for */
    int bn_fold;
    char **passes;
    int num_passes;
    struct mqb_explained_point *points; /* in execution order */
    int num_points;
    struct mqb_explained_tensor *tensors; /* of images, in execution order */
    int num_tensors;
};

struct mqb_explanation {
    char *model, sha256[65];
    char *edge;                             /* NULL: not asked for */
    struct mqb_explained_network *networks; /* the backend asked for; with an edge, all others behind it */
    int num_networks;
};

/* Runs the passes, reads the rules; no data, no training. */
mqb_status mqb_explain(const struct mqb_explain_config *config, struct mqb_explanation **explanation, struct mqb_error *error);
void mqb_explanation_destroy(struct mqb_explanation *explanation);

/* explain_words.c: the contract in words. NULL: no memory (all freed by mqb_deallocate). */

/* How codes made by `kind` come about; `fused`: an addition in the epilogue of a convolution. */
char *mqb_explain_arithmetic(const struct mqb_backend_rules *rules, const char *kind, bool fused);
/* Why the value carries no point, in a graph that passes have put points into. */
char *mqb_explain_absence(const struct mqb_backend_rules *rules, const struct mqb_graph *placed, mqb_value_id value);

/* explain_text.c: for people, and as JSON (freed by mqb_deallocate). */
mqb_status mqb_explanation_screen(const struct mqb_explanation *explanation, char **text, struct mqb_error *error);
mqb_status mqb_explanation_json(const struct mqb_explanation *explanation, char **text, struct mqb_error *error);

#endif
