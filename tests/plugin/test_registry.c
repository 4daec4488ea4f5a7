/* test_registry.c - stacking manifests, finding components, options from manifests and --set, exchanging a library. */
#include "plugin/fixture.h"

static void add(struct fixture *fixture, const char *name, const char *text)
{
    if (mqb_registry_add_manifest(fixture->registry, fixture_write(fixture, name, text), &fixture->error)) {
        fail_msg("%s", fixture->error.text);
    }
}

static void copy_plugin(struct fixture *fixture, const char *plugin, const char *name)
{
    char source[PATH_MAX];
    snprintf(source, sizeof(source), "%s/%s", MQB_BROKEN_DIR, plugin);
    fixture_copy(fixture, source, name, SIZE_MAX);
}

static const struct mqb_entry *find(struct fixture *fixture, enum mqb_kind kind, const char *id)
{
    const struct mqb_entry *entry = NULL;
    if (mqb_registry_find(fixture->registry, kind, id, &entry, &fixture->error)) {
        fail_msg("%s", fixture->error.text);
    }
    return entry;
}

static void test_registry_sections_are_counted_in_order_and_unopened(void **state)
{
    struct fixture *fixture = *state;
    add(fixture, "m.ini",
        "[pass b]\nlibrary = b.so\ndoc = the b\n[quantizer q]\nlibrary = q.so\n[pass a]\nlibrary = /x/a.so\n");
    assert_int_equal(mqb_registry_count(fixture->registry, MQB_KIND_PASS), 2);
    assert_int_equal(mqb_registry_count(fixture->registry, MQB_KIND_QUANTIZER), 1);
    assert_int_equal(mqb_registry_count(fixture->registry, MQB_KIND_BACKEND), 0);
    const struct mqb_entry *entry = mqb_registry_at(fixture->registry, MQB_KIND_PASS, 0, false);
    assert_string_equal(entry->id, "b");
    assert_string_equal(entry->doc, "the b");
    assert_string_equal(entry->library, fixture_path(fixture, "b.so"));
    assert_contains(entry->where, "/m.ini:1");
    assert_null(entry->vtable);
    assert_null(entry->refusal);
    assert_string_equal(entry->sha256, "");
    entry = mqb_registry_at(fixture->registry, MQB_KIND_PASS, 1, false);
    assert_string_equal(entry->id, "a");
    assert_string_equal(entry->doc, "");
    assert_string_equal(entry->library, "/x/a.so");
    assert_null(mqb_registry_at(fixture->registry, MQB_KIND_PASS, 2, false));
    assert_string_equal(mqb_kind_name(MQB_KIND_COMPUTE), "compute");
}

static void test_registry_later_manifest_replaces_single_keys(void **state)
{
    struct fixture *fixture = *state;
    fixture_folder(fixture, "user");
    add(fixture, "system.ini",
        "[quantizer a]\nlibrary = a.so\ndoc = old\nbits = 4\nmargin = 1\n[quantizer b]\nlibrary = b.so\n");
    const struct mqb_entry *a = mqb_registry_at(fixture->registry, MQB_KIND_QUANTIZER, 0, false);
    const char *old_doc = a->doc;
    add(fixture, "user/user.ini", "[quantizer c]\nlibrary = c.so\n\n[quantizer a]\ndoc = new\nbits = 6\n");
    assert_int_equal(mqb_registry_count(fixture->registry, MQB_KIND_QUANTIZER), 3);
    assert_ptr_equal(a, mqb_registry_at(fixture->registry, MQB_KIND_QUANTIZER, 0, false));
    assert_string_equal(a->doc, "new");
    assert_string_equal(old_doc, "old"); /* strings handed out stay valid */
    assert_string_equal(a->library, fixture_path(fixture, "a.so"));
    assert_contains(a->where, "/system.ini:1");
    assert_string_equal(mqb_registry_at(fixture->registry, MQB_KIND_QUANTIZER, 2, false)->library,
                        fixture_path(fixture, "user/c.so"));

    static const struct mqb_option_spec specs[] = {
        {"bits", MQB_OPTION_INT, 0, "8", 2, 8, NULL, NULL},
        {"margin", MQB_OPTION_REAL, 0, "0", 0, 2, NULL, NULL},
    };
    struct mqb_options *options = NULL;
    assert_int_equal(mqb_registry_options(fixture->registry, a, specs, 2, NULL, NULL, 0, &options, &fixture->error), MQB_OK);
    assert_int_equal(mqb_option_int(options, "bits"), 6);
    assert_true(mqb_option_real(options, "margin") == 1.0);
    mqb_options_destroy(options);

    add(fixture, "user/last.ini", "[quantizer a]\nlibrary = z.so\n");
    assert_string_equal(a->library, fixture_path(fixture, "user/z.so"));
    assert_contains(a->where, "/last.ini:1");
    assert_string_equal(a->doc, "new");
}

static void test_registry_section_without_library_is_refused(void **state)
{
    struct fixture *fixture = *state;
    const char *path = fixture_write(fixture, "m.ini", "[pass good]\nlibrary = g.so\n[pass bad]\ndoc = x\n");
    assert_int_equal(mqb_registry_add_manifest(fixture->registry, path, &fixture->error), MQB_ERR_FORMAT);
    assert_contains(fixture->error.text, "/m.ini:3: section [pass bad] has no \"library\", and no earlier manifest gives one");
    path = fixture_write(fixture, "m.ini", "[pass bad]\ndoc = x\nlibary = b.so\n");
    assert_int_equal(mqb_registry_add_manifest(fixture->registry, path, &fixture->error), MQB_ERR_FORMAT);
    assert_contains(fixture->error.text,
                    "/m.ini:1: section [pass bad] has no \"library\"; did you mean that by \"libary\" at ");
    /* A manifest with an error adds nothing. */
    assert_int_equal(mqb_registry_count(fixture->registry, MQB_KIND_PASS), 0);
}

static void test_registry_unknown_id_suggests_the_nearest(void **state)
{
    struct fixture *fixture = *state;
    const struct mqb_entry *entry = NULL;
    add(fixture, "m.ini", "[backend snpe_sim]\nlibrary = s.so\n[backend acl_sim]\nlibrary = a.so\n");
    assert_int_equal(mqb_registry_find(fixture->registry, MQB_KIND_BACKEND, "snep_sim", &entry, &fixture->error),
                     MQB_ERR_NOT_FOUND);
    assert_contains(fixture->error.text, "there is no backend \"snep_sim\"; did you mean \"snpe_sim\"?");
    assert_contains(fixture->error.text, "snpe_sim, acl_sim");
    assert_int_equal(mqb_registry_find(fixture->registry, MQB_KIND_BACKEND, "xyzzyplugh", &entry, &fixture->error),
                     MQB_ERR_NOT_FOUND);
    assert_null(strstr(fixture->error.text, "did you mean"));
    assert_int_equal(mqb_registry_find(fixture->registry, MQB_KIND_PASS, "snpe_sim", &entry, &fixture->error),
                     MQB_ERR_NOT_FOUND);
    assert_contains(fixture->error.text, "--manifest");
    assert_null(entry);
}

static void test_registry_one_library_serves_several_sections(void **state)
{
    struct fixture *fixture = *state;
    copy_plugin(fixture, "good.so", "good.so");
    add(fixture, "m.ini",
        "[quantizer sample]\nlibrary = good.so\n[pass sample]\nlibrary = ./good.so\n[compute sample]\nlibrary = good.so\n");
    const struct mqb_quantizer *quantizer = find(fixture, MQB_KIND_QUANTIZER, "sample")->vtable;
    const struct mqb_pass *pass = find(fixture, MQB_KIND_PASS, "sample")->vtable;
    const struct mqb_compute *compute = find(fixture, MQB_KIND_COMPUTE, "sample")->vtable;
    assert_string_equal(quantizer->description, "sample");
    assert_string_equal(pass->description, "does nothing");
    assert_string_equal(compute->description, "computes nothing");
    assert_int_equal(compute->score(NULL), 0);
}

static void test_registry_broken_neighbour_does_no_harm(void **state)
{
    struct fixture *fixture = *state;
    copy_plugin(fixture, "good.so", "good.so");
    copy_plugin(fixture, "magic.so", "magic.so");
    add(fixture, "m.ini",
        "[quantizer bad]\nlibrary = magic.so\n[quantizer sample]\nlibrary = good.so\n[quantizer none]\nlibrary = none.so\n");
    const struct mqb_entry *entries[3];
    for (size_t i = 0; i < 3; i++) {
        entries[i] = mqb_registry_at(fixture->registry, MQB_KIND_QUANTIZER, i, true);
        assert_true((entries[i]->vtable == NULL) == (i != 1));
        assert_true((entries[i]->refusal != NULL) == (i != 1));
    }
    assert_contains(entries[0]->refusal, "[MQB-P03]");
    assert_contains(entries[2]->refusal, "[MQB-P01]");
    assert_int_equal(strlen(entries[0]->sha256), 64);
}

static mqb_status sample_options(struct fixture *fixture, const char *key, const char *value, struct mqb_options **options)
{
    const struct mqb_entry *entry = find(fixture, MQB_KIND_QUANTIZER, "sample");
    const struct mqb_quantizer *quantizer = entry->vtable;
    *options = NULL;
    return mqb_registry_options(fixture->registry, entry, quantizer->options, quantizer->num_options, &key, &value, key != NULL,
                                options, &fixture->error);
}

static void test_registry_options_come_from_specs_manifest_and_set(void **state)
{
    struct fixture *fixture = *state;
    struct mqb_options *options;
    copy_plugin(fixture, "good.so", "good.so");
    add(fixture, "m.ini", "[quantizer sample]\nlibrary = good.so\nbits = 4\n");
    assert_int_equal(sample_options(fixture, NULL, NULL, &options), MQB_OK);
    assert_int_equal(mqb_option_int(options, "bits"), 4);
    assert_true(mqb_option_real(options, "margin") == 1.5);
    mqb_options_destroy(options);
    assert_int_equal(sample_options(fixture, "bits", "3", &options), MQB_OK);
    assert_int_equal(mqb_option_int(options, "bits"), 3);
    mqb_options_destroy(options);
    assert_int_equal(sample_options(fixture, "bits", "30", &options), MQB_ERR_ARGUMENT);
    assert_contains(fixture->error.text,
                    "--set: [quantizer sample]: bits = \"30\" is out of range; give a whole number from 2 to 8");
    assert_int_equal(sample_options(fixture, "bit", "3", &options), MQB_ERR_ARGUMENT);
    assert_contains(fixture->error.text, "--set: [quantizer sample]: there is no option \"bit\"");
    assert_contains(fixture->error.text, "did you mean \"bits\"?");
    assert_null(options);
}

static void test_registry_options_wrong_in_manifest_say_file_and_line(void **state)
{
    struct fixture *fixture = *state;
    struct mqb_options *options;
    copy_plugin(fixture, "good.so", "good.so");
    add(fixture, "m.ini", "[quantizer sample]\nlibrary = good.so\nmargin = 1\n");
    add(fixture, "late.ini", "[quantizer sample]\n\nmargin = 9\n");
    assert_int_equal(sample_options(fixture, NULL, NULL, &options), MQB_ERR_ARGUMENT);
    assert_contains(fixture->error.text,
                    "/late.ini:3: [quantizer sample]: margin = \"9\" is out of range; give a number from 0.5 to 2");
    add(fixture, "late.ini", "[quantizer sample]\nmargin = 2\nalow_writable = yes\n");
    assert_int_equal(sample_options(fixture, NULL, NULL, &options), MQB_ERR_ARGUMENT);
    assert_contains(fixture->error.text, "/late.ini:3: [quantizer sample]: there is no option \"alow_writable\"");
    assert_contains(fixture->error.text, "did you mean \"allow_writable\"?");
}

/* The point of plugins: another file in the same place, another registry, no compiler. */
static void test_registry_swapped_library_is_picked_up(void **state)
{
    struct fixture *fixture = *state;
    char first[65];
    copy_plugin(fixture, "good.so", "plugin.so");
    add(fixture, "m.ini", "[quantizer sample]\nlibrary = plugin.so\n");
    const struct mqb_entry *entry = find(fixture, MQB_KIND_QUANTIZER, "sample");
    assert_string_equal(((const struct mqb_quantizer *)entry->vtable)->description, "sample");
    assert_string_equal(entry->plugin_version, "1.0.0");
    memcpy(first, entry->sha256, sizeof(first));

    fixture_restart(fixture);
    copy_plugin(fixture, "good_newer.so", "plugin.so");
    assert_int_equal(mqb_registry_add_manifest(fixture->registry, fixture_path(fixture, "m.ini"), &fixture->error), MQB_OK);
    entry = find(fixture, MQB_KIND_QUANTIZER, "sample");
    assert_string_equal(((const struct mqb_quantizer *)entry->vtable)->description, "sample, second edition");
    assert_string_equal(entry->plugin_version, "2.0.0");
    assert_string_not_equal(entry->sha256, first);

    fixture_restart(fixture);
    assert_int_equal(unlink(fixture_path(fixture, "plugin.so")), 0);
    assert_int_equal(mqb_registry_add_manifest(fixture->registry, fixture_path(fixture, "m.ini"), &fixture->error), MQB_OK);
    assert_int_equal(mqb_registry_find(fixture->registry, MQB_KIND_QUANTIZER, "sample", &entry, &fixture->error), MQB_ERR_ABI);
    assert_contains(fixture->error.text, "[MQB-P01]");
}

/* A manifest added later may point an opened component elsewhere. */
static void test_registry_later_library_is_opened_in_place_of_the_earlier(void **state)
{
    struct fixture *fixture = *state;
    copy_plugin(fixture, "good.so", "one.so");
    copy_plugin(fixture, "good_newer.so", "two.so");
    add(fixture, "m.ini", "[quantizer sample]\nlibrary = none.so\n");
    const struct mqb_entry *entry = mqb_registry_at(fixture->registry, MQB_KIND_QUANTIZER, 0, true);
    assert_non_null(entry->refusal);
    add(fixture, "n.ini", "[quantizer sample]\nlibrary = one.so\n");
    assert_null(entry->refusal);
    assert_string_equal(find(fixture, MQB_KIND_QUANTIZER, "sample")->plugin_version, "1.0.0");
    add(fixture, "o.ini", "[quantizer sample]\nlibrary = two.so\n");
    assert_null(entry->vtable);
    assert_string_equal(find(fixture, MQB_KIND_QUANTIZER, "sample")->plugin_version, "2.0.0");
}

static void test_registry_default_manifests_stack_in_their_order(void **state)
{
    struct fixture *fixture = *state;
    fixture_folder(fixture, "home");
    fixture_folder(fixture, "config");
    fixture_folder(fixture, "config/mqbench");
    fixture_write(fixture, "home/mqbench.ini",
                  "[pass z]\nlibrary = z.so\ndoc = home\n[pass y]\nlibrary = y.so\ndoc = home\n"
                  "[pass x]\nlibrary = x.so\ndoc = home\n[pass w]\nlibrary = w.so\ndoc = home\n");
    fixture_write(fixture, "config/mqbench/mqbench.ini", "[pass y]\ndoc = user\n[pass x]\ndoc = user\n[pass w]\ndoc = user\n");
    fixture_write(fixture, "variable.ini", "[pass x]\ndoc = variable\n[pass w]\ndoc = variable\n");
    const char *extra = fixture_write(fixture, "extra.ini", "[pass w]\ndoc = extra\n");
    setenv("MQBENCH_HOME", fixture_path(fixture, "home"), 1);
    setenv("XDG_CONFIG_HOME", fixture_path(fixture, "config"), 1);
    setenv("MQBENCH_MANIFEST", fixture_path(fixture, "variable.ini"), 1);
    mqb_status status = mqb_registry_add_default_manifests(fixture->registry, extra, &fixture->error);
    if (status) {
        fail_msg("%s", fixture->error.text);
    }
    static const char *const docs[] = {"home", "user", "variable", "extra"};
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(mqb_registry_at(fixture->registry, MQB_KIND_PASS, i, false)->doc, docs[i]);
    }

    fixture_restart(fixture);
    setenv("MQBENCH_MANIFEST", "", 1);
    setenv("XDG_CONFIG_HOME", fixture_path(fixture, "nowhere"), 1);
    assert_int_equal(mqb_registry_add_default_manifests(fixture->registry, NULL, &fixture->error), MQB_OK);
    assert_string_equal(mqb_registry_at(fixture->registry, MQB_KIND_PASS, 1, false)->doc, "home");

    fixture_restart(fixture);
    status = mqb_registry_add_default_manifests(fixture->registry, fixture_path(fixture, "none.ini"), &fixture->error);
    assert_int_equal(status, MQB_ERR_NOT_FOUND);
    assert_contains(fixture->error.text, "none.ini");

    fixture_restart(fixture);
    setenv("MQBENCH_MANIFEST", fixture_path(fixture, "none.ini"), 1);
    assert_int_equal(mqb_registry_add_default_manifests(fixture->registry, NULL, &fixture->error), MQB_ERR_NOT_FOUND);
    assert_contains(fixture->error.text, "MQBENCH_MANIFEST: ");

    fixture_restart(fixture);
    fixture_write(fixture, "home/mqbench.ini", "nonsense\n");
    assert_int_equal(mqb_registry_add_default_manifests(fixture->registry, NULL, &fixture->error), MQB_ERR_FORMAT);
    assert_contains(fixture->error.text, "home/mqbench.ini:1: ");
    unsetenv("MQBENCH_HOME");
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("MQBENCH_MANIFEST");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_registry_sections_are_counted_in_order_and_unopened),
        TEST(test_registry_later_manifest_replaces_single_keys),
        TEST(test_registry_section_without_library_is_refused),
        TEST(test_registry_unknown_id_suggests_the_nearest),
        TEST(test_registry_one_library_serves_several_sections),
        TEST(test_registry_broken_neighbour_does_no_harm),
        TEST(test_registry_options_come_from_specs_manifest_and_set),
        TEST(test_registry_options_wrong_in_manifest_say_file_and_line),
        TEST(test_registry_swapped_library_is_picked_up),
        TEST(test_registry_later_library_is_opened_in_place_of_the_earlier),
        TEST(test_registry_default_manifests_stack_in_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
