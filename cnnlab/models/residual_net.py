"""The smallest residual network: two convolutions, a residual block after each, no normalisation.

A teaching network for 28×28 digits. The block is that of He, Zhang, Ren & Sun,
"Deep Residual Learning for Image Recognition", arXiv:1512.03385, before batch normalisation.

Course notes print it with 512 inputs of the linear layer and a padding of 2 around the 5×5
convolutions. Both cannot be true: what reaches the linear layer is 32 channels of what is left of the map:

    padding 0:  28 → 24 → 12 →  8 → 4    32·4·4 =  512
    padding 2:  28 → 28 → 14 → 14 → 7    32·7·7 = 1568

So 512 belongs to the network without padding, which is the default here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from cnnlab.models.registry import MODELS
from cnnlab.models.shapes import flat_features
from cnnlab.signature import Count, Whole


class ResidualBlock(nn.Module):
    """relu(x + conv(relu(conv(x)))) with 3×3 convolutions that keep the shape (N, channels, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    @property
    def residual_end(self) -> nn.Module:
        return self.conv2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


@MODELS.register
def residual_net(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    padding: Whole = 0,
    in_features: Count | None = None,
) -> nn.Module:
    """Two residual blocks: 41,514 parameters for ten classes of 1×28×28 images.

    `padding` is that of the two 5×5 convolutions. `in_features` sets the inputs of the linear layer,
    which otherwise has as many as arrive: with padding 2 and 512 inputs the network is built as
    printed, and stops at that layer.
    """
    features = nn.Sequential(
        nn.Conv2d(in_channels, 16, kernel_size=5, padding=padding),  # (N, 16, 24, 24)
        nn.ReLU(),
        nn.MaxPool2d(2),  # (N, 16, 12, 12)
        ResidualBlock(16),
        nn.Conv2d(16, 32, kernel_size=5, padding=padding),  # (N, 32, 8, 8)
        nn.ReLU(),
        nn.MaxPool2d(2),  # (N, 32, 4, 4)
        ResidualBlock(32),
        nn.Flatten(),  # (N, 512)
    )
    if in_features is None:
        in_features = flat_features(features, in_channels, image_size)
    return nn.Sequential(*features, nn.Linear(in_features, num_classes))
