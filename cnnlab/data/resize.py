"""Whole sets of images to another size, once, when they are read."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 1024  # images at a time: bounds what the resize holds beside the source and the result


def resize(images: Tensor, size: int) -> Tensor:
    """uint8 (N, H, W, C) → uint8 (N, size, size, C): bilinear, antialiased. The same images if they fit."""
    if images.shape[1:3] == (size, size):
        return images
    resized = images.new_empty(len(images), size, size, images.shape[-1])
    for source, target in zip(images.split(CHUNK), resized.split(CHUNK), strict=True):
        chunk = source.permute(0, 3, 1, 2).float()
        chunk = F.interpolate(chunk, size=(size, size), mode="bilinear", antialias=True)
        target.copy_(chunk.permute(0, 2, 3, 1).round_().clamp_(0, 255))
    return resized


def crop_square(image: Tensor, size: int, shorter: int | None = None) -> Tensor:
    """uint8 (H, W, C) → uint8 (size, size, C): shorter side to `shorter` (None: `size`), then the centre."""
    scaled = scale_shorter(image, shorter or size)
    top, left = (scaled.shape[0] - size) // 2, (scaled.shape[1] - size) // 2
    return scaled[top : top + size, left : left + size]


def crop_five(image: Tensor, size: int, shorter: int | None = None) -> Tensor:
    """uint8 (H, W, C) → uint8 (5, size, size, C): as `crop_square`, and the four corners of what it cuts from."""
    scaled = scale_shorter(image, shorter or size)
    rows, columns = (slice(None, size), slice(-size, None)), (slice(None, size), slice(-size, None))
    corners = [scaled[row, column] for row in rows for column in columns]
    return torch.stack([crop_square(scaled, size, shorter), *corners])


def scale_shorter(image: Tensor, shorter: int) -> Tensor:
    """uint8 (H, W, C) with its shorter side `shorter` pixels long, its aspect kept. The same image if it fits."""
    height, width, _ = image.shape
    if min(height, width) == shorter:
        return image
    scale = shorter / min(height, width)
    shape = (max(shorter, round(height * scale)), max(shorter, round(width * scale)))
    planes = image.permute(2, 0, 1).unsqueeze(0).float()  # (1, C, H, W)
    scaled = F.interpolate(planes, shape, mode="bilinear", antialias=True)[0]
    return scaled.round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)
