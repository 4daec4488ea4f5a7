/*
 * kernels.h - all kernels, in terms of the vectors that were included before; compiled once an instruction set.
 */
#include "native.h"

#if defined(NATIVE_SMALL_TILES)
#undef VEC_TILE1
#undef VEC_TILE2
#undef VEC_NARROW
#undef VEC_GRID
#undef IVEC_TILE1
#undef IVEC_TILE2
#define VEC_TILE1 3
#define VEC_TILE2 2
#define VEC_NARROW 2
#define VEC_GRID 2
#define IVEC_TILE1 3
#define IVEC_TILE2 2
#endif

/* Number `index` of `parts` almost equal pieces of `count`: where it begins. */
static inline int32_t piece_begin(int32_t count, int32_t parts, int32_t index)
{
    return count / parts * index + native_min(index, count % parts);
}

#include "pack.h"
#include "kernel_dense.h"
#include "kernel_sums.h"
#include "kernel_integer.h"
#include "kernel_depthwise.h"
#include "depthwise_grid.h"
#include "depthwise_run.h"
#include "narrow_run.h"
#include "integer_run.h"
#include "weights_depthwise.h"
#include "winograd.h"
#include "pass_run.h"
#include "weights_run.h"

const struct native_isa VEC_ISA = {
    .name = VEC_NAME,
    .score = VEC_SCORE,
    .lanes = VEC_LANES,
    .tile = { VEC_TILE1, VEC_TILE2 },
    .itile = { IVEC_TILE1, IVEC_TILE2 },
    .quad_size = IVEC_QUAD_SIZE,
    .pack_float = pack_float,
    .pack_integer = pack_integer,
    .pack_wide = pack_wide,
    .pass_run = pass_run,
    .rows_run = rows_run,
    .integer_run = integer_run,
    .weights_run = weights_run,
};
