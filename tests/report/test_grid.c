/* test_grid.c - a comparison is its jobs, one after the other: the same numbers, each run once, what is refused in its place. */
#include "common/support.h"
#include "report/grid.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

static char folder[] = "/tmp/mqbench_grid_XXXXXX";
static const char *const backends[] = {"academic", "snpe_sim"};
static const char *const algos[] = {"ptq_minmax", "dorefa/pact", "nobody"};
static int bits[][2] = {{4, 4}};
static const uint64_t seeds[] = {5, 6};
static const char *const keys[] = {"recipe.epochs", "recipe.calibration_batches", "recipe.calibration_batch", "pact.compat"};
static const char *const values[] = {"0", "1", "16", "paper"};

static struct mqb_grid_config config(const char *records)
{
    return (struct mqb_grid_config){
        .job = {.model = MQB_SOURCE_DIR "/models/resnet20_synth.onnx", .dataset = "synth", .io_bits = 8, .train_limit = 16,
                .test_limit = 16, .threads = 2, .set_keys = keys, .set_values = values, .num_set = 4},
        .backends = backends, .num_backends = 2, .algos = algos, .num_algos = 3, .bits = bits, .num_bits = 1, .seeds = seeds,
        .num_seeds = 2, .folder = records,
    };
}

static int setup(void **state)
{
    (void)state;
    mqb_log_set_sink(NULL, NULL);
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static double percent(const struct mqb_accuracy *accuracy)
{
    return 100.0 * (double)accuracy->top1 / (double)accuracy->n;
}

static void test_grid_cells_equal_single_jobs(void **state)
{
    (void)state;
    struct mqb_grid_config c = config(folder);
    struct mqb_grid *grid;
    OK(mqb_grid_run(&c, &grid, &err));
    assert_int_equal(grid->num_cells, 2 * 1 * 3 * 2);
    assert_int_equal(grid->num_done, grid->num_cells);
    for (int i = 0; i < grid->num_cells; i++) {
        const struct mqb_cell *cell = &grid->cells[i];
        assert_false(cell->taken);
        if (cell->algo == 2) { /* no such algorithm: refused, and the others run all the same */
            assert_int_equal(cell->state, MQB_CELL_REFUSED);
            assert_non_null(strstr(cell->reason, "nobody"));
            assert_true(isnan(cell->fp32));
            continue;
        }
        assert_int_equal(cell->state, MQB_CELL_DONE);
        assert_int_equal(cell->deployable, cell->backend == 1);
    }
    /* One cell by hand: weights and activations by different algorithms, on the second backend, second seed. */
    const struct mqb_cell *cell = &grid->cells[((1 * 1 + 0) * 3 + 1) * 2 + 1];
    struct mqb_job_config job = c.job;
    struct mqb_result *result;
    job.backend = "snpe_sim";
    job.weight_algo = "dorefa";
    job.act_algo = "pact";
    job.weight_bits = job.activation_bits = 4;
    job.seed = 6;
    OK(mqb_job_run(&job, &result, &err));
    assert_true(fabs(cell->fp32 - percent(&result->fp32)) < 1e-6);
    assert_true(fabs(cell->fake - percent(&result->fake)) < 1e-6);
    assert_true(fabs(cell->integer - percent(&result->integer)) < 1e-6);
    assert_int_equal(cell->labels_differ, result->labels_compared - result->labels_agree);
    mqb_result_destroy(result);
    mqb_grid_destroy(grid);
}

static void test_grid_records_are_taken_not_run_again(void **state)
{
    (void)state;
    struct mqb_grid_config c = config(folder); /* where the first test left them */
    struct mqb_grid *grid;
    struct mqb_grid_summary s;
    char *text;
    OK(mqb_grid_run(&c, &grid, &err));
    for (int i = 0; i < grid->num_cells; i++)
        assert_int_equal(grid->cells[i].taken, grid->cells[i].state != MQB_CELL_REFUSED);
    const struct mqb_cell *first = &grid->cells[((1 * 1 + 0) * 3 + 1) * 2];
    mqb_grid_summarize(grid, 1, 0, 1, &s);
    assert_int_equal(s.cells, 2);
    assert_int_equal(s.done, 2);
    assert_true(s.deployable);
    assert_true(fabs(s.integer - (first[0].integer + first[1].integer) / 2) < 1e-9);
    assert_true(fabs(s.integer_spread - fabs(first[0].integer - first[1].integer) / sqrt(2.0)) < 1e-9); /* of two */
    OK(mqb_grid_screen(grid, false, &text, &err));
    assert_non_null(strstr(text, "dorefa/pact"));
    assert_non_null(strstr(text, "nobody"));
    assert_non_null(strstr(text, "12 of 12 runs"));
    mqb_deallocate(text);
    OK(mqb_grid_screen(grid, true, &text, &err));
    assert_non_null(strstr(text, "| algorithm | academic | snpe_sim |"));
    mqb_deallocate(text);
    OK(mqb_grid_json(grid, &text, &err));
    assert_non_null(strstr(text, "\"state\": \"refused\""));
    mqb_deallocate(text);
    mqb_grid_destroy(grid);
}

/* Runs the comparison, which must end at its first record with these words. */
static void refuses(const struct mqb_grid_config *c, const char *words)
{
    struct mqb_grid *grid;
    assert_int_equal(mqb_grid_run(c, &grid, &err), MQB_ERR_ARGUMENT);
    assert_non_null(strstr(err.text, "not of this comparison"));
    if (strstr(err.text, words) == NULL)
        fail_msg("\"%s\" is not in: %s", words, err.text);
    assert_int_equal(grid->num_done, 0);
    assert_false(grid->cells[0].taken);
    assert_true(isnan(grid->cells[0].fp32)); /* its numbers are not of this comparison */
    mqb_grid_destroy(grid);
}

static void test_grid_foreign_records_refused(void **state)
{
    (void)state;
    struct mqb_grid_config c = config(folder);
    struct mqb_grid *grid;
    c.job.dataset = "synth:7";
    refuses(&c, "synth:7");
    c = config(folder);
    c.job.test_limit = 32;
    refuses(&c, "--test-limit 16, not 32");
    c = config(folder);
    c.job.bn_fold_given = true;
    c.job.bn_fold = 1;
    refuses(&c, "--bn-fold");
    static const char *const other[] = {"1", "1", "16", "paper"}, *const more[] = {"recipe.lr"}, *const half[] = {"0.5"},
                             *const component[] = {"academic.point"};
    c = config(folder);
    c.job.set_values = other;
    refuses(&c, "epochs 0, not 1");
    c = config(folder);
    c.job.set_keys = more;
    c.job.set_values = half;
    c.job.num_set = 1;
    refuses(&c, "lr 0.001, not 0.5");
    c.job.set_keys = component;
    refuses(&c, "academic.point=0.5");
    /* What is left open is as the records have it. */
    c = config(folder);
    c.job.num_set = 0;
    c.job.train_limit = c.job.test_limit = 0;
    c.num_algos = 1;
    OK(mqb_grid_run(&c, &grid, &err));
    assert_true(grid->cells[0].taken);
    mqb_grid_destroy(grid);

    char copy[] = "/tmp/mqbench_grid_model_XXXXXX", model[512], command[1200];
    assert_non_null(mkdtemp(copy));
    snprintf(model, sizeof model, "%s/resnet20_synth.onnx", copy);
    snprintf(command, sizeof command, "cp '%s' '%s' && printf 'x' >> '%s'", MQB_SOURCE_DIR "/models/resnet20_synth.onnx", model, model);
    assert_int_equal(system(command), 0);
    c = config(folder);
    c.job.model = model;
    refuses(&c, "SHA-256");
    snprintf(command, sizeof command, "rm -rf '%s'", copy);
    assert_int_equal(system(command), 0);

    char path[512];
    snprintf(path, sizeof path, "%s/academic_ptq_minmax_w4a4_s5.json", folder);
    OK(mqb_file_write(path, "{\"schema\"", 9, &err));
    c = config(folder);
    assert_int_equal(mqb_grid_run(&c, &grid, &err), MQB_ERR_FORMAT);
    assert_non_null(strstr(err.text, "w4a4_s5.json"));
    mqb_grid_destroy(grid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grid_cells_equal_single_jobs),
        cmocka_unit_test(test_grid_records_are_taken_not_run_again),
        cmocka_unit_test(test_grid_foreign_records_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
