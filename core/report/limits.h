/* limits.h - what this machine can do at best, measured for a few hundredths of a second. For reports, never for results. */
#ifndef MQB_LIMITS_H
#define MQB_LIMITS_H

#include "base/base.h"

struct mqb_limits {
    int threads;
    double gflops;       /* FP32 multiply-adds, two operations each, on all threads of the pool */
    double gbs;          /* memory, bytes read and written, on all threads */
    double integer_gops; /* int8: from gflops and what the instruction set does in place of one FP32 lane */
};
/* isa: of the compute provider ("avx512-vnni", "avx2", "scalar"). */
mqb_status mqb_limits_measure(struct mqb_pool *pool, const char *isa, struct mqb_limits *limits, struct mqb_error *error);

#endif
