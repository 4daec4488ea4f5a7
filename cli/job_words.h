/* job_words.h - the flags that one job and a comparison of many have in common. */
#ifndef MQB_CLI_JOB_WORDS_H
#define MQB_CLI_JOB_WORDS_H

#include "args.h"
#include "report/report.h"

#define MAX_JOB_FLAGS 40

/* Appends them to a table that ends with a NULL name; the table has room for MAX_JOB_FLAGS. */
void job_words_add(struct cli_flag *flags, struct mqb_job_config *job, struct cli_sets *sets);

#endif
