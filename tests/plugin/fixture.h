/* fixture.h - a folder of its own for each test, with files in it. */
#ifndef MQB_TEST_PLUGIN_FIXTURE_H
#define MQB_TEST_PLUGIN_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "plugin/registry.h"

#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char dir[128];
    char path[4][192]; /* results of fixture_path, round robin */
    int next;
    struct mqb_registry *registry;
    struct mqb_error error;
};

static inline int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    if (!fixture) {
        return -1;
    }
    fixture->error = (struct mqb_error)MQB_ERROR_INIT;
    snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/mqb-plugin-XXXXXX");
    *state = fixture;
    return mkdtemp(fixture->dir) && mqb_registry_create(NULL, &fixture->registry, NULL) == MQB_OK ? 0 : -1;
}

static inline int fixture_remove(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

static inline int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    mqb_registry_destroy(fixture->registry);
    nftw(fixture->dir, fixture_remove, 8, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

/* A new registry in place of the old one. */
static inline void fixture_restart(struct fixture *fixture)
{
    mqb_registry_destroy(fixture->registry);
    fixture->registry = NULL;
    assert_int_equal(mqb_registry_create(NULL, &fixture->registry, &fixture->error), MQB_OK);
}

static inline const char *fixture_path(struct fixture *fixture, const char *name)
{
    char *path = fixture->path[fixture->next++ % 4];
    size_t dir_length = strlen(fixture->dir), name_size = strlen(name) + 1;
    assert_true(dir_length + 1 + name_size <= sizeof(fixture->path[0]));
    memcpy(path, fixture->dir, dir_length);
    path[dir_length] = '/';
    memcpy(path + dir_length + 1, name, name_size);
    return path;
}

static inline const char *fixture_folder(struct fixture *fixture, const char *name)
{
    const char *path = fixture_path(fixture, name);
    assert_int_equal(mkdir(path, 0777), 0);
    return path;
}

static inline const char *fixture_write(struct fixture *fixture, const char *name, const char *text)
{
    const char *path = fixture_path(fixture, name);
    assert_int_equal(mqb_file_write(path, text, strlen(text), &fixture->error), MQB_OK);
    return path;
}

/* Copies a whole file, at most `max_size` bytes of it; rwxr-xr-x whatever the umask. */
static inline const char *fixture_copy(struct fixture *fixture, const char *source, const char *name, size_t max_size)
{
    void *data = NULL;
    size_t size = 0;
    const char *path = fixture_path(fixture, name);
    assert_int_equal(mqb_file_read(source, SIZE_MAX / 2, &data, &size, &fixture->error), MQB_OK);
    assert_int_equal(mqb_file_write(path, data, size < max_size ? size : max_size, &fixture->error), MQB_OK);
    mqb_deallocate(data);
    assert_int_equal(chmod(path, 0755), 0);
    return path;
}

static inline void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        fail_msg("\"%s\" does not contain \"%s\"", text, part);
    }
}

#endif
