/* list_tree.h - everything that can be chosen, as a tree: sections of items, made once for people and for --json. */
#ifndef MQB_CLI_LIST_TREE_H
#define MQB_CLI_LIST_TREE_H

#include "base/base.h"
#include <jansson.h>

/* {"backends": [{"id", "doc", "version", "library", "sha256", "refusal", "description", "options": [...], ...}], ...};
 * keys that do not apply are absent. */
mqb_status list_tree_create(const char *manifest, json_t **tree, struct mqb_error *error);

#endif
