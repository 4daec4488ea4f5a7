/*
 * text.h - for exporters: a text that grows.
 */
#ifndef PLUGINS_TEXT_H
#define PLUGINS_TEXT_H

#include <mqbench/host.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct text {
    const struct mqb_host *host;
    char *data;
    size_t length, capacity;
    int failed; /* no memory; what is added then is dropped */
};

static inline void text_grow(struct text *text, size_t needed)
{
    if (text->failed || text->length + needed < text->capacity)
        return;
    size_t capacity = 2 * (text->length + needed) + 4096;
    char *data = text->host->allocate(capacity);
    if (!data) {
        text->failed = 1;
        return;
    }
    if (text->data)
        memcpy(data, text->data, text->length);
    text->host->deallocate(text->data);
    text->data = data;
    text->capacity = capacity;
}

static inline void MQB_PRINTF(2, 3) text_add(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int needed = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (needed < 0) {
        text->failed = 1;
        return;
    }
    text_grow(text, (size_t)needed + 1);
    if (text->failed)
        return;
    va_start(args, format);
    vsnprintf(text->data + text->length, (size_t)needed + 1, format, args);
    va_end(args);
    text->length += (size_t)needed;
}

/* Between double quotes, as JSON and protobuf text have it. */
static inline void text_add_string(struct text *text, const char *string)
{
    text_add(text, "\"");
    for (const char *c = string; *c; c++) {
        if (*c == '"' || *c == '\\')
            text_add(text, "\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            text_add(text, "\\u%04x", (unsigned)(unsigned char)*c);
        else
            text_add(text, "%c", *c);
    }
    text_add(text, "\"");
}

#endif
