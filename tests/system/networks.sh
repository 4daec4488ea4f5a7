#!/usr/bin/env bash
# Every family of built-in networks through the whole job on every backend that is hardware: lowered, run in integers, deployable.
# Untrained, so nothing is asked of the accuracy.
. "$(dirname "${BASH_SOURCE[0]}")/support.sh"

record=$scratch/record.json
ran_in_integers() {
    awk '/"deployable":/, /}/' "$record" | grep -q '"ok": true'
}

for network in resnet32 resnet18 resnet50 mobilenet_v2 efficientnet_lite0 regnetx_600mf; do
    check "$MQBENCH" model "$network" --size 32 --out "$scratch/$network.onnx" >/dev/null
    for backend in snpe_sim tensorrt_sim acl_sim tvm_arm fbgemm_x86; do
        rm -f "$record"
        check "$MQBENCH" --backend "$backend" --algo lsq --bits 8 --epochs 0 --model "$scratch/$network.onnx" --normalize imagenet --threads 1 \
            --dataset synth:train=16,test=4 --json "$record" >/dev/null
        check ran_in_integers
    done
    rm -f "$scratch/$network.onnx"
done

finish
