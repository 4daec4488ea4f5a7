/* calibrate.c - the first scales: what every point sees in the FP32 network, on a bounded number of batches. */
#include "train/train.h"

#include <math.h>
#include <string.h>

static struct mqb_tensor_view view_of(const struct mqb_value *value, const float *data, int n)
{
    struct mqb_tensor_view view = {.struct_size = sizeof view, .rank = value->rank, .data = data, .num_elements = 1};
    for (int i = 0; i < value->rank; i++)
        view.dims[i] = value->dims[i] == MQB_BATCH ? n : value->dims[i];
    if (value->batched && value->rank == 4) { /* NHWC in memory */
        view.dims[1] = value->dims[2];
        view.dims[2] = value->dims[3];
        view.dims[3] = value->dims[1];
    }
    for (int i = 0; i < view.rank; i++)
        view.num_elements *= view.dims[i];
    return view;
}

/* One calibration: the FP32 network, and what its points see. */
struct calibration {
    struct mqb_graph *graph;
    struct mqb_points *points;
    struct mqb_pool *pool;
    struct mqb_exec *exec;
    struct mqb_error *errors; /* by point; `reserved` is the status */
    int role, n;              /* of the tensors that are being observed; images */
};

/* Points are independent of each other, so they may work at the same time; the first one that fails is named after `what`. */
static mqb_status each_point(struct calibration *c, void (*task)(void *context, int index, int worker), const char *what,
                             struct mqb_error *error)
{
    mqb_pool_run(c->pool, c->points->num_points, task, c);
    for (int i = 0; i < c->points->num_points; i++)
        if (c->errors[i].reserved != MQB_OK)
            return mqb_fail(error, (mqb_status)c->errors[i].reserved, "%s \"%s\": %s", what, c->points->points[i]->name,
                            c->errors[i].text);
    return MQB_OK;
}

static void observe_point(void *context, int index, int worker)
{
    (void)worker;
    const struct calibration *c = context;
    struct mqb_point *point = c->points->points[index];
    c->errors[index] = (struct mqb_error)MQB_ERROR_INIT;
    if (point->scheme.role != c->role)
        return;
    mqb_value_id in = c->graph->nodes[point->node].inputs[0];
    struct mqb_tensor_view view = view_of(&c->graph->values[in], mqb_exec_value(c->exec, in), c->n);
    c->errors[index].reserved = (uint32_t)point->quantizer->observe(point->self, &view, &c->errors[index]);
}

static mqb_status observe(struct calibration *c, int role, int n, struct mqb_error *error)
{
    c->role = role;
    c->n = n;
    return each_point(c, observe_point, "calibrating", error);
}

static void init_point(void *context, int index, int worker)
{
    (void)worker;
    const struct calibration *c = context;
    struct mqb_point *point = c->points->points[index];
    c->errors[index] = (struct mqb_error)MQB_ERROR_INIT;
    c->errors[index].reserved = (uint32_t)point->quantizer->init(point->self, &c->errors[index]);
}

static mqb_status begin(struct calibration *c, const struct mqb_compute *compute, int batch, struct mqb_error *error)
{
    const struct mqb_points *points = c->points;
    mqb_value_id *keep = mqb_allocate_array((size_t)points->num_points + 1, sizeof *keep);
    c->errors = mqb_allocate_array((size_t)points->num_points + 1, sizeof *c->errors);
    if (keep == NULL || c->errors == NULL) {
        mqb_deallocate(keep);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for calibration");
    }
    int num_keep = 0;
    for (int i = 0; i < points->num_points; i++)
        if (points->points[i]->scheme.role == MQB_ROLE_ACTIVATION)
            keep[num_keep++] = c->graph->nodes[points->points[i]->node].inputs[0];
    mqb_points_set_mode(c->points, MQB_POINT_OFF);
    struct mqb_exec_config config = {
        .graph = c->graph,
        .host = mqb_host_table(),
        .compute = compute,
        .pool = c->pool,
        .batch = batch,
        .keep = keep,
        .num_keep = num_keep,
    };
    mqb_status status = mqb_exec_create(&config, &c->exec, error);
    if (status == MQB_OK)
        status = mqb_exec_fixed(c->exec, error);
    if (status == MQB_OK)
        status = observe(c, MQB_ROLE_WEIGHT, 0, error);
    mqb_deallocate(keep);
    return status;
}

static mqb_status add_images(struct calibration *c, const float *x, int n, struct mqb_error *error)
{
    mqb_status status = mqb_exec_forward(c->exec, x, n, error);
    return status == MQB_OK ? observe(c, MQB_ROLE_ACTIVATION, n, error) : status;
}

/* First values from what was seen, if all went well; leaves the points on. */
static mqb_status end(struct calibration *c, mqb_status status, struct mqb_error *error)
{
    if (status == MQB_OK)
        status = each_point(c, init_point, "initial scale of", error);
    mqb_points_set_mode(c->points, MQB_POINT_ON);
    mqb_exec_destroy(c->exec);
    mqb_deallocate(c->errors);
    return status;
}

mqb_status mqb_calibrate(struct mqb_graph *graph, struct mqb_points *points, const struct mqb_compute *compute,
                         struct mqb_pool *pool, struct mqb_loader *loader, int batch, int num_batches,
                         const struct mqb_progress_sink *progress, struct mqb_error *error)
{
    struct calibration c = {.graph = graph, .points = points, .pool = pool};
    double start = mqb_seconds();
    mqb_status status = begin(&c, compute, batch, error);
    if (status == MQB_OK)
        status = mqb_loader_start(loader, 0, 0, error);
    int seen = 0;
    for (; seen < num_batches && status == MQB_OK; seen++) {
        struct mqb_batch images;
        if ((status = mqb_loader_next(loader, &images, error)) != MQB_OK || images.num_images == 0)
            break;
        status = add_images(&c, images.x, images.num_images, error);
        if (status == MQB_OK && progress != NULL && progress->report != NULL) {
            struct mqb_progress p = {"calibrate", seen + 1, num_batches, NAN, NAN, mqb_seconds() - start};
            progress->report(progress->context, &p);
        }
    }
    if (status == MQB_OK && seen == 0)
        status =
            mqb_fail(error, MQB_ERR_ARGUMENT, "calibration needs at least one image; give a data set with a training split");
    return end(&c, status, error);
}

mqb_status mqb_calibrate_images(struct mqb_graph *graph, struct mqb_points *points, const struct mqb_compute *compute,
                                struct mqb_pool *pool, const float *x, int n, struct mqb_error *error)
{
    struct calibration c = {.graph = graph, .points = points, .pool = pool};
    mqb_status status = begin(&c, compute, n, error);
    if (status == MQB_OK)
        status = add_images(&c, x, n, error);
    return end(&c, status, error);
}
