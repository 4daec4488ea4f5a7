/*
 * ranges.h - the files that TensorRT takes: quantized ONNX with QuantizeLinear and DequantizeLinear (zero points 0), or a float
 * ONNX with a calibration cache and dynamic ranges.
 */
#ifndef TENSORRT_RANGES_H
#define TENSORRT_RANGES_H

#include <mqbench/backend.h>

/* MODEL.trt.qdq.onnx; and, where every activation has 8 bits, MODEL.trt.onnx, MODEL.trt.cache and MODEL.trt.ranges.json.
 * Refuses to leave a tensor that the target stores without a scale. */
mqb_status tensorrt_ranges_export(const struct mqb_host *host, const struct mqb_export *request, int64_t cache_version,
                                  struct mqb_error *error);

#endif
