/* label_csv.c - which picture has which label: a CSV with the columns `file` and `index`, fields quoted or not (RFC 4180). */
#include "data/source.h"

#include <stdlib.h>
#include <string.h>

#define MAX_SIZE ((size_t)1 << 30)
#define MAX_FIELDS 64
#define MAX_INDEX 999999

void mqb_label_csv_deinit(struct mqb_label_csv *csv)
{
    mqb_deallocate(csv->text);
    mqb_deallocate(csv->file);
    mqb_deallocate(csv->index);
    mqb_deallocate(csv->line);
    *csv = (struct mqb_label_csv){0};
}

/* Cuts one line into fields, in place; returns how many, or -1 for a quote that does not close. Fields beyond MAX_FIELDS
 * are counted, not kept. A quoted field ends on its line. */
static int split_fields(char *line, char *fields[MAX_FIELDS])
{
    int num = 0;
    for (char *next = line;; num++) {
        char *write = next, *start = next, end;
        if (*next == '"') {
            for (next++; *next != '"' || next[1] == '"'; *write++ = *next++) {
                if (*next == '\0')
                    return -1;
                next += *next == '"';
            }
            next++;
        }
        while (*next != ',' && *next != '\0')
            *write++ = *next++;
        end = *next;
        *write = '\0';
        if (num < MAX_FIELDS)
            fields[num] = start;
        if (end == '\0')
            return num + 1;
        next++;
    }
}

/* The next line of *text, without its end; NULL behind the last. */
static char *next_line(char **text)
{
    char *line = *text;
    if (*line == '\0')
        return NULL;
    size_t length = strcspn(line, "\n");
    *text = line + length + (line[length] == '\n');
    line[length] = '\0';
    if (length > 0 && line[length - 1] == '\r')
        line[length - 1] = '\0';
    return line;
}

static mqb_status read_header(const char *path, char *line, int *file_column, int *index_column, struct mqb_error *error)
{
    char *fields[MAX_FIELDS];
    *file_column = *index_column = -1;
    int num = line == NULL ? 0 : split_fields(line, fields);
    for (int i = 0; i < num && i < MAX_FIELDS; i++) {
        if (strcmp(fields[i], "file") == 0)
            *file_column = i;
        else if (strcmp(fields[i], "index") == 0)
            *index_column = i;
    }
    if (*file_column < 0 || *index_column < 0)
        return mqb_fail(error, MQB_ERR_FORMAT,
                        "%s:1: the header has no column '%s'; expected a CSV that begins with a line such as file,index", path,
                        *file_column < 0 ? "file" : "index");
    return MQB_OK;
}

static mqb_status read_row(const char *path, char *line, int32_t number, int file_column, int index_column,
                           struct mqb_label_csv *csv, struct mqb_error *error)
{
    char *fields[MAX_FIELDS], *end;
    int num = split_fields(line, fields), needed = (file_column > index_column ? file_column : index_column) + 1;
    if (num < 0)
        return mqb_fail(error, MQB_ERR_FORMAT, "%s:%d: a quote that does not close; write \"\" for a quote within quotes", path,
                        number);
    if (num < needed)
        return mqb_fail(error, MQB_ERR_FORMAT, "%s:%d: the line has %d fields, at least %d are expected by the header", path,
                        number, num, needed);
    const char *file = fields[file_column], *index = fields[index_column];
    if (file[0] == '\0')
        return mqb_fail(error, MQB_ERR_FORMAT, "%s:%d: the file name is empty", path, number);
    long value = strtol(index, &end, 10);
    if (index[0] < '0' || index[0] > '9' || *end != '\0' || value > MAX_INDEX)
        return mqb_fail(error, MQB_ERR_FORMAT, "%s:%d: the index '%.40s' of %s is not a whole number from 0 to %d", path,
                        number, index, file, MAX_INDEX);
    csv->file[csv->num] = fields[file_column];
    csv->index[csv->num] = (int32_t)value;
    csv->line[csv->num++] = number;
    return MQB_OK;
}

mqb_status mqb_label_csv_read(const char *path, struct mqb_label_csv *csv, struct mqb_error *error)
{
    void *data = NULL;
    size_t size = 0;
    *csv = (struct mqb_label_csv){0};
    mqb_status status = mqb_file_read(path, MAX_SIZE, &data, &size, error);
    if (status != MQB_OK)
        return status;
    csv->text = data;
    int file_column, index_column;
    size_t num_lines = 1;
    for (size_t i = 0; i < size; i++)
        num_lines += csv->text[i] == '\n';
    csv->file = mqb_allocate_array(num_lines, sizeof *csv->file);
    csv->index = mqb_allocate_array(num_lines, sizeof *csv->index);
    csv->line = mqb_allocate_array(num_lines, sizeof *csv->line);
    if (csv->file == NULL || csv->index == NULL || csv->line == NULL) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory for its %zu lines", path, num_lines);
        goto out;
    }
    char *text = csv->text;
    if (strlen(text) != size) {
        status =
            mqb_fail(error, MQB_ERR_FORMAT, "%s: holds a zero byte; expected a CSV text with the columns file and index", path);
        goto out;
    }
    if (strncmp(text, "\xef\xbb\xbf", 3) == 0) /* byte order mark */
        text += 3;
    status = read_header(path, next_line(&text), &file_column, &index_column, error);
    char *line;
    for (int32_t number = 2; status == MQB_OK && (line = next_line(&text)) != NULL; number++)
        if (line[0] != '\0')
            status = read_row(path, line, number, file_column, index_column, csv, error);
    if (status == MQB_OK && csv->num == 0)
        status = mqb_fail(error, MQB_ERR_FORMAT, "%s: lists no file; expected lines FILE,INDEX below the header", path);
out:
    if (status != MQB_OK)
        mqb_label_csv_deinit(csv);
    return status;
}
