/*
 * test_data_resize.c - scaling equals Pillow's Image.resize(size, BILINEAR), byte for byte. The expected values were made
 * with Pillow 9.4.0 from the pattern below.
 */
#include "data_test.h"

static uint8_t *pattern(int32_t width, int32_t height, int32_t channels)
{
    uint8_t *data = malloc((size_t)width * (size_t)height * (size_t)channels), *next = data;
    assert_non_null(data);
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < width; x++)
            for (int32_t c = 0; c < channels; c++)
                *next++ = (uint8_t)(x * x * 3 + y * 7 * x + c * 50 + (x ^ y) * 5 + y * y);
    return data;
}

static uint8_t *scaled(int32_t width, int32_t height, int32_t channels, int32_t to_width, int32_t to_height)
{
    uint8_t *data = pattern(width, height, channels), *out = malloc((size_t)to_width * (size_t)to_height * (size_t)channels);
    assert_non_null(out);
    struct mqb_resize resize = {
        .height = height,
        .width = width,
        .channels = channels,
        .stride = (size_t)(width * channels),
        .to_height = to_height,
        .to_width = to_width,
        .rows = to_height,
        .cols = to_width,
    };
    assert_int_equal(mqb_resize(&resize, data, out, NULL), MQB_OK);
    free(data);
    return out;
}

static void test_resize_small_equals_pillow(void **state)
{
    (void)state;
    static const uint8_t down[] = {15, 59, 137, 152, 45, 111, 149, 110, 87, 155, 111, 140};
    static const uint8_t up[] = {0,  4,  9,  18, 28, 41, 57,  68,  3,  6,  11, 25, 38, 50, 70,  85,
                                 7,  11, 17, 34, 48, 61, 88,  108, 13, 21, 33, 40, 54, 73, 107, 132,
                                 19, 28, 41, 51, 67, 87, 127, 157, 24, 32, 45, 60, 78, 97, 142, 176};
    uint8_t *out = scaled(9, 7, 1, 4, 3);
    assert_memory_equal(out, down, sizeof down);
    free(out);
    out = scaled(5, 4, 1, 8, 6);
    assert_memory_equal(out, up, sizeof up);
    free(out);
}

static void test_resize_large_equals_pillow(void **state)
{
    (void)state;
    static const struct {
        int32_t width, height, channels, to_width, to_height;
        const char *sha256;
    } cases[] = {
        {300, 211, 3, 61, 48, "dfaacaba16b6743cfc3fcdba677b6757dd4cca03ee5497a8cdd68e440ac691c4"},
        {32, 32, 3, 224, 224, "60bddc671b98867f68e218d277605a252c248198cc76ffc3bfa4c54186526da2"},
        {227, 227, 3, 256, 256, "136dd2ce534880a8731efebda111af85356509b871f2bb4bc1d954bec4d02a55"},
        {28, 28, 1, 32, 32, "9b21b47d982ce91a7ff70b3805d14146f39e5280b7f26742bb39989a6504cb43"},
        {640, 480, 3, 32, 24, "44d0581928652e8adada8867dd761c6f1fef0276858220de10c68b9efbdc1cdd"},
        {500, 375, 3, 341, 256, "85aab111e1275975807ccce6ecdc3193629dd8a4a79b4ba86a4681551a48c503"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char hex[65];
        uint8_t *out = scaled(cases[i].width, cases[i].height, cases[i].channels, cases[i].to_width, cases[i].to_height);
        sha256_of(out, (size_t)(cases[i].to_width * cases[i].to_height * cases[i].channels), hex);
        assert_string_equal(hex, cases[i].sha256);
        free(out);
    }
}

/* Resize(256), CenterCrop(224) of a 500x375 picture, as Pillow's crop((58, 16, 282, 240)). */
static void test_fit_landscape_equals_pillow(void **state)
{
    (void)state;
    char hex[65];
    struct mqb_picture picture = {.width = 500, .height = 375, .rgb = pattern(500, 375, 3)};
    uint8_t *out = malloc(224 * 224 * 3);
    assert_int_equal(mqb_picture_fit(&picture, 224, false, 0, out, NULL), MQB_OK);
    sha256_of(out, 224 * 224 * 3, hex);
    assert_string_equal(hex, "bee80c07c7ab67834d62e83e3e599d0732ca66e074711779813280ca866879a6");
    free(out);
    free(picture.rgb);
}

static void test_fit_nearly_right_size_is_only_cropped(void **state)
{
    (void)state;
    struct mqb_picture picture = {.width = 40, .height = 35, .rgb = pattern(40, 35, 3)};
    uint8_t out[32 * 32 * 3];
    assert_int_equal(mqb_picture_fit(&picture, 32, false, 0, out, NULL), MQB_OK); /* 32 <= 35 <= 36 */
    for (int y = 0; y < 32; y++)
        assert_memory_equal(out + 96 * y, picture.rgb + ((y + 1) * 40 + 4) * 3, 96);
    free(picture.rgb);
}

static void test_fit_smaller_picture_is_enlarged(void **state)
{
    (void)state;
    uint8_t rgb[2 * 3 * 3], out[32 * 32 * 3];
    memset(rgb, 77, sizeof rgb);
    struct mqb_picture picture = {.width = 2, .height = 3, .rgb = rgb};
    assert_int_equal(mqb_picture_fit(&picture, 32, false, 0, out, NULL), MQB_OK);
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(out[i], 77);
}

/* On a picture whose red is x and whose green is y, the crop can be read off the corners. */
static void test_fit_random_crop_has_the_promised_areas_and_ratios(void **state)
{
    (void)state;
    uint8_t *rgb = malloc(250 * 200 * 3), out[64 * 64 * 3], again[64 * 64 * 3];
    for (int y = 0; y < 200; y++)
        for (int x = 0; x < 250; x++)
            memcpy(rgb + (y * 250 + x) * 3, ((uint8_t[]){(uint8_t)x, (uint8_t)y, 9}), 3);
    struct mqb_picture picture = {.width = 250, .height = 200, .rgb = rgb};
    double sum = 0, smallest = 1, largest = 0;
    int num_different = 0;
    for (uint64_t key = 0; key < 400; key++) {
        assert_int_equal(mqb_picture_fit(&picture, 64, true, key, out, NULL), MQB_OK);
        assert_int_equal(mqb_picture_fit(&picture, 64, true, key, again, NULL), MQB_OK);
        assert_memory_equal(out, again, sizeof out);
        /* From the centre of the first output pixel to that of the last: 63/64 of the crop. */
        double width = (out[63 * 3] - out[0]) * 64 / 63.0, height = (out[(63 * 64) * 3 + 1] - out[1]) * 64 / 63.0;
        double area = width * height / (250 * 200), ratio = width / height;
        assert_true(area > 0.075 && area < 1.01);
        assert_true(ratio > 0.72 && ratio < 1.38);
        sum += area;
        smallest = area < smallest ? area : smallest;
        largest = area > largest ? area : largest;
        num_different += key > 0 && out[0] != 0;
    }
    assert_true(sum / 400 > 0.42 && sum / 400 < 0.58); /* uniform in 0.08..1, less the large ones that do not fit */
    assert_true(smallest < 0.1 && largest > 0.85);
    assert_true(num_different > 200);
    /* No crop of an allowed ratio fits into such a strip ten times: its middle is taken. */
    picture.height = 1;
    assert_int_equal(mqb_picture_fit(&picture, 64, true, 1, out, NULL), MQB_OK);
    free(rgb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resize_small_equals_pillow),
        cmocka_unit_test(test_resize_large_equals_pillow),
        cmocka_unit_test(test_fit_landscape_equals_pillow),
        cmocka_unit_test(test_fit_nearly_right_size_is_only_cropped),
        cmocka_unit_test(test_fit_smaller_picture_is_enlarged),
        cmocka_unit_test(test_fit_random_crop_has_the_promised_areas_and_ratios),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
