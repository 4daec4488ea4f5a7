/* test_session.c - what every subcommand needs: components, model, normalisation, recipe, fit; and FP32 training end to end. */
#include "report/report.h"
#include "graph/op.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct mqb_error error = MQB_ERROR_INIT;
static char folder[64];

static int setup(void **state)
{
    (void)state;
    setenv("MQBENCH_HOME", MQB_BINARY_DIR "/share/mqbench", 1);
    strcpy(folder, "test_session.XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static char *in_folder(const char *name)
{
    char *path = mqb_path_join(folder, name);
    assert_non_null(path);
    return path;
}

static void assert_says(const char *part)
{
    if (strstr(error.text, part) == NULL)
        fail_msg("'%s' is not in: %s", part, error.text);
}

static void write_text(const char *path, const char *text)
{
    assert_int_equal(mqb_file_write(path, text, strlen(text), &error), MQB_OK);
}

static struct mqb_session open_session(void)
{
    struct mqb_session session;
    if (mqb_session_open(NULL, NULL, 2, &session, &error) != MQB_OK)
        fail_msg("%s", error.text);
    return session;
}

/* ---- components ---- */

static void test_session_best_provider_chosen(void **state)
{
    (void)state;
    struct mqb_session session = open_session();
    const struct mqb_host *host = mqb_host_table();
    assert_non_null(session.compute);
    for (size_t i = 0; i < mqb_registry_count(session.registry, MQB_KIND_COMPUTE); i++) {
        const struct mqb_entry *entry = mqb_registry_at(session.registry, MQB_KIND_COMPUTE, i, true);
        if (entry->vtable != NULL)
            assert_true(((const struct mqb_compute *)entry->vtable)->score(host) <= session.compute->score(host));
    }
    assert_int_equal(mqb_pool_num_threads(session.pool), 2);
    mqb_session_close(&session);
}

static void test_session_wrong_words_refused(void **state)
{
    (void)state;
    struct mqb_session session;
    assert_int_equal(mqb_session_open(NULL, "nativ", 1, &session, &error), MQB_ERR_NOT_FOUND);
    assert_says("nativ");
    assert_int_equal(mqb_session_open("no/such/manifest.ini", NULL, 1, &session, &error), MQB_ERR_NOT_FOUND);
    assert_says("no/such/manifest.ini");
    assert_int_equal(mqb_session_open(NULL, NULL, 5000, &session, &error), MQB_ERR_ARGUMENT);
    assert_says("5000");
    assert_null(session.registry);
    char *home = in_folder("empty-home");
    assert_int_equal(mqb_dir_create(home, &error), MQB_OK);
    setenv("MQBENCH_HOME", home, 1);
    setenv("XDG_CONFIG_HOME", home, 1);
    assert_int_equal(mqb_session_open(NULL, NULL, 1, &session, &error), MQB_ERR_NOT_FOUND);
    assert_says("compute");
    assert_says("MQBENCH_HOME");
    unsetenv("XDG_CONFIG_HOME");
    setenv("MQBENCH_HOME", MQB_BINARY_DIR "/share/mqbench", 1);
    mqb_deallocate(home);
}

/* ---- model and normalisation ---- */

static struct mqb_graph *build_network(int64_t channels, int64_t classes)
{
    struct mqb_graph *graph = NULL;
    if (mqb_model_build("resnet20", &mqb_ops, channels, 32, 32, classes, 1, &graph, &error) != MQB_OK)
        fail_msg("%s", error.text);
    return graph;
}

static void test_session_model_exported_imported_with_hash(void **state)
{
    (void)state;
    struct mqb_session session = open_session();
    struct mqb_graph *graph = build_network(3, 10), *again = NULL;
    char sha256[65], expected[65], *path = in_folder("net.onnx");
    assert_int_equal(mqb_onnx_export(graph, path, &error), MQB_OK);
    assert_int_equal(mqb_session_model(&session, path, &again, sha256, &error), MQB_OK);
    assert_int_equal(mqb_sha256_file(path, expected, &error), MQB_OK);
    assert_string_equal(sha256, expected);
    mqb_graph_destroy(again);
    /* A weight that is no number. */
    again = NULL;
    for (int32_t i = 0; i < graph->num_values; i++)
        if (graph->values[i].kind == MQB_VALUE_PARAM && graph->values[i].rank == 4) {
            graph->values[i].data[3] = NAN;
            break;
        }
    assert_int_equal(mqb_onnx_export(graph, path, &error), MQB_OK);
    assert_int_not_equal(mqb_session_model(&session, path, &again, sha256, &error), MQB_OK);
    assert_says(path);
    assert_null(again);
    mqb_graph_destroy(graph);
    mqb_session_close(&session);
    mqb_deallocate(path);
}

static void test_session_model_missing_says_what_to_do(void **state)
{
    (void)state;
    struct mqb_session session = open_session();
    struct mqb_graph *graph = NULL;
    char sha256[65];
    assert_int_equal(mqb_session_model(&session, "no/model.onnx", &graph, sha256, &error), MQB_ERR_NOT_FOUND);
    assert_says("no/model.onnx");
    assert_int_equal(mqb_session_model(&session, "resnet20", &graph, sha256, &error), MQB_ERR_NOT_FOUND);
    assert_says("mqbench train");
    assert_null(graph);
    mqb_session_close(&session);
}

struct note {
    int count;
    char text[512];
};

static void keep_note(void *context, int level, const char *line)
{
    struct note *note = context;
    if (level == MQB_LOG_NOTE) {
        note->count++;
        snprintf(note->text, sizeof note->text, "%s", line);
    }
}

static void test_normalize_word_model_or_assumed_aloud(void **state)
{
    (void)state;
    struct mqb_graph *graph = build_network(3, 10);
    struct mqb_normalize normalize;
    struct note note = {0, ""};
    bool assumed;
    mqb_log_set_sink(keep_note, &note);
    assert_int_equal(mqb_session_normalize(NULL, graph, &normalize, &assumed, &error), MQB_OK);
    assert_true(assumed);
    assert_string_equal(normalize.text, "imagenet");
    assert_int_equal(note.count, 1);
    assert_non_null(strstr(note.text, "imagenet"));
    mqb_deallocate(graph->normalize);
    graph->normalize = mqb_strdup("tf");
    assert_int_equal(mqb_session_normalize(NULL, graph, &normalize, &assumed, &error), MQB_OK);
    assert_false(assumed);
    assert_string_equal(normalize.text, "tf");
    assert_true(normalize.a[0] == (float)(1 / 127.5) && normalize.b[0] == -1.0f); /* u8 / 127.5 - 1 */
    assert_int_equal(mqb_session_normalize("raw", graph, &normalize, &assumed, &error), MQB_OK);
    assert_string_equal(normalize.text, "raw");
    assert_int_equal(note.count, 1);
    assert_int_not_equal(mqb_session_normalize("imagnet", graph, &normalize, &assumed, &error), MQB_OK);
    assert_says("--normalize");
    assert_says("imagenet");
    mqb_log_set_sink(NULL, NULL);
    mqb_graph_destroy(graph);
}

/* ---- fit ---- */

static void test_loader_network_and_data_that_do_not_fit_refused(void **state)
{
    (void)state;
    struct mqb_dataset *dataset = NULL;
    struct mqb_loader *loader = NULL;
    struct mqb_normalize normalize;
    assert_int_equal(mqb_dataset_open("synth:train=40,test=40", 0, 0, 0, &dataset, &error), MQB_OK);
    assert_int_equal(mqb_normalize_parse("unit", &normalize, &error), MQB_OK);
    struct mqb_graph *grey = build_network(1, 10), *few = build_network(3, 4), *right = build_network(3, 10);
    assert_int_equal(mqb_session_loader(grey, dataset, MQB_SPLIT_TEST, 8, &normalize, &loader, &error), MQB_ERR_ARGUMENT);
    assert_says("channel");
    assert_int_equal(mqb_session_loader(few, dataset, MQB_SPLIT_TEST, 8, &normalize, &loader, &error), MQB_ERR_ARGUMENT);
    assert_says("4 classes");
    assert_int_equal(mqb_session_loader(right, dataset, MQB_SPLIT_TEST, 8, &normalize, &loader, &error), MQB_OK);
    assert_int_equal(mqb_loader_num_batches(loader), 5);
    mqb_loader_destroy(loader);
    mqb_graph_destroy(grey);
    mqb_graph_destroy(few);
    mqb_graph_destroy(right);
    mqb_dataset_close(dataset);
}

/* ---- recipe ---- */

static void test_recipe_sections_then_command_line_win(void **state)
{
    (void)state;
    struct mqb_session session = open_session();
    struct mqb_recipe recipe;
    char *path = in_folder("recipe.ini");
    const char *const keys[] = {"other.thing", "recipe.batch"}, *const values[] = {"1", "77"};
    write_text(path, "[bits 4]\nlr = 0.4\n[recipe]\nlr = 0.1\nepochs = 3\nbatch = 10\n[model net*]\nlr = 0.2\nepochs = 4\n");
    assert_int_equal(mqb_session_recipe(&session, path, "a/folder/net.onnx", 8, keys, values, 2, &recipe, &error), MQB_OK);
    assert_true(recipe.lr == 0.2 && recipe.epochs == 4 && recipe.batch == 77);
    assert_int_equal(mqb_session_recipe(&session, path, "net.onnx", 4, NULL, NULL, 0, &recipe, &error), MQB_OK);
    assert_true(recipe.lr == 0.4 && recipe.epochs == 4 && recipe.batch == 10);
    assert_int_equal(mqb_session_recipe(&session, path, "else.onnx", 8, NULL, NULL, 0, &recipe, &error), MQB_OK);
    assert_true(recipe.lr == 0.1 && recipe.epochs == 3);
    mqb_session_close(&session);
    mqb_deallocate(path);
}

static void test_recipe_default_file_legal_for_every_width(void **state)
{
    (void)state;
    static const int widths[] = {2, 3, 4, 5, 6, 7, 8, 32};
    struct mqb_session session = open_session();
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        struct mqb_recipe recipe;
        if (mqb_session_recipe(&session, NULL, NULL, widths[i], NULL, NULL, 0, &recipe, &error) != MQB_OK)
            fail_msg("%s", error.text);
        assert_true(recipe.epochs > 0 && recipe.lr > 0.0);
    }
    mqb_session_close(&session);
}

static void test_recipe_mistakes_refused_with_place(void **state)
{
    (void)state;
    struct mqb_session session = open_session();
    struct mqb_recipe recipe;
    char *path = in_folder("wrong.ini");
    const char *const keys[] = {"recipe.epocs"}, *const values[] = {"1"};
    write_text(path, "[recipe]\n\nlearning = 0.1\n");
    assert_int_equal(mqb_session_recipe(&session, path, "m", 8, NULL, NULL, 0, &recipe, &error), MQB_ERR_ARGUMENT);
    assert_says("wrong.ini:3");
    assert_says("learning");
    write_text(path, "[recipe]\nmomentum = 1.5\n");
    assert_int_equal(mqb_session_recipe(&session, path, "m", 8, NULL, NULL, 0, &recipe, &error), MQB_ERR_ARGUMENT);
    assert_says("wrong.ini:2");
    write_text(path, "[recipies]\nlr = 1\n");
    assert_int_equal(mqb_session_recipe(&session, path, "m", 8, NULL, NULL, 0, &recipe, &error), MQB_ERR_FORMAT);
    assert_says("wrong.ini:2");
    assert_int_equal(mqb_session_recipe(&session, "no/recipe.ini", "m", 8, NULL, NULL, 0, &recipe, &error), MQB_ERR_NOT_FOUND);
    assert_says("no/recipe.ini");
    assert_int_equal(mqb_session_recipe(&session, NULL, "m", 8, keys, values, 1, &recipe, &error), MQB_ERR_ARGUMENT);
    assert_says("epochs");
    mqb_session_close(&session);
    mqb_deallocate(path);
}

/* ---- what cannot be written ---- */

static void test_probe_places_found_out_and_left_clean(void **state)
{
    (void)state;
    char *file = in_folder("new.json"), *dir = in_folder("made/deep"), *kept = in_folder("kept.json");
    void *data;
    size_t size;
    assert_int_equal(mqb_probe_file("-", &error), MQB_OK);
    assert_int_equal(mqb_probe_file(file, &error), MQB_OK);
    assert_false(mqb_file_exists(file));
    write_text(kept, "content");
    assert_int_equal(mqb_probe_file(kept, &error), MQB_OK);
    assert_int_equal(mqb_file_read(kept, 100, &data, &size, &error), MQB_OK);
    assert_string_equal(data, "content");
    mqb_deallocate(data);
    assert_int_equal(mqb_probe_file(folder, &error), MQB_ERR_ARGUMENT);
    assert_int_equal(mqb_probe_file("", &error), MQB_ERR_ARGUMENT);
    assert_int_equal(mqb_probe_file("/proc/mqbench-test", &error), MQB_ERR_IO);
    assert_says("/proc/mqbench-test");
    assert_int_equal(mqb_probe_file("no/such/folder/file", &error), MQB_ERR_IO);
    assert_int_equal(mqb_probe_dir(dir, &error), MQB_OK);
    assert_int_equal(rmdir(dir), 0); /* empty */
    assert_int_equal(mqb_probe_dir(kept, &error), MQB_ERR_IO);
    assert_int_equal(mqb_probe_dir("/proc/mqbench-test", &error), MQB_ERR_IO);
    mqb_deallocate(file);
    mqb_deallocate(dir);
    mqb_deallocate(kept);
}

/* ---- FP32 ---- */

static void count_report(void *context, const struct mqb_progress *progress)
{
    assert_non_null(progress->phase);
    ++*(int *)context;
}

/* Trains a little, writes the file, and evaluates it again: the same hits, with the normalisation from the metadata. */
static void test_fp32_trained_file_evaluates_the_same(void **state)
{
    (void)state;
    char *out = in_folder("trained.onnx"), *checkpoint = in_folder("trained.onnx.checkpoint");
    const char *const keys[] = {"recipe.epochs", "recipe.batch"}, *const values[] = {"1", "32"};
    int reports = 0;
    struct mqb_progress_sink sink = {count_report, &reports};
    struct mqb_fp32_config config = {.model = "resnet20", .dataset = "synth:train=64,test=50", .normalize = "tf", .set_keys = keys,
                                     .set_values = values, .num_set = 2, .seed = 3, .threads = 2, .out = out, .progress = &sink};
    struct mqb_fp32_result trained, evaluated;
    if (mqb_fp32_train(&config, &trained, &error) != MQB_OK)
        fail_msg("%s", error.text);
    assert_int_equal(trained.training.steps, 2);
    assert_int_equal(trained.accuracy.n, 50);
    assert_string_equal(trained.normalize, "tf");
    assert_true(trained.num_parameters > 260000 && trained.num_parameters < 280000); /* He et al.: 0.27 million */
    assert_true(reports > 0);
    assert_false(mqb_file_exists(checkpoint));
    struct mqb_fp32_config again = {.model = out, .dataset = "synth:train=64,test=50", .threads = 1};
    if (mqb_fp32_eval(&again, &evaluated, &error) != MQB_OK)
        fail_msg("%s", error.text);
    assert_string_equal(evaluated.normalize, "tf");
    assert_false(evaluated.normalize_assumed);
    assert_int_equal(evaluated.accuracy.top1, trained.accuracy.top1);
    assert_int_equal(evaluated.accuracy.top5, trained.accuracy.top5);
    assert_string_equal(evaluated.model_sha256, trained.model_sha256);
    mqb_deallocate(out);
    mqb_deallocate(checkpoint);
}

static void test_fp32_train_mistakes_refused_before_training(void **state)
{
    (void)state;
    const char *const keys[] = {"some.thing"}, *const values[] = {"1"};
    char *out = in_folder("never.onnx");
    struct mqb_fp32_result result;
    struct mqb_fp32_config config = {.model = "resnet20", .dataset = "synth:train=64,test=50", .threads = 1};
    assert_int_equal(mqb_fp32_train(&config, &result, &error), MQB_ERR_ARGUMENT);
    assert_says("--out");
    config.out = "/proc/never.onnx";
    assert_int_equal(mqb_fp32_train(&config, &result, &error), MQB_ERR_IO);
    config.out = out;
    config.model = "resnet21";
    assert_int_not_equal(mqb_fp32_train(&config, &result, &error), MQB_OK);
    assert_says("resnet20");
    config.model = "no/such.onnx";
    assert_int_equal(mqb_fp32_train(&config, &result, &error), MQB_ERR_NOT_FOUND);
    assert_says("no/such.onnx");
    config.model = "resnet20";
    config.dataset = "cifar";
    assert_int_not_equal(mqb_fp32_train(&config, &result, &error), MQB_OK);
    assert_says("cifar10");
    config.dataset = "synth:train=64,test=50";
    config.set_keys = keys;
    config.set_values = values;
    config.num_set = 1;
    assert_int_equal(mqb_fp32_train(&config, &result, &error), MQB_ERR_ARGUMENT);
    assert_says("some.thing");
    assert_false(mqb_file_exists(out));
    mqb_deallocate(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session_best_provider_chosen),
        cmocka_unit_test(test_session_wrong_words_refused),
        cmocka_unit_test(test_session_model_exported_imported_with_hash),
        cmocka_unit_test(test_session_model_missing_says_what_to_do),
        cmocka_unit_test(test_normalize_word_model_or_assumed_aloud),
        cmocka_unit_test(test_loader_network_and_data_that_do_not_fit_refused),
        cmocka_unit_test(test_recipe_sections_then_command_line_win),
        cmocka_unit_test(test_recipe_default_file_legal_for_every_width),
        cmocka_unit_test(test_recipe_mistakes_refused_with_place),
        cmocka_unit_test(test_probe_places_found_out_and_left_clean),
        cmocka_unit_test(test_fp32_trained_file_evaluates_the_same),
        cmocka_unit_test(test_fp32_train_mistakes_refused_before_training),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
