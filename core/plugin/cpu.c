/* cpu.c - asks the machine for CPU features by name. */
#include "plugin/cpu.h"
#include "base/base.h"

#include <string.h>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

struct feature {
    const char *name;
    bool (*test)(void);
};

#if defined(__x86_64__) || defined(__i386__)
/* clang-format off: a row a feature. The builtin takes a literal only, hence a function each. Both compilers know these. */
#define X86_FEATURES(X)                   \
    X(sse, "sse")                         \
    X(sse2, "sse2")                       \
    X(sse3, "sse3")                       \
    X(ssse3, "ssse3")                     \
    X(sse41, "sse4.1")                    \
    X(sse42, "sse4.2")                    \
    X(popcnt, "popcnt")                   \
    X(aes, "aes")                         \
    X(pclmul, "pclmul")                   \
    X(avx, "avx")                         \
    X(avx2, "avx2")                       \
    X(fma, "fma")                         \
    X(bmi, "bmi")                         \
    X(bmi2, "bmi2")                       \
    X(gfni, "gfni")                       \
    X(vpclmulqdq, "vpclmulqdq")           \
    X(avx512f, "avx512f")                 \
    X(avx512cd, "avx512cd")               \
    X(avx512bw, "avx512bw")               \
    X(avx512dq, "avx512dq")               \
    X(avx512vl, "avx512vl")               \
    X(avx512ifma, "avx512ifma")           \
    X(avx512vbmi, "avx512vbmi")           \
    X(avx512vbmi2, "avx512vbmi2")         \
    X(avx512vnni, "avx512vnni")           \
    X(avx512bitalg, "avx512bitalg")       \
    X(avx512vpopcntdq, "avx512vpopcntdq") \
    X(avx512bf16, "avx512bf16")
/* clang-format on */
#define DEFINE_TEST(id, name)                                                                                                  \
    static bool has_##id(void)                                                                                                 \
    {                                                                                                                          \
        return __builtin_cpu_supports(name) != 0;                                                                              \
    }
#define TABLE_ROW(id, name) {name, has_##id},
X86_FEATURES(DEFINE_TEST)
static const struct feature features[] = {X86_FEATURES(TABLE_ROW){"bmi1", has_bmi}, {"pni", has_sse3}};
#elif defined(__aarch64__) && defined(__linux__)
/* Bits of the kernel's interface (asm/hwcap.h); they never change. */
#define ARM_FEATURES(X)                                                                                                        \
    X(fp, 0) X(asimd, 1) X(aes, 3) X(atomics, 8) X(fphp, 9) X(asimdhp, 10) X(asimdrdm, 12) X(asimddp, 20) X(sve, 22)
#define DEFINE_TEST(id, bit)                                                                                                   \
    static bool has_##id(void)                                                                                                 \
    {                                                                                                                          \
        return (getauxval(AT_HWCAP) >> (bit)) & 1u;                                                                            \
    }
#define TABLE_ROW(id, bit) {#id, has_##id},
ARM_FEATURES(DEFINE_TEST)
static const struct feature features[] = {ARM_FEATURES(TABLE_ROW){"neon", has_asimd}};
#else
static bool has_generic(void)
{
    return true;
}
static const struct feature features[] = {{"generic", has_generic}};
#endif

#define NUM_FEATURES (sizeof(features) / sizeof(features[0]))

/* Equal but for '.' and '_', which the compilers and the kernel place differently. */
static bool same_name(const char *known, const char *name, size_t length)
{
    const char *end = name + length;
    for (;;) {
        while (*known == '.' || *known == '_') {
            known++;
        }
        while (name < end && (*name == '.' || *name == '_')) {
            name++;
        }
        if (*known == '\0' || name == end) {
            return *known == '\0' && name == end;
        }
        if (*known++ != *name++) {
            return false;
        }
    }
}

enum mqb_cpu_answer mqb_cpu_has(const char *name, size_t length)
{
    for (size_t i = 0; i < NUM_FEATURES; i++) {
        if (same_name(features[i].name, name, length)) {
            return features[i].test() ? MQB_CPU_HAS : MQB_CPU_LACKS;
        }
    }
    return MQB_CPU_UNKNOWN_NAME;
}

const char *mqb_cpu_nearest(const char *name)
{
    const char *names[NUM_FEATURES];
    for (size_t i = 0; i < NUM_FEATURES; i++) {
        names[i] = features[i].name;
    }
    return mqb_nearest(name, names, NUM_FEATURES);
}
