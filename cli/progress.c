/* progress.c - what is running, how far it is, and the time left. */
#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define INTERVAL 0.2 /* seconds between two updates */
#define BAR 16

static void hide(struct cli_progress *progress)
{
    if (progress->visible)
        fputs("\r\033[K", stderr);
    progress->visible = false;
}

static void on_log(void *context, int level, const char *line)
{
    if (level <= MQB_LOG_DEBUG)
        return;
    hide(context);
    fprintf(stderr, "mqbench: %s: %s\n", level >= MQB_LOG_WARNING ? "warning" : "note", line);
}

static void format_clock(double seconds, char *out, size_t size)
{
    long long whole = (long long)(seconds + 0.5);
    if (whole >= 3600)
        snprintf(out, size, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
    else
        snprintf(out, size, "%lld:%02lld", whole / 60, whole % 60);
}

static size_t terminal_width(void)
{
    struct winsize window;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 20 ? window.ws_col : 80;
}

static void show(struct cli_progress *progress, const struct mqb_progress *p)
{
    char line[256], time[24], bar[BAR + 1];
    double share = p->total > 0 ? (double)p->done / (double)p->total : 0.0;
    share = share < 0.0 ? 0.0 : share > 1.0 ? 1.0 : share;
    for (int i = 0; i < BAR; i++)
        bar[i] = i < (int)(share * BAR + 0.5) ? '#' : '.';
    bar[BAR] = '\0';
    size_t used = (size_t)snprintf(line, sizeof line, "%-19s %s %3.0f %%", p->phase, bar, 100.0 * share);
    if (share > 0.0 && p->seconds > 1.0 && used < sizeof line) {
        format_clock(p->seconds * (1.0 - share) / share, time, sizeof time);
        used += (size_t)snprintf(line + used, sizeof line - used, "  %5s left", time);
    }
    if (isfinite(p->loss) && used < sizeof line)
        used += (size_t)snprintf(line + used, sizeof line - used, "  loss %.3f", p->loss);
    if (isfinite(p->accuracy) && used < sizeof line)
        snprintf(line + used, sizeof line - used, "  top-1 %.1f %%", 100.0 * p->accuracy);
    size_t width = terminal_width() - 1;
    if (width < sizeof line)
        line[width] = '\0';
    fprintf(stderr, "\r%s\033[K", line);
    progress->visible = true;
}

static void on_report(void *context, const struct mqb_progress *p)
{
    struct cli_progress *progress = context;
    const char *phase = p->phase != NULL ? p->phase : "";
    double now = mqb_seconds();
    bool changed = strncmp(progress->phase, phase, sizeof progress->phase - 1) != 0;
    if (!progress->on || (!changed && now - progress->last < INTERVAL))
        return;
    snprintf(progress->phase, sizeof progress->phase, "%s", phase);
    progress->last = now;
    show(progress, p);
}

void cli_progress_begin(struct cli_progress *progress)
{
    const char *term = getenv("TERM");
    *progress = (struct cli_progress){.sink = {on_report, progress}};
    progress->on = isatty(STDERR_FILENO) != 0 && (term == NULL || strcmp(term, "dumb") != 0);
    mqb_log_set_sink(on_log, progress);
}

void cli_progress_end(struct cli_progress *progress)
{
    hide(progress);
    mqb_log_set_sink(NULL, NULL);
}
