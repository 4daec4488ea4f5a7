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

static mqb_status observe(const struct mqb_graph *graph, const struct mqb_exec *exec, struct mqb_points *points, int role, int n,
                          struct mqb_error *error)
{
    for (int i = 0; i < points->num_points; i++) {
        struct mqb_point *point = points->points[i];
        if (point->scheme.role != role)
            continue;
        mqb_value_id in = graph->nodes[point->node].inputs[0];
        struct mqb_tensor_view view = view_of(&graph->values[in], mqb_exec_value(exec, in), n);
        mqb_status status = point->quantizer->observe(point->self, &view, error);
        if (status != MQB_OK)
            return mqb_fail_prefix(error, status, "calibrating \"%s\"", point->name);
    }
    return MQB_OK;
}

mqb_status mqb_calibrate(struct mqb_graph *graph, struct mqb_points *points, const struct mqb_compute *compute, struct mqb_pool *pool,
                         struct mqb_loader *loader, int batch, int num_batches, const struct mqb_progress_sink *progress,
                         struct mqb_error *error)
{
    struct mqb_exec *exec = NULL;
    mqb_value_id *keep = mqb_allocate_array((size_t)points->num_points + 1, sizeof *keep);
    if (keep == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for calibration");
    int num_keep = 0;
    for (int i = 0; i < points->num_points; i++)
        if (points->points[i]->scheme.role == MQB_ROLE_ACTIVATION)
            keep[num_keep++] = graph->nodes[points->points[i]->node].inputs[0];
    mqb_points_set_mode(points, MQB_POINT_OFF);
    struct mqb_exec_config config = {
        .graph = graph, .host = mqb_host_table(), .compute = compute, .pool = pool, .batch = batch, .keep = keep, .num_keep = num_keep,
    };
    double start = mqb_seconds();
    mqb_status status = mqb_exec_create(&config, &exec, error);
    if (status == MQB_OK)
        status = mqb_exec_fixed(exec, error);
    if (status == MQB_OK)
        status = observe(graph, exec, points, MQB_ROLE_WEIGHT, 0, error);
    if (status == MQB_OK)
        status = mqb_loader_start(loader, 0, 0, error);
    int seen = 0;
    for (; seen < num_batches && status == MQB_OK; seen++) {
        struct mqb_batch images;
        if ((status = mqb_loader_next(loader, &images, error)) != MQB_OK || images.num_images == 0)
            break;
        status = mqb_exec_forward(exec, images.x, images.num_images, error);
        if (status == MQB_OK)
            status = observe(graph, exec, points, MQB_ROLE_ACTIVATION, images.num_images, error);
        if (status == MQB_OK && progress != NULL && progress->report != NULL) {
            struct mqb_progress p = {"calibrate", seen + 1, num_batches, NAN, NAN, mqb_seconds() - start};
            progress->report(progress->context, &p);
        }
    }
    if (status == MQB_OK && seen == 0)
        status = mqb_fail(error, MQB_ERR_ARGUMENT, "calibration needs at least one image; give a data set with a training split");
    for (int i = 0; i < points->num_points && status == MQB_OK; i++) {
        struct mqb_point *point = points->points[i];
        status = point->quantizer->init(point->self, error);
        if (status != MQB_OK)
            mqb_fail_prefix(error, status, "initial scale of \"%s\"", point->name);
    }
    mqb_points_set_mode(points, MQB_POINT_ON);
    mqb_exec_destroy(exec);
    mqb_deallocate(keep);
    return status;
}
