/* grid_slice.h - forward and backward of grid.h over a slice. */
#ifndef ALGORITHMS_GRID_SLICE_H
#define ALGORITHMS_GRID_SLICE_H

#include "grid.h"

MQB_MULTIVERSION
static void grid_forward(struct grid g, int64_t size, const float *x, float *y)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++)
        y[i] = (grid_clip(g, grid_code(g, x[i])) - g.z) * g.s;
}

MQB_MULTIVERSION
static void grid_backward(struct grid g, int64_t size, const float *x, const float *dy, float *dx)
{
    MQB_LOOP_INDEPENDENT
    for (int64_t i = 0; i < size; i++) {
        float code = grid_code(g, x[i]), pass = dy[i];
        pass = code > g.p ? 0.0f : pass;
        dx[i] = code < g.n ? 0.0f : pass;
    }
}

#endif
