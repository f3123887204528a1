"""Pre-activation ResNet: normalise and activate before each convolution, and nothing after the addition.

He, Zhang, Ren & Sun, "Identity Mappings in Deep Residual Networks", arXiv:1603.05027. What a unit is
given passes its addition unchanged, so the features of a stage are one sum over its units, and a thousand
layers train. ResNet-164 and ResNet-1001 are the paper's networks for CIFAR; 18, 34 and 50 layers are
the depths of `resnet.py` in this form.

Where we differ from the authors' released code: a bottleneck that halves the map does so in its 3×3
convolution, as in `resnet.py`, not in the 1×1 before it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from cnnlab.models.registry import MODELS
from cnnlab.models.resnet import Stem, conv1x1, conv3x3

# --- The unit and its two branches ----------------------------------------------------------------


def activation(channels: int) -> nn.Sequential:
    """What stands before a convolution: batch normalisation, then ReLU."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


def basic_branch(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Two 3×3 convolutions, for an input that is activated already."""
    return nn.Sequential(
        conv3x3(in_channels, out_channels, stride),
        *activation(out_channels),
        conv3x3(out_channels, out_channels),
    )


def bottleneck_branch(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A 3×3 convolution between two 1×1, on a quarter of the channels, for an activated input."""
    inner = out_channels // 4
    return nn.Sequential(
        conv1x1(in_channels, inner),
        *activation(inner),
        conv3x3(inner, inner, stride),
        *activation(inner),
        conv1x1(inner, out_channels),
    )


Branch = Callable[[int, int, int], nn.Sequential]


class PreActUnit(nn.Module):
    """x + branch(activation(x)). (N, in_channels, H, W) → (N, out_channels, H / stride, W / stride).

    The first unit is given what the stem has activated: its shortcut and its branch share that. A unit
    that changes the shape projects its activated input by a 1×1 convolution.
    """

    def __init__(self, branch: Branch, in_channels: int, out_channels: int, stride: int, is_first: bool):
        super().__init__()
        self.activation = nn.Identity() if is_first else activation(in_channels)
        self.branch = branch(in_channels, out_channels, stride)
        keeps_shape = in_channels == out_channels and stride == 1
        self.projection = None if keeps_shape else conv1x1(in_channels, out_channels, stride)

    @property
    def residual_end(self) -> nn.Module:
        return self.branch[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.activation(x)
        shortcut = x if self.projection is None else self.projection(activated)
        return shortcut + self.branch(activated)


# --- The network ----------------------------------------------------------------------------------


def preact_resnet(
    branch: Branch,
    depths: tuple[int, ...],
    out_channels: tuple[int, ...],
    num_classes: int,
    in_channels: int,
    *,
    stem: Stem,
    width: int = 64,
) -> nn.Sequential:
    """Stem of `width` channels, a stage for each of `depths`, one last activation, pooling, linear layer.

    Each stage but the first halves the map. The "imagenet" stem divides it by 4 at once (the shapes
    below are for 224×224 images), the "small" stem keeps it.
    """
    network = nn.Sequential()
    if stem == "imagenet":
        network.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False),  # (N, 64, 112, 112)
            *activation(width),
            nn.MaxPool2d(3, stride=2, padding=1),  # (N, 64, 56, 56)
        )
    else:
        network.stem = nn.Sequential(conv3x3(in_channels, width), *activation(width))

    channels = width
    for stage, (depth, stage_channels) in enumerate(zip(depths, out_channels, strict=True)):
        units = nn.Sequential()
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            is_first = stage == 0 and index == 0
            units.append(PreActUnit(branch, channels, stage_channels, stride, is_first))
            channels = stage_channels
        network.add_module(f"stage{stage + 1}", units)

    network.activation = activation(channels)
    network.pool = nn.AdaptiveAvgPool2d(1)
    network.flatten = nn.Flatten()
    network.linear = nn.Linear(channels, num_classes)
    return network


# --- ImageNet: counts are for 1000 classes --------------------------------------------------------


@MODELS.register
def preact_resnet18(*, num_classes: int, in_channels: int, stem: Stem = "imagenet") -> nn.Module:
    """Pre-activation ResNet-18: 11,687,720 parameters."""
    return preact_resnet(basic_branch, (2, 2, 2, 2), (64, 128, 256, 512), num_classes, in_channels, stem=stem)


@MODELS.register
def preact_resnet34(*, num_classes: int, in_channels: int, stem: Stem = "imagenet") -> nn.Module:
    """Pre-activation ResNet-34: 21,795,880 parameters."""
    return preact_resnet(basic_branch, (3, 4, 6, 3), (64, 128, 256, 512), num_classes, in_channels, stem=stem)


@MODELS.register
def preact_resnet50(*, num_classes: int, in_channels: int, stem: Stem = "imagenet") -> nn.Module:
    """Pre-activation ResNet-50: 25,549,352 parameters."""
    return preact_resnet(bottleneck_branch, (3, 4, 6, 3), (256, 512, 1024, 2048), num_classes, in_channels, stem=stem)


# --- CIFAR: 9n+2 layers; counts are for ten classes of 3×32×32 images -------------------------------


@MODELS.register
def resnet164(*, num_classes: int, in_channels: int) -> nn.Module:
    """ResNet-164, n = 18: 1,703,258 parameters."""
    return preact_resnet(
        bottleneck_branch, (18, 18, 18), (64, 128, 256), num_classes, in_channels, stem="small", width=16
    )


@MODELS.register
def resnet1001(*, num_classes: int, in_channels: int) -> nn.Module:
    """ResNet-1001, n = 111: 10,327,706 parameters.

    The paper's 10.2 million are those of the convolutions and the linear layer, 10,178,490; batch
    normalisation has the others.
    """
    return preact_resnet(
        bottleneck_branch, (111, 111, 111), (64, 128, 256), num_classes, in_channels, stem="small", width=16
    )
