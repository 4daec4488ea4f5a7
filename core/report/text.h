/* text.h - text that grows, and how times, sizes and counts are written for people. Private to core/report/. */
#ifndef MQB_TEXT_H
#define MQB_TEXT_H

#include "base/base.h"

struct mqb_text {
    char *data; /* NUL-terminated; NULL while empty */
    size_t size, capacity;
    bool failed; /* no memory; what came later was dropped */
};
void mqb_text_add(struct mqb_text *text, const char *format, ...) MQB_PRINTF(2, 3);
/* A sentence broken between words at column `width`; the first line begins at column `indent`, where the text already is,
 * further lines are indented to it. Ends the line. */
void mqb_text_wrap(struct mqb_text *text, const char *sentence, int indent, int width);
void mqb_text_deinit(struct mqb_text *text);

#define MQB_SHORT 32
void mqb_text_seconds(double seconds, char out[MQB_SHORT]);  /* "0.35 s", "12.4 s", "3 min 05 s", "1 h 02 min" */
void mqb_text_bytes(double bytes, char out[MQB_SHORT]);      /* "512 B", "1.2 MiB" */
void mqb_text_count(int64_t count, char out[MQB_SHORT]);     /* "272,474" */
void mqb_text_amount(double amount, char out[MQB_SHORT]);    /* "640", "40.55 M", "1.81 G" */

#endif
