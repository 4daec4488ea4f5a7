/*
 * Two decisions fall when OpenBLAS is loaded, and its environment variables are the only way to have a say in them:
 *
 * - how many threads it starts. It would start one a core, at once, and split products among them; the results would
 *   depend on their number. Here the engine's own threads call it, so it is loaded with OPENBLAS_NUM_THREADS=1.
 * - whose kernels it runs. It knows processors by their model numbers, and takes those newer than itself for a Haswell:
 *   half the speed on a machine with AVX-512. If OPENBLAS_CORETYPE is not set, it is chosen by what the CPU can do.
 *
 * So it is opened here rather than linked, and the two variables are set for that moment alone: children and other libraries
 * do not see them. Plans are made before the engine's threads run, so nobody reads the environment meanwhile. It also
 * keeps the time of loading 30 MB away from runs that use another provider.
 */
#include "library.h"

#include <dlfcn.h>
#include <fenv.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libopenblas.so.0"

const char *openblas_core(void)
{
#if defined(__x86_64__)
    const char *wish = getenv("OPENBLAS_CORETYPE");

    __builtin_cpu_init();
    if ((wish == NULL || wish[0] == '\0') && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        return "SkylakeX";
    }
#endif
    return NULL;
}

/* Nonzero if there is no memory. *before: the value until now, NULL if there was none. */
static int variable_set(const char *name, const char *value, char **before)
{
    const char *old = getenv(name);

    *before = old == NULL ? NULL : strdup(old);
    if ((old == NULL || *before != NULL) && setenv(name, value, 1) == 0) {
        return 0;
    }
    free(*before);
    return 1;
}

static void variable_restore(const char *name, char *before)
{
    if (before == NULL) {
        unsetenv(name);
    } else {
        setenv(name, before, 1);
    }
    free(before);
}

static mqb_status load(const struct mqb_host *host, void **handle, struct mqb_error *error)
{
    const char *core = openblas_core();
    char *threads_before = NULL, *core_before = NULL;
    fenv_t float_mode;

    if (variable_set("OPENBLAS_NUM_THREADS", "1", &threads_before)) {
        return host->fail(error, MQB_ERR_MEMORY, "openblas: no memory to open %s: free some and try again", LIBRARY);
    }
    int core_set = core != NULL && variable_set("OPENBLAS_CORETYPE", core, &core_before) == 0;
    fegetenv(&float_mode);
    *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    fesetenv(&float_mode);
    if (core_set) {
        variable_restore("OPENBLAS_CORETYPE", core_before);
    }
    variable_restore("OPENBLAS_NUM_THREADS", threads_before);
    if (*handle == NULL) {
        return host->fail(
            error, MQB_ERR_NOT_FOUND,
            "openblas: OpenBLAS cannot be opened (%s): install it (Debian: libopenblas0) or choose another provider "
            "with --compute",
            dlerror());
    }
    return MQB_OK;
}

mqb_status openblas_open(const struct mqb_host *host, struct openblas_library *library, struct mqb_error *error)
{
    void (*set_num_threads)(int) = NULL;

    memset(library, 0, sizeof(*library));
    library->handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (library->handle == NULL) {
        mqb_status status = load(host, &library->handle, error);
        if (status != MQB_OK) {
            return status;
        }
    }
    *(void **)&library->sgemm = dlsym(library->handle, "cblas_sgemm");
    *(void **)&library->corename = dlsym(library->handle, "openblas_get_corename");
    *(void **)&set_num_threads = dlsym(library->handle, "openblas_set_num_threads");
    if (library->sgemm == NULL || library->corename == NULL || set_num_threads == NULL) {
        openblas_close(library);
        return host->fail(
            error, MQB_ERR_UNSUPPORTED,
            "openblas: %s has no cblas_sgemm, openblas_get_corename or openblas_set_num_threads: install the OpenBLAS "
            "of the distribution (Debian: libopenblas0) or choose another provider with --compute",
            LIBRARY);
    }
    set_num_threads(1); /* it may have been loaded by the program that embeds the engine: the setting is the process's */
    return MQB_OK;
}

void openblas_close(struct openblas_library *library)
{
    if (library->handle != NULL) {
        dlclose(library->handle);
    }
    memset(library, 0, sizeof(*library));
}
