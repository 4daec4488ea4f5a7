/* main.c - finds the subcommand; words that begin with -- belong to the main job. */
#include "cli.h"

#include <errno.h>
#include <string.h>

const struct cli_command cli_commands[] = {
    {"run", "quantize a network, run it in integers, compare (the main job; the word may be left out)", cmd_run},
    {"compare", "the main job over many backends, algorithms and widths, as one table", cmd_compare},
    {"train", "train a network in FP32 and write it as ONNX", cmd_train},
    {"eval", "accuracy of an ONNX network on a data set", cmd_eval},
    {"model", "write an untrained network as ONNX", cmd_model},
    {"prove", "run what a backend exports in another inference engine, compare bit for bit", cmd_prove},
    {"explain", "why each tensor of a network is quantized under a backend, or is not", cmd_explain},
    {"profile", "where the time of a training step or of inference goes, by operator", cmd_profile},
    {"list", "backends, algorithms, passes, compute providers, data sets, ...", cmd_list},
    {"help", "help on a command, or on the keys of a recipe", cmd_help},
    {"version", "version of the program and of its plugin ABI", cmd_version},
    {NULL, NULL, NULL},
};

void cli_error(const char *format, ...)
{
    char sentence[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    fflush(stdout);
    fprintf(stderr, "mqbench: %s\n", sentence);
}

int cli_fail(mqb_status status, const struct mqb_error *error)
{
    cli_error("%s", error->text[0] != '\0' ? error->text : "failed without saying why; this is a bug");
    return status == MQB_ERR_ARGUMENT ? CLI_WRONG : CLI_FAILED;
}

static int unknown_command(const char *word)
{
    const char *names[16];
    size_t num_names = 0;
    while (cli_commands[num_names].name != NULL) {
        names[num_names] = cli_commands[num_names].name;
        num_names++;
    }
    const char *nearest = mqb_nearest(word, names, num_names);
    if (nearest != NULL)
        cli_error("there is no command '%s', did you mean '%s'? (mqbench --help lists them)", word, nearest);
    else
        cli_error("there is no command '%s'; mqbench --help lists them", word);
    return CLI_WRONG;
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2)
        return cmd_run(0, argv + 1);
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return cmd_help(0, argv + 2);
    if (strcmp(word, "--version") == 0)
        return cmd_version(0, argv + 2);
    if (word[0] == '-')
        return cmd_run(argc - 1, argv + 1);
    for (const struct cli_command *command = cli_commands; command->name != NULL; command++)
        if (strcmp(command->name, word) == 0)
            return command->run(argc - 2, argv + 2);
    return unknown_command(word);
}

int main(int argc, char **argv)
{
    int code = dispatch(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        cli_error("standard output: writing failed (%s)", strerror(errno));
        return code == CLI_OK ? CLI_FAILED : code;
    }
    return code;
}
