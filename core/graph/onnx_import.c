/* onnx_import.c - reads an ONNX file into a graph: the file's frame, then node by node. */
#include "graph/onnx_import.h"

#include <string.h>

/* More than any classification network; keeps the time that a hostile file can take small. */
#define MAX_NODES 65536
#define MAX_FILE_SIZE ((size_t)2 << 30)

static const struct {
    const char *op_type;
    mqb_onnx_convert convert; /* NULL: only on constants */
} conversions[] = {
    {"Add", mqb_onnx_add},
    {"AveragePool", mqb_onnx_average_pool},
    {"BatchNormalization", mqb_onnx_batch_norm},
    {"Cast", mqb_onnx_cast},
    {"Clip", mqb_onnx_clip},
    {"Concat", mqb_onnx_concat},
    {"Constant", NULL},
    {"Conv", mqb_onnx_conv},
    {"Div", NULL},
    {"Dropout", mqb_onnx_pass},
    {"Flatten", mqb_onnx_flatten},
    {"Gather", NULL},
    {"Gemm", mqb_onnx_gemm},
    {"GlobalAveragePool", mqb_onnx_plain},
    {"HardSigmoid", mqb_onnx_hard_sigmoid},
    {"HardSwish", mqb_onnx_plain},
    {"Identity", mqb_onnx_pass},
    {"LeakyRelu", mqb_onnx_leaky_relu},
    {"MatMul", mqb_onnx_matmul},
    {"MaxPool", mqb_onnx_max_pool},
    {"Mul", mqb_onnx_mul},
    {"Pad", mqb_onnx_pad},
    {"ReduceMean", mqb_onnx_reduce_mean},
    {"Relu", mqb_onnx_plain},
    {"Reshape", mqb_onnx_reshape},
    {"Shape", mqb_onnx_shape},
    {"Sigmoid", mqb_onnx_plain},
    {"Slice", mqb_onnx_slice},
    {"Squeeze", mqb_onnx_squeeze},
    {"Sub", NULL},
    {"Transpose", mqb_onnx_transpose},
    {"Unsqueeze", NULL},
};
#define NUM_CONVERSIONS (sizeof(conversions) / sizeof(conversions[0]))

/* ---- symbols ---- */

static struct mqb_symbol *symbol_follow(const struct mqb_importer *im, struct mqb_symbol *symbol)
{
    while (symbol->kind == MQB_SYMBOL_ALIAS) { /* an alias points to an earlier symbol: this ends */
        symbol = &im->symbols[symbol->alias];
    }
    return symbol;
}

static struct mqb_symbol *symbol_find(const struct mqb_importer *im, const char *name)
{
    int32_t *index = mqb_onnx_map_find(&im->symbol_map, name);
    return index ? &im->symbols[*index] : NULL;
}

static mqb_status symbol_define(struct mqb_importer *im, const char *name, struct mqb_symbol **symbol)
{
    if (symbol_find(im, name)) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "the name '%s' is given to two tensors; the file is damaged", name);
    }
    struct mqb_symbol *s = &im->symbols[im->num_symbols];
    s->name = name;
    s->kind = MQB_SYMBOL_UNDEFINED;
    s->value = s->as_param = s->as_const = s->as_transposed = MQB_NONE;
    *symbol = s;
    return mqb_onnx_map_put(&im->symbol_map, name, im->num_symbols++, im->error);
}

/* How often each name is read. Names are not defined yet, so a map of counts comes first. */
static mqb_status count_uses(struct mqb_importer *im, struct mqb_onnx_map *uses)
{
    mqb_status status = MQB_OK;
    for (size_t n = 0; n < im->file->n_node; n++) {
        const Onnx__NodeProto *node = im->file->node[n];
        for (size_t i = 0; i < node->n_input && status == MQB_OK; i++) {
            int32_t *count = mqb_onnx_map_find(uses, node->input[i]);
            if (count) {
                ++*count;
            } else {
                status = mqb_onnx_map_put(uses, node->input[i], 1, im->error);
            }
        }
    }
    return status;
}

static uint32_t uses_of(const struct mqb_importer *im, const struct mqb_onnx_map *uses, const char *name)
{
    const int32_t *count = mqb_onnx_map_find(uses, name);
    return (uint32_t)(count ? *count : 0) + (strcmp(im->file->output[0]->name, name) == 0 ? 1 : 0);
}

/* ---- the frame ---- */

static mqb_status check_model(const Onnx__ModelProto *model, int64_t *opset, struct mqb_error *error)
{
    *opset = 0;
    if (!model->graph || model->graph->n_node == 0) {
        return mqb_fail(error, MQB_ERR_FORMAT, "not an ONNX network: it holds no nodes");
    }
    for (size_t i = 0; i < model->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *set = model->opset_import[i];
        if (!set->domain || set->domain[0] == '\0' || strcmp(set->domain, "ai.onnx") == 0) {
            *opset = set->version > *opset ? set->version : *opset;
        }
    }
    if (*opset < MQB_ONNX_MIN_OPSET || *opset > MQB_ONNX_MAX_OPSET) {
        return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                        "it uses ONNX operator set %lld; %d to %d are supported: export it again with opset 13",
                        (long long)*opset, MQB_ONNX_MIN_OPSET, MQB_ONNX_MAX_OPSET);
    }
    if (model->graph->n_node > MAX_NODES) {
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "it has %zu nodes; at most %d are supported", model->graph->n_node,
                        MAX_NODES);
    }
    if (model->graph->n_sparse_initializer > 0) {
        return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                        "it has sparse tensors, which are not supported; export it with dense ones");
    }
    if (model->graph->n_output != 1 || !model->graph->output[0]->name) {
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "it has %zu outputs; exactly one, the logits, is supported",
                        model->graph->n_output);
    }
    return MQB_OK;
}

static mqb_status define_initializers(struct mqb_importer *im, const struct mqb_onnx_map *uses)
{
    for (size_t i = 0; i < im->file->n_initializer; i++) {
        Onnx__TensorProto *proto = im->file->initializer[i];
        struct mqb_symbol *symbol;
        if (!proto->name || proto->name[0] == '\0') {
            return mqb_fail(im->error, MQB_ERR_FORMAT, "initializer %zu has no name; the file is damaged", i);
        }
        mqb_status status = symbol_define(im, proto->name, &symbol);
        if (status != MQB_OK) {
            return status;
        }
        symbol->kind = MQB_SYMBOL_PROTO;
        symbol->proto = proto;
        symbol->uses = uses_of(im, uses, proto->name);
    }
    return MQB_OK;
}

static mqb_status check_float(struct mqb_importer *im, const Onnx__ValueInfoProto *info, const char *what)
{
    const Onnx__TypeProto__Tensor *type =
        info->type && info->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE ? info->type->tensor_type : NULL;
    if (type && (!type->has_elem_type || type->elem_type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT)) {
        return MQB_OK;
    }
    return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                    "%s '%s' is not a tensor of float (element type 1), which is the only kind supported", what, info->name);
}

static mqb_status read_input_shape(struct mqb_importer *im, const Onnx__ValueInfoProto *info, int32_t *rank, int64_t *dims)
{
    const Onnx__TensorShapeProto *shape = info->type->tensor_type->shape;
    if (!shape || (shape->n_dim != 4 && shape->n_dim != 2)) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "input '%s' has %zu dimensions; [N, C, H, W] or [N, F] is expected",
                        info->name, shape ? shape->n_dim : (size_t)0);
    }
    *rank = (int32_t)shape->n_dim;
    for (int32_t i = 0; i < *rank; i++) {
        const Onnx__TensorShapeProto__Dimension *dim = shape->dim[i];
        dims[i] = dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE ? dim->dim_value : 0;
        if (i > 0 && dims[i] < 1) {
            return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                            "dimension %d of input '%s' is not fixed; only the batch may vary: export it for one image size",
                            (int)i, info->name);
        }
    }
    im->declared_batch = dims[0] > 0 ? dims[0] : 0;
    dims[0] = MQB_BATCH;
    if (mqb_dims_count(*rank - 1, dims + 1) < 0) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "input '%s' has an impossible size; the file is damaged", info->name);
    }
    return MQB_OK;
}

/* The one input that is not an initializer. */
static mqb_status define_input(struct mqb_importer *im, const struct mqb_onnx_map *uses)
{
    const Onnx__ValueInfoProto *input = NULL;
    size_t num_inputs = 0;
    for (size_t i = 0; i < im->file->n_input; i++) {
        const Onnx__ValueInfoProto *info = im->file->input[i];
        if (!info->name || info->name[0] == '\0') {
            return mqb_fail(im->error, MQB_ERR_FORMAT, "input %zu has no name; the file is damaged", i);
        }
        if (!symbol_find(im, info->name)) {
            input = info;
            num_inputs++;
        }
    }
    if (num_inputs != 1) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "it has %zu inputs; exactly one, the images, is supported", num_inputs);
    }
    int32_t rank = 0;
    int64_t dims[MQB_MAX_RANK];
    mqb_status status = check_float(im, input, "input");
    if (status == MQB_OK) {
        status = check_float(im, im->file->output[0], "output");
    }
    if (status == MQB_OK) {
        status = read_input_shape(im, input, &rank, dims);
    }
    struct mqb_symbol *symbol;
    if (status == MQB_OK) {
        status = symbol_define(im, input->name, &symbol);
    }
    if (status != MQB_OK) {
        return status;
    }
    symbol->kind = MQB_SYMBOL_VALUE;
    symbol->uses = uses_of(im, uses, input->name);
    status = mqb_onnx_new_param(im, MQB_VALUE_INPUT, input->name, rank, dims, NULL, &symbol->value);
    im->graph->input = symbol->value;
    return status;
}

static mqb_status copy_text(char **target, const char *text, struct mqb_error *error)
{
    *target = mqb_strdup(text);
    return *target ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory for a text of the file");
}

static mqb_status read_texts(struct mqb_importer *im, const Onnx__ModelProto *model)
{
    mqb_status status = copy_text(&im->graph->name, im->file->name ? im->file->name : "", im->error);
    for (size_t i = 0; i < model->n_metadata_props && status == MQB_OK; i++) {
        const Onnx__StringStringEntryProto *entry = model->metadata_props[i];
        if (entry->key && entry->value && strcmp(entry->key, "mqbench.normalize") == 0 && !im->graph->normalize) {
            status = copy_text(&im->graph->normalize, entry->value, im->error);
        }
    }
    return status;
}

/* ---- nodes ---- */

static mqb_status unsupported(struct mqb_importer *im)
{
    char list[512] = "";
    size_t used = 0;
    for (size_t i = 0; i < NUM_CONVERSIONS && used < sizeof(list); i++) {
        if (conversions[i].convert) {
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", conversions[i].op_type);
        }
    }
    const char *domain = im->node->domain ? im->node->domain : "";
    return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "operator '%.40s%s%.60s' is not supported; supported are %s", domain,
                    domain[0] ? "." : "", im->op_type, list);
}

/* Fills im->in, and defines the symbols of the outputs. */
static mqb_status open_node(struct mqb_importer *im, const struct mqb_onnx_map *uses)
{
    const Onnx__NodeProto *node = im->node;
    if (node->n_output == 0 || node->output[0][0] == '\0') {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "it has no output; the file is damaged");
    }
    if (node->n_input > MQB_MAX_INPUTS) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "it has %zu inputs; at most %d are supported", node->n_input,
                        MQB_MAX_INPUTS);
    }
    memset(im->in, 0, sizeof(im->in));
    im->num_in = (int32_t)node->n_input;
    for (int32_t i = 0; i < im->num_in; i++) {
        if (node->input[i][0] == '\0') {
            continue;
        }
        struct mqb_symbol *symbol = symbol_find(im, node->input[i]);
        if (!symbol) {
            return mqb_fail(im->error, MQB_ERR_FORMAT, "it reads '%s', which no earlier node, initializer or input defines",
                            node->input[i]);
        }
        im->in[i] = symbol_follow(im, symbol);
    }
    for (size_t i = 0; i < node->n_output; i++) {
        struct mqb_symbol *symbol;
        if (node->output[i][0] == '\0') {
            continue;
        }
        mqb_status status = symbol_define(im, node->output[i], &symbol);
        if (status != MQB_OK) {
            return status;
        }
        symbol->uses = uses_of(im, uses, symbol->name);
        if (i == 0) {
            im->out = symbol;
        } else if (symbol->uses > 0) {
            return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "its output %zu '%s' is used; only the first output is supported",
                            i, symbol->name);
        }
    }
    return MQB_OK;
}

static bool all_constant(const struct mqb_importer *im)
{
    for (int32_t i = 0; i < im->num_in; i++) {
        if (im->in[i] && !mqb_onnx_in_is_tensor(im, i)) {
            return false;
        }
    }
    return true;
}

static mqb_status convert_node(struct mqb_importer *im, const struct mqb_onnx_map *uses)
{
    bool standard = !im->node->domain || im->node->domain[0] == '\0' || strcmp(im->node->domain, "ai.onnx") == 0;
    size_t i = 0;
    while (i < NUM_CONVERSIONS && strcmp(conversions[i].op_type, im->op_type) != 0) {
        i++;
    }
    if (!standard || i == NUM_CONVERSIONS) {
        return unsupported(im);
    }
    mqb_status status = open_node(im, uses);
    if (status != MQB_OK) {
        return status;
    }
    if (all_constant(im) && mqb_onnx_can_fold(im->op_type)) {
        status = mqb_onnx_fold(im, &im->out->tensor);
        im->out->kind = status == MQB_OK ? MQB_SYMBOL_TENSOR : MQB_SYMBOL_UNDEFINED;
        return status;
    }
    if (!conversions[i].convert) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "%s is supported only on constants, such as the computation of a shape",
                        im->op_type);
    }
    return conversions[i].convert(im);
}

static mqb_status convert_nodes(struct mqb_importer *im, const struct mqb_onnx_map *uses)
{
    for (size_t n = 0; n < im->file->n_node; n++) {
        im->node = im->file->node[n];
        im->op_type = im->node->op_type ? im->node->op_type : "";
        im->node_name = im->node->name && im->node->name[0] ? im->node->name
                        : im->node->n_output > 0            ? im->node->output[0]
                                                            : "";
        im->out = NULL;
        mqb_status status = convert_node(im, uses);
        if (status != MQB_OK) {
            return mqb_fail_prefix(im->error, status, "node %zu '%.100s' (%.60s)", n, im->node_name, im->op_type);
        }
    }
    return MQB_OK;
}

static mqb_status set_output(struct mqb_importer *im)
{
    const char *name = im->file->output[0]->name;
    struct mqb_symbol *symbol = symbol_find(im, name);
    if (!symbol) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "its output '%s' is not defined by any node", name);
    }
    symbol = symbol_follow(im, symbol);
    if (symbol->kind != MQB_SYMBOL_VALUE || im->graph->values[symbol->value].producer == MQB_NONE) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                        "its output '%s' is not the result of a supported operator on the input", name);
    }
    im->graph->output = symbol->value;
    /* An Identity or Dropout at the end vanished: the network's output keeps its name. */
    if (strcmp(im->graph->values[symbol->value].name, name) != 0 && !mqb_onnx_map_find(&im->value_names, name)) {
        return mqb_onnx_name_value(im, symbol->value, name);
    }
    return MQB_OK;
}

/* ---- all of it ---- */

static void importer_deinit(struct mqb_importer *im)
{
    for (int32_t i = 0; i < im->num_symbols; i++) {
        mqb_onnx_tensor_deinit(&im->symbols[i].tensor);
    }
    mqb_deallocate(im->symbols);
    mqb_onnx_map_deinit(&im->symbol_map);
    mqb_onnx_map_deinit(&im->value_names);
    mqb_onnx_map_deinit(&im->node_names);
}

static mqb_status import_graph(struct mqb_importer *im, const Onnx__ModelProto *model)
{
    struct mqb_onnx_map uses = {0};
    size_t num_symbols = im->file->n_initializer + 1;
    for (size_t n = 0; n < im->file->n_node; n++) {
        num_symbols += im->file->node[n]->n_output;
    }
    if (num_symbols > 4 * (size_t)MAX_NODES) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "it has %zu tensors; at most %d are supported", num_symbols,
                        4 * MAX_NODES);
    }
    mqb_status status = read_texts(im, model);
    im->symbols = mqb_allocate_array(num_symbols, sizeof(*im->symbols));
    if (status == MQB_OK && !im->symbols) {
        status = mqb_fail(im->error, MQB_ERR_MEMORY, "no memory for %zu names", num_symbols);
    }
    if (status == MQB_OK) {
        status = count_uses(im, &uses);
    }
    if (status == MQB_OK) {
        status = define_initializers(im, &uses);
    }
    if (status == MQB_OK) {
        status = define_input(im, &uses);
    }
    if (status == MQB_OK) {
        status = convert_nodes(im, &uses);
    }
    if (status == MQB_OK) {
        status = set_output(im);
    }
    mqb_onnx_map_deinit(&uses);
    if (status != MQB_OK) {
        return status;
    }
    status = mqb_graph_infer(im->graph, im->error);
    if (status != MQB_OK) {
        return status;
    }
    mqb_graph_sweep(im->graph);
    const struct mqb_value *output = &im->graph->values[im->graph->output];
    if (!output->batched) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "its output '%s' does not depend on its input", output->name);
    }
    return mqb_graph_check_finite(im->graph, im->error);
}

/* The parser's memory: aligned as tensors need it, not zeroed, because the parser fills it; freed by mqb_deallocate. */
static void *parser_allocate(void *context, size_t size)
{
    (void)context;
    return mqb_allocate_raw(size > 0 ? size : 1);
}

static void parser_free(void *context, void *memory)
{
    (void)context;
    mqb_deallocate(memory);
}

static ProtobufCAllocator parser_memory(void)
{
    return (ProtobufCAllocator){.alloc = parser_allocate, .free = parser_free};
}

static mqb_status read_model(const char *path, size_t *size, Onnx__ModelProto **model, struct mqb_error *error)
{
    void *data = NULL;
    *model = NULL;
    mqb_status status = mqb_file_read(path, MAX_FILE_SIZE, &data, size, error);
    if (status != MQB_OK) {
        return status;
    }
    status = *size == 0 ? mqb_fail(error, MQB_ERR_FORMAT, "the file is empty; an ONNX network was expected")
                        : mqb_onnx_scan(data, *size, error);
    if (status == MQB_OK) {
        ProtobufCAllocator memory = parser_memory();
        *model = onnx__model_proto__unpack(&memory, *size, data);
        if (!*model) {
            status = mqb_fail(error, MQB_ERR_FORMAT, "not a readable ONNX file: it is damaged or of another format");
        }
    }
    mqb_deallocate(data);
    return status == MQB_OK ? MQB_OK : mqb_fail_prefix(error, status, "%.200s", path);
}

/* Names come from the file: what would disturb a terminal is shown as '?'. */
static void clean_text(struct mqb_error *error)
{
    for (char *c = error ? error->text : NULL; c && *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
}

mqb_status mqb_onnx_import(const char *path, const struct mqb_op_table *table, struct mqb_graph **graph,
                           struct mqb_error *error)
{
    struct mqb_importer im;
    Onnx__ModelProto *model;
    size_t size;
    *graph = NULL;
    memset(&im, 0, sizeof(im));
    mqb_status status = read_model(path, &size, &model, error);
    if (status != MQB_OK) {
        clean_text(error);
        return status;
    }
    im.error = error;
    im.budget = 8 * size + ((size_t)16 << 20);
    status = check_model(model, &im.opset, error);
    if (status == MQB_OK) {
        im.file = model->graph;
        status = mqb_graph_create(table, &im.graph, error);
    }
    if (status == MQB_OK) {
        status = import_graph(&im, model);
    }
    importer_deinit(&im);
    ProtobufCAllocator memory = parser_memory();
    onnx__model_proto__free_unpacked(model, &memory);
    if (status != MQB_OK) {
        mqb_graph_destroy(im.graph);
        mqb_fail_prefix(error, status, "%.200s", path);
        clean_text(error);
        return status;
    }
    *graph = im.graph;
    return MQB_OK;
}
