/* plan.c - from a graph to grains, steps and stages. */
#include "exec/times.h"

#include <string.h>

#define MAX_GRAINS 16
#define MIN_TRAINING_GRAINS 4
#define PARTIALS_LIMIT ((size_t)128 << 20) /* bytes of weight-gradient partials above which grains get larger */
#define BLOCK_FLOATS 2048                  /* of a chain's block: input, output and intermediates stay in L1 */
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
    const struct mqb_value *out = plan_value(exec, node->output);
    if (node->op->forward_block == NULL || !out->batched)
        return false;
    for (int i = 0; i < node->num_inputs; i++) {
        if (node->inputs[i] == MQB_NONE || !plan_value(exec, node->inputs[i])->batched)
            continue;
        const struct mqb_value *in = plan_value(exec, node->inputs[i]);
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
    mqb_plan_idle(exec);
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
        bool statistic = node->op->statistic && exec->config.training;
        exec->values[node->output].wants_gradient = wants && !state->idle && (statistic || !node->op->statistic);
        state->pointwise = is_pointwise(exec, node);
        state->context = (struct mqb_op_context){
            .graph = graph, .node = node, .id = id, .host = exec->config.host, .compute = exec->config.compute, .pool = exec->config.pool,
            .max_images = exec->grain_images, .batch = exec->config.batch, .training = exec->config.training,
            .gradients = exec->config.gradients, .fixed = state->fixed,
        };
        size_t scratch = 0;
        if (state->idle)
            continue;
        if (node->op->create != NULL) {
            mqb_status status = node->op->create(&state->context, &scratch, error);
            if (status != MQB_OK)
                return mqb_fail_prefix(error, status, "layer \"%s\" (%s)", node->name, node->op->name);
        }
        state->created = true;
        if (scratch > exec->scratch_size)
            exec->scratch_size = scratch;
        if (!plan_value(exec, node->output)->batched && !statistic)
            continue;
        state->sums_size = node->op->reduce_size != NULL ? node->op->reduce_size(&state->context) : 0;
        if (exec->config.gradients && node->op->backward_reduce_size != NULL)
            state->backward_sums_size = node->op->backward_reduce_size(&state->context);
    }
    return MQB_OK;
}

/* ---- steps ---- */

/* Can `node` continue a chain whose running value is `value`? */
static bool extends(const struct mqb_exec *exec, mqb_node_id id, mqb_value_id value)
{
    const struct mqb_graph_api *api = &mqb_graph_calls;
    return exec->nodes[id].pointwise && exec->nodes[id].sums_size == 0 && !plan_is_kept(exec, value) &&
           api->num_consumers(exec->config.graph, value) == 1;
}

static void describe_chain(struct mqb_exec *exec, struct step *step)
{
    const struct mqb_value *out = plan_value(exec, step->out);
    step->channels = (int32_t)(out->rank >= 2 ? out->dims[1] : 1);
    step->rows_per_image = exec->values[step->out].size / step->channels;
    step->block_rows = BLOCK_FLOATS / step->channels;
    if (step->block_rows < 1)
        step->block_rows = 1;
    size_t blocks = (size_t)step->num_nodes + 1; /* inputs of every node, gradient; and sides */
    for (int k = 0; k < step->num_nodes; k++)
        blocks += plan_batched_inputs(exec, plan_node(exec, step->nodes[k])) > 1;
    size_t scratch = (blocks < 2 ? 2 : blocks) * chain_block_floats(step) * sizeof(float);
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
        bool statistic = node->op->statistic && exec->config.training;
        if ((!plan_value(exec, node->output)->batched && !statistic) || exec->nodes[id].idle)
            continue;
        struct step *step = NULL;
        if (exec->nodes[id].pointwise) {
            int inputs = plan_batched_inputs(exec, node);
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
            step->statistic = statistic;
            step->in = node->inputs[0];
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
    mqb_plan_bands(exec);
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
    return step->chain && head->sums_size > 0 && head->context.node->op->backward_needs_finish;
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
            if (exec->steps[s].statistic)
                exec->nodes[head].late = exec->num_stages + 1;
            close_stage(exec);
        }
        if (!exec->steps[s].statistic)
            add_action(exec, ACTION_RUN, s);
    }
    close_stage(exec);
    exec->num_forward_stages = exec->num_stages;
    if (!exec->config.gradients)
        return MQB_OK;
    for (int s = exec->num_steps - 1; s >= 0; s--) {
        const struct step *step = &exec->steps[s];
        if (step->statistic) { /* its gradient is complete when the fixed nodes behind it have been walked back */
            close_stage(exec);
            if (exec->num_stages > exec->num_forward_stages)
                exec->stages[exec->nodes[step->nodes[0]].late - 1].mirror = exec->num_stages - 1;
        }
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
        (status = create_stages(exec, error)) != MQB_OK || (status = mqb_plan_coded(exec, error)) != MQB_OK)
        goto out;
    if (config->gradients && ((status = mqb_plan_gradients(exec, error)) != MQB_OK ||
                              (status = mqb_plan_partials(exec, error)) != MQB_OK))
        goto out;
    if ((status = mqb_plan_buffers(exec, error)) != MQB_OK)
        goto out;
    status = mqb_plan_barriers(exec, error);
    exec->errors = mqb_allocate_array((size_t)config->graph->num_ordered + 1, sizeof *exec->errors);
    exec->losses = mqb_allocate_array((size_t)config->batch, 2 * sizeof(double));
    if (status == MQB_OK && (exec->errors == NULL || exec->losses == NULL))
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the plan");
    if (status == MQB_OK && config->times)
        status = mqb_times_create(exec, error);
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
        mqb_deallocate(state->sums);
        mqb_deallocate(state->backward_sums);
    }
    for (int i = 0; exec->values != NULL && i < graph->num_values; i++) {
        if (exec->values[i].owned)
            mqb_deallocate(exec->values[i].whole);
        mqb_deallocate(exec->values[i].gradient);
        mqb_deallocate(exec->values[i].coded);
    }
    mqb_deallocate(exec->nodes);
    mqb_deallocate(exec->values);
    mqb_deallocate(exec->steps);
    mqb_deallocate(exec->actions);
    mqb_deallocate(exec->stages);
    mqb_deallocate(exec->finish_pool);
    mqb_deallocate(exec->partials);
    mqb_deallocate(exec->sum_tasks);
    mqb_deallocate(exec->fixed_nodes);
    mqb_deallocate(exec->errors);
    mqb_deallocate(exec->losses);
    mqb_deallocate(exec->arena);
    mqb_deallocate(exec->spare);
    mqb_deallocate(exec->scratch);
    mqb_times_destroy(exec->times);
    mqb_deallocate(exec);
}

size_t mqb_exec_memory(const struct mqb_exec *exec)
{
    return exec->memory;
}
