/*
 * lanes.h - sums over a slice that no vector width changes: blocks of floats go through a fixed tree into double lanes.
 */
#ifndef ALGORITHMS_LANES_H
#define ALGORITHMS_LANES_H

#include <string.h>

#define LANES_BLOCK 64
#define LANES_COUNT (LANES_BLOCK / 4)

static inline __attribute__((always_inline)) void lanes_add(const float *block, double *lanes)
{
    float half[LANES_BLOCK / 2], quarter[LANES_COUNT];
    for (int i = 0; i < LANES_BLOCK / 2; i++)
        half[i] = block[i] + block[i + LANES_BLOCK / 2];
    for (int i = 0; i < LANES_COUNT; i++)
        quarter[i] = half[i] + half[i + LANES_COUNT];
    for (int i = 0; i < LANES_COUNT; i++)
        lanes[i] += (double)quarter[i];
}

static inline double lanes_join(const double *lanes)
{
    double sums[LANES_COUNT];
    memcpy(sums, lanes, sizeof(sums));
    for (int width = LANES_COUNT / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; i++)
            sums[i] += sums[i + width];
    }
    return sums[0];
}

#endif
