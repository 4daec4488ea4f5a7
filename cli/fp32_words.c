/* fp32_words.c - what `mqbench train` and `mqbench eval` share. */
#include "fp32_words.h"
#include "output.h"
#include "progress.h"
#include "report/text.h"

#include <math.h>
#include <string.h>

static void print_lines(FILE *stream, const struct mqb_fp32_config *config, const struct mqb_fp32_result *result)
{
    const struct mqb_accuracy *accuracy = &result->accuracy;
    const struct mqb_train_result *training = &result->training;
    char parameters[MQB_SHORT], images[MQB_SHORT], time[MQB_SHORT], memory[MQB_SHORT];
    mqb_text_count(result->num_parameters, parameters);
    mqb_text_count(accuracy->n, images);
    mqb_text_seconds(result->seconds, time);
    mqb_text_bytes((double)mqb_peak_rss(), memory);
    fprintf(stream, "\n  model        %s, %s parameters\n", config->model, parameters);
    fprintf(stream, "  data         %s, normalized %s%s\n", config->dataset, result->normalize,
            result->normalize_assumed ? " (assumed)" : "");
    if (training->steps > 0) {
        fprintf(stream, "  training     %lld steps", (long long)training->steps);
        if (isfinite(training->first_loss) && isfinite(training->last_loss))
            fprintf(stream, ", loss %.4f -> %.4f", training->first_loss, training->last_loss);
        fprintf(stream, "\n");
    }
    if (accuracy->n > 0) {
        double low, high, n = (double)accuracy->n;
        mqb_wilson(accuracy->top1, accuracy->n, &low, &high);
        fprintf(stream, "  top-1        %.2f %%  (95 %% interval %.2f .. %.2f) of %s test images\n", 100.0 * (double)accuracy->top1 / n, low,
                high, images);
        fprintf(stream, "  top-5        %.2f %%\n", 100.0 * (double)accuracy->top5 / n);
    }
    fprintf(stream, "  time         %s, %s at the peak\n", time, memory);
    if (config->out != NULL && result->model_sha256[0] != '\0')
        fprintf(stream, "  written      %s  %.12s\n", config->out, result->model_sha256);
    fprintf(stream, "\n");
}

/* The record goes first; what was computed is printed whatever becomes of it. */
static int deliver(const struct fp32_words *words, const char *command, const struct mqb_fp32_result *result)
{
    struct mqb_error error = MQB_ERROR_INIT;
    char *text = NULL;
    bool to_stdout = words->json != NULL && strcmp(words->json, "-") == 0, written = true;
    if (words->json != NULL) {
        mqb_status status = mqb_fp32_json(command, &words->config, result, &text, &error);
        if (status != MQB_OK)
            cli_fail(status, &error);
        written = status == MQB_OK && cli_write_record(words->json, text);
        mqb_deallocate(text);
    }
    if (!to_stdout)
        print_lines(stdout, &words->config, result);
    else if (!written)
        print_lines(stderr, &words->config, result);
    return written ? CLI_OK : CLI_FAILED;
}

int fp32_words_run(struct fp32_words *words, const char *command,
                   mqb_status (*call)(const struct mqb_fp32_config *config, struct mqb_fp32_result *result, struct mqb_error *error))
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_fp32_result result = {.seconds = 0.0};
    struct cli_progress progress;
    mqb_status status = words->json != NULL ? mqb_probe_file(words->json, &error) : MQB_OK;
    if (status != MQB_OK)
        return cli_fail(status, &error);
    words->config.set_keys = (const char *const *)words->sets.keys;
    words->config.set_values = (const char *const *)words->sets.values;
    words->config.num_set = words->sets.num;
    cli_progress_begin(&progress);
    words->config.progress = &progress.sink;
    status = call(&words->config, &result, &error);
    cli_progress_end(&progress);
    if (status == MQB_OK)
        return deliver(words, command, &result);
    if (result.training.steps > 0) { /* what is there of a training that did not come to its end */
        print_lines(stderr, &words->config, &result);
        cli_fail(status, &error);
        return CLI_FAILED;
    }
    return cli_fail(status, &error);
}
