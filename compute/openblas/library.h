/*
 * library.h - OpenBLAS itself, opened when it is first needed.
 */
#ifndef OPENBLAS_LIBRARY_H
#define OPENBLAS_LIBRARY_H

#include <mqbench/host.h>

/* The values of the C interface of BLAS. */
enum { BLAS_ROW_MAJOR = 101, BLAS_AS_IT_IS = 111, BLAS_TRANSPOSED = 112 };

typedef void openblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a,
                            int lda, const float *b, int ldb, float beta, float *c, int ldc);

struct openblas_library {
    void *handle;
    openblas_sgemm *sgemm;
    char *(*corename)(void);
};

/* Opens the library, on one thread. Each open is paired with a close; the code stays mapped. */
mqb_status openblas_open(const struct mqb_host *host, struct openblas_library *library, struct mqb_error *error);
void openblas_close(struct openblas_library *library);

/* The core whose kernels the library is asked for, or NULL where the choice is its own. */
const char *openblas_core(void);

#endif
