/* cmd_compare.c - many jobs and one table. */
#include "job_words.h"
#include "output.h"
#include "progress.h"
#include "report/grid.h"

#include <stdlib.h>
#include <string.h>

#define MAX_WORDS 64

struct compare_words {
    struct mqb_grid_config grid;
    const char *backends, *algos, *bits, *format, *json;
    struct cli_sets sets;
    int num_seeds;
    char *copies[3];
    const char *backend_list[MAX_WORDS], *algo_list[MAX_WORDS], *bits_list[MAX_WORDS];
    int bits_pairs[MAX_WORDS][2];
    uint64_t seeds[MAX_WORDS];
};

/* Cuts "a,b,c" at its commas, in a copy that `copy` owns. Returns the number, or -1 with a sentence. */
static int split(const char *flag, const char *text, char **copy, const char **list)
{
    int num = 0;
    char *rest = *copy = mqb_strdup(text), *word;
    while (rest != NULL && (word = strsep(&rest, ",")) != NULL) {
        if (*word == '\0' || num == MAX_WORDS) {
            cli_error(num == MAX_WORDS ? "--%s takes at most 64 words"
                                       : "--%s: expected words with a comma between them, as in a,b",
                      flag);
            return -1;
        }
        list[num++] = word;
    }
    return num;
}

/* Every component of a kind: backends as they are listed, algorithms that serve weights and activations alike. */
static int all_of(const struct mqb_job_config *job, enum mqb_kind kind, char **copy, const char **list)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_registry *registry = NULL;
    const uint32_t both = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS;
    mqb_status status = mqb_registry_create(mqb_host_table(), &registry, &error);
    char *names = NULL;
    if (status == MQB_OK)
        status = mqb_registry_add_default_manifests(registry, job->manifest, &error);
    for (size_t i = 0; status == MQB_OK && i < mqb_registry_count(registry, kind); i++) {
        const struct mqb_entry *entry = mqb_registry_at(registry, kind, i, true);
        const struct mqb_quantizer *quantizer = entry->vtable;
        if (entry->vtable == NULL || (kind == MQB_KIND_QUANTIZER && (quantizer->flags & both) != both))
            continue;
        char *longer = names == NULL ? mqb_strdup(entry->id) : mqb_format("%s,%s", names, entry->id);
        mqb_deallocate(names);
        if ((names = longer) == NULL)
            status = mqb_fail(&error, MQB_ERR_MEMORY, "no memory for a list");
    }
    mqb_registry_destroy(registry);
    int num = status == MQB_OK && names != NULL ? split("all", names, copy, list) : -1;
    if (status != MQB_OK)
        cli_fail(status, &error);
    mqb_deallocate(names);
    return num;
}

static bool read_bits(const char *word, int bits[2])
{
    char end;
    int found = sscanf(word, "%d/%d%c", &bits[0], &bits[1], &end);
    if (found == 1)
        bits[1] = bits[0];
    char plain[16], pair[16];
    snprintf(plain, sizeof plain, "%d", bits[0]);
    snprintf(pair, sizeof pair, "%d/%d", bits[0], bits[1]);
    if ((strcmp(word, plain) == 0 || strcmp(word, pair) == 0) && bits[0] >= 2 && bits[0] <= 8 && bits[1] >= 2 && bits[1] <= 8)
        return true;
    cli_error("--bits %s: expected widths from 2 to 8, as in 8,4 or 4/8,2", word);
    return false;
}

static bool read_words(struct compare_words *words)
{
    struct mqb_grid_config *grid = &words->grid;
    grid->num_backends = strcmp(words->backends, "all") == 0
                             ? all_of(&grid->job, MQB_KIND_BACKEND, &words->copies[0], words->backend_list)
                             : split("backend", words->backends, &words->copies[0], words->backend_list);
    grid->num_algos = strcmp(words->algos, "all") == 0
                          ? all_of(&grid->job, MQB_KIND_QUANTIZER, &words->copies[1], words->algo_list)
                          : split("algo", words->algos, &words->copies[1], words->algo_list);
    grid->num_bits = split("bits", words->bits, &words->copies[2], words->bits_list);
    if (grid->num_backends < 1 || grid->num_algos < 1 || grid->num_bits < 1)
        return false;
    for (int i = 0; i < grid->num_bits; i++)
        if (!read_bits(words->bits_list[i], words->bits_pairs[i]))
            return false;
    for (int i = 0; i < words->num_seeds; i++)
        words->seeds[i] = grid->job.seed + (uint64_t)i;
    grid->num_seeds = words->num_seeds;
    grid->backends = words->backend_list;
    grid->algos = words->algo_list;
    grid->bits = words->bits_pairs;
    grid->seeds = words->seeds;
    if (strcmp(words->format, "text") == 0 || strcmp(words->format, "markdown") == 0)
        return true;
    cli_error("--format %s: expected text or markdown", words->format);
    return false;
}

static bool print_grid(const struct compare_words *words, const struct mqb_grid *grid)
{
    struct mqb_error error = MQB_ERROR_INIT;
    char *text = NULL;
    bool good = true, to_stdout = words->json != NULL && strcmp(words->json, "-") == 0;
    if (words->json != NULL) {
        good = mqb_grid_json(grid, &text, &error) == MQB_OK ? cli_write_record(words->json, text) : false;
        mqb_deallocate(text);
        text = NULL;
    }
    if (!to_stdout && mqb_grid_screen(grid, strcmp(words->format, "markdown") == 0, &text, &error) == MQB_OK)
        fputs(text, stdout);
    mqb_deallocate(text);
    if (error.text[0] != '\0')
        cli_error("%s", error.text);
    return good && error.text[0] == '\0';
}

static int compare(struct compare_words *words)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_grid *grid = NULL;
    struct cli_progress progress;
    if (!read_words(words))
        return CLI_WRONG;
    words->grid.job.set_keys = (const char *const *)words->sets.keys;
    words->grid.job.set_values = (const char *const *)words->sets.values;
    words->grid.job.num_set = words->sets.num;
    cli_progress_begin(&progress);
    words->grid.job.progress = &progress.sink;
    mqb_status status = mqb_grid_run(&words->grid, &grid, &error);
    cli_progress_end(&progress);
    bool printed = grid == NULL || print_grid(words, grid);
    bool any = false;
    for (int i = 0; grid != NULL && i < grid->num_cells; i++)
        any |= grid->cells[i].state == MQB_CELL_DONE;
    mqb_grid_destroy(grid);
    if (status != MQB_OK)
        return cli_fail(status, &error);
    if (printed && !any)
        cli_error("no run of this comparison could be done; the reasons are below its table");
    return printed && any ? CLI_OK : CLI_FAILED;
}

int cmd_compare(int argc, char **argv)
{
    struct compare_words words = {.backends = "all",
                                  .algos = "all",
                                  .bits = "8",
                                  .format = "text",
                                  .num_seeds = 1,
                                  .grid = {.job = {.io_bits = 8, .seed = 1000}}};
    struct mqb_job_config *job = &words.grid.job;
    struct cli_flag flags[MAX_JOB_FLAGS] = {
        {"backend", "A,B,...", CLI_TEXT, &words.backends, 0, 0, "backends, or all (default)", NULL},
        {"algo", "X,Y,...", CLI_TEXT, &words.algos, 0, 0, "algorithms, WEIGHTS/ACTIVATIONS for two, or all (default)", NULL},
        {"bits", "W[/A],...", CLI_TEXT, &words.bits, 0, 0, "widths, each from 2 to 8 (default: 8)", NULL},
        {"seeds", "N", CLI_INT, &words.num_seeds, 1, MAX_WORDS,
         "so many seeds, one after the other: mean and spread (default: 1)", NULL},
        {"seed", "N", CLI_SEED, &job->seed, 0, INT64_MAX, "the first seed (default: 1000)", NULL},
        {"out", "DIR", CLI_TEXT, &words.grid.folder, 0, 0,
         "keep each run's record there; runs whose record is there are not repeated", NULL},
        {"format", "WORD", CLI_TEXT, &words.format, 0, 0, "text or markdown (default: text)", NULL},
        {"json", "FILE", CLI_TEXT, &words.json, 0, 0, "write all cells; - is standard output", NULL},
        {NULL, NULL, CLI_SWITCH, NULL, 0, 0, NULL, NULL},
    };
    job_words_add(flags, job, &words.sets);
    const struct cli_syntax syntax = {
        .usage = "mqbench compare [--backend A,B] [--algo X,Y] [--bits 8,4] [flags]",
        .about = "Runs backends x algorithms x bits x seeds one after the other, all from one FP32 network, and prints one "
                 "table: top-1 of\n"
                 "the integer program, of fake quantization beside it, and the share of labels on which they differ. What "
                 "cannot be\n"
                 "deployed says why.",
        .flags = flags,
    };
    enum cli_parsed parsed = cli_parse(&syntax, argc, argv);
    int code = parsed == CLI_GO ? compare(&words) : cli_parsed_exit(parsed);
    for (int i = 0; i < 3; i++)
        mqb_deallocate(words.copies[i]);
    cli_sets_deinit(&words.sets);
    return code;
}
