/* isa.c - which vectors a choice made at run time may use. */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

bool mqb_isa_wide(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    const char *wish = getenv("MQBENCH_ISA");
    if (wish && strcmp(wish, "avx512") != 0)
        return false;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
#else
    return false;
#endif
}
