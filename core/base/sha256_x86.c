/* sha256_x86.c - SHA-256 by the instructions that x86 CPUs have for it. */
#include "base/sha256_x86.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#define SHA_BIT (1u << 29) /* leaf 7, ebx */

bool mqb_sha256_x86_usable(void)
{
    unsigned eax, ebx = 0, ecx, edx;
    return __builtin_cpu_supports("sse4.1") && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ebx & SHA_BIT) != 0;
}

/* The instructions want the eight words as (a b e f) and (c d g h). Four rounds a turn; w holds the schedule's last 16 words.
 */
__attribute__((target("sha,sse4.1"))) void mqb_sha256_x86_blocks(uint32_t state[8], const uint32_t constants[64],
                                                                 const uint8_t *data, size_t num_blocks)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), 0xb1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(state + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xf0);
    for (; num_blocks > 0; num_blocks--, data += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(data + 16 * i)), big_endian);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            __m128i *first = &w[i % 4], last = w[(i + 3) % 4];
            __m128i sum = _mm_add_epi32(*first, _mm_loadu_si128((const __m128i *)(const void *)(constants + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
            *first = _mm_sha256msg2_epu32(
                _mm_add_epi32(_mm_sha256msg1_epu32(*first, w[(i + 1) % 4]), _mm_alignr_epi8(last, w[(i + 2) % 4], 4)), last);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    low = _mm_shuffle_epi32(abef, 0x1b);
    high = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(high, low, 8));
}

#else

bool mqb_sha256_x86_usable(void)
{
    return false;
}

void mqb_sha256_x86_blocks(uint32_t state[8], const uint32_t constants[64], const uint8_t *data, size_t num_blocks)
{
    (void)state, (void)constants, (void)data, (void)num_blocks;
}

#endif
