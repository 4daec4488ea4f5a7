/* optimizer.c - SGD with momentum over one list of parameters, a fixed cut of each into tasks. */
#include "train/train.h"
#include <mqbench/plugin.h>

#include <string.h>

#define CHUNK 16384

struct slot {
    const char *name; /* owned */
    float *value, *grad, *velocity;
    int64_t size;
    float lr, weight_decay; /* multiplier; absolute */
};

struct chunk {
    int slot;
    int64_t first, count;
};

struct mqb_optimizer {
    struct slot *slots;
    int num_slots;
    struct chunk *chunks;
    int num_chunks;
    struct mqb_pool *pool;
    float momentum;
    bool nesterov;
    float lr; /* of the step that runs */
};

MQB_MULTIVERSION
static void update_floats(float *restrict w, float *restrict v, const float *restrict grad, int64_t n, float lr, float wd,
                          float momentum, bool nesterov)
{
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] + wd * w[i];
        v[i] = momentum * v[i] + g;
        w[i] -= lr * (nesterov ? g + momentum * v[i] : v[i]);
    }
}

static void update(void *context, int index, int worker)
{
    (void)worker;
    const struct mqb_optimizer *optimizer = context;
    const struct chunk *chunk = &optimizer->chunks[index];
    const struct slot *slot = &optimizer->slots[chunk->slot];
    update_floats(slot->value + chunk->first, slot->velocity + chunk->first, slot->grad + chunk->first, chunk->count,
                  optimizer->lr * slot->lr, slot->weight_decay, optimizer->momentum, optimizer->nesterov);
}

void mqb_optimizer_step(struct mqb_optimizer *optimizer, double lr)
{
    optimizer->lr = (float)lr;
    mqb_pool_run(optimizer->pool, optimizer->num_chunks, update, optimizer);
}

static mqb_status add_slot(struct mqb_optimizer *optimizer, const char *name, float *value, float *grad, int64_t size, double lr,
                           double weight_decay, struct mqb_error *error)
{
    struct slot *slot = &optimizer->slots[optimizer->num_slots++];
    *slot = (struct slot){mqb_strdup(name), value, grad, mqb_allocate_array((size_t)size, sizeof(float)), size, (float)lr,
                          (float)weight_decay};
    if (slot->name == NULL || slot->velocity == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the momentum of \"%s\"", name);
    return MQB_OK;
}

/* Weight decay is for weights; whether vectors (gamma, beta, biases) take part is the recipe's choice. */
static mqb_status add_network(struct mqb_optimizer *optimizer, struct mqb_graph *graph, struct mqb_exec *exec,
                              const struct mqb_recipe *recipe, struct mqb_error *error)
{
    for (int i = 0; i < graph->num_values; i++) {
        const struct mqb_value *value = &graph->values[i];
        float *grad = value->dead || value->kind != MQB_VALUE_PARAM ? NULL : mqb_exec_gradient(exec, i);
        if (grad == NULL)
            continue;
        double decay = value->rank >= 2 || recipe->decay_norm ? recipe->weight_decay : 0.0;
        mqb_status status = add_slot(optimizer, value->name, value->data, grad, mqb_value_size(value), 1.0, decay, error);
        if (status != MQB_OK)
            return status;
    }
    return MQB_OK;
}

static mqb_status add_points(struct mqb_optimizer *optimizer, struct mqb_points *points, const struct mqb_recipe *recipe,
                             struct mqb_error *error)
{
    for (int i = 0; points != NULL && i < points->num_points; i++) {
        struct mqb_point *point = points->points[i];
        for (uint32_t k = 0; point->quantizer->param != NULL; k++) {
            struct mqb_param param = {.struct_size = sizeof param};
            if (point->quantizer->param(point->self, k, &param) != MQB_OK)
                break;
            char *name = mqb_format("%s/%s", point->name, param.name);
            mqb_status status = name == NULL ? mqb_fail(error, MQB_ERR_MEMORY, "no memory for the optimizer")
                                             : add_slot(optimizer, name, param.value, param.grad, param.num_elements,
                                                        recipe->quantizer_lr * param.lr_multiplier,
                                                        recipe->weight_decay * param.weight_decay_multiplier, error);
            mqb_deallocate(name);
            if (status != MQB_OK)
                return status;
        }
    }
    return MQB_OK;
}

static int count_slots(const struct mqb_graph *graph, const struct mqb_points *points)
{
    int count = graph->num_values;
    for (int i = 0; points != NULL && i < points->num_points; i++) {
        struct mqb_param param = {.struct_size = sizeof param};
        const struct mqb_point *point = points->points[i];
        for (uint32_t k = 0; point->quantizer->param != NULL && point->quantizer->param(point->self, k, &param) == MQB_OK; k++)
            count++;
    }
    return count;
}

mqb_status mqb_optimizer_create(struct mqb_graph *graph, struct mqb_exec *exec, struct mqb_points *points, struct mqb_pool *pool,
                                const struct mqb_recipe *recipe, struct mqb_optimizer **result, struct mqb_error *error)
{
    mqb_status status = MQB_OK;
    struct mqb_optimizer *optimizer = mqb_allocate(sizeof *optimizer);
    if (optimizer == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for the optimizer");
    optimizer->pool = pool;
    optimizer->momentum = (float)recipe->momentum;
    optimizer->nesterov = recipe->nesterov;
    optimizer->slots = mqb_allocate_array((size_t)count_slots(graph, points) + 1, sizeof *optimizer->slots);
    if (optimizer->slots == NULL) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the optimizer");
        goto out;
    }
    if ((status = add_network(optimizer, graph, exec, recipe, error)) != MQB_OK ||
        (status = add_points(optimizer, points, recipe, error)) != MQB_OK)
        goto out;
    size_t num_chunks = 0;
    for (int i = 0; i < optimizer->num_slots; i++)
        num_chunks += (size_t)((optimizer->slots[i].size + CHUNK - 1) / CHUNK);
    optimizer->chunks = mqb_allocate_array(num_chunks + 1, sizeof *optimizer->chunks);
    if (optimizer->chunks == NULL) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for the optimizer");
        goto out;
    }
    for (int i = 0; i < optimizer->num_slots; i++)
        for (int64_t first = 0; first < optimizer->slots[i].size; first += CHUNK) {
            int64_t left = optimizer->slots[i].size - first;
            optimizer->chunks[optimizer->num_chunks++] = (struct chunk){i, first, left < CHUNK ? left : CHUNK};
        }
out:
    if (status != MQB_OK) {
        mqb_optimizer_destroy(optimizer);
        return status;
    }
    *result = optimizer;
    return MQB_OK;
}

void mqb_optimizer_destroy(struct mqb_optimizer *optimizer)
{
    if (optimizer == NULL)
        return;
    for (int i = 0; i < optimizer->num_slots; i++) {
        mqb_deallocate((char *)(uintptr_t)optimizer->slots[i].name);
        mqb_deallocate(optimizer->slots[i].velocity);
    }
    mqb_deallocate(optimizer->slots);
    mqb_deallocate(optimizer->chunks);
    mqb_deallocate(optimizer);
}

int mqb_optimizer_num_params(const struct mqb_optimizer *optimizer)
{
    return optimizer->num_slots;
}

void mqb_optimizer_param(const struct mqb_optimizer *optimizer, int index, const char **name, float **value, float **velocity,
                         int64_t *size)
{
    const struct slot *slot = &optimizer->slots[index];
    *name = slot->name;
    *value = slot->value;
    *velocity = slot->velocity;
    *size = slot->size;
}
