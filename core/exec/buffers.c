/*
 * buffers.c - where a plan's numbers live: who writes a gradient first, how long each buffer lives, and one arena a grain in which
 * they share room.
 */
#include "exec/plan.h"

#include <string.h>

/* ---- gradients: who writes, who adds ---- */

static int8_t gradient_write(struct mqb_exec *exec, bool *started, mqb_value_id id)
{
    if (id == MQB_NONE || !plan_value(exec, id)->batched || !exec->values[id].wants_gradient)
        return 0;
    int8_t how = started[id] ? 2 : 1;
    started[id] = true;
    return how;
}

mqb_status mqb_plan_gradients(struct mqb_exec *exec, struct mqb_error *error)
{
    bool *started = mqb_allocate_array((size_t)exec->config.graph->num_values + 1, sizeof *started);
    if (started == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
    for (int s = exec->num_steps - 1; s >= 0; s--) {
        struct step *step = &exec->steps[s];
        if (!exec->values[step->out].wants_gradient)
            continue;
        for (int k = step->num_nodes - 1; k >= 0; k--) {
            const struct mqb_node *node = plan_node(exec, step->nodes[k]);
            struct node_state *state = &exec->nodes[step->nodes[k]];
            if (step->chain) {
                if (plan_batched_inputs(exec, node) > 1)
                    step->writes_side[k] = gradient_write(exec, started, node->inputs[1 - step->running[k]]);
                continue;
            }
            for (int i = 0; i < node->num_inputs; i++) {
                mqb_value_id in = node->inputs[i];
                step->writes_input[i] = gradient_write(exec, started, in);
                if (in == MQB_NONE || plan_value(exec, in)->batched || !exec->values[in].wants_gradient)
                    continue;
                state->has_partial[i] = true;
            }
        }
        if (step->chain)
            step->writes_in = gradient_write(exec, started, step->in);
    }
    mqb_deallocate(started);
    return MQB_OK;
}

/* ---- buffers ---- */

struct buffer {
    int first, last; /* actions; first < 0: not used */
    size_t size;
    size_t *offset;
    struct buffer *same; /* the buffer that serves it too, or NULL */
};

static void touch(struct buffer *buffer, int time)
{
    if (buffer->first < 0 || time < buffer->first)
        buffer->first = time;
    if (time > buffer->last)
        buffer->last = time;
}

/* Lifetimes of values (buffers[0 .. num_values)), their gradients (next num_values) and heads' gradients (next num_steps; a
 * head whose input's gradient is written, not added to, keeps its own there and needs no buffer). */
static void find_lifetimes(struct mqb_exec *exec, struct buffer *buffers)
{
    int num_values = exec->config.graph->num_values;
    struct buffer *gradients = buffers + num_values, *heads = gradients + num_values;
    for (int t = 0; t < exec->num_actions; t++) {
        const struct action *action = &exec->actions[t];
        const struct step *step = &exec->steps[action->step];
        bool backward = action->kind >= ACTION_BACKWARD;
        if (action->kind == ACTION_REDUCE) {
            touch(&buffers[step->in], t);
            continue;
        }
        for (int k = 0; k < step->num_nodes; k++) {
            const struct mqb_node *node = plan_node(exec, step->nodes[k]);
            for (int i = 0; i < node->num_inputs; i++) {
                mqb_value_id in = node->inputs[i];
                if (in == MQB_NONE || !plan_value(exec, in)->batched)
                    continue;
                touch(&buffers[in], t);
                if (backward)
                    touch(&gradients[in], t);
            }
        }
        if (!backward)
            touch(&buffers[step->out], t);
        else if (action->kind != ACTION_BACKWARD_APPLY)
            touch(&gradients[step->out], t);
        if ((action->kind == ACTION_BACKWARD_REDUCE || action->kind == ACTION_BACKWARD_APPLY) && step->writes_in != 1)
            touch(&heads[action->step], t);
    }
}

/* A chain writes the gradient at its input over the one at its output, block by block, if it is the first to write there: the
 * one is read for the last time when the other begins, and they have one shape. */
static void share_gradients(const struct mqb_exec *exec, struct buffer *gradients)
{
    for (int s = exec->num_steps - 1; s >= 0; s--) {
        const struct step *step = &exec->steps[s];
        if (!step->chain || step->writes_in != 1 || exec->values[step->in].size != exec->values[step->out].size ||
            exec->values[step->out].gradient_place != PLACE_ARENA || exec->values[step->in].gradient_place != PLACE_ARENA)
            continue;
        struct buffer *out = &gradients[step->out], *in = &gradients[step->in];
        out = out->same != NULL ? out->same : out;
        touch(out, in->first);
        touch(out, in->last);
        in->same = out;
    }
}

static bool overlaps(const struct buffer *a, const struct buffer *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* Largest first, each at the lowest offset that is free during its life; `total` bytes in all. */
static mqb_status place_buffers(const struct buffer *buffers, int count, size_t *total, struct mqb_error *error)
{
    int *order = mqb_allocate_array((size_t)count + 1, sizeof *order);
    if (order == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
    int used = 0;
    for (int i = 0; i < count; i++) {
        if (buffers[i].first < 0 || buffers[i].offset == NULL || buffers[i].same != NULL)
            continue;
        int at = used++;
        for (; at > 0 && buffers[order[at - 1]].size < buffers[i].size; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    for (int i = 0; i < used; i++) {
        const struct buffer *buffer = &buffers[order[i]];
        size_t offset = 0;
        for (bool moved = true; moved;) {
            moved = false;
            for (int k = 0; k < i; k++) {
                const struct buffer *other = &buffers[order[k]];
                if (overlaps(buffer, other) && offset < *other->offset + other->size && *other->offset < offset + buffer->size) {
                    offset = *other->offset + other->size;
                    moved = true;
                }
            }
        }
        *buffer->offset = offset;
        if (offset + buffer->size > *total)
            *total = offset + buffer->size;
    }
    for (int i = 0; i < count; i++)
        if (buffers[i].same != NULL)
            *buffers[i].offset = *buffers[i].same->offset;
    mqb_deallocate(order);
    return MQB_OK;
}

/* The grains' gradients of unbatched inputs live from the stage that makes them to the barrier that sums them: one block, in which
 * they share room. */
mqb_status mqb_plan_partials(struct mqb_exec *exec, struct mqb_error *error)
{
    const int count = exec->num_steps * MQB_MAX_INPUTS;
    struct buffer *buffers = mqb_allocate_array((size_t)count + 1, sizeof *buffers);
    size_t *offsets = mqb_allocate_array((size_t)count + 1, sizeof *offsets), total = 0;
    mqb_status status = buffers != NULL && offsets != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
    for (int i = 0; i < count && status == MQB_OK; i++)
        buffers[i] = (struct buffer){-1, -1, 0, NULL, NULL};
    for (int b = exec->num_forward_stages; b < exec->num_stages && status == MQB_OK; b++)
        for (int a = 0; a < exec->stages[b].num_actions; a++) {
            const int s = exec->actions[exec->stages[b].first_action + a].step;
            const struct node_state *state = &exec->nodes[exec->steps[s].nodes[0]];
            for (int i = 0; i < MQB_MAX_INPUTS; i++)
                if (state->has_partial[i]) {
                    struct value_state *v = &exec->values[state->context.node->inputs[i]];
                    const size_t bytes = plan_align((size_t)exec->num_grains * (size_t)v->size * sizeof(float));
                    buffers[s * MQB_MAX_INPUTS + i] = (struct buffer){b, b, bytes, &offsets[s * MQB_MAX_INPUTS + i], NULL};
                    v->summed = b;
                }
        }
    for (int i = 0; i < count && status == MQB_OK; i++)
        if (buffers[i].offset != NULL) {
            const struct node_state *state = &exec->nodes[exec->steps[i / MQB_MAX_INPUTS].nodes[0]];
            touch(&buffers[i], exec->values[state->context.node->inputs[i % MQB_MAX_INPUTS]].summed);
        }
    if (status == MQB_OK)
        status = place_buffers(buffers, count, &total, error);
    if (status == MQB_OK && total > 0 && (exec->partials = mqb_allocate_raw(total)) == NULL)
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the gradients of the weights (%zu bytes)", total);
    for (int i = 0; i < count && status == MQB_OK; i++)
        if (buffers[i].offset != NULL)
            exec->nodes[exec->steps[i / MQB_MAX_INPUTS].nodes[0]].partial[i % MQB_MAX_INPUTS] =
                (float *)(void *)(exec->partials + offsets[i]);
    exec->memory += total;
    mqb_deallocate(buffers);
    mqb_deallocate(offsets);
    return status;
}

static mqb_status allocate_whole(struct mqb_exec *exec, float **data, int64_t size, struct mqb_error *error)
{
    size_t count = (size_t)exec->num_grains * (size_t)exec->grain_images * (size_t)size;
    *data = mqb_allocate_array(count, sizeof(float));
    exec->memory += count * sizeof(float);
    return *data != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for activations (%zu bytes)", count * sizeof(float));
}

mqb_status mqb_plan_buffers(struct mqb_exec *exec, struct mqb_error *error)
{
    struct mqb_graph *graph = exec->config.graph;
    int num_values = graph->num_values, count = 2 * num_values + exec->num_steps;
    mqb_status status = MQB_OK;
    /* Behind the arena's buffers those of the spare. */
    struct buffer *buffers = mqb_allocate_array((size_t)(count + num_values) + 1, sizeof *buffers);
    bool *inside = mqb_allocate_array((size_t)num_values + 1, sizeof *inside); /* inner values of chains: never in memory */
    if (buffers == NULL || inside == NULL) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
        goto out;
    }
    for (int i = 0; i < count; i++)
        buffers[i] = (struct buffer){-1, -1, 0, NULL, NULL};
    find_lifetimes(exec, buffers);
    for (int i = 0; i < num_values; i++)
        buffers[count + i] = (struct buffer){buffers[i].first, buffers[i].last, 0, NULL, NULL};
    for (int s = 0; s < exec->num_steps; s++)
        for (int k = 0; k + 1 < exec->steps[s].num_nodes; k++)
            inside[plan_node(exec, exec->steps[s].nodes[k])->output] = true;
    for (int i = 0; i < num_values && status == MQB_OK; i++) {
        struct value_state *v = &exec->values[i];
        if (graph->values[i].dead || inside[i] || !graph->values[i].batched)
            continue;
        size_t bytes = plan_align((size_t)exec->grain_images * (size_t)v->size * sizeof(float));
        if (i != graph->input && plan_is_kept(exec, i)) {
            v->place = PLACE_WHOLE;
            v->owned = true;
            status = allocate_whole(exec, &v->whole, v->size, error);
        } else if (v->point != NULL) {
            v->place = PLACE_SPARE;
            buffers[i].size = plan_align((size_t)exec->grain_images * (size_t)v->size);
            buffers[i].offset = &v->codes_offset;
            buffers[count + i].size = bytes;
            buffers[count + i].offset = &v->offset;
        } else if (i != graph->input) {
            v->place = PLACE_ARENA;
            buffers[i].size = bytes;
            buffers[i].offset = &v->offset;
        }
        if (status != MQB_OK || !exec->config.gradients || !v->wants_gradient)
            continue;
        if (i == graph->output) {
            v->gradient_place = PLACE_WHOLE;
            status = allocate_whole(exec, &v->gradient, v->size, error);
        } else {
            v->gradient_place = PLACE_ARENA;
            buffers[num_values + i].size = bytes;
            buffers[num_values + i].offset = &v->gradient_offset;
        }
    }
    for (int s = 0; s < exec->num_steps; s++) {
        struct buffer *head = &buffers[2 * num_values + s];
        if (head->first < 0)
            continue;
        head->size = plan_align((size_t)exec->grain_images * (size_t)exec->values[exec->steps[s].out].size * sizeof(float));
        head->offset = &exec->steps[s].head_gradient;
    }
    share_gradients(exec, buffers + num_values);
    if (status == MQB_OK)
        status = place_buffers(buffers, count, &exec->arena_size, error);
    if (status == MQB_OK)
        status = place_buffers(buffers + count, num_values, &exec->spare_size, error);
    if (status != MQB_OK)
        goto out;

    /* With one stage a worker takes a grain through the whole network: the workers' arenas suffice. */
    exec->arena_by_worker = exec->num_stages == 1;
    int threads = mqb_pool_num_threads(exec->config.pool);
    exec->num_arenas = exec->arena_by_worker ? threads : exec->num_grains;
    exec->arena_size = plan_align(exec->arena_size) + PLAN_ALIGN;
    exec->scratch_size = plan_align(exec->scratch_size) + PLAN_ALIGN;
    exec->arena = mqb_allocate_array((size_t)exec->num_arenas, exec->arena_size);
    exec->scratch = mqb_allocate_array((size_t)threads, exec->scratch_size);
    if (exec->spare_size > 0)
        exec->spare = mqb_reserve_array((size_t)exec->num_arenas, exec->spare_size);
    exec->memory += (size_t)exec->num_arenas * exec->arena_size + (size_t)threads * exec->scratch_size;
    if (exec->arena == NULL || exec->scratch == NULL || (exec->spare_size > 0 && exec->spare == NULL)) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for activations (%zu bytes); try a smaller --batch",
                          (size_t)exec->num_arenas * exec->arena_size);
        goto out;
    }
    for (int i = 0; i < graph->num_ordered; i++) {
        struct node_state *state = &exec->nodes[graph->order[i]];
        size_t grains = (size_t)exec->num_grains;
        if (state->sums_size > 0)
            state->sums = mqb_allocate_array(grains * state->sums_size, sizeof(double));
        if (state->backward_sums_size > 0)
            state->backward_sums = mqb_allocate_array(grains * state->backward_sums_size, sizeof(double));
        if ((state->sums_size > 0 && state->sums == NULL) || (state->backward_sums_size > 0 && state->backward_sums == NULL)) {
            status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for batch statistics");
            goto out;
        }
    }
    if (exec->config.gradients)
        for (int i = 0; i < num_values && status == MQB_OK; i++) {
            struct value_state *v = &exec->values[i];
            if (graph->values[i].dead || v->place != PLACE_FIXED || !v->wants_gradient)
                continue;
            v->gradient_place = PLACE_FIXED;
            v->gradient = mqb_allocate_array((size_t)v->size, sizeof(float));
            exec->memory += (size_t)v->size * sizeof(float);
            if (v->gradient == NULL)
                status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the gradient of \"%s\"", graph->values[i].name);
        }
out:
    mqb_deallocate(inside);
    mqb_deallocate(buffers);
    return status;
}
