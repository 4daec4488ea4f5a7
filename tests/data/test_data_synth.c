/* test_data_synth.c - the generated data set: frozen, balanced, without doubles. */
#include "data_test.h"

#define IMAGE (32 * 32 * 3)

/* Of the first 100 training images of `synth`. The generator is frozen: a model trained on it is worth nothing on another. */
static const char frozen[] = "a1944bdff8a3d2ee48e00f285d49604c3116b830ecaa00138d24d069285b164b";

static void test_synth_first_images_are_frozen(void **state)
{
    (void)state;
    struct mqb_dataset *dataset = open_word("synth");
    uint8_t *images = malloc(100 * IMAGE);
    char hex[65];
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(dataset->image(dataset, MQB_SPLIT_TRAIN, i, 32, false, 0, images + i * IMAGE, NULL), MQB_OK);
    sha256_of(images, 100 * IMAGE, hex);
    assert_string_equal(hex, frozen);
    free(images);
    mqb_dataset_close(dataset);
}

static void test_synth_default_is_balanced(void **state)
{
    (void)state;
    struct mqb_dataset *dataset = open_word("synth");
    assert_int_equal(dataset->num[MQB_SPLIT_TRAIN], 20000);
    assert_int_equal(dataset->num[MQB_SPLIT_TEST], 2000);
    assert_int_equal(dataset->num_classes, 10);
    for (int split = 0; split < 2; split++) {
        size_t count[10] = {0};
        for (size_t i = 0; i < dataset->num[split]; i++) {
            assert_in_range(dataset->labels[split][i], 0, 9);
            count[dataset->labels[split][i]]++;
        }
        for (int c = 0; c < 10; c++)
            assert_int_equal(count[c], dataset->num[split] / 10);
    }
    mqb_dataset_close(dataset);
}

static int compare_hashes(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void test_synth_no_image_occurs_twice(void **state)
{
    (void)state;
    struct mqb_dataset *dataset = open_word("synth:train=1500,test=500");
    char(*hex)[65] = malloc(2000 * sizeof *hex);
    uint8_t image[IMAGE];
    for (size_t i = 0; i < 2000; i++) {
        enum mqb_split split = i < 1500 ? MQB_SPLIT_TRAIN : MQB_SPLIT_TEST;
        assert_int_equal(dataset->image(dataset, split, i < 1500 ? i : i - 1500, 32, false, 0, image, NULL), MQB_OK);
        sha256_of(image, sizeof image, hex[i]);
    }
    qsort(hex, 2000, sizeof *hex, compare_hashes);
    for (size_t i = 1; i < 2000; i++)
        assert_string_not_equal(hex[i - 1], hex[i]);
    free(hex);
    mqb_dataset_close(dataset);
}

static void test_synth_image_depends_on_seed_split_and_index_alone(void **state)
{
    (void)state;
    uint8_t a[IMAGE], b[IMAGE];
    struct mqb_dataset *small = open_word("synth:train=50,test=7,seed=5"), *large = open_word("synth:train=900,seed=5");
    assert_int_equal(small->num[1], 7);
    for (size_t i = 50; i-- > 0;) {
        assert_int_equal(small->labels[0][i], large->labels[0][i]);
        small->image(small, MQB_SPLIT_TRAIN, i, 32, false, 0, a, NULL);
        large->image(large, MQB_SPLIT_TRAIN, i, 32, true, 77, b, NULL);
        assert_memory_equal(a, b, IMAGE);
    }
    struct mqb_dataset *other = open_word("synth:train=50,seed=6");
    other->image(other, MQB_SPLIT_TRAIN, 0, 32, false, 0, b, NULL);
    small->image(small, MQB_SPLIT_TRAIN, 0, 32, false, 0, a, NULL);
    assert_memory_not_equal(a, b, IMAGE);
    assert_string_not_equal(small->sha256, other->sha256);
    assert_string_not_equal(small->sha256, large->sha256);
    mqb_dataset_close(small);
    mqb_dataset_close(large);
    mqb_dataset_close(other);
}

static void test_synth_seed_of_the_call_stands_in_for_none(void **state)
{
    (void)state;
    struct mqb_dataset *set[3];
    assert_int_equal(mqb_dataset_open("synth:train=20", 0, 0, 9, &set[0], NULL), MQB_OK);
    assert_int_equal(mqb_dataset_open("synth:train=20,seed=9", 0, 0, 0, &set[1], NULL), MQB_OK);
    assert_int_equal(mqb_dataset_open("synth:train=20,seed=9", 0, 0, 4, &set[2], NULL), MQB_OK);
    assert_string_equal(set[0]->sha256, set[1]->sha256);
    assert_string_equal(set[0]->sha256, set[2]->sha256);
    for (int i = 0; i < 3; i++)
        mqb_dataset_close(set[i]);
}

static void test_synth_limits_and_empty_splits(void **state)
{
    (void)state;
    struct mqb_dataset *dataset = open_limited(30, 3, "synth:test=20");
    assert_int_equal(dataset->num[0], 30);
    assert_int_equal(dataset->num[1], 3);
    mqb_dataset_close(dataset);
    dataset = open_word("synth:train=0,test=20");
    assert_int_equal(dataset->num[0], 0);
    mqb_dataset_close(dataset);
    expect_refused(MQB_ERR_FORMAT, "no image at all", "synth:train=0,test=0");
}

static void test_synth_pictures_use_the_range(void **state)
{
    (void)state;
    struct mqb_dataset *dataset = open_word("synth:train=500,test=0");
    double sum = 0, squares = 0;
    uint8_t image[IMAGE];
    double start = mqb_seconds();
    for (size_t i = 0; i < 500; i++) {
        dataset->image(dataset, MQB_SPLIT_TRAIN, i, 32, false, 0, image, NULL);
        for (int p = 0; p < IMAGE; p++) {
            sum += image[p];
            squares += (double)image[p] * image[p];
        }
    }
    print_message("500 pictures in %.3f s\n", mqb_seconds() - start);
    double mean = sum / (500.0 * IMAGE), variance = squares / (500.0 * IMAGE) - mean * mean;
    assert_true(mean > 100 && mean < 156);
    assert_true(variance > 30 * 30 && variance < 80 * 80);
    mqb_dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_synth_first_images_are_frozen),
        cmocka_unit_test(test_synth_default_is_balanced),
        cmocka_unit_test(test_synth_no_image_occurs_twice),
        cmocka_unit_test(test_synth_image_depends_on_seed_split_and_index_alone),
        cmocka_unit_test(test_synth_seed_of_the_call_stands_in_for_none),
        cmocka_unit_test(test_synth_limits_and_empty_splits),
        cmocka_unit_test(test_synth_pictures_use_the_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
