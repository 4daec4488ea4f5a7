/* onnx_node.c - what the conversions of single operators are made of: attributes, inputs, new nodes and values. */
#include "graph/onnx_import.h"

#include <limits.h>
#include <string.h>

/* ---- attributes ---- */

const Onnx__AttributeProto *mqb_onnx_attr(const struct mqb_importer *im, const char *name)
{
    for (size_t i = 0; i < im->node->n_attribute; i++) {
        const Onnx__AttributeProto *attr = im->node->attribute[i];
        if (attr->name && strcmp(attr->name, name) == 0) {
            return attr;
        }
    }
    return NULL;
}

static mqb_status attr_fail(struct mqb_importer *im, const char *name, const char *wanted)
{
    return mqb_fail(im->error, MQB_ERR_FORMAT, "attribute '%s' should be %s", name, wanted);
}

static bool attr_is(const Onnx__AttributeProto *attr, Onnx__AttributeProto__AttributeType type, bool has)
{
    return attr->has_type && attr->type != ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED ? attr->type == type : has;
}

mqb_status mqb_onnx_attr_int(struct mqb_importer *im, const char *name, int64_t otherwise, int64_t *value)
{
    const Onnx__AttributeProto *attr = mqb_onnx_attr(im, name);
    *value = attr ? attr->i : otherwise;
    return !attr || attr_is(attr, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT, attr->has_i) ? MQB_OK
                                                                                           : attr_fail(im, name, "an integer");
}

mqb_status mqb_onnx_attr_real(struct mqb_importer *im, const char *name, double otherwise, double *value)
{
    const Onnx__AttributeProto *attr = mqb_onnx_attr(im, name);
    *value = attr ? (double)attr->f : otherwise;
    return !attr || attr_is(attr, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT, attr->has_f)
               ? MQB_OK
               : attr_fail(im, name, "a real number");
}

mqb_status mqb_onnx_attr_text(struct mqb_importer *im, const char *name, const char *otherwise, char *text, size_t size)
{
    const Onnx__AttributeProto *attr = mqb_onnx_attr(im, name);
    if (!attr) {
        snprintf(text, size, "%s", otherwise);
        return MQB_OK;
    }
    if (!attr_is(attr, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING, attr->has_s)) {
        return attr_fail(im, name, "a text");
    }
    size_t length = attr->s.len < size ? attr->s.len : size - 1;
    if (length > 0) {
        memcpy(text, attr->s.data, length);
    }
    text[length] = '\0';
    return MQB_OK;
}

mqb_status mqb_onnx_attr_ints(struct mqb_importer *im, const char *name, const int64_t **values, int64_t *count)
{
    const Onnx__AttributeProto *attr = mqb_onnx_attr(im, name);
    *values = attr ? attr->ints : NULL;
    *count = attr ? (int64_t)attr->n_ints : 0;
    return !attr || attr_is(attr, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS, attr->n_ints > 0)
               ? MQB_OK
               : attr_fail(im, name, "a list of integers");
}

mqb_status mqb_onnx_attr_list(struct mqb_importer *im, const char *name, int32_t count, int64_t otherwise, int64_t min,
                              int64_t max, int64_t *values)
{
    const int64_t *given;
    int64_t num_given;
    mqb_status status = mqb_onnx_attr_ints(im, name, &given, &num_given);
    if (status != MQB_OK) {
        return status;
    }
    if (num_given != 0 && num_given != count) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "attribute '%s' has %lld numbers where a 2-D operator has %d", name,
                        (long long)num_given, (int)count);
    }
    for (int32_t i = 0; i < count; i++) {
        values[i] = num_given ? given[i] : otherwise;
        if (values[i] < min || values[i] > max) {
            return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "attribute '%s' contains %lld; %lld to %lld are supported", name,
                            (long long)values[i], (long long)min, (long long)max);
        }
    }
    return MQB_OK;
}

mqb_status mqb_onnx_in_ints(struct mqb_importer *im, int32_t index, const char *name, const int64_t **values, int64_t *count)
{
    if (index >= im->num_in || !im->in[index]) {
        *values = NULL;
        *count = 0;
        return name ? mqb_onnx_attr_ints(im, name, values, count) : MQB_OK;
    }
    const struct mqb_onnx_tensor *tensor;
    mqb_status status = mqb_onnx_in_tensor(im, index, &tensor);
    if (status != MQB_OK) {
        return status;
    }
    if ((!tensor->is_int && tensor->count > 0) || tensor->rank > 1) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "input %d '%s' should be a list of integers", (int)index,
                        im->in[index]->name);
    }
    *values = tensor->ints;
    *count = tensor->count;
    return MQB_OK;
}

/* ---- inputs ---- */

mqb_status mqb_onnx_charge(struct mqb_importer *im, int64_t count, size_t size)
{
    size_t wanted;
    if (__builtin_mul_overflow((size_t)count, size, &wanted) || wanted > im->budget) {
        return mqb_fail(im->error, MQB_ERR_FORMAT,
                        "its tensors would need far more memory than the file has bytes; the file is damaged");
    }
    im->budget -= wanted;
    return MQB_OK;
}

mqb_status mqb_onnx_symbol_decode(struct mqb_importer *im, struct mqb_symbol *symbol)
{
    if (symbol->kind != MQB_SYMBOL_PROTO) {
        return MQB_OK;
    }
    mqb_status status = mqb_onnx_tensor_decode(symbol->proto, &symbol->tensor, im->error);
    if (status == MQB_OK) {
        symbol->kind = MQB_SYMBOL_TENSOR;
        status = mqb_onnx_charge(im, symbol->tensor.count, symbol->tensor.is_int ? sizeof(int64_t) : sizeof(float));
    }
    return status;
}

bool mqb_onnx_in_is_tensor(const struct mqb_importer *im, int32_t index)
{
    const struct mqb_symbol *symbol = index < im->num_in ? im->in[index] : NULL;
    return symbol && (symbol->kind == MQB_SYMBOL_TENSOR || symbol->kind == MQB_SYMBOL_PROTO);
}

mqb_status mqb_onnx_in_value(struct mqb_importer *im, int32_t index, mqb_value_id *value)
{
    const struct mqb_symbol *symbol = index < im->num_in ? im->in[index] : NULL;
    if (!symbol) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "input %d is missing", (int)index);
    }
    if (symbol->kind == MQB_SYMBOL_SPLIT || symbol->kind == MQB_SYMBOL_SHUFFLED) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                        "input '%s' was reshaped to %d dimensions, which is supported only inside a channel "
                        "shuffle (Reshape, Transpose 0,2,1,..., Reshape)",
                        symbol->name, (int)symbol->rank);
    }
    if (symbol->kind != MQB_SYMBOL_VALUE) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                        "input %d '%s' is a constant where a result of the network is supported", (int)index, symbol->name);
    }
    *value = symbol->value;
    return MQB_OK;
}

mqb_status mqb_onnx_in_value_rank(struct mqb_importer *im, int32_t index, int32_t rank, mqb_value_id *value)
{
    mqb_status status = mqb_onnx_in_value(im, index, value);
    if (status == MQB_OK && im->graph->values[*value].rank != rank) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "input '%s' has %d dimensions where %d are supported",
                        im->in[index]->name, (int)im->graph->values[*value].rank, (int)rank);
    }
    return status;
}

mqb_status mqb_onnx_in_tensor(struct mqb_importer *im, int32_t index, const struct mqb_onnx_tensor **tensor)
{
    struct mqb_symbol *symbol = index < im->num_in ? im->in[index] : NULL;
    *tensor = NULL;
    if (!symbol) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "input %d is missing", (int)index);
    }
    if (!mqb_onnx_in_is_tensor(im, index)) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED,
                        "input %d '%s' is computed by the network; only a constant is supported there", (int)index,
                        symbol->name);
    }
    *tensor = &symbol->tensor;
    return mqb_onnx_symbol_decode(im, symbol);
}

mqb_status mqb_onnx_in_reals(struct mqb_importer *im, int32_t index, const struct mqb_onnx_tensor **tensor)
{
    mqb_status status = mqb_onnx_in_tensor(im, index, tensor);
    if (status == MQB_OK && ((*tensor)->is_int || (*tensor)->count == 0)) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "input %d '%s' should hold real numbers", (int)index, im->in[index]->name);
    }
    return status;
}

mqb_status mqb_onnx_in_scalar(struct mqb_importer *im, int32_t index, double otherwise, double *value)
{
    const struct mqb_onnx_tensor *tensor;
    *value = otherwise;
    if (index >= im->num_in || !im->in[index]) {
        return MQB_OK;
    }
    mqb_status status = mqb_onnx_in_reals(im, index, &tensor);
    if (status == MQB_OK && tensor->count != 1) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "input %d '%s' has %lld elements where one is expected", (int)index,
                        im->in[index]->name, (long long)tensor->count);
    }
    if (status == MQB_OK) {
        *value = (double)tensor->reals[0];
    }
    return status;
}

/* ---- names ---- */

/* `name`, or name_1, name_2, ...; freed by the caller, and taken from now on. The map remembers the last suffix given. */
static mqb_status name_reserve(struct mqb_importer *im, struct mqb_onnx_map *map, const char *name, char **unique)
{
    *unique = mqb_strdup(name);
    for (;;) {
        if (!*unique) {
            return mqb_fail(im->error, MQB_ERR_MEMORY, "no memory for the name '%s'", name);
        }
        if (!mqb_onnx_map_find(map, *unique)) {
            return mqb_onnx_map_put(map, *unique, 0, im->error);
        }
        mqb_deallocate(*unique);
        int32_t *suffix = mqb_onnx_map_find(map, name);
        *unique = mqb_format("%s_%d", name, (int)++*suffix);
    }
}

mqb_status mqb_onnx_name_value(struct mqb_importer *im, mqb_value_id value, const char *name)
{
    char *unique;
    mqb_status status = name_reserve(im, &im->value_names, name, &unique);
    if (status == MQB_OK) {
        status = mqb_graph_rename_value(im->graph, value, unique, im->error);
    }
    mqb_deallocate(unique);
    return status;
}

/* ---- new values and nodes ---- */

mqb_status mqb_onnx_new_param(struct mqb_importer *im, int kind, const char *name, int32_t rank, const int64_t *dims,
                              float *data, mqb_value_id *value)
{
    char *unique;
    mqb_status status = name_reserve(im, &im->value_names, name, &unique);
    if (status != MQB_OK) {
        mqb_deallocate(unique);
        mqb_deallocate(data);
        return status;
    }
    status = mqb_graph_append_value(im->graph, kind, unique, rank, dims, data, value, im->error);
    mqb_deallocate(unique);
    return status;
}

mqb_status mqb_onnx_in_param(struct mqb_importer *im, int32_t index, int kind, mqb_value_id *value)
{
    const struct mqb_onnx_tensor *tensor;
    mqb_status status = mqb_onnx_in_reals(im, index, &tensor);
    if (status != MQB_OK) {
        return status;
    }
    struct mqb_symbol *symbol = im->in[index];
    mqb_value_id *known = kind == MQB_VALUE_PARAM ? &symbol->as_param : kind == MQB_VALUE_CONST ? &symbol->as_const : NULL;
    if (known && *known != MQB_NONE) {
        *value = *known;
        return MQB_OK;
    }
    float *data = NULL;
    if (symbol->uses == 1) { /* nobody else asks for it */
        data = symbol->tensor.reals;
        symbol->tensor.reals = NULL;
    } else {
        status = mqb_onnx_charge(im, tensor->count, sizeof(float));
        if (status != MQB_OK) {
            return status;
        }
        data = mqb_allocate_array((size_t)tensor->count, sizeof(float));
        if (!data) {
            return mqb_fail(im->error, MQB_ERR_MEMORY, "no memory for tensor '%s'", symbol->name);
        }
        memcpy(data, tensor->reals, (size_t)tensor->count * sizeof(float));
    }
    status = mqb_onnx_new_param(im, kind, symbol->name, tensor->rank, tensor->dims, data, value);
    if (status == MQB_OK && known) {
        *known = *value;
    }
    return status;
}

mqb_status mqb_onnx_emit(struct mqb_importer *im, const char *op_name, const char *name, const char *value_name,
                         const mqb_value_id *inputs, int32_t num_inputs, mqb_node_id *node)
{
    const struct mqb_op *op = mqb_op_find(im->graph->table, op_name);
    if (!op) {
        return mqb_fail(im->error, MQB_ERR_UNSUPPORTED, "this build has no operator '%s'", op_name);
    }
    char *unique = NULL, *unique_value = NULL;
    mqb_status status = name_reserve(im, &im->node_names, name ? name : im->node_name, &unique);
    if (status == MQB_OK) {
        status = name_reserve(im, &im->value_names, value_name ? value_name : im->out->name, &unique_value);
    }
    if (status == MQB_OK) {
        status = mqb_graph_append_node(im->graph, op, unique, unique_value, inputs, num_inputs, node, im->error);
    }
    mqb_deallocate(unique);
    mqb_deallocate(unique_value);
    if (status == MQB_OK && !value_name) {
        im->out->kind = MQB_SYMBOL_VALUE;
        im->out->value = im->graph->nodes[*node].output;
    }
    return status;
}

mqb_status mqb_onnx_settle(struct mqb_importer *im, mqb_node_id node)
{
    return mqb_graph_infer_node(im->graph, node, im->error);
}

mqb_status mqb_onnx_pass(struct mqb_importer *im)
{
    struct mqb_symbol *in = im->num_in > 0 ? im->in[0] : NULL;
    if (!in) {
        return mqb_fail(im->error, MQB_ERR_FORMAT, "input 0 is missing");
    }
    im->out->kind = MQB_SYMBOL_ALIAS;
    im->out->alias = (int32_t)(in - im->symbols);
    in->uses += im->out->uses - 1;
    return MQB_OK;
}

mqb_status mqb_onnx_take_over(struct mqb_importer *im, mqb_value_id value)
{
    im->out->kind = MQB_SYMBOL_VALUE;
    im->out->value = value;
    return mqb_onnx_name_value(im, value, im->out->name);
}
