/* explain.c - a network under one backend, or an edge under all: passes are run, points and absences are read off the graph. */
#include "report/explain.h"
#include "report/prepare.h"

#include "graph/op.h"
#include "quant/placed.h"

#include <string.h>

/* What the networks of one explanation share. */
struct reading {
    const struct mqb_explain_config *config;
    struct mqb_session session;
    struct mqb_prepare words;
    struct mqb_graph *fp32;
};

static mqb_status no_memory(struct mqb_error *error)
{
    return mqb_fail(error, MQB_ERR_MEMORY, "no memory for an explanation");
}

/* ---- points ---- */

/* The operator whose result ends at a value: before a batch norm, a clamp. */
static const struct mqb_node *maker(const struct mqb_graph *graph, mqb_value_id value)
{
    static const char *const behind[] = {"BatchNormalization", "ScaleChannels", "Relu", "Clip"};
    const struct mqb_node *last = NULL;
    while (graph->values[value].producer != MQB_NONE) {
        const struct mqb_node *node = &graph->nodes[graph->values[value].producer];
        bool passes = false;
        for (size_t i = 0; i < sizeof behind / sizeof behind[0]; i++)
            passes |= strcmp(node->op->name, behind[i]) == 0;
        last = node;
        if (!passes)
            return node;
        value = node->inputs[0];
        if (graph->values[value].producer != MQB_NONE && mqb_placed_is_point(&graph->nodes[graph->values[value].producer]))
            return last;
    }
    return last;
}

/* The parameter of the model that a weight is made from. */
static const char *parameter_of(const struct mqb_graph *graph, mqb_value_id value)
{
    while (graph->values[value].producer != MQB_NONE)
        value = graph->nodes[graph->values[value].producer].inputs[0];
    return graph->values[value].name;
}

/* Is one operand of this addition the result of a layer that nobody stores? */
static bool adds_in_epilogue(const struct mqb_graph *graph, const struct mqb_node *node)
{
    for (int32_t i = 0; strcmp(node->op->name, "Add") == 0 && i < node->num_inputs; i++) {
        mqb_node_id from = graph->values[node->inputs[i]].producer;
        if (from == MQB_NONE || mqb_placed_is_point(&graph->nodes[from]) ||
            mqb_placed_source(graph, node->inputs[i]) != MQB_NONE)
            continue;
        const struct mqb_node *layer = maker(graph, node->inputs[i]);
        if (layer != NULL && mqb_placed_is_layer(layer))
            return true;
    }
    return false;
}

/* Where a tensor has several readers and this point one alone, that one. */
static const char *private_reader(const struct mqb_graph *graph, const struct mqb_node *point)
{
    const struct mqb_node *reader = NULL;
    int num_readers = 0;
    bool others = point->inputs[0] == graph->output;
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        const struct mqb_node *node = &graph->nodes[graph->order[i]];
        for (int32_t j = 0; j < node->num_inputs; j++) {
            others |= node->inputs[j] == point->inputs[0] && node != point;
            if (node->inputs[j] == point->output) {
                reader = node;
                num_readers++;
            }
        }
    }
    return others && num_readers == 1 ? reader->name : NULL;
}

static mqb_status read_point(const struct mqb_graph *graph, const struct mqb_node *node, const struct mqb_points_config *bits,
                             struct mqb_explained_point *point, struct mqb_error *error)
{
    mqb_value_id value = node->inputs[0];
    mqb_status status = mqb_points_scheme(graph, node, bits, &point->scheme, error);
    if (status != MQB_OK)
        return status;
    const struct mqb_node *from = maker(graph, value);
    bool weight = point->scheme.role == MQB_ROLE_WEIGHT;
    const char *kind = weight ? "weight" : from == NULL ? "input" : from->op->name, *reader = private_reader(graph, node);
    point->io = mqb_attr_i(node, "io", 0) != 0;
    point->tensor = mqb_strdup(graph->values[value].name);
    point->parameter = weight ? mqb_strdup(parameter_of(graph, value)) : NULL;
    point->reader = weight || reader == NULL ? NULL : mqb_strdup(reader);
    point->rule = mqb_strdup(mqb_attr_s(node, "rule", "the pass does not say"));
    point->kind = mqb_strdup(kind);
    point->arithmetic = mqb_explain_arithmetic(bits->rules, kind, from != NULL && adds_in_epilogue(graph, from));
    bool complete = point->tensor != NULL && point->rule != NULL && point->kind != NULL && point->arithmetic != NULL &&
                    (!weight || point->parameter != NULL) && (weight || reader == NULL || point->reader != NULL);
    return complete ? MQB_OK : no_memory(error);
}

/* A value of images, read by somebody, on which no point stands. */
static bool lacks_point(const struct mqb_graph *graph, mqb_value_id value)
{
    if (!graph->values[value].batched)
        return false;
    for (int32_t i = 0; i < graph->num_ordered; i++) {
        const struct mqb_node *node = &graph->nodes[graph->order[i]];
        if ((mqb_placed_is_point(node) && node->inputs[0] == value) || (node->output == value && mqb_placed_is_point(node)))
            return false;
    }
    return true;
}

static mqb_status read_graph(const struct mqb_graph *graph, const struct mqb_points_config *bits,
                             struct mqb_explained_network *network, struct mqb_error *error)
{
    size_t most = (size_t)graph->num_ordered + 2;
    network->points = mqb_allocate_array(most, sizeof *network->points);
    network->tensors = mqb_allocate_array(most, sizeof *network->tensors);
    if (network->points == NULL || network->tensors == NULL)
        return no_memory(error);
    mqb_status status = MQB_OK;
    for (int32_t i = -1; i < graph->num_ordered && status == MQB_OK; i++) {
        const struct mqb_node *node = i < 0 ? NULL : &graph->nodes[graph->order[i]];
        mqb_value_id value = node == NULL ? graph->input : node->output;
        if (node != NULL && mqb_placed_is_point(node))
            status = read_point(graph, node, bits, &network->points[network->num_points++], error);
        else if (lacks_point(graph, value)) {
            struct mqb_explained_tensor *tensor = &network->tensors[network->num_tensors++];
            *tensor = (struct mqb_explained_tensor){mqb_strdup(graph->values[value].name),
                                                    mqb_explain_absence(bits->rules, graph, value)};
            status = tensor->tensor != NULL && tensor->why != NULL ? MQB_OK : no_memory(error);
        }
    }
    return status;
}

/* ---- one backend ---- */

static mqb_status run_passes(const struct reading *reading, const struct mqb_backend_rules *rules,
                             struct mqb_explained_network *network, struct mqb_graph **placed, struct mqb_error *error)
{
    int num_passes = 0;
    while (rules->passes[num_passes] != NULL)
        num_passes++;
    network->passes = mqb_allocate_array((size_t)num_passes + 1, sizeof *network->passes);
    if (network->passes == NULL)
        return no_memory(error);
    mqb_status status = mqb_graph_clone(reading->fp32, placed, error);
    for (int i = 0; i < num_passes && status == MQB_OK; i++) {
        const struct mqb_entry *entry;
        status = mqb_registry_find(reading->session.registry, MQB_KIND_PASS, rules->passes[i], &entry, error);
        if (status == MQB_OK && (network->passes[network->num_passes++] = mqb_strdup(entry->id)) == NULL)
            status = no_memory(error);
        if (status == MQB_OK)
            status = mqb_prepare_pass(&reading->words, entry, network->bn_fold, placed, error);
    }
    return status;
}

/* Whether anything is known against running it in integers: the backend's own word, or what lowering refuses. The latter does
 * not concern one edge. */
static mqb_status find_refusal(const struct reading *reading, const struct mqb_graph *placed,
                               const struct mqb_points_config *bits, struct mqb_explained_network *network,
                               struct mqb_error *error)
{
    struct mqb_error reason = MQB_ERROR_INIT;
    mqb_status status = MQB_OK;
    const char *refusal = "";
    if (!bits->rules->deployable)
        refusal = bits->rules->reason != NULL ? bits->rules->reason : "the backend says so";
    else if (reading->config->edge == NULL && (status = mqb_program_rehearse(placed, bits, &reason)) != MQB_OK)
        refusal = reason.text;
    if (status != MQB_OK && status != MQB_ERR_UNSUPPORTED)
        return mqb_fail(error, status, "%s", reason.text);
    network->refusal = mqb_strdup(refusal);
    return network->refusal != NULL ? MQB_OK : no_memory(error);
}

static mqb_status read_network(const struct reading *reading, const char *id, struct mqb_explained_network *network,
                               struct mqb_error *error)
{
    const struct mqb_explain_config *config = reading->config;
    const struct mqb_entry *entry;
    struct mqb_options *options = NULL;
    struct mqb_backend_rules rules = {.struct_size = sizeof rules};
    struct mqb_graph *placed = NULL;
    struct mqb_points_config bits = {.host = mqb_host_table(),
                                     .rules = &rules,
                                     .weight_bits = config->weight_bits,
                                     .activation_bits = config->activation_bits,
                                     .io_bits = config->io_bits};
    network->backend = mqb_strdup(id);
    mqb_status status = mqb_prepare_backend(&reading->words, id, &entry, &options, &rules, error);
    if (status != MQB_OK)
        goto out;
    const struct mqb_backend *backend = entry->vtable;
    network->description = mqb_strdup(backend->description != NULL ? backend->description : "");
    network->profile = mqb_strdup(rules.deployable && rules.contract.profile != NULL ? rules.contract.profile : "");
    network->bn_fold = config->bn_fold_given ? config->bn_fold : rules.default_bn_fold;
    if (network->backend == NULL || network->description == NULL || network->profile == NULL) {
        status = no_memory(error);
        goto out;
    }
    if ((status = run_passes(reading, &rules, network, &placed, error)) == MQB_OK &&
        (status = read_graph(placed, &bits, network, error)) == MQB_OK)
        status = find_refusal(reading, placed, &bits, network, error);
out:
    mqb_graph_destroy(placed);
    mqb_options_destroy(options);
    return status;
}

/* ---- all of it ---- */

/* A --set key must begin with the id of a backend or a pass. */
static mqb_status check_settings(const struct reading *reading, struct mqb_error *error)
{
    static const enum mqb_kind kinds[] = {MQB_KIND_BACKEND, MQB_KIND_PASS};
    struct mqb_registry *registry = reading->session.registry;
    for (size_t i = 0; i < reading->config->num_set; i++) {
        const char *key = reading->config->set_keys[i], *names[64];
        size_t length = strcspn(key, "."), num_names = 0;
        bool found = false;
        for (size_t k = 0; k < 2; k++)
            for (size_t j = 0; j < mqb_registry_count(registry, kinds[k]) && num_names < 64; j++) {
                const char *id = mqb_registry_at(registry, kinds[k], j, false)->id;
                names[num_names++] = id;
                found |= strlen(id) == length && strncmp(id, key, length) == 0;
            }
        char prefix[64];
        snprintf(prefix, sizeof prefix, "%.*s", (int)length, key);
        const char *nearest = mqb_nearest(prefix, names, num_names);
        if (!found)
            return mqb_fail(error, MQB_ERR_ARGUMENT, "--set %s: expected BACKEND.OPTION or PASS.OPTION%s%s%s", key,
                            nearest != NULL ? "; did you mean \"" : "", nearest != NULL ? nearest : "",
                            nearest != NULL ? ".…\"?" : "");
    }
    return MQB_OK;
}

/* The edge must be a tensor of images or a weight of the model. */
static mqb_status check_edge(const struct reading *reading, struct mqb_error *error)
{
    const struct mqb_graph *graph = reading->fp32;
    const char *edge = reading->config->edge;
    const char **names = mqb_allocate_array((size_t)graph->num_values + 1, sizeof *names);
    size_t num_names = 0;
    bool found = false;
    if (names == NULL)
        return no_memory(error);
    for (int32_t i = 0; i < graph->num_values; i++)
        if (!graph->values[i].dead && graph->values[i].batched) {
            names[num_names++] = graph->values[i].name;
            found |= strcmp(graph->values[i].name, edge) == 0;
        }
    for (int32_t i = 0; i < graph->num_ordered; i++)
        if (mqb_placed_is_layer(&graph->nodes[graph->order[i]]) && num_names < (size_t)graph->num_values) {
            const char *name = graph->values[graph->nodes[graph->order[i]].inputs[1]].name;
            names[num_names++] = name;
            found |= strcmp(name, edge) == 0;
        }
    const char *nearest = found ? NULL : mqb_nearest(edge, names, num_names);
    mqb_status status = MQB_OK;
    if (!found)
        status =
            mqb_fail(error, MQB_ERR_ARGUMENT,
                     "--edge %s: the network has no tensor of that name%s%s%s; without --edge all that matter are listed", edge,
                     nearest != NULL ? ", did you mean \"" : "", nearest != NULL ? nearest : "", nearest != NULL ? "\"?" : "");
    mqb_deallocate(names);
    return status;
}

static mqb_status read_all(const struct reading *reading, struct mqb_explanation *explanation, struct mqb_error *error)
{
    struct mqb_registry *registry = reading->session.registry;
    const char *own = reading->config->backend;
    size_t others = reading->config->edge != NULL ? mqb_registry_count(registry, MQB_KIND_BACKEND) : 0;
    explanation->networks = mqb_allocate_array(others + 1, sizeof *explanation->networks);
    if (explanation->networks == NULL)
        return no_memory(error);
    mqb_status status = read_network(reading, own, &explanation->networks[explanation->num_networks++], error);
    for (size_t i = 0; i < others && status == MQB_OK; i++) {
        const struct mqb_entry *entry = mqb_registry_at(registry, MQB_KIND_BACKEND, i, true);
        if (strcmp(entry->id, own) == 0 || entry->vtable == NULL) /* one that was refused has no rules */
            continue;
        status = read_network(reading, entry->id, &explanation->networks[explanation->num_networks++], error);
    }
    return status;
}

mqb_status mqb_explain(const struct mqb_explain_config *config, struct mqb_explanation **explanation, struct mqb_error *error)
{
    struct reading reading = {.config = config};
    struct mqb_explanation *made = mqb_allocate(sizeof *made);
    const char *path = config->model != NULL ? config->model : MQB_DEFAULT_MODEL, *slash = strrchr(path, '/');
    *explanation = NULL;
    if (made == NULL)
        return no_memory(error);
    made->model = mqb_strdup(slash != NULL ? slash + 1 : path);
    made->edge = config->edge != NULL ? mqb_strdup(config->edge) : NULL;
    mqb_status status = made->model != NULL && (config->edge == NULL || made->edge != NULL) ? MQB_OK : no_memory(error);
    if (status == MQB_OK)
        status = mqb_session_open(config->manifest, NULL, 1, &reading.session, error);
    if (status == MQB_OK) {
        reading.words = (struct mqb_prepare){reading.session.registry, config->set_keys, config->set_values, config->num_set};
        status = check_settings(&reading, error);
    }
    if (status == MQB_OK)
        status = mqb_session_model(&reading.session, config->model, &reading.fp32, made->sha256, error);
    if (status == MQB_OK && config->edge != NULL)
        status = check_edge(&reading, error);
    if (status == MQB_OK)
        status = read_all(&reading, made, error);
    mqb_graph_destroy(reading.fp32);
    mqb_session_close(&reading.session);
    if (status != MQB_OK)
        mqb_explanation_destroy(made);
    else
        *explanation = made;
    return status;
}

static void destroy_network(struct mqb_explained_network *network)
{
    for (int i = 0; i < network->num_points; i++) {
        struct mqb_explained_point *p = &network->points[i];
        char *const texts[] = {p->tensor, p->parameter, p->reader, p->rule, p->kind, p->arithmetic};
        for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++)
            mqb_deallocate(texts[k]);
    }
    for (int i = 0; i < network->num_tensors; i++) {
        mqb_deallocate(network->tensors[i].tensor);
        mqb_deallocate(network->tensors[i].why);
    }
    for (int i = 0; i < network->num_passes; i++)
        mqb_deallocate(network->passes[i]);
    mqb_deallocate(network->points);
    mqb_deallocate(network->tensors);
    mqb_deallocate(network->passes);
    mqb_deallocate(network->backend);
    mqb_deallocate(network->description);
    mqb_deallocate(network->profile);
    mqb_deallocate(network->refusal);
}

void mqb_explanation_destroy(struct mqb_explanation *explanation)
{
    if (explanation == NULL)
        return;
    for (int i = 0; i < explanation->num_networks; i++)
        destroy_network(&explanation->networks[i]);
    mqb_deallocate(explanation->networks);
    mqb_deallocate(explanation->model);
    mqb_deallocate(explanation->edge);
    mqb_deallocate(explanation);
}
