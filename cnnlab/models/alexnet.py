"""AlexNet: five convolutions and three linear layers.

Krizhevsky, Sutskever & Hinton, "ImageNet classification with deep convolutional neural networks",
NeurIPS 2012, in the form of Krizhevsky, "One weird trick for parallelizing convolutional neural
networks", 2014, arXiv:1404.5997, for which torchvision publishes weights: they fit, as the parameters
have the same names. Where this form differs from the paper of 2012:

- it is one network; there, two halves on two devices exchange maps at some layers only;
- its convolutions make 64, 192, 384, 256, 256 maps; there 96, 256, 384, 384, 256. (The paper of 2014
  prints 384 for the fourth; its author's code has 256, and so have the weights: pytorch/vision,
  pull request 704);
- it has no local response normalisation;
- its dropout stands before the first two linear layers; there, after them.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from cnnlab.models.registry import MODELS
from cnnlab.signature import BelowOne


@MODELS.register
def alexnet(*, num_classes: int, in_channels: int, dropout: BelowOne = 0.5) -> nn.Module:
    """AlexNet: 61,100,840 parameters for 1000 classes, 58.6 million of them in the linear layers.

    Shapes below are for 224×224 images; others come to the same 6×6 maps by adaptive pooling.
    """
    features = nn.Sequential(
        nn.Conv2d(in_channels, 64, kernel_size=11, stride=4, padding=2),  # (N, 64, 55, 55)
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # (N, 64, 27, 27)
        nn.Conv2d(64, 192, kernel_size=5, padding=2),  # (N, 192, 27, 27)
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # (N, 192, 13, 13)
        nn.Conv2d(192, 384, kernel_size=3, padding=1),  # (N, 384, 13, 13)
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),  # (N, 256, 13, 13)
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),  # (N, 256, 6, 6)
    )
    classifier = nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(256 * 6 * 6, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, num_classes),
    )
    return nn.Sequential(
        OrderedDict(
            features=features,
            avgpool=nn.AdaptiveAvgPool2d(6),
            flatten=nn.Flatten(),
            classifier=classifier,
        )
    )
