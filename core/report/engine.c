/* engine.c - starts a script of another engine, waits for it, and keeps what it says. */
#include "report/engine.h"

#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_MISSING 77     /* said by the script */
#define EXIT_NO_PROGRAM 126 /* and above: its interpreter is not there */

extern char **environ;

/* The first line of what was printed, or of the last one that is not empty if `last`. */
static char *read_line(const char *path, bool last)
{
    char text[4096], *line = text;
    FILE *file = fopen(path, "r");
    size_t size = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
    if (file)
        fclose(file);
    while (size > 0 && text[size - 1] == '\n')
        size--;
    text[size] = '\0';
    if (last && strrchr(text, '\n'))
        line = strrchr(text, '\n') + 1;
    else if (strchr(text, '\n'))
        *strchr(text, '\n') = '\0';
    return mqb_strdup(line);
}

/* Runs the script with its output in `said`; *code: its exit code, or -1 if a signal ended it. */
static mqb_status run_script(const char *script, char *const *words, const char *said, int *code, struct mqb_error *error)
{
    posix_spawn_file_actions_t actions;
    pid_t child;
    int wait_status, failure = posix_spawn_file_actions_init(&actions);
    if (failure == 0)
        failure = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (failure == 0)
        failure = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, said, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (failure == 0)
        failure = posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    if (failure == 0)
        failure = posix_spawn(&child, script, &actions, NULL, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failure != 0)
        return mqb_fail(error, MQB_ERR_IO, "%.300s could not be started (%s)", script, strerror(failure));
    while (waitpid(child, &wait_status, 0) < 0)
        if (errno != EINTR)
            return mqb_fail(error, MQB_ERR_IO, "%.300s: its end could not be waited for (%s)", script, strerror(errno));
    *code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
    return MQB_OK;
}

mqb_status mqb_engine_check(const char *script, const char *dir, enum mqb_engine_state *state, char **said,
                            struct mqb_error *error)
{
    char check[] = "check", *words[] = {(char *)(uintptr_t)script, check, NULL};
    char *path = mqb_path_join(dir, "said");
    int code = 0;
    *said = NULL;
    if (!path)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a path");
    mqb_status status = run_script(script, words, path, &code, error);
    if (status == MQB_OK) {
        *state = code == 0 ? MQB_ENGINE_PRESENT : MQB_ENGINE_MISSING;
        *said = read_line(path, false);
        if (!*said)
            status = mqb_fail(error, MQB_ERR_MEMORY, "no memory for what an engine says");
        else if (code != 0 && code != EXIT_MISSING && code < EXIT_NO_PROGRAM)
            status = mqb_fail(error, MQB_ERR_UNSUPPORTED, "%.300s check ended with exit code %d: %.400s", script, code, *said);
    }
    unlink(path);
    mqb_deallocate(path);
    return status;
}

mqb_status mqb_engine_run(const char *script, const char *artefact, const char *argument, const char *dir,
                          struct mqb_error *error)
{
    char run[] = "run", *words[] = {(char *)(uintptr_t)script, run, (char *)(uintptr_t)artefact, (char *)(uintptr_t)argument,
                                    (char *)(uintptr_t)dir,    NULL};
    char *path = mqb_path_join(dir, "said");
    int code = 0;
    if (!path)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a path");
    mqb_status status = run_script(script, words, path, &code, error);
    if (status == MQB_OK && code != 0) {
        char *said = read_line(path, true);
        status = mqb_fail(error, MQB_ERR_UNSUPPORTED, "%.300s ended with exit code %d on %.300s: %.300s", script, code,
                          artefact, said ? said : "");
        mqb_deallocate(said);
    }
    unlink(path);
    mqb_deallocate(path);
    return status;
}
