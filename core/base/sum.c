/* sum.c - sums over grains: one binary tree that depends on the number of parts alone. */
#include "base/base.h"

#include <string.h>

#define TREE_SUM(name, type)                                                                                          \
    void name(type *target, type *parts, int num_parts, size_t stride, size_t count)                                  \
    {                                                                                                                 \
        for (int step = 1; step < num_parts; step *= 2)                                                               \
            for (int g = 0; g + step < num_parts; g += 2 * step) {                                                    \
                type *a = parts + (size_t)g * stride;                                                                 \
                const type *b = a + (size_t)step * stride;                                                            \
                for (size_t i = 0; i < count; i++)                                                                    \
                    a[i] += b[i];                                                                                     \
            }                                                                                                         \
        if (target != parts)                                                                                          \
            memcpy(target, parts, count * sizeof *target);                                                            \
    }

TREE_SUM(mqb_tree_sum_f32, float)
TREE_SUM(mqb_tree_sum_f64, double)
