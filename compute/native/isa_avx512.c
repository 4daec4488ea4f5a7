/*
 * isa_avx512.c - the kernels for one instruction set: the same text as the others, other vectors.
 */
#include "vec_avx512.h"

#include "kernels.h"
