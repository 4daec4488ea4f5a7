#!/usr/bin/env bash
# What a run leaves: the record's keys, the files of --out, JSON on standard output, the same record for any thread count.
. "$(dirname "${BASH_SOURCE[0]}")/support.sh"

net=$scratch/net.onnx
"$MQBENCH" model resnet20 --out "$net" >/dev/null || exit 1
run() {
    "$MQBENCH" --backend snpe_sim --algo lsq --model "$net" --dataset synth --train-limit 64 --test-limit 32 --epochs 1 --batch 32 \
        --bits 4 --set recipe.calibration_batches=1 --set recipe.calibration_batch=32 "$@" 2>"$scratch/stderr"
}

check run --json "$scratch/a.json" --out "$scratch/out" --threads 1 >/dev/null
for key in schema model sha256 dataset split n_train n_test backend algo bits weights activations bn_fold seed threads accuracy fp32 \
    fake integer top1 top5 agreement labels max_steps layers deployable reason time memory peak_rss_bytes plugins version; do
    check grep -q "\"$key\"" "$scratch/a.json"
done
for file in qparams.json checkpoint.mqb net_quantized.onnx; do
    check test -s "$scratch/out/$file"
done
check test -z "$(find "$scratch/out" -name '*.part')"

# JSON alone on standard output
run --json - --threads 2 >"$scratch/b.json"
check test "$(head -c 1 "$scratch/b.json")" = "{"

# what does not depend on time or threads is equal, byte for byte
strip "$scratch/a.json" >"$scratch/a.txt"
strip "$scratch/b.json" >"$scratch/b.txt"
check test "$(wc -l <"$scratch/a.txt")" -gt 300
check diff "$scratch/a.txt" "$scratch/b.txt"

# no progress in a pipe
check test "$(grep -c $'\r' "$scratch/stderr")" -eq 0

# going on from a finished checkpoint changes nothing
cp "$scratch/out/checkpoint.mqb" "$scratch/before.mqb"
check run --out "$scratch/out" --resume >/dev/null
check cmp "$scratch/before.mqb" "$scratch/out/checkpoint.mqb"

# an installed tree works where it stands, without the build tree
check cmake --install "$BUILD" --prefix "$scratch/prefix" >/dev/null 2>&1
check "$scratch/prefix/bin/mqbench" list >"$scratch/list.txt"
check grep -q snpe_sim "$scratch/list.txt"
check test "$(grep -c refused "$scratch/list.txt")" -eq 0

# the written network is a network: it can be evaluated
check "$MQBENCH" eval --model "$scratch/out/net_quantized.onnx" --dataset synth --test-limit 32 >/dev/null 2>&1

finish
