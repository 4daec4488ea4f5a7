/*
 * grid.h - rounding to a uniform grid, straight through on the way back: the arithmetic that range-based algorithms share.
 *
 * Letters: s scale, z zero point, n = qmin, p = qmax, x input, dy gradient at y.
 *   q  = rne(x * (1/s)) + z       per tensor and per channel alike: the order of torch.fake_quantize
 *   y  = (clip(q, n, p) - z) * s
 *   dx = dy where n <= q <= p, else 0
 */
#ifndef ALGORITHMS_GRID_H
#define ALGORITHMS_GRID_H

#include <mqbench/numeric.h>
#include <mqbench/plugin.h>
#include <mqbench/quantizer.h>

/* What the loops need, by value. */
struct grid {
    float s, inv, z, n, p;
};

static inline struct grid grid_of(const struct mqb_scheme *scheme, float scale, int32_t zero_point)
{
    return (struct grid){scale, 1.0f / scale, (float)zero_point, (float)scheme->qmin, (float)scheme->qmax};
}

/* The code before it is clipped. Beyond +-2048 every code is out of range whatever the zero point, and within it mqb_rne_small
 * is exact. */
static inline float grid_code(struct grid g, float x)
{
    float v = x * g.inv;
    v = v > 2048.0f ? 2048.0f : v;
    v = v < -2048.0f ? -2048.0f : v;
    return mqb_rne_small(v) + g.z;
}

static inline float grid_clip(struct grid g, float code)
{
    code = code > g.p ? g.p : code;
    return code < g.n ? g.n : code;
}

static inline int32_t grid_clipped_code(struct grid g, float x)
{
    return (int32_t)grid_clip(g, grid_code(g, x));
}

#endif
