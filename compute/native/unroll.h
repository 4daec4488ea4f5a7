/*
 * unroll.h - loops that must disappear, so that arrays of vectors become registers.
 */
#ifndef NATIVE_UNROLL_H
#define NATIVE_UNROLL_H

#define KERNEL_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define KERNEL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define KERNEL_UNROLL _Pragma("GCC unroll 32")
#endif

#endif
