/* test_manifest.c - what a manifest may say, and the sentence for each way of getting it wrong. */
#include "plugin/fixture.h"
#include "plugin/manifest.h"

static struct mqb_manifest *read_good(struct fixture *fixture, const char *text)
{
    struct mqb_manifest *manifest = NULL;
    const char *path = fixture_write(fixture, "m.ini", text);
    if (mqb_manifest_read(path, &manifest, &fixture->error)) {
        fail_msg("%s", fixture->error.text);
    }
    return manifest;
}

static void test_manifest_full_section_keeps_keys_and_lines(void **state)
{
    struct fixture *fixture = *state;
    struct mqb_manifest *manifest = read_good(fixture, "; a comment\n"
                                                       "\n"
                                                       "[quantizer lsq]   ; the first\n"
                                                       "library = /opt/x.so ; absolute\n"
                                                       "doc = One line, with = and : in it\n"
                                                       "abi = 0.1\n"
                                                       "  gradient_scale = on\n"
                                                       "    margin: 1.5\n"
                                                       "# another comment\n"
                                                       "[ backend\tsnpe_sim ]\r\n"
                                                       "library = lib/snpe.so\r\n"
                                                       "[pass empty.so-far]");
    assert_int_equal(manifest->num_sections, 3);
    const struct mqb_manifest_section *section = manifest->sections;
    assert_int_equal(section->kind, MQB_KIND_QUANTIZER);
    assert_string_equal(section->id, "lsq");
    assert_contains(section->where, "/m.ini:3");
    assert_int_equal(section->num_keys, 5);
    assert_string_equal(section->keys[0].value, "/opt/x.so");
    assert_string_equal(section->keys[1].value, "One line, with = and : in it");
    assert_string_equal(section->keys[3].name, "gradient_scale");
    assert_string_equal(section->keys[3].value, "on");
    assert_contains(section->keys[3].where, "/m.ini:7");
    assert_string_equal(section->keys[4].name, "margin");
    assert_string_equal(section->keys[4].value, "1.5");
    assert_int_equal(section[1].kind, MQB_KIND_BACKEND);
    assert_string_equal(section[1].id, "snpe_sim");
    assert_contains(section[1].where, "/m.ini:10");
    assert_string_equal(section[1].keys[0].value, fixture_path(fixture, "lib/snpe.so"));
    assert_string_equal(section[2].id, "empty.so-far");
    assert_int_equal(section[2].num_keys, 0);
    mqb_manifest_destroy(manifest);
}

static void test_manifest_byte_order_mark_is_skipped(void **state)
{
    struct mqb_manifest *manifest = read_good(*state, "\xef\xbb\xbf[pass a]\nlibrary = a.so\n");
    assert_int_equal(manifest->num_sections, 1);
    mqb_manifest_destroy(manifest);
}

static void test_manifest_long_comment_is_skipped(void **state)
{
    char text[1000];
    memset(text, 'x', sizeof(text));
    text[0] = ';';
    snprintf(text + 900, sizeof(text) - 900, "\n[pass a]\nlibrary = a.so\n");
    struct mqb_manifest *manifest = read_good(*state, text);
    assert_int_equal(manifest->num_sections, 1);
    assert_contains(manifest->sections[0].where, ":2");
    assert_int_equal(manifest->sections[0].num_keys, 1);
    mqb_manifest_destroy(manifest);
}

static void test_manifest_empty_file_has_no_sections(void **state)
{
    struct mqb_manifest *manifest = read_good(*state, "");
    assert_int_equal(manifest->num_sections, 0);
    mqb_manifest_destroy(manifest);
}

static void test_manifest_relative_library_is_relative_to_its_folder(void **state)
{
    static const struct {
        const char *value, *expected;
    } cases[] = {
        {"a.so", "share/mqbench/a.so"}, {"./a.so", "share/mqbench/a.so"}, {"sub/a.so", "share/mqbench/sub/a.so"},
        {"../a.so", "share/a.so"},      {"../../lib/a.so", "lib/a.so"},   {".././/../lib/../a.so", "lib/../a.so"},
    };
    struct fixture *fixture = *state;
    fixture_folder(fixture, "share");
    fixture_folder(fixture, "share/mqbench");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[128];
        struct mqb_manifest *manifest = NULL;
        snprintf(text, sizeof(text), "[pass a]\nlibrary = %s\n", cases[i].value);
        const char *path = fixture_write(fixture, "share/mqbench/m.ini", text);
        assert_int_equal(mqb_manifest_read(path, &manifest, &fixture->error), MQB_OK);
        assert_string_equal(manifest->sections[0].keys[0].value, fixture_path(fixture, cases[i].expected));
        mqb_manifest_destroy(manifest);
    }
}

static void test_manifest_too_many_parents_end_at_the_root(void **state)
{
    struct mqb_manifest *manifest = read_good(*state, "[pass a]\nlibrary = ../../../../../../../../opt/a.so\n");
    assert_string_equal(manifest->sections[0].keys[0].value, "/opt/a.so");
    mqb_manifest_destroy(manifest);
}

/* The build tree's manifest is a link into the source tree; its libraries are in the build tree. */
static void test_manifest_symlinked_file_is_resolved_at_the_link(void **state)
{
    struct fixture *fixture = *state;
    struct mqb_manifest *manifest = NULL;
    fixture_folder(fixture, "source");
    fixture_folder(fixture, "build");
    const char *target = fixture_write(fixture, "source/m.ini", "[pass a]\nlibrary = ../lib/a.so\n[pass b]\nlibrary = b.so\n");
    const char *link = fixture_path(fixture, "build/m.ini");
    assert_int_equal(symlink(target, link), 0);
    assert_int_equal(mqb_manifest_read(link, &manifest, &fixture->error), MQB_OK);
    assert_string_equal(manifest->sections[0].keys[0].value, fixture_path(fixture, "lib/a.so"));
    assert_string_equal(manifest->sections[1].keys[0].value, fixture_path(fixture, "build/b.so"));
    mqb_manifest_destroy(manifest);
}

static void test_manifest_relative_path_gives_absolute_libraries(void **state)
{
    struct fixture *fixture = *state;
    struct mqb_manifest *manifest = NULL;
    char before[PATH_MAX];
    assert_non_null(getcwd(before, sizeof(before)));
    fixture_write(fixture, "m.ini", "[pass a]\nlibrary = a.so\n");
    assert_int_equal(chdir(fixture->dir), 0);
    mqb_status status = mqb_manifest_read("m.ini", &manifest, &fixture->error);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(status, MQB_OK);
    assert_string_equal(manifest->sections[0].keys[0].value, fixture_path(fixture, "a.so"));
    assert_string_equal(manifest->sections[0].where, "m.ini:1");
    mqb_manifest_destroy(manifest);
}

static void test_manifest_wrong_text_is_refused_with_file_and_line(void **state)
{
    static const struct {
        const char *text, *where, *says;
    } cases[] = {
        {"[quantiser lsq]\nlibrary = a.so\n", ":1: ", "there is no kind \"quantiser\""},
        {"[quantiser lsq]\nlibrary = a.so\n", ":1: ", "did you mean \"quantizer\"?"},
        {"\n\n[quantizer]\nlibrary = a.so\n", ":3: ", "is not a kind and an id"},
        {"[]\n", ":1: ", "is not a kind and an id"},
        {"[quantizer lsq plus]\n", ":1: ", "is not a kind and an id"},
        {"[quantizer ls/q]\n", ":1: ", "id \"ls/q\" has a character"},
        {"[quantizer lsq\nlibrary = a.so\n", ":1: ", "has no \"]\""},
        {"[quantizer lsq] library = a.so\n", ":1: ", "\"library = a.so\" follows the section's name"},
        {"library = a.so\n[quantizer lsq]\n", ":1: ", "key \"library\" stands before the first section"},
        {"[pass a]\nlibrary = a.so\n\nlibrary = b.so\n", ":4: ", "key \"library\" was given at "},
        {"[pass a]\nlibrary = a.so\n; x\n[pass a]\ndoc = y\n", ":4: ", "section [pass a] was begun at "},
        {"[pass a]\nlibrary = a.so\njust words\n", ":3: ", "\"just words\" is neither \"key = value\" nor a [section]"},
        {"[pass a]\nlibrary =\n", ":2: ", "\"library\" has no value"},
        {"[pass a]\nlibrary = ; a.so\n", ":2: ", "\"library\" has no value"},
        {"[pass a]\nabi = 1\n", ":2: ", "abi = \"1\" is not a version; write major.minor, as in 0.1"},
        {"[pass a]\nabi = 0.1.2\n", ":2: ", "is not a version"},
        {"[pass a]\nabi = -1.0\n", ":2: ", "is not a version"},
        {"[pass a]\nabi = 0.65536\n", ":2: ", "is not a version"},
        {"[pass a]\nallow_writable = perhaps\n", ":2: ", "allow_writable = \"perhaps\" is neither yes nor no"},
        {"[pass a]\nsha256 = 1234\n", ":2: ", "is not a SHA-256; give 64 hexadecimal digits"},
        {"[pass a]\ntwo words = 1\n", ":2: ", "\"two words\" is not a key's name"},
        {"[pass a]\n= 1\n", ":2: ", "\"\" is not a key's name"},
        {"[pass a]\nx\x1b[31m\n", ":2: ", "\"x?[31m\" is neither"},
    };
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mqb_manifest *manifest = NULL;
        char where[160];
        const char *path = fixture_write(fixture, "m.ini", cases[i].text);
        snprintf(where, sizeof(where), "%s%s", path, cases[i].where);
        assert_int_equal(mqb_manifest_read(path, &manifest, &fixture->error), MQB_ERR_FORMAT);
        assert_null(manifest);
        assert_memory_equal(fixture->error.text, where, strlen(where));
        assert_contains(fixture->error.text, cases[i].says);
    }
}

static void test_manifest_long_line_is_refused_with_its_limit(void **state)
{
    struct fixture *fixture = *state;
    struct mqb_manifest *manifest = NULL;
    char text[1200] = "[pass a]\nlibrary = ";
    size_t used = strlen(text);
    memset(text + used, 'x', 300);
    snprintf(text + used + 300, sizeof(text) - used - 300, "\ndoc = y\n");
    assert_int_equal(mqb_manifest_read(fixture_write(fixture, "m.ini", text), &manifest, &fixture->error), MQB_ERR_FORMAT);
    assert_contains(fixture->error.text, "/m.ini:2: the line has 310 characters, and at most 198 are read");
}

static void test_manifest_longest_line_is_read_whole(void **state)
{
    char text[400] = "[pass a]\nlibrary = /";
    size_t used = strlen(text);
    memset(text + used, 'x', 198 - strlen("library = /"));
    strcat(text, "\ndoc = y\n");
    struct mqb_manifest *manifest = read_good(*state, text);
    assert_int_equal(manifest->sections[0].num_keys, 2);
    assert_int_equal(strlen(manifest->sections[0].keys[0].value), 198 - strlen("library = "));
    mqb_manifest_destroy(manifest);
}

static void test_manifest_binary_file_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct mqb_manifest *manifest = NULL;
    const char *path = fixture_path(fixture, "m.ini");
    assert_int_equal(mqb_file_write(path, "[pass a]\n\0\1\2\n", 13, &fixture->error), MQB_OK);
    assert_int_equal(mqb_manifest_read(path, &manifest, &fixture->error), MQB_ERR_FORMAT);
    assert_contains(fixture->error.text, "m.ini: has a zero byte, so it is no INI file");
}

static void test_manifest_missing_file_or_folder_is_an_error(void **state)
{
    struct fixture *fixture = *state;
    struct mqb_manifest *manifest = NULL;
    assert_int_equal(mqb_manifest_read(fixture_path(fixture, "none.ini"), &manifest, &fixture->error), MQB_ERR_NOT_FOUND);
    assert_contains(fixture->error.text, "none.ini");
    assert_int_not_equal(mqb_manifest_read(fixture->dir, &manifest, &fixture->error), MQB_OK);
    assert_contains(fixture->error.text, fixture->dir);
}

/* The manifest that ships must name what ships, and nothing in it may be misspelt. */
static void test_manifest_default_lists_what_ships(void **state)
{
    static const struct {
        enum mqb_kind kind;
        const char *id, *library;
    } expected[] = {
        {MQB_KIND_QUANTIZER, "lsq", "lsq.so"},         {MQB_KIND_BACKEND, "snpe_sim", "snpe_sim.so"},
        {MQB_KIND_PASS, "bn_fold", "pass_bn_fold.so"}, {MQB_KIND_PASS, "place_graph3", "pass_place_graph3.so"},
        {MQB_KIND_COMPUTE, "native", "native.so"},     {MQB_KIND_COMPUTE, "openblas", "openblas.so"},
        {MQB_KIND_COMPUTE, "onednn", "onednn.so"},
    };
    struct fixture *fixture = *state;
    struct mqb_manifest *manifest = NULL;
    if (mqb_manifest_read(MQB_BINARY_DIR "/share/mqbench/mqbench.ini", &manifest, &fixture->error)) {
        fail_msg("%s", fixture->error.text);
    }
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        bool found = false;
        for (size_t s = 0; s < manifest->num_sections; s++) {
            const struct mqb_manifest_section *section = &manifest->sections[s];
            if (section->kind != expected[i].kind || strcmp(section->id, expected[i].id) != 0) {
                continue;
            }
            char library[PATH_MAX];
            found = true;
            snprintf(library, sizeof(library), "%s/%s", MQB_PLUGIN_DIR, expected[i].library);
            assert_string_equal(section->keys[0].name, "library");
            assert_string_equal(section->keys[0].value, library);
            for (size_t k = 0; k < section->num_keys; k++) {
                assert_true(mqb_manifest_is_reserved(section->keys[k].name));
            }
        }
        if (!found) {
            fail_msg("the default manifest has no section for \"%s\"", expected[i].id);
        }
    }
    mqb_manifest_destroy(manifest);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_manifest_full_section_keeps_keys_and_lines),
        TEST(test_manifest_byte_order_mark_is_skipped),
        TEST(test_manifest_long_comment_is_skipped),
        TEST(test_manifest_empty_file_has_no_sections),
        TEST(test_manifest_relative_library_is_relative_to_its_folder),
        TEST(test_manifest_too_many_parents_end_at_the_root),
        TEST(test_manifest_symlinked_file_is_resolved_at_the_link),
        TEST(test_manifest_relative_path_gives_absolute_libraries),
        TEST(test_manifest_wrong_text_is_refused_with_file_and_line),
        TEST(test_manifest_long_line_is_refused_with_its_limit),
        TEST(test_manifest_longest_line_is_read_whole),
        TEST(test_manifest_binary_file_is_refused),
        TEST(test_manifest_missing_file_or_folder_is_an_error),
        TEST(test_manifest_default_lists_what_ships),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
