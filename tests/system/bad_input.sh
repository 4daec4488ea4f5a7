#!/usr/bin/env bash
# What a user may get wrong: one sentence that says what, where and what to do; a non-zero exit; never a crash.
. "$(dirname "${BASH_SOURCE[0]}")/support.sh"

quick=(--train-limit 32 --test-limit 16 --epochs 0 --set recipe.calibration_batches=1 --set recipe.calibration_batch=16)
run() { "$MQBENCH" --backend snpe_sim --algo lsq "${quick[@]}" "$@"; }
net=$scratch/net.onnx
"$MQBENCH" model resnet20 --out "$net" >/dev/null || exit 1

# words: 2 is a wrong command line (or a file that belongs to it), 1 a job that could not be done
expect 1 'snpe_sim' "$MQBENCH" --backend snpe_sin --algo lsq --model "$net" --dataset synth
expect 1 'lsq' "$MQBENCH" --backend snpe_sim --algo lsp --model "$net" --dataset synth
expect 1 'native' run --model "$net" --dataset synth --compute natve
expect 1 'synth' run --model "$net" --dataset sint
expect 2 '--epochs' run --model "$net" --dataset synth --epoch 3
expect 2 'batch' run --model "$net" --dataset synth --batch none
expect 2 'bits' run --model "$net" --dataset synth --bits 9
expect 2 'weight_init' run --model "$net" --dataset synth --set lsq.weight_int=mse
expect 2 'label_smoothing' run --model "$net" --dataset synth --set recipe.label_smoothing=2
expect 2 'normali' run --model "$net" --dataset synth --normalize imagnet
expect 2 'command' "$MQBENCH" evaluate

# INI files: file and line
printf '[recipe]\nepochs = 0\nlearning_rate = 1\n' >"$scratch/recipe.ini"
expect 2 'recipe.ini:3.*learning_rate' run --model "$net" --dataset synth --recipe "$scratch/recipe.ini"
printf '[recipe]\nbatch = many\n' >"$scratch/recipe.ini"
expect 2 'recipe.ini:2.*batch' run --model "$net" --dataset synth --recipe "$scratch/recipe.ini"
printf '[recipes]\nbatch = 3\n' >"$scratch/recipe.ini"
expect 1 'recipe.ini:2.*recipes' run --model "$net" --dataset synth --recipe "$scratch/recipe.ini"
printf '[quantizer lsq]\nlibary = x.so\n' >"$scratch/manifest.ini"
expect 2 'manifest.ini:2' run --model "$net" --dataset synth --manifest "$scratch/manifest.ini"
printf '[quantiser mine]\nlibrary = x.so\n' >"$scratch/manifest.ini"
expect 1 'manifest.ini:1' run --model "$net" --dataset synth --manifest "$scratch/manifest.ini"
expect 1 'nowhere.ini' run --model "$net" --dataset synth --manifest "$scratch/nowhere.ini"

# a plugin that is not one
echo 'not a library' >"$scratch/text.so"
printf '[quantizer lsq]\nlibrary = %s\n' "$scratch/text.so" >"$scratch/manifest.ini"
expect 1 'MQB-P01' run --model "$net" --dataset synth --manifest "$scratch/manifest.ini"

# models
expect 1 'missing.onnx' run --model "$scratch/missing.onnx" --dataset synth
head -c 100000 "$net" >"$scratch/cut.onnx"
expect 1 'cut.onnx' run --model "$scratch/cut.onnx" --dataset synth
head -c 4000 /dev/urandom >"$scratch/random.onnx"
expect 1 'random.onnx' run --model "$scratch/random.onnx" --dataset synth
: >"$scratch/empty.onnx"
expect 1 'empty.onnx' run --model "$scratch/empty.onnx" --dataset synth
cp "$net" "$scratch/nan.onnx"
printf '\377\377\377\377\377\377\377\377' | dd of="$scratch/nan.onnx" bs=1 seek=500000 conv=notrunc 2>/dev/null
expect 1 "tensor '.*' is NaN at element" run --model "$scratch/nan.onnx" --dataset synth
expect 2 'folder' run --model "$scratch" --dataset synth
sed 's/Relu/Celu/g' "$net" >"$scratch/celu.onnx" # an operator of the same length that no backend runs
expect 1 'celu.onnx.*Celu' run --model "$scratch/celu.onnx" --dataset synth
expect 1 'celu.onnx.*Celu' "$MQBENCH" explain --backend snpe_sim --model "$scratch/celu.onnx"

# an algorithm that no hardware runs: refused before anything is computed; by force as far as fake quantization
expect 1 'snpe_sim cannot run the algorithm "apot".*because.*--backend academic.*--force' \
    "$MQBENCH" --backend snpe_sim --algo apot "${quick[@]}" --model "$net" --dataset synth
check test ! -s "$scratch/stdout"
check "$MQBENCH" --backend snpe_sim --algo apot "${quick[@]}" --model "$net" --dataset synth --force --json "$scratch/forced.json" \
    >"$scratch/forced.txt" 2>/dev/null
check grep -q 'fake, calibrated' "$scratch/forced.txt"
check grep -q '"forced": true' "$scratch/forced.json"
check grep -q 'forced to fake quantization alone: hardware cannot run' "$scratch/forced.json"
check test "$(grep -c '^  integer ' "$scratch/forced.txt")" = 0
check "$MQBENCH" --backend academic --algo apot "${quick[@]}" --model "$net" --dataset synth >/dev/null 2>&1

# an explanation of what is not there
expect 2 '--backend is missing' "$MQBENCH" explain
expect 1 'snpe_sim' "$MQBENCH" explain --backend snpe_sin --model "$net"
expect 2 'did you mean "logits"' "$MQBENCH" explain --backend snpe_sim --model "$net" --edge logit
expect 1 "tensor '.*' is NaN at element" "$MQBENCH" explain --backend snpe_sim --model "$scratch/nan.onnx"

# data
mkdir "$scratch/none"
expect 1 'none' run --model "$net" --dataset cifar10:"$scratch/none"
expect 1 'none' run --model "$net" --dataset images:"$scratch/none"
head -c 30000 /dev/zero >"$scratch/whole.bin"
head -c 30730 /dev/zero >"$scratch/ten.bin"
expect 1 'whole.bin' run --model "$net" --dataset cifar10:train="$scratch/whole.bin",test="$scratch/ten.bin"
(printf '\310' && head -c 3072 /dev/zero) >"$scratch/label.bin"
expect 1 'label' run --model "$net" --dataset cifar10:train="$scratch/ten.bin",test="$scratch/label.bin"
expect 1 'gone.bin' run --model "$net" --dataset cifar10:train="$scratch/ten.bin",test="$scratch/gone.bin"
"$MQBENCH" model resnet20 --classes 5 --out "$scratch/five.onnx" >/dev/null 2>&1 &&
    expect 2 'class' run --model "$scratch/five.onnx" --dataset synth

# places that cannot be written: said before anything is computed where it can be known, and nothing computed is lost
expect 1 'net.onnx' run --model "$net" --dataset synth --out "$net/inside"
expect 1 '/proc/mqbench' run --model "$net" --dataset synth --out /proc/mqbench
expect 1 '/nowhere/at/all' run --model "$net" --dataset synth --json /nowhere/at/all.json
expect 1 'full|space' run --model "$net" --dataset synth --json /dev/full
check grep -q 'integer' "$scratch/stdout" # the screen came all the same

# a disk that fills up during the run: the training goes on, the result is shown, the sentence comes last
mkdir "$scratch/small"
if mount -t tmpfs -o size=1M tmpfs "$scratch/small" 2>/dev/null; then
    expect 1 'small.*(full|space)' "$MQBENCH" --backend snpe_sim --algo lsq --model "$net" --dataset synth --train-limit 64 --test-limit 16 \
        --epochs 2 --batch 32 --set recipe.calibration_batches=1 --set recipe.calibration_batch=16 --out "$scratch/small"
    check grep -q 'fake, trained' "$scratch/stdout"
    check grep -q 'integer' "$scratch/stdout"
    umount "$scratch/small"
else
    echo "a small disk cannot be mounted here: not tried"
fi

finish
