/* probe.c - what cannot be written is found out before anything is computed. */
#include "report/report.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Makes and removes a file; a file that is there already is left alone. */
static mqb_status touch(const char *path, const char *shown, struct mqb_error *error)
{
    bool existed = mqb_file_exists(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
    if (fd < 0)
        return mqb_fail(error, MQB_ERR_IO, "%s: cannot be written (%s); choose a place you may write to", shown, strerror(errno));
    close(fd);
    if (!existed)
        unlink(path);
    return MQB_OK;
}

mqb_status mqb_probe_file(const char *path, struct mqb_error *error)
{
    struct stat info;
    if (strcmp(path, "-") == 0)
        return MQB_OK;
    if (path[0] == '\0')
        return mqb_fail(error, MQB_ERR_ARGUMENT, "the name of a file to write is empty; give one");
    bool exists = stat(path, &info) == 0;
    if (exists && S_ISDIR(info.st_mode))
        return mqb_fail(error, MQB_ERR_ARGUMENT, "%s: is a folder; give the name of a file in it", path);
    if (exists && S_ISFIFO(info.st_mode)) /* opening it would wait for a reader, or disturb one */
        return MQB_OK;
    if (exists && !S_ISREG(info.st_mode))
        return touch(path, path, error);
    /* Files are written beside their place, then renamed. */
    char *beside = mqb_format("%s.part", path);
    if (beside == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory", path);
    mqb_status status = touch(beside, path, error);
    mqb_deallocate(beside);
    return status;
}

mqb_status mqb_probe_dir(const char *path, struct mqb_error *error)
{
    if (path[0] == '\0')
        return mqb_fail(error, MQB_ERR_ARGUMENT, "the name of a folder to write is empty; give one");
    mqb_status status = mqb_dir_create(path, error);
    if (status != MQB_OK)
        return status;
    char *inside = mqb_format("%s/.mqbench-probe", path);
    if (inside == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "%s: no memory", path);
    status = touch(inside, path, error);
    mqb_deallocate(inside);
    return status;
}
