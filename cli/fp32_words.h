/* fp32_words.h - what `mqbench train` and `mqbench eval` share: words in, a few lines out. */
#ifndef MQB_CLI_FP32_WORDS_H
#define MQB_CLI_FP32_WORDS_H

#include "args.h"
#include "report/report.h"

struct fp32_words {
    struct mqb_fp32_config config;
    struct cli_sets sets;
    const char *json;
};

/* Runs one of the two with a progress line, writes the record and the lines. */
int fp32_words_run(struct fp32_words *words, const char *command,
                   mqb_status (*call)(const struct mqb_fp32_config *config, struct mqb_fp32_result *result, struct mqb_error *error));

#endif
