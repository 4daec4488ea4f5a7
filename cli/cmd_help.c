/* cmd_help.c - help on commands and on the keys of a recipe. */
#include "cli.h"
#include "train/train.h"

#include <string.h>

static void print_commands(void)
{
    printf("usage: mqbench --backend NAME --algo NAME [--model FILE.onnx] [--dataset KIND:PATH] [--bits W/A] [flags]\n"
           "       mqbench COMMAND [flags]\n\n"
           "Quantizes a pretrained FP32 network under the rules of a hardware library, trains it, runs it in that library's\n"
           "integer arithmetic, and reports FP32, fake-quantized and integer accuracy side by side.\n\n"
           "commands\n");
    for (const struct cli_command *command = cli_commands; command->name != NULL; command++)
        printf("  %-10s %s\n", command->name, command->summary);
    printf("\n"
           "for example\n"
           "  mqbench --backend snpe_sim --algo lsq\n"
           "  mqbench --backend snpe_sim --algo lsq --model resnet20.onnx --dataset cifar10:DIR --bits 4 --json result.json\n"
           "  mqbench list --options\n"
           "\n"
           "mqbench COMMAND --help shows the flags of a command (mqbench run --help those of the main job),\n"
           "mqbench help recipe the keys of a recipe.\n");
}

static void print_recipe(void)
{
    size_t num_specs;
    const struct mqb_option_spec *specs = mqb_recipe_specs(&num_specs);
    printf("A recipe holds every number of a training. It is an INI file:\n\n"
           "  [recipe]           ; for all runs\n"
           "  [model resnet20*]  ; for models whose name matches; wins over [recipe]\n"
           "  [bits 4]           ; for runs whose narrower width is this one, 32 being FP32; wins over [model]\n\n"
           "--recipe FILE names one; without it share/mqbench/recipes/default.ini is read. --set recipe.KEY=VALUE,\n"
           "--epochs, --lr and --batch win over the file. The keys, with the value where nothing is said:\n\n");
    for (size_t i = 0; i < num_specs; i++) {
        char range[64];
        if (specs[i].type == MQB_OPTION_BOOL)
            snprintf(range, sizeof range, "yes or no");
        else
            snprintf(range, sizeof range, "%.10g to %.10g", specs[i].min, specs[i].max);
        printf("  %-20s = %-8s %-16s %s\n", specs[i].name, specs[i].default_value, range, specs[i].doc);
    }
}

int cmd_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("mqbench %s (plugin ABI %d.%d)\n", MQB_VERSION, MQB_ABI_MAJOR, MQB_ABI_MINOR);
    return CLI_OK;
}

int cmd_help(int argc, char **argv)
{
    if (argc < 1 || argv[0][0] == '-') {
        print_commands();
        return CLI_OK;
    }
    const char *word = argv[0], *names[16];
    char help[] = "--help", *help_argv[] = {help, NULL};
    size_t num_names = 0;
    names[num_names++] = "recipe";
    if (strcmp(word, "recipe") == 0) {
        print_recipe();
        return CLI_OK;
    }
    for (const struct cli_command *command = cli_commands; command->name != NULL && num_names < 16; command++) {
        names[num_names++] = command->name;
        if (strcmp(command->name, word) == 0)
            return command->run == cmd_help ? cmd_help(0, help_argv) : command->run(1, help_argv);
    }
    const char *nearest = mqb_nearest(word, names, num_names);
    cli_error("there is no help on '%s'%s%s%s; mqbench --help lists the commands", word, nearest != NULL ? ", did you mean '" : "",
              nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
    return CLI_WRONG;
}
