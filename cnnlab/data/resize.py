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
    image = image.permute(2, 0, 1)
    _, height, width = image.shape
    scale = (shorter or size) / min(height, width)
    if scale != 1:
        shape = (max(size, round(height * scale)), max(size, round(width * scale)))
        resized = F.interpolate(image.unsqueeze(0).float(), shape, mode="bilinear", antialias=True)
        image = resized[0].round_().clamp_(0, 255).to(torch.uint8)
    top, left = (image.shape[1] - size) // 2, (image.shape[2] - size) // 2
    return image[:, top : top + size, left : left + size].permute(1, 2, 0)
