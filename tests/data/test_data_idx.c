/* test_data_idx.c - IDX files, plain and gzip. */
#include "data_test.h"

#include <zlib.h>

static void put_u32(uint8_t *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* n images of 3x5: pixel p of image i is 10 i + p. */
static size_t fill_images(uint8_t *out, uint32_t n)
{
    put_u32(out, 0x803);
    put_u32(out + 4, n);
    put_u32(out + 8, 3);
    put_u32(out + 12, 5);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t p = 0; p < 15; p++)
            out[16 + 15 * i + p] = (uint8_t)(10 * i + p);
    return 16 + 15 * (size_t)n;
}

static size_t fill_labels(uint8_t *out, uint32_t n)
{
    put_u32(out, 0x801);
    put_u32(out + 4, n);
    for (uint32_t i = 0; i < n; i++)
        out[8 + i] = (uint8_t)(i % 10);
    return 8 + (size_t)n;
}

static const char *put_gzip(void *const *state, const char *name, const void *data, size_t size)
{
    const char *path = in(state, name);
    gzFile file = gzopen(path, "wb9");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, data, (unsigned)size), (int)size);
    assert_int_equal(gzclose(file), Z_OK);
    return path;
}

static void check(const struct mqb_dataset *dataset, enum mqb_split split, size_t n)
{
    uint8_t image[15];
    assert_int_equal(dataset->num[split], n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(dataset->labels[split][i], i % 10);
        assert_int_equal(dataset->image(dataset, split, i, 0, false, 0, image, NULL), MQB_OK);
        for (size_t p = 0; p < 15; p++)
            assert_int_equal(image[p], (uint8_t)(10 * i + p));
    }
}

static void test_idx_folder_takes_plain_and_gzip(void **state)
{
    uint8_t data[512];
    put_gzip(state, "train-images-idx3-ubyte.gz", data, fill_images(data, 12));
    put_gzip(state, "train-labels-idx1-ubyte.gz", data, fill_labels(data, 12));
    put(state, "t10k-images-idx3-ubyte", data, fill_images(data, 7));
    put(state, "t10k-images-idx3-ubyte.gz", "not used", 8);
    put(state, "t10k-labels-idx1-ubyte", data, fill_labels(data, 7));
    struct mqb_dataset *dataset = open_word("idx:%s", (char *)*state);
    check(dataset, MQB_SPLIT_TRAIN, 12);
    check(dataset, MQB_SPLIT_TEST, 7);
    assert_int_equal(dataset->channels, 1);
    assert_int_equal(dataset->height, 3);
    assert_int_equal(dataset->width, 5);
    assert_int_equal(dataset->num_classes, 10);
    mqb_dataset_close(dataset);
    dataset = open_limited(5, 0, "idx:%s", (char *)*state);
    check(dataset, MQB_SPLIT_TRAIN, 5);
    mqb_dataset_close(dataset);
}

static void test_idx_parts_by_name(void **state)
{
    uint8_t data[512];
    char *images = strdup(put(state, "x", data, fill_images(data, 4))),
         *labels = strdup(put(state, "y", data, fill_labels(data, 4)));
    struct mqb_dataset *dataset = open_word("idx:test=%s,test-labels=%s", images, labels);
    check(dataset, MQB_SPLIT_TEST, 4);
    assert_int_equal(dataset->num[0], 0);
    mqb_dataset_close(dataset);
    dataset = open_word("idx:train=%s+%s,train-labels=%s+%s", images, images, labels, labels);
    assert_int_equal(dataset->num[0], 8);
    mqb_dataset_close(dataset);
    expect_refused(MQB_ERR_ARGUMENT, "2 files of train images, but 1 of labels", "idx:train=%s+%s,train-labels=%s", images,
                   images, labels);
    expect_refused(MQB_ERR_FORMAT, "0x00000801, expected 0x00000803|exchanged", "idx:train=%s,train-labels=%s", labels, images);
    free(images);
    free(labels);
}

static void test_idx_labels_outside_classes_are_refused_or_allowed_by_name(void **state)
{
    uint8_t data[512];
    char *images = strdup(put(state, "x", data, fill_images(data, 4)));
    size_t size = fill_labels(data, 4);
    data[8 + 2] = 46;
    char *labels = strdup(put(state, "y", data, size));
    expect_refused(MQB_ERR_FORMAT, "/y|record 2|label 46|0 to 9|classes=N", "idx:train=%s,train-labels=%s", images, labels);
    struct mqb_dataset *dataset = open_word("idx:train=%s,train-labels=%s,classes=47", images, labels);
    assert_int_equal(dataset->num_classes, 47);
    mqb_dataset_close(dataset);
    free(images);
    free(labels);
}

/* Each of these stands for the images; the labels are right. */
static void test_idx_bad_files_are_refused(void **state)
{
    uint8_t data[1024];
    char *labels = strdup(put(state, "y", data, fill_labels(data, 6)));
    size_t size = fill_images(data, 6);
    const char *word = "idx:train=%s,train-labels=%s";
    expect_refused(MQB_ERR_FORMAT, "/cut|promises 90 bytes|only 40|cut in the middle", word, put(state, "cut", data, 40),
                   labels);
    expect_refused(MQB_ERR_FORMAT, "/short|ends after 89 of 90 bytes|cut in the middle", word,
                   put(state, "short", data, size - 1), labels);
    expect_refused(MQB_ERR_FORMAT, "/head|header|cut in the middle", word, put(state, "head", data, 10), labels);
    expect_refused(MQB_ERR_FORMAT, "/long|goes on behind", word, put(state, "long", data, size + 5), labels);
    expect_refused(MQB_ERR_FORMAT, "/y: has 6 labels|/five has 5 images", word, put(state, "five", data, fill_images(data, 5)),
                   labels);
    fill_images(data, 6);
    put_u32(data + 4, 0xffffffffu);
    expect_refused(MQB_ERR_FORMAT, "/huge|promises|only 106", word, put(state, "huge", data, size), labels);
    put_u32(data + 8, 0);
    expect_refused(MQB_ERR_FORMAT, "/zero|dim 1|is 0", word, put(state, "zero", data, size), labels);
    expect_refused(MQB_ERR_FORMAT, "/noise|0x6e6f2069|expected 0x00000803", word, put(state, "noise", "no idx at all", 13),
                   labels);
    expect_refused(MQB_ERR_NOT_FOUND, "/none|No such file", word, in(state, "none"), labels);
    expect_refused(MQB_ERR_NOT_FOUND, "/bare|holds no IDX file|train-images-idx3-ubyte", "idx:%s", put_dir(state, "bare"));
    expect_refused(MQB_ERR_FORMAT, "no image at all", "idx:classes=10");
    free(labels);
}

static void test_idx_damaged_gzip_is_refused(void **state)
{
    uint8_t data[1024], *packed = NULL;
    size_t size = 0;
    char *labels = strdup(put(state, "y", data, fill_labels(data, 40)));
    const char *path = put_gzip(state, "x.gz", data, fill_images(data, 40)), *word = "idx:train=%s,train-labels=%s";
    assert_int_equal(mqb_file_read(path, 4096, (void **)&packed, &size, NULL), MQB_OK);
    expect_refused(MQB_ERR_FORMAT, "/cut.gz|cut in the middle", word, put(state, "cut.gz", packed, size / 2), labels);
    expect_refused(MQB_ERR_FORMAT, "/trailer.gz|gzip data is damaged or cut", word, put(state, "trailer.gz", packed, size - 6),
                   labels);
    packed[size - 6] ^= 0x55; /* the checksum */
    expect_refused(MQB_ERR_FORMAT, "/sum.gz|gzip data is damaged", word, put(state, "sum.gz", packed, size), labels);
    packed[size / 2] ^= 0xff;
    packed[size / 2 + 1] ^= 0xff;
    expect_refused(MQB_ERR_FORMAT, "/bits.gz", word, put(state, "bits.gz", packed, size), labels);
    mqb_deallocate(packed);
    free(labels);
}

static void test_idx_real_files_have_known_content(void **state)
{
    (void)state;
    if (!have_shared("mnist/train-first17000-images-idx3-ubyte.gz"))
        skip();
    struct mqb_dataset *dataset = open_word("idx:%s/data/mnist", MQB_SHARED);
    assert_int_equal(dataset->num[0], 17000);
    assert_int_equal(dataset->num[1], 5000);
    assert_int_equal(dataset->height, 28);
    static const int32_t train[] = {5, 0, 4, 1, 9, 2, 1, 3, 1, 4}, test[] = {7, 2, 1, 0, 4, 1, 4, 9, 5, 9};
    assert_memory_equal(dataset->labels[0], train, sizeof train);
    assert_memory_equal(dataset->labels[1], test, sizeof test);
    /* The published mean, 0.1307 over all 60000. */
    uint8_t image[784];
    double sum = 0;
    for (size_t i = 0; i < 17000; i++) {
        assert_int_equal(dataset->image(dataset, MQB_SPLIT_TRAIN, i, 28, false, 0, image, NULL), MQB_OK);
        for (int p = 0; p < 784; p++)
            sum += image[p];
    }
    assert_true(sum / (17000.0 * 784 * 255) > 0.129 && sum / (17000.0 * 784 * 255) < 0.132);
    mqb_dataset_close(dataset);
    dataset = open_word("idx:%s/data/fashion", MQB_SHARED);
    assert_int_equal(dataset->num[0], 2557);
    assert_int_equal(dataset->num[1], 2000);
    assert_int_equal(dataset->labels[1][0], 9); /* ankle boot, pullover, trouser, trouser */
    assert_int_equal(dataset->labels[1][1], 2);
    assert_int_equal(dataset->labels[1][2], 1);
    mqb_dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_idx_folder_takes_plain_and_gzip, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_idx_parts_by_name, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_idx_labels_outside_classes_are_refused_or_allowed_by_name, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(test_idx_bad_files_are_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_idx_damaged_gzip_is_refused, make_folder, remove_folder),
        cmocka_unit_test(test_idx_real_files_have_known_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
