/*
 * trace_net.c - the network of family 6: convolution, batch norm, ReLU -> depthwise, batch norm, ReLU6 -> residual addition ->
 * global mean -> linear; and its tensors under the names that the traces use.
 */
#include "trace.h"

#include "ops/ops.h"

#include <stdio.h>
#include <string.h>

void trace_load(struct golden_case *c, const json_t *tensor, float *data, int64_t size)
{
    char path[1024];
    void *text;
    size_t length;
    const char *file = golden_text(tensor, "file");
    snprintf(path, sizeof path, "%s/%s", c->folder, file);
    if (!*file) {
        golden_problem(c, "a tensor that the trace does not have was asked for");
        return;
    }
    if (!golden_ok(c, mqb_file_read(path, 1 << 24, &text, &length, &c->error)))
        return;
    /* .npy: magic, version, length of the header (little endian), header, numbers */
    const unsigned char *bytes = text;
    size_t header = length < 10 ? length : 10 + (size_t)bytes[8] + 256 * (size_t)bytes[9];
    if (length < header || length - header != (size_t)size * sizeof(float) || strstr((const char *)text + 10, "<f4") == NULL)
        golden_problem(c, "%s does not hold %lld floats", file, (long long)size);
    else
        memcpy(data, bytes + header, (size_t)size * sizeof(float));
    mqb_deallocate(text);
}

struct golden_tensor trace_tensor(struct golden_case *c, const json_t *tensor, int64_t size)
{
    struct golden_tensor t = {.data = golden_alloc(c, size, sizeof(float)), .size = size, .rank = 1, .dims = {size}};
    trace_load(c, tensor, t.data, size);
    return t;
}

static mqb_value_id add(struct trace *t, int kind, const char *name, int rank, const int64_t *dims)
{
    mqb_value_id id = MQB_NONE;
    int64_t size = 1;
    for (int i = 0; i < rank; i++)
        size *= dims[i];
    golden_ok(t->c, mqb_graph_calls.add_value(t->g, kind, name, rank, dims, golden_alloc(t->c, size, sizeof(float)), &id,
                                              &t->c->error));
    return id;
}

static mqb_value_id node(struct trace *t, const char *op, const char *name, int n, const mqb_value_id *inputs)
{
    mqb_node_id id;
    if (t->c->problem[0] || !golden_ok(t->c, mqb_graph_calls.add_node(t->g, op, name, inputs, n, &id, &t->c->error)))
        return MQB_NONE;
    return mqb_graph_calls.output(t->g, id);
}
#define NODE(t, op, name, ...)                                                                                                 \
    node(t, op, name, (int)(sizeof((mqb_value_id[]){__VA_ARGS__}) / sizeof(mqb_value_id)), (mqb_value_id[]){__VA_ARGS__})

static mqb_value_id conv_bn(struct trace *t, mqb_value_id x, mqb_value_id w, const char *conv, const char *bn, int64_t group)
{
    const char *parts[4] = {"weight", "bias", "running_mean", "running_var"};
    const int64_t dims[1] = {t->channels}, pads[4] = {1, 1, 1, 1}, ones[2] = {1, 1};
    char name[48];
    mqb_value_id v[4], sf = MQB_NONE, weight = w;
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.%s", bn, parts[i]);
        v[i] = add(t, i < 2 ? MQB_VALUE_PARAM : MQB_VALUE_STATE, name, 1, dims);
    }
    if (t->quantized) {
        snprintf(name, sizeof name, "%s.sf", conv);
        sf = NODE(t, "BatchScale", name, v[0], v[3]);
        snprintf(name, sizeof name, "%s.folded", conv);
        weight = NODE(t, "ScaleChannels", name, w, sf);
        snprintf(name, sizeof name, "%s.weight_fake_quant", conv);
        weight = NODE(t, "FakeQuantize", name, weight);
    }
    mqb_value_id u = NODE(t, "Conv", conv, x, weight);
    if (u == MQB_NONE)
        return u;
    mqb_node_id id = mqb_graph_calls.producer(t->g, u);
    golden_ok(t->c, mqb_node_set_list(t->g, id, "pads", pads, 4, &t->c->error));
    golden_ok(t->c, mqb_node_set_list(t->g, id, "strides", ones, 2, &t->c->error));
    golden_ok(t->c, mqb_node_set_list(t->g, id, "dilations", ones, 2, &t->c->error));
    golden_ok(t->c, mqb_graph_calls.set_attr_int(t->g, id, "group", group, &t->c->error));
    mqb_value_id inputs[6] = {u, v[0], v[1], v[2], v[3], sf};
    mqb_value_id y = node(t, "BatchNormalization", bn, t->quantized ? 6 : 5, inputs);
    if (y != MQB_NONE && t->quantized && t->c->compat)
        golden_ok(t->c,
                  mqb_graph_calls.set_attr_int(t->g, mqb_graph_calls.producer(t->g, y), "channel_correction", 1, &t->c->error));
    return y;
}

static mqb_value_id quantize(struct trace *t, const char *name, mqb_value_id x)
{
    return t->quantized ? NODE(t, "FakeQuantize", name, x) : x;
}

/* The bits of a point: the file lists which have how many. */
static int bits_of(const json_t *quant, const char *name)
{
    const json_t *four = json_object_get(quant, "four_bit");
    for (size_t i = 0; i < json_array_size(four); i++)
        if (strcmp(json_string_value(json_array_get(four, i)), name) == 0)
            return 4;
    return 8;
}

static void attach_points(struct trace *t)
{
    struct golden_case *c = t->c;
    struct mqb_graph *g = t->g;
    const json_t *quant = json_object_get(c->item, "quant");
    bool symmetric = golden_int(quant, "sym"), per_channel = golden_int(quant, "pc");
    for (int i = 0; i < g->num_ordered && !c->problem[0]; i++) {
        mqb_node_id id = g->order[i];
        if (strcmp(g->nodes[id].op->name, "FakeQuantize") != 0)
            continue;
        const struct mqb_value *in = &g->values[g->nodes[id].inputs[0]];
        struct mqb_point *p = &t->point[t->points.num_points];
        const char *name = g->nodes[id].name;
        bool weight = !in->batched, split = weight && per_channel;
        int bits = bits_of(quant, name);
        *p = (struct mqb_point){.name = (char *)(uintptr_t)name, .node = id, .quantizer = &t->vtable, .mode = MQB_POINT_ON};
        p->scheme = (struct mqb_scheme){.struct_size = sizeof p->scheme,
                                        .role = weight ? MQB_ROLE_WEIGHT : MQB_ROLE_ACTIVATION,
                                        .bits = bits,
                                        .qmin = -(1 << (bits - 1)),
                                        .qmax = (1 << (bits - 1)) - 1,
                                        .symmetric = symmetric,
                                        .pot_scale = (uint8_t)golden_int(quant, "pot"),
                                        .per_channel = split,
                                        .num_channels = split ? (int32_t)in->dims[0] : 1};
        struct trace_front *front = &t->front[t->points.num_points];
        front->real = t->lsq;
        if (!golden_ok(c, t->lsq->create(mqb_host_table(), &p->scheme, t->options, &front->self, &c->error)))
            return;
        p->self = front;
        g->nodes[id].point = p;
        t->list[t->points.num_points++] = p;
    }
    t->points.points = t->list;
}

void trace_build(struct trace *t)
{
    struct golden_case *c = t->c;
    if (!golden_ok(c, mqb_graph_create(&mqb_ops, &t->g, &c->error)))
        return;
    const int64_t k = t->channels, in[4] = {MQB_BATCH, 3, t->side, t->side}, w1[4] = {k, 3, 3, 3}, w2[4] = {k, 1, 3, 3};
    const int64_t wf[2] = {t->classes, k}, bf[1] = {t->classes};
    mqb_value_id x;
    if (!golden_ok(c, mqb_graph_add_input(t->g, "x", 4, in, &x, &c->error)))
        return;
    mqb_value_id conv1 = add(t, MQB_VALUE_PARAM, "conv1.weight", 4, w1), dw = add(t, MQB_VALUE_PARAM, "dw.weight", 4, w2);
    mqb_value_id fc_w = add(t, MQB_VALUE_PARAM, "fc.weight", 2, wf), fc_b = add(t, MQB_VALUE_PARAM, "fc.bias", 1, bf);
    x = quantize(t, "q_in", x);
    mqb_value_id a = quantize(t, "q1", NODE(t, "Relu", "relu1", conv_bn(t, x, conv1, "conv1", "bn1", 1)));
    mqb_value_id clip = NODE(t, "Clip", "relu6", conv_bn(t, a, dw, "dw", "bn2", k));
    if (c->problem[0])
        return;
    golden_ok(c, mqb_graph_calls.set_attr_real(t->g, mqb_graph_calls.producer(t->g, clip), "min", 0.0, &c->error));
    golden_ok(c, mqb_graph_calls.set_attr_real(t->g, mqb_graph_calls.producer(t->g, clip), "max", 6.0, &c->error));
    mqb_value_id b = quantize(t, "q2", clip);
    mqb_value_id y = quantize(t, "q3", NODE(t, "Add", "add", a, b));
    mqb_value_id p = NODE(t, "Flatten", "flat", NODE(t, "GlobalAveragePool", "pool", y));
    mqb_value_id fw = quantize(t, "wq_fc", fc_w);
    mqb_value_id z = NODE(t, "Gemm", "fc", p, fw, fc_b);
    if (c->problem[0] || !golden_ok(c, mqb_graph_set_output(t->g, z, &c->error)) ||
        !golden_ok(c, mqb_graph_infer(t->g, &c->error)))
        return;
    if (t->quantized)
        attach_points(t);
}

/* The trace's name of a network tensor: "conv1.weight" is "conv1.conv.weight" in the quantized ones. */
const char *trace_name(bool quantized, const char *name, char *buffer, size_t size)
{
    const char *dot = strchr(name, '.');
    if (!quantized || strncmp(name, "fc.", 3) == 0)
        snprintf(buffer, size, "%s", name);
    else if (strncmp(name, "bn", 2) == 0)
        snprintf(buffer, size, "%s.bn%s", name[2] == '1' ? "conv1" : "dw", dot);
    else
        snprintf(buffer, size, "%.*s.conv%s", (int)(dot - name), name, dot);
    return buffer;
}

bool trace_is_network(const struct mqb_value *value)
{
    return !value->dead && (value->kind == MQB_VALUE_PARAM || value->kind == MQB_VALUE_STATE);
}

void trace_load_state(struct trace *t, const json_t *state, bool initial)
{
    char name[64];
    for (int i = 0; i < t->g->num_values; i++) {
        struct mqb_value *v = &t->g->values[i];
        if (!trace_is_network(v))
            continue;
        const json_t *tensor = json_object_get(state, trace_name(t->quantized && !initial, v->name, name, sizeof name));
        if (tensor || initial) /* what the calibration left alone is not recorded after it */
            trace_load(t->c, tensor, v->data, mqb_value_size(v));
    }
    for (int i = 0; !initial && i < t->points.num_points; i++) {
        struct mqb_point *p = t->list[i];
        struct mqb_param param = {.struct_size = sizeof param};
        for (uint32_t k = 0; p->quantizer->param(p->self, k, &param) == MQB_OK; k++) {
            snprintf(name, sizeof name, "%s.%s", p->name, param.name);
            trace_load(t->c, json_object_get(state, name), param.value, param.num_elements);
        }
    }
}
