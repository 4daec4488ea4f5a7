#!/bin/sh
# Times of this project beside other systems', in turn, on this machine.
#
#   bench/run.sh [GROUP...]        groups: step infer calibrate start (default: all)
#
# step       a training step, FP32 and LSQ 4/4 under the rules of snpe_sim, beside PyTorch (torch_train.py fp32 and lsq), beside
#            our own FP32 step, beside one thread, and with another busy process; peak memory
# infer      inference in integers under the rules of fbgemm_x86, and in FP32, beside ONNX Runtime (ort_infer.mjs); one thread;
#            the integers of the other backends beside fbgemm_x86
# calibrate  post-training calibration beside the FP32 forward pass over the same images
# start      `mqbench list`; loading a network and 50 000 images; decoding JPEGs beside training on them
#
# A row has best and median by the clock, the processor time of all threads (the other system's on one thread, measured once: a busy
# machine changes it little), how many times faster ours is by each, the goal, peak memory, and our share of the machine's limit.
# Writes bench/results/DATE.json and a chart for each group, DATE-GROUP.svg. What another system needs and is not there
# is left out with a word.
#
# Environment: BUILD (build folder, default build), MQBENCH_PEERS (folder of torch_train.py, ort_infer.mjs, export_onnx.py; default
# ../shared/peers beside the project), ORT_DIR (of onnxruntime-node), PYTHON (/usr/bin/python3), DATA (folder with cifar10/ and
# imagenet/, default ../shared/data), ROUNDS (3), STEPS (5 a round), THREADS (2), NETS (rows of these networks; default all),
# PEERS (no: leaves the other systems out), RESULTS (bench/results).
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$root/build}
peers=${MQBENCH_PEERS:-$root/../shared/peers}
data=${DATA:-$root/../shared/data}
python=${PYTHON:-/usr/bin/python3}
rounds=${ROUNDS:-3} steps=${STEPS:-5} threads=${THREADS:-2} modes=${MODES:-lsq fp32 own}
results=${RESULTS:-$root/bench/results}
mqbench=$build/bin/mqbench
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
date=$(date +%Y-%m-%d-%H%M%S)
PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE

if [ ! -x "$mqbench" ] || [ ! -x "$build/bench/bench_spawn" ]; then
    echo "run.sh: $build has no bin/mqbench and bench/bench_spawn; build the project first, or name the build folder in BUILD" >&2
    exit 2
fi
torch='' ort=''
if [ "${PEERS:-}" = no ]; then
    torch="PEERS=no" ort="PEERS=no"
elif [ ! -f "$peers/torch_train.py" ]; then
    torch="$peers/torch_train.py is not there (name its folder in MQBENCH_PEERS)"
elif ! "$python" -c 'import torch, torchvision' 2>/dev/null; then
    torch="$python has no torch (Debian: apt-get install python3-torch python3-torchvision)"
fi
if [ -n "$ort" ]; then
    :
elif [ ! -f "$peers/ort_infer.mjs" ]; then
    ort="$peers/ort_infer.mjs is not there (name its folder in MQBENCH_PEERS)"
elif ! command -v node >/dev/null || [ ! -d "${ORT_DIR:-}" ]; then
    ort="no node, or ORT_DIR does not name the folder of onnxruntime-node"
fi
export=$torch
[ -n "$export" ] || "$python" -c 'import onnx' 2>/dev/null || export="$python has no onnx (Debian: apt-get install python3-onnx)"

# The other systems' scripts read one clock; these make it the processor's.
cat >"$work/cpu.py" <<'END'
import runpy, sys, time
time.perf_counter = time.process_time
sys.path.insert(0, "")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
END
echo 'performance.now = () => { const used = process.cpuUsage(); return (used.user + used.system) / 1e3; };' >"$work/cpu.cjs"

# ---- figures ----

# A side of a row is a file of rounds, "best median", and beside it SIDE.cpu (ms) and SIDE.mb, if known.
begin() { rm -f "$work"/ours* "$work"/other* "$work"/limit; }

# "... min A ms, median B ms ..." to "A B", the smallest median of several.
figures() { sed -n 's/.*min \([0-9.]*\) ms, median \([0-9.]*\) ms.*/\1 \2/p' | sort -n -k 2 | head -n 1; }

# A side's file to "best median": the least, and the median of the rounds' medians.
summary() {
    [ -s "$1" ] || { echo "- -"; return; }
    sort -n -k 2 "$1" | awk '{ if (NR == 1 || $1 < best) best = $1; median[NR] = $2 }
        END { n = NR; printf "%.2f %.2f\n", best, n % 2 ? median[(n + 1) / 2] : (median[n / 2] + median[n / 2 + 1]) / 2 }'
}
known() { if [ -s "$1" ]; then tail -n 1 "$1"; else echo -; fi; }

# The first number of a key in a profile.
field() { awk -v key="\"$2\":" '$1 == key { gsub(/,/, "", $2); print $2; exit }' "$1"; }

# profile SIDE THREADS STEPS WORDS...: one round of ours.
profile() {
    side=$work/$1 on=$2 measured=$3
    shift 3
    "$mqbench" profile --threads "$on" --steps "$measured" "$@" --json "$work/profile.json" >/dev/null
    echo "$(field "$work/profile.json" min) $(field "$work/profile.json" median)" >>"$side"
    field "$work/profile.json" cpu_ms >>"$side.cpus"
    sort -n "$side.cpus" | awk '{ v[NR] = $1 } END { printf "%.2f\n", v[int((NR + 1) / 2)] }' >"$side.cpu"
    field "$work/profile.json" peak_rss_bytes | awk '{ printf "%.0f\n", $1 / 1e6 }' >"$side.mb"
    field "$work/profile.json" share_of_limit | awk '{ printf "%.0f\n", 100 * $1 }' >"$work/limit"
}

# spawn SIDE COMMAND...: one round of a command that prints its own min and median; and its memory.
spawn() {
    side=$work/$1
    shift
    if ! "$build/bench/bench_spawn" 1 "$@" >"$work/words" 2>"$work/spawned"; then
        tail -n 3 "$work/spawned" >&2
        return 0
    fi
    figures <"$work/words" >>"$side"
    sed -n 's/.*memory \([0-9]*\).*MB/\1/p' "$work/spawned" >"$side.mb"
}
cpu_of() { "$@" 2>/dev/null | figures | cut -d ' ' -f 2 >"$work/other.cpu" || true; }

# row GROUP NAME OTHER UNIT GOAL: what was measured. GOAL: times faster (or smaller) than the other, at least; or -.
row() {
    [ -s "$work/ours" ] || return 0
    printf '%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s|%s\n' "$1" "$2" "$3" "$4" "$5" "$(summary "$work/ours")" "$(known "$work/ours.cpu")" \
        "$(known "$work/ours.mb")" "$(known "$work/limit")" "$(summary "$work/other")" "$(known "$work/other.cpu")" \
        "$(known "$work/other.mb")" | tee -a "$work/rows" | awk -F '|' -f "$root/bench/row.awk"
}
heading() {
    printf '\n%s\n%-38s %9s %9s %9s  %-16s %9s %9s %9s  %7s %7s %7s  %6s %6s %6s\n' "$1" "" best median cpu beside best median cpu \
        ratio "by cpu" goal MB MB limit
}

# ---- networks ----

# model NET SIZE CLASSES: its file in $model, or a word why not and false.
model() {
    model=$work/$1.onnx
    [ -f "$model" ] && return 0
    "$mqbench" list models | grep -q "^  $1 " || { echo "$1 is left out: mqbench builds no network of that name"; return 1; }
    "$mqbench" model "$1" --size "$2" --classes "$3" --out "$model" >/dev/null
}
wanted() { [ -z "${NETS:-}" ] || case " $NETS " in *" $1 "*) ;; *) return 1 ;; esac; }

# ---- training step ----

# our name, PyTorch's name, size, classes, batch; goals: LSQ and FP32 beside PyTorch, LSQ beside our own FP32 (1 / 0.85, 1 / 0.95)
step_nets='resnet20 resnet20 32 10 128 2.8 1.5 1.18
resnet18 resnet18 224 1000 16 2.2 1.5 1.18
mobilenet_v2 mobilenet_v2 224 1000 16 4.9 1.5 1.05'

# step SIDE THREADS MODE
step() {
    if [ "$3" = lsq ]; then
        profile "$1" "$2" "$steps" --model "$model" --batch "$batch" --backend snpe_sim --algo lsq --bits 4
    else
        profile "$1" "$2" "$steps" --model "$model" --batch "$batch" --fp32
    fi
}

step_beside_torch() {
    mode=$1 name=$2 least=$3
    begin
    round=0
    while [ $((round += 1)) -le "$rounds" ]; do
        step ours "$threads" "$mode"
        [ -n "$torch" ] || (cd "$peers" && spawn other "$python" torch_train.py "$peer" "$batch" "$threads" "$mode")
    done
    [ -n "$torch" ] || (cd "$peers" && cpu_of "$python" "$work/cpu.py" torch_train.py "$peer" "$batch" 1 "$mode")
    row step "$net b$batch, $name" PyTorch ms "$least"
    [ -n "$torch" ] || [ "$mode" != lsq ] || memory "$net b$batch, $name, memory" PyTorch 3
}

# memory NAME OTHER GOAL: a row of the peak memory of the last one.
memory() {
    mine=$(known "$work/ours.mb") theirs=$(known "$work/other.mb")
    begin
    echo "$mine $mine" >"$work/ours"
    echo "$theirs $theirs" >"$work/other"
    row step "$1" "$2" MB "$3"
}

# step_beside_own OTHER GOAL THEIR-THREADS THEIR-MODE
step_beside_own() {
    begin
    round=0
    while [ $((round += 1)) -le "$rounds" ]; do
        step ours "$threads" lsq
        step other "$3" "$4"
    done
    row step "$net b$batch, LSQ 4/4" "$1" ms "$2"
}

# Another program, busy on one core.
step_beside_busy() {
    begin
    round=0
    while [ $((round += 1)) -le "$rounds" ]; do
        step other "$threads" lsq
        sh -c 'while :; do :; done' &
        busy=$!
        step ours "$threads" lsq
        kill $busy
        wait $busy 2>/dev/null || true
    done
    rm -f "$work"/*.cpu
    row step "$net b$batch, beside a busy process" "alone" ms 0.4
}

group_step() {
    heading "training step, ms"
    [ -z "$torch" ] || echo "PyTorch is left out: $torch"
    echo "$step_nets" >"$work/nets"
    while read -r net peer size classes batch goal goal_fp32 goal_own <&3; do
        { wanted "$net" && model "$net" "$size" "$classes"; } || continue
        for mode in $modes; do
            case $mode in
            lsq) step_beside_torch lsq "LSQ 4/4" "$goal" ;;
            fp32) step_beside_torch fp32 FP32 "$goal_fp32" ;;
            own)
                step_beside_own "own FP32" "$goal_own" "$threads" fp32
                step_beside_own "own, 1 thread" 1.85 1 lsq
                step_beside_busy
                ;;
            esac
        done
    done 3<"$work/nets"
}

# ---- inference ----

# our name, PyTorch's name, size, classes, batch, goal (integers)
infer_nets='resnet20 resnet20 32 10 128 1.28
resnet18 resnet18 224 1000 1 1.25
resnet18 resnet18 224 1000 32 1.25
resnet50 resnet50 224 1000 1 1.25
resnet50 resnet50 224 1000 32 1.25
mobilenet_v2 mobilenet_v2 224 1000 1 1.26
mobilenet_v2 mobilenet_v2 224 1000 32 1.25'

# infer SIDE THREADS fp32|BACKEND: a batch of one image is short, so there are more.
infer() {
    side_name=$1 on_threads=$2 what=$3
    many=$steps
    [ "$batch" -gt 1 ] || many=$((20 * steps))
    if [ "$what" = fp32 ]; then
        profile "$side_name" "$on_threads" "$many" --infer --model "$model" --batch "$batch" --fp32
    else
        profile "$side_name" "$on_threads" "$many" --infer --model "$model" --batch "$batch" --backend "$what" --algo ptq_minmax
    fi
}

# The network in ONNX Runtime's integers, once.
export_integers() {
    [ -n "$ort$export" ] || [ -f "$work/$1"_u8.onnx ] && return 0
    (cd "$peers" && "$python" export_onnx.py "$1" "$work/export" >/dev/null 2>&1) || true
    [ ! -f "$work/export/$1_u8.onnx" ] || mv "$work/export/$1_u8.onnx" "$work/"
}

infer_beside_ort() {
    what=$1 name=$2 file=$3 least=$4
    begin
    round=0
    while [ $((round += 1)) -le "$rounds" ]; do
        infer ours "$threads" "$what"
        [ -n "$ort" ] || [ ! -f "$file" ] || spawn other node "$peers/ort_infer.mjs" "$file" "$size" "$batch" "$threads"
    done
    [ -n "$ort" ] || [ ! -f "$file" ] || cpu_of node -r "$work/cpu.cjs" "$peers/ort_infer.mjs" "$file" "$size" "$batch" 1
    row infer "$net b$batch, $name" "ONNX Runtime" ms "$least"
}

# own SIDE-NAME OTHER GOAL OUR-THREADS OUR-WHAT THEIR-THREADS THEIR-WHAT
own() {
    begin
    round=0
    while [ $((round += 1)) -le "$rounds" ]; do
        infer ours "$4" "$5"
        infer other "$6" "$7"
    done
    row infer "$1" "$2" ms "$3"
}

other_backends() {
    for backend in tensorrt_sim acl_sim snpe_sim tvm_arm; do
        own "$net b$batch, $backend" fbgemm_x86 0.7 "$threads" "$backend" "$threads" fbgemm_x86
    done
}

group_infer() {
    heading "inference, ms a batch"
    [ -z "$ort" ] || echo "ONNX Runtime is left out: $ort"
    [ -n "$ort" ] || [ -z "$export" ] || echo "ONNX Runtime's integers are left out: $export"
    echo "$infer_nets" >"$work/nets"
    while read -r net peer size classes batch goal <&3; do
        { wanted "$net" && model "$net" "$size" "$classes"; } || continue
        export_integers "$peer"
        infer_beside_ort fbgemm_x86 integers "$work/${peer}_u8.onnx" "$goal"
        own "$net b$batch, integers" "own, 1 thread" 1.85 "$threads" fbgemm_x86 1 fbgemm_x86
        infer_beside_ort fp32 FP32 "$model" 1
        [ "$net" = resnet50 ] || [ "$batch" = 32 ] || other_backends
    done 3<"$work/nets"
}

# ---- calibration ----

# our name, size, classes, images, batch
calibrate_nets='resnet20 32 10 1024 64
resnet18 224 1000 128 16'

# Here the other is the forward pass, and a goal of 0.77 says that calibration takes at most 1.3 times as long, 0.5 twice.
group_calibrate() {
    heading "calibration beside the FP32 forward pass, ms"
    echo "$calibrate_nets" >"$work/nets"
    while read -r net size classes images batch <&3; do
        { wanted "$net" && model "$net" "$size" "$classes"; } || continue
        "$build/bench/bench_calibrate" "$model" "$images" "$batch" "$threads" | sed -n \
            's/^\([a-z_]*\): forward \([0-9.]*\) ms, calibration \([0-9.]*\) ms.*CPU: \([0-9.]*\) ms, \([0-9.]*\) ms.*/\1 \2 \3 \4 \5/p' \
            >"$work/calibration"
        while read -r algorithm forward calibration forward_cpu calibration_cpu; do
            begin
            echo "$calibration $calibration" >"$work/ours"
            echo "$calibration_cpu" >"$work/ours.cpu"
            echo "$forward $forward" >"$work/other"
            echo "$forward_cpu" >"$work/other.cpu"
            row calibrate "$net, $images images, $algorithm" "FP32 forward" ms "$([ "$algorithm" = ptq_minmax ] && echo 0.77 || echo 0.5)"
        done <"$work/calibration"
    done 3<"$work/nets"
}

# ---- start ----

# "... min A ms, median B ms, CPU min C ms, CPU median D ms, memory E MB" into a side.
take() {
    sed 's/ (CPU.*//' "$work/spawned" | figures >>"$work/$1"
    sed -n 's/.*CPU.*median \([0-9.]*\) ms.*/\1/p' "$work/spawned" | tail -n 1 >"$work/$1.cpu"
    sed -n 's/.*memory \([0-9.]*\) MB.*/\1/p' "$work/spawned" | tail -n 1 >"$work/$1.mb"
}
# fixed NAME UNIT BOUND: a row whose goal is a number.
fixed() {
    echo "$3 $3" >"$work/other"
    row start "$1" goal "$2" 1
}

start_list() {
    begin
    "$build/bench/bench_spawn" 20 "$mqbench" list 2>"$work/spawned"
    take ours
    fixed "mqbench list" ms 20
    used=$(known "$work/ours.mb")
    begin
    echo "$used $used" >"$work/ours"
    fixed "mqbench list, memory" MB 10
}

start_load() {
    model resnet50 224 1000 || return 0
    begin
    "$build/bench/bench_load" "$model" >"$work/spawned"
    take ours
    fixed "resnet50 from ONNX, with its SHA-256" ms 100
}

start_cifar() {
    a=$data/cifar10/data_batch_1.bin b=$data/cifar10/data_batch_2.bin
    if [ ! -f "$a" ] || [ ! -f "$b" ]; then
        echo "CIFAR-10 is left out: $data/cifar10 has no data_batch_1.bin (name its folder in DATA)"
        return 0
    fi
    begin
    "$build/bench/bench_load" "cifar10:train=$a+$b+$a+$b,test=$a" >"$work/spawned"
    take ours
    fixed "50 000 CIFAR-10 images" ms 1000
}

# Decoding must not be slower than what training does with the images meanwhile; on one core, and training has all.
start_jpeg() {
    pictures=$data/imagenet/val
    if [ ! -d "$pictures" ]; then
        echo "JPEG is left out: $pictures is not there (name the folder of imagenet/ in DATA)"
        return 0
    fi
    "$build/bench/bench_load" "images:train=$pictures,train-labels=${pictures}_labels.csv" >"$work/spawned"
    decoded=$(sed -n 's/.*decoded: \([0-9.]*\) ms an image by the CPU.*/\1/p' "$work/spawned")
    for net in resnet18 mobilenet_v2; do
        { wanted $net && model $net 224 1000; } || continue
        batch=16
        begin
        step other "$threads" lsq
        awk '{ print $1 / 16, $2 / 16 }' "$work/other" >"$work/trained" && mv "$work/trained" "$work/other"
        echo "$decoded $decoded" >"$work/ours"
        row start "a JPEG decoded, for $net" "a training image" ms 1
    done
}

group_start() {
    heading "start and load"
    start_list
    start_load
    start_cifar
    start_jpeg
}

# ---- all ----

groups=${*:-step infer calibrate start}
for group in $groups; do
    case $group in
    step | infer | calibrate | start) ;;
    *) echo "run.sh: there is no group \"$group\"; the groups are step, infer, calibrate, start" >&2; exit 2 ;;
    esac
done
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1 | tr -d '"')
load=$(cut -d ' ' -f 1 /proc/loadavg)
machine="${cpu:-unknown CPU}, $(nproc) cores, $threads threads"
echo "machine: $machine; load $load before the runs; rounds: $rounds"
mkdir -p "$results"
: >"$work/rows"
for group in $groups; do
    "group_$group"
    awk -F '|' -v group="$group" -v machine="$machine" -v date="$date" -f "$root/bench/chart.awk" "$work/rows" >"$work/chart.svg"
    [ ! -s "$work/chart.svg" ] || mv "$work/chart.svg" "$results/$date-$group.svg"
done
awk -F '|' -v cpu="$cpu" -v cores="$(nproc)" -v before="$load" -v after="$(cut -d ' ' -f 1 /proc/loadavg)" -v date="$date" \
    -v threads="$threads" -v rounds="$rounds" -f "$root/bench/record.awk" "$work/rows" >"$results/$date.json"
echo
echo "$results/$date.json"
