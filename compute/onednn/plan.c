/*
 * plan.c - the primitives of a convolution, made while OpenMP's thread count is one, and the sizes that follow from them.
 */
#include "onednn.h"
#include "shape_check.h"

#include <string.h>

/* What every descriptor of the convolution shares. */
struct geometry {
    dnnl_dims_t strides, dilates, pads_before, pads_after;
    dnnl_memory_desc_t x, weights, bias, y; /* weights in the order that the primitive likes best */
};

static int geometry_init(struct geometry *geometry, const struct mqb_conv_shape *s, int32_t n)
{
    const struct geometry empty = {
        .strides = {s->stride_h, s->stride_w},
        .dilates = {s->dilation_h - 1, s->dilation_w - 1},
        .pads_before = {s->pad_top, s->pad_left},
        .pads_after = {s->pad_bottom, s->pad_right},
    };
    const dnnl_dims_t x = {n, s->c, s->h, s->w}, y = {n, s->k, s->p, s->q}, bias = {s->k};
    const dnnl_dims_t weights = {s->k, s->c, s->r, s->s};
    const dnnl_dims_t grouped = {s->groups, s->k / s->groups, s->c / s->groups, s->r, s->s};

    *geometry = empty;
    return dnnl_memory_desc_init_by_tag(&geometry->x, 4, x, dnnl_f32, dnnl_nhwc) != dnnl_success ||
           dnnl_memory_desc_init_by_tag(&geometry->y, 4, y, dnnl_f32, dnnl_nhwc) != dnnl_success ||
           dnnl_memory_desc_init_by_tag(&geometry->bias, 1, bias, dnnl_f32, dnnl_x) != dnnl_success ||
           dnnl_memory_desc_init_by_tag(&geometry->weights, s->groups > 1 ? 5 : 4, s->groups > 1 ? grouped : weights, dnnl_f32,
                                        dnnl_format_tag_any) != dnnl_success;
}

enum direction { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS };

static int describe(dnnl_convolution_desc_t *desc, const struct geometry *g, enum direction direction)
{
    switch (direction) {
    case FORWARD:
        return dnnl_dilated_convolution_forward_desc_init(desc, dnnl_forward_training, dnnl_convolution_direct, &g->x,
                                                          &g->weights, &g->bias, &g->y, g->strides, g->dilates, g->pads_before,
                                                          g->pads_after) != dnnl_success;
    case BACKWARD_DATA:
        return dnnl_dilated_convolution_backward_data_desc_init(desc, dnnl_convolution_direct, &g->x, &g->weights, &g->y,
                                                                g->strides, g->dilates, g->pads_before,
                                                                g->pads_after) != dnnl_success;
    default:
        return dnnl_dilated_convolution_backward_weights_desc_init(desc, dnnl_convolution_direct, &g->x, &g->weights, NULL,
                                                                   &g->y, g->strides, g->dilates, g->pads_before,
                                                                   g->pads_after) != dnnl_success;
    }
}

static const dnnl_memory_desc_t *queried(dnnl_primitive_desc_t desc, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(desc, what, 0);
}

/* The primitive of one direction for n images. The library wants to see the forward one before a backward one. */
static int pass_create(struct onednn_pass *pass, dnnl_engine_t engine, dnnl_primitive_attr_t attributes,
                       const struct mqb_conv_shape *shape, int32_t n, enum direction direction)
{
    struct geometry geometry;
    dnnl_convolution_desc_t forward, own;
    dnnl_primitive_desc_t hint = NULL, desc = NULL;
    int failed =
        geometry_init(&geometry, shape, n) || describe(&forward, &geometry, FORWARD) || describe(&own, &geometry, direction) ||
        (direction != FORWARD && dnnl_primitive_desc_create(&hint, &forward, attributes, engine, NULL) != dnnl_success) ||
        dnnl_primitive_desc_create(&desc, &own, attributes, engine, hint) != dnnl_success ||
        dnnl_primitive_create(&pass->primitive, desc) != dnnl_success;

    if (!failed) {
        pass->x = geometry.x;
        pass->y = geometry.y;
        pass->bias = geometry.bias;
        pass->weights = *queried(desc, direction == BACKWARD_WEIGHTS ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
        pass->scratchpad = *queried(desc, dnnl_query_scratchpad_md);
        pass->scratchpad_size = dnnl_memory_desc_get_size(&pass->scratchpad);
    }
    if (desc != NULL) {
        dnnl_primitive_desc_destroy(desc);
    }
    if (hint != NULL) {
        dnnl_primitive_desc_destroy(hint);
    }
    return failed;
}

static int reorder_create(struct onednn_reorder *reorder, dnnl_engine_t engine, dnnl_primitive_attr_t attributes,
                          const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to)
{
    dnnl_primitive_desc_t desc = NULL;

    if (dnnl_reorder_primitive_desc_create(&desc, from, engine, to, engine, attributes) != dnnl_success) {
        return 1;
    }
    int failed = dnnl_primitive_create(&reorder->primitive, desc) != dnnl_success;
    if (!failed) {
        reorder->scratchpad = *queried(desc, dnnl_query_scratchpad_md);
        reorder->scratchpad_size = dnnl_memory_desc_get_size(&reorder->scratchpad);
    }
    dnnl_primitive_desc_destroy(desc);
    return failed;
}

static int primitives_create(struct mqb_conv_plan *plan, dnnl_primitive_attr_t attributes)
{
    const struct mqb_conv_shape *s = &plan->shape;
    const dnnl_dims_t weights = {s->k, s->c, s->r, s->s};
    const dnnl_dims_t grouped = {s->groups, s->k / s->groups, s->c / s->groups, s->r, s->s};

    return dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) != dnnl_success ||
           dnnl_memory_desc_init_by_tag(&plan->onnx_weights, s->groups > 1 ? 5 : 4, s->groups > 1 ? grouped : weights, dnnl_f32,
                                        s->groups > 1 ? dnnl_goihw : dnnl_oihw) != dnnl_success ||
           pass_create(&plan->forward, plan->engine, attributes, s, 1, FORWARD) ||
           pass_create(&plan->backward_data, plan->engine, attributes, s, 1, BACKWARD_DATA) ||
           pass_create(&plan->backward_weights, plan->engine, attributes, s, plan->max_images, BACKWARD_WEIGHTS) ||
           pass_create(&plan->backward_weights_one, plan->engine, attributes, s, 1, BACKWARD_WEIGHTS) ||
           reorder_create(&plan->to_forward, plan->engine, attributes, &plan->onnx_weights, &plan->forward.weights) ||
           reorder_create(&plan->to_backward_data, plan->engine, attributes, &plan->onnx_weights,
                          &plan->backward_data.weights) ||
           reorder_create(&plan->from_gradient, plan->engine, attributes, &plan->backward_weights.weights,
                          &plan->onnx_weights) ||
           reorder_create(&plan->from_gradient_one, plan->engine, attributes, &plan->backward_weights_one.weights,
                          &plan->onnx_weights);
}

static size_t max(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void sizes_init(struct mqb_conv_plan *plan)
{
    const struct mqb_conv_shape *s = &plan->shape;
    size_t pass = max(max(plan->forward.scratchpad_size, plan->backward_data.scratchpad_size),
                      max(plan->backward_weights.scratchpad_size, plan->backward_weights_one.scratchpad_size));

    plan->x_size = (size_t)s->h * (size_t)s->w * (size_t)s->c * sizeof(float);
    plan->y_size = (size_t)s->p * (size_t)s->q * (size_t)s->k * sizeof(float);
    plan->forward_packed_size = onednn_round_up(dnnl_memory_desc_get_size(&plan->forward.weights));
    plan->backward_packed_size = onednn_round_up(dnnl_memory_desc_get_size(&plan->backward_data.weights));
    plan->pack_scratch_size = onednn_round_up(max(plan->to_forward.scratchpad_size, plan->to_backward_data.scratchpad_size));
    plan->gradient_size = onednn_round_up(max(dnnl_memory_desc_get_size(&plan->backward_weights.weights),
                                              dnnl_memory_desc_get_size(&plan->backward_weights_one.weights)));
    plan->scratchpad_size =
        onednn_round_up(max(pass, max(plan->from_gradient.scratchpad_size, plan->from_gradient_one.scratchpad_size)));
}

mqb_status onednn_plan_create(const struct mqb_host *host, const struct mqb_conv_shape *shape, int32_t max_images,
                              struct mqb_conv_plan **plan, struct mqb_error *error)
{
    mqb_status status = shape_check(host, "onednn", shape, max_images, error);

    if (status != MQB_OK) {
        return status;
    }
    struct mqb_conv_plan *made = host->allocate(sizeof(*made));
    if (made == NULL) {
        return host->fail(error, MQB_ERR_MEMORY, "onednn: no memory for a convolution's plan: free some and try again");
    }
    made->host = host;
    made->shape = *shape;
    made->max_images = max_images;
    made->zeros = host->allocate((size_t)shape->k * sizeof(float));

    dnnl_primitive_attr_t attributes = NULL;
    int threads = onednn_threads_one();
    int failed = made->zeros == NULL || dnnl_engine_create(&made->engine, dnnl_cpu, 0) != dnnl_success ||
                 dnnl_primitive_attr_create(&attributes) != dnnl_success || primitives_create(made, attributes);
    dnnl_primitive_attr_destroy(attributes);
    onednn_threads_restore(threads);
    if (failed) {
        onednn_plan_destroy(made);
        return host->fail(
            error, MQB_ERR_UNSUPPORTED,
            "onednn: oneDNN makes no %dx%d convolution of a %dx%d image with %d input channels, %d output channels and "
            "%d groups: choose another provider with --compute",
            shape->r, shape->s, shape->h, shape->w, shape->c, shape->k, shape->groups);
    }
    sizes_init(made);
    *plan = made;
    return MQB_OK;
}

void onednn_plan_destroy(struct mqb_conv_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    const struct mqb_host *host = plan->host;
    dnnl_primitive_t primitives[] = {
        plan->forward.primitive,       plan->backward_data.primitive,     plan->backward_weights.primitive,
        plan->to_forward.primitive,    plan->to_backward_data.primitive,  plan->backward_weights_one.primitive,
        plan->from_gradient.primitive, plan->from_gradient_one.primitive,
    };
    for (size_t i = 0; i < sizeof(primitives) / sizeof(primitives[0]); i++) {
        if (primitives[i] != NULL) {
            dnnl_primitive_destroy(primitives[i]);
        }
    }
    if (plan->engine != NULL) {
        dnnl_engine_destroy(plan->engine);
    }
    host->deallocate(plan->zeros);
    host->deallocate(plan);
}
