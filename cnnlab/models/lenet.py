"""LeNet-5 as courses teach it today.

LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to document recognition",
Proc. IEEE 86(11), 1998. Where we differ from the paper: average pooling without weights, every map
of the second convolution sees all six maps of the first, a plain linear output, and 28×28 images
padded by 2 in the first layer instead of 32×32 images.
"""

from __future__ import annotations

from torch import nn

from cnnlab.models.registry import MODELS
from cnnlab.models.shapes import flat_features


@MODELS.register
def lenet(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """LeNet-5 with sigmoids: 61,706 parameters for ten classes of 1×28×28 images."""
    features = nn.Sequential(
        nn.Conv2d(in_channels, 6, kernel_size=5, padding=2),  # (N, 6, 28, 28)
        nn.Sigmoid(),
        nn.AvgPool2d(2),  # (N, 6, 14, 14)
        nn.Conv2d(6, 16, kernel_size=5),  # (N, 16, 10, 10)
        nn.Sigmoid(),
        nn.AvgPool2d(2),  # (N, 16, 5, 5)
        nn.Flatten(),  # (N, 400)
    )
    classifier = nn.Sequential(
        nn.Linear(flat_features(features, in_channels, image_size), 120),
        nn.Sigmoid(),
        nn.Linear(120, 84),
        nn.Sigmoid(),
        nn.Linear(84, num_classes),
    )
    return nn.Sequential(*features, *classifier)
