/* test_data_set.c - opening by word, specs, CIFAR-10. */
#include "data_test.h"

#define RECORD 3073

/* n records: label i % 10, pixel p of plane c is (i + 3c + p) % 256. */
static const char *put_cifar(void **state, const char *name, int first, int n, size_t cut)
{
    uint8_t *data = malloc((size_t)n * RECORD);
    assert_non_null(data);
    for (int i = 0; i < n; i++) {
        uint8_t *record = data + (size_t)i * RECORD;
        record[0] = (uint8_t)((first + i) % 10);
        for (int c = 0; c < 3; c++)
            for (int p = 0; p < 1024; p++)
                record[1 + c * 1024 + p] = (uint8_t)(first + i + 3 * c + p);
    }
    const char *path = put(state, name, data, (size_t)n * RECORD - cut);
    free(data);
    return path;
}

static void test_word_unknown_kind_names_nearest(void **state)
{
    (void)state;
    expect_refused(MQB_ERR_NOT_FOUND, "unknown kind|'cifar'|did you mean 'cifar10'|cifar10, idx, images, synth", "cifar:/tmp");
    expect_refused(MQB_ERR_NOT_FOUND, "unknown kind|'qqqqqqqqqqqq'|KIND:PATH", "qqqqqqqqqqqq");
    expect_refused(MQB_ERR_NOT_FOUND, "unknown kind", "%s", "");
}

static void test_word_without_path_says_usage(void **state)
{
    (void)state;
    expect_refused(MQB_ERR_ARGUMENT, "where is it?|cifar10:DIR", "cifar10");
    expect_refused(MQB_ERR_ARGUMENT, "where is it?|idx:DIR", "idx:");
    expect_refused(MQB_ERR_ARGUMENT, "where is it?|images:DIR", "images:");
    expect_refused(MQB_ERR_ARGUMENT, "synth has no folder|train=N", "synth:/tmp");
}

static void test_kinds_are_listed_with_usage(void **state)
{
    (void)state;
    int num = 0;
    for (const struct mqb_dataset_kind *const *kind = mqb_dataset_kinds(); *kind != NULL; kind++, num++)
        assert_non_null(strstr((*kind)->usage, (*kind)->name));
    assert_int_equal(num, 4);
}

static void test_spec_bad_list_is_refused(void **state)
{
    (void)state;
    expect_refused(MQB_ERR_ARGUMENT, "unknown key 'trian'|did you mean 'train'|train, test", "cifar10:trian=a.bin");
    expect_refused(MQB_ERR_ARGUMENT, "unknown key 'zzzzzzzz'|keys: train, test, seed", "synth:zzzzzzzz=1");
    expect_refused(MQB_ERR_ARGUMENT, "'b.bin' is not KEY=VALUE", "cifar10:train=a.bin,b.bin");
    expect_refused(MQB_ERR_ARGUMENT, "'train' is given twice|train=A+B", "cifar10:train=a.bin,train=b.bin");
    expect_refused(MQB_ERR_ARGUMENT, "'test=' has no value", "cifar10:train=a.bin,test=");
    expect_refused(MQB_ERR_ARGUMENT, "empty file name|A+B", "cifar10:train=a.bin++b.bin");
    expect_refused(MQB_ERR_ARGUMENT, "train=12x is not a whole number from 0", "synth:train=12x");
    expect_refused(MQB_ERR_ARGUMENT, "train=-1 is not a whole number", "synth:train=-1");
    expect_refused(MQB_ERR_ARGUMENT, "train=99999999999 is not", "synth:train=99999999999");
}

static void test_cifar10_folder_gives_records_in_order(void **state)
{
    put_cifar(state, "data_batch_1.bin", 0, 3, 0);
    put_cifar(state, "data_batch_2_part.bin", 3, 2, 0);
    put_cifar(state, "test_batch.bin", 100, 4, 0);
    put(state, "batches.meta.txt", "airplane\n", 9);
    struct mqb_dataset *dataset = open_word("cifar10:%s", (char *)*state);
    assert_int_equal(dataset->num[MQB_SPLIT_TRAIN], 5);
    assert_int_equal(dataset->num[MQB_SPLIT_TEST], 4);
    assert_int_equal(dataset->num_classes, 10);
    assert_int_equal(dataset->channels, 3);
    assert_int_equal(dataset->height, 32);
    assert_int_equal(dataset->width, 32);
    assert_string_equal(dataset->kind->name, "cifar10");
    uint8_t image[3072];
    for (int i = 0; i < 5; i++) {
        assert_int_equal(dataset->labels[MQB_SPLIT_TRAIN][i], i);
        assert_int_equal(dataset->image(dataset, MQB_SPLIT_TRAIN, (size_t)i, 32, false, 0, image, NULL), MQB_OK);
        for (int p = 0; p < 1024; p++)
            for (int c = 0; c < 3; c++)
                assert_int_equal(image[3 * p + c], (uint8_t)(i + 3 * c + p));
    }
    assert_int_equal(strlen(dataset->sha256), 64);
    mqb_dataset_close(dataset);
}

static void test_cifar10_parts_by_name_and_limits(void **state)
{
    char *a = strdup(put_cifar(state, "a.bin", 0, 3, 0)), *b = strdup(put_cifar(state, "b.bin", 3, 3, 0));
    struct mqb_dataset *whole = open_word("cifar10:train=%s+%s,test=%s", a, b, b);
    assert_int_equal(whole->num[0], 6);
    assert_int_equal(whole->num[1], 3);
    struct mqb_dataset *limited = open_limited(4, 1, "cifar10:train=%s+%s,test=%s", a, b, b);
    assert_int_equal(limited->num[0], 4);
    assert_int_equal(limited->num[1], 1);
    assert_int_equal(limited->labels[0][3], 3);
    assert_string_not_equal(whole->sha256, limited->sha256);
    struct mqb_dataset *train_only = open_word("cifar10:train=%s", a);
    assert_int_equal(train_only->num[0], 3);
    assert_int_equal(train_only->num[1], 0);
    struct mqb_dataset *again = open_word("cifar10:train=%s+%s,test=%s", a, b, b);
    assert_string_equal(whole->sha256, again->sha256);
    mqb_dataset_close(whole);
    mqb_dataset_close(limited);
    mqb_dataset_close(train_only);
    mqb_dataset_close(again);
    free(a);
    free(b);
}

static void test_cifar10_bad_files_are_refused(void **state)
{
    const char *cut = put_cifar(state, "cut.bin", 0, 3, 100);
    expect_refused(MQB_ERR_FORMAT, "cut.bin|9119 bytes|3073|middle of record 2", "cifar10:train=%s", cut);
    expect_refused(MQB_ERR_FORMAT, "empty.bin|0 bytes", "cifar10:train=%s", put(state, "empty.bin", "", 0));
    uint8_t record[2 * RECORD] = {0};
    record[RECORD] = 10;
    expect_refused(MQB_ERR_FORMAT, "label.bin|record 1|label 10|0 to 9", "cifar10:test=%s",
                   put(state, "label.bin", record, sizeof record));
    expect_refused(MQB_ERR_NOT_FOUND, "nowhere.bin", "cifar10:train=%s", in(state, "nowhere.bin"));
    expect_refused(MQB_ERR_NOT_FOUND, "nowhere|no such folder", "cifar10:%s", in(state, "nowhere"));
    expect_refused(MQB_ERR_NOT_FOUND, "empty|holds no CIFAR-10 file|data_batch_1.bin", "cifar10:%s", put_dir(state, "empty"));
    expect_refused(MQB_ERR_ARGUMENT, "label.bin|is a file, expected a folder|train=FILE", "cifar10:%s", in(state, "label.bin"));
    expect_refused(MQB_ERR_ARGUMENT, "is a folder, expected a file", "cifar10:train=%s", in(state, "empty"));
}

static void test_file_without_permission_is_refused(void **state)
{
    const char *path = put_cifar(state, "secret.bin", 0, 1, 0), *dir = put_dir(state, "secret");
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(chmod(dir, 0), 0);
    uid_t before = geteuid();
    if (before == 0) /* root may read everything */
        assert_int_equal(seteuid(65534), 0);
    expect_refused(MQB_ERR_IO, "secret.bin|Permission denied", "cifar10:train=%s", path);
    expect_refused(MQB_ERR_IO, "secret|Permission denied", "cifar10:%s", dir);
    expect_refused(MQB_ERR_IO, "secret|Permission denied", "images:train=%s", dir);
    if (before == 0)
        assert_int_equal(seteuid(before), 0);
    assert_int_equal(chmod(dir, 0700), 0);
}

static void test_cifar10_50000_images_open(void **state)
{
    put_cifar(state, "data_batch_1.bin", 0, 10000, 0);
    const char *path = in(state, "data_batch_1.bin");
    struct mqb_dataset *dataset = open_word("cifar10:train=%s+%s+%s+%s+%s", path, path, path, path, path);
    assert_int_equal(dataset->num[0], 50000);
    mqb_dataset_close(dataset);
}

static void test_cifar10_real_files_have_known_content(void **state)
{
    (void)state;
    if (!have_shared("cifar10/data_batch_1.bin"))
        skip();
    struct mqb_dataset *dataset = open_word("cifar10:%s/data/cifar10", MQB_SHARED);
    assert_int_equal(dataset->num[0], 25000);
    assert_int_equal(dataset->num[1], 500);
    /* The first images of CIFAR-10: frog, truck, truck, deer, automobile; of its test set: cat, ship, ship, airplane, frog. */
    static const int32_t train[] = {6, 9, 9, 4, 1}, test[] = {3, 8, 8, 0, 6};
    assert_memory_equal(dataset->labels[0], train, sizeof train);
    assert_memory_equal(dataset->labels[1], test, sizeof test);
    /* Its first pixel is (59, 62, 63), its second (43, 46, 45). */
    uint8_t image[3072];
    assert_int_equal(dataset->image(dataset, MQB_SPLIT_TRAIN, 0, 32, false, 0, image, NULL), MQB_OK);
    assert_memory_equal(image, ((uint8_t[]){59, 62, 63, 43, 46, 45}), 6);
    mqb_dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_word_unknown_kind_names_nearest),
        cmocka_unit_test(test_word_without_path_says_usage),
        cmocka_unit_test(test_kinds_are_listed_with_usage),
        cmocka_unit_test(test_spec_bad_list_is_refused),
        cmocka_unit_test_setup_teardown(test_cifar10_folder_gives_records_in_order, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_cifar10_parts_by_name_and_limits, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_cifar10_bad_files_are_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_file_without_permission_is_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_cifar10_50000_images_open, make_folder, remove_folder),
        cmocka_unit_test(test_cifar10_real_files_have_known_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
