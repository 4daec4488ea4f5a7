/* test_sha256.c - SHA-256 against the examples of FIPS 180-4 (NIST, "SHA-256 examples"). */
#include "base/base.h"

#include <setjmp.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const struct {
    const char *text, *hex;
} vectors[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
     "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
};
#define MILLION_A "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"

static void test_sha256_fips_examples_exact(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        struct mqb_sha256 hash;
        char hex[65];
        mqb_sha256_init(&hash);
        mqb_sha256_update(&hash, vectors[i].text, strlen(vectors[i].text));
        mqb_sha256_hex(&hash, hex);
        assert_string_equal(hex, vectors[i].hex);
        mqb_sha256_init(&hash);
        hash.hardware = false;
        mqb_sha256_update(&hash, vectors[i].text, strlen(vectors[i].text));
        mqb_sha256_hex(&hash, hex);
        assert_string_equal(hex, vectors[i].hex);
    }
}

static void test_sha256_without_hardware_million_exact(void **state)
{
    (void)state;
    static char text[1000000];
    char hex[65];
    struct mqb_sha256 hash;
    memset(text, 'a', sizeof text);
    for (int hardware = 0; hardware < 2; hardware++) {
        mqb_sha256_init(&hash);
        hash.hardware = hash.hardware && hardware;
        mqb_sha256_update(&hash, text, sizeof text);
        mqb_sha256_hex(&hash, hex);
        assert_string_equal(hex, MILLION_A);
    }
}

/* Pieces of all sizes around the block size must not matter. */
static void test_sha256_million_in_pieces_exact(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 63, 64, 65, 1000, 127};
    char block[1000], hex[65];
    memset(block, 'a', sizeof block);
    struct mqb_sha256 hash;
    mqb_sha256_init(&hash);
    size_t left = 1000000;
    for (size_t i = 0; left > 0; i++) {
        size_t size = pieces[i % 6] < left ? pieces[i % 6] : left;
        mqb_sha256_update(&hash, block, size);
        left -= size;
    }
    mqb_sha256_hex(&hash, hex);
    assert_string_equal(hex, MILLION_A);
}

static void test_sha256_file_exact_and_missing_named(void **state)
{
    (void)state;
    struct mqb_error error = MQB_ERROR_INIT;
    char hex[65], path[64];
    snprintf(path, sizeof path, "test_sha256.%d.tmp", (int)getpid());
    assert_int_equal(mqb_file_write(path, "abc", 3, &error), MQB_OK);
    assert_int_equal(mqb_sha256_file(path, hex, &error), MQB_OK);
    assert_string_equal(hex, vectors[1].hex);
    unlink(path);
    assert_int_not_equal(mqb_sha256_file(path, hex, &error), MQB_OK);
    assert_non_null(strstr(error.text, path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_fips_examples_exact),
        cmocka_unit_test(test_sha256_without_hardware_million_exact),
        cmocka_unit_test(test_sha256_million_in_pieces_exact),
        cmocka_unit_test(test_sha256_file_exact_and_missing_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
