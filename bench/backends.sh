#!/bin/sh
# Prints the tables "Backends" of docs/results.md: every backend in integers, calibration only.
#
#   bench/backends.sh DATA [RECORDS]
#
# DATA and RECORDS as for bench/results.sh, whose own ResNet-20 is trained here if RECORDS does not have it. DATA also holds
# imagenet/val (300 pictures, the first of val_labels.csv serve for calibration, all of them for the test) and
# models/mobilenetv1_0.75_imagenet.onnx.
set -eu
data=${1:?"usage: bench/backends.sh DATA [RECORDS]"}
records=${2:-results.d}
mqbench=${MQBENCH:-build/bin/mqbench}
train=$data/cifar10/data_batch_1.bin+$data/cifar10/data_batch_2.bin
cifar="cifar10:train=$train,test=$data/cifar10/test_lossless_0000-0499.bin"
imagenet="images:train=$data/imagenet/val,train-labels=$data/imagenet/val_labels.csv,test=$data/imagenet/val,test-labels=$data/imagenet/val_labels.csv"
own="cifar10:train=$train,test=$data/cifar10/data_batch_3_first5000.bin"
mkdir -p "$records"
if [ ! -f "$records/resnet20_b12.onnx" ]; then
    "$mqbench" train --model resnet20 --dataset "$own" --epochs 40 --out "$records/resnet20_b12.onnx" >&2
fi

echo "### ResNet-20 on CIFAR-10"
echo
"$mqbench" compare --backend tensorrt_sim,acl_sim,snpe_sim,tvm_arm,fbgemm_x86 --algo lsq,ptq_minmax,ptq_mse --bits 8,4 --epochs 0 \
    --model "$data/models/resnet20_cifar10.onnx" --normalize imagenet --dataset "$cifar" --out "$records/cifar" --format markdown
echo "### Own ResNet-20 on 5,000 held-out images of CIFAR-10"
echo
"$mqbench" compare --backend tensorrt_sim,acl_sim,snpe_sim,tvm_arm,fbgemm_x86 --algo lsq,ptq_minmax,ptq_mse --bits 8 --epochs 0 \
    --model "$records/resnet20_b12.onnx" --dataset "$own" --out "$records/held" --format markdown
echo "### MobileNetV1 0.75 on 300 pictures of ImageNet"
echo
"$mqbench" compare --backend tensorrt_sim,acl_sim,snpe_sim,tvm_arm,fbgemm_x86 --algo ptq_minmax,ptq_mse --bits 8 --epochs 0 \
    --set recipe.calibration_batches=2 --set recipe.calibration_batch=32 --model "$data/models/mobilenetv1_0.75_imagenet.onnx" \
    --normalize tf --dataset "$imagenet" --out "$records/imagenet" --format markdown
