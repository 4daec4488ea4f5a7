/*
 * deploy_freeze.c - a quantization point becomes numbers: scale, zero point, range, and for a weight its integer codes.
 */
#include "quant/deploy.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const struct mqb_point *find_point(const struct mqb_points *points, mqb_node_id node)
{
    for (int i = 0; i < points->num_points; i++)
        if (points->points[i]->node == node)
            return points->points[i];
    return NULL;
}

static const char *algorithm_name(const struct mqb_point *point)
{
    return point->algorithm ? point->algorithm : "unnamed";
}

static mqb_status check_qparams(const struct mqb_point *point, const struct mqb_qparams *q, struct mqb_error *error)
{
    const char *algorithm = algorithm_name(point);
    if (q->num_levels > 0)
        return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                        "'%s' cannot be deployed: algorithm %s quantizes it to %d levels that are not evenly "
                        "spaced, and integer hardware has no form for that",
                        point->name, algorithm, (int)q->num_levels);
    if (q->num_channels != point->scheme.num_channels || !q->scale || !q->zero_point || q->qmin >= q->qmax)
        return mqb_fail(error, MQB_ERR_INTERNAL, "'%s': algorithm %s gave %d scales for codes %d to %d, expected %d scales",
                        point->name, algorithm, (int)q->num_channels, (int)q->qmin, (int)q->qmax,
                        (int)point->scheme.num_channels);
    for (int32_t c = 0; c < q->num_channels; c++)
        if (!isfinite(q->scale[c]) || !(q->scale[c] > 0.0f))
            return mqb_fail(error, MQB_ERR_NUMERIC,
                            "'%s' has scale %g in channel %d, expected a finite number above 0; the training "
                            "diverged or the point was never calibrated",
                            point->name, (double)q->scale[c], (int)c);
    return MQB_OK;
}

/* The reference's order: x * (1 / s) per tensor, x / s per channel; ties to even, the zero point after the rounding. */
static int32_t quantize_weight(const struct mqb_frozen *frozen, float x, int32_t channel)
{
    float s = frozen->scale[channel];
    float v = frozen->num_channels > 1 ? x / s : x * (1.0f / s);
    double q = (double)rintf(v) + frozen->zero_point[channel];
    return !(q > frozen->qmin) ? frozen->qmin : q > frozen->qmax ? frozen->qmax : (int32_t)q;
}

/* A channel of zeros has no scale of its own. The quantizer's least one would leave no room for its bias, which is counted in
 * steps of it; the largest of the others does. */
static void scale_dead_channels(struct mqb_frozen *frozen, int64_t inner)
{
    float largest = 0.0f;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t c = 0; c < frozen->num_channels; c++) {
            bool dead = true;
            for (int64_t i = 0; i < inner && dead; i++)
                dead = frozen->codes[c * inner + i] == frozen->zero_point[c];
            if (pass == 0 && !dead)
                largest = fmaxf(largest, frozen->scale[c]);
            if (pass == 1 && dead && largest > 0.0f)
                frozen->scale[c] = largest;
        }
}

static mqb_status freeze_codes(const struct mqb_point *point, const struct mqb_value *value, struct mqb_frozen *frozen,
                               const float *x, float *grid, struct mqb_error *error)
{
    int64_t size = mqb_value_size(value), channels = frozen->num_channels, inner = size / channels;
    frozen->num_codes = size;
    frozen->codes = mqb_allocate_array((size_t)size, sizeof(int32_t));
    if (!frozen->codes)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the codes of '%s'", point->name);
    if (point->quantizer->freeze) {
        struct mqb_tensor_view view = {.struct_size = sizeof(view), .rank = value->rank, .num_elements = size, .data = x};
        memcpy(view.dims, value->dims, (size_t)value->rank * sizeof(int64_t));
        mqb_status status = point->quantizer->freeze(point->self, &view, frozen->codes, error);
        if (status != MQB_OK)
            return mqb_fail_prefix(error, status, "'%s' cannot be deployed: algorithm %s", point->name, algorithm_name(point));
    } else if (point->quantizer->flags & MQB_QUANTIZER_AFFINE) {
        for (int64_t i = 0; i < size; i++)
            frozen->codes[i] = quantize_weight(frozen, x[i], (int32_t)(i / inner));
    } else {
        return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                        "'%s' cannot be deployed: algorithm %s is neither affine nor says which integer codes its "
                        "weights have",
                        point->name, algorithm_name(point));
    }
    for (int64_t i = 0; i < size; i++) {
        int64_t c = i / inner;
        if (frozen->codes[i] < frozen->qmin || frozen->codes[i] > frozen->qmax)
            return mqb_fail(error, MQB_ERR_INTERNAL,
                            "'%s': algorithm %s gave code %d for element %" PRId64 ", outside %d to %d", point->name,
                            algorithm_name(point), (int)frozen->codes[i], i, (int)frozen->qmin, (int)frozen->qmax);
        grid[i] = (float)(frozen->codes[i] - frozen->zero_point[c]) * frozen->scale[c];
    }
    scale_dead_channels(frozen, inner);
    return MQB_OK;
}

static mqb_status append_frozen(struct mqb_deployment *deployment, struct mqb_frozen **frozen, struct mqb_error *error)
{
    struct mqb_deploy *deploy = deployment->deploy;
    if (deploy->num_frozen == deployment->frozen_capacity) {
        int32_t wanted = deployment->frozen_capacity ? deployment->frozen_capacity * 2 : 32;
        struct mqb_frozen *larger = mqb_allocate_array((size_t)wanted, sizeof(*larger));
        if (!larger)
            return mqb_fail(error, MQB_ERR_MEMORY, "no memory for %d frozen tensors", (int)wanted);
        if (deploy->num_frozen > 0)
            memcpy(larger, deploy->frozen, (size_t)deploy->num_frozen * sizeof(*larger));
        mqb_deallocate(deploy->frozen);
        deploy->frozen = larger;
        deployment->frozen_capacity = wanted;
    }
    *frozen = &deploy->frozen[deploy->num_frozen++];
    return MQB_OK;
}

mqb_status mqb_deploy_freeze(struct mqb_deployment *deployment, const struct mqb_node *node, mqb_value_id value, const float *x,
                             float *grid, struct mqb_error *error)
{
    const struct mqb_value *v = &deployment->graph->values[value];
    if (!deployment->points) { /* folding alone */
        if (x)
            memcpy(grid, x, (size_t)mqb_value_size(v) * sizeof(float));
        return MQB_OK;
    }
    const struct mqb_point *point = find_point(deployment->points, (mqb_node_id)(node - deployment->graph->nodes));
    if (!point)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "node '%s' (FakeQuantize) has no quantization point attached", node->name);
    struct mqb_qparams q = {.struct_size = sizeof(q)};
    mqb_status status = point->quantizer->qparams(point->self, &q, error);
    if (status != MQB_OK)
        return mqb_fail_prefix(error, status, "'%s': algorithm %s", point->name, algorithm_name(point));
    status = check_qparams(point, &q, error);
    if (status != MQB_OK)
        return status;
    if (!x && !(point->quantizer->flags & MQB_QUANTIZER_AFFINE))
        return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                        "'%s' cannot be deployed: algorithm %s transforms activations at run time, which integer "
                        "hardware does not do",
                        point->name, algorithm_name(point));
    struct mqb_frozen *frozen = NULL;
    status = append_frozen(deployment, &frozen, error);
    if (status != MQB_OK)
        return status;
    *frozen = (struct mqb_frozen){
        .point = point->node,
        .value = value,
        .role = point->scheme.role,
        .reader = MQB_NONE,
        .name = mqb_strdup(v->name),
        .scheme = point->scheme,
        .num_channels = q.num_channels,
        .scale = mqb_allocate_array((size_t)q.num_channels, sizeof(float)),
        .zero_point = mqb_allocate_array((size_t)q.num_channels, sizeof(int32_t)),
        .qmin = q.qmin,
        .qmax = q.qmax,
    };
    if (!frozen->name || !frozen->scale || !frozen->zero_point)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the parameters of '%s'", point->name);
    memcpy(frozen->scale, q.scale, (size_t)q.num_channels * sizeof(float));
    memcpy(frozen->zero_point, q.zero_point, (size_t)q.num_channels * sizeof(int32_t));
    return x ? freeze_codes(point, v, frozen, x, grid, error) : MQB_OK;
}
