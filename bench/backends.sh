#!/bin/sh
# Prints the tables "Backends" of docs/results.md: every backend in integers, calibration only.
#
#   bench/backends.sh DATA [RECORDS]
#
# DATA and RECORDS as for bench/results.sh; DATA also holds imagenet/val (300 pictures, the first of val_labels.csv serve for
# calibration, all of them for the test) and models/mobilenetv1_0.75_imagenet.onnx.
set -eu
data=${1:?"usage: bench/backends.sh DATA [RECORDS]"}
records=${2:-results.d}
mqbench=${MQBENCH:-build/bin/mqbench}
cifar="cifar10:train=$data/cifar10/data_batch_1.bin+$data/cifar10/data_batch_2.bin,test=$data/cifar10/test_lossless_0000-0499.bin"
imagenet="images:train=$data/imagenet/val,train-labels=$data/imagenet/val_labels.csv,test=$data/imagenet/val,test-labels=$data/imagenet/val_labels.csv"
mkdir -p "$records"

echo "### ResNet-20 on CIFAR-10"
echo
"$mqbench" compare --backend tensorrt_sim,acl_sim,snpe_sim,tvm_arm,fbgemm_x86 --algo lsq,ptq_minmax,ptq_mse --bits 8,4 --epochs 0 \
    --model "$data/models/resnet20_cifar10.onnx" --normalize imagenet --dataset "$cifar" --out "$records/cifar" --format markdown
echo "### MobileNetV1 0.75 on 300 pictures of ImageNet"
echo
"$mqbench" compare --backend tensorrt_sim,acl_sim,snpe_sim,tvm_arm,fbgemm_x86 --algo ptq_minmax,ptq_mse --bits 8 --epochs 0 \
    --set recipe.calibration_batches=2 --set recipe.calibration_batch=32 --model "$data/models/mobilenetv1_0.75_imagenet.onnx" \
    --normalize tf --dataset "$imagenet" --out "$records/imagenet" --format markdown
