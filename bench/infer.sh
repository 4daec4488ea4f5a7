#!/bin/sh
# Integer inference, ours beside ONNX Runtime's, on this machine, in turn: the same network in the same integers (our program,
# exported as QDQ under fbgemm_x86, is what ONNX Runtime runs).
#
#   bench/infer.sh [ROUNDS]       (default 3; about 10 seconds a network, batch size and round)
#
# Two times a batch: wall clock, and processor time, which other work on the machine disturbs less; each run takes its least and
# its median, and the table shows the median of the rounds. `share` is our share of the machine's limit: PEAK billion
# operations a second and core (2 a multiplication), of processor time.
#
# Environment: BUILD (build folder, default build), BATCHES ("1 32"), THREADS (2), BACKEND (fbgemm_x86), WORDS (options of it;
# default weights=symmetric, because ONNX Runtime has no fast kernels for weights with zero points: ours pay some per cent),
# NETS (default: resnet20 and the ONNX files of MQBENCH_MODELS or ../shared/data/models that take 224x224 images), SECONDS_A_RUN
# (1), PEAK (463: vpdpbusd on 512 bits, one a cycle at 3.6 GHz), ORT_DIR (folder of onnxruntime-node), NODE (node).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
rounds=${1:-3}
bench=${BUILD:-$root/build}/bench/bench_infer
models=${MQBENCH_MODELS:-$root/../shared/data/models}
node=${NODE:-node} threads=${THREADS:-2} backend=${BACKEND:-fbgemm_x86} words=${WORDS-weights=symmetric} seconds=${SECONDS_A_RUN:-1} peak=${PEAK:-463}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $rounds in
'' | *[!0-9]* | 0) echo "infer.sh: ROUNDS must be a number from 1 on, not \"$rounds\"" >&2; exit 2 ;;
esac
if [ ! -x "$bench" ]; then
    echo "infer.sh: $bench is not there; build the project first, or name the build folder in BUILD" >&2
    exit 2
fi
missing=
if ! command -v "$node" >/dev/null; then
    missing="there is no $node"
elif ! "$node" -e 'require(process.env.ORT_DIR || "onnxruntime-node")' 2>/dev/null; then
    missing="$node does not find onnxruntime-node (npm install --ignore-scripts onnxruntime-node, and name its folder in ORT_DIR)"
fi
nets=${NETS:-}
if [ -z "$nets" ]; then
    nets=resnet20
    for file in "$models"/*imagenet*.onnx; do
        [ ! -f "$file" ] || nets="$nets $file"
    done
fi

cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
echo "machine: ${cpu:-unknown CPU}, $(nproc) cores, load $(cut -d ' ' -f 1 /proc/loadavg) before the runs; $threads threads, $backend $words"
[ -z "$missing" ] || echo "ONNX Runtime is left out: $missing"

# The median of column $2 of file $1.
middle() {
    awk -v c="$2" '{ print $c }' "$1" | sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

printf '\n%-28s %5s | %10s %10s %8s %6s | %10s %10s | %7s %7s\n' "network" batch "wall, ms" "cpu, ms" "img/s" share \
    "ORT wall" "ORT cpu" wall cpu
for net in $nets; do
    name=$(basename "$net" .onnx) size=32
    case $net in *imagenet*) size=224 ;; esac
    for batch in ${BATCHES:-1 32}; do
        rm -f "$work"/*.txt
        round=1
        while [ "$round" -le "$rounds" ]; do
            # shellcheck disable=SC2086
            "$bench" "$net" "$batch" "$threads" "$backend" "seconds=$seconds" $words "$work/net.onnx" |
                sed -n 's/.*: min \([0-9.]*\) ms, median \([0-9.]*\) ms, cpu min \([0-9.]*\) ms, median \([0-9.]*\) ms, .* img.s, \([0-9.]*\) GOP.*/\1 \2 \3 \4 \5/p' >>"$work/ours.txt"
            if [ -z "$missing" ]; then
                SIZE=$size "$node" "$root/bench/infer.mjs" "$work/net.onnx" "$batch" "$threads" "$seconds" >>"$work/ort.txt"
            fi
            round=$((round + 1))
        done
        wall=$(middle "$work/ours.txt" 2) used=$(middle "$work/ours.txt" 3) gops=$(middle "$work/ours.txt" 5)
        rate=$(awk -v b="$batch" -v w="$wall" 'BEGIN { printf "%.1f", b / w * 1e3 }')
        share=$(awk -v g="$gops" -v p="$peak" 'BEGIN { printf "%.0f%%", 100 * g / p }')
        if [ -z "$missing" ]; then
            their_wall=$(middle "$work/ort.txt" 2) their_used=$(middle "$work/ort.txt" 3)
            ratios=$(awk -v a="$wall" -v b="$their_wall" -v c="$used" -v d="$their_used" 'BEGIN { printf "%6.2fx %6.2fx", b / a, d / c }')
        else
            their_wall=- their_used=- ratios=
        fi
        printf '%-28.28s %5s | %10.2f %10.2f %8s %6s | %10s %10s | %s\n' "$name" "$batch" "$wall" "$used" "$rate" "$share" \
            "$their_wall" "$their_used" "$ratios"
    done
done
