/* options.h - what options.c offers to the registry beyond registry.h. */
#ifndef MQB_PLUGIN_OPTIONS_H
#define MQB_PLUGIN_OPTIONS_H

#include "plugin/registry.h"

bool mqb_options_has(const struct mqb_options *options, const char *name);
/* The sentence for a name that is no option; `also`: other names that may have been meant. */
mqb_status mqb_options_fail_unknown(const struct mqb_options *options, const char *name, const char *where,
                                    const char *const *also, size_t num_also, struct mqb_error *error);

#endif
