/* output.c - where the record and the screen go. */
#include "output.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool cli_write_record(const char *path, const char *text)
{
    struct mqb_error error = MQB_ERROR_INIT;
    mqb_status status = mqb_file_write(path, text, strlen(text), &error);
    if (status != MQB_OK)
        cli_fail(status, &error);
    return status == MQB_OK;
}

bool cli_has_color(FILE *stream)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    return isatty(fileno(stream)) && (no_color == NULL || no_color[0] == '\0') && term != NULL && strcmp(term, "dumb") != 0;
}
