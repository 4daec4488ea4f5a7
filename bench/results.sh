#!/bin/sh
# Prints the tables of docs/results.md: every algorithm in the academic setting, on CIFAR-10, from two FP32 networks.
#
#   bench/results.sh DATA [RECORDS]
#
# DATA holds cifar10/data_batch_1.bin, data_batch_2.bin, data_batch_3_first5000.bin, test_lossless_0000-0499.bin and
# models/resnet20_cifar10.onnx (a public ResNet-20). RECORDS (default: results.d) keeps the record of every run; what is there is
# not run again, so an interrupted table goes on. MQBENCH names the program (default: build/bin/mqbench).
set -eu
data=${1:?"usage: bench/results.sh DATA [RECORDS]"}
records=${2:-results.d}
mqbench=${MQBENCH:-build/bin/mqbench}
train=$data/cifar10/data_batch_1.bin+$data/cifar10/data_batch_2.bin
mkdir -p "$records"

if [ ! -f "$records/resnet20_b12.onnx" ]; then
    "$mqbench" train --model resnet20 --dataset "cifar10:train=$train,test=$data/cifar10/data_batch_3_first5000.bin" --epochs 40 \
        --out "$records/resnet20_b12.onnx" >&2
fi

own="--model $records/resnet20_b12.onnx --dataset cifar10:train=$train,test=$data/cifar10/data_batch_3_first5000.bin"
public="--model $data/models/resnet20_cifar10.onnx --normalize imagenet
        --dataset cifar10:train=$train,test=$data/cifar10/test_lossless_0000-0499.bin"
trained=lsq,lsqplus,pact,dorefa,dsq,qil,apot,lqnet,tqt
calibrated=ptq_minmax,ptq_percentile,ptq_mse,ptq_kl

# Every algorithm in the academic setting: calibration alone for some, one epoch for the others; then one table of all records.
table() {
    folder=$1 seeds=$2
    shift 2
    common="--backend academic --bits 8,4,3,2 --seeds $seeds --out $folder"
    # shellcheck disable=SC2086
    {
        "$mqbench" compare --algo $calibrated --epochs 0 $common "$@" >&2
        "$mqbench" compare --algo $trained --epochs 1 $common "$@" >&2
        "$mqbench" compare --algo $trained,$calibrated $common "$@" --format markdown
    }
}

echo "### Public ResNet-20, three epochs"
echo
# shellcheck disable=SC2086
"$mqbench" compare --backend academic --algo lsq,pact,dorefa --bits 4 --seeds 3 --epochs 3 $public --out "$records/public3" --format markdown
echo "### Own ResNet-20, every algorithm, one epoch of 5,000 images"
echo
# shellcheck disable=SC2086
table "$records/own" 3 --train-limit 5000 --test-limit 1000 $own
echo "### Public ResNet-20, every algorithm, one epoch of 2,560 images, one seed"
echo
# shellcheck disable=SC2086
table "$records/public" 1 --train-limit 2560 $public
