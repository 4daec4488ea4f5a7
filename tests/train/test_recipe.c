/* test_recipe.c - schedule, recipe files, accuracy counts. */
#include "common/support.h"
#include "train/train.h"

#include <math.h>
#include <unistd.h>

static void test_schedule_equals_published_points(void **state)
{
    (void)state;
    /* The published schedule counts t = 1..T, with ws warm-up iterations: base 1e-4, peak 0.004, ws 2500, T 250000. */
    static const struct {
        int64_t t;
        double lr;
    } points[] = {{1, 1e-4}, {2, 1.0156062425e-4}, {1250, 2.0492196879e-3}, {2499, 3.9984393758e-3}, {2500, 4e-3}, {126250, 2e-3}, {250000, 0}};
    struct mqb_recipe recipe;
    mqb_recipe_defaults(&recipe);
    recipe.warmup_lr = 1e-4;
    recipe.lr = 0.004;
    recipe.min_lr = 0;
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        assert_true(fabs(mqb_schedule_lr(&recipe, points[i].t - 1, 2499, 249999) - points[i].lr) < 1e-12);
}

static void test_schedule_without_warmup_starts_at_peak(void **state)
{
    (void)state;
    struct mqb_recipe recipe;
    mqb_recipe_defaults(&recipe);
    recipe.lr = 0.5;
    recipe.min_lr = 0.1;
    assert_true(mqb_schedule_lr(&recipe, 0, 0, 10) == 0.5);
    assert_true(fabs(mqb_schedule_lr(&recipe, 5, 0, 10) - 0.3) < 1e-15);
}

static char path[] = "test_recipe.XXXXXX";

static void write_recipe(const char *text)
{
    OK(mqb_file_write(path, text, strlen(text), &err));
}

static int setup(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

static void test_recipe_bits_win_over_model_and_model_over_all(void **state)
{
    (void)state;
    struct mqb_recipe recipe;
    write_recipe("[bits 4]\nlr = 0.3\n[model res*]\nlr = 0.2\nbatch = 64\n[recipe]\nlr = 0.1\nbatch = 32\nmomentum = 0.5\n"
                 "[model mobile*]\nepochs = 77\n");
    mqb_recipe_defaults(&recipe);
    OK(mqb_recipe_read(&recipe, path, "resnet20.onnx", 4, &err));
    assert_true(recipe.lr == 0.3 && recipe.batch == 64 && recipe.momentum == 0.5 && recipe.epochs != 77);
    mqb_recipe_defaults(&recipe);
    OK(mqb_recipe_read(&recipe, path, "vgg.onnx", 8, &err));
    assert_true(recipe.lr == 0.1 && recipe.batch == 32);
}

static void refused(const char *text, const char *where, const char *word)
{
    struct mqb_recipe recipe;
    mqb_recipe_defaults(&recipe);
    write_recipe(text);
    assert_int_not_equal(mqb_recipe_read(&recipe, path, "net", 8, &err), MQB_OK);
    assert_non_null(strstr(err.text, where));
    assert_non_null(strstr(err.text, word));
}

static void test_recipe_mistakes_named_with_line(void **state)
{
    (void)state;
    refused("[recipe]\n\nlearning = 1\n", ":3", "learning");
    refused("[recipe]\nlr = fast\n", ":2", "fast");
    refused("[recipe]\nepochs = -1\n", ":2", "epochs");
    refused("[bits 40]\nlr = 1\n", ":2", "bits 40");
    refused("[bits 3]\nlr = 1\nlabel_smoothing = 1.5\n", ":3", "label_smoothing"); /* checked though it does not apply */
    refused("lr 3\n", ":1", "key = value");
}

static void test_accuracy_ties_and_nan(void **state)
{
    (void)state;
    const float logits[4][6] = {
        {0, 1, 2, 3, 4, 5},       /* label 5: first */
        {5, 5, 0, 0, 0, 0},       /* label 1: tied with a lower class, so second */
        {NAN, 9, 0, 0, 0, 0},     /* label 1: a NaN anywhere counts as wrong */
        {9, 8, 7, 6, 5, 4},       /* label 5: sixth */
    };
    const int32_t labels[4] = {5, 1, 1, 5};
    struct mqb_accuracy accuracy = {0};
    mqb_accuracy_add(&accuracy, logits[0], labels, 4, 6);
    assert_int_equal(accuracy.n, 4);
    assert_int_equal(accuracy.top1, 1);
    assert_int_equal(accuracy.top5, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule_equals_published_points),
        cmocka_unit_test(test_schedule_without_warmup_starts_at_peak),
        cmocka_unit_test(test_recipe_bits_win_over_model_and_model_over_all),
        cmocka_unit_test(test_recipe_mistakes_named_with_line),
        cmocka_unit_test(test_accuracy_ties_and_nan),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
