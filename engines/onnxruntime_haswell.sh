#!/bin/sh
# onnxruntime.mjs on an emulated CPU that has AVX2 and no VNNI, where ONNX Runtime saturates pairs of u8 x s8 products to 16 bits.
#
#   onnxruntime_haswell.sh check               the engine's name, or why it cannot be used here (exit code 77)
#   onnxruntime_haswell.sh run FILE LEVEL DIR  as onnxruntime.mjs
set -u
command -v qemu-x86_64 >/dev/null || { echo "qemu-x86_64 is not installed (package qemu-user)"; exit 77; }
command -v node >/dev/null || { echo "node is not installed"; exit 77; }
[ "$(uname -m)" = x86_64 ] || { echo "emulated is another CPU of this kind, and this is no x86-64"; exit 77; }
# Without the features that the emulator lacks and warns of, and without code made at run time, which it is slow with.
MQBENCH_EMULATED=Haswell exec qemu-x86_64 -cpu Haswell,-pcid,-x2apic,-tsc-deadline,-hle,-invpcid,-rtm \
    "$(command -v node)" --jitless --no-expose-wasm "$(dirname "$0")/onnxruntime.mjs" "$@"
