/*
 * job.h - the main job in the hands of its stages, for the files job*.c alone. Each stage reads what the earlier ones left here
 * and adds to the result.
 */
#ifndef MQB_JOB_H
#define MQB_JOB_H

#include "report/report.h"

struct mqb_quantizer_use {
    const struct mqb_entry *entry;
    const struct mqb_quantizer *vtable;
    struct mqb_options *options;
};

struct mqb_job {
    const struct mqb_job_config *config;
    struct mqb_result *result;
    struct mqb_session session;
    const struct mqb_entry *backend_entry;
    const struct mqb_backend *backend;
    struct mqb_options *backend_options;
    struct mqb_backend_rules rules;
    struct mqb_quantizer_use weight, activation;
    struct mqb_dataset *dataset;
    struct mqb_normalize normalize;
    struct mqb_graph *fp32, *quantized;
    struct mqb_points *points;
    struct mqb_deploy *deploy;
    struct mqb_program *program;
    int64_t classes;
    float *fake_logits; /* of the test split */
};

/* ---- job_open.c: from words to a graph with quantization points; whatever can be refused is refused here ---- */

/* data: a data set is needed even if none is named. */
mqb_status mqb_job_open(struct mqb_job *job, bool data, struct mqb_error *error);
void mqb_job_close(struct mqb_job *job);
mqb_status mqb_job_copy_text(char **field, const char *text, struct mqb_error *error);
/* The first test images, for a closer look. The batch lives as long as the loader, which is the caller's. */
mqb_status mqb_job_first_images(struct mqb_job *job, struct mqb_loader **loader, struct mqb_batch *batch, struct mqb_error *error);

/* ---- job_integer.c: the trained graph in the backend's integers ---- */

/* Lowers, or says why the backend cannot run this network: a verdict, not a failure of the run. */
mqb_status mqb_job_lower(struct mqb_job *job, struct mqb_error *error);
/* Lowers, measures, compares, writes and proves what was asked for. */
mqb_status mqb_job_integers(struct mqb_job *job, struct mqb_error *error);

#endif
