/* ini.c - INI text through inih, with the line numbers and the strictness that inih itself does not give. */
#include "base/base.h"

#include <ctype.h>
#include <ini.h>
#include <string.h>

#define LINE_LIMIT 190 /* inih's own buffer is 200 and it would cut silently */

struct ini_reading {
    const char *path, *next;
    int line;
    mqb_ini_handler handler;
    void *user;
    mqb_status status;
    struct mqb_error *error;
};

/* One line at a time, without indentation: inih takes an indented line for a continuation. */
static char *read_line(char *buffer, int capacity, void *stream)
{
    struct ini_reading *reading = stream;
    if (*reading->next == '\0' || reading->status != MQB_OK)
        return NULL;
    reading->line++;
    while (*reading->next == ' ' || *reading->next == '\t')
        reading->next++;
    size_t length = strcspn(reading->next, "\n"), whole = length + (reading->next[length] == '\n');
    if (length > LINE_LIMIT || length + 2 > (size_t)capacity) {
        reading->status = mqb_fail(reading->error, MQB_ERR_FORMAT, "%s:%d: a line of %zu characters; at most %d are read", reading->path,
                                   reading->line, length, LINE_LIMIT);
        return NULL;
    }
    memcpy(buffer, reading->next, length);
    buffer[length] = '\n';
    buffer[length + 1] = '\0';
    reading->next += whole;
    return buffer;
}

static int on_key(void *user, const char *section, const char *key, const char *value)
{
    struct ini_reading *reading = user;
    if (reading->status == MQB_OK)
        reading->status = reading->handler(reading->user, section, key, value, reading->line, reading->error);
    return 1;
}

mqb_status mqb_ini_parse(const char *text, const char *path, mqb_ini_handler handler, void *user, struct mqb_error *error)
{
    struct ini_reading reading = {path, text, 0, handler, user, MQB_OK, error};
    int line = ini_parse_stream(read_line, &reading, on_key, &reading);
    if (reading.status == MQB_OK && line != 0)
        return mqb_fail(error, MQB_ERR_FORMAT, "%s:%d: expected [section] or key = value", path, line);
    return reading.status;
}
