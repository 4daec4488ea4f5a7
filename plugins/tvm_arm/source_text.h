/*
 * source_text.h - text with names inside C comments.
 */
#ifndef TVM_ARM_SOURCE_TEXT_H
#define TVM_ARM_SOURCE_TEXT_H

#include "../common/text.h"

static inline void text_copy(struct text *text, const char *string)
{
    text_add(text, "%s", string);
}

/* Nothing that could end the comment, or be read as a trigraph. */
static inline void text_add_comment(struct text *text, const char *name)
{
    for (const char *c = name; *c; c++) {
        unsigned char u = (unsigned char)*c;
        int plain = u > 0x20 && u < 0x7f && u != '*' && u != '?' && u != '\\';
        text_add(text, "%c", plain ? *c : '_');
    }
}

#endif
