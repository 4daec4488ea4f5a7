/* cmd_profile.c - where the time of a step goes. */
#include "job_words.h"
#include "output.h"
#include "report/profile.h"

static bool check_words(const struct mqb_profile_config *config)
{
    const struct mqb_job_config *job = &config->job;
    if (config->fp32)
        return true;
    if (job->backend == NULL) {
        cli_error(
            "--backend is missing: name a hardware library (mqbench list shows all), or say --fp32 for the network as it is");
        return false;
    }
    if (job->algo == NULL && (job->weight_algo == NULL || job->act_algo == NULL)) {
        cli_error("--algo is missing: name a quantization algorithm (mqbench list shows all), or say --fp32 for the network as "
                  "it is");
        return false;
    }
    return true;
}

static int profile(const struct mqb_profile_config *config, const char *json)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_profile *result = NULL;
    char *text = NULL, *record = NULL;
    int code = CLI_FAILED;
    mqb_status status = mqb_profile_run(config, &result, &error);
    if (status == MQB_OK)
        status = mqb_profile_screen(result, &text, &error);
    if (status == MQB_OK && json != NULL)
        status = mqb_profile_json(result, &record, &error);
    if (status != MQB_OK) {
        code = cli_fail(status, &error);
        goto out;
    }
    bool to_stdout = json != NULL && json[0] == '-' && json[1] == '\0';
    if (!to_stdout)
        fputs(text, stdout);
    if (json == NULL || cli_write_record(json, record))
        code = CLI_OK;
out:
    mqb_profile_destroy(result);
    mqb_deallocate(text);
    mqb_deallocate(record);
    return code;
}

int cmd_profile(int argc, char **argv)
{
    struct mqb_profile_config config = {.job = {.io_bits = 8, .seed = 1000}, .steps = 10};
    struct mqb_job_config *job = &config.job;
    struct cli_sets sets = {0};
    const char *json = NULL;
    int bits[2] = {8, 8};
    struct cli_flag flags[MAX_JOB_FLAGS] = {
        {"backend", "NAME", CLI_TEXT, &job->backend, 0, 0, "hardware library whose rules hold (mqbench list backends)", NULL},
        {"algo", "NAME", CLI_TEXT, &job->algo, 0, 0, "quantization algorithm (mqbench list algorithms)", NULL},
        {"weight-algo", "NAME", CLI_TEXT, &job->weight_algo, 0, 0, "another one for weights", NULL},
        {"act-algo", "NAME", CLI_TEXT, &job->act_algo, 0, 0, "another one for activations", NULL},
        {"bits", "W[/A]", CLI_BITS, bits, 2, 8, "bits of weights and activations, 2 to 8 (default: 8/8)", NULL},
        {"fp32", NULL, CLI_SWITCH, &config.fp32, 0, 0, "the network as it is, without a backend and an algorithm", NULL},
        {"infer", NULL, CLI_SWITCH, &config.infer, 0, 0, "inference instead of training: in integers, or with --fp32 in float",
         NULL},
        {"steps", "N", CLI_INT, &config.steps, 1, 100000, "steps to measure (default: 10), after two to warm up", NULL},
        {"seed", "N", CLI_SEED, &job->seed, 0, INT64_MAX, "of the random images (default: 1000)", NULL},
        {"json", "FILE", CLI_TEXT, &json, 0, 0, "write the profile; - is standard output", NULL},
        {NULL, NULL, CLI_SWITCH, NULL, 0, 0, NULL, NULL},
    };
    job_words_add(flags, job, &sets);
    const struct cli_syntax syntax = {
        .usage = "mqbench profile --backend NAME --algo NAME [flags]\n       mqbench profile --fp32 [flags]",
        .about = "Shows where the time of a training step (or of inference) goes, by operator and pass, beside this machine's "
                 "limits.\n"
                 "The images are random unless --dataset names some; --batch says how many a step has.",
        .flags = flags,
    };
    enum cli_parsed parsed = cli_parse(&syntax, argc, argv);
    int code = cli_parsed_exit(parsed);
    if (parsed == CLI_GO && !check_words(&config)) {
        code = CLI_WRONG;
    } else if (parsed == CLI_GO) {
        job->weight_bits = bits[0];
        job->activation_bits = bits[1];
        job->set_keys = (const char *const *)sets.keys;
        job->set_values = (const char *const *)sets.values;
        job->num_set = sets.num;
        code = profile(&config, json);
    }
    cli_sets_deinit(&sets);
    return code;
}
