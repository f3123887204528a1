"""Augmentations: plain functions of a batch, without Python per image.

Each is handed uint8 images (N, H, W, C) and `draw`, and returns such images. `draw(k)` gives uniform
numbers in [0, 1) of shape (N, k), a row an image, that depend only on the seed, the epoch and the
image's position in the epoch. In YAML an augmentation is a name with its arguments, in the order in
which they are applied:

    pad_crop: {padding: 4}
    flip: {}
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cnnlab.data.registry import AUGMENTS
from cnnlab.signature import Count, Fraction, Whole

Draw = Callable[[int], Tensor]


@AUGMENTS.register
def flip(images: Tensor, draw: Draw, *, p: Fraction = 0.5) -> Tensor:
    """Mirror left to right, each image with probability `p`."""
    mirrored = (draw(1) < p).view(-1, 1, 1, 1)
    # Bits are chosen by a mask, since torch.where is several times slower.
    bits, mask = images.view(torch.uint8), mirrored.to(torch.uint8) * 255
    return bits.flip(2).bitwise_xor_(bits).bitwise_and_(mask).bitwise_xor_(bits).view(images.dtype)


@AUGMENTS.register
def pad_crop(images: Tensor, draw: Draw, *, padding: Count = 4) -> Tensor:
    """Pad each side with `padding` black pixels and cut the original size out at a random place."""
    return _shift(images, draw, padding)


@AUGMENTS.register
def translate(images: Tensor, draw: Draw, *, pixels: Count = 2) -> Tensor:
    """Move by up to `pixels` along each axis; what moves in is black. The same numbers as `pad_crop`."""
    return _shift(images, draw, pixels)


@AUGMENTS.register
def cutout(images: Tensor, draw: Draw, *, size: Count = 8, fill: Whole = 0) -> Tensor:
    """Overwrite a square of `size` pixels around a random pixel with `fill`; it may reach over the edge.

    DeVries & Taylor, "Improved regularization of convolutional neural networks with cutout"
    (arXiv:1708.04552).
    """
    _, height, width, _ = images.shape
    start = _whole(draw(2), torch.tensor([height, width])) - size // 2  # (N, 2): top, left
    rows = torch.arange(height, device=images.device) - start[:, :1]  # (N, H), counted from the square's top
    columns = torch.arange(width, device=images.device) - start[:, 1:]
    inside_rows = (rows >= 0) & (rows < size)
    inside_columns = (columns >= 0) & (columns < size)
    square = inside_rows[:, :, None] & inside_columns[:, None, :]  # (N, H, W)
    return images.masked_fill(square.unsqueeze(-1), fill)


def _whole(uniform: Tensor, num_values: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) → whole numbers in 0 … num_values - 1."""
    return (uniform * num_values.to(uniform.device)).long()


def _shift(images: Tensor, draw: Draw, reach: int) -> Tensor:
    """Each image moved by -reach … reach pixels along each axis, black where nothing was."""
    num_images, height, width, channels = images.shape
    padded = images.new_zeros(num_images, height + 2 * reach, width + 2 * reach, channels)
    padded[:, reach : reach + height, reach : reach + width] = images
    start = _whole(draw(2), torch.tensor([2 * reach + 1] * 2))  # (N, 2): top, left in the padded image
    # Every window there is, as a view; one is taken for each image.
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)  # (N, 2r+1, 2r+1, C, H, W)
    each = torch.arange(num_images, device=images.device)
    return windows[each, start[:, 0], start[:, 1]].permute(0, 2, 3, 1)
