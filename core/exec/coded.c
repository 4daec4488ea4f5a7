/*
 * coded.c - values that an affine quantizer of at most 8 bits makes are kept as its codes: a quarter of the memory and of
 * the traffic, and the same bits, because a code is taken only if it gives its float back bit for bit. Where one does not (the
 * point is off, a number is not finite), that grain's floats go to the spare. Readers ask for a source: one or the other.
 */
#include "exec/plan.h"
#include "ops/ops.h"
#include "ops/point.h"

#include <string.h>

/* ---- planning ---- */

/* Whether a step can do with codes in place of input `input` of its node `node`. */
static bool reads_codes(const struct mqb_exec *exec, const struct step *step, int node, int input)
{
    const struct node_state *state = &exec->nodes[step->nodes[node]];
    const struct mqb_node *it = state->context.node;
    if (step->chain) /* sums over the batch are taken of whole grains */
        return node > 0 || state->sums_size == 0;
    if (it->op->takes_codes && input == 0)
        return true;
    return state->sums_size == 0 && plan_batched_inputs(exec, it) == it->num_inputs; /* can be run image by image */
}

static bool can_be_coded(const struct mqb_exec *exec, mqb_value_id id)
{
    for (int s = 0; s < exec->num_steps; s++) {
        const struct step *step = &exec->steps[s];
        for (int k = 0; k < step->num_nodes; k++) {
            const struct mqb_node *node = plan_node(exec, step->nodes[k]);
            for (int i = 0; i < node->num_inputs; i++)
                if (node->inputs[i] == id && !reads_codes(exec, step, k, i))
                    return false;
        }
    }
    return true;
}

mqb_status mqb_plan_coded(struct mqb_exec *exec, struct mqb_error *error)
{
    size_t decoded = 0;
    for (int s = 0; s < exec->num_steps; s++) {
        mqb_value_id id = exec->steps[s].out;
        const struct mqb_point *point = exec->steps[s].chain ? mqb_codes_point(exec->config.graph, id) : NULL;
        if (point == NULL || point->scheme.bits > 8 || plan_is_kept(exec, id) || !can_be_coded(exec, id))
            continue;
        exec->values[id].point = point;
        exec->values[id].coded = mqb_allocate_array((size_t)exec->num_grains, sizeof(bool));
        if (exec->values[id].coded == NULL)
            return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
    }
    for (int s = 0; s < exec->num_steps; s++) {
        const struct step *step = &exec->steps[s];
        const struct mqb_node *node = plan_node(exec, step->nodes[0]);
        size_t floats = 0;
        for (int i = 0; i < node->num_inputs && !step->chain && !node->op->takes_codes; i++)
            if (node->inputs[i] != MQB_NONE && exec->values[node->inputs[i]].point != NULL)
                floats += (size_t)exec->values[node->inputs[i]].size;
        decoded = floats > decoded ? floats : decoded;
    }
    exec->decoded_at = plan_align(exec->scratch_size);
    exec->scratch_size = exec->decoded_at + decoded * sizeof(float);
    return MQB_OK;
}

/* ---- running ---- */

void mqb_start_coded(struct mqb_exec *exec)
{
    for (int i = 0; i < exec->config.graph->num_values; i++) {
        struct value_state *v = &exec->values[i];
        v->grid_usable = v->point != NULL && v->point->mode == MQB_POINT_ON && mqb_codes_grid(v->point, &v->grid);
    }
}

static uint8_t *grain_codes(const struct mqb_exec *exec, const struct value_state *v, int grain, int worker)
{
    return exec->arena + (size_t)(exec->arena_by_worker ? worker : grain) * exec->arena_size + v->codes_offset;
}

struct source mqb_grain_source(const struct mqb_exec *exec, mqb_value_id id, int grain, int worker)
{
    const struct value_state *v = &exec->values[id];
    struct source source = {.floats = NULL};
    if (v->coded != NULL && v->coded[grain]) {
        source.codes = v->grid;
        source.codes.data = grain_codes(exec, v, grain, worker);
    } else {
        source.floats = grain_value(exec, id, grain, worker);
    }
    return source;
}

const float *mqb_source_floats(const struct source *source, int64_t first, int64_t size, float *buffer)
{
    if (source->codes.data == NULL)
        return source->floats + first;
    mqb_floats_from_codes(&source->codes, first, size, buffer);
    return buffer;
}

bool mqb_begin_coded(struct mqb_exec *exec, mqb_value_id id, int grain)
{
    struct value_state *v = &exec->values[id];
    if (v->coded != NULL)
        v->coded[grain] = v->grid_usable;
    return v->grid_usable;
}

bool mqb_add_coded(struct mqb_exec *exec, mqb_value_id id, int grain, int worker, int64_t first, const struct mqb_op_block *block)
{
    struct value_state *v = &exec->values[id];
    const struct mqb_op_context *context = &exec->nodes[plan_value(exec, id)->producer].context;
    struct mqb_codes codes = v->grid;
    uint8_t *bytes = grain_codes(exec, v, grain, worker);
    int64_t size = block->rows * block->channels;
    const float *x = block->out;
    if (context->node->op->forward_codes(context, block, bytes + first))
        return true;
    context->node->op->forward_block(context, block);
    if (mqb_codes_replace_floats(size, &codes, x, bytes + first))
        return true;
    float *floats = grain_value(exec, id, grain, worker);
    codes.data = bytes;
    mqb_floats_from_codes(&codes, 0, first, floats);
    memcpy(floats + first, x, (size_t)size * sizeof *x);
    v->coded[grain] = false;
    return false;
}
