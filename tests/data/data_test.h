/* data_test.h - what the tests of the data room share: a folder for the day, files in it, errors by their words. */
#ifndef MQB_DATA_TEST_H
#define MQB_DATA_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/source.h"

/* A fresh folder /tmp/mqb_data_XXXXXX in *state; removed with everything in it by remove_folder. */
static inline int make_folder(void **state)
{
    char *folder = strdup("/tmp/mqb_data_XXXXXX");
    assert_non_null(folder);
    assert_non_null(mkdtemp(folder));
    assert_int_equal(chmod(folder, 0755), 0);
    *state = folder;
    return 0;
}

static inline int remove_folder(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", (char *)*state);
    int failed = system(command);
    free(*state);
    return failed;
}

/* "folder/name" in a buffer of its own; four at a time may be in use. */
static inline const char *in(void *const *state, const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", (const char *)*state, name);
    return path;
}

static inline const char *put(void *const *state, const char *name, const void *data, size_t size)
{
    const char *path = in(state, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

static inline const char *put_dir(void *const *state, const char *name)
{
    const char *path = in(state, name);
    assert_int_equal(mkdir(path, 0755), 0);
    return path;
}

static inline struct mqb_dataset *open_limited(size_t train, size_t test, const char *format, ...)
{
    char word[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(word, sizeof word, format, args);
    va_end(args);
    struct mqb_dataset *dataset = NULL;
    struct mqb_error error = MQB_ERROR_INIT;
    mqb_status status = mqb_dataset_open(word, train, test, 0, &dataset, &error);
    if (status != MQB_OK)
        print_error("%s\n", error.text);
    assert_int_equal(status, MQB_OK);
    return dataset;
}
#define open_word(...) open_limited(0, 0, __VA_ARGS__)

/* Opening fails with this status, and the sentence holds all of `words` (separated by '|'). */
static inline void expect_refused(mqb_status expected, const char *words, const char *format, ...)
{
    char word[2048], wanted[512];
    va_list args;
    va_start(args, format);
    vsnprintf(word, sizeof word, format, args);
    va_end(args);
    struct mqb_dataset *dataset = NULL;
    struct mqb_error error = MQB_ERROR_INIT;
    mqb_status status = mqb_dataset_open(word, 0, 0, 0, &dataset, &error);
    snprintf(wanted, sizeof wanted, "%s", words);
    for (char *rest = NULL, *part = strtok_r(wanted, "|", &rest); part != NULL; part = strtok_r(NULL, "|", &rest))
        if (strstr(error.text, part) == NULL)
            fail_msg("'%s' is not in: %s", part, error.text);
    assert_int_equal(status, expected);
    assert_null(dataset);
}

/* The same for an error that is at hand. */
static inline void expect_words(const char *text, const char *words)
{
    char wanted[512];
    snprintf(wanted, sizeof wanted, "%s", words);
    for (char *rest = NULL, *part = strtok_r(wanted, "|", &rest); part != NULL; part = strtok_r(NULL, "|", &rest))
        if (strstr(text, part) == NULL)
            fail_msg("'%s' is not in: %s", part, text);
}

static inline bool have_shared(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/data/%s", MQB_SHARED, name);
    if (access(path, R_OK) == 0)
        return true;
    print_message("skipped: %s is not here\n", path);
    return false;
}

static inline void sha256_of(const void *data, size_t size, char hex[65])
{
    struct mqb_sha256 hash;
    mqb_sha256_init(&hash);
    mqb_sha256_update(&hash, data, size);
    mqb_sha256_hex(&hash, hex);
}

#endif
