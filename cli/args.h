/* args.h - flags by table: --flag value, --flag=value, and help printed from the same table. */
#ifndef MQB_CLI_ARGS_H
#define MQB_CLI_ARGS_H

#include "cli.h"

enum cli_flag_type {
    CLI_SWITCH,        /* bool *: takes no value */
    CLI_TEXT,          /* const char ** */
    CLI_OPTIONAL_TEXT, /* const char **: without a value "-" */
    CLI_INT,           /* int *: min..max */
    CLI_SIZE,          /* size_t *: min..max */
    CLI_SEED,          /* uint64_t * */
    CLI_BITS,          /* int[2]: "W" or "W/A", each min..max */
    CLI_SET,           /* struct cli_sets *: KEY=VALUE, may be repeated */
    CLI_RECIPE         /* struct cli_sets *: the flag's name is a key of the recipe */
};

struct cli_flag {
    const char *name;  /* without the dashes; NULL ends the table */
    const char *value; /* what stands for the value in the help */
    enum cli_flag_type type;
    void *target;
    long long min, max;
    const char *help; /* lines broken at \n */
    bool *given;      /* NULL, or set if the flag is there */
};

/* KEY=VALUE pairs; the strings are owned. */
struct cli_sets {
    char **keys, **values;
    size_t num, capacity;
};
void cli_sets_deinit(struct cli_sets *sets);

struct cli_syntax {
    const char *usage;   /* "mqbench eval --model FILE.onnx ..." */
    const char *about;   /* a few lines */
    const struct cli_flag *flags;
    const char **words;  /* where words that are no flags go; NULL: none are taken */
    int max_words;
    const char *word_name; /* "NAME" */
};

enum cli_parsed { CLI_GO, CLI_HELPED, CLI_REFUSED };
/* Fills the targets. --help prints the help; what is wrong is said in one sentence. */
enum cli_parsed cli_parse(const struct cli_syntax *syntax, int argc, char **argv);
/* Exit code of a parse that did not come to CLI_GO. */
int cli_parsed_exit(enum cli_parsed parsed);

#endif
