#include "reference.h"

#include <math.h>
#include <string.h>

size_t input_count(const struct mqb_conv_shape *s, int32_t n)
{
    return (size_t)n * (size_t)s->h * (size_t)s->w * (size_t)s->c;
}

size_t output_count(const struct mqb_conv_shape *s, int32_t n)
{
    return (size_t)n * (size_t)s->p * (size_t)s->q * (size_t)s->k;
}

size_t weight_count(const struct mqb_conv_shape *s)
{
    return (size_t)s->k * (size_t)(s->c / s->groups) * (size_t)s->r * (size_t)s->s;
}

/* One product of the convolution: the elements it joins; x is -1 for a position outside the image. */
struct term {
    int64_t x, y, weight;
};

/* Calls `visit` for every product. */
static void each_term(const struct mqb_conv_shape *s, int32_t n, void (*visit)(void *context, struct term term), void *context)
{
    int32_t cg = s->c / s->groups, kg = s->k / s->groups;

    for (int64_t image = 0; image < n; image++) {
        for (int64_t p = 0; p < s->p; p++) {
            for (int64_t q = 0; q < s->q; q++) {
                for (int64_t k = 0; k < s->k; k++) {
                    for (int64_t r = 0; r < s->r; r++) {
                        for (int64_t t = 0; t < s->s; t++) {
                            int64_t h = p * s->stride_h - s->pad_top + r * s->dilation_h;
                            int64_t w = q * s->stride_w - s->pad_left + t * s->dilation_w;
                            int inside = h >= 0 && h < s->h && w >= 0 && w < s->w;

                            for (int64_t c = 0; c < cg; c++) {
                                struct term term;

                                term.x = inside ? ((image * s->h + h) * s->w + w) * s->c + k / kg * cg + c : -1;
                                term.y = ((image * s->p + p) * s->q + q) * s->k + k;
                                term.weight = ((k * cg + c) * s->r + r) * s->s + t;
                                visit(context, term);
                            }
                        }
                    }
                }
            }
        }
    }
}

struct operands {
    const float *x, *y, *weight;
    double *result, *magnitude;
};

static void visit_forward(void *context, struct term term)
{
    struct operands *o = context;

    if (term.x >= 0) {
        double product = (double)o->x[term.x] * (double)o->weight[term.weight];
        o->result[term.y] += product;
        o->magnitude[term.y] += fabs(product);
    }
}

static void visit_backward_data(void *context, struct term term)
{
    struct operands *o = context;

    if (term.x >= 0) {
        double product = (double)o->y[term.y] * (double)o->weight[term.weight];
        o->result[term.x] += product;
        o->magnitude[term.x] += fabs(product);
    }
}

static void visit_backward_weights(void *context, struct term term)
{
    struct operands *o = context;

    if (term.x >= 0) {
        double product = (double)o->x[term.x] * (double)o->y[term.y];
        o->result[term.weight] += product;
        o->magnitude[term.weight] += fabs(product);
    }
}

void reference_forward(const struct mqb_conv_shape *s, int32_t n, const float *x, const float *weight, const float *bias,
                       double *y, double *magnitude)
{
    struct operands o = { .x = x, .weight = weight, .result = y, .magnitude = magnitude };

    for (size_t i = 0; i < output_count(s, n); i++) {
        y[i] = bias == NULL ? 0.0 : (double)bias[i % (size_t)s->k];
        magnitude[i] = fabs(y[i]);
    }
    each_term(s, n, visit_forward, &o);
}

void reference_backward_data(const struct mqb_conv_shape *s, int32_t n, const float *dy, const float *weight, double *dx,
                             double *magnitude)
{
    struct operands o = { .y = dy, .weight = weight, .result = dx, .magnitude = magnitude };

    memset(dx, 0, input_count(s, n) * sizeof(double));
    memset(magnitude, 0, input_count(s, n) * sizeof(double));
    each_term(s, n, visit_backward_data, &o);
}

void reference_backward_weights(const struct mqb_conv_shape *s, int32_t n, const float *x, const float *dy, double *dw,
                                double *magnitude)
{
    struct operands o = { .x = x, .y = dy, .result = dw, .magnitude = magnitude };

    memset(dw, 0, weight_count(s) * sizeof(double));
    memset(magnitude, 0, weight_count(s) * sizeof(double));
    each_term(s, n, visit_backward_weights, &o);
}

struct integer_operands {
    const uint8_t *x;
    const int8_t *weight;
    uint8_t pad_value;
    int32_t *acc;
};

static void visit_integer(void *context, struct term term)
{
    struct integer_operands *o = context;
    int32_t x = term.x >= 0 ? o->x[term.x] : o->pad_value;

    o->acc[term.y] = (int32_t)((uint32_t)o->acc[term.y] + (uint32_t)(x * o->weight[term.weight]));
}

void reference_integer(const struct mqb_conv_shape *s, int32_t n, const uint8_t *x, uint8_t pad_value, const int8_t *weight,
                       int32_t *acc)
{
    struct integer_operands o = { x, weight, pad_value, acc };

    memset(acc, 0, output_count(s, n) * sizeof(int32_t));
    each_term(s, n, visit_integer, &o);
}
