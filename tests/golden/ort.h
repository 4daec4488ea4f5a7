/* ort.h - drivers of family 7 that ort.c dispatches to, and what they share. */
#ifndef GOLDEN_ORT_H
#define GOLDEN_ORT_H

#include "golden.h"

#include "quant/hand_net.h"
#include "quant/program.h"

/* A tensor of whole numbers with its quantization parameters, if the case has them. */
struct ort_tensor {
    int32_t *data;
    int64_t size;
    int32_t rank;
    int64_t dims[6];
    bool u8, present;
    float scale[256];
    int32_t zero[256];
    int32_t num_scales;
};
/* Inputs "name", "name_scale" (or `scale`) and "name_zero_point"; not there: present is false. */
struct ort_tensor ort_input(struct golden_case *c, const char *name, const char *scale, const char *zero_point);
struct ort_tensor ort_expected(struct golden_case *c, const char *name);

struct mqb_backend_rules ort_rules(void); /* ONNX Runtime's contract */
void ort_equal(struct golden_case *c, int64_t index, int64_t got, int64_t want);
void ort_point(struct hand_net *net, mqb_value_id value, const struct ort_tensor *like);
/* Runs the net on the codes of x ([n][c][h][w], or [h][w][c] if channels_last), compares its last tensor with `expected`. */
void ort_run(struct golden_case *c, struct hand_net *net, const struct mqb_backend_rules *rules, const struct ort_tensor *x,
             const int32_t *bias, const struct ort_tensor *expected, bool channels_last);
void ort_attr_ints(struct golden_case *c, struct hand_net *net, mqb_node_id node, const char *name);

golden_driver ort_conv_case;    /* ort_layers.c: QLinearConv, ConvInteger, requantization alone */
golden_driver ort_matrix_case;  /* ort_layers.c: QGemm, QLinearMatMul, MatMulInteger */
golden_driver ort_pattern_case; /* ort_layers.c: QDQ graphs */

#endif
