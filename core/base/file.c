/* file.c - whole files in, whole files out, and where things are. */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

mqb_status mqb_file_read(const char *path, size_t max_size, void **data, size_t *size, struct mqb_error *error)
{
    mqb_status status = MQB_OK;
    unsigned char *buffer = NULL;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        status = mqb_fail(error, errno == ENOENT ? MQB_ERR_NOT_FOUND : MQB_ERR_IO, "%s: cannot be opened (%s); check the path",
                          path, strerror(errno));
        goto out;
    }
    if (S_ISDIR(info.st_mode)) {
        status = mqb_fail(error, MQB_ERR_ARGUMENT, "%s: is a folder, expected a file", path);
        goto out;
    }
    if ((uint64_t)info.st_size > max_size) {
        status = mqb_fail(error, MQB_ERR_FORMAT, "%s: has %lld bytes, at most %zu are expected here", path,
                          (long long)info.st_size, max_size);
        goto out;
    }
    size_t capacity = (size_t)info.st_size, used = 0;
    buffer = mqb_allocate_raw(capacity + 1);
    if (buffer == NULL) {
        status = mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory for its %zu bytes", path, capacity);
        goto out;
    }
    while (used < capacity) {
        ssize_t got = read(fd, buffer + used, capacity - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            status = mqb_fail(error, MQB_ERR_IO, "%s: reading failed (%s)", path, strerror(errno));
            goto out;
        }
        if (got == 0)
            break;
        used += (size_t)got;
    }
    buffer[used] = 0;
    *data = buffer;
    *size = used;
    buffer = NULL;
out:
    mqb_deallocate(buffer);
    if (fd >= 0)
        close(fd);
    return status;
}

static mqb_status write_all(int fd, const char *path, const void *data, size_t size, struct mqb_error *error)
{
    const char *next = data;
    while (size > 0) {
        ssize_t done = write(fd, next, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return mqb_fail(error, MQB_ERR_IO, "%s: writing failed (%s); free some space or choose another place", path,
                            strerror(errno));
        next += done;
        size -= (size_t)done;
    }
    return MQB_OK;
}

mqb_status mqb_file_write(const char *path, const void *data, size_t size, struct mqb_error *error)
{
    if (strcmp(path, "-") == 0) {
        fflush(stdout);
        return write_all(STDOUT_FILENO, "standard output", data, size, error);
    }
    struct stat info;
    bool special = stat(path, &info) == 0 && !S_ISREG(info.st_mode); /* /dev/full, a pipe: nothing to rename */
    char *temporary = special ? mqb_strdup(path) : mqb_format("%s.part", path);
    if (temporary == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory", path);
    mqb_status status = MQB_OK;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_CLOEXEC | (special ? 0 : O_TRUNC), 0666);
    if (fd < 0) {
        status = mqb_fail(error, MQB_ERR_IO, "%s: cannot be written (%s); choose a folder you may write to", path, strerror(errno));
        goto out;
    }
    status = write_all(fd, path, data, size, error);
    if (close(fd) != 0 && status == MQB_OK)
        status = mqb_fail(error, MQB_ERR_IO, "%s: writing failed (%s); free some space or choose another place", path,
                          strerror(errno));
    if (!special) {
        if (status == MQB_OK && rename(temporary, path) != 0)
            status = mqb_fail(error, MQB_ERR_IO, "%s: cannot be replaced (%s)", path, strerror(errno));
        if (status != MQB_OK)
            unlink(temporary);
    }
out:
    mqb_deallocate(temporary);
    return status;
}

mqb_status mqb_dir_create(const char *path, struct mqb_error *error)
{
    char *copy = mqb_strdup(path);
    if (copy == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory", path);
    mqb_status status = MQB_OK;
    for (char *slash = copy + 1; status == MQB_OK; slash++) {
        if (*slash != '/' && *slash != '\0')
            continue;
        char end = *slash;
        *slash = '\0';
        struct stat info;
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            status = mqb_fail(error, MQB_ERR_IO, "%s: the folder cannot be made (%s); choose a place you may write to", path,
                              strerror(errno));
        else if (stat(copy, &info) != 0 || !S_ISDIR(info.st_mode))
            status = mqb_fail(error, MQB_ERR_IO, "%s: is not a folder; choose another place", copy);
        *slash = end;
        if (end == '\0')
            break;
    }
    mqb_deallocate(copy);
    return status;
}

bool mqb_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

char *mqb_path_join(const char *dir, const char *name)
{
    return name[0] == '/' ? mqb_strdup(name) : mqb_format("%s/%s", dir, name);
}

char *mqb_path_dir(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return mqb_strdup(".");
    return slash == path ? mqb_strdup("/") : mqb_format("%.*s", (int)(slash - path), path);
}

char *mqb_home(void)
{
    const char *given = getenv("MQBENCH_HOME");
    if (given != NULL && given[0] != '\0')
        return mqb_strdup(given);
    char executable[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", executable, sizeof executable - 1);
    if (length <= 0)
        return NULL;
    executable[length] = '\0';
    char *dir = mqb_path_dir(executable);
    char *home = dir == NULL ? NULL : mqb_format("%s/../share/mqbench", dir);
    mqb_deallocate(dir);
    return home;
}

static double clock_seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double mqb_seconds(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

double mqb_cpu_seconds(void)
{
    return clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
}
