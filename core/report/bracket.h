/*
 * bracket.h - a closed library is modelled by more than one contract: what the integer accuracy is under each of them.
 */
#ifndef MQB_BRACKET_H
#define MQB_BRACKET_H

#include "report/integer.h"

struct mqb_bracket_config {
    const struct mqb_backend *backend;
    struct mqb_options *options;           /* of the backend; changed on the way, as they were in the end */
    const struct mqb_backend_rules *rules; /* of the run: the first profile, which has been evaluated */
    const struct mqb_deploy *deploy;
    const struct mqb_compute *compute;
    struct mqb_integer_test test;          /* of all test images */
};

/* Runs the test images under every other choice of the backend's bracketing option, into result->bracket. Without such an
 * option nothing is done. */
mqb_status mqb_bracket_run(const struct mqb_bracket_config *config, struct mqb_result *result, struct mqb_error *error);

#endif
