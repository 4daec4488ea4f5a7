/* error.c - sentences for the user, log lines, and the nearest name. */
#include "base/base.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static size_t error_capacity(const struct mqb_error *error)
{
    size_t header = offsetof(struct mqb_error, text);
    return error->struct_size > header ? error->struct_size - header : 0;
}

mqb_status mqb_fail(struct mqb_error *error, mqb_status status, const char *format, ...)
{
    if (error != NULL && error_capacity(error) > 0) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->text, error_capacity(error), format, args);
        va_end(args);
    }
    return status;
}

mqb_status mqb_fail_prefix(struct mqb_error *error, mqb_status status, const char *format, ...)
{
    if (error != NULL && error_capacity(error) > 0) {
        char prefix[256], old[sizeof error->text];
        va_list args;
        va_start(args, format);
        vsnprintf(prefix, sizeof prefix, format, args);
        va_end(args);
        memcpy(old, error->text, sizeof old);
        old[sizeof old - 1] = '\0';
        size_t capacity = error_capacity(error) < sizeof old ? error_capacity(error) : sizeof old;
        size_t used = (size_t)snprintf(error->text, capacity, "%s: ", prefix);
        if (used < capacity) {
            size_t rest = strlen(old);
            if (rest > capacity - used - 1)
                rest = capacity - used - 1;
            memcpy(error->text + used, old, rest);
            error->text[used + rest] = '\0';
        }
    }
    return status;
}

/* The one piece of process-wide state: where log lines go. Set before threads exist. */
static mqb_log_sink log_sink;
static void *log_context;
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER; /* one line at a time, whichever thread it comes from */

void mqb_log_set_sink(mqb_log_sink sink, void *context)
{
    log_sink = sink;
    log_context = context;
}

void mqb_log(int level, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    pthread_mutex_lock(&log_mutex);
    if (log_sink != NULL)
        log_sink(log_context, level, line);
    else if (level > MQB_LOG_DEBUG)
        fprintf(stderr, "%s%s\n", level >= MQB_LOG_WARNING ? "warning: " : "", line);
    pthread_mutex_unlock(&log_mutex);
}

#define NAME_LIMIT 64

/* Edit distance with transpositions of neighbours. */
static int edit_distance(const char *a, const char *b)
{
    int rows[3][NAME_LIMIT + 1];
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > NAME_LIMIT || m > NAME_LIMIT)
        return n + m; /* as if nothing were alike */
    for (int j = 0; j <= m; j++)
        rows[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *row = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = up[j - 1] + (a[i - 1] != b[j - 1]);
            if (up[j] + 1 < best)
                best = up[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && up2[j - 2] + 1 < best)
                best = up2[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[n % 3][m];
}

const char *mqb_nearest(const char *name, const char *const *candidates, size_t num_candidates)
{
    const char *best = NULL;
    size_t length = strlen(name);
    int best_distance = (int)(length < 4 ? 1 : length / 3 + 1) + 1;
    for (size_t i = 0; i < num_candidates; i++) {
        int distance = edit_distance(name, candidates[i]);
        /* A prefix of at least three letters is meant for the whole name: it counts as one edit. */
        if (length >= 3 && strncmp(name, candidates[i], length) == 0 && distance > 1)
            distance = 1;
        if (distance < best_distance) {
            best_distance = distance;
            best = candidates[i];
        }
    }
    return best;
}
