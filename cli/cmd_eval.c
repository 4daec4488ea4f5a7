/* cmd_eval.c - accuracy of an ONNX network. */
#include "fp32_words.h"

int cmd_eval(int argc, char **argv)
{
    struct fp32_words words = {.config = {.dataset = "synth", .seed = 1000}};
    struct mqb_fp32_config *config = &words.config;
    const struct cli_flag flags[] = {
        {"model", "FILE.onnx", CLI_TEXT, &config->model, 0, 0, "the network (needed)", NULL},
        {"dataset", "KIND[:PATH]", CLI_TEXT, &config->dataset, 0, 0, "images (default: synth; mqbench list datasets)", NULL},
        {"normalize", "WORD", CLI_TEXT, &config->normalize, 0, 0,
         "imagenet, tf, unit, raw or mean:R,G,B/std:R,G,B\n(default: what the model says, else imagenet)", NULL},
        {"threads", "N", CLI_INT, &config->threads, 0, 1024, "0: one a processor (default); the result does not depend on it", NULL},
        {"compute", "NAME", CLI_TEXT, &config->compute, 0, 0, "provider of convolutions (default: the best one here)", NULL},
        {"manifest", "FILE.ini", CLI_TEXT, &config->manifest, 0, 0, "a further manifest of components", NULL},
        {"test-limit", "N", CLI_SIZE, &config->test_limit, 0, INT64_MAX, "at most so many test images (0: all)", NULL},
        {"json", "FILE", CLI_TEXT, &words.json, 0, 0, "write the result record; - is standard output", NULL},
        {NULL, NULL, CLI_SWITCH, NULL, 0, 0, NULL, NULL},
    };
    const struct cli_syntax syntax = {
        .usage = "mqbench eval --model FILE.onnx --dataset KIND[:PATH] [flags]",
        .about = "Evaluates an FP32 network on the test images of a data set.",
        .flags = flags,
    };
    enum cli_parsed parsed = cli_parse(&syntax, argc, argv);
    int code = cli_parsed_exit(parsed);
    if (parsed == CLI_GO && config->model == NULL) {
        cli_error("--model is missing: name the ONNX file to evaluate");
        code = CLI_WRONG;
    } else if (parsed == CLI_GO) {
        config->train_limit = 1; /* training images are not looked at */
        code = fp32_words_run(&words, "eval", mqb_fp32_eval);
    }
    return code;
}
