/* float_mode.h - the calling thread's floating-point control word: rounding, traps, flush to zero. */
#ifndef MQB_PLUGIN_FLOAT_MODE_H
#define MQB_PLUGIN_FLOAT_MODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Control bits only: the sticky exception flags come and go with any arithmetic and are masked out. */
struct mqb_float_mode {
    uint64_t word[2]; /* x86: MXCSR, x87 control word; aarch64: FPCR; else: the rounding mode */
};

struct mqb_float_mode mqb_float_mode_get(void);
void mqb_float_mode_set(struct mqb_float_mode mode);
bool mqb_float_mode_equal(struct mqb_float_mode a, struct mqb_float_mode b);
/* What `after` has that `before` has not, in words: "flush-to-zero and denormals-are-zero were turned on (MXCSR ...)". */
void mqb_float_mode_describe(struct mqb_float_mode before, struct mqb_float_mode after, char *text, size_t text_size);

#endif
