/* cmd_train.c - trains a network in FP32. */
#include "fp32_words.h"
#include "graph/graph.h"

int cmd_train(int argc, char **argv)
{
    struct fp32_words words = {.config = {.model = mqb_model_names()[0], .dataset = "synth", .seed = 1000}};
    struct mqb_fp32_config *config = &words.config;
    const struct cli_flag flags[] = {
        {"model", "NAME|FILE", CLI_TEXT, &config->model, 0, 0,
         "a network (mqbench list models), or an ONNX file to go on from\n(default: the first of the list)", NULL},
        {"dataset", "KIND[:PATH]", CLI_TEXT, &config->dataset, 0, 0, "images (default: synth; mqbench list datasets)", NULL},
        {"normalize", "WORD", CLI_TEXT, &config->normalize, 0, 0,
         "imagenet, tf, unit, raw or mean:R,G,B/std:R,G,B; kept in the\nmetadata of the file (default: imagenet)", NULL},
        {"out", "FILE.onnx", CLI_TEXT, &config->out, 0, 0, "the file to write (needed)", NULL},
        {"epochs", "N", CLI_RECIPE, &words.sets, 0, 0, "passes over the training images", NULL},
        {"lr", "X", CLI_RECIPE, &words.sets, 0, 0, "peak learning rate", NULL},
        {"batch", "N", CLI_RECIPE, &words.sets, 0, 0, "images a training step", NULL},
        {"recipe", "FILE.ini", CLI_TEXT, &config->recipe, 0, 0, "recipe of the training (mqbench help recipe)", NULL},
        {"set", "KEY=VALUE", CLI_SET, &words.sets, 0, 0, "recipe.KEY; may be repeated", NULL},
        {"seed", "N", CLI_SEED, &config->seed, 0, INT64_MAX, "of first weights, order and augmentation (default: 1000)", NULL},
        {"threads", "N", CLI_INT, &config->threads, 0, 1024, "0: one a processor (default); the result does not depend on it", NULL},
        {"compute", "NAME", CLI_TEXT, &config->compute, 0, 0, "provider of convolutions (default: the best one here)", NULL},
        {"manifest", "FILE.ini", CLI_TEXT, &config->manifest, 0, 0, "a further manifest of components", NULL},
        {"train-limit", "N", CLI_SIZE, &config->train_limit, 0, INT64_MAX, "at most so many training images (0: all)", NULL},
        {"test-limit", "N", CLI_SIZE, &config->test_limit, 0, INT64_MAX, "at most so many test images (0: all)", NULL},
        {"checkpoint", "FILE", CLI_TEXT, &config->checkpoint, 0, 0,
         "keep the checkpoint here (default: beside the file to write,\nremoved at the end)", NULL},
        {"resume", NULL, CLI_SWITCH, &config->resume, 0, 0, "go on from the checkpoint if there is one", NULL},
        {"json", "FILE", CLI_TEXT, &words.json, 0, 0, "write the result record; - is standard output", NULL},
        {NULL, NULL, CLI_SWITCH, NULL, 0, 0, NULL, NULL},
    };
    const struct cli_syntax syntax = {
        .usage = "mqbench train --model NAME --dataset KIND[:PATH] --out FILE.onnx [flags]",
        .about = "Trains a network in FP32 with the recipe's section [bits 32], writes it as ONNX, and evaluates it on the test images.",
        .flags = flags,
    };
    enum cli_parsed parsed = cli_parse(&syntax, argc, argv);
    int code = cli_parsed_exit(parsed);
    if (parsed == CLI_GO && config->out == NULL) {
        cli_error("--out is missing: name the file to write, as in --out %s.onnx", mqb_model_names()[0]);
        code = CLI_WRONG;
    } else if (parsed == CLI_GO) {
        code = fp32_words_run(&words, "train", mqb_fp32_train);
    }
    cli_sets_deinit(&words.sets);
    return code;
}
