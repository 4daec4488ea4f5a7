/* onnx_tensor.c - tensors of the file as plain arrays of float or int64. */
#include "graph/onnx_import.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw data of ONNX files is little-endian; this reader copies it");

void mqb_onnx_tensor_deinit(struct mqb_onnx_tensor *tensor)
{
    mqb_deallocate(tensor->reals);
    mqb_deallocate(tensor->ints);
    memset(tensor, 0, sizeof(*tensor));
}

static mqb_status set_dims(struct mqb_onnx_tensor *tensor, bool is_int, int32_t rank, const int64_t *dims,
                           struct mqb_error *error)
{
    memset(tensor, 0, sizeof(*tensor));
    tensor->is_int = is_int;
    tensor->rank = rank;
    tensor->count = 1;
    for (int32_t i = 0; i < rank; i++) {
        tensor->dims[i] = dims[i];
        if (dims[i] < 0 || (dims[i] > 0 && tensor->count > MQB_MAX_ELEMENTS / dims[i])) {
            return mqb_fail(error, MQB_ERR_FORMAT, "dimension %d of a tensor is %lld, which no tensor has", (int)i,
                            (long long)dims[i]);
        }
        tensor->count *= dims[i];
    }
    return MQB_OK;
}

mqb_status mqb_onnx_tensor_init(struct mqb_onnx_tensor *tensor, bool is_int, int32_t rank, const int64_t *dims,
                                struct mqb_error *error)
{
    mqb_status status = set_dims(tensor, is_int, rank, dims, error);
    if (status == MQB_OK && tensor->count > 0) {
        void *data = mqb_allocate_array((size_t)tensor->count, is_int ? sizeof(int64_t) : sizeof(float));
        if (!data) {
            return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a tensor of %lld elements", (long long)tensor->count);
        }
        tensor->ints = is_int ? data : NULL;
        tensor->reals = is_int ? NULL : data;
    }
    return status;
}

static float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023, bits;
    if (exponent == 31) {
        bits = 0x7f800000u | fraction << 13;
    } else if (exponent > 0) {
        bits = (exponent + 112) << 23 | fraction << 13;
    } else if (fraction == 0) {
        bits = 0;
    } else { /* subnormal half: normal float */
        exponent = 113;
        while (!(fraction & 1024)) {
            fraction <<= 1;
            exponent--;
        }
        bits = exponent << 23 | (fraction & 1023) << 13;
    }
    bits |= sign;
    float result;
    memcpy(&result, &bits, sizeof(result));
    return result;
}

static const char *type_name(int32_t type)
{
    static const char *const names[] = {"undefined", "float",  "uint8",     "int8",       "uint16",  "int16",
                                        "int32",     "int64",  "string",    "bool",       "float16", "double",
                                        "uint32",    "uint64", "complex64", "complex128", "bfloat16"};
    return type >= 0 && type < (int32_t)(sizeof(names) / sizeof(names[0])) ? names[type] : "unknown";
}

/* Where element i of a tensor stands: in the raw bytes, or in one of the typed lists. */
struct source {
    const uint8_t *raw;
    const void *list;
    size_t num_elements;
    size_t raw_size; /* of one element */
};

static bool find_source(const Onnx__TensorProto *proto, struct source *source)
{
    memset(source, 0, sizeof(*source));
    switch (proto->data_type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
        *source = (struct source){NULL, proto->float_data, proto->n_float_data, 4};
        break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
        *source = (struct source){NULL, proto->double_data, proto->n_double_data, 8};
        break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16:
        *source = (struct source){NULL, proto->int32_data, proto->n_int32_data, 2};
        break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT32:
        *source = (struct source){NULL, proto->int32_data, proto->n_int32_data, 4};
        break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT64:
        *source = (struct source){NULL, proto->int64_data, proto->n_int64_data, 8};
        break;
    default:
        return false;
    }
    if (proto->has_raw_data && (proto->raw_data.len > 0 || source->num_elements == 0)) {
        source->raw = proto->raw_data.data;
        source->list = NULL;
        source->num_elements = proto->raw_data.len / source->raw_size;
        if (proto->raw_data.len % source->raw_size != 0) {
            source->num_elements = SIZE_MAX; /* never equal to a count */
        }
    }
    return true;
}

static void read_element(const struct source *source, int32_t type, int64_t i, struct mqb_onnx_tensor *tensor)
{
    const uint8_t *raw = source->raw ? source->raw + (size_t)i * source->raw_size : NULL;
    switch (type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
        tensor->reals[i] = ((const float *)source->list)[i]; /* raw ones were taken */
        break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE: {
        double x;
        memcpy(&x, raw ? raw : (const uint8_t *)source->list + 8 * (size_t)i, 8);
        tensor->reals[i] = (float)x;
        break;
    }
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16: {
        uint16_t half;
        if (raw) {
            memcpy(&half, raw, 2);
        } else {
            half = (uint16_t)((const int32_t *)source->list)[i];
        }
        tensor->reals[i] = half_to_float(half);
        break;
    }
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT32: {
        int32_t x;
        memcpy(&x, raw ? raw : (const uint8_t *)source->list + 4 * (size_t)i, 4);
        tensor->ints[i] = x;
        break;
    }
    default: {
        int64_t x;
        memcpy(&x, raw ? raw : (const uint8_t *)source->list + 8 * (size_t)i, 8);
        tensor->ints[i] = x == MQB_ONNX_BATCH ? x + 1 : x; /* the least int64 is taken: it stands for the batch */
        break;
    }
    }
}

mqb_status mqb_onnx_tensor_decode(Onnx__TensorProto *proto, struct mqb_onnx_tensor *tensor, struct mqb_error *error)
{
    const char *name = proto->name ? proto->name : "";
    memset(tensor, 0, sizeof(*tensor));
    if (proto->n_external_data > 0 ||
        (proto->has_data_location && proto->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT)) {
        return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                        "tensor '%s' keeps its numbers in another file; export the network as one file", name);
    }
    struct source source;
    if (!find_source(proto, &source)) {
        return mqb_fail(error, MQB_ERR_UNSUPPORTED,
                        "tensor '%s' has the element type %s (%d); float, float16, double, int32 and int64 are read", name,
                        type_name(proto->data_type), (int)proto->data_type);
    }
    if (proto->n_dims > MQB_MAX_RANK) {
        return mqb_fail(error, MQB_ERR_UNSUPPORTED, "tensor '%s' has %zu dimensions; at most %d are read", name, proto->n_dims,
                        MQB_MAX_RANK);
    }
    uint64_t count = 1;
    for (size_t i = 0; i < proto->n_dims; i++) {
        if (proto->dims[i] < 0 || (proto->dims[i] > 0 && count > (uint64_t)MQB_MAX_ELEMENTS / (uint64_t)proto->dims[i])) {
            return mqb_fail(error, MQB_ERR_FORMAT, "tensor '%s' says that its dimension %zu is %lld; the file is damaged", name,
                            i, (long long)proto->dims[i]);
        }
        count *= (uint64_t)proto->dims[i];
    }
    if (source.num_elements != count) {
        return mqb_fail(error, MQB_ERR_FORMAT,
                        "tensor '%s' has %s%zu elements where its dimensions ask for %llu; the file is damaged", name,
                        source.num_elements == SIZE_MAX ? "not a whole number of elements, or " : "",
                        source.num_elements == SIZE_MAX ? proto->raw_data.len / source.raw_size : source.num_elements,
                        (unsigned long long)count);
    }
    bool is_int =
        proto->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__INT32 || proto->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    if (proto->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT && source.raw && count > 0) {
        mqb_status status = set_dims(tensor, false, (int32_t)proto->n_dims, proto->dims, error);
        if (status == MQB_OK) {
            tensor->reals = (float *)(void *)proto->raw_data.data;
            proto->raw_data.data = NULL;
            proto->raw_data.len = 0;
        }
        return status;
    }
    mqb_status status = mqb_onnx_tensor_init(tensor, is_int, (int32_t)proto->n_dims, proto->dims, error);
    for (int64_t i = 0; status == MQB_OK && i < tensor->count; i++) {
        read_element(&source, proto->data_type, i, tensor);
    }
    return status;
}
