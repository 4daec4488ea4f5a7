/* cmd_model.c - writes an untrained network. */
#include "args.h"
#include "graph/op.h"
#include "report/report.h"

int cmd_model(int argc, char **argv)
{
    const char *name = NULL, *out = NULL;
    int channels = 3, size = 32, classes = 10;
    uint64_t seed = 1000;
    const struct cli_flag flags[] = {
        {"out", "FILE.onnx", CLI_TEXT, &out, 0, 0, "the file to write (needed)", NULL},
        {"channels", "N", CLI_INT, &channels, 1, 4, "channels of the images (default: 3)", NULL},
        {"size", "N", CLI_INT, &size, 8, 1024, "their height and width (default: 32)", NULL},
        {"classes", "N", CLI_INT, &classes, 2, 100000, "classes to tell apart (default: 10)", NULL},
        {"seed", "N", CLI_SEED, &seed, 0, INT64_MAX, "of the first weights (default: 1000)", NULL},
        {NULL, NULL, CLI_SWITCH, NULL, 0, 0, NULL, NULL},
    };
    const struct cli_syntax syntax = {
        .usage = "mqbench model NAME --out FILE.onnx [flags]",
        .about = "Writes an untrained network as ONNX (mqbench list models shows the names).",
        .flags = flags,
        .words = &name,
        .max_words = 1,
        .word_name = "the name of a network",
    };
    enum cli_parsed parsed = cli_parse(&syntax, argc, argv);
    if (parsed != CLI_GO)
        return cli_parsed_exit(parsed);
    if (name == NULL || out == NULL) {
        cli_error("%s is missing: mqbench model NAME --out FILE.onnx", name == NULL ? "the name of a network" : "--out");
        return CLI_WRONG;
    }
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_graph *graph = NULL;
    mqb_status status = mqb_model_build(name, &mqb_ops, channels, size, size, classes, seed, &graph, &error);
    if (status == MQB_OK)
        status = mqb_onnx_export(graph, out, &error);
    mqb_graph_destroy(graph);
    if (status != MQB_OK)
        return cli_fail(status, &error);
    printf("%s\n", out);
    return CLI_OK;
}
