/* packing.c - integer weights packed into bytes. */
#include "report/packing.h"

#include <string.h>

static bool fits(const struct mqb_frozen *frozen, int32_t low, int32_t high)
{
    return frozen->qmin >= low && frozen->qmax <= high;
}

const char *mqb_packing_name(const struct mqb_frozen *frozen)
{
    return fits(frozen, 0, 15)       ? "uint4"
           : fits(frozen, -8, 7)     ? "int4"
           : fits(frozen, 0, 255)    ? "uint8"
           : fits(frozen, -128, 127) ? "int8"
                                     : NULL;
}

static bool shares_bytes(const struct mqb_frozen *frozen)
{
    return fits(frozen, 0, 15) || fits(frozen, -8, 7);
}

int64_t mqb_packing_code_bytes(const struct mqb_frozen *frozen)
{
    return shares_bytes(frozen) ? frozen->num_codes / 2 + frozen->num_codes % 2 : frozen->num_codes;
}

int64_t mqb_packing_parameter_bytes(const struct mqb_frozen *frozen)
{
    return (int64_t)frozen->num_channels * (int64_t)(sizeof(float) + sizeof(int32_t));
}

static void put_word(uint8_t *at, uint32_t word)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(word >> (8 * i));
}

static void put_parameters(const struct mqb_frozen *frozen, uint8_t *scales, uint8_t *zero_points)
{
    for (int32_t c = 0; c < frozen->num_channels; c++) {
        uint32_t word;
        memcpy(&word, &frozen->scale[c], sizeof word);
        put_word(scales + 4 * (size_t)c, word);
        put_word(zero_points + 4 * (size_t)c, (uint32_t)frozen->zero_point[c]);
    }
}

static void put_codes(const struct mqb_frozen *frozen, uint8_t *bytes)
{
    bool shared = shares_bytes(frozen);
    for (int64_t i = 0; i < frozen->num_codes; i++) {
        uint8_t code = (uint8_t)frozen->codes[i];
        if (!shared)
            bytes[i] = code;
        else
            bytes[i / 2] |= (uint8_t)((code & 15) << (i % 2 ? 4 : 0));
    }
}

mqb_status mqb_packing_write(const struct mqb_deploy *deploy, uint8_t **data, int64_t *size, struct mqb_packed_place *places,
                             struct mqb_error *error)
{
    int64_t end = 0;
    *data = NULL;
    *size = 0;
    for (int i = 0; i < deploy->num_frozen; i++) {
        const struct mqb_frozen *frozen = &deploy->frozen[i];
        if (frozen->role != MQB_ROLE_WEIGHT)
            continue;
        if (mqb_packing_name(frozen) == NULL)
            return mqb_fail(error, MQB_ERR_UNSUPPORTED, "the codes of weight '%s' go from %d to %d and do not fit into a byte",
                            frozen->name, (int)frozen->qmin, (int)frozen->qmax);
        places[i].scale = end;
        places[i].zero_point = end + 4 * (int64_t)frozen->num_channels;
        end += mqb_packing_parameter_bytes(frozen);
    }
    for (int i = 0; i < deploy->num_frozen; i++)
        if (deploy->frozen[i].role == MQB_ROLE_WEIGHT) {
            places[i].codes = end;
            end += mqb_packing_code_bytes(&deploy->frozen[i]);
        }
    if (end == 0)
        return MQB_OK;
    if ((*data = mqb_allocate((size_t)end)) == NULL) /* zeroed */
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for %lld bytes of weights", (long long)end);
    *size = end;
    for (int i = 0; i < deploy->num_frozen; i++) {
        const struct mqb_frozen *frozen = &deploy->frozen[i];
        if (frozen->role != MQB_ROLE_WEIGHT)
            continue;
        put_parameters(frozen, *data + places[i].scale, *data + places[i].zero_point);
        put_codes(frozen, *data + places[i].codes);
    }
    return MQB_OK;
}
