/* cmd_run.c - the main job. */
#include "args.h"
#include "job_words.h"
#include "output.h"
#include "progress.h"
#include "report/artefacts.h"

#include <string.h>
#include <unistd.h>

#define BACKEND_HELP "hardware library whose rules hold (mqbench list backends)"

struct run_words {
    struct mqb_job_config job;
    int bits[2];
    struct cli_sets sets;
    const char *json;
};

/* The words that make no sense without others. */
static bool check_words(const struct run_words *words)
{
    const struct mqb_job_config *job = &words->job;
    if (job->backend == NULL) {
        cli_error("--backend is missing: name a hardware library, as in mqbench --backend snpe_sim --algo lsq (mqbench list shows all)");
        return false;
    }
    if (job->algo == NULL && (job->weight_algo == NULL || job->act_algo == NULL)) {
        cli_error("--algo is missing: name a quantization algorithm, as in mqbench --backend %s --algo lsq (mqbench list shows all)",
                  job->backend);
        return false;
    }
    if (job->resume && job->out == NULL) {
        cli_error("--resume goes on from the checkpoint in the folder of --out; name that folder");
        return false;
    }
    return true;
}

static bool probe(const struct run_words *words)
{
    struct mqb_error error = MQB_ERROR_INIT;
    mqb_status status = words->json != NULL ? mqb_probe_file(words->json, &error) : MQB_OK;
    if (status == MQB_OK && words->job.out != NULL)
        status = mqb_probe_dir(words->job.out, &error);
    if (status != MQB_OK)
        cli_fail(status, &error);
    return status == MQB_OK;
}

static bool write_json(const char *path, struct mqb_result *result)
{
    struct mqb_error error = MQB_ERROR_INIT;
    char *text = NULL;
    bool file = strcmp(path, "-") != 0;
    mqb_status status = file ? mqb_result_add_file(result, path, &error) : MQB_OK;
    bool listed = status == MQB_OK && file;
    if (status == MQB_OK)
        status = mqb_result_json(result, &text, &error);
    if (status != MQB_OK)
        cli_fail(status, &error);
    bool written = status == MQB_OK && cli_write_record(path, text);
    if (!written && listed) { /* the screen names what is really there */
        mqb_deallocate(result->files[--result->num_files]);
        result->files[result->num_files] = NULL;
    }
    mqb_deallocate(text);
    return written;
}

static bool print_screen(FILE *stream, const struct mqb_result *result)
{
    struct mqb_error error = MQB_ERROR_INIT;
    char *text = NULL;
    mqb_status status = mqb_result_screen(result, cli_has_color(stream), &text, &error);
    if (status != MQB_OK) {
        cli_fail(status, &error);
        return false;
    }
    fputs(text, stream);
    mqb_deallocate(text);
    return fflush(stream) == 0;
}

/* The record first, so that the screen can name it; the screen whatever became of the record. With the record on standard
 * output the screen is for a terminal, or for when the record is lost. */
static bool deliver(const struct run_words *words, struct mqb_result *result)
{
    bool to_stdout = words->json != NULL && strcmp(words->json, "-") == 0;
    bool written = words->json == NULL || write_json(words->json, result);
    if (!to_stdout) {
        if (!print_screen(stdout, result) && !isatty(STDERR_FILENO))
            print_screen(stderr, result);
    } else if (!written || isatty(STDERR_FILENO)) {
        print_screen(stderr, result);
    }
    return written;
}

static int run(struct run_words *words)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_result *result = NULL;
    struct cli_progress progress;
    if (!check_words(words))
        return CLI_WRONG;
    if (!probe(words))
        return CLI_FAILED;
    words->job.weight_bits = words->bits[0];
    words->job.activation_bits = words->bits[1];
    words->job.set_keys = (const char *const *)words->sets.keys;
    words->job.set_values = (const char *const *)words->sets.values;
    words->job.num_set = words->sets.num;
    cli_progress_begin(&progress);
    words->job.progress = &progress.sink;
    mqb_status status = mqb_job_run(&words->job, &result, &error);
    cli_progress_end(&progress);
    bool delivered = result == NULL || deliver(words, result);
    bool ended = result != NULL && result->ended != NULL && result->ended[0] != '\0';
    int code = delivered && !ended ? CLI_OK : CLI_FAILED;
    if (status != MQB_OK)
        code = cli_fail(status, &error) == CLI_WRONG && result == NULL ? CLI_WRONG : CLI_FAILED;
    else if (ended)
        cli_error("%s", result->ended);
    mqb_result_destroy(result);
    return code;
}

int cmd_run(int argc, char **argv)
{
    struct run_words words = {.bits = {8, 8}, .job = {.io_bits = 8, .seed = 1000}};
    struct mqb_job_config *job = &words.job;
    struct cli_flag flags[MAX_JOB_FLAGS] = {
        {"backend", "NAME", CLI_TEXT, &job->backend, 0, 0, BACKEND_HELP, NULL},
        {"algo", "NAME", CLI_TEXT, &job->algo, 0, 0, "quantization algorithm (mqbench list algorithms)", NULL},
        {"weight-algo", "NAME", CLI_TEXT, &job->weight_algo, 0, 0, "another one for weights", NULL},
        {"act-algo", "NAME", CLI_TEXT, &job->act_algo, 0, 0, "another one for activations", NULL},
        {"bits", "W[/A]", CLI_BITS, words.bits, 2, 8, "bits of weights and activations, 2 to 8 (default: 8/8)", NULL},
        {"seed", "N", CLI_SEED, &job->seed, 0, INT64_MAX, "of everything random (default: 1000)", NULL},
        {"json", "FILE", CLI_TEXT, &words.json, 0, 0, "write the result record; - is standard output", NULL},
        {"out", "DIR", CLI_TEXT, &job->out, 0, 0, "keep the quantized network, its parameters and the checkpoint", NULL},
        {"waterfall", NULL, CLI_SWITCH, &job->waterfall, 0, 0, "find out which rule of the library the integers owe their difference to",
         NULL},
        {"resume", NULL, CLI_SWITCH, &job->resume, 0, 0, "go on from the checkpoint in the folder of --out", NULL},
        {NULL, NULL, CLI_SWITCH, NULL, 0, 0, NULL, NULL},
    };
    job_words_add(flags, job, &words.sets);
    const struct cli_syntax syntax = {
        .usage = "mqbench [run] --backend NAME --algo NAME [flags]",
        .about = "Quantizes a pretrained network under the rules of a hardware library, calibrates and trains it, runs it in that\n"
                 "library's integer arithmetic, and reports FP32, fake-quantized and integer accuracy side by side.",
        .flags = flags,
    };
    enum cli_parsed parsed = cli_parse(&syntax, argc, argv);
    /* For the record: what would have to be typed again. */
    const char **command = mqb_allocate_array((size_t)argc + 2, sizeof *command);
    if (command != NULL) {
        command[0] = "mqbench";
        for (int i = 0; i < argc; i++)
            command[i + 1] = argv[i];
    }
    job->command_line = command;
    int code = parsed == CLI_GO ? run(&words) : cli_parsed_exit(parsed);
    mqb_deallocate(command);
    cli_sets_deinit(&words.sets);
    return code;
}
