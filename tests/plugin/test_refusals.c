/*
 * test_refusals.c - every rule MQB-Pnn against a plugin that breaks it (tests/plugin/broken/).
 *
 * Each refusal must carry its own rule's number, name the file and the section, and leave the process as it was.
 */
#include "plugin/fixture.h"
#include "plugin/elf.h"
#include "plugin/float_mode.h"

#include <elf.h>
#include <float.h>
#include <link.h>

#define TRACE "MQB_TEST_CONSTRUCTOR_RAN"

/* Asks a manifest with one section, [quantizer sample], for its component. */
static mqb_status find_sample(struct fixture *fixture, const char *library, const char *keys, const struct mqb_entry **entry)
{
    char text[512];
    snprintf(text, sizeof(text), "; made by a test\n[quantizer sample]\nlibrary = %s\n%s\n", library, keys);
    fixture_restart(fixture);
    fixture->error.text[0] = '\0';
    if (mqb_registry_add_manifest(fixture->registry, fixture_write(fixture, "m.ini", text), &fixture->error)) {
        fail_msg("%s", fixture->error.text);
    }
    return mqb_registry_find(fixture->registry, MQB_KIND_QUANTIZER, "sample", entry, &fixture->error);
}

static void assert_refused(struct fixture *fixture, const char *library, const char *keys, int rule, const char *says)
{
    const struct mqb_entry *entry = NULL;
    char number[16];
    const struct mqb_float_mode before = mqb_float_mode_get();
    mqb_status status = find_sample(fixture, library, keys, &entry);
    if (status != MQB_ERR_ABI) {
        fail_msg("%s: status %d, \"%s\"", library, status, fixture->error.text);
    }
    assert_true(mqb_float_mode_equal(before, mqb_float_mode_get()));
    assert_null(entry);
    const char *sentence = fixture->error.text;
    snprintf(number, sizeof(number), "[MQB-P%02d]", rule);
    size_t length = strlen(sentence), number_length = strlen(number);
    if (length < number_length || strcmp(sentence + length - number_length, number) != 0) {
        fail_msg("\"%s\" does not end in %s", sentence, number);
    }
    assert_contains(sentence, library);
    assert_contains(sentence, "for [quantizer sample] of ");
    assert_contains(sentence, "m.ini:2");
    assert_contains(sentence, "; wanted ");
    assert_contains(sentence, says);
    /* The refusal is kept for `list`, and asking again gives the same sentence. */
    const struct mqb_entry *kept = mqb_registry_at(fixture->registry, MQB_KIND_QUANTIZER, 0, true);
    assert_null(kept->vtable);
    assert_string_equal(kept->refusal, sentence);
    assert_int_equal(mqb_registry_find(fixture->registry, MQB_KIND_QUANTIZER, "sample", &entry, NULL), MQB_ERR_ABI);
}

static void assert_broken_refused(struct fixture *fixture, const char *name, int rule, const char *says)
{
    char source[PATH_MAX];
    snprintf(source, sizeof(source), "%s/%s", MQB_BROKEN_DIR, name);
    fixture_copy(fixture, source, name, SIZE_MAX);
    assert_refused(fixture, name, "", rule, says);
}

static void copy_good(struct fixture *fixture)
{
    fixture_copy(fixture, MQB_BROKEN_DIR "/good.so", "good.so", SIZE_MAX);
}

static void test_refusals_good_plugin_is_not_refused(void **state)
{
    struct fixture *fixture = *state;
    const struct mqb_entry *entry = NULL;
    struct mqb_error error = MQB_ERROR_INIT;
    char sha256[65];
    copy_good(fixture);
    assert_int_equal(find_sample(fixture, "good.so", "plugin = sample-plugin\nabi = 0.1", &entry), MQB_OK);
    const struct mqb_quantizer *quantizer = entry->vtable;
    assert_string_equal(quantizer->description, "sample");
    assert_null(entry->refusal);
    assert_string_equal(entry->plugin_version, "1.0.0");
    assert_int_equal(mqb_sha256_file(fixture_path(fixture, "good.so"), sha256, &error), MQB_OK);
    assert_string_equal(entry->sha256, sha256);
}

static const struct {
    const char *name;
    int rule;
    const char *says;
} broken[] = {
    {"unresolved.so", 1, "a_function_that_is_nowhere"},
    {"no_symbol.so", 2, "exports no plugin entry; wanted the symbol \"mqb_plugin_entry_v1\""},
    {"magic.so", 3, "the entry's magic is 0x464c457f; wanted 0x5042514d"},
    {"short_entry.so", 4, "the entry's struct_size is 32 bytes; wanted at least 48"},
    {"null_id.so", 4, "the entry's id is NULL"},
    {"null_version.so", 4, "the entry's version is NULL"},
    {"no_components.so", 4, "the entry lists 0 components"},
    {"stride.so", 4, "components of 31 bytes"},
    {"other_major.so", 5, "it was built for ABI 1.1; wanted ABI major 0, this host's"},
    {"newer_minor.so", 6, "it was built for ABI 0.2; wanted at most ABI 0.1"},
    {"newer_host.so", 6, "it needs a host of ABI 0.2 or newer"},
    {"flush_to_zero.so", 8, "flush-to-zero and denormals-are-zero were turned on"},
    {"flush_to_zero.so", 8, "plugin \"sample-plugin\" version 1.0.0, for [quantizer sample]"},
    {"rounding.so", 8, "the rounding or trap mode was changed"},
    {"interface.so", 9, "component 0 (\"sample\") has the interface \"mqb.quantizer/99\"; wanted one of mqb.quantizer/1"},
    {"no_component_id.so", 10, "plugin \"sample-plugin\" version 1.0.0, for [quantizer sample]"},
    {"no_component_id.so", 10, "component 0, a quantizer, has no id"},
    {"small_component.so", 10, "component 0 has a struct_size of 16 bytes"},
    {"null_vtable.so", 10, "the vtable of quantizer \"sample\" is NULL"},
    {"small_vtable.so", 10, "its vtable's struct_size is "},
    {"null_entry.so", 10, "its mandatory entry \"backward\" is NULL"},
    {"null_options.so", 10, "num_options is 2, but options is NULL"},
    {"no_reduce.so", 10, "sums_per_channel is 1, but reduce is NULL"},
    {"many_sums.so", 10, "sums_per_channel is 33, more than 32"},
    {"half_integer.so", 10, "compute \"sample\" cannot be used: 1 of the 4 integer convolution entries"},
    {"twins.so", 11, "components 1 and 3 are both pass \"sample\""},
};

static void test_refusals_each_broken_plugin_breaks_its_own_rule(void **state)
{
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
#if !defined(__x86_64__)
        if (broken[i].rule == 8) {
            continue; /* the words, and what can be changed, are the architecture's */
        }
#endif
        assert_broken_refused(*state, broken[i].name, broken[i].rule, broken[i].says);
    }
}

/* Without section headers the entry cannot be found in the file: the same rules hold after opening. */
static void test_refusals_stripped_plugin_breaks_the_same_rule(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        if (broken[i].rule < 2 || broken[i].rule > 6) {
            continue;
        }
        char source[PATH_MAX];
        void *data = NULL;
        size_t size = 0;
        ElfW(Ehdr) header;
        snprintf(source, sizeof(source), "%s/%s", MQB_BROKEN_DIR, broken[i].name);
        assert_int_equal(mqb_file_read(source, SIZE_MAX / 2, &data, &size, &fixture->error), MQB_OK);
        memcpy(&header, data, sizeof(header));
        header.e_shoff = 0;
        header.e_shnum = 0;
        header.e_shstrndx = 0;
        memcpy(data, &header, sizeof(header));
        assert_int_equal(mqb_file_write(fixture_path(fixture, "stripped.so"), data, size, &fixture->error), MQB_OK);
        mqb_deallocate(data);
        assert_int_equal(chmod(fixture_path(fixture, "stripped.so"), 0755), 0);
        assert_refused(fixture, "stripped.so", "", broken[i].rule, broken[i].says);
    }
    unsetenv(TRACE);
}

static void test_refusals_no_code_of_another_abi_runs(void **state)
{
    const struct mqb_entry *entry = NULL;
    struct fixture *fixture = *state;
    unsetenv(TRACE);
    assert_broken_refused(fixture, "other_major.so", 5, "ABI 1.1");
    assert_null(getenv(TRACE));
    /* A plugin that is accepted does run its constructor: the check above can fail. */
    fixture_copy(fixture, MQB_BROKEN_DIR "/constructor.so", "constructor.so", SIZE_MAX);
    assert_int_equal(find_sample(fixture, "constructor.so", "", &entry), MQB_OK);
    assert_non_null(getenv(TRACE));
    unsetenv(TRACE);
}

static void test_refusals_denormals_survive_a_fast_math_plugin(void **state)
{
    volatile float small = FLT_MIN;
    assert_broken_refused(*state, "flush_to_zero.so", 8, "");
    assert_true(small / 2.0f > 0.0f);
}

static void test_refusals_file_that_is_no_library_is_p01(void **state)
{
    struct fixture *fixture = *state;
    assert_refused(fixture, "missing.so", "", 1, "the file cannot be found (No such file or directory)");
    fixture_folder(fixture, "folder.so");
    assert_refused(fixture, "folder.so", "", 1, "it is not a regular file");
    fixture_write(fixture, "text.so", "not an ELF file\n");
    assert_refused(fixture, "text.so", "", 1, "the file is not an ELF file");
    fixture_write(fixture, "empty.so", "");
    assert_refused(fixture, "empty.so", "", 1, "the file is empty");
    fixture_copy(fixture, "/proc/self/exe", "program.so", 100);
    assert_refused(fixture, "program.so", "", 1, "the file is cut off");
}

/* Cut anywhere, a library is refused; the dynamic linker itself would crash on some of these. */
static void test_refusals_truncated_library_is_p01(void **state)
{
    struct fixture *fixture = *state;
    struct stat info;
    assert_int_equal(stat(MQB_BROKEN_DIR "/good.so", &info), 0);
    size_t size = (size_t)info.st_size;
    const size_t cuts[] = {1, 4, 20, 63, 64, 100, 500, 4096, size / 4, size / 2, size * 3 / 4, size - 100, size - 1};
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        fixture_copy(fixture, MQB_BROKEN_DIR "/good.so", "cut.so", cuts[i]);
        assert_refused(fixture, "cut.so", "", 1, "; wanted a complete shared object for this machine");
    }
}

/* Every byte of the headers set to something else: refused or accepted, but alive. */
static void test_refusals_damaged_headers_do_not_crash_the_check(void **state)
{
    struct fixture *fixture = *state;
    void *data = NULL;
    size_t size = 0;
    unsigned char prefix[16];
    assert_int_equal(mqb_file_read(MQB_BROKEN_DIR "/good.so", SIZE_MAX / 2, &data, &size, &fixture->error), MQB_OK);
    unsigned char *bytes = data;
    ElfW(Ehdr) header;
    memcpy(&header, data, sizeof(header));
    size_t section_headers = (size_t)header.e_shoff;
    for (size_t i = 0; i < 2048; i++) {
        size_t at = i < 1024 ? i : section_headers + i - 1024;
        if (at >= size) {
            break;
        }
        const unsigned char original = bytes[at];
        for (int value = 0; value < 256; value += 51) {
            char found[256];
            bytes[at] = (unsigned char)value;
            if (mqb_elf_check(data, size, found, sizeof(found))) {
                mqb_elf_read_symbol(data, size, MQB_PLUGIN_SYMBOL, prefix, sizeof(prefix));
            }
        }
        bytes[at] = original;
    }
    mqb_deallocate(data);
}

static void test_refusals_other_plugin_id_is_p07(void **state)
{
    copy_good(*state);
    assert_refused(*state, "good.so", "plugin = another", 7, "the plugin calls itself \"sample-plugin\"; wanted \"another\"");
}

static void test_refusals_other_contents_are_p12(void **state)
{
    struct fixture *fixture = *state;
    const struct mqb_entry *entry = NULL;
    char sha256[65], keys[80];
    copy_good(fixture);
    assert_int_equal(mqb_sha256_file(fixture_path(fixture, "good.so"), sha256, &fixture->error), MQB_OK);
    snprintf(keys, sizeof(keys), "sha256 = %s", sha256);
    assert_int_equal(find_sample(fixture, "good.so", keys, &entry), MQB_OK);
    keys[9] = keys[9] == '0' ? '1' : '0';
    assert_refused(fixture, "good.so", keys, 12, sha256);
    for (char *digit = keys + 9; *digit; digit++) {
        *digit = *digit >= 'a' ? (char)(*digit - 32) : *digit;
    }
    keys[9] = sha256[0] >= 'a' ? (char)(sha256[0] - 32) : sha256[0];
    assert_int_equal(find_sample(fixture, "good.so", keys, &entry), MQB_OK);
}

static void test_refusals_file_that_others_may_write_is_p13(void **state)
{
    struct fixture *fixture = *state;
    const struct mqb_entry *entry = NULL;
    copy_good(fixture);
    assert_int_equal(chmod(fixture_path(fixture, "good.so"), 0757), 0);
    assert_refused(fixture, "good.so", "", 13, "everybody may write to the file (mode 0757)");
    assert_int_equal(chmod(fixture_path(fixture, "good.so"), 0775), 0);
    assert_refused(fixture, "good.so", "allow_writable = no", 13, "its group may write to the file (mode 0775)");
    assert_int_equal(find_sample(fixture, "good.so", "allow_writable = yes", &entry), MQB_OK);
    assert_int_equal(chmod(fixture_path(fixture, "good.so"), 0755), 0);
    assert_int_equal(find_sample(fixture, "good.so", "", &entry), MQB_OK);
}

static void test_refusals_absent_cpu_feature_is_p14(void **state)
{
    struct fixture *fixture = *state;
    const struct mqb_entry *entry = NULL;
    copy_good(fixture);
    assert_refused(fixture, "good.so", "cpu = quantum9000", 14,
                   "asks for CPU feature \"quantum9000\", which this host does not know");
#if defined(__x86_64__)
    assert_refused(fixture, "good.so", "cpu = avx521f", 14, "wanted a name such as \"avx512f\"");
    assert_int_equal(find_sample(fixture, "good.so", "cpu = sse2, sse", &entry), MQB_OK);
    static const char *const rare[] = {"avx512f", "avx512_vnni", "avx512bf16", "avx2", "sse4_2"};
    const bool has[] = {__builtin_cpu_supports("avx512f") != 0, __builtin_cpu_supports("avx512vnni") != 0,
                        __builtin_cpu_supports("avx512bf16") != 0, __builtin_cpu_supports("avx2") != 0,
                        __builtin_cpu_supports("sse4.2") != 0};
    for (size_t i = 0; i < sizeof(has) / sizeof(has[0]); i++) {
        char keys[32], says[64];
        snprintf(keys, sizeof(keys), "cpu = sse2 %s", rare[i]);
        snprintf(says, sizeof(says), "this machine's CPU lacks \"%s\"", rare[i]);
        if (has[i]) {
            assert_int_equal(find_sample(fixture, "good.so", keys, &entry), MQB_OK);
        } else {
            assert_refused(fixture, "good.so", keys, 14, says);
        }
    }
#else
    (void)entry;
#endif
}

static void test_refusals_abi_key_refuses_without_opening(void **state)
{
    /* The file does not even exist: nothing was looked at. */
    assert_refused(*state, "missing.so", "abi = 1.0", 5, "the section says that it needs ABI 1.0; wanted ABI major 0");
    assert_refused(*state, "missing.so", "abi = 0.2", 6, "the section says that it needs ABI 0.2; wanted at most ABI 0.1");
}

static void test_refusals_component_not_carried_is_p15(void **state)
{
    struct fixture *fixture = *state;
    const struct mqb_entry *entry = NULL;
    copy_good(fixture);
    const char *path =
        fixture_write(fixture, "m.ini", "[backend sample]\nlibrary = good.so\n[quantizer other]\nlibrary = good.so\n");
    assert_int_equal(mqb_registry_add_manifest(fixture->registry, path, &fixture->error), MQB_OK);
    assert_int_equal(mqb_registry_find(fixture->registry, MQB_KIND_BACKEND, "sample", &entry, &fixture->error), MQB_ERR_ABI);
    assert_contains(fixture->error.text,
                    "it carries quantizer \"sample\", pass \"sample\", compute \"sample\"; wanted backend \"sample\"");
    assert_contains(fixture->error.text, "[MQB-P15]");
    assert_int_equal(mqb_registry_find(fixture->registry, MQB_KIND_QUANTIZER, "other", &entry, &fixture->error), MQB_ERR_ABI);
    assert_contains(fixture->error.text, "wanted quantizer \"other\"");
}

static void test_refusals_long_path_keeps_the_rule_in_sight(void **state)
{
    struct fixture *fixture = *state;
    char path[1200];
    /* Deep folders cannot stand in one manifest line, but a manifest can lie in them. */
    snprintf(path, sizeof(path), "%s", fixture->dir);
    for (int i = 0; i < 10; i++) {
        size_t used = strlen(path);
        memset(path + used, 'd', 90);
        path[used] = '/';
        path[used + 90] = '\0';
        assert_int_equal(mkdir(path, 0777), 0);
    }
    strcat(path, "/m.ini");
    static const char text[] = "[quantizer sample]\nlibrary = missing.so\n";
    assert_int_equal(mqb_file_write(path, text, sizeof(text) - 1, &fixture->error), MQB_OK);
    const struct mqb_entry *entry = NULL;
    assert_int_equal(mqb_registry_add_manifest(fixture->registry, path, &fixture->error), MQB_OK);
    assert_int_equal(mqb_registry_find(fixture->registry, MQB_KIND_QUANTIZER, "sample", &entry, &fixture->error), MQB_ERR_ABI);
    assert_contains(fixture->error.text, "missing.so");
    assert_contains(fixture->error.text, "m.ini:1");
    assert_contains(fixture->error.text, "[MQB-P01]");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_refusals_good_plugin_is_not_refused),
        TEST(test_refusals_each_broken_plugin_breaks_its_own_rule),
        TEST(test_refusals_stripped_plugin_breaks_the_same_rule),
        TEST(test_refusals_no_code_of_another_abi_runs),
        TEST(test_refusals_denormals_survive_a_fast_math_plugin),
        TEST(test_refusals_file_that_is_no_library_is_p01),
        TEST(test_refusals_truncated_library_is_p01),
        TEST(test_refusals_damaged_headers_do_not_crash_the_check),
        TEST(test_refusals_other_plugin_id_is_p07),
        TEST(test_refusals_other_contents_are_p12),
        TEST(test_refusals_file_that_others_may_write_is_p13),
        TEST(test_refusals_absent_cpu_feature_is_p14),
        TEST(test_refusals_abi_key_refuses_without_opening),
        TEST(test_refusals_component_not_carried_is_p15),
        TEST(test_refusals_long_path_keeps_the_rule_in_sight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
