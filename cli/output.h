/* output.h - where the record and the screen go. */
#ifndef MQB_CLI_OUTPUT_H
#define MQB_CLI_OUTPUT_H

#include "cli.h"

/* Writes a record to a file or to standard output ("-"); what is wrong is said. */
bool cli_write_record(const char *path, const char *text);
/* True if `stream` is a terminal that takes colours. */
bool cli_has_color(FILE *stream);

#endif
