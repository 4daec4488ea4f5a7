/* artefacts.h - the files of --out: quantization parameters, the deployable network, what the backend exports. */
#ifndef MQB_ARTEFACTS_H
#define MQB_ARTEFACTS_H

#include "report/report.h"

/* Writes qparams.json and <model>_quantized.onnx (float graph, weights on their grid), then calls the backend's exporter.
 * Every file written is added to result->files, also when a later one fails. */
mqb_status mqb_artefacts_write(const char *dir, const struct mqb_deploy *deploy, const struct mqb_program *program,
                               const struct mqb_backend *backend,
                               const struct mqb_options *backend_options, struct mqb_result *result, struct mqb_error *error);
/* The model's name as files bear it: without its ending (freed by mqb_deallocate); NULL: no memory. */
char *mqb_artefacts_model(const struct mqb_result *result);
mqb_status mqb_result_add_file(struct mqb_result *result, const char *path, struct mqb_error *error);

#endif
