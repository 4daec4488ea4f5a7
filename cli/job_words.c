/* job_words.c - flags of the model, the data and the training. */
#include "job_words.h"

#include <string.h>

void job_words_add(struct cli_flag *flags, struct mqb_job_config *job, struct cli_sets *sets)
{
    const struct cli_flag shared[] = {
        {"model", "FILE.onnx", CLI_TEXT, &job->model, 0, 0, "pretrained FP32 network (default: a ResNet-20 for synth)", NULL},
        {"dataset", "KIND[:PATH]", CLI_TEXT, &job->dataset, 0, 0,
         "images: cifar10, idx, images, synth (default: synth;\nmqbench list datasets)", NULL},
        {"normalize", "WORD", CLI_TEXT, &job->normalize, 0, 0,
         "imagenet, tf, unit, raw or mean:R,G,B/std:R,G,B\n(default: what the model says, else imagenet)", NULL},
        {"io-bits", "N", CLI_INT, &job->io_bits, 2, 8, "bits of the first and the last layer (default: 8)", NULL},
        {"bn-fold", "N", CLI_INT, &job->bn_fold, -1, 4, "batch norm folding in training, -1 to 4 (default: the backend's)",
         &job->bn_fold_given},
        {"epochs", "N", CLI_RECIPE, sets, 0, 0, "passes over the training images; 0 calibrates only", NULL},
        {"lr", "X", CLI_RECIPE, sets, 0, 0, "peak learning rate", NULL},
        {"batch", "N", CLI_RECIPE, sets, 0, 0, "images a training step", NULL},
        {"recipe", "FILE.ini", CLI_TEXT, &job->recipe, 0, 0, "recipe of the training (mqbench help recipe)", NULL},
        {"set", "KEY=VALUE", CLI_SET, sets, 0, 0,
         "recipe.KEY, ALGORITHM.KEY or BACKEND.KEY; may be repeated\n(mqbench list --options)", NULL},
        {"threads", "N", CLI_INT, &job->threads, 0, 1024, "0: one a processor (default); the result does not depend on it",
         NULL},
        {"compute", "NAME", CLI_TEXT, &job->compute, 0, 0, "provider of convolutions (default: the best one here)", NULL},
        {"manifest", "FILE.ini", CLI_TEXT, &job->manifest, 0, 0, "a further manifest of components", NULL},
        {"train-limit", "N", CLI_SIZE, &job->train_limit, 0, INT64_MAX, "at most so many training images (0: all)", NULL},
        {"test-limit", "N", CLI_SIZE, &job->test_limit, 0, INT64_MAX, "at most so many test images (0: all)", NULL},
        {"bracket", NULL, CLI_SWITCH, &job->bracket, 0, 0,
         "integers under every model of a closed library: an interval", NULL},
        {"force", NULL, CLI_SWITCH, &job->force, 0, 0, "run an algorithm that this hardware cannot: fake quantization alone",
         NULL},
        {NULL, NULL, CLI_SWITCH, NULL, 0, 0, NULL, NULL},
    };
    while (flags->name != NULL)
        flags++;
    memcpy(flags, shared, sizeof shared);
}
