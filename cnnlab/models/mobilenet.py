"""MobileNets: separable convolutions, for machines with little memory and time.

v1: Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision applications",
2017, arXiv:1704.04861.
v2: Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018, arXiv:1801.04381.
It carries torchvision's parameter names: its weights fit.

`width` is the papers' width multiplier, which scales the number of maps of every layer. Their second
knob, the resolution multiplier, is the image size of the dataset. `stem="small"` lets the first
convolution keep the size of the image: 32×32 images then come to 2×2 maps before the global pooling.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from cnnlab.models.registry import MODELS
from cnnlab.signature import BelowOne, Positive

Stem = Literal["imagenet", "small"]


def scale(channels: int, width: float) -> int:
    """The multiple of 8 nearest to `channels * width`, at least 8, and never more than a tenth below it.

    For the widths of v1's Table 6 (1, 0.75, 0.5, 0.25) that is the product itself.
    """
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    activation: type[nn.Module],
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    padding = kernel_size // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        activation(inplace=True),
    )


# --- Version 1 ------------------------------------------------------------------------------------

# Table 1: maps made by each separable convolution, and its stride. For the last one the paper prints
# stride 2, but also 7×7 maps before and after it, which takes stride 1.
# fmt: off
TABLE_1 = (
    (  64, 1),
    ( 128, 2), ( 128, 1),
    ( 256, 2), ( 256, 1),
    ( 512, 2), ( 512, 1), ( 512, 1), ( 512, 1), ( 512, 1), ( 512, 1),
    (1024, 2), (1024, 1),
)
# fmt: on


def separable_conv(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """One 3×3 kernel for each map, then a 1×1 convolution over all of them."""
    return nn.Sequential(
        OrderedDict(
            depthwise=conv_bn(in_channels, in_channels, 3, nn.ReLU, stride, groups=in_channels),
            pointwise=conv_bn(in_channels, out_channels, 1, nn.ReLU),
        )
    )


@MODELS.register
def mobilenet_v1(*, num_classes: int, in_channels: int, width: Positive = 1.0, stem: Stem = "imagenet") -> nn.Module:
    """MobileNet: 4,231,976 parameters for 1000 classes, 569 million multiply-adds (Table 4: 4.2, 569)."""
    channels = scale(32, width)
    features = [conv_bn(in_channels, channels, 3, nn.ReLU, stride=2 if stem == "imagenet" else 1)]
    for maps, stride in TABLE_1:
        features.append(separable_conv(channels, scale(maps, width), stride))
        channels = scale(maps, width)
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*features),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(channels, num_classes),
        )
    )


# --- Version 2 ------------------------------------------------------------------------------------

# Table 2: expansion t, maps c, blocks n, stride s of the first of them.
# fmt: off
TABLE_2 = (
    #t    c  n  s
    (1,  16, 1, 1),
    (6,  24, 2, 2),
    (6,  32, 3, 2),
    (6,  64, 4, 2),
    (6,  96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# fmt: on


class InvertedResidual(nn.Module):
    """1×1 to `expansion` times as many maps, 3×3 on each of them alone, 1×1 back to few.

    The shortcut joins the narrow ends (where they have the same shape), while a residual bottleneck's
    joins the wide ones: hence the name. No activation follows the narrow end: it would lose too much.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int):
        super().__init__()
        self.has_shortcut = stride == 1 and in_channels == out_channels
        hidden = in_channels * expansion
        expand = [conv_bn(in_channels, hidden, 1, nn.ReLU6)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *expand,
            conv_bn(hidden, hidden, 3, nn.ReLU6, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    @property
    def residual_end(self) -> nn.Module | None:
        return self.conv[-1] if self.has_shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


@MODELS.register
def mobilenet_v2(
    *,
    num_classes: int,
    in_channels: int,
    width: Positive = 1.0,
    stem: Stem = "imagenet",
    dropout: BelowOne = 0.2,
) -> nn.Module:
    """MobileNetV2: 3,504,872 parameters for 1000 classes, 301 million multiply-adds (Table 4: 3.4, 300).

    The last convolution keeps its 1280 maps where `width` is below 1.
    """
    channels, last = scale(32, width), scale(1280, max(1.0, width))
    features: list[nn.Module] = [conv_bn(in_channels, channels, 3, nn.ReLU6, stride=2 if stem == "imagenet" else 1)]
    for expansion, maps, num_blocks, stride in TABLE_2:
        for i in range(num_blocks):
            block_stride = stride if i == 0 else 1
            features.append(InvertedResidual(channels, scale(maps, width), expansion, block_stride))
            channels = scale(maps, width)
    features.append(conv_bn(channels, last, 1, nn.ReLU6))
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*features),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes)),
        )
    )
