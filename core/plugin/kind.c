/* kind.c - what each kind of component is called, which interface it speaks, and what its vtable must hold. */
#include "plugin/kind.h"

#include <string.h>

const char *const mqb_kind_names[MQB_NUM_KINDS] = {"quantizer", "pass", "backend", "compute"};

static const char *const kind_interfaces[MQB_NUM_KINDS] = {MQB_QUANTIZER_INTERFACE, MQB_PASS_INTERFACE, MQB_BACKEND_INTERFACE,
                                                           MQB_COMPUTE_INTERFACE};

/* A pointer member of a vtable. The lists are those of ABI 0.1: later members are optional for good. */
struct slot {
    const char *name;
    size_t offset;
};

#define SLOT(type, member)                                                                                                     \
    {                                                                                                                          \
#member, offsetof(struct type, member)                                                                                 \
    }

static const struct slot quantizer_slots[] = {
    SLOT(mqb_quantizer, description), SLOT(mqb_quantizer, create),  SLOT(mqb_quantizer, destroy),  SLOT(mqb_quantizer, observe),
    SLOT(mqb_quantizer, init),        SLOT(mqb_quantizer, forward), SLOT(mqb_quantizer, backward), SLOT(mqb_quantizer, qparams),
};
static const struct slot pass_slots[] = {SLOT(mqb_pass, description), SLOT(mqb_pass, run)};
static const struct slot backend_slots[] = {SLOT(mqb_backend, description), SLOT(mqb_backend, rules)};
static const struct slot compute_slots[] = {
    SLOT(mqb_compute, description),        SLOT(mqb_compute, score),
    SLOT(mqb_compute, conv_create),        SLOT(mqb_compute, conv_destroy),
    SLOT(mqb_compute, conv_packed_size),   SLOT(mqb_compute, conv_scratch_size),
    SLOT(mqb_compute, conv_pack),          SLOT(mqb_compute, conv_forward),
    SLOT(mqb_compute, conv_backward_data), SLOT(mqb_compute, conv_backward_weights),
};
static const struct slot integer_slots[] = {
    SLOT(mqb_compute, iconv_packed_size),
    SLOT(mqb_compute, iconv_scratch_size),
    SLOT(mqb_compute, iconv_pack),
    SLOT(mqb_compute, iconv_forward),
};

#define NUM(array) (sizeof(array) / sizeof((array)[0]))

static const struct {
    const struct slot *slots;
    size_t num_slots;
} mandatory[MQB_NUM_KINDS] = {
    {quantizer_slots, NUM(quantizer_slots)},
    {pass_slots, NUM(pass_slots)},
    {backend_slots, NUM(backend_slots)},
    {compute_slots, NUM(compute_slots)},
};

const char *mqb_kind_name(enum mqb_kind kind)
{
    return (unsigned)kind < MQB_NUM_KINDS ? mqb_kind_names[kind] : "unknown";
}

const char *mqb_kind_interface(enum mqb_kind kind)
{
    return kind_interfaces[kind];
}

static bool find_name(const char *const *names, const char *name, enum mqb_kind *kind)
{
    for (int k = 0; k < MQB_NUM_KINDS; k++) {
        if (strcmp(names[k], name) == 0) {
            *kind = (enum mqb_kind)k;
            return true;
        }
    }
    return false;
}

bool mqb_kind_parse(const char *name, enum mqb_kind *kind)
{
    return find_name(mqb_kind_names, name, kind);
}

bool mqb_kind_of_interface(const char *interface_id, enum mqb_kind *kind)
{
    return find_name(kind_interfaces, interface_id, kind);
}

static bool slot_is_null(const void *vtable, const struct slot *slot)
{
    static const unsigned char null_bytes[sizeof(void *)];
    return memcmp((const char *)vtable + slot->offset, null_bytes, sizeof(void *)) == 0;
}

static bool check_quantizer(const struct mqb_quantizer *quantizer, char *found, size_t found_size)
{
    if (quantizer->sums_per_channel > MQB_QUANTIZER_MAX_SUMS) {
        snprintf(found, found_size, "sums_per_channel is %u, more than %d", quantizer->sums_per_channel,
                 MQB_QUANTIZER_MAX_SUMS);
        return false;
    }
    bool has_reduce = MQB_HAS_FIELD(quantizer, struct mqb_quantizer, reduce) && quantizer->reduce;
    bool has_complete = MQB_HAS_FIELD(quantizer, struct mqb_quantizer, complete) && quantizer->complete;
    if (quantizer->sums_per_channel > 0 && !has_reduce && !has_complete) {
        snprintf(found, found_size, "sums_per_channel is %u, but reduce is NULL", quantizer->sums_per_channel);
        return false;
    }
    return true;
}

static bool check_compute(const struct mqb_compute *compute, char *found, size_t found_size)
{
    size_t given = 0;
    for (size_t i = 0; i < NUM(integer_slots); i++) {
        bool covered = compute->struct_size >= integer_slots[i].offset + sizeof(void *);
        given += covered && !slot_is_null(compute, &integer_slots[i]);
    }
    if (given != 0 && given != NUM(integer_slots)) {
        snprintf(found, found_size, "%zu of the %zu integer convolution entries (iconv_*) are given", given,
                 NUM(integer_slots));
        return false;
    }
    return true;
}

bool mqb_kind_check_vtable(enum mqb_kind kind, const void *vtable, char *found, size_t found_size)
{
    uint32_t struct_size;
    memcpy(&struct_size, vtable, sizeof(struct_size));
    const struct slot *slots = mandatory[kind].slots;
    size_t num_slots = mandatory[kind].num_slots;
    size_t needed = slots[num_slots - 1].offset + sizeof(void *);
    if (struct_size < needed) {
        snprintf(found, found_size, "its vtable's struct_size is %u bytes, and the mandatory entries end at %zu", struct_size,
                 needed);
        return false;
    }
    for (size_t i = 0; i < num_slots; i++) {
        if (slot_is_null(vtable, &slots[i])) {
            snprintf(found, found_size, "its mandatory entry \"%s\" is NULL", slots[i].name);
            return false;
        }
    }
    uint32_t num_options = 0;
    const struct mqb_option_spec *options = NULL;
    bool legal = true;
    if (kind == MQB_KIND_QUANTIZER) {
        const struct mqb_quantizer *quantizer = vtable;
        num_options = quantizer->num_options;
        options = quantizer->options;
        legal = check_quantizer(quantizer, found, found_size);
    } else if (kind == MQB_KIND_PASS) {
        num_options = ((const struct mqb_pass *)vtable)->num_options;
        options = ((const struct mqb_pass *)vtable)->options;
    } else if (kind == MQB_KIND_BACKEND) {
        num_options = ((const struct mqb_backend *)vtable)->num_options;
        options = ((const struct mqb_backend *)vtable)->options;
    } else {
        legal = check_compute(vtable, found, found_size);
    }
    if (legal && num_options > 0 && !options) {
        snprintf(found, found_size, "num_options is %u, but options is NULL", num_options);
        return false;
    }
    return legal;
}
