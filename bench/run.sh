#!/bin/sh
# Times of this project beside other systems', in turn, on this machine.
#
#   bench/run.sh [GROUP...]        groups: step infer calibrate start (default: all)
#
# step       a training step, FP32 and LSQ 4/4 under the rules of snpe_sim, beside PyTorch (torch_train.py fp32 and lsq)
# infer      inference in integers under the rules of fbgemm_x86, and in FP32, beside ONNX Runtime (ort_infer.mjs)
# calibrate  post-training calibration beside the FP32 forward pass over the same images
# start      `mqbench list` beside importing PyTorch; loading a network and 50 000 images
#
# Prints best and median, how many times faster ours is, the share of the machine's limit, peak memory; writes bench/results/DATE.json
# and a chart for each group, bench/results/DATE-GROUP.svg. What another system needs and is not there is left out with a word.
#
# Environment: BUILD (build folder, default build), MQBENCH_PEERS (folder of torch_train.py, ort_infer.mjs, export_onnx.py; default
# ../shared/peers beside the project), ORT_DIR (of onnxruntime-node), PYTHON (/usr/bin/python3), DATA (folder with cifar10/),
# ROUNDS (3), STEPS (5 a round), THREADS (2), NETS (rows whose network is named; default all), RESULTS (bench/results).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$root/build}
peers=${MQBENCH_PEERS:-$root/../shared/peers}
data=${DATA:-$root/../shared/data}
python=${PYTHON:-/usr/bin/python3}
rounds=${ROUNDS:-3} steps=${STEPS:-5} threads=${THREADS:-2}
results=${RESULTS:-$root/bench/results}
mqbench=$build/bin/mqbench
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
date=$(date +%Y-%m-%d-%H%M%S)

if [ ! -x "$mqbench" ] || [ ! -x "$build/bench/bench_spawn" ]; then
    echo "run.sh: $build has no bin/mqbench and bench/bench_spawn; build the project first, or name the build folder in BUILD" >&2
    exit 2
fi
torch='' ort='' export=''
if [ ! -f "$peers/torch_train.py" ]; then
    torch="$peers/torch_train.py is not there (name its folder in MQBENCH_PEERS)"
elif ! "$python" -c 'import torch, torchvision' 2>/dev/null; then
    torch="$python has no torch (Debian: apt-get install python3-torch python3-torchvision)"
fi
if [ ! -f "$peers/ort_infer.mjs" ]; then
    ort="$peers/ort_infer.mjs is not there (name its folder in MQBENCH_PEERS)"
elif ! command -v node >/dev/null || [ ! -d "${ORT_DIR:-}" ]; then
    ort="no node, or ORT_DIR does not name the folder of onnxruntime-node"
fi
export=$torch
[ -z "$export" ] && ! "$python" -c 'import onnx' 2>/dev/null && export="$python has no onnx (Debian: apt-get install python3-onnx)"

# ---- figures ----

# "... min A ms, median B ms ..." to "A B", the smallest median of several; a file of "A B" to "best median".
figures() { sed -n 's/.*min \([0-9.]*\) ms, median \([0-9.]*\) ms.*/\1 \2/p' | sort -n -k 2 | head -n 1; }
summary() {
    [ -s "$1" ] || { echo "- -"; return; }
    sort -n -k 2 "$1" | awk '{ if (NR == 1 || $1 < best) best = $1; median[NR] = $2 }
        END { n = NR; printf "%.2f %.2f\n", best, n % 2 ? median[(n + 1) / 2] : (median[n / 2] + median[n / 2 + 1]) / 2 }'
}
# The first number of a key in a profile.
field() { awk -v key="\"$2\":" '$1 == key { gsub(/,/, "", $2); print $2; exit }' "$1"; }

# One round of ours: mqbench profile with the words given. Appends to $work/ours; keeps memory and share of the limit.
ours() {
    "$mqbench" profile --threads "$threads" --steps "$steps" "$@" --json "$work/profile.json" >"$work/screen.txt"
    echo "$(field "$work/profile.json" min) $(field "$work/profile.json" median)" >>"$work/ours"
    ours_memory=$(field "$work/profile.json" peak_rss_bytes | awk '{ printf "%.0f", $1 / 1e6 }')
    limit=$(field "$work/profile.json" share_of_limit | awk '{ printf "%.0f", 100 * $1 }')
}

# One round of another system's: a command that prints min and median. Appends to $work/other; keeps its memory.
other() {
    if ! "$build/bench/bench_spawn" 1 "$@" >"$work/other.txt" 2>"$work/spawned.txt"; then
        tail -n 3 "$work/spawned.txt" >&2
        return 0
    fi
    figures <"$work/other.txt" >>"$work/other"
    other_memory=$(sed -n 's/.*memory \([0-9]*\).*MB/\1/p' "$work/spawned.txt")
}

begin() { : >"$work/ours"; : >"$work/other"; ours_memory=- other_memory=- limit=-; }

# row GROUP NAME OTHER'S-NAME UNIT GOAL: from $work/ours and $work/other. GOAL: times faster than the other, at least; or -.
row() {
    printf '%s|%s|%s|%s|%s|%s|%s|%s|%s|%s\n' "$1" "$2" "$3" "$4" "$5" "$(summary "$work/ours")" "$(summary "$work/other")" \
        "$ours_memory" "$other_memory" "$limit" >>"$work/rows"
    tail -n 1 "$work/rows" | awk -F '|' '{ split($6, a, " "); split($7, b, " ")
        ratio = (b[2] > 0) ? sprintf("%.2fx", b[2] / a[2]) : "-"
        goal = ($5 == "-") ? "-" : $5 "x"
        limit = ($10 == "-") ? "-" : $10 " %"
        printf "%-34s %9s %9s  %-16s %9s %9s  %7s %6s  %6s %6s  %5s\n", $2, a[1], a[2], $3, b[1], b[2], ratio, goal, $8, $9, limit }'
}

head_line() {
    printf '\n%s\n%-34s %9s %9s  %-16s %9s %9s  %7s %6s  %6s %6s  %5s\n' "$1" "" "best, ms" "median" "beside" "best, ms" "median" \
        "ratio" "goal" "MB" "MB" "limit"
}

# ---- networks ----

# model NET SIZE CLASSES: its file in $model, or a word why not and false.
model() {
    model=$work/$1.onnx
    [ -f "$model" ] && return 0
    "$mqbench" list models | grep -qx "  $1" || { echo "$1 is left out: mqbench builds no network of that name"; return 1; }
    "$mqbench" model "$1" --size "$2" --classes "$3" --out "$model" >/dev/null
}
wanted() { [ -z "${NETS:-}" ] || case " $NETS " in *" $1 "*) ;; *) return 1 ;; esac; }

# ---- groups ----

# our name, PyTorch's name, size, classes, batch, goal (LSQ beside the lsq script), goal (FP32)
step_nets='resnet20 resnet20 32 10 128 2.8 1.5
resnet18 resnet18 224 1000 16 2.2 1.5
mobilenet_v2 mobilenet_v2 224 1000 16 4.9 1.5'

group_step() {
    head_line "training step"
    [ -z "$torch" ] || echo "PyTorch is left out: $torch"
    echo "$step_nets" >"$work/nets"
    while read -r net peer size classes batch goal goal_fp32 <&3; do
        wanted "$net" || continue
        model "$net" "$size" "$classes" || continue
        for mode in lsq fp32; do
            begin
            round=0
            while [ $((round += 1)) -le "$rounds" ]; do
                if [ $mode = lsq ]; then
                    ours --model "$model" --batch "$batch" --backend snpe_sim --algo lsq --bits 4
                else
                    ours --model "$model" --batch "$batch" --fp32
                fi
                [ -n "$torch" ] || (cd "$peers" && PYTHONDONTWRITEBYTECODE=1 && export PYTHONDONTWRITEBYTECODE &&
                    other "$python" torch_train.py "$peer" "$batch" "$threads" $mode; echo "$other_memory" >"$work/memory")
                [ -n "$torch" ] || other_memory=$(cat "$work/memory")
            done
            row step "$net, batch $batch, $mode" PyTorch ms "$([ $mode = lsq ] && echo "$goal" || echo "$goal_fp32")"
        done
    done 3<"$work/nets"
}

# our name, PyTorch's name, size, classes, batch, goal (integers)
infer_nets='resnet20 resnet20 32 10 128 1.28
resnet18 resnet18 224 1000 1 1.25
resnet18 resnet18 224 1000 32 1.25
resnet50 resnet50 224 1000 1 1.25
resnet50 resnet50 224 1000 32 1.25
mobilenet_v2 mobilenet_v2 224 1000 1 1.26
mobilenet_v2 mobilenet_v2 224 1000 32 1.25'

group_infer() {
    head_line "inference"
    [ -z "$ort" ] || echo "ONNX Runtime is left out: $ort"
    [ -n "$ort" ] || [ -z "$export" ] || echo "ONNX Runtime's integers are left out: $export"
    echo "$infer_nets" >"$work/nets"
    while read -r net peer size classes batch goal <&3; do
        wanted "$net" || continue
        model "$net" "$size" "$classes" || continue
        if [ -z "$ort$export" ] && [ ! -f "$work/$peer"_u8.onnx ]; then
            (cd "$peers" && PYTHONDONTWRITEBYTECODE=1 "$python" export_onnx.py "$peer" "$work/export" >/dev/null 2>&1) || true
            [ ! -f "$work/export/${peer}_u8.onnx" ] || mv "$work/export/${peer}_u8.onnx" "$work/"
        fi
        for mode in integer fp32; do
            file=$model
            [ $mode = fp32 ] || file=$work/${peer}_u8.onnx
            begin
            round=0
            while [ $((round += 1)) -le "$rounds" ]; do
                if [ $mode = integer ]; then
                    ours --infer --model "$model" --batch "$batch" --backend fbgemm_x86 --algo ptq_minmax
                else
                    ours --infer --model "$model" --batch "$batch" --fp32
                fi
                [ -n "$ort" ] || [ ! -f "$file" ] || other node "$peers/ort_infer.mjs" "$file" "$size" "$batch" "$threads"
            done
            row infer "$net, batch $batch, $mode" "ONNX Runtime" ms "$([ $mode = integer ] && echo "$goal" || echo 1)"
        done
    done 3<"$work/nets"
}

# our name, size, classes, images, batch
calibrate_nets='resnet20 32 10 256 64
resnet18 224 1000 64 16'

# Here the other is the forward pass, and the goal the most that calibration may take of it: less than 1 is not to be had.
group_calibrate() {
    head_line "calibration beside the FP32 forward pass (times by the CPU; a ratio of 1/1.3 = 0.77 or 1/2 = 0.5 is the goal)"
    echo "$calibrate_nets" >"$work/nets"
    while read -r net size classes images batch <&3; do
        wanted "$net" || continue
        model "$net" "$size" "$classes" || continue
        "$build/bench/bench_calibrate" "$model" "$images" "$batch" "$threads" |
            sed -n 's/^\([a-z_]*\): .*CPU: \([0-9.]*\) ms, \([0-9.]*\) ms.*/\1 \2 \3/p' >"$work/calibration"
        while read -r algorithm forward calibration; do
            begin
            echo "$calibration $calibration" >"$work/ours"
            echo "$forward $forward" >"$work/other"
            row calibrate "$net, $images images, $algorithm" "FP32 forward" ms "$([ "$algorithm" = ptq_minmax ] && echo 0.77 || echo 0.5)"
        done <"$work/calibration"
    done 3<"$work/nets"
}

# fixed NAME MS: a row whose goal is a time.
fixed() {
    echo "$2 $2" >"$work/other"
    row start "$1" goal ms 1
}

group_start() {
    head_line "start and load"
    begin
    "$build/bench/bench_spawn" 20 "$mqbench" list 2>"$work/spawned.txt"
    figures <"$work/spawned.txt" >>"$work/ours"
    ours_memory=$(sed -n 's/.*memory \([0-9.]*\) MB/\1/p' "$work/spawned.txt")
    fixed "mqbench list (and at most 10 MB)" 20
    if [ -z "$torch" ]; then
        : >"$work/other"
        other_memory=-
        "$build/bench/bench_spawn" 3 "$python" -c 'import torch' 2>"$work/spawned.txt"
        figures <"$work/spawned.txt" >>"$work/other"
        other_memory=$(sed -n 's/.*memory \([0-9]*\).*MB/\1/p' "$work/spawned.txt")
        row start "mqbench list" "import torch" ms -
    fi
    for net in resnet50 resnet18 resnet110; do
        "$mqbench" list models | grep -qx "  $net" || continue
        size=224 classes=1000
        [ $net != resnet110 ] || size=32 classes=10
        begin
        model $net $size $classes
        "$build/bench/bench_load" "$model" | figures >"$work/ours"
        fixed "$net from ONNX" 100
        break
    done
    cifar=$data/cifar10
    if [ -f "$cifar/data_batch_1.bin" ] && [ -f "$cifar/data_batch_2.bin" ]; then
        begin
        a=$cifar/data_batch_1.bin b=$cifar/data_batch_2.bin
        "$build/bench/bench_load" "cifar10:train=$a+$b+$a+$b+$a,test=$a" | figures >"$work/ours"
        fixed "60 000 CIFAR-10 images" 1000
    else
        echo "CIFAR-10 is left out: $cifar has no data_batch_1.bin (name its folder in DATA)"
    fi
}

# ---- what is kept ----

# A bar a row: how many times faster than the other; a mark at the goal.
chart() {
    awk -F '|' -v group="$1" '
        function number(x) { return x == "-" ? 0 : x + 0 }
        $1 == group { split($6, a, " "); split($7, b, " "); if (number(b[2]) > 0 && number(a[2]) > 0) {
            n++; name[n] = $2; other[n] = $3; ratio[n] = b[2] / a[2]; goal[n] = number($5)
            if (ratio[n] > most) most = ratio[n]; if (goal[n] > most) most = goal[n] } }
        END {
            if (n == 0) exit
            left = 300; width = 480; unit = width / (most * 1.1)
            printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"13\">\n",
                left + width + 20, 26 * n + 60
            printf "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n<text x=\"10\" y=\"22\" font-size=\"15\">%s: how many times faster</text>\n", group
            for (i = 1; i <= n; i++) {
                y = 14 + 26 * i
                printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left - 8, y + 13, name[i]
                printf "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"18\" fill=\"%s\"/>\n", left, y, ratio[i] * unit,
                    ((goal[i] > 0 && ratio[i] < goal[i]) ? "#d9822b" : "#2b7bba")
                printf "<text x=\"%.1f\" y=\"%d\">%.2fx %s</text>\n", left + ratio[i] * unit + 5, y + 13, ratio[i], other[i]
                if (goal[i] > 0)
                    printf "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"black\" stroke-width=\"2\"/>\n", left + goal[i] * unit,
                        left + goal[i] * unit, y - 2, y + 20
            }
            printf "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"34\" y2=\"%d\" stroke=\"gray\" stroke-dasharray=\"4 3\"/>\n", left + unit, left + unit, y + 24
            printf "<text x=\"10\" y=\"%d\" fill=\"gray\">dashed: as fast as the other; black marks: goals</text>\n</svg>\n", y + 40
        }' "$work/rows" >"$results/$date-$1.svg"
    [ -s "$results/$date-$1.svg" ] || rm -f "$results/$date-$1.svg"
}

record() {
    awk -F '|' -v cpu="$cpu" -v cores="$(nproc)" -v before="$load" -v after="$(cut -d ' ' -f 1 /proc/loadavg)" -v date="$date" \
        -v threads="$threads" -v rounds="$rounds" '
        function value(x) { return x == "-" || x == "" ? "null" : x }
        BEGIN { gsub(/["\\]/, "", cpu)
            printf "{\n  \"schema\": \"mqbench.bench/1\",\n  \"date\": \"%s\",\n  \"cpu\": \"%s\",\n  \"cores\": %d,\n  \"threads\": %d,\n", date, cpu, cores, threads
            printf "  \"rounds\": %d,\n  \"load_before\": %s,\n  \"load_after\": %s,\n  \"rows\": [", rounds, before, after }
        { split($6, a, " "); split($7, b, " ")
            printf "%s\n    {\"group\": \"%s\", \"row\": \"%s\", \"best_ms\": %s, \"median_ms\": %s, \"beside\": \"%s\", \"beside_best_ms\": %s, \"beside_median_ms\": %s, ",
                ((NR > 1) ? "," : ""), $1, $2, value(a[1]), value(a[2]), $3, value(b[1]), value(b[2])
            ratio = (b[2] > 0 && a[2] > 0) ? sprintf("%.3f", b[2] / a[2]) : "null"
            printf "\"ratio\": %s, \"goal\": %s, \"peak_mb\": %s, \"beside_peak_mb\": %s, \"limit_percent\": %s}",
                ratio, value($5), value($8), value($9), value($10) }
        END { print "\n  ]\n}" }' "$work/rows" >"$results/$date.json"
}

groups=${*:-step infer calibrate start}
for group in $groups; do
    case $group in
    step | infer | calibrate | start) ;;
    *) echo "run.sh: there is no group \"$group\"; the groups are step, infer, calibrate, start" >&2; exit 2 ;;
    esac
done
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
load=$(cut -d ' ' -f 1 /proc/loadavg)
echo "machine: ${cpu:-unknown CPU}, $(nproc) cores, load $load before the runs; $threads threads, rounds: $rounds"
mkdir -p "$results"
: >"$work/rows"
for group in $groups; do
    "group_$group"
    chart "$group"
done
record
echo
echo "$results/$date.json"
