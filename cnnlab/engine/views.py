"""Test-time augmentation: a network's outputs for several views of each image, averaged."""

from __future__ import annotations

from collections.abc import Sequence
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


def weigh_views(views: Views) -> list[float]:
    """How much each view counts; those that are moved together as much as those that are not, as in the paper."""
    return {"none": [1.0], "flip": [1 / 2] * 2, "flip_translate": [1 / 4] * 2 + [1 / 8] * 4}[views]


def mean_of_views(of_views: Sequence[Tensor], views: Views) -> Tensor:
    """The mean over the views of what there is of each, all of one shape."""
    weights = torch.tensor(weigh_views(views), dtype=of_views[0].dtype, device=of_views[0].device)
    return torch.tensordot(weights, torch.stack(list(of_views)), 1)


def average_outputs(network: Network, images: Tensor, views: Views) -> Tensor:
    """The mean of the network's outputs over the views: (N, outputs), float32."""
    if views == "none":
        return network(images)
    return mean_of_views([network(view) for view in make_views(images, views)], views)
