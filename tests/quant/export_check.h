/*
 * export_check.h - for tests: a network put together by hand, exported by a backend into a folder, and rebuilt from what lies
 * there.
 */
#ifndef EXPORT_CHECK_H
#define EXPORT_CHECK_H

#include "hand_layers.h"
#include "onnx_reader.h"

#include <mqbench/plugin.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct exported {
    struct hand_net *net;
    struct mqb_program *program;
    const struct mqb_backend *backend;
    struct mqb_options *options;
    struct mqb_backend_rules rules;
    char dir[512];
    struct mqb_export_tensor tensors[2 * HAND_MAX_FROZEN];
    uint32_t num_tensors;
    int num_files;
};

static inline const struct mqb_backend *backend_of(const char *id)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s.so", MQB_PLUGIN_DIR, id);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    const struct mqb_plugin_entry *entry = library ? dlsym(library, MQB_PLUGIN_SYMBOL) : NULL;
    if (!entry)
        fail_msg("%s: %s", path, dlerror());
    return entry->components[0].vtable;
}

/* key, value: an option, or NULL. */
static inline void exported_rules(struct exported *e, const char *id, const char *key, const char *value)
{
    struct mqb_error error = MQB_ERROR_INIT;
    memset(e, 0, sizeof(*e));
    e->backend = backend_of(id);
    e->rules.struct_size = sizeof(e->rules);
    assert_int_equal(mqb_options_create(e->backend->options, e->backend->num_options, &e->options, &error), MQB_OK);
    if (key)
        assert_int_equal(mqb_options_set(e->options, key, value, "test", &error), MQB_OK);
    assert_int_equal(e->backend->rules(mqb_host_table(), e->options, &e->rules, &error), MQB_OK);
    snprintf(e->dir, sizeof(e->dir), "%s/export-XXXXXX", MQB_BINARY_DIR);
    assert_non_null(mkdtemp(e->dir));
}

static inline void exported_free(struct exported *e)
{
    char command[640];
    mqb_program_destroy(e->program);
    mqb_options_destroy(e->options);
    snprintf(command, sizeof(command), "rm -r '%s'", e->dir);
    assert_int_equal(system(command), 0);
}

static inline char *exported_path(const struct exported *e, const char *name)
{
    static char path[800];
    snprintf(path, sizeof(path), "%s/%s", e->dir, name);
    return path;
}

static inline mqb_status export_text(const struct mqb_export *request, const char *name, const char *text, size_t length,
                                     struct mqb_error *error)
{
    struct exported *e = request->engine;
    FILE *file = fopen(exported_path(e, name), "wb");
    (void)error;
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, length, file), length);
    fclose(file);
    e->num_files++;
    return MQB_OK;
}

static inline mqb_status export_onnx(const struct mqb_export *request, const char *name, struct mqb_error *error)
{
    struct exported *e = request->engine;
    e->num_files++;
    return mqb_onnx_export(e->net->graph, exported_path(e, name), error);
}

static inline mqb_status export_quantized(const struct mqb_export *request, const char *name, uint32_t flags,
                                          struct mqb_error *error)
{
    struct exported *e = request->engine;
    e->num_files++;
    return mqb_program_export_onnx(e->program, &e->net->deploy, flags, exported_path(e, name), error);
}

/* Lowers the network, and exports it as `net`. */
static inline mqb_status exported_write(struct exported *e, struct hand_net *net)
{
    e->net = net;
    if (!e->program)
        HAND_OK(mqb_program_create(&net->deploy, &e->rules, NULL, &e->program, &net->error));
    e->num_tensors = 0;
    e->num_files = 0;
    for (int i = 0; i < net->deploy.num_frozen; i++) {
        const struct mqb_frozen *f = &net->frozen[i];
        e->tensors[e->num_tensors++] = (struct mqb_export_tensor){
            .struct_size = sizeof(e->tensors[0]),
            .role = f->role,
            .name = f->name,
            .bits = 8,
            .codes = f->codes,
            .num_codes = f->num_codes,
            .reader = f->is_private ? net->graph->nodes[f->reader].name : NULL,
            .qparams = {.struct_size = sizeof(struct mqb_qparams),
                        .num_channels = f->num_channels,
                        .scale = f->scale,
                        .zero_point = f->zero_point,
                        .qmin = f->qmin,
                        .qmax = f->qmax},
        };
    }
    struct mqb_export request = {
        .struct_size = sizeof(request),
        .num_tensors = e->num_tensors,
        .tensors = e->tensors,
        .dir = e->dir,
        .model_name = "net",
        .graph = net->graph,
        .write_text = export_text,
        .write_onnx = export_onnx,
        .write_quantized_onnx = export_quantized,
        .engine = e,
    };
    return e->backend->export_files(mqb_host_table(), e->options, &request, &net->error);
}

/* A deployment of the float graph in `name`, with nothing quantized yet. */
static inline void rebuilt_open(struct hand_net *net, const struct exported *e, const char *name)
{
    memset(net, 0, sizeof(*net));
    net->error.struct_size = sizeof(net->error);
    HAND_OK(mqb_onnx_import(exported_path(e, name), &mqb_ops, &net->graph, &net->error));
    net->deploy.graph = net->graph;
    net->deploy.frozen = net->frozen;
}

static inline const struct mqb_node *rebuilt_node(const struct hand_net *net, const char *name)
{
    for (int32_t i = 0; i < net->graph->num_ordered; i++)
        if (strcmp(net->graph->nodes[net->graph->order[i]].name, name) == 0)
            return &net->graph->nodes[net->graph->order[i]];
    fail_msg("the file has no node %s", name);
    return NULL;
}

/* The weight's codes are its reals divided by the scales. */
static inline void rebuilt_weight(struct hand_net *net, mqb_value_id value, int32_t channels, const float *scale, int32_t qmin)
{
    struct mqb_frozen *f = hand_freeze(net, value, MQB_ROLE_WEIGHT, channels, qmin, 127);
    f->num_codes = mqb_value_size(&net->graph->values[value]);
    f->codes = mqb_allocate_array((size_t)f->num_codes, sizeof(int32_t));
    memcpy(f->scale, scale, (size_t)channels * sizeof(float));
    for (int64_t i = 0; i < f->num_codes; i++)
        f->codes[i] = (int32_t)rintf(net->graph->values[value].data[i] / scale[i / (f->num_codes / channels)]);
}

/* The same logits, bit for bit, from the network that was exported and from the one that was read. */
static inline void rebuilt_equals(struct hand_net *net, const struct exported *e)
{
    enum { N = 7, MOST = 64 };
    struct mqb_program *program;
    int64_t size = mqb_value_size(&net->graph->values[net->graph->input]);
    float *x = malloc((size_t)(N * size) * sizeof(float)), want[N * MOST] = {0}, got[N * MOST] = {0};
    assert_true(mqb_value_size(&net->graph->values[net->graph->output]) <= MOST);
    for (int64_t i = 0; i < N * size; i++)
        x[i] = mqb_uniform(5, 6, (uint64_t)i) * 5 - 2.5f;
    HAND_OK(mqb_program_create(&net->deploy, &e->rules, NULL, &program, &net->error));
    assert_int_equal(mqb_program_num_tensors(program), mqb_program_num_tensors(e->program));
    HAND_OK(mqb_program_run(e->program, NULL, x, N, want, NULL, &net->error));
    HAND_OK(mqb_program_run(program, NULL, x, N, got, NULL, &net->error));
    assert_memory_equal(got, want, sizeof(want));
    assert_true(want[0] != want[1]);
    mqb_program_destroy(program);
    free(x);
}

/* ---- layers whose codes are symmetric and signed ---- */

static inline mqb_value_id signed_conv(struct hand_net *net, const char *name, mqb_value_id x, int64_t k, int64_t r,
                                       int64_t group, int32_t qmin)
{
    char text[64];
    struct hand_weight weight = {.per_channel = true, .qmin = qmin, .qmax = 127, .scale = 0.004f};
    int64_t dims[4] = {k, net->graph->values[x].dims[1] / group, r, r}, pads[4] = {r / 2, r / 2, r / 2, r / 2};
    snprintf(text, sizeof(text), "%s.w", name);
    mqb_value_id inputs[3] = {x, hand_weight(net, text, 4, dims, &weight), MQB_NONE};
    snprintf(text, sizeof(text), "%s.b", name);
    inputs[2] = hand_param(net, text, 1, &k, NULL);
    for (int64_t i = 0; i < k; i++)
        net->graph->values[inputs[2]].data[i] = hand_uniform(net) - 0.5f;
    mqb_node_id node = hand_node(net, "Conv", name, 3, inputs);
    hand_list(net, node, "pads", 4, pads);
    hand_attr_int(net, node, "group", group);
    hand_infer(net);
    return hand_out(net, node);
}

static inline mqb_value_id signed_linear(struct hand_net *net, const char *name, mqb_value_id x, int64_t classes,
                                         bool per_channel)
{
    char text[64];
    struct hand_weight weight = {.per_channel = per_channel, .qmin = -127, .qmax = 127, .scale = 0.004f};
    int64_t dims[2] = {classes, net->graph->values[x].dims[1]};
    snprintf(text, sizeof(text), "%s.w", name);
    mqb_value_id inputs[3] = {x, hand_weight(net, text, 2, dims, &weight), MQB_NONE};
    snprintf(text, sizeof(text), "%s.b", name);
    inputs[2] = hand_param(net, text, 1, &classes, NULL);
    for (int64_t i = 0; i < classes; i++)
        net->graph->values[inputs[2]].data[i] = hand_uniform(net);
    mqb_value_id y = hand_out(net, hand_node(net, "Gemm", name, 3, inputs));
    hand_infer(net);
    return y;
}

static inline mqb_value_id unary(struct hand_net *net, const char *op, const char *name, mqb_value_id x)
{
    mqb_value_id y = hand_unary(net, op, name, x);
    hand_infer(net);
    return y;
}

#endif
