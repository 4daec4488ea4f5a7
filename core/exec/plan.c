/* plan.c - from a graph to steps, stages and buffers. */
#include "exec/plan.h"

#include <string.h>

#define MAX_GRAINS 16
#define MIN_TRAINING_GRAINS 4
#define PARTIALS_LIMIT ((size_t)128 << 20) /* bytes of weight-gradient partials above which grains get larger */
#define BLOCK_FLOATS 2048                  /* of a chain's block: input, output and intermediates stay in L1 */
#define ALIGN 64

static size_t align_up(size_t size)
{
    return (size + ALIGN - 1) / ALIGN * ALIGN;
}

static struct mqb_value *value_of(const struct mqb_exec *exec, mqb_value_id id)
{
    return &exec->config.graph->values[id];
}

static struct mqb_node *node_of(const struct mqb_exec *exec, mqb_node_id id)
{
    return &exec->config.graph->nodes[id];
}

static bool is_kept(const struct mqb_exec *exec, mqb_value_id id)
{
    if (id == exec->config.graph->output)
        return true;
    for (int i = 0; i < exec->config.num_keep; i++)
        if (exec->config.keep[i] == id)
            return true;
    return false;
}

/* The number of grains depends on the network and the batch alone, never on threads. */
static void choose_grains(struct mqb_exec *exec)
{
    const struct mqb_graph *graph = exec->config.graph;
    int batch = exec->config.batch, grains = batch < MAX_GRAINS ? batch : MAX_GRAINS;
    if (exec->config.gradients) {
        size_t weights = 0;
        for (int i = 0; i < graph->num_values; i++)
            if (!graph->values[i].dead && graph->values[i].kind == MQB_VALUE_PARAM)
                weights += (size_t)mqb_value_size(&graph->values[i]) * sizeof(float);
        while (grains / 2 >= MIN_TRAINING_GRAINS && (size_t)grains * weights > PARTIALS_LIMIT)
            grains /= 2;
    }
    exec->grain_images = (batch + grains - 1) / grains;
    exec->num_grains = (batch + exec->grain_images - 1) / exec->grain_images;
}

int mqb_grain_images(const struct mqb_exec *exec, int grain)
{
    int left = exec->n - grain * exec->grain_images;
    return left < exec->grain_images ? left : exec->grain_images;
}

/* ---- nodes ---- */

static bool is_pointwise(const struct mqb_exec *exec, const struct mqb_node *node)
{
    const struct mqb_value *out = value_of(exec, node->output);
    if (node->op->forward_block == NULL || !out->batched)
        return false;
    for (int i = 0; i < node->num_inputs; i++) {
        if (node->inputs[i] == MQB_NONE || !value_of(exec, node->inputs[i])->batched)
            continue;
        const struct mqb_value *in = value_of(exec, node->inputs[i]);
        if (in->rank != out->rank || memcmp(in->dims, out->dims, (size_t)out->rank * sizeof out->dims[0]) != 0)
            return node->op->forward == NULL;
    }
    return true;
}

static mqb_status create_nodes(struct mqb_exec *exec, struct mqb_error *error)
{
    struct mqb_graph *graph = exec->config.graph;
    for (int i = 0; i < graph->num_values; i++) {
        struct value_state *v = &exec->values[i];
        const struct mqb_value *value = &graph->values[i];
        if (value->dead)
            continue;
        v->size = mqb_value_size(value);
        if (i == graph->input) {
            v->place = PLACE_INPUT;
        } else if (value->kind != MQB_VALUE_RESULT) {
            v->place = PLACE_FIXED;
            v->whole = value->data;
            v->wants_gradient = value->kind == MQB_VALUE_PARAM;
        } else if (!value->batched) {
            v->place = PLACE_FIXED;
            v->owned = true;
            v->whole = mqb_allocate_array((size_t)v->size, sizeof(float));
            if (v->whole == NULL)
                return mqb_fail(error, MQB_ERR_MEMORY, "no memory for tensor \"%s\"", value->name);
            exec->memory += (size_t)v->size * sizeof(float);
        }
    }
    for (int i = 0; i < graph->num_ordered; i++) {
        mqb_node_id id = graph->order[i];
        struct mqb_node *node = &graph->nodes[id];
        struct node_state *state = &exec->nodes[id];
        bool wants = node->op->backward_reduce_size != NULL; /* a quantizer or a batch norm may learn */
        for (int k = 0; k < node->num_inputs; k++) {
            if (node->inputs[k] == MQB_NONE)
                continue;
            const struct value_state *in = &exec->values[node->inputs[k]];
            if (in->place == PLACE_FIXED)
                state->fixed[k] = in->whole;
            wants |= in->wants_gradient;
        }
        exec->values[node->output].wants_gradient = wants;
        state->pointwise = is_pointwise(exec, node);
        state->context = (struct mqb_op_context){
            .graph = graph, .node = node, .id = id, .host = exec->config.host, .compute = exec->config.compute, .pool = exec->config.pool,
            .max_images = exec->grain_images, .batch = exec->config.batch, .training = exec->config.training,
            .gradients = exec->config.gradients, .fixed = state->fixed,
        };
        size_t scratch = 0;
        if (node->op->create != NULL) {
            mqb_status status = node->op->create(&state->context, &scratch, error);
            if (status != MQB_OK)
                return mqb_fail_prefix(error, status, "layer \"%s\" (%s)", node->name, node->op->name);
        }
        state->created = true;
        if (scratch > exec->scratch_size)
            exec->scratch_size = scratch;
        if (!value_of(exec, node->output)->batched)
            continue;
        state->sums_size = node->op->reduce_size != NULL ? node->op->reduce_size(&state->context) : 0;
        if (exec->config.gradients && node->op->backward_reduce_size != NULL)
            state->backward_sums_size = node->op->backward_reduce_size(&state->context);
    }
    return MQB_OK;
}

/* ---- steps ---- */

static int batched_input_count(const struct mqb_exec *exec, const struct mqb_node *node)
{
    int count = 0;
    for (int i = 0; i < node->num_inputs; i++)
        count += node->inputs[i] != MQB_NONE && value_of(exec, node->inputs[i])->batched;
    return count;
}

/* Can `node` continue a chain whose running value is `value`? */
static bool extends(const struct mqb_exec *exec, mqb_node_id id, mqb_value_id value)
{
    const struct mqb_graph_api *api = &mqb_graph_calls;
    return exec->nodes[id].pointwise && exec->nodes[id].sums_size == 0 && !is_kept(exec, value) &&
           api->num_consumers(exec->config.graph, value) == 1;
}

static void describe_chain(struct mqb_exec *exec, struct step *step)
{
    const struct mqb_value *out = value_of(exec, step->out);
    step->channels = (int32_t)(out->rank >= 2 ? out->dims[1] : 1);
    step->rows_per_image = exec->values[step->out].size / step->channels;
    step->block_rows = BLOCK_FLOATS / step->channels;
    if (step->block_rows < 1)
        step->block_rows = 1;
    size_t blocks = (size_t)step->num_nodes + 2; /* inputs of every node, gradient, side */
    size_t scratch = blocks * align_up((size_t)step->block_rows * (size_t)step->channels * sizeof(float));
    if (scratch > exec->scratch_size)
        exec->scratch_size = scratch;
}

static mqb_status create_steps(struct mqb_exec *exec, struct mqb_error *error)
{
    struct mqb_graph *graph = exec->config.graph;
    exec->steps = mqb_allocate_array((size_t)graph->num_ordered + 1, sizeof *exec->steps);
    int32_t *chain_of = mqb_allocate_array((size_t)graph->num_values + 1, sizeof *chain_of); /* 1 + open chain that ends in a value */
    if (exec->steps == NULL || chain_of == NULL) {
        mqb_deallocate(chain_of);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
    }
    /* Chains are collected under the position of their last node: by then all side inputs exist. */
    struct step *pending = mqb_allocate_array((size_t)graph->num_ordered + 1, sizeof *pending);
    int num_pending = 0;
    if (pending == NULL) {
        mqb_deallocate(chain_of);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
    }
    for (int i = 0; i < graph->num_ordered; i++) {
        mqb_node_id id = graph->order[i];
        const struct mqb_node *node = &graph->nodes[id];
        if (!value_of(exec, node->output)->batched)
            continue;
        struct step *step = NULL;
        if (exec->nodes[id].pointwise) {
            int inputs = batched_input_count(exec, node);
            for (int k = 0; k < inputs && step == NULL; k++) {
                int32_t chain = chain_of[node->inputs[k]];
                if (chain != 0 && pending[chain - 1].num_nodes < MQB_MAX_CHAIN && extends(exec, id, node->inputs[k])) {
                    step = &pending[chain - 1];
                    step->running[step->num_nodes] = (int8_t)k;
                }
            }
            if (step == NULL) {
                step = &pending[num_pending++];
                step->chain = true;
                step->in = node->inputs[0];
            }
            step->nodes[step->num_nodes++] = id;
            step->out = node->output;
            chain_of[node->output] = (int32_t)(step - pending) + 1;
        } else {
            step = &pending[num_pending++];
            step->nodes[step->num_nodes++] = id;
            step->out = node->output;
        }
    }
    for (int i = 0; i < graph->num_ordered; i++)
        for (int k = 0; k < num_pending; k++) /* quadratic, but once, and over a few hundred steps */
            if (pending[k].nodes[pending[k].num_nodes - 1] == graph->order[i]) {
                exec->steps[exec->num_steps] = pending[k];
                if (pending[k].chain)
                    describe_chain(exec, &exec->steps[exec->num_steps]);
                exec->num_steps++;
                break;
            }
    mqb_deallocate(pending);
    mqb_deallocate(chain_of);
    return MQB_OK;
}

/* ---- stages ---- */

static void add_action(struct mqb_exec *exec, enum action_kind kind, int step)
{
    exec->actions[exec->num_actions++] = (struct action){kind, step};
    exec->stages[exec->num_stages].num_actions++;
}

static void add_finish(struct mqb_exec *exec, mqb_node_id node)
{
    struct stage *stage = &exec->stages[exec->num_stages];
    if (stage->finish == NULL)
        stage->finish = exec->finish_pool + exec->finish_used;
    stage->finish[stage->num_finish++] = node;
    exec->finish_used++;
}

static void close_stage(struct mqb_exec *exec)
{
    if (exec->stages[exec->num_stages].num_actions == 0)
        return;
    exec->num_stages++;
    exec->stages[exec->num_stages] = (struct stage){.first_action = exec->num_actions};
}

static bool head_needs_finish(const struct mqb_exec *exec, const struct step *step)
{
    const struct node_state *head = &exec->nodes[step->nodes[0]];
    return step->chain && head->context.training && head->context.node->op->backward_needs_finish;
}

static mqb_status create_stages(struct mqb_exec *exec, struct mqb_error *error)
{
    size_t steps = (size_t)exec->num_steps;
    exec->actions = mqb_allocate_array(4 * steps + 4, sizeof *exec->actions);
    exec->stages = mqb_allocate_array(4 * steps + 4, sizeof *exec->stages);
    exec->finish_pool = mqb_allocate_array(2 * (size_t)exec->config.graph->num_nodes + 2, sizeof *exec->finish_pool);
    if (exec->actions == NULL || exec->stages == NULL || exec->finish_pool == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
    for (int s = 0; s < exec->num_steps; s++) {
        mqb_node_id head = exec->steps[s].nodes[0];
        if (exec->nodes[head].sums_size > 0) {
            add_action(exec, ACTION_REDUCE, s);
            add_finish(exec, head);
            close_stage(exec);
        }
        add_action(exec, ACTION_RUN, s);
    }
    close_stage(exec);
    exec->num_forward_stages = exec->num_stages;
    if (!exec->config.gradients)
        return MQB_OK;
    for (int s = exec->num_steps - 1; s >= 0; s--) {
        const struct step *step = &exec->steps[s];
        if (!exec->values[step->out].wants_gradient)
            continue;
        bool split = head_needs_finish(exec, step);
        add_action(exec, split ? ACTION_BACKWARD_REDUCE : ACTION_BACKWARD, s);
        for (int k = step->num_nodes - 1; k >= 0; k--)
            if (exec->nodes[step->nodes[k]].backward_sums_size > 0)
                add_finish(exec, step->nodes[k]);
        if (split) {
            close_stage(exec);
            add_action(exec, ACTION_BACKWARD_APPLY, s);
        }
    }
    close_stage(exec);
    return MQB_OK;
}

/* ---- gradients: who writes, who adds ---- */

static int8_t gradient_write(struct mqb_exec *exec, bool *started, mqb_value_id id)
{
    if (id == MQB_NONE || !value_of(exec, id)->batched || !exec->values[id].wants_gradient)
        return 0;
    int8_t how = started[id] ? 2 : 1;
    started[id] = true;
    return how;
}

static mqb_status plan_gradients(struct mqb_exec *exec, struct mqb_error *error)
{
    bool *started = mqb_allocate_array((size_t)exec->config.graph->num_values + 1, sizeof *started);
    if (started == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
    for (int s = exec->num_steps - 1; s >= 0; s--) {
        struct step *step = &exec->steps[s];
        if (!exec->values[step->out].wants_gradient)
            continue;
        for (int k = step->num_nodes - 1; k >= 0; k--) {
            struct mqb_node *node = node_of(exec, step->nodes[k]);
            struct node_state *state = &exec->nodes[step->nodes[k]];
            if (step->chain) {
                if (batched_input_count(exec, node) > 1)
                    step->writes_side[k] = gradient_write(exec, started, node->inputs[1 - step->running[k]]);
                continue;
            }
            for (int i = 0; i < node->num_inputs; i++) {
                mqb_value_id in = node->inputs[i];
                step->writes_input[i] = gradient_write(exec, started, in);
                if (in == MQB_NONE || value_of(exec, in)->batched || !exec->values[in].wants_gradient)
                    continue;
                state->partial[i] = mqb_allocate_array((size_t)exec->num_grains * (size_t)exec->values[in].size, sizeof(float));
                if (state->partial[i] == NULL) {
                    mqb_deallocate(started);
                    return mqb_fail(error, MQB_ERR_MEMORY, "layer \"%s\": no memory for its weight gradients", node->name);
                }
                exec->memory += (size_t)exec->num_grains * (size_t)exec->values[in].size * sizeof(float);
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
            const struct mqb_node *node = node_of(exec, step->nodes[k]);
            for (int i = 0; i < node->num_inputs; i++) {
                mqb_value_id in = node->inputs[i];
                if (in == MQB_NONE || !value_of(exec, in)->batched)
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

static bool overlaps(const struct buffer *a, const struct buffer *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* Largest first, each at the lowest offset that is free during its life. */
static mqb_status place_buffers(struct mqb_exec *exec, struct buffer *buffers, int count, struct mqb_error *error)
{
    int *order = mqb_allocate_array((size_t)count + 1, sizeof *order);
    if (order == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
    int used = 0;
    for (int i = 0; i < count; i++) {
        if (buffers[i].first < 0 || buffers[i].offset == NULL)
            continue;
        int at = used++;
        for (; at > 0 && buffers[order[at - 1]].size < buffers[i].size; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    for (int i = 0; i < used; i++) {
        struct buffer *buffer = &buffers[order[i]];
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
        if (offset + buffer->size > exec->arena_size)
            exec->arena_size = offset + buffer->size;
    }
    mqb_deallocate(order);
    return MQB_OK;
}

static mqb_status allocate_whole(struct mqb_exec *exec, float **data, int64_t size, struct mqb_error *error)
{
    size_t count = (size_t)exec->num_grains * (size_t)exec->grain_images * (size_t)size;
    *data = mqb_allocate_array(count, sizeof(float));
    exec->memory += count * sizeof(float);
    return *data != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for activations (%zu bytes)", count * sizeof(float));
}

static mqb_status create_buffers(struct mqb_exec *exec, struct mqb_error *error)
{
    struct mqb_graph *graph = exec->config.graph;
    int num_values = graph->num_values, count = 2 * num_values + exec->num_steps;
    mqb_status status = MQB_OK;
    struct buffer *buffers = mqb_allocate_array((size_t)count + 1, sizeof *buffers);
    bool *inside = mqb_allocate_array((size_t)num_values + 1, sizeof *inside); /* inner values of chains: never in memory */
    if (buffers == NULL || inside == NULL) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
        goto out;
    }
    for (int i = 0; i < count; i++)
        buffers[i] = (struct buffer){-1, -1, 0, NULL};
    find_lifetimes(exec, buffers);
    for (int s = 0; s < exec->num_steps; s++)
        for (int k = 0; k + 1 < exec->steps[s].num_nodes; k++)
            inside[node_of(exec, exec->steps[s].nodes[k])->output] = true;
    for (int i = 0; i < num_values && status == MQB_OK; i++) {
        struct value_state *v = &exec->values[i];
        if (graph->values[i].dead || inside[i] || !graph->values[i].batched)
            continue;
        size_t bytes = align_up((size_t)exec->grain_images * (size_t)v->size * sizeof(float));
        if (i != graph->input && is_kept(exec, i)) {
            v->place = PLACE_WHOLE;
            v->owned = true;
            status = allocate_whole(exec, &v->whole, v->size, error);
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
        head->size = align_up((size_t)exec->grain_images * (size_t)exec->values[exec->steps[s].out].size * sizeof(float));
        head->offset = &exec->steps[s].head_gradient;
    }
    if (status == MQB_OK)
        status = place_buffers(exec, buffers, count, error);
    if (status != MQB_OK)
        goto out;

    /* With one stage a worker takes a grain through the whole network: the workers' arenas suffice. */
    exec->arena_by_worker = exec->num_stages == 1;
    int threads = mqb_pool_num_threads(exec->config.pool);
    exec->num_arenas = exec->arena_by_worker ? threads : exec->num_grains;
    exec->arena_size = align_up(exec->arena_size) + ALIGN;
    exec->scratch_size = align_up(exec->scratch_size) + ALIGN;
    exec->arena = mqb_allocate_array((size_t)exec->num_arenas, exec->arena_size);
    exec->scratch = mqb_allocate_array((size_t)threads, exec->scratch_size);
    exec->memory += (size_t)exec->num_arenas * exec->arena_size + (size_t)threads * exec->scratch_size;
    if (exec->arena == NULL || exec->scratch == NULL) {
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

/* The sums over grains that end a backward pass, cut into tasks by value, so that a shared weight has one writer. */
static mqb_status create_sums(struct mqb_exec *exec, struct mqb_error *error)
{
    const struct mqb_graph *graph = exec->config.graph;
    for (int pass = 0; pass < 2; pass++) {
        int count = 0;
        for (int i = 0; i < graph->num_values; i++) {
            if (exec->values[i].gradient_place != PLACE_FIXED || graph->values[i].dead)
                continue;
            for (int64_t first = 0; first < exec->values[i].size; first += SUM_CHUNK, count++)
                if (pass == 1)
                    exec->sum_tasks[count] = (struct sum_task){i, first};
        }
        if (pass == 0) {
            exec->num_sum_tasks = count;
            exec->sum_tasks = mqb_allocate_array((size_t)count + 1, sizeof *exec->sum_tasks);
            if (exec->sum_tasks == NULL)
                return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
        }
    }
    return MQB_OK;
}

mqb_status mqb_exec_create(const struct mqb_exec_config *config, struct mqb_exec **result, struct mqb_error *error)
{
    if (config->batch < 1)
        return mqb_fail(error, MQB_ERR_ARGUMENT, "a batch of %d images was asked for; expected at least 1", config->batch);
    struct mqb_exec *exec = mqb_allocate(sizeof *exec);
    if (exec == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
    exec->config = *config;
    choose_grains(exec);
    mqb_status status = MQB_OK;
    exec->nodes = mqb_allocate_array((size_t)config->graph->num_nodes + 1, sizeof *exec->nodes);
    exec->values = mqb_allocate_array((size_t)config->graph->num_values + 1, sizeof *exec->values);
    if (exec->nodes == NULL || exec->values == NULL) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
        goto out;
    }
    if ((status = create_nodes(exec, error)) != MQB_OK || (status = create_steps(exec, error)) != MQB_OK ||
        (status = create_stages(exec, error)) != MQB_OK)
        goto out;
    if (config->gradients && (status = plan_gradients(exec, error)) != MQB_OK)
        goto out;
    if ((status = create_buffers(exec, error)) != MQB_OK)
        goto out;
    if (config->gradients)
        status = create_sums(exec, error);
    exec->errors = mqb_allocate_array((size_t)config->graph->num_ordered + 1, sizeof *exec->errors);
    exec->losses = mqb_allocate_array((size_t)config->batch, 2 * sizeof(double));
    if (status == MQB_OK && (exec->errors == NULL || exec->losses == NULL))
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
out:
    if (status != MQB_OK) {
        mqb_exec_destroy(exec);
        return status;
    }
    *result = exec;
    return MQB_OK;
}

void mqb_exec_destroy(struct mqb_exec *exec)
{
    if (exec == NULL)
        return;
    const struct mqb_graph *graph = exec->config.graph;
    for (int i = 0; exec->nodes != NULL && i < graph->num_nodes; i++) {
        struct node_state *state = &exec->nodes[i];
        if (state->created && state->context.node->op->destroy != NULL)
            state->context.node->op->destroy(&state->context);
        for (int k = 0; k < MQB_MAX_INPUTS; k++)
            mqb_deallocate(state->partial[k]);
        mqb_deallocate(state->sums);
        mqb_deallocate(state->backward_sums);
    }
    for (int i = 0; exec->values != NULL && i < graph->num_values; i++) {
        if (exec->values[i].owned)
            mqb_deallocate(exec->values[i].whole);
        mqb_deallocate(exec->values[i].gradient);
    }
    mqb_deallocate(exec->nodes);
    mqb_deallocate(exec->values);
    mqb_deallocate(exec->steps);
    mqb_deallocate(exec->actions);
    mqb_deallocate(exec->stages);
    mqb_deallocate(exec->finish_pool);
    mqb_deallocate(exec->sum_tasks);
    mqb_deallocate(exec->errors);
    mqb_deallocate(exec->losses);
    mqb_deallocate(exec->arena);
    mqb_deallocate(exec->scratch);
    mqb_deallocate(exec);
}

size_t mqb_exec_memory(const struct mqb_exec *exec)
{
    return exec->memory;
}

int mqb_exec_num_grains(const struct mqb_exec *exec)
{
    return exec->num_grains;
}
