/* cli.h - the subcommands, and how they speak to the user. */
#ifndef MQB_CLI_H
#define MQB_CLI_H

#include "base/base.h"

enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_WRONG = 2 };

struct cli_command {
    const char *name;
    const char *summary; /* one line, for the list of commands */
    /* argv[0] is the first word after the command's name. Returns an exit code. */
    int (*run)(int argc, char **argv);
};
extern const struct cli_command cli_commands[]; /* ends with a NULL name; the first is the main job */

int cmd_run(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_model(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_prove(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_profile(int argc, char **argv);
int cmd_help(int argc, char **argv);
int cmd_version(int argc, char **argv);

/* One sentence on standard error, after "mqbench: ". */
void cli_error(const char *format, ...) MQB_PRINTF(1, 2);
/* The same for a failed call. Returns the exit code: an argument that nothing was computed for is wrong usage. */
int cli_fail(mqb_status status, const struct mqb_error *error);

#endif
