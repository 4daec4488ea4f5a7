/* prove.h - the integer program against another engine that runs what the backend exported. */
#ifndef MQB_PROVE_H
#define MQB_PROVE_H

#include "report/report.h"

struct mqb_proof_tensor {
    char *tensor, *layer, *op;
    int64_t elements, differ;
    int64_t max_steps;
    int64_t
        own; /* differ also where the operator reads the engine's codes: its own doing. -1: the engine shows not all tensors */
};

struct mqb_proof_result {
    char *name, *claim;
    char *engine; /* its name, or why it is missing */
    bool missing;
    char *failure;                    /* "" or the sentence with which the export or the engine failed */
    struct mqb_proof_tensor *tensors; /* those that the engine could see */
    int num_tensors;
    int64_t images, labels_differ;
    int64_t logits, logits_differ; /* not the same bits */
    int64_t elements, differ;      /* of all tensors */
};
/* Everything is there, and no code and no label differs. */
bool mqb_proof_holds(const struct mqb_proof_result *result);

/* One artefact on one engine, on n images x (NHWC). The engine works in `dir`. */
struct mqb_proof_run {
    const struct mqb_deploy *deploy;
    const struct mqb_program *program;
    struct mqb_pool *pool;
    const char *script, *artefact, *argument, *dir;
    const float *x;
    int n;
};
/* Fills the tensors and counts of the result; what the engine fails at is a failure here. */
mqb_status mqb_proof_compare(const struct mqb_proof_run *run, struct mqb_proof_result *result, struct mqb_error *error);
void mqb_proof_result_deinit(struct mqb_proof_result *result);

/* Given to a job: what to prove, and what came of it. The artefacts are those of the job's `out`. */
struct mqb_prove_request {
    const char *settings; /* proofs with these settings, word for word */
    const char *name;     /* one proof; NULL: all with the settings */
    int images;           /* the first of the test split */
    struct mqb_proof_result *results;
    int num_results;
};
void mqb_prove_request_deinit(struct mqb_prove_request *request);

struct mqb_prove_config {
    const char *home, *dir, *model_name; /* dir: where the artefacts are, and where the engine works */
    const struct mqb_backend *backend;
    const struct mqb_deploy *deploy;
    const struct mqb_program *program;
    const struct mqb_dataset *dataset;
    const struct mqb_normalize *normalize;
    struct mqb_pool *pool;
};
mqb_status mqb_prove(const struct mqb_prove_config *config, struct mqb_prove_request *request, struct mqb_error *error);

/* ---- prove_cases.c: which proofs there are, and a job for each setting ---- */

/* A backend and the settings that some of its proofs share. */
struct mqb_prove_case {
    char *backend, *settings;
    struct mqb_prove_request request; /* after a run */
    struct mqb_result *result;        /* after a run: the job's; may be NULL */
};
/* The cases of one backend, or of all (NULL), in manifest order. A backend that was named and has no proof is refused. */
mqb_status mqb_prove_cases(const char *manifest, const char *backend, struct mqb_prove_case **cases, int *num_cases,
                           struct mqb_error *error);
/* Quantizes by calibration alone and runs the proofs (`name`: one of them, or NULL: all). `words`: model, data set, bits, ...
 * as for a job; its own settings come after those of the case. dir: an existing folder for artefacts. */
mqb_status mqb_prove_case_run(struct mqb_prove_case *one, const struct mqb_job_config *words, const char *name, int images,
                              const char *dir, struct mqb_error *error);
void mqb_prove_cases_destroy(struct mqb_prove_case *cases, int num_cases);

/* prove_json.c: every proof of the cases that were run. *text: the caller's, to be deallocated. */
#define MQB_PROVE_SCHEMA "mqbench.prove/1"
mqb_status mqb_prove_json(const struct mqb_prove_case *cases, int num_cases, char **text, struct mqb_error *error);

#endif
