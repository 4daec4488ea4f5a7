#!/usr/bin/env bash
# mqbench prove: exports run by other engines, on the default network and on pretrained ones where these are at hand. A proof whose
# engine is not installed says so; no other one may differ.
. "$(dirname "${BASH_SOURCE[0]}")/support.sh"

expect 2 'name either one backend with --backend, or --all' "$MQBENCH" prove
expect 2 'name either one backend with --backend, or --all' "$MQBENCH" prove --all --backend fbgemm_x86
expect 2 'there is no proof "nothing"' "$MQBENCH" prove --backend fbgemm_x86 --images 1 --only nothing
expect 1 'has no proof by another engine' "$MQBENCH" prove --backend academic
expect 1 'fbgemm_x8.*fbgemm_x86' "$MQBENCH" prove --backend fbgemm_x8

# prove_all WORDS...: every proof holds or lacks its engine, and there are some.
prove_all() {
    "$MQBENCH" prove "$@" >"$scratch/proofs" 2>"$scratch/stderr" || { cat "$scratch/proofs" "$scratch/stderr"; return 1; }
    cat "$scratch/proofs"
    grep -qE '^ +(equal|missing) ' "$scratch/proofs" && grep -qE '^ +[0-9]+ equal, 0 differ, ' "$scratch/proofs"
}

check prove_all --all --images 16
if grep -qE '^ +missing ' "$scratch/proofs"; then
    echo "an engine is missing: the proofs that need it were skipped"
fi

# The comparison can fail: FBGEMM adds otherwise than ONNX Runtime does. Few scales show it, so seeds are tried until one's do.
if grep -qE '^ +equal +fbgemm_x86 +qlinear ' "$scratch/proofs"; then
    status=0
    for seed in $(seq 24); do
        "$MQBENCH" prove --backend fbgemm_x86 --only qlinear --images 64 --seed $seed --set fbgemm_x86.profile=fbgemm >"$scratch/stdout" 2>&1 || status=$?
        [ $status -eq 0 ] || break
    done
    check test $status -eq 1
    check grep -qE 'DIFFERS' "$scratch/stdout"
    check grep -qE 'Add .* differ, at most by .*; [0-9]+ of them on equal inputs' "$scratch/stdout"
    check test "$(grep 'on equal inputs' "$scratch/stdout" | grep -c -v '/Add ')" -eq 0 # and nothing else
fi

# As JSON, with the verdicts of the screen.
"$MQBENCH" prove --backend tvm_arm --only gcc --images 1 --json "$scratch/proofs.json" >"$scratch/stdout" 2>&1
check test $? -eq 0
check grep -q '"schema": "mqbench.prove/1"' "$scratch/proofs.json"
check grep -qE '"verdict": "(equal|missing)"' "$scratch/proofs.json"
check test "$(grep -c '"proof": ' "$scratch/proofs.json")" -eq 1
expect 1 'nowhere' "$MQBENCH" prove --backend tvm_arm --json "$scratch/nowhere/proofs.json"

# Pairs of products saturate on a CPU without VNNI, and not otherwise.
if grep -qE '^ +equal +fbgemm_x86 +qlinear-pairs ' "$scratch/proofs"; then
    "$MQBENCH" prove --backend fbgemm_x86 --only qlinear-pairs --images 1 --set fbgemm_x86.vnni=yes >"$scratch/stdout" 2>&1
    check test $? -eq 1
    check grep -qE 'conv1.* differ, at most by .*; [0-9]+ of them on equal inputs' "$scratch/stdout"
fi

data=$SHARED/data
for word in resnet20_cifar10:imagenet resnet20_cifar10_convshortcut:imagenet resnet8_cifar10:raw; do
    model=$data/models/${word%%:*}.onnx
    if [ ! -r "$model" ]; then
        echo "skipped: no $model"
        continue
    fi
    for only in qlinear qdq; do
        check prove_all --backend fbgemm_x86 --only "$only" --model "$model" --normalize "${word##*:}" \
            --dataset "cifar10:$data/cifar10" --images 32
    done
done
images="images:train=$data/imagenet/val,train-labels=$data/imagenet/val_labels.csv,test=$data/imagenet/val,\
test-labels=$data/imagenet/val_labels.csv,classes=1000"
for name in mobilenetv1_0.75_imagenet mobilenetv2_1.0_imagenet_foldedbn_int8deq; do
    model=$data/models/$name.onnx
    if [ ! -r "$model" ]; then
        echo "skipped: no $model"
        continue
    fi
    for only in qlinear qdq; do
        check prove_all --backend fbgemm_x86 --only "$only" --model "$model" --normalize tf --dataset "$images" --images 2 \
            --set recipe.calibration_batches=2 --set recipe.calibration_batch=16
    done
done
finish
