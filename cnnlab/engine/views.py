"""Test-time augmentation: a network's outputs for several views of each image, averaged."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.engine.network import Network

Views = Literal["none", "flip", "flip_translate"]


def make_views(images: Tensor, views: Views) -> list[Tensor]:
    """The images (N, C, H, W) themselves; "flip": their mirror images too; "flip_translate": both of them moved too.

    By a pixel up and left, and down and right, the mirrored edge moving in (arXiv:2404.00498, section 3.5).
    """
    if views == "none":
        return [images]
    shifted = [images]
    if views == "flip_translate":
        height, width = images.shape[2:]
        padded = F.pad(images, (1, 1, 1, 1), "reflect")
        shifted += [padded[:, :, :height, :width], padded[:, :, 2:, 2:]]
    return [view for each in shifted for view in (each, each.flip(3))]


def average_outputs(network: Network, images: Tensor, views: Views) -> Tensor:
    """The mean of the network's outputs over the views: (N, outputs), float32."""
    if views == "none":
        return network(images)
    return torch.stack([network(view) for view in make_views(images, views)]).mean(0)
