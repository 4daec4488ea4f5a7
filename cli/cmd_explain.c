/* cmd_explain.c - why each tensor is quantized, or is not. */
#include "args.h"
#include "output.h"
#include "report/explain.h"

#include <string.h>

static int explain(const struct mqb_explain_config *config, const char *json)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_explanation *explanation = NULL;
    char *text = NULL;
    bool written = true;
    mqb_status status = mqb_explain(config, &explanation, &error);
    if (status == MQB_OK && json != NULL && (status = mqb_explanation_json(explanation, &text, &error)) == MQB_OK) {
        written = cli_write_record(json, text);
        mqb_deallocate(text);
        text = NULL;
    }
    if (status == MQB_OK && (json == NULL || strcmp(json, "-") != 0) &&
        (status = mqb_explanation_screen(explanation, &text, &error)) == MQB_OK)
        fputs(text, stdout);
    mqb_deallocate(text);
    mqb_explanation_destroy(explanation);
    if (status != MQB_OK)
        return cli_fail(status, &error);
    return written ? CLI_OK : CLI_FAILED;
}

int cmd_explain(int argc, char **argv)
{
    struct mqb_explain_config config = {.io_bits = 8};
    struct cli_sets sets = {0};
    int bits[2] = {8, 8};
    const char *json = NULL;
    const struct cli_flag flags[] = {
        {"backend", "NAME", CLI_TEXT, &config.backend, 0, 0, "hardware inference library (mqbench list backends)", NULL},
        {"model", "FILE.onnx", CLI_TEXT, &config.model, 0, 0, "FP32 network (default: a ResNet-20 for synth)", NULL},
        {"edge", "NAME", CLI_TEXT, &config.edge, 0, 0, "one tensor or weight, under every backend", NULL},
        {"bits", "W[/A]", CLI_BITS, bits, 2, 8, "bits of weights and activations, 2 to 8 (default: 8/8)", NULL},
        {"io-bits", "N", CLI_INT, &config.io_bits, 2, 8, "bits of the first and the last layer (default: 8)", NULL},
        {"bn-fold", "N", CLI_INT, &config.bn_fold, -1, 4, "batch norm folding in training, -1 to 4 (default: the backend's)",
         &config.bn_fold_given},
        {"set", "KEY=VALUE", CLI_SET, &sets, 0, 0, "BACKEND.KEY or PASS.KEY; may be repeated\n(mqbench list --options)", NULL},
        {"manifest", "FILE.ini", CLI_TEXT, &config.manifest, 0, 0, "a further manifest of components", NULL},
        {"json", "FILE", CLI_TEXT, &json, 0, 0, "write it as JSON, too; - is standard output", NULL},
        {NULL, NULL, CLI_SWITCH, NULL, 0, 0, NULL, NULL},
    };
    const struct cli_syntax syntax = {
        .usage = "mqbench explain --backend NAME [--model FILE.onnx] [--edge NAME] [flags]",
        .about =
            "Shows every quantization point that a backend's passes place in a network, the rule behind each, how its codes\n"
            "come about, and why other tensors have none. Nothing is trained, no images are read.",
        .flags = flags,
    };
    enum cli_parsed parsed = cli_parse(&syntax, argc, argv);
    int code = cli_parsed_exit(parsed);
    if (parsed == CLI_GO && config.backend == NULL) {
        cli_error("--backend is missing; mqbench list backends shows them");
        code = CLI_WRONG;
    } else if (parsed == CLI_GO) {
        config.weight_bits = bits[0];
        config.activation_bits = bits[1];
        config.set_keys = (const char *const *)sets.keys;
        config.set_values = (const char *const *)sets.values;
        config.num_set = sets.num;
        code = explain(&config, json);
    }
    cli_sets_deinit(&sets);
    return code;
}
