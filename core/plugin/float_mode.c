/* float_mode.c - reads and restores the floating-point control word. */
#include "plugin/float_mode.h"

#include <stdio.h>

#if defined(__x86_64__) || (defined(__i386__) && defined(__SSE__))
#define MXCSR_FLAGS 0x3fu
#define MXCSR_FLUSH_TO_ZERO 0x8000u
#define MXCSR_DENORMALS_ARE_ZERO 0x0040u

struct mqb_float_mode mqb_float_mode_get(void)
{
    uint16_t control;
    __asm__ volatile("fnstcw %0" : "=m"(control));
    struct mqb_float_mode mode = {{__builtin_ia32_stmxcsr() & ~MXCSR_FLAGS, control}};
    return mode;
}

void mqb_float_mode_set(struct mqb_float_mode mode)
{
    uint16_t control = (uint16_t)mode.word[1];
    __builtin_ia32_ldmxcsr((uint32_t)mode.word[0]);
    __asm__ volatile("fldcw %0" : : "m"(control));
}

void mqb_float_mode_describe(struct mqb_float_mode before, struct mqb_float_mode after, char *text, size_t text_size)
{
    uint64_t on = after.word[0] & ~before.word[0];
    const char *what = "the rounding or trap mode was changed";
    if ((on & MXCSR_FLUSH_TO_ZERO) && (on & MXCSR_DENORMALS_ARE_ZERO)) {
        what = "flush-to-zero and denormals-are-zero were turned on";
    } else if (on & MXCSR_FLUSH_TO_ZERO) {
        what = "flush-to-zero was turned on";
    } else if (on & MXCSR_DENORMALS_ARE_ZERO) {
        what = "denormals-are-zero was turned on";
    }
    snprintf(text, text_size, "%s (MXCSR 0x%04x to 0x%04x, x87 control word 0x%04x to 0x%04x)", what, (unsigned)before.word[0],
             (unsigned)after.word[0], (unsigned)before.word[1], (unsigned)after.word[1]);
}
#elif defined(__aarch64__)
struct mqb_float_mode mqb_float_mode_get(void)
{
    struct mqb_float_mode mode = {{0, 0}};
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode.word[0]));
    return mode;
}

void mqb_float_mode_set(struct mqb_float_mode mode)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(mode.word[0]));
}

void mqb_float_mode_describe(struct mqb_float_mode before, struct mqb_float_mode after, char *text, size_t text_size)
{
    const char *what = ((after.word[0] & ~before.word[0]) >> 24) & 1u ? "flush-to-zero was turned on" : "the mode was changed";
    snprintf(text, text_size, "%s (FPCR 0x%08llx to 0x%08llx)", what, (unsigned long long)before.word[0],
             (unsigned long long)after.word[0]);
}
#else
#include <fenv.h>

struct mqb_float_mode mqb_float_mode_get(void)
{
    struct mqb_float_mode mode = {{(uint64_t)fegetround(), 0}};
    return mode;
}

void mqb_float_mode_set(struct mqb_float_mode mode)
{
    fesetround((int)mode.word[0]);
}

void mqb_float_mode_describe(struct mqb_float_mode before, struct mqb_float_mode after, char *text, size_t text_size)
{
    snprintf(text, text_size, "the rounding mode was changed from %d to %d", (int)before.word[0], (int)after.word[0]);
}
#endif

bool mqb_float_mode_equal(struct mqb_float_mode a, struct mqb_float_mode b)
{
    return a.word[0] == b.word[0] && a.word[1] == b.word[1];
}
