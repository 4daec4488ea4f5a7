/* grid.c - runs the cells of a comparison, or takes their records from a folder. */
#include "report/grid_record.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool starts_new(const struct mqb_grid_config *config, const struct mqb_cell *cell)
{
    return cell->seed == config->num_seeds;
}

/* ---- progress: the phase of a cell, with the cell's place ahead of it ---- */

struct relay {
    const struct mqb_progress_sink *sink;
    char prefix[96], phase[160];
};

static void relay_report(void *context, const struct mqb_progress *progress)
{
    struct relay *relay = context;
    struct mqb_progress p = *progress;
    snprintf(relay->phase, sizeof relay->phase, "%s%s", relay->prefix, progress->phase != NULL ? progress->phase : "");
    p.phase = relay->phase;
    relay->sink->report(relay->sink->context, &p);
}

/* ---- cells ---- */

static mqb_status run_cell(const struct mqb_grid_config *config, struct mqb_cell *cell, int place, int total, const char *path,
                           struct mqb_error *error)
{
    struct mqb_job_config job = config->job;
    struct mqb_error own = MQB_ERROR_INIT;
    struct mqb_result *result = NULL;
    struct relay relay = {.sink = config->job.progress};
    const struct mqb_progress_sink sink = {relay_report, &relay};
    char *words = mqb_strdup(config->algos[cell->algo]), *slash = words != NULL ? strchr(words, '/') : NULL, *text = NULL;
    const char **keys = mqb_allocate_array(config->job.num_set + 1, sizeof *keys),
               **values = mqb_allocate_array(config->job.num_set + 1, sizeof *values);
    mqb_status status = MQB_OK;
    if (words == NULL || keys == NULL || values == NULL) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for a comparison");
        goto out;
    }
    snprintf(relay.prefix, sizeof relay.prefix, "[%d/%d] %s %s %d/%d: ", place, total, config->backends[cell->backend],
             config->algos[cell->algo], config->bits[cell->bits][0], config->bits[cell->bits][1]);
    if (slash != NULL)
        *slash = '\0';
    job.backend = config->backends[cell->backend];
    job.algo = slash == NULL ? words : NULL;
    job.weight_algo = slash != NULL ? words : NULL;
    job.act_algo = slash != NULL ? slash + 1 : NULL;
    job.weight_bits = config->bits[cell->bits][0];
    job.activation_bits = config->bits[cell->bits][1];
    job.seed = config->seeds[cell->seed];
    job.out = NULL;
    job.resume = false;
    job.num_set = 0;
    for (size_t i = 0; i < config->job.num_set; i++)
        if (!mqb_cell_foreign(config, cell, config->job.set_keys[i])) {
            keys[job.num_set] = config->job.set_keys[i];
            values[job.num_set++] = config->job.set_values[i];
        }
    job.set_keys = keys;
    job.set_values = values;
    if (job.progress != NULL)
        job.progress = &sink;
    mqb_status ran = mqb_job_run(&job, &result, &own);
    if (ran == MQB_ERR_MEMORY) {
        status = mqb_fail(error, ran, "%s", own.text);
    } else if (result == NULL) {
        cell->state = MQB_CELL_REFUSED;
        status = mqb_cell_set_reason(cell, own.text, error);
    } else if ((status = mqb_result_json(result, &text, error)) == MQB_OK) {
        if (!mqb_cell_read(cell, text, strlen(text), error, &status))
            status = mqb_fail(error, MQB_ERR_INTERNAL, "a record that cannot be read back");
        if (status == MQB_OK && path != NULL)
            status = mqb_file_write(path, text, strlen(text), error);
    }
out:
    mqb_deallocate(text);
    mqb_deallocate(words);
    mqb_deallocate(keys);
    mqb_deallocate(values);
    mqb_result_destroy(result);
    return status;
}

static mqb_status make_cells(struct mqb_grid *grid, struct mqb_error *error)
{
    const struct mqb_grid_config *c = grid->config;
    struct mqb_cell cell = {.fp32 = NAN, .fake = NAN, .integer = NAN, .labels_differ = -1};
    size_t num = (size_t)c->num_backends * (size_t)c->num_bits * (size_t)c->num_algos * (size_t)c->num_seeds;
    grid->cells = mqb_allocate_array(num, sizeof *grid->cells);
    if (grid->cells == NULL)
        return mqb_fail(error, num == 0 ? MQB_ERR_ARGUMENT : MQB_ERR_MEMORY,
                        num == 0 ? "there is nothing to compare" : "no memory for %zu cells", num);
    for (cell.backend = 0; cell.backend < c->num_backends; cell.backend++)
        for (cell.bits = 0; cell.bits < c->num_bits; cell.bits++)
            for (cell.algo = 0; cell.algo < c->num_algos; cell.algo++)
                for (cell.seed = 0; !starts_new(c, &cell); cell.seed++)
                    grid->cells[grid->num_cells++] = cell;
    return MQB_OK;
}

mqb_status mqb_grid_run(const struct mqb_grid_config *config, struct mqb_grid **result, struct mqb_error *error)
{
    struct mqb_grid *grid = mqb_allocate(sizeof *grid);
    double start = mqb_seconds();
    *result = NULL;
    if (grid == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a comparison");
    grid->config = config;
    mqb_status status = make_cells(grid, error);
    char model_sha256[65] = "";
    if (status == MQB_OK && config->folder != NULL)
        status = mqb_dir_create(config->folder, error);
    if (status == MQB_OK && config->folder != NULL && config->job.model != NULL)
        status = mqb_sha256_file(config->job.model, model_sha256, error);
    for (int i = 0; i < grid->num_cells && status == MQB_OK; i++) {
        struct mqb_cell *cell = &grid->cells[i];
        char *path = config->folder != NULL ? mqb_cell_path(config, cell) : NULL;
        if (config->folder != NULL && path == NULL)
            status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for a path");
        if (status == MQB_OK && path != NULL)
            status = mqb_cell_take(config, model_sha256, cell, path, error);
        if (status == MQB_OK && !cell->taken)
            status = run_cell(config, cell, i + 1, grid->num_cells, path, error);
        grid->num_done += status == MQB_OK;
        mqb_deallocate(path);
    }
    grid->seconds = mqb_seconds() - start;
    *result = grid;
    return status;
}

void mqb_grid_destroy(struct mqb_grid *grid)
{
    if (grid == NULL)
        return;
    for (int i = 0; i < grid->num_cells; i++)
        mqb_deallocate(grid->cells[i].reason);
    mqb_deallocate(grid->cells);
    mqb_deallocate(grid);
}

/* ---- summary ---- */

/* Mean and sample standard deviation of those that are there. */
static void mean_of(const double *x, int n, double *mean, double *spread)
{
    double sum = 0.0, squares = 0.0;
    int count = 0;
    for (int i = 0; i < n; i++)
        if (isfinite(x[i])) {
            sum += x[i];
            count++;
        }
    *mean = count > 0 ? sum / count : (double)NAN;
    for (int i = 0; i < n; i++)
        if (isfinite(x[i]))
            squares += (x[i] - *mean) * (x[i] - *mean);
    *spread = count > 1 ? sqrt(squares / (count - 1)) : (double)NAN;
}

#define MAX_SEEDS 64

void mqb_grid_summarize(const struct mqb_grid *grid, int backend, int bits, int algo, struct mqb_grid_summary *summary)
{
    const struct mqb_grid_config *c = grid->config;
    double fp32[MAX_SEEDS], fake[MAX_SEEDS], integer[MAX_SEEDS], differ[MAX_SEEDS], unused;
    int n = 0;
    *summary = (struct mqb_grid_summary){.deployable = true};
    int first = ((backend * c->num_bits + bits) * c->num_algos + algo) * c->num_seeds;
    for (int i = first; i < first + c->num_seeds && n < MAX_SEEDS; i++) {
        const struct mqb_cell *cell = &grid->cells[i];
        fp32[n] = cell->fp32;
        fake[n] = cell->fake;
        integer[n] = cell->integer;
        differ[n++] = cell->labels_differ >= 0 ? 100.0 * (double)cell->labels_differ / (double)cell->n_test : (double)NAN;
        summary->cells++;
        summary->done += cell->state == MQB_CELL_DONE;
        summary->deployable &= cell->deployable;
        if (summary->reason == NULL && cell->reason != NULL && cell->reason[0] != '\0')
            summary->reason = cell->reason;
    }
    mean_of(fp32, n, &summary->fp32, &unused);
    mean_of(fake, n, &summary->fake, &summary->fake_spread);
    mean_of(integer, n, &summary->integer, &summary->integer_spread);
    mean_of(differ, n, &summary->labels_differ, &unused);
}
