#!/bin/sh
# One training step, ours beside PyTorch's, on this machine, in turn: the time, and how many times faster ours is.
#
#   bench/step.sh [ROUNDS]        (default 3; about 20 seconds a round)
#
# Ours: LSQ under the rules of snpe_sim, weights and activations at 4 bits. PyTorch's: the learnable fake quantization of its own
# library on every weight and activation (torch_train.py, from the folder MQBENCH_PEERS or ../shared/peers beside the
# project); of its two memory formats the faster counts. Each run is a process of its own and takes the median of 12
# steps. A busy machine slows PyTorch more than us, so the load is printed: quote figures of an idle one.
#
# Environment: BUILD (build folder, default build), NET BATCH THREADS (resnet20 128 2), MODES ("lsq"; "fp32 lsq" times both),
# COMPUTE (provider, default the best), PYTHON (/usr/bin/python3).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
rounds=${1:-3}
bench=${BUILD:-$root/build}/bench/bench_step
peers=${MQBENCH_PEERS:-$root/../shared/peers}
python=${PYTHON:-/usr/bin/python3}
net=${NET:-resnet20} batch=${BATCH:-128} threads=${THREADS:-2}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $rounds in
'' | *[!0-9]* | 0) echo "step.sh: ROUNDS must be a number from 1 on, not \"$rounds\"" >&2; exit 2 ;;
esac
if [ ! -x "$bench" ]; then
    echo "step.sh: $bench is not there; build the project first, or name the build folder in BUILD" >&2
    exit 2
fi
missing=
if [ ! -f "$peers/torch_train.py" ]; then
    missing="$peers/torch_train.py is not there (name its folder in MQBENCH_PEERS)"
elif ! "$python" -c 'import torch, torchvision' 2>/dev/null; then
    missing="$python has no torch (Debian: apt-get install python3-torch python3-torchvision)"
fi

cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
echo "machine: ${cpu:-unknown CPU}, $(nproc) cores, load $(cut -d ' ' -f 1 /proc/loadavg) before the runs"
[ -z "$missing" ] || echo "PyTorch is left out: $missing"

# Lines "... min A ms, median B ms ..." to "A B"; the smallest median if there are several.
figures() { sed -n 's/.*: min \([0-9.]*\) ms, median \([0-9.]*\) ms.*/\1 \2/p' | sort -n -k 2 | head -n 1; }

# Rounds "A B" to "best median": the least A, the median of B.
summary() {
    sort -n -k 2 "$1" | awk '{ if (NR == 1 || $1 < best) best = $1; median[NR] = $2 }
        END { n = NR; printf "%.1f %.1f\n", best, n % 2 ? median[(n + 1) / 2] : (median[n / 2] + median[n / 2 + 1]) / 2 }'
}

for mode in ${MODES:-lsq}; do
    round=1
    while [ "$round" -le "$rounds" ]; do
        "$bench" "$net" "$batch" "$threads" "$mode" snpe_sim ${COMPUTE:+"$COMPUTE"} >"$work/ours.txt"
        figures <"$work/ours.txt" >>"$work/ours.$mode"
        if [ -z "$missing" ]; then
            (cd "$peers" && PYTHONDONTWRITEBYTECODE=1 "$python" torch_train.py "$net" "$batch" "$threads" "$mode") >"$work/torch.txt"
            figures <"$work/torch.txt" >>"$work/torch.$mode"
        fi
        round=$((round + 1))
    done
    printf '\n%s, batch %s, %s threads, %s, rounds: %s\n' "$net" "$batch" "$threads" "$mode" "$rounds"
    printf '%-10s %12s %12s\n' "" "best, ms" "median, ms"
    # shellcheck disable=SC2046
    set -- $(summary "$work/ours.$mode")
    printf '%-10s %12s %12s\n' mqbench "$1" "$2"
    if [ -z "$missing" ]; then
        ours_best=$1 ours_median=$2
        # shellcheck disable=SC2046
        set -- $(summary "$work/torch.$mode")
        printf '%-10s %12s %12s\n' PyTorch "$1" "$2"
        awk -v a="$1" -v b="$2" -v c="$ours_best" -v d="$ours_median" 'BEGIN { printf "%-10s %11.2fx %11.2fx\n", "ratio", a / c, b / d }'
    fi
done
echo
cat "$work/ours.txt"
