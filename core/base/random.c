/* random.c - Philox 4x32-10 (Salmon et al., SC 2011): numbers by counter, so that order and threads do not matter. */
#include "base/base.h"

#include <math.h>

void mqb_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4])
{
    uint32_t x[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * x[0], p1 = (uint64_t)0xCD9E8D57u * x[2];
        uint32_t y0 = (uint32_t)(p1 >> 32) ^ x[1] ^ k0, y2 = (uint32_t)(p0 >> 32) ^ x[3] ^ k1;
        x[1] = (uint32_t)p1;
        x[3] = (uint32_t)p0;
        x[0] = y0;
        x[2] = y2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; i++)
        out[i] = x[i];
}

float mqb_uniform(uint64_t seed, uint64_t stream, uint64_t counter)
{
    uint32_t x[4];
    mqb_philox(seed, stream, counter, x);
    return (float)(x[0] >> 8) * 0x1p-24f;
}

double mqb_normal(uint64_t seed, uint64_t stream, uint64_t counter)
{
    uint32_t x[4];
    mqb_philox(seed, stream, counter, x);
    double u = ((double)x[0] + 1.0) * 0x1p-32, v = (double)x[1] * 0x1p-32;
    return sqrt(-2.0 * mqb_ln(u)) * mqb_cos(6.283185307179586 * v);
}

void mqb_shuffle(uint64_t seed, uint64_t stream, uint32_t *index, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        index[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t x[4];
        mqb_philox(seed, stream, i, x);
        uint32_t j = (uint32_t)(((uint64_t)x[0] * i) >> 32);
        uint32_t t = index[i - 1];
        index[i - 1] = index[j];
        index[j] = t;
    }
}
