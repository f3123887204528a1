"""Images to another size, as torchvision makes them: bilinear, antialiased.

Whole sets, tensors, are resized in floating point, once, when they are read. Single pictures, arrays, and the boxes of
`crops.py` go through torch's kernel for uint8, which differs by at most one level from that, at a fraction of the time.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cnnlab.errors import ConfigError, format_bytes
from cnnlab.threads import memory_of_machine

CHUNK = 1024  # images at a time: bounds what the resize holds beside the source and the result


def resize(images: Tensor, size: int) -> Tensor:
    """uint8 (N, H, W, C) → uint8 (N, size, size, C). The same images if they fit.

    Raises ConfigError where all the memory that there is could not hold them.
    """
    if images.shape[1:3] == (size, size):
        return images
    needed, memory = len(images) * size * size * images.shape[-1], memory_of_machine()
    if memory is not None and needed > memory:
        fitting = int(size * (memory / needed) ** 0.5)
        raise ConfigError(
            f"dataset.image_size: {size} was given; {len(images):,} images of that size need {format_bytes(needed)} of "
            f"memory and the machine has {format_bytes(memory)}; expected at most {fitting:,}"
        )
    resized = images.new_empty(len(images), size, size, images.shape[-1])
    for source, target in zip(images.split(CHUNK), resized.split(CHUNK), strict=True):
        chunk = source.permute(0, 3, 1, 2).float()
        chunk = F.interpolate(chunk, size=(size, size), mode="bilinear", antialias=True)
        target.copy_(chunk.permute(0, 2, 3, 1).round_().clamp_(0, 255))
    return resized


def resized_shape(height: int, width: int, shorter: int) -> tuple[int, int]:
    """Height and width when the shorter side becomes `shorter`, rounded as torchvision's Resize rounds."""
    longer = int(shorter * max(height, width) / min(height, width))
    return (shorter, longer) if height <= width else (longer, shorter)


def resize_picture(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, C) → uint8 (*shape, C). The same image if it fits."""
    if image.shape[:2] == shape:
        return image
    source = torch.from_numpy(np.require(image, requirements=["C", "W"])).unsqueeze(0)
    target = torch.empty(1, *shape, image.shape[2], dtype=torch.uint8)
    resize_into(target.permute(0, 3, 1, 2), source.permute(0, 3, 1, 2))
    return target[0].numpy()


def resize_into(target: Tensor, source: Tensor) -> None:
    """What F.interpolate does with uint8 images (1, C, H, W), in the memory of `target`, as that lies."""
    torch.ops.aten._upsample_bilinear2d_aa.out(source, target.shape[2:], False, out=target)


def scale_shorter(image: np.ndarray, shorter: int) -> np.ndarray:
    """uint8 (H, W, C) with its shorter side `shorter` pixels long, its aspect kept. The same image if it fits."""
    height, width, _ = image.shape
    if min(height, width) == shorter:
        return image
    return resize_picture(image, resized_shape(height, width, shorter))


def crop_square(image: np.ndarray, size: int, shorter: int | None = None) -> np.ndarray:
    """uint8 (H, W, C) → uint8 (size, size, C): shorter side to `shorter` (None: `size`), then the centre."""
    image = scale_shorter(image, shorter or size)
    height, width, _ = image.shape
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[top : top + size, left : left + size]


def crop_five(image: np.ndarray, size: int, shorter: int | None = None) -> np.ndarray:
    """uint8 (H, W, C) → uint8 (5, size, size, C): as `crop_square`, and the four corners of what it cuts from."""
    image = scale_shorter(image, shorter or size)
    rows, columns = (slice(None, size), slice(-size, None)), (slice(None, size), slice(-size, None))
    corners = [image[row, column] for row in rows for column in columns]
    return np.stack([crop_square(image, size, shorter), *corners])
