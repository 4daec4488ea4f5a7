#!/usr/bin/env bash
# The words of the command line: help everywhere, lists, both spellings of a flag, and the mistakes that need no computing.
. "$(dirname "${BASH_SOURCE[0]}")/support.sh"

# says PATTERN COMMAND...: succeeds, with a line of standard output that matches, and nothing on standard error
says() {
    local pattern=$1 got=0
    shift
    "$@" >"$scratch/stdout" 2>"$scratch/stderr" </dev/null || got=$?
    checks=$((checks + 1))
    if [ "$got" -ne 0 ] || [ -s "$scratch/stderr" ] || ! grep -qE -- "$pattern" "$scratch/stdout"; then
        failures=$((failures + 1))
        echo "FAILED: $* (exit code $got, expected 0 and a line like: $pattern)"
        head -20 "$scratch/stdout" "$scratch/stderr"
    fi
}

# help and version
says 'usage: mqbench --backend' "$MQBENCH" --help
says 'usage: mqbench --backend' "$MQBENCH" help
says '^mqbench [0-9]+\.[0-9]+\.[0-9]+ ' "$MQBENCH" --version
for command in run train eval model profile list explain; do
    says "usage: mqbench .*$command" "$MQBENCH" "$command" --help
    says "usage: mqbench .*$command" "$MQBENCH" help "$command"
done
says '--bits W\[/A\]' "$MQBENCH" --backend snpe_sim --help
says 'label_smoothing .*0 to 0.99' "$MQBENCH" help recipe
expect 2 "did you mean 'recipe'" "$MQBENCH" help recip

# lists
says '^  snpe_sim ' "$MQBENCH" list
says '^  lsq ' "$MQBENCH" list algorithms
says '^  cifar10 ' "$MQBENCH" list dataset
says 'lsq.weight_init=' "$MQBENCH" list algorithms --options
says '"id": "native"' "$MQBENCH" list compute --json
check test "$(head -c 1 "$scratch/stdout")" = "{"
check "$MQBENCH" list --json "$scratch/list.json"
check grep -q '"datasets"' "$scratch/list.json"
expect 2 "did you mean 'backends'" "$MQBENCH" list bakends
expect 2 'one word too many' "$MQBENCH" list backends passes
printf '[backend ghost]\nlibrary = nowhere.so\n' >"$scratch/ghost.ini"
says 'ghost .*refused: .*nowhere.so' "$MQBENCH" list backends --manifest "$scratch/ghost.ini"

# a network to look at, both spellings of a flag
says 'a.onnx' "$MQBENCH" model resnet20 --out "$scratch/a.onnx"
says 'b.onnx' "$MQBENCH" model --out="$scratch/b.onnx" --seed=1000 resnet20
check cmp "$scratch/a.onnx" "$scratch/b.onnx"
says 'c.onnx' "$MQBENCH" model resnet20 --out "$scratch/c.onnx" --seed 1001
check test "$(cmp -s "$scratch/a.onnx" "$scratch/c.onnx" && echo same)" != same

# why each tensor is quantized
says '29 on activations, 20 on weights' "$MQBENCH" explain --backend snpe_sim --model "$scratch/a.onnx"
says '20 on activations, 20 on weights' "$MQBENCH" explain --backend=tensorrt_sim --model="$scratch/a.onnx" --bits 4/2
says '^  tvm_arm  *point: .*2\^n' "$MQBENCH" explain --backend snpe_sim --model "$scratch/a.onnx" --edge conv1.weight
says '"schema": "mqbench.explain/1"' "$MQBENCH" explain --backend snpe_sim --model "$scratch/a.onnx" --json -

# a look at where the time goes
says '"peak_rss_bytes": [1-9]' "$MQBENCH" profile --fp32 --batch 2 --steps 1 --json -
says '^backward +Conv ' "$MQBENCH" profile --backend snpe_sim --algo lsq --batch 2 --steps 1
expect 2 '--fp32' "$MQBENCH" profile

# mistakes
expect 2 '--backend is missing' "$MQBENCH"
expect 2 '--algo is missing' "$MQBENCH" --backend snpe_sim
expect 2 'did you mean .list.' "$MQBENCH" lst
expect 2 'did you mean --backend' "$MQBENCH" --bakend snpe_sim
expect 2 '--backend needs a value' "$MQBENCH" --backend --algo lsq
expect 2 '--backend has an empty value' "$MQBENCH" --backend= --algo lsq
expect 2 'takes no value' "$MQBENCH" --backend snpe_sim --algo lsq --resume=yes
expect 2 '--resume .*--out' "$MQBENCH" --backend snpe_sim --algo lsq --resume
expect 2 'stray' "$MQBENCH" --backend snpe_sim --algo lsq stray
expect 2 'there is no flag -x' "$MQBENCH" -x
for bits in 1 9 4/ /4 4/1 4/9 4/4/4 four 4.5 ''; do
    expect 2 'bits' "$MQBENCH" --backend snpe_sim --algo lsq --bits "$bits"
done
expect 2 '-1 to 4' "$MQBENCH" --backend snpe_sim --algo lsq --bn-fold 5
expect 2 'threads' "$MQBENCH" --backend snpe_sim --algo lsq --threads -1
expect 2 'seed' "$MQBENCH" --backend snpe_sim --algo lsq --seed 99999999999999999999
expect 2 'KEY=VALUE' "$MQBENCH" --backend snpe_sim --algo lsq --set recipe.lr
expect 2 'did you mean recipe.momentum' "$MQBENCH" --backend snpe_sim --algo lsq --set momentun=0.5
expect 2 '--out is missing' "$MQBENCH" train
expect 2 '--model is missing' "$MQBENCH" eval
expect 2 'is missing' "$MQBENCH" model
expect 1 "did you mean 'resnet20'" "$MQBENCH" model resnet21 --out "$scratch/d.onnx"

# what cannot be written is said
if [ -w /dev/full ]; then
    expect 1 'standard output: writing failed' bash -c "'$MQBENCH' list >/dev/full"
    expect 1 'No space left' "$MQBENCH" list --json /dev/full
    expect 1 'No space left' "$MQBENCH" model resnet20 --out /dev/full
fi
expect 1 'nowhere' "$MQBENCH" train --dataset synth:train=64,test=64 --out /nowhere/at/all.onnx

finish
