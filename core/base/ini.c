/*
 * ini.c - INI text through inih, which splits `name = value ; comment`.
 *
 * inih's handler is not told line numbers, it cuts a line at its buffer's end and reads the rest as another line, it takes an
 * indented line for the continuation of the one before, and says nothing of a section without keys. So the reader below counts
 * lines, refuses what is too long, removes indentation, and can take the headers itself.
 */
#include "base/base.h"

#include <ctype.h>
#include <ini.h>
#include <string.h>

struct ini_reading {
    const char *path, *next, *end;
    int line;
    const struct mqb_ini_handlers *handlers;
    void *user;
    mqb_status status;
    struct mqb_error *error;
};

const char *mqb_ini_shown(char buffer[64], const char *text, size_t length)
{
    size_t n = length < 48 ? length : 48;
    for (size_t i = 0; i < n; i++)
        buffer[i] = isprint((unsigned char)text[i]) ? text[i] : '?';
    memcpy(buffer + n, n < length ? "..." : "", n < length ? 4 : 1);
    return buffer;
}

static void trim(const char **start, const char **end)
{
    while (*start < *end && isspace((unsigned char)**start))
        ++*start;
    while (*end > *start && isspace((unsigned char)(*end)[-1]))
        --*end;
}

/* ini_reader: hands out the next line, as fgets would; an empty one for what inih need not see. */
static char *read_line(char *buffer, int buffer_size, void *stream)
{
    struct ini_reading *reading = stream;
    if (reading->status != MQB_OK || reading->next == reading->end)
        return NULL;
    const char *start = reading->next, *newline = memchr(start, '\n', (size_t)(reading->end - start));
    const char *end = newline != NULL ? newline : reading->end;
    reading->next = newline != NULL ? newline + 1 : reading->end;
    reading->line++;
    if (reading->line == 1 && end - start >= 3 && memcmp(start, "\xef\xbb\xbf", 3) == 0)
        start += 3; /* a byte order mark */
    trim(&start, &end);
    bool is_header = start < end && *start == '[' && reading->handlers->section != NULL;
    if (is_header)
        reading->status = reading->handlers->section(reading->user, start, (size_t)(end - start), reading->line, reading->error);
    if (is_header || (start < end && (*start == ';' || *start == '#')))
        end = start;
    if (end - start > buffer_size - 2)
        reading->status = mqb_fail(reading->error, MQB_ERR_FORMAT,
                                   "%s:%d: the line has %lld characters, and at most %d are read; shorten it (a library's path may be relative)",
                                   reading->path, reading->line, (long long)(end - start), buffer_size - 2);
    if (reading->status != MQB_OK)
        return NULL;
    memcpy(buffer, start, (size_t)(end - start));
    memcpy(buffer + (end - start), "\n", 2);
    return buffer;
}

/* ini_handler. Zero would have inih note the line as wrong; the handler's own sentence is better. */
static int take_key(void *user, const char *section, const char *key, const char *value)
{
    struct ini_reading *reading = user;
    if (reading->status == MQB_OK)
        reading->status = reading->handlers->key(reading->user, section, key, value, reading->line, reading->error);
    return 1;
}

/* inih complains of one kind of line alone, and counts the lines that it was handed, which are those of the file. */
static mqb_status fail_syntax(const struct ini_reading *reading, const char *text, int line)
{
    char buffer[64];
    const char *start = text;
    for (int i = 1; i < line; i++)
        start = (const char *)memchr(start, '\n', (size_t)(reading->end - start)) + 1;
    const char *newline = memchr(start, '\n', (size_t)(reading->end - start)), *end = newline != NULL ? newline : reading->end;
    trim(&start, &end);
    return mqb_fail(reading->error, MQB_ERR_FORMAT,
                    "%s:%d: \"%s\" is neither \"key = value\" nor a [section]; correct it, or begin it with ; to make it a comment",
                    reading->path, line, mqb_ini_shown(buffer, start, (size_t)(end - start)));
}

mqb_status mqb_ini_parse(const char *text, size_t size, const char *path, const struct mqb_ini_handlers *handlers, void *user,
                         struct mqb_error *error)
{
    if (size > 0 && memchr(text, '\0', size) != NULL)
        return mqb_fail(error, MQB_ERR_FORMAT, "%s: has a zero byte, so it is no INI file; give a text with [section] and key = value", path);
    struct ini_reading reading = {path, text, text + size, 0, handlers, user, MQB_OK, error};
    int line = ini_parse_stream(read_line, &reading, take_key, &reading);
    if (reading.status != MQB_OK)
        return reading.status;
    if (line < 0)
        return mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory to read it; free some and try again", path);
    return line > 0 ? fail_syntax(&reading, text, line) : MQB_OK;
}
