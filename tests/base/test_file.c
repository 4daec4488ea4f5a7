/* test_file.c - whole files, folders and paths, with the disks that users have. */
#include "base/base.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static struct mqb_error error = MQB_ERROR_INIT;

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "test_file.XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    char command[200];
    snprintf(command, sizeof command, "chmod -R u+w %s && rm -rf %s", folder, folder);
    return system(command);
}

static char *in_folder(const char *name)
{
    char *path = mqb_path_join(folder, name);
    assert_non_null(path);
    return path;
}

static void assert_content(const char *path, const char *expected)
{
    void *data;
    size_t size;
    assert_int_equal(mqb_file_read(path, 1000, &data, &size, &error), MQB_OK);
    assert_int_equal(size, strlen(expected));
    assert_string_equal(data, expected);
    mqb_deallocate(data);
}

static void test_file_written_and_read_back(void **state)
{
    (void)state;
    char *path = in_folder("a"), *part = in_folder("a.part");
    assert_int_equal(mqb_file_write(path, "first", 5, &error), MQB_OK);
    assert_content(path, "first");
    assert_int_equal(mqb_file_write(path, "2nd", 3, &error), MQB_OK);
    assert_content(path, "2nd");
    assert_int_equal(mqb_file_write(path, "", 0, &error), MQB_OK);
    assert_content(path, "");
    assert_false(mqb_file_exists(part));
    mqb_deallocate(path);
    mqb_deallocate(part);
}

static void test_file_read_missing_folder_or_large_refused(void **state)
{
    (void)state;
    void *data;
    size_t size;
    char *path = in_folder("big");
    assert_int_equal(mqb_file_read("no/such/file", 10, &data, &size, &error), MQB_ERR_NOT_FOUND);
    assert_non_null(strstr(error.text, "no/such/file"));
    assert_int_not_equal(mqb_file_read(folder, 10, &data, &size, &error), MQB_OK);
    assert_non_null(strstr(error.text, "folder"));
    assert_int_equal(mqb_file_write(path, "0123456789", 10, &error), MQB_OK);
    assert_int_equal(mqb_file_read(path, 9, &data, &size, &error), MQB_ERR_FORMAT);
    assert_non_null(strstr(error.text, path));
    mqb_deallocate(path);
}

static void test_file_full_disk_said(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK) != 0)
        skip();
    assert_int_equal(mqb_file_write("/dev/full", "text", 4, &error), MQB_ERR_IO);
    assert_non_null(strstr(error.text, "/dev/full"));
    assert_non_null(strstr(error.text, "No space left"));
}

/* A limit on the size of files stands in for a disk that fills up while the file is written. */
static void test_file_disk_fills_old_file_stays(void **state)
{
    (void)state;
    char *path = in_folder("kept"), *part = in_folder("kept.part");
    static char big[20000];
    struct rlimit old, small;
    assert_int_equal(mqb_file_write(path, "old", 3, &error), MQB_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    mqb_status status = mqb_file_write(path, big, sizeof big, &error);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, MQB_ERR_IO);
    assert_non_null(strstr(error.text, path));
    assert_content(path, "old");
    assert_false(mqb_file_exists(part));
    mqb_deallocate(path);
    mqb_deallocate(part);
}

static void test_file_unwritable_place_said(void **state)
{
    (void)state;
    assert_int_equal(mqb_file_write("/proc/mqbench-test", "x", 1, &error), MQB_ERR_IO);
    assert_non_null(strstr(error.text, "/proc/mqbench-test"));
    assert_int_equal(mqb_file_write("no/such/folder/file", "x", 1, &error), MQB_ERR_IO);
    if (geteuid() == 0)
        return; /* permissions do not bind root */
    char *path = in_folder("read-only"), *file = in_folder("read-only/file");
    assert_int_equal(mkdir(path, 0555), 0);
    assert_int_equal(mqb_file_write(file, "x", 1, &error), MQB_ERR_IO);
    assert_non_null(strstr(error.text, "Permission denied"));
    mqb_deallocate(path);
    mqb_deallocate(file);
}

static void test_dir_made_with_parents_or_refused(void **state)
{
    (void)state;
    char *deep = in_folder("x/y/z"), *file = in_folder("plain"), *below = in_folder("plain/below");
    struct stat info;
    assert_int_equal(mqb_dir_create(deep, &error), MQB_OK);
    assert_int_equal(stat(deep, &info), 0);
    assert_true(S_ISDIR(info.st_mode));
    assert_int_equal(mqb_dir_create(deep, &error), MQB_OK);
    assert_int_equal(mqb_file_write(file, "x", 1, &error), MQB_OK);
    assert_int_equal(mqb_dir_create(file, &error), MQB_ERR_IO);
    assert_int_equal(mqb_dir_create(below, &error), MQB_ERR_IO);
    assert_non_null(strstr(error.text, "plain"));
    assert_int_equal(mqb_dir_create("/proc/mqbench-test", &error), MQB_ERR_IO);
    mqb_deallocate(deep);
    mqb_deallocate(file);
    mqb_deallocate(below);
}

static void test_path_joined_and_parted(void **state)
{
    (void)state;
    static const char *const parents[][2] = {{"a/b/c", "a/b"}, {"c", "."}, {"/c", "/"}, {"/a/c", "/a"}};
    char *joined = mqb_path_join("a/b", "c"), *absolute = mqb_path_join("a/b", "/c");
    assert_string_equal(joined, "a/b/c");
    assert_string_equal(absolute, "/c");
    mqb_deallocate(joined);
    mqb_deallocate(absolute);
    for (size_t i = 0; i < sizeof parents / sizeof parents[0]; i++) {
        char *parent = mqb_path_dir(parents[i][0]);
        assert_string_equal(parent, parents[i][1]);
        mqb_deallocate(parent);
    }
}

static void test_home_from_environment_or_executable(void **state)
{
    (void)state;
    setenv("MQBENCH_HOME", "/somewhere", 1);
    char *given = mqb_home();
    assert_string_equal(given, "/somewhere");
    unsetenv("MQBENCH_HOME");
    char *own = mqb_home();
    assert_non_null(strstr(own, "/../share/mqbench"));
    mqb_deallocate(given);
    mqb_deallocate(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_written_and_read_back),
        cmocka_unit_test(test_file_read_missing_folder_or_large_refused),
        cmocka_unit_test(test_file_full_disk_said),
        cmocka_unit_test(test_file_disk_fills_old_file_stays),
        cmocka_unit_test(test_file_unwritable_place_said),
        cmocka_unit_test(test_dir_made_with_parents_or_refused),
        cmocka_unit_test(test_path_joined_and_parted),
        cmocka_unit_test(test_home_from_environment_or_executable),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
