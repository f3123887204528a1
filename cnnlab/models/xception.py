"""Xception: Inception at its limit, where every map is filtered alone and a 1×1 convolution mixes them.

Chollet, "Xception: deep learning with depthwise separable convolutions", 2017, arXiv:1610.02357,
Figure 5. Batch normalisation follows every convolution; inside a separable convolution there is neither
normalisation nor activation; no hidden linear layer stands before the classifier. The first two
convolutions have no padding, as in the author's code.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from cnnlab.models.registry import MODELS
from cnnlab.signature import BelowOne

Stem = Literal["imagenet", "small"]


def conv_bn_relu(in_channels: int, out_channels: int, stride: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=padding, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def separable_conv_bn(in_channels: int, out_channels: int) -> nn.Sequential:
    """One 3×3 kernel for each map, then a 1×1 convolution over all of them."""
    return nn.Sequential(
        OrderedDict(
            depthwise=nn.Conv2d(in_channels, in_channels, kernel_size=3, padding=1, groups=in_channels, bias=False),
            pointwise=nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
            bn=nn.BatchNorm2d(out_channels),
        )
    )


class Block(nn.Module):
    """Separable convolutions from `channels[0]` maps to `channels[-1]`, with a shortcut around them.

    A block that halves ends in max pooling, and its shortcut is a 1×1 convolution of stride 2; any other
    block returns as many maps as it was given, and its shortcut is the identity.
    """

    def __init__(self, channels: tuple[int, ...], halves: bool, first_relu: bool = True):
        super().__init__()
        layers: list[nn.Module] = []
        for given, made in pairwise(channels):
            layers += [nn.ReLU(), separable_conv_bn(given, made)]
        self.residual = nn.Sequential(*(layers if first_relu else layers[1:]))
        self.shortcut: nn.Module = nn.Identity()
        if halves:
            self.residual.append(nn.MaxPool2d(3, stride=2, padding=1))
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels[0], channels[-1], kernel_size=1, stride=2, bias=False),
                nn.BatchNorm2d(channels[-1]),
            )

    @property
    def residual_end(self) -> nn.Module:
        separable = [layer for layer in self.residual if isinstance(layer, nn.Sequential)]
        return separable[-1][-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.residual(x)


@MODELS.register
def xception(*, num_classes: int, in_channels: int, stem: Stem = "imagenet", dropout: BelowOne = 0.5) -> nn.Module:
    """Xception: 22,855,952 parameters for 1000 classes (the paper's Table 3).

    Shapes below are for 299×299 images and the ImageNet stem. `stem="small"` keeps the size of the image, for
    images of about 32×32, which come to 2×2 maps before the global pooling.
    """
    stride, padding = (2, 0) if stem == "imagenet" else (1, 1)
    # fmt: off
    return nn.Sequential(OrderedDict(
        stem=nn.Sequential(
            conv_bn_relu(in_channels, 32, stride, padding),            # (N,   32, 149, 149)
            conv_bn_relu(32, 64, 1, padding),                          # (N,   64, 147, 147)
        ),
        entry=nn.Sequential(
            Block(( 64, 128, 128), halves=True, first_relu=False),     # (N,  128,  74,  74)
            Block((128, 256, 256), halves=True),                       # (N,  256,  37,  37)
            Block((256, 728, 728), halves=True),                       # (N,  728,  19,  19)
        ),
        middle=nn.Sequential(
            *(Block((728, 728, 728, 728), halves=False) for _ in range(8)),
        ),
        exit=nn.Sequential(
            Block((728, 728, 1024), halves=True),                      # (N, 1024,  10,  10)
            separable_conv_bn(1024, 1536), nn.ReLU(),                  # (N, 1536,  10,  10)
            separable_conv_bn(1536, 2048), nn.ReLU(),                  # (N, 2048,  10,  10)
        ),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),                                          # (N, 2048)
        dropout=nn.Dropout(dropout),
        fc=nn.Linear(2048, num_classes),
    ))
    # fmt: on
