/*
 * isa_avx2.c - the kernels for one instruction set: the same text as the others, other vectors.
 */
#include "vec_avx2.h"

#include "kernels.h"
