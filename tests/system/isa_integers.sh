#!/usr/bin/env bash
# The integer program of every backend gives the same logits on every instruction set: as it comes, with MQBENCH_ISA lowered,
# and on an emulated CPU without AVX-512. A residual network and one with depthwise convolutions, both small.
. "$(dirname "${BASH_SOURCE[0]}")/support.sh"

"$MQBENCH" model resnet20 --size 8 --out "$scratch/residual.onnx" >/dev/null || exit 1
"$MQBENCH" model mobilenet_v2 --size 32 --out "$scratch/depthwise.onnx" >/dev/null || exit 1

# logits NETWORK BACKEND [WORD...]: what the profile says of them, by the command WORD... if any.
logits() {
    local network=$1 backend=$2
    shift 2
    "$@" "$MQBENCH" profile --infer --backend "$backend" --algo ptq_minmax --model "$scratch/$network.onnx" --compute native \
        --batch 2 --threads 1 --steps 1 2>/dev/null | sed -n 's/^logits *\([0-9a-f]*\) .*/\1/p'
}

emulator=$(command -v qemu-x86_64)
if [ "$(uname -m)" != x86_64 ] || ldd "$MQBENCH" | grep -q 'lib[a-z]*san'; then
    emulator=
    echo "emulation left out: it cannot run this build"
elif [ -z "$emulator" ]; then
    echo "emulation left out: there is no qemu-x86_64 (Debian: apt-get install qemu-user)"
fi
for network in residual depthwise; do
    for backend in fbgemm_x86 tensorrt_sim acl_sim snpe_sim tvm_arm; do
        want=$(logits $network $backend env -u MQBENCH_ISA)
        check test -n "$want"
        for isa in avx2 scalar; do
            check test "$network $backend $isa $(logits $network $backend env MQBENCH_ISA=$isa)" = "$network $backend $isa $want"
        done
        if [ -n "$emulator" ]; then
            check test "$network $backend Haswell $(logits $network $backend "$emulator" -cpu Haswell)" = \
                "$network $backend Haswell $want"
        fi
    done
done
finish
