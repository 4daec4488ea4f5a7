/* test_data_images.c - folders of pictures: decoding, labels, layouts, damage. */
#include "data_test.h"

#include <jpeglib.h>
#include <png.h>

/* ---- making pictures ---- */

/* components 1, 3 or 4 (CMYK); a smooth picture, so that compression changes little. */
static size_t make_jpeg(int width, int height, int components, uint8_t **out)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr manager;
    unsigned char *data = NULL;
    unsigned long size = 0;
    JSAMPLE *row = malloc((size_t)(width * components));
    jpeg.err = jpeg_std_error(&manager);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &data, &size);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = components;
    jpeg.in_color_space = components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 98, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++)
            for (int c = 0; c < components; c++)
                row[x * components + c] = (JSAMPLE)(40 + 2 * x + 3 * y + 20 * c);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    free(row);
    *out = data;
    return size;
}

static const char *put_jpeg(void *const *state, const char *name, int width, int height, int components)
{
    uint8_t *data;
    size_t size = make_jpeg(width, height, components, &data);
    const char *path = put(state, name, data, size);
    free(data);
    return path;
}

/* Rows as libpng takes them (16-bit big-endian). Palette: 4 colours (16 i, 32 i, 48 i), the second half transparent. */
static const char *put_png(void *const *state, const char *name, int width, int height, int depth, int type, int interlace,
                           const uint8_t *rows, size_t stride)
{
    const char *path = in(state, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_init_io(png, file);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, depth, type, interlace, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    if (type == PNG_COLOR_TYPE_PALETTE) {
        static const png_color palette[] = {{0, 0, 0}, {16, 32, 48}, {32, 64, 96}, {48, 96, 144}};
        static const png_byte alpha[] = {255, 200, 100, 0};
        png_set_PLTE(png, info, palette, 4);
        png_set_tRNS(png, info, alpha, 4, NULL);
    }
    png_write_info(png, info);
    png_bytep pointers[64];
    assert_true(height <= 64);
    for (int y = 0; y < height; y++)
        pointers[y] = (png_bytep)(uintptr_t)(rows + (size_t)y * stride);
    png_write_image(png, pointers);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    assert_int_equal(fclose(file), 0);
    return path;
}

static struct mqb_picture read_picture(const char *path, int width, int height)
{
    struct mqb_picture picture;
    struct mqb_error error = MQB_ERROR_INIT;
    if (mqb_picture_read(path, &picture, &error) != MQB_OK)
        fail_msg("%s", error.text);
    assert_int_equal(picture.width, width);
    assert_int_equal(picture.height, height);
    return picture;
}

static void refuse_picture(const char *path, mqb_status status, const char *words)
{
    struct mqb_picture picture;
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(mqb_picture_read(path, &picture, &error), status);
    assert_null(picture.rgb);
    expect_words(error.text, words);
}

/* ---- decoding ---- */

static void test_png_kinds_give_rgb(void **state)
{
    uint8_t rows[16 * 64];
    for (size_t i = 0; i < sizeof rows; i++)
        rows[i] = (uint8_t)(i * 7);
    for (int interlace = 0; interlace < 2; interlace++) {
        struct mqb_picture p = read_picture(put_png(state, "rgb.png", 5, 4, 8, PNG_COLOR_TYPE_RGB, interlace, rows, 15), 5, 4);
        assert_memory_equal(p.rgb, rows, 60);
        mqb_picture_deinit(&p);
        p = read_picture(put_png(state, "rgba.png", 5, 4, 8, PNG_COLOR_TYPE_RGBA, interlace, rows, 20), 5, 4);
        for (int i = 0; i < 20; i++)
            assert_memory_equal(p.rgb + 3 * i, rows + 4 * i, 3);
        mqb_picture_deinit(&p);
        p = read_picture(put_png(state, "grey.png", 5, 4, 8, PNG_COLOR_TYPE_GRAY, interlace, rows, 5), 5, 4);
        for (int i = 0; i < 60; i++)
            assert_int_equal(p.rgb[i], rows[i / 3]);
        mqb_picture_deinit(&p);
        p = read_picture(put_png(state, "grey_alpha.png", 5, 4, 8, PNG_COLOR_TYPE_GRAY_ALPHA, interlace, rows, 10), 5, 4);
        for (int i = 0; i < 60; i++)
            assert_int_equal(p.rgb[i], rows[i / 3 * 2]);
        mqb_picture_deinit(&p);
        p = read_picture(put_png(state, "rgb16.png", 5, 4, 16, PNG_COLOR_TYPE_RGB, interlace, rows, 30), 5, 4);
        for (int i = 0; i < 60; i++) { /* 0..65535 to 0..255, rounded */
            int value = rows[2 * i] << 8 | rows[2 * i + 1];
            assert_int_equal(p.rgb[i], (value * 255 + 32767) / 65535);
        }
        mqb_picture_deinit(&p);
        p = read_picture(put_png(state, "bit.png", 10, 3, 1, PNG_COLOR_TYPE_GRAY, interlace, rows, 2), 10, 3);
        for (int y = 0; y < 3; y++)
            for (int x = 0; x < 10; x++)
                assert_int_equal(p.rgb[(y * 10 + x) * 3 + 1], (rows[2 * y + x / 8] >> (7 - x % 8) & 1) * 255);
        mqb_picture_deinit(&p);
        p = read_picture(put_png(state, "palette.png", 6, 3, 2, PNG_COLOR_TYPE_PALETTE, interlace, rows, 2), 6, 3);
        for (int y = 0; y < 3; y++)
            for (int x = 0; x < 6; x++)
                for (int c = 0; c < 3; c++)
                    assert_int_equal(p.rgb[(y * 6 + x) * 3 + c], (rows[2 * y + x / 4] >> (6 - 2 * (x % 4)) & 3) * 16 * (c + 1));
        mqb_picture_deinit(&p);
    }
}

static void test_jpeg_rgb_and_grey_give_rgb(void **state)
{
    for (int components = 1; components <= 3; components += 2) {
        struct mqb_picture p = read_picture(put_jpeg(state, "a.jpg", 33, 20, components), 33, 20);
        for (int y = 0; y < 20; y++)
            for (int x = 0; x < 33; x++)
                for (int c = 0; c < 3; c++)
                    assert_in_range(p.rgb[(y * 33 + x) * 3 + c] + 8 - (40 + 2 * x + 3 * y + (components == 3 ? 20 * c : 0)), 0,
                                    16);
        mqb_picture_deinit(&p);
    }
}

static void test_damaged_pictures_are_refused(void **state)
{
    uint8_t *jpeg, *png = NULL;
    size_t size = make_jpeg(64, 48, 3, &jpeg), png_size = 0;
    refuse_picture(put(state, "cut.jpg", jpeg, size / 2), MQB_ERR_FORMAT,
                   "cut.jpg|cannot be decoded as JPEG|replace or remove");
    refuse_picture(put(state, "head.jpg", jpeg, 20), MQB_ERR_FORMAT, "head.jpg|cannot be decoded as JPEG");
    refuse_picture(put(state, "no.jpg", "this is a text", 14), MQB_ERR_FORMAT, "no.jpg|neither a JPEG nor a PNG");
    refuse_picture(put(state, "zero.jpg", "", 0), MQB_ERR_FORMAT, "zero.jpg|neither a JPEG nor a PNG|0 bytes");
    refuse_picture(put_jpeg(state, "cmyk.jpg", 8, 8, 4), MQB_ERR_UNSUPPORTED, "cmyk.jpg|CMYK|convert");
    refuse_picture(in(state, "none.jpg"), MQB_ERR_NOT_FOUND, "none.jpg|No such file");
    free(jpeg);
    uint8_t rows[64 * 48 * 3];
    for (size_t i = 0; i < sizeof rows; i++)
        rows[i] = (uint8_t)(i * i >> 3);
    const char *path = put_png(state, "a.png", 64, 48, 8, PNG_COLOR_TYPE_RGB, 0, rows, 192);
    assert_int_equal(mqb_file_read(path, 1 << 20, (void **)&png, &png_size, NULL), MQB_OK);
    refuse_picture(put(state, "cut.png", png, png_size / 2), MQB_ERR_FORMAT, "cut.png|cannot be decoded as PNG|ends too early");
    png[png_size / 2] ^= 0xff;
    refuse_picture(put(state, "bits.png", png, png_size), MQB_ERR_FORMAT, "bits.png|cannot be decoded as PNG");
    mqb_deallocate(png);
}

static void test_pictures_of_random_bytes_never_crash(void **state)
{
    uint8_t *jpeg;
    size_t size = make_jpeg(40, 40, 3, &jpeg);
    uint8_t *copy = malloc(size);
    for (uint64_t i = 0; i < 300; i++) {
        memcpy(copy, jpeg, size);
        for (uint64_t k = 0; k < 4; k++) {
            uint32_t word[4];
            mqb_philox(1, i, k, word);
            copy[3 + word[0] % (size - 3)] = (uint8_t)word[1];
        }
        struct mqb_picture picture;
        struct mqb_error error = MQB_ERROR_INIT;
        if (mqb_picture_read(put(state, "fuzz.jpg", copy, size), &picture, &error) == MQB_OK)
            mqb_picture_deinit(&picture);
        else
            expect_words(error.text, "fuzz.jpg");
    }
    free(copy);
    free(jpeg);
}

/* ---- data sets ---- */

static void put_text(void **state, const char *name, const char *text)
{
    put(state, name, text, strlen(text));
}

static void test_images_class_folders_take_turns(void **state)
{
    put_dir(state, "train");
    put_dir(state, "val");
    static const char *const classes[] = {"train/bee", "train/ant", "train/cat", "val/ant", "val/bee", "val/cat"};
    for (int i = 0; i < 6; i++)
        put_dir(state, classes[i]);
    put_jpeg(state, "train/ant/1.jpg", 50, 40, 3);
    put_jpeg(state, "train/ant/0.JPEG", 40, 50, 3);
    put_jpeg(state, "train/bee/b.jpeg", 64, 64, 1);
    put_jpeg(state, "train/cat/c.jpg", 64, 64, 3);
    put_text(state, "train/cat/notes.txt", "not a picture");
    put_text(state, "train/readme", "not a folder");
    put_jpeg(state, "val/ant/x.jpg", 30, 30, 3);
    put_jpeg(state, "val/bee/x.jpg", 30, 30, 3);
    put_jpeg(state, "val/cat/x.jpg", 30, 30, 3);
    struct mqb_dataset *dataset = open_word("images:%s", (char *)*state);
    assert_int_equal(dataset->num_classes, 3);
    assert_int_equal(dataset->height, 0);
    assert_int_equal(dataset->channels, 3);
    assert_int_equal(dataset->num[0], 4);
    assert_int_equal(dataset->num[1], 3);
    static const int32_t labels[] = {0, 1, 2, 0};
    assert_memory_equal(dataset->labels[0], labels, sizeof labels);
    uint8_t image[32 * 32 * 3];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(dataset->image(dataset, MQB_SPLIT_TRAIN, i, 32, i % 2 == 0, i, image, NULL), MQB_OK);
    mqb_dataset_close(dataset);
    dataset = open_limited(2, 0, "images:%s", (char *)*state);
    assert_int_equal(dataset->num[0], 2);
    assert_int_equal(dataset->labels[0][1], 1);
    assert_int_equal(dataset->num_classes, 3);
    mqb_dataset_close(dataset);
    assert_int_equal(unlink(in(state, "val/cat/x.jpg")), 0);
    expect_refused(MQB_ERR_NOT_FOUND, "val/cat|holds no picture", "images:%s", (char *)*state);
    assert_int_equal(rmdir(in(state, "val/cat")), 0);
    expect_refused(MQB_ERR_FORMAT, "val|2 class folders are not the 3", "images:%s", (char *)*state);
}

static void test_images_csv_gives_labels(void **state)
{
    put_dir(state, "pics");
    put_jpeg(state, "pics/a,b.jpg", 40, 40, 3);
    put_jpeg(state, "pics/c.jpg", 40, 40, 3);
    put_text(state, "l.csv",
             "\xef\xbb\xbfwnid,index,name,file\r\nn01,7,\"a \"\"big\"\" one, red\",\"a,b.jpg\"\r\n\r\nn02,3,plain,c.jpg\r\n");
    struct mqb_dataset *dataset = open_word("images:test=%s,test-labels=%s", in(state, "pics"), in(state, "l.csv"));
    assert_int_equal(dataset->num[0], 0);
    assert_int_equal(dataset->num[1], 2);
    assert_int_equal(dataset->labels[1][0], 7);
    assert_int_equal(dataset->labels[1][1], 3);
    assert_int_equal(dataset->num_classes, 8);
    char before[65];
    strcpy(before, dataset->sha256);
    mqb_dataset_close(dataset);
    dataset = open_limited(0, 1, "images:test=%s,test-labels=%s,classes=1000", in(state, "pics"), in(state, "l.csv"));
    assert_int_equal(dataset->num[1], 1);
    assert_int_equal(dataset->num_classes, 1000);
    assert_string_not_equal(dataset->sha256, before);
    mqb_dataset_close(dataset);
    expect_refused(MQB_ERR_FORMAT, "l.csv:2: label 7 of a,b.jpg is outside the classes 0 to 4",
                   "images:test=%s,test-labels=%s,classes=5", in(state, "pics"), in(state, "l.csv"));
}

static void refuse_csv(void **state, const char *text, mqb_status status, const char *words)
{
    put_text(state, "bad.csv", text);
    expect_refused(status, words, "images:test=%s,test-labels=%s", in(state, "pics"), in(state, "bad.csv"));
}

static void test_images_bad_csv_is_refused(void **state)
{
    put_dir(state, "pics");
    put_jpeg(state, "pics/a.jpg", 40, 40, 3);
    put_dir(state, "pics/dir.jpg");
    refuse_csv(state, "", MQB_ERR_FORMAT, "bad.csv:1|no column 'file'|file,index");
    refuse_csv(state, "name,index\na.jpg,1\n", MQB_ERR_FORMAT, "bad.csv:1|no column 'file'");
    refuse_csv(state, "file,label\na.jpg,1\n", MQB_ERR_FORMAT, "bad.csv:1|no column 'index'");
    refuse_csv(state, "file,index\n", MQB_ERR_FORMAT, "bad.csv|lists no file");
    refuse_csv(state, "file,index\na.jpg,1\na.jpg\n", MQB_ERR_FORMAT, "bad.csv:3|1 fields, at least 2");
    refuse_csv(state, "file,index\na.jpg,x\n", MQB_ERR_FORMAT, "bad.csv:2|'x' of a.jpg is not a whole number");
    refuse_csv(state, "file,index\na.jpg,-1\n", MQB_ERR_FORMAT, "bad.csv:2|'-1' of a.jpg");
    refuse_csv(state, "file,index\na.jpg,99999999999999999999\n", MQB_ERR_FORMAT,
               "bad.csv:2|is not a whole number from 0 to 999999");
    refuse_csv(state, "file,index\n,1\n", MQB_ERR_FORMAT, "bad.csv:2|file name is empty");
    refuse_csv(state, "file,index\n\"a.jpg,1\n", MQB_ERR_FORMAT, "bad.csv:2|quote that does not close");
    refuse_csv(state, "file,index\na.jpg,1\nb.jpg,1\n", MQB_ERR_NOT_FOUND, "bad.csv:3|pics/b.jpg|No such file");
    refuse_csv(state, "file,index\ndir.jpg,1\n", MQB_ERR_FORMAT, "bad.csv:2|dir.jpg|is not a file");
    put(state, "bad.csv", "file,index\n\0\n", 13);
    expect_refused(MQB_ERR_FORMAT, "bad.csv|zero byte", "images:test=%s,test-labels=%s", in(state, "pics"),
                   in(state, "bad.csv"));
    expect_refused(MQB_ERR_NOT_FOUND, "none.csv|No such file", "images:test=%s,test-labels=%s", in(state, "pics"),
                   in(state, "none.csv"));
}

static void test_images_bad_layouts_are_refused(void **state)
{
    put_dir(state, "void");
    expect_refused(MQB_ERR_NOT_FOUND, "void|neither train/ nor val/ or test/", "images:%s", in(state, "void"));
    expect_refused(MQB_ERR_NOT_FOUND, "void|holds no class folders|test-labels", "images:test=%s", in(state, "void"));
    expect_refused(MQB_ERR_NOT_FOUND, "nowhere|no such folder", "images:%s", in(state, "nowhere"));
    expect_refused(MQB_ERR_ARGUMENT, "test-labels=x.csv is given without test=DIR", "images:test-labels=x.csv");
    expect_refused(MQB_ERR_ARGUMENT, "2 folders in test, but 1 files in test-labels", "images:test=a+b,test-labels=x.csv");
    expect_refused(MQB_ERR_ARGUMENT, "unknown key 'train-label'|did you mean 'train-labels'", "images:train-label=x");
    expect_refused(MQB_ERR_ARGUMENT, "classes=0 is not a whole number from 2", "images:test=a,classes=0");
}

static void test_images_damaged_picture_is_named_when_read(void **state)
{
    put_dir(state, "pics");
    put_text(state, "pics/a.jpg", "\xff\xd8\xff nothing more");
    put_text(state, "l.csv", "file,index\na.jpg,1\n");
    struct mqb_dataset *dataset = open_word("images:test=%s,test-labels=%s", in(state, "pics"), in(state, "l.csv"));
    uint8_t image[32 * 32 * 3];
    struct mqb_error error = MQB_ERROR_INIT;
    assert_int_equal(dataset->image(dataset, MQB_SPLIT_TEST, 0, 32, false, 0, image, &error), MQB_ERR_FORMAT);
    expect_words(error.text, "pics/a.jpg|cannot be decoded as JPEG");
    mqb_dataset_close(dataset);
}

/* val16_224_u8.bin: pictures of another decoder, cropped to [1:225, 1:225]. */
static void test_images_real_pictures_equal_reference(void **state)
{
    (void)state;
    if (!have_shared("imagenet/val16_224_u8.bin"))
        skip();
    struct mqb_dataset *dataset = open_word("images:%s/data/imagenet", MQB_SHARED);
    assert_int_equal(dataset->num[1], 300);
    size_t image_size = 224 * 224 * 3, size = 0;
    uint8_t *reference = NULL, *image = malloc(image_size);
    assert_int_equal(mqb_file_read(MQB_SHARED "/data/imagenet/val16_224_u8.bin", 16 << 20, (void **)&reference, &size, NULL),
                     MQB_OK);
    assert_int_equal(size, 16 * (2 + image_size));
    int largest = 0;
    for (size_t i = 0; i < 16; i++) {
        const uint8_t *record = reference + i * (2 + image_size);
        assert_int_equal(dataset->labels[1][i], record[0] | record[1] << 8);
        assert_int_equal(dataset->image(dataset, MQB_SPLIT_TEST, i, 224, false, 0, image, NULL), MQB_OK);
        for (size_t p = 0; p < image_size; p++)
            largest = abs(image[p] - record[2 + p]) > largest ? abs(image[p] - record[2 + p]) : largest;
    }
    print_message("largest difference %d\n", largest);
    assert_in_range(largest, 0, 2);
    mqb_deallocate(reference);
    free(image);
    mqb_dataset_close(dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_png_kinds_give_rgb, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_jpeg_rgb_and_grey_give_rgb, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_damaged_pictures_are_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_pictures_of_random_bytes_never_crash, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_images_class_folders_take_turns, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_images_csv_gives_labels, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_images_bad_csv_is_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_images_bad_layouts_are_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_images_damaged_picture_is_named_when_read, make_folder, remove_folder),
        cmocka_unit_test(test_images_real_pictures_equal_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
