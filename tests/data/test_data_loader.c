/* test_data_loader.c - batches: order, augmentation, resume, errors from the background, an end at any moment. */
#include "data_test.h"

#include <math.h>
#include <time.h>

/* ---- data sets made for the test ---- */

/* 100 images of 8x8x3; pixel (y, x) of image i is (i + 1, y, x). From `fail_from` on they cannot be read; reading takes up to
 * `wait` microseconds, now more, now less. */
struct toy {
    struct mqb_dataset dataset;
    int32_t labels[100];
    _Atomic size_t fail_from;
    _Atomic unsigned wait;
};

static mqb_status toy_image(const struct mqb_dataset *dataset, enum mqb_split split, size_t index, int32_t size, bool augment,
                            uint64_t key, uint8_t *out, struct mqb_error *error)
{
    (void)split, (void)size, (void)augment, (void)key;
    const struct toy *toy = (const struct toy *)dataset;
    if (toy->wait > 0)
        usleep((unsigned)(index * 7919) % toy->wait);
    if (index >= toy->fail_from)
        return mqb_fail(error, MQB_ERR_FORMAT, "image %zu is broken", index);
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++, out += 3)
            memcpy(out, ((uint8_t[]){(uint8_t)(index + 1), (uint8_t)y, (uint8_t)x}), 3);
    return MQB_OK;
}

static struct toy *toy_create(void)
{
    static char name[] = "toy";
    struct toy *toy = calloc(1, sizeof *toy);
    assert_non_null(toy);
    for (int i = 0; i < 100; i++)
        toy->labels[i] = i % 10;
    toy->fail_from = SIZE_MAX;
    toy->dataset = (struct mqb_dataset){.name = name,
                                        .num_classes = 10,
                                        .channels = 3,
                                        .height = 8,
                                        .width = 8,
                                        .num = {100, 0},
                                        .labels = {toy->labels, NULL},
                                        .image = toy_image};
    return toy;
}

static struct mqb_loader_config plain(int32_t batch, int32_t size)
{
    struct mqb_loader_config config = {.split = MQB_SPLIT_TRAIN, .batch = batch, .size = size, .seed = 3};
    assert_int_equal(mqb_normalize_parse("raw", &config.normalize, NULL), MQB_OK);
    return config;
}

static struct mqb_loader *create(const struct mqb_dataset *dataset, const struct mqb_loader_config *config)
{
    struct mqb_loader *loader = NULL;
    struct mqb_error error = MQB_ERROR_INIT;
    if (mqb_loader_create(dataset, config, &loader, &error) != MQB_OK)
        fail_msg("%s", error.text);
    return loader;
}

/* Everything from batch `first` of an epoch on, image after image. */
struct epoch {
    float *x;
    int32_t labels[256];
    uint32_t index[256];
    int32_t num, batches[64];
    int num_batches;
};

static struct epoch run_epoch(struct mqb_loader *loader, const struct mqb_loader_config *config, int channels, uint64_t epoch,
                              size_t first)
{
    size_t image = (size_t)(config->size * config->size * channels);
    struct epoch all = {.x = malloc(256 * image * sizeof(float))};
    struct mqb_batch batch;
    assert_non_null(all.x);
    assert_int_equal(mqb_loader_start(loader, epoch, first, NULL), MQB_OK);
    for (;;) {
        struct mqb_error error = MQB_ERROR_INIT;
        if (mqb_loader_next(loader, &batch, &error) != MQB_OK)
            fail_msg("%s", error.text);
        if (batch.num_images == 0)
            break;
        memcpy(all.x + (size_t)all.num * image, batch.x, (size_t)batch.num_images * image * sizeof(float));
        memcpy(all.labels + all.num, batch.labels, (size_t)batch.num_images * sizeof(int32_t));
        memcpy(all.index + all.num, batch.index, (size_t)batch.num_images * sizeof(uint32_t));
        all.num += batch.num_images;
        all.batches[all.num_batches++] = batch.num_images;
    }
    return all;
}

/* ---- tests ---- */

static void test_loader_file_order_is_normalized_pixels(void **state)
{
    (void)state;
    struct toy *toy = toy_create();
    struct mqb_loader_config config = plain(32, 8);
    assert_int_equal(mqb_normalize_parse("imagenet", &config.normalize, NULL), MQB_OK);
    struct mqb_loader *loader = create(&toy->dataset, &config);
    assert_int_equal(mqb_loader_num_batches(loader), 4);
    struct epoch all = run_epoch(loader, &config, 3, 0, 0);
    assert_int_equal(all.num, 100);
    assert_int_equal(all.num_batches, 4);
    assert_int_equal(all.batches[3], 4);
    const float *x = all.x;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(all.index[i], i);
        assert_int_equal(all.labels[i], i % 10);
        for (int y = 0; y < 8; y++)
            for (int k = 0; k < 8; k++, x += 3) {
                assert_true(fabs((double)x[0] - ((i + 1) / 255.0 - 0.485) / 0.229) < 1e-6);
                assert_true(fabs((double)x[1] - (y / 255.0 - 0.456) / 0.224) < 1e-6);
                assert_true(fabs((double)x[2] - (k / 255.0 - 0.406) / 0.225) < 1e-6);
            }
    }
    /* The end stays the end. */
    struct mqb_batch batch;
    assert_int_equal(mqb_loader_next(loader, &batch, NULL), MQB_OK);
    assert_int_equal(batch.num_images, 0);
    free(all.x);
    mqb_loader_destroy(loader);
    free(toy);
}

static void test_loader_drop_last_leaves_the_rest(void **state)
{
    (void)state;
    struct toy *toy = toy_create();
    struct mqb_loader_config config = plain(32, 8);
    config.drop_last = true;
    struct mqb_loader *loader = create(&toy->dataset, &config);
    assert_int_equal(mqb_loader_num_batches(loader), 3);
    struct epoch all = run_epoch(loader, &config, 3, 0, 0);
    assert_int_equal(all.num, 96);
    free(all.x);
    mqb_loader_destroy(loader);
    free(toy);
}

static void test_loader_shuffle_is_a_permutation_of_seed_and_epoch(void **state)
{
    (void)state;
    struct toy *toy = toy_create();
    struct mqb_loader_config config = plain(16, 8);
    config.shuffle = true;
    struct mqb_loader *loader = create(&toy->dataset, &config);
    struct epoch first = run_epoch(loader, &config, 3, 0, 0), second = run_epoch(loader, &config, 3, 1, 0);
    struct epoch again = run_epoch(loader, &config, 3, 0, 0);
    bool seen[100] = {false};
    for (int i = 0; i < 100; i++) {
        assert_false(seen[first.index[i]]);
        seen[first.index[i]] = true;
        assert_int_equal(first.labels[i], first.index[i] % 10);
        assert_true(first.x[i * 192] == (float)(first.index[i] + 1));
    }
    assert_memory_not_equal(first.index, second.index, 400);
    assert_memory_equal(first.index, again.index, 400);
    mqb_loader_destroy(loader);
    config.seed = 4;
    loader = create(&toy->dataset, &config);
    struct epoch other = run_epoch(loader, &config, 3, 0, 0);
    assert_memory_not_equal(first.index, other.index, 400);
    free(first.x), free(second.x), free(again.x), free(other.x);
    mqb_loader_destroy(loader);
    free(toy);
}

/* What is made does not depend on how long reading takes, on the batch size, or on where the epoch was started. */
static void test_loader_content_depends_on_position_alone(void **state)
{
    (void)state;
    struct toy *toy = toy_create();
    struct mqb_loader_config config = plain(16, 8);
    config.shuffle = true;
    config.augment = (struct mqb_augment){.flip = true, .crop_padding = 2};
    struct mqb_loader *loader = create(&toy->dataset, &config);
    struct epoch expected = run_epoch(loader, &config, 3, 5, 0);
    toy->wait = 300;
    struct epoch slow = run_epoch(loader, &config, 3, 5, 0), rest = run_epoch(loader, &config, 3, 5, 4);
    mqb_loader_destroy(loader);
    config.batch = 7;
    loader = create(&toy->dataset, &config);
    struct epoch sevens = run_epoch(loader, &config, 3, 5, 0);
    size_t size = 192 * sizeof(float);
    assert_memory_equal(expected.x, slow.x, 100 * size);
    assert_memory_equal(expected.x, sevens.x, 100 * size);
    assert_int_equal(rest.num, 36);
    assert_memory_equal(expected.x + 64 * 192, rest.x, 36 * size);
    assert_memory_equal(expected.index + 64, rest.index, 36 * 4);
    free(expected.x), free(slow.x), free(rest.x), free(sevens.x);
    mqb_loader_destroy(loader);
    free(toy);
}

/* Green is y and blue is x, so that shift and flip can be read off the middle; the padding is black. */
static void test_loader_crop_and_flip_are_what_they_say(void **state)
{
    (void)state;
    struct toy *toy = toy_create();
    struct mqb_loader_config config = plain(25, 8);
    config.augment = (struct mqb_augment){.flip = true, .crop_padding = 2};
    struct mqb_loader *loader = create(&toy->dataset, &config);
    int flips = 0, down_count[5] = {0}, right_count[5] = {0};
    for (uint64_t epoch = 0; epoch < 5; epoch++) {
        struct epoch all = run_epoch(loader, &config, 3, epoch, 0);
        for (int i = 0; i < 100; i++) {
            const float *x = all.x + i * 192;
            bool flip = x[(4 * 8 + 4) * 3 + 2] < x[(4 * 8 + 3) * 3 + 2];
            int down = (int)x[(4 * 8 + 4) * 3 + 1] - 4, right = (int)x[(4 * 8 + 4) * 3 + 2] - (flip ? 3 : 4);
            assert_in_range(down + 2, 0, 4);
            assert_in_range(right + 2, 0, 4);
            flips += flip;
            down_count[down + 2]++;
            right_count[right + 2]++;
            for (int y = 0; y < 8; y++)
                for (int k = 0; k < 8; k++) {
                    int from_y = y + down, from_x = (flip ? 7 - k : k) + right;
                    bool inside = from_y >= 0 && from_y < 8 && from_x >= 0 && from_x < 8;
                    assert_true(x[(y * 8 + k) * 3] == (inside ? (float)(i + 1) : 0.0f));
                    assert_true(x[(y * 8 + k) * 3 + 1] == (inside ? (float)from_y : 0.0f));
                    assert_true(x[(y * 8 + k) * 3 + 2] == (inside ? (float)from_x : 0.0f));
                }
        }
        free(all.x);
    }
    assert_in_range(flips, 200, 300); /* 250 +- 4.5 standard deviations */
    for (int i = 0; i < 5; i++) {
        assert_in_range(down_count[i], 60, 140);
        assert_in_range(right_count[i], 60, 140);
    }
    mqb_loader_destroy(loader);
    free(toy);
}

static void test_loader_other_size_is_scaled(void **state)
{
    (void)state;
    struct toy *toy = toy_create();
    struct mqb_loader_config config = plain(10, 4);
    struct mqb_loader *loader = create(&toy->dataset, &config);
    struct epoch all = run_epoch(loader, &config, 3, 0, 0);
    /* Triangle weights 1 3 3 1 over four rows (the outer row lacks its 1 and keeps 7): of 0 1 2: 5/7 -> 1; of 1 2 3 4: 2.5 ->
     * 3; of 3 4 5 6: 4.5 -> 5; of 5 6 7: 44/7 -> 6. */
    static const float expected[] = {1, 3, 5, 6};
    for (int i = 0; i < 100; i++)
        for (int y = 0; y < 4; y++)
            for (int x = 0; x < 4; x++) {
                const float *pixel = all.x + ((i * 4 + y) * 4 + x) * 3;
                assert_true(pixel[0] == (float)(i + 1) && pixel[1] == expected[y] && pixel[2] == expected[x]);
            }
    free(all.x);
    mqb_loader_destroy(loader);
    free(toy);
}

static void test_loader_one_channel_stays_one(void **state)
{
    if (!have_shared("mnist/t10k-first5000-images-idx3-ubyte.gz"))
        skip();
    (void)state;
    struct mqb_dataset *dataset = open_limited(1, 60, "idx:%s/data/mnist", MQB_SHARED);
    struct mqb_loader_config config = plain(50, 28);
    config.split = MQB_SPLIT_TEST;
    struct mqb_loader *loader = create(dataset, &config);
    struct epoch all = run_epoch(loader, &config, 1, 0, 0);
    uint8_t image[784];
    assert_int_equal(all.num, 60);
    for (size_t i = 0; i < 60; i++) {
        assert_int_equal(dataset->image(dataset, MQB_SPLIT_TEST, i, 28, false, 0, image, NULL), MQB_OK);
        for (size_t p = 0; p < 784; p++)
            assert_true(all.x[i * 784 + p] == (float)image[p]);
    }
    free(all.x);
    mqb_loader_destroy(loader);
    mqb_dataset_close(dataset);
}

static void test_loader_background_error_surfaces_and_epochs_go_on(void **state)
{
    (void)state;
    struct toy *toy = toy_create();
    struct mqb_loader_config config = plain(32, 8);
    struct mqb_loader *loader = create(&toy->dataset, &config);
    struct mqb_batch batch;
    toy->wait = 200;
    toy->fail_from = 37;
    for (int round = 0; round < 3; round++) {
        assert_int_equal(mqb_loader_start(loader, 0, 0, NULL), MQB_OK);
        assert_int_equal(mqb_loader_next(loader, &batch, NULL), MQB_OK);
        assert_int_equal(batch.num_images, 32);
        for (int again = 0; again < 2; again++) {
            struct mqb_error error = MQB_ERROR_INIT;
            assert_int_equal(mqb_loader_next(loader, &batch, &error), MQB_ERR_FORMAT);
            assert_string_equal(error.text, "image 37 is broken"); /* the first one, whoever failed first */
            assert_int_equal(batch.num_images, 0);
        }
    }
    toy->fail_from = SIZE_MAX;
    struct epoch all = run_epoch(loader, &config, 3, 1, 0);
    assert_int_equal(all.num, 100);
    free(all.x);
    mqb_loader_destroy(loader);
    free(toy);
}

static void test_loader_damaged_picture_is_named(void **state)
{
    put_dir(state, "pics");
    put(state, "pics/bad.jpg", "\xff\xd8\xff nothing more", 16);
    put(state, "l.csv", "file,index\nbad.jpg,1\n", 21);
    struct mqb_dataset *dataset = open_word("images:train=%s,train-labels=%s", in(state, "pics"), in(state, "l.csv"));
    struct mqb_loader_config config = plain(4, 32);
    struct mqb_loader *loader = create(dataset, &config);
    struct mqb_batch batch;
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(mqb_loader_start(loader, 0, 0, NULL), MQB_OK);
    assert_int_equal(mqb_loader_next(loader, &batch, &error), MQB_ERR_FORMAT);
    expect_words(error.text, "pics/bad.jpg|cannot be decoded as JPEG");
    mqb_loader_destroy(loader);
    mqb_dataset_close(dataset);
}

static void test_loader_stops_at_any_moment(void **state)
{
    (void)state;
    struct toy *toy = toy_create();
    toy->wait = 2000;
    struct mqb_loader_config config = plain(20, 8);
    config.shuffle = true;
    struct mqb_batch batch;
    for (int round = 0; round < 24; round++) {
        struct mqb_loader *loader = create(&toy->dataset, &config);
        toy->fail_from = round % 5 == 4 ? 50 : SIZE_MAX;
        if (round > 0)
            assert_int_equal(mqb_loader_start(loader, (uint64_t)round, 0, NULL), MQB_OK);
        for (int i = 0; i < round % 4; i++)
            mqb_loader_next(loader, &batch, NULL);
        if (round % 3 == 0) /* and be started anew in the middle */
            assert_int_equal(mqb_loader_start(loader, 77, 2, NULL), MQB_OK);
        nanosleep(&(struct timespec){0, round % 6 * 400000L}, NULL);
        double start = mqb_seconds();
        mqb_loader_destroy(loader);
        assert_true(mqb_seconds() - start < 2);
    }
    mqb_loader_destroy(NULL);
    free(toy);
}

static void refuse(const struct toy *toy, const struct mqb_loader_config *config, const char *words)
{
    struct mqb_loader *loader = NULL;
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(mqb_loader_create(&toy->dataset, config, &loader, &error), MQB_ERR_ARGUMENT);
    assert_null(loader);
    expect_words(error.text, words);
}

static void test_loader_bad_requests_are_refused(void **state)
{
    (void)state;
    struct toy *toy = toy_create();
    struct mqb_loader_config config = plain(0, 8);
    refuse(toy, &config, "a batch of 0 images");
    config = plain(8, 0);
    refuse(toy, &config, "0x0 pixels");
    config = plain(8, 8);
    config.augment.crop_padding = 9;
    refuse(toy, &config, "crop padding of 9|0 to 8");
    config = plain(8, 8);
    config.split = MQB_SPLIT_TEST;
    refuse(toy, &config, "data set toy has no test images");
    config = plain(101, 8);
    config.drop_last = true;
    refuse(toy, &config, "100 train images, fewer than one batch of 101|smaller batch");
    config = plain(32, 8);
    struct mqb_loader *loader = create(&toy->dataset, &config);
    struct mqb_batch batch;
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(mqb_loader_next(loader, &batch, &error), MQB_ERR_ARGUMENT);
    expect_words(error.text, "before mqb_loader_start");
    assert_int_equal(mqb_loader_start(loader, 0, 5, &error), MQB_ERR_ARGUMENT);
    expect_words(error.text, "start at batch 5, but has only 4");
    assert_int_equal(mqb_loader_start(loader, 0, 4, NULL), MQB_OK);
    assert_int_equal(mqb_loader_next(loader, &batch, NULL), MQB_OK);
    assert_int_equal(batch.num_images, 0);
    mqb_loader_destroy(loader);
    free(toy);
}

static void test_loader_random_crops_of_pictures_repeat(void **state)
{
    (void)state;
    if (!have_shared("imagenet/val_labels.csv"))
        skip();
    struct mqb_dataset *dataset = open_limited(
        24, 0, "images:train=%s/data/imagenet/val,train-labels=%s/data/imagenet/val_labels.csv", MQB_SHARED, MQB_SHARED);
    struct mqb_loader_config config = plain(10, 96);
    config.shuffle = true;
    config.augment = (struct mqb_augment){.flip = true, .resized_crop = true};
    struct mqb_loader *loader = create(dataset, &config);
    struct epoch first = run_epoch(loader, &config, 3, 0, 0), other = run_epoch(loader, &config, 3, 1, 0);
    struct epoch again = run_epoch(loader, &config, 3, 0, 0);
    size_t size = 24 * 96 * 96 * 3 * sizeof(float);
    assert_int_equal(first.num, 24);
    assert_memory_equal(first.x, again.x, size);
    assert_memory_not_equal(first.x, other.x, size);
    free(first.x), free(other.x), free(again.x);
    mqb_loader_destroy(loader);
    mqb_dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loader_file_order_is_normalized_pixels),
        cmocka_unit_test(test_loader_drop_last_leaves_the_rest),
        cmocka_unit_test(test_loader_shuffle_is_a_permutation_of_seed_and_epoch),
        cmocka_unit_test(test_loader_content_depends_on_position_alone),
        cmocka_unit_test(test_loader_crop_and_flip_are_what_they_say),
        cmocka_unit_test(test_loader_other_size_is_scaled),
        cmocka_unit_test(test_loader_one_channel_stays_one),
        cmocka_unit_test(test_loader_background_error_surfaces_and_epochs_go_on),
        cmocka_unit_test_setup_teardown(test_loader_damaged_picture_is_named, make_folder, remove_folder),
        cmocka_unit_test(test_loader_stops_at_any_moment),
        cmocka_unit_test(test_loader_bad_requests_are_refused),
        cmocka_unit_test(test_loader_random_crops_of_pictures_repeat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
