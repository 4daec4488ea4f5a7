/*
 * onnx_scan.c - one pass over the protobuf wire format, guided by the schema, before the parser sees the bytes.
 * The parser recurses into nested messages and allocates for each field; a small hostile file could exhaust its stack or the
 * memory.
 */
#include "graph/onnx_import.h"

#define MAX_DEPTH 48
#define MAX_FIELDS 4000000

struct frame {
    const ProtobufCMessageDescriptor *type;
    size_t end;
    uint64_t seen; /* fields of this message met so far, by index in the schema */
};

static mqb_status scan_fail(struct mqb_error *error, size_t at, const char *what)
{
    return mqb_fail(error, MQB_ERR_FORMAT,
                    "not a readable ONNX file: %s at byte %zu; it is damaged, cut short or of another format", what, at);
}

static bool read_varint(const uint8_t *data, size_t end, size_t *at, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (*at >= end) {
            return false;
        }
        uint8_t byte = data[(*at)++];
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            return true;
        }
    }
    return false;
}

mqb_status mqb_onnx_scan(const uint8_t *data, size_t size, struct mqb_error *error)
{
    struct frame stack[MAX_DEPTH];
    int depth = 0;
    size_t at = 0, num_fields = 0;
    stack[depth++] = (struct frame){&onnx__model_proto__descriptor, size, 0};
    while (depth > 0) {
        struct frame *top = &stack[depth - 1];
        if (at == top->end) {
            depth--;
            continue;
        }
        size_t start = at;
        uint64_t tag, length;
        if (!read_varint(data, top->end, &at, &tag) || tag >> 3 == 0 || tag >> 32 != 0) {
            return scan_fail(error, start, "no field begins");
        }
        if (++num_fields > MAX_FIELDS) {
            return scan_fail(error, start, "more fields than any network has");
        }
        switch (tag & 7) {
        case 0:
            if (!read_varint(data, top->end, &at, &length)) {
                return scan_fail(error, start, "a number does not end");
            }
            continue;
        case 1:
            length = 8;
            break;
        case 5:
            length = 4;
            break;
        case 2:
            if (!read_varint(data, top->end, &at, &length)) {
                return scan_fail(error, start, "a length does not end");
            }
            break;
        default:
            return scan_fail(error, start, "a field of no known kind begins");
        }
        if (length > top->end - at) {
            return scan_fail(error, start, "a field is longer than what is left");
        }
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(top->type, (unsigned)(tag >> 3));
        if (!field || field->type != PROTOBUF_C_TYPE_MESSAGE || (tag & 7) != 2) {
            at += length;
            continue;
        }
        /* Parts of one message given twice would be merged by the parser: no writer does that. */
        uint64_t bit = (uint64_t)1 << ((size_t)(field - top->type->fields) & 63);
        if (field->label != PROTOBUF_C_LABEL_REPEATED && (top->seen & bit)) {
            return scan_fail(error, start, "a part that can stand only once is repeated");
        }
        top->seen |= bit;
        if (depth == MAX_DEPTH) {
            return scan_fail(error, start, "parts are nested too deep");
        }
        stack[depth++] = (struct frame){field->descriptor, at + (size_t)length, 0};
    }
    return MQB_OK;
}
