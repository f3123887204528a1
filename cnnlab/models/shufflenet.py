"""ShuffleNets: convolutions that save work by reading some of the maps only, and a shuffle between them.

v1: Zhang, Zhou, Lin & Sun, "ShuffleNet: an extremely efficient convolutional neural network for mobile
devices", 2017, arXiv:1707.01083.
v2: Ma, Zhang, Zheng & Sun, "ShuffleNet V2: practical guidelines for efficient CNN architecture design",
2018, arXiv:1807.11164. It carries torchvision's parameter names: its weights fit.

Both have a stem of 24 maps and stages of 4, 8 and 4 units, the first unit of each at stride 2.
`stem="small"` keeps the size of the image: 32×32 images then come to 4×4 maps before the global pooling.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlab.models.registry import MODELS

Stem = Literal["imagenet", "small"]

STEM_CHANNELS = 24
STAGES = (4, 8, 4)  # units in each


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Deals the maps of `groups` groups out in turn: 0 1 2 3 4 5 in two groups become 0 3 1 4 2 5."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def depthwise_conv(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, groups=channels, bias=False)


def shufflenet_stem(stem: Stem, in_channels: int) -> OrderedDict[str, nn.Module]:
    """Image to 24 maps: of a quarter of its side for "imagenet", of its full side for "small"."""
    if stem == "small":
        return OrderedDict(conv1=conv_bn_relu(in_channels, STEM_CHANNELS, 3))
    return OrderedDict(
        conv1=conv_bn_relu(in_channels, STEM_CHANNELS, 3, stride=2),
        maxpool=nn.MaxPool2d(3, stride=2, padding=1),
    )


# --- Version 1 ------------------------------------------------------------------------------------

# Table 1: maps after each stage, by the number of groups of the 1×1 convolutions. More groups leave room
# for more maps: the work stays about the same.
# fmt: off
CHANNELS_V1 = {
    #   stage 2  3     4
    1: (144,   288,  576),
    2: (200,   400,  800),
    3: (240,   480,  960),
    4: (272,   544, 1088),
    8: (384,   768, 1536),
}
# fmt: on


class ShuffleUnit(nn.Module):
    """Figure 2b and 2c: a bottleneck of a quarter of the maps, whose 1×1 convolutions are in groups.

    At stride 1 the input is added; at stride 2 it is pooled and stacked in front, and the bottleneck makes
    only the maps that are still missing.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int, first_groups: int):
        super().__init__()
        self.groups = groups
        self.stride = stride
        hidden = out_channels // 4
        made = out_channels if stride == 1 else out_channels - in_channels
        self.reduce = nn.Sequential(
            nn.Conv2d(in_channels, hidden, kernel_size=1, groups=first_groups, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
        )
        self.spatial = nn.Sequential(depthwise_conv(hidden, stride), nn.BatchNorm2d(hidden))
        self.expand = nn.Sequential(
            nn.Conv2d(hidden, made, kernel_size=1, groups=groups, bias=False), nn.BatchNorm2d(made)
        )

    @property
    def residual_end(self) -> nn.Module | None:
        return self.expand[-1] if self.stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        new = self.expand(self.spatial(shuffle_channels(self.reduce(x), self.groups)))
        if self.stride == 1:
            return F.relu(x + new)
        pooled = F.avg_pool2d(x, kernel_size=3, stride=2, padding=1)
        return F.relu(torch.cat([pooled, new], dim=1))


@MODELS.register
def shufflenet_v1(
    *, num_classes: int, in_channels: int, groups: Literal[1, 2, 3, 4, 8] = 3, stem: Stem = "imagenet"
) -> nn.Module:
    """ShuffleNet 1×: 137 million multiply-adds for three `groups`, and about as many for any other number.

    The first of all 1×1 convolutions has no groups, since it reads 24 maps only.
    """
    layers = shufflenet_stem(stem, in_channels)
    channels = STEM_CHANNELS
    for stage, (num_units, out_channels) in enumerate(zip(STAGES, CHANNELS_V1[groups], strict=True), start=2):
        first_groups = 1 if stage == 2 else groups
        units = [ShuffleUnit(channels, out_channels, 2, groups, first_groups)]
        units += [ShuffleUnit(out_channels, out_channels, 1, groups, groups) for _ in range(num_units - 1)]
        layers[f"stage{stage}"] = nn.Sequential(*units)
        channels = out_channels
    return nn.Sequential(
        OrderedDict(
            **layers,
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(channels, num_classes),
        )
    )


# --- Version 2 ------------------------------------------------------------------------------------

# Table 5: maps after each stage, and after the last 1×1 convolution.
# fmt: off
CHANNELS_V2 = {
    #      stage 2  3    4  conv5
    "x0_5": ( 48,  96, 192, 1024),
    "x1_0": (116, 232, 464, 1024),
    "x1_5": (176, 352, 704, 1024),
    "x2_0": (244, 488, 976, 2048),
}
# fmt: on


class SplitUnit(nn.Module):
    """Figure 3c and 3d: half of the maps pass as they are, the other half are convolved, and both are mixed.

    At stride 2 each half is computed from the whole input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        half = out_channels // 2
        self.stride = stride
        self.branch1 = nn.Sequential()
        if stride == 2:
            self.branch1 = nn.Sequential(
                depthwise_conv(in_channels, stride),
                nn.BatchNorm2d(in_channels),
                *conv_bn_relu(in_channels, half, 1),
            )
        self.branch2 = nn.Sequential(
            *conv_bn_relu(in_channels if stride == 2 else half, half, 1),
            depthwise_conv(half, stride),
            nn.BatchNorm2d(half),
            *conv_bn_relu(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        first, second = (x, x) if self.stride == 2 else x.chunk(2, dim=1)
        return shuffle_channels(torch.cat([self.branch1(first), self.branch2(second)], dim=1), groups=2)


def shufflenet_v2(size: str, num_classes: int, in_channels: int, stem: Stem) -> nn.Module:
    *stages, last = CHANNELS_V2[size]
    layers = shufflenet_stem(stem, in_channels)
    channels = STEM_CHANNELS
    for stage, (num_units, out_channels) in enumerate(zip(STAGES, stages, strict=True), start=2):
        units = [SplitUnit(channels, out_channels, stride=2)]
        units += [SplitUnit(out_channels, out_channels, stride=1) for _ in range(num_units - 1)]
        layers[f"stage{stage}"] = nn.Sequential(*units)
        channels = out_channels
    return nn.Sequential(
        OrderedDict(
            **layers,
            conv5=conv_bn_relu(channels, last, 1),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(last, num_classes),
        )
    )


@MODELS.register
def shufflenet_v2_x0_5(*, num_classes: int, in_channels: int, stem: Stem = "imagenet") -> nn.Module:
    """1.4 million parameters and 41 million multiply-adds in the paper."""
    return shufflenet_v2("x0_5", num_classes, in_channels, stem)


@MODELS.register
def shufflenet_v2_x1_0(*, num_classes: int, in_channels: int, stem: Stem = "imagenet") -> nn.Module:
    """2.3 million parameters and 146 million multiply-adds in the paper."""
    return shufflenet_v2("x1_0", num_classes, in_channels, stem)


@MODELS.register
def shufflenet_v2_x1_5(*, num_classes: int, in_channels: int, stem: Stem = "imagenet") -> nn.Module:
    """3.5 million parameters and 299 million multiply-adds in the paper."""
    return shufflenet_v2("x1_5", num_classes, in_channels, stem)


@MODELS.register
def shufflenet_v2_x2_0(*, num_classes: int, in_channels: int, stem: Stem = "imagenet") -> nn.Module:
    """7.4 million parameters and 591 million multiply-adds in the paper."""
    return shufflenet_v2("x2_0", num_classes, in_channels, stem)
