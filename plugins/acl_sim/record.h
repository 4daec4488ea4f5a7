/*
 * record.h - the quantization record that Ascend's compression toolkit reads, in protobuf text, and the ONNX file it belongs
 * to.
 */
#ifndef ACL_RECORD_H
#define ACL_RECORD_H

#include <mqbench/backend.h>

/* MODEL.acl.onnx and MODEL.acl.record.txt. Refuses to leave a layer without its scales. Where the record cannot say what the
 * network does (activations of fewer than 8 bits, an offset of weights) it is not written, and a note says why. */
mqb_status acl_record_export(const struct mqb_host *host, const struct mqb_export *request, struct mqb_error *error);

#endif
