/* progress.h - one line on standard error while something runs, on a terminal alone; and where log lines go. */
#ifndef MQB_CLI_PROGRESS_H
#define MQB_CLI_PROGRESS_H

#include "train/train.h"

struct cli_progress {
    bool on;      /* standard error is a terminal */
    bool visible; /* a line stands there now */
    double last;  /* when it was written */
    char phase[48];
    struct mqb_progress_sink sink;
};
/* Log lines go through the progress line, too, until the end. `progress` must stay where it is. */
void cli_progress_begin(struct cli_progress *progress);
void cli_progress_end(struct cli_progress *progress);

#endif
