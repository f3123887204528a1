"""ResNet: every block adds what it computes to what it is given.

He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", arXiv:1512.03385: the ImageNet
networks of 18 to 152 layers (table 1) and the CIFAR networks of 6n+2 layers (section 4.2). With them
ResNeXt, a ResNet whose 3×3 convolutions work in groups: Xie, Girshick, Dollár, Tu & He, "Aggregated
Residual Transformations for Deep Neural Networks", arXiv:1611.05431.

Where we differ from the papers: a bottleneck that halves the map does so in its 3×3 convolution, not
in the 1×1 before it, as torchvision does ("v1.5"). Modules carry torchvision's names, so its weights
load as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from cnnlab.models.registry import MODELS
from cnnlab.signature import BelowOne

# --- Convolutions and shortcuts -------------------------------------------------------------------


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 1×1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A 3×3 convolution without bias that divides the map's size by `stride`, rounded up."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, groups=groups, bias=False)


class ZeroPadding(nn.Module):
    """Every `stride`-th pixel, and channels of zeros: a change of shape that learns nothing.

    (N, C, H, W) → (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉). The zeros come after the channels, or half of them
    before, rounded down.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, centred: bool = False):
        super().__init__()
        self.stride = stride
        num_zeros = out_channels - in_channels
        before = num_zeros // 2 if centred else 0
        self.zeros = (before, num_zeros - before)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.zeros))


def zero_padding(in_channels: int, out_channels: int, stride: int, *, centred: bool = False) -> nn.Module:
    """The paper's shortcut A: the identity, with zeros where a block widens. No parameters."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return ZeroPadding(in_channels, out_channels, stride, centred=centred)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The paper's shortcut B: the identity, or a learned 1×1 convolution where the shape changes."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


def drop_path(residual: torch.Tensor, p: float) -> torch.Tensor:
    """Each image's residual gone with probability `p`, the others scaled so that the mean stays."""
    if p == 0:
        return residual
    kept = torch.rand(len(residual), 1, 1, 1, device=residual.device) >= p
    return residual * (kept / (1 - p))


# --- Blocks ---------------------------------------------------------------------------------------


class BasicBlock(nn.Module):
    """relu(shortcut(x) + residual(x)), the residual being two 3×3 convolutions.

    (N, in_channels, H, W) → (N, channels, H / stride, W / stride). In training, each image skips the
    residual with probability `drop_path`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        shortcut: Callable[[int, int, int], nn.Module] = projection,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.out_channels = channels
        self.drop_path = drop_path
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(in_channels, channels, stride)

    @property
    def residual_end(self) -> nn.Module:
        return self.bn2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = F.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        residual = drop_path(residual, self.drop_path if self.training else 0.0)
        return F.relu(self.downsample(x) + residual)


class Bottleneck(nn.Module):
    """relu(shortcut(x) + residual(x)), the residual being a 3×3 convolution on narrowed channels.

    (N, in_channels, H, W) → (N, 4 · channels, H / stride, W / stride), by 1×1 convolutions
    before and after it. A ResNeXt splits the 3×3 convolution into `groups`, each of `group_width`
    channels where `channels` is 64 and in proportion elsewhere. In training, each image skips the
    residual with probability `drop_path`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        groups: int = 1,
        group_width: int = 64,
        drop_path: float = 0.0,
    ):
        super().__init__()
        inner = groups * (channels * group_width // 64)
        self.out_channels = 4 * channels
        self.drop_path = drop_path
        self.conv1 = conv1x1(in_channels, inner)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, stride, groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = conv1x1(inner, self.out_channels)
        self.bn3 = nn.BatchNorm2d(self.out_channels)
        self.downsample = projection(in_channels, self.out_channels, stride)

    @property
    def residual_end(self) -> nn.Module:
        return self.bn3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = F.relu(self.bn1(self.conv1(x)))
        residual = F.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        residual = drop_path(residual, self.drop_path if self.training else 0.0)
        return F.relu(self.downsample(x) + residual)


# --- The network ----------------------------------------------------------------------------------

Stem = Literal["imagenet", "small"]


def resnet(
    make_block: Callable[..., BasicBlock | Bottleneck],
    depths: tuple[int, ...],
    num_classes: int,
    in_channels: int,
    *,
    stem: Stem,
    width: int = 64,
    drop_path: float = 0.0,
) -> nn.Sequential:
    """Stem, one stage of blocks for each of `depths`, average pooling and a linear layer.

    Each stage but the first halves the map and doubles the channels, of which the first has `width`.
    The "imagenet" stem divides the map by 4 at once (the shapes below are for 224×224 images), the
    "small" stem keeps it. `drop_path` is the last block's; a block at depth l of L has l/L of it, as in
    Huang et al., "Deep Networks with Stochastic Depth", arXiv:1603.09382. They draw once a batch and
    scale when testing; we draw once an image and scale when training.
    """
    network = nn.Sequential()
    if stem == "imagenet":
        network.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)  # (N, 64, 112, 112)
    else:
        network.conv1 = conv3x3(in_channels, width)
    network.bn1 = nn.BatchNorm2d(width)
    network.relu = nn.ReLU()
    if stem == "imagenet":
        network.maxpool = nn.MaxPool2d(3, stride=2, padding=1)  # (N, 64, 56, 56)

    channels = width
    for stage, depth in enumerate(depths):
        blocks = nn.Sequential()
        for index in range(depth):
            position = sum(depths[:stage]) + index + 1
            block = make_block(
                channels,
                width * 2**stage,
                stride=2 if stage > 0 and index == 0 else 1,
                drop_path=drop_path * position / sum(depths),
            )
            blocks.append(block)
            channels = block.out_channels
        network.add_module(f"layer{stage + 1}", blocks)

    network.avgpool = nn.AdaptiveAvgPool2d(1)
    network.flatten = nn.Flatten()
    network.fc = nn.Linear(channels, num_classes)
    return network


# --- ImageNet: table 1 of the paper; counts are for 1000 classes -----------------------------------


@MODELS.register
def resnet18(*, num_classes: int, in_channels: int, stem: Stem = "imagenet", drop_path: BelowOne = 0.0) -> nn.Module:
    """ResNet-18: 11,689,512 parameters."""
    return resnet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels, stem=stem, drop_path=drop_path)


@MODELS.register
def resnet34(*, num_classes: int, in_channels: int, stem: Stem = "imagenet", drop_path: BelowOne = 0.0) -> nn.Module:
    """ResNet-34: 21,797,672 parameters."""
    return resnet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels, stem=stem, drop_path=drop_path)


@MODELS.register
def resnet50(*, num_classes: int, in_channels: int, stem: Stem = "imagenet", drop_path: BelowOne = 0.0) -> nn.Module:
    """ResNet-50: 25,557,032 parameters."""
    return resnet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, stem=stem, drop_path=drop_path)


@MODELS.register
def resnet101(*, num_classes: int, in_channels: int, stem: Stem = "imagenet", drop_path: BelowOne = 0.0) -> nn.Module:
    """ResNet-101: 44,549,160 parameters."""
    return resnet(Bottleneck, (3, 4, 23, 3), num_classes, in_channels, stem=stem, drop_path=drop_path)


@MODELS.register
def resnet152(*, num_classes: int, in_channels: int, stem: Stem = "imagenet", drop_path: BelowOne = 0.0) -> nn.Module:
    """ResNet-152: 60,192,808 parameters."""
    return resnet(Bottleneck, (3, 8, 36, 3), num_classes, in_channels, stem=stem, drop_path=drop_path)


@MODELS.register
def resnext50_32x4d(
    *, num_classes: int, in_channels: int, stem: Stem = "imagenet", drop_path: BelowOne = 0.0
) -> nn.Module:
    """ResNeXt-50 of 32 groups of 4 channels: 25,028,904 parameters."""
    make_block = partial(Bottleneck, groups=32, group_width=4)
    return resnet(make_block, (3, 4, 6, 3), num_classes, in_channels, stem=stem, drop_path=drop_path)


@MODELS.register
def resnext101_32x8d(
    *, num_classes: int, in_channels: int, stem: Stem = "imagenet", drop_path: BelowOne = 0.0
) -> nn.Module:
    """ResNeXt-101 of 32 groups of 8 channels: 88,791,336 parameters."""
    make_block = partial(Bottleneck, groups=32, group_width=8)
    return resnet(make_block, (3, 4, 23, 3), num_classes, in_channels, stem=stem, drop_path=drop_path)


# --- CIFAR: counts are for ten classes of 3×32×32 images --------------------------------------------


@MODELS.register
def resnet18_cifar(*, num_classes: int, in_channels: int, drop_path: BelowOne = 0.0) -> nn.Module:
    """ResNet-18 as usually trained on CIFAR-10, with the small stem: 11,173,962 parameters."""
    return resnet18(num_classes=num_classes, in_channels=in_channels, stem="small", drop_path=drop_path)


@MODELS.register
def resnext29_8x64d(*, num_classes: int, in_channels: int, drop_path: BelowOne = 0.0) -> nn.Module:
    """ResNeXt-29 of 8 groups of 64 channels, three stages: 34,426,698 parameters."""
    make_block = partial(Bottleneck, groups=8, group_width=64)
    return resnet(make_block, (3, 3, 3), num_classes, in_channels, stem="small", drop_path=drop_path)


# What a shortcut does where a block widens. The paper does not say where A's zeros go: networks that others
# have trained may have them on both sides, and their weights need the same.
Shortcut = Literal["zeros", "zeros_centred", "projection"]
SHORTCUTS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "zeros": zero_padding,
    "zeros_centred": partial(zero_padding, centred=True),
    "projection": projection,
}


def cifar_resnet(n: int, num_classes: int, in_channels: int, shortcut: Shortcut, drop_path: float) -> nn.Module:
    """The 6n+2 layers of section 4.2: 2n of 16, 2n of 32 and 2n of 64 channels, and in the paper shortcuts A."""
    make_block = partial(BasicBlock, shortcut=SHORTCUTS[shortcut])
    return resnet(make_block, (n, n, n), num_classes, in_channels, stem="small", width=16, drop_path=drop_path)


@MODELS.register
def resnet20(
    *, num_classes: int, in_channels: int, shortcut: Shortcut = "zeros", drop_path: BelowOne = 0.0
) -> nn.Module:
    """ResNet-20: 269,722 parameters."""
    return cifar_resnet(3, num_classes, in_channels, shortcut, drop_path)


@MODELS.register
def resnet32(
    *, num_classes: int, in_channels: int, shortcut: Shortcut = "zeros", drop_path: BelowOne = 0.0
) -> nn.Module:
    """ResNet-32: 464,154 parameters."""
    return cifar_resnet(5, num_classes, in_channels, shortcut, drop_path)


@MODELS.register
def resnet44(
    *, num_classes: int, in_channels: int, shortcut: Shortcut = "zeros", drop_path: BelowOne = 0.0
) -> nn.Module:
    """ResNet-44: 658,586 parameters."""
    return cifar_resnet(7, num_classes, in_channels, shortcut, drop_path)


@MODELS.register
def resnet56(
    *, num_classes: int, in_channels: int, shortcut: Shortcut = "zeros", drop_path: BelowOne = 0.0
) -> nn.Module:
    """ResNet-56: 853,018 parameters."""
    return cifar_resnet(9, num_classes, in_channels, shortcut, drop_path)


@MODELS.register
def resnet110(
    *, num_classes: int, in_channels: int, shortcut: Shortcut = "zeros", drop_path: BelowOne = 0.0
) -> nn.Module:
    """ResNet-110: 1,727,962 parameters."""
    return cifar_resnet(18, num_classes, in_channels, shortcut, drop_path)
