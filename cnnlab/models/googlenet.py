"""Inception: branches with kernels of different sizes read the same maps; their outputs are stacked.

`googlenet` is the network of Szegedy et al., "Going deeper with convolutions", 2014, arXiv:1409.4842,
in the form for which torchvision publishes weights: they fit, as the parameters have the same names.
Where this form differs from the paper:

- batch normalisation follows every convolution, which then needs no bias; it replaces the local
  response normalisation;
- the paper's 5×5 convolutions are 3×3: a slip in the code that the weights were trained with, and kept
  because they have that shape (pytorch/vision, issue 906);
- the last max pooling is 2×2 instead of 3×3;
- the two auxiliary classifiers, which serve training only, are left out.

`inception_net` is a small network for 28×28 digits, as courses build it to introduce the block.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from cnnlab.models.registry import MODELS
from cnnlab.models.shapes import flat_features
from cnnlab.signature import BelowOne

Stem = Literal["imagenet", "small"]


class Branches(nn.ModuleDict):
    """Every branch reads the same maps; what they return, of equal height and width, is stacked."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.values()], dim=1)


# --- GoogLeNet ------------------------------------------------------------------------------------


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels, eps=1e-3), relu=nn.ReLU(inplace=True)))


def inception(
    in_channels: int,
    conv1: int,
    reduce3: int,
    conv3: int,
    reduce5: int,
    conv5: int,
    pool: int,
) -> Branches:
    """Figure 2b, by a row of Table 1: `conv1 + conv3 + conv5 + pool` maps come out.

    `reduce3` and `reduce5` are the maps that a 1×1 convolution leaves for the larger kernel after it.
    """
    return Branches(
        {
            "branch1": conv_bn_relu(in_channels, conv1, 1),
            "branch2": nn.Sequential(conv_bn_relu(in_channels, reduce3, 1), conv_bn_relu(reduce3, conv3, 3)),
            "branch3": nn.Sequential(conv_bn_relu(in_channels, reduce5, 1), conv_bn_relu(reduce5, conv5, 3)),
            "branch4": nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_bn_relu(in_channels, pool, 1)),
        }
    )


def halve(kernel_size: int) -> nn.MaxPool2d:
    return nn.MaxPool2d(kernel_size, stride=2, ceil_mode=True)


def googlenet_stem(stem: Stem, in_channels: int) -> OrderedDict[str, nn.Module]:
    """Image to 192 maps: of an eighth of its side for "imagenet", of its full side for "small"."""
    if stem == "small":
        return OrderedDict(conv1=conv_bn_relu(in_channels, 192, 3))
    return OrderedDict(
        conv1=conv_bn_relu(in_channels, 64, 7, stride=2),  # (N, 64, 112, 112)
        maxpool1=halve(3),  # (N, 64, 56, 56)
        conv2=conv_bn_relu(64, 64, 1),
        conv3=conv_bn_relu(64, 192, 3),  # (N, 192, 56, 56)
        maxpool2=halve(3),  # (N, 192, 28, 28)
    )


@MODELS.register
def googlenet(*, num_classes: int, in_channels: int, stem: Stem = "imagenet", dropout: BelowOne = 0.4) -> nn.Module:
    """GoogLeNet of 22 layers, without auxiliary classifiers: 6,624,904 parameters for 1000 classes.

    Shapes below are for 224×224 images and the ImageNet stem. `stem="small"` is for images of about 32×32,
    which it brings to 8×8 maps before the global pooling. `dropout` is the paper's 40 %.

    torchvision's published weights fit; they expect images normalised to mean 0.5, deviation 0.5.
    """
    # fmt: off
    return nn.Sequential(OrderedDict(
        **googlenet_stem(stem, in_channels),                         # (N,  192, 28, 28)
        #                     in   1×1  red3 3×3  red5 5×5  pool
        inception3a=inception(192,  64,  96, 128,  16,  32,  32),    # (N,  256, 28, 28)
        inception3b=inception(256, 128, 128, 192,  32,  96,  64),    # (N,  480, 28, 28)
        maxpool3=halve(3),                                           # (N,  480, 14, 14)
        inception4a=inception(480, 192,  96, 208,  16,  48,  64),    # (N,  512, 14, 14)
        inception4b=inception(512, 160, 112, 224,  24,  64,  64),    # (N,  512, 14, 14)
        inception4c=inception(512, 128, 128, 256,  24,  64,  64),    # (N,  512, 14, 14)
        inception4d=inception(512, 112, 144, 288,  32,  64,  64),    # (N,  528, 14, 14)
        inception4e=inception(528, 256, 160, 320,  32, 128, 128),    # (N,  832, 14, 14)
        maxpool4=halve(2),                                           # (N,  832,  7,  7)
        inception5a=inception(832, 256, 160, 320,  32, 128, 128),    # (N,  832,  7,  7)
        inception5b=inception(832, 384, 192, 384,  48, 128, 128),    # (N, 1024,  7,  7)
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),                                        # (N, 1024)
        dropout=nn.Dropout(dropout),
        fc=nn.Linear(1024, num_classes),
    ))
    # fmt: on


# --- The small network ----------------------------------------------------------------------------


def inception_a(in_channels: int) -> Branches:
    """Any number of maps → 88 = 16 + 24 + 24 + 24 maps of the same size.

    There is no activation inside: what a branch computes is linear.
    """
    return Branches(
        {
            "conv1": nn.Conv2d(in_channels, 16, kernel_size=1),
            "conv5": nn.Sequential(
                nn.Conv2d(in_channels, 16, kernel_size=1),
                nn.Conv2d(16, 24, kernel_size=5, padding=2),
            ),
            "conv3": nn.Sequential(
                nn.Conv2d(in_channels, 16, kernel_size=1),
                nn.Conv2d(16, 24, kernel_size=3, padding=1),
                nn.Conv2d(24, 24, kernel_size=3, padding=1),
            ),
            "pool": nn.Sequential(
                nn.AvgPool2d(3, stride=1, padding=1),
                nn.Conv2d(in_channels, 24, kernel_size=1),
            ),
        }
    )


@MODELS.register
def inception_net(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Twice a convolution and a block, then a linear layer of 1408 = 88·4·4 inputs for 28×28 images."""
    features = nn.Sequential(
        nn.Conv2d(in_channels, 10, kernel_size=5),  # (N, 10, 24, 24)
        nn.MaxPool2d(2),  # (N, 10, 12, 12)
        nn.ReLU(),
        inception_a(10),  # (N, 88, 12, 12)
        nn.Conv2d(88, 20, kernel_size=5),  # (N, 20, 8, 8)
        nn.MaxPool2d(2),  # (N, 20, 4, 4)
        nn.ReLU(),
        inception_a(20),  # (N, 88, 4, 4)
        nn.Flatten(),  # (N, 1408)
    )
    return nn.Sequential(*features, nn.Linear(flat_features(features, in_channels, image_size), num_classes))
