"""DenseNet: every layer of a block reads the maps of all layers before it, and adds a few of its own.

Huang, Liu, van der Maaten & Weinberger, "Densely connected convolutional networks", 2017,
arXiv:1608.06993. A network is named by its depth L (convolutions, and the linear layer) and by its
growth rate k (the maps that a layer adds). It has one of two forms:

- plain: a layer is one 3×3 convolution, a transition keeps the number of maps, the stem makes 16 maps;
- BC: a 1×1 convolution, the bottleneck, brings the maps down to 4k before each 3×3 one; a transition
  compresses to half as many maps; the stem makes 2k maps.

The ImageNet networks are BC with k = 32. They carry torchvision's parameter names: its weights fit.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from cnnlab.models.registry import MODELS
from cnnlab.signature import BelowOne

Stem = Literal["imagenet", "small"]

# --- Parts ----------------------------------------------------------------------------------------


class DenseLayer(nn.Sequential):
    """C maps → C + growth_rate maps: the input unchanged, and after it what the layer computes from it.

    Names with a 1 belong to the bottleneck; a plain layer has those with a 2 only.
    """

    def __init__(self, in_channels: int, growth_rate: int, bottleneck: bool, dropout: float):
        layers = OrderedDict[str, nn.Module]()
        channels = in_channels
        if bottleneck:
            layers["norm1"] = nn.BatchNorm2d(channels)
            layers["relu1"] = nn.ReLU(inplace=True)
            layers["conv1"] = nn.Conv2d(channels, 4 * growth_rate, kernel_size=1, bias=False)
            layers["dropout1"] = nn.Dropout(dropout)
            channels = 4 * growth_rate
        layers["norm2"] = nn.BatchNorm2d(channels)
        layers["relu2"] = nn.ReLU(inplace=True)
        layers["conv2"] = nn.Conv2d(channels, growth_rate, kernel_size=3, padding=1, bias=False)
        layers["dropout2"] = nn.Dropout(dropout)
        super().__init__(layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, super().forward(x)], dim=1)


def dense_block(num_layers: int, in_channels: int, growth_rate: int, bottleneck: bool, dropout: float) -> nn.Sequential:
    layers = OrderedDict[str, nn.Module]()
    for i in range(num_layers):
        channels = in_channels + i * growth_rate
        layers[f"denselayer{i + 1}"] = DenseLayer(channels, growth_rate, bottleneck, dropout)
    return nn.Sequential(layers)


def transition(in_channels: int, out_channels: int, dropout: float) -> nn.Sequential:
    """Between two blocks: mixes the maps and halves their sides."""
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(in_channels),
            relu=nn.ReLU(inplace=True),
            conv=nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
            dropout=nn.Dropout(dropout),
            pool=nn.AvgPool2d(2),
        )
    )


def densenet_stem(stem: Stem, in_channels: int, out_channels: int) -> OrderedDict[str, nn.Module]:
    """Image to maps: of a quarter of its side for "imagenet", of its full side for "small"."""
    if stem == "small":
        return OrderedDict(conv0=nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False))
    return OrderedDict(
        conv0=nn.Conv2d(in_channels, out_channels, kernel_size=7, stride=2, padding=3, bias=False),
        norm0=nn.BatchNorm2d(out_channels),
        relu0=nn.ReLU(inplace=True),
        pool0=nn.MaxPool2d(3, stride=2, padding=1),
    )


# --- Network --------------------------------------------------------------------------------------


def densenet(
    blocks: tuple[int, ...],
    growth_rate: int,
    stem: Stem,
    num_classes: int,
    in_channels: int,
    dropout: float,
    *,
    bc: bool,
) -> nn.Module:
    """The network whose dense blocks have `blocks` layers, in the BC form or the plain one."""
    channels = 2 * growth_rate if bc else 16
    features = densenet_stem(stem, in_channels, channels)
    for i, num_layers in enumerate(blocks, start=1):
        features[f"denseblock{i}"] = dense_block(num_layers, channels, growth_rate, bc, dropout)
        channels += num_layers * growth_rate
        if i < len(blocks):
            kept = channels // 2 if bc else channels
            features[f"transition{i}"] = transition(channels, kept, dropout)
            channels = kept
    features[f"norm{len(blocks) + 1}"] = nn.BatchNorm2d(channels)
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(features),
            relu=nn.ReLU(inplace=True),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(channels, num_classes),
        )
    )


# --- CIFAR (Table 2): three blocks, for 32×32 images at 32×32, 16×16 and 8×8 ------------------------
#
# `dropout` stands after every convolution but the first. The paper sets 0.2 where images are not
# augmented. The errors are the paper's, on augmented CIFAR-10.


@MODELS.register
def densenet40_k12(*, num_classes: int, in_channels: int, dropout: BelowOne = 0.0) -> nn.Module:
    """DenseNet, L = 40, k = 12: 1.0 million parameters, 5.24 % error."""
    return densenet((12, 12, 12), 12, "small", num_classes, in_channels, dropout, bc=False)


@MODELS.register
def densenet100_k12(*, num_classes: int, in_channels: int, dropout: BelowOne = 0.0) -> nn.Module:
    """DenseNet, L = 100, k = 12: 7.0 million parameters, 4.10 % error."""
    return densenet((32, 32, 32), 12, "small", num_classes, in_channels, dropout, bc=False)


@MODELS.register
def densenet_bc100_k12(*, num_classes: int, in_channels: int, dropout: BelowOne = 0.0) -> nn.Module:
    """DenseNet-BC, L = 100, k = 12: 0.8 million parameters, 4.51 % error."""
    return densenet((16, 16, 16), 12, "small", num_classes, in_channels, dropout, bc=True)


# --- ImageNet (Table 1): four blocks, for 224×224 images at 56×56, 28×28, 14×14 and 7×7 -------------
#
# `stem="small"` is for images of about 32×32, which come to 4×4 maps before the global pooling.


@MODELS.register
def densenet121(*, num_classes: int, in_channels: int, stem: Stem = "imagenet", dropout: BelowOne = 0.0) -> nn.Module:
    """DenseNet-121: 7,978,856 parameters for 1000 classes."""
    return densenet((6, 12, 24, 16), 32, stem, num_classes, in_channels, dropout, bc=True)


@MODELS.register
def densenet169(*, num_classes: int, in_channels: int, stem: Stem = "imagenet", dropout: BelowOne = 0.0) -> nn.Module:
    """DenseNet-169: 14,149,480 parameters for 1000 classes."""
    return densenet((6, 12, 32, 32), 32, stem, num_classes, in_channels, dropout, bc=True)
