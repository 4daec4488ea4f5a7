/* test_result.c - the result record of a run made by hand: JSON, screen, intervals. */
#include "report/report.h"
#include "report/text.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#define NUM_LAYERS 21

static struct mqb_error error = MQB_ERROR_INIT;

/* A ResNet-20 at 4 bits. Layer i differs in i of 1000 codes, layer 0 not at all. */
static struct mqb_result *make_result(void)
{
    struct mqb_result *r = mqb_allocate(sizeof *r);
    const char *const words[] = {"mqbench", "--backend", "some_sim", "--bits", "4", NULL};
    assert_non_null(r);
    r->model_name = mqb_strdup("resnet20.onnx");
    r->model_sha256 = mqb_strdup("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    r->dataset_name = mqb_strdup("cifar10:data");
    r->dataset_sha256 = mqb_strdup("ff");
    r->n_train = 20000;
    r->n_test = 500;
    r->normalize = mqb_strdup("imagenet");
    r->normalize_assumed = true;
    r->backend = mqb_strdup("some_sim");
    r->algo = mqb_strdup("lsq");
    r->algo_weights = mqb_strdup("lsq");
    r->algo_activations = mqb_strdup("lsq");
    r->profile = mqb_strdup("v1");
    r->weight_bits = r->activation_bits = 4;
    r->io_bits = 8;
    r->bn_fold = 4;
    r->seed = 1000;
    r->threads = 2;
    r->compute = mqb_strdup("native");
    r->isa = mqb_strdup("avx2");
    mqb_recipe_defaults(&r->recipe);
    r->has_fp32 = r->has_calibrated = r->has_fake = r->has_integer = true;
    r->fp32 = (struct mqb_accuracy){100, 90, 99};
    r->calibrated = (struct mqb_accuracy){100, 71, 95};
    r->fake = (struct mqb_accuracy){100, 88, 99};
    r->integer = (struct mqb_accuracy){100, 87, 98};
    r->training = (struct mqb_train_result){.steps = 780, .first_loss = 1.5, .last_loss = 0.75, .seconds = 61.25, .step_memory = 1000};
    r->deployable = true;
    r->deploy_reason = mqb_strdup("");
    r->bracketed = true;
    r->labels_agree = 495;
    r->labels_compared = 500;
    r->max_steps = 2;
    r->layers = mqb_allocate_array(NUM_LAYERS, sizeof *r->layers);
    r->num_layers = NUM_LAYERS;
    for (int i = 0; i < NUM_LAYERS; i++)
        r->layers[i] = (struct mqb_layer_report){
            .name = mqb_format("layer%d/Conv", i), .tensor = mqb_format("t%d", i), .op = mqb_strdup("Conv"), .elements = 1000, .differ = i,
            .max_steps = i > 10 ? 2 : i > 0, .scale = 0.25, .zero_point = -3, .bits = 4, .first = i == 1};
    r->compare_images = 64;
    r->first_difference = mqb_strdup("layer1/Conv: the multiplier is folded in float32");
    r->num_weight_points = 20;
    r->num_activation_points = 22;
    r->weight_bytes_fp32 = 1089896;
    r->weight_bytes_packed = 137000;
    r->seconds_fp32 = 0.5;
    r->seconds_train = 61.25;
    r->seconds_total = 65.0;
    r->peak_rss = (size_t)210 << 20;
    r->plugins = mqb_allocate_array(1, sizeof *r->plugins);
    r->num_plugins = 1;
    r->plugins[0] = (struct mqb_plugin_use){mqb_strdup("lsq"), mqb_strdup("quantizer"), mqb_strdup("0.1"), "abc"};
    r->files = mqb_allocate_array(2, sizeof *r->files);
    r->files[0] = mqb_strdup("out/qparams.json");
    r->files[1] = mqb_strdup("out/q.onnx");
    r->num_files = 2;
    r->ended = mqb_strdup("");
    assert_int_equal(mqb_result_set_command(r, words, &error), MQB_OK);
    return r;
}

static json_t *json_of(const struct mqb_result *result)
{
    char *text = NULL;
    assert_int_equal(mqb_result_json(result, &text, &error), MQB_OK);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    mqb_deallocate(text);
    return root;
}

/* The member at "a.b.c", which must exist. */
static const json_t *at(const json_t *root, const char *path)
{
    char key[64];
    while (*path != '\0') {
        size_t length = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)length, path);
        root = json_object_get(root, key);
        if (root == NULL)
            fail_msg("no %s in the record", path);
        path += length + (path[length] == '.');
    }
    return root;
}

static void assert_text(const json_t *root, const char *path, const char *expected)
{
    assert_true(json_is_string(at(root, path)));
    assert_string_equal(json_string_value(at(root, path)), expected);
}

static void assert_number(const json_t *root, const char *path, double expected)
{
    const json_t *value = at(root, path);
    if (!json_is_number(value) || fabs(json_number_value(value) - expected) > 1e-9 * fmax(1.0, fabs(expected)))
        fail_msg("%s is %.12g, expected %.12g", path, json_number_value(value), expected);
}

static void assert_null_at(const json_t *root, const char *path)
{
    if (!json_is_null(at(root, path)))
        fail_msg("%s is not null", path);
}

/* Closed form: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), z = 1.959964. */
static void test_wilson_known_intervals(void **state)
{
    (void)state;
    static const struct {
        int64_t hits, n;
        double low, high;
    } known[] = {
        {90, 100, 82.56, 94.48},
        {81, 263, 25.53, 36.62}, /* this and what follows: Newcombe (Statistics in Medicine, 1998), table I, method 3 */
        {15, 148, 6.24, 16.05},
        {0, 20, 0.0, 16.11},
        {1, 29, 0.61, 17.18},
        {20, 20, 83.89, 100.0}, /* the mirror image of 0 of 20 */
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        double low, high;
        mqb_wilson(known[i].hits, known[i].n, &low, &high);
        if (fabs(low - known[i].low) > 0.00501 || fabs(high - known[i].high) > 0.00501)
            fail_msg("%d of %d: %.4f..%.4f", (int)known[i].hits, (int)known[i].n, low, high);
    }
}

static void test_wilson_nothing_seen_whole_range(void **state)
{
    (void)state;
    double low, high;
    mqb_wilson(0, 0, &low, &high);
    assert_true(low == 0.0 && high == 100.0);
}

static void test_json_whole_run_all_fields(void **state)
{
    (void)state;
    struct mqb_result *result = make_result();
    json_t *root = json_of(result);
    assert_text(root, "schema", "mqbench.result/1");
    assert_int_equal(json_array_size(at(root, "command")), 5);
    assert_string_equal(json_string_value(json_array_get(at(root, "command"), 2)), "some_sim");
    assert_text(root, "model.name", "resnet20.onnx");
    assert_int_equal(strlen(json_string_value(at(root, "model.sha256"))), 64);
    assert_text(root, "dataset.name", "cifar10:data");
    assert_text(root, "dataset.split", "test");
    assert_text(root, "dataset.normalize", "imagenet");
    assert_number(root, "dataset.n_train", 20000);
    assert_number(root, "dataset.n_test", 500);
    assert_text(root, "backend", "some_sim");
    assert_text(root, "profile", "v1");
    assert_text(root, "algo", "lsq");
    assert_text(root, "algo_weights", "lsq");
    assert_text(root, "algo_activations", "lsq");
    assert_number(root, "bits.weights", 4);
    assert_number(root, "bits.activations", 4);
    assert_number(root, "bits.io", 8);
    assert_number(root, "bn_fold", 4);
    assert_number(root, "seed", 1000);
    assert_number(root, "threads", 2);
    assert_text(root, "compute.id", "native");
    assert_text(root, "compute.isa", "avx2");
    assert_number(root, "accuracy.fp32.top1", 90.0);
    assert_number(root, "accuracy.fp32.top5", 99.0);
    assert_number(root, "accuracy.fp32.n", 100);
    assert_true(fabs(json_number_value(json_array_get(at(root, "accuracy.fp32.ci95"), 0)) - 82.56) < 0.005);
    assert_true(fabs(json_number_value(json_array_get(at(root, "accuracy.fp32.ci95"), 1)) - 94.48) < 0.005);
    assert_number(root, "accuracy.calibrated.top1", 71.0);
    assert_number(root, "accuracy.fake.top1", 88.0);
    assert_number(root, "accuracy.integer.top1", 87.0);
    assert_number(root, "agreement.labels", 99.0);
    assert_number(root, "agreement.images", 500);
    assert_number(root, "agreement.max_steps", 2);
    assert_true(json_is_true(at(root, "deployable.ok")));
    assert_text(root, "deployable.certainty", "bracketed");
    assert_number(root, "sizes.weights_fp32_bytes", 1089896);
    assert_number(root, "sizes.weights_packed_bytes", 137000);
    assert_number(root, "sizes.weight_points", 20);
    assert_number(root, "sizes.activation_points", 22);
    assert_number(root, "training.steps", 780);
    assert_number(root, "training.first_loss", 1.5);
    assert_number(root, "training.last_loss", 0.75);
    assert_true(json_is_false(at(root, "training.diverged")));
    assert_number(root, "time.total", 65.0);
    assert_number(root, "time.train", 61.25);
    assert_number(root, "memory.peak_rss_bytes", 210.0 * 1048576);
    assert_text(root, "first_difference", "layer1/Conv: the multiplier is folded in float32");
    assert_null_at(root, "ended");
    assert_int_equal(json_array_size(at(root, "files")), 2);
    const json_t *layer = json_array_get(at(root, "layers"), 7), *plugin = json_array_get(at(root, "plugins"), 0);
    assert_int_equal(json_array_size(at(root, "layers")), NUM_LAYERS);
    assert_text(layer, "name", "layer7/Conv");
    assert_text(layer, "tensor", "t7");
    assert_text(layer, "op", "Conv");
    assert_number(layer, "bits", 4);
    assert_number(layer, "scale", 0.25);
    assert_number(layer, "zero_point", -3);
    assert_number(layer, "elements", 1000);
    assert_number(layer, "differ", 7);
    assert_number(layer, "max_steps", 1);
    assert_true(json_is_false(at(layer, "first")));
    assert_text(plugin, "kind", "quantizer");
    assert_text(plugin, "id", "lsq");
    assert_text(plugin, "version", "0.1");
    assert_text(plugin, "sha256", "abc");
    json_decref(root);
    mqb_result_destroy(result);
}

/* A key that the recipe gains and the record lacks is found here. */
static void test_json_recipe_every_key_with_its_default(void **state)
{
    (void)state;
    struct mqb_result *result = make_result();
    json_t *root = json_of(result);
    size_t num_specs;
    const struct mqb_option_spec *specs = mqb_recipe_specs(&num_specs);
    assert_int_equal(json_object_size(at(root, "recipe")), num_specs);
    for (size_t i = 0; i < num_specs; i++) {
        const json_t *value = json_object_get(at(root, "recipe"), specs[i].name);
        if (value == NULL)
            fail_msg("recipe.%s is not in the record", specs[i].name);
        if (specs[i].type == MQB_OPTION_BOOL)
            assert_int_equal(json_is_true(value), strcmp(specs[i].default_value, "yes") == 0);
        else
            assert_true(json_number_value(value) == strtod(specs[i].default_value, NULL));
    }
    json_decref(root);
    mqb_result_destroy(result);
}

static void test_json_missing_stages_null(void **state)
{
    (void)state;
    struct mqb_result *result = make_result();
    result->has_calibrated = result->has_fake = result->has_integer = false;
    result->labels_compared = result->labels_agree = result->compare_images = 0;
    result->deployable = false;
    result->training = (struct mqb_train_result){.steps = 0};
    mqb_deallocate(result->ended);
    result->ended = mqb_strdup("the disk is full");
    json_t *root = json_of(result);
    assert_number(root, "accuracy.fp32.top1", 90.0);
    assert_null_at(root, "accuracy.calibrated");
    assert_null_at(root, "accuracy.fake");
    assert_null_at(root, "accuracy.integer");
    assert_null_at(root, "agreement.labels");
    assert_null_at(root, "agreement.max_steps");
    assert_null_at(root, "training.first_loss");
    assert_text(root, "ended", "the disk is full");
    json_decref(root);
    mqb_result_destroy(result);
}

static void test_json_not_finite_null(void **state)
{
    (void)state;
    struct mqb_result *result = make_result();
    result->training.last_loss = NAN;
    result->training.first_loss = INFINITY;
    result->training.diverged = true;
    result->training.diverged_step = 12;
    snprintf(result->training.diverged_where, sizeof result->training.diverged_where, "conv1.weight");
    result->layers[0].scale = NAN;
    result->seconds_fake = NAN;
    result->recipe.lr = -INFINITY;
    char *text = NULL;
    assert_int_equal(mqb_result_json(result, &text, &error), MQB_OK);
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    mqb_deallocate(text);
    json_t *root = json_of(result);
    assert_null_at(root, "training.last_loss");
    assert_null_at(root, "training.first_loss");
    assert_null_at(root, "time.fake");
    assert_null_at(root, "recipe.lr");
    assert_number(root, "training.diverged_step", 12);
    assert_text(root, "training.diverged_where", "conv1.weight");
    assert_null_at(json_array_get(at(root, "layers"), 0), "scale");
    json_decref(root);
    mqb_result_destroy(result);
}

/* What a run that failed at once leaves: nearly nothing, and names that are no UTF-8. */
static void test_json_empty_or_odd_names_legal(void **state)
{
    (void)state;
    struct mqb_result *result = mqb_allocate(sizeof *result);
    assert_non_null(result);
    json_t *root = json_of(result);
    assert_null_at(root, "model.name");
    json_decref(root);
    result->model_name = mqb_strdup("caf\xe9 \"x\"\n.onnx");
    root = json_of(result);
    assert_text(root, "model.name", "caf? \"x\"\n.onnx");
    json_decref(root);
    mqb_result_destroy(result);
    mqb_result_destroy(NULL);
}

static char *screen_of(const struct mqb_result *result, bool color)
{
    char *text = NULL;
    assert_int_equal(mqb_result_screen(result, color, &text, &error), MQB_OK);
    return text;
}

static void assert_shows(const char *screen, const char *part)
{
    if (strstr(screen, part) == NULL)
        fail_msg("the screen lacks '%s':\n%s", part, screen);
}

static void test_screen_whole_run_on_one_screen(void **state)
{
    (void)state;
    struct mqb_result *result = make_result();
    char *screen = screen_of(result, false);
    int num_lines = 0;
    for (const char *line = screen; *line != '\0'; num_lines++) {
        size_t length = strcspn(line, "\n");
        if (length > 100)
            fail_msg("a line of %d columns:\n%s", (int)length, line);
        line += length + 1;
    }
    if (num_lines > 40)
        fail_msg("%d lines:\n%s", num_lines, screen);
    assert_shows(screen, "some_sim: lsq, 4 bit, first and last layer 8 bit");
    assert_shows(screen, "20,000 training images, 500 test images, normalized imagenet (assumed)");
    assert_shows(screen, "90.00 %    82.56 ..  94.48");
    assert_shows(screen, "fake, calibrated");
    assert_shows(screen, "-19.00");
    assert_shows(screen, "fake, trained");
    assert_shows(screen, "-3.00");
    assert_shows(screen, "495 of 500 images (99.00 %)");
    assert_shows(screen, "yes, as v1 (a model of a closed library");
    assert_shows(screen, "differ in 20 of 21, at most by 2 steps (64 images); the worst:");
    assert_shows(screen, "layer20/Conv");
    assert_shows(screen, "layer13/Conv");
    assert_null(strstr(screen, "layer12/Conv")); /* the ninth worst */
    assert_shows(screen, "  2 steps ######################\n");
    assert_shows(screen, "layer1/Conv: the multiplier is folded in float32");
    assert_shows(screen, "780 steps, loss 1.5000 -> 0.7500");
    assert_shows(screen, "1.0 MiB in FP32, 134 KiB packed, 8.0 times smaller; 20 weight, 22 activation points");
    assert_shows(screen, "65.0 s (FP32 0.50 s, train 61.2 s)");
    assert_shows(screen, "210 MiB");
    assert_shows(screen, "out/q.onnx");
    assert_null(strstr(screen, "ended"));
    assert_null(strstr(screen, "\033"));
    mqb_deallocate(screen);
    char *colored = screen_of(result, true);
    assert_shows(colored, "\033[0m");
    mqb_deallocate(colored);
    mqb_result_destroy(result);
}

static void test_screen_equal_layers_said(void **state)
{
    (void)state;
    struct mqb_result *result = make_result();
    for (int i = 0; i < NUM_LAYERS; i++)
        result->layers[i].differ = result->layers[i].max_steps = 0;
    char *screen = screen_of(result, false);
    assert_shows(screen, "equal in all 21 (64 images)");
    mqb_deallocate(screen);
    mqb_result_destroy(result);
}

static void test_screen_refused_and_ended_said(void **state)
{
    (void)state;
    struct mqb_result *result = make_result();
    result->deployable = false;
    result->has_integer = false;
    mqb_deallocate(result->deploy_reason);
    result->deploy_reason = mqb_strdup("the levels are not uniform");
    mqb_deallocate(result->ended);
    result->ended = mqb_strdup("out/q.onnx: writing failed (No space left on device)");
    char *screen = screen_of(result, false);
    assert_shows(screen, "no: the levels are not uniform");
    assert_shows(screen, "No space left on device");
    assert_shows(screen, "fake, trained");
    mqb_deallocate(screen);
    mqb_result_destroy(result);
}

static void test_screen_empty_record_harmless(void **state)
{
    (void)state;
    struct mqb_result *result = mqb_allocate(sizeof *result);
    assert_non_null(result);
    char *screen = screen_of(result, true);
    assert_non_null(screen);
    mqb_deallocate(screen);
    mqb_result_destroy(result);
}

static void test_text_quantities_written_for_people(void **state)
{
    (void)state;
    char out[MQB_SHORT];
    static const struct {
        double seconds;
        const char *text;
    } times[] = {{0.0, "0.00 s"}, {1.234, "1.23 s"}, {12.34, "12.3 s"}, {185.0, "3 min 05 s"}, {3719.0, "1 h 01 min"}, {-1.0, "-"}};
    static const struct {
        int64_t count;
        const char *text;
    } counts[] = {{0, "0"}, {999, "999"}, {1000, "1,000"}, {272474, "272,474"}, {-1234567, "-1,234,567"},
                  {INT64_MIN, "-9,223,372,036,854,775,808"}};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        mqb_text_seconds(times[i].seconds, out);
        assert_string_equal(out, times[i].text);
    }
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        mqb_text_count(counts[i].count, out);
        assert_string_equal(out, counts[i].text);
    }
    mqb_text_bytes(512, out);
    assert_string_equal(out, "512 B");
    mqb_text_bytes(1023.9 * 1024, out);
    assert_string_equal(out, "1.0 MiB");
    mqb_text_bytes(3.5 * 1073741824, out);
    assert_string_equal(out, "3.5 GiB");
}

static void test_text_wrap_long_words_and_lines(void **state)
{
    (void)state;
    struct mqb_text text = {0};
    mqb_text_add(&text, "ab  ");
    mqb_text_wrap(&text, "one two  three averyveryverylongword end", 4, 12);
    assert_string_equal(text.data, "ab  one two\n    three\n    averyveryverylongword\n    end\n");
    mqb_text_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wilson_known_intervals),
        cmocka_unit_test(test_wilson_nothing_seen_whole_range),
        cmocka_unit_test(test_json_whole_run_all_fields),
        cmocka_unit_test(test_json_recipe_every_key_with_its_default),
        cmocka_unit_test(test_json_missing_stages_null),
        cmocka_unit_test(test_json_not_finite_null),
        cmocka_unit_test(test_json_empty_or_odd_names_legal),
        cmocka_unit_test(test_screen_whole_run_on_one_screen),
        cmocka_unit_test(test_screen_equal_layers_said),
        cmocka_unit_test(test_screen_refused_and_ended_said),
        cmocka_unit_test(test_screen_empty_record_harmless),
        cmocka_unit_test(test_text_quantities_written_for_people),
        cmocka_unit_test(test_text_wrap_long_words_and_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
