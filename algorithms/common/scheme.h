/*
 * scheme.h - which schemes a uniform quantizer can serve, and the codes after a switch of sign.
 */
#ifndef ALGORITHMS_SCHEME_H
#define ALGORITHMS_SCHEME_H

#include <mqbench/quantizer.h>

static inline mqb_status scheme_check(const struct mqb_host *host, const char *algorithm, const struct mqb_scheme *scheme,
                                      struct mqb_error *error)
{
    if (scheme->role != MQB_ROLE_WEIGHT && scheme->role != MQB_ROLE_ACTIVATION)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "%s quantizes weights and activations, not role %d", algorithm,
                          (int)scheme->role);
    if (scheme->bits < 2 || scheme->bits > 8 || scheme->qmin >= scheme->qmax || scheme->qmax < 1)
        return host->fail(error, MQB_ERR_UNSUPPORTED, "%s needs 2 to 8 bits and a range that holds 1; got %d bits, [%d, %d]",
                          algorithm, (int)scheme->bits, (int)scheme->qmin, (int)scheme->qmax);
    if (scheme->num_channels < 1 || (!scheme->per_channel && scheme->num_channels != 1))
        return host->fail(error, MQB_ERR_ARGUMENT, "%s was given %d scales for a %s scheme", algorithm,
                          (int)scheme->num_channels, scheme->per_channel ? "per-channel" : "per-tensor");
    return MQB_OK;
}

/* As many codes from 0, for a tensor that is never negative. Returns whether the scheme allows it to switch to them. */
static inline int scheme_nonnegative(const struct mqb_scheme *scheme, struct mqb_scheme *positive)
{
    *positive = *scheme;
    positive->qmin = 0;
    positive->qmax = (1 << scheme->bits) - 1;
    return scheme->adaptive_sign && scheme->symmetric && scheme->qmin < 0;
}

#endif
