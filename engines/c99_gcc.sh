#!/bin/sh
# c99_gcc.sh - the C99 that mqbench exported, compiled by gcc for this machine.
NEEDS="gcc"
COMPILE="gcc -O2"
RUN=""
. "$(dirname "$0")/c99.sh"
