#!/bin/sh
# c99_clang.sh - the C99 that mqbench exported, compiled by clang for this machine.
NEEDS="clang"
COMPILE="clang -O2"
RUN=""
. "$(dirname "$0")/c99.sh"
