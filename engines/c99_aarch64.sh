#!/bin/sh
# c99_aarch64.sh - the C99 that mqbench exported, compiled by gcc for AArch64 with dot products, run under qemu.
NEEDS="aarch64-linux-gnu-gcc qemu-aarch64"
COMPILE="aarch64-linux-gnu-gcc -O3 -static -march=armv8.2-a+dotprod"
RUN="qemu-aarch64 -cpu max"
. "$(dirname "$0")/c99.sh"
