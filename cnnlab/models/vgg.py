"""VGG: nothing but 3×3 convolutions, in five stages that each end by halving the maps.

Simonyan & Zisserman, "Very deep convolutional networks for large-scale image recognition", 2014,
arXiv:1409.1556. The `_bn` networks, with batch normalisation after every convolution, are younger than
the paper. All carry torchvision's parameter names: its weights fit.

The paper first trained its deeper networks from the weights of a shallower one. From scratch take a `_bn`
network, or set `model.init` to an initialisation made for ReLUs: under torch's own, signals shrink at
every layer.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import nn

from cnnlab.models.registry import MODELS

Classifier = Literal["imagenet", "small"]

WIDTHS = (64, 128, 256, 512, 512)  # maps in each stage

# Convolutions in each stage, from Table 1. With the three linear layers they add up to the name.
VGG11 = (1, 1, 2, 2, 2)  # configuration A
VGG13 = (2, 2, 2, 2, 2)  # B
VGG16 = (2, 2, 3, 3, 3)  # D
VGG19 = (2, 2, 4, 4, 4)  # E


def vgg(
    depths: tuple[int, ...], classifier: Classifier, num_classes: int, in_channels: int, *, batch_norm: bool
) -> nn.Module:
    """The network with `depths` convolutions in its stages.

    `classifier="imagenet"` is the paper's, with two hidden layers of 4096: 512·7·7·4096 = 102,760,448 weights
    lead to the first of them. Adaptive pooling makes the 7×7 maps from any image size. "small", for images
    of about 32×32, averages each map and has one linear layer.
    """
    layers: list[nn.Module] = []
    channels = in_channels
    for width, depth in zip(WIDTHS, depths, strict=True):
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, width, kernel_size=3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU(inplace=True))
            channels = width
        layers.append(nn.MaxPool2d(2))
    if classifier == "small":
        head = nn.Sequential(nn.Linear(channels, num_classes))
    else:
        head = nn.Sequential(
            nn.Linear(channels * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, num_classes),
        )
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*layers),
            avgpool=nn.AdaptiveAvgPool2d(1 if classifier == "small" else 7),
            flatten=nn.Flatten(),
            classifier=head,
        )
    )


# --- Variants: numbers of parameters for 1000 classes, from Table 2 ---------------------------------


@MODELS.register
def vgg11(*, num_classes: int, in_channels: int, classifier: Classifier = "imagenet") -> nn.Module:
    """Configuration A: 133 million parameters."""
    return vgg(VGG11, classifier, num_classes, in_channels, batch_norm=False)


@MODELS.register
def vgg13(*, num_classes: int, in_channels: int, classifier: Classifier = "imagenet") -> nn.Module:
    """Configuration B: 133 million parameters."""
    return vgg(VGG13, classifier, num_classes, in_channels, batch_norm=False)


@MODELS.register
def vgg16(*, num_classes: int, in_channels: int, classifier: Classifier = "imagenet") -> nn.Module:
    """Configuration D: 138 million parameters."""
    return vgg(VGG16, classifier, num_classes, in_channels, batch_norm=False)


@MODELS.register
def vgg19(*, num_classes: int, in_channels: int, classifier: Classifier = "imagenet") -> nn.Module:
    """Configuration E: 144 million parameters."""
    return vgg(VGG19, classifier, num_classes, in_channels, batch_norm=False)


@MODELS.register
def vgg11_bn(*, num_classes: int, in_channels: int, classifier: Classifier = "imagenet") -> nn.Module:
    """Configuration A with batch normalisation."""
    return vgg(VGG11, classifier, num_classes, in_channels, batch_norm=True)


@MODELS.register
def vgg13_bn(*, num_classes: int, in_channels: int, classifier: Classifier = "imagenet") -> nn.Module:
    """Configuration B with batch normalisation."""
    return vgg(VGG13, classifier, num_classes, in_channels, batch_norm=True)


@MODELS.register
def vgg16_bn(*, num_classes: int, in_channels: int, classifier: Classifier = "imagenet") -> nn.Module:
    """Configuration D with batch normalisation."""
    return vgg(VGG16, classifier, num_classes, in_channels, batch_norm=True)


@MODELS.register
def vgg19_bn(*, num_classes: int, in_channels: int, classifier: Classifier = "imagenet") -> nn.Module:
    """Configuration E with batch normalisation."""
    return vgg(VGG19, classifier, num_classes, in_channels, batch_norm=True)
