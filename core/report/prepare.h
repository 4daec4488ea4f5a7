/* prepare.h - from the words of a command line to a backend and the graph its passes make: what a job and an explanation share.
 */
#ifndef MQB_PREPARE_H
#define MQB_PREPARE_H

#include "report/report.h"

/* The --set pairs of the command line; the strings are the caller's. */
struct mqb_prepare {
    struct mqb_registry *registry;
    const char *const *set_keys, *const *set_values;
    size_t num_set;
};

/* Options of one component: its defaults, the manifest's keys, then the pairs whose key is "ID.OPTION". */
mqb_status mqb_prepare_options(const struct mqb_prepare *prepare, const struct mqb_entry *entry,
                               const struct mqb_option_spec *specs, size_t num_specs, struct mqb_options **options,
                               struct mqb_error *error);
/* A backend by its id, with its options and the rules that follow from them. The options are the caller's. */
mqb_status mqb_prepare_backend(const struct mqb_prepare *prepare, const char *id, const struct mqb_entry **entry,
                               struct mqb_options **options, struct mqb_backend_rules *rules, struct mqb_error *error);
/* Replaces *graph by what the pass makes of it; after an error it is as it was. A pass with an option named "strategy" folds
 * batch norm: bn_fold is its value. */
mqb_status mqb_prepare_pass(const struct mqb_prepare *prepare, const struct mqb_entry *entry, int bn_fold,
                            struct mqb_graph **graph, struct mqb_error *error);

#endif
