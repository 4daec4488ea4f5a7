/*
 * openblas.c - the provider's table, and the choice of a way when a plan is made.
 */
#include "openblas.h"
#include "shape_check.h"

#include <mqbench/plugin.h>

#include <string.h>

/* Usable anywhere; whoever knows the machine better goes first. */
static int32_t openblas_score(const struct mqb_host *host)
{
    (void)host;
    return 10;
}

static const char *openblas_isa(const struct mqb_host *host)
{
    const char *core = openblas_core();
    struct openblas_library library;

    if (core != NULL) {
        return core;
    }
    if (openblas_open(host, &library, NULL) != MQB_OK) {
        return "not installed";
    }
    core = library.corename(); /* the code stays mapped, and so does the name */
    openblas_close(&library);
    return core;
}

void openblas_fill(float *y, size_t rows, int32_t width, const float *bias)
{
    size_t row = (size_t)width * sizeof(float);

    if (bias == NULL) {
        memset(y, 0, rows * row);
        return;
    }
    for (size_t i = 0; i < rows; i++) {
        memcpy(y + i * (size_t)width, bias, row);
    }
}

static void openblas_conv_destroy(struct mqb_conv_plan *plan)
{
    if (plan != NULL) {
        openblas_close(&plan->library);
        plan->host->deallocate(plan);
    }
}

static const struct openblas_way *choose_way(const struct mqb_conv_shape *s)
{
    if (s->c == s->k && s->c == s->groups && s->c > 1) {
        return &openblas_depthwise;
    }
    return s->groups == 1 && s->h == 1 && s->w == 1 && s->r == 1 && s->s == 1 && s->p == 1 && s->q == 1 && s->pad_top == 0 &&
                   s->pad_left == 0
               ? &openblas_linear
               : &openblas_product;
}

static mqb_status openblas_conv_create(const struct mqb_host *host, const struct mqb_conv_shape *shape, int32_t max_images,
                                       struct mqb_conv_plan **plan, struct mqb_error *error)
{
    const struct mqb_conv_shape *s = shape;
    mqb_status status = shape_check(host, "openblas", shape, max_images, error);

    if (status != MQB_OK) {
        return status;
    }
    /* The checks above keep these products below 2^63; the library counts in int. */
    int64_t depth = (int64_t)s->r * s->s * (s->c / s->groups), pixels = (int64_t)s->p * s->q;
    if (depth > INT32_MAX / 64 || pixels > INT32_MAX) {
        return host->fail(
            error, MQB_ERR_UNSUPPORTED,
            "openblas: a %dx%d convolution of a %dx%d image with %d channels is too large for this provider: choose "
            "another with --compute",
            s->r, s->s, s->h, s->w, s->c);
    }
    struct mqb_conv_plan *made = host->allocate(sizeof(*made));
    if (made == NULL) {
        return host->fail(error, MQB_ERR_MEMORY, "openblas: no memory for a convolution's plan: free some and try again");
    }
    made->host = host;
    made->shape = *shape;
    made->group_in = s->c / s->groups;
    made->group_out = s->k / s->groups;
    made->depth = (int32_t)depth;
    made->way = choose_way(shape);
    made->way->sizes(made);
    status = openblas_open(host, &made->library, error);
    if (status != MQB_OK) {
        openblas_conv_destroy(made);
        return status;
    }
    *plan = made;
    return MQB_OK;
}

static size_t openblas_packed_size(const struct mqb_conv_plan *plan)
{
    return plan->packed_count * sizeof(float);
}

static size_t openblas_scratch_size(const struct mqb_conv_plan *plan)
{
    return plan->scratch_count * sizeof(float);
}

static void openblas_conv_pack(const struct mqb_conv_plan *plan, const float *weight, int32_t gradients, void *packed)
{
    (void)gradients; /* one layout serves both directions */
    plan->way->pack(plan, weight, packed);
}

static void openblas_forward(const struct mqb_conv_plan *plan, int32_t n, const float *x, const void *packed, const float *bias,
                             float *y, void *scratch)
{
    plan->way->forward(plan, n, x, packed, bias, y, scratch);
}

static void openblas_backward_data(const struct mqb_conv_plan *plan, int32_t n, const float *dy, const void *packed, float *dx,
                                   int32_t accumulate, void *scratch)
{
    plan->way->backward_data(plan, n, dy, packed, dx, accumulate, scratch);
}

static void openblas_backward_weights(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                                      void *scratch)
{
    plan->way->backward_weights(plan, n, x, dy, dw, scratch);
}

static const struct mqb_compute openblas_compute = {
    .struct_size = sizeof(struct mqb_compute),
    .description = "convolution through OpenBLAS's matrix product: portable",
    .score = openblas_score,
    .isa = openblas_isa,
    .conv_create = openblas_conv_create,
    .conv_destroy = openblas_conv_destroy,
    .conv_packed_size = openblas_packed_size,
    .conv_scratch_size = openblas_scratch_size,
    .conv_pack = openblas_conv_pack,
    .conv_forward = openblas_forward,
    .conv_backward_data = openblas_backward_data,
    .conv_backward_weights = openblas_backward_weights,
};

static const struct mqb_component components[] = {
    {sizeof(struct mqb_component), 0, MQB_COMPUTE_INTERFACE, "openblas", &openblas_compute},
};

MQB_PLUGIN("openblas", "0.1.0", components);
