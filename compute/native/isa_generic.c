/*
 * isa_generic.c - the kernels for one instruction set: the same text as the others, other vectors.
 */
#include "vec_generic.h"

#include "kernels.h"
