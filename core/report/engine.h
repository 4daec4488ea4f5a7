/*
 * engine.h - other inference engines, run through scripts in <home>/engines/.
 *
 *   SCRIPT check                        prints the engine's name and version; exit code 77: prints why it cannot be used here
 *   SCRIPT run ARTEFACT ARGUMENT DIR    reads DIR/request and DIR/input.f32 (images [n][c][h][w]), writes DIR/logits.f32 and,
 *                                       for as many tensors as it can see, DIR/INDEX.nchw or DIR/INDEX.nhwc, bytes. Any other
 *                                       exit code than 0 is a failure; what is printed says why
 *
 * DIR/request has a line "input N C H W" and, for each tensor, "tensor INDEX u8|s8 NAME", NAME as an ONNX file holds it.
 */
#ifndef MQB_ENGINE_H
#define MQB_ENGINE_H

#include "base/base.h"

enum mqb_engine_state { MQB_ENGINE_PRESENT, MQB_ENGINE_MISSING };

/* *said: the engine's name, or why it is missing, one line (freed by mqb_deallocate). dir: an existing folder. */
mqb_status mqb_engine_check(const char *script, const char *dir, enum mqb_engine_state *state, char **said,
                            struct mqb_error *error);
/* MQB_ERR_UNSUPPORTED with what the script said if it failed. */
mqb_status mqb_engine_run(const char *script, const char *artefact, const char *argument, const char *dir,
                          struct mqb_error *error);

#endif
