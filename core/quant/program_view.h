/*
 * program_view.h - an integer program as plugins see it (mqbench/steps.h).
 */
#ifndef MQB_PROGRAM_VIEW_H
#define MQB_PROGRAM_VIEW_H

#include "quant/quant.h"

#include <mqbench/steps.h>

/* Arrays of the view point into the program and live no longer than it. Destroyed by mqb_program_view_destroy (NULL allowed).
 */
mqb_status mqb_program_view_create(const struct mqb_program *program, const struct mqb_deploy *deploy, struct mqb_steps **view,
                                   struct mqb_error *error);
void mqb_program_view_destroy(struct mqb_steps *view);

#endif
