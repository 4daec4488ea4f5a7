/* paths.c - lists of paths: from a folder, from "A+B". */
#include "data/source.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void mqb_paths_deinit(struct mqb_paths *paths)
{
    for (size_t i = 0; i < paths->num; i++)
        mqb_deallocate(paths->items[i]);
    mqb_deallocate(paths->items);
    *paths = (struct mqb_paths){0};
}

static mqb_status add_owned(struct mqb_paths *paths, char *path, struct mqb_error *error)
{
    if (path != NULL && paths->num == paths->capacity) {
        size_t capacity = paths->capacity == 0 ? 16 : paths->capacity * 2;
        char **items = mqb_allocate_array(capacity, sizeof *items);
        if (items != NULL) {
            if (paths->num > 0)
                memcpy(items, paths->items, paths->num * sizeof *items);
            mqb_deallocate(paths->items);
            paths->items = items;
            paths->capacity = capacity;
        }
    }
    if (path == NULL || paths->num == paths->capacity) {
        mqb_deallocate(path);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a list of %zu file names", paths->num + 1);
    }
    paths->items[paths->num++] = path;
    return MQB_OK;
}

mqb_status mqb_paths_add(struct mqb_paths *paths, const char *path, struct mqb_error *error)
{
    return add_owned(paths, mqb_strdup(path), error);
}

mqb_status mqb_paths_split(struct mqb_paths *paths, const char *joined, struct mqb_error *error)
{
    for (const char *next = joined;;) {
        size_t length = strcspn(next, "+");
        if (length == 0)
            return mqb_fail(error, MQB_ERR_ARGUMENT, "'%s' holds an empty file name; join files as A+B", joined);
        mqb_status status = add_owned(paths, mqb_format("%.*s", (int)length, next), error);
        if (status != MQB_OK || next[length] == '\0')
            return status;
        next += length + 1;
    }
}

static int compare_items(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

mqb_status mqb_paths_list(struct mqb_paths *paths, const char *dir, struct mqb_error *error)
{
    DIR *handle = opendir(dir);
    if (handle == NULL) {
        if (errno == ENOENT)
            return mqb_fail(error, MQB_ERR_NOT_FOUND, "%s: there is no such folder; check the path", dir);
        if (errno == ENOTDIR)
            return mqb_fail(error, MQB_ERR_ARGUMENT,
                            "%s: is a file, expected a folder; to name files write train=FILE,test=FILE", dir);
        return mqb_fail(error, MQB_ERR_IO, "%s: the folder cannot be read (%s)", dir, strerror(errno));
    }
    mqb_status status = MQB_OK;
    size_t first = paths->num;
    struct dirent *entry;
    errno = 0;
    while (status == MQB_OK && (entry = readdir(handle)) != NULL) {
        if (entry->d_name[0] != '.')
            status = mqb_paths_add(paths, entry->d_name, error);
        errno = 0;
    }
    if (status == MQB_OK && errno != 0)
        status = mqb_fail(error, MQB_ERR_IO, "%s: reading the folder failed (%s)", dir, strerror(errno));
    closedir(handle);
    if (paths->num > first)
        qsort(paths->items + first, paths->num - first, sizeof *paths->items, compare_items);
    return status;
}
