/*
 * encodings.h - the quantization encodings files that SNPE and QNN read, in their versions 0.6.1 and 1.0.0.
 */
#ifndef SNPE_ENCODINGS_H
#define SNPE_ENCODINGS_H

#include <mqbench/backend.h>

/* Writes the clean ONNX graph and both encodings files. Refuses to leave a tensor of the graph without an encoding. */
mqb_status snpe_encodings_export(const struct mqb_host *host, const struct mqb_export *request, struct mqb_error *error);

#endif
