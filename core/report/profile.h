/*
 * profile.h - where the time of a step goes, by operator and pass, beside what the machine could do.
 *
 * The steps are those of a run: the same graph, plan, provider and threads. An operator's time is its share of the step's wall
 * time: seconds of all threads over the number of threads. What no operator accounts for is waiting: at barriers, for the
 * system.
 */
#ifndef MQB_PROFILE_H
#define MQB_PROFILE_H

#include "report/limits.h"
#include "report/report.h"

#define MQB_PROFILE_SCHEMA "mqbench.profile/1"

struct mqb_profile_config {
    struct mqb_job_config job; /* dataset NULL: random images. backend and algorithms are not looked at if `fp32` */
    bool fp32;                 /* the network as it is */
    bool infer;                /* inference: in integers, or of the FP32 network */
    int steps;                 /* measured; at least 1 */
};

enum mqb_profile_pass {
    MQB_PROFILE_FORWARD,
    MQB_PROFILE_BACKWARD,
    MQB_PROFILE_FIXED,
    MQB_PROFILE_OPTIMIZER,
    MQB_PROFILE_NUM_PASSES
};
extern const char *const mqb_profile_passes[MQB_PROFILE_NUM_PASSES];

struct mqb_profile_operator {
    char *name; /* of the node; of a chain its first */
    char *op;   /* "Conv"; of a chain its operators with + between */
    enum mqb_profile_pass pass;
    double seconds;    /* of a step's wall time */
    double operations; /* of a step: additions and multiplications of convolutions, else 0 */
    double bytes;      /* of a step: what it reads and writes, at least; 0: not counted */
};

struct mqb_profile {
    char *model, *what; /* what: "fp32", "qat" or "integer" */
    char *compute, *isa;
    bool infer;
    int batch, steps, threads;
    double min, median, mean;              /* seconds of a step */
    double cpu;                            /* the same, of all threads' processor time: the median */
    char logits[65];                       /* SHA-256 of the last step's: says which steps are the same to the bit */
    double passes[MQB_PROFILE_NUM_PASSES]; /* seconds of a step, sums of the operators */
    double waiting;                        /* mean less the operators */
    size_t peak_rss, plan_memory;          /* bytes; of the program, and held by the plan */
    struct mqb_limits limits;
    struct mqb_profile_operator *operators; /* by time */
    int num_operators;
};

mqb_status mqb_profile_run(const struct mqb_profile_config *config, struct mqb_profile **profile, struct mqb_error *error);
void mqb_profile_destroy(struct mqb_profile *profile);
/* The least time that the machine's limits allow for it, in seconds; 0: unknown. */
double mqb_profile_bound(const struct mqb_profile *profile, const struct mqb_profile_operator *op);

/* profile_text.c; both freed by mqb_deallocate. */
mqb_status mqb_profile_json(const struct mqb_profile *profile, char **text, struct mqb_error *error);
mqb_status mqb_profile_screen(const struct mqb_profile *profile, char **text, struct mqb_error *error);

#endif
