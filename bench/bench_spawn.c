/*
 * bench_spawn RUNS COMMAND [WORD...] - runs a command RUNS times, its standard output going nowhere (or with RUNS 1 where ours
 * goes), and prints to standard error: the best and the median time by the clock and by the CPU, and the most memory that it
 * held.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_RUNS = 1000 };

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double of(struct timeval time)
{
    return (double)time.tv_sec + 1e-6 * (double)time.tv_usec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static double wall[MAX_RUNS], cpu[MAX_RUNS];
    int runs = argc > 2 ? atoi(argv[1]) : 0;
    long memory = 0;

    if (runs < 1 || runs > MAX_RUNS) {
        fprintf(stderr, "usage: %s RUNS COMMAND [WORD...], RUNS 1 to %d\n", argv[0], MAX_RUNS);
        return 2;
    }
    for (int i = 0; i < runs; i++) {
        double start = seconds();
        pid_t child = fork();
        int state = 0;
        struct rusage usage;

        if (child == 0) {
            int nowhere = runs > 1 ? open("/dev/null", O_WRONLY) : -1;

            if (nowhere >= 0) {
                dup2(nowhere, STDOUT_FILENO);
            }
            execvp(argv[2], argv + 2);
            perror(argv[2]);
            _exit(127);
        }
        if (child < 0 || wait4(child, &state, 0, &usage) < 0 || !WIFEXITED(state) || WEXITSTATUS(state) != 0) {
            fprintf(stderr, "bench_spawn: %s failed\n", argv[2]);
            return 1;
        }
        wall[i] = seconds() - start;
        cpu[i] = of(usage.ru_utime) + of(usage.ru_stime);
        memory = usage.ru_maxrss > memory ? usage.ru_maxrss : memory;
    }
    qsort(wall, (size_t)runs, sizeof(wall[0]), ascending);
    qsort(cpu, (size_t)runs, sizeof(cpu[0]), ascending);
    fprintf(stderr, "spawned: min %.2f ms, median %.2f ms, CPU min %.2f ms, CPU median %.2f ms, memory %.2f MB\n",
            wall[0] * 1e3, wall[runs / 2] * 1e3, cpu[0] * 1e3, cpu[runs / 2] * 1e3, (double)memory * 1024e-6);
    return 0;
}
