"""Small plain networks for 28×28 digits: convolution, pooling, ReLU, and a linear end.

Each stage pools before its ReLU, also where a drawing shows them the other way round: a maximum and
a ReLU commute, so outputs and gradients are the same numbers, and the ReLU has a quarter of the work.
"""

from __future__ import annotations

from torch import nn

from cnnlab.models.registry import MODELS
from cnnlab.models.shapes import flat_features


@MODELS.register
def two_conv(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Two 5×5 convolutions and one linear layer of 320 = 20·4·4 inputs for 28×28 images."""
    features = nn.Sequential(
        nn.Conv2d(in_channels, 10, kernel_size=5),  # (N, 10, 24, 24)
        nn.MaxPool2d(2),  # (N, 10, 12, 12)
        nn.ReLU(),
        nn.Conv2d(10, 20, kernel_size=5),  # (N, 20, 8, 8)
        nn.MaxPool2d(2),  # (N, 20, 4, 4)
        nn.ReLU(),
        nn.Flatten(),  # (N, 320)
    )
    return nn.Sequential(*features, nn.Linear(flat_features(features, in_channels, image_size), num_classes))


@MODELS.register
def mnist_cnn(*, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Three convolutions, then 180 = 20·3·3 → 16 → classes with no activation between the linear layers."""
    features = nn.Sequential(
        nn.Conv2d(in_channels, 10, kernel_size=5),  # (N, 10, 24, 24)
        nn.MaxPool2d(2),  # (N, 10, 12, 12)
        nn.ReLU(),
        nn.Conv2d(10, 20, kernel_size=3, padding=1),  # (N, 20, 12, 12)
        nn.MaxPool2d(2),  # (N, 20, 6, 6)
        nn.ReLU(),
        nn.Conv2d(20, 20, kernel_size=3, padding=1),  # (N, 20, 6, 6)
        nn.MaxPool2d(2),  # (N, 20, 3, 3)
        nn.ReLU(),
        nn.Flatten(),  # (N, 180)
    )
    return nn.Sequential(
        *features,
        nn.Linear(flat_features(features, in_channels, image_size), 16),
        nn.Linear(16, num_classes),
    )
