"""PyTorch's side of the built-in networks: torchvision's own classes with weights that a formula gives (the same in
tests/quant/network_weights.h), exported as ONNX and run in double on two images.

usage: torch_networks.py NAME DIR   writes DIR/NAME.onnx (batch norm kept), NAME_folded.onnx (the exporter's default),
                                    NAME.images.f32 (NHWC), NAME.logits.f32 and NAME.names (lines: name in the file, our
                                    name); prints parameters, multiply-additions at 224 x 224, and the logits
Exit code 77: PyTorch or torchvision is not installed."""
import re
import sys
import warnings
from functools import partial

try:
    import numpy as np
    import torch
    import torchvision
    from torch import nn
except ImportError as why:
    print(f"PyTorch is not here ({why})")
    sys.exit(77)
from torchvision.models.efficientnet import EfficientNet, MBConv, MBConvConfig
from torchvision.models.regnet import BlockParams, RegNet

warnings.filterwarnings("ignore")
IMAGES, SIDE, CLASSES = 2, 64, 10


# ---- networks that torchvision has the classes for, but no function ----

class NoExcitation(nn.Identity):
    def __init__(self, *args, **kwargs):
        super().__init__()


def relu6(module):
    for name, child in module.named_children():
        if isinstance(child, nn.SiLU):
            setattr(module, name, nn.ReLU6())
        relu6(child)


def efficientnet_lite0(num_classes):
    """EfficientNet-B0 without squeeze and excitation, with ReLU6."""
    block = partial(MBConv, se_layer=NoExcitation)
    rows = [(1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3), (6, 5, 1, 80, 112, 3),
            (6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1)]
    net = EfficientNet([MBConvConfig(*row, block=block) for row in rows], dropout=0.2, last_channel=1280,
                       num_classes=num_classes)
    relu6(net)
    return net


def regnetx_600mf(num_classes):
    return RegNet(BlockParams.from_init_params(depth=16, w_0=48, w_a=36.97, w_m=2.24, group_width=24), num_classes=num_classes)


def same(name):
    return name


def efficientnet_name(name):
    """torchvision's name as timm's."""
    first, last = {"block.0.0": "conv_dw", "block.0.1": "bn1", "block.2.0": "conv_pw", "block.2.1": "bn2"}, {
        "block.0.0": "conv_pw", "block.0.1": "bn1", "block.1.0": "conv_dw", "block.1.1": "bn2", "block.3.0": "conv_pwl",
        "block.3.1": "bn3"}
    ends = {"features.0.0": "conv_stem", "features.0.1": "bn1", "features.8.0": "conv_head", "features.8.1": "bn2",
            "classifier.1": "classifier"}
    module, tensor = name.rsplit(".", 1)
    if module in ends:
        return f"{ends[module]}.{tensor}"
    stage, index, rest = re.fullmatch(r"features\.(\d)\.(\d)\.(block\.\d\.\d)", module).groups()
    return f"blocks.{int(stage) - 1}.{index}.{(first if stage == '1' else last)[rest]}.{tensor}"


def regnet_name(name):
    parts = {"proj": "downsample", "f.a": "conv1", "f.b": "conv2", "f.c": "conv3"}
    name = re.sub(r"^trunk_output\.block(\d)\.block\d-(\d+)\.(proj|f\.[abc])\.",
                  lambda m: f"s{m[1]}.b{int(m[2]) + 1}.{parts[m[3]]}.", name)
    name = re.sub(r"^fc\.", "head.fc.", name)
    return re.sub(r"\b(stem|downsample|conv\d)\.([01])\.", lambda m: f"{m[1]}.{('conv', 'bn')[int(m[2])]}.", name)


NETWORKS = {
    "resnet18": (torchvision.models.resnet18, same),
    "resnet50": (torchvision.models.resnet50, same),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, same),
    "efficientnet_lite0": (efficientnet_lite0, efficientnet_name),
    "regnetx_600mf": (regnetx_600mf, regnet_name),
}


# ---- the formula ----

def uniform(name, count):
    """Numbers in [-1, 1): a 32-bit hash of the tensor's name and the place."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    h = (np.arange(count, dtype=np.uint64) * 2654435761 + seed) % 2**32
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        h = (h ^ (h >> np.uint64(shift))) * np.uint64(factor) % 2**32
    h = h ^ (h >> np.uint64(16))
    return (h >> np.uint64(8)).astype(np.float64) / 2**23 - 1


def values(name, shape):
    u = uniform(name, int(np.prod(shape)))
    if len(shape) > 1:
        u = u * np.sqrt(6.0 / np.prod(shape[1:]))
    elif name.endswith("running_var") or name.endswith("weight"):
        u = 1 + u / 2
    else:
        u = u / 4
    return torch.from_numpy(u.reshape(shape).astype(np.float32))


def multiply_additions(net):
    total = [0]

    def count(module, _, y):
        total[0] += y[0].numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        net(torch.zeros(1, 3, 224, 224))
    for hook in hooks:
        hook.remove()
    return total[0]


def main():
    name, folder = sys.argv[1], sys.argv[2]
    make, renamed = NETWORKS[name]
    whole = make(num_classes=1000).eval()
    print(name, "parameters", sum(p.numel() for p in whole.parameters()), "multiply-additions", multiply_additions(whole))
    net = make(num_classes=CLASSES).eval()
    state = net.state_dict()
    tensors = [key for key in state if not key.endswith("num_batches_tracked")]
    for key in tensors:
        state[key].copy_(values(renamed(key), tuple(state[key].shape)))
    images = torch.from_numpy(uniform("images", IMAGES * SIDE * SIDE * 3).reshape(IMAGES, SIDE, SIDE, 3).astype(np.float32))
    x = images.permute(0, 3, 1, 2).contiguous()
    torch.onnx.export(net, x, f"{folder}/{name}.onnx", opset_version=13, input_names=["x"], output_names=["y"],
                      dynamic_axes={"x": {0: "N"}, "y": {0: "N"}}, do_constant_folding=False,
                      training=torch.onnx.TrainingMode.PRESERVE)
    torch.onnx.export(net.eval(), x, f"{folder}/{name}_folded.onnx", opset_version=13, input_names=["x"], output_names=["y"],
                      dynamic_axes={"x": {0: "N"}, "y": {0: "N"}})
    with torch.no_grad():
        logits = net.double()(x.double())
    images.numpy().tofile(f"{folder}/{name}.images.f32")
    logits.float().numpy().tofile(f"{folder}/{name}.logits.f32")
    with open(f"{folder}/{name}.names", "w") as file:
        file.writelines(f"{key} {renamed(key)}\n" for key in tensors)
    for row in logits.float().numpy():
        print("    " + ", ".join(f"{v:.9g}f" for v in row))


main()
