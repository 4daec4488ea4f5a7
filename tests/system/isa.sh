#!/usr/bin/env bash
# Whole runs (calibration, training, integers, exported files) give the same bits on every instruction set and any number of
# threads: with MQBENCH_ISA, which lowers the convolutions, and on an emulated CPU without AVX-512, which lowers everything.
. "$(dirname "${BASH_SOURCE[0]}")/support.sh"

"$MQBENCH" model resnet20 --size 16 --out "$scratch/residual.onnx" >/dev/null || exit 1
"$MQBENCH" model mobilenet_v2 --size 32 --out "$scratch/depthwise.onnx" >/dev/null || exit 1

# run NAME NETWORK ALGORITHM THREADS [WORD...]: its checkpoint, files and record in $scratch/NAME, by the command WORD... if any.
run() {
    local name=$1 network=$2 algorithm=$3 threads=$4
    shift 4
    mkdir -p "$scratch/$name"
    "$@" "$MQBENCH" --backend fbgemm_x86 --algo "$algorithm" --bits 4 --model "$scratch/$network.onnx" --compute native \
        --dataset synth --train-limit 16 --test-limit 8 --epochs 1 --batch 8 --set recipe.calibration_batches=1 \
        --set recipe.calibration_batch=8 --threads "$threads" --out "$scratch/$name" --json "$scratch/$name/record.json" \
        >/dev/null 2>"$scratch/stderr" || { cat "$scratch/stderr"; return 1; }
}

# same NAME OTHER: both runs left the same files, and the same record but for the instruction set.
same() {
    local file
    for file in checkpoint.mqb weights.bin qparams.json; do
        check test -s "$scratch/$1/$file"
        check cmp "$scratch/$1/$file" "$scratch/$2/$file"
    done
    for file in "$scratch/$1"/*.onnx; do
        check cmp "$file" "$scratch/$2/${file##*/}"
    done
    strip "$scratch/$1/record.json" | grep -v '"isa":' >"$scratch/a.txt"
    strip "$scratch/$2/record.json" | grep -v '"isa":' >"$scratch/b.txt"
    check test "$(wc -l <"$scratch/a.txt")" -gt 300
    check diff "$scratch/a.txt" "$scratch/b.txt"
    echo "$1 ($(sed -n 's/.*"isa": "\(.*\)".*/\1/p' "$scratch/$1/record.json" | head -1)) and" \
        "$2 ($(sed -n 's/.*"isa": "\(.*\)".*/\1/p' "$scratch/$2/record.json" | head -1)) compared"
}

for network in residual depthwise; do
    check run $network-best $network lsq 1 env -u MQBENCH_ISA
    check run $network-avx512 $network lsq 3 env MQBENCH_ISA=avx512
    check run $network-avx2 $network lsq 2 env MQBENCH_ISA=avx2
    check run $network-scalar $network lsq 1 env MQBENCH_ISA=scalar
    for isa in avx512 avx2 scalar; do
        same $network-best $network-$isa
    done
done
check grep -q '"isa": "scalar"' "$scratch/residual-scalar/record.json"

# MQBENCH_ISA lowers the kernels, not the choice of the provider
for isa in avx512 avx2 scalar; do
    MQBENCH_ISA=$isa "$MQBENCH" list >"$scratch/list-$isa.txt"
    check cmp <(grep -o 'score [0-9]*' "$scratch/list-avx512.txt") <(grep -o 'score [0-9]*' "$scratch/list-$isa.txt")
done

if command -v qemu-x86_64 >/dev/null && ! ldd "$MQBENCH" | grep -q 'lib[a-z]*san'; then
    for algorithm in lsq dsq; do
        check run here-$algorithm residual $algorithm 1
        check run emulated-$algorithm residual $algorithm 1 qemu-x86_64 -cpu Haswell
        check grep -q '"isa": "avx2"' "$scratch/emulated-$algorithm/record.json"
        same here-$algorithm emulated-$algorithm
    done
else
    echo "qemu-x86_64 (Debian: qemu-user) is missing, or this is a build with sanitizers: no emulated CPU is tried"
fi

finish
